//! Asks the process that holds a store.

use std::io;
use std::path::Path;

use reqwest::{Method, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::act::ActRequest;
use super::alerts::{AlertRow, AlertTable};
use super::days::BudgetDays;
use super::erase::{EraseRequest, ErasedDocument};
use super::error::ErrorBody;
use super::export::{ExportPage, ExportQuery};
use super::keys::{KeyPage, KeyRequest, KeyRow, NewKey};
use super::orders::{ExceptionRequest, ExceptionRow, ExceptionTable, LiftRequest, SwitchRequest, SwitchTable};
use super::outcome::OutcomeRequest;
use super::place::{Place, PlaceError};
use super::query::{AuditQuery, CostQuery, RunQuery};
use super::service::READ_TIME_MAX;
use super::types::{AnswerRequest, CancelRequest, RunPage};
use super::{API_VERSION, NEXT_HEADER, PROGRAM_HEADER, PROGRAM_VERSION, VERSION_HEADER};
use crate::domain::report::{AuditTable, BudgetTable, CostTable, RateTable, RunDocument, Trace};
use crate::runtime::replay::TreeLog;
use crate::store::lock::Holder;
use crate::units::Millis;

/// The longest that an answer may take; longer than the holder gives itself, so that its own word comes first.
const ANSWER_TIME_MAX: Millis = Millis::from_secs(12);
const _: () = assert!(ANSWER_TIME_MAX.0 > READ_TIME_MAX.0, "the holder says first that its disk is slow");
/// The most bytes of an answer.
const ANSWER_BYTES_MAX: usize = 256 * 1024 * 1024;
/// What stands for the host: the socket is the address.
const BASE: &str = "http://plimsoll/";

/// Why the holder gave no answer that could be used.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// It says why.
    #[error("{}", .0.detail)]
    Told(Box<ErrorBody>),
    /// It serves nobody (yet), or went away while it was asked.
    #[error("{holder} doesn't serve the store, or has ended: {why}")]
    Gone {
        /// Who.
        holder: Box<Holder>,
        /// The system's words.
        why: String,
    },
    /// The store lies too deep for a socket.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// The socket isn't its owner's.
    #[error("`{path}` isn't the socket of this store's owner; remove it, or look who put it there")]
    Foreign {
        /// The socket.
        path: String,
    },
    /// It doesn't answer in time.
    #[error(
        "{holder} holds the store, and didn't answer within {time}; look at it: it may be stopped, or its disk hangs"
    )]
    Silent {
        /// Who.
        holder: Box<Holder>,
        /// How long.
        time: Millis,
    },
    /// It speaks another version.
    #[error(
        "{holder} holds the store and is plimsoll {theirs}, and this is plimsoll {PROGRAM_VERSION}: they don't understand each other; use the same version, or wait until that process has ended"
    )]
    Version {
        /// Who.
        holder: Box<Holder>,
        /// Its version.
        theirs: String,
    },
    /// The answer can't be understood.
    #[error(
        "{holder} holds the store, and its answer can't be understood: {why}; use the same version of plimsoll, or wait until that process has ended"
    )]
    Unreadable {
        /// Who.
        holder: Box<Holder>,
        /// What doesn't fit.
        why: String,
    },
}

/// A way to the process that holds a store.
#[derive(Debug)]
pub struct Client {
    http: reqwest::Client,
    holder: Holder,
    time: Millis,
    /// The path is good for as long as this lives.
    _place: Place,
}

impl Client {
    /// The way to the holder of a store's lock.
    ///
    /// # Errors
    /// It doesn't serve the store, or the socket isn't its owner's.
    pub fn of(folder: &Path, holder: Holder) -> Result<Self, ClientError> {
        Self::patient(folder, holder, ANSWER_TIME_MAX)
    }

    /// As [`Self::of`], with another bound for the time of an answer.
    ///
    /// # Errors
    /// As [`Self::of`].
    pub fn patient(folder: &Path, holder: Holder, time: Millis) -> Result<Self, ClientError> {
        let (http, place) = connect(folder).map_err(|why| match why {
            No::Place(error) => ClientError::Place(error),
            No::Foreign(path) => ClientError::Foreign { path },
            No::Gone(why) => ClientError::Gone { holder: Box::new(holder.clone()), why },
        })?;
        Ok(Self { http, holder, time, _place: place })
    }

    /// Who is asked.
    #[must_use]
    pub fn holder(&self) -> &Holder {
        &self.holder
    }

