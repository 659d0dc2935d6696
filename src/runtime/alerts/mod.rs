//! Brings alerts from the outbox to those who hear them: by log, webhook or command.
//!
//! Invariants: only who holds the store delivers, one alert at a time for each `[[alerts]]`, oldest first; a try is booked
//! before the next one, so that an alert is delivered at least once, and again only where the process died in between; its
//! id never changes. Deliberately absent: when to try again, and when to give up (`domain::alert` decides).

mod signature;
mod webhook;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::json;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};

use crate::clock::Clock;
use crate::domain::alert::{Alert, AlertEntry, LOG, Tried};
use crate::failpoint;
use crate::provider::http::Http;
use crate::spec::alerts::{AlertConfig, AlertWay};
use crate::spec::project::Project;
use crate::store::{Store, StoreError};
use crate::tool::ToolContext;
use crate::tool::command::run_program;
use crate::units::{Millis, Timestamp};

/// Alerts that are looked at for the next one of each who hears; the others come after those.
const LOOKED_AT_MAX: usize = 1_024;
/// How long nobody looks, where nothing is due before.
const REST_MAX: Millis = Millis::from_secs(3_600);

/// Delivers alerts. Cheap to clone.
#[derive(Clone)]
pub struct Deliverer(Arc<Inner>);

struct Inner {
    store: Store,
    courier: Courier,
}

/// Knows the ways to those who hear.
#[derive(Clone)]
pub struct Courier(Arc<Ways>);

struct Ways {
    ways: BTreeMap<String, AlertConfig>,
    clock: Clock,
    http: Http,
    tools: ToolContext,
    /// True where no money is spent.
    simulated: bool,
    /// Nobody stops a try: it ends by itself, or with its process.
    _never: watch::Sender<bool>,
}

impl Courier {
    /// Of what a project configures; `simulated` where no money is spent, which alerts then say.
    #[must_use]
    pub fn new(project: &Project, clock: Clock, simulated: bool) -> Self {
        let ways = project.alerts.iter().map(|alert| (alert.rule.name.clone(), alert.clone())).collect();
        let (never, stopped) = watch::channel(false);
        let (http, tools) = (Http::new(clock.clone()), ToolContext::new(clock.clone(), stopped));
        Self(Arc::new(Ways { ways, clock, http, tools, simulated, _never: never }))
    }

    /// Sends a test to somebody, past the outbox.
    ///
    /// # Errors
    /// It didn't arrive; in words.
    pub async fn test(&self, name: &str) -> Result<(), String> {
        let at = self.0.clock.now();
        let entry = AlertEntry::new(0, name.to_owned(), at, Alert::Test { at });
        match self.bring(&entry, &format!("test_{}", self.0.clock.run_id())).await {
            Tried::Delivered => Ok(()),
            Tried::Failed { why, .. } | Tried::Refused { why } => Err(why),
        }
    }

    /// One try.
    async fn bring(&self, entry: &AlertEntry, id: &str) -> Tried {
        let Some(config) = self.0.ways.get(&entry.to) else {
            if entry.to == LOG {
                tell_log(entry);
                return Tried::Delivered;
            }
            return Tried::Refused { why: format!("`[[alerts]]` has no `{}` any more", entry.to) };
        };
        let body = body(entry, id, self.0.simulated);
        match &config.way {
            AlertWay::Log => {
                tell_log(entry);
                Tried::Delivered
            }
            AlertWay::Webhook { url, secret } => {
                let secret = match webhook::secret(secret, &self.0.tools.variables) {
                    Ok(secret) => secret,
                    Err(why) => return Tried::Failed { why, wait: None },
                };
                let now = self.0.clock.now();
                webhook::send(&self.0.http, webhook::Letter { url, id, now, body, secret }, config.timeout).await
            }
            AlertWay::Command { command, directory, env } => {
                let line = format!("{body}\n");
                let ran = run_program((command, directory, env), line, &self.0.tools, config.timeout).await;
                ran.map_or_else(|why| Tried::Failed { why, wait: None }, |()| Tried::Delivered)
            }
        }
    }
}

/// What a receiver reads: the same bytes at every try.
fn body(entry: &AlertEntry, id: &str, simulated: bool) -> String {
    let mut body = json!({
        "id": id,
        "timestamp": entry.at.to_string(),
        "to": entry.to,
        "text": entry.alert.text(),
        "simulated": simulated,
    });
    if let (Some(body), Ok(serde_json::Value::Object(alert))) =
        (body.as_object_mut(), serde_json::to_value(&entry.alert))
    {
        body.extend(alert);
    }
    body.to_string()
}

