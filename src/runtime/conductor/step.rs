//! One step of the drive: what the run wants next, taken through the gate in one durable write.
//!
//! Facts and asks of all lanes ride together, numbered in the order in which the run wants them (LEDGER rule 16). Free
//! builtins run at once where nothing is asked for before them.

use super::kept::Keep;
use super::rates::RatePass;
use super::{Conductor, Flow, Key, Pending, Talk, Work};
use crate::domain::event::{Call, CallRefusal, CallRefused, Event, Place, Purpose, Reserved, StageEnd, StageEnded};
use crate::domain::ledger::{Ask, ReserveAsk, Short};
use crate::domain::limits::{LimitKind, Refusal};
use crate::domain::policy::DowngradeWhy;
use crate::domain::run::{Intent, ModelIntent, NodeRef, Refused, ToolIntent, Tree};
use crate::failpoint;
use crate::gate::{Beside, Circumstances, Counted, Draft, Effort, Passage, Prepared, Rendered};
use crate::ids::RunId;
use crate::rates::Hold;
use crate::runtime::{RuntimeError, settle};
use crate::tool;
use crate::units::{Money, Timestamp};
use std::collections::BTreeMap;

/// What is asked for in one write.
#[derive(Default)]
struct Asked {
    list: Vec<(Box<Pending>, Box<ReserveAsk>)>,
    /// For each run what it asked for before, and what was asked for below it.
    beside: BTreeMap<RunId, Beside>,
}

impl Asked {
    fn push(&mut self, tree: &Tree, pending: Pending, ask: ReserveAsk) {
        for run in tree.chain(pending.reserved.reservation.run) {
            let beside = self.beside.entry(run.id).or_default();
            if run.id == pending.reserved.reservation.run {
                beside.count(&pending.reserved);
            } else {
                beside.count_below(&pending.reserved);
            }
        }
        self.list.push((Box::new(pending), Box::new(ask)));
    }

    fn beside(&self, run: RunId) -> Beside {
        self.beside.get(&run).copied().unwrap_or_default()
    }

    /// True where this run, or one below it, asked for something.
    fn has(&self, run: RunId) -> bool {
        self.beside.contains_key(&run)
    }
}

/// What came of one intent.
enum Taken {
    /// It is asked for, or comes again.
    On,
    /// A fact moved the state on: ask again what comes next.
    Moved,
    /// Somebody is stopped or has failed: what comes after it is decided anew.
    Stopped,
    /// It waits for rates: what comes after it is numbered as if it weren't there.
    Waits,
    /// What was asked for before it comes first; then it comes again, alone.
    Halt,
    /// The same, and it needn't wait for what comes of that.
    Next,
    Left(Flow),
}

impl Conductor {
    pub(super) async fn take(&mut self, intents: Vec<(RunId, Intent)>) -> Result<Flow, RuntimeError> {
        self.later = None;
        if intents.iter().any(|(_, intent)| matches!(intent, Intent::Child(_))) {
            self.begin_children(intents);
            return Ok(Flow::On);
        }
        let (mut asked, mut moved, mut again, mut whole) = (Asked::default(), false, false, true);
        let mut waiting: BTreeMap<RunId, u32> = BTreeMap::new();
        self.rate_waits.begin_look();
        for (run, mut intent) in intents {
            let new_step = renumber(&mut intent, waiting.get(&run).copied().unwrap_or_default());
            match self.take_one(run, intent, &mut asked).await? {
                Taken::On => {}
                Taken::Waits => *waiting.entry(run).or_default() += new_step,
                Taken::Moved => moved = true,
                Taken::Stopped => {
                    (moved, whole) = (true, false);
                    break;
                }
                Taken::Halt => {
                    whole = false;
                    break;
                }
                Taken::Next => {
                    (again, whole) = (true, false);
                    break;
                }
                Taken::Left(flow) => return Ok(flow),
            }
        }
        if whole {
            self.rate_waits.end_look();
        }
        match asked.list.is_empty() {
            false => {
                let flying = self.in_flight.len() + asked.list.len();
                match self.ask(asked).await? {
                    // Where one of them has no money yet, what comes after it waits too.
                    Flow::Wait if again && self.in_flight.len() == flying => Ok(Flow::On),
                    flow @ (Flow::On | Flow::Wait | Flow::Leave) => Ok(flow),
                }
            }
            true if moved => Ok(Flow::On),
            true => {
                self.submit(vec![]).await?;
                self.wait_for_something()
            }
        }
    }

