//! The conformance suite of the whole store: every case runs on both engines.

use std::collections::BTreeSet;

use plimsoll::clock::Clock;
use plimsoll::domain::event::{AccountKey, Event, RunState};
use plimsoll::domain::pricing::{Fee, Fees};
use plimsoll::domain::rollup::{Day, Dimensions, RollupFailures, Together};
use plimsoll::store::{RunFilter, Store};
use plimsoll::units::{Millis, Money, Timestamp, Tokens};

use super::facts::*;

#[test]
fn a_run_reads_back_while_it_is_open_when_it_ended_and_after_opening_again() {
    for bed in Bed::both() {
        let clock = clock();
        let run = run_at(0, 1);
        let store = bed.open(&clock);
        block_on(async {
            submit(&store, run, vec![created("triage", &[("tenant", "acme")], None)]).await;
            clock.advance(Millis(10));
            let committed = submit(&store, run, vec![admitted(run), reserved(run, 1, 1, 1, 5_000)]).await;
            assert_eq!(committed.events.iter().map(|(_, recorded)| recorded.seq).collect::<Vec<_>>(), [1, 2]);
            let open = store.summary(run).expect("it reads").expect("it is there");
            assert_eq!((open.state, open.held), (RunState::Running, Money::from_micro(5_000 + LANDING)));
            assert_eq!(store.holds().expect("it reads").len(), 2);
            clock.advance(Millis(800));
            submit(&store, run, vec![settled(run, 1, 1_234, "hello"), released(run), ended()]).await;
        });
        let log = store.events(run).expect("it reads");
        let summary = store.summary(run).expect("it reads").expect("it is there");
        let verified = store.verify().expect("all fits");
        assert_eq!((verified.runs, verified.events, verified.settled), (1, 6, Money::from_micro(1_234)));
        drop(store);
        let store = bed.open(&clock);
        assert!(store.recovered().is_empty());
        assert_eq!(store.events(run).expect("it reads"), log);
        assert_eq!(store.summary(run).expect("it reads").as_ref(), Some(&summary));
        assert_no_gap(&log);
        assert_eq!(log[5].event, ended());
        assert_eq!(summary.state, RunState::Finished);
        assert_eq!((summary.steps, summary.model_calls, summary.attempts, summary.retries), (1, 1, 1, 0));
        assert_eq!((summary.settled, summary.held), (Money::from_micro(1_234), Money::ZERO));
        assert_eq!((summary.active, summary.usage.input), (Millis(800), Tokens(100)));
        let accounts = store.accounts().expect("it reads");
        assert_eq!(accounts.len(), 1, "a closed run keeps its sums in its summary: {accounts:?}");
        assert_eq!((&accounts[0].0, accounts[0].1.settled), (&budget(), Money::from_micro(1_234)));
        assert!(store.holds().expect("it reads").is_empty());
        store.verify().expect("all fits");
    }
}

#[test]
fn a_settlement_after_the_end_is_merged_into_the_log() {
    for bed in Bed::both() {
        let clock = clock();
        let run = run_at(0, 1);
        let store = bed.open(&clock);
        block_on(async {
            let first = vec![created("a", &[], None), admitted(run), reserved(run, 1, 1, 1, 5_000)];
            submit(&store, run, first).await;
            submit(&store, run, vec![released(run), ended()]).await;
            assert_eq!(store.accounts().expect("it reads").len(), 2, "an account that holds money is kept");
            submit(&store, run, vec![settled(run, 1, 777, "late")]).await;
        });
        store.verify().expect("all fits");
        drop(store);
        let store = bed.open(&clock);
        let log = store.events(run).expect("it reads");
        assert_no_gap(&log);
        assert_eq!(log.len(), 6);
        let summary = store.summary(run).expect("it reads").expect("it is there");
        assert_eq!((summary.state, summary.settled), (RunState::Finished, Money::from_micro(777)));
        store.verify().expect("all fits");
    }
}

