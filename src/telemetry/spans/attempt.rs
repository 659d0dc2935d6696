//! Spans of attempts: `chat` for each call of a model, `execute_tool` for each of a tool.

use opentelemetry::KeyValue;
use opentelemetry::trace::SpanKind;
use opentelemetry_sdk::trace::SpanData;

use super::{Attributes, Span, bounded, parent_of, span_id};
use crate::domain::event::{Call, CostSource, ModelCall, Outcome, Purpose, Settled};
use crate::domain::message::StopReason;
use crate::domain::plan::ModelPlan;
use crate::telemetry::export::ExportOptions;
use crate::telemetry::metrics::{error_type, settled, source, written};
use crate::telemetry::{AttemptTold, names};

/// An attempt of a model or a tool call.
pub(in crate::telemetry) fn attempt(told: &AttemptTold<'_>, options: &ExportOptions) -> SpanData {
    let AttemptTold { who, reserved, .. } = told;
    let mut add = Attributes::of(who);
    add.number("plimsoll.step.index", u64::from(reserved.step.step));
    add.number("plimsoll.attempt", u64::from(reserved.attempt));
    add.text("plimsoll.stage", reserved.step.stage.to_string());
    add.money("plimsoll.reserved_picousd", reserved.amount);
    let settled = settled(told.came);
    if let Some(settled) = settled {
        add.money("plimsoll.settled_picousd", settled.bill);
        add.text("plimsoll.usage_source", source(settled.source));
    }
    let (name, kind) = match &reserved.call {
        Call::Model(call) => {
            asked(told, call, &mut add);
            settled.iter().for_each(|settled| answered(told, settled, options, &mut add));
            let is_kept = settled.is_some_and(|settled| settled.cache.hit.is_some());
            if is_kept {
                add.0.push(KeyValue::new("plimsoll.cache.hit", true));
            }
            // What a kept answer spared went to nobody.
            (format!("chat {}", call.model.model()), if is_kept { SpanKind::Internal } else { SpanKind::Client })
        }
        Call::Tool { tool, call_id, arguments, .. } => {
            add.text("gen_ai.operation.name", "execute_tool");
            add.text("gen_ai.tool.name", tool.to_string());
            add.text("gen_ai.tool.call.id", call_id.clone());
            // All of ours are called by us, not by a provider.
            add.text("gen_ai.tool.type", "function");
            add.text("plimsoll.decision", "allow");
            if options.content
                && let Some(arguments) = arguments
            {
                add.text("gen_ai.tool.call.arguments", bounded(arguments.to_string()));
            }
            if options.content
                && let Some(Outcome::ToolResult { content, .. }) = settled.map(|settled| &settled.outcome)
            {
                add.text("gen_ai.tool.call.result", bounded(content.clone()));
            }
            (format!("execute_tool {tool}"), SpanKind::Internal)
        }
    };
    let status = add.status(error_type(told.came));
    let id = span_id(who.run, &format!("attempt {}", reserved.reservation.number));
    let span = Span { name, kind, ids: (id, parent_of(who.run, &reserved.step.place())), status };
    span.data(who, (told.began, told.ended), add, options)
}

/// What was asked, and of whom.
fn asked(told: &AttemptTold<'_>, call: &ModelCall, add: &mut Attributes) {
    add.text("gen_ai.operation.name", "chat");
    add.text("gen_ai.request.model", call.model.model().to_owned());
    add.number("gen_ai.request.max_tokens", u64::from(call.max_output_tokens));
    add.text("gen_ai.prompt.name", told.who.agent.to_string());
    add.text("gen_ai.prompt.version", told.who.prompt_version.clone());
    add.text("plimsoll.price.version", call.price.to_string());
    add.text("plimsoll.decision", if call.downgraded.is_some() { "downgrade" } else { "allow" });
    if let Some(model) = model_plan(told, call) {
        if model.stream {
            add.0.push(KeyValue::new("gen_ai.request.stream", true));
        }
        model.sampling.reasoning.iter().for_each(|level| add.text("gen_ai.request.reasoning.level", level.clone()));
    }
    let Some(peer) = told.peer else { return };
    add.text("gen_ai.provider.name", peer.system.clone());
    peer.asked_tier.iter().for_each(|tier| add.text("openai.request.service_tier", *tier));
    if let Some((host, port)) = &peer.address {
        add.text("server.address", host.clone());
        port.iter().for_each(|port| add.number("server.port", u64::from(*port)));
    }
}

/// How the model was asked, as the plan says it; a summary is asked for in a way of its own.
fn model_plan<'a>(told: &AttemptTold<'a>, call: &ModelCall) -> Option<&'a ModelPlan> {
    let plan = told.by?;
    match call.purpose {
        Purpose::Turn | Purpose::Last | Purpose::Repair => Some(plan.call_of(&told.reserved.step.place()).model),
        Purpose::Landing => Some(&plan.model),
        Purpose::Summary => None,
    }
}

/// What came of it.
fn answered(told: &AttemptTold<'_>, settled: &Settled, options: &ExportOptions, add: &mut Attributes) {
    if let Some(usage) = &settled.usage {
        add.number("gen_ai.usage.input_tokens", usage.input_total().0);
        add.number("gen_ai.usage.output_tokens", usage.output.0);
        add.number("gen_ai.usage.cache_read.input_tokens", usage.cache_read.0);
        let cache_write = names::told_as(options.names, names::CACHE_WRITE);
        cache_write.for_each(|name| add.number(name, written(usage)));
        add.number("gen_ai.usage.reasoning.output_tokens", usage.reasoning.0);
    }
    if options.cost {
        cost(settled, add);
    }
    let Outcome::Reply { message, stop, response_model, service_tier, request_id, response_id, .. } = &settled.outcome
    else {
        return;
    };
    response_model.iter().for_each(|model| add.text("gen_ai.response.model", model.clone()));
    response_id.iter().for_each(|id| add.text("gen_ai.response.id", id.clone()));
    request_id.iter().for_each(|id| add.text("plimsoll.provider_request_id", id.clone()));
    if told.peer.is_some_and(super::super::Peer::is_openai) {
        service_tier.iter().for_each(|tier| add.text("openai.response.service_tier", tier.clone()));
    }
    add.texts("gen_ai.response.finish_reasons", std::iter::once(finish_reason(stop)));
    if options.content {
        let part = serde_json::json!([{"role": "assistant", "parts": [{"type": "text", "content": message.text}]}]);
        add.text("gen_ai.output.messages", bounded(part.to_string()));
    }
}

/// As the conventions may come to have it: a double, so that it is for dashboards; the exact amount is ours. What nobody
/// knows isn't told.
fn cost(settled: &Settled, add: &mut Attributes) {
    let amount = settled.bill.usd().parse::<f64>();
    if let (CostSource::Reported | CostSource::Derived, Ok(amount)) = (settled.source, amount) {
        add.0.push(KeyValue::new("gen_ai.usage.cost.amount", amount));
        add.text("gen_ai.usage.cost.currency", "USD");
        // By our price book, whatever the provider says beside it.
        add.text("gen_ai.usage.cost.source", "local");
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
