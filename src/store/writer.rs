//! The one writer: a thread that owns the ledger and the engine, and makes one durable commit of whatever has queued.
//!
//! It never lingers: what came while the last sync ran is the next group. Everything is acknowledged after the sync,
//! in the order of the commit. A commit that fails poisons the store: memory and disk may differ from then on.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};

use tokio::sync::{Notify, mpsc, oneshot};

use crate::clock::Clock;
use crate::domain::alert::Alert;
use crate::domain::audit::{Act, Author, Change, PriceUnfrozen};
use crate::domain::erasure::Removed;
use crate::domain::event::{Event, Recorded};
use crate::domain::ledger::{Decision, Ledger, LedgerPolicy, Notice, Op, Verdict};
use crate::domain::run::Run;
use crate::domain::summary::RunSummary;
use crate::failpoint;
use crate::ids::{PriceId, RunId};
use crate::store::books::{Books, Published};
use crate::store::days::DayCounts;
use crate::store::engine::{Engine, Reader};
use crate::store::erase::Unclaimed;
use crate::store::error::StoreError;
use crate::store::inline::Tap;
use crate::store::outbox::AlertAct;
use crate::units::Timestamp;

/// Ops that may queue for the writer; a sender waits for a place.
pub(crate) const QUEUE_OPS_MAX: usize = 1_024;
/// The most ops of one commit.
const GROUP_OPS_MAX: usize = 1_024;
/// Bytes of events after which a group takes no further op: about half of sled's segment.
const GROUP_BYTES_MAX: usize = 256 * 1_024;
/// Notices that may wait for one run; a receiver further behind is detached.
pub const NOTICES_MAX: usize = 64;

/// What an [`Op`] came to, on disk.
#[derive(Clone, Debug, Default)]
pub struct Committed {
    /// Everything that was appended for this op and isn't in a notice to another run.
    pub events: Vec<(RunId, Recorded)>,
    /// One for each ask, in order.
    pub verdicts: Vec<Verdict>,
    /// The number of the entry of the audit log that was asked for, or of the alert that something was done about.
    pub noted: Option<u64>,
    /// What was taken out of the store.
    pub removed: Removed,
}

/// What another run's op brought to this one, on disk.
#[derive(Clone, Debug)]
pub struct NoticeCommitted {
    /// What was appended to the logs of this run's tree.
    pub events: Vec<(RunId, Recorded)>,
    /// The notice.
    pub notice: Notice,
}

pub(crate) type Reply = oneshot::Sender<Result<Committed, StoreError>>;

pub(crate) enum Command {
    Submit(Box<Op>, Reply),
    SetPolicy(Box<LedgerPolicy>, Reply),
    Unfreeze(PriceId, Box<Act>, Reply),
    Note(Author, Box<Change>, Reply),
    /// Notes of what is declared: nothing waits for them, and they are written with what comes next.
    Declare(Author, Vec<Change>),
    Erase(Vec<RunId>, Option<Box<(Author, Change)>>, Reply),
    DropFiles(Vec<Unclaimed>, Reply),
    Alert(u64, AlertAct, Reply),
}

impl Command {
    /// True for what reads the disk as the last commit left it, and changes what others in its group could.
    const fn is_alone(&self) -> bool {
        matches!(self, Self::Erase(..) | Self::DropFiles(..))
    }
}

/// What the writer shares with the handles.
pub(crate) struct Shared {
    pub(crate) reader: Arc<dyn Reader>,
    /// Summaries of the runs that are open, as of the last commit.
    pub(crate) live: RwLock<BTreeMap<RunId, Arc<RunSummary>>>,
    /// How often each day of the rollups was written to.
    pub(crate) days: DayCounts,
    listeners: Mutex<Listeners>,
    poisoned: OnceLock<String>,
    /// Wakes who delivers alerts, after a commit that changed some.
    pub(crate) alerts: Notify,
}

#[derive(Default)]
struct Listeners {
    /// Boxed, since a channel keeps room for 32.
    by_run: BTreeMap<RunId, Vec<mpsc::Sender<Box<NoticeCommitted>>>>,
    /// When to look for runs that nobody listens to any more.
    prune_at: usize,
}

