//! The one test binary: links stay cheap.

mod ledger;
