//! The log of what happens inside. As text it is off, unless `PLIMSOLL_LOG` says which parts to hear; as JSON it is what
//! machines read, so that all that is said to people is in it too.

use std::sync::atomic::{AtomicBool, Ordering};

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;

use crate::cli::errors::{CliError, Problem, code};

/// The variable that names the parts, such as `debug` or `plimsoll::store=trace`.
pub const VARIABLE: &str = "PLIMSOLL_LOG";
/// The variable of the form, where `--log-format` is left out.
pub const FORMAT_VARIABLE: &str = "PLIMSOLL_LOG_FORMAT";
/// What is heard as JSON where nobody says what.
const PARTS_DEFAULT: &str = "info";

/// The part that holds what is said to people.
pub(crate) const TALK: &str = "plimsoll::cli";

/// True where standard error is read by machines.
static IS_JSON: AtomicBool = AtomicBool::new(false);

/// How the log is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// For people.
    #[default]
    Text,
    /// JSON lines.
    Json,
}

/// Starts the log on standard error, where it is asked for.
///
/// # Errors
/// The variable can't be understood.
pub fn start(form: Form) -> Result<(), CliError> {
    let asked = std::env::var(VARIABLE).ok().filter(|value| !value.is_empty());
    let default = (form == Form::Json).then(|| PARTS_DEFAULT.to_owned());
    let Some(directives) = asked.or(default) else { return Ok(()) };
    let filter = EnvFilter::try_new(&directives).map_err(|error| {
        let message = format!("`{VARIABLE}={directives}` can't be understood: {error}");
        Problem::usage(code::USAGE, message).help("write a level, such as `debug`, or `plimsoll::store=trace,warn`")
    })?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false);
    // A second start in one process finds the first one's log, which is as good.
    match form {
        Form::Text => lines.try_init().unwrap_or_default(),
        Form::Json => {
            lines.json().flatten_event(true).try_init().unwrap_or_default();
            IS_JSON.store(true, Ordering::Relaxed);
        }
    }
    Ok(())
}

/// True where all that is said goes into the log, as JSON.
pub(crate) fn is_json() -> bool {
    IS_JSON.load(Ordering::Relaxed)
}
