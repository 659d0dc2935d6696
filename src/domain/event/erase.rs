//! Facts without what people wrote and models answered: what is left of a run whose bodies are taken out of the store.
//!
//! Invariant: numbers, money, names, states and their order stay, so that every sum and every account is the same after it.
//! Deliberately absent: labels, the caller's key and who decided, which say whose the money was.

use serde_json::Value;

use super::{
    Call, CallRefusal, CallRefused, Created, Decision, Ended, Event, InFlightResolved, MapBegan, ModelCall, Outcome,
    PersonAnswered, PersonAsked, Settled, StageEnded,
};
use crate::domain::message::{Assistant, ToolCall};
use crate::domain::retry::Failure;

impl Event {
    /// The same without bodies.
    #[must_use]
    pub fn without_bodies(self) -> Self {
        match self {
            Self::Created(created) => Self::Created(created.without_bodies()),
            Self::Reserved(mut reserved) => {
                bare_call(&mut reserved.call);
                Self::Reserved(reserved)
            }
            Self::Settled(mut settled) => {
                bare_settled(&mut settled);
                Self::Settled(settled)
            }
            Self::Voided(mut voided) => {
                bare_failure(&mut voided.failure);
                Self::Voided(voided)
            }
            Self::CallRefused(refused) => Self::CallRefused(bare_refused(refused)),
            Self::CancelRequested(mut asked) => {
                asked.reason.clear();
                Self::CancelRequested(asked)
            }
            Self::PersonAsked(asked) => Self::PersonAsked(bare_asked(asked)),
            Self::PersonAnswered(answered) => Self::PersonAnswered(bare_answered(answered)),
            Self::InFlightResolved(InFlightResolved { call_id, rerun, by }) => {
                Self::InFlightResolved(InFlightResolved { call_id, rerun, by })
            }
            Self::MapBegan(MapBegan { stage, items }) => {
                Self::MapBegan(MapBegan { stage, items: vec![Value::Null; items.len()] })
            }
            Self::StageEnded(ended) => {
                let error = ended.error.map(|_| String::new());
                Self::StageEnded(StageEnded { output: Value::Null, error, ..ended })
            }
            Self::ChildBegan(mut began) => {
                began.call.iter_mut().for_each(|call| call.arguments_hash.clear());
                Self::ChildBegan(began)
            }
            Self::ChildEnded(mut ended) => {
                ended.end = ended.end.without_bodies();
                Self::ChildEnded(ended)
            }
            Self::Ended(ended) => Self::Ended(ended.without_bodies()),
            Self::OutcomeRecorded(mut said) => {
                said.note = None;
                Self::OutcomeRecorded(said)
            }
            numbers @ (Self::Admitted(_)
            | Self::Downgraded(_)
            | Self::WaitBegan(_)
            | Self::WaitEnded(_)
            | Self::RateWaitBegan(_)
            | Self::RateWaitEnded(_)
            | Self::LandingBegan(_)
            | Self::LandingReleased(_)
            | Self::Interrupted(_)
            | Self::Parked(_)
            | Self::PeriodMoved(_)) => numbers,
        }
    }
}

impl Created {
    fn without_bodies(self) -> Self {
        Self { input: Value::Null, documents: None, files: Vec::new(), erased: true, ..self }
    }
}

impl Ended {
    fn without_bodies(self) -> Self {
        Self { output: None, error: self.error.map(|_| String::new()), ..self }
    }
}

fn bare_call(call: &mut Call) {
    match call {
        Call::Model(ModelCall { request_hash, remark, cuts, instead, .. }) => {
            request_hash.clear();
            *remark = remark.take().map(|_| String::new());
            // A document's name, or a provider's words.
            cuts.iter_mut().for_each(|cut| cut.what.clear());
            *instead = instead.take().map(|_| String::new());
        }
        Call::Tool { arguments_hash, arguments, .. } => {
            arguments_hash.clear();
            *arguments = arguments.take().map(|_| Value::Null);
        }
    }
}

fn bare_settled(settled: &mut Settled) {
    settled.cache.kept = None;
    match &mut settled.outcome {
        Outcome::Reply { message, .. } => *message = bare_message(message),
        Outcome::ToolResult { content, .. } => content.clear(),
        Outcome::Failed(failure) => bare_failure(failure),
    }
}

/// Which tools were asked for stays: the run went on by it.
fn bare_message(message: &Assistant) -> Assistant {
    let bare = |call: &ToolCall| ToolCall { arguments: "{}".to_owned(), ..call.clone() };
    let refusal = message.refusal.as_ref().map(|_| String::new());
    Assistant { refusal, calls: message.calls.iter().map(bare).collect(), ..Assistant::default() }
}

fn bare_failure(failure: &mut Failure) {
    failure.message.clear();
}

fn bare_refused(refused: CallRefused) -> CallRefused {
    let why = match refused.why {
        CallRefusal::Invalid { .. } => CallRefusal::Invalid { message: String::new() },
        limit @ CallRefusal::Limit { .. } => limit,
    };
    CallRefused { why, ..refused }
}

fn bare_asked(asked: PersonAsked) -> PersonAsked {
    let (shown, shown_hash) = (asked.shown.map(|_| Value::Null), asked.shown_hash.map(|_| String::new()));
    PersonAsked { question: String::new(), shown, shown_hash, ..asked }
}

fn bare_answered(answered: PersonAnswered) -> PersonAnswered {
    let decision = match answered.decision {
        Decision::Allow { edited } => Decision::Allow { edited: edited.map(|_| Value::Null) },
        Decision::Answer { .. } => Decision::Answer { value: Value::Null },
        Decision::Deny => Decision::Deny,
        Decision::Expired => Decision::Expired,
    };
    let shown_hash = answered.shown_hash.map(|_| String::new());
    PersonAnswered { decision, reason: answered.reason.map(|_| String::new()), shown_hash, ..answered }
}
