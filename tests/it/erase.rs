//! Bodies are taken out of the store, and every sum stays.

use std::collections::BTreeSet;

use plimsoll::clock::Clock;
use plimsoll::domain::audit::{Act, Change};
use plimsoll::domain::event::{Event, Labels, RunState};
use plimsoll::domain::message::GivenFile;
use plimsoll::domain::outcome::{Outcome, OutcomeBy, OutcomeFault, OutcomeRecorded};
use plimsoll::domain::rollup::Day;
use plimsoll::runtime::{Erased, NewRun, RuntimeError, silent};
use plimsoll::units::Millis;
use serde_json::json;

use crate::cli::desk::Desk;
use crate::world::{Recipe, Told, World};

const AGENT: &str = "\
tools = ['look']
[model]
models = ['openai/gpt-5-mini']
max_output_tokens = 300
[prompt]
user = '{{ input }}'
[cache]
ttl = '1h'
";
const LOOK: &str = "description = 'Looks'\nkind = 'command'\ncommand = ['echo', 'HUSH found']\n[input]\ntype = 'object'\n[input.properties.what]\ntype = 'string'\n";
const TALK: &str = "[[rule]]\nwhen = { contains = 'found' }\ntext = 'HUSH, it is there.'\n[[reply]]\nrepeat = 'forever'\ntool_calls = [{ name = 'look', arguments = { what = 'HUSH' } }]\n";

fn recipe() -> Recipe {
    Recipe::agent(AGENT).file("tools/look.toml", LOOK).scenario(TALK)
}

fn tenant(name: &str) -> Labels {
    Labels::from([("tenant".to_owned(), name.to_owned())])
}

