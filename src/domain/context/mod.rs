//! Fits a conversation into its pots; says what was cut, and why.
//!
//! Rules: instructions (system text, the input, tool definitions) are never cut. Tool results share one pot: the newest stay
//! whole, older ones lose their middle or are replaced by a note; every call keeps an answer, which the wires demand. Turns
//! beyond the history's pot go oldest first, each with its tool answers. The last turn always stays.
//! Sizes are taken in bytes where everything fits so, which costs nothing, else in tokens where the encoding is known.
//! Documents go out with the input, the best of them that fit their pot.
//! Deliberately absent: tokenizers (sizes come in through [`Sizer`]), and files.

mod documents;
mod landing;
mod rank;
mod summary;
mod trim;

use crate::domain::event::{BoundMethod, Cut, InputBound, Pot};
use crate::domain::limits::{Declared, LimitKind, Refusal};
use crate::domain::message::{Message, Pots, Sent};
use crate::domain::plan::{ContextPlan, Overflow};
use crate::units::Tokens;

pub use documents::{Documents, LeftOut, Piece as DocumentPiece};
pub use landing::{LANDING_ASK, LandingRoom, landing, landing_bound};
pub use rank::{Document, PIECE_BYTES_MAX};
pub use summary::{SUMMARY_ASK, Split, in_place, request as summary_request, split};

/// Upper bounds of tokens. Both ways of measuring hold at once; tokens are never more than bytes.
pub trait Sizer {
    /// A message's bytes and frames.
    fn message_bytes(&self, message: &Sent) -> Tokens;
    /// A message by the model's encoding; `None` where that isn't known.
    fn message_tokens(&self, message: &Sent) -> Option<Tokens>;
    /// What goes out beside the messages (tool definitions, output schema), by bytes.
    fn fixed_bytes(&self) -> Tokens;
    /// The same by the model's encoding.
    fn fixed_tokens(&self) -> Option<Tokens>;
}

/// A request before it is fitted.
#[derive(Clone, Copy, Debug)]
pub struct Draft<'a> {
    /// The rendered system text, if there is one.
    pub system: Option<&'a Sent>,
    /// What was said in the thread before: for each run the user's text and the answer.
    pub earlier: &'a [Sent],
    /// The rendered user text: the input.
    pub user: &'a Sent,
    /// Files that go out before it: part of the input, so never cut.
    pub files: &'a [Sent],
    /// What goes with the input, if the run has documents.
    pub documents: Option<Attached<'a>>,
    /// What stands for the turns that aren't sent any more.
    pub summary: Option<&'a Sent>,
    /// The conversation since then, oldest first: assistant turns, each followed by the answers to its calls.
    pub turns: &'a [Sent],
}

/// Documents, and the user's message with all of them at its head.
#[derive(Clone, Copy, Debug)]
pub struct Attached<'a> {
    /// The documents.
    pub documents: &'a Documents,
    /// The message.
    pub message: &'a Sent,
}

/// What the model takes.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// Its longest input, where known. Some sources give the whole window here, so the output is taken off it too.
    pub tokens: Option<Tokens>,
    /// The output cap of the request.
    pub max_output: u32,
}

/// A request that fits.
#[derive(Clone, Debug, PartialEq)]
pub struct Fitted {
    /// The messages, system text first.
    pub messages: Vec<Sent>,
    /// Its size by pot; what goes out beside the messages is part of the instructions.
    pub pots: Pots,
    /// What was cut.
    pub cuts: Vec<Cut>,
    /// How it was measured.
    pub method: BoundMethod,
}

impl Fitted {
    /// The upper bound of the request's input.
    #[must_use]
    pub fn bound(&self) -> InputBound {
        InputBound { tokens: self.pots.total(), method: self.method }
    }
}

/// Fits a conversation into its pots and the model's window.
///
/// The last turn stays even where it alone is larger than the history's pot, and so does a note for each of its results:
/// they take from what the other pots leave.
///
/// # Errors
/// A refusal of [`LimitKind::Context`]: something would have to be cut and `overflow = "refuse"`, or the instructions and
/// the last turn alone are too long.
pub fn fit(draft: &Draft<'_>, plan: &ContextPlan, window: Window, sizer: &dyn Sizer) -> Result<Fitted, Box<Refusal>> {
    let room = Room::of(plan, window);
    let by_bytes = Measured::of(draft, Measure { sizer, method: BoundMethod::Bytes });
    if by_bytes.fits(&room) {
        return Ok(by_bytes.whole());
    }
    let measured = match sizer.fixed_tokens() {
        None => by_bytes,
        Some(_) => Measured::of(draft, Measure { sizer, method: BoundMethod::Tokens }),
    };
    match plan.overflow {
        _ if measured.fits(&room) => Ok(measured.whole()),
        Overflow::Refuse => {
            Err(room.refuse(plan, &format!("the request needs {}", measured.shown(measured.pots.total()))))
        }
        Overflow::Trim | Overflow::Summarise => {
            let needed = trim::last_needs(draft.turns, measured.measure);
            let measured = measured.with_fewer_documents(draft, &room, needed).with_fewer_earlier(&room);
            if measured.fits(&room) {
                return Ok(measured.whole());
            }
            trim::trim(measured, &room).map_err(|needed| room.refuse(plan, &needed))
        }
    }
}

