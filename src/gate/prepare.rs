//! The first half of passing the gate: which model, what it is sent, what that can cost at worst.

use std::collections::BTreeMap;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::form::{Beside, Rendered};
use super::traffic::Closed;
use crate::domain::account::Accounts;
use crate::domain::caching::CacheChoice;
use crate::domain::context::{self, Document, Documents, Fitted, LandingRoom, Window};
use crate::domain::event::{BoundMethod, Call, Count, InputBound, ModelCall, Pot, Purpose, Reserved};
use crate::domain::ledger::Lower;
use crate::domain::limits::{LimitKind, Refusal};
use crate::domain::message::{CacheTtl, DIGEST_BYTES, Message, Request, Sent, ToolChoice, ToolDefinition, WebSearch};
use crate::domain::plan::{CountBy, ModelPlan, Plan, hex};
use crate::domain::policy::{Approvals, DowngradeWhy, Stance};
use crate::domain::pricing::{Ages, CacheWrites, CallBound, Factors, PriceBook, PriceRow, ServiceTier, Terms};
use crate::domain::run::{ModelIntent, Run};
use crate::ids::{ModelName, ProviderName};
use crate::tokenize::{Counter, Encoding, RequestSizer};
use crate::units::{Money, Timestamp, Tokens};

/// The providers that can be asked, each with what its requests allow it to charge for.
#[derive(Clone, Debug)]
pub enum Providers {
    /// Whatever a plan names, since the simulated provider stands in: these with their own terms, all others pinned.
    Any(Arc<BTreeMap<ProviderName, Terms>>),
    /// These.
    Configured(Arc<BTreeMap<ProviderName, Terms>>),
}

impl Providers {
    /// The terms of requests that pin the service tier, and for which no cache write is charged but what they ask for.
    const fn pinned() -> Terms {
        let (cache_writes, service_tier) = (CacheWrites::Never, ServiceTier::Pinned);
        Terms { cache_writes, marks: Some(CacheTtl::Short), service_tier, factors: Factors::NONE }
    }

    pub(super) fn terms(&self, provider: &ProviderName) -> Option<Terms> {
        match self {
            Self::Any(known) => Some(known.get(provider).copied().unwrap_or(Self::pinned())),
            Self::Configured(known) => known.get(provider).copied(),
        }
    }
}

/// How far a step goes to get its money (LEDGER rule 9): each field is a further concession.
#[derive(Clone, Debug, Default)]
pub struct Effort {
    /// Which list of models, as far as money goes.
    pub stance: Stance,
    /// The rule of the policy that sends the step to the cheaper list though the money is there.
    pub rule: Option<DowngradeWhy>,
    /// Count tokens, so that the bound is tighter.
    pub tight: bool,
    /// Don't sum up what doesn't fit: cut it.
    pub trim: bool,
    /// The run has waited, or there was nobody to wait for.
    pub waited: bool,
    /// Ask for fewer output tokens.
    pub lower: bool,
    /// Models whose price is frozen.
    pub frozen: Vec<ModelName>,
    /// Models that somebody switched off: who, when, why, and how to lift it.
    pub switched: Vec<(ModelName, String)>,
    /// What a provider counted.
    pub counted: Option<Counted>,
}

/// What came of asking a provider for a count, and of which request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counted {
    /// The model.
    pub model: ModelName,
    /// What names the request's messages.
    pub request_hash: String,
    /// What it said.
    pub count: Count,
}

impl Counted {
    /// Of a draft.
    #[must_use]
    pub fn of(draft: &Draft, count: Count) -> Self {
        Self { model: draft.request.model.clone(), request_hash: hash(&draft.request.messages), count }
    }
}

impl Effort {
    /// The list of models that the step is on.
    #[must_use]
    pub const fn stands(&self) -> Stance {
        if self.rule.is_some() { Stance::Downgraded } else { self.stance }
    }

    /// Why it is on the cheaper list, if it is.
    pub(super) fn downgraded(&self) -> Option<DowngradeWhy> {
        let short = || (self.stance == Stance::Downgraded).then_some(DowngradeWhy::ShortOfMoney);
        self.rule.clone().or_else(short)
    }

