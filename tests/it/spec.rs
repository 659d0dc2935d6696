//! Files of a project: what loads, and how each fault is told.

mod azure;
mod faults;
mod google;
mod policies;
mod project_faults;
mod provider_keys;
mod stage_faults;
mod stages;

use std::path::Path;

use plimsoll::domain::limits::{AtLimit, Declared, LimitKind};
use plimsoll::domain::message::WebSearch;
use plimsoll::domain::plan::{Builtin, Overflow, ToolKind};
use plimsoll::domain::pricing::Factor;
use plimsoll::ids::{AgentName, ModelName, ToolName};
use plimsoll::spec::load::{
    Answering, LoadOptions, find_project, load_agent, load_configuration, load_project, survey_project,
};
use plimsoll::spec::load_line::load_line;
use plimsoll::spec::project::{KeySource, OutputCapField, Wire};
use plimsoll::spec::schema;
use plimsoll::units::{Millis, Money, Tokens};
use tempfile::TempDir;

/// A project in a temporary folder, from names and texts of files.
fn project(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (name, text) in files {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        std::fs::write(path, text).expect("a file");
    }
    folder
}

fn options() -> LoadOptions {
    LoadOptions::default()
}

/// Every fault of a project as text; empty where there is none.
fn faults(files: &[(&str, &str)]) -> String {
    let folder = project(files);
    survey_project(folder.path(), &options()).faults.to_string()
}

const MODEL: &str = "[model]\nmodels = [\"openai/gpt-5-mini\"]\n";

const SUPPORT: &str = r#"
description = "Reads a support ticket, looks up the order and drafts a reply"
owner   = "platform-team"
feature = "support"
unit    = "resolved_support_case"
tools   = ["search_help", "lookup_order"]

[model]
policy = "standard"
max_output_tokens = 800
temperature = 0.5
extra = { top_k = 40 }

[prompt]
version = "2026-11-01"
system_file = "prompts/support.md"
user = "{{ input.ticket }}"

[input]
type = "object"
required = ["ticket"]
properties.ticket = { type = "string" }

[limits]
steps = 12
cost = "$0.05"
expected_cost = "$0.01"
wall_time = "90s"
at_limit = "land"

[retry]
attempts = 2
backoff = "200ms..5s"
retry_after = "20s"

[context]
tokens = 16_000
history = 6_000
tool_output = 2_000
overflow = "refuse"

[output]
type = "object"
required = ["reply", "resolved"]
properties = { reply = { type = "string" }, resolved = { type = "boolean" } }
"#;

const LOOKUP: &str = r#"
description = "Looks up an order by its number"
kind    = "command"
command = ["cat", "{{ args.order }}"]
timeout = "5s"
output_bytes = 16_384
idempotent = true
price = "$0.001"
approval = "never"

[input]
type = "object"
required = ["order"]
properties.order = { type = "string", pattern = "^[0-9]{4,8}$" }
"#;

const SEARCH: &str = "kind = \"builtin\"\nbuiltin = \"search_files\"\nfolders = [\"help\"]\n";

const CONFIGURATION: &str = r#"
[project]
environment = "production"

[providers.openai]
wire = "openai-chat"
base_url = "https://api.openai.com/v1/"
key_env = "OPENAI_API_KEY"

[providers.local]
wire = "openai-chat"
base_url = "http://localhost:11434/v1"

[policies.standard]
quality = "standard"
models = ["openai/gpt-5-mini", "local/qwen"]
content_filter_fallbacks = ["local/open"]
context_fallbacks = ["local/long"]
downgrade = { to = "economy" }

[policies.economy]
models = ["openai/gpt-5-nano"]

[[prices]]
model = "local/qwen"
input = "0"
output = "0"
reason = "own hardware"

[[budgets]]
name  = "support-month"
scope = { feature = "support" }
each  = ["tenant"]
cap   = "$500"
per   = "month"
time_zone = "Europe/Berlin"

[defaults.limits]
model_call_time = "40s"

[ceilings.limits]
cost = "$1"
tool_calls = 10
"#;

