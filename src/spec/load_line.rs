//! The load line: the most that one run of an agent can cost, computed from its plan before anything runs.
//!
//! It is the smaller of the `cost` limit and what the counts of calls allow at each call's worst case. The landing
//! call adds nothing: it keeps back one step, one model call and one attempt of those counts (LEDGER rule 6), and its
//! request is no larger than any other's. Tools are tried once for each step; what a restart issues again stays under
//! the `cost` limit. An agent's counts are those of its whole tree, so that the worst case of one call is taken over
//! all its stages and all agents below it; caps of stages and of those agents could only lower the line.
//!
//! Deliberately absent: the limits `tokens`, `input_tokens` and `output_tokens` of the run beyond one call. They could
//! only lower the line.

use crate::domain::limits::{AtLimit, LimitKind, Limits};
use crate::domain::message::WebSearch;
use crate::domain::plan::{ModelPlan, Plan};
use crate::domain::pricing::{PriceBook, Terms};
use crate::ids::ModelName;
use crate::units::{Money, Timestamp, Tokens};

/// The most that one run can cost, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadLine {
    /// The line.
    pub amount: Money,
    /// The limits that make it what it is: without them it would be higher.
    pub binds: Vec<LimitKind>,
    /// What the counts of calls allow, before the `cost` limit.
    pub by_counts: Money,
    /// The worst case of one model call, over all models that may be asked; `None` where none has a price.
    pub worst_call: Option<WorstCall>,
    /// The most tries of model calls in the costliest mix.
    pub model_tries: u64,
    /// The most tool calls in that mix.
    pub tool_calls: u64,
    /// The price of the dearest tool.
    pub dearest_tool: Money,
    /// The worst case of the landing call; nothing with `at_limit = "stop"`.
    pub landing: Money,
    /// Models without a price: the gate refuses them.
    pub unpriced: Vec<ModelName>,
}

/// The most input that a call may count, and what it costs at worst.
pub type Worst = Option<(Tokens, Money)>;

/// The dearest call that the plan allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorstCall {
    /// The model.
    pub model: ModelName,
    /// The bound of its input.
    pub input: Tokens,
    /// Its output cap.
    pub output: u32,
    /// What it costs.
    pub cost: Money,
}

/// Computes the load line of a plan. `price` gives the most input that one call of a model may count, and its worst case,
/// with at most so many tokens of input and output, searched by the provider or not; `None` where it has no price.
#[must_use]
pub fn load_line(plan: &Plan, price: impl Fn(&ModelName, Tokens, u32, Option<WebSearch>) -> Worst) -> LoadLine {
    let (worst_call, unpriced) = worst_call(plan, &price);
    let each_try = worst_call.as_ref().map_or(Money::ZERO, |call| call.cost);
    let dearest_tool = tree(plan).iter().flat_map(|plan| plan.tools.values()).map(|tool| tool.price).max();
    let dearest_tool = dearest_tool.unwrap_or_default();
    let counts = Counts::of(plan);
    let (by_counts, model_tries, tool_calls) = counts.costliest(each_try, dearest_tool);
    let cost = plan.limits.cost;
    let mut binds = Vec::new();
    if cost <= by_counts {
        binds.push(LimitKind::Cost);
    }
    if by_counts <= cost {
        binds.extend(counts.binding(each_try, dearest_tool));
    }
    LoadLine {
        amount: cost.min(by_counts),
        binds,
        by_counts,
        landing: landing(plan, &price),
        worst_call,
        model_tries,
        tool_calls,
        dearest_tool,
        unpriced,
    }
}

/// The most that one run of an agent can cost, at the prices of a time.
#[must_use]
pub fn load_line_of(plan: &Plan, book: &PriceBook, now: Timestamp) -> LoadLine {
    load_line_at(plan, book, now, |_, worst| worst)
}

/// The load line of calls that cost what `expects` makes of a model's worst case.
#[must_use]
pub fn load_line_at(
    plan: &Plan,
    book: &PriceBook,
    now: Timestamp,
    expects: impl Fn(&ModelName, Money) -> Money,
) -> LoadLine {
    let terms = Terms::default().asking(plan.asks_to_keep());
    load_line(plan, |model, input, output, search| {
        let row = book.find(model, now)?;
        let (input, bound) = match search {
            Some(search) => row.bound_searching(terms, search).ok()?,
            None => (input, row.bound(input, terms)),
        };
        Some((input, expects(model, bound.worst_case(output))))
    })
}

