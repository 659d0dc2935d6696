//! The one way to read time: the system's clock, or one that stands still until it is moved.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::ids::RunId;
use crate::units::{Millis, Timestamp};

/// Reads time. Cheap to clone; clones share a virtual clock.
#[derive(Clone, Debug)]
pub struct Clock(Kind);

#[derive(Clone, Debug)]
enum Kind {
    /// The system's time at the start, carried on by the monotonic clock: a step of the system's clock doesn't reach a running process.
    System {
        start: std::time::SystemTime,
        since: std::time::Instant,
    },
    Virtual(Arc<AtomicU64>),
}

impl Clock {
    /// The system's clock.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is the place where time enters")]
    pub fn system() -> Self {
        Self(Kind::System { start: std::time::SystemTime::now(), since: std::time::Instant::now() })
    }

    /// A clock that stands at `start` until [`Clock::advance`] moves it.
    #[must_use]
    pub fn virtual_at(start: Timestamp) -> Self {
        Self(Kind::Virtual(Arc::new(AtomicU64::new(start.0))))
    }

    /// The time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            Kind::System { start, since } => {
                let at = start.duration_since(std::time::UNIX_EPOCH).unwrap_or_default() + since.elapsed();
                Timestamp(u64::try_from(at.as_millis()).unwrap_or(u64::MAX))
            }
            Kind::Virtual(now) => Timestamp(now.load(Ordering::SeqCst)),
        }
    }

    /// Moves a virtual clock; the system's clock doesn't move.
    pub fn advance(&self, by: Millis) {
        if let Kind::Virtual(now) = &self.0 {
            now.fetch_add(by.0, Ordering::SeqCst);
        }
    }

    /// Draws a new run id: 48 bits of time, 80 random bits.
    #[must_use]
    pub fn run_id(&self) -> RunId {
        let random = ulid::Ulid::generate().0 & ((1 << 80) - 1);
        RunId::from_bits((u128::from(self.now().0) << 80) | random)
    }
}
