//! What people watch while a run goes on: a live line on a terminal, plain lines elsewhere, JSON lines for programs.

mod live;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressState, ProgressStyle};

use self::live::LiveLine;
use crate::cli::logging;
use crate::cli::output::{Output, talk, talk_columns};
use crate::cli::render::text::one_line;
use crate::clock::Clock;
use crate::domain::event::{
    Call, CallRefusal, CallRefused, ChildBegan, ChildEnded, CostSource, Created, Downgraded, Event, Outcome, Reserved,
    RunState, Settled, StageEnd, StageEnded, StepKey, Voided,
};
use crate::domain::limits::Limits;
use crate::ids::{ReservationId, RunId, StageName};
use crate::runtime::{Observer, Progress};
use crate::units::{Money, Timestamp};

/// How often the live line is drawn anew.
const TICK: Duration = Duration::from_millis(120);
/// What the spinner takes of a line.
const SPINNER_COLUMNS: usize = 2;

/// Watches one run.
#[derive(Clone)]
pub struct Watch(Arc<Mutex<State>>);

struct State {
    view: View,
    held: Vec<(ReservationId, Money, String)>,
    landing: Money,
    /// Drawn by the bar, under its own lock: nobody who holds this one may call the bar.
    live: Arc<Mutex<LiveLine>>,
    /// Items that are over, and all of them, of each map that is under way.
    maps: BTreeMap<StageName, (usize, usize)>,
    /// The run that is watched: the first that is heard of.
    root: Option<RunId>,
    /// The runs below it, each by where it was called and its agent.
    below: BTreeMap<RunId, String>,
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
        let live = Arc::new(Mutex::new(LiveLine::new(limits.as_ref())));
        let view = match (quiet, output.talk_terminal) {
            (Quiet::Yes, _) => View::Nothing,
            (Quiet::No, true) => View::Live(live_bar(live.clone())),
            (Quiet::No, false) => View::Lines,
        };
        Self(Arc::new(Mutex::new(State {
            view,
            held: Vec::new(),
            landing: Money::ZERO,
            live,
            maps: BTreeMap::new(),
            root: None,
            below: BTreeMap::new(),
        })))
    }

    /// What the runtime tells.
    #[must_use]
    pub fn observer(&self) -> Observer {
        let watch = self.clone();
        Arc::new(move |progress| watch.lock().hear(progress))
    }

    /// Says something without tearing the live line, to those too who want quiet.
    pub fn say(&self, line: &str) {
        match &self.lock().view {
            View::Live(bar) => bar.println(line),
            View::Lines | View::Nothing => talk(line),
        }
    }

    /// Takes the live line away.
    pub fn end(&self) {
        if let View::Live(bar) = &self.lock().view {
            bar.finish_and_clear();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        locked(&self.0)
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

impl Quiet {
    /// What was asked for. A log that machines read has no lines for people in it, which show what models wrote.
    #[must_use]
    pub fn of(is_asked: bool) -> Self {
        if is_asked || logging::is_json() { Self::Yes } else { Self::No }
    }
}

/// A line that is made anew at each tick: time goes on while a call is under way, and a terminal may change its width.
fn live_bar(live: Arc<Mutex<LiveLine>>) -> ProgressBar {
    let (bar, clock) = (ProgressBar::new_spinner(), Clock::system());
    let style = ProgressStyle::with_template("{spinner} {live}").unwrap_or_else(|_| ProgressStyle::default_spinner());
    bar.set_style(style.with_key("live", move |_: &ProgressState, out: &mut dyn std::fmt::Write| {
        let text = locked(&live).text(clock.now(), usize::from(talk_columns()).saturating_sub(SPINNER_COLUMNS));
        out.write_str(&text).unwrap_or_default();
    }));
    bar.enable_steady_tick(TICK);
    bar
}

impl State {
    fn hear(&mut self, progress: Progress<'_>) {
        match progress {
            Progress::Event { run, recorded } => {
                let is_root = *self.root.get_or_insert(run) == run;
                let line = if is_root {
                    self.fold(recorded.at, &recorded.event)
                } else {
                    self.fold_below(run, &recorded.event)
                };
                if let Some(line) = line {
                    self.say(&line);
                }
            }
            Progress::Text { piece, .. } => self.live().stream(piece),
            Progress::Refused { refusal, .. } => self.say(&format!("it can't go on now: {refusal}")),
            Progress::TextDiscarded { .. } => self.live().tail.clear(),
        }
    }

    fn live(&self) -> MutexGuard<'_, LiveLine> {
        locked(&self.live)
    }

    fn say(&self, line: &str) {
        match &self.view {
            View::Live(bar) => bar.println(line),
            View::Lines => talk(line),
            View::Nothing => {}
        }
    }

    /// Takes a fact in; gives the line that tells of it.
    fn fold(&mut self, at: Timestamp, event: &Event) -> Option<String> {
        let told = self.take(at, event);
        let held = self.held.iter().map(|(_, amount, _)| *amount).sum::<Money>().plus(self.landing);
        self.live().held = held;
        told
    }

    /// A fact of a sub-agent's run: its calls count here too, and are told with its agent's name.
    fn fold_below(&mut self, run: RunId, event: &Event) -> Option<String> {
        let agent = self.below.get(&run).map_or_else(|| "sub-agent".to_owned(), Clone::clone);
        let told = match event {
            Event::Reserved(reserved) => {
                self.reserve(reserved);
                if let Some((_, _, name)) = self.held.last_mut() {
                    *name = format!("{agent}: {name}");
                }
                None
            }
            Event::Settled(settled) => Some(self.settle(settled)),
            Event::Voided(voided) => Some(self.void(voided)),
            Event::CallRefused(refused) => Some(format!("{agent}: {}", call_refused(refused))),
            Event::Downgraded(downgraded) => Some(format!("{agent}: {}", downgrade(downgraded))),
            Event::LandingBegan(met) => Some(format!("{agent}: stops: {}", met.refusal)),
            Event::ChildBegan(began) => Some(self.begin_child(began)),
            Event::ChildEnded(ended) => Some(self.end_child(ended)),
            Event::PersonAsked(asked) => {
                Some(format!("{agent}: a person must decide: {}", one_line(&asked.question, 300)))
            }
            Event::Created(_)
            | Event::Admitted(_)
            | Event::WaitBegan(_)
            | Event::WaitEnded(_)
            | Event::RateWaitBegan(_)
            | Event::RateWaitEnded(_)
            | Event::LandingReleased(_)
            | Event::CancelRequested(_)
            | Event::Interrupted(_)
            | Event::InFlightResolved(_)
            | Event::PersonAnswered(_)
            | Event::Parked(_)
            | Event::MapBegan(_)
            | Event::StageEnded(_)
            | Event::PeriodMoved(_)
            | Event::OutcomeRecorded(_)
            | Event::Ended(_) => None,
        };
        let held = self.held.iter().map(|(_, amount, _)| *amount).sum::<Money>().plus(self.landing);
        self.live().held = held;
        told
    }

    fn begin_child(&mut self, began: &ChildBegan) -> String {
        // A single loop has one stage, which nobody named.
        let main = began.place.stage.as_str() == "main";
        let name = if main { began.agent.to_string() } else { format!("{} {}", began.place, began.agent) };
        let told = format!("{name} begins");
        self.below.insert(began.child, name);
        told
    }

    fn end_child(&mut self, ended: &ChildEnded) -> String {
        let agent = self.below.remove(&ended.child).unwrap_or_else(|| "sub-agent".to_owned());
        let state = RunState::from(ended.end.state).name();
        let why = ended.end.refusal.as_ref().map_or(String::new(), |refusal| format!(" by {refusal}"));
        format!("{agent} {state}{why}: {}", ended.spent.settled)
    }

    fn take(&mut self, at: Timestamp, event: &Event) -> Option<String> {
        match event {
            Event::Created(created) => {
                self.create(created);
                None
            }
            Event::Admitted(admitted) => {
                self.landing = admitted.landing.as_ref().map_or(Money::ZERO, |landing| landing.amount);
                self.live().began.get_or_insert(at);
                self.does("running");
                None
            }
            Event::Reserved(reserved) => {
                self.reserve(reserved);
                None
            }
            Event::Settled(settled) => Some(self.settle(settled)),
            Event::Voided(voided) => Some(self.void(voided)),
            Event::CallRefused(refused) => Some(call_refused(refused)),
            Event::WaitBegan(wait) => {
                self.does("waiting for budget");
                Some(format!(
                    "waiting for budget, until {} at most: {} asked of {}",
                    wait.until, wait.asked, wait.account
                ))
            }
            Event::WaitEnded(_) | Event::RateWaitEnded(_) => {
                self.does("running");
                None
            }
            Event::RateWaitBegan(wait) => {
                self.does("waiting for rate limits");
                Some(format!("waiting for rate limits: {}", wait.refusal))
            }
            Event::LandingBegan(landing) => {
                self.does("landing");
                Some(format!("landing: {}", landing.refusal))
            }
            Event::LandingReleased(_) => {
                self.landing = Money::ZERO;
                None
            }
            Event::Downgraded(downgraded) => Some(downgrade(downgraded)),
            Event::CancelRequested(asked) => Some(format!("cancel asked for: {}", one_line(&asked.reason, 160))),
            Event::Interrupted(interrupted) => Some(format!("interrupted: {}", interrupted.why)),
            Event::PersonAsked(asked) => Some(format!("a person must decide: {}", one_line(&asked.question, 300))),
            Event::MapBegan(began) => {
                self.maps.insert(began.stage.clone(), (0, began.items.len()));
                self.count(&began.stage)
            }
            Event::StageEnded(ended) => self.stage_ended(ended),
            Event::InFlightResolved(_)
            | Event::Ended(_)
            | Event::PersonAnswered(_)
            | Event::Parked(_)
            | Event::PeriodMoved(_)
            | Event::OutcomeRecorded(_) => None,
            Event::ChildBegan(began) => Some(self.begin_child(began)),
            Event::ChildEnded(ended) => Some(self.end_child(ended)),
        }
    }

    /// `read 3/12`, and why an item or a stage came to nothing.
    fn stage_ended(&mut self, ended: &StageEnded) -> Option<String> {
        let StageEnded { place, end, error, refusal, .. } = ended;
        let why =
            error.as_ref().map(|error| one_line(error, 160)).or_else(|| refusal.as_ref().map(ToString::to_string));
        let lost = match end {
            StageEnd::Finished => None,
            StageEnd::Skipped | StageEnd::Failed | StageEnd::Stopped => {
                let why = why.map_or(String::new(), |why| format!(": {why}"));
                Some(format!("{place} {}{why}", end.name()))
            }
        };
        if place.item.is_none() {
            if self.maps.remove(&place.stage).is_some() {
                self.live().map.clear();
            }
            return lost;
        }
        if let Some((over, _)) = self.maps.get_mut(&place.stage) {
            *over += 1;
        }
        let count = self.count(&place.stage);
        Some(count.into_iter().chain(lost).collect::<Vec<_>>().join(", "))
    }

    fn count(&self, stage: &StageName) -> Option<String> {
        let (over, of) = self.maps.get(stage)?;
        let told = format!("{stage} {over}/{of}");
        self.live().map.clone_from(&told);
        Some(told)
    }

    fn create(&mut self, created: &Created) {
        self.live().cap = created.cap;
        self.does("queued");
    }

    fn does(&self, what: &str) {
        what.clone_into(&mut self.live().doing);
    }

    fn reserve(&mut self, reserved: &Reserved) {
        self.landing = reserved.landing;
        let what = match &reserved.call {
            Call::Model(call) => call.model.to_string(),
            Call::Tool { tool, .. } => one_line(tool.as_str(), 64),
        };
        let StepKey { step, stage, .. } = &reserved.step;
        // A single loop has one stage, which nobody named.
        let place = if stage.as_str() == "main" { String::new() } else { format!("{}  ", reserved.step.place()) };
        let name = format!("step {step}  {place}{what}");
        self.live().step(reserved.step.step, what);
        self.held.push((reserved.reservation, reserved.amount, name));
    }

    fn close(&mut self, reservation: ReservationId) -> String {
        let place = self.held.iter().position(|(open, ..)| *open == reservation);
        place.map_or_else(|| "a call".to_owned(), |place| self.held.swap_remove(place).2)
    }

    fn settle(&mut self, settled: &Settled) -> String {
        let name = self.close(settled.reservation);
        self.live().settle(settled);
        let mut line = format!("{name}  {}, {}", settled.bill, settled.latency);
        if settled.source == CostSource::Unknown {
            line.push_str(", cost unknown: the whole reservation counts");
        }
        if let Some(usage) = &settled.usage {
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
        self.live().tail.clear();
        let failure = &voided.failure;
        format!("{name}  not billed, {}: {}", failure.class.name(), one_line(&failure.message, 160))
    }
}

/// `downgraded: the run's priority is low; openai/gpt-5-nano is asked`.
fn downgrade(downgraded: &Downgraded) -> String {
    format!("{}; {} is asked", one_line(&downgraded.why.to_string(), 200), downgraded.model)
}

fn call_refused(refused: &CallRefused) -> String {
    match &refused.why {
        CallRefusal::Limit { refusal } => format!("refused {}: {refusal}", refused.tool),
        CallRefusal::Invalid { message } => format!("refused {}: {}", refused.tool, one_line(message, 160)),
    }
}

fn locked<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::event::{MapBegan, Place};
    use crate::domain::report::fixture;

    fn watch() -> State {
        let output = Output::of_process();
        let watch = Watch::new(&output, Some(Limits::default()), Quiet::Yes);
        Arc::into_inner(watch.0).expect("one watcher").into_inner().expect("whole")
    }

    #[test]
    fn each_attempt_that_is_over_gets_a_line() {
        let mut state = watch();
        let log = fixture::eventful();
        let lines: Vec<String> = log.iter().filter_map(|recorded| state.fold(recorded.at, &recorded.event)).collect();
        insta::assert_snapshot!(lines.join("\n"));
    }

    #[test]
    fn stages_and_items_are_named_and_a_map_is_counted() {
        let mut state = watch();
        let item = |item| Place { stage: "read".into(), item: Some(item) };
        let over = |item_of: Place, end, error: Option<&str>| {
            let (output, error) = (serde_json::Value::Null, error.map(str::to_owned));
            Event::StageEnded(StageEnded { place: item_of, end, output, refusal: None, error })
        };
        let mut log = fixture::Log::new();
        log.push(1, Event::MapBegan(MapBegan { stage: "read".into(), items: vec![1.into(), 2.into()] }));
        log.reserve(1, 1, Money::from_micro(10), fixture::tool_call("call_1"));
        let Some(Event::Reserved(reserved)) = log.recorded.last_mut().map(|last| &mut last.event) else { return };
        reserved.step = item(1).step(1);
        let reservation = reserved.reservation;
        log.settle(
            reservation,
            Money::from_micro(10),
            CostSource::Reported,
            Outcome::ToolResult { content: "so".into(), is_error: false, cut_bytes: 0 },
        );
        log.push(1, over(item(1), StageEnd::Finished, None));
        log.push(1, over(item(0), StageEnd::Failed, Some("no answer")));
        let mut lines: Vec<String> = Vec::new();
        for recorded in &log.recorded {
            lines.extend(state.fold(recorded.at, &recorded.event));
        }
        let named = lines.iter().any(|line| line.starts_with("step 1  read[1]  lookup_order  $0.00001"));
        assert!(named && lines[0] == "read 0/2", "{lines:?}");
        assert_eq!(lines[2..], ["read 1/2", "read 2/2, read[0] failed: no answer"]);
        assert!(state.live().text(fixture::START, 120).contains(" · read 2/2 · lookup_order · "));
        state.fold(fixture::START, &over(Place::stage("read".into()), StageEnd::Finished, None));
        assert!(!state.live().text(fixture::START, 120).contains("read"));
    }

    #[test]
    fn the_live_line_shows_money_against_the_cap() {
        let mut state = watch();
        for recorded in fixture::eventful().iter().take(5) {
            state.fold(recorded.at, &recorded.event);
        }
        state.live().stream("It was\u{1b}[2J shipped.");
        let line = state.live().text(fixture::START, 120);
        assert!(line.starts_with("step 1/20 · openai/gpt-5-mini · 0 tokens · $0.00 of $0.05, $0.011 held"), "{line}");
        assert!(line.ends_with("\n  It was [2J shipped."), "{line}");
    }
}
