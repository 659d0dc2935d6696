//! Many runs at once on one budget, against the simulated provider's invoice (issue 2: fan-out).

use plimsoll::domain::audit::{Act, AuditEntry, Change};
use plimsoll::domain::event::{Call, Event, Labels, Reserved, RunState};
use plimsoll::domain::limits::LimitKind;
use plimsoll::runtime::silent;
use plimsoll::sim::Billed;
use plimsoll::units::Money;

use crate::world::{Recipe, Told, World, new_run};

/// A price, a prompt and an output cap that make a run of four calls cost about $0.0098.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    model: &'static str,
    /// USD for a million tokens.
    input: &'static str,
    output: &'static str,
    /// Words of the system text.
    words: usize,
    max_output: Option<u32>,
}

pub(crate) fn recipe(shape: Shape, cap: &str, expected: Option<&str>, defaults: &str) -> Recipe {
    let Shape { model, input, output, words, max_output } = shape;
    let system = "alpha beta gamma delta ".repeat(words / 4);
    let max_output = max_output.map_or_else(String::new, |max| format!("max_output_tokens = {max}\n"));
    let expected = expected.map_or_else(String::new, |usd| format!("expected_cost = \"{usd}\"\n"));
    Recipe::agent(&format!(
        "description = 'a'\ntools = ['look']\n[model]\nmodels = ['{model}']\n{max_output}\n[prompt]\nsystem = '{system}'\n\
         user = '{{{{ input }}}}'\n[limits]\nlanding_tokens = 20_000\nbudget_wait = '20s'\nrepeats = 10\n{expected}[context]\ntokens = 100_000\n\
         [retry]\nbackoff = '20ms..200ms'\n"
    ))
    .file(
        "tools/look.toml",
        "description = 'Looks'\nkind = 'builtin'\nbuiltin = 'template'\ntemplate = 'all is well'\n[input]\ntype = 'object'\n",
    )
    .file(
        "plimsoll.toml",
        &format!(
            "[[prices]]\nmodel = '{model}'\ninput = '{input}'\noutput = '{output}'\n\
             [[budgets]]\nname = 'all'\ncap = '{cap}'\nper = 'total'\n[breaker]\nopen = '100ms..200ms'\n"
        ),
    )
    .scenario(&format!("[defaults]\noutput_tokens = 200\n{defaults}\n[[reply]]\nrepeat = 3\nloop_tool = '*'\n"))
}

fn count(runs: &[Told], state: RunState) -> usize {
    runs.iter().filter(|told| told.state() == state).count()
}

pub(crate) fn usd(text: &str) -> Money {
    Money::parse(text).expect("an amount")
}

#[expect(clippy::print_stdout, reason = "the figures that a fan-out came to")]
fn figures(name: &str, world: &World, runs: &[Told]) {
    let finished = count(runs, RunState::Finished);
    let landed = runs.iter().filter(|told| told.state() == RunState::Stopped && told.ended().output.is_some()).count();
    let began = runs.iter().filter(|told| told.run.counters.attempts > 0).count();
    let waits = runs.iter().flat_map(Told::events).filter(|event| matches!(event, Event::WaitBegan(_))).count();
    println!(
        "{name}: {finished} finished, {landed} landed, {began} began of {}; waits {waits}; invoice {}; largest bound {}",
        runs.len(),
        world.invoice().total,
        largest_bound(runs),
    );
    if std::env::var("PLIMSOLL_SHOW").is_ok_and(|show| name.starts_with(&show)) {
        println!("{}", timeline(runs));
    }
}

fn largest_bound(runs: &[Told]) -> Money {
    let models = |reserved: &&Reserved| matches!(reserved.call, Call::Model(_));
    let bounds = runs.iter().flat_map(|told| told.reservations().filter(models)).map(|reserved| reserved.amount);
    bounds.max().unwrap_or_default()
}

pub(crate) const TOKENS: &str = "openai/gpt-5-mini";
pub(crate) const BYTES: &str = "local/qwen";
pub(crate) const A_CENT: Option<&str> = Some("$0.01");

