//! What a run did, entry by entry, in words: for a terminal's tree and for a page.
//!
//! Every line is safe to show: what a model, a tool or a person wrote is cut to an excerpt without control characters.

use super::text::one_line;
use crate::domain::event::{
    AccountKey, BoundMethod, CacheFacts, CacheHit, CallRefusal, Count, Decision, Place, Pot, Purpose, RunState,
    StageEnd, WaitEnd,
};
use crate::domain::limits::{LimitKind, Refusal};
use crate::domain::pricing::{Charged, Factor, Fee, Fees, Mismatch};
use crate::domain::rate::RateKind;
use crate::domain::report::{
    AttemptCall, AttemptLine, ChildLine, CostState, Gave, Growth, ModelLine, ReplyLine, RunDocument, StepLine,
    TimelineEntry, TokenDocument,
};
use crate::domain::retry::Failure;
use crate::units::{Millis, Money, Timestamp, Tokens, grouped};

/// The most characters of arguments, results and answers that the tree shows; `--json` has them whole.
pub const EXCERPT_CHARS_MAX: usize = 120;

/// Whether excerpts of what models, tools and people wrote stand among the words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Texts {
    /// They do.
    Excerpts,
    /// What happened is told, and nothing of what was written but what people were asked and why they decided as they did.
    Hidden,
}

/// A state in words.
#[must_use]
pub fn state_of(state: RunState) -> String {
    state.name().replace('_', " ")
}

/// `finished`, or `stopped by cost`.
#[must_use]
pub fn state(head: &RunDocument) -> String {
    let state = state_of(head.state);
    match head.limit {
        Some(limit) if head.state.is_ended() => format!("{state} by {limit}"),
        Some(limit) => format!("{state}, landing for {limit}"),
        None => state,
    }
}

