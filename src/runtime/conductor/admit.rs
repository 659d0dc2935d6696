//! The way into the running state: a landing reserve and the first call, or being turned away (LEDGER rule 7).

use std::collections::BTreeMap;

use super::kept::Keep;
use super::rates::RatePass;
use super::{Conductor, Flow, Pending, Talk, Work};
use crate::domain::event::{Call, Landing, Purpose, Reserved, RunState};
use crate::domain::ledger::{AdmitAsk, Ask, ReserveAsk};
use crate::domain::limits::{LimitKind, Refusal};
use crate::domain::run::{Intent, ModelIntent, Next};
use crate::domain::switch::spares_other_models;
use crate::failpoint;
use crate::gate::{Beside, Draft, Passage, Prepared};
use crate::rates::Hold;
use crate::runtime::progress::Progress;
use crate::runtime::{Left, RuntimeError};
use crate::units::Money;

/// Whether the first call's rates are asked before the run is admitted.
#[derive(Clone, Copy)]
enum RatesToStart {
    Ask,
    /// They will be once it runs.
    Wait,
}

/// The first call of a run that asks to start.
enum FirstCall {
    /// Its rates are there.
    Goes { landing: Option<Landing>, keep: Option<Keep>, hold: Option<Hold> },
    /// It waits for its rates once the run is admitted.
    Waits,
}

impl Conductor {
    pub(super) async fn admit(&mut self) -> Result<Flow, RuntimeError> {
        failpoint::reach("run.admission");
        if self.leaves_held()? {
            return Ok(Flow::Leave);
        }
        let next = loop {
            match self.tree.next(self.now(), &self.shared.checks) {
                Next::Note(facts) => self.take_notes(facts),
                next @ (Next::Do(_) | Next::Park(_) | Next::Wait | Next::Ended) => break next,
            }
        };
        match next {
            Next::Note(_) => Ok(Flow::On),
            Next::Ended => Ok(Flow::Leave),
            Next::Park(parked) => self.park(parked).await,
            Next::Wait => Ok(Flow::On),
            Next::Do(intents) => match intents.into_iter().next() {
                Some((_, Intent::End(ended))) => self.end(ended).await,
                Some((run, Intent::Model(intent))) if intent.purpose != Purpose::Landing && run == self.root().id => {
                    self.admit_with(&intent).await
                }
                // A run below is never begun, nor goes on, before its root is admitted.
                _ => self.admit_without_call().await,
            },
        }
    }

    /// Asks to start with the first call at hand: its reservation rides in the same write, unless it waits for rates.
    pub(super) async fn admit_with(&mut self, intent: &ModelIntent) -> Result<Flow, RuntimeError> {
        self.admit_with_call(intent, RatesToStart::Ask).await
    }

    async fn admit_with_call(&mut self, intent: &ModelIntent, rates: RatesToStart) -> Result<Flow, RuntimeError> {
        let landing = self.landing_reserve(intent.purpose);
        let prepared = self.prepare_after_landing(intent, landing.as_ref()).await;
        let draft = match prepared.unwrap_or_else(Prepared::GiveUp) {
            Prepared::Ready(draft) => draft,
            Prepared::Refused(refusal) if self.root().state == RunState::Queued => {
                return self.stop_before_start(*refusal).await;
            }
            // A run that goes on meets its limit as any running one: it lands.
            Prepared::Refused(_) => return self.admit_without_call().await,
            Prepared::GiveUp(error) if self.key(self.root().id, intent).1.is_some() => {
                self.fail_place(self.root().id, intent.step.place(), error);
                return Box::pin(self.admit()).await;
            }
            Prepared::GiveUp(error) => {
                let ended = self.root().failed(error);
                return self.end(ended).await;
            }
            Prepared::Later(until) if self.sleep_until(until).await => return Box::pin(self.admit()).await,
            Prepared::Later(_) => return Ok(Flow::Wait),
        };
        let keep = self.keep_of(self.root().id, intent, &draft);
        if keep.as_ref().and_then(|keep| self.kept(keep)).is_some() {
            // Nobody is asked: the answer is there once the run is admitted.
            return self.admit_with_nothing(intent.purpose).await;
        }
        match self.judge_first(intent, &draft) {
            Ok(()) => {}
            Err(_) if draft.can_tighten && !self.effort(&self.key(self.root().id, intent)).tight => {
                self.effort(&self.key(self.root().id, intent)).tight = true;
                return Box::pin(self.admit_with(intent)).await;
            }
            // A stage has no room for it: it is stopped once its run goes on.
            Err(_) => return self.admit_without_call().await,
        }
        let pass = match rates {
            RatesToStart::Ask => self.rates_to_admit(intent, &draft),
            RatesToStart::Wait => RatePass::Waits,
        };
        match pass {
            RatePass::Now(hold) => self.ask_to_start(intent, *draft, FirstCall::Goes { landing, keep, hold }).await,
            RatePass::Waits => self.ask_to_start(intent, *draft, FirstCall::Waits).await,
            RatePass::Refused(refusal) if self.root().state == RunState::Queued => {
                self.stop_before_start(*refusal).await
            }
            RatePass::Refused(_) => self.admit_without_call().await,
        }
    }

