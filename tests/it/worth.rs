//! What runs were worth: derived by the agent's rules, said by people, corrected, and reported.

use plimsoll::domain::event::{Event, Labels};
use plimsoll::domain::outcome::{Outcome, OutcomeBy, OutcomeFault, OutcomeRecorded, Part};
use plimsoll::domain::report::{CostTable, Dimension};
use plimsoll::domain::rollup::Day;
use plimsoll::runtime::RuntimeError;
use plimsoll::units::Money;

use crate::world::{Recipe, Told, World};

const AGENT: &str = "\
unit = 'resolved_case'
[model]
models = ['openai/gpt-5-mini']
max_output_tokens = 300
[prompt]
user = '{{ input }}'
[output]
type = 'object'
required = ['resolved', 'confidence']
properties = { resolved = { type = 'boolean' }, confidence = { type = 'number' } }
[outcome]
units = 'output.resolved'
quality = 'output.confidence'
revenue = \"'0.99' if output.resolved and labels.tenant == 'acme' else none\"
";

fn answers(json: &str) -> Recipe {
    Recipe::agent(AGENT).scenario(&format!("[[reply]]\nrepeat = 'forever'\ntext = '{json}'\n"))
}

async fn run(world: &World, tenant: &str) -> Told {
    world.run_with(Labels::from([("tenant".to_owned(), tenant.to_owned())])).await
}

fn outcome(world: &World, told: &Told) -> Outcome {
    world.runtime.store().summary(told.run.id).expect("it reads").expect("a run").outcome()
}

fn said(outcome: Outcome, unknown: &[Part]) -> OutcomeRecorded {
    OutcomeRecorded { outcome, unknown: unknown.to_vec(), by: OutcomeBy::Person("ann".to_owned()), note: None }
}

fn costs(world: &World, by: &[Dimension]) -> CostTable {
    CostTable::of(by, &world.runtime.store().rollups(Day(0), Day(u32::MAX)).expect("it reads"))
}

#[tokio::test]
async fn rules_say_what_a_run_that_finished_was_worth() {
    let world = answers(r#"{"resolved": true, "confidence": 0.93}"#).start();
    let (acme, other) = (run(&world, "acme").await, run(&world, "other").await);
    let known = outcome(&world, &acme);
    assert_eq!((known.units, known.revenue_usd), (Some(1), Some(Money::from_micro(990_000))));
    assert_eq!(known.quality.expect("a score").score.to_string(), "0.93");
    assert_eq!(outcome(&world, &other).revenue_usd, None, "the rule says nothing");
    let last = acme.log.last().expect("a log");
    assert!(matches!(&last.event, Event::OutcomeRecorded(said) if said.by == OutcomeBy::Rules), "{last:?}");
    let table = costs(&world, &[Dimension::Model, Dimension::Tenant]);
    let worth = table.total.worth.as_ref().expect("runs");
    let spent = acme.run.counters.settled.plus(other.run.counters.settled);
    assert_eq!((worth.runs, worth.runs_usd, table.total.settled_usd), (2, spent, spent));
    let margin = Money::from_micro(990_000).minus(acme.run.counters.settled);
    assert_eq!((worth.paid_runs, worth.margin_usd), (1, Some(margin)));
    let row = table.rows.iter().find(|row| row.sums.worth.is_some()).expect("a row with runs");
    assert_eq!(row.values.0[0].1.as_deref(), Some("openai/gpt-5-mini"), "who replied last");
    world.verify();
}

#[tokio::test]
async fn what_is_said_last_stands_and_saying_it_twice_is_saying_it_once() {
    let world = answers(r#"{"resolved": false, "confidence": 0.5}"#).start();
    let told = run(&world, "acme").await;
    let (store, id) = (world.runtime.store(), told.run.id);
    let paid = Outcome { units: Some(2), revenue_usd: Some(Money::from_micro(5)), ..Outcome::default() };
    for _ in 0..2 {
        world.runtime.record_outcome(id, said(paid.clone(), &[])).await.expect("it is taken");
    }
    assert_eq!(store.events(id).expect("a log").len(), told.log.len() + 1, "once");
    world.runtime.record_outcome(id, said(Outcome::default(), &[Part::Revenue])).await.expect("it is taken");
    let known = outcome(&world, &told);
    assert_eq!((known.units, known.revenue_usd), (Some(2), None));
    assert_eq!(known.quality.expect("of the rules").score.to_string(), "0.5");
    let worth = costs(&world, &[]).total.worth.expect("runs");
    assert_eq!((worth.paid_runs, worth.units[0].units, worth.runs), (0, 2, 1));
    let nothing = world.runtime.record_outcome(id, said(Outcome::default(), &[])).await;
    assert!(matches!(nothing, Err(RuntimeError::Outcome { fault: OutcomeFault::Nothing, .. })));
    world.verify();
}

#[tokio::test]
async fn a_rule_that_can_not_be_reckoned_leaves_it_unknown_and_says_so() {
    let recipe = answers(r#"{"resolved": true, "confidence": 7}"#);
    let world = recipe.start();
    let told = run(&world, "acme").await;
    assert_eq!((outcome(&world, &told).units, outcome(&world, &told).quality), (Some(1), None));
    let Event::OutcomeRecorded(said) = &told.log.last().expect("a log").event else { panic!("an outcome") };
    let note = said.note.as_deref().expect("a note");
    assert!(note.contains("`quality`") && note.contains("7 isn't a number from 0 to 1"), "{note}");
    world.verify();
}
