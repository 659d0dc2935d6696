//! What voyages came upon, each as a short story.

use std::sync::Arc;

use plimsoll::domain::event::{
    AskKind, Call, Decision, EndState, Ended, Event, LandingBegan, PersonAnswered, PersonAsked, Place, Purpose,
    Reserved, StageEnd,
};
use plimsoll::domain::limits::{LimitKind, Limits};
use plimsoll::domain::message::{Assistant, StopReason};
use plimsoll::domain::plan::Plan;
use plimsoll::domain::retry::ErrorClass;
use plimsoll::domain::run::{Intent, Next, Run};
use plimsoll::ids::RunId;
use plimsoll::units::{Millis, Money, Timestamp};
use serde_json::Value;

use super::fixture::{created, model_call, no_money, plan, reply};
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

/// One loop without tools, whose first call is the last.
fn alone() -> Plan {
    let limits = Limits { steps: 50, model_calls: 50, attempts: 50, ..Limits::default() };
    plan(Sheet { limits, tries: 1, form: false, tools: false, shape: Shape::Loop, approval: false })
}

/// Makes the call that the run wants next, which gives this; `None` where it wants none.
fn call(run: &mut Run, text: &str, stop: StopReason) -> Option<Purpose> {
    let Next::Do(intents) = run.next(START, &Check) else { return None };
    let [Intent::Model(intent)] = intents.as_slice() else { return None };
    let reservation = run.next_reservation();
    let reserved = Reserved {
        reservation,
        step: intent.step.clone(),
        attempt: intent.attempt,
        amount: Money::from_micro(1),
        landing: Money::ZERO,
        budgets: None,
        time_limit: intent.time_limit,
        call: Call::Model(model_call(intent.purpose, 100, 200, None)),
    };
    run.apply(START, &Event::Reserved(Box::new(reserved)));
    assert!(!matches!(run.next(START, &Check), Next::Do(_)), "one call at a time");
    let message = Assistant { text: text.to_owned(), ..Assistant::default() };
    run.apply(START, &reply(reservation, message, stop));
    Some(intent.purpose)
}

#[test]
fn a_pause_is_gone_on_with_by_a_step_of_its_own_and_the_texts_join() {
    let mut run = begun(alone());
    assert_eq!(call(&mut run, "Hel", StopReason::Paused), Some(Purpose::Last));
    assert_eq!(call(&mut run, "lo ", StopReason::Paused), Some(Purpose::Last));
    assert_eq!(call(&mut run, "you", StopReason::End), Some(Purpose::Last));
    assert_eq!((run.counters.steps, run.counters.model_calls), (3, 3));
    let ended = end(&run);
    assert_eq!((ended.state, ended.output), (EndState::Finished, Some(Value::from("Hello you"))));
}

fn end(run: &Run) -> Ended {
    let Next::Do(intents) = run.next(START, &Check) else { panic!("it has ended") };
    let [Intent::End(ended)] = intents.as_slice() else { panic!("it has ended: {intents:?}") };
    ended.clone()
}

#[test]
fn pauses_have_an_end() {
    let mut run = begun(alone());
    let pauses = std::iter::from_fn(|| call(&mut run, "x", StopReason::Paused)).take(40).count();
    assert_eq!(pauses, 9, "the first call, and eight more");
    let ended = end(&run);
    assert!(ended.state == EndState::Failed && ended.error.is_some_and(|error| error.contains("more than 8 times")));
}

#[test]
fn a_full_window_is_a_failed_try_of_a_request_that_is_too_long() {
    let mut run = begun(alone());
    call(&mut run, "half an ans", StopReason::ContextFull);
    let Next::Do(intents) = run.next(START, &Check) else { panic!("it is tried elsewhere, or given up") };
    let [Intent::Model(intent)] = intents.as_slice() else { panic!("one call: {intents:?}") };
    let classes: Vec<ErrorClass> = intent.tries.iter().map(|tried| tried.failure.class).collect();
    assert_eq!((classes.as_slice(), intent.attempt), (&[ErrorClass::ContextTooLong][..], 2));
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
