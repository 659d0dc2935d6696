//! Alerts: what people are told of unasked: a budget that passes a threshold, a run that ends, a bill above its bound.
//!
//! Invariants: a threshold is told of once for each budget, scope value and period, in the write of what passed it; an alert
//! that is heard is kept until it is delivered, or given up after a bounded number of tries, and that is shown.
//! Deliberately absent: who is called how, the clock, and any decision over a run.

mod outbox;

pub use outbox::{AlertEntry, AlertState, TRIES_MAX, Tried};

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::audit::PriceFrozen;
use super::event::{EndState, Labels};
use super::policy::Share;
use super::report::{text, text_or_null};
use super::summary::RunSummary;
use crate::ids::{AgentName, BudgetName, PriceId, RunId};
use crate::units::{Money, Timestamp};

/// The way that alerts of budgets go which nobody hears by name: into the log.
pub const LOG: &str = "log";
/// The most characters of why a run ended that an alert carries.
const WHY_CHARS_MAX: usize = 500;

/// Something that people are told of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", content = "data")]
pub enum Alert {
    /// A budget passed a threshold.
    #[serde(rename = "budget.threshold")]
    Budget(BudgetAlert),
    /// A run ended.
    #[serde(rename = "run.ended")]
    Run(RunAlert),
    /// A bill above its reservation froze a price.
    #[serde(rename = "price.frozen")]
    Price(PriceAlert),
    /// Somebody tries whether alerts arrive.
    #[serde(rename = "test")]
    Test {
        /// When.
        #[serde(with = "text")]
        #[schemars(with = "crate::domain::report::TimeText")]
        at: Timestamp,
    },
}

/// A budget that passed a threshold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BudgetAlert {
    /// The budget.
    pub budget: BudgetName,
    /// The values of `each`, as `tenant=acme`; empty where it has none.
    pub scope: String,
    /// When the period begins.
    #[serde(with = "text")]
    #[schemars(with = "crate::domain::report::TimeText")]
    pub start: Timestamp,
    /// When it ends, exclusive; `None` for `total`.
    #[serde(with = "text_or_null")]
    #[schemars(with = "Option<crate::domain::report::TimeText>")]
    pub end: Option<Timestamp>,
    /// The threshold.
    #[serde(rename = "threshold_basis_points")]
    pub threshold: Share,
    /// The cap, exceptions included.
    pub cap_usd: Money,
    /// What was settled, unknown money included.
    pub settled_usd: Money,
    /// The part of it that nobody knows better than by its reservation.
    pub unknown_usd: Money,
    /// The run whose bill, or end, passed it; `None` where the cap changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<RunId>,
    /// True where less than that is spent, but a run was stopped or turned away, since nothing more fits.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub full: bool,
}

/// A run that ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RunAlert {
    /// The run.
    pub run: RunId,
    /// Its agent.
    pub agent: AgentName,
    /// All its labels.
    pub labels: Labels,
    /// How it ended.
    pub state: EndState,
    /// The limit that stopped it, or its error, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// What it cost with all runs below it, unknown money included.
    pub cost_usd: Money,
    /// The part of it that nobody knows better than by its reservation.
    pub unknown_usd: Money,
}

/// A price that is frozen, since a bill was above its reservation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PriceAlert {
    /// The price row, which no call uses until somebody lifts it.
    pub price: PriceId,
    /// The run whose bill it was.
    pub run: RunId,
    /// What was reserved.
    pub reserved_usd: Money,
    /// What was billed.
    pub billed_usd: Money,
}

impl Alert {
    /// The end of a run.
    #[must_use]
    pub fn of_run(run: &RunSummary, state: EndState) -> Self {
        let why = run.refusal.as_ref().filter(|_| state == EndState::Stopped).map(ToString::to_string);
        let why = why.or_else(|| run.error.as_deref().map(str::to_owned));
        Self::Run(RunAlert {
            run: run.id,
            agent: run.agent.clone(),
            labels: Labels::clone(&run.labels),
            state,
            why: why.map(|why| why.chars().take(WHY_CHARS_MAX).collect()),
            cost_usd: run.settled.plus(run.children.settled),
            unknown_usd: run.unknown.plus(run.children.unknown),
        })
    }

