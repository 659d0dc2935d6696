//! What is doubtful about an agent that has no fault: each with a stable code and how to mend it.

use std::fmt;

use serde::Serialize;

use crate::cli::books;
use crate::cli::commands::Context;
use crate::cli::errors::CliError;
use crate::domain::limits::{Declared, LimitKind};
use crate::domain::plan::{ModelPlan, Plan, PromptPlan};
use crate::domain::policy::Approvals;
use crate::domain::pricing::{PriceBook, Terms};
use crate::ids::{AgentName, ModelName, PlanHash};
use crate::spec::project::Project;
use crate::store::{RunFilter, Store};
use crate::units::{Money, Timestamp, Tokens};

/// The latest runs of an agent whose plans are compared with its file.
const RUNS_COMPARED_MAX: usize = 200;

/// The stable codes of warnings, listed in `docs/errors.md`.
pub(crate) mod code {
    /// A model without a price.
    pub(crate) const NO_PRICE: &str = "plimsoll::lint::no_price";
    /// A price that is frozen.
    pub(crate) const FROZEN_PRICE: &str = "plimsoll::lint::frozen_price";
    /// Prices that were read long ago.
    pub(crate) const OLD_PRICE: &str = "plimsoll::lint::old_price";
    /// Documents that aren't there, or never sent.
    pub(crate) const DOCUMENTS: &str = "plimsoll::lint::documents";
    /// A last answer that may not fit.
    pub(crate) const LANDING: &str = "plimsoll::lint::landing";
    /// A map of more items than there are calls.
    pub(crate) const ITEMS: &str = "plimsoll::lint::items";
    /// An agent that no model can choose.
    pub(crate) const NO_DESCRIPTION: &str = "plimsoll::lint::no_description";
    /// The dearest model first, where a cheaper one is approved.
    pub(crate) const DEAREST_FIRST: &str = "plimsoll::lint::dearest_first";
    /// No context budget of its own.
    pub(crate) const NO_CONTEXT: &str = "plimsoll::lint::no_context";
    /// No cost limit of its own.
    pub(crate) const NO_COST: &str = "plimsoll::lint::no_cost";
    /// Nobody owns it.
    pub(crate) const NO_OWNER: &str = "plimsoll::lint::no_owner";
    /// A prompt without a version.
    pub(crate) const NO_PROMPT_VERSION: &str = "plimsoll::lint::no_prompt_version";
    /// Another text under the same version.
    pub(crate) const PROMPT_CHANGED: &str = "plimsoll::lint::prompt_changed";
    /// A context budget that a model's window can't hold.
    pub(crate) const WINDOW: &str = "plimsoll::lint::window";
    /// A model that the project denies.
    pub(crate) const DENIED: &str = "plimsoll::lint::denied";
    /// Every code.
    #[cfg(test)]
    pub(crate) const ALL: [&str; 15] = [
        NO_PRICE,
        FROZEN_PRICE,
        OLD_PRICE,
        DOCUMENTS,
        LANDING,
        ITEMS,
        NO_DESCRIPTION,
        DEAREST_FIRST,
        NO_CONTEXT,
        NO_COST,
        NO_OWNER,
        NO_PROMPT_VERSION,
        PROMPT_CHANGED,
        WINDOW,
        DENIED,
    ];
}

/// Something doubtful, and how to mend it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Warning {
    pub(crate) code: &'static str,
    pub(crate) message: String,
    pub(crate) help: String,
}

impl Warning {
    pub(crate) fn new(code: &'static str, message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { code, message: message.into(), help: help.into() }
    }
}

impl fmt::Display for Warning {
    /// `the agent has no `owner`; add … (plimsoll::lint::no_owner)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {} ({})", self.message, self.help, self.code)
    }
}

/// What an agent's file is held against.
pub(super) struct Against<'a> {
    pub(super) approvals: &'a Approvals,
    pub(super) book: &'a PriceBook,
    pub(super) now: Timestamp,
    /// The prompts of stored plans of this agent.
    pub(super) stored: &'a [StoredPrompt],
}

