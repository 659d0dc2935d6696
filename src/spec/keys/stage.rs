//! The keys of `[[stage]]` and of `[stage.each]`, and which kind of stage has which.

use super::agent::{CACHE, CONTENT_FILTER_FALLBACKS, CONTEXT_FALLBACKS, MODELS_MAX, PROMPT, TOOLS_MAX, WEB_SEARCH_KEY};
use super::{COUNT_MAX, Field, Kind, LIMITS, Section, join, optional, required};

/// The most stages of an agent.
pub(crate) const STAGES_MAX: usize = 64;

/// `[[stage]]`.
pub(crate) static STAGE: Section =
    Section { doc: "A stage of the workflow", fields: &join::<10, 24, 34>(OF_STAGE, OF_WORK) };

/// `[stage.each]`.
pub(crate) static EACH: Section =
    Section { doc: "What a `map` does with one item", fields: &join::<2, 24, 26>(OF_EACH, OF_WORK) };

/// `limits` of a stage.
static STAGE_LIMITS: Section =
    Section { doc: "Limits of the stage, inside the agent's", fields: &join::<24, 2, 26>(stage_limits(), OF_RUNS) };

/// The keys that only some kinds of stage have, and those kinds.
pub(crate) const KEYS_OF_KINDS: [(&str, &[&str]); 28] = [
    ("policy", TALKING),
    ("quality", TALKING),
    ("cache", TALKING),
    ("models", TALKING),
    ("content_filter_fallbacks", TALKING),
    ("context_fallbacks", TALKING),
    ("max_output_tokens", TALKING),
    ("min_output_tokens", TALKING),
    ("temperature", TALKING),
    ("reasoning", TALKING),
    ("seed", TALKING),
    ("stop", TALKING),
    ("stream", TALKING),
    ("web_search", TALKING),
    ("extra", TALKING),
    ("prompt", TALKING),
    ("history", TALKING),
    ("tools", &["loop"]),
    ("agents", &["loop"]),
    ("output", &["model", "loop", "tool"]),
    ("tool", &["tool"]),
    ("args", &["tool"]),
    ("agent", &["agent"]),
    ("input", &["agent"]),
    ("over", &["map"]),
    ("each", &["map"]),
    ("ask", &["approval"]),
    ("show", &["approval"]),
];

/// The keys that a kind of stage can't do without.
pub(crate) const KEYS_NEEDED: [(&str, &str, &str); 6] = [
    ("tool", "tool", "name a tool of `tools/*.toml`"),
    ("agent", "agent", "name an agent of `agents/*.toml`"),
    ("agent", "input", "write what the agent gets, such as `input = \"{{ input }}\"`"),
    ("map", "over", "an expression that gives a list, such as `over = \"input.items\"`"),
    ("map", "each", "say under `[stage.each]` what is done with one item"),
    ("approval", "ask", "write the question, such as `ask = \"Send this?\"`"),
];

/// The kinds that ask a model.
const TALKING: &[&str] = &["model", "loop"];

const ON_ERROR: Kind = Kind::Choice { now: &["fail", "continue"], later: &[] };

const OF_STAGE: [Field; 10] = [
    required("id", Kind::Text, "Its name, for `needs`, for templates (`stages.ID.output`) and for traces"),
    required(
        "kind",
        Kind::Choice { now: &["model", "loop", "tool", "map", "approval", "agent"], later: &[] },
        "What it does: `model` (one call, without tools), `loop` (calls and tools in turn), `tool` (one call of a tool), `map` (the same for each item of a list), `approval` (asks a person) or `agent` (runs another agent)",
    ),
    optional("needs", Kind::Texts { min: 0, max: STAGES_MAX }, "The stages that must be over before it"),
    optional("when", Kind::Text, "An expression, without braces; where it is false the stage is skipped"),
    optional(
        "on_error",
        ON_ERROR,
        "What its failure means: `fail` (the run fails, the default) or `continue` (its output is null)",
    ),
    optional("limits", Kind::Table(&STAGE_LIMITS), "Its own limits; each inside the agent's"),
    optional("over", Kind::Text, "An expression, without braces, that gives the list of a `map`"),
    optional("each", Kind::Table(&EACH), "What a `map` does with one item: `item` and its `index`, from 0"),
    optional("ask", Kind::Text, "The question of an `approval`: a template"),
    optional(
        "show",
        Kind::Text,
        "An expression, without braces: what is approved, and may be edited; nothing by default",
    ),
];

const OF_EACH: [Field; 2] = [
    required(
        "kind",
        Kind::Choice { now: &["model", "loop", "tool", "agent"], later: &[] },
        "What is done with one item: `model`, `loop`, `tool` or `agent`",
    ),
    optional(
        "on_error",
        ON_ERROR,
        "What one item's failure means: `fail` (the stage fails, the default) or `continue` (null in its place)",
    ),
];

