//! The real binary: exit code, standard output and standard error of each command's good and bad use.

mod cassette;
pub(crate) mod desk;
mod prices;
mod signals;

use desk::Desk;

#[test]
fn help_and_what_is_no_command() {
    let desk = Desk::empty();
    desk.snapshot("help", &["--help"]);
    desk.snapshot("help_run", &["run", "--help"]);
    desk.snapshot("no_arguments", &[]);
    desk.snapshot("unknown_command", &["fly"]);
    desk.snapshot("unknown_option", &["runs", "--colour"]);
}

#[test]
fn init_makes_a_project_once() {
    let desk = Desk::empty();
    desk.snapshot("init", &["init"]);
    desk.snapshot("init_again", &["init"]);
    desk.snapshot("init_check", &["check", "hello"]);
}

/// One stage of each kind, and an agent below an agent.
const WORKFLOW: [(&str, &str); 5] = [
    (
        "agents/broken.toml",
        r#"
description = "Answers with care"
[model]
models = ["openai/gpt-5-nano"]
[input]
type = "object"
required = ["ticket"]
properties = { ticket = { type = "string" }, parts = { type = "array" } }
[limits]
cost = "$0.50"
[[stage]]
id = "read"
kind = "map"
over = "input.parts"
limits = { items = 40, parallel = 3 }
[stage.each]
kind = "model"
prompt = { user = "Read {{ item }}" }
[[stage]]
id = "order"
kind = "tool"
tool = "sleep"
on_error = "continue"
[[stage]]
id = "resolve"
kind = "loop"
needs = ["read", "order"]
when = "stages.order.state == 'finished'"
tools = ["question"]
agents = ["clerk"]
models = ["openai/gpt-5-mini", "openai/gpt-5-nano"]
limits = { steps = 6, cost = "$0.03" }
[[stage]]
id = "notes"
kind = "agent"
agent = "clerk"
input = "{{ input.ticket }}"
[[stage]]
id = "release"
kind = "approval"
needs = ["resolve", "notes"]
ask = "Send it?"
limits = { expires = "2d" }
"#,
    ),
    ("agents/clerk.toml", "agents = [\"scribe\"]\n[model]\nmodels = [\"openai/gpt-5-nano\"]\n"),
    (
        "agents/scribe.toml",
        "description = \"Writes\"\n[model]\nmodels = [\"openai/gpt-5\"]\n[limits]\ncost = \"$0.10\"\n",
    ),
    ("tools/question.toml", "kind = \"builtin\"\nbuiltin = \"ask_user\"\n"),
    ("tools/sleep.toml", "kind = \"builtin\"\nbuiltin = \"now\"\n"),
];

#[test]
fn check_shows_limits_and_every_fault() {
    let desk = Desk::new();
    desk.snapshot("check", &["check"]);
    desk.snapshot("check_json", &["check", "hello", "--json"]);
    desk.snapshot("check_unknown_agent", &["check", "helo"]);
    desk.write(
        "agents/broken.toml",
        "tools = [\"lookup_ordr\"]\n[model]\nmodels = [\"local/none\"]\n[limits]\nstpes = 3\ncost = 5\n",
    );
    desk.snapshot("check_faults", &["check"]);
    desk.write("agents/broken.toml", "[model]\nmodels = [\"local/none\"]\n[limits]\ncost = \"$0.000001\"\n");
    desk.snapshot("check_warnings", &["check", "broken"]);
    for (name, text) in WORKFLOW {
        desk.write(name, text);
    }
    desk.snapshot("check_workflow", &["check", "broken"]);
    desk.snapshot("check_workflow_json", &["check", "broken", "--json"]);
    let empty = Desk::empty();
    empty.snapshot("check_without_a_project", &["check"]);
    empty.write("plimsoll.toml", "");
    empty.snapshot("check_without_agents", &["check"]);
}

