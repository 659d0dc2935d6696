//! The socket side: reads a request, writes its line, keeps the pace, sends the answer.

use std::collections::{BTreeMap, VecDeque};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use axum::response::Response;
use futures_util::stream;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::clock::Clock;
use crate::sim::act::{Act, Pace, Payload, Stage};
use crate::sim::chat::{BadRequest, Chat};
use crate::sim::completion::{Broken, Completion};
use crate::sim::fault::{Fault, WireError};
use crate::sim::google;
use crate::sim::invoice::{Books, InvoiceError, LINES_KEPT_MAX, Line, keep};
use crate::sim::rates::Rates;
use crate::sim::scenario::{Scenario, WHOLE};
use crate::sim::wire::{self, Asked, Dialect, Door};
use crate::sim::{End, Received};
use crate::units::{Millis, Timestamp};

/// The largest request body.
const BODY_BYTES_MAX: usize = 32 * 1024 * 1024;
/// The longest that a request's body may take to arrive.
const BODY_TIME_MAX: Millis = Millis::from_secs(60);
/// The longest request id of a client that is kept.
const CLIENT_ID_BYTES_MAX: usize = 512;
/// Connections that are served at once; more wait to be accepted.
const CONNECTIONS_MAX: usize = 4_096;
/// Turns of conversations whose attempts are counted; the oldest are forgotten.
const TURNS_KEPT_MAX: usize = 65_536;
/// What is said of a key that isn't the scenario's.
const BAD_KEY: &str = "the API key is not the one that the scenario asks for";
/// Passes that the connection is given to send what it has before a cut.
const FLUSHES: usize = 4;

/// What all requests share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) scenario: Scenario,
    pub(crate) rates: Rates,
    pub(crate) clock: Clock,
    pub(crate) stop: watch::Receiver<bool>,
    state: Mutex<Ledgers>,
}

/// What changes with each request.
#[derive(Debug)]
struct Ledgers {
    books: Books,
    /// How the newest requests since the start ended; the last belongs to the last line.
    ends: VecDeque<(End, Option<Timestamp>)>,
    attempts: BTreeMap<String, u64>,
    turns: VecDeque<String>,
}

impl Shared {
    pub(crate) fn new(
        scenario: Scenario,
        rates: Rates,
        clock: Clock,
        stop: watch::Receiver<bool>,
        books: Books,
    ) -> Self {
        let state = Ledgers { books, ends: VecDeque::new(), attempts: BTreeMap::new(), turns: VecDeque::new() };
        Self { scenario, rates, clock, stop, state: Mutex::new(state) }
    }

    pub(crate) fn invoice(&self) -> crate::sim::Invoice {
        self.lock().books.snapshot()
    }

    /// The newest requests since the start, with how they ended.
    pub(crate) fn received(&self) -> Vec<Received> {
        let state = self.lock();
        let lines = state.books.snapshot().lines;
        let older = lines.len().saturating_sub(state.ends.len());
        let ends = state.ends.iter().copied();
        lines
            .into_iter()
            .skip(older)
            .zip(ends)
            .map(|(line, (end, ended_at))| Received { line, end, ended_at })
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, Ledgers> {
        // A panic elsewhere leaves whole lines behind, so the books can be read on.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self, number: u64, end: End) {
        let now = self.clock.now();
        let mut state = self.lock();
        let from_last = state.books.next_number() - 1 - number;
        let index = usize::try_from(from_last).ok().and_then(|back| state.ends.len().checked_sub(back + 1));
        if let Some(slot) = index.and_then(|index| state.ends.get_mut(index)) {
            *slot = (end, Some(now));
        }
    }

    async fn stopped(&self) {
        // An error means that the handle is gone, which stops the simulator too.
        drop(self.stop.clone().wait_for(|stop| *stop).await);
    }

    /// Waits; false where the simulator stops first.
    async fn pause(&self, length: Millis) -> bool {
        if length == Millis::ZERO {
            return true;
        }
        tokio::select! {
            () = tokio::time::sleep(length.duration()) => true,
            () = self.stopped() => false,
        }
    }
}

impl Ledgers {
    /// Counts this request among those of its turn.
    fn attempt(&mut self, turn: String) -> u64 {
        if let Some(count) = self.attempts.get_mut(&turn) {
            *count += 1;
            return *count;
        }
        if self.turns.len() >= TURNS_KEPT_MAX
            && let Some(oldest) = self.turns.pop_front()
        {
            self.attempts.remove(&oldest);
        }
        self.turns.push_back(turn.clone());
        self.attempts.insert(turn, 1);
        1
    }
}

/// Serves until the stop signal.
pub(crate) async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let listener = Bounded { listener, places: Arc::new(Semaphore::new(CONNECTIONS_MAX)) };
    let router = axum::Router::new().fallback(route).with_state(shared.clone());
    let stop = async move { shared.stopped().await };
    // Serving ends by the signal only; the listener's own errors are retried within.
    drop(axum::serve(listener, router).with_graceful_shutdown(stop).await);
}

