//! Fitting a conversation into its pots, and telling it for a landing.

use plimsoll::domain::context::{
    Attached, Document, Documents, Draft, Fitted, LANDING_ASK, LandingRoom, Sizer, Window, fit, landing, landing_bound,
};
use plimsoll::domain::event::{BoundMethod, Pot};
use plimsoll::domain::limits::{Declared, LimitKind};
use plimsoll::domain::message::{Assistant, Message, Sent, ToolAnswer, ToolCall};
use plimsoll::domain::plan::{ContextPlan, CountBy, Overflow};
use plimsoll::tokenize::message_bytes;
use plimsoll::units::Tokens;
use proptest::prelude::*;
use std::sync::LazyLock;

/// Bytes as the product counts them; tokens, where known, as a fifth of the ASCII and all the rest: text isn't uniform.
struct Uneven {
    tokens_known: bool,
}

const BYTES: Uneven = Uneven { tokens_known: false };
const TOKENS: Uneven = Uneven { tokens_known: true };

impl Sizer for Uneven {
    fn message_bytes(&self, message: &Sent) -> Tokens {
        message_bytes(message)
    }
    fn message_tokens(&self, message: &Sent) -> Option<Tokens> {
        self.tokens_known.then(|| uneven(message))
    }
    fn fixed_bytes(&self) -> Tokens {
        Tokens(90)
    }
    fn fixed_tokens(&self) -> Option<Tokens> {
        self.tokens_known.then_some(Tokens(30))
    }
}

fn uneven(message: &Message) -> Tokens {
    let text = serde_json::to_string(message).expect("JSON");
    let ascii = text.bytes().filter(u8::is_ascii).count();
    let tokens = u64::try_from(ascii.div_ceil(5) + text.len() - ascii).expect("small");
    Tokens(tokens).min(message_bytes(message))
}

/// Fails where tokens are asked for.
struct BytesOnly;

impl Sizer for BytesOnly {
    fn message_bytes(&self, message: &Sent) -> Tokens {
        message_bytes(message)
    }
    fn message_tokens(&self, _: &Sent) -> Option<Tokens> {
        unreachable!("bytes fit, so tokens are not counted")
    }
    fn fixed_bytes(&self) -> Tokens {
        Tokens(90)
    }
    fn fixed_tokens(&self) -> Option<Tokens> {
        unreachable!("bytes fit, so tokens are not counted")
    }
}

const WIDE: Window = Window { tokens: None, max_output: 800 };

fn plan(tokens: u64, history: u64, tool_output: u64) -> ContextPlan {
    ContextPlan {
        tokens: Tokens(tokens),
        history: Tokens(history),
        documents: Tokens(0),
        tool_output: Tokens(tool_output),
        overflow: Overflow::Trim,
        declared: Declared::At { file: "agents/a.toml".to_owned(), line: 24 },
        summary_model: None,
        cache: plimsoll::domain::caching::CacheMode::Off,
        cache_ttl: plimsoll::domain::message::CacheTtl::Short,
        count: CountBy::Own,
    }
}

/// One turn: some words, and for each length a call with a result of that length.
fn turn(number: usize, words: usize, results: &[usize]) -> Vec<Sent> {
    let id = |index: usize| format!("call_{number}_{index}");
    let calls = (0..results.len())
        .map(|index| ToolCall { id: id(index), name: "lookup".into(), arguments: format!("{{\"n\":{number}}}") })
        .collect();
    let spoken = Message::Assistant(Assistant { text: "w".repeat(words), calls, ..Assistant::default() });
    let answers = results.iter().enumerate().map(|(index, length)| {
        // Dense at both ends, which are what stays of it.
        let (dense, thin) = ("é".repeat(length / 8), "w".repeat(length / 2));
        let content = format!("<{number}.{index}>{dense}{thin}{dense}</{number}.{index}>");
        Message::Tool(ToolAnswer { call_id: id(index), name: "lookup".into(), content, is_error: false })
    });
    std::iter::once(spoken).chain(answers).map(Sent::from).collect()
}

static SYSTEM: LazyLock<Sent> = LazyLock::new(|| Message::System { text: "You answer tickets.".into() }.into());
static USER: LazyLock<Sent> = LazyLock::new(|| Message::User { text: "Where is order 1042?".into() }.into());

