//! Scenarios: TOML that scripts what the simulated provider answers, how fast, and which faults it plays.
//!
//! A conversation is recognised by its own messages: turn 0 is answered by the first `[[reply]]`, turn 1 by the next,
//! and so on, so that parallel runs don't disturb each other. Where the list ends, the built-in agent answers. A
//! `[[rule]]` that fits stands over the list. `[faults]` strike a share of the requests, drawn by a hash.
//! Deliberately absent: templates and programs; a reply can only say `{turn}`.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use serde::{Deserialize, Deserializer};

use crate::sim::count::Counter;
use crate::sim::fault::Fault;
use crate::sim::invoice::Billed;
use crate::sim::rates::{PRICES_MAX, SimPrice, decimal_shifted};
use crate::units::Millis;

/// The most searches that one reply may make.
const SEARCHES_MAX: u64 = 100;
/// The largest scenario file.
pub const SCENARIO_BYTES_MAX: u64 = 1024 * 1024;
/// The most replies, and the most rules, of a scenario.
const ENTRIES_MAX: usize = 10_000;
/// The longest pause.
const PAUSE_MAX: Millis = Millis::from_secs(3_600);
/// The largest answer that `bytes` asks for.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;
/// The most tokens that a reply reports.
const TOKENS_MAX: u64 = 1_000_000_000;
/// The most headers that a reply adds.
const HEADERS_MAX: usize = 32;
/// Basis points of the whole.
pub(crate) const WHOLE: u64 = 10_000;

/// A scenario, read and checked.
#[derive(Clone, Debug, Default)]
pub struct Scenario {
    pub(crate) file: File,
    pub(crate) counter: Counter,
    /// For each `[[reply]]` the turn behind its last one.
    ends: Vec<u64>,
}

impl Scenario {
    /// Reads a scenario file.
    ///
    /// # Errors
    /// Where it can't be read, or says something that isn't understood.
    pub fn read(path: &Path) -> Result<Self, ScenarioError> {
        let name = path.display().to_string();
        let unread = |source| ScenarioError::Read { name: name.clone(), source };
        let bytes = std::fs::metadata(path).map_err(unread)?.len();
        if bytes > SCENARIO_BYTES_MAX {
            return Err(ScenarioError::TooLarge { name, bytes });
        }
        Self::parse(&name, &std::fs::read_to_string(path).map_err(unread)?)
    }

    /// Reads a scenario from text; `name` is what errors call it.
    ///
    /// # Errors
    /// Where the text says something that isn't understood: with line, column and excerpt.
    pub fn parse(name: &str, text: &str) -> Result<Self, ScenarioError> {
        let file: File = toml::from_str(text)
            .map_err(|error| ScenarioError::Form { name: name.to_owned(), detail: error.to_string() })?;
        file.resolve().map_err(|detail| ScenarioError::Sense { name: name.to_owned(), detail })
    }

    /// The scripted reply for a turn, if the list reaches that far.
    pub(crate) fn reply(&self, turn: u64) -> Option<&Reply> {
        let index = self.ends.partition_point(|end| *end <= turn);
        self.file.replies.get(index)
    }
}

/// Why a scenario can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    /// The file can't be read.
    #[error("the scenario `{name}` can't be read: {source}")]
    Read {
        /// The file.
        name: String,
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },
    /// The file is too large.
    #[error("the scenario `{name}` has {bytes} bytes, more than {SCENARIO_BYTES_MAX}")]
    TooLarge {
        /// The file.
        name: String,
        /// Its size.
        bytes: u64,
    },
    /// Not TOML, an unknown key, or a value of the wrong kind.
    #[error("the scenario `{name}` can't be understood: {detail}")]
    Form {
        /// The file.
        name: String,
        /// Where and what, with an excerpt.
        detail: String,
    },
    /// Well-formed, but without sense.
    #[error("the scenario `{name}` makes no sense: {detail}")]
    Sense {
        /// The file.
        name: String,
        /// What, and how to mend it.
        detail: String,
    },
}

