//! Answers that are given again: a stage that opts in asks nobody for what it was answered before.
//!
//! A hit is a step like any other, at no cost: its facts ride in the next write, as those of a free builtin do. Kept are
//! whole answers in words only, with a known cost and in the form that was asked for; never a failure, a refusal, an answer
//! that was cut, or one that asks for tools.

use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::Conductor;
use crate::domain::event::{
    AnswerKey, CacheFacts, CacheHit, Call, CostSource, Downgraded, Event, KEPT_BYTES_MAX, KeptAnswer, KeptAs, Outcome,
    Purpose, Reserved, Settled,
};
use crate::domain::message::{Assistant, OutputSchema, Request, StopReason};
use crate::domain::plan::CachePlan;
use crate::domain::pricing::{Factors, Usage};
use crate::domain::run::{CallCheck as _, ModelIntent, Run};
use crate::gate::Draft;
use crate::ids::RunId;
use crate::runtime::progress::Progress;
use crate::units::{Millis, Money};

/// How the answer to a call is kept, if it is one for keeping.
#[derive(Clone, Debug)]
pub(super) struct Keep {
    pub(super) key: AnswerKey,
    ttl: Millis,
    output: Option<Arc<OutputSchema>>,
    max_output_tokens: u32,
}

/// The version of what a key is made of; raised with every part.
const KEY_VERSION: &[u8] = b"plimsoll answer 1";
/// The label whose values have answers of their own.
const TENANT: &str = "tenant";

impl Conductor {
    /// How the answer to a call would be kept; `None` where its stage doesn't want it, or nobody can say what goes out.
    pub(super) fn keep_of(&self, run: RunId, intent: &ModelIntent, draft: &Draft) -> Option<Keep> {
        if !matches!(intent.purpose, Purpose::Turn | Purpose::Last) {
            return None;
        }
        let run = self.tree.run(run)?;
        let plan = run.plan.stage(&intent.step.stage)?.cache?;
        let key = self.answer_key(run, plan, draft)?;
        let request = &draft.request;
        let (output, max_output_tokens) = (request.output.clone(), request.max_output_tokens);
        Some(Keep { key, ttl: plan.ttl, output, max_output_tokens })
    }

    /// Everything that shapes the answer: where it is asked, the model, the head, and the body byte for byte, without marks for the
    /// provider's cache. And whose it is, unless the author shares it.
    fn answer_key(&self, run: &Run, plan: CachePlan, draft: &Draft) -> Option<AnswerKey> {
        let Call::Model(call) = &draft.reserved.call else { return None };
        let plain = Request { cache: None, ..draft.request.clone() };
        let outgoing = self.shared.answers.outgoing(&plain, call.account.as_ref())?;
        let whose = if plan.share { None } else { Some(run.labels.get(TENANT).map_or("", String::as_str)) };
        let (shared, tenant) = whose.map_or((b"shared", ""), |tenant| (b"tenant", tenant));
        let mut hasher = Sha256::new();
        let parts = [
            KEY_VERSION,
            shared,
            tenant.as_bytes(),
            plain.model.as_str().as_bytes(),
            outgoing.url.as_bytes(),
            outgoing.head.as_bytes(),
            &outgoing.body,
        ];
        for part in parts {
            // With its length before it no two lists of parts look alike.
            hasher.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            hasher.update(part);
        }
        Some(AnswerKey(hasher.finalize().into()))
    }

    /// The answer that is kept for a call, if its time isn't up. One that can't be read is as good as none.
    pub(super) fn kept(&self, keep: &Keep) -> Option<KeptAnswer> {
        let kept = self.shared.gate.store().answer(&keep.key).ok()??;
        (self.now() < kept.until).then_some(kept)
    }

    /// Answers a call with what is kept. Its facts ride in the next write.
    pub(super) fn answer_again(
        &mut self,
        run: RunId,
        intent: &ModelIntent,
        draft: Draft,
        keep: &Keep,
        kept: KeptAnswer,
    ) {
        let key = self.key(run, intent);
        let last = intent.purpose == Purpose::Last || run != self.root().id;
        let held = self.root().landing.as_ref().map_or(Money::ZERO, |landing| landing.amount);
        let landing = if last { Money::ZERO } else { held };
        let reserved = Reserved { amount: Money::ZERO, landing, budgets: None, ..draft.reserved };
        let hit = CacheHit { key: keep.key, from: kept.from, at: kept.at, avoided: kept.cost };
        if draft.request.stream {
            (self.observer_of(&key))(Progress::Text { run, piece: &kept.text });
        }
        self.effort(&key).settle();
        let reservation = reserved.reservation;
        if let Some(downgraded) = Downgraded::of(&reserved) {
            self.note(run, Event::Downgraded(downgraded));
        }
        self.note(run, Event::Reserved(Box::new(reserved)));
        self.note(
            run,
            Event::Settled(Box::new(Settled {
                reservation,
                bill: Money::ZERO,
                source: CostSource::Reported,
                usage: Some(Usage::default()),
                mismatch: None,
                charged: None,
                raw_usage: None,
                latency: Millis::ZERO,
                first_token: None,
                outcome: Outcome::Reply {
                    message: Assistant { text: kept.text, ..Assistant::default() },
                    stop: StopReason::End,
                    response_model: kept.response_model,
                    service_tier: None,
                    factors: Factors::NONE,
                    request_id: None,
                    response_id: None,
                },
                cache: CacheFacts { hit: Some(hit), ..CacheFacts::default() },
            })),
        );
    }

    /// Says in the fact that an answer is kept, where it is one for keeping.
    pub(super) fn note_kept(&self, fact: &mut Event, keep: &Keep, max_output_tokens: u32) {
        let Event::Settled(settled) = fact else { return };
        let Outcome::Reply { message, stop, .. } = &settled.outcome else { return };
        let is_whole = *stop == StopReason::End && message.refusal.is_none() && message.continuation.is_none();
        let is_words = message.calls.is_empty() && (1..=KEPT_BYTES_MAX).contains(&message.text.len());
        // A lower output cap is another request.
        let is_asked = settled.source == CostSource::Reported && max_output_tokens == keep.max_output_tokens;
        let fits = |output: &Arc<OutputSchema>| self.shared.checks.output(&output.schema, &message.text).is_ok();
        if is_whole && is_words && is_asked && keep.output.as_ref().is_none_or(fits) {
            settled.cache.kept = Some(KeptAs { key: keep.key, until: self.now().after(keep.ttl) });
        }
    }
}
