//! A request of this wire as the simulated provider reads it, and its refusal of one that breaks the wire's rules.
//!
//! As strict as the real one: unknown fields are refused, answers must match their calls, and calls of newer models must be
//! signed. Deliberately absent: cached contents, files by address, and Google's own tools (refused).

use std::borrow::Cow;
use std::sync::LazyLock;

use serde_json::{Map, Value};

use super::{SIGNATURE, TOKEN, UNSIGNED, signs};
use crate::sim::chat::{BadRequest, Caching, Call, Chat, Choice, Format, Message, Role, Tool};
use crate::sim::picture::{self, Look};
use crate::sim::wire::Asked;
use crate::sim::wire::fields::{check_name, object, whole};

/// Fields of a body.
const FIELDS: [&str; 8] = [
    "contents",
    "systemInstruction",
    "tools",
    "toolConfig",
    "generationConfig",
    "safetySettings",
    "serviceTier",
    "continuationToken",
];
/// Fields of `generationConfig`.
const GENERATION_FIELDS: [&str; 15] = [
    "maxOutputTokens",
    "candidateCount",
    "temperature",
    "topP",
    "topK",
    "seed",
    "stopSequences",
    "responseMimeType",
    "responseJsonSchema",
    "responseSchema",
    "thinkingConfig",
    "presencePenalty",
    "frequencyPenalty",
    "responseLogprobs",
    "mediaResolution",
];
/// A `generationConfig` that says nothing.
static NOTHING: LazyLock<Map<String, Value>> = LazyLock::new(Map::new);
/// Levels of thinking.
const LEVELS: [&str; 5] = ["MINIMAL", "LOW", "MEDIUM", "HIGH", "XHIGH"];
/// The most functions that are declared.
const FUNCTIONS_MAX: usize = 512;
/// The most output tokens that are asked for.
const TOKENS_MAX: u64 = 10_000_000;

/// Reads a request.
pub(super) fn read<'a>(asked: &Asked<'a>, vertex: bool) -> Result<Chat<'a>, BadRequest> {
    let fields = object(asked.body)?;
    let labels = if vertex { "labels" } else { "contents" };
    known(fields, &[&FIELDS[..], &[labels]].concat(), "")?;
    if !matches!(fields.get("serviceTier").map(Value::as_str), None | Some(Some("standard"))) {
        return Err(BadRequest::at("serviceTier", "the simulator serves `standard` only"));
    }
    let model = asked.model();
    let generation = match fields.get("generationConfig") {
        None => &*NOTHING,
        Some(value) => value.as_object().ok_or_else(|| BadRequest::kind("generationConfig", "an object"))?,
    };
    known(generation, &GENERATION_FIELDS, "generationConfig.")?;
    let tools = read_tools(fields)?;
    let format = read_format(generation)?;
    if format != Format::Text && !tools.is_empty() && !signs(model) && read_choice(fields, &tools)? != Choice::None {
        let message = "function calling with a response mime type `application/json` is unsupported";
        return Err(BadRequest::at("generationConfig.responseMimeType", message));
    }
    whole(generation, "candidateCount", 1..=1)?;
    Ok(Chat {
        choice: read_choice(fields, &tools)?,
        tools,
        format,
        tokens_max: whole(generation, "maxOutputTokens", 1..=TOKENS_MAX)?,
        stream: asked.door.stream,
        caching: Caching::ReadOnly,
        thinks: thinks(generation, model)?,
        hidden_tokens: so_far(fields)?,
        ..Chat::new(model, read_messages(fields, model, look(generation)?)?)
    })
}

fn known(fields: &Map<String, Value>, names: &[&str], at: &str) -> Result<(), BadRequest> {
    match fields.keys().find(|name| !names.contains(&name.as_str())) {
        None => Ok(()),
        Some(name) => {
            Err(BadRequest::at(format!("{at}{name}"), format!("Invalid JSON payload: unknown name `{name}`")))
        }
    }
}