impl Shared {
    pub(crate) fn new(reader: Arc<dyn Reader>) -> Self {
        Self {
            reader,
            live: RwLock::default(),
            days: DayCounts::default(),
            listeners: Mutex::default(),
            poisoned: OnceLock::new(),
            alerts: Notify::new(),
        }
    }

    /// An error if a commit failed earlier.
    pub(crate) fn sound(&self) -> Result<(), StoreError> {
        self.poisoned.get().map_or(Ok(()), |why| Err(StoreError::Poisoned { why: why.clone() }))
    }

    fn poison(&self, error: &StoreError) -> StoreError {
        StoreError::Poisoned { why: self.poisoned.get_or_init(|| error.to_string()).clone() }
    }

    /// Listens for notices to one tree of runs.
    pub(crate) fn attach(&self, run: RunId) -> mpsc::Receiver<Box<NoticeCommitted>> {
        let (sender, receiver) = mpsc::channel(NOTICES_MAX);
        let mut listeners = self.listeners();
        listeners.by_run.entry(run).or_default().push(sender);
        if listeners.by_run.len() >= listeners.prune_at {
            listeners.by_run.retain(|_, senders| {
                senders.retain(|sender| !sender.is_closed());
                !senders.is_empty()
            });
            listeners.prune_at = NOTICES_MAX.max(listeners.by_run.len() * 2);
        }
        receiver
    }

    fn tell(&self, run: RunId, notice: &NoticeCommitted) {
        let mut listeners = self.listeners();
        let Some(senders) = listeners.by_run.get_mut(&run) else { return };
        // One that is full is as good as gone: it sees the end of its channel, and reads the log.
        senders.retain(|sender| sender.try_send(Box::new(notice.clone())).is_ok());
        if senders.is_empty() {
            listeners.by_run.remove(&run);
        }
    }

    fn publish(&self, published: Published) {
        self.days.count(published.days);
        let mut live = self.live.write().unwrap_or_else(PoisonError::into_inner);
        for run in published.closed {
            live.remove(&run);
        }
        live.extend(published.open.into_iter().map(|summary| (summary.id, summary)));
        drop(live);
        if published.alerts {
            self.alerts.notify_one();
        }
    }

    fn listeners(&self) -> MutexGuard<'_, Listeners> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The writer's state; [`Writer::run`] is its thread.
pub(crate) struct Writer {
    pub(crate) engine: Box<dyn Engine>,
    pub(crate) ledger: Ledger,
    pub(crate) books: Books,
    pub(crate) clock: Clock,
    pub(crate) shared: Arc<Shared>,
    /// Who watches, at an inline store.
    pub(crate) tap: Option<Arc<dyn Tap>>,
    /// What it is told of after the commit.
    pub(crate) tapped: Vec<(RunId, Recorded)>,
}

/// An op that is decided, and waits for its group's sync.
struct Decided {
    reply: Reply,
    committed: Committed,
    notices: Vec<(RunId, NoticeCommitted)>,
}

impl Writer {
    /// Shows the open runs to readers, and writes what recovery decides (LEDGER rule 15), and the ends of those that waited
    /// for a person for too long.
    pub(crate) fn start(&mut self, waiting: &[Run]) -> Result<Vec<(RunId, Recorded)>, StoreError> {
        let open = self.books.summaries().cloned().collect();
        self.shared.publish(Published { open, ..Published::default() });
        let now = self.clock.now();
        let decision = self.ledger.recover(now);
        let (mut committed, _) = self.book(RunId::from_bits(0), now, decision)?;
        for (run, late) in waiting.iter().map(|run| (run.id, run.expired(now))).filter(|(_, late)| !late.is_empty()) {
            let events = late.into_iter().map(|fact| (run, fact)).collect();
            let op = Op { run, events, asks: vec![], plan: None };
            let decision = self.ledger.decide(op, now);
            committed.events.extend(self.book(run, now, decision)?.0.events);
        }
        if !committed.events.is_empty() {
            failpoint::reach("store.recovering");
        }
        self.commit()?;
        Ok(committed.events)
    }

    /// Works until every handle is gone.
    pub(crate) fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        while let Some(first) = commands.blocking_recv() {
            if let Command::Declare(by, changes) = first {
                self.declare(&by, changes);
            } else {
                self.group(first, &mut commands);
            }
        }
    }

