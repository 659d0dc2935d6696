//! Servers that speak OpenAI's chat wire each in their own way, as data: which fields they take, and how they tell costs.
//!
//! A server is known by its host, or by the project's word `flavour` where its host says nothing. Keys of the provider's
//! table stand over both. Whatever a server sends that only some of them do (usage in a field of its own, calls without an
//! index, errors as `detail`) is read from all of them alike, and isn't here.
//! Sources: PROVIDERS §1 and §7, read 2026-11-23, and those named in a row.

use crate::spec::project::{Quirks, ReportedCost, host};

/// A server, or a family of them.
#[derive(Debug)]
pub struct Flavour {
    /// Its word in the file.
    pub name: &'static str,
    /// Its hosts; one that begins with a dot stands for all that end so. None for what runs anywhere.
    hosts: &'static [&'static str],
    /// What it does differently.
    pub quirks: Quirks,
}

const fn compatible(name: &'static str, hosts: &'static [&'static str]) -> Flavour {
    Flavour { name, hosts, quirks: Quirks::COMPATIBLE }
}

const fn reporting(name: &'static str, hosts: &'static [&'static str], cost: ReportedCost) -> Flavour {
    Flavour { name, hosts, quirks: Quirks { reported_cost: Some(cost), ..Quirks::COMPATIBLE } }
}

/// Every server that we know.
pub static FLAVOURS: [Flavour; 13] = [
    Flavour { name: "openai", hosts: &["api.openai.com", ".api.openai.com"], quirks: Quirks::OPENAI },
    // What it charged, in credits, which are dollars; a float that is read as its digits.
    reporting("openrouter", &["openrouter.ai"], ReportedCost::Usd),
    // Whole ticks, 10,000,000,000 of them a dollar.
    reporting("xai", &["api.x.ai"], ReportedCost::UsdTicks),
    compatible("groq", &["api.groq.com"]),
    compatible("deepseek", &["api.deepseek.com"]),
    // It refuses fields that it doesn't know, `stream_options` and `max_completion_tokens` among them, and tells usage at the
    // end of a stream unasked (openai/openai-agents-python#442, TabbyML/tabby#4082).
    Flavour {
        name: "mistral",
        hosts: &["api.mistral.ai"],
        quirks: Quirks { stream_usage: false, ..Quirks::COMPATIBLE },
    },
    compatible("together", &["api.together.xyz", "api.together.ai"]),
    compatible("litellm", &[]),
    // These run anywhere. All tell usage in a stream only where it is asked for.
    compatible("vllm", &[]),
    compatible("ollama", &[]),
    compatible("llama-cpp", &[]),
    compatible("lm-studio", &[]),
    compatible("compatible", &[]),
];

/// The words of `flavour`.
pub(crate) const NAMES: [&str; FLAVOURS.len()] = {
    let mut names = [""; FLAVOURS.len()];
    let mut index = 0;
    while index < names.len() {
        names[index] = FLAVOURS[index].name;
        index += 1;
    }
    names
};

/// What a server does differently: by the project's word, else by its host.
#[must_use]
pub(crate) fn quirks(word: Option<&str>, base_url: &str) -> Quirks {
    let host = host(base_url).unwrap_or_default();
    let at_home = |known: &str| if known.starts_with('.') { host.ends_with(known) } else { host == known };
    let found = FLAVOURS.iter().find(|flavour| match word {
        Some(word) => flavour.name == word,
        None => flavour.hosts.iter().any(|known| at_home(known)),
    });
    found.map_or(Quirks::COMPATIBLE, |flavour| flavour.quirks.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::project::OutputCapField;

    #[test]
    fn a_server_is_known_by_its_host_or_by_the_projects_word() {
        let cap = |word, url| quirks(word, url).output_cap_field;
        for url in ["https://api.openai.com/v1", "https://eu.api.openai.com/v1"] {
            assert_eq!(quirks(None, url), Quirks::OPENAI, "{url}");
        }
        for url in ["https://api.openai.com.evil.example/v1", "http://localhost:11434/v1", ""] {
            assert_eq!(quirks(None, url), Quirks::COMPATIBLE, "{url}");
        }
        assert_eq!(cap(Some("openai"), "http://localhost:9/v1"), OutputCapField::MaxCompletionTokens);
        assert_eq!(cap(Some("compatible"), "https://api.openai.com/v1"), OutputCapField::MaxTokens);
        assert!(!quirks(None, "https://api.mistral.ai/v1").stream_usage);
        assert_eq!(quirks(None, "https://openrouter.ai/api/v1").reported_cost, Some(ReportedCost::Usd));
        assert_eq!(quirks(Some("xai"), "http://localhost:9").reported_cost, Some(ReportedCost::UsdTicks));
    }

    #[test]
    fn no_two_flavours_share_a_name_or_a_host() {
        let mut seen = std::collections::BTreeSet::new();
        for flavour in &FLAVOURS {
            assert!(seen.insert(flavour.name), "{}", flavour.name);
            assert!(flavour.hosts.iter().all(|host| seen.insert(host)), "{}", flavour.name);
        }
    }
}