#[test]
fn run_answers_on_stdout_and_explains_on_stderr() {
    let desk = Desk::new();
    desk.snapshot("run", &["run", "hello", "--input", "Where is order 4711?"]);
    desk.snapshot("run_json", &["run", "hello", "--input", "Where is order 4711?", "--json", "--label", "tenant=acme"]);
    desk.write("ticket.json", "{\"question\": \"Where is order 4711?\"}");
    desk.snapshot("run_file_quiet", &["run", "hello", "--input", "@ticket.json", "--quiet"]);
    let told = desk.run_with_input(&["run", "hello", "--input", "-", "--quiet"], "Where is order 4711?");
    assert_eq!(told.code, 0, "{told}");
    desk.snapshot("run_dry", &["run", "hello", "--input", "Where is order 4711?", "--dry-run"]);
    assert_eq!(desk.run(&["runs", "--json"]).json()["runs"].as_array().map(Vec::len), Some(4), "a dry run is no run");
}

#[test]
fn run_refuses_what_it_cannot_use() {
    let desk = Desk::new();
    desk.snapshot("run_no_input", &["run", "hello"]);
    desk.snapshot("run_no_such_agent", &["run", "helo", "--input", "x"]);
    desk.snapshot("run_no_such_file", &["run", "hello", "--input", "@nowhere.txt"]);
    desk.snapshot("run_bad_label", &["run", "hello", "--input", "x", "--label", "tenant"]);
    desk.snapshot("run_derived_label", &["run", "hello", "--input", "x", "--label", "agent=y"]);
    desk.snapshot("run_bad_scenario", &["run", "hello", "--input", "x", "--scenario", "nowhere.toml"]);
    desk.snapshot("run_conflict", &["run", "hello", "--input", "x", "--json", "--events"]);
    desk.append("plimsoll.toml", "[[budgets]]\nname = \"each\"\neach = [\"tenant\"]\ncap = \"$1\"\nper = \"day\"\n");
    desk.snapshot("run_missing_label", &["run", "hello", "--input", "x"]);
    assert_eq!(desk.run(&["runs", "--json"]).json()["runs"], serde_json::json!([]), "none of them is a run");
}

#[test]
fn a_configured_provider_is_asked_unless_sim_says_otherwise() {
    let desk = Desk::new();
    desk.append(
        "plimsoll.toml",
        "[providers.openai]\nwire = \"openai-chat\"\nbase_url = \"http://127.0.0.1:9/v1\"\nkey_env = \"PLIMSOLL_TEST_NO_KEY\"\n",
    );
    desk.snapshot("run_without_key", &["run", "hello", "--input", "Where is order 4711?"]);
    desk.snapshot("run_sim", &["run", "hello", "--input", "Where is order 4711?", "--sim"]);
    desk.snapshot("run_scenario_without_sim", &["run", "hello", "--input", "x", "--scenario", "s.toml"]);
    // The simulated run is in a store of its own, and the refused one in none.
    desk.snapshot("trace_in_the_other_store", &["trace", "last"]);
    desk.run(&["trace", "last", "--sim"]).expect_code(0);
    assert!(!desk.path(".plimsoll").exists(), "the real books are untouched");
}

#[test]
fn the_exit_code_says_how_a_run_ended() {
    let desk = Desk::new();
    desk.write("agents/short.toml", &desk.read("agents/hello.toml").replace("steps = 8", "steps = 2"));
    desk.snapshot("run_stopped", &["run", "short", "--input", "Where is order 4711?"]);
    desk.write("denied.toml", "[[reply]]\nrepeat = \"forever\"\nfault = \"unauthorized\"\n");
    desk.snapshot("run_failed", &["run", "hello", "--input", "Where is order 4711?", "--scenario", "denied.toml"]);
    desk.snapshot(
        "run_failed_json",
        &["run", "hello", "--input", "x", "--scenario", "denied.toml", "--json", "--quiet"],
    );
}

