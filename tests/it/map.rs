//! Maps and tool stages from TOML, over the socket of the simulated provider: order, places, failures, limits, resumes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use plimsoll::domain::event::{Call, Decision, Event, Place, RunState, StageEnd};
use plimsoll::domain::limits::LimitKind;
use plimsoll::domain::report::Trace;
use plimsoll::domain::run::Given;
use plimsoll::runtime::{NewRun, Observer, Progress, silent};
use serde_json::{Value, json};

use crate::world::{Recipe, Told, World, new_run};

const ITEMS: usize = 8;

/// A map of model calls, and one call that has the whole list.
const AGENT: &str = r#"
description = "Reads sections"
[model]
models = ["openai/gpt-5-mini"]
max_output_tokens = 300
[prompt]
system = "Help."
[input]
type = "object"
required = ["sections"]
properties.sections = {}
[retry]
backoff = "1ms..2ms"
[limits]
parallel = 4
steps = 60
model_calls = 60
cost = "$0.90"

[[stage]]
id = "read"
kind = "map"
over = "input.sections"
limits = { items = 20, parallel = 3 }
[stage.each]
kind = "model"
prompt = { user = "CHECK {{ index }}: {{ item.text }}" }

[[stage]]
id = "sum"
kind = "model"
needs = ["read"]
prompt = { user = "SUM {{ stages.read.output }}" }
"#;

/// Each section is answered after its own time, so that the last may be the first.
fn scenario() -> String {
    let latencies = [40, 5, 60, 1, 25, 80, 10, 2];
    let rule = |(index, latency): (usize, &u32)| {
        format!(
            "[[rule]]\nwhen = {{ contains = 'CHECK {index}: ' }}\nlatency = '{latency}ms'\ntext = 'found {index}'\n"
        )
    };
    let rules: String = latencies.iter().enumerate().map(rule).collect();
    format!("{rules}[[rule]]\nwhen = {{ contains = 'SUM' }}\ntext = 'all read'\n")
}

fn recipe() -> Recipe {
    Recipe::agent(AGENT).scenario(&scenario())
}

fn sections(count: usize) -> Value {
    let section = |index: usize| json!({ "text": format!("section {index}") });
    json!({ "sections": (0..count).map(section).collect::<Vec<_>>() })
}

/// The places that were over, each with how and what it gave.
fn ends(told: &Told) -> Vec<(String, StageEnd, Value)> {
    let end = |event: &Event| {
        let Event::StageEnded(ended) = event else { return None };
        Some((ended.place.to_string(), ended.end, ended.output.clone()))
    };
    told.events().filter_map(end).collect()
}

fn end_of(told: &Told, place: &str) -> (StageEnd, Value) {
    let all = ends(told).into_iter().find(|(name, ..)| name == place);
    let (_, end, output) = all.unwrap_or_else(|| panic!("`{place}` is not over: {}", told.show()));
    (end, output)
}

/// The most attempts of a stage that were open at once, by the log.
fn most_open(told: &Told, stage: &str) -> usize {
    let (mut open, mut most) = (BTreeMap::new(), 0);
    for event in told.events() {
        if let Event::Reserved(reserved) = event
            && reserved.step.stage.as_str() == stage
        {
            open.insert(reserved.reservation, reserved.step.place());
        } else if let Event::Settled(settled) = event {
            open.remove(&settled.reservation);
        } else if let Event::Voided(voided) = event {
            open.remove(&voided.reservation);
        }
        most = most.max(open.len());
    }
    most
}

/// How often each place reserved a first attempt.
fn steps_of(told: &Told) -> BTreeMap<Place, usize> {
    let mut steps = BTreeMap::new();
    for reserved in told.reservations().filter(|reserved| reserved.attempt == 1) {
        *steps.entry(reserved.step.place()).or_default() += 1;
    }
    steps
}

