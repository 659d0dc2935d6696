//! How each fault of stages, and of agents that call agents, is told.

use super::faults;

const HEAD: &str = "[model]\nmodels = [\"openai/gpt-5-mini\"]\n";
const TEXT: &str = "[input]\ntype = \"object\"\nproperties.ticket = { type = \"string\" }\nproperties.docs = { type = \"array\", items = { type = \"object\", properties.name = { type = \"string\" } } }\n";
const LOOKUP: &str = "description = \"x\"\nkind = \"command\"\ncommand = [\"cat\"]\n[input]\ntype = \"object\"\nrequired = [\"order\"]\nproperties.order = { type = \"string\" }\nproperties.most = { type = \"integer\" }\n";

/// The faults of one agent with these stages, beside a tool `lookup` and the agents `clerk` (of a text) and `desk` (of
/// an object).
fn told(stages: &str) -> String {
    told_with(&format!("{HEAD}{TEXT}{stages}"), &[])
}

fn told_with(agent: &str, more: &[(&str, &str)]) -> String {
    let desk = format!(
        "{HEAD}[input]\ntype = \"object\"\nrequired = [\"area\"]\nproperties.area = {{ type = \"string\" }}\nproperties.days = {{ type = \"integer\" }}\n"
    );
    let mut files = vec![
        ("agents/a.toml", agent),
        ("agents/clerk.toml", HEAD),
        ("agents/desk.toml", &desk),
        ("tools/lookup.toml", LOOKUP),
    ];
    files.extend_from_slice(more);
    faults(&files)
}

/// A stage that is right.
fn model(id: &str, more: &str) -> String {
    format!("[[stage]]\nid = \"{id}\"\nkind = \"model\"\n{more}\n")
}

fn snapshot(name: &str, cases: &[(&str, String)]) {
    let told: Vec<String> = cases.iter().map(|(what, told)| format!("## {what}\n{told}")).collect();
    insta::assert_snapshot!(name, told.join("\n\n"));
}

#[test]
fn the_graph_of_stages() {
    let cases = [
        (
            "a circle",
            told(
                &[model("a", "needs = [\"c\"]"), model("b", "needs = [\"a\"]"), model("c", "needs = [\"b\"]")].concat(),
            ),
        ),
        (
            "one that needs itself, and what hangs on it",
            told(&[model("a", "needs = [\"a\"]"), model("b", "needs = [\"a\"]")].concat()),
        ),
        (
            "a need that isn't there",
            told(&[model("draft", ""), model("b", "needs = [\"draf\", \"draft\", \"draft\"]")].concat()),
        ),
        (
            "bad ids",
            told(
                &[
                    model("main", ""),
                    model("a b", "needs = [\"main\"]"),
                    model("x", "needs = [\"a b\"]"),
                    model("x", ""),
                ]
                .concat(),
            ),
        ),
        ("several answers", told(&[model("a", ""), model("b", "")].concat())),
        ("an answer from nowhere", told(&format!("[output]\nfrom = \"bb\"\n{}", model("b", "")))),
        ("an answer without stages", told("[output]\nfrom = \"b\"\n")),
        ("an answer that is no name", told(&format!("[output]\nfrom = 7\n{}", model("b", "")))),
        (
            "two schemas",
            told(&format!(
                "[output]\nfrom = \"b\"\ntype = \"object\"\n{}",
                model("b", "output = { type = \"object\" }")
            )),
        ),
        ("too many", told(&(0..65).map(|n| model(&format!("s{n}"), "")).collect::<String>())),
    ];
    snapshot("graph", &cases);
}

#[test]
fn the_keys_of_a_stage() {
    let stage = |text: &str| told(&format!("[[stage]]\nid = \"a\"\n{text}\n"));
    let cases = [
        ("no kind", stage("")),
        ("a kind that there isn't", stage("kind = \"lop\"")),
        (
            "another kind's keys",
            stage("kind = \"model\"\ntool = \"lookup\"\ntools = [\"lookup\"]\nover = \"input.docs\""),
        ),
        (
            "keys that are missing",
            told(
                "[[stage]]\nid = \"a\"\nkind = \"map\"\n[[stage]]\nid = \"b\"\nkind = \"agent\"\nneeds = [\"a\", \"c\", \"d\"]\n[[stage]]\nid = \"c\"\nkind = \"tool\"\n[[stage]]\nid = \"d\"\nkind = \"approval\"\n",
            ),
        ),
        ("a map of maps", stage("kind = \"map\"\nover = \"input.docs\"\n[stage.each]\nkind = \"map\"\nid = \"x\"")),
        (
            "an item's keys",
            stage(
                "kind = \"map\"\nover = \"input.docs\"\n[stage.each]\nkind = \"tool\"\ntool = \"lookup\"\nprompt = { user = \"x\" }",
            ),
        ),
        ("unknown names", stage("kind = \"loop\"\ntools = [\"lokup\"]\nagents = [\"clark\"]\npolicy = \"cheap\"")),
        (
            "an unknown agent and tool",
            told(
                "[[stage]]\nid = \"a\"\nkind = \"agent\"\nagent = \"dsk\"\ninput = \"x\"\n[[stage]]\nid = \"b\"\nneeds = [\"a\"]\nkind = \"tool\"\ntool = \"clerk\"\n",
            ),
        ),
        ("a model without a name", stage("kind = \"model\"\nmodels = [\"gpt\"]\nmin_output_tokens = 5000")),
        ("input of another type", stage("kind = \"agent\"\nagent = \"clerk\"\ninput = 5")),
        ("the policy and models", stage("kind = \"model\"\nmodels = [\"openai/a\"]\npolicy = \"x\"")),
    ];
    snapshot("keys", &cases);
}

