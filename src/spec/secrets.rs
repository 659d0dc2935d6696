//! Keeps what may be a secret out of the excerpts that faults show.
//!
//! A file should hold none: keys come from the environment or from a program. Who writes one into a file by mistake
//! shall not find it in a log as well.

use std::ops::Range;

/// Words in a key's name that make its text a likely secret.
const SECRET_WORDS: [&str; 7] = ["key", "secret", "password", "passwd", "token", "authorization", "cookie"];
/// Keys whose names have such a word, and whose texts are shown.
const SHOWN_KEYS: [&str; 7] =
    ["key_env", "key_command", "key_file", "key_lifetime", "tokens", "secret_env", "secret_file"];
/// How tokens of well-known services begin.
const PREFIXES: [&str; 8] = ["sk-", "sk_", "ghp_", "gho_", "github_pat_", "xox", "AIza", "Bearer "];
/// A shorter text is none of a secret's length.
const SECRET_BYTES_MIN: usize = 8;

/// The places of a text that may hold a secret.
pub(crate) fn find(text: &str) -> Vec<Range<usize>> {
    let mut places = Vec::new();
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        places.extend(in_line(line).into_iter().map(|place| start + place.start..start + place.end));
        start += line.len();
    }
    places
}

fn in_line(line: &str) -> Vec<Range<usize>> {
    let mut places: Vec<Range<usize>> =
        line.match_indices("://").filter_map(|(at, _)| credentials(line, at + 3)).collect();
    PREFIXES.iter().for_each(|prefix| places.append(&mut beginning_with(line, prefix)));
    if let Some((key, value)) = line.split_once('=') {
        let key = key.to_lowercase();
        let secret = SECRET_WORDS.iter().any(|word| key.contains(word));
        if secret && !SHOWN_KEYS.iter().any(|shown| key.contains(shown)) {
            places.extend(quoted(value).into_iter().map(|at| at.start + key_end(line)..at.end + key_end(line)));
        }
    }
    places
}

/// The words of a line that begin so, none inside another.
fn beginning_with(line: &str, prefix: &str) -> Vec<Range<usize>> {
    let (mut places, mut from) = (Vec::new(), 0);
    while let Some(at) = line[from..].find(prefix).map(|at| from + at) {
        let begun = at + prefix.len();
        from = begun + word(&line[begun..]);
        places.push(at..from);
    }
    places
}

/// The first byte after the `=` of a line.
fn key_end(line: &str) -> usize {
    line.find('=').map_or(0, |at| at + 1)
}

/// `user:password` before an `@`, up to the end of the address's authority.
fn credentials(line: &str, from: usize) -> Option<Range<usize>> {
    let authority = line[from..].split(['/', '"', '\'', ' ']).next()?;
    authority.rfind('@').map(|at| from..from + at)
}

/// The length of what comes before the next white space or quote.
fn word(text: &str) -> usize {
    text.find(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | ',')).unwrap_or(text.len())
}

/// The quoted texts of a line that are as long as secrets are, and no templates.
fn quoted(text: &str) -> Vec<Range<usize>> {
    let (mut places, mut from) = (Vec::new(), 0);
    while let Some(open) = text[from..].find(['"', '\'']).map(|at| from + at) {
        let quote = &text[open..=open];
        let end = text[open + 1..].find(quote).map_or(text.trim_end().len().max(open + 1), |at| open + 1 + at);
        let inner = &text[open + 1..end];
        if inner.len() >= SECRET_BYTES_MIN && !inner.contains("{{") {
            places.push(open + 1..end);
        }
        from = (end + 1).min(text.len());
    }
    places
}

/// The text with some places starred out, byte for byte, so that every span stays true.
pub(crate) fn hide(text: &str, places: &[Range<usize>]) -> String {
    let mut hidden = vec![false; text.len()];
    for place in places {
        hidden.iter_mut().take(place.end).skip(place.start).for_each(|is| *is = true);
    }
    let star = |(at, c): (usize, char)| {
        if hidden[at] && c != '\n' { "*".repeat(c.len_utf8()) } else { c.to_string() }
    };
    text.char_indices().map(star).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(line: &str) -> String {
        hide(line, &find(line))
    }

    #[test]
    fn what_looks_like_a_secret_is_starred_out() {
        assert_eq!(shown("url = \"https://u:pass@host/x\""), "url = \"https://******@host/x\"");
        assert_eq!(shown("a = \"sk-abc\" # x"), "a = \"******\" # x");
        assert_eq!(shown("api_key = \"0123456789\""), "api_key = \"**********\"");
        assert_eq!(shown("Authorization = 'Basic Zm9v"), "Authorization = '**********");
        assert_eq!(shown("é\napi_key = 'ééééé'"), "é\napi_key = '**********'");
    }

    #[test]
    fn the_rest_is_shown() {
        for line in [
            "key_env = \"OPENAI_API_KEY\"",
            "secret_env = \"ALERT_SECRET\"",
            "max_output_tokens = \"eight hundred\"",
            "Authorization = \"{{ env.TOKEN }}\"",
            "url = \"https://host/a@b\"",
            "properties.token = { type = \"string\" }",
        ] {
            assert_eq!(shown(line), line);
        }
    }
}
