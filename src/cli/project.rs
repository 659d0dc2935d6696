//! Finds and loads what a command needs of a project, and nothing else of it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::cli::arguments::{MadeArguments, WhichArguments};
use crate::cli::errors::{CliError, Problem, code};
use crate::cli::exit::Exit;
use crate::cli::render::text::one_line;
use crate::clock::Clock;
use crate::domain::event::{Labels, THREAD};
use crate::domain::label::{self, LabelFault};
use crate::domain::plan::Plan;
use crate::domain::pricing::{OffPeak, PriceBook, PriceRow, Rates, TierPrice, factor_text};
use crate::ids::{AgentName, ModelName};
use crate::provider::{ProviderError, check_key};
use crate::sim::{SimDeployment, SimHours, SimLong, SimPrice, SimTier};
use crate::spec::load::{Answering, LoadOptions, find_project, load_agent, load_configuration};
use crate::spec::project::{Deployment, Project, ProviderConfig};
use crate::store::RunFilter;
use crate::units::{Millis, Timestamp, TokenPrice};

/// The project's folder.
///
/// # Errors
/// There is none.
pub fn folder(named: Option<&Path>) -> Result<PathBuf, CliError> {
    let current = current_folder()?;
    let home = std::env::var_os("PLIMSOLL_HOME").filter(|home| !home.is_empty()).map(PathBuf::from);
    Ok(find_project(named, home.as_deref(), &current)?)
}

/// The folder that the process stands in.
///
/// # Errors
/// It was deleted, or can't be read.
pub fn current_folder() -> Result<PathBuf, CliError> {
    std::env::current_dir().map_err(|error| {
        Problem::usage(code::SYSTEM, format!("can't find the current folder: {error}"))
            .help("go to a folder that exists")
            .into()
    })
}

/// How files are read: by the configured providers, or by the simulated one.
#[must_use]
pub fn load_options(sim: bool) -> LoadOptions {
    let environment = std::env::var("PLIMSOLL_ENVIRONMENT").ok().filter(|value| !value.is_empty());
    let answering = if sim { Answering::Simulated } else { Answering::Configured };
    LoadOptions { answering, environment }
}

/// `plimsoll.toml` alone.
///
/// # Errors
/// Its faults.
pub fn configuration(named: Option<&Path>, sim: bool) -> Result<Project, CliError> {
    Ok(load_configuration(&folder(named)?, &load_options(sim))?)
}

/// One agent, with `plimsoll.toml` and its tools.
///
/// # Errors
/// Their faults.
pub fn agent(named: Option<&Path>, name: &str, sim: bool) -> Result<(Project, Plan), CliError> {
    Ok(load_agent(&folder(named)?, name, &load_options(sim))?)
}

/// True where the simulated provider answers: it was asked for, or no other is configured.
#[must_use]
pub fn is_simulated(project: &Project, sim: bool) -> bool {
    sim || project.providers.is_empty()
}

/// Looks, before anything is made, whether the providers of an agent's models have their keys. A key's program isn't
/// run: its failure is the run's.
///
/// # Errors
/// A variable that isn't set, or a file that isn't there or isn't one of a key.
pub fn keys_are_there(project: &Project, plan: &Plan) -> Result<(), CliError> {
    let downgrade = plan.model.downgrade.iter().flat_map(|downgrade| &downgrade.candidates);
    for model in plan.model.candidates.iter().chain(downgrade) {
        let Some(provider) = project.providers.get(&model.provider()) else { continue };
        let Err(error) = check_key(provider) else { continue };
        let (what, mend) = if let ProviderError::KeyMissing { provider, variable } = &error {
            let what = format!("provider `{provider}` takes its key from `{variable}`, which is not set");
            (what, "export it, change `key_env`")
        } else {
            (error.to_string(), "mend that file, name another")
        };
        let help = format!("{mend}, or let the simulated provider answer with `--sim`");
        return Err(Problem::usage(code::PROVIDER, format!("{what}; nothing was run")).help(help).into());
    }
    Ok(())
}

/// The project's prices, over the built-in ones: what was imported, and its own over that.
#[must_use]
pub fn price_rows(project: &Project) -> Vec<PriceRow> {
    let is_own = |row: &&PriceRow| project.prices.iter().any(|own| own.model == row.model);
    let imported = project.imported.rows.iter().filter(|row| !is_own(row));
    imported.chain(&project.prices).cloned().collect()
}

