//! Finds a project and loads it: everything with all faults, or one agent with those that touch it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::domain::plan::{Plan, ToolPlan};
use crate::ids::AgentName;
use crate::spec::fault::{Faults, Source, code, suggest};
use crate::spec::files::{self, fault};
use crate::spec::names::{self, Providers};
use crate::spec::prices;
use crate::spec::project::Project;
use crate::spec::{agent, configuration, reader, tool};

/// The file that makes a folder a project.
pub const PROJECT_FILE: &str = "plimsoll.toml";
/// The most agents below agents.
pub(crate) const NESTED_MAX: usize = 64;
/// The most folders that the search for a project goes up.
const PARENTS_MAX: usize = 64;

/// Who answers model calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answering {
    /// The providers that the project configures, or the simulated one where it configures none.
    Configured,
    /// The simulated provider, whatever the models are called (`--sim`).
    Simulated,
}

impl Answering {
    /// The providers that a model's name is checked against; none to check against means that all pass.
    pub(crate) fn known(self, providers: &Providers) -> Providers {
        match self {
            Self::Configured => providers.clone(),
            Self::Simulated => Providers::new(),
        }
    }
}

/// What loading depends on beside the files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadOptions {
    /// Who answers model calls.
    pub answering: Answering,
    /// The `environment` label, over that of `plimsoll.toml`: the value of `PLIMSOLL_ENVIRONMENT`.
    pub environment: Option<String>,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self { answering: Answering::Configured, environment: None }
    }
}

/// A project's folder: the one that is named, else `home` (`PLIMSOLL_HOME`), else the nearest from `current` upwards
/// that holds a `plimsoll.toml`, else `current` where it has `agents/`.
///
/// # Errors
/// A fault that says what was looked for.
pub fn find_project(named: Option<&Path>, home: Option<&Path>, current: &Path) -> Result<PathBuf, Faults> {
    if let Some(folder) = named.or(home) {
        let folder = files::clean(&current.join(folder));
        let way = if named.is_some() { "--project" } else { "PLIMSOLL_HOME" };
        return if folder.is_dir() {
            Ok(folder)
        } else {
            Err(no_project(&folder, &format!("`{way}` names no folder")))
        };
    }
    let holds_project = |folder: &&Path| folder.join(PROJECT_FILE).is_file();
    if let Some(folder) = current.ancestors().take(PARENTS_MAX).find(holds_project) {
        return Ok(folder.to_owned());
    }
    if current.join("agents").is_dir() {
        return Ok(current.to_owned());
    }
    Err(no_project(current, "no project here: neither a `plimsoll.toml` from here upwards, nor a folder `agents`"))
}

fn no_project(folder: &Path, message: &str) -> Faults {
    let help = "go to a project, name one with `--project DIR`, or make one with `plimsoll init`";
    let mut faults = Faults::new();
    faults.push(fault(Path::new(""), folder, message.to_owned(), help));
    faults
}

/// Everything of a project that is right, and everything that is wrong with it.
#[derive(Clone, Debug)]
pub struct Survey {
    /// `plimsoll.toml`; what is faulty in it is left out.
    pub project: Project,
    /// The agents without a fault of their own or of their tools.
    pub plans: BTreeMap<AgentName, Plan>,
    /// Every fault of every file.
    pub faults: Faults,
}

/// Looks at everything: what `check` prints.
#[must_use]
pub fn survey_project(folder: &Path, options: &LoadOptions) -> Survey {
    let mut loader = Loader::open(folder, options);
    let (agents, tools) = (loader.agents.names(), loader.tools.names());
    tools.iter().for_each(|tool| loader.tools.load(&loader.root, tool));
    agents.iter().for_each(|agent| loader.load(agent));
    let (loaded, mut plans) = (std::mem::take(&mut loader.agents.loaded), BTreeMap::new());
    for (name, Loaded { plan, faults }) in loaded {
        plans.extend(plan.map(|plan| (AgentName::from(name), Arc::unwrap_or_clone(plan))));
        loader.faults.extend(faults);
    }
    let mut faults = loader.faults;
    loader.tools.loaded.into_values().for_each(|loaded| faults.extend(loaded.faults));
    Survey { project: loader.project, plans, faults: faults.sorted() }
}

/// Loads a whole project.
///
/// # Errors
/// Every fault of every file.
pub fn load_project(folder: &Path, options: &LoadOptions) -> Result<(Project, BTreeMap<AgentName, Plan>), Faults> {
    let Survey { project, plans, faults } = survey_project(folder, options);
    faults.or(Some((project, plans)))
}