fn draft(turns: &[Sent]) -> Draft<'_> {
    Draft { system: Some(&SYSTEM), earlier: &[], user: &USER, files: &[], documents: None, summary: None, turns }
}

fn result_texts(fitted: &Fitted) -> Vec<&str> {
    fn text(message: &Sent) -> Option<&str> {
        if let Message::Tool(answer) = &**message { Some(answer.content.as_str()) } else { None }
    }
    fitted.messages.iter().filter_map(text).collect()
}

/// Every answer follows the assistant message that made its call, and every call has its answer.
fn assert_calls_and_answers_pair_up(messages: &[Sent]) {
    let mut open: Vec<&str> = Vec::new();
    for message in messages {
        match &**message {
            Message::Tool(answer) => {
                let at = open.iter().position(|id| *id == answer.call_id).expect("an answer to an open call");
                open.remove(at);
            }
            Message::Assistant(assistant) => {
                assert!(open.is_empty(), "calls without an answer: {open:?}");
                open = assistant.calls.iter().map(|call| call.id.as_str()).collect();
            }
            Message::System { .. } | Message::User { .. } | Message::File(_) => assert!(open.is_empty()),
        }
    }
    assert!(open.is_empty(), "calls without an answer: {open:?}");
}

#[test]
fn what_fits_by_bytes_goes_out_whole_and_is_not_counted() {
    let turns = turn(1, 20, &[50]);
    let fitted = fit(&draft(&turns), &plan(2_000, 500, 500), WIDE, &BytesOnly).expect("it fits");
    assert_eq!(fitted.messages.len(), 4);
    assert_eq!(&fitted.messages[2..], &turns[..]);
    assert_eq!((fitted.cuts.len(), fitted.method), (0, BoundMethod::Bytes));
    let all: u64 = fitted.messages.iter().map(|message| message_bytes(message).0).sum();
    assert_eq!(fitted.bound().tokens, Tokens(all + 90));
    let landed = LandingRoom { tokens: Tokens(4_000), declared: Declared::Default };
    assert!(landing(&draft(&turns), &landed, &BytesOnly).is_ok());
}

#[test]
fn tokens_are_counted_where_they_let_more_stay() {
    let turns = turn(1, 20, &[700]);
    let known = fit(&draft(&turns), &plan(2_000, 500, 500), WIDE, &TOKENS).expect("it fits");
    assert_eq!((known.cuts.len(), known.method), (0, BoundMethod::Tokens));
    let unknown = fit(&draft(&turns), &plan(2_000, 500, 500), WIDE, &BYTES).expect("it is cut");
    assert_eq!((unknown.cuts.len(), unknown.method), (1, BoundMethod::Bytes));
}

#[test]
fn of_tool_results_the_newest_stay_whole_and_each_call_keeps_an_answer() {
    let turns = [turn(1, 10, &[400, 400]), turn(2, 10, &[400]), turn(3, 10, &[400])].concat();
    let fitted = fit(&draft(&turns), &plan(9_000, 2_000, 900), WIDE, &BYTES).expect("it is cut");
    let texts = result_texts(&fitted);
    assert!(texts[3].ends_with("</3.0>") && !texts[3].contains("cut"), "{}", texts[3]);
    assert!(
        texts[2].starts_with("<2.0>") && texts[2].contains("bytes cut …]") && texts[2].ends_with("</2.0>"),
        "{}",
        texts[2]
    );
    assert!(texts[0].starts_with("[result cut: 4") && texts[0].ends_with(" bytes]"), "{}", texts[0]);
    assert!(fitted.cuts.iter().all(|cut| cut.what.contains("cut") && cut.what.ends_with(']')), "{:?}", fitted.cuts);
    let name = |what: &'_ str| what.split(',').next().unwrap_or_default().to_owned();
    let named: Vec<_> = fitted.cuts.iter().map(|cut| (cut.pot, name(&cut.what))).collect();
    let results = ["result of lookup (call 1)", "result of lookup (call 2)", "result of lookup (call 3)"];
    assert_eq!(named, results.map(|what| (Pot::ToolOutput, what.to_owned())));
    assert_calls_and_answers_pair_up(&fitted.messages);
}

