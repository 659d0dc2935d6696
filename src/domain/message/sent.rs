//! A message as it goes out, with what was found out about it: measured, encoded and hashed once, however often it is sent.

use std::borrow::Cow;
use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, OnceLock};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

use super::{Form, Message, ToolAnswer};
use crate::ids::ModelName;
use crate::units::Tokens;

/// Encodings whose counts are kept.
const ENCODINGS: usize = 2;
/// Bytes of a message's digest.
pub(crate) const DIGEST_BYTES: usize = 16;

/// A message of a conversation. A clone is the same message: a step of a long run shares all that was said before.
#[derive(Clone)]
pub struct Sent(Arc<Known>);

/// The message, and what is known of it. Each figure is asked for with the one function that gives it.
struct Known {
    message: Message,
    bytes: OnceLock<Tokens>,
    tokens: [OnceLock<Tokens>; ENCODINGS],
    /// One for each form: a fallback to another wire finds its own.
    fragments: [OnceLock<Box<str>>; Form::COUNT],
    digest: OnceLock<[u8; DIGEST_BYTES]>,
    /// What is sent in its place where it is cut, with the size that this tells of.
    stand_in: OnceLock<(Tokens, &'static str, Sent)>,
}

impl Sent {
    /// Its size in bytes, measured once.
    pub(crate) fn bytes(&self, measure: impl FnOnce(&Message) -> Tokens) -> Tokens {
        *self.0.bytes.get_or_init(|| measure(&self.0.message))
    }

    /// Its size in tokens of an encoding, by the encoding's number, counted once.
    pub(crate) fn tokens(&self, encoding: usize, count: impl FnOnce(&Message) -> Tokens) -> Tokens {
        match self.0.tokens.get(encoding) {
            Some(known) => *known.get_or_init(|| count(&self.0.message)),
            None => count(&self.0.message),
        }
    }

    /// True where its tokens of an encoding are known.
    pub(crate) fn is_counted(&self, encoding: usize) -> bool {
        self.0.tokens.get(encoding).is_some_and(|known| known.get().is_some())
    }

    /// What stands for it in the body of a request of a form to a model, encoded once for each form: as it goes to the model
    /// that said it, or to any where it holds nothing that only one understands. For others it is encoded each time.
    pub(crate) fn fragment(
        &self,
        form: Form,
        model: &ModelName,
        encode: impl FnOnce(&Message) -> Box<str>,
    ) -> Cow<'_, str> {
        let message = &self.0.message;
        let said_by = if let Message::Assistant(said) = message { said.said_by(form) } else { None };
        if said_by.is_some_and(|other| other != model) {
            return Cow::Owned(encode(message).into_string());
        }
        Cow::Borrowed(self.0.fragments[form.number()].get_or_init(|| encode(message)))
    }

    /// What is sent in its place once it is cut: a note that tells its size, made once.
    pub(crate) fn stand_in(&self, size: Tokens, unit: &'static str, make: impl Fn() -> Self) -> Self {
        let (told, of, note) = self.0.stand_in.get_or_init(|| (size, unit, make()));
        if (*told, *of) == (size, unit) { note.clone() } else { make() }
    }

    /// Names it: the first half of the SHA-256 of its JSON.
    #[must_use]
    pub fn digest(&self) -> [u8; DIGEST_BYTES] {
        *self.0.digest.get_or_init(|| {
            let mut hasher = Sha256::new();
            serde_json::to_writer(&mut hasher, &self.0.message).expect("messages are plain JSON");
            let mut digest = [0; DIGEST_BYTES];
            digest.copy_from_slice(&hasher.finalize()[..DIGEST_BYTES]);
            digest
        })
    }

    /// The text of what a user or the agent's author says; empty for other messages.
    #[must_use]
    pub fn text(&self) -> &str {
        match &self.0.message {
            Message::System { text } | Message::User { text } => text,
            Message::File(_) | Message::Assistant(_) | Message::Tool(_) => "",
        }
    }
}

