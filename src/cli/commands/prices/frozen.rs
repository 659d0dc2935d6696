//! `prices frozen|unfreeze`: what a bill above its reservation froze, who let it go again, and why.

use std::collections::{BTreeMap, VecDeque};

use serde::Serialize;

use super::{MEND, book, unknown};
use crate::cli::arguments::{BooksArguments, FrozenArguments, UnfreezeArguments};
use crate::cli::books;
use crate::cli::commands::Context;
use crate::cli::errors::{CliError, Problem, code};
use crate::cli::exit::Exit;
use crate::cli::project::configuration;
use crate::cli::render::table::{Column, Table};
use crate::cli::render::text::{count, one_line};
use crate::cli::session::{Session, SimChoice, block_on};
use crate::domain::audit::{Act, ActError, AuditEntry, Change, Freeze, Overrun};
use crate::ids::PriceId;
use crate::spec::project::Project;

/// The newest entries of the history that are shown.
const HISTORY_MAX: usize = 100;
/// The variables that may hold a person's name.
const NAME_VARIABLES: [&str; 3] = ["USER", "LOGNAME", "USERNAME"];

/// A frozen price row as it is shown.
#[derive(Serialize)]
pub(crate) struct FrozenRow {
    pub(crate) price: PriceId,
    pub(crate) freeze: Freeze,
}

impl FrozenRow {
    pub(crate) fn of((price, freeze): (PriceId, Freeze)) -> Self {
        Self { price, freeze }
    }

    /// `since 2026-11-23T09:00:00.000Z: run 01K…, reservation 3, was billed $2.00 of $1.00 reserved`.
    pub(crate) fn why(&self) -> String {
        let since = self
            .freeze
            .since
            .map_or_else(|| "from before there was an audit log".to_owned(), |at| format!("since {at}"));
        let first = self.freeze.overruns.first().map(|first| format!(": {}", told(first))).unwrap_or_default();
        let more = self.freeze.count.saturating_sub(1);
        let more = if more == 0 { String::new() } else { format!(", and {} since", count(more, "other overrun")) };
        format!("{since}{first}{more}")
    }
}

fn told(overrun: &Overrun) -> String {
    let Overrun { reservation, reserved_usd, billed_usd } = overrun;
    let (run, number) = (reservation.run, reservation.number);
    format!("run {run}, reservation {number}, was billed {billed_usd} of {reserved_usd} reserved")
}

/// What `prices frozen --json` prints.
#[derive(Serialize)]
struct FrozenDocument {
    frozen: Vec<FrozenRow>,
    /// With `--history`: the newest entries of the audit log on prices, oldest first.
    #[serde(skip_serializing_if = "Option::is_none")]
    history: Option<VecDeque<AuditEntry>>,
}

pub(super) fn frozen(context: &Context<'_>, arguments: &FrozenArguments) -> Result<Exit, CliError> {
    let project = configuration(context.project, arguments.books.sim)?;
    let (mut rows, mut history) = (Vec::new(), VecDeque::new());
    if let Some(store) = books::open(&project, arguments.books.sim)? {
        rows = store.freezes()?.into_iter().map(FrozenRow::of).collect();
        store.audit(&mut |entry| keep(&mut history, entry))?;
    }
    if arguments.json {
        let history = arguments.history.then_some(history);
        context.output.json(&FrozenDocument { frozen: rows, history })?;
        return Ok(Exit::Finished);
    }
    let width = context.output.data_width();
    if rows.is_empty() {
        context.output.talk("no price is frozen");
    } else {
        context.output.data(&table(&rows).render(width))?;
        context.output.talk(&format!("a frozen price is refused; {MEND}"));
    }
    if arguments.history && history.is_empty() {
        context.output.talk("no price ever was");
    } else if arguments.history {
        let gap = if rows.is_empty() { "" } else { "\n" };
        context.output.data(&format!("{gap}{}", history_table(&history).render(width)))?;
    }
    Ok(Exit::Finished)
}

fn keep(history: &mut VecDeque<AuditEntry>, entry: AuditEntry) {
    if matches!(entry.change, Change::PriceFrozen(_) | Change::PriceUnfrozen(_)) {
        history.push_back(entry);
    }
    if history.len() > HISTORY_MAX {
        history.pop_front();
    }
}

fn table(rows: &[FrozenRow]) -> Table {
    let mut table = Table::new([
        Column::id("PRICE"),
        Column::text("FROZEN SINCE"),
        Column::text("BY RUN"),
        Column::number("RESERVED"),
        Column::number("BILLED"),
        Column::number("OVERRUNS"),
    ]);
    for row in rows {
        let first = row.freeze.overruns.first();
        let cell = |show: &dyn Fn(&Overrun) -> String| first.map_or_else(|| "-".to_owned(), show);
        table.push([
            row.price.to_string(),
            row.freeze.since.map_or_else(|| "-".to_owned(), |at| at.to_string()),
            cell(&|overrun| overrun.reservation.to_string()),
            cell(&|overrun| overrun.reserved_usd.to_string()),
            cell(&|overrun| overrun.billed_usd.to_string()),
            row.freeze.count.to_string(),
        ]);
    }
    table
}

