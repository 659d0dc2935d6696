//! Token counts and upper bounds.
//!
//! Two bounds of a request's input. **Bytes**: a byte-level BPE never makes more tokens than there are bytes, so the bytes
//! of every text that the server sees, plus named frames for what it wraps around them, are a bound that costs nothing.
//! **Tokens**: counted with the model's own encoding where that is published, plus 1 % (the parts of a text can count
//! fewer tokens than the whole) and the same kind of frames. It is tighter by three to six times, and never above the bytes.
//!
//! The tokenizer takes 190 ms and 45 MB to load, so it is loaded when it is first needed. Bytes stand in for texts that it
//! is slow on or fails on.
//! Claude's published tokenizer normalises a text before it counts it, by a rule (NFKC) that can make it longer: the bytes
//! of a text are those of the longer form, for every model. Claude's hidden prompts count too (`hidden_tokens`).
//! Deliberately absent: estimates. A model whose encoding isn't published has the byte bound only; so have `gpt-6` models,
//! and Claude's and Gemini's. A file isn't counted: it says the most that it counts.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use icu_normalizer::ComposingNormalizerBorrowed;
use serde::Serialize;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use tiktoken_rs::CoreBPE;
use tiktoken_rs::tokenizer::{Tokenizer, get_tokenizer};

use crate::domain::context::Sizer;
use crate::domain::message::{Message, Opaque, OutputSchema, Request, Sent, ToolDefinition};
use crate::ids::ModelName;
use crate::units::Tokens;

/// Tokens that a server wraps around one message: role, separators, channel. OpenAI's are 3 to 4, chat templates' up to 6.
pub const MESSAGE_FRAME: u64 = 8;
/// Tokens around one tool call of an assistant message, beside its id, name and arguments.
pub const CALL_FRAME: u64 = 16;
/// Tokens around one tool definition, beside its JSON.
pub const TOOL_FRAME: u64 = 16;
/// Tokens around an output schema, beside its name and JSON.
pub const SCHEMA_FRAME: u64 = 32;
/// Tokens of a request as such, where the encoding is known (OpenAI: 3 to prime the reply).
pub const REQUEST_FRAME: u64 = 16;
/// Tokens of the text that introduces tools, where the encoding is known (OpenAI: about 9).
pub const TOOLS_FRAME: u64 = 64;
/// As [`REQUEST_FRAME`] for every server: some chat templates begin with a system text of their own, of up to 80 tokens.
pub const REQUEST_FRAME_ANY: u64 = 128;
/// As [`TOOLS_FRAME`] for every server: some chat templates explain tools in up to 150 tokens.
pub const TOOLS_FRAME_ANY: u64 = 256;

/// Texts longer than this are counted by bytes: the tokenizer is slow on bad ones, and panics near 1 MB of whitespace.
const COUNTED_BYTES_MAX: usize = 256 * 1024;
/// Texts with a longer run of whitespace are counted by bytes.
const WHITESPACE_RUN_MAX: usize = 1_000;
/// Counting more than this at once belongs on a blocking thread (1.5 ms for each 100 KB of English).
const SLOW_BYTES: u64 = 50 * 1024;
/// Shorter texts aren't cached: counting them is as cheap as hashing them.
const CACHED_BYTES_MIN: usize = 64;
/// Counts kept in each of the cache's two generations: 4,096 × about 100 bytes.
const CACHE_GENERATION_MAX: usize = 4_096;
/// The margin on counts, as a divisor: 1 %.
const MARGIN_DIVISOR: u64 = 100;

/// An upper bound of a request's input: one token for each byte that the server sees, and frames.
///
/// Where the same tools go out again and again, [`Prepared`] and [`message_bytes`] give the same figure without reading
/// the definitions again.
#[must_use]
pub fn input_bound_bytes(request: &Request) -> Tokens {
    let tools: u64 = request.tools.iter().map(tool_bytes).sum();
    let schema = schema_bytes(request.output.as_deref());
    let fixed = fixed_bytes(request.tools.is_empty(), tools, schema, &request.sampling.extra);
    let hidden = if request.tools.is_empty() && request.output.is_none() { 0 } else { hidden_tokens(&request.model) };
    Tokens(fixed + hidden).plus(request.messages.iter().map(|message| message_bytes(message)).sum())
}

