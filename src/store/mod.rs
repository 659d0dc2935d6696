//! The store: the log and the accounts, in one atomic durable append.
