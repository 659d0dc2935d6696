//! Cuts what doesn't fit: whole old turns for the history, the middle of tool results, then the results themselves.

use crate::domain::context::Fitted;
use crate::domain::context::{Measure, Measured, Piece, Room, starts_turn, without_middle};
use crate::domain::event::{BoundMethod, Cut, Pot};
use crate::domain::message::{Message, ToolAnswer};
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
pub(super) fn trim(mut measured: Measured<'_>, room: &Room) -> Result<Fitted, String> {
    let pieces = std::mem::take(&mut measured.pieces);
    let mut turns = Turns::of(pieces, measured.measure);
    let left = room.total.0.checked_sub(measured.instructions.0).map(Tokens);
    let needed = turns.last_needs();
    let Some(left) = left.filter(|left| needed <= *left) else {
        let alone = measured.instructions.plus(needed);
        return Err(format!("instructions and the last turn alone need {}", measured.shown(alone)));
    };
    let mut cuts = turns.drop_oldest(left, room);
    let tool_room = left.left_after(turns.history()).min(room.tool_output.max(turns.last_notes()));
    cuts.extend(turns.shorten_results(tool_room));
    measured.pieces = turns.turns.into_iter().flat_map(|turn| turn.pieces).collect();
    Ok(measured.with_cuts(cuts))
}

/// A turn, with the least that its tool results can be brought down to.
struct Turn {
    pieces: Vec<Piece>,
    history: Tokens,
    results: Tokens,
    notes: Tokens,
}

struct Turns<'a> {
    turns: Vec<Turn>,
    measure: Measure<'a>,
    /// Tool results before the first turn that is left.
    results_before: usize,
}

impl<'a> Turns<'a> {
    fn of(pieces: Vec<Piece>, measure: Measure<'a>) -> Self {
        let mut groups: Vec<Vec<Piece>> = Vec::new();
        for piece in pieces {
            match groups.last_mut() {
                Some(group) if !starts_turn(&piece.message) => group.push(piece),
                _ => groups.push(vec![piece]),
            }
        }
        let turns = groups.into_iter().map(|pieces| Turn::of(pieces, measure)).collect();
        Self { turns, measure, results_before: 0 }
    }

    fn history(&self) -> Tokens {
        self.turns.iter().map(|turn| turn.history).sum()
    }

    fn notes(&self) -> Tokens {
        self.turns.iter().map(|turn| turn.notes).sum()
    }

    fn last_notes(&self) -> Tokens {
        self.turns.last().map_or(Tokens::ZERO, |turn| turn.notes)
    }

    /// The least that the last turn can be brought down to.
    fn last_needs(&self) -> Tokens {
        self.turns.last().map_or(Tokens::ZERO, |turn| turn.history.plus(turn.notes))
    }

    /// Drops the oldest turns until what stays fits: the history its pot, beside what the last turn's results want of
    /// theirs, and a note for each older result theirs.
    fn drop_oldest(&mut self, left: Tokens, room: &Room) -> Vec<Cut> {
        let Some(last) = self.turns.last() else { return Vec::new() };
        let last_results = last.results.min(room.tool_output.max(last.notes)).min(left.left_after(last.history));
        let history_room = room.history.max(last.history).min(left.left_after(last_results));
        let notes_room = |history: Tokens| left.left_after(history).min(room.tool_output.max(last.notes));
        let fits = |turns: &[Turn]| {
            let history: Tokens = turns.iter().map(|turn| turn.history).sum();
            let notes: Tokens = turns.iter().map(|turn| turn.notes).sum();
            history <= history_room && notes <= notes_room(history)
        };
        let dropped = (0..self.turns.len() - 1).find(|from| fits(&self.turns[*from..])).unwrap_or(self.turns.len() - 1);
        let gone: Vec<Turn> = self.turns.drain(..dropped).collect();
        self.results_before = gone.iter().map(Turn::result_count).sum();
        gone_cut(&gone, self.results_before).into_iter().collect()
    }

