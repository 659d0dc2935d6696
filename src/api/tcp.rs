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
use axum::http::header;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::serve::{IncomingStream, Listener};
use reqwest::Url;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};

use super::access::{Caller, Gatekeeper};
use super::error::ApiError;
use super::guest::{ACCEPT_PAUSE, Guest};
use super::router::{OPEN_PATHS, router};
use super::service::Service;
use crate::units::Millis;

/// Connections at once; more wait until one is over.
const CONNECTIONS_MAX: usize = 1_024;
/// The longest that a connection lives. Who listens to events goes on with a new one where it stopped.
const CONNECTION_TIME_MAX: Millis = Millis::from_secs(3_600);
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
        Ok(Self { listener, address, pages: Router::new() })
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

    /// Answers until `stop` turns true, and then those who have asked already.
    pub async fn serve(self, service: Service, mut stop: watch::Receiver<bool>) {
        let door = Door { listener: self.listener, room: Arc::new(Semaphore::new(CONNECTIONS_MAX)) };
        let stopped = async move {
            // Whoever could stop it is gone: that stops it, too.
            stop.wait_for(|stop| *stop).await.map(|_| ()).unwrap_or_default();
        };
        let guard = middleware::from_fn_with_state(service.clone(), guarded);
        let all = router(service).layer(guard).merge(self.pages).layer(middleware::from_fn(secured));
        let router = all.into_make_service_with_connect_info::<From>();
        if let Err(error) = axum::serve(door, router).with_graceful_shutdown(stopped).await {
            tracing::warn!(%error, "the API is no longer served");
        }
    }
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
        response.headers_mut().entry(name).or_insert(header::HeaderValue::from_static(value));
    }
    response
}

/// Finds out who asks, and sends away who may not.
async fn guarded(
    State(service): State<Service>,
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
    // A key says more than a name does.
    let judged =
        admitted.and_then(|caller| if keeper.asks_for_keys() { Ok(caller) } else { judge(&request).map(|()| caller) });
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
    let text = |name| request.headers().get(name).map(|value| value.to_str().unwrap_or_default());
    let host = text(header::HOST).map(|host| format!("http://{host}"));
    if !host.as_deref().is_some_and(is_here) {
        return Err(ApiError::Foreign("Host"));
    }
    match text(header::ORIGIN) {
        Some(origin) if !is_here(origin) => Err(ApiError::Foreign("Origin")),
        Some(_) | None => Ok(()),
    }
}

fn is_here(url: &str) -> bool {
    let Ok(url) = Url::parse(url) else { return false };
    match url.host_str() {
        Some("localhost") => true,
        Some(host) => host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback()),
        None => false,
    }
}

/// Lets not too many in at once.
struct Door {
    listener: TcpListener,
    room: Arc<Semaphore>,
}

impl Listener for Door {
    type Io = Guest<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Guest<TcpStream>, SocketAddr) {
        loop {
            let Ok(room) = Arc::clone(&self.room).acquire_owned().await else {
                // Nobody closes it.
                return std::future::pending().await;
            };
            match self.listener.accept().await {
                Ok((stream, from)) => {
                    // Small answers go out at once.
                    stream.set_nodelay(true).unwrap_or_default();
                    return (Guest::new(stream, room, CONNECTION_TIME_MAX), from);
                }
                Err(error) => {
                    tracing::debug!(%error, "a connection could not be taken");
                    tokio::time::sleep(ACCEPT_PAUSE.duration()).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
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

    #[tokio::test]
    async fn an_address_that_others_reach_is_refused() {
        let address = "0.0.0.0:0".parse().expect("an address");
        assert!(matches!(Tcp::bind(address, &Gatekeeper::default()).await, Err(TcpError::Open(_))));
    }
}
