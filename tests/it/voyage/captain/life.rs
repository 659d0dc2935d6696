//! One life of the process: it opens the store, drives what is open and what people start, and ends as the sheet says.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use plimsoll::clock::Clock;
use plimsoll::domain::event::{Decision, Labels, Recorded, RunState};
use plimsoll::domain::ledger::LedgerPolicy;
use plimsoll::domain::rollup::Day;
use plimsoll::domain::run::Given;
use plimsoll::ids::RunId;
use plimsoll::runtime::replay::Change;
use plimsoll::runtime::{NewRun, Observer, Progress, Runtime, RuntimeError, RuntimeOptions};
use plimsoll::store::{RunFilter, Store, StoreError};
use plimsoll::units::{Millis, Money, Timestamp};
use serde_json::json;
use tokio::task::{AbortHandle, JoinError, JoinSet};

use super::{Fate, Voyage};
use crate::voyage::bugs::{Bug, Deck};
use crate::voyage::crew::{Crew, lock};
use crate::voyage::dice::Dice;
use crate::voyage::draw::{End, Person};
use crate::voyage::judge::ROOT;

/// Longer than anything takes that is due to end by itself: limits of time, of waits for budget and for people.
const PATIENCE: Millis = Millis::from_secs(1_800);
/// Longer than a clean stop takes.
const STOP: Millis = Millis::from_secs(15);
/// A run that can't go on is tried again this often.
const REFUSALS_MAX: u32 = 3;
/// Voyages whose trees are told again at their end, which takes as long as a voyage.
const TOLD_AGAIN: u64 = 20;
/// What a disk in memory says that was told to fail.
const DISK_FAULT: &str = "a failure that the test asked for";
/// The bodies of one voyage in so many are erased at its end.
const ERASED_EACH: u64 = 10;
/// What one small call costs at most, about.
const A_CALL: Money = Money::from_micro(3_000);

/// How a life was over.
pub(super) enum Outcome {
    /// Nothing is left to do, or something is broken.
    Over,
    Crashed,
    Stopped,
}

/// Something that is due at a time.
#[derive(Clone, Copy, Debug)]
enum Deed {
    Launch(usize),
    Drive(usize),
    Cancel(usize),
    HangUp(usize),
    Answer(usize, RunId, u32),
    Cap(usize),
    Order(usize),
    Kill,
    Stop,
}

/// What a task was for.
#[derive(Debug)]
enum Done {
    Driven(usize, Result<(RunId, RunState), RuntimeError>),
    Told(usize, Result<(), RuntimeError>),
}

pub(super) struct Life<'a> {
    pub(super) voyage: &'a mut Voyage,
    pub(super) runtime: Runtime,
    pub(super) clock: Clock,
    pub(super) deck: Arc<Deck>,
    tasks: JoinSet<Done>,
    drives: BTreeMap<usize, AbortHandle>,
    hung_up: BTreeMap<tokio::task::Id, usize>,
    agenda: BTreeMap<(Timestamp, u64), Deed>,
    deeds: u64,
    stopping: bool,
    /// Questions that a person has heard in this life.
    heard: BTreeSet<(RunId, u32)>,
    /// Runs that were told that they can't go on.
    refused: Arc<Mutex<BTreeSet<RunId>>>,
}

