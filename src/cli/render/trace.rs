//! A trace as a tree, and the shorter table that stands at the end of a run.

use crate::cli::render::file;
use crate::cli::render::table::{Column, Table};
use crate::cli::render::text::one_line;
use crate::domain::event::{
    AccountKey, BoundMethod, CacheFacts, CacheHit, CallRefusal, Count, Decision, Place, Pot, Purpose, RunState,
    StageEnd, WaitEnd,
};
use crate::domain::limits::{LimitKind, Refusal};
use crate::domain::pricing::{Charged, Factor, Fee, Fees, Mismatch};
use crate::domain::rate::RateKind;
use crate::domain::report::{
    AttemptCall, AttemptLine, ChildLine, CostState, Gave, Growth, LimitStanding, ModelLine, ReplyLine, RunDocument,
    StepLine, TimelineEntry, TokenDocument, Trace,
};
use crate::domain::retry::Failure;
use crate::units::{Millis, Money, Timestamp, Tokens, grouped};

/// The most characters of arguments, results and answers that the tree shows; `--json` has them whole.
const EXCERPT_CHARS_MAX: usize = 120;
/// How much of a tool's arguments the table at the end shows.
const CALL_CHARS_MAX: usize = 48;

/// The whole trace as text.
#[must_use]
pub fn trace(trace: &Trace, width: Option<u16>) -> String {
    let mut text = head(trace);
    text.push('\n');
    for line in branches(&trace.timeline) {
        text.push_str(&line);
        text.push('\n');
    }
    if trace.timeline.is_empty() {
        text.push_str("nothing has happened yet\n");
    }
    text.push('\n');
    text.push_str(&sums(&trace.head));
    text.push('\n');
    text.push_str(&limits(&trace.limits, width));
    text
}

/// What happened, as a tree's branches.
fn branches(timeline: &[TimelineEntry]) -> Vec<String> {
    let told: Vec<Vec<String>> = timeline.iter().map(entry_lines).filter(|lines| !lines.is_empty()).collect();
    let last = told.len().saturating_sub(1);
    let lines = told.into_iter().enumerate().flat_map(|(index, lines)| {
        let (branch, stem) = if index == last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
        let line = move |(number, line)| format!("{}{line}", if number == 0 { branch } else { stem });
        lines.into_iter().enumerate().map(line)
    });
    lines.collect()
}

/// A sub-agent's run: what it came to, and below it what happened there.
fn child_lines(child: &ChildLine) -> Vec<String> {
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
        lines.push(format!("  input: {}", one_line(&as_words(&trace.input), EXCERPT_CHARS_MAX)));
        lines.extend(trace.refusal.as_ref().map(|refusal| format!("  {refusal}")));
        lines.extend(branches(&trace.timeline));
    }
    lines
}

fn head(trace: &Trace) -> String {
    let head = &trace.head;
    let mut lines = vec![format!("run {}  {}  {}", head.run, head.agent, state(head))];
    let ended = trace.ended.map_or(String::new(), |ended| format!(", ended {ended}"));
    lines.push(format!("  created  {}{ended}; {} of active time", trace.created, head.wall_ms));
    let plan: String = trace.plan.as_str().chars().take(12).collect();
    lines.push(format!("  plan     {plan}, prompt {}", one_line(&trace.prompt_version, EXCERPT_CHARS_MAX)));
    let labels: Vec<String> = trace.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    lines.push(format!("  labels   {}", one_line(&labels.join(" "), 4 * EXCERPT_CHARS_MAX)));
    lines.extend(trace.key.as_ref().map(|key| format!("  key      {}", one_line(key, EXCERPT_CHARS_MAX))));
    lines.push(format!("  input    {}", one_line(&as_words(&trace.input), EXCERPT_CHARS_MAX)));
    lines.extend(trace.files.iter().map(file::line));
    if trace.simulated {
        lines.push("  answered by the simulated provider: no money was spent".to_owned());
    }
    lines.extend(head.asks.iter().flat_map(crate::cli::ask::lines).map(|line| format!("  {line}")));
    lines.extend(trace.refusal.as_ref().map(|refusal| format!("  {refusal}")));
    lines.extend(head.error.as_ref().map(|error| format!("  error    {}", one_line(error, 4 * EXCERPT_CHARS_MAX))));
    let output = head.output.as_ref().map(|output| one_line(&as_words(output), EXCERPT_CHARS_MAX));
    lines.extend(output.map(|output| format!("  output   {output}")));
    lines.join("\n") + "\n"
}

