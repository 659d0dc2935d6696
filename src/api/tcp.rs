//! Serves the API over TCP.
//!
//! Without keys only this machine may ask, and only by its own name: a page of somebody's browser that was led here by
//! another name is sent away. Every connection is bounded in number, life and stillness.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::connect_info::Connected;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderValue, Method, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::serve::IncomingStream;
use reqwest::Url;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tower_http::cors::CorsLayer;

use super::access::{Caller, Gatekeeper};
use super::door::Door;
use super::error::ApiError;
use super::router::{KEY_HEADER, LAST_EVENT_HEADER, OPEN_PATHS, router};
use super::service::Service;
use super::tls::Tls;
use super::{NEXT_HEADER, PROGRAM_HEADER, VERSION_HEADER};

/// Headers that a page of another origin may send.
const SENT_HEADERS: [&str; 5] = ["authorization", "content-type", KEY_HEADER, LAST_EVENT_HEADER, VERSION_HEADER];
/// Headers of answers that a browser heeds: no frame, no guess at types, nothing told to other hosts.
const SECURITY: [(header::HeaderName, &str); 4] = [
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
];

/// Why it isn't served.
#[derive(Debug, thiserror::Error)]
pub enum TcpError {
    /// Everybody could ask.
    #[error(
        "`{0}` can be reached from other machines, and nobody needs a key; listen on 127.0.0.1, behind what asks for one"
    )]
    Open(SocketAddr),
    /// Another origin can't be named so.
    #[error("`{0}` is no origin; name one as a browser does, such as `https://app.example.com`, without a path")]
    Origin(String),
    /// The system refuses the address.
    #[error("can't listen on `{address}`: {error}; name another address with `--listen`")]
    Bind {
        /// Where.
        address: SocketAddr,
        /// Why.
        error: io::Error,
    },
}

/// An address that is bound.
#[derive(Debug)]
pub struct Tcp {
    listener: TcpListener,
    address: SocketAddr,
    pages: Router,
    tls: Option<Tls>,
    origins: Origins,
}

impl Tcp {
    /// Binds an address: one that others can reach only where they need a key.
    ///
    /// # Errors
    /// Others could reach it without a key, or the system refuses it.
    pub async fn bind(address: SocketAddr, gatekeeper: &Gatekeeper) -> Result<Self, TcpError> {
        if !address.ip().is_loopback() && !gatekeeper.asks_for_keys() {
            return Err(TcpError::Open(address));
        }
        let fault = |error| TcpError::Bind { address, error };
        let listener = TcpListener::bind(address).await.map_err(fault)?;
        let address = listener.local_addr().map_err(fault)?;
        Ok(Self { listener, address, pages: Router::new(), tls: None, origins: Origins::default() })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The same with pages for people, which look themselves who asks.
    #[must_use]
    pub fn with_pages(self, pages: Router) -> Self {
        Self { pages, ..self }
    }

    /// The same over TLS.
    #[must_use]
    pub fn with_tls(self, tls: Option<Tls>) -> Self {
        Self { tls, ..self }
    }

    /// The same, also for pages of these origins. They need a key as everybody does; where nobody needs one, they need none.
    ///
    /// # Errors
    /// One isn't an origin.
    pub fn with_origins(self, origins: &[String]) -> Result<Self, TcpError> {
        let origins = origins.iter().map(|origin| origin_of(origin)).collect::<Result<_, _>>()?;
        Ok(Self { origins: Origins(Arc::new(origins)), ..self })
    }

    /// Answers until `stop` turns true, and then those who have asked already.
    pub async fn serve(self, service: Service, mut stop: watch::Receiver<bool>) {
        let door = Door::new(self.listener, self.tls);
        let stopped = async move {
            // Whoever could stop it is gone: that stops it, too.
            stop.wait_for(|stop| *stop).await.map(|_| ()).unwrap_or_default();
        };
        let guard = middleware::from_fn_with_state((service.clone(), self.origins.clone()), guarded);
        let api = self.origins.around(router(service).layer(guard));
        let all = api.merge(self.pages).layer(middleware::from_fn(secured));
        let router = all.into_make_service_with_connect_info::<From>();
        if let Err(error) = axum::serve(door, router).with_graceful_shutdown(stopped).await {
            tracing::warn!(%error, "the API is no longer served");
        }
    }
}

/// Origins whose pages may read the API's answers.
#[derive(Clone, Debug, Default)]
struct Origins(Arc<Vec<HeaderValue>>);

impl Origins {
    /// Tells browsers so, before anyone is asked for a key: a browser asks first without one. Nothing is told where none is
    /// named.
    fn around(&self, api: Router) -> Router {
        if self.0.is_empty() {
            return api;
        }
        let read = [header::RETRY_AFTER, header::LOCATION].map(Some);
        let own = [NEXT_HEADER, PROGRAM_HEADER, VERSION_HEADER].map(|name| name.parse().ok());
        let told = CorsLayer::new()
            .allow_origin(self.0.iter().cloned().collect::<Vec<_>>())
            .allow_methods([Method::GET, Method::POST])
            .allow_headers(SENT_HEADERS.map(header::HeaderName::from_static))
            .expose_headers(read.into_iter().chain(own).flatten().collect::<Vec<_>>());
        api.layer(told)
    }

