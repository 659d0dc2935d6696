//! Proxies and an own CA by the usual variables, with the real binary. Nothing leaves this machine: the names that are asked
//! for exist only for the proxy.

use std::net::SocketAddr;
use std::process::Child;
use std::sync::{Arc, Mutex, PoisonError};

use plimsoll::sim::{Sim, SimHandle, SimOptions};
use plimsoll::units::Money;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivatePkcs8KeyDer;

use crate::cli::desk::{Desk, Told};

/// A name that no resolver knows.
const NAME: &str = "provider.example";
/// The longest head of a request that is read.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// Listens on a loopback port and passes connections on; dropped, it ends.
struct Relay {
    address: SocketAddr,
    /// The first line of each connection.
    heard: Arc<Mutex<Vec<String>>>,
    _tasks: JoinSet<()>,
}

impl Relay {
    /// An HTTP proxy that takes everything to one server, whoever is asked for.
    async fn proxy(behind: SocketAddr) -> Self {
        Self::start(move |client, heard| pass_on(client, behind, heard)).await
    }

    /// The server's side of TLS before a plain server.
    async fn tls(behind: SocketAddr, config: ServerConfig) -> Self {
        let acceptor = TlsAcceptor::from(Arc::new(config));
        Self::start(move |client, _| {
            let acceptor = acceptor.clone();
            async move {
                let mut client = acceptor.accept(client).await?;
                let mut server = TcpStream::connect(behind).await?;
                copy_bidirectional(&mut client, &mut server).await.map(drop)
            }
        })
        .await
    }

    async fn start<F>(serve: impl Fn(TcpStream, Arc<Mutex<Vec<String>>>) -> F + Send + 'static) -> Self
    where
        F: Future<Output = std::io::Result<()>> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let heard = Arc::new(Mutex::new(Vec::new()));
        let told = heard.clone();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let served = serve(client, told.clone());
                // A client that goes away is none of our business.
                connections.spawn(async move { drop(served.await) });
            }
        });
        Self { address, heard, _tasks: tasks }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn heard(&self) -> Vec<String> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn pass_on(mut client: TcpStream, behind: SocketAddr, heard: Arc<Mutex<Vec<String>>>) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.windows(4).any(|four| four == b"\r\n\r\n") && head.len() < HEAD_BYTES_MAX {
        if client.read_buf(&mut head).await? == 0 {
            return Ok(());
        }
    }
    let first = String::from_utf8_lossy(&head).lines().next().unwrap_or_default().to_owned();
    let tunnel = first.starts_with("CONNECT ");
    heard.lock().unwrap_or_else(PoisonError::into_inner).push(first);
    let mut server = TcpStream::connect(behind).await?;
    if tunnel {
        client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
    } else {
        server.write_all(&head).await?;
    }
    copy_bidirectional(&mut client, &mut server).await.map(drop)
}

fn sim() -> (SimHandle, SocketAddr) {
    let sim = Sim::start(SimOptions::default()).expect("a simulator");
    let address = sim.base_url();
    let address = address.trim_start_matches("http://").trim_end_matches("/v1").parse().expect("an address");
    (sim, address)
}

/// A project whose provider is at this address.
fn desk(base_url: &str) -> Desk {
    let desk = Desk::new();
    desk.append("plimsoll.toml", &format!("[providers.openai]\nwire = \"openai-chat\"\nbase_url = \"{base_url}\"\n"));
    desk
}

/// One run, with these variables.
fn run(desk: &Desk, variables: &[(&str, &str)]) -> Told {
    let mut command = desk.command(&["run", "hello", "--input", "Where is order 4711?", "--json"]);
    let child: Child = command.envs(variables.iter().copied()).spawn().expect("it starts");
    tokio::task::block_in_place(|| Told::of(child))
}

fn settled(told: &Told) -> Money {
    Money::parse(told.json()["cost"]["settled_usd"].as_str().expect("an amount")).expect("an amount")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plain_provider_is_reached_by_the_proxy_of_the_environment() {
    let (sim, behind) = sim();
    let proxy = Relay::proxy(behind).await;
    let desk = desk(&format!("http://{NAME}/v1"));
    let told = run(&desk, &[("HTTP_PROXY", &proxy.url())]);
    told.expect_code(0);
    assert_eq!(settled(&told), sim.invoice().total);
    let heard = proxy.heard();
    let asked = format!("POST http://{NAME}/v1/chat/completions HTTP/1.1");
    assert!(!heard.is_empty() && heard.iter().all(|line| *line == asked), "{heard:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_proxy_names_who_is_reached_directly() {
    let (sim, behind) = sim();
    let proxy = Relay::proxy(behind).await;
    // To us this is an address like any other; the system takes it to this machine.
    let desk = desk(&format!("http://0.0.0.0:{}/v1", behind.port()));
    let by_proxy = run(&desk, &[("HTTP_PROXY", &proxy.url())]);
    by_proxy.expect_code(0);
    let heard = proxy.heard().len();
    assert!(heard > 0);
    let direct = run(&desk, &[("HTTP_PROXY", &proxy.url()), ("NO_PROXY", "10.0.0.0/8,0.0.0.0")]);
    direct.expect_code(0);
    assert_eq!(proxy.heard().len(), heard, "{:?}", proxy.heard());
    assert_eq!(settled(&by_proxy).plus(settled(&direct)), sim.invoice().total);
}

/// A CA of our own, in PEM, and a server's configuration with a certificate of it.
fn own_ca() -> (String, ServerConfig) {
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new(Vec::new()).expect("parameters");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = params.self_signed(&key).expect("a certificate").pem();
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(vec![NAME.to_owned()]).expect("parameters");
    let certificate = params.signed_by(&key, &issuer).expect("a certificate");
    let key = PrivatePkcs8KeyDer::from(key.serialize_der());
    let config = ServerConfig::builder().with_no_client_auth();
    (ca, config.with_single_cert(vec![certificate.der().clone()], key.into()).expect("a configuration"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secure_provider_is_reached_through_a_tunnel_and_trusted_by_an_own_ca_alone() {
    let (sim, behind) = sim();
    let (ca, config) = own_ca();
    let tls = Relay::tls(behind, config).await;
    let proxy = Relay::proxy(tls.address).await;
    let desk = desk(&format!("https://{NAME}/v1"));
    desk.write("ca.pem", &ca);
    let (proxy_url, file) = (proxy.url(), desk.path("ca.pem").display().to_string());

    // The system knows nothing of this CA: nothing is sent, so nothing is billed.
    let strange = run(&desk, &[("HTTPS_PROXY", &proxy_url)]);
    strange.expect_code(1);
    assert!(strange.json()["error"].as_str().is_some_and(|error| error.contains("certificate")), "{strange}");
    assert_eq!((settled(&strange), sim.invoice().count), (Money::ZERO, 0));

    let trusted = run(&desk, &[("HTTPS_PROXY", &proxy_url), ("SSL_CERT_FILE", &file)]);
    trusted.expect_code(0);
    assert_eq!(settled(&trusted), sim.invoice().total);
    let heard = proxy.heard();
    assert!(heard.iter().all(|line| *line == format!("CONNECT {NAME}:443 HTTP/1.1")), "{heard:?}");
}
