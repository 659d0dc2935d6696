//! Tools: one file for each kind. One call, never a retry, and only for a [`Permit`].

use crate::ids::ReservationId;
use crate::units::Millis;

/// What a tool call came to. A failing tool never kills a run: the model is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolOutcome {
    /// The reservation of the attempt.
    pub reservation: ReservationId,
    /// What the model is told.
    pub content: String,
    /// True where it tells of an error.
    pub is_error: bool,
    /// Bytes that were cut off to keep `output_bytes`.
    pub cut_bytes: u64,
    /// Time from start to end.
    pub latency: Millis,
    /// True where the call was never begun (the program doesn't exist, the host isn't allowed): nothing is billed.
    pub never_began: bool,
}
