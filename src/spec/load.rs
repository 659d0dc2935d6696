//! Finds a project and loads it: everything with all faults, or one agent with those that touch it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::domain::plan::{Plan, ToolPlan};
use crate::ids::AgentName;
use crate::spec::fault::{Faults, Source, code, suggest};
use crate::spec::files::{self, fault};
use crate::spec::names::{self, Providers};
use crate::spec::project::Project;
use crate::spec::{agent, configuration, reader, tool};

/// The file that makes a folder a project.
pub const PROJECT_FILE: &str = "plimsoll.toml";
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
    let (agents, tools) = (loader.list("agents"), loader.tools.names());
    tools.iter().for_each(|tool| loader.tools.load(&loader.root, tool));
    let mut plans = BTreeMap::new();
    for (name, path) in agents {
        let mut faults = Faults::new();
        if let Some(plan) = loader.agent(&name, &path, &mut faults) {
            plans.insert(AgentName::from(name), plan);
        }
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
    let agents = loader.list("agents");
    let Some(path) = agents.get(name) else {
        let message = format!("no agent `{}`", reader::one_line(name));
        let help = suggest(name, agents.keys().map(String::as_str), "there is no agent yet: `plimsoll init` makes one");
        let mut fault = fault(&loader.root, &loader.root.join("agents"), message, help);
        fault.code = code::UNKNOWN_NAME;
        loader.faults.push(fault);
        return Err(loader.faults.sorted());
    };
    let mut faults = Faults::new();
    let plan = loader.agent(name, path, &mut faults);
    loader.faults.extend(faults);
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
    faults: Faults,
}

impl Loader {
    /// Reads `plimsoll.toml` and lists the tools.
    fn open(folder: &Path, options: &LoadOptions) -> Self {
        let mut faults = Faults::new();
        let root = std::path::absolute(folder).map_or_else(|_| folder.to_owned(), |root| files::clean(&root));
        let (mut project, configuration) = read_configuration(&root, options.answering, &mut faults);
        if let Some(environment) = &options.environment {
            if !names::is_label_value(environment) {
                let help = "expected 1 to 256 printable characters";
                let message = "`PLIMSOLL_ENVIRONMENT` is no value of a label".to_owned();
                faults.push(fault(&root, &root.join(PROJECT_FILE), message, help));
            }
            project.environment.clone_from(environment);
        }
        let tools = files::list(&root, &root.join("tools")).unwrap_or_else(|fault| {
            faults.push(fault);
            BTreeMap::new()
        });
        let tools = Shelf { files: tools, loaded: BTreeMap::new() };
        Self { root, project, configuration, answering: options.answering, tools, faults }
    }

    fn list(&mut self, folder: &str) -> BTreeMap<String, PathBuf> {
        files::list(&self.root, &self.root.join(folder)).unwrap_or_else(|fault| {
            self.faults.push(fault);
            BTreeMap::new()
        })
    }

    /// Reads an agent; `None` where it or one of its tools is faulty.
    fn agent(&mut self, name: &str, path: &Path, faults: &mut Faults) -> Option<Plan> {
        let source = files::read(&self.root, path).map_err(|fault| faults.push(fault)).ok()?;
        let table = reader::parse(&source, faults)?;
        let surroundings = agent::Surroundings {
            root: &self.root,
            project: &self.project,
            providers: self.answering.known(&self.project.providers),
            configuration: self.configuration,
        };
        let plan = agent::resolve(&surroundings, &mut self.tools, name, &source, &table, faults);
        plan.filter(|_| faults.is_empty())
    }
}

fn read_configuration(root: &Path, answering: Answering, faults: &mut Faults) -> (Project, Configuration) {
    let path = root.join(PROJECT_FILE);
    let bare = configuration::bare(root);
    if !path.exists() {
        return (bare, Configuration::Whole);
    }
    let read = files::read(root, &path).map_err(|fault| faults.push(fault)).ok();
    let project = read.as_ref().and_then(|source: &Source| {
        let table = reader::parse(source, faults)?;
        Some(configuration::resolve(root, source, &table, answering, faults))
    });
    project.map_or((bare, Configuration::Unreadable), |project| (project, Configuration::Whole))
}

/// The tools of a project, each read once, when it is first named.
pub(crate) struct Shelf {
    files: BTreeMap<String, PathBuf>,
    loaded: BTreeMap<String, Loaded>,
}

struct Loaded {
    plan: Option<ToolPlan>,
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
