//! Pages in a headless Chromium, at the widths of a desk and of a phone, light and dark: nothing is loaded from elsewhere,
//! the console stays empty, a scan of the document finds nothing that shuts somebody out, and what people do there works.
//!
//! Where there is no Chromium this is left out, and says so; `PLIMSOLL_BROWSER=1` makes that a failure.

mod driver;

use plimsoll::api::IntakeOptions;
use plimsoll::domain::event::{Labels, RunState};
use plimsoll::runtime::{NewRun, silent};
use reqwest::StatusCode;
use serde_json::{Value, json};

use super::{AGENT, Served, ask, told, waiting};
use crate::world::{Recipe, World, new_run};
use driver::{Browser, ENTER, Look, TAB};

const BUDGET: &str = "[[budgets]]\nname = \"month\"\ncap = \"$5\"\nper = \"month\"\n";
/// Answers at once, or late where it is asked to take its time; asks for a refund where it is asked to pay.
const SCENARIO: &str = "\
[[rule]]
when = { contains = \"slowly\" }
latency = \"1s\"
text = \"late\"

[[rule]]
when = { contains = \"everything\", turn = 0, attempt = 1 }
fault = \"server_error\"

[[rule]]
when = { contains = \"everything\", turn = 0 }
tool_calls = [{ name = \"broken\", arguments = {} }, { name = \"clerk\", arguments = { topic = \"the colour\" } }]

[[rule]]
when = { contains = \"pay back\", turn = 0 }
tool_calls = [{ name = \"refund\", arguments = { cents = 500 } }]

[[reply]]
repeat = \"forever\"
text = \"It was shipped.\"
";
const REFUND: &str =
    "tools = [\"refund\"]\n[model]\nmodels = [\"openai/gpt-5-mini\"]\n[prompt]\nuser = \"{{ input }}\"\n";
const REFUND_TOOL: &str = "description = \"Pays back\"\nkind = \"command\"\ncommand = [\"/bin/echo\", \"paid {{ args.cents }}\"]\n\
approval = \"always\"\n[input]\ntype = \"object\"\nrequired = [\"cents\"]\nproperties.cents = { type = \"integer\" }\n";

/// Asks twice, calls a tool that fails and an agent below it, and has more documents than room.
const RICH: &str = "tools = ['broken']\nagents = ['clerk']\n[model]\nmodels = ['openai/gpt-5-mini']\n[prompt]\nuser = '{{ input }}'\n\
[retry]\nbackoff = '1ms..2ms'\n[context]\ntokens = 6000\ndocuments = 300\n[documents]\nfrom = ['docs/**/*.md']\n[limits]\ncost = '$0.50'\n";
const BROKEN_TOOL: &str =
    "description = 'Fails'\nkind = 'command'\ncommand = ['false']\nidempotent = true\n[input]\ntype = 'object'\n";
const CLERK: &str = "[model]\nmodels = ['openai/gpt-5-mini']\n[prompt]\nuser = 'Look up {{ input.topic }}'\n[limits]\ncost = '$0.10'\n\
[input]\ntype = 'object'\nrequired = ['topic']\nproperties.topic = { type = 'string' }\n";
/// Asks once for each part.
const MANY: &str = "[model]\nmodels = ['openai/gpt-5-mini']\nmax_output_tokens = 300\n[prompt]\nsystem = 'Help.'\n[limits]\ncost = '$0.50'\n\
[input]\ntype = 'object'\nrequired = ['parts']\nproperties.parts = {}\n\
[[stage]]\nid = 'read'\nkind = 'map'\nover = 'input.parts'\nlimits = { items = 20 }\n[stage.each]\nkind = 'model'\nprompt = { user = 'Check {{ item }}' }\n";

/// What a scan must find.
const BROKEN: &str = r#"
const main = document.querySelector('main');
main.innerHTML += '<p id=p>pale</p><p id=p></p><input><button></button><img><h5>deep</h5><table><tr><td>1</td></tr><tr><th>2</th></tr></table>'
  + '<table><tr><td>3</td></tr></table>';
document.getElementById('p').style.color = '#999';
document.querySelector('main > button').style = 'outline: none; min-height: 0; padding: 0; height: 9px';
document.body.append('outside');
document.documentElement.removeAttribute('lang');
document.title = '';
"#;

fn world() -> World {
    let recipe = Recipe::agent(AGENT).scenario(SCENARIO).file("plimsoll.toml", BUDGET);
    let recipe = recipe.file("agents/help.toml", &format!("feature = \"support\"\n{AGENT}"));
    let recipe = recipe.file("agents/refund.toml", REFUND).file("tools/refund.toml", REFUND_TOOL);
    let recipe = recipe.file("agents/rich.toml", RICH).file("tools/broken.toml", BROKEN_TOOL);
    let recipe = recipe.file("agents/clerk.toml", CLERK).file("agents/many.toml", MANY);
    recipe.file("docs/shipping.md", &"Shipping takes a while and then some more time. ".repeat(60)).start()
}

fn id(document: &Value) -> String {
    document["run"].as_str().expect("an id").to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn people_see_and_do_what_they_need_in_a_browser() {
    let world = world();
    let served = Served::of(&world, IntakeOptions::default()).await;
    if let Some(browser) = Browser::start(format!("http://{}", served.address)) {
        every_page_is_sound(&browser, &served).await;
        a_run_is_watched(&browser, &served).await;
        what_is_typed_stays(&browser, &served).await;
        nobody_is_told_while_nobody_looks(&browser, &served).await;
        a_question_is_answered(&browser, &served).await;
        an_approval_loses_nothing(&browser, &served).await;
        a_run_is_cancelled(&browser, &served).await;
        a_run_goes_on(&browser, &world).await;
        an_exception_is_granted(&browser);
        a_feature_is_paused(&browser, &served).await;
        an_agent_is_killed(&browser, &served).await;
        a_key_opens_the_pages(&browser, &served).await;
    }
    served.close().await;
    world.verify();
}

async fn every_page_is_sound(browser: &Browser, served: &Served) {
    the_scan_finds_faults(browser);
    let empty = ["/", "/runs", "/agents", "/models", "/budgets", "/budgets/month", "/switches", "/audit", "/docs"];
    browser.visit(&empty, &[Look::DESK, Look::DARK_PHONE]);
    let run = id(&told(served.post("/v1/runs", &waiting("quick")).await, StatusCode::OK).await);
    let paying = json!({"agent": "refund", "input": "pay back", "wait": "20s"});
    let asks = id(&told(served.post("/v1/runs", &paying).await, StatusCode::OK).await);
    let run = format!("/runs/{run}?messages=all");
    let asks = format!("/runs/{asks}");
    let full = ["/", "/runs?state=finished", &run, &asks, "/runs/nothing", "/agents", "/models", "/budgets/month"];
    browser.visit(&full, &[Look::DESK, Look::DARK_PHONE]);
    a_rich_run_is_sound(browser, served).await;
}

/// What else can stand on a run's page: tries, failures, agents below, cuts, maps.
async fn a_rich_run_is_sound(browser: &Browser, served: &Served) {
    let rich = json!({"agent": "rich", "input": "everything", "wait": "20s"});
    let rich = id(&told(served.post("/v1/runs", &rich).await, StatusCode::OK).await);
    let many = json!({"agent": "many", "input": {"parts": ["one", "two"]}, "wait": "20s"});
    let many = id(&told(served.post("/v1/runs", &many).await, StatusCode::OK).await);
    let (rich, many) = (format!("/runs/{rich}"), format!("/runs/{many}"));
    browser.visit(&[&rich, &format!("{rich}?messages=all"), &many], &[Look::DESK, Look::DARK_PHONE]);
    browser.goto(&rich);
    let page = browser.shows("main").text();
    for said in [", try 2", "the tool says that it failed", "agent clerk  finished", "cut ", "Show its answer"] {
        assert!(page.replace('\u{a0}', " ").contains(&said.replace("  ", " ")), "{said}: {page}");
    }
    assert!(!page.contains("the colour") && !page.contains("It was shipped."), "what was written is asked for: {page}");
    browser.shows("#answer + p a").click();
    let page = browser.shows("main").text();
    assert!(page.contains("input: {\"topic\":\"the colour\"}") && page.contains("It was shipped."), "{page}");
    assert_eq!(browser.shows(".trace tbody .since").text().get(..1), Some("+"));
}

/// A check that finds nothing proves something only where it finds what is there.
fn the_scan_finds_faults(browser: &Browser) {
    browser.goto("/runs");
    browser.execute(BROKEN);
    let found = browser.scan().to_string();
    let expected = [
        "a contrast of",
        "a field without a label",
        "a control without a name",
        "an image without a text",
        "its focus isn't seen",
        "an id that stands twice",
        "a heading of level 5 below",
        "a head without a scope",
        "a table without heads",
        "a table without a name",
        "a text outside of the page's parts",
        "too small to be hit",
        "no language",
        "no title",
    ];
    expected.iter().for_each(|rule| assert!(found.contains(rule), "{rule} isn't found: {found}"));
}

/// What happens is seen on a page that nobody loads again, and so is what it cost.
async fn a_run_is_watched(browser: &Browser, served: &Served) {
    let run = id(&told(served.post("/v1/runs", &ask("slowly")).await, StatusCode::ACCEPTED).await);
    browser.goto(&format!("/runs/{run}"));
    browser.execute("window.same = true");
    browser.shows("h1 .state.running");
    browser.shows("h1 .state.finished");
    assert_eq!(browser.execute("return window.same"), json!(true), "the same page");
    let document = told(served.get(&format!("/v1/runs/{run}")).await, StatusCode::OK).await;
    let cost = format!("${}", document["cost"]["settled_usd"].as_str().expect("an amount"));
    assert_eq!(browser.shows(".figure strong").text(), cost);
    browser.is_quiet();
}

/// A change on the server takes nothing away from who fills in a form, wherever the focus is; the page follows once they are done.
async fn what_is_typed_stays(browser: &Browser, served: &Served) {
    let run = id(&told(served.post("/v1/runs", &ask("slowly")).await, StatusCode::ACCEPTED).await);
    browser.goto(&format!("/runs/{run}"));
    browser.shows("h1 .state.running");
    browser.shows("#cancel > summary").click();
    browser.shows("#cancel-reason").types(&format!("too dear{TAB}{TAB}"));
    browser.until("document.getElementById('live-state').textContent.startsWith('Something has changed')");
    assert_eq!(
        browser.execute("document.activeElement.blur(); return document.getElementById('cancel-reason').value"),
        json!("too dear")
    );
    browser.shows("h1 .state.running");
    browser.execute("document.querySelector('#cancel form').reset()");
    browser.shows("h1 .state.finished");
    browser.is_quiet();
}

/// A page that nobody sees keeps no stream open, and shows what has changed once somebody looks again: unfolded, scrolled and
/// focused as it was left.
async fn nobody_is_told_while_nobody_looks(browser: &Browser, served: &Served) {
    let look = |hidden: bool| {
        browser.execute(&format!(
            "Object.defineProperty(document, 'hidden', {{ value: {hidden}, configurable: true }});\
             document.dispatchEvent(new Event('visibilitychange'))"
        ));
    };
    let run = id(&told(served.post("/v1/runs", &ask("slowly")).await, StatusCode::ACCEPTED).await);
    browser.goto("/runs");
    browser.shows(".state.running");
    browser.execute("document.getElementById('filter').open = false");
    look(true);
    told(served.get(&format!("/v1/runs/{run}?wait=20s")).await, StatusCode::OK).await;
    browser.shows(".state.running");
    browser.execute(&format!("document.querySelector(\"a[href='/runs/{run}']\").focus()"));
    look(false);
    browser.until("!document.querySelector('.state.running')");
    let kept =
        browser.execute("return [document.activeElement.getAttribute('href'), document.getElementById('filter').open]");
    assert_eq!(kept, json!([format!("/runs/{run}"), false]));
    browser.is_quiet();
}

/// By keyboard alone, from the page's beginning.
async fn a_question_is_answered(browser: &Browser, served: &Served) {
    let paying = json!({"agent": "refund", "input": "pay back", "wait": "20s"});
    let run = id(&told(served.post("/v1/runs", &paying).await, StatusCode::OK).await);
    browser.goto(&format!("/runs/{run}"));
    browser.press(TAB);
    assert_eq!(browser.execute("return document.activeElement.className"), json!("skip"));
    browser.press(ENTER);
    // The Enter key in a field decides nothing, and loses nothing.
    browser.shows(".ask input[name=reason]").types(&format!("looked at it{ENTER}"));
    browser.shows(".ask input[name=by]").types(&format!("ann{ENTER}"));
    assert_eq!(
        browser.execute("return document.querySelector('.ask input[name=reason]').value"),
        json!("looked at it")
    );
    browser.shows(".ask button[value=approve]").types(ENTER);
    browser.shows("h1 .state.finished");
    let trace = browser.shows(".trace").text();
    assert!(trace.contains("ann answered question 0: yes (looked at it)"), "{trace}");
    browser.is_quiet();
}

/// What was meant for another button isn't approved away.
async fn an_approval_loses_nothing(browser: &Browser, served: &Served) {
    let paying = json!({"agent": "refund", "input": "pay back", "wait": "20s"});
    let run = id(&told(served.post("/v1/runs", &paying).await, StatusCode::OK).await);
    for (field, text, expected) in [
        (".ask input[name=answer]", "paid already", "It was: paid already"),
        (".ask textarea[name=args]", " ,", "what is shown was changed"),
    ] {
        browser.goto(&format!("/runs/{run}"));
        browser.shows(field).types(text);
        browser.shows(".ask input[name=by]").types("ann");
        browser.shows(".ask button[value=approve]").click();
        browser.shows("main > .problem");
        let told = browser.shows("main").text();
        assert!(told.contains(expected), "{told}");
        browser.forgets();
    }
    browser.goto(&format!("/runs/{run}"));
    browser.shows(".ask input[name=answer]").types("paid already");
    browser.shows(".ask input[name=by]").types("ann");
    browser.shows(".ask button[value=answer]").click();
    browser.shows("h1 .state.finished");
    let trace = browser.shows(".trace").text();
    assert!(trace.contains("ann answered question 0: in words of their own"), "{trace}");
    browser.is_quiet();
}

async fn a_run_is_cancelled(browser: &Browser, served: &Served) {
    let paying = json!({"agent": "refund", "input": "pay back", "wait": "20s"});
    let run = id(&told(served.post("/v1/runs", &paying).await, StatusCode::OK).await);
    browser.goto(&format!("/runs/{run}"));
    browser.shows("#cancel > summary").click();
    act(browser, "cancel", "too dear", "ann");
    browser.shows("h1 .state.cancelled");
    let trace = browser.shows(".trace").text();
    assert!(trace.contains("cancel asked for: too dear (by ann)"), "{trace}");
    browser.is_quiet();
}

/// One that was interrupted, because whoever drove it went away.
async fn a_run_goes_on(browser: &Browser, world: &World) {
    let runtime = world.runtime.clone();
    let new = NewRun { input: json!("slowly"), ..new_run(Labels::new()) };
    let driven = tokio::spawn(async move { runtime.run(&new, silent()).await });
    while world.all().last().is_none_or(|told| told.run.counters.attempts == 0 || told.state().is_ended()) {
        tokio::task::yield_now().await;
    }
    driven.abort();
    assert!(driven.await.is_err_and(|gone| gone.is_cancelled()), "nobody drives it any more");
    world.runtime.drain().await;
    let last = world.all().pop().expect("a run");
    assert_eq!(last.state(), RunState::Interrupted, "{}", last.show());
    browser.goto(&format!("/runs/{}", last.run.id));
    browser.shows("form[action$='/resume'] button").click();
    browser.shows("h1 .state.finished");
    browser.is_quiet();
}

/// Asked for by one person, approved by another, and taken back; nobody approves their own.
fn an_exception_is_granted(browser: &Browser) {
    browser.goto("/budgets");
    browser.shows("main table th a[href='/budgets/month']").click();
    browser.shows("#ask > summary").click();
    browser.shows("#amount").types("$2.50");
    act(browser, "ask", "a fair on Friday", "ann");
    let asked = browser.shows(".ask h3").text();
    assert_eq!(asked, "$2.50 more for month waits for another person");
    browser.visit(&["/budgets/month"], &[Look::DESK, Look::DARK_PHONE]);
    browser.goto("/budgets/month");
    browser.shows("details[id^=approve] > summary").click();
    act(browser, "approve", "why not", "Ann ");
    assert!(browser.shows(".problem").text().contains("nobody approves their own"));
    // A page that says no says so by its status, which a browser tells on its console.
    browser.forgets();
    browser.goto("/budgets");
    browser.shows("details[id^=approve] > summary").click();
    act(browser, "approve", "the fair pays", "bob");
    assert!(browser.shows(".ask h3").text().ends_with("counts"));
    assert!(browser.shows("main .figure").text().ends_with(" left of $7.50, $2.50 of it by exceptions"));
    browser.visit(&["/budgets", "/budgets/month"], &[Look::DESK, Look::DARK_PHONE]);
    browser.goto("/budgets/month");
    browser.shows("details[id^=end] > summary").click();
    act(browser, "end", "it rains", "bob");
    browser.shows("#over > summary").click();
    assert!(browser.shows("#over tbody").text().contains("It was taken back by bob"));
    browser.visit(&["/budgets/month"], &[Look::DARK_PHONE]);
}

/// A run of the feature waits, every page says so, and it goes on once the switch is lifted.
async fn a_feature_is_paused(browser: &Browser, served: &Served) {
    browser.goto("/switches");
    browser.shows("#scope").types("feature=support");
    browser.shows("#set-by").types("ann");
    browser.shows("#set-reason").types("answers are wrong");
    browser.shows("button[value=pause]").click();
    assert_eq!(browser.shows(".ask h2").text(), "feature=support is paused");
    browser.visit(&["/switches", "/"], &[Look::DESK, Look::DARK_PHONE]);
    assert_eq!(browser.shows(".switched li").text(), "feature=support is paused");
    let support = json!({"agent": "help", "input": "quick"});
    let run = id(&told(served.post("/v1/runs", &support).await, StatusCode::ACCEPTED).await);
    browser.goto(&format!("/runs/{run}"));
    browser.shows("h1 .state.queued");
    browser.shows(".switched a").click();
    browser.shows("#lift-0 > summary").click();
    act(browser, "lift", "mended", "bob");
    assert_eq!(browser.shows("main .empty").text(), "No switch is set.");
    browser.goto(&format!("/runs/{run}"));
    browser.shows("h1 .state.finished");
    browser.goto("/audit");
    let audit = browser.shows("main table").text();
    for said in ["answers are wrong", "mended", "a fair on Friday", "the fair pays", "it rains"] {
        assert!(audit.contains(said), "{audit}");
    }
    browser.is_quiet();
}

/// By a switch of its own: its next run ends before its first call, and says why.
async fn an_agent_is_killed(browser: &Browser, served: &Served) {
    browser.goto("/switches");
    browser.shows("#scope").types("agent=help");
    browser.shows("#set-by").types("ann");
    browser.shows("#set-reason").types("it is odd");
    browser.shows("button[value=kill]").click();
    assert_eq!(browser.shows(".ask h2").text(), "agent=help is killed");
    let killed = json!({"agent": "help", "input": "quick", "wait": "20s"});
    let run = id(&told(served.post("/v1/runs", &killed).await, StatusCode::OK).await);
    browser.goto(&format!("/runs/{run}"));
    browser.shows("h1 .state.stopped");
    assert!(browser.shows("main > .problem").text().contains("it is odd"));
    browser.goto("/switches");
    browser.shows("#lift-0 > summary").click();
    act(browser, "lift", "mended", "bob");
    browser.is_quiet();
}

/// Fills in who and why of a form, and sends it by the last key.
fn act(browser: &Browser, form: &str, why: &str, who: &str) {
    browser.shows(&format!("input[id^={form}][name=reason]")).types(why);
    browser.shows(&format!("input[id^={form}][name=by]")).types(&format!("{who}{ENTER}"));
}

async fn a_key_opens_the_pages(browser: &Browser, served: &Served) {
    let (_, key) = served.make(None, &json!({"name": "ops", "scopes": ["read"]})).await;
    browser.visit(&["/login"], &[Look::DESK, Look::DARK_PHONE]);
    browser.goto("/audit");
    browser.shows("#key").types(&(key.as_str().to_owned() + ENTER));
    let audit = browser.shows("main table").text();
    assert!(audit.contains("made a key for ops"), "{audit}");
    browser.visit(&["/audit"], &[Look::DESK, Look::DARK_PHONE]);
    browser.shows(".who button").click();
    browser.shows("#key");
    browser.is_quiet();
}
