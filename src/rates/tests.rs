use std::collections::BTreeMap;
use std::num::NonZeroU32;

use proptest::prelude::*;

use super::*;
use crate::domain::breaker::sign;
use crate::domain::limits::{Declared, LimitKind};
use crate::domain::rate::{Measure, ToldWindow};
use crate::domain::report::BreakerState;

const START: Timestamp = Timestamp(1_795_392_000_000);
const MODEL: &str = "openai/gpt-5-mini";

fn at(ms: u64) -> Timestamp {
    START.after(Millis(ms))
}

fn limit(each: &[&str], requests: u32, tokens: u32, concurrent: u32) -> RateLimit {
    RateLimit {
        scope: BTreeMap::new(),
        each: each.iter().map(|word| (*word).to_owned()).collect(),
        requests: NonZeroU32::new(requests),
        tokens: NonZeroU32::new(tokens),
        concurrent: NonZeroU32::new(concurrent),
        declared: Declared::Default,
    }
}

fn rates(limits: Vec<RateLimit>) -> Rates {
    Rates::new(limits, BreakerPolicy::default(), START)
}

fn asking(tenant: &str, model: &str, tokens: u64) -> Asking {
    Asking {
        model: model.into(),
        account: None,
        labels: Labels::from([("tenant".to_owned(), tenant.to_owned())]),
        tokens: CallTokens { input: tokens, output: 0 },
        last_try: false,
        wake: Arc::default(),
    }
}

fn now(rates: &Rates, tenant: &str, tokens: u64, now: Timestamp) -> Hold {
    match rates.ask(asking(tenant, MODEL, tokens), now) {
        Pass::Now(hold) => hold,
        Pass::Waits(_, wait) => panic!("it waits: {wait:?}"),
        Pass::Full(refusal) => panic!("{refusal}"),
    }
}

fn waits(rates: &Rates, tenant: &str, tokens: u64, now: Timestamp) -> (Ticket, Wait) {
    match rates.ask(asking(tenant, MODEL, tokens), now) {
        Pass::Waits(ticket, wait) => (ticket, wait),
        Pass::Now(_) | Pass::Full(_) => panic!("it should wait"),
    }
}

fn works(tokens: u64) -> Used {
    let tokens = Some(CallTokens { input: tokens, output: 0 });
    Used { tokens, sign: (Sign::Works, None), ..Used::nothing_heard(true) }
}

fn failed(class: ErrorClass) -> Used {
    Used { sign: (sign(class), Some(class)), ..Used::nothing_heard(true) }
}

/// Sends a call and ends it.
fn call(rates: &Rates, used: &Used, now: Timestamp) {
    let mut hold = self::now(rates, "t", 1, now);
    hold.send();
    hold.done(used, now);
}

#[test]
fn a_tenant_that_is_out_of_tokens_holds_up_nobody_else() {
    let rates = rates(vec![limit(&["tenant"], 0, 60_000, 0)]);
    now(&rates, "greedy", 50_000, at(0)).send();
    let mut hold = now(&rates, "other", 50_000, at(0));
    hold.send();
    let (_ticket, wait) = waits(&rates, "greedy", 1_000, at(0));
    assert_eq!(wait.refusal.limit, LimitKind::TokensPerMinute);
    for tenant in 0..200 {
        now(&rates, &tenant.to_string(), 6_000, at(0)).send();
    }
}