    fn group(&mut self, first: Command, commands: &mut mpsc::Receiver<Command>) {
        let mut decided = Vec::new();
        let mut failed = None;
        let mut next = Some(first);
        while let Some(command) = next.take() {
            if command.is_alone() {
                self.close(std::mem::take(&mut decided), None);
                self.alone(command);
                next = commands.try_recv().ok();
                continue;
            }
            match self.decide(command) {
                Ok(one) => decided.push(one),
                Err((reply, error)) => {
                    let error = self.shared.poison(&error);
                    answer(reply, Err(error.clone()));
                    failed = Some(error);
                }
            }
            let room = decided.len() < GROUP_OPS_MAX && self.books.bytes() < GROUP_BYTES_MAX && failed.is_none();
            next = room.then(|| commands.try_recv().ok()).flatten();
        }
        self.close(decided, failed);
    }

    /// Notes what is declared, to be written with the next commit.
    pub(crate) fn declare(&mut self, by: &Author, changes: Vec<Change>) {
        let now = self.clock.now();
        changes.into_iter().for_each(|change| drop(self.books.note(now, by.clone(), change)));
    }

    /// Decides and commits one command, without company.
    pub(crate) fn alone(&mut self, command: Command) {
        match self.decide(command) {
            Ok(one) => self.close(vec![one], None),
            Err((reply, error)) => {
                let error = self.shared.poison(&error);
                answer(reply, Err(error.clone()));
                self.close(vec![], Some(error));
            }
        }
    }

    /// Commits a group, and tells everybody.
    fn close(&mut self, decided: Vec<Decided>, failed: Option<StoreError>) {
        let outcome = failed.map_or_else(|| self.commit(), Err).map_err(|error| self.shared.poison(&error));
        for one in decided {
            if outcome.is_ok() {
                one.notices.iter().for_each(|(run, notice)| self.shared.tell(*run, notice));
            }
            answer(one.reply, outcome.clone().map(|()| one.committed));
        }
    }

    fn decide(&mut self, command: Command) -> Result<Decided, (Reply, StoreError)> {
        let now = self.clock.now();
        let (reply, booked) = match command {
            Command::Submit(op, reply) => (reply, self.submit(*op, now)),
            Command::SetPolicy(policy, reply) => (reply, self.set_policy(*policy, now)),
            Command::Unfreeze(price, act, reply) => (reply, self.unfreeze(price, &act, now)),
            Command::Note(by, change, reply) => (reply, self.note(by, *change, now)),
            Command::Erase(roots, said, reply) => (reply, self.erase(&roots, said.map(|said| *said), now)),
            Command::DropFiles(files, reply) => (reply, self.drop_files(&files)),
            Command::Alert(number, act, reply) => (reply, self.alert(number, act, now)),
            Command::Declare(by, changes) => {
                self.declare(&by, changes);
                (oneshot::channel().0, Ok((Committed::default(), Vec::new())))
            }
        };
        match booked {
            Ok((committed, notices)) => Ok(Decided { reply, committed, notices }),
            Err(error) => Err((reply, error)),
        }
    }

    fn submit(&mut self, mut op: Op, now: Timestamp) -> Result<Booked, StoreError> {
        self.shared.sound()?;
        if let Some(plan) = op.plan.take() {
            let created =
                |event: &Event| if let Event::Created(created) = event { Some(created.plan.clone()) } else { None };
            let named = op.events.iter().find_map(|(_, event)| created(event));
            self.books.keep_plan(plan, named.as_ref());
        }
        let root = op.run;
        let decision = self.ledger.decide(op, now);
        self.book(root, now, decision)
    }

    fn set_policy(&mut self, policy: LedgerPolicy, now: Timestamp) -> Result<Booked, StoreError> {
        self.shared.sound()?;
        self.books.outbox.set_rules(policy.alerts.clone());
        let decision = self.ledger.set_policy(policy, now);
        self.book(RunId::from_bits(0), now, decision)
    }

