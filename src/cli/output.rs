//! The two streams: data goes to standard output, talk to standard error. A reader that hung up is not a failure.

use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use comfy_table::Table;
use miette::{Diagnostic, GraphicalReportHandler, GraphicalTheme};
use serde::Serialize;

use crate::cli::errors::{CliError, Problem, ShownFault, code};
use crate::cli::logging;

/// Columns where nobody says how many there are.
const WIDTH_DEFAULT: u16 = 100;
/// The fewest columns that tables are fitted into.
const WIDTH_MIN: u16 = 40;

/// Where a command writes.
#[derive(Debug)]
pub struct Output {
    /// True where a person reads the data.
    pub data_terminal: bool,
    /// True where a person reads the talk.
    pub talk_terminal: bool,
    colour: bool,
    hung_up: AtomicBool,
}

impl Output {
    /// The process's own streams. `NO_COLOR` is honoured, and so is a terminal that calls itself dumb.
    #[must_use]
    pub fn of_process() -> Self {
        let talk_terminal = io::stderr().is_terminal();
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self {
            data_terminal: io::stdout().is_terminal(),
            talk_terminal: talk_terminal && !dumb,
            colour: talk_terminal && !plain && !dumb,
            hung_up: AtomicBool::new(false),
        }
    }

    /// Writes a line, or several, of data.
    ///
    /// # Errors
    /// Standard output can't be written, for another reason than that its reader hung up.
    pub fn data(&self, text: &str) -> Result<(), CliError> {
        if self.hung_up() {
            return Ok(());
        }
        let mut stdout = io::stdout().lock();
        let written = writeln!(stdout, "{}", text.trim_end_matches('\n')).and_then(|()| stdout.flush());
        match written {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.hung_up.store(true, Ordering::Relaxed);
                Ok(())
            }
            Err(error) => Err(Problem::new(code::OUTPUT, format!("can't write the result: {error}")).into()),
            Ok(()) => Ok(()),
        }
    }

    /// Writes one JSON document, indented for people.
    ///
    /// # Errors
    /// As [`Output::data`].
    pub fn json<T: Serialize>(&self, document: &T) -> Result<(), CliError> {
        let text =
            if self.data_terminal { serde_json::to_string_pretty(document) } else { serde_json::to_string(document) };
        self.data(&text.map_err(|error| Problem::new(code::OUTPUT, format!("can't write the result: {error}")))?)
    }

    /// Writes one JSON document in one line.
    ///
    /// # Errors
    /// As [`Output::data`].
    pub fn json_line<T: Serialize>(&self, document: &T) -> Result<(), CliError> {
        let text = serde_json::to_string(document);
        self.data(&text.map_err(|error| Problem::new(code::OUTPUT, format!("can't write the result: {error}")))?)
    }

    /// Says something. Nothing can be done where nobody can hear it.
    pub fn talk(&self, text: &str) {
        talk(text);
    }

    /// Says what went wrong, with its code, its place and how to mend it.
    pub fn report(&self, error: &CliError) {
        match error {
            CliError::Faults(faults) => {
                faults.all().iter().for_each(|fault| self.diagnostic(&ShownFault(fault)));
                self.talk(&error.to_string());
            }
            CliError::Problem(problem) => self.diagnostic(&**problem),
        }
    }

    fn diagnostic(&self, diagnostic: &dyn Diagnostic) {
        if logging::is_json() {
            let text = |told: Option<Box<dyn std::fmt::Display + '_>>| told.map(|told| told.to_string());
            let (code, help) = (text(diagnostic.code()), text(diagnostic.help()));
            tracing::error!(target: logging::TALK, code, help, "{diagnostic}");
            return;
        }
        let theme = if self.colour { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
        let width = usize::from(self.talk_width().unwrap_or(WIDTH_DEFAULT));
        let handler = GraphicalReportHandler::new_themed(theme).with_width(width).with_links(false);
        let mut text = String::new();
        let rendered = handler.render_report(&mut text, diagnostic);
        self.talk(if rendered.is_ok() { text.trim_start_matches('\n') } else { "an error that can't be shown" });
    }

    /// True once the reader of the data hung up: nothing more needs to be made for it.
    #[must_use]
    pub fn hung_up(&self) -> bool {
        self.hung_up.load(Ordering::Relaxed)
    }

    /// Columns for tables of data: those of the terminal; without one, as many as the table needs.
    #[must_use]
    pub fn data_width(&self) -> Option<u16> {
        self.data_terminal.then(|| columns(&Table::new()).unwrap_or(WIDTH_DEFAULT).max(WIDTH_MIN))
    }

    /// Columns for tables in the talk, likewise.
    #[must_use]
    pub fn talk_width(&self) -> Option<u16> {
        self.talk_terminal.then(|| talk_columns().max(WIDTH_MIN))
    }
}

/// Says something on standard error.
pub(crate) fn talk(text: &str) {
    if logging::is_json() {
        tracing::info!(target: logging::TALK, "{}", text.trim_end_matches('\n'));
        return;
    }
    let mut stderr = io::stderr().lock();
    writeln!(stderr, "{}", text.trim_end_matches('\n')).unwrap_or_default();
}

/// The columns of the terminal that shows the talk, as it is now, also where the data goes into a file.
pub(crate) fn talk_columns() -> u16 {
    columns(Table::new().use_stderr()).unwrap_or(WIDTH_DEFAULT)
}

/// A terminal that doesn't know its width says 0.
fn columns(table: &Table) -> Option<u16> {
    table.width().filter(|columns| *columns > 0)
}
