//! One HTTP client for all providers: connections are shared, each request goes out once.
//!
//! Invariants: no redirect is followed; nothing is sent twice; every wait, body and header list is bounded.
//! - `reqwest`'s retries are off, and the body is a stream that can't be read twice, so that no layer could repeat it.
//! - `hyper-util` alone may pick another connection where a pooled one was closed before the request's head was begun
//!   (`retry_canceled_requests`, which `reqwest` doesn't let us set): the request hasn't left then, so it still leaves
//!   once at most.
//! - Connections rest for a short time only, so that a server rarely closes one under a request.
//!
//! Deliberately absent: cookies, retries, and a client for tools (they have bounds of their own).

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use reqwest::Url;
use reqwest::header::{CONTENT_LENGTH, HeaderMap};

use crate::clock::Clock;
use crate::provider::ProviderError;
use crate::provider::wait::Sent;
use crate::units::{Millis, Timestamp};

/// How long a connection may take to be made, TLS included.
pub const CONNECT_TIME_MAX: Millis = Millis::from_secs(10);
/// The largest answer that is read, after decompression.
pub const BODY_BYTES_MAX: usize = 16 * 1024 * 1024;
/// The largest error body that is read.
pub const ERROR_BODY_BYTES_MAX: usize = 64 * 1024;
/// The most header lines of an answer.
pub const HEADERS_MAX: usize = 100;
/// The largest header list of an answer over HTTP/2; over HTTP/1 `hyper` bounds its buffer at about 400 KiB.
pub const HEADER_LIST_BYTES_MAX: u32 = 64 * 1024;
/// The longest wait that a provider may ask for and be believed.
pub const RETRY_AFTER_MAX: Millis = Millis::from_secs(86_400);
/// Idle connections kept for each host.
const IDLE_CONNECTIONS_MAX: usize = 256;
/// How long a connection to a hosted provider rests.
const SECURE_IDLE_TIME_MAX: Duration = Duration::from_secs(60);
/// How long one to a local server rests: `uvicorn`, under `vLLM` and others, closes after 5 s.
const PLAIN_IDLE_TIME_MAX: Duration = Duration::from_secs(4);
/// What we call ourselves.
const USER_AGENT: &str = concat!("plimsoll/", env!("CARGO_PKG_VERSION"));

/// The HTTP client. Cheap to clone; clones share their connections.
#[derive(Clone, Debug)]
pub struct Http(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    clock: Clock,
    /// Built when first needed: loading TLS roots takes longer than the rest of our start.
    clients: Mutex<BTreeMap<Route, reqwest::Client>>,
}

/// How a server is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Route {
    /// Plain HTTP to this machine: no proxy.
    Local,
    /// TLS to this machine: no proxy.
    LocalSecure,
    /// Plain HTTP elsewhere, by the proxy of the environment.
    Plain,
    /// TLS elsewhere, by the proxy of the environment.
    Secure,
}

/// A request that is ready to go out.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) url: Url,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Http {
    /// A client without connections; `clock` measures latencies and reads dates.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        Self(Arc::new(Inner { clock, clients: Mutex::default() }))
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.0.clock
    }

    /// The client for a route.
    ///
    /// # Errors
    /// Where TLS roots can't be loaded.
    pub(crate) fn client(&self, route: Route) -> Result<reqwest::Client, ProviderError> {
        let mut clients = self.0.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(&route) {
            return Ok(client.clone());
        }
        let client = build(route).map_err(|error| ProviderError::Client { reason: explain(error) })?;
        clients.insert(route, client.clone());
        Ok(client)
    }
}

/// Sends a request once. `sent` is noted when its body is asked for: before that, no byte of it left.
pub(crate) async fn send(
    client: &reqwest::Client,
    outgoing: Outgoing,
    sent: Sent,
) -> Result<reqwest::Response, reqwest::Error> {
    let Outgoing { url, mut headers, body } = outgoing;
    // The body is a stream, whose length has to be told.
    headers.insert(CONTENT_LENGTH, body.len().into());
    let body = futures_util::stream::once(async move {
        sent.note();
        crate::failpoint::reach("provider.sent");
        Ok::<_, Infallible>(Bytes::from(body))
    });
    client.post(url).headers(headers).body(reqwest::Body::wrap_stream(body)).send().await
}

impl Route {
    /// How `url` is reached.
    pub(crate) fn of(url: &Url) -> Self {
        let local = match url.host_str() {
            Some("localhost") => true,
            Some(host) => {
                host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
            }
            None => false,
        };
        match (local, url.scheme() == "https") {
            (true, false) => Self::Local,
            (true, true) => Self::LocalSecure,
            (false, false) => Self::Plain,
            (false, true) => Self::Secure,
        }
    }

    const fn is_local(self) -> bool {
        matches!(self, Self::Local | Self::LocalSecure)
    }

