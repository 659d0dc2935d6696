//! Decides what is answered to a request, and what it costs: scenario, faults, counts and bill in one place.
//!
//! Pure: the same request, attempt and draw give the same act. Time and sockets are in `serve`.

use axum::http::{HeaderName, HeaderValue};
use serde_json::Value;

use crate::sim::agent::{self, Speech};
use crate::sim::count::{Counter, MESSAGE_TOKENS, PRIMING_TOKENS};
use crate::sim::fault::{Fault, WireError, billed_of_error};
use crate::sim::invoice::Billed;
use crate::sim::rates::Rates;
use crate::sim::request::{BadRequest, Chat, Format, Message, Role};
use crate::sim::scenario::{Pause, Reply, Scenario, When};
use crate::sim::tariff::{Counts, Rate, Serving};
use crate::sim::wire::{Broken, CHUNK_BYTES, Completion, Delta, Shown};
use crate::units::{Millis, Money, Timestamp};

/// Stands for the first tool that is offered, as the name in `loop_tool`.
const ANY_TOOL: &str = "*";
/// Chunks that leave before a cut, where the scenario doesn't say.
const CUT_AFTER: usize = 2;
/// The size of an oversized answer, where the scenario doesn't say.
const OVERSIZED_BYTES: usize = 4 * 1024 * 1024;
/// Bytes of text in one chunk of an oversized answer: its events shouldn't outweigh it many times.
const OVERSIZED_CHUNK_BYTES: usize = 16 * 1024;
/// How far an overrun passes what was asked.
const OVERRUN_TIMES: u64 = 10;
/// How long a slow first token waits, where the scenario doesn't say.
const SLOW_FIRST_TOKEN: Millis = Millis::from_secs(5);
/// What a 429 asks to wait, where the scenario doesn't say.
const RETRY_AFTER: Millis = Millis::from_secs(1);

/// What is done with one request.
#[derive(Debug)]
pub(crate) struct Act {
    pub(crate) model: String,
    pub(crate) fault: Option<Fault>,
    pub(crate) billed: Billed,
    /// Tokens that are billed.
    pub(crate) tokens: Counts,
    pub(crate) amount: Money,
    pub(crate) pace: Pace,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    pub(crate) payload: Payload,
}

/// How fast an answer comes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pace {
    pub(crate) latency: Millis,
    pub(crate) first_token: Millis,
    pub(crate) chunk: Millis,
    pub(crate) frame_bytes: Option<usize>,
}

/// What the answer carries.
#[derive(Debug)]
pub(crate) enum Payload {
    Completion {
        status: u16,
        stream: bool,
        completion: Box<Completion>,
    },
    Raw {
        status: u16,
        content_type: &'static str,
        body: String,
    },
    /// Closes the connection.
    Drop,
    /// Leaves it open.
    Hang,
}

/// What an act depends on besides the request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stage<'a> {
    pub(crate) scenario: &'a Scenario,
    pub(crate) rates: &'a Rates,
    /// The provider that the path names.
    pub(crate) provider: Option<&'a str>,
    /// When the request had been read: prices depend on date and hour.
    pub(crate) at: Timestamp,
    pub(crate) attempt: u64,
    /// From 0 to 9,999: which share of `[faults]` strikes.
    pub(crate) draw: u64,
}

impl Act {
    /// An error that costs nothing.
    pub(crate) fn refuse(model: &str, error: &WireError) -> Self {
        Self {
            model: model.to_owned(),
            fault: None,
            billed: Billed::None,
            tokens: Counts::default(),
            amount: Money::ZERO,
            pace: Pace::default(),
            headers: Vec::new(),
            payload: raw(error),
        }
    }

    /// The refusal of a request that breaks the wire's rules.
    pub(crate) fn bad_request(model: &str, bad: BadRequest) -> Self {
        let mut error = WireError::new(400, "invalid_request_error", bad.code.unwrap_or(""), bad.message);
        error.param = bad.param;
        Self::refuse(model, &error)
    }

