//! Says when a page is no longer what is shown: a stream of server-sent events, each of which means "load it anew".

use std::convert::Infallible;

use axum::http::StatusCode;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;

use super::layout::Told;
use crate::api::{ApiError, Books, Seat, Service, hash};
use crate::units::Millis;

/// How often what is shown is looked at.
const LOOK: Millis = Millis(500);
/// How long nothing is sent before a comment is.
const KEEP_ALIVE: Millis = Millis::from_secs(15);
/// How long who lost the stream waits before it asks again.
const RETRY: Millis = Millis::from_secs(1);

/// What a page shows, as far as it can change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    /// Its hash: what a page's stream is asked with, so that it tells of what the page doesn't show.
    pub(super) print: String,
    /// True where it changes no more.
    pub(super) is_last: bool,
}

impl Seen {
    /// Of what a page is made of.
    pub(super) fn of(shown: &impl Serialize, is_last: bool) -> Self {
        Self { print: hash(&serde_json::to_string(shown).unwrap_or_default()), is_last }
    }
}

/// One who watches.
struct Watch<Q> {
    service: Service,
    question: Q,
    /// What they see.
    print: String,
    is_over: bool,
    begun: bool,
    _seat: Seat,
}

/// A stream of what changes in a page that was `seen`; 204, which ends a browser's asking, where nothing does any more.
///
/// # Errors
/// The question's; or too many watch.
pub(super) async fn watch(
    service: Service,
    seen: Option<&str>,
    question: impl Fn(&Books) -> Result<Seen, ApiError> + Clone + Send + Sync + 'static,
) -> Result<Response, Told> {
    let seat = service.stream_seat()?;
    let print = seen.unwrap_or_default().to_owned();
    let now = service.read(question.clone()).await?;
    if now.is_last && now.print == print {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let watch = Watch { service, question, print, is_over: false, begun: false, _seat: seat };
    let frames = futures_util::stream::unfold(watch, |mut watch| async {
        let event = watch.next().await?;
        Some((Ok::<Event, Infallible>(event), watch))
    });
    let alive = KeepAlive::new().interval(KEEP_ALIVE.duration());
    Ok(Sse::new(frames).keep_alive(alive).into_response())
}

impl<Q: Fn(&Books) -> Result<Seen, ApiError> + Clone + Send + Sync + 'static> Watch<Q> {
    async fn next(&mut self) -> Option<Event> {
        if !self.begun {
            self.begun = true;
            return Some(Event::default().retry(RETRY.duration()));
        }
        while !self.is_over {
            // A key may be revoked while its stream is open; the browser asks again, and is shown the login.
            if !self.service.still_counts() {
                return None;
            }
            // A store that doesn't answer ends the stream; the browser asks again.
            let now = self.service.read(self.question.clone()).await.ok()?;
            self.is_over = now.is_last;
            if self.print != now.print {
                self.print = now.print;
                return Some(Event::default().data("changed"));
            }
            tokio::time::sleep(LOOK.duration()).await;
        }
        None
    }
}
