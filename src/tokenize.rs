//! Token counts and upper bounds.