/// Tokens that an answer had when it paused: they come back as input, thoughts and all.
fn so_far(fields: &Map<String, Value>) -> Result<u64, BadRequest> {
    let Some(token) = fields.get("continuationToken") else { return Ok(0) };
    let count = token.as_str().and_then(|token| token.strip_prefix(TOKEN)).and_then(|count| count.parse().ok());
    count.ok_or_else(|| BadRequest::at("continuationToken", "this is no token of ours"))
}

/// Whether the model thinks. From the third generation on it always does, by a level; before, by a budget.
fn thinks(generation: &Map<String, Value>, model: &str) -> Result<bool, BadRequest> {
    let at = "generationConfig.thinkingConfig";
    let Some(config) = generation.get("thinkingConfig") else { return Ok(signs(model)) };
    match (config.get("thinkingLevel").and_then(Value::as_str), config.get("thinkingBudget").and_then(Value::as_i64)) {
        (Some(_), Some(_)) => Err(BadRequest::at(at, "give a level or a budget, not both")),
        (Some(level), None) if signs(model) && LEVELS.contains(&level) => Ok(true),
        (Some(_), None) => Err(BadRequest::at(at, "thinking level is not supported for this model")),
        (None, Some(0)) if model.contains("pro") => Err(BadRequest::at(at, "this model only works in thinking mode")),
        (None, Some(budget)) => Ok(budget != 0),
        (None, None) => Ok(signs(model)),
    }
}

/// How closely files are looked at.
fn look(generation: &Map<String, Value>) -> Result<Look, BadRequest> {
    let word = generation.get("mediaResolution").map(|word| word.as_str().unwrap_or_default());
    Look::of(word).ok_or_else(|| BadRequest::at("generationConfig.mediaResolution", "this is no known resolution"))
}

fn read_messages<'a>(fields: &'a Map<String, Value>, model: &str, look: Look) -> Result<Vec<Message<'a>>, BadRequest> {
    let mut messages = Vec::new();
    if let Some(system) = fields.get("systemInstruction") {
        let text: String =
            parts(system, "systemInstruction")?.iter().filter_map(|part| part["text"].as_str()).collect();
        messages.push(Message::text(Role::System, text));
    }
    let contents = match fields.get("contents") {
        None => return Err(BadRequest::missing("contents")),
        Some(Value::Array(contents)) if !contents.is_empty() => contents,
        Some(_) => return Err(BadRequest::kind("contents", "an array with at least one content")),
    };
    let mut open: Vec<(Option<&str>, &str)> = Vec::new();
    for (index, content) in contents.iter().enumerate() {
        let at = format!("contents[{index}]");
        let parts = parts(content, &at)?;
        match content.get("role").and_then(Value::as_str) {
            Some("model") => {
                all_answered(&open, &at)?;
                let message = model_message(parts, &at, model, index)?;
                open = calls_of(parts);
                messages.push(message);
            }
            Some("user") => messages.extend(user_messages(parts, &at, &mut open, (model, look))?),
            Some(_) | None => return Err(BadRequest::at(format!("{at}.role"), "the role must be `user` or `model`")),
        }
    }
    all_answered(&open, "contents")?;
    Ok(messages)
}

fn parts<'a>(content: &'a Value, at: &str) -> Result<&'a [Value], BadRequest> {
    match content.get("parts").and_then(Value::as_array) {
        Some(parts) if !parts.is_empty() => Ok(parts),
        Some(_) | None => Err(BadRequest::at(format!("{at}.parts"), "must include at least one part")),
    }
}

fn all_answered(open: &[(Option<&str>, &str)], at: &str) -> Result<(), BadRequest> {
    if open.is_empty() {
        return Ok(());
    }
    let message = "the number of function response parts must equal the number of function call parts before them";
    Err(BadRequest::at(at, message))
}

