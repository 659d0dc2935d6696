//! Pages, as whoever speaks HTTP sees them: who is let in, what a form needs, and what a page may load.

use std::time::Duration;

use plimsoll::api::IntakeOptions;
use plimsoll::domain::event::RunState;
use reqwest::{Client, Method, Response, StatusCode, redirect};
use serde_json::json;

use super::{AGENT, BUDGET, SCENARIO, Served, ask, told, waiting};
use crate::world::{Recipe, World};

/// Every page that needs nothing of a path.
const PAGES: [&str; 7] = ["/runs", "/agents", "/models", "/budgets", "/switches", "/audit", "/docs"];

/// Forms that change what is allowed, each filled in.
const ORDERS: [(&str, &[(&str, &str)]); 5] = [
    ("/switches", &[("scope", "feature=support"), ("switch", "pause")]),
    ("/switches/lift", &[("scope", "feature=support")]),
    ("/budgets/all-time/ask", &[("amount", "$2"), ("until", "3d")]),
    ("/budgets/exceptions/2/approve", &[]),
    ("/budgets/exceptions/2/end", &[]),
];

/// A browser, as far as HTTP goes: it keeps a cookie, says where a form comes from, and follows nothing by itself.
struct Browser {
    http: Client,
    base: String,
    cookie: String,
}

impl Browser {
    fn of(served: &Served) -> Self {
        let http = Client::builder().no_proxy().redirect(redirect::Policy::none()).build().expect("a client");
        Self { http, base: format!("http://{}", served.address), cookie: String::new() }
    }

    async fn get(&self, path: &str) -> Response {
        let request = self.http.get(format!("{}{path}", self.base)).header("cookie", &self.cookie);
        request.send().await.expect("an answer")
    }

    async fn page(&self, path: &str) -> String {
        let response = self.get(path).await;
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        assert_eq!(response.headers()["content-type"], "text/html; charset=utf-8");
        let policy = response.headers()["content-security-policy"].to_str().expect("a text");
        assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
        assert_eq!(response.headers()["cache-control"], "no-store");
        // Without one a browser's forms say that they come from nowhere.
        assert_eq!(response.headers()["referrer-policy"], "same-origin");
        response.text().await.expect("a body")
    }

    async fn post(&self, path: &str, fields: &[(&str, &str)]) -> Response {
        self.post_from(path, fields, &self.base).await
    }

    async fn post_from(&self, path: &str, fields: &[(&str, &str)], origin: &str) -> Response {
        let mut url = reqwest::Url::parse("http://x/").expect("a URL");
        url.query_pairs_mut().extend_pairs(fields);
        let request = self.http.post(format!("{}{path}", self.base)).header("cookie", &self.cookie);
        let request = request.header("origin", origin).body(url.query().unwrap_or_default().to_owned());
        request.send().await.expect("an answer")
    }

    /// Logs in, and keeps the session's cookie.
    async fn enter(&mut self, key: &str, to: &str) -> Response {
        let login = self.get("/login").await;
        self.keep(&login);
        let token = token(&login.text().await.expect("a page"));
        let entered = self.post("/login", &[("token", &token), ("key", key), ("to", to)]).await;
        self.keep(&entered);
        entered
    }

    fn keep(&mut self, response: &Response) {
        if let Some(set) = response.headers().get("set-cookie") {
            let set = set.to_str().expect("a text");
            assert!(set.contains("HttpOnly") && set.contains("SameSite=Strict"), "{set}");
            set.split(';').next().unwrap_or_default().clone_into(&mut self.cookie);
        }
    }
}

/// The token of the first form of a page.
fn token(page: &str) -> String {
    let (_, rest) = page.split_once("name=\"token\" value=\"").expect("a form");
    rest.split('"').next().expect("a token").to_owned()
}

fn world() -> World {
    Recipe::agent(AGENT).scenario(SCENARIO).file("plimsoll.toml", BUDGET).start()
}

