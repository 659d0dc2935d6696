//! Counts what many runs came to, and shows it while they go on.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::cli::errors::CliError;
use crate::cli::exit::Exit;
use crate::cli::output::{Output, talk};
use crate::cli::render::text::count;
use crate::domain::event::RunState;
use crate::domain::report::RunDocument;
use crate::runtime::{Observer, Progress};
use crate::units::{Money, grouped};

/// How often the bar is drawn anew.
const TICK: Duration = Duration::from_millis(200);

/// What many runs came to.
#[derive(Debug, Default)]
pub struct Tally {
    /// Runs by the state that they are in now.
    pub states: BTreeMap<RunState, u64>,
    /// Lines whose run had ended before.
    pub skipped: u64,
    /// Lines that never became a run.
    pub bad: u64,
    /// What the runs cost in all.
    pub settled: Money,
    /// The part of it that is not known.
    pub unknown: Money,
    /// Why nothing more can be done.
    pub fatal: Option<CliError>,
}

impl Tally {
    /// Counts a run.
    pub fn count(&mut self, document: &RunDocument) {
        *self.states.entry(document.state).or_default() += 1;
        self.settled = self.settled.plus(document.cost.settled_usd);
        self.unknown = self.unknown.plus(document.cost.unknown_usd);
    }

    /// The worst of what happened.
    #[must_use]
    pub fn exit(&self) -> Exit {
        let bad = if self.bad > 0 { Exit::Failed } else { Exit::Finished };
        self.states.keys().map(|state| Exit::of(*state)).fold(bad, Exit::worse)
    }

    /// `3 finished, 1 stopped, 2 ended before; $0.0123 in all`, and how to go on where something is left.
    #[must_use]
    pub fn summary(&self, go_on: &str) -> String {
        let mut parts: Vec<String> =
            self.states.iter().map(|(state, number)| format!("{} {}", grouped(*number), words(*state))).collect();
        if self.bad > 0 {
            parts.push(format!("{} unusable", count(self.bad, "line")));
        }
        if self.skipped > 0 {
            parts.push(format!("{} ended before, and skipped", grouped(self.skipped)));
        }
        if parts.is_empty() {
            parts.push("nothing to do".to_owned());
        }
        let unknown = if self.unknown.is_zero() { String::new() } else { format!(", of it {} unknown", self.unknown) };
        let open = self.states.keys().any(|state| !state.is_ended());
        let next = if open { format!("\n{go_on}") } else { String::new() };
        format!("{}; {} in all{unknown}{next}", parts.join(", "), self.settled)
    }

    fn done(&self) -> u64 {
        self.states.values().sum::<u64>() + self.skipped + self.bad
    }
}

fn words(state: RunState) -> String {
    state.name().replace('_', " ")
}

/// A progress bar on a terminal; nothing elsewhere.
#[derive(Clone, Debug)]
pub struct Bar {
    bar: Option<ProgressBar>,
    quiet: bool,
}

impl Bar {
    /// A bar for so many lines or runs.
    #[must_use]
    pub fn new(output: &Output, total: u64, quiet: bool) -> Self {
        let bar = (output.talk_terminal && !quiet).then(|| {
            let bar = ProgressBar::new(total);
            let style = ProgressStyle::with_template("{bar:24} {pos}/{len} {elapsed}  {msg}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.enable_steady_tick(TICK);
            bar
        });
        Self { bar, quiet }
    }

    /// Says something without tearing the bar.
    pub fn say(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.println(line),
            None if self.quiet => {}
            None => talk(line),
        }
    }

    /// Shows where things stand; `budget` is asked only where somebody sees it.
    pub fn advance(&self, tally: &Tally, budget: impl FnOnce() -> Option<String>) {
        if let Some(bar) = &self.bar {
            bar.set_position(tally.done());
            let failed = tally.bad + tally.states.get(&RunState::Failed).copied().unwrap_or_default();
            let failed = if failed > 0 { format!(" · {failed} failed") } else { String::new() };
            let budget = budget().map_or(String::new(), |budget| format!(" · {budget}"));
            bar.set_message(format!("{}{failed}{budget}", tally.settled));
        }
    }

    /// Tells why a run that was to go on can't; nothing else of a run.
    #[must_use]
    pub fn refusals(&self) -> Observer {
        let bar = self.clone();
        Arc::new(move |progress| match progress {
            Progress::Refused { run, refusal } => bar.say(&format!("run {run} can't go on now: {refusal}")),
            Progress::Event { .. } | Progress::Text { .. } | Progress::TextDiscarded { .. } => {}
        })
    }

    /// Takes the bar away.
    pub fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_of_many_runs_is_told_with_how_to_go_on() {
        let mut tally = Tally { skipped: 2, bad: 1, settled: Money::from_micro(12_300), ..Tally::default() };
        tally.states = BTreeMap::from([(RunState::Finished, 3), (RunState::Interrupted, 1)]);
        let told = tally.summary("the same command goes on");
        let expected = "1 interrupted, 3 finished, 1 line unusable, 2 ended before, and skipped; $0.0123 in all\nthe same command goes on";
        assert_eq!(told, expected);
        assert_eq!(tally.exit(), Exit::Interrupted);
        tally.states.remove(&RunState::Interrupted);
        assert_eq!(tally.exit(), Exit::Failed);
        assert_eq!(Tally::default().exit(), Exit::Finished);
    }
}
