//! Cost by UTC day and dimension, as exact sums: what reports read.
//!
//! An attempt counts on the day of its *reservation*, as in the accounts, so that the sums equal theirs; a run's end
//! counts on its own day. What a run was worth counts there too, whenever it is said, beside what the run cost with all
//! below it. A child's attempts count for the child's own agent, under its root's labels, and nowhere else:
//! its `ChildEnded` adds nothing. Custom labels are deliberately no dimensions.

mod fold;
mod worth;

pub use fold::{Counted, Row, fold};
pub use worth::{QualitySums, RollupWorth, Worth};

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::domain::event::{CacheFacts, Created, EndState};
use crate::domain::pricing::{Fees, Usage};
use crate::domain::tightness::Tightness;
use crate::ids::{AgentName, ModelName};
use crate::units::{Millis, Money, Timestamp, Tokens};

/// Milliseconds of a UTC day.
const DAY_MS: u64 = 86_400_000;

/// The events' version from which on threads are a dimension.
const THREADS_FROM_VERSION: u16 = 2;

/// A UTC day, counted from 1970-01-01.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Day(pub u32);

impl Day {
    /// The day of a point in time.
    #[must_use]
    pub fn of(at: Timestamp) -> Self {
        Self(u32::try_from(at.0 / DAY_MS).unwrap_or(u32::MAX))
    }

    /// The day of a date, such as `2026-11-23`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        format!("{text}T00:00:00Z").parse().ok().map(Self::of)
    }

    /// When it begins.
    #[must_use]
    pub fn start(self) -> Timestamp {
        Timestamp(u64::from(self.0) * DAY_MS)
    }
}

impl std::fmt::Display for Day {
    /// `2026-11-23`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.start().to_string().get(.."2026-11-23".len()).unwrap_or_default())
    }
}

/// What costs are grouped by. Text is shared: a clone allocates nothing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Dimensions {
    /// The agent.
    pub agent: AgentName,
    /// The model asked; `None` for tools, and for the counts of ended runs. Of what a run was worth: who replied last.
    pub model: Option<ModelName>,
    /// The label `tenant`.
    pub tenant: Option<Arc<str>>,
    /// The label `feature`.
    pub feature: Option<Arc<str>>,
    /// The label `environment`.
    pub environment: Option<Arc<str>>,
    /// The label `owner`.
    pub owner: Option<Arc<str>>,
    /// The prompt's label.
    pub prompt_version: Arc<str>,
    /// The label `thread`: whose conversation it is. The store keeps it behind the row, where there is one.
    #[serde(skip)]
    pub thread: Option<Arc<str>>,
}

impl Dimensions {
    /// Those of a run, without a model.
    #[must_use]
    pub fn of(created: &Created) -> Self {
        let label = |name: &str| created.labels.get(name).map(|value| Arc::from(value.as_str()));
        Self {
            agent: created.agent.clone(),
            model: None,
            tenant: label("tenant"),
            feature: label("feature"),
            environment: label("environment"),
            owner: label("owner"),
            prompt_version: Arc::from(created.prompt_version.as_str()),
            // Before that it was a label like any other.
            thread: label("thread").filter(|_| created.version >= THREADS_FROM_VERSION),
        }
    }

    /// The same with a model.
    #[must_use]
    pub fn with_model(&self, model: Option<ModelName>) -> Self {
        Self { model, ..self.clone() }
    }
}

/// The sums of one day and one tuple of dimensions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rollup {
    /// Steps: first attempts.
    pub calls: u64,
    /// Attempts, retries and fallbacks included.
    pub attempts: u64,
    /// Tokens by class, of attempts with reported usage.
    pub usage: Usage,
    /// Settled, unknown money included.
    pub settled: Money,
    /// The part of `settled` that is not known.
    pub unknown: Money,
    /// The part of `settled` that later attempts of a step cost.
    pub retry_cost: Money,
    /// Time from dispatch to the end, summed over attempts that are over.
    pub latency: Millis,
    /// Attempts that are over: what `latency` is divided by.
    pub over: u64,
    /// Runs that ended, by state.
    pub ended: BTreeMap<EndState, u64>,
    /// Attempts whose reported usage contradicts itself. The store keeps it behind the row, where there are some.
    #[serde(skip)]
    pub mismatched: u64,
    /// What caches did. The store keeps it behind the row, where they did something.
    #[serde(skip)]
    pub caches: RollupCaches,
    /// How tight the bounds of its calls were. The store keeps it behind the row, where there is something to say.
    #[serde(skip)]
    pub tightness: Tightness,
    /// What runs were worth, and how long it took. The store keeps it behind the row, where there is something to say.
    #[serde(skip)]
    pub worth: RollupWorth,
    /// Attempts that failed. The store keeps it behind the row, where there is something to say.
    #[serde(skip)]
    pub failures: RollupFailures,
}

