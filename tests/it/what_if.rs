//! Runs told again under other limits, at other prices and with other models; and held against runs that were really made
//! under those limits.

use std::sync::Arc;

use plimsoll::clock::Clock;
use plimsoll::domain::event::{Call, Event, Purpose, RunState};
use plimsoll::domain::limits::{LimitKind, Limits};
use plimsoll::domain::plan::Plan;
use plimsoll::domain::pricing::{PriceBook, PriceRow, Rates};
use plimsoll::gate::{Appraiser, Providers};
use plimsoll::ids::ModelName;
use plimsoll::runtime::replay::{Change, Instead, Stop, TreeLog, Verdict, WhatIf, what_if};
use plimsoll::units::{Money, TokenPrice, Tokens};

use crate::world::{Recipe, Told, World};

/// Its answers are asked for whole: no call is made for fewer tokens.
const LOOP: &str = r#"
description = "a"
tools = ["calculate"]
[model]
models = ["openai/gpt-5-mini"]
max_output_tokens = 200
min_output_tokens = 200
[prompt]
system = "Help."
[retry]
backoff = "1ms..2ms"
[limits]
repeats = 50
cost = "$0.50"
"#;

const TOOL: &str = "description = 'Does sums'\nkind = 'builtin'\nbuiltin = 'calculate'\n";

/// A loop of four turns with a tool, and an answer. Once it may call no tools it says what it has.
fn looped() -> Recipe {
    let words = "words of a model that thinks aloud. ".repeat(6);
    let turn = |number: usize| {
        format!(
            "[[reply]]\ntext = '{words}'\ntool_calls = [{{ name = 'calculate', arguments = {{ expression = '{number}+1' }} }}]\n"
        )
    };
    let turns: String = (0..4).map(turn).collect();
    Recipe::agent(LOOP)
        .file("tools/calculate.toml", TOOL)
        .scenario(&format!("{turns}[[reply]]\ntext = 'done'\n"))
        .rule("[[rule]]\nwhen = { tools = false }\ntext = 'all that I know'\n")
}

const CLERK: &str = r#"
description = "Looks one topic up"
[model]
models = ["openai/gpt-5-mini"]
max_output_tokens = 200
min_output_tokens = 200
[prompt]
user = "CLERK looks up {{ input.topic }}"
[input]
type = "object"
required = ["topic"]
properties.topic = { type = "string" }
"#;

/// A stage that a sub-agent does, one that is done for each of three items, and an answer.
fn tree() -> Recipe {
    let agent = r#"
description = "a"
[model]
models = ["openai/gpt-5-mini"]
max_output_tokens = 200
min_output_tokens = 200
[limits]
cost = "$0.50"

[[stage]]
id = "look"
kind = "agent"
agent = "clerk"
input = { topic = "{{ input }}" }

[[stage]]
id = "read"
kind = "map"
over = "['1', '2', '3']"
[stage.each]
kind = "model"
prompt = { user = "CHECK {{ item }}" }

[[stage]]
id = "answer"
kind = "model"
needs = ["look", "read"]
prompt = { user = "ANSWER from {{ stages.look.output }} and {{ stages.read.output }}" }
"#;
    Recipe::agent(agent).file("agents/clerk.toml", CLERK).scenario(
        "[[rule]]\nwhen = { contains = 'CLERK looks up' }\nlatency = '30ms'\ntext = 'it is blue'\n\
         [[rule]]\nwhen = { contains = 'CHECK' }\nlatency = '10ms'\ntext = 'found'\n\
         [[rule]]\nwhen = { contains = 'ANSWER' }\ntext = 'the answer'\n",
    )
}

fn desk() -> Appraiser {
    Appraiser::new(Arc::new(PriceBook::builtin().clone()), Providers::Any(Arc::default()))
}

async fn recorded(recipe: &Recipe) -> TreeLog {
    let world = recipe.start();
    let told = world.run().await;
    assert_eq!(told.state(), RunState::Finished, "{}", told.show());
    TreeLog::read(world.runtime.store(), told.run.id).expect("its log")
}

fn under(log: &TreeLog, change: impl FnOnce(&mut Limits)) -> WhatIf {
    let mut limits = log.plan.limits.clone();
    change(&mut limits);
    told(log, &Change { limits: Some(limits), ..Change::default() })
}

fn told(log: &TreeLog, change: &Change) -> WhatIf {
    let told = what_if(log, &desk(), change).expect("it can be told");
    assert_eq!(told.notes, Vec::<String>::new(), "{told:?}");
    told
}

