//! A small runtime that plays runs on a ledger as the real one would, one command at a time, and tells the judge.

mod orders;
mod parts;

use std::collections::{BTreeMap, VecDeque};

use plimsoll::domain::budget::{Budget, Period};
use plimsoll::domain::event::{
    AccountKey, CancelRequested, CostSource, EndState, Event, LandingBegan, LandingReleased, Parent, Purpose, Reserved,
    WaitEnd,
};
use plimsoll::domain::ledger::{Ask, Decision, LedgerPolicy, Notice, Op, ReserveAsk, Verdict};
use plimsoll::domain::limits::{Declared, LimitKind, Refusal};
use plimsoll::ids::{ReservationId, RunId, StageName};
use plimsoll::units::{Money, Timestamp};

use orders::Orders;
use parts::{Attempt, Node, Phase, Tree};
pub(super) use parts::{Command, Kind};

use super::judge::Judge;
use super::subject::Subject;
use super::vocabulary::{
    Birth, DAY, at_once, at_stage, budget, child_admitted, child_began, child_ended, created, ended, id, labels, lower,
    money, parked, patient, person_answered, person_asked, price, purpose_of, reserved, run, settled, voided,
    with_price,
};

/// Root runs that a world starts.
const RUNS_MAX: usize = 12;
/// Nodes of one tree.
const TREE_MAX: usize = 5;
/// Rounds until everything has ended.
const DRAIN_ROUNDS_MAX: usize = 2_000;

/// See the module.
pub(super) struct World<S> {
    pub(super) subject: S,
    pub(super) judge: Judge,
    now: Timestamp,
    budgets: Vec<Budget>,
    trees: Vec<Tree>,
    settled: Vec<Event>,
    bits: u128,
    news: VecDeque<(RunId, Notice)>,
    orders: Orders,
}

/// The budgets of every world: one for all, one for each tenant and day, one for a feature.
pub(super) fn budgets(caps: [u8; 3]) -> Vec<Budget> {
    let cap = |index: usize| u64::from(caps[index]);
    vec![
        budget("all", 80 + 3 * cap(0), Period::Total, &[], &[]),
        budget("tenant-day", 40 + cap(1), Period::Day, &[], &["tenant"]),
        budget("support-day", 60 + cap(2), Period::Day, &[("feature", "support")], &[]),
    ]
}

impl<S: Subject> World<S> {
    pub(super) fn new(mut subject: S, budgets: Vec<Budget>) -> Self {
        let now = Timestamp(10 * DAY);
        let mut judge = Judge::default();
        judge.set_budgets(budgets.clone(), now);
        subject.set_policy(LedgerPolicy { budgets: budgets.clone(), alerts: Vec::new() }, now);
        let (trees, settled, news) = (Vec::new(), Vec::new(), VecDeque::new());
        Self { subject, judge, now, budgets, trees, settled, bits: 1, news, orders: Orders::default() }
    }

    /// Plays the commands, then lets everything end; stops at the first fault.
    pub(super) fn play(&mut self, commands: &[Command]) {
        for command in commands {
            self.perform(*command);
            if !self.judge.faults.is_empty() {
                return;
            }
        }
        self.drain();
    }

    fn perform(&mut self, command: Command) {
        let Command { kind, pick, size, luck } = command;
        let tree = usize::from(pick) % self.trees.len().max(1);
        if self.trees.is_empty() && kind != Kind::Start {
            return;
        }
        match kind {
            Kind::Start => self.start(pick, size, luck),
            Kind::Reserve => self.reserve(tree, size, luck),
            Kind::Settle => self.settle(tree, size, luck),
            Kind::Child => self.child(tree, size, luck),
            Kind::EndChild => self.end_child(tree, luck),
            Kind::Expire => self.go_on(tree, Some(WaitEnd::Expired)),
            Kind::Land => self.land(tree),
            Kind::Finish => self.finish(tree),
            Kind::Cancel => self.cancel(tree),
            Kind::Ask => self.ask_person(tree, luck),
            Kind::Park => self.park(tree),
            Kind::Resume => self.resume(tree, size),
            Kind::Crash => self.crash(luck),
            Kind::Advance => {
                self.to(Timestamp(self.now.0 + DAY / 256 * u64::from(size)));
                // Whoever comes first meets the new period.
                self.reserve(tree, size, luck);
            }
            Kind::StepBack => self.now = Timestamp(self.now.0 - u64::from(size) * DAY / 512),
            Kind::SetCap => self.set_cap(usize::from(pick) % 3, luck),
            Kind::Repeat => self.repeat(usize::from(size)),
            Kind::Unfreeze => self.unfreeze(),
            Kind::Grant => self.grant(size, luck),
            Kind::Switch => self.switch(usize::from(pick)),
        }
    }

