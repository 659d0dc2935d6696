//! How a drive is over: an end, a landing that begins, a wait for a person, a clean stop.

use super::{Conductor, Flow, InFlight};
use crate::domain::event::{
    EndState, Ended, Event, Interrupted, LandingBegan, LandingReleased, Parked, Reserved, RunState,
};
use crate::domain::limits::Refusal;
use crate::failpoint;
use crate::gate::{Effort, Passage, Submitted};
use crate::ids::RunId;
use crate::runtime::{RuntimeError, outcome, settle};
use crate::store::NoticeCommitted;
use crate::units::Millis;

/// How long a clean stop waits for what is in flight before it gives it up as unknown.
const STOP_DRAIN: Millis = Millis::from_secs(12);

impl Conductor {
    pub(super) async fn end(&mut self, ended: Ended) -> Result<Flow, RuntimeError> {
        let output = ended.output.clone().filter(|_| ended.state == EndState::Finished);
        self.note_root(Event::Ended(ended));
        let rules = self.root().plan.outcome.as_ref();
        let outcome =
            rules.zip(output.as_ref()).and_then(|(rules, output)| outcome::derived(self.root(), rules, output));
        if let Some(outcome) = outcome {
            self.note_root(outcome);
        }
        failpoint::reach("run.end");
        self.submit(vec![]).await?;
        Ok(Flow::Leave)
    }

    pub(super) async fn land(&mut self, refusal: Refusal) -> Result<Flow, RuntimeError> {
        if !self.root().can_land() {
            if self.tree.is_busy() || self.tree.runs().len() > 1 {
                // What is in flight drains first, and runs below end; then the run ends by this limit.
                self.note_root(Event::LandingBegan(LandingBegan { refusal }));
                return Ok(Flow::On);
            }
            let ended = self.root().stopped(refusal);
            return self.end(ended).await;
        }
        self.own.effort = Effort::default();
        self.note_root(Event::LandingBegan(LandingBegan { refusal }));
        Ok(Flow::On)
    }

    /// Only people can move the tree: what is held is given back, and whoever drives it goes (LEDGER rule 13).
    pub(super) async fn park(&mut self, parked: Parked) -> Result<Flow, RuntimeError> {
        if self.root().state.awaits_person() && self.draft.is_empty() {
            return Ok(Flow::Leave);
        }
        self.release_landing("the run waits for a person");
        // Younger runs hang below older ones: the root comes last.
        let open: Vec<RunId> = self.tree.runs().rev().map(|run| run.id).collect();
        for run in open {
            self.note(run, Event::Parked(parked));
        }
        failpoint::reach("run.park");
        self.submit(vec![]).await?;
        failpoint::reach("run.parked");
        Ok(Flow::Leave)
    }

    pub(super) fn release_landing(&mut self, why: &str) {
        if let Some(landing) = self.root().landing.clone() {
            let released = LandingReleased { reservation: landing.reservation, why: why.to_owned() };
            self.note_root(Event::LandingReleased(released));
        }
    }

    /// A clean stop: what is in flight is drained, for a while; then the run is `interrupted`, and can be resumed.
    pub(super) async fn interrupt(&mut self) -> Result<RunState, RuntimeError> {
        self.cancel.send_replace(true);
        let drain = async {
            while let Some(done) = self.tasks.join_next_with_id().await {
                self.take_done(done);
            }
        };
        let drained = tokio::time::timeout(STOP_DRAIN.duration(), drain).await.is_ok();
        if !drained {
            for InFlight { reserved, .. } in std::mem::take(&mut self.in_flight).into_values() {
                let run = reserved.reservation.run;
                self.note(
                    run,
                    settle::broken_off(&reserved, "the run was asked to stop, and the answer took too long"),
                );
            }
        }
        failpoint::reach("run.stop");
        if self.root().ended.is_none() {
            if self.is_new && self.root().state == RunState::Queued {
                // Nothing was promised yet, but the run exists from here on.
                self.submit(vec![]).await?;
                return Ok(self.root().state);
            }
            // Younger runs hang below older ones: the root comes last.
            let open: Vec<RunId> = self.tree.runs().rev().map(|run| run.id).collect();
            for run in open {
                self.note(run, Event::Interrupted(Interrupted { why: "asked to stop".into(), clean: true }));
            }
        }
        self.submit(vec![]).await?;
        Ok(self.root().state)
    }

    /// A switch holds the tree: nothing more is asked for.
    pub(super) fn hold_back(&mut self, refusal: Refusal) -> Flow {
        self.pending.clear();
        self.tell_turn(&refusal);
        self.held_back = Some(refusal);
        Flow::On
    }

    /// Once nothing is in flight, a tree that is held holds nothing itself: its runs are `interrupted`, and can go on by an
    /// admission like any other, which the switch holds.
    pub(super) async fn rest(&mut self, refusal: &Refusal) -> Result<Flow, RuntimeError> {
        self.rate_waits.clear();
        if !self.in_flight.is_empty() {
            self.submit(vec![]).await?;
            return Ok(Flow::Wait);
        }
        if self.root().cancelled.is_some() {
            // Somebody ends it meanwhile, which no switch holds.
            self.held_back = None;
            return Ok(Flow::On);
        }
        let open: Vec<RunId> = self.tree.runs().rev().map(|run| run.id).collect();
        let goes_on = self.root().ended.is_none();
        for run in open.into_iter().filter(|_| goes_on) {
            self.note(run, Event::Interrupted(Interrupted { why: format!("held: {refusal}"), clean: true }));
        }
        self.submit(vec![]).await?;
        Ok(Flow::Leave)
    }

