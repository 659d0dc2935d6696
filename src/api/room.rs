//! Room for those who listen to streams: so many in all, and of those a share for each key.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::error::ApiError;

/// Streams at once.
const STREAMS_MAX: usize = 256;
/// Those of one key: whoever opens as many as they can leaves room for others.
const STREAMS_OF_KEY_MAX: usize = 64;

/// Cheap to clone; clones are the same.
#[derive(Clone, Debug)]
pub(super) struct Room {
    all: Arc<Semaphore>,
    /// By the key's id; only of keys that have some open.
    keys: Arc<Mutex<BTreeMap<String, Arc<Semaphore>>>>,
}

/// A place in it, until it is dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    _all: OwnedSemaphorePermit,
    _own: Option<OwnedSemaphorePermit>,
}

impl Default for Room {
    fn default() -> Self {
        Self { all: Arc::new(Semaphore::new(STREAMS_MAX)), keys: Arc::default() }
    }
}

impl Room {
    /// A place for whoever asks, by the id of their key where they have one.
    ///
    /// # Errors
    /// There is none, or their key has its share.
    pub(super) fn seat(&self, key: Option<&str>) -> Result<Seat, ApiError> {
        let own = key.map(|id| self.own(id)).transpose()?;
        let all = Arc::clone(&self.all).try_acquire_owned().map_err(|_| ApiError::Streams(STREAMS_MAX))?;
        Ok(Seat { _all: all, _own: own })
    }

    fn own(&self, id: &str) -> Result<OwnedSemaphorePermit, ApiError> {
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        keys.retain(|_, own| own.available_permits() < STREAMS_OF_KEY_MAX);
        let own = keys.entry(id.to_owned()).or_insert_with(|| Arc::new(Semaphore::new(STREAMS_OF_KEY_MAX)));
        Arc::clone(own).try_acquire_owned().map_err(|_| ApiError::Streams(STREAMS_OF_KEY_MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_key_leaves_room_for_others() {
        let (room, one, other) = (Room::default(), Some("one"), Some("other"));
        let mut seats: Vec<Seat> = (0..STREAMS_OF_KEY_MAX).map(|_| room.seat(one).expect("room")).collect();
        assert!(matches!(room.seat(one), Err(ApiError::Streams(STREAMS_OF_KEY_MAX))));
        seats.extend((0..STREAMS_OF_KEY_MAX).map(|_| room.seat(other).expect("room")));
        seats.drain(..1);
        seats.push(room.seat(one).expect("one is free again"));
        seats.extend((2 * STREAMS_OF_KEY_MAX..STREAMS_MAX).map(|_| room.seat(None).expect("room")));
        assert!(matches!(room.seat(None), Err(ApiError::Streams(STREAMS_MAX))));
        drop(seats);
        room.seat(one).expect("all are free again");
        assert_eq!(room.keys.lock().expect("whole").len(), 1, "nobody is kept who listens to nothing");
    }
}
