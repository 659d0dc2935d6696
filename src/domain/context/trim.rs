//! Cuts what doesn't fit: whole old turns for the history, the middle of tool results, then the results themselves.

use crate::domain::context::Fitted;
use crate::domain::context::{Measure, Measured, Piece, Room, is_tool_answer, starts_turn, without_middle};
use crate::domain::event::{BoundMethod, Cut, Pot};
use crate::domain::message::{Message, Sent, ToolAnswer};
use crate::units::Tokens;

/// A tool result is cut in its middle where at least this much of it can stay; less of it would only mislead.
const KEPT_BYTES_MIN: usize = 200;
/// Tries to find how much of a result fits, each with three quarters of the last.
const SHRINKS_MAX: u32 = 8;
/// Bytes that the note in a shortened result can take.
const NOTE_BYTES_MAX: u64 = 48;
/// How a note in the place of a result begins.
const NOTE: &str = "[result cut: ";
/// The longest note in the place of a result; a note is never replaced by another.
const REPLACEMENT_BYTES_MAX: usize = 48;

/// Cuts a conversation until it fits, or says what alone is too long.
pub(super) fn trim(measured: Measured<'_>, room: &Room) -> Result<Fitted, String> {
    let (measure, turns) = (measured.measure, measured.turns);
    let kept_before = measured.kept_history();
    let head = measured.pots.instructions.plus(measured.pots.documents).plus(kept_before);
    let room = &Room { history: room.history.left_after(kept_before), ..*room };
    let left = room.total.0.checked_sub(head.0).map(Tokens);
    let newest = last_turn(turns);
    let last = Needs::of(&turns[newest..], measure);
    let needed = last.history.plus(last.notes);
    let Some(left) = left.filter(|left| needed <= *left) else {
        let alone = measured.pots.instructions.plus(kept_before).plus(needed);
        return Err(format!("instructions and the last turn alone need {}", measured.shown(alone)));
    };
    let (from, needs) = oldest_kept(turns, measure, left, room);
    let (gone, kept) = turns.split_at(from);
    let results = gone.iter().filter(|message| is_tool_answer(message)).count();
    let mut pieces: Vec<Piece> =
        kept.iter().map(|message| Piece { message: message.clone(), size: measure.message(message) }).collect();
    let tool_room = left.left_after(needs.history).min(room.tool_output.max(last.notes));
    let shortened = shorten_results(&mut pieces, measure, tool_room.left_after(needs.notes), results);
    let cuts = gone_cut(gone, results, measure).into_iter().chain(shortened).collect();
    Ok(measured.with(pieces, cuts))
}

/// What the last turn needs at least.
pub(super) fn last_needs(turns: &[Sent], measure: Measure<'_>) -> Tokens {
    let needs = Needs::of(&turns[last_turn(turns)..], measure);
    needs.history.plus(needs.notes)
}

/// What some turns need at least: their history, and a note for each of their results.
#[derive(Clone, Copy, Default)]
struct Needs {
    history: Tokens,
    notes: Tokens,
}

impl Needs {
    fn of(messages: &[Sent], measure: Measure<'_>) -> Self {
        let mut needs = Self::default();
        for message in messages {
            let size = measure.message(message);
            match &**message {
                Message::Tool(answer) => needs.notes = needs.notes.plus(least(message, answer, size, measure)),
                Message::System { .. } | Message::User { .. } | Message::File(_) | Message::Assistant(_) => {
                    needs.history = needs.history.plus(size);
                }
            }
        }
        needs
    }

    fn plus(self, other: Self) -> Self {
        Self { history: self.history.plus(other.history), notes: self.notes.plus(other.notes) }
    }
}

/// Where the last turn begins.
fn last_turn(messages: &[Sent]) -> usize {
    messages.iter().rposition(|message| starts_turn(message)).unwrap_or(0)
}

/// From where on the conversation stays, and what that needs: the history its pot, beside what the last turn's results want
/// of theirs, and a note for each older result theirs. Looks back from the newest, so that turns long gone cost nothing.
fn oldest_kept(turns: &[Sent], measure: Measure<'_>, left: Tokens, room: &Room) -> (usize, Needs) {
    let mut kept = last_turn(turns);
    let last = Needs::of(&turns[kept..], measure);
    let results =
        turns[kept..].iter().filter(|message| is_tool_answer(message)).map(|message| measure.message(message));
    let last_results = results.sum::<Tokens>().min(room.tool_output.max(last.notes)).min(left.left_after(last.history));
    let history_room = room.history.max(last.history).min(left.left_after(last_results));
    let fits = |needs: Needs| {
        let notes_room = left.left_after(needs.history).min(room.tool_output.max(last.notes));
        needs.history <= history_room && needs.notes <= notes_room
    };
    let mut needs = last;
    while kept > 0 {
        let older = last_turn(&turns[..kept]);
        let more = needs.plus(Needs::of(&turns[older..kept], measure));
        if !fits(more) {
            break;
        }
        (kept, needs) = (older, more);
    }
    (kept, needs)
}