/// A JSON string's text, and other JSON as it is.
#[must_use]
pub fn as_words(value: &serde_json::Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// One entry; nothing for what others tell. Of a sub-agent's run what it came to, and not what happened there.
#[must_use]
pub fn lines(entry: &TimelineEntry, texts: Texts) -> Vec<String> {
    match entry {
        TimelineEntry::Step(step) => step_lines(step),
        TimelineEntry::Map { stage, items, finished, lost, .. } => {
            let lost = if *lost == 0 { String::new() } else { format!(", {lost} without an output") };
            vec![format!("stage {stage}  {finished}/{items} items{lost}")]
        }
        TimelineEntry::StageEnded { stage, item, end, refusal, error, .. } => {
            stage_ended(&Place { stage: stage.clone(), item: *item }, *end, refusal.as_ref(), error.as_deref())
        }
        TimelineEntry::Child(child) => child_lines(child, texts),
        TimelineEntry::Admitted { landing_usd, budgets, .. } => vec![admitted(*landing_usd, budgets)],
        TimelineEntry::Refused { tool, reason, .. } => vec![refused(&one_line(tool.as_str(), 64), reason)],
        TimelineEntry::Waited { account, asked_usd, until, waited_ms, why, .. } => {
            let how = match (waited_ms, why) {
                (Some(waited), Some(why)) => format!("waited {waited}, {}", wait_end(*why)),
                (Some(_) | None, _) => format!("waits, until {until} at most"),
            };
            vec![format!("{how}: {asked_usd} asked of {account}")]
        }
        TimelineEntry::RateWaited { place, refusal, until, waited_ms, refused, .. } => {
            vec![rate_waited((place, refusal), *until, *waited_ms, refused.as_deref())]
        }
        TimelineEntry::Landing { refusal, .. } => vec![format!("landing: {refusal}")],
        TimelineEntry::LandingReleased { why, .. } => vec![format!("landing reserve given back: {why}")],
        TimelineEntry::CancelRequested { reason, .. } => vec![format!("cancel asked for: {}", one_line(reason, 200))],
        TimelineEntry::Interrupted { why, .. } => vec![format!("interrupted: {why}")],
        TimelineEntry::PersonAsked { tool, question, ask, shown, .. } => {
            let number = ask.map_or(String::new(), |ask| format!(", question {ask}"));
            let about = tool.as_ref().map_or(String::new(), |tool| format!(" about {tool}"));
            let asked = format!("a person is asked{about}{number}: {}", one_line(question, 200));
            let shown = shown.as_ref().filter(|_| texts == Texts::Excerpts);
            let shown = shown.map(|shown| format!("  shown: {}", excerpt(shown)));
            std::iter::once(asked).chain(shown).collect()
        }
        TimelineEntry::PersonAnswered { ask, decision, by, reason, .. } => {
            vec![answered(*ask, decided(decision, texts).as_deref(), by, reason.as_deref())]
        }
        TimelineEntry::Parked { until, .. } => vec![format!("waits for people, holding nothing, until {until}")],
        TimelineEntry::Outcome { said, .. } => vec![super::outcome::line(said)],
        TimelineEntry::PersonDecided { rerun, by, .. } => {
            let what = if *rerun { "make the call again" } else { "leave the call" };
            vec![format!("{} decided: {what}", one_line(by, 64))]
        }
    }
}

fn excerpt(value: &serde_json::Value) -> String {
    one_line(&as_words(value), EXCERPT_CHARS_MAX)
}

/// What a person decided; nothing where nobody did in time.
fn decided(decision: &Decision, texts: Texts) -> Option<String> {
    Some(match (decision, texts) {
        (Decision::Allow { edited: None }, _) => "yes".to_owned(),
        (Decision::Allow { edited: Some(edited) }, Texts::Excerpts) => format!("yes, with {}", excerpt(edited)),
        (Decision::Allow { edited: Some(_) }, Texts::Hidden) => "yes, with a change".to_owned(),
        (Decision::Deny, _) => "no".to_owned(),
        (Decision::Answer { value }, Texts::Excerpts) => format!("instead: {}", excerpt(value)),
        (Decision::Answer { .. }, Texts::Hidden) => "in words of their own".to_owned(),
        (Decision::Expired, _) => return None,
    })
}

fn answered(ask: Option<u32>, decided: Option<&str>, by: &str, reason: Option<&str>) -> String {
    let number = ask.map_or(String::new(), |ask| format!(" question {ask}"));
    let because = reason.map_or(String::new(), |reason| format!(" ({})", one_line(reason, 200)));
    decided.map_or_else(
        || format!("nobody answered in time:{number}"),
        |what| format!("{} answered{number}: {what}{because}", one_line(by, 64)),
    )
}

/// What is over in the usual way is told by its steps.
fn stage_ended(place: &Place, end: StageEnd, refusal: Option<&Refusal>, error: Option<&str>) -> Vec<String> {
    let why = refusal.map(ToString::to_string).or_else(|| error.map(|error| one_line(error, 200)));
    let why = why.map_or(String::new(), |why| format!(": {why}"));
    match end {
        StageEnd::Finished => vec![],
        StageEnd::Skipped | StageEnd::Failed | StageEnd::Stopped => {
            vec![format!("stage {place}  {}{why}", end.name())]
        }
    }
}

/// `waited 1.2s for anthropic tokens/min: limit …`.
fn rate_waited(
    (place, refusal): (&Place, &Refusal),
    until: Option<Timestamp>,
    waited: Option<Millis>,
    refused: Option<&Refusal>,
) -> String {
    let at = if place.stage.as_str() == "main" { String::new() } else { format!("stage {place}  ") };
    let how = match (waited, until) {
        (Some(waited), _) => format!("waited {waited} for"),
        (None, Some(until)) => format!("waits, until {until} at the soonest, for"),
        (None, None) => "waits for".to_owned(),
    };
    let subject = refusal.subject.as_ref().map_or(String::new(), |subject| one_line(subject, 120));
    let rate = RateKind::ALL.into_iter().find(|kind| kind.limit() == refusal.limit);
    let what = match rate {
        Some(kind) => format!("{subject} {}", kind.unit()),
        None if refusal.limit == LimitKind::ProviderRate => format!("what {subject} still takes"),
        None if refusal.limit == LimitKind::Breaker => format!("the breaker of {subject}"),
        None => "its turn".to_owned(),
    };
    let (vain, observed) = refused.map_or(("", &refusal.observed), |refused| (" in vain", &refused.observed));
    format!("{at}{how} {what}{vain}: {observed}")
}

fn admitted(landing: Money, budgets: &[AccountKey]) -> String {
    let reserve = if landing.is_zero() { String::new() } else { format!(", {landing} kept for landing") };
    let names: Vec<String> = budgets.iter().map(ToString::to_string).collect();
    let on = if names.is_empty() { String::new() } else { format!(", on {}", names.join(", ")) };
    format!("admitted{reserve}{on}")
}

fn refused(tool: &str, reason: &CallRefusal) -> String {
    match reason {
        CallRefusal::Limit { refusal } => format!("refused {tool}: {refusal}"),
        CallRefusal::Invalid { message } => format!("refused {tool}: {}", one_line(message, EXCERPT_CHARS_MAX)),
    }
}

const fn wait_end(why: WaitEnd) -> &'static str {
    match why {
        WaitEnd::Granted => "then the money came",
        WaitEnd::Expired => "as long as it may",
        WaitEnd::Stalled => "until nobody could free money",
        WaitEnd::Cancelled => "until it was cancelled",
    }
}

