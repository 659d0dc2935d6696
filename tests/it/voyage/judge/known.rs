//! What the judge knows of a run, as its log tells it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use plimsoll::domain::event::{
    AccountKey, Admitted, Created, Ended, Landing, Place, Recorded, RunState, Spent, StageEnd,
};
use plimsoll::domain::plan::Plan;
use plimsoll::ids::{ReservationId, RunId, StageName};
use plimsoll::units::{Millis, Money, Timestamp};
use serde_json::Value;

/// A run as its log tells it.
pub(in crate::voyage) struct Known {
    pub(in crate::voyage) log: Vec<Recorded>,
    pub(in crate::voyage) created: Created,
    pub(super) plan: Arc<Plan>,
    pub(super) root: RunId,
    pub(in crate::voyage) state: RunState,
    pub(super) landing: Option<Landing>,
    pub(super) budgets: Vec<AccountKey>,
    pub(super) next_number: u32,
    /// What it came to by itself.
    pub(super) own: Spent,
    /// What the runs below it came to.
    pub(super) below: Spent,
    pub(super) stages: BTreeMap<StageName, StageBook>,
    /// Numbers of steps that were reserved. A refused call's may stand twice: what the ledger refuses counts for nothing.
    pub(super) steps_used: BTreeSet<u32>,
    pub(super) repeats: BTreeMap<String, u32>,
    pub(super) cancelled: bool,
    pub(super) lands: bool,
    pub(super) asks: Vec<AskBook>,
    /// When its wait for budget ends by itself.
    pub(super) wait: Option<Timestamp>,
    pub(super) children: BTreeMap<RunId, ChildBook>,
    pub(super) ended: Option<Ended>,
    pub(super) active: Millis,
    pub(super) active_since: Option<Timestamp>,
    pub(super) last_at: Timestamp,
}

/// A stage, or what came of it.
#[derive(Default)]
pub(super) struct StageBook {
    /// With the runs below.
    pub(super) spent: Spent,
    pub(super) has_begun: bool,
    /// The active time of its run when it began.
    pub(super) began: Option<Millis>,
    /// Sub-agents that it has begun.
    pub(super) children: u32,
    pub(super) repeats: BTreeMap<String, u32>,
    /// The items of a map.
    pub(super) items: Option<usize>,
    pub(super) begun: BTreeSet<u32>,
    /// Items that waited for rates: those after them may begin before them.
    pub(super) waited: BTreeSet<u32>,
    /// Items that are over, and the stage itself.
    pub(super) over: BTreeMap<Option<u32>, (StageEnd, Value)>,
}

/// A question.
pub(in crate::voyage) struct AskBook {
    pub(in crate::voyage) until: Timestamp,
    pub(in crate::voyage) hash: Option<String>,
    pub(in crate::voyage) answered: bool,
}

/// A run that it called.
pub(super) struct ChildBook {
    pub(super) place: Place,
    /// How it ended and what it came to, as its parent is told.
    pub(super) told: Option<(Ended, Spent)>,
}

impl Known {
    pub(super) fn of(run: RunId, plan: Arc<Plan>, created: &Created, at: Timestamp) -> Self {
        Self {
            log: Vec::new(),
            created: created.clone(),
            plan,
            root: created.parent.as_ref().map_or(run, |parent| parent.root),
            state: RunState::Queued,
            landing: None,
            budgets: Vec::new(),
            next_number: 0,
            own: Spent::default(),
            below: Spent::default(),
            stages: BTreeMap::new(),
            steps_used: BTreeSet::new(),
            repeats: BTreeMap::new(),
            cancelled: false,
            lands: false,
            asks: Vec::new(),
            wait: None,
            children: BTreeMap::new(),
            ended: None,
            active: Millis::ZERO,
            active_since: None,
            last_at: at,
        }
    }

    /// The fact that would admit it once more, with a landing reserve.
    pub(in crate::voyage) fn admitted_again(&self, run: RunId, amount: Money) -> Admitted {
        let reservation = ReservationId { run, number: self.next_number };
        Admitted { budgets: self.budgets.clone(), landing: Some(Landing { reservation, amount }) }
    }

    /// The landing reserve, while there is one.
    pub(in crate::voyage) fn landing(&self) -> Option<ReservationId> {
        self.landing.as_ref().map(|landing| landing.reservation)
    }

    pub(super) fn stage(&mut self, stage: &StageName) -> &mut StageBook {
        self.stages.entry(stage.clone()).or_default()
    }
}
