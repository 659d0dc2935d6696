//! Stages: what each kind resolves to.

use plimsoll::domain::limits::LimitKind;
use plimsoll::domain::plan::{Approval, Builtin, OnError, Plan, StageKind, ToolKind};
use plimsoll::ids::{AgentName, StageName, ToolName};
use plimsoll::spec::load::load_agent;
use plimsoll::spec::load_line::{LoadLine, load_line};
use plimsoll::units::{Millis, Money};
use serde_json::json;

use super::{MODEL, options, project};

/// One stage of each kind.
pub(super) const EVERY_KIND: &str = r#"
tools = ["lookup"]
agents = ["clerk"]

[model]
models = ["openai/gpt-5-mini"]
max_output_tokens = 800
temperature = 0.5

[prompt]
system = "Help."

[input]
type = "object"
required = ["ticket", "order"]
properties = { ticket = { type = "string" }, order = { type = "string" } }

[limits]
cost = "$0.50"

[[stage]]
id = "classify"
kind = "model"
models = ["openai/gpt-5-nano"]
prompt = { user = "Classify: {{ input.ticket }}" }
[stage.output]
type = "object"
required = ["category", "parts"]
properties.category = { enum = ["order", "spam", "other"] }
properties.parts = { type = "array", items = { type = "object", properties = { text = { type = "string" } } } }

[[stage]]
id = "resolve"
kind = "loop"
needs = ["classify"]
when = "stages.classify.output.category != 'spam'"
limits = { steps = 6, cost = "$0.03" }
prompt = { user = "Resolve {{ input.ticket }}" }

[[stage]]
id = "ask"
kind = "loop"
needs = ["classify"]
tools = ["question"]
agents = ["clerk"]

[[stage]]
id = "order"
kind = "tool"
tool = "lookup"
args = { order = "{{ input.order }}" }
on_error = "continue"
[stage.output]
type = "object"
properties.total = { type = "integer" }

[[stage]]
id = "read"
kind = "map"
needs = ["classify"]
over = "stages.classify.output.parts"
limits = { items = 40, parallel = 3 }
[stage.each]
kind = "model"
on_error = "continue"
max_output_tokens = 100
prompt = { user = "Check part {{ index }}: {{ item.text }}" }

[[stage]]
id = "notes"
kind = "agent"
agent = "clerk"
input = "{{ input.ticket }}"

[[stage]]
id = "release"
kind = "approval"
needs = ["resolve", "ask", "order", "read", "notes"]
ask = "Send this to {{ input.order }}?"
show = "stages.resolve.output"
limits = { expires = "2d" }

[output]
from = "release"
"#;

const LOOKUP: &str = r#"
description = "Looks up an order"
kind = "command"
command = ["cat", "{{ args.order }}"]
approval = "always"
input = { type = "object", required = ["order"], properties = { order = { type = "string" } } }
"#;

/// The files around [`EVERY_KIND`].
pub(super) fn every_kind() -> Vec<(&'static str, String)> {
    vec![
        ("agents/a.toml", EVERY_KIND.to_owned()),
        ("agents/clerk.toml", format!("description = \"A clerk\"\n{MODEL}")),
        ("tools/lookup.toml", LOOKUP.to_owned()),
        ("tools/question.toml", "kind = \"builtin\"\nbuiltin = \"ask_user\"\n".to_owned()),
    ]
}

fn plan_of(files: &[(&str, String)]) -> Plan {
    let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (*name, text.as_str())).collect();
    let folder = project(&files);
    load_agent(folder.path(), "a", &options()).unwrap_or_else(|faults| panic!("{faults}")).1
}

fn stage<'a>(plan: &'a Plan, id: &str) -> &'a plimsoll::domain::plan::StagePlan {
    plan.stage(&StageName::from(id)).expect("a stage")
}

