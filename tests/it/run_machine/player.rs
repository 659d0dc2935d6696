//! Plays one run: takes what it wants, decides like a gate, lets time pass, interrupts, resumes; and judges each step.

mod judge;
mod people;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use plimsoll::domain::event::{
    Admitted, Call, CallRefused, CancelRequested, CostSource, Created, Event, Interrupted, Landing, LandingBegan,
    LandingReleased, Outcome, Place, Purpose, Reserved, StepKey, Voided,
};
use plimsoll::domain::limits::{AtLimit, LimitKind, Limits, Refusal};
use plimsoll::domain::message::{Assistant, StopReason, ToolCall};
use plimsoll::domain::plan::{Plan, ToolPlan};
use plimsoll::domain::retry::ErrorClass;
use plimsoll::domain::run::{CallCheck, Intent, Next, Run};
use plimsoll::ids::{ReservationId, RunId};
use plimsoll::units::{Millis, Money, Timestamp, Tokens};
use proptest::prelude::*;
use serde_json::Value;

use super::fixture::{ITEMS, created, failure, model_call, no_money, plan, reply, settled};
use judge::never_fell;

/// More than any run of these sheets takes.
const MOVES_MAX: u32 = 5_000;
pub(super) const BOUND: u128 = 1_000;

/// What a play begins with.
#[derive(Clone, Debug)]
pub(super) struct Sheet {
    pub(super) limits: Limits,
    pub(super) tries: u32,
    pub(super) form: bool,
    pub(super) tools: bool,
    pub(super) shape: Shape,
    /// A person must say yes to each `write`.
    pub(super) approval: bool,
}

/// What the plan of a play has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// One loop.
    Loop,
    /// Two loops beside each other, and a third that needs them both.
    Beside,
    /// A tool stage and two maps beside each other, and a loop that needs them all.
    Items {
        /// Whether the maps do without the items that fail.
        lenient: bool,
    },
}

fn shape() -> impl Strategy<Value = Shape> {
    prop_oneof![
        5 => Just(Shape::Loop),
        3 => Just(Shape::Beside),
        3 => any::<bool>().prop_map(|lenient| Shape::Items { lenient }),
    ]
}

pub(super) fn sheet() -> impl Strategy<Value = Sheet> {
    let counts = (2u32..14, 2u32..10, 1u32..12, 2u32..16, 1u32..4, 1u32..4, 1u32..5);
    let rest = (
        any::<bool>(),
        1u32..4,
        any::<bool>(),
        prop::bool::weighted(0.85),
        300u64..6_000,
        prop::option::of(2_000u64..9_000),
        shape(),
        prop::bool::weighted(0.3),
    );
    (counts, rest).prop_map(|(counts, (lands, tries, form, tools, wall, tokens, shape, approval))| {
        let (steps, model_calls, tool_calls, attempts, repeats, tool_errors, parallel) = counts;
        // Many items take many calls: some plays come to the end of their lists.
        let more = if matches!(shape, Shape::Items { .. }) { 3 } else { 1 };
        let (steps, model_calls, tool_calls) = (steps * more, model_calls * more, tool_calls * more);
        let (attempts, wall, tokens) =
            (attempts * more, wall * u64::from(more), tokens.map(|most| most * u64::from(more)));
        let limits = Limits {
            steps,
            model_calls,
            tool_calls,
            attempts,
            repeats,
            tool_errors,
            parallel,
            wall_time: Millis(wall),
            model_call_time: Millis(700),
            tool_call_time: Millis(400),
            landing_tokens: 300,
            landing_output_tokens: 100,
            expires: Millis(60_000),
            tokens: tokens.map(Tokens),
            at_limit: if lands { AtLimit::Land } else { AtLimit::Stop },
            ..Limits::default()
        };
        Sheet { limits, tries, form, tools, shape, approval }
    })
}

/// What is checked of JSON: an answer is good where it is JSON, arguments unless they say that they are bad.
pub(super) struct Check;

