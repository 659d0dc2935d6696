//! What runs can be expected to cost that nobody has said anything of: the load line at what calls of its models cost of
//! their bounds (`domain/tightness.rs`). Only who starts is decided by it.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use super::Agent;
use crate::domain::pricing::PriceBook;
use crate::domain::rollup::{Day, by_model};
use crate::domain::tightness::Tightness;
use crate::ids::{ModelName, PlanHash};
use crate::spec::load_line::load_line_at;
use crate::store::Store;
use crate::units::{Millis, Money, Timestamp};

/// How long what was read of the store is used.
const READ_EACH: Millis = Millis::from_secs(600);
/// The days whose calls are looked at, today included: prices and prompts change.
const DAYS: u32 = 7;

/// What was learned, and what it says of each plan. Read anew from time to time.
#[derive(Default)]
pub(crate) struct Foresight(Mutex<Option<Learned>>);

struct Learned {
    at: Timestamp,
    /// Of each model its ratios, and what calls cost whose cost isn't known.
    models: BTreeMap<ModelName, (Tightness, Money)>,
    lines: BTreeMap<PlanHash, Money>,
}

impl Foresight {
    /// What one run of an agent can be expected to cost; `None` where the agent says it or the store can't be read.
    pub(super) fn of(&self, store: &Store, book: &PriceBook, agent: &Agent, now: Timestamp) -> Option<Money> {
        if agent.plan.limits.expected_cost.is_some() {
            return None;
        }
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.as_ref().is_none_or(|known| now.since(known.at) >= READ_EACH) {
            *known = Learned::read(store, now);
        }
        let Learned { models, lines, .. } = known.as_mut()?;
        let expects = |model: &ModelName, worst: Money| match models.get(model) {
            Some((tightness, unknown)) => tightness.expects(*unknown, worst),
            None => worst,
        };
        let line = lines.entry(agent.hash.clone());
        Some(*line.or_insert_with(|| load_line_at(&agent.plan, book, now, expects).amount))
    }
}

impl Learned {
    fn read(store: &Store, now: Timestamp) -> Option<Self> {
        let today = Day::of(now);
        let days = store.rollups_kept(Day(today.0.saturating_sub(DAYS - 1)), today);
        let days = days.inspect_err(|error| tracing::warn!(%error, "what calls cost can't be read")).ok()?;
        let models = by_model(days.iter().flat_map(|rows| rows.iter()));
        let models = models.into_iter().map(|(model, known)| (model.clone(), known)).collect();
        Some(Self { at: now, models, lines: BTreeMap::new() })
    }
}
