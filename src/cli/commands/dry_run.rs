//! `run --dry-run`: the plan, the first request as it would go out, its worst case. Sends nothing.

use serde::Serialize;

use super::Context;
use crate::cli::arguments::RunArguments;
use crate::cli::commands::check::frozen_warnings;
use crate::cli::commands::check::lints::Warning;
use crate::cli::commands::prices::FrozenRow;
use crate::cli::commands::run::sim_choice;
use crate::cli::errors::{CliError, Problem, code};
use crate::cli::exit::Exit;
use crate::cli::project;
use crate::cli::session::{Session, block_on};
use crate::domain::event::BoundMethod;
use crate::domain::plan::Plan;
use crate::ids::PlanHash;
use crate::runtime::{DryRun, NewRun};
use crate::spec::project::Project;

/// What `--dry-run --json` prints.
#[derive(Serialize)]
struct DryRunDocument<'a> {
    plan_hash: PlanHash,
    plan: &'a Plan,
    first_call: &'a DryRun,
    warnings: &'a [Warning],
}

pub(super) fn dry_run(
    context: &Context<'_>,
    arguments: &RunArguments,
    project: &Project,
    plan: Plan,
    new: &NewRun,
) -> Result<Exit, CliError> {
    let shown = plan.clone();
    let (dry, warnings) = block_on(async {
        let session = Session::open(project, project::only(plan), &sim_choice(arguments))?;
        let dry = session.runtime.dry_run(new)?;
        let frozen: Vec<FrozenRow> = session.runtime.store().freezes()?.into_iter().map(FrozenRow::of).collect();
        let warnings = frozen_warnings(&shown, session.runtime.prices(), project::clock().now(), &frozen);
        session.close().await;
        Ok((dry, warnings))
    })?;
    if arguments.json {
        context.output.json(&DryRunDocument {
            plan_hash: shown.hash(),
            plan: &shown,
            first_call: &dry,
            warnings: &warnings,
        })?;
    } else {
        context.output.data(&describe(&shown, &dry)?)?;
        warnings.iter().for_each(|warning| context.output.talk(&format!("warning: {warning}")));
        context.output.talk("nothing was sent, and nothing was spent");
    }
    Ok(if dry.refusal.is_some() {
        Exit::Stopped
    } else if dry.error.is_some() {
        Exit::Failed
    } else {
        Exit::Finished
    })
}

fn describe(plan: &Plan, dry: &DryRun) -> Result<String, CliError> {
    let hash: String = plan.hash().as_str().chars().take(12).collect();
    let tools: Vec<&str> = plan.tools.keys().map(crate::ids::ToolName::as_str).collect();
    let tools = if tools.is_empty() { "no tools".to_owned() } else { format!("tools {}", tools.join(", ")) };
    let mut lines = vec![format!("agent {}  plan {hash}, prompt {}, {tools}", plan.agent, plan.prompt.label())];
    lines.push(format!("load line         {}", dry.load_line));
    lines.extend(dry.refusal.as_ref().map(|refusal| format!("refused           {refusal}")));
    lines.extend(dry.error.as_ref().map(|error| format!("can't be made     {error}")));
    lines.extend(dry.model.as_ref().map(|model| format!("first call        {model}")));
    lines.extend(dry.price.as_ref().map(|price| format!("price             {price}")));
    lines.extend(dry.bound.map(|bound| {
        let method = match bound.method {
            BoundMethod::Bytes => "one for each byte",
            BoundMethod::Tokens => "counted, with a margin",
        };
        format!("input bound       {} tokens, {method}", bound.tokens)
    }));
    lines.extend(dry.pots.map(|pots| {
        format!(
            "by pot            instructions {}, history {}, documents {}, tool_output {}",
            pots.instructions, pots.history, pots.documents, pots.tool_output
        )
    }));
    lines.extend(dry.cuts.iter().map(|cut| format!("cut               {} tokens: {}", cut.tokens, cut.what)));
    lines.extend(dry.request.as_ref().map(|request| format!("output cap        {} tokens", request.max_output_tokens)));
    lines.extend(dry.prompt_cache.map(|choice| format!("prompt cache      {choice}")));
    lines.push(format!("worst case        {}", dry.worst_case));
    lines.push(format!("landing reserve   {}", dry.landing_reserve));
    if let Some(wire) = &dry.wire {
        let body = serde_json::to_string_pretty(wire)
            .map_err(|error| Problem::new(code::OUTPUT, format!("can't show the request: {error}")))?;
        lines.push(format!("\nthe request as it would go out:\n{body}"));
    }
    Ok(lines.join("\n"))
}
