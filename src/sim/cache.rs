//! Keeps what is dear to compile: a schema or pattern comes again with every request of an agent.
//!
//! Only results of pure functions are kept, so that it changes how fast an answer comes, and never which.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// The most entries; a full cache starts over.
const ENTRIES_MAX: usize = 256;
/// The longest key that is kept.
const KEY_BYTES_MAX: usize = 16 * 1024;

/// Compiled things by their source; `None` is kept too.
#[derive(Debug)]
pub(crate) struct Cache<T>(Mutex<BTreeMap<String, Option<T>>>);

impl<T: Clone> Cache<T> {
    pub(crate) const fn new() -> Self {
        Self(Mutex::new(BTreeMap::new()))
    }

    /// What `make` makes of `source`, now or earlier.
    pub(crate) fn of(&self, source: &str, make: impl FnOnce() -> Option<T>) -> Option<T> {
        if let Some(known) = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(source) {
            return known.clone();
        }
        let made = make();
        if source.len() <= KEY_BYTES_MAX {
            let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if entries.len() >= ENTRIES_MAX {
                entries.clear();
            }
            entries.insert(source.to_owned(), made.clone());
        }
        made
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cache_makes_each_thing_once_and_stays_small() {
        let cache = Cache::new();
        assert_eq!(cache.of("a", || Some(1)), Some(1));
        assert_eq!(cache.of("a", || Some(2)), Some(1));
        assert_eq!(cache.of("none", || None), None);
        assert_eq!(cache.of("none", || Some(3)), None);
        for number in 0..3 * ENTRIES_MAX {
            cache.of(&format!("{number}"), || Some(number));
        }
        assert!(cache.0.lock().expect("the lock").len() <= ENTRIES_MAX);
    }
}
