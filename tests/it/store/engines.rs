//! The conformance suite of engines: every case runs against each.

use std::collections::BTreeMap;

use plimsoll::store::engine::{Batch, Engine, Order, Span};

use super::facts::{Bed, Dice};

fn put(engine: &mut dyn Engine, entries: &[(&[u8], &[u8])]) {
    let mut batch = Batch::default();
    entries.iter().for_each(|(key, value)| batch.put(key.to_vec(), value.to_vec()));
    engine.commit(batch).expect("it commits");
}

fn get(engine: &dyn Engine, key: &[u8]) -> Option<Vec<u8>> {
    engine.reader().view().expect("a view").get(key).expect("it reads")
}

fn keys(engine: &dyn Engine, span: &Span, order: Order, limit: usize) -> Vec<Vec<u8>> {
    let reader = engine.reader();
    let entries = reader.view().expect("a view").scan(span, order, limit).expect("it reads");
    entries.into_iter().map(|(key, _)| key).collect()
}

#[test]
fn what_is_committed_is_there_after_opening_again() {
    for bed in Bed::both() {
        let mut engine = bed.engine();
        assert_eq!(get(&*engine, b"a"), None);
        put(&mut *engine, &[(b"a", b"1"), (b"b", b"2"), (b"c", b"")]);
        let mut batch = Batch::default();
        batch.put(b"a".to_vec(), b"3".to_vec());
        batch.delete(b"b".to_vec());
        batch.delete(b"never".to_vec());
        batch.put(b"d".to_vec(), b"4".to_vec());
        batch.delete(b"d".to_vec());
        engine.commit(batch).expect("it commits");
        drop(engine);
        let engine = bed.engine();
        assert_eq!(get(&*engine, b"a"), Some(b"3".to_vec()));
        assert_eq!(get(&*engine, b"b"), None);
        assert_eq!(get(&*engine, b"c"), Some(Vec::new()));
        assert_eq!(get(&*engine, b"d"), None, "the later change stands");
    }
}

#[test]
fn scans_keep_to_their_span_order_and_limit() {
    for bed in Bed::both() {
        let mut engine = bed.engine();
        put(&mut *engine, &[(&[1], b""), (&[2, 0], b""), (&[2, 1], b""), (&[2, 0xff], b""), (&[3], b"")]);
        let two = Span::prefix(&[2]);
        assert_eq!(keys(&*engine, &two, Order::Ascending, 10), [vec![2, 0], vec![2, 1], vec![2, 0xff]]);
        assert_eq!(keys(&*engine, &two, Order::Descending, 2), [vec![2, 0xff], vec![2, 1]]);
        assert_eq!(keys(&*engine, &two.clone().after(&[2, 0], Order::Ascending), Order::Ascending, 1), [vec![2, 1]]);
        assert_eq!(keys(&*engine, &two.clone().after(&[2, 1], Order::Descending), Order::Descending, 9), [vec![2, 0]]);
        assert!(keys(&*engine, &two.after(&[2, 0], Order::Descending), Order::Descending, 9).is_empty());
        assert!(keys(&*engine, &Span { from: vec![3], to: vec![1] }, Order::Ascending, 9).is_empty());
    }
}

/// The lengths are around the borders of sled's parts; 300,000 bytes would be a file of its own.
#[test]
fn values_of_any_length_come_back_whole() {
    let lengths = [0, 1, 3_999, 4_000, 4_001, 7_999, 8_000, 8_001, 65_536, 131_052, 300_000];
    for bed in Bed::both() {
        let mut engine = bed.engine();
        for round in 0..3u8 {
            for (number, length) in lengths.iter().enumerate() {
                // In each round every key has a value of another length.
                let length = (length * usize::from(round + 1)) % 300_001;
                let key = [1, u8::try_from(number).expect("few")];
                let value = vec![round; length];
                put(&mut *engine, &[(&key, &value)]);
                assert_eq!(get(&*engine, &key), Some(value), "length {length}");
            }
        }
        drop(engine);
        let mut engine = bed.engine();
        assert_eq!(keys(&*engine, &Span::prefix(&[1]), Order::Ascending, 100).len(), lengths.len());
        let everything = Span { from: Vec::new(), to: vec![0xff, 0xff] };
        assert_eq!(keys(&*engine, &everything, Order::Ascending, 1_000).len(), lengths.len(), "parts never show");
        assert_eq!(keys(&*engine, &everything, Order::Descending, 1_000).len(), lengths.len(), "parts never show");
        let mut batch = Batch::default();
        (0..lengths.len()).for_each(|number| batch.delete(vec![1, u8::try_from(number).expect("few")]));
        engine.commit(batch).expect("it commits");
        assert!(keys(&*engine, &everything, Order::Ascending, 9).is_empty());
        no_blobs(&bed);
    }
}

