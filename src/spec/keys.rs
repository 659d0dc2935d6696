//! The keys that a file may have: one description, from which the reader and the JSON Schemas both come.
//!
//! Invariant: a key that is not described here is refused, and one that is described is read.

pub(crate) mod agent;
pub(crate) mod price;
pub(crate) mod project;
pub(crate) mod stage;
pub(crate) mod tool;

use crate::units::Millis;

/// A table and its keys.
#[derive(Debug)]
pub(crate) struct Section {
    /// What the table is, for people.
    pub(crate) doc: &'static str,
    /// Its keys.
    pub(crate) fields: &'static [Field],
}

impl Section {
    /// The description of a key.
    pub(crate) fn field(&self, key: &str) -> Option<&'static Field> {
        self.fields.iter().find(|field| field.key == key)
    }
}

/// A key.
#[derive(Debug)]
pub(crate) struct Field {
    /// Its name.
    pub(crate) key: &'static str,
    /// What it takes.
    pub(crate) kind: Kind,
    /// True where it must be there.
    pub(crate) required: bool,
    /// What it is, for people.
    pub(crate) doc: &'static str,
}

/// A key that may be left out.
pub(crate) const fn optional(key: &'static str, kind: Kind, doc: &'static str) -> Field {
    Field { key, kind, required: false, doc }
}

/// A key that must be there.
pub(crate) const fn required(key: &'static str, kind: Kind, doc: &'static str) -> Field {
    Field { key, kind, required: true, doc }
}

