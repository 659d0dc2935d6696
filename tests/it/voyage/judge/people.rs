//! Questions: each answered at most once, and by nobody after its time (17).

use plimsoll::domain::event::{AskKind, Decision, Parked, PersonAnswered, PersonAsked, RunState, Spent};
use plimsoll::ids::RunId;
use plimsoll::units::Timestamp;

use super::Judge;
use super::known::AskBook;
use super::times::SLACK;

/// A question that nobody has answered.
pub(in crate::voyage) struct OpenAsk {
    pub(in crate::voyage) root: RunId,
    pub(in crate::voyage) run: RunId,
    pub(in crate::voyage) ask: u32,
    pub(in crate::voyage) until: Timestamp,
    pub(in crate::voyage) hash: Option<String>,
}

impl Judge {
    /// The questions of all trees that nobody has answered.
    pub(in crate::voyage) fn open_asks(&self) -> Vec<OpenAsk> {
        let of_run = |(run, known): (&RunId, &super::Known)| {
            let (run, root) = (*run, known.root);
            let asks = (0..).zip(&known.asks).filter(|(_, book)| !book.answered);
            asks.map(|(ask, book)| OpenAsk { root, run, ask, until: book.until, hash: book.hash.clone() })
                .collect::<Vec<_>>()
        };
        self.runs.iter().filter(|(_, known)| !known.state.is_ended()).flat_map(of_run).collect()
    }

    pub(super) fn has_open_asks(&self, root: RunId) -> bool {
        self.open_asks().iter().any(|ask| ask.root == root)
    }

    pub(super) fn ask(&mut self, run: RunId, at: Timestamp, asked: &PersonAsked) {
        self.saw("person asked");
        let Some((kind, until)) = asked.what.zip(asked.until) else {
            return self.broken(format!("(17) {run} asks as in version 1"));
        };
        if let Some(place) = &asked.place {
            self.enter(run, place);
            self.begin_work(run, place);
        }
        let known = self.known(run);
        let number = u32::try_from(known.asks.len()).expect("few");
        let limits = asked.place.as_ref().map_or(&known.plan.limits, |place| known.plan.limits_of(&place.stage));
        let latest = at.after(limits.expires);
        known.asks.push(AskBook { until, hash: asked.shown_hash.clone(), answered: false });
        self.check(asked.ask == Some(number), || format!("(17) {run} asks with number {:?}, not {number}", asked.ask));
        self.check(until <= latest, || format!("(17) question {number} of {run} is open until {until}, not {latest}"));
        if kind == AskKind::Input
            && let Some(place) = &asked.place
        {
            self.spend(run, &place.stage, &Spent { steps: 1, tool_calls: 1, ..Spent::default() });
        }
    }

    pub(super) fn answer(&mut self, run: RunId, at: Timestamp, answered: &PersonAnswered) {
        let expired = answered.decision == Decision::Expired;
        self.saw(match &answered.decision {
            Decision::Allow { edited: None } => "person allowed",
            Decision::Allow { edited: Some(_) } => "person edited",
            Decision::Deny => "person denied",
            Decision::Answer { .. } => "person answered",
            Decision::Expired => "person too late",
        });
        let known = self.known(run);
        let number = answered.ask.and_then(|ask| usize::try_from(ask).ok());
        let Some(book) = number.and_then(|number| known.asks.get_mut(number)) else {
            return self.broken(format!("(17) {run} is answered what it didn't ask: {answered:?}"));
        };
        let again = std::mem::replace(&mut book.answered, true);
        let (until, same) = (book.until, book.hash == answered.shown_hash);
        if known.state.awaits_person() {
            known.state = RunState::Interrupted;
        }
        self.check(!again, || format!("(17) {run} is answered twice: {answered:?}"));
        self.check(same, || format!("(17) {run} is answered for something else: {answered:?}"));
        let in_time = if expired { until <= at.after(SLACK) } else { at < until.after(SLACK) };
        self.check(in_time, || format!("(17) {run} is answered at {at}, asked until {until}: {answered:?}"));
    }

    /// Only people can move it, and it says until when.
    pub(super) fn park(&mut self, run: RunId, parked: Parked) {
        self.saw("parked");
        let root = self.known(run).root;
        let first = self.open_asks().into_iter().filter(|ask| ask.root == root).map(|ask| ask.until).min();
        self.rest(run, parked.state);
        // Of what nobody was told the order between logs isn't known.
        let is_so = self.catching_up || first == Some(parked.until);
        self.check(is_so, || format!("(17) {run} is parked by {parked:?}, and asks {first:?}"));
    }

    /// When the first question of a tree isn't open any more.
    pub(in crate::voyage) fn asks_until(&self, root: RunId) -> Option<Timestamp> {
        self.open_asks().into_iter().filter(|ask| ask.root == root).map(|ask| ask.until).min()
    }
}
