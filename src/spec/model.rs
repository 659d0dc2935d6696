//! The `[model]` table of an agent resolved into a [`ModelPlan`].

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::domain::ability::{Abilities, Reasons};
use crate::domain::limits::Declared;
use crate::domain::message::{Sampling, WebSearch};
use crate::domain::plan::{DowngradePlan, ModelPlan};
use crate::domain::pricing::PriceBook;
use crate::ids::{ModelName, PolicyName};
use crate::spec::agent::Surroundings;
use crate::spec::fault::{Faults, code, suggest};
use crate::spec::limits::declared;
use crate::spec::load::Configuration;
use crate::spec::names;
use crate::spec::policy::{self, Policy};
use crate::spec::project::{AzureApi, Wire};
use crate::spec::reader::{At, Node};

/// The output cap of one call where the agent says nothing.
const MAX_OUTPUT_TOKENS: u32 = 2_048;
/// As far as a nearly empty budget lowers the cap, where the agent says nothing.
const MIN_OUTPUT_TOKENS: u32 = 256;

/// Fields of the wire that `extra` can't set: the runtime sets them, or they could bill what no reservation covers.
const RESERVED: [(&str, &str); 37] = [
    ("model", "name it under `models`"),
    ("models", "name fallbacks under `models`: each attempt has a reservation of its own"),
    ("route", "name fallbacks under `models`: each attempt has a reservation of its own"),
    ("messages", "the prompt makes them"),
    ("tools", "name tools under `tools`; of a provider's own there is `web_search`, outside `extra`, and no other"),
    ("tool_choice", "the runtime sets it"),
    ("parallel_tool_calls", "set the limit `parallel`"),
    ("functions", "name tools under `tools`"),
    ("function_call", "the runtime sets it"),
    ("response_format", "describe the answer under `[output]`"),
    ("max_tokens", "set `max_output_tokens`"),
    ("max_completion_tokens", "set `max_output_tokens`"),
    ("max_output_tokens", "set it outside `extra`"),
    ("n", "more than one answer would pass the reservation"),
    ("best_of", "more than one answer would pass the reservation"),
    ("use_beam_search", "more than one answer would pass the reservation"),
    ("stream", "set `stream` outside `extra`"),
    ("stream_options", "the runtime sets it"),
    ("service_tier", "another tier has another price; the provider's `pin_service_tier` sets it"),
    ("temperature", "set it outside `extra`"),
    ("reasoning_effort", "set `reasoning`"),
    ("seed", "set it outside `extra`"),
    ("stop", "set it outside `extra`"),
    ("modalities", "other than text isn't supported by this version"),
    ("audio", "other than text isn't supported by this version"),
    ("prediction", "rejected tokens of a prediction are billed beyond the reservation"),
    (
        "web_search_options",
        "a provider's own search needs a maximum: say `web_search = { max_uses = … }` outside `extra`",
    ),
    ("plugins", "a provider's own plugins bill fees that no reservation covers"),
    ("prompt_cache_options", "the provider's `no_cache_writes` sets it"),
    ("prompt_cache_retention", "longer caching has another price"),
    ("store", "the provider's `store` sets it"),
    ("previous_response_id", "it brings in input that no reservation covers"),
    ("conversation", "it brings in input that no reservation covers"),
    ("context_management", "it runs a model at the provider that no reservation covers"),
    ("background", "an answer that is fetched later isn't supported by this version"),
    ("background_options", "an answer that is fetched later isn't supported by this version"),
    ("max_tool_calls", "the provider's own tools but its search aren't supported; that has `max_uses`"),
];

/// Fields that `extra` can't set for models that are asked by Responses, beside [`RESERVED`]: on other wires they are other
/// servers' to take.
const RESPONSES_RESERVED: [&str; 7] = ["input", "instructions", "text", "include", "prompt", "truncation", "reasoning"];

/// The keys of `[model]` that a stage may have too.
const KEYS: [&str; 14] = [
    "policy",
    "quality",
    "models",
    "content_filter_fallbacks",
    "context_fallbacks",
    "max_output_tokens",
    "min_output_tokens",
    "temperature",
    "reasoning",
    "seed",
    "stop",
    "stream",
    "web_search",
    "extra",
];

