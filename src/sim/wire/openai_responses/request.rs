//! A request of this wire, and its refusal where it breaks the rules.
//!
//! As strict as the real one where a mistake of ours would otherwise show only there; unknown fields are accepted.
//! Deliberately absent: files by address or id (refused), the provider's own tools, and whatever an earlier answer left behind.

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::reasoning;
use crate::sim::chat::{BadRequest, Caching, Call, Chat, Choice, Format, Message, Role, Tool};
use crate::sim::search::{FOUND_TOKENS, QUERY_TOKENS, UNBOUNDED};
use crate::sim::wire::fields::{
    check_answers, check_name, check_strict, file_tokens, flag, object, required_text, whole,
};

/// The most tools in a request.
const TOOLS_MAX: usize = 128;
/// The most output tokens that are asked for.
const TOKENS_MAX: u64 = 10_000_000;
/// Fields that bring in what isn't in the body, or that this simulator doesn't keep the promise of.
const STATEFUL: [&str; 5] = ["previous_response_id", "conversation", "prompt", "context_management", "background"];
/// Fields of chat completions that this wire doesn't have.
const FOREIGN: [&str; 8] =
    ["messages", "stop", "seed", "n", "response_format", "max_tokens", "max_completion_tokens", "reasoning_effort"];

/// Reads a request.
pub(super) fn read(body: &Value) -> Result<Chat<'_>, BadRequest> {
    let fields = object(body)?;
    let model = required_text(fields, "model")?;
    let mut refused = STATEFUL.into_iter().chain(FOREIGN);
    if let Some(name) = refused.find(|name| fields.get(*name).is_some_and(|it| !it.is_null())) {
        return Err(BadRequest::unsupported(name, format!("`{name}` is not supported here")));
    }
    let tools = read_tools(fields)?;
    let mut reading = Reading { model, ..Reading::default() };
    match fields.get("input") {
        None => return Err(BadRequest::missing("input")),
        Some(Value::String(text)) => reading.messages.push(Message::text(Role::User, text.as_str())),
        Some(Value::Array(items)) if !items.is_empty() => {
            for (index, item) in items.iter().enumerate() {
                reading.take(item, &format!("input[{index}]"))?;
            }
        }
        Some(_) => return Err(BadRequest::kind("input", "a string or an array with at least one item")),
    }
    check_answers(&reading.messages)?;
    let include = fields.get("include").and_then(Value::as_array);
    Ok(Chat {
        choice: read_choice(fields, &tools)?,
        parallel_calls: flag(fields, "parallel_tool_calls")?.unwrap_or(true),
        format: read_format(fields)?,
        tokens_max: whole(fields, "max_output_tokens", 1..=TOKENS_MAX)?,
        stream: flag(fields, "stream")?.unwrap_or(false),
        caching: reading.caching(fields),
        thinks: include.is_some_and(|list| list.iter().any(|it| it == "reasoning.encrypted_content")),
        searches_max: searches_max(fields),
        tools,
        ..Chat::new(model, reading.messages)
    })
}

/// Items on their way to messages: what the model said in one answer is one message.
#[derive(Default)]
struct Reading<'a> {
    model: &'a str,
    messages: Vec<Message<'a>>,
    /// Messages up to the last mark.
    marked: Option<usize>,
}

impl<'a> Reading<'a> {
    fn take(&mut self, item: &'a Value, at: &str) -> Result<(), BadRequest> {
        let fields = item.as_object().ok_or_else(|| BadRequest::kind(at, "an object"))?;
        match fields.get("type").and_then(Value::as_str) {
            Some("function_call") => {
                let text = |name: &str| {
                    let text = fields.get(name).and_then(Value::as_str);
                    text.ok_or_else(|| BadRequest::missing(format!("{at}.{name}")))
                };
                let (id, name, arguments) = (text("call_id")?, text("name")?, text("arguments")?);
                self.said().calls.push(Call { id: id.into(), name, arguments: arguments.into() });
            }
            Some("reasoning") => {
                let hidden = reasoning::hidden(item, at)?;
                self.said().other_tokens += hidden;
            }
            Some("web_search_call") => self.said().other_tokens += QUERY_TOKENS + FOUND_TOKENS,
            Some("function_call_output") => {
                let id = fields.get("call_id").and_then(Value::as_str);
                let id = id.ok_or_else(|| BadRequest::missing(format!("{at}.call_id")))?;
                let (text, _) = self.content(fields.get("output"), false, &format!("{at}.output"))?;
                self.messages.push(Message { call_id: Some(id.into()), ..Message::text(Role::Tool, text) });
            }
            Some("message") | None => self.take_message(fields, at)?,
            Some(_) => {
                return Err(BadRequest::at(format!("{at}.type"), "the simulator doesn't take items of this type"));
            }
        }
        Ok(())
    }

