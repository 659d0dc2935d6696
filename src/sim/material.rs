//! What the built-in agent knows: the user's words, and the facts that tools have given.
//!
//! Plain searching in bounded text; no language is understood here, and none need be.

use std::collections::BTreeMap;

use regex::{Regex, RegexBuilder};
use serde_json::Value;

use crate::sim::cache::Cache;
use crate::sim::chat::{Chat, Role};
use crate::sim::count::boundary;

/// The most text of the conversation that is searched.
const TEXT_BYTES_MAX: usize = 64 * 1024;
/// The most facts taken from one tool result, and the longest of them.
const FACTS_MAX: usize = 8;
const FACT_BYTES_MAX: usize = 240;
/// How deep a tool result is searched for facts.
const FACT_DEPTH_MAX: usize = 4;
/// The most tool results that an answer mentions.
const RESULTS_MAX: usize = 8;
/// The largest program that a schema's pattern may compile to.
const PATTERN_BYTES_MAX: usize = 256 * 1024;
/// What names of files end with, where no folder tells that they are files.
const FILE_ENDINGS: [&str; 16] = [
    "md", "txt", "csv", "tsv", "json", "toml", "yaml", "yml", "xml", "html", "htm", "pdf", "log", "rst", "ini", "conf",
];
/// Words that say little about what a text is about.
const COMMON: &str = " about after again also been before being could does doing from have having hello here into just \
    know like make more most much need only order other over please same should since some still such tell than thank \
    thanks that their them then there these they this those until very want wants were what when where which while \
    will with would your yours answer ticket customer message help using user write reply dear regards ";

/// The material that arguments and answers are made of.
#[derive(Clone, Debug, Default)]
pub(crate) struct Material {
    /// The user's words, and behind them what tools gave.
    pub(crate) text: String,
    /// Where the tools' words begin in `text`.
    user_bytes: usize,
    pub(crate) results: Vec<ToolResult>,
}

/// What one tool gave.
#[derive(Clone, Debug)]
pub(crate) struct ToolResult {
    pub(crate) tool: String,
    /// Its facts in a few words.
    pub(crate) sentence: String,
    /// True where the tool told of an error.
    pub(crate) failed: bool,
    /// Single values by their key.
    pub(crate) fields: BTreeMap<String, Value>,
}

impl Material {
    /// Gathers the material of a conversation.
    pub(crate) fn gather(chat: &Chat<'_>) -> Self {
        let mut material = Self::default();
        for message in chat.messages.iter().filter(|message| message.role == Role::User) {
            material.add(&without_letterhead(&message.text));
        }
        material.user_bytes = material.text.len();
        for message in &chat.messages {
            let Some(id) = &message.call_id else { continue };
            material.add(&message.text);
            if material.results.len() < RESULTS_MAX {
                let calls = chat.messages.iter().flat_map(|message| &message.calls);
                let name = calls.into_iter().find(|call| call.id == *id).map_or("the tool", |call| call.name);
                material.results.push(ToolResult::read(name, &message.text));
            }
        }
        material
    }

    fn add(&mut self, text: &str) {
        let room = TEXT_BYTES_MAX.saturating_sub(self.text.len());
        self.text.push_str(&text[..boundary(text, room)]);
        self.text.push('\n');
    }

    /// The user's words alone.
    pub(crate) fn user(&self) -> &str {
        &self.text[..self.user_bytes]
    }

    /// The words that say what the user's text is about, in their order.
    pub(crate) fn salient(&self, words_max: usize) -> Vec<&str> {
        let mut seen: Vec<String> = Vec::new();
        let mut words = Vec::new();
        for word in self.user().split(|c: char| !c.is_alphanumeric()) {
            let lower = word.to_lowercase();
            let telling = word.chars().count() >= 4 && !COMMON.contains(&format!(" {lower} "));
            if telling && !seen.contains(&lower) {
                seen.push(lower);
                words.push(word);
            }
            if words.len() == words_max {
                break;
            }
        }
        words
    }

