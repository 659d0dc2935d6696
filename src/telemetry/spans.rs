//! Spans by OpenTelemetry's GenAI conventions: `invoke_agent`, `chat` for each attempt, `execute_tool`, and our own for
//! stages and for what a run was worth. The conventions are in development; `names.rs` knows which names they changed.
//!
//! A trace's id is its root run's, so that one finds the other. The conventions have no cost: ours is under `plimsoll.`.
//! An id is sent once: what is left has one of its own below the span that tells it once it is over.

mod attempt;

use std::borrow::Cow;
use std::time::SystemTime;

use opentelemetry::trace::{Event, SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{Array, InstrumentationScope, KeyValue, StringValue, Value};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};
use sha2::{Digest as _, Sha256};

pub(super) use attempt::attempt;

use super::export::ExportOptions;
use super::names;
use super::{QualityTold, RunTold, StageTold, Who};
use crate::domain::event::{EndState, Place, RunState, StageEnd, THREAD};
use crate::ids::RunId;
use crate::spec::project::GenAiNames;
use crate::units::{Money, Timestamp};

/// The most bytes of a text that is sent where content is.
const CONTENT_BYTES_MAX: usize = 16 * 1024;
/// What a score is a score of.
const QUALITY: &str = "quality";

/// Who says it.
pub(super) fn scope(names: GenAiNames) -> InstrumentationScope {
    InstrumentationScope::builder("plimsoll")
        .with_version(env!("CARGO_PKG_VERSION"))
        .with_schema_url(names::schema_url(names))
        .build()
}

/// A stage, or an item of a map.
pub(super) fn stage(told: &StageTold<'_>, options: &ExportOptions) -> SpanData {
    let (who, place) = (told.who, told.place);
    let mut add = Attributes::of(who);
    add.text("plimsoll.stage", place.stage.to_string());
    place.item.iter().for_each(|item| add.number("plimsoll.item", u64::from(*item)));
    add.text("plimsoll.stage.end", told.end.map_or("left", StageEnd::name));
    let failed = if told.end == Some(StageEnd::Failed) { "stage_failed" } else { "" };
    let status = add.status(failed);
    let ids = if told.is_left {
        (span_id(who.run, &format!("left {} stage {place}", who.began.0)), left_id(who))
    } else {
        (stage_id(who.run, place), run_id(who.run))
    };
    let span = Span { name: format!("stage {}", place.stage), kind: SpanKind::Internal, ids, status };
    span.data(who, (told.began, told.ended), add, options)
}

/// A run, from its creation; as it was left, from when this process went on with it.
pub(super) fn run(told: &RunTold<'_>, options: &ExportOptions) -> SpanData {
    let (who, counts) = (told.who, &told.counts);
    let mut add = Attributes::of(who);
    add.text("gen_ai.operation.name", if counts.is_workflow { "invoke_workflow" } else { "invoke_agent" });
    add.text("gen_ai.prompt.name", who.agent.to_string());
    add.text("gen_ai.prompt.version", who.prompt_version.clone());
    add.text("plimsoll.policy.version", who.plan.to_string());
    add.number("plimsoll.retry_count", counts.retries);
    add.money("plimsoll.settled_picousd", counts.settled);
    add.money("plimsoll.unknown_picousd", counts.unknown);
    add.text("plimsoll.run.state", told.state.map_or("left", |state| RunState::from(state).name()));
    if !told.budgets.is_empty() {
        add.texts("plimsoll.budget.scope", told.budgets.iter().cloned());
    }
    if let Some(limit) = told.limit {
        add.text("plimsoll.decision", "deny");
        add.text("plimsoll.deny.reason", limit.name());
    }
    if options.content {
        let message = |role: &str, value: &serde_json::Value| {
            bounded(serde_json::json!([{"role": role, "parts": [{"type": "text", "content": value}]}]).to_string())
        };
        told.input.iter().for_each(|input| add.text("gen_ai.input.messages", message("user", input)));
        told.output.iter().for_each(|output| add.text("gen_ai.output.messages", message("assistant", output)));
    }
    let status = add.status(if told.state == Some(EndState::Failed) { "run_failed" } else { "" });
    let above = who.parent.as_ref().map_or(SpanId::INVALID, |(run, place)| parent_of(*run, place));
    let (ids, began) = match told.state {
        Some(_) => ((run_id(who.run), above), who.created),
        None => ((left_id(who), run_id(who.run)), who.began),
    };
    let span = Span { name: format!("invoke_agent {}", who.agent), kind: SpanKind::Internal, ids, status };
    span.data(who, (began, told.ended), add, options)
}