#[test]
fn the_names_in_templates() {
    let classify =
        model("classify", "output = { type = \"object\", properties = { category = { type = \"string\" } } }");
    let with = |stage: String| told(&format!("{classify}{stage}"));
    let uses = |text: &str| with(model("b", &format!("needs = [\"classify\"]\nprompt = {{ user = \"{text}\" }}")));
    let cases = [
        ("a stage that isn't needed", with(model("b", "prompt = { user = \"{{ stages.classify.output }}\" }") + &*model("c", "needs = [\"b\", \"classify\"]"))),
        ("itself, and what comes later", with(model("b", "needs = [\"classify\"]\nprompt = { user = \"{{ stages.b.output }} {{ stages.c.output }}\" }") + &*model("c", "needs = [\"b\"]"))),
        ("no such stage", uses("{{ stages.clasify.output }} {{ stages['clasify'].output }} {{ stages.other.state }}")),
        ("no such field", uses("{{ stages.classify.outptu }} {{ stages.classify.output.categry }} {{ input.tiket }}")),
        ("a field of a text", uses("{{ stages.classify.output.category.x }} {{ input.ticket.x }}")),
        ("a field of a plain answer", with(model("b", "needs = [\"classify\"]") + &*model("c", "needs = [\"b\"]\nprompt = { user = \"{{ stages.b.output.x }}\" }"))),
        ("a field of a list", uses("{{ input.docs.name }}")),
        ("a minus", told(&(model("first-one", "") + &*model("b", "needs = [\"first-one\"]\nprompt = { user = \"{{ stages.first-one.output }}\" }")))),
        ("an item where there is none", uses("{{ item.name }} {{ index }}")),
        ("braces in an expression", with(model("b", "needs = [\"classify\"]\nwhen = \"{{ stages.classify.output }}\""))),
        ("an expression", with(model("b", "needs = [\"classify\"]\nwhen = \"stages.classify.output.kind == 'x'\""))),
        (
            "items",
            told("[[stage]]\nid = \"m\"\nkind = \"map\"\nover = \"input.docs\"\n[stage.each]\nkind = \"model\"\nprompt = { user = \"{{ item.nam }} {{ index.x }}\" }\n[[stage]]\nid = \"n\"\nkind = \"map\"\nneeds = [\"m\"]\nover = \"stages.m.output\"\n[stage.each]\nkind = \"tool\"\ntool = \"lookup\"\nargs = { order = \"{{ item.x }}\" }\n"),
        ),
        ("over a text", told("[[stage]]\nid = \"m\"\nkind = \"map\"\nover = \"input.ticket\"\n[stage.each]\nkind = \"model\"\n")),
        ("over an object", with("[[stage]]\nid = \"m\"\nkind = \"map\"\nneeds = [\"classify\"]\nover = \"stages.classify.output\"\n[stage.each]\nkind = \"model\"\n".to_owned())),
        ("an approval", told(&("[[stage]]\nid = \"ok\"\nkind = \"approval\"\nask = \"{{ input.x }}?\"\nshow = \"input.y\"\n".to_owned() + &*model("b", "needs = [\"ok\"]\nprompt = { user = \"{{ stages.ok.output.aproved }}\" }")))),
        ("input that is plain text", told_with(&format!("{HEAD}[prompt]\nuser = \"{{{{ input.x }}}}\"\n"), &[])),
    ];
    snapshot("names", &cases);
}

