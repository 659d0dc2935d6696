//! `plimsoll.toml` resolved into a [`Project`].

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use toml::Spanned;
use toml::de::DeTable;

use crate::domain::ability::{Reasons, Stated};
use crate::domain::breaker::BreakerPolicy;
use crate::domain::budget::{Budget, Period};
use crate::domain::limits::{Declared, Limits};
use crate::domain::policy::Approvals;
use crate::domain::pricing::Ages;
use crate::ids::{BudgetName, ModelName, ProviderName};
use crate::spec::accounts;
use crate::spec::alerts;
use crate::spec::azure;
use crate::spec::fault::{Faults, Source, code};
use crate::spec::files::clean;
use crate::spec::flavour;
use crate::spec::google::{gemini_address, vertex_address};
use crate::spec::keys::project::{PERIODS, PROJECT};
use crate::spec::limits::{Ceilings, ceilings, declared, overlay, under_ceilings};
use crate::spec::load::Answering;
use crate::spec::names::{self, Providers, check_name, is_label, is_label_value, is_variable, unique};
use crate::spec::policy;
use crate::spec::prices::{self, Imported};
use crate::spec::project::{
    GenAiNames, KeySource, OutputCapField, Project, ProviderConfig, Quirks, Telemetry, Wire, host, is_azure,
};
use crate::spec::rates;
use crate::spec::reader::{At, Node};
use crate::units::Tokens;

/// The `environment` label of a project that sets none.
const ENVIRONMENT_DEFAULT: &str = "development";
/// The most budgets of a project.
const BUDGETS_MAX: usize = 1_000;

/// A project without a `plimsoll.toml`.
pub(crate) fn bare(root: &Path) -> Project {
    Project {
        root: root.to_owned(),
        environment: ENVIRONMENT_DEFAULT.to_owned(),
        store: root.join(".plimsoll"),
        keep_bodies: None,
        providers: BTreeMap::new(),
        models: BTreeMap::new(),
        policies: BTreeMap::new(),
        approvals: Approvals::default(),
        qualities: policy::qualities(None, &mut Faults::new()),
        prices: Vec::new(),
        imported: Imported::default(),
        ages: Ages::DEFAULT,
        budgets: Vec::new(),
        alerts: Vec::new(),
        rates: Vec::new(),
        breaker: BreakerPolicy::default(),
        telemetry: Telemetry::default(),
        defaults: Limits::default(),
        ceilings: Ceilings::new(),
    }
}

/// Resolves a parsed `plimsoll.toml`. What is faulty is left out of the project, or there by its name only.
pub(crate) fn resolve(
    root: &Path,
    source: &Source,
    table: &Spanned<DeTable<'_>>,
    (answering, environment): (Answering, Option<&str>),
    faults: &mut Faults,
) -> Project {
    let node = Node::root(source, table, &PROJECT, faults);
    let head = node.section("project");
    let models = models(&node, faults);
    let providers: Providers = node
        .sections_by_name("providers")
        .iter()
        .map(|(name, node)| provider(root, name, node, &models, faults))
        .collect();
    let (defaults, ceilings) = limits(&node, faults);
    let own = head.as_ref().and_then(|head| head.text("environment")).map(|environment| environment.value);
    let environment = environment.map(str::to_owned).or(own).unwrap_or_else(|| ENVIRONMENT_DEFAULT.to_owned());
    let qualities = policy::qualities(head.as_ref(), faults);
    let known = answering.known(&providers);
    let around = policy::Around { providers: &known, qualities: &qualities, environment: &environment };
    let (policies, approvals) = policy::resolve(&node, &around, faults);
    let budgets = budgets(&node, faults);
    let mut project = Project {
        policies,
        approvals,
        qualities,
        prices: prices::rows(&node, faults),
        ages: ages(&node, faults),
        alerts: alerts::alerts(root, &node, &names_of(&budgets), faults),
        budgets,
        rates: rates::limits(&node, (&known, &providers), faults),
        breaker: rates::breaker(&node, faults),
        telemetry: telemetry(&node, faults),
        providers,
        models,
        defaults,
        ceilings,
        ..bare(root)
    };
    if let Some(head) = head {
        fill_head(&mut project, &head, faults);
    }
    project
}

