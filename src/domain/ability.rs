//! What models can do, as data: what the price book's source says, what is known of families, and the project's own word.
//!
//! The project's word stands over the rest, since the book may be old or the server another one. What nobody says is
//! `Unknown`, which refuses nothing: only what is known to fail is refused before it costs.

use serde::{Deserialize, Serialize};

use crate::domain::pricing::{Capability, PriceRow};
use crate::ids::ModelName;
use crate::units::Tokens;

/// Whether a model can do something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Able {
    /// It can.
    Yes,
    /// It can't: a request that asks for it fails.
    No,
    /// Nobody says.
    #[default]
    Unknown,
}

impl Able {
    /// True where it is known that it can't.
    #[must_use]
    pub fn is_no(self) -> bool {
        self == Self::No
    }

    fn said(said: Option<bool>, otherwise: Self) -> Self {
        match said {
            Some(true) => Self::Yes,
            Some(false) => Self::No,
            None => otherwise,
        }
    }
}

/// When a model reasons before it answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reasons {
    /// Never: settings for it fail.
    Never,
    /// Where it is asked to.
    Asked,
    /// Always: it can't be turned off.
    Always,
    /// Nobody says.
    #[default]
    Unknown,
}

/// What one model can do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Abilities {
    /// Call tools.
    pub tools: Able,
    /// Call several at once.
    pub parallel_tools: Able,
    /// Be made to call one.
    pub forced_tools: Able,
    /// Answer in a JSON Schema by the wire's own means.
    pub json_schema: Able,
    /// Reason.
    pub reasoning: Reasons,
    /// See images.
    pub images: Able,
    /// Read documents as files.
    pub documents: Able,
    /// Take a temperature and the like.
    pub sampling: Able,
}

/// What a project says of a model: `[[models]]`. What it leaves out stays as it is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stated {
    /// As [`Abilities::tools`].
    pub tools: Option<bool>,
    /// As [`Abilities::parallel_tools`].
    pub parallel_tools: Option<bool>,
    /// As [`Abilities::forced_tools`].
    pub forced_tools: Option<bool>,
    /// As [`Abilities::json_schema`].
    pub json_schema: Option<bool>,
    /// As [`Abilities::reasoning`].
    pub reasoning: Option<Reasons>,
    /// As [`Abilities::images`].
    pub images: Option<bool>,
    /// As [`Abilities::documents`].
    pub documents: Option<bool>,
    /// As [`Abilities::sampling`].
    pub sampling: Option<bool>,
    /// The most tokens that one image counts.
    pub image_tokens: Option<Tokens>,
    /// The most tokens that one document counts.
    pub document_tokens: Option<Tokens>,
}

impl Abilities {
    /// What a model can do: what the book says of it, then its family, then the project.
    #[must_use]
    pub fn of(model: &ModelName, row: Option<&PriceRow>, stated: Option<&Stated>) -> Self {
        let known = row.map_or_else(Self::default, Self::of_row).with_family(model);
        stated.map_or(known, |stated| known.with_stated(stated))
    }

    /// A source that lists what a model can do leaves out what it can't, but for parallel calls, which it lists for few.
    fn of_row(row: &PriceRow) -> Self {
        let able = |capability| match (row.can(capability), row.capabilities.is_empty()) {
            (true, _) => Able::Yes,
            (false, true) => Able::Unknown,
            (false, false) => Able::No,
        };
        let parallel = row.can(Capability::ParallelTools);
        Self {
            tools: able(Capability::Tools),
            parallel_tools: if parallel { Able::Yes } else { Able::Unknown },
            json_schema: able(Capability::JsonSchema),
            reasoning: match able(Capability::Reasoning) {
                Able::Yes => Reasons::Asked,
                Able::No => Reasons::Never,
                Able::Unknown => Reasons::Unknown,
            },
            images: able(Capability::Vision),
            ..Self::default()
        }
    }