impl CallCheck for Check {
    fn arguments(&self, _: &ToolPlan, raw: &str) -> Result<(), String> {
        if raw.contains("bad") { Err("bad arguments".into()) } else { Ok(()) }
    }

    fn output(&self, _: &Value, text: &str) -> Result<Value, String> {
        serde_json::from_str(text).map_err(|error| error.to_string())
    }
}

pub(super) struct Player {
    run: Run,
    created: Created,
    plan: Arc<Plan>,
    draws: Vec<u8>,
    drawn: usize,
    now: Timestamp,
    log: Vec<(Timestamp, Event)>,
    /// What is in flight, with its latest end.
    open: BTreeMap<ReservationId, (Reserved, Timestamp)>,
    /// Answers to the calls of the newest turn of each lane, by stage and call.
    answered: BTreeMap<String, u32>,
    /// Steps that gave a reply or a result.
    settled_steps: BTreeSet<u32>,
    in_doubt: BTreeSet<String>,
    /// What each item, and each stage, that is over gave.
    over: BTreeMap<Place, Value>,
    /// The items that have begun.
    begun: BTreeSet<Place>,
    seen: BTreeMap<&'static str, u32>,
    pub(super) faults: Vec<String>,
}

impl Player {
    pub(super) fn new(sheet: Sheet, draws: Vec<u8>) -> Self {
        let plan = Arc::new(plan(sheet));
        let created = created(&plan);
        let now = Timestamp(1_000_000);
        let run = Run::new(RunId::from_bits(7), plan.clone(), &created, now);
        Self {
            run,
            created,
            plan,
            draws,
            drawn: 0,
            now,
            log: Vec::new(),
            open: BTreeMap::new(),
            answered: BTreeMap::new(),
            settled_steps: BTreeSet::new(),
            in_doubt: BTreeSet::new(),
            over: BTreeMap::new(),
            begun: BTreeSet::new(),
            seen: BTreeMap::new(),
            faults: Vec::new(),
        }
    }

    /// What was met, by name.
    pub(super) fn met(&self) -> impl Iterator<Item = (&'static str, u32)> {
        let all = [
            "finished",
            "stopped",
            "failed",
            "cancelled",
            "landed",
            "interrupted",
            "person",
            "expired",
            "allowed",
            "edited",
            "denied",
            "answered",
            "beside a question",
            "rerun",
            "repair",
            "batch",
            "wall",
            "stages",
            "beside",
            "own call",
            "items beside",
            "item lost",
            "list",
            "map broken",
        ];
        all.into_iter().map(|case| (case, self.seen.get(case).copied().unwrap_or_default()))
    }

    pub(super) fn show(&self) -> String {
        let line =
            |(at, event): &(Timestamp, Event)| format!("{} {}\n", at.0, serde_json::to_string(event).expect("JSON"));
        format!("{:?}\n{}", self.plan.limits, self.log.iter().map(line).collect::<String>())
    }

    pub(super) fn play(&mut self) {
        self.admit();
        for _ in 0..MOVES_MAX {
            if self.is_over() || !self.faults.is_empty() {
                break;
            }
            self.step();
        }
        self.fault_unless(self.is_over(), || "promise 8: it never ends".into());
        self.judge_the_end();
    }

    fn is_over(&self) -> bool {
        self.run.ended.is_some() && self.open.is_empty()
    }

    fn step(&mut self) {
        match self.draw(40) {
            0 => return self.interrupt(),
            1 if self.run.cancelled.is_none() && self.draw(4) == 0 => {
                return self.apply(Event::CancelRequested(CancelRequested { reason: "enough".into() }));
            }
            _ => {}
        }
        match self.run.next(self.now, &Check) {
            Next::Note(facts) => {
                self.meet("stages", facts.iter().any(|fact| matches!(fact, Event::StageEnded(_))));
                facts.into_iter().for_each(|fact| self.note(fact));
            }
            Next::Do(intents) => {
                self.meet("batch", intents.len() > 2);
                self.take(intents);
            }
            Next::Park(parked) => self.park(parked),
            Next::Wait | Next::Ended => {
                self.fault_unless(!self.open.is_empty(), || "promise 8: it waits for nothing".into());
                self.something_ends();
            }
        }
    }