/// About 2,000 tokens of input for each call: by bytes it is bounded by six times as many.
pub(crate) const fn long(model: &'static str, max_output: Option<u32>) -> Shape {
    Shape { model, input: "0.75", output: "4.5", words: 2_000, max_output }
}

/// About 200 tokens of input for each call: its bytes are little beside the output.
pub(crate) const fn short(model: &'static str, max_output: Option<u32>) -> Shape {
    Shape { model, input: "1.5", output: "10.5", words: 160, max_output }
}

/// Runs many at once; whatever happened, the books are the invoice, and nobody is left hanging.
async fn fan_out(recipe: &Recipe, name: &str, runs: usize) -> (World, Vec<Told>) {
    let world = recipe.start();
    let runs = world.run_many(runs).await;
    figures(name, &world, &runs);
    let (settled, unknown) = booked(&runs);
    assert!(settled >= world.invoice().total, "{name}: booked {settled}, invoiced {}", world.invoice().total);
    if unknown.is_zero() {
        assert_eq!(settled, world.invoice().total, "{name}");
    }
    assert!(runs.iter().all(|told| told.state().is_ended()), "{name}: every run ends");
    world.verify();
    (world, runs)
}

/// What runs have settled, and the part of it that nobody knows better than by its reservation.
fn booked(runs: &[Told]) -> (Money, Money) {
    let settled = runs.iter().map(|told| told.run.counters.settled).sum();
    (settled, runs.iter().map(|told| told.run.counters.unknown).sum())
}

