//! `agents/*.toml` resolved into a [`Plan`].

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;
use toml::Spanned;
use toml::de::DeTable;

use crate::domain::caching::CacheMode;
use crate::domain::limits::{LimitKind, Limits};
use crate::domain::message::CacheTtl;
use crate::domain::plan::{
    Approval, CachePlan, ContextPlan, CountBy, DocumentsPlan, Overflow, PLAN_VERSION, Plan, RetryPlan, StageKind,
    StagePlan, ToolKind, ToolPlan,
};
use crate::ids::{AgentName, ModelName, StageName, ToolName};
use crate::spec::documents::bad_pattern;
use crate::spec::fault::{Faults, Source, code};
use crate::spec::json_schema;
use crate::spec::keys::agent::AGENT;
use crate::spec::limits::{declared, overlay};
use crate::spec::load::{Configuration, Found, FoundAgent, NESTED_MAX, Roster, Shelf};
use crate::spec::model;
use crate::spec::names::{self, NAME_FORM, Providers, is_label_value, is_name, unique};
use crate::spec::outcome;
use crate::spec::project::Project;
use crate::spec::prompt::{self, Texts};
use crate::spec::reader::{At, Node};
use crate::spec::readers;
use crate::spec::shape::TEXT;
use crate::spec::stage::{self, Around};
use crate::spec::template::{self, Exact, Names, Place};
use crate::spec::workflow::Workflow;
use crate::units::{Money, Tokens, grouped};

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
    /// The project's agents, those that this one names loaded.
    pub(crate) agents: &'a Roster,
    /// Whether `plimsoll.toml` could be read.
    pub(crate) configuration: Configuration,
}

/// The agents that a parsed file names.
pub(crate) fn named(source: &Source, table: &Spanned<DeTable<'_>>) -> Vec<String> {
    // The faults are told when the file is resolved.
    let node = Node::root(source, table, &AGENT, &mut Faults::new());
    stage::named(&node, "agents", "agent").into_iter().map(|name| name.value).collect()
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
    let mut tools = agent.tools(tools, &limits, faults);
    let agents = agent.agents(faults);
    if let (Some(tools), Some(agents)) = (&mut tools, &agents) {
        agent.offer(agents, &limits, tools, faults);
    }
    let input = json_schema::read(&agent.node, "input", faults);
    let (output, from) = json_schema::read_answer(&agent.node, "output", faults);
    let names = agent.names(input.as_ref());
    let outcome = outcome::resolve(&agent.node, output.as_ref(), &names, faults);
    let section = agent.node.section("prompt");
    let user = json_schema::default_user_template(input.as_ref());
    let default = Texts { system: "", user: &user };
    let prompt = prompt::resolve(surroundings.root, section.as_ref(), &names, default, faults);
    let order = agent.offered();
    let (no_tools, no_agents) = (BTreeMap::new(), BTreeMap::new());
    let around = Around {
        surroundings,
        tools: &order,
        names: &names,
        texts: prompt.as_ref().map_or(default, |prompt| Texts { system: &prompt.system, user: &prompt.user }),
        model: model.as_ref(),
        output: output.as_ref(),
        limits: &limits,
        tool_plans: tools.as_ref().unwrap_or(&no_tools),
        agents: agents.as_ref().unwrap_or(&no_agents),
    };
    let stages = agent.stages(&around, from.as_ref(), faults);
    let mut plan = Plan {
        version: PLAN_VERSION,
        agent: AgentName::from(name),
        description: agent.node.text("description").map(|text| text.value).unwrap_or_default(),
        owner: agent.label("owner", faults),
        feature: agent.label("feature", faults),
        unit: agent.label("unit", faults),
        model: model?,
        prompt: prompt?,
        input,
        output,
        limits,
        retry: agent.retry(),
        context,
        tools: tools?,
        stages,
        agents: agents?,
        output_from: from.map(|from| StageName::from(from.value)),
        documents: agent.documents(&names, faults),
        outcome,
        priority: agent.node.text("priority").and_then(|word| word.value.parse().ok()),
        files: Vec::new(),
    };
    plan.files = readers::own(surroundings, &agent.node, &plan, faults);
    Some(plan)
}

