//! A request as the simulated provider understands it, whichever wire it came over.

use std::borrow::Cow;

use serde_json::Value;

/// Why a request is refused with status 400.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BadRequest {
    pub(crate) message: String,
    pub(crate) param: Option<String>,
    pub(crate) code: Option<&'static str>,
}

impl BadRequest {
    pub(crate) fn at(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self { message: message.into(), param: Some(param.into()), code: Some("invalid_value") }
    }

    pub(crate) fn kind(param: impl Into<String>, expected: &str) -> Self {
        let param = param.into();
        Self { message: format!("`{param}` must be {expected}"), param: Some(param), code: Some("invalid_type") }
    }

    pub(crate) fn missing(param: impl Into<String>) -> Self {
        let param = param.into();
        let message = format!("missing required parameter `{param}`");
        Self { message, param: Some(param), code: Some("missing_required_parameter") }
    }

    pub(crate) fn unsupported(param: &str, message: String) -> Self {
        Self { message, param: Some(param.to_owned()), code: Some("unsupported_parameter") }
    }
}

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Instructions: `system` and `developer`.
    System,
    User,
    Assistant,
    Tool,
}

/// One message.
#[derive(Clone, Debug)]
pub(crate) struct Message<'a> {
    pub(crate) role: Role,
    pub(crate) text: Cow<'a, str>,
    pub(crate) calls: Vec<Call<'a>>,
    /// The call that a tool message answers.
    pub(crate) call_id: Option<Cow<'a, str>>,
    /// Tokens of what is no text, as this wire counts it: files, and reasoning that is given back.
    pub(crate) other_tokens: u64,
}

impl<'a> Message<'a> {
    /// A message of text alone.
    pub(crate) fn text(role: Role, text: impl Into<Cow<'a, str>>) -> Self {
        Self { role, text: text.into(), calls: Vec::new(), call_id: None, other_tokens: 0 }
    }
}

/// One tool call in an assistant message.
#[derive(Clone, Debug)]
pub(crate) struct Call<'a> {
    pub(crate) id: Cow<'a, str>,
    pub(crate) name: &'a str,
    /// As JSON text.
    pub(crate) arguments: Cow<'a, str>,
}

/// One tool that is offered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tool<'a> {
    pub(crate) name: &'a str,
    pub(crate) parameters: Option<&'a Value>,
    /// The whole definition, for counting.
    pub(crate) definition: &'a Value,
}

/// Whether tools may or must be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Choice<'a> {
    Auto,
    None,
    Required,
    Named(&'a str),
}

/// The form of the answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Format<'a> {
    Text,
    Object,
    Schema(&'a Value),
}

/// What of a prompt is cached, where the scenario caches at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Caching {
    /// What an earlier turn sent is read, and the rest is written where writing has a price.
    ByItself,
    /// The same, but nothing is written.
    ReadOnly,
    /// The prompt up to a mark behind so many messages: what of it an earlier turn sent is read, the rest is written.
    Marked {
        /// How many messages stand before the last mark; none where it stands on tools.
        messages: usize,
        /// True for the longer time to live.
        long: bool,
    },
    /// Nothing.
    Never,
}

/// A request that keeps its wire's rules.
#[derive(Clone, Debug)]
pub(crate) struct Chat<'a> {
    pub(crate) model: &'a str,
    pub(crate) messages: Vec<Message<'a>>,
    pub(crate) tools: Vec<Tool<'a>>,
    pub(crate) choice: Choice<'a>,
    pub(crate) parallel_calls: bool,
    pub(crate) format: Format<'a>,
    pub(crate) tokens_max: Option<u64>,
    pub(crate) choices: u64,
    pub(crate) stream: bool,
    pub(crate) include_usage: bool,
    pub(crate) caching: Caching,
    /// True where the model thinks before it answers, even if the scenario doesn't say so.
    pub(crate) thinks: bool,
    /// Input tokens that the provider adds of its own accord, such as a prompt about tools.
    pub(crate) hidden_tokens: u64,
    /// What the tokens cost, in hundredths of the model's rates: the place and the speed that were asked for.
    pub(crate) rate_percent: u64,
    /// The most searches of the web, where the provider may make some by itself.
    pub(crate) searches_max: Option<u64>,
}

impl<'a> Chat<'a> {
    /// A request for text by a model, and nothing more.
    pub(crate) fn new(model: &'a str, messages: Vec<Message<'a>>) -> Self {
        Self {
            model,
            messages,
            tools: Vec::new(),
            choice: Choice::Auto,
            parallel_calls: true,
            format: Format::Text,
            tokens_max: None,
            choices: 1,
            stream: false,
            include_usage: true,
            caching: Caching::ByItself,
            thinks: false,
            hidden_tokens: 0,
            rate_percent: 100,
            searches_max: None,
        }
    }

    /// Assistant messages so far: the turn of the conversation that is asked for, from 0.
    pub(crate) fn turn(&self) -> u64 {
        let count = self.messages.iter().filter(|message| message.role == Role::Assistant).count();
        u64::try_from(count).unwrap_or(u64::MAX)
    }

    /// True where the model may call tools.
    pub(crate) fn may_call(&self) -> bool {
        !self.tools.is_empty() && self.choice != Choice::None
    }
}