    /// The status of the answer; 0 where there is none.
    pub(crate) fn status(&self) -> u16 {
        match &self.payload {
            Payload::Completion { status, .. } | Payload::Raw { status, .. } => *status,
            Payload::Drop | Payload::Hang => 0,
        }
    }
}

impl Stage<'_> {
    /// Decides.
    pub(crate) fn decide(&self, chat: &Chat<'_>) -> Act {
        let Some(rate) = self.rates.find(self.provider, chat.model, self.at) else {
            let message = format!("the model `{}` has no price here; give it one in `[[prices]]`", chat.model);
            return Act::refuse(chat.model, &WireError::new(404, "invalid_request_error", "model_not_found", message));
        };
        let prompt = self.prompt(chat);
        if rate.context.is_some_and(|context| prompt > context) {
            let message = format!("the prompt has {prompt} tokens, more than the model takes");
            let error = WireError::new(400, "invalid_request_error", "context_length_exceeded", message);
            return Act::refuse(chat.model, &error);
        }
        let nothing = Reply::default();
        let reply = self.reply(chat).unwrap_or(&nothing);
        let struck = self.scenario.file.faults.strike(self.draw);
        let fault = struck.or(reply.fault);
        let mut act = match self.error(reply, fault) {
            Some(error) => self.fail(chat, rate, reply, &error, prompt),
            None => self.answer(chat, rate, reply, fault, prompt),
        };
        act.fault = fault;
        act.pace = self.pace(reply, fault);
        act.headers.extend(reply.headers.iter().filter_map(|(name, value)| {
            Some((HeaderName::from_bytes(name.as_bytes()).ok()?, HeaderValue::from_str(value).ok()?))
        }));
        act
    }

    /// The reply that a rule or the list has for this request.
    fn reply(&self, chat: &Chat<'_>) -> Option<&Reply> {
        let rules = &self.scenario.file.rules;
        let fits = |rule: &&Reply| rule.when.as_ref().is_some_and(|when| self.fits(when, chat));
        rules.iter().find(fits).or_else(|| self.scenario.reply(chat.turn()))
    }

    fn fits(&self, when: &When, chat: &Chat<'_>) -> bool {
        when.turn.is_none_or(|turn| turn == chat.turn())
            && when.attempt.is_none_or(|attempt| attempt == self.attempt)
            && when.model.as_ref().is_none_or(|model| model == chat.model)
            && when.tools.is_none_or(|tools| tools == chat.may_call())
            && when.contains.as_ref().is_none_or(|text| chat.messages.iter().any(|message| message.text.contains(text)))
    }

    fn pace(&self, reply: &Reply, fault: Option<Fault>) -> Pace {
        let defaults = &self.scenario.file.defaults;
        let slow = (fault == Some(Fault::SlowFirstToken)).then_some(Pause(SLOW_FIRST_TOKEN));
        Pace {
            latency: reply.latency.unwrap_or(defaults.latency).0,
            first_token: reply.first_token_latency.or(slow).unwrap_or(defaults.first_token_latency).0,
            chunk: reply.chunk_latency.unwrap_or(defaults.chunk_latency).0,
            frame_bytes: reply.frame_bytes,
        }
    }

    fn error(&self, reply: &Reply, fault: Option<Fault>) -> Option<WireError> {
        let bare = || reply.status.filter(|status| fault.is_none() && *status >= 400).map(WireError::of_status);
        let mut error = fault.and_then(Fault::error).or_else(bare)?;
        error.status = reply.status.unwrap_or(error.status);
        if let Some(message) = &reply.message {
            error.message.clone_from(message);
        }
        error.code = reply.code.clone().or(error.code);
        Some(error)
    }

    fn fail(&self, chat: &Chat<'_>, rate: &Rate, reply: &Reply, error: &WireError, prompt: u64) -> Act {
        let failed = self.scenario.file.bill_error.unwrap_or(Billed::Input);
        let billed = reply.billed.unwrap_or_else(|| billed_of_error(error, failed));
        // What failed unseen may have run up to what was asked.
        let whole = Counts { prompt, completion: chat.tokens_max.unwrap_or(1), ..Counts::default() };
        let wait = reply.retry_after.or(self.scenario.file.faults.retry_after).map(|pause| pause.0);
        let wait = wait.or_else(|| (error.status == 429 && error.kind == "rate_limit_error").then_some(RETRY_AFTER));
        let mut act = self.bill(chat.model, rate, billed, whole, 0, raw(error));
        if let Some(Millis(wait)) = wait {
            act.headers.push((HeaderName::from_static("retry-after"), HeaderValue::from(wait.div_ceil(1000))));
            act.headers.push((HeaderName::from_static("retry-after-ms"), HeaderValue::from(wait)));
        }
        act
    }

    fn answer(&self, chat: &Chat<'_>, rate: &Rate, reply: &Reply, fault: Option<Fault>, prompt: u64) -> Act {
        let (mut completion, output) = self.complete(chat, reply, fault);
        let model = reply.model.as_deref().unwrap_or(chat.model);
        let rate = self.rates.find(self.provider, model, self.at).unwrap_or(rate);
        let counts = self.counts(chat, rate, reply, prompt, output);
        completion.model = model.to_owned();
        completion.usage = counts;
        let bill_cut = self.scenario.file.bill_cut.unwrap_or(Billed::SoFar);
        let (billed, so_far) = match completion.broken {
            Broken::Cut(after) | Broken::Error(after) if chat.stream => (bill_cut, self.sent(&completion, after)),
            Broken::Nowhere | Broken::Cut(_) | Broken::Error(_) | Broken::NoDone => (Billed::Whole, counts.completion),
        };
        let unworked = fault == Some(Fault::Redirect);
        let billed = reply.billed.unwrap_or(match fault {
            Some(Fault::Redirect) => Billed::None,
            Some(Fault::PlainError) => self.scenario.file.bill_error.unwrap_or(Billed::Input),
            Some(_) | None => billed,
        });
        let so_far = so_far.min(counts.completion);
        let status = reply.status.unwrap_or(200);
        let mut act = self.bill(model, rate, billed, counts, so_far, payload(chat, fault, status, completion));
        if unworked {
            let elsewhere = HeaderValue::from_static("/elsewhere/v1/chat/completions");
            act.headers.push((HeaderName::from_static("location"), elsewhere));
        }
        act
    }

    /// What the model says, within what was asked, and its output tokens with the reasoning among them.
    fn complete(&self, chat: &Chat<'_>, reply: &Reply, fault: Option<Fault>) -> (Completion, (u64, u64)) {
        let refusal = reply
            .refusal
            .clone()
            .or_else(|| (fault == Some(Fault::Refusal)).then(|| "I'm sorry, but I can't help with that.".to_owned()));
        let speech = if refusal.is_some() { Speech::default() } else { speech(chat, reply, fault) };
        let cap = chat.tokens_max.unwrap_or(u64::MAX);
        let defaults = &self.scenario.file.defaults;
        let reasoning = reply.reasoning_tokens.unwrap_or(0).min(cap);
        let oversized = fault == Some(Fault::Oversized);
        let (speech, mut cut) =
            if oversized { (speech, false) } else { self.within(speech, cap.saturating_sub(reasoning)) };
        let visible = self.output(&speech).saturating_add(refusal.as_ref().map_or(0, |text| self.counter().text(text)));
        let mut output = reasoning.saturating_add(visible).max(1).min(cap);
        if let Some(asked) = reply.output_tokens.or(defaults.output_tokens) {
            cut |= asked > cap;
            output = asked.min(cap);
        }
        if fault == Some(Fault::Overrun) {
            output = chat.tokens_max.unwrap_or(output).saturating_mul(OVERRUN_TIMES);
        }
        let finish = match (&reply.finish, fault, cut, speech.calls.is_empty()) {
            (Some(finish), ..) => finish.as_str(),
            (None, Some(Fault::ContentFilter), ..) => "content_filter",
            (None, _, true, _) => "length",
            (None, _, false, false) => "tool_calls",
            (None, _, false, true) => "stop",
        };
        let completion = Completion {
            text: speech.text,
            calls: speech.calls,
            refusal,
            finish: finish.to_owned(),
            shown: shown(fault),
            broken: broken(fault, reply.cut_after.unwrap_or(CUT_AFTER)),
            choices: if fault == Some(Fault::NoChoices) { 0 } else { chat.choices },
            include_usage: chat.include_usage,
            chunk_bytes: reply.chunk_bytes.or(defaults.chunk_bytes).unwrap_or(if oversized {
                OVERSIZED_CHUNK_BYTES
            } else {
                CHUNK_BYTES
            }),
            ..Completion::default()
        };
        (completion, (output.saturating_mul(chat.choices), reasoning.min(output).saturating_mul(chat.choices)))
    }

    /// What the model says, cut where it passes `tokens_max`; and whether it was cut.
    fn within(&self, mut speech: Speech, tokens_max: u64) -> (Speech, bool) {
        if self.output(&speech) <= tokens_max {
            return (speech, false);
        }
        let counter = self.counter();
        speech.text.truncate(counter.cut(&speech.text, tokens_max).len());
        let mut left = tokens_max.saturating_sub(counter.text(&speech.text));
        speech.calls.retain_mut(|(name, arguments)| {
            let named = counter.text(name);
            let fits = left > named;
            left = left.saturating_sub(named);
            arguments.truncate(counter.cut(arguments, left).len());
            left = left.saturating_sub(counter.text(arguments));
            fits
        });
        (speech, true)
    }

    fn counts(&self, chat: &Chat<'_>, rate: &Rate, reply: &Reply, prompt: u64, output: (u64, u64)) -> Counts {
        let prompt = reply.tokens.input.unwrap_or(prompt);
        let file = &self.scenario.file;
        let cached = reply.tokens.cached.unwrap_or_else(|| if file.cache { self.seen(chat).min(prompt) } else { 0 });
        let writes = file.cache && rate.writes && chat.cache_writes;
        let rest = if writes { prompt.saturating_sub(cached) } else { 0 };
        Counts {
            prompt,
            cached,
            cache_write: reply.tokens.cache_write.unwrap_or(rest),
            cache_write_long: 0,
            completion: reply.tokens.output.unwrap_or(output.0),
            reasoning: reply.tokens.reasoning.unwrap_or(output.1),
        }
    }

    fn bill(&self, model: &str, rate: &Rate, billed: Billed, whole: Counts, so_far: u64, payload: Payload) -> Act {
        let tokens = match billed {
            Billed::None => Counts::default(),
            Billed::Input => Counts { completion: 0, reasoning: 0, ..whole },
            Billed::SoFar => Counts { completion: so_far, reasoning: whole.reasoning.min(so_far), ..whole },
            Billed::Whole => whole,
        };
        Act {
            model: model.to_owned(),
            fault: None,
            billed,
            tokens,
            amount: if billed == Billed::None { Money::ZERO } else { self.amount(rate, &tokens) },
            pace: Pace::default(),
            headers: Vec::new(),
            payload,
        }
    }

    /// By the ordinary tier. A class without a price is charged as if the cache had no part in it.
    fn amount(&self, rate: &Rate, tokens: &Counts) -> Money {
        let serving = Serving::ordinary(self.at);
        let plain = Counts { cached: 0, cache_write: 0, cache_write_long: 0, ..*tokens };
        rate.amount(tokens, &serving).or_else(|| rate.amount(&plain, &serving)).unwrap_or_default()
    }

    fn counter(&self) -> Counter {
        self.scenario.counter
    }

    /// Tokens of the whole prompt.
    fn prompt(&self, chat: &Chat<'_>) -> u64 {
        let format = match chat.format {
            Format::Text | Format::Object => 0,
            Format::Schema(schema) => self.rendered(schema),
        };
        let tools: u64 = chat.tools.iter().map(|tool| self.rendered(tool.definition)).sum();
        PRIMING_TOKENS + tools + format + chat.messages.iter().map(|message| self.message(message)).sum::<u64>()
    }

    /// Tokens of the part of the prompt that this conversation's last request had sent already.
    fn seen(&self, chat: &Chat<'_>) -> u64 {
        let Some(last) = chat.messages.iter().rposition(|message| message.role == Role::Assistant) else { return 0 };
        let tools: u64 = chat.tools.iter().map(|tool| self.rendered(tool.definition)).sum();
        tools + chat.messages.iter().take(last).map(|message| self.message(message)).sum::<u64>()
    }

    fn message(&self, message: &Message<'_>) -> u64 {
        let counter = self.counter();
        let calls = message.calls.iter().map(|call| counter.rendered(call.name) + counter.rendered(call.arguments));
        MESSAGE_TOKENS + counter.text(&message.text) + calls.sum::<u64>()
    }

    /// Tokens of a definition, of which the server keeps the words and not the form.
    fn rendered(&self, value: &Value) -> u64 {
        match self.counter() {
            counter @ Counter::Bytes { .. } => counter.rendered(&value.to_string()),
            counter @ Counter::Pieces => words(counter, value),
        }
    }

    fn output(&self, speech: &Speech) -> u64 {
        let counter = self.counter();
        let calls = speech.calls.iter().map(|(name, arguments)| counter.text(name) + counter.text(arguments));
        counter.text(&speech.text) + calls.sum::<u64>()
    }

    /// Output tokens in the first `after` chunks.
    fn sent(&self, completion: &Completion, after: usize) -> u64 {
        let pieces = completion.deltas().into_iter().take(after).map(|delta| match delta {
            Delta::Role => "",
            Delta::Text(text) | Delta::Refusal(text) | Delta::CallPart(_, text) => text,
            Delta::CallStart(index) => completion.calls.get(index).map_or("", |(name, _)| name.as_str()),
        });
        self.counter().text(&pieces.collect::<String>())
    }
}