fn shipped() -> Vec<(&'static str, &'static str)> {
    vec![
        ("plimsoll.toml", CONFIGURATION),
        ("agents/support.toml", SUPPORT),
        ("tools/lookup_order.toml", LOOKUP),
        ("tools/search_help.toml", SEARCH),
        ("prompts/support.md", "You help {{ input.ticket }}.\n"),
        ("help/a.md", "help"),
    ]
}

#[test]
fn a_whole_project_loads() {
    let folder = project(&shipped());
    let (project, plans) = load_project(folder.path(), &options()).expect("a good project");
    let plan = &plans[&AgentName::from("support")];
    assert_eq!(plan.model.policy.as_ref().expect("a policy").as_str(), "standard");
    assert_eq!(plan.model.candidates, [ModelName::from("openai/gpt-5-mini"), ModelName::from("local/qwen")]);
    assert_eq!(plan.model.downgrade.as_ref().expect("a downgrade").candidates, [ModelName::from("openai/gpt-5-nano")]);
    assert_eq!(plan.model.after_filter, [ModelName::from("local/open")]);
    assert_eq!(plan.model.after_overflow, [ModelName::from("local/long")]);
    assert_eq!(plan.model.models().len(), 5);
    assert_eq!((plan.model.max_output_tokens, plan.model.min_output_tokens, plan.model.stream), (800, 256, true));
    assert_eq!(
        serde_json::to_string(&plan.model.sampling).expect("JSON"),
        r#"{"temperature":0.5,"extra":{"top_k":40}}"#
    );
    assert_eq!((plan.prompt.label(), plan.prompt.hash.len()), ("2026-11-01", 16));
    assert_eq!(
        (plan.prompt.system.as_str(), plan.prompt.user.as_str()),
        ("You help {{ input.ticket }}.\n", "{{ input.ticket }}")
    );
    assert_eq!(
        (plan.context.tokens, plan.context.history, plan.context.tool_output),
        (Tokens(16_000), Tokens(6_000), Tokens(2_000))
    );
    assert_eq!((plan.context.overflow, plan.retry.attempts), (Overflow::Refuse, 2));
    let tools = plan.stages[0].kind.tools();
    assert_eq!(tools, &[ToolName::from("search_help"), ToolName::from("lookup_order")]);
    assert_eq!(project.environment, "production");
    assert_eq!(project.budgets[0].time_zone.iana_name(), Some("Europe/Berlin"));
    assert_eq!(project.prices[0].reason.as_deref(), Some("own hardware"));
}

#[test]
fn an_agents_own_fallbacks_stand_over_its_policys() {
    let own = "policy = \"standard\"\ncontent_filter_fallbacks = []\ncontext_fallbacks = [\"openai/gpt-4.1\"]";
    let text = SUPPORT.replace("policy = \"standard\"", own);
    let mut files = shipped();
    files[1].1 = &text;
    let (_, plans) = load_project(project(&files).path(), &options()).expect("a good project");
    let model = &plans[&AgentName::from("support")].model;
    assert_eq!(
        (model.after_filter.as_slice(), model.after_overflow.as_slice()),
        (&[][..], &["openai/gpt-4.1".into()][..])
    );
}

#[test]
fn limits_come_from_the_agent_else_the_project_else_are_built_in() {
    let folder = project(&shipped());
    let (_, plan) = load_agent(folder.path(), "support", &options()).expect("a good agent");
    let at = |file: &str, line| Declared::At { file: file.into(), line };
    let limits = &plan.limits;
    assert_eq!((limits.steps, limits.declared(LimitKind::Steps)), (12, at("agents/support.toml", 25)));
    assert_eq!((limits.cost, limits.wall_time), (Money::from_micro(50_000), Millis::from_secs(90)));
    assert_eq!(limits.model_call_time, Millis::from_secs(40));
    assert_eq!(limits.declared(LimitKind::ModelCallTime), at("plimsoll.toml", 39));
    assert_eq!((limits.tool_calls, limits.declared(LimitKind::ToolCalls)), (10, at("plimsoll.toml", 43)));
    assert_eq!((limits.repeats, limits.declared(LimitKind::Repeats)), (3, Declared::Default));
    assert_eq!((limits.at_limit, limits.expected_cost), (AtLimit::Land, Some(Money::from_micro(10_000))));
}

