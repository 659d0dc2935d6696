//! The files of a new run: bounded before anything else happens, kept with the run, and there again when it goes on.

use std::collections::{BTreeMap, BTreeSet};

use super::{Runtime, RuntimeError};
use crate::domain::event::Created;
use crate::domain::message::{FILES_BYTES_MAX, FILES_MAX, File, GivenFile};
use crate::domain::plan::Plan;
use crate::ids::{ModelName, ProviderName, RunId};
use crate::runtime::known::simulated_config;
use crate::spec::project::{Project, ProviderConfig};
use crate::units::{Tokens, grouped};

/// What is known of the models that may be given files.
pub(super) struct Readers {
    providers: BTreeMap<ProviderName, ProviderConfig>,
    /// For providers that only the simulated one stands in for.
    others: ProviderConfig,
}

impl Readers {
    pub(super) fn of(project: &Project) -> Self {
        let others = ProviderConfig { models: project.models.clone(), ..simulated_config("") };
        Self { providers: project.providers.clone(), others }
    }

    /// Files that were handed over, each with the most tokens that any model of the plan counts for it. A model that can't
    /// take one, or of which nobody knows what it counts, refuses them all: a fallback must not be the first to find out.
    pub(super) fn files(&self, plan: &Plan, given: &[GivenFile]) -> Result<Vec<File>, RuntimeError> {
        let failed = |(fault, help)| RuntimeError::Files { agent: plan.agent.clone(), fault, help };
        within_bounds(given).map_err(failed)?;
        given.iter().map(|file| self.bounded(plan, file).map_err(failed)).collect()
    }

    fn bounded(&self, plan: &Plan, file: &GivenFile) -> Result<File, (String, String)> {
        let counts = models_of(plan).into_iter().map(|model| self.counts(model, file));
        let most = counts.collect::<Result<Vec<Tokens>, _>>()?.into_iter().max().unwrap_or_default();
        File::bounded(file, most).map_err(|error| (error.to_string(), String::new()))
    }

    fn counts(&self, model: &ModelName, file: &GivenFile) -> Result<Tokens, (String, String)> {
        let config = self.providers.get(&model.provider()).unwrap_or(&self.others);
        let (media, abilities) = (file.media(), config.abilities(model));
        let (able, ability, key) = match media.is_image() {
            true => (abilities.images, "images", "image_tokens"),
            false => (abilities.documents, "documents", "document_tokens"),
        };
        let (name, media_name) = (file.name(), media.name());
        if able.is_no() {
            return Err((
                format!("`{model}` may be asked, and takes no {ability}: `{name}` is {media_name}"),
                format!("name models that do, or say `{ability} = true` under `[[models]]` if it takes them"),
            ));
        }
        config.file_tokens(model, media).ok_or_else(|| {
            (
                format!(
                    "`{model}` may be asked, and nobody knows how many tokens `{name}` ({media_name}) counts there"
                ),
                format!(
                    "say the most that one can count as `{key}` of `{model}` under `[[models]]`, or name other models"
                ),
            )
        })
    }
}

impl Runtime {
    /// Puts the bytes of a run's files back, as they were kept with it.
    pub(super) fn fetch_files(&self, run: RunId, created: &mut Created) -> Result<(), RuntimeError> {
        for file in &mut created.files {
            let kept = self.store().file(file.sha256())?;
            let whole = kept.and_then(|bytes| file.with_data(&bytes));
            *file = whole.ok_or_else(|| RuntimeError::FileMissing { run, file: file.name().to_owned() })?;
        }
        Ok(())
    }
}

fn within_bounds(given: &[GivenFile]) -> Result<(), (String, String)> {
    let bytes: u64 = given.iter().map(GivenFile::bytes).sum();
    if given.len() > FILES_MAX {
        let fault = format!("{} files go with the input, and a run takes {FILES_MAX}", given.len());
        return Err((fault, "give fewer, or give them to several runs".to_owned()));
    }
    if bytes > FILES_BYTES_MAX {
        let (all, most) = (grouped(bytes), grouped(FILES_BYTES_MAX));
        let fault = format!("the files have {all} bytes together, more than {most}");
        return Err((fault, "make them smaller, or give them to several runs".to_owned()));
    }
    Ok(())
}

/// Every model that may be sent what goes with the input. Sub-agents have inputs of their own.
fn models_of(plan: &Plan) -> BTreeSet<&ModelName> {
    let stages = plan.stages.iter().filter_map(|stage| stage.kind.call()?.model.as_ref());
    stages.chain([&plan.model]).flat_map(|model| model.models()).collect()
}