/// What a key takes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// A text that isn't empty.
    Text,
    /// A text that may be empty.
    AnyText,
    /// One of some words; `later` are words that a later version brings.
    Choice { now: &'static [&'static str], later: &'static [&'static str] },
    /// A list of texts.
    Texts { min: usize, max: usize },
    /// A list of texts, or one text.
    TextsOrText { max: usize },
    /// True or false.
    Boolean,
    /// A whole number.
    Count { min: u64, max: u64 },
    /// A whole number of either sign.
    Integer,
    /// A number with or without a point, at least 0.
    Number { max: u32 },
    /// Dollars, as text.
    Money,
    /// Dollars for 1,000,000 tokens, as text.
    Price,
    /// A length of time, as text.
    Duration { min: Millis, max: Millis },
    /// A shortest and a longest length of time: `"200ms..5s"`.
    Durations { max: Millis },
    /// A point in time.
    Instant,
    /// A table.
    Table(&'static Section),
    /// A list of tables: `[[name]]`.
    Tables(&'static Section),
    /// Tables by name: `[key.NAME]`.
    TablesByName(&'static Section),
    /// Texts by name.
    TextsByName,
    /// A JSON Schema, written as a table.
    JsonSchema,
    /// Any table, passed on as JSON.
    Json,
    /// Any table or text, passed on as JSON.
    Value,
    /// A key that is set in another place; says where.
    Elsewhere(&'static str),
}

/// The longest length of time that a file may name: a year.
pub(crate) const TIME_MAX: Millis = Millis::from_secs(366 * 86_400);
/// The largest count that a limit may have.
pub(crate) const COUNT_MAX: u64 = 1_000_000;
/// The largest count of tokens that a key may have.
pub(crate) const TOKENS_MAX: u64 = 100_000_000;

const fn count(key: &'static str, min: u64, doc: &'static str) -> Field {
    optional(key, Kind::Count { min, max: COUNT_MAX }, doc)
}

const fn tokens(key: &'static str, doc: &'static str) -> Field {
    optional(key, Kind::Count { min: 1, max: TOKENS_MAX }, doc)
}

const fn time(key: &'static str, doc: &'static str) -> Field {
    optional(key, Kind::Duration { min: Millis(1), max: TIME_MAX }, doc)
}

/// Every limit that a file can set (DESIGN §5), by the names of [`crate::domain::limits::LimitKind`].
pub(crate) const LIMITS: [Field; 24] = [
    count("steps", 1, "Model and tool calls of one run; 20 by default"),
    count("model_calls", 1, "Model calls of one run; 20 by default"),
    count("tool_calls", 0, "Tool calls of one run; 40 by default"),
    count("attempts", 1, "Tries of model calls over the run, retries and fallbacks included; 40 by default"),
    count("repeats", 1, "Calls of one tool with the same arguments; 3 by default"),
    count("tool_errors", 1, "Tool errors in a row; 3 by default"),
    optional("parallel", Kind::Count { min: 1, max: 256 }, "Calls of one run at once; 4 by default"),
    optional("depth", Kind::Count { min: 0, max: 64 }, "Depth of sub-agents; 3 by default"),
    count("children", 0, "Sub-agents of one run; 16 by default"),
    count("items", 1, "Items of a map stage; 100 by default"),
    optional(
        "landing_tokens",
        Kind::Count { min: 1, max: COUNT_MAX },
        "Tokens of conversation that the landing call may carry; 4,000 by default",
    ),
    optional(
        "landing_output_tokens",
        Kind::Count { min: 1, max: COUNT_MAX },
        "Output tokens of the landing call; 512 by default, or `max_output_tokens` if smaller",
    ),
    optional("cost", Kind::Money, "Dollars of one run; $0.25 by default"),
    tokens("tokens", "Input and output tokens of one run; off by default"),
    tokens("input_tokens", "Input tokens of one run; off by default"),
    tokens("output_tokens", "Output tokens of one run; off by default"),
    time("wall_time", "Active time of one run; 5m by default"),
    time("model_call_time", "Time of one model call; 60s by default"),
    time("first_token_time", "Time to the first token of one model call; 30s by default"),
    time("tool_call_time", "Time of one tool call; 30s by default"),
    optional(
        "budget_wait",
        Kind::Duration { min: Millis::ZERO, max: TIME_MAX },
        "Time of one wait for budget; 30s by default",
    ),
    optional("deadline", Kind::Instant, "An absolute end; off by default"),
    optional(
        "output_bytes",
        Kind::Count { min: 1, max: 64 * 1024 * 1024 },
        "Bytes that one tool call may give; 65,536 by default",
    ),
    time("expires", "Time of a wait for a person; 7d by default"),
];

/// `at_limit`, beside the limits.
pub(crate) const AT_LIMIT: Field = optional(
    "at_limit",
    Kind::Choice { now: &["land", "stop"], later: &[] },
    "What a run does at a limit: `land` (one last answer inside it, the default) or `stop` (at once)",
);

/// `expected_cost`, beside the limits.
pub(crate) const EXPECTED_COST: Field = optional(
    "expected_cost",
    Kind::Money,
    "What one run is expected to cost; decides only who starts when a budget is nearly empty",
);

/// Two lists of keys as one.
const fn join<const A: usize, const B: usize, const N: usize>(first: [Field; A], second: [Field; B]) -> [Field; N] {
    assert!(A + B == N);
    let mut fields = [EXPECTED_COST; N];
    let mut index = 0;
    while index < N {
        let Field { key, kind, required, doc } = if index < A { &first[index] } else { &second[index - A] };
        fields[index] = Field { key, kind: *kind, required: *required, doc };
        index += 1;
    }
    fields
}

/// `[limits]` of an agent, and `[defaults.limits]`.
pub(crate) static AGENT_LIMITS: Section = Section {
    doc: "Limits of one run, all checked before each call",
    fields: &join::<24, 2, 26>(LIMITS, [AT_LIMIT, EXPECTED_COST]),
};

/// A file of limits that a run is told again under.
pub(crate) static STATED_LIMITS: Section = Section {
    doc: "Limits to tell a run again under",
    fields: &[optional("limits", Kind::Table(&AGENT_LIMITS), "Limits of one run")],
};

/// `[ceilings.limits]`.
pub(crate) static CEILING_LIMITS: Section = Section { doc: "What no agent's limit may exceed", fields: &LIMITS };