/// An agent file that is being resolved.
struct Agent<'a> {
    node: Node<'a>,
    surroundings: &'a Surroundings<'a>,
}

impl Agent<'_> {
    /// The names that the agent's own templates may use.
    fn names(&self, input: Option<&Value>) -> Names {
        match input {
            None if !self.node.has("input") => Names::default().with("input", TEXT),
            schema => Names::of_schema("input", schema),
        }
    }

    /// The stages of the file, or the one loop of a file without any.
    fn stages(&self, around: &Around<'_>, from: Option<&At<String>>, faults: &mut Faults) -> Vec<StagePlan> {
        let mut stages = stage::resolve(&self.node, around, from.map(|from| from.value.as_str()), faults);
        let workflow = Workflow {
            agent: &self.node,
            stages: &stages,
            agents: around.agents,
            tools: around.tool_plans,
            limits: around.limits,
            output: around.output,
            from,
        };
        workflow.check(faults);
        if stages.is_empty() {
            let kind = StageKind::Loop { tools: around.tools.to_vec(), call: None };
            let cache = cache(&self.node);
            stages.push(StagePlan { cache, ..StagePlan::new(StageName::from("main"), kind) });
        } else if self.node.has("cache") {
            let message = "the agent has stages, and a `[cache]` of its own".to_owned();
            let help = "say it for each stage that should have one: `[stage.cache]`";
            self.node.fault(faults, code::CONFLICT, &self.node.key_span("cache"), message, help);
        }
        stages
    }

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
        self.check_unique("tools", "the tool", faults);
        let names = stage::named(&self.node, "tools", "tool");
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
                    let help = match self.surroundings.agents.find(&name.value) {
                        FoundAgent::Missing(_) => help,
                        FoundAgent::Agent(_) | FoundAgent::Faulty | FoundAgent::Circle(_) | FoundAgent::Deep => {
                            "that is an agent: list it under `agents`, or run it by a stage of kind `agent`".to_owned()
                        }
                    };
                    self.node.fault(faults, code::UNKNOWN_NAME, &name.span, format!("no tool `{}`", name.value), help);
                }
            }
        }
        plans
    }

    fn check_unique(&self, key: &str, what: &str, faults: &mut Faults) {
        let nodes = self.node.sections("stage").into_iter().flat_map(|stage| [stage.section("each"), Some(stage)]);
        for node in nodes.flatten().chain([self.node.clone()]) {
            let names = node.texts(key).map(|names| names.value).unwrap_or_default();
            unique(&node, &names, what, faults);
        }
    }

    /// The agents that the file names, whole; `None` where one can't be had.
    fn agents(&self, faults: &mut Faults) -> Option<BTreeMap<AgentName, Arc<Plan>>> {
        self.check_unique("agents", "the agent", faults);
        let mut plans = Some(BTreeMap::new());
        for name in stage::named(&self.node, "agents", "agent") {
            let (code, message, help) = match self.surroundings.agents.find(&name.value) {
                FoundAgent::Agent(plan) => {
                    if let Some(plans) = &mut plans {
                        plans.insert(plan.agent.clone(), plan);
                    }
                    continue;
                }
                FoundAgent::Faulty => {
                    plans = None;
                    continue;
                }
                FoundAgent::Circle(files) => {
                    let message = format!("agents call each other in a circle: {files}");
                    (code::AGENT_CIRCLE, message, "take one of these calls out".to_owned())
                }
                FoundAgent::Deep => {
                    let message = format!("agents below agents, more than {NESTED_MAX} deep");
                    (code::IMPOSSIBLE, message, "call fewer in turn".to_owned())
                }
                FoundAgent::Missing(help) => (code::UNKNOWN_NAME, format!("no agent `{}`", name.value), help),
            };
            plans = None;
            self.node.fault(faults, code, &name.span, message, help);
        }
        plans
    }

    /// Makes tools of the agents that a model may call.
    fn offer(
        &self,
        agents: &BTreeMap<AgentName, Arc<Plan>>,
        limits: &Limits,
        tools: &mut BTreeMap<ToolName, ToolPlan>,
        faults: &mut Faults,
    ) {
        let stages = self.node.sections("stage");
        let nodes = stages.iter().flat_map(|stage| [Some(stage.clone()), stage.section("each")]).flatten();
        let lists = nodes.chain([self.node.clone()]).filter_map(|node| node.texts("agents"));
        for name in lists.flat_map(|names| names.value) {
            let Some(agent) = agents.get(&AgentName::from(name.value.as_str())) else { continue };
            let tool = ToolName::from(name.value.as_str());
            if tools.get(&tool).is_some_and(|tool| !matches!(tool.kind, ToolKind::Agent { .. })) {
                let message = format!("an agent and a tool are both called `{}`", name.value);
                self.node.fault(faults, code::CONFLICT, &name.span, message, "rename one of the files");
                continue;
            }
            if agent.input.as_ref().is_some_and(|schema| schema.get("type") != Some(&Value::from("object"))) {
                let message = format!("`{}` can't be called as a tool: its `[input]` describes no object", name.value);
                let help = "write `type = \"object\"` there, or leave `[input]` out for plain text";
                self.node.fault(faults, code::CONFLICT, &name.span, message, help);
                continue;
            }
            tools.insert(tool, as_tool(agent, limits));
        }
    }

    /// The tools and agents of a loop that names neither, in the order of the file.
    fn offered(&self) -> Vec<ToolName> {
        let lists = ["tools", "agents"].into_iter().filter_map(|key| self.node.texts(key));
        lists.flat_map(|names| names.value).map(|name| ToolName::from(name.value)).collect()
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
        let documents = match count("documents") {
            Some(documents) => documents,
            None if self.node.has("documents") => tokens / 4,
            None => 0,
        };
        let rest = tokens.saturating_sub(documents);
        let (history, tool_output) = match (count("history"), count("tool_output")) {
            (Some(history), Some(tool_output)) => (history, tool_output),
            (Some(history), None) => (history, (rest / 4).min(rest.saturating_sub(history) / 2)),
            (None, Some(tool_output)) => ((rest / 2).min(rest.saturating_sub(tool_output) / 2), tool_output),
            (None, None) => (rest / 2, rest / 4),
        };
        let pots = history.saturating_add(tool_output).saturating_add(documents);
        if let Some(node) = &node
            && pots >= tokens
        {
            let keys = ["tool_output", "history", "documents", "tokens"];
            let key = keys.into_iter().find(|key| node.has(key)).unwrap_or("tokens");
            let (sum, whole) = (grouped(pots), grouped(tokens));
            let message = format!("the pots take {sum} of {whole} tokens and leave nothing for instructions");
            node.fault(faults, code::CONFLICT, &node.span_of(key), message, "raise `tokens`, or make the pots smaller");
        }
        let overflow = match node.as_ref().and_then(|node| node.text("overflow")) {
            Some(word) if word.value == "refuse" => Overflow::Refuse,
            Some(word) if word.value == "summarise" => Overflow::Summarise,
            Some(_) | None => Overflow::Trim,
        };
        ContextPlan {
            tokens: Tokens(tokens),
            history: Tokens(history),
            documents: Tokens(documents),
            tool_output: Tokens(tool_output),
            overflow,
            declared: declared_or_default(node.as_ref()),
            summary_model: node.as_ref().and_then(|node| self.summary_model(node, overflow, faults)),
            cache: cache_mode(node.as_ref()),
            cache_ttl: cache_ttl(node.as_ref()),
            count: count_by(node.as_ref()),
        }
    }

    fn summary_model(&self, node: &Node<'_>, overflow: Overflow, faults: &mut Faults) -> Option<ModelName> {
        let name = node.text("summary_model")?;
        if overflow != Overflow::Summarise {
            let message = "`summary_model` is set, and nothing is summed up".to_owned();
            node.fault(faults, code::CONFLICT, &name.span, message, "write `overflow = \"summarise\"`, or take it out");
        }
        Some(names::model(node, &name, &self.surroundings.providers, faults))
    }

    /// Files below the project's folder, or texts of the input.
    fn documents(&self, names: &Names, faults: &mut Faults) -> Option<DocumentsPlan> {
        let node = self.node.section("documents")?;
        if let Some(expression) = node.text("from") {
            let place = Place { source: node.source, span: expression.span.clone(), exact: Exact::No };
            template::check_expression(&expression.value, &place, names, faults);
            if !expression.value.trim_start().starts_with("input") {
                let message = format!("`{}` names no texts of the input", expression.value);
                let help = "write an expression such as `input.documents`, or a list of patterns of files";
                node.fault(faults, code::BAD_VALUE, &expression.span, message, help);
            }
            return Some(DocumentsPlan::Input { expression: expression.value });
        }
        let patterns = node.texts("from")?.value;
        for pattern in &patterns {
            if let Some(help) = bad_pattern(&pattern.value) {
                let message = format!("`{}` is no pattern of files", pattern.value);
                node.fault(faults, code::BAD_VALUE, &pattern.span, message, help);
            }
        }
        let folder = self.surroundings.root.to_string_lossy().into_owned();
        Some(DocumentsPlan::Files { folder, patterns: patterns.into_iter().map(|pattern| pattern.value).collect() })
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
}

