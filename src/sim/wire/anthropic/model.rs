//! What the simulated Anthropic knows of its models, by its own reading of the provider's pages.
//!
//! A second reading on purpose: nothing here is shared with the runtime's own tables.

/// The generation of a model by its name, as major × 10 + minor: 47 for `claude-opus-4-7`. What has none is a new one.
pub(super) fn generation(model: &str) -> u32 {
    let name = model.split('@').next().unwrap_or_default();
    let mut numbers = name.split('-').filter(|part| part.len() <= 2).filter_map(|part| part.parse::<u32>().ok());
    numbers.next().map_or(u32::MAX, |major| major * 10 + numbers.next().unwrap_or(0).min(9))
}

/// Models whose thinking can't be turned off, and which can't be made to call a tool.
pub(super) fn always_thinks(model: &str) -> bool {
    ["claude-opus-5-5", "claude-sonnet-5-5", "claude-fable-5-1", "claude-mythos-5-1"].contains(&model)
}

/// Tokens of the prompt that comes with tools, unforced and forced.
pub(super) fn tool_prompt(model: &str, forced: bool) -> u64 {
    let (free, forcing) = match (model.contains("opus"), model.contains("sonnet"), generation(model)) {
        (true, _, 48) => (290, 410),
        (true, _, 47) => (675, 804),
        (true, _, 46) | (_, true, 46) => (497, 589),
        (_, _, 45) => (496, 588),
        (_, true, 50) => (354, 474),
        // Not published: the harshest that is known.
        (_, _, _) => (675, 804),
    };
    if forced { forcing } else { free }
}

/// True where the model can be served in a place of one's choice, which has a price.
pub(super) fn has_places(model: &str) -> bool {
    generation(model) >= 46
}

/// True where there is a fast mode.
pub(super) fn has_fast_mode(model: &str) -> bool {
    model.contains("opus") && [48, 50, 55].contains(&generation(model))
}
