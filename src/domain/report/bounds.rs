//! How tight the bounds of calls were, by model.

use serde::{Deserialize, Serialize};

use crate::domain::rollup::{Rollup, RollupKey, by_model};
use crate::domain::tightness::{Ratio, Tightness};
use crate::ids::ModelName;
use crate::units::{Money, Tokens};

/// Every model with calls whose usage is known. Ratios are in percent: 125 is a bound of a quarter more than what was used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BoundTable {
    /// By the models' names.
    pub bounds: Vec<BoundRow>,
}

/// One model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BoundRow {
    /// The model.
    pub model: ModelName,
    /// Its calls.
    pub calls: u64,
    /// Tokens of input.
    pub input: BoundRatio<Tokens>,
    /// Tokens of output.
    pub output: BoundRatio<Tokens>,
    /// What was reserved against what was billed.
    pub money: BoundRatio<Money>,
}

/// One ratio, with what it is of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BoundRatio<T> {
    /// Calls that used something.
    pub calls: u64,
    /// All bounds.
    pub bound: T,
    /// All that was used.
    pub used: T,
    /// The one to the other.
    pub overall_percent: Option<u32>,
    /// The tightest.
    pub least_percent: Option<u32>,
    /// What half of the calls were not looser than.
    pub p50_percent: Option<u32>,
    /// What 95 of 100 were not looser than.
    pub p95_percent: Option<u32>,
    /// The loosest.
    pub most_percent: Option<u32>,
}

impl<T> BoundRatio<T> {
    fn of(ratio: &Ratio, unit: impl Fn(u128) -> T) -> Self {
        let (bound, used) = ratio.sums();
        Self {
            calls: ratio.count(),
            bound: unit(bound),
            used: unit(used),
            overall_percent: ratio.overall(),
            least_percent: ratio.extremes().map(|(least, _)| least),
            p50_percent: ratio.percentile(50),
            p95_percent: ratio.percentile(95),
            most_percent: ratio.extremes().map(|(_, most)| most),
        }
    }
}

impl BoundRow {
    /// True where a bound was too low.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        let least = [self.input.least_percent, self.output.least_percent, self.money.least_percent];
        least.iter().flatten().any(|percent| *percent < 100)
    }
}

impl BoundTable {
    /// Sums rollups by model, of those whose name has a part; an empty one is in every name.
    #[must_use]
    pub fn of<'a>(rollups: impl IntoIterator<Item = &'a (RollupKey, Rollup)>, part: &str) -> Self {
        let sums = by_model(rollups).into_iter().map(|(model, (sums, _))| (model, sums));
        let part = part.to_lowercase();
        let fits = |model: &ModelName| model.as_str().to_lowercase().contains(&part);
        let known = sums.filter(|(model, sums)| sums.input.count() > 0 && fits(model));
        let tokens = |count: u128| Tokens(u64::try_from(count).unwrap_or(u64::MAX));
        let row = |(model, sums): (&ModelName, Tightness)| BoundRow {
            model: model.clone(),
            calls: sums.input.count(),
            input: BoundRatio::of(&sums.input, tokens),
            output: BoundRatio::of(&sums.output, tokens),
            money: BoundRatio::of(&sums.money, Money::from_pico),
        };
        Self { bounds: known.map(row).collect() }
    }
}