/// Words of keys, texts and numbers, wherever they stand.
fn words(counter: Counter, value: &Value) -> u64 {
    match value {
        Value::Null | Value::Bool(_) => 1,
        Value::Number(number) => counter.rendered(&number.to_string()),
        Value::String(text) => counter.rendered(text),
        Value::Array(items) => items.iter().map(|item| words(counter, item)).sum(),
        Value::Object(fields) => fields.iter().map(|(key, value)| counter.rendered(key) + words(counter, value)).sum(),
    }
}

/// What the reply or, where it says nothing, the built-in agent says.
fn speech(chat: &Chat<'_>, reply: &Reply, fault: Option<Fault>) -> Speech {
    let turn = |text: &str| text.replace("{turn}", &chat.turn().to_string());
    let written = match (&reply.text, &reply.json) {
        (Some(text), _) => Some(turn(text)),
        (None, Some(json)) => Some(turn(&json.0.to_string())),
        (None, None) => None,
    };
    let calls = if chat.may_call() { scripted_calls(chat, reply, fault) } else { Vec::new() };
    if fault == Some(Fault::Oversized) {
        let bytes = reply.bytes.unwrap_or(OVERSIZED_BYTES);
        let text = written.filter(|text| !text.is_empty()).unwrap_or_else(|| "far too much ".to_owned());
        return Speech { text: text.repeat(bytes.div_ceil(text.len())), calls: Vec::new() };
    }
    match (written, calls.is_empty()) {
        (written, false) => {
            let calls = calls.into_iter().map(|(name, arguments)| (name, turn(&arguments))).collect();
            Speech { text: written.unwrap_or_default(), calls }
        }
        (Some(text), true) => Speech { text, calls },
        (None, true) => agent::play(chat),
    }
}

