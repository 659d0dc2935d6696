//! `check`: each agent's limits with where they were declared, its load line, what binds it, and what is doubtful.

mod caching;
pub(super) mod lints;
mod stages;

use serde::Serialize;

use self::caching::Outlook;
use self::lints::{Against, Told, Warning, code, lints};
use self::stages::{BelowRow, StageRow};
use super::Context;
use crate::cli::aged::{REFRESH, aged_of};
use crate::cli::arguments::CheckArguments;
use crate::cli::commands::prices::{FrozenRow, MEND, frozen_or_told};
use crate::cli::errors::CliError;
use crate::cli::exit::Exit;
use crate::cli::project::{clock, folder, load_options, only, price_book};
use crate::cli::render::table::{Column, Table};
use crate::cli::render::text::count;
use crate::domain::limits::{AtLimit, LimitKind, Limits};
use crate::domain::message::Message;
use crate::domain::plan::{DocumentsPlan, Plan};
use crate::domain::pricing::PriceBook;
use crate::domain::report::FileLine;
use crate::ids::{AgentName, ModelName, PlanHash, StageName};
use crate::spec::documents;
use crate::spec::fault::{Fault, Faults};
use crate::spec::limits::{SETTABLE, value};
use crate::spec::load::{Survey, load_agent, survey_project};
use crate::spec::load_line::{LoadLine, load_line_of};
use crate::tokenize::{Counter, Encoding, message_bytes};
use crate::units::{Money, Timestamp, Tokens};

pub(super) fn check(context: &Context<'_>, arguments: &CheckArguments) -> Result<Exit, CliError> {
    let survey = survey(context, arguments.agent.as_deref())?;
    let (book, now) = (price_book(&survey.project)?, clock().now());
    let frozen = frozen_or_told(context, &survey.project, false).unwrap_or_default();
    let told = Told::by_store(context, &survey.project, survey.plans.keys());
    let report = |plan: &Plan| {
        let mut report = AgentReport::of(plan, &book, now);
        report.warnings.extend(frozen_warnings(plan, &book, now, &frozen));
        let (approvals, stored) = (&survey.project.approvals, told.of(&plan.agent));
        report.warnings.extend(lints(plan, &Against { approvals, book: &book, now, stored }));
        report.prompt_cache = caching::outlooks(plan, &survey.project, &book, now);
        let aged = aged_of(plan, &book, &survey.project.ages, now).into_iter();
        report.warnings.extend(aged.map(|message| Warning::new(code::OLD_PRICE, message, REFRESH)));
        report
    };
    let reports: Vec<AgentReport> = survey.plans.values().map(report).collect();
    if arguments.json {
        let faults: Vec<FaultRow<'_>> = survey.faults.all().iter().map(FaultRow::of).collect();
        context.output.json(&CheckDocument { agents: &reports, faults })?;
    } else {
        let width = context.output.data_width();
        reports.iter().try_for_each(|report| context.output.data(&report.describe(width)))?;
    }
    let doubtful = arguments.strict && reports.iter().any(|report| !report.warnings.is_empty());
    let exit = if survey.faults.is_empty() && !doubtful { Exit::Finished } else { Exit::Usage };
    if !survey.faults.is_empty() {
        context.output.report(&CliError::Faults(survey.faults));
    } else if reports.is_empty() {
        context.output.talk("no agents; write agents/NAME.toml, or make a first one with `plimsoll init`");
    }
    Ok(exit)
}

fn survey(context: &Context<'_>, agent: Option<&str>) -> Result<Survey, CliError> {
    let (folder, options) = (folder(context.project)?, load_options(false));
    match agent {
        None => Ok(survey_project(&folder, &options)),
        Some(name) => {
            let (project, plan) = load_agent(&folder, name, &options)?;
            Ok(Survey { project, plans: only(plan), faults: Faults::new() })
        }
    }
}

#[derive(Serialize)]
struct CheckDocument<'a> {
    agents: &'a [AgentReport],
    faults: Vec<FaultRow<'a>>,
}

