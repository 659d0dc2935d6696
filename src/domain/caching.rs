//! Which beginnings of requests a provider is asked to keep, and whether that pays: in whole numbers, by the price row and by
//! how often the beginning will be sent again.
//!
//! A write costs more than fresh input, a read less. With the rates `input`, `read` and `write` of a token, `w` writes and `r`
//! reads of the same beginning pay where `r × (input − read) > w × (write − input)`; how long it is doesn't matter, once it
//! is long enough to be kept at all.
//! Deliberately absent: what is in the provider's cache. Nobody can know; a lost entry costs what the reservation holds.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::domain::message::{CacheEnd, CacheMarks, CacheTtl, Message, Sent};
use crate::domain::plan::{Plan, StageKind};
use crate::ids::ModelName;
use crate::units::{TokenPrice, Tokens};

/// The shortest beginning that is kept where nobody says (PROVIDERS §1).
const CACHE_MIN_TOKENS: Tokens = Tokens(1_024);
/// The same of Claude, by family (PROVIDERS §3; the price table of LiteLLM 1.109.1, `cache_min_tokens`, read 2026-11-23).
const CACHE_MINS: [(&[&str], u64); 4] = [
    (
        &[
            "claude-fable-5",
            "claude-fable-5-1",
            "claude-haiku-5-5",
            "claude-mythos-5-1",
            "claude-opus-5",
            "claude-opus-5-5",
            "claude-sonnet-5-5",
        ],
        512,
    ),
    (&["claude-opus-4-8", "claude-sonnet-4-5", "claude-sonnet-4-6", "claude-sonnet-5"], 1_024),
    (&["claude-opus-4-7"], 2_048),
    (&["claude-haiku-4-5", "claude-opus-4-5", "claude-opus-4-6"], 4_096),
];

/// The shortest beginning of a request that a model's provider keeps.
#[must_use]
pub fn cache_min(model: &ModelName) -> Tokens {
    let known = CACHE_MINS.iter().find(|(families, _)| families.iter().any(|family| model.is_of(family)));
    known.map_or(CACHE_MIN_TOKENS, |(_, tokens)| Tokens(*tokens))
}

/// Whether providers are asked to keep beginnings of requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CacheMode {
    /// Never; what plans of before there was a choice mean.
    #[default]
    Off,
    /// Where it pays within one run.
    Auto,
    /// Wherever it can be asked for: the author knows of more runs with the same beginning.
    On,
}

impl CacheMode {
    /// True where nothing is asked for.
    #[must_use]
    pub const fn is_off(&self) -> bool {
        matches!(self, Self::Off)
    }
}

/// What a token of a beginning costs: sent fresh, read, and written for the time that is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CachePrices {
    /// Fresh input.
    pub input: TokenPrice,
    /// Read from the cache; `None` where nobody knows.
    pub read: Option<TokenPrice>,
    /// Written to it; `None` where nobody knows.
    pub write: Option<TokenPrice>,
    /// The shortest beginning that is kept.
    pub min: Tokens,
}

/// How often a beginning will be sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reuse {
    /// Before it is in the cache: calls that start at once all write it.
    pub writes: u64,
    /// After that.
    pub reads: u64,
}

/// Whether a beginning is asked to be kept, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "choice", rename_all = "snake_case")]
pub enum CacheChoice {
    /// The agent says no.
    Off,
    /// The provider's wire has no marks for it.
    NoMarks,
    /// Writes cost no more than input: the provider keeps what it can by itself.
    Free,
    /// A rate isn't known, so nobody can tell what it would cost.
    Unpriced,
    /// The request is shorter than what is kept at all.
    TooShort {
        /// The shortest that is kept.
        min: Tokens,
    },
    /// It is sent too seldom.
    TooSeldom {
        /// How often it is read.
        reads: u64,
        /// How often it would have to be; `None` where reads save nothing.
        needed: Option<u64>,
    },
    /// It pays.
    Pays {
        /// How often it is read.
        reads: u64,
        /// How often it would have to be.
        needed: u64,
    },
    /// The agent says yes, whatever it costs.
    Asked,
}