#[test]
fn on_one_count_tenants_take_turns_and_a_large_call_is_not_starved() {
    let rates = rates(vec![limit(&[], 0, 60_000, 0)]);
    now(&rates, "a", 6_000, at(0)).send();
    let mut line: Vec<(char, Option<Ticket>)> = Vec::new();
    for _ in 0..50 {
        line.push(('a', Some(waits(&rates, "a", 100, at(0)).0)));
    }
    line.push(('b', Some(waits(&rates, "b", 6_000, at(0)).0)));
    for _ in 0..50 {
        line.push(('c', Some(waits(&rates, "c", 100, at(0)).0)));
    }
    let mut went = String::new();
    for ms in (0..20_000).step_by(50) {
        for (tenant, place) in &mut line {
            match place.take().map(|ticket| ticket.look(at(ms))) {
                Some(Ok(mut hold)) => {
                    hold.send();
                    went.push(*tenant);
                }
                Some(Err((ticket, _))) => *place = Some(ticket),
                None => {}
            }
        }
    }
    assert_eq!(went.len(), 101);
    let large = went.find('b').expect("it went");
    assert!(large <= 3, "the large call had its turn: {went}");
    let (a, c) = (went[..40].matches('a').count(), went[..40].matches('c').count());
    assert!(a.abs_diff(c) <= 2, "{went}");
}

#[test]
fn who_waits_for_one_count_holds_up_only_who_needs_the_same() {
    let mut small = limit(&[], 0, 0, 1);
    small.scope.insert("model".into(), MODEL.into());
    let rates = rates(vec![small, limit(&[], 0, 60_000, 0)]);
    let _out = now(&rates, "t", 1, at(0));
    let (_ticket, wait) = waits(&rates, "t", 1, at(0));
    assert_eq!((wait.refusal.limit, wait.until), (LimitKind::Concurrent, None));
    assert!(matches!(rates.ask(asking("t", "openai/gpt-5", 1), at(0)), Pass::Now(_)));
}

#[test]
fn what_was_not_used_goes_to_who_waits() {
    let rates = rates(vec![limit(&[], 0, 60_000, 0)]);
    let mut hold = now(&rates, "a", 50_000, at(0));
    hold.send();
    let waiting = asking("b", MODEL, 5_000);
    let Pass::Waits(ticket, wait) = rates.ask(waiting.clone(), at(0)) else { panic!("it waits") };
    assert_eq!(wait.until, Some(at(49_000)));
    hold.done(&works(1_000), at(10));
    let woken = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    woken.block_on(waiting.wake.notified());
    assert!(ticket.look(at(10)).is_ok());
}

#[test]
fn a_call_that_never_left_gives_all_back_and_one_that_nobody_hears_of_nothing() {
    let rates = rates(vec![limit(&[], 0, 60_000, 0)]);
    drop(now(&rates, "a", 6_000, at(0)));
    let mut sent = now(&rates, "a", 6_000, at(0));
    sent.send();
    drop(sent);
    let (ticket, wait) = waits(&rates, "a", 6_000, at(0));
    assert_eq!(wait.until, Some(at(6_000)));
    drop(ticket);
    assert_eq!(rates.standing(at(0)).waiting, 0);
}

#[test]
fn a_place_that_is_given_up_is_the_next_ones() {
    let rates = rates(vec![limit(&[], 0, 0, 1)]);
    let hold = now(&rates, "a", 1, at(0));
    let (first, _) = waits(&rates, "a", 1, at(0));
    let (second, _) = waits(&rates, "a", 1, at(0));
    drop(hold);
    drop(first);
    assert!(second.look(at(1)).is_ok());
}

#[test]
fn a_provider_is_taken_at_its_word() {
    let rates = rates(vec![]);
    let window = ToldWindow { limit: Some(1_000), remaining: 0, resets_in: Millis(60_000) };
    let used = Used { told: ToldRates(BTreeMap::from([(Measure::Tokens, window)])), ..works(1) };
    call(&rates, &used, at(0));
    let (ticket, wait) = waits(&rates, "t", 100, at(0));
    assert_eq!((wait.refusal.limit, wait.until), (LimitKind::ProviderRate, Some(at(6_000))));
    assert!(wait.refusal.to_string().contains("0 tokens left, enough in 6"), "{}", wait.refusal);
    assert!(matches!(rates.ask(asking("t", "openai/gpt-5", 100), at(0)), Pass::Now(_)), "another model");
    let (ticket, _) = ticket.look(at(5_999)).err().expect("not yet");
    assert!(ticket.look(at(6_000)).is_ok());
    let row = &rates.standing(at(6_000)).providers[0];
    assert_eq!((row.what.as_str(), row.left, row.value, row.full_at), ("tokens", 100, Some(1_000), at(60_000)));
}