    /// True where `word` occurs in the user's text as words of its own, whatever its case and separators.
    pub(crate) fn mentions(&self, word: &str) -> bool {
        let plain = |text: &str| {
            let words: Vec<_> = text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).collect();
            format!(" {} ", words.join(" ").to_lowercase())
        };
        let sought = plain(word);
        sought.trim() != "" && plain(self.user()).contains(&sought)
    }

    /// The first text that fits a schema's pattern and stands alone.
    pub(crate) fn find(&self, pattern: &str) -> Option<&str> {
        let inner = pattern.strip_prefix('^').unwrap_or(pattern);
        let inner = inner.strip_suffix('$').unwrap_or(inner);
        let sought = compile(inner)?;
        let whole = compile(pattern)?;
        sought
            .find_iter(&self.text)
            .filter(|found| !found.is_empty() && self.stands_alone(found.start(), found.end()))
            .map(|found| found.as_str())
            .find(|found| whole.is_match(found))
    }

    /// A file's path: one that a tool listed, else one in the user's words. Names of hosts, as in addresses, are none.
    pub(crate) fn path(&self) -> Option<&str> {
        let (user, tools) = self.text.split_at(self.user_bytes);
        first_path(tools).or_else(|| first_path(user))
    }

    fn stands_alone(&self, start: usize, end: usize) -> bool {
        let before = self.text[..start].chars().next_back();
        let mut after = self.text[end..].chars();
        let (next, second) = (after.next(), after.next());
        // `2026-11-23` and `4.90` are one thing, not several; a full stop ends a sentence.
        let joined = |c: Option<char>| c.is_some_and(|c| matches!(c, '-' | '.' | ':' | '/' | '@' | ','));
        let goes_on = joined(next) && second.is_some_and(char::is_alphanumeric);
        !before.is_some_and(char::is_alphanumeric) && !next.is_some_and(char::is_alphanumeric) && !goes_on
    }

    /// The first word with a digit in it: an order's number, a case's code.
    pub(crate) fn code(&self) -> Option<&str> {
        self.text
            .split(|c: char| !(c.is_alphanumeric() || c == '-' || c == '_'))
            .map(|word| word.trim_matches(['-', '_']))
            .find(|word| word.chars().any(|c| c.is_ascii_digit()))
    }

    /// Whole numbers in the user's text, in their order.
    pub(crate) fn numbers(&self) -> impl Iterator<Item = i64> {
        self.user().split(|c: char| !c.is_ascii_digit()).filter_map(|digits| digits.parse().ok())
    }

    /// A single value that a tool gave under this name, newest first.
    pub(crate) fn field(&self, name: &str) -> Option<&Value> {
        self.results.iter().rev().filter(|result| !result.failed).find_map(|result| result.fields.get(name))
    }

    /// What is known, as an answer to the user.
    pub(crate) fn answer(&self) -> String {
        let topic = match self.salient(4).join(" ") {
            words if words.is_empty() => "your message".to_owned(),
            words => format!("your message about {words}"),
        };
        let mut text = format!("Thank you for {topic}.");
        for result in &self.results {
            let ToolResult { tool, sentence, failed, .. } = result;
            text.push_str(&match (failed, sentence.is_empty()) {
                (true, _) => format!(" {tool} could not help: {sentence}."),
                (false, true) => format!(" {tool} found nothing."),
                (false, false) => format!(" I checked with {tool}: {sentence}."),
            });
        }
        if self.results.is_empty() {
            text.push_str(" I have no further facts at hand and will gladly look again if you tell me more.");
        }
        text
    }
}

impl ToolResult {
    fn read(tool: &str, content: &str) -> Self {
        let content = &content[..boundary(content, TEXT_BYTES_MAX)];
        let mut fields = BTreeMap::new();
        let mut facts = Vec::new();
        let start = content.trim_start().to_lowercase();
        let mut failed = start.starts_with("error") || start.starts_with("refused");
        let sentence = match serde_json::from_str::<Value>(content) {
            Ok(value @ (Value::Object(_) | Value::Array(_))) => {
                failed |= value.get("error").is_some_and(|error| !error.is_null());
                walk(&value, "", 0, &mut |key, value| {
                    if facts.len() < FACTS_MAX {
                        facts.push(format!("{} {}", key.replace('_', " "), shown(value)).trim().to_owned());
                        fields.entry(key.to_owned()).or_insert_with(|| value.clone());
                    }
                });
                facts.join(", ")
            }
            Ok(Value::String(text)) => plain(&text),
            Ok(Value::Null | Value::Bool(_) | Value::Number(_)) | Err(_) => plain(content),
        };
        let sentence = shorten(&sentence, FACT_BYTES_MAX).trim_end_matches(['.', ' ']).to_owned();
        Self { tool: tool.to_owned(), sentence, failed, fields }
    }
}