#[test]
fn tools_keep_inside_the_limits_of_their_agent() {
    let folder = project(&shipped());
    let (_, plan) = load_agent(folder.path(), "support", &options()).expect("a good agent");
    let lookup = &plan.tools[&ToolName::from("lookup_order")];
    assert_eq!((lookup.timeout, lookup.output_bytes, lookup.idempotent), (Millis::from_secs(5), 16_384, true));
    let root = folder.path().to_str().expect("a path");
    let ToolKind::Command { command, directory, .. } = &lookup.kind else { panic!("a command") };
    assert_eq!((command[0].as_str(), directory.as_str()), ("cat", root));
    let search = &plan.tools[&ToolName::from("search_help")];
    assert_eq!((search.timeout, search.output_bytes, search.idempotent), (Millis::from_secs(30), 65_536, true));
    assert_eq!(search.kind, ToolKind::Builtin(Builtin::SearchFiles { folders: vec![format!("{root}/help")] }));
    assert_eq!(search.input["required"][0], "query");
}

#[test]
fn providers_have_the_quirks_of_their_host() {
    let folder = project(&shipped());
    let project = load_configuration(folder.path(), &options()).expect("a good file");
    let openai = &project.providers[&"openai".into()];
    assert_eq!(openai.base_url, "https://api.openai.com/v1");
    assert_eq!(openai.key, KeySource::Env("OPENAI_API_KEY".into()));
    assert_eq!(openai.quirks.output_cap_field, OutputCapField::MaxCompletionTokens);
    assert!(openai.quirks.pin_service_tier && openai.quirks.no_cache_writes && openai.quirks.stream_usage);
    let local = &project.providers[&"local".into()];
    assert_eq!((&local.key, local.quirks.output_cap_field), (&KeySource::None, OutputCapField::MaxTokens));
    assert!(!local.quirks.pin_service_tier && !local.quirks.no_cache_writes && local.quirks.stream_usage);
}

#[test]
fn a_regional_host_has_its_quirks_and_its_factor() {
    let provider = |host: &str| {
        let text = format!("[providers.openai]\nwire = \"openai-chat\"\nbase_url = \"https://{host}/v1\"\n");
        let folder = project(&[("plimsoll.toml", &text)]);
        let project = load_configuration(folder.path(), &options()).expect("a good file");
        project.providers[&"openai".into()].clone()
    };
    for (host, factor) in [
        ("api.openai.com", None),
        ("us.api.openai.com", Some(Factor::ResidencyUs)),
        ("eu.api.openai.com:443", Some(Factor::ResidencyEu)),
        ("jp.api.openai.com", Some(Factor::ResidencyEu)),
    ] {
        let provider = provider(host);
        assert_eq!(provider.endpoint_factor(), factor, "{host}");
        assert!(provider.quirks.pin_service_tier && provider.quirks.no_cache_writes, "{host}");
    }
    for host in ["eu.api.example.com", "api.openai.com.example.com", "xapi.openai.com"] {
        let provider = provider(host);
        assert_eq!((provider.endpoint_factor(), provider.quirks.pin_service_tier), (None, false), "{host}");
    }
}

#[test]
fn a_wire_is_read_by_its_word() {
    for wire in Wire::ALL {
        let deployment = "[providers.a.deployments.x]\nmodel = \"gpt-5-mini\"\nscope = \"global\"\n";
        let more = if wire == Wire::AzureOpenAi { deployment } else { "" };
        let text = format!("[providers.a]\nwire = \"{}\"\nbase_url = \"https://host\"\n{more}", wire.name());
        let folder = project(&[("plimsoll.toml", &text)]);
        let project = load_configuration(folder.path(), &options()).expect("a good file");
        assert_eq!(project.providers[&"a".into()].wire, wire);
    }
    assert_eq!(Wire::named("smoke"), None);
}