fn step_lines(step: &StepLine) -> Vec<String> {
    let stage = step.place().map_or(String::new(), |place| format!("  stage {place}"));
    let mut lines = vec![format!("step {}  {}{stage}", step.step, call(step, EXCERPT_CHARS_MAX))];
    lines.extend(step.grew.as_ref().map(growth));
    for attempt in &step.attempts {
        lines.push(attempt_line(attempt));
        lines.extend(details(attempt).into_iter().map(|detail| format!("    {detail}")));
    }
    lines
}

/// `  request +120 tokens: history +90, tool_output +30`.
#[must_use]
pub fn growth(grew: &Growth) -> String {
    let pots = [
        (Pot::Instructions, grew.instructions),
        (Pot::History, grew.history),
        (Pot::Documents, grew.documents),
        (Pot::ToolOutput, grew.tool_output),
    ];
    let moved = pots.iter().filter(|(_, change)| *change != 0);
    let moved: Vec<String> =
        moved.map(|(name, change)| format!("{} {}", pot(*name), signed(*change, grew.method))).collect();
    let by = if moved.is_empty() { String::new() } else { format!(": {}", moved.join(", ")) };
    format!("  request {} tokens{by}", signed(grew.total(), grew.method))
}

/// What a step calls: of its latest attempt.
#[must_use]
pub fn call(step: &StepLine, chars_max: usize) -> String {
    match step.attempts.last().map(|attempt| &attempt.call) {
        Some(AttemptCall::Model(model)) => format!("model {}{}", model.model, purpose(model.purpose)),
        Some(AttemptCall::Tool(tool)) => {
            let arguments = one_line(tool.arguments.as_deref().unwrap_or_default(), chars_max);
            format!("tool {} {arguments}", one_line(tool.tool.as_str(), 64)).trim_end().to_owned()
        }
        None => "nothing".to_owned(),
    }
}

/// What a call is for, behind its model's name; nothing for a turn.
#[must_use]
pub const fn purpose(purpose: Purpose) -> &'static str {
    match purpose {
        Purpose::Turn => "",
        Purpose::Last => " (last call)",
        Purpose::Landing => " (landing)",
        Purpose::Repair => " (mending the answer)",
        Purpose::Summary => " (summing up)",
    }
}

fn attempt_line(attempt: &AttemptLine) -> String {
    let mut parts = vec![format!("  try {}  {:8}  {}", attempt.attempt, attempt.cost_state.name(), money(attempt))];
    parts.extend(attempt.latency_ms.map(|latency| latency.to_string()));
    parts.extend(attempt.first_token_ms.map(|first| format!("first token {first}")));
    parts.extend(attempt.tokens.as_ref().map(tokens));
    parts.extend(fees(attempt.fees));
    parts.join(", ")
}

