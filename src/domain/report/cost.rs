//! Cost by dimension: rollups, grouped. Rows add up to the total, and the total to the accounts, exactly.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize};

use super::document::TokenDocument;
use crate::domain::event::EndState;
use crate::domain::pricing::Usage;
use crate::domain::rollup::{Day, Dimensions, Rollup, RollupKey};
use crate::units::{Millis, Money};

/// What cost can be grouped by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dimension {
    /// The label `tenant`.
    Tenant,
    /// The label `feature`.
    Feature,
    /// The label `environment`.
    Environment,
    /// The agent.
    Agent,
    /// The label `owner`.
    Owner,
    /// The model asked; none for tools.
    Model,
    /// The prompt's label.
    PromptVersion,
    /// The UTC day.
    Day,
    /// The label `thread`: a conversation of several runs.
    Thread,
}

impl Dimension {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Tenant,
        Self::Feature,
        Self::Environment,
        Self::Agent,
        Self::Owner,
        Self::Model,
        Self::PromptVersion,
        Self::Day,
        Self::Thread,
    ];

    /// Its name in output and docs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tenant => "tenant",
            Self::Feature => "feature",
            Self::Environment => "environment",
            Self::Agent => "agent",
            Self::Owner => "owner",
            Self::Model => "model",
            Self::PromptVersion => "prompt_version",
            Self::Day => "day",
            Self::Thread => "thread",
        }
    }

    /// The dimension of a name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|dimension| dimension.name() == name)
    }

    /// The value of a row; `None` where it has none.
    #[must_use]
    pub fn value(self, day: Day, dimensions: &Dimensions) -> Option<String> {
        let text = |value: &Option<std::sync::Arc<str>>| value.as_deref().map(str::to_owned);
        match self {
            Self::Tenant => text(&dimensions.tenant),
            Self::Feature => text(&dimensions.feature),
            Self::Environment => text(&dimensions.environment),
            Self::Agent => Some(dimensions.agent.to_string()),
            Self::Owner => text(&dimensions.owner),
            Self::Model => dimensions.model.as_ref().map(ToString::to_string),
            Self::PromptVersion => Some(dimensions.prompt_version.to_string()),
            Self::Thread => text(&dimensions.thread),
            Self::Day => Some(day.start().to_string().chars().take("2026-11-23".len()).collect()),
        }
    }
}

/// Cost by dimension.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CostTable {
    /// What it is grouped by.
    pub by: Vec<Dimension>,
    /// A row for each tuple of values: the dearest first, or by day where that is the first dimension.
    pub rows: Vec<CostRow>,
    /// All rows together.
    pub total: CostSums,
}

/// One row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CostRow {
    /// The values of the table's dimensions.
    #[serde(flatten)]
    pub values: Values,
    /// The sums.
    #[serde(flatten)]
    pub sums: CostSums,
}

/// The values of a row's dimensions, in the table's order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Values(pub Vec<(Dimension, Option<String>)>);

impl Serialize for Values {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (dimension, value) in &self.0 {
            map.serialize_entry(dimension.name(), value)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Values {
    /// Takes the dimensions among a row's keys, and leaves the sums to others.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;

        impl<'de> Visitor<'de> for Entries {
            type Value = Values;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("values by the names of dimensions")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Values, A::Error> {
                let mut values = Vec::new();
                while let Some(key) = map.next_key::<String>()? {
                    match Dimension::named(&key) {
                        Some(dimension) => values.push((dimension, map.next_value()?)),
                        None => drop(map.next_value::<IgnoredAny>()?),
                    }
                }
                Ok(Values(values))
            }
        }

        deserializer.deserialize_map(Entries)
    }
}

/// Sums of a row.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CostSums {
    /// Settled, unknown money included.
    pub settled_usd: Money,
    /// The part of it that nobody knows better than by its reservation.
    pub unknown_usd: Money,
    /// The part of it that later attempts of a step cost: retries and fallbacks.
    pub retries_usd: Money,
    /// Steps.
    pub calls: u64,
    /// Attempts, retries and fallbacks included.
    pub attempts: u64,
    /// Tokens of the attempts that reported them.
    pub tokens: TokenDocument,
    /// The average time of an attempt that is over; null where none is.
    pub latency_ms: Option<Millis>,
    /// Runs that ended, by state.
    pub ended: BTreeMap<EndState, u64>,
    /// Attempts whose reported usage contradicts itself; their money is a part of `unknown_usd`.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub mismatched: u64,
    /// Steps that were answered by what was kept, at no cost.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub cache_hits: u64,
    /// What the answers that were given again had cost.
    #[serde(default, skip_serializing_if = "is_nothing")]
    pub avoided_usd: Money,
    /// What input that providers' caches held would have cost more, fresh. What writing it cost is in `settled_usd`.
    #[serde(default, skip_serializing_if = "is_nothing")]
    pub cache_saved_usd: Money,
}

