//! Decides what is answered to a request, and what it costs: scenario, faults, counts and bill in one place.
//!
//! Pure: the same request, attempt and draw give the same act. Time and sockets are in `serve`.

use axum::http::{HeaderName, HeaderValue};
use serde_json::Value;

use crate::sim::agent::{self, Speech};
use crate::sim::chat::{BadRequest, Caching, Chat, Format, Message, Role};
use crate::sim::completion::{Broken, CHUNK_BYTES, Completion, Finish, Shown};
use crate::sim::count::{Counter, MESSAGE_TOKENS, PRIMING_TOKENS};
use crate::sim::fault::{Fault, WireError};
use crate::sim::invoice::Billed;
use crate::sim::rates::{Counts, Rate, Rates, Serving};
use crate::sim::scenario::{Pause, Reply, Scenario, When};
use crate::sim::search::Searches;
use crate::sim::wire::Dialect;
use crate::units::{Millis, Money, Timestamp};

/// The unit that a search of the web is billed as.
const SEARCH: &str = "web_search";
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
/// Reasoning tokens of a model that thinks, where the scenario doesn't say.
const REASONING_TOKENS: u64 = 24;
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
    /// Searches of the web that are billed.
    pub(crate) searches: u64,
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
    pub(crate) wire: &'static dyn Dialect,
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
    pub(crate) fn refuse(wire: &dyn Dialect, model: &str, error: &WireError) -> Self {
        Self {
            model: model.to_owned(),
            fault: None,
            billed: Billed::None,
            tokens: Counts::default(),
            searches: 0,
            amount: Money::ZERO,
            pace: Pace::default(),
            headers: Vec::new(),
            payload: raw(wire, error),
        }
    }

    /// The refusal of a request that breaks the wire's rules.
    pub(crate) fn bad_request(wire: &dyn Dialect, model: &str, bad: BadRequest) -> Self {
        let BadRequest { message, param, code } = bad;
        let error = WireError::of(wire, Fault::BadRequest, message);
        Self::refuse(wire, model, &WireError { param, code: code.map(str::to_owned), ..error })
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
            return Act::refuse(self.wire, chat.model, &WireError::of(self.wire, Fault::NotFound, message));
        };
        if chat.searches_max.is_some() && !rate.has_fee(SEARCH) {
            let message = format!("a search has no price here for the model `{}`", chat.model);
            return Act::refuse(self.wire, chat.model, &WireError::of(self.wire, Fault::BadRequest, message));
        }
        let prompt = self.prompt(chat);
        if rate.context.is_some_and(|context| prompt > context) {
            let message = format!("prompt is too long: it has {prompt} tokens, more than the model takes");
            let error = WireError::of(self.wire, Fault::ContextLength, message);
            return self.fail(chat, rate, &Reply::default(), &error, prompt);
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
        let bare = reply.status.filter(|status| fault.is_none() && *status >= 400);
        let of_fault = |fault: Fault| fault.error().map(|(_, message)| WireError::of(self.wire, fault, message));
        let mut error = fault.and_then(of_fault).or_else(|| Some(WireError::of_status(self.wire, bare?)))?;
        error.status = reply.status.unwrap_or(error.status);
        if let Some(message) = &reply.message {
            error.message.clone_from(message);
        }
        error.code = reply.code.clone().or(error.code);
        let wait = reply.retry_after.or(self.scenario.file.faults.retry_after).map(|pause| pause.0);
        error.wait = wait.or_else(|| (error.status == 429 && fault != Some(Fault::Quota)).then_some(RETRY_AFTER));
        Some(error)
    }

    fn fail(&self, chat: &Chat<'_>, rate: &Rate, reply: &Reply, error: &WireError, prompt: u64) -> Act {
        let failed = self.scenario.file.bill_error.unwrap_or(Billed::Input);
        let billed = reply.billed.unwrap_or_else(|| self.wire.error_cost(error, failed));
        // What failed unseen may have run up to what was asked.
        let whole = Counts { prompt, completion: chat.tokens_max.unwrap_or(1), ..Counts::default() };
        let mut act = self.bill(chat, chat.model, rate, billed, whole, (0, 0), raw(self.wire, error));
        act.headers.extend(error.wait.into_iter().flat_map(|wait| self.wire.wait_headers(wait)));
        act
    }

    fn answer(&self, chat: &Chat<'_>, rate: &Rate, reply: &Reply, fault: Option<Fault>, prompt: u64) -> Act {
        let (mut completion, output) = self.complete(chat, reply, fault);
        let named = reply.model.as_deref();
        let rate = named.and_then(|model| self.rates.find(self.provider, model, self.at)).unwrap_or(rate);
        let base_model = self.rates.base_model(self.provider, chat.model);
        let model = named.or(base_model).unwrap_or(chat.model);
        let searches = Searches::of(chat.searches_max, reply.web_searches.unwrap_or_default());
        let (output, searched) = ((output.0 + searches.output(), output.1), searches.prompt(prompt, rate.context));
        let counts = self.counts(chat, rate, reply, searched, output);
        completion.model = model.to_owned();
        completion.usage = counts;
        completion.searches = searches.made;
        let bill_cut = self.scenario.file.bill_cut.unwrap_or(Billed::SoFar);
        let (billed, so_far) = match completion.broken {
            Broken::Cut(after) | Broken::Error(after) if chat.stream => (bill_cut, self.sent(&completion, after)),
            Broken::Nowhere | Broken::Cut(_) | Broken::Error(_) | Broken::NoDone => {
                (self.wire.answer_cost(&completion), counts.completion)
            }
        };
        let unworked = fault == Some(Fault::Redirect);
        let billed = reply.billed.unwrap_or(match fault {
            Some(Fault::Redirect) => Billed::None,
            Some(Fault::PlainError) => self.scenario.file.bill_error.unwrap_or(Billed::Input),
            Some(_) | None => billed,
        });
        let so_far = so_far.min(counts.completion);
        let status = reply.status.unwrap_or(200);
        let payload = self.payload(chat, fault, status, completion);
        let mut act = self.bill(chat, model, rate, billed, counts, (so_far, searches.made), payload);
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
        let silent = refusal.is_some() && reply.text.is_none();
        let speech = if silent { Speech::default() } else { speech(chat, reply, fault) };
        let cap = chat.tokens_max.unwrap_or(u64::MAX);
        let defaults = &self.scenario.file.defaults;
        let unasked = if chat.thinks && !silent { REASONING_TOKENS } else { 0 };
        let reasoning = reply.reasoning_tokens.unwrap_or(unasked).min(cap);
        let oversized = fault == Some(Fault::Oversized);
        let (speech, mut cut) =
            if oversized { (speech, false) } else { self.within(speech, cap.saturating_sub(reasoning)) };
        let counted = refusal.as_ref().filter(|_| self.wire.refusal_is_output());
        let visible = self.output(&speech).saturating_add(counted.map_or(0, |text| self.counter().text(text)));
        let mut output = reasoning.saturating_add(visible).max(1).min(cap);
        if let Some(asked) = reply.output_tokens.or(defaults.output_tokens) {
            cut |= asked > cap;
            output = asked.min(cap);
        }
        if fault == Some(Fault::Overrun) {
            output = chat.tokens_max.unwrap_or(output).saturating_mul(OVERRUN_TIMES);
        }
        let finish = match (&reply.finish, fault, cut, speech.calls.is_empty()) {
            (Some(finish), ..) => Finish::Given(finish.clone()),
            (None, Some(Fault::ContentFilter), ..) => Finish::Filter,
            (None, _, true, _) => Finish::Length,
            (None, _, false, false) => Finish::Calls,
            (None, _, false, true) => Finish::Stop,
        };
        let completion = Completion {
            text: speech.text,
            calls: speech.calls,
            refusal,
            category: reply.category.clone(),
            finish,
            shown: shown(fault),
            broken: broken(fault, reply.cut_after.unwrap_or(CUT_AFTER)),
            choices: if fault == Some(Fault::NoChoices) { 0 } else { chat.choices },
            include_usage: chat.include_usage,
            rate_percent: chat.rate_percent,
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
        let cache = if file.cache { chat.caching } else { Caching::Never };
        let reach = match cache {
            Caching::Marked { messages, .. } => self.tools(chat) + self.messages(chat, messages),
            Caching::ByItself | Caching::ReadOnly => prompt,
            Caching::Never => 0,
        };
        let cached = reply.tokens.cached.unwrap_or_else(|| self.seen(chat).min(reach).min(prompt));
        let written = match cache {
            Caching::ByItself if !rate.writes => 0,
            Caching::ByItself | Caching::Marked { .. } => reach.min(prompt).saturating_sub(cached),
            Caching::ReadOnly | Caching::Never => 0,
        };
        let long = matches!(cache, Caching::Marked { long: true, .. });
        let (short, long) = if long { (0, written) } else { (written, 0) };
        Counts {
            prompt,
            cached,
            cache_write: reply.tokens.cache_write.unwrap_or(short),
            cache_write_long: reply.tokens.cache_write_long.unwrap_or(long),
            completion: reply.tokens.output.unwrap_or(output.0),
            reasoning: reply.tokens.reasoning.unwrap_or(output.1),
        }
    }

    #[expect(clippy::too_many_arguments, reason = "each is one part of the line on the invoice")]
    fn bill(
        &self,
        chat: &Chat<'_>,
        model: &str,
        rate: &Rate,
        billed: Billed,
        whole: Counts,
        (so_far, searches): (u64, u64),
        payload: Payload,
    ) -> Act {
        let searches = if billed == Billed::None { 0 } else { searches };
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
            searches,
            amount: match billed {
                Billed::None => Money::ZERO,
                Billed::Input | Billed::SoFar | Billed::Whole => {
                    self.amount(rate, &tokens, searches, chat.rate_percent)
                }
            },
            pace: Pace::default(),
            headers: Vec::new(),
            payload,
        }
    }

    /// By the ordinary tier. A class without a price is charged as if the cache had no part in it.
    fn amount(&self, rate: &Rate, tokens: &Counts, searches: u64, percent: u64) -> Money {
        let fees = [(SEARCH.to_owned(), searches)].into();
        let serving = Serving { percent: Some(percent), fees, ..Serving::ordinary(self.at) };
        let plain = Counts { cached: 0, cache_write: 0, cache_write_long: 0, ..*tokens };
        rate.amount(tokens, &serving).or_else(|| rate.amount(&plain, &serving)).unwrap_or_default()
    }

    fn counter(&self) -> Counter {
        self.scenario.counter
    }

    /// Tokens of the whole prompt.
    pub(crate) fn prompt(&self, chat: &Chat<'_>) -> u64 {
        let format = match chat.format {
            Format::Text | Format::Object => 0,
            Format::Schema(schema) => self.rendered(schema),
        };
        let all = self.messages(chat, chat.messages.len());
        PRIMING_TOKENS + chat.hidden_tokens + self.tools(chat) + format + all
    }

    fn tools(&self, chat: &Chat<'_>) -> u64 {
        chat.tools.iter().map(|tool| self.rendered(tool.definition)).sum()
    }

    /// Tokens of the first messages.
    fn messages(&self, chat: &Chat<'_>, count: usize) -> u64 {
        chat.messages.iter().take(count).map(|message| self.message(message)).sum()
    }

    /// Tokens of the part of the prompt that this conversation's last request had sent already.
    fn seen(&self, chat: &Chat<'_>) -> u64 {
        let Some(last) = chat.messages.iter().rposition(|message| message.role == Role::Assistant) else { return 0 };
        self.tools(chat) + self.messages(chat, last)
    }

    fn message(&self, message: &Message<'_>) -> u64 {
        let counter = self.counter();
        let calls = message.calls.iter().map(|call| counter.rendered(call.name) + counter.rendered(&call.arguments));
        MESSAGE_TOKENS + counter.text(&message.text) + calls.sum::<u64>() + message.other_tokens
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

    /// Output tokens in the first `after` events of a stream.
    fn sent(&self, completion: &Completion, after: usize) -> u64 {
        let (said, reasoned) = completion.said(self.wire, after);
        self.counter().text(&said) + if reasoned { completion.usage.reasoning } else { 0 }
    }

    fn payload(&self, chat: &Chat<'_>, fault: Option<Fault>, status: u16, completion: Completion) -> Payload {
        match fault {
            Some(Fault::Hang) => Payload::Hang,
            Some(Fault::Drop) => Payload::Drop,
            Some(Fault::StreamError) if !chat.stream => {
                let message = "the server had an error while it answered";
                let error = WireError::new(self.wire, 500, Some(Fault::ServerError), message);
                raw(self.wire, &WireError { status, ..error })
            }
            other => senseless(other, status, chat.stream).unwrap_or_else(|| Payload::Completion {
                status,
                stream: chat.stream,
                completion: Box::new(completion),
            }),
        }
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

/// The answers that are none of any wire.
fn senseless(fault: Option<Fault>, status: u16, stream: bool) -> Option<Payload> {
    let (status, content_type, body) = match fault {
        Some(Fault::PlainError) => (500, "text/plain", "upstream connect error"),
        Some(Fault::Redirect) => (307, "text/plain", ""),
        Some(Fault::WrongType) => {
            (status, "text/html", "<!doctype html><title>Sign in</title><p>Please sign in to the network.")
        }
        Some(Fault::Garbage) if stream => (status, "text/event-stream", "data: {\"id\":\"chatcmpl-\n\n"),
        Some(Fault::Garbage) => (status, "application/json", "{\"id\":\"chatcmpl-"),
        Some(_) | None => return None,
    };
    Some(Payload::Raw { status, content_type, body: body.to_owned() })
}

fn raw(wire: &dyn Dialect, error: &WireError) -> Payload {
    Payload::Raw { status: error.status, content_type: "application/json", body: wire.error_body(error) }
}