#[test]
fn a_provider_that_asks_to_be_left_alone_is_and_others_may_take_over() {
    let rates = rates(vec![]);
    let used = Used {
        retry_after: Some(Millis(30_000)),
        tokens: Some(CallTokens::default()),
        ..failed(ErrorClass::RateLimited)
    };
    call(&rates, &used, at(0));
    let (_ticket, wait) = waits(&rates, "t", 1, at(0));
    assert_eq!((wait.refusal.limit, wait.until), (LimitKind::ProviderRate, Some(at(30_000))));
    let closed = |patience| rates.closed(&MODEL.into(), None, Millis(patience), at(0)).map(|closed| closed.until);
    assert_eq!((closed(20_000), closed(30_000)), (Some(Some(at(30_000))), None));
}

#[test]
fn a_breaker_opens_and_one_call_goes_first() {
    let rates = rates(vec![]);
    for _ in 0..5 {
        call(&rates, &failed(ErrorClass::CutStream), at(0));
    }
    let closed = rates.closed(&MODEL.into(), None, Millis::ZERO, at(0)).expect("it is open");
    assert!(closed.why.contains("the breaker of openai/gpt-5-mini is open until"), "{}", closed.why);
    let (first, wait) = waits(&rates, "t", 1, at(0));
    assert_eq!((wait.refusal.limit, wait.until), (LimitKind::Breaker, Some(at(10_000))));
    let (second, _) = waits(&rates, "t", 1, at(0));
    let mut probe = first.look(at(10_000)).ok().expect("the probe");
    probe.send();
    let (second, wait) = second.look(at(10_000)).err().expect("only one");
    assert_eq!(wait.until, None);
    assert_eq!(rates.standing(at(10_000)).breakers[0].state, BreakerState::Probing);
    probe.done(&works(1), at(10_500));
    assert!(second.look(at(10_500)).is_ok());
    assert_eq!(rates.standing(at(10_500)).breakers, []);
}

#[test]
fn a_last_try_heeds_the_rates_only() {
    let rates = rates(vec![limit(&[], 0, 0, 1)]);
    let used = Used { retry_after: Some(Millis(30_000)), ..failed(ErrorClass::RateLimited) };
    call(&rates, &used, at(0));
    let last_try = || Asking { last_try: true, ..asking("t", MODEL, 1) };
    let (_behind, wait) = waits(&rates, "t", 1, at(30_000 - 1));
    assert_eq!(wait.refusal.limit, LimitKind::ProviderRate);
    let Pass::Now(hold) = rates.ask(last_try(), at(30_000 - 1)) else { panic!("a no costs nothing") };
    let Pass::Waits(_, wait) = rates.ask(last_try(), at(30_000 - 1)) else { panic!("one at once") };
    assert_eq!(wait.refusal.limit, LimitKind::Concurrent);
    drop(hold);
}

/// What waits for money or its turn may not keep the one try that a breaker lets through.
#[test]
fn a_call_that_tries_for_others_grows_old() {
    let rates = rates(vec![]);
    assert!(now(&rates, "t", 1, at(0)).is_free());
    (0..5).for_each(|_| call(&rates, &failed(ErrorClass::Server), at(0)));
    assert!(!now(&rates, "t", 1, at(10_000)).is_free());
}

#[test]
fn a_used_up_quota_closes_its_account_and_no_other() {
    let rates = rates(vec![]);
    call(&rates, &failed(ErrorClass::QuotaExhausted), at(0));
    let other: AccountName = "acme".into();
    assert!(rates.closed(&"openai/gpt-5".into(), None, Millis::ZERO, at(0)).is_some(), "all models of that key");
    assert!(rates.closed(&MODEL.into(), Some(&other), Millis::ZERO, at(0)).is_none());
    assert!(rates.closed(&"anthropic/claude-haiku-4-5".into(), None, Millis::ZERO, at(0)).is_none());
}

