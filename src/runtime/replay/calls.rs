//! Model calls, prepared again. How far a step went to get its money (LEDGER rule 9) isn't in the log, for shared budgets
//! decided it: each concession that the plan allows is tried, and one of them must give the recorded call. Nor are the
//! breakers that were open, but for what a call says of the models that it passed over.

use super::look::{Look, same_refusal, same_time_limit};
use super::{Player, WRITE_TIME_MAX};
use crate::domain::event::{AccountKey, BoundMethod, Call, Event, ModelCall, Place, Purpose, Reserved};
use crate::domain::ledger::Lower;
use crate::domain::limits::{Declared, LimitKind, Refusal};
use crate::domain::plan::{CountBy, Overflow};
use crate::domain::policy::{self, DowngradeWhy, Stance};
use crate::domain::pricing::PriceBook;
use crate::domain::run::{Intent, ModelIntent, Run, ToolIntent};
use crate::gate::{Beside, Circumstances, Closed, Counted, Draft, Effort, Prepared, Rendered};
use crate::ids::{ModelName, RunId};
use crate::rates::is_why_closed;
use crate::units::{Money, Timestamp, Tokens};

/// How a step may have been prepared.
struct Way {
    effort: Effort,
    closed: Closed,
}

/// What the gate says to a call that isn't made.
#[derive(Clone, Copy)]
pub(super) enum No<'a> {
    /// A limit's no.
    Refusal(&'a Refusal),
    /// No model is left, in these words.
    Error(&'a str),
}

impl Player<'_> {
    /// Whether a model call of this look, made with some concession, is the recorded one.
    pub(super) fn makes(&mut self, look: &Look, run: RunId, intent: &ModelIntent, recorded: &Reserved) -> bool {
        let Call::Model(call) = &recorded.call else { return false };
        if (&intent.step, intent.attempt) != (&recorded.step, recorded.attempt) {
            return false;
        }
        if !self.pin(call, look.now) {
            return false;
        }
        self.ways(run, intent, Some(call)).iter().any(|way| {
            let prepared = self.prepared(run, intent, way, look.now, true);
            let fits = matches!(&prepared, Ok(Prepared::Ready(draft)) if self.is_draft(run, intent, draft, recorded));
            // A run that was resumed rendered its texts anew.
            fits || {
                let prepared = self.prepared(run, intent, way, look.now, false);
                matches!(&prepared, Ok(Prepared::Ready(draft)) if self.is_draft(run, intent, draft, recorded))
            }
        })
    }

    /// The first way in which the call would be made, for people.
    pub(super) fn made(&mut self, look: &Look, run: RunId, intent: &ModelIntent, call: &ModelCall) -> Option<Reserved> {
        if !self.pin(call, look.now) {
            return None;
        }
        let ways = self.ways(run, intent, Some(call));
        let mut ready = ways.iter().filter_map(|way| match self.prepared(run, intent, way, look.now, true) {
            Ok(Prepared::Ready(draft)) => Some(draft.reserved),
            Ok(Prepared::Refused(_) | Prepared::GiveUp(_) | Prepared::Later(_)) | Err(_) => None,
        });
        ready.next()
    }

    /// The price that was pinned stands, whatever rows came since; false where the books don't have it any more.
    pub(super) fn pin(&mut self, call: &ModelCall, now: Timestamp) -> bool {
        let book = self.desk.book();
        if book.find(&call.model, now).is_some_and(|row| row.id == call.price) {
            return true;
        }
        let row = book.find_version(&call.price).or_else(|| PriceBook::builtin().find_version(&call.price)).cloned();
        let Some(row) = row.filter(|row| row.is_valid_at(now)) else { return false };
        // Of two rows for one time the first counts; the others still price what was pinned to them.
        let others = book.rows().filter(|other| other.model == row.model && other.id != row.id).cloned();
        let rows = std::iter::once(row.clone()).chain(others).collect();
        self.desk = self.desk.with_book(book.with_overrides(rows).into());
        true
    }

    /// What may have been conceded while some models were closed, the likeliest first.
    fn ways(&self, run: RunId, intent: &ModelIntent, recorded: Option<&ModelCall>) -> Vec<Way> {
        let efforts = self.efforts(run, intent, recorded);
        let closed = self.closed(run, intent, recorded);
        let of = |closed: &Closed| {
            let way = |effort: &Effort| Way { effort: effort.clone(), closed: closed.clone() };
            efforts.iter().map(way).collect::<Vec<_>>()
        };
        closed.iter().flat_map(of).collect()
    }

    /// Which models may have been closed: those that the call says it passed over; after a failed try it names none, so the
    /// model that failed, and all but the one that was asked.
    fn closed(&self, run: RunId, intent: &ModelIntent, recorded: Option<&ModelCall>) -> Vec<Closed> {
        let Some(run) = self.tree.run(run) else { return vec![] };
        let own = intent.purpose == Purpose::Landing || !run.plan.is_workflow();
        let plan = if own { &run.plan.model } else { run.plan.call_of(&intent.step.place()).model };
        let models = plan.models();
        let Some(last) = intent.tries.last() else {
            let told = recorded.and_then(|call| call.instead.as_deref()).unwrap_or_default();
            let passed_over = |part: &str| {
                let (model, why) = part.split_once(": ").filter(|(_, why)| is_why_closed(why))?;
                let model = models.iter().find(|known| known.as_str() == model)?;
                Some(((*model).clone(), why.to_owned()))
            };
            return vec![told.split("; ").filter_map(passed_over).collect()];
        };
        let of = |is_closed: &dyn Fn(&ModelName) -> bool| -> Closed {
            let those = models.iter().filter(|model| is_closed(model));
            those.map(|model| ((*model).clone(), String::new())).collect()
        };
        let mut ways = vec![Closed::new()];
        for way in [
            of(&|model| *model == last.model),
            of(&|model| recorded.is_none_or(|call| call.model != *model)),
            of(&|model| *model != last.model),
        ] {
            if !ways.contains(&way) {
                ways.push(way);
            }
        }
        ways
    }

    /// What may have been conceded, the likeliest first.
    fn efforts(&self, run: RunId, intent: &ModelIntent, recorded: Option<&ModelCall>) -> Vec<Effort> {
        let Some(run) = self.tree.run(run) else { return vec![] };
        let own = intent.purpose == Purpose::Landing || !run.plan.is_workflow();
        let place = intent.step.place();
        let plan = if own { &run.plan.model } else { run.plan.call_of(&place).model };
        let by_tokens = recorded.is_some_and(|call| call.bound.method == BoundMethod::Tokens);
        let trims: &[bool] = if run.plan.context.overflow == Overflow::Summarise { &[false, true] } else { &[false] };
        let downgraded = policy::downgrade(plan, Stance::Approved);
        // What a rule was judged by, budgets and the time of day, is data from outside.
        let why = recorded.and_then(|call| call.downgraded.clone());
        let rule = why.filter(|why| *why != DowngradeWhy::ShortOfMoney);
        let stances: Vec<Stance> = std::iter::once(Stance::Approved).chain(downgraded).collect();
        let models = |stance| {
            let stance = if rule.is_some() { Stance::Downgraded } else { stance };
            policy::candidates(plan, stance).to_vec()
        };
        // So is what a provider counted.
        let counted = recorded.and_then(|call| {
            let (model, request_hash) = (call.model.clone(), call.request_hash.clone());
            Some(Counted { model, request_hash, count: call.count.clone()? })
        });
        let mut efforts = Vec::new();
        for stance in &stances {
            let others =
                || models(*stance).into_iter().filter(|model| recorded.is_none_or(|call| call.model != *model));
            // Frozen prices and switches pass models over: the first ones, or all but the one that was asked.
            let all = models(*stance);
            let mut bars: Vec<Vec<ModelName>> =
                (0..all.len()).filter_map(|count| Some(all.get(..count)?.to_vec())).collect();
            bars.push(others().collect());
            for (frozen, switched) in bars.into_iter().map(|barred| told_apart(barred, recorded)) {
                for tight in [by_tokens, !by_tokens] {
                    efforts.extend(trims.iter().map(|trim| Effort {
                        stance: *stance,
                        rule: rule.clone(),
                        tight,
                        trim: *trim,
                        frozen: frozen.clone(),
                        switched: switched.clone(),
                        counted: counted.clone(),
                        ..Effort::default()
                    }));
                }
            }
        }
        efforts.sort_by_key(|effort| effort.frozen.len() + effort.switched.len());
        efforts
    }

    fn prepared(
        &mut self,
        run: RunId,
        intent: &ModelIntent,
        way: &Way,
        now: Timestamp,
        kept: bool,
    ) -> Result<Prepared, String> {
        let rendered = self.rendered(run, intent, kept)?;
        let Some(run) = self.tree.run(run) else { return Err("it is over".into()) };
        let Way { effort, closed } = way;
        let with = |now| Circumstances { effort, beside: Beside::default(), closed, now };
        Ok(match self.desk.prepare(run, &rendered, intent, with(now)) {
            // Its failure was written a little later than it was seen.
            Prepared::Later(until) if until.since(now) <= WRITE_TIME_MAX => {
                self.desk.prepare(run, &rendered, intent, with(until))
            }
            prepared @ (Prepared::Ready(_) | Prepared::Refused(_) | Prepared::GiveUp(_) | Prepared::Later(_)) => {
                prepared
            }
        })
    }

    /// The texts of a conversation, as its first call had them.
    fn rendered(&mut self, id: RunId, intent: &ModelIntent, kept: bool) -> Result<Rendered, String> {
        let run = self.tree.run(id).ok_or("it is over")?;
        let place = (intent.purpose != Purpose::Landing && run.plan.is_workflow()).then(|| intent.step.place());
        if place.is_none() && id == self.log.root {
            return Ok(self.talk.clone());
        }
        let key = (id, place);
        if let Some(rendered) = self.talks.get(&key).filter(|_| kept) {
            return Ok(rendered.clone());
        }
        let rendered = self.render(run, key.1.as_ref())?;
        self.talks.insert(key, rendered.clone());
        Ok(rendered)
    }

    fn render(&self, run: &Run, place: Option<&Place>) -> Result<Rendered, String> {
        let agent = self.agents.get(&run.id).ok_or("its plan is missing")?;
        let rendered = match place {
            Some(place) if run.parent.is_none() && run.plan.goes_on_with_thread(&place.stage) => {
                Rendered::at(run, &agent.forms, place).map(|rendered| rendered.with_earlier_of(&self.talk))
            }
            Some(place) => Rendered::at(run, &agent.forms, place),
            None => {
                Rendered::of(&run.plan, agent.forms.own.clone(), &run.input).map(|rendered| rendered.with_input_of(run))
            }
        };
        rendered.map_err(|error| format!("its prompt can't be rendered: {error}"))
    }

    /// Whether a draft, as the accounts take it, is the recorded call.
    fn is_draft(&self, run: RunId, intent: &ModelIntent, draft: &Draft, recorded: &Reserved) -> bool {
        let Call::Model(was) = &recorded.call else { return false };
        if !self.has_tokens(run, intent, draft) {
            return false;
        }
        let mut asked = draft.reserved.clone();
        if !lowers(&mut asked, draft.lower, was.max_output_tokens) {
            return false;
        }
        if self.is_answered_again(recorded) {
            // What is kept is data from outside, and costs nothing.
            let Reserved { landing, time_limit, .. } = *recorded;
            return Reserved { amount: Money::ZERO, landing, budgets: None, time_limit, ..asked } == *recorded;
        }
        self.is_placed(asked, recorded)
    }

    /// Whether a call was answered by what was kept of an earlier one.
    fn is_answered_again(&self, recorded: &Reserved) -> bool {
        let mut log = self.log.logs.get(&recorded.reservation.run).into_iter().flatten();
        log.any(|fact| {
            matches!(&fact.event, Event::Settled(settled)
                if settled.reservation == recorded.reservation && settled.cache.hit.is_some())
        })
    }

    /// Whether these limits of tokens leave room for a call.
    fn has_tokens(&self, run: RunId, intent: &ModelIntent, draft: &Draft) -> bool {
        self.judge_tokens(run, intent, draft).is_ok()
    }

    fn judge_tokens(&self, run: RunId, intent: &ModelIntent, draft: &Draft) -> Result<(), Refusal> {
        let Call::Model(call) = &draft.reserved.call else { return Ok(()) };
        let most = (call.bound.tokens, call.output_at_most());
        let none = |_| (Tokens::ZERO, Tokens::ZERO);
        let judged = self.tree.judge_tokens(run, &intent.step.place(), intent.purpose, most, none);
        judged.map_err(|refused| *refused.refusal)
    }

    /// Whether an attempt that is asked for is placed as the recorded one was: on the tree's own accounts by their rules,
    /// and as far as shared budgets may have had their say.
    fn is_placed(&self, mut asked: Reserved, recorded: &Reserved) -> bool {
        let passed = self.at.since(self.earliest);
        if !same_time_limit(recorded.time_limit, asked.time_limit, passed) {
            return false;
        }
        asked.time_limit = recorded.time_limit;
        let Ok(mut granted) = self.own.judge(&asked, None, |key| self.declared(key)) else { return false };
        let kept = self.tree.root().landing.as_ref().map_or(Money::ZERO, |landing| landing.amount);
        if (granted.landing > kept || self.waited) && recorded.landing == kept {
            // A shared budget had no room for the raise; or the reserve was placed just now, for the model asked before.
            granted.landing = kept;
        }
        granted.budgets.clone_from(&recorded.budgets);
        granted == *recorded
    }

    /// Whether a tool call of this look is the recorded one.
    pub(super) fn calls(&self, id: RunId, intent: &ToolIntent, recorded: &Reserved) -> bool {
        self.called(id, intent).is_some_and(|asked| self.is_placed(asked, recorded))
    }

    /// A tool call as it is asked for.
    pub(super) fn called(&self, id: RunId, intent: &ToolIntent) -> Option<Reserved> {
        let run = self.tree.run(id)?;
        let plan = run.plan.tools.get(&intent.call.name)?;
        Some(Reserved {
            reservation: run.next_reservation(),
            step: intent.step.clone(),
            attempt: intent.attempt,
            amount: plan.price,
            landing: self.tree.root().landing.as_ref().map_or(Money::ZERO, |landing| landing.amount),
            budgets: None,
            time_limit: intent.time_limit,
            call: Call::Tool {
                call_id: intent.call.id.clone(),
                tool: intent.call.name.clone(),
                arguments_hash: intent.hash.clone(),
                idempotent: plan.idempotent,
                arguments: intent.arguments.clone(),
            },
        })
    }

    /// Whether a landing call is one that can be made: it fits, its rates didn't say no, and its reserve pays for it, or
    /// nobody shares its budgets.
    pub(super) fn lands_now(&mut self, look: &Look, intent: &ModelIntent) -> bool {
        if self.landing_refused {
            return false;
        }
        let root = self.log.root;
        let Some(kept) = self.tree.root().landing.as_ref().map(|landing| landing.amount) else { return false };
        let way = Way { effort: Effort::default(), closed: Closed::new() };
        match self.prepared(root, intent, &way, look.now, true) {
            Ok(Prepared::Ready(draft)) => {
                // What it needs beyond its reserve a shared budget may not have had.
                let is_paid = draft.reserved.amount <= kept || !self.shares_budgets();
                is_paid && self.own.judge(&draft.reserved, None, |key| self.declared(key)).is_ok()
            }
            Ok(Prepared::Refused(_) | Prepared::GiveUp(_) | Prepared::Later(_)) | Err(_) => false,
        }
    }

    /// Whether the gate says this no to a call of the look that `is_meant`.
    pub(super) fn says_no(&mut self, look: &Look, is_meant: impl Fn(RunId, &Place) -> bool, no: No<'_>) -> bool {
        look.intents.iter().any(|(run, intent)| match intent {
            Intent::Model(intent) if is_meant(*run, &intent.step.place()) => self.model_says_no(look, *run, intent, no),
            Intent::Tool(intent) if is_meant(*run, &intent.step.place()) => {
                let No::Refusal(refusal) = no else { return false };
                let asked = self.called(*run, intent);
                (is_of_shared(refusal) && !is_of_rates(refusal.limit))
                    || asked.is_some_and(|asked| self.own_says_no(&asked, None, refusal))
            }
            Intent::Model(_) | Intent::Tool(_) => false,
            Intent::Child(_) | Intent::Refuse(_) | Intent::Land(_) | Intent::End(_) => false,
        })
    }

    fn model_says_no(&mut self, look: &Look, run: RunId, intent: &ModelIntent, no: No<'_>) -> bool {
        if matches!(no, No::Refusal(refusal) if is_of_shared(refusal)) {
            return true;
        }
        // A call that wasn't made pinned no price: it is asked at those of the calls that were, and at those in force.
        let in_force = self.in_force.clone();
        let pinned = std::mem::replace(&mut self.desk, in_force);
        let mut says_no = self.says_no_with(look, run, intent, no);
        self.desk = pinned;
        says_no |= self.says_no_with(look, run, intent, no);
        says_no || self.may_be_counted(run, no)
    }

    /// True for a no that a provider's count may have led to: of a call that wasn't made the log has none.
    fn may_be_counted(&self, run: RunId, no: No<'_>) -> bool {
        let No::Refusal(refusal) = no else { return false };
        let counts = self.tree.run(run).is_some_and(|run| run.plan.context.count == CountBy::Provider);
        let limits = [LimitKind::Context, LimitKind::Tokens, LimitKind::InputTokens, LimitKind::Cost];
        counts && limits.contains(&refusal.limit)
    }

    fn says_no_with(&mut self, look: &Look, run: RunId, intent: &ModelIntent, no: No<'_>) -> bool {
        self.ways(run, intent, None).iter().any(|way| match (self.prepared(run, intent, way, look.now, true), no) {
            (Ok(Prepared::Refused(now)), No::Refusal(refusal)) => same_refusal(refusal, &now),
            (Ok(Prepared::GiveUp(now)) | Err(now), No::Error(error)) => now == error,
            (Ok(Prepared::Ready(draft)), No::Refusal(refusal)) => match self.judge_tokens(run, intent, &draft) {
                Err(now) => same_refusal(refusal, &now),
                Ok(()) => self.own_says_no(&draft.reserved, Some(draft.lower), refusal),
            },
            (Ok(Prepared::Ready(_) | Prepared::Later(_) | Prepared::Refused(_)), _) => false,
            (Ok(Prepared::GiveUp(_)) | Err(_), No::Refusal(_)) => false,
        })
    }

    fn own_says_no(&self, asked: &Reserved, lower: Option<Lower>, refusal: &Refusal) -> bool {
        let says_no = |lower| {
            let judged = self.own.judge(asked, lower, |key| self.declared(key));
            judged.is_err_and(|refusals| refusals.contains(refusal))
        };
        // A shared budget may have had no room for the lower call either; then the account that was short first is told.
        says_no(lower) || (self.shares_budgets() && says_no(None))
    }

    /// Whether the tree counts on budgets that others share.
    fn shares_budgets(&self) -> bool {
        let mut log = self.log.logs.get(&self.log.root).into_iter().flatten();
        log.any(|recorded| matches!(&recorded.event, Event::Admitted(admitted) if !admitted.budgets.is_empty()))
    }

    /// Where the cap of an account of the tree is declared.
    fn declared(&self, account: &AccountKey) -> Declared {
        let root = &self.tree.root().plan.limits;
        let limits = match account {
            AccountKey::Node { run, stage } => self.tree.run(*run).map_or(root, |run| match stage {
                Some(stage) => run.plan.limits_of(stage),
                None => &run.plan.limits,
            }),
            AccountKey::Budget { .. } => root,
        };
        limits.declared(LimitKind::Cost)
    }

    /// Whether this is what the root keeps back to land, or nothing where it keeps nothing.
    pub(super) fn keeps(&self, look: &Look, kept: Option<Money>) -> bool {
        let root = self.tree.root();
        let is_last = matches!(look.intents.first(), Some((run, Intent::Model(intent)))
            if *run == root.id && intent.purpose == Purpose::Last);
        let Some(model) = root.landing_model().filter(|_| root.has_room_to_land(look.now)) else {
            return kept.is_none();
        };
        let amount = |tight| {
            let effort = Effort { tight, ..Effort::default() };
            self.desk.landing_amount(root, &self.talk, model, &effort, look.now)
        };
        match kept {
            None => is_last || amount(false).is_zero() || amount(true).is_zero(),
            Some(kept) => amount(false) == kept || amount(true) == kept,
        }
    }
}

