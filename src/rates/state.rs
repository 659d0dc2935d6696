//! All counts together: what a call needs, whether it is there, and who is next.

use std::collections::BTreeMap;

use super::count::Count;
use super::queue::{LineKey, Queue};
use super::{Asking, Closed, Used, WAITING_MAX, Wait};
use crate::domain::breaker::{Breaker, BreakerPolicy, Sign, Stands};
use crate::domain::limits::{Declared, LimitKind, Refusal};
use crate::domain::rate::{CallTokens, Caller, OwnLimits, RateKind, RateLimit};
use crate::domain::retry::ErrorClass;
use crate::ids::{AccountName, ModelName, ProviderName};
use crate::units::{Millis, Timestamp, grouped};

/// How often what is as if it had never been used is dropped.
const SHRINK_EVERY: Millis = Millis::from_secs(60);

/// Whose breaker it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Whose {
    Model(ModelName),
    Account(ProviderName, Option<AccountName>),
}

impl Whose {
    /// `openai/gpt-5-mini`, or `account acme of openai`.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Model(model) => model.to_string(),
            Self::Account(provider, None) => format!("the key of {provider}"),
            Self::Account(provider, Some(account)) => format!("account {account} of {provider}"),
        }
    }
}

/// Where a provider's own limits hold.
pub(super) type Route = (ModelName, Option<AccountName>);

/// One thing that calls may wait for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Need {
    Breaker(Whose),
    Provider(Route),
    Count(usize, RateKind, String),
}

struct Waiter {
    asking: Asking,
    line: LineKey,
    wait: Wait,
    /// It was let through, and hasn't looked yet.
    granted: bool,
}

/// What a call took.
struct Taken {
    line: LineKey,
    tokens: CallTokens,
}

/// All of it.
pub(super) struct State {
    pub(super) counts: Vec<Count>,
    pub(super) policy: BreakerPolicy,
    pub(super) own: BTreeMap<Route, OwnLimits>,
    pub(super) breakers: BTreeMap<Whose, Breaker>,
    pub(super) queue: Queue,
    waiters: BTreeMap<u64, Waiter>,
    /// Calls that were let through, until they are over.
    taken: BTreeMap<u64, Taken>,
    next_id: u64,
    shrunk: Timestamp,
}

impl State {
    pub(super) fn new(limits: Vec<RateLimit>, policy: BreakerPolicy, now: Timestamp) -> Self {
        Self {
            counts: limits.into_iter().map(|limit| Count::new(limit, now)).collect(),
            policy,
            own: BTreeMap::new(),
            breakers: BTreeMap::new(),
            queue: Queue::default(),
            waiters: BTreeMap::new(),
            taken: BTreeMap::new(),
            next_id: 0,
            shrunk: now,
        }
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiters.len()
    }

    /// Puts a call in its line.
    pub(super) fn enter(&mut self, asking: Asking, now: Timestamp) -> u64 {
        self.shrink(now);
        let caller = Caller { model: &asking.model, account: asking.account.as_ref(), labels: &asking.labels };
        let counts = self.counts.iter().enumerate();
        let counts = counts.filter_map(|(index, count)| Some((index, count.limit.count_of(&caller)?))).collect();
        let tenant = asking.labels.get("tenant").cloned().unwrap_or_default();
        let line = LineKey {
            tenant,
            model: asking.model.clone(),
            account: asking.account.clone(),
            last_try: asking.last_try,
            counts,
        };
        let id = self.next_id;
        self.next_id += 1;
        self.queue.push(&line, id);
        self.waiters.insert(id, Waiter { asking, line, wait: behind(&in_turn()), granted: false });
        id
    }

    /// Whether a call was let through; what it waits for otherwise.
    pub(super) fn look(&mut self, id: u64, now: Timestamp) -> Result<(), Wait> {
        self.poll(now, Some(id));
        match self.waiters.get(&id) {
            Some(waiter) if !waiter.granted => Err(self.wait_of(id, waiter)),
            Some(_) | None => {
                self.waiters.remove(&id);
                Ok(())
            }
        }
    }

