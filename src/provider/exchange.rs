//! One attempt, whatever the wire: the key, the head, the one request, and what is read of the answer within its bounds.
//!
//! Invariants: one request for each permit; what failed is unbilled only by its wire's table.
//! Deliberately absent: what any wire's bytes mean ([`Dialect`]), retries, fallbacks and prices.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use reqwest::Url;
use reqwest::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LOCATION};

use super::auth::{Key, Keys, Secret};
use super::dialect::{Dialect, Reader};
use super::evidence::Host;
use super::fault::{Broken, Context, Fault, Refused};
use super::http::{BODY_BYTES_MAX, ERROR_BODY_BYTES_MAX, Http, Outgoing, Route, explain, retry_after, send};
use super::rates;
use super::wait::{Ended, Wait};
use super::{AnswerResult, Listener, ProviderError};
use crate::domain::message::{Reply, Request};
use crate::domain::rate::ToldRates;
use crate::failpoint;
use crate::ids::{AccountName, ProviderName, ReservationId};
use crate::spec::project::{KeySource, ProviderAccount, ProviderConfig};
use crate::units::{Millis, Timestamp};

/// Our own id of the request, for the provider's support. No idempotency: the wire has none (PROVIDERS §1).
const CLIENT_REQUEST_ID: HeaderName = HeaderName::from_static("x-client-request-id");
/// Headers that we set ourselves on every wire.
const OWN_HEADERS: &[&str] = &[
    "accept",
    "accept-encoding",
    "connection",
    "content-length",
    "content-type",
    "host",
    "transfer-encoding",
    "x-client-request-id",
];
/// How long a stream may stay open after usage and finish, for its last mark.
const LAST_MARK_TIME_MAX: Duration = Duration::from_secs(2);
/// How long it may stay open after its last mark, so that the connection can be used again.
const END_TIME_MAX: Duration = Duration::from_millis(20);

/// Why a wire isn't asked for a count. Of OpenAI's nobody states the price (PROVIDERS §2), of Vertex's Gemini neither (§5).
const NOT_COUNTED: &str = "nobody says that its provider counts for nothing";
/// The most that is read of a count.
const COUNT_BYTES_MAX: usize = 64 * 1024;
/// The longest id of a request that is kept.
const REQUEST_ID_CHARS_MAX: usize = 256;

/// One provider, and the wire that it speaks.
#[derive(Debug)]
pub(super) struct Endpoint {
    provider: ProviderName,
    dialect: Box<dyn Dialect>,
    /// Its own key, and the headers that go with it.
    own: Payer,
    /// Its accounts.
    accounts: BTreeMap<AccountName, Payer>,
}

/// Whose key a request goes out with.
#[derive(Debug)]
struct Payer {
    keys: Arc<Keys>,
    headers: HeaderMap,
}

/// What one attempt has at hand.
pub(super) struct Attempt<'a> {
    pub(super) http: &'a Http,
    pub(super) request: &'a Request,
    pub(super) listener: Option<&'a Listener>,
    pub(super) reservation: ReservationId,
    /// The account that pays.
    pub(super) account: Option<AccountName>,
    pub(super) begun: Timestamp,
    pub(super) wait: Wait,
    /// Filled when the first token comes.
    pub(super) first_token: Option<Millis>,
    /// Filled from the answer's head: what it says of the provider's own limits.
    pub(super) rates: ToldRates,
}

impl Endpoint {
    pub(super) fn new(config: &ProviderConfig, dialect: Box<dyn Dialect>) -> Result<Self, ProviderError> {
        let keys = |source: &KeySource| Arc::new(Keys::new(config.name.clone(), source.clone()));
        let own = Payer { keys: keys(&config.key), headers: headers(config, None, dialect.own_headers())? };
        let mut accounts = BTreeMap::new();
        for account in &config.accounts {
            // One that has headers only, such as an organisation's, shares the provider's key.
            let keys = if account.key == KeySource::None { own.keys.clone() } else { keys(&account.key) };
            let headers = headers(config, Some(account), dialect.own_headers())?;
            accounts.insert(account.account.name.clone(), Payer { keys, headers });
        }
        Ok(Self { provider: config.name.clone(), own, accounts, dialect })
    }

    /// Who pays for an attempt. The gate chose the account from the same project, so it is there; the simulated provider,
    /// which stands in for all, has none.
    fn payer(&self, account: Option<&AccountName>) -> &Payer {
        account.and_then(|account| self.accounts.get(account)).unwrap_or(&self.own)
    }

