//! Stages that wait for a person's yes.

use super::Pass;
use crate::domain::run::stage::Lane;

impl Pass<'_> {
    pub(super) fn ask_approval(&mut self, lane: &Lane) {
        self.fail(lane.place.clone(), "stages of kind `approval` are not supported yet".to_owned());
    }
}