    /// Runs of sub-agents begin first: what they want then stands in its order among the rest.
    fn begin_children(&mut self, intents: Vec<(RunId, Intent)>) {
        for (run, intent) in intents {
            if let Intent::Child(child) = intent {
                self.begin_child(run, child);
            }
        }
    }

    async fn take_one(&mut self, run: RunId, intent: Intent, asked: &mut Asked) -> Result<Taken, RuntimeError> {
        Ok(match intent {
            Intent::Refuse(refused) => {
                self.note(run, Event::CallRefused(refused));
                Taken::Moved
            }
            Intent::Child(child) => {
                self.begin_child(run, child);
                Taken::Moved
            }
            Intent::End(ended) => Taken::Left(self.end(ended).await?),
            Intent::Land(refusal) => Taken::Left(self.land(refusal).await?),
            Intent::Model(intent) => self.take_model(run, &intent, asked).await?,
            Intent::Tool(intent) => match self.take_tool(run, intent, asked) {
                true => Taken::Moved,
                false => Taken::On,
            },
        })
    }

    async fn take_model(&mut self, run: RunId, intent: &ModelIntent, asked: &mut Asked) -> Result<Taken, RuntimeError> {
        let refused = match self.prepare_counted(run, intent, asked.beside(run)).await {
            Ok(Prepared::Ready(draft)) => match self.judge_tokens(run, intent, &draft, asked) {
                Ok(()) => match self.take_ready(run, intent, *draft, asked) {
                    Ok(taken) => return Ok(taken),
                    Err(refusal) => Refused { node: NodeRef::Run(run), refusal },
                },
                Err(_) if draft.can_tighten && !self.effort(&self.key(run, intent)).tight => {
                    // Counting may show that there is room.
                    self.effort(&self.key(run, intent)).tight = true;
                    return Ok(Taken::Moved);
                }
                Err(refused) => refused,
            },
            Ok(Prepared::Later(until)) => {
                self.wake_at(until);
                return Ok(Taken::On);
            }
            // What one call may carry is that call's own affair: the run may do without its place.
            Ok(Prepared::Refused(refusal))
                if refusal.limit == LimitKind::Context && self.key(run, intent).1.is_some() && !asked.has(run) =>
            {
                self.end_place(run, intent.step.place(), StageEnd::Stopped, Some(*refusal), None);
                return Ok(Taken::Stopped);
            }
            Ok(Prepared::Refused(refusal)) => Refused { node: NodeRef::Run(run), refusal },
            Ok(Prepared::GiveUp(error)) | Err(error) => return self.give_up(run, intent, error, asked).await,
        };
        self.refused(intent, refused, asked).await
    }

    /// A call that may be judged is asked for once its rates let it, unless what it would be answered is known: that needs
    /// none of them.
    ///
    /// # Errors
    /// Its rates would have to be waited for longer than there is time.
    fn take_ready(
        &mut self,
        run: RunId,
        intent: &ModelIntent,
        draft: Draft,
        asked: &mut Asked,
    ) -> Result<Taken, Box<Refusal>> {
        let keep = self.keep_of(run, intent, &draft);
        let kept = keep.as_ref().and_then(|keep| Some((keep, self.kept(keep)?)));
        match kept {
            // Calls are decided in their order (LEDGER rule 16): none overtakes one that must be asked for.
            Some(_) if !asked.list.is_empty() => Ok(Taken::Next),
            Some((keep, kept)) => {
                self.end_rate_wait(&self.key(run, intent), run, None);
                self.answer_again(run, intent, draft, keep, kept);
                Ok(Taken::Moved)
            }
            None => match self.pass_rates(run, intent, &draft) {
                RatePass::Now(hold) => {
                    self.push_model(run, intent, draft, keep, hold, asked);
                    Ok(Taken::On)
                }
                RatePass::Waits => Ok(Taken::Waits),
                RatePass::Refused(refusal) => Err(refusal),
            },
        }
    }