async fn route(State(shared): State<Arc<Shared>>, request: Request<Body>) -> Response {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path();
    if let (&Method::POST, Some((wire, door))) = (&parts.method, wire::find_count(path)) {
        return count(&shared, wire, door, &parts.headers, body).await;
    }
    match (&parts.method, wire::find(path, parts.uri.query())) {
        (&Method::POST, Some((wire, door))) => {
            let read = axum::body::to_bytes(body, BODY_BYTES_MAX);
            match tokio::time::timeout(BODY_TIME_MAX.duration(), read).await {
                Ok(Ok(body)) => answer(&shared, &Incoming { wire, door, headers: &parts.headers, body: &body }).await,
                Ok(Err(_)) => {
                    let message = "the body is larger than 32 MiB, or broke off";
                    plain(wire, &WireError::of(wire, Fault::TooLarge, message))
                }
                Err(_) => plain(wire, &WireError::of(wire, Fault::RequestTimeout, "the body took too long")),
            }
        }
        (&Method::POST, None) if path == google::TOKEN_PATH => token(&shared, &parts.headers, body).await,
        (&Method::GET, None) if path == google::METADATA_PATH => {
            google::metadata(&parts.headers, shared.scenario.file.key.as_deref())
        }
        (&Method::GET, None) if path.ends_with("/models") => models(&shared),
        (_, Some((wire, _))) => plain(wire, &WireError::new(wire, 405, None, "use POST here")),
        (_, None) => {
            let message = format!("there is nothing at `{path}`; the simulator has {} and /v1/models", wire::PATHS);
            let wire = &wire::openai_chat::OpenAiChat;
            plain(wire, &WireError::of(wire, Fault::NotFound, message))
        }
    }
}

/// What a request counts, which is on no bill.
async fn count(
    shared: &Shared,
    wire: &'static dyn Dialect,
    door: Door<'_>,
    headers: &HeaderMap,
    body: Body,
) -> Response {
    let read = axum::body::to_bytes(body, BODY_BYTES_MAX);
    let body = tokio::time::timeout(BODY_TIME_MAX.duration(), read).await.ok().and_then(Result::ok).unwrap_or_default();
    let Scenario { file, .. } = &shared.scenario;
    if !shared.pause(file.counting.latency.0).await {
        return dropped();
    }
    let key = file.key.as_deref();
    let fault = file.counting.status.map(|status| WireError::of_status(wire, status));
    let fault = fault.or_else(|| {
        (key.is_some() && wire.key(headers) != key).then(|| WireError::of(wire, Fault::Unauthorized, BAD_KEY))
    });
    if let Some(error) = fault {
        return plain(wire, &error);
    }
    let value = serde_json::from_slice(&body).unwrap_or(serde_json::Value::Null);
    let bad = |bad: BadRequest| plain(wire, &WireError::of(wire, Fault::BadRequest, bad.message));
    let value = match wire.to_ordinary(value) {
        Ok(value) => value,
        Err(error) => return bad(error),
    };
    match wire.read(&Asked { door, headers, body: &value }) {
        Ok(chat) => {
            let Shared { scenario, rates, .. } = shared;
            let at = shared.clock.now();
            let stage = Stage { wire, scenario, rates, provider: door.provider, at, attempt: 1, draw: WHOLE };
            let tokens = stage.prompt(&chat) * file.counting.percent.unwrap_or(100) / 100;
            with_type(200, "application/json", Body::from(wire.counted(tokens)))
        }
        Err(error) => bad(error),
    }
}

