//! `OpenAI`'s wires as Azure speaks them: both paths, a key or a token and never both, what its content filter adds, and its
//! own rules of what an error costs.

use axum::http::HeaderMap;
use serde_json::{Value, json};

use crate::sim::chat::{BadRequest, Chat};
use crate::sim::completion::{Completion, Event, Stream};
use crate::sim::fault::{Fault, WireError};
use crate::sim::invoice::Billed;
use crate::sim::wire::openai_chat::OpenAiChat;
use crate::sim::wire::openai_responses::OpenAiResponses;
use crate::sim::wire::{Asked, Dialect, Door};

/// The header of Azure's id of a request.
pub(super) const ID_HEADER: &str = "apim-request-id";

/// One of `OpenAI`'s wires at Azure.
#[derive(Debug)]
pub(crate) enum Azure {
    /// Chat completions.
    Chat,
    /// Responses.
    Responses,
}

impl Azure {
    fn inner(&self) -> &'static dyn Dialect {
        match self {
            Self::Chat => &OpenAiChat,
            Self::Responses => &OpenAiResponses,
        }
    }

    fn end(&self) -> &'static str {
        match self {
            Self::Chat => "/chat/completions",
            Self::Responses => "/responses",
        }
    }
}

impl Dialect for Azure {
    /// The v1 path, or the classic one, which names its version, and for chat completions its deployment.
    fn door<'a>(&self, path: &'a str, query: Option<&'a str>) -> Option<Door<'a>> {
        let (base, rest) = path.split_once("/openai/")?;
        // Without a name before it, `/openai/` is the name of a provider.
        let provider = Some(Some(base.trim_matches('/')).filter(|name| !name.is_empty())?);
        let place = format!("/{rest}");
        let place = place.strip_suffix(self.end())?;
        let classic = query.is_some_and(|query| query.split('&').any(|pair| pair.starts_with("api-version=")));
        let deployment = rest.strip_prefix("deployments/").and_then(|rest| rest.split('/').next());
        match (self, place, deployment) {
            (_, "/v1", _) => Some(Door { provider, ..Door::default() }),
            (Self::Responses, "", _) if classic => Some(Door { provider, ..Door::default() }),
            (Self::Chat, _, Some(model)) if classic => Some(Door { provider, model: Some(model), ..Door::default() }),
            (_, _, _) => None,
        }
    }

    /// Who brings both a key and a token is let in with neither.
    fn key<'h>(&self, headers: &'h HeaderMap) -> Option<&'h str> {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        match (text("api-key"), text("authorization").and_then(|value| value.strip_prefix("Bearer "))) {
            (Some(_), Some(_)) | (None, None) => None,
            (key, token) => key.or(token),
        }
    }

    fn read<'a>(&self, asked: &Asked<'a>) -> Result<Chat<'a>, BadRequest> {
        let chat = self.inner().read(asked)?;
        Ok(Chat { model: asked.door.model.unwrap_or(chat.model), ..chat })
    }

    fn id(&self, number: u64) -> String {
        self.inner().id(number)
    }

    fn id_header(&self) -> &'static str {
        ID_HEADER
    }

    fn whole(&self, completion: &Completion) -> String {
        let whole = self.inner().whole(completion);
        match (self, serde_json::from_str::<Value>(&whole)) {
            (Self::Chat, Ok(mut document)) => {
                document["prompt_filter_results"] = filtered();
                document.to_string()
            }
            (Self::Chat | Self::Responses, _) => whole,
        }
    }

    /// The content filter speaks first, in an event without a choice.
    fn stream<'a>(&self, completion: &'a Completion) -> Stream<'a> {
        let mut stream = self.inner().stream(completion);
        if let Self::Chat = self {
            let first = json!({"id": "", "object": "", "created": 0, "model": "", "choices": [],
                "prompt_filter_results": filtered()});
            stream.said.insert(0, Event::new(format!("data: {first}\n\n"), ""));
        }
        stream
    }

    fn words(&self, status: u16, fault: Option<Fault>) -> (&'static str, &'static str) {
        self.inner().words(status, fault)
    }

    fn error_body(&self, error: &WireError) -> String {
        let body = self.inner().error_body(error);
        if error.code.as_deref() != Some("content_filter") {
            return body;
        }
        let WireError { message, status, .. } = error;
        let inner = json!({"code": "ResponsibleAIPolicyViolation",
            "content_filter_result": {"violence": {"filtered": true, "severity": "high"}}});
        json!({"error": {"message": message, "type": null, "param": "prompt", "code": "content_filter",
            "status": status, "innererror": inner}})
        .to_string()
    }

    fn error_event(&self, error: &WireError) -> String {
        self.inner().error_event(error)
    }

    /// What was processed is charged without a 200 too: a prompt that the filter stopped or that was too long. A bad key and
    /// a full rate are not.
    fn error_cost(&self, error: &WireError, failed: Billed) -> Billed {
        match error.status {
            300..=399 | 401 | 429 => Billed::None,
            _ => failed,
        }
    }
}

/// What the content filter found in a prompt: nothing.
fn filtered() -> Value {
    let safe = json!({"filtered": false, "severity": "safe"});
    json!([{"prompt_index": 0, "content_filter_results": {"hate": safe, "violence": safe}}])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_path_has_its_door() {
        let version = Some("x=1&api-version=2024-10-21");
        let door =
            |wire: &Azure, path: &'static str, query| wire.door(path, query).map(|door| (door.provider, door.model));
        for (path, query, expected) in [
            ("/azure/openai/v1/chat/completions", None, Some((Some("azure"), None))),
            ("/openai/v1/chat/completions", None, None),
            ("/azure/openai/deployments/mini/chat/completions", version, Some((Some("azure"), Some("mini")))),
            ("/azure/openai/deployments/mini/chat/completions", None, None),
            ("/azure/openai/v1/responses", None, None),
            ("/openai-like/v1/chat/completions", None, None),
        ] {
            assert_eq!(door(&Azure::Chat, path, query), expected, "{path}");
        }
        assert_eq!(door(&Azure::Responses, "/az/openai/responses", version), Some((Some("az"), None)));
        assert_eq!(door(&Azure::Responses, "/az/openai/responses", None), None);
        assert_eq!(door(&Azure::Responses, "/az/openai/v1/responses", None), Some((Some("az"), None)));
    }

    #[test]
    fn errors_cost_but_for_a_bad_key_and_a_full_rate() {
        let cost = |fault: Fault| Azure::Chat.error_cost(&WireError::of(&Azure::Chat, fault, "no"), Billed::Input);
        for fault in [Fault::Unauthorized, Fault::RateLimit, Fault::Quota] {
            assert_eq!(cost(fault), Billed::None);
        }
        for fault in [Fault::FilteredInput, Fault::ContextLength, Fault::NotFound, Fault::Forbidden, Fault::Overloaded]
        {
            assert_eq!(cost(fault), Billed::Input);
        }
    }

    #[test]
    fn a_key_or_a_token_and_never_both() {
        let key = |lines: &[(&'static str, &'static str)]| {
            let headers =
                lines.iter().map(|(name, value)| (name.parse().expect("a name"), value.parse().expect("one")));
            Azure::Chat.key(&headers.collect()).map(str::to_owned)
        };
        assert_eq!(key(&[("api-key", "k")]).as_deref(), Some("k"));
        assert_eq!(key(&[("authorization", "Bearer t")]).as_deref(), Some("t"));
        assert_eq!(key(&[("api-key", "k"), ("authorization", "Bearer k")]), None);
    }
}
