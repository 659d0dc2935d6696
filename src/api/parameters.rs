//! What stands behind the `?` of a path, in headers and in paths: one description each, for messages and for the document.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use crate::domain::audit::Change;
use crate::domain::event::RunState;
use crate::domain::report::Dimension;
use crate::domain::report::focus::FocusVersion;
use crate::store::RUNS_MAX;

/// Describes something, with what it names.
pub(super) type Describe = fn(&mut SchemaGenerator) -> Schema;

/// One parameter.
#[derive(Clone, Copy)]
pub(super) struct Parameter {
    pub(super) name: &'static str,
    /// What it says.
    pub(super) says: &'static str,
    /// A value that is taken.
    pub(super) example: &'static str,
    schema: Describe,
    /// True where it may stand several times.
    pub(super) repeats: bool,
}

impl Parameter {
    const fn new(name: &'static str, schema: Describe, example: &'static str) -> Self {
        Self { name, says: "", example, schema, repeats: false }
    }

    const fn says(self, says: &'static str) -> Self {
        Self { says, ..self }
    }

    const fn repeats(self) -> Self {
        Self { repeats: true, ..self }
    }

    /// Its schema: a list where it may stand several times.
    pub(super) fn schema(&self, generator: &mut SchemaGenerator) -> Schema {
        let one = (self.schema)(generator);
        if self.repeats { json_schema!({ "type": "array", "items": one }) } else { one }
    }
}

/// The parameters that a path takes, in groups that paths share.
pub(super) type Parameters = &'static [&'static [Parameter]];

/// Their names, for messages.
pub(super) fn names(parameters: Parameters) -> String {
    let names: Vec<&str> = parameters.iter().copied().flatten().map(|parameter| parameter.name).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

fn text(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string" })
}

fn truth(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "boolean" })
}

fn time(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "format": "date-time" })
}

fn amount(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "pattern": r"^[0-9]{1,9}(\.[0-9]{1,12})?$" })
}

fn length(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "pattern": "^[0-9]{1,6}(ms|s|m)$" })
}

fn pair(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "pattern": "^[^=]+=" })
}

fn count(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "integer", "minimum": 1, "maximum": RUNS_MAX })
}

fn number(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "integer", "minimum": 0 })
}

fn event(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "integer", "minimum": 0, "maximum": u32::MAX })
}

fn id(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "pattern": "^[0-7][0-9A-HJKMNP-TV-Z]{25}$" })
}

fn of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

fn kinds(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "enum": Change::KINDS })
}

fn dimension_value(_: &mut SchemaGenerator) -> Schema {
    let names = Dimension::ALL.map(Dimension::name).join("|");
    json_schema!({ "type": "string", "pattern": format!("^({names})=") })
}

fn previous(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "const": "previous" })
}

fn focus_version(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "enum": FocusVersion::ALL.map(FocusVersion::name) })
}

fn exported(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "enum": ["runs", "events", "focus"] })
}

fn version(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "integer", "const": super::API_VERSION })
}

fn caller_key(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "minLength": 1, "maxLength": super::KEY_CHARS_MAX, "pattern": "^[ -~]*$" })
}

const TIME: &str = "2026-11-30T09:00:00Z";
const RUN: &str = "01KATA0Q5XV3R8K2M4N6P7S9T0";
const SINCE: Parameter = Parameter::new("since", time, TIME);
const UNTIL: Parameter = Parameter::new("until", time, TIME);
const LIMIT: Parameter =
    Parameter::new("limit", count, "50").says("How many a page has at most; 50 where it is left out.");

/// Which runs.
pub(super) const CHOICES: &[Parameter] = &[
    Parameter::new("agent", text, "support").says("Only runs of this agent."),
    Parameter::new("state", of::<RunState>, "running").says("Only runs in one of these states.").repeats(),
    Parameter::new("label", pair, "tenant=acme").says("Only runs with all of these labels.").repeats(),
    SINCE.says("Only runs that were created from then on."),
    UNTIL.says("Only runs that were created before then."),
    Parameter::new("cost_min", amount, "0.05").says("Only runs that cost as much, in USD."),
    Parameter::new("cost_max", amount, "1").says("Only runs that cost no more, in USD."),
];