    fn op(&mut self, tree: usize, events: Vec<(RunId, Event)>, asks: Vec<Ask>) -> Vec<Verdict> {
        let op = Op { run: self.trees[tree].root(), events, asks, plan: None };
        let decision = self.subject.decide(op.clone(), self.now);
        self.judge.after(Some(&op), &decision, self.now, &self.subject);
        let verdicts = decision.verdicts.clone();
        self.news.extend(decision.notices);
        verdicts
    }

    /// Tells those who waited; what they do may bring news to others.
    fn spread_news(&mut self) {
        while let Some((run, notice)) = self.news.pop_front() {
            let Some(tree) = self.trees.iter().position(|tree| tree.root() == run) else { continue };
            match notice {
                Notice::Admitted(first) => self.admitted(tree, first.map(|first| *first)),
                Notice::TurnedAway(_) => self.turned_away(tree),
                Notice::Granted(granted) => {
                    self.trees[tree].phase = Phase::Running;
                    self.send(tree, &granted);
                }
                Notice::Stalled => self.go_on(tree, None),
            }
        }
    }

    fn send(&mut self, tree: usize, granted: &Reserved) {
        self.judge.sent(granted.reservation);
        let purpose = purpose_of(granted).unwrap_or(Purpose::Turn);
        let attempt = Attempt { id: granted.reservation, amount: granted.amount, purpose };
        let node = self.trees[tree].nodes.iter_mut().find(|node| node.run == granted.reservation.run);
        node.expect("a known run").attempts.push(attempt);
        if !granted.landing.is_zero() {
            let wanted = &mut self.trees[tree].landing.1;
            *wanted = granted.landing.max(*wanted);
        }
    }

    fn start(&mut self, pick: u8, size: u8, luck: u8) {
        if self.trees.len() >= RUNS_MAX {
            return;
        }
        let root = run(self.bits << 64);
        self.bits += 1;
        let tenant = ["acme", "bolt", "core"][usize::from(pick % 3)];
        let feature = if luck.is_multiple_of(2) { "support" } else { "sales" };
        let cap = money(60 + 4 * u64::from(size));
        let birth = Birth {
            labels: labels(&[("tenant", tenant), ("feature", feature)]),
            cap,
            load_line: cap,
            expected: (!luck.is_multiple_of(8)).then(|| money(u64::from(luck % 48))),
            foreseen: None,
            parent: None,
            stage_caps: stage_caps(size, luck),
        };
        let node = Node { run: root, parent: 0, depth: 0, next: 1, attempts: Vec::new(), ended: false };
        let landing = (id(root, 0), money(5 + u64::from(size % 16)));
        let lands = !luck.is_multiple_of(5);
        self.trees.push(Tree { nodes: vec![node], phase: Phase::Queued, lands, landing, ask: None });
        let tree = self.trees.len() - 1;
        self.admit(tree, vec![(root, created(birth))], size);
    }

    fn admit(&mut self, tree: usize, events: Vec<(RunId, Event)>, size: u8) {
        let first = self.trees[tree].number(0);
        let ask = ReserveAsk { lower: Some(lower()), ..at_once(self.call(tree, first, Purpose::Turn, size)) };
        let landing = self.trees[tree].lands.then_some(self.trees[tree].landing);
        let verdicts = self.op(tree, events, vec![Ask::Admit(super::vocabulary::admit(landing, ask))]);
        match verdicts.into_iter().next() {
            Some(Verdict::Admitted(first)) => self.admitted(tree, first.map(|first| *first)),
            Some(Verdict::TurnedAway(_) | Verdict::NotRunning) => self.turned_away(tree),
            _ => self.trees[tree].phase = Phase::Queued,
        }
        self.spread_news();
    }