    /// What a call waits for; behind the first of its line, for what that one waits for.
    fn wait_of(&self, id: u64, waiter: &Waiter) -> Wait {
        let first = self.queue.first_of(&waiter.line).filter(|first| *first != id);
        let first = first.and_then(|first| self.waiters.get(&first));
        first.map_or_else(|| waiter.wait.clone(), |first| behind(&first.wait.refusal))
    }

    /// A call doesn't want to go any more.
    pub(super) fn leave(&mut self, id: u64) {
        let Some(waiter) = self.waiters.remove(&id) else { return };
        if waiter.granted {
            self.give_up(id, false);
        } else {
            self.queue.remove(&waiter.line, id);
            self.wake_heads();
        }
    }

    /// Lets through whoever may go, in turn. `looking` looks itself, and needs no wake.
    fn poll(&mut self, now: Timestamp, looking: Option<u64>) {
        let mut blocked: BTreeMap<Need, Refusal> = BTreeMap::new();
        // Each round lets at least one through, but for the last.
        loop {
            let mut some = false;
            for (line, id) in self.queue.heads() {
                let needs = self.needs(&line);
                if let Some(refusal) = needs.iter().find_map(|need| blocked.get(need)) {
                    self.set_wait(id, behind(refusal), looking);
                    continue;
                }
                let Some(waiter) = self.waiters.get(&id) else { continue };
                let blocks = self.blocks(&needs, waiter.asking.tokens, now);
                if blocks.is_empty() {
                    self.let_through(id, &line, now, looking);
                    some = true;
                } else {
                    let wait = longest(&blocks);
                    blocked.extend(blocks.into_iter().map(|(need, wait)| (need, *wait.refusal)));
                    self.set_wait(id, wait, looking);
                }
            }
            if !some {
                return;
            }
        }
    }

    fn let_through(&mut self, id: u64, line: &LineKey, now: Timestamp, looking: Option<u64>) {
        self.queue.pop(line);
        let Some(waiter) = self.waiters.get_mut(&id) else { return };
        waiter.granted = true;
        let tokens = waiter.asking.tokens;
        if looking != Some(id) {
            waiter.asking.wake.notify_one();
        }
        for (index, value) in &line.counts {
            self.counts[*index].take(value, tokens, now);
        }
        let route = (line.model.clone(), line.account.clone());
        self.own.entry(route).or_default().take(id, tokens, now);
        for whose in whose(&line.model, line.account.as_ref()) {
            if let Some(breaker) = self.breakers.get_mut(&whose) {
                breaker.pass(id, now);
            }
        }
        self.taken.insert(id, Taken { line: line.clone(), tokens });
    }

    /// Who is behind others, or behind what has no known end, is woken when that changes.
    fn set_wait(&mut self, id: u64, wait: Wait, looking: Option<u64>) {
        let Some(waiter) = self.waiters.get_mut(&id) else { return };
        let sooner = wait.until.is_some() && waiter.wait.until != wait.until;
        if sooner && looking != Some(id) {
            waiter.asking.wake.notify_one();
        }
        waiter.wait = wait;
    }

    /// What a line needs, whatever its calls are for.
    fn needs(&self, line: &LineKey) -> Vec<Need> {
        let breakers = whose(&line.model, line.account.as_ref()).into_iter();
        let breakers = breakers.filter(|whose| self.breakers.contains_key(whose)).map(Need::Breaker);
        let route = (line.model.clone(), line.account.clone());
        let own = self.own.contains_key(&route).then_some(Need::Provider(route));
        let of_others = breakers.chain(own).filter(|_| !line.last_try);
        let counts = line.counts.iter().flat_map(|(index, value)| {
            self.counts[*index].kinds().map(|kind| Need::Count(*index, kind, value.clone()))
        });
        of_others.chain(counts).collect()
    }

    /// What is in a call's way now.
    fn blocks(&self, needs: &[Need], tokens: CallTokens, now: Timestamp) -> Vec<(Need, Wait)> {
        let block = |need: &Need| {
            let (refusal, until) = match need {
                Need::Breaker(whose) => broken(whose, self.breakers.get(whose)?, now)?,
                Need::Provider(route) => told(route, self.own.get(route)?, tokens, now)?,
                Need::Count(index, kind, value) => self.counts[*index].blocks(*kind, value, tokens, now)?,
            };
            Some((need.clone(), Wait { refusal: Box::new(refusal), until }))
        };
        needs.iter().filter_map(block).collect()
    }