/// Whether providers are asked to keep beginnings; the reader has told of a word that is none.
fn cache_mode(node: Option<&Node<'_>>) -> CacheMode {
    match node.and_then(|node| node.text("cache")).map(|word| word.value).as_deref() {
        Some("off") => CacheMode::Off,
        Some("on") => CacheMode::On,
        Some(_) | None => CacheMode::Auto,
    }
}

fn count_by(node: Option<&Node<'_>>) -> CountBy {
    let by_provider = node.and_then(|node| node.text("count")).is_some_and(|word| word.value == "provider");
    if by_provider { CountBy::Provider } else { CountBy::Own }
}

fn cache_ttl(node: Option<&Node<'_>>) -> CacheTtl {
    let is_long = node.and_then(|node| node.text("cache_ttl")).is_some_and(|word| word.value == "long");
    if is_long { CacheTtl::Long } else { CacheTtl::Short }
}

/// How answers are kept, of a table that says so.
pub(crate) fn cache(node: &Node<'_>) -> Option<CachePlan> {
    let node = node.section("cache")?;
    Some(CachePlan { ttl: node.duration("ttl")?.value, share: node.boolean("share").unwrap_or(false) })
}

/// An agent as a tool that a model may call.
fn as_tool(agent: &Plan, limits: &Limits) -> ToolPlan {
    ToolPlan {
        name: ToolName::from(agent.agent.as_str()),
        description: if agent.description.is_empty() {
            format!("Gives work to `{}`", agent.agent)
        } else {
            agent.description.clone()
        },
        input: json_schema::as_arguments(agent.input.as_ref()),
        timeout: limits.wall_time,
        output_bytes: limits.output_bytes,
        idempotent: false,
        price: Money::ZERO,
        kind: ToolKind::Agent { agent: agent.agent.clone() },
        approval: Approval::Never,
    }
}

/// Where a table begins, or the default where there is none.
fn declared_or_default(node: Option<&Node<'_>>) -> crate::domain::limits::Declared {
    node.map_or(crate::domain::limits::Declared::Default, |node| declared(node.source, &node.span))
}
