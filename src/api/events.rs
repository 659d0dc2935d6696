//! A run's log as a stream of server-sent events.
//!
//! What is sent is read from the log, so that nobody who listens late, slowly or again misses a fact; what is streamed of an
//! answer meanwhile is provisional and has no number.

use std::convert::Infallible;

use axum::response::sse::{Event as Frame, KeepAlive, Sse};
use futures_util::Stream;
use serde::Serialize;
use tokio::sync::broadcast;

use super::error::ApiError;
use super::room::Seat;
use super::service::Service;
use crate::domain::event::{Event, Recorded};
use crate::ids::RunId;
use crate::runtime::Heard;
use crate::units::Millis;

/// How long nothing need be heard before the log is looked at anyway: not all that is written is called out.
const LOOK: Millis = Millis::from_secs(2);
/// How long nothing is sent before a comment is.
const KEEP_ALIVE: Millis = Millis::from_secs(15);
/// How long who lost the stream waits before it asks again.
const RETRY: Millis = Millis::from_secs(1);

/// One event of one run.
#[derive(Serialize)]
struct Line<'a> {
    run: RunId,
    #[serde(flatten)]
    recorded: &'a Recorded,
}

/// A piece of an answer.
#[derive(Serialize)]
struct Piece<'a> {
    run: RunId,
    piece: &'a str,
}

/// What the kind of an event is called, where it stands in its line.
#[derive(serde::Deserialize)]
struct Kind {
    event: Named,
}

#[derive(serde::Deserialize)]
struct Named {
    kind: String,
}

/// One who listens to a run.
pub(super) struct Listener {
    service: Service,
    run: RunId,
    /// The number of the next event.
    next: u32,
    heard: broadcast::Receiver<Heard>,
    ready: std::collections::VecDeque<Frame>,
    ended: bool,
    /// True where the log may tell more than was heard: a piece of text by itself is no reason to read it.
    behind: bool,
    _seat: Seat,
}

impl Listener {
    /// Listens from an event on.
    pub(super) fn new(service: Service, run: RunId, next: u32, seat: Seat) -> Self {
        let heard = service.runtime().listen(run);
        Self {
            service,
            run,
            next,
            heard,
            ready: [Frame::default().retry(RETRY.duration())].into(),
            ended: false,
            behind: true,
            _seat: seat,
        }
    }

    /// The stream, until the run has ended.
    pub(super) fn stream(self) -> Sse<impl Stream<Item = Result<Frame, Infallible>>> {
        let frames = futures_util::stream::unfold(self, |mut listener| async {
            let frame = listener.next_frame().await?;
            Some((Ok(frame), listener))
        });
        Sse::new(frames).keep_alive(KeepAlive::new().interval(KEEP_ALIVE.duration()))
    }

    async fn next_frame(&mut self) -> Option<Frame> {
        loop {
            // A key may be revoked while its stream is open.
            if !self.ended && !self.service.still_counts() {
                self.ready.clear();
                return Some(self.end_with(&ApiError::WrongKey));
            }
            if let Some(frame) = self.ready.pop_front() {
                return Some(frame);
            }
            if self.ended {
                return None;
            }
            if std::mem::take(&mut self.behind)
                && let Err(error) = self.look().await
            {
                return Some(self.end_with(&error));
            }
            if self.ready.is_empty() && !self.ended {
                self.wait().await;
            }
        }
    }

    fn end_with(&mut self, error: &ApiError) -> Frame {
        self.ended = true;
        Frame::default().event("error").json_data(super::ErrorBody::from(error)).unwrap_or_default()
    }

    /// Reads what was written since.
    async fn look(&mut self) -> Result<(), ApiError> {
        let (run, next) = (self.run, self.next);
        let log = self.service.read(move |books| Ok(books.store().events_from(run, next)?)).await?;
        for recorded in &log {
            self.next = recorded.seq.saturating_add(1);
            self.ended |= matches!(recorded.event, Event::Ended(_));
            self.ready.push_back(frame(run, recorded));
        }
        Ok(())
    }

    /// Waits until there may be more; a piece of text is ready at once.
    async fn wait(&mut self) {
        match tokio::time::timeout(LOOK.duration(), self.heard.recv()).await {
            Ok(Ok(Heard::Text(piece))) => {
                let piece = Piece { run: self.run, piece: &piece };
                self.ready.push_back(Frame::default().event("text").json_data(piece).unwrap_or_default());
            }
            Ok(Ok(Heard::TextDiscarded)) => {
                let discarded = Piece { run: self.run, piece: "" };
                self.ready.push_back(Frame::default().event("text_discarded").json_data(discarded).unwrap_or_default());
            }
            // Behind, alone, or told of events: the log says what there is.
            Ok(Ok(Heard::Events) | Err(broadcast::error::RecvError::Lagged(_))) | Err(_) => self.behind = true,
            Ok(Err(broadcast::error::RecvError::Closed)) => {
                tokio::time::sleep(LOOK.duration()).await;
                self.behind = true;
            }
        }
    }
}

fn frame(run: RunId, recorded: &Recorded) -> Frame {
    let line = serde_json::to_string(&Line { run, recorded }).unwrap_or_default();
    let kind = serde_json::from_str::<Kind>(&line).map(|line| line.event.kind).unwrap_or_default();
    Frame::default().id(recorded.seq.to_string()).event(kind).data(line)
}