    /// A call is over. Whoever waits for what it gives back is let through.
    pub(super) fn done(&mut self, id: u64, used: &Used, now: Timestamp) {
        if self.over(id, used, now) {
            self.poll(now, None);
        }
    }

    /// A call that was let through is dropped: nothing more will be heard of it.
    pub(super) fn give_up(&mut self, id: u64, sent: bool) {
        // What nobody hears of is neither owed nor learned from: the time doesn't matter.
        if self.over(id, &Used::nothing_heard(sent), self.shrunk) {
            self.wake_heads();
        }
    }

    /// True where a call counts on no limit, and tries no breaker for others.
    pub(super) fn is_free(&self, id: u64) -> bool {
        self.taken.get(&id).is_none_or(|taken| {
            let breakers = whose(&taken.line.model, taken.line.account.as_ref());
            taken.line.counts.is_empty() && !breakers.iter().any(|whose| self.breakers.contains_key(whose))
        })
    }

    /// True where there was such a call.
    fn over(&mut self, id: u64, used: &Used, now: Timestamp) -> bool {
        let Some(Taken { line, tokens }) = self.taken.remove(&id) else { return false };
        for (index, value) in &line.counts {
            self.counts[*index].done(value, tokens, used, now);
        }
        if let Some(own) = self.own.get_mut(&(line.model.clone(), line.account.clone())) {
            let limited = used.sign.1 == Some(ErrorClass::RateLimited);
            if used.sent {
                own.hear(id, &used.told, used.retry_after.filter(|_| limited), now);
            } else {
                own.give_back(id);
            }
        }
        self.learn(id, &line, used, now);
        true
    }

    /// What the end of a call says of its model, and of the account.
    fn learn(&mut self, id: u64, line: &LineKey, used: &Used, now: Timestamp) {
        let policy = self.policy;
        let [model, account] = whose(&line.model, line.account.as_ref());
        let (of_model, of_account) = match used.sign.0 {
            Sign::Failed(by) => (Sign::Failed(by), Sign::Nothing),
            Sign::Spent => (Sign::Nothing, Sign::Failed(u32::MAX)),
            sign @ (Sign::Works | Sign::Nothing) => (sign, sign),
        };
        for (whose, sign) in [(model, of_model), (account, of_account)] {
            match (sign, used.sign.1) {
                (Sign::Failed(by), Some(class)) => {
                    let breaker = self.breakers.entry(whose.clone()).or_default();
                    breaker.fails(id, (class, by), used.retry_after, now, &policy);
                    if let Stands::Open(until) = breaker.stands(now) {
                        tracing::warn!(of = %whose.name(), %until, class = class.name(), "a breaker is open");
                    }
                }
                (Sign::Works, _) => {
                    if let Some(breaker) = self.breakers.get_mut(&whose) {
                        breaker.works(id);
                    }
                }
                (Sign::Failed(_) | Sign::Spent | Sign::Nothing, _) => {
                    if let Some(breaker) = self.breakers.get_mut(&whose) {
                        breaker.let_go(id);
                    }
                }
            }
        }
        self.breakers.retain(|_, breaker| !breaker.is_new());
    }

    /// The first of each line looks again: what was in its way may be gone.
    fn wake_heads(&self) {
        for (_, id) in self.queue.heads() {
            if let Some(waiter) = self.waiters.get(&id) {
                waiter.asking.wake.notify_one();
            }
        }
    }

    pub(super) fn closed(
        &self,
        model: &ModelName,
        account: Option<&AccountName>,
        patience: Millis,
        now: Timestamp,
    ) -> Option<Closed> {
        let broken = whose(model, account).into_iter().find_map(|whose| {
            let breaker = self.breakers.get(&whose)?;
            let last = breaker.last().map_or("", ErrorClass::name);
            match breaker.stands(now) {
                Stands::Closed | Stands::HalfOpen => None,
                Stands::Open(until) => {
                    let why = format!("{BREAKER_OF} {} is open until {until} ({last})", whose.name());
                    Some(Closed { until: Some(until), why })
                }
                Stands::Probing => {
                    let why = format!("{BREAKER_OF} {} waits for one call to go well ({last})", whose.name());
                    Some(Closed { until: None, why })
                }
            }
        });
        broken.or_else(|| {
            let until = self.own.get(&(model.clone(), account.cloned()))?.closed_until(now)?;
            let why = format!("{LEFT_ALONE} {until}");
            (until.since(now) > patience).then_some(Closed { until: Some(until), why })
        })
    }