    /// See [`super::Books::runs`].
    ///
    /// # Errors
    /// See [`ClientError`]; so for all the others.
    pub async fn runs(&self, query: &RunQuery) -> Result<RunPage, ClientError> {
        let (mut page, mut query) = (RunPage { runs: Vec::new(), next: None }, query.clone());
        loop {
            let mut url = self.url(&["v1", "runs"])?;
            query.write(&mut url);
            let found: RunPage = self.read(url, Millis::ZERO).await?;
            query.0.limit = query.0.limit.saturating_sub(found.runs.len());
            query.0.before = found.next;
            page.runs.extend(found.runs);
            page.next = found.next;
            // A page may end before it is full: only so many runs are looked at for one.
            if found.next.is_none() || query.0.limit == 0 {
                return Ok(page);
            }
        }
    }

    /// See [`super::Service::run`].
    ///
    /// # Errors
    /// See [`Self::runs`].
    pub async fn run(&self, run: &str, wait: Millis) -> Result<RunDocument, ClientError> {
        let mut url = self.url(&["v1", "runs", run])?;
        if wait > Millis::ZERO {
            url.query_pairs_mut().append_pair("wait", &wait.to_string());
        }
        self.read(url, wait).await
    }

    /// See [`super::Books::trace`].
    ///
    /// # Errors
    /// See [`Self::runs`].
    pub async fn trace(&self, run: &str) -> Result<Trace, ClientError> {
        self.read(self.url(&["v1", "runs", run, "trace"])?, Millis::ZERO).await
    }

    /// See [`super::Books::tree_log`].
    ///
    /// # Errors
    /// See [`Self::runs`].
    pub async fn tree_log(&self, run: &str) -> Result<TreeLog, ClientError> {
        self.read(self.url(&["v1", "runs", run, "log"])?, Millis::ZERO).await
    }

    /// See [`super::Books::costs`].
    ///
    /// # Errors
    /// See [`Self::runs`].
    pub async fn costs(&self, query: &CostQuery) -> Result<CostTable, ClientError> {
        let mut url = self.url(&["v1", "costs"])?;
        query.write(&mut url);
        self.read(url, Millis::ZERO).await
    }

    /// See [`super::Books::export`].
    ///
    /// # Errors
    /// See [`Self::runs`].
    pub async fn export(&self, query: &ExportQuery) -> Result<ExportPage, ClientError> {
        let mut url = self.url(&["v1", "export", query.exported.name()])?;
        query.write(&mut url);
        let taken = self.bounded(self.http.request(Method::GET, url), Millis::ZERO).await?;
        let next = taken.next.map(|next| next.parse()).transpose();
        Ok(ExportPage { text: taken.bytes, next: next.map_err(|error| self.unreadable(format!("{error}")))? })
    }

    /// See [`super::Books::budgets`].
    ///
    /// # Errors
    /// See [`Self::runs`].
    pub async fn budgets(&self) -> Result<BudgetTable, ClientError> {
        self.read(self.url(&["v1", "budgets"])?, Millis::ZERO).await
    }

    /// See [`super::Service::rates`].
    ///
    /// # Errors
    /// See [`Self::runs`].
    pub async fn rates(&self) -> Result<RateTable, ClientError> {
        self.read(self.url(&["v1", "rates"])?, Millis::ZERO).await
    }

    /// See [`super::Books::audit`].
    ///
    /// # Errors
    /// See [`Self::runs`].
    pub async fn audit(&self, query: &AuditQuery) -> Result<AuditTable, ClientError> {
        let mut url = self.url(&["v1", "audit"])?;
        query.write(&mut url);
        self.read(url, Millis::ZERO).await
    }

    /// See [`super::Service::cancel`].
    ///
    /// # Errors
    /// See [`Self::runs`].
    pub async fn cancel(&self, run: &str, reason: &str, wait: Millis) -> Result<RunDocument, ClientError> {
        let request = CancelRequest { reason: reason.to_owned(), wait: Some(wait.to_string()) };
        self.change(self.url(&["v1", "runs", run, "cancel"])?, &request, wait).await
    }

    /// See [`super::Service::set_switch`].
    ///
    /// # Errors
    /// See [`Self::runs`].
    pub async fn set_switch(&self, request: &SwitchRequest) -> Result<SwitchTable, ClientError> {
        self.change(self.url(&["v1", "switches"])?, request, Millis::ZERO).await
    }

    /// See [`super::Service::lift_switch`].
    ///
    /// # Errors
    /// See [`Self::runs`].
    pub async fn lift_switch(&self, request: &LiftRequest) -> Result<SwitchTable, ClientError> {
        self.change(self.url(&["v1", "switches", "lift"])?, request, Millis::ZERO).await
    }

    /// See [`super::Service::ask_exception`].
    ///
    /// # Errors
    /// See [`Self::runs`].
    pub async fn ask_exception(&self, request: &ExceptionRequest) -> Result<ExceptionRow, ClientError> {
        self.change(self.url(&["v1", "budgets", "exceptions"])?, request, Millis::ZERO).await
    }