/// A plan and all below it.
fn tree(plan: &Plan) -> Vec<&Plan> {
    let mut plans = vec![plan];
    let mut at = 0;
    while let Some(next) = plans.get(at) {
        let below: Vec<&Plan> = next.agents.values().map(|below| &**below).collect();
        plans.extend(below);
        at += 1;
    }
    plans
}

/// The largest input that one request may have inside these limits.
fn input_bound(limits: &Limits, most: Tokens) -> Tokens {
    [limits.input_tokens, limits.tokens].into_iter().flatten().fold(most, Tokens::min)
}

/// One way in which a plan asks models.
struct Asking<'a> {
    model: &'a ModelPlan,
    /// Who sums up what doesn't fit, where the agent names somebody.
    sums_up: Option<&'a ModelName>,
    input: Tokens,
}

/// Every way in which a run of a plan, or one below it, asks models; its own first.
fn askings(plan: &Plan) -> Vec<Asking<'_>> {
    let (mut askings, mut open) = (Vec::new(), vec![(plan, Tokens(u64::MAX))]);
    while let Some((plan, most)) = open.pop() {
        let whole = input_bound(&plan.limits, most);
        let sums_up = plan.context.summary_model.as_ref();
        askings.push(Asking { model: &plan.model, sums_up, input: whole.min(plan.context.tokens) });
        for stage in &plan.stages {
            if let Some(model) = stage.kind.call().and_then(|call| call.model.as_ref()) {
                let input = input_bound(plan.limits_of(&stage.id), whole).min(plan.context.tokens);
                askings.push(Asking { model, sums_up, input });
            }
        }
        open.extend(plan.agents.values().map(|below| (&**below, whole)));
    }
    askings
}

fn worst_call(
    plan: &Plan,
    price: &impl Fn(&ModelName, Tokens, u32, Option<WebSearch>) -> Worst,
) -> (Option<WorstCall>, Vec<ModelName>) {
    let (mut worst, mut unpriced): (Option<WorstCall>, Vec<ModelName>) = (None, Vec::new());
    for Asking { model: asked, sums_up, input } in askings(plan) {
        let own = asked.models().into_iter().map(|model| (model, asked.web_search));
        for (model, search) in own.chain(sums_up.map(|model| (model, None))) {
            let output = asked.max_output_tokens;
            match price(model, input, output, search) {
                Some((input, cost)) if worst.as_ref().is_none_or(|worst| cost > worst.cost) => {
                    worst = Some(WorstCall { model: model.clone(), input, output, cost });
                }
                Some(_) => {}
                None if unpriced.contains(model) => {}
                None => unpriced.push(model.clone()),
            }
        }
    }
    (worst, unpriced)
}

/// The worst case of the landing call on the primary model: the conversation that it may carry, and the instructions.
fn landing(plan: &Plan, price: &impl Fn(&ModelName, Tokens, u32, Option<WebSearch>) -> Worst) -> Money {
    let limits = &plan.limits;
    let pots = plan.context.history.plus(plan.context.documents).plus(plan.context.tool_output);
    let instructions = plan.context.tokens.left_after(pots);
    let input = instructions.plus(Tokens(limits.landing_tokens.into())).min(input_bound(limits, plan.context.tokens));
    match (limits.at_limit, plan.model.candidates.first()) {
        (AtLimit::Land, Some(model)) => {
            price(model, input, limits.landing_output_tokens, None).map_or(Money::ZERO, |(_, cost)| cost)
        }
        (AtLimit::Land, None) | (AtLimit::Stop, _) => Money::ZERO,
    }
}

/// The limits that count calls.
#[derive(Clone, Copy)]
struct Counts {
    steps: u64,
    model_calls: u64,
    tool_calls: u64,
    attempts: u64,
    tries_of_step: u64,
}

impl Counts {
    fn of(plan: &Plan) -> Self {
        let (limits, tree) = (&plan.limits, tree(plan));
        Self {
            steps: limits.steps.into(),
            model_calls: limits.model_calls.into(),
            tool_calls: if tree.iter().all(|plan| plan.tools.is_empty()) { 0 } else { limits.tool_calls.into() },
            attempts: limits.attempts.into(),
            tries_of_step: tree.iter().map(|plan| plan.retry.attempts).max().unwrap_or(1).into(),
        }
    }

