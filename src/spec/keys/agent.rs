//! The keys of `agents/*.toml`.

use super::stage::STAGE;
use super::{AGENT_LIMITS, COUNT_MAX, Field, Kind, Section, TIME_MAX, TOKENS_MAX, optional};
use crate::domain::message::FILES_MAX;
use crate::domain::policy::Priority;
use crate::units::Millis;

/// The most models that a policy or an agent may name.
pub(crate) const MODELS_MAX: usize = 16;
/// The most tools that an agent may name.
pub(crate) const TOOLS_MAX: usize = 128;

/// Who takes over what a content filter or a refusal stopped; of an agent, or of a policy.
pub(crate) const CONTENT_FILTER_FALLBACKS: Field = optional(
    "content_filter_fallbacks",
    Kind::Texts { min: 0, max: MODELS_MAX },
    "Models that may take over what a content filter or a refusal stopped; nobody does by default",
);

/// Who takes over where a request was too long; of an agent, or of a policy.
pub(crate) const CONTEXT_FALLBACKS: Field = optional(
    "context_fallbacks",
    Kind::Texts { min: 0, max: MODELS_MAX },
    "Models that take over where a request was too long, after those of `models` with a larger window; none by default",
);

/// `agents/*.toml`.
pub(crate) static AGENT: Section = Section {
    doc: "An agent: model policy, prompt, tools, limits and context budget",
    fields: &[
        optional("description", Kind::AnyText, "One line for lists"),
        optional("owner", Kind::Text, "Who decides on model, prompt, caching and budget changes; a label of its runs"),
        optional("feature", Kind::Text, "The product feature that the agent serves; a label of its runs"),
        optional("unit", Kind::Text, "What the business counts, such as `resolved_support_case`"),
        optional(
            "tools",
            Kind::Texts { min: 0, max: TOOLS_MAX },
            "Tools that the model may call: names of `tools/*.toml`",
        ),
        optional(
            "agents",
            Kind::Texts { min: 0, max: TOOLS_MAX },
            "Agents that the model may call as tools: names of `agents/*.toml`",
        ),
        super::required("model", Kind::Table(&MODEL), "Which models are approved, and how they are asked"),
        optional("prompt", Kind::Table(&PROMPT), "The prompt: templates (minijinja, strict) over `input`"),
        optional("input", Kind::JsonSchema, "JSON Schema of the input; without it the input is plain text"),
        optional(
            "output",
            Kind::JsonSchema,
            "JSON Schema of the answer, without it plain text; `from` names the stage that gives it",
        ),
        optional(
            "outcome",
            Kind::Table(&OUTCOME),
            "Rules that say what a run that finished was worth, from its output",
        ),
        optional("limits", Kind::Table(&AGENT_LIMITS), "Limits of one run"),
        optional("retry", Kind::Table(&RETRY), "How one step is tried again"),
        optional("context", Kind::Table(&CONTEXT), "The token budget of one request"),
        optional(
            "stage",
            Kind::Tables(&STAGE),
            "Stages of a workflow, in parallel where none needs the other; without any the agent is one loop",
        ),
        optional(
            "files",
            Kind::Texts { min: 0, max: FILES_MAX },
            "Images and PDFs that go with every input, such as a picture to compare with: relative to the project or to this file",
        ),
        optional("documents", Kind::Table(&DOCUMENTS), "Documents that go with the input, the best first"),
        optional(
            "cache",
            Kind::Table(&CACHE),
            "Keep the answers of an agent without stages, and give them again to the same request; off by default",
        ),
        optional(
            "priority",
            Kind::Choice { now: &Priority::NAMES, later: &[] },
            "How much its runs matter, unless the caller says: low, normal (the default) or high; a label of its runs",
        ),
    ],
};

/// `[cache]` of an agent without stages, and of a stage.
pub(crate) static CACHE: Section = Section {
    doc: "Answers that are kept and given again to exactly the same request, without a call",
    fields: &[
        super::required(
            "ttl",
            Kind::Duration { min: Millis::from_secs(1), max: TIME_MAX },
            "How long an answer is given again, such as `\"1h\"`",
        ),
        optional(
            "share",
            Kind::Boolean,
            "Give it to runs of every tenant; by default each value of the label `tenant` has answers of its own",
        ),
    ],
};

/// A provider's own search; of an agent, or of a stage.
pub(crate) const WEB_SEARCH_KEY: Field = optional(
    "web_search",
    Kind::Table(&WEB_SEARCH),
    "Let the provider search the web by itself: Anthropic's, and OpenAI's by Responses; not at all by default",
);

/// The most searches of one call.
const SEARCHES_MAX: u64 = 20;

static WEB_SEARCH: Section = Section {
    doc: "A provider's own search of the web, offered to the model within a maximum",
    fields: &[super::required(
        "max_uses",
        Kind::Count { min: 1, max: SEARCHES_MAX },
        "The most searches of one call. Each may be charged the model's whole window again, and so much is set aside",
    )],
};