fn scripted_calls(chat: &Chat<'_>, reply: &Reply, fault: Option<Fault>) -> Vec<(String, String)> {
    let as_sent = |arguments: &Value| arguments.as_str().map_or_else(|| arguments.to_string(), str::to_owned);
    let mut calls: Vec<_> =
        reply.tool_calls.iter().map(|call| (call.name.clone(), as_sent(&call.arguments.0))).collect();
    let offered = || chat.tools.first().map_or("tool", |tool| tool.name).to_owned();
    if let Some(name) = &reply.loop_tool {
        let name = if name == ANY_TOOL { offered() } else { name.clone() };
        let drawn = || agent::arguments(chat, &name);
        let arguments = reply.arguments.as_ref().map_or_else(drawn, |arguments| as_sent(&arguments.0));
        calls.push((name, arguments));
    }
    match fault {
        Some(Fault::UnknownTool) if calls.is_empty() => calls.push(("no_such_tool".to_owned(), "{}".to_owned())),
        Some(Fault::InvalidArguments) => {
            let name = calls.first().map_or_else(offered, |(name, _)| name.clone());
            calls = vec![(name, "{\"half\": ".to_owned())];
        }
        Some(_) | None => {}
    }
    calls
}

fn shown(fault: Option<Fault>) -> Shown {
    match fault {
        Some(Fault::MissingUsage) => Shown::Missing,
        Some(Fault::NullUsage) => Shown::Null,
        Some(Fault::GarbageUsage) => Shown::Garbage,
        Some(Fault::DuplicateUsage) => Shown::Twice,
        Some(Fault::UsageEveryChunk) => Shown::EveryChunk,
        Some(_) | None => Shown::Once,
    }
}