/// Ids and names of the calls among some parts.
fn calls_of(parts: &[Value]) -> Vec<(Option<&str>, &str)> {
    let calls = parts.iter().filter_map(|part| part.get("functionCall"));
    calls.map(|call| (call.get("id").and_then(Value::as_str), call["name"].as_str().unwrap_or_default())).collect()
}

/// What the user says, and the answers of tools: in the order of their calls, all of them in one content.
fn user_messages<'a>(
    parts: &'a [Value],
    at: &str,
    open: &mut Vec<(Option<&'a str>, &'a str)>,
    (model, look): (&str, Look),
) -> Result<Vec<Message<'a>>, BadRequest> {
    let mut messages = Vec::new();
    let (mut text, mut files) = (String::new(), 0);
    for (index, part) in parts.iter().enumerate() {
        let at = format!("{at}.parts[{index}]");
        if let Some(answer) = part.get("functionResponse") {
            messages.push(tool_message(answer, &at, open)?);
        } else if let Some(piece) = part.get("text").and_then(Value::as_str) {
            text.push_str(piece);
        } else if let Some(file) = part.get("inlineData") {
            let (media, data) = (file["mimeType"].as_str(), file["data"].as_str());
            let tokens = picture::tokens(model, media.unwrap_or_default(), data.unwrap_or_default(), look);
            files += tokens.ok_or_else(|| BadRequest::at(at, "Unable to process input image"))?;
        } else {
            return Err(BadRequest::at(at, "the simulator takes text, inline data and function responses only"));
        }
    }
    if !messages.is_empty() || !open.is_empty() {
        all_answered(open, at)?;
    }
    if !text.is_empty() || files > 0 {
        let message = Message::text(Role::User, text);
        messages.push(Message { other_tokens: files, ..message });
    }
    Ok(messages)
}

fn tool_message<'a>(
    answer: &'a Value,
    at: &str,
    open: &mut Vec<(Option<&'a str>, &'a str)>,
) -> Result<Message<'a>, BadRequest> {
    if open.is_empty() {
        return Err(BadRequest::at(at, "this function response answers no call before it"));
    }
    let (id, name) = open.remove(0);
    let told = (answer.get("id").and_then(Value::as_str), answer["name"].as_str().unwrap_or_default());
    if told != (id, name) {
        return Err(BadRequest::at(at, format!("expected the answer of `{name}` with the id {id:?}, not {told:?}")));
    }
    let response = answer.get("response").filter(|response| response.is_object());
    let response = response.ok_or_else(|| BadRequest::kind(format!("{at}.response"), "an object"))?;
    let text: String = response.as_object().into_iter().flatten().filter_map(|(_, value)| value.as_str()).collect();
    Ok(Message { call_id: Some(Cow::Borrowed(id.unwrap_or(name))), ..Message::text(Role::Tool, text) })
}

/// What the model said before: text, calls, and signatures that must be ours.
fn model_message<'a>(parts: &'a [Value], at: &str, model: &str, content: usize) -> Result<Message<'a>, BadRequest> {
    let (mut text, mut calls, mut signed) = (String::new(), Vec::new(), 0);
    for (index, part) in parts.iter().enumerate() {
        let at = format!("{at}.parts[{index}]");
        let signature = part.get("thoughtSignature").and_then(Value::as_str);
        if signature.is_some_and(|signature| !signature.starts_with(SIGNATURE) && signature != UNSIGNED) {
            return Err(BadRequest::at(at, "the thought signature is not valid"));
        }
        signed += signature.map_or(0, |signature| u64::try_from(signature.len()).unwrap_or(u64::MAX) / 4);
        if let Some(call) = part.get("functionCall") {
            if calls.is_empty() && signature.is_none() && signs(model) {
                return Err(BadRequest::at(at, "function call is missing a thought_signature"));
            }
            let name = check_name(call.get("name"), &at)?;
            let arguments = call.get("args").filter(|args| args.is_object() || args.is_null());
            let arguments = arguments.ok_or_else(|| BadRequest::kind(format!("{at}.args"), "an object"))?;
            let id = call
                .get("id")
                .and_then(Value::as_str)
                .map_or_else(|| Cow::Owned(format!("call-{content}-{index}")), Cow::Borrowed);
            calls.push(Call { id, name, arguments: arguments.to_string().into() });
        } else if let Some(piece) = part.get("text").and_then(Value::as_str) {
            text.push_str(piece);
        } else {
            return Err(BadRequest::at(at, "a model's part has text or a function call"));
        }
    }
    Ok(Message { calls, other_tokens: signed, ..Message::text(Role::Assistant, text) })
}

