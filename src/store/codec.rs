//! How a record looks: version, checksum over key and content, content. A damaged one is named, never believed.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::store::error::StoreError;
use crate::store::keys;

/// The version of the records' form.
pub(crate) const RECORD_VERSION: u8 = 1;
/// Version and checksum.
const HEAD_BYTES: usize = 5;

/// A record of content that `write` appends.
fn seal(key: &[u8], bytes: usize, write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    // One more for the engine's own mark.
    let mut record = Vec::with_capacity(HEAD_BYTES + bytes + 1);
    record.extend_from_slice(&[RECORD_VERSION, 0, 0, 0, 0]);
    write(&mut record);
    let sum = checksum(key, &record[HEAD_BYTES..]);
    record[1..HEAD_BYTES].copy_from_slice(&sum);
    record
}

/// The checksum covers the key, so that a record under another's key is found out.
fn checksum(key: &[u8], content: &[u8]) -> [u8; 4] {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&[RECORD_VERSION]);
    hasher.update(key);
    hasher.update(content);
    hasher.finalize().to_be_bytes()
}

/// A record of bytes as they are.
pub(crate) fn seal_bytes(key: &[u8], content: &[u8]) -> Vec<u8> {
    seal(key, content.len(), |record| record.extend_from_slice(content))
}

/// A record in JSON.
pub(crate) fn seal_json<T: Serialize>(key: &[u8], value: &T) -> Result<Vec<u8>, StoreError> {
    let content = serde_json::to_vec(value).map_err(|error| StoreError::unwritable(key, &error))?;
    Ok(seal_bytes(key, &content))
}

/// A record in postcard.
pub(crate) fn seal_compact<T: Serialize>(key: &[u8], value: &T) -> Result<Vec<u8>, StoreError> {
    Ok(seal_bytes(key, &compact(key, value)?))
}

/// Content in postcard.
pub(crate) fn compact<T: Serialize + ?Sized>(key: &[u8], value: &T) -> Result<Vec<u8>, StoreError> {
    postcard::to_stdvec(value).map_err(|error| StoreError::unwritable(key, &error))
}

/// A record of parts in postcard, one behind the other.
pub(crate) fn seal_parts(key: &[u8], parts: &[Vec<u8>]) -> Vec<u8> {
    seal(key, parts.iter().map(Vec::len).sum(), |record| parts.iter().for_each(|part| record.extend_from_slice(part)))
}

/// The content of a record, once its version and checksum are right.
pub(crate) fn open<'a>(key: &[u8], record: &'a [u8]) -> Result<&'a [u8], StoreError> {
    let damaged = |why: String| StoreError::Record { what: keys::describe(key), why };
    let (head, content) =
        record.split_at_checked(HEAD_BYTES).ok_or_else(|| damaged("it is shorter than its head".to_owned()))?;
    if head[0] != RECORD_VERSION {
        return Err(damaged(format!("its version is {}, and version {RECORD_VERSION} is known", head[0])));
    }
    if head[1..] != checksum(key, content) {
        return Err(damaged("its checksum doesn't fit".to_owned()));
    }
    Ok(content)
}

/// What a record in JSON holds.
pub(crate) fn open_json<T: DeserializeOwned>(key: &[u8], record: &[u8]) -> Result<T, StoreError> {
    read_json(key, open(key, record)?)
}

/// What content in JSON holds.
pub(crate) fn read_json<T: DeserializeOwned>(key: &[u8], content: &[u8]) -> Result<T, StoreError> {
    serde_json::from_slice(content)
        .map_err(|error| StoreError::Record { what: keys::describe(key), why: error.to_string() })
}

/// What a record in postcard holds.
pub(crate) fn open_compact<T: DeserializeOwned>(key: &[u8], record: &[u8]) -> Result<T, StoreError> {
    end_compact(key, open(key, record)?)
}

/// What a record in postcard begins with, and what is behind that.
pub(crate) fn begin_compact<'a, T: DeserializeOwned>(
    key: &[u8],
    record: &'a [u8],
) -> Result<(T, &'a [u8]), StoreError> {
    middle_compact(key, open(key, record)?)
}

/// What the rest of a record in postcard goes on with, and what is behind that.
pub(crate) fn middle_compact<'a, T: DeserializeOwned>(key: &[u8], rest: &'a [u8]) -> Result<(T, &'a [u8]), StoreError> {
    postcard::take_from_bytes(rest).map_err(|error| unreadable(key, &error))
}

/// What the rest of a record in postcard holds.
pub(crate) fn end_compact<T: DeserializeOwned>(key: &[u8], rest: &[u8]) -> Result<T, StoreError> {
    postcard::from_bytes(rest).map_err(|error| unreadable(key, &error))
}

fn unreadable(key: &[u8], error: &postcard::Error) -> StoreError {
    StoreError::Record { what: keys::describe(key), why: error.to_string() }
}

/// Several byte strings in one record, each as it was.
pub(crate) fn seal_pack<'a>(
    key: &[u8],
    contents: impl Iterator<Item = &'a [u8]> + Clone,
) -> Result<Vec<u8>, StoreError> {
    let bytes = contents.clone().map(|content| content.len() + 4).sum();
    let mut packed = Vec::with_capacity(bytes);
    for content in contents {
        let length = u32::try_from(content.len()).map_err(|error| StoreError::unwritable(key, &error))?;
        packed.extend_from_slice(&length.to_be_bytes());
        packed.extend_from_slice(content);
    }
    Ok(seal_bytes(key, &packed))
}

/// The byte strings of a packed record.
pub(crate) fn open_pack<'a>(key: &[u8], record: &'a [u8]) -> Result<Vec<&'a [u8]>, StoreError> {
    let short = || StoreError::Record { what: keys::describe(key), why: "it ends in the middle".to_owned() };
    let mut rest = open(key, record)?;
    let mut contents = Vec::new();
    while !rest.is_empty() {
        let (length, after) = rest.split_first_chunk::<4>().ok_or_else(short)?;
        let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_| short())?;
        let (content, after) = after.split_at_checked(length).ok_or_else(short)?;
        contents.push(content);
        rest = after;
    }
    Ok(contents)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_reads_back_and_every_flipped_bit_is_found() {
        let key = keys::plan(&"ab".into());
        let record = seal_bytes(&key, b"content");
        assert_eq!(open(&key, &record).expect("it is whole"), b"content");
        for bit in 0..record.len() * 8 {
            let mut bent = record.clone();
            bent[bit / 8] ^= 1 << (bit % 8);
            assert!(open(&key, &bent).is_err(), "bit {bit}");
        }
        assert!(open(&keys::plan(&"cd".into()), &record).is_err(), "another's key");
        assert!(open(&key, &[]).is_err());
    }

    #[test]
    fn a_pack_reads_back_and_a_cut_one_is_an_error() {
        let key = keys::plan(&"ab".into());
        let contents: [&[u8]; 3] = [b"one", b"", b"three"];
        let record = seal_pack(&key, contents.iter().copied()).expect("it fits");
        assert_eq!(open_pack(&key, &record).expect("it is whole"), contents);
        let cut = seal_bytes(&key, &open(&key, &record).expect("whole")[..5]);
        assert!(open_pack(&key, &cut).is_err());
    }
}