/// What is known of one agent before it runs.
#[derive(Serialize)]
struct AgentReport {
    agent: AgentName,
    description: String,
    plan: PlanHash,
    models: Vec<ModelName>,
    /// Files that go with every input.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    files: Vec<FileLine>,
    load_line_usd: Money,
    /// The limits without which the load line would be higher.
    bound_by: Vec<LimitKind>,
    /// What the counts of calls allow, before the `cost` limit.
    by_counts_usd: Money,
    worst_call: Option<WorstCallRow>,
    at_limit: AtLimit,
    landing_reserve_usd: Money,
    /// The stages of a workflow, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    stages: Vec<StageRow>,
    /// The stage of a workflow that gives the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    answer_from: Option<StageName>,
    /// The agents that it calls.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    agents: Vec<BelowRow>,
    /// Whether providers are asked to keep the beginnings of requests, and why, stage by stage.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    prompt_cache: Vec<Outlook>,
    limits: Vec<LimitRow>,
    warnings: Vec<Warning>,
}

#[derive(Serialize)]
struct WorstCallRow {
    model: ModelName,
    input_tokens: Tokens,
    output_tokens: u32,
    cost_usd: Money,
}

#[derive(Serialize)]
struct LimitRow {
    limit: LimitKind,
    /// Null where it is off.
    value: Option<String>,
    declared: String,
}

impl LimitRow {
    fn of(limits: &Limits, kind: LimitKind) -> Self {
        let value = value(limits, kind).map(|value| value.to_string());
        Self { limit: kind, value, declared: limits.declared(kind).to_string() }
    }

    /// `steps 6 (agents/a.toml:37)`.
    fn in_words(&self) -> String {
        format!("{} {} ({})", self.limit, self.value.as_deref().unwrap_or("off"), self.declared)
    }
}

#[derive(Serialize)]
struct FaultRow<'a> {
    code: &'a str,
    file: &'a str,
    line: u32,
    column: u32,
    message: &'a str,
    help: &'a str,
}

impl<'a> FaultRow<'a> {
    fn of(fault: &'a Fault) -> Self {
        Self {
            code: fault.code,
            file: fault.file(),
            line: fault.line(),
            column: fault.column(),
            message: &fault.message,
            help: &fault.help,
        }
    }
}

impl AgentReport {
    fn of(plan: &Plan, book: &PriceBook, now: Timestamp) -> Self {
        let line = load_line_of(plan, book, now);
        let warnings = warnings(plan, &line);
        Self {
            agent: plan.agent.clone(),
            description: plan.description.clone(),
            plan: plan.hash(),
            models: plan.model.candidates.clone(),
            files: plan.files.iter().map(FileLine::of_agent).collect(),
            load_line_usd: line.amount,
            bound_by: line.binds,
            by_counts_usd: line.by_counts,
            worst_call: line.worst_call.map(|call| WorstCallRow {
                model: call.model,
                input_tokens: call.input,
                output_tokens: call.output,
                cost_usd: call.cost,
            }),
            at_limit: plan.limits.at_limit,
            landing_reserve_usd: line.landing,
            stages: stages::stages(plan),
            answer_from: plan.result_stage().filter(|_| plan.is_workflow()).map(|stage| stage.id.clone()),
            agents: stages::below(plan, &|below| load_line_of(below, book, now).amount),
            prompt_cache: Vec::new(),
            limits: SETTABLE.into_iter().map(|kind| LimitRow::of(&plan.limits, kind)).collect(),
            warnings,
        }
    }