fn fill_head(project: &mut Project, node: &Node<'_>, faults: &mut Faults) {
    if let Some(environment) = node.text("environment") {
        if !is_label_value(&environment.value) {
            let message = "`environment` is no value of a label".to_owned();
            node.fault(faults, code::BAD_VALUE, &environment.span, message, "expected up to 256 printable characters");
        }
        project.environment = environment.value;
    }
    project.keep_bodies = node.duration("keep_bodies").map(|length| length.value);
    if let Some(store) = node.text("store") {
        if store.value.contains("://") {
            faults.hide(node.source, &store.span);
            let message = format!("the store `{}` is not supported by this version", without_secrets(&store.value));
            node.fault(faults, code::UNSUPPORTED, &store.span, message, "name a folder, such as `.plimsoll`");
        }
        project.store = clean(&project.root.join(store.value));
    }
}

/// An address up to its `://`: what follows may hold a password.
fn without_secrets(address: &str) -> String {
    address.split_once("://").map_or_else(String::new, |(scheme, _)| format!("{scheme}://…"))
}

fn telemetry(node: &Node<'_>, faults: &mut Faults) -> Telemetry {
    let Some(node) = node.section("telemetry") else { return Telemetry::default() };
    let otlp = node.text("otlp").map(|url| base_url(&node, ("otlp", &url), faults));
    let names = node.text("genai_names");
    let names = names.and_then(|word| GenAiNames::ALL.into_iter().find(|names| names.name() == word.value));
    Telemetry {
        otlp,
        content: node.boolean("content").unwrap_or_default(),
        genai_names: names.unwrap_or_default(),
        cost_attributes: node.boolean("cost_attributes").unwrap_or_default(),
    }
}

fn limits(node: &Node<'_>, faults: &mut Faults) -> (Limits, Ceilings) {
    let top = node.section("ceilings").and_then(|node| node.section("limits"));
    let ceilings = ceilings(top.as_ref());
    let defaults = node.section("defaults").and_then(|node| node.section("limits"));
    let limits = overlay(&under_ceilings(Limits::default(), &ceilings), defaults.as_ref(), &ceilings, faults);
    (limits, ceilings)
}

fn provider(
    root: &Path,
    name: &At<String>,
    node: &Node<'_>,
    models: &BTreeMap<ModelName, Stated>,
    faults: &mut Faults,
) -> (ProviderName, ProviderConfig) {
    check_name(node, "a provider", name, faults);
    let (wire, key) = (wire(node), key(root, node, faults));
    let base_url = address(node, wire, &key, faults);
    let quirks = quirks(node, wire, &base_url);
    let azure = azure::resolve(node, wire, faults);
    let headers = headers(node, faults);
    let name = ProviderName::from(name.value.as_str());
    let models = models.iter().filter(|(model, _)| model.provider() == name);
    let models = models.map(|(model, stated)| (model.clone(), *stated)).collect();
    let is_header = matches!(wire, Wire::Anthropic | Wire::VertexAnthropic);
    let api_version = is_header.then(|| api_version(node, faults)).flatten();
    let betas = node.texts("betas").map(|betas| betas.value).unwrap_or_default();
    let betas = betas.into_iter().filter_map(|beta| header_word(node, beta, "betas", faults)).collect();
    let inference_geo = node.text("inference_geo").map(|place| place.value);
    check_wire(node, wire, faults);
    let (accounts, strict) = accounts::accounts(root, node, faults);
    let own = ProviderConfig {
        name,
        wire,
        base_url,
        key,
        headers,
        quirks,
        api_version,
        betas,
        inference_geo,
        models,
        azure,
        accounts,
        strict,
    };
    (own.name.clone(), own)
}

