//! Model policy: who is approved, in what order, and where to go when a model fails or money is short.
//!
//! Every model that is passed over is named with the reason, for the trace.
//! Deliberately absent: prices, windows and breakers themselves. They come in as [`Standing`], one for each candidate.

use std::fmt;

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
    /// True where the policy names it for what another model's filter or refusal stopped. Never a default.
    pub takes_filtered: bool,
}

/// Why a model can't be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Barred {
    /// It has no price.
    NoPrice,
    /// A bill above its reservation froze its price.
    FrozenPrice,
    /// No provider of that name is configured.
    NoProvider,
    /// Something else, in words: an open breaker, an approval that was taken back.
    Other(String),
}

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
    /// The policy doesn't name it for filtered content.
    NotAfterFilter,
}

impl fmt::Display for Barred {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoPrice => f.pad("it has no price"),
            Self::FrozenPrice => f.pad("a bill above its reservation froze its price"),
            Self::NoProvider => f.pad("its provider is not configured"),
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
            SkipWhy::NotAfterFilter => f.write_str("the policy does not name it for filtered content"),
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

/// A step that looks for another model.
#[derive(Clone, Copy, Debug)]
pub struct Leaving<'a> {
    /// The list that the run is on.
    pub stance: Stance,
    /// The models that this step tried, the failed one last; never empty.
    pub tried: &'a [ModelName],
    /// What the failure demands of the next model.
    pub exit: Exit,
}

/// The next candidate that this step hasn't tried and that does what the failure demands.
pub fn elsewhere(plan: &ModelPlan, leaving: &Leaving<'_>, standing: impl Fn(&ModelName) -> Standing) -> Choice {
    let Some(failed) = leaving.tried.last() else { return first(plan, leaving.stance, standing) };
    let was = standing(failed);
    choose(candidates(plan, leaving.stance), |model| {
        if leaving.tried.contains(model) {
            return Some(SkipWhy::Tried);
        }
        let is = standing(model);
        let unfit = unfit(leaving.exit, (failed, &was), (model, &is));
        is.barred.map(SkipWhy::Barred).or(unfit)
    })
}

/// Which ways out a step has; what [`crate::domain::retry::next`] asks for.
pub fn exits(
    plan: &ModelPlan,
    stance: Stance,
    tried: &[ModelName],
    standing: impl Fn(&ModelName) -> Standing,
) -> Exits {
    let has = |exit| elsewhere(plan, &Leaving { stance, tried, exit }, &standing).model.is_some();
    Exits {
        any: has(Exit::Any),
        other_provider: has(Exit::OtherProvider),
        larger_window: has(Exit::LargerWindow),
        after_filter: has(Exit::AfterFilter),
    }
}

type Seen<'a> = (&'a ModelName, &'a Standing);

/// Why a model that could be asked doesn't help after this failure.
fn unfit(exit: Exit, (failed, was): Seen<'_>, (model, is): Seen<'_>) -> Option<SkipWhy> {
    match exit {
        Exit::Any => None,
        Exit::OtherProvider => (model.provider() == failed.provider()).then_some(SkipWhy::SameProvider),
        // A window that nobody knows is no promise: without both figures there is no larger one.
        Exit::LargerWindow => {
            let larger = was.window.zip(is.window).is_some_and(|(was, is)| is > was);
            (!larger).then_some(SkipWhy::NoLargerWindow)
        }
        Exit::AfterFilter => (!is.takes_filtered).then_some(SkipWhy::NotAfterFilter),
    }
}

fn choose(candidates: &[ModelName], why_not: impl Fn(&ModelName) -> Option<SkipWhy>) -> Choice {
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
            downgrade: Some(DowngradePlan { policy: "economy".into(), candidates: names(&["openai/e", "openai/a"]) }),
            max_output_tokens: 800,
            min_output_tokens: 256,
            sampling: Sampling::default(),
            stream: true,
        }
    }

    /// Every model can be asked; windows are 100 for OpenAI, 200 for Anthropic, unknown for the rest; Groq's takes what a
    /// filter stopped.
    fn open(model: &ModelName) -> Standing {
        let window = match model.provider().as_str() {
            "openai" => Some(Tokens(100)),
            "anthropic" => Some(Tokens(200)),
            _ => None,
        };
        Standing { barred: None, window, takes_filtered: model.as_str() == "groq/d" }
    }

    fn to(exit: Exit, tried: &[&str]) -> Option<String> {
        let leaving = Leaving { stance: Stance::Approved, tried: &names(tried), exit };
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
        assert_eq!(to(Exit::LargerWindow, &["openai/a"]).as_deref(), Some("anthropic/c"));
        assert_eq!(to(Exit::LargerWindow, &["anthropic/c"]), None);
        assert_eq!(to(Exit::LargerWindow, &["groq/d"]), None);
        assert_eq!(to(Exit::AfterFilter, &["openai/a"]).as_deref(), Some("groq/d"));
        assert_eq!(to(Exit::AfterFilter, &["groq/d"]), None);
        assert_eq!(to(Exit::Any, &["openai/a", "openai/b", "anthropic/c", "groq/d"]), None);
    }

    #[test]
    fn exits_say_what_elsewhere_would_find() {
        let of = |tried: &[&str]| exits(&plan(), Stance::Approved, &names(tried), open);
        assert_eq!(
            of(&["openai/a"]),
            Exits { any: true, other_provider: true, larger_window: true, after_filter: true }
        );
        assert_eq!(
            of(&["openai/b", "anthropic/c", "groq/d"]),
            Exits { any: true, other_provider: true, ..Exits::default() }
        );
        assert_eq!(of(&["openai/a", "openai/b", "anthropic/c", "groq/d"]), Exits::default());
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