/// A conversation that fits by bytes, measured in tokens instead: its bound is tighter. `None` where the encoding isn't known.
pub fn tightened(draft: &Draft<'_>, sizer: &dyn Sizer) -> Option<Fitted> {
    sizer.fixed_tokens()?;
    Some(Measured::of(draft, Measure { sizer, method: BoundMethod::Tokens }).whole())
}

/// The pots' sizes for one request.
struct Room {
    total: Tokens,
    history: Tokens,
    documents: Tokens,
    tool_output: Tokens,
    window: Option<Tokens>,
}

impl Room {
    fn of(plan: &ContextPlan, window: Window) -> Self {
        let output = Tokens(u64::from(window.max_output));
        let left = window.tokens.map(|tokens| tokens.left_after(output)).filter(|left| *left < plan.tokens);
        Self {
            total: left.unwrap_or(plan.tokens),
            history: plan.history,
            documents: plan.documents,
            tool_output: plan.tool_output,
            window: left,
        }
    }

    fn refuse(&self, plan: &ContextPlan, observed: &str) -> Box<Refusal> {
        let declared = if self.window.is_some() { Declared::Default } else { plan.declared.clone() };
        Box::new(Refusal {
            limit: LimitKind::Context,
            subject: self.window.map(|_| "the model's window, less the output".to_owned()),
            value: format!("{} tokens", self.total),
            observed: observed.to_owned(),
            declared,
        })
    }
}

/// A request whose provider counts it for at least so many tokens: its bound is no lower.
///
/// # Errors
/// A refusal of [`LimitKind::Context`]: that is more than the request may have.
pub fn raised(mut fitted: Fitted, least: Tokens, plan: &ContextPlan, window: Window) -> Result<Fitted, Box<Refusal>> {
    let room = Room::of(plan, window);
    let more = least.left_after(fitted.pots.total());
    if more == Tokens::ZERO {
        return Ok(fitted);
    }
    if least > room.total {
        return Err(
            room.refuse(plan, &format!("the provider counts the request for {least} tokens, a margin included"))
        );
    }
    fitted.pots.instructions = fitted.pots.instructions.plus(more);
    Ok(fitted)
}

/// One way of measuring.
#[derive(Clone, Copy)]
struct Measure<'a> {
    sizer: &'a dyn Sizer,
    method: BoundMethod,
}

impl Measure<'_> {
    fn message(self, message: &Sent) -> Tokens {
        let by_bytes = || self.sizer.message_bytes(message);
        match self.method {
            BoundMethod::Bytes => by_bytes(),
            BoundMethod::Tokens => self.sizer.message_tokens(message).unwrap_or_else(by_bytes),
        }
    }

    fn fixed(self) -> Tokens {
        let by_bytes = || self.sizer.fixed_bytes();
        match self.method {
            BoundMethod::Bytes => by_bytes(),
            BoundMethod::Tokens => self.sizer.fixed_tokens().unwrap_or_else(by_bytes),
        }
    }

    /// `12 tokens`, or `up to 12 tokens` where only bytes are known.
    fn shown(self, size: Tokens) -> String {
        match self.method {
            BoundMethod::Bytes => format!("up to {size} tokens (one for each byte)"),
            BoundMethod::Tokens => format!("{size} tokens"),
        }
    }
}

/// A message of the conversation with its size.
struct Piece {
    message: Sent,
    size: Tokens,
}

/// A draft with the size of each part.
struct Measured<'a> {
    measure: Measure<'a>,
    system: Option<&'a Sent>,
    files: &'a [Sent],
    /// The input, behind its documents.
    user: Sent,
    earlier: &'a [Sent],
    summary: Option<&'a Sent>,
    turns: &'a [Sent],
    pots: Pots,
    /// Documents and earlier runs that are left out.
    left_out: Vec<Cut>,
}

impl<'a> Measured<'a> {
    fn of(draft: &Draft<'a>, measure: Measure<'a>) -> Self {
        let user = draft.documents.map_or(draft.user, |attached| attached.message);
        let size = |message: &Sent| measure.message(message);
        let bare = draft.system.into_iter().chain(draft.files).chain([draft.user]).map(size).sum::<Tokens>();
        let documents = size(user).left_after(size(draft.user));
        let mut pots = Pots { instructions: bare.plus(measure.fixed()), documents, ..Pots::default() };
        pots.history = draft.summary.map(size).unwrap_or_default();
        pots.history = pots.history.plus(draft.earlier.iter().map(size).sum());
        for message in draft.turns {
            let pot = if is_tool_answer(message) { &mut pots.tool_output } else { &mut pots.history };
            *pot = pot.plus(measure.message(message));
        }
        let left_out = draft.documents.and_then(|attached| attached.documents.cut()).into_iter().collect();
        let Draft { system, earlier, files, summary, turns, .. } = *draft;
        Self { measure, system, files, user: user.clone(), earlier, summary, turns, pots, left_out }
    }