/// A scenario as its author wrote it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct File {
    /// One line for people.
    pub(crate) description: String,
    /// What the draws of `[faults]` depend on.
    pub(crate) seed: u64,
    /// The key that clients must send as a bearer token.
    pub(crate) key: Option<String>,
    /// Report the part of the prompt that an earlier turn sent as cached.
    pub(crate) cache: bool,
    /// Count tokens by bytes, with this factor as decimal text.
    pub(crate) tokens_per_byte: Option<String>,
    /// What a cut answer costs: `so_far` (if left out) or `whole`.
    pub(crate) bill_cut: Option<Billed>,
    /// What a 5xx, 408 or 422 costs: `input` (if left out), `none` or `whole`.
    pub(crate) bill_error: Option<Billed>,
    /// How requests are counted that ask for nothing else.
    pub(crate) counting: Counting,
    /// Prices over the built-in table.
    pub(crate) prices: Vec<SimPrice>,
    /// The pace of replies that set none of their own.
    pub(crate) defaults: Defaults,
    /// Faults by share.
    pub(crate) faults: Faults,
    #[serde(rename = "reply")]
    pub(crate) replies: Vec<Reply>,
    #[serde(rename = "rule")]
    pub(crate) rules: Vec<Reply>,
}

/// How requests are counted that ask for nothing else.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Counting {
    /// What is told, in hundredths of what an answer will be billed for: an estimate may be off.
    pub(crate) percent: Option<u64>,
    /// The status of an error in its place.
    pub(crate) status: Option<u16>,
    /// Before the answer's head.
    pub(crate) latency: Pause,
}

/// How fast answers come.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Defaults {
    /// Before the answer's head.
    pub(crate) latency: Pause,
    /// Between the head and the first token.
    pub(crate) first_token_latency: Pause,
    /// Before each further chunk of a stream.
    pub(crate) chunk_latency: Pause,
    /// Bytes of text in one chunk of a stream.
    pub(crate) chunk_bytes: Option<usize>,
    /// Output tokens of each answer, whatever its text.
    pub(crate) output_tokens: Option<u64>,
}

/// Shares of requests that are struck by a fault.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Faults {
    rate_429: Share,
    rate_500: Share,
    rate_529: Share,
    cut_stream: Share,
    missing_usage: Share,
    drop: Share,
    hang: Share,
    /// What the 429s among them ask to wait.
    pub(crate) retry_after: Option<Pause>,
}

impl Faults {
    /// The fault that a draw from 0 to 9,999 strikes, if any.
    pub(crate) fn strike(&self, draw: u64) -> Option<Fault> {
        let mut end = 0;
        self.shares().into_iter().find_map(|(share, fault)| {
            end += share.0;
            (draw < end).then_some(fault)
        })
    }

    /// True where nothing is ever struck.
    pub(crate) fn none(&self) -> bool {
        self.sum() == 0
    }

    fn sum(&self) -> u64 {
        self.shares().iter().map(|(share, _)| share.0).sum()
    }

    fn shares(&self) -> [(Share, Fault); 7] {
        [
            (self.rate_429, Fault::RateLimit),
            (self.rate_500, Fault::ServerError),
            (self.rate_529, Fault::Overloaded),
            (self.cut_stream, Fault::CutStream),
            (self.missing_usage, Fault::MissingUsage),
            (self.drop, Fault::Drop),
            (self.hang, Fault::Hang),
        ]
    }
}