/// `finished`, or `stopped by cost`.
#[must_use]
pub fn state(head: &RunDocument) -> String {
    let state = head.state.name().replace('_', " ");
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

fn entry_lines(entry: &TimelineEntry) -> Vec<String> {
    match entry {
        TimelineEntry::Step(step) => step_lines(step),
        TimelineEntry::Map { stage, items, finished, lost, .. } => {
            let lost = if *lost == 0 { String::new() } else { format!(", {lost} without an output") };
            vec![format!("stage {stage}  {finished}/{items} items{lost}")]
        }
        TimelineEntry::StageEnded { stage, item, end, refusal, error, .. } => {
            stage_ended(&Place { stage: stage.clone(), item: *item }, *end, refusal.as_ref(), error.as_deref())
        }
        TimelineEntry::Child(child) => child_lines(child),
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
            let shown =
                shown.as_ref().map(|shown| format!("  shown: {}", one_line(&as_words(shown), EXCERPT_CHARS_MAX)));
            std::iter::once(asked).chain(shown).collect()
        }
        TimelineEntry::PersonAnswered { ask, decision, by, reason, .. } => {
            vec![answered(*ask, decision, by, reason.as_deref())]
        }
        TimelineEntry::Parked { until, .. } => vec![format!("waits for people, holding nothing, until {until}")],
        TimelineEntry::Outcome { said, .. } => vec![crate::cli::render::outcome::line(said)],
        TimelineEntry::PersonDecided { rerun, by, .. } => {
            let what = if *rerun { "make the call again" } else { "leave the call" };
            vec![format!("{} decided: {what}", one_line(by, 64))]
        }
    }
}

