//! Who may ask, and what holders do that are hung, gone, or of another version; and the API's own errors.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::thread;

use plimsoll::api::client::{Client, ClientError};
use plimsoll::api::socket::Socket;
use plimsoll::api::{BODY_BYTES_MAX, ErrorBody, RunPage, Service};
use plimsoll::clock::Clock;
use plimsoll::domain::event::Labels;
use plimsoll::store::lock::Holder;
use plimsoll::units::Millis;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::world::Recipe;

const AGENT: &str = "[model]\nmodels = [\"openai/gpt-5-mini\"]\n";

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).expect("it is there").permissions().mode() & 0o777
}

/// A folder with a lock, and a holder that answers each connection with these bytes, or not at all.
fn holder(answer: Option<&'static str>) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("lock"), "").expect("a lock");
    let listener = UnixListener::bind(folder.path().join("socket")).expect("it binds");
    // It lives as long as the test's process.
    thread::spawn(move || {
        let mut open = Vec::new();
        while let (Ok((mut stream, _)), true) = (listener.accept(), open.len() < 8) {
            if let Some(answer) = answer {
                drop(stream.read(&mut [0; 4_096]));
                drop(stream.write_all(answer.as_bytes()));
            } else {
                open.push(stream);
            }
        }
    });
    folder
}

async fn ask(folder: &Path) -> ClientError {
    let named = Holder { pid: Some(77), command: Some("plimsoll run".to_owned()), since: None };
    let client = match Client::patient(folder, named, Millis(300)) {
        Ok(client) => client,
        Err(error) => return error,
    };
    client.budgets().await.expect_err("it doesn't answer")
}

#[tokio::test]
async fn a_holder_that_does_not_answer_is_named() {
    let error = ask(holder(None).path()).await;
    assert!(matches!(error, ClientError::Silent { .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("process 77 (`plimsoll run`)") && text.contains("300ms"), "{text}");
}

#[tokio::test]
async fn a_holder_of_another_version_is_named_with_both() {
    let answer = "HTTP/1.1 200 OK\r\nplimsoll-api: 9\r\nplimsoll-version: 4.5.6\r\ncontent-length: 2\r\n\r\n{}";
    let text = ask(holder(Some(answer)).path()).await.to_string();
    for part in ["4.5.6", env!("CARGO_PKG_VERSION"), "process 77"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    // The same version of the API, and an answer that doesn't fit: said, not guessed at.
    let answer = "HTTP/1.1 200 OK\r\nplimsoll-api: 1\r\ncontent-length: 2\r\n\r\n{}";
    let error = ask(holder(Some(answer)).path()).await;
    assert!(matches!(error, ClientError::Unreadable { .. }), "{error:?}");
}

#[tokio::test]
async fn a_holder_that_goes_away_in_the_middle_is_gone() {
    let cut = "HTTP/1.1 200 OK\r\nplimsoll-api: 1\r\ncontent-length: 200\r\n\r\n{\"budgets\":";
    for answer in ["", cut] {
        let error = ask(holder(Some(answer)).path()).await;
        assert!(matches!(error, ClientError::Gone { .. }), "{answer}: {error:?}");
    }
    let stale = tempfile::tempdir().expect("a folder");
    std::fs::write(stale.path().join("lock"), "").expect("a lock");
    assert!(matches!(ask(stale.path()).await, ClientError::Gone { .. }));
    drop(UnixListener::bind(stale.path().join("socket")).expect("it binds"));
    assert!(matches!(ask(stale.path()).await, ClientError::Gone { .. }));
    std::fs::remove_file(stale.path().join("socket")).expect("it was there");
    std::fs::write(stale.path().join("socket"), "").expect("a file");
    assert!(matches!(ask(stale.path()).await, ClientError::Foreign { .. }));
}

#[tokio::test]
async fn the_router_bounds_and_names_what_it_refuses() {
    let world = Recipe::agent(AGENT).start();
    for _ in 0..3 {
        world.run_with(Labels::new()).await;
    }
    let store = world.folder.path().join(".plimsoll-sim");
    // What a holder left that was killed.
    drop(UnixListener::bind(store.join("socket")).expect("it binds"));
    let (stop, stopped) = watch::channel(false);
    let socket = Socket::bind(&store).expect("it binds");
    assert_eq!((mode(&store), mode(&store.join("socket"))), (0o700, 0o600));
    let service = Service::new(world.runtime.clone(), &[], Clock::system());
    let mut tasks = JoinSet::new();
    tasks.spawn(socket.serve(service, stopped));

    let http = reqwest::Client::builder().unix_socket(store.join("socket")).build().expect("a client");
    let url = |path: &str| format!("http://plimsoll{path}");
    let health: Value = http.get(url("/healthz")).send().await.expect("sent").json().await.expect("JSON");
    assert_eq!(health, json!({ "version": env!("CARGO_PKG_VERSION"), "api": 1 }));

    let large = "x".repeat(BODY_BYTES_MAX + 1);
    let refused = [
        (http.get(url("/v2/runs")), 404, "no_such_path"),
        (http.get(url("/v1/runs/7ZZZ")), 404, "no_such_run"),
        (http.get(url("/v1/runs/0/trace")), 400, "several_runs"),
        (http.delete(url("/v1/runs")), 405, "method"),
        (http.get(url("/v1/runs?colour=red")), 400, "bad_request"),
        (http.get(url("/v1/budgets?x=1")), 400, "bad_request"),
        (http.get(url("/v1/runs/last?wait=long")), 400, "bad_request"),
        (http.post(url("/v1/runs/last/cancel")), 409, "state"),
        (http.post(url("/v1/runs/last/cancel")).body("{\"raison\":1}"), 400, "bad_request"),
        (http.post(url("/v1/runs/last/cancel")).body(large), 413, "too_large"),
        (http.get(url("/healthz")).header("plimsoll-api", "2"), 400, "version"),
    ];
    for (request, status, code) in refused {
        let response = request.send().await.expect("sent");
        assert_eq!(response.headers()["plimsoll-api"], "1", "{code}");
        assert_eq!(response.status().as_u16(), status, "{code}");
        let body: ErrorBody = response.json().await.expect("JSON");
        assert_eq!(body.code, format!("plimsoll::api::{code}"), "{body:?}");
        assert!(!body.detail.is_empty() && !body.help.contains(';'), "{body:?}");
    }

    let mut seen = Vec::new();
    let mut next = String::new();
    loop {
        let page = http.get(url(&format!("/v1/runs?limit=2{next}"))).send().await.expect("sent");
        let page: RunPage = page.json().await.expect("a page");
        seen.extend(page.runs.iter().map(|run| run.run));
        let Some(before) = page.next else { break };
        next = format!("&before={before}");
    }
    let mut expected: Vec<_> = world.all().iter().map(|told| told.run.id).collect();
    expected.reverse();
    assert_eq!(seen, expected, "every run on one page, newest first");

    stop.send_replace(true);
    tasks.join_all().await;
    assert!(!store.join("socket").exists(), "a clean end takes the socket along");
}
