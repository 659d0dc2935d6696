//! The way to an OpenTelemetry collector: OTLP over HTTP, off unless the project or `OTEL_…` variables name one.
//!
//! Invariants: whoever tells something never waits: spans go into a bounded queue, and what doesn't fit is dropped and
//! counted; an endpoint that is slow, down or wrong changes nothing of any run; at the end what has gathered is sent, within
//! [`FLUSH_TIME_MAX`].

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry_otlp::{MetricExporter, Protocol, SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;
use opentelemetry_sdk::metrics::{SdkMeterProvider, Temporality};
use opentelemetry_sdk::trace::{SpanData, SpanExporter as _};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use super::otlp::Instruments;
use super::{AttemptTold, Gauges, PieceTold, QualityTold, RunTold, Sink, StageTold, spans};
use crate::spec::project::GenAiNames;

/// Spans that wait to be sent; more are dropped.
pub const SPANS_QUEUED_MAX: usize = 4_096;
/// Spans of one request.
const BATCH_SPANS_MAX: usize = 512;
/// How long spans gather for one request.
const GATHER_TIME: Duration = Duration::from_secs(1);
/// How long the last spans and metrics may take.
pub const FLUSH_TIME_MAX: Duration = Duration::from_secs(5);
/// The name of the service where no variable has one.
const SERVICE: &str = "plimsoll";
/// Variables that name a collector, by which it is on without a word of the project.
const ENDPOINTS: [&str; 3] =
    ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT"];

/// True where a variable says this of a signal, or of all.
fn is_said(signal: &str, what: &str) -> bool {
    is_set(&format!("OTEL_EXPORTER_OTLP_{signal}_{what}")) || is_set(&format!("OTEL_EXPORTER_OTLP_{what}"))
}

/// What the project says of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExportOptions {
    /// Where the collector is, such as `http://127.0.0.1:4318`; `OTEL_…` variables go before it.
    pub endpoint: Option<String>,
    /// True where what people wrote and models answered is sent too.
    pub content: bool,
    /// Which of the conventions' names are told.
    pub names: GenAiNames,
    /// True where calls say what they cost in the attributes that the conventions may come to have, too.
    pub cost: bool,
    /// True where nobody is paid: a simulated provider, or a recording, answers.
    pub simulated: bool,
}

/// What stands in the store; nothing where it can't be read.
pub(super) type Watched = Box<dyn Fn() -> Option<Gauges> + Send + Sync>;

/// Why nothing is exported.
#[derive(Debug, thiserror::Error)]
#[error("nothing can be sent to the OpenTelemetry collector: {0}")]
pub struct ExportError(String);

/// What was sent, and what wasn't.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// Spans that the collector took.
    pub spans: u64,
    /// Spans that found no room.
    pub dropped: u64,
    /// Spans that the collector didn't take.
    pub failed: u64,
}

/// Sends spans and metrics. Clones are the same.
#[derive(Clone)]
pub struct Exporter(Arc<Shared>);

struct Shared {
    queue: mpsc::Sender<Item>,
    counts: Arc<SentCounts>,
    meters: SdkMeterProvider,
    instruments: Instruments,
    watched: Arc<Mutex<Option<Watched>>>,
    options: ExportOptions,
    task: Mutex<JoinSet<()>>,
}

#[derive(Default)]
struct SentCounts {
    spans: AtomicU64,
    dropped: AtomicU64,
    failed: AtomicU64,
}

enum Item {
    Span(Box<SpanData>),
    /// Everything before it is to be sent at once.
    Flush(oneshot::Sender<()>),
}

fn is_set(variable: &str) -> bool {
    std::env::var_os(variable).is_some_and(|value| !value.is_empty())
}

/// True where somebody wants it.
fn is_wanted(options: &ExportOptions) -> bool {
    let disabled = std::env::var("OTEL_SDK_DISABLED").is_ok_and(|value| value.eq_ignore_ascii_case("true"));
    !disabled && (options.endpoint.is_some() || ENDPOINTS.into_iter().any(is_set))
}

