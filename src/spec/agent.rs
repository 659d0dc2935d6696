//! `agents/*.toml` resolved into a [`Plan`].

use std::collections::BTreeMap;
use std::path::Path;

use sha2::{Digest, Sha256};
use toml::Spanned;
use toml::de::DeTable;

use crate::domain::limits::{LimitKind, Limits};
use crate::domain::plan::{
    ContextPlan, Overflow, PLAN_VERSION, Plan, PromptPlan, RetryPlan, StageKind, StagePlan, ToolPlan, hex,
};
use crate::ids::{AgentName, StageName, ToolName};
use crate::spec::fault::{Faults, Source, code};
use crate::spec::files;
use crate::spec::json_schema;
use crate::spec::keys::agent::AGENT;
use crate::spec::limits::{declared, overlay};
use crate::spec::load::{Configuration, Found, Shelf};
use crate::spec::model;
use crate::spec::names::{NAME_FORM, Providers, is_label_value, is_name, unique};
use crate::spec::project::Project;
use crate::spec::reader::Node;
use crate::spec::stage::{self, Inherited};
use crate::spec::template::{self, Exact, Names, Place};
use crate::units::{Tokens, grouped};

/// Tokens of one request where the agent says nothing.
const CONTEXT_TOKENS: u64 = 32_000;

/// What an agent's file refers to.
pub(crate) struct Surroundings<'a> {
    /// The project's folder.
    pub(crate) root: &'a Path,
    /// `plimsoll.toml`.
    pub(crate) project: &'a Project,
    /// The providers that models are checked against.
    pub(crate) providers: Providers,
    /// Whether `plimsoll.toml` could be read.
    pub(crate) configuration: Configuration,
}

/// Resolves a parsed agent file. The plan is good only where no fault was added.
pub(crate) fn resolve(
    surroundings: &Surroundings<'_>,
    tools: &mut Shelf,
    name: &str,
    source: &Source,
    table: &Spanned<DeTable<'_>>,
    faults: &mut Faults,
) -> Option<Plan> {
    let node = Node::root(source, table, &AGENT, faults);
    if !is_name(name) {
        let help = format!("rename the file: {NAME_FORM}");
        node.fault(faults, code::BAD_NAME, &(0..0), format!("`{name}` is no name of an agent"), help);
    }
    let agent = Agent { node, surroundings };
    let project = surroundings.project;
    let limits = overlay(&project.defaults, agent.node.section("limits").as_ref(), &project.ceilings, faults);
    let model = model::resolve(&agent.node, surroundings, faults);
    let context = agent.context(faults);
    let limits = agent.fit_landing(limits, model.as_ref().map(|model| model.max_output_tokens), &context, faults);
    let tools = agent.tools(tools, &limits, faults);
    let input = json_schema::read(&agent.node, "input", faults);
    let output = json_schema::read(&agent.node, "output", faults);
    let names = Names::of_schema("input", input.as_ref());
    let section = agent.node.section("prompt");
    let user = json_schema::default_user_template(input.as_ref());
    let prompt = agent.prompt(section.as_ref(), &names, ("", &user), faults);
    let order = agent.tool_order(tools.as_ref()?);
    let prompt = prompt?;
    let inherited = Inherited { tools: &order, names: &names };
    let texts = (prompt.system.as_str(), prompt.user.as_str());
    let of_stage =
        |node: Option<&Node<'_>>, names: &Names, faults: &mut Faults| agent.prompt(node, names, texts, faults);
    let mut stages = stage::resolve(&agent.node, &inherited, of_stage, faults);
    if stages.is_empty() {
        stages.push(StagePlan::new(StageName::from("main"), StageKind::Loop { tools: order, call: None }));
    }
    Some(Plan {
        version: PLAN_VERSION,
        agent: AgentName::from(name),
        description: agent.node.text("description").map(|text| text.value).unwrap_or_default(),
        owner: agent.label("owner", faults),
        feature: agent.label("feature", faults),
        unit: agent.label("unit", faults),
        model: model?,
        prompt,
        input,
        output,
        limits,
        retry: agent.retry(),
        context,
        tools: tools?,
        stages,
        agents: BTreeMap::new(),
        output_from: None,
        documents: None,
    })
}