    fn with_family(mut self, model: &ModelName) -> Self {
        let name = model.model().rsplit('/').next().unwrap_or_default();
        let name = name.split('@').next().unwrap_or_default();
        if NO_SAMPLING.contains(&name) {
            self.sampling = Able::No;
        }
        if NO_FORCED_TOOLS.contains(&name) {
            self.forced_tools = Able::No;
        }
        if ALWAYS_REASON.contains(&name) {
            self.reasoning = Reasons::Always;
        }
        self
    }

    fn with_stated(self, stated: &Stated) -> Self {
        Self {
            tools: Able::said(stated.tools, self.tools),
            parallel_tools: Able::said(stated.parallel_tools, self.parallel_tools),
            forced_tools: Able::said(stated.forced_tools, self.forced_tools),
            json_schema: Able::said(stated.json_schema, self.json_schema),
            reasoning: stated.reasoning.unwrap_or(self.reasoning),
            images: Able::said(stated.images, self.images),
            documents: Able::said(stated.documents, self.documents),
            sampling: Able::said(stated.sampling, self.sampling),
        }
    }
}

/// Models that refuse a temperature (PROVIDERS §3, and the flags of the price book's source, read 2026-11-23).
const NO_SAMPLING: [&str; 14] = [
    "claude-fable-5",
    "claude-fable-5-1",
    "claude-haiku-5-5",
    "claude-mythos-5-1",
    "claude-opus-4-7",
    "claude-opus-4-8",
    "claude-opus-5",
    "claude-opus-5-5",
    "claude-sonnet-5",
    "claude-sonnet-5-5",
    "gemini-3.5-flash-lite",
    "gemini-3.6-flash",
    "gemini-3.7-flash",
    "gemini-3.8-flash",
];

/// Models that can't be made to call a tool (the same sources).
const NO_FORCED_TOOLS: [&str; 4] = ["claude-fable-5-1", "claude-mythos-5-1", "claude-opus-5-5", "claude-sonnet-5-5"];

/// Models whose reasoning can't be turned off (the same sources).
const ALWAYS_REASON: [&str; 5] =
    ["claude-fable-5", "claude-fable-5-1", "claude-mythos-5-1", "claude-opus-5-5", "claude-sonnet-5-5"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::pricing::PriceBook;

    fn known(model: &str) -> Abilities {
        let model = ModelName::from(model);
        Abilities::of(&model, PriceBook::builtin().first_of(&model), None)
    }

    #[test]
    fn what_the_book_and_the_family_say_is_known() {
        let opus = known("anthropic/claude-opus-5-5");
        assert_eq!((opus.tools, opus.forced_tools, opus.sampling), (Able::Yes, Able::No, Able::No));
        assert_eq!((opus.reasoning, opus.parallel_tools, opus.images), (Reasons::Always, Able::Unknown, Able::Yes));
        let mini = known("openai/gpt-4o-mini");
        assert_eq!((mini.reasoning, mini.sampling, mini.parallel_tools), (Reasons::Never, Able::Unknown, Able::Yes));
        assert_eq!(known("openai/gpt-5.5-pro").json_schema, Able::No);
        assert_eq!(known("groq/openai/gpt-oss-20b").images, Able::No);
        assert_eq!(known("local/qwen"), Abilities::default());
        assert_eq!(known("local/claude-opus-5-5@20260918").sampling, Able::No, "a family, whoever serves it");
    }

    #[test]
    fn the_projects_word_stands_over_the_rest() {
        let stated = Stated { sampling: Some(true), reasoning: Some(Reasons::Never), ..Stated::default() };
        let model = ModelName::from("anthropic/claude-opus-5-5");
        let told = Abilities::of(&model, PriceBook::builtin().first_of(&model), Some(&stated));
        assert_eq!((told.sampling, told.reasoning, told.forced_tools), (Able::Yes, Reasons::Never, Able::No));
    }

    #[test]
    fn families_are_models_of_the_book() {
        let named =
            |name: &&str| PriceBook::builtin().rows().any(|row| row.model.model().rsplit('/').next() == Some(*name));
        for name in NO_SAMPLING.iter().chain(&NO_FORCED_TOOLS).chain(&ALWAYS_REASON) {
            assert!(named(name), "{name}");
        }
    }
}
