//! Pages in a headless Chromium, at the widths of a desk and of a phone, light and dark: nothing is loaded from elsewhere,
//! the console stays empty, a scan of the document finds nothing that shuts somebody out, and what people do there works.
//!
//! Where there is no Chromium this is left out, and says so; `PLIMSOLL_BROWSER=1` makes that a failure.

mod driver;

use plimsoll::api::IntakeOptions;
use reqwest::StatusCode;
use serde_json::{Value, json};
use thirtyfour::prelude::*;

use super::{AGENT, BUDGET, Served, ask, told, waiting};
use crate::world::{Recipe, World};
use driver::{Browser, Look};

/// Answers at once, or late where it is asked to take its time; asks for a refund where it is asked to pay.
const SCENARIO: &str = "\
[[rule]]
when = { contains = \"slowly\" }
latency = \"1s\"
text = \"late\"

[[rule]]
when = { contains = \"pay back\", turn = 1 }
tool_calls = [{ name = \"refund\", arguments = { cents = 500 } }]

[[reply]]
repeat = \"forever\"
text = \"It was shipped.\"
";
const REFUND: &str =
    "tools = [\"refund\"]\n[model]\nmodels = [\"openai/gpt-5-mini\"]\n[prompt]\nuser = \"{{ input }}\"\n";
const REFUND_TOOL: &str = "description = \"Pays back\"\nkind = \"command\"\ncommand = [\"/bin/echo\", \"paid {{ args.cents }}\"]\n\
approval = \"always\"\n[input]\ntype = \"object\"\nrequired = [\"cents\"]\nproperties.cents = { type = \"integer\" }\n";

/// What a scan must find.
const BROKEN: &str = "document.querySelector('main').innerHTML += '<p id=p>pale</p><input><button></button><img>';\
document.getElementById('p').style.color = '#999'; document.querySelector('main > button').style.outline = 'none'";

fn world() -> World {
    let recipe = Recipe::agent(AGENT).scenario(SCENARIO).file("plimsoll.toml", BUDGET);
    recipe.file("agents/refund.toml", REFUND).file("tools/refund.toml", REFUND_TOOL).start()
}

fn id(document: &Value) -> String {
    document["run"].as_str().expect("an id").to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn people_see_and_do_what_they_need_in_a_browser() {
    let Some(browser) = Browser::start().await else { return };
    let world = world();
    let served = Served::of(&world, IntakeOptions::default()).await;
    let base = format!("http://{}", served.address);
    browser
        .finish(async |browser| {
            every_page_is_sound(browser, &served, &base).await?;
            a_run_is_watched(browser, &served, &base).await?;
            a_question_is_answered(browser, &served, &base).await?;
            a_key_opens_the_pages(browser, &served, &base).await
        })
        .await;
    served.close().await;
    world.verify();
}

async fn every_page_is_sound(browser: &Browser, served: &Served, base: &str) -> WebDriverResult<()> {
    browser.goto(base, "/runs").await?;
    browser.execute(BROKEN).await?;
    let found = browser.scan().await?.to_string();
    let expected = [
        "a contrast of",
        "a field without a label",
        "a control without a name",
        "an image without a text",
        "its focus isn't seen",
    ];
    expected.iter().for_each(|rule| assert!(found.contains(rule), "{rule} isn't found: {found}"));
    let empty = ["/", "/runs", "/agents", "/models", "/budgets", "/audit"];
    browser.visit(base, &empty, &[Look::DESK, Look::PHONE]).await?;
    let run = id(&told(served.post("/v1/runs", &waiting("quick")).await, StatusCode::OK).await);
    let paying = json!({"agent": "refund", "input": "pay back", "wait": "20s"});
    let asks = id(&told(served.post("/v1/runs", &paying).await, StatusCode::OK).await);
    let run = format!("/runs/{run}?messages=all");
    let asks = format!("/runs/{asks}");
    let full = ["/", "/runs?state=finished", &run, &asks, "/runs/nothing", "/agents", "/models", "/budgets"];
    browser.visit(base, &full, &[Look::DESK, Look::DARK, Look::PHONE, Look::DARK_PHONE]).await
}

/// What happens is seen on a page that nobody loads again.
async fn a_run_is_watched(browser: &Browser, served: &Served, base: &str) -> WebDriverResult<()> {
    let run = id(&told(served.post("/v1/runs", &ask("slowly")).await, StatusCode::ACCEPTED).await);
    browser.goto(base, &format!("/runs/{run}")).await?;
    browser.execute("window.same = true").await?;
    browser.shows("h1 .state.running").await?;
    browser.shows("h1 .state.finished").await?;
    assert_eq!(browser.execute("return window.same").await?, json!(true), "the same page");
    let document = told(served.get(&format!("/v1/runs/{run}")).await, StatusCode::OK).await;
    let cost = format!("${}", document["cost"]["settled_usd"].as_str().expect("an amount"));
    assert_eq!(browser.shows(".figure strong").await?.text().await?, cost);
    browser.is_quiet(base).await
}

/// By keyboard alone, from the page's beginning.
async fn a_question_is_answered(browser: &Browser, served: &Served, base: &str) -> WebDriverResult<()> {
    let paying = json!({"agent": "refund", "input": "pay back", "wait": "20s"});
    let run = id(&told(served.post("/v1/runs", &paying).await, StatusCode::OK).await);
    browser.goto(base, &format!("/runs/{run}")).await?;
    browser.press(&Key::Tab).await?;
    assert_eq!(browser.execute("return document.activeElement.className").await?, json!("skip"));
    browser.press(&Key::Enter).await?;
    let reason = browser.shows(".ask input[name=reason]").await?;
    reason.send_keys("looked at it").await?;
    browser.shows(".ask input[name=by]").await?.send_keys("ann").await?;
    browser.shows(".ask button[value=approve]").await?.send_keys(Key::Enter).await?;
    browser.shows("h1 .state.finished").await?;
    let trace = browser.shows(".trace").await?.text().await?;
    assert!(trace.contains("ann answered question 0: yes (looked at it)"), "{trace}");
    browser.is_quiet(base).await
}

async fn a_key_opens_the_pages(browser: &Browser, served: &Served, base: &str) -> WebDriverResult<()> {
    let (_, key) = served.make(None, &json!({"name": "ops", "scopes": ["read"]})).await;
    browser.visit(base, &["/login"], &[Look::DESK, Look::DARK_PHONE]).await?;
    browser.goto(base, "/audit").await?;
    browser.shows("#key").await?.send_keys(key.as_str() + Key::Enter).await?;
    let audit = browser.shows("main table").await?.text().await?;
    assert!(audit.contains("made a key for ops"), "{audit}");
    browser.visit(base, &["/audit"], &[Look::DESK, Look::DARK_PHONE]).await?;
    browser.shows(".who button").await?.click().await?;
    browser.shows("#key").await?;
    browser.is_quiet(base).await
}
