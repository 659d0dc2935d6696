//! Conversations longer than their pots, and documents beside them, over the socket of the simulated provider.

use plimsoll::domain::event::{ModelCall, Pot, Purpose, RunState};
use plimsoll::domain::message::Message;
use plimsoll::domain::report::{CostTable, Dimension};
use plimsoll::domain::rollup::Day;
use serde_json::json;

use crate::world::{Recipe, Told};

const AGENT: &str = r#"
description = "a"
tools = ["calculate"]
[model]
models = ["openai/gpt-5-mini"]
max_output_tokens = 400
[prompt]
system = "Help."
[retry]
backoff = "1ms..2ms"
[limits]
steps = 60
model_calls = 20
repeats = 50
cost = "$0.50"
[context]
tokens = 6000
history = 600
tool_output = 1500
overflow = "summarise"
summary_model = "openai/gpt-5-nano"
"#;

const TOOL: &str = "description = 'Does sums'\nkind = 'builtin'\nbuiltin = 'calculate'\n";

fn calls(count: usize) -> String {
    let one = |number: usize| {
        let words = "words of a model that thinks aloud for a while. ".repeat(5);
        format!(
            "[[reply]]\ntext = '{number}: {words}'\ntool_calls = [{{ name = 'calculate', arguments = {{ expression = '{number}+1' }} }}]\n"
        )
    };
    let calls: String = (0..count).map(one).collect();
    format!("{calls}[[reply]]\ntext = 'done'\n")
}

fn recipe(count: usize) -> Recipe {
    Recipe::agent(AGENT)
        .file("tools/calculate.toml", TOOL)
        .scenario(&calls(count))
        .rule("[[rule]]\nwhen = { contains = 'Sum up the work below' }\ntext = 'SUMMED UP: so far so good'\n")
}

fn summaries(told: &Told) -> Vec<&ModelCall> {
    told.calls().filter(|call| call.purpose == Purpose::Summary).collect()
}

fn text_of(message: &Message) -> &str {
    match message {
        Message::System { text } | Message::User { text } => text,
        Message::File(file) => file.name(),
        Message::Assistant(said) => &said.text,
        Message::Tool(answer) => &answer.content,
    }
}

#[tokio::test]
async fn old_turns_are_summed_up_by_a_priced_call() {
    let world = recipe(16).start();
    let told = world.run().await;
    assert_eq!(told.state(), RunState::Stopped, "{}", told.show());
    let summaries = summaries(&told);
    assert!(!summaries.is_empty(), "{}", told.show());
    assert!(summaries.iter().all(|call| call.model.as_str() == "openai/gpt-5-nano" && call.sums_up.is_some()));
    assert!(summaries.is_sorted_by_key(|call| call.sums_up));
    let turns: Vec<usize> =
        told.calls().enumerate().filter(|(_, call)| call.purpose == Purpose::Summary).map(|at| at.0).collect();
    assert!(turns.windows(2).all(|pair| pair[1] - pair[0] > 4), "at most one in four turns: {turns:?}");
    assert!(
        told.calls().all(|call| call.pots.history <= plimsoll::units::Tokens(600) || call.purpose != Purpose::Turn)
    );
    let cuts = told.calls().flat_map(|call| &call.cuts);
    assert!(
        { cuts }.all(|cut| !cut.what.contains("not summed up") || cut.what.contains("4 turns ago")),
        "{}",
        told.show()
    );
    let sent = told.run.turns(&"main".into());
    assert!(sent.iter().all(|message| !text_of(message).starts_with("0: ")), "the first turn is summed up");
    let summary = told.run.summary_at(&"main".into(), None).expect("a summary");
    assert!(summary.text().contains("SUMMED UP"));
    let counted = told.calls().count();
    assert_eq!(usize::try_from(told.run.counters.model_calls).expect("few"), counted, "a summary is a model call");
    // The ledger has its price: the invoice says the same.
    world.verify();
}

#[tokio::test]
async fn a_summary_that_fails_leaves_a_cut_that_says_so() {
    let rule = "[[rule]]\nwhen = { contains = 'Sum up the work below' }\nfault = 'server_error'\n";
    let world = Recipe::agent(AGENT).file("tools/calculate.toml", TOOL).scenario(&calls(10)).rule(rule).start();
    let told = world.run().await;
    assert_eq!(told.state(), RunState::Stopped, "{}", told.show());
    assert!(!summaries(&told).is_empty());
    let said = told
        .calls()
        .flat_map(|call| &call.cuts)
        .any(|cut| cut.pot == Pot::History && cut.what.contains("not summed up: this was tried"));
    assert!(said, "{}", told.show());
    world.verify();
}

