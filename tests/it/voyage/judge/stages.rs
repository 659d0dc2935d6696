//! Stages and items: each once, after what it needs, and with what its items gave in their order.

use plimsoll::domain::event::{MapBegan, Place, RateWaitBegan, StageEnd, StageEnded};
use plimsoll::ids::{ReservationId, RunId};
use serde_json::Value;

use super::{Judge, Open};

impl Judge {
    /// Something begins or goes on at a place: what its stage needs is over, and it isn't itself.
    pub(super) fn enter(&mut self, run: RunId, place: &Place) {
        let plan = self.known(run).plan.clone();
        let Some(stage) = plan.stage(&place.stage) else {
            return self.broken(format!("(11) {run} has no stage `{place}`"));
        };
        let known = self.known(run);
        let is_over = |stage| known.stages.get(stage).is_some_and(|book| book.over.contains_key(&None));
        let missing: Vec<_> = stage.needs.iter().filter(|need| !is_over(need)).collect();
        let what = format!("(18) `{place}` of {run} begins before {missing:?}");
        let is_ready = missing.is_empty();
        let book = known.stage(&place.stage);
        book.has_begun = true;
        let over = book.over.contains_key(&None) || book.over.contains_key(&place.item);
        let items = u32::try_from(book.items.unwrap_or_default()).expect("few");
        let is_item = place.item.is_none_or(|item| item < items);
        let is_new = place.item.is_some_and(|item| book.begun.insert(item));
        self.check(is_ready, || what);
        self.check(!over, || format!("(11) `{place}` of {run} goes on, and is over"));
        self.check(is_item, || format!("(11) `{place}` of {run} is none of {items} items"));
        if is_new {
            self.judge_map(run, place);
        }
    }

    /// Somebody works at a stage from here on: its time goes.
    pub(super) fn begin_work(&mut self, run: RunId, place: &Place) {
        let now = self.now;
        let known = self.known(run);
        let active = known.active_at(now);
        known.stage(&place.stage).began.get_or_insert(active);
    }

    /// Who waits for rates holds nothing.
    pub(super) fn begin_rate_wait(&mut self, run: RunId, began: &RateWaitBegan) {
        self.saw("rate wait");
        let place = &began.place;
        let holds = |(id, open): (&ReservationId, &Open)| {
            id.run == run && open.price.is_some() && place.item.is_none() && open.stage.as_ref() == Some(&place.stage)
        };
        let held = self.open.iter().any(holds);
        self.check(!held, || format!("(9) `{place}` of {run} waits for rates and holds money"));
        let book = self.known(run).stage(&place.stage);
        book.waited.extend(place.item);
    }

    /// Items begin in their order but for those that waited for rates, and as many at once as may.
    fn judge_map(&mut self, run: RunId, place: &Place) {
        let Some(item) = place.item else { return };
        let asks = self.has_open_asks(self.runs[&run].root);
        let known = self.known(run);
        let most = usize::try_from(known.plan.limits_of(&place.stage).parallel).expect("few");
        let book = known.stage(&place.stage);
        let later = book.begun.range(item + 1..).find(|later| !book.over.contains_key(&Some(**later))).copied();
        let under_way = book.begun.iter().filter(|item| !book.over.contains_key(&Some(**item))).count();
        let has_waited = book.waited.contains(&item);
        self.check(later.is_none() || has_waited, || format!("(16) `{place}` of {run} begins after item {later:?}"));
        self.check(asks || under_way <= most, || format!("(10) {under_way} items of `{place}` of {run} at once"));
    }

    pub(super) fn begin_map(&mut self, run: RunId, began: &MapBegan) {
        self.saw("map");
        self.enter(run, &Place::stage(began.stage.clone()));
        let again = self.known(run).stage(&began.stage).items.replace(began.items.len()).is_some();
        self.check(!again, || format!("(11) map `{}` of {run} begins twice", began.stage));
    }

    pub(super) fn end_stage(&mut self, run: RunId, ended: &StageEnded) {
        let place = &ended.place;
        self.saw(match (place.item.is_some(), ended.end) {
            (true, _) => "item over",
            (false, StageEnd::Finished) => "stage finished",
            (false, StageEnd::Skipped) => "stage skipped",
            (false, StageEnd::Failed) => "stage failed",
            (false, StageEnd::Stopped) => "stage stopped",
        });
        self.enter(run, place);
        let book = self.known(run).stage(&place.stage);
        let items = book.items.map(|items| {
            let gave = |item| book.over.get(&Some(item)).map_or(&Value::Null, |(_, output)| output).clone();
            let items = u32::try_from(items).expect("few");
            let missing = (0..items).filter(|item| !book.over.contains_key(&Some(*item))).count();
            (missing, Value::Array((0..items).map(gave).collect()))
        });
        book.over.insert(place.item, (ended.end, ended.output.clone()));
        if let Some((missing, gave)) = items.filter(|_| place.item.is_none() && ended.end == StageEnd::Finished) {
            self.check(missing == 0, || format!("(11) map `{place}` of {run} is over before {missing} items"));
            self.check(gave == ended.output, || {
                format!("(11) map `{place}` of {run} gives {}, not {gave}", ended.output)
            });
        }
    }
}