fn found(count: usize) -> Value {
    (0..count).map(|index| Value::from(format!("found {index}"))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn items_run_beside_each_other_and_the_list_is_in_their_order() {
    let world = recipe().start();
    let told = world.run_on(sections(ITEMS)).await;
    assert_eq!(told.ended().output, Some("all read".into()), "{}", told.show());
    assert_eq!(end_of(&told, "read"), (StageEnd::Finished, found(ITEMS)));
    assert_eq!(most_open(&told, "read"), 3, "as many as the stage allows, and no more: {}", told.show());
    let finished: Vec<String> = ends(&told).into_iter().map(|(place, ..)| place).collect();
    let in_order: Vec<String> = (0..ITEMS).map(|index| format!("read[{index}]")).collect();
    assert_ne!(finished[..ITEMS], in_order[..], "the slow ones end later");
    let begun: Vec<u32> = told.reservations().filter_map(|reserved| reserved.step.item).collect();
    assert_eq!(begun, (0..8).collect::<Vec<u32>>(), "they begin in their order");
    assert_eq!(told.run.counters.settled, world.invoice().total);
    world.verify();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_runs_own_parallel_holds_for_items_too() {
    let recipe = recipe().amend("agents/a.toml", "parallel = 4", "parallel = 2");
    let world =
        recipe.amend("agents/a.toml", "limits = { items = 20, parallel = 3 }", "limits = { items = 20 }").start();
    let told = world.run_on(sections(ITEMS)).await;
    assert_eq!(end_of(&told, "read").1, found(ITEMS), "{}", told.show());
    assert_eq!(most_open(&told, "read"), 2, "{}", told.show());
    world.verify();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_list_is_done_at_once() {
    let world = recipe().start();
    let told = world.run_on(sections(0)).await;
    assert_eq!(told.ended().output, Some("all read".into()), "{}", told.show());
    assert_eq!(end_of(&told, "read"), (StageEnd::Finished, json!([])));
    assert_eq!(told.calls().count(), 1);
    world.verify();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_isnt_a_list_fails_the_stage_in_plain_words() {
    for (sections, kind) in [(json!("one"), "a text"), (json!({ "a": 1 }), "an object"), (json!(3), "a number")] {
        let world = recipe().start();
        let told = world.run_on(json!({ "sections": sections })).await;
        assert_eq!(told.state(), RunState::Failed, "{}", told.show());
        let error = told.ended().error.clone().expect("words");
        assert_eq!(error, format!("stage `read`: `over` must give a list, and gives {kind}"));
        assert_eq!(world.invoice().total, plimsoll::units::Money::ZERO);
        world.verify();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_that_is_too_long_is_refused_whole_by_its_limit() {
    let world = recipe().start();
    let told = world.run_on(sections(21)).await;
    assert_eq!(told.state(), RunState::Stopped, "{}", told.show());
    let refusal = told.refusal();
    assert_eq!((refusal.limit, refusal.value.as_str()), (LimitKind::Items, "20"), "{refusal}");
    assert!(refusal.to_string().contains("stage read") && refusal.to_string().contains("21 items"), "{refusal}");
    assert!(steps_of(&told).keys().all(|place| place.item.is_none()), "no item is begun: {}", told.show());
    world.verify();
    let long = json!({ "sections": [{ "text": "x".repeat(1 << 20) }] });
    let told = world.run_on(long).await;
    let error = told.ended().error.clone().expect("words");
    assert!(error.contains("`over`") && error.contains("1,048,5"), "{error}");
}

/// The fourth section's request is refused by the provider, whatever is tried.
fn one_fails() -> String {
    let fault = "[[rule]]\nwhen = { contains = 'CHECK 3: ' }\nfault = 'bad_request'\nrepeat = 'forever'\n";
    format!("{fault}{}", scenario())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_item_that_fails_leaves_null_where_the_author_says_so() {
    let recipe = Recipe::agent(AGENT).scenario(&one_fails());
    let world = recipe.amend("agents/a.toml", "[stage.each]", "[stage.each]\non_error = \"continue\"").start();
    let told = world.run_on(sections(ITEMS)).await;
    assert_eq!(told.ended().output, Some("all read".into()), "{}", told.show());
    let (end, output) = end_of(&told, "read");
    let mut expected = found(ITEMS);
    expected[3] = Value::Null;
    assert_eq!((end, output), (StageEnd::Finished, expected), "{}", told.show());
    assert_eq!(end_of(&told, "read[3]").0, StageEnd::Failed);
    world.verify();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_item_that_fails_fails_its_map_by_default_and_the_others_are_drained() {
    let world = Recipe::agent(AGENT).scenario(&one_fails()).start();
    let told = world.run_on(sections(ITEMS)).await;
    assert_eq!(told.state(), RunState::Failed, "{}", told.show());
    let error = told.ended().error.clone().expect("words");
    assert!(error.starts_with("stage `read`: item 3: model `openai/gpt-5-mini` failed"), "{error}");
    assert_eq!(end_of(&told, "read").0, StageEnd::Failed);
    assert!(steps_of(&told).len() < ITEMS, "nothing is started after it: {}", told.show());
    let is_over = |event: &Event| matches!(event, Event::StageEnded(ended) if ended.place.item.is_none() && ended.place.stage.as_str() == "read");
    let after = told.events().skip_while(|event| !is_over(event));
    let late = after.filter(|event| matches!(event, Event::Settled(_) | Event::Voided(_))).count();
    assert_eq!(late, 0, "the map is over once the others are: {}", told.show());
    assert_eq!(told.run.counters.settled, world.invoice().total, "what was in flight is paid and booked");
    world.verify();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_item_is_mended_once() {
    let recipe = recipe().amend(
        "agents/a.toml",
        "prompt = { user = \"CHECK",
        "output = { type = \"object\", required = [\"ok\"] }\nprompt = { user = \"CHECK",
    );
    let mended = "[[rule]]\nwhen = { contains = \"doesn't have the form\" }\njson = { ok = true }\n";
    let world = recipe.clone().scenario(&format!("{mended}{}", scenario())).start();
    let told = world.run_on(sections(3)).await;
    assert_eq!(end_of(&told, "read").1, json!([{ "ok": true }, { "ok": true }, { "ok": true }]), "{}", told.show());
    assert!(steps_of(&told).iter().all(|(place, steps)| *steps == if place.item.is_some() { 2 } else { 1 }));
    let world = recipe.start();
    let told = world.run_on(sections(1)).await;
    let error = told.ended().error.clone().expect("words");
    assert!(error.contains("item 0: the answer doesn't have its declared form"), "{error}");
    assert_eq!(told.calls().count(), 2, "{}", told.show());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn outputs_that_are_too_much_stop_the_item_that_brings_them() {
    let big = "x".repeat(300 * 1024);
    let rule = format!("[[rule]]\nwhen = {{ contains = 'CHECK' }}\ntext = '{big}'\noutput_tokens = 50\n");
    let rest = "[[rule]]\nwhen = { contains = 'SUM' }\ntext = 'all read'\n[[rule]]\nwhen = { tools = false }\ntext = 'as far'\n";
    let world = Recipe::agent(AGENT).scenario(&format!("{rule}{rest}")).start();
    let told = world.run_on(sections(5)).await;
    assert_eq!(told.state(), RunState::Stopped, "{:?}", ends(&told).iter().map(|(place, end, _)| (place, end)));
    assert_eq!(told.refusal().limit, LimitKind::OutputBytes, "{}", told.refusal());
    assert_eq!(told.ended().output, Some("as far".into()));
    assert!(format!("{:?}", told.run.landing_turns()).contains("Stage `read`, stopped by a limit, gave: "));
    world.verify();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_landing_tells_what_the_items_have_so_far() {
    // One step is kept for landing: four items find one.
    let world = recipe()
        .amend("agents/a.toml", "steps = 60", "steps = 5")
        .rule("[[rule]]\nwhen = { tools = false }\ntext = 'as far as it came'\n")
        .start();
    let told = world.run_on(sections(ITEMS)).await;
    assert_eq!(told.state(), RunState::Stopped, "{}", told.show());
    assert_eq!(told.refusal().limit, LimitKind::Steps);
    assert_eq!(told.ended().output, Some("as far as it came".into()), "{}", told.show());
    let turns = format!("{:?}", told.run.landing_turns());
    // Some of them came in when no other could begin any more: they are told as they are.
    for index in 0..4 {
        assert!(turns.contains(&format!("{index}: found {index}")), "{turns}");
    }
    assert!(turns.contains("Stage `read`, not finished, gave for "), "{turns}");
    world.verify();
}

/// A process that is stopped as soon as this many attempts were reserved; what it left.
async fn stopped_after(recipe: &Recipe, attempts: usize, input: Value) -> (World, plimsoll::ids::RunId, RunState) {
    let world = recipe.start();
    let runtime = world.runtime.clone();
    let (stopper, seen) = (runtime.clone(), std::sync::atomic::AtomicUsize::new(0));
    let observer: Observer = Arc::new(move |progress| {
        if let Progress::Event { recorded, .. } = progress
            && matches!(recorded.event, Event::Reserved(_))
            && seen.fetch_add(1, std::sync::atomic::Ordering::SeqCst) + 1 == attempts
        {
            stopper.request_stop();
        }
    });
    let new = NewRun { input, ..new_run(Default::default()) };
    let ran = tokio::time::timeout(Duration::from_secs(30), runtime.run(&new, observer)).await.expect("in time");
    let (run, state) = ran.expect("it runs");
    drop(runtime);
    (world.reopen(), run, state)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_map_goes_on_with_the_items_that_are_missing() {
    for attempts in [1, 3, 5, 8] {
        let (world, run, state) = stopped_after(&recipe(), attempts, sections(ITEMS)).await;
        assert_eq!(state, RunState::Interrupted, "{attempts}");
        let before = ends(&world.told(run));
        let driven = tokio::time::timeout(Duration::from_secs(30), world.runtime.drive(run, silent())).await;
        assert_eq!(driven.expect("in time").expect("it goes on"), RunState::Finished, "{attempts}");
        let told = world.told(run);
        assert_eq!(end_of(&told, "read"), (StageEnd::Finished, found(ITEMS)), "{}", told.show());
        assert_eq!(ends(&told)[..before.len()], before[..], "what was over stays so");
        assert!(steps_of(&told).values().all(|steps| *steps == 1), "no item runs twice: {}", told.show());
        let begun = told.events().filter(|event| matches!(event, Event::MapBegan(_))).count();
        assert_eq!(begun, 1, "the list is taken once");
        assert_eq!(told.run.counters.settled, world.invoice().total);
        world.verify();
    }
}

/// Three tools: one of the process, and two programs, of which one fails where it is told to.
const TOOLS: &str = r#"
description = "Looks things up"
[model]
models = ["openai/gpt-5-mini"]
max_output_tokens = 300
[prompt]
system = "Help."
[input]
type = "object"
required = ["numbers"]
properties.numbers = {}
[limits]
parallel = 4
steps = 60
tool_calls = 60
cost = "$0.50"

[[stage]]
id = "look"
kind = "map"
over = "input.numbers"
[stage.each]
kind = "tool"
tool = "weigh"
args = { expression = "{{ item }} * 2" }

[[stage]]
id = "note"
kind = "tool"
needs = ["look"]
tool = "note"
args = { count = "{{ input.numbers | length }}", what = "{{ stages.look.output | join(' and ') }}" }
[stage.output]
type = "object"
required = ["count"]

[[stage]]
id = "answer"
kind = "model"
needs = ["note"]
prompt = { user = "ANSWER {{ stages.note.output.count + 1 }} of {{ stages.note.output.what }}" }
"#;

const NOTE: &str = r#"
description = "Notes a thing"
kind = "command"
command = ["./note.sh", "{{ args.count }}", "{{ args.what }}"]
idempotent = true
[input]
type = "object"
required = ["count", "what"]
properties.count = { type = "integer" }
properties.what = { type = "string" }
"#;

const NOTE_SCRIPT: &str = "#!/bin/sh\nprintf '{\"count\": %s, \"what\": \"%s\"}' \"$1\" \"$2\"\n";

fn with_tools() -> Recipe {
    Recipe::agent(TOOLS)
        .file("tools/weigh.toml", "kind = \"builtin\"\nbuiltin = \"calculate\"\n")
        .file("tools/note.toml", NOTE)
        .file("tools/note.sh", NOTE_SCRIPT)
        .scenario("[[rule]]\nwhen = { contains = 'ANSWER 4 of 2 and 4 and 6' }\ntext = 'noted'\n")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tool_stage_takes_values_as_they_are_and_gives_what_it_declares() {
    let world = with_tools().start();
    let told = world.run_on(json!({ "numbers": [1, 2, 3] })).await;
    assert_eq!(told.ended().output, Some("noted".into()), "{}", told.show());
    assert_eq!(end_of(&told, "look").1, json!(["2", "4", "6"]));
    assert_eq!(end_of(&told, "note").1, json!({ "count": 3, "what": "2 and 4 and 6" }));
    let counters = &told.run.counters;
    assert_eq!((counters.steps, counters.tool_calls, counters.model_calls), (5, 4, 1));
    let arguments: Vec<Value> = told
        .reservations()
        .filter_map(|reserved| match &reserved.call {
            Call::Tool { arguments, .. } => arguments.clone(),
            Call::Model(_) => None,
        })
        .collect();
    assert_eq!(arguments.last(), Some(&json!({ "count": 3, "what": "2 and 4 and 6" })), "{}", told.show());
    let trace = Trace::of(told.run.id, told.run.plan.clone(), &told.log, told.log.last().expect("a fact").at);
    let trace = trace.expect("a trace");
    let places: Vec<String> = trace.steps().filter_map(|step| step.place()).map(|place| place.to_string()).collect();
    assert_eq!(places, ["look[0]", "look[1]", "look[2]", "note", "answer"]);
    let table = plimsoll::cli::render::trace::ending(&trace, None);
    assert!(table.contains("STAGE") && table.contains("look[2]  tool weigh {\"expression\":\"3 * 2\"}"), "{table}");
    world.verify();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tool_that_fails_fails_its_stage() {
    let world = with_tools().file("tools/note.sh", "#!/bin/sh\necho 'no paper left' >&2\nexit 3\n").start();
    let told = world.run_on(json!({ "numbers": [1] })).await;
    assert_eq!(told.state(), RunState::Failed, "{}", told.show());
    let error = told.ended().error.clone().expect("words");
    assert!(error.starts_with("stage `note`: tool `note`: ") && error.contains("no paper left"), "{error}");
    let recipe = with_tools().file("tools/note.sh", "#!/bin/sh\nexit 3\n");
    let recipe = recipe.amend("agents/a.toml", "id = \"note\"", "id = \"note\"\non_error = \"continue\"");
    let asks = "ANSWER {{ stages.note.state }}, {{ stages.note.output }}";
    let asked = "ANSWER {{ stages.note.output.count + 1 }} of {{ stages.note.output.what }}";
    let recipe = recipe.amend("agents/a.toml", asked, asks);
    let world = recipe.rule("[[rule]]\nwhen = { contains = 'ANSWER failed, null' }\ntext = 'without'\n").start();
    let told = world.run_on(json!({ "numbers": [1] })).await;
    assert_eq!(told.ended().output, Some("without".into()), "{}", told.show());
    world.verify();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn arguments_and_results_are_held_to_their_schemas() {
    let world = with_tools()
        .amend("agents/a.toml", "count = \"{{ input.numbers | length }}\"", "count = \"{{ 'many' }}\"")
        .start();
    let told = world.run_on(json!({ "numbers": [1] })).await;
    let error = told.ended().error.clone().expect("words");
    assert!(error.contains("stage `note`") && error.contains("count"), "{error}");
    assert_eq!(told.run.counters.tool_calls, 1, "what can't be called isn't: {}", told.show());
    let world = with_tools().file("tools/note.sh", "#!/bin/sh\necho 'just words'\n").start();
    let told = world.run_on(json!({ "numbers": [1] })).await;
    let error = told.ended().error.clone().expect("words");
    assert!(error.contains("what tool `note` gave doesn't have its declared form"), "{error}");
    let world = with_tools().amend("agents/a.toml", "{{ item }} * 2", "{{ item.gone }} * 2").start();
    let told = world.run_on(json!({ "numbers": [1] })).await;
    let error = told.ended().error.clone().expect("words");
    assert!(error.contains("item 0: the arguments can't be rendered") && error.contains("`item.gone`"), "{error}");
    world.verify();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_call_too_often_stops_its_item_and_no_more() {
    let recipe = with_tools().amend("agents/a.toml", "[stage.each]", "[stage.each]\non_error = \"continue\"");
    let recipe = recipe.amend("agents/a.toml", "ANSWER {{ stages.note.output.count + 1 }} of ", "ANSWER ");
    let recipe = recipe.amend("agents/a.toml", "| join(' and ')", "| string");
    let recipe = recipe.amend("agents/a.toml", "{{ stages.note.output.what }}", "it");
    let script = "#!/bin/sh\necho '{\"count\": 1}'\n";
    let world = recipe
        .file("tools/note.sh", script)
        .rule("[[rule]]\nwhen = { contains = 'ANSWER it' }\ntext = 'noted'\n")
        .start();
    let told = world.run_on(json!({ "numbers": [7, 7, 7, 7, 8] })).await;
    assert_eq!(told.ended().output, Some("noted".into()), "{}", told.show());
    assert_eq!(end_of(&told, "look").1, json!(["14", "14", "14", null, "16"]));
    let refusal = |event: &Event| {
        let Event::StageEnded(ended) = event else { return None };
        ended.refusal.as_ref().map(|refusal| refusal.limit)
    };
    assert_eq!(told.events().filter_map(refusal).collect::<Vec<_>>(), [LimitKind::Repeats]);
    world.verify();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tool_call_that_was_cut_off_is_made_again_or_a_person_is_asked() {
    let slow = "#!/bin/sh\nsleep 0.4\nprintf '{\"count\": %s, \"what\": \"%s\"}' \"$1\" \"$2\"\n";
    let recipe = with_tools().file("tools/note.sh", slow);
    // Three free calls come first.
    let (world, run, state) = stopped_after(&recipe, 4, json!({ "numbers": [1, 2, 3] })).await;
    assert_eq!(state, RunState::Interrupted);
    let driven = tokio::time::timeout(Duration::from_secs(30), world.runtime.drive(run, silent())).await;
    assert_eq!(driven.expect("in time").expect("it goes on"), RunState::Finished, "{}", world.told(run).show());
    let told = world.told(run);
    let tries = told.reservations().filter(|reserved| reserved.step.stage.as_str() == "note").map(|one| one.attempt);
    assert_eq!(tries.collect::<Vec<_>>(), [1, 2], "{}", told.show());
    world.verify();
    for (rerun, end) in [(true, RunState::Finished), (false, RunState::Failed)] {
        let recipe = recipe.clone().amend("tools/note.toml", "idempotent = true", "idempotent = false");
        let (world, run, _) = stopped_after(&recipe, 4, json!({ "numbers": [1, 2, 3] })).await;
        let driven = tokio::time::timeout(Duration::from_secs(30), world.runtime.drive(run, silent())).await;
        assert_eq!(
            driven.expect("in time").expect("it asks"),
            RunState::AwaitingApproval,
            "{}",
            world.told(run).show()
        );
        let decision = if rerun { Decision::Allow { edited: None } } else { Decision::Deny };
        let given = Given { ask: None, decision, by: "me".into(), reason: None, shown_hash: None };
        world.runtime.answer(run, &given).await.expect("it is answered");
        let driven = tokio::time::timeout(Duration::from_secs(30), world.runtime.drive(run, silent())).await;
        assert_eq!(driven.expect("in time").expect("it goes on"), end, "{}", world.told(run).show());
        world.verify();
    }
}