#[test]
fn events_are_printed_one_a_line() {
    let desk = Desk::new();
    let told = desk.run(&["run", "hello", "--input", "Where is order 4711?", "--events"]);
    let kinds: Vec<String> = told
        .stdout
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("a JSON line"))
        .map(|event| event["event"]["kind"].as_str().expect("a kind").to_owned())
        .collect();
    assert_eq!(kinds.first().map(String::as_str), Some("created"), "{told}");
    assert_eq!(kinds.last().map(String::as_str), Some("ended"), "{told}");
    // The same lines as the export's.
    assert_eq!(desk.run(&["export", "events"]).stdout, told.stdout);
}

#[test]
fn each_runs_every_line_once() {
    let desk = Desk::new();
    desk.write("lines.jsonl", "\"Where is order 4711?\"\n\n{\"question\": \"And order 48213?\"}\n{\"q\": 1}\nnope\n");
    let each = ["run", "hello", "--each", "lines.jsonl", "--parallel", "1"];
    desk.snapshot("each", &each);
    desk.snapshot("each_again", &each);
    desk.write("more.jsonl", "\"Where is order 4711?\"\n");
    desk.snapshot("each_json", &["run", "hello", "--each", "more.jsonl", "--json", "--label", "tenant=acme"]);
    desk.snapshot("each_no_file", &["run", "hello", "--each", "nowhere.jsonl"]);
    desk.snapshot("each_bad_parallel", &["run", "hello", "--each", "lines.jsonl", "--parallel", "0"]);
    assert_eq!(desk.run(&["runs", "--json"]).json()["runs"].as_array().map(Vec::len), Some(3));
}

#[test]
fn each_is_another_job_for_another_file_or_label() {
    let desk = Desk::new();
    let each = |more: &[&str]| desk.run(&[&["run", "hello", "--each", "lines.jsonl", "--json"][..], more].concat());
    let finished = |told: &desk::Told, count: usize| {
        told.expect_code(0);
        assert_eq!(told.stdout.lines().count(), count, "{told}");
    };
    // As some editors write it: a byte order mark, and no end of the last line.
    desk.write("lines.jsonl", "\u{feff}\"Where is order 4711?\"\r\n\r\n\"And order 48213?\"");
    finished(&each(&[]), 2);
    finished(&each(&[]), 0);
    finished(&each(&["--with-ended"]), 2);
    finished(&each(&["--label", "tenant=acme"]), 2);
    finished(&each(&["--label", "tenant=globex", "--label", "batch=1"]), 2);
    finished(&each(&["--label", "batch=1", "--label", "tenant=globex"]), 0);
    let told = desk.with("PLIMSOLL_ENVIRONMENT", "staging").run(&["run", "hello", "--each", "lines.jsonl", "--json"]);
    finished(&told, 2);
    // A mended agent goes on with the same job; a changed file is another, whole.
    desk.write("agents/hello.toml", &desk.read("agents/hello.toml").replace("steps = 8", "steps = 7"));
    finished(&each(&[]), 0);
    desk.append("lines.jsonl", "\"And 4713?\"");
    finished(&each(&[]), 3);
}

#[test]
fn each_tells_again_what_went_wrong_before() {
    let desk = Desk::new();
    desk.write("empty.jsonl", "");
    desk.snapshot("each_empty", &["run", "hello", "--each", "empty.jsonl", "--json"]);
    desk.write("lines.jsonl", "\"Where is order 4711?\"\nWhere is 4712?\n\"Where is order 4713?\"\n");
    let each = ["run", "hello", "--each", "lines.jsonl", "--parallel", "1", "--json"];
    // A bad line in the middle holds nobody up.
    desk.snapshot("each_bad_line", &each);
    desk.write("denied.toml", "[[reply]]\nrepeat = \"forever\"\nfault = \"unauthorized\"\n");
    desk.write("lines.jsonl", "\"Where is order 4711?\"\n");
    desk.run(&[&each[..], &["--scenario", "denied.toml"]].concat()).expect_code(1);
    desk.snapshot("each_failed_before", &each);
    desk.snapshot("each_failed_before_shown", &[&each[..], &["--with-ended"]].concat());
}

