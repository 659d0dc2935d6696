//! Google's side of tokens: an account whose key was made here, the endpoint that exchanges its signatures, and the metadata
//! server of a machine.
//!
//! Invariant: a token is given for an assertion that the account's public key proves, or to who asks as a machine does. It is
//! the scenario's key where there is one. Deliberately absent: anything of `provider`, and other accounts.

use std::net::SocketAddr;
use std::sync::OnceLock;

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use crate::units::Timestamp;

/// Where assertions are exchanged.
pub(crate) const TOKEN_PATH: &str = "/token";
/// Where a machine asks for its token.
pub(crate) const METADATA_PATH: &str = "/computeMetadata/v1/instance/service-accounts/default/token";
/// The token that is given where the scenario has no key of its own.
const TOKEN: &str = "ya29.simulated";
/// How long a token is good, in seconds.
const LIFETIME: u64 = 3_599;
/// How long an assertion may be good, in seconds, and how far its clock may be off.
const ASSERTION_LIFETIME_MAX: u64 = 3_600;
const CLOCK_SKEW_MAX: u64 = 300;
/// The largest form that is read.
pub(crate) const FORM_BYTES_MAX: usize = 64 * 1024;
/// The account's address.
const EMAIL: &str = "plimsoll@simulated.iam.gserviceaccount.com";
/// What a token may be asked for.
const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";

/// The account's key, made when somebody first asks for it: that takes a while, so a process has one.
static ACCOUNT: OnceLock<Account> = OnceLock::new();

#[derive(Debug)]
struct Account {
    pem: String,
    public: Vec<u8>,
}

/// The key file of the account, as Google writes them, for who is asked at `address`.
pub(crate) fn key_file(address: SocketAddr) -> String {
    let file = json!({
        "type": "service_account",
        "project_id": "simulated",
        "private_key_id": "simulated-1",
        "private_key": ACCOUNT.get_or_init(make).pem,
        "client_email": EMAIL,
        "token_uri": token_uri(&address.to_string()),
    });
    file.to_string()
}

/// Exchanges an assertion for a token, or says what is wrong with it; `host` is how the client calls us.
pub(crate) fn exchange(form: &[u8], host: &str, key: Option<&str>, now: Timestamp) -> Response {
    let judged = ACCOUNT.get().ok_or("there is no such account");
    match judged.and_then(|account| judge(&account.public, &token_uri(host), form, now)) {
        Ok(()) => given(key),
        Err(why) => refused(why),
    }
}

fn token_uri(host: &str) -> String {
    format!("http://{host}{TOKEN_PATH}")
}

/// The token of the machine, for who says that it means the metadata server.
pub(crate) fn metadata(headers: &HeaderMap, key: Option<&str>) -> Response {
    if headers.get("metadata-flavor").is_none_or(|flavor| flavor != "Google") {
        return answer(StatusCode::FORBIDDEN, &json!({"error": "missing Metadata-Flavor:Google header"}));
    }
    let mut response = given(key);
    response.headers_mut().insert("metadata-flavor", HeaderValue::from_static("Google"));
    response
}

fn make() -> Account {
    let pair = KeyPair::generate(KeySize::Rsa2048).expect("the system has randomness");
    let der = pair.as_der().expect("a key that was just made can be written");
    let letters = STANDARD.encode(der.as_ref());
    let lines: String =
        letters.as_bytes().chunks(64).flat_map(|line| line.iter().copied().map(char::from).chain(['\n'])).collect();
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{lines}-----END PRIVATE KEY-----\n");
    Account { pem, public: pair.public_key().as_ref().to_vec() }
}

/// RFC 7523: who signed, for whom, what for, and when.
fn judge(public: &[u8], audience: &str, form: &[u8], now: Timestamp) -> Result<(), &'static str> {
    let form = std::str::from_utf8(form).map_err(|_| "the form is no text")?;
    let field = |name: &str| form.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
    if field("grant_type") != Some("urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer") {
        return Err("unsupported grant type");
    }
    let assertion = field("assertion").ok_or("there is no assertion")?;
    let (signed, signature) = assertion.rsplit_once('.').ok_or("the assertion has no signature")?;
    let (head, claims) = signed.split_once('.').ok_or("the assertion has no claims")?;
    let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| "the signature is no base64url")?;
    let public = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, public);
    public.verify(signed.as_bytes(), &signature).map_err(|_| "Invalid JWT Signature.")?;
    let part = |text: &str| -> Option<Value> { serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).ok()?).ok() };
    let (head, claims) = (part(head).ok_or("the head is no JSON")?, part(claims).ok_or("the claims are no JSON")?);
    if head["alg"] != "RS256" || claims["iss"] != EMAIL || claims["scope"] != SCOPE {
        return Err("algorithm, issuer or scope are not those of the account");
    }
    if claims["aud"] != audience {
        return Err("the audience is another");
    }
    let seconds = |name: &str| claims[name].as_u64().ok_or("a time is missing");
    let (issued, expires, now) = (seconds("iat")?, seconds("exp")?, now.0 / 1000);
    let is_now = issued <= now.saturating_add(CLOCK_SKEW_MAX) && now < expires;
    if !is_now || expires.saturating_sub(issued) > ASSERTION_LIFETIME_MAX {
        return Err("Token must be a short-lived token (60 minutes) and in a reasonable timeframe.");
    }
    Ok(())
}

fn given(key: Option<&str>) -> Response {
    let token = key.unwrap_or(TOKEN);
    answer(StatusCode::OK, &json!({"access_token": token, "expires_in": LIFETIME, "token_type": "Bearer"}))
}

fn refused(why: &str) -> Response {
    answer(StatusCode::BAD_REQUEST, &json!({"error": "invalid_grant", "error_description": why}))
}

fn answer(status: StatusCode, body: &Value) -> Response {
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