    fn describe(&self, width: Option<u16>) -> String {
        let mut lines = vec![format!("agent {}  {}", self.agent, self.description).trim_end().to_owned()];
        let models: Vec<&str> = self.models.iter().map(ModelName::as_str).collect();
        lines.push(format!("  models     {}", models.join(", then ")));
        lines.extend(self.files.iter().map(|told| format!("  file       {}", crate::words::file::words(told))));
        lines.push(format!("  load line  {}: a run can't cost more{}", self.load_line_usd, self.bound()));
        lines.extend(self.worst_call.as_ref().map(|call| {
            let (input, output) = (call.input_tokens, Tokens(call.output_tokens.into()));
            format!("  worst call {} with {}: {input} tokens in, {output} out", call.cost_usd, call.model)
        }));
        lines.push(match self.at_limit {
            AtLimit::Land => format!("  at a limit one last answer, {} kept back for it", self.landing_reserve_usd),
            AtLimit::Stop => "  at a limit it ends at once".to_owned(),
        });
        lines.extend(self.answer_from.iter().map(|stage| format!("  answer     from stage {stage}")));
        lines.extend(self.prompt_cache.iter().filter_map(Outlook::in_words));
        lines.extend(self.warnings.iter().map(|warning| format!("  warning: {warning}")));
        let mut parts = vec![format!("{}\n", lines.join("\n"))];
        if !self.stages.is_empty() {
            parts.push(stages::table(&self.stages, width));
        }
        if !self.agents.is_empty() {
            parts.push(stages::table_of_agents(&self.agents, width));
        }
        parts.push(self.limits(width));
        parts.join("\n")
    }

    fn bound(&self) -> String {
        if self.bound_by.is_empty() {
            return String::new();
        }
        let places = self.bound_by.iter().map(|kind| {
            let row = self.limits.iter().find(|row| row.limit == *kind);
            let at = row.map_or(String::new(), |row| format!(" ({})", row.declared));
            format!("`{kind}`{at}")
        });
        format!("; bound by {}", places.collect::<Vec<_>>().join(" and "))
    }

    fn limits(&self, width: Option<u16>) -> String {
        let mut table = Table::new([Column::id("LIMIT"), Column::number("VALUE"), Column::text("DECLARED")]);
        for row in &self.limits {
            let value = row.value.clone().unwrap_or_else(|| "off".to_owned());
            table.push([row.limit.to_string(), value, row.declared.clone()]);
        }
        table.render(width)
    }
}

/// What will run, and still is doubtful.
fn warnings(plan: &Plan, line: &LoadLine) -> Vec<Warning> {
    let mut warnings = Vec::new();
    let none_is_left = plan.model.candidates.iter().all(|model| line.unpriced.contains(model));
    if !line.unpriced.is_empty() {
        let names: Vec<&str> = line.unpriced.iter().map(ModelName::as_str).collect();
        let rest = match none_is_left {
            true if !plan.is_workflow() => "and no run can start",
            true => "and no last answer can be made",
            false => "and are passed over",
        };
        let names = names.join(", ");
        let message = format!("{names} without a price: such calls are refused, {rest}");
        warnings.push(Warning::new(code::NO_PRICE, message, "add `[[prices]]` to plimsoll.toml"));
    }
    warnings.extend(documents_warnings(plan));
    if plan.limits.at_limit == AtLimit::Land {
        warnings.extend(landing_warning(plan));
        let cost = plan.limits.cost;
        let dearest = line.worst_call.as_ref().map_or(Money::ZERO, |call| call.cost);
        if line.landing >= cost {
            let landing = line.landing;
            let message = format!("the last answer may need {landing}, all of `cost` = {cost}: no other call has room");
            let help = "raise `cost`, lower `landing_tokens` or write `at_limit = \"stop\"`";
            warnings.push(Warning::new(code::LANDING, message, help));
        } else if plan.is_workflow() && line.landing.plus(dearest) > cost {
            let landing = line.landing;
            let message = format!(
                "the dearest call may need {dearest}, and {landing} is kept back for the last answer: more than `cost` = {cost}"
            );
            let help = "raise `cost`, or lower `max_output_tokens` or the context's `tokens`";
            warnings.push(Warning::new(code::LANDING, message, help));
        }
    }
    warnings.extend(stages::warnings(plan));
    warnings
}

