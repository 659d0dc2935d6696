//! Limits: built-in defaults, `[defaults.limits]` over them, the agent's `[limits]` over those, none above
//! `[ceilings.limits]`.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use crate::domain::limits::{AtLimit, Declared, LimitKind, Limits};
use crate::spec::fault::{Faults, Source, code};
use crate::spec::reader::{At, Node};
use crate::units::{Millis, Money, Timestamp, Tokens, grouped};

/// A limit's value. Two values of one kind compare; a larger one is looser.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LimitValue {
    /// A number of things.
    Count(u64),
    /// Dollars.
    Money(Money),
    /// A length of time.
    Time(Millis),
    /// A point in time.
    Instant(Timestamp),
}

impl fmt::Display for LimitValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => f.pad(&grouped(*count)),
            Self::Money(money) => money.fmt(f),
            Self::Time(time) => time.fmt(f),
            Self::Instant(at) => at.fmt(f),
        }
    }
}

/// What no agent may exceed, and where it says so.
pub type Ceilings = BTreeMap<LimitKind, (LimitValue, Declared)>;

/// The limits that a file can set, in the order of DESIGN §5.
pub const SETTABLE: [LimitKind; 24] = [
    LimitKind::Steps,
    LimitKind::ModelCalls,
    LimitKind::ToolCalls,
    LimitKind::Attempts,
    LimitKind::Repeats,
    LimitKind::ToolErrors,
    LimitKind::Parallel,
    LimitKind::Depth,
    LimitKind::Children,
    LimitKind::Items,
    LimitKind::LandingTokens,
    LimitKind::LandingOutputTokens,
    LimitKind::Cost,
    LimitKind::Tokens,
    LimitKind::InputTokens,
    LimitKind::OutputTokens,
    LimitKind::WallTime,
    LimitKind::ModelCallTime,
    LimitKind::FirstTokenTime,
    LimitKind::ToolCallTime,
    LimitKind::BudgetWait,
    LimitKind::Deadline,
    LimitKind::OutputBytes,
    LimitKind::Expires,
];

/// One limit's value, or `None` where it is off or is none that a file sets. Printed by `check`.
#[must_use]
pub fn value(limits: &Limits, kind: LimitKind) -> Option<LimitValue> {
    let count = |count: u32| Some(LimitValue::Count(u64::from(count)));
    let tokens = |tokens: Option<Tokens>| tokens.map(|tokens| LimitValue::Count(tokens.0));
    match kind {
        LimitKind::Steps => count(limits.steps),
        LimitKind::ModelCalls => count(limits.model_calls),
        LimitKind::ToolCalls => count(limits.tool_calls),
        LimitKind::Attempts => count(limits.attempts),
        LimitKind::Repeats => count(limits.repeats),
        LimitKind::ToolErrors => count(limits.tool_errors),
        LimitKind::Parallel => count(limits.parallel),
        LimitKind::Depth => count(limits.depth),
        LimitKind::Children => count(limits.children),
        LimitKind::Items => count(limits.items),
        LimitKind::LandingTokens => count(limits.landing_tokens),
        LimitKind::LandingOutputTokens => count(limits.landing_output_tokens),
        LimitKind::Cost => Some(LimitValue::Money(limits.cost)),
        LimitKind::Tokens => tokens(limits.tokens),
        LimitKind::InputTokens => tokens(limits.input_tokens),
        LimitKind::OutputTokens => tokens(limits.output_tokens),
        LimitKind::WallTime => Some(LimitValue::Time(limits.wall_time)),
        LimitKind::ModelCallTime => Some(LimitValue::Time(limits.model_call_time)),
        LimitKind::FirstTokenTime => Some(LimitValue::Time(limits.first_token_time)),
        LimitKind::ToolCallTime => Some(LimitValue::Time(limits.tool_call_time)),
        LimitKind::BudgetWait => Some(LimitValue::Time(limits.budget_wait)),
        LimitKind::Deadline => limits.deadline.map(LimitValue::Instant),
        LimitKind::OutputBytes => Some(LimitValue::Count(limits.output_bytes)),
        LimitKind::Expires => Some(LimitValue::Time(limits.expires)),
        LimitKind::Context
        | LimitKind::ModelPolicy
        | LimitKind::Price
        | LimitKind::FrozenPrice
        | LimitKind::Switch
        | LimitKind::StalePrice
        | LimitKind::Budget
        | LimitKind::Queue
        | LimitKind::RequestsPerMinute
        | LimitKind::TokensPerMinute
        | LimitKind::Concurrent
        | LimitKind::ProviderRate
        | LimitKind::Breaker
        | LimitKind::RateQueue => None,
    }
}