    fn admitted(&mut self, tree: usize, first: Option<Reserved>) {
        self.trees[tree].phase = Phase::Running;
        if let Some(first) = first {
            self.send(tree, &first);
        }
        // Its children go on with it.
        let root = self.trees[tree].root();
        let open = self.trees[tree].nodes.iter().filter(|node| !node.ended && node.run != root);
        let events: Vec<(RunId, Event)> = open.map(|node| (node.run, child_admitted())).collect();
        if !events.is_empty() {
            self.op(tree, events, Vec::new());
        }
    }

    fn turned_away(&mut self, tree: usize) {
        self.end(tree, EndState::Stopped, Vec::new());
    }

    fn end(&mut self, tree: usize, state: EndState, mut events: Vec<(RunId, Event)>) {
        let nodes = self.trees[tree].nodes.clone();
        for node in nodes.iter().rev().filter(|node| !node.ended) {
            events.push((node.run, ended(state)));
            if node.depth > 0 {
                events.push((nodes[node.parent].run, child_ended(node.run, state)));
            }
        }
        self.trees[tree].nodes.iter_mut().for_each(|node| node.ended = true);
        self.trees[tree].phase = Phase::Ended;
        self.op(tree, events, Vec::new());
        self.spread_news();
    }

    fn call(&self, tree: usize, id: ReservationId, purpose: Purpose, size: u8) -> Reserved {
        let wanted = self.trees[tree].landing.1.plus(money(u64::from(size % 3)));
        let call = reserved(id, money(10 + u64::from(size % 32)), purpose, wanted);
        at_stage(with_price(call, size % 3), stage(size))
    }

    fn ask(&mut self, tree: usize, node: usize, size: u8, luck: u8) -> ReserveAsk {
        let last = luck.is_multiple_of(16) && node == 0 && self.trees[tree].in_flight() == 0;
        let number = self.trees[tree].number(node);
        let call = self.call(tree, number, if last { Purpose::Last } else { Purpose::Turn }, size);
        match luck % 4 {
            0 => ReserveAsk { lower: Some(lower()), ..at_once(call) },
            _ => patient(call, self.now.0 + 30_000),
        }
    }

    fn reserve(&mut self, tree: usize, size: u8, luck: u8) {
        let alive: Vec<usize> =
            (0..self.trees[tree].nodes.len()).filter(|n| !self.trees[tree].nodes[*n].ended).collect();
        if self.trees[tree].phase != Phase::Running || self.trees[tree].in_flight() > 3 || self.is_last(tree) {
            return;
        }
        let node = alive[usize::from(luck) % alive.len()];
        let ask = self.ask(tree, node, size, luck);
        self.trees[tree].ask = Some(ask.clone());
        let verdicts = self.op(tree, Vec::new(), vec![Ask::Reserve(Box::new(ask))]);
        self.answered(tree, verdicts.into_iter().next());
        self.spread_news();
    }

    /// A run whose last call is in flight asks for nothing more.
    fn is_last(&self, tree: usize) -> bool {
        self.trees[tree].nodes[0].attempts.iter().any(|attempt| attempt.purpose == Purpose::Last)
    }

    fn answered(&mut self, tree: usize, verdict: Option<Verdict>) {
        match verdict {
            Some(Verdict::Granted(granted)) => self.send(tree, &granted),
            Some(Verdict::Waiting) => self.trees[tree].phase = Phase::Waiting,
            // A stage's account that is short stops the stage; the others go on.
            Some(Verdict::Short(short))
                if short.own_tree || matches!(short.account, AccountKey::Node { stage: Some(_), .. }) => {}
            Some(Verdict::Short(_)) => self.land(tree),
            Some(Verdict::Frozen(_)) => self.trees[tree].phase = Phase::Stopping,
            Some(Verdict::Paused(_)) => self.rest(tree),
            _ => {}
        }
    }

    /// Rule 9c and on: nothing cheaper to fall to, so fewer tokens, else the run lands.
    fn go_on(&mut self, tree: usize, end_wait: Option<WaitEnd>) {
        if self.trees[tree].phase != Phase::Waiting {
            return;
        }
        let Some(mut ask) = self.trees[tree].ask.clone() else { return };
        (ask.lower, ask.wait_until) = (Some(lower()), None);
        let mut asks: Vec<Ask> = end_wait.map(Ask::EndWait).into_iter().collect();
        asks.push(Ask::Reserve(Box::new(ask)));
        self.trees[tree].phase = Phase::Running;
        let verdict = self.op(tree, Vec::new(), asks).pop();
        self.answered(tree, verdict);
        self.spread_news();
    }

