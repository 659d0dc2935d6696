//! From a provider-neutral request to the body of `generateContent`.
//!
//! Invariants: the same request gives the same bytes; the output is capped; of `extra` only fields go out that are known
//! not to change what a call can cost.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::thinking;
use crate::domain::message::{
    Assistant, Form, Message, OutputSchema, Request, Sent, ToolAnswer, ToolCall, ToolChoice, ToolDefinition,
};
use crate::ids::{ModelName, ToolName};
use crate::provider::{ProviderError, check_files};
use crate::spec::project::ProviderConfig;

/// Fields of `generationConfig` that `extra` may set.
const SAMPLING_FIELDS: &[&str] =
    &["topP", "topK", "presencePenalty", "frequencyPenalty", "responseLogprobs", "logprobs"];
/// Fields beside it that `extra` may set; `labels` are for Vertex, whose bill they split.
const REQUEST_FIELDS: &[&str] = &["safetySettings", "labels"];
/// What stands for a signature on calls of another model, which have none: Gemini 3 refuses calls without one. Google's
/// words (ai.google.dev, "Thought signatures", questions and answers, read 2026-11-30).
const NO_SIGNATURE: &str = "skip_thought_signature_validator";
/// Asks for the answer's form where the wire's own means can't be used beside tools. With what is counted around a schema
/// (`tokenize::SCHEMA_FRAME`, and the frames of tools and request) it is within the bound.
const ASK_FOR_JSON: &str = "Once you answer, answer with JSON only, by this JSON Schema: ";

/// The body of a request, as it goes out.
///
/// # Errors
/// A field of `extra` that isn't the author's to set, an effort that is none, and files that the model doesn't take.
pub(super) fn encode(config: &ProviderConfig, request: &Request) -> Result<Vec<u8>, ProviderError> {
    check_files(config, request)?;
    let rest = rest(config, request)?;
    let rest = serde_json::to_vec(&rest).expect("a request has string keys only");
    let mut body = br#"{"contents":["#.to_vec();
    write_contents(&mut body, request);
    body.extend_from_slice(b"],");
    write_tools(&mut body, &request.tools);
    body.extend_from_slice(rest.get(1..).unwrap_or_default());
    Ok(body)
}

/// The body that asks what a request counts: the whole of it, with its model.
pub(super) fn to_count(config: &ProviderConfig, request: &Request) -> Result<Vec<u8>, ProviderError> {
    let mut whole: Map<String, Value> = serde_json::from_slice(&encode(config, request)?).expect("a body is an object");
    whole.insert("model".into(), format!("models/{}", request.model.model()).into());
    Ok(json!({"generateContentRequest": whole}).to_string().into_bytes())
}

/// Who speaks in a content. Answers of tools have contents of their own, right after the calls that they answer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Speaker {
    User,
    Tools,
    Model,
}

impl Speaker {
    const fn of(message: &Message) -> Option<Self> {
        match message {
            Message::System { .. } => None,
            Message::User { .. } | Message::File(_) => Some(Self::User),
            Message::Tool(_) => Some(Self::Tools),
            Message::Assistant(_) => Some(Self::Model),
        }
    }

    const fn role(self) -> &'static str {
        match self {
            Self::User | Self::Tools => "user",
            Self::Model => "model",
        }
    }
}

/// The conversation, as contents of parts: what one speaker says in a row is one content.
fn write_contents(body: &mut Vec<u8>, request: &Request) {
    let mut open = None;
    for message in said(request) {
        let Some(speaker) = Speaker::of(message) else { continue };
        let parts = parts(message, &request.model);
        if parts.is_empty() {
            continue;
        }
        if open == Some(speaker) {
            body.push(b',');
        } else {
            body.extend_from_slice(if open.is_some() { b"]}," } else { b"" });
            body.extend_from_slice(format!(r#"{{"role":"{}","parts":["#, speaker.role()).as_bytes());
            open = Some(speaker);
        }
        body.extend_from_slice(parts.as_bytes());
    }
    body.extend_from_slice(if open.is_some() { b"]}" } else { b"" });
}

/// The messages that go out. Where the model paused, its token stands for what it said since (`google-genai`'s own client
/// sends the contents of before with it).
fn said(request: &Request) -> &[Sent] {
    let is_paused = |sent: &&Sent| continuation(sent, &request.model).is_some();
    let paused = request.messages.iter().rev().take_while(is_paused).count();
    &request.messages[..request.messages.len() - paused]
}

/// The token of a pause, where this model was the one that paused.
fn continuation<'a>(message: &'a Message, model: &ModelName) -> Option<&'a Value> {
    let Message::Assistant(Assistant { continuation: Some(opaque), calls, .. }) = message else { return None };
    let is_own = opaque.is_for(Form::Gemini, model) && calls.is_empty();
    opaque.block.get("continuationToken").filter(|_| is_own)
}

