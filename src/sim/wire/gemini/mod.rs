//! Google's `generateContent`, as the Gemini API and as Vertex AI answer it.
//!
//! Vertex leaves the ids of calls out and says the kind of traffic; both sign what their newer models say.

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};

use crate::sim::chat::{BadRequest, Chat};
use crate::sim::completion::{Completion, Stream};
use crate::sim::fault::{Fault, WireError};
use crate::sim::invoice::Billed;
use crate::sim::wire::{Asked, Dialect, Door};
use crate::units::Millis;

mod answer;
mod request;

/// Models that cost a tenth more in every place but `global`, by this provider's own list.
const DEARER_IN_PLACES: [&str; 1] = ["gemini-4-argon"];
/// What stands before a model of Vertex.
const PUBLISHER: &str = "/publishers/google";

/// One of the two that speak this wire.
#[derive(Debug)]
pub(crate) enum Gemini {
    Api,
    Vertex,
}

impl Dialect for Gemini {
    fn count_door<'a>(&self, path: &'a str) -> Option<Door<'a>> {
        let (base, method) = path.rsplit_once("/models/")?;
        let model = method.strip_suffix(":countTokens")?;
        let is_own = matches!(self, Self::Api) && !base.ends_with(PUBLISHER);
        is_own.then(|| Door { provider: named(base).or(Some("gemini")), model: Some(model), ..Door::default() })
    }

    fn to_ordinary(&self, mut body: Value) -> Result<Value, BadRequest> {
        let asked = body.get_mut("generateContentRequest").map(Value::take);
        let mut asked = asked.ok_or_else(|| BadRequest::missing("generateContentRequest"))?;
        let model = asked.as_object_mut().and_then(|fields| fields.remove("model"));
        model.map(|_| asked).ok_or_else(|| BadRequest::missing("generateContentRequest.model"))
    }

    fn counted(&self, tokens: u64) -> String {
        json!({"totalTokens": tokens}).to_string()
    }

    fn door<'a>(&self, path: &'a str, query: Option<&'a str>) -> Option<Door<'a>> {
        let (base, method) = path.rsplit_once("/models/")?;
        let (model, method) = method.rsplit_once(':')?;
        let streams = query.unwrap_or_default().split('&').any(|pair| pair == "alt=sse");
        let stream = match method {
            "generateContent" => false,
            "streamGenerateContent" if streams => true,
            _ => return None,
        };
        let below = base.strip_suffix(PUBLISHER);
        match (self, below) {
            (Self::Api, None) => {
                Some(Door { provider: named(base).or(Some("gemini")), model: Some(model), stream, place: None })
            }
            (Self::Vertex, Some(below)) => {
                let place = below.rsplit_once("/locations/").map(|(_, place)| place);
                Some(Door { provider: named(below).or(Some("vertex")), model: Some(model), stream, place })
            }
            (Self::Api, Some(_)) | (Self::Vertex, None) => None,
        }
    }

    fn key<'h>(&self, headers: &'h HeaderMap) -> Option<&'h str> {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        text("x-goog-api-key").or_else(|| text("authorization")?.strip_prefix("Bearer "))
    }

    fn read<'a>(&self, asked: &Asked<'a>) -> Result<Chat<'a>, BadRequest> {
        let chat = request::read(asked, matches!(self, Self::Vertex))?;
        let dear = asked.door.place.is_some_and(|place| place != "global") && DEARER_IN_PLACES.contains(&chat.model);
        Ok(Chat { rate_percent: if dear { 110 } else { 100 }, ..chat })
    }

    fn id(&self, number: u64) -> String {
        format!("response-sim-{number}")
    }

    fn whole(&self, completion: &Completion) -> String {
        answer::whole(completion, self)
    }

    fn stream<'a>(&self, completion: &'a Completion) -> Stream<'a> {
        answer::stream(completion, self)
    }

    fn words(&self, status: u16, fault: Option<Fault>) -> (&'static str, &'static str) {
        match (fault, status) {
            (Some(Fault::Quota), _) => ("RESOURCE_EXHAUSTED", "GenerateRequestsPerDayPerProjectPerModel"),
            (_, 401) => ("UNAUTHENTICATED", ""),
            (_, 403) => ("PERMISSION_DENIED", ""),
            (_, 404) => ("NOT_FOUND", ""),
            (_, 409) => ("ABORTED", ""),
            (_, 429) => ("RESOURCE_EXHAUSTED", ""),
            (_, 499) => ("CANCELLED", ""),
            (_, 503 | 529) => ("UNAVAILABLE", ""),
            (_, 504) => ("DEADLINE_EXCEEDED", ""),
            (_, 500..) => ("INTERNAL", ""),
            (_, _) => ("INVALID_ARGUMENT", ""),
        }
    }

    fn error_body(&self, error: &WireError) -> String {
        let WireError { status, kind, code, message, wait, .. } = error;
        let quota = code.as_ref().map(
            |quota| json!({"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [{"quotaId": quota}]}),
        );
        let delay = wait.map(|wait| {
            let delay = format!("{}.{:03}s", wait.0 / 1000, wait.0 % 1000);
            json!({"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay})
        });
        let details: Vec<_> = quota.into_iter().chain(delay).collect();
        let error = json!({"error": {"code": status, "message": message, "status": kind, "details": details}});
        error.to_string()
    }

    /// Google says it in the body.
    fn wait_headers(&self, _wait: Millis) -> Vec<(HeaderName, HeaderValue)> {
        Vec::new()
    }

    /// The Gemini API says that 400 and 500 aren't charged. Vertex says nothing of the kind, so here it charges for what it
    /// may have read.
    fn error_cost(&self, error: &WireError, failed: Billed) -> Billed {
        let overloaded = error.status == 529 || (error.status == 503 && error.message.contains("overloaded"));
        match (self, error.status) {
            _ if overloaded => Billed::None,
            (Self::Api, 500) => Billed::None,
            (Self::Vertex, 400 | 409 | 413) => failed,
            (_, 300..=407 | 409..=421 | 423..=498) => Billed::None,
            (_, _) => failed,
        }
    }

    /// A blocked prompt was read, and nothing was said.
    fn answer_cost(&self, completion: &Completion) -> Billed {
        if completion.choices == 0 { Billed::Input } else { Billed::Whole }
    }
}

/// The provider that a path names before its version.
fn named(base: &str) -> Option<&str> {
    let first = base.trim_start_matches('/').split('/').next()?;
    (!first.is_empty() && !["v1", "v1beta", "v1beta1"].contains(&first)).then_some(first)
}

/// True of models that sign what they say, and want their signatures back.
fn signs(model: &str) -> bool {
    let generation = model.strip_prefix("gemini-").and_then(|rest| rest.split(['.', '-']).next());
    generation.and_then(|number| number.parse::<u32>().ok()).is_some_and(|number| number >= 3)
}

/// What this provider's signatures begin with.
const SIGNATURE: &str = "c2ltdWxhdGVk";
/// What stands for the signature of another model's call.
const UNSIGNED: &str = "skip_thought_signature_validator";
/// What this provider's tokens of a continuation begin with; the tokens so far follow.
const TOKEN: &str = "c2ltLXRva2Vu";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::wire::find;

    #[test]
    fn each_path_has_its_provider_its_model_and_its_place() {
        fn door<'a>(path: &'a str, query: Option<&'a str>) -> Option<(String, Door<'a>)> {
            find(path, query).map(|(wire, door)| (format!("{wire:?}"), door))
        }
        let found = |wire: &str, provider, stream, place| {
            Some((wire.to_owned(), Door { provider: Some(provider), model: Some("gemini-3.7-flash"), stream, place }))
        };
        let api = |method: &str| format!("/v1beta/models/gemini-3.7-flash:{method}");
        let (whole, stream) = (api("generateContent"), api("streamGenerateContent"));
        assert_eq!(door(&whole, None), found("Api", "gemini", false, None));
        assert_eq!(door(&stream, Some("alt=sse")), found("Api", "gemini", true, None));
        assert_eq!(door(&stream, None), None, "the simulator streams events only");
        assert_eq!(door(&api("countTokens"), None), None);
        assert!(crate::sim::wire::find_count(&api("countTokens")).is_some());
        let below = "publishers/google/models/gemini-3.7-flash:generateContent";
        let path = format!("/v1/projects/acme/locations/europe-west4/{below}");
        assert_eq!(door(&path, None), found("Vertex", "vertex", false, Some("europe-west4")));
        assert_eq!(door(&format!("/other/v1/{below}"), None), found("Vertex", "other", false, None));
    }

    #[test]
    fn each_of_the_two_bills_errors_by_its_own_word() {
        let cost = |api: &Gemini, status| api.error_cost(&WireError::of_status(api, status), Billed::Input);
        for (status, own, vertex) in [
            (400, Billed::None, Billed::Input),
            (401, Billed::None, Billed::None),
            (404, Billed::None, Billed::None),
            (408, Billed::Input, Billed::Input),
            (422, Billed::Input, Billed::Input),
            (429, Billed::None, Billed::None),
            (500, Billed::None, Billed::Input),
            (503, Billed::Input, Billed::Input),
        ] {
            assert_eq!((cost(&Gemini::Api, status), cost(&Gemini::Vertex, status)), (own, vertex), "{status}");
        }
    }
}
