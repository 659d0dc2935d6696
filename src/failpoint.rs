//! Named points at which a test lets the process die: at every boundary between what is on disk and what is done.
//!
//! `PLIMSOLL_FAILPOINT="NAME:N"` aborts the process, as `kill -9` would, when it comes to the point for the N-th time.
//! The variable is read once. Without debug assertions, so in every release, nothing of this is compiled.
//! Deliberately absent: anything but dying. A point never delays, fails or changes what happens.

/// The variable that arms one point.
pub const VARIABLE: &str = "PLIMSOLL_FAILPOINT";

/// Every point that there is, with what has happened when it is reached.
pub const POINTS: &[(&str, &str)] = &[
    ("store.recovering", "a start has decided what a process left open, and nothing of it is written"),
    ("store.commit", "a group is decided, and nothing of it is written"),
    ("store.pack", "a run has ended, and its events are being packed into one record"),
    ("store.flushed", "sled has written a group; its file isn't synced"),
    ("store.committed", "a group is on disk; nobody was told"),
    ("run.admission", "a run is about to ask to start"),
    ("run.resume", "a run was read from its log to be driven on"),
    ("run.settled", "a settlement is on disk, and its run was told"),
    ("child.began", "a sub-agent's run has begun; nothing of it is written"),
    ("stage.ended", "a stage is over; nothing of it is written"),
    ("run.park", "a run waits for people alone; nothing of it is written"),
    ("run.parked", "a run waits for people, on disk; whoever drove it hasn't left"),
    ("answer.given", "a person's answer is taken; nothing of it is written"),
    ("answer.written", "a person's answer is on disk; nobody was told"),
    ("run.end", "a run is about to write its end"),
    ("run.stop", "a run was asked to stop; what was in flight is drained, and nothing of it is written"),
    ("provider.send", "an attempt is reserved on disk; its request hasn't left"),
    ("provider.sent", "the request is being handed to its connection"),
    ("provider.answered", "the answer's head is here; the provider has billed"),
    ("provider.stream", "a piece of a stream was read"),
    ("provider.replied", "the whole answer is here; nothing of it is written"),
    ("alert.brought", "an alert was delivered, or not; nothing of it is written"),
    ("tool.call", "a tool call is reserved on disk; it hasn't begun"),
    ("tool.called", "a tool has taken effect; its result isn't written"),
];

/// Dies here if this point is armed and its time has come.
#[cfg(debug_assertions)]
pub fn reach(point: &'static str) {
    debug_assert!(POINTS.iter().any(|(name, _)| *name == point), "`{point}` isn't listed");
    armed::reach(point);
}

/// Does nothing.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub fn reach(_point: &'static str) {}

#[cfg(debug_assertions)]
mod armed {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU32, Ordering};

    struct Armed {
        point: String,
        left: AtomicU32,
    }

    static ARMED: OnceLock<Option<Armed>> = OnceLock::new();

    pub(super) fn reach(point: &str) {
        let armed = ARMED.get_or_init(|| std::env::var(super::VARIABLE).ok().as_deref().and_then(read));
        if let Some(armed) = armed.as_ref().filter(|armed| armed.point == point)
            && armed.left.fetch_sub(1, Ordering::SeqCst) == 1
        {
            std::process::abort();
        }
    }

    /// `NAME:N`; another form arms nothing.
    fn read(text: &str) -> Option<Armed> {
        let (point, times) = text.rsplit_once(':')?;
        let times = times.parse().ok().filter(|times| *times > 0)?;
        Some(Armed { point: point.to_owned(), left: AtomicU32::new(times) })
    }

    #[cfg(test)]
    mod tests {
        use super::read;

        #[test]
        fn only_a_name_and_a_number_above_zero_arm_a_point() {
            let armed = read("store.commit:3").expect("it is armed");
            assert_eq!((armed.point.as_str(), armed.left.into_inner()), ("store.commit", 3));
            for wrong in ["", "store.commit", "store.commit:", "store.commit:0", "store.commit:x"] {
                assert!(read(wrong).is_none(), "{wrong}");
            }
        }
    }
}