    fn take(&mut self, intents: Vec<Intent>) {
        self.fault_unless(self.run.ended.is_none(), || "something is wanted after the end".into());
        for intent in intents {
            match intent {
                Intent::Refuse(refused) => self.refuse(refused),
                Intent::Child(child) => self.faults.push(format!("nobody has a sub-agent `{}`", child.agent)),
                Intent::End(ended) => self.apply(Event::Ended(ended)),
                Intent::Land(refusal) => self.land(refusal),
                Intent::Model(intent) => {
                    let purpose = intent.purpose;
                    // Sometimes the gate has no money, or no model is left.
                    match self.draw(30) {
                        0 if purpose != Purpose::Landing => return self.land(no_money()),
                        1 if !intent.tries.is_empty() && purpose != Purpose::Landing => {
                            let ended = self.run.failed("nobody is left to ask".into());
                            return self.apply(Event::Ended(ended));
                        }
                        _ => {}
                    }
                    let (input, output) = if purpose == Purpose::Landing { (300, 100) } else { (400, 200) };
                    if purpose != Purpose::Landing
                        && let Err(refusal) = self.run.judge_tokens(purpose, Tokens(input), Tokens(output))
                    {
                        return self.land(refusal);
                    }
                    self.fault_unless(intent.attempt as usize == intent.tries.len() + 1, || {
                        "attempts have a gap".into()
                    });
                    self.meet("repair", purpose == Purpose::Repair);
                    let call = model_call(purpose, input, output, intent.remark);
                    self.reserve(intent.step, intent.attempt, intent.time_limit, Call::Model(call));
                }
                Intent::Tool(intent) => {
                    let known = self.in_doubt.contains(&named(&intent.step, &intent.call.id));
                    self.fault_unless(!known, || format!("promise 7: `{}` is called again by itself", intent.call.id));
                    self.judge_allowed(&intent);
                    self.meet("rerun", intent.attempt > 1);
                    let call = Call::Tool {
                        call_id: intent.call.id.clone(),
                        tool: intent.call.name.clone(),
                        arguments_hash: intent.hash,
                        idempotent: self.plan.tools[&intent.call.name].idempotent,
                        arguments: intent.arguments,
                    };
                    self.reserve(intent.step, intent.attempt, intent.time_limit, call);
                }
            }
            if self.run.ended.is_some() {
                return;
            }
        }
    }

    fn reserve(&mut self, step: StepKey, attempt: u32, time_limit: Millis, call: Call) {
        self.judge_place(&step.place());
        self.meet("own call", matches!(&call, Call::Tool { arguments: Some(_), .. }));
        self.fault_unless(!self.settled_steps.contains(&step.step), || format!("promise 7: step {} again", step.step));
        self.fault_unless(time_limit > Millis::ZERO, || "an attempt has no time".into());
        let reservation = self.run.next_reservation();
        let last = matches!(&call, Call::Model(call) if matches!(call.purpose, Purpose::Landing | Purpose::Last));
        let landing = self.run.landing.as_ref().filter(|_| !last).map_or(Money::ZERO, |landing| landing.amount);
        let amount = Money::from_pico(BOUND);
        let reserved = Reserved { reservation, step, attempt, amount, landing, budgets: None, time_limit, call };
        self.open.insert(reservation, (reserved.clone(), self.now.after(time_limit)));
        self.apply(Event::Reserved(Box::new(reserved)));
    }

    fn refuse(&mut self, refused: CallRefused) {
        *self.answered.entry(named(&refused.step, &refused.call_id)).or_default() += 1;
        self.apply(Event::CallRefused(refused));
    }

