//! Each kind of question with each answer to it.

use plimsoll::domain::event::{AskKind, Decision, EndState, Event, RunState, StageEnd};
use plimsoll::domain::limits::LimitKind;
use plimsoll::domain::run::AnswerFault;
use plimsoll::runtime::RuntimeError;
use serde_json::json;

use super::{ONE_REFUND, allow, count, decide, drive, given, last_answer, open, paid, parked, refund, release, text};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stage_is_approved_edited_or_answered() {
    let cases = [
        (allow(), text("Dear all")),
        (Decision::Allow { edited: Some(text("Dear Ann")) }, text("Dear Ann")),
        (Decision::Answer { value: json!({ "use": "the old one" }) }, json!({ "use": "the old one" })),
    ];
    for (decision, value) in cases {
        let world = release().start();
        let run = parked(&world).await;
        let told = world.told(run);
        let asking = open(&told)[0];
        assert_eq!((asking.kind, asking.question.as_str()), (AskKind::Stage, "Send this about please look?"));
        assert_eq!(asking.shown, text("Dear all"));
        let told = decide(&world, run, decision).await;
        let output = told.ended().output.clone().expect("an output");
        assert_eq!(output, json!({ "approved": true, "by": "ann", "reason": "she said so", "value": value }));
        assert_eq!(told.run.counters.model_calls, 1, "nothing is asked again");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stage_that_is_denied_fails_and_what_it_shows_is_kept() {
    let world = release().start();
    let run = parked(&world).await;
    let told = decide(&world, run, Decision::Deny).await;
    assert_eq!(told.state(), RunState::Failed);
    assert_eq!(told.ended().error.as_deref(), Some("stage `release`: denied by ann: she said so"));
    let over = told.run.stage_over(&"release".into()).expect("it is over");
    assert_eq!(
        (over.end, &over.output["approved"], &over.output["value"]),
        (StageEnd::Failed, &json!(false), &text("Dear all"))
    );
    // Or the run can do without it.
    let world = release().amend("agents/a.toml", "needs = [\"draft\"]", "needs = [\"draft\"]\non_error = \"continue\"");
    let world = world.start();
    let run = parked(&world).await;
    let told = decide(&world, run, Decision::Deny).await;
    assert_eq!(
        (told.state(), &told.ended().output.clone().expect("one")["approved"]),
        (RunState::Finished, &json!(false))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_is_made_with_a_yes_and_not_before() {
    let world = refund(ONE_REFUND).start();
    let run = parked(&world).await;
    assert_eq!(paid(&world), [""; 0]);
    let told = world.told(run);
    assert_eq!(told.run.counters.tool_calls, 0, "a call counts when it is made");
    assert_eq!(open(&told)[0].shown, json!({ "cents": 500 }));
    let told = decide(&world, run, allow()).await;
    assert_eq!((paid(&world), last_answer(&told)), (vec!["500".to_owned()], "paid 500\n".to_owned()));
    assert_eq!((told.state(), told.run.counters.tool_calls), (RunState::Finished, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn edited_arguments_are_judged_by_the_schema_and_counted_anew() {
    // The same call was made before, and may be made once.
    let calls = format!("{ONE_REFUND}, {{ name = 'refund', arguments = {{ cents = 7 }} }}");
    let world = refund(&calls).amend("agents/a.toml", "expires", "repeats = 1\nexpires").start();
    let run = parked(&world).await;
    let edit = |cents| Decision::Allow { edited: Some(json!({ "cents": cents })) };
    let bad = world.runtime.answer(run, &given(Some(1), edit(5_000))).await;
    let Err(RuntimeError::Answer { fault: AnswerFault::Arguments(why), .. }) = bad else { panic!("{bad:?}") };
    assert!(why.contains("cents"), "{why}");
    world.runtime.answer(run, &given(Some(0), allow())).await.expect("it is taken");
    world.runtime.answer(run, &given(Some(1), edit(500))).await.expect("it is taken");
    let told = drive(&world, run).await;
    assert_eq!(paid(&world), ["500"], "{}", told.show());
    assert!(last_answer(&told).contains("limit `repeats` of refund is 1"), "{}", last_answer(&told));
    world.verify();
    let world = refund(ONE_REFUND).start();
    let run = parked(&world).await;
    let told = decide(&world, run, edit(20)).await;
    assert_eq!(paid(&world), ["20"]);
    assert_eq!(last_answer(&told), "a person changed the arguments to {\"cents\":20}; the result:\npaid 20\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_words_of_a_no_and_of_an_answer_reach_the_model() {
    let cases = [
        (Decision::Deny, "not called: ann did not allow it: she said so"),
        (Decision::Answer { value: text("paid in cash") }, "paid in cash"),
    ];
    for (decision, words) in cases {
        let world = refund(ONE_REFUND).start();
        let run = parked(&world).await;
        let told = decide(&world, run, decision).await;
        assert_eq!((told.state(), last_answer(&told).as_str()), (RunState::Finished, words));
        assert_eq!(paid(&world), [""; 0]);
        let told_to_model = world.invoice().count;
        assert_eq!(told_to_model, 2, "the model goes on");
        assert_eq!(told.run.counters.tool_calls, 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_of_the_models_own_is_answered_or_not() {
    let question = "{ name = 'ask', arguments = { question = 'Which colour?' } }";
    let cases = [(Decision::Answer { value: text("blue") }, "blue"), (Decision::Deny, "nobody answers: she said so")];
    for (decision, words) in cases {
        let world = refund(question).start();
        let run = parked(&world).await;
        let told = world.told(run);
        assert_eq!(told.state(), RunState::AwaitingInput);
        assert_eq!((open(&told)[0].kind, open(&told)[0].question.as_str()), (AskKind::Input, "Which colour?"));
        assert_eq!(told.run.counters.tool_calls, 1, "a question is a call");
        let bad = world.runtime.answer(run, &given(None, allow())).await;
        assert!(matches!(bad, Err(RuntimeError::Answer { fault: AnswerFault::NotThis { .. }, .. })), "{bad:?}");
        let told = decide(&world, run, decision).await;
        assert_eq!((told.state(), last_answer(&told).as_str()), (RunState::Finished, words));
        let reserved = count(&told, |event| matches!(event, Event::Reserved(_)));
        assert_eq!(reserved, 2, "nothing is performed: {}", told.show());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_what_is_open_is_answered_and_once() {
    let world = refund(&format!("{ONE_REFUND}, {{ name = 'refund', arguments = {{ cents = 7 }} }}")).start();
    let run = parked(&world).await;
    let fault = async |given| match world.runtime.answer(run, &given).await {
        Err(RuntimeError::Answer { fault, .. }) => fault,
        other => panic!("{other:?}"),
    };
    let several = fault(given(None, allow())).await.to_string();
    assert!(several.contains("open: 0 (may `refund` be called") && several.contains(", 1 (may"), "{several}");
    assert!(matches!(fault(given(Some(2), allow())).await, AnswerFault::NoSuchAsk { ask: 2, .. }));
    let mut other = given(Some(0), allow());
    other.shown_hash = Some("0011223344556677".into());
    assert!(matches!(fault(other).await, AnswerFault::OtherShown { .. }));
    world.runtime.answer(run, &given(Some(0), Decision::Deny)).await.expect("it is taken");
    let again = fault(given(Some(0), allow())).await.to_string();
    assert!(again.contains("ann said no") && again.contains("1 (may"), "{again}");
    // With one left, nobody needs to name it.
    world.runtime.answer(run, &given(None, allow())).await.expect("it is taken");
    let told = drive(&world, run).await;
    assert_eq!((paid(&world), told.ended().state), (vec!["7".to_owned()], EndState::Finished));
    assert!(matches!(fault(given(None, allow())).await, AnswerFault::Ended(RunState::Finished)));
    let world = refund("{ name = 'refund', arguments = { cents = 5000 } }").start();
    let told = world.run().await;
    assert_eq!(told.state(), RunState::Finished, "nobody is asked about arguments that don't fit: {}", told.show());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_asked_about_what_a_limit_refuses() {
    let calls = format!("{ONE_REFUND}, {{ name = 'refund', arguments = {{ cents = 7 }} }}");
    let world = refund(&calls).amend("agents/a.toml", "expires", "tool_calls = 1\nexpires").start();
    let run = parked(&world).await;
    assert_eq!(open(&world.told(run)).len(), 1, "{}", world.told(run).show());
    assert!(last_answer_of_turn(&world.told(run)).contains("tool_calls"));
}

fn last_answer_of_turn(told: &crate::world::Told) -> String {
    let refused = told.events().filter_map(|event| {
        let Event::CallRefused(refused) = event else { return None };
        Some(format!("{:?}", refused.why))
    });
    let all: Vec<String> = refused.collect();
    assert!(!all.is_empty(), "{}", told.show());
    assert!(all.iter().all(|why| why.contains(&format!("{:?}", LimitKind::ToolCalls))), "{all:?}");
    "tool_calls".to_owned()
}

/// A stage whose own call needs a yes, and may be made of each item.
const STAGE: &str = r#"
description = "a"
[model]
models = ["openai/gpt-5-mini"]

[[stage]]
id = "pay"
kind = "tool"
tool = "refund"
args = { cents = 300 }
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stages_own_call_waits_for_a_yes_too() {
    let cases = [
        (allow(), RunState::Finished, vec!["300"], "paid 300\n"),
        (Decision::Allow { edited: Some(json!({ "cents": 5 })) }, RunState::Finished, vec!["5"], "paid 5\n"),
        (Decision::Answer { value: text("in cash") }, RunState::Finished, vec![], "in cash"),
        (Decision::Deny, RunState::Failed, vec![], ""),
    ];
    for (decision, state, calls, output) in cases {
        let world = refund("").file("agents/a.toml", STAGE).start();
        let run = parked(&world).await;
        assert_eq!(open(&world.told(run))[0].shown, json!({ "cents": 300 }));
        let told = decide(&world, run, decision).await;
        assert_eq!(
            (told.state(), paid(&world)),
            (state, calls.into_iter().map(str::to_owned).collect()),
            "{}",
            told.show()
        );
        let ended = told.ended();
        match &ended.output {
            Some(given) => assert_eq!(given, output),
            None => {
                assert!(ended.error.as_ref().expect("words").contains("ann did not allow it: she said so"), "{ended:?}")
            }
        }
    }
}