/// The ways to say which models: one of them.
const WAYS: [&str; 3] = ["models", "policy", "quality"];

/// Resolves `[model]`; `None` where it is missing or names no model.
pub(crate) fn resolve(agent: &Node<'_>, surroundings: &Surroundings<'_>, faults: &mut Faults) -> Option<ModelPlan> {
    let node = agent.section("model")?;
    let choice = choice(&node, surroundings, faults);
    let base = ModelPlan {
        policy: None,
        declared: Declared::Default,
        candidates: Vec::new(),
        after_filter: Vec::new(),
        after_overflow: Vec::new(),
        downgrade: None,
        max_output_tokens: MAX_OUTPUT_TOKENS,
        min_output_tokens: MIN_OUTPUT_TOKENS,
        sampling: Sampling::default(),
        stream: true,
        web_search: None,
    };
    let plan = overlay(&node, base, surroundings, faults);
    let plan = choice?.over(plan, &node);
    check_asking(&node, &plan, surroundings, faults);
    check_wire(&node, &plan, surroundings, faults);
    check_search(&node, &plan, surroundings, faults);
    check_tools(agent, &plan, surroundings, faults);
    Some(plan)
}

/// Resolves how a stage asks a model, over how its agent does; `None` where it says nothing of its own.
pub(crate) fn of_stage(
    node: &Node<'_>,
    agents: Option<&ModelPlan>,
    surroundings: &Surroundings<'_>,
    faults: &mut Faults,
) -> Option<ModelPlan> {
    if !KEYS.iter().any(|key| node.has(key)) {
        if let Some(plan) = agents {
            check_tools(node, plan, surroundings, faults);
        }
        return None;
    }
    let names_models = WAYS.iter().any(|way| node.has(way));
    let choice = names_models.then(|| choice(node, surroundings, faults));
    let plan = overlay(node, agents?.clone(), surroundings, faults);
    let plan = match choice {
        Some(choice) => choice?.over(plan, node),
        None => plan,
    };
    check_asking(node, &plan, surroundings, faults);
    check_wire(node, &plan, surroundings, faults);
    check_search(node, &plan, surroundings, faults);
    check_tools(node, &plan, surroundings, faults);
    Some(plan)
}

/// What each model that may be asked can do, as far as anybody says.
fn abilities<'a>(
    plan: &'a ModelPlan,
    surroundings: &'a Surroundings<'_>,
) -> impl Iterator<Item = (&'a ModelName, Abilities)> {
    let downgrade = plan.downgrade.iter().flat_map(|downgrade| &downgrade.candidates);
    let models = plan.candidates.iter().chain(&plan.after_filter).chain(&plan.after_overflow).chain(downgrade);
    let project = surroundings.project;
    models.map(move |model| {
        let provider = project.providers.get(&model.provider());
        let served = provider.map_or_else(|| model.clone(), |provider| provider.served(model));
        let row = PriceBook::builtin().first_of(&served);
        (model, Abilities::of(&served, row, project.models.get(model)))
    })
}

/// The wire that a model is asked by, where its provider is known.
fn speaks_responses(model: &ModelName, surroundings: &Surroundings<'_>) -> bool {
    let provider = surroundings.project.providers.get(&model.provider());
    provider.is_some_and(|provider| match provider.wire {
        Wire::OpenAiResponses => true,
        Wire::AzureOpenAi => provider.azure.as_ref().is_some_and(|azure| azure.api == AzureApi::Responses),
        Wire::OpenAiChat | Wire::Anthropic | Wire::VertexAnthropic | Wire::Gemini | Wire::Vertex => false,
    })
}

