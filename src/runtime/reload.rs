//! Has agents follow their files: what changed is read again while runs go on.
//!
//! Invariants: a file that is wrong changes nothing but what is told of it, and its agents go on as they were; a run keeps the
//! plan that it began with; what a start alone reads of `plimsoll.toml`, such as budgets, stays as it was at the start.

mod watched;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::mpsc;
use toml::Table;

use super::{Changed, Runtime};
use crate::domain::plan::Plan;
use crate::ids::AgentName;
use crate::provider::check_key;
use crate::spec::fault::{Fault, Source, code};
use crate::spec::load::{LoadOptions, PROJECT_FILE, Survey, survey_project};
use crate::spec::project::Project;
use crate::units::Millis;
use watched::Watched;

/// How often files are looked at.
const LOOK: Millis = Millis::from_secs(1);
/// What of `plimsoll.toml` is in plans alone, and so counts at once.
const TAKEN_AT_ONCE: [&str; 3] = ["ceilings", "defaults", "policies"];
/// What plans rest on that only a start reads: as long as it is another, plans made by it would fit nothing here.
const HOLDS_BACK: [&str; 3] = ["models", "project", "providers"];

/// What became of the files when they were read again.
#[derive(Clone, Debug)]
pub struct Reloaded {
    /// Which agents are others now.
    pub changed: Changed,
    /// What is wrong.
    pub faults: Arc<[Fault]>,
}

/// Reads a project's files again, for a runtime.
pub struct Reload {
    runtime: Runtime,
    folder: PathBuf,
    options: LoadOptions,
    /// `plimsoll.toml` as the start read it.
    started: Table,
    watched: Watched,
}

impl Reload {
    /// Of the project that a runtime was opened with.
    #[must_use]
    pub fn new(runtime: Runtime, project: &Project, options: LoadOptions) -> Self {
        let folder = project.root.clone();
        let (started, watched) = (configuration(&folder), Watched::new(&folder));
        Self { runtime, folder, options, started, watched }
    }

    /// Looks at the files every second, and reads them again where some changed or somebody asks for it, until the last of
    /// those who ask is gone. Says what became of it.
    pub async fn follow(mut self, mut asked: mpsc::Receiver<()>, told: mpsc::Sender<Reloaded>) {
        let mut looks = tokio::time::interval(LOOK.duration());
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let is_asked = tokio::select! {
                asked = asked.recv() => match asked {
                    Some(()) => true,
                    None => return,
                },
                _ = looks.tick() => false,
            };
            let looked = tokio::task::spawn_blocking(move || {
                let is_due = self.watched.look() || is_asked;
                let reloaded = is_due.then(|| self.load());
                (self, reloaded)
            });
            let Ok((reload, reloaded)) = looked.await else { return };
            self = reload;
            if let Some(reloaded) = reloaded
                && told.send(reloaded).await.is_err()
            {
                return;
            }
        }
    }

    /// Reads all files again, whether they changed or not.
    pub fn load(&mut self) -> Reloaded {
        self.watched.read();
        let Survey { project, plans, faults } = survey_project(&self.folder, &self.options);
        let mut faults = faults.all().to_vec();
        let is_held_back = self.judge_configuration(&mut faults);
        let mut next: BTreeMap<AgentName, Arc<Plan>> = BTreeMap::new();
        if !is_held_back {
            for (name, plan) in plans {
                match self.judge_keys(&project, &plan) {
                    Ok(()) => drop(next.insert(name, Arc::new(plan))),
                    Err(fault) => faults.push(fault),
                }
            }
        }
        for plan in self.runtime.plans() {
            let is_there = || self.folder.join(file_of(&plan.agent)).is_file();
            if !next.contains_key(&plan.agent) && (is_held_back || is_there()) {
                next.insert(plan.agent.clone(), plan);
            }
        }
        let faults: Arc<[Fault]> = faults.into();
        let changed = self.runtime.configure(next, Arc::clone(&faults));
        Reloaded { changed, faults }
    }

    /// True where plans can't be taken as `plimsoll.toml` stands.
    fn judge_configuration(&self, faults: &mut Vec<Fault>) -> bool {
        if faults.iter().any(|fault| fault.file() == PROJECT_FILE) {
            return true;
        }
        let now = configuration(&self.folder);
        let names = self.started.keys().chain(now.keys().filter(|name| !self.started.contains_key(*name)));
        let changed = names.filter(|name| self.started.get(*name) != now.get(*name)).map(String::as_str);
        let (holding, later): (Vec<&str>, Vec<&str>) =
            changed.filter(|name| !TAKEN_AT_ONCE.contains(name)).partition(|name| HOLDS_BACK.contains(name));
        if !later.is_empty() {
            let message = format!("`{}` changed, and counts from the next start", later.join("`, `"));
            faults.push(of_configuration(code::NEXT_START, message, "start the service anew to have it count"));
        }
        if !holding.is_empty() {
            let message = format!("`{}` changed: agents stay as they are until the next start", holding.join("`, `"));
            faults.push(of_configuration(code::NEXT_START, message, "start the service anew, or change it back"));
        }
        !holding.is_empty()
    }

    /// A plan whose models can't be asked for want of a key isn't taken.
    fn judge_keys(&self, project: &Project, plan: &Plan) -> Result<(), Fault> {
        if self.runtime.0.simulated {
            return Ok(());
        }
        let providers = plan.model.models().into_iter().filter_map(|model| project.providers.get(&model.provider()));
        providers.map(check_key).find_map(Result::err).map_or(Ok(()), |error| {
            let source = Source::new(&file_of(&plan.agent), String::new());
            let help = "export it or mend that file, and start the service anew where it is a variable".to_owned();
            Err(source.fault(code::KEY_MISSING, 0..0, error.to_string(), help))
        })
    }
}

/// The sections of `plimsoll.toml`; none where it can't be read, which is a fault of its own.
fn configuration(folder: &std::path::Path) -> Table {
    let text = std::fs::read_to_string(folder.join(PROJECT_FILE)).unwrap_or_default();
    text.parse().unwrap_or_default()
}

fn of_configuration(code: &'static str, message: String, help: &str) -> Fault {
    Source::new(PROJECT_FILE, String::new()).fault(code, 0..0, message, help.to_owned())
}

fn file_of(agent: &AgentName) -> String {
    format!("agents/{agent}.toml")
}