    fn land(&mut self, tree: usize) {
        let phase = self.trees[tree].phase;
        if !matches!(phase, Phase::Running | Phase::Waiting) || self.is_last(tree) {
            return;
        }
        let root = self.trees[tree].root();
        let kept = self.judge.landing_of(root);
        let number = self.trees[tree].number(0);
        let began = (root, Event::LandingBegan(LandingBegan { refusal: some_refusal() }));
        let mut asks = if phase == Phase::Waiting { vec![Ask::EndWait(WaitEnd::Expired)] } else { Vec::new() };
        if let Some(kept) = kept {
            let call = with_price(reserved(number, kept, Purpose::Landing, Money::ZERO), 0);
            asks.push(Ask::Reserve(Box::new(at_once(call))));
        }
        self.trees[tree].phase = Phase::Stopping;
        let verdict = self.op(tree, vec![began], asks).pop();
        if let Some(Verdict::Granted(granted)) = verdict {
            self.trees[tree].phase = Phase::Landing;
            self.send(tree, &granted);
        }
        self.stop_if_drained(tree);
        self.spread_news();
    }

    fn stop_if_drained(&mut self, tree: usize) {
        if matches!(self.trees[tree].phase, Phase::Stopping | Phase::Landing) && self.trees[tree].in_flight() == 0 {
            self.end(tree, EndState::Stopped, Vec::new());
        }
    }

    fn settle(&mut self, tree: usize, size: u8, luck: u8) {
        let nodes = &self.trees[tree].nodes;
        let Some(node) = nodes.iter().rposition(|node| !node.attempts.is_empty()) else { return };
        let attempt = self.trees[tree].nodes[node].attempts.remove(0);
        let (event, invoice) = outcome(&attempt, size, luck);
        self.judge.billed(attempt.id, invoice);
        if matches!(event, Event::Settled(_)) {
            self.settled.push(event.clone());
        }
        let goes_on = self.trees[tree].phase == Phase::Running && attempt.purpose == Purpose::Turn;
        let alive = !self.trees[tree].nodes[node].ended && !self.is_last(tree);
        let mut asks = Vec::new();
        if goes_on && alive && (luck.is_multiple_of(2) || matches!(event, Event::Voided(_))) {
            let ask = self.ask(tree, node, size, luck / 2);
            self.trees[tree].ask = Some(ask.clone());
            asks.push(Ask::Reserve(Box::new(ask)));
        }
        let verdict = self.op(tree, vec![(attempt.id.run, event)], asks).pop();
        self.answered(tree, verdict);
        match attempt.purpose {
            Purpose::Last if self.trees[tree].in_flight() == 0 => self.finish(tree),
            Purpose::Last | Purpose::Landing => self.trees[tree].phase = Phase::Stopping,
            Purpose::Turn | Purpose::Repair | Purpose::Summary => {}
        }
        self.stop_if_drained(tree);
        self.spread_news();
    }

    fn child(&mut self, tree: usize, size: u8, luck: u8) {
        let nodes = &self.trees[tree].nodes;
        let alive: Vec<usize> = (0..nodes.len()).filter(|n| !nodes[*n].ended && nodes[*n].depth < 3).collect();
        let runs = self.trees[tree].phase == Phase::Running && !self.is_last(tree);
        if !runs || nodes.len() >= TREE_MAX || alive.is_empty() {
            return;
        }
        let parent = alive[usize::from(luck) % alive.len()];
        let (root, above) = (self.trees[tree].root(), self.trees[tree].nodes[parent].clone());
        let child = run(root.bits() + self.trees[tree].nodes.len() as u128);
        let birth = Birth {
            labels: labels(&[("tenant", "nobody")]),
            cap: money(20 + u64::from(size)),
            load_line: Money::ZERO,
            expected: None,
            foreseen: None,
            parent: Some(Parent { root, run: above.run, stage: stage(size).into() }),
            stage_caps: stage_caps(size, luck / 2),
        };
        let (depth, attempts) = (above.depth + 1, Vec::new());
        self.trees[tree].nodes.push(Node { run: child, parent, depth, next: 0, attempts, ended: false });
        let began = (above.run, child_began(child, stage(size)));
        self.op(tree, vec![began, (child, created(birth)), (child, child_admitted())], Vec::new());
        self.spread_news();
    }