#[test]
fn runs_and_traces_are_found() {
    let desk = Desk::new();
    desk.snapshot("runs_empty", &["runs"]);
    desk.snapshot("trace_empty", &["trace", "last"]);
    desk.run(&["run", "hello", "--input", "Where is order 4711?", "--label", "tenant=acme"]).expect_code(0);
    desk.snapshot("runs", &["runs"]);
    desk.snapshot("runs_json", &["runs", "--label", "tenant=acme", "--state", "finished,stopped", "--json"]);
    desk.snapshot("runs_none", &["runs", "--since", "2020-01-01", "--until", "2020-01-02"]);
    desk.snapshot("runs_bad_state", &["runs", "--state", "done"]);
    desk.snapshot("runs_bad_time", &["runs", "--since", "yesterday"]);
    desk.snapshot("trace", &["trace", "last"]);
    let trace = desk.run(&["trace", "last", "--json"]).json();
    let document = desk.run(&["runs", "--json"]).json();
    for key in ["run", "state", "cost", "steps", "tokens"] {
        assert_eq!(trace[key], document["runs"][0][key], "{key}");
    }
    assert_eq!(trace["timeline"].as_array().map(Vec::len), Some(4));
    let id = trace["run"].as_str().expect("an id").to_owned();
    desk.run(&["trace", &id[..20].to_lowercase()]).expect_code(0);
    desk.run(&["run", "hello", "--input", "Where is order 4711?"]).expect_code(0);
    desk.run(&["trace", "0"]).expect_code(2);
    desk.snapshot("trace_none", &["trace", "01ARZ3NDEKTSV4RRFFQ69G5FAV"]);
}

#[test]
fn a_run_is_judged_again_and_another_price_is_told() {
    let desk = Desk::new();
    desk.snapshot("replay_empty", &["replay", "last"]);
    desk.snapshot("replay_nothing", &["replay"]);
    desk.run(&["run", "hello", "--input", "Where is order 4711?"]).expect_code(0);
    desk.snapshot("replay", &["replay", "last"]);
    desk.snapshot("replay_json", &["replay", "last", "--json"]);
    desk.snapshot("replay_none", &["replay", "01ARZ3NDEKTSV4RRFFQ69G5FAV"]);
    // Another price now: the one that was pinned stands, as long as a book has it.
    let price = "[[prices]]\nmodel = \"openai/gpt-5-mini\"\ninput = \"9\"\noutput = \"9\"\nreason = \"a test\"\n";
    desk.append("plimsoll.toml", price);
    desk.run(&["replay", "last"]).expect_code(0);
    desk.run(&["run", "hello", "--input", "Where is order 4711?"]).expect_code(0);
    desk.run(&["replay", "last"]).expect_code(0);
    desk.write("plimsoll.toml", &desk.read("plimsoll.toml").replace("input = \"9\"", "input = \"8\""));
    let told = desk.run(&["replay", "last"]);
    told.expect_code(1);
    assert!(told.stdout.contains("isn't in the price book"), "{told}");
}

