//! Prices that are taken in, that differ, that grow old, and that change while runs remember.

use plimsoll::clock::Clock;
use plimsoll::units::Timestamp;
use serde_json::Value;

use super::desk::Desk;

/// A list in LiteLLM's form.
const LIST: &str = r#"{
    "sample_spec": {"litellm_provider": "one of", "mode": "one of"},
    "gpt-5-mini": {"litellm_provider": "openai", "mode": "chat", "max_input_tokens": 272000, "max_output_tokens": 128000,
        "input_cost_per_token": 3e-07, "output_cost_per_token": 0.000002, "cache_read_input_token_cost": 2.5e-08},
    "gpt-9": {"litellm_provider": "openai", "mode": "chat", "input_cost_per_token": 1e-06, "output_cost_per_token": 5e-06,
        "off_peak_pricing": {"hours_utc": "16:30-00:30", "input_cost_per_token": 5e-07}},
    "gpt-9-dust": {"litellm_provider": "openai", "mode": "chat", "input_cost_per_token": 1.8000000000000002e-07,
        "output_cost_per_token": 5e-06},
    "text-embedding": {"litellm_provider": "openai", "mode": "embedding", "input_cost_per_token": 1e-07},
    "claude-haiku-4-5": {"litellm_provider": "anthropic", "mode": "chat", "input_cost_per_token": 1e-06,
        "output_cost_per_token": 5e-06}
}"#;

fn desk() -> Desk {
    let desk = Desk::new();
    desk.write("list.json", LIST);
    desk
}

const IMPORT: [&str; 7] = ["prices", "import", "list.json", "--provider", "openai", "--retrieved", "2026-11-28"];

fn import(desk: &Desk, more: &[&str]) -> Value {
    desk.run(&[&IMPORT[..], more, &["--json"]].concat()).json()
}

fn price(desk: &Desk, arguments: &[&str]) -> Value {
    desk.run(&[&["prices", "show"], arguments, &["--json"]].concat()).json()["prices"].clone()
}

#[test]
fn a_list_is_shown_before_it_is_written_and_nothing_is_without_a_yes() {
    let desk = desk();
    desk.snapshot("prices_import_nobody", &IMPORT);
    desk.snapshot("prices_import_dry", &[&IMPORT[..], &["--dry-run"]].concat());
    assert!(!desk.path("prices.toml").exists());
    desk.snapshot("prices_import", &[&IMPORT[..], &["--yes"]].concat());
    desk.snapshot("prices_diff", &["prices", "diff"]);
    desk.snapshot("prices_diff_list", &["prices", "diff", "list.json"]);
    desk.snapshot("prices_show_imported", &["prices", "show", "openai/gpt-9"]);
    desk.snapshot("prices_import_again", &[&IMPORT[..], &["--yes"]].concat());
    desk.write("list.json", "[]");
    desk.snapshot("prices_import_no_list", &[&IMPORT[..], &["--yes"]].concat());
    desk.snapshot("prices_import_no_day", &["prices", "import", "list.json", "--retrieved", "soon"]);
}

#[test]
fn a_list_that_changes_ends_versions_and_rewrites_none() {
    let desk = desk();
    assert_eq!(import(&desk, &["--yes"])["written"], true);
    let first = price(&desk, &["openai/gpt-5-mini"])[0]["id"].as_str().expect("an id").to_owned();
    assert!(first.starts_with("openai/gpt-5-mini@2026-11-28#"), "{first}");
    desk.write("list.json", &LIST.replace("3e-07", "3.5e-07"));
    let told = import(&desk, &["--yes"]);
    assert_eq!((told["changes"].as_array().map(Vec::len), &told["same"]), (Some(1), &Value::from(1)), "{told}");
    let versions = price(&desk, &["openai/gpt-5-mini"]);
    assert_eq!(versions.as_array().map(Vec::len), Some(2), "{versions}");
    assert_eq!(
        (&versions[0]["id"], &versions[0]["valid_to"]),
        (&Value::from(first.as_str()), &versions[1]["valid_from"])
    );
    assert_eq!(price(&desk, &[&first])[0]["price"]["rates"]["input"], "0.3");
    assert_eq!(price(&desk, &["openai/gpt-5-mini", "--at", "2026-11-29"])[0]["price"]["rates"]["input"], "0.3");
    assert_eq!(price(&desk, &["openai/gpt-5-mini", "--at", "2100-01-01"])[0]["price"]["rates"]["input"], "0.35");
    let changed = desk.run(&["prices", "diff", "--since", "2026-11-29", "--at", "2100-01-01", "--json"]).json();
    assert_eq!(changed["changes"][0]["terms"][0]["new"], "0.35", "{changed}");
    // The built-in version that both stand over is still found by its name.
    let builtin = desk.run(&["prices", "diff", "--json"]).json();
    assert_eq!(builtin["changes"][0]["model"], "openai/gpt-5-mini", "{builtin}");
}

