//! A loopback server that plays a script: for each connection it reads one request and writes what it was told.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// The longest that a test waits for anything.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);
/// The largest request that is read.
const REQUEST_BYTES_MAX: usize = 1024 * 1024;

/// One thing that the server does with a connection.
#[derive(Clone, Debug)]
pub(super) enum Act {
    /// Writes these bytes.
    Write(Vec<u8>),
    /// Waits.
    Wait(Duration),
    /// Writes nothing more, and reports when the client hangs up.
    AwaitHangUp,
    /// Reads the next request of the same connection.
    NextRequest,
}

/// A request as it came in.
#[derive(Clone, Debug)]
pub(super) struct Heard {
    pub(super) head: String,
    pub(super) body: String,
}

impl Heard {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (known, value) = line.split_once(':')?;
            known.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    pub(super) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).expect("a JSON body")
    }
}

/// The server; it stops when it is dropped.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    heard: mpsc::Receiver<Heard>,
    hung_up: mpsc::Receiver<()>,
    connections: Arc<AtomicUsize>,
    _tasks: JoinSet<()>,
}

impl Server {
    /// Plays the same script on every connection.
    pub(super) async fn playing(script: Vec<Act>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port");
        let address = listener.local_addr().expect("an address");
        let (heard_by, heard) = mpsc::channel(64);
        let (gone_by, hung_up) = mpsc::channel(64);
        let connections: Arc<AtomicUsize> = Arc::default();
        let count = Arc::clone(&connections);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                connections.spawn(play(socket, script.clone(), heard_by.clone(), gone_by.clone()));
            }
        });
        Self { address, heard, hung_up, connections, _tasks: tasks }
    }

    /// The next request.
    pub(super) async fn heard(&mut self) -> Heard {
        tokio::time::timeout(PATIENCE, self.heard.recv()).await.expect("a request in time").expect("a request")
    }

    /// How many more requests came by now.
    pub(super) fn more(&mut self) -> usize {
        std::iter::from_fn(|| self.heard.try_recv().ok()).count()
    }

    /// How many connections were made.
    pub(super) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// Waits until the client hung up; the time that it took.
    pub(super) async fn hung_up(&mut self) -> Duration {
        let begun = tokio::time::Instant::now();
        tokio::time::timeout(PATIENCE, self.hung_up.recv()).await.expect("a hang-up in time").expect("a hang-up");
        begun.elapsed()
    }
}

async fn play(mut socket: TcpStream, script: Vec<Act>, heard: mpsc::Sender<Heard>, gone: mpsc::Sender<()>) {
    if !hear(&mut socket, &heard).await {
        return;
    }
    for act in script {
        let went_well = match act {
            Act::Write(bytes) => socket.write_all(&bytes).await.is_ok() && socket.flush().await.is_ok(),
            Act::Wait(time) => {
                tokio::time::sleep(time).await;
                true
            }
            Act::NextRequest => hear(&mut socket, &heard).await,
            Act::AwaitHangUp => {
                let mut rest = [0u8; 1024];
                while matches!(socket.read(&mut rest).await, Ok(count) if count > 0) {}
                gone.send(()).await.is_ok()
            }
        };
        if !went_well {
            return;
        }
    }
}

/// Reads one request; false where the client hung up instead.
async fn hear(socket: &mut TcpStream, heard: &mpsc::Sender<Heard>) -> bool {
    let mut bytes = Vec::new();
    loop {
        if let Some(request) = whole(&bytes) {
            return heard.send(request).await.is_ok();
        }
        let mut piece = [0u8; 8192];
        match socket.read(&mut piece).await {
            Ok(count) if count > 0 && bytes.len() < REQUEST_BYTES_MAX => bytes.extend_from_slice(&piece[..count]),
            Ok(_) | Err(_) => return false,
        }
    }
}

fn whole(bytes: &[u8]) -> Option<Heard> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    let request = Heard { head: String::from_utf8_lossy(&bytes[..end]).into_owned(), body: String::new() };
    let length: usize = request.header("content-length").unwrap_or("0").parse().expect("a number");
    let body = bytes.get(end + 4..end + 4 + length)?;
    Some(Heard { body: String::from_utf8_lossy(body).into_owned(), ..request })
}

/// A whole answer with a length.
pub(super) fn answer(status: &str, headers: &[&str], body: &str) -> Act {
    let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
    let text = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n{headers}\r\n{body}", body.len());
    Act::Write(text.into_bytes())
}

/// A whole JSON answer.
pub(super) fn json(status: &str, body: &str) -> Act {
    answer(status, &["content-type: application/json"], body)
}

/// The head of a stream in chunks.
pub(super) fn stream_head() -> Act {
    Act::Write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n".to_vec())
}

/// One chunk of a stream.
pub(super) fn chunk(text: &str) -> Act {
    Act::Write(format!("{:x}\r\n{text}\r\n", text.len()).into_bytes())
}

/// The end of a stream.
pub(super) fn stream_end() -> Act {
    Act::Write(b"0\r\n\r\n".to_vec())
}