    /// No model is left to try.
    async fn give_up(
        &mut self,
        run: RunId,
        intent: &ModelIntent,
        error: String,
        asked: &Asked,
    ) -> Result<Taken, RuntimeError> {
        let root = self.root().id;
        if asked.has(run) {
            return Ok(Taken::Halt);
        }
        if self.key(run, intent).1.is_some() {
            self.fail_place(run, intent.step.place(), error);
            return Ok(Taken::Stopped);
        }
        if run == root {
            let ended = self.root().failed(error);
            return Ok(Taken::Left(self.end(ended).await?));
        }
        self.fail_child(run, error);
        Ok(Taken::Stopped)
    }

    /// A limit says no: whose it is stops, or lands.
    async fn refused(&mut self, intent: &ModelIntent, refused: Refused, asked: &Asked) -> Result<Taken, RuntimeError> {
        let Refused { node, refusal } = refused;
        let refusal = *refusal;
        let (NodeRef::Run(run) | NodeRef::Stage(run, _)) = &node;
        let is_root = matches!(node, NodeRef::Run(run) if run == self.root().id);
        // Later ones would be numbered after a step that isn't made.
        if asked.has(*run) {
            return Ok(Taken::Halt);
        }
        if is_root && intent.purpose == Purpose::Landing {
            tracing::info!(run = %self.root().id, %refusal, "the landing doesn't fit");
            return Ok(Taken::Left(self.end_without_landing().await?));
        }
        if self.stop_node(node, refusal.clone()) {
            return Ok(Taken::Stopped);
        }
        Ok(Taken::Left(self.land(refusal).await?))
    }

    /// Whose conversation and concessions a call has: the stage's, or the run's own for a single loop and for a landing.
    pub(super) fn key(&self, run: RunId, intent: &ModelIntent) -> Key {
        let is_workflow = self.tree.run(run).is_some_and(|run| run.plan.is_workflow());
        let has_place = intent.purpose != Purpose::Landing && is_workflow;
        (run, has_place.then(|| intent.step.place()))
    }

    /// The texts of a conversation are rendered at its first call, and kept to its end.
    pub(super) fn prepare(&mut self, run: RunId, intent: &ModelIntent, beside: Beside) -> Result<Prepared, String> {
        let key = self.key(run, intent);
        if !self.is_own(&key) && !self.talks.contains_key(&key) {
            let rendered = self.render(&key)?;
            self.talks.insert(key.clone(), Talk { rendered, effort: Effort::default() });
        }
        let rule = self.rule_for(run, &key);
        self.effort(&key).rule = rule;
        self.ask_lifted_again(&key)?;
        let Talk { rendered, effort } = self.talks.get(&key).unwrap_or(&self.own);
        let run = self.tree.run(run).unwrap_or(self.tree.root());
        let (gate, now) = (&self.shared.gate, self.now());
        let closed = gate.closed(run, rendered.model(run), now);
        let with = Circumstances { effort, beside, closed: &closed, now };
        Ok(gate.appraiser().prepare(run, rendered, intent, with))
    }

    /// The same, with the provider's count where the plan asks for one. The tree waits for it: nothing else is decided then.
    pub(super) async fn prepare_counted(
        &mut self,
        run: RunId,
        intent: &ModelIntent,
        beside: Beside,
    ) -> Result<Prepared, String> {
        let prepared = self.prepare(run, intent, beside)?;
        let draft = match &prepared {
            Prepared::Ready(draft) if draft.wants_count => draft,
            Prepared::Ready(_) | Prepared::Refused(_) | Prepared::GiveUp(_) | Prepared::Later(_) => {
                return Ok(prepared);
            }
        };
        if let Call::Model(call) = &draft.reserved.call
            && self.is_switched_off(run, &call.model).map_err(|error| error.to_string())?
        {
            // The ledger says no to it: nobody is sent anything of it.
            return Ok(prepared);
        }
        let permit = self.shared.gate.to_count(draft);
        let count = self.shared.answers.count(permit, draft.request.clone()).await;
        tracing::debug!(model = %draft.request.model, ?count, "the provider was asked for a count");
        let counted = Counted::of(draft, count);
        let key = self.key(run, intent);
        self.effort(&key).counted = Some(counted);
        self.prepare(run, intent, beside)
    }

