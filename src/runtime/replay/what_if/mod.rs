//! What a recorded run would have come to under other limits, at other prices or with other models; no call is made.
//!
//! The tree is told again by the conductor that drives every run, over a store in memory and in virtual time, and what was
//! recorded answers in the place of models, tools and people. So a limit stops it where it would have: where the bound of
//! the next call doesn't fit, beside what is kept for landing. Where something is asked that was never answered, nobody
//! knows how it went on, and that is said.
//!
//! What is taken as it was recorded: replies, their tokens, their times, and documents. Shared budgets, rates and what was
//! kept of earlier answers belong to others, and are left out. Deliberately absent: decisions.

mod again;
mod change;
mod lines;
mod live;
mod needs;
mod record;
mod verdict;

pub use change::{Change, Instead};
pub use lines::{Figures, Line};
pub use verdict::{Stop, Verdict};

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Difference, Player, TreeLog, replay};
use crate::domain::event::{Call, Event, RunState};
use crate::domain::pricing::PriceBook;
use crate::gate::Appraiser;
use crate::ids::{AgentName, ModelName, RunId};
use crate::runtime::RuntimeError;
use crate::runtime::checks::Checks;
use crate::spec::fault::{nearest, suggest};
use crate::units::{Money, Timestamp};
use record::Record;

/// What a recorded run would have come to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WhatIf {
    /// The root.
    pub run: RunId,
    /// Its agent.
    pub agent: AgentName,
    /// What is changed, in words.
    pub changed: Vec<String>,
    /// Every attempt of the tree, in the order in which it would be made; then those that would not.
    pub lines: Vec<Line>,
    /// The limit `cost` that holds now.
    pub cap_usd: Money,
    /// What it cost.
    pub recorded_usd: Money,
    /// What it would have cost, as far as that is known.
    pub would_usd: Money,
    /// The part of that whose usage isn't known.
    pub unknown_usd: Money,
    /// Where it would have gone another way.
    pub verdict: Verdict,
    /// What isn't exact.
    pub notes: Vec<String>,
}

/// Why nothing can be told.
#[derive(Debug, thiserror::Error)]
pub enum WhatIfError {
    /// What was pinned isn't known any more.
    #[error("{0}")]
    Difference(Box<Difference>),
    /// The run asks no such model.
    #[error("the run asks no model `{model}`")]
    NotAsked {
        /// The name.
        model: ModelName,
        /// How to mend it.
        help: String,
    },
    /// A model without a price: never taken as zero.
    #[error("`{model}` has no price at {at}, when the run was made: what it would cost can't be told")]
    NoPrice {
        /// The model.
        model: ModelName,
        /// The time.
        at: Timestamp,
        /// How to mend it.
        help: String,
    },
    /// It can't be told again.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
}

impl WhatIfError {
    /// How to mend it.
    #[must_use]
    pub fn help(&self) -> &str {
        match self {
            Self::Difference(_) => "`plimsoll replay RUN` alone tells more; a price that was taken out can be put back",
            Self::NotAsked { help, .. } | Self::NoPrice { help, .. } => help,
            Self::Runtime(_) => "`plimsoll replay RUN` alone tells whether its log is whole",
        }
    }
}

/// Tells a run again under a change. A desk has the prices and the terms in force; what was pinned holds, but for what the
/// change says.
///
/// # Errors
/// A model without a price, or one that the run doesn't ask; or the run's own prices or log aren't there.
pub fn what_if(log: &TreeLog, desk: &Appraiser, change: &Change) -> Result<WhatIf, WhatIfError> {
    if log.erased {
        replay(log, desk).map_err(WhatIfError::Difference)?;
    }
    let checks = Checks::default();
    let pinned = Player::new(log, desk, &checks).map_err(WhatIfError::Difference)?.desk;
    let created = log.created().ok_or(RuntimeError::NoSuchRun { run: log.root })?;
    let changed = pinned.with_book(pinned.book().with_overrides(change.prices.clone()).into());
    check(log, changed.book(), change)?;
    let shared = Arc::new(log.clone());
    let plain = again::again(&shared, created, &pinned, &Change::default())?;
    let told = again::again(&shared, created, &changed, change)?;
    let record = Record::of(shared);
    let lines = lines::lines(&record, &told);
    let mut notes: Vec<String> = unlike(&lines::lines(&record, &plain)).into_iter().collect();
    notes.extend(change.prices.iter().filter_map(|row| is_idle(log, change, &row.model)));
    let would = lines.iter().filter_map(|line| line.would);
    let cap_usd = change.limits.as_ref().map_or(created.cap, |limits| limits.cost);
    let mut verdict = verdict::verdict(&record, &told, &lines);
    if let Verdict::Stopped(stop) = &mut verdict {
        let trial = needs::Trial { record: &record, created, desk: &changed, change };
        stop.needs_more_usd = trial.needs(cap_usd, &told)?;
    }
    Ok(WhatIf {
        run: log.root,
        agent: created.agent.clone(),
        changed: change.told(&log.plan.limits),
        cap_usd,
        recorded_usd: record.tries().iter().filter_map(|tried| tried.settled()).map(|settled| settled.bill).sum(),
        would_usd: would.clone().filter_map(|would| would.cost_usd).sum(),
        unknown_usd: would.filter(|would| would.unknown).filter_map(|would| would.cost_usd).sum(),
        verdict,
        lines,
        notes,
    })
}

