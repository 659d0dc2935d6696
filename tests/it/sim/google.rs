//! The simulated token endpoint and metadata server: what they give a token for, and what not.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use plimsoll::clock::Clock;
use plimsoll::sim::SimHandle;
use serde_json::{Value, json};

use super::{client, start};

/// A form with an assertion, its claims and signature as the test changes them.
fn form(sim: &SimHandle, change: impl FnOnce(&mut Value), spoil: bool) -> String {
    let file: Value = serde_json::from_str(&sim.service_account()).expect("JSON");
    let issued = Clock::system().now().0 / 1_000;
    let mut claims = json!({"iss": file["client_email"], "aud": file["token_uri"], "iat": issued, "exp": issued + 3_600,
        "scope": "https://www.googleapis.com/auth/cloud-platform"});
    change(&mut claims);
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", part(&json!({"alg": "RS256", "typ": "JWT"})), part(&claims));
    let pem = file["private_key"].as_str().expect("a key");
    let letters: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let key = RsaKeyPair::from_pkcs8(&STANDARD.decode(letters).expect("base64")).expect("a key");
    let mut signature = vec![0; key.public_modulus_len()];
    key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature).expect("a signature");
    signature[0] ^= u8::from(spoil);
    let grant = "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer";
    format!("{grant}&assertion={signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

async fn exchange(sim: &SimHandle, form: String) -> (u16, Value) {
    let response = client().post(format!("http://{}/token", sim.address())).body(form).send().await.expect("an answer");
    (response.status().as_u16(), response.json().await.expect("JSON"))
}

#[tokio::test]
async fn only_a_good_assertion_is_exchanged() {
    let sim = start("key = \"the-key\"\n");
    let (status, given) = exchange(&sim, form(&sim, |_| {}, false)).await;
    assert_eq!((status, &given["access_token"], &given["expires_in"]), (200, &json!("the-key"), &json!(3_599)));
    let spoiled = form(&sim, |_| {}, true);
    let mut bad = vec![spoiled, "grant_type=other".to_owned(), String::new()];
    for (claim, value) in [
        ("iss", json!("other@example.com")),
        ("aud", json!("https://oauth2.googleapis.com/token")),
        ("scope", json!("other")),
        ("exp", json!(1)),
        ("exp", json!(u64::MAX)),
        ("iat", json!("now")),
    ] {
        bad.push(form(&sim, |claims| claims[claim] = value, false));
    }
    for form in bad {
        let (status, told) = exchange(&sim, form).await;
        assert_eq!((status, &told["error"]), (400, &json!("invalid_grant")), "{told}");
    }
    assert_eq!(sim.invoice().count, 0, "tokens are on no bill");
    sim.stop().await;
}

#[tokio::test]
async fn a_machine_must_say_that_it_means_the_metadata_server() {
    let sim = start("");
    let url = format!("http://{}/computeMetadata/v1/instance/service-accounts/default/token", sim.address());
    let bare = client().get(&url).send().await.expect("an answer");
    assert_eq!(bare.status(), 403);
    let given = client().get(&url).header("Metadata-Flavor", "Google").send().await.expect("an answer");
    assert_eq!(
        (given.status().as_u16(), &given.headers()["metadata-flavor"]),
        (200, &"Google".parse().expect("a value"))
    );
    assert_eq!(given.json::<Value>().await.expect("JSON")["token_type"], "Bearer");
    sim.stop().await;
}
