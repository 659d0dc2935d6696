//! A store that is held is shared: a second process asks the first, and shows what it would show by itself.

mod desk;
mod private;

use std::path::Path;
use std::process::{Child, Command, Stdio};

use plimsoll::api::Service;
use plimsoll::api::socket::Socket;
use plimsoll::clock::Clock;
use plimsoll::spec::load::{LoadOptions, load_configuration};
use plimsoll::store::lock::Holder;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::cli::desk::{BINARY, Told};
use crate::kill::process::End;
use crate::world::Recipe;
use desk::{ANSWER, Books, Harbour};

/// An agent that answers at once, under a budget.
const AGENT: &str = "[model]\nmodels = [\"openai/gpt-5-mini\"]\n";
const BUDGET: &str = "[[budgets]]\nname = \"all-time\"\ncap = \"$5\"\nper = \"total\"\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_command_shows_the_same_with_and_without_a_holder() {
    let world = Recipe::agent(AGENT).file("plimsoll.toml", BUDGET).start();
    let first = world.run_with([("tenant".to_owned(), "acme".to_owned())].into()).await.run.id.to_string();
    let second = world.run().await.run.id.to_string();
    let commands: [&[&str]; 28] = [
        &["trace", &first],
        &["trace", &first[..24], "--json"],
        &["trace", "last"],
        &["trace", "last", "--json"],
        &["replay", &first],
        &["replay", "last", "--json"],
        &["replay", "last", "--limits", "steps=1"],
        &["replay", "7ZZZZZ"],
        &["trace", "0"],
        &["trace", "7ZZZZZ"],
        &["trace", "no/such?run"],
        &["runs"],
        &["runs", "--json"],
        &["runs", "--limit", "1", "--agent", "a", "--since", "1h"],
        &["runs", "--label", "tenant=acme", "--state", "finished,stopped", "--json"],
        &["runs", "--label", "tenant=other"],
        &["cancel", &second],
        &["cancel", "7ZZZZZ", "--json"],
        &["cost"],
        &["cost", "--by", "tenant,day", "--json"],
        &["budget"],
        &["budget", "all-time", "--json"],
        &["export", "runs", "--label", "tenant=acme"],
        &["export", "events"],
        &["export", "events", "--run", "last"],
        &["export", "events", "--run", "7ZZZZZ"],
        &["export", "focus"],
        &["export", "focus", "--spec", "1.4", "--since", "1h", "--until", "2099-01-01", "--state", "running"],
    ];
    let project = world.folder.path().to_owned();
    let all = || commands.map(|words| Told::of(spawn(&project, words)).to_string());
    let (stop, stopped) = watch::channel(false);
    let budgets = load_configuration(&project, &LoadOptions::default()).expect("it loads").budgets;
    let service = Service::new(world.runtime.clone(), &budgets, Clock::system());
    let socket = Socket::bind(&project.join(".plimsoll-sim")).expect("it binds");
    let mut tasks = JoinSet::new();
    tasks.spawn(socket.serve(service, stopped));
    let shared = tokio::task::block_in_place(all);
    stop.send_replace(true);
    tasks.join_all().await;
    drop(world.runtime);
    let alone = tokio::task::block_in_place(all);
    for ((words, shared), alone) in commands.iter().zip(shared).zip(alone) {
        assert_eq!(shared, alone, "{words:?}");
        assert!(!shared.contains("store::held") && !shared.contains("::api::"), "{words:?}: {shared}");
    }
}

#[test]
fn what_goes_on_in_the_holder_is_seen() {
    for books in [Books::Simulated, Books::Real] {
        let harbour = Harbour::new(books);
        harbour.plimsoll(&["run", "hello", "--input", "quick", "--label", "tenant=acme"]).expect_code(0);
        let (mut ship, run) = harbour.sail();
        let running = harbour.plimsoll(&["runs", "--state", "running", "--json"]).json();
        assert_eq!(running["runs"][0]["run"], run.as_str(), "{running}");
        let trace = harbour.plimsoll(&["trace", &run, "--json"]).json();
        assert_eq!((trace["run"].as_str(), trace["state"].as_str()), (Some(&*run), Some("running")), "{trace}");
        assert_ne!(trace["cost"]["held_usd"], "0", "{trace}");
        assert!(harbour.plimsoll(&["trace", "last"]).stdout.contains(&run));
        let budget = harbour.plimsoll(&["budget", "--json"]).json();
        assert_eq!(budget["budgets"][0]["held_usd"], trace["cost"]["held_usd"], "{budget}");
        let rates = harbour.plimsoll(&["rates", "--json"]).json();
        assert_eq!((&rates["rates"][0]["value"], &rates["rates"][0]["free"]), (&64.into(), &63.into()), "{rates}");
        let cost = harbour.plimsoll(&["cost", "--json"]).json();
        assert_eq!(cost["total"]["ended"]["finished"], 1, "{cost}");
        ship.sink();
        ship.end();
    }
}

