//! OpenAI's Chat Completions, and whatever speaks it: Ollama, `vLLM`, llama.cpp, `OpenRouter`, Groq, `DeepSeek`, …
//!
//! Invariants: one request for each permit; what failed is unbilled only by [`errors::evidence`].
//! Deliberately absent: retries, fallbacks and prices. They are decided in the domain.

mod decode;
mod encode;
mod errors;
mod fault;
mod schema;
mod stream;

use std::time::Duration;

use reqwest::Url;
use reqwest::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LOCATION,
};

use self::decode::Broken;
pub use self::decode::CALLS_MAX;
pub(super) use self::encode::encode;
use self::errors::{Host, Told};
use self::fault::{Context, Fault, Refused};
use self::stream::Stream;
use super::auth::{Keys, Secret};
use super::http::{BODY_BYTES_MAX, ERROR_BODY_BYTES_MAX, Http, Outgoing, Route, explain, retry_after, send};
use super::wait::Wait;
use super::{AnswerResult, Listener, ProviderError};
use crate::domain::message::{Reply, Request};
use crate::failpoint;
use crate::ids::ReservationId;
use crate::spec::project::ProviderConfig;
use crate::units::{Millis, Timestamp};

/// Our own id of the request, for the provider's support. No idempotency: the wire has none (PROVIDERS §1).
const CLIENT_REQUEST_ID: HeaderName = HeaderName::from_static("x-client-request-id");
/// Headers that we set ourselves.
const OWN_HEADERS: &[&str] = &[
    "accept",
    "accept-encoding",
    "authorization",
    "connection",
    "content-length",
    "content-type",
    "host",
    "transfer-encoding",
    "x-client-request-id",
];
/// Where a provider tells its id of the request (PROVIDERS §11).
const REQUEST_IDS: &[&str] = &["x-request-id", "x-generation-id", "apim-request-id"];
/// How long a stream may stay open after usage and finish, for its last mark.
const LAST_MARK_TIME_MAX: Duration = Duration::from_secs(2);
/// How long it may stay open after its last mark, so that the connection can be used again.
const END_TIME_MAX: Duration = Duration::from_millis(20);

/// One provider that speaks this wire.
#[derive(Debug)]
pub(super) struct OpenAiChat {
    config: ProviderConfig,
    url: Url,
    route: Route,
    host: Host,
    headers: HeaderMap,
    keys: Keys,
}

/// What one attempt has at hand.
pub(super) struct Attempt<'a> {
    pub(super) http: &'a Http,
    pub(super) request: &'a Request,
    pub(super) listener: Option<&'a Listener>,
    pub(super) reservation: ReservationId,
    pub(super) begun: Timestamp,
    pub(super) wait: Wait,
    /// Filled when the first token comes.
    pub(super) first_token: Option<Millis>,
}

impl OpenAiChat {
    pub(super) fn new(config: &ProviderConfig) -> Result<Self, ProviderError> {
        let url = endpoint(config)?;
        Ok(Self {
            route: Route::of(&url),
            host: host(&url),
            headers: headers(config)?,
            keys: Keys::new(config.name.clone(), config.key.clone()),
            config: config.clone(),
            url,
        })
    }

    pub(super) fn body(&self, request: &Request) -> Result<Vec<u8>, ProviderError> {
        encode(&self.config, request)
    }

    pub(super) fn check_key(&self) -> Result<(), ProviderError> {
        self.keys.check()
    }

    pub(super) const fn url(&self) -> &Url {
        &self.url
    }

    /// Makes one attempt.
    pub(super) async fn attempt(&self, attempt: &mut Attempt<'_>) -> AnswerResult {
        let mut secret = None;
        match self.exchange(attempt, &mut secret).await {
            Ok(reply) => AnswerResult::Replied(Box::new(reply)),
            Err(fault) => fault.result(&Context {
                provider: self.config.name.as_str(),
                host: self.host,
                secret: secret.as_ref(),
                wait: &attempt.wait,
            }),
        }
    }

