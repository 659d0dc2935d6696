//! Cuts what doesn't fit: whole old turns for the history, the middle of tool results, then the results themselves.

use crate::domain::context::Fitted;
use crate::domain::context::{Measure, Measured, Piece, Room, starts_turn, without_middle};
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
pub(super) fn trim(mut measured: Measured<'_>, room: &Room) -> Result<Fitted, String> {
    let pieces = std::mem::take(&mut measured.pieces);
    let mut turns = Turns::of(pieces, measured.measure);
    let left = room.total.0.checked_sub(measured.instructions.0).map(Tokens);
    let last = turns.last_needs();
    let needed = last.history.plus(last.notes);
    let Some(left) = left.filter(|left| needed <= *left) else {
        let alone = measured.instructions.plus(needed);
        return Err(format!("instructions and the last turn alone need {}", measured.shown(alone)));
    };
    let (needs, mut cuts) = turns.drop_oldest(last, left, room);
    let tool_room = left.left_after(needs.history).min(room.tool_output.max(last.notes));
    cuts.extend(turns.shorten_results(tool_room.left_after(needs.notes)));
    measured.pieces = turns.turns.into_iter().flat_map(|turn| turn.pieces).collect();
    Ok(measured.with_cuts(cuts))
}

/// A turn.
struct Turn {
    pieces: Vec<Piece>,
    history: Tokens,
    results: Tokens,
}

struct Turns<'a> {
    turns: Vec<Turn>,
    measure: Measure<'a>,
    /// Tool results before the first turn that is left.
    results_before: usize,
}

/// What some turns need at least: their history, and a note for each of their results.
#[derive(Clone, Copy, Default)]
struct Needs {
    history: Tokens,
    notes: Tokens,
}

impl Needs {
    fn plus(self, other: Self) -> Self {
        Self { history: self.history.plus(other.history), notes: self.notes.plus(other.notes) }
    }
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
        let turns = groups.into_iter().map(Turn::of).collect();
        Self { turns, measure, results_before: 0 }
    }

    /// The least that the last turn can be brought down to.
    fn last_needs(&self) -> Needs {
        self.turns.last().map(|turn| turn.needs(self.measure)).unwrap_or_default()
    }

    /// Drops the oldest turns until what stays fits: the history its pot, beside what the last turn's results want of
    /// theirs, and a note for each older result theirs. Looks back from the newest, so that turns long gone cost nothing.
    fn drop_oldest(&mut self, last: Needs, left: Tokens, room: &Room) -> (Needs, Vec<Cut>) {
        let Some(newest) = self.turns.last() else { return (last, Vec::new()) };
        let last_results = newest.results.min(room.tool_output.max(last.notes)).min(left.left_after(last.history));
        let history_room = room.history.max(last.history).min(left.left_after(last_results));
        let fits = |needs: Needs| {
            let notes_room = left.left_after(needs.history).min(room.tool_output.max(last.notes));
            needs.history <= history_room && needs.notes <= notes_room
        };
        let (mut kept, mut needs) = (self.turns.len() - 1, last);
        while let Some(older) = kept.checked_sub(1).and_then(|at| self.turns.get(at)) {
            let more = needs.plus(older.needs(self.measure));
            if !fits(more) {
                break;
            }
            (kept, needs) = (kept - 1, more);
        }
        let gone: Vec<Turn> = self.turns.drain(..kept).collect();
        self.results_before = gone.iter().map(Turn::result_count).sum();
        (needs, gone_cut(&gone, self.results_before).into_iter().collect())
    }

    /// Brings the tool results into their pot: newest whole, the first that doesn't fit without its middle, older as notes.
    /// Beside a note for each there is `spare` left.
    fn shorten_results(&mut self, mut spare: Tokens) -> Vec<Cut> {
        let mut number = self.results_before + self.turns.iter().map(Turn::result_count).sum::<usize>();
        let mut full = false;
        let mut cuts = Vec::new();
        let measure = self.measure;
        for piece in self.turns.iter_mut().rev().flat_map(|turn| turn.pieces.iter_mut().rev()) {
            let Message::Tool(answer) = &*piece.message else { continue };
            let least = least(answer, piece.size, measure);
            let extra = piece.size.left_after(least);
            if extra <= spare && !full {
                spare = spare.left_after(extra);
            } else {
                let allowed = if full { least } else { least.plus(spare) };
                if let Some(shorter) = shortened(answer, piece.size, allowed, measure) {
                    cuts.extend(result_cut(answer, number, piece.size, shorter.size));
                    *piece = shorter;
                }
                full = true;
            }
            number -= 1;
        }
        cuts.reverse();
        cuts
    }
}

impl Turn {
    fn of(pieces: Vec<Piece>) -> Self {
        let sum = |tool_answers| {
            pieces.iter().filter(|piece| piece.is_tool_answer() == tool_answers).map(|piece| piece.size).sum()
        };
        Self { history: sum(false), results: sum(true), pieces }
    }

    fn needs(&self, measure: Measure<'_>) -> Needs {
        let least = |piece: &Piece| match &*piece.message {
            Message::Tool(answer) => least(answer, piece.size, measure),
            Message::System { .. } | Message::User { .. } | Message::Assistant(_) => Tokens::ZERO,
        };
        Needs { history: self.history, notes: self.pieces.iter().map(least).sum() }
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

fn with_content(answer: &ToolAnswer, content: String) -> Sent {
    Sent::from(ToolAnswer {
        call_id: answer.call_id.clone(),
        name: answer.name.clone(),
        content,
        is_error: answer.is_error,
    })
}

/// The least that a result can be brought down to.
fn least(answer: &ToolAnswer, size: Tokens, measure: Measure<'_>) -> Tokens {
    note(answer, size, measure).map_or(size, |note| note.size)
}

/// A note in the place of a result; `None` where the result itself is no longer than that.
fn note(answer: &ToolAnswer, size: Tokens, measure: Measure<'_>) -> Option<Piece> {
    let unit = match measure.method {
        BoundMethod::Bytes => "bytes",
        BoundMethod::Tokens => "tokens",
    };
    if answer.content.len() <= REPLACEMENT_BYTES_MAX && answer.content.starts_with(NOTE) {
        return None;
    }
    let message = with_content(answer, format!("{NOTE}{size} {unit}]"));
    let note = Piece { size: measure.message(&message), message };
    (note.size < size).then_some(note)
}

/// As much of a result as fits into `allowed`, which is at least what its note takes; `None` where all of it stays.
fn shortened(answer: &ToolAnswer, size: Tokens, allowed: Tokens, measure: Measure<'_>) -> Option<Piece> {
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
    note(answer, size, measure)
}
