//! Google's tokens over a real socket: what asks for them, how long they are kept, and what is said where there are none.

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json as value};

use super::server::Heard;
use super::*;
use crate::units::Timestamp;

const TOKEN: &str = "ya29.test-token-1";
const NOW: Timestamp = Timestamp(1_795_392_000_000);

/// A service account, its file and its public key.
struct Account {
    folder: tempfile::TempDir,
    public: Vec<u8>,
}

impl Account {
    /// One that asks `token_uri`, with its fields as `change` leaves them.
    fn new(token_uri: &str, change: impl FnOnce(&mut Value)) -> Self {
        let pair = KeyPair::generate(KeySize::Rsa2048).expect("a key");
        let der = pair.as_der().expect("PKCS #8");
        let lines: Vec<String> =
            STANDARD.encode(der.as_ref()).as_bytes().chunks(64).map(|l| String::from_utf8_lossy(l).into()).collect();
        let pem = format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", lines.join("\n"));
        let mut file = value!({"type": "service_account", "project_id": "acme", "private_key_id": "k1",
            "client_email": "plimsoll@acme.example", "private_key": pem, "token_uri": token_uri});
        change(&mut file);
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("key.json"), file.to_string()).expect("a file");
        Self { folder, public: pair.public_key().as_ref().to_vec() }
    }

    fn key(&self) -> KeySource {
        KeySource::ServiceAccount(self.folder.path().join("key.json"))
    }
}

fn token_uri(server: &Server) -> String {
    format!("http://{}/token", server.address)
}

fn given(token: &str) -> Act {
    json("200 OK", &format!(r#"{{"access_token":"{token}","expires_in":3599,"token_type":"Bearer"}}"#))
}

fn keyed(api: &Server, key: KeySource, clock: &Clock) -> Client {
    Client::new(&ProviderConfig { key, ..config(api) }, Http::new(clock.clone())).expect("a client")
}

async fn ask(client: &Client) -> AnswerResult {
    client.call(Permit::for_test(LONG, LONG), &request(), None, never()).await.result
}

/// Plays the same answer to each request, on one connection.
fn again_and_again(act: &Act) -> Vec<Act> {
    [act.clone(), Act::NextRequest].into_iter().cycle().take(39).collect()
}

fn part(text: &str) -> Value {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).expect("base64")).expect("JSON")
}

/// Checks the form that was posted: its claims, and its signature by the public key alone.
fn check_assertion(heard: &Heard, account: &Account, token_uri: &str) {
    assert!(heard.head.starts_with("POST /token HTTP/1.1"), "{}", heard.head);
    assert_eq!(heard.header("content-type"), Some("application/x-www-form-urlencoded"));
    let grant = "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion=";
    let assertion = heard.body.strip_prefix(grant).expect("the grant");
    let (signed, signature) = assertion.rsplit_once('.').expect("three parts");
    let (header, claims) = signed.split_once('.').expect("three parts");
    assert_eq!(part(header), value!({"alg": "RS256", "typ": "JWT", "kid": "k1"}));
    let issued = NOW.0 / 1_000;
    assert_eq!(
        part(claims),
        value!({"iss": "plimsoll@acme.example", "aud": token_uri, "iat": issued, "exp": issued + 3_600,
            "scope": "https://www.googleapis.com/auth/cloud-platform"})
    );
    let signature = URL_SAFE_NO_PAD.decode(signature).expect("base64");
    let public = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, &account.public);
    assert!(public.verify(signed.as_bytes(), &signature).is_ok());
    assert!(public.verify(claims.as_bytes(), &signature).is_err());
}

#[tokio::test]
async fn a_service_account_signs_for_a_token_that_is_kept() {
    let mut tokens = Server::playing(again_and_again(&given(TOKEN))).await;
    let mut api = Server::playing(again_and_again(&json("200 OK", SAID))).await;
    let account = Account::new(&token_uri(&tokens), |_| {});
    let client = keyed(&api, account.key(), &Clock::virtual_at(NOW));
    let (one, two) = tokio::join!(ask(&client), ask(&client));
    for reply in [one, two, ask(&client).await] {
        replied(reply);
        assert_eq!(api.heard().await.header("authorization"), Some(format!("Bearer {TOKEN}").as_str()));
    }
    check_assertion(&tokens.heard().await, &account, &token_uri(&tokens));
    assert_eq!(tokens.more(), 0, "asked for once");
}

#[tokio::test]
async fn a_token_is_renewed_early_and_the_old_one_serves_while_it_is_good() {
    let mut tokens = Server::playing(vec![given(TOKEN), Act::NextRequest, json("503 Busy", "")]).await;
    let api = Server::playing(again_and_again(&json("200 OK", SAID))).await;
    let account = Account::new(&token_uri(&tokens), |_| {});
    let clock = Clock::virtual_at(NOW);
    let client = keyed(&api, account.key(), &clock);
    for (seconds, asked) in [(0, 1), (3_373, 0), (1, 1), (200, 1)] {
        clock.advance(Millis::from_secs(seconds));
        replied(ask(&client).await);
        assert_eq!(tokens.more(), asked, "{seconds} s later");
    }
}