    fn shrink(&mut self, now: Timestamp) {
        if now.since(self.shrunk) < SHRINK_EVERY {
            return;
        }
        self.shrunk = now;
        self.counts.iter().for_each(|count| count.retain_recent(now));
        self.own.retain(|_, own| !own.is_forgotten(now));
        self.queue.shrink();
    }
}

/// How the reasons of [`State::closed`] begin.
const BREAKER_OF: &str = "the breaker of";
const LEFT_ALONE: &str = "its provider asks to be left alone until";

/// True for a reason why a model shouldn't be asked just now.
pub(super) fn is_why_closed(why: &str) -> bool {
    why.starts_with(BREAKER_OF) || why.starts_with(LEFT_ALONE)
}

pub(super) fn queue_is_full() -> Refusal {
    Refusal {
        limit: LimitKind::RateQueue,
        subject: None,
        value: grouped(u64::try_from(WAITING_MAX).unwrap_or(u64::MAX)),
        observed: "so many calls wait for rate limits already".to_owned(),
        declared: Declared::Default,
    }
}

fn whose(model: &ModelName, account: Option<&AccountName>) -> [Whose; 2] {
    [Whose::Model(model.clone()), Whose::Account(model.provider(), account.cloned())]
}

/// Nobody has looked yet.
fn in_turn() -> Refusal {
    Refusal {
        limit: LimitKind::RateQueue,
        subject: None,
        value: "in turn".to_owned(),
        observed: String::new(),
        declared: Declared::Default,
    }
}

/// Others are before it, and wait for this.
fn behind(refusal: &Refusal) -> Wait {
    let observed = "calls before it wait for the same".to_owned();
    Wait { refusal: Box::new(Refusal { observed, ..refusal.clone() }), until: None }
}

/// What is waited for the longest; what has no known end is longer than anything.
fn longest(blocks: &[(Need, Wait)]) -> Wait {
    let longest = blocks.iter().max_by_key(|(_, wait)| (wait.until.is_none(), wait.until));
    longest.map_or_else(|| behind(&in_turn()), |(_, wait)| wait.clone())
}

/// What an open breaker says.
fn broken(whose: &Whose, breaker: &Breaker, now: Timestamp) -> Option<(Refusal, Option<Timestamp>)> {
    let last = breaker.last().map_or("", ErrorClass::name);
    let (observed, until) = match breaker.stands(now) {
        Stands::Closed | Stands::HalfOpen => return None,
        Stands::Open(until) => (format!("open until {until}; the last failure was {last}"), Some(until)),
        Stands::Probing => (format!("one call tries first; the last failure was {last}"), None),
    };
    let refusal = Refusal {
        limit: LimitKind::Breaker,
        subject: Some(whose.name()),
        value: "closed".to_owned(),
        observed,
        declared: Declared::Default,
    };
    Some((refusal, until))
}

/// What a provider's own word says.
fn told(route: &Route, own: &OwnLimits, tokens: CallTokens, now: Timestamp) -> Option<(Refusal, Option<Timestamp>)> {
    let (until, measure) = own.ready_at(tokens, now)?;
    let window = own.windows(now).find(|(of, ..)| Some(*of) == measure);
    let (value, observed) = match window {
        Some((measure, left, whole, _)) => (
            whole.map_or_else(|| "what is left".to_owned(), |whole| format!("{} {}", grouped(whole), measure.name())),
            format!("{} {} left, enough in {}", grouped(left), measure.name(), until.since(now)),
        ),
        None => ("retry-after".to_owned(), format!("it asks to be left alone for {}", until.since(now))),
    };
    let (model, account) = route;
    let account = account.as_ref().map_or(String::new(), |account| format!(", account {account}"));
    let refusal = Refusal {
        limit: LimitKind::ProviderRate,
        subject: Some(format!("{model}{account}")),
        value,
        observed,
        declared: Declared::Default,
    };
    Some((refusal, Some(until)))
}
