//! A simulated provider: speaks the providers' wires (`wire/`) over a real socket and keeps an invoice by its own count.
//!
//! Invariants: a call's line on the invoice is written before the first byte of its answer leaves, and even before
//! its latency, so that a client that hangs up has paid; what is billed depends on the request, the scenario and its
//! seed alone; prices and counts share no code with `domain::pricing` or the provider adapter.
//!
//! Without a scenario it plays a sensible agent: calls each fitting tool once, then answers in the asked form.
//! Each wire has its paths; what is asked below `/PROVIDER/` is priced as that provider's model, else by the model alone.
//! Deliberately absent: TLS, batch and priority tiers, embeddings, and any knowledge of runs.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::clock::Clock;
use crate::units::{Millis, Timestamp};

mod act;
mod agent;
mod cache;
mod chat;
mod completion;
mod count;
mod fault;
mod google;
mod invoice;
mod material;
mod picture;
mod rates;
mod scenario;
mod schema;
mod search;
mod serve;
mod tariff;
mod wire;

pub use invoice::{Billed, Invoice, InvoiceError, LINES_KEPT_MAX, Line};
/// What a file counts at a simulated provider.
pub use picture::file_tokens;
pub use rates::{Counts, PriceError, Rate, Rates, Serving, SimDeployment, SimHours, SimLong, SimPrice, SimTier};
pub use scenario::{SCENARIO_BYTES_MAX, Scenario, ScenarioError};

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 1_024;
/// How long a stop waits for open connections.
const STOP_TIME_MAX: Millis = Millis::from_secs(2);

/// How a simulated provider is set up.
#[derive(Clone, Debug)]
pub struct SimOptions {
    /// Where it listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// What it plays; by default the built-in agent.
    pub scenario: Scenario,
    /// A JSON Lines file that the invoice is appended to, and carried on from.
    pub invoice: Option<PathBuf>,
    /// Prices over the built-in table; a scenario's own stand over these.
    pub prices: Vec<SimPrice>,
    /// What stands behind Azure's deployments.
    pub deployments: Vec<SimDeployment>,
    /// What dates the lines.
    pub clock: Clock,
}

impl Default for SimOptions {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            scenario: Scenario::default(),
            invoice: None,
            prices: Vec::new(),
            deployments: Vec::new(),
            clock: Clock::system(),
        }
    }
}

/// A simulated provider.
#[derive(Debug)]
pub struct Sim;

impl Sim {
    /// Starts a simulated provider on the current tokio runtime. It answers as soon as this returns.
    ///
    /// # Errors
    /// Where the address is taken, the invoice can't be kept, or a price can't be read.
    pub fn start(options: SimOptions) -> Result<SimHandle, SimError> {
        let SimOptions { listen, scenario, invoice, mut prices, deployments, clock } = options;
        prices.extend(scenario.file.prices.iter().cloned());
        let mut rates = rates::Rates::new(&prices)?;
        deployments.iter().for_each(|deployment| rates.deploy(deployment, &prices));
        let books = invoice::Books::open(invoice.as_deref())?;
        let listener = bind(listen).map_err(|source| SimError::Listen { address: listen, source })?;
        let address = listener.local_addr().map_err(|source| SimError::Listen { address: listen, source })?;
        let (stop, stopped) = watch::channel(false);
        let shared = Arc::new(serve::Shared::new(scenario, rates, clock, stopped, books));
        let mut tasks = JoinSet::new();
        tasks.spawn(serve::serve(listener, shared.clone()));
        Ok(SimHandle { address, shared, stop, tasks })
    }
}

fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// A running simulated provider. Dropping it stops it too, without waiting.
#[derive(Debug)]
pub struct SimHandle {
    address: SocketAddr,
    shared: Arc<serve::Shared>,
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

impl SimHandle {
    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What clients put before `/chat/completions`: `http://127.0.0.1:PORT/v1`.
    #[must_use]
    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// A base URL at which models are priced as `provider`'s: for plans with models of several providers.
    #[must_use]
    pub fn base_url_for(&self, provider: &str) -> String {
        format!("http://{}/{provider}/v1", self.address)
    }

    /// The key file of a Google service account whose tokens are taken here.
    #[must_use]
    pub fn service_account(&self) -> String {
        google::key_file(self.address)
    }

    /// A copy of the invoice as it stands.
    #[must_use]
    pub fn invoice(&self) -> Invoice {
        self.shared.invoice()
    }

    /// The newest chat requests since the start, billed or not, oldest first.
    #[must_use]
    pub fn requests(&self) -> Vec<Received> {
        self.shared.received()
    }

    /// Stops: no new connections, open answers end at once, two seconds at most.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        let ended = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(STOP_TIME_MAX.duration(), ended).await.is_err() {
            self.tasks.shutdown().await;
        }
    }
}

/// One chat request that was received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// Its line on the invoice.
    pub line: Line,
    /// How it ended.
    pub end: End,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
}

/// How an exchange ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It hasn't yet.
    Open,
    /// The answer was handed over whole.
    Answered,
    /// The scenario closed the connection.
    Cut,
    /// The client went away first.
    HungUp,
    /// The simulator was stopped first.
    Stopped,
}

/// Why a simulated provider can't start.
#[derive(Debug, thiserror::Error)]
pub enum SimError {
    /// The address can't be listened on.
    #[error("the simulated provider can't listen on `{address}`: {source}; choose another address with `--listen`")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },
    /// The invoice can't be kept.
    #[error(transparent)]
    Invoice(#[from] InvoiceError),
    /// A price can't be read.
    #[error(transparent)]
    Price(#[from] PriceError),
}