/// The wires that OpenAI speaks.
const OPENAI: [Wire; 3] = [Wire::OpenAiChat, Wire::OpenAiResponses, Wire::AzureOpenAi];
/// Keys that only some wires know.
const OF_WIRES: [(&str, &[Wire]); 14] = [
    ("output_cap_field", &OPENAI),
    ("stream_usage", &OPENAI),
    ("no_cache_writes", &OPENAI),
    ("flavour", &OPENAI),
    ("store", &OPENAI),
    (
        "pin_service_tier",
        &[Wire::OpenAiChat, Wire::OpenAiResponses, Wire::AzureOpenAi, Wire::Anthropic, Wire::VertexAnthropic],
    ),
    ("deployments", &[Wire::AzureOpenAi]),
    ("api", &[Wire::AzureOpenAi]),
    ("auth", &[Wire::AzureOpenAi]),
    ("project", &[Wire::Vertex]),
    ("location", &[Wire::Vertex]),
    ("api_version", &[Wire::AzureOpenAi, Wire::Anthropic, Wire::VertexAnthropic, Wire::Gemini, Wire::Vertex]),
    ("betas", &[Wire::Anthropic, Wire::VertexAnthropic]),
    ("inference_geo", &[Wire::Anthropic]),
];

/// Reports keys that say something which the provider's wire has no place for.
fn check_wire(node: &Node<'_>, wire: Wire, faults: &mut Faults) {
    for (key, wires) in OF_WIRES.into_iter().filter(|(key, wires)| node.has(key) && !wires.contains(&wire)) {
        let named: Vec<_> = wires.iter().map(|wire| format!("`{}`", wire.name())).collect();
        let message = format!("`{key}` says nothing on the wire `{}`", wire.name());
        node.fault(
            faults,
            code::CONFLICT,
            &node.span_of(key),
            message,
            format!("take it out; it is for {}", named.join(", ")),
        );
    }
}

fn api_version(node: &Node<'_>, faults: &mut Faults) -> Option<String> {
    header_word(node, node.text("api_version")?, "api_version", faults)
}

/// A word that a header carries.
fn header_word(node: &Node<'_>, word: At<String>, key: &str, faults: &mut Faults) -> Option<String> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if !word.value.is_empty() && word.value.bytes().all(fits) {
        return Some(word.value);
    }
    let message = format!("`{key}` has a word that no header carries");
    node.fault(faults, code::BAD_VALUE, &word.span, message, "letters, digits, `-`, `_` and `.`, such as `2023-06-01`");
    None
}

/// What the server does differently: by its flavour, with the table's own keys over it.
fn quirks(node: &Node<'_>, wire: Wire, base_url: &str) -> Quirks {
    let flavour = node.text("flavour").map(|word| word.value);
    let usual = match (wire, &flavour) {
        (Wire::AzureOpenAi, _) => Quirks::AZURE,
        // Whoever speaks it speaks OpenAI's own.
        (Wire::OpenAiResponses, None) => Quirks::OPENAI,
        (Wire::OpenAiResponses | Wire::OpenAiChat, word) => flavour::quirks(word.as_deref(), base_url),
        // Their own servers pin the tier; of these quirks they have no other.
        (Wire::Anthropic, _) => Quirks { pin_service_tier: !is_azure(base_url), ..Quirks::COMPATIBLE },
        (Wire::VertexAnthropic | Wire::Gemini | Wire::Vertex, _) => Quirks::COMPATIBLE,
    };
    let field = node.text("output_cap_field").map(|field| field.value);
    Quirks {
        output_cap_field: match field.as_deref() {
            Some("max_completion_tokens") => OutputCapField::MaxCompletionTokens,
            Some(_) => OutputCapField::MaxTokens,
            None => usual.output_cap_field,
        },
        pin_service_tier: node.boolean("pin_service_tier").unwrap_or(usual.pin_service_tier),
        stream_usage: node.boolean("stream_usage").unwrap_or(usual.stream_usage),
        no_cache_writes: node.boolean("no_cache_writes").unwrap_or(usual.no_cache_writes),
        store: node.boolean("store").unwrap_or(usual.store),
        reported_cost: usual.reported_cost,
    }
}

/// The wire of a provider. The reader has told of a word that is none; the rest of the table is checked as that of most.
fn wire(node: &Node<'_>) -> Wire {
    node.text("wire").and_then(|word| Wire::named(&word.value)).unwrap_or(Wire::OpenAiChat)
}