/// Sets one limit and where it was declared. A value of another kind's type leaves it as it is.
pub(crate) fn set(limits: &mut Limits, kind: LimitKind, value: LimitValue, declared: Declared) {
    match value {
        LimitValue::Count(count) => set_count(limits, kind, count),
        LimitValue::Money(money) => limits.cost = money,
        LimitValue::Time(time) => set_time(limits, kind, time),
        LimitValue::Instant(at) => limits.deadline = Some(at),
    }
    limits.declared.insert(kind, declared);
}

fn set_count(limits: &mut Limits, kind: LimitKind, count: u64) {
    let place = match kind {
        LimitKind::Steps => &mut limits.steps,
        LimitKind::ModelCalls => &mut limits.model_calls,
        LimitKind::ToolCalls => &mut limits.tool_calls,
        LimitKind::Attempts => &mut limits.attempts,
        LimitKind::Repeats => &mut limits.repeats,
        LimitKind::ToolErrors => &mut limits.tool_errors,
        LimitKind::Parallel => &mut limits.parallel,
        LimitKind::Depth => &mut limits.depth,
        LimitKind::Children => &mut limits.children,
        LimitKind::Items => &mut limits.items,
        LimitKind::LandingTokens => &mut limits.landing_tokens,
        LimitKind::LandingOutputTokens => &mut limits.landing_output_tokens,
        LimitKind::Tokens => return limits.tokens = Some(Tokens(count)),
        LimitKind::InputTokens => return limits.input_tokens = Some(Tokens(count)),
        LimitKind::OutputTokens => return limits.output_tokens = Some(Tokens(count)),
        LimitKind::OutputBytes => return limits.output_bytes = count,
        LimitKind::Cost
        | LimitKind::WallTime
        | LimitKind::ModelCallTime
        | LimitKind::FirstTokenTime
        | LimitKind::ToolCallTime
        | LimitKind::BudgetWait
        | LimitKind::Deadline
        | LimitKind::Expires
        | LimitKind::Context
        | LimitKind::ModelPolicy
        | LimitKind::Price
        | LimitKind::FrozenPrice
        | LimitKind::Switch
        | LimitKind::StalePrice
        | LimitKind::Budget
        | LimitKind::Queue
        | LimitKind::RequestsPerMinute
        | LimitKind::TokensPerMinute
        | LimitKind::Concurrent
        | LimitKind::ProviderRate
        | LimitKind::Breaker
        | LimitKind::RateQueue => return,
    };
    *place = u32::try_from(count).unwrap_or(u32::MAX);
}

fn set_time(limits: &mut Limits, kind: LimitKind, time: Millis) {
    let place = match kind {
        LimitKind::WallTime => &mut limits.wall_time,
        LimitKind::ModelCallTime => &mut limits.model_call_time,
        LimitKind::FirstTokenTime => &mut limits.first_token_time,
        LimitKind::ToolCallTime => &mut limits.tool_call_time,
        LimitKind::BudgetWait => &mut limits.budget_wait,
        LimitKind::Expires => &mut limits.expires,
        LimitKind::Steps
        | LimitKind::ModelCalls
        | LimitKind::ToolCalls
        | LimitKind::Attempts
        | LimitKind::Repeats
        | LimitKind::ToolErrors
        | LimitKind::Parallel
        | LimitKind::Depth
        | LimitKind::Children
        | LimitKind::Items
        | LimitKind::LandingTokens
        | LimitKind::LandingOutputTokens
        | LimitKind::Cost
        | LimitKind::Tokens
        | LimitKind::InputTokens
        | LimitKind::OutputTokens
        | LimitKind::Deadline
        | LimitKind::OutputBytes
        | LimitKind::Context
        | LimitKind::ModelPolicy
        | LimitKind::Price
        | LimitKind::FrozenPrice
        | LimitKind::Switch
        | LimitKind::StalePrice
        | LimitKind::Budget
        | LimitKind::Queue
        | LimitKind::RequestsPerMinute
        | LimitKind::TokensPerMinute
        | LimitKind::Concurrent
        | LimitKind::ProviderRate
        | LimitKind::Breaker
        | LimitKind::RateQueue => return,
    };
    *place = time;
}