    /// Promise 13: who lands has a step, an attempt, time and tokens for it.
    fn land(&mut self, refusal: Refusal) {
        self.meet("wall", refusal.limit == LimitKind::WallTime);
        let reserve = self.run.landing.is_some();
        let lands = self.run.can_land();
        if !lands && !self.run.is_busy() {
            let ended = self.run.stopped(refusal);
            return self.apply(Event::Ended(ended));
        }
        self.apply(Event::LandingBegan(LandingBegan { refusal }));
        if reserve && !self.run.is_busy() && self.run.cancelled.is_none() {
            self.must_land();
        }
    }

    fn must_land(&mut self) {
        let next = self.run.next(self.now, &Check);
        let lands = matches!(&next, Next::Do(intents) if matches!(&intents[..], [Intent::Model(intent)] if intent.purpose == Purpose::Landing));
        self.fault_unless(lands, || format!("promise 13: it can't land: {next:?}"));
        self.meet("landed", true);
    }

    fn release_landing(&mut self) {
        if let Some(landing) = self.run.landing.clone() {
            let why = "for a test".into();
            self.apply(Event::LandingReleased(LandingReleased { reservation: landing.reservation, why }));
        }
    }

    fn admit(&mut self) {
        // Whose first call is the last keeps nothing back (LEDGER rule 12).
        let kept = self.run.has_room_to_land(self.now) && !self.run.first_call_is_last();
        let landing =
            kept.then(|| Landing { reservation: self.run.next_reservation(), amount: Money::from_pico(BOUND) });
        self.apply(Event::Admitted(Admitted { budgets: vec![], landing }));
    }

    /// The process goes down, and a new one takes over (LEDGER rule 15).
    fn interrupt(&mut self) {
        if self.run.ended.is_some() {
            return;
        }
        self.meet("interrupted", true);
        let before = self.run.active(self.now);
        self.pass(10_000);
        for (id, (reserved, _)) in std::mem::take(&mut self.open) {
            if let Call::Tool { call_id, idempotent: false, .. } = &reserved.call {
                self.in_doubt.insert(named(&reserved.step, call_id));
            }
            let failure = failure(ErrorClass::Interrupted);
            self.apply(settled(id, CostSource::Unknown, None, Outcome::Failed(failure)));
        }
        self.apply(Event::Interrupted(Interrupted { why: "the process went down".into(), clean: false }));
        self.fault_unless(self.run.active(self.now) <= before, || "down time counts as active".into());
        self.admit();
    }

    /// One of the attempts in flight comes to its end, in time.
    fn something_ends(&mut self) {
        let which = self.draw(self.open.len().max(1));
        let Some((id, (reserved, until))) = self.open.iter().nth(which).map(|(id, open)| (*id, open.clone())) else {
            return;
        };
        // Whoever else is in flight has its own end, which time can't pass.
        let latest = self.open.values().map(|(_, until)| *until).min().unwrap_or(until);
        let later = self.now.after(Millis(u64::try_from(self.draw(700)).expect("small")));
        self.now = later.min(latest).max(self.now);
        self.open.remove(&id);
        let event = match &reserved.call {
            Call::Model(call) => self.model_ends(id, call.purpose),
            Call::Tool { call_id, .. } => {
                *self.answered.entry(named(&reserved.step, call_id)).or_default() += 1;
                self.settled_steps.insert(reserved.step.step);
                let is_error = self.draw(3) == 0;
                settled(
                    id,
                    CostSource::Reported,
                    None,
                    Outcome::ToolResult { content: "so".into(), is_error, cut_bytes: 0 },
                )
            }
        };
        let replied = matches!(&event, Event::Settled(settled) if matches!(settled.outcome, Outcome::Reply { .. }));
        if replied && self.was_taken(&event) {
            self.settled_steps.insert(reserved.step.step);
            let stage = named(&reserved.step, "");
            self.answered.retain(|call, _| !call.starts_with(&stage));
        }
        self.apply(event);
        if self.run.lands.is_some()
            && self.run.landing.is_some()
            && self.open.is_empty()
            && self.run.cancelled.is_none()
        {
            let landing = |event: &Event| matches!(event, Event::Reserved(reserved) if matches!(&reserved.call, Call::Model(call) if call.purpose == Purpose::Landing));
            if !self.log.iter().any(|(_, event)| landing(event)) {
                self.must_land();
            }
        }
    }

