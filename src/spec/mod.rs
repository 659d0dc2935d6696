//! TOML to [`crate::domain::plan::Plan`]: what the author wrote, with spans, and what runs, with nothing left to doubt.

pub mod project;
