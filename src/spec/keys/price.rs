//! The keys of `[[prices]]`, in `plimsoll.toml` and in `prices.toml`.

use super::{Field, Kind, Section, TOKENS_MAX, optional, required};

/// The most blocks of hours of one price, and the most hours of one.
const HOURS_MAX: usize = 64;

const CACHE_READ: Field =
    optional("cache_read", Kind::Price, "Input tokens read from a cache; by default they cost what input costs");
const CACHE_WRITE: Field = optional(
    "cache_write",
    Kind::Price,
    "Input tokens written to a cache for the shorter time to live; by default they cost what input costs",
);
const CACHE_WRITE_LONG: Field = optional(
    "cache_write_long",
    Kind::Price,
    "Input tokens written to a cache for the longer time to live; beside `cache_write` it has no default",
);
const LONG_CONTEXT: Field = optional("long", Kind::Table(&LONG), "The rates of requests with a long input");

/// One of `[[prices]]`.
pub(crate) static PRICE: Section = Section {
    doc: "The price of a model, USD for 1,000,000 tokens",
    fields: &[
        required("model", Kind::Text, "The model as `provider/model`"),
        required("input", Kind::Price, "Input tokens"),
        required("output", Kind::Price, "Output tokens, reasoning included"),
        CACHE_READ,
        CACHE_WRITE,
        CACHE_WRITE_LONG,
        LONG_CONTEXT,
        optional(
            "per_call",
            Kind::Money,
            "Dollars of each billed call, beside its tokens, such as `\"$0.002\"`; nothing by default",
        ),
        optional(
            "service_tiers",
            Kind::TablesByName(&TIER),
            "What other service tiers charge, by the name that a reply reports, such as `flex`",
        ),
        optional(
            "multipliers",
            Kind::TextsByName,
            "Factors on every rate, such as `residency_eu = \"1.1\"`: of the place, or of what a reply reports",
        ),
        optional(
            "fees",
            Kind::TextsByName,
            "Dollars of each unit beside the tokens, such as `web_search = \"$0.01\"`; one that isn't here has no price",
        ),
        optional("off_peak", Kind::Tables(&OFF_PEAK), "Other rates in some hours of the week; reserved is the dearest"),
        optional("context_tokens", Kind::Count { min: 1, max: TOKENS_MAX }, "The model's window"),
        optional("max_output_tokens", Kind::Count { min: 1, max: TOKENS_MAX }, "The model's largest output"),
        optional("valid_from", Kind::Instant, "The price holds from here on; always by default"),
        optional("valid_to", Kind::Instant, "The price ends before this; never by default"),
        optional(
            "retrieved",
            Kind::Text,
            "The day on which it was read, such as `\"2026-11-23\"`, from which it grows old; without one it doesn't",
        ),
        optional("confirmed", Kind::Text, "The day on which its source was last seen to say the same"),
        optional("source", Kind::Text, "Where it was read; by default this line"),
        optional("reason", Kind::Text, "Why this is the price; a price of 0 needs one"),
    ],
};

static LONG: Section = Section {
    doc: "The rates of the whole request where its input, cached and written included, is long; what they leave out stays",
    fields: &[
        required("above", Kind::Count { min: 1, max: TOKENS_MAX }, "The longest input that isn't long"),
        optional("input", Kind::Price, "Input tokens"),
        optional("output", Kind::Price, "Output tokens, reasoning included"),
        CACHE_READ,
        CACHE_WRITE,
        CACHE_WRITE_LONG,
    ],
};

static TIER: Section = Section {
    doc: "The rates of one service tier; a class that it leaves out has no price in it",
    fields: &[
        required("input", Kind::Price, "Input tokens"),
        required("output", Kind::Price, "Output tokens, reasoning included"),
        optional("cache_read", Kind::Price, "Input tokens read from a cache"),
        optional("cache_write", Kind::Price, "Input tokens written to a cache for the shorter time to live"),
        optional("cache_write_long", Kind::Price, "Input tokens written to a cache for the longer time to live"),
        LONG_CONTEXT,
    ],
};

static OFF_PEAK: Section = Section {
    doc: "Rates in some hours of the week",
    fields: &[
        required(
            "hours",
            Kind::Texts { min: 1, max: HOURS_MAX },
            "Hours in UTC, such as `\"mon-fri 16:30-24:00\"`, or without days for every day",
        ),
        required("input", Kind::Price, "Input tokens"),
        required("output", Kind::Price, "Output tokens, reasoning included"),
        CACHE_READ,
        CACHE_WRITE,
        CACHE_WRITE_LONG,
        LONG_CONTEXT,
    ],
};

/// `prices.toml`.
pub(crate) static PRICES: Section = Section {
    doc: "Prices that were imported: over the built-in book, under those of `plimsoll.toml`",
    fields: &[
        required("source", Kind::Text, "What was imported"),
        required("sha256", Kind::Text, "The hash of that file"),
        required("retrieved", Kind::Text, "The day on which it was read"),
        optional("prices", Kind::Tables(&PRICE), "The prices"),
    ],
};

/// A file of prices that a run is told again at; `prices.toml` is one too.
pub(crate) static STATED_PRICES: Section = Section {
    doc: "Prices to tell a run again at",
    fields: &[
        optional("source", Kind::Text, "What was imported"),
        optional("sha256", Kind::Text, "The hash of that file"),
        optional("retrieved", Kind::Text, "The day on which it was read"),
        optional("prices", Kind::Tables(&PRICE), "The prices"),
    ],
};