    /// The rule of its policy that sends a conversation to cheaper models now.
    fn rule_for(&self, run: RunId, key: &Key) -> Option<DowngradeWhy> {
        let labels = &self.tree.run(run).unwrap_or(self.tree.root()).labels;
        self.shared.rule(self.model_of(key), labels, self.now())
    }

    fn render(&mut self, (id, place): &Key) -> Result<Rendered, String> {
        let agent = self.agent_of(*id).ok_or("its plan is missing")?;
        let run = self.tree.run(*id).ok_or("it is over")?;
        let rendered = match place {
            // A sub-agent has what it is given: the thread is the root's.
            Some(place) if run.parent.is_none() && run.plan.goes_on_with_thread(&place.stage) => {
                Rendered::at(run, &agent.forms, place).map(|rendered| rendered.with_earlier_of(&self.own.rendered))
            }
            Some(place) => Rendered::at(run, &agent.forms, place),
            None => {
                Rendered::of(&run.plan, agent.forms.own.clone(), &run.input).map(|rendered| rendered.with_input_of(run))
            }
        };
        rendered.map_err(|error| format!("its prompt can't be rendered: {error}"))
    }

    fn is_own(&self, (run, place): &Key) -> bool {
        place.is_none() && *run == self.root().id
    }

    /// Token limits of all who must agree: the run's own are judged with the request, without what runs below it.
    fn judge_tokens(&self, run: RunId, intent: &ModelIntent, draft: &Draft, asked: &Asked) -> Result<(), Refused> {
        let Call::Model(call) = &draft.reserved.call else { return Ok(()) };
        let most = (call.bound.tokens, call.output_at_most());
        self.tree.judge_tokens(run, &intent.step.place(), intent.purpose, most, |run| asked.beside(run).tokens())
    }

    /// The same for the first call of a run that is to start, or to go on.
    pub(super) fn judge_first(&self, intent: &ModelIntent, draft: &Draft) -> Result<(), Refused> {
        self.judge_tokens(self.root().id, intent, draft, &Asked::default())
    }

    pub(super) fn effort(&mut self, key: &Key) -> &mut Effort {
        match self.talks.get_mut(key) {
            Some(talk) => &mut talk.effort,
            None => &mut self.own.effort,
        }
    }

    pub(super) fn fail_place(&mut self, run: RunId, place: Place, error: String) {
        self.end_place(run, place, StageEnd::Failed, None, Some(error));
    }

    fn end_place(&mut self, run: RunId, place: Place, end: StageEnd, refusal: Option<Refusal>, error: Option<String>) {
        let output = serde_json::Value::Null;
        self.take_notes(vec![(run, Event::StageEnded(StageEnded { place, end, output, refusal, error }))]);
    }

    fn wake_at(&mut self, until: Timestamp) {
        self.later = Some(self.later.map_or(until, |later| later.min(until)));
    }

    fn push_model(
        &mut self,
        run: RunId,
        intent: &ModelIntent,
        draft: Draft,
        keep: Option<Keep>,
        hold: Option<Hold>,
        asked: &mut Asked,
    ) {
        let key = self.key(run, intent);
        let effort = self.effort(&key).clone();
        // Nobody waits for the money of a summary: what was to be summed up is cut instead.
        let sums_up = matches!(&draft.reserved.call, Call::Model(call) if call.purpose == Purpose::Summary);
        let wait = !sums_up && !draft.can_tighten && !effort.waited && intent.purpose != Purpose::Landing;
        let ask = ReserveAsk {
            reserved: draft.reserved.clone(),
            lower: effort.lower.then_some(draft.lower),
            wait_until: wait.then(|| self.budget_wait_until(run, &intent.step.place())),
        };
        let can_tighten = draft.can_tighten;
        let work = Work::Model(Box::new(draft.request));
        asked.push(&self.tree, Pending { reserved: draft.reserved, work, key, can_tighten, keep, hold }, ask);
    }