/// Where the API begins, by its wire.
fn address(node: &Node<'_>, wire: Wire, key: &KeySource, faults: &mut Faults) -> String {
    let given = node.text("base_url").map(|url| base_url(node, ("base_url", &url), faults));
    match wire {
        Wire::OpenAiChat | Wire::OpenAiResponses | Wire::AzureOpenAi | Wire::Anthropic | Wire::VertexAnthropic => given
            .unwrap_or_else(|| {
                let message = "`base_url` is missing in this provider".to_owned();
                let help = "say where the API begins, such as `https://api.openai.com/v1`";
                node.fault(faults, code::MISSING_KEY, &node.span_of("wire"), message, help);
                String::new()
            }),
        Wire::Gemini => gemini_address(node, given, key, faults),
        Wire::Vertex => vertex_address(node, given, key, faults),
    }
}

/// Where a collector's credentials go.
const HEADERS_HELP: &str = "put what it asks for into the variable `OTEL_EXPORTER_OTLP_HEADERS`";

/// Checks where an API begins, and takes the `/` from its end.
pub(crate) fn base_url(node: &Node<'_>, (name, url): (&str, &At<String>), faults: &mut Faults) -> String {
    let rest = url.value.strip_prefix("https://").or_else(|| url.value.strip_prefix("http://"));
    let (problem, help) = match rest {
        None => ("begins with neither `https://` nor `http://`", "such as `https://api.openai.com/v1`"),
        Some(rest) if rest.split('/').next().is_some_and(|authority| authority.contains('@')) => (
            "holds credentials",
            match name {
                "otlp" => HEADERS_HELP,
                "webhook" => "the signature says who sends it; take them out",
                _ => "name the key with `key_env` or `key_command`",
            },
        ),
        Some(rest) if rest.contains(['?', '#']) => ("has a query or a fragment", "end it with the path"),
        Some(rest) if rest.is_empty() || rest.starts_with(['/', ':']) => {
            ("has no host", "such as `http://localhost:11434/v1`")
        }
        Some(rest) if rest.contains(|c: char| c.is_whitespace() || c.is_control()) => {
            ("has white space", "take it out")
        }
        Some(_) => return url.value.trim_end_matches('/').to_owned(),
    };
    // The address isn't shown: it may hold a secret.
    faults.hide(node.source, &url.span);
    node.fault(faults, code::BAD_VALUE, &url.span, format!("`{name}` {problem}"), help);
    String::new()
}

/// The keys of a provider's table that say where its key comes from.
const KEY_SOURCES: [&str; 5] = ["key_env", "key_command", "key_file", "service_account", "metadata_server"];

pub(crate) fn key(root: &Path, node: &Node<'_>, faults: &mut Faults) -> KeySource {
    let mut named = KEY_SOURCES.into_iter().filter(|key| node.has(key));
    let first = named.next();
    if let Some((first, other)) = first.zip(named.next()) {
        let message = format!("`{other}` and `{first}` are both there");
        node.fault(faults, code::CONFLICT, &node.span_of(other), message, "keep one of them");
    }
    let lifetime = node.duration("key_lifetime");
    if let Some(lifetime) = lifetime.as_ref().filter(|_| first != Some("key_command")) {
        let message = "`key_lifetime` is of a token that `key_command` prints, and there is none".to_owned();
        node.fault(faults, code::CONFLICT, &lifetime.span, message, "take it out, or add `key_command`");
    }
    let path = |path: At<String>| clean(&root.join(path.value));
    match first {
        Some("key_env") => node.text("key_env").map(|name| variable(node, name, faults)),
        Some("key_command") => node.texts("key_command").map(|command| {
            let command = command.value.into_iter().map(|part| part.value).collect();
            match lifetime {
                Some(lifetime) => KeySource::TokenCommand { command, lifetime: lifetime.value },
                None => KeySource::Command(command),
            }
        }),
        Some("key_file") => node.text("key_file").map(|file| KeySource::File(path(file))),
        Some("service_account") => node.text("service_account").map(|file| KeySource::ServiceAccount(path(file))),
        _ => node.text("metadata_server").map(|address| metadata_server(node, address, faults)),
    }
    .unwrap_or(KeySource::None)
}

fn variable(node: &Node<'_>, name: At<String>, faults: &mut Faults) -> KeySource {
    if !is_variable(&name.value) {
        // The text isn't shown: it may be a key.
        faults.hide(node.source, &name.span);
        let message = "`key_env` is no name of an environment variable".to_owned();
        let help = "name the variable that holds the key, such as `OPENAI_API_KEY`";
        node.fault(faults, code::BAD_NAME, &name.span, message, help);
    }
    KeySource::Env(name.value)
}

