//! What a run did, as rows of a waterfall: each attempt with its time, its cost and its tokens by class; what else happened
//! between them, in words. Runs of sub-agents stand where they were called.

use crate::domain::event::Place;
use crate::domain::report::{AttemptCall, AttemptLine, CostState, Gave, StepLine, TimelineEntry, TokenDocument, Trace};
use crate::pages::chart::{Axis, Piece};
use crate::pages::text::{moment, whole};
use crate::units::{Timestamp, Tokens};
use crate::words::entry::{self, Texts};

/// How deep rows are set in.
const DEPTH_MAX: usize = 4;

/// The rows, and the time that they are drawn over.
pub(super) struct Timeline {
    pub(super) rows: Vec<Row>,
    pub(super) length: String,
    pub(super) is_cut: bool,
}

/// One row.
pub(super) enum Row {
    /// An attempt.
    Attempt(Box<Attempt>),
    /// Something else.
    Entry { depth: usize, at: String, words: Vec<String>, run: Option<String> },
}

/// One try of a step.
pub(super) struct Attempt {
    pub(super) depth: usize,
    /// What tells it from the others of the page.
    pub(super) id: String,
    pub(super) name: String,
    pub(super) of: String,
    pub(super) is_first: bool,
    pub(super) piece: Piece,
    /// Until the first token.
    pub(super) waiting: Option<Piece>,
    pub(super) class: &'static str,
    /// Since the run was created.
    pub(super) since: String,
    pub(super) time: String,
    pub(super) first_token: Option<String>,
    pub(super) cost: String,
    pub(super) cost_state: &'static str,
    pub(super) reserved: String,
    pub(super) is_over: bool,
    /// Input, read from caches, written to them, output, reasoning.
    pub(super) tokens: Option<[String; 5]>,
    pub(super) notes: Vec<String>,
    /// What was said, where it is asked for.
    pub(super) messages: Vec<(&'static str, String)>,
}

impl Timeline {
    pub(super) fn of(trace: &Trace, texts: Texts) -> Self {
        let now = now(trace);
        let mut spans = Vec::new();
        spans_of(trace, now, &mut spans);
        let axis = Axis::of(spans);
        let mut rows = Vec::new();
        Rows { axis: &axis, began: trace.created, now, texts, rows: &mut rows }.add(trace, 0);
        Self { rows, length: axis.length().to_string(), is_cut: axis.is_cut }
    }
}

/// The time up to which a run is told: its end, or as long as it has been active.
fn now(trace: &Trace) -> Timestamp {
    let last = trace.attempts().map(|attempt| end_of(attempt, attempt.at)).max().unwrap_or(trace.created);
    trace.ended.unwrap_or_else(|| last.max(trace.created.after(trace.head.wall_ms)))
}

fn end_of(attempt: &AttemptLine, open_until: Timestamp) -> Timestamp {
    attempt.latency_ms.map_or(open_until, |latency| attempt.at.after(latency))
}

fn spans_of(trace: &Trace, now: Timestamp, spans: &mut Vec<(Timestamp, Timestamp)>) {
    spans.extend(trace.attempts().map(|attempt| (attempt.at, end_of(attempt, now).max(attempt.at))));
}

struct Rows<'a> {
    axis: &'a Axis,
    began: Timestamp,
    now: Timestamp,
    texts: Texts,
    rows: &'a mut Vec<Row>,
}

