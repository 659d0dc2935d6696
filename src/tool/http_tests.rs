use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::time::Instant;

use super::*;
use crate::tool::fixture::{self, call, context, permit};
use crate::tool::variables::Variables;
use crate::tool::{ToolOutcome, call as call_with};
use crate::units::Millis;

/// The longest wait of a test for its server.
const PATIENCE: Duration = Duration::from_secs(5);

/// A server that answers one request, on a thread that ends with the request.
struct Server {
    address: SocketAddr,
    /// What it was asked.
    asked: mpsc::Receiver<String>,
}

impl Server {
    /// Answers with these bytes.
    fn answering(answer: impl Into<Vec<u8>>) -> Self {
        let answer = answer.into();
        Self::with(move |stream| {
            let asked = request(stream);
            // The client may have hung up in the middle, which is what some tests are about.
            stream.write_all(&answer).ok();
            asked
        })
    }

    fn with(serve: impl FnOnce(&mut TcpStream) -> String + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let (told, asked) = mpsc::channel();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a client");
            stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
            told.send(serve(&mut stream)).ok();
        });
        Self { address, asked }
    }

    fn url(&self, rest: &str) -> String {
        format!("http://{}{rest}", self.address)
    }

    fn asked(&self) -> String {
        self.asked.recv_timeout(PATIENCE).expect("a request")
    }
}

/// Reads a request with its body.
fn request(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let length = stream.read(&mut piece).unwrap_or(0);
        bytes.extend_from_slice(&piece[..length]);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let complete = text.split_once("\r\n\r\n").is_some_and(|(head, body)| {
            let announced = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap_or("0");
            body.len() >= announced.parse().expect("a length")
        });
        if length == 0 || complete {
            return text;
        }
    }
}

fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
}

fn tool(url: &str) -> ToolPlan {
    fixture::tool(ToolKind::Http {
        method: "GET".into(),
        url: url.to_owned(),
        headers: BTreeMap::new(),
        body: None,
        allowed_hosts: vec!["127.0.0.1".into()],
        allow_private: true,
        env: Vec::new(),
    })
}

fn changed(
    mut tool: ToolPlan,
    change: impl FnOnce(&mut String, &mut BTreeMap<String, String>, &mut Option<String>),
) -> ToolPlan {
    if let ToolKind::Http { method, headers, body, .. } = &mut tool.kind {
        change(method, headers, body);
    }
    tool
}

fn public(url: &str, hosts: &[&str]) -> ToolPlan {
    let mut tool = tool(url);
    if let ToolKind::Http { allowed_hosts, allow_private, .. } = &mut tool.kind {
        *allowed_hosts = hosts.iter().map(|&host| host.to_owned()).collect();
        *allow_private = false;
    }
    tool
}

/// A tool with one header; it may use `KEY`, which is set, and `UNSET`, which isn't.
async fn call_with_header(server_url: &str, value: &str, arguments: Value, output_bytes: u64) -> ToolOutcome {
    let mut tool = changed(tool(server_url), |_, headers, _| {
        headers.insert("Authorization".into(), value.to_owned());
    });
    tool.output_bytes = output_bytes;
    if let ToolKind::Http { env, .. } = &mut tool.kind {
        *env = vec!["KEY".into(), "UNSET".into()];
    }
    let mut context = context();
    context.variables = Variables::fixed([("KEY".into(), "sk-12345678".into()), ("OTHER".into(), "x".into())].into());
    call_with(permit(), &tool, &arguments, &context).await
}

