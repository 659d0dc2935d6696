//! The bytes of a run's files: kept with the run, and there again when it goes on.

use std::sync::Arc;

use super::{Runtime, RuntimeError};
use crate::domain::event::Created;
use crate::domain::message::File;
use crate::domain::plan::Plan;
use crate::ids::RunId;

impl Runtime {
    /// Puts the bytes of a run's files back, as they were kept with it: those of its input, and those of its agent and of
    /// the agents below it.
    pub(super) fn fetch_files(&self, run: RunId, created: &mut Created, plan: &mut Plan) -> Result<(), RuntimeError> {
        for file in &mut created.files {
            *file = self.whole(run, file)?;
        }
        self.fetch_files_of(run, plan)
    }

    fn fetch_files_of(&self, run: RunId, plan: &mut Plan) -> Result<(), RuntimeError> {
        for file in &mut plan.files {
            *file = self.whole(run, file)?;
        }
        plan.agents.values_mut().try_for_each(|below| self.fetch_files_of(run, Arc::make_mut(below)))
    }

    fn whole(&self, run: RunId, file: &File) -> Result<File, RuntimeError> {
        let kept = self.store().file(file.sha256())?;
        let whole = kept.and_then(|bytes| file.with_data(&bytes));
        whole.ok_or_else(|| RuntimeError::FileMissing { run, file: file.name().to_owned() })
    }
}