    /// Forgets the concessions of one step. What is known of the run stays: frozen prices, and that money is short, so
    /// that bounds are counted in tokens from here on and the landing reserve isn't raised for want of a count.
    pub fn settle(&mut self) {
        let (frozen, switched) = (std::mem::take(&mut self.frozen), std::mem::take(&mut self.switched));
        *self = Self { frozen, switched, tight: self.tight, ..Self::default() };
    }

    /// Passes a model over from here on, for what the ledger said of it; false where it is passed over already.
    pub fn bar(&mut self, model: ModelName, refusal: &Refusal) -> bool {
        if self.frozen.contains(&model) || self.switched.iter().any(|(known, _)| *known == model) {
            return false;
        }
        if refusal.limit == LimitKind::Switch {
            self.switched.push((model, refusal.observed.clone()));
        } else {
            self.frozen.push(model);
        }
        true
    }
}

/// A model call that is ready to be judged by the ledger.
#[derive(Clone, Debug)]
pub struct Draft {
    /// True where the plan wants the provider to count the request first, and it hasn't been asked yet.
    pub wants_count: bool,
    /// The event to append.
    pub reserved: Reserved,
    /// How it could be made cheaper.
    pub lower: Lower,
    /// What would be sent.
    pub request: Request,
    /// True where counting tokens would give a tighter bound.
    pub can_tighten: bool,
    /// Whether the provider is asked to keep the request's beginning, and why.
    pub caching: CacheChoice,
}

/// What came of preparing a model call.
#[derive(Clone, Debug)]
pub enum Prepared {
    /// It may be judged.
    Ready(Box<Draft>),
    /// A limit says no.
    Refused(Box<Refusal>),
    /// No model is left to try.
    GiveUp(String),
    /// Back-off: not before this.
    Later(Timestamp),
}

/// A model to ask, and why it isn't the first of its list.
pub(super) struct Chosen {
    pub(super) model: ModelName,
    pub(super) instead: Option<String>,
}

/// The first half of the gate: it says what a call would be and what it could cost at worst. A pure function of the run,
/// the price book, what providers allow to be charged for, their accounts, and its circumstances; it reserves nothing.
#[derive(Clone, Debug)]
pub struct Appraiser {
    pub(super) book: Arc<PriceBook>,
    pub(super) counter: Arc<Counter>,
    pub(super) providers: Providers,
    pub(super) approvals: Arc<Approvals>,
    pub(super) ages: Ages,
    /// By provider; one that has none isn't there.
    pub(super) accounts: Arc<BTreeMap<ProviderName, Accounts>>,
}

/// What a call is prepared with, beside its run.
#[derive(Clone, Copy, Debug)]
pub struct Circumstances<'a> {
    /// How far the step goes to get its money.
    pub effort: &'a Effort,
    /// What is asked for in the same write before it.
    pub beside: Beside,
    /// Models that shouldn't be asked just now.
    pub closed: &'a Closed,
    /// The clock's reading.
    pub now: Timestamp,
}

impl Appraiser {
    /// With a price book and the configured providers.
    #[must_use]
    pub fn new(book: Arc<PriceBook>, providers: Providers) -> Self {
        let (counter, approvals, ages) = (Arc::new(Counter::default()), Arc::default(), Ages::DEFAULT);
        Self { book, counter, providers, approvals, ages, accounts: Arc::default() }
    }

    /// The same, where some models are denied.
    #[must_use]
    pub fn with_approvals(self, approvals: Approvals) -> Self {
        Self { approvals: Arc::new(approvals), ..self }
    }

    /// The same with other ages of prices.
    #[must_use]
    pub fn with_ages(self, ages: Ages) -> Self {
        Self { ages, ..self }
    }

    /// The same with accounts of providers.
    #[must_use]
    pub fn with_accounts(self, accounts: Arc<BTreeMap<ProviderName, Accounts>>) -> Self {
        Self { accounts, ..self }
    }

    /// The same with another price book.
    #[must_use]
    pub fn with_book(&self, book: Arc<PriceBook>) -> Self {
        Self { book, ..self.clone() }
    }