fn broken(fault: Option<Fault>, after: usize) -> Broken {
    match fault {
        Some(Fault::CutStream) => Broken::Cut(after),
        Some(Fault::StreamError) => Broken::Error(after),
        Some(Fault::NoDone) => Broken::NoDone,
        Some(_) | None => Broken::Nowhere,
    }
}

fn payload(chat: &Chat<'_>, fault: Option<Fault>, status: u16, completion: Completion) -> Payload {
    let stream = chat.stream;
    match fault {
        Some(Fault::Hang) => Payload::Hang,
        Some(Fault::Drop) => Payload::Drop,
        Some(Fault::PlainError) => {
            Payload::Raw { status: 500, content_type: "text/plain", body: "upstream connect error".to_owned() }
        }
        Some(Fault::Redirect) => Payload::Raw { status: 307, content_type: "text/plain", body: String::new() },
        Some(Fault::WrongType) => Payload::Raw {
            status,
            content_type: "text/html",
            body: "<!doctype html><title>Sign in</title><p>Please sign in to the network.".to_owned(),
        },
        Some(Fault::Garbage) if stream => {
            Payload::Raw { status, content_type: "text/event-stream", body: "data: {\"id\":\"chatcmpl-\n\n".to_owned() }
        }
        Some(Fault::Garbage) => {
            Payload::Raw { status, content_type: "application/json", body: "{\"id\":\"chatcmpl-".to_owned() }
        }
        Some(Fault::StreamError) if !stream => {
            let error = WireError::new(status, "server_error", "", "the server had an error while it answered");
            raw(&error)
        }
        Some(_) | None => Payload::Completion { status, stream, completion: Box::new(completion) },
    }
}

fn raw(error: &WireError) -> Payload {
    Payload::Raw { status: error.status, content_type: "application/json", body: error.body() }
}
