//! Settled money as rows of FOCUS, the `FinOps` Open Cost and Usage Specification: one for each attempt and meter; or, of a
//! day, one for what is the same but for its attempts ([`Daily`]).
//!
//! Invariants: the rows of an attempt add up to its bill, to the last pico-dollar, so those of a store add up to its
//! accounts; `PricingQuantity` times a unit price is the cost. A bill whose lines nobody knows (unknown money, a price
//! version that the project no longer has, a tool's price) is one row: one request at that price.
//! Deliberately absent: rows of what was never billed (void attempts, tools without a price), and of what is still held.

mod columns;
mod daily;
mod names;

use std::collections::BTreeMap;
use std::str::FromStr;

use crate::domain::event::{Call, CostSource, Created, Event, ModelCall, Outcome, Recorded, Reserved, Settled};
use crate::domain::outcome::Outcome as Worth;
use crate::domain::pricing::{During, Itemised, Line, Meter, PriceBook, Served};
use crate::domain::report::push_field;
use crate::ids::{ModelName, PriceId, RunId};
use crate::units::Timestamp;
use columns::{COLUMNS, Column};
pub use daily::Daily;

/// A version of the specification.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum FocusVersion {
    /// 1.2: what the official validator checks.
    #[default]
    V1_2,
    /// 1.3: with who sells, and who runs.
    V1_3,
    /// 1.4: without the two names that 1.3 calls deprecated.
    V1_4,
}

impl FocusVersion {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::V1_2, Self::V1_3, Self::V1_4];

    /// As it is written.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::V1_2 => "1.2",
            Self::V1_3 => "1.3",
            Self::V1_4 => "1.4",
        }
    }
}

impl FromStr for FocusVersion {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|version| version.name() == text).ok_or(())
    }
}

/// What a row is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grain {
    /// An attempt's meter.
    Attempt,
    /// All that was reserved on a day, in UTC, and is the same but for its attempt and its run.
    Day,
}

/// The line of the columns' names.
#[must_use]
pub fn header(version: FocusVersion, grain: Grain) -> String {
    let names: Vec<&str> = columns(version, grain).map(|column| column.name).collect();
    format!("{}\n", names.join(","))
}

fn columns(version: FocusVersion, grain: Grain) -> impl Iterator<Item = &'static Column> {
    COLUMNS.iter().filter(move |column| column.is_in(version, grain))
}

/// The log of a run, and what tells of it.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// The run.
    pub run: RunId,
    /// Its log.
    pub log: &'a [Recorded],
    /// What the tree that it belongs to was worth, as it was said last.
    pub outcome: Option<&'a Worth>,
    /// The prices.
    pub book: &'a PriceBook,
    /// From when on money counts that was reserved, and until before when.
    pub during: (Option<Timestamp>, Option<Timestamp>),
}

/// Part of a settled attempt's bill.
struct Charge<'a> {
    run: RunId,
    created: &'a Created,
    reserved: &'a Reserved,
    /// When it was reserved: the day and period that its money belongs to.
    at: Timestamp,
    settled: &'a Settled,
    /// By which rates it was charged, where its lines are known.
    by: Option<&'a ChargedBy>,
    line: Line,
    grain: Grain,
    /// True for one row of each attempt, which has what is the whole attempt's.
    is_first: bool,
    /// What the whole tree was worth, as it was said last.
    outcome: Option<&'a Worth>,
}

/// The price that an attempt was charged by.
struct ChargedBy {
    price: PriceId,
    model: ModelName,
    itemised: Itemised,
}

impl<'a> Charge<'a> {
    const fn model(&self) -> Option<&'a ModelCall> {
        match &self.reserved.call {
            Call::Model(call) => Some(call),
            Call::Tool { .. } => None,
        }
    }

    fn told(&self) -> Told<'a> {
        Told::of(&self.settled.outcome)
    }
}

/// What a provider says of how it served a call.
#[derive(Clone, Copy, Default)]
struct Told<'a> {
    served: Served<'a>,
    answering: Option<&'a str>,
    request_id: Option<&'a str>,
}

impl<'a> Told<'a> {
    fn of(outcome: &'a Outcome) -> Self {
        match outcome {
            Outcome::Reply { response_model, service_tier, factors, request_id, .. } => Self {
                served: Served { tier: service_tier.as_deref(), factors: *factors, during: None },
                answering: response_model.as_deref(),
                request_id: request_id.as_deref(),
            },
            Outcome::ToolResult { .. } | Outcome::Failed(_) => Self::default(),
        }
    }
}

/// Writes the rows of a run's log.
pub fn write(source: &Source<'_>, version: FocusVersion, out: &mut String) {
    source.each_charge(Grain::Attempt, &mut |charge| {
        write_row(columns(version, Grain::Attempt).map(|column| column.value.text(charge)), out);
    });
}

impl Source<'_> {
    /// Calls back with each part of what was settled.
    fn each_charge(&self, grain: Grain, take: &mut dyn FnMut(&Charge<'_>)) {
        let Self { run, log, outcome, book, during: (since, until) } = *self;
        let Some(Event::Created(created)) = log.first().map(|first| &first.event) else { return };
        let is_asked = |at: Timestamp| since.is_none_or(|since| since <= at) && until.is_none_or(|until| at < until);
        let mut open = BTreeMap::new();
        for Recorded { at, event, .. } in log {
            if let Event::Reserved(reserved) = event {
                open.insert(reserved.reservation.number, (*at, &**reserved));
            }
            let Event::Settled(settled) = event else { continue };
            let Some((began, reserved)) = open.remove(&settled.reservation.number) else { continue };
            if !is_asked(began) || is_free_tool(reserved, settled) {
                continue;
            }
            let by = charged_by(reserved, settled, *at, book);
            let by = by.as_ref();
            let lines = by.map_or_else(|| vec![whole(settled)], |by| by.itemised.lines.clone());
            for (line, is_first) in lines.into_iter().zip(std::iter::once(true).chain(std::iter::repeat(false))) {
                let at = began;
                take(&Charge { run, created, reserved, at, settled, by, line, grain, is_first, outcome });
            }
        }
    }
}

/// What nobody bills: builtins, say.
fn is_free_tool(reserved: &Reserved, settled: &Settled) -> bool {
    matches!(reserved.call, Call::Tool { .. }) && settled.bill.is_zero()
}

const fn whole(settled: &Settled) -> Line {
    Line { meter: Meter::Call, count: 1, unit: settled.bill }
}

/// A bill's lines, where they are known and add up to it.
fn charged_by(reserved: &Reserved, settled: &Settled, at: Timestamp, book: &PriceBook) -> Option<ChargedBy> {
    let (Call::Model(call), Some(usage), CostSource::Reported) = (&reserved.call, &settled.usage, settled.source)
    else {
        return None;
    };
    let told = Told::of(&settled.outcome);
    let during = During { from: Timestamp(at.0.saturating_sub(settled.latency.0)), to: at };
    let served = Served { during: Some(during), ..told.served };
    let (row, itemised) = book.itemise(book.find_version(&call.price)?, usage, told.answering, served, at)?;
    // What was used without a line, such as nothing at all, is one request.
    let is_whole = itemised.total() == settled.bill && !itemised.lines.is_empty();
    is_whole.then(|| ChargedBy { price: row.id.clone(), model: row.model.clone(), itemised })
}

fn write_row(fields: impl Iterator<Item = Option<String>>, out: &mut String) {
    for (index, field) in fields.enumerate() {
        if index > 0 {
            out.push(',');
        }
        field.iter().for_each(|field| push_field(field, out));
    }
    out.push('\n');
}