/// Reports settings that the wire of a model doesn't have.
fn check_wire(node: &Node<'_>, plan: &ModelPlan, surroundings: &Surroundings<'_>, faults: &mut Faults) {
    let asked = |(model, _): &(&ModelName, Abilities)| speaks_responses(model, surroundings);
    let Some((model, _)) = abilities(plan, surroundings).find(asked) else { return };
    let settings = [("stop", !plan.sampling.stop.is_empty()), ("seed", plan.sampling.seed.is_some())];
    for (key, _) in settings.into_iter().filter(|(_, set)| *set) {
        let at = [key, "models", "policy", "quality"].into_iter().find(|key| node.has(key)).unwrap_or(key);
        let message = format!("`{model}` is asked by OpenAI's Responses, which have no `{key}`");
        node.fault(
            faults,
            code::CONFLICT,
            &node.key_span(at),
            message,
            format!("leave `{key}` out, or name another model"),
        );
    }
    for key in RESPONSES_RESERVED.into_iter().filter(|key| plan.sampling.extra.contains_key(*key)) {
        let at = if node.has("extra") { node.pointed("extra", &format!("/{key}")) } else { node.span.clone() };
        let message = format!("`extra` can't set `{key}` for `{model}`");
        node.fault(
            faults,
            code::CONFLICT,
            &at,
            message,
            "the runtime sets it, or it would change what a call can cost",
        );
    }
}

/// A provider's own search, where the table asks for it; the reader has told of one without a maximum.
fn web_search(node: &Node<'_>) -> Option<WebSearch> {
    let max_uses = node.section("web_search")?.count_u32("max_uses")?.value;
    Some(WebSearch { max_uses })
}

/// Reports a search of the provider's own that a wire doesn't have, or whose cost has no bound there.
fn check_search(node: &Node<'_>, plan: &ModelPlan, surroundings: &Surroundings<'_>, faults: &mut Faults) {
    if plan.web_search.is_none() {
        return;
    }
    let providers = &surroundings.project.providers;
    let searches = |model: &ModelName| {
        let wire = providers.get(&model.provider()).map(|provider| provider.wire);
        matches!(wire, Some(Wire::Anthropic | Wire::OpenAiResponses))
    };
    let Some(model) = plan.models().into_iter().find(|model| !searches(model)) else { return };
    let at = ["web_search", "models", "policy", "quality"].into_iter().find(|key| node.has(key));
    let message = format!("`{model}` has no search of its provider's own whose cost is bounded here");
    let help = "configure its provider with `wire = \"anthropic\"` or `\"openai-responses\"`, name other models, or write a tool";
    node.fault(faults, code::CONFLICT, &node.key_span(at.unwrap_or("web_search")), message, help);
}

/// Reports settings that a model is known to refuse: of what it may be asked, the first one counts.
fn check_asking(node: &Node<'_>, plan: &ModelPlan, surroundings: &Surroundings<'_>, faults: &mut Faults) {
    let mut refuse = |key: &str, ability: &str, refuses: &dyn Fn(&Abilities) -> bool| {
        let Some((model, _)) = abilities(plan, surroundings).find(|(_, able)| refuses(able)) else { return };
        let at = [key, "models", "policy", "quality"].into_iter().find(|key| node.has(key)).unwrap_or(key);
        let message = format!("`{model}` takes no `{key}`");
        let help = format!(
            "leave `{key}` out, or name another model; if it does take it, say `{ability}` for it under `[[models]]`"
        );
        node.fault(faults, code::CONFLICT, &node.key_span(at), message, help);
    };
    if plan.sampling.temperature.is_some() {
        refuse("temperature", "sampling = true", &|able| able.sampling.is_no());
    }
    if plan.sampling.reasoning.is_some() {
        refuse("reasoning", "reasoning = \"asked\"", &|able| able.reasoning == Reasons::Never);
    }
}

/// Reports tools of an agent or a stage whose models are known to call none.
fn check_tools(node: &Node<'_>, plan: &ModelPlan, surroundings: &Surroundings<'_>, faults: &mut Faults) {
    let Some(key) = ["tools", "agents"].into_iter().find(|key| node.has(key)) else { return };
    if let Some((model, _)) = abilities(plan, surroundings).find(|(_, able)| able.tools.is_no()) {
        let message = format!("`{model}` calls no tools");
        let help = "name another model; if it does call them, say `tools = true` for it under `[[models]]`";
        node.fault(faults, code::CONFLICT, &node.key_span(key), message, help);
    }
}

