//! What names a call: a hash of what was asked, with secrets out, so that it is the same where they aren't set.

use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::Secrets;
use crate::domain::message::Request;
use crate::domain::plan::hex;
use crate::ids::ToolName;

/// The name of a model's call: model, conversation, tools, form and sampling. Not the output cap, which money may lower,
/// and neither whether the reply streams nor what is asked to be kept.
pub(super) fn of_request(request: &Request, secrets: &Secrets) -> String {
    let Request {
        model,
        messages,
        tools,
        tool_choice,
        parallel_calls,
        output,
        max_output_tokens: _,
        sampling,
        stream: _,
        cache: _,
        web_search,
    } = request;
    if let Some(search) = web_search {
        let searching = ("model that searches", search, model, messages, tools, tool_choice, output, sampling);
        return hash(&(searching, parallel_calls), secrets);
    }
    if *parallel_calls {
        return hash(&("model", model, messages, tools, tool_choice, output, sampling), secrets);
    }
    // Cassettes of before there was a choice keep their names.
    hash(&("model, one call at a time", model, messages, tools, tool_choice, output, sampling), secrets)
}

/// The name of a tool's call.
pub(super) fn of_call(tool: &ToolName, arguments: &Value, secrets: &Secrets) -> String {
    hash(&("tool", tool, arguments), secrets)
}

fn hash(asked: &impl Serialize, secrets: &Secrets) -> String {
    // What can't be JSON was never sent: such calls share a name, and no answer.
    let value = serde_json::to_value(asked).unwrap_or_default();
    let mut hasher = Sha256::new();
    hasher.update(secrets.out_of(value).to_string());
    hex(&hasher.finalize())
}
