//! The one way to read time: the system's clock, or one that stands still until it is moved.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use sha2::{Digest as _, Sha256};

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
    Tokio(Arc<Steered>),
}

/// A clock that follows tokio's, and gives ids by a seed.
#[derive(Debug)]
struct Steered {
    start: Timestamp,
    since: tokio::time::Instant,
    seed: u64,
    ids: AtomicU64,
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

    /// A clock that stands at `start` now and goes as tokio's does, so it jumps where that is paused; its ids follow from
    /// the seed. For simulations that can be told again.
    #[must_use]
    pub fn paused(start: Timestamp, seed: u64) -> Self {
        let since = tokio::time::Instant::now();
        Self(Kind::Tokio(Arc::new(Steered { start, since, seed, ids: AtomicU64::new(0) })))
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
            Kind::Tokio(steered) => {
                let passed = u64::try_from(steered.since.elapsed().as_millis()).unwrap_or(u64::MAX);
                steered.start.after(Millis(passed))
            }
        }
    }

    /// Moves a virtual clock; another doesn't move by this.
    pub fn advance(&self, by: Millis) {
        if let Kind::Virtual(now) = &self.0 {
            now.fetch_add(by.0, Ordering::SeqCst);
        }
    }

    /// Draws a new run id: 48 bits of time, 80 random bits.
    #[must_use]
    pub fn run_id(&self) -> RunId {
        let random = match &self.0 {
            Kind::System { .. } | Kind::Virtual(_) => ulid::Ulid::generate().0,
            Kind::Tokio(steered) => steered.draw(),
        };
        RunId::from_bits((u128::from(self.now().0) << 80) | (random & ((1 << 80) - 1)))
    }
}

impl Steered {
    /// The next number: the first 128 bits of SHA-256 over the seed and how many came before.
    fn draw(&self) -> u128 {
        let mut hasher = Sha256::new();
        hasher.update(self.seed.to_be_bytes());
        hasher.update(self.ids.fetch_add(1, Ordering::SeqCst).to_be_bytes());
        let digest = hasher.finalize();
        digest.iter().take(16).fold(0, |bits, byte| (bits << 8) | u128::from(*byte))
    }
}