/// Lays what a table says of how to ask over `base`; which models, except for fallbacks, is [`choice`]'s.
fn overlay(node: &Node<'_>, base: ModelPlan, surroundings: &Surroundings<'_>, faults: &mut Faults) -> ModelPlan {
    let (max_output_tokens, min_output_tokens) = output_tokens(node, &base, faults);
    let after_filter = fallbacks(node, "content_filter_fallbacks", surroundings, faults);
    let after_overflow = fallbacks(node, "context_fallbacks", surroundings, faults);
    ModelPlan {
        max_output_tokens,
        min_output_tokens,
        after_filter: after_filter.unwrap_or(base.after_filter),
        after_overflow: after_overflow.unwrap_or(base.after_overflow),
        sampling: sampling(node, base.sampling, faults),
        stream: node.boolean("stream").unwrap_or(base.stream),
        web_search: web_search(node).or(base.web_search),
        ..base
    }
}

/// A list of fallbacks where the agent has it; its policy's holds where it doesn't.
fn fallbacks(
    node: &Node<'_>,
    key: &str,
    surroundings: &Surroundings<'_>,
    faults: &mut Faults,
) -> Option<Vec<ModelName>> {
    node.has(key).then(|| names::models(node, key, &surroundings.providers, faults))
}

/// Which models an agent may use.
struct Choice {
    policy: Option<PolicyName>,
    candidates: Vec<ModelName>,
    after_filter: Vec<ModelName>,
    after_overflow: Vec<ModelName>,
    downgrade: Option<DowngradePlan>,
    declared: Declared,
}

impl Choice {
    /// The plan with these models. Its own list of fallbacks stands over its policy's.
    fn over(self, plan: ModelPlan, node: &Node<'_>) -> ModelPlan {
        let own = |key, own, policys| if node.has(key) { own } else { policys };
        ModelPlan {
            policy: self.policy,
            declared: self.declared,
            candidates: self.candidates,
            after_filter: own("content_filter_fallbacks", plan.after_filter, self.after_filter),
            after_overflow: own("context_fallbacks", plan.after_overflow, self.after_overflow),
            downgrade: self.downgrade,
            ..plan
        }
    }
}

fn choice(node: &Node<'_>, surroundings: &Surroundings<'_>, faults: &mut Faults) -> Option<Choice> {
    let ways: Vec<&str> = WAYS.into_iter().filter(|way| node.has(way)).collect();
    if let [first, second, ..] = ways.as_slice() {
        let message = format!("`{first}` and `{second}` are both there");
        node.fault(faults, code::CONFLICT, &node.key_span(first), message, "keep one of them");
    }
    if ways.is_empty() {
        let message = "`[model]` names no model".to_owned();
        let help = "add `policy = \"…\"`, `quality = \"…\"`, or `models = [\"provider/model\"]`";
        node.fault(faults, code::MISSING_KEY, &node.span, message, help);
    }
    let listed = node.has("models").then(|| names::models(node, "models", &surroundings.providers, faults));
    if let Some(name) = node.text("policy") {
        return of_policy(node, &name, surroundings, faults);
    }
    if let Some(tier) = node.text("quality") {
        return of_quality(node, &tier, surroundings, faults);
    }
    let candidates = listed.filter(|models| !models.is_empty())?;
    let declared = declared(node.source, &node.key_span("models"));
    let (after_filter, after_overflow) = (Vec::new(), Vec::new());
    Some(Choice { policy: None, candidates, after_filter, after_overflow, downgrade: None, declared })
}