/// `2 web_search`, for each kind that there are some of.
pub fn fees(fees: Fees) -> impl Iterator<Item = String> {
    let some = Fee::ALL.into_iter().map(move |fee| (fees.of(fee), fee)).filter(|(count, _)| *count > 0);
    some.map(|(count, fee)| format!("{count} {}", fee.name()))
}

/// `$0.01 of $0.02 reserved`.
#[must_use]
pub fn money(attempt: &AttemptLine) -> String {
    match attempt.cost_state {
        CostState::Open => format!("{} held", attempt.reserved_usd),
        CostState::Reported | CostState::Derived | CostState::Unknown | CostState::Void => {
            let over = if attempt.cost_usd > attempt.reserved_usd { " (ABOVE THE RESERVATION)" } else { "" };
            format!("{} of {} reserved{over}", attempt.cost_usd, attempt.reserved_usd)
        }
    }
}

/// `in 1,200 + 300 cached, out 96 (40 reasoning)`.
#[must_use]
pub fn tokens(tokens: &TokenDocument) -> String {
    let some = |count: Tokens, text: &str| if count == Tokens::ZERO { String::new() } else { format!("{count}{text}") };
    let plus = |text: String| if text.is_empty() { text } else { format!(" + {text}") };
    let cached = plus(some(tokens.cache_read, " cached"));
    let written = plus(some(tokens.cache_write, " written"));
    let reasoning = some(tokens.reasoning, " reasoning");
    let reasoning = if reasoning.is_empty() { reasoning } else { format!(" ({reasoning})") };
    let other = plus(some(tokens.other, " of another class"));
    format!("in {}{cached}{written}, out {}{reasoning}{other}", tokens.input, tokens.output)
}

/// What else is to be said of an attempt, with an excerpt of what it gave.
#[must_use]
pub fn details(attempt: &AttemptLine) -> Vec<String> {
    let mut lines = remarks(attempt);
    match &attempt.gave {
        None | Some(Gave::Failure(_)) => {}
        Some(Gave::Result { content, is_error, cut_bytes }) => {
            let what = if *is_error { "error" } else { "gave" };
            let cut = if *cut_bytes == 0 { String::new() } else { format!(" ({} bytes cut)", grouped(*cut_bytes)) };
            lines.push(format!("{what}: {}{cut}", one_line(content, EXCERPT_CHARS_MAX)));
        }
        Some(Gave::Reply(reply)) => lines.extend(said(reply)),
    }
    lines
}

/// What is to be said of an attempt without a word of what it gave.
#[must_use]
pub fn remarks(attempt: &AttemptLine) -> Vec<String> {
    let mut lines = Vec::new();
    if let AttemptCall::Model(model) = &attempt.call {
        lines.extend(model_details(model));
    }
    lines.extend(attempt.usage_mismatch.as_ref().map(contradiction));
    let charged = |charged: &Charged| format!("THE PROVIDER SAYS {charged}, and {} is booked", attempt.cost_usd);
    lines.extend(attempt.charged_usd.as_ref().map(charged));
    lines.extend(caches(&attempt.cache));
    if let Some(Gave::Failure(why)) = &attempt.gave {
        lines.push(failure(why));
    }
    lines
}

fn caches(cache: &CacheFacts) -> impl Iterator<Item = String> {
    let hit = cache.hit.map(|hit| {
        let CacheHit { from, at, avoided, .. } = hit;
        format!("nobody was asked: the answer of run {} at {at}, which cost {avoided}, is given again", from.run)
    });
    let kept = cache.kept.map(|kept| format!("kept until {}, for the same request", kept.until));
    let saved = (!cache.saved.is_zero()).then(|| format!("the provider's cache saved {}", cache.saved));
    hit.into_iter().chain(kept).chain(saved)
}