/// Hands each single value to `take`, with its nearest key.
fn walk(value: &Value, key: &str, depth: usize, take: &mut impl FnMut(&str, &Value)) {
    if depth > FACT_DEPTH_MAX {
        return;
    }
    match value {
        Value::Object(fields) => fields.iter().for_each(|(key, value)| walk(value, key, depth + 1, take)),
        Value::Array(items) => items.iter().take(3).for_each(|item| walk(item, key, depth + 1, take)),
        Value::Null => {}
        Value::Bool(_) | Value::Number(_) | Value::String(_) => take(key, value),
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => shorten(&plain(text), FACT_BYTES_MAX / 3).to_owned(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    }
}

fn plain(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The start of a text, of at most `bytes_max` bytes, ending with a whole word where that is possible.
pub(crate) fn shorten(text: &str, bytes_max: usize) -> &str {
    if text.len() <= bytes_max {
        return text;
    }
    let start = &text[..boundary(text, bytes_max)];
    start.rfind(' ').filter(|at| *at > 0).map_or(start, |at| &start[..at])
}

/// A letter without who sent it and when: only the subject says what it is about.
fn without_letterhead(text: &str) -> String {
    const LETTERHEAD: [&str; 6] = ["From:", "To:", "Cc:", "Sent:", "Date:", "Reply-To:"];
    let is_matter = |line: &&str| !LETTERHEAD.iter().any(|head| line.trim_start().starts_with(head));
    let lines = text.lines().filter(is_matter).map(|line| line.strip_prefix("Subject:").map_or(line, str::trim_start));
    lines.collect::<Vec<_>>().join("\n")
}

/// The first path of a text. What follows a path in a listing, as `:12:` does, isn't part of it.
fn first_path(text: &str) -> Option<&str> {
    let sought = compile(r"[\w][\w./-]*\.[a-z][a-z0-9]{0,4}")?;
    let whole = |start: usize, end: usize| {
        let before = text[..start].chars().next_back();
        let next = text[end..].chars().next();
        !before.is_some_and(|c| c.is_alphanumeric() || "/@+-.".contains(c))
            && !next.is_some_and(|c| c.is_alphanumeric() || "/@_-".contains(c))
    };
    let found = sought.find_iter(text).filter(|found| whole(found.start(), found.end()));
    found.map(|found| found.as_str()).find(|found| is_path(found))
}

/// In a folder whose name is no host's, or with an ending that files have.
fn is_path(text: &str) -> bool {
    match text.split_once('/') {
        Some((folder, _)) => !folder.contains('.'),
        None => text.rsplit_once('.').is_some_and(|(_, ending)| FILE_ENDINGS.contains(&ending)),
    }
}

/// Compiles a schema's pattern within bounds; `None` where this engine doesn't know it.
pub(crate) fn compile(pattern: &str) -> Option<Regex> {
    static COMPILED: Cache<Regex> = Cache::new();
    let make =
        || RegexBuilder::new(pattern).size_limit(PATTERN_BYTES_MAX).dfa_size_limit(PATTERN_BYTES_MAX).build().ok();
    COMPILED.of(pattern, make)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::wire::openai_chat::read;
    use serde_json::json;

    fn material(user: &str, result: &str) -> Material {
        let body = json!({"model": "m", "messages": [
            {"role": "user", "content": user},
            {"role": "assistant", "tool_calls": [
                {"id": "c", "type": "function", "function": {"name": "lookup_order", "arguments": "{}"}}]},
            {"role": "tool", "tool_call_id": "c", "content": result}]});
        Material::gather(&read(&body).expect("a request"))
    }

    #[test]
    fn an_answer_tells_what_the_tool_gave() {
        let found = material("Where is my parcel 44112?", r#"{"status":"shipped","items":[{"sku":"A-1"}],"eta":null}"#);
        assert_eq!(
            found.answer(),
            "Thank you for your message about parcel 44112. I checked with lookup_order: status shipped, sku A-1."
        );
        assert_eq!(found.field("status"), Some(&json!("shipped")));
        let failed = material("Hi", "error: no such order.");
        assert_eq!(failed.answer(), "Thank you for your message. lookup_order could not help: error: no such order.");
    }

    #[test]
    fn patterns_find_what_stands_alone() {
        let found = material("Article 12 of order 441123999 or A44112, see 44112!", "");
        assert_eq!(found.find("^[0-9]{4,8}$"), Some("44112"));
        assert_eq!(found.find("^[A-Z][0-9]+$"), Some("A44112"));
        assert_eq!(found.find("^(?=x)$"), None);
        assert_eq!(found.code(), Some("12"));
        let letter =
            material("From: a@example.com\nSent: 2026-11-23\nSubject: My tent\n\nOrder 10482, for 4.90, is late.", "");
        assert_eq!(letter.find("^[0-9]{4,8}$"), Some("10482"));
        assert_eq!(letter.salient(2), ["tent", "10482"]);
    }

    #[test]
    fn paths_are_what_tools_listed_or_the_user_named_and_no_hosts() {
        let listed = "examples/help/returns.md:12: Returns are free.\nexamples/help/refunds.md:3: Refunds take a week.";
        let letter = "I'm anna@example.com, see www.example.com/help.html and https://shop.example/a.md. Bye.Now.";
        assert_eq!(material(letter, listed).path(), Some("examples/help/returns.md"));
        assert_eq!(material(letter, "nothing found").path(), None);
        assert_eq!(material("Please read notes.txt, then go.", "see shop.example").path(), Some("notes.txt"));
        assert_eq!(material("Is it in docs/v1.2/setup.rst?", "").path(), Some("docs/v1.2/setup.rst"));
    }

    #[test]
    fn words_are_found_whole() {
        let found = material("My bike is a wreck, the re-fund is late", "");
        assert!(found.mentions("re_fund") && found.mentions("Bike") && !found.mentions("wre") && !found.mentions("-"));
        assert_eq!(found.salient(2), ["bike", "wreck"]);
    }
}