    /// A bill above its reservation.
    #[must_use]
    pub fn of_price(frozen: &PriceFrozen) -> Self {
        Self::Price(PriceAlert {
            price: frozen.price.clone(),
            run: frozen.overrun.reservation.run,
            reserved_usd: frozen.overrun.reserved_usd,
            billed_usd: frozen.overrun.billed_usd,
        })
    }

    /// Its type, as it is written.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Budget(_) => "budget.threshold",
            Self::Run(_) => "run.ended",
            Self::Price(_) => "price.frozen",
            Self::Test { .. } => "test",
        }
    }

    /// The run that it is of, or that was refused.
    #[must_use]
    pub const fn run(&self) -> Option<RunId> {
        match self {
            Self::Run(alert) => Some(alert.run),
            Self::Price(alert) => Some(alert.run),
            Self::Budget(alert) => alert.run,
            Self::Test { .. } => None,
        }
    }

    /// In one sentence, for people.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::Budget(alert) => alert.text(),
            Self::Run(alert) => alert.text(),
            Self::Price(PriceAlert { price, run, reserved_usd, billed_usd }) => format!(
                "a bill of run {run} is {billed_usd}, above the {reserved_usd} that were reserved: price {price} is frozen"
            ),
            Self::Test { at } => format!("a test of {at}: alerts arrive here"),
        }
    }
}

impl BudgetAlert {
    fn text(&self) -> String {
        let Self { budget, scope, end, threshold, cap_usd, settled_usd, full, .. } = self;
        let of = if scope.is_empty() { String::new() } else { format!(" ({scope})") };
        let until = end.map_or_else(String::new, |end| format!(", until {end}"));
        let what = if *full { "is full, a run was refused".to_owned() } else { format!("has reached {threshold}") };
        format!("budget {budget}{of} {what}: {settled_usd} of {cap_usd} are spent{until}")
    }
}

impl RunAlert {
    fn text(&self) -> String {
        let Self { run, agent, state, why, cost_usd, unknown_usd, .. } = self;
        let unknown = if unknown_usd.is_zero() { String::new() } else { format!(", {unknown_usd} of it unknown") };
        let why = why.as_ref().map_or_else(String::new, |why| format!(": {why}"));
        format!("run {run} of agent {agent} {}, for {cost_usd}{unknown}{why}", ended(*state))
    }
}

const fn ended(state: EndState) -> &'static str {
    match state {
        EndState::Finished => "finished",
        EndState::Stopped => "was stopped",
        EndState::Failed => "failed",
        EndState::Cancelled => "was cancelled",
    }
}

/// A kind of thing that is heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Heard {
    /// A budget's threshold.
    Budget,
    /// A bill above its reservation.
    Price,
    /// A run that finished.
    Finished,
    /// A run that a limit stopped.
    Stopped,
    /// A run that failed.
    Failed,
    /// A run that somebody cancelled.
    Cancelled,
    /// A run that ended with money that nobody knows, however it ended.
    Unknown,
}

impl Heard {
    /// All of them, with their words.
    pub const ALL: [(Self, &'static str); 7] = [
        (Self::Budget, "budget"),
        (Self::Price, "price"),
        (Self::Finished, "finished"),
        (Self::Stopped, "stopped"),
        (Self::Failed, "failed"),
        (Self::Cancelled, "cancelled"),
        (Self::Unknown, "unknown"),
    ];

    /// The kind of a word.
    #[must_use]
    pub fn named(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|(_, name)| *name == word).map(|(heard, _)| heard)
    }

    const fn of(state: EndState) -> Self {
        match state {
            EndState::Finished => Self::Finished,
            EndState::Stopped => Self::Stopped,
            EndState::Failed => Self::Failed,
            EndState::Cancelled => Self::Cancelled,
        }
    }
}

/// Who hears what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlertRule {
    /// Its name.
    pub name: String,
    /// What it hears.
    pub on: BTreeSet<Heard>,
    /// The budgets that it hears; all where none is named.
    pub budgets: BTreeSet<BudgetName>,
    /// Labels that a run must have to be heard.
    pub labels: Labels,
}