fn counted(count: &Count) -> String {
    match count {
        Count::Told { tokens } => format!("the provider counted {tokens} tokens before"),
        Count::Not { why } => format!("the provider counted nothing: {}", one_line(why, EXCERPT_CHARS_MAX)),
    }
}

fn contradiction(mismatch: &Mismatch) -> String {
    let mismatch = one_line(&mismatch.to_string(), EXCERPT_CHARS_MAX);
    format!("THE USAGE CONTRADICTS ITSELF: {mismatch}; no less than the reservation is booked")
}

fn model_details(model: &ModelLine) -> Vec<String> {
    let mut lines: Vec<String> = model.account.iter().map(|account| format!("paid by account {account}")).collect();
    lines.extend(model.instead.iter().map(|why| format!("instead: {}", one_line(why, 200))));
    lines.extend(model.count.as_ref().map(counted));
    let cut = |cut: &crate::domain::event::Cut| {
        let what = one_line(&cut.what, EXCERPT_CHARS_MAX);
        format!("cut {} tokens of {}: {what}", cut.tokens, pot(cut.pot))
    };
    lines.extend(model.cuts.iter().map(cut));
    lines
}

/// A pot's name in output and docs.
#[must_use]
pub const fn pot(pot: Pot) -> &'static str {
    match pot {
        Pot::Instructions => "instructions",
        Pot::History => "history",
        Pot::Documents => "documents",
        Pot::ToolOutput => "tool_output",
    }
}

fn failure(failure: &Failure) -> String {
    let status = failure.status.map_or(String::new(), |status| format!(" ({status})"));
    format!("{}{status}: {}", failure.class.name(), one_line(&failure.message, EXCERPT_CHARS_MAX))
}

fn said(reply: &ReplyLine) -> Vec<String> {
    let mut lines = Vec::new();
    if !reply.text.is_empty() {
        lines.push(format!("said: {}", one_line(&reply.text, EXCERPT_CHARS_MAX)));
    }
    lines.extend(reply.refusal.as_ref().map(|words| format!("declined: {}", one_line(words, EXCERPT_CHARS_MAX))));
    if !reply.factors.is_none() {
        let names: Vec<&str> = reply.factors.each().map(Factor::name).collect();
        lines.push(format!("served and priced with: {}", names.join(", ")));
    }
    let asks = |call: &crate::domain::message::ToolCall| {
        format!("asks for {} {}", one_line(call.name.as_str(), 64), one_line(&call.arguments, EXCERPT_CHARS_MAX))
    };
    lines.extend(reply.calls.iter().map(asks));
    lines
}

/// `+1,200` or `-300`; `≤+1,200` where only bytes are known.
#[must_use]
pub fn signed(change: i64, method: BoundMethod) -> String {
    let bound = match method {
        BoundMethod::Bytes if change > 0 => "≤",
        BoundMethod::Bytes | BoundMethod::Tokens => "",
    };
    format!("{bound}{}{}", if change < 0 { "-" } else { "+" }, grouped(change.unsigned_abs()))
}

/// A sub-agent's run: what it came to.
fn child_lines(child: &ChildLine, texts: Texts) -> Vec<String> {
    let place = Place { stage: child.stage.clone(), item: child.item };
    let called = child.step.map_or_else(|| format!("stage {place}"), |step| format!("step {step}"));
    let state = match (&child.trace, child.end) {
        (Some(trace), _) => state(&trace.head),
        (None, Some(end)) => RunState::from(end).name().to_owned(),
        (None, None) => "under way".to_owned(),
    };
    let cost = child.trace.as_ref().map_or(child.cost_usd, |trace| trace.head.cost.settled_usd);
    let mut lines = vec![format!("{called}  agent {}  {state}, {cost}  run {}", child.agent, child.run)];
    if let Some(trace) = &child.trace {
        lines.extend((texts == Texts::Excerpts).then(|| format!("  input: {}", excerpt(&trace.input))));
        lines.extend(trace.refusal.as_ref().map(|refusal| format!("  {refusal}")));
    }
    lines
}
