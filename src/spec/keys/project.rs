//! The keys of `plimsoll.toml`.

use crate::domain::policy::Priority;
use crate::spec::flavour;

use super::agent::{CONTENT_FILTER_FALLBACKS, CONTEXT_FALLBACKS, MODELS_MAX};
use super::price::PRICE;
use super::{AGENT_LIMITS, CEILING_LIMITS, COUNT_MAX, Field, Kind, Section, TIME_MAX, optional, required};
use crate::units::Millis;

/// The words of `per`.
pub(crate) const PERIODS: [&str; 6] = ["hour", "day", "week", "month", "quarter", "total"];

/// `plimsoll.toml`.
pub(crate) static PROJECT: Section = Section {
    doc: "A Plimsoll project: providers, model policies, prices, budgets and limits for all agents",
    fields: &[
        optional("project", Kind::Table(&HEAD), "The project itself"),
        optional(
            "providers",
            Kind::TablesByName(&PROVIDER),
            "How each provider is reached, by the name that models begin with",
        ),
        optional("policies", Kind::TablesByName(&POLICY), "Model policies that agents name"),
        optional("denied", Kind::Tables(&DENIED), "Models that nobody may ask, whatever agent or policy names them"),
        optional("prices", Kind::Tables(&PRICE), "Prices over the built-in book, USD for 1,000,000 tokens"),
        optional("pricing", Kind::Table(&PRICING), "How old prices may be"),
        optional("models", Kind::Tables(&MODEL), "What models can do, over what is known of them"),
        optional("budgets", Kind::Tables(&BUDGET), "Caps over a scope of labels and a period"),
        optional("alerts", Kind::Tables(&ALERT), "Who is told of budgets that pass a threshold, and of runs that end"),
        optional("defaults", Kind::Table(&DEFAULTS), "What agents get that say nothing else"),
        optional("ceilings", Kind::Table(&CEILINGS), "What no agent may exceed"),
        optional(
            "rates",
            Kind::Tables(&RATE),
            "How many calls and tokens may go out in a minute, and how many at once",
        ),
        optional("breaker", Kind::Table(&BREAKER), "When a model that fails isn't asked for a while"),
        optional("telemetry", Kind::Table(&TELEMETRY), "Where traces and metrics go"),
    ],
};

static HEAD: Section = Section {
    doc: "The project itself",
    fields: &[
        optional(
            "environment",
            Kind::Text,
            "The `environment` label of all runs; `PLIMSOLL_ENVIRONMENT` goes before it; `development` by default",
        ),
        optional(
            "qualities",
            Kind::Texts { min: 1, max: 16 },
            "Tiers of quality, the lowest first; `basic`, `standard` and `high` by default",
        ),
        optional("store", Kind::Text, "The folder of the store, relative to this file; `.plimsoll` by default"),
        optional(
            "keep_bodies",
            Kind::Duration { min: Millis::ZERO, max: KEEP_MAX },
            "How long what was written and answered in a run is kept once it is over; for good by default, `0s` not at all. Sums always are",
        ),
    ],
};

/// The longest time for which bodies are kept, where it isn't for good: ten years.
const KEEP_MAX: Millis = Millis::from_secs(3_653 * 86_400);

/// Where a key comes from: one of these.
const KEY_ENV: Field = optional("key_env", Kind::Text, "The environment variable that holds the key");
const KEY_COMMAND: Field = optional(
    "key_command",
    Kind::Texts { min: 1, max: 64 },
    "A program with arguments (no shell) that prints the key or a token",
);
const KEY_LIFETIME: Field = optional(
    "key_lifetime",
    Kind::Duration { min: Millis::from_secs(1), max: TIME_MAX },
    "How long a token of `key_command` is good; without it, until the provider refuses it",
);
const KEY_FILE: Field =
    optional("key_file", Kind::Text, "A file with the key or a token on its first line, read for each call");
const SERVICE_ACCOUNT: Field = optional(
    "service_account",
    Kind::Text,
    "The JSON file of a Google service account, whose key is exchanged for tokens",
);
const METADATA_SERVER: Field = optional(
    "metadata_server",
    Kind::Text,
    "Take tokens of the Google machine's own account from here: `http://metadata.google.internal`",
);

static ACCOUNT: Section = Section {
    doc: "An account of the provider, so that its own bill splits: the first whose labels a run has pays for it",
    fields: &[
        required("name", Kind::Text, "Its name, once in the provider; the trace shows it"),
        required(
            "labels",
            Kind::TextsByName,
            "Labels that a run must have to be paid by it, such as `tenant = \"acme\"`",
        ),
        KEY_ENV,
        KEY_COMMAND,
        KEY_LIFETIME,
        KEY_FILE,
        SERVICE_ACCOUNT,
        METADATA_SERVER,
        optional("headers", Kind::TextsByName, "Headers of its requests, over those of the provider; never secrets"),
    ],
};