    /// A reply that declines is a failed try.
    fn was_taken(&self, event: &Event) -> bool {
        matches!(event, Event::Settled(settled) if matches!(&settled.outcome,
            Outcome::Reply { stop: StopReason::End | StopReason::ToolCalls | StopReason::Length, .. }))
    }

    fn model_ends(&mut self, id: ReservationId, purpose: Purpose) -> Event {
        match self.draw(10) {
            0 => {
                Event::Voided(Voided { reservation: id, latency: Millis(1), failure: failure(ErrorClass::RateLimited) })
            }
            1 => settled(id, CostSource::Unknown, None, Outcome::Failed(failure(ErrorClass::CutStream))),
            2 => reply(id, Assistant { text: "no".into(), ..Assistant::default() }, StopReason::ContentFilter),
            3 | 4 => {
                let text = if self.draw(2) == 0 { "not json" } else { "{\"a\":1}" };
                reply(id, Assistant { text: text.into(), ..Assistant::default() }, StopReason::End)
            }
            _ if purpose == Purpose::Landing || self.plan.tools.is_empty() => {
                reply(id, Assistant { text: "{\"a\":2}".into(), ..Assistant::default() }, StopReason::End)
            }
            _ => {
                let calls = (0..=self.draw(6)).map(|index| self.call(index)).collect();
                reply(id, Assistant { calls, ..Assistant::default() }, StopReason::ToolCalls)
            }
        }
    }

    fn call(&mut self, index: usize) -> ToolCall {
        let name = ["read", "write", "nope"][self.draw(12).min(11) / 5];
        let arguments = match self.draw(6) {
            0 => "{\"bad\":1}".to_owned(),
            n => format!("{{\"n\":{n}}}"),
        };
        // Some servers number the calls of every turn from zero.
        ToolCall { id: format!("call_{index}"), name: name.into(), arguments }
    }

    fn apply(&mut self, event: Event) {
        let before = self.run.counters.clone();
        if let Event::StageEnded(ended) = &event {
            self.judge_over(ended);
        }
        self.run.apply(self.now, &event);
        self.log.push((self.now, event));
        let after = self.run.counters.clone();
        self.fault_unless(never_fell(&before, &after), || {
            format!("promise 14: a counter fell: {before:?} to {after:?}")
        });
        self.judge_limits(&after);
        if self.log.len().is_multiple_of(7) {
            self.judge_replay();
        }
    }

    fn pass(&mut self, most: u64) {
        let part = u64::try_from(self.draw(100)).expect("small");
        self.now = self.now.after(Millis(most * part / 100));
    }

    /// A number below `sides`; when the draws are used up, the highest: nothing odd happens any more.
    fn draw(&mut self, sides: usize) -> usize {
        let drawn = self.draws.get(self.drawn).map_or(sides - 1, |draw| usize::from(*draw) * sides / 256);
        self.drawn += 1;
        drawn
    }

    fn meet(&mut self, case: &'static str, happened: bool) {
        *self.seen.entry(case).or_default() += u32::from(happened);
    }

    fn fault_unless(&mut self, right: bool, fault: impl FnOnce() -> String) {
        if !right {
            self.faults.push(fault());
        }
    }
}

/// A call's name among all lanes: servers may number the calls of every turn from zero.
fn named(step: &StepKey, call_id: &str) -> String {
    format!("{}/{call_id}", step.place())
}