/// An upper bound of a request's input by the model's own encoding, never above [`input_bound_bytes`]; `None` where the
/// encoding isn't published. Each text is counted once: the counter remembers.
#[must_use]
pub fn input_bound_tokens(counter: &Counter, request: &Request) -> Option<Tokens> {
    let encoding = Encoding::of(&request.model)?;
    let prepared = Prepared::new(&request.tools, request.output.as_deref(), &request.sampling.extra);
    let messages: Tokens = request.messages.iter().map(|message| counter.message_tokens(encoding, message)).sum();
    Some(prepared.tokens(counter, encoding).plus(messages))
}

/// The prompt that Anthropic puts before tools, in tokens, by the beginning of the model's name: where a tool is forced, which
/// is the longer one (PROVIDERS §13, the provider's page of 2026-07-13; it changes).
const TOOL_PROMPTS: [(&str, u64); 8] = [
    ("claude-opus-4-8", 410),
    ("claude-opus-4-7", 804),
    ("claude-opus-4-6", 589),
    ("claude-opus-4-5", 588),
    ("claude-sonnet-4-5", 588),
    ("claude-haiku-4-5", 588),
    ("claude-sonnet-4-6", 589),
    ("claude-sonnet-5", 474),
];
/// The same of every other Claude: the longest that is known, since that of newer ones isn't published.
const TOOL_PROMPT_MAX: u64 = 804;

/// Tokens that a model's provider adds unseen where there are tools, or a form of the answer, which may be asked for as one.
/// What other providers add is within [`TOOLS_FRAME_ANY`].
#[must_use]
pub fn hidden_tokens(model: &ModelName) -> u64 {
    let name = model.model().rsplit('/').next().unwrap_or_default();
    if !name.starts_with("claude") {
        return 0;
    }
    TOOL_PROMPTS.iter().find(|(family, _)| model.is_of(family)).map_or(TOOL_PROMPT_MAX, |(_, tokens)| *tokens)
}

/// An upper bound of one message's tokens: its bytes and frames.
#[must_use]
pub fn message_bytes(message: &Message) -> Tokens {
    let mut bytes = 0;
    each_text(message, &mut |text| bytes += seen(text));
    Tokens(bytes + message_frames(message) + beyond_text(message))
}

/// The same, measured once.
fn bytes_of(message: &Sent) -> Tokens {
    message.bytes(message_bytes)
}

/// A published encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Encoding {
    /// `o200k_base`: gpt-4o, gpt-4.1, gpt-5, o1 and later.
    O200k,
    /// `cl100k_base`: gpt-4 and gpt-3.5.
    Cl100k,
}

impl Encoding {
    /// The encoding of a model, by the table of tiktoken itself; `None` where it isn't published. A local model that only
    /// borrows a name (`gpt-4-something`) has none.
    #[must_use]
    pub fn of(model: &ModelName) -> Option<Self> {
        let name = model.model().rsplit('/').next().unwrap_or_default();
        match get_tokenizer(name)? {
            Tokenizer::O200kBase => Some(Self::O200k),
            Tokenizer::Cl100kBase => is_openai_gpt_4(name).then_some(Self::Cl100k),
            Tokenizer::O200kHarmony
            | Tokenizer::P50kBase
            | Tokenizer::R50kBase
            | Tokenizer::P50kEdit
            | Tokenizer::Gpt2 => None,
        }
    }

    /// True once the tokenizer is in memory.
    #[must_use]
    pub fn is_loaded(self) -> bool {
        self.slot().get().is_some()
    }

    /// Loads the tokenizer, if it isn't yet: up to 190 ms on a thread that may block.
    pub fn load(self) {
        self.tokenizer();
    }

