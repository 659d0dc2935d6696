//! Words for people, the same on every face: pieces of text that are safe to show, and what a run did, entry by entry.
//!
//! Deliberately absent: layout. Tables, trees and pages are the faces'.

pub mod entry;
pub mod file;
pub mod outcome;
pub mod text;
