//! Which errors of this wire prove that nothing was billed: LEDGER rule 4.
//!
//! Sources are PROVIDERS.md's: §7 (servers), §10 (classes), as of 2026-11-23.

use crate::domain::retry::ErrorClass as Class;
use crate::provider::evidence::{Billing, Facts, Host};

/// LEDGER rule 4 for this wire, row by row. What no row names is unknown.
pub(super) fn evidence(facts: &Facts) -> Billing {
    let own_error = facts.provider_body && facts.host == Host::Other;
    match facts.status {
        // Never dispatched: no connection, no TLS, no key, refused by our own checks, or ended before the body was
        // asked for. Nobody can bill what they never read.
        _ if !facts.sent => Billing::Unbilled,
        // "401, 403, 429": refused at the door; Azure says itself that 401 and 429 aren't charged (§4).
        Some(401 | 403 | 429) => Billing::Unbilled,
        // "400, 402, 404, 409, 413 with the provider's error body, except on Azure": refused before the model ran.
        // Azure charges a 400 of its content filter or input limit (§4). Without the provider's body it may come from
        // a gateway that gave up on an upstream which did the work.
        Some(400 | 402 | 404 | 409 | 413) if own_error => Billing::Unbilled,
        // "overload (529, or 503 of an overload type) with its body before any output" (§10).
        Some(503 | 529) if facts.class == Class::Overloaded && facts.provider_body && !facts.output_seen => {
            Billing::Unbilled
        }
        // "All else": time-out after dispatch, cut stream, an error inside a 200, 408, 422 (the model may have run:
        // Groq, Mistral), 498, 499, other 5xx, redirects, Azure's other 4xx, a 4xx without a provider's body.
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
        for status in [400, 402, 404, 409, 413] {
            assert_eq!(evidence(&Facts { host: Host::Azure, ..facts(Some(status)) }), Billing::Unknown, "{status}");
        }
        for status in [401, 429] {
            assert_eq!(evidence(&Facts { host: Host::Azure, ..facts(Some(status)) }), Billing::Unbilled, "{status}");
        }
    }

    #[test]
    fn an_overload_after_output_is_unknown() {
        let facts = Facts { class: Class::Overloaded, output_seen: true, ..facts(Some(529)) };
        assert_eq!(evidence(&facts), Billing::Unknown);
    }
}