    pub(super) fn dialect(&self) -> &dyn Dialect {
        &*self.dialect
    }

    /// Makes one attempt.
    pub(super) async fn attempt(&self, attempt: &mut Attempt<'_>) -> AnswerResult {
        let mut key = None;
        match self.exchange(attempt, &mut key).await {
            Ok(reply) => AnswerResult::Replied(Box::new(reply)),
            Err(fault) => fault.result(&Context {
                provider: self.provider.as_str(),
                dialect: &*self.dialect,
                host: Host::of(self.dialect.base_url()),
                secret: key.as_ref().map(|key| &key.secret),
                wait: &attempt.wait,
            }),
        }
    }

    async fn exchange(&self, attempt: &mut Attempt<'_>, key: &mut Option<Key>) -> Result<Reply, Fault> {
        let body = self.dialect.body(attempt.request)?;
        let url = self.dialect.url(attempt.request)?;
        let payer = self.payer(attempt.account.as_ref());
        *key = attempt.wait.bound(Box::pin(payer.keys.key(attempt.http))).await??;
        let secret = key.as_ref().map(|key| &key.secret);
        let headers = self.headers_of(payer.headers.clone(), attempt.request, attempt.reservation, secret)?;
        let client = attempt.http.client(Route::of(&url))?;
        if attempt.request.stream {
            attempt.wait.expect_first_token();
        }
        let outgoing = Outgoing { url: url.clone(), headers, body };
        let sent = attempt.wait.sent.clone();
        let sending = Box::pin(send(&client, outgoing, sent));
        failpoint::reach("provider.send");
        let response = attempt.wait.bound(sending).await?.map_err(Fault::Transport)?;
        failpoint::reach("provider.answered");
        attempt.rates = rates::read(response.headers(), attempt.http.clock().now());
        tracing::debug!(status = response.status().as_u16(), "answered");
        if !response.status().is_success() {
            return Err(self.refused(attempt, &url, key.as_ref(), response).await);
        }
        self.read(attempt, response).await
    }

    /// Asks what a request's input counts; why it isn't known, in words.
    pub(super) async fn count(
        &self,
        http: &Http,
        request: &Request,
        (reservation, account): (ReservationId, Option<&AccountName>),
        mut wait: Wait,
    ) -> Result<u64, String> {
        let asked = self.dialect.counting(request);
        let (url, body) = asked.ok_or(NOT_COUNTED)?.map_err(|error| error.to_string())?;
        let time_limit = format!("its provider didn't count it within {}", wait.time_limit);
        let payer = self.payer(account);
        let key = wait.bound(Box::pin(payer.keys.key(http))).await.map_err(|_| time_limit.clone())?;
        let key = key.map_err(|error| error.to_string())?;
        let plain = Request { stream: false, ..request.clone() };
        let secret = key.as_ref().map(|key| &key.secret);
        let headers = self.headers_of(payer.headers.clone(), &plain, reservation, secret);
        let headers = headers.map_err(|error| error.to_string())?;
        let client = http.client(Route::of(&url)).map_err(|error| error.to_string())?;
        let sending = Box::pin(send(&client, Outgoing { url, headers, body }, wait.sent.clone()));
        let response = wait.bound(sending).await.map_err(|_| time_limit.clone())?;
        let mut response = response.map_err(|error| format!("its provider couldn't be asked: {}", explain(error)))?;
        let status = response.status();
        if !status.is_success() {
            return Err(format!("its provider answered with status {}", status.as_u16()));
        }
        let mut body = Vec::new();
        while let Ok(Ok(Some(piece))) = wait.bound(response.chunk()).await {
            body.extend_from_slice(&piece);
            if body.len() > COUNT_BYTES_MAX {
                break;
            }
        }
        let told = serde_json::from_slice(&body).ok().and_then(|body| self.dialect.counted(&body));
        told.ok_or_else(|| "its provider's answer has no count".to_owned())
    }

    /// What every attempt at a request that an account pays for has in its head, a line for each; no key is among it.
    pub(super) fn head(&self, request: &Request, account: Option<&AccountName>) -> String {
        let mut headers = self.payer(account).headers.clone();
        self.dialect.headers(request, &mut headers);
        let mut lines: Vec<String> = headers.iter().map(|(name, value)| format!("{name}: {value:?}")).collect();
        lines.sort();
        lines.join("\n")
    }

