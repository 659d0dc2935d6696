//! Sums are exact, and nothing of a log is lost on the way into its trace.

use proptest::prelude::*;

use super::fixture::{self, Log};
use super::*;
use crate::domain::event::{CostSource, Outcome, Purpose};
use crate::domain::limits::LimitKind;
use crate::domain::retry::ErrorClass;
use crate::units::{Millis, Money};

fn trace_of(log: &[Recorded]) -> Trace {
    let now = log.last().expect("a log").at;
    Trace::of(fixture::run_id(), fixture::plan(), log, now).expect("a run")
}

#[test]
fn another_process_reads_what_this_one_writes() {
    let log = fixture::eventful();
    for end in 1..=log.len() {
        let trace = trace_of(&log[..end]);
        let text = serde_json::to_string(&trace).expect("JSON");
        let read: Trace = serde_json::from_str(&text).expect("it reads back");
        assert_eq!(read, trace);
        assert_eq!(serde_json::to_string(&read).expect("JSON"), text);
    }
}

#[test]
fn the_document_has_the_shape_that_is_promised() {
    let trace = trace_of(&fixture::eventful());
    let document = serde_json::to_string_pretty(&trace.head).expect("JSON");
    insta::assert_snapshot!(document, @r#"
    {
      "run": "01KATA0Q5XV3R8K2M4N6P7S9T0",
      "agent": "support",
      "state": "stopped",
      "limit": "cost",
      "output": "It was shipped.",
      "cost": {
        "settled_usd": "0.010934",
        "unknown_usd": "0.009",
        "held_usd": "0"
      },
      "load_line_usd": "0.05",
      "steps": 4,
      "model_calls": 3,
      "tool_calls": 1,
      "attempts": 4,
      "tokens": {
        "input": 2400,
        "cache_read": 600,
        "cache_write": 0,
        "output": 192,
        "reasoning": 80
      },
      "wall_ms": 2374
    }
    "#);
}

#[test]
fn an_eventful_run_is_traced_whole() {
    let trace = trace_of(&fixture::eventful());
    let states: Vec<&str> = trace.attempts().map(|attempt| attempt.cost_state.name()).collect();
    assert_eq!(states, ["void", "reported", "reported", "unknown", "reported"]);
    let kinds: Vec<String> = trace.timeline.iter().map(kind).collect();
    assert_eq!(kinds, ["admitted", "step", "step", "refused", "waited", "step", "landing", "step"]);
    let cost = trace.limit(LimitKind::Cost).expect("a limit");
    assert_eq!((cost.stood_at.as_str(), cost.stopped), ("$0.010934", true));
    let wait = trace.limit(LimitKind::BudgetWait).expect("a limit");
    assert_eq!(wait.stood_at, Millis(1_500).to_string());
}

fn kind(entry: &TimelineEntry) -> String {
    let value = serde_json::to_value(entry).expect("JSON");
    value["entry"].as_str().expect("a tag").to_owned()
}

#[test]
fn a_tool_line_shows_the_arguments_that_the_model_wrote() {
    let trace = trace_of(&fixture::eventful());
    let arguments = trace.attempts().find_map(|attempt| match &attempt.call {
        AttemptCall::Tool(tool) => tool.arguments.clone(),
        AttemptCall::Model(_) => None,
    });
    assert_eq!(arguments.as_deref(), Some(r#"{"order":"4711"}"#));
}

#[test]
fn a_log_without_its_beginning_gives_no_trace() {
    let log = fixture::eventful();
    let now = log[0].at;
    assert!(Trace::of(fixture::run_id(), fixture::plan(), &log[1..], now).is_none());
    assert!(Trace::of(fixture::run_id(), fixture::plan(), &[], now).is_none());
}

/// How an attempt ends, drawn at random.
#[derive(Clone, Debug)]
enum End {
    Bill(u64, CostSource),
    Void,
    Open,
}

fn ends() -> impl Strategy<Value = Vec<(u64, End, bool)>> {
    let source = prop_oneof![Just(CostSource::Reported), Just(CostSource::Derived), Just(CostSource::Unknown)];
    let end = prop_oneof![
        4 => (0..u64::from(u32::MAX), source).prop_map(|(bill, source)| End::Bill(bill, source)),
        1 => Just(End::Void),
        1 => Just(End::Open),
    ];
    prop::collection::vec((0..u64::from(u32::MAX), end, any::<bool>()), 0..24)
}

proptest! {
    #[test]
    fn the_lines_of_a_trace_add_up_to_its_run(ends in ends()) {
        let mut log = Log::new();
        log.admit(Money::from_micro(2_000));
        let (mut step, mut attempt) = (1, 1);
        for (amount, end, answers) in ends {
            let reservation = log.reserve(step, attempt, Money::from_micro(amount), fixture::model_call(Purpose::Turn));
            attempt += 1;
            match end {
                End::Bill(bill, source) => {
                    log.settle(reservation, Money::from_micro(bill), source, fixture::reply("yes", &[]));
                    // Without an answer the next attempt is of the same step: it then has two bills.
                    if answers {
                        (step, attempt) = (step + 1, 1);
                    }
                }
                End::Void => log.void(reservation, ErrorClass::RateLimited),
                End::Open => {}
            }
        }
        let trace = trace_of(&log.recorded);
        let lines: Money = trace.attempts().map(|attempt| attempt.cost_usd).sum();
        prop_assert_eq!(lines, trace.head.cost.settled_usd);
        prop_assert_eq!(trace.steps().map(|step| step.cost_usd).sum::<Money>(), trace.head.cost.settled_usd);
        let unknown = trace.attempts().filter(|attempt| attempt.cost_state == CostState::Unknown);
        prop_assert_eq!(unknown.map(|attempt| attempt.cost_usd).sum::<Money>(), trace.head.cost.unknown_usd);
        let open = trace.attempts().filter(|attempt| attempt.cost_state == CostState::Open);
        let held = open.map(|attempt| attempt.reserved_usd).sum::<Money>().plus(Money::from_micro(2_000));
        prop_assert_eq!(held, trace.head.cost.held_usd);
        let tokens = trace.attempts().filter_map(|attempt| attempt.tokens).map(|tokens| tokens.output).sum();
        prop_assert_eq!(trace.head.tokens.output, tokens);
        prop_assert_eq!(trace.head.attempts as usize, trace.attempts().count());
        prop_assert_eq!(trace.head.steps as usize, trace.steps().count());
    }
}

#[test]
fn an_outcome_keeps_its_words() {
    let failed = Outcome::Failed(fixture::failure(ErrorClass::Overloaded));
    let mut log = Log::new();
    log.admit(Money::ZERO);
    let reservation = log.reserve(1, 1, Money::from_micro(5), fixture::model_call(Purpose::Turn));
    log.settle(reservation, Money::from_micro(5), CostSource::Unknown, failed);
    let trace = trace_of(&log.recorded);
    let gave = trace.attempts().next().and_then(|attempt| attempt.gave.clone());
    assert_eq!(gave, Some(Gave::Failure(fixture::failure(ErrorClass::Overloaded))));
}