/// `GET /v1/runs`.
pub(super) const RUNS: Parameters = &[
    CHOICES,
    &[
        Parameter::new("before", id, RUN)
            .says("Only runs that are older than this one: the `next` of the page before."),
        Parameter::new("roots", truth, "true").says("True to leave sub-agents' runs out."),
        LIMIT,
    ],
];

/// `GET /v1/export/{what}`.
pub(super) const EXPORT: Parameters = &[
    CHOICES,
    &[
        Parameter::new("run", text, "last").says("Only this run: its id, the beginning of one, or `last`."),
        Parameter::new("after", id, RUN).says("Goes on behind this run: the `plimsoll-next` of the page before."),
        Parameter::new("spec", focus_version, "1.2").says("The version of FOCUS, for `focus` only."),
        Parameter::new("daily", truth, "true").says("True for rows of days instead of attempts, for `focus` only."),
    ],
];

/// `GET /v1/costs`.
pub(super) const COSTS: Parameters = &[&[
    Parameter::new("by", of::<Dimension>, "model")
        .says("What to group by; agent and model where it is left out.")
        .repeats(),
    SINCE.says("From this one's day on; 30 days ago where it is left out."),
    UNTIL.says("Up to this one's day, included."),
    Parameter::new("only", dimension_value, "feature=support").says("Only what has these values.").repeats(),
    Parameter::new("against", previous, "previous").says("Beside as many days right before; not by `day`."),
]];

/// `GET /v1/audit`.
pub(super) const AUDIT: Parameters = &[&[
    SINCE.says("Only entries from then on."),
    UNTIL.says("Only entries before then."),
    Parameter::new("kind", kinds, "key_made").says("Only entries of these kinds.").repeats(),
    Parameter::new("who", text, "ann").says("Only what this one did; `ledger` is the ledger itself."),
    Parameter::new("before", number, "77").says("Only entries with smaller numbers: the `next` of the page before."),
    LIMIT,
]];

/// `GET /v1/runs/{run}`.
pub(super) const WAIT: Parameters = &[&[Parameter::new("wait", length, "20s")
    .says("How long to wait until nobody drives the run any more, at most 20 s; no time where it is left out.")]];

/// `GET /v1/runs/{run}/events`.
pub(super) const EVENTS: Parameters =
    &[&[Parameter::new("after", event, "7").says("Only events with larger numbers, as `Last-Event-ID` says it too.")]];

/// `GET /v1/budgets/{budget}/days`.
pub(super) const SCOPE: Parameters = &[&[
    Parameter::new("scope", text, "").says("Which account, as `tenant=acme`; empty where the budget has one only.")
]];

/// No parameters.
pub(super) const NONE: Parameters = &[];

/// The header of [`EVENTS`].
pub(super) const LAST_EVENT: Parameter = Parameter::new(super::router::LAST_EVENT_HEADER, event, "7")
    .says("The last event that the caller has: the stream goes on behind it. Browsers send it by themselves.");

/// The header with which a request may be sent twice.
pub(super) const KEY: Parameter = Parameter::new(super::router::KEY_HEADER, caller_key, "order-7")
    .says("The caller's own key: the same request with it gives the same run, however often it is sent, and another is refused.");

/// The header that says for which version the caller was written.
pub(super) const VERSION: Parameter = Parameter::new(super::VERSION_HEADER, version, "1")
    .says("The version of this API that the caller speaks; another one is refused. Who says nothing is answered.");

/// What stands in braces in a path.
pub(super) const IN_PATHS: [Parameter; 6] = [
    Parameter::new("budget", text, "all-time").says("A budget's name."),
    Parameter::new("run", text, RUN).says("A run's id, the beginning of one that fits no other, or `last`."),
    Parameter::new("key", text, "a1b2c3d4e5f6").says("A key's id, as `GET /v1/keys` gives it."),
    Parameter::new("alert", number, "7").says("An alert's number, as `GET /v1/alerts` gives it."),
    Parameter::new("exception", number, "7").says("An exception's number, as `GET /v1/budgets/exceptions` gives it."),
    Parameter::new("what", exported, "runs")
        .says("What is written: runs or events as JSON Lines, or settled money as FOCUS."),
];