    fn take_message(&mut self, fields: &'a Map<String, Value>, at: &str) -> Result<(), BadRequest> {
        let role = match fields.get("role").and_then(Value::as_str) {
            Some("system" | "developer") => Role::System,
            Some("user") => Role::User,
            Some("assistant") => Role::Assistant,
            Some(_) | None => {
                let known = "the role must be `developer`, `system`, `user` or `assistant`";
                return Err(BadRequest::at(format!("{at}.role"), known));
            }
        };
        let (text, other_tokens) = self.content(fields.get("content"), role == Role::User, &format!("{at}.content"))?;
        match role {
            Role::Assistant => self.said().text.to_mut().push_str(&text),
            Role::System | Role::User | Role::Tool => {
                self.messages.push(Message { other_tokens, ..Message::text(role, text) });
            }
        }
        Ok(())
    }

    /// The message of what the model said last, for more of it.
    fn said(&mut self) -> &mut Message<'a> {
        let open = self.messages.last().is_some_and(|last| last.role == Role::Assistant);
        if !open {
            self.messages.push(Message::text(Role::Assistant, Cow::Borrowed("")));
        }
        let last = self.messages.len() - 1;
        &mut self.messages[last]
    }

    /// A text, or parts of text, and the tokens of files among them, which a user may send; a mark among them stands behind
    /// this message.
    fn content(
        &mut self,
        content: Option<&'a Value>,
        files: bool,
        at: &str,
    ) -> Result<(Cow<'a, str>, u64), BadRequest> {
        let parts = match content {
            Some(Value::String(text)) => return Ok((text.as_str().into(), 0)),
            Some(Value::Array(parts)) => parts,
            Some(_) | None => return Err(BadRequest::kind(at, "a string or an array of parts")),
        };
        let (mut text, mut tokens) = (String::new(), 0);
        for (index, part) in parts.iter().enumerate() {
            let at = format!("{at}[{index}]");
            let field = |name: &str| part.get(name).and_then(Value::as_str);
            match (field("type"), field("text")) {
                (Some("input_text" | "output_text"), Some(piece)) => text.push_str(piece),
                (Some("input_image"), None) if files => {
                    tokens += file_tokens(self.model, field("image_url"), field("detail"), &at)?;
                }
                (Some("input_file"), None) if files => {
                    tokens += file_tokens(self.model, field("file_data"), None, &at)?;
                }
                (Some(_) | None, Some(_) | None) => {
                    let message = "the simulator takes parts of text, and of a user also images and files";
                    return Err(BadRequest::at(at, message));
                }
            }
            if part.get("prompt_cache_breakpoint").is_some() {
                self.marked = Some(self.messages.len() + 1);
            }
        }
        Ok((text.into(), tokens))
    }

    fn caching(&self, fields: &Map<String, Value>) -> Caching {
        let options = fields.get("prompt_cache_options");
        let is = |name: &str, word: &str| options.and_then(|options| options.get(name)) == Some(&Value::from(word));
        match (is("mode", "explicit"), self.marked) {
            (false, _) => Caching::ByItself,
            (true, None) => Caching::ReadOnly,
            (true, Some(messages)) => Caching::Marked { messages, long: is("ttl", "12h") },
        }
    }
}

fn read_tools(fields: &Map<String, Value>) -> Result<Vec<Tool<'_>>, BadRequest> {
    let list = match fields.get("tools") {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(list)) if list.len() <= TOOLS_MAX => list,
        Some(_) => return Err(BadRequest::kind("tools", &format!("an array of at most {TOOLS_MAX} tools"))),
    };
    let own = list.iter().enumerate().filter(|(_, tool)| !is_search(tool));
    own.map(|(index, tool)| read_tool(tool, &format!("tools[{index}]"))).collect()
}

fn is_search(tool: &Value) -> bool {
    tool.get("type").and_then(Value::as_str) == Some("web_search")
}

/// The most searches of the web, where one is offered.
fn searches_max(fields: &Map<String, Value>) -> Option<u64> {
    let offered = fields.get("tools")?.as_array()?.iter().any(is_search);
    offered.then(|| fields.get("max_tool_calls").and_then(Value::as_u64).unwrap_or(UNBOUNDED))
}

/// A tool is strict where it doesn't say otherwise.
fn read_tool<'a>(tool: &'a Value, at: &str) -> Result<Tool<'a>, BadRequest> {
    if tool.get("type").and_then(Value::as_str) != Some("function") {
        return Err(BadRequest::at(format!("{at}.type"), "the simulator offers tools of type `function` only"));
    }
    let name = check_name(tool.get("name"), &format!("{at}.name"))?;
    let parameters = match tool.get("parameters") {
        None | Some(Value::Null) => None,
        Some(schema @ Value::Object(_)) => Some(schema),
        Some(_) => return Err(BadRequest::kind(format!("{at}.parameters"), "a JSON Schema object")),
    };
    if tool.get("strict") != Some(&Value::Bool(false)) {
        check_strict(parameters.unwrap_or(&Value::Null), &format!("{at}.parameters"))?;
    }
    Ok(Tool { name, parameters, definition: tool })
}