/// A token of Google's for who signed for it; it is on no bill.
async fn token(shared: &Shared, headers: &HeaderMap, body: Body) -> Response {
    let read = axum::body::to_bytes(body, google::FORM_BYTES_MAX);
    let form = tokio::time::timeout(BODY_TIME_MAX.duration(), read).await.ok().and_then(Result::ok).unwrap_or_default();
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    google::exchange(&form, host, shared.scenario.file.key.as_deref(), shared.clock.now())
}

/// A request whose body isn't understood yet.
struct Incoming<'a> {
    wire: &'static dyn Dialect,
    door: Door<'a>,
    headers: &'a HeaderMap,
    body: &'a Bytes,
}

fn plain(wire: &dyn Dialect, error: &WireError) -> Response {
    let mut response = Response::new(Body::from(wire.error_body(error)));
    *response.status_mut() = StatusCode::from_u16(error.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn models(shared: &Shared) -> Response {
    let models: Vec<_> = shared
        .rates
        .models()
        .map(|id| serde_json::json!({"id": id, "object": "model", "created": 0, "owned_by": "simulated"}))
        .collect();
    let mut response = Response::new(Body::from(serde_json::json!({"object": "list", "data": models}).to_string()));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

async fn answer(shared: &Arc<Shared>, incoming: &Incoming<'_>) -> Response {
    let wire = incoming.wire;
    let (act, line) = match enter(shared, incoming) {
        Ok(entered) => entered,
        Err(error) => {
            let message = format!("nothing was answered: {error}");
            return plain(wire, &WireError::of(wire, Fault::ServerError, message));
        }
    };
    let open = Open { shared: shared.clone(), wire, number: line.number, end: End::HungUp };
    let mut response = perform(shared, act, open).await;
    if let Ok(id) = HeaderValue::from_str(&line.id) {
        response.headers_mut().insert(wire.id_header(), id);
    }
    response
}

/// Decides, and writes the line: from here on the call is billed, whatever the client does.
fn enter(shared: &Shared, incoming: &Incoming<'_>) -> Result<(Act, Line), InvoiceError> {
    let at = shared.clock.now();
    let Incoming { wire, door, headers, body } = *incoming;
    let value = serde_json::from_slice(body).unwrap_or(serde_json::Value::Null);
    let asked = Asked { door, headers, body: &value };
    let client_id = asked.header("x-client-request-id").filter(|id| id.len() <= CLIENT_ID_BYTES_MAX);
    let body_sha256 = crate::domain::plan::hex(&Sha256::digest(body));
    let chat = wire.read(&asked);
    let turn = chat.as_ref().map_or(0, Chat::turn);
    let attempt = shared.lock().attempt(conversation(client_id, &body_sha256, turn, chat.as_ref().ok()));
    let key = shared.scenario.file.key.as_deref();
    let mut act = match (key.is_none() || wire.key(headers) == key, chat) {
        (false, _) => Act::refuse(wire, asked.model(), &WireError::of(wire, Fault::Unauthorized, BAD_KEY)),
        (true, Err(bad)) => Act::bad_request(wire, asked.model(), bad),
        (true, Ok(chat)) => {
            let draw =
                if shared.scenario.file.faults.none() { WHOLE } else { draw(shared, client_id, &body_sha256, attempt) };
            let Shared { scenario, rates, .. } = shared;
            Stage { wire, scenario, rates, provider: door.provider, at, attempt, draw }.decide(&chat)
        }
    };
    let fault = act.fault.map(crate::sim::fault::Fault::name);
    let mut state = shared.lock();
    let number = state.books.next_number();
    let id = wire.id(number);
    if let Payload::Completion { completion, .. } = &mut act.payload {
        (completion.id, completion.created) = (id.clone(), at.0 / 1000);
    }
    let line = Line {
        number,
        id,
        at,
        model: act.model.clone(),
        client_request_id: client_id.map(str::to_owned),
        body_sha256,
        turn,
        attempt,
        status: act.status(),
        fault,
        billed: act.billed,
        tokens: act.tokens,
        web_searches: act.searches,
        amount_usd: act.amount,
    };
    // The file is written under the lock: lines keep their order, and a line takes microseconds.
    state.books.write(line.clone())?;
    keep(&mut state.ends, (End::Open, None), LINES_KEPT_MAX);
    Ok((act, line))
}

/// Names a turn of a conversation: by the run in a request id such as `RUN#3`, else by the body.
fn conversation(client_id: Option<&str>, body_sha256: &str, turn: u64, chat: Option<&Chat<'_>>) -> String {
    let run = client_id.and_then(|id| id.rsplit_once('#')).map(|(run, _)| run);
    match (run, chat.and_then(|chat| chat.messages.first())) {
        // Stages of one run each begin with turn 0, and differ by their first message.
        (Some(run), Some(first)) => {
            let first: String = first.text.chars().take(256).collect();
            format!("{run}#{turn}#{first}")
        }
        (Some(_) | None, Some(_) | None) => body_sha256.to_owned(),
    }
}

/// A number below [`WHOLE`] that only seed and request decide.
fn draw(shared: &Shared, client_id: Option<&str>, body_sha256: &str, attempt: u64) -> u64 {
    let mut hash = Sha256::new();
    hash.update(shared.scenario.file.seed.to_le_bytes());
    hash.update(client_id.unwrap_or(body_sha256).as_bytes());
    hash.update(attempt.to_le_bytes());
    let first = hash.finalize().into_iter().take(8).fold(0_u64, |number, byte| number << 8 | u64::from(byte));
    first % WHOLE
}

/// Tells the books how an exchange ended, also when the connection's future is dropped.
#[derive(Debug)]
struct Open {
    shared: Arc<Shared>,
    wire: &'static dyn Dialect,
    number: u64,
    end: End,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.shared.end(self.number, self.end);
    }
}

async fn perform(shared: &Shared, act: Act, mut open: Open) -> Response {
    let pace = act.pace;
    if !shared.pause(pace.latency).await {
        open.end = End::Stopped;
        return dropped();
    }
    let mut response = match act.payload {
        Payload::Hang => {
            shared.stopped().await;
            open.end = End::Stopped;
            dropped()
        }
        Payload::Drop => {
            open.end = End::Cut;
            dropped()
        }
        Payload::Raw { status, content_type, body } => {
            open.end = End::Answered;
            with_type(status, content_type, Body::from(body))
        }
        Payload::Completion { status, stream: false, completion } => {
            if !shared.pause(pace.first_token).await {
                open.end = End::Stopped;
                return dropped();
            }
            whole(status, &completion, &mut open)
        }
        Payload::Completion { status, stream: true, completion } => {
            with_type(status, "text/event-stream", streamed(&completion, pace, open))
        }
    };
    response.headers_mut().extend(act.headers);
    response
}

fn with_type(status: u16, content_type: &'static str, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// An answer that is none: its body fails before anything was sent, and the connection closes.
fn dropped() -> Response {
    Response::new(Body::from_stream(stream::iter([Err::<Bytes, _>(broken_off())])))
}

fn broken_off() -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::ConnectionAborted, "the scenario closes the connection here")
}

fn whole(status: u16, completion: &Completion, open: &mut Open) -> Response {
    let body = open.wire.whole(completion);
    let Broken::Cut(_) = completion.broken else {
        open.end = End::Answered;
        return with_type(status, "application/json", Body::from(body));
    };
    open.end = End::Cut;
    let length = HeaderValue::from(body.len());
    let half = Bytes::copy_from_slice(&body.as_bytes()[..body.len() / 2]);
    let pieces = stream::unfold(Some(half), |half| async {
        match half {
            Some(half) if !half.is_empty() => Some((Ok(half), Some(Bytes::new()))),
            Some(_) => Some((Err(flushed().await), None)),
            None => None,
        }
    });
    let mut response = with_type(status, "application/json", Body::from_stream(pieces));
    response.headers_mut().insert(header::CONTENT_LENGTH, length);
    response
}

/// Lets the connection send what it has, then gives the error that closes it.
async fn flushed() -> std::io::Error {
    for _ in 0..FLUSHES {
        tokio::task::yield_now().await;
    }
    broken_off()
}

/// A stream's body: its frames at their pace, then its end or its cut.
fn streamed(completion: &Completion, pace: Pace, open: Open) -> Body {
    let cut = matches!(completion.broken, Broken::Cut(_));
    let frames = frames(completion.events(open.wire), pace);
    let state = Streaming { frames: frames.into(), pace, cut, first: true, open };
    Body::from_stream(stream::unfold(Some(state), |state| async { state?.next().await }))
}

/// What is sent at once: every event by itself where there is a pace, else all together.
fn frames(events: Vec<String>, pace: Pace) -> Vec<Bytes> {
    match (pace.frame_bytes, pace.chunk) {
        (Some(bytes), _) => events.concat().into_bytes().chunks(bytes.max(1)).map(Bytes::copy_from_slice).collect(),
        (None, Millis::ZERO) => vec![Bytes::from(events.concat())],
        (None, _) => events.into_iter().map(Bytes::from).collect(),
    }
}

struct Streaming {
    frames: VecDeque<Bytes>,
    pace: Pace,
    cut: bool,
    first: bool,
    open: Open,
}

impl Streaming {
    async fn next(mut self) -> Option<(Result<Bytes, std::io::Error>, Option<Self>)> {
        let Some(frame) = self.frames.pop_front() else {
            self.open.end = if self.cut { End::Cut } else { End::Answered };
            return if self.cut { Some((Err(flushed().await), None)) } else { None };
        };
        let wait = if std::mem::take(&mut self.first) { self.pace.first_token } else { self.pace.chunk };
        if !self.open.shared.pause(wait).await {
            self.open.end = End::Stopped;
            return Some((Err(broken_off()), None));
        }
        if self.pace.frame_bytes.is_some() {
            // A frame of its own on the wire, even without a pause.
            tokio::task::yield_now().await;
        }
        Some((Ok(frame), Some(self)))
    }
}

/// A listener with a bound: who comes beyond it waits in the system's queue.
struct Bounded {
    listener: TcpListener,
    places: Arc<Semaphore>,
}

impl axum::serve::Listener for Bounded {
    type Io = Held;
    type Addr = std::net::SocketAddr;

    async fn accept(&mut self) -> (Held, Self::Addr) {
        let place = self.places.clone().acquire_owned().await.expect("the semaphore is never closed");
        let (stream, address) = axum::serve::Listener::accept(&mut self.listener).await;
        // Without it small chunks wait for acknowledgements; a failure costs time, not truth.
        drop(stream.set_nodelay(true));
        (Held { stream, _place: place }, address)
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

/// A connection and its place among those served at once.
struct Held {
    stream: TcpStream,
    _place: OwnedSemaphorePermit,
}

impl AsyncRead for Held {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Held {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