    /// The costliest mix of model and tool calls: its cost, tries of model calls, and tool calls.
    ///
    /// With `m` model calls the cost is `min(m·tries, attempts)·W + min(tool calls, steps − m)·P`: straight between the
    /// few points where a limit begins to bind, so that only those are tried.
    fn costliest(self, each_try: Money, each_tool: Money) -> (Money, u64, u64) {
        let most = self.model_calls.min(self.steps);
        let full = self.attempts / self.tries_of_step.max(1);
        let points = [0, most, full, full + 1, self.steps.saturating_sub(self.tool_calls)];
        let mix = |calls: u64| {
            let calls = calls.min(most);
            let tries = calls.saturating_mul(self.tries_of_step).min(self.attempts);
            let tools = self.tool_calls.min(self.steps - calls);
            (each_try.times(tries).plus(each_tool.times(tools)), tries, tools)
        };
        points.into_iter().map(mix).max().unwrap_or_default()
    }

    /// The counts that hold the cost down: it would be higher if one of them were larger.
    fn binding(self, each_try: Money, each_tool: Money) -> Vec<LimitKind> {
        let (cost, ..) = self.costliest(each_try, each_tool);
        // Several may bind together; each is then named.
        let least = self.attempts.min(self.model_calls.min(self.steps).saturating_mul(self.tries_of_step));
        let reaches = |calls: u64| !each_try.is_zero() && calls.saturating_mul(self.tries_of_step) <= least;
        let larger = |grown: Self| grown.costliest(each_try, each_tool).0 > cost;
        let candidates = [
            (LimitKind::Steps, reaches(self.steps) || larger(Self { steps: self.steps + 1, ..self })),
            (
                LimitKind::ModelCalls,
                reaches(self.model_calls) || larger(Self { model_calls: self.model_calls + 1, ..self }),
            ),
            (LimitKind::ToolCalls, larger(Self { tool_calls: self.tool_calls + 1, ..self })),
            (
                LimitKind::Attempts,
                (!each_try.is_zero() && self.attempts <= least) || larger(Self { attempts: self.attempts + 1, ..self }),
            ),
        ];
        candidates.into_iter().filter(|(_, binds)| *binds).map(|(kind, _)| kind).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn by_hand(counts: Counts, model: u64, tool: u64) -> u64 {
        let most = counts.model_calls.min(counts.steps);
        let mix = |calls: u64| {
            (calls * counts.tries_of_step).min(counts.attempts) * model
                + counts.tool_calls.min(counts.steps - calls) * tool
        };
        (0..=most).map(mix).max().unwrap_or_default()
    }

    #[test]
    fn the_few_points_find_the_costliest_mix_of_all() {
        let small = [1_u64, 2, 3, 5, 8];
        for (steps, model_calls) in small.iter().flat_map(|a| small.iter().map(move |b| (*a, *b))) {
            for (tool_calls, attempts) in small.iter().flat_map(|a| small.iter().map(move |b| (*a, *b))) {
                for (tries_of_step, model, tool) in [(1, 7, 3), (2, 3, 7), (3, 5, 5), (3, 1, 9), (2, 0, 4)] {
                    let counts = Counts { steps, model_calls, tool_calls, attempts, tries_of_step };
                    let (cost, ..) = counts.costliest(Money::from_micro(model), Money::from_micro(tool));
                    assert_eq!(cost, Money::from_micro(by_hand(counts, model, tool)));
                }
            }
        }
    }

    #[test]
    fn the_limit_that_holds_the_cost_down_is_named() {
        let counts = Counts { steps: 20, model_calls: 20, tool_calls: 40, attempts: 40, tries_of_step: 3 };
        let binds = counts.binding(Money::from_micro(5), Money::ZERO);
        assert_eq!(binds, [LimitKind::Attempts]);
        let counts = Counts { steps: 6, model_calls: 6, attempts: 40, ..counts };
        assert_eq!(counts.binding(Money::from_micro(5), Money::ZERO), [LimitKind::Steps, LimitKind::ModelCalls]);
    }
}
