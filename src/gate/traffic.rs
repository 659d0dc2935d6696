//! What a model call must wait for before its money is asked for, and who pays for it.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::Notify;

use super::Gate;
use super::prepare::Appraiser;
use crate::clock::Clock;
use crate::domain::account::NoAccount;
use crate::domain::event::{Call, Labels, Purpose, Reserved};
use crate::domain::plan::ModelPlan;
use crate::domain::rate::CallTokens;
use crate::domain::retry::{self, Exit, Tried};
use crate::domain::run::Run;
use crate::ids::{AccountName, ModelName};
use crate::rates::{Asking, Pass, Rates};
use crate::units::Timestamp;

/// Models that shouldn't be asked just now, each with why: an open breaker, or a provider that asks to be left alone for
/// longer than the run has patience for.
pub type Closed = BTreeMap<ModelName, String>;

/// Rates and breakers.
#[derive(Clone)]
pub struct Traffic {
    /// The live counts.
    pub rates: Rates,
    /// Reads time.
    pub clock: Clock,
}

impl Gate {
    /// The live counts.
    #[must_use]
    pub const fn rates(&self) -> &Rates {
        &self.traffic.rates
    }

    /// Takes what a call needs of the rates, or puts it in their queue. A tool's call needs nothing of them.
    #[must_use]
    pub fn ask_rates(&self, run: &Run, reserved: &Reserved, wake: Arc<Notify>) -> Option<Pass> {
        let Call::Model(call) = &reserved.call else { return None };
        let tokens = CallTokens { input: call.bound.tokens.0, output: call.output_at_most().0 };
        let (model, account) = (call.model.clone(), call.account.clone());
        let last_try = call.purpose == Purpose::Landing;
        let asking = Asking { model, account, labels: run.labels.clone(), tokens, last_try, wake };
        Some(self.traffic.rates.ask(asking, self.traffic.clock.now()))
    }

    /// Those of a plan's models that shouldn't be asked just now.
    #[must_use]
    pub fn closed(&self, run: &Run, plan: &ModelPlan, now: Timestamp) -> Closed {
        let closed = |model: &ModelName| {
            let account = self.appraiser.account(model, &run.labels).ok()?;
            let closed = self.traffic.rates.closed(model, account.as_ref(), run.plan.retry.retry_after_max, now)?;
            Some((model.clone(), closed.why))
        };
        plan.models().into_iter().filter_map(closed).collect()
    }
}

impl Appraiser {
    /// Whose key pays for a run at a model.
    pub(super) fn account(&self, model: &ModelName, labels: &Labels) -> Result<Option<AccountName>, NoAccount> {
        let accounts = self.accounts.get(&model.provider());
        accounts.map_or(Ok(None), |accounts| accounts.choose(labels).map(|name| name.cloned()))
    }
}

/// What comes after a failed attempt; a model whose breaker has opened since isn't tried again where another is left.
pub(super) fn leaving_closed(run: &Run, failed: &Tried<'_>, model: &ModelName, closed: &Closed) -> retry::Next {
    match retry::next(failed, &run.plan.retry) {
        retry::Next::Again { after } if failed.exits.any && closed.contains_key(model) => {
            retry::Next::Elsewhere { after, exit: Exit::Any }
        }
        next @ (retry::Next::Again { .. } | retry::Next::Elsewhere { .. } | retry::Next::Stop(_)) => next,
    }
}