#[test]
fn a_run_is_told_again_under_other_limits_at_other_prices_and_with_other_models() {
    let desk = Desk::new();
    desk.run(&["run", "hello", "--input", "Where is order 4711?"]).expect_code(0);
    desk.snapshot("what_if_cost", &["replay", "last", "--limits", "cost=0.0019usd,at_limit=stop"]);
    desk.snapshot("what_if_steps", &["replay", "last", "--limits", "steps=2"]);
    desk.snapshot("what_if_models", &["replay", "last", "--models", "openai/gpt-5-mini=openai/gpt-5-nano"]);
    desk.snapshot("what_if_json", &["replay", "last", "--models", "openai/gpt-5-nano", "--json"]);
    desk.write("tighter.toml", "[limits]\nmodel_calls = 1\nat_limit = \"stop\"\n");
    desk.snapshot("what_if_file", &["replay", "last", "--limits", "tighter.toml"]);
    desk.write("dearer.toml", "[[prices]]\nmodel = \"openai/gpt-5-mini\"\ninput = \"0.5\"\noutput = \"4\"\n");
    desk.snapshot("what_if_prices", &["replay", "last", "--prices", "dearer.toml"]);
    desk.snapshot("what_if_slip", &["replay", "last", "--limits", "cots=0.01usd"]);
    desk.snapshot("what_if_no_price", &["replay", "last", "--models", "openai/gpt-5-nanoo"]);
    desk.snapshot("what_if_not_asked", &["replay", "last", "--models", "openai/gpt-5=openai/gpt-5-nano"]);
    desk.snapshot("what_if_no_model", &["replay", "last", "--models", "nano"]);
    desk.write("empty.toml", "");
    desk.run(&["replay", "last", "--limits", "empty.toml"]).expect_code(2);
    desk.run(&["replay", "last", "--prices", "empty.toml"]).expect_code(2);
    desk.run(&["replay", "last", "--prices", "none.toml"]).expect_code(2);
}

#[test]
fn prices_that_were_imported_and_replaced_still_tell_what_was_pinned() {
    let desk = Desk::new();
    let imported = "source = \"a list\"\nsha256 = \"00\"\nretrieved = \"2026-11-01\"\n[[prices]]\nmodel = \"openai/gpt-5-mini\"\n\
        input = \"0.3\"\noutput = \"3\"\nsource = \"a list\"\nretrieved = \"2026-11-01\"\n";
    desk.write("prices.toml", imported);
    desk.run(&["run", "hello", "--input", "Where is order 4711?"]).expect_code(0);
    // The project's own stands over it from now on.
    desk.append(
        "plimsoll.toml",
        "[[prices]]\nmodel = \"openai/gpt-5-mini\"\ninput = \"9\"\noutput = \"9\"\nreason = \"a test\"\n",
    );
    desk.run(&["replay", "last"]).expect_code(0);
}

#[test]
fn money_is_shown_by_dimension_and_budget() {
    let desk = Desk::new();
    desk.snapshot("cost_empty", &["cost"]);
    desk.run(&["run", "hello", "--input", "Where is order 4711?", "--label", "tenant=acme"]).expect_code(0);
    desk.snapshot("cost", &["cost", "--by", "tenant,model"]);
    let worth = ["outcome", "last", "--units", "1", "--quality", "0.93", "--revenue", "12.50", "--by", "ann"];
    desk.snapshot("outcome", &worth);
    desk.snapshot("outcome_nothing", &["outcome", "last"]);
    desk.snapshot("cost_worth", &["cost", "--by", "tenant", "--against", "previous"]);
    let csv = desk.run(&["cost", "--by", "tenant,feature", "--csv"]).stdout;
    let (head, row) = csv.trim_end().split_once("\r\n").expect("two lines");
    assert_eq!(head.split(',').count(), row.split(',').count(), "{csv}");
    assert!(
        row.contains(",acme,support,0.0001325,0,0,0,3,3,226,") && row.contains(",0.93,1,12.5,12.4998675,"),
        "{csv}"
    );
    desk.snapshot("cost_json", &["cost", "--by", "agent", "--json"]);
    desk.snapshot("cost_bad_dimension", &["cost", "--by", "tennant"]);
    desk.snapshot("budget", &["budget"]);
    desk.snapshot("budget_json", &["budget", "month", "--json"]);
    desk.snapshot("budget_unknown", &["budget", "mont"]);
    desk.snapshot("rates_none", &["rates"]);
    desk.append(
        "plimsoll.toml",
        "[[rates]]\nscope = { provider = \"openai\" }\neach = [\"tenant\"]\ntokens_per_minute = 60_000\nconcurrent = 4\n",
    );
    desk.snapshot("rates", &["rates"]);
    desk.snapshot("rates_json", &["rates", "--json"]);
    let bare = Desk::empty();
    bare.write("plimsoll.toml", "");
    bare.snapshot("budget_none", &["budget"]);
    // Every dollar explained: runs, rollups and accounts agree.
    let settled = |text: &serde_json::Value| text["settled_usd"].as_str().expect("an amount").to_owned();
    let run = settled(&desk.run(&["trace", "last", "--json"]).json()["cost"]);
    assert_eq!(settled(&desk.run(&["cost", "--json"]).json()["total"]), run);
    assert_eq!(settled(&desk.run(&["budget", "--json"]).json()["budgets"][0]), run);
}

