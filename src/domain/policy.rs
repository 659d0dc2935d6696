//! Model policy: who is approved, in what order, and where to go when a model fails or money is short.
//!
//! Every model that is passed over is named with the reason, for the trace. What a failure demands of whoever takes over
//! holds for the rest of the step: after a content filter only models that the author names for it are asked, whatever
//! fails next.
//! Deliberately absent: prices, windows and breakers themselves. They come in as [`Standing`], one for each candidate.

mod approval;
mod rules;

use std::fmt;

pub use approval::{Approvals, Denial, DeniedModels, Narrowed};
pub use rules::{BudgetUse, Circumstances, DowngradeRules, DowngradeWhy, Hours, PRIORITY, Priority, Share};

use crate::domain::plan::ModelPlan;
use crate::domain::retry::{Exit, Exits};
use crate::ids::ModelName;
use crate::units::Tokens;

/// Which of a policy's lists a run is on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stance {
    /// The approved models.
    #[default]
    Approved,
    /// The models of `downgrade.to` (LEDGER rule 9c).
    Downgraded,
}

/// What is known of a candidate at this moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Why it can't be asked now, if so.
    pub barred: Option<Barred>,
    /// Its longest input, where known.
    pub window: Option<Tokens>,
}

/// Why a model can't be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Barred {
    /// It has no price.
    NoPrice,
    /// A bill above its reservation froze its price.
    FrozenPrice,
    /// Somebody took it out of use.
    SwitchedOff,
    /// Its price was read too long ago.
    StalePrice {
        /// The day on which it was read.
        read: String,
        /// How many days ago.
        days: u64,
    },
    /// No provider of that name is configured.
    NoProvider,
    /// The project denies it.
    Denied(Box<Denial>),
    /// Something else, in words: an open breaker.
    Other(String),
}

/// Why a model is passed over that somebody took out of use.
pub const SWITCHED_OFF: &str = "somebody switched it off";

/// A candidate that was passed over, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// The model.
    pub model: ModelName,
    /// Why.
    pub why: SkipWhy,
}

/// Why a candidate was passed over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SkipWhy {
    /// It can't be asked.
    Barred(Barred),
    /// This step tried it before.
    Tried,
    /// It is the same provider's, and key, quota or account failed.
    SameProvider,
    /// Its window is no larger, or not known.
    NoLargerWindow,
}

impl fmt::Display for Barred {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoPrice => f.pad("it has no price"),
            Self::FrozenPrice => f.pad("a bill above its reservation froze its price"),
            Self::SwitchedOff => f.pad(SWITCHED_OFF),
            Self::StalePrice { read, days } => f.pad(&format!("its price was read on {read}, {days} days ago")),
            Self::NoProvider => f.pad("its provider is not configured"),
            Self::Denied(denial) => write!(f, "{denial}"),
            Self::Other(why) => f.pad(why),
        }
    }
}

impl fmt::Display for Skipped {
    /// `openai/gpt-5-nano: it has no price`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.model)?;
        match &self.why {
            SkipWhy::Barred(barred) => write!(f, "{barred}"),
            SkipWhy::Tried => f.write_str("this step tried it before"),
            SkipWhy::SameProvider => f.write_str("it is of the same provider"),
            SkipWhy::NoLargerWindow => f.write_str("its window is not known to be larger"),
        }
    }
}

/// The model to ask, and the ones that were passed over on the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The model, or `None` where nobody is left.
    pub model: Option<ModelName>,
    /// Who was passed over, in the policy's order.
    pub skipped: Vec<Skipped>,
}

/// The candidates of a stance, in order; those of the approved list where the policy has no downgrade.
#[must_use]
pub fn candidates(plan: &ModelPlan, stance: Stance) -> &[ModelName] {
    match (stance, &plan.downgrade) {
        (Stance::Downgraded, Some(downgrade)) => &downgrade.candidates,
        (Stance::Downgraded | Stance::Approved, _) => &plan.candidates,
    }
}

/// The stance to fall to when money is short, or `None` where there is none or the run is there already.
#[must_use]
pub fn downgrade(plan: &ModelPlan, stance: Stance) -> Option<Stance> {
    match stance {
        Stance::Approved => plan.downgrade.as_ref().filter(|to| !to.candidates.is_empty()).map(|_| Stance::Downgraded),
        Stance::Downgraded => None,
    }
}

/// The first candidate that can be asked.
pub fn first(plan: &ModelPlan, stance: Stance, standing: impl Fn(&ModelName) -> Standing) -> Choice {
    choose(candidates(plan, stance), |model| standing(model).barred.map(SkipWhy::Barred))
}

/// A failed try of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    /// The model.
    pub model: ModelName,
    /// What the failure demands of whoever takes over: [`crate::domain::retry::demand`].
    pub demand: Exit,
}

/// A step that looks for another model.
#[derive(Clone, Copy, Debug)]
pub struct Leaving<'a> {
    /// The list that the run is on.
    pub stance: Stance,
    /// The tries of this step, the last one last.
    pub tried: &'a [Failed],
    /// What the step needs now, beside what its tries demand.
    pub exit: Exit,
}

