//! Keys: who may ask for what, and two tenants that don't know of each other.

use plimsoll::api::IntakeOptions;
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};

use super::{AGENT, BUDGET, SCENARIO, Served, ask, told};
use crate::world::Recipe;

impl Served {
    pub(super) async fn with(&self, key: &str, method: Method, path: &str, body: Option<&Value>) -> Response {
        let request = self.http.request(method, self.url(path)).bearer_auth(key);
        let request = match body {
            Some(body) => request.json(body),
            None => request,
        };
        request.send().await.expect("an answer")
    }

    pub(super) async fn seen(&self, key: &str, path: &str) -> StatusCode {
        self.with(key, Method::GET, path, None).await.status()
    }

    /// Makes a key, for a reason; gives its id and its text.
    pub(super) async fn make(&self, admin: Option<&str>, body: &Value) -> (String, String) {
        let mut body = body.clone();
        body["reason"] = json!("they need it");
        let response = match admin {
            Some(key) => self.with(key, Method::POST, "/v1/keys", Some(&body)).await,
            None => {
                body["by"] = json!("zoe");
                self.post("/v1/keys", &body).await
            }
        };
        let made = told(response, StatusCode::CREATED).await;
        let text = |field: &str| made[field].as_str().expect("a text").to_owned();
        (text("key"), text("secret"))
    }
}

/// A thread's name is its tenant's own: nobody reads on in, or blocks, what another calls the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_tenants_have_threads_of_their_own() {
    let world = Recipe::agent(AGENT).scenario(SCENARIO).file("plimsoll.toml", BUDGET).start();
    let served = Served::of(&world, IntakeOptions::default()).await;
    let (_, admin) = served.make(None, &json!({"name": "ops", "scopes": ["admin"]})).await;
    let team = |name: &str| json!({"name": name, "scopes": ["run", "read"], "labels": {"team": name}, "by": "ann"});
    let (_, acme) = served.make(Some(&admin), &tenant("acme", &["run", "read"])).await;
    let (_, other) = served.make(Some(&admin), &tenant("other", &["run", "read"])).await;
    let (_, red) = served.make(Some(&admin), &team("red")).await;
    let (_, blue) = served.make(Some(&admin), &team("blue")).await;
    let said = json!({"agent": "a", "input": "quick", "wait": "20s", "thread": "t1"});
    for key in [&acme, &other, &red, &blue] {
        told(served.with(key, Method::POST, "/v1/runs", Some(&said)).await, StatusCode::OK).await;
    }
    let links = || {
        let all = world.all();
        let after = |told: &crate::world::Told| created(&told.log)["thread"]["after"].as_str().map(str::to_owned);
        all.iter().map(after).collect::<Vec<_>>()
    };
    assert_eq!(links(), [const { None }; 4], "each is the first of its thread");
    let again = told(served.with(&other, Method::POST, "/v1/runs", Some(&said)).await, StatusCode::OK).await;
    let second = world.all().into_iter().nth(1).expect("other's first").run.id.to_string();
    assert_eq!(links().last().cloned().flatten(), Some(second), "{again}");
    // Two at once in one thread: one of them waits for nobody, and is refused.
    let (one, two) = tokio::join!(
        served.with(&acme, Method::POST, "/v1/runs", Some(&said)),
        served.with(&acme, Method::POST, "/v1/runs", Some(&said))
    );
    let mut states = [one.status(), two.status()];
    states.sort();
    assert!(states == [StatusCode::OK, StatusCode::CONFLICT] || states == [StatusCode::OK; 2], "{states:?}");
    let acmes: Vec<_> =
        world.all().into_iter().filter(|told| created(&told.log)["labels"]["tenant"] == "acme").collect();
    let mut links: Vec<_> = acmes.iter().map(|told| created(&told.log)["thread"]["after"].to_string()).collect();
    links.sort();
    links.dedup();
    assert_eq!(links.len(), acmes.len(), "no two go on with the same run");
    served.close().await;
    world.verify();
}