#[test]
fn prices_are_listed_shown_and_unfrozen() {
    let desk = Desk::new();
    desk.append(
        "plimsoll.toml",
        "[[prices]]\nmodel = \"local/qwen\"\ninput = \"0\"\noutput = \"0\"\nreason = \"own hardware\"\n",
    );
    desk.snapshot("prices_list", &["prices", "list", "qwen"]);
    desk.snapshot("prices_list_none", &["prices", "list", "no-such-model"]);
    desk.snapshot("prices_show", &["prices", "show", "local/qwen"]);
    desk.snapshot("prices_show_unknown", &["prices", "show", "openai/gpt-5-minni"]);
    desk.snapshot("prices_show_bare", &["prices", "show", "gpt-5-mini"]);
    desk.snapshot("prices_frozen_never", &["prices", "frozen", "--history"]);
    let checked = |row: &'static str| ["prices", "unfreeze", row, "--by", "ann", "--reason", "checked"];
    desk.snapshot("prices_unfreeze_none", &checked("openai/gpt-5-mini"));
    desk.snapshot("prices_unfreeze_unknown", &checked("openai/gpt-5-minni"));
    desk.snapshot("prices_unfreeze_no_reason", &["prices", "unfreeze", "openai/gpt-5-mini"]);
    desk.write("over.toml", "[[reply]]\nrepeat = \"forever\"\nfault = \"overrun\"\n");
    desk.run(&["run", "hello", "--input", "Where is order 4711?", "--scenario", "over.toml"]);
    desk.snapshot("prices_frozen", &["prices", "frozen"]);
    desk.snapshot("prices_list_frozen", &["prices", "list", "gpt-5-mini"]);
    desk.snapshot("prices_show_frozen", &["prices", "show", "openai/gpt-5-mini"]);
    desk.snapshot("check_frozen", &["check", "hello"]);
    let dry = desk.run(&["run", "hello", "--input", "Where is order 4711?", "--dry-run"]);
    assert!(dry.stderr.contains("warning: the price of openai/gpt-5-mini is frozen since"), "{dry}");
    let mend = |text: &'static str| ["prices", "unfreeze", "openai/gpt-5-mini", "--by", "ann", "--reason", text];
    desk.snapshot("prices_unfreeze_nobody", &["prices", "unfreeze", "openai/gpt-5-mini", "--reason", "checked"]);
    desk.snapshot("prices_unfreeze_empty_reason", &mend(" "));
    desk.snapshot("prices_unfreeze", &mend("the provider mended it"));
    desk.snapshot("prices_unfreeze_twice", &mend("the provider mended it"));
    // The fallback's price is frozen too, and named by its id.
    let row =
        desk.run(&["prices", "frozen", "--json"]).json()["frozen"][0]["price"].as_str().expect("an id").to_owned();
    let lifted = desk.run(&["prices", "unfreeze", &row, "--by", "bob", "--reason", "so did they", "--json"]).json();
    assert_eq!(lifted["unfrozen"], serde_json::json!([row]));
    desk.snapshot("prices_frozen_none", &["prices", "frozen"]);
    desk.snapshot("prices_frozen_history", &["prices", "frozen", "--history"]);
    let document = desk.run(&["prices", "frozen", "--history", "--json"]).json();
    assert_eq!(document["frozen"], serde_json::json!([]));
    assert_eq!(document["history"][2]["by"], serde_json::json!({ "person": "ann" }));
    let freeze = &document["history"][2]["change"]["freeze"];
    assert_eq!(freeze["overruns"][0], document["history"][0]["change"]["overrun"]);
    assert_eq!(desk.run(&["prices", "list", "gpt-5-mini", "--json"]).json()["frozen"], serde_json::json!([]));
}

