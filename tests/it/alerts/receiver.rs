//! Who receives webhooks: on a port of its own, with answers from a list, and eyes of its own for signatures.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use plimsoll::domain::event::{Created, EVENT_VERSION, EndState, Ended, Event, Labels};
use plimsoll::units::Money;
use sha2::{Digest as _, Sha256};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// What alerts are signed with.
pub(super) const SECRET: &str = "whsec_c2V2ZW4tc2Vhcy1vZi1yeWU=";

/// What a receiver does.
#[derive(Clone, Copy, Debug)]
pub(super) enum Answer {
    Status(u16),
    /// Elsewhere on the same host.
    Redirect,
    /// For longer than anybody waits.
    Silence,
}

/// What came.
#[derive(Clone, Debug)]
pub(super) struct Got {
    pub(super) id: String,
    pub(super) seconds: u64,
    pub(super) signature: String,
    pub(super) body: String,
}

#[derive(Default)]
struct Desk {
    answers: VecDeque<Answer>,
    got: Vec<Got>,
}

/// Takes what it is sent; answers 204 once its list is at its end.
pub(super) struct Receiver {
    address: String,
    desk: Arc<Mutex<Desk>>,
    _serves: JoinSet<()>,
}

impl Receiver {
    pub(super) async fn new(answers: impl IntoIterator<Item = Answer>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = format!("http://{}", listener.local_addr().expect("an address"));
        let desk = Arc::new(Mutex::new(Desk { answers: answers.into_iter().collect(), got: Vec::new() }));
        let router = Router::new().fallback(take).with_state(Arc::clone(&desk));
        let mut serves = JoinSet::new();
        serves.spawn(async move { axum::serve(listener, router).await.expect("it serves") });
        Self { address, desk, _serves: serves }
    }

    pub(super) fn url(&self) -> String {
        format!("{}/hook", self.address)
    }

    pub(super) fn got(&self) -> Vec<Got> {
        self.desk.lock().expect("whole").got.clone()
    }
}

async fn take(State(desk): State<Arc<Mutex<Desk>>>, headers: HeaderMap, body: String) -> Response {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let answer = {
        let mut desk = desk.lock().expect("whole");
        desk.got.push(Got {
            id: text("webhook-id"),
            seconds: text("webhook-timestamp").parse().expect("seconds"),
            signature: text("webhook-signature"),
            body,
        });
        desk.answers.pop_front().unwrap_or(Answer::Status(204))
    };
    match answer {
        Answer::Status(status) => StatusCode::from_u16(status).expect("a status").into_response(),
        Answer::Redirect => (StatusCode::FOUND, [(header::LOCATION, "/elsewhere")]).into_response(),
        Answer::Silence => {
            tokio::time::sleep(Duration::from_secs(60)).await;
            StatusCode::OK.into_response()
        }
    }
}

/// HMAC-SHA256 by its definition (RFC 2104), over SHA-256 alone.
fn hmac(key: &[u8], message: &[u8]) -> Vec<u8> {
    let mut block = [0_u8; 64];
    block[..key.len()].copy_from_slice(key);
    let padded = |with: u8| block.map(|byte| byte ^ with);
    let inner = Sha256::new().chain_update(padded(0x36)).chain_update(message).finalize();
    Sha256::new().chain_update(padded(0x5c)).chain_update(inner).finalize().to_vec()
}

/// What came is signed as Standard Webhooks says.
pub(super) fn assert_signed(got: &Got) {
    let key = STANDARD.decode(SECRET.trim_start_matches("whsec_")).expect("base64");
    let message = format!("{}.{}.{}", got.id, got.seconds, got.body);
    assert_eq!(got.signature, format!("v1,{}", STANDARD.encode(hmac(&key, message.as_bytes()))), "{got:?}");
    assert!(!got.id.is_empty() && !got.id.contains('.'));
}

/// The facts of a run that is cancelled before it starts.
pub(super) fn cancelled() -> Vec<Event> {
    let created = Created {
        version: EVENT_VERSION,
        agent: "clerk".into(),
        plan: "0".repeat(64).into(),
        prompt_version: "1".into(),
        input: serde_json::Value::Null,
        labels: Labels::from([("tenant".to_owned(), "acme".to_owned())]),
        cap: Money::from_micro(250_000),
        load_line: Money::from_micro(200_000),
        expected: None,
        parent: None,
        key: None,
        simulated: true,
        stage_caps: Default::default(),
        thread: None,
        documents: None,
        files: Vec::new(),
        unit: None,
        foreseen: None,
    };
    let ended = Ended { state: EndState::Cancelled, refusal: None, output: None, error: None };
    vec![Event::Created(created), Event::Ended(ended)]
}