#[test]
fn a_process_that_went_down_leaves_unknown_money_and_an_interrupted_run() {
    for bed in Bed::both() {
        let clock = clock();
        let (run, late) = (run_at(0, 1), run_at(0, 2));
        let store = bed.open(&clock);
        block_on(async {
            submit(&store, run, vec![created("a", &[], None), admitted(run), reserved(run, 1, 1, 1, 5_000)]).await;
            let ended_early = vec![created("a", &[], None), admitted(late), reserved(late, 1, 1, 1, 100)];
            submit(&store, late, ended_early).await;
            submit(&store, late, vec![released(late), ended()]).await;
        });
        drop(store);
        clock.advance(Millis::from_secs(3_600));
        let store = bed.open(&clock);
        assert_eq!(store.recovered().len(), 3, "{:?}", store.recovered());
        let summary = store.summary(run).expect("it reads").expect("it is there");
        assert_eq!((summary.state, summary.unknown), (RunState::Interrupted, Money::from_micro(5_000)));
        assert_eq!((summary.held, summary.active), (Money::ZERO, Millis::ZERO), "down time isn't active time");
        let late = store.summary(late).expect("it reads").expect("it is there");
        assert_eq!((late.state, late.unknown), (RunState::Finished, Money::from_micro(100)));
        assert_no_gap(&store.events(run).expect("it reads"));
        store.verify().expect("all fits");
        drop(store);
        assert!(
            bed.open(&clock).recovered().iter().all(|(_, recorded)| matches!(recorded.event, Event::Interrupted(_)))
        );
    }
}

#[test]
fn lists_are_filtered_and_newest_first() {
    for bed in Bed::both() {
        let clock = clock();
        let store = bed.open(&clock);
        block_on(async {
            for number in 0..30 {
                let (agent, tenant) = (["triage", "search"][number % 2], ["acme", "umbrella", "initech"][number % 3]);
                let run = run_at(u64::try_from(number).expect("small") * 1_000, 1);
                if number % 5 == 0 {
                    submit(&store, run, vec![created(agent, &[("tenant", tenant)], None)]).await;
                } else {
                    finish(&store, run, agent, &[("tenant", tenant)], None).await;
                }
            }
        });
        let ids = |filter: &RunFilter| -> Vec<u64> {
            let runs = store.summaries(filter).expect("it reads");
            runs.iter()
                .map(|run| u64::try_from((run.id.bits() >> 80) - u128::from(START.0)).expect("small") / 1_000)
                .collect()
        };
        let expect = |test: &dyn Fn(u64) -> bool| (0..30).rev().filter(|number| test(*number)).collect::<Vec<u64>>();
        let all = RunFilter::default();
        assert_eq!(ids(&all), expect(&|_| true));
        let agent = RunFilter { agent: Some("search".into()), ..all.clone() };
        assert_eq!(ids(&agent), expect(&|number| number % 2 == 1));
        let queued = RunFilter { states: BTreeSet::from([RunState::Queued]), ..all.clone() };
        assert_eq!(ids(&queued), expect(&|number| number % 5 == 0));
        let labels = [("tenant".to_owned(), "acme".to_owned())].into();
        let both = RunFilter { labels, states: BTreeSet::from([RunState::Finished]), ..agent };
        assert_eq!(ids(&both), expect(&|number| number % 3 == 0 && number % 2 == 1 && number % 5 != 0));
        let at = |seconds: u64| Some(Timestamp(START.0 + seconds * 1_000));
        let times = RunFilter { since: at(5), until: at(9), ..all.clone() };
        assert_eq!(ids(&times), [8, 7, 6, 5]);
        let dear = RunFilter { cost_min: Some(Money::from_pico(1)), ..all.clone() };
        assert_eq!(ids(&dear), expect(&|number| number % 5 != 0), "those that ended cost something");
        let free = RunFilter { cost_max: Some(Money::ZERO), ..all.clone() };
        assert_eq!(ids(&free), expect(&|number| number % 5 == 0));
        let page = RunFilter { limit: 4, before: Some(run_at(20_000, 1)), ..all.clone() };
        assert_eq!(ids(&page), [19, 18, 17, 16]);
        // Where few are like that, a page ends before it is full, and says where the next begins.
        let (mut rare, mut seen) = (RunFilter { cost_max: Some(Money::ZERO), limit: 3, ..all }, Vec::new());
        loop {
            let found = store.found(&rare, 7).expect("it reads");
            assert!(found.runs.len() <= 2 && (found.next.is_some() || found.runs.len() < 2), "{found:?}");
            seen.extend(found.runs.iter().map(|run| run.id));
            rare.before = found.next;
            if rare.before.is_none() {
                break;
            }
        }
        assert_eq!(seen, [25, 20, 15, 10, 5, 0].map(|number| run_at(number * 1_000, 1)));
    }
}

#[test]
fn a_caller_key_finds_its_latest_run() {
    for bed in Bed::both() {
        let store = bed.open(&clock());
        let (first, second) = (run_at(0, 1), run_at(1, 1));
        block_on(async {
            finish(&store, first, "a", &[], Some("file:1")).await;
            assert_eq!(store.run_by_key(&"a".into(), "file:1").expect("it reads"), Some(first));
            finish(&store, second, "a", &[], Some("file:1")).await;
        });
        assert_eq!(store.run_by_key(&"a".into(), "file:1").expect("it reads"), Some(second));
        assert_eq!(store.run_by_key(&"b".into(), "file:1").expect("it reads"), None);
        assert_eq!(store.run_by_key(&"a".into(), "file:2").expect("it reads"), None);
    }
}