/// sled doesn't sync the files under `blobs/`: what is in one can be lost after it was acknowledged.
#[test]
fn full_leaves_of_long_values_make_no_file_that_sled_does_not_sync() {
    let bed = Bed::sled();
    let mut engine = bed.engine();
    let mut dice = Dice(7);
    for _ in 0..40 {
        let mut batch = Batch::default();
        for _ in 0..20 {
            let key = [1, u8::try_from(dice.roll(80)).expect("small")];
            let length = if dice.roll(4) == 0 { 30_000 } else { 3_999 };
            batch.put(key.to_vec(), vec![9; length]);
        }
        for _ in 0..10 {
            batch.delete(vec![1, u8::try_from(dice.roll(80)).expect("small")]);
        }
        engine.commit(batch).expect("it commits");
    }
    no_blobs(&bed);
}

fn no_blobs(bed: &Bed) {
    if let Some(folder) = bed.folder() {
        let blobs = std::fs::read_dir(folder.join("sled").join("blobs")).expect("sled has such a folder");
        assert_eq!(blobs.count(), 0, "a value or a leaf grew too long");
    }
}

#[test]
fn random_batches_leave_what_a_plain_map_would_hold() {
    for bed in Bed::both() {
        let mut dice = Dice(42);
        let mut model: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
        for _ in 0..6 {
            let mut engine = bed.engine();
            for _ in 0..30 {
                let mut batch = Batch::default();
                for _ in 0..dice.roll(12) {
                    let key = vec![1, u8::try_from(dice.roll(60)).expect("small")];
                    if dice.roll(3) == 0 {
                        model.remove(&key);
                        batch.delete(key);
                    } else {
                        let length = if dice.roll(10) == 0 { 9_000 } else { dice.roll(50) };
                        let value =
                            vec![u8::try_from(dice.roll(256)).expect("small"); usize::try_from(length).expect("small")];
                        model.insert(key.clone(), value.clone());
                        batch.put(key, value);
                    }
                }
                engine.commit(batch).expect("it commits");
            }
            let reader = engine.reader();
            let all =
                reader.view().expect("a view").scan(&Span::prefix(&[1]), Order::Ascending, 1_000).expect("it reads");
            assert_eq!(all, model.clone().into_iter().collect::<Vec<_>>());
        }
    }
}

/// Two keys are always written together: a reader that finds them different saw half a batch.
#[test]
fn readers_of_other_threads_see_batches_whole() {
    for bed in Bed::both() {
        let mut engine = bed.engine();
        put(&mut *engine, &[(&[1, 0], &[0]), (&[2, 0], &[0])]);
        let reader = engine.reader();
        let done = std::sync::atomic::AtomicBool::new(false);
        let begin = std::sync::Barrier::new(2);
        std::thread::scope(|scope| {
            let watch = scope.spawn(|| {
                let mut looks = 0;
                begin.wait();
                while looks == 0 || !done.load(std::sync::atomic::Ordering::SeqCst) {
                    let view = reader.view().expect("a view");
                    let first = view.get(&[1, 0]).expect("it reads");
                    assert_eq!(first, view.get(&[2, 0]).expect("it reads"));
                    looks += 1;
                }
                looks
            });
            begin.wait();
            for number in 1..=100u8 {
                put(&mut *engine, &[(&[1, 0], &[number]), (&[2, 0], &[number])]);
            }
            done.store(true, std::sync::atomic::Ordering::SeqCst);
            assert!(watch.join().expect("it saw no half") > 0);
        });
    }
}

#[test]
fn a_snapshot_left_half_written_does_not_stop_the_next_open() {
    let bed = Bed::sled();
    put(&mut *bed.engine(), &[(b"a", b"1")]);
    let folder = bed.folder().expect("a folder").join("sled");
    let left = folder.join("snap.000000000000ffff.generating");
    std::fs::write(&left, b"half").expect("it writes");
    assert_eq!(get(&*bed.engine(), b"a"), Some(b"1".to_vec()));
    assert!(!left.exists());
}