fn history_table(history: &VecDeque<AuditEntry>) -> Table {
    let mut table = Table::new([
        Column::text("WHEN"),
        Column::text("BY"),
        Column::text("WHAT"),
        Column::id("PRICE"),
        Column::text("WHY"),
    ]);
    for entry in history {
        let (what, price, why) = match &entry.change {
            Change::PriceFrozen(frozen) => ("froze", &frozen.price, told(&frozen.overrun)),
            Change::PriceUnfrozen(unfrozen) => ("unfroze", &unfrozen.price, one_line(&unfrozen.reason, 200)),
            Change::KeyMade(_)
            | Change::KeyRotated(_)
            | Change::KeyRevoked(_)
            | Change::SwitchSet(_)
            | Change::SwitchLifted(_)
            | Change::ExceptionAsked(_)
            | Change::ExceptionApproved(_)
            | Change::ExceptionEnded(_)
            | Change::BodiesErased(_)
            | Change::BudgetChanged(_)
            | Change::PricesChanged(_) => continue,
        };
        let by = one_line(&entry.by.to_string(), 40);
        table.push([entry.at.to_string(), by, what.to_owned(), price.to_string(), why]);
    }
    table
}

pub(super) fn unfreeze(context: &Context<'_>, arguments: &UnfreezeArguments) -> Result<Exit, CliError> {
    let project = configuration(context.project, arguments.books.sim)?;
    let nothing = || none(context, &project, arguments);
    if !books::folder(&project, arguments.books.sim).exists() {
        return Err(nothing());
    }
    block_on(async {
        let choice = SimChoice { sim: arguments.books.sim, ..SimChoice::default() };
        let session = Session::open(&project, BTreeMap::new(), &choice)?;
        // What isn't frozen needs nobody's name.
        if !session.runtime.store().frozen()?.iter().any(|frozen| frozen.price.is_named(&arguments.row)) {
            return Err(nothing());
        }
        let act = act(arguments)?;
        let lifted = session.runtime.unfreeze(&arguments.row, &act).await?;
        session.close().await;
        if arguments.json {
            context.output.json(&serde_json::json!({ "unfrozen": lifted, "by": act.by(), "reason": act.reason() }))?;
        } else {
            lifted.iter().for_each(|price| context.output.talk(&format!("{price} may be used again")));
        }
        Ok(Exit::Finished)
    })
}

/// Who, and why.
fn act(arguments: &UnfreezeArguments) -> Result<Act, CliError> {
    let named = || NAME_VARIABLES.iter().find_map(|name| std::env::var(name).ok().filter(|name| !name.is_empty()));
    let by = arguments.by.clone().or_else(named).unwrap_or_default();
    Act::new(&by, &arguments.reason).map_err(|error| {
        let (message, help) = match &error {
            ActError::NoReason => ("`--reason` is empty".to_owned(), "say why the price may be used again; it is kept"),
            ActError::Nobody => ("nobody is named as the one who does it".to_owned(), "add `--by NAME`; it is kept"),
            ActError::TooLong { .. } => (error.to_string(), "say it shorter"),
        };
        Problem::usage(code::USAGE, message).help(help).into()
    })
}

/// Nothing was lifted: no such price, or it isn't frozen here.
fn none(context: &Context<'_>, project: &Project, arguments: &UnfreezeArguments) -> CliError {
    let book = match book(context) {
        Ok(book) => book,
        Err(error) => return error,
    };
    let named = |row: &crate::domain::pricing::PriceRow| row.id.is_named(&arguments.row);
    if !book.rows().any(named) && !arguments.row.contains('@') {
        return unknown(&book, &arguments.row);
    }
    let message = format!("no price of `{}` is frozen", one_line(&arguments.row, 120));
    let help = elsewhere(project, arguments.books);
    Problem::usage(code::MODEL, message).help(help).into()
}

/// The simulated provider and the real ones have books of their own.
fn elsewhere(project: &Project, books: BooksArguments) -> &'static str {
    match (project.providers.is_empty(), books.sim) {
        (true, _) => "`plimsoll prices frozen` lists what is",
        (false, true) => "`plimsoll prices frozen --sim` lists what is; without `--sim`, at the real providers",
        (false, false) => "`plimsoll prices frozen` lists what is; with `--sim`, at the simulated provider",
    }
}
