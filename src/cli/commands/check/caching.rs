//! Whether the providers of an agent's first models are asked to keep the beginnings of its requests, and why.

use serde::Serialize;

use crate::domain::caching::{CacheChoice, Expected};
use crate::domain::plan::{Plan, StageKind, StagePlan};
use crate::domain::pricing::PriceBook;
use crate::ids::{ModelName, StageName};
use crate::runtime::terms_of;
use crate::spec::project::Project;
use crate::units::Timestamp;

/// What is expected of one stage.
#[derive(Serialize)]
pub(super) struct Outlook {
    stage: StageName,
    model: ModelName,
    #[serde(flatten)]
    choice: CacheChoice,
    /// True for the one stage of an agent without any: it isn't named to people.
    #[serde(skip)]
    is_only: bool,
}

impl Outlook {
    /// A line for people; nothing where nobody has a choice.
    pub(super) fn in_words(&self) -> Option<String> {
        match self.choice {
            CacheChoice::Off | CacheChoice::NoMarks | CacheChoice::Free => None,
            CacheChoice::Unpriced
            | CacheChoice::TooShort { .. }
            | CacheChoice::TooSeldom { .. }
            | CacheChoice::Pays { .. }
            | CacheChoice::Asked => {
                let stage = if self.is_only { String::new() } else { format!("stage {}: ", self.stage) };
                Some(format!("  prompt cache {stage}{}", self.choice))
            }
        }
    }
}

/// What is expected of each stage that asks a model. A map is taken to have as many items as it may have.
pub(super) fn outlooks(plan: &Plan, project: &Project, book: &PriceBook, now: Timestamp) -> Vec<Outlook> {
    plan.stages.iter().filter_map(|stage| outlook(plan, stage, project, book, now)).collect()
}

fn outlook(plan: &Plan, stage: &StagePlan, project: &Project, book: &PriceBook, now: Timestamp) -> Option<Outlook> {
    let lane = stage.kind.of_lane();
    if !matches!(lane, StageKind::Loop { .. } | StageKind::Model { .. }) {
        return None;
    }
    let call = lane.call();
    let model = call.and_then(|call| call.model.as_ref()).unwrap_or(&plan.model).candidates.first()?.clone();
    let system = &call.and_then(|call| call.prompt.as_ref()).unwrap_or(&plan.prompt).system;
    let row = book.find(&model, now)?;
    let has_no_marks =
        project.providers.get(&model.provider()).is_some_and(|provider| terms_of(provider).marks.is_none());
    let prices = row.cache_prices(plan.context.cache_ttl);
    let expected = Expected::of(plan, &stage.kind, system, None, false);
    let choice = if has_no_marks {
        CacheChoice::NoMarks
    } else {
        expected.judge(plan.context.cache, &prices, plan.context.tokens)
    };
    Some(Outlook { stage: stage.id.clone(), model, choice, is_only: !plan.is_workflow() })
}
