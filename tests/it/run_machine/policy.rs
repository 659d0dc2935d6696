//! Retries, fallbacks, downgrades, repairs and resumes of whole runs, against the simulated provider.

use plimsoll::domain::event::{Event, Purpose, RunState};
use plimsoll::domain::limits::LimitKind;
use plimsoll::runtime::silent;

use crate::world::{Recipe, Told};

const ANSWER: &str = "[[reply]]\nrepeat = 'forever'\ntext = 'done'\n";

fn agent(model: &str, rest: &str) -> Recipe {
    let text = format!(
        "description = 'a'\n[model]\n{model}\n[prompt]\nsystem = 'Help.'\n[retry]\nbackoff = '1ms..2ms'\n{rest}\n"
    );
    Recipe::agent(&text).scenario(ANSWER)
}

/// Two models: the first is primary.
fn two() -> Recipe {
    agent("models = ['openai/gpt-5-mini', 'openai/gpt-5-nano']", "")
}

fn models(told: &Told) -> Vec<&str> {
    told.calls().map(|call| call.model.as_str()).collect()
}

fn purposes(told: &Told) -> Vec<Purpose> {
    told.calls().map(|call| call.purpose).collect()
}

#[tokio::test]
async fn a_failure_that_may_pass_is_tried_again_and_then_elsewhere() {
    let (mini, nano) = ("openai/gpt-5-mini", "openai/gpt-5-nano");
    for (fault, expected) in [
        ("unavailable", vec![mini, mini, nano]),
        ("rate_limit", vec![mini, mini, nano]),
        ("cut_stream", vec![mini, mini, nano]),
        ("overloaded", vec![mini, nano]),
        ("forbidden", vec![mini, nano]),
        ("oversized", vec![mini, nano]),
    ] {
        let bytes = if fault == "oversized" { "bytes = 40_000_000\n" } else { "" };
        let retry = if fault == "rate_limit" { "retry_after = '1ms'\n" } else { "" };
        let rule = format!("[[rule]]\nwhen = {{ model = 'gpt-5-mini' }}\nfault = '{fault}'\n{bytes}{retry}{ANSWER}");
        let world = two().scenario(&rule).start();
        let told = world.run().await;
        assert_eq!((told.state(), models(&told)), (RunState::Finished, expected), "{fault}: {}", told.show());
        assert!(told.calls().all(|call| (call.model.as_str() == nano) == call.instead.is_some()), "{fault}");
        assert_eq!((told.run.counters.steps, told.run.counters.model_calls), (1, 1), "{fault}: one step");
        assert_eq!(u64::from(told.run.counters.attempts), world.invoice().count, "{fault}");
        world.verify();
    }
}

#[tokio::test]
async fn what_would_only_repeat_itself_fails_at_once() {
    for (fault, tries) in [("bad_request", 1), ("content_filter", 1), ("refusal", 1), ("quota", 1), ("unauthorized", 1)]
    {
        let told = two().scenario(&format!("[[reply]]\nrepeat = 'forever'\nfault = '{fault}'\n")).start().run().await;
        assert_eq!((told.state(), told.run.counters.attempts), (RunState::Failed, tries), "{fault}: {}", told.show());
        assert!(told.ended().error.as_deref().is_some_and(|error| error.contains("gpt-5-mini")), "{fault}");
    }
}

#[tokio::test]
async fn where_money_is_short_the_policy_is_downgraded_before_the_answer_is_shortened() {
    let policies = "[policies.standard]\nmodels = ['openai/gpt-5-mini']\ndowngrade = { to = 'economy' }\n\
        [policies.economy]\nmodels = ['openai/gpt-5-nano']\n";
    let told =
        agent("policy = 'standard'", "[limits]\ncost = '$0.002'").file("plimsoll.toml", policies).start().run().await;
    assert_eq!((told.state(), models(&told)), (RunState::Finished, vec!["openai/gpt-5-nano"]), "{}", told.show());
    let call = told.calls().next().expect("a call");
    assert!(call.instead.as_deref().is_some_and(|why| why.contains("downgraded")), "{call:?}");
    assert_eq!(call.max_output_tokens, 2_048);
    // Without one it is shortened.
    let told = agent("models = ['openai/gpt-5-mini']", "[limits]\ncost = '$0.002'").start().run().await;
    assert_eq!(models(&told), ["openai/gpt-5-mini"]);
    assert!((256..2_048).contains(&told.calls().next().expect("a call").max_output_tokens));
}

