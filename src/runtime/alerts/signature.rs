//! Signatures after Standard Webhooks 1.0 (<https://www.standardwebhooks.com>, read 2026-11-30): HMAC-SHA256 over
//! `id.timestamp.body`, in base64 behind `v1,`.

use aws_lc_rs::hmac::{HMAC_SHA256, Key, sign};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// What stands before a secret in base64.
const ENCODED: &str = "whsec_";

/// The key of a secret: what `whsec_` stands before is base64, anything else the bytes of its text.
///
/// # Errors
/// What should be base64 isn't. The message doesn't show it.
pub(super) fn key(secret: &str) -> Result<Key, String> {
    let bytes = match secret.strip_prefix(ENCODED) {
        Some(encoded) => STANDARD.decode(encoded).map_err(|_| format!("what follows `{ENCODED}` is no base64"))?,
        None => secret.as_bytes().to_vec(),
    };
    Ok(Key::new(HMAC_SHA256, &bytes))
}

/// The value of `webhook-signature`.
pub(super) fn signature(key: &Key, id: &str, seconds: u64, body: &str) -> String {
    let tag = sign(key, format!("{id}.{seconds}.{body}").as_bytes());
    format!("v1,{}", STANDARD.encode(tag.as_ref()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_text_or_base64() {
        let of = |secret: &str| signature(&key(secret).expect("a key"), "alert_1", 1_700_000_000, "{}");
        assert_eq!(of("plimsoll"), of("whsec_cGxpbXNvbGw="), "the same bytes");
        assert_ne!(of("plimsoll"), of("plimsol1"));
        assert!(key("whsec_%%%").is_err());
    }

    #[test]
    fn everything_that_is_sent_is_signed() {
        let key = key("plimsoll").expect("a key");
        let all = [("a", 1, "x"), ("b", 1, "x"), ("a", 2, "x"), ("a", 1, "y")]
            .map(|(id, seconds, body)| signature(&key, id, seconds, body));
        let different: std::collections::BTreeSet<&String> = all.iter().collect();
        assert_eq!(different.len(), all.len());
        // RFC 4231, test case 2, in base64: HMAC-SHA256 itself.
        let known = sign(&super::key("Jefe").expect("a key"), b"what do ya want for nothing?");
        assert_eq!(STANDARD.encode(known.as_ref()), "W9zBRr9gdU5qBCQmCJV1x1oAPwidJzmDnexYuWTsOEM=");
    }
}
