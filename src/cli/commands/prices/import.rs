//! `prices import`: what LiteLLM's list says, shown as a difference, and written to `prices.toml` on a yes.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Read as _, Write as _};
use std::path::Path;

use serde::Serialize;
use sha2::{Digest, Sha256};

use super::diff::{holding, table};
use crate::cli::arguments::ImportArguments;
use crate::cli::ask::{agrees, is_somebody_there};
use crate::cli::commands::Context;
use crate::cli::errors::{CliError, Problem, code};
use crate::cli::exit::Exit;
use crate::cli::project::{clock, configuration};
use crate::cli::render::text::{count, one_line};
use crate::domain::plan::hex;
use crate::domain::pricing::{Change, PriceBook, changes, midnight};
use crate::ids::ProviderName;
use crate::spec::litellm::{self, BYTES_MAX, Map, Origin};
use crate::spec::prices::{FILE_BYTES_MAX, Imported, PRICES_FILE};
use crate::spec::project::Project;

/// Refused models that are shown one by one.
const REFUSED_SHOWN_MAX: usize = 50;

/// A list that was read.
pub(super) struct Listed {
    pub(super) map: Map,
    /// What `prices.toml` says of it.
    from: Imported,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Document<'a> {
    source: &'a str,
    sha256: &'a str,
    retrieved: &'a str,
    changes: &'a [Change],
    same: usize,
    refused: &'a BTreeMap<String, String>,
    other_modes: &'a BTreeMap<String, u64>,
    other_providers: u64,
    written: bool,
}

pub(super) fn import(context: &Context<'_>, arguments: &ImportArguments) -> Result<Exit, CliError> {
    let project = configuration(context.project, true)?;
    let now = clock().now();
    let today = now.to_string().chars().take("2026-11-23".len()).collect();
    let retrieved: String = arguments.retrieved.clone().unwrap_or(today);
    if midnight(&retrieved).is_none_or(|day| day > now) {
        let message = format!("`--retrieved {}` is no day up to today", one_line(&retrieved, 40));
        return Err(Problem::usage(code::USAGE, message).help("write a date, such as `2026-11-23`").into());
    }
    let Listed { map, from } = listed(&arguments.file, &wanted(Some(&project), &arguments.provider), &retrieved)?;
    let book = PriceBook::builtin().with_overrides(project.imported.rows.clone());
    let has = |model: &crate::ids::ModelName| map.rows.iter().any(|row| row.model == *model);
    let found = changes(holding(&book, now).filter(|row| has(&row.model)), &map.rows);
    let text = project.imported.clone().with(map.rows.clone(), &from, now).to_toml();
    if !arguments.json {
        show(context, &map, &found, &project)?;
    }
    let written = !map.rows.is_empty() && is_wanted(context, arguments)?;
    if written {
        write(&project.root.join(PRICES_FILE), &text)?;
    }
    if arguments.json {
        let (Imported { source, sha256, retrieved, .. }, same) = (&from, map.rows.len() - found.len());
        let Map { refused, other_modes, other_providers, .. } = &map;
        let other_providers = *other_providers;
        let document = Document {
            source,
            sha256,
            retrieved,
            changes: &found,
            same,
            refused,
            other_modes,
            other_providers,
            written,
        };
        context.output.json(&document)?;
    } else if written {
        let prices = count(map.rows.len().try_into().unwrap_or(u64::MAX), "price");
        context.output.talk(&format!("wrote {prices} to {PRICES_FILE}; `plimsoll prices diff` shows what is in force"));
    } else {
        context.output.talk("nothing was written");
    }
    Ok(Exit::Finished)
}

/// Whether models of a provider are read: of those named, else of the configured ones, else of those in the built-in book.
pub(super) fn wanted(project: Option<&Project>, named: &[String]) -> impl Fn(&ProviderName) -> bool + use<> {
    let configured = project.into_iter().flat_map(|project| project.providers.keys().cloned());
    let mut names: Vec<ProviderName> = named.iter().map(|name| ProviderName::from(name.as_str())).collect();
    if names.is_empty() {
        names = configured.collect();
    }
    if names.is_empty() {
        names = PriceBook::builtin().rows().map(|row| row.model.provider()).collect();
        names.dedup();
    }
    move |provider| names.contains(provider)
}