#[test]
fn a_price_change_never_rewrites_history() {
    let desk = Desk::new();
    let files = desk.read("plimsoll.toml");
    let priced = |input: &str| {
        format!(
            "{files}\n[[prices]]\nmodel = \"openai/gpt-5-mini\"\ninput = \"{input}\"\noutput = \"2\"\nretrieved = \"2026-11-28\"\n"
        )
    };
    let run = || desk.run(&["run", "hello", "--input", "Ann", "--json"]).json();
    let trace = |run: &Value| desk.run(&["trace", run["run"].as_str().expect("an id"), "--json"]).json();
    desk.write("plimsoll.toml", &priced("1"));
    let first = run();
    let (before, costs) = (trace(&first), desk.run(&["cost", "--json"]).json());
    desk.write("plimsoll.toml", &priced("3"));
    assert_eq!((trace(&first), desk.run(&["cost", "--json"]).json()), (before.clone(), costs));
    let second = run();
    assert_ne!(first["cost"]["settled_usd"], second["cost"]["settled_usd"]);
    let pinned = |trace: &Value| {
        let text = trace.to_string();
        let at = text.find("openai/gpt-5-mini@2026-11-28#").expect("the version pinned");
        text[at..].chars().take_while(|c| *c != '"').collect::<String>()
    };
    assert_ne!(pinned(&before), pinned(&trace(&second)));
    assert_eq!(pinned(&trace(&first)), pinned(&before));
}

/// A project whose provider is real, and whose price was read so many days ago.
fn aged(days: u64, pricing: &str) -> Desk {
    let desk = Desk::empty();
    let read = Timestamp(Clock::system().now().0 - days * 86_400_000).to_string();
    desk.write(
        "plimsoll.toml",
        &format!(
            "[providers.local]\nwire = \"openai-chat\"\nbase_url = \"http://127.0.0.1:9/v1\"\n[pricing]\n{pricing}\n\
             [[prices]]\nmodel = \"local/qwen\"\ninput = \"1\"\noutput = \"2\"\nretrieved = \"{}\"\n",
            &read[..10]
        ),
    );
    desk.write(
        "agents/a.toml",
        "description = \"a\"\n[model]\nmodels = [\"local/qwen\"]\n[limits]\nat_limit = \"stop\"\n",
    );
    desk
}

#[test]
fn an_old_price_is_warned_of_and_a_too_old_one_refused_before_any_call() {
    let old = aged(50, "");
    old.snapshot("prices_old_check", &["check", "a"]);
    assert!(old.run(&["prices", "list", "local"]).stderr.contains("read more than 45d ago: the price of `local/qwen`"));
    let too_old = aged(50, "warn_after = \"10d\"\nrefuse_after = \"40d\"");
    let told = too_old.run(&["run", "a", "--input", "Hi", "--json"]);
    told.expect_code(3);
    let document = told.json();
    assert_eq!(
        (&document["limit"], &document["cost"]["settled_usd"]),
        (&"stale_price".into(), &"0".into()),
        "{document}"
    );
    let shown = too_old.run(&["run", "a", "--input", "Hi"]);
    assert!(
        shown.stderr.contains("stale_price") && shown.stderr.contains("plimsoll prices import FILE"),
        "{}",
        shown.stderr
    );
    // Nobody pays the simulated provider.
    too_old.run(&["run", "a", "--input", "Hi", "--sim"]).expect_code(0);
    let young = aged(30, "refuse_after = \"40d\"");
    assert_ne!(young.run(&["run", "a", "--input", "Hi", "--json"]).json()["limit"], "stale_price");
}

#[test]
fn bounds_are_shown_by_model() {
    let desk = Desk::new();
    desk.snapshot("prices_bounds_none", &["prices", "bounds"]);
    desk.run(&["run", "hello", "--input", "Ann"]).expect_code(0);
    let told = desk.run(&["prices", "bounds", "--json"]).json();
    let model = &told["bounds"][0];
    assert_eq!((&model["model"], &model["calls"]), (&"openai/gpt-5-mini".into(), &1.into()), "{told}");
    for part in ["input", "output", "money"] {
        let least = model[part]["least_percent"].as_u64().expect("a ratio");
        assert!(least >= 100, "{told}");
    }
    assert_eq!(desk.run(&["prices", "bounds", "claude", "--json"]).json()["bounds"], serde_json::json!([]));
    assert!(desk.run(&["prices", "bounds"]).stdout.contains("openai/gpt-5-mini"));
}