/// Whoever answers there is believed to give the machine's tokens, so it is Google's own, or on this machine.
fn metadata_server(node: &Node<'_>, address: At<String>, faults: &mut Faults) -> KeySource {
    let host = address.value.strip_prefix("http://").and_then(|_| host(&address.value)).unwrap_or_default();
    let loopback = host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
    if !loopback && !METADATA_HOSTS.contains(&host) {
        let message = "`metadata_server` is neither Google's nor on this machine".to_owned();
        let help = "such as `http://metadata.google.internal`";
        node.fault(faults, code::BAD_VALUE, &address.span, message, help);
    }
    KeySource::MetadataServer(address.value)
}

/// The names of Google's metadata server, which only its own machines reach.
const METADATA_HOSTS: [&str; 2] = ["metadata.google.internal", "169.254.169.254"];

/// Headers that carry secrets.
const SECRET_HEADERS: [&str; 6] =
    ["authorization", "proxy-authorization", "api-key", "x-api-key", "x-goog-api-key", "cookie"];

/// True for a header that carries a secret.
pub(crate) fn is_secret_header(name: &str) -> bool {
    SECRET_HEADERS.contains(&name.to_lowercase().as_str())
}

pub(crate) fn headers(node: &Node<'_>, faults: &mut Faults) -> BTreeMap<String, String> {
    let mut headers = BTreeMap::new();
    for (name, value) in node.texts_by_name("headers") {
        if is_secret_header(&name.value) {
            faults.hide(node.source, &value.span);
            let message = format!("the header `{}` would hold a secret", name.value);
            node.fault(faults, code::BAD_NAME, &name.span, message, "name the key with `key_env` or `key_command`");
        }
        check_header(node, &name, &value, faults);
        headers.insert(name.value, value.value);
    }
    headers
}

/// Reports what can't go into a request's head.
pub(crate) fn check_header(node: &Node<'_>, name: &At<String>, value: &At<String>, faults: &mut Faults) {
    let letters = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    if name.value.is_empty() || !name.value.bytes().all(letters) {
        let message = format!("`{}` is no name of a header", name.value);
        node.fault(faults, code::BAD_NAME, &name.span, message, "expected letters, digits and `-`");
    }
    if value.value.chars().any(|c| c.is_control() || !c.is_ascii()) {
        let message = format!("the header `{}` has a value with other than printable ASCII characters", name.value);
        node.fault(faults, code::BAD_VALUE, &value.span, message, "take them out");
    }
}

fn models(node: &Node<'_>, faults: &mut Faults) -> BTreeMap<ModelName, Stated> {
    let nodes = node.sections("models");
    let named: Vec<At<String>> = nodes.iter().filter_map(|node| node.text("model")).collect();
    unique(node, &named, "what the model can do:", faults);
    nodes.iter().filter_map(|node| stated(node, faults)).collect()
}

fn stated(node: &Node<'_>, faults: &mut Faults) -> Option<(ModelName, Stated)> {
    let model = names::model(node, &node.text("model")?, &Providers::new(), faults);
    let reasons = |word: &str| match word {
        "never" => Reasons::Never,
        "asked" => Reasons::Asked,
        "always" => Reasons::Always,
        // The reader has told of it.
        _ => Reasons::Unknown,
    };
    let stated = Stated {
        tools: node.boolean("tools"),
        parallel_tools: node.boolean("parallel_tools"),
        forced_tools: node.boolean("forced_tools"),
        json_schema: node.boolean("json_schema"),
        reasoning: node.text("reasoning").map(|word| reasons(&word.value)),
        images: node.boolean("images"),
        documents: node.boolean("documents"),
        sampling: node.boolean("sampling"),
        image_tokens: node.count("image_tokens").map(|tokens| Tokens(tokens.value)),
        document_tokens: node.count("document_tokens").map(|tokens| Tokens(tokens.value)),
    };
    Some((model, stated))
}

