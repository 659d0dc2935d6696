//! Alerts of the real binary: killed at every point around a delivery, served, listed, and tried anew.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::receiver::{Receiver, SECRET, assert_signed};
use crate::cli::desk::{Desk, Told};
use crate::kill::process::{End, Ship};

const AGENT: &str =
    "feature = \"support\"\n[model]\nmodels = [\"openai/gpt-5-mini\"]\n[prompt]\nuser = \"{{ input }}\"\n";

/// A project whose first run passes the lowest threshold there is.
fn project(root: &Path, receiver: &Receiver) {
    fs::create_dir_all(root.join("agents")).expect("a folder");
    fs::write(root.join("agents/a.toml"), AGENT).expect("it is written");
    fs::write(root.join("secret"), SECRET).expect("it is written");
    let alerts = format!(
        "[[budgets]]\nname = \"all\"\ncap = \"$0.1\"\nper = \"total\"\nalerts_at = [\"0.01%\", \"100%\"]\n
         [[alerts]]\nname = \"finance\"\non = [\"budget\", \"stopped\"]\nwebhook = \"{}\"\nsecret_file = \"secret\"\n",
        receiver.url()
    );
    fs::write(root.join("plimsoll.toml"), alerts).expect("it is written");
}

fn thresholds(receiver: &Receiver) -> Vec<(String, u64)> {
    let of = |body: &str| {
        let body: Value = serde_json::from_str(body).expect("JSON");
        assert_eq!((&body["type"], &body["simulated"]), (&json!("budget.threshold"), &json!(true)), "{body}");
        body["data"]["threshold_basis_points"].as_u64().expect("a share")
    };
    receiver.got().iter().map(|got| (got.id.clone(), of(&got.body))).collect()
}

const RUN: [&str; 5] = ["run", "a", "--sim", "--input", "Where is it?"];

/// Whatever the moment: the threshold is told of under one id, and once the process is back, it arrives.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_around_a_delivery_no_alert_is_lost_or_made_twice() {
    // The second commit of a run settles its call; the third books the delivery, unless the run's end comes between.
    for point in ["store.commit:2", "store.committed:2", "alert.brought:1", "store.commit:3", "store.committed:3"] {
        let (receiver, folder) = (Receiver::new([]).await, tempfile::tempdir().expect("a folder"));
        project(folder.path(), &receiver);
        let mut ship = Ship::start(folder.path(), &RUN, Some(point));
        assert_eq!(ship.end(), End::Signal(6), "{point}: {:?}", ship.heard);
        let before = receiver.got().len();
        // Whoever holds the store next delivers what is left; a run that passes nothing new tells of nothing.
        for _ in 0..2 {
            let mut ship = Ship::start(folder.path(), &RUN, None);
            assert_eq!(ship.end(), End::Exit(0), "{point}: {:?}", ship.heard);
        }
        let told = thresholds(&receiver);
        let ids: BTreeSet<_> = told.iter().collect();
        assert_eq!((ids.len(), told.first().map(|(_, share)| *share)), (1, Some(1)), "{point}: {told:?}");
        assert!(told.len() <= 2 && (told.len() == 1 || before == 1), "{point}: {told:?}");
        receiver.got().iter().for_each(assert_signed);
    }
}

fn ends(told: Told, code: i32) -> Told {
    told.expect_code(code);
    told
}

fn json_of(told: &Told) -> Value {
    serde_json::from_str(&told.stdout).unwrap_or_else(|error| panic!("{error}: {told:?}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_is_listed_tried_anew_and_tested() {
    let receiver = Receiver::new([super::Answer::Status(500), super::Answer::Status(500)]).await;
    let desk = Desk::empty();
    project(&desk.path(""), &receiver);
    tokio::task::block_in_place(|| {
        let none = ends(desk.run(&["alerts", "list", "--sim"]), 0);
        assert!(none.stderr.contains("plimsoll alerts test NAME"), "{none:?}");
        desk.run(&RUN).expect_code(0);
        let listed = json_of(&ends(desk.run(&["alerts", "list", "--sim", "--json"]), 0));
        let row = &listed["alerts"][0];
        assert_eq!((&row["state"], &row["tries"], &row["to"]), (&json!("due"), &json!(1), &json!("finance")), "{row}");
        let text = ends(desk.run(&["alerts", "list", "--sim", "--state", "due"]), 0).stdout;
        assert!(text.contains("budget all has reached 0.01%") && text.contains("it answered 500"), "{text}");
        assert!(!text.contains(SECRET) && !text.contains("/hook"), "{text}");
        // A test goes past the outbox.
        let failed = ends(desk.run(&["alerts", "test", "finance"]), 1);
        assert!(
            failed.stderr.contains("plimsoll::cli::alert") && failed.stderr.contains("it answered 500"),
            "{failed:?}"
        );
        desk.run(&["alerts", "test", "finance"]).expect_code(0);
        let unknown = ends(desk.run(&["alerts", "test", "finanze"]), 2);
        assert!(unknown.stderr.contains("did you mean `finance`?"), "{unknown:?}");
        desk.run(&["alerts", "retry", "0", "--sim"]).expect_code(0);
        desk.run(&["alerts", "retry", "9", "--sim"]).expect_code(2);
        desk.run(&RUN).expect_code(0);
        let listed = json_of(&ends(desk.run(&["alerts", "list", "--sim", "--json"]), 0));
        assert_eq!(
            (&listed["alerts"][0]["state"], listed["alerts"].as_array().map(Vec::len)),
            (&json!("delivered"), Some(1))
        );
    });
}

/// A service delivers while it goes on, and shows what it told of; nobody else can meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_delivers_and_shows_what_it_told_of() {
    let (receiver, folder) = (Receiver::new([]).await, tempfile::tempdir().expect("a folder"));
    project(folder.path(), &receiver);
    let mut ship = Ship::start(folder.path(), &["serve", "--sim", "--listen", "127.0.0.1:0"], None);
    assert!(ship.hear(|line| line.starts_with("http://")), "{:?}", ship.heard);
    let address = ship.heard.iter().find(|line| line.starts_with("http://")).expect("an address").clone();
    let http = reqwest::Client::builder().no_proxy().build().expect("a client");
    let ask = json!({"agent": "a", "input": "Where is it?", "wait": "20s"});
    http.post(format!("{address}/v1/runs")).json(&ask).send().await.expect("an answer").error_for_status().expect("ok");
    let table = async || -> Value {
        let answer = http.get(format!("{address}/v1/alerts")).send().await.expect("an answer");
        answer.error_for_status().expect("ok").json().await.expect("JSON")
    };
    let told = async {
        while table().await["alerts"][0]["state"] != "delivered" {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), told).await.expect("it is delivered");
    assert_eq!(thresholds(&receiver).len(), 1);
    let page = http.get(&address).send().await.expect("a page").text().await.expect("text");
    assert!(page.contains("budget all has reached 0.01%"), "{page}");
    let mut other = Ship::start(folder.path(), &["alerts", "retry", "0", "--sim"], None);
    assert_eq!(other.end(), End::Exit(0), "it asks the service: {:?}", other.heard);
    let again = async {
        while receiver.got().len() < 2 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), again).await.expect("it is delivered anew");
    ship.interrupt();
    assert_eq!(ship.end(), End::Exit(0), "{:?}", ship.heard);
}