impl Rows<'_> {
    fn add(&mut self, trace: &Trace, depth: usize) {
        let depth = depth.min(DEPTH_MAX);
        for entry in &trace.timeline {
            if let TimelineEntry::Step(step) = entry {
                self.step(trace, step, depth);
            } else {
                self.entry(entry, depth);
            }
            if let TimelineEntry::Child(child) = entry
                && let Some(below) = &child.trace
            {
                self.add(below, depth + 1);
            }
        }
    }

    fn entry(&mut self, entry: &TimelineEntry, depth: usize) {
        let words = entry::lines(entry, self.texts);
        if words.is_empty() {
            return;
        }
        let run = if let TimelineEntry::Child(child) = entry { Some(child.run.to_string()) } else { None };
        let at = entry.at().map(moment).unwrap_or_default();
        self.rows.push(Row::Entry { depth, at, words, run });
    }

    fn step(&mut self, trace: &Trace, step: &StepLine, depth: usize) {
        for attempt in &step.attempts {
            let row = self.attempt(trace, step, attempt, depth);
            self.rows.push(Row::Attempt(Box::new(row)));
        }
    }

    fn attempt(&self, trace: &Trace, step: &StepLine, attempt: &AttemptLine, depth: usize) -> Attempt {
        let end = end_of(attempt, self.now).max(attempt.at);
        let name = match &attempt.call {
            AttemptCall::Model(model) => format!("{}{}", model.model, entry::purpose(model.purpose)),
            AttemptCall::Tool(tool) => tool.tool.to_string(),
        };
        Attempt {
            depth,
            id: format!("{}-{}-{}", trace.head.run, step.step, attempt.attempt),
            name,
            of: of(step, attempt),
            is_first: attempt.attempt == 1,
            piece: self.axis.piece(attempt.at, end),
            waiting: attempt.first_token_ms.map(|first| self.axis.piece(attempt.at, attempt.at.after(first))),
            class: class(attempt),
            since: format!("+{}", attempt.at.since(self.began)),
            time: attempt.latency_ms.map_or_else(|| "in flight".to_owned(), |latency| latency.to_string()),
            first_token: attempt.first_token_ms.map(|first| first.to_string()),
            cost: if attempt.cost_state == CostState::Open { "held".to_owned() } else { attempt.cost_usd.to_string() },
            cost_state: attempt.cost_state.name(),
            reserved: attempt.reserved_usd.to_string(),
            is_over: attempt.cost_usd > attempt.reserved_usd,
            tokens: attempt.tokens.as_ref().map(classes),
            notes: notes(step, attempt),
            messages: if self.texts == Texts::Excerpts { messages(attempt) } else { Vec::new() },
        }
    }
}

/// `step 3`, `step 3 of read[2], try 2`.
fn of(step: &StepLine, attempt: &AttemptLine) -> String {
    let place = step.place().map_or(String::new(), |place: Place| format!(" of {place}"));
    let again = if attempt.attempt > 1 { format!(", try {}", attempt.attempt) } else { String::new() };
    format!("step {}{place}{again}", step.step)
}

fn class(attempt: &AttemptLine) -> &'static str {
    let failed = match &attempt.gave {
        Some(Gave::Failure(_)) => true,
        Some(Gave::Result { is_error, .. }) => *is_error,
        Some(Gave::Reply(_)) | None => false,
    };
    match (&attempt.call, &attempt.gave) {
        _ if failed => "failed",
        (_, None) => "open",
        (AttemptCall::Model(_), Some(_)) => "model",
        (AttemptCall::Tool(_), Some(_)) => "tool",
    }
}

fn classes(tokens: &TokenDocument) -> [String; 5] {
    let shown = |count: Tokens| if count == Tokens::ZERO { "–".to_owned() } else { count.to_string() };
    [tokens.input, tokens.cache_read, tokens.cache_write, tokens.output, tokens.reasoning].map(shown)
}

/// What else is to be said; what was said only where messages are asked for.
fn notes(step: &StepLine, attempt: &AttemptLine) -> Vec<String> {
    let mut notes = entry::remarks(attempt);
    if let Some(Gave::Result { is_error: true, .. }) = &attempt.gave {
        notes.push("the tool says that it failed".to_owned());
    }
    let other = attempt.tokens.as_ref().map(|tokens| tokens.other).filter(|other| *other != Tokens::ZERO);
    notes.extend(other.map(|other| format!("{other} tokens of another class")));
    notes.extend(entry::fees(attempt.fees).map(|fee| format!("{fee}, billed beside the tokens")));
    notes.extend(step.grew.as_ref().filter(|_| attempt.attempt == 1).map(|grew| entry::growth(grew).trim().to_owned()));
    notes
}

fn messages(attempt: &AttemptLine) -> Vec<(&'static str, String)> {
    let mut messages = Vec::new();
    if let AttemptCall::Tool(tool) = &attempt.call {
        messages.extend(tool.arguments.clone().map(|arguments| ("Arguments", pretty(arguments))));
    }
    if let AttemptCall::Model(model) = &attempt.call {
        messages.extend(model.remark.clone().map(|remark| ("Asked beside the conversation", remark)));
    }
    match &attempt.gave {
        Some(Gave::Reply(reply)) => {
            if !reply.text.is_empty() {
                messages.push(("Said", reply.text.clone()));
            }
            messages.extend(reply.refusal.clone().map(|words| ("Declined", words)));
            let calls = reply.calls.iter().map(|call| format!("{} {}", call.name, call.arguments));
            messages.extend(calls.map(|call| ("Asks for", call)));
        }
        Some(Gave::Result { content, is_error, .. }) => {
            messages.push((if *is_error { "Error" } else { "Result" }, content.clone()));
        }
        Some(Gave::Failure(failure)) => messages.push(("Failed", failure.message.clone())),
        None => {}
    }
    messages
}

/// JSON over several lines, where it is some.
fn pretty(text: String) -> String {
    serde_json::from_str(&text).map(|value| whole(&value)).unwrap_or(text)
}
