//! Every attempt, as it was and as it would be, with the running sums that the marks are held against.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::live::{Found, Told};
use super::record::{Record, Try, TryEnd};
use crate::domain::event::{Call, CostSource, Event, Purpose, Reserved, Settled};
use crate::ids::{AgentName, ModelName, ReservationId, RunId};
use crate::units::Money;

/// One attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// Its run.
    pub run: RunId,
    /// The agent of that run.
    pub agent: AgentName,
    /// Its step in that run.
    pub step: u32,
    /// The try of the step, from 1.
    pub attempt: u32,
    /// Its stage, with the item of a map.
    pub place: String,
    /// Who was called: a model, or a tool.
    pub called: String,
    /// Who would be, where that is another model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instead: Option<ModelName>,
    /// True for the last answer inside the reserve.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub lands: bool,
    /// As it was; `None` for what was never called.
    pub recorded: Option<Figures>,
    /// As it would be; `None` for what would not be called.
    pub would: Option<Figures>,
    /// What the run and all below it would have cost with it; `None` while that isn't known.
    pub sum_usd: Option<Money>,
    /// The most that it would have come to as this was called, with all that is held: what `cost` is held against.
    pub at_most_usd: Option<Money>,
    /// What isn't exact, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// What one attempt comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Figures {
    /// What is reserved: the most that it can cost.
    pub bound_usd: Money,
    /// What it costs; `None` while nobody knows what it would be answered, or where it isn't over.
    pub cost_usd: Option<Money>,
    /// True where what it used isn't known: its whole reservation.
    pub unknown: bool,
}

impl Figures {
    fn of(tried: &Try) -> Self {
        let (cost_usd, unknown) = match &tried.end {
            Some((_, TryEnd::Settled(settled))) => (Some(settled.bill), settled.source == CostSource::Unknown),
            Some((_, TryEnd::Voided(_))) => (Some(Money::ZERO), false),
            None => (None, false),
        };
        Self { bound_usd: tried.reserved.amount, cost_usd, unknown }
    }
}

/// The lines of what is told, in its order, and then of what was recorded and would not be called.
pub(super) fn lines(record: &Record, told: &Told) -> Vec<Line> {
    let mut sums = Sums::default();
    for (run, recorded) in &told.events {
        sums.take(told, *run, &recorded.event);
    }
    let made: BTreeSet<ReservationId> = told.found.values().filter_map(known).map(id).collect();
    let left = record.tries().iter().filter(|tried| !made.contains(&id(tried)));
    let left = left.map(|tried| Line { recorded: Some(Figures::of(tried)), ..line(&tried.reserved) });
    let named = |line: Line| Line { agent: record.agent(line.run), ..line };
    sums.lines.into_iter().chain(left).map(named).collect()
}

pub(super) fn known(found: &Found) -> Option<&Arc<Try>> {
    if let Found::Known(tried) = found { Some(tried) } else { None }
}

pub(super) fn id(tried: &Arc<Try>) -> ReservationId {
    tried.reserved.reservation
}

#[derive(Default)]
struct Sums {
    lines: Vec<Line>,
    open: BTreeMap<ReservationId, (usize, Money)>,
    settled: Money,
    landing: Money,
}

impl Sums {
    fn take(&mut self, told: &Told, run: RunId, event: &Event) {
        if let Event::Admitted(admitted) = event {
            if let Some(landing) = &admitted.landing {
                self.landing = landing.amount;
            }
        } else if let Event::LandingReleased(_) = event {
            self.landing = Money::ZERO;
        } else if let Event::Reserved(reserved) = event {
            self.reserve(told, run, reserved);
        } else if let Event::Settled(settled) = event {
            self.settle(told, settled);
        } else if let Event::Voided(voided) = event {
            self.end(voided.reservation, Money::ZERO, false);
        }
    }

    fn reserve(&mut self, told: &Told, run: RunId, reserved: &Reserved) {
        self.landing = reserved.landing;
        self.open.insert(reserved.reservation, (self.lines.len(), reserved.amount));
        let held: Money = self.open.values().map(|(_, amount)| *amount).sum();
        let tried = told.found.get(&reserved.reservation).and_then(known);
        let was = tried.and_then(|tried| model(&tried.reserved));
        let instead = model(reserved).filter(|now| was.is_some_and(|was| was != *now)).cloned();
        let called = tried.map_or_else(|| called(reserved), |tried| called(&tried.reserved));
        self.lines.push(Line {
            run: told.runs.get(&run).copied().unwrap_or(run),
            called,
            instead,
            recorded: tried.map(|tried| Figures::of(tried)),
            would: Some(Figures { bound_usd: reserved.amount, cost_usd: None, unknown: false }),
            at_most_usd: Some(self.settled.plus(held).plus(self.landing)),
            ..line(reserved)
        });
    }

    fn settle(&mut self, told: &Told, settled: &Settled) {
        let unknown = settled.source == CostSource::Unknown;
        let index = self.end(settled.reservation, settled.bill, unknown);
        let tried = told.found.get(&settled.reservation).and_then(known);
        let Some(line) = index.and_then(|index| self.lines.get_mut(index)) else { return };
        let was = tried.and_then(|tried| tried.settled()).is_some_and(|was| was.source == CostSource::Unknown);
        if unknown && !was {
            let model = line.instead.as_ref().map_or(line.called.as_str(), ModelName::as_str);
            line.note = Some(format!("`{model}` has no price for all that was used: its whole reservation"));
        } else if unknown {
            line.note = Some("what it used isn't known: its whole reservation".into());
        } else if tried.and_then(|tried| tried.settled()).is_some_and(|was| was.cache.hit.is_some()) {
            line.note = Some("answered by what was kept of an earlier call".into());
        }
    }

    fn end(&mut self, reservation: ReservationId, cost: Money, unknown: bool) -> Option<usize> {
        let (index, _) = self.open.remove(&reservation)?;
        self.settled = self.settled.plus(cost);
        let line = self.lines.get_mut(index)?;
        line.sum_usd = Some(self.settled);
        let would = line.would.as_mut()?;
        (would.cost_usd, would.unknown) = (Some(cost), unknown);
        Some(index)
    }
}

fn line(reserved: &Reserved) -> Line {
    Line {
        run: reserved.reservation.run,
        agent: AgentName::from(""),
        step: reserved.step.step,
        attempt: reserved.attempt,
        place: reserved.step.place().to_string(),
        called: called(reserved),
        instead: None,
        lands: matches!(&reserved.call, Call::Model(call) if call.purpose == Purpose::Landing),
        recorded: None,
        would: None,
        sum_usd: None,
        at_most_usd: None,
        note: None,
    }
}

pub(super) fn called(reserved: &Reserved) -> String {
    match &reserved.call {
        Call::Model(call) => call.model.to_string(),
        Call::Tool { tool, .. } => tool.to_string(),
    }
}

fn model(reserved: &Reserved) -> Option<&ModelName> {
    if let Call::Model(call) = &reserved.call { Some(&call.model) } else { None }
}
