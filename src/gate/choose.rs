//! Which model a step asks: who is approved, can be asked, and takes over where others failed.

use super::prepare::{Appraiser, Chosen, Circumstances, Effort, Prepared, Providers};
use super::traffic::leaving_closed;
use crate::domain::event::Purpose;
use crate::domain::limits::{Declared, LimitKind, Refusal};
use crate::domain::plan::ModelPlan;
use crate::domain::policy::{self, Barred, Failed, Leaving, SkipWhy, Skipped, Stance, Standing};
use crate::domain::pricing::{Age, Ages, PriceRow, Terms};
use crate::domain::retry::{self, Tried};
use crate::domain::run::{ModelIntent, Run, Try};
use crate::ids::ModelName;
use crate::units::{Millis, Timestamp};

impl Appraiser {
    /// True where the rule that sends a step to the cheaper list leads to somebody who can be asked.
    /// A breaker that is open is waited for: cheaper models were asked for, and dearer ones are no way around it.
    pub(super) fn can_follow(&self, run: &Run, plan: &ModelPlan, with: Circumstances<'_>) -> bool {
        let Circumstances { effort, now, .. } = with;
        let standing = |model: &ModelName| self.standing(run, plan, model, effort, now);
        effort.rule.is_none() || policy::first(plan, Stance::Downgraded, standing).model.is_some()
    }

    /// How a model stands, whether its breaker is open or not.
    fn standing(&self, run: &Run, plan: &ModelPlan, model: &ModelName, effort: &Effort, now: Timestamp) -> Standing {
        let row = self.book.find(model, now);
        let denial = self.approvals.denial_in(plan, model);
        let barred = if let Some(denial) = denial {
            Some(Barred::Denied(Box::new(denial)))
        } else if self.providers.terms(&model.provider()).is_none() {
            Some(Barred::NoProvider)
        } else if row.is_none() {
            Some(Barred::NoPrice)
        } else if effort.frozen.contains(model) {
            Some(Barred::FrozenPrice)
        } else if effort.switched.iter().any(|(off, _)| off == model) {
            Some(Barred::SwitchedOff)
        } else {
            let unpaid = self.account(model, &run.labels).err().map(|_| Barred::Other(NO_ACCOUNT.to_owned()));
            unpaid.or_else(|| row.and_then(|row| self.stale(row, now).or_else(|| unbounded(row, plan))))
        };
        Standing { barred, window: row.and_then(|row| row.context_window) }
    }

    /// A price that is too old, where it is used for money: the simulated provider takes none.
    fn stale(&self, row: &PriceRow, now: Timestamp) -> Option<Barred> {
        match (&self.providers, self.ages.judge(row, now)) {
            (Providers::Configured(_), Age::TooOld { days }) => {
                let read = row.confirmed.as_ref().unwrap_or(&row.retrieved).clone();
                Some(Barred::StalePrice { read, days })
            }
            (Providers::Any(_) | Providers::Configured(_), Age::Fresh | Age::Old { .. } | Age::TooOld { .. }) => None,
        }
    }

    pub(super) fn choose(
        &self,
        run: &Run,
        plan: &ModelPlan,
        intent: &ModelIntent,
        with: Circumstances<'_>,
    ) -> Result<Chosen, Prepared> {
        let Circumstances { effort, closed, now, .. } = with;
        let ever = |model: &ModelName| self.standing(run, plan, model, effort, now);
        let standing = |model: &ModelName| {
            let ever = ever(model);
            let barred = || closed.get(model).map(|why| Barred::Other(why.clone()));
            Standing { barred: ever.barred.or_else(barred), ..ever }
        };
        let stance = effort.stands();
        if intent.purpose == Purpose::Landing {
            return self.landing_choice(run, plan);
        }
        let Some(last) = intent.tries.last() else {
            let choice = policy::first(plan, stance, standing);
            // Where nobody can be asked just now, the first that could be is waited for.
            let choice = if choice.model.is_some() { choice } else { policy::first(plan, stance, ever) };
            return first_choice(plan, effort, choice, &self.ages);
        };
        let tried: Vec<Failed> = intent.tries.iter().map(failed).collect();
        let exits = policy::exits(plan, stance, &tried, standing);
        let on_model = intent.tries.iter().rev().take_while(|tried| tried.model == last.model).count();
        let failed = Tried {
            failure: &last.failure,
            reservation: last.reservation,
            attempts: intent.attempt.saturating_sub(1).max(1),
            on_model: u32::try_from(on_model).unwrap_or(u32::MAX),
            exits,
        };
        match leaving_closed(run, &failed, &last.model, closed) {
            retry::Next::Stop(why) => Err(Prepared::GiveUp(give_up(last, why))),
            retry::Next::Again { after } => {
                later(last, after, now)?;
                let first = policy::candidates(plan, stance).first();
                let instead = (first != Some(&last.model)).then(|| "as the try before".to_owned());
                Ok(Chosen { model: last.model.clone(), instead })
            }
            retry::Next::Elsewhere { after, exit } => {
                later(last, after, now)?;
                let leaving = Leaving { stance, tried: &tried, exit };
                let choice = policy::elsewhere(plan, &leaving, standing);
                let instead = format!("`{}` failed ({})", last.model, last.failure.class.name());
                choice
                    .model
                    .map(|model| Chosen { model, instead: Some(instead) })
                    .ok_or_else(|| Prepared::GiveUp(give_up(last, retry::StopWhy::NobodyElse)))
            }
        }
    }

