//! The commands, one file each.

mod alerts;
mod approve;
mod audit;
mod budget;
mod cancel;
mod check;
mod completions;
mod cost;
mod dry_run;
mod each;
mod export;
mod init;
mod keys;
mod outcome;
mod prices;
mod rates;
mod replay;
mod resume;
mod run;
mod runs;
mod schema;
mod serve;
mod sim;
mod switch;
mod trace;

use std::path::Path;

use crate::cli::arguments::{Arguments, Command};
use crate::cli::errors::CliError;
use crate::cli::exit::Exit;
use crate::cli::output::Output;

/// What every command has.
pub(crate) struct Context<'a> {
    /// `--project`.
    pub(crate) project: Option<&'a Path>,
    /// Where it writes.
    pub(crate) output: &'a Output,
}

/// Does what was asked.
pub(crate) fn dispatch(arguments: &Arguments, output: &Output) -> Result<Exit, CliError> {
    let context = Context { project: arguments.project.as_deref(), output };
    match &arguments.command {
        Command::Init => init::init(&context),
        Command::Check(check) => check::check(&context, check),
        Command::Run(run) => run::run(&context, run),
        Command::Record(record) => run::record(&context, record),
        Command::Runs(runs) => runs::runs(&context, runs),
        Command::Replay(replay) => replay::replay(&context, replay),
        Command::Trace(trace) => trace::trace(&context, trace),
        Command::Resume(resume) => resume::resume(&context, resume),
        Command::Approve(approve) => approve::approve(&context, approve),
        Command::Answer(answer) => approve::answer(&context, answer),
        Command::Cancel(cancel) => cancel::cancel(&context, cancel),
        Command::Outcome(outcome) => outcome::outcome(&context, outcome),
        Command::Cost(cost) => cost::cost(&context, cost),
        Command::Budget(budget) => budget::budget(&context, budget),
        Command::Switch(switch) => switch::switch(&context, switch),
        Command::Alerts(alerts) => alerts::alerts(&context, alerts),
        Command::Rates(rates) => rates::rates(&context, rates),
        Command::Prices(prices) => prices::prices(&context, prices),
        Command::Serve(serve) => serve::serve(&context, serve),
        Command::Keys(keys) => keys::keys(&context, keys),
        Command::Audit(audit) => audit::audit(&context, audit),
        Command::Sim(sim) => sim::sim(&context, sim),
        Command::Schema { kind } => schema::schema(&context, *kind),
        Command::Export(what) => export::export(&context, what),
        Command::Completions { shell } => completions::completions(&context, *shell),
    }
}