/// Brings the tool results into their pot: newest whole, the first that doesn't fit without its middle, older as notes.
/// Beside a note for each there is `spare` left; `before` results are gone.
fn shorten_results(pieces: &mut [Piece], measure: Measure<'_>, mut spare: Tokens, before: usize) -> Vec<Cut> {
    let mut number = before + pieces.iter().filter(|piece| is_tool_answer(&piece.message)).count();
    let mut full = false;
    let mut cuts = Vec::new();
    for piece in pieces.iter_mut().rev() {
        let Message::Tool(answer) = &*piece.message else { continue };
        let least = least(&piece.message, answer, piece.size, measure);
        let extra = piece.size.left_after(least);
        if extra <= spare && !full {
            spare = spare.left_after(extra);
        } else {
            let allowed = if full { least } else { least.plus(spare) };
            if let Some(shorter) = shortened(&piece.message, answer, piece.size, allowed, measure) {
                cuts.extend(result_cut(answer, number, piece.size, &shorter));
                *piece = shorter;
            }
            full = true;
        }
        number -= 1;
    }
    cuts.reverse();
    cuts
}

fn gone_cut(gone: &[Sent], results: usize, measure: Measure<'_>) -> Option<Cut> {
    let first_is_no_start = gone.first().is_some_and(|message| !starts_turn(message));
    let turns = gone.iter().filter(|message| starts_turn(message)).count() + usize::from(first_is_no_start);
    let tokens = gone.iter().map(|message| measure.message(message)).sum();
    let turns = match turns {
        0 => return None,
        1 => "turn 1".to_owned(),
        count => format!("turns 1 to {count}"),
    };
    let what = if results == 0 { turns } else { format!("{turns}, with {results} tool results") };
    Some(Cut { pot: Pot::History, what, tokens })
}

fn result_cut(answer: &ToolAnswer, number: usize, whole: Tokens, kept: &Piece) -> Option<Cut> {
    let tokens = whole.left_after(kept.size);
    let told = if let Message::Tool(kept) = &*kept.message { note_words(&kept.content) } else { "" };
    let what = format!("result of {} (call {number}), in its place: {told}", answer.name);
    (tokens > Tokens::ZERO).then_some(Cut { pot: Pot::ToolOutput, what, tokens })
}

/// The note that stands in a shortened result, or instead of it.
fn note_words(content: &str) -> &str {
    let is_note = |line: &&str| line.starts_with(NOTE) || (line.starts_with("[… ") && line.ends_with(" bytes cut …]"));
    content.lines().find(is_note).unwrap_or_default()
}

fn with_content(answer: &ToolAnswer, content: String) -> Sent {
    Sent::from(ToolAnswer {
        call_id: answer.call_id.clone(),
        name: answer.name.clone(),
        content,
        is_error: answer.is_error,
    })
}

/// The least that a result can be brought down to.
fn least(message: &Sent, answer: &ToolAnswer, size: Tokens, measure: Measure<'_>) -> Tokens {
    note(message, answer, size, measure).map_or(size, |note| note.size)
}

/// A note in the place of a result; `None` where the result itself is no longer than that.
fn note(message: &Sent, answer: &ToolAnswer, size: Tokens, measure: Measure<'_>) -> Option<Piece> {
    let unit = match measure.method {
        BoundMethod::Bytes => "bytes",
        BoundMethod::Tokens => "tokens",
    };
    if answer.content.len() <= REPLACEMENT_BYTES_MAX && answer.content.starts_with(NOTE) {
        return None;
    }
    let note = message.stand_in(size, unit, || with_content(answer, format!("{NOTE}{size} {unit}]")));
    let note = Piece { size: measure.message(&note), message: note };
    (note.size < size).then_some(note)
}

/// As much of a result as fits into `allowed`, which is at least what its note takes; `None` where all of it stays.
fn shortened(
    message: &Sent,
    answer: &ToolAnswer,
    size: Tokens,
    allowed: Tokens,
    measure: Measure<'_>,
) -> Option<Piece> {
    if answer.content.len() > KEPT_BYTES_MIN {
        let empty = measure.message(&with_content(answer, String::new())).plus(Tokens(NOTE_BYTES_MAX));
        let share = allowed.left_after(empty).0.saturating_mul(u64::try_from(answer.content.len()).unwrap_or(u64::MAX));
        let mut keep = usize::try_from(share / size.0.max(1)).unwrap_or(usize::MAX);
        for _ in 0..SHRINKS_MAX {
            if keep < KEPT_BYTES_MIN || keep >= answer.content.len() {
                break;
            }
            let message = with_content(answer, without_middle(&answer.content, keep));
            let size = measure.message(&message);
            if size <= allowed {
                return Some(Piece { message, size });
            }
            keep = keep / 4 * 3;
        }
    }
    note(message, answer, size, measure)
}