    fn end_child(&mut self, tree: usize, luck: u8) {
        let nodes = &self.trees[tree].nodes;
        let leaf = |n: &usize| !nodes.iter().any(|below| !below.ended && below.depth > 0 && below.parent == *n);
        let idle = |n: &usize| !nodes[*n].ended && nodes[*n].attempts.is_empty();
        let children: Vec<usize> = (1..nodes.len()).filter(idle).filter(leaf).collect();
        let Some(child) = children.get(usize::from(luck) % children.len().max(1)).copied() else {
            return;
        };
        self.trees[tree].nodes[child].ended = true;
        let (child, above) = (&self.trees[tree].nodes[child], &self.trees[tree].nodes);
        let (child, parent) = (child.run, above[child.parent].run);
        let waited_for = self.trees[tree].ask.as_ref().is_some_and(|ask| ask.reserved.reservation.run == child);
        if self.trees[tree].phase == Phase::Waiting && waited_for {
            // Nobody is there any more whom the money could be for.
            self.trees[tree].phase = Phase::Running;
        }
        let events = vec![(child, ended(EndState::Finished)), (parent, child_ended(child, EndState::Finished))];
        self.op(tree, events, Vec::new());
        self.spread_news();
    }

    fn finish(&mut self, tree: usize) {
        if self.trees[tree].phase == Phase::Running && self.trees[tree].in_flight() == 0 {
            self.end(tree, EndState::Finished, Vec::new());
        }
    }

    fn cancel(&mut self, tree: usize) {
        if matches!(self.trees[tree].phase, Phase::Ended | Phase::Stopping | Phase::Landing) {
            return;
        }
        let root = self.trees[tree].root();
        self.trees[tree].phase = Phase::Stopping;
        let asked = CancelRequested { reason: "enough".into() };
        self.op(tree, vec![(root, Event::CancelRequested(asked))], Vec::new());
        // A part of the run that hasn't heard of it yet still asks.
        let late = self.ask(tree, 0, 9, 1);
        let verdict = self.op(tree, Vec::new(), vec![Ask::Reserve(Box::new(late))]).pop();
        self.answered(tree, verdict);
        self.stop_if_drained(tree);
        self.spread_news();
    }

    /// A lane waits for a person; the others go on.
    fn ask_person(&mut self, tree: usize, luck: u8) {
        let open: Vec<RunId> = self.trees[tree].nodes.iter().filter(|node| !node.ended).map(|node| node.run).collect();
        if self.trees[tree].phase == Phase::Running {
            let run = open[usize::from(luck) % open.len()];
            self.op(tree, vec![(run, person_asked())], Vec::new());
            self.spread_news();
        }
    }

    /// Rule 13: the whole tree waits for a person, and holds nothing.
    fn park(&mut self, tree: usize) {
        let root = self.trees[tree].root();
        if self.trees[tree].phase != Phase::Running || self.trees[tree].in_flight() > 0 {
            return;
        }
        self.trees[tree].phase = Phase::Person;
        let reservation = self.trees[tree].landing.0;
        let released = LandingReleased { reservation, why: "a person is asked".into() };
        let mut events = vec![(root, Event::LandingReleased(released))];
        let nodes = self.trees[tree].nodes.iter().filter(|node| !node.ended);
        events.extend(nodes.map(|node| (node.run, parked())));
        self.op(tree, events, Vec::new());
        self.spread_news();
    }

    fn resume(&mut self, tree: usize, size: u8) {
        if matches!(self.trees[tree].phase, Phase::Person | Phase::Interrupted) {
            self.trees[tree].landing.0 = self.trees[tree].number(0);
            let answers = self.trees[tree].phase == Phase::Person;
            let last = self.trees[tree].nodes.iter().rfind(|node| !node.ended).expect("an open run").run;
            let answer = answers.then(|| (last, person_answered()));
            self.admit(tree, answer.into_iter().collect(), size);
        }
    }

    fn crash(&mut self, luck: u8) {
        for tree in 0..self.trees.len() {
            let attempts: Vec<Attempt> = self.trees[tree].nodes.iter_mut().flat_map(|n| n.attempts.drain(..)).collect();
            for attempt in attempts {
                let billed = if luck.is_multiple_of(2) { attempt.amount } else { attempt.amount.half() };
                self.judge.billed(attempt.id, billed);
            }
        }
        self.news.clear();
        let decision = self.subject.crash(self.now);
        self.judge.after_crash(&decision, self.now, &self.subject);
        for tree in 0..self.trees.len() {
            match self.trees[tree].phase {
                Phase::Ended | Phase::Person => {}
                Phase::Queued => self.resume_queued(tree),
                Phase::Stopping | Phase::Landing => self.end(tree, EndState::Stopped, Vec::new()),
                Phase::Running | Phase::Waiting | Phase::Interrupted => self.trees[tree].phase = Phase::Interrupted,
            }
        }
        self.spread_news();
    }

