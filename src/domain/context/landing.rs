//! The request of a run's last answer inside its landing reserve (LEDGER rules 6 and 11).
//!
//! No tools go out with it, so the conversation is told in words, inside the one user message: some servers refuse tool
//! calls without tool definitions, and some refuse two user messages in a row.

use std::collections::BTreeMap;

use crate::domain::context::{DocumentPiece, Draft, Fitted, Measure, Sizer, without_middle};
use crate::domain::event::{BoundMethod, Cut, Pot};
use crate::domain::limits::{Declared, LimitKind, Refusal};
use crate::domain::message::{Message, Pots, Sent};
use crate::units::Tokens;

/// What a landing asks for.
pub const LANDING_ASK: &str = "This run has met one of its limits: no more tools can be called. Give the best answer that you \
    can from what is above, in the form that was asked for, and say plainly what is missing or not certain.";
const BEFORE_FINDINGS: &str = "\n\nWhat you did so far:\n";
const BETWEEN: &str = "\n\n";
/// Bytes that telling one message in words adds to it.
const WORDS_BYTES_MAX: u64 = 64;
/// The newest part that doesn't fit is cut in its middle where at least this much of it can stay.
const KEPT_BYTES_MIN: u64 = 200;
/// Bytes that the note in a shortened part can take.
const NOTE_BYTES_MAX: u64 = 48;

/// How long a landing's request may be.
#[derive(Clone, Debug)]
pub struct LandingRoom {
    /// The limit `landing_tokens`, or what the reserve pays for if that is less.
    pub tokens: Tokens,
    /// Where the limit was declared.
    pub declared: Declared,
}

/// The request for the last answer: instructions and input whole, then the newest of the conversation that fits. Files of the
/// input go with it where all of them fit, else their names.
///
/// The sizer's fixed part must be that of a request without tools.
///
/// # Errors
/// A refusal of [`LimitKind::LandingTokens`]: instructions and input alone don't fit.
pub fn landing(draft: &Draft<'_>, room: &LandingRoom, sizer: &dyn Sizer) -> Result<Fitted, Box<Refusal>> {
    let without = Draft { files: &[], ..*draft };
    let (told_by_name, draft) = match files_fit(draft, room, sizer) {
        true => (&[][..], draft),
        false => (draft.files, &without),
    };
    let mut parts = parts(draft);
    parts.splice(0..0, told_by_name.iter().map(named));
    let mut fitted = told_within(draft, &parts, room, sizer)?;
    let measure = Measure { sizer, method: fitted.method };
    fitted.cuts.splice(0..0, told_by_name.iter().map(|file| left_out(file, measure)));
    Ok(fitted)
}

fn told_within(
    draft: &Draft<'_>,
    parts: &[Part],
    room: &LandingRoom,
    sizer: &dyn Sizer,
) -> Result<Fitted, Box<Refusal>> {
    let by_bytes = Telling { draft, parts, measure: Measure { sizer, method: BoundMethod::Bytes } };
    if by_bytes.size(0) <= room.tokens {
        return Ok(by_bytes.told(0, None));
    }
    let best = match sizer.fixed_tokens() {
        None => by_bytes,
        Some(_) => Telling { measure: Measure { sizer, method: BoundMethod::Tokens }, ..by_bytes },
    };
    let base = best.size(parts.len());
    if base > room.tokens { Err(refuse(room, &best, base)) } else { Ok(best.newest_within(room.tokens)) }
}

/// An upper bound of what [`landing`] would make of this draft, without making it; `None` where it would refuse. At most the
/// room: what the landing reserve is reckoned from. By tokens it is tighter, where the sizer knows them.
#[must_use]
pub fn landing_bound(draft: &Draft<'_>, room: &LandingRoom, method: BoundMethod, sizer: &dyn Sizer) -> Option<Tokens> {
    let words = Tokens(WORDS_BYTES_MAX);
    let bound = |method| {
        let measure = Measure { sizer, method };
        let base = Telling { draft: &Draft { files: &[], ..*draft }, parts: &[], measure }.size(0);
        let told = draft.files.iter().chain(draft.earlier).chain(draft.summary).chain(draft.turns);
        let mut sizes = told.map(|message| measure.message(message).plus(words));
        // Above the room the sum doesn't matter, however long the conversation is.
        let least = base.plus(words).plus(documents_bound(draft, measure));
        let add = |sum: Tokens, size| if sum < room.tokens { Ok(sum.plus(size)) } else { Err(sum) };
        let sum = sizes.try_fold(least, add).unwrap_or_else(|above| above);
        (base <= room.tokens).then(|| sum.min(room.tokens))
    };
    if method == BoundMethod::Bytes
        && let Some(by_bytes) = bound(method)
    {
        return Some(by_bytes);
    }
    match sizer.fixed_tokens() {
        Some(_) => bound(BoundMethod::Tokens),
        None => bound(BoundMethod::Bytes),
    }
}