impl<'a> Life<'a> {
    pub(super) async fn begin_and_end(
        voyage: &'a mut Voyage,
        life: usize,
        seed: u64,
        end: Option<End>,
        deck: Arc<Deck>,
        crew: Arc<Crew>,
    ) -> Outcome {
        let clock = Clock::paused(voyage.now, seed);
        let opened = Self::open(voyage, &clock, &deck);
        let Ok(store) = opened else {
            voyage.now = clock.now();
            if end.is_none() {
                lock(&voyage.judge).broken(format!("(13) the store can't be opened: {:?}", opened.err()));
                return Outcome::Over;
            }
            return Outcome::Crashed;
        };
        if let Some(End::PowerCut { commits: commits @ 8.., point, .. }) = end {
            voyage.disk.fail_after(commits, point);
        }
        let edition = &voyage.editions[life % voyage.editions.len()];
        let options = RuntimeOptions {
            clock: clock.clone(),
            simulated: None,
            prices: edition.prices.clone(),
            load_lines: edition.load_lines.clone(),
        };
        let runtime = Runtime::answered_by(crew, store, &edition.project, edition.plans.clone(), options);
        let mut life = Self {
            voyage,
            runtime,
            clock,
            deck,
            tasks: JoinSet::new(),
            drives: BTreeMap::new(),
            hung_up: BTreeMap::new(),
            agenda: BTreeMap::new(),
            deeds: 0,
            stopping: false,
            heard: BTreeSet::new(),
            refused: Arc::default(),
        };
        life.compare_runs();
        life.plan(end);
        life.hear();
        let outcome = life.go_on().await;
        life.voyage.now = life.clock.now();
        match outcome {
            Outcome::Crashed => {}
            Outcome::Over | Outcome::Stopped => life.close(matches!(outcome, Outcome::Over)).await,
        }
        if lock(&life.voyage.judge).broken.is_some() { Outcome::Over } else { outcome }
    }

    /// Opens the store, and has the judge read what it holds.
    fn open(voyage: &Voyage, clock: &Clock, deck: &Arc<Deck>) -> Result<Store, StoreError> {
        lock(&voyage.judge).opening = true;
        let store = Store::open_memory_inline(&voyage.disk, policy(voyage), clock.clone(), deck.clone());
        lock(&voyage.judge).opening = false;
        let store = store?;
        deck.reading.store(true, Ordering::SeqCst);
        let runs = store.summaries(&RunFilter::default())?;
        let logs = runs.iter().map(|run| Ok((run.id, store.events(run.id)?))).collect::<Result<Vec<_>, StoreError>>();
        deck.reading.store(false, Ordering::SeqCst);
        let mut entries = Vec::new();
        store.audit(&mut |entry| entries.push(entry))?;
        let mut judge = lock(&voyage.judge);
        judge.read_orders(&entries);
        judge.store = Some(store.clone());
        judge.now = clock.now();
        judge.reopened(logs?);
        if let Err(error) = store.verify() {
            judge.broken(format!("(9) after a restart: {error}"));
        }
        Ok(store)
    }

    fn compare_runs(&self) {
        let runs: Vec<RunId> = lock(&self.voyage.judge).runs.keys().copied().collect();
        for run in runs {
            match self.runtime.load(run) {
                Ok((state, _)) => lock(&self.voyage.judge).compare_run(&state, self.clock.now()),
                Err(error) => lock(&self.voyage.judge).broken(format!("(9) {run} can't be read: {error}")),
            }
        }
    }

    /// Notes what is due in this life.
    fn plan(&mut self, end: Option<End>) {
        let start = self.voyage.sheet.start;
        for root in 0..self.voyage.fates.len() {
            let drawn = self.voyage.sheet.roots[root].clone();
            match self.voyage.fates[root] {
                Fate::Ashore => self.note(start.after(drawn.at), Deed::Launch(root)),
                Fate::UnderWay | Fate::Refused(_) => {
                    let soon = Millis(u64::try_from(root).expect("few") * 7);
                    self.note(self.clock.now().after(soon), Deed::Drive(root));
                }
                Fate::Over => continue,
            }
            let (cancelled, hung_up) = self.voyage.done[root];
            if let Some(at) = drawn.cancel.filter(|_| !cancelled) {
                self.note(start.after(drawn.at).after(at), Deed::Cancel(root));
            }
            if let Some(at) = drawn.hang_up.filter(|_| !hung_up) {
                self.note(start.after(drawn.at).after(at), Deed::HangUp(root));
            }
        }
        for change in self.voyage.caps_done..self.voyage.sheet.caps.len() {
            self.note(start.after(self.voyage.sheet.caps[change].0), Deed::Cap(change));
        }
        for order in self.voyage.orders_done..self.voyage.sheet.orders.len() {
            self.note(start.after(self.voyage.sheet.orders[order].0), Deed::Order(order));
        }
        match end {
            Some(End::KilledAt(at)) => self.note(self.clock.now().after(at), Deed::Kill),
            Some(End::Stopped(at)) => self.note(self.clock.now().after(at), Deed::Stop),
            Some(End::KilledAfter(_) | End::PowerCut { .. }) | None => {}
        }
    }

