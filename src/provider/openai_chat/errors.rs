//! What an error of this wire means: its class, and whether it can have been billed.
//!
//! Sources are PROVIDERS.md's: §7 (servers), §10 (classes), and LEDGER rule 4 (what voids), as of 2026-11-23.

use serde_json::Value;

use crate::domain::retry::ErrorClass;
use crate::domain::retry::ErrorClass as Class;

/// Whether a failed attempt can have cost money.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Billing {
    /// Proof that nothing was billed: void.
    Unbilled,
    /// Nobody knows: settle at the reservation.
    Unknown,
}

/// Who answered, as far as billing goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Host {
    /// Azure, which bills some errors.
    Azure,
    /// Anyone else.
    Other,
}

/// What is known of a failed attempt.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts {
    /// A byte of the request's body may have left.
    pub(super) sent: bool,
    /// The status of the answer, if there was one.
    pub(super) status: Option<u16>,
    /// The answer's body is an error in the provider's own form, not a gateway's page.
    pub(super) provider_body: bool,
    /// The class of the error.
    pub(super) class: ErrorClass,
    /// Some output was seen.
    pub(super) output_seen: bool,
    /// Who answered.
    pub(super) host: Host,
}

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

/// An error as a provider words it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    /// `error.code`, as text.
    pub(super) code: Option<String>,
    /// `error.type`.
    pub(super) kind: Option<String>,
    /// What it says.
    pub(super) message: String,
    /// The body has the form of a provider's error.
    pub(super) provider_body: bool,
    /// Azure had a part in it: its content filter's fields, or OpenRouter naming it as upstream.
    pub(super) azure: bool,
}

impl Told {
    /// Reads an error body: `{"error":{…}}` (OpenAI and most), `{"error":"…"}` (Ollama), `{"object":"error",…}`
    /// (`vLLM`, Mistral), `{"detail":…}` (a web framework, no proof of anything), or plain text.
    pub(super) fn read(body: &[u8]) -> Self {
        let text = || Self { message: String::from_utf8_lossy(body).trim().to_owned(), ..Self::default() };
        serde_json::from_slice::<Value>(body).map_or_else(|_| text(), |value| Self::of(&value).unwrap_or_else(text))
    }

    /// The error that a JSON document is or holds; `None` where it holds none.
    pub(super) fn of(document: &Value) -> Option<Self> {
        // Google's compatible endpoint wraps its errors in an array of one.
        let document = document.as_array().and_then(|array| array.first()).unwrap_or(document);
        match document.get("error") {
            Some(Value::Object(_)) => document.get("error").map(|error| Self::of_object(error, document)),
            Some(Value::String(message)) => {
                Some(Self { message: message.clone(), provider_body: true, ..Self::of_object(document, document) })
            }
            _ if document.get("object").and_then(Value::as_str) == Some("error") => {
                Some(Self::of_object(document, document))
            }
            _ => document.get("detail").filter(|detail| !detail.is_null()).map(|detail| Self {
                message: detail.as_str().map_or_else(|| detail.to_string(), str::to_owned),
                ..Self::default()
            }),
        }
    }

    fn of_object(error: &Value, document: &Value) -> Self {
        let text = |key: &str| word(error.get(key));
        let inner = error.get("innererror").or_else(|| error.get("inner_error"));
        let upstream = error.pointer("/metadata/provider_name").and_then(Value::as_str).unwrap_or_default();
        let filter = error.get("content_filter_result").or_else(|| document.get("prompt_filter_results"));
        Self {
            code: text("code"),
            kind: text("type").or_else(|| text("status")),
            message: text("message")
                .or_else(|| error.pointer("/metadata/raw").map(Value::to_string))
                .unwrap_or_default(),
            // An empty object says nothing of where it comes from.
            provider_body: ["message", "type", "code"].iter().any(|key| text(key).is_some()),
            azure: inner.is_some() || filter.is_some() || upstream.to_ascii_lowercase().contains("azure"),
        }
    }

    /// The provider's own word for it: its code, else its type.
    pub(super) fn name(&self) -> Option<&str> {
        self.code.as_deref().or(self.kind.as_deref())
    }

    fn is_named(&self, names: &[&str]) -> bool {
        [&self.code, &self.kind].into_iter().flatten().any(|name| names.contains(&name.as_str()))
    }

    fn says(&self, words: &[&str]) -> bool {
        let message = self.message.to_ascii_lowercase();
        words.iter().any(|word| message.contains(word))
    }
}