/// The next model that this step hasn't tried and that does what its failures demand.
pub fn elsewhere(plan: &ModelPlan, leaving: &Leaving<'_>, standing: impl Fn(&ModelName) -> Standing) -> Choice {
    let Some(last) = leaving.tried.last() else { return first(plan, leaving.stance, standing) };
    let now = Failed { model: last.model.clone(), demand: leaving.exit };
    let failures: Vec<(&Failed, Standing)> =
        leaving.tried.iter().chain([&now]).map(|failed| (failed, standing(&failed.model))).collect();
    let demands = |exit| failures.iter().any(|(failed, _)| failed.demand == exit);
    let pool = pool(plan, leaving.stance, demands(Exit::AfterFilter), demands(Exit::LargerWindow));
    choose(pool, |model| {
        if leaving.tried.iter().any(|failed| failed.model == *model) {
            return Some(SkipWhy::Tried);
        }
        let is = standing(model);
        let unfit = failures.iter().find_map(|(failed, was)| unfit(plan, (failed, was), (model, &is)));
        is.barred.map(SkipWhy::Barred).or(unfit)
    })
}

/// Which ways out a step has; what [`crate::domain::retry::next`] asks for.
pub fn exits(plan: &ModelPlan, stance: Stance, tried: &[Failed], standing: impl Fn(&ModelName) -> Standing) -> Exits {
    let has = |exit| elsewhere(plan, &Leaving { stance, tried, exit }, &standing).model.is_some();
    Exits {
        any: has(Exit::Any),
        other_provider: has(Exit::OtherProvider),
        larger_window: has(Exit::LargerWindow),
        after_filter: has(Exit::AfterFilter),
    }
}

/// Who may take over at all: the models named for filtered content where some was, else the approved ones, and after
/// them those named for long requests where one was too long.
fn pool(plan: &ModelPlan, stance: Stance, filtered: bool, too_long: bool) -> Vec<&ModelName> {
    if filtered {
        return plan.after_filter.iter().collect();
    }
    let approved = candidates(plan, stance);
    let longer = plan.after_overflow.iter().filter(|model| too_long && !approved.contains(model));
    approved.iter().chain(longer).collect()
}

/// Why a model that could be asked doesn't help after a failure.
fn unfit(
    plan: &ModelPlan,
    (failed, was): (&Failed, &Standing),
    (model, is): (&ModelName, &Standing),
) -> Option<SkipWhy> {
    match failed.demand {
        // Who may take filtered content is a matter of the pool.
        Exit::Any | Exit::AfterFilter => None,
        Exit::OtherProvider => (model.provider() == failed.model.provider()).then_some(SkipWhy::SameProvider),
        // A window that nobody knows is no promise: without both figures there is no larger one.
        Exit::LargerWindow => {
            let larger = was.window.zip(is.window).is_some_and(|(was, is)| is > was);
            (!larger && !plan.after_overflow.contains(model)).then_some(SkipWhy::NoLargerWindow)
        }
    }
}

