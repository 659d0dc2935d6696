//! Which errors of OpenAI's wires prove that nothing was billed: LEDGER rule 4. Chat completions and Responses are answered
//! by the same hosts, so that one table holds for both; Azure has rows of its own.
//!
//! Sources are PROVIDERS.md's: §4 (Azure), §7 (servers), §10 (classes), as of 2026-11-23.

use crate::domain::retry::ErrorClass as Class;
use crate::provider::evidence::{Billing, Facts, Host};

/// LEDGER rule 4, row by row. What no row names is unknown.
pub(in crate::provider) fn evidence(facts: &Facts) -> Billing {
    match facts.status {
        // Never dispatched: no connection, no TLS, no key, refused by our own checks, or ended before the body was
        // asked for. Nobody can bill what they never read.
        _ if !facts.sent => Billing::Unbilled,
        // Azure says itself that 401 and 429 aren't charged, and that processing is without a 200: a 400 of its content
        // filter or input limit, a 408 (§4). Nothing it says frees a 403, nor an overload.
        Some(401 | 429) => Billing::Unbilled,
        _ if facts.host == Host::Azure => Billing::Unknown,
        // "401, 403, 429": refused at the door.
        Some(403) => Billing::Unbilled,
        // "400, 402, 404, 409, 413 with the provider's error body": refused before the model ran. Without the provider's
        // body it may come from a gateway that gave up on an upstream which did the work.
        Some(400 | 402 | 404 | 409 | 413) if facts.provider_body => Billing::Unbilled,
        // "overload (529, or 503 of an overload type) with its body before any output" (§10).
        Some(503 | 529) if facts.class == Class::Overloaded && facts.provider_body && !facts.output_seen => {
            Billing::Unbilled
        }
        // "All else": time-out after dispatch, cut stream, an error inside a 200, 408, 422 (the model may have run:
        // Groq, Mistral), 498, 499, other 5xx, redirects, a 4xx without a provider's body.
        Some(_) | None => Billing::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::told::{Told, classify};

    fn facts(status: Option<u16>) -> Facts {
        let class = status.map_or(Class::TimedOut, |status| classify(status, &Told::default()));
        Facts { sent: true, status, provider_body: true, class, output_seen: false, host: Host::Other }
    }

    #[test]
    fn only_what_the_rule_names_is_void() {
        let void = [400, 401, 402, 403, 404, 409, 413, 429, 529];
        for status in 100..=600 {
            let expected = if void.contains(&status) { Billing::Unbilled } else { Billing::Unknown };
            assert_eq!(evidence(&facts(Some(status))), expected, "{status}");
        }
        assert_eq!(evidence(&facts(None)), Billing::Unknown);
        assert_eq!(evidence(&Facts { class: Class::Overloaded, ..facts(Some(503)) }), Billing::Unbilled);
    }

    #[test]
    fn a_request_that_never_left_is_void() {
        for status in [None, Some(500)] {
            assert_eq!(evidence(&Facts { sent: false, ..facts(status) }), Billing::Unbilled);
        }
    }

    #[test]
    fn without_the_providers_body_only_the_door_is_proof() {
        for status in [400, 402, 404, 409, 413, 503, 529] {
            let facts = Facts { provider_body: false, ..facts(Some(status)) };
            assert_eq!(evidence(&facts), Billing::Unknown, "{status}");
        }
        for status in [401, 403, 429] {
            let facts = Facts { provider_body: false, ..facts(Some(status)) };
            assert_eq!(evidence(&facts), Billing::Unbilled, "{status}");
        }
    }

    #[test]
    fn azure_bills_errors() {
        for status in 100..=600 {
            let expected = if matches!(status, 401 | 429) { Billing::Unbilled } else { Billing::Unknown };
            let busy = Facts { class: Class::Overloaded, host: Host::Azure, ..facts(Some(status)) };
            assert_eq!(evidence(&busy), expected, "{status}");
        }
        let never_left = Facts { sent: false, host: Host::Azure, ..facts(Some(400)) };
        assert_eq!(evidence(&never_left), Billing::Unbilled);
    }

    #[test]
    fn an_overload_after_output_is_unknown() {
        let facts = Facts { class: Class::Overloaded, output_seen: true, ..facts(Some(529)) };
        assert_eq!(evidence(&facts), Billing::Unknown);
    }
}
