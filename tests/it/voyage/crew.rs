//! Answers in the place of providers and tools, in virtual time, by the seed; and writes the invoice.
//!
//! What a call comes to follows from its reservation alone, so it doesn't depend on what else goes on.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use plimsoll::domain::message::{Assistant, Message, Reply, Request, StopReason, ToolCall, ToolChoice};
use plimsoll::domain::plan::ToolPlan;
use plimsoll::domain::pricing::{Factors, Usage};
use plimsoll::domain::rate::ToldRates;
use plimsoll::domain::retry::{ErrorClass, Failure};
use plimsoll::gate::Permit;
use plimsoll::ids::ReservationId;
use plimsoll::provider::{Answer, AnswerResult, CancelSignal, Listener};
use plimsoll::runtime::{Answering, Answers};
use plimsoll::tool::ToolOutcome;
use plimsoll::units::{Millis, Money, Tokens};
use serde_json::{Value, json};

use super::dice::Dice;
use super::draw::{Tariff, Weather};
use super::judge::Judge;

/// How long an answer that nobody wants any more is read on.
const DRAIN: Millis = Millis::from_secs(10);

pub(super) struct Crew {
    pub(super) seed: u64,
    pub(super) weather: Weather,
    pub(super) tariffs: Vec<Tariff>,
    pub(super) judge: Arc<Mutex<Judge>>,
    /// Model calls that are out, and the most that there may be.
    pub(super) out: Arc<AtomicU64>,
    pub(super) most: Option<u64>,
}

/// A model call that is out.
struct Out(Arc<AtomicU64>);

impl Drop for Out {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// What a model attempt comes to if nothing cuts it short.
struct Script {
    work: Millis,
    result: AnswerResult,
    /// What the provider charges; `None` for nothing.
    bill: Option<Money>,
}

/// A call under way at the provider's. Dropped, because the process is gone, the provider may go on and charge.
struct Meter {
    judge: Arc<Mutex<Judge>>,
    id: ReservationId,
    /// What is charged if nobody hears of it.
    unheard: Option<Money>,
}

impl Meter {
    fn charge(mut self, bill: Option<Money>) {
        self.unheard = bill;
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        let Some(bill) = self.unheard else { return };
        let mut judge = lock(&self.judge);
        if !judge.invoice.bill(self.id, bill) {
            judge.broken(format!("(4) {} is billed twice", self.id));
        }
    }
}

/// How a wait was over.
enum Over {
    Done,
    Late(ErrorClass),
    Cancelled,
}

impl Answers for Crew {
    fn model(
        &self,
        permit: Permit,
        request: Request,
        listener: Option<Listener>,
        cancel: CancelSignal,
    ) -> Answering<'_, Answer> {
        drop(listener);
        Box::pin(self.attempt(permit, request, cancel))
    }

    fn tool(&self, permit: Permit, plan: ToolPlan, _: Value, cancel: CancelSignal) -> Answering<'_, ToolOutcome> {
        Box::pin(self.call(permit, plan, cancel))
    }
}

impl Crew {
    fn dice(&self, id: ReservationId) -> Dice {
        let run = u64::try_from(id.run.bits() & u128::from(u64::MAX)).expect("64 bits");
        Dice::of(self.seed, &[run, u64::from(id.number)])
    }

    fn begin(&self, permit: Permit, unheard: impl FnOnce(&mut Dice) -> Option<Money>) -> (Dice, Meter) {
        let (worst_case, limit) = (permit.worst_case(), permit.time_limit());
        let id = permit.spend();
        lock(&self.judge).sent(id, worst_case, limit);
        let mut dice = self.dice(id);
        let unheard = unheard(&mut dice);
        (dice, Meter { judge: self.judge.clone(), id, unheard })
    }

    async fn attempt(&self, permit: Permit, request: Request, cancel: CancelSignal) -> Answer {
        let (limit, first_limit) = (permit.time_limit(), permit.first_token_limit());
        let script = self.script(&mut self.dice(permit.reservation()), &request, permit.worst_case());
        let Script { work, mut result, mut bill } = script;
        // Nobody can know of an over-bill that nobody is told of: providers are taken to keep to what was asked then.
        let untold = bill.map(|bill| bill.min(permit.worst_case()));
        let (mut dice, meter) = self.begin(permit, |dice| untold.filter(|_| dice.chance(70)));
        let reservation = meter.id;
        let out = self.out.fetch_add(1, Ordering::SeqCst) + 1;
        let _out = Out(self.out.clone());
        if self.most.is_some_and(|most| out > most) {
            lock(&self.judge).broken(format!("(10) {out} model calls are out at once"));
        }
        let first_token = Millis(work.0 * 3 / 4);
        let until = if request.stream && first_token > first_limit && first_limit < limit.min(work) {
            (first_limit, Some(ErrorClass::FirstTokenLate))
        } else if work > limit {
            (limit, Some(ErrorClass::TimedOut))
        } else {
            (work, None)
        };
        let began = tokio::time::Instant::now();
        match wait(until, cancel, dice.chance(80).then_some(DRAIN), reservation).await {
            Over::Done => {}
            Over::Late(class) => {
                result = AnswerResult::Unknown(failure(class, None));
                bill = untold.filter(|_| dice.chance(60));
            }
            Over::Cancelled => {
                result = AnswerResult::Unbilled(failure(ErrorClass::Interrupted, None));
                bill = None;
            }
        }
        meter.charge(bill);
        let latency = Millis(u64::try_from(began.elapsed().as_millis()).expect("short"));
        Answer { reservation, latency, first_token: None, rates: ToldRates::default(), result }
    }