static MODEL: Section = Section {
    doc: "Which models are approved, in what order, and how they are asked",
    fields: &[
        optional("policy", Kind::Text, "A policy of `plimsoll.toml`; or name `models`, or a `quality`"),
        optional(
            "quality",
            Kind::Text,
            "A tier of quality: the lowest policy of `plimsoll.toml` that is good enough is taken",
        ),
        optional(
            "models",
            Kind::Texts { min: 1, max: MODELS_MAX },
            "Models as `provider/model`: the first is primary, the rest are fallbacks; or name a `policy`",
        ),
        CONTENT_FILTER_FALLBACKS,
        CONTEXT_FALLBACKS,
        optional(
            "max_output_tokens",
            Kind::Count { min: 1, max: COUNT_MAX },
            "Output cap of one call, reasoning included; 2,048 by default",
        ),
        optional(
            "min_output_tokens",
            Kind::Count { min: 1, max: COUNT_MAX },
            "As far as a nearly empty budget lowers the cap; 256 by default, or `max_output_tokens` if smaller",
        ),
        optional("temperature", Kind::Number { max: 2 }, "Sampling temperature, 0 to 2"),
        optional("reasoning", Kind::Text, "Reasoning effort, such as `low`"),
        optional("seed", Kind::Integer, "Sampling seed, where the provider takes one"),
        optional("stop", Kind::Texts { min: 0, max: 16 }, "Texts at which the model stops"),
        WEB_SEARCH_KEY,
        optional("stream", Kind::Boolean, "Stream from the provider; true by default"),
        optional("extra", Kind::Json, "Fields for compatible servers, passed as they are"),
    ],
};

pub(crate) static PROMPT: Section = Section {
    doc: "The prompt: templates (minijinja, strict) over `input`",
    fields: &[
        optional("version", Kind::Text, "A name of this version; the text is hashed anyway"),
        optional("system", Kind::AnyText, "The system text; or name `system_file`"),
        optional("system_file", Kind::Text, "File of the system text, relative to the project or to this file"),
        optional("user", Kind::Text, "The user text; by default the input"),
        optional("user_file", Kind::Text, "File of the user text, relative to the project or to this file"),
    ],
};

static OUTCOME: Section = Section {
    doc: "What a run that finished was worth: expressions over `output`, `input` and `labels`; one that gives `none` says nothing",
    fields: &[
        optional(
            "units",
            Kind::Text,
            "How many units: true (1), false (0) or a whole number, such as `output.resolved`",
        ),
        optional("quality", Kind::Text, "How good, from 0 to 1, such as `output.confidence`; its source is `metric`"),
        optional(
            "revenue",
            Kind::Text,
            "What it brought in, in USD, such as `'0.99' if output.resolved else '0'`; never negative",
        ),
    ],
};

static RETRY: Section = Section {
    doc: "How one step is tried again",
    fields: &[
        optional(
            "attempts",
            Kind::Count { min: 1, max: 20 },
            "Tries of one step, retries and fallbacks together; 3 by default",
        ),
        optional(
            "backoff",
            Kind::Durations { max: Millis::from_secs(3_600) },
            "Shortest and longest pause, `200ms..5s` by default",
        ),
        optional(
            "retry_after",
            Kind::Duration { min: Millis::ZERO, max: TIME_MAX },
            "The longest retry-after that is honoured; 20s by default",
        ),
    ],
};

static CONTEXT: Section = Section {
    doc: "The token budget of one request; what the pots leave goes to instructions",
    fields: &[
        optional("tokens", Kind::Count { min: 256, max: TOKENS_MAX }, "Tokens of one request; 32,000 by default"),
        optional(
            "history",
            Kind::Count { min: 0, max: TOKENS_MAX },
            "Tokens of earlier turns; half of `tokens` by default",
        ),
        optional(
            "tool_output",
            Kind::Count { min: 0, max: TOKENS_MAX },
            "Tokens of all tool results of one request together; a quarter of `tokens` by default",
        ),
        optional(
            "documents",
            Kind::Count { min: 0, max: TOKENS_MAX },
            "Tokens of documents; a quarter of `tokens` by default where there is `[documents]`",
        ),
        optional(
            "cache",
            Kind::Choice { now: &["auto", "on", "off"], later: &[] },
            "Whether providers are asked to keep the beginning of a request: `auto` (where it pays within a run, the default), `on` or `off`",
        ),
        optional(
            "cache_ttl",
            Kind::Choice { now: &["short", "long"], later: &[] },
            "How long they keep it: `short` (minutes, the default) or `long` (an hour and more, at a dearer write)",
        ),
        optional(
            "count",
            Kind::Choice { now: &["own", "provider"], later: &[] },
            "Who counts a request before its money is set aside: `own` (the runtime, the default) or `provider` (it is asked too, where that is free; its count can raise what is set aside, and never lowers it)",
        ),
        optional(
            "overflow",
            Kind::Choice { now: &["trim", "summarise", "refuse"], later: &[] },
            "What to do with what doesn't fit: `trim` (the default), `summarise` or `refuse`",
        ),
        optional(
            "summary_model",
            Kind::Text,
            "Who sums up, with `summarise`; by default the last model of the policy's `downgrade`, else the agent's own",
        ),
    ],
};

/// The most patterns of documents.
const PATTERNS_MAX: usize = 64;

static DOCUMENTS: Section = Section {
    doc: "Documents that go with the input: cut into pieces, ranked against the user text, the best sent",
    fields: &[super::required(
        "from",
        Kind::TextsOrText { max: PATTERNS_MAX },
        "Patterns of files below the project's folder, such as `[\"docs/**/*.md\"]`; or an expression that gives texts, such as `\"input.documents\"`",
    )],
};
