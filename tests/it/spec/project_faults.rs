//! How each fault of `plimsoll.toml`, and between files, is told.

use plimsoll::spec::load::{load_configuration, survey_project};

use super::{MODEL, faults, options, project};

/// The faults of a `plimsoll.toml`.
fn configuration(text: &str) -> String {
    faults(&[("plimsoll.toml", text)])
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table of files and what is told of each")]
fn faults_of_a_project_file() {
    let cases = [
        ("[project]\nstore = \"postgres://user:secret@host/x\"\n", "what comes later"),
        ("[providers.a]\nwire = \"gemini\"\nbase_url = \"https://u:p@host\"\nkey_env = \"sk-123\"\n", "a bad provider"),
        (
            "[providers.a]\nwire = \"gemni\"\nbase_url = \"https://host\"\n[providers.b]\nwire = \"openai-caht\"\nbase_url = \"https://host\"\n[providers.c]\nwire = \"smoke\"\nbase_url = \"https://host\"\n",
            "wires that are none",
        ),
        (
            "[providers.a]\nwire = \"openai-chat\"\nbase_url = \"https://host/v1?key=1\"\nkey_env = \"A\"\nkey_command = [\"x\"]\nheaders = { Authorization = \"x\" }\n",
            "secrets in the file",
        ),
        (
            "[policies.a]\nmodels = [\"opnai/x\"]\ndowngrade = { at = \"90%\", to = \"b\" }\n[policies.bb]\nmodels = []\n[providers.openai]\nwire = \"openai-chat\"\nbase_url = \"https://host\"\n",
            "bad policies",
        ),
        (
            "[[prices]]\nmodel = \"a/b\"\ninput = \"0\"\noutput = \"0.0000001\"\n[[prices]]\nmodel = \"a/c\"\ninput = \"1\"\noutput = \"2\"\nper_call = \"$2000\"\n[[prices]]\nmodel = \"a/d\"\ninput = \"1\"\noutput = \"2\"\nper_call = 0.5\n",
            "bad prices",
        ),
        (
            "[[budgets]]\nname = \"a\"\ncap = \"$5\"\nper = \"fortnight\"\n[[budgets]]\nname = \"a\"\ncap = 5\nper = \"day\"\ntime_zone = \"Europe/Berln\"\nscope = { \"a b\" = \"x\", tenant = \"\" }\neach = [\"tenant\"]\n",
            "bad budgets",
        ),
        (
            "[defaults.limits]\nsteps = 50\n[ceilings.limits]\nsteps = 30\nat_limit = \"stop\"\n",
            "a default above its ceiling",
        ),
    ];
    let told: Vec<String> = cases.iter().map(|(text, what)| format!("## {what}\n{}", configuration(text))).collect();
    insta::assert_snapshot!(told.join("\n\n"), @r#"
## what comes later
plimsoll.toml:2:9: the store `postgres://…` is not supported by this version
  2 | store = *******************************
    |         ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
  help: name a folder, such as `.plimsoll`

## a bad provider
plimsoll.toml:3:12: `base_url` holds credentials
  3 | base_url = ******************
    |            ^^^^^^^^^^^^^^^^^^
  help: name the key with `key_env` or `key_command`

plimsoll.toml:4:11: `key_env` is no name of an environment variable
  4 | key_env = ********
    |           ^^^^^^^^
  help: name the variable that holds the key, such as `OPENAI_API_KEY`

## wires that are none
plimsoll.toml:2:8: `gemni` is no value of `wire`
  2 | wire = "gemni"
    |        ^^^^^^^
  help: did you mean `gemini`?

plimsoll.toml:5:8: `openai-caht` is no value of `wire`
  5 | wire = "openai-caht"
    |        ^^^^^^^^^^^^^
  help: did you mean `openai-chat`?

plimsoll.toml:8:8: `smoke` is no value of `wire`
  8 | wire = "smoke"
    |        ^^^^^^^
  help: expected one of `openai-chat`, `openai-responses`, `azure-openai`, `anthropic`, `vertex-anthropic`, `gemini`, `vertex`

## secrets in the file
plimsoll.toml:3:12: `base_url` has a query or a fragment
  3 | base_url = ***********************
    |            ^^^^^^^^^^^^^^^^^^^^^^^
  help: end it with the path

plimsoll.toml:5:15: `key_command` and `key_env` are both there
  5 | key_command = ["x"]
    |               ^^^^^
  help: keep one of them

plimsoll.toml:6:13: the header `Authorization` would hold a secret
  6 | headers = { Authorization = *** }
    |             ^^^^^^^^^^^^^
  help: name the key with `key_env` or `key_command`

## bad policies
plimsoll.toml:2:11: no provider `opnai` is configured
  2 | models = ["opnai/x"]
    |           ^^^^^^^^^
  help: did you mean `openai`?

plimsoll.toml:3:32: no policy `b`
  3 | downgrade = { at = "90%", to = "b" }
    |                                ^^^
  help: expected one of `a`, `bb`

plimsoll.toml:5:10: `models` is empty
  5 | models = []
    |          ^^
  help: expected 1 to 16 texts

## bad prices
plimsoll.toml:3:9: the `input` price of `a/b` is 0 without a reason
  3 | input = "0"
    |         ^^^
  help: add `reason = "…"`, such as `"own hardware"`

plimsoll.toml:4:10: `0.0000001` has more than 6 decimals
  4 | output = "0.0000001"
    |          ^^^^^^^^^^^
  help: expected dollars for 1,000,000 tokens as text, such as `"0.25"`

plimsoll.toml:9:12: `per_call` of `a/c` is $2000.00
  9 | per_call = "$2000"
    |            ^^^^^^^
  help: at most $1000.00: dollars of one call, or of one unit

plimsoll.toml:14:12: `per_call` can't be a number with a point
  14 | per_call = 0.5
     |            ^^^
  help: expected dollars as text, such as `"$0.05"`

## bad budgets
plimsoll.toml:4:7: `fortnight` is no value of `per`
  4 | per = "fortnight"
    |       ^^^^^^^^^^^
  help: expected one of `hour`, `day`, `week`, `month`, `quarter`, `total`

plimsoll.toml:6:8: the budget `a` is named twice
  6 | name = "a"
    |        ^^^
  help: name it once

plimsoll.toml:7:7: `cap` can't be a whole number
  7 | cap = 5
    |       ^
  help: expected dollars as text, such as `"$0.05"`

plimsoll.toml:9:13: no time zone `Europe/Berln`
  9 | time_zone = "Europe/Berln"
    |             ^^^^^^^^^^^^^^
  help: did you mean `Europe/Berlin`?

plimsoll.toml:10:11: `a b` is no name of a label
  10 | scope = { "a b" = "x", tenant = "" }
     |           ^^^^^
  help: expected 1 to 64 letters, digits, `_`, `-` and `.`, such as `tenant`

plimsoll.toml:10:33: `tenant` has a value that no label can have
  10 | scope = { "a b" = "x", tenant = "" }
     |                                 ^^
  help: expected 1 to 256 printable characters

plimsoll.toml:11:9: the label `tenant` is in `each` and in `scope`
  11 | each = ["tenant"]
     |         ^^^^^^^^
  help: keep one: `scope` fixes its value

## a default above its ceiling
plimsoll.toml:2:9: `steps` is 50, above the project's ceiling of 30
  2 | steps = 50
    |         ^^
  help: at most 30, set at plimsoll.toml:4

plimsoll.toml:5:1: unknown key `at_limit` in `[ceilings.limits]`
  5 | at_limit = "stop"
    | ^^^^^^^^
  help: expected one of `steps`, `model_calls`, `tool_calls`, `attempts`, `repeats`, `tool_errors`, `parallel`, `depth`, `children`, `items`, `landing_tokens`, `landing_output_tokens`, `cost`, `tokens`, `input_tokens`, `output_tokens`, `wall_time`, `model_call_time`, `first_token_time`, `tool_call_time`, `budget_wait`, `deadline`, `output_bytes`, `expires`
"#);
}

#[test]
fn names_are_looked_up_across_files() {
    let files = [
        ("plimsoll.toml", "[policies.standard]\nmodels = [\"openai/a\"]\n[ceilings.limits]\nsteps = 30\n"),
        ("agents/a.toml", "tools = [\"lokup\", \"lookup\"]\n[model]\npolicy = \"standrad\"\n[limits]\nsteps = 31\n"),
        ("agents/b c.toml", MODEL),
        ("tools/lookup.toml", "kind = \"builtin\"\nbuiltin = \"now\"\n"),
    ];
    insta::assert_snapshot!(faults(&files), @r#"
agents/a.toml:1:10: no tool `lokup`
  1 | tools = ["lokup", "lookup"]
    |          ^^^^^^^
  help: did you mean `lookup`?

agents/a.toml:3:10: no policy `standrad`
  3 | policy = "standrad"
    |          ^^^^^^^^^^
  help: did you mean `standard`?

agents/a.toml:5:9: `steps` is 31, above the project's ceiling of 30
  5 | steps = 31
    |         ^^
  help: at most 30, set at plimsoll.toml:4

agents/b c.toml:1:1: `b c` is no name of an agent
  1 | [model]
    | ^
  help: rename the file: expected 1 to 64 letters, digits, `_` and `-`
"#);
}

#[test]
fn a_file_that_is_too_large_is_refused() {
    let large = format!("description = \"{}\"\n{MODEL}", "x".repeat(1024 * 1024));
    assert_eq!(
        faults(&[("agents/a.toml", &large)]),
        "agents/a.toml:1:1: the file is too large\n  help: at most 1,048,576 bytes"
    );
}

#[test]
fn no_fault_shows_a_secret() {
    let provider = "wire = \"openai-chat\"\nbase_url = \"https://host\"\n";
    let hush = "hush-hush-hush";
    for text in [
        format!("[project]\nstore = \"postgres://u:{hush}@host/x\"\n"),
        format!("[providers.a]\nwire = \"openai-chat\"\nbase_url = \"https://u:{hush}@host\"\n"),
        format!("[providers.a]\nwire = \"openai-chat\"\nbase_url = \"https://host/?k={hush}\"\n"),
        format!("[providers.a]\n{provider}key_env = \"{hush}\"\n"),
        format!("[providers.a]\n{provider}key = \"{hush}\"\n"),
        format!("[providers.a]\n{provider}api_key = \"{hush}\n"),
        format!("[providers.a]\n{provider}headers = {{ Authorization = \"{hush}\" }}\n"),
    ] {
        let folder = project(&[("plimsoll.toml", &text)]);
        let faults = survey_project(folder.path(), &options()).faults;
        assert!(!faults.is_empty(), "{text}");
        let shown = format!("{faults}{:?}", miette::Report::new(faults.clone()));
        assert!(!shown.contains("hush"), "{shown}");
    }
    let literal = format!(
        "kind = \"http\"\ndescription = \"d\"\nurl = \"https://host\"\nheaders = {{ Authorization = \"Bearer {hush}\" }}\n[input]\ntype = \"object\"\n"
    );
    let shown = faults(&[("tools/t.toml", &literal)]);
    assert!(shown.contains("the header `Authorization` holds a secret") && !shown.contains("hush"), "{shown}");
}

#[test]
fn what_a_model_is_known_to_refuse_is_told_before_it_costs() {
    let model = |model: &str, more: &str| format!("[model]\nmodels = [\"openai/gpt-5-mini\", \"{model}\"]\n{more}");
    let tool = ("tools/calculate.toml", "kind = \"builtin\"\nbuiltin = \"calculate\"\n");
    let told = |agent: &str, models: &str| faults(&[("plimsoll.toml", models), ("agents/a.toml", agent), tool]);
    let stated = |key: &str| format!("[[models]]\nmodel = \"x/y\"\n{key}\n");
    let sampling = model("anthropic/claude-opus-5-5", "temperature = 0\n");
    let reasoning = model("openai/gpt-4o-mini", "reasoning = \"low\"\n");
    let tools = format!("tools = [\"calculate\"]\n{}", model("x/y", ""));
    let stage = format!(
        "{}[[stage]]\nid = \"a\"\nkind = \"loop\"\nmodels = [\"gemini/gemini-3.8-flash\"]\n",
        "[model]\nmodels = [\"openai/gpt-5-mini\"]\ntemperature = 1\n"
    );
    let cases = [
        ("a temperature", told(&sampling, "")),
        ("reasoning", told(&reasoning, "")),
        ("tools", told(&tools, &stated("tools = false"))),
        ("a stage's own model", told(&stage, "")),
        ("words that are none", told(&model("x/y", ""), &stated("reasoning = \"sometimes\"\nimages = 1"))),
    ];
    let told_of: Vec<String> = cases.iter().map(|(what, told)| format!("## {what}\n{told}")).collect();
    insta::assert_snapshot!(told_of.join("\n\n"), @r#"
## a temperature
agents/a.toml:3:1: `anthropic/claude-opus-5-5` takes no `temperature`
  3 | temperature = 0
    | ^^^^^^^^^^^
  help: leave `temperature` out, or name another model; if it does take it, say `sampling = true` for it under `[[models]]`

## reasoning
agents/a.toml:3:1: `openai/gpt-4o-mini` takes no `reasoning`
  3 | reasoning = "low"
    | ^^^^^^^^^
  help: leave `reasoning` out, or name another model; if it does take it, say `reasoning = "asked"` for it under `[[models]]`

## tools
agents/a.toml:1:1: `x/y` calls no tools
  1 | tools = ["calculate"]
    | ^^^^^
  help: name another model; if it does call them, say `tools = true` for it under `[[models]]`

## a stage's own model
agents/a.toml:7:1: `gemini/gemini-3.8-flash` takes no `temperature`
  7 | models = ["gemini/gemini-3.8-flash"]
    | ^^^^^^
  help: leave `temperature` out, or name another model; if it does take it, say `sampling = true` for it under `[[models]]`

## words that are none
plimsoll.toml:3:13: `sometimes` is no value of `reasoning`
  3 | reasoning = "sometimes"
    |             ^^^^^^^^^^^
  help: expected one of `never`, `asked`, `always`

plimsoll.toml:4:10: `images` can't be a whole number
  4 | images = 1
    |          ^
  help: expected `true` or `false`
"#);
    let over = "[[models]]\nmodel = \"anthropic/claude-opus-5-5\"\nsampling = true\n";
    assert_eq!(told(&sampling, over), "", "the project's word stands over the book");
}

/// Everything that a price may have, and everything that is wrong with it, told at once.
#[test]
fn faults_of_prices_are_told_all_at_once() {
    let bad = r#"
[pricing]
warn_after = "90d"
refuse_after = "30d"
[[prices]]
model = "a/b"
input = "1"
output = "2"
long = { input = "2" }
service_tiers.flex = { input = "1" }
multipliers = { residency_eu = "1.1", moon = "2", speed_fast = "0.00001", inference_geo_us = "1.0001" }
fees = { web_search = "ten", moon = "$1", maps = "$5000" }
off_peak = [{ hours = ["22:00-06:00", "mon 01:00-03:00"], input = "1", output = "1" }, { hours = ["02:00-04:00"], input = "1", output = "1" }]
valid_from = 2026-11-02T00:00:00Z
valid_to = 2026-11-01T00:00:00Z
retrieved = "soon"
[[prices]]
model = "a/c"
input = "0.000001"
output = "2"
multipliers = { speed_fast = "1.1" }
valid_to = 2026-11-02T00:00:00Z
[[prices]]
model = "a/c"
input = "1"
output = "2"
valid_from = 2026-11-01T00:00:00Z
valid_to = 2026-11-03T00:00:00Z
[[prices]]
model = "a/c"
input = "1"
output = "2"
valid_from = 2026-11-04T00:00:00Z
"#;
    let told = configuration(bad);
    for said in [
        "`warn_after` is 90d, longer than `refuse_after`",
        "`above` is missing",
        "`output` is missing",
        "no factor `moon`",
        "`0.00001` is no factor",
        "no unit `moon`",
        "`ten` is no decimal amount",
        "`maps` is $5000.00",
        "`22:00-06:00` is no hours of a day",
        "`02:00-04:00` and `mon 01:00-03:00` have hours in common",
        "`valid_to` is 2026-11-01T00:00:00.000Z, not after `valid_from`",
        "`retrieved` is no day",
        "`speed_fast` doesn't leave whole pico-dollars of each rate",
        "`a/c` has two prices for the same time",
        "`a/c` has no price from 2026-11-03T00:00:00.000Z to 2026-11-04T00:00:00.000Z",
    ] {
        assert!(told.contains(said), "{said}: {told}");
    }
}

#[test]
fn a_price_may_have_all_that_a_provider_bills_by() {
    let good = r#"
[[prices]]
model = "a/b"
input = "1"
output = "2"
cache_write_long = "4"
cache_write = "3"
long = { above = 1_000, input = "2" }
service_tiers.flex = { input = "0.5", output = "1", long = { above = 1_000, output = "1.5" } }
multipliers = { residency_eu = "1.1" }
fees = { web_search = "$0.01" }
off_peak = [{ hours = ["mon-fri 16:30-24:00"], input = "0.5", output = "1" }]
valid_from = 2026-11-02T00:00:00Z
retrieved = "2026-11-01"
source = "a contract"
"#;
    let folder = project(&[("plimsoll.toml", good)]);
    let project = load_configuration(folder.path(), &options()).map_err(|faults| faults.to_string()).expect("no fault");
    let [row] = project.prices.as_slice() else { panic!("one price") };
    let usd = |rate: Option<plimsoll::units::TokenPrice>| rate.expect("a rate").usd_per_million();
    let long = row.price.long.as_ref().expect("long inputs");
    assert_eq!(
        (usd(Some(long.rates.input)), usd(Some(long.rates.output)), usd(long.rates.cache_write)),
        ("2".into(), "2".into(), "3".into())
    );
    assert_eq!(usd(row.price.rates.cache_read), "1", "as input");
    let flex = &row.service_tiers["flex"];
    assert_eq!(flex.rates.cache_read, None, "in another tier nobody knows");
    assert_eq!(usd(Some(flex.long.as_ref().expect("long inputs").rates.input)), "0.5");
    let off_peak = &row.off_peak[0].price;
    assert_eq!(off_peak.long.as_ref().expect("every length").rates, off_peak.rates);
    assert_eq!((row.source.as_str(), row.retrieved.as_str()), ("a contract", "2026-11-01"));
    assert!(row.id.as_str().starts_with("a/b@2026-11-01#"), "{}", row.id);
}
