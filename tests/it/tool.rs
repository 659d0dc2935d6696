//! Tools from outside, and the files that ship with them: what they name exists, fits and is good to read.
//! Calls need a permit, which only the gate can mint; their tests are beside the tools.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use plimsoll::domain::builtin;
use plimsoll::domain::plan::{Approval, Builtin, ToolKind, ToolPlan};
use plimsoll::domain::template;
use plimsoll::tool::arguments::check_schema;
use plimsoll::tool::check_arguments;
use plimsoll::units::{Millis, Money};
use serde_json::Value;

fn path(of: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(of)
}

fn text(of: &str) -> String {
    fs::read_to_string(path(of)).expect(of)
}

fn toml(of: &str) -> Value {
    toml::from_str(&text(of)).expect(of)
}

fn names(folder: &str, ending: &str) -> Vec<String> {
    let entries = fs::read_dir(path(folder)).expect("the folder");
    let names = entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("a name"));
    names.filter_map(|name| name.strip_suffix(ending).map(str::to_owned)).collect()
}

/// A shipped tool, with the builtin's own schema where its file has none.
fn tool(name: &str) -> ToolPlan {
    let file = toml(&format!("tools/{name}.toml"));
    let builtin = match file["builtin"].as_str() {
        Some("search_files") => Builtin::SearchFiles { folders: Vec::new() },
        Some("read_file") => Builtin::ReadFile { folders: Vec::new() },
        _ => Builtin::Now,
    };
    let input = file.get("input").cloned().unwrap_or_else(|| builtin::default_input(&builtin));
    ToolPlan {
        name: name.into(),
        description: file["description"].as_str().expect("a description").to_owned(),
        input,
        timeout: Millis::from_secs(5),
        output_bytes: 1_000,
        idempotent: true,
        price: Money::ZERO,
        kind: ToolKind::Builtin(builtin),
        approval: Approval::Never,
    }
}

#[test]
fn the_agent_names_tools_and_a_prompt_that_exist() {
    let agent = toml("agents/support-triage.toml");
    for name in agent["tools"].as_array().expect("tools") {
        assert!(check_schema(&tool(name.as_str().expect("a name")).input).is_ok(), "{name}");
    }
    assert!(text(agent["prompt"]["system_file"].as_str().expect("a file")).contains("Harbour & Pine"));
    let user = agent["prompt"]["user"].as_str().expect("a template");
    assert_eq!(template::uses(user), Ok(BTreeSet::from(["input.ticket".to_owned()])));
    assert!(check_schema(&agent["input"]).is_ok() && check_schema(&agent["output"]).is_ok());
    let policy = agent["model"]["policy"].as_str().expect("a policy");
    assert!(toml("plimsoll.toml")["policies"][policy]["models"].is_array());
}

#[test]
fn a_wrong_order_number_goes_back_with_what_was_expected() {
    let tool = tool("lookup_order");
    assert!(check_arguments(&tool, r#"{"order": "10482"}"#).is_ok());
    for raw in [r#"{"order": "12"}"#, r#"{"order": "../x"}"#, r#"{"order": 10482}"#, "{}", "10482"] {
        let message = check_arguments(&tool, raw).expect_err(raw);
        assert!(message.contains("lookup_order"), "{message}");
    }
}

#[test]
fn orders_are_well_formed_and_tickets_find_theirs() {
    let orders = names("examples/orders", ".json");
    assert!(orders.len() >= 12);
    for number in &orders {
        let order: Value = serde_json::from_str(&text(&format!("examples/orders/{number}.json"))).expect("JSON");
        assert_eq!(order["order"].as_str(), Some(number.as_str()));
        assert!(check_arguments(&tool("lookup_order"), &format!(r#"{{"order": "{number}"}}"#)).is_ok());
        for key in ["status", "placed", "customer", "items", "total_eur", "payment", "shipping", "history"] {
            assert!(!order[key].is_null(), "{number} has no {key}");
        }
    }
    for ticket in names("examples/tickets", ".txt") {
        let ticket = text(&format!("examples/tickets/{ticket}.txt"));
        assert!(orders.iter().any(|number| ticket.contains(number.as_str())), "{ticket}");
        assert!(ticket.contains("Sent: 2026-"), "{ticket}");
    }
}

#[test]
fn help_articles_have_a_title_and_something_to_say() {
    let articles = names("examples/help", ".md");
    assert!((8..=12).contains(&articles.len()));
    for article in articles {
        let article = text(&format!("examples/help/{article}.md"));
        assert!(article.starts_with("# ") && article.lines().count() >= 4, "{article}");
        assert!(article.lines().all(|line| line.len() <= 300), "a search shows whole lines: {article}");
    }
}

#[test]
fn the_scenario_calls_real_tools_and_answers_in_the_schema() {
    let scenario = toml("examples/scenarios/support-triage.toml");
    let replies = scenario["reply"].as_array().expect("replies");
    let calls = replies.iter().filter_map(|reply| reply["tool_calls"].as_array()).flatten();
    let mut called = BTreeSet::new();
    for call in calls {
        let name = call["name"].as_str().expect("a name");
        assert!(check_arguments(&tool(name), &call["arguments"].to_string()).is_ok(), "{call}");
        called.insert(name.to_owned());
    }
    assert_eq!(called.into_iter().collect::<Vec<_>>(), ["lookup_order", "read_help", "search_help"]);
    let last = replies.last().expect("a reply");
    let output = ToolPlan { input: toml("agents/support-triage.toml")["output"].clone(), ..tool("lookup_order") };
    assert_eq!(check_arguments(&output, &last["json"].to_string()), Ok(last["json"].clone()));
    let order = text("examples/orders/10482.json");
    assert!(order.contains("JJD000390012734891") && last["json"].to_string().contains("JJD000390012734891"));
}

#[test]
fn prompts_render_strictly() {
    let context = serde_json::json!({"input": {"ticket": "Where is {{ it }}?"}});
    assert_eq!(template::render("{{ input.ticket }}", &context).as_deref(), Ok("Where is {{ it }}?"));
    assert!(template::render("{{ input.tickets }}", &context).is_err());
}
