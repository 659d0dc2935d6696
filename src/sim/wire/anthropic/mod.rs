//! Anthropic Messages, at its own path and at that of Claude on Vertex.

use axum::http::HeaderMap;
use serde_json::{Value, json};

use crate::sim::chat::{BadRequest, Chat};
use crate::sim::completion::{Completion, Stream};
use crate::sim::fault::{Fault, WireError};
use crate::sim::invoice::Billed;
use crate::sim::wire::{Asked, Dialect, Door, provider};

mod answer;
mod model;
mod request;

/// What is before the model in Vertex's paths.
const PUBLISHED: &str = "/publishers/anthropic/models/";
/// Kinds of refusals that are billed even before any output.
const BILLED_REFUSALS: [&str; 3] = ["bio", "frontier_llm", "reasoning_extraction"];

/// The wire, as Anthropic has it, and as Vertex has it: there the model and the stream stand in the path, the version in the
/// body.
#[derive(Debug)]
pub(crate) enum Anthropic {
    Own,
    OnVertex,
}

impl Dialect for Anthropic {
    fn door<'a>(&self, path: &'a str, _query: Option<&'a str>) -> Option<Door<'a>> {
        match self {
            Self::Own => Some(Door { provider: provider(path.strip_suffix("/messages")?), ..Door::default() }),
            Self::OnVertex => {
                let (base, rest) = path.split_once(PUBLISHED)?;
                let (model, verb) = rest.rsplit_once(':')?;
                let stream = match verb {
                    "rawPredict" => false,
                    "streamRawPredict" => true,
                    _ => return None,
                };
                let (base, place) =
                    base.split_once("/projects/").map_or((base, None), |(base, place)| (base, Some(place)));
                let place = place.and_then(|place| place.split_once("/locations/")).map(|(_, location)| location);
                Some(Door { provider: provider(base), model: Some(model), stream, place })
            }
        }
    }

    fn count_door<'a>(&self, path: &'a str) -> Option<Door<'a>> {
        match self {
            Self::Own => {
                Some(Door { provider: provider(path.strip_suffix("/messages/count_tokens")?), ..Door::default() })
            }
            Self::OnVertex => {
                let (base, rest) = path.split_once(PUBLISHED)?;
                let base = base.split_once("/projects/").map_or(base, |(base, _)| base);
                (rest == "count-tokens:rawPredict").then(|| Door { provider: provider(base), ..Door::default() })
            }
        }
    }

    /// The way to a count takes no cap, and none of what doesn't count.
    fn to_ordinary(&self, mut body: Value) -> Result<Value, BadRequest> {
        let fields = body.as_object_mut().ok_or_else(|| BadRequest::kind("body", "an object"))?;
        if let Some(name) = ["max_tokens", "stream", "service_tier"].into_iter().find(|name| fields.contains_key(*name))
        {
            return Err(BadRequest::at(name, format!("{name}: Extra inputs are not permitted")));
        }
        fields.insert("max_tokens".to_owned(), request::TOKENS_MAX.into());
        Ok(body)
    }

    /// The versions before bearer tokens take a header of their own.
    fn key<'h>(&self, headers: &'h HeaderMap) -> Option<&'h str> {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        match self {
            Self::Own if text("anthropic-version").is_some_and(|version| version < request::BEARER_SINCE) => {
                text("x-api-key")
            }
            Self::Own | Self::OnVertex => text("authorization").and_then(|value| value.strip_prefix("Bearer ")),
        }
    }

    fn read<'a>(&self, asked: &Asked<'a>) -> Result<Chat<'a>, BadRequest> {
        match self {
            Self::Own => request::check_version(asked.header("anthropic-version"))?,
            Self::OnVertex => {
                request::check_version(asked.body.get("anthropic_version").and_then(Value::as_str))?;
                // Only the way to a count names the model in the body.
                if asked.door.model.is_some() && asked.body.get("model").is_some() {
                    return Err(BadRequest::at("model", "model: Extra inputs are not permitted"));
                }
            }
        }
        request::read(asked)
    }

    fn id(&self, number: u64) -> String {
        match self {
            Self::Own => format!("msg_sim_{number}"),
            Self::OnVertex => format!("msg_vrtx_sim_{number}"),
        }
    }

    fn id_header(&self) -> &'static str {
        "request-id"
    }

    fn whole(&self, completion: &Completion) -> String {
        answer::whole(completion)
    }

    fn stream<'a>(&self, completion: &'a Completion) -> Stream<'a> {
        answer::stream(completion)
    }

    fn words(&self, status: u16, fault: Option<Fault>) -> (&'static str, &'static str) {
        words(status, fault)
    }

    fn error_body(&self, error: &WireError) -> String {
        error_body(error)
    }

    fn error_event(&self, error: &WireError) -> String {
        format!("event: error\ndata: {}\n\n", error_body(error))
    }

    /// A refusal before any output is free at Anthropic's own, but in three categories.
    fn answer_cost(&self, completion: &Completion) -> Billed {
        let silent = completion.text.is_empty() && completion.calls.is_empty() && completion.usage.reasoning == 0;
        let billed = completion.category.as_deref().is_some_and(|category| BILLED_REFUSALS.contains(&category));
        match self {
            Self::Own if completion.refusal.is_some() && silent && !billed => Billed::None,
            Self::Own | Self::OnVertex => Billed::Whole,
        }
    }

    fn refusal_is_output(&self) -> bool {
        false
    }
}

/// Anthropic's types of errors, and the codes in their details.
fn words(status: u16, fault: Option<Fault>) -> (&'static str, &'static str) {
    match (fault, status) {
        (Some(Fault::Quota), _) => ("rate_limit_error", "enforced_spend_limit_reached"),
        (_, 401) => ("authentication_error", ""),
        (_, 402) => ("billing_error", ""),
        (_, 403) => ("permission_error", ""),
        (_, 404) => ("not_found_error", ""),
        (_, 413) => ("request_too_large", ""),
        (_, 429) => ("rate_limit_error", ""),
        (_, 408 | 504) => ("timeout_error", ""),
        (_, 529) => ("overloaded_error", ""),
        (_, 500..) => ("api_error", ""),
        (_, _) => ("invalid_request_error", ""),
    }
}

fn error_body(error: &WireError) -> String {
    let WireError { kind, code, message, .. } = error;
    let mut told = json!({"type": kind, "message": message});
    // What breaks the wire's rules has no code here.
    if let Some(code) = code.as_ref().filter(|_| error.status != 400) {
        told["details"] = json!({"error_code": code});
    }
    json!({"type": "error", "error": told, "request_id": "req_sim"}).to_string()
}