/// A prompt as a run had it: the author's name of it, and what the text comes to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct StoredPrompt {
    /// The stage that had it; `None` for the agent's own.
    stage: Option<String>,
    version: String,
    hash: String,
}

/// Everything doubtful about how an agent is governed.
pub(super) fn lints(plan: &Plan, against: &Against<'_>) -> Vec<Warning> {
    let mut warnings = Vec::new();
    for (of, model) in asked(plan) {
        warnings.extend(denied(&of, model, against.approvals));
        warnings.extend(dearest_first(&of, plan, model, against));
        warnings.extend(window(&of, plan, model, against));
    }
    warnings.extend(left_out(plan));
    warnings.extend(prompts(plan).filter_map(|(of, prompt)| unversioned(&of, prompt)));
    warnings.extend(changed(plan, against.stored));
    warnings
}

/// The ways in which a plan asks models, each with a name for messages: the agent's own, and those of stages that differ.
fn asked(plan: &Plan) -> Vec<(String, &ModelPlan)> {
    let stages = plan.stages.iter().filter_map(|stage| {
        let model = stage.kind.call()?.model.as_ref()?;
        Some((format!("stage `{}`", stage.id), model))
    });
    std::iter::once(("the agent".to_owned(), &plan.model)).chain(stages).collect()
}

fn prompts(plan: &Plan) -> impl Iterator<Item = (Option<String>, &PromptPlan)> {
    let stages = plan.stages.iter().filter_map(|stage| {
        let prompt = stage.kind.call()?.prompt.as_ref()?;
        Some((Some(stage.id.to_string()), prompt))
    });
    std::iter::once((None, &plan.prompt)).chain(stages)
}

/// Keys that a file leaves to defaults that nobody chose.
fn left_out(plan: &Plan) -> Vec<Warning> {
    let mut warnings = Vec::new();
    if plan.context.declared == Declared::Default {
        let tokens = plan.context.tokens;
        let message = format!("the agent has no context budget: a request may have {tokens} tokens");
        warnings.push(Warning::new(code::NO_CONTEXT, message, "add `[context]` with `tokens = …`"));
    }
    if plan.limits.declared(LimitKind::Cost) == Declared::Default {
        let cost = plan.limits.cost;
        let message = format!("the agent has no cost limit of its own: a run may cost {cost}");
        let help = "add `cost = \"$…\"` under `[limits]`, or a default in plimsoll.toml";
        warnings.push(Warning::new(code::NO_COST, message, help));
    }
    if plan.owner.is_none() {
        let message = "the agent has no `owner`: nobody is named who decides on its model, prompt and budget";
        warnings.push(Warning::new(code::NO_OWNER, message, "add `owner = \"…\"`"));
    }
    warnings
}

fn unversioned(stage: &Option<String>, prompt: &PromptPlan) -> Option<Warning> {
    let of = stage.as_ref().map_or_else(|| "the prompt".to_owned(), |stage| format!("the prompt of stage `{stage}`"));
    let message = format!("{of} has no `version`: reports call it {}", prompt.hash);
    let help = "add `version = \"…\"` under `[prompt]`";
    prompt.version.is_none().then(|| Warning::new(code::NO_PROMPT_VERSION, message, help))
}

/// A version whose text isn't the one that runs had under it.
fn changed(plan: &Plan, stored: &[StoredPrompt]) -> Vec<Warning> {
    let changed = prompts(plan).filter_map(|(stage, prompt)| {
        let version = prompt.version.as_ref()?;
        let same = |of: &&StoredPrompt| of.stage == stage && of.version == *version && of.hash != prompt.hash;
        let before = stored.iter().find(same)?;
        let of = stage.map_or_else(|| "the prompt".to_owned(), |stage| format!("the prompt of stage `{stage}`"));
        let message = format!(
            "{of} `{version}` isn't the text that runs had under that version ({}, now {})",
            before.hash, prompt.hash
        );
        Some(Warning::new(code::PROMPT_CHANGED, message, "give the new text a `version` of its own"))
    });
    changed.collect()
}