#[tokio::test]
async fn an_answer_without_its_form_is_mended_once() {
    let form = "[output]\ntype = 'object'\nrequired = ['a']\nproperties.a = { type = 'integer' }";
    let recipe = agent("models = ['openai/gpt-5-mini']", form);
    let told =
        recipe.clone().scenario("[[reply]]\ntext = 'no JSON'\n[[reply]]\ntext = '{\"a\":1}'\n").start().run().await;
    assert_eq!(told.state(), RunState::Finished, "{}", told.show());
    assert_eq!(purposes(&told).get(1..), Some(&[Purpose::Repair][..]));
    assert_eq!(told.ended().output, Some(serde_json::json!({"a": 1})));
    let told = recipe.scenario("[[reply]]\nrepeat = 'forever'\ntext = '{\"a\":\"x\"}'\n").start().run().await;
    assert_eq!((told.state(), purposes(&told).len()), (RunState::Failed, 2), "{}", told.show());
}

#[tokio::test]
async fn a_frozen_price_sends_a_run_to_its_fallback() {
    let overrun = format!("[[rule]]\nwhen = {{ model = 'gpt-5-mini' }}\nfault = 'overrun'\n{ANSWER}");
    let world = two().scenario(&overrun).start();
    let first = world.run().await;
    assert_eq!(models(&first), ["openai/gpt-5-mini"]);
    let second = world.run().await;
    assert_eq!((second.state(), models(&second)), (RunState::Finished, vec!["openai/gpt-5-nano"]), "{}", second.show());
    assert_eq!(first.run.counters.settled.plus(second.run.counters.settled), world.invoice().total);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_resume_resets_no_counter_and_repeats_no_step() {
    // (pitfalls 5, 19, 26) Stopped in its second call, and gone on with by a new process.
    let look = "description = 'Looks'\nkind = 'builtin'\nbuiltin = 'template'\ntemplate = 'seen'\nidempotent = true\n[input]\ntype = 'object'\n";
    let text = "description = 'a'\ntools = ['look']\n[model]\nmodels = ['openai/gpt-5-mini']\n[prompt]\nsystem = 'Help.'\n\
        [limits]\nsteps = 7\nrepeats = 100\n";
    let scenario = "[[rule]]\nwhen = { turn = 1, attempt = 1 }\nlatency = '300ms'\nloop_tool = '*'\n\
        [[rule]]\nwhen = { tools = false }\ntext = 'all that I know'\n[[reply]]\nrepeat = 'forever'\nloop_tool = '*'\n";
    let world = Recipe::agent(text).file("tools/look.toml", look).scenario(scenario).start();
    let runtime = world.runtime.clone();
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async move {
        runtime.run(&crate::world::new_run(std::collections::BTreeMap::new()), silent()).await.expect("it runs")
    });
    while world.invoice().count < 2 {
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
    world.runtime.request_stop();
    let (run, state) = tasks.join_all().await[0];
    assert_eq!(state, RunState::Interrupted);
    let before = world.told(run);
    let world = world.reopen();
    let state = world.runtime.drive(run, silent()).await.expect("it goes on");
    let told = world.told(run);
    assert_eq!((state, told.refusal().limit), (RunState::Stopped, LimitKind::Steps), "{}", told.show());
    assert_eq!((told.run.counters.steps, told.run.counters.model_calls), (7, 4), "{}", told.show());
    assert_eq!(told.log[..before.log.len()], before.log[..], "nothing that was said is said otherwise");
    assert_eq!(world.invoice().repeats().len(), 0, "{:?}", world.invoice().lines);
    assert_eq!(told.run.counters.settled, world.invoice().total);
    assert_eq!(told.events().filter(|event| matches!(event, Event::Interrupted(_))).count(), 1);
    world.verify();
}
