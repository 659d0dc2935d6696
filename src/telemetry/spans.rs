//! Spans by OpenTelemetry's GenAI conventions: `invoke_agent`, `chat` for each attempt, `execute_tool`, and our own for
//! stages. Names are those of the conventions after 1.41, which are in development.
//!
//! A trace's id is its root run's, so that one finds the other. The conventions have no cost: ours is under `plimsoll.`.

use std::borrow::Cow;
use std::time::SystemTime;

use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{Array, InstrumentationScope, KeyValue, StringValue, Value};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};
use sha2::{Digest as _, Sha256};

use super::metrics::{error_type, settled, source, written};
use super::{AttemptTold, Came, RunTold, StageTold, Who};
use crate::domain::event::{Call, EndState, ModelCall, Outcome, Place, StageEnd, THREAD};
use crate::domain::message::StopReason;
use crate::ids::{RunId, ToolName};
use crate::units::{Money, Timestamp};

/// Where the names are from: what follows the last core conventions that have them.
const SCHEMA_URL: &str = "https://opentelemetry.io/schemas/gen-ai/0.1.0";
/// The most bytes of a text that is sent where content is.
const CONTENT_BYTES_MAX: usize = 16 * 1024;

/// Who says it.
pub(super) fn scope() -> InstrumentationScope {
    InstrumentationScope::builder("plimsoll")
        .with_version(env!("CARGO_PKG_VERSION"))
        .with_schema_url(SCHEMA_URL)
        .build()
}

/// What a provider is called by the conventions, from the key that the project has for it.
pub(super) fn provider(key: &str) -> &str {
    match key {
        "azure" => "azure.ai.openai",
        "azure_foundry_anthropic" => "azure.ai.inference",
        "gemini" => "gcp.gemini",
        "vertex" | "vertex_anthropic" => "gcp.vertex_ai",
        "mistral" => "mistral_ai",
        "xai" => "x_ai",
        other => other,
    }
}

/// An attempt of a model or a tool call.
pub(super) fn attempt(told: &AttemptTold<'_>, content: bool) -> SpanData {
    let AttemptTold { who, reserved, .. } = told;
    let mut attributes = common(who);
    let mut add = Attributes(&mut attributes);
    add.number("plimsoll.step.index", u64::from(reserved.step.step));
    add.number("plimsoll.attempt", u64::from(reserved.attempt));
    add.text("plimsoll.stage", reserved.step.stage.to_string());
    add.money("plimsoll.reserved_picousd", reserved.amount);
    if let Some(settled) = settled(told.came) {
        add.money("plimsoll.settled_picousd", settled.bill);
        add.text("plimsoll.usage_source", source(settled.source));
    }
    let (name, kind) = match &reserved.call {
        Call::Model(call) => {
            model(told, call, content, &mut add);
            (format!("chat {}", call.model.model()), SpanKind::Client)
        }
        Call::Tool { tool, call_id, arguments, .. } => {
            add.text("gen_ai.operation.name", "execute_tool");
            add.text("gen_ai.tool.name", tool.to_string());
            add.text("gen_ai.tool.call.id", call_id.clone());
            if content && let Some(arguments) = arguments {
                add.text("gen_ai.tool.call.arguments", bounded(arguments.to_string()));
            }
            (tool_name(tool), SpanKind::Internal)
        }
    };
    let status = status(error_type(told.came), &mut add);
    if content {
        answered(told.came, &mut add);
    }
    let place = reserved.step.place();
    let id = span_id(who.run, &format!("attempt {}", reserved.reservation.number));
    span(who, name, kind, (id, parent_of(who.run, &place)), (told.began, told.ended), (attributes, status))
}

fn tool_name(tool: &ToolName) -> String {
    format!("execute_tool {tool}")
}

fn model(told: &AttemptTold<'_>, call: &ModelCall, content: bool, add: &mut Attributes<'_>) {
    let key = call.model.provider();
    add.text("gen_ai.operation.name", "chat");
    add.text("gen_ai.provider.name", provider(key.as_str()).to_owned());
    add.text("gen_ai.request.model", call.model.model().to_owned());
    add.number("gen_ai.request.max_tokens", u64::from(call.max_output_tokens));
    add.text("gen_ai.prompt.version", told.who.prompt_version.clone());
    add.text("plimsoll.price.version", call.price.to_string());
    let Some(settled) = settled(told.came) else { return };
    if let Some(usage) = &settled.usage {
        add.number("gen_ai.usage.input_tokens", usage.input_total().0);
        add.number("gen_ai.usage.output_tokens", usage.output.0);
        add.number("gen_ai.usage.cache_read.input_tokens", usage.cache_read.0);
        add.number("gen_ai.usage.cache_write.input_tokens", written(usage));
        add.number("gen_ai.usage.reasoning.output_tokens", usage.reasoning.0);
    }
    let Outcome::Reply { message, stop, response_model, service_tier, request_id, .. } = &settled.outcome else {
        return;
    };
    response_model.iter().for_each(|model| add.text("gen_ai.response.model", model.clone()));
    request_id.iter().for_each(|id| add.text("gen_ai.response.id", id.clone()));
    if key.as_str() == "openai" {
        service_tier.iter().for_each(|tier| add.text("openai.response.service_tier", tier.clone()));
    }
    let reasons = Array::String(vec![StringValue::from(finish_reason(stop))]);
    add.0.push(KeyValue::new("gen_ai.response.finish_reasons", Value::Array(reasons)));
    if content {
        let part = serde_json::json!([{"role": "assistant", "parts": [{"type": "text", "content": message.text}]}]);
        add.text("gen_ai.output.messages", bounded(part.to_string()));
    }
}

