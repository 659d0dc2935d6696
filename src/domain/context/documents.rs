//! The documents of a run: chosen when it is made, best first until their pot is full, and kept in its log. Who resumes or
//! replays a run sees the same text, whatever has become of the files since.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::Measure;
use super::rank::{self, Document};
use crate::domain::context::Sizer;
use crate::domain::event::{BoundMethod, Cut, Pot};
use crate::domain::message::{Message, Sent};
use crate::domain::plan::hex;
use crate::units::{Tokens, grouped};

/// Names that a cut tells of.
const NAMES_MAX: usize = 5;

/// What a run has of its documents.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Documents {
    /// What goes with the input, in the order of the documents.
    pub pieces: Vec<Piece>,
    /// Names all documents as they were read: 16 hexadecimal digits of SHA-256.
    pub hash: String,
    /// What the pot had no room for.
    #[serde(default, skip_serializing_if = "LeftOut::is_nothing")]
    pub left_out: LeftOut,
}

/// A piece of a document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Piece {
    /// The document.
    pub name: String,
    /// Which piece of it, from 1.
    pub number: u32,
    /// Its rank among all pieces, from 1.
    pub rank: u32,
    /// The text.
    pub text: String,
}

/// What the pot had no room for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    /// How many pieces.
    pub pieces: u32,
    /// Their bytes.
    pub bytes: u64,
    /// The first of them by rank, such as `docs/a.md (piece 3, rank 9)`.
    pub first: Vec<String>,
}

impl LeftOut {
    fn is_nothing(&self) -> bool {
        self.pieces == 0
    }

    fn add(&mut self, piece: &Piece) {
        self.pieces += 1;
        self.bytes += u64::try_from(piece.text.len()).unwrap_or(u64::MAX);
        if self.first.len() < NAMES_MAX {
            self.first.push(piece.shown());
        }
    }
}

impl Piece {
    fn shown(&self) -> String {
        format!("{} (piece {}, rank {})", self.name, self.number, self.rank)
    }
}

impl Documents {
    /// Ranks the pieces of some documents against the user's text, and takes the best until the pot is full. `None` where
    /// there is no text at all.
    #[must_use]
    pub fn chosen(documents: &[Document], user: &Sent, pot: Tokens, sizer: &dyn Sizer) -> Option<Self> {
        let mut hasher = Sha256::new();
        let mut all: Vec<Piece> = Vec::new();
        for Document { name, text } in documents {
            hasher.update(name.len().to_le_bytes());
            hasher.update(name);
            hasher.update(text.len().to_le_bytes());
            hasher.update(text);
            let texts = rank::pieces(text).into_iter();
            all.extend(texts.zip(1..).map(|(text, number)| Piece {
                name: name.clone(),
                number,
                rank: 0,
                text: text.to_owned(),
            }));
        }
        let texts: Vec<&str> = all.iter().map(|piece| piece.text.as_str()).collect();
        for (index, rank) in rank::rank(user.text(), &texts).into_iter().zip(1..) {
            if let Some(piece) = all.get_mut(index) {
                piece.rank = rank;
            }
        }
        let hash = hex(&hasher.finalize()).chars().take(16).collect();
        let whole = Self { pieces: all, hash, left_out: LeftOut::default() };
        if whole.pieces.is_empty() {
            return None;
        }
        let by_bytes = Measure { sizer, method: BoundMethod::Bytes };
        if whole.size(user, by_bytes) <= pot || sizer.fixed_tokens().is_none() {
            return Some(whole.within(user, pot, by_bytes));
        }
        Some(whole.within(user, pot, Measure { sizer, method: BoundMethod::Tokens }))
    }

    /// The user's message with the documents at its head.
    #[must_use]
    pub fn before(&self, user: &Sent) -> Sent {
        let mut text = String::new();
        let mut open: Option<&Piece> = None;
        for piece in &self.pieces {
            match open {
                Some(last) if last.name == piece.name && last.number + 1 == piece.number => text.push_str("\n\n"),
                Some(last) if last.name == piece.name => text.push_str("\n\n[…]\n\n"),
                last => {
                    text.push_str(if last.is_some() { "\n</document>\n" } else { "" });
                    let name = piece.name.replace(['"', '\n', '<', '>'], "'");
                    writeln!(text, "<document name=\"{name}\">").expect("writing to a string can't fail");
                }
            }
            // A document can't end itself.
            text.push_str(&piece.text.replace("</document>", "< /document>"));
            open = Some(piece);
        }
        text.push_str(if open.is_some() { "\n</document>\n\n" } else { "" });
        text.push_str(user.text());
        Message::User { text }.into()
    }

    /// What they add to the user's message.
    pub(super) fn size(&self, user: &Sent, measure: Measure<'_>) -> Tokens {
        measure.message(&self.before(user)).left_after(measure.message(user))
    }

    /// The best of them that fit.
    pub(super) fn within(&self, user: &Sent, room: Tokens, measure: Measure<'_>) -> Self {
        // Each half of the ranks is tried once: the more pieces, the larger.
        let (mut fits, mut too_many) = (0, self.pieces.len() + 1);
        let mut ranks: Vec<u32> = self.pieces.iter().map(|piece| piece.rank).collect();
        ranks.sort_unstable();
        while too_many - fits > 1 {
            let middle = fits.midpoint(too_many);
            if self.best(&ranks[..middle]).size(user, measure) <= room {
                fits = middle;
            } else {
                too_many = middle;
            }
        }
        self.best(&ranks[..fits])
    }

    fn best(&self, ranks: &[u32]) -> Self {
        let last = ranks.last().copied().unwrap_or_default();
        let (kept, mut gone): (Vec<&Piece>, Vec<&Piece>) = self.pieces.iter().partition(|piece| piece.rank <= last);
        gone.sort_by_key(|piece| piece.rank);
        let mut left_out = LeftOut::default();
        gone.into_iter().for_each(|piece| left_out.add(piece));
        left_out.pieces += self.left_out.pieces;
        left_out.bytes += self.left_out.bytes;
        let more = NAMES_MAX.saturating_sub(left_out.first.len());
        left_out.first.extend(self.left_out.first.iter().take(more).cloned());
        Self { pieces: kept.into_iter().cloned().collect(), hash: self.hash.clone(), left_out }
    }

    /// What was left out, as a cut; its size in bytes, which are never fewer than tokens.
    pub(super) fn cut(&self) -> Option<Cut> {
        let LeftOut { pieces, bytes, first } = &self.left_out;
        if self.left_out.is_nothing() {
            return None;
        }
        let all = usize::try_from(*pieces).unwrap_or(usize::MAX).saturating_add(self.pieces.len());
        let more = usize::try_from(*pieces).unwrap_or(usize::MAX).saturating_sub(first.len());
        let more = if more == 0 {
            String::new()
        } else {
            format!(" and {} more", grouped(u64::try_from(more).unwrap_or(u64::MAX)))
        };
        let what = format!("{pieces} of {all} pieces of documents: {}{more}", first.join(", "));
        Some(Cut { pot: Pot::Documents, what, tokens: Tokens(*bytes) })
    }
}
