//! TLS by two files, and pages of other origins.

use std::io::Write as _;

use plimsoll::api::tcp::Tcp;
use plimsoll::api::tls::Tls;
use plimsoll::api::{Intake, IntakeOptions, Service};
use plimsoll::clock::Clock;
use reqwest::{Certificate, Method, StatusCode};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::AGENT;
use crate::world::Recipe;

/// An API that is served so, until `stop` is dropped.
struct Shown {
    address: std::net::SocketAddr,
    stop: watch::Sender<bool>,
    answers: JoinSet<()>,
}

impl Shown {
    async fn of(service: &Service, tls: Option<Tls>, origins: &[&str]) -> Self {
        let origins: Vec<String> = origins.iter().map(|origin| (*origin).to_owned()).collect();
        let tcp = Tcp::bind("127.0.0.1:0".parse().expect("an address"), service.gatekeeper()).await.expect("it binds");
        let pages = plimsoll::pages::router(service.clone(), tls.is_some()).expect("pages");
        let tcp = tcp.with_origins(&origins).expect("origins").with_pages(pages).with_tls(tls);
        let (address, stop, mut answers) = (tcp.address(), watch::Sender::new(false), JoinSet::new());
        answers.spawn(tcp.serve(service.clone(), stop.subscribe()));
        Self { address, stop, answers }
    }

    async fn close(mut self) {
        self.stop.send_replace(true);
        while self.answers.join_next().await.is_some() {}
    }
}

fn service(world: &crate::world::World) -> Service {
    let intake = Intake::new(world.runtime.clone(), IntakeOptions::default());
    Service::new(world.runtime.clone(), &[], Clock::system()).with_intake(intake)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_speaks_tls_and_who_dawdles_holds_up_nobody() {
    let world = Recipe::agent(AGENT).start();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let (cert, key) = (world.folder.path().join("cert.pem"), world.folder.path().join("key.pem"));
    std::fs::write(&cert, made.cert.pem()).expect("it writes");
    std::fs::write(&key, made.signing_key.serialize_pem()).expect("it writes");
    let shown = Shown::of(&service(&world), Some(Tls::read(cert, key).expect("they fit")), &[]).await;
    // Somebody who says nothing, and somebody who speaks something else.
    let still = std::net::TcpStream::connect(shown.address).expect("a connection");
    let mut plain = std::net::TcpStream::connect(shown.address).expect("a connection");
    plain.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("it is sent");
    let root = Certificate::from_pem(made.cert.pem().as_bytes()).expect("a certificate");
    let http = reqwest::Client::builder()
        .no_proxy()
        .tls_certs_only([root])
        .resolve("localhost", shown.address)
        .build()
        .expect("a client");
    let url = |path: &str| format!("https://localhost:{}{path}", shown.address.port());
    for path in ["/healthz", "/v1/runs", "/"] {
        assert_eq!(http.get(url(path)).send().await.expect("an answer").status(), StatusCode::OK, "{path}");
    }
    drop((still, plain));
    shown.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_other_origins_read_nothing_unless_they_are_named() {
    let world = Recipe::agent(AGENT).start();
    let service = service(&world);
    let http = reqwest::Client::builder().no_proxy().build().expect("a client");
    let ask = |shown: &Shown, method: Method, path: &str, origin: &str| {
        let request = http.request(method, format!("http://{}{path}", shown.address)).header("origin", origin);
        request.header("access-control-request-method", "POST").send()
    };
    let allowed = "access-control-allow-origin";
    let own = "https://app.example.com";

    let shown = Shown::of(&service, None, &[]).await;
    let told = ask(&shown, Method::OPTIONS, "/v1/runs", own).await.expect("an answer");
    assert_eq!(told.headers().get(allowed), None);
    let told = ask(&shown, Method::GET, "/v1/runs", own).await.expect("an answer");
    assert_eq!((told.status(), told.headers().get(allowed)), (StatusCode::FORBIDDEN, None));
    shown.close().await;

    let shown = Shown::of(&service, None, &[own]).await;
    for (method, path) in [(Method::OPTIONS, "/v1/runs"), (Method::GET, "/v1/runs")] {
        let told = ask(&shown, method.clone(), path, own).await.expect("an answer");
        assert!(told.status().is_success(), "{method} {}", told.status());
        assert_eq!(told.headers().get(allowed).map(|origin| origin.as_bytes()), Some(own.as_bytes()));
    }
    let told = ask(&shown, Method::GET, "/v1/runs", "https://evil.example").await.expect("an answer");
    assert_eq!((told.status(), told.headers().get(allowed)), (StatusCode::FORBIDDEN, None));
    // The pages are for their own browser alone.
    let told = ask(&shown, Method::GET, "/", own).await.expect("an answer");
    assert_eq!((told.status(), told.headers().get(allowed)), (StatusCode::FORBIDDEN, None));
    shown.close().await;
}