/// A message's parts, joined by commas; encoded when they first go out.
fn parts<'a>(message: &'a Sent, model: &ModelName) -> Cow<'a, str> {
    if let Message::Assistant(said) = &**message
        && is_unsigned(said, model)
    {
        // What stands for a missing signature depends on the model, so this isn't kept.
        return Cow::Owned(encoded(message, model));
    }
    message.fragment(Form::Gemini, model, |message| encoded(message, model).into_boxed_str())
}

/// True of calls that another model made, or one that doesn't sign them.
fn is_unsigned(said: &Assistant, model: &ModelName) -> bool {
    !said.calls.is_empty() && said.returned_to(Form::Gemini, model).next().is_none()
}

fn encoded(message: &Message, model: &ModelName) -> String {
    let parts = match message {
        Message::System { text } | Message::User { text } => vec![json!({"text": text})],
        Message::File(file) => {
            vec![json!({"inlineData": {"mimeType": file.media().name(), "data": file.data()}})]
        }
        Message::Assistant(said) => model_parts(said, model),
        Message::Tool(answer) => vec![tool_part(answer)],
    };
    let texts: Vec<String> = parts.iter().map(Value::to_string).collect();
    texts.join(",")
}

/// What the model said: its own parts unchanged where it signed some, else text and calls.
fn model_parts(said: &Assistant, model: &ModelName) -> Vec<Value> {
    let own: Vec<Value> = said.returned_to(Form::Gemini, model).map(|opaque| opaque.block.clone()).collect();
    if !own.is_empty() {
        return own;
    }
    let text = if said.text.is_empty() { said.refusal.as_deref().unwrap_or_default() } else { &said.text };
    let text = (!text.is_empty()).then(|| json!({"text": text}));
    let signs = thinking::signs_calls(model.model());
    let calls = said.calls.iter().enumerate().map(|(index, call)| {
        let mut part = json!({"functionCall": call_body(call)});
        // Of calls that were made together the first is the one that is signed.
        if signs && index == 0 {
            part["thoughtSignature"] = NO_SIGNATURE.into();
        }
        part
    });
    text.into_iter().chain(calls).collect()
}

fn call_body(call: &ToolCall) -> Value {
    let arguments = serde_json::from_str::<Map<String, Value>>(&call.arguments);
    // What is no object has no place on this wire; the model sees what was written.
    let arguments = arguments.map_or_else(|_| json!({"arguments": call.arguments}), Value::Object);
    with_id(&call.id, json!({"name": call.name, "args": arguments}))
}

fn tool_part(answer: &ToolAnswer) -> Value {
    let key = if answer.is_error { "error" } else { "output" };
    let body = json!({"name": answer.name, "response": {key: answer.content}});
    json!({"functionResponse": with_id(&answer.call_id, body)})
}

/// A call's id goes out where a provider gave it. Calls that came without one have an id of ours, and are told apart by
/// their order.
fn with_id(id: &str, mut body: Value) -> Value {
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let is_ours = id.strip_prefix("call_").is_some_and(|rest| rest.split('_').all(digits));
    if !is_ours {
        body["id"] = id.into();
    }
    body
}