/// Patterns that match no file now, and documents that a run would be refused for.
fn documents_warnings(plan: &Plan) -> Vec<Warning> {
    let Some(DocumentsPlan::Files { folder, patterns }) = &plan.documents else { return Vec::new() };
    let nothing = |pattern: &String| {
        let found = documents::matching(folder, std::slice::from_ref(pattern));
        let is_empty = found.is_ok_and(|found| found.is_empty());
        let message = format!("`[documents]`: no file matches `{pattern}`");
        is_empty.then(|| Warning::new(code::DOCUMENTS, message, "mend the pattern, or put files there"))
    };
    let mut warnings: Vec<Warning> = patterns.iter().filter_map(nothing).collect();
    let unread = documents::read(folder, patterns).err();
    warnings.extend(unread.map(|fault| {
        let message = format!("no run can start: {fault}");
        Warning::new(code::DOCUMENTS, message, "mend the file, or take it out of the patterns")
    }));
    if plan.context.documents == Tokens::ZERO {
        let message = "`context.documents` = 0: none of `[documents]` is ever sent";
        warnings.push(Warning::new(code::DOCUMENTS, message, "raise it, or take `[documents]` out"));
    }
    warnings
}

/// Models that will be refused because a bill above its reservation froze their price.
pub(super) fn frozen_warnings(plan: &Plan, book: &PriceBook, now: Timestamp, frozen: &[FrozenRow]) -> Vec<Warning> {
    let models = plan.models();
    let of_model = |model| {
        let row = book.find(model, now)?;
        let frozen = frozen.iter().find(|frozen| frozen.price == row.id)?;
        let message = format!("the price of {model} is frozen {}: its calls are refused", frozen.why());
        Some(Warning::new(code::FROZEN_PRICE, message, MEND))
    };
    models.into_iter().filter_map(of_model).collect()
}

/// Instructions that can't fit a landing: then a run that meets a limit ends without an answer (LEDGER rule 6).
fn landing_warning(plan: &Plan) -> Option<Warning> {
    let room = Tokens(plan.limits.landing_tokens.into());
    let system = Message::System { text: plan.prompt.system.clone() };
    if message_bytes(&system) <= room {
        return None;
    }
    // The byte bound doesn't fit: worth the tokenizer's load, where there is one.
    let encoding = plan.model.candidates.first().and_then(Encoding::of);
    let size =
        encoding.map_or_else(|| message_bytes(&system), |encoding| Counter::new().message_tokens(encoding, &system));
    (size > room).then(|| {
        let system = count(size.0, "token");
        let message = format!(
            "the system text may have {system}, more than `landing_tokens` = {room}: a run that meets a limit would end without an answer"
        );
        Warning::new(code::LANDING, message, "raise `landing_tokens`, or shorten the prompt")
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::domain::report::fixture;

    fn report_of(change: impl FnOnce(&mut Plan)) -> AgentReport {
        let mut plan = Arc::unwrap_or_clone(fixture::plan());
        change(&mut plan);
        AgentReport::of(&plan, PriceBook::builtin(), fixture::START)
    }

    #[test]
    fn an_agent_is_described_with_its_load_line() {
        insta::assert_snapshot!(report_of(|_| {}).describe(None));
    }

    #[test]
    fn a_model_without_a_price_is_warned_of() {
        let report = report_of(|plan| plan.model.candidates = vec!["local/unknown".into()]);
        assert!(report.warnings[0].to_string().contains("local/unknown without a price"), "{:?}", report.warnings);
        assert!(report.warnings[0].to_string().contains("no run can start"), "{:?}", report.warnings);
    }

    #[test]
    fn instructions_that_cannot_land_are_warned_of() {
        let report = report_of(|plan| plan.prompt.system = "word ".repeat(6_000));
        assert!(
            report.warnings.iter().any(|warning| warning.to_string().contains("`landing_tokens` = 4,000")),
            "{:?}",
            report.warnings
        );
        // Many bytes, few tokens.
        let report = report_of(|plan| plan.prompt.system = "understanding ".repeat(500));
        assert_eq!(report.warnings, []);
    }

    #[test]
    fn a_landing_that_leaves_no_room_is_warned_of() {
        let report = report_of(|plan| plan.limits.cost = Money::from_micro(1));
        assert!(
            report.warnings.iter().any(|warning| warning.to_string().contains("no other call has room")),
            "{:?}",
            report.warnings
        );
    }
}