    /// True where TLS roots are needed: for TLS, and for a proxy that is reached by TLS itself.
    fn needs_roots(self) -> bool {
        match self {
            Self::Local => false,
            Self::Plain => ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"]
                .iter()
                .any(|name| std::env::var(name).is_ok_and(|proxy| proxy.starts_with("https:"))),
            Self::LocalSecure | Self::Secure => true,
        }
    }
}

/// The system's roots are read by `rustls-native-certs`, which takes `SSL_CERT_FILE` and `SSL_CERT_DIR` in their place
/// where they are set; proxies come from `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY`, as `hyper-util` reads them.
fn build(route: Route) -> Result<reqwest::Client, reqwest::Error> {
    let mut builder = reqwest::Client::builder()
        .user_agent(USER_AGENT)
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        .connect_timeout(CONNECT_TIME_MAX.duration())
        .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
        .http1_max_headers(HEADERS_MAX)
        .http2_max_header_list_size(HEADER_LIST_BYTES_MAX);
    if route.is_local() {
        builder = builder.no_proxy();
    }
    if route.needs_roots() {
        return builder.pool_idle_timeout(SECURE_IDLE_TIME_MAX).build();
    }
    builder.pool_idle_timeout(PLAIN_IDLE_TIME_MAX).tls_certs_only([]).build()
}

/// An error with its causes, without the URL (which may hold what only its owner should read).
pub(crate) fn explain(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    // Each cause often repeats the next one's words.
    while let Some(inner) = cause {
        let words = inner.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        cause = inner.source();
    }
    text
}

/// How long the provider asks us to wait: `retry-after-ms`, else `retry-after` in seconds or as a date.
pub(crate) fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Millis> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let asked = text("retry-after-ms")
        .and_then(|value| decimal(value, 1))
        .or_else(|| text("retry-after").and_then(|value| decimal(value, 1000).or_else(|| until(value, now))));
    asked.map(|wait| wait.min(RETRY_AFTER_MAX))
}

/// A decimal number of seconds.
pub(crate) fn seconds(text: &str) -> Option<Millis> {
    decimal(text, 1000)
}

/// A decimal number times `factor`, rounded up to whole milliseconds.
pub(crate) fn decimal(text: &str, factor: u64) -> Option<Millis> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(part) {
        return None;
    }
    // More digits than a u64 holds is a number above every bound.
    let whole = whole.parse::<u64>().unwrap_or(u64::MAX).saturating_mul(factor);
    let thousandths: u64 = format!("{:0<3}", &part[..part.len().min(3)]).parse().ok()?;
    let more = u64::from(part.len() > 3 && part[3..].bytes().any(|digit| digit != b'0'));
    Some(Millis(whole.saturating_add(((thousandths + more) * factor).div_ceil(1000))))
}

/// The time until an HTTP date, and none if it is past.
fn until(date: &str, now: Timestamp) -> Option<Millis> {
    let at = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(date).ok()?;
    let at = u64::try_from(at.as_millisecond()).ok()?;
    Some(Timestamp(at).since(now))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(lines: &[(&'static str, &str)]) -> Option<u64> {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.insert(*name, value.parse().expect("a header"));
        }
        // 1994-11-06 08:49:07 UTC
        retry_after(&headers, Timestamp(784_111_747_000)).map(|wait| wait.0)
    }

    #[test]
    fn every_form_of_retry_after_is_read() {
        assert_eq!(asked(&[("retry-after-ms", "250"), ("retry-after", "9")]), Some(250));
        assert_eq!(asked(&[("retry-after-ms", "12.5")]), Some(13));
        assert_eq!(asked(&[("retry-after", "20")]), Some(20_000));
        assert_eq!(asked(&[("retry-after", "1.2345")]), Some(1_235));
        assert_eq!(asked(&[("retry-after-ms", "soon"), ("retry-after", "2")]), Some(2_000));
        assert_eq!(asked(&[("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT")]), Some(30_000));
        assert_eq!(asked(&[("retry-after", "Sun, 06 Nov 1994 08:00:00 GMT")]), Some(0));
        assert_eq!(asked(&[("retry-after", "99999999999999999999999")]), Some(RETRY_AFTER_MAX.0));
    }

    #[test]
    fn what_is_no_wait_is_none() {
        for text in ["", "-1", "soon", "1e3", ".", ".5", "1.x", "NaN"] {
            assert_eq!(asked(&[("retry-after", text)]), None, "{text}");
        }
        assert_eq!(asked(&[]), None);
    }

    #[test]
    fn this_machine_is_never_reached_by_a_proxy() {
        let route = |text: &str| Route::of(&Url::parse(text).expect("a URL"));
        assert_eq!(route("http://127.0.0.1:8080/v1"), Route::Local);
        assert_eq!(route("http://localhost:11434/v1"), Route::Local);
        assert_eq!(route("https://[::1]/v1"), Route::LocalSecure);
        assert_eq!(route("http://10.0.0.1/v1"), Route::Plain);
        assert_eq!(route("https://api.example.com/v1"), Route::Secure);
    }
}
