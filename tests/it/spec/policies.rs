//! Policies: which one a quality leads to, what an environment leaves, and how faults in them are told.

use plimsoll::spec::load::{LoadOptions, load_agent};

use super::{faults, options, project};

const TIERS: &str = "[policies.cheap]\nquality = \"basic\"\nmodels = [\"openai/gpt-5-nano\"]\n\
    [policies.good]\nquality = \"high\"\nmodels = [\"openai/gpt-5\", \"openai/gpt-5-mini\"]\n\
    downgrade = { to = \"cheap\", at = \"92.5%\", priority = \"low\", hours = [\"20:00-06:00\"], time_zone = \"Europe/Berlin\" }\n\
    [policies.good.environments.production]\nmodels = [\"openai/gpt-5-mini\"]\n";

/// The models of an agent that asks for this.
fn models(ask: &str, environment: Option<&str>) -> Vec<String> {
    let folder = project(&[("agents/a.toml", &format!("[model]\n{ask}\n")), ("plimsoll.toml", TIERS)]);
    let options = LoadOptions { environment: environment.map(str::to_owned), ..options() };
    let (_, plan) = load_agent(folder.path(), "a", &options).unwrap_or_else(|faults| panic!("{faults}"));
    plan.model.candidates.iter().map(ToString::to_string).collect()
}

#[test]
fn a_quality_leads_to_the_lowest_policy_that_is_good_enough() {
    assert_eq!(models("quality = \"basic\"", None), ["openai/gpt-5-nano"]);
    assert_eq!(models("quality = \"standard\"", None), ["openai/gpt-5", "openai/gpt-5-mini"]);
    assert_eq!(models("quality = \"high\"", Some("production")), ["openai/gpt-5-mini"]);
    assert_eq!(models("policy = \"good\"", Some("staging")), ["openai/gpt-5", "openai/gpt-5-mini"]);
}

#[test]
fn rules_of_a_downgrade_are_in_the_plan() {
    let folder = project(&[("agents/a.toml", "[model]\npolicy = \"good\"\n"), ("plimsoll.toml", TIERS)]);
    let (_, plan) = load_agent(folder.path(), "a", &options()).unwrap_or_else(|faults| panic!("{faults}"));
    let text = serde_json::to_string(&plan.model.downgrade.expect("a downgrade").rules).expect("JSON");
    assert_eq!(text, r#"{"at":9250,"priority":"low","hours":[{"from":1200,"to":360}],"time_zone":"Europe/Berlin"}"#);
}

#[test]
fn faults_of_policies_say_what_and_how_to_mend_it() {
    let cases = [
        (
            "[policies.a]\nmodels = [\"openai/x\"]\n[policies.a.environments.production]\nmodels = [\"openai/y\"]\n",
            &["names `openai/y`, which the policy's `models` doesn't", "an environment only narrows"][..],
        ),
        (
            "[policies.a]\nquality = \"standrd\"\nmodels = [\"openai/x\"]\n",
            &["no quality `standrd` among the project's `qualities`", "did you mean `standard`?"],
        ),
        (
            "[policies.a]\nquality = \"basic\"\nmodels = [\"openai/x\"]\ndowngrade = { to = \"b\" }\n\
             [policies.b]\nquality = \"high\"\nmodels = [\"openai/y\"]\n",
            &["the policy `a` of quality `basic` downgrades to `b` of `high`", "the same or a lower quality"],
        ),
        (
            "[policies.a]\nmodels = [\"openai/x\"]\ndowngrade = { to = \"b\", at = \"90\", hours = [\"8-9\"] }\n[policies.b]\nmodels = [\"openai/y\"]\n",
            &["`at` is `90`", "such as `\"90%\"`", "`hours` is `8-9`", "such as `\"20:00-06:00\"`"],
        ),
        (
            "[policies.a]\nmodels = [\"openai/x\"]\ndowngrade = { to = \"b\", time_zone = \"Europe/Berln\" }\n[policies.b]\nmodels = [\"openai/y\"]\n",
            &["no time zone `Europe/Berln`", "`time_zone` is set, and no `hours`"],
        ),
        ("[[denied]]\nmodel = \"gpt-5\"\n", &["`gpt-5` names no model", "such as `groq/*`"]),
        ("[project]\nqualities = [\"a\", \"a\"]\n", &["the quality `a`"]),
    ];
    for (text, expected) in cases {
        let told = faults(&[("plimsoll.toml", text)]);
        for part in expected {
            assert!(told.contains(part), "{part}:\n{told}");
        }
    }
}

#[test]
fn faults_of_an_agent_that_asks_for_a_quality() {
    let told = |project: &str, agent: &str| faults(&[("plimsoll.toml", project), ("agents/a.toml", agent)]);
    let ask = "[model]\nquality = \"high\"\n";
    let cheap = "[policies.a]\nquality = \"basic\"\nmodels = [\"openai/x\"]\n";
    assert!(told(cheap, ask).contains("no policy is good for the quality `high`"));
    let two = format!("{cheap}[policies.b]\nquality = \"basic\"\nmodels = [\"openai/y\"]\n");
    let ambiguous = told(&two, "[model]\nquality = \"basic\"\n");
    assert!(ambiguous.contains("name one with `policy`: a, b"), "{ambiguous}");
    let both = told(cheap, "[model]\nquality = \"basic\"\npolicy = \"a\"\n");
    assert!(both.contains("`policy` and `quality` are both there"), "{both}");
}

#[test]
fn a_cache_of_a_workflow_is_said_stage_by_stage() {
    let stages =
        "[model]\nmodels = [\"openai/gpt-5-mini\"]\n[cache]\nttl = \"1h\"\n[[stage]]\nid = \"x\"\nkind = \"model\"\n";
    let told = faults(&[("agents/a.toml", stages)]);
    assert!(told.contains("say it for each stage that should have one: `[stage.cache]`"), "{told}");
    let of_tool = "[model]\nmodels = [\"openai/gpt-5-mini\"]\n[[stage]]\nid = \"x\"\nkind = \"approval\"\nask = \"?\"\ncache = { ttl = \"1h\" }\n";
    assert!(!faults(&[("agents/a.toml", of_tool)]).is_empty(), "only stages that ask a model have one");
}