impl CacheChoice {
    /// Nothing of the request is sent again.
    pub const NOTHING_SHARED: Self = Self::TooSeldom { reads: 0, needed: None };

    /// True where it is asked for.
    #[must_use]
    pub const fn asks(self) -> bool {
        matches!(self, Self::Pays { .. } | Self::Asked)
    }
}

impl fmt::Display for CacheChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reads = |count: u64| if count == 1 { "1 read".to_owned() } else { format!("{count} reads") };
        match *self {
            Self::Off => f.write_str("off"),
            Self::NoMarks => f.write_str("left to the provider: its wire has no marks"),
            Self::Free => f.write_str("left to the provider: writes cost no more than input"),
            Self::Unpriced => f.write_str("not asked for: its price isn't known"),
            Self::TooShort { min } => write!(f, "not asked for: less than {min} tokens aren't kept"),
            Self::TooSeldom { reads: 0, .. } => f.write_str("not asked for: the run sends it once"),
            Self::TooSeldom { reads: expected, needed: Some(needed) } => {
                write!(f, "not asked for: pays from {} on, {expected} expected", reads(needed))
            }
            Self::TooSeldom { needed: None, .. } => f.write_str("not asked for: reads save nothing"),
            Self::Pays { reads: expected, needed } => {
                write!(f, "asked for: pays from {} on, {expected} expected", reads(needed))
            }
            Self::Asked => f.write_str("asked for, as the agent says"),
        }
    }
}

impl CachePrices {
    /// How many reads it takes until these writes have paid; `None` where they never do, or a rate isn't known.
    #[must_use]
    pub fn reads_needed(&self, writes: u64) -> Option<u64> {
        let saving = self.input.pico().checked_sub(self.read?.pico()).filter(|saving| *saving > 0)?;
        let premium = self.write?.pico().saturating_sub(self.input.pico());
        let reads = u128::from(premium) * u128::from(writes) / u128::from(saving) + 1;
        u64::try_from(reads).ok()
    }

    /// True where a write costs no more than fresh input.
    fn writes_are_free(&self) -> bool {
        self.write.is_some_and(|write| write <= self.input)
    }
}

/// Judges whether a beginning is asked to be kept.
#[must_use]
pub fn judge(mode: CacheMode, prices: &CachePrices, size: Tokens, reuse: Reuse) -> CacheChoice {
    if mode.is_off() {
        return CacheChoice::Off;
    }
    if prices.writes_are_free() {
        return CacheChoice::Free;
    }
    if prices.write.is_none() || prices.read.is_none() {
        return CacheChoice::Unpriced;
    }
    if size < prices.min {
        return CacheChoice::TooShort { min: prices.min };
    }
    if mode == CacheMode::On {
        return CacheChoice::Asked;
    }
    let needed = prices.reads_needed(reuse.writes.max(1));
    match needed {
        Some(needed) if reuse.reads >= needed => CacheChoice::Pays { reads: reuse.reads, needed },
        needed => CacheChoice::TooSeldom { reads: reuse.reads, needed },
    }
}

/// How often a call's beginning is sent again within its run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Expected {
    /// What all calls of the stage share: tool definitions and system text.
    pub head: Reuse,
    /// The whole request, which the next turn goes on from; `None` where no turn follows.
    pub whole: Option<Reuse>,
}

impl Expected {
    /// That of a call in a stage of a plan, with as many items where the stage is a map; `is_last` where nothing follows.
    #[must_use]
    pub fn of(plan: &Plan, kind: &StageKind, system: &str, items: Option<u64>, is_last: bool) -> Self {
        let turns = matches!(kind.of_lane(), StageKind::Loop { tools, .. } if !tools.is_empty()) && !is_last;
        // The least that a tool loop is made for: one turn that calls a tool, and one that reads its answer.
        let whole = turns.then_some(Reuse { writes: 1, reads: 1 });
        let head = match kind {
            StageKind::Map { each, .. }
                if !(speaks_of_item(system) || system.is_empty() && each.tools().is_empty()) =>
            {
                let items = items.unwrap_or(u64::from(plan.limits.items));
                let writes = items.min(u64::from(plan.limits.parallel));
                Reuse { writes, reads: items - writes }
            }
            StageKind::Map { .. }
            | StageKind::Loop { .. }
            | StageKind::Model { .. }
            | StageKind::Tool { .. }
            | StageKind::Approval { .. }
            | StageKind::Agent { .. } => whole.unwrap_or(Reuse { writes: 1, reads: 0 }),
        };
        Self { head, whole }
    }

