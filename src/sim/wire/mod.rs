//! The wires that the simulated provider speaks: all on one socket, told apart by their paths.
//!
//! A new one is a folder with a [`Dialect`] and a line in [`DIALECTS`]. What a wire says of itself: where it is asked, how
//! a request is read into a [`Chat`], and how an answer, its usage and its errors are written, whole and as a stream.
//! Counts, scenarios, the agent, prices and the invoice are shared. Deliberately absent: anything of `provider`.

use std::fmt;

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;

use crate::sim::chat::{BadRequest, Chat};
use crate::sim::completion::{Completion, Stream};
use crate::sim::fault::{Fault, WireError};
use crate::sim::invoice::Billed;
use crate::units::Millis;

pub(crate) mod anthropic;
mod azure;
pub(crate) mod fields;
pub(crate) mod gemini;
pub(crate) mod openai_chat;
mod openai_responses;

/// Every wire; the first whose door a path is, answers.
static DIALECTS: [&dyn Dialect; 8] = [
    &azure::Azure::Chat,
    &azure::Azure::Responses,
    &openai_responses::OpenAiResponses,
    &openai_chat::OpenAiChat,
    &anthropic::Anthropic::Own,
    &anthropic::Anthropic::OnVertex,
    &gemini::Gemini::Api,
    &gemini::Gemini::Vertex,
];

/// Their paths, for whoever asks for another.
pub(crate) const PATHS: &str = "/v1/chat/completions, /v1/responses (both also below /azure/openai), /v1/messages and \
    /v1/models/MODEL:generateContent (also below /v1/publishers/google)";

/// What a path and its query ask for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Door<'a> {
    /// The provider whose prices stand, where the path names one.
    pub(crate) provider: Option<&'a str>,
    /// The model, on wires that name it in the path.
    pub(crate) model: Option<&'a str>,
    /// True where the path asks for a stream.
    pub(crate) stream: bool,
    /// The place that is asked to serve it, where the path names one.
    pub(crate) place: Option<&'a str>,
}

/// One request as it came.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<'a> {
    pub(crate) door: Door<'a>,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) body: &'a Value,
}

impl<'a> Asked<'a> {
    /// A header's text.
    pub(crate) fn header(&self, name: &str) -> Option<&'a str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The model that it asks for, as far as can be seen.
    pub(crate) fn model(&self) -> &'a str {
        let named = || self.body.get("model").and_then(Value::as_str);
        self.door.model.or_else(named).unwrap_or_default()
    }
}

/// A wire, from the provider's side.
pub(crate) trait Dialect: fmt::Debug + Sync {
    /// What a path asks of this wire; `None` where it is none of its own.
    fn door<'a>(&self, path: &'a str, query: Option<&'a str>) -> Option<Door<'a>>;

