//! Counts what many runs came to, and shows it while they go on.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressState, ProgressStyle};

use crate::cli::errors::CliError;
use crate::cli::exit::Exit;
use crate::cli::output::{Output, talk, talk_columns};
use crate::cli::render::text::count;
use crate::domain::event::{Event, RunState};
use crate::domain::report::RunDocument;
use crate::runtime::{Observer, Progress};
use crate::units::{Money, grouped};

/// How often the bar is drawn anew.
const TICK: Duration = Duration::from_millis(200);
/// What the bar, the time and the spaces between take of a line, at most.
const BAR_COLUMNS: usize = 27;
/// Between the parts of what stands behind the bar.
const BETWEEN: &str = " · ";

/// What many runs came to.
#[derive(Debug, Default)]
pub struct Tally {
    /// Runs by the state that they are in now.
    pub states: BTreeMap<RunState, u64>,
    /// Lines whose run had ended before, by how.
    pub skipped: BTreeMap<RunState, u64>,
    /// Lines that never became a run.
    pub bad: u64,
    /// Lines that wait until an open run of their thread has ended.
    pub later: u64,
    /// What the runs cost in all.
    pub settled: Money,
    /// The part of it that is not known.
    pub unknown: Money,
    /// True where the work was stopped before all of it was begun.
    pub left: bool,
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

    /// The worst of what happened, now or before: the same command answers the same.
    #[must_use]
    pub fn exit(&self) -> Exit {
        let bad = if self.bad > 0 { Exit::Failed } else { Exit::Finished };
        let later = if self.later > 0 { Exit::Waiting } else { Exit::Finished };
        let left = if self.left { Exit::Interrupted } else { Exit::Finished };
        let lines = bad.worse(later).worse(left);
        self.states.keys().chain(self.skipped.keys()).map(|state| Exit::of(*state)).fold(lines, Exit::worse)
    }

    /// `3 finished, 1 stopped, 2 ended before; $0.0123 in all`, and how to go on where something is left.
    #[must_use]
    pub fn summary(&self, go_on: &str) -> String {
        let mut parts = by_state(&self.states);
        if self.bad > 0 {
            parts.push(format!("{} unusable", count(self.bad, "line")));
        }
        if self.later > 0 {
            parts.push(format!("{} behind an open run of their thread", count(self.later, "line")));
        }
        if !self.skipped.is_empty() {
            let how = if self.skipped.keys().all(|state| *state == RunState::Finished) {
                String::new()
            } else {
                format!(" ({})", by_state(&self.skipped).join(", "))
            };
            parts.push(format!("{} ended before, and skipped{how}", grouped(self.skipped.values().sum())));
        }
        if parts.is_empty() {
            parts.push("nothing to do".to_owned());
        }
        let unknown = if self.unknown.is_zero() { String::new() } else { format!(", of it {} unknown", self.unknown) };
        let open = self.left || self.later > 0 || self.states.keys().any(|state| !state.is_ended());
        let next = if open { format!("\n{go_on}") } else { String::new() };
        format!("{}; {} in all{unknown}{next}", parts.join(", "), self.settled)
    }

    fn done(&self) -> u64 {
        self.states.values().sum::<u64>() + self.skipped.values().sum::<u64>() + self.bad + self.later
    }
}

fn by_state(states: &BTreeMap<RunState, u64>) -> Vec<String> {
    states.iter().map(|(state, number)| format!("{} {}", grouped(*number), words(*state))).collect()
}

fn words(state: RunState) -> String {
    state.name().replace('_', " ")
}

/// A progress bar on a terminal; nothing elsewhere.
#[derive(Clone, Debug)]
pub struct Bar {
    bar: Option<ProgressBar>,
    quiet: bool,
    /// True where data goes to the terminal that the bar is on.
    beside_data: bool,
    money: Arc<Mutex<MoneyShown>>,
}

/// What the bar says behind its numbers.
#[derive(Debug, Default)]
struct MoneyShown {
    /// Settled since the bar was begun, of runs that are still going on too.
    used: Money,
    failed: u64,
    budget: Option<String>,
}

impl MoneyShown {
    /// The money, and what else there is room for.
    fn text(&self, columns: usize) -> String {
        let failed = (self.failed > 0).then(|| format!("{} failed", grouped(self.failed)));
        let mut text = format!("{} used", self.used);
        for part in failed.iter().chain(&self.budget) {
            if text.chars().count() + BETWEEN.chars().count() + part.chars().count() <= columns {
                text = text + BETWEEN + part;
            }
        }
        text.chars().take(columns).collect()
    }
}

impl Bar {
    /// A bar for so many lines or runs.
    #[must_use]
    pub fn new(output: &Output, total: u64, quiet: bool) -> Self {
        let money = Arc::<Mutex<MoneyShown>>::default();
        let bar = (output.talk_terminal && !quiet).then(|| {
            let bar = ProgressBar::new(total);
            bar.set_style(style(money.clone()));
            bar.enable_steady_tick(TICK);
            bar
        });
        Self { bar, quiet, beside_data: output.data_terminal, money }
    }

