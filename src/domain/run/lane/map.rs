//! Stages that do the same for each item of a list. Lanes open in the items' order, as places come free; what the items
//! gave is a list in the same order, however they were over.

use serde_json::Value;

use super::{Ending, Pass};
use crate::domain::event::{Event, MapBegan, Place, StageEnd, StageEnded};
use crate::domain::limits::{Declared, LimitKind, Refusal};
use crate::domain::plan::{OnError, StageKind, StagePlan};
use crate::domain::run::StageOver;
use crate::domain::run::stage::{Lane, LaneSlot, Stage, json_bytes};
use crate::domain::template;
use crate::units::grouped;

/// The most bytes, as JSON, of all items of a map, and of all that they give.
const MAP_BYTES_MAX: usize = 1 << 20;

impl Pass<'_> {
    /// The list is taken once: the fact keeps it.
    pub(super) fn begin_map(&mut self, lane: &Lane, over: &str) {
        let place = lane.place.clone();
        let items = match template::evaluate(over, &self.run.names_at(&place)) {
            Ok(Value::Array(items)) => items,
            Ok(other) => return self.fail(place, format!("`over` must give a list, and gives {}", kind_of(&other))),
            Err(error) => return self.fail(place, format!("`over` can't be told: {error}")),
        };
        if let Some(refusal) = self.are_too_many(&place, items.len()) {
            return self.stop(place, refusal, Value::Null);
        }
        let bytes: usize = items.iter().map(json_bytes).fold(0, usize::saturating_add);
        if bytes > MAP_BYTES_MAX {
            let error =
                format!("the items of `over` have {} bytes together; {MAP_BYTES_MAX} is the most", number(bytes));
            return self.fail(place, error);
        }
        if items.is_empty() {
            return self.over(place, StageEnd::Finished, Value::Array(items), None);
        }
        self.note(Event::MapBegan(MapBegan { stage: place.stage, items }));
    }

    fn are_too_many(&self, place: &Place, count: usize) -> Option<Refusal> {
        let limits = self.run.plan.limits_of(&place.stage);
        let is_more = u32::try_from(count).is_ok_and(|count| count <= limits.items);
        (!is_more).then(|| Refusal {
            limit: LimitKind::Items,
            subject: Some(format!("stage {place}")),
            value: limits.items.to_string(),
            observed: format!("`over` gives {} items", number(count)),
            declared: limits.declared(LimitKind::Items),
        })
    }

    pub(super) fn advance_map(&mut self, stage: &Stage, plan: &StagePlan) {
        let on_error = if let StageKind::Map { on_error, .. } = plan.kind { on_error } else { OnError::Fail };
        if let Some((index, over)) = stage.slots_over().find(|(_, over)| on_error.is_fail() && failed(over)) {
            // The others in flight are drained; nothing is started beside them.
            self.stop_children(Some(&stage.id), Ending::Cancelled);
            if self.run.is_stage_quiet(&stage.id) {
                self.note(Event::StageEnded(broken(stage, index, over)));
            }
            return;
        }
        if stage.slots().iter().all(|slot| matches!(slot, LaneSlot::Over(_))) {
            return self.over(Place::stage(stage.id.clone()), StageEnd::Finished, gave(stage), None);
        }
        self.advance_items(stage, plan);
    }

    fn advance_items(&mut self, stage: &Stage, plan: &StagePlan) {
        let parallel = usize::try_from(self.run.plan.limits_of(&stage.id).parallel).unwrap_or(usize::MAX);
        // Who waits for a person holds no place.
        let mut under_way = stage.lanes().filter(|lane| !lane.waits_for_a_person()).count();
        for (item, slot) in (0..).zip(stage.slots()) {
            match slot {
                LaneSlot::Open(lane) => self.advance_lane(lane, plan),
                LaneSlot::Waiting if under_way < parallel && !self.is_full() => {
                    under_way += 1;
                    let place = Place { stage: stage.id.clone(), item: Some(item) };
                    self.advance_lane(&Lane::new(place), plan);
                }
                LaneSlot::Waiting | LaneSlot::Over(_) => {}
            }
            if self.is_halted() || self.is_stopped_here() {
                return;
            }
        }
    }

    /// Whether what an item gives is more than the outputs of a map may have together.
    pub(super) fn is_too_much(&self, place: &Place, output: &Value) -> Option<Refusal> {
        place.item?;
        let run = self.run.id;
        let noted = self.notes.iter().filter_map(|note| match note {
            (by, Event::StageEnded(ended))
                if *by == run && ended.place.item.is_some() && ended.place.stage == place.stage =>
            {
                Some(json_bytes(&ended.output))
            }
            _ => None,
        });
        let before = self.run.stage(&place.stage).map_or(0, Stage::item_bytes);
        let bytes = noted.fold(before, usize::saturating_add).saturating_add(json_bytes(output));
        (bytes > MAP_BYTES_MAX && !output.is_null()).then(|| Refusal {
            limit: LimitKind::OutputBytes,
            subject: Some(format!("stage {place}")),
            value: format!("{} bytes for all items of a map", number(MAP_BYTES_MAX)),
            observed: format!("{} with this item's", number(bytes)),
            declared: Declared::Default,
        })
    }
}

const fn failed(over: &StageOver) -> bool {
    matches!(over.end, StageEnd::Failed | StageEnd::Stopped)
}

/// One item broke, and the map can't do without it. Stopped by a limit, it tells what the other items have for a landing.
fn broken(stage: &Stage, index: usize, over: &StageOver) -> StageEnded {
    let why = over.error.as_deref().unwrap_or("it failed");
    let is_stopped = over.refusal.is_some();
    StageEnded {
        place: Place::stage(stage.id.clone()),
        end: over.end,
        output: if is_stopped { gave(stage) } else { Value::Null },
        refusal: over.refusal.clone(),
        error: (!is_stopped).then(|| format!("item {index}: {why}")),
    }
}

/// What the items gave, in their order; null for one that gave nothing.
fn gave(stage: &Stage) -> Value {
    let output = |slot: &LaneSlot| match slot {
        LaneSlot::Over(over) => over.output.clone(),
        LaneSlot::Waiting | LaneSlot::Open(_) => Value::Null,
    };
    stage.slots().iter().map(output).collect()
}

fn number(count: usize) -> String {
    grouped(u64::try_from(count).unwrap_or(u64::MAX))
}

const fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing (null)",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
