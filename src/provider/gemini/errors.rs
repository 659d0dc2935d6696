//! Google's errors: what they say, their classes, and which of them prove that nothing was billed (LEDGER rule 4).
//!
//! Sources are PROVIDERS.md's §5 and §10, as of 2026-11-23.

use serde_json::Value;

use crate::domain::retry::ErrorClass as Class;
use crate::provider::evidence::{Billing, Facts};
use crate::provider::told::{Told, classify};

/// LEDGER rule 4 for this wire, row by row. What no row names is unknown.
pub(super) fn evidence(facts: &Facts, vertex: bool) -> Billing {
    match facts.status {
        // Never dispatched: nobody can bill what they never read.
        _ if !facts.sent => Billing::Unbilled,
        // "401, 403, 429": refused at the door.
        Some(401 | 403 | 429) => Billing::Unbilled,
        // "402, 404 with the provider's error body": there is no account, or no model, that could have done anything.
        Some(402 | 404) if facts.provider_body => Billing::Unbilled,
        // "400, 409, 413 with the provider's error body". The Gemini API says that requests which fail with 400 or 500
        // aren't charged (§5). Of Vertex no such word was found (§5, §16), and what it filters or finds too long it has
        // read: unknown there.
        Some(400 | 409 | 413) if facts.provider_body && !vertex => Billing::Unbilled,
        // "503 of an overload type with its body before any output" (§10).
        Some(503) if facts.class == Class::Overloaded && facts.provider_body && !facts.output_seen => Billing::Unbilled,
        // "All else": a time-out, a cut stream, an error inside a 200, 408, 499, other 5xx. That a 500 of the Gemini API
        // isn't charged is its word for requests, not for streams that began: unknown, which holds back more.
        Some(_) | None => Billing::Unknown,
    }
}

/// Reads an error body. Its `code` only repeats the status; what tells more is `status`, and a reason or quota among the details.
pub(super) fn told(body: &[u8]) -> Told {
    let document = serde_json::from_slice(body).unwrap_or(Value::Null);
    with_words(Told::read(body), &document)
}

/// The error that a document of a stream is.
pub(super) fn told_of(document: &Value) -> Told {
    with_words(Told::of(document).unwrap_or_default(), document)
}

fn with_words(told: Told, document: &Value) -> Told {
    let document = document.as_array().and_then(|array| array.first()).unwrap_or(document);
    let Some(error) = document.get("error") else { return told };
    let word = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
    let details = error.get("details").and_then(Value::as_array);
    let detail = |find: fn(&Value) -> Option<&Value>| word(details.into_iter().flatten().find_map(find));
    let kind =
        detail(|detail| detail.get("violations")?.get(0)?.get("quotaId")).or_else(|| detail(|d| d.get("reason")));
    Told { code: word(error.get("status")).or(told.code), kind: kind.or(told.kind), ..told }
}