    fn tokenizer(self) -> &'static CoreBPE {
        self.slot().get_or_init(|| match self {
            Self::O200k => tiktoken_rs::o200k_base_singleton(),
            Self::Cl100k => tiktoken_rs::cl100k_base_singleton(),
        })
    }

    /// Where messages keep their counts.
    const fn number(self) -> usize {
        match self {
            Self::O200k => 0,
            Self::Cl100k => 1,
        }
    }

    fn slot(self) -> &'static OnceLock<&'static CoreBPE> {
        static O200K: OnceLock<&CoreBPE> = OnceLock::new();
        static CL100K: OnceLock<&CoreBPE> = OnceLock::new();
        match self {
            Self::O200k => &O200K,
            Self::Cl100k => &CL100K,
        }
    }
}

/// The names that OpenAI gave to models of `cl100k_base`.
fn is_openai_gpt_4(name: &str) -> bool {
    let families = ["gpt-4-turbo", "gpt-4-32k", "gpt-4-0", "gpt-4-1", "gpt-3.5-turbo"];
    name == "gpt-4" || families.iter().any(|family| name.starts_with(family))
}

/// Counts tokens, each text once. Share one for the process; it locks only to look up and to note a count.
#[derive(Debug, Default)]
pub struct Counter {
    cache: Mutex<Cache>,
}

impl Counter {
    /// A counter that has counted nothing yet. Doesn't load a tokenizer.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An upper bound of one message's tokens by an encoding, never above [`message_bytes`].
    #[must_use]
    pub fn message_tokens(&self, encoding: Encoding, message: &Message) -> Tokens {
        let mut counted = 0;
        each_text(message, &mut |text| counted += self.count(encoding, text));
        let bound = with_margin(counted) + message_frames(message) + beyond_text(message);
        Tokens(bound).min(message_bytes(message))
    }

    /// The same, counted once for each encoding.
    fn tokens_of(&self, encoding: Encoding, message: &Sent) -> Tokens {
        message.tokens(encoding.number(), |message| self.message_tokens(encoding, message))
    }

    /// The tokens of one text, as ordinary text: `<|endoftext|>` in it is no special token. Bytes where counting is unwise.
    #[must_use]
    pub fn count(&self, encoding: Encoding, text: &str) -> u64 {
        if text.len() < CACHED_BYTES_MIN {
            return counted(encoding, text);
        }
        let key = (encoding, digest(text));
        if let Some(count) = self.lock().find(&key) {
            return count;
        }
        let count = counted(encoding, text);
        self.lock().note(key, count);
        count
    }