    /// Its price book.
    #[must_use]
    pub const fn book(&self) -> &Arc<PriceBook> {
        &self.book
    }

    /// Chooses the model, fits the request, bounds and prices it.
    ///
    /// Counting tokens may load a tokenizer (up to 190 ms) and read long texts: where that may happen, the thread is
    /// given back to the runtime for the time.
    #[must_use]
    pub fn prepare(&self, run: &Run, rendered: &Rendered, intent: &ModelIntent, with: Circumstances<'_>) -> Prepared {
        let turns = turns(run, intent);
        let may_count = with.effort.tight || rendered.may_count(run, intent);
        if may_count && self.counts_slowly(rendered.model(run), &turns) {
            return tokio::task::block_in_place(|| self.prepared(run, rendered, intent, with, &turns));
        }
        self.prepared(run, rendered, intent, with, &turns)
    }

    /// True where counting may hold up the runtime, and can give the thread back to it.
    fn counts_slowly(&self, plan: &ModelPlan, turns: &[Sent]) -> bool {
        let threads = tokio::runtime::Handle::try_current().map(|handle| handle.runtime_flavor());
        let is_slow = |model: &ModelName| Encoding::of(model).is_some_and(|known| self.counter.is_slow(known, turns));
        matches!(threads, Ok(tokio::runtime::RuntimeFlavor::MultiThread)) && plan.models().into_iter().any(is_slow)
    }

    fn prepared(
        &self,
        run: &Run,
        rendered: &Rendered,
        intent: &ModelIntent,
        with: Circumstances<'_>,
        turns: &[Sent],
    ) -> Prepared {
        let plan = rendered.model(run);
        let without_rule = Effort { rule: None, ..with.effort.clone() };
        let effort = if self.can_follow(run, plan, with) { with.effort } else { &without_rule };
        let with = Circumstances { effort, ..with };
        let now = with.now;
        let chosen = match self.choose(run, plan, intent, with) {
            Ok(chosen) => chosen,
            Err(answer) => return answer,
        };
        let Some((row, terms)) = self.row(&chosen.model, now) else {
            return Prepared::GiveUp(format!("model `{}` has no price", chosen.model));
        };
        let summary = summary_of(run, intent);
        let priced = Priced { desk: self, row, terms, turns, summary, with };
        let drafted = match intent.purpose {
            Purpose::Landing => priced.landing(run, rendered, intent, chosen),
            Purpose::Turn | Purpose::Last | Purpose::Repair | Purpose::Summary => {
                priced.turn(run, rendered, intent, chosen)
            }
        };
        match drafted {
            Ok(draft) => Prepared::Ready(Box::new(draft)),
            Err(refusal) => Prepared::Refused(refusal),
        }
    }

    /// The best of some documents, until their pot is full by the tokens of the plan's first model.
    #[must_use]
    pub fn choose_documents(&self, plan: &Plan, rendered: &Rendered, found: &[Document]) -> Option<Documents> {
        let sizer = RequestSizer::new(&self.counter, plan.model.candidates.first()?, &rendered.form.with_tools);
        Documents::chosen(found, &rendered.user, plan.context.documents, &sizer)
    }

    /// What the landing reserve should be for a conversation as it stands (LEDGER rule 6); nothing where it can't fit.
    #[must_use]
    pub fn landing_amount(
        &self,
        run: &Run,
        rendered: &Rendered,
        model: &ModelName,
        effort: &Effort,
        now: Timestamp,
    ) -> Money {
        let Some((row, terms)) = self.row(model, now) else { return Money::ZERO };
        let turns = run.landing_turns();
        let summary = run.landing_summary();
        let with = Circumstances { effort, beside: Beside::default(), closed: &Closed::new(), now };
        let priced = Priced { desk: self, row, terms, turns: &turns, summary, with };
        priced.landing_amount(run, rendered, model)
    }

    /// The price row of a model and what its requests allow to be charged for.
    pub(super) fn row(&self, model: &ModelName, now: Timestamp) -> Option<(&PriceRow, Terms)> {
        Some((self.book.find(model, now)?, self.providers.terms(&model.provider())?))
    }
}

