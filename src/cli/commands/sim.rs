//! `sim`: the simulated provider as a process of its own.

use std::path::Path;

use super::Context;
use crate::cli::arguments::SimArguments;
use crate::cli::errors::{CliError, Problem, code};
use crate::cli::exit::Exit;
use crate::cli::project::{configuration, sim_deployments, sim_prices};
use crate::cli::session::{Signals, block_on, scenario};
use crate::sim::{Sim, SimOptions};

pub(super) fn sim(context: &Context<'_>, arguments: &SimArguments) -> Result<Exit, CliError> {
    // It serves without a project too; prices of a project stand over its own.
    let project = configuration(context.project, true).ok();
    let options = SimOptions {
        listen: arguments.listen,
        scenario: scenario(arguments.scenario.as_deref())?,
        invoice: arguments.invoice.clone(),
        prices: project.as_ref().map(sim_prices).unwrap_or_default(),
        deployments: project.as_ref().map(sim_deployments).unwrap_or_default(),
        ..SimOptions::default()
    };
    block_on(async {
        // Before anyone can know the address: who reads it may ask for the end at once.
        let mut signals = Signals::listen();
        let handle = Sim::start(options)?;
        if let Some(path) = &arguments.service_account {
            std::fs::write(path, handle.service_account()).map_err(|error| unwritten(path, &error))?;
        }
        // A script waits for this line, and reads the address from it.
        context.output.data(&handle.base_url())?;
        context.output.talk("the simulated provider listens there, and bills nobody; set it as `base_url` of a provider of wire `openai-chat` or `anthropic`; Ctrl-C ends it");
        signals.next().await;
        let invoice = handle.invoice();
        handle.stop().await;
        context
            .output
            .talk(&format!("{} calls, {} billed, {} in all", invoice.count, invoice.billed_count, invoice.total));
        Ok(Exit::Finished)
    })
}

fn unwritten(path: &Path, error: &std::io::Error) -> CliError {
    let message = format!("`{}` can't be written: {error}", path.display());
    Problem::usage(code::SIM, message).help("name another file for `--service-account`").into()
}