/// A string or a number as text; nothing where it is empty.
fn word(value: Option<&Value>) -> Option<String> {
    match value {
        Some(Value::String(text)) if !text.is_empty() => Some(text.clone()),
        Some(Value::Number(number)) => Some(number.to_string()),
        _ => None,
    }
}

/// Codes and types that say: the money or the quota is used up, and waiting doesn't help (§10).
const QUOTA: &[&str] = &[
    "insufficient_quota",
    "credit_balance_exhausted",
    "organization_spend_limit_exceeded",
    "project_spend_limit_exceeded",
    "organization_usage_limit_exceeded",
    "enforced_spend_limit_reached",
    "contract_spend_limit_reached",
    "linked_organization_spend_limit_reached",
    "billing_hard_limit_reached",
    "billing_not_active",
    "billing_error",
];
/// Codes and types of an overloaded server (§10); `slow_down` came with 503 before it came with 429.
const OVERLOAD: &[&str] = &[
    "server_is_overloaded",
    "overloaded_error",
    "overloaded",
    "engine_overloaded",
    "engine_overloaded_error",
    "slow_down",
    "capacity_exceeded",
];
/// Codes and types of a request that is longer than the model's window.
const CONTEXT: &[&str] = &["context_length_exceeded", "exceed_context_size_error", "context_window_exceeded"];
/// Words of the same, for servers without a code: llama.cpp, vLLM, OpenRouter, and gateways before others.
const CONTEXT_WORDS: &[&str] = &[
    "maximum context length",
    "exceeds the available context size",
    "prompt is too long",
    "exceeds the maximum number of tokens",
    "context window",
    "context length exceeded",
];
/// Codes of a content filter before the model ran.
const FILTER: &[&str] = &["content_filter", "content_policy_violation", "ResponsibleAIPolicyViolation"];
/// Words of OpenRouter's moderation, which answers 403.
const FILTER_WORDS: &[&str] = &["requires moderation", "was flagged", "content management policy"];

/// The class of an error by its status, refined by what the provider says (§10). A 429 alone never decides.
pub(super) fn classify(status: u16, told: &Told) -> ErrorClass {
    match status {
        400 | 413 | 500 if told.is_named(CONTEXT) || told.says(CONTEXT_WORDS) => Class::ContextTooLong,
        400 | 403 if told.is_named(FILTER) || told.says(FILTER_WORDS) => Class::ContentFilter,
        400 | 429 if told.is_named(QUOTA) => {
            if status == 429 {
                Class::QuotaExhausted
            } else {
                Class::Billing
            }
        }
        503 if told.is_named(OVERLOAD) || told.says(&["overloaded"]) => Class::Overloaded,
        401 => Class::BadKey,
        402 => Class::Billing,
        403 => Class::Forbidden,
        // A redirect means that nothing of ours lives at `base_url`.
        300..=399 | 404 | 410 => Class::NotFound,
        408 => Class::RequestTimeout,
        409 => Class::Conflict,
        413 => Class::TooLarge,
        422 => Class::Unprocessable,
        429 => Class::RateLimited,
        498 | 529 => Class::Overloaded,
        499 => Class::ClientClosed,
        // 424: what Groq itself depends on failed.
        424 | 500..=599 => Class::Server,
        _ => Class::BadRequest,
    }
}