    async fn ask_to_start(
        &mut self,
        intent: &ModelIntent,
        draft: Draft,
        call: FirstCall,
    ) -> Result<Flow, RuntimeError> {
        let (first_waits, landing, keep, hold) = match call {
            FirstCall::Goes { landing, keep, hold } => (false, landing, keep, hold),
            // It may be the last one: until it goes, the run can land without it.
            FirstCall::Waits => (true, self.landing_reserve(Purpose::Turn), None, None),
        };
        let (can_tighten, bound) = (draft.can_tighten, draft.reserved.amount);
        let is_fresh = hold.as_ref().is_none_or(Hold::is_free);
        // In the order of LEDGER rule 9: a tighter bound, then the downgrade, and only then fewer output tokens.
        let key = self.key(self.root().id, intent);
        let lower = !can_tighten && self.downgrade(&key).is_none();
        let lower = lower.then_some(draft.lower);
        let first = Some(Box::new(ReserveAsk { reserved: draft.reserved.clone(), lower, wait_until: None }));
        let ask = AdmitAsk { landing, bound, first, first_waits, provisional: can_tighten || !is_fresh };
        let work = Work::Model(Box::new(draft.request));
        let pending = Pending { reserved: draft.reserved, work, key: key.clone(), can_tighten, keep, hold };
        self.pending = BTreeMap::from([(pending.reserved.reservation, Box::new(pending))]);
        let passages = self.submit(vec![Ask::Admit(ask)]).await?;
        match passages.into_iter().next() {
            Some(Passage::Queued | Passage::TurnedAway(_)) if can_tighten => {
                // A tighter bound may let the run start, or start sooner.
                self.effort(&key).tight = true;
                self.pending.clear();
                Box::pin(self.admit_with(intent)).await
            }
            // What it took of the rates would be old by the time that it starts: it gives that back, and waits for it then.
            Some(Passage::Queued) if !is_fresh => {
                self.pending.clear();
                Box::pin(self.admit_with_call(intent, RatesToStart::Wait)).await
            }
            Some(passage) => self.follow(passage).await,
            None => Ok(Flow::Wait),
        }
    }

    /// Not with this call, perhaps with another: not at a frozen price, or by the policy's downgrade.
    pub(super) async fn turned_away(&mut self, refusal: Refusal) -> Result<Flow, RuntimeError> {
        let (asked, key) = match self.pending.pop_first().map(|(_, pending)| *pending) {
            Some(Pending { reserved: Reserved { call: Call::Model(call), .. }, key, .. }) => (Some(call.model), key),
            Some(_) | None => (None, (self.root().id, None)),
        };
        let stance = self.downgrade(&key);
        let effort = self.effort(&key);
        if matches!(refusal.limit, LimitKind::FrozenPrice | LimitKind::Switch)
            && spares_other_models(&refusal)
            && asked.is_some_and(|model| effort.bar(model, &refusal))
        {
            return Box::pin(self.admit()).await;
        }
        if matches!(refusal.limit, LimitKind::Cost | LimitKind::Budget)
            && let Some(stance) = stance
        {
            effort.settle();
            effort.stance = stance;
            return Box::pin(self.admit()).await;
        }
        self.stop_before_start(refusal).await
    }