fn read_tools(fields: &Map<String, Value>) -> Result<Vec<Tool<'_>>, BadRequest> {
    let Some(tools) = fields.get("tools") else { return Ok(Vec::new()) };
    let tools = tools.as_array().ok_or_else(|| BadRequest::kind("tools", "an array"))?;
    let mut read = Vec::new();
    for (index, tool) in tools.iter().enumerate() {
        let at = format!("tools[{index}]");
        let declared =
            tool.as_object().filter(|fields| fields.len() == 1).and_then(|_| tool.get("functionDeclarations"));
        let declared = declared.and_then(Value::as_array);
        let declared = declared.ok_or_else(|| BadRequest::at(&at, "the simulator offers declared functions only"))?;
        for (index, function) in declared.iter().enumerate() {
            let at = format!("{at}.functionDeclarations[{index}]");
            let name = check_name(function.get("name"), &format!("{at}.name"))?;
            let parameters = function.get("parametersJsonSchema").or_else(|| function.get("parameters"));
            read.push(Tool { name, parameters, definition: function });
        }
    }
    if read.len() > FUNCTIONS_MAX {
        return Err(BadRequest::at("tools", format!("at most {FUNCTIONS_MAX} functions are declared")));
    }
    Ok(read)
}

fn read_choice<'a>(fields: &'a Map<String, Value>, tools: &[Tool<'_>]) -> Result<Choice<'a>, BadRequest> {
    let at = "toolConfig.functionCallingConfig";
    let Some(config) = fields.get("toolConfig").and_then(|config| config.get("functionCallingConfig")) else {
        return Ok(Choice::Auto);
    };
    if tools.is_empty() {
        return Err(BadRequest::at(at, "function calling config is set without function declarations"));
    }
    let allowed = config.get("allowedFunctionNames").and_then(Value::as_array);
    match (config.get("mode").and_then(Value::as_str), allowed.map(Vec::as_slice)) {
        (Some("AUTO"), None) => Ok(Choice::Auto),
        (Some("NONE"), None) => Ok(Choice::None),
        (Some("ANY"), None) => Ok(Choice::Required),
        (Some("ANY"), Some([name])) => match name.as_str().filter(|name| tools.iter().any(|tool| tool.name == *name)) {
            Some(name) => Ok(Choice::Named(name)),
            None => Err(BadRequest::at(at, "an allowed function is not declared")),
        },
        (_, Some(_)) => {
            Err(BadRequest::at(at, "allowed function names go with the mode `ANY`; the simulator takes one"))
        }
        (_, None) => Err(BadRequest::at(at, "the mode must be `AUTO`, `ANY` or `NONE`")),
    }
}

fn read_format(generation: &Map<String, Value>) -> Result<Format<'_>, BadRequest> {
    let schema = generation.get("responseJsonSchema").or_else(|| generation.get("responseSchema"));
    match (generation.get("responseMimeType").and_then(Value::as_str), schema) {
        (None | Some("text/plain"), None) => Ok(Format::Text),
        (Some("application/json"), None) => Ok(Format::Object),
        (Some("application/json"), Some(schema)) => Ok(Format::Schema(schema)),
        (_, _) => Err(BadRequest::at("generationConfig.responseMimeType", "a schema goes with `application/json`")),
    }
}
