//! Alerts from the outbox to whoever hears them: signed, tried again, given up, and never lost.

mod process;
mod receiver;
mod spec;

use std::path::Path;

use plimsoll::clock::Clock;
use plimsoll::domain::alert::{AlertEntry, AlertState, TRIES_MAX};
use plimsoll::runtime::alerts::{Courier, Deliverer};
use plimsoll::spec::load::{LoadOptions, load_configuration};
use plimsoll::store::Store;
use plimsoll::store::memory::MemoryDisk;
use plimsoll::units::{Millis, Timestamp};
use serde_json::Value;
use tokio::sync::watch;

use receiver::{Answer, Receiver, SECRET};

/// A store whose outbox is filled by runs that end, a clock that stands still, and who delivers.
struct Post {
    folder: tempfile::TempDir,
    clock: Clock,
    disk: MemoryDisk,
    store: Store,
    runs: u128,
}

impl Post {
    fn new(alerts: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("secret"), SECRET).expect("it is written");
        std::fs::write(folder.path().join("plimsoll.toml"), alerts).expect("it is written");
        let (clock, disk) = (Clock::virtual_at(Timestamp(1_795_392_000_000)), MemoryDisk::default());
        let store = opened(folder.path(), &disk, &clock);
        Self { folder, clock, disk, store, runs: 0 }
    }

    /// To a webhook that hears of runs that are cancelled.
    fn hooked(receiver: &Receiver, more: &str) -> Self {
        Self::new(&format!(
            "[[alerts]]\nname = 'desk'\non = ['cancelled']\nwebhook = '{}'\nsecret_file = 'secret'\n{more}",
            receiver.url()
        ))
    }

    /// A run that is made and cancelled at once.
    async fn cancel_one(&mut self) {
        self.runs += 1;
        let run = plimsoll::ids::RunId::from_bits((u128::from(self.clock.now().0) << 80) | self.runs);
        let events = receiver::cancelled().into_iter().map(|event| (run, event)).collect();
        let op = plimsoll::domain::ledger::Op { run, events, asks: vec![], plan: None };
        self.store.submit(op).await.expect("it commits");
    }

    /// Tries what is due, once.
    async fn deliver(&self) {
        let project = load_configuration(self.folder.path(), &LoadOptions::default()).expect("it loads");
        let deliverer = Deliverer::new(self.store.clone(), Courier::new(&project, self.clock.clone(), true));
        let stop = watch::Sender::new(true);
        let work = deliverer.work(stop.subscribe());
        tokio::time::timeout(std::time::Duration::from_secs(30), work).await.expect("it comes to an end");
    }

    fn due(&self) -> Vec<AlertEntry> {
        self.store.alerts_due(100).expect("it reads")
    }

    fn over(&self) -> Vec<AlertEntry> {
        self.store.alerts_over(100).expect("it reads")
    }

    fn reopen(self) -> Self {
        let Self { folder, clock, disk, store, runs } = self;
        drop(store);
        let store = opened(folder.path(), &disk, &clock);
        Self { folder, clock, disk, store, runs }
    }
}

fn opened(folder: &Path, disk: &MemoryDisk, clock: &Clock) -> Store {
    let project = load_configuration(folder, &LoadOptions::default()).expect("it loads");
    Store::open_memory(disk, project.ledger_policy(), clock.clone()).expect("it opens")
}

#[tokio::test]
async fn a_webhook_that_fails_is_tried_again_with_the_same_id_and_a_signature_that_holds() {
    let receiver = Receiver::new([Answer::Status(500)]).await;
    let mut post = Post::hooked(&receiver, "");
    post.cancel_one().await;
    post.deliver().await;
    let waiting = post.due();
    assert_eq!((waiting.len(), waiting[0].tries, waiting[0].error.as_deref()), (1, 1, Some("it answered 500")));
    post.deliver().await;
    assert_eq!(receiver.got().len(), 1, "not before its time");
    // A restart loses nothing and repeats nothing.
    let post = post.reopen();
    post.clock.advance(Millis(5_000));
    post.deliver().await;
    post.deliver().await;
    let got = receiver.got();
    assert_eq!(got.len(), 2);
    got.iter().for_each(receiver::assert_signed);
    assert_eq!((&got[0].id, &got[0].body), (&got[1].id, &got[1].body), "the receiver can drop the double");
    assert_eq!(got[1].seconds - got[0].seconds, 5, "and see when it was sent");
    let over = post.over();
    assert_eq!((over.len(), over[0].state, over[0].tries), (1, AlertState::Delivered, 2));
    let body: Value = serde_json::from_str(&got[0].body).expect("JSON");
    assert_eq!((&body["type"], &body["to"], &body["simulated"]), (&"run.ended".into(), &"desk".into(), &true.into()));
    assert_eq!((&body["id"], &body["data"]["state"]), (&got[0].id.as_str().into(), &"cancelled".into()));
    assert!(body["text"].as_str().expect("a text").contains("was cancelled"), "{body}");
}

#[tokio::test]
async fn a_redirect_is_no_answer() {
    let receiver = Receiver::new([Answer::Redirect]).await;
    let mut post = Post::hooked(&receiver, "");
    post.cancel_one().await;
    post.deliver().await;
    assert_eq!(receiver.got().len(), 1, "nobody else was asked");
    assert!(post.due()[0].error.as_deref().is_some_and(|why| why.contains("redirects aren't followed")));
}

