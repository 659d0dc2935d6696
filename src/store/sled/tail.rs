//! A look at sled's log before sled opens it, since sled takes damage for the log's end and overwrites what lies behind.
//!
//! sled 0.34.7 (`pagecache/iterator.rs`, `snapshot.rs`) orders segments by the numbers in their headers, trusts all below
//! the highest number that a header calls stable, and walks the messages of the *tail*, the segments from there on. Where
//! the walk stops it fills the rest of that segment, and every later one, with zeros. Where the tail's first segment can't
//! be told, the walk stops before it began, and the whole log since the last snapshot goes.
//!
//! So: where the headers alone show the latter, the store is refused before sled sees it; else the tail, a few segments,
//! is kept in memory over the open, and written aside if sled then turns out to have lost something.

use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// sled's segment.
const SEGMENT_BYTES: u64 = 512 * 1024;
/// Its header: checksum, its own number, the number that was stable when it was begun.
const HEADER_BYTES: usize = 20;
/// Segments that are kept over an open. A sound tail has two or three.
const TAIL_SEGMENTS_MAX: usize = 16;
/// The folder, beside sled's files, in which they are kept after damage.
const KEPT_FOLDER: &str = "behind-the-damage";

/// What sled may overwrite while it opens, as it is before.
#[derive(Debug, Default)]
pub(super) struct Tail {
    segments: Vec<(u64, Vec<u8>)>,
}

/// What can be told before sled opens its files.
#[derive(Debug)]
pub(super) enum Look {
    /// sled finds the tail.
    Found(Tail),
    /// sled would not find it, and overwrite the log.
    Lost(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Header {
    Whole { lsn: i64, stable: i64 },
    Broken,
    Blank,
}

impl Tail {
    /// Reads headers and tail. A folder without a log has none.
    pub(super) fn look(folder: &Path) -> std::io::Result<Look> {
        let mut file = match File::open(folder.join("db")) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Look::Found(Self::default())),
            other => other?,
        };
        let first = snapshot_number(folder)?;
        let headers = headers(&mut file)?;
        match tail_of(&headers, first - first % segment_number_step()) {
            Err(why) => Ok(Look::Lost(why)),
            Ok(places) => {
                let segments: std::io::Result<Vec<_>> = places
                    .into_iter()
                    .map(|place| Ok((place, read_at(&mut file, place, super::SEGMENT_BYTES)?)))
                    .collect();
                Ok(Look::Found(Self { segments: segments? }))
            }
        }
    }

    /// Writes the tail aside, a file for each segment, named by its place in sled's log; where one was kept before, that one
    /// stays. Gives the folder.
    pub(super) fn keep(&self, folder: &Path) -> std::io::Result<PathBuf> {
        let kept = folder.join(KEPT_FOLDER);
        match std::fs::create_dir(&kept) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(kept),
            other => other?,
        }
        for (place, bytes) in &self.segments {
            std::fs::write(kept.join(format!("db-{place:012}")), bytes)?;
        }
        Ok(kept)
    }
}

/// The places of the segments from which sled's walk begins; or why it finds none.
fn tail_of(headers: &[(u64, Header)], first: i64) -> Result<Vec<u64>, String> {
    let whole = |(place, header): &(u64, Header)| match header {
        Header::Whole { lsn, stable } if *lsn >= first => Some((*lsn, *stable, *place)),
        Header::Whole { .. } | Header::Broken | Header::Blank => None,
    };
    let broken: Vec<u64> =
        headers.iter().filter(|(_, header)| *header == Header::Broken).map(|(place, _)| *place).collect();
    let mut live: Vec<(i64, i64, u64)> = headers.iter().filter_map(whole).collect();
    live.sort_unstable();
    let stable = live.iter().map(|(_, stable, _)| *stable).max();
    let Some(stable) = stable.map(|stable| stable.max(first)) else {
        let lost = |place: &u64| Err(format!("the header of its log's segment at byte {place} can't be read"));
        // Behind a snapshot there may be no segment yet.
        return if first == 0 { broken.first().map_or_else(|| Ok(Vec::new()), lost) } else { Ok(broken) };
    };
    let begin = stable - stable % segment_number_step();
    if !live.iter().any(|(lsn, _, _)| *lsn == begin) {
        return Err(format!("the segment {begin} of its log, in which the last writes begin, is missing or damaged"));
    }
    let tail = live.iter().rev().filter(|(lsn, _, _)| *lsn >= begin).map(|(_, _, place)| *place);
    Ok(tail.chain(broken).take(TAIL_SEGMENTS_MAX).collect())
}