    /// See [`super::Service::approve_exception`].
    ///
    /// # Errors
    /// See [`Self::runs`].
    pub async fn approve_exception(&self, number: u64, request: &ActRequest) -> Result<ExceptionRow, ClientError> {
        let number = number.to_string();
        self.change(self.url(&["v1", "budgets", "exceptions", &number, "approve"])?, request, Millis::ZERO).await
    }

    /// See [`super::Service::end_exception`].
    ///
    /// # Errors
    /// See [`Self::runs`].
    pub async fn end_exception(&self, number: u64, request: &ActRequest) -> Result<ExceptionRow, ClientError> {
        let number = number.to_string();
        self.change(self.url(&["v1", "budgets", "exceptions", &number, "end"])?, request, Millis::ZERO).await
    }

    /// See [`super::Books::budget_days`].
    ///
    /// # Errors
    /// See [`Self::runs`].
    pub async fn budget_days(&self, budget: &str, scope: &str) -> Result<BudgetDays, ClientError> {
        let mut url = self.url(&["v1", "budgets", budget, "days"])?;
        url.query_pairs_mut().append_pair("scope", scope);
        self.read(url, Millis::ZERO).await
    }

    /// See [`super::Books::alerts`].
    ///
    /// # Errors
    /// See [`Self::runs`].
    pub async fn alerts(&self) -> Result<AlertTable, ClientError> {
        self.read(self.url(&["v1", "alerts"])?, Millis::ZERO).await
    }

    /// See [`super::Service::retry_alert`].
    ///
    /// # Errors
    /// See [`Self::runs`].
    pub async fn retry_alert(&self, number: u64) -> Result<AlertRow, ClientError> {
        let url = self.url(&["v1", "alerts", &number.to_string(), "retry"])?;
        self.change(url, &serde_json::json!({}), Millis::ZERO).await
    }

    /// See [`super::Service::switches`].
    ///
    /// # Errors
    /// See [`Self::runs`].
    pub async fn switches(&self) -> Result<SwitchTable, ClientError> {
        self.read(self.url(&["v1", "switches"])?, Millis::ZERO).await
    }

    /// See [`super::Service::exceptions`].
    ///
    /// # Errors
    /// See [`Self::runs`].
    pub async fn exceptions(&self) -> Result<ExceptionTable, ClientError> {
        self.read(self.url(&["v1", "budgets", "exceptions"])?, Millis::ZERO).await
    }

    /// See [`super::Service::erase`].
    ///
    /// # Errors
    /// See [`Self::runs`].
    pub async fn erase(&self, request: &EraseRequest) -> Result<ErasedDocument, ClientError> {
        self.change(self.url(&["v1", "erase"])?, request, Millis::ZERO).await
    }

    /// See [`super::Service::record_outcome`].
    ///
    /// # Errors
    /// See [`Self::runs`].
    pub async fn record_outcome(&self, run: &str, request: &OutcomeRequest) -> Result<RunDocument, ClientError> {
        self.change(self.url(&["v1", "runs", run, "outcome"])?, request, Millis::ZERO).await
    }

    /// See [`super::Service::answer`].
    ///
    /// # Errors
    /// See [`Self::runs`].
    pub async fn decide(&self, run: &str, request: &AnswerRequest) -> Result<RunDocument, ClientError> {
        self.change(self.url(&["v1", "runs", run, "approve"])?, request, Millis::ZERO).await
    }

    /// See [`super::Service::keys`].
    ///
    /// # Errors
    /// See [`Self::runs`].
    pub async fn keys(&self) -> Result<KeyPage, ClientError> {
        self.read(self.url(&["v1", "keys"])?, Millis::ZERO).await
    }

    /// See [`super::Service::make_key`].
    ///
    /// # Errors
    /// See [`Self::runs`].
    pub async fn make_key(&self, request: &KeyRequest) -> Result<NewKey, ClientError> {
        self.change(self.url(&["v1", "keys"])?, request, Millis::ZERO).await
    }

    /// See [`super::Service::rotate_key`].
    ///
    /// # Errors
    /// See [`Self::runs`].
    pub async fn rotate_key(&self, key: &str, request: &ActRequest) -> Result<NewKey, ClientError> {
        self.change(self.url(&["v1", "keys", key, "rotate"])?, request, Millis::ZERO).await
    }

    /// See [`super::Service::revoke_key`].
    ///
    /// # Errors
    /// See [`Self::runs`].
    pub async fn revoke_key(&self, key: &str, request: &ActRequest) -> Result<KeyRow, ClientError> {
        self.change(self.url(&["v1", "keys", key, "revoke"])?, request, Millis::ZERO).await
    }