#[tokio::test]
async fn documents_go_out_ranked_and_stay_as_they_were() {
    let agent = AGENT.replace("overflow = \"summarise\"\nsummary_model = \"openai/gpt-5-nano\"", "documents = 300");
    let agent = format!("{agent}\n[documents]\nfrom = [\"docs/**/*.md\"]\n");
    let other = "Shipping takes a while and then some more time. ".repeat(60);
    let world = Recipe::agent(&agent)
        .file("tools/calculate.toml", TOOL)
        .file("docs/help/refunds.md", "A refund takes five days, and is paid to the card.")
        .file("docs/shipping.md", &other)
        .scenario("[[rule]]\nwhen = { contains = 'A refund takes five days' }\ntext = 'five days'\n[[reply]]\ntext = 'no idea'\n")
        .start();
    let told = world.run_on(json!("How long does a refund take?")).await;
    assert_eq!(told.ended().output, Some("five days".into()), "{}", told.show());
    let documents = told.run.documents.as_ref().expect("documents");
    assert_eq!(documents.pieces[0].name, "docs/help/refunds.md");
    let call = told.calls().next().expect("a call");
    assert!(call.pots.documents > plimsoll::units::Tokens(0) && call.pots.documents <= plimsoll::units::Tokens(300));
    assert!(
        call.cuts.iter().any(|cut| cut.pot == Pot::Documents && cut.what.contains("docs/shipping.md")),
        "{}",
        told.show()
    );
    std::fs::write(world.folder.path().join("docs/help/refunds.md"), "Nothing is refunded.").expect("a file");
    assert_eq!(world.told(told.run.id).run.documents, told.run.documents, "the log has the text that was sent");
    std::fs::write(world.folder.path().join("docs/image.md"), b"a\xff").expect("a file");
    let new = crate::world::new_run(plimsoll::domain::event::Labels::new());
    let refused = world.runtime.run(&new, plimsoll::runtime::silent()).await.expect_err("no text");
    assert!(refused.to_string().contains("`docs/image.md` is no UTF-8 text"), "{refused}");
}

fn in_thread(id: &str) -> plimsoll::domain::event::Labels {
    [("thread".to_owned(), id.to_owned())].into()
}

#[tokio::test]
async fn a_thread_goes_on_and_sees_no_other() {
    let agent = AGENT.replace("overflow = \"summarise\"\nsummary_model = \"openai/gpt-5-nano\"", "");
    let budget = "[[budgets]]\nname = 'talks'\neach = ['thread']\ncap = '$0.10'\nper = 'total'\ntime_zone = 'UTC'\n";
    let world = Recipe::agent(&agent)
        .file("plimsoll.toml", budget)
        .file("tools/calculate.toml", TOOL)
        .scenario("[[rule]]\nwhen = { contains = 'the answer is BLUE' }\ntext = 'I said blue before'\n[[reply]]\ntext = 'the answer is BLUE'\n")
        .start();
    let first = world.run_with(in_thread("t1")).await;
    assert_eq!(first.ended().output, Some("the answer is BLUE".into()), "{}", first.show());
    let second = world.run_with(in_thread("t1")).await;
    assert_eq!(second.ended().output, Some("I said blue before".into()), "{}", second.show());
    assert!(second.calls().next().expect("a call").pots.history > plimsoll::units::Tokens(0));
    let other = world.run_with(in_thread("t2")).await;
    assert_eq!(other.ended().output, Some("the answer is BLUE".into()), "another thread knows nothing of it");
    let outside = world.run().await;
    assert_eq!(outside.state(), RunState::Finished, "a run outside of any thread isn't refused: {}", outside.show());
    let open = world.runtime.create(&crate::world::new_run(in_thread("t1"))).await.expect("it is made");
    let second_open = world.runtime.run(&crate::world::new_run(in_thread("t1")), plimsoll::runtime::silent()).await;
    let refused = second_open.expect_err("one open run for each thread").to_string();
    assert!(refused.contains("thread `t1`") && refused.contains(&open.to_string()), "{refused}");
    let (state, created) = world.runtime.load(open).expect("it loads");
    assert_eq!((state.id, created.thread.and_then(|thread| thread.after)), (open, Some(second.run.id)));
    world.verify();

    let rollups = world.runtime.store().rollups(Day(0), Day(u32::MAX)).expect("rollups");
    let costs = CostTable::of(&[Dimension::Thread], &rollups);
    let cost = |thread: Option<&str>| {
        let row = costs.rows.iter().find(|row| row.values.0[0].1.as_deref() == thread).expect("a row");
        row.sums.settled_usd
    };
    let settled = |told: &crate::world::Told| told.run.counters.settled;
    assert_eq!(cost(Some("t1")), settled(&first).plus(settled(&second)), "both runs of the thread, and no other");
    assert_eq!(cost(Some("t2")), settled(&other));
    assert_eq!(cost(None), settled(&outside));
}