    fn has(&self, origin: Option<&HeaderValue>) -> bool {
        origin.is_some_and(|origin| self.0.contains(origin))
    }
}

/// An origin as browsers send it.
fn origin_of(text: &str) -> Result<HeaderValue, TcpError> {
    let wrong = || TcpError::Origin(text.to_owned());
    let url = Url::parse(text).map_err(|_| wrong())?;
    let origin = url.origin().ascii_serialization();
    let is_whole = matches!(url.scheme(), "http" | "https") && text.trim_end_matches('/') == origin;
    if is_whole { HeaderValue::from_str(&origin).map_err(|_| wrong()) } else { Err(wrong()) }
}

/// Where a connection comes from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct From(pub(crate) SocketAddr);

impl Connected<IncomingStream<'_, Door>> for From {
    fn connect_info(stream: IncomingStream<'_, Door>) -> Self {
        Self(*stream.remote_addr())
    }
}

/// Tells browsers what they may not do.
async fn secured(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    for (name, value) in SECURITY {
        response.headers_mut().entry(name).or_insert(HeaderValue::from_static(value));
    }
    response
}

/// Finds out who asks, and sends away who may not.
async fn guarded(
    State((service, origins)): State<(Service, Origins)>,
    ConnectInfo(From(from)): ConnectInfo<From>,
    mut request: Request,
    next: Next,
) -> Response {
    let keeper = service.gatekeeper();
    let admitted = if OPEN_PATHS.contains(&request.uri().path()) {
        Ok(Caller::local())
    } else {
        keeper.admit(request.headers(), from.ip(), service.now())
    };
    // A key says more than a name does, and so does the operator.
    let is_known =
        keeper.asks_for_keys() || origins.has(request.headers().get(header::ORIGIN)) && is_own_host(&request);
    let judged = admitted.and_then(|caller| if is_known { Ok(caller) } else { judge(&request).map(|()| caller) });
    match judged {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(error) => error.into_response(),
    }
}

/// A name that somebody made lead here (DNS rebinding), or a page of another origin, isn't this machine's user.
///
/// # Errors
/// It may not ask.
pub(crate) fn judge(request: &Request) -> Result<(), ApiError> {
    if !is_own_host(request) {
        return Err(ApiError::Foreign("Host"));
    }
    // What another port of this machine serves, such as a notebook, is another origin too.
    let host = text(request, header::HOST);
    let is_own = |origin: &str| origin.split_once("://").map(|(_, authority)| authority) == host;
    match text(request, header::ORIGIN) {
        Some(origin) if !is_own(origin) => Err(ApiError::Foreign("Origin")),
        Some(_) | None => Ok(()),
    }
}

fn is_own_host(request: &Request) -> bool {
    let host = text(request, header::HOST).map(|host| format!("http://{host}"));
    host.as_deref().is_some_and(is_here)
}

fn text(request: &Request, name: header::HeaderName) -> Option<&str> {
    request.headers().get(name).map(|value| value.to_str().unwrap_or_default())
}

fn is_here(url: &str) -> bool {
    let Ok(url) = Url::parse(url) else { return false };
    match url.host_str() {
        Some("localhost") => true,
        Some(host) => host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback()),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_here() {
        for here in ["http://localhost", "http://localhost:7700", "http://127.0.0.1:1", "http://[::1]:7700"] {
            assert!(is_here(here), "{here}");
        }
        for other in ["http://evil.example", "http://127.0.0.1.evil.example", "http://0.0.0.0", "null", "", "http://"] {
            assert!(!is_here(other), "{other}");
        }
    }

    #[test]
    fn an_origin_is_named_as_browsers_do() {
        for (text, sent) in [
            ("https://app.example.com", "https://app.example.com"),
            ("https://app.example.com/", "https://app.example.com"),
            ("http://localhost:5173", "http://localhost:5173"),
        ] {
            assert_eq!(origin_of(text).expect("an origin"), sent);
        }
        for bad in
            ["*", "null", "", "app.example.com", "https://app.example.com/pages", "https://*.example.com:x", "file:///"]
        {
            assert!(origin_of(bad).is_err(), "{bad}");
        }
    }

    #[tokio::test]
    async fn an_address_that_others_reach_is_refused() {
        let address = "0.0.0.0:0".parse().expect("an address");
        assert!(matches!(Tcp::bind(address, &Gatekeeper::default()).await, Err(TcpError::Open(_))));
    }
}