/// Loads `plimsoll.toml` alone: what commands need that run no agent.
///
/// # Errors
/// Every fault of that file.
pub fn load_configuration(folder: &Path, options: &LoadOptions) -> Result<Project, Faults> {
    let Loader { project, faults, .. } = Loader::open(folder, options);
    faults.or(Some(project))
}

/// Loads one agent by name, with the tools that it names. Other agents may be broken.
///
/// # Errors
/// The faults of `plimsoll.toml`, of the agent and of its tools; or that there is no such agent.
pub fn load_agent(folder: &Path, name: &str, options: &LoadOptions) -> Result<(Project, Plan), Faults> {
    let mut loader = Loader::open(folder, options);
    let agents = &loader.agents.files;
    if !agents.contains_key(name) {
        let message = format!("no agent `{}`", reader::one_line(name));
        let help = suggest(name, agents.keys().map(String::as_str), "there is no agent yet: `plimsoll init` makes one");
        let mut fault = fault(&loader.root, &loader.root.join("agents"), message, help);
        fault.code = code::UNKNOWN_NAME;
        loader.faults.push(fault);
        return Err(loader.faults.sorted());
    }
    loader.load(name);
    let plan = loader.agents.loaded.get(name).and_then(|loaded| loaded.plan.clone()).map(Arc::unwrap_or_clone);
    let loaded = std::mem::take(&mut loader.agents.loaded);
    loaded.into_values().for_each(|loaded| loader.faults.extend(loaded.faults));
    let mut faults = loader.faults;
    loader.tools.loaded.into_values().for_each(|loaded| faults.extend(loaded.faults));
    faults.or(plan.map(|plan| (loader.project, plan)))
}

/// Whether `plimsoll.toml` could be read, so that names are worth checking against it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Configuration {
    /// It could, or there is none.
    Whole,
    /// It couldn't: what it declares isn't known.
    Unreadable,
}

/// A project that is being loaded.
struct Loader {
    root: PathBuf,
    project: Project,
    configuration: Configuration,
    answering: Answering,
    tools: Shelf,
    agents: Roster,
    faults: Faults,
}

impl Loader {
    /// Reads `plimsoll.toml` and lists the tools.
    fn open(folder: &Path, options: &LoadOptions) -> Self {
        let mut faults = Faults::new();
        let root = std::path::absolute(folder).map_or_else(|_| folder.to_owned(), |root| files::clean(&root));
        let (mut project, configuration) = read_configuration(&root, options, &mut faults);
        project.imported = prices::imported(&root, &mut faults);
        if let Some(environment) = &options.environment {
            if !names::is_label_value(environment) {
                let help = "expected 1 to 256 printable characters";
                let message = "`PLIMSOLL_ENVIRONMENT` is no value of a label".to_owned();
                faults.push(fault(&root, &root.join(PROJECT_FILE), message, help));
            }
            project.environment.clone_from(environment);
        }
        let mut list = |folder: &str| {
            files::list(&root, &root.join(folder)).unwrap_or_else(|fault| {
                faults.push(fault);
                BTreeMap::new()
            })
        };
        let tools = Shelf { files: list("tools"), loaded: BTreeMap::new() };
        let agents = Roster { files: list("agents"), loaded: BTreeMap::new(), open: Vec::new() };
        Self { root, project, configuration, answering: options.answering, tools, agents, faults }
    }

    /// Reads an agent, once, after those that it names. It has no plan where it, one of those or a tool is faulty.
    fn load(&mut self, name: &str) {
        let is_known = self.agents.loaded.contains_key(name) || self.agents.open.iter().any(|open| open == name);
        if is_known || self.agents.open.len() > NESTED_MAX {
            return;
        }
        let Some(path) = self.agents.files.get(name).cloned() else { return };
        let mut faults = Faults::new();
        self.agents.open.push(name.to_owned());
        let plan = self.agent(name, &path, &mut faults).filter(|_| faults.is_empty());
        self.agents.open.pop();
        self.agents.loaded.insert(name.to_owned(), Loaded { plan: plan.map(Arc::new), faults });
    }