    /// Says something without tearing the bar.
    pub fn say(&self, line: &str) {
        if self.bar.is_some() || !self.quiet {
            self.say_aloud(line);
        }
    }

    /// Says something, to those too who want quiet.
    pub fn say_aloud(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.println(line),
            None => talk(line),
        }
    }

    /// Lets data be written without tearing the bar.
    pub fn around<T>(&self, write: impl FnOnce() -> T) -> T {
        match &self.bar {
            Some(bar) if self.beside_data => bar.suspend(write),
            Some(_) | None => write(),
        }
    }

    /// Shows where things stand; `budget` is asked only where somebody sees it.
    pub fn advance(&self, tally: &Tally, budget: impl FnOnce() -> Option<String>) {
        if let Some(bar) = &self.bar {
            bar.set_position(tally.done());
            let failed = tally.bad + tally.states.get(&RunState::Failed).copied().unwrap_or_default();
            let budget = budget();
            let mut shown = locked(&self.money);
            (shown.failed, shown.budget) = (failed, budget);
        }
    }

    /// Hears what runs spend, and tells why one that was to go on can't; nothing else of a run.
    #[must_use]
    pub fn observer(&self) -> Observer {
        let bar = self.clone();
        Arc::new(move |progress| match progress {
            Progress::Refused { run, refusal } => bar.say(&format!("run {run} can't go on now: {refusal}")),
            Progress::Event { recorded, .. } => {
                if let Event::Settled(settled) = &recorded.event {
                    let mut shown = locked(&bar.money);
                    shown.used = shown.used.plus(settled.bill);
                }
            }
            Progress::Text { .. } | Progress::TextDiscarded { .. } => {}
        })
    }

    /// Takes the bar away.
    pub fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// The bar takes the money's lock when it draws: nobody who holds that one may call the bar.
fn style(money: Arc<Mutex<MoneyShown>>) -> ProgressStyle {
    let style = ProgressStyle::with_template("{bar:16} {pos}/{len} {elapsed}  {money}");
    let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
    style.with_key("money", move |state: &ProgressState, out: &mut dyn std::fmt::Write| {
        let numbers = format!("{}/{}", state.pos(), state.len().unwrap_or_default());
        let room = usize::from(talk_columns()).saturating_sub(BAR_COLUMNS + numbers.len());
        out.write_str(&locked(&money).text(room)).unwrap_or_default();
    })
}

fn locked(money: &Mutex<MoneyShown>) -> MutexGuard<'_, MoneyShown> {
    money.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_of_many_runs_is_told_with_how_to_go_on() {
        let mut tally = Tally { bad: 1, settled: Money::from_micro(12_300), ..Tally::default() };
        tally.states = BTreeMap::from([(RunState::Finished, 3), (RunState::Interrupted, 1)]);
        tally.skipped = BTreeMap::from([(RunState::Finished, 2)]);
        let told = tally.summary("the same command goes on");
        let expected = "1 interrupted, 3 finished, 1 line unusable, 2 ended before, and skipped; $0.0123 in all\nthe same command goes on";
        assert_eq!(told, expected);
        assert_eq!(tally.exit(), Exit::Interrupted);
        tally.states.remove(&RunState::Interrupted);
        assert_eq!(tally.exit(), Exit::Failed);
        assert_eq!(Tally::default().exit(), Exit::Finished);
    }

    #[test]
    fn what_ended_before_counts_as_it_ended() {
        let mut tally = Tally { skipped: BTreeMap::from([(RunState::Finished, 2)]), ..Tally::default() };
        assert_eq!(
            (tally.exit(), tally.summary("-").as_str()),
            (Exit::Finished, "2 ended before, and skipped; $0.00 in all")
        );
        tally.skipped.insert(RunState::Failed, 1);
        let told = "3 ended before, and skipped (2 finished, 1 failed); $0.00 in all";
        assert_eq!((tally.exit(), tally.summary("-").as_str()), (Exit::Failed, told));
        tally.left = true;
        assert_eq!((tally.exit(), tally.summary("go on").lines().last()), (Exit::Interrupted, Some("go on")));
    }

    #[test]
    fn the_bar_shows_money_before_all_else() {
        let mut shown = MoneyShown { used: Money::from_micro(12_300), ..MoneyShown::default() };
        assert_eq!(shown.text(80), "$0.0123 used");
        (shown.failed, shown.budget) = (2, Some("budget day: $1.00 of $5.00 (20.0%)".to_owned()));
        assert_eq!(shown.text(80), "$0.0123 used · 2 failed · budget day: $1.00 of $5.00 (20.0%)");
        assert_eq!(shown.text(40), "$0.0123 used · 2 failed");
        assert_eq!((shown.text(12).as_str(), shown.text(7).as_str()), ("$0.0123 used", "$0.0123"));
    }
}