static PRICING: Section = Section {
    doc: "How old prices may be, counted from the day on which they were read",
    fields: &[
        optional(
            "warn_after",
            Kind::Duration { min: Millis::from_secs(86_400), max: TIME_MAX },
            "A price that is older is warned of; `45d` by default",
        ),
        optional(
            "refuse_after",
            Kind::Duration { min: Millis::from_secs(86_400), max: TIME_MAX },
            "A price that is older is used for no call; `366d` by default",
        ),
    ],
};

static PROVIDER: Section = Section {
    doc: "How a provider is reached",
    fields: &[
        required(
            "wire",
            Kind::Choice {
                now: &[
                    "openai-chat",
                    "openai-responses",
                    "azure-openai",
                    "anthropic",
                    "vertex-anthropic",
                    "gemini",
                    "vertex",
                ],
                later: &[],
            },
            "The wire format: `openai-chat`, which most servers speak, or a provider's own",
        ),
        optional(
            "base_url",
            Kind::Text,
            "Where the API begins, such as `https://api.openai.com/v1`; Google's have one by default",
        ),
        optional("project", Kind::Text, "The Google project, for `vertex`; an express key has none"),
        optional(
            "location",
            Kind::Text,
            "The location, for `vertex`: a region, `us`, `eu` or `global`; all but `global` may cost more",
        ),
        KEY_ENV,
        KEY_COMMAND,
        KEY_LIFETIME,
        KEY_FILE,
        SERVICE_ACCOUNT,
        METADATA_SERVER,
        optional("headers", Kind::TextsByName, "Headers of every request; never secrets"),
        optional("accounts", Kind::Tables(&ACCOUNT), "Accounts that pay for runs by their labels, beside its own key"),
        optional(
            "strict",
            Kind::Boolean,
            "Refuse runs that no account is for, instead of paying for them by the provider's own key; false by default",
        ),
        optional(
            "flavour",
            Kind::Choice { now: &flavour::NAMES, later: &[] },
            "Which server it is, for what it does differently; known by the host where that is a service's own",
        ),
        optional(
            "output_cap_field",
            Kind::Choice { now: &["max_completion_tokens", "max_tokens"], later: &[] },
            "The request's field for the output cap; `max_completion_tokens` for OpenAI and Azure, else `max_tokens`",
        ),
        optional(
            "pin_service_tier",
            Kind::Boolean,
            "Send the ordinary `service_tier`, which pins the price; true for OpenAI and Anthropic, else false",
        ),
        optional(
            "api_version",
            Kind::Text,
            "The version asked for: Anthropic's is `2023-06-01` by default (from `2026-10-21` on keys are bearer tokens), Google's `v1`; Azure's is that of classic deployments, such as `2024-10-21`",
        ),
        optional("betas", Kind::Texts { min: 1, max: 16 }, "Anthropic: features that are named in `anthropic-beta`"),
        optional(
            "inference_geo",
            Kind::Choice { now: &["global", "us"], later: &[] },
            "Anthropic: where requests are served; `global` by default, `us` has prices of its own",
        ),
        optional(
            "stream_usage",
            Kind::Boolean,
            "Ask for usage at the end of a stream; true, but for servers that tell it unasked",
        ),
        optional(
            "no_cache_writes",
            Kind::Boolean,
            "Ask that no cache writes be charged, where the model knows it; true for OpenAI, else false",
        ),
        optional("store", Kind::Boolean, "Let the provider keep answers (`openai-responses`); false by default"),
        optional(
            "deployments",
            Kind::TablesByName(&DEPLOYMENT),
            "Azure: what stands behind each deployment, by its name, which is the model's name here",
        ),
        optional(
            "api",
            Kind::Choice { now: &["chat", "responses"], later: &[] },
            "Azure: which of OpenAI's wires; `chat` by default",
        ),
        optional(
            "auth",
            Kind::Choice { now: &["api-key", "entra"], later: &[] },
            "Azure: whether the key is a resource's key or a token of Entra; `api-key` by default",
        ),
    ],
};

static DEPLOYMENT: Section = Section {
    doc: "What stands behind an Azure deployment, which decides its price",
    fields: &[
        required("model", Kind::Text, "The base model, such as `gpt-6.1-sol`"),
        required(
            "scope",
            Kind::Choice { now: &["global", "data-zone-us", "data-zone-eu"], later: &["regional", "provisioned"] },
            "Where it runs: global, data-zone-us or data-zone-eu",
        ),
    ],
};

