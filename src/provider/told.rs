//! Errors as providers word them, and their classes. Wires that word them otherwise have a reading of their own.
//!
//! Sources are PROVIDERS.md's: §7 (servers) and §10 (classes), as of 2026-11-23.

use serde_json::Value;

use super::http::{RETRY_AFTER_MAX, seconds};
use crate::domain::retry::ErrorClass;
use crate::domain::retry::ErrorClass as Class;
use crate::units::Millis;

/// An error as a provider words it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Told {
    /// `error.code`, as text.
    pub(crate) code: Option<String>,
    /// `error.type`.
    pub(crate) kind: Option<String>,
    /// What it says.
    pub(crate) message: String,
    /// The body has the form of a provider's error.
    pub(crate) provider_body: bool,
    /// Azure had a part in it: its content filter's fields, or OpenRouter naming it as upstream.
    pub(crate) azure: bool,
    /// How long the body asks us to wait, as Google's do.
    pub(crate) retry_after: Option<Millis>,
}

impl Told {
    /// Reads an error body: `{"error":{…}}` (OpenAI and most), `{"error":"…"}` (Ollama), `{"object":"error",…}`
    /// (`vLLM`, Mistral), `{"detail":…}` (a web framework, no proof of anything), or plain text.
    pub(crate) fn read(body: &[u8]) -> Self {
        let text = || Self { message: String::from_utf8_lossy(body).trim().to_owned(), ..Self::default() };
        serde_json::from_slice::<Value>(body).map_or_else(|_| text(), |value| Self::of(&value).unwrap_or_else(text))
    }

    /// The error that a JSON document is or holds; `None` where it holds none.
    pub(crate) fn of(document: &Value) -> Option<Self> {
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
            kind: text("type").or_else(|| text("status")).or_else(|| word(inner?.get("code"))),
            message: text("message")
                .or_else(|| error.pointer("/metadata/raw").map(Value::to_string))
                .unwrap_or_default(),
            // An empty object says nothing of where it comes from.
            provider_body: ["message", "type", "code"].iter().any(|key| text(key).is_some()),
            azure: inner.is_some() || filter.is_some() || upstream.to_ascii_lowercase().contains("azure"),
            retry_after: retry_delay(error),
        }
    }

    /// The provider's own word for it: its code, else its type.
    pub(crate) fn name(&self) -> Option<&str> {
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

/// `RetryInfo` among the details of Google's errors: `"retryDelay": "31s"` (PROVIDERS §10).
fn retry_delay(error: &Value) -> Option<Millis> {
    let details = error.get("details").and_then(Value::as_array)?;
    let delay = details.iter().find_map(|detail| detail.get("retryDelay")?.as_str()?.strip_suffix('s'))?;
    seconds(delay).map(|wait| wait.min(RETRY_AFTER_MAX))
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
pub(crate) fn classify(status: u16, told: &Told) -> ErrorClass {
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

/// The status that an error inside a 200 stands for, where its code is one (OpenRouter) or a word for one (Google), else 500.
pub(crate) fn status_inside(told: &Told) -> u16 {
    let code = told.code.as_deref().unwrap_or_default();
    let number = code.parse().ok().filter(|status| (400..=599).contains(status));
    number.or_else(|| status_of(code)).unwrap_or(500)
}

/// Google's words for what went wrong (`google.rpc.Code`), as HTTP has them.
fn status_of(word: &str) -> Option<u16> {
    match word {
        "INVALID_ARGUMENT" | "FAILED_PRECONDITION" | "OUT_OF_RANGE" => Some(400),
        "UNAUTHENTICATED" => Some(401),
        "PERMISSION_DENIED" => Some(403),
        "NOT_FOUND" => Some(404),
        "ABORTED" | "ALREADY_EXISTS" => Some(409),
        "RESOURCE_EXHAUSTED" => Some(429),
        "CANCELLED" => Some(499),
        "UNIMPLEMENTED" => Some(501),
        "UNAVAILABLE" => Some(503),
        "DEADLINE_EXCEEDED" => Some(504),
        _ => None,
    }
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
    fn google_tells_the_delay_in_the_body() {
        let read = |delay: &str| {
            let info = format!(r#"{{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"{delay}"}}"#);
            let body = format!(
                r#"[{{"error":{{"code":429,"message":"m","status":"RESOURCE_EXHAUSTED","details":[{{}},{info}]}}}}]"#
            );
            Told::read(body.as_bytes()).retry_after
        };
        assert_eq!(read("31s"), Some(Millis(31_000)));
        assert_eq!(read("0.4s"), Some(Millis(400)));
        assert_eq!(read("999999999s"), Some(RETRY_AFTER_MAX));
        assert_eq!((read("soon"), read("-1s"), read("s")), (None, None, None));
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
        assert_eq!(inside(r#"{"error":{"code":"RESOURCE_EXHAUSTED","message":"m"}}"#), 429);
    }
}