fn stop(told: &WhatIf) -> &Stop {
    let Verdict::Stopped(stop) = &told.verdict else { panic!("it is stopped: {:?}", told.verdict) };
    stop
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_change_each_attempt_is_what_was_recorded() {
    for recipe in [looped(), tree()] {
        let told = told(&recorded(&recipe).await, &Change::default());
        assert_eq!(told.verdict, Verdict::Same { state: RunState::Finished });
        assert!(told.lines.len() >= 5 && told.lines.iter().all(|line| line.recorded == line.would), "{told:#?}");
        assert_eq!(
            (told.would_usd, told.lines.last().and_then(|line| line.sum_usd)),
            (told.recorded_usd, Some(told.recorded_usd))
        );
        assert_eq!(
            serde_json::from_str::<WhatIf>(&serde_json::to_string(&told).expect("JSON")).expect("it reads"),
            told
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_of_what_is_needed_lets_it_pass_and_a_pico_dollar_less_stops_it() {
    let log = recorded(&looped()).await;
    let mut cap = Money::from_micro(1);
    let mut steps = vec![];
    while let Verdict::Stopped(stopped) = under(&log, |limits| limits.cost = cap).verdict {
        assert_eq!(stopped.refusal.limit, LimitKind::Cost);
        let needed = cap.plus(stopped.needs_more_usd.expect("money"));
        let less = needed.checked_minus(Money::from_pico(1)).expect("more than nothing");
        let before = under(&log, |limits| limits.cost = less);
        let before = stop(&before);
        assert_eq!((before.before_step, before.needs_more_usd), (stopped.before_step, Some(Money::from_pico(1))));
        steps.push(stopped.before_step.expect("a step"));
        cap = needed;
    }
    assert_eq!(steps, [1, 3, 5, 7, 9], "each model call in turn");
    assert!(under(&log, |limits| limits.cost = cap).is_same());
    let within = under(&log, |limits| limits.cost = cap);
    assert!(within.lines.iter().all(|line| line.at_most_usd.is_some_and(|mark| mark <= cap)), "{within:#?}");
}

/// What a run really comes to under these limits.
async fn really(recipe: &Recipe, limits: Limits) -> (World, Told) {
    let world = recipe.start_as(&Clock::system(), |plan: &mut Plan| plan.limits = limits);
    let told = world.run().await;
    (world, told)
}

/// Each attempt but the last answer, as stage, bound and bill.
fn attempts(world: &World, told: &Told) -> Vec<(String, Money, Money)> {
    let tree = TreeLog::read(world.runtime.store(), told.run.id).expect("its log");
    let events = || tree.logs.values().flatten().map(|recorded| &recorded.event);
    let bill = |id| {
        let bills = events().filter_map(|event| if let Event::Settled(settled) = event { Some(settled) } else { None });
        bills.filter(|settled| settled.reservation == id).map(|settled| settled.bill).sum()
    };
    let lands = |call: &Call| matches!(call, Call::Model(call) if call.purpose == Purpose::Landing);
    let made = events().filter_map(|event| if let Event::Reserved(reserved) = event { Some(reserved) } else { None });
    let made = made.filter(|reserved| !lands(&reserved.call));
    let mut all: Vec<_> =
        made.map(|made| (made.step.place().to_string(), made.amount, bill(made.reservation))).collect();
    all.sort();
    all
}

fn told_attempts(told: &WhatIf) -> Vec<(String, Money, Money)> {
    let lines = told.lines.iter().filter(|line| !line.lands);
    let mut all: Vec<_> =
        lines.filter_map(|line| Some((line.place.clone(), line.would?.bound_usd, line.would?.cost_usd?))).collect();
    all.sort();
    all
}

/// Every mark of the run at which a limit could stop it, just kept and just missed.
fn marks(unchanged: &WhatIf) -> Vec<Limits> {
    let base = Limits { repeats: 50, cost: Money::from_micro(500_000), ..Limits::default() };
    let amounts = unchanged.lines.iter().flat_map(|line| [line.at_most_usd, line.sum_usd]).flatten();
    let mut caps: Vec<Money> = amounts.flat_map(|mark| [mark, mark.left_after(Money::from_pico(1))]).collect();
    caps.sort();
    caps.dedup();
    let costs = caps.into_iter().map(|cost| Limits { cost, ..base.clone() });
    let counts = (1..=9).map(|steps| Limits { steps, ..base.clone() });
    let calls = (1..=5).flat_map(|calls| {
        [Limits { model_calls: calls, ..base.clone() }, Limits { tool_calls: calls - 1, ..base.clone() }]
    });
    let tokens = (1..=8).map(|part| Limits { tokens: Some(Tokens(part * 1_000)), ..base.clone() });
    costs.chain(counts).chain(calls).chain(tokens).collect()
}

async fn is_as_told(recipe: &Recipe, every: usize) {
    let log = recorded(recipe).await;
    let unchanged = told(&log, &Change::default());
    let (mut stopped, mut same) = (0, 0);
    for limits in marks(&unchanged).into_iter().step_by(every) {
        let told = told(&log, &Change { limits: Some(limits.clone()), ..Change::default() });
        let (world, run) = really(recipe, limits.clone()).await;
        let (made, would) = (attempts(&world, &run), told_attempts(&told));
        let show = || format!("{limits:?}\n{told:#?}\n{}", run.show());
        match &told.verdict {
            Verdict::Same { state } => {
                same += 1;
                assert_eq!((run.state(), made), (*state, would), "{}", show());
            }
            Verdict::Stopped(stop) if stop.run == log.root && stop.stage.is_none() && stop.call.is_none() => {
                stopped += 1;
                assert_eq!((run.state(), made), (RunState::Stopped, would), "{}", show());
                let refusal = run.refusal();
                assert_eq!((refusal.limit, &refusal.value), (stop.refusal.limit, &stop.refusal.value), "{}", show());
                let landed = run.calls().any(|call| call.purpose == Purpose::Landing);
                assert_eq!(landed, stop.landing_usd.is_some(), "{}", show());
            }
            // A part of it is stopped: how it went on nobody knows, but it came so far.
            Verdict::Stopped(_) | Verdict::Unknown { .. } => {
                stopped += 1;
                assert!(would.iter().all(|one| made.contains(one)), "{}", show());
            }
            Verdict::Failed { .. } | Verdict::GoesOn { .. } => panic!("{}", show()),
        }
    }
    assert!(stopped >= 5 && same >= 2, "{stopped} stopped, {same} the same");
}

/// How many marks of a run are passed over by each that is tried.
fn every(default: usize) -> usize {
    std::env::var("PLIMSOLL_MARKS").map_or(default, |_| 1)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_is_really_made_under_these_limits_is_stopped_where_it_was_told() {
    is_as_told(&looped(), every(2)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn so_is_a_tree_whose_parts_run_side_by_side() {
    is_as_told(&tree(), every(2)).await;
}

fn row(model: &str, input: &str, output: &str) -> PriceRow {
    let rate = |text| TokenPrice::parse_per_million(text).expect("a price");
    let rates =
        Rates { input: rate(input), output: rate(output), cache_read: None, cache_write: None, cache_write_long: None };
    PriceRow::stated(model.into(), rates, "a test".into()).with_id()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_prices_are_paid_for_the_tokens_that_were_used() {
    let log = recorded(&tree()).await;
    let row_of = |input, output| row("openai/gpt-5-mini", input, output);
    let rates =
        PriceBook::builtin().find(&"openai/gpt-5-mini".into(), log.logs[&log.root][0].at).expect("a price").price.rates;
    assert_eq!(
        (rates.input, rates.output),
        (row_of("0.25", "2").price.rates.input, row_of("0.25", "2").price.rates.output)
    );
    let change = Change { prices: vec![row_of("0.50", "4")], ..Change::default() };
    let told = told(&log, &change);
    assert_eq!(
        (told.verdict.clone(), told.would_usd),
        (Verdict::Same { state: RunState::Finished }, told.recorded_usd.times(2))
    );
    for line in &told.lines {
        let (was, would) = (line.recorded.expect("it was"), line.would.expect("it would"));
        assert_eq!((would.cost_usd, would.unknown), (was.cost_usd.map(|cost| cost.times(2)), false), "{line:?}");
        assert_eq!(would.bound_usd, was.bound_usd.times(2), "{line:?}");
    }
    // A price that stops it: the tree's cap holds for the sub-agent too.
    let dear = Change { prices: vec![row_of("100", "2000")], ..Change::default() };
    let stopped = what_if(&log, &desk(), &dear).expect("it can be told");
    let stopped = stop(&stopped);
    assert_eq!(stopped.refusal.limit, LimitKind::Cost, "{stopped:?}");
    // One that nobody pays is told: perhaps a slip.
    let idle = Change { prices: vec![row("openai/gpt-5-minj", "1", "1")], ..Change::default() };
    let idle = what_if(&log, &desk(), &idle).expect("it can be told");
    assert!(idle.is_same() && idle.notes[0].contains("did you mean `openai/gpt-5-mini`?"), "{idle:?}");
}

fn with(of: Option<&str>, model: &str) -> Change {
    let instead = Instead { of: of.map(ModelName::from), model: model.into() };
    Change { models: vec![instead], ..Change::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_models_are_bounded_and_priced_as_they_are_and_none_for_nothing() {
    let log = recorded(&looped()).await;
    let at = log.logs[&log.root][0].at;
    for model in ["openai/gpt-5-nano", "anthropic/claude-haiku-4-5", "google/gemini-2.5-flash"] {
        let book = PriceBook::builtin();
        let Some(row) = book.find(&model.into(), at) else { continue };
        let told = told(&log, &with(None, model));
        assert!(told.is_same(), "{model}: {:?}", told.verdict);
        let calls = told.lines.iter().filter(|line| line.called.contains('/'));
        for line in calls {
            let would = line.would.expect("it would");
            assert!(line.instead.as_ref().is_some_and(|now| now.as_str() == model), "{line:?}");
            assert!(would.cost_usd.is_some_and(|cost| !cost.is_zero() && cost <= would.bound_usd), "{line:?}");
        }
        let usage = log.logs[&log.root]
            .iter()
            .filter_map(|recorded| if let Event::Settled(settled) = &recorded.event { settled.usage } else { None });
        let rates = row.price.rates;
        let by_hand: Money =
            usage.map(|usage| rates.input.cost(usage.input_total()).plus(rates.output.cost(usage.output))).sum();
        assert_eq!((told.would_usd, told.unknown_usd), (by_hand, Money::ZERO), "{model}");
    }
    for (change, said) in [
        (with(None, "openai/gpt-5-nanoo"), "did you mean `openai/gpt-5-nano`?"),
        (with(Some("openai/gpt-5-mimi"), "openai/gpt-5-nano"), "there is only `openai/gpt-5-mini`"),
    ] {
        let error = what_if(&log, &desk(), &change).expect_err("no price, or nobody asks it");
        assert!(error.help().contains(said) || error.help().contains("did you mean"), "{error}: {}", error.help());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_another_model_has_no_price_for_is_unknown_and_never_nothing() {
    let recipe = looped();
    let mut log = recorded(&recipe).await;
    // Tokens of a class that only the other provider knows.
    for recorded in log.logs.values_mut().flatten() {
        if let Event::Settled(settled) = &mut recorded.event
            && let Some(usage) = settled.usage.as_mut().filter(|usage| usage.input > Tokens(10))
        {
            usage.input = Tokens(usage.input.0 - 5);
            usage.other = Tokens(5);
        }
    }
    let told = what_if(&log, &desk(), &with(None, "openai/gpt-5-nano")).expect("it can be told");
    assert_eq!(told.unknown_usd, told.would_usd, "{told:?}");
    let calls = told.lines.iter().filter(|line| line.instead.is_some());
    for line in calls {
        let would = line.would.expect("it would");
        assert_eq!((would.cost_usd, would.unknown), (Some(would.bound_usd), true), "{line:?}");
        assert!(line.note.as_ref().is_some_and(|note| note.contains("its whole reservation")), "{line:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_a_limit_stopped_goes_on_under_a_wider_one() {
    let recipe = looped().amend("agents/a.toml", "repeats = 50", "repeats = 50\nsteps = 4");
    let world = recipe.start();
    let run = world.run().await;
    assert_eq!(run.refusal().limit, LimitKind::Steps);
    let log = TreeLog::read(world.runtime.store(), run.run.id).expect("its log");
    assert_eq!(told(&log, &Change::default()).verdict, Verdict::Same { state: RunState::Stopped });
    let wider = under(&log, |limits| limits.steps = 9);
    let Verdict::GoesOn { stopped_by: Some(refusal), calls, .. } = &wider.verdict else { panic!("{wider:?}") };
    assert_eq!((refusal.limit, calls.as_str()), (LimitKind::Steps, "calculate"), "{wider:?}");
    let tighter = under(&log, |limits| limits.steps = 2);
    assert_eq!((stop(&tighter).before_step, stop(&tighter).steps), (Some(2), 4), "{tighter:?}");
}