#[tokio::test]
async fn an_answer_passes_as_it_is() {
    let server = Server::answering(ok(r#"{"status": "shipped"}"#));
    let outcome = call(
        &tool(&server.url("/orders/{{ args.order }}?full={{ args.full }}")),
        json!({"order": "1 0", "full": true}),
    )
    .await;
    assert_eq!(outcome.content, r#"{"status": "shipped"}"#);
    assert!(!outcome.is_error && !outcome.never_began && outcome.cut_bytes == 0);
    let asked = server.asked();
    assert!(asked.starts_with("GET /orders/1%200?full=true HTTP/1.1\r\n"), "{asked}");
    assert!(!asked.contains("cookie") && !asked.contains("authorization"), "{asked}");
}

#[tokio::test]
async fn a_value_stays_in_its_place_of_the_url() {
    let value = "1/../../admin?all=1&x#y@evil.example\\ä\r\nHost: evil";
    let server = Server::answering(ok("fine"));
    call(&tool(&server.url("/orders/{{ args.a }}/items?b={{ args.a }}")), json!({ "a": value })).await;
    let asked = server.asked();
    let encoded = "1%2F..%2F..%2Fadmin%3Fall%3D1%26x%23y%40evil.example%5C%C3%A4%0D%0AHost%3A%20evil";
    assert!(asked.starts_with(&format!("GET /orders/{encoded}/items?b={encoded} HTTP/1.1\r\n")), "{asked}");
    assert_eq!(asked.matches("ost: ").count(), 1, "{asked}");
    for value in ["..", "."] {
        let outcome = call(&tool("http://127.0.0.1:9/orders/{{ args.a }}/items"), json!({ "a": value })).await;
        assert!(outcome.never_began && outcome.content.contains("another path"), "{outcome:?}");
    }
    for (first, second) in [(".", "."), ("%2e", "%2E")] {
        let url = format!("http://127.0.0.1:9/a/{first}{second}/b");
        assert!(call(&tool(&url), json!({})).await.never_began, "{url}");
    }
}

#[tokio::test]
async fn a_value_cannot_change_the_host() {
    let tool = public("https://{{ args.a }}.example.com/", &["*.example.com"]);
    for value in ["evil.org/", "evil.org#", "evil.org?", "evil.org\\", "user@evil.org:1", "evil.org/.", "evil.org%2f"] {
        let outcome = call(&tool, json!({ "a": value })).await;
        assert!(outcome.never_began && outcome.is_error, "{value}: {outcome:?}");
    }
}

#[tokio::test]
async fn only_allowed_hosts_are_asked() {
    for (pattern, host, allowed) in [
        ("api.example.com", "api.example.com", true),
        ("API.example.com", "api.EXAMPLE.com", true),
        ("*.example.com", "a.b.example.com", true),
        ("*.example.com", "example.com", false),
        ("*.example.com", ".example.com", false),
        ("*.example.com", "evilexample.com", false),
        ("example.com", "api.example.com", false),
        ("example.com", "example.com.evil.org", false),
        ("*", "anything.org", false),
    ] {
        assert_eq!(host_matches(pattern, host), allowed, "{pattern} {host}");
    }
    let outcome = call(&public("https://evil.org/", &["example.com"]), json!({})).await;
    assert!(outcome.never_began && outcome.content.contains("`evil.org` isn't allowed"), "{outcome:?}");
    assert!(call(&public("ftp://example.com/", &["example.com"]), json!({})).await.never_began);
    assert!(call(&public("https://me:secret@example.com/", &["example.com"]), json!({})).await.never_began);
    let dotted = checked_host(&Url::parse("http://example.com./").expect("a URL"), &["example.com".into()], false);
    assert_eq!(dotted.as_deref(), Ok("example.com"));
}

#[tokio::test]
async fn private_addresses_are_refused_however_they_are_written() {
    for host in [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f.1",
        "0177.0.0.1",
        "0",
        "10.0.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[fd00:ec2::254]",
        "[fe80::1]",
        "[64:ff9b::a9fe:a9fe]",
    ] {
        let url = Url::parse(&format!("http://{host}:9/")).expect("a URL");
        let canonical = url.host_str().expect("a host").to_owned();
        let outcome = call(&public(url.as_str(), &[&canonical]), json!({})).await;
        assert!(outcome.never_began && outcome.content.contains("no public address"), "{host}: {outcome:?}");
    }
}

#[tokio::test]
async fn a_name_that_resolves_to_a_private_address_is_refused_when_it_is_connected_to() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.set_nonblocking(true).expect("no waiting");
    let url = format!("http://localhost:{}/", listener.local_addr().expect("an address").port());
    let outcome = call(&public(&url, &["localhost"]), json!({})).await;
    assert!(outcome.never_began && outcome.is_error, "{outcome:?}");
    assert!(outcome.content.contains("`localhost` is at") && outcome.content.contains("allow_private"), "{outcome:?}");
    assert!(listener.accept().is_err(), "nobody may have connected");
}

#[tokio::test]
async fn a_redirect_is_told_and_not_followed() {
    let elsewhere = TcpListener::bind("127.0.0.1:0").expect("a port");
    elsewhere.set_nonblocking(true).expect("no waiting");
    let target = format!("http://{}/latest", elsewhere.local_addr().expect("an address"));
    for status in ["301 Moved Permanently", "302 Found", "307 Temporary Redirect"] {
        let answer = format!("HTTP/1.1 {status}\r\nlocation: {target}?key=sk-12345678\r\ncontent-length: 0\r\n\r\n");
        let server = Server::answering(answer);
        let outcome = call_with_header(&server.url("/"), "{{ env.KEY }}", json!({}), 1_000).await;
        assert!(outcome.is_error && !outcome.never_began);
        let told = format!("redirects to `{target}?key=[");
        assert!(outcome.content.contains(&told) && !outcome.content.contains("sk-1"), "{}", outcome.content);
    }
    assert!(elsewhere.accept().is_err(), "nobody may have followed");
}

#[tokio::test]
async fn headers_carry_secrets_that_do_not_come_back() {
    let server = Server::answering(ok("you sent Bearer sk-12345678, or sk-12345678"));
    let outcome = call_with_header(&server.url("/"), "Bearer {{ env.KEY }}", json!({}), 16_384).await;
    assert!(server.asked().contains("authorization: Bearer sk-12345678\r\n"));
    assert_eq!(outcome.content, "you sent [header Authorization redacted], or [KEY redacted]");
    let server = Server::answering(ok(&"sk-12345678".repeat(5_000)));
    let outcome = call_with_header(&server.url("/"), "Bearer {{ env.KEY }}", json!({}), 1_000).await;
    assert!(outcome.cut_bytes > 0 && !outcome.content.contains("123"), "{}", outcome.content);
    let failing = "HTTP/1.1 500 Oops\r\ncontent-length: 11\r\n\r\nsk-12345678";
    let outcome = call_with_header(&Server::answering(failing).url("/"), "{{ env.KEY }}", json!({}), 1_000).await;
    assert!(outcome.is_error && !outcome.content.contains("sk-1"), "{}", outcome.content);
}

#[tokio::test]
async fn headers_cannot_be_broken_out_of() {
    let inject = json!({"a": "x\r\nX-Admin: 1"});
    let outcome = call_with_header("http://127.0.0.1:9/", "{{ args.a }}", inject, 1_000).await;
    assert!(outcome.never_began && outcome.content.contains("line break"), "{outcome:?}");
    for name in ["UNSET", "OTHER"] {
        let value = format!("{{{{ env.{name} }}}}");
        let outcome = call_with_header("http://127.0.0.1:9/", &value, json!({}), 1_000).await;
        assert!(outcome.never_began && outcome.content.contains("listed in `env`"), "{outcome:?}");
    }
}

#[tokio::test]
async fn an_error_status_is_an_error_with_the_head_of_the_body() {
    let server = Server::answering("HTTP/1.1 404 Not Found\r\ncontent-length: 8\r\n\r\nno order");
    let outcome = call(&tool(&server.url("/")), json!({})).await;
    assert!(outcome.is_error && !outcome.never_began);
    assert!(outcome.content.contains("404 Not Found:\nno order"), "{}", outcome.content);
    let server = Server::answering("HTTP/1.1 204 No Content\r\n\r\n");
    assert_eq!(call(&tool(&server.url("/")), json!({})).await.content, "204 No Content, without a body");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_large_body_is_cut_and_not_read_to_its_end() {
    let server = Server::with(|stream| {
        let asked = request(stream);
        stream.set_write_timeout(Some(PATIENCE)).expect("a time-out");
        let head = "HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n";
        let piece = vec![b'x'; 64 * 1024];
        let mut written = stream.write_all(head.as_bytes()).map(|()| 0);
        while let Ok(count @ 0..100_000_000) = written {
            written = stream.write_all(&piece).map(|()| count + piece.len());
        }
        assert!(written.is_err(), "the client must hang up");
        asked
    });
    let mut tool = tool(&server.url("/"));
    tool.output_bytes = 1_000;
    let outcome = call(&tool, json!({})).await;
    assert!(!outcome.is_error && outcome.content.len() <= 1_000 && outcome.content.starts_with("xxx"));
    assert!(outcome.content.contains("cut: more than 1,000 bytes"), "{}", outcome.content);
    assert!(outcome.cut_bytes > 999_998_000);
    server.asked();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
#[expect(clippy::disallowed_methods, reason = "the test measures how long a hang-up takes on the real clock")]
async fn a_time_out_hangs_up_at_once() {
    let server = Server::with(|stream| {
        request(stream);
        let mut rest = [0; 1];
        assert_eq!(stream.read(&mut rest).unwrap_or(1), 0, "the client must hang up");
        "hung up".to_owned()
    });
    let mut tool = tool(&server.url("/"));
    tool.timeout = Millis(200);
    let began = Instant::now();
    let outcome = call(&tool, json!({})).await;
    assert_eq!(server.asked(), "hung up");
    assert!(began.elapsed() < Duration::from_millis(200 + 100), "{:?}", began.elapsed());
    assert!(outcome.is_error && outcome.content.contains("took longer than 200ms"), "{}", outcome.content);
}

#[tokio::test]
async fn nobody_there_and_a_cut_answer_are_told_apart() {
    let closed = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let outcome = call(&tool(&format!("http://{closed}/")), json!({})).await;
    assert!(outcome.is_error && outcome.never_began, "{outcome:?}");
    let server = Server::answering("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nshort");
    let outcome = call(&tool(&server.url("/")), json!({})).await;
    assert!(outcome.is_error && !outcome.never_began && outcome.content.contains("broke off"), "{outcome:?}");
}

#[tokio::test]
async fn bodies_are_json_forms_or_text_and_values_stay_inside() {
    let value = json!({"a": "x\", \"admin\": true, \"b\": \"&c=1"});
    let json = (None, "application/json");
    let form = "application/x-www-form-urlencoded";
    for (template, (kind, sent), body) in [
        (None, json, value.to_string()),
        (Some(r#"{"q": {{ args.a }}}"#), json, json!({ "q": value["a"] }).to_string().replace("\":\"", "\": \"")),
        (
            Some("a={{ args.a }}"),
            (Some(form), form),
            "a=x%22%2C%20%22admin%22%3A%20true%2C%20%22b%22%3A%20%22%26c%3D1".into(),
        ),
        (
            Some("Dear {{ args.a }}"),
            (None, "text/plain; charset=utf-8"),
            format!("Dear {}", value["a"].as_str().expect("text")),
        ),
    ] {
        let server = Server::answering(ok("fine"));
        let tool = changed(tool(&server.url("/")), |method, headers, body| {
            *method = "POST".into();
            *body = template.map(str::to_owned);
            headers.extend(kind.map(|kind: &str| ("content-type".to_owned(), kind.to_owned())));
        });
        assert_eq!(call(&tool, value.clone()).await.content, "fine");
        let asked = server.asked();
        assert!(asked.contains(&format!("content-type: {sent}\r\n")), "{asked}");
        assert!(asked.ends_with(&format!("\r\n\r\n{body}")), "{asked} instead of {body}");
    }
    let quoted = changed(tool("http://127.0.0.1:9/"), |_, _, body| *body = Some(r#"{"q": "{{ args.a }}"}"#.into()));
    let outcome = call(&quoted, value).await;
    assert!(outcome.never_began && outcome.content.contains("without quotes"), "{outcome:?}");
}
