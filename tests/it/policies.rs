//! Model policies at work: what denies a model, what sends a run to a cheaper one, and how both are told.

use plimsoll::domain::event::{Downgraded, Event, Labels, RunState};
use plimsoll::domain::limits::LimitKind;
use plimsoll::domain::policy::{DowngradeWhy, Priority};
use plimsoll::units::Money;

use crate::world::{Recipe, Told};

const AGENT: &str = "[model]\npolicy = 'standard'\nmax_output_tokens = 300\n[prompt]\nuser = '{{ input }}'\n";
const POLICIES: &str = "[policies.standard]\nquality = 'standard'\nowner = 'platform-team'\n\
    models = ['openai/gpt-5-mini', 'openai/gpt-5-nano']\ndowngrade = { to = 'economy' }\n\
    [policies.economy]\nquality = 'basic'\nmodels = ['openai/gpt-5-nano']\n";

fn recipe(project: &str) -> Recipe {
    Recipe::agent(AGENT).file("plimsoll.toml", project).scenario("[[reply]]\ntext = 'done'\n")
}

/// The policies with this rule, and what else the project says.
fn with_rule(rule: &str, more: &str) -> Recipe {
    recipe(&format!("{}{more}", POLICIES.replace("to = 'economy'", &format!("to = 'economy', {rule}"))))
}

fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// Which model answered, and why not the first.
fn asked(told: &Told) -> (String, Option<DowngradeWhy>, Option<String>) {
    let call = told.calls().next().unwrap_or_else(|| panic!("a call: {}", told.show()));
    (call.model.to_string(), call.downgraded.clone(), call.instead.clone())
}

#[tokio::test]
async fn runs_of_a_low_priority_go_to_the_cheaper_policy() {
    let world = with_rule("priority = 'low'", "").start();
    let normal = asked(&world.run().await);
    assert_eq!((normal.0.as_str(), normal.1), ("openai/gpt-5-mini", None));
    let low = asked(&world.run_with(labels(&[("priority", "low")])).await);
    assert_eq!(low.0, "openai/gpt-5-nano");
    assert_eq!(low.1, Some(DowngradeWhy::Priority { priority: Priority::Low }));
    assert_eq!(low.2.as_deref(), Some("downgraded: the run's priority is low"));
    world.verify();
}

#[tokio::test]
async fn each_downgrade_is_an_event_in_the_write_of_its_call() {
    let recipe = with_rule("priority = 'low'", "")
        .scenario("[[rule]]\nwhen.attempt = 1\nfault = 'overloaded'\n[[reply]]\ntext = 'done'\n");
    let retry = "[retry]\nattempts = 3\nbackoff = '1ms'\n";
    let world = recipe.file("agents/a.toml", &format!("{AGENT}{retry}")).start();
    assert!(!world.run().await.events().any(|event| matches!(event, Event::Downgraded(_))));
    let told = world.run_with(labels(&[("priority", "low")])).await;
    let mut downgrades = 0;
    for (index, recorded) in told.log.iter().enumerate() {
        let Event::Downgraded(downgraded) = &recorded.event else { continue };
        let next = &told.log[index + 1];
        let Event::Reserved(reserved) = &next.event else { panic!("its call: {}", told.show()) };
        assert_eq!((Downgraded::of(reserved).as_ref(), next.at), (Some(downgraded), recorded.at));
        assert_eq!(downgraded.why, DowngradeWhy::Priority { priority: Priority::Low });
        assert_eq!(downgraded.model.as_str(), "openai/gpt-5-nano");
        downgrades += 1;
    }
    assert_eq!((downgrades, told.calls().count()), (2, 2), "one for each try: {}", told.show());
    world.verify();
}

#[tokio::test]
async fn an_agent_says_the_priority_of_its_runs_and_the_caller_stands_over_it() {
    let world = with_rule("priority = 'low'", "").file("agents/a.toml", &format!("priority = 'low'\n{AGENT}")).start();
    let told = world.run().await;
    assert_eq!(told.run.labels["priority"], "low");
    assert_eq!(asked(&told).0, "openai/gpt-5-nano");
    let high = world.run_with(labels(&[("priority", "high")])).await;
    assert_eq!(asked(&high).0, "openai/gpt-5-mini");
}