/// Lowers a call to what was asked for in the end (LEDGER rule 9d); false where it may not go so far.
fn lowers(asked: &mut Reserved, lower: Lower, output: u32) -> bool {
    let Call::Model(call) = &mut asked.call else { return false };
    let Some(fewer) = call.max_output_tokens.checked_sub(output) else { return false };
    let saved = lower.rate.cost(Tokens(fewer.into()));
    let Some(amount) = asked.amount.checked_minus(saved) else { return false };
    call.max_output_tokens = output;
    asked.amount = amount;
    fewer == 0 || output >= lower.output_min
}

/// Models that were passed over: for a frozen price, or for a switch where the call says so.
fn told_apart(barred: Vec<ModelName>, recorded: Option<&ModelCall>) -> (Vec<ModelName>, Vec<(ModelName, String)>) {
    let told = recorded.and_then(|call| call.instead.as_deref()).unwrap_or_default();
    let is_off = |model: &ModelName| told.contains(&format!("{model}: {}", policy::SWITCHED_OFF));
    let (switched, frozen): (Vec<_>, Vec<_>) = barred.into_iter().partition(is_off);
    (frozen, switched.into_iter().map(|model| (model, String::new())).collect())
}

/// True for a no of what others share: budgets, prices that are frozen, the queue, rates and breakers.
pub(super) fn is_of_shared(refusal: &Refusal) -> bool {
    refusal.limit.is_shared()
}

/// True for a no of the rates and breakers of a project, which only models' calls meet.
fn is_of_rates(limit: LimitKind) -> bool {
    matches!(
        limit,
        LimitKind::RequestsPerMinute
            | LimitKind::TokensPerMinute
            | LimitKind::Concurrent
            | LimitKind::ProviderRate
            | LimitKind::Breaker
            | LimitKind::RateQueue
    )
}
