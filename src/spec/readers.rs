//! Who reads the files of an agent or of an input, and what they count there: bounded before anything else happens.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::message::{FILE_BYTES_MAX, FILES_BYTES_MAX, FILES_MAX, File, GivenFile};
use crate::domain::plan::Plan;
use crate::ids::{ModelName, ProviderName};
use crate::spec::agent::Surroundings;
use crate::spec::fault::{Faults, code};
use crate::spec::files;
use crate::spec::names::unique;
use crate::spec::project::{Project, ProviderConfig, Wire};
use crate::spec::reader::{At, Node};
use crate::units::{Tokens, grouped};

/// What is known of the models that may be given files.
#[derive(Clone, Debug)]
pub struct Readers {
    providers: BTreeMap<ProviderName, ProviderConfig>,
    /// For providers that only the simulated one stands in for.
    others: ProviderConfig,
}

/// Why files can't go to an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unread {
    /// What is wrong.
    pub fault: String,
    /// How to mend it; may be empty.
    pub help: String,
}

impl Readers {
    /// Those of a project.
    #[must_use]
    pub fn of(project: &Project) -> Self {
        let plain = ProviderConfig::plain("simulated", Wire::OpenAiChat, "");
        let others = ProviderConfig { models: project.models.clone(), ..plain };
        Self { providers: project.providers.clone(), others }
    }

    /// Files that go with an input, beside those of the agent's own, each with the most tokens that any model of the plan
    /// counts for it. A model that can't take one, or of which nobody knows what it counts, refuses them all: a fallback
    /// must not be the first to find out.
    ///
    /// # Errors
    /// The first thing that is wrong with them.
    pub fn files(&self, plan: &Plan, given: &[GivenFile]) -> Result<Vec<File>, Unread> {
        let own = plan.files.iter().map(File::bytes);
        within_bounds(own.chain(given.iter().map(GivenFile::bytes)))?;
        given.iter().map(|file| self.bounded(plan, file)).collect()
    }

    /// One of them.
    ///
    /// # Errors
    /// A model of the plan doesn't take it, or nobody knows what it counts there.
    pub fn bounded(&self, plan: &Plan, file: &GivenFile) -> Result<File, Unread> {
        let counts = models_of(plan).into_iter().map(|model| self.counts(model, file));
        let most = counts.collect::<Result<Vec<Tokens>, _>>()?.into_iter().max().unwrap_or_default();
        File::bounded(file, most).map_err(|error| Unread { fault: error.to_string(), help: String::new() })
    }

    /// One that the agent's own file names; `None` after a fault.
    fn own_file(
        &self,
        around: &Surroundings<'_>,
        node: &Node<'_>,
        (plan, name): (&Plan, &At<String>),
        faults: &mut Faults,
    ) -> Option<File> {
        let path = files::named(around.root, node, name, faults)?;
        let most = u64::try_from(FILE_BYTES_MAX).unwrap_or(u64::MAX);
        let read = files::bytes(&path, most).map_err(|error| {
            let help = "check that the file may be read";
            (code::FILE, format!("can't read `{}`: {error}", name.value), help.to_owned())
        });
        let given = read.and_then(|bytes| {
            let called =
                path.file_name().map_or_else(|| name.value.clone(), |name| name.to_string_lossy().into_owned());
            let given = GivenFile::of(&called, &bytes);
            given.map_err(|error| (code::BAD_VALUE, error.to_string(), error.help().to_owned()))
        });
        let bounded = given.and_then(|given| {
            self.bounded(plan, &given).map_err(|Unread { fault, help }| (code::IMPOSSIBLE, fault, help))
        });
        bounded.map_err(|(code, message, help)| node.fault(faults, code, &name.span, message, help)).ok()
    }

    fn counts(&self, model: &ModelName, file: &GivenFile) -> Result<Tokens, Unread> {
        let config = self.providers.get(&model.provider()).unwrap_or(&self.others);
        let (media, abilities) = (file.media(), config.abilities(model));
        let (able, ability, key) = match media.is_image() {
            true => (abilities.images, "images", "image_tokens"),
            false => (abilities.documents, "documents", "document_tokens"),
        };
        let (name, media_name) = (file.name(), media.name());
        if able.is_no() {
            return Err(Unread {
                fault: format!("`{model}` may be asked, and takes no {ability}: `{name}` is {media_name}"),
                help: format!("name models that do, or say `{ability} = true` under `[[models]]` if it takes them"),
            });
        }
        config.file_tokens(model, media).ok_or_else(|| Unread {
            fault: format!(
                "`{model}` may be asked, and nobody knows how many tokens `{name}` ({media_name}) counts there"
            ),
            help: format!(
                "say the most that one can count as `{key}` of `{model}` under `[[models]]`, or name other models"
            ),
        })
    }
}

/// The files that an agent's file names.
pub(crate) fn own(around: &Surroundings<'_>, node: &Node<'_>, plan: &Plan, faults: &mut Faults) -> Vec<File> {
    let Some(names) = node.texts("files") else { return Vec::new() };
    unique(node, &names.value, "the file", faults);
    let readers = Readers::of(around.project);
    let read = names.value.iter().filter_map(|name| readers.own_file(around, node, (plan, name), faults));
    let files: Vec<File> = read.collect();
    let tokens: Tokens = files.iter().map(File::tokens).sum();
    if let Err(Unread { fault, help }) = within_bounds(files.iter().map(File::bytes)) {
        node.fault(faults, code::BAD_VALUE, &names.span, fault, help);
    } else if tokens >= plan.context.tokens {
        let message = format!("the files may count {tokens} tokens, and `context.tokens` is {}", plan.context.tokens);
        let help = "raise `tokens` under `[context]`, or take files out: they are never cut";
        node.fault(faults, code::CONFLICT, &names.span, message, help);
    }
    files
}

/// All files of one run, by their bytes.
fn within_bounds(files: impl Iterator<Item = u64>) -> Result<(), Unread> {
    let (count, bytes) = files.fold((0_usize, 0_u64), |(count, all), bytes| (count + 1, all.saturating_add(bytes)));
    if count > FILES_MAX {
        let fault = format!("{count} files go with the input, and a run takes {FILES_MAX}");
        return Err(Unread { fault, help: "give fewer, or give them to several runs".to_owned() });
    }
    if bytes > FILES_BYTES_MAX {
        let (all, most) = (grouped(bytes), grouped(FILES_BYTES_MAX));
        let fault = format!("the files have {all} bytes together, more than {most}");
        return Err(Unread { fault, help: "make them smaller, or give them to several runs".to_owned() });
    }
    Ok(())
}

/// Every model that may be sent what goes with the input. Sub-agents have inputs of their own.
fn models_of(plan: &Plan) -> BTreeSet<&ModelName> {
    let stages = plan.stages.iter().filter_map(|stage| stage.kind.call()?.model.as_ref());
    stages.chain([&plan.model]).flat_map(|model| model.models()).collect()
}