    async fn exchange(&self, attempt: &mut Attempt<'_>, secret: &mut Option<Secret>) -> Result<Reply, Fault> {
        let body = encode(&self.config, attempt.request)?;
        *secret = attempt.wait.bound(self.keys.secret()).await??;
        let headers = self.headers_of(attempt, secret.as_ref())?;
        let client = attempt.http.client(self.route)?;
        if attempt.request.stream {
            attempt.wait.expect_first_token();
        }
        let outgoing = Outgoing { url: self.url.clone(), headers, body };
        let sent = attempt.wait.sent.clone();
        let sending = Box::pin(send(&client, outgoing, sent));
        failpoint::reach("provider.send");
        let response = attempt.wait.bound(sending).await?.map_err(Fault::Transport)?;
        failpoint::reach("provider.answered");
        tracing::debug!(status = response.status().as_u16(), "answered");
        if !response.status().is_success() {
            return Err(self.refused(attempt, response).await);
        }
        read(attempt, response).await
    }

    fn headers_of(&self, attempt: &Attempt<'_>, secret: Option<&Secret>) -> Result<HeaderMap, ProviderError> {
        let mut headers = self.headers.clone();
        if let Some(secret) = secret {
            let mut bearer = HeaderValue::from_str(&format!("Bearer {}", secret.expose()))
                .map_err(|_| ProviderError::KeyForm { provider: self.config.name.clone() })?;
            bearer.set_sensitive(true);
            headers.insert(AUTHORIZATION, bearer);
        }
        let id = HeaderValue::try_from(attempt.reservation.to_string()).expect("an id is letters, digits and `#`");
        headers.insert(CLIENT_REQUEST_ID, id);
        if attempt.request.stream {
            headers.insert(ACCEPT, HeaderValue::from_static("text/event-stream"));
            // Compression would hold pieces back.
            headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        }
        Ok(headers)
    }

    /// An answer with a bad status. Its body is read as far as bounds allow; the status alone counts too.
    async fn refused(&self, attempt: &mut Attempt<'_>, mut response: reqwest::Response) -> Fault {
        let status = response.status().as_u16();
        if status == 401 {
            self.keys.forget();
        }
        let header = |name: &HeaderName| response.headers().get(name).and_then(|value| value.to_str().ok());
        // Only the host is shown: what follows it may be for its owner only.
        let location = header(&LOCATION)
            .map(|text| self.url.join(text).ok().and_then(|url| url.host_str().map(str::to_owned)).unwrap_or_default());
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
        Fault::Refused(Box::new(Refused { status, told: Told::read(&body), retry_after, location }))
    }
}

/// Reads an answer with a good status, whole or as a stream, as it says itself that it is.
async fn read(attempt: &mut Attempt<'_>, response: reqwest::Response) -> Result<Reply, Fault> {
    let kind = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let streamed =
        kind.starts_with("text/event-stream") || (attempt.request.stream && !kind.starts_with("application/json"));
    let request_id = REQUEST_IDS
        .iter()
        .find_map(|name| response.headers().get(*name)?.to_str().ok())
        .map(|id| id.chars().take(256).collect::<String>());
    let mut reply =
        if streamed { read_stream(attempt, response).await? } else { read_whole(attempt, response).await? };
    reply.request_id = request_id.or(reply.request_id);
    Ok(reply)
}

async fn read_whole(attempt: &mut Attempt<'_>, mut response: reqwest::Response) -> Result<Reply, Fault> {
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
    decode::whole(&body, &call_id(attempt.reservation)).map_err(broken)
}