    fn headers_of(
        &self,
        mut headers: HeaderMap,
        request: &Request,
        reservation: ReservationId,
        secret: Option<&Secret>,
    ) -> Result<HeaderMap, ProviderError> {
        self.dialect.headers(request, &mut headers);
        if let Some(secret) = secret {
            let credential = self.dialect.credential(secret);
            let (name, mut value) =
                credential.ok_or_else(|| ProviderError::KeyForm { provider: self.provider.clone() })?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        let id = HeaderValue::try_from(reservation.to_string()).expect("an id is letters, digits and `#`");
        headers.insert(CLIENT_REQUEST_ID, id);
        if request.stream {
            headers.insert(ACCEPT, HeaderValue::from_static("text/event-stream"));
            // Compression would hold pieces back.
            headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        }
        Ok(headers)
    }

    /// An answer with a bad status. Its body is read as far as bounds allow; the status alone counts too.
    async fn refused(
        &self,
        attempt: &mut Attempt<'_>,
        url: &Url,
        key: Option<&Key>,
        mut response: reqwest::Response,
    ) -> Fault {
        let status = response.status().as_u16();
        let keys = &self.payer(attempt.account.as_ref()).keys;
        let stale_key = key.is_some_and(|key| status == 401 && keys.forget(key));
        let header = |name: &HeaderName| response.headers().get(name).and_then(|value| value.to_str().ok());
        // Only the host is shown: what follows it may be for its owner only.
        let location = header(&LOCATION)
            .map(|text| url.join(text).ok().and_then(|url| url.host_str().map(str::to_owned)).unwrap_or_default());
        let should_retry = header(&HeaderName::from_static("x-should-retry")).map(str::to_owned);
        let retry_after = retry_after(response.headers(), attempt.http.clock().now());
        let mut body = Vec::new();
        while body.len() < ERROR_BODY_BYTES_MAX
            && let Ok(Ok(Some(piece))) = attempt.wait.bound(response.chunk()).await
        {
            body.extend_from_slice(&piece);
        }
        body.truncate(ERROR_BODY_BYTES_MAX);
        tracing::debug!(status, should_retry, ?retry_after, bytes = body.len(), "refused");
        let location = location.filter(|_| (300..400).contains(&status));
        let told = self.dialect.told(&body);
        let retry_after = retry_after.or(told.retry_after);
        Fault::Refused(Box::new(Refused { status, told, retry_after, location, stale_key }))
    }

    /// Reads an answer with a good status, whole or as a stream, as it says itself that it is.
    async fn read(&self, attempt: &mut Attempt<'_>, response: reqwest::Response) -> Result<Reply, Fault> {
        let kind = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let streamed =
            kind.starts_with("text/event-stream") || (attempt.request.stream && !kind.starts_with("application/json"));
        let ids = self.dialect.request_ids().iter();
        let request_id = ids
            .filter_map(|name| response.headers().get(*name)?.to_str().ok())
            .map(|id| id.chars().take(REQUEST_ID_CHARS_MAX).collect::<String>())
            .next();
        let mut reply = if streamed {
            self.read_stream(attempt, response).await?
        } else {
            self.read_whole(attempt, response).await?
        };
        // Who tells none in the head names the request by its answer.
        reply.request_id = request_id.or_else(|| reply.response_id.clone());
        Ok(reply)
    }

    async fn read_whole(&self, attempt: &mut Attempt<'_>, mut response: reqwest::Response) -> Result<Reply, Fault> {
        attempt.wait.heard_first_token();
        let status = response.status().as_u16();
        let broken = |broken| Fault::Broken { status, broken, output_seen: false };
        let mut body = Vec::new();
        while let Some(piece) =
            attempt.wait.bound(response.chunk()).await?.map_err(|error| broken(Broken::Cut(explain(error))))?
        {
            if body.len() + piece.len() > BODY_BYTES_MAX {
                return Err(broken(Broken::Oversized));
            }
            body.extend_from_slice(&piece);
        }
        self.dialect.whole(attempt.request, &call_id(attempt.reservation), &body).map_err(broken)
    }

    async fn read_stream(&self, attempt: &mut Attempt<'_>, mut response: reqwest::Response) -> Result<Reply, Fault> {
        let status = response.status().as_u16();
        let mut reader = self.dialect.reader(attempt.request, call_id(attempt.reservation));
        let mut bytes = 0usize;
        let why = loop {
            let piece = match next_piece(attempt, &mut response, patience(&*reader)).await {
                // A stream that said all it had to say is whole, however it ends.
                Err(_) if reader.is_finished() => break String::new(),
                Err(ended) => return Err(ended.into()),
                Ok(Ok(Some(piece))) => piece,
                Ok(Ok(None)) => break "it ended before its end".to_owned(),
                Ok(Err(error)) => break explain(error),
            };
            failpoint::reach("provider.stream");
            bytes = bytes.saturating_add(piece.len());
            let pushed =
                if bytes > BODY_BYTES_MAX { Err(Broken::Oversized) } else { push(attempt, &mut *reader, &piece) };
            pushed.map_err(|broken| Fault::Broken { status, broken, output_seen: reader.output_seen() })?;
        };
        let output_seen = reader.output_seen();
        reader.end(&why).map_err(|broken| Fault::Broken { status, broken, output_seen })
    }
}

/// The beginning of ids for tool calls that come without one.
fn call_id(reservation: ReservationId) -> String {
    format!("call_{}", reservation.number)
}

/// How long a stream is waited for that has said all that counts; `None` as long as something is missing.
fn patience(reader: &dyn Reader) -> Option<Duration> {
    match (reader.is_done(), reader.is_settled()) {
        (true, _) => Some(END_TIME_MAX),
        (false, true) => Some(LAST_MARK_TIME_MAX),
        (false, false) => None,
    }
}

/// The next piece of a stream.
async fn next_piece(
    attempt: &mut Attempt<'_>,
    response: &mut reqwest::Response,
    patience: Option<Duration>,
) -> Result<Result<Option<bytes::Bytes>, reqwest::Error>, Ended> {
    let Some(patience) = patience else { return attempt.wait.bound(response.chunk()).await };
    let next = attempt.wait.bound(tokio::time::timeout(patience, response.chunk())).await?;
    Ok(next.unwrap_or(Ok(None)))
}

fn push(attempt: &mut Attempt<'_>, reader: &mut dyn Reader, piece: &[u8]) -> Result<(), Broken> {
    let listener = attempt.listener.filter(|_| !attempt.wait.is_cancelled());
    let pushed = reader.push(piece, &mut |text| {
        if let Some(listener) = listener {
            listener(text);
        }
    });
    if attempt.first_token.is_none() && reader.output_seen() {
        attempt.first_token = Some(attempt.http.clock().now().since(attempt.begun));
        tracing::debug!("first token");
    }
    if reader.output_seen() || reader.is_finished() {
        attempt.wait.heard_first_token();
    }
    pushed
}

/// Where a provider's API begins, as the file says it.
///
/// # Errors
/// Where it is no address, or holds credentials.
pub(super) fn base_url(config: &ProviderConfig) -> Result<Url, ProviderError> {
    let wrong = |reason: &str| ProviderError::BaseUrl {
        provider: config.name.clone(),
        base_url: config.base_url.clone(),
        reason: reason.to_owned(),
    };
    let url = Url::parse(&config.base_url).map_err(|error| wrong(&error.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(wrong("it begins with neither `http://` nor `https://`"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        // Not shown: it may hold the key.
        let hidden = ProviderConfig { base_url: "…@…".to_owned(), ..config.clone() };
        return Err(ProviderError::BaseUrl {
            provider: hidden.name,
            base_url: hidden.base_url,
            reason: "it holds a name or password; use `key_env`".to_owned(),
        });
    }
    Ok(url)
}

/// The address below a base: its path goes on with `path`, and its query stays.
pub(super) fn below(base: &Url, path: &str) -> Url {
    let mut url = base.clone();
    url.set_path(&format!("{}/{path}", base.path().trim_end_matches('/')));
    url.set_fragment(None);
    url
}

fn headers(
    config: &ProviderConfig,
    account: Option<&ProviderAccount>,
    own: &[&str],
) -> Result<HeaderMap, ProviderError> {
    let mut headers = HeaderMap::new();
    for (name, value) in config.headers.iter().chain(account.iter().flat_map(|account| &account.headers)) {
        let wrong = || ProviderError::Header { provider: config.name.clone(), header: name.clone() };
        let header = HeaderName::try_from(name.as_str()).map_err(|_| wrong())?;
        if OWN_HEADERS.contains(&header.as_str()) || own.contains(&header.as_str()) {
            return Err(wrong());
        }
        headers.insert(header, HeaderValue::try_from(value.as_str()).map_err(|_| wrong())?);
    }
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    Ok(headers)
}