static POLICY: Section = Section {
    doc: "A model policy: which models are approved, in what order",
    fields: &[
        required(
            "models",
            Kind::Texts { min: 1, max: MODELS_MAX },
            "Models as `provider/model`: the first is primary, the rest are fallbacks",
        ),
        CONTENT_FILTER_FALLBACKS,
        CONTEXT_FALLBACKS,
        optional(
            "quality",
            Kind::Text,
            "The tier that it is good for, one of the project's `qualities`; agents may ask for one",
        ),
        optional("owner", Kind::Text, "Who may change it; told where a model is refused"),
        optional(
            "environments",
            Kind::TablesByName(&ENVIRONMENT),
            "What an environment leaves of it: an environment only narrows",
        ),
        optional("downgrade", Kind::Table(&DOWNGRADE), "Where to go when money runs short"),
    ],
};

static ENVIRONMENT: Section = Section {
    doc: "What an environment leaves of a policy",
    fields: &[
        optional(
            "models",
            Kind::Texts { min: 1, max: MODELS_MAX },
            "Those of the policy's `models` that are approved here",
        ),
        optional(
            "content_filter_fallbacks",
            Kind::Texts { min: 0, max: MODELS_MAX },
            "Those of the policy's `content_filter_fallbacks` that are approved here",
        ),
        optional(
            "context_fallbacks",
            Kind::Texts { min: 0, max: MODELS_MAX },
            "Those of the policy's `context_fallbacks` that are approved here",
        ),
    ],
};

static DENIED: Section = Section {
    doc: "Models that nobody may ask; a run that would ask one is refused before the call",
    fields: &[
        required("model", Kind::Text, "The model as `provider/model`, or the beginning of several such as `groq/*`"),
        optional("environments", Kind::Texts { min: 1, max: 64 }, "Where it is denied; everywhere by default"),
        optional("reason", Kind::Text, "Why"),
        optional("owner", Kind::Text, "Who may change it"),
    ],
};

static DOWNGRADE: Section = Section {
    doc: "Where to go when money runs short, and when to go there earlier; each rule is enough for itself",
    fields: &[
        required("to", Kind::Text, "The policy to fall to when a call's money isn't there"),
        optional(
            "at",
            Kind::Text,
            "A share of the tightest budget, settled and held, such as `\"90%\"`: from there on",
        ),
        optional(
            "priority",
            Kind::Choice { now: &Priority::NAMES, later: &[] },
            "Runs of this priority or a lower one, whatever the budget",
        ),
        optional(
            "hours",
            Kind::Texts { min: 1, max: 16 },
            "Parts of the day such as `\"20:00-06:00\"`, whatever the budget",
        ),
        optional("time_zone", Kind::Text, "IANA time zone that `hours` are read in; `UTC` by default"),
    ],
};

/// The words of `reasoning` of `[[models]]`.
pub(crate) const REASONS: [&str; 3] = ["never", "asked", "always"];

static MODEL: Section = Section {
    doc: "What a model can do; what is left out stays as it is known",
    fields: &[
        required("model", Kind::Text, "The model as `provider/model`"),
        optional("tools", Kind::Boolean, "It calls tools"),
        optional("parallel_tools", Kind::Boolean, "It calls several tools at once"),
        optional("forced_tools", Kind::Boolean, "It can be made to call a tool"),
        optional("json_schema", Kind::Boolean, "It answers in a JSON Schema by the wire's own means"),
        optional("reasoning", Kind::Choice { now: &REASONS, later: &[] }, "When it reasons: never, asked or always"),
        optional("images", Kind::Boolean, "It sees images"),
        optional("documents", Kind::Boolean, "It reads documents as files"),
        optional("sampling", Kind::Boolean, "It takes a temperature"),
        optional(
            "image_tokens",
            Kind::Count { min: 1, max: COUNT_MAX },
            "The most tokens that one image counts, where that isn't known: what is set aside for each",
        ),
        optional(
            "document_tokens",
            Kind::Count { min: 1, max: COUNT_MAX },
            "The most tokens that one document counts: without it none is sent, since nobody else can know",
        ),
    ],
};

static BUDGET: Section = Section {
    doc: "A cap over a scope of labels and a period",
    fields: &[
        required("name", Kind::Text, "Its name, once in the project"),
        optional(
            "scope",
            Kind::TextsByName,
            "Labels that a run must have to count here, such as `feature = \"support\"`; every run by default",
        ),
        optional(
            "each",
            Kind::Texts { min: 1, max: 8 },
            "Labels whose every value has an account of its own; a run without them is refused",
        ),
        required("cap", Kind::Money, "Dollars for each period"),
        required(
            "per",
            Kind::Choice { now: &PERIODS, later: &[] },
            "The period: hour, day, week, month, quarter or total",
        ),
        optional("time_zone", Kind::Text, "IANA time zone in which periods begin; `UTC` by default"),
        optional(
            "mode",
            Kind::Choice { now: &["enforce", "shadow"], later: &[] },
            "`enforce` (the default), or `shadow`: it refuses nothing, and what it would have refused is counted",
        ),
        optional(
            "alerts_at",
            Kind::Texts { min: 1, max: 16 },
            "Shares of the cap, exceptions included, at which people are told once in each period, such as `[\"50%\", \"80%\", \"100%\"]`; of what is settled, and at `100%` also where a run is refused since nothing more fits",
        ),
    ],
};