    fn note(&mut self, at: Timestamp, deed: Deed) {
        self.deeds += 1;
        self.agenda.insert((at, self.deeds), deed);
    }

    fn soon(&mut self, after: Millis, deed: Deed) {
        self.note(self.clock.now().after(after), deed);
    }

    async fn go_on(&mut self) -> Outcome {
        loop {
            if lock(&self.voyage.judge).broken.is_some() {
                return Outcome::Over;
            }
            let ends = self
                .agenda
                .values()
                .any(|deed| !matches!(deed, Deed::Kill | Deed::Stop | Deed::Cap(_) | Deed::Order(_)));
            if self.tasks.is_empty() && (self.stopping || !ends) {
                return if self.stopping { Outcome::Stopped } else { Outcome::Over };
            }
            let next = self.agenda.first_key_value().map(|((at, _), _)| *at).filter(|_| !self.stopping);
            let wait = next.map_or(PATIENCE, |at| at.since(self.clock.now()));
            let deck = self.deck.clone();
            tokio::select! {
                biased;
                () = deck.alarm.notified() => {
                    if lock(&self.voyage.judge).broken.is_none() {
                        return Outcome::Crashed;
                    }
                }
                () = deck.asked.notified() => self.hear(),
                Some(done) = self.tasks.join_next_with_id(), if !self.tasks.is_empty() => {
                    if !self.take(done) {
                        return Outcome::Crashed;
                    }
                }
                () = tokio::time::sleep(wait.duration()) => match self.agenda.pop_first().filter(|_| next.is_some()) {
                    Some((_, Deed::Kill)) => return Outcome::Crashed,
                    Some((_, deed)) => {
                        if !self.act(deed).await {
                            return Outcome::Crashed;
                        }
                    }
                    None => {
                        let left = format!("(18) {:?} go on for ever, or wait for nothing", self.drives.keys());
                        lock(&self.voyage.judge).broken(left);
                    }
                },
            }
        }
    }

    /// False where the store failed.
    async fn act(&mut self, deed: Deed) -> bool {
        match deed {
            Deed::Kill => {}
            Deed::Stop => {
                self.stopping = true;
                self.runtime.request_stop();
            }
            Deed::Launch(root) => self.launch(root),
            Deed::Drive(root) => self.drive(root),
            Deed::Cancel(root) => {
                self.voyage.done[root].0 = true;
                let Some(run) = self.voyage.run_of(root) else { return true };
                let runtime = self.runtime.clone();
                self.tasks
                    .spawn(async move { Done::Told(root, runtime.cancel(run, "a person said so").await.map(drop)) });
            }
            Deed::HangUp(root) => {
                self.voyage.done[root].1 = true;
                if let Some(drive) = self.drives.remove(&root) {
                    self.hung_up.insert(drive.id(), root);
                    drive.abort();
                }
            }
            Deed::Answer(root, run, ask) => self.answer(root, run, ask),
            Deed::Cap(change) => return self.change_cap(change).await,
            Deed::Order(order) => return self.order(order).await,
        }
        true
    }

    fn observer(&self) -> Observer {
        let refused = self.refused.clone();
        Arc::new(move |progress| {
            if let Progress::Refused { run, .. } = progress {
                refused.lock().unwrap_or_else(PoisonError::into_inner).insert(run);
            }
        })
    }

