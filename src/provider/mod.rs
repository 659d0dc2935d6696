//! Providers: one file for each wire format. One attempt, never a retry: a second attempt needs a second [`crate::gate::Permit`].

use crate::domain::message::Reply;
use crate::domain::retry::Failure;
use crate::ids::ReservationId;
use crate::units::Millis;

/// What an attempt came to.
#[derive(Debug)]
pub struct Answer {
    /// The reservation of the attempt.
    pub reservation: ReservationId,
    /// Time from dispatch to the end.
    pub latency: Millis,
    /// Time to the first token, where the reply was streamed.
    pub first_token: Option<Millis>,
    /// What came of it.
    pub result: AnswerResult,
}

/// What came of an attempt; decides how its reservation ends.
#[derive(Debug)]
pub enum AnswerResult {
    /// A reply. With usage: settle the exact cost. Without: settle at the reservation, as `unknown`.
    Replied(Box<Reply>),
    /// No reply, and proof that nothing was billed (LEDGER rule 4): void.
    Unbilled(Failure),
    /// No reply, and nobody knows what was billed: settle at the reservation, as `unknown`.
    Unknown(Failure),
}

/// Hears a stream while it comes: text pieces, for people to watch. What it shows is provisional.
pub type Listener = std::sync::Arc<dyn Fn(&str) + Send + Sync>;
