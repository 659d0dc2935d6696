//! Cost by dimension: rollups, grouped. Rows add up to the total, and the total to the accounts, exactly.

mod sums;

pub use sums::{CostSums, FailureSums, QualityLine, UnitSums, WorthSums};

use std::collections::BTreeMap;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value, json};

use crate::domain::rollup::{Day, Dimensions, Rollup, RollupKey};
use crate::units::{Money, MoneyDelta};

/// What cost can be grouped by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
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
            Self::Day => Some(day.to_string()),
        }
    }
}

/// The most changes that a table names.
pub const MOVERS_MAX: usize = 10;
const _: () = assert!(MOVERS_MAX == 10, "what is told of `movers` says so");

/// Cost by dimension.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CostTable {
    /// What it is grouped by.
    pub by: Vec<Dimension>,
    /// A row for each tuple of values: the dearest first, or by day where that is the first dimension.
    pub rows: Vec<CostRow>,
    /// All rows together.
    pub total: CostSums,
    /// The period before, where it is compared with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<CostPeriod>,
    /// What moved most since then, the largest change first; at most 10.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub movers: Vec<Mover>,
}

/// One row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CostRow {
    /// The values of the table's dimensions.
    #[serde(flatten)]
    pub values: Values,
    /// The sums.
    #[serde(flatten)]
    pub sums: CostSums,
    /// What it cost in the period before, where the table is compared with one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before_usd: Option<Money>,
}

/// The values of a row's dimensions, in the table's order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Values(pub Vec<(Dimension, Option<String>)>);

impl JsonSchema for Values {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Values".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let value = |dimension: Dimension| {
            let description = format!("The `{}`, where it is grouped by that.", dimension.name());
            (dimension.name().to_owned(), json!({ "type": ["string", "null"], "description": description }))
        };
        let properties: Map<String, Value> = Dimension::ALL.into_iter().map(value).collect();
        json_schema!({ "type": "object", "properties": properties })
    }
}

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

/// A period, in whole UTC days, and what it came to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CostPeriod {
    /// Its first day.
    pub since: String,
    /// Its last day.
    pub until: String,
    /// All of it.
    pub total: CostSums,
}

/// What moved most from one period to the next.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Mover {
    /// The values of the table's dimensions.
    #[serde(flatten)]
    pub values: Values,
    /// What it cost in the period before.
    pub before_usd: Money,
    /// What it costs now.
    pub now_usd: Money,
    /// By how much more, or less.
    pub change_usd: MoneyDelta,
}

/// The first and the last day of a period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Days {
    /// The first.
    pub from: Day,
    /// The last.
    pub to: Day,
}

impl Days {
    /// As many days, right before.
    #[must_use]
    pub fn before(self) -> Self {
        let length = self.to.0.saturating_sub(self.from.0);
        let to = self.from.0.saturating_sub(1);
        Self { from: Day(to.saturating_sub(length)), to: Day(to) }
    }
}

impl CostTable {
    /// Groups rollups. Dimensions that are named twice count once.
    #[must_use]
    pub fn of<'a>(by: &[Dimension], rollups: impl IntoIterator<Item = &'a (RollupKey, Rollup)>) -> Self {
        let (dimensions, groups) = grouped(by, rollups);
        let total = together(&groups);
        let rows = groups
            .into_iter()
            .map(|(values, sums)| CostRow { values, sums: CostSums::of(&sums), before_usd: None })
            .collect();
        let mut table = Self { by: dimensions, rows, total: CostSums::of(&total), before: None, movers: Vec::new() };
        if table.by.first() != Some(&Dimension::Day) {
            // Stable: rows of one cost stay in the order of their values.
            table.rows.sort_by_key(|row| std::cmp::Reverse(row.sums.settled_usd));
        }
        table
    }

    /// The same beside the rollups of a period before. What cost something in one of the two has a row.
    #[must_use]
    pub fn against<'a>(mut self, days: Days, before: impl IntoIterator<Item = &'a (RollupKey, Rollup)>) -> Self {
        let (_, mut groups) = grouped(&self.by, before);
        let total = CostSums::of(&together(&groups));
        for row in &mut self.rows {
            row.before_usd = Some(groups.remove(&row.values).map_or(Money::ZERO, |sums| sums.settled));
        }
        let gone = groups.into_iter().map(|(values, sums)| CostRow {
            values,
            sums: CostSums::default(),
            before_usd: Some(sums.settled),
        });
        self.rows.extend(gone);
        self.movers = self.rows.iter().filter_map(Mover::of).collect();
        self.movers.sort_by_key(|mover| std::cmp::Reverse(mover.change_usd.pico().unsigned_abs()));
        self.movers.truncate(MOVERS_MAX);
        self.before = Some(CostPeriod { since: days.from.to_string(), until: days.to.to_string(), total });
        self
    }
}

impl Mover {
    /// What a row changed by; `None` where it didn't.
    fn of(row: &CostRow) -> Option<Self> {
        let (before_usd, now_usd) = (row.before_usd?, row.sums.settled_usd);
        let change_usd = now_usd.minus(before_usd);
        (change_usd != MoneyDelta::ZERO).then(|| Self { values: row.values.clone(), before_usd, now_usd, change_usd })
    }
}

/// The dimensions, each once, and the sums of each tuple of their values.
fn grouped<'a>(
    by: &[Dimension],
    rollups: impl IntoIterator<Item = &'a (RollupKey, Rollup)>,
) -> (Vec<Dimension>, BTreeMap<Values, Rollup>) {
    let mut dimensions: Vec<Dimension> = Vec::new();
    for dimension in by {
        if !dimensions.contains(dimension) {
            dimensions.push(*dimension);
        }
    }
    let mut groups: BTreeMap<Values, Rollup> = BTreeMap::new();
    for ((day, of), rollup) in rollups {
        let values = dimensions.iter().map(|dimension| (*dimension, dimension.value(*day, of))).collect();
        groups.entry(Values(values)).or_default().add(rollup);
    }
    (dimensions, groups)
}

/// Those of all groups.
fn together(groups: &BTreeMap<Values, Rollup>) -> Rollup {
    let mut total = Rollup::default();
    groups.values().for_each(|rollup| total.add(rollup));
    total
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::event::EndState;
    use crate::domain::rollup::{Together, by_model};
    use crate::units::Millis;

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

        #[test]
        fn who_doesnt_ask_for_threads_is_told_the_same_of_them_together(
            drawn in prop::collection::vec((0..4_u32, 0..3_usize, 0..3_usize, 0..u64::from(u32::MAX)), 0..40),
            mut by in prop::sample::subsequence(Dimension::ALL.to_vec(), 0..8),
        ) {
            by.retain(|dimension| *dimension != Dimension::Thread);
            let names = [None, Some("a"), Some("b")];
            let rows: Vec<_> = drawn.iter().map(|(day, model, thread, cost)| {
                let ((day, dimensions), mut rollup) = rollup(*day, None, names[*model], *cost);
                rollup.tightness.money.record(u128::from(*cost), 7);
                ((day, Dimensions { thread: names[*thread].map(Into::into), ..dimensions }), rollup)
            }).collect();
            let mut together = Together::default();
            rows.iter().cloned().for_each(|(key, rollup)| together.add(key, rollup));
            let together = together.rows();
            prop_assert!(together.len() <= 12 && together.iter().all(|((_, of), _)| of.thread.is_none()));
            prop_assert_eq!(CostTable::of(&by, &together), CostTable::of(&by, &rows));
            prop_assert_eq!(by_model(&together), by_model(&rows));
        }
    }
}