/// One reply, of the list or of a rule. Without text, JSON or calls the built-in agent speaks.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Reply {
    /// When a rule fits; a `[[reply]]` has none.
    pub(crate) when: Option<When>,
    pub(crate) text: Option<String>,
    pub(crate) json: Option<Json>,
    pub(crate) tool_calls: Vec<ScriptedCall>,
    /// A tool that is called, and `"*"` for the first one offered; with `arguments`, or some drawn from the input.
    /// With `repeat = "forever"` it is an endless loop.
    pub(crate) loop_tool: Option<String>,
    pub(crate) arguments: Option<Json>,
    pub(crate) refusal: Option<String>,
    /// What kind of refusal it is, on wires that say so.
    pub(crate) category: Option<String>,
    /// The finish reason, over the one that fits the content.
    pub(crate) finish: Option<String>,
    /// The model that the answer names and bills.
    pub(crate) model: Option<String>,
    pub(crate) latency: Option<Pause>,
    pub(crate) first_token_latency: Option<Pause>,
    pub(crate) chunk_latency: Option<Pause>,
    pub(crate) chunk_bytes: Option<usize>,
    /// The stream leaves in pieces of so many bytes, wherever that cuts an event.
    pub(crate) frame_bytes: Option<usize>,
    /// Usage as reported and billed, over what was counted.
    pub(crate) tokens: Tokens,
    /// Output tokens, whatever the text; never above what was asked.
    pub(crate) output_tokens: Option<u64>,
    /// The part of the output tokens that is reasoning.
    pub(crate) reasoning_tokens: Option<u64>,
    /// Searches of the web that the provider makes by itself, where it is offered that; it makes no more than it may.
    pub(crate) web_searches: Option<u64>,
    pub(crate) fault: Option<Fault>,
    /// Chunks that leave before a cut or an error in the stream.
    pub(crate) cut_after: Option<usize>,
    /// The size of an oversized answer.
    pub(crate) bytes: Option<usize>,
    pub(crate) retry_after: Option<Pause>,
    pub(crate) billed: Option<Billed>,
    pub(crate) status: Option<u16>,
    /// The error's text and code, over those of the fault.
    pub(crate) message: Option<String>,
    pub(crate) code: Option<String>,
    pub(crate) headers: BTreeMap<String, String>,
    /// How many turns the entry answers; 1 if left out.
    pub(crate) repeat: Repeat,
}

/// When a rule fits; what is left out fits always.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct When {
    pub(crate) model: Option<String>,
    /// A text within any message.
    pub(crate) contains: Option<String>,
    pub(crate) turn: Option<u64>,
    /// 1 for the first request of a turn of a conversation, 2 for its first repeat.
    pub(crate) attempt: Option<u64>,
    /// Whether the request lets the model call tools.
    pub(crate) tools: Option<bool>,
}

/// One scripted tool call.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ScriptedCall {
    pub(crate) name: String,
    /// A table, or a text that is sent as it is.
    #[serde(default)]
    pub(crate) arguments: Json,
}

/// Usage as reported.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Tokens {
    pub(crate) input: Option<u64>,
    pub(crate) cached: Option<u64>,
    pub(crate) cache_write: Option<u64>,
    pub(crate) cache_write_long: Option<u64>,
    pub(crate) output: Option<u64>,
    pub(crate) reasoning: Option<u64>,
}

impl File {
    fn resolve(self) -> Result<Scenario, String> {
        check(self.replies.len() <= ENTRIES_MAX && self.rules.len() <= ENTRIES_MAX, || {
            format!("more than {ENTRIES_MAX} entries")
        })?;
        check(self.prices.len() <= PRICES_MAX, || format!("more than {PRICES_MAX} prices"))?;
        check(self.faults.sum() <= WHOLE, || "the shares in `[faults]` add up to more than 100%".to_owned())?;
        check(matches!(self.bill_cut, None | Some(Billed::SoFar | Billed::Whole)), || {
            "`bill_cut` is `so_far` or `whole`: a cut answer is never free".to_owned()
        })?;
        check(self.defaults.output_tokens.is_none_or(|count| count <= TOKENS_MAX), || {
            format!("`output_tokens` is more than {TOKENS_MAX}")
        })?;
        check(self.defaults.chunk_bytes != Some(0), || "`chunk_bytes` is 1 at least".to_owned())?;
        let counter = match self.tokens_per_byte.as_deref() {
            None => Counter::Pieces,
            Some(text) => Counter::Bytes {
                millionths: decimal_shifted(text, 6)
                    .ok_or_else(|| format!("`tokens_per_byte` is `{text}`, not a decimal such as \"0.25\""))?,
            },
        };
        for (name, entries) in [("reply", &self.replies), ("rule", &self.rules)] {
            for (index, entry) in entries.iter().enumerate() {
                entry.check(name == "rule").map_err(|fault| format!("`[[{name}]]` number {}: {fault}", index + 1))?;
            }
        }
        let mut end = 0_u64;
        let mut ends = Vec::with_capacity(self.replies.len());
        for (index, reply) in self.replies.iter().enumerate() {
            check(end < u64::MAX, || {
                format!("`[[reply]]` number {} stands behind one that repeats for ever", index + 1)
            })?;
            end = end.saturating_add(reply.repeat.0);
            ends.push(end);
        }
        Ok(Scenario { counter, ends, file: self })
    }
}

