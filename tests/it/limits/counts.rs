//! What is counted: steps, calls, attempts, repeats, errors, calls at once, tokens, bytes.

use plimsoll::domain::event::{Call, Event, Purpose, RunState};
use plimsoll::domain::limits::LimitKind;

use super::{LOOP, agent, agent_with, answers, assert_landed, assert_stopped_by};
use crate::world::Told;

#[tokio::test]
async fn steps_are_met_with_an_answer_that_is_counted_too() {
    // (pitfalls 2, 8) Equal is allowed, the forced last call counts, and the provider saw what the log says.
    let world = agent("steps = 5\nrepeats = 100").start();
    let told = world.run().await;
    assert_stopped_by(&told, LimitKind::Steps, "5");
    assert_landed(&told);
    assert_eq!((told.run.counters.steps, told.run.counters.model_calls), (5, 3));
    assert_eq!(world.invoice().count, 3);
    world.verify();
}

#[tokio::test]
async fn steps_stop_at_once_where_the_author_says_so() {
    let told = agent("steps = 5\nrepeats = 100\nat_limit = 'stop'").start().run().await;
    assert_stopped_by(&told, LimitKind::Steps, "5");
    assert_eq!((told.ended().output.as_ref(), told.run.counters.steps, told.run.counters.model_calls), (None, 5, 3));
    assert!(told.events().all(|event| !matches!(event, Event::Admitted(admitted) if admitted.landing.is_some())));
}

#[tokio::test]
async fn model_calls_keep_one_for_the_landing() {
    let world = agent("model_calls = 3\nrepeats = 100").start();
    let told = world.run().await;
    assert_stopped_by(&told, LimitKind::ModelCalls, "3");
    assert_landed(&told);
    assert_eq!((told.run.counters.model_calls, world.invoice().count), (3, 3));
    let told = agent("model_calls = 3\nrepeats = 100\nat_limit = 'stop'").start().run().await;
    assert_stopped_by(&told, LimitKind::ModelCalls, "3");
    assert_eq!((told.run.counters.model_calls, told.run.counters.tool_calls), (3, 3));
}

#[tokio::test]
async fn of_a_batch_of_twenty_ten_calls_run_and_ten_are_refused() {
    // (pitfall 7) Each call has an answer, in the order in which the model asked.
    let calls: Vec<String> = (0..20).map(|n| format!("{{ name = 'look', arguments = {{ n = {n} }} }}")).collect();
    let scenario = format!("[[reply]]\ntool_calls = [{}]\n[[reply]]\ntext = 'done'\n", calls.join(", "));
    let world = agent("tool_calls = 10").scenario(&scenario).start();
    let told = world.run().await;
    assert_eq!(told.state(), RunState::Finished, "{}", told.show());
    let answers = answers(&told);
    assert_eq!(answers.len(), 20);
    for (index, (text, is_error)) in answers.iter().enumerate() {
        assert_eq!((*is_error, text.contains("ToolCalls")), (index >= 10, index >= 10), "{index}: {text}");
    }
    assert_eq!(told.run.counters.tool_calls, 10);
    let sent = told.run.turns(&"main".into());
    assert_eq!(sent.len(), 1 + 20 + 1, "one answer for each call");
}

#[tokio::test]
async fn attempts_are_counted_over_the_run_and_one_is_kept_to_land() {
    // (pitfall 9) One owner of retries: the provider sees each try once.
    let scenario =
        format!("[[rule]]\nwhen = {{ attempt = 1, tools = true }}\nfault = 'rate_limit'\nretry_after = '1ms'\n{LOOP}");
    let world = agent("attempts = 5\nrepeats = 100").scenario(&scenario).start();
    let told = world.run().await;
    assert_stopped_by(&told, LimitKind::Attempts, "5");
    assert_landed(&told);
    assert_eq!((told.run.counters.attempts, told.run.counters.model_calls, world.invoice().count), (5, 3, 5));
    world.verify();
}

#[tokio::test]
async fn the_same_call_is_made_so_often_and_no_more() {
    let world = agent("repeats = 2\nmodel_calls = 5").start();
    let told = world.run().await;
    assert_stopped_by(&told, LimitKind::ModelCalls, "5");
    let answers = answers(&told);
    assert_eq!(answers.iter().map(|(_, is_error)| *is_error).collect::<Vec<_>>(), [false, false, true, true]);
    assert!(answers[2].0.contains("Repeats") && answers[2].0.contains("look"), "{}", answers[2].0);
    assert_eq!(told.run.counters.tool_calls, 2);
}

#[tokio::test]
async fn errors_in_a_row_end_the_loop_and_a_good_call_forgives_them() {
    let bad = "{ name = 'nope' }";
    let good = "{ name = 'look', arguments = { n = 1 } }";
    let answer = "[[rule]]\nwhen = { tools = false }\ntext = 'all that I know'\n";
    let turns = |calls: &[&str]| {
        let turn = |call: &&str| format!("[[reply]]\ntool_calls = [{call}]\n");
        format!("{answer}{}[[reply]]\ntext = 'done'\n", calls.iter().map(turn).collect::<String>())
    };
    let told = agent("tool_errors = 2").scenario(&turns(&[bad, good, bad])).start().run().await;
    assert_eq!(told.state(), RunState::Finished, "{}", told.show());
    let told = agent("tool_errors = 2").scenario(&turns(&[bad, bad, good])).start().run().await;
    assert_stopped_by(&told, LimitKind::ToolErrors, "2");
    assert_landed(&told);
    assert_eq!(told.run.counters.tool_calls, 2, "calls of tools that don't exist count");
}

