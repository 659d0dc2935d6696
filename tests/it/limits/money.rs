//! Money: the run's own cap, unknown usage, models without a price, retries under reservations of their own.

use plimsoll::domain::event::{CostSource, Labels, RunState};
use plimsoll::domain::limits::LimitKind;
use plimsoll::units::Money;

use super::{agent, agent_with, assert_landed, assert_stopped_by};
use crate::world::{Recipe, Told};

/// One call without tools that can't be made cheaper.
fn one_call(limits: &str) -> Recipe {
    agent_with("max_output_tokens = 300\nmin_output_tokens = 300", "", limits).scenario("[[reply]]\ntext = 'done'\n")
}

fn first_bound(told: &Told) -> Money {
    told.reservations().next().expect("a reservation").amount
}

#[tokio::test]
async fn a_cap_that_equals_the_bound_is_enough_and_a_pico_dollar_less_is_not() {
    // (pitfalls 2, 28)
    let by_bytes = first_bound(&one_call("at_limit = 'stop'").start().run().await);
    let less = |bound: Money| bound.left_after(Money::from_pico(1));
    let told = one_call(&format!("at_limit = 'stop'\ncost = '{}'", less(by_bytes))).start().run().await;
    let tight = first_bound(&told);
    assert!(tight < by_bytes, "where bytes don't fit, tokens are counted");
    let told = one_call(&format!("at_limit = 'stop'\ncost = '{tight}'")).start().run().await;
    assert_eq!(told.state(), RunState::Finished, "{}", told.show());
    let world = one_call(&format!("at_limit = 'stop'\ncost = '{}'", less(tight))).start();
    let told = world.run().await;
    assert_stopped_by(&told, LimitKind::Cost, &less(tight).to_string());
    assert_eq!((told.run.counters.settled, world.invoice().count), (Money::ZERO, 0));
}

#[tokio::test]
async fn one_huge_call_does_not_pass_a_cap_of_a_cent() {
    // (pitfalls 3, 20) The first call is bounded like any other: refused, or asked for less.
    let huge = "max_output_tokens = 100_000\nmin_output_tokens = 100_000";
    let world = agent_with(huge, "", "cost = '$0.01'").scenario("[[reply]]\ntext = 'done'\n").start();
    let told = world.run().await;
    assert_stopped_by(&told, LimitKind::Cost, "$0.01");
    assert_eq!(world.invoice().count, 0);
    let world =
        agent_with("max_output_tokens = 100_000", "", "cost = '$0.01'").scenario("[[reply]]\ntext = 'done'\n").start();
    let told = world.run().await;
    assert_eq!(told.state(), RunState::Finished, "{}", told.show());
    let asked = told.calls().next().expect("a call").max_output_tokens;
    assert!(asked < 5_000 && first_bound(&told) <= Money::parse("$0.01").expect("a cent"), "{asked}");
}

#[tokio::test]
async fn a_run_lands_inside_its_cost() {
    let world = agent(
        "cost = '$0.008'\nrepeats = 100\nsteps = 1_000\nmodel_calls = 1_000\ntool_calls = 1_000\nattempts = 1_000",
    )
    .start();
    let told = world.run().await;
    assert_stopped_by(&told, LimitKind::Cost, "$0.008");
    assert_landed(&told);
    assert!(told.run.counters.settled <= Money::parse("$0.008").expect("money"));
    assert_eq!(told.run.counters.settled, world.invoice().total);
    world.verify();
}

#[tokio::test]
async fn absent_usage_is_unknown_at_the_whole_reservation() {
    // (pitfalls 10, 17) Absent is not zero.
    for fault in ["missing_usage", "null_usage", "garbage_usage", "no_done"] {
        let world = one_call("").scenario(&format!("[[reply]]\ntext = 'done'\nfault = '{fault}'\n")).start();
        let told = world.run().await;
        assert_eq!(told.state(), RunState::Finished, "{fault}: {}", told.show());
        let bound = first_bound(&told);
        assert_eq!((told.run.counters.settled, told.run.counters.unknown), (bound, bound), "{fault}");
        assert!(bound >= world.invoice().total);
        world.verify();
    }
}