    fn launch(&mut self, root: usize) {
        let drawn = &self.voyage.sheet.roots[root];
        let labels = [(ROOT, root.to_string()), ("tenant", drawn.tenant.to_owned())];
        let labels: Labels = labels.into_iter().map(|(label, value)| (label.to_owned(), value)).collect();
        let agent = format!("a{}", drawn.agent).into();
        let new = NewRun { agent, input: json!("how are all hands?"), labels, key: None, files: vec![], bound: vec![] };
        let (runtime, observer, in_two_steps) = (self.runtime.clone(), self.observer(), drawn.in_two_steps);
        let drive = self.tasks.spawn(async move {
            let driven = async {
                if !in_two_steps {
                    return runtime.run(&new, observer).await;
                }
                let run = runtime.create(&new).await?;
                Ok((run, runtime.drive(run, observer).await?))
            };
            Done::Driven(root, driven.await)
        });
        self.drives.insert(root, drive);
        self.voyage.fates[root] = Fate::UnderWay;
    }

    fn drive(&mut self, root: usize) {
        if self.drives.contains_key(&root) || self.voyage.fates[root] == Fate::Over {
            return;
        }
        let Some(run) = self.voyage.run_of(root) else { return self.launch(root) };
        let (runtime, observer) = (self.runtime.clone(), self.observer());
        let drive = self
            .tasks
            .spawn(async move { Done::Driven(root, runtime.drive(run, observer).await.map(|state| (run, state))) });
        self.drives.insert(root, drive);
    }

    /// What people will do about the questions that are new.
    fn hear(&mut self) {
        let asks = lock(&self.voyage.judge).open_asks();
        for open in asks {
            let root = (0..self.voyage.fates.len()).find(|root| self.voyage.run_of(*root) == Some(open.root));
            let Some(root) = root.filter(|_| self.heard.insert((open.run, open.ask))) else { continue };
            let mut dice = self.dice_of(open.run, open.ask);
            match self.voyage.sheet.roots[root].person {
                Person::Answers { after } => {
                    let late = open.until.after(Millis(dice.between(0, 3_000)));
                    let at = self.clock.now().after(Millis(after.0 / dice.between(1, 4)));
                    let at = if dice.chance(10) { late } else { at };
                    self.note(at, Deed::Answer(root, open.run, open.ask));
                    if dice.chance(15) {
                        self.note(at.after(Millis(dice.between(0, 30))), Deed::Answer(root, open.run, open.ask));
                    }
                }
                Person::Cancels { after } => self.soon(after, Deed::Cancel(root)),
                Person::Forgets => {}
            }
        }
    }

    fn dice_of(&self, run: RunId, ask: u32) -> Dice {
        let run = u64::try_from(run.bits() & u128::from(u64::MAX)).expect("64 bits");
        Dice::of(self.voyage.seed, &[4, run, u64::from(ask)])
    }

    fn answer(&mut self, root: usize, run: RunId, ask: u32) {
        let hash = lock(&self.voyage.judge).open_asks().into_iter().find(|open| (open.run, open.ask) == (run, ask));
        let mut dice = self.dice_of(run, ask);
        let decision = match dice.between(0, 9) {
            0..=3 => Decision::Allow { edited: None },
            4 => Decision::Allow { edited: Some(json!({ "n": 5 })) },
            5 => Decision::Allow { edited: Some(json!("something else")) },
            6..=7 => Decision::Answer { value: json!("all is well") },
            _ => Decision::Deny,
        };
        let shown_hash = hash.and_then(|open| open.hash).filter(|_| dice.chance(50));
        let reason = dice.chance(30).then(|| "because".to_owned());
        let given = Given { ask: Some(ask), decision, by: "ann".into(), reason, shown_hash };
        let runtime = self.runtime.clone();
        self.tasks.spawn(async move { Done::Told(root, answer(&runtime, run, given).await) });
    }