#[test]
fn a_run_is_cancelled_in_its_holder_and_the_caller_sees_the_end() {
    cancelled_in_its_holder(Books::Real);
}

#[test]
fn a_simulated_run_is_cancelled_in_its_holder() {
    cancelled_in_its_holder(Books::Simulated);
}

fn cancelled_in_its_holder(books: Books) {
    let harbour = Harbour::new(books);
    let (mut ship, run) = harbour.sail();
    let told = harbour.plimsoll(&["cancel", &run[..20], "--reason", "not needed any more", "--json"]);
    told.expect_code(0);
    assert!(told.stderr.contains("as soon as what is in flight is finished"), "{told}");
    let document = told.json();
    assert_eq!((document["run"].as_str(), document["state"].as_str()), (Some(&*run), Some("cancelled")), "{told}");
    assert_eq!(document["cost"]["held_usd"], "0", "{told}");
    assert_eq!(ship.end(), End::Exit(5), "the holder says how its run ended: {:?}", ship.heard);
    let trace = harbour.plimsoll(&["trace", &run, "--json"]);
    assert!(trace.stdout.contains("not needed any more"), "{trace}");
    let again = harbour.plimsoll(&["cancel", &run]);
    again.expect_code(2);
    assert!(again.stderr.contains("is cancelled already"), "{again}");
    assert!(!harbour.socket().exists(), "who ends takes the socket along");
}

#[test]
fn a_killed_holder_leaves_a_socket_that_is_no_obstacle() {
    let harbour = Harbour::new(Books::Simulated);
    let (mut ship, run) = harbour.sail();
    ship.sink();
    assert_eq!(ship.end(), End::Signal(9));
    assert!(harbour.socket().exists(), "nobody could remove it");
    let runs = harbour.plimsoll(&["runs", "--json"]).json();
    assert_eq!(runs["runs"][0]["state"], "interrupted", "{runs}");
    // The next holder serves in its place.
    let (mut next, second) = harbour.sail();
    let trace = harbour.plimsoll(&["trace", &second, "--json"]).json();
    assert_eq!(trace["state"], "running", "{trace}");
    assert_ne!(run, second);
    next.sink();
    next.end();
}

#[test]
fn who_drives_a_run_is_said_to_those_who_would_drive_it() {
    let harbour = Harbour::new(Books::Simulated);
    harbour.plimsoll(&["run", "hello", "--input", "quick"]).expect_code(0);
    let first = harbour.plimsoll(&["runs", "--json"]).json()["runs"][0]["run"].as_str().expect("an id").to_owned();
    let (ship, run) = harbour.sail();
    let told = harbour.plimsoll(&["resume", &run]);
    told.expect_code(2);
    let pid = harbour.holder().pid.expect("a pid");
    for part in ["plimsoll::cli::state", "is running already", &format!("process {pid}"), "plimsoll cancel"] {
        assert!(told.stderr.contains(part), "{part}: {told}");
    }
    let ended = harbour.plimsoll(&["resume", &first]);
    ended.expect_code(0);
    assert!(ended.stdout.contains(ANSWER) && ended.stderr.contains("is finished already"), "{ended}");
    let other = harbour.plimsoll(&["run", "hello", "--input", "quick"]);
    other.expect_code(1);
    assert!(other.stderr.contains("plimsoll::store::held"), "{other}");
    drop(ship);
}

#[test]
fn a_store_that_lies_deep_is_served_all_the_same() {
    let mut harbour = Harbour::new(Books::Simulated);
    harbour.deepen();
    let (ship, run) = harbour.sail();
    assert!(harbour.socket().as_os_str().len() > 120);
    let trace = harbour.plimsoll(&["trace", &run, "--json"]);
    assert_eq!(trace.json()["state"], "running", "{trace}");
    drop(ship);
}

#[test]
fn a_command_that_finds_a_holder_without_a_socket_waits_for_its_end() {
    let harbour = Harbour::new(Books::Simulated);
    let (mut ship, run) = harbour.sail();
    harbour.take_socket_away();
    let told = harbour.plimsoll(&["trace", &run]);
    told.expect_code(1);
    assert!(told.stderr.contains("plimsoll::store::held"), "{told}");
    let Holder { pid, .. } = harbour.holder();
    assert!(told.stderr.contains(&format!("process {}", pid.expect("a pid"))), "{told}");
    let waiting = harbour.command(&["trace", &run, "--json"]).spawn().expect("it starts");
    ship.sink();
    ship.end();
    let told = Told::of(waiting);
    assert_eq!(told.json()["state"], "interrupted", "{told}");
}

fn spawn(project: &Path, words: &[&str]) -> Child {
    let mut command = Command::new(BINARY);
    command.arg("--project").arg(project).args(words);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().expect("it starts")
}