/// The conversation that a call goes on with.
fn turns(run: &Run, intent: &ModelIntent) -> Vec<Sent> {
    let mut turns = match intent.purpose {
        Purpose::Landing => run.landing_turns(),
        Purpose::Turn | Purpose::Last | Purpose::Repair | Purpose::Summary => {
            run.turns_of(&intent.step.stage, intent.step.item)
        }
    };
    turns.extend(intent.remark.iter().map(|text| Sent::from(Message::User { text: text.clone() })));
    turns
}

fn summary_of<'a>(run: &'a Run, intent: &ModelIntent) -> Option<&'a Sent> {
    match intent.purpose {
        Purpose::Landing => run.landing_summary(),
        Purpose::Turn | Purpose::Last | Purpose::Repair | Purpose::Summary => {
            run.summary_at(&intent.step.stage, intent.step.item)
        }
    }
}

/// A conversation and the row that prices it.
pub(super) struct Priced<'a> {
    pub(super) desk: &'a Appraiser,
    pub(super) row: &'a PriceRow,
    pub(super) terms: Terms,
    pub(super) turns: &'a [Sent],
    /// What stands for the turns before.
    pub(super) summary: Option<&'a Sent>,
    pub(super) with: Circumstances<'a>,
}

impl Priced<'_> {
    /// A turn of the loop, the one last call, or a repair.
    fn turn(
        &self,
        run: &Run,
        rendered: &Rendered,
        intent: &ModelIntent,
        chosen: Chosen,
    ) -> Result<Draft, Box<Refusal>> {
        let max_output = self.max_output(rendered.model(run), u32::MAX);
        let sizer = RequestSizer::new(&self.desk.counter, &chosen.model, &rendered.form.with_tools);
        let window = Window { tokens: self.row.context_window, max_output };
        let draft = rendered.draft(self.turns, self.summary);
        let why_cut = match self.summed_up(run, rendered, intent, &chosen, window, &sizer) {
            Some(Ok(summary)) => return Ok(*summary),
            Some(Err(why)) => Some(why),
            None => None,
        };
        let mut fitted = context::fit(&draft, &run.plan.context, window, &sizer)?;
        if let (Some(why), Some(cut)) = (why_cut, fitted.cuts.iter_mut().find(|cut| cut.pot == Pot::History)) {
            cut.what = format!("{}; not summed up: {why}", cut.what);
        }
        let tightened = |fitted: Fitted| context::tightened(&draft, &sizer).unwrap_or(fitted);
        if self.with.effort.tight && fitted.method == BoundMethod::Bytes {
            fitted = tightened(fitted);
        }
        let least = self.counted(&chosen.model, &fitted.messages).map(Count::least).unwrap_or_default();
        let raise = |fitted: Fitted| context::raised(fitted, least, &run.plan.context, window);
        let mut fitted = raise(fitted)?;
        let asked = (self.with.beside.input, self.with.beside.output);
        let search = rendered.model(run).web_search;
        let judge = |fitted: &Fitted| {
            let (input, output) = self.most(search, fitted, max_output);
            run.judge_tokens_after(asked, intent.purpose, input, output)
        };
        if let Err(refusal) = judge(&fitted) {
            // Counting may show that the run's token limits leave room.
            if fitted.method != BoundMethod::Bytes || sizer.encoding.is_none() {
                return Err(Box::new(refusal));
            }
            fitted = raise(tightened(fitted))?;
            judge(&fitted)?;
        }
        let can_tighten = fitted.method == BoundMethod::Bytes && sizer.encoding.is_some() && search.is_none();
        let landing = match intent.purpose {
            Purpose::Turn | Purpose::Repair | Purpose::Summary if run.plan.is_workflow() => held_for_landing(run),
            Purpose::Turn | Purpose::Repair | Purpose::Summary if run.can_land() => {
                self.landing_amount(run, rendered, &chosen.model)
            }
            Purpose::Turn | Purpose::Repair | Purpose::Summary | Purpose::Last | Purpose::Landing => Money::ZERO,
        };
        let (caching, cache) = self.caching(run, rendered, intent, &fitted);
        let (messages, tools) = (std::mem::take(&mut fitted.messages), rendered.form.tools.clone());
        let plain = request(run, rendered, &chosen.model, messages, tools, max_output);
        let request = Request { cache, web_search: search, ..plain };
        let mut draft = self.draft(run, rendered, intent, chosen, request, fitted, landing, can_tighten)?;
        let count = self.counted(&draft.request.model, &draft.request.messages).cloned();
        let wants_count = count.is_none() && run.plan.context.count == CountBy::Provider;
        if let Call::Model(call) = &mut draft.reserved.call {
            call.count = count;
        }
        Ok(Draft { caching, wants_count, ..draft })
    }

    /// What the provider counted of these messages.
    fn counted(&self, model: &ModelName, messages: &[Sent]) -> Option<&Count> {
        let counted = self.with.effort.counted.as_ref().filter(|counted| counted.model == *model)?;
        (counted.request_hash == hash(messages)).then_some(&counted.count)
    }

    /// The last answer, trimmed until its bound fits the reserve (LEDGER rules 6 and 11).
    fn landing(
        &self,
        run: &Run,
        rendered: &Rendered,
        intent: &ModelIntent,
        chosen: Chosen,
    ) -> Result<Draft, Box<Refusal>> {
        let limits = &run.plan.limits;
        let max_output = self.landing_output(run);
        let kept = run.landing.as_ref().and_then(|kept| self.row.input_within(max_output, kept.amount, self.terms));
        let tokens = kept.unwrap_or(Tokens::BELIEVED_MAX).min(Tokens(limits.landing_tokens.into()));
        let room = LandingRoom { tokens, declared: limits.declared(LimitKind::LandingTokens) };
        let sizer = RequestSizer::new(&self.desk.counter, &chosen.model, &rendered.form.without_tools);
        let mut fitted = context::landing(&rendered.draft(self.turns, self.summary), &room, &sizer)?;
        let messages = std::mem::take(&mut fitted.messages);
        let request = request(run, rendered, &chosen.model, messages, [].into(), max_output);
        self.draft(run, rendered, intent, chosen, request, fitted, Money::ZERO, false)
    }

    pub(super) fn landing_amount(&self, run: &Run, rendered: &Rendered, model: &ModelName) -> Money {
        let limits = &run.plan.limits;
        let room = LandingRoom {
            tokens: Tokens(limits.landing_tokens.into()),
            declared: limits.declared(LimitKind::LandingTokens),
        };
        let sizer = RequestSizer::new(&self.desk.counter, model, &rendered.form.without_tools);
        let method = if self.with.effort.tight { BoundMethod::Tokens } else { BoundMethod::Bytes };
        let bound = context::landing_bound(&rendered.draft(self.turns, self.summary), &room, method, &sizer);
        // A workflow's outputs come late: its reserve is enough for the whole room from the start.
        let bound = if run.plan.is_workflow() { bound.map(|_| room.tokens) } else { bound };
        bound.map_or(Money::ZERO, |input| self.bound(input).worst_case(self.landing_output(run)))
    }

    fn max_output(&self, model: &ModelPlan, wanted: u32) -> u32 {
        wanted.min(self.row.max_output.unwrap_or(u32::MAX)).min(model.max_output_tokens)
    }

    fn landing_output(&self, run: &Run) -> u32 {
        self.max_output(&run.plan.model, run.plan.limits.landing_output_tokens)
    }

    /// The most tokens that a call can count, input and output.
    fn most(&self, search: Option<WebSearch>, fitted: &Fitted, max_output: u32) -> (Tokens, Tokens) {
        let Some(search) = search else { return (fitted.bound().tokens, Tokens(max_output.into())) };
        let (steps, window) = (u64::from(search.steps()), self.row.context_window.unwrap_or(Tokens::BELIEVED_MAX));
        (Tokens(window.0.saturating_mul(steps)), Tokens(u64::from(max_output).saturating_mul(steps)))
    }

    /// The bounds of a request; refused where it has none, which is known before a model is chosen but for a price that
    /// changes between two tries.
    fn worst(
        &self,
        request: &Request,
        fitted: &Fitted,
        plan: &ModelPlan,
    ) -> Result<(InputBound, CallBound), Box<Refusal>> {
        // What is asked to be kept is charged as written: the bound has the dearer of the two.
        let terms = self.terms.asking(request.cache.as_ref().map(|marks| marks.ttl));
        let own = fitted.bound();
        let Some(search) = request.web_search else { return Ok((own, self.row.bound(own.tokens, terms))) };
        let bound = self.row.bound_searching(terms, search).map_err(|error| Refusal {
            limit: LimitKind::ModelPolicy,
            subject: None,
            value: "approved models".into(),
            observed: format!("`{}` can't search: {error}", request.model),
            declared: plan.declared.clone(),
        });
        let (tokens, bound) = bound?;
        Ok((InputBound { tokens, ..own }, bound))
    }

    fn bound(&self, input: Tokens) -> CallBound {
        self.row.bound(input, self.terms)
    }

    #[expect(clippy::too_many_arguments, reason = "each is one field of the event or of the draft")]
    pub(super) fn draft(
        &self,
        run: &Run,
        rendered: &Rendered,
        intent: &ModelIntent,
        chosen: Chosen,
        request: Request,
        fitted: Fitted,
        landing: Money,
        can_tighten: bool,
    ) -> Result<Draft, Box<Refusal>> {
        let (input, bound) = self.worst(&request, &fitted, rendered.model(run))?;
        let account = self.desk.account(&chosen.model, &run.labels).ok().flatten();
        let call = ModelCall {
            account,
            model: chosen.model,
            price: self.row.id.clone(),
            purpose: intent.purpose,
            max_output_tokens: request.max_output_tokens,
            bound: input,
            pots: fitted.pots,
            cuts: fitted.cuts,
            request_hash: hash(&request.messages),
            remark: intent.remark.clone(),
            sums_up: None,
            instead: chosen.instead,
            downgraded: self.with.effort.downgraded().filter(|_| is_of_model_policy(intent.purpose)),
            count: None,
            web_search: request.web_search,
        };
        let reserved = Reserved {
            reservation: self.with.beside.next_reservation(run),
            step: intent.step.clone(),
            attempt: intent.attempt,
            amount: bound.worst_case(request.max_output_tokens),
            landing,
            budgets: None,
            time_limit: intent.time_limit,
            call: Call::Model(call),
        };
        let output_min = rendered.model(run).min_output_tokens.min(request.max_output_tokens);
        let lower = Lower { rate: bound.output_rate, output_min };
        Ok(Draft { wants_count: false, reserved, lower, request, can_tighten, caching: CacheChoice::Off })
    }
}

