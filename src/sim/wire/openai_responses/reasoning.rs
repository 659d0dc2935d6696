//! Reasoning as a provider seals it: the client can't read it, has to give it back as it came, and pays for what it hides.

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::sim::chat::BadRequest;

/// How every seal begins.
const SEAL: &str = "gAAAAsim";
/// Bytes of a seal for each token that it hides: encrypted text is no shorter than the text.
const BYTES_PER_TOKEN: usize = 4;

/// The item of an answer that reasoned for so many tokens.
pub(super) fn item(id: &str, tokens: u64) -> Value {
    let padding = "A".repeat(usize::try_from(tokens).unwrap_or(0).saturating_mul(BYTES_PER_TOKEN));
    let seal = format!("{SEAL}.{tokens}.{}.{padding}", check(id, tokens));
    json!({"type": "reasoning", "id": id, "summary": [], "encrypted_content": seal})
}

/// The tokens that an item hides which a client gives back.
///
/// # Errors
/// An item that isn't as it was given.
pub(super) fn hidden(given: &Value, at: &str) -> Result<u64, BadRequest> {
    let text = |field: &str| given.get(field).and_then(Value::as_str).unwrap_or_default();
    let seal = text("encrypted_content");
    let tokens = seal.split('.').nth(1).and_then(|tokens| tokens.parse::<u64>().ok());
    // A seal is longer than what it hides, so that a wild number makes no longer one here.
    match tokens.filter(|tokens| usize::try_from(*tokens).is_ok_and(|tokens| tokens <= seal.len())) {
        Some(tokens) if item(text("id"), tokens) == *given => Ok(tokens),
        Some(_) | None => Err(BadRequest {
            message: format!("`{at}` is no reasoning that was given here, or it was changed"),
            param: Some(at.to_owned()),
            code: Some("invalid_encrypted_content"),
        }),
    }
}

fn check(id: &str, tokens: u64) -> String {
    crate::domain::plan::hex(&Sha256::digest(format!("{id}:{tokens}"))[..8])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seal_opens_unchanged_only() {
        let given = item("rs_1", 24);
        assert_eq!(hidden(&given, "input[1]"), Ok(24));
        for (field, value) in [("id", json!("rs_2")), ("encrypted_content", json!("gAAAA")), ("summary", json!(["x"]))]
        {
            let mut changed = given.clone();
            changed[field] = value;
            assert!(hidden(&changed, "input[1]").is_err(), "{field}");
        }
    }
}
