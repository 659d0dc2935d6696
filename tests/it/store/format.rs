//! Formats, foreign folders, locks, and the kept samples of released versions.

use std::path::{Path, PathBuf};

use plimsoll::domain::event::{Event, Outcome};
use plimsoll::domain::ledger::LedgerPolicy;
use plimsoll::domain::message::{Form, Opaque, StopReason};
use plimsoll::domain::outcome::Part;
use plimsoll::domain::pricing::{Factor, Factors};
use plimsoll::ids::RunId;
use plimsoll::store::engine::{Batch, Engine, Order, Span};
use plimsoll::store::format::{FORMAT_VERSION, MIGRATIONS, Migration, read_head, settle};
use plimsoll::store::{Store, StoreError};

use super::facts::*;

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .expect("it reads")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

fn open(folder: &Path) -> Result<Store, StoreError> {
    Store::open(folder, LedgerPolicy::default(), clock())
}

#[test]
fn a_foreign_folder_is_refused_and_nothing_is_written_to_it() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("thesis.tex"), "x").expect("it writes");
    let error = open(folder.path()).expect_err("it is foreign");
    assert!(matches!(&error, StoreError::Foreign { found, .. } if found == "thesis.tex"), "{error}");
    assert!(error.to_string().contains("name an empty or a new folder"), "{error}");
    assert_eq!(names(folder.path()), ["thesis.tex"]);
    let file = folder.path().join("thesis.tex");
    assert!(matches!(open(&file), Err(StoreError::Foreign { .. })), "a file is no folder");
}

#[test]
fn a_marker_of_something_else_is_foreign() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("format"), "A4").expect("it writes");
    assert!(matches!(open(folder.path()), Err(StoreError::Foreign { .. })));
    assert_eq!(names(folder.path()), ["format"]);
}

#[test]
fn a_newer_store_is_refused_and_nothing_is_written_to_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let marker = r#"{"magic":"plimsoll-store","format":99,"state":"ready"}"#;
    std::fs::write(folder.path().join("format"), marker).expect("it writes");
    let error = open(folder.path()).expect_err("it is newer").to_string();
    assert!(error.contains("has format 99") && error.contains("use a newer plimsoll"), "{error}");
    assert_eq!(names(folder.path()), ["format"]);
}

#[test]
fn a_store_that_lost_its_engine_is_damaged_and_not_made_anew() {
    let folder = tempfile::tempdir().expect("a folder");
    drop(open(folder.path()).expect("it opens"));
    std::fs::remove_dir_all(folder.path().join("sled")).expect("it goes");
    let error = open(folder.path()).expect_err("it is damaged").to_string();
    assert!(error.contains("has lost its folder `sled`"), "{error}");
    assert!(!folder.path().join("sled").exists());
}

#[test]
fn a_store_whose_making_was_broken_off_is_made() {
    let folder = tempfile::tempdir().expect("a folder");
    let marker = r#"{"magic":"plimsoll-store","format":1,"state":"new"}"#;
    std::fs::write(folder.path().join("format"), marker).expect("it writes");
    drop(open(folder.path()).expect("it is made"));
    drop(open(folder.path()).expect("it opens again"));
}

#[test]
fn the_store_keeps_its_id() {
    for bed in Bed::both() {
        let id = bed.open(&clock()).head().id;
        assert_eq!(bed.open(&clock()).head().id, id);
    }
}

#[test]
fn the_second_opener_is_told_who_holds_the_store() {
    let bed = Bed::sled();
    let store = bed.open(&clock());
    let error = bed.try_open(&clock()).expect_err("it is held");
    let message = error.to_string();
    assert!(message.contains(&format!("held by process {}", std::process::id())), "{message}");
    assert!(message.contains("since 2026-11-23T"), "{message}");
    drop(store);
    drop(bed.open(&clock()));
}

/// A made-up format 0 kept its head under the same key and values without a record's head; the step puts one there.
fn from_zero(engine: &mut dyn Engine) -> Result<(), StoreError> {
    let reader = engine.reader();
    let entries = reader.view()?.scan(&Span::prefix(&[0x66]), Order::Ascending, 100)?;
    let mut batch = Batch::default();
    for (key, value) in entries {
        batch.put(key, [b"one:", &value[..]].concat());
    }
    Ok(engine.commit(batch)?)
}