#[test]
fn the_values_for_tools_and_agents() {
    let tool = |args: &str| told(&format!("[[stage]]\nid = \"a\"\nkind = \"tool\"\ntool = \"lookup\"\n{args}\n"));
    let agent = |agent: &str, input: &str| {
        told(&format!("[[stage]]\nid = \"a\"\nkind = \"agent\"\nagent = \"{agent}\"\ninput = {input}\n"))
    };
    let cases = [
        ("arguments that the tool hasn't, and one that it needs", tool("args = { ordr = \"x\", most = 3 }")),
        ("no arguments", tool("")),
        ("a constant that doesn't fit", tool("args = { order = \"{{ input.ticket }}\", most = \"three\" }")),
        ("a template that doesn't fit its names", tool("args = { order = \"{{ input.order }}\" }")),
        ("fields that the agent hasn't", agent("desk", "{ aria = \"{{ input.ticket }}\" }")),
        ("a text for an object", agent("desk", "\"about {{ input.ticket }}\"")),
        ("a table for a text", agent("clerk", "{ input = \"{{ input.ticket }}\" }")),
    ];
    snapshot("values", &cases);
}

#[test]
fn the_limits_of_stages() {
    let limited = |limits: &str| told(&model("a", &format!("limits = {{ {limits} }}")));
    let four: String = ["a", "b", "c", "d"].iter().map(|id| model(id, "")).collect();
    let end = "[[stage]]\nid = \"e\"\nkind = \"tool\"\ntool = \"lookup\"\nargs = { order = \"1\" }\nneeds = [\"a\", \"b\", \"c\", \"d\"]\n";
    let agents: String = ["a", "b", "c"]
        .iter()
        .map(|id| format!("[[stage]]\nid = \"{id}\"\nkind = \"agent\"\nagent = \"clerk\"\ninput = \"x\"\n"))
        .collect();
    let last = model("z", "needs = [\"a\", \"b\", \"c\"]");
    let ceiling = [("plimsoll.toml", "[ceilings.limits]\nsteps = 10\n")];
    let cases = [
        ("looser than the agent's", limited("steps = 30, wall_time = \"1h\", cost = \"$1\"")),
        (
            "not a stage's",
            limited(
                "deadline = 2030-01-01T00:00:00Z, depth = 1, landing_tokens = 5, budget_wait = \"1s\", at_limit = \"stop\"",
            ),
        ),
        ("no limit", limited("stepz = 3")),
        ("above a ceiling", told_with(&format!("{HEAD}{}", model("a", "limits = { steps = 11 }")), &ceiling)),
        (
            "fewer model calls than stages",
            told(&format!("{four}{end}[limits]\nmodel_calls = 4\nsteps = 4\ntool_calls = 0\n")),
        ),
        ("agents than children", told(&format!("{agents}{last}[limits]\nchildren = 2\n"))),
        ("nested too deep", told(&format!("{agents}{last}[limits]\ndepth = 0\n"))),
    ];
    snapshot("limits", &cases);
    let fits = [
        told(&format!("{four}{end}[limits]\nmodel_calls = 5\nsteps = 6\n")),
        told(&format!("{four}{end}[limits]\nmodel_calls = 4\nsteps = 5\nat_limit = \"stop\"\n")),
        // The last stage's call takes what is kept for the last answer.
        told(&format!("{agents}{last}[limits]\nmodel_calls = 4\nsteps = 4\nchildren = 3\ndepth = 1\n")),
        told(&model("a", "limits = { steps = 20, tokens = 500 }")),
    ];
    assert_eq!(fits, [const { String::new() }; 4]);
}

#[test]
fn agents_that_call_agents() {
    let calls = |name: &str| format!("agents = [\"{name}\"]\n{HEAD}");
    let (b, c) = (calls("c"), calls("a"));
    let stage =
        |agent: &str| format!("{HEAD}[[stage]]\nid = \"s\"\nkind = \"agent\"\nagent = \"{agent}\"\ninput = \"x\"\n");
    let list = format!("{HEAD}[input]\ntype = \"array\"\n");
    let cases = [
        ("a circle", told_with(&calls("b"), &[("agents/b.toml", &b), ("agents/c.toml", &c)])),
        ("itself", told_with(&stage("a"), &[])),
        ("a faulty one", told_with(&stage("b"), &[("agents/b.toml", "x = 1\n")])),
        (
            "the name of a tool",
            told_with(
                &format!("tools = [\"clerk\"]\nagents = [\"clerk\", \"clerk\"]\n{HEAD}"),
                &[("tools/clerk.toml", LOOKUP)],
            ),
        ),
        ("a tool's name of another's list", told_with(&calls("b"), &[("agents/b.toml", &list)])),
    ];
    snapshot("agents", &cases);
}

#[test]
fn questions_to_a_person() {
    let tool = "kind = \"builtin\"\nbuiltin = \"ask_user\"\nprice = \"$1\"\ntimeout = \"5s\"\napproval = \"always\"\ncommand = [\"x\"]\n";
    insta::assert_snapshot!("ask_user", faults(&[("tools/t.toml", tool)]));
}