impl Reply {
    fn check(&self, is_rule: bool) -> Result<(), String> {
        check(is_rule == self.when.is_some(), || match is_rule {
            true => "a rule needs `when = { … }`".to_owned(),
            false => "`when` belongs to a `[[rule]]`".to_owned(),
        })?;
        let contents = [self.text.is_some(), self.json.is_some(), self.refusal.is_some()];
        check(contents.iter().filter(|given| **given).count() <= 1, || {
            "give one of `text`, `json` and `refusal`".to_owned()
        })?;
        check(self.tool_calls.is_empty() || self.loop_tool.is_none(), || {
            "give `tool_calls` or `loop_tool`, not both".to_owned()
        })?;
        check(self.status.is_none_or(|status| (200..=599).contains(&status)), || {
            "`status` is from 200 to 599".to_owned()
        })?;
        check(self.bytes.is_none_or(|bytes| bytes <= ANSWER_BYTES_MAX), || {
            format!("`bytes` is at most {ANSWER_BYTES_MAX}")
        })?;
        let sizes = [self.chunk_bytes, self.frame_bytes];
        check(!sizes.contains(&Some(0)), || "`chunk_bytes` and `frame_bytes` are 1 at least".to_owned())?;
        let tokens = self.tokens;
        let written = [tokens.cache_write, tokens.cache_write_long];
        let counts = [tokens.input, tokens.cached, tokens.output, tokens.reasoning].into_iter().chain(written);
        let counts = counts.chain([self.output_tokens, self.reasoning_tokens]).flatten();
        check(counts.into_iter().all(|count| count <= TOKENS_MAX), || format!("more than {TOKENS_MAX} tokens"))?;
        let searches = self.web_searches.unwrap_or_default();
        check(searches <= SEARCHES_MAX, || format!("more than {SEARCHES_MAX} searches"))?;
        check(self.headers.len() <= HEADERS_MAX, || format!("more than {HEADERS_MAX} headers"))?;
        for (name, value) in &self.headers {
            let good = axum::http::HeaderName::from_bytes(name.as_bytes()).is_ok()
                && axum::http::HeaderValue::from_str(value).is_ok();
            check(good, || format!("`{name}: {value}` is no header"))?;
        }
        Ok(())
    }
}

fn check(good: bool, fault: impl FnOnce() -> String) -> Result<(), String> {
    if good { Ok(()) } else { Err(fault()) }
}

/// A pause, such as `"50ms"`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pause(pub(crate) Millis);

impl<'de> Deserialize<'de> for Pause {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let pause = Millis::parse(&text).map_err(serde::de::Error::custom)?;
        match pause <= PAUSE_MAX {
            true => Ok(Self(pause)),
            false => Err(serde::de::Error::custom(format!("`{text}` is longer than {PAUSE_MAX}"))),
        }
    }
}

/// A share in basis points, such as `"30%"` or `"0.5%"`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Share(u64);