    async fn change_cap(&mut self, change: usize) -> bool {
        let (_, budget, cap) = self.voyage.sheet.caps[change];
        self.voyage.caps_done = change + 1;
        self.voyage.caps[budget] = cap;
        let name = self.voyage.sheet.budgets[budget].name;
        let cap = Money::from_micro(cap);
        if let Some((now, highest)) = lock(&self.voyage.judge).caps.get_mut(&name.into()) {
            (*now, *highest) = (cap, cap.max(*highest));
        }
        self.deck.straight.store(true, Ordering::SeqCst);
        let set = self.runtime.store().set_policy(policy(self.voyage)).await;
        self.deck.straight.store(false, Ordering::SeqCst);
        set.is_ok()
    }

    /// Takes what a task came to. False where the store failed.
    fn take(&mut self, done: Result<(tokio::task::Id, Done), JoinError>) -> bool {
        match done {
            Ok((_, Done::Driven(root, Ok((run, state))))) => {
                self.drives.remove(&root);
                self.driven(root, run, state);
            }
            Ok((_, Done::Driven(_, Err(RuntimeError::Store(_))) | Done::Told(_, Err(RuntimeError::Store(_))))) => {
                return false;
            }
            Ok((_, Done::Driven(root, Err(RuntimeError::Driven { .. })))) => {
                self.drives.remove(&root);
                self.soon(Millis(500), Deed::Drive(root));
            }
            Ok((_, Done::Driven(_, Err(error)))) => lock(&self.voyage.judge).broken(format!("(18) {error}")),
            Ok((_, Done::Told(root, _))) => {
                if !self.drives.contains_key(&root) && self.voyage.fates[root] != Fate::Over {
                    self.soon(Millis(1), Deed::Drive(root));
                }
            }
            Err(error) if error.is_cancelled() => {
                if let Some(root) = self.hung_up.remove(&error.id()) {
                    self.soon(STOP, Deed::Drive(root));
                }
            }
            Err(error) => lock(&self.voyage.judge).broken(format!("(18) a task broke down: {error}")),
        }
        true
    }

