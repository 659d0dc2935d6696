//! The one test binary: links stay cheap.

mod context;
mod pricing;
mod tokenize;
