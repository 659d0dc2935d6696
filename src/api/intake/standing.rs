//! Where each run stands that the intake knows of: in line, driven, or aside: for as long as a switch holds it, or for a
//! while, since it only waited for money.
//!
//! Invariants: a run stands in one place; who looks at one hears when it has none any more.

use std::collections::{BTreeMap, BTreeSet};

use tokio::sync::watch;

use super::queue::{Full, Kin, Place, Queue};
use crate::domain::switch::{SwitchKind, SwitchScope, Switches};
use crate::ids::RunId;
use crate::runtime::Left;

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Standing {
    queue: Queue,
    known: BTreeMap<RunId, Known>,
    /// Those that stand aside.
    aside: BTreeMap<RunId, Aside>,
    /// Those that stand aside since they would only wait for money, oldest first.
    short: BTreeMap<RunId, Place>,
    /// The switches that end runs, when those aside were looked at last.
    kills: Kills,
}

/// Switches that end runs.
type Kills = BTreeSet<SwitchScope>;

/// One that a switch holds.
#[derive(Debug)]
struct Aside {
    /// What puts it back in line.
    place: Place,
    /// What holds it.
    scope: SwitchScope,
    /// What could end runs, and didn't end it.
    kills: Kills,
}

/// One that stands somewhere.
#[derive(Debug)]
struct Known {
    /// Who looks at it hears its end when this is dropped.
    heard: watch::Sender<()>,
    is_driven: bool,
    /// The switches that end runs, when it was driven last.
    kills: Kills,
    /// Somebody wants it to go on, while a drive may be leaving it.
    again: bool,
}

impl Standing {
    /// How many wait in line, or will again.
    pub(super) fn waiting(&self) -> usize {
        self.queue.len() + self.short.len()
    }

    /// How many a switch holds.
    pub(super) fn held(&self) -> usize {
        self.aside.len()
    }

    /// See [`Queue::keep`]. Those who come back have their places there.
    pub(super) fn keep(&mut self, tenant: &str, most: usize) -> Result<(), Full> {
        let own = self.short.values().filter(|place| place.tenant() == tenant).count();
        self.queue.keep(tenant, most.saturating_sub(self.short.len()), own)
    }

    /// See [`Queue::give_back`].
    pub(super) fn give_back(&mut self, tenant: &str) {
        self.queue.give_back(tenant);
    }

    /// As [`Self::put`]; one that is driven comes again when that is over.
    pub(super) fn want(&mut self, place: Place, run: RunId) -> bool {
        if let Some(known) = self.known.get_mut(&run) {
            known.again |= known.is_driven;
        }
        self.put(place, run)
    }

    /// Puts a run in line that stands nowhere. True where it joined.
    pub(super) fn put(&mut self, place: Place, run: RunId) -> bool {
        if self.known.contains_key(&run) {
            return false;
        }
        self.known
            .insert(run, Known { heard: watch::Sender::new(()), is_driven: false, kills: Kills::new(), again: false });
        self.queue.put(place, run);
        true
    }

    /// Takes the next out of the line, to be driven.
    pub(super) fn next(&mut self) -> Option<(Place, RunId)> {
        let (place, run) = self.queue.take()?;
        if let Some(known) = self.known.get_mut(&run) {
            known.is_driven = true;
            known.kills.clone_from(&self.kills);
        }
        Some((place, run))
    }

    /// A drive is over; one that a switch holds stands aside, unless another may end it since. True where it stands in line
    /// again.
    pub(super) fn over(&mut self, place: Place, run: RunId, left: Option<&Left>) -> bool {
        let Some(known) = self.known.get_mut(&run) else { return false };
        known.is_driven = false;
        let (again, kills) = (std::mem::take(&mut known.again), std::mem::take(&mut known.kills));
        let comes_again = match left {
            Some(Left::Held(_)) => !self.kills.is_subset(&kills),
            Some(Left::Queued) => false,
            None => again,
        };
        match left {
            _ if comes_again => self.queue.put(place, run),
            Some(Left::Held(scope)) => {
                drop(self.aside.insert(run, Aside { place, scope: scope.clone(), kills }));
            }
            Some(Left::Queued) => drop(self.short.insert(run, place)),
            None => drop(self.known.remove(&run)),
        }
        comes_again
    }

    /// True where somebody stands in line who, as far as is known, doesn't wait for the same money as this one, nor for that of
    /// others who stand aside for it.
    pub(super) fn others_could_begin(&self, place: &Place) -> bool {
        let short: BTreeSet<Kin> = self.short.values().chain([place]).map(Place::kin).collect();
        self.queue.kins().any(|kin| !short.contains(kin))
    }

    /// Puts those back at the head of their lines that waited for money: where nobody else could begin, or their time has
    /// come. How many.
    pub(super) fn look_at_short(&mut self, in_time: bool) -> usize {
        let Some(first) = self.short.values().next() else { return 0 };
        if !in_time && self.others_could_begin(first) {
            return 0;
        }
        let short = std::mem::take(&mut self.short);
        let count = short.len();
        // The oldest comes to stand before the others.
        short.into_iter().rev().for_each(|(run, place)| self.queue.put_back(place, run));
        count
    }