    /// Judges a request of so many tokens: the whole of it where turns follow, else what stages share.
    #[must_use]
    pub fn judge(&self, mode: CacheMode, prices: &CachePrices, size: Tokens) -> CacheChoice {
        let of = |reuse| judge(mode, prices, size, reuse);
        match self.whole.map(of) {
            Some(whole) if whole.asks() => whole,
            Some(_) | None => of(self.head),
        }
    }
}

/// True where a map's system text may differ from item to item.
fn speaks_of_item(system: &str) -> bool {
    system.contains("{%")
        || system.split("{{").skip(1).any(|part| {
            let expression = part.split("}}").next().unwrap_or(part);
            let mut words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            words.any(|word| word == "item" || word == "index")
        })
}

/// Marks a request: behind what all calls of its stage share, and, where turns follow, behind what the call before sent and
/// behind all of it. What was cut in between breaks the beginning, so that then only the first mark is worth its write.
#[must_use]
pub fn marks(messages: &[Sent], has_tools: bool, ttl: CacheTtl, turns: bool, was_cut: bool) -> Option<CacheMarks> {
    let mut ends = Vec::new();
    match messages.first().map(|first| &**first) {
        Some(Message::System { .. }) => ends.push(CacheEnd::Message(0)),
        _ if has_tools => ends.push(CacheEnd::Tools),
        _ => {}
    }
    if turns && !was_cut {
        let said = messages.iter().rposition(|message| matches!(**message, Message::Assistant(_)));
        let before = said.and_then(|at| at.checked_sub(1));
        let last = messages.len().checked_sub(1);
        for at in [before, last].into_iter().flatten() {
            let end = CacheEnd::Message(at);
            if !ends.contains(&end) {
                ends.push(end);
            }
        }
    }
    (!ends.is_empty()).then_some(CacheMarks { ttl, ends })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::message::{Assistant, ToolAnswer};

    fn prices(input: u64, read: u64, write: u64) -> CachePrices {
        let price = TokenPrice::from_pico;
        let min = CACHE_MIN_TOKENS;
        CachePrices { input: price(input), read: Some(price(read)), write: Some(price(write)), min }
    }

    /// The rates of a model of Anthropic's at 5 minutes and at 1 hour: 1.25 and 2 times the input, reads a tenth.
    const ANTHROPIC: [(u64, u64); 2] = [(1_250, 1), (2_000, 2)];

    #[test]
    fn a_write_pays_from_the_read_on_that_outweighs_it() {
        for (write, needed) in ANTHROPIC {
            assert_eq!(prices(1_000, 100, write).reads_needed(1), Some(needed), "{write}");
        }
        assert_eq!(prices(1_000, 100, 1_250).reads_needed(4), Some(2), "four lanes write at once");
        assert_eq!(prices(1_000, 1_000, 1_250).reads_needed(1), None, "reads save nothing");
        assert_eq!(CachePrices { read: None, ..prices(1, 1, 2) }.reads_needed(1), None);
    }

    #[test]
    fn what_is_kept_at_least_depends_on_the_model() {
        for (model, tokens) in [
            ("anthropic/claude-opus-5-5", 512),
            ("vertex_anthropic/claude-haiku-4-5@20251001", 4_096),
            ("anthropic/claude-opus-4-7", 2_048),
            ("anthropic/claude-next", 1_024),
            ("openai/gpt-6.1-sol", 1_024),
        ] {
            assert_eq!(cache_min(&model.into()), Tokens(tokens), "{model}");
        }
        let short = CachePrices { min: Tokens(512), ..prices(1_000, 100, 1_250) };
        let of = |size| judge(CacheMode::On, &short, Tokens(size), Reuse { writes: 1, reads: 1 });
        assert_eq!((of(511), of(512)), (CacheChoice::TooShort { min: Tokens(512) }, CacheChoice::Asked));
    }

    #[test]
    fn each_reason_is_told() {
        let (dear, long) = (prices(1_000, 100, 1_250), Tokens(5_000));
        let told = |mode, prices: &CachePrices, size, writes, reads| {
            judge(mode, prices, size, Reuse { writes, reads }).to_string()
        };
        assert_eq!(told(CacheMode::Off, &dear, long, 1, 9), "off");
        assert_eq!(told(CacheMode::Auto, &dear, long, 1, 1), "asked for: pays from 1 read on, 1 expected");
        assert_eq!(told(CacheMode::Auto, &dear, long, 1, 0), "not asked for: the run sends it once");
        assert_eq!(told(CacheMode::Auto, &dear, long, 9, 2), "not asked for: pays from 3 reads on, 2 expected");
        assert_eq!(told(CacheMode::On, &dear, long, 1, 0), "asked for, as the agent says");
        assert_eq!(
            told(CacheMode::On, &dear, Tokens(1_023), 1, 9),
            "not asked for: less than 1,024 tokens aren't kept"
        );
        let free = prices(1_000, 100, 1_000);
        assert_eq!(told(CacheMode::On, &free, long, 1, 9), "left to the provider: writes cost no more than input");
        let unknown = CachePrices { write: None, ..dear };
        assert_eq!(told(CacheMode::On, &unknown, long, 1, 9), "not asked for: its price isn't known");
    }

    #[test]
    fn marks_stand_behind_what_is_sent_again() {
        let user = Sent::from(Message::User { text: "Hi".into() });
        let said = Sent::from(Message::Assistant(Assistant::default()));
        let answer = ToolAnswer { call_id: "c".into(), name: "t".into(), content: "x".into(), is_error: false };
        let answer = Sent::from(answer);
        let first = [Sent::from(Message::System { text: "Be brief.".into() }), user.clone()];
        let ends = |messages: &[Sent], turns, cut| {
            marks(messages, true, CacheTtl::Short, turns, cut).map(|marks| marks.ends).unwrap_or_default()
        };
        let at = CacheEnd::Message;
        assert_eq!(ends(&first, true, false), [at(0), at(1)]);
        let second = [first.as_slice(), &[said.clone(), answer.clone()]].concat();
        assert_eq!(ends(&second, true, false), [at(0), at(1), at(3)]);
        let third = [second.as_slice(), &[said, answer]].concat();
        assert_eq!(ends(&third, true, false), [at(0), at(3), at(5)], "never more than three");
        assert_eq!(ends(&third, true, true), [at(0)], "what was cut breaks the beginning");
        assert_eq!(ends(&third, false, false), [at(0)]);
        assert_eq!(ends(&[user], true, false), [CacheEnd::Tools, at(0)]);
        assert_eq!(marks(&[], false, CacheTtl::Short, true, false), None);
    }

    #[test]
    fn a_text_that_speaks_of_its_item_is_shared_by_nobody() {
        assert!(
            speaks_of_item("Read {{ item.name }}.") && speaks_of_item("{{ index }}") && speaks_of_item("{% if x %}")
        );
        assert!(!speaks_of_item("Read each item of {{ input.list }}."));
    }

    proptest! {
        /// Whatever the rates: where it is asked for by itself, the run pays less than without.
        #[test]
        fn what_pays_saves_money(
            input in 1..100_000_u64, read in 0..100_000_u64, write in 0..300_000_u64, writes in 1..64_u64, reads in 0..256_u64,
        ) {
            let prices = prices(input, read, write);
            let choice = judge(CacheMode::Auto, &prices, Tokens(9_000), Reuse { writes, reads });
            let kept = u128::from(writes) * u128::from(write) + u128::from(reads) * u128::from(read);
            let fresh = u128::from(writes + reads) * u128::from(input);
            prop_assert_eq!(choice.asks(), kept < fresh && write > input);
        }
    }
}