impl Exporter {
    /// Starts it where somebody wants it. Needs a tokio runtime around it; no connection is made yet.
    ///
    /// # Errors
    /// A variable or the endpoint can't be used.
    pub fn start(options: &ExportOptions) -> Result<Option<Self>, ExportError> {
        if !is_wanted(options) {
            return Ok(None);
        }
        let fault = |error: &dyn std::fmt::Display| ExportError(error.to_string());
        let (mut spans, mut metrics) = (SpanExporter::builder().with_http(), MetricExporter::builder().with_http());
        // What the specification says where nobody says otherwise; the crate would take JSON.
        if !is_said("TRACES", "PROTOCOL") {
            spans = spans.with_protocol(Protocol::HttpBinary);
        }
        if !is_said("METRICS", "PROTOCOL") {
            metrics = metrics.with_protocol(Protocol::HttpBinary);
        }
        // A variable that is set goes before the file.
        let endpoint = |signal| options.endpoint.as_ref().filter(|_| !is_said(signal, "ENDPOINT"));
        if let Some(endpoint) = endpoint("TRACES") {
            spans = spans.with_endpoint(format!("{endpoint}/v1/traces"));
        }
        if let Some(endpoint) = endpoint("METRICS") {
            metrics = metrics.with_endpoint(format!("{endpoint}/v1/metrics"));
        }
        let mut spans = spans.build().map_err(|error| fault(&error))?;
        let metrics = metrics.build().map_err(|error| fault(&error))?;
        let handle = Handle::try_current().map_err(|error| fault(&error))?;
        let resource = resource(options.simulated);
        spans.set_resource(&resource);
        let relay = Relay { inner: metrics, handle: handle.clone() };
        let meters = SdkMeterProvider::builder().with_resource(resource).with_periodic_exporter(relay).build();
        let (queue, items) = mpsc::channel(SPANS_QUEUED_MAX);
        let counts = Arc::<SentCounts>::default();
        let mut task = JoinSet::new();
        task.spawn_on(send_all(items, spans, Arc::clone(&counts)), &handle);
        let watched = Arc::default();
        let instruments = Instruments::of(&meters, options.names, &watched);
        let (options, task) = (options.clone(), Mutex::new(task));
        Ok(Some(Self(Arc::new(Shared { queue, counts, meters, instruments, watched, options, task }))))
    }

    /// Tells what stands in the store from here on; nothing more of it with `None`.
    pub(super) fn watch(&self, watched: Option<Watched>) {
        *self.0.watched.lock().unwrap_or_else(PoisonError::into_inner) = watched;
    }

    /// What was sent, and what wasn't.
    #[must_use]
    pub fn sent(&self) -> Sent {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let counts = &self.0.counts;
        Sent { spans: read(&counts.spans), dropped: read(&counts.dropped), failed: read(&counts.failed) }
    }

    /// Sends what has gathered, within [`FLUSH_TIME_MAX`], and says what couldn't be sent.
    pub async fn flush(&self) {
        let (done, sent) = oneshot::channel();
        let meters = self.0.meters.clone();
        // On a thread of its own: its reader waits for the answer.
        let metrics = tokio::task::spawn_blocking(move || meters.force_flush());
        let all = async {
            if self.0.queue.send(Item::Flush(done)).await.is_ok() {
                sent.await.unwrap_or_default();
            }
            metrics.await
        };
        match tokio::time::timeout(FLUSH_TIME_MAX, all).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) => tracing::warn!(%error, "metrics could not be sent to the OpenTelemetry collector"),
            Ok(Err(error)) => tracing::warn!(%error, "metrics could not be gathered"),
            Err(_) => tracing::warn!("the OpenTelemetry collector takes too long, and gets no more"),
        }
        let Sent { dropped, failed, .. } = self.sent();
        if dropped + failed > 0 {
            tracing::warn!(dropped, failed, "spans were not sent to the OpenTelemetry collector");
        }
    }

    fn put(&self, span: SpanData) {
        if self.0.queue.try_send(Item::Span(Box::new(span))).is_err() {
            self.0.counts.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.task.lock().unwrap_or_else(PoisonError::into_inner).abort_all();
    }
}

/// Who sends: the service, by the name that a variable gives it.
fn resource(simulated: bool) -> Resource {
    let named = is_set("OTEL_SERVICE_NAME")
        || std::env::var("OTEL_RESOURCE_ATTRIBUTES").is_ok_and(|attributes| attributes.contains("service.name="));
    let mut builder = Resource::builder().with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")));
    if simulated {
        builder = builder.with_attribute(KeyValue::new("plimsoll.simulated", true));
    }
    if named { builder.build() } else { builder.with_service_name(SERVICE).build() }
}