fn tenant(name: &str, scopes: &[&str]) -> Value {
    json!({"name": name, "scopes": scopes, "labels": {"tenant": name}, "by": "ann"})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_tenants_know_nothing_of_each_other() {
    let world = Recipe::agent(AGENT).scenario(SCENARIO).file("plimsoll.toml", BUDGET).start();
    let served = Served::of(&world, IntakeOptions::default()).await;
    let (_, admin) = served.make(None, &json!({"name": "ops", "scopes": ["admin"]})).await;
    let (_, acme) = served.make(Some(&admin), &tenant("acme", &["run", "read", "approve"])).await;
    let (_, other) = served.make(Some(&admin), &tenant("other", &["run", "read", "approve"])).await;
    assert_eq!(served.get("/v1/runs").await.status(), StatusCode::UNAUTHORIZED, "from the first key on");
    let wait = |mut body: Value| {
        body["wait"] = json!("20s");
        body
    };
    // It runs as itself, whether it says so or not, and as nobody else.
    let run = told(served.with(&acme, Method::POST, "/v1/runs", Some(&wait(ask("quick")))).await, StatusCode::OK).await;
    let bare = json!({"agent": "a", "input": "quick", "wait": "20s"});
    told(served.with(&other, Method::POST, "/v1/runs", Some(&bare)).await, StatusCode::OK).await;
    let refused =
        told(served.with(&other, Method::POST, "/v1/runs", Some(&ask("quick"))).await, StatusCode::FORBIDDEN).await;
    assert_eq!(refused["code"], "plimsoll::api::forbidden");
    let tenants: Vec<String> =
        world.all().iter().map(|told| created(&told.log)["labels"]["tenant"].to_string()).collect();
    assert_eq!(tenants, ["\"acme\"", "\"other\""]);
    // It sees its own, by any name.
    let id = run["run"].as_str().expect("an id");
    for path in ["", "/trace", "/log", "/events"] {
        let path = format!("/v1/runs/{id}{path}");
        assert_eq!(served.seen(&acme, &path).await, StatusCode::OK, "{path}");
        assert_eq!(served.seen(&other, &path).await, StatusCode::NOT_FOUND, "{path}");
        assert_eq!(served.seen(&admin, &path).await, StatusCode::OK, "{path}");
    }
    for (path, body) in
        [("cancel", json!({})), ("resume", json!({})), ("approve", json!({})), ("answer", json!({"answer": "x"}))]
    {
        let path = format!("/v1/runs/{id}/{path}");
        let done = served.with(&other, Method::POST, &path, Some(&body)).await;
        assert_eq!(done.status(), StatusCode::NOT_FOUND, "{path}");
    }
    let last = told(served.with(&acme, Method::GET, "/v1/runs/last", None).await, StatusCode::OK).await;
    assert_eq!(last["run"], run["run"], "the newest of its own");
    let both = format!("/v1/runs/{}", &id[..6]);
    assert_eq!(served.seen(&acme, &both).await, StatusCode::OK, "others' runs make no id ambiguous");
    for (key, filter, count) in [(&acme, "", 1), (&acme, "?label=tenant=other", 0), (&admin, "", 2)] {
        let page = told(served.with(key, Method::GET, &format!("/v1/runs{filter}"), None).await, StatusCode::OK).await;
        assert_eq!(page["runs"].as_array().map(Vec::len), Some(count), "{page}");
    }
    // What a run was worth is said by who sees it.
    let path = format!("/v1/runs/{id}/outcome");
    let worth = json!({"units": 1, "quality": 0.93, "revenue_usd": "12.50"});
    let done = served.with(&other, Method::POST, &path, Some(&worth)).await;
    assert_eq!(done.status(), StatusCode::NOT_FOUND);
    let done = told(served.with(&acme, Method::POST, &path, Some(&worth)).await, StatusCode::OK).await;
    let expected = json!({"units": 1, "quality": {"score": "0.93", "source": "human"}, "revenue_usd": "12.5"});
    assert_eq!(done["outcome"], expected, "{done}");
    for bad in [json!({}), json!({"quality": 2}), json!({"quality": true}), json!({"revenue_usd": -1})] {
        let done = served.with(&acme, Method::POST, &path, Some(&bad)).await;
        assert_eq!(done.status(), StatusCode::BAD_REQUEST, "{bad}");
    }
    let costs = "/v1/costs?by=tenant&against=previous&only=tenant=acme";
    let costs = told(served.with(&acme, Method::GET, costs, None).await, StatusCode::OK).await;
    assert_eq!(costs["total"]["worth"]["revenue_usd"], "12.5", "{costs}");
    assert_eq!(costs["movers"][0]["tenant"], "acme", "{costs}");
    // It sees what it costs, and no more.
    let costs = |page: Value| page["total"]["settled_usd"].as_str().expect("an amount").to_owned();
    let own = costs(told(served.with(&acme, Method::GET, "/v1/costs", None).await, StatusCode::OK).await);
    let all = costs(told(served.with(&admin, Method::GET, "/v1/costs", None).await, StatusCode::OK).await);
    assert_eq!(own, run["cost"]["settled_usd"], "its one run");
    assert_ne!(own, all);
    assert_eq!(served.seen(&acme, "/v1/budgets").await, StatusCode::FORBIDDEN);
    served.close().await;
    world.verify();
}

fn created(log: &[plimsoll::domain::event::Recorded]) -> Value {
    serde_json::to_value(&log[0].event).expect("JSON")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_keys_of_requests_are_each_tenants_own() {
    let world = Recipe::agent(AGENT).scenario(SCENARIO).file("plimsoll.toml", BUDGET).start();
    let served = Served::of(&world, IntakeOptions::default()).await;
    let (_, admin) = served.make(None, &json!({"name": "ops", "scopes": ["admin"]})).await;
    let mut made = Vec::new();
    for name in ["acme", "other"] {
        let (_, key) = served.make(Some(&admin), &tenant(name, &["run"])).await;
        let request = served.http.post(served.url("/v1/runs")).bearer_auth(key).header("Idempotency-Key", "1");
        let response = request.json(&json!({"agent": "a", "input": name})).send().await.expect("an answer");
        made.push(told(response, StatusCode::ACCEPTED).await["run"].clone());
    }
    assert_ne!(made[0], made[1]);
    served.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_lets_do_what_its_scopes_say_until_it_is_revoked() {
    let world = Recipe::agent(AGENT).scenario(SCENARIO).file("plimsoll.toml", BUDGET).start();
    let served = Served::of(&world, IntakeOptions::default()).await;
    let (_, admin) = served.make(None, &json!({"name": "ops", "scopes": ["admin"]})).await;
    let (id, reader) = served.make(Some(&admin), &json!({"name": "dashboard", "scopes": ["read"]})).await;
    assert_eq!(served.seen(&reader, "/v1/runs").await, StatusCode::OK);
    for path in ["/v1/runs", "/v1/keys", "/v1/runs/last/approve"] {
        let done = served.with(&reader, Method::POST, path, Some(&ask("quick"))).await;
        assert_eq!(done.status(), StatusCode::FORBIDDEN, "{path}");
    }
    assert_eq!(served.seen(&reader, "/v1/keys").await, StatusCode::FORBIDDEN);
    assert!(world.all().is_empty());
    let path = format!("/v1/keys/{id}/rotate");
    for body in [None, Some(&json!({})), Some(&json!({"reason": " "}))] {
        assert_eq!(served.with(&admin, Method::POST, &path, body).await.status(), StatusCode::BAD_REQUEST, "{body:?}");
    }
    let why = json!({"reason": "each quarter"});
    let rotated = told(served.with(&admin, Method::POST, &path, Some(&why)).await, StatusCode::OK).await;
    let renewed = rotated["secret"].as_str().expect("a key").to_owned();
    assert_eq!(served.seen(&reader, "/v1/runs").await, StatusCode::UNAUTHORIZED, "the old text");
    assert_eq!(served.seen(&renewed, "/v1/runs").await, StatusCode::OK);
    let path = format!("/v1/keys/{id}/revoke");
    let why = json!({"by": "ann", "reason": "lost"});
    told(served.with(&admin, Method::POST, &path, Some(&why)).await, StatusCode::OK).await;
    assert_eq!(served.seen(&renewed, "/v1/runs").await, StatusCode::UNAUTHORIZED);
    assert_eq!(served.with(&admin, Method::POST, &path, Some(&why)).await.status(), StatusCode::NOT_FOUND, "once");
    assert_eq!(served.get("/healthz").await.status(), StatusCode::OK, "whether it lives is nobody's secret");
    let listed = told(served.with(&admin, Method::GET, "/v1/keys", None).await, StatusCode::OK).await;
    assert!(
        !listed.to_string().contains(&renewed[20..]) && listed["keys"].as_array().map(Vec::len) == Some(2),
        "{listed}"
    );
    // Who changed what is a list, for those who may see everything.
    let audit = async |filter: &str| {
        let path = format!("/v1/audit?{filter}");
        told(served.with(&admin, Method::GET, &path, None).await, StatusCode::OK).await
    };
    let page = audit("limit=2").await;
    let kinds: Vec<_> = page["entries"].as_array().expect("a list").iter().map(|entry| &entry["kind"]).collect();
    assert_eq!(kinds, ["key_revoked", "key_rotated"], "newest first");
    assert_eq!((&page["entries"][0]["by"], &page["entries"][0]["reason"]), (&json!("ops"), &json!("lost")));
    let rest = audit(&format!("before={}", page["next"])).await;
    assert_eq!(rest["entries"].as_array().map(Vec::len), Some(2), "{rest}");
    assert_eq!(audit("kind=key_made&who=ann").await["entries"], json!([]), "a key's own name counts");
    let zoe = audit("kind=key_made&who=zoe").await["entries"].clone();
    assert_eq!((&zoe[0]["by"], &zoe[0]["reason"]), (&json!("zoe"), &json!("they need it")), "{zoe}");
    let (_, bound) = served.make(Some(&admin), &tenant("acme", &["read"])).await;
    assert_eq!(served.seen(&bound, "/v1/audit").await, StatusCode::FORBIDDEN);
    served.close().await;
    // What the log keeps is not enough to ask with.
    let mut log = String::new();
    world
        .runtime
        .store()
        .audit(&mut |entry| log.push_str(&serde_json::to_string(&entry).expect("JSON")))
        .expect("it reads");
    assert!(log.contains("key_revoked") && !log.contains(&renewed[20..]) && !log.contains(&reader[20..]));
    world.verify();
}
