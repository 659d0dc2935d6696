//! Metrics in the text form of OpenMetrics, which Prometheus reads.
//!
//! Names and units are those of OpenTelemetry's GenAI conventions as Prometheus writes them, and `plimsoll_…` where they
//! have none. Labels are agents, models, tools, budgets, limits and states: what the project's files name, and no tenant,
//! run or user. Counts are of this process, gauges of its store as it stands.

use std::fmt::Error;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use super::told::was_made;
use super::{AttemptTold, Came, Peer, PieceTold, QualityTold, RunTold, Sink, StageTold};
use crate::domain::event::{Call, CostSource, Outcome, RunState, Settled};
use crate::domain::pricing::Usage;
use crate::units::Money;

/// Seconds, as the conventions want them: 0.01 doubled 13 times.
pub(super) const SECONDS: [f64; 14] =
    [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92];
/// Calls of a run.
pub(super) const CALLS: [f64; 8] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0];

/// What [`Metrics::text`] is, to HTTP.
pub const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Model {
    gen_ai_provider_name: String,
    gen_ai_request_model: String,
}

impl Model {
    fn of(peer: Option<&Peer>, model: &str) -> Self {
        let provider = peer.map(|peer| peer.system.to_string()).unwrap_or_default();
        Self { gen_ai_provider_name: provider, gen_ai_request_model: model.to_owned() }
    }
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ModelCall {
    gen_ai_provider_name: String,
    gen_ai_request_model: String,
    /// Empty where it went well.
    error_type: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ToolCall {
    gen_ai_tool_name: String,
    error_type: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Agent {
    gen_ai_agent_name: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct AgentCost {
    gen_ai_agent_name: String,
    /// `reported`, `derived` or `unknown`.
    source: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Ended {
    gen_ai_agent_name: String,
    state: &'static str,
    /// The limit that stopped it; empty without one.
    limit: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct State {
    state: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Budget {
    budget: String,
}

type Seconds<L> = Family<L, Histogram, fn() -> Histogram>;

/// What is counted. Clones are the same.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    registry: Registry,
    input_tokens: Family<Model, Counter>,
    output_tokens: Family<Model, Counter>,
    cache_read: Family<Model, Counter>,
    cache_write: Family<Model, Counter>,
    reasoning: Family<Model, Counter>,
    inference: Seconds<ModelCall>,
    first_chunk: Seconds<Model>,
    each_chunk: Seconds<Model>,
    tool: Seconds<ToolCall>,
    agent: Seconds<Agent>,
    inference_calls: Seconds<Agent>,
    tool_calls: Seconds<Agent>,
    ended: Family<Ended, Counter>,
    cost: Family<AgentCost, Counter>,
    retries: Family<Agent, Counter>,
    overruns: Counter,
    gauges: StandingGauges,
    /// One scrape sets the gauges at a time.
    scraping: Mutex<()>,
}

#[derive(Default)]
struct StandingGauges {
    runs: Family<State, Gauge>,
    holds: Gauge,
    held: Gauge,
    waiting: Gauge,
    alerts: Gauge,
    headroom: Family<Budget, Gauge>,
}

/// What stands at a moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gauges {
    /// Open runs, by state.
    pub runs: Vec<(RunState, u64)>,
    /// Reservations that are open.
    pub holds: u64,
    /// What they hold.
    pub held: Money,
    /// Runs that wait in line to begin.
    pub waiting: u64,
    /// Alerts that wait to be delivered.
    pub alerts: u64,
    /// What is left of each budget, of the account that has least.
    pub headroom: Vec<(String, Money)>,
}

fn seconds() -> Histogram {
    Histogram::new(SECONDS)
}

fn calls() -> Histogram {
    Histogram::new(CALLS)
}

impl Default for Metrics {
    fn default() -> Self {
        let with = |make: fn() -> Histogram| make;
        let mut inner = Inner {
            registry: Registry::default(),
            input_tokens: Family::default(),
            output_tokens: Family::default(),
            cache_read: Family::default(),
            cache_write: Family::default(),
            reasoning: Family::default(),
            inference: Family::new_with_constructor(with(seconds)),
            first_chunk: Family::new_with_constructor(with(seconds)),
            each_chunk: Family::new_with_constructor(with(seconds)),
            tool: Family::new_with_constructor(with(seconds)),
            agent: Family::new_with_constructor(with(seconds)),
            inference_calls: Family::new_with_constructor(with(calls)),
            tool_calls: Family::new_with_constructor(with(calls)),
            ended: Family::default(),
            cost: Family::default(),
            retries: Family::default(),
            overruns: Counter::default(),
            gauges: StandingGauges::default(),
            scraping: Mutex::default(),
        };
        inner.register_tokens();
        inner.register_times();
        inner.register_own();
        Self(Arc::new(inner))
    }
}

impl Inner {
    fn register_tokens(&mut self) {
        let registry = &mut self.registry;
        let usage = registry.sub_registry_with_prefix("gen_ai_client_inference_usage");
        usage.register("input_tokens", "Tokens of input, cached ones included", self.input_tokens.clone());
        usage.register("output_tokens", "Tokens of output, reasoning included", self.output_tokens.clone());
        usage.register("cache_read_input_tokens", "Tokens of input that a cache held", self.cache_read.clone());
        usage.register("cache_write_input_tokens", "Tokens of input written to a cache", self.cache_write.clone());
        usage.register("reasoning_output_tokens", "Tokens of output that are reasoning", self.reasoning.clone());
    }

    fn register_times(&mut self) {
        let registry = &mut self.registry;
        let mut time = |name: &str, help: &str, metric: Seconds<ModelCall>| {
            registry.register_with_unit(name, help, Unit::Seconds, metric);
        };
        time("gen_ai_client_inference_duration", "Time of one attempt of a model call", self.inference.clone());
        let help = "Time to the first piece of a streamed answer";
        let metric = self.first_chunk.clone();
        registry.register_with_unit("gen_ai_client_inference_time_to_first_chunk", help, Unit::Seconds, metric);
        let help = "Time from a piece of a streamed answer to the next";
        let metric = self.each_chunk.clone();
        registry.register_with_unit("gen_ai_client_inference_time_per_output_chunk", help, Unit::Seconds, metric);
        let help = "Time of one attempt of a tool call";
        registry.register_with_unit("gen_ai_execute_tool_duration", help, Unit::Seconds, self.tool.clone());
        let help = "Time of a run, from its creation to its end";
        registry.register_with_unit("gen_ai_invoke_agent_duration", help, Unit::Seconds, self.agent.clone());
        let help = "Attempts of model calls of a run";
        registry.register("gen_ai_invoke_agent_inference_calls", help, self.inference_calls.clone());
        registry.register("gen_ai_invoke_agent_tool_calls", "Attempts of tool calls of a run", self.tool_calls.clone());
    }

    fn register_own(&mut self) {
        let own = self.registry.sub_registry_with_prefix("plimsoll");
        own.register("runs_ended", "Runs that ended", self.ended.clone());
        own.register("cost_picousd", "Settled, in millionths of millionths of a dollar", self.cost.clone());
        own.register("retry_count", "Attempts after a step's first", self.retries.clone());
        own.register("settle_overrun", "Bills above their reservations; must stay 0", self.overruns.clone());
        let standing = &self.gauges;
        own.register("runs_open", "Runs that haven't ended", standing.runs.clone());
        own.register("holds_unresolved", "Reservations that are open", standing.holds.clone());
        own.register("held_picousd", "What open reservations hold", standing.held.clone());
        own.register("queue_runs", "Runs that wait in line to begin", standing.waiting.clone());
        own.register("alerts_waiting", "Alerts that nobody has been told of yet", standing.alerts.clone());
        let help = "What is left of a budget in its period; of the account that has least where it has several";
        own.register("budget_headroom_picousd", help, standing.headroom.clone());
    }
}

impl Metrics {
    /// All of them, with what stands now.
    ///
    /// # Errors
    /// A metric can't be written, which none of ours is.
    pub fn text(&self, gauges: &Gauges) -> Result<String, Error> {
        let _alone = self.0.scraping.lock().unwrap_or_else(PoisonError::into_inner);
        let standing = &self.0.gauges;
        standing.runs.clear();
        standing.headroom.clear();
        for (state, count) in &gauges.runs {
            standing.runs.get_or_create(&State { state: state.name() }).set(signed(u128::from(*count)));
        }
        for (budget, left) in &gauges.headroom {
            standing.headroom.get_or_create(&Budget { budget: budget.clone() }).set(signed(left.pico()));
        }
        standing.holds.set(signed(gauges.holds.into()));
        standing.held.set(signed(gauges.held.pico()));
        standing.waiting.set(signed(gauges.waiting.into()));
        standing.alerts.set(signed(gauges.alerts.into()));
        let mut text = String::new();
        encode(&mut text, &self.0.registry)?;
        Ok(text)
    }
}

/// A gauge's form; nine million dollars are the most that it shows of picodollars.
fn signed(number: u128) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A counter's form.
pub(super) fn counted(money: Money) -> u64 {
    u64::try_from(money.pico()).unwrap_or(u64::MAX)
}

/// Why an attempt gave nothing; empty where it did.
pub(super) fn error_type(came: Came<'_>) -> &'static str {
    match came {
        Came::Voided(voided) => voided.failure.class.name(),
        Came::Settled(settled) => match &settled.outcome {
            Outcome::Failed(failure) => failure.class.name(),
            Outcome::ToolResult { is_error: true, .. } => "tool_error",
            Outcome::ToolResult { is_error: false, .. } | Outcome::Reply { .. } => "",
        },
    }
}

/// The settlement, and how long the attempt took.
pub(super) const fn settled(came: Came<'_>) -> Option<&Settled> {
    match came {
        Came::Settled(settled) => Some(settled),
        Came::Voided(_) => None,
    }
}

/// How long an attempt took.
pub(super) fn latency(came: Came<'_>) -> std::time::Duration {
    match came {
        Came::Settled(settled) => settled.latency.duration(),
        Came::Voided(voided) => voided.latency.duration(),
    }
}

/// How a cost is known.
pub(super) const fn source(source: CostSource) -> &'static str {
    match source {
        CostSource::Reported => "reported",
        CostSource::Derived => "derived",
        CostSource::Unknown => "unknown",
    }
}

impl Sink for Metrics {
    fn attempt(&self, told: &AttemptTold<'_>) {
        let (inner, agent) = (&*self.0, told.who.agent.to_string());
        let error_type = error_type(told.came);
        if told.reserved.attempt > 1 {
            inner.retries.get_or_create(&Agent { gen_ai_agent_name: agent.clone() }).inc();
        }
        if let Some(settled) = settled(told.came) {
            let cost = AgentCost { gen_ai_agent_name: agent, source: source(settled.source) };
            inner.cost.get_or_create(&cost).inc_by(counted(settled.bill));
            inner.overruns.inc_by(u64::from(settled.bill > told.reserved.amount));
        }
        if !was_made(told.came) {
            return;
        }
        match &told.reserved.call {
            Call::Tool { tool, .. } => {
                let labels = ToolCall { gen_ai_tool_name: tool.to_string(), error_type };
                inner.tool.get_or_create(&labels).observe(latency(told.came).as_secs_f64());
            }
            Call::Model(call) => {
                self.inference(&Model::of(told.peer, call.model.model()), told, error_type);
            }
        }
    }

    fn stage(&self, _: &StageTold<'_>) {}

    fn quality(&self, _: &QualityTold<'_>) {}

    fn piece(&self, told: &PieceTold<'_>) {
        let model = Model::of(Some(told.peer), told.model);
        self.0.each_chunk.get_or_create(&model).observe(told.after.as_secs_f64());
    }

    fn run(&self, told: &RunTold<'_>) {
        let (inner, Some(state)) = (&*self.0, told.state) else { return };
        let agent = Agent { gen_ai_agent_name: told.who.agent.to_string() };
        let time = told.ended.since(told.who.created).duration();
        inner.agent.get_or_create(&agent).observe(time.as_secs_f64());
        let count = |count: u64| f64::from(u32::try_from(count).unwrap_or(u32::MAX));
        inner.inference_calls.get_or_create(&agent).observe(count(told.counts.inference_calls));
        inner.tool_calls.get_or_create(&agent).observe(count(told.counts.tool_calls));
        let ended = Ended {
            gen_ai_agent_name: agent.gen_ai_agent_name,
            state: RunState::from(state).name(),
            limit: told.limit.map_or("", |limit| limit.name()),
        };
        inner.ended.get_or_create(&ended).inc();
    }
}

impl Metrics {
    fn inference(&self, model: &Model, told: &AttemptTold<'_>, error_type: &'static str) {
        let inner = &*self.0;
        let call = ModelCall {
            gen_ai_provider_name: model.gen_ai_provider_name.clone(),
            gen_ai_request_model: model.gen_ai_request_model.clone(),
            error_type,
        };
        inner.inference.get_or_create(&call).observe(latency(told.came).as_secs_f64());
        let settled = settled(told.came);
        if let Some(first) = settled.and_then(|settled| settled.first_token) {
            inner.first_chunk.get_or_create(model).observe(first.duration().as_secs_f64());
        }
        // Without usage nothing is added, and the series is there.
        let usage = settled.and_then(|settled| settled.usage).unwrap_or_default();
        for (family, count) in [
            (&inner.input_tokens, usage.input_total().0),
            (&inner.output_tokens, usage.output.0),
            (&inner.cache_read, usage.cache_read.0),
            (&inner.cache_write, written(&usage)),
            (&inner.reasoning, usage.reasoning.0),
        ] {
            family.get_or_create(model).inc_by(count);
        }
    }
}

/// Tokens that were written to a cache, however long they are kept.
pub(super) fn written(usage: &Usage) -> u64 {
    usage.cache_write.plus(usage.cache_write_long).0
}