/// All but the contents and the tools; never empty.
fn rest(config: &ProviderConfig, request: &Request) -> Result<Map<String, Value>, ProviderError> {
    let mut rest = Map::new();
    let asked = request.output.as_deref().filter(|_| !is_native(config, request));
    let mut instructions: Vec<Value> = request
        .messages
        .iter()
        .filter(|message| matches!(&***message, Message::System { .. }))
        .map(|message| json!({"text": message.text()}))
        .collect();
    instructions.extend(asked.map(|output| json!({"text": format!("{ASK_FOR_JSON}{}", output.schema)})));
    if !instructions.is_empty() {
        rest.insert("systemInstruction".into(), json!({"parts": instructions}));
    }
    if !request.tools.is_empty() {
        rest.insert("toolConfig".into(), json!({"functionCallingConfig": choice(&request.tool_choice)}));
    }
    let mut generation = generation(request)?;
    generation.extend(resolution(request).map(|word| ("mediaResolution".to_owned(), word.into())));
    if let Some(output) = request.output.as_deref().filter(|_| asked.is_none()) {
        with_schema(&mut generation, output);
    }
    for (field, value) in &request.sampling.extra {
        let place = match field.as_str() {
            name if SAMPLING_FIELDS.contains(&name) => &mut generation,
            name if REQUEST_FIELDS.contains(&name) => &mut rest,
            _ => return Err(ProviderError::ExtraField { model: request.model.clone(), field: field.clone() }),
        };
        place.insert(field.clone(), value.clone());
    }
    rest.insert("generationConfig".into(), generation.into());
    // Left out it is what the provider takes for its default: here the price is pinned.
    rest.insert("serviceTier".into(), "standard".into());
    if let Some(token) = request.messages.last().and_then(|last| continuation(last, &request.model)) {
        rest.insert("continuationToken".into(), token.clone());
    }
    Ok(rest)
}

/// How closely files are looked at, where there are some: pinned, since what an image counts goes by it. Before Gemini 3 a
/// closer look counts crops without a bound.
fn resolution(request: &Request) -> Option<&'static str> {
    let has_files = request.messages.iter().any(|message| matches!(**message, Message::File(_)));
    let is_flat = thinking::is_since(request.model.model(), 3);
    has_files.then_some(if is_flat { "MEDIA_RESOLUTION_HIGH" } else { "MEDIA_RESOLUTION_MEDIUM" })
}

/// Whether the answer's form is asked for by the wire's own means. Models before Gemini 3 refuse that beside functions:
/// there the form is asked for in words, and the answer is checked and mended as any other.
fn is_native(config: &ProviderConfig, request: &Request) -> bool {
    let beside_tools = !request.tools.is_empty() && request.tool_choice != ToolChoice::None;
    let able = config.abilities(&request.model).json_schema;
    !able.is_no() && (!beside_tools || thinking::is_since(request.model.model(), 3))
}

fn with_schema(generation: &mut Map<String, Value>, output: &OutputSchema) {
    generation.insert("responseMimeType".into(), "application/json".into());
    generation.insert("responseJsonSchema".into(), output.schema.clone());
}

fn generation(request: &Request) -> Result<Map<String, Value>, ProviderError> {
    let sampling = &request.sampling;
    let mut generation = Map::new();
    generation.insert("maxOutputTokens".into(), request.max_output_tokens.into());
    if let Some(temperature) = &sampling.temperature {
        generation.insert("temperature".into(), temperature.clone().into());
    }
    if let Some(seed) = sampling.seed {
        generation.insert("seed".into(), seed.into());
    }
    if !sampling.stop.is_empty() {
        generation.insert("stopSequences".into(), json!(sampling.stop));
    }
    if let Some(thinking) = thinking::config(request)? {
        generation.insert("thinkingConfig".into(), thinking);
    }
    Ok(generation)
}

/// One tool, as the wire has it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Declaration<'a> {
    name: &'a ToolName,
    description: &'a str,
    parameters_json_schema: &'a Value,
}

/// The field of the tools, where there are some. They are many in each request, so that they are written as they stand.
fn write_tools(body: &mut Vec<u8>, tools: &[ToolDefinition]) {
    if tools.is_empty() {
        return;
    }
    let declarations: Vec<Declaration<'_>> = tools.iter().map(declaration).collect();
    body.extend_from_slice(br#""tools":[{"functionDeclarations":"#);
    serde_json::to_writer(&mut *body, &declarations).expect("tools have string keys only");
    body.extend_from_slice(b"}],");
}

const fn declaration(tool: &ToolDefinition) -> Declaration<'_> {
    let ToolDefinition { name, description, parameters } = tool;
    Declaration { name, description: description.as_str(), parameters_json_schema: parameters }
}

/// There is no word for one call at a time: the model may ask for several, whatever `parallel_calls` says.
fn choice(choice: &ToolChoice) -> Value {
    match choice {
        ToolChoice::Auto => json!({"mode": "AUTO"}),
        ToolChoice::Required => json!({"mode": "ANY"}),
        ToolChoice::Named(name) => json!({"mode": "ANY", "allowedFunctionNames": [name]}),
        ToolChoice::None => json!({"mode": "NONE"}),
    }
}