/// Where a place in a file is, for [`Limits::declared`].
pub(crate) fn declared(source: &Source, span: &Range<usize>) -> Declared {
    Declared::At { file: source.name().to_owned(), line: source.line(span.start) }
}

/// A limit that the file sets, by its kind.
fn read(node: &Node<'_>, kind: LimitKind) -> Option<At<LimitValue>> {
    let key = kind.name();
    let at = |value, span| Some(At { value, span });
    match kind {
        LimitKind::Cost => node.money(key).and_then(|cost| at(LimitValue::Money(cost.value), cost.span)),
        LimitKind::Deadline => node.instant(key).and_then(|end| at(LimitValue::Instant(end.value), end.span)),
        LimitKind::WallTime
        | LimitKind::ModelCallTime
        | LimitKind::FirstTokenTime
        | LimitKind::ToolCallTime
        | LimitKind::BudgetWait
        | LimitKind::Expires => node.duration(key).and_then(|time| at(LimitValue::Time(time.value), time.span)),
        LimitKind::Steps
        | LimitKind::ModelCalls
        | LimitKind::ToolCalls
        | LimitKind::Attempts
        | LimitKind::Repeats
        | LimitKind::ToolErrors
        | LimitKind::Parallel
        | LimitKind::Depth
        | LimitKind::Children
        | LimitKind::Items
        | LimitKind::LandingTokens
        | LimitKind::LandingOutputTokens
        | LimitKind::Tokens
        | LimitKind::InputTokens
        | LimitKind::OutputTokens
        | LimitKind::OutputBytes => node.count(key).and_then(|count| at(LimitValue::Count(count.value), count.span)),
        LimitKind::Context
        | LimitKind::ModelPolicy
        | LimitKind::Price
        | LimitKind::FrozenPrice
        | LimitKind::Switch
        | LimitKind::StalePrice
        | LimitKind::Budget
        | LimitKind::Queue
        | LimitKind::RequestsPerMinute
        | LimitKind::TokensPerMinute
        | LimitKind::Concurrent
        | LimitKind::ProviderRate
        | LimitKind::Breaker
        | LimitKind::RateQueue => None,
    }
}

/// Reads `[ceilings.limits]`.
pub(crate) fn ceilings(node: Option<&Node<'_>>) -> Ceilings {
    let Some(node) = node else { return Ceilings::new() };
    let ceiling = |kind| {
        let at = read(node, kind)?;
        Some((kind, (at.value, declared(node.source, &node.key_span(LimitKind::name(kind))))))
    };
    SETTABLE.into_iter().filter_map(ceiling).collect()
}

/// Built-in defaults or a project's, brought under the ceilings; a lowered one names its ceiling as its source.
pub(crate) fn under_ceilings(mut limits: Limits, ceilings: &Ceilings) -> Limits {
    for (kind, (ceiling, source)) in ceilings {
        if value(&limits, *kind).is_none_or(|value| value > *ceiling) {
            set(&mut limits, *kind, *ceiling, source.clone());
        }
    }
    limits
}

/// Lays a `[limits]` table over `base`, and reports what is above a ceiling.
pub(crate) fn overlay(base: &Limits, node: Option<&Node<'_>>, ceilings: &Ceilings, faults: &mut Faults) -> Limits {
    let mut limits = base.clone();
    let Some(node) = node else { return limits };
    for kind in SETTABLE {
        let Some(At { value, span }) = read(node, kind) else { continue };
        if let Some((ceiling, source)) = ceilings.get(&kind).filter(|(ceiling, _)| value > *ceiling) {
            let message = format!("`{kind}` is {value}, above the project's ceiling of {ceiling}");
            let help = format!("at most {ceiling}, set at {source}");
            node.fault(faults, code::ABOVE_CEILING, &span, message, help);
        }
        set(&mut limits, kind, value, declared(node.source, &node.key_span(kind.name())));
    }
    if let Some(word) = node.text("at_limit") {
        limits.at_limit = if word.value == "stop" { AtLimit::Stop } else { AtLimit::Land };
    }
    if let Some(expected) = node.money("expected_cost") {
        limits.expected_cost = Some(expected.value);
    }
    check_expected_cost(&limits, node, faults);
    limits
}