/// True where instructions and input fit with all files of the input.
fn files_fit(draft: &Draft<'_>, room: &LandingRoom, sizer: &dyn Sizer) -> bool {
    let fit = |method| Telling { draft, parts: &[], measure: Measure { sizer, method } }.size(0) <= room.tokens;
    let by_tokens = || sizer.fixed_tokens().is_some() && fit(BoundMethod::Tokens);
    draft.files.is_empty() || fit(BoundMethod::Bytes) || by_tokens()
}

fn name_of(file: &Message) -> &str {
    if let Message::File(file) = file { file.name() } else { "" }
}

/// A file of the input that isn't sent again, in words.
fn named(file: &Sent) -> Part {
    let text = format!("You were given the file {}, which isn't shown again", name_of(file));
    Part { text, pot: Pot::Instructions, what: format!("the name of {}", name_of(file)) }
}

fn left_out(file: &Sent, measure: Measure<'_>) -> Cut {
    Cut { pot: Pot::Instructions, what: format!("file {}", name_of(file)), tokens: measure.message(file) }
}

fn refuse(room: &LandingRoom, telling: &Telling<'_>, needed: Tokens) -> Box<Refusal> {
    Box::new(Refusal {
        limit: LimitKind::LandingTokens,
        subject: None,
        value: format!("{} tokens", room.tokens),
        observed: format!("instructions and input alone need {}", telling.measure.shown(needed)),
        declared: room.declared.clone(),
    })
}

/// An upper bound of what telling the documents adds: they are what is left out first.
fn documents_bound(draft: &Draft<'_>, measure: Measure<'_>) -> Tokens {
    let Some(attached) = draft.documents else { return Tokens::ZERO };
    let names =
        |piece: &DocumentPiece| u64::try_from(piece.name.len()).unwrap_or(u64::MAX).saturating_add(WORDS_BYTES_MAX);
    let names = attached.documents.pieces.iter().map(names).fold(0, u64::saturating_add);
    measure.message(attached.message).plus(Tokens(names))
}

/// One message, or one call with its answer, in words.
pub(super) struct Part {
    pub(super) text: String,
    pot: Pot,
    what: String,
}

/// A landing's request that is being put together.
#[derive(Clone, Copy)]
struct Telling<'a> {
    draft: &'a Draft<'a>,
    parts: &'a [Part],
    measure: Measure<'a>,
}

impl Telling<'_> {
    /// The newest parts that fit, and of the next one as much as does.
    fn newest_within(&self, room: Tokens) -> Fitted {
        let size = |part: &Part| self.measure.message(&said(part.text.clone()));
        let mut left = room.left_after(self.size(self.parts.len())).left_after(Tokens(WORDS_BYTES_MAX));
        let mut from = self.parts.len();
        while let Some(part) = from.checked_sub(1).map(|at| &self.parts[at]) {
            let size = size(part);
            if size > left {
                break;
            }
            left = left.left_after(size);
            from -= 1;
        }
        let shorter = from.checked_sub(1).and_then(|at| shortened(&self.parts[at].text, left));
        self.checked(from, shorter, room)
    }

    /// The request, with the oldest parts dropped while the whole is larger than its parts promised.
    fn checked(&self, mut from: usize, shorter: Option<String>, room: Tokens) -> Fitted {
        let told = self.told(from, shorter.as_deref());
        if told.pots.total() <= room {
            return told;
        }
        while from < self.parts.len() && self.size(from) > room {
            from += 1;
        }
        self.told(from, None)
    }

    fn size(&self, from: usize) -> Tokens {
        let messages = self.messages(from, None);
        messages.iter().map(|message| self.measure.message(message)).sum::<Tokens>().plus(self.measure.fixed())
    }

    /// The request with the parts from `from` on, and before them `shorter`, what is left of the one before.
    fn told(&self, from: usize, shorter: Option<&str>) -> Fitted {
        let messages = self.messages(from, shorter);
        let total =
            messages.iter().map(|message| self.measure.message(message)).sum::<Tokens>().plus(self.measure.fixed());
        let instructions = self.size(self.parts.len()).min(total);
        let pots = Pots { instructions, history: total.left_after(instructions), ..Pots::default() };
        Fitted { messages, pots, cuts: self.cuts(from, shorter), method: self.measure.method }
    }

    fn messages(&self, from: usize, shorter: Option<&str>) -> Vec<Sent> {
        let told: Vec<&str> =
            shorter.into_iter().chain(self.parts[from..].iter().map(|part| part.text.as_str())).collect();
        let findings = if told.is_empty() { String::new() } else { format!("{BEFORE_FINDINGS}{}", told.join(BETWEEN)) };
        let user = format!("{}{findings}{BETWEEN}{LANDING_ASK}", self.draft.user.text());
        let before = self.draft.system.into_iter().chain(self.draft.files);
        before.cloned().chain([said(user)]).collect()
    }

    fn cuts(&self, from: usize, shorter: Option<&str>) -> Vec<Cut> {
        let kept = |at: usize| if at + 1 == from { shorter.unwrap_or_default() } else { "" };
        let size = |text: &str| self.measure.message(&said(text.to_owned()));
        let cut = |(at, part): (usize, &Part)| {
            let tokens = size(&part.text).left_after(size(kept(at)));
            Cut { pot: part.pot, what: part.what.clone(), tokens }
        };
        self.parts[..from].iter().enumerate().map(cut).collect()
    }
}

