//! `completions SHELL`.

use clap::CommandFactory;

use super::Context;
use crate::cli::arguments::Arguments;
use crate::cli::errors::CliError;
use crate::cli::exit::Exit;

pub(super) fn completions(context: &Context<'_>, shell: clap_complete::Shell) -> Result<Exit, CliError> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "plimsoll", &mut script);
    context.output.data(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Finished)
}
