//! Blocks that only their provider understands: reasoning, its signatures, what the provider's own tools gave.
//!
//! They are kept with what the model said, and given back unchanged to the model that said them; no other model is sent
//! them. One that takes over goes on from what was seen.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

use crate::ids::ModelName;

/// The family of bodies that a wire speaks. Several wires share one, at other addresses and with other keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Form {
    /// `OpenAI`'s Chat Completions.
    #[serde(rename = "openai-chat")]
    OpenAiChat,
    /// `OpenAI`'s Responses.
    #[serde(rename = "openai-responses")]
    OpenAiResponses,
    /// Anthropic's Messages.
    Anthropic,
    /// Google's `generateContent`.
    Gemini,
}

impl Form {
    /// How many there are.
    pub const COUNT: usize = 4;

    /// Its place among them, from 0.
    #[must_use]
    pub const fn number(self) -> usize {
        match self {
            Self::OpenAiChat => 0,
            Self::OpenAiResponses => 1,
            Self::Anthropic => 2,
            Self::Gemini => 3,
        }
    }
}

/// A block that only its provider understands.
#[derive(Clone, Debug, PartialEq)]
pub struct Opaque {
    /// The form that it has.
    pub form: Form,
    /// The model that said it; `None` for what is kept to be read and never given back.
    pub model: Option<ModelName>,
    /// The call, from 0, that it belongs to or stands before; `None` before the text.
    pub call: Option<u32>,
    /// The block, as it came.
    pub block: Value,
}

impl Opaque {
    /// A block that is kept to be read and never given back, as chat completions have them.
    #[must_use]
    pub const fn kept(block: Value) -> Self {
        Self { form: Form::OpenAiChat, model: None, call: None, block }
    }

    /// True where a request of this form to this model holds it.
    #[must_use]
    pub fn is_for(&self, form: Form, model: &ModelName) -> bool {
        self.form == form && self.model.as_ref() == Some(model)
    }

    fn is_bare(&self) -> bool {
        self.form == Form::OpenAiChat && self.model.is_none() && self.call.is_none()
    }
}

/// How a block with an origin is written; one without is written as it is, as logs of before have them.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Tagged<B> {
    form: Form,
    model: Option<ModelName>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    call: Option<u32>,
    block: B,
}

impl Serialize for Opaque {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.is_bare() {
            return self.block.serialize(serializer);
        }
        let Self { form, model, call, block } = self;
        Tagged { form: *form, model: model.clone(), call: *call, block }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Opaque {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        if !value.as_object().is_some_and(is_tagged) {
            return Ok(Self::kept(value));
        }
        let Tagged { form, model, call, block } = serde_json::from_value(value).map_err(D::Error::custom)?;
        Ok(Self { form, model, call, block })
    }
}

fn is_tagged(fields: &Map<String, Value>) -> bool {
    let known = |field: &String| ["form", "model", "call", "block"].contains(&field.as_str());
    fields.contains_key("form") && fields.contains_key("block") && fields.keys().all(known)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_block_reads_back_as_it_was_with_its_origin() {
        let block = json!({"type": "thinking", "thinking": "hm", "signature": "EqQB/=="});
        let opaque = Opaque {
            form: Form::Anthropic,
            model: Some("anthropic/claude-opus-5-5".into()),
            call: Some(1),
            block: block.clone(),
        };
        let text = serde_json::to_string(&opaque).expect("JSON");
        assert!(
            text.starts_with(r#"{"form":"anthropic","model":"anthropic/claude-opus-5-5","call":1,"block":{"type""#)
        );
        assert_eq!(serde_json::from_str::<Opaque>(&text).expect("it reads"), opaque);
        assert!(opaque.is_for(Form::Anthropic, &"anthropic/claude-opus-5-5".into()));
        assert!(!opaque.is_for(Form::Anthropic, &"vertex_anthropic/claude-opus-5-5".into()));
        assert!(!opaque.is_for(Form::Gemini, &"anthropic/claude-opus-5-5".into()));
    }

    #[test]
    fn a_bare_block_of_before_is_nobodys_and_stays_bare() {
        for block in [
            json!({"type": "reasoning_content", "text": "hm"}),
            json!({"form": "x", "block": 1, "more": 2}),
            json!("x"),
        ] {
            let read: Opaque = serde_json::from_value(block.clone()).expect("it reads");
            assert_eq!(read, Opaque::kept(block.clone()));
            assert_eq!(serde_json::to_value(&read).expect("JSON"), block);
            assert!(!read.is_for(Form::OpenAiChat, &"openai/gpt-5-mini".into()));
        }
    }

    #[test]
    fn every_form_has_a_place_of_its_own() {
        let forms = [Form::OpenAiChat, Form::OpenAiResponses, Form::Anthropic, Form::Gemini];
        assert_eq!(forms.map(Form::number), [0, 1, 2, 3]);
        assert_eq!(forms.len(), Form::COUNT);
        let names = serde_json::to_string(&forms).expect("JSON");
        assert_eq!(names, r#"["openai-chat","openai-responses","anthropic","gemini"]"#);
    }
}