    /// True where counting these messages may take milliseconds: the caller moves it to a thread that may block. What was
    /// counted before takes no time.
    #[must_use]
    pub fn is_slow(&self, encoding: Encoding, messages: &[Sent]) -> bool {
        let new = messages.iter().filter(|message| !message.is_counted(encoding.number()));
        let bytes: Tokens = new.map(bytes_of).sum();
        !encoding.is_loaded() || bytes.0 > SLOW_BYTES
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

type CacheKey = (Encoding, [u8; 16]);

/// Two generations of counts: what isn't asked for while one fills is forgotten with the next.
#[derive(Debug, Default)]
struct Cache {
    recent: BTreeMap<CacheKey, u64>,
    older: BTreeMap<CacheKey, u64>,
}

impl Cache {
    fn find(&mut self, key: &CacheKey) -> Option<u64> {
        if let Some(count) = self.recent.get(key) {
            return Some(*count);
        }
        let count = self.older.remove(key)?;
        self.note(*key, count);
        Some(count)
    }

    fn note(&mut self, key: CacheKey, count: u64) {
        if self.recent.len() >= CACHE_GENERATION_MAX {
            self.older = std::mem::take(&mut self.recent);
        }
        self.recent.insert(key, count);
    }
}

/// What every request of a plan carries beside its messages, measured once.
#[derive(Clone, Debug)]
pub struct Prepared {
    bytes: u64,
    /// Neither tools nor a form of the answer.
    is_plain: bool,
    tools: u64,
    texts: Arc<[String]>,
    o200k: OnceLock<u64>,
    cl100k: OnceLock<u64>,
}

impl Prepared {
    /// Measures tool definitions, output schema and extra fields.
    #[must_use]
    pub fn new(tools: &[ToolDefinition], output: Option<&OutputSchema>, extra: &Map<String, Value>) -> Self {
        let tools_bytes = tools.iter().map(tool_bytes).sum();
        let definitions = tools.iter().map(compact_json);
        let schema = output.into_iter().flat_map(|schema| [schema.name.clone(), compact_json(&schema.schema)]);
        let extra_text = (!extra.is_empty()).then(|| compact_json(extra));
        let frames = length_of(tools) * TOOL_FRAME + if tools.is_empty() { 0 } else { TOOLS_FRAME };
        Self {
            is_plain: tools.is_empty() && output.is_none(),
            bytes: fixed_bytes(tools.is_empty(), tools_bytes, schema_bytes(output), extra),
            tools: frames + if output.is_some() { SCHEMA_FRAME } else { 0 },
            texts: definitions.chain(schema).chain(extra_text).collect(),
            o200k: OnceLock::new(),
            cl100k: OnceLock::new(),
        }
    }

    /// Its part of the byte bound.
    #[must_use]
    pub fn bytes(&self) -> Tokens {
        Tokens(self.bytes)
    }

    /// Its part of the token bound, counted once for each encoding.
    #[must_use]
    pub fn tokens(&self, counter: &Counter, encoding: Encoding) -> Tokens {
        let slot = match encoding {
            Encoding::O200k => &self.o200k,
            Encoding::Cl100k => &self.cl100k,
        };
        let counted = *slot.get_or_init(|| self.texts.iter().map(|text| counter.count(encoding, text)).sum());
        Tokens(with_margin(counted) + self.tools + REQUEST_FRAME).min(self.bytes())
    }
}

/// Measures the messages of one plan's requests to one model, for [`crate::domain::context`].
#[derive(Clone, Copy, Debug)]
pub struct RequestSizer<'a> {
    /// Counts, where the encoding is known.
    pub counter: &'a Counter,
    /// The model's encoding.
    pub encoding: Option<Encoding>,
    /// What goes out beside the messages.
    pub prepared: &'a Prepared,
    /// What the provider adds unseen.
    hidden: Tokens,
}

impl<'a> RequestSizer<'a> {
    /// Of requests to a model.
    #[must_use]
    pub fn new(counter: &'a Counter, model: &ModelName, prepared: &'a Prepared) -> Self {
        let hidden = Tokens(if prepared.is_plain { 0 } else { hidden_tokens(model) });
        Self { counter, encoding: Encoding::of(model), prepared, hidden }
    }

    /// An upper bound of a request with these messages by bytes: [`input_bound_bytes`] without reading the tools again.
    #[must_use]
    pub fn bound_bytes(&self, messages: &[Sent]) -> Tokens {
        self.fixed_bytes().plus(messages.iter().map(bytes_of).sum())
    }

    /// The same by the model's encoding, where that is known; may load the tokenizer (see [`Counter::is_slow`]).
    #[must_use]
    pub fn bound_tokens(&self, messages: &[Sent]) -> Option<Tokens> {
        let encoding = self.encoding?;
        let counted = messages.iter().map(|message| self.counter.tokens_of(encoding, message)).sum();
        Some(self.prepared.tokens(self.counter, encoding).plus(self.hidden).plus(counted))
    }
}

impl Sizer for RequestSizer<'_> {
    fn message_bytes(&self, message: &Sent) -> Tokens {
        bytes_of(message)
    }

    fn message_tokens(&self, message: &Sent) -> Option<Tokens> {
        self.encoding.map(|encoding| self.counter.tokens_of(encoding, message))
    }

    fn fixed_bytes(&self) -> Tokens {
        self.prepared.bytes().plus(self.hidden)
    }

    fn fixed_tokens(&self) -> Option<Tokens> {
        self.encoding.map(|encoding| self.prepared.tokens(self.counter, encoding).plus(self.hidden))
    }
}

/// Calls `see` with every text of a message that the server sees, but for reasoning blocks.
fn each_text(message: &Message, see: &mut impl FnMut(&str)) {
    match message {
        Message::System { text } | Message::User { text } => see(text),
        Message::File(file) => see(file.name()),
        Message::Assistant(assistant) => {
            see(&assistant.text);
            assistant.refusal.iter().for_each(|refusal| see(refusal));
            for call in &assistant.calls {
                see(&call.id);
                see(call.name.as_str());
                see(&call.arguments);
            }
        }
        Message::Tool(answer) => {
            see(&answer.call_id);
            see(answer.name.as_str());
            see(&answer.content);
        }
    }
}