fn read_choice<'a>(fields: &'a Map<String, Value>, tools: &[Tool<'_>]) -> Result<Choice<'a>, BadRequest> {
    let Some(choice) = fields.get("tool_choice").filter(|choice| !choice.is_null()) else { return Ok(Choice::Auto) };
    if tools.is_empty() {
        return Err(BadRequest::at("tool_choice", "`tool_choice` is only allowed where `tools` are given"));
    }
    match (choice.as_str(), choice.get("name").and_then(Value::as_str)) {
        (Some("auto"), _) => Ok(Choice::Auto),
        (Some("none"), _) => Ok(Choice::None),
        (Some("required"), _) => Ok(Choice::Required),
        (None, Some(name)) if tools.iter().any(|tool| tool.name == name) => Ok(Choice::Named(name)),
        (Some(_) | None, _) => {
            Err(BadRequest::at("tool_choice", "`tool_choice` must be `none`, `auto`, `required` or name a function"))
        }
    }
}

fn read_format(fields: &Map<String, Value>) -> Result<Format<'_>, BadRequest> {
    let Some(format) = fields.get("text").and_then(|text| text.get("format")) else { return Ok(Format::Text) };
    match format.get("type").and_then(Value::as_str) {
        Some("text") => Ok(Format::Text),
        Some("json_object") => Ok(Format::Object),
        Some("json_schema") => {
            check_name(format.get("name"), "text.format.name")?;
            let schema = format.get("schema").filter(|schema| schema.is_object());
            let schema = schema.ok_or_else(|| BadRequest::missing("text.format.schema"))?;
            if format.get("strict") == Some(&Value::Bool(true)) {
                check_strict(schema, "text.format.schema")?;
            }
            Ok(Format::Schema(schema))
        }
        Some(_) | None => {
            Err(BadRequest::at("text.format.type", "the type must be `text`, `json_object` or `json_schema`"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn good() -> Value {
        json!({
            "model": "gpt-5-mini",
            "input": [
                {"role": "user", "content": "hi"},
                reasoning::item("rs_1", 7),
                {"role": "assistant", "content": "I look."},
                {"type": "function_call", "call_id": "a", "name": "f", "arguments": "{}"},
                {"type": "function_call", "call_id": "b", "name": "f", "arguments": "{}"},
                {"type": "function_call_output", "call_id": "b", "output": "2"},
                {"type": "function_call_output", "call_id": "a", "output": [{"type": "input_text", "text": "1",
                    "prompt_cache_breakpoint": {"mode": "explicit"}}]},
            ],
            "tools": [{"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": false}],
            "prompt_cache_options": {"mode": "explicit"},
        })
    }

    #[test]
    fn what_the_model_said_at_once_is_one_message() {
        let body = good();
        let chat = read(&body).expect("a good request");
        let said = &chat.messages[1];
        assert_eq!((chat.messages.len(), chat.turn()), (4, 1));
        assert_eq!((said.text.as_ref(), said.calls.len(), said.other_tokens), ("I look.", 2, 7));
        assert_eq!(chat.caching, Caching::Marked { messages: 4, long: false });
    }

    #[test]
    fn what_breaks_the_rules_is_refused_by_name() {
        let refusal = |change: &dyn Fn(&mut Value)| {
            let mut body = good();
            change(&mut body);
            read(&body).expect_err("a bad request").param.unwrap_or_default()
        };
        let gone = |field: &str| refusal(&|b| drop(b.as_object_mut().expect("an object").remove(field)));
        assert_eq!((gone("model"), gone("input")), ("model".to_owned(), "input".to_owned()));
        for field in STATEFUL.into_iter().chain(FOREIGN) {
            assert_eq!(refusal(&|b| b[field] = json!("x")), field);
        }
        assert_eq!(refusal(&|b| b["input"][0]["role"] = json!("tool")), "input[0].role");
        assert_eq!(refusal(&|b| b["input"][1]["encrypted_content"] = json!("gAAAA")), "input[1]");
        assert_eq!(refusal(&|b| b["input"][5]["call_id"] = json!("c")), "messages[2].tool_call_id");
        assert_eq!(refusal(&|b| b["tools"][0]["name"] = json!("a b")), "tools[0].name");
        assert_eq!(refusal(&|b| b["tool_choice"] = json!({"type": "function", "name": "g"})), "tool_choice");
    }

    #[test]
    fn a_tool_is_strict_unless_it_says_otherwise() {
        let mut body = good();
        let open = json!({"type": "object", "properties": {"a": {"type": "string"}}});
        body["tools"][0]["parameters"] = open;
        assert!(read(&body).is_ok());
        body["tools"][0].as_object_mut().expect("a tool").remove("strict");
        assert_eq!(read(&body).expect_err("a bad request").code, Some("invalid_schema"));
    }
}
