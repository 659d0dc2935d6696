//! Environment variables that tool files name, and how their values stay out of what tools say.
//!
//! Deliberately absent: every variable that isn't listed.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::output::Open;

/// Values shorter than this are no secrets (`eu`, `true`, `UTC`), and taking them out would garble texts.
pub const SECRET_BYTES_MIN: usize = 6;
/// The shortest piece of a cut secret that is taken out.
const PIECE_BYTES_MIN: usize = 3;

/// Reads environment variables by name.
#[derive(Clone)]
pub struct Variables(Arc<Read>);

type Read = dyn Fn(&str) -> Option<String> + Send + Sync;

impl Variables {
    /// Our own environment. A variable that isn't Unicode counts as unset.
    #[must_use]
    pub fn system() -> Self {
        Self(Arc::new(|name| std::env::var(name).ok()))
    }

    /// These and no others.
    #[must_use]
    pub fn fixed(values: BTreeMap<String, String>) -> Self {
        Self(Arc::new(move |name| values.get(name).cloned()))
    }

    /// The value of one variable.
    #[must_use]
    pub fn read(&self, name: &str) -> Option<String> {
        (self.0)(name)
    }

    /// The values of those names that are set.
    pub(super) fn listed(&self, names: &[String]) -> Listed {
        Listed(names.iter().filter_map(|name| Some((name.clone(), self.read(name)?))).collect())
    }
}

impl fmt::Debug for Variables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Variables(…)")
    }
}

/// The variables that one tool may see. Never printed.
#[derive(Clone)]
pub(super) struct Listed(BTreeMap<String, String>);

impl Listed {
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// For templates: `env`.
    pub(super) fn json(&self) -> serde_json::Value {
        self.iter().map(|(name, value)| (name.to_owned(), serde_json::Value::from(value))).collect()
    }

    /// Also takes out what was made of a secret, such as a header's whole value.
    pub(super) fn and(mut self, name: &str, value: &str) -> Self {
        self.0.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Replaces every value that may be a secret by its name; where the text is cut off, also a piece of one there.
    pub(super) fn redact(&self, mut text: String, open: Open) -> String {
        let mut secrets: Vec<_> = self.iter().filter(|(_, value)| value.len() >= SECRET_BYTES_MIN).collect();
        secrets.sort_by_key(|(_, value)| std::cmp::Reverse(value.len()));
        for (name, value) in secrets {
            if text.contains(value) {
                text = text.replace(value, &format!("[{name} redacted]"));
            }
            match open {
                Open::Nowhere => {}
                Open::End => trim_end(&mut text, value),
                Open::Start => trim_start(&mut text, value),
            }
        }
        text
    }
}

/// Takes the start of a secret off the end of a text.
fn trim_end(text: &mut String, secret: &str) {
    let pieces = (PIECE_BYTES_MIN..secret.len()).rev().filter_map(|length| secret.get(..length));
    if let Some(piece) = pieces.into_iter().find(|piece| text.ends_with(*piece)) {
        text.truncate(text.len() - piece.len());
    }
}

/// Takes the end of a secret off the start of a text.
fn trim_start(text: &mut String, secret: &str) {
    let pieces = (1..=secret.len().saturating_sub(PIECE_BYTES_MIN)).filter_map(|from| secret.get(from..));
    if let Some(piece) = pieces.into_iter().find(|piece| text.starts_with(*piece)) {
        text.drain(..piece.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed() -> Listed {
        let values = [("KEY", "sk-12345678"), ("LONGER", "sk-12345678-and-more"), ("REGION", "eu")];
        let values = values.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let names = ["KEY", "LONGER", "REGION", "MISSING"].map(str::to_owned);
        Variables::fixed(values.into()).listed(&names)
    }

    #[test]
    fn secrets_are_replaced_by_their_names() {
        let text = "a sk-12345678 b sk-12345678-and-more c eu".to_owned();
        assert_eq!(listed().redact(text, Open::Nowhere), "a [KEY redacted] b [LONGER redacted] c eu");
    }

    #[test]
    fn pieces_of_secrets_at_a_cut_are_taken_out() {
        assert_eq!(listed().redact("token: sk-1234".to_owned(), Open::End), "token: ");
        assert_eq!(listed().redact("45678, then".to_owned(), Open::Start), ", then");
        assert_eq!(listed().redact("nothing here".to_owned(), Open::End), "nothing here");
    }

    #[test]
    fn only_listed_variables_are_seen_and_none_is_printed() {
        let variables = Variables::fixed([("KEY".to_owned(), "sk-12345678".to_owned())].into());
        assert_eq!(variables.listed(&["OTHER".to_owned()]).iter().count(), 0);
        assert!(!format!("{variables:?}").contains("sk-"));
    }
}