async fn send_all(mut items: mpsc::Receiver<Item>, exporter: SpanExporter, counts: Arc<SentCounts>) {
    let mut is_down = false;
    loop {
        let (batch, flushes, is_last) = gather(&mut items).await;
        if !batch.is_empty() {
            let count = u64::try_from(batch.len()).unwrap_or(u64::MAX);
            let sent = exporter.export(batch).await;
            let counter = if sent.is_ok() { &counts.spans } else { &counts.failed };
            counter.fetch_add(count, Ordering::Relaxed);
            // Said once for each time that it goes down.
            let was_down = std::mem::replace(&mut is_down, sent.is_err());
            if let (Err(error), false) = (sent, was_down) {
                tracing::warn!(%error, "spans can't be sent to the OpenTelemetry collector");
            }
        }
        // Who waits for it may be gone.
        flushes.into_iter().for_each(|flush| flush.send(()).unwrap_or_default());
        if is_last {
            return;
        }
    }
}

/// Spans for one request: the first, and those that come soon after it; a flush ends the waiting.
async fn gather(items: &mut mpsc::Receiver<Item>) -> (Vec<SpanData>, Vec<oneshot::Sender<()>>, bool) {
    let (mut batch, mut flushes) = (Vec::new(), Vec::new());
    let mut next = items.recv().await;
    let until = tokio::time::Instant::now() + GATHER_TIME;
    loop {
        match next {
            Some(Item::Span(span)) => batch.push(*span),
            Some(Item::Flush(flush)) => flushes.push(flush),
            None => return (batch, flushes, true),
        }
        if !flushes.is_empty() || batch.len() >= BATCH_SPANS_MAX {
            return (batch, flushes, false);
        }
        match tokio::time::timeout_at(until, items.recv()).await {
            Ok(item) => next = item,
            Err(_) => return (batch, flushes, false),
        }
    }
}

/// The metrics' reader has a thread of its own, and the client needs tokio's.
#[derive(Debug)]
struct Relay {
    inner: MetricExporter,
    handle: Handle,
}

impl PushMetricExporter for Relay {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        if Handle::try_current().is_ok() {
            return self.inner.export(metrics).await;
        }
        self.handle.block_on(self.inner.export(metrics))
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> Result<(), OTelSdkError> {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn temporality(&self) -> Temporality {
        self.inner.temporality()
    }
}

impl Sink for Exporter {
    fn attempt(&self, told: &AttemptTold<'_>) {
        self.0.instruments.attempt(told);
        self.put(spans::attempt(told, &self.0.options));
    }

    fn stage(&self, told: &StageTold<'_>) {
        self.put(spans::stage(told, &self.0.options));
    }

    fn run(&self, told: &RunTold<'_>) {
        self.0.instruments.run(told);
        self.put(spans::run(told, &self.0.options));
    }

    fn quality(&self, told: &QualityTold<'_>) {
        self.put(spans::quality(told, &self.0.options));
    }

    fn piece(&self, told: &PieceTold<'_>) {
        self.0.instruments.piece(told);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::event::{Labels, Place};
    use crate::ids::{AgentName, PlanHash, RunId, StageName};
    use crate::telemetry::Who;
    use crate::units::Timestamp;

    /// A collector that hangs holds nobody up: what finds no room is dropped and counted, and the end is bounded.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn who_tells_never_waits() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
        let options = ExportOptions { endpoint: Some(endpoint), ..ExportOptions::default() };
        let exporter = Exporter::start(&options).expect("it starts").expect("it is wanted");
        let run = RunId::from_bits(7);
        let who = Who {
            root: run,
            run,
            parent: None,
            agent: AgentName::from("a"),
            plan: PlanHash::from(""),
            labels: Labels::new(),
            prompt_version: String::new(),
            created: Timestamp(1),
            began: Timestamp(1),
        };
        let place = Place { stage: StageName::from("read"), item: None };
        let (began, ended) = (Timestamp(1), Timestamp(2));
        let told = StageTold { who: &who, place: &place, began, ended, end: None, is_left: false };
        // Nothing here can wait: it isn't even async.
        let many = SPANS_QUEUED_MAX + 4 * BATCH_SPANS_MAX;
        (0..many).for_each(|_| Sink::stage(&exporter, &told));
        let Sent { spans, dropped, failed } = exporter.sent();
        assert!(dropped >= u64::try_from(BATCH_SPANS_MAX).expect("small"), "{dropped}");
        assert_eq!((spans, failed), (0, 0));
    }
}