    fn agent(&mut self, name: &str, path: &Path, faults: &mut Faults) -> Option<Plan> {
        let source = files::read(&self.root, path).map_err(|fault| faults.push(fault)).ok()?;
        let table = reader::parse(&source, faults)?;
        agent::named(&source, &table).iter().for_each(|below| self.load(below));
        let surroundings = agent::Surroundings {
            root: &self.root,
            project: &self.project,
            providers: self.answering.known(&self.project.providers),
            agents: &self.agents,
            configuration: self.configuration,
        };
        agent::resolve(&surroundings, &mut self.tools, name, &source, &table, faults)
    }
}

fn read_configuration(root: &Path, options: &LoadOptions, faults: &mut Faults) -> (Project, Configuration) {
    let path = root.join(PROJECT_FILE);
    let bare = configuration::bare(root);
    if !path.exists() {
        return (bare, Configuration::Whole);
    }
    let read = files::read(root, &path).map_err(|fault| faults.push(fault)).ok();
    let project = read.as_ref().and_then(|source: &Source| {
        let table = reader::parse(source, faults)?;
        let how = (options.answering, options.environment.as_deref());
        Some(configuration::resolve(root, source, &table, how, faults))
    });
    project.map_or((bare, Configuration::Unreadable), |project| (project, Configuration::Whole))
}

/// The tools of a project, each read once, when it is first named.
pub(crate) struct Shelf {
    files: BTreeMap<String, PathBuf>,
    loaded: BTreeMap<String, Loaded<ToolPlan>>,
}

struct Loaded<P> {
    plan: Option<P>,
    faults: Faults,
}

/// What a tool's name leads to.
pub(crate) enum Found {
    /// A tool.
    Tool(Box<ToolPlan>),
    /// A tool whose file is faulty; its faults are told with the file.
    Faulty,
    /// Nothing; the nearest name, or what there is.
    Missing(String),
}

impl Shelf {
    /// A tool by its name.
    pub(crate) fn find(&mut self, root: &Path, name: &str) -> Found {
        if !self.files.contains_key(name) {
            return Found::Missing(suggest(
                name,
                self.files.keys().map(String::as_str),
                "there is no tool in `tools/`",
            ));
        }
        self.load(root, name);
        match self.loaded.get(name).and_then(|loaded| loaded.plan.clone()) {
            Some(plan) => Found::Tool(Box::new(plan)),
            None => Found::Faulty,
        }
    }

    fn names(&self) -> Vec<String> {
        self.files.keys().cloned().collect()
    }

    fn load(&mut self, root: &Path, name: &str) {
        if self.loaded.contains_key(name) {
            return;
        }
        let Some(path) = self.files.get(name) else { return };
        let mut faults = Faults::new();
        let plan = files::read(root, path).map_err(|fault| faults.push(fault)).ok().and_then(|source| {
            let table = reader::parse(&source, &mut faults)?;
            tool::resolve(root, name, &source, &table, &mut faults)
        });
        let plan = plan.filter(|_| faults.is_empty());
        self.loaded.insert(name.to_owned(), Loaded { plan, faults });
    }
}

/// The agents of a project, each read once, when it is first named.
pub(crate) struct Roster {
    files: BTreeMap<String, PathBuf>,
    loaded: BTreeMap<String, Loaded<Arc<Plan>>>,
    /// Those that are being read, each named by the one before it.
    open: Vec<String>,
}

/// What the name of an agent leads to, in another agent's file.
pub(crate) enum FoundAgent {
    /// An agent.
    Agent(Arc<Plan>),
    /// An agent whose file is faulty; its faults are told with the file.
    Faulty,
    /// Back to one that is being read; the files in words.
    Circle(String),
    /// Deeper than agents are nested.
    Deep,
    /// Nothing; the nearest name, or what there is.
    Missing(String),
}

impl Roster {
    /// An agent by its name.
    pub(crate) fn find(&self, name: &str) -> FoundAgent {
        if let Some(from) = self.open.iter().position(|open| open == name) {
            let files = self.open[from..].iter().map(String::as_str).chain([name]);
            let files: Vec<String> = files.map(|name| format!("agents/{name}.toml")).collect();
            return FoundAgent::Circle(files.join(" → "));
        }
        match self.loaded.get(name) {
            Some(Loaded { plan: Some(plan), .. }) => FoundAgent::Agent(Arc::clone(plan)),
            Some(Loaded { plan: None, .. }) => FoundAgent::Faulty,
            None if self.files.contains_key(name) => FoundAgent::Deep,
            None => FoundAgent::Missing(suggest(name, self.files.keys().map(String::as_str), "")),
        }
    }

    fn names(&self) -> Vec<String> {
        self.files.keys().cloned().collect()
    }
}
