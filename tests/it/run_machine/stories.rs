//! What voyages came upon, each as a short story.

use std::sync::Arc;

use plimsoll::domain::event::{
    AskKind, Decision, EndState, Ended, Event, LandingBegan, PersonAnswered, PersonAsked, Place, StageEnd,
};
use plimsoll::domain::limits::{LimitKind, Limits};
use plimsoll::domain::plan::Plan;
use plimsoll::domain::run::{Next, Run};
use plimsoll::ids::RunId;
use plimsoll::units::{Millis, Timestamp};
use serde_json::Value;

use super::fixture::{created, no_money, plan};
use super::player::{Check, Shape, Sheet};

const START: Timestamp = Timestamp(1_000_000);

/// Two loops beside each other, and one that needs them.
fn beside() -> Plan {
    let limits = Limits::default();
    plan(Sheet { limits, tries: 1, form: false, tools: false, shape: Shape::Beside, approval: false })
}

fn begun(plan: Plan) -> Run {
    let created = created(&plan);
    Run::new(RunId::from_bits(7), Arc::new(plan), &created, START)
}

fn asked(what: AskKind) -> Event {
    Event::PersonAsked(PersonAsked {
        ask: Some(0),
        what: Some(what),
        place: Some(Place::stage("left".into())),
        until: Some(START.after(Millis(1_000))),
        ..PersonAsked::in_flight(String::new(), "ask".into(), "well?".into())
    })
}

#[test]
fn a_question_is_late_for_a_run_that_lands_too() {
    let mut run = begun(beside());
    run.apply(START, &asked(AskKind::Stage));
    run.apply(START, &Event::LandingBegan(LandingBegan { refusal: no_money() }));
    let late = START.after(Millis(1_000));
    let Next::Note(facts) = run.next(late, &Check) else { panic!("whoever waits for it would look again at once") };
    let expired = |fact: &Event| {
        matches!(fact, Event::PersonAnswered(PersonAnswered { decision: Decision::Expired, ask: Some(0), .. }))
    };
    assert!(facts.iter().all(expired), "{facts:?}");
    facts.iter().for_each(|fact| run.apply(late, fact));
    assert!(!matches!(run.next(late, &Check), Next::Note(_)), "it is told once");
}

#[test]
fn a_question_counts_for_its_stage() {
    let mut plan = beside();
    plan.stages[0].limits = Some(Box::new(Limits { steps: 1, ..plan.limits.clone() }));
    let mut run = begun(plan);
    run.apply(START, &asked(AskKind::Input));
    let Next::Note(facts) = run.next(START, &Check) else { panic!("the stage has no step left") };
    let stopped = |fact: &Event| {
        matches!(fact, Event::StageEnded(ended) if ended.end == StageEnd::Stopped
            && ended.refusal.as_ref().is_some_and(|refusal| refusal.limit == LimitKind::Steps))
    };
    assert!(facts.iter().any(stopped), "{facts:?}");
}

#[test]
fn null_that_was_told_is_read_as_it_was_told() {
    let ended = Ended { state: EndState::Finished, refusal: None, output: Some(Value::Null), error: None };
    let decision = Decision::Allow { edited: Some(Value::Null) };
    let answered = PersonAnswered { ask: Some(0), decision, by: "ann".into(), reason: None, shown_hash: None };
    for told in [Event::Ended(ended), Event::PersonAnswered(answered)] {
        let written = serde_json::to_string(&told).expect("JSON");
        assert_eq!(serde_json::from_str::<Event>(&written).expect("an event"), told, "{written}");
    }
}