    fn driven(&mut self, root: usize, run: RunId, state: RunState) {
        if state.is_ended() {
            self.voyage.fates[root] = Fate::Over;
            return;
        }
        if self.stopping {
            return;
        }
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner).remove(&run);
        if refused {
            let before = if let Fate::Refused(times) = self.voyage.fates[root] { times } else { 0 };
            self.voyage.fates[root] = Fate::Refused(before + 1);
            if before < REFUSALS_MAX {
                self.soon(Millis(7_000), Deed::Drive(root));
            }
        } else if state.awaits_person() {
            // Whoever looks then finds that the time is up.
            let until = lock(&self.voyage.judge).asks_until(run).unwrap_or(self.clock.now());
            self.note(until.after(Millis(1_700)), Deed::Drive(root));
        } else {
            let what = format!("(18) {run} was left as {state}, and nobody was told why");
            lock(&self.voyage.judge).broken(what);
        }
    }

    /// Every tree of the store, judged again from its logs alone, is decided the same (promise 11).
    fn judge_again(&self) {
        let roots: Vec<RunId> = lock(&self.voyage.judge).roots().collect();
        for root in roots {
            match self.runtime.replay(root) {
                Ok(Ok(same)) => lock(&self.voyage.judge).judged_again(&same),
                Ok(Err(difference)) => lock(&self.voyage.judge).broken(format!("(11) {difference}")),
                Err(error) => lock(&self.voyage.judge).broken(format!("(11) {root} can't be read: {error}")),
            }
        }
    }

    /// Told again without a change, a tree comes to the same end, or it is said why it may not.
    fn tell_again(&self) {
        let roots: Vec<RunId> = lock(&self.voyage.judge).roots().collect();
        for root in roots {
            let told = match self.runtime.what_if(root, &Change::default()) {
                Ok(told) if told.is_same() || !told.notes.is_empty() => continue,
                Ok(told) => format!("{:?}", told.verdict),
                Err(error) => error.to_string(),
            };
            lock(&self.voyage.judge).broken(format!("(11) {root} told again: {told}"));
        }
    }

    /// Every body is taken out of the store, and no sum with it.
    async fn erase(&self) {
        let store = self.runtime.store();
        let sums = || (store.accounts().expect("accounts"), store.rollups(Day(0), Day(u32::MAX)).expect("rollups"));
        let before = sums();
        let roots: Vec<RunId> = lock(&self.voyage.judge).roots().collect();
        let over = |run: &RunId| store.summary(*run).expect("it reads").is_some_and(|run| run.state.is_ended());
        let over = roots.iter().filter(|run| over(run)).count();
        let removed = match store.erase(roots, None).await {
            Ok(removed) => removed,
            // The sheet's last failure of the disk came only now.
            Err(error) if error.to_string().contains(DISK_FAULT) => return,
            Err(error) => return lock(&self.voyage.judge).broken(format!("(9) nothing could be erased: {error}")),
        };
        let mut judge = lock(&self.voyage.judge);
        judge.check(removed.trees == over as u64, || format!("(9) of {over} trees that are over {removed:?}"));
        judge.check(sums() == before, || "(9) erasing bodies changed a sum".to_owned());
        for run in judge.runs.keys().copied().collect::<Vec<_>>() {
            let is_erased = store.summary(run).expect("it reads").is_some_and(|run| run.erased);
            let bare = |recorded: &Recorded| !is_erased || recorded.event.clone().without_bodies() == recorded.event;
            judge.check(store.events(run).expect("a log").iter().all(bare), || format!("(9) {run} kept a body"));
        }
        if let Err(error) = store.verify() {
            judge.broken(format!("(9) after its bodies were erased: {error}"));
        }
    }

    /// The last words on this life.
    async fn close(&mut self, over: bool) {
        self.count_up(over).await;
        if over && self.voyage.bug.is_none() && self.voyage.seed.is_multiple_of(ERASED_EACH) {
            self.erase().await;
        }
    }

    async fn count_up(&self, over: bool) {
        self.runtime.drain().await;
        self.compare_runs();
        if over && self.voyage.bug.is_none() {
            self.judge_again();
            if self.voyage.seed < TOLD_AGAIN {
                self.tell_again();
            }
        }
        let refused: Vec<RunId> = (0..self.voyage.fates.len())
            .filter(|root| matches!(self.voyage.fates[*root], Fate::Refused(_)))
            .filter_map(|root| self.voyage.run_of(root))
            .collect();
        let verified = self.runtime.store().verify();
        let holds = self.runtime.store().holds();
        let mut judge = lock(&self.voyage.judge);
        if let Err(error) = verified {
            judge.broken(format!("(9) at the end of a life: {error}"));
        }
        if !holds.as_ref().is_ok_and(Vec::is_empty) {
            judge.broken(format!("(3) at the end of a life there is held: {holds:?}"));
        }
        if over {
            judge.all_are_over(&refused);
        }
        judge.compare_invoice();
    }
}

/// Ann answers; where her answer doesn't fit the question, she says no.
async fn answer(runtime: &Runtime, run: RunId, given: Given) -> Result<(), RuntimeError> {
    let answered = runtime.answer(run, &given).await;
    if matches!(&answered, Err(RuntimeError::Answer { fault, .. }) if fault.is_misspelt()) {
        let given = Given { decision: Decision::Deny, ..given };
        return runtime.answer(run, &given).await.map(drop);
    }
    answered.map(drop)
}

/// The caps in force.
fn policy(voyage: &Voyage) -> LedgerPolicy {
    let mut budgets = voyage.editions[0].project.budgets.clone();
    for (budget, cap) in budgets.iter_mut().zip(&voyage.caps) {
        budget.cap = Money::from_micro(*cap);
        if voyage.bug == Some(Bug::CapPassedByACall) {
            budget.cap = budget.cap.plus(A_CALL);
        }
    }
    LedgerPolicy { budgets, alerts: Vec::new() }
}
