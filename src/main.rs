//! Arguments to the command line to an exit code; nothing else.

use std::process::ExitCode;

/// A step's events are made by one thread and let go of by another, which this allocator is better at than glibc's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    plimsoll::cli::main(std::env::args_os())
}
