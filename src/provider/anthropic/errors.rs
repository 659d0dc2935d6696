//! Errors of this wire: what they say, their classes, and which of them prove that nothing was billed (LEDGER rule 4).
//!
//! Sources are PROVIDERS.md's: §3, §4 (Foundry), §10 (classes), and the error types of the vendor's SDK 2.12.0.

use serde_json::Value;

use crate::domain::retry::ErrorClass as Class;
use crate::provider::evidence::{Billing, Facts, Host};
use crate::provider::told::{Told, classify};

/// The status of each type of error, for those that come inside an answer with a good status.
const STATUSES: [(&str, u16); 11] = [
    ("invalid_request_error", 400),
    ("authentication_error", 401),
    ("billing_error", 402),
    ("permission_error", 403),
    ("not_found_error", 404),
    ("conflict_error", 409),
    ("request_too_large", 413),
    ("rate_limit_error", 429),
    ("api_error", 500),
    ("timeout_error", 504),
    ("overloaded_error", 529),
];
/// What a 400 says where the account's money or its own limit is used up.
const NO_MONEY: [&str; 3] = ["credit balance is too low", "api usage limits", "spend limit"];

/// Reads an error body: `{"type":"error","error":{type,message,details{error_code}?}}`, or what a gateway puts in its place.
pub(super) fn told(body: &[u8]) -> Told {
    let told = Told::read(body);
    let document = serde_json::from_slice::<Value>(body).unwrap_or_default();
    let code = document.pointer("/error/details/error_code").and_then(Value::as_str);
    Told { code: code.map(str::to_owned).or(told.code), ..told }
}

/// The class of an error: by what is said of money, then as on every wire.
pub(super) fn class(status: u16, told: &Told) -> Class {
    let kind = told.kind.as_deref().unwrap_or_default();
    let of_kind = STATUSES.iter().find(|(name, _)| *name == kind).map(|(_, status)| *status);
    // An error inside an answer has no status of its own.
    let status = if status == 500 { of_kind.unwrap_or(status) } else { status };
    let message = told.message.to_ascii_lowercase();
    if status == 400 && NO_MONEY.iter().any(|words| message.contains(words)) {
        return Class::Billing;
    }
    classify(status, told)
}

/// LEDGER rule 4 for this wire, row by row. What no row names is unknown.
pub(super) fn evidence(facts: &Facts) -> Billing {
    match facts.status {
        // Never dispatched: nobody can bill what they never read.
        _ if !facts.sent => Billing::Unbilled,
        // Refused at the door: `authentication_error`, `permission_error`, `rate_limit_error` (§10). Azure says itself that
        // 401 and 429 aren't charged (§4).
        Some(401 | 403 | 429) => Billing::Unbilled,
        // `invalid_request_error`, `billing_error`, `not_found_error`, a conflict, `request_too_large`: refused before the
        // model ran (§10), by the provider's own word. Foundry is Azure, which charges some errors (§4). Whether Vertex
        // charges errors isn't published; the rule stands, since the body is the model's own host's.
        Some(400 | 402 | 404 | 409 | 413) if facts.provider_body && facts.host == Host::Other => Billing::Unbilled,
        // `overloaded_error`, with its body and before any output (§10). Inside a 200 the status is 200: unknown.
        Some(503 | 529) if facts.class == Class::Overloaded && facts.provider_body && !facts.output_seen => {
            Billing::Unbilled
        }
        // All else: time-out after dispatch, cut stream, an error inside a 200, `api_error`, `timeout_error`, 408, 422, 499,
        // other 5xx, redirects, a 413 of the edge without a body, Foundry's other 4xx.
        Some(_) | None => Billing::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(kind: &str, message: &str, code: &str) -> Told {
        let details = if code.is_empty() { Value::Null } else { serde_json::json!({"error_code": code}) };
        let body = serde_json::json!({"type": "error", "request_id": "req_1",
            "error": {"type": kind, "message": message, "details": details}});
        told(body.to_string().as_bytes())
    }

    #[test]
    fn every_class_is_told_by_status_type_and_code() {
        for (status, kind, message, code, expected) in [
            (401, "authentication_error", "invalid x-api-key", "", Class::BadKey),
            (403, "permission_error", "no", "", Class::Forbidden),
            (404, "not_found_error", "model: claude-x", "", Class::NotFound),
            (400, "invalid_request_error", "messages: at least one", "", Class::BadRequest),
            (
                400,
                "invalid_request_error",
                "prompt is too long: 210000 tokens > 200000 maximum",
                "",
                Class::ContextTooLong,
            ),
            (400, "invalid_request_error", "Your credit balance is too low to access the API", "", Class::Billing),
            (400, "invalid_request_error", "You have reached your specified API usage limits", "", Class::Billing),
            (402, "billing_error", "no", "linked_organization_spend_limit_reached", Class::Billing),
            (413, "request_too_large", "no", "", Class::TooLarge),
            (429, "rate_limit_error", "slow down", "", Class::RateLimited),
            (429, "rate_limit_error", "slow down", "ramp_limit_exceeded", Class::RateLimited),
            (429, "rate_limit_error", "no", "enforced_spend_limit_reached", Class::QuotaExhausted),
            (429, "rate_limit_error", "no", "contract_spend_limit_reached", Class::QuotaExhausted),
            (500, "api_error", "no", "", Class::Server),
            (504, "timeout_error", "no", "", Class::Server),
            (529, "overloaded_error", "no", "", Class::Overloaded),
            // Inside a 200, where the status is ours.
            (500, "overloaded_error", "no", "", Class::Overloaded),
            (500, "rate_limit_error", "no", "", Class::RateLimited),
            (500, "a_new_error", "no", "", Class::Server),
        ] {
            assert_eq!(class(status, &error(kind, message, code)), expected, "{status} {kind} {message} {code}");
        }
    }

    #[test]
    fn only_what_the_rule_names_is_void() {
        let facts = |status: Option<u16>| {
            let class = status.map_or(Class::TimedOut, |status| class(status, &Told::default()));
            Facts { sent: true, status, provider_body: true, class, output_seen: false, host: Host::Other }
        };
        let void = [400, 401, 402, 403, 404, 409, 413, 429, 529];
        for status in 100..=600 {
            let expected = if void.contains(&status) { Billing::Unbilled } else { Billing::Unknown };
            assert_eq!(evidence(&facts(Some(status))), expected, "{status}");
            let door = [401, 403, 429].contains(&status);
            let expected = if door { Billing::Unbilled } else { Billing::Unknown };
            let bare = Facts { provider_body: false, ..facts(Some(status)) };
            assert_eq!(evidence(&bare), expected, "{status} without a body");
            let azure = Facts { host: Host::Azure, ..facts(Some(status)) };
            let expected = if door || status == 529 { Billing::Unbilled } else { Billing::Unknown };
            assert_eq!(evidence(&azure), expected, "{status} on Foundry");
        }
        assert_eq!(evidence(&facts(None)), Billing::Unknown);
        assert_eq!(evidence(&Facts { sent: false, ..facts(None) }), Billing::Unbilled);
        assert_eq!(evidence(&Facts { output_seen: true, ..facts(Some(529)) }), Billing::Unknown);
    }
}
