//! Trees of runs over the socket of the simulated provider: sub-agents as stages and as tools, under the limits of all
//! above them, cancelled, stopped and resumed; and many of them under one cap.

mod links;

use std::sync::Arc;
use std::time::{Duration, Instant};

use plimsoll::domain::event::{ChildEnded, EndState, Event, Reserved, RunState};
use plimsoll::domain::limits::LimitKind;
use plimsoll::domain::report::Trace;
use plimsoll::ids::RunId;
use plimsoll::runtime::{NewRun, Observer, Progress, Runtime, silent};
use plimsoll::store::RunFilter;
use plimsoll::units::{Millis, Money};
use serde_json::json;

use crate::world::{Recipe, Told, World, new_run};

const CLERK: &str = r#"
description = "Looks one topic up"
[model]
models = ["openai/gpt-5-mini"]
[prompt]
user = "CLERK looks up {{ input.topic }}"
[input]
type = "object"
required = ["topic"]
properties.topic = { type = "string" }
[limits]
cost = "$0.10"
"#;

const STAGED: &str = r#"
description = "a"
[model]
models = ["openai/gpt-5-mini"]
[prompt]
system = "Help."
[limits]
cost = "$0.50"
parallel = 2

[[stage]]
id = "look"
kind = "agent"
agent = "clerk"
input = { topic = "{{ input }}" }

[[stage]]
id = "answer"
kind = "model"
needs = ["look"]
prompt = { user = "ANSWER from {{ stages.look.output }} ({{ stages.look.state }})" }
"#;

const LOOPED: &str = r#"
description = "a"
agents = ["clerk"]
[model]
models = ["openai/gpt-5-mini"]
[prompt]
user = "Help with {{ input }}"
[limits]
cost = "$0.50"
"#;

/// Two calls at once, then the answer.
const TWO_CALLS: &str = r#"
[[rule]]
when = { contains = "CLERK looks up" }
text = "it is blue"
[[rule]]
when = { contains = "it is blue" }
text = "the answer"
[[rule]]
when = { contains = "was stopped by" }
text = "the answer"
[[rule]]
when = { contains = "Help with" }
tool_calls = [
    { name = "clerk", arguments = { topic = "colour" } },
    { name = "clerk", arguments = { topic = "shape" } },
]
"#;

const STAGED_WORDS: &str = r#"
[[rule]]
when = { contains = "CLERK looks up" }
text = "it is blue"
[[rule]]
when = { contains = "ANSWER from it is blue (finished)" }
text = "the answer"
"#;

fn staged() -> Recipe {
    Recipe::agent(STAGED).file("agents/clerk.toml", CLERK).scenario(STAGED_WORDS)
}

fn looped() -> Recipe {
    Recipe::agent(LOOPED).file("agents/clerk.toml", CLERK).scenario(TWO_CALLS)
}

/// The runs right below one, with their logs, oldest first.
fn children(world: &World, told: &Told) -> Vec<Told> {
    let began =
        told.events().filter_map(|event| if let Event::ChildBegan(began) = event { Some(began.child) } else { None });
    began.map(|child| world.told(child)).collect()
}

fn children_ended(told: &Told) -> Vec<&ChildEnded> {
    told.events().filter_map(|event| if let Event::ChildEnded(ended) = event { Some(ended) } else { None }).collect()
}