/// (a) 256 runs at once share a dollar.
async fn a_dollar(name: &str, shape: Shape, expected: Option<&str>, pace: &str) {
    let (world, runs) = fan_out(&recipe(shape, "$1.00", expected, pace), name, 256).await;
    let invoice = world.invoice().total;
    assert!(largest_bound(&runs) <= usd("0.025"), "{name}");
    assert!(invoice <= usd("1.00") && invoice >= usd("0.95"), "{name}: {invoice}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_and_fifty_six_runs_use_up_a_dollar_and_no_more() {
    a_dollar("a tokens", long(TOKENS, None), A_CENT, "latency = '5ms'").await;
    a_dollar("a bytes", short(BYTES, Some(512)), A_CENT, "latency = '5ms'").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dollar_is_used_up_where_nobody_says_what_a_run_costs() {
    a_dollar("a unsaid", long(TOKENS, Some(512)), None, "latency = '2ms'").await;
}

/// (b) 50 runs at once share ten cents, which pay for ten of them. How many finish depends on who asks first, in what is left
/// at the end: as in LEDGER's model the median counts, and nowhere is it more than one run below.
async fn ten_cents(name: &str, shape: Shape, least: usize) {
    let (mut finished, mut timelines) = (Vec::new(), String::new());
    for pace in PACES {
        let (world, runs) = fan_out(&recipe(shape, "$0.10", A_CENT, pace), name, 50).await;
        assert!(world.invoice().total <= usd("0.10"), "{name}");
        finished.push(count(&runs, RunState::Finished));
        timelines += &timeline(&runs);
    }
    finished.sort_unstable();
    assert!(finished[1] >= least && finished[0] + 1 >= least, "{name}: {finished:?} finished\n{timelines}");
}

const PACES: [&str; 3] =
    ["latency = '20ms'", "latency = '1ms'\nfirst_token_latency = '30ms'", "latency = '0ms'\nchunk_latency = '3ms'"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_cents_finish_nine_runs_of_ten_with_a_small_output_cap() {
    ten_cents("b tokens 256", long(TOKENS, Some(256)), 9).await;
    ten_cents("b short tokens 256", short(TOKENS, Some(256)), 9).await;
    ten_cents("b short bytes 256", short(BYTES, Some(256)), 9).await;
    // A bound of four times the cost: what LEDGER's model says of bytes.
    ten_cents("b bytes 256", long(BYTES, Some(256)), 7).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_cents_finish_seven_runs_of_ten_without_one() {
    ten_cents("b tokens", long(TOKENS, None), 7).await;
    ten_cents("b short tokens", short(TOKENS, None), 7).await;
    ten_cents("b bytes", long(BYTES, None), 7).await;
    ten_cents("b short bytes", short(BYTES, None), 7).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_busy_provider_leaves_the_ledger_at_the_invoice_or_above_it_by_what_is_unknown() {
    for (seed, model) in [(1, TOKENS), (2, BYTES)] {
        let recipe = recipe(short(model, Some(256)), "$0.40", A_CENT, "latency = '2ms'\nchunk_latency = '1ms'").faults(
            &format!("seed = {seed}"),
            "rate_429 = '20%'\nrate_529 = '10%'\ncut_stream = '5%'\nretry_after = '20ms'",
        );
        let (world, runs) = fan_out(&recipe, &format!("c busy {seed}"), 60).await;
        let invoice = world.invoice();
        let cut = || invoice.lines.iter().filter(|line| line.fault.as_deref() == Some("cut_stream"));
        assert!(cut().count() > 2 && invoice.total <= usd("0.40"));
        let (settled, unknown) = booked(&runs);
        let billed_of_cut: Money = cut().map(|line| line.amount_usd).sum();
        // What is known equals the invoice to the last pico-dollar; what is unknown is never below it.
        assert_eq!(settled.minus(unknown), invoice.total.minus(billed_of_cut));
        assert!(unknown >= billed_of_cut);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replies_over_what_was_asked_are_booked_in_full_and_freeze_the_price() {
    let recipe = recipe(short(TOKENS, Some(256)), "$0.10", A_CENT, "latency = '10ms'")
        .rule("[[rule]]\nwhen = { turn = 2 }\nfault = 'overrun'");
    let (world, runs) = fan_out(&recipe, "c overrun", 50).await;
    let mut over = Money::ZERO;
    for told in &runs {
        for settled in told.settlements() {
            let held = told.reservations().find(|reserved| reserved.reservation == settled.reservation);
            over = over.plus(settled.bill.left_after(held.expect("it was reserved").amount));
        }
    }
    assert!(over > Money::ZERO && world.invoice().total <= usd("0.10").plus(over), "{over}");
    assert_eq!(world.runtime.store().frozen().expect("frozen prices").len(), 1);
    // What comes later is refused by name, landing included.
    let later = world.run().await;
    assert_eq!((later.state(), later.refusal().limit), (RunState::Stopped, LimitKind::FrozenPrice));
    assert_eq!(later.run.counters.attempts, 0);
    let act = Act::new("ann", "looked at it").expect("an act");
    assert_eq!(world.runtime.unfreeze(TOKENS, &act).await.expect("it is lifted").len(), 1);
    // The audit log has each overrun, and who lifted the freeze.
    let mut entries = Vec::new();
    world.runtime.store().audit(&mut |entry| entries.push(entry)).expect("it reads");
    let Some((AuditEntry { change: Change::PriceUnfrozen(unfrozen), by, .. }, overruns)) = entries.split_last() else {
        panic!("the last is the unfreeze: {entries:?}")
    };
    assert_eq!((by.to_string().as_str(), unfrozen.reason.as_str()), ("ann", "looked at it"));
    let excess = |entry: &AuditEntry| {
        let Change::PriceFrozen(frozen) = &entry.change else { return Money::ZERO };
        frozen.overrun.billed_usd.left_after(frozen.overrun.reserved_usd)
    };
    assert_eq!(overruns.iter().map(excess).sum::<Money>(), over);
    assert_eq!(unfrozen.freeze.count, u64::try_from(overruns.len()).expect("few"));
    assert_eq!(unfrozen.freeze.since, Some(overruns[0].at));
    assert_ne!(world.run().await.refusal().limit, LimitKind::FrozenPrice);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_that_go_away_leave_no_money_behind() {
    let recipe = recipe(short(TOKENS, Some(256)), "$0.10", A_CENT, "latency = '10ms'\nfirst_token_latency = '40ms'");
    let world = recipe.start();
    let mut gone = tokio::task::JoinSet::new();
    for index in 0..12_u64 {
        let runtime = world.runtime.clone();
        gone.spawn(async move {
            let new = new_run(Labels::new());
            let run = runtime.run(&new, silent());
            let patience = std::time::Duration::from_millis(10 + 15 * index);
            drop(tokio::time::timeout(patience, run).await);
        });
    }
    let others = world.run_many(10).await;
    gone.join_all().await;
    world.runtime.drain().await;
    let all = world.all();
    figures("c gone", &world, &all);
    assert!(others.iter().all(|told| told.state().is_ended()), "nobody waits for those who went away");
    let interrupted: Vec<&Told> = all.iter().filter(|told| told.state() == RunState::Interrupted).collect();
    assert!(
        !interrupted.is_empty()
            && all.iter().all(|told| told.state().is_ended() || told.state() == RunState::Interrupted)
    );
    // Drained to their usage: nothing is unknown, and the books are the invoice.
    assert_eq!(booked(&all), (world.invoice().total, Money::ZERO));
    assert!(world.invoice().total <= usd("0.10"));
    world.verify();
    // Whoever was left can be resumed, and repeats nothing.
    for told in interrupted {
        let resumed = world.runtime.drive(told.run.id, silent()).await.expect("it goes on");
        assert!(resumed.is_ended() || resumed == RunState::Interrupted, "{resumed:?}");
    }
    let mut answered = std::collections::BTreeSet::new();
    for line in world.invoice().lines.iter().filter(|line| line.billed == Billed::Whole) {
        let id = line.client_request_id.as_deref().expect("an id");
        let run = id.split('#').next().unwrap_or_default().to_owned();
        assert!(answered.insert((run, line.body_sha256.clone())), "a settled step is sent again: {line:?}");
    }
    world.verify();
}

/// What happened, over all runs, in the order of time.
fn timeline(runs: &[Told]) -> String {
    let mut lines = Vec::new();
    for (index, told) in runs.iter().enumerate() {
        for recorded in &told.log {
            let text = match &recorded.event {
                Event::Created(_) | Event::CallRefused(_) => continue,
                Event::Admitted(admitted) => {
                    format!(
                        "admitted L {}",
                        admitted.landing.as_ref().map(|landing| landing.amount).unwrap_or_default()
                    )
                }
                Event::Reserved(reserved) => match &reserved.call {
                    Call::Model(call) => format!(
                        "reserved R {} L {} {:?} {:?} max {}",
                        reserved.amount, reserved.landing, call.purpose, call.bound.method, call.max_output_tokens
                    ),
                    Call::Tool { .. } => continue,
                },
                Event::Settled(settled) if settled.bill.is_zero() => continue,
                Event::Settled(settled) => format!("settled {} {:?}", settled.bill, settled.source),
                Event::WaitBegan(began) => format!("waits for {}", began.asked),
                Event::WaitEnded(ended) => format!("wait ended {:?}", ended.why),
                Event::LandingBegan(began) => format!("lands: {}", began.refusal),
                Event::Ended(ended) if told.run.counters.attempts > 0 => {
                    format!("ended {:?} {:?}", ended.state, ended.error)
                }
                Event::Ended(_) => continue,
                other @ (Event::Voided(_)
                | Event::RateWaitBegan(_)
                | Event::RateWaitEnded(_)
                | Event::Downgraded(_)
                | Event::LandingReleased(_)
                | Event::CancelRequested(_)
                | Event::Interrupted(_)
                | Event::PersonAsked(_)
                | Event::InFlightResolved(_)
                | Event::PersonAnswered(_)
                | Event::Parked(_)
                | Event::MapBegan(_)
                | Event::StageEnded(_)
                | Event::ChildBegan(_)
                | Event::ChildEnded(_)
                | Event::PeriodMoved(_)
                | Event::OutcomeRecorded(_)) => format!("{other:?}"),
            };
            lines.push((recorded.at, index, recorded.seq, text));
        }
    }
    lines.sort();
    lines.iter().map(|(at, index, _, text)| format!("{at} {index:2} {text}\n")).collect()
}
