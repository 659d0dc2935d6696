//! Which of the GenAI conventions' names are told: those since they have a home of their own, those of 1.41, or both.
//!
//! Only what was renamed and is told here stands in the table; all else has the same name in both. Prometheus gets the new
//! names, always.

use crate::spec::project::GenAiNames;

/// Tokens of input that were written to a cache.
pub(super) const CACHE_WRITE: &str = "gen_ai.usage.cache_write.input_tokens";
/// The time of one attempt of a model call.
pub(super) const DURATION: &str = "gen_ai.client.inference.duration";
/// The time to the first piece of a streamed answer.
pub(super) const FIRST_CHUNK: &str = "gen_ai.client.inference.time_to_first_chunk";

/// The time from a piece of a streamed answer to the next.
pub(super) const EACH_CHUNK: &str = "gen_ai.client.inference.time_per_output_chunk";

/// New names, and what they were in 1.41.
const RENAMED: [(&str, &str); 4] = [
    (CACHE_WRITE, "gen_ai.usage.cache_creation.input_tokens"),
    (DURATION, "gen_ai.client.operation.duration"),
    (FIRST_CHUNK, "gen_ai.client.operation.time_to_first_chunk"),
    (EACH_CHUNK, "gen_ai.client.operation.time_per_output_chunk"),
];

/// The names under which something is told.
pub(super) fn told_as(names: GenAiNames, new: &'static str) -> impl Iterator<Item = &'static str> {
    let old = RENAMED.iter().find(|(name, _)| *name == new).map(|(_, old)| *old);
    let both = match names {
        GenAiNames::New => [Some(new), None],
        GenAiNames::V1_41 => [old.or(Some(new)), None],
        GenAiNames::Both => [Some(new), old],
    };
    both.into_iter().flatten()
}

/// Where the names are defined.
pub(super) const fn schema_url(names: GenAiNames) -> &'static str {
    match names {
        GenAiNames::New | GenAiNames::Both => "https://opentelemetry.io/schemas/gen-ai/0.1.0",
        GenAiNames::V1_41 => "https://opentelemetry.io/schemas/1.41.0",
    }
}

/// True where tokens are counted one by one: since the conventions say so.
pub(super) const fn has_counters(names: GenAiNames) -> bool {
    matches!(names, GenAiNames::New | GenAiNames::Both)
}

/// True where tokens are told as the one distribution that 1.41 has.
pub(super) const fn has_token_usage(names: GenAiNames) -> bool {
    matches!(names, GenAiNames::V1_41 | GenAiNames::Both)
}