    /// True for the call of a `tool` stage, which no model asks for.
    pub(super) fn is_own_call(&self, reserved: &Reserved) -> bool {
        let run = self.tree.run(reserved.reservation.run);
        let stage = run.and_then(|run| run.plan.stage(&reserved.step.stage));
        matches!(reserved.call, Call::Tool { .. }) && stage.is_some_and(|stage| stage.kind.of_lane().calls_a_tool())
    }

    fn budget_wait_until(&self, run: RunId, place: &Place) -> Timestamp {
        let now = self.now();
        // The whole tree waits: no longer than any of those above has patience for.
        let patience = self.tree.chain(run).map(|run| run.plan.limits.budget_wait);
        now.after(patience.fold(self.tree.time_to_wait(run, place, now), Ord::min))
    }

    /// A free builtin runs at once and its facts ride in the next write; anything else is asked for. True for the former.
    fn take_tool(&mut self, id: RunId, intent: ToolIntent, asked: &mut Asked) -> bool {
        let Some(run) = self.tree.run(id) else { return false };
        let agent = run.plan.clone();
        let Some(plan) = agent.tools.get(&intent.call.name) else { return false };
        let here = plan.within(agent.limits_of(&intent.step.stage));
        let plan = here.as_ref().unwrap_or(plan);
        let reserved = Reserved {
            reservation: asked.beside(id).next_reservation(run),
            step: intent.step,
            attempt: intent.attempt,
            amount: plan.price,
            landing: self.root().landing.as_ref().map_or(Money::ZERO, |landing| landing.amount),
            budgets: None,
            time_limit: intent.time_limit,
            call: Call::Tool {
                call_id: intent.call.id.clone(),
                tool: intent.call.name.clone(),
                arguments_hash: intent.hash,
                idempotent: plan.idempotent,
                arguments: intent.arguments,
            },
        };
        // Calls are decided in their order (LEDGER rule 16): none overtakes one that must be asked for.
        let at_once = self.shared.instants && asked.list.is_empty() && !self.is_switched(id);
        let Some(permit) = self.shared.gate.instant(plan, &reserved).filter(|_| at_once) else {
            let waits = self.is_own_call(&reserved) && !self.own.effort.waited;
            let wait_until = waits.then(|| self.budget_wait_until(id, &reserved.step.place()));
            let ask = ReserveAsk { reserved: reserved.clone(), lower: None, wait_until };
            let (work, key) = (Work::Tool(intent.call), (id, None));
            let pending = Pending { reserved, work, key, can_tighten: false, keep: None, hold: None };
            asked.push(&self.tree, pending, ask);
            return false;
        };
        self.note(id, Event::Reserved(Box::new(reserved.clone())));
        let arguments = arguments_of(&intent.call.arguments);
        let outcome = tool::call_instant(permit, plan, &arguments, &self.shared.tools);
        self.note(id, settle::tool(&reserved, outcome));
        true
    }

    /// One write for all; each answer is followed in its order.
    async fn ask(&mut self, asked: Asked) -> Result<Flow, RuntimeError> {
        let waits: Vec<_> = asked.list.iter().map(|(_, ask)| ask.wait_until).collect();
        let (pendings, asks): (Vec<_>, Vec<_>) = asked.list.into_iter().unzip();
        let passages = self.submit(asks.into_iter().map(Ask::Reserve).collect()).await?;
        let mut next = Flow::Wait;
        for ((pending, wait_until), passage) in pendings.into_iter().zip(waits).zip(passages) {
            match self.answer(pending, wait_until, passage).await? {
                Flow::Leave => return Ok(Flow::Leave),
                Flow::On => next = Flow::On,
                Flow::Wait => {}
            }
        }
        Ok(next)
    }