impl CostTable {
    /// Groups rollups. Dimensions that are named twice count once.
    #[must_use]
    pub fn of(by: &[Dimension], rollups: &[(RollupKey, Rollup)]) -> Self {
        let mut dimensions: Vec<Dimension> = Vec::new();
        by.iter().for_each(|dimension| {
            if !dimensions.contains(dimension) {
                dimensions.push(*dimension);
            }
        });
        let mut groups: BTreeMap<Values, Rollup> = BTreeMap::new();
        let mut total = Rollup::default();
        for ((day, of), rollup) in rollups {
            let values = dimensions.iter().map(|dimension| (*dimension, dimension.value(*day, of))).collect();
            add(groups.entry(Values(values)).or_default(), rollup);
            add(&mut total, rollup);
        }
        let mut rows: Vec<CostRow> =
            groups.into_iter().map(|(values, sums)| CostRow { values, sums: CostSums::of(&sums) }).collect();
        if dimensions.first() != Some(&Dimension::Day) {
            // Stable: rows of one cost stay in the order of their values.
            rows.sort_by_key(|row| std::cmp::Reverse(row.sums.settled_usd));
        }
        Self { by: dimensions, rows, total: CostSums::of(&total) }
    }
}

impl CostSums {
    fn of(rollup: &Rollup) -> Self {
        Self {
            settled_usd: rollup.settled,
            unknown_usd: rollup.unknown,
            retries_usd: rollup.retry_cost,
            calls: rollup.calls,
            attempts: rollup.attempts,
            tokens: TokenDocument::from(&rollup.usage),
            latency_ms: rollup.latency.0.checked_div(rollup.over).map(Millis),
            ended: rollup.ended.clone(),
            mismatched: rollup.mismatched,
            cache_hits: rollup.caches.hits,
            avoided_usd: rollup.caches.avoided,
            cache_saved_usd: rollup.caches.saved,
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
const fn is_zero(count: &u64) -> bool {
    *count == 0
}

fn is_nothing(amount: &Money) -> bool {
    amount.is_zero()
}

fn add(sum: &mut Rollup, other: &Rollup) {
    let usage: Usage = sum.usage.plus(&other.usage);
    sum.calls += other.calls;
    sum.attempts += other.attempts;
    sum.usage = usage;
    sum.settled = sum.settled.plus(other.settled);
    sum.unknown = sum.unknown.plus(other.unknown);
    sum.retry_cost = sum.retry_cost.plus(other.retry_cost);
    sum.latency = sum.latency.plus(other.latency);
    sum.over += other.over;
    sum.mismatched += other.mismatched;
    sum.caches = sum.caches.plus(other.caches);
    for (state, count) in &other.ended {
        *sum.ended.entry(*state).or_default() += count;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rollup(day: u32, tenant: Option<&str>, model: Option<&str>, settled: u64) -> (RollupKey, Rollup) {
        let dimensions = Dimensions {
            agent: "support".into(),
            model: model.map(Into::into),
            tenant: tenant.map(Into::into),
            feature: None,
            environment: None,
            owner: None,
            prompt_version: "v1".into(),
            thread: None,
        };
        let sums = Rollup {
            calls: 1,
            attempts: 2,
            settled: Money::from_micro(settled),
            unknown: Money::from_micro(settled / 2),
            retry_cost: Money::from_micro(settled / 3),
            latency: Millis(30),
            over: 2,
            ended: BTreeMap::from([(EndState::Finished, 1)]),
            ..Rollup::default()
        };
        ((Day(day), dimensions), sums)
    }

    #[test]
    fn rows_are_grouped_and_the_dearest_stands_first() {
        let rollups = [
            rollup(20_780, Some("acme"), Some("openai/a"), 5),
            rollup(20_781, Some("acme"), None, 0),
            rollup(20_781, Some("zeta"), Some("openai/a"), 9),
            rollup(20_781, None, Some("openai/a"), 1),
        ];
        let table = CostTable::of(&[Dimension::Tenant, Dimension::Tenant], &rollups);
        let text = serde_json::to_string_pretty(&table).expect("JSON");
        insta::assert_snapshot!(text);
        assert_eq!(serde_json::from_str::<CostTable>(&text).expect("it reads back"), table);
        let by_day = CostTable::of(&[Dimension::Day], &rollups);
        let days: Vec<_> = by_day.rows.iter().map(|row| row.values.0[0].1.clone().expect("a day")).collect();
        assert_eq!(days, ["2026-11-23", "2026-11-24"]);
    }

    proptest! {
        #[test]
        fn rows_add_up_to_the_total(
            drawn in prop::collection::vec((0..4_u32, 0..3_usize, 0..3_usize, 0..u64::from(u32::MAX)), 0..40),
            by in prop::sample::subsequence(Dimension::ALL.to_vec(), 0..8),
        ) {
            let names = [None, Some("a"), Some("b")];
            let rollups: Vec<_> =
                drawn.iter().map(|(day, tenant, model, cost)| rollup(*day, names[*tenant], names[*model], *cost)).collect();
            let table = CostTable::of(&by, &rollups);
            let whole: Money = rollups.iter().map(|(_, rollup)| rollup.settled).sum();
            prop_assert_eq!(table.total.settled_usd, whole);
            prop_assert_eq!(table.rows.iter().map(|row| row.sums.settled_usd).sum::<Money>(), whole);
            prop_assert_eq!(table.rows.iter().map(|row| row.sums.unknown_usd).sum::<Money>(), table.total.unknown_usd);
            prop_assert_eq!(table.rows.iter().map(|row| row.sums.retries_usd).sum::<Money>(), table.total.retries_usd);
            prop_assert_eq!(table.rows.iter().map(|row| row.sums.attempts).sum::<u64>(), table.total.attempts);
        }
    }
}