    /// Asks to go on where the next thing isn't a model call: tools of a turn, or a landing.
    pub(super) async fn admit_without_call(&mut self) -> Result<Flow, RuntimeError> {
        self.admit_with_nothing(Purpose::Turn).await
    }

    async fn admit_with_nothing(&mut self, purpose: Purpose) -> Result<Flow, RuntimeError> {
        match self.ask_with_nothing(purpose, false).await? {
            Some(passage) => self.follow(passage).await,
            None => Ok(Flow::Wait),
        }
    }

    async fn ask_with_nothing(&mut self, purpose: Purpose, provisional: bool) -> Result<Option<Passage>, RuntimeError> {
        let landing = self.landing_reserve(purpose);
        // A landing takes its reserve's place, and needs nothing beside it.
        let bound = landing.as_ref().filter(|_| self.root().lands.is_none()).map_or(Money::ZERO, |kept| kept.amount);
        let ask = AdmitAsk { landing, bound, first: None, first_waits: false, provisional };
        Ok(self.submit(vec![Ask::Admit(ask)]).await?.into_iter().next())
    }

    /// Asks for the last time, so that the ledger forgets it where it still must wait: nothing is written of that, and the
    /// run stays as it is until it comes again.
    pub(super) async fn leave_queue(&mut self) -> Result<Flow, RuntimeError> {
        match self.ask_with_nothing(Purpose::Turn, true).await? {
            Some(Passage::Queued) => match self.notices.try_recv() {
                // It was let in before it asked.
                Ok(news) => self.hear(*news).await,
                Err(_) => {
                    if let Some(turn) = &self.turn {
                        turn.leave(Left::Queued);
                    }
                    Ok(Flow::Leave)
                }
            },
            Some(passage) => self.follow(passage).await,
            None => Ok(Flow::Wait),
        }
    }

    pub(super) fn landing_reserve(&self, purpose: Purpose) -> Option<Landing> {
        let last = purpose == Purpose::Last;
        let root = self.root();
        if last || !root.has_room_to_land(self.now()) {
            return None;
        }
        let model = root.landing_model()?;
        let Talk { rendered, effort } = &self.own;
        let amount = self.shared.gate.appraiser().landing_amount(root, rendered, model, effort, self.now());
        (!amount.is_zero()).then(|| Landing { reservation: root.next_reservation(), amount })
    }

    /// The first call's number follows the landing reserve's.
    pub(super) async fn prepare_after_landing(
        &mut self,
        intent: &ModelIntent,
        landing: Option<&Landing>,
    ) -> Result<Prepared, String> {
        let mut prepared = self.prepare_counted(self.root().id, intent, Beside::default()).await?;
        if let (Prepared::Ready(draft), Some(landing)) = (&mut prepared, landing) {
            draft.reserved.reservation.number = landing.reservation.number + 1;
            if self.root().plan.is_workflow() {
                draft.reserved.landing = landing.amount;
            }
        }
        Ok(prepared)
    }

    pub(super) async fn stop_before_start(&mut self, refusal: Refusal) -> Result<Flow, RuntimeError> {
        if self.root().state == RunState::Queued {
            let ended = self.root().stopped(self.declared(refusal));
            return self.end(ended).await;
        }
        // A resumed run stays as it is, with the refusal shown (LEDGER rule 7).
        let refusal = self.declared(refusal);
        (self.observer)(Progress::Refused { run: self.root().id, refusal: &refusal });
        Ok(Flow::Leave)
    }

    /// The run's own cost limit is declared in its file, which the ledger doesn't know.
    pub(super) fn declared(&self, mut refusal: Refusal) -> Refusal {
        if refusal.limit == LimitKind::Cost && refusal.subject.is_none() {
            refusal.declared = self.root().plan.limits.declared(LimitKind::Cost);
        }
        refusal
    }
}
