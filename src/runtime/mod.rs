//! The runtime: decide, append, perform, feed back.