/// What the model was told last by the sub-agents that it called.
fn told_to_model(told: &Told) -> String {
    told.run.turns(&"main".into()).iter().map(|sent| format!("{:?}\n", &**sent)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sub_agent_is_a_stage() {
    let world = staged().start();
    let told = world.run().await;
    assert_eq!(told.state(), RunState::Finished, "{}", told.show());
    assert_eq!(told.ended().output, Some("the answer".into()), "{}", told.show());
    let [child] = &children(&world, &told)[..] else { panic!("one child: {}", told.show()) };
    assert_eq!(child.ended().output, Some("it is blue".into()), "{}", child.show());
    let parent = child.run.parent.clone().expect("a parent");
    assert_eq!((parent.root, parent.run, parent.stage.as_str()), (told.run.id, told.run.id, "look"));
    assert_eq!((told.run.counters.steps, child.run.counters.steps), (1, 1), "an agent stage is no step");
    let spent = told.run.spent();
    assert_eq!((spent.steps, spent.model_calls, spent.children), (2, 2, 1));
    assert_eq!(spent.settled, world.invoice().total);
    assert_eq!(children_ended(&told)[0].spent, child.run.spent());
    // The child's beginning, admission and first call are one write, as are its end and what its parent does next.
    assert_eq!(child.log[0].at, child.log[2].at, "{}", child.show());
    world.verify();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sub_agent_is_a_tool() {
    let world = looped().start();
    let told = world.run().await;
    assert_eq!(told.ended().output, Some("the answer".into()), "{}", told.show());
    let both = children(&world, &told);
    assert_eq!(both.len(), 2, "{}", told.show());
    assert!(both.iter().all(|child| child.state() == RunState::Finished));
    assert_eq!((told.run.counters.steps, told.run.counters.tool_calls), (4, 2), "a call is a step: {}", told.show());
    let steps: Vec<u32> = told
        .events()
        .filter_map(
            |event| if let Event::ChildBegan(began) = event { began.call.as_ref().map(|call| call.step) } else { None },
        )
        .collect();
    assert_eq!(steps, [2, 3]);
    assert!(told_to_model(&told).matches("it is blue").count() == 2, "{}", told_to_model(&told));
    assert_eq!(told.run.spent().settled, world.invoice().total);
    world.verify();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sub_agent_at_its_own_cap_tells_its_parent() {
    let tight = looped().amend("agents/clerk.toml", "$0.10", "$0.0001");
    let world = tight.start();
    let told = world.run().await;
    assert_eq!(told.state(), RunState::Finished, "its parent goes on: {}", told.show());
    for child in children(&world, &told) {
        assert_eq!((child.state(), child.refusal().limit), (RunState::Stopped, LimitKind::Cost), "{}", child.show());
    }
    let words = told_to_model(&told);
    assert!(words.contains("stopped by limit `cost` is $0.0001 (agents/clerk.toml:"), "{words}");
    world.verify();
    let world = staged().amend("agents/clerk.toml", "$0.10", "$0.0001").start();
    let told = world.run().await;
    assert_eq!((told.state(), told.refusal().limit), (RunState::Stopped, LimitKind::Cost), "{}", told.show());
    assert_eq!(told.refusal().subject.as_deref(), Some("agent clerk"));
    world.verify();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stage_that_may_be_missing_is_done_without() {
    let world = staged()
        .amend("agents/clerk.toml", "$0.10", "$0.0001")
        .amend("agents/a.toml", "agent = \"clerk\"\n", "agent = \"clerk\"\non_error = \"continue\"\n")
        .rule("[[rule]]\nwhen = { contains = \"(stopped)\" }\ntext = \"without\"\n")
        .start();
    let told = world.run().await;
    assert_eq!(told.ended().output, Some("without".into()), "{}", told.show());
    world.verify();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_time_of_all_above_is_the_time_below() {
    let world = staged()
        .amend("agents/a.toml", "parallel = 2", "parallel = 2\nwall_time = \"2s\"")
        .amend("agents/clerk.toml", "cost = ", "at_limit = \"stop\"\ncost = ")
        .scenario("[[rule]]\nwhen = { contains = \"CLERK\" }\ntext = \"late\"\nlatency = \"20s\"\n[[rule]]\nwhen = { tools = false }\ntext = \"as far as it came\"\n")
        .start();
    let began = Instant::now();
    let told = world.run().await;
    assert!(began.elapsed() < Duration::from_secs(10), "it took {:?}", began.elapsed());
    assert_eq!(told.state(), RunState::Stopped, "{}", told.show());
    assert_eq!(told.refusal().limit, LimitKind::WallTime, "{}", told.show());
    let [child] = &children(&world, &told)[..] else { panic!("one child: {}", told.show()) };
    let limits: Vec<Millis> = child.reservations().map(|reserved| reserved.time_limit).collect();
    assert!(!limits.is_empty() && limits.iter().all(|limit| *limit <= Millis(1_600)), "{limits:?}");
    assert_eq!(child.state(), RunState::Stopped, "{}", child.show());
    world.verify();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_sub_agent_too_many_is_not_begun() {
    let world = looped().amend("agents/a.toml", "cost = ", "children = 1\ncost = ").start();
    let told = world.run().await;
    assert_eq!(told.ended().output, Some("the answer".into()), "{}", told.show());
    assert_eq!(children(&world, &told).len(), 1, "{}", told.show());
    assert!(told_to_model(&told).contains("not called: limit `children` is 1"), "{}", told_to_model(&told));
    world.verify();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counts_of_all_above_hold_below() {
    // The root keeps one step for landing: its first call, and one of its two sub-agents' calls.
    let world = looped().amend("agents/a.toml", "cost = ", "model_calls = 3\ncost = ").start();
    let told = world.run().await;
    assert_eq!(told.state(), RunState::Stopped, "{}", told.show());
    assert_eq!(told.refusal().limit, LimitKind::ModelCalls, "{}", told.show());
    let states: Vec<RunState> = children(&world, &told).iter().map(Told::state).collect();
    assert_eq!(states, [RunState::Finished, RunState::Stopped], "{}", told.show());
    assert!(told.run.spent().model_calls <= 3, "{}", told.show());
    world.verify();
}

/// The trace of a run with all below it.
fn trace(world: &World, told: &Told) -> Trace {
    let read = &mut |run| world.runtime.store().events(run);
    let at = told.log.last().expect("a fact").at;
    Trace::of_tree(told.run.id, &told.run.plan, at, read).expect("it reads").expect("a trace")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_lines_of_all_runs_add_up_to_the_root() {
    for recipe in [staged(), looped()] {
        let world = recipe.start();
        let told = world.run().await;
        let whole = trace(&world, &told);
        let lines: Money = whole.attempts().map(|attempt| attempt.cost_usd).sum();
        assert_eq!((lines, lines), (whole.head.cost.settled_usd, world.invoice().total));
        assert_eq!(whole.attempts().count(), whole.head.attempts as usize);
        let below = whole.head.sub_agents.expect("sub-agents");
        let children: Vec<Trace> = whole.children().filter_map(|child| child.trace.clone()).collect();
        assert_eq!(children.len(), below.runs as usize);
        assert_eq!(children.iter().map(|child| child.head.cost.settled_usd).sum::<Money>(), below.settled_usd);
        // A sub-agent's run can be told alone, by the plan that was stored for it.
        for child in &children {
            let alone = trace(&world, &world.told(child.head.run));
            assert_eq!(alone.head, child.head);
        }
        let roots = RunFilter { roots: true, ..RunFilter::default() };
        let listed = world.runtime.store().summaries(&roots).expect("runs");
        assert_eq!(listed.iter().map(|run| run.id).collect::<Vec<_>>(), [told.run.id]);
    }
}

/// Does something once, at the first reservation of this place in the order of all reservations.
fn at_reservation(number: usize, act: impl Fn() + Send + Sync + 'static) -> Observer {
    let seen = std::sync::atomic::AtomicUsize::new(0);
    Arc::new(move |progress| {
        if let Progress::Event { recorded, .. } = progress
            && let Event::Reserved(_) = &recorded.event
            && seen.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == number
        {
            act();
        }
    })
}

async fn run(runtime: &Runtime, observer: Observer) -> (RunId, RunState) {
    let new: NewRun = new_run(Default::default());
    let ran = tokio::time::timeout(Duration::from_secs(60), runtime.run(&new, observer)).await;
    ran.expect("it doesn't hang").expect("it runs")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cancelled_in_the_middle_all_end_the_deepest_first() {
    let slow = TWO_CALLS.replacen("text = \"it is blue\"", "text = \"it is blue\"\nlatency = \"30s\"", 1);
    let world = looped().scenario(&slow).start();
    let (asked, cancel) = tokio::sync::oneshot::channel();
    let asked = std::sync::Mutex::new(Some(asked));
    let observer = at_reservation(2, move || {
        if let Some(asked) = asked.lock().expect("a lock").take() {
            asked.send(()).expect("somebody waits");
        }
    });
    let runtime = world.runtime.clone();
    let canceller = async {
        cancel.await.expect("both are called");
        let root = world.all()[0].run.parent.as_ref().map_or(world.all()[0].run.id, |parent| parent.root);
        let child = world.all().into_iter().find(|told| told.run.parent.is_some()).expect("a child").run.id;
        runtime.cancel(child, "no").await.expect_err("a sub-agent's run isn't cancelled by itself");
        runtime.cancel(root, "enough").await.expect("it is asked")
    };
    let ((root, state), _) = tokio::join!(run(&world.runtime, observer), canceller);
    assert_eq!(state, RunState::Cancelled);
    let told = world.told(root);
    assert!(children(&world, &told).iter().all(|child| child.state() == RunState::Cancelled), "{}", told.show());
    let last = told.log.last().expect("a fact");
    assert!(matches!(&last.event, Event::Ended(ended) if ended.state == EndState::Cancelled), "{}", told.show());
    world.verify();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopped_anywhere_a_tree_goes_on_where_it_stood() {
    for (recipe, calls) in [(staged(), 2), (looped(), 4)] {
        for number in 0..calls {
            let world = recipe.start();
            let stopper = world.runtime.clone();
            let (root, state) = run(&world.runtime, at_reservation(number, move || stopper.request_stop())).await;
            if state == RunState::Finished {
                continue;
            }
            assert_eq!(state, RunState::Interrupted);
            let world = world.reopen();
            let child = world.all().into_iter().find(|told| told.run.parent.is_some() && told.run.ended.is_none());
            if let Some(child) = child {
                assert_eq!(child.state(), RunState::Interrupted, "{}", child.show());
                world.runtime.drive(child.run.id, silent()).await.expect_err("its root goes on");
            }
            let driven = tokio::time::timeout(Duration::from_secs(60), world.runtime.drive(root, silent())).await;
            assert_eq!(driven.expect("in time").expect("it goes on"), RunState::Finished, "{number}");
            let told = world.told(root);
            assert_eq!(told.ended().output, Some("the answer".into()), "{number}: {}", told.show());
            let below = children(&world, &told);
            assert_eq!(below.len(), calls / 2, "nobody is called twice: {}", told.show());
            assert_eq!(children_ended(&told).len(), below.len());
            world.verify();
        }
    }
}

/// Runs at each level below one.
const FAN_OUT: usize = 8;

/// An agent that has another do its work eight times beside each other.
fn level(below: &str, limits: &str) -> String {
    let items: Vec<usize> = (0..FAN_OUT).collect();
    format!(
        r#"
description = "a level"
[model]
models = ["openai/gpt-5-mini"]
max_output_tokens = 256
[prompt]
user = "sum up"
[input]
type = "object"
properties.part = {{ type = "string" }}
[limits]
{limits}
steps = 2000
model_calls = 2000
attempts = 2000
parallel = 8
[[stage]]
id = "all"
kind = "map"
over = "{items:?}"
[stage.each]
kind = "agent"
agent = "{below}"
input = {{ part = "{{{{ input.part }}}}.{{{{ index }}}}" }}
"#
    )
}

fn wide(cap: &str, output_tokens: u32) -> Recipe {
    let leaf = CLERK
        .replace("CLERK looks up {{ input.topic }}", "LEAF {{ input.part }}")
        .replace("topic", "part")
        .replace("[prompt]", &format!("max_output_tokens = {output_tokens}\n[prompt]"))
        .replace("$0.10", cap);
    Recipe::agent(&level("one", &format!("cost = \"{cap}\"")))
        .file("agents/one.toml", &level("two", &format!("cost = \"{cap}\"")))
        .file("agents/two.toml", &level("leaf", &format!("cost = \"{cap}\"")))
        .file("agents/leaf.toml", &leaf)
        .scenario("[[rule]]\nwhen = { contains = \"LEAF\" }\ntext = \"leaf\"\n[[rule]]\nwhen = { tools = false }\ntext = \"as far as it came\"\n")
}

async fn run_wide(world: &World) -> Told {
    let new = NewRun { input: json!({ "part": "0" }), ..new_run(Default::default()) };
    let ran = tokio::time::timeout(Duration::from_secs(100), world.runtime.run(&new, silent())).await;
    let (root, _) = ran.expect("it doesn't hang").expect("it runs");
    world.verify();
    world.told(root)
}

/// The most money that was held at once by calls, and how many calls that was, by all logs of the store.
fn most_at_once(world: &World) -> (Money, usize) {
    let mut facts: Vec<(u64, bool, Money)> = Vec::new();
    for told in world.all() {
        let amount =
            |id| told.reservations().find(|reserved: &&Reserved| reserved.reservation == id).map(|one| one.amount);
        for recorded in &told.log {
            if let Event::Reserved(reserved) = &recorded.event {
                facts.push((recorded.at.0, true, reserved.amount));
            } else if let Event::Settled(settled) = &recorded.event {
                facts.push((recorded.at.0, false, amount(settled.reservation).expect("it was reserved")));
            }
        }
    }
    facts.sort_by_key(|(at, begins, _)| (*at, *begins));
    let (mut held, mut open, mut most) = (Money::ZERO, 0usize, (Money::ZERO, 0));
    for (_, begins, amount) in facts {
        if begins {
            (held, open) = (held.plus(amount), open + 1);
        } else {
            (held, open) = (held.left_after(amount), open.saturating_sub(1));
        }
        most = most.max((held, open));
    }
    most
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_levels_of_eight_under_one_cap_queue_for_its_money() {
    // A call of a leaf is bound by a fifth of the cap, and costs a thousandth of it.
    let world = wide("$0.04", 4_000).start();
    let told = run_wide(&world).await;
    assert_eq!(told.state(), RunState::Finished, "{}", told.show());
    let spent = told.run.spent();
    assert_eq!(spent.children as usize, FAN_OUT + FAN_OUT.pow(2) + FAN_OUT.pow(3));
    assert_eq!(spent.model_calls as usize, FAN_OUT.pow(3), "nobody failed for money that a sibling would free");
    assert_eq!(spent.settled, world.invoice().total);
    assert!(spent.settled <= told.run.plan.limits.cost);
    let (held, calls) = most_at_once(&world);
    assert!(held <= told.run.plan.limits.cost && (2..=5).contains(&calls), "{held} by {calls}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_levels_of_eight_end_where_the_cap_ends() {
    let world = wide("$0.0045", 400).start();
    let told = run_wide(&world).await;
    assert_eq!((told.state(), told.refusal().limit), (RunState::Stopped, LimitKind::Cost), "{}", told.show());
    assert_eq!(told.ended().output, Some("as far as it came".into()), "{}", told.show());
    let invoice = world.invoice().total;
    assert!(invoice <= told.run.plan.limits.cost && invoice == told.run.spent().settled, "{invoice}");
    assert!(world.all().iter().all(|told| told.run.ended.is_some()), "all have ended");
}