/// The class of an error by its status, refined by what Google says beside it.
pub(super) fn class(status: u16, told: &Told) -> Class {
    let (code, kind) = (told.code.as_deref().unwrap_or_default(), told.kind.as_deref().unwrap_or_default());
    match status {
        // A quota of the day: waiting for seconds doesn't help (§10). `GenerateRequestsPerDayPerProjectPerModel`.
        429 if kind.contains("PerDay") => Class::QuotaExhausted,
        // The Gemini API's word for a bad key.
        400 if kind == "API_KEY_INVALID" || kind == "API_KEY_EXPIRED" => Class::BadKey,
        // A region or an account that the model isn't for.
        400 if code == "FAILED_PRECONDITION" => Class::Forbidden,
        403 if kind == "BILLING_DISABLED" => Class::Billing,
        _ => classify(status, told),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::evidence::Host;
    use crate::units::Millis;

    fn error(code: u16, status: &str, message: &str, details: &str) -> String {
        format!(r#"{{"error":{{"code":{code},"message":"{message}","status":"{status}","details":[{details}]}}}}"#)
    }

    #[test]
    fn every_class_is_told_by_status_and_body() {
        let quota = r#"{"@type":"type.googleapis.com/google.rpc.QuotaFailure","violations":[{"quotaId":"GenerateRequestsPerDayPerProjectPerModel-FreeTier"}]},{"retryDelay":"31s"}"#;
        let minute =
            r#"{"violations":[{"quotaId":"GenerateContentInputTokensPerModelPerMinute"}]},{"retryDelay":"7s"}"#;
        let reason = |reason: &str| format!(r#"{{"reason":"{reason}","domain":"googleapis.com"}}"#);
        let rows = [
            (400, error(400, "INVALID_ARGUMENT", "bad", ""), Class::BadRequest),
            (
                400,
                error(
                    400,
                    "INVALID_ARGUMENT",
                    "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).",
                    "",
                ),
                Class::ContextTooLong,
            ),
            (400, error(400, "INVALID_ARGUMENT", "API key not valid.", &reason("API_KEY_INVALID")), Class::BadKey),
            (400, error(400, "FAILED_PRECONDITION", "User location is not supported", ""), Class::Forbidden),
            (401, error(401, "UNAUTHENTICATED", "no", &reason("ACCESS_TOKEN_EXPIRED")), Class::BadKey),
            (402, error(402, "X", "no", ""), Class::Billing),
            (403, error(403, "PERMISSION_DENIED", "no", &reason("BILLING_DISABLED")), Class::Billing),
            (403, error(403, "PERMISSION_DENIED", "no", &reason("CONSUMER_INVALID")), Class::Forbidden),
            (404, error(404, "NOT_FOUND", "no model", ""), Class::NotFound),
            (409, error(409, "ABORTED", "again", ""), Class::Conflict),
            (413, error(413, "X", "large", ""), Class::TooLarge),
            (429, error(429, "RESOURCE_EXHAUSTED", "quota", quota), Class::QuotaExhausted),
            (429, error(429, "RESOURCE_EXHAUSTED", "quota", minute), Class::RateLimited),
            (429, error(429, "RESOURCE_EXHAUSTED", "slow", ""), Class::RateLimited),
            (499, error(499, "CANCELLED", "gone", ""), Class::ClientClosed),
            (500, error(500, "INTERNAL", "oh", ""), Class::Server),
            (503, error(503, "UNAVAILABLE", "The model is overloaded. Please try again later.", ""), Class::Overloaded),
            (503, error(503, "UNAVAILABLE", "down", ""), Class::Server),
            (504, error(504, "DEADLINE_EXCEEDED", "late", ""), Class::Server),
            (502, "<html>".to_owned(), Class::Server),
        ];
        for (status, body, expected) in rows {
            for body in [body.clone(), format!("[{body}]")] {
                assert_eq!(class(status, &told(body.as_bytes())), expected, "{status} {body}");
            }
        }
        let asked = told(error(429, "RESOURCE_EXHAUSTED", "quota", minute).as_bytes());
        assert_eq!((asked.name(), asked.retry_after), (Some("RESOURCE_EXHAUSTED"), Some(Millis(7_000))));
    }

    fn facts(status: Option<u16>) -> Facts {
        let class = status.map_or(Class::TimedOut, |status| class(status, &Told::default()));
        Facts { sent: true, status, provider_body: true, class, output_seen: false, host: Host::Other }
    }

    #[test]
    fn only_what_the_table_names_is_void() {
        for (vertex, void) in
            [(false, &[400, 401, 402, 403, 404, 409, 413, 429][..]), (true, &[401, 402, 403, 404, 429])]
        {
            for status in 100..=600 {
                let expected = if void.contains(&status) { Billing::Unbilled } else { Billing::Unknown };
                assert_eq!(evidence(&facts(Some(status)), vertex), expected, "{status} vertex {vertex}");
            }
            assert_eq!(evidence(&facts(None), vertex), Billing::Unknown);
            assert_eq!(evidence(&Facts { sent: false, ..facts(None) }, vertex), Billing::Unbilled);
            let overload = Facts { class: Class::Overloaded, ..facts(Some(503)) };
            assert_eq!(evidence(&overload, vertex), Billing::Unbilled);
            assert_eq!(evidence(&Facts { output_seen: true, ..overload }, vertex), Billing::Unknown);
            for status in [400, 402, 404, 409, 413] {
                let bare = Facts { provider_body: false, ..facts(Some(status)) };
                assert_eq!(evidence(&bare, vertex), Billing::Unknown, "{status}");
            }
        }
    }
}
