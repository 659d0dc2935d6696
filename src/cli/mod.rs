//! The command line: arguments in, an exit code out. One file for each command, under `commands`.
//!
//! Invariants: data goes to standard output and talk to standard error; nothing is loaded, opened or started before a
//! command needs it.
//! Deliberately absent: decisions. The runtime and the store take them.

mod act;
mod aged;
pub mod arguments;
mod ask;
pub mod books;
mod commands;
pub mod errors;
pub mod exit;
pub mod input;
pub mod logging;
pub mod output;
pub mod progress;
pub mod project;
pub mod remote;
pub mod render;
pub mod session;
pub mod tally;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;

use arguments::Arguments;
use errors::CliError;
use exit::Exit;
use output::Output;

/// Does what the arguments ask, the program's name being the first; answers with one of [`exit`]'s codes.
#[must_use]
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(told) => return explain(&told),
    };
    let output = Output::of_process();
    obey(&arguments, &output)
        .unwrap_or_else(|error| {
            output.report(&error);
            error.exit()
        })
        .into()
}

fn obey(arguments: &Arguments, output: &Output) -> Result<Exit, CliError> {
    logging::start(arguments.log_format)?;
    commands::dispatch(arguments, output)
}

/// Help and version are data; what can't be understood is talk, and bad usage.
fn explain(told: &clap::Error) -> ExitCode {
    // A reader that hung up is not a failure.
    told.print().unwrap_or_default();
    if told.use_stderr() { Exit::Usage } else { Exit::Finished }.into()
}