#[test]
fn a_note_is_not_replaced_by_a_note() {
    let turns = turn(1, 10, &[90_000]);
    let fitted = fit(&draft(&turns), &plan(9_000, 2_000, 10), WIDE, &BYTES).expect("it is cut");
    assert!(result_texts(&fitted)[0].starts_with("[result cut: 90,0"), "{:?}", result_texts(&fitted));
    let again = fit(&draft(&fitted.messages[2..]), &plan(9_000, 2_000, 10), WIDE, &BYTES).expect("it is cut already");
    assert_eq!(again.messages, fitted.messages);
}

#[test]
fn old_turns_leave_with_their_answers() {
    let turns = [turn(1, 300, &[30, 30]), turn(2, 300, &[30]), turn(3, 300, &[30]), turn(4, 300, &[])].concat();
    let fitted = fit(&draft(&turns), &plan(9_000, 800, 2_000), WIDE, &BYTES).expect("it is cut");
    assert_eq!(fitted.messages[2..], turns[5..]);
    assert_eq!(fitted.cuts.len(), 1);
    assert_eq!((fitted.cuts[0].pot, fitted.cuts[0].what.as_str()), (Pot::History, "turns 1 to 2, with 3 tool results"));
}

#[test]
fn the_last_turn_stays_even_where_it_is_larger_than_its_pot() {
    let turns = [turn(1, 50, &[]), turn(2, 900, &[40])].concat();
    let fitted = fit(&draft(&turns), &plan(2_000, 300, 300), WIDE, &BYTES).expect("it fits the request");
    assert_eq!(fitted.messages[2..], turns[1..]);
}

#[test]
fn what_cannot_be_cut_is_refused_with_where_the_limit_was_declared() {
    let turns = turn(1, 10, &[10]);
    let long = Message::User { text: "x".repeat(3_000) }.into();
    let refusal =
        fit(&Draft { user: &long, ..draft(&turns) }, &plan(2_000, 500, 500), WIDE, &BYTES).expect_err("too long");
    assert_eq!(refusal.limit, LimitKind::Context);
    assert!(
        refusal.to_string().starts_with("limit `context` is 2,000 tokens (agents/a.toml:24): instructions and"),
        "{refusal}"
    );
    let strict = ContextPlan { overflow: Overflow::Refuse, ..plan(2_000, 500, 500) };
    let turns = turn(1, 10, &[900]);
    assert_eq!(fit(&draft(&turns), &strict, WIDE, &BYTES).expect_err("refused").limit, LimitKind::Context);
    let narrow = Window { tokens: Some(Tokens(1_000)), max_output: 900 };
    let refusal = fit(&draft(&turns), &plan(9_000, 900, 900), narrow, &BYTES).expect_err("the window is too small");
    assert!(refusal.to_string().contains("the model's window"), "{refusal}");
    assert_eq!(refusal.value, "100 tokens");
}

fn room(tokens: u64) -> LandingRoom {
    LandingRoom { tokens: Tokens(tokens), declared: Declared::Default }
}

fn last_text(fitted: &Fitted) -> &str {
    match fitted.messages.last() {
        Some(message) if matches!(**message, Message::User { .. }) => message.text(),
        other => unreachable!("a user message comes last, not {other:?}"),
    }
}

#[test]
fn a_landing_tells_the_newest_and_asks_for_an_answer() {
    let turns = [turn(1, 10, &[600]), turn(2, 10, &[300]), turn(3, 10, &[20])].concat();
    let whole = landing(&draft(&turns), &room(4_000), &BYTES).expect("it fits");
    assert_eq!(whole.messages.len(), 2);
    assert!(whole.cuts.is_empty() && last_text(&whole).contains("</1.0>") && last_text(&whole).ends_with(LANDING_ASK));
    assert!(last_text(&whole).contains("You called lookup with {\"n\":2}, which gave: <2.0>"));
    let short = landing(&draft(&turns), &room(1_200), &BYTES).expect("it is cut");
    let text = last_text(&short);
    assert!(text.starts_with("Where is order 1042?") && text.contains("</3.0>") && text.contains("</2.0>"), "{text}");
    assert!(!short.cuts.is_empty() && short.bound().tokens <= Tokens(1_200));
    let refusal = landing(&draft(&turns), &room(300), &BYTES).expect_err("not even the input fits");
    assert_eq!(refusal.limit, LimitKind::LandingTokens);
    assert_eq!(landing_bound(&draft(&turns), &room(300), BoundMethod::Bytes, &BYTES), None);
}