#[test]
fn an_old_format_is_migrated_step_by_step() {
    for bed in Bed::both() {
        let mut engine = bed.engine();
        let head = settle(&mut *engine, "here", RunId::from_bits(5), MIGRATIONS).expect("it is made");
        assert_eq!((head.format, head.id), (FORMAT_VERSION, RunId::from_bits(5)));
        let mut batch = Batch::default();
        let (key, record) = old_head(&*engine);
        batch.put(key, record);
        batch.put(vec![0x66, 1], b"value".to_vec());
        engine.commit(batch).expect("it commits");
        let no_way = settle(&mut *engine, "here", RunId::from_bits(6), MIGRATIONS).expect_err("no way is known");
        assert!(matches!(no_way, StoreError::TooOld { found: 0, .. }), "{no_way}");
        assert_eq!(read_head(&*engine).expect("it reads").expect("it is there").format, 0, "nothing was written");
        let migrations = [&[Migration { from: 0, apply: from_zero }], MIGRATIONS].concat();
        let head = settle(&mut *engine, "here", RunId::from_bits(6), &migrations).expect("it migrates");
        assert_eq!((head.format, head.id), (FORMAT_VERSION, RunId::from_bits(5)), "it stays the same store");
        drop(engine);
        let engine = bed.engine();
        let value = engine.reader().view().expect("a view").get(&[0x66, 1]).expect("it reads");
        assert_eq!(value, Some(b"one:value".to_vec()));
    }
}