    fn script(&self, dice: &mut Dice, request: &Request, worst_case: Money) -> Script {
        let work = if dice.chance(self.weather.slow) { dice.between(1_000, 20_000) } else { dice.between(3, 1_500) };
        let work = Millis(work);
        let Weather { throttled, broken, odd, overrun, .. } = self.weather;
        let roll = dice.between(0, 99);
        let usage = measure(dice, request);
        let charge = |usage: &Usage| Some(self.charge(request, usage));
        let (result, bill) = if roll < throttled {
            let after = dice.chance(60).then(|| Millis(dice.between(0, 4_000)));
            let class = dice.pick(&[ErrorClass::RateLimited, ErrorClass::RateLimited, ErrorClass::Overloaded]);
            (AnswerResult::Unbilled(failure(class, after)), None)
        } else if roll < throttled + broken {
            let class = dice.pick(&[ErrorClass::Server, ErrorClass::CutStream, ErrorClass::Garbage]);
            (AnswerResult::Unknown(failure(class, None)), charge(&usage).filter(|_| dice.chance(60)))
        } else if roll < throttled + broken + odd {
            self.odd(dice, request, usage)
        } else if dice.chance(overrun) {
            let output = self.tariff(request).output;
            let tokens = u64::try_from(worst_case.pico() / output).expect("few") + 1 + usage.output.0;
            let usage = Usage { output: Tokens(tokens), ..usage };
            (replied(speak(dice, request), Some(usage)), charge(&usage))
        } else {
            (replied(speak(dice, request), Some(usage)), charge(&usage))
        };
        Script { work, result, bill }
    }

    /// What happens seldom.
    fn odd(&self, dice: &mut Dice, request: &Request, usage: Usage) -> (AnswerResult, Option<Money>) {
        let bill = Some(self.charge(request, &usage));
        let mut reply = speak(dice, request);
        match dice.between(0, 5) {
            0 => return (AnswerResult::Unbilled(failure(ErrorClass::BadRequest, None)), None),
            1 => return (AnswerResult::Unbilled(failure(ErrorClass::NotSent, None)), None),
            2 => return (replied(reply, None), bill),
            3 => reply.stop = StopReason::ContentFilter,
            4 => reply.message.refusal = Some("I would rather not".into()),
            _ => reply.response_model = Some("nobody-knows-it".into()),
        }
        (replied(reply, Some(usage)), bill)
    }

    fn tariff(&self, request: &Request) -> &Tariff {
        let named = self.tariffs.iter().find(|tariff| tariff.model == request.model.as_str());
        named.expect("only models of the sheet are asked")
    }

    /// By the provider's own count.
    fn charge(&self, request: &Request, usage: &Usage) -> Money {
        let Tariff { input, output, per_call, .. } = self.tariff(request);
        Money::from_pico(input * u128::from(usage.input.0) + output * u128::from(usage.output.0) + per_call)
    }

    async fn call(&self, permit: Permit, plan: ToolPlan, cancel: CancelSignal) -> ToolOutcome {
        let limit = permit.time_limit().min(plan.timeout);
        let price = plan.price;
        let (mut dice, meter) = self.begin(permit, |dice| dice.chance(70).then_some(price));
        let mut outcome = ToolOutcome {
            reservation: meter.id,
            content: "done ".repeat(usize::try_from(dice.between(1, 40)).expect("few")),
            is_error: dice.chance(self.weather.tool_errors),
            cut_bytes: 0,
            latency: Millis::ZERO,
            never_began: dice.chance(3),
        };
        if outcome.never_began {
            outcome.is_error = true;
            meter.charge(None);
            return outcome;
        }
        let slow = dice.chance(self.weather.slow);
        let work = Millis(if slow { dice.between(500, 5_000) } else { dice.between(0, 700) });
        let until = if work > limit { (limit, Some(ErrorClass::TimedOut)) } else { (work, None) };
        let over = wait(until, cancel, None, meter.id).await;
        outcome.is_error |= !matches!(over, Over::Done);
        outcome.latency = until.0;
        meter.charge(Some(price));
        outcome
    }
}