#[tokio::test]
async fn a_kept_token_that_is_refused_is_renewed_once() {
    let mut tokens = Server::playing(again_and_again(&given(TOKEN))).await;
    let refused = json("401 Unauthorized", r#"{"error":{"code":401,"message":"no","status":"UNAUTHENTICATED"}}"#);
    let script = [json("200 OK", SAID), Act::NextRequest, refused.clone(), Act::NextRequest, refused];
    let api = Server::playing(script.to_vec()).await;
    let account = Account::new(&token_uri(&tokens), |_| {});
    let client = keyed(&api, account.key(), &Clock::virtual_at(NOW));
    replied(ask(&client).await);
    assert_eq!(unbilled(ask(&client).await).class, ErrorClass::StaleKey, "kept from before");
    assert_eq!(unbilled(ask(&client).await).class, ErrorClass::BadKey, "new, and refused too");
    assert_eq!(tokens.more(), 2);
}

#[tokio::test]
async fn without_a_token_nothing_is_sent_and_it_is_said_whether_that_passes() {
    let denied = r#"{"error":"invalid_grant","error_description":"Invalid JWT Signature."}"#;
    let rows = [
        (json("400 Bad", denied), ErrorClass::BadKey, "answered 400: invalid_grant: Invalid JWT Signature."),
        (json("403 No", "{}"), ErrorClass::BadKey, "answered 403: without a word"),
        (json("200 OK", r#"{"token":"x"}"#), ErrorClass::BadKey, "without an `access_token`"),
        (json("200 OK", "<html>"), ErrorClass::BadKey, "without an `access_token`"),
        (json("200 OK", &"x".repeat(70_000)), ErrorClass::BadKey, "more than 65536 bytes"),
        (json("302 Found", ""), ErrorClass::BadKey, "answered 302"),
        (json("429 Slow", ""), ErrorClass::NotSent, "answered 429"),
        (json("500 Oh", ""), ErrorClass::NotSent, "answered 500"),
        (Act::Write(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{".to_vec()), ErrorClass::NotSent, "can't be asked"),
    ];
    let mut api = Server::playing(vec![]).await;
    for (act, class, words) in rows {
        let tokens = Server::playing(vec![act]).await;
        let account = Account::new(&token_uri(&tokens), |_| {});
        let failure = unbilled(ask(&keyed(&api, account.key(), &Clock::virtual_at(NOW))).await);
        assert_eq!(failure.class, class, "{}", failure.message);
        assert!(failure.message.contains(words), "{}", failure.message);
        assert!(failure.message.contains("service account"), "{}", failure.message);
    }
    assert_eq!(api.connections() + api.more(), 0);
}

#[tokio::test]
async fn what_a_token_endpoint_repeats_is_hidden() {
    let tokens = Server::playing(vec![Act::Wait(std::time::Duration::ZERO)]).await;
    let account = Account::new(&token_uri(&tokens), |_| {});
    drop(tokens);
    let api = Server::playing(vec![]).await;
    let client = keyed(&api, account.key(), &Clock::virtual_at(NOW));
    let failure = unbilled(ask(&client).await);
    assert_eq!(failure.class, ErrorClass::NotSent);
    assert!(!format!("{client:?}{failure:?}").contains("BEGIN"), "{failure:?}");
}

#[tokio::test]
async fn a_file_that_is_no_service_account_is_told_without_its_text() {
    let api = Server::playing(vec![]).await;
    let text = |key: &str, text: &str| {
        let (key, text) = (key.to_owned(), text.to_owned());
        move |file: &mut Value| file[key] = text.into()
    };
    let rows: Vec<(Account, &str)> = vec![
        (Account::new("https://a.example", text("type", "authorized_user")), "of the type `authorized_user`"),
        (Account::new("https://a.example", text("private_key", "secret-text")), "no RSA key"),
        (
            Account::new(
                "https://a.example",
                text("private_key", "-----BEGIN PRIVATE KEY-----c2VjcmV0-----END PRIVATE KEY-----"),
            ),
            "no RSA key",
        ),
        (Account::new("http://a.example/token", |_| {}), "isn't `https://`"),
        (Account::new("secret-text", |_| {}), "no address"),
        (Account::new("https://a.example", |file| *file = value!(["secret-text"])), "no service account's JSON"),
    ];
    for (account, words) in rows {
        let config = ProviderConfig { key: account.key(), ..config(&api) };
        let told = crate::provider::check_key(&config).expect_err("no key").to_string();
        assert!(told.contains(words) && !told.contains("secret-text"), "{told}");
        assert_eq!(unbilled(ask(&keyed(&api, account.key(), &Clock::virtual_at(NOW))).await).class, ErrorClass::BadKey);
    }
}

#[tokio::test]
async fn a_machine_asks_its_metadata_server() {
    let body = format!(r#"{{"access_token":"{TOKEN}","expires_in":3599,"token_type":"Bearer"}}"#);
    let flavoured = answer("200 OK", &["content-type: application/json", "metadata-flavor: Google"], &body);
    for (act, is_google) in [(flavoured, true), (json("200 OK", &body), false)] {
        let mut metadata = Server::playing(vec![act]).await;
        let mut api = Server::playing(vec![json("200 OK", SAID)]).await;
        let key = KeySource::MetadataServer(format!("http://{}", metadata.address));
        let result = ask(&keyed(&api, key, &Clock::virtual_at(NOW))).await;
        let heard = metadata.heard().await;
        let path = "GET /computeMetadata/v1/instance/service-accounts/default/token HTTP/1.1";
        assert!(heard.head.starts_with(path), "{}", heard.head);
        assert_eq!(heard.header("metadata-flavor"), Some("Google"));
        if is_google {
            replied(result);
            assert_eq!(api.heard().await.header("authorization"), Some(format!("Bearer {TOKEN}").as_str()));
        } else {
            let failure = unbilled(result);
            assert_eq!(failure.class, ErrorClass::BadKey);
            assert!(failure.message.contains("doesn't say that it is Google's"), "{}", failure.message);
        }
    }
}