/// The book's prices at the places where the project reaches its providers, where those have prices of their own. The
/// project's own prices stand over them, and the simulated provider is reached at none of them.
///
/// # Errors
/// A rate that the place's factor doesn't leave whole.
fn endpoint_rows(project: &Project) -> Result<Vec<PriceRow>, CliError> {
    let below = PriceBook::builtin().with_overrides(project.imported.rows.clone());
    let mut rows = Vec::new();
    for provider in project.providers.values() {
        let Some(factor) = provider.endpoint_factor() else { continue };
        let book = below
            .at_endpoint(&provider.name, factor)
            .map_err(|error| Problem::told(code::MODEL, &error, Exit::Usage))?;
        let is_own = |row: &PriceRow| project.prices.iter().any(|price| price.model == row.model);
        let mine = book.rows().filter(|row| row.model.provider() == provider.name && !is_own(row));
        let changed = |row: &PriceRow| book.versions_of(&row.model).any(|row| below.find_version(&row.id).is_none());
        // All versions of a model, or none: those that the factor leaves alone hold in their time.
        rows.extend(mine.filter(|row| changed(row)).cloned());
    }
    Ok(rows)
}

/// The project's prices over the book: those of Azure's deployments, the project's own, where real providers answer those
/// of the places where they are reached, and what was imported.
///
/// # Errors
/// A rate that a place's factor doesn't leave whole.
pub fn project_rows(project: &Project, answering: Answering) -> Result<Vec<PriceRow>, CliError> {
    let mut rows = price_rows(project);
    let places = if answering == Answering::Configured { endpoint_rows(project)? } else { Vec::new() };
    stand_over(&mut rows, places);
    // A deployment's row knows what its replies are called.
    let deployments = deployment_rows(project, &PriceBook::builtin().with_overrides(rows.clone()));
    stand_over(&mut rows, deployments);
    Ok(rows)
}

/// Puts rows over others: a model that has one keeps none of those below.
fn stand_over(below: &mut Vec<PriceRow>, rows: Vec<PriceRow>) {
    below.retain(|row| !rows.iter().any(|over| over.model == row.model));
    below.extend(rows);
}

/// The price book with the project's prices over it, and what was imported below those.
///
/// # Errors
/// As [`project_rows`].
pub fn price_book(project: &Project) -> Result<PriceBook, CliError> {
    price_book_for(project, Answering::Configured)
}

/// The same for whoever answers.
///
/// # Errors
/// As [`project_rows`].
pub fn price_book_for(project: &Project, answering: Answering) -> Result<PriceBook, CliError> {
    let imported = PriceBook::builtin().with_overrides(project.imported.rows.clone());
    Ok(imported.with_overrides(project_rows(project, answering)?))
}

/// A row for each of Azure's deployments: the project's own price of it, else that of its base model in its zone. One
/// without either has no row, and is refused.
fn deployment_rows(project: &Project, book: &PriceBook) -> Vec<PriceRow> {
    let named = project.providers.values().flat_map(|provider| {
        let names = provider.azure.iter().flat_map(|azure| azure.deployments.keys());
        names.filter_map(|name| {
            let model = ModelName::from(format!("{}/{name}", provider.name));
            provider.priced_as(&model).map(|priced| (model, priced))
        })
    });
    let is_own = |model: &ModelName| project.prices.iter().any(|price| price.model == *model);
    let rows = named.flat_map(|(model, priced)| {
        let of = if is_own(&model) { &model } else { &priced };
        book.standing_for(&model, of, &priced)
    });
    rows.collect()
}

/// The project's prices, for the simulated provider's invoice.
#[must_use]
pub fn sim_prices(project: &Project) -> Vec<SimPrice> {
    price_rows(project).iter().map(sim_price).collect()
}

/// A price as the simulated provider reads it.
#[must_use]
pub fn sim_price(row: &PriceRow) -> SimPrice {
    let SimTier { input, output, cache_read, cache_write, cache_write_long, long } = sim_tier(&row.price);
    SimPrice {
        model: row.model.to_string(),
        input,
        output,
        cache_read,
        cache_write,
        cache_write_long,
        long,
        tiers: row.service_tiers.iter().map(|(name, tier)| (name.clone(), sim_tier(tier))).collect(),
        hours: row.off_peak.iter().map(sim_hours).collect(),
        factors: row.multipliers.iter().map(|(factor, by)| (factor.name().to_owned(), factor_text(*by))).collect(),
        fees: row.fees.iter().map(|(fee, price)| (fee.name().to_owned(), price.usd())).collect(),
        per_call: (!row.per_call.is_zero()).then(|| row.per_call.usd()),
        context: None,
        from: row.valid_from,
        to: row.valid_to,
    }
}