fn place(response: &Response) -> &str {
    response.headers()["location"].to_str().expect("a path")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_keys_this_machine_sees_everything_and_other_sites_do_nothing() {
    let world = world();
    let served = Served::of(&world, IntakeOptions::default()).await;
    let browser = Browser::of(&served);
    assert!(browser.page("/runs").await.contains("plimsoll run AGENT"), "an empty list teaches how to fill it");
    let quick = told(served.post("/v1/runs", &waiting("<b>quick</b>")).await, StatusCode::OK).await;
    let run = quick["run"].as_str().expect("an id");
    let (list, page) = (browser.page("/runs").await, browser.page(&format!("/runs/{run}?messages=all")).await);
    let cost = format!("${}", quick["cost"]["settled_usd"].as_str().expect("an amount"));
    assert!(list.contains(run) && list.contains(&cost), "{list}");
    assert!(page.contains(&cost) && page.contains("It was shipped.") && page.contains("openai/gpt-5-mini"), "{page}");
    assert!(!page.contains("<b>quick") && page.contains("quick"), "what others wrote is text");
    let bare = browser.page(&format!("/runs/{run}")).await;
    assert!(!bare.contains("It was shipped.") && !bare.contains("quick"), "what was written is asked for: {bare}");
    assert!(bare.contains("Show its answer, and all messages"), "{bare}");
    for (query, is_there) in [("cost_min=1", false), ("cost_max=%240.9", true), ("cost_min=0.000001&cost_max=1", true)]
    {
        let listed = browser.page(&format!("/runs?{query}")).await;
        assert_eq!(listed.contains(run), is_there, "{query}: {listed}");
    }
    let slow = told(served.post("/v1/runs", &ask("slowly")).await, StatusCode::ACCEPTED).await;
    let slow = slow["run"].as_str().expect("an id");
    let page = browser.page(&format!("/runs/{slow}")).await;
    let cancel = format!("/runs/{slow}/cancel");
    let token = token(&page);
    let fields = [("token", token.as_str()), ("reason", "no need"), ("by", "ann")];
    for (fields, origin) in [
        (&fields[1..], browser.base.as_str()),
        (&[("token", "guessed"), fields[1], fields[2]][..], &browser.base),
        (&fields[..], "http://evil.example"),
        (&fields[..], "http://localhost:1"),
        (&fields[..], "null"),
    ] {
        let refused = browser.post_from(&cancel, fields, origin).await;
        assert_eq!(refused.status(), StatusCode::FORBIDDEN, "{fields:?} {origin}");
    }
    let done = browser.post(&cancel, &fields).await;
    assert_eq!((done.status(), place(&done)), (StatusCode::SEE_OTHER, format!("/runs/{slow}").as_str()));
    told(served.get(&format!("/v1/runs/{slow}?wait=20s")).await, StatusCode::OK).await;
    assert!(browser.page(&format!("/runs/{slow}")).await.contains("no need (by ann)"));
    assert!(world.all().iter().any(|told| told.state() == RunState::Cancelled));
    for (path, fields) in ORDERS {
        let refused = browser.post(path, &[fields, &[("reason", "x"), ("by", "ann")]].concat()).await;
        assert_eq!(refused.status(), StatusCode::FORBIDDEN, "{path} without the token");
        let unsaid = browser.post(path, &[fields, &[("token", token.as_str()), ("by", "ann")]].concat()).await;
        assert_eq!(unsaid.status(), StatusCode::BAD_REQUEST, "{path} without a reason");
        // Exceptions are approved by another.
        let by = if path.ends_with("approve") { "bob" } else { "ann" };
        let said = [("token", token.as_str()), ("reason", "x"), ("by", by)];
        let done = browser.post(path, &[fields, &said].concat()).await;
        assert_eq!(done.status(), StatusCode::SEE_OTHER, "{path}");
    }
    let (audit, budgets) = (browser.page("/audit").await, browser.page("/budgets").await);
    for kind in ["switch set", "switch lifted", "exception asked", "exception approved", "exception ended"] {
        assert!(audit.contains(kind), "{kind}: {audit}");
    }
    assert!(budgets.contains("was taken back by ann"), "{budgets}");
    let missing = browser.get("/runs/nothing").await;
    assert_eq!(missing.status(), StatusCode::NOT_FOUND);
    assert!(missing.text().await.expect("a page").contains("there is no run `nothing`"));
    let host = served.http.get(served.url("/runs")).header("host", "evil.example").send().await.expect("an answer");
    assert_eq!(host.status(), StatusCode::FORBIDDEN, "another name that leads here");
    served.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_keys_a_session_is_as_its_key_and_ends_with_it() {
    let world = world();
    let served = Served::of(&world, IntakeOptions::default()).await;
    let (_, admin) = served.make(None, &json!({"name": "ops", "scopes": ["admin"]})).await;
    let acme = json!({"name": "acme", "scopes": ["read"], "labels": {"tenant": "acme"}});
    let (id, acme) = served.make(Some(&admin), &acme).await;
    for tenant in ["acme", "other"] {
        let body = json!({"agent": "a", "input": "quick", "labels": {"tenant": tenant}, "wait": "20s"});
        let made = served.http.post(served.url("/v1/runs")).bearer_auth(&admin).json(&body).send().await;
        told(made.expect("an answer"), StatusCode::OK).await;
    }
    let mut browser = Browser::of(&served);
    for path in PAGES {
        let away = browser.get(path).await;
        assert_eq!(
            (away.status(), place(&away)),
            (StatusCode::SEE_OTHER, format!("/login?to=%2F{}", &path[1..]).as_str())
        );
    }
    let again = served.http.get(served.url("/runs")).header("sec-fetch-site", "cross-site").send().await;
    assert!(again.expect("an answer").text().await.expect("a page").contains("refresh"), "a link elsewhere");
    let wrong = browser.enter("plim_x_y", "/audit").await;
    assert_eq!(wrong.status(), StatusCode::UNAUTHORIZED);
    assert!(wrong.text().await.expect("a page").contains("this key doesn&#39;t count"));
    let entered = browser.enter(&acme, "//evil.example").await;
    assert_eq!((entered.status(), place(&entered)), (StatusCode::SEE_OTHER, "/"));
    let list = browser.page("/runs").await;
    assert!(list.contains("tenant=acme") && !list.contains("tenant=other"), "{list}");
    assert_eq!(browser.get("/audit").await.status(), StatusCode::FORBIDDEN, "what is everybody's");
    let other = world.all()[1].run.id;
    assert_eq!(browser.get(&format!("/runs/{other}")).await.status(), StatusCode::NOT_FOUND);
    let own = world.all()[0].run.id;
    let cancel = browser.post(&format!("/runs/{own}/cancel"), &[("token", &token(&list)), ("reason", "x")]).await;
    assert_eq!(cancel.status(), StatusCode::FORBIDDEN, "its scopes");
    for (path, fields) in ORDERS {
        let own = token(&list);
        let refused = browser.post(path, &[fields, &[("token", own.as_str()), ("reason", "x")]].concat()).await;
        assert_eq!(refused.status(), StatusCode::FORBIDDEN, "{path}");
    }
    // Somebody else's form.
    let mut ops = Browser::of(&served);
    ops.enter(&admin, "/audit").await;
    let audit = ops.page("/audit").await;
    assert!(audit.contains("made a key for acme: read; only tenant=acme") && !audit.contains(&acme));
    let stolen = browser.post("/logout", &[("token", &token(&audit))]).await;
    assert_eq!(stolen.status(), StatusCode::FORBIDDEN);
    let left = ops.post("/logout", &[("token", &token(&audit))]).await;
    assert_eq!((left.status(), place(&left)), (StatusCode::SEE_OTHER, "/login"));
    assert_eq!(ops.get("/audit").await.status(), StatusCode::SEE_OTHER, "the session is over");
    // A key that is replaced takes its sessions with it.
    let rotate = format!("/v1/keys/{id}/rotate");
    let rotated = served.with(&admin, Method::POST, &rotate, Some(&json!({"reason": "lost"}))).await;
    told(rotated, StatusCode::OK).await;
    assert_eq!(browser.get("/runs").await.status(), StatusCode::SEE_OTHER);
    served.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_sees_some_labels_is_not_told_what_others_calls_came_to() {
    let words = "[[rule]]\nwhen = { contains = 'too much' }\nfault = 'overrun'\n[[rule]]\nwhen = { contains = 'fail' }\nfault = 'server_error'\n";
    let other = AGENT.replace("gpt-5-mini", "gpt-5-nano") + "[retry]\nattempts = 1\n";
    let recipe = Recipe::agent(AGENT).scenario(words).file("agents/b.toml", &other);
    let world = recipe.file("plimsoll.toml", &format!("{BUDGET}[breaker]\nfailures = 1\nopen = '60s..5m'\n")).start();
    let served = Served::of(&world, IntakeOptions::default()).await;
    for (agent, input) in [("a", "too much"), ("b", "fail")] {
        let body = json!({"agent": agent, "input": input, "labels": {"tenant": "other"}, "wait": "20s"});
        told(served.post("/v1/runs", &body).await, StatusCode::OK).await;
    }
    let (_, admin) = served.make(None, &json!({"name": "ops", "scopes": ["admin"]})).await;
    let tenant = json!({"name": "acme", "scopes": ["read"], "labels": {"tenant": "acme"}});
    let (_, acme) = served.make(Some(&admin), &tenant).await;
    for (key, is_told) in [(&admin, true), (&acme, false)] {
        let mut browser = Browser::of(&served);
        browser.enter(key, "/models").await;
        let models = browser.page("/models").await;
        assert!(models.contains("openai/gpt-5-mini"), "{models}");
        for said in ["price frozen", "breaker open"] {
            assert_eq!(models.contains(said), is_told, "{said}: {models}");
        }
        if is_told {
            let run = browser.page(&format!("/runs/{}", world.all()[0].run.id)).await;
            assert!(run.contains("above the reservation"), "{run}");
        }
    }
    served.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_loads_nothing_but_its_own_style_script_and_icon() {
    let world = world();
    let served = Served::of(&world, IntakeOptions::default()).await;
    told(served.post("/v1/runs", &waiting("quick")).await, StatusCode::OK).await;
    let browser = Browser::of(&served);
    let run = format!("/runs/{}", world.all()[0].run.id);
    for path in PAGES.into_iter().chain([run.as_str()]) {
        let page = browser.page(path).await;
        for inline in [" style=", "<style", "<script>", " onclick=", "javascript:", "http://", "https://"] {
            assert!(!page.contains(inline), "{path}: {inline}");
        }
        let loaded = page.split("\"/assets/").skip(1).filter_map(|rest| rest.split('"').next());
        for name in loaded {
            let asset = browser.get(&format!("/assets/{name}")).await;
            assert_eq!(asset.status(), StatusCode::OK, "{name}");
            assert!(asset.headers()["cache-control"].to_str().is_ok_and(|kept| kept.contains("immutable")));
        }
    }
    assert_eq!(browser.get("/assets/style-000000000000.css").await.status(), StatusCode::NOT_FOUND);
    served.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_billed_beside_the_tokens_is_told_at_its_attempt() {
    let world = crate::searches::recipe("anthropic/claude-haiku-5-5", (1, 2), false).start_wired();
    let run = world.run().await.run.id;
    let served = Served::of(&world, IntakeOptions::default()).await;
    let page = Browser::of(&served).page(&format!("/runs/{run}")).await;
    let told = page.matches("billed beside the tokens").count();
    assert_eq!(told, 2, "{page}");
    served.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_overview_names_the_dearest_features_and_how_to_see_them_all() {
    let mut recipe = Recipe::agent(&format!("feature = 'f0'\n{AGENT}")).scenario(SCENARIO);
    for number in 1..=20 {
        recipe = recipe.file(&format!("agents/b{number}.toml"), &format!("feature = 'f{number}'\n{AGENT}"));
    }
    let world = recipe.file("plimsoll.toml", BUDGET).start();
    let served = Served::of(&world, IntakeOptions::default()).await;
    let all = "The 20 that cost most of 21";
    for number in 0..=20 {
        let agent = if number == 0 { "a".to_owned() } else { format!("b{number}") };
        // The first one says least, and is the one that isn't shown.
        let body = json!({"agent": agent, "input": "many words ".repeat(number), "wait": "20s"});
        told(served.post("/v1/runs", &body).await, StatusCode::OK).await;
        let page = Browser::of(&served).page("/").await;
        assert_eq!(page.contains(all), number == 20, "{page}");
        assert_eq!(page.contains(">f0<"), number < 20, "{page}");
    }
    served.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_is_no_longer_live_once_its_key_is_revoked() {
    let world = world();
    let served = Served::of(&world, IntakeOptions::default()).await;
    let (_, admin) = served.make(None, &json!({"name": "ops", "scopes": ["admin"]})).await;
    let (id, reader) = served.make(Some(&admin), &json!({"name": "dashboard", "scopes": ["read"]})).await;
    let mut browser = Browser::of(&served);
    browser.enter(&reader, "/runs").await;
    let live = browser.get("/runs/live").await;
    assert_eq!(
        (live.status(), &live.headers()["content-type"]),
        (StatusCode::OK, &"text/event-stream".parse().expect("a text"))
    );
    let revoke = format!("/v1/keys/{id}/revoke");
    told(served.with(&admin, Method::POST, &revoke, Some(&json!({"reason": "lost"}))).await, StatusCode::OK).await;
    tokio::time::timeout(Duration::from_secs(20), live.text()).await.expect("it ends").expect("a text");
    served.close().await;
}
