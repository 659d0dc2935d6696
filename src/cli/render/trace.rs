//! A trace as a tree, and the shorter table that stands at the end of a run.

use crate::cli::render::table::{Column, Table};
use crate::domain::event::Place;
use crate::domain::limits::LimitKind;
use crate::domain::report::{
    ChildLine, CostState, LimitStanding, RunDocument, StepLine, TimelineEntry, TokenDocument, Trace,
};
use crate::units::{Millis, Tokens};
use crate::words::entry::{self, EXCERPT_CHARS_MAX, Texts, call, signed, tokens};
pub use crate::words::entry::{as_words, state};
use crate::words::file;
use crate::words::text::one_line;

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

/// An entry, and below a sub-agent's run what happened there.
fn entry_lines(entry: &TimelineEntry) -> Vec<String> {
    let mut lines = entry::lines(entry, Texts::Excerpts);
    if let TimelineEntry::Child(child) = entry
        && let Some(trace) = &child.trace
    {
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
    if trace.erased {
        lines.push("  its texts were taken out of the store (`plimsoll audit`); what it cost is kept".to_owned());
    } else {
        lines.push(format!("  input    {}", one_line(&as_words(&trace.input), EXCERPT_CHARS_MAX)));
    }
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
#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::domain::event::{CostSource, Purpose, Recorded};
    use crate::domain::report::fixture;
    use crate::units::Money;

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
