//! What does it cost to fold logs again, and to judge them again?
//!
//! Input: the log of one run of four model calls with a builtin tool between them, made once from a loaded agent and written
//! as the store keeps it (JSON, a line for each fact); over and over, until it comes to 1,000,000 events (other counts with
//! `PLIMSOLL_EVENTS=100000`). Unit: time for all of them, on one thread, and for each. Rows: folded into a run's state, as every resume
//! and trace does; and judged, as `plimsoll replay` does, each decision, request and bill. Floor: the same lines read and
//! decoded, and nothing done with them.

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use plimsoll::clock::Clock;
use plimsoll::domain::event::{Labels, Recorded};
use plimsoll::domain::ledger::LedgerPolicy;
use plimsoll::domain::message::{Assistant, Reply, Request, StopReason, ToolCall};
use plimsoll::domain::plan::ToolPlan;
use plimsoll::domain::pricing::{Factors, PriceBook, Usage};
use plimsoll::domain::rate::ToldRates;
use plimsoll::domain::report;
use plimsoll::gate::{Appraiser, Permit, Providers};
use plimsoll::provider::{Answer, AnswerResult, CancelSignal, Listener};
use plimsoll::runtime::replay::{TreeLog, replay};
use plimsoll::runtime::{Answering, Answers, NewRun, Runtime, RuntimeOptions, silent};
use plimsoll::store::Store;
use plimsoll::store::memory::MemoryDisk;
use plimsoll::tool::ToolOutcome;
use plimsoll::units::{Millis, Tokens};
use serde_json::Value;

use crate::measure::{is_whole, micros_since, now, say, spread};
use crate::project::{self, AGENT, QUESTION, USUAL};

/// Events of one round.
const EVENTS: usize = 1_000_000;
/// The same where the bench only shows that it works.
const EVENTS_SMALL: usize = 1_000;
/// Model calls of the run.
const CALLS: usize = 4;
/// Rounds.
const ROUNDS: usize = 5;

pub(crate) fn bench() {
    let asked = std::env::var("PLIMSOLL_EVENTS").ok().and_then(|events| events.parse().ok());
    let events: usize = asked.unwrap_or(if is_whole() { EVENTS } else { EVENTS_SMALL });
    let folder = tempfile::tempdir().expect("a folder");
    let log = recorded(folder.path());
    let lines: Vec<Vec<u8>> = log.logs[&log.root].iter().map(|one| serde_json::to_vec(one).expect("JSON")).collect();
    let bytes: usize = lines.iter().map(Vec::len).sum();
    let runs = events.div_ceil(lines.len());
    say(&format!("{} events of a run, {bytes} bytes; {runs} runs", lines.len()));
    let desk = Appraiser::new(Arc::new(PriceBook::builtin().clone()), Providers::Any(Arc::default()));
    let (mut decoded, mut folded, mut judged) = (vec![], vec![], vec![]);
    for _ in 0..if is_whole() { ROUNDS } else { 1 } {
        decoded.push(timed(runs, || drop(black_box(decode(&lines)))));
        folded.push(timed(runs, || {
            let run = report::replay(log.root, log.plan.clone(), &decode(&lines)).expect("a run");
            assert!(black_box(run).ended.is_some());
        }));
        judged.push(timed(runs, || {
            let tree = TreeLog { logs: [(log.root, decode(&lines))].into(), ..log.clone() };
            assert!(replay(&tree, &desk).is_ok());
        }));
    }
    say("| | µs | ns/event |");
    say("|---|---:|---:|");
    let made = u64::try_from(runs * lines.len()).expect("a number of events");
    for (what, times) in [("decoded: the floor", decoded), ("folded", folded), ("judged", judged)] {
        let each = times.iter().map(|micros| micros * 1_000 / made).collect();
        say(&format!("| {what} | {} | {} |", spread(times), spread(each)));
    }
}

fn decode(lines: &[Vec<u8>]) -> Vec<Recorded> {
    lines.iter().map(|line| serde_json::from_slice(line).expect("an event")).collect()
}

fn timed(runs: usize, mut run: impl FnMut()) -> u64 {
    let began = now();
    (0..runs).for_each(|_| run());
    micros_since(began)
}

/// The log of a run that was really made, over a store in memory.
fn recorded(folder: &Path) -> TreeLog {
    let (project, plan) = project::load(folder, false, USUAL);
    let clock = Clock::system();
    let store = Store::open_memory(&MemoryDisk::default(), LedgerPolicy::default(), clock.clone()).expect("it opens");
    let options = RuntimeOptions { clock, simulated: None, prices: vec![], load_lines: [].into() };
    let answers = Arc::new(Scripted(AtomicUsize::new(0)));
    let runtime = Runtime::answered_by(answers, store, &project, [(plan.agent.clone(), plan)].into(), options);
    let new = NewRun {
        agent: AGENT.into(),
        input: QUESTION.into(),
        labels: Labels::new(),
        key: None,
        files: vec![],
        bound: vec![],
    };
    let tokio = tokio::runtime::Runtime::new().expect("a runtime");
    let (run, _) = tokio.block_on(runtime.run(&new, silent())).expect("it runs");
    TreeLog::read(runtime.store(), run).expect("its log")
}

/// Asks for the tool in each turn, and answers in the last.
struct Scripted(AtomicUsize);

impl Answers for Scripted {
    fn model(&self, permit: Permit, _: Request, _: Option<Listener>, _: CancelSignal) -> Answering<'_, Answer> {
        let turn = self.0.fetch_add(1, Ordering::SeqCst) + 1;
        let call = ToolCall {
            id: format!("call_{turn}"),
            name: "calculate".into(),
            arguments: format!(r#"{{"expression":"{turn} * 19.90"}}"#),
        };
        let (text, calls, stop) = match turn {
            CALLS => ("It comes to 53.19 with VAT.", vec![], StopReason::End),
            _ => ("I look at the next sum.", vec![call], StopReason::ToolCalls),
        };
        let reply = Reply {
            message: Assistant { text: text.into(), calls, ..Assistant::default() },
            stop,
            usage: Some(Usage { input: Tokens(150), output: Tokens(30), ..Usage::default() }),
            mismatch: None,
            charged: None,
            raw_usage: None,
            response_model: None,
            service_tier: None,
            factors: Factors::NONE,
            request_id: None,
            response_id: None,
        };
        let result = AnswerResult::Replied(Box::new(reply));
        let answer = Answer {
            reservation: permit.spend(),
            latency: Millis(5),
            first_token: None,
            rates: ToldRates::default(),
            result,
        };
        Box::pin(std::future::ready(answer))
    }

    fn tool(&self, permit: Permit, _: ToolPlan, _: Value, _: CancelSignal) -> Answering<'_, ToolOutcome> {
        let (content, reservation) = ("39.80".to_owned(), permit.spend());
        let outcome = ToolOutcome {
            reservation,
            content,
            is_error: false,
            cut_bytes: 0,
            latency: Millis::ZERO,
            never_began: false,
        };
        Box::pin(std::future::ready(outcome))
    }
}
