//! Switches and exceptions over HTTP: who may order what, what is understood, and that nobody approves their own.

use plimsoll::api::IntakeOptions;
use plimsoll::domain::audit::{Author, Change};
use plimsoll::domain::event::RunState;
use plimsoll::domain::exception::{EXCEPTIONS_MAX, ExceptionAsked};
use plimsoll::units::{Money, Timestamp};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::{AGENT, BUDGET, SCENARIO, Served, told};
use crate::world::{Recipe, World};

const EACH: &str = "[[budgets]]\nname = \"each\"\ncap = \"$1\"\nper = \"month\"\neach = [\"tenant\"]\n";

/// A service and a key for each of those who ask.
struct Office {
    world: World,
    served: Served,
    ops: String,
    ann: String,
    bob: String,
    reader: String,
    tenant: String,
}

impl Office {
    async fn open() -> Self {
        let recipe = Recipe::agent(&format!("feature = 'support'\n{AGENT}")).scenario(SCENARIO);
        let world = recipe.file("plimsoll.toml", &format!("{BUDGET}{EACH}")).start();
        let served = Served::of(&world, IntakeOptions::default()).await;
        let (_, ops) = served.make(None, &json!({"name": "ops", "scopes": ["admin"]})).await;
        let make = async |body: Value| served.make(Some(&ops), &body).await.1;
        let ann = make(json!({"name": "ann", "scopes": ["read", "run", "approve"]})).await;
        let bob = make(json!({"name": "bob", "scopes": ["read", "approve"]})).await;
        let reader = make(json!({"name": "reader", "scopes": ["read"]})).await;
        let tenant = make(json!({"name": "acme", "scopes": ["admin"], "labels": {"tenant": "acme"}})).await;
        Self { world, served, ops, ann, bob, reader, tenant }
    }

    async fn get(&self, key: &str, path: &str) -> Value {
        told(self.served.with(key, Method::GET, path, None).await, StatusCode::OK).await
    }

    async fn post(&self, key: &str, path: &str, body: &Value, status: StatusCode) -> Value {
        told(self.served.with(key, Method::POST, path, Some(body)).await, status).await
    }