fn said(text: String) -> Sent {
    Sent::from(Message::User { text })
}

/// As much of a part as surely fits: by bytes, which are never fewer than tokens.
fn shortened(text: &str, left: Tokens) -> Option<String> {
    let keep = left.0.checked_sub(NOTE_BYTES_MAX + WORDS_BYTES_MAX).filter(|keep| *keep >= KEPT_BYTES_MIN)?;
    let keep = usize::try_from(keep).ok().filter(|keep| *keep < text.len())?;
    Some(without_middle(text, keep))
}

fn earlier(message: &Sent) -> Part {
    let text = match &**message {
        Message::Assistant(said) => format!("In an earlier run you answered: {}", said.text),
        Message::File(file) => format!("In an earlier run you were given the file {}", file.name()),
        Message::System { .. } | Message::User { .. } | Message::Tool(_) => {
            format!("In an earlier run you were asked: {}", message.text())
        }
    };
    Part { text, pot: Pot::History, what: "a run of the thread".to_owned() }
}

fn document(piece: &DocumentPiece) -> Part {
    let text = format!("Document {} says: {}", piece.name, piece.text);
    Part { text, pot: Pot::Documents, what: format!("{} (piece {})", piece.name, piece.number) }
}

/// The documents and the conversation in words, oldest first. A call is told with its answer; one without an answer isn't told.
pub(super) fn parts(draft: &Draft<'_>) -> Vec<Part> {
    let mut arguments: BTreeMap<&str, &str> = BTreeMap::new();
    let documents = draft.documents.iter().flat_map(|attached| &attached.documents.pieces);
    let mut parts: Vec<Part> = documents.map(document).collect();
    parts.extend(draft.earlier.iter().map(earlier));
    parts.extend(draft.summary.map(|summary| Part {
        text: summary.text().to_owned(),
        pot: Pot::History,
        what: "the summary of earlier turns".to_owned(),
    }));
    for message in draft.turns {
        match &**message {
            Message::System { text } | Message::User { text } => {
                parts.push(Part {
                    text: format!("You were told: {text}"),
                    pot: Pot::History,
                    what: "a message".to_owned(),
                });
            }
            Message::File(file) => {
                let text = format!("You were given the file {}", file.name());
                parts.push(Part { text, pot: Pot::Documents, what: file.name().to_owned() });
            }
            Message::Assistant(assistant) => {
                arguments.extend(assistant.calls.iter().map(|call| (call.id.as_str(), call.arguments.as_str())));
                let text = assistant.refusal.as_deref().unwrap_or(&assistant.text);
                if !text.is_empty() {
                    parts.push(Part {
                        text: format!("You said: {text}"),
                        pot: Pot::History,
                        what: "a turn".to_owned(),
                    });
                }
            }
            Message::Tool(answer) => {
                let with = arguments.get(answer.call_id.as_str()).copied().unwrap_or("{}");
                let text = format!("You called {} with {with}, which gave: {}", answer.name, answer.content);
                parts.push(Part { text, pot: Pot::ToolOutput, what: format!("result of {}", answer.name) });
            }
        }
    }
    parts
}