#[tokio::test]
async fn a_cut_stream_is_unknown_and_its_retry_is_reserved_anew() {
    // (pitfalls 10, 11, 13)
    for fault in ["cut_stream", "drop", "server_error", "stream_error"] {
        let rule = format!("[[rule]]\nwhen = {{ attempt = 1 }}\nfault = '{fault}'\n[[reply]]\ntext = 'done'\n");
        let world = one_call("").scenario(&rule).start();
        let told = world.run().await;
        assert_eq!(told.state(), RunState::Finished, "{fault}: {}", told.show());
        let sources = told.settlements().map(|settled| settled.source);
        assert_eq!(sources.collect::<Vec<_>>(), [CostSource::Unknown, CostSource::Reported], "{fault}");
        assert_eq!(told.calls().count(), 2);
        assert_eq!(told.run.counters.unknown, first_bound(&told), "{fault}");
        assert!(told.run.counters.settled >= world.invoice().total);
        world.verify();
    }
}

#[tokio::test]
async fn after_an_ambiguous_failure_another_try_is_made_only_where_both_fit() {
    // (pitfall 13)
    let tight = first_bound(&one_call("at_limit = 'stop'").start().run().await);
    let rule = "[[rule]]\nwhen = { attempt = 1 }\nfault = 'request_timeout'\n[[reply]]\ntext = 'done'\n";
    let world = one_call(&format!("at_limit = 'stop'\ncost = '{tight}'")).scenario(rule).start();
    let told = world.run().await;
    assert_stopped_by(&told, LimitKind::Cost, &tight.to_string());
    assert_eq!((told.run.counters.attempts, world.invoice().count), (1, 1));
}

#[tokio::test]
async fn a_model_without_a_price_is_refused_and_a_price_of_zero_is_a_price() {
    // (pitfalls 15, 16, 27)
    let text = "description = 'a'\n[model]\nmodels = ['local/unheard-of']\n";
    let world = Recipe::agent(text).scenario("[[reply]]\ntext = 'done'\n").start();
    let told = world.run().await;
    assert_eq!((told.state(), told.refusal().limit), (RunState::Stopped, LimitKind::ModelPolicy), "{}", told.show());
    assert!(told.refusal().observed.contains("price"), "{}", told.refusal());
    assert_eq!(world.invoice().count, 0);
    let free = "[[prices]]\nmodel = 'local/unheard-of'\ninput = '0'\noutput = '0'\nreason = 'own hardware'\n";
    let told =
        Recipe::agent(text).file("plimsoll.toml", free).scenario("[[reply]]\ntext = 'done'\n").start().run().await;
    assert_eq!((told.state(), told.run.counters.settled), (RunState::Finished, Money::ZERO), "{}", told.show());
}

#[tokio::test]
async fn a_budget_refuses_a_run_that_does_not_say_whom_it_is_for() {
    // (pitfalls 6, 15) Every tenant has an account of its own.
    let budgets = "[[budgets]]\nname = 'each'\ncap = '$0.005'\neach = ['tenant']\nper = 'day'\n";
    let world = one_call("").file("plimsoll.toml", budgets).start();
    let nobody = world.runtime.run(&crate::world::new_run(Labels::new()), plimsoll::runtime::silent()).await;
    assert!(nobody.expect_err("no tenant").to_string().contains("tenant"));
    for tenant in ["acme", "globex"] {
        let mut used = Money::ZERO;
        loop {
            let told = world.run_with(Labels::from([("tenant".to_owned(), tenant.to_owned())])).await;
            used = used.plus(told.run.counters.settled);
            if told.state() != RunState::Finished {
                assert_eq!(told.refusal().limit, LimitKind::Budget);
                break;
            }
        }
        assert!(
            used > Money::parse("$0.004").expect("money") && used <= Money::parse("$0.005").expect("money"),
            "{used}"
        );
    }
    world.verify();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_at_once_with_a_cap_for_some_send_just_those() {
    // (pitfalls 1, 18) Check and act are one.
    let bound = first_bound(&one_call("at_limit = 'stop'").start().run().await);
    let cap: Money = std::iter::repeat_n(bound, 5).sum();
    let budget = format!("[[budgets]]\nname = 'all'\ncap = '{cap}'\nper = 'total'\n");
    // Without usage every call is settled at its bound, so that the cap pays for so many and no more.
    let scenario = "[defaults]\nlatency = '20ms'\n[[reply]]\ntext = 'done'\nfault = 'missing_usage'\n";
    let world = one_call("at_limit = 'stop'\nexpected_cost = '$0.000001'")
        .file("plimsoll.toml", &budget)
        .scenario(scenario)
        .start();
    let runs = world.run_many(30).await;
    let booked: Money = runs.iter().map(|told| told.run.counters.settled).sum();
    assert!(booked <= cap && booked.plus(bound) > cap, "{booked} of {cap}");
    let sent = runs.iter().filter(|told| told.run.counters.attempts > 0).count();
    assert_eq!(u64::try_from(sent).expect("a count"), world.invoice().count);
    world.verify();
}