fn denied(of: &str, model: &ModelPlan, approvals: &Approvals) -> Vec<Warning> {
    let denied = model.models().into_iter().filter_map(|name| {
        let denial = approvals.denial_in(model, name)?;
        let message = format!("{of} names {name}, whose calls are refused: {denial}");
        Some(Warning::new(code::DENIED, message, "name another model, or ask for the approval"))
    });
    denied.collect()
}

/// What the dearest call of a model may cost that this plan can make.
fn worst_case(plan: &Plan, model: &ModelPlan, name: &ModelName, against: &Against<'_>) -> Option<Money> {
    let row = against.book.find(name, against.now)?;
    let terms = Terms::default().asking(plan.asks_to_keep());
    Some(row.bound(plan.context.tokens, terms).worst_case(model.max_output_tokens))
}

/// The first model is the dearest of all approved, and nothing ever sends a run to a cheaper one but missing money.
fn dearest_first(of: &str, plan: &Plan, model: &ModelPlan, against: &Against<'_>) -> Option<Warning> {
    if model.downgrade.as_ref().is_some_and(|downgrade| !downgrade.rules.is_empty()) {
        return None;
    }
    let fallen_to = model.downgrade.iter().flat_map(|downgrade| &downgrade.candidates);
    let priced = |name: &ModelName| Some((worst_case(plan, model, name, against)?, name.clone()));
    let all: Vec<(Money, ModelName)> = model.candidates.iter().chain(fallen_to).filter_map(priced).collect();
    let (first, name) = priced(model.candidates.first()?)?;
    let (cheapest, cheaper) = all.iter().min()?.clone();
    let is_dearest = all.iter().all(|(cost, _)| *cost <= first) && cheapest < first;
    is_dearest.then(|| {
        let message = format!(
            "{of} asks {name} by default, the dearest of its approved models: a call may cost {first}, one of {cheaper} {cheapest}"
        );
        let help = format!("put {cheaper} first, or say in a policy when it is enough: `downgrade = {{ to = …, at = … }}`");
        Warning::new(code::DEAREST_FIRST, message, help)
    })
}

/// Models whose window is smaller than what a request and its answer may have.
fn window(of: &str, plan: &Plan, model: &ModelPlan, against: &Against<'_>) -> Vec<Warning> {
    let wanted = plan.context.tokens.plus(Tokens(model.max_output_tokens.into()));
    let small = model.models().into_iter().filter_map(|name| {
        let window = against.book.find(name, against.now)?.context_window?;
        if wanted <= window {
            return None;
        }
        let message = format!(
            "{of} may ask {name} with {} tokens and {} of output, more than its window of {window}",
            plan.context.tokens,
            Tokens(model.max_output_tokens.into()),
        );
        Some(Warning::new(
            code::WINDOW,
            message,
            "lower `tokens` under `[context]`, or name a model with a larger window",
        ))
    });
    small.collect()
}

/// What the stored runs of a project say.
#[derive(Default)]
pub(super) struct Told {
    prompts: Vec<(AgentName, Vec<StoredPrompt>)>,
}

impl Told {
    /// Asks the store for the prompts of these agents. Where another process holds it nobody waits: it is said.
    pub(super) fn by_store<'a>(
        context: &Context<'_>,
        project: &Project,
        agents: impl Iterator<Item = &'a AgentName>,
    ) -> Self {
        let open = || -> Result<Self, CliError> {
            let Some(store) = books::open(project, false)? else { return Ok(Self::default()) };
            let mut prompts = Vec::new();
            for agent in agents {
                prompts.push((agent.clone(), stored_prompts(&store, agent)?));
            }
            Ok(Self { prompts })
        };
        let told = open().inspect_err(|error| {
            context.output.talk(&format!("whether prompts changed under their versions can't be told now: {error}"));
        });
        told.unwrap_or_default()
    }

    pub(super) fn of(&self, agent: &AgentName) -> &[StoredPrompt] {
        self.prompts.iter().find(|(name, _)| name == agent).map_or(&[], |(_, prompts)| prompts)
    }
}

