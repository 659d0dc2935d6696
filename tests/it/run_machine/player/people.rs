//! People of a play: they allow, edit, deny, answer, or let the time pass.

use plimsoll::domain::event::{AskKind, Decision, Event, Parked};
use plimsoll::domain::run::{Asking, Given, ToolIntent};
use plimsoll::units::Timestamp;
use serde_json::json;

use super::{Check, Player, named};

impl Player {
    /// A fact that follows from the state. What nobody answered in time, the model is told.
    pub(super) fn note(&mut self, fact: Event) {
        if let Event::PersonAsked(asked) = &fact {
            self.meet("person", true);
            let numbered = asked.ask == u32::try_from(self.run.asks().len()).ok();
            self.fault_unless(numbered, || format!("questions have a gap: {asked:?}"));
            let beside = !self.open.is_empty();
            self.meet("beside a question", beside);
        }
        if let Event::PersonAnswered(answered) = &fact {
            self.meet("expired", true);
            let asking = answered.ask.and_then(|ask| self.run.asks().get(ask as usize).cloned()).expect("a question");
            self.fault_unless(asking.until <= self.now, || "a wait for a person ends too soon".into());
            self.take_answer(&asking, &answered.decision);
        }
        self.apply(fact);
    }

    /// LEDGER rule 13: only people can move it, and it holds nothing. Later it is woken, with or without an answer.
    pub(super) fn park(&mut self, parked: Parked) {
        self.fault_unless(self.open.is_empty(), || "a run that waits for a person has calls in flight".into());
        self.release_landing();
        self.apply(Event::Parked(parked));
        let before = self.run.active(self.now);
        let open: Vec<Asking> = self.run.unanswered().cloned().collect();
        self.fault_unless(!open.is_empty(), || "it waits for people and asks nothing".into());
        let until = self.run.expires_at().expect("it waits for a person");
        if self.draw(3) == 0 {
            self.now = Timestamp(until.0 - 1);
            self.fault_unless(self.run.expired(self.now).is_empty(), || "a wait for a person ends too soon".into());
            self.now = until;
            let late = self.run.expired(self.now);
            self.fault_unless(!late.is_empty(), || "promise 8: a wait for a person doesn't end".into());
            late.into_iter().for_each(|fact| self.note(fact));
        } else {
            self.pass(10_000);
            let late = self.run.expired(self.now);
            if late.is_empty() {
                let which = self.draw(open.len());
                self.decide(&open[which]);
            }
            late.into_iter().for_each(|fact| self.note(fact));
        }
        self.fault_unless(self.run.active(self.now) == before, || "a wait for a person counts as active".into());
        self.admit();
    }

    fn decide(&mut self, asking: &Asking) {
        let (case, decision) = match self.draw(6) {
            0 => ("edited", Decision::Allow { edited: Some(json!({ "n": 77 })) }),
            1 => ("answered", Decision::Answer { value: json!("as I say") }),
            2 => ("denied", Decision::Deny),
            _ => ("allowed", Decision::Allow { edited: None }),
        };
        self.meet(case, true);
        let ask = Some(asking.number);
        let given = Given { ask, decision, by: "me".into(), reason: None, shown_hash: Some(asking.shown_hash.clone()) };
        match self.run.judge_answer(self.now, &given, &Check) {
            Err(fault) => self.faults.push(format!("{fault}")),
            Ok(fact) => {
                self.take_answer(asking, &given.decision);
                self.apply(Event::PersonAnswered(fact));
                let again = self.run.judge_answer(self.now, &given, &Check);
                self.fault_unless(again.is_err(), || "promise (17): a question is answered twice".into());
            }
        }
    }

    /// A yes lets the call be made; anything else answers it.
    fn take_answer(&mut self, asking: &Asking, decision: &Decision) {
        let (Some(place), Some(call_id)) = (&asking.place, &asking.call_id) else {
            return self.faults.push(format!("a question about no call: {asking:?}"));
        };
        let name = named(&place.step(0), call_id);
        self.in_doubt.remove(&name);
        if !matches!(decision, Decision::Allow { .. }) {
            *self.answered.entry(name).or_default() += 1;
        }
    }

    /// What needs a yes is made only with one, in the form that was allowed.
    pub(super) fn judge_allowed(&mut self, intent: &ToolIntent) {
        let tool = &self.plan.tools[&intent.call.name];
        if tool.approval.is_never() {
            return;
        }
        let about = |asking: &&Asking| {
            asking.call_id.as_ref() == Some(&intent.call.id)
                && asking.place.as_ref() == Some(&intent.step.place())
                && matches!(asking.kind, AskKind::Call | AskKind::InFlight)
        };
        let latest = self.run.asks().iter().rev().find(about);
        let allowed = latest.and_then(|asking| asking.answered.as_ref()).map(|answered| answered.decision.clone());
        let right = match &allowed {
            Some(Decision::Allow { edited: Some(edited) }) => {
                serde_json::from_str(&intent.call.arguments).ok().as_ref() == Some(edited)
            }
            Some(Decision::Allow { edited: None }) => true,
            Some(Decision::Deny | Decision::Answer { .. } | Decision::Expired) | None => false,
        };
        self.fault_unless(right, || format!("`{}` is called without a yes: {allowed:?}", intent.call.id));
    }
}