    /// Brings the tool results into their pot: newest whole, the first that doesn't fit without its middle, older as notes.
    fn shorten_results(&mut self, room: Tokens) -> Vec<Cut> {
        let mut spare = room.left_after(self.notes());
        let mut number = self.results_before + self.turns.iter().map(Turn::result_count).sum::<usize>();
        let mut full = false;
        let mut cuts = Vec::new();
        let measure = self.measure;
        for piece in self.turns.iter_mut().rev().flat_map(|turn| turn.pieces.iter_mut().rev()) {
            let Message::Tool(answer) = &piece.message else { continue };
            let least = measure.message(&note_or_whole(answer, piece.size, measure));
            let extra = piece.size.left_after(least);
            if extra <= spare && !full {
                spare = spare.left_after(extra);
            } else {
                let allowed = if full { least } else { least.plus(spare) };
                let shorter = shortened(answer, piece.size, allowed, measure);
                cuts.extend(result_cut(answer, number, piece.size, shorter.size));
                *piece = shorter;
                full = true;
            }
            number -= 1;
        }
        cuts.reverse();
        cuts
    }
}

impl Turn {
    fn of(pieces: Vec<Piece>, measure: Measure<'_>) -> Self {
        let sum = |tool_answers| {
            pieces.iter().filter(|piece| piece.is_tool_answer() == tool_answers).map(|piece| piece.size).sum()
        };
        let (history, results) = (sum(false), sum(true));
        let least = |piece: &Piece| match &piece.message {
            Message::Tool(answer) => measure.message(&note_or_whole(answer, piece.size, measure)),
            Message::System { .. } | Message::User { .. } | Message::Assistant(_) => Tokens::ZERO,
        };
        let notes = pieces.iter().map(least).sum();
        Self { pieces, history, results, notes }
    }

    fn result_count(&self) -> usize {
        self.pieces.iter().filter(|piece| piece.is_tool_answer()).count()
    }
}

fn gone_cut(gone: &[Turn], results: usize) -> Option<Cut> {
    let tokens = gone.iter().map(|turn| turn.history.plus(turn.results)).sum();
    let turns = match gone.len() {
        0 => return None,
        1 => "turn 1".to_owned(),
        count => format!("turns 1 to {count}"),
    };
    let what = if results == 0 { turns } else { format!("{turns}, with {results} tool results") };
    Some(Cut { pot: Pot::History, what, tokens })
}

fn result_cut(answer: &ToolAnswer, number: usize, whole: Tokens, kept: Tokens) -> Option<Cut> {
    let tokens = whole.left_after(kept);
    let what = format!("result of {} (call {number})", answer.name);
    (tokens > Tokens::ZERO).then_some(Cut { pot: Pot::ToolOutput, what, tokens })
}

fn with_content(answer: &ToolAnswer, content: String) -> Message {
    Message::Tool(ToolAnswer { content, ..answer.clone() })
}

/// The least that stays of a result: a note in its place, or the result itself where that is no longer.
fn note_or_whole(answer: &ToolAnswer, size: Tokens, measure: Measure<'_>) -> Message {
    let unit = match measure.method {
        BoundMethod::Bytes => "bytes",
        BoundMethod::Tokens => "tokens",
    };
    let is_note = answer.content.len() <= REPLACEMENT_BYTES_MAX && answer.content.starts_with(NOTE);
    let note = with_content(answer, format!("{NOTE}{size} {unit}]"));
    if !is_note && measure.message(&note) < size { note } else { with_content(answer, answer.content.clone()) }
}

/// As much of a result as fits into `allowed`, which is at least what its note takes.
fn shortened(answer: &ToolAnswer, size: Tokens, allowed: Tokens, measure: Measure<'_>) -> Piece {
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
            return Piece { message, size };
        }
        keep = keep / 4 * 3;
    }
    let message = note_or_whole(answer, size, measure);
    Piece { size: measure.message(&message), message }
}