    /// Asks for what is refused; gives its code without what all have.
    async fn refused(&self, key: &str, path: &str, body: &Value, status: StatusCode) -> String {
        let problem = self.post(key, path, body, status).await;
        assert!(problem["help"].as_str().is_some_and(|help| !help.is_empty()), "{problem}");
        problem["code"].as_str().expect("a code").replace("plimsoll::api::", "")
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exception_counts_once_another_person_approves_it() {
    let office = Office::open().await;
    let (path, why) = ("/v1/budgets/exceptions", json!({"reason": "a fair", "by": "somebody else"}));
    let wanted = json!({"budget": "each", "scope": "tenant=acme", "amount_usd": "2", "until": "3d", "reason": "a fair", "by": "bob"});
    let asked = office.post(&office.ann, path, &wanted, StatusCode::CREATED).await;
    assert_eq!((&asked["state"], &asked["by"]), (&json!("asked"), &json!("ann")), "its key says who it is");
    let (approve, end) =
        (format!("{path}/{}/approve", asked["exception"]), format!("{path}/{}/end", asked["exception"]));
    // More than anybody has is no amount, and a scope names values.
    for (name, bad) in [("amount_usd", "340282366920938463463374606"), ("scope", "tenant")] {
        let mut body = wanted.clone();
        body[name] = json!(bad);
        assert_eq!(office.refused(&office.ann, path, &body, StatusCode::BAD_REQUEST).await, "bad_request", "{name}");
    }
    // Four eyes: whatever name she gives.
    assert_eq!(office.refused(&office.ann, &approve, &why, StatusCode::FORBIDDEN).await, "forbidden");
    assert_eq!(office.refused(&office.reader, &approve, &why, StatusCode::FORBIDDEN).await, "forbidden");
    let counts = office.post(&office.bob, &approve, &why, StatusCode::OK).await;
    assert_eq!((&counts["state"], &counts["approved_by"]), (&json!("counts"), &json!("bob")));
    assert_eq!(office.refused(&office.ops, &approve, &why, StatusCode::CONFLICT).await, "state");
    assert_eq!(office.get(&office.reader, path).await["exceptions"], json!([counts]));
    let ended = office.post(&office.bob, &end, &why, StatusCode::OK).await;
    assert_eq!((&ended["state"], &ended["ended_by"]), (&json!("ended"), &json!("bob")));
    for again in [&end, &approve] {
        assert_eq!(office.refused(&office.ops, again, &why, StatusCode::CONFLICT).await, "state");
    }
    let audit = office.get(&office.ops, "/v1/audit?limit=3").await;
    let kinds: Vec<&Value> = audit["entries"].as_array().expect("a list").iter().map(|entry| &entry["kind"]).collect();
    assert_eq!(kinds, ["exception_ended", "exception_approved", "exception_asked"]);
    office.served.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exception_that_is_asked_for_wrongly_is_not_taken() {
    let office = Office::open().await;
    let path = "/v1/budgets/exceptions";
    let right = json!({"budget": "each", "scope": "tenant=acme", "amount_usd": "2", "until": "3d", "reason": "a fair"});
    let wrong = [
        ("budget", json!("nobody")),
        ("budget", json!("all-time")),
        ("scope", json!("")),
        ("scope", json!("feature=support")),
        ("amount_usd", json!("0")),
        ("amount_usd", json!("-1")),
        ("amount_usd", json!(2)),
        ("until", json!("soon")),
        ("until", json!("2020-01-01T00:00:00Z")),
        ("until", json!("9999-01-01T00:00:00Z")),
        ("reason", json!("  ")),
        ("more", json!(1)),
    ];
    for (field, value) in wrong {
        let mut body = right.clone();
        body[field] = value;
        let code =
            told(office.served.with(&office.ann, Method::POST, path, Some(&body)).await, StatusCode::BAD_REQUEST).await;
        assert_eq!(code["code"], "plimsoll::api::bad_request", "{body}");
    }
    for (key, what) in [(&office.reader, "its scopes"), (&office.bob, "its scopes"), (&office.tenant, "its labels")] {
        assert_eq!(office.refused(key, path, &right, StatusCode::FORBIDDEN).await, "forbidden", "{what}");
    }
    for (number, status, code) in
        [("77", StatusCode::NOT_FOUND, "no_such_exception"), ("many", StatusCode::BAD_REQUEST, "bad_request")]
    {
        for act in ["approve", "end"] {
            let path = format!("{path}/{number}/{act}");
            let why = json!({"reason": "a fair"});
            assert_eq!(office.refused(&office.bob, &path, &why, status).await, code, "{path}");
            let none = office.post(&office.bob, &path, &json!({}), StatusCode::BAD_REQUEST).await;
            assert_eq!(none["code"], "plimsoll::api::bad_request", "no reason");
        }
    }
    assert_eq!(office.get(&office.ops, path).await["exceptions"], json!([]), "nothing was noted");
    let tenant = office.served.seen(&office.tenant, path).await;
    assert_eq!(tenant, StatusCode::FORBIDDEN, "what is everybody's");
    office.served.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn there_are_so_many_open_exceptions_and_no_more() {
    let office = Office::open().await;
    let path = "/v1/budgets/exceptions";
    let asked = |number: usize| {
        let (budget, scope) = ("each".into(), format!("tenant=t{number}"));
        let (amount_usd, until) = (Money::from_micro(1), Timestamp(u64::MAX / 2));
        Change::ExceptionAsked(ExceptionAsked { budget, scope, amount_usd, until, reason: "a fair".to_owned() })
    };
    let (store, ann) = (office.world.runtime.store(), Author::Person("ann".to_owned()));
    let noted = (1..EXCEPTIONS_MAX).map(|number| store.note(ann.clone(), asked(number)));
    assert!(futures_util::future::join_all(noted).await.iter().all(Result::is_ok));
    let wanted =
        json!({"budget": "each", "scope": "tenant=acme", "amount_usd": "2", "until": "3d", "reason": "a fair"});
    let last = office.post(&office.ann, path, &wanted, StatusCode::CREATED).await;
    assert_eq!(office.refused(&office.ann, path, &wanted, StatusCode::BAD_REQUEST).await, "bad_request", "full");
    let end = format!("{path}/{}/end", last["exception"]);
    office.post(&office.bob, &end, &json!({"reason": "enough"}), StatusCode::OK).await;
    office.post(&office.ann, path, &wanted, StatusCode::CREATED).await;
    office.served.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_switch_ends_the_runs_of_its_scope_until_it_is_lifted() {
    let office = Office::open().await;
    let (set, lift) = ("/v1/switches", "/v1/switches/lift");
    let kill = json!({"scope": "feature=support", "switch": "kill", "reason": "odd answers"});
    let lifted = json!({"scope": "feature=support", "reason": "mended"});
    for key in [&office.ann, &office.bob, &office.reader, &office.tenant] {
        assert_eq!(office.refused(key, set, &kill, StatusCode::FORBIDDEN).await, "forbidden");
        assert_eq!(office.refused(key, lift, &lifted, StatusCode::FORBIDDEN).await, "forbidden");
    }
    assert_eq!(office.served.seen(&office.tenant, set).await, StatusCode::FORBIDDEN, "what is everybody's");
    for (field, value) in [
        ("scope", json!("nonsense")),
        ("scope", json!("=x")),
        ("scope", json!(7)),
        ("switch", json!("stop")),
        ("reason", json!("")),
        ("more", json!(1)),
    ] {
        let mut body = kill.clone();
        body[field] = value;
        let answer = office.served.with(&office.ops, Method::POST, set, Some(&body)).await;
        assert_eq!(told(answer, StatusCode::BAD_REQUEST).await["code"], "plimsoll::api::bad_request", "{body}");
    }
    let mut pause = kill.clone();
    pause["switch"] = json!("pause");
    office.post(&office.ops, set, &pause, StatusCode::OK).await;
    let table = office.post(&office.ops, set, &kill, StatusCode::OK).await;
    let rows = table["switches"].as_array().expect("a list");
    assert_eq!(
        (rows.len(), &rows[0]["switch"], &rows[0]["by"]),
        (1, &json!("kill"), &json!("ops")),
        "one for each scope"
    );
    assert_eq!(office.get(&office.reader, set).await, table);
    let run = json!({"agent": "a", "input": "quick", "labels": {"tenant": "acme"}, "wait": "20s"});
    let stopped = office.post(&office.ann, "/v1/runs", &run, StatusCode::OK).await;
    assert_eq!((&stopped["state"], &stopped["limit"]), (&json!("stopped"), &json!("switch")), "{stopped}");
    assert_eq!(office.post(&office.ops, lift, &lifted, StatusCode::OK).await["switches"], json!([]));
    assert_eq!(office.refused(&office.ops, lift, &lifted, StatusCode::BAD_REQUEST).await, "bad_request");
    let finished = office.post(&office.ann, "/v1/runs", &run, StatusCode::OK).await;
    assert_eq!(finished["state"], "finished");
    office.served.close().await;
    assert_eq!(office.world.all().last().map(|told| told.state()), Some(RunState::Finished));
    office.world.verify();
}
