//! What each request of a run was made of, pot by pot, and what was cut to make it fit.

use crate::domain::event::{BoundMethod, Pot};
use crate::domain::report::{AttemptCall, ModelLine, Trace};
use crate::pages::chart::{Piece, stacked};
use crate::units::Tokens;
use crate::words::entry::pot;
use crate::words::text::one_line;

/// The most characters that are told of what was cut.
const CUT_CHARS_MAX: usize = 200;

/// One request.
pub(super) struct Request {
    pub(super) step: u32,
    pub(super) model: String,
    /// Of the largest request of the run: instructions, history, documents, results of tools.
    pub(super) pieces: Vec<(Piece, &'static str)>,
    pub(super) tokens: [String; 4],
    pub(super) total: String,
    pub(super) budget: String,
    /// True where only bytes are known: it has as many tokens at most.
    pub(super) at_most: bool,
    pub(super) cuts: Vec<String>,
}

/// The pots in the order in which they are drawn.
const POTS: [(Pot, &str); 4] = [
    (Pot::Instructions, "instructions"),
    (Pot::History, "history"),
    (Pot::Documents, "documents"),
    (Pot::ToolOutput, "tool-output"),
];

/// Every request of a run's own, in order.
pub(super) fn requests(trace: &Trace) -> Vec<Request> {
    let calls: Vec<(u32, &ModelLine)> = trace
        .steps()
        .flat_map(|step| step.attempts.iter().map(|attempt| (step.step, attempt)))
        .filter_map(|(step, attempt)| match &attempt.call {
            AttemptCall::Model(model) => Some((step, model)),
            AttemptCall::Tool(_) => None,
        })
        .collect();
    let largest = calls.iter().map(|(_, call)| call.pots.total().0).max().unwrap_or_default();
    calls.into_iter().map(|(step, call)| Request::of(step, call, largest)).collect()
}

impl Request {
    fn of(step: u32, call: &ModelLine, largest: u64) -> Self {
        let of = |kind: Pot| match kind {
            Pot::Instructions => call.pots.instructions,
            Pot::History => call.pots.history,
            Pot::Documents => call.pots.documents,
            Pot::ToolOutput => call.pots.tool_output,
        };
        let tokens: [Tokens; 4] = POTS.map(|(kind, _)| of(kind));
        let pieces = stacked(&tokens.map(|tokens| tokens.0), largest);
        let cut = |cut: &crate::domain::event::Cut| {
            format!("{} tokens of {}: {}", cut.tokens, pot(cut.pot), one_line(&cut.what, CUT_CHARS_MAX))
        };
        Self {
            step,
            model: call.model.to_string(),
            pieces: pieces.into_iter().zip(POTS.map(|(_, class)| class)).collect(),
            tokens: tokens.map(|tokens| tokens.to_string()),
            total: call.pots.total().to_string(),
            budget: call.input_bound.tokens.to_string(),
            at_most: call.input_bound.method == BoundMethod::Bytes,
            cuts: call.cuts.iter().map(cut).collect(),
        }
    }
}