#[tokio::test]
async fn a_receiver_that_is_silent_is_left_in_time_and_one_that_is_not_there_too() {
    let receiver = Receiver::new([Answer::Silence]).await;
    let mut post = Post::hooked(&receiver, "timeout = '200ms'\n");
    post.cancel_one().await;
    post.deliver().await;
    assert_eq!(post.due()[0].error.as_deref(), Some("it didn't answer within 200ms"));
    drop(receiver);
    post.clock.advance(Millis(5_000));
    post.deliver().await;
    let waiting = post.due();
    assert_eq!(waiting[0].tries, 2);
    let why = waiting[0].error.clone().expect("an error");
    assert!(!why.contains("/hook") && !why.contains(SECRET), "{why}");
}

#[tokio::test]
async fn an_alert_that_never_arrives_is_given_up_and_one_that_nobody_wants_at_once() {
    let receiver = Receiver::new(std::iter::repeat_n(Answer::Status(503), 10).chain([Answer::Status(410)])).await;
    let mut post = Post::hooked(&receiver, "");
    post.cancel_one().await;
    for _ in 0..TRIES_MAX {
        post.deliver().await;
        post.clock.advance(Millis(13 * 3_600_000));
    }
    let over = post.over();
    assert_eq!((over.len(), over[0].state, over[0].tries), (1, AlertState::Dead, TRIES_MAX));
    post.cancel_one().await;
    post.deliver().await;
    let over = post.over();
    assert_eq!(
        (over[0].state, over[0].tries, over[0].error.as_deref()),
        (AlertState::Dead, 1, Some("it answered 410"))
    );
    assert!(post.store.retry_alert(over[1].number).await.expect("it commits"));
    post.deliver().await;
    assert_eq!((post.due().len(), post.over()[1].state), (0, AlertState::Delivered), "a person may have it tried anew");
}

#[tokio::test]
async fn one_that_is_down_holds_up_nobody_else_and_gets_its_alerts_in_order() {
    let (slow, quick) = (Receiver::new([Answer::Silence]).await, Receiver::new([]).await);
    let alert = |name: &str, receiver: &Receiver| {
        format!(
            "[[alerts]]\nname = '{name}'\non = ['cancelled']\nwebhook = '{}'\nsecret_file = 'secret'\ntimeout = '500ms'\n",
            receiver.url()
        )
    };
    let mut post = Post::new(&format!("{}{}", alert("slow", &slow), alert("quick", &quick)));
    for _ in 0..3 {
        post.cancel_one().await;
    }
    post.deliver().await;
    assert_eq!((quick.got().len(), slow.got().len()), (3, 3), "each was tried once");
    let due: Vec<_> = post.due().iter().map(|entry| (entry.to.clone(), entry.tries)).collect();
    assert_eq!(due, [("slow".to_owned(), 1)]);
    let runs: Vec<Value> = quick
        .got()
        .iter()
        .map(|got| serde_json::from_str::<Value>(&got.body).expect("JSON")["data"]["run"].clone())
        .collect();
    assert!(runs.is_sorted_by_key(|run| run.as_str().expect("a run").to_owned()), "{runs:?}");
}

#[tokio::test]
async fn a_row_that_is_gone_gives_its_alerts_up_and_a_secret_that_is_missing_waits() {
    let receiver = Receiver::new([]).await;
    let mut post = Post::hooked(&receiver, "");
    post.cancel_one().await;
    std::fs::remove_file(post.folder.path().join("secret")).expect("it is there");
    post.deliver().await;
    assert!(post.due()[0].error.as_deref().is_some_and(|why| why.contains("can't be read")), "{:?}", post.due());
    std::fs::write(post.folder.path().join("plimsoll.toml"), "").expect("it is written");
    post.clock.advance(Millis(5_000));
    post.deliver().await;
    assert_eq!(post.over()[0].error.as_deref(), Some("`[[alerts]]` has no `desk` any more"));
    assert!(receiver.got().is_empty());
}

#[tokio::test]
async fn a_command_reads_the_alert_and_sees_nothing_else() {
    let mut post = Post::new(
        "[[alerts]]\nname = 'desk'\non = ['cancelled']\ncommand = ['sh', '-c', 'cat >> got; env >> seen; test -e ready']\nenv = ['HOME']\n",
    );
    post.cancel_one().await;
    post.deliver().await;
    assert_eq!(post.due()[0].error.as_deref(), Some("`sh` failed with exit code 1"));
    std::fs::write(post.folder.path().join("ready"), "").expect("it is written");
    post.clock.advance(Millis(5_000));
    post.deliver().await;
    assert_eq!(post.over()[0].state, AlertState::Delivered);
    let read = |name: &str| std::fs::read_to_string(post.folder.path().join(name)).expect("it is there");
    let got = read("got");
    let (first, second) = got.split_at(got.len() / 2);
    assert_eq!(first, second, "the same at every try");
    let body: Value = serde_json::from_str(first).expect("JSON");
    assert_eq!(body["data"]["state"], "cancelled");
    let seen = read("seen");
    let known = ["PATH=", "LANG=", "HOME=", "PWD=", "_=", "SHLVL=", "OLDPWD="];
    assert!(seen.contains("HOME="), "{seen}");
    assert!(seen.lines().all(|line| known.iter().any(|known| line.starts_with(known))), "{seen}");
}

#[tokio::test]
async fn a_test_says_whether_it_arrived() {
    let receiver = Receiver::new([Answer::Status(500)]).await;
    let post = Post::hooked(&receiver, "");
    let project = load_configuration(post.folder.path(), &LoadOptions::default()).expect("it loads");
    let courier = Courier::new(&project, post.clock.clone(), false);
    assert_eq!(courier.test("desk").await, Err("it answered 500".to_owned()));
    assert_eq!(courier.test("desk").await, Ok(()));
    receiver.got().iter().for_each(receiver::assert_signed);
    assert!(receiver.got()[1].body.contains(r#""type":"test""#));
    assert!(post.due().is_empty() && post.over().is_empty(), "it goes past the outbox");
}