    /// Puts those back in line that nothing holds any more, or that a switch may end now; how many.
    pub(super) fn look(&mut self, switches: &Switches) -> usize {
        self.kills =
            switches.iter().filter(|(_, set)| set.kind == SwitchKind::Kill).map(|(scope, _)| scope.clone()).collect();
        // One that was lifted, and is set again, is another.
        let known = self.known.values_mut().map(|known| &mut known.kills);
        for seen in known.chain(self.aside.values_mut().map(|aside| &mut aside.kills)) {
            seen.retain(|scope| self.kills.contains(scope));
        }
        let holds = |scope: &SwitchScope| switches.get(scope).is_some_and(|set| set.kind == SwitchKind::Pause);
        let is_free = |aside: &Aside| !holds(&aside.scope) || !self.kills.is_subset(&aside.kills);
        let free: Vec<RunId> = self.aside.iter().filter(|(_, aside)| is_free(aside)).map(|(run, _)| *run).collect();
        for run in &free {
            if let Some(Aside { place, .. }) = self.aside.remove(run) {
                self.queue.put(place, *run);
            }
        }
        free.len()
    }

    /// Forgets one that stands aside: it has ended.
    pub(super) fn forget(&mut self, run: RunId) {
        if self.aside.remove(&run).is_some() || self.short.remove(&run).is_some() {
            self.known.remove(&run);
        }
    }

    /// Hears when a run stands nowhere any more; nothing where it does already.
    pub(super) fn listen(&self, run: RunId) -> Option<watch::Receiver<()>> {
        self.known.get(&run).map(|known| known.heard.subscribe())
    }

    /// Who waits for one that never began hears that it won't, here.
    pub(super) fn close(&mut self) {
        self.known.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::audit::{AuditEntry, Author, Change};
    use crate::domain::event::Labels;
    use crate::domain::switch::{SwitchLifted, SwitchSet};
    use crate::units::Timestamp;

    fn place() -> Place {
        Place::of(&Labels::new())
    }

    fn scope(text: &str) -> SwitchScope {
        text.parse().expect("a scope")
    }

    fn held(text: &str) -> Left {
        Left::Held(scope(text))
    }

    fn change(switches: &mut Switches, change: Change) {
        switches.apply(&AuditEntry { number: 0, at: Timestamp(1), by: Author::Person("ann".into()), change });
    }

    fn set(switches: &mut Switches, text: &str, switch: SwitchKind) {
        change(switches, Change::SwitchSet(SwitchSet { scope: scope(text), switch, reason: "odd".into() }));
    }

    #[test]
    fn one_that_a_switch_holds_stands_aside_until_that_is_lifted_or_another_ends_it() {
        let (mut standing, mut switches, run) = (Standing::default(), Switches::default(), RunId::from_bits(1));
        set(&mut switches, "feature=x", SwitchKind::Pause);
        assert!(standing.put(place(), run));
        let heard = standing.listen(run).expect("it stands in line");
        let (taken, _) = standing.next().expect("its turn");
        assert!(!standing.over(taken, run, Some(&held("feature=x"))) && !standing.put(place(), run));
        assert_eq!((standing.waiting(), standing.held(), standing.look(&switches)), (0, 1, 0));
        set(&mut switches, "all", SwitchKind::Kill);
        assert_eq!((standing.look(&switches), standing.look(&switches), standing.waiting()), (1, 0, 1));
        // One that is set while it is driven may end it too.
        let (taken, _) = standing.next().expect("its turn");
        set(&mut switches, "agent=a", SwitchKind::Kill);
        assert_eq!(standing.look(&switches), 0, "it is driven");
        assert!(standing.over(taken, run, Some(&held("feature=x"))) && standing.waiting() == 1);
        let (taken, _) = standing.next().expect("its turn");
        assert!(!standing.over(taken, run, Some(&held("feature=x"))));
        change(&mut switches, Change::SwitchLifted(SwitchLifted { scope: scope("feature=x"), reason: "well".into() }));
        assert_eq!((standing.look(&switches), standing.held()), (1, 0));
        let (taken, _) = standing.next().expect("its turn");
        assert!(heard.has_changed().is_ok(), "it stands somewhere");
        standing.over(taken, run, None);
        assert!(heard.has_changed().is_err() && standing.listen(run).is_none());
    }

    #[test]
    fn one_that_waits_for_money_lets_others_begin_and_comes_back_before_those_behind_it() {
        let mut standing = Standing::default();
        let whose = |tenant: &str| Place::of(&[("tenant".to_owned(), tenant.to_owned())].into());
        let run = RunId::from_bits;
        (1..4).for_each(|number| assert!(standing.put(whose("poor"), run(number))));
        let (first, second) = (standing.next().expect("its turn"), standing.next().expect("its turn"));
        assert!(!standing.others_could_begin(&first.0), "they wait for the same");
        standing.put(whose("rich"), run(4));
        assert!(standing.others_could_begin(&first.0));
        standing.over(second.0, second.1, Some(&Left::Queued));
        standing.over(first.0, first.1, Some(&Left::Queued));
        assert_eq!((standing.look_at_short(false), standing.waiting()), (0, 4), "others could begin");
        let begun: Vec<u128> = (0..2).filter_map(|_| standing.next()).map(|(_, run)| run.bits()).collect();
        assert_eq!(begun, [3, 4]);
        assert_eq!((standing.look_at_short(false), standing.look_at_short(true)), (2, 0));
        let begun: Vec<u128> = (0..2).filter_map(|_| standing.next()).map(|(_, run)| run.bits()).collect();
        assert_eq!(begun, [1, 2]);
    }

    #[test]
    fn one_that_is_wanted_while_it_is_driven_comes_again() {
        let (mut standing, run) = (Standing::default(), RunId::from_bits(1));
        assert!(standing.put(place(), run) && !standing.put(place(), run));
        let (taken, _) = standing.next().expect("its turn");
        assert!(!standing.want(place(), run));
        assert!(standing.over(taken, run, None) && standing.waiting() == 1);
        let (taken, _) = standing.next().expect("its turn");
        assert!(!standing.put(place(), run), "who only finds it there doesn't ask for that");
        assert!(!standing.over(taken, run, None) && standing.next().is_none());
    }
}