#[test]
fn a_price_of_a_call_is_charged_to_the_last_pico_dollar() {
    let desk = Desk::new();
    desk.append(
        "plimsoll.toml",
        "[[prices]]\nmodel = \"openai/gpt-5-mini\"\ninput = \"0.25\"\noutput = \"2\"\nper_call = \"$0.000000000007\"\n",
    );
    desk.snapshot("prices_show_per_call", &["prices", "show", "openai/gpt-5-mini"]);
    desk.snapshot("prices_list_per_call", &["prices", "list", "gpt-5-mini"]);
    let told = desk.run(&["run", "hello", "--input", "Where is order 4711?", "--json", "--invoice", "invoice.jsonl"]);
    told.expect_code(0);
    let invoice = plimsoll::sim::Invoice::read(&desk.path("invoice.jsonl")).expect("an invoice");
    assert_eq!(told.json()["cost"]["settled_usd"].as_str().expect("an amount"), invoice.total.usd());
    assert_eq!(invoice.total.pico() % 1_000, 7 * u128::from(invoice.billed_count));
}

#[test]
fn resume_and_cancel_say_when_there_is_nothing_to_do() {
    let desk = Desk::new();
    desk.snapshot("resume_all_empty", &["resume", "--all"]);
    desk.snapshot("resume_none", &["resume", "last"]);
    desk.snapshot("cancel_none", &["cancel", "last"]);
    desk.snapshot("resume_what", &["resume"]);
    desk.run(&["run", "hello", "--input", "Where is order 4711?"]).expect_code(0);
    desk.snapshot("resume_ended", &["resume", "last", "--json"]);
    desk.snapshot("resume_all_ended", &["resume", "--all"]);
    desk.snapshot("cancel_ended", &["cancel", "last"]);
}

#[test]
fn schemas_completions_and_exports_are_data() {
    let desk = Desk::new();
    for kind in ["agent", "tool", "project"] {
        let schema = desk.run(&["schema", kind]);
        assert!(schema.stderr.is_empty(), "{schema}");
        assert!(schema.json()["properties"].is_object(), "{schema}");
    }
    desk.snapshot("schema_unknown", &["schema", "run"]);
    for shell in ["bash", "zsh", "fish"] {
        let script = desk.run(&["completions", shell]);
        assert!(script.stdout.contains("unfreeze") && script.stderr.is_empty(), "{script}");
    }
    desk.snapshot("completions_unknown", &["completions", "sh"]);
    desk.snapshot("export_empty", &["export", "events"]);
    desk.run(&["run", "hello", "--input", "Where is order 4711?"]).expect_code(0);
    desk.snapshot("export_file", &["export", "events", "--out", "events.jsonl"]);
    desk.snapshot("export_file_again", &["export", "events", "--out", "events.jsonl"]);
    assert_eq!(desk.read("events.jsonl"), desk.run(&["export", "events", "--run", "last"]).stdout);
}

#[test]
fn a_damaged_or_foreign_store_is_refused() {
    let desk = Desk::new();
    desk.write(".plimsoll-sim/letters.txt", "dear diary");
    desk.snapshot("store_foreign", &["runs"]);
    assert_eq!(desk.read(".plimsoll-sim/letters.txt"), "dear diary");
}

#[test]
fn the_log_is_off_unless_it_is_asked_for() {
    let desk = Desk::new();
    desk.with("PLIMSOLL_LOG", "loud,,=").snapshot("log_bad_filter", &["runs"]);
    let told = desk.with("PLIMSOLL_LOG", "trace").run(&["--log-format", "json", "runs"]);
    told.expect_code(0);
    for line in told.stderr.lines() {
        serde_json::from_str::<serde_json::Value>(line).expect("a JSON line");
    }
}
