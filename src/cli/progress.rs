//! What people watch while a run goes on: a live line on a terminal, plain lines elsewhere, JSON lines for programs.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::cli::output::Output;
use crate::cli::render::text::one_line;
use crate::clock::Clock;
use crate::domain::event::{Call, CallRefusal, CostSource, Created, Event, Outcome, Reserved, Settled, Voided};
use crate::domain::limits::Limits;
use crate::ids::ReservationId;
use crate::runtime::{Observer, Progress};
use crate::units::{Money, Timestamp, Tokens};

/// How often the live line is drawn anew.
const TICK: Duration = Duration::from_millis(120);
/// The most of a streamed answer that the live line keeps.
const TAIL_CHARS_MAX: usize = 400;
/// The most characters of it that are shown.
const TAIL_SHOWN_MAX: usize = 160;

/// Watches one run.
#[derive(Clone)]
pub struct Watch(Arc<Mutex<State>>);

struct State {
    view: View,
    clock: Clock,
    limits: Option<Limits>,
    cap: Money,
    began: Option<Timestamp>,
    steps: u32,
    settled: Money,
    held: Vec<(ReservationId, Money, String)>,
    landing: Money,
    tokens: Tokens,
    doing: String,
    tail: String,
}

enum View {
    Live(ProgressBar),
    Lines,
    Nothing,
}

impl Watch {
    /// Watches for a person at a terminal, or for a log.
    #[must_use]
    pub fn new(output: &Output, limits: Option<Limits>, quiet: Quiet) -> Self {
        let view = match (quiet, output.talk_terminal) {
            (Quiet::Yes, _) => View::Nothing,
            (Quiet::No, true) => View::Live(live_bar()),
            (Quiet::No, false) => View::Lines,
        };
        Self(Arc::new(Mutex::new(State {
            view,
            clock: Clock::system(),
            limits,
            cap: Money::ZERO,
            began: None,
            steps: 0,
            settled: Money::ZERO,
            held: Vec::new(),
            landing: Money::ZERO,
            tokens: Tokens::ZERO,
            doing: "starting".to_owned(),
            tail: String::new(),
        })))
    }

    /// What the runtime tells.
    #[must_use]
    pub fn observer(&self) -> Observer {
        let watch = self.clone();
        Arc::new(move |progress| watch.lock().hear(progress))
    }

