//! Metrics by OpenTelemetry's GenAI conventions, to a collector: the same as for Prometheus, but for what stands in the store.

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Histogram, Meter, MeterProvider as _};
use opentelemetry_sdk::metrics::SdkMeterProvider;

use super::metrics::{CALLS, SECONDS, counted, error_type, latency, settled, source, written};
use super::{AttemptTold, RunTold, spans};
use crate::domain::event::{Call, ModelCall, RunState};

/// What is measured.
pub(super) struct Instruments {
    input: Counter<u64>,
    output: Counter<u64>,
    cache_read: Counter<u64>,
    cache_write: Counter<u64>,
    reasoning: Counter<u64>,
    inference: Histogram<f64>,
    first_chunk: Histogram<f64>,
    tool: Histogram<f64>,
    agent: Histogram<f64>,
    inference_calls: Histogram<u64>,
    tool_calls: Histogram<u64>,
    ended: Counter<u64>,
    cost: Counter<u64>,
    retries: Counter<u64>,
    overruns: Counter<u64>,
}

fn count(meter: &Meter, name: &'static str, unit: &'static str) -> Counter<u64> {
    meter.u64_counter(name).with_unit(unit).build()
}

fn seconds(meter: &Meter, name: &'static str) -> Histogram<f64> {
    meter.f64_histogram(name).with_unit("s").with_boundaries(SECONDS.to_vec()).build()
}

fn calls(meter: &Meter, name: &'static str) -> Histogram<u64> {
    meter.u64_histogram(name).with_unit("{call}").with_boundaries(CALLS.to_vec()).build()
}

impl Instruments {
    pub(super) fn of(meters: &SdkMeterProvider) -> Self {
        let meter = &meters.meter_with_scope(spans::scope());
        Self {
            input: count(meter, "gen_ai.client.inference.usage.input_tokens", "{token}"),
            output: count(meter, "gen_ai.client.inference.usage.output_tokens", "{token}"),
            cache_read: count(meter, "gen_ai.client.inference.usage.cache_read.input_tokens", "{token}"),
            cache_write: count(meter, "gen_ai.client.inference.usage.cache_write.input_tokens", "{token}"),
            reasoning: count(meter, "gen_ai.client.inference.usage.reasoning.output_tokens", "{token}"),
            inference: seconds(meter, "gen_ai.client.inference.duration"),
            first_chunk: seconds(meter, "gen_ai.client.inference.time_to_first_chunk"),
            tool: seconds(meter, "gen_ai.execute_tool.duration"),
            agent: seconds(meter, "gen_ai.invoke_agent.duration"),
            inference_calls: calls(meter, "gen_ai.invoke_agent.inference_calls"),
            tool_calls: calls(meter, "gen_ai.invoke_agent.tool_calls"),
            ended: count(meter, "plimsoll.runs.ended", "{run}"),
            cost: count(meter, "plimsoll.cost", "picoUSD"),
            retries: count(meter, "plimsoll.retries", "{attempt}"),
            overruns: count(meter, "plimsoll.settle.overrun", "{attempt}"),
        }
    }

    pub(super) fn attempt(&self, told: &AttemptTold<'_>) {
        let agent = KeyValue::new("gen_ai.agent.name", told.who.agent.to_string());
        let error = error_type(told.came);
        let failed = (!error.is_empty()).then(|| KeyValue::new("error.type", error));
        self.retries.add(u64::from(told.reserved.attempt > 1), std::slice::from_ref(&agent));
        if let Some(settled) = settled(told.came) {
            let source = KeyValue::new("plimsoll.usage_source", source(settled.source));
            self.cost.add(counted(settled.bill), &[agent, source]);
            self.overruns.add(u64::from(settled.bill > told.reserved.amount), &[]);
        }
        match &told.reserved.call {
            Call::Tool { tool, .. } => {
                let tool = KeyValue::new("gen_ai.tool.name", tool.to_string());
                let attributes: Vec<KeyValue> = [tool].into_iter().chain(failed).collect();
                self.tool.record(latency(told.came).as_secs_f64(), &attributes);
            }
            Call::Model(call) => self.model(told, call, failed),
        }
    }

    fn model(&self, told: &AttemptTold<'_>, call: &ModelCall, failed: Option<KeyValue>) {
        let model = [
            KeyValue::new("gen_ai.operation.name", "chat"),
            KeyValue::new("gen_ai.provider.name", spans::provider(call.model.provider().as_str()).to_owned()),
            KeyValue::new("gen_ai.request.model", call.model.model().to_owned()),
        ];
        let attributes: Vec<KeyValue> = model.iter().cloned().chain(failed).collect();
        self.inference.record(latency(told.came).as_secs_f64(), &attributes);
        let settled = settled(told.came);
        if let Some(first) = settled.and_then(|settled| settled.first_token) {
            self.first_chunk.record(first.duration().as_secs_f64(), &model);
        }
        // Zero where no usage came, as the conventions want it.
        let usage = settled.and_then(|settled| settled.usage).unwrap_or_default();
        self.input.add(usage.input_total().0, &model);
        self.output.add(usage.output.0, &model);
        self.cache_read.add(usage.cache_read.0, &model);
        self.cache_write.add(written(&usage), &model);
        self.reasoning.add(usage.reasoning.0, &model);
    }

    pub(super) fn run(&self, told: &RunTold<'_>) {
        let Some(state) = told.state else { return };
        let agent = [KeyValue::new("gen_ai.agent.name", told.who.agent.to_string())];
        self.agent.record(told.ended.since(told.who.began).duration().as_secs_f64(), &agent);
        self.inference_calls.record(told.counts.inference_calls, &agent);
        self.tool_calls.record(told.counts.tool_calls, &agent);
        let state = KeyValue::new("plimsoll.run.state", RunState::from(state).name());
        let limit = told.limit.map(|limit| KeyValue::new("plimsoll.deny.reason", limit.name()));
        let attributes: Vec<KeyValue> = agent.into_iter().chain([state]).chain(limit).collect();
        self.ended.add(1, &attributes);
    }
}
