//! What a run can be expected to cost (LEDGER rule 8): the agent's word, or what its last runs cost, or its load line at
//! what calls of its models cost of their bounds.

use std::collections::VecDeque;

use super::{Ledger, OpenRun};
use crate::units::Money;

/// Finished runs that are remembered for each agent.
const RING_MAX: usize = 50;
/// Finished runs from which the percentile stands in for a missing `expected_cost`.
const RUNS_TO_EXPECT: usize = 20;
/// Finished runs from which the percentile raises an expectation that is too low.
const RUNS_TO_RAISE: usize = 5;

/// The costs of an agent's last finished runs.
#[derive(Clone, Debug, Default)]
pub(super) struct Ring {
    costs: VecDeque<Money>,
    percentile_80: Money,
}

impl Ring {
    pub(super) fn from_costs(costs: Vec<Money>) -> Self {
        let mut ring = Self::default();
        costs.into_iter().for_each(|cost| ring.push(cost));
        ring
    }

    pub(super) fn push(&mut self, cost: Money) {
        if self.costs.len() == RING_MAX {
            self.costs.pop_front();
        }
        self.costs.push_back(cost);
        let mut sorted: Vec<Money> = self.costs.iter().copied().collect();
        sorted.sort_unstable();
        // The nearest-rank percentile, rounded up: in doubt, high.
        let rank = (sorted.len() * 4).div_ceil(5);
        self.percentile_80 = sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default();
    }

    pub(super) fn costs(&self) -> Vec<Money> {
        self.costs.iter().copied().collect()
    }

    fn percentile_after(&self, runs: usize) -> Option<Money> {
        (self.costs.len() >= runs).then_some(self.percentile_80)
    }
}

impl Ledger {
    /// E of rule 8, and never under what the run has settled and may need next.
    pub(super) fn expectation(&self, run: &OpenRun, settled: Money) -> Money {
        let ring = self.rings.get(&run.agent);
        let learned = |runs| ring.and_then(|ring| ring.percentile_after(runs));
        let said = run.expected.or_else(|| learned(RUNS_TO_EXPECT)).unwrap_or(run.foreseen);
        said.max(learned(RUNS_TO_RAISE).unwrap_or_default()).max(settled.plus(run.bound))
    }

    /// The highest that any agent's last runs raise an expectation to.
    pub(super) fn highest_percentile(&self) -> Money {
        self.rings.values().map(|ring| ring.percentile_80).max().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_percentile_is_the_nearest_rank_of_the_last_fifty() {
        let mut ring = Ring::default();
        assert_eq!(ring.percentile_after(1), None);
        for pico in 1..=100 {
            ring.push(Money::from_pico(pico));
        }
        assert_eq!(ring.costs().len(), 50);
        assert_eq!(ring.percentile_after(20), Some(Money::from_pico(90)));
        assert_eq!(ring.percentile_after(51), None);
    }
}