#[test]
fn the_standing_shows_what_is_free() {
    let rates = rates(vec![limit(&["tenant"], 0, 60_000, 2)]);
    let fresh = rates.standing(at(0)).rates;
    assert_eq!((fresh[0].of.as_str(), fresh[0].free), ("each tenant", 6_000));
    let _out = now(&rates, "acme", 1_000, at(0));
    let rows = rates.standing(at(0)).rates;
    let shown: Vec<_> = rows.iter().map(|row| (row.limit, row.of.as_str(), row.value, row.free)).collect();
    let expected =
        [(LimitKind::TokensPerMinute, "tenant=acme", 60_000, 5_000), (LimitKind::Concurrent, "tenant=acme", 2, 1)];
    assert_eq!(shown, expected);
}

/// A step of a simulation.
#[derive(Clone, Debug)]
enum Step {
    Ask { tenant: u8, tokens: u64 },
    Pass(u64),
    End(usize),
    Leave(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..3_u8, 1..9_000_u64).prop_map(|(tenant, tokens)| Step::Ask { tenant, tokens }),
        3 => (1..9_000_u64).prop_map(Step::Pass),
        3 => any::<usize>().prop_map(Step::End),
        1 => any::<usize>().prop_map(Step::Leave),
    ];
    proptest::collection::vec(step, 1..60)
}

proptest! {
    /// No window of a minute lets more through than the limit and one bucket; calls at once stay within theirs; and
    /// whoever waits goes in the end.
    #[test]
    fn no_minute_lets_more_through_than_it_may(steps in steps()) {
        const LIMIT: u64 = 30_000;
        let rates = rates(vec![limit(&[], 0, 30_000, 3)]);
        let (mut ms, mut sent, mut out, mut line) = (0, Vec::new(), Vec::new(), Vec::new());
        let mut largest = LIMIT / 10;
        let close = (0..150).flat_map(|_| [Step::End(0), Step::End(0), Step::End(0), Step::Pass(20_000)]);
        for step in steps.into_iter().chain(close) {
            match step {
                Step::Ask { tenant, tokens } => match rates.ask(asking(&tenant.to_string(), MODEL, tokens), at(ms)) {
                    Pass::Now(hold) => out.push((hold, tokens)),
                    Pass::Waits(ticket, _) => line.push((ticket, tokens)),
                    Pass::Full(refusal) => panic!("{refusal}"),
                },
                Step::Pass(by) => ms += by,
                // Whoever is heard of used all.
                Step::End(index) if !out.is_empty() => {
                    let (hold, tokens) = out.remove(index % out.len());
                    hold.done(&works(tokens), at(ms));
                }
                Step::Leave(index) if !line.is_empty() => drop(line.remove(index % line.len())),
                Step::End(_) | Step::Leave(_) => {}
            }
            let mut left = Vec::new();
            for (ticket, tokens) in line {
                match ticket.look(at(ms)) {
                    Ok(hold) => out.push((hold, tokens)),
                    Err((ticket, _)) => left.push((ticket, tokens)),
                }
            }
            line = left;
            for (hold, tokens) in &mut out {
                if !hold.sent {
                    hold.send();
                    largest = largest.max(*tokens);
                    sent.push((ms, *tokens));
                }
            }
            prop_assert!(out.len() <= 3);
        }
        prop_assert!(line.is_empty(), "{} wait for ever", line.len());
        for (index, (from, _)) in sent.iter().enumerate() {
            let window = sent[index..].iter().take_while(|(ms, _)| *ms < from + 60_000);
            let through: u64 = window.map(|(_, tokens)| tokens).sum();
            prop_assert!(through <= LIMIT + largest, "{through} in the minute from {from}");
        }
    }
}