    /// What a path asks to be counted, by this wire; `None` where it asks for something else.
    fn count_door<'a>(&self, _path: &'a str) -> Option<Door<'a>> {
        None
    }

    /// A body that asks for a count as one that asks for an answer.
    ///
    /// # Errors
    /// What breaks the rules of the way to a count.
    fn to_ordinary(&self, body: Value) -> Result<Value, BadRequest> {
        Ok(body)
    }

    /// The body that tells a count.
    fn counted(&self, tokens: u64) -> String {
        serde_json::json!({"input_tokens": tokens}).to_string()
    }

    /// The key that a request brings.
    fn key<'h>(&self, headers: &'h HeaderMap) -> Option<&'h str> {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        text("authorization").and_then(|value| value.strip_prefix("Bearer ")).or_else(|| text("api-key"))
    }

    /// Reads a request, as strictly as the real provider where a mistake of ours would otherwise show only there.
    ///
    /// # Errors
    /// What breaks the wire's rules.
    fn read<'a>(&self, asked: &Asked<'a>) -> Result<Chat<'a>, BadRequest>;

    /// The provider's id of an answer, by the number of its line.
    fn id(&self, number: u64) -> String;

    /// The header that carries that id.
    fn id_header(&self) -> &'static str {
        "x-request-id"
    }

    /// The body of an answer in one piece.
    fn whole(&self, completion: &Completion) -> String;

    /// A streamed answer in its parts, each event with its blank line.
    fn stream<'a>(&self, completion: &'a Completion) -> Stream<'a>;

    /// An error's type and code in this wire's words; no code is an empty one.
    fn words(&self, status: u16, fault: Option<Fault>) -> (&'static str, &'static str);

    /// The body of an error.
    fn error_body(&self, error: &WireError) -> String;

    /// An error in the middle of a stream, with its blank line.
    fn error_event(&self, error: &WireError) -> String {
        format!("data: {}\n\n", self.error_body(error))
    }

    /// How an error tells how long to wait, beside its body.
    fn wait_headers(&self, wait: Millis) -> Vec<(HeaderName, HeaderValue)> {
        vec![
            (HeaderName::from_static("retry-after"), HeaderValue::from(wait.0.div_ceil(1000))),
            (HeaderName::from_static("retry-after-ms"), HeaderValue::from(wait.0)),
        ]
    }

    /// What an error costs where the scenario doesn't say: refusals nothing, work that failed what `failed` says.
    fn error_cost(&self, error: &WireError, failed: Billed) -> Billed {
        let overloaded = error.status == 503 && error.kind == "overloaded_error";
        match error.status {
            400 | 401 | 402 | 403 | 404 | 409 | 413 | 429 | 529 => Billed::None,
            300..400 => Billed::None,
            _ if overloaded => Billed::None,
            _ => failed,
        }
    }

    /// What an answer costs that was given whole.
    fn answer_cost(&self, _completion: &Completion) -> Billed {
        Billed::Whole
    }

    /// True where the words of a refusal are output like any other.
    fn refusal_is_output(&self) -> bool {
        true
    }
}

/// The wire that a path belongs to, and what the path asks for.
pub(crate) fn find<'a>(path: &'a str, query: Option<&'a str>) -> Option<(&'static dyn Dialect, Door<'a>)> {
    DIALECTS.into_iter().find_map(|wire| Some((wire, wire.door(path, query)?)))
}

/// The wire that a path asks for a count, and of what.
pub(crate) fn find_count(path: &str) -> Option<(&'static dyn Dialect, Door<'_>)> {
    DIALECTS.into_iter().find_map(|wire| Some((wire, wire.count_door(path)?)))
}

/// The provider that a path names before `/v1`, as in `/anthropic/v1`.
pub(crate) fn provider(base: &str) -> Option<&str> {
    let name = base.strip_suffix("/v1").unwrap_or(base).trim_matches('/');
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_free_and_failed_work_is_not() {
        // Google's two and Azure have tables of their own.
        let is_other = |wire: &&dyn Dialect| {
            !matches!(format!("{wire:?}").as_str(), "Api" | "Vertex") && wire.id_header() != azure::ID_HEADER
        };
        for wire in DIALECTS.into_iter().filter(is_other) {
            let cost = |fault: Fault| wire.error_cost(&WireError::of(wire, fault, "no"), Billed::Input);
            for fault in [Fault::RateLimit, Fault::Quota, Fault::Unauthorized, Fault::ContextLength, Fault::Overloaded]
            {
                assert_eq!(cost(fault), Billed::None, "{wire:?}");
            }
            for fault in [Fault::ServerError, Fault::RequestTimeout, Fault::Unprocessable, Fault::Unavailable] {
                assert_eq!(cost(fault), Billed::Input, "{wire:?}");
            }
        }
    }

    #[test]
    fn a_path_has_one_wire_and_may_name_a_provider() {
        let door = |path| find(path, None).map(|(_, door)| door.provider);
        assert_eq!(door("/v1/chat/completions"), Some(None));
        assert_eq!(door("/local/v1/chat/completions"), Some(Some("local")));
        assert_eq!(door("/anthropic/v1/messages"), Some(Some("anthropic")));
        let vertex = "/v/v1/projects/p/locations/l/publishers/anthropic/models/claude-opus-5-5:streamRawPredict";
        let (_, vertex) = find(vertex, None).expect("a wire");
        assert_eq!(
            vertex,
            Door { provider: Some("v"), model: Some("claude-opus-5-5"), stream: true, place: Some("l") }
        );
        assert_eq!(door("/v1/models"), None);
    }
}