/// Segments are numbered by the bytes before them in the log.
const fn segment_number_step() -> i64 {
    SEGMENT_BYTES.cast_signed()
}

fn headers(file: &mut File) -> std::io::Result<Vec<(u64, Header)>> {
    let length = file.metadata()?.len();
    let mut headers = Vec::new();
    let mut place = 0;
    while place < length {
        headers.push((place, header(&read_at(file, place, HEADER_BYTES)?)));
        place += SEGMENT_BYTES;
    }
    Ok(headers)
}

fn header(bytes: &[u8]) -> Header {
    let flipped = |at: usize| {
        let number = bytes.get(at..at + 8).and_then(|bytes| bytes.first_chunk::<8>());
        number.map(|number| i64::from_le_bytes(*number) ^ i64::MAX)
    };
    let sum = bytes.first_chunk::<4>().map(|sum| u32::from_le_bytes(*sum) ^ u32::MAX);
    match (sum, flipped(4), flipped(12)) {
        (Some(sum), Some(lsn), Some(stable)) if sum == crc32fast::hash(&bytes[4..HEADER_BYTES]) => {
            Header::Whole { lsn, stable }
        }
        (_, _, _) if bytes.iter().all(|byte| *byte == 0) => Header::Blank,
        (_, _, _) => Header::Broken,
    }
}

/// Up to so many bytes.
fn read_at(file: &mut File, place: u64, length: usize) -> std::io::Result<Vec<u8>> {
    let length = u64::try_from(length).map_err(std::io::Error::other)?;
    file.seek(SeekFrom::Start(place))?;
    let mut bytes = Vec::new();
    file.take(length).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The number up to which sled's latest snapshot goes; it is in the file's name.
fn snapshot_number(folder: &Path) -> std::io::Result<i64> {
    let mut latest = 0;
    for entry in std::fs::read_dir(folder)? {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix("snap."));
        latest = latest.max(number.and_then(|number| i64::from_str_radix(number, 16).ok()).unwrap_or(0));
    }
    Ok(latest)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: i64 = segment_number_step();

    fn whole(segment: i64, stable: i64) -> Header {
        Header::Whole { lsn: segment * STEP, stable }
    }

    #[test]
    fn both_lengths_of_a_segment_are_one() {
        assert_eq!(usize::try_from(SEGMENT_BYTES), Ok(crate::store::sled::SEGMENT_BYTES));
    }

    #[test]
    fn a_header_reads_as_sled_writes_it() {
        let mut bytes = vec![0; 4];
        bytes.extend((STEP ^ i64::MAX).to_le_bytes());
        bytes.extend((700_i64 ^ i64::MAX).to_le_bytes());
        let sum = crc32fast::hash(&bytes[4..]) ^ u32::MAX;
        bytes[..4].copy_from_slice(&sum.to_le_bytes());
        assert_eq!(header(&bytes), Header::Whole { lsn: STEP, stable: 700 });
        bytes[9] ^= 1;
        assert_eq!(header(&bytes), Header::Broken);
        assert_eq!(header(&bytes[..12]), Header::Broken);
        assert_eq!(header(&[0; 20]), Header::Blank);
    }

    #[test]
    fn the_tail_begins_with_the_segment_that_holds_the_stable_number() {
        let place = |segment: u64| segment * SEGMENT_BYTES;
        let sound = [(place(0), whole(0, -1)), (place(1), whole(2, STEP + 9)), (place(2), whole(1, 7))];
        assert_eq!(tail_of(&sound, 0), Ok(vec![place(1), place(2)]));
        assert_eq!(tail_of(&sound, 2 * STEP), Ok(vec![place(1)]), "behind a snapshot nothing older is read");
        let lost = [sound[0], sound[1], (place(2), Header::Broken)];
        assert!(tail_of(&lost, 0).expect_err("its first segment is gone").contains("segment 524288"));
        let newest = [sound[0], (place(1), Header::Broken), sound[2]];
        assert_eq!(tail_of(&newest, 0), Ok(vec![place(2), place(0), place(1)]));
        assert!(tail_of(&[(0, Header::Broken)], 0).is_err());
        assert_eq!(tail_of(&[(0, Header::Blank)], 0), Ok(vec![]));
        assert_eq!(tail_of(&[], 0), Ok(vec![]));
    }
}
