//! Waits for rate limits, before the money is asked for: whoever waits holds nothing but its landing reserve, and once it may
//! go, all is judged again.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::Notify;

use super::{Conductor, Key, Pending};
use crate::domain::breaker::{Sign, sign};
use crate::domain::event::{Call, Event, ModelCall, Place, Purpose, RateWaitBegan, RateWaitEnded, Reserved};
use crate::domain::limits::{LimitKind, Refusal};
use crate::domain::pricing::Usage;
use crate::domain::rate::CallTokens;
use crate::domain::retry::{ErrorClass, Failure};
use crate::domain::run::ModelIntent;
use crate::gate::Draft;
use crate::ids::{AccountName, ModelName, RunId};
use crate::provider::{Answer, AnswerResult};
use crate::rates::{Hold, Pass, Ticket, Used, Wait};
use crate::units::{Millis, Timestamp};

/// The calls of a tree that wait for rates.
#[derive(Default)]
pub(super) struct RateWaits {
    /// Woken where there is news of one.
    pub(super) wake: Arc<Notify>,
    list: BTreeMap<Key, RateWait>,
}

/// One call that waits.
struct RateWait {
    since: Timestamp,
    place: Place,
    /// Its place in the queue, while it has one.
    ticket: Option<(Ticket, ModelName, Option<AccountName>, CallTokens)>,
    /// When to look again: once it may go, or its time is up.
    until: Option<Timestamp>,
    /// The run still wants it, as far as the present look has come.
    wanted: bool,
}

impl RateWaits {
    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// When to look again, at the soonest.
    pub(super) fn next_look(&self) -> Option<Timestamp> {
        self.list.values().filter_map(|wait| wait.until).min()
    }

    /// Gives all places in the queue up: nothing is asked for, for a while.
    pub(super) fn leave_queue(&mut self) {
        for wait in self.list.values_mut() {
            (wait.ticket, wait.until) = (None, None);
        }
    }

    /// Nothing is wanted any more.
    pub(super) fn clear(&mut self) {
        self.list.clear();
    }

    /// The run is asked anew what it wants.
    pub(super) fn begin_look(&mut self) {
        self.list.values_mut().for_each(|wait| wait.wanted = false);
    }

    /// It has said all that it wants.
    pub(super) fn end_look(&mut self) {
        self.list.retain(|_, wait| wait.wanted);
    }

    /// The place in the queue of a call that is still the same.
    fn ticket(&mut self, key: &Key, call: &ModelCall) -> Option<Ticket> {
        let wait = self.list.get_mut(key)?;
        wait.wanted = true;
        let (ticket, model, account, tokens) = wait.ticket.take()?;
        let asks = tokens_of(call);
        let is_same = model == call.model && account == call.account;
        (is_same && asks.input <= tokens.input && asks.output <= tokens.output).then_some(ticket)
    }
}

fn tokens_of(call: &ModelCall) -> CallTokens {
    CallTokens { input: call.bound.tokens.0, output: call.output_at_most().0 }
}

/// Whether a call may go, as far as rates are concerned.
pub(super) enum RatePass {
    /// It may: its money comes next.
    Now(Option<Hold>),
    /// It waits.
    Waits,
    /// The wait would take longer than there is time for.
    Refused(Box<Refusal>),
}

impl Conductor {
    /// Takes what a call needs of the rates, or waits for it.
    pub(super) fn pass_rates(&mut self, run: RunId, intent: &ModelIntent, draft: &Draft) -> RatePass {
        let Call::Model(call) = &draft.reserved.call else { return RatePass::Now(None) };
        let (now, key) = (self.now(), self.key(run, intent));
        let pass = match self.rate_waits.ticket(&key, call).map(|ticket| ticket.look(now)) {
            Some(Ok(hold)) => Pass::Now(hold),
            Some(Err((ticket, wait))) => Pass::Waits(ticket, wait),
            None => match self.ask_rates(&draft.reserved) {
                Some(pass) => pass,
                None => return RatePass::Now(None),
            },
        };
        match pass {
            Pass::Now(hold) => {
                self.end_rate_wait(&key, run, None);
                RatePass::Now(Some(hold))
            }
            Pass::Waits(ticket, wait) => match self.too_long(run, intent, &wait) {
                Some(refusal) => self.give_rates_up(&key, run, (intent, call), refusal),
                None => {
                    self.wait_for_rates(key, run, (intent, call), (ticket, wait));
                    RatePass::Waits
                }
            },
            Pass::Full(refusal) => self.give_rates_up(&key, run, (intent, call), refusal),
        }
    }

    /// Nothing else tells why a landing has no answer: its wait is told even where it ends as it begins.
    fn give_rates_up(&mut self, key: &Key, run: RunId, of: (&ModelIntent, &ModelCall), refusal: Refusal) -> RatePass {
        if of.0.purpose == Purpose::Landing {
            self.begin_rate_wait(key, run, of, &Wait { refusal: Box::new(refusal.clone()), until: None });
        }
        self.end_rate_wait(key, run, Some(&refusal));
        RatePass::Refused(Box::new(refusal))
    }

    /// What a first call takes of the rates, where the run is to be admitted with it.
    pub(super) fn rates_to_admit(&self, intent: &ModelIntent, draft: &Draft) -> RatePass {
        match self.ask_rates(&draft.reserved) {
            None => RatePass::Now(None),
            Some(Pass::Now(hold)) => RatePass::Now(Some(hold)),
            Some(Pass::Full(refusal)) => RatePass::Refused(Box::new(refusal)),
            Some(Pass::Waits(_, wait)) => match self.too_long(self.root().id, intent, &wait) {
                Some(refusal) => RatePass::Refused(Box::new(refusal)),
                None => RatePass::Waits,
            },
        }
    }