#[tokio::test]
async fn a_share_of_the_tightest_budget_sends_the_next_run_to_the_cheaper_policy() {
    let budgets = "[[budgets]]\nname = 'wide'\ncap = '$1000'\nper = 'total'\n\
        [[budgets]]\nname = 'tight'\ncap = '$0.01'\nper = 'total'\neach = ['tenant']\n";
    let world = with_rule("at = '0.01%'", budgets).start();
    let (acme, zeta) = (labels(&[("tenant", "acme")]), labels(&[("tenant", "zeta")]));
    assert_eq!(asked(&world.run_with(acme.clone()).await).0, "openai/gpt-5-mini", "nothing is spent yet");
    let (model, why, told) = asked(&world.run_with(acme).await);
    assert_eq!(model, "openai/gpt-5-nano");
    assert!(
        matches!(&why, Some(DowngradeWhy::BudgetShare { budget, .. }) if budget == "budget tight (tenant=acme)"),
        "{why:?}"
    );
    assert!(told.is_some_and(|told| told.contains("and the rule says 0.01%")));
    assert_eq!(asked(&world.run_with(zeta).await).0, "openai/gpt-5-mini", "another tenant has spent nothing");
    world.verify();
}

#[tokio::test]
async fn the_time_of_day_sends_runs_to_the_cheaper_policy() {
    let always = "hours = ['00:00-12:00', '12:00-24:00'], time_zone = 'Asia/Kolkata'";
    let (model, why, _) = asked(&with_rule(always, "").start().run().await);
    assert_eq!(model, "openai/gpt-5-nano");
    assert!(matches!(why, Some(DowngradeWhy::TimeOfDay { time_zone, .. }) if time_zone == "Asia/Kolkata"));
}

#[tokio::test]
async fn a_rule_that_leads_to_nobody_leads_nowhere() {
    let denied = "[[denied]]\nmodel = 'openai/gpt-5-nano'\n";
    let told = with_rule("priority = 'normal'", denied).start().run().await;
    assert_eq!(asked(&told).0, "openai/gpt-5-mini", "the dearer one can be asked");
}

#[tokio::test]
async fn a_denied_model_is_passed_over_and_named() {
    let denied = "[[denied]]\nmodel = 'openai/gpt-5-mini'\nreason = 'no contract'\nowner = 'legal'\n";
    let world = recipe(&format!("{POLICIES}{denied}")).start();
    let (model, _, instead) = asked(&world.run().await);
    assert_eq!(model, "openai/gpt-5-nano");
    let instead = instead.expect("why");
    assert!(instead.contains("denied (no contract) at plimsoll.toml:10; legal may change that"), "{instead}");
}

#[tokio::test]
async fn where_all_are_denied_nothing_is_sent_and_whoever_may_change_it_is_named() {
    let denied = "[[denied]]\nmodel = 'openai/*'\nowner = 'legal'\n";
    let world = recipe(&format!("{POLICIES}{denied}")).start();
    let told = world.run().await;
    assert_eq!(told.state(), RunState::Stopped, "{}", told.show());
    let refusal = told.refusal();
    assert_eq!((refusal.limit, refusal.declared.to_string().as_str()), (LimitKind::ModelPolicy, "plimsoll.toml:10"));
    assert!(refusal.observed.contains("legal may change that"), "{}", refusal.observed);
    assert_eq!((told.run.counters.settled, world.invoice().count), (Money::ZERO, 0));
    world.verify();
}

#[tokio::test]
async fn an_environment_narrows_a_policy() {
    let narrowed = POLICIES.replace(
        "downgrade = { to = 'economy' }\n",
        "downgrade = { to = 'economy' }\n[policies.standard.environments.production]\nmodels = ['openai/gpt-5-nano']\n",
    );
    let here = recipe(&narrowed).start();
    assert_eq!(asked(&here.run().await).0, "openai/gpt-5-mini", "another environment");
    let there = recipe(&format!("[project]\nenvironment = 'production'\n{narrowed}")).start();
    assert_eq!(asked(&there.run().await).0, "openai/gpt-5-nano");
}

#[tokio::test]
async fn a_run_keeps_its_plan_and_is_refused_where_its_model_was_denied_meanwhile() {
    let denied = "[[denied]]\nmodel = 'openai/*'\nowner = 'legal'\n";
    let world = recipe(&format!("{POLICIES}{denied}"))
        .start_as(&plimsoll::clock::Clock::system(), |plan| plan.model.policy = None);
    let told = world.run().await;
    assert_eq!((told.state(), world.invoice().count), (RunState::Stopped, 0), "{}", told.show());
}