    fn url(&self, path: &[&str]) -> Result<Url, ClientError> {
        let mut url = Url::parse(BASE).map_err(|error| self.unreadable(error.to_string()))?;
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        Ok(url)
    }

    async fn read<T: DeserializeOwned>(&self, url: Url, wait: Millis) -> Result<T, ClientError> {
        self.answer(self.http.request(Method::GET, url), wait).await
    }

    async fn change<T: DeserializeOwned>(
        &self,
        url: Url,
        body: &impl Serialize,
        wait: Millis,
    ) -> Result<T, ClientError> {
        self.answer(self.http.request(Method::POST, url).json(body), wait).await
    }

    async fn answer<T: DeserializeOwned>(
        &self,
        request: reqwest::RequestBuilder,
        wait: Millis,
    ) -> Result<T, ClientError> {
        let taken = self.bounded(request, wait).await?;
        serde_json::from_slice(&taken.bytes).map_err(|error| self.unreadable(error.to_string()))
    }

    /// An answer that went well.
    async fn bounded(&self, request: reqwest::RequestBuilder, wait: Millis) -> Result<Taken, ClientError> {
        let time = Millis(self.time.0.saturating_add(wait.0));
        let holder = || Box::new(self.holder.clone());
        let answered = tokio::time::timeout(time.duration(), self.take(request)).await;
        let taken = answered.map_err(|_| ClientError::Silent { holder: holder(), time })??;
        if taken.is_success {
            return Ok(taken);
        }
        let body = serde_json::from_slice(&taken.bytes).map_err(|error| self.unreadable(error.to_string()))?;
        Err(ClientError::Told(Box::new(body)))
    }

    async fn take(&self, request: reqwest::RequestBuilder) -> Result<Taken, ClientError> {
        let gone =
            |error: reqwest::Error| ClientError::Gone { holder: Box::new(self.holder.clone()), why: cause(&error) };
        let mut response = request.header(VERSION_HEADER, API_VERSION).send().await.map_err(gone)?;
        let header = |name: &str| {
            let value = response.headers().get(name).and_then(|value| value.to_str().ok());
            value.map(|value| value.chars().take(32).collect::<String>())
        };
        if header(VERSION_HEADER).as_deref() != Some(API_VERSION.to_string().as_str()) {
            let theirs = header(PROGRAM_HEADER).unwrap_or_else(|| "of an unknown version".to_owned());
            return Err(ClientError::Version { holder: Box::new(self.holder.clone()), theirs });
        }
        let next = header(NEXT_HEADER);
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(gone)? {
            if bytes.len() + chunk.len() > ANSWER_BYTES_MAX {
                return Err(self.unreadable(format!("it has more than {ANSWER_BYTES_MAX} bytes")));
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(Taken { is_success: response.status().is_success(), next, bytes })
    }

    fn unreadable(&self, why: String) -> ClientError {
        ClientError::Unreadable { holder: Box::new(self.holder.clone()), why }
    }
}

/// An answer as it came.
struct Taken {
    is_success: bool,
    /// What the next page begins behind.
    next: Option<String>,
    bytes: Vec<u8>,
}

/// Why there is no way.
enum No {
    Place(PlaceError),
    Foreign(String),
    Gone(String),
}

#[cfg(unix)]
fn connect(folder: &Path) -> Result<(reqwest::Client, Place), No> {
    use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};

    use super::place::SOCKET_FILE;
    use crate::store::lock::LOCK_FILE;

    let path = folder.join(SOCKET_FILE);
    let look = |path: &Path| std::fs::symlink_metadata(path).map_err(|error| No::Gone(error.to_string()));
    let place = Place::of(folder).map_err(No::Place)?;
    let (socket, lock) = (look(&path)?, look(&folder.join(LOCK_FILE))?);
    if !socket.file_type().is_socket() || socket.uid() != lock.uid() {
        return Err(No::Foreign(path.display().to_string()));
    }
    let client = reqwest::Client::builder()
        .unix_socket(place.path())
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        .pool_max_idle_per_host(0)
        // No network, no TLS: roots would only take time.
        .tls_certs_only([])
        .build()
        .map_err(|error| No::Gone(error.to_string()))?;
    Ok((client, place))
}

#[cfg(not(unix))]
fn connect(_folder: &Path) -> Result<(reqwest::Client, Place), No> {
    Err(No::Gone("this system has no Unix sockets".to_owned()))
}

/// The innermost cause: the outer ones only say that a request failed.
fn cause(error: &reqwest::Error) -> String {
    let mut inner: &dyn std::error::Error = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.downcast_ref::<io::Error>().map_or_else(|| inner.to_string(), ToString::to_string)
}
