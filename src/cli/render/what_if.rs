//! What a run would have come to, as a table with a closing sentence.

use crate::cli::render::table::{Column, Table};
use crate::cli::render::text::one_line;
use crate::runtime::replay::{Figures, Line, Stop, Verdict, WhatIf};
use crate::units::Money;

/// The most characters of a limit's words or of a note.
const TOLD_CHARS_MAX: usize = 300;

/// The whole answer as text.
#[must_use]
pub fn what_if(told: &WhatIf, width: Option<u16>) -> String {
    let mut text = format!("run {}  {}, told again without a call\n", told.run, told.agent);
    for changed in &told.changed {
        text.push_str(&format!("  {}\n", one_line(changed, TOLD_CHARS_MAX)));
    }
    text.push('\n');
    if told.lines.is_empty() {
        text.push_str("no call was made, and none would be\n");
    } else {
        text.push_str(&table(told).render(width));
    }
    text.push('\n');
    for note in notes(told) {
        text.push_str(&format!("note: {}\n", one_line(&note, TOLD_CHARS_MAX)));
    }
    text.push_str(&closing(told));
    text.push('\n');
    text
}

/// Columns that say the same as those before them are left out.
fn table(told: &WhatIf) -> Table {
    let differs =
        told.lines.iter().any(|line| matches!((line.recorded, line.would), (Some(was), Some(is)) if was != is));
    let mut header = vec![Column::number("STEP"), Column::text("STAGE"), Column::text("CALL")];
    let figures: &[&str] = if differs { &["BOUND", "WOULD BE", "COST", "WOULD BE"] } else { &["BOUND", "COST"] };
    header.extend(figures.iter().map(|name| Column::number(name)));
    header.extend([Column::number("SUM"), Column::number("AT MOST")]);
    let mut table = Table::new(header);
    for line in &told.lines {
        table.push(row(told, line, differs));
    }
    table
}

fn row(told: &WhatIf, line: &Line, differs: bool) -> Vec<String> {
    let bound = |figures: Option<Figures>| money(figures.map(|figures| figures.bound_usd));
    let cost = |figures: Option<Figures>| {
        let unknown = figures.is_some_and(|figures| figures.unknown);
        format!("{}{}", money(figures.and_then(|figures| figures.cost_usd)), if unknown { " ?" } else { "" })
    };
    let place = if line.run == told.run { line.place.clone() } else { format!("{} {}", line.agent, line.place) };
    let mut called = line.called.clone();
    if let Some(instead) = &line.instead {
        called = format!("{called} -> {instead}");
    }
    if line.attempt > 1 {
        called = format!("{called}, try {}", line.attempt);
    }
    if line.lands {
        called = format!("{called}, to land");
    }
    let mut row = vec![line.step.to_string(), one_line(&place, TOLD_CHARS_MAX), one_line(&called, TOLD_CHARS_MAX)];
    if differs {
        row.extend([bound(line.recorded), bound(line.would), cost(line.recorded), cost(line.would)]);
    } else {
        row.extend([bound(line.recorded.or(line.would)), cost(line.recorded.or(line.would))]);
    }
    row.extend([money(line.sum_usd), money(line.at_most_usd)]);
    row
}

fn money(amount: Option<Money>) -> String {
    amount.map_or_else(|| "-".to_owned(), |amount| amount.to_string())
}

fn notes(told: &WhatIf) -> Vec<String> {
    let instead = told.lines.iter().any(|line| line.instead.is_some());
    let otherwise = if instead { "; another model answers and counts otherwise" } else { "" };
    let mut notes = vec![format!("replies, their tokens and their times are those that were recorded{otherwise}")];
    notes.extend(told.notes.iter().cloned());
    let of_lines = told.lines.iter().filter_map(|line| Some(format!("step {}: {}", line.step, line.note.as_ref()?)));
    notes.extend(of_lines);
    notes
}

/// Where it would have gone another way, in plain words.
fn closing(told: &WhatIf) -> String {
    let (was, would) = (told.recorded_usd, told.would_usd);
    let unknown =
        if told.unknown_usd.is_zero() { String::new() } else { format!(", {} of it unknown", told.unknown_usd) };
    let costs = format!("it cost {was}, and would have cost {would}{unknown}");
    match &told.verdict {
        Verdict::Same { state } => {
            format!("would have come to the same end, {}: {costs}", state.name().replace('_', " "))
        }
        Verdict::Stopped(stop) => stopped(told, stop),
        Verdict::Failed { before_step, error } => {
            let before = before_step.map_or(String::new(), |step| format!(" before step {step}"));
            format!("would have failed{before}: {}", one_line(error, TOLD_CHARS_MAX))
        }
        Verdict::GoesOn { stopped_by: Some(refusal), .. } if refusal.limit.is_shared() => {
            let subject = refusal.subject.as_ref().map_or_else(String::new, |subject| format!(" ({subject})"));
            format!(
                "was stopped by `{}`{subject}, which others share and which is left out here: {costs} up to there",
                refusal.limit
            )
        }
        Verdict::GoesOn { stopped_by: Some(refusal), calls, bound_usd } => format!(
            "would not have been stopped by `limits.{}` {}: it goes on with a call of {calls} ({bound_usd} at most), and what \
             comes of that nobody knows; {costs} up to there",
            refusal.limit, refusal.value
        ),
        Verdict::GoesOn { stopped_by: None, .. } => {
            format!("would have come as far as was recorded, and goes on there: {costs} up to there")
        }
        Verdict::Unknown { step, why } => {
            format!("nobody knows how it goes on from step {step}: {why}; {costs} up to there")
        }
    }
}

fn stopped(told: &WhatIf, stop: &Stop) -> String {
    let of = if stop.run == told.run { String::new() } else { format!(" of {}", stop.agent) };
    let who = match (&stop.call, &stop.stage) {
        (Some(tool), _) => format!("a call of {tool}{of} would have been refused, and the model told,"),
        (None, Some(stage)) => format!("stage {stage}{of} would have been stopped"),
        (None, None) if of.is_empty() => "would have been stopped".to_owned(),
        (None, None) => format!("the run{of} would have been stopped"),
    };
    let before = stop.before_step.map_or_else(
        || format!("after its {} recorded steps", stop.steps),
        |step| format!("before step {step} of {}", stop.steps),
    );
    let refusal = &stop.refusal;
    let needs = stop.needs_more_usd.map_or(String::new(), |more| format!(": it needs {more} more"));
    let lands =
        stop.landing_usd.map_or_else(String::new, |most| format!("; a last answer would have cost {most} at most"));
    format!(
        "{who} {before} by `limits.{}` {} ({}){needs}; it had cost {} by then{lands}",
        refusal.limit, refusal.value, refusal.observed, stop.spent_usd
    )
}