fn answered(ask: Option<u32>, decision: &Decision, by: &str, reason: Option<&str>) -> String {
    let what = match decision {
        Decision::Allow { edited: None } => "yes".to_owned(),
        Decision::Allow { edited: Some(edited) } => {
            format!("yes, with {}", one_line(&as_words(edited), EXCERPT_CHARS_MAX))
        }
        Decision::Deny => "no".to_owned(),
        Decision::Answer { value } => format!("instead: {}", one_line(&as_words(value), EXCERPT_CHARS_MAX)),
        Decision::Expired => "nobody answered in time".to_owned(),
    };
    let number = ask.map_or(String::new(), |ask| format!(" question {ask}"));
    let because = reason.map_or(String::new(), |reason| format!(" ({})", one_line(reason, 200)));
    if *decision == Decision::Expired {
        return format!("{what}:{number}");
    }
    format!("{} answered{number}: {what}{because}", one_line(by, 64))
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
fn growth(grew: &Growth) -> String {
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
fn call(step: &StepLine, chars_max: usize) -> String {
    match step.attempts.last().map(|attempt| &attempt.call) {
        Some(AttemptCall::Model(model)) => format!("model {}{}", model.model, purpose(model.purpose)),
        Some(AttemptCall::Tool(tool)) => {
            let arguments = one_line(tool.arguments.as_deref().unwrap_or_default(), chars_max);
            format!("tool {} {arguments}", one_line(tool.tool.as_str(), 64)).trim_end().to_owned()
        }
        None => "nothing".to_owned(),
    }
}

const fn purpose(purpose: Purpose) -> &'static str {
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
fn fees(fees: Fees) -> impl Iterator<Item = String> {
    let some = Fee::ALL.into_iter().map(move |fee| (fees.of(fee), fee)).filter(|(count, _)| *count > 0);
    some.map(|(count, fee)| format!("{count} {}", fee.name()))
}

fn money(attempt: &AttemptLine) -> String {
    match attempt.cost_state {
        CostState::Open => format!("{} held", attempt.reserved_usd),
        CostState::Reported | CostState::Derived | CostState::Unknown | CostState::Void => {
            let over = if attempt.cost_usd > attempt.reserved_usd { " (ABOVE THE RESERVATION)" } else { "" };
            format!("{} of {} reserved{over}", attempt.cost_usd, attempt.reserved_usd)
        }
    }
}

/// `in 1,200 + 300 cached, out 96 (40 reasoning)`.
fn tokens(tokens: &TokenDocument) -> String {
    let some = |count: Tokens, text: &str| if count == Tokens::ZERO { String::new() } else { format!("{count}{text}") };
    let plus = |text: String| if text.is_empty() { text } else { format!(" + {text}") };
    let cached = plus(some(tokens.cache_read, " cached"));
    let written = plus(some(tokens.cache_write, " written"));
    let reasoning = some(tokens.reasoning, " reasoning");
    let reasoning = if reasoning.is_empty() { reasoning } else { format!(" ({reasoning})") };
    let other = plus(some(tokens.other, " of another class"));
    format!("in {}{cached}{written}, out {}{reasoning}{other}", tokens.input, tokens.output)
}

fn details(attempt: &AttemptLine) -> Vec<String> {
    let mut lines = Vec::new();
    if let AttemptCall::Model(model) = &attempt.call {
        lines.extend(model_details(model));
    }
    lines.extend(attempt.usage_mismatch.as_ref().map(contradiction));
    let charged = |charged: &Charged| format!("THE PROVIDER SAYS {charged}, and {} is booked", attempt.cost_usd);
    lines.extend(attempt.charged_usd.as_ref().map(charged));
    lines.extend(caches(&attempt.cache));
    match &attempt.gave {
        None => {}
        Some(Gave::Failure(why)) => lines.push(failure(why)),
        Some(Gave::Result { content, is_error, cut_bytes }) => {
            let what = if *is_error { "error" } else { "gave" };
            let cut = if *cut_bytes == 0 { String::new() } else { format!(" ({} bytes cut)", grouped(*cut_bytes)) };
            lines.push(format!("{what}: {}{cut}", one_line(content, EXCERPT_CHARS_MAX)));
        }
        Some(Gave::Reply(reply)) => lines.extend(said(reply)),
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

const fn pot(pot: Pot) -> &'static str {
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

/// What the run cost, in two lines.
fn sums(head: &RunDocument) -> String {
    let CostLine(cost) = CostLine::of(head);
    let below = head.sub_agents.as_ref().map_or(String::new(), |below| {
        let runs = if below.runs == 1 { "1 run".to_owned() } else { format!("{} runs", below.runs) };
        format!("        of it sub-agents: {} by {runs}, {} steps\n", below.settled_usd, below.steps)
    });
    format!("cost    {cost}; load line {}\n{below}tokens  {}\n", head.load_line_usd, tokens(&head.tokens))
}

/// `$0.010934, of it $0.009 unknown; $0.002 still held`.
struct CostLine(String);

impl CostLine {
    fn of(head: &RunDocument) -> Self {
        let cost = &head.cost;
        let unknown =
            if cost.unknown_usd.is_zero() { String::new() } else { format!(", of it {} unknown", cost.unknown_usd) };
        let held = if cost.held_usd.is_zero() { String::new() } else { format!("; {} still held", cost.held_usd) };
        Self(format!("{}{unknown}{held}", cost.settled_usd))
    }
}

fn limits(standings: &[LimitStanding], width: Option<u16>) -> String {
    let mut table = Table::new([
        Column::id("LIMIT"),
        Column::number("STOOD AT"),
        Column::number("VALUE"),
        Column::text("DECLARED"),
    ]);
    for standing in standings.iter().filter(|standing| standing.value.is_some()) {
        let stopped = if standing.stopped { "  << stopped the run" } else { "" };
        table.push([
            standing.limit.to_string(),
            standing.stood_at.clone(),
            standing.value.clone().unwrap_or_default(),
            format!("{}{stopped}", standing.declared),
        ]);
    }
    let off: Vec<&str> =
        standings.iter().filter(|standing| standing.value.is_none()).map(|standing| standing.limit.name()).collect();
    let off = if off.is_empty() { String::new() } else { format!("off: {}\n", off.join(", ")) };
    table.render(width) + &off
}

/// What stands at the end of a run: each step's cost, and the limits that matter to everyone.
#[must_use]
pub fn ending(trace: &Trace, width: Option<u16>) -> String {
    let grew = trace.steps().any(|step| step.grew.is_some());
    // A single loop has one stage, which nobody named.
    let staged = trace.steps().any(|step| step.place().is_some()) || trace.children().any(|child| child.step.is_none());
    let columns = [Column::text("CALL"), Column::number("TRIES"), Column::number("TOKENS IN")]
        .into_iter()
        .chain(grew.then(|| Column::number("GREW")))
        .chain([Column::number("OUT"), Column::number("COST"), Column::number("TIME")]);
    let mut table =
        Table::new([Column::number("STEP")].into_iter().chain(staged.then(|| Column::id("STAGE"))).chain(columns));
    let row =
        |cells: [String; 7]| cells.into_iter().enumerate().filter(|(at, _)| grew || *at != 3).map(|(_, cell)| cell);
    for entry in &trace.timeline {
        if let TimelineEntry::Step(step) = entry {
            let place = staged.then(|| step.place().map_or(String::new(), |place| place.to_string()));
            table.push([step.step.to_string()].into_iter().chain(place).chain(row(step_row(step))));
        } else if let TimelineEntry::Child(child) = entry {
            let place = Place { stage: child.stage.clone(), item: child.item };
            let place = staged.then(|| place.to_string());
            let step = child.step.map_or_else(|| "-".to_owned(), |step| step.to_string());
            table.push([step].into_iter().chain(place).chain(row(child_row(child))));
        }
    }
    let head = &trace.head;
    let input = head.tokens.input.plus(head.tokens.cache_read).plus(head.tokens.cache_write);
    let total = [
        "total".to_owned(),
        trace.attempts().count().to_string(),
        input.to_string(),
        String::new(),
        head.tokens.output.to_string(),
        head.cost.settled_usd.to_string(),
        head.wall_ms.to_string(),
    ];
    let blank = std::iter::repeat_n(String::new(), 1 + usize::from(staged));
    table.push(blank.chain(row(total)));
    let kinds = [LimitKind::Steps, LimitKind::ModelCalls, LimitKind::ToolCalls, LimitKind::Cost, LimitKind::WallTime];
    let standings = kinds.iter().filter_map(|kind| trace.limit(*kind));
    let stood = standings.map(|standing| {
        format!("{} {} of {}", standing.limit, standing.stood_at, standing.value.as_deref().unwrap_or("no limit"))
    });
    let stood: Vec<String> = stood.collect();
    let CostLine(cost) = CostLine::of(head);
    let because = trace.refusal.as_ref().map_or(String::new(), |refusal| format!("{refusal}\n"));
    let error = head.error.as_ref().map_or(String::new(), |error| format!("error: {}\n", one_line(error, 500)));
    format!("{}{}\n{}: {cost}\n{because}{error}", table.render(width), stood.join(" · "), state(head))
}

/// What a sub-agent's run and all below it came to.
fn child_row(child: &ChildLine) -> [String; 7] {
    let Some(trace) = &child.trace else {
        let nothing = || "-".to_owned();
        let cost = child.cost_usd.to_string();
        return [format!("agent {}", child.agent), nothing(), nothing(), nothing(), nothing(), cost, nothing()];
    };
    let head = &trace.head;
    let unknown = if head.cost.unknown_usd.is_zero() { "" } else { " unknown in it" };
    [
        format!("agent {} ({})", child.agent, state(head)),
        trace.attempts().count().to_string(),
        head.tokens.input.plus(head.tokens.cache_read).plus(head.tokens.cache_write).to_string(),
        "-".to_owned(),
        head.tokens.output.to_string(),
        format!("{}{unknown}", head.cost.settled_usd),
        head.wall_ms.to_string(),
    ]
}

fn step_row(step: &StepLine) -> [String; 7] {
    let input = |tokens: &TokenDocument| tokens.input.plus(tokens.cache_read).plus(tokens.cache_write);
    let used: Vec<&TokenDocument> = step.attempts.iter().filter_map(|attempt| attempt.tokens.as_ref()).collect();
    let count = |tokens: Tokens| if used.is_empty() { "-".to_owned() } else { tokens.to_string() };
    let latency = step.attempts.iter().filter_map(|attempt| attempt.latency_ms).fold(Millis::ZERO, Millis::plus);
    let unknown = step.attempts.iter().any(|attempt| attempt.cost_state == CostState::Unknown);
    [
        call(step, CALL_CHARS_MAX),
        step.attempts.len().to_string(),
        count(used.iter().copied().map(input).sum()),
        step.grew.map_or_else(|| "-".to_owned(), |grew| signed(grew.total(), grew.method)),
        count(used.iter().map(|tokens| tokens.output).sum()),
        format!("{}{}", step.cost_usd, if unknown { " unknown" } else { "" }),
        latency.to_string(),
    ]
}

/// `+1,200` or `-300`; `≤+1,200` where only bytes are known.
fn signed(change: i64, method: BoundMethod) -> String {
    let bound = match method {
        BoundMethod::Bytes if change > 0 => "≤",
        BoundMethod::Bytes | BoundMethod::Tokens => "",
    };
    format!("{bound}{}{}", if change < 0 { "-" } else { "+" }, grouped(change.unsigned_abs()))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::domain::event::{CostSource, Recorded};
    use crate::domain::report::fixture;

    fn trace_of(log: &[Recorded]) -> Trace {
        let now = log.last().expect("a log").at;
        Trace::of(fixture::run_id(), Arc::clone(&fixture::plan()), log, now).expect("a run")
    }

    #[test]
    fn a_trace_shows_everything() {
        insta::assert_snapshot!(trace(&trace_of(&fixture::eventful()), None));
    }

    #[test]
    fn a_trace_as_json_has_the_documents_head_and_more() {
        let trace = trace_of(&fixture::eventful());
        insta::assert_snapshot!(serde_json::to_string_pretty(&trace).expect("JSON"));
    }

    #[test]
    fn the_ending_has_a_line_for_each_step_and_the_sum() {
        insta::assert_snapshot!(ending(&trace_of(&fixture::eventful()), Some(100)));
    }

    #[test]
    fn what_a_model_says_cannot_move_the_cursor() {
        let mut log = fixture::Log::new();
        log.admit(Money::ZERO);
        let reservation = log.reserve(1, 1, Money::from_micro(1), fixture::model_call(Purpose::Turn));
        log.settle(reservation, Money::from_micro(2), CostSource::Reported, fixture::reply("\x1b[2J\nhi", &[]));
        let text = trace(&trace_of(&log.recorded), None);
        assert!(!text.contains('\x1b'), "{text}");
        assert!(text.contains("ABOVE THE RESERVATION"), "{text}");
    }
}