#[test]
fn rollups_are_exact_sums_on_the_day_of_the_reservation() {
    for bed in Bed::both() {
        let clock = clock();
        let run = run_at(0, 1);
        let store = bed.open(&clock);
        block_on(async {
            submit(&store, run, vec![created("a", &[("tenant", "acme")], None), admitted(run)]).await;
            submit(&store, run, vec![reserved(run, 1, 1, 1, 5_000), voided(run, 1), reserved(run, 2, 1, 2, 5_000)])
                .await;
            clock.advance(Millis::from_secs(86_400));
            submit(&store, run, vec![settled(run, 2, 300, "x"), reserved(run, 3, 2, 1, 5_000)]).await;
            submit(&store, run, vec![settled(run, 3, 40, "y"), released(run), ended()]).await;
        });
        let today = Day::of(START);
        let rows = store.rollups(today, Day(today.0 + 1)).expect("it reads");
        let of = |day: Day, model: bool| {
            let found = rows.iter().filter(|((at, of), _)| *at == day && of.model.is_some() == model);
            found.map(|(_, rollup)| rollup.clone()).next().expect("a row")
        };
        let (first, second) = (of(today, true), of(Day(today.0 + 1), true));
        assert_eq!((first.calls, first.attempts, first.over), (1, 2, 2));
        let failures = |over, failed| RollupFailures { over, failed };
        assert_eq!((first.failures, second.failures), (failures(2, 1), failures(1, 0)));
        assert_eq!((first.settled, first.retry_cost), (Money::from_micro(300), Money::from_micro(300)));
        assert_eq!((second.calls, second.settled, second.retry_cost), (1, Money::from_micro(40), Money::ZERO));
        assert_eq!(of(Day(today.0 + 1), false).ended.values().sum::<u64>(), 1);
        assert_eq!(rows[0].0.1.tenant.as_deref(), Some("acme"));
        assert_eq!(store.rollups(today, today).expect("it reads").len(), 1);
        store.verify().expect("all fits");
    }
}

#[test]
fn days_that_are_kept_decoded_tell_what_is_written_later() {
    for bed in Bed::both() {
        let clock = clock();
        let store = bed.open(&clock);
        let all = Day::of(START)..=Day(Day::of(START).0 + 3);
        let same = || {
            let kept = store.rollups_kept(*all.start(), *all.end()).expect("it reads");
            let kept: Vec<_> = kept.iter().flat_map(|rows| rows.iter().cloned()).collect();
            let whole = store.rollups(*all.start(), *all.end()).expect("it reads");
            let mut together = Together::default();
            whole.iter().cloned().for_each(|(key, rollup)| together.add(key, rollup));
            assert_eq!(kept, together.rows());
            (kept.len(), whole.len())
        };
        assert_eq!(same(), (0, 0));
        for day in 0..3 {
            let (run, talk) = (run_at(day, 1), format!("talk-{}", day / 2));
            block_on(async {
                let labels = [("tenant", "acme"), ("thread", talk.as_str())];
                submit(&store, run, vec![created("a", &labels, None), admitted(run)]).await;
                submit(&store, run, vec![reserved(run, 1, 1, 1, 5_000)]).await;
                clock.advance(Millis::from_secs(86_400));
                // On the day of the reservation, and on that of the end.
                same();
                submit(&store, run, vec![settled(run, 1, 300, "x"), released(run), ended()]).await;
                same();
                submit(&store, run_at(0, 1), vec![worth(Some(day), Some(9_300), Some(12_500_000), &[])]).await;
            });
            assert!(same().0 > 0);
        }
        // Longer than is kept.
        let whole = store.rollups_kept(Day(0), Day(u32::MAX)).expect("it reads");
        let (kept, rows) = same();
        assert_eq!((whole.len(), whole[0].len()), (1, kept));
        assert!(kept < rows, "{kept} rows of {rows}");
    }
}

