//! What must hold once every run has ended: the ledger against the invoice, and both against what was done.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use plimsoll::clock::Clock;
use plimsoll::domain::event::{AccountKey, Call, CostSource, Decision, Event, Outcome, Recorded, Reserved, Settled};
use plimsoll::domain::ledger::LedgerPolicy;
use plimsoll::ids::{ReservationId, RunId};
use plimsoll::sim::Invoice;
use plimsoll::store::{RunFilter, Store};
use plimsoll::units::Money;

use super::project::Project;

/// All that the store and the invoice say.
pub(crate) struct Books {
    pub(crate) logs: BTreeMap<RunId, Vec<Recorded>>,
    pub(crate) store: Store,
    pub(crate) invoice: Invoice,
}

/// How one reservation ended.
enum Fate {
    Open,
    Settled(Box<Settled>),
    Voided,
}

impl Books {
    pub(crate) fn open(project: &Project) -> Self {
        Self::at(&project.store(), &project.sim.invoice)
    }

    /// Those of a store and an invoice's file. No process may hold the store.
    pub(crate) fn at(store: &Path, invoice: &Path) -> Self {
        let store = Store::open(store, LedgerPolicy::default(), Clock::system()).expect("the store opens");
        let (mut logs, mut filter) = (BTreeMap::new(), RunFilter::default());
        loop {
            let page = store.summaries(&filter).expect("it lists");
            let Some(last) = page.last() else { break };
            filter.before = Some(last.id);
            logs.extend(page.iter().map(|run| (run.id, store.events(run.id).expect("it reads"))));
        }
        let invoice = Invoice::read(invoice).unwrap_or_default();
        Self { logs, store, invoice }
    }

    /// How many attempts ended unknown, and how many decisions persons took: what the kills came to.
    pub(crate) fn unknown_and_decided(&self) -> (usize, usize) {
        let events = || self.logs.values().flatten().map(|recorded| &recorded.event);
        let unknown =
            events().filter(|event| matches!(event, Event::Settled(settled) if settled.source == CostSource::Unknown));
        (unknown.count(), events().filter(|event| matches!(event, Event::PersonAnswered(_))).count())
    }

    /// Everything at once.
    pub(crate) fn check(&self, project: &Project) {
        self.agree();
        self.effects_were_decided(project);
    }

    /// Every run has ended, the ledger is the invoice, and no step that was settled was sent again.
    pub(crate) fn agree(&self) {
        self.runs_have_ended();
        self.ledger_is_the_invoice();
        self.nothing_is_sent_again();
        self.accounts_add_up();
    }

    /// What a process showed as durable is in the log, as it was shown.
    pub(crate) fn contain(&self, shown: &[String]) {
        for line in shown {
            // The last line may be torn.
            let Ok(value) = serde_json::from_str::<serde_json::Value>(line) else { continue };
            let run: RunId = value["run"].as_str().expect("a run").parse().expect("an id");
            let shown: Recorded = serde_json::from_value(value).expect("an event");
            let kept = self.logs[&run].get(usize::try_from(shown.seq).expect("small"));
            assert_eq!(kept, Some(&shown), "what was shown of run {run} is in its log");
        }
    }

    fn runs_have_ended(&self) {
        for (run, log) in &self.logs {
            assert!(log.iter().zip(0..).all(|(recorded, seq)| recorded.seq == seq), "run {run} has no gap");
            assert!(has_ended(log), "run {run} has ended: {:?}", log.last());
        }
    }

    /// Promises 5 and 6, line by line and in all.
    fn ledger_is_the_invoice(&self) {
        let lines = self.invoice.by_client_id();
        let named: usize = lines.values().map(Vec::len).sum();
        assert_eq!(u64::try_from(named), Ok(self.invoice.count), "each call on the invoice names its reservation");
        let mut unexplained: BTreeSet<&str> = lines.keys().copied().collect();
        let (mut settled, mut surplus) = (Money::ZERO, Money::ZERO);
        for (id, (reserved, fate)) in self.reservations() {
            let name = id.to_string();
            let calls = lines.get(name.as_str()).map_or(&[][..], Vec::as_slice);
            unexplained.remove(name.as_str());
            assert!(calls.len() <= 1, "reservation {name} stands for one call, and {} were made", calls.len());
            let invoiced: Money = calls.iter().map(|line| line.amount_usd).sum();
            match fate {
                Fate::Open => unreachable!("reservation {name} is open after the end"),
                Fate::Voided => assert!(invoiced.is_zero(), "{name} was voided, and billed {invoiced}"),
                Fate::Settled(bill) => {
                    settled = settled.plus(bill.bill);
                    if bill.source == CostSource::Unknown {
                        assert!(bill.bill >= invoiced, "{name} is unknown at {}, and billed {invoiced}", bill.bill);
                        assert_eq!(bill.bill, reserved.amount, "unknown means the whole reservation");
                        surplus = surplus.plus(bill.bill.left_after(invoiced));
                    } else {
                        assert_eq!(bill.bill, invoiced, "{name} settles what the invoice says");
                    }
                }
            }
        }
        assert!(unexplained.is_empty(), "calls without a reservation: {unexplained:?}");
        assert_eq!(settled, self.invoice.total.plus(surplus), "the ledger is the invoice and the unknowns' surplus");
    }