/// True for calls whose model the policy chooses: a landing has that of the call before it, a summary its own.
const fn is_of_model_policy(purpose: Purpose) -> bool {
    match purpose {
        Purpose::Turn | Purpose::Last | Purpose::Repair => true,
        Purpose::Landing | Purpose::Summary => false,
    }
}

/// A workflow's reserve stays as it was placed.
pub(super) fn held_for_landing(run: &Run) -> Money {
    run.landing.as_ref().map_or(Money::ZERO, |landing| landing.amount)
}

fn request(
    run: &Run,
    rendered: &Rendered,
    model: &ModelName,
    messages: Vec<Sent>,
    tools: Arc<[ToolDefinition]>,
    max_output_tokens: u32,
) -> Request {
    Request {
        model: model.clone(),
        messages,
        tool_choice: if tools.is_empty() { ToolChoice::None } else { ToolChoice::Auto },
        parallel_calls: true,
        tools,
        output: rendered.form.output.clone(),
        max_output_tokens,
        sampling: rendered.model(run).sampling.clone(),
        stream: rendered.model(run).stream,
        cache: None,
        web_search: None,
    }
}

/// Names a request in the log: 16 hexadecimal digits of SHA-256 over its messages' digests.
pub(crate) fn hash(messages: &[Sent]) -> String {
    let digests: Vec<[u8; DIGEST_BYTES]> = messages.iter().map(Sent::digest).collect();
    hex(Sha256::digest(digests.as_flattened()).get(..8).unwrap_or_default())
}