fn picture(name: &str) -> GivenFile {
    let bytes = [&b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"[..], &[0, 0, 0, 9, 0, 0, 0, 9], name.as_bytes()].concat();
    GivenFile::of(name, &bytes).expect("a file")
}

async fn ask(world: &World, whose: &str, files: Vec<GivenFile>) -> Told {
    let (input, labels) = (json!(format!("HUSH, {whose} asks")), tenant(whose));
    let new = NewRun { agent: "a".into(), input, labels, key: None, files, bound: vec![] };
    let (run, state) = world.runtime.run(&new, silent()).await.expect("it runs");
    assert_eq!(state, RunState::Finished, "{}", world.told(run).show());
    world.told(run)
}

fn act() -> Act {
    Act::new("ann", "they left").expect("an act")
}

/// Everything that the store tells of its runs.
fn text(world: &World) -> String {
    let mut out = Vec::new();
    world.runtime.store().export_events(&mut out).expect("it exports");
    String::from_utf8(out).expect("text")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenants_texts_go_and_all_sums_and_other_tenants_stay() {
    let world = recipe().start();
    let (own, shared) = (picture("own.png"), picture("shared.png"));
    let gone = ask(&world, "acme", vec![own.clone(), shared.clone()]).await;
    let kept = ask(&world, "bolt", vec![shared.clone()]).await;
    let store = world.runtime.store();
    let sums = || (store.accounts().expect("accounts"), store.rollups(Day(0), Day(u32::MAX)).expect("rollups"));
    let (before, texts) = (sums(), text(&world));
    assert!(texts.matches("HUSH").count() > 8, "{texts}");
    let hashes = |run: &Told| match run.events().next() {
        Some(Event::Created(created)) => created.files.iter().map(|file| file.sha256().to_owned()).collect(),
        _ => BTreeSet::new(),
    };

    assert_eq!(world.runtime.erasable(&tenant("acme")).await.expect("it looks").left, 1);
    let erased = world.runtime.erase(&tenant("acme"), &act()).await.expect("it erases");
    assert_eq!((erased.removed.trees, erased.removed.runs, erased.open, erased.left), (1, 1, 0, 0));
    assert_eq!(erased.removed.files, 1, "the other one is bolt's too");
    assert!(erased.removed.answers > 0 && erased.removed.events > 4, "{erased:?}");
    assert_eq!(sums(), before);
    let bare = world.told(gone.run.id);
    assert!(!bare.show().contains("HUSH"), "{}", bare.show());
    assert_eq!(bare.run.spent(), gone.run.spent());
    assert_eq!(bare.log.len(), gone.log.len());
    assert_eq!(world.told(kept.run.id).show(), kept.show());
    for hash in hashes(&gone) {
        assert_eq!(store.file(&hash).expect("it reads").is_some(), hashes(&kept).contains(&hash));
    }
    let summary = store.summary(gone.run.id).expect("it reads").expect("a summary");
    assert!(summary.erased && summary.settled == gone.run.spent().settled, "{summary:?}");
    store.verify().expect("the books are right");

    // It is told who wanted it, once; and there is nothing left to do.
    let again = world.runtime.erase(&tenant("acme"), &act()).await.expect("it looks");
    assert_eq!(again, Erased::default());
    let mut said = Vec::new();
    store.audit(&mut |entry| said.push(entry)).expect("the log");
    let [entry] = &said[..] else { panic!("{said:?}") };
    assert!(
        matches!(&entry.change, Change::BodiesErased(erased) if erased.trees == 1 && erased.labels == tenant("acme"))
    );

    // What goes by texts says that it can't; what goes by numbers does as before.
    let difference = world.runtime.replay(gone.run.id).expect("it reads").expect_err("it can't be told");
    assert!(difference.to_string().contains("taken out of the store"), "{difference}");
    let outcome = Outcome { units: Some(1), ..Outcome::default() };
    let by = OutcomeBy::Person("ann".to_owned());
    let worth = OutcomeRecorded { outcome, unknown: vec![], by, note: None };
    world.runtime.record_outcome(gone.run.id, worth.clone()).await.expect("it is recorded");
    let noted = OutcomeRecorded { note: Some("HUSH".to_owned()), ..worth };
    let refused = world.runtime.record_outcome(gone.run.id, noted).await.expect_err("no text comes back");
    assert!(matches!(refused, RuntimeError::Outcome { fault: OutcomeFault::Erased, .. }), "{refused}");
    store.verify().expect("the books are right");
    // What was asked before is asked anew: the kept answer went, too.
    let calls = world.invoice().count;
    ask(&world, "acme", vec![own, shared]).await;
    assert!(world.invoice().count > calls);
    let world = world.reopen();
    world.runtime.store().verify().expect("the books are right");
    assert!(!world.told(gone.run.id).show().contains("HUSH"));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_over_stays_and_is_counted() {
    let world = recipe().start();
    let new = NewRun {
        agent: "a".into(),
        input: json!("HUSH"),
        labels: tenant("acme"),
        key: None,
        files: vec![],
        bound: vec![],
    };
    let run = world.runtime.create(&new).await.expect("it is made");
    let erased = world.runtime.erase(&tenant("acme"), &act()).await.expect("it looks");
    assert_eq!(erased, Erased { open: 1, ..Erased::default() });
    // Even who names it erases nothing.
    let removed = world.runtime.store().erase(vec![run], None).await.expect("it looks");
    assert_eq!(removed.trees, 0);
    assert!(text(&world).contains("HUSH"));
}

/// Bodies and files go in two writes: a process that dies between them leaves the second to the next one.
#[tokio::test(flavor = "multi_thread")]
async fn files_of_an_erasing_that_a_process_died_in_go_later() {
    let world = recipe().start();
    let (own, shared) = (picture("own.png"), picture("shared.png"));
    let gone = ask(&world, "acme", vec![own.clone(), shared.clone()]).await;
    world.runtime.store().erase(vec![gone.run.id], None).await.expect("it erases");
    let hash = |file: &GivenFile| file.sha256().to_owned();
    let world = world.reopen();
    let there = |world: &World, file: &GivenFile| world.runtime.store().file(&hash(file)).expect("it reads").is_some();
    assert!(there(&world, &own), "nobody has looked yet");
    // Whoever is given one meanwhile keeps it.
    let looked = world.runtime.store().unclaimed().expect("it reads");
    ask(&world, "bolt", vec![shared.clone()]).await;
    let dropped = world.runtime.store().drop_files(looked).await.expect("it commits");
    assert_eq!((dropped.files, there(&world, &own), there(&world, &shared)), (1, false, true));
    assert_eq!(world.runtime.sweep().await.expect("it looks").files, 0);
    assert_eq!(world.runtime.store().unclaimed().expect("it reads"), [], "all is known of them");
    // Erased and given again, it is erased again.
    world.runtime.erase(&tenant("bolt"), &act()).await.expect("it erases");
    assert!(!there(&world, &shared));
    world.runtime.store().verify().expect("the books are right");
}

/// A thread forgets what was erased, and what was said after it can't be judged again.
#[tokio::test(flavor = "multi_thread")]
async fn a_thread_forgets() {
    let world = recipe().start();
    let said = async |day: &str| {
        let labels = [("thread", "t1"), ("day", day)].map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let new = NewRun { agent: "a".into(), input: json!("HUSH"), labels, key: None, files: vec![], bound: vec![] };
        world.runtime.run(&new, silent()).await.expect("it runs").0
    };
    let (_, second) = (said("monday").await, said("tuesday").await);
    assert!(world.runtime.replay(second).expect("it reads").is_ok());
    let monday = Labels::from([("day".to_owned(), "monday".to_owned())]);
    world.runtime.erase(&monday, &act()).await.expect("it erases");
    let difference = world.runtime.replay(second).expect("it reads").expect_err("it can't be told");
    assert!(difference.to_string().contains("taken out of the store"), "{difference}");
    let third = said("wednesday").await;
    assert_eq!(world.told(third).state(), RunState::Finished);
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_go_when_their_time_is_up() {
    for (keep, is_kept) in [("0s", false), ("1h", true)] {
        let world = recipe().file("plimsoll.toml", &format!("[project]\nkeep_bodies = '{keep}'\n")).start();
        let told = ask(&world, "acme", vec![]).await;
        let removed = world.runtime.sweep().await.expect("it sweeps");
        assert_eq!((removed.runs, text(&world).contains("HUSH")), (u64::from(!is_kept), is_kept), "{keep}");
        assert_eq!(world.runtime.sweep().await.expect("it sweeps").runs, 0, "{keep}");
        assert_eq!(world.told(told.run.id).run.spent(), told.run.spent());
        world.runtime.store().verify().expect("the books are right");
    }
    let clock = Clock::virtual_at(Clock::system().now());
    let world = recipe().file("plimsoll.toml", "[project]\nkeep_bodies = '1h'\n").start_at(&clock);
    ask(&world, "acme", vec![]).await;
    assert_eq!(world.runtime.sweep().await.expect("it sweeps").runs, 0);
    clock.advance(Millis::from_secs(3_600));
    assert_eq!(world.runtime.sweep().await.expect("it sweeps").runs, 1);
}

#[test]
fn the_command_asks_first_and_says_what_is_gone() {
    let desk = Desk::new();
    desk.run(&["erase", "--label", "tenant=acme", "--reason", "they left"]).expect_code(0);
    desk.run(&["run", "hello", "--input", "HUSH", "--label", "tenant=acme"]).expect_code(0);
    let erase = |more: &[&str]| {
        desk.run(&[&["erase", "--label", "tenant=acme", "--reason", "they left", "--by", "ann"], more].concat())
    };
    let asked = erase(&[]);
    asked.expect_code(2);
    assert!(asked.stderr.contains("add `--yes`"), "{asked}");
    assert!(erase(&["--dry-run"]).stderr.contains("1 run of tenant=acme to erase; nothing was removed"));
    assert!(desk.run(&["trace", "last"]).stdout.contains("HUSH"));
    let told = erase(&["--yes"]);
    told.expect_code(0);
    assert!(told.stderr.contains("erased the texts of 1 run of tenant=acme"), "{told}");
    let trace = desk.run(&["trace", "last"]);
    assert!(trace.stdout.contains("taken out of the store") && !trace.stdout.contains("HUSH"), "{trace}");
    assert!(desk.run(&["audit"]).stdout.contains("they left"));
    assert!(erase(&["--yes"]).stderr.contains("no run of tenant=acme has anything to erase"));
    desk.run(&["erase", "--reason", "they left"]).expect_code(2);
}