impl From<Message> for Sent {
    fn from(message: Message) -> Self {
        Self(Arc::new(Known {
            message,
            bytes: OnceLock::new(),
            tokens: [const { OnceLock::new() }; ENCODINGS],
            fragments: [const { OnceLock::new() }; Form::COUNT],
            digest: OnceLock::new(),
            stand_in: OnceLock::new(),
        }))
    }
}

impl From<ToolAnswer> for Sent {
    fn from(answer: ToolAnswer) -> Self {
        Self::from(Message::Tool(answer))
    }
}

impl Deref for Sent {
    type Target = Message;

    fn deref(&self) -> &Message {
        &self.0.message
    }
}

impl PartialEq for Sent {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0.message == other.0.message
    }
}

impl fmt::Debug for Sent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.message.fmt(f)
    }
}

impl Serialize for Sent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.message.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Sent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Message::deserialize(deserializer).map(Self::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::message::{Assistant, Opaque};

    #[test]
    fn each_figure_is_found_once_and_shared_by_clones() {
        let sent = Sent::from(Message::User { text: "Where is my order?".into() });
        let other = sent.clone();
        assert_eq!(sent.bytes(|_| Tokens(7)), other.bytes(|_| unreachable!("measured before")));
        assert_eq!(sent.tokens(1, |_| Tokens(3)), other.tokens(1, |_| unreachable!("counted before")));
        assert_eq!(sent.tokens(0, |_| Tokens(4)), Tokens(4), "each encoding counts for itself");
        assert_eq!(sent.digest(), Sent::from(Message::User { text: "Where is my order?".into() }).digest());
        assert_ne!(sent.digest(), Sent::from(Message::System { text: "Where is my order?".into() }).digest());
    }

    /// A wire that only tests speak: what it is sent names the blocks that it is given back.
    fn toy(form: Form, model: &str, message: &Message) -> Box<str> {
        let Message::Assistant(said) = message else { return format!("{form:?} plain").into() };
        let model = ModelName::from(model);
        let blocks: Vec<String> = said.returned_to(form, &model).map(|opaque| opaque.block.to_string()).collect();
        format!("{form:?} {}", blocks.join(" ")).into()
    }

    #[test]
    fn each_form_keeps_a_fragment_of_its_own() {
        let sent = Sent::from(Message::User { text: "Where is my order?".into() });
        let first = "openai/gpt-5-mini";
        let fragment =
            |form, model: &str| sent.fragment(form, &model.into(), |message| toy(form, model, message)).into_owned();
        assert_eq!(fragment(Form::OpenAiChat, first), "OpenAiChat plain");
        assert_eq!(fragment(Form::Anthropic, "anthropic/claude"), "Anthropic plain", "not the other wire's");
        for (form, model) in [(Form::OpenAiChat, "other/model"), (Form::Anthropic, "anthropic/claude")] {
            let again = sent.clone();
            let kept = again.fragment(form, &model.into(), |_| unreachable!("encoded before"));
            assert!(matches!(kept, Cow::Borrowed(_)), "{form:?}");
        }
    }

    #[test]
    fn blocks_go_back_to_the_model_that_said_them_and_to_no_other() {
        let (own, other) = ("anthropic/claude-opus-5-5", "vertex_anthropic/claude-opus-5-5");
        let thought = Opaque {
            form: Form::Anthropic,
            model: Some(own.into()),
            call: None,
            block: serde_json::json!({"signature": "x"}),
        };
        let kept = Opaque::kept(serde_json::json!({"text": "hm"}));
        let sent = Sent::from(Message::Assistant(Assistant { reasoning: vec![kept, thought], ..Assistant::default() }));
        let fragment =
            |form, model: &str| sent.fragment(form, &model.into(), |message| toy(form, model, message)).into_owned();
        // In whatever order the models are asked.
        for _ in 0..2 {
            assert_eq!(fragment(Form::Anthropic, other), "Anthropic ");
            assert_eq!(fragment(Form::Anthropic, own), r#"Anthropic {"signature":"x"}"#);
            assert_eq!(fragment(Form::OpenAiChat, own), "OpenAiChat ");
        }
        let again = sent.fragment(Form::Anthropic, &own.into(), |_| unreachable!("encoded before"));
        assert!(matches!(again, Cow::Borrowed(_)));
    }
}