/// The prompts with versions of the latest runs of an agent.
fn stored_prompts(store: &Store, agent: &AgentName) -> Result<Vec<StoredPrompt>, CliError> {
    let filter = RunFilter { agent: Some(agent.clone()), limit: RUNS_COMPARED_MAX, ..RunFilter::default() };
    let plans: std::collections::BTreeSet<PlanHash> =
        store.summaries(&filter)?.into_iter().map(|run| run.plan).collect();
    let mut found = std::collections::BTreeSet::new();
    for plan in plans {
        let Some(plan) = store.plan(&plan)? else { continue };
        let versioned = prompts(&plan).filter_map(|(stage, prompt)| {
            Some(StoredPrompt { stage, version: prompt.version.clone()?, hash: prompt.hash.clone() })
        });
        found.extend(versioned);
    }
    Ok(found.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::domain::plan::DowngradePlan;
    use crate::domain::policy::{DeniedModels, DowngradeRules, Share};
    use crate::domain::report::fixture;

    fn governed() -> Plan {
        let mut plan = Arc::unwrap_or_clone(fixture::plan());
        let here = Declared::At { file: "agents/a.toml".to_owned(), line: 3 };
        (plan.owner, plan.prompt.version) = (Some("team".to_owned()), Some("v1".to_owned()));
        plan.context.declared = here.clone();
        plan.limits.declared.insert(LimitKind::Cost, here);
        plan.model.candidates = vec!["openai/gpt-5-nano".into()];
        plan.model.downgrade = None;
        plan
    }

    fn told(change: impl FnOnce(&mut Plan)) -> Vec<String> {
        let mut plan = governed();
        change(&mut plan);
        let denied = DeniedModels {
            model: "groq/*".to_owned(),
            reason: None,
            owner: Some("platform-team".to_owned()),
            declared: Declared::At { file: "plimsoll.toml".to_owned(), line: 9 },
        };
        let approvals = Approvals { denied: vec![denied], ..Approvals::default() };
        let stored = [StoredPrompt { stage: None, version: "v2".to_owned(), hash: "0123456789abcdef".to_owned() }];
        let against =
            Against { approvals: &approvals, book: PriceBook::builtin(), now: fixture::START, stored: &stored };
        lints(&plan, &against).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn every_lint_says_what_and_how_to_mend_it() {
        assert_eq!(told(|_| {}), [] as [String; 0], "an agent that says everything");
        let lines = [
            told(|plan| plan.model.candidates.insert(0, "openai/gpt-5".into())),
            told(|plan| plan.context.declared = Declared::Default),
            told(|plan| drop(plan.limits.declared.remove(&LimitKind::Cost))),
            told(|plan| plan.owner = None),
            told(|plan| plan.prompt.version = None),
            told(|plan| plan.prompt.version = Some("v2".to_owned())),
            told(|plan| plan.context.tokens = Tokens(400_000)),
            told(|plan| plan.model.after_filter = vec!["groq/llama".into()]),
        ];
        insta::assert_snapshot!(lines.concat().join("\n"));
    }

    #[test]
    fn a_policy_that_says_when_a_cheaper_model_is_enough_has_thought_of_it() {
        let to =
            |rules| DowngradePlan { policy: "economy".into(), candidates: vec!["openai/gpt-5-nano".into()], rules };
        let by_money = told(|plan| {
            plan.model.candidates = vec!["openai/gpt-5".into()];
            plan.model.downgrade = Some(to(DowngradeRules::default()));
        });
        assert!(by_money[0].contains(code::DEAREST_FIRST), "{by_money:?}");
        let by_rule = told(|plan| {
            plan.model.candidates = vec!["openai/gpt-5".into()];
            plan.model.downgrade = Some(to(DowngradeRules { at: Some(Share(9_000)), ..DowngradeRules::default() }));
        });
        assert_eq!(by_rule, [] as [String; 0]);
    }

    #[test]
    fn every_code_is_listed_in_the_docs() {
        let docs = include_str!("../../../../docs/errors.md");
        for code in code::ALL {
            assert!(docs.contains(&format!("`{code}`")), "{code} is missing in docs/errors.md");
        }
    }
}