impl Rollup {
    /// Adds others.
    pub fn add(&mut self, other: &Self) {
        self.calls += other.calls;
        self.attempts += other.attempts;
        self.usage = self.usage.plus(&other.usage);
        self.settled = self.settled.plus(other.settled);
        self.unknown = self.unknown.plus(other.unknown);
        self.retry_cost = self.retry_cost.plus(other.retry_cost);
        self.latency = self.latency.plus(other.latency);
        self.over += other.over;
        for (state, count) in &other.ended {
            *self.ended.entry(*state).or_default() += count;
        }
        self.mismatched += other.mismatched;
        self.caches = self.caches.plus(other.caches);
        self.tightness.add(&other.tightness);
        self.worth.add(&other.worth);
        self.failures = self.failures.plus(other.failures);
    }
}

/// Attempts that failed, of runs that were made since that is counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RollupFailures {
    /// Attempts that are over, but for those that we broke off and those that a kept answer spared.
    pub over: u64,
    /// Those of them that gave nothing, or of tools an error.
    pub failed: u64,
}

impl RollupFailures {
    /// These and others together.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self { over: self.over + other.over, failed: self.failed + other.failed }
    }
}

/// What caches did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RollupCaches {
    /// Steps that were answered by what was kept.
    pub hits: u64,
    /// What the first answers had cost that were given again.
    pub avoided: Money,
    /// What input that providers' caches held would have cost more, fresh.
    pub saved: Money,
}

impl RollupCaches {
    /// These and others together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            hits: self.hits + other.hits,
            avoided: self.avoided.plus(other.avoided),
            saved: self.saved.plus(other.saved),
        }
    }

    /// Those of a row; `None` where they did nothing.
    #[must_use]
    pub fn of(rollup: &Rollup) -> Option<Self> {
        (rollup.caches != Self::default()).then_some(rollup.caches)
    }

    fn of_attempt(cache: &CacheFacts) -> Self {
        let avoided = cache.hit.map_or(Money::ZERO, |hit| hit.avoided);
        Self { hits: u64::from(cache.hit.is_some()), avoided, saved: cache.saved }
    }
}

/// Sums that came later than the others: what the store keeps behind a row. A field more is a new struct behind this one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RollupMore {
    mismatched: u64,
    other: Tokens,
    web_search: u32,
    web_fetch: u32,
    maps: u32,
    container: u32,
    other_fees: u32,
}

impl RollupMore {
    /// Those of a row; `None` where they say nothing.
    #[must_use]
    pub fn of(rollup: &Rollup) -> Option<Self> {
        let Fees { web_search, web_fetch, maps, container, other: other_fees } = rollup.usage.fees;
        let (mismatched, other) = (rollup.mismatched, rollup.usage.other);
        let more = Self { mismatched, other, web_search, web_fetch, maps, container, other_fees };
        (more != Self::default()).then_some(more)
    }

    /// Puts them where they belong.
    pub fn add_to(self, rollup: &mut Rollup) {
        let Self { mismatched, other, web_search, web_fetch, maps, container, other_fees } = self;
        rollup.mismatched = mismatched;
        rollup.usage.other = other;
        rollup.usage.fees = Fees { web_search, web_fetch, maps, container, other: other_fees };
    }
}

/// How tight the bounds of each model's calls were, and what its calls cost whose cost isn't known.
#[must_use]
pub fn by_model<'a>(
    rollups: impl IntoIterator<Item = &'a (RollupKey, Rollup)>,
) -> BTreeMap<&'a ModelName, (Tightness, Money)> {
    let mut models: BTreeMap<&ModelName, (Tightness, Money)> = BTreeMap::new();
    for ((_, dimensions), rollup) in rollups {
        if let Some(model) = &dimensions.model {
            let (tightness, unknown) = models.entry(model).or_default();
            tightness.add(&rollup.tightness);
            *unknown = unknown.plus(rollup.unknown);
        }
    }
    models
}

/// Rows with those of all threads together: there may be as many threads as runs, and few reports ask for them.
#[derive(Clone, Debug, Default)]
pub struct Together(BTreeMap<RollupKey, Rollup>);

impl Together {
    /// Adds a row.
    pub fn add(&mut self, (day, dimensions): RollupKey, rollup: Rollup) {
        match self.0.entry((day, Dimensions { thread: None, ..dimensions })) {
            Entry::Vacant(vacant) => drop(vacant.insert(rollup)),
            Entry::Occupied(mut sum) => sum.get_mut().add(&rollup),
        }
    }

    /// All of them.
    #[must_use]
    pub fn rows(self) -> Vec<(RollupKey, Rollup)> {
        self.0.into_iter().collect()
    }
}

/// One row: its day, its dimensions.
pub type RollupKey = (Day, Dimensions);
