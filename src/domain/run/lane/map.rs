//! Stages that do the same for each item of a list.

use super::Pass;
use crate::domain::run::stage::Lane;

impl Pass<'_> {
    pub(super) fn begin_map(&mut self, lane: &Lane) {
        self.fail(lane.place.clone(), "stages of kind `map` are not supported yet".to_owned());
    }
}
