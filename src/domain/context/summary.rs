//! What a summary stands for, and the request for one.
//!
//! Turns beyond the history's pot are told in words to a cheap model, whose text goes out in their place from then on.

use super::landing::parts;
use super::{Draft, Measure, Room, Sizer, Window, starts_turn, without_middle};
use crate::domain::event::BoundMethod;
use crate::domain::message::{Message, Pots, Sent};
use crate::domain::plan::ContextPlan;
use crate::units::Tokens;

/// What a summary asks for.
pub const SUMMARY_ASK: &str = "Sum up the work below for whoever goes on with it: what was asked, what was found out with its names, \
    numbers and sources, what was tried and failed, and what is open. Leave nothing out that is needed later. Write no \
    introduction and no advice.";
/// How a summary begins where it is sent.
const HEAD: &str = "What was said and done before, summed up:\n";
/// The most of one message that is told.
const PART_BYTES_MAX: usize = 8_000;

/// Where a conversation is to be summed up: what stands before, and what stays as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Split {
    /// Messages that the summary will stand for.
    pub messages: usize,
    /// Turns that stay.
    pub turns_kept: usize,
}

/// Where to sum up a conversation whose history is longer than its pot; `None` where it fits, or where nothing could go.
/// What stays takes half of the pot at most, so that several turns have room before the next summary.
#[must_use]
pub fn split(draft: &Draft<'_>, plan: &ContextPlan, window: Window, sizer: &dyn Sizer) -> Option<Split> {
    let room = Room::of(plan, window);
    let method = |method| super::Measured::of(draft, Measure { sizer, method });
    let measured = match method(BoundMethod::Bytes) {
        by_bytes if by_bytes.fits(&room) => return None,
        by_bytes if sizer.fixed_tokens().is_none() => by_bytes,
        _ => method(BoundMethod::Tokens),
    };
    let measured = measured.with_fewer_earlier(&room);
    let head = measured.pots.instructions.plus(measured.pots.documents);
    let history = room.history.min(room.total.left_after(head));
    if measured.pots.history <= history {
        return None;
    }
    let half = Tokens(history.0 / 2);
    let (mut from, mut turns_kept, mut kept) = (draft.turns.len(), 0, Tokens::ZERO);
    while let Some(start) = draft.turns[..from].iter().rposition(|message| starts_turn(message)) {
        let spoken = draft.turns[start..from].iter().filter(|message| !super::is_tool_answer(message));
        kept = kept.plus(spoken.map(|message| measured.measure.message(message)).sum());
        if turns_kept > 0 && kept > half {
            break;
        }
        (from, turns_kept) = (start, turns_kept + 1);
    }
    (from > 0).then_some(Split { messages: from, turns_kept })
}

/// A summary as it goes out in the place of what it stands for.
#[must_use]
pub fn in_place(text: &str) -> Sent {
    Message::User { text: format!("{HEAD}{text}") }.into()
}

/// The request for a summary, measured; `None` where even what is told of it doesn't fit.
#[must_use]
pub fn request(
    draft: &Draft<'_>,
    split: Split,
    room: Tokens,
    sizer: &dyn Sizer,
) -> Option<(Vec<Sent>, Pots, BoundMethod)> {
    let before = draft.summary.map(|summary| summary.text().to_owned());
    let told = Draft { documents: None, summary: None, turns: &draft.turns[..split.messages], ..*draft };
    let told = parts(&told).into_iter().map(|part| match part.text.len() {
        0..=PART_BYTES_MAX => part.text,
        _ => without_middle(&part.text, PART_BYTES_MAX),
    });
    let told: Vec<String> = before.into_iter().chain(told).collect();
    let text = format!("What was asked:\n{}\n\nThe work so far:\n{}", draft.user.text(), told.join("\n\n"));
    let messages = vec![Message::System { text: SUMMARY_ASK.to_owned() }.into(), Message::User { text }.into()];
    let size = |method| {
        let measure = Measure { sizer, method };
        let pot = |message: &Sent| measure.message(message);
        Pots { instructions: pot(&messages[0]).plus(measure.fixed()), history: pot(&messages[1]), ..Pots::default() }
    };
    let by_bytes = size(BoundMethod::Bytes);
    let (pots, method) = match sizer.fixed_tokens() {
        Some(_) if by_bytes.total() > room => (size(BoundMethod::Tokens), BoundMethod::Tokens),
        Some(_) | None => (by_bytes, BoundMethod::Bytes),
    };
    (pots.total() <= room).then_some((messages, pots, method))
}
