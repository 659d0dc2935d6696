//! TOML to [`crate::domain::plan::Plan`]: what the author wrote, with spans, and what runs, with nothing left to doubt.
//!
//! One description of the keys (`keys.rs`) drives both the reader and the JSON Schemas, so that they can't drift apart.
//! Every fault of every file is found in one pass and reported with its place ([`fault`]).
//!
//! Deliberately absent: whether a model has a price (the price book checks it), keys of providers, the network, and any clock.

mod accounts;
mod agent;
pub mod alerts;
mod azure;
pub mod change;
pub(crate) mod configuration;
pub mod documents;
pub mod fault;
mod files;
pub mod flavour;
pub(crate) mod google;
mod json_schema;
mod keys;
pub mod limits;
pub mod litellm;
pub mod load;
pub mod load_line;
mod model;
pub(crate) mod names;
mod outcome;
mod policy;
mod price_file;
pub mod prices;
pub mod project;
mod prompt;
mod rates;
mod reader;
pub mod readers;
pub mod schema;
mod secrets;
mod shape;
mod stage;
mod template;
mod tool;
mod workflow;