/// What a run was worth: the conventions' event of an evaluation, in a span of its own, since it may come long after the
/// run's.
pub(super) fn quality(told: &QualityTold<'_>, options: &ExportOptions) -> SpanData {
    let QualityTold { who, at, quality } = told;
    // A score has four places, which a double holds.
    let score: f64 = quality.score.to_string().parse().unwrap_or_default();
    let said = vec![
        KeyValue::new("gen_ai.evaluation.name", QUALITY),
        KeyValue::new("gen_ai.evaluation.score.value", score),
        KeyValue::new("plimsoll.quality.source", quality.source.name()),
    ];
    let ids = (span_id(who.run, &format!("quality {}", at.0)), run_id(who.run));
    let span = Span { name: "outcome".to_owned(), kind: SpanKind::Internal, ids, status: Status::Unset };
    let mut data = span.data(who, (*at, *at), Attributes::of(who), options);
    let mut events = SpanEvents::default();
    events.events.push(Event::new("gen_ai.evaluation.result", time(*at), said, 0));
    data.events = events;
    data
}

/// What a span says.
struct Attributes(Vec<KeyValue>);

impl Attributes {
    /// What every span of a run says.
    fn of(who: &Who) -> Self {
        let mut add = Self(Vec::with_capacity(32));
        add.text("gen_ai.agent.name", who.agent.to_string());
        add.text("plimsoll.run.id", who.run.to_string());
        for (label, name) in [
            ("tenant", "plimsoll.tenant"),
            ("feature", "plimsoll.feature"),
            ("environment", "plimsoll.environment"),
            (THREAD, "gen_ai.conversation.id"),
        ] {
            who.labels.get(label).iter().for_each(|value| add.text(name, (*value).clone()));
        }
        add
    }

    fn text(&mut self, name: &'static str, value: impl Into<Cow<'static, str>>) {
        self.0.push(KeyValue::new(name, StringValue::from(value.into())));
    }

    fn texts(&mut self, name: &'static str, values: impl Iterator<Item = String>) {
        self.0.push(KeyValue::new(name, Value::Array(Array::String(values.map(StringValue::from).collect()))));
    }

    fn number(&mut self, name: &'static str, value: u64) {
        self.0.push(KeyValue::new(name, i64::try_from(value).unwrap_or(i64::MAX)));
    }

    fn money(&mut self, name: &'static str, value: Money) {
        self.0.push(KeyValue::new(name, i64::try_from(value.pico()).unwrap_or(i64::MAX)));
    }

    fn status(&mut self, error: &'static str) -> Status {
        if error.is_empty() {
            return Status::Unset;
        }
        self.text("error.type", error);
        Status::error(error)
    }
}

fn bounded(mut text: String) -> String {
    if text.len() > CONTENT_BYTES_MAX {
        let end = (0..=CONTENT_BYTES_MAX).rev().find(|at| text.is_char_boundary(*at)).unwrap_or_default();
        text.truncate(end);
    }
    text
}

/// The span of whoever works at a place: its stage, or the run where it has none.
fn parent_of(run: RunId, place: &Place) -> SpanId {
    if place.stage.as_str() == super::told::ONLY_STAGE { run_id(run) } else { stage_id(run, place) }
}

fn run_id(run: RunId) -> SpanId {
    span_id(run, "run")
}

/// Of a run as it was left by whoever went on with it at that time.
fn left_id(who: &Who) -> SpanId {
    span_id(who.run, &format!("left {}", who.began.0))
}

fn stage_id(run: RunId, place: &Place) -> SpanId {
    span_id(run, &format!("stage {} {:?}", place.stage, place.item))
}

/// The same for the same: whoever speaks of a span knows its id before it is over.
fn span_id(run: RunId, what: &str) -> SpanId {
    let digest = Sha256::digest(format!("{run} {what}"));
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&digest[..8]);
    SpanId::from_bytes(bytes)
}

fn time(at: Timestamp) -> SystemTime {
    SystemTime::UNIX_EPOCH + std::time::Duration::from_millis(at.0)
}

/// What a span is, beside what it says.
struct Span {
    name: String,
    kind: SpanKind,
    /// Its own, and that of the span above.
    ids: (SpanId, SpanId),
    status: Status,
}

impl Span {
    fn data(
        self,
        who: &Who,
        (began, ended): (Timestamp, Timestamp),
        Attributes(attributes): Attributes,
        options: &ExportOptions,
    ) -> SpanData {
        let trace = TraceId::from_bytes(who.root.bits().to_be_bytes());
        SpanData {
            span_context: SpanContext::new(trace, self.ids.0, TraceFlags::SAMPLED, false, TraceState::default()),
            parent_span_id: self.ids.1,
            parent_span_is_remote: false,
            span_kind: self.kind,
            name: Cow::Owned(self.name),
            start_time: time(began),
            end_time: time(ended.max(began)),
            attributes,
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: self.status,
            instrumentation_scope: scope(options.names),
        }
    }
}