/// How old prices may be.
fn ages(node: &Node<'_>, faults: &mut Faults) -> Ages {
    let Some(node) = node.section("pricing") else { return Ages::DEFAULT };
    let (warn, refuse) = (node.duration("warn_after"), node.duration("refuse_after"));
    let refuse_after = refuse.as_ref().map_or(Ages::DEFAULT.refuse_after, |refuse| refuse.value);
    let warn_after = warn.as_ref().map_or(Ages::DEFAULT.warn_after.min(refuse_after), |warn| warn.value);
    if let Some(warn) = warn.filter(|warn| warn.value > refuse_after) {
        let message = format!("`warn_after` is {}, longer than `refuse_after`", warn.value);
        node.fault(faults, code::CONFLICT, &warn.span, message, format!("at most {refuse_after}"));
    }
    let declared = refuse.map_or(Declared::Default, |refuse| declared(node.source, &refuse.span));
    Ages { warn_after, refuse_after, declared }
}

fn budgets(node: &Node<'_>, faults: &mut Faults) -> Vec<Budget> {
    let nodes = node.sections("budgets");
    if nodes.len() > BUDGETS_MAX {
        let message = format!("the project has {} budgets", nodes.len());
        node.fault(faults, code::TOO_MANY, &node.span_of("budgets"), message, format!("at most {BUDGETS_MAX}"));
    }
    let named: Vec<At<String>> = nodes.iter().filter_map(|node| node.text("name")).collect();
    unique(node, &named, "the budget", faults);
    nodes.iter().filter_map(|node| budget(node, faults)).collect()
}

fn budget(node: &Node<'_>, faults: &mut Faults) -> Option<Budget> {
    let name = node.text("name");
    if let Some(name) = &name {
        check_name(node, "a budget", name, faults);
    }
    let (scope, each) = (scope(node, faults), each(node, faults));
    let time_zone = names::time_zone(node, faults);
    let period = node.text("per").and_then(|word| period(&word.value));
    Some(Budget {
        name: BudgetName::from(name.as_ref()?.value.as_str()),
        scope,
        each,
        cap: node.money("cap")?.value,
        period: period?,
        time_zone: time_zone?,
        shadow: node.text("mode").is_some_and(|word| word.value == "shadow"),
        alerts_at: alerts::thresholds(node, faults),
        declared: declared(node.source, &name?.span),
    })
}

fn names_of(budgets: &[Budget]) -> Vec<BudgetName> {
    budgets.iter().map(|budget| budget.name.clone()).collect()
}

fn scope(node: &Node<'_>, faults: &mut Faults) -> BTreeMap<String, String> {
    let mut scope = BTreeMap::new();
    for (label, value) in node.texts_by_name("scope") {
        check_label(node, &label, faults);
        if !is_label_value(&value.value) {
            let message = format!("`{}` has a value that no label can have", label.value);
            node.fault(faults, code::BAD_VALUE, &value.span, message, "expected 1 to 256 printable characters");
        }
        scope.insert(label.value, value.value);
    }
    scope
}

fn each(node: &Node<'_>, faults: &mut Faults) -> Vec<String> {
    let labels = node.texts("each").map(|labels| labels.value).unwrap_or_default();
    unique(node, &labels, "the label", faults);
    let fixed: BTreeSet<String> = node.texts_by_name("scope").into_iter().map(|(label, _)| label.value).collect();
    for label in &labels {
        check_label(node, label, faults);
        if fixed.contains(&label.value) {
            let message = format!("the label `{}` is in `each` and in `scope`", label.value);
            node.fault(faults, code::CONFLICT, &label.span, message, "keep one: `scope` fixes its value");
        }
    }
    labels.into_iter().map(|label| label.value).collect()
}

pub(crate) fn check_label(node: &Node<'_>, label: &At<String>, faults: &mut Faults) {
    if !is_label(&label.value) {
        let message = format!("`{}` is no name of a label", label.value);
        let help = "expected 1 to 64 letters, digits, `_`, `-` and `.`, such as `tenant`";
        node.fault(faults, code::BAD_NAME, &label.span, message, help);
    }
}

fn period(word: &str) -> Option<Period> {
    const ALL: [Period; 6] = [Period::Hour, Period::Day, Period::Week, Period::Month, Period::Quarter, Period::Total];
    PERIODS.iter().zip(ALL).find(|(name, _)| **name == word).map(|(_, period)| period)
}
