//! The door to the API over TCP: lets not too many in at once, and secures who comes where there is TLS.
//!
//! A handshake holds up nobody else: each is a task of its own, in time, and counts as a connection from its beginning.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

use super::guest::{ACCEPT_PAUSE, Guest};
use super::tls::Tls;
use crate::units::Millis;

/// Connections at once; more wait until one is over.
const CONNECTIONS_MAX: usize = 1_024;
/// The longest that a connection lives. Who listens to events goes on with a new one where it stopped.
const CONNECTION_TIME_MAX: Millis = Millis::from_secs(3_600);
/// The longest that a handshake takes.
const HANDSHAKE_TIME_MAX: Millis = Millis::from_secs(10);

/// What goes through the door, secured or not.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

type Entered = (Guest<Box<dyn Stream>>, SocketAddr);

/// Lets not too many in at once.
pub(super) struct Door {
    listener: TcpListener,
    room: Arc<Semaphore>,
    tls: Option<Tls>,
    /// Handshakes that go on.
    shaking: JoinSet<Option<Entered>>,
}

impl Door {
    pub(super) fn new(listener: TcpListener, tls: Option<Tls>) -> Self {
        Self { listener, room: Arc::new(Semaphore::new(CONNECTIONS_MAX)), tls, shaking: JoinSet::new() }
    }

    fn shake(&mut self, tls: &Tls, stream: TcpStream, room: OwnedSemaphorePermit, from: SocketAddr) {
        let shaken = tls.acceptor().accept(stream);
        self.shaking.spawn(async move {
            match tokio::time::timeout(HANDSHAKE_TIME_MAX.duration(), shaken).await.ok()? {
                Ok(stream) => Some(entered(stream, room, from)),
                Err(error) => {
                    tracing::debug!(%error, "a connection could not be secured");
                    None
                }
            }
        });
    }
}

fn entered(stream: impl Stream + 'static, room: OwnedSemaphorePermit, from: SocketAddr) -> Entered {
    (Guest::new(Box::new(stream), room, CONNECTION_TIME_MAX), from)
}

/// The next who comes, and room for them.
async fn next(listener: &TcpListener, room: &Arc<Semaphore>) -> (TcpStream, OwnedSemaphorePermit, SocketAddr) {
    loop {
        let Ok(room) = Arc::clone(room).acquire_owned().await else {
            // Nobody closes it.
            return std::future::pending().await;
        };
        match listener.accept().await {
            Ok((stream, from)) => {
                // Small answers go out at once.
                stream.set_nodelay(true).unwrap_or_default();
                return (stream, room, from);
            }
            Err(error) => {
                tracing::debug!(%error, "a connection could not be taken");
                tokio::time::sleep(ACCEPT_PAUSE.duration()).await;
            }
        }
    }
}

impl Listener for Door {
    type Io = Guest<Box<dyn Stream>>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> Entered {
        loop {
            tokio::select! {
                Some(shaken) = self.shaking.join_next() => {
                    if let Ok(Some(entered)) = shaken {
                        return entered;
                    }
                }
                (stream, room, from) = next(&self.listener, &self.room) => match self.tls.clone() {
                    Some(tls) => self.shake(&tls, stream, room, from),
                    None => return entered(stream, room, from),
                },
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}