#[test]
fn rollups_keep_what_contradicts_itself_and_units_beside_tokens() {
    for bed in Bed::both() {
        let clock = clock();
        let store = bed.open(&clock);
        block_on(async {
            for (number, thread) in [(1, None), (2, Some("ticket-7")), (3, None)] {
                let run = run_at(0, number);
                let labels: Vec<(&str, &str)> = thread.map(|name| ("thread", name)).into_iter().collect();
                submit(&store, run, vec![created("a", &labels, None), admitted(run)]).await;
                let gave = if number == 3 { settled(run, 1, 10, "y") } else { contradicting(run, 1) };
                submit(&store, run, vec![reserved(run, 1, 1, 1, 5_000), gave, released(run), ended()]).await;
            }
        });
        drop(store);
        let store = bed.open(&clock);
        let rows = store.rollups(Day::of(START), Day::of(START)).expect("it reads");
        let of = |thread: Option<&str>| {
            let fits = |of: &Dimensions| of.model.is_some() && of.thread.as_deref() == thread;
            rows.iter().find(|((_, of), _)| fits(of)).map(|(_, rollup)| rollup.clone()).expect("a row")
        };
        for (thread, attempts) in [(None, 2), (Some("ticket-7"), 1)] {
            let rollup = of(thread);
            assert_eq!(
                (rollup.mismatched, rollup.attempts, rollup.usage.other),
                (1, attempts, Tokens(7)),
                "{thread:?}"
            );
            assert_eq!(rollup.usage.fees, Fees::NONE.with(Fee::WebSearch, 2).with(Fee::Maps, 1));
        }
        store.verify().expect("all fits");
    }
}

#[test]
fn long_bodies_and_many_runs_at_once_come_back_whole() {
    for bed in Bed::both() {
        let clock = Clock::system();
        let store = bed.open(&clock);
        let long = "lorem ipsum ".repeat(20_000);
        block_on(async {
            let mut tasks = tokio::task::JoinSet::new();
            for number in 0..64 {
                let (store, long) = (store.clone(), long.clone());
                tasks.spawn(async move {
                    let run = run_at(0, number);
                    submit(&store, run, vec![created("a", &[], None), admitted(run)]).await;
                    for step in 1..=3 {
                        submit(&store, run, vec![reserved(run, step, step, 1, 5_000)]).await;
                        let text = if number % 16 == 0 { &long } else { "short" };
                        submit(&store, run, vec![settled(run, step, 10, text)]).await;
                    }
                    submit(&store, run, vec![released(run), ended()]).await;
                });
            }
            while let Some(task) = tasks.join_next().await {
                task.expect("no task fails");
            }
        });
        let check = |store: &Store| {
            let verified = store.verify().expect("all fits");
            assert_eq!((verified.runs, verified.events), (64, 64 * 10));
            assert_eq!(verified.settled, Money::from_micro(64 * 30));
            assert!(
                store
                    .events(run_at(0, 16))
                    .expect("it reads")
                    .iter()
                    .any(|recorded| recorded.event == settled(run_at(0, 16), 2, 10, &long))
            );
        };
        check(&store);
        drop(store);
        check(&bed.open(&clock));
    }
}

#[test]
fn the_export_has_every_event_on_a_line_of_its_own() {
    for bed in Bed::both() {
        let store = bed.open(&clock());
        let (first, second) = (run_at(0, 1), run_at(1, 1));
        block_on(async {
            finish(&store, first, "a", &[], None).await;
            submit(&store, second, vec![created("a", &[], None)]).await;
        });
        let mut out = Vec::new();
        assert_eq!(store.export_events(&mut out).expect("it writes"), 7);
        let lines: Vec<serde_json::Value> = out
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| serde_json::from_slice(line).expect("JSON"))
            .collect();
        assert_eq!(lines.len(), 7);
        assert_eq!((&lines[0]["run"], &lines[0]["seq"]), (&first.to_string().into(), &0.into()));
        assert_eq!((&lines[6]["run"], &lines[6]["event"]["kind"]), (&second.to_string().into(), &"created".into()));
        let event: Event = serde_json::from_value(lines[5]["event"].clone()).expect("an event");
        assert_eq!(event, ended());
    }
}

#[test]
fn accounts_of_stages_and_old_periods_find_their_places() {
    let earlier = AccountKey::Budget { budget: "b".into(), scope: "tenant=a".into(), start: Timestamp(1), end: None };
    for bed in Bed::both() {
        let clock = clock();
        let run = run_at(0, 1);
        let store = bed.open(&clock);
        block_on(async {
            let mut admission = admitted(run);
            if let Event::Admitted(admitted) = &mut admission {
                admitted.budgets.push(earlier.clone());
            }
            submit(&store, run, vec![created("a", &[], None), admission, reserved(run, 1, 1, 1, 70)]).await;
        });
        drop(store);
        let store = bed.open(&clock);
        let accounts = store.accounts().expect("it reads");
        let of = accounts.iter().find(|(key, _)| *key == earlier).expect("it is kept");
        assert_eq!((of.1.unknown, of.1.held), (Money::from_micro(70), Money::ZERO));
        store.verify().expect("all fits");
    }
}