/// The conventions' words.
fn finish_reason(stop: &StopReason) -> String {
    match stop {
        StopReason::End => "stop",
        StopReason::Length | StopReason::ContextFull => "length",
        StopReason::ToolCalls => "tool_call",
        StopReason::ContentFilter | StopReason::Refusal => "content_filter",
        StopReason::Paused => "pause",
        StopReason::Malformed => "error",
        StopReason::Unknown(word) => word,
    }
    .to_owned()
}

fn answered(came: Came<'_>, add: &mut Attributes<'_>) {
    if let Came::Settled(settled) = came
        && let Outcome::ToolResult { content, .. } = &settled.outcome
    {
        add.text("gen_ai.tool.call.result", bounded(content.clone()));
    }
}

/// A stage, or an item of a map.
pub(super) fn stage(told: &StageTold<'_>) -> SpanData {
    let mut attributes = common(told.who);
    let mut add = Attributes(&mut attributes);
    add.text("plimsoll.stage", told.place.stage.to_string());
    told.place.item.iter().for_each(|item| add.number("plimsoll.item", u64::from(*item)));
    add.text("plimsoll.stage.end", told.end.map_or("left", StageEnd::name));
    let failed = if told.end == Some(StageEnd::Failed) { "stage_failed" } else { "" };
    let status = status(failed, &mut add);
    let name = format!("stage {}", told.place.stage);
    let id = stage_id(told.who.run, told.place);
    let ids = (id, run_id(told.who.run));
    span(told.who, name, SpanKind::Internal, ids, (told.began, told.ended), (attributes, status))
}

/// A run, from its creation, or from when this process went on with it.
pub(super) fn run(told: &RunTold<'_>, content: bool) -> SpanData {
    let (who, counts) = (told.who, &told.counts);
    let mut attributes = common(who);
    let mut add = Attributes(&mut attributes);
    add.text("gen_ai.operation.name", if counts.is_workflow { "invoke_workflow" } else { "invoke_agent" });
    add.text("gen_ai.prompt.version", who.prompt_version.clone());
    add.text("plimsoll.policy.version", who.plan.to_string());
    add.number("plimsoll.retry_count", counts.retries);
    add.money("plimsoll.settled_picousd", counts.settled);
    add.money("plimsoll.unknown_picousd", counts.unknown);
    add.text(
        "plimsoll.run.state",
        told.state.map_or("left", |state| crate::domain::event::RunState::from(state).name()),
    );
    told.limit.iter().for_each(|limit| add.text("plimsoll.deny.reason", limit.name()));
    if content {
        let message = |role: &str, value: &serde_json::Value| {
            bounded(serde_json::json!([{"role": role, "parts": [{"type": "text", "content": value}]}]).to_string())
        };
        told.input.iter().for_each(|input| add.text("gen_ai.input.messages", message("user", input)));
        told.output.iter().for_each(|output| add.text("gen_ai.output.messages", message("assistant", output)));
    }
    let failed = if told.state == Some(EndState::Failed) { "run_failed" } else { "" };
    let status = status(failed, &mut add);
    let above = who
        .parent
        .as_ref()
        .map_or(SpanId::INVALID, |(run, stage)| parent_of(*run, &Place { stage: stage.clone(), item: None }));
    let name = format!("invoke_agent {}", who.agent);
    let ids = (run_id(who.run), above);
    span(who, name, SpanKind::Internal, ids, (who.began, told.ended), (attributes, status))
}

/// What every span of a run has.
fn common(who: &Who) -> Vec<KeyValue> {
    let mut attributes = Vec::with_capacity(24);
    let mut add = Attributes(&mut attributes);
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
    attributes
}

/// Takes attributes.
struct Attributes<'a>(&'a mut Vec<KeyValue>);

impl Attributes<'_> {
    fn text(&mut self, name: &'static str, value: impl Into<Cow<'static, str>>) {
        self.0.push(KeyValue::new(name, StringValue::from(value.into())));
    }

    fn number(&mut self, name: &'static str, value: u64) {
        self.0.push(KeyValue::new(name, i64::try_from(value).unwrap_or(i64::MAX)));
    }

    fn money(&mut self, name: &'static str, value: Money) {
        self.0.push(KeyValue::new(name, i64::try_from(value.pico()).unwrap_or(i64::MAX)));
    }
}

fn status(error: &'static str, add: &mut Attributes<'_>) -> Status {
    if error.is_empty() {
        return Status::Unset;
    }
    add.text("error.type", error);
    Status::error(error)
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

fn span(
    who: &Who,
    name: String,
    span_kind: SpanKind,
    (id, parent_span_id): (SpanId, SpanId),
    (began, ended): (Timestamp, Timestamp),
    (attributes, status): (Vec<KeyValue>, Status),
) -> SpanData {
    let trace = TraceId::from_bytes(who.root.bits().to_be_bytes());
    SpanData {
        span_context: SpanContext::new(trace, id, TraceFlags::SAMPLED, false, TraceState::default()),
        parent_span_id,
        parent_span_is_remote: false,
        span_kind,
        name: Cow::Owned(name),
        start_time: time(began),
        end_time: time(ended.max(began)),
        attributes,
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status,
        instrumentation_scope: scope(),
    }
}