fn sim_tier(tier: &TierPrice) -> SimTier {
    let decimal = TokenPrice::usd_per_million;
    let Rates { input, output, cache_read, cache_write, cache_write_long } = tier.rates;
    let long = tier.long.as_ref().map(|long| SimLong {
        above: long.above.0,
        input: Some(decimal(long.rates.input)),
        output: Some(decimal(long.rates.output)),
        cache_read: long.rates.cache_read.map(decimal),
        cache_write: long.rates.cache_write.map(decimal),
        cache_write_long: long.rates.cache_write_long.map(decimal),
    });
    SimTier {
        input: decimal(input),
        output: decimal(output),
        cache_read: cache_read.map(decimal),
        cache_write: cache_write.map(decimal),
        cache_write_long: cache_write_long.map(decimal),
        long,
    }
}

fn sim_hours(off_peak: &OffPeak) -> SimHours {
    SimHours { when: off_peak.hours.iter().map(ToString::to_string).collect(), rates: sim_tier(&off_peak.price) }
}

/// Azure's deployments, for the simulated provider's invoice.
#[must_use]
pub fn sim_deployments(project: &Project) -> Vec<SimDeployment> {
    let of = |provider: &ProviderConfig| {
        let named = provider.azure.iter().flat_map(|azure| &azure.deployments);
        let sim = |(name, deployment): (&String, &Deployment)| SimDeployment {
            name: format!("{}/{name}", provider.name),
            model: deployment.model.clone(),
            scope: deployment.scope.name().to_owned(),
        };
        named.map(sim).collect::<Vec<_>>()
    };
    project.providers.values().flat_map(of).collect()
}

/// The labels of `--label name=value`.
///
/// # Errors
/// One that is no label, that is given twice, or that the agent or the project gives.
pub fn labels(given: &[String], derived: DerivedLabels) -> Result<Labels, CliError> {
    let told = |fault: LabelFault| Problem::told(code::LABEL, &fault, Exit::Usage);
    let mut labels = Labels::new();
    for text in given {
        let pair = text.split_once('=').ok_or_else(|| LabelFault::Form(one_line(text, 80)));
        let (name, value) = pair.map_err(told)?;
        label::judge_form(name, value).map_err(told)?;
        if labels.insert(name.to_owned(), value.to_owned()).is_some() {
            let message = format!("the label `{name}` is given twice");
            return Err(Problem::usage(code::LABEL, message).help("give it once").into());
        }
    }
    match label::judge(&labels) {
        Err(LabelFault::Derived(_)) if derived == DerivedLabels::Allowed => Ok(labels),
        judged => judged.map(|()| labels).map_err(|fault| told(fault).into()),
    }
}

/// The same, with the label of a thread where one is named.
///
/// # Errors
/// As [`labels`].
pub fn labels_in(given: &[String], thread: Option<&str>, derived: DerivedLabels) -> Result<Labels, CliError> {
    let thread = thread.map(|id| format!("{THREAD}={id}"));
    labels(&given.iter().cloned().chain(thread).collect::<Vec<_>>(), derived)
}

/// The runs that a command asks for.
///
/// # Errors
/// What isn't a label, a state or a point in time.
pub fn filter(which: &WhichArguments, thread: Option<&str>, made: &MadeArguments) -> Result<RunFilter, CliError> {
    let now = clock().now();
    let point = |option: &str, text: &Option<String>| text.as_ref().map(|text| when(option, text, now)).transpose();
    Ok(RunFilter {
        agent: which.agent.as_deref().map(AgentName::from),
        states: states(&which.state)?,
        labels: labels_in(&which.label, thread, DerivedLabels::Allowed)?,
        since: point("--since", &made.since)?,
        until: point("--until", &made.until)?,
        ..RunFilter::default()
    })
}

/// Whether labels may be given that the agent and the project give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DerivedLabels {
    /// To find runs.
    Allowed,
    /// To make runs.
    Refused,
}