    /// Without the oldest runs of the thread, as long as the history is longer than its pot.
    fn with_fewer_earlier(mut self, room: &Room) -> Self {
        let (mut gone, mut tokens) = (0, Tokens::ZERO);
        while !self.earlier.is_empty() && (self.pots.history > room.history || self.pots.total() > room.total) {
            let is_user = |message: &Sent| matches!(**message, Message::User { .. });
            let next = self.earlier.iter().skip(1).position(is_user).map_or(self.earlier.len(), |at| at + 1);
            let (oldest, rest) = self.earlier.split_at(next);
            let size: Tokens = oldest.iter().map(|message| self.measure.message(message)).sum();
            (gone, tokens) = (gone + 1, tokens.plus(size));
            self.pots.history = self.pots.history.left_after(size);
            self.earlier = rest;
        }
        if gone > 0 {
            let what = format!("the oldest {gone} runs of the thread");
            self.left_out.push(Cut { pot: Pot::History, what, tokens });
        }
        self
    }

    /// All that comes before the turns.
    fn opening(&self) -> Vec<Sent> {
        let before = self.system.into_iter().chain(self.earlier).chain(self.files);
        before.chain([&self.user]).chain(self.summary).cloned().collect()
    }

    /// With the best documents that fit their pot, and what is left beside the instructions and `needed`.
    fn with_fewer_documents(mut self, draft: &Draft<'_>, room: &Room, needed: Tokens) -> Self {
        let Some(attached) = draft.documents else { return self };
        let left = room.total.left_after(self.pots.instructions).left_after(needed).min(room.documents);
        if self.pots.documents <= left {
            return self;
        }
        let kept = attached.documents.within(draft.user, left, self.measure);
        self.left_out = kept.cut().into_iter().collect();
        self.pots.documents = kept.size(draft.user, self.measure);
        self.user = if kept.pieces.is_empty() { draft.user.clone() } else { kept.before(draft.user) };
        self
    }

    fn fits(&self, room: &Room) -> bool {
        self.pots.total() <= room.total
            && self.pots.tool_output <= room.tool_output
            && self.pots.documents <= room.documents
            && (self.pots.history <= room.history
                || self.earlier.is_empty() && self.turns.iter().filter(|message| starts_turn(message)).nth(1).is_none())
    }

    fn shown(&self, size: Tokens) -> String {
        self.measure.shown(size)
    }

    /// What stays of the history whatever the turns are: what stands for older turns, and the thread.
    fn kept_history(&self) -> Tokens {
        let kept = self.earlier.iter().chain(self.summary);
        kept.map(|message| self.measure.message(message)).sum()
    }

    /// The request as it is, nothing cut but what is cut already.
    fn whole(self) -> Fitted {
        let mut messages = self.opening();
        messages.extend(self.turns.iter().cloned());
        Fitted { messages, pots: self.pots, cuts: self.left_out, method: self.measure.method }
    }

    /// The request with what is left of its turns.
    fn with(self, pieces: Vec<Piece>, cuts: Vec<Cut>) -> Fitted {
        let mut pots = Pots { history: self.kept_history(), tool_output: Tokens::ZERO, ..self.pots };
        for piece in &pieces {
            let pot = if is_tool_answer(&piece.message) { &mut pots.tool_output } else { &mut pots.history };
            *pot = pot.plus(piece.size);
        }
        let mut messages = self.opening();
        messages.extend(pieces.into_iter().map(|piece| piece.message));
        let cuts = self.left_out.into_iter().chain(cuts).collect();
        Fitted { messages, pots, cuts, method: self.measure.method }
    }
}

fn is_tool_answer(message: &Message) -> bool {
    matches!(message, Message::Tool(_))
}

/// True for the message that opens a turn: a turn is what the model said and all that follows until it speaks again.
fn starts_turn(message: &Message) -> bool {
    match message {
        Message::Assistant(_) => true,
        Message::System { .. } | Message::User { .. } | Message::File(_) | Message::Tool(_) => false,
    }
}

/// The largest byte position at most `at` that doesn't split a character.
fn floor_boundary(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// The beginning and the end of a text, `keep` bytes of it at most, with a note of what is left out in between.
fn without_middle(text: &str, keep: usize) -> String {
    let head = floor_boundary(text, keep / 3 * 2);
    let mut tail = text.len().saturating_sub(keep / 3).max(head);
    while !text.is_char_boundary(tail) {
        tail += 1;
    }
    let cut = tail - head;
    format!("{}\n[… {cut} bytes cut …]\n{}", &text[..head], &text[tail..])
}
