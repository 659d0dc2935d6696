//! One connection, within bounds: how long it lives, and how long it may stand still.

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Sleep};

use crate::units::Millis;

/// The wait after a connection that could not be taken.
pub(super) const ACCEPT_PAUSE: Millis = Millis(100);
/// The longest that nothing is written, from the first byte of a request or the last of an answer on: a request that comes
/// byte by byte isn't waited for. A stream of events says something more often, and whoever doesn't read that is cut: what
/// they missed is in the log.
pub(super) const STILL_TIME_MAX: Millis = Millis::from_secs(60);

/// One connection.
pub(super) struct Guest<S> {
    stream: S,
    until: Instant,
    still: Pin<Box<Sleep>>,
    /// Something was read since something was written.
    asks: bool,
    _room: OwnedSemaphorePermit,
}

impl<S> Guest<S> {
    /// A connection that lives this long at most.
    pub(super) fn new(stream: S, room: OwnedSemaphorePermit, time: Millis) -> Self {
        let still = Box::pin(tokio::time::sleep(time.min(STILL_TIME_MAX).duration()));
        Self { stream, until: Instant::now() + time.duration(), still, asks: false, _room: room }
    }

    fn is_over(&mut self, context: &mut Context<'_>) -> bool {
        self.still.as_mut().poll(context).is_ready()
    }

    /// Something moved.
    fn moved<T>(&mut self, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if matches!(polled, Poll::Ready(Ok(_))) {
            let still = Instant::now() + STILL_TIME_MAX.duration();
            let until = self.until;
            self.still.as_mut().reset(still.min(until));
        }
        polled
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guest<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.is_over(context) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        let polled = Pin::new(&mut self.stream).poll_read(context, into);
        if self.asks {
            return polled;
        }
        self.asks = matches!(polled, Poll::Ready(Ok(())));
        self.moved(polled)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guest<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.is_over(context) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        let polled = Pin::new(&mut self.stream).poll_write(context, bytes);
        if matches!(polled, Poll::Ready(Ok(_))) {
            self.asks = false;
        }
        self.moved(polled)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::sync::Semaphore;

    async fn guest() -> (Guest<tokio::io::DuplexStream>, tokio::io::DuplexStream) {
        let (here, there) = tokio::io::duplex(64);
        let room = Arc::new(Semaphore::new(1)).acquire_owned().await.expect("room");
        (Guest::new(here, room, Millis::from_secs(3_600)), there)
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_comes_byte_by_byte_is_not_waited_for() {
        let (mut guest, mut client) = guest().await;
        let began = Instant::now();
        let feeding = tokio::spawn(async move {
            while client.write_all(b"G").await.is_ok() {
                tokio::time::sleep(Millis::from_secs(20).duration()).await;
            }
        });
        let error = loop {
            match guest.read_u8().await {
                Ok(_) => {}
                Err(error) => break error,
            }
        };
        assert_eq!((error.kind(), began.elapsed()), (io::ErrorKind::TimedOut, STILL_TIME_MAX.duration()));
        drop(guest);
        feeding.await.expect("it ends");
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_is_answered_goes_on() {
        let (mut guest, mut client) = guest().await;
        for _ in 0..5 {
            client.write_all(b"?").await.expect("it takes it");
            guest.read_u8().await.expect("a request");
            guest.write_all(b"!").await.expect("an answer");
            client.read_u8().await.expect("it hears it");
            tokio::time::sleep(Millis::from_secs(50).duration()).await;
        }
        tokio::time::sleep(Millis::from_secs(11).duration()).await;
        assert_eq!(guest.read_u8().await.expect_err("nobody asks").kind(), io::ErrorKind::TimedOut);
    }
}