    /// Promise 7: a step that was settled with a reply is never attempted again, under whatever reservation.
    fn nothing_is_sent_again(&self) {
        for (run, log) in &self.logs {
            let mut steps = BTreeMap::new();
            let mut done = BTreeSet::new();
            for recorded in log {
                if let Event::Reserved(reserved) = &recorded.event {
                    assert!(!done.contains(&reserved.step), "run {run} repeats {:?}", reserved.step);
                    steps.insert(reserved.reservation, reserved.step.clone());
                } else if let Event::Settled(settled) = &recorded.event
                    && !matches!(settled.outcome, Outcome::Failed(_))
                {
                    done.extend(steps.remove(&settled.reservation));
                }
            }
        }
    }

    fn accounts_add_up(&self) {
        let verified = self.store.verify().expect("the books are right");
        assert!(self.store.holds().expect("it reads").is_empty(), "nothing is held after the end");
        let budgets: Money = self
            .store
            .accounts()
            .expect("it reads")
            .iter()
            .filter(|(key, _)| matches!(key, AccountKey::Budget { .. }))
            .map(|(_, account)| account.settled)
            .sum();
        assert_eq!(budgets, verified.settled, "the budget counts every run");
    }

    /// A call that isn't idempotent is made again only where a person said so.
    fn effects_were_decided(&self, project: &Project) {
        let mut results = BTreeMap::<&str, usize>::new();
        let mut tries = BTreeMap::<&str, usize>::new();
        let mut reruns = 0;
        let mut stamps = BTreeSet::new();
        for (id, (reserved, fate)) in self.reservations() {
            let Call::Tool { tool, call_id, .. } = &reserved.call else { continue };
            if let Fate::Settled(settled) = fate {
                *tries.entry(tool.as_str()).or_default() += 1;
                let result = matches!(settled.outcome, Outcome::ToolResult { .. });
                *results.entry(tool.as_str()).or_default() += usize::from(result);
                if tool.as_str() == "stamp" {
                    stamps.insert((id.run, reserved.step.step, call_id));
                }
            }
        }
        for event in self.logs.values().flatten() {
            reruns += usize::from(
                matches!(&event.event, Event::PersonAnswered(answered) if matches!(answered.decision, Decision::Allow { .. })),
            );
        }
        for tool in ["note", "stamp"] {
            let (effects, count) =
                (project.effects(tool), |of: &BTreeMap<&str, usize>| of.get(tool).copied().unwrap_or(0));
            assert!(effects >= count(&results), "{tool}: {effects} effects, {} results", count(&results));
            assert!(effects <= count(&tries), "{tool}: {effects} effects, {} calls", count(&tries));
        }
        let made = tries.get("stamp").copied().unwrap_or(0);
        assert!(made <= stamps.len() + reruns, "{made} stamps: {} asked for, {reruns} times again", stamps.len());
    }

    fn reservations(&self) -> BTreeMap<ReservationId, (&Reserved, Fate)> {
        let mut all = BTreeMap::new();
        for recorded in self.logs.values().flatten() {
            if let Event::Reserved(reserved) = &recorded.event {
                let twice = all.insert(reserved.reservation, (&**reserved, Fate::Open));
                assert!(twice.is_none(), "{} was reserved twice", reserved.reservation);
            } else if let Event::Settled(settled) = &recorded.event {
                close(&mut all, settled.reservation, Fate::Settled(settled.clone()));
            } else if let Event::Voided(voided) = &recorded.event {
                close(&mut all, voided.reservation, Fate::Voided);
            }
        }
        all
    }
}

fn close(all: &mut BTreeMap<ReservationId, (&Reserved, Fate)>, id: ReservationId, fate: Fate) {
    let (_, open) = all.get_mut(&id).expect("what is settled was reserved");
    assert!(matches!(open, Fate::Open), "{id} is settled or voided once");
    *open = fate;
}

fn has_ended(log: &[Recorded]) -> bool {
    log.iter().any(|recorded| matches!(recorded.event, Event::Ended(_)))
}