/// The keys of the work itself: of a stage, or of one item.
const OF_WORK: [Field; 24] = [
    optional(
        "policy",
        Kind::Text,
        "A policy of `plimsoll.toml`, instead of the agent's models; or name `models`, or a `quality`",
    ),
    optional(
        "cache",
        Kind::Table(&CACHE),
        "Keep its answers, and give them again to the same request: the agent's `[cache]` holds for none of a workflow's stages",
    ),
    optional("quality", Kind::Text, "A tier of quality: the lowest policy that is good enough is taken"),
    optional(
        "models",
        Kind::Texts { min: 1, max: MODELS_MAX },
        "Models as `provider/model`, instead of the agent's: the first is primary, the rest are fallbacks",
    ),
    CONTENT_FILTER_FALLBACKS,
    CONTEXT_FALLBACKS,
    optional(
        "max_output_tokens",
        Kind::Count { min: 1, max: COUNT_MAX },
        "Output cap of one call, reasoning included; the agent's by default",
    ),
    optional(
        "min_output_tokens",
        Kind::Count { min: 1, max: COUNT_MAX },
        "As far as a nearly empty budget lowers the cap; the agent's by default",
    ),
    optional("temperature", Kind::Number { max: 2 }, "Sampling temperature, 0 to 2; the agent's by default"),
    optional("reasoning", Kind::Text, "Reasoning effort, such as `low`; the agent's by default"),
    optional("seed", Kind::Integer, "Sampling seed; the agent's by default"),
    optional("stop", Kind::Texts { min: 0, max: 16 }, "Texts at which the model stops; the agent's by default"),
    optional("stream", Kind::Boolean, "Stream from the provider; as the agent does by default"),
    WEB_SEARCH_KEY,
    optional("extra", Kind::Json, "Fields for compatible servers, instead of the agent's"),
    optional("prompt", Kind::Table(&PROMPT), "Its prompt; what is left out is the agent's"),
    optional(
        "history",
        Kind::Boolean,
        "Its calls carry what was said in the run's thread before (`run --thread`): true by default, false for the items of a `map`",
    ),
    optional(
        "tools",
        Kind::Texts { min: 0, max: TOOLS_MAX },
        "Tools of a `loop`; one with neither `tools` nor `agents` has the agent's own of both",
    ),
    optional(
        "agents",
        Kind::Texts { min: 0, max: TOOLS_MAX },
        "Agents that a `loop` may call as tools: names of `agents/*.toml`",
    ),
    optional(
        "output",
        Kind::JsonSchema,
        "JSON Schema of what a `model`, `loop` or `tool` gives; without it that is plain text",
    ),
    optional("tool", Kind::Text, "The tool that is called: a name of `tools/*.toml`"),
    optional(
        "args",
        Kind::Json,
        "The tool's arguments; texts are templates, and one that is only `{{ … }}` keeps its value's type",
    ),
    optional("agent", Kind::Text, "The agent that is run: a name of `agents/*.toml`"),
    optional(
        "input",
        Kind::Value,
        "The agent's input: a text, or a table; texts are templates, and one that is only `{{ … }}` keeps its value's type",
    ),
];

/// Why a stage can't set a limit: it is of the whole run, or of a tree of runs.
const OF_THE_RUN: &str = "it is a limit of the whole run: set it under `[limits]`";

const OF_RUNS: [Field; 2] = [
    optional("at_limit", Kind::Elsewhere(OF_THE_RUN), "Of the run"),
    optional("expected_cost", Kind::Elsewhere(OF_THE_RUN), "Of the run"),
];

/// The limits that only a run has.
const RUN_ONLY: [&str; 5] = ["depth", "landing_tokens", "landing_output_tokens", "budget_wait", "deadline"];

/// The limits of an agent, without the defaults in their words; those that a stage can't set say so.
const fn stage_limits() -> [Field; 24] {
    let mut fields = LIMITS;
    let mut index = 0;
    while index < fields.len() {
        let mut other = 0;
        while other < RUN_ONLY.len() {
            if same(fields[index].key, RUN_ONLY[other]) {
                fields[index].kind = Kind::Elsewhere(OF_THE_RUN);
            }
            other += 1;
        }
        index += 1;
    }
    fields
}

const fn same(one: &str, other: &str) -> bool {
    let (one, other) = (one.as_bytes(), other.as_bytes());
    if one.len() != other.len() {
        return false;
    }
    let mut index = 0;
    while index < one.len() {
        if one[index] != other[index] {
            return false;
        }
        index += 1;
    }
    true
}