impl WhatIf {
    /// True where it comes to the end that it came to.
    #[must_use]
    pub const fn is_same(&self) -> bool {
        matches!(self.verdict, Verdict::Same { .. })
    }

    /// Where it would stand, where that is known.
    #[must_use]
    pub const fn state(&self) -> Option<RunState> {
        match &self.verdict {
            Verdict::Same { state } => Some(*state),
            Verdict::Stopped(_) => Some(RunState::Stopped),
            Verdict::Failed { .. } => Some(RunState::Failed),
            Verdict::GoesOn { .. } | Verdict::Unknown { .. } => None,
        }
    }
}

/// Whom the run asked, and whom its plan would have let it ask.
fn asked(log: &TreeLog) -> BTreeSet<ModelName> {
    let calls = log.logs.values().flatten().filter_map(|one| {
        let Event::Reserved(reserved) = &one.event else { return None };
        if let Call::Model(call) = &reserved.call { Some(call.model.clone()) } else { None }
    });
    calls.chain(log.plan.models().into_iter().cloned()).collect()
}

fn check(log: &TreeLog, book: &PriceBook, change: &Change) -> Result<(), WhatIfError> {
    let asked = asked(log);
    let mut named = change.models.iter().filter_map(|instead| instead.of.as_ref());
    if let Some(model) = named.find(|of| !asked.contains(*of)) {
        let help = suggest(model.as_str(), asked.iter().map(ModelName::as_str), "it asks none");
        return Err(WhatIfError::NotAsked { model: model.clone(), help });
    }
    let priced = asked
        .iter()
        .filter(|model| change.prices.iter().any(|row| row.model == **model))
        .map(|model| change.model(model));
    let mut named = change.models.iter().map(|instead| instead.model.clone()).chain(priced);
    let at = log.logs.get(&log.root).and_then(|log| log.first()).map_or(Timestamp(0), |first| first.at);
    if let Some(model) = named.find(|model| book.find(model, at).is_none()) {
        let help = if book.versions_of(&model).next().is_some() {
            "its prices hold at other times: leave out `valid_from` and `valid_to`".to_owned()
        } else {
            let known: BTreeSet<&str> = book.rows().map(|row| row.model.as_str()).collect();
            let near = nearest(model.as_str(), known).map(|near| format!("did you mean `{near}`? else "));
            format!("{}give its price in `[[prices]]`, here by `--prices FILE`", near.unwrap_or_default())
        };
        return Err(WhatIfError::NoPrice { model, at, help });
    }
    Ok(())
}

/// A price that nobody pays: perhaps a slip.
fn is_idle(log: &TreeLog, change: &Change, model: &ModelName) -> Option<String> {
    let asked: BTreeSet<ModelName> = asked(log).iter().map(|model| change.model(model)).collect();
    let near = || nearest(model.as_str(), asked.iter().map(ModelName::as_str));
    (!asked.contains(model)).then(|| {
        let near = near().map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
        format!("no call asks `{model}`, which has a price here{near}")
    })
}

/// The first attempt that isn't what was recorded though nothing is changed.
fn unlike(lines: &[Line]) -> Option<String> {
    let line = lines.iter().find(|line| line.recorded != line.would)?;
    let bound =
        |figures: Option<Figures>| figures.map_or_else(|| "none".to_owned(), |known| known.bound_usd.to_string());
    Some(format!(
        "what is told is near, not exact: unchanged, step {} in {} has a bound of {} again and had {}; shared budgets, kept \
         answers or a restart had their say",
        line.step,
        line.place,
        bound(line.would),
        bound(line.recorded),
    ))
}
