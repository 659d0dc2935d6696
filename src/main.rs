//! Arguments to runtime to exit code.
fn main() {}