    /// Takes the live line away.
    pub fn end(&self) {
        if let View::Live(bar) = &self.lock().view {
            bar.finish_and_clear();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quiet {
    /// Nothing is.
    Yes,
    /// It is.
    No,
}

fn live_bar() -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    let style = ProgressStyle::with_template("{spinner} {msg}").unwrap_or_else(|_| ProgressStyle::default_spinner());
    bar.set_style(style);
    bar.enable_steady_tick(TICK);
    bar
}

impl State {
    fn hear(&mut self, progress: Progress<'_>) {
        match progress {
            Progress::Event { recorded, .. } => {
                if let Some(line) = self.fold(recorded.at, &recorded.event) {
                    self.say(&line);
                }
            }
            Progress::Text { piece, .. } => self.stream(piece),
            Progress::Refused { refusal, .. } => self.say(&format!("it can't go on now: {refusal}")),
            Progress::TextDiscarded { .. } => self.tail.clear(),
        }
        if let View::Live(bar) = &self.view {
            bar.set_message(self.line());
        }
    }

    fn say(&self, line: &str) {
        match &self.view {
            View::Live(bar) => bar.println(line),
            View::Lines => crate::cli::output::talk(line),
            View::Nothing => {}
        }
    }

    fn stream(&mut self, piece: &str) {
        self.tail.push_str(piece);
        let chars = self.tail.chars().count();
        if chars > TAIL_CHARS_MAX {
            self.tail = self.tail.chars().skip(chars - TAIL_CHARS_MAX / 2).collect();
        }
    }

    /// Takes a fact in; gives the line that tells of it.
    fn fold(&mut self, at: Timestamp, event: &Event) -> Option<String> {
        match event {
            Event::Created(created) => {
                self.create(created);
                None
            }
            Event::Admitted(admitted) => {
                self.began.get_or_insert(at);
                self.landing = admitted.landing.as_ref().map_or(Money::ZERO, |landing| landing.amount);
                "running".clone_into(&mut self.doing);
                None
            }
            Event::Reserved(reserved) => {
                self.reserve(reserved);
                None
            }
            Event::Settled(settled) => Some(self.settle(settled)),
            Event::Voided(voided) => Some(self.void(voided)),
            Event::CallRefused(refused) => Some(match &refused.why {
                CallRefusal::Limit { refusal } => format!("refused {}: {refusal}", refused.tool),
                CallRefusal::Invalid { message } => format!("refused {}: {}", refused.tool, one_line(message, 160)),
            }),
            Event::WaitBegan(wait) => {
                "waiting for budget".clone_into(&mut self.doing);
                Some(format!(
                    "waiting for budget, until {} at most: {} asked of {}",
                    wait.until, wait.asked, wait.account
                ))
            }
            Event::WaitEnded(_) => {
                "running".clone_into(&mut self.doing);
                None
            }
            Event::LandingBegan(landing) => {
                "landing".clone_into(&mut self.doing);
                Some(format!("landing: {}", landing.refusal))
            }
            Event::LandingReleased(_) => {
                self.landing = Money::ZERO;
                None
            }
            Event::CancelRequested(asked) => Some(format!("cancel asked for: {}", one_line(&asked.reason, 160))),
            Event::Interrupted(interrupted) => Some(format!("interrupted: {}", interrupted.why)),
            Event::PersonAsked(asked) => Some(format!("a person must decide: {}", one_line(&asked.question, 300))),
            Event::InFlightResolved(_) | Event::Ended(_) => None,
        }
    }

    fn create(&mut self, created: &Created) {
        self.cap = created.cap;
        "queued".clone_into(&mut self.doing);
    }

    fn reserve(&mut self, reserved: &Reserved) {
        self.tail.clear();
        self.steps = self.steps.max(reserved.step.step);
        self.landing = reserved.landing;
        let what = match &reserved.call {
            Call::Model(call) => call.model.to_string(),
            Call::Tool { tool, .. } => one_line(tool.as_str(), 64),
        };
        self.doing.clone_from(&what);
        let name = format!("step {}  {what}", reserved.step.step);
        self.held.push((reserved.reservation, reserved.amount, name));
    }

    fn close(&mut self, reservation: ReservationId) -> String {
        let place = self.held.iter().position(|(open, ..)| *open == reservation);
        place.map_or_else(|| "a call".to_owned(), |place| self.held.swap_remove(place).2)
    }

    fn settle(&mut self, settled: &Settled) -> String {
        let name = self.close(settled.reservation);
        self.settled = self.settled.plus(settled.bill);
        let mut line = format!("{name}  {}, {}", settled.bill, settled.latency);
        if settled.source == CostSource::Unknown {
            line.push_str(", cost unknown: the whole reservation counts");
        }
        if let Some(usage) = &settled.usage {
            self.tokens = self.tokens.plus(usage.input_total()).plus(usage.output);
            line.push_str(&format!(", {} tokens in, {} out", usage.input_total(), usage.output));
        }
        match &settled.outcome {
            Outcome::Failed(failure) => {
                line.push_str(&format!(", {}: {}", failure.class.name(), one_line(&failure.message, 160)));
            }
            Outcome::ToolResult { content, is_error: true, .. } => {
                line.push_str(&format!(", error: {}", one_line(content, 160)));
            }
            Outcome::ToolResult { .. } | Outcome::Reply { .. } => {}
        }
        line
    }

    fn void(&mut self, voided: &Voided) -> String {
        let name = self.close(voided.reservation);
        self.tail.clear();
        let failure = &voided.failure;
        format!("{name}  not billed, {}: {}", failure.class.name(), one_line(&failure.message, 160))
    }

    /// `step 3/20 · openai/gpt-5-mini · 1,234 tokens · $0.0012 of $0.05, $0.009 held · 4s of 90s`.
    fn line(&self) -> String {
        let held: Money = self.held.iter().map(|(_, amount, _)| *amount).sum::<Money>().plus(self.landing);
        let steps = self.limits.as_ref().map_or(String::new(), |limits| format!("/{}", limits.steps));
        let mut parts = vec![format!("step {}{steps}", self.steps), self.doing.clone()];
        parts.push(format!("{} tokens", self.tokens));
        parts.push(format!("{} of {}, {held} held", self.settled, self.cap));
        if let Some(began) = self.began {
            let seconds = self.clock.now().since(began).0 / 1000;
            let of = self.limits.as_ref().map_or(String::new(), |limits| format!(" of {}", limits.wall_time));
            parts.push(format!("{seconds}s{of}"));
        }
        let tail = one_line(&self.tail, TAIL_CHARS_MAX);
        let skip = tail.chars().count().saturating_sub(TAIL_SHOWN_MAX);
        let shown: String = tail.chars().skip(skip).collect();
        let answer = if shown.is_empty() { String::new() } else { format!("\n  {shown}") };
        parts.join(" · ") + &answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::report::fixture;

    fn watch() -> State {
        let output = Output::of_process();
        let watch = Watch::new(&output, Some(Limits::default()), Quiet::Yes);
        let mut state = Arc::into_inner(watch.0).expect("one watcher").into_inner().expect("whole");
        state.clock = Clock::virtual_at(fixture::START);
        state
    }

    #[test]
    fn each_attempt_that_is_over_gets_a_line() {
        let mut state = watch();
        let log = fixture::eventful();
        let lines: Vec<String> = log.iter().filter_map(|recorded| state.fold(recorded.at, &recorded.event)).collect();
        insta::assert_snapshot!(lines.join("\n"));
    }

    #[test]
    fn the_live_line_shows_money_against_the_cap() {
        let mut state = watch();
        for recorded in fixture::eventful().iter().take(5) {
            state.fold(recorded.at, &recorded.event);
        }
        state.stream("It was\u{1b}[2J shipped.");
        let line = state.line();
        assert!(line.starts_with("step 1/20 · openai/gpt-5-mini · 0 tokens · $0.00 of $0.05, $0.011 held"), "{line}");
        assert!(line.ends_with("\n  It was [2J shipped."), "{line}");
    }
}