    /// The model of the last answer, unless it is denied meanwhile or nobody pays for it: then there is none.
    fn landing_choice(&self, run: &Run, plan: &ModelPlan) -> Result<Chosen, Prepared> {
        let model = landing_model(run);
        let denied = self.approvals.denial_in(plan, &model).map(|denial| Barred::Denied(Box::new(denial)));
        let unpaid = || self.account(&model, &run.labels).err().map(|_| Barred::Other(NO_ACCOUNT.to_owned()));
        match denied.or_else(unpaid) {
            None => Ok(Chosen { model, instead: None }),
            Some(barred) => Err(nobody(plan, &[Skipped { model, why: SkipWhy::Barred(barred) }], &[], &self.ages)),
        }
    }
}

/// A search of the provider's own that has no bound with this model.
fn unbounded(row: &PriceRow, plan: &ModelPlan) -> Option<Barred> {
    let bound = row.bound_searching(Terms::default(), plan.web_search?);
    bound.err().map(|error| Barred::Other(error.to_string()))
}

/// Why a model is passed over whose provider has strict accounts.
const NO_ACCOUNT: &str = "no account of its provider is for the labels of this run";

fn failed(tried: &Try) -> Failed {
    Failed { model: tried.model.clone(), demand: retry::demand(tried.failure.class) }
}

fn later(last: &Try, after: Millis, now: Timestamp) -> Result<(), Prepared> {
    let from = last.at.after(after);
    if now < from { Err(Prepared::Later(from)) } else { Ok(()) }
}

fn give_up(last: &Try, why: retry::StopWhy) -> String {
    format!("model `{}` failed ({}): {}; {why}", last.model, last.failure.class.name(), last.failure.message)
}

fn landing_model(run: &Run) -> ModelName {
    run.landing_model().cloned().unwrap_or_else(|| ModelName::from(""))
}

fn first_choice(plan: &ModelPlan, effort: &Effort, choice: policy::Choice, ages: &Ages) -> Result<Chosen, Prepared> {
    let Some(model) = choice.model else { return Err(nobody(plan, &choice.skipped, &effort.switched, ages)) };
    let downgraded = effort.downgraded().map(|why| why.to_string());
    let reasons: Vec<String> = downgraded.into_iter().chain(choice.skipped.iter().map(ToString::to_string)).collect();
    Ok(Chosen { model, instead: (!reasons.is_empty()).then(|| reasons.join("; ")) })
}

/// No model of a list can be asked. Where a price is too old that is told, since newer ones can be taken in at once; where
/// one is denied the place that denies it is named, since that is who can change it; where some are switched off, who did
/// it and why.
fn nobody(plan: &ModelPlan, skipped: &[Skipped], switched: &[(ModelName, String)], ages: &Ages) -> Prepared {
    let barred = skipped.iter().filter_map(|skipped| match &skipped.why {
        SkipWhy::Barred(barred) => Some(barred),
        SkipWhy::Tried | SkipWhy::SameProvider | SkipWhy::NoLargerWindow => None,
    });
    let told: Vec<String> = skipped.iter().map(ToString::to_string).collect();
    if barred.clone().any(|barred| matches!(barred, Barred::StalePrice { .. })) {
        return Prepared::Refused(Box::new(too_old(ages, &told)));
    }
    let frozen = barred.clone().any(|barred| *barred == Barred::FrozenPrice);
    if !frozen && barred.clone().any(|barred| *barred == Barred::SwitchedOff) {
        return Prepared::Refused(Box::new(switched_off(switched, &told)));
    }
    let denial =
        barred.clone().find_map(|barred| if let Barred::Denied(denial) = barred { Some(denial) } else { None });
    Prepared::Refused(Box::new(Refusal {
        limit: if frozen { LimitKind::FrozenPrice } else { LimitKind::ModelPolicy },
        subject: plan.policy.as_ref().map(|policy| format!("policy {policy}")),
        value: "approved models".into(),
        observed: format!("none can be asked: {}", told.join("; ")),
        declared: denial.map_or_else(|| plan.declared.clone(), |denial| denial.declared.clone()),
    }))
}

/// Nobody is left but what somebody switched off, and can switch on again.
fn switched_off(switched: &[(ModelName, String)], skipped: &[String]) -> Refusal {
    let scopes: Vec<String> = switched.iter().map(|(model, _)| format!("model={model}")).collect();
    let whys: Vec<String> = scopes.iter().zip(switched).map(|(scope, (_, why))| format!("{scope} {why}")).collect();
    Refusal {
        limit: LimitKind::Switch,
        subject: Some(scopes.join(", ")),
        value: "off".to_owned(),
        observed: format!("none can be asked: {}; {}", skipped.join("; "), whys.join("; ")),
        declared: Declared::Default,
    }
}

/// No price is young enough.
fn too_old(ages: &Ages, skipped: &[String]) -> Refusal {
    let mend = "`plimsoll prices import FILE` takes in newer ones, and `[[prices]]` with `retrieved` states one";
    Refusal {
        limit: LimitKind::StalePrice,
        subject: None,
        value: ages.refuse_after.to_string(),
        observed: format!("{}; {mend}", skipped.join("; ")),
        declared: ages.declared.clone(),
    }
}