/// The head's record with format 0, its checksum made anew.
fn old_head(engine: &dyn Engine) -> (Vec<u8>, Vec<u8>) {
    let reader = engine.reader();
    let (key, record) =
        reader.view().expect("a view").scan(&Span::prefix(&[1]), Order::Ascending, 1).expect("it reads").remove(0);
    let json = String::from_utf8(record[5..].to_vec())
        .expect("JSON")
        .replace(&format!(r#""format":{FORMAT_VERSION}"#), r#""format":0"#);
    let mut sum = crc32fast::Hasher::new();
    [&record[..1], &key[..], json.as_bytes()].iter().for_each(|part| sum.update(part));
    (key, [&record[..1], &sum.finalize().to_be_bytes()[..], json.as_bytes()].concat())
}

fn sample(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/samples").join(name)
}

/// A reply with everything that only its provider understands.
fn thoughtful(run: RunId) -> Event {
    let Event::Settled(mut settled) = settled(run, 1, 1_234, "It arri") else { unreachable!("a settlement") };
    let Outcome::Reply { message, stop, factors, .. } = &mut settled.outcome else { unreachable!("a reply") };
    let opaque =
        |call, block| Opaque { form: Form::Anthropic, model: Some("anthropic/claude-opus-5-5".into()), call, block };
    message.reasoning = vec![
        opaque(None, serde_json::json!({"type": "thinking", "thinking": "hm", "signature": "EqQB=="})),
        opaque(Some(0), serde_json::json!({"type": "redacted_thinking", "data": "Emw="})),
    ];
    message.continuation = Some(Box::new(opaque(None, serde_json::json!("token"))));
    *stop = StopReason::Paused;
    *factors = Factors::NONE.with(Factor::SpeedFast);
    Event::Settled(settled)
}

/// The runs of the sample: one that ended, one that is in flight, one that waits to start, one of format 3.
fn fill(store: &Store) {
    block_on(async {
        finish(store, run_at(0, 1), "triage", &[("tenant", "acme"), ("feature", "support")], Some("file:1")).await;
        let open = run_at(1_000, 1);
        submit(store, open, vec![created("triage", &[("tenant", "acme")], None), admitted(open)]).await;
        submit(store, open, vec![reserved(open, 1, 1, 1, 5_000)]).await;
        submit(store, run_at(2_000, 1), vec![created("search", &[], None)]).await;
        // What format 3 brought.
        let told = run_at(3_000, 1);
        submit(store, told, vec![created("triage", &[("thread", "ticket-7")], None), admitted(told)]).await;
        let facts = vec![reserved(told, 1, 1, 1, 5_000), thoughtful(told), reserved(told, 2, 2, 1, 5_000)];
        submit(store, told, facts).await;
        submit(store, told, vec![contradicting(told, 2), released(told), ended()]).await;
        // What format 4 brought.
        let again = run_at(4_000, 1);
        submit(store, again, vec![created("triage", &[("thread", "ticket-7")], None), admitted(again)]).await;
        let facts = vec![reserved(again, 1, 1, 1, 5_000), kept(again, 1), reserved(again, 2, 2, 1, 0), hit(again, 2)];
        submit(store, again, facts).await;
        submit(store, again, vec![released(again), ended()]).await;
        // What format 5 brought.
        submit(store, again, vec![worth(Some(2), Some(9_300), Some(12_500_000), &[])]).await;
        submit(store, again, vec![worth(None, None, None, &[Part::Revenue])]).await;
        // What format 6 brought.
        let failing = run_at(5_000, 1);
        submit(store, failing, vec![created("triage", &[("tenant", "acme")], None), admitted(failing)]).await;
        let facts = vec![reserved(failing, 1, 1, 1, 5_000), voided(failing, 1), reserved(failing, 2, 1, 2, 5_000)];
        submit(store, failing, facts).await;
        submit(store, failing, vec![settled(failing, 2, 1_234, "It is here"), released(failing), ended()]).await;
    });
}

fn hex(bytes: &[u8]) -> String {
    plimsoll::domain::plan::hex(bytes)
}

fn unhex(text: &str) -> Vec<u8> {
    let digit = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).expect("hexadecimal");
    (0..text.len()).step_by(2).map(digit).collect()
}

/// Writes the sample of this version, when asked to: `PLIMSOLL_WRITE_SAMPLES=1`. Otherwise checks that it still opens.
#[test]
fn the_sample_of_this_format_opens_and_exports_as_it_did() {
    let (dump, export) = (sample("store-v7.jsonl"), sample("events-v7.jsonl"));
    if std::env::var_os("PLIMSOLL_WRITE_SAMPLES").is_some() {
        write_samples(&dump, &export);
    }
    opens_and_exports(&dump, &export);
}

#[test]
fn the_samples_of_older_formats_open_and_export_as_they_did() {
    for version in [1, 2, 3, 4, 5, 6] {
        opens_and_exports(&sample(&format!("store-v{version}.jsonl")), &sample(&format!("events-v{version}.jsonl")));
    }
}

fn opens_and_exports(dump: &Path, export: &Path) {
    let lines = std::fs::read_to_string(dump).expect("the sample is kept");
    for bed in Bed::both() {
        if let Some(folder) = bed.folder() {
            // A whole store first, so that the folder has its marker.
            drop(open(&folder).expect("it opens"));
        }
        let mut batch = Batch::default();
        for line in lines.lines() {
            let entry: serde_json::Value = serde_json::from_str(line).expect("JSON");
            batch.put(unhex(entry["k"].as_str().expect("a key")), unhex(entry["v"].as_str().expect("a value")));
        }
        bed.engine().commit(batch).expect("it commits");
        let store = bed.open(&clock());
        store.verify().expect("all fits");
        let mut out = Vec::new();
        store.export_events(&mut out).expect("it writes");
        let kept = std::fs::read_to_string(export).expect("the sample is kept");
        let exported = String::from_utf8(out).expect("JSON");
        for line in kept.lines() {
            assert!(exported.contains(line), "an event changed: {line}");
        }
        assert_eq!(store.recovered().len() + kept.lines().count(), exported.lines().count());
    }
}

fn write_samples(dump: &Path, export: &Path) {
    let bed = Bed::memory();
    let store = bed.open(&clock());
    fill(&store);
    let mut out = Vec::new();
    store.export_events(&mut out).expect("it writes");
    std::fs::write(export, out).expect("it writes");
    drop(store);
    let engine = bed.engine();
    let all = Span { from: Vec::new(), to: vec![0xff] };
    let reader = engine.reader();
    let entries = reader.view().expect("a view").scan(&all, Order::Ascending, 1_000).expect("it reads");
    let lines = entries.iter().map(|(key, value)| format!("{{\"k\":\"{}\",\"v\":\"{}\"}}\n", hex(key), hex(value)));
    std::fs::write(dump, lines.collect::<String>()).expect("it writes");
}