/// Until then; or until nobody wants it any more, and then as long as it is read on.
async fn wait(
    (until, late): (Millis, Option<ErrorClass>),
    mut cancel: CancelSignal,
    drain: Option<Millis>,
    id: ReservationId,
) -> Over {
    let now = tokio::time::Instant::now;
    let end = now() + until.duration();
    let over = |late: Option<ErrorClass>| late.map_or(Over::Done, Over::Late);
    tokio::select! {
        biased;
        () = tokio::time::sleep_until(end) => return over(late),
        Ok(_) = cancel.wait_for(|cancelled| *cancelled) => {}
    }
    // Calls that hear of it at once are woken in any order: each takes it at a time of its own.
    let own = Millis(1 + u64::from(id.number % 64));
    let cancelled = now() + own.duration();
    let Some(drain) = drain else {
        tokio::time::sleep_until(cancelled).await;
        return Over::Cancelled;
    };
    let drained = cancelled + drain.duration();
    tokio::time::sleep_until(end.max(cancelled).min(drained)).await;
    if end <= drained { over(late) } else { Over::Late(ErrorClass::Interrupted) }
}

fn failure(class: ErrorClass, retry_after: Option<Millis>) -> Failure {
    Failure { class, status: None, code: None, message: "the weather".into(), retry_after }
}

fn replied(mut reply: Reply, usage: Option<Usage>) -> AnswerResult {
    reply.usage = usage;
    AnswerResult::Replied(Box::new(reply))
}

/// The provider's own count: about a token for three bytes of text, and no more output than was asked for.
fn measure(dice: &mut Dice, request: &Request) -> Usage {
    let bytes: usize = request.messages.iter().map(|message| text_bytes(message)).sum();
    let input = Tokens(u64::try_from(bytes / 3 + 1).expect("short"));
    let output = Tokens(dice.between(1, u64::from(request.max_output_tokens)));
    Usage { input, output, ..Usage::default() }
}

fn text_bytes(message: &Message) -> usize {
    match message {
        Message::System { text } | Message::User { text } => text.len(),
        Message::File(file) => file.data().len(),
        Message::Assistant(said) => said.text.len(),
        Message::Tool(answer) => answer.content.len(),
    }
}

/// Tool calls, or an answer; sometimes one that isn't what was asked for.
fn speak(dice: &mut Dice, request: &Request) -> Reply {
    let may_call = !request.tools.is_empty() && request.tool_choice == ToolChoice::Auto;
    let calls = if may_call && dice.chance(75) { dice.between(1, 3) } else { 0 };
    let calls: Vec<ToolCall> = (0..calls).map(|number| tool_call(dice, request, number)).collect();
    let text = match (&request.output, calls.is_empty()) {
        (_, false) => String::new(),
        (Some(_), true) if dice.chance(75) => r#"{"answer": "all hands are well"}"#.to_owned(),
        (_, true) => "all hands are well".to_owned(),
    };
    let stop = if calls.is_empty() { StopReason::End } else { StopReason::ToolCalls };
    Reply {
        message: Assistant { text, calls, ..Assistant::default() },
        stop,
        usage: None,
        mismatch: None,
        charged: None,
        raw_usage: None,
        response_model: None,
        service_tier: None,
        factors: Factors::NONE,
        request_id: None,
        response_id: None,
    }
}

fn tool_call(dice: &mut Dice, request: &Request, number: u64) -> ToolCall {
    let asked = usize::try_from(dice.next() % u64::try_from(request.tools.len()).expect("few")).expect("few");
    let tool = &request.tools[asked];
    let name = if dice.chance(4) { "nothing" } else { tool.name.as_str() };
    let takes_a_number = tool.parameters["properties"].get("n").is_some();
    let arguments = match takes_a_number {
        _ if dice.chance(5) => json!({ "n": "many" }),
        true => json!({ "n": dice.between(0, 3) }),
        false => {
            let fields = tool.parameters["properties"].as_object().into_iter().flat_map(|fields| fields.keys());
            fields.map(|field| (field.clone(), json!(format!("well, {}?", dice.between(0, 3))))).collect()
        }
    };
    ToolCall { id: format!("call_{number}"), name: name.into(), arguments: arguments.to_string() }
}

pub(super) fn lock(judge: &Mutex<Judge>) -> MutexGuard<'_, Judge> {
    judge.lock().unwrap_or_else(PoisonError::into_inner)
}