fn choose<'a>(
    candidates: impl IntoIterator<Item = &'a ModelName>,
    why_not: impl Fn(&ModelName) -> Option<SkipWhy>,
) -> Choice {
    let mut skipped = Vec::new();
    for model in candidates {
        match why_not(model) {
            None => return Choice { model: Some(model.clone()), skipped },
            Some(why) => skipped.push(Skipped { model: model.clone(), why }),
        }
    }
    Choice { model: None, skipped }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::limits::Declared;
    use crate::domain::message::Sampling;
    use crate::domain::plan::DowngradePlan;

    fn names(models: &[&str]) -> Vec<ModelName> {
        models.iter().map(|model| ModelName::from(*model)).collect()
    }

    fn plan() -> ModelPlan {
        ModelPlan {
            policy: Some("standard".into()),
            declared: Declared::Default,
            candidates: names(&["openai/a", "openai/b", "anthropic/c", "groq/d"]),
            after_filter: names(&["local/f", "openai/b"]),
            after_overflow: names(&["local/g", "openai/b"]),
            downgrade: Some(DowngradePlan {
                policy: "economy".into(),
                candidates: names(&["openai/e", "openai/a"]),
                rules: DowngradeRules::default(),
            }),
            max_output_tokens: 800,
            min_output_tokens: 256,
            sampling: Sampling::default(),
            stream: true,
            web_search: None,
        }
    }

    /// Every model can be asked; windows are 100 for OpenAI, 200 for Anthropic, unknown for the rest.
    fn open(model: &ModelName) -> Standing {
        let window = match model.provider().as_str() {
            "openai" => Some(Tokens(100)),
            "anthropic" => Some(Tokens(200)),
            _ => None,
        };
        Standing { barred: None, window }
    }

    fn tried(models: &[&str]) -> Vec<Failed> {
        models.iter().map(|model| Failed { model: (*model).into(), demand: Exit::Any }).collect()
    }

    fn to(exit: Exit, models: &[&str]) -> Option<String> {
        after(exit, &tried(models))
    }

    fn after(exit: Exit, tried: &[Failed]) -> Option<String> {
        let leaving = Leaving { stance: Stance::Approved, tried, exit };
        elsewhere(&plan(), &leaving, open).model.map(|model| model.to_string())
    }

    #[test]
    fn the_first_that_can_be_asked_is_asked_and_the_rest_is_named() {
        let standing = |model: &ModelName| {
            let barred = (model.as_str() == "openai/a").then_some(Barred::NoPrice);
            Standing { barred, ..open(model) }
        };
        let choice = first(&plan(), Stance::Approved, standing);
        assert_eq!(choice.model, Some("openai/b".into()));
        assert_eq!(choice.skipped[0].to_string(), "openai/a: it has no price");
        let nobody =
            first(&plan(), Stance::Approved, |model| Standing { barred: Some(Barred::FrozenPrice), ..open(model) });
        assert_eq!((nobody.model, nobody.skipped.len()), (None, 4));
    }

    #[test]
    fn a_failure_goes_only_where_it_could_help() {
        assert_eq!(to(Exit::Any, &["openai/a"]).as_deref(), Some("openai/b"));
        assert_eq!(to(Exit::OtherProvider, &["openai/a"]).as_deref(), Some("anthropic/c"));
        assert_eq!(to(Exit::Any, &["openai/a", "openai/b", "anthropic/c", "groq/d"]), None);
    }

    #[test]
    fn a_long_request_goes_to_a_larger_window_and_then_to_whom_the_author_names() {
        assert_eq!(to(Exit::LargerWindow, &["anthropic/c"]).as_deref(), Some("openai/b"), "it is named");
        assert_eq!(to(Exit::LargerWindow, &["openai/b"]).as_deref(), Some("anthropic/c"));
        assert_eq!(to(Exit::LargerWindow, &["openai/b", "anthropic/c"]).as_deref(), Some("local/g"));
        assert_eq!(to(Exit::LargerWindow, &["openai/b", "anthropic/c", "local/g"]), None);
        assert_eq!(to(Exit::Any, &["openai/a", "openai/b", "anthropic/c", "groq/d"]), None, "only for long requests");
    }

    #[test]
    fn filtered_content_goes_to_whom_the_author_names_and_to_nobody_else() {
        assert_eq!(to(Exit::AfterFilter, &["openai/a"]).as_deref(), Some("local/f"));
        assert_eq!(to(Exit::AfterFilter, &["openai/a", "local/f"]).as_deref(), Some("openai/b"));
        assert_eq!(to(Exit::AfterFilter, &["openai/b", "local/f"]), None);
        let silent = ModelPlan { after_filter: vec![], ..plan() };
        let leaving = Leaving { stance: Stance::Approved, tried: &tried(&["openai/a"]), exit: Exit::AfterFilter };
        assert_eq!(elsewhere(&silent, &leaving, open).model, None);
    }

    #[test]
    fn what_a_failure_demands_holds_for_the_rest_of_the_step() {
        let mut both = tried(&["openai/a", "local/f"]);
        both[0].demand = Exit::AfterFilter;
        assert_eq!(after(Exit::Any, &both).as_deref(), Some("openai/b"));
        both[1] = Failed { model: "openai/b".into(), demand: Exit::Any };
        assert_eq!(after(Exit::Any, &both).as_deref(), Some("local/f"), "not `anthropic/c`, which nobody named");
        both[1] = Failed { model: "anthropic/c".into(), demand: Exit::Any };
        both[0].demand = Exit::OtherProvider;
        assert_eq!(after(Exit::Any, &both).as_deref(), Some("groq/d"), "the key of `openai` has failed");
    }

    #[test]
    fn exits_say_what_elsewhere_would_find() {
        let of = |models: &[&str]| exits(&plan(), Stance::Approved, &tried(models), open);
        assert_eq!(
            of(&["openai/a"]),
            Exits { any: true, other_provider: true, larger_window: true, after_filter: true }
        );
        let named = Exits { larger_window: true, after_filter: true, ..Exits::default() };
        assert_eq!(of(&["openai/a", "openai/b", "anthropic/c", "groq/d"]), named);
        let all = ["openai/a", "openai/b", "anthropic/c", "groq/d", "local/f", "local/g"];
        assert_eq!(of(&all), Exits::default());
    }

    #[test]
    fn a_downgrade_happens_once_and_has_its_own_list() {
        assert_eq!(downgrade(&plan(), Stance::Approved), Some(Stance::Downgraded));
        assert_eq!(downgrade(&plan(), Stance::Downgraded), None);
        assert_eq!(candidates(&plan(), Stance::Downgraded), names(&["openai/e", "openai/a"]));
        let without = ModelPlan { downgrade: None, ..plan() };
        assert_eq!(downgrade(&without, Stance::Approved), None);
        assert_eq!(candidates(&without, Stance::Downgraded), without.candidates);
    }
}
