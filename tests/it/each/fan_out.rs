//! Many lines at once on one budget (issue 2: fan-out).

use plimsoll::domain::event::{Call, CostSource, Event};
use plimsoll::units::Money;

use super::yard::{Told, Yard, reservations, settled, settlements};
use crate::fan_out::{A_CENT, BYTES, Shape, TOKENS, long, recipe, short, usd};
use crate::kill::books::Books;
use crate::kill::process::End;

/// Lines of the run with faults, unless `PLIMSOLL_LINES` says otherwise.
const LINES: u64 = 60;

/// The most lines of them at once.
const PARALLEL_MAX: u64 = 256;

/// A command of so many lines at once; the ledger is the invoice, and each line has its document.
fn sail(yard: &Yard, lines: u64) -> (Told, Books) {
    let told = yard.each(lines.min(PARALLEL_MAX), &[]);
    told.covers(lines);
    let books = yard.books();
    books.agree();
    let all: Money = books.logs.values().flat_map(|log| settlements(log)).map(|(_, settled)| settled.bill).sum();
    assert_eq!(told.settled(), all, "the documents say what the ledger says");
    (told, books)
}

fn no_unknowns(books: &Books) -> bool {
    books.logs.values().flat_map(|log| settlements(log)).all(|(_, settled)| settled.source != CostSource::Unknown)
}

/// What was settled when the last line was turned away, one that never got to call anybody.
fn used_at_the_last_refusal(books: &Books) -> Option<Money> {
    let turned_away = books.logs.values().filter(|log| reservations(log).next().is_none());
    let last = turned_away.filter_map(|log| Some(log.last()?.at)).max()?;
    let bills = books.logs.values().flat_map(|log| settlements(log)).filter(|(at, _)| *at <= last);
    Some(bills.map(|(_, settled)| settled.bill).sum())
}

#[test]
fn two_hundred_and_fifty_six_lines_use_up_a_dollar_and_no_more() {
    for (shape, pace) in [(long(TOKENS, None), "latency = '5ms'"), (short(BYTES, Some(512)), "chunk_latency = '1ms'")] {
        let yard = Yard::new(&recipe(shape, "$1.00", A_CENT, pace)).lines(256);
        let (told, books) = sail(&yard, 256);
        assert_eq!(told.end, End::Exit(3), "the budget turned lines away: {:?}", told.talk.last());
        let models = books.logs.values().flat_map(|log| reservations(log));
        let bound =
            models.filter(|reserved| matches!(reserved.call, Call::Model(_))).map(|reserved| reserved.amount).max();
        assert!(bound <= Some(usd("0.025")), "{bound:?}");
        assert!(no_unknowns(&books) && books.invoice.total <= usd("1.00"), "{}", books.invoice.total);
        assert_eq!(told.settled(), books.invoice.total);
        let used = used_at_the_last_refusal(&books).expect("a line was turned away");
        assert!(used >= usd("0.95"), "only {used} were used when the last line was turned away");
    }
}

/// 50 lines share ten cents, which pay for ten of them.
fn ten_cents(shape: Shape, pace: &str, least: usize) {
    let yard = Yard::new(&recipe(shape, "$0.10", A_CENT, pace)).lines(50);
    let (told, books) = sail(&yard, 50);
    assert!(no_unknowns(&books) && books.invoice.total <= usd("0.10"), "{}", books.invoice.total);
    assert_eq!(told.settled(), books.invoice.total);
    let whole: Vec<Money> =
        told.in_state("finished").filter(|document| document["model_calls"] == 4).map(settled).collect();
    assert!(whole.len() >= least, "{} of {least} finished whole: {:?}", whole.len(), told.talk.last());
    let about = |cost: &Money| (usd("0.0093")..=usd("0.0103")).contains(cost);
    assert!(whole.iter().all(about), "a run of four calls costs about $0.0098: {whole:?}");
}

#[test]
fn ten_cents_finish_nine_lines_of_ten_with_a_small_output_cap() {
    ten_cents(long(TOKENS, Some(256)), "latency = '5ms'", 9);
    ten_cents(short(BYTES, Some(256)), "latency = '1ms'\nfirst_token_latency = '10ms'", 9);
}

