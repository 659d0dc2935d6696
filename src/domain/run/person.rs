//! Waits for people: since when, and until when at most (limit `expires`).
//!
//! One rule for every question that a run can ask: whether a call that was in flight is made again, an approval, an input.
//! A run that waits holds nothing (LEDGER rule 13), so its end by this limit has nothing to give back but what is in
//! flight beside it, which drains first.

use super::Run;
use crate::domain::event::{Ended, RunState};
use crate::domain::limits::LimitKind;
use crate::units::Timestamp;

/// A question that nobody has answered yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PersonWait {
    /// When it was asked.
    since: Timestamp,
    /// The question, in words.
    question: String,
}

impl Run {
    /// The run asks and waits.
    pub(super) fn ask_person(&mut self, at: Timestamp, question: &str, state: RunState) {
        self.person = Some(PersonWait { since: at, question: question.to_owned() });
        self.pause(state);
    }

    /// When nobody waits for a person's answer any longer; `None` where the run waits for nobody.
    #[must_use]
    pub fn expires_at(&self) -> Option<Timestamp> {
        let wait = self.person.as_ref().filter(|_| self.state.awaits_person())?;
        Some(wait.since.after(self.plan.limits.expires))
    }

    /// How the run ends if its wait for a person has been too long.
    #[must_use]
    pub fn expired(&self, now: Timestamp) -> Option<Ended> {
        let until = self.expires_at().filter(|until| *until <= now)?;
        let PersonWait { since, question } = self.person.as_ref()?;
        let observed = format!("asked at {since}, not answered by {until}");
        let mut ended = self.stopped(self.refusal(LimitKind::Expires, self.plan.limits.expires, observed));
        ended.error = Some(format!(
            "nobody answered: {question}. Start a new run to go on; a longer `expires` gives people more time"
        ));
        Some(ended)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::event::{EndState, Event, InFlightResolved, PersonAsked};
    use crate::domain::plan::ToolPlan;
    use crate::domain::report::{fixture, replay};
    use crate::domain::run::{CallCheck, Intent, Next};
    use crate::units::{Millis, Money};
    use serde_json::Value;

    /// Nothing is wrong with anything.
    struct Lenient;

    impl CallCheck for Lenient {
        fn arguments(&self, _: &ToolPlan, _: &str) -> Result<(), String> {
            Ok(())
        }

        fn output(&self, _: &Value, text: &str) -> Result<Value, String> {
            Ok(Value::String(text.to_owned()))
        }
    }

    /// A run that asked a person, at this time.
    fn asked() -> (Run, Timestamp) {
        let mut log = fixture::Log::new();
        log.admit(Money::ZERO);
        log.push(
            1_000,
            Event::PersonAsked(PersonAsked::in_flight(
                "call_1".into(),
                "stamp".into(),
                "`stamp` may have taken effect".into(),
            )),
        );
        let at = log.recorded.last().expect("a fact").at;
        (replay(fixture::run_id(), fixture::plan(), &log.recorded).expect("a run"), at)
    }

    fn week() -> Millis {
        fixture::plan().limits.expires
    }

    #[test]
    fn a_wait_ends_at_its_limit_and_not_before() {
        let (run, at) = asked();
        let until = at.after(week());
        assert_eq!(run.expires_at(), Some(until));
        assert_eq!(run.expired(Timestamp(until.0 - 1)), None);
        let ended = run.expired(until).expect("it is over");
        assert_eq!((ended.state, ended.output), (EndState::Stopped, None));
        let refusal = ended.refusal.expect("a limit");
        let said = refusal.to_string();
        assert_eq!(refusal.limit, LimitKind::Expires);
        assert!(said.contains("limit `expires` is 7d (default)") && said.contains(&until.to_string()), "{said}");
        let error = ended.error.expect("words");
        assert!(error.contains("`stamp` may have taken effect") && error.contains("new run"), "{error}");
    }

    #[test]
    fn the_run_itself_wants_that_end() {
        let (run, at) = asked();
        let Next::Do(intents) = run.next(at.after(week()), &Lenient) else { unreachable!("it waits on") };
        assert!(matches!(&intents[..], [Intent::End(ended)] if ended.state == EndState::Stopped), "{intents:?}");
    }

    #[test]
    fn who_was_answered_or_cancelled_doesnt_expire() {
        let (mut answered, at) = asked();
        let late = at.after(week());
        answered.apply(
            at,
            &Event::InFlightResolved(InFlightResolved { call_id: "call_1".into(), rerun: true, by: "me".into() }),
        );
        assert_eq!((answered.expires_at(), answered.expired(late)), (None, None));
        let (mut ended, _) = asked();
        let end = ended.expired(late).expect("it is over");
        ended.apply(late, &Event::Ended(end));
        assert_eq!((ended.state, ended.expired(late)), (RunState::Stopped, None));
    }

    #[test]
    fn an_approval_and_an_input_are_the_same_wait() {
        for state in [RunState::AwaitingApproval, RunState::AwaitingInput] {
            let (mut run, _) = asked();
            run.ask_person(Timestamp(5_000), "how many?", state);
            assert_eq!(run.expires_at(), Some(Timestamp(5_000).after(week())), "{state}");
            assert!(run.expired(Timestamp(5_000).after(week())).is_some(), "{state}");
        }
    }
}