fn tell_log(entry: &AlertEntry) {
    let (run, kind) = (entry.alert.run().map(tracing::field::display), entry.alert.kind());
    tracing::warn!(alert = entry.number, to = entry.to, run, kind, "{}", entry.alert.text());
}

impl Deliverer {
    /// Delivers what a store's outbox holds.
    #[must_use]
    pub fn new(store: Store, courier: Courier) -> Self {
        Self(Arc::new(Inner { store, courier }))
    }

    /// Delivers what is due, and what becomes due, until it is told to stop; then what is due at that moment, once.
    pub async fn work(&self, mut stop: watch::Receiver<bool>) {
        let mut round = Round::default();
        while !*stop.borrow() {
            let Some(waiting) = self.waiting() else { return };
            let now = self.now();
            let (due, later): (Vec<_>, Vec<_>) = waiting.into_iter().partition(|entry| entry.next <= now);
            self.start(&mut round, due);
            let rest = later.first().map_or(REST_MAX, |entry| entry.next.since(now).min(REST_MAX));
            tokio::select! {
                biased;
                told = stop.wait_for(|stop| *stop) => if told.is_err() { break },
                Some(done) = round.going.join_next() => if !round.end(done) { return },
                () = self.0.store.alerts_changed() => {}
                () = tokio::time::sleep(rest.duration()) => {}
            }
        }
        self.finish(round).await;
    }

    /// Tries what is due now once more, and waits for what is being tried.
    async fn finish(&self, mut round: Round) {
        let (Some(mut due), now) = (self.waiting(), self.now()) else { return };
        due.retain(|entry| entry.next <= now && round.busy.get(&entry.to) != Some(&entry.number));
        loop {
            due = self.start(&mut round, due);
            let Some(done) = round.going.join_next().await else { return };
            if !round.end(done) {
                return;
            }
        }
    }

    fn now(&self) -> Timestamp {
        self.0.courier.0.clock.now()
    }

    /// What waits; nothing where the outbox can't be read, and then nothing of this store can.
    fn waiting(&self) -> Option<Vec<AlertEntry>> {
        let waiting = self.0.store.alerts_due(LOOKED_AT_MAX);
        waiting.inspect_err(|error| tracing::error!(%error, "alerts can't be read, and nobody is told of them")).ok()
    }

    /// Begins to try what is due, one for each who hears; gives those who wait for that.
    fn start(&self, round: &mut Round, due: Vec<AlertEntry>) -> Vec<AlertEntry> {
        let mut left = Vec::new();
        for entry in due {
            if round.busy.contains_key(&entry.to) {
                left.push(entry);
                continue;
            }
            round.busy.insert(entry.to.clone(), entry.number);
            let deliverer = self.clone();
            round.going.spawn(async move {
                let delivered = deliverer.deliver(&entry).await;
                delivered.map(|()| entry.to)
            });
        }
        left
    }

    async fn deliver(&self, entry: &AlertEntry) -> Result<(), StoreError> {
        let Inner { store, courier } = &*self.0;
        let id = format!("alert_{}_{}", store.head().id, entry.number);
        let tried = courier.bring(entry, &id).await;
        failpoint::reach("alert.brought");
        if let Tried::Failed { why, .. } | Tried::Refused { why } = &tried {
            let (run, tries) = (entry.alert.run().map(tracing::field::display), entry.tries + 1);
            tracing::warn!(alert = entry.number, to = entry.to, run, tries, why, "an alert didn't arrive");
        }
        store.alert_tried(entry.number, tried).await
    }
}

/// What is being tried: for each who hears, the number of the alert.
#[derive(Default)]
struct Round {
    going: JoinSet<Result<String, StoreError>>,
    busy: BTreeMap<String, u64>,
}

impl Round {
    /// Takes the end of a try; false where nothing can be booked any more.
    fn end(&mut self, done: Result<Result<String, StoreError>, JoinError>) -> bool {
        match done {
            Ok(Ok(to)) => drop(self.busy.remove(&to)),
            Ok(Err(error)) => {
                tracing::error!(%error, "it can't be written which alerts arrived, and no more are sent");
                return false;
            }
            Err(error) => {
                tracing::error!(%error, "a try to deliver an alert broke off, and no more are sent");
                return false;
            }
        }
        true
    }
}
