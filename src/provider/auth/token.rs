//! Access tokens: how long they are good, and how they are asked for over HTTP.
//!
//! Invariants: one request, within [`TOKEN_TIME_MAX`] and [`TOKEN_BYTES_MAX`]; what was sent is in no message.
//! Deliberately absent: retries. A token that can't be had for now fails the attempt, which `domain::retry` makes again.

use std::time::Duration;

use serde_json::Value;

use super::{Secret, redact};
use crate::provider::http::explain;
use crate::units::{Millis, Timestamp};

/// How long a token may take to be asked for.
pub(crate) const TOKEN_TIME_MAX: Duration = Duration::from_secs(10);
/// The largest answer that is read for one.
const TOKEN_BYTES_MAX: usize = 64 * 1024;
/// The longest that one is kept, whatever the server says.
const LIFETIME_MAX: Millis = Millis::from_secs(86_400);
/// How long before its end a token is renewed: Google's own client takes 3 min 45 s (PROVIDERS §5).
const RENEWED_BEFORE: Millis = Millis::from_secs(225);

/// A key that is kept, and until when.
#[derive(Clone, Debug)]
pub(super) struct Token {
    pub(super) secret: Secret,
    /// `None` for a key that is good until it is refused.
    span: Option<Span>,
}

/// When a token is renewed, and when it is good no more.
#[derive(Clone, Copy, Debug)]
struct Span {
    due: Timestamp,
    ends: Timestamp,
}

impl Token {
    /// A token that is good for so long from `now` on; one without an end is good until it is refused.
    pub(super) fn new(secret: Secret, lifetime: Option<Millis>, now: Timestamp) -> Self {
        let span = lifetime.map(|lifetime| {
            let lifetime = lifetime.min(LIFETIME_MAX);
            let early = RENEWED_BEFORE.min(Millis(lifetime.0 / 2));
            Span { due: now.after(Millis(lifetime.0 - early.0)), ends: now.after(lifetime) }
        });
        Self { secret, span }
    }

    /// True where it should be renewed.
    pub(super) fn is_due(&self, now: Timestamp) -> bool {
        self.span.is_some_and(|span| span.due <= now)
    }

    /// True where it can still be used.
    pub(super) fn is_good(&self, now: Timestamp) -> bool {
        self.span.is_none_or(|span| now < span.ends)
    }
}

/// Why there is no token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NoToken {
    /// What went wrong, after the name of where it comes from: "which …".
    pub(super) reason: String,
    /// True where it may pass: asked again, it may be there.
    pub(super) may_pass: bool,
}

impl NoToken {
    /// What doesn't pass by itself.
    pub(super) fn lasting(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), may_pass: false }
    }

    fn passing(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), may_pass: true }
    }
}

/// What a token endpoint gave.
#[derive(Debug)]
pub(super) struct Given {
    pub(super) secret: Secret,
    pub(super) lifetime: Option<Millis>,
    pub(super) headers: reqwest::header::HeaderMap,
}

/// Asks once. `sent` is hidden from what the server says of it.
pub(super) async fn ask(request: reqwest::RequestBuilder, sent: Option<&Secret>) -> Result<Given, NoToken> {
    let late = |_| NoToken::passing(format!("gave no token within {} s", TOKEN_TIME_MAX.as_secs()));
    tokio::time::timeout(TOKEN_TIME_MAX, exchange(request, sent)).await.map_err(late)?
}

async fn exchange(request: reqwest::RequestBuilder, sent: Option<&Secret>) -> Result<Given, NoToken> {
    let broken = |error| NoToken::passing(format!("can't be asked: {}", explain(error)));
    let mut response = request.send().await.map_err(broken)?;
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let mut body = Vec::new();
    while let Some(piece) = response.chunk().await.map_err(broken)? {
        if body.len() + piece.len() > TOKEN_BYTES_MAX {
            return Err(NoToken::lasting(format!("answered more than {TOKEN_BYTES_MAX} bytes")));
        }
        body.extend_from_slice(&piece);
    }
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    if status != 200 {
        let said = redact(&said(&body), sent);
        return Err(NoToken { reason: format!("answered {status}: {said}"), may_pass: passes(status) });
    }
    let secret = body.get("access_token").and_then(Value::as_str).map(str::trim).filter(|token| !token.is_empty());
    let secret = secret.ok_or_else(|| NoToken::lasting("answered without an `access_token`"))?;
    Ok(Given { secret: Secret::from(secret), lifetime: Some(lifetime(&body)), headers })
}

/// Statuses that Google's own client asks again after (PROVIDERS §5).
const fn passes(status: u16) -> bool {
    matches!(status, 408 | 429 | 500 | 503 | 504)
}

/// `{"error": "invalid_grant", "error_description": "…"}` in words (RFC 6749 §5.2).
fn said(body: &Value) -> String {
    let words = ["error", "error_description"].map(|key| body.get(key).and_then(Value::as_str).unwrap_or_default());
    match words {
        ["", ""] => "without a word".to_owned(),
        [error, ""] => error.to_owned(),
        [error, description] => format!("{error}: {description}"),
    }
}

/// `expires_in`, in seconds. A token without it is used once: nobody knows how long it is good.
fn lifetime(body: &Value) -> Millis {
    let seconds = body.get("expires_in").and_then(|value| value.as_u64().or_else(|| value.as_str()?.parse().ok()));
    Millis(seconds.unwrap_or(0).saturating_mul(1_000))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_token_is_renewed_before_it_ends_and_used_until_then() {
        let now = Timestamp(1_000_000);
        let at = |seconds: u64| now.after(Millis::from_secs(seconds));
        let hour = Token::new(Secret::from("x"), Some(Millis::from_secs(3_600)), now);
        assert!(!hour.is_due(at(3_374)) && hour.is_due(at(3_375)));
        assert!(hour.is_good(at(3_599)) && !hour.is_good(at(3_600)));
        let short = Token::new(Secret::from("x"), Some(Millis::from_secs(60)), now);
        assert!(!short.is_due(at(29)) && short.is_due(at(30)), "half of a short life");
        let ages = Token::new(Secret::from("x"), Some(Millis(u64::MAX)), now);
        assert!(!ages.is_good(at(86_400)), "nothing is kept for longer than a day");
        let key = Token::new(Secret::from("x"), None, now);
        assert!(!key.is_due(at(1_000_000_000)) && key.is_good(at(1_000_000_000)));
        let untold = Token::new(Secret::from("x"), Some(Millis::ZERO), now);
        assert!(untold.is_due(now));
    }

    #[test]
    fn what_an_endpoint_says_is_read_in_its_forms() {
        assert_eq!(lifetime(&json!({"expires_in": 3599})), Millis::from_secs(3_599));
        assert_eq!(lifetime(&json!({"expires_in": "3599"})), Millis::from_secs(3_599));
        for odd in [json!({}), json!({"expires_in": -1}), json!({"expires_in": "soon"}), json!(null)] {
            assert_eq!(lifetime(&odd), Millis::ZERO, "{odd}");
        }
        assert_eq!(said(&json!({"error": "invalid_grant", "error_description": "Bad."})), "invalid_grant: Bad.");
        assert_eq!(said(&json!({"error": "invalid_grant"})), "invalid_grant");
        assert_eq!(said(&json!({"error": {"code": 7}})), "without a word");
        for status in 100..=599 {
            assert_eq!(passes(status), [408, 429, 500, 503, 504].contains(&status), "{status}");
        }
    }
}
