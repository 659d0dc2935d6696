//! The most tokens that one file counts, by the model that sees it, as data.
//!
//! Images count by pixels, and every family here scales a large one down: what it counts then is a bound for any image,
//! so that nobody has to believe what a file says of its size. Wires pin the resolution that the bound is for (`detail` on
//! OpenAI's, `mediaResolution` on Google's). Where sources differ the larger figure stands.
//! Deliberately absent: documents. Their text comes on top of their pages, packed, so that neither bytes nor pages bound it;
//! who knows the documents says so by `document_tokens` under `[[models]]`.

use crate::domain::ability::Stated;
use crate::domain::message::Media;
use crate::ids::ModelName;
use crate::units::Tokens;

/// Tokens around one image that some servers add: its number, marks of its begin and end.
const IMAGE_FRAME: u64 = 32;

/// An image by the model's name, without the frame.
///
/// `OpenAI`, at `detail: "high"` (PROVIDERS §13): tiles are a base and at most 8 of them, since an image is scaled into
/// 2,048 × 768; patches are at most 2,500, or 6,144, each counted as more than one token. gpt-5-mini and gpt-5-nano: the
/// documented factors 1.62 and 2.46, of which measurements of 2026-03 saw 1.2 and 1.5.
/// Claude (PROVIDERS §13): patches of 28 × 28, scaled to 1,568 of them, or 4,784, before both sides are rounded up, with at
/// most 56, or 92, on the longer side: 1,568 + 56 + 28 + 1.
/// Gemini 3 (ai.google.dev, media resolution, read 2026-11-30): 1,120 at `HIGH`; Gemini 2.5: 256 at `MEDIUM`, while at
/// `HIGH` the number of crops has no bound.
const IMAGES: [(&[&str], u64); 13] = [
    (&["gpt-4o", "gpt-4.1", "gpt-5", "gpt-5.1", "o1", "o3"], 1_536),
    (&["gpt-4o-mini"], 2_833 + 8 * 5_667),
    (&["gpt-4.1-mini"], 9_954),
    (&["gpt-5-mini", "gpt-5.4-mini"], 4_050),
    (&["gpt-5-nano", "gpt-5.4-nano"], 6_150),
    (&["gpt-5.2", "gpt-5.3-codex"], 7_373),
    (&["gpt-5.4", "gpt-5.4-pro", "gpt-5.5", "gpt-5.5-pro"], 3_000),
    (&["gpt-5.6", "gpt-5.6-sol", "gpt-5.6-terra", "gpt-5.6-luna"], 3_000),
    (&["gpt-6-astra", "gpt-6-sol", "gpt-6-luna", "gpt-6.1-sol", "gpt-6.1-terra"], 3_000),
    (&["claude-opus-4-5", "claude-opus-4-6", "claude-sonnet-4-5", "claude-sonnet-4-6", "claude-haiku-4-5"], 1_653),
    (
        &[
            "claude-opus-4-7",
            "claude-opus-4-8",
            "claude-opus-5",
            "claude-opus-5-5",
            "claude-sonnet-5",
            "claude-sonnet-5-5",
            "claude-haiku-5-5",
            "claude-fable-5",
            "claude-fable-5-1",
            "claude-mythos-5-1",
        ],
        4_929,
    ),
    (&["gemini-2.5-pro", "gemini-2.5-flash", "gemini-2.5-flash-lite"], 258),
    (
        &[
            "gemini-3-flash-preview",
            "gemini-3.1-pro-preview",
            "gemini-3.1-flash-lite",
            "gemini-3.5-flash",
            "gemini-3.5-flash-lite",
            "gemini-3.6-flash",
            "gemini-3.7-flash",
            "gemini-3.8-flash",
        ],
        1_120,
    ),
];

/// The most tokens that a file of this kind counts for a model: the project's word, else the family's. `None` where nobody
/// says.
#[must_use]
pub fn tokens_max(model: &ModelName, media: Media, stated: Option<&Stated>) -> Option<Tokens> {
    let said = |of: fn(&Stated) -> Option<Tokens>| stated.and_then(of);
    match media {
        Media::Png | Media::Jpeg | Media::Gif | Media::Webp => {
            said(|stated| stated.image_tokens).or_else(|| of_family(model))
        }
        Media::Pdf => said(|stated| stated.document_tokens),
    }
}

fn of_family(model: &ModelName) -> Option<Tokens> {
    let (_, tokens) = IMAGES.iter().find(|(families, _)| families.iter().any(|family| model.is_of(family)))?;
    Some(Tokens(tokens + IMAGE_FRAME))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::pricing::PriceBook;

    fn image(model: &str) -> Option<u64> {
        tokens_max(&model.into(), Media::Png, None).map(|tokens| tokens.0)
    }

    #[test]
    fn a_family_counts_for_whoever_serves_it_and_for_no_other_model() {
        assert_eq!(image("openai/gpt-5-mini"), Some(4_082));
        assert_eq!(image("openai/gpt-5-mini-2025-08-07"), Some(4_082));
        assert_eq!(image("vertex/claude-haiku-4-5@20251001"), Some(1_685));
        assert_eq!(image("openrouter/google/gemini-3.8-flash"), Some(1_152));
        for other in
            ["openai/gpt-5-huge", "openai/gpt-6", "groq/openai/gpt-oss-20b", "local/claude-2", "google/gemini-4-argon"]
        {
            assert_eq!(image(other), None, "{other}");
        }
    }

    #[test]
    fn the_projects_word_stands_over_the_families_and_is_all_there_is_for_documents() {
        let stated = Stated { image_tokens: Some(Tokens(7)), document_tokens: Some(Tokens(9)), ..Stated::default() };
        let model = ModelName::from("openai/gpt-5-mini");
        assert_eq!(tokens_max(&model, Media::Webp, Some(&stated)), Some(Tokens(7)));
        assert_eq!(tokens_max(&model, Media::Pdf, Some(&stated)), Some(Tokens(9)));
        assert_eq!(tokens_max(&model, Media::Pdf, None), None);
    }

    #[test]
    fn families_are_models_of_the_book() {
        let rows: Vec<_> = PriceBook::builtin().rows().collect();
        for family in IMAGES.iter().flat_map(|(families, _)| *families).filter(|family| **family != "o1") {
            assert!(rows.iter().any(|row| row.model.is_of(family)), "{family}");
        }
    }
}