/// The limits of a stage.
pub(crate) struct StageLimits {
    /// The agent's, with the stage's own over them.
    pub(crate) limits: Limits,
    /// The cap of the stage's own account, where it has one.
    pub(crate) cost: Option<Money>,
}

/// Lays the `limits` of a stage over its agent's, and reports what is looser than the agent's or than a ceiling.
pub(crate) fn of_stage(agents: &Limits, node: &Node<'_>, ceilings: &Ceilings, faults: &mut Faults) -> StageLimits {
    let mut limits = agents.clone();
    for kind in SETTABLE {
        let Some(At { value: own, span }) = read(node, kind) else { continue };
        let above_ceiling = ceilings.get(&kind).filter(|(ceiling, _)| own > *ceiling);
        let looser = value(agents, kind).filter(|agents| own > *agents);
        if let Some((ceiling, source)) = above_ceiling {
            let message = format!("`{kind}` is {own}, above the project's ceiling of {ceiling}");
            node.fault(faults, code::ABOVE_CEILING, &span, message, format!("at most {ceiling}, set at {source}"));
        } else if let Some(agents_own) = looser {
            let message = format!("`{kind}` of the stage is {own}, above the agent's {agents_own}");
            let help = match agents.declared(kind) {
                Declared::Default => format!("at most {agents_own}, the default; or set `{kind}` under `[limits]`"),
                source @ Declared::At { .. } => format!("at most {agents_own}, set at {source}"),
            };
            node.fault(faults, code::CONFLICT, &span, message, help);
        }
        let own = looser.unwrap_or(own);
        set(&mut limits, kind, own, declared(node.source, &node.key_span(kind.name())));
    }
    let cost = node.money(LimitKind::Cost.name()).map(|_| limits.cost);
    StageLimits { limits, cost }
}

fn check_expected_cost(limits: &Limits, node: &Node<'_>, faults: &mut Faults) {
    let Some(expected) = node.money("expected_cost").filter(|expected| expected.value > limits.cost) else { return };
    let cost = limits.cost;
    let message = format!("`expected_cost` is {}, above the limit `cost` of {cost}", expected.value);
    let help = format!("at most {cost}, set at {}", limits.declared(LimitKind::Cost));
    node.fault(faults, code::CONFLICT, &expected.span, message, help);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_limit_that_is_described_can_be_set_and_read_back() {
        let described: Vec<_> = crate::spec::keys::LIMITS.iter().map(|field| field.key).collect();
        assert_eq!(described, SETTABLE.map(LimitKind::name));
        for kind in SETTABLE {
            let sample = match value(&Limits::default(), kind) {
                Some(LimitValue::Money(_)) => LimitValue::Money(Money::from_pico(7)),
                Some(LimitValue::Time(_)) => LimitValue::Time(Millis(7)),
                Some(LimitValue::Count(_)) => LimitValue::Count(7),
                Some(LimitValue::Instant(_)) | None if kind == LimitKind::Deadline => LimitValue::Instant(Timestamp(7)),
                Some(LimitValue::Instant(_)) | None => LimitValue::Count(7),
            };
            let mut limits = Limits::default();
            set(&mut limits, kind, sample, Declared::Default);
            assert_eq!(value(&limits, kind), Some(sample), "{kind}");
        }
    }

    #[test]
    fn a_default_above_a_ceiling_comes_down_to_it() {
        let at = Declared::At { file: "plimsoll.toml".into(), line: 3 };
        let ceilings = Ceilings::from([
            (LimitKind::Steps, (LimitValue::Count(5), at.clone())),
            (LimitKind::Tokens, (LimitValue::Count(9), at.clone())),
            (LimitKind::Repeats, (LimitValue::Count(9), at.clone())),
        ]);
        let limits = under_ceilings(Limits::default(), &ceilings);
        assert_eq!((limits.steps, limits.tokens, limits.repeats), (5, Some(Tokens(9)), 3));
        assert_eq!(limits.declared(LimitKind::Steps), at);
        assert_eq!(limits.declared(LimitKind::Repeats), Declared::Default);
    }
}