impl AlertRule {
    /// True where it hears an alert. A test is for whom it names.
    #[must_use]
    pub fn hears(&self, alert: &Alert) -> bool {
        match alert {
            Alert::Budget(alert) => {
                self.on.contains(&Heard::Budget) && (self.budgets.is_empty() || self.budgets.contains(&alert.budget))
            }
            Alert::Run(alert) => {
                let ended = self.on.contains(&Heard::of(alert.state));
                let unknown = self.on.contains(&Heard::Unknown) && !alert.unknown_usd.is_zero();
                let labelled = self.labels.iter().all(|(name, value)| alert.labels.get(name) == Some(value));
                (ended || unknown) && labelled
            }
            Alert::Price(_) => self.on.contains(&Heard::Price),
            Alert::Test { .. } => false,
        }
    }
}

/// The names of the rules that hear an alert; a budget's goes into the log where nobody does.
#[must_use]
pub fn hearers(rules: &[AlertRule], alert: &Alert) -> Vec<String> {
    let heard: Vec<String> = rules.iter().filter(|rule| rule.hears(alert)).map(|rule| rule.name.clone()).collect();
    if heard.is_empty() && matches!(alert, Alert::Budget(_)) { vec![LOG.to_owned()] } else { heard }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(state: EndState, unknown: u64) -> Alert {
        Alert::Run(RunAlert {
            run: RunId::from_bits(7),
            agent: "triage".into(),
            labels: Labels::from([("agent".to_owned(), "triage".to_owned()), ("tenant".to_owned(), "acme".to_owned())]),
            state,
            why: None,
            cost_usd: Money::from_micro(900),
            unknown_usd: Money::from_micro(unknown),
        })
    }

    fn budget(name: &str) -> Alert {
        Alert::Budget(BudgetAlert {
            budget: name.into(),
            scope: "tenant=acme".to_owned(),
            start: Timestamp(0),
            end: Some(Timestamp(86_400_000)),
            threshold: Share(8_000),
            cap_usd: Money::from_micro(500_000_000),
            settled_usd: Money::from_micro(400_000_000),
            unknown_usd: Money::ZERO,
            run: None,
            full: false,
        })
    }

    fn rule(on: &[Heard]) -> AlertRule {
        let on = on.iter().copied().collect();
        AlertRule { name: "pager".to_owned(), on, budgets: BTreeSet::new(), labels: Labels::new() }
    }

    #[test]
    fn a_rule_hears_what_it_names() {
        let failed = rule(&[Heard::Failed]);
        assert!(failed.hears(&run(EndState::Failed, 0)) && !failed.hears(&run(EndState::Stopped, 5)));
        let unknown = rule(&[Heard::Unknown]);
        assert!(unknown.hears(&run(EndState::Finished, 5)) && !unknown.hears(&run(EndState::Failed, 0)));
        let other = AlertRule { labels: Labels::from([("tenant".to_owned(), "b".to_owned())]), ..failed };
        assert!(!other.hears(&run(EndState::Failed, 0)), "of another tenant");
        let one = AlertRule { budgets: BTreeSet::from(["month".into()]), ..rule(&[Heard::Budget]) };
        assert!(one.hears(&budget("month")) && !one.hears(&budget("day")) && !one.hears(&run(EndState::Failed, 0)));
    }

    #[test]
    fn a_budget_that_nobody_hears_goes_into_the_log_and_a_run_nowhere() {
        let rules = [rule(&[Heard::Budget]), AlertRule { name: "other".to_owned(), ..rule(&[Heard::Budget]) }];
        assert_eq!(hearers(&rules, &budget("month")), ["pager", "other"]);
        assert_eq!(hearers(&[], &budget("month")), [LOG]);
        assert_eq!(hearers(&rules, &run(EndState::Failed, 0)), Vec::<String>::new());
    }

    #[test]
    fn an_alert_reads_as_it_is_written_and_says_it_in_a_sentence() {
        for alert in [budget("month"), run(EndState::Stopped, 3), Alert::Test { at: Timestamp(0) }] {
            let text = serde_json::to_string(&alert).expect("it writes");
            assert!(text.starts_with(&format!(r#"{{"type":"{}""#, alert.kind())), "{text}");
            assert_eq!(serde_json::from_str::<Alert>(&text).expect("it reads"), alert);
        }
        assert_eq!(
            budget("month").text(),
            "budget month (tenant=acme) has reached 80%: $400.00 of $500.00 are spent, until 1970-01-02T00:00:00.000Z"
        );
    }
}