async fn read_stream(attempt: &mut Attempt<'_>, mut response: reqwest::Response) -> Result<Reply, Fault> {
    let status = response.status().as_u16();
    let (mut stream, mut bytes) = (Stream::default(), 0usize);
    let why = loop {
        let piece = match next_piece(attempt, &mut response, &stream).await {
            // A stream that said all it had to say is whole, however it ends.
            Err(_) if stream.is_finished() => break String::new(),
            Err(ended) => return Err(ended.into()),
            Ok(Ok(Some(piece))) => piece,
            Ok(Ok(None)) => break "it ended without `finish_reason`".to_owned(),
            Ok(Err(error)) => break explain(error),
        };
        failpoint::reach("provider.stream");
        bytes = bytes.saturating_add(piece.len());
        let pushed = if bytes > BODY_BYTES_MAX { Err(Broken::Oversized) } else { push(attempt, &mut stream, &piece) };
        pushed.map_err(|broken| Fault::Broken { status, broken, output_seen: stream.output_seen() })?;
    };
    let output_seen = stream.output_seen();
    stream.end(&call_id(attempt.reservation), &why).map_err(|broken| Fault::Broken { status, broken, output_seen })
}

/// The next piece of a stream, waited for only as long as something is missing.
async fn next_piece(
    attempt: &mut Attempt<'_>,
    response: &mut reqwest::Response,
    stream: &Stream,
) -> Result<Result<Option<bytes::Bytes>, reqwest::Error>, super::wait::Ended> {
    let patience = match (stream.is_done(), stream.is_settled()) {
        (true, _) => END_TIME_MAX,
        (false, true) => LAST_MARK_TIME_MAX,
        (false, false) => return attempt.wait.bound(response.chunk()).await,
    };
    let next = attempt.wait.bound(tokio::time::timeout(patience, response.chunk())).await?;
    Ok(next.unwrap_or(Ok(None)))
}

fn push(attempt: &mut Attempt<'_>, stream: &mut Stream, piece: &[u8]) -> Result<(), Broken> {
    let listener = attempt.listener.filter(|_| !attempt.wait.is_cancelled());
    let pushed = stream.push(piece, &mut |text| {
        if let Some(listener) = listener {
            listener(text);
        }
    });
    if attempt.first_token.is_none() && stream.output_seen() {
        attempt.first_token = Some(attempt.http.clock().now().since(attempt.begun));
        tracing::debug!("first token");
    }
    if stream.output_seen() || stream.is_finished() {
        attempt.wait.heard_first_token();
    }
    pushed
}

/// The beginning of ids for tool calls that come without one: no two attempts of a run share it.
fn call_id(reservation: ReservationId) -> String {
    format!("call_{}", reservation.number)
}

fn endpoint(config: &ProviderConfig) -> Result<Url, ProviderError> {
    let wrong = |reason: &str| ProviderError::BaseUrl {
        provider: config.name.clone(),
        base_url: config.base_url.clone(),
        reason: reason.to_owned(),
    };
    let mut url = Url::parse(&config.base_url).map_err(|error| wrong(&error.to_string()))?;
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
    let path = format!("{}/chat/completions", url.path().trim_end_matches('/'));
    url.set_path(&path);
    url.set_fragment(None);
    Ok(url)
}

/// Azure bills some errors (PROVIDERS §4), whichever wire asks it.
fn host(url: &Url) -> Host {
    let name = url.host_str().unwrap_or_default();
    let azure = [".azure.com", ".azure.us", ".azure.cn", ".azure-api.net", ".azure-api.us"];
    if azure.iter().any(|suffix| name.ends_with(suffix)) { Host::Azure } else { Host::Other }
}

fn headers(config: &ProviderConfig) -> Result<HeaderMap, ProviderError> {
    let mut headers = HeaderMap::new();
    for (name, value) in &config.headers {
        let wrong = || ProviderError::Header { provider: config.name.clone(), header: name.clone() };
        let header = HeaderName::try_from(name.as_str()).map_err(|_| wrong())?;
        if OWN_HEADERS.contains(&header.as_str()) {
            return Err(wrong());
        }
        headers.insert(header, HeaderValue::try_from(value.as_str()).map_err(|_| wrong())?);
    }
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    Ok(headers)
}
