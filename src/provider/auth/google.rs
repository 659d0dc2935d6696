//! Google's access tokens: by a service account's key, or from the metadata server of one of its machines.
//!
//! Invariants: an assertion goes out over TLS, or to this machine; the private key goes nowhere and is in no message; the
//! metadata server is asked without a proxy, and must say that it is Google's.
//! Source: PROVIDERS §5 (the flow, the scope, the lifetimes), RFC 7515 and RFC 7523.

use std::path::Path;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use reqwest::Url;
use reqwest::header::CONTENT_TYPE;
use serde::Deserialize;
use serde_json::{Value, json};

use super::token::{Given, NoToken, ask};
use super::{Secret, read_small};
use crate::provider::http::{Http, Route};
use crate::units::Timestamp;

/// What a token may be used for.
const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";
/// How long an assertion is good, in seconds: the longest that Google takes.
const ASSERTION_LIFETIME: u64 = 3_600;
/// Where the metadata server keeps the token of the machine's account.
const METADATA_PATH: &str = "/computeMetadata/v1/instance/service-accounts/default/token";
/// The header by which both sides say that they mean the metadata server.
const FLAVOR: &str = "metadata-flavor";

/// What is needed of a service account's key file.
#[derive(Deserialize)]
struct ServiceAccount {
    r#type: String,
    client_email: String,
    private_key: String,
    #[serde(default)]
    private_key_id: Option<String>,
    token_uri: String,
}

/// A service account whose key can sign.
pub(super) struct Signer {
    email: String,
    key_id: Option<String>,
    token_uri: Url,
    key: RsaKeyPair,
}

impl Signer {
    /// Reads a key file.
    pub(super) fn read(path: &Path) -> Result<Self, NoToken> {
        let text = read_small(path).map_err(NoToken::lasting)?;
        // What is wrong isn't quoted: it may be the key.
        let account: ServiceAccount = serde_json::from_str(&text)
            .map_err(|error| NoToken::lasting(format!("is no service account's JSON (line {})", error.line())))?;
        if account.r#type != "service_account" {
            return Err(NoToken::lasting(format!("is of the type `{}`, not `service_account`", account.r#type)));
        }
        let token_uri = token_uri(&account.token_uri)?;
        let key = private_key(&account.private_key)?;
        Ok(Self { email: account.client_email, key_id: account.private_key_id, token_uri, key })
    }

    /// Signs who we are and what for, and exchanges it for a token.
    pub(super) async fn token(&self, http: &Http) -> Result<Given, NoToken> {
        let assertion = self.assertion(http.clock().now())?;
        let client = http.client(Route::of(&self.token_uri)).map_err(|error| NoToken::lasting(error.to_string()))?;
        let grant = "urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer";
        let request = client
            .post(self.token_uri.clone())
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(format!("grant_type={grant}&assertion={assertion}"));
        ask(request, Some(&Secret::from(assertion.as_str()))).await
    }

    fn assertion(&self, now: Timestamp) -> Result<String, NoToken> {
        let issued = now.0 / 1_000;
        let claims = json!({
            "iss": self.email,
            "aud": self.token_uri.as_str(),
            "scope": SCOPE,
            "iat": issued,
            "exp": issued.saturating_add(ASSERTION_LIFETIME),
        });
        let mut header = json!({"alg": "RS256", "typ": "JWT"});
        if let Some(id) = &self.key_id {
            header["kid"] = Value::from(id.as_str());
        }
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(&header), part(&claims));
        let mut signature = vec![0; self.key.public_modulus_len()];
        self.key
            .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature)
            .map_err(|_| NoToken::lasting("holds a key that can't sign"))?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

/// Asks the metadata server at `base` for the token of the machine's own account.
pub(super) async fn metadata_token(base: &str, http: &Http) -> Result<Given, NoToken> {
    let url = Url::parse(&format!("{}{METADATA_PATH}", base.trim_end_matches('/')));
    let url = url.map_err(|error| NoToken::lasting(format!("is no address: {error}")))?;
    // The route of this machine: no proxy may answer for it.
    let client = http.client(Route::Local).map_err(|error| NoToken::lasting(error.to_string()))?;
    let given = ask(client.get(url).header(FLAVOR, "Google"), None).await?;
    let says = given.headers.get(FLAVOR).is_some_and(|value| value == "Google");
    if says { Ok(given) } else { Err(NoToken::lasting("doesn't say that it is Google's (`Metadata-Flavor`)")) }
}

/// Where an assertion is exchanged. It is as good as a key for an hour, so it goes over TLS, or to this machine.
fn token_uri(text: &str) -> Result<Url, NoToken> {
    let url = Url::parse(text).map_err(|_| NoToken::lasting("has a `token_uri` that is no address"))?;
    match Route::of(&url) {
        Route::Secure | Route::LocalSecure => Ok(url),
        Route::Local if url.scheme() == "http" => Ok(url),
        Route::Local | Route::Plain => Err(NoToken::lasting("has a `token_uri` that isn't `https://`")),
    }
}

/// The key of a PEM text in PKCS #8, as Google writes it.
fn private_key(pem: &str) -> Result<RsaKeyPair, NoToken> {
    let no_key = || NoToken::lasting("holds no RSA key in PKCS #8 (`private_key`)");
    let body = pem.split_once("-----BEGIN PRIVATE KEY-----").and_then(|(_, rest)| rest.split_once("-----END"));
    let (body, _) = body.ok_or_else(no_key)?;
    let letters: String = body.split_ascii_whitespace().collect();
    let der = STANDARD.decode(letters).map_err(|_| no_key())?;
    RsaKeyPair::from_pkcs8(&der).map_err(|_| no_key())
}