#[test]
fn every_kind_of_stage_is_read() {
    let plan = plan_of(&every_kind());
    let call = stage(&plan, "classify").kind.call().expect("its own way to ask");
    let model = call.model.as_ref().expect("models of its own");
    assert_eq!(model.candidates, ["openai/gpt-5-nano".into()]);
    assert_eq!((model.max_output_tokens, model.sampling.temperature.is_some()), (800, true));
    let prompt = call.prompt.as_ref().expect("a prompt of its own");
    assert_eq!((prompt.system.as_str(), prompt.user.as_str()), ("Help.", "Classify: {{ input.ticket }}"));

    let resolve = stage(&plan, "resolve");
    assert_eq!(resolve.kind.tools(), [ToolName::from("lookup"), ToolName::from("clerk")]);
    assert_eq!(stage(&plan, "ask").kind.tools(), [ToolName::from("question"), ToolName::from("clerk")]);
    let limits = resolve.limits.as_deref().expect("limits of its own");
    assert_eq!((limits.steps, limits.cost, limits.model_calls), (6, Money::from_micro(30_000), 20));
    assert_eq!(limits.declared(LimitKind::Steps).to_string(), "agents/a.toml:37");
    assert_eq!(limits.declared(LimitKind::Parallel).to_string(), "default");
    assert_eq!(plan.stage_caps().into_iter().collect::<Vec<_>>(), [("resolve".into(), Money::from_micro(30_000))]);

    let order = stage(&plan, "order");
    let StageKind::Tool { tool, arguments, output } = &order.kind else { panic!("{order:?}") };
    assert_eq!((tool.as_str(), arguments), ("lookup", &json!({ "order": "{{ input.order }}" })));
    assert!(output.is_some() && order.on_error == OnError::Continue);

    let read = stage(&plan, "read");
    let StageKind::Map { over, each, on_error } = &read.kind else { panic!("{read:?}") };
    assert_eq!((over.as_str(), *on_error, each.name()), ("stages.classify.output.parts", OnError::Continue, "model"));
    assert_eq!(read.on_error, OnError::Fail);
    assert_eq!(read.kind.call().and_then(|call| call.model.as_ref()).expect("a model").max_output_tokens, 100);
    assert_eq!((plan.limits_of(&read.id).items, plan.limits_of(&read.id).parallel), (40, 3));

    let notes = StageKind::Agent { agent: "clerk".into(), input: json!("{{ input.ticket }}") };
    assert_eq!(stage(&plan, "notes").kind, notes);
    let release = stage(&plan, "release");
    let StageKind::Approval { ask, show } = &release.kind else { panic!("{release:?}") };
    assert_eq!((ask.as_str(), show.as_deref()), ("Send this to {{ input.order }}?", Some("stages.resolve.output")));
    assert_eq!(plan.limits_of(&release.id).expires, Millis::from_secs(2 * 86_400));
    assert_eq!((plan.output_from.as_ref(), &plan.output), (Some(&release.id), &None));
}

#[test]
fn those_who_talk_go_on_with_a_thread_but_for_items() {
    let history = |from: &str, to: &str| {
        let mut files = every_kind();
        files[0].1 = files[0].1.replacen(from, to, 1);
        let plan = plan_of(&files);
        let goes_on = |stage: &&plimsoll::domain::plan::StagePlan| plan.goes_on_with_thread(&stage.id);
        let stages: Vec<String> = plan.stages.iter().filter(goes_on).map(|stage| stage.id.to_string()).collect();
        (stages, plan)
    };
    let (by_default, plan) = history("", "");
    assert_eq!(by_default, ["classify", "resolve", "ask"]);
    assert_eq!(history("id = \"classify\"\n", "id = \"classify\"\nhistory = false\n").0, ["resolve", "ask"]);
    assert_eq!(history("[stage.each]\n", "[stage.each]\nhistory = true\n").0, ["classify", "resolve", "ask", "read"]);
    let mut stored = serde_json::to_value(&plan).expect("JSON");
    for stage in stored["stages"].as_array_mut().expect("stages") {
        stage.as_object_mut().expect("a stage").remove("history");
    }
    let old: Plan = serde_json::from_value(stored).expect("a plan of before there was such a key");
    assert!(old.stages.iter().all(|stage| !stage.history), "its runs go on as they began");
}

#[test]
fn an_agent_and_a_question_to_a_person_are_tools() {
    let plan = plan_of(&every_kind());
    let clerk = &plan.tools[&ToolName::from("clerk")];
    assert_eq!(clerk.kind, ToolKind::Agent { agent: "clerk".into() });
    assert_eq!(clerk.description, "A clerk");
    assert_eq!(clerk.input["required"], json!(["input"]));
    assert_eq!(plan.tools[&ToolName::from("question")].kind, ToolKind::Builtin(Builtin::AskUser));
    assert_eq!(plan.tools[&ToolName::from("lookup")].approval, Approval::Always);
    let child = &plan.agents[&AgentName::from("clerk")];
    assert_eq!((child.agent.as_str(), child.is_workflow()), ("clerk", false));
}

