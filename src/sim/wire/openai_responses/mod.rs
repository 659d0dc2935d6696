//! OpenAI Responses, stateless: nothing that an earlier answer left behind is known here.

use crate::sim::chat::{BadRequest, Chat};
use crate::sim::completion::{Completion, Stream};
use crate::sim::fault::{Fault, WireError};
use crate::sim::wire::openai_chat::OpenAiChat;
use crate::sim::wire::{Asked, Dialect, Door, provider};

mod answer;
mod reasoning;
mod request;

/// The wire.
#[derive(Debug)]
pub(crate) struct OpenAiResponses;

impl Dialect for OpenAiResponses {
    fn door<'a>(&self, path: &'a str, _query: Option<&'a str>) -> Option<Door<'a>> {
        let base = path.strip_suffix("/responses")?;
        Some(Door { provider: provider(base), ..Door::default() })
    }

    fn read<'a>(&self, asked: &Asked<'a>) -> Result<Chat<'a>, BadRequest> {
        request::read(asked.body)
    }

    fn id(&self, number: u64) -> String {
        format!("resp-sim-{number}")
    }

    fn whole(&self, completion: &Completion) -> String {
        answer::whole(completion)
    }

    fn stream<'a>(&self, completion: &'a Completion) -> Stream<'a> {
        answer::stream(completion)
    }

    /// Both wires of OpenAI have the same errors.
    fn words(&self, status: u16, fault: Option<Fault>) -> (&'static str, &'static str) {
        OpenAiChat.words(status, fault)
    }

    fn error_body(&self, error: &WireError) -> String {
        OpenAiChat.error_body(error)
    }

    /// Its fields stand in the event itself.
    fn error_event(&self, error: &WireError) -> String {
        let code = error.code.as_deref().unwrap_or(&error.kind);
        let event = serde_json::json!({"type": "error", "code": code, "message": error.message, "param": error.param});
        format!("event: error\ndata: {event}\n\n")
    }
}