/// An agent file that is being resolved.
struct Agent<'a> {
    node: Node<'a>,
    surroundings: &'a Surroundings<'a>,
}

impl Agent<'_> {
    fn label(&self, key: &str, faults: &mut Faults) -> Option<String> {
        let text = self.node.text(key)?;
        if !is_label_value(&text.value) {
            let help = "expected up to 256 printable characters";
            self.node.fault(faults, code::BAD_VALUE, &text.span, format!("`{key}` is no value of a label"), help);
        }
        Some(text.value)
    }

    /// The agent's tools, each inside the agent's own limits; `None` where one can't be had.
    fn tools(&self, shelf: &mut Shelf, limits: &Limits, faults: &mut Faults) -> Option<BTreeMap<ToolName, ToolPlan>> {
        let mut names = self.node.texts("tools").map(|names| names.value).unwrap_or_default();
        unique(&self.node, &names, "the tool", faults);
        for of_stage in self.node.sections("stage").iter().filter_map(|stage| stage.texts("tools")) {
            for name in of_stage.value {
                if names.iter().all(|known| known.value != name.value) {
                    names.push(name);
                }
            }
        }
        let mut plans = Some(BTreeMap::new());
        for name in names {
            match shelf.find(self.surroundings.root, &name.value) {
                Found::Tool(mut plan) => {
                    plan.timeout = plan.timeout.min(limits.tool_call_time);
                    plan.output_bytes = plan.output_bytes.min(limits.output_bytes);
                    if let Some(plans) = &mut plans {
                        plans.insert(plan.name.clone(), *plan);
                    }
                }
                Found::Faulty => plans = None,
                Found::Missing(help) => {
                    plans = None;
                    self.node.fault(faults, code::UNKNOWN_NAME, &name.span, format!("no tool `{}`", name.value), help);
                }
            }
        }
        plans
    }

    /// The names of the tools, in the order of the file.
    fn tool_order(&self, plans: &BTreeMap<ToolName, ToolPlan>) -> Vec<ToolName> {
        let names = self.node.texts("tools").map(|names| names.value).unwrap_or_default();
        let names = names.into_iter().map(|name| ToolName::from(name.value));
        names.filter(|name| plans.contains_key(name)).collect()
    }

    fn retry(&self) -> RetryPlan {
        let Some(node) = self.node.section("retry") else { return RetryPlan::default() };
        let built_in = RetryPlan::default();
        let (backoff_min, backoff_max) =
            node.durations("backoff").unwrap_or((built_in.backoff_min, built_in.backoff_max));
        RetryPlan {
            attempts: node.count_u32("attempts").map_or(built_in.attempts, |count| count.value),
            backoff_min,
            backoff_max,
            retry_after_max: node.duration("retry_after").map_or(built_in.retry_after_max, |time| time.value),
        }
    }

    /// The context budget. A pot that is left out gets a share of what the other leaves.
    fn context(&self, faults: &mut Faults) -> ContextPlan {
        let node = self.node.section("context");
        let count = |key| node.as_ref().and_then(|node| node.count(key)).map(|count| count.value);
        let tokens = count("tokens").unwrap_or(CONTEXT_TOKENS);
        let (history, tool_output) = match (count("history"), count("tool_output")) {
            (Some(history), Some(tool_output)) => (history, tool_output),
            (Some(history), None) => (history, (tokens / 4).min(tokens.saturating_sub(history) / 2)),
            (None, Some(tool_output)) => ((tokens / 2).min(tokens.saturating_sub(tool_output) / 2), tool_output),
            (None, None) => (tokens / 2, tokens / 4),
        };
        if let Some(node) = &node
            && history.saturating_add(tool_output) >= tokens
        {
            let key = ["tool_output", "history", "tokens"].into_iter().find(|key| node.has(key)).unwrap_or("tokens");
            let (sum, whole) = (grouped(history.saturating_add(tool_output)), grouped(tokens));
            let message = format!("the pots take {sum} of {whole} tokens and leave nothing for instructions");
            node.fault(faults, code::CONFLICT, &node.span_of(key), message, "raise `tokens`, or make the pots smaller");
        }
        let refuses = node.as_ref().and_then(|node| node.text("overflow")).is_some_and(|word| word.value == "refuse");
        ContextPlan {
            tokens: Tokens(tokens),
            history: Tokens(history),
            documents: Tokens::ZERO,
            tool_output: Tokens(tool_output),
            overflow: if refuses { Overflow::Refuse } else { Overflow::Trim },
            declared: declared_or_default(node.as_ref()),
            summary_model: None,
        }
    }

    /// Brings the landing's defaults inside the agent's own sizes; reports what the author sets above them.
    fn fit_landing(
        &self,
        mut limits: Limits,
        max_output: Option<u32>,
        context: &ContextPlan,
        faults: &mut Faults,
    ) -> Limits {
        let node = self.node.section("limits");
        let context = u32::try_from(context.tokens.0).unwrap_or(u32::MAX);
        let sizes = [
            (LimitKind::LandingTokens, &mut limits.landing_tokens, context, "the context's `tokens`"),
            (
                LimitKind::LandingOutputTokens,
                &mut limits.landing_output_tokens,
                max_output.unwrap_or(u32::MAX),
                "`max_output_tokens`",
            ),
        ];
        for (kind, value, most, of) in sizes {
            if let Some(node) = &node
                && let Some(set) = node.count(kind.name()).filter(|set| set.value > u64::from(most))
            {
                let message = format!("`{kind}` is {}, above {of} of {}", grouped(set.value), grouped(most.into()));
                node.fault(faults, code::CONFLICT, &set.span, message, "lower it, or raise the other");
            }
            *value = most.min(*value);
        }
        limits
    }

    /// A prompt; what is left out is what stands there by default.
    fn prompt(
        &self,
        node: Option<&Node<'_>>,
        names: &Names,
        (default_system, default_user): (&str, &str),
        faults: &mut Faults,
    ) -> Option<PromptPlan> {
        let (system, user) = match node {
            Some(node) => (
                self.prompt_text(node, "system", "system_file", names, faults),
                self.prompt_text(node, "user", "user_file", names, faults),
            ),
            None => (Ok(None), Ok(None)),
        };
        let system = system.ok()?.unwrap_or_else(|| default_system.to_owned());
        let user = user.ok()?.unwrap_or_else(|| default_user.to_owned());
        let version = node.and_then(|node| node.text("version")).map(|version| version.value);
        // Lengths keep the two texts apart: no shift of words between them gives the same hash.
        let hashed = Sha256::new().chain_update(system.len().to_le_bytes()).chain_update(&system).chain_update(&user);
        let hash = hex(&hashed.finalize()).chars().take(16).collect();
        Some(PromptPlan { version, hash, system, user })
    }

    /// A text of the prompt, in the file itself or in one that it names. `Err` after a fault that leaves no text.
    fn prompt_text(
        &self,
        node: &Node<'_>,
        key: &str,
        file_key: &str,
        names: &Names,
        faults: &mut Faults,
    ) -> Result<Option<String>, ()> {
        let (text, file) = (node.text(key), node.text(file_key));
        if text.is_some()
            && let Some(file) = &file
        {
            let message = format!("`{file_key}` and `{key}` are both there");
            node.fault(faults, code::CONFLICT, &file.span, message, "keep one of them");
        }
        if let Some(text) = text {
            let place = Place { source: node.source, span: text.span.clone(), exact: Exact::No };
            template::check(&text.value, &place, names, faults);
            return Ok(Some(text.value));
        }
        let Some(file) = file else { return Ok(None) };
        let folders = [self.surroundings.root.to_owned(), self.surroundings.root.join("agents")];
        let paths = folders.map(|folder| files::clean(&folder.join(&file.value)));
        let Some(path) = paths.iter().find(|path| path.is_file()) else {
            let help = "files are relative to the project, or else to `agents/`";
            node.fault(faults, code::FILE, &file.span, format!("no file `{}`", file.value), help);
            return Err(());
        };
        let source = files::read(self.surroundings.root, path).map_err(|fault| faults.push(fault))?;
        let place = Place { source: &source, span: 0..source.text().len(), exact: Exact::Yes };
        template::check(source.text(), &place, names, faults);
        Ok(Some(source.text().to_owned()))
    }
}

/// Where a table begins, or the default where there is none.
fn declared_or_default(node: Option<&Node<'_>>) -> crate::domain::limits::Declared {
    node.map_or(crate::domain::limits::Declared::Default, |node| declared(node.source, &node.span))
}