fn conversation() -> impl Strategy<Value = Vec<Sent>> {
    let one = (0usize..600, proptest::collection::vec(0usize..1_500, 0..4));
    proptest::collection::vec(one, 0..6).prop_map(|turns| {
        turns.iter().enumerate().flat_map(|(number, (words, results))| turn(number, *words, results)).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn what_is_fitted_fits_pairs_up_and_stays(
        turns in conversation(), total in 400u64..6_000, history in 100u64..2_000, tool_output in 50u64..3_000, known in any::<bool>(),
    ) {
        let (plan, sizer) = (plan(total, history, tool_output), Uneven { tokens_known: known });
        if let Ok(fitted) = fit(&draft(&turns), &plan, WIDE, &sizer) {
            let size = |message: &Sent| match fitted.method {
                BoundMethod::Bytes => sizer.message_bytes(message),
                BoundMethod::Tokens => sizer.message_tokens(message).expect("known"),
            };
            let fixed = if fitted.method == BoundMethod::Bytes { 90 } else { 30 };
            let measured: Tokens = fitted.messages.iter().map(size).sum();
            prop_assert_eq!(fitted.bound().tokens, measured.plus(Tokens(fixed)));
            prop_assert!(fitted.bound().tokens <= plan.tokens);
            let kept_turns = fitted.messages.iter().filter(|message| matches!(***message, Message::Assistant(_))).count();
            prop_assert!(fitted.pots.history <= plan.history || kept_turns == 1);
            let spoken = fitted.messages.iter().rposition(|message| matches!(**message, Message::Assistant(_)));
            let answered = fitted.messages.iter().position(|message| matches!(**message, Message::Tool(_)));
            let only_last_notes = answered > spoken && result_texts(&fitted).iter().all(|text| text.len() < 60);
            prop_assert!(fitted.pots.tool_output <= plan.tool_output || only_last_notes);
            assert_calls_and_answers_pair_up(&fitted.messages);
            let last = turns.iter().rposition(|message| matches!(**message, Message::Assistant(_)));
            prop_assert!(last.is_none_or(|at| fitted.messages.contains(&turns[at])));
            let again = fit(&draft(&fitted.messages[2..]), &plan, WIDE, &sizer).expect("it fits already");
            prop_assert_eq!(&again.messages, &fitted.messages);
            prop_assert_eq!(fit(&draft(&turns), &plan, WIDE, &sizer).expect("as before"), fitted);
        } else {
            // Only a last turn can be too long here: 600 words, 3 calls with a note each, and the instructions.
            prop_assert!(total < 1_200, "{total} is enough for any last turn");
        }
    }

    #[test]
    fn a_landing_fits_its_room_and_its_bound(turns in conversation(), tokens in 150u64..5_000, known in any::<bool>()) {
        let sizer = Uneven { tokens_known: known };
        let bound = landing_bound(&draft(&turns), &room(tokens), BoundMethod::Bytes, &sizer);
        match landing(&draft(&turns), &room(tokens), &sizer) {
            Ok(fitted) => {
                let bound = bound.expect("a landing that is made has a bound");
                prop_assert!(fitted.bound().tokens <= bound && bound <= Tokens(tokens));
                prop_assert!(last_text(&fitted).ends_with(LANDING_ASK));
                let tight = landing_bound(&draft(&turns), &room(tokens), BoundMethod::Tokens, &sizer).expect("a bound too");
                prop_assert!(tight <= bound);
                let within = landing(&draft(&turns), &room(tight.0), &sizer).expect("it fits its tight bound");
                prop_assert!(within.bound().tokens <= tight);
            }
            Err(_) => prop_assert_eq!(bound, None),
        }
    }
}

fn documents(lengths: &[usize]) -> Vec<Document> {
    let text = |index: usize, length: usize| {
        let words = if index.is_multiple_of(3) { "order 1042 is on its way\n\n" } else { "shipping takes a while\n\n" };
        words.repeat(length)
    };
    let one =
        |(index, length): (usize, &usize)| Document { name: format!("docs/{index}.md"), text: text(index, *length) };
    lengths.iter().enumerate().map(one).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn documents_keep_to_their_pot_best_first_and_in_order(
        lengths in proptest::collection::vec(0usize..200, 0..8), pot in 0u64..6_000, smaller in 0u64..3_000, known in any::<bool>(),
    ) {
        let sizer = Uneven { tokens_known: known };
        let found = documents(&lengths);
        let Some(chosen) = Documents::chosen(&found, &USER, Tokens(pot), &sizer) else {
            prop_assert!(found.iter().all(|document| document.text.is_empty()));
            return Ok(());
        };
        let last = chosen.pieces.iter().map(|piece| piece.rank).max().unwrap_or_default();
        prop_assert_eq!(usize::try_from(last).expect("few"), chosen.pieces.len(), "the best are taken, no other");
        let places: Vec<_> = chosen.pieces.iter().map(|piece| (piece.name.clone(), piece.number)).collect();
        prop_assert!(places.is_sorted());
        let message = chosen.before(&USER);
        let context = ContextPlan { documents: Tokens(pot), ..plan(12_000, 300, 300) };
        let turns = turn(1, 20, &[]);
        let asked = Draft { documents: Some(Attached { documents: &chosen, message: &message }), ..draft(&turns) };
        let whole = fit(&asked, &context, WIDE, &sizer).expect("it fits");
        prop_assert!(whole.pots.documents <= Tokens(pot));
        prop_assert!(whole.messages.contains(&message) || chosen.pieces.is_empty());
        let left_out = whole.cuts.iter().any(|cut| cut.pot == Pot::Documents);
        prop_assert_eq!(left_out, chosen.left_out.pieces > 0);
        let tight = ContextPlan { documents: Tokens(smaller.min(pot)), ..context };
        let fewer = fit(&asked, &tight, WIDE, &sizer).expect("it fits");
        prop_assert!(fewer.pots.documents <= tight.documents && fewer.bound().tokens <= tight.tokens);
        let bound = landing_bound(&asked, &room(2_000), BoundMethod::Bytes, &sizer).expect("a bound");
        let landed = landing(&asked, &room(2_000), &sizer).expect("a landing");
        prop_assert!(landed.bound().tokens <= bound && bound <= Tokens(2_000));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn a_thread_leaves_oldest_first_and_before_the_turns(
        lengths in proptest::collection::vec((1usize..200, 1usize..400), 0..8), own in 0usize..300, history in 50u64..1_500, known in any::<bool>(),
    ) {
        let sizer = Uneven { tokens_known: known };
        let exchange = |(asked, said): &(usize, usize)| {
            let answer = Message::Assistant(Assistant { text: "a".repeat(*said), ..Assistant::default() });
            [Sent::from(Message::User { text: "u".repeat(*asked) }), answer.into()]
        };
        let earlier: Vec<Sent> = lengths.iter().flat_map(exchange).collect();
        let turns = turn(1, own, &[]);
        let context = plan(6_000, history, 500);
        let fitted = fit(&Draft { earlier: &earlier, ..draft(&turns) }, &context, WIDE, &sizer).expect("it fits");
        let kept = fitted.messages.len() - 2 - turns.len();
        prop_assert_eq!(kept % 2, 0, "whole exchanges");
        prop_assert_eq!(&fitted.messages[1..=kept], &earlier[earlier.len() - kept..]);
        prop_assert!(fitted.pots.history <= context.history || kept == 0);
        prop_assert_eq!(fitted.cuts.is_empty(), kept == earlier.len());
        prop_assert!(fitted.messages.ends_with(&turns));
        let bound = landing_bound(&Draft { earlier: &earlier, ..draft(&turns) }, &room(2_000), BoundMethod::Bytes, &sizer);
        let landed = landing(&Draft { earlier: &earlier, ..draft(&turns) }, &room(2_000), &sizer).expect("a landing");
        prop_assert!(landed.bound().tokens <= bound.expect("a bound"));
    }
}
