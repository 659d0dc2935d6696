//! The ledger against a small model that judges: LEDGER.md's rules, and bugs planted to see that the judge sees.

mod admission;
mod alerts;
mod banker;
mod desk;
mod judge;
mod mutants;
mod orders;
mod properties;
mod subject;
mod table;
mod vocabulary;
mod world;