fn message_frames(message: &Message) -> u64 {
    match message {
        Message::System { .. } | Message::User { .. } | Message::File(_) | Message::Tool(_) => MESSAGE_FRAME,
        Message::Assistant(assistant) => MESSAGE_FRAME + length_of(&assistant.calls) * CALL_FRAME,
    }
}

/// What no text tells. Reasoning blocks may be encrypted: they are never counted, and their bytes are more than the text
/// that they hide; they count where they aren't given back too, so that a message has one size. A file says its own.
fn beyond_text(message: &Message) -> u64 {
    match message {
        Message::Assistant(assistant) => {
            let continuation = assistant.continuation.as_deref();
            let bytes: u64 = assistant.reasoning.iter().chain(continuation).map(json_bytes).sum();
            bytes + continuation.map_or(0, hidden_by_pause)
        }
        Message::File(file) => file.tokens().0,
        Message::System { .. } | Message::User { .. } | Message::Tool(_) => 0,
    }
}

/// What a pause stands for beyond its bytes: what was thought before it comes back as input, without its text.
fn hidden_by_pause(continuation: &Opaque) -> u64 {
    let hidden = continuation.block.get("hiddenTokens").and_then(Value::as_u64).unwrap_or(0);
    hidden.min(Tokens::BELIEVED_MAX.0)
}

fn fixed_bytes(no_tools: bool, tools: u64, schema: u64, extra: &Map<String, Value>) -> u64 {
    let introduction = if no_tools { 0 } else { TOOLS_FRAME_ANY };
    let extra = if extra.is_empty() { 0 } else { json_bytes(extra) };
    REQUEST_FRAME_ANY + introduction + tools + schema + extra
}

fn tool_bytes(tool: &ToolDefinition) -> u64 {
    json_bytes(tool) + TOOL_FRAME
}

fn schema_bytes(output: Option<&OutputSchema>) -> u64 {
    output.map_or(0, |output| seen(&output.name) + json_bytes(&output.schema) + SCHEMA_FRAME)
}

/// The bytes of a value's compact JSON.
fn json_bytes(value: &impl Serialize) -> u64 {
    seen(&compact_json(value))
}

fn compact_json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("our values have string keys")
}

/// The tokens of a text, or its bytes where the tokenizer is slow or fails.
fn counted(encoding: Encoding, text: &str) -> u64 {
    if text.is_empty() || text.len() > COUNTED_BYTES_MAX || has_long_whitespace(text) {
        return length(text);
    }
    u64::try_from(encoding.tokenizer().count_ordinary(text)).unwrap_or(u64::MAX).min(length(text))
}

fn has_long_whitespace(text: &str) -> bool {
    let mut run = 0;
    text.chars().any(|character| {
        run = if character.is_whitespace() { run + 1 } else { 0 };
        run > WHITESPACE_RUN_MAX
    })
}

const fn with_margin(counted: u64) -> u64 {
    counted.saturating_add(counted.div_ceil(MARGIN_DIVISOR))
}

fn digest(text: &str) -> [u8; 16] {
    let hash = Sha256::digest(text);
    let mut key = [0; 16];
    key.copy_from_slice(&hash[..16]);
    key
}

/// The bytes of a text as any server may see it: normalised where that is longer.
fn seen(text: &str) -> u64 {
    if text.is_ascii() {
        return length(text);
    }
    let normalised = ComposingNormalizerBorrowed::new_nfkc().normalize_iter(text.chars());
    length(text).max(normalised.map(|c| u64::from(u8::try_from(c.len_utf8()).unwrap_or(u8::MAX))).sum())
}

fn length(text: &str) -> u64 {
    length_of(text.as_bytes())
}

fn length_of<T>(items: &[T]) -> u64 {
    u64::try_from(items.len()).expect("lengths fit 64 bits")
}