static ALERT: Section = Section {
    doc: "Who is told of what: by one of `log`, `webhook` and `command`",
    fields: &[
        required("name", Kind::Text, "Its name, once in the project"),
        required(
            "on",
            Kind::Texts { min: 1, max: 7 },
            "What is told of: `budget` (a threshold of `alerts_at` was passed), `price` (a bill above its bound froze a price), runs that `finished`, were `stopped`, `failed` or were `cancelled`, or ended with `unknown` money",
        ),
        optional("budgets", Kind::Texts { min: 1, max: 64 }, "The budgets that are told of; all by default"),
        optional(
            "labels",
            Kind::TextsByName,
            "Labels that a run must have to be told of, such as `agent = \"triage\"`",
        ),
        optional("log", Kind::Boolean, "Write a line into the log of the process that delivers"),
        optional(
            "webhook",
            Kind::Text,
            "Send a request there, signed after Standard Webhooks; redirects aren't followed, and private hosts may be named",
        ),
        optional("secret_env", Kind::Text, "The environment variable that holds the webhook's secret"),
        optional(
            "secret_file",
            Kind::Text,
            "A file with the webhook's secret on its first line, relative to this file",
        ),
        optional(
            "command",
            Kind::Texts { min: 1, max: 64 },
            "Run a program with arguments (no shell), which reads the alert as JSON from its standard input",
        ),
        optional(
            "env",
            Kind::Texts { min: 1, max: 64 },
            "Environment variables that the program sees, beside `PATH` and `LANG`",
        ),
        optional(
            "timeout",
            Kind::Duration { min: Millis(1), max: Millis::from_secs(60) },
            "How long one try takes at most; `10s` by default",
        ),
    ],
};

static RATE: Section = Section {
    doc: "How many model calls and tokens may go out, for a scope; calls wait for it before their money is reserved",
    fields: &[
        optional(
            "scope",
            Kind::TextsByName,
            "What a call must be to count here: `provider`, `model`, `account`, and labels of its run; every call by default",
        ),
        optional(
            "each",
            Kind::Texts { min: 1, max: 8 },
            "What has a count of its own for every value: `provider`, `model`, `account`, and labels such as `tenant`",
        ),
        optional("requests_per_minute", Kind::Count { min: 1, max: RATE_MAX }, "Model calls in a minute"),
        optional("tokens_per_minute", Kind::Count { min: 1, max: RATE_MAX }, "Tokens in a minute, input and output"),
        optional("concurrent", Kind::Count { min: 1, max: COUNT_MAX }, "Model calls at once"),
    ],
};

/// The largest rate.
const RATE_MAX: u64 = 4_000_000_000;

static BREAKER: Section = Section {
    doc: "When a model that fails isn't asked for a while; then one call tries first",
    fields: &[
        optional(
            "failures",
            Kind::Count { min: 0, max: 1_000 },
            "Failures in a row that open it, an overload counting twice; 5 by default, 0 for no breaker",
        ),
        optional(
            "open",
            Kind::Durations { max: TIME_MAX },
            "How long it stays open at first, and at most; `10s..5m` by default",
        ),
    ],
};

static TELEMETRY: Section = Section {
    doc: "Where traces and metrics go, by OpenTelemetry's conventions; nowhere without it, or `OTEL_EXPORTER_OTLP_ENDPOINT`",
    fields: &[
        optional(
            "otlp",
            Kind::Text,
            "The address of a collector that takes OTLP over HTTP, such as `http://127.0.0.1:4318`; `OTEL_…` variables go before it",
        ),
        optional(
            "content",
            Kind::Boolean,
            "Send what people wrote and what models and tools answered, too; `false` by default",
        ),
        optional(
            "genai_names",
            Kind::Choice { now: &["new", "1.41", "both"], later: &[] },
            "Which names of the GenAI conventions a collector gets, where 1.41 had others; `new` by default",
        ),
        optional(
            "cost_attributes",
            Kind::Boolean,
            "Say what calls cost in `gen_ai.usage.cost.…` too, which the conventions don't have yet; `false` by default",
        ),
    ],
};

static DEFAULTS: Section = Section {
    doc: "What agents get that say nothing else",
    fields: &[optional("limits", Kind::Table(&AGENT_LIMITS), "Limits in place of the built-in defaults")],
};

static CEILINGS: Section = Section {
    doc: "What no agent may exceed",
    fields: &[optional("limits", Kind::Table(&CEILING_LIMITS), "The loosest limits that an agent may set")],
};