impl<'de> Deserialize<'de> for Share {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let share = text.strip_suffix('%').and_then(|number| decimal_shifted(number.trim(), 2));
        share.filter(|share| *share <= WHOLE).map(Self).ok_or_else(|| {
            serde::de::Error::custom(format!("`{text}` is no share, such as `\"30%\"`, with at most 2 decimals"))
        })
    }
}

/// How many turns an entry answers: a number, or `"forever"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Repeat(u64);

impl Default for Repeat {
    fn default() -> Self {
        Self(1)
    }
}

impl<'de> Deserialize<'de> for Repeat {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Repeat;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number from 1, or \"forever\"")
            }
            fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<Repeat, E> {
                let turns = u64::try_from(number).ok().filter(|turns| *turns > 0);
                turns.map(Repeat).ok_or_else(|| E::invalid_value(serde::de::Unexpected::Signed(number), &self))
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Repeat, E> {
                match text {
                    "forever" => Ok(Repeat(u64::MAX)),
                    _ => Err(E::invalid_value(serde::de::Unexpected::Str(text), &self)),
                }
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// A TOML value as JSON.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Json(pub(crate) serde_json::Value);

impl Default for Json {
    fn default() -> Self {
        Self(serde_json::Value::Object(serde_json::Map::new()))
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = toml::Value::deserialize(deserializer)?;
        serde_json::to_value(value).map(Self).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(text: &str) -> String {
        Scenario::parse("s.toml", text).expect_err("a fault").to_string()
    }

    #[test]
    fn turns_find_their_reply() {
        let text = "[[reply]]\ntext='a'\nrepeat=2\n[[reply]]\ntext='b'\n[[reply]]\ntext='c'\nrepeat='forever'";
        let scenario = Scenario::parse("s.toml", text).expect("a scenario");
        let said: Vec<_> = (0..5).map(|turn| scenario.reply(turn).and_then(|reply| reply.text.clone())).collect();
        assert_eq!(said.into_iter().flatten().collect::<String>(), "aabcc");
        let short = Scenario::parse("s.toml", "[[reply]]\ntext='a'").expect("a scenario");
        assert!(short.reply(1).is_none());
    }

    #[test]
    fn mistakes_are_named_with_their_place() {
        for (text, expected) in [
            ("[[reply]]\ntxt = 'a'", "line 2, column 1"),
            ("[[reply]]\nlatency = '5 weeks'", "is no length of time"),
            ("[[reply]]\nfault = 'flood'", "unknown variant `flood`"),
            ("[[reply]]\nrepeat = 0", "\"forever\""),
            ("[[reply]]\nrepeat='forever'\n[[reply]]\n", "number 2 stands behind"),
            ("[[reply]]\nwhen = { turn = 1 }", "`when` belongs to a `[[rule]]`"),
            ("[[rule]]\ntext = 'a'", "a rule needs `when"),
            ("[[reply]]\nstatus = 99", "`status` is from 200"),
            ("[faults]\nrate_429 = '60%'\nrate_529 = '50%'", "more than 100%"),
            ("[faults]\nrate_429 = 'often'", "is no share"),
            ("tokens_per_byte = 'x'", "`tokens_per_byte` is `x`"),
            ("bill_cut = 'none'", "never free"),
            ("[defaults]\nchunk_bytes = 0", "1 at least"),
            ("[[reply]]\ntokens = { input = 1_000_000_001 }", "more than 1000000000 tokens"),
            ("[[reply]]\nheaders = { \"a b\" = 'c' }", "is no header"),
        ] {
            let fault = fault(text);
            assert!(fault.contains(expected) && fault.contains("`s.toml`"), "{text}: {fault}");
        }
    }

    #[test]
    fn a_draw_strikes_by_share() {
        let text = "[faults]\nrate_429 = '30%'\ncut_stream = '0.5%'";
        let faults = Scenario::parse("s.toml", text).expect("a scenario").file.faults;
        assert_eq!(faults.strike(2_999), Some(Fault::RateLimit));
        assert_eq!(faults.strike(3_000), Some(Fault::CutStream));
        assert_eq!(faults.strike(3_050), None);
    }
}