/// Reads a list.
pub(super) fn listed(file: &Path, wanted: &dyn Fn(&ProviderName) -> bool, retrieved: &str) -> Result<Listed, CliError> {
    let shown = one_line(&file.display().to_string(), 200);
    let problem = |message: String, help: &str| Problem::usage(code::FILE, message).help(help);
    let read = || -> io::Result<String> {
        let mut text = String::new();
        std::fs::File::open(file)?.take(BYTES_MAX + 1).read_to_string(&mut text)?;
        Ok(text)
    };
    let text = read().map_err(|error| problem(format!("can't read `{shown}`: {error}"), "name a file of JSON"))?;
    if text.len() > usize::try_from(BYTES_MAX).unwrap_or(usize::MAX) {
        return Err(problem(format!("`{shown}` is larger than {BYTES_MAX} bytes"), "name a list of prices").into());
    }
    let name = file.file_name().map_or(shown.clone(), |name| one_line(&name.to_string_lossy(), 100));
    let sha256 = hex(&Sha256::digest(text.as_bytes()));
    let source = format!("{name}, sha256 {}", sha256.get(..12).unwrap_or_default());
    let map = litellm::read(&text, wanted, Origin { source: &source, retrieved }).map_err(|error| {
        let help = "it reads LiteLLM's `model_prices_and_context_window.json`; `--provider NAME` takes fewer models";
        problem(format!("`{shown}` can't be taken in: {error}"), help)
    })?;
    let from = Imported { rows: Vec::new(), source: name, sha256, retrieved: retrieved.to_owned() };
    Ok(Listed { map, from })
}

fn show(context: &Context<'_>, map: &Map, found: &[Change], project: &Project) -> Result<(), CliError> {
    if !found.is_empty() {
        context.output.data(&table(found).render(context.output.data_width()))?;
    }
    context.output.talk(&summary(map, found.len()));
    for (model, why) in map.refused.iter().take(REFUSED_SHOWN_MAX) {
        context.output.talk(&format!("  refused: {}: {}", one_line(model, 80), one_line(why, 200)));
    }
    let more = map.refused.len().saturating_sub(REFUSED_SHOWN_MAX);
    if more > 0 {
        context.output.talk(&format!("  and {more} more; `--json` names them all"));
    }
    let own = map.rows.iter().filter(|row| project.prices.iter().any(|own| own.model == row.model)).count();
    if own > 0 {
        let prices = count(own.try_into().unwrap_or(u64::MAX), "price");
        context.output.talk(&format!("{prices} of plimsoll.toml stand over these"));
    }
    Ok(())
}

fn summary(map: &Map, changed: usize) -> String {
    let number = |length: usize| u64::try_from(length).unwrap_or(u64::MAX);
    let mut text = format!(
        "{} read: {changed} differ from what is in force, {} don't; {} refused",
        count(number(map.rows.len()), "price"),
        map.rows.len() - changed,
        map.refused.len()
    );
    let others: Vec<String> = map.other_modes.iter().map(|(mode, count)| format!("{count} {mode}")).collect();
    if !others.is_empty() {
        let _infallible = write!(text, "; passed over: {}", others.join(", "));
    }
    if map.other_providers > 0 {
        let _infallible = write!(text, "; {} of other providers", map.other_providers);
    }
    text
}

/// Whether to write: nobody is asked who said it, and who can't be asked must have.
fn is_wanted(context: &Context<'_>, arguments: &ImportArguments) -> Result<bool, CliError> {
    if arguments.dry_run || arguments.yes {
        return Ok(arguments.yes);
    }
    if !is_somebody_there(context.output) {
        let message = "nothing was written: nobody can be asked here";
        return Err(Problem::usage(code::USAGE, message.to_owned())
            .help("add `--yes` to write, or `--dry-run`")
            .into());
    }
    let failed = |error: io::Error| Problem::new(code::OUTPUT, format!("can't ask: {error}"));
    Ok(agrees("write these prices?").map_err(failed)?)
}

/// Writes beside its place and moves it there, so that nobody reads half of it.
fn write(path: &Path, text: &str) -> Result<(), CliError> {
    if text.len() > usize::try_from(FILE_BYTES_MAX).unwrap_or(usize::MAX) {
        let message = format!("the prices come to {} bytes, more than {FILE_BYTES_MAX}", text.len());
        return Err(Problem::usage(code::FILE, message).help("take in fewer models with `--provider NAME`").into());
    }
    let draft = path.with_extension("toml.new");
    let written = || -> io::Result<()> {
        let mut file = std::fs::File::create(&draft)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&draft, path)
    };
    written().map_err(|error| {
        let help = "look whether the project's folder may be written to";
        Problem::new(code::FILE, format!("can't write `{}`: {error}", path.display())).help(help).into()
    })
}