    /// Follows the gate's answer to one ask.
    async fn answer(
        &mut self,
        mut pending: Box<Pending>,
        wait_until: Option<Timestamp>,
        passage: Passage,
    ) -> Result<Flow, RuntimeError> {
        match passage {
            Passage::Granted(pass) => {
                self.perform(pass, pending);
                Ok(Flow::Wait)
            }
            // No model is there that could be told: whose account it is can't go on.
            Passage::Short(short) if !short.own_tree && self.is_own_call(&pending.reserved) => {
                self.out_of_money(&short).await
            }
            Passage::Short(short) if !short.own_tree && matches!(pending.work, Work::Tool(_)) => {
                self.refuse_tool(&pending.reserved, &short);
                // With others in flight it rides with what they give.
                Ok(if self.tree.is_busy() { Flow::Wait } else { Flow::On })
            }
            Passage::Short(short) => self.concede(&pending, short).await,
            Passage::Waiting => {
                // What is left while the money comes would be old by then: it is taken anew.
                pending.hold.take_if(|hold| !hold.is_free());
                self.rate_waits.leave_queue();
                self.wait_until = wait_until;
                self.pending.insert(pending.reserved.reservation, pending);
                Ok(Flow::Wait)
            }
            Passage::Frozen(refusal) => self.avoid_frozen(&pending, refusal).await,
            Passage::Paused(refusal) => Ok(self.hold_back(refusal)),
            Passage::Stalled => {
                self.effort(&pending.key).waited = true;
                Ok(Flow::On)
            }
            Passage::NotRunning => Err(self.not_running()),
            Passage::Behind
            | Passage::Admitted(_)
            | Passage::Queued
            | Passage::TurnedAway(_)
            | Passage::WaitEnded
            | Passage::NotWaiting => Ok(Flow::Wait),
        }
    }

    /// A paid tool that the money isn't there for: the model is told.
    fn refuse_tool(&mut self, reserved: &Reserved, short: &Short) {
        let Call::Tool { call_id, tool, .. } = &reserved.call else { return };
        let refusal = short.refusal(self.cost_declared(&short.account));
        self.note(
            reserved.reservation.run,
            Event::CallRefused(CallRefused {
                step: reserved.step.clone(),
                call_id: call_id.clone(),
                tool: tool.clone(),
                why: CallRefusal::Limit { refusal },
            }),
        );
    }

    /// Facts that follow from the state; the conversations of places that are over are dropped.
    pub(super) fn take_notes(&mut self, facts: Vec<(RunId, Event)>) {
        for (run, fact) in facts {
            if let Event::StageEnded(ended) = &fact {
                // With a map its items are over too.
                let Place { stage, item } = &ended.place;
                let is_over = |place: &Place| place.stage == *stage && (item.is_none() || place.item == *item);
                self.talks.retain(|(of, place), _| *of != run || !place.as_ref().is_some_and(is_over));
                failpoint::reach("stage.ended");
            }
            self.note(run, fact);
        }
    }
}

/// Numbers a new step as if so many before it weren't there; gives 1 for a new step, and 0 for one that has its number.
fn renumber(intent: &mut Intent, waiting: u32) -> u32 {
    let step = match intent {
        Intent::Model(intent) if intent.attempt == 1 => &mut intent.step.step,
        Intent::Tool(intent) if intent.attempt == 1 => &mut intent.step.step,
        Intent::Refuse(refused) => &mut refused.step.step,
        Intent::Model(_) | Intent::Tool(_) | Intent::Child(_) | Intent::Land(_) | Intent::End(_) => return 0,
    };
    *step = step.saturating_sub(waiting);
    1
}

/// The arguments of a call that was checked before.
pub(super) fn arguments_of(raw: &str) -> serde_json::Value {
    let text = if raw.trim().is_empty() { "{}" } else { raw };
    serde_json::from_str(text).unwrap_or(serde_json::Value::Null)
}