#[test]
fn the_same_files_give_the_same_plan_and_another_limit_another() {
    let (one, two) = (project(&shipped()), project(&[("agents/a.toml", MODEL)]));
    let hash = |folder: &Path, name: &str| load_agent(folder, name, &options()).expect("an agent").1.hash();
    assert_eq!(hash(one.path(), "support"), hash(one.path(), "support"));
    let before = hash(two.path(), "a");
    std::fs::write(two.path().join("agents/a.toml"), format!("{MODEL}[limits]\nsteps = 21\n")).expect("a file");
    assert_ne!(hash(two.path(), "a"), before);
}

#[test]
fn a_schema_keeps_the_order_of_its_author() {
    let text = format!("{MODEL}[output]\ntype = \"object\"\n[output.properties]\nzeal = {{}}\nanswer = {{}}\n");
    let folder = project(&[("agents/a.toml", &text)]);
    let (_, plan) = load_agent(folder.path(), "a", &options()).expect("an agent");
    let output = plan.output.expect("a schema");
    let names: Vec<_> = output["properties"].as_object().expect("an object").keys().collect();
    assert_eq!(names, ["zeal", "answer"]);
}

#[test]
fn one_broken_agent_does_not_hide_another() {
    let files = [("agents/good.toml", MODEL), ("agents/bad.toml", "x = 1\n"), ("tools/bad.toml", "x = 1\n")];
    let folder = project(&files);
    load_agent(folder.path(), "good", &options()).expect("the good one loads");
    let survey = survey_project(folder.path(), &options());
    assert_eq!(survey.plans.len(), 1);
    assert!(load_project(folder.path(), &options()).is_err());
    let missing = load_agent(folder.path(), "goood", &options()).expect_err("no such agent");
    assert_eq!(missing.to_string(), "agents:1:1: no agent `goood`\n  help: did you mean `good`?");
}

#[test]
fn a_simulated_run_needs_no_provider() {
    let mut files = shipped();
    files.push(("agents/a.toml", "[model]\nmodels = [\"nobody/x\"]\n"));
    let folder = project(&files);
    assert!(load_agent(folder.path(), "a", &options()).is_err());
    let simulated = LoadOptions { answering: Answering::Simulated, environment: Some("test".into()) };
    let (project, _) = load_agent(folder.path(), "a", &simulated).expect("the simulated provider answers");
    assert_eq!(project.environment, "test");
}

#[test]
fn a_project_is_found_from_within() {
    let folder = project(&shipped());
    let root = folder.path();
    assert_eq!(find_project(None, None, &root.join("agents")).expect("found"), root);
    assert_eq!(find_project(Some(Path::new("help")), None, root).expect("found"), root.join("help"));
    assert_eq!(find_project(None, Some(root), Path::new("/")).expect("found"), root);
    assert!(find_project(Some(Path::new("nowhere")), None, root).is_err());
    let bare = tempfile::tempdir().expect("a temporary folder");
    assert!(find_project(None, None, bare.path()).is_err());
}

#[test]
fn the_load_line_is_the_least_of_cost_and_counts() {
    let folder = project(&shipped());
    let (_, mut plan) = load_agent(folder.path(), "support", &options()).expect("a good agent");
    // A micro-dollar for each token; `qwen` at twice that.
    let price = |model: &ModelName, input: Tokens, output: u32, _: Option<WebSearch>| {
        let factor = if model.model() == "qwen" { 2 } else { 1 };
        let cost = || (input, Money::from_micro((input.0 + u64::from(output)) * factor));
        (model.model() != "gpt-5-nano").then(cost)
    };
    let line = load_line(&plan, price);
    assert_eq!((line.amount, line.binds.as_slice()), (Money::from_micro(50_000), [LimitKind::Cost].as_slice()));
    assert_eq!(line.worst_call.expect("a priced call").cost, Money::from_micro(33_600));
    assert_eq!(line.unpriced, [ModelName::from("openai/gpt-5-nano")]);
    plan.limits.cost = Money::from_micro(100_000_000);
    let line = load_line(&plan, price);
    // Twelve model calls of two tries each: no step is left for a tool.
    assert_eq!((line.amount, line.model_tries, line.tool_calls), (Money::from_micro(24 * 33_600), 24, 0));
    assert_eq!(line.binds, [LimitKind::Steps]);
}

