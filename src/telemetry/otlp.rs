//! Metrics by OpenTelemetry's GenAI conventions, to a collector: the same as for Prometheus; of what stands in the store only
//! budgets and holds.

use std::sync::{Arc, Mutex, PoisonError};

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Histogram, Meter, MeterProvider as _};
use opentelemetry_sdk::metrics::SdkMeterProvider;

use super::export::Watched;
use super::metrics::{CALLS, SECONDS, counted, error_type, latency, settled, source, written};
use super::told::was_made;
use super::{AttemptTold, Peer, PieceTold, RunTold, names, spans};
use crate::domain::event::{Call, ModelCall, RunState};
use crate::domain::pricing::Usage;
use crate::spec::project::GenAiNames;

/// Tokens of a call, as 1.41 wants them: 1, and four times as many 13 times.
const TOKENS: [f64; 14] = [
    1.0,
    4.0,
    16.0,
    64.0,
    256.0,
    1024.0,
    4096.0,
    16384.0,
    65536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
    67_108_864.0,
];

/// What is measured.
pub(super) struct Instruments {
    tokens: Option<TokenCounters>,
    token_usage: Option<Histogram<u64>>,
    inference: Vec<Histogram<f64>>,
    first_chunk: Vec<Histogram<f64>>,
    each_chunk: Vec<Histogram<f64>>,
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

/// Tokens, class by class.
struct TokenCounters {
    input: Counter<u64>,
    output: Counter<u64>,
    cache_read: Counter<u64>,
    cache_write: Counter<u64>,
    reasoning: Counter<u64>,
}

impl TokenCounters {
    fn of(meter: &Meter) -> Self {
        Self {
            input: count(meter, "gen_ai.client.inference.usage.input_tokens", "{token}"),
            output: count(meter, "gen_ai.client.inference.usage.output_tokens", "{token}"),
            cache_read: count(meter, "gen_ai.client.inference.usage.cache_read.input_tokens", "{token}"),
            cache_write: count(meter, "gen_ai.client.inference.usage.cache_write.input_tokens", "{token}"),
            reasoning: count(meter, "gen_ai.client.inference.usage.reasoning.output_tokens", "{token}"),
        }
    }

    fn add(&self, usage: &Usage, model: &[KeyValue]) {
        self.input.add(usage.input_total().0, model);
        self.output.add(usage.output.0, model);
        self.cache_read.add(usage.cache_read.0, model);
        self.cache_write.add(written(usage), model);
        self.reasoning.add(usage.reasoning.0, model);
    }
}

/// Reads what stands whenever metrics are sent; where nobody watches, nothing is told.
fn standing(meter: &Meter, watched: &Arc<Mutex<Option<Watched>>>) {
    let reader = || {
        let watched = Arc::clone(watched);
        move || watched.lock().unwrap_or_else(PoisonError::into_inner).as_ref().and_then(|watched| watched())
    };
    let read = reader();
    let holds = meter.u64_observable_gauge("plimsoll.holds.unresolved").with_unit("{reservation}");
    let holds = holds.with_callback(move |gauge| read().iter().for_each(|now| gauge.observe(now.holds, &[])));
    let read = reader();
    let headroom = meter.u64_observable_gauge("plimsoll.budget.headroom").with_unit("picoUSD");
    let headroom = headroom.with_callback(move |gauge| {
        for (budget, left) in read().unwrap_or_default().headroom {
            gauge.observe(counted(left), &[KeyValue::new("plimsoll.budget", budget)]);
        }
    });
    // The meter keeps them itself.
    let _kept = (holds.build(), headroom.build());
}

/// Which model was asked, and of whom.
fn attributes(peer: Option<&Peer>, model: &str) -> [KeyValue; 3] {
    let provider = peer.map(|peer| peer.system.clone()).unwrap_or_default();
    [
        KeyValue::new("gen_ai.operation.name", "chat"),
        KeyValue::new("gen_ai.provider.name", provider),
        KeyValue::new("gen_ai.request.model", model.to_owned()),
    ]
}

impl Instruments {
    pub(super) fn of(meters: &SdkMeterProvider, names: GenAiNames, watched: &Arc<Mutex<Option<Watched>>>) -> Self {
        let meter = &meters.meter_with_scope(spans::scope(names));
        standing(meter, watched);
        let times = |new| names::told_as(names, new).map(|name| seconds(meter, name)).collect();
        let usage =
            || meter.u64_histogram("gen_ai.client.token.usage").with_unit("{token}").with_boundaries(TOKENS.to_vec());
        Self {
            tokens: names::has_counters(names).then(|| TokenCounters::of(meter)),
            token_usage: names::has_token_usage(names).then(|| usage().build()),
            inference: times(names::DURATION),
            first_chunk: times(names::FIRST_CHUNK),
            each_chunk: times(names::EACH_CHUNK),
            tool: seconds(meter, "gen_ai.execute_tool.duration"),
            agent: seconds(meter, "gen_ai.invoke_agent.duration"),
            inference_calls: calls(meter, "gen_ai.invoke_agent.inference_calls"),
            tool_calls: calls(meter, "gen_ai.invoke_agent.tool_calls"),
            ended: count(meter, "plimsoll.runs.ended", "{run}"),
            cost: count(meter, "plimsoll.cost", "picoUSD"),
            retries: count(meter, "plimsoll.retry_count", "{attempt}"),
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
        if !was_made(told.came) {
            return;
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
        let model = attributes(told.peer, call.model.model());
        let attributes: Vec<KeyValue> = model.iter().cloned().chain(failed).collect();
        let time = latency(told.came).as_secs_f64();
        self.inference.iter().for_each(|histogram| histogram.record(time, &attributes));
        let settled = settled(told.came);
        if let Some(first) = settled.and_then(|settled| settled.first_token) {
            let time = first.duration().as_secs_f64();
            self.first_chunk.iter().for_each(|histogram| histogram.record(time, &model));
        }
        // Zero where no usage came, as the conventions want it.
        let usage = settled.and_then(|settled| settled.usage).unwrap_or_default();
        self.tokens.iter().for_each(|tokens| tokens.add(&usage, &model));
        // A distribution has nothing where no usage came.
        let (Some(histogram), Some(usage)) = (&self.token_usage, settled.and_then(|settled| settled.usage)) else {
            return;
        };
        for (kind, count) in [("input", usage.input_total().0), ("output", usage.output.0)] {
            let kind = KeyValue::new("gen_ai.token.type", kind);
            histogram.record(count, &model.iter().cloned().chain([kind]).collect::<Vec<_>>());
        }
    }

    pub(super) fn piece(&self, told: &PieceTold<'_>) {
        let (model, time) = (attributes(Some(told.peer), told.model), told.after.as_secs_f64());
        self.each_chunk.iter().for_each(|histogram| histogram.record(time, &model));
    }

    pub(super) fn run(&self, told: &RunTold<'_>) {
        let Some(state) = told.state else { return };
        let agent = [KeyValue::new("gen_ai.agent.name", told.who.agent.to_string())];
        self.agent.record(told.ended.since(told.who.created).duration().as_secs_f64(), &agent);
        self.inference_calls.record(told.counts.inference_calls, &agent);
        self.tool_calls.record(told.counts.tool_calls, &agent);
        let state = KeyValue::new("plimsoll.run.state", RunState::from(state).name());
        let limit = told.limit.map(|limit| KeyValue::new("plimsoll.deny.reason", limit.name()));
        let attributes: Vec<KeyValue> = agent.into_iter().chain([state]).chain(limit).collect();
        self.ended.add(1, &attributes);
    }
}