#[test]
fn a_single_loop_may_call_agents() {
    let files = [
        ("agents/a.toml", format!("tools = [\"t\"]\nagents = [\"clerk\"]\n{MODEL}")),
        ("agents/clerk.toml", format!("{MODEL}[input]\ntype = \"object\"\nproperties.n = {{ type = \"integer\" }}\n")),
        ("tools/t.toml", "kind = \"builtin\"\nbuiltin = \"now\"\n".to_owned()),
    ];
    let plan = plan_of(&files);
    assert!(!plan.is_workflow());
    assert_eq!(plan.stages[0].kind.tools(), [ToolName::from("t"), ToolName::from("clerk")]);
    assert_eq!(plan.tools[&ToolName::from("clerk")].input["properties"], json!({ "n": { "type": "integer" } }));
}

/// Each token costs the same, so that the dearest call is the largest.
fn by_size(plan: &Plan) -> LoadLine {
    load_line(plan, |_, input, output, _| Some((input, Money::from_micro(input.0 + u64::from(output)))))
}

#[test]
fn the_load_line_is_that_of_the_dearest_call_of_all_stages_and_agents() {
    let head = "[model]\nmodels = [\"openai/gpt-5-mini\"]\nmax_output_tokens = 100\n[context]\ntokens = 1_000\n";
    let counts = "[limits]\ncost = \"$90\"\nsteps = 5\nmodel_calls = 4\nattempts = 40\n[retry]\nattempts = 2\n";
    let one = "[[stage]]\nid = \"one\"\nkind = \"model\"\n";
    let agent = |stages: &str, clerk: &str| {
        let text = format!("{head}{counts}{stages}");
        plan_of(&[("agents/a.toml", text), ("agents/clerk.toml", clerk.to_owned())])
    };
    let line = by_size(&agent(one, head));
    let call = line.worst_call.clone().expect("a price");
    assert_eq!((call.input.0, call.output, line.model_tries), (1_000, 100, 8));
    assert_eq!(line.amount, Money::from_micro(8 * 1_100));

    let large = format!("{one}max_output_tokens = 900\n");
    assert_eq!(by_size(&agent(&large, head)).amount, Money::from_micro(8 * 1_900));
    let bounded = format!("{large}limits = {{ tokens = 400 }}\n");
    assert_eq!(by_size(&agent(&bounded, head)).worst_call.expect("a price").input.0, 400);

    let below = "[[stage]]\nid = \"two\"\nkind = \"agent\"\nagent = \"clerk\"\ninput = \"x\"\n";
    let dear = "[model]\nmodels = [\"openai/gpt-5\"]\nmax_output_tokens = 500\n[context]\ntokens = 3_000\n[retry]\nattempts = 3\n";
    let line = by_size(&agent(below, dear));
    let call = line.worst_call.clone().expect("a price");
    assert_eq!((call.model.as_str(), call.input.0, call.output), ("openai/gpt-5", 3_000, 500));
    // The counts are the whole tree's; its most tries of one step are the clerk's.
    assert_eq!((line.model_tries, line.amount), (12, Money::from_micro(12 * 3_500)));
}

#[test]
fn a_plan_with_every_kind_is_read_back_as_it_was() {
    let plan = plan_of(&every_kind());
    let text = serde_json::to_string(&plan).expect("JSON");
    let back: Plan = serde_json::from_str(&text).expect("a plan");
    assert_eq!((back.hash(), &back), (plan.hash(), &plan));
}

#[test]
fn a_text_fills_the_only_field_of_an_agent_that_takes_one() {
    let input = |given: &str| {
        let stage = format!("[[stage]]\nid = \"s\"\nkind = \"agent\"\nagent = \"clerk\"\ninput = {given}\n");
        let clerk = "[input]\ntype = \"object\"\nrequired = [\"area\"]\nproperties.area = { type = \"string\" }\n";
        let files = [("agents/a.toml", format!("{MODEL}{stage}")), ("agents/clerk.toml", format!("{MODEL}{clerk}"))];
        let StageKind::Agent { input, .. } = plan_of(&files).stages.remove(0).kind else { panic!("an agent") };
        input
    };
    assert_eq!(input("\"{{ input }}\""), json!({ "area": "{{ input }}" }));
    assert_eq!(input("\"about {{ input }}\""), json!({ "area": "about {{ input }}" }));
    assert_eq!(input("{ area = \"x\" }"), json!({ "area": "x" }));
}
