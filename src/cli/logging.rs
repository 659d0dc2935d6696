//! The log of what happens inside: off, unless `PLIMSOLL_LOG` says which parts to hear.

use tracing_subscriber::EnvFilter;

use crate::cli::errors::{CliError, Problem, code};

/// The variable that names the parts, such as `debug` or `plimsoll::store=trace`.
pub const VARIABLE: &str = "PLIMSOLL_LOG";

/// How the log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// For people.
    Text,
    /// JSON lines.
    Json,
}

/// Starts the log on standard error, where it is asked for.
///
/// # Errors
/// The variable can't be understood.
pub fn start(form: Form) -> Result<(), CliError> {
    let Some(directives) = std::env::var(VARIABLE).ok().filter(|value| !value.is_empty()) else { return Ok(()) };
    let filter = EnvFilter::try_new(&directives).map_err(|error| {
        let message = format!("`{VARIABLE}={directives}` can't be understood: {error}");
        Problem::usage(code::USAGE, message).help("write a level, such as `debug`, or `plimsoll::store=trace,warn`")
    })?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false);
    // A second start in one process finds the first one's log, which is as good.
    match form {
        Form::Text => lines.try_init().unwrap_or_default(),
        Form::Json => lines.json().try_init().unwrap_or_default(),
    }
    Ok(())
}