    fn unfreeze(&mut self, price: PriceId, act: &Act, now: Timestamp) -> Result<Booked, StoreError> {
        self.shared.sound()?;
        if self.ledger.unfreeze(&price) {
            let freeze = self.books.freeze_of(&price)?;
            let unfrozen = PriceUnfrozen { price, reason: act.reason().to_owned(), freeze };
            drop(self.books.note(now, act.by(), Change::PriceUnfrozen(unfrozen)));
        }
        self.book(RunId::from_bits(0), now, Decision::default())
    }

    fn note(&mut self, by: Author, change: Change, now: Timestamp) -> Result<Booked, StoreError> {
        self.shared.sound()?;
        let entry = self.books.note(now, by, change);
        let decision = self.ledger.heed(&entry, now);
        let (mut committed, notices) = self.book(RunId::from_bits(0), now, decision)?;
        committed.noted = Some(entry.number);
        Ok((committed, notices))
    }

    fn erase(&mut self, roots: &[RunId], said: Option<(Author, Change)>, now: Timestamp) -> Result<Booked, StoreError> {
        self.shared.sound()?;
        let mut committed = Committed { removed: self.books.erase(roots)?, ..Committed::default() };
        if let Some((by, change)) = said {
            committed.noted = Some(self.books.note(now, by, change).number);
        }
        Ok((committed, Vec::new()))
    }

    fn drop_files(&mut self, files: &[Unclaimed]) -> Result<Booked, StoreError> {
        self.shared.sound()?;
        let gone = files.iter().filter(|file| self.books.resolve(file)).count();
        let removed = Removed { files: u64::try_from(gone).unwrap_or(u64::MAX), ..Removed::default() };
        Ok((Committed { removed, ..Committed::default() }, Vec::new()))
    }

    fn alert(&mut self, number: u64, act: AlertAct, now: Timestamp) -> Result<Booked, StoreError> {
        self.shared.sound()?;
        let is_there = self.books.outbox.act(number, act, now)?;
        let (mut committed, notices) = self.book(RunId::from_bits(0), now, Decision::default())?;
        committed.noted = is_there.then_some(number);
        Ok((committed, notices))
    }

    /// Takes a decision into the books, and sorts out who is told of what.
    fn book(&mut self, root: RunId, now: Timestamp, decision: Decision) -> Result<Booked, StoreError> {
        let mut notices: Vec<(RunId, NoticeCommitted)> = decision
            .notices
            .into_iter()
            .map(|(run, notice)| (run, NoticeCommitted { events: Vec::new(), notice }))
            .collect();
        for overrun in decision.overruns {
            self.books.outbox.raise(now, &Alert::of_price(&overrun))?;
            drop(self.books.note(now, Author::Ledger, Change::PriceFrozen(overrun)));
        }
        decision.alerts.iter().try_for_each(|alert| self.books.outbox.raise(now, alert))?;
        let mut events = Vec::with_capacity(decision.appended.len());
        for (run, event) in decision.appended {
            let recorded = self.books.record(run, now, event)?;
            if self.tap.is_some() {
                self.tapped.push((run, recorded.clone()));
            }
            let tree = self.books.root(run);
            match notices.iter_mut().find(|(told, _)| *told == tree && tree != root) {
                Some((_, notice)) => notice.events.push((run, recorded)),
                None => events.push((run, recorded)),
            }
        }
        Ok((Committed { events, verdicts: decision.verdicts, ..Committed::default() }, notices))
    }

    /// One durable write of all that was booked since the last.
    fn commit(&mut self) -> Result<(), StoreError> {
        let (batch, published) = self.books.close_group(self.ledger.take_dirty())?;
        if !batch.is_empty() {
            failpoint::reach("store.commit");
            self.engine.commit(batch)?;
            failpoint::reach("store.committed");
        }
        self.shared.publish(published);
        if let Some(tap) = &self.tap
            && !self.tapped.is_empty()
        {
            tap.committed(&std::mem::take(&mut self.tapped));
        }
        Ok(())
    }
}

/// What an op comes to, and what others are told.
type Booked = (Committed, Vec<(RunId, NoticeCommitted)>);

/// Tells the caller, if it still waits.
fn answer(reply: Reply, outcome: Result<Committed, StoreError>) {
    // A caller that went away is no reason to undo what is on disk.
    drop(reply.send(outcome));
}