fn of_policy(
    node: &Node<'_>,
    name: &At<String>,
    surroundings: &Surroundings<'_>,
    faults: &mut Faults,
) -> Option<Choice> {
    let policies = &surroundings.project.policies;
    let key = PolicyName::from(name.value.as_str());
    let Some(policy) = policies.get(&key) else {
        if surroundings.configuration == Configuration::Whole {
            let known = policies.keys().map(PolicyName::as_str);
            let help = suggest(
                &name.value,
                known,
                "`plimsoll.toml` declares no policy: add `[policies.NAME]`, or list `models`",
            );
            node.fault(faults, code::UNKNOWN_NAME, &name.span, format!("no policy `{}`", name.value), help);
        }
        return None;
    };
    chosen(policy, policies)
}

/// The lowest policy that is good enough for a tier of quality.
fn of_quality(
    node: &Node<'_>,
    tier: &At<String>,
    surroundings: &Surroundings<'_>,
    faults: &mut Faults,
) -> Option<Choice> {
    let project = surroundings.project;
    if surroundings.configuration != Configuration::Whole {
        return None;
    }
    let quality = policy::quality(node, tier, &project.qualities, faults)?;
    let (message, help) = match policy::for_quality(&project.policies, quality.rank) {
        Ok(Some(policy)) => return chosen(policy, &project.policies),
        Ok(None) => (
            format!("no policy is good for the quality `{}`", quality.name),
            "give a policy of `plimsoll.toml` that `quality`, or list `models`".to_owned(),
        ),
        Err(several) => (
            format!("several policies are equally good for the quality `{}`", quality.name),
            format!("name one with `policy`: {}", several.join(", ")),
        ),
    };
    node.fault(faults, code::CONFLICT, &tier.span, message, help);
    None
}

fn chosen(policy: &Policy, policies: &BTreeMap<PolicyName, Policy>) -> Option<Choice> {
    if policy.models.is_empty() {
        return None;
    }
    let target = policy.downgrade.as_ref().and_then(|to| Some((to, policies.get(&to.to)?)));
    let downgrade = target.map(|(how, to)| DowngradePlan {
        policy: to.name.clone(),
        candidates: to.models.clone(),
        rules: how.rules.clone(),
    });
    let policy = policy.clone();
    Some(Choice {
        policy: Some(policy.name),
        candidates: policy.models,
        after_filter: policy.content_filter_fallbacks,
        after_overflow: policy.context_fallbacks,
        downgrade,
        declared: policy.declared,
    })
}

fn output_tokens(node: &Node<'_>, base: &ModelPlan, faults: &mut Faults) -> (u32, u32) {
    let max = node.count_u32("max_output_tokens").map_or(base.max_output_tokens, |count| count.value);
    let Some(min) = node.count_u32("min_output_tokens") else { return (max, base.min_output_tokens.min(max)) };
    if min.value > max {
        let message = format!("`min_output_tokens` is {}, above `max_output_tokens` of {max}", min.value);
        node.fault(faults, code::CONFLICT, &min.span, message, format!("at most {max}"));
    }
    (max, min.value)
}

fn sampling(node: &Node<'_>, base: Sampling, faults: &mut Faults) -> Sampling {
    let stop = node.texts("stop").map(|stop| stop.value);
    for empty in stop.iter().flatten().filter(|text| text.value.is_empty()) {
        node.fault(faults, code::BAD_VALUE, &empty.span, "`stop` has an empty text".into(), "take it out");
    }
    Sampling {
        temperature: node.number("temperature").or(base.temperature),
        reasoning: node.text("reasoning").map(|word| word.value).or(base.reasoning),
        seed: node.integer("seed").or(base.seed),
        stop: stop.map_or(base.stop, |stop| stop.into_iter().map(|text| text.value).collect()),
        extra: if node.has("extra") { extra(node, faults) } else { base.extra },
    }
}

fn extra(node: &Node<'_>, faults: &mut Faults) -> Map<String, Value> {
    let Some(At { value: Value::Object(extra), .. }) = node.json("extra") else { return Map::new() };
    for (key, why) in RESERVED.iter().filter(|(key, _)| extra.contains_key(*key)) {
        let span = node.pointed("extra", &format!("/{key}"));
        node.fault(faults, code::CONFLICT, &span, format!("`extra` can't set `{key}`"), *why);
    }
    extra
}