    fn ask_rates(&self, reserved: &Reserved) -> Option<Pass> {
        let run = self.tree.run(reserved.reservation.run).unwrap_or(self.tree.root());
        self.shared.gate.ask_rates(run, reserved, self.rate_waits.wake.clone())
    }

    fn wait_for_rates(
        &mut self,
        key: Key,
        run: RunId,
        (intent, call): (&ModelIntent, &ModelCall),
        (ticket, wait): (Ticket, Wait),
    ) {
        let time_up = self.now().after(self.time_for_rates(run, intent));
        self.begin_rate_wait(&key, run, (intent, call), &wait);
        if let Some(waiting) = self.rate_waits.list.get_mut(&key) {
            waiting.until = Some(wait.until.map_or(time_up, |until| until.min(time_up)));
            waiting.ticket = Some((ticket, call.model.clone(), call.account.clone(), tokens_of(call)));
        }
    }

    /// The wait of a call that doesn't wait yet begins.
    fn begin_rate_wait(&mut self, key: &Key, run: RunId, (intent, call): (&ModelIntent, &ModelCall), wait: &Wait) {
        if self.rate_waits.list.contains_key(key) {
            return;
        }
        let (since, place) = (self.now(), intent.step.place());
        let waits = RateWait { since, place: place.clone(), ticket: None, until: None, wanted: true };
        self.rate_waits.list.insert(key.clone(), waits);
        let (model, account, until) = (call.model.clone(), call.account.clone(), wait.until);
        let began = RateWaitBegan { place, model, account, refusal: (*wait.refusal).clone(), until };
        self.note(run, Event::RateWaitBegan(Box::new(began)));
    }

    /// The wait of a call is over, if it waited: it goes, or can't be waited for any longer.
    pub(super) fn end_rate_wait(&mut self, key: &Key, run: RunId, refused: Option<&Refusal>) {
        if let Some(wait) = self.rate_waits.list.remove(key) {
            let (waited, refused) = (self.now().since(wait.since), refused.cloned().map(Box::new));
            self.note(run, Event::RateWaitEnded(RateWaitEnded { place: wait.place, waited, refused }));
        }
    }

    /// How long a call may wait.
    fn time_for_rates(&self, run: RunId, intent: &ModelIntent) -> Millis {
        match intent.purpose {
            Purpose::Landing => intent.time_limit,
            Purpose::Turn | Purpose::Last | Purpose::Repair | Purpose::Summary => {
                self.tree.time_to_wait(run, &intent.step.place(), self.now())
            }
        }
    }

    /// The refusal of a wait that can't end in time; a breaker isn't waited for any longer than a provider's retry-after.
    fn too_long(&self, run: RunId, intent: &ModelIntent, wait: &Wait) -> Option<Refusal> {
        let now = self.now();
        let left = self.time_for_rates(run, intent);
        let patience = self.tree.run(run).unwrap_or(self.root()).plan.retry.retry_after_max;
        let is_breaker = wait.refusal.limit == LimitKind::Breaker;
        let (most, why) = if is_breaker && patience < left { (patience, "are waited") } else { (left, "are left") };
        // Who doesn't know the end waits while there is time.
        if left > Millis::ZERO && wait.until.is_none_or(|until| until.since(now) <= most) {
            return None;
        }
        let mut refusal = (*wait.refusal).clone();
        refusal.observed = format!("{}; {most} {why}", refusal.observed);
        Some(refusal)
    }

    /// Money came late for a call that gave its rates back while it waited: it takes them anew, or was never made.
    pub(super) fn rates_again(&self, pending: &mut Pending) -> bool {
        if pending.hold.is_some() {
            return true;
        }
        match self.ask_rates(&pending.reserved) {
            Some(Pass::Now(hold)) => pending.hold = Some(hold),
            Some(Pass::Waits(..) | Pass::Full(_)) => return false,
            None => {}
        }
        true
    }
}

/// What an answer says for the rates: what it used, how whoever was asked stands, and what they say of their own limits.
pub(super) fn used(answer: &Answer) -> Used {
    let (sent, tokens, sign, retry_after) = match &answer.result {
        AnswerResult::Replied(reply) => {
            let usage = reply.usage.as_ref().filter(|_| reply.mismatch.is_none());
            let used = |usage: &Usage| CallTokens { input: usage.input_total().0, output: usage.output.0 };
            (true, usage.map(used), (Sign::Works, None), None)
        }
        AnswerResult::Unbilled(failure) => {
            // Where it left, there was a status.
            (failure.status.is_some(), Some(CallTokens::default()), of(failure), failure.retry_after)
        }
        AnswerResult::Unknown(failure) => (true, None, of(failure), failure.retry_after),
    };
    Used { sent, tokens, sign, retry_after, told: answer.rates.clone() }
}

fn of(failure: &Failure) -> (Sign, Option<ErrorClass>) {
    match sign(failure.class) {
        // Our own checks, before anything left.
        Sign::Works if failure.status.is_none() => (Sign::Nothing, None),
        sign @ (Sign::Works | Sign::Failed(_) | Sign::Spent | Sign::Nothing) => (sign, Some(failure.class)),
    }
}
