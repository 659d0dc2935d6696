//! How much a model is asked to think: a level from Gemini 3 on, a budget in tokens before (PROVIDERS §5).
//!
//! Thoughts are billed as output and count towards `maxOutputTokens`: so it is in reported runs (python-genai #2062), and
//! nobody has said it of 3.8. A bill above its reservation would be booked in full, and freeze the price row.

use serde_json::{Value, json};

use crate::domain::message::Request;
use crate::provider::ProviderError;

/// The first generation that takes a level.
const LEVELS_SINCE: u32 = 3;
/// The least that 2.5 Pro thinks: it can't be turned off.
const PRO_BUDGET_MIN: u32 = 128;

/// True of the models of `generation` and later; false of names that say none.
pub(super) fn is_since(model: &str, generation: u32) -> bool {
    let name = model.rsplit('/').next().unwrap_or(model);
    let number = name.strip_prefix("gemini-").and_then(|rest| rest.split(['.', '-']).next());
    number.and_then(|number| number.parse().ok()).is_some_and(|number: u32| number >= generation)
}

/// True of models that sign their calls, and refuse calls of others without a signature.
pub(super) fn signs_calls(model: &str) -> bool {
    is_since(model, LEVELS_SINCE)
}

/// `thinkingConfig` of a request that asks for reasoning.
///
/// # Errors
/// A word that is neither an effort nor a number of tokens.
pub(super) fn config(request: &Request) -> Result<Option<Value>, ProviderError> {
    let Some(effort) = request.sampling.reasoning.as_deref() else { return Ok(None) };
    let model = request.model.model();
    let config = if let Ok(budget) = effort.parse::<u32>() {
        Some(json!({"thinkingBudget": budget.min(request.max_output_tokens)}))
    } else if signs_calls(model) {
        level(effort).map(|level| json!({"thinkingLevel": level}))
    } else {
        budget(effort, model).map(|budget| json!({"thinkingBudget": budget.min(request.max_output_tokens)}))
    };
    let refused = || ProviderError::Reasoning { model: request.model.clone(), effort: effort.to_owned() };
    config.map(Some).ok_or_else(refused)
}

/// From Gemini 3 on thinking can't be turned off: `none` is the least of it.
fn level(effort: &str) -> Option<&'static str> {
    match effort {
        "none" | "minimal" => Some("MINIMAL"),
        "low" => Some("LOW"),
        "medium" => Some("MEDIUM"),
        "high" => Some("HIGH"),
        "xhigh" | "max" => Some("XHIGH"),
        _ => None,
    }
}

/// Budgets within the ranges of all models of 2.5.
fn budget(effort: &str, model: &str) -> Option<u32> {
    match effort {
        "none" => Some(if model.contains("pro") { PRO_BUDGET_MIN } else { 0 }),
        "minimal" => Some(512),
        "low" => Some(1_024),
        "medium" => Some(4_096),
        "high" => Some(16_384),
        "xhigh" | "max" => Some(24_576),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generations_are_told_by_name() {
        for model in ["gemini-3-flash-preview", "gemini-3.8-flash", "gemini-4-argon", "models/gemini-10-x"] {
            assert!(signs_calls(model), "{model}");
        }
        for model in ["gemini-2.5-pro", "gemini-flash-latest", "gemma-3-27b", "gemini-", "gpt-5"] {
            assert!(!signs_calls(model), "{model}");
        }
    }
}