/// A point in time as people type it: a length of time back, a date in UTC, or RFC 3339.
///
/// # Errors
/// Says what can be typed.
pub fn when(option: &str, text: &str, now: Timestamp) -> Result<Timestamp, CliError> {
    if let Ok(back) = Millis::parse(text) {
        return Ok(Timestamp(now.0.saturating_sub(back.0)));
    }
    let date = text.parse::<jiff::civil::Date>().ok().and_then(|date| date.to_zoned(jiff::tz::TimeZone::UTC).ok());
    let instant = text.parse::<jiff::Timestamp>().ok().or_else(|| date.map(|zoned| zoned.timestamp()));
    let millis = instant.and_then(|instant| u64::try_from(instant.as_millisecond()).ok());
    millis.map(Timestamp).ok_or_else(|| {
        let message = format!("`{option} {text}` is no point in time");
        Problem::usage(code::USAGE, message)
            .help("write a length of time back, such as `24h`, or a date, such as `2026-11-01`")
            .into()
    })
}

/// Plans by name, of one.
#[must_use]
pub fn only(plan: Plan) -> BTreeMap<crate::ids::AgentName, Plan> {
    BTreeMap::from([(plan.agent.clone(), plan)])
}

/// The states that were typed.
///
/// # Errors
/// One that is none.
pub fn states(given: &[String]) -> Result<BTreeSet<crate::domain::event::RunState>, CliError> {
    let parsed: Result<_, String> = given.iter().map(|text| text.trim().parse()).collect();
    parsed.map_err(|message| {
        let help = "states are queued, running, awaiting_budget, awaiting_approval, awaiting_input, interrupted, finished, stopped, failed and cancelled";
        Problem::usage(code::USAGE, message).help(help).into()
    })
}

/// The system's clock.
#[must_use]
pub fn clock() -> Clock {
    Clock::system()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_names_with_values() {
        let given = |texts: &[&str]| -> Vec<String> { texts.iter().map(|text| (*text).to_owned()).collect() };
        let labels_of = |texts: &[&str]| labels(&given(texts), DerivedLabels::Refused);
        assert_eq!(labels_of(&["tenant=acme", "a.b=c=d"]).expect("labels").len(), 2);
        for bad in [&["tenant"][..], &["=x"], &["tenant="], &["a b=c"], &["t=1", "t=2"], &["agent=x"], &["t=a\u{1b}b"]]
        {
            assert_eq!(labels_of(bad).expect_err("bad").exit(), Exit::Usage, "{bad:?}");
        }
        assert!(labels(&given(&["agent=x"]), DerivedLabels::Allowed).is_ok());
    }

    #[test]
    fn prices_are_those_of_the_place_where_the_provider_is_reached() {
        let folder = tempfile::tempdir().expect("a folder");
        let text = "[providers.openai]\nwire = \"openai-chat\"\nbase_url = \"https://eu.api.openai.com/v1\"\n\
            [[prices]]\nmodel = \"openai/gpt-6-sol\"\ninput = \"1\"\noutput = \"2\"\n";
        std::fs::write(folder.path().join("plimsoll.toml"), text).expect("a file");
        let project = load_configuration(folder.path(), &load_options(false)).expect("a good file");
        let (book, now) = (price_book(&project).expect("a book"), clock().now());
        let input = |model: &str| book.find(&model.into(), now).expect("a price").price.rates.input.usd_per_million();
        assert_eq!(input("openai/gpt-6.1-sol"), "2.2", "a tenth more");
        assert_eq!(input("openai/gpt-6-sol"), "1", "the project's own");
        assert_eq!(input("openai/gpt-5-mini"), "0.25", "no factor is known");
        assert!(price_rows(&project).len() == 1, "the simulated provider is reached at no such place");
    }

    #[test]
    fn points_in_time_read_as_people_type_them() {
        let now = Timestamp(1_795_424_400_000);
        let read = |text: &str| when("--since", text, now).map(|at| at.to_string()).ok();
        assert_eq!(read("24h").as_deref(), Some("2026-11-22T09:00:00.000Z"));
        assert_eq!(read("2026-11-01").as_deref(), Some("2026-11-01T00:00:00.000Z"));
        assert_eq!(read("2026-11-01T12:00:00+01:00").as_deref(), Some("2026-11-01T11:00:00.000Z"));
        assert_eq!(read("yesterday"), None);
    }
}