    /// Money may have come for an attempt while the run was being stopped or cancelled: the call was never made.
    pub(super) async fn give_back(&mut self) -> Result<(), RuntimeError> {
        while let Ok(news) = self.notices.try_recv() {
            let Submitted { events, passages } = self.receive(*news);
            self.fold(&events, 0);
            for passage in passages {
                if let Passage::Admitted(Some(pass)) | Passage::Granted(pass) = passage {
                    let reservation = pass.permit.spend();
                    self.note(
                        reservation.run,
                        settle::never_made(reservation, "the run was asked to stop before the call was made"),
                    );
                }
            }
        }
        self.submit(vec![]).await?;
        Ok(())
    }

    pub(super) fn receive(&self, news: NoticeCommitted) -> Submitted {
        let now = self.now();
        let left = |reserved: &Reserved| self.tree.time_to_wait(reserved.reservation.run, &reserved.step.place(), now);
        self.shared.gate.receive(news, |reserved| (self.first_token_limit(reserved), left(reserved)))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;
    use std::sync::Arc;

    use super::*;
    use crate::clock::Clock;
    use crate::domain::event::{Call, CostSource, Labels, Outcome, Reserved};
    use crate::domain::run::Tree;
    use crate::runtime::{Agent, NewRun, Runtime, RuntimeOptions, silent};
    use crate::spec::load::{Answering, LoadOptions, load_agent};
    use crate::units::Money;
    use tokio::sync::{mpsc, watch};

    /// A runtime over the shipped agent, whose provider is a socket that nobody reads from.
    fn runtime(folder: &Path, provider: &std::net::TcpListener) -> Runtime {
        let options = LoadOptions { answering: Answering::Simulated, ..LoadOptions::default() };
        let (mut project, plan) =
            load_agent(Path::new(env!("CARGO_MANIFEST_DIR")), "support-triage", &options).expect("it loads");
        project.store = folder.join("store");
        let simulated = Some(format!("http://{}/v1", provider.local_addr().expect("an address")));
        let options = RuntimeOptions { clock: Clock::system(), simulated, prices: vec![], load_lines: BTreeMap::new() };
        Runtime::open(&project, BTreeMap::from([(plan.agent.clone(), plan)]), options).expect("it opens")
    }

    /// An attempt that doesn't even hear of the stop.
    fn replace_by_deaf(conductor: &mut Conductor) -> Box<Reserved> {
        let (_, flying) = conductor.in_flight.pop_first().expect("a call");
        let reserved = flying.reserved.clone();
        conductor.tasks = tokio::task::JoinSet::new();
        let deaf = conductor.tasks.spawn(std::future::pending());
        conductor.in_flight.insert(deaf.id(), flying);
        reserved
    }

    #[tokio::test]
    async fn a_stop_gives_up_what_it_cant_drain_and_keeps_its_money_as_unknown() {
        let folder = tempfile::tempdir().expect("a folder");
        let provider = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let runtime = runtime(folder.path(), &provider);
        let input = serde_json::json!({"ticket": "Where is my order 48213?"});
        let new = NewRun {
            agent: "support-triage".into(),
            input,
            labels: Labels::new(),
            key: None,
            files: vec![],
            bound: vec![],
        };
        let id = runtime.create(&new).await.expect("a run");
        let (run, created) = runtime.load(id).expect("it loads");
        let rendered = runtime.render(Arc::new(Agent::new(run.plan.clone())), &created, &run).expect("it renders");
        let ((_cancel, requests), (_hang_up, hung_up)) = (mpsc::channel(1), watch::channel(false));
        let tree = Tree::of(run);
        let mut conductor = Conductor::new(runtime.0.clone(), tree, rendered, silent(), None, requests, hung_up);
        assert!(matches!(conductor.admit().await, Ok(Flow::Wait)), "its first call is in flight");
        let reserved = replace_by_deaf(&mut conductor);
        assert!(matches!(reserved.call, Call::Model(_)));
        tokio::time::pause();
        let asked = tokio::time::Instant::now();
        let state = conductor.interrupt().await.expect("it stops");
        assert_eq!((state, asked.elapsed().as_secs()), (RunState::Interrupted, 12));
        let log = runtime.store().events(id).expect("a log");
        let settled = log
            .iter()
            .find_map(|recorded| if let Event::Settled(settled) = &recorded.event { Some(settled) } else { None });
        let settled = settled.expect("it is settled");
        assert_eq!((settled.source, settled.bill), (CostSource::Unknown, reserved.amount));
        assert!(matches!(&settled.outcome, Outcome::Failed(failure) if failure.message.contains("too long")));
        assert_eq!(runtime.store().holds().expect("it reads"), []);
        assert_eq!(runtime.store().summary(id).expect("it reads").expect("a run").held, Money::ZERO);
        runtime.store().verify().expect("the books are right");
    }
}