#[test]
fn ten_cents_finish_seven_lines_of_ten_without_one() {
    ten_cents(long(TOKENS, None), "latency = '5ms'", 7);
    ten_cents(short(BYTES, None), "latency = '1ms'\nfirst_token_latency = '10ms'", 7);
}

#[test]
fn replies_over_what_was_asked_are_booked_in_full_and_freeze_the_price() {
    let overrun = "[[rule]]\nwhen = { turn = 2 }\nfault = 'overrun'";
    let recipe = recipe(short(TOKENS, Some(256)), "$0.10", A_CENT, "latency = '5ms'").rule(overrun);
    let yard = Yard::new(&recipe).lines(50);
    let (told, books) = sail(&yard, 50);
    assert_eq!(told.end, End::Exit(3), "{:?}", told.talk.last());
    let mut over = Money::ZERO;
    for log in books.logs.values() {
        for (_, settled) in settlements(log) {
            let held = reservations(log).find(|reserved| reserved.reservation == settled.reservation);
            over = over.plus(settled.bill.left_after(held.expect("it was reserved").amount));
        }
    }
    assert!(no_unknowns(&books) && books.invoice.total == told.settled(), "booked in full");
    assert!(over > Money::ZERO && books.invoice.total <= usd("0.10").plus(over), "{over}");
    assert_eq!(books.store.frozen().expect("frozen prices").len(), 1);
    drop(books);
    // Other lines are refused by name, until a person has looked at it.
    let later = yard.each(4, &["--label", "batch=later"]);
    assert!(
        later.documents.iter().all(|told| told["limit"] == "frozen_price" && told["attempts"] == 0),
        "{:?}",
        later.talk
    );
    later.covers(50);
    let looked = ["prices", "unfreeze", TOKENS, "--reason", "looked at it", "--by", "the test"];
    assert_eq!(yard.run(&looked).end, End::Exit(0));
    let last = yard.each(4, &["--label", "batch=last"]);
    assert!(last.documents.iter().any(|told| told["limit"] != "frozen_price"), "{:?}", last.talk);
    yard.books().agree();
}

#[test]
fn a_rough_provider_leaves_the_ledger_at_the_invoice_or_above_it_by_what_is_unknown() {
    let lines = std::env::var("PLIMSOLL_LINES").map_or(LINES, |text| text.parse().expect("a number"));
    // A budget for about two lines of three.
    let cents = lines * 2 / 3;
    let cap = format!("${}.{:02}", cents / 100, cents % 100);
    // Some are answered too late at first: the client hangs up, and has paid.
    let late = "[[rule]]\nwhen = { contains = 'slowly', attempt = 1 }\nfirst_token_latency = '20s'\nloop_tool = '*'\n";
    let faults = "rate_429 = '20%'\nrate_529 = '10%'\ncut_stream = '5%'\nretry_after = '20ms'";
    let recipe = recipe(short(TOKENS, Some(256)), &cap, A_CENT, "latency = '2ms'\nchunk_latency = '1ms'")
        .faults("seed = 7", faults)
        .amend("agents/a.toml", "[limits]\n", "[limits]\nmodel_call_time = '1s'\n")
        .rule(late);
    let yard = Yard::new(&recipe).lines(lines);
    let (told, books) = sail(&yard, lines);
    assert!(told.end != End::Exit(2) && books.invoice.total <= usd(&cap[1..]), "{:?}", told.talk);
    let struck = |fault: &str| books.invoice.lines.iter().filter(|line| line.fault.as_deref() == Some(fault)).count();
    // Of the 30% and 5% that the scenario strikes, what so few calls surely show.
    let busy = u64::try_from(struck("rate_limit") + struck("overloaded")).expect("few");
    assert!(busy * 100 >= books.invoice.count * 15, "{busy} of {}", books.invoice.count);
    assert!(struck("cut_stream") > 0, "no stream was cut");
    let hung_up =
        books.logs.values().flatten().filter(
            |recorded| matches!(&recorded.event, Event::Settled(settled) if settled.source == CostSource::Unknown),
        );
    let unknown = hung_up.count();
    assert!(
        unknown > struck("cut_stream"),
        "clients hung up too: {unknown} of {}, {} cut",
        books.invoice.count,
        struck("cut_stream")
    );
}