#[test]
fn editors_and_the_reader_agree() {
    use plimsoll::spec::schema;
    let check = |schema: serde_json::Value, text: &str| {
        let file: serde_json::Value = toml::from_str(text).expect("TOML");
        jsonschema::draft7::new(&schema).expect("a schema").is_valid(&file)
    };
    for (schema, text) in [
        (schema::agent(), SUPPORT),
        (schema::tool(), LOOKUP),
        (schema::tool(), SEARCH),
        (schema::project(), CONFIGURATION),
    ] {
        assert!(check(schema.clone(), text), "{text}");
        assert!(!check(schema, &format!("stge = 1\n{text}")));
    }
    assert!(!check(schema::agent(), "[model]\n[limits]\nsteps = 0\n"));
    assert!(!check(schema::agent(), "[model]\n[limits]\ncost = \"cheap\"\n"));
    assert!(!check(schema::agent(), "[model]\n[[stage]]\n"));
    assert!(!check(schema::tool(), "kind = \"mcp\"\n"));
}

#[test]
fn every_code_is_documented() {
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/errors.md")).expect("the page");
    for code in plimsoll::spec::fault::code::ALL {
        assert!(page.contains(&format!("`{code}`")), "{code} is not in docs/errors.md");
    }
}

mod mutations {
    use proptest::prelude::*;

    use super::*;

    const SNIPPETS: [&str; 16] = [
        "[",
        "]",
        "{",
        "}",
        "\"",
        "=",
        "\n",
        "-1",
        "1e9",
        "0x7fffffffffffffff",
        "[[stage]]\n",
        "{{",
        "%}",
        "é",
        "[limits]\n",
        "nan",
    ];

    /// A cut of the text at character boundaries, and what goes in its place.
    fn edit(text: &str, at: usize, length: usize, with: &str) -> String {
        let places: Vec<usize> = text.char_indices().map(|(place, _)| place).chain([text.len()]).collect();
        let from = places[at % places.len()];
        let to = places[(at % places.len() + length).min(places.len() - 1)];
        format!("{}{with}{}", &text[..from], &text[to..])
    }

    /// How many edits are tried: `PROPTEST_CASES`, or few.
    fn cases() -> u32 {
        std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(96)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn no_edit_of_a_file_brings_the_reader_down(
            file in 0_usize..4,
            edits in prop::collection::vec((any::<u16>(), 0_usize..12, 0_usize..SNIPPETS.len()), 1..5),
        ) {
            let mut files = shipped();
            let edited = edits.iter().fold(files[file].1.to_owned(), |text, (at, length, snippet)| {
                edit(&text, usize::from(*at), *length, SNIPPETS[*snippet])
            });
            files[file].1 = &edited;
            let folder = project(&files);
            let survey = survey_project(folder.path(), &options());
            for fault in survey.faults.all() {
                prop_assert!(!fault.to_string().is_empty() && fault.line() >= 1);
            }
            prop_assert!(survey.plans.len() == 1 || !survey.faults.is_empty());
            // What loads has a plan that reads back.
            for plan in survey.plans.values() {
                let text = serde_json::to_string(plan).expect("a plan is JSON");
                prop_assert_eq!(&serde_json::from_str::<plimsoll::domain::plan::Plan>(&text).expect("it reads back"), plan);
            }
        }
    }
}

/// `PLIMSOLL_WRITE_SCHEMAS=1 cargo test schemas` writes them anew.
#[test]
fn the_schemas_that_are_checked_in_are_the_generated_ones() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("schema");
    for (name, schema) in [("agent", schema::agent()), ("tool", schema::tool()), ("project", schema::project())] {
        let path = folder.join(format!("{name}.json"));
        let text = serde_json::to_string_pretty(&schema).expect("JSON") + "\n";
        if std::env::var_os("PLIMSOLL_WRITE_SCHEMAS").is_some() {
            std::fs::write(&path, &text).expect("a file");
        }
        let there = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(there == text, "`schema/{name}.json` is old: `PLIMSOLL_WRITE_SCHEMAS=1 cargo test schemas`");
    }
}