/// The status that an error inside a 200 stands for, where its code is one (OpenRouter), else 500.
pub(super) fn status_inside(told: &Told) -> u16 {
    let number = told.code.as_deref().and_then(|code| code.parse().ok());
    number.filter(|status| (400..=599).contains(status)).unwrap_or(500)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(status: u16, body: &str) -> ErrorClass {
        classify(status, &Told::read(body.as_bytes()))
    }

    #[test]
    fn every_class_is_told_by_status_and_body() {
        let error = |inner: &str| format!(r#"{{"error":{{{inner}}}}}"#);
        let rows: &[(u16, String, Class)] = &[
            (401, error(r#""message":"Incorrect API key","type":"invalid_request_error","code":"invalid_api_key""#), Class::BadKey),
            (403, error(r#""code":"unsupported_country_region_territory","message":"no""#), Class::Forbidden),
            (403, error(r#""code":403,"message":"x requires moderation on y. Your input was flagged""#), Class::ContentFilter),
            (404, error(r#""message":"model `x` does not exist","code":"model_not_found""#), Class::NotFound),
            (308, String::new(), Class::NotFound),
            (400, error(r#""message":"bad","type":"invalid_request_error""#), Class::BadRequest),
            (400, error(r#""message":"too long","code":"context_length_exceeded""#), Class::ContextTooLong),
            (400, error(r#""code":400,"message":"the request exceeds the available context size, try increasing it","type":"exceed_context_size_error""#), Class::ContextTooLong),
            (400, r#"{"object":"error","message":"This model's maximum context length is 4096 tokens","type":"BadRequestError","code":400}"#.to_owned(), Class::ContextTooLong),
            (400, error(r#""code":"content_filter","message":"filtered","innererror":{"code":"ResponsibleAIPolicyViolation"}"#), Class::ContentFilter),
            (400, error(r#""type":"billing_error","message":"spend limit""#), Class::Billing),
            (402, error(r#""code":402,"message":"Insufficient credits""#), Class::Billing),
            (408, String::new(), Class::RequestTimeout),
            (409, String::new(), Class::Conflict),
            (413, error(r#""code":"rate_limit_exceeded","message":"Request too large""#), Class::TooLarge),
            (422, r#"{"detail":[{"msg":"field required"}]}"#.to_owned(), Class::Unprocessable),
            (424, String::new(), Class::Server),
            (429, error(r#""type":"rate_limit_error","code":"rate_limit_exceeded","message":"slow""#), Class::RateLimited),
            (429, error(r#""code":"slow_down","message":"slow""#), Class::RateLimited),
            (429, r#"{"object":"error","type":"rate_limited","code":"1300","message":"x"}"#.to_owned(), Class::RateLimited),
            (429, error(r#""type":"insufficient_quota","code":"credit_balance_exhausted","message":"x""#), Class::QuotaExhausted),
            (429, error(r#""code":"project_spend_limit_exceeded","message":"x""#), Class::QuotaExhausted),
            (429, String::new(), Class::RateLimited),
            (498, error(r#""code":"capacity_exceeded","message":"x""#), Class::Overloaded),
            (499, String::new(), Class::ClientClosed),
            (500, error(r#""type":"server_error","message":"x""#), Class::Server),
            (502, "<html>bad gateway</html>".to_owned(), Class::Server),
            (503, error(r#""code":"server_is_overloaded","message":"x""#), Class::Overloaded),
            (503, error(r#""code":503,"message":"Loading model","type":"unavailable_error""#), Class::Server),
            (504, String::new(), Class::Server),
            (529, error(r#""type":"overloaded_error","message":"x""#), Class::Overloaded),
            (418, String::new(), Class::BadRequest),
            (599, String::new(), Class::Server),
        ];
        for (status, body, expected) in rows {
            assert_eq!(class(*status, body), *expected, "{status} {body}");
        }
    }

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

    #[test]
    fn error_bodies_of_every_form_are_read() {
        let read = |body: &str| Told::read(body.as_bytes());
        let own = read(r#"{"error":{"message":"m","type":"t","code":null}}"#);
        assert_eq!((own.name(), own.message.as_str(), own.provider_body), (Some("t"), "m", true));
        assert!(read(r#"{"error":"model not found"}"#).provider_body);
        assert_eq!(read(r#"[{"error":{"code":400,"status":"INVALID_ARGUMENT"}}]"#).name(), Some("400"));
        for body in [r#"{"detail":"Not Found"}"#, r#"{"error":{}}"#, r#"{"error":null}"#, "<html>", "", "[]", "7"] {
            assert!(!read(body).provider_body, "{body}");
        }
        assert_eq!(read(r#"{"detail":"Not Found"}"#).message, "Not Found");
        assert_eq!(read(" upstream gone ").message, "upstream gone");
    }

    #[test]
    fn azure_is_known_behind_others() {
        for body in [
            r#"{"error":{"code":"content_filter","message":"m","innererror":{"code":"x"}}}"#,
            r#"{"error":{"code":400,"message":"m","metadata":{"provider_name":"Azure"}}}"#,
        ] {
            assert!(Told::read(body.as_bytes()).azure, "{body}");
        }
    }

    #[test]
    fn an_error_inside_a_reply_may_name_its_status() {
        let inside = |body: &str| status_inside(&Told::read(body.as_bytes()));
        assert_eq!(inside(r#"{"error":{"code":429,"message":"m"}}"#), 429);
        assert_eq!(inside(r#"{"error":{"code":"server_error","message":"m"}}"#), 500);
        assert_eq!(inside(r#"{"error":{"code":200,"message":"m"}}"#), 500);
    }
}