#[tokio::test]
async fn so_many_calls_at_once_and_no_more() {
    let calls: Vec<String> = (0..6).map(|n| format!("{{ name = 'slow', arguments = {{ n = {n} }} }}")).collect();
    let scenario = format!("[[reply]]\ntool_calls = [{}]\n[[reply]]\ntext = 'done'\n", calls.join(", "));
    let slow = "description = 'Slow'\nkind = 'command'\ncommand = ['sleep', '0.05']\nidempotent = true\n\
        [input]\ntype = 'object'\nproperties.n = { type = 'integer' }\n";
    let recipe = agent_with("", "tools = ['slow']", "parallel = 2").file("tools/slow.toml", slow).scenario(&scenario);
    let told = recipe.start().run().await;
    assert_eq!(told.state(), RunState::Finished, "{}", told.show());
    assert_eq!(answers(&told).iter().filter(|(_, is_error)| !is_error).count(), 6, "{}", told.show());
    assert_eq!(most_at_once(&told), 2, "{}", told.show());
}

/// The most tool calls that were in flight at once.
fn most_at_once(told: &Told) -> usize {
    let mut open = std::collections::BTreeSet::new();
    let mut most = 0;
    for event in told.events() {
        if let Event::Reserved(reserved) = event
            && matches!(reserved.call, Call::Tool { .. })
        {
            open.insert(reserved.reservation);
        }
        if let Event::Settled(settled) = event {
            open.remove(&settled.reservation);
        }
        most = most.max(open.len());
    }
    most
}

#[tokio::test]
async fn a_landing_has_its_own_sizes() {
    let long = "fill ".repeat(700);
    let look = format!("{}\n", super::LOOK.replace("seen", &long));
    let told = agent("steps = 7\nrepeats = 100\nlanding_tokens = 1_500\nlanding_output_tokens = 77")
        .file("tools/look.toml", &look)
        .start()
        .run()
        .await;
    assert_landed(&told);
    let landing = told.calls().last().expect("a call");
    assert_eq!(landing.max_output_tokens, 77);
    assert!(landing.bound.tokens.0 <= 1_500 && !landing.cuts.is_empty(), "{landing:?}");
}

#[tokio::test]
async fn a_landing_that_can_not_hold_the_input_ends_without_output() {
    let words = "word ".repeat(300);
    let recipe = agent("steps = 3\nrepeats = 100\nlanding_tokens = 100").file("agents/a.toml", "");
    let text = format!(
        "description = 'a'\ntools = ['look']\n[model]\nmodels = ['openai/gpt-5-mini']\n[prompt]\nsystem = '{words}'\n\
         [limits]\nsteps = 3\nrepeats = 100\nlanding_tokens = 100\n"
    );
    let told = recipe.file("agents/a.toml", &text).start().run().await;
    assert_stopped_by(&told, LimitKind::Steps, "3");
    assert_eq!(told.ended().output, None);
    assert!(told.calls().all(|call| call.purpose != Purpose::Landing));
}

/// A run of one call without tools, under this limit: what it bounded, and how it ended.
async fn one_call(limits: &str) -> Told {
    agent_with("max_output_tokens = 300", "", limits).scenario("[[reply]]\ntext = 'done'\n").start().run().await
}

#[tokio::test]
async fn token_limits_allow_what_just_fits() {
    // (pitfall 2)
    let free = one_call("at_limit = 'stop'\ntokens = 1_000_000").await;
    let by_bytes = free.calls().next().expect("a call").bound.tokens.0;
    let tight = one_call(&format!("at_limit = 'stop'\ninput_tokens = {}", by_bytes - 1)).await;
    let input = tight.calls().next().expect("counted in tokens it fits").bound.tokens.0;
    assert!(input < by_bytes);
    for (key, kind, limit) in [
        ("tokens", LimitKind::Tokens, input + 300),
        ("input_tokens", LimitKind::InputTokens, input),
        ("output_tokens", LimitKind::OutputTokens, 300),
    ] {
        let told = one_call(&format!("at_limit = 'stop'\n{key} = {limit}")).await;
        assert_eq!(told.state(), RunState::Finished, "{key}: {}", told.show());
        let less = limit - 1;
        let told = one_call(&format!("at_limit = 'stop'\n{key} = {less}")).await;
        assert_stopped_by(&told, kind, &less.to_string());
        assert_eq!(told.run.counters.attempts, 0);
    }
}

#[tokio::test]
async fn token_limits_keep_the_landing_its_share() {
    let told = agent("steps = 1_000\nmodel_calls = 100\nrepeats = 100\ntokens = 12_000\nlanding_tokens = 2_000\nlanding_output_tokens = 100")
        .start()
        .run()
        .await;
    assert_stopped_by(&told, LimitKind::Tokens, "12,000");
    assert_landed(&told);
    let used = told.run.counters.usage;
    assert!(used.input_total().plus(used.output).0 <= 12_000);
    assert!(told.run.counters.model_calls >= 3);
}

#[tokio::test]
async fn a_tool_gives_so_many_bytes() {
    let look = super::LOOK.replace("seen", &"fill ".repeat(400));
    let told = agent("steps = 4\nrepeats = 100\noutput_bytes = 256").file("tools/look.toml", &look).start().run().await;
    let answers = answers(&told);
    assert!(
        !answers.is_empty() && answers.iter().all(|(text, _)| text.len() <= 256 && text.len() > 100),
        "{answers:?}"
    );
}