    fn resume_queued(&mut self, tree: usize) {
        self.trees[tree].landing.0 = self.trees[tree].number(0);
        self.admit(tree, Vec::new(), 7);
    }

    fn to(&mut self, now: Timestamp) {
        self.now = now.max(self.now);
        let decision = self.subject.tick(self.now);
        self.without_op(decision);
    }

    fn set_cap(&mut self, index: usize, luck: u8) {
        self.budgets[index].cap = money(30 + u64::from(luck));
        self.judge.set_budgets(self.budgets.clone(), self.now);
        let decision =
            self.subject.set_policy(LedgerPolicy { budgets: self.budgets.clone(), alerts: Vec::new() }, self.now);
        self.without_op(decision);
    }

    fn without_op(&mut self, decision: Decision) {
        self.judge.after(None, &decision, self.now, &self.subject);
        self.news.extend(decision.notices);
        self.spread_news();
    }

    /// A fact that comes twice counts once.
    fn repeat(&mut self, index: usize) {
        let Some(event) = self.settled.get(index % self.settled.len().max(1)).cloned() else { return };
        let Event::Settled(settled) = &event else { return };
        let run = settled.reservation.run;
        self.op(0, vec![(run, event)], Vec::new());
        self.spread_news();
    }

    fn unfreeze(&mut self) {
        for number in 0..3 {
            self.subject.unfreeze(&price(number));
            self.judge.unfrozen(&price(number));
        }
    }

    /// Lets every call answer and every run end; then nobody may wait.
    fn drain(&mut self) {
        self.lift_all();
        for _ in 0..DRAIN_ROUNDS_MAX {
            let mut moved = false;
            for tree in 0..self.trees.len() {
                moved |= self.wind_up(tree);
                if !self.judge.faults.is_empty() {
                    return;
                }
            }
            if !moved {
                return self.judge.at_the_end();
            }
        }
        self.judge.faults.push("promise 8: the runs don't end".into());
    }

    fn wind_up(&mut self, tree: usize) -> bool {
        if self.trees[tree].in_flight() > 0 {
            self.settle(tree, 128, 201);
            return true;
        }
        match self.trees[tree].phase {
            Phase::Running => self.finish(tree),
            Phase::Stopping | Phase::Landing => self.stop_if_drained(tree),
            Phase::Person | Phase::Interrupted => self.end(tree, EndState::Cancelled, Vec::new()),
            Phase::Queued | Phase::Waiting | Phase::Ended => return false,
        }
        true
    }
}

/// What an attempt gives: mostly a bill inside its bound; now and then none, an unknown, or one above it.
fn outcome(attempt: &Attempt, size: u8, luck: u8) -> (Event, Money) {
    let part = Money::from_pico(attempt.amount.pico() * u128::from(size) / 255);
    match luck {
        0..=5 => {
            let over = attempt.amount.plus(money(1 + u64::from(size % 9)));
            (settled(attempt.id, over, CostSource::Reported), over)
        }
        6..=40 => (settled(attempt.id, attempt.amount, CostSource::Unknown), part),
        41..=80 => (voided(attempt.id), Money::ZERO),
        81..=u8::MAX => (settled(attempt.id, part, CostSource::Reported), part),
    }
}

/// Which stage calls.
fn stage(size: u8) -> &'static str {
    if size.is_multiple_of(2) { "main" } else { "side" }
}

/// One run of three has a stage with a cap of its own.
fn stage_caps(size: u8, luck: u8) -> BTreeMap<StageName, Money> {
    let caps = luck.is_multiple_of(3).then(|| ("side".into(), money(30 + u64::from(size))));
    caps.into_iter().collect()
}

fn some_refusal() -> Refusal {
    Refusal {
        limit: LimitKind::Steps,
        subject: None,
        value: "12".into(),
        observed: "12 made".into(),
        declared: Declared::Default,
    }
}
