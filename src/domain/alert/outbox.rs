//! One alert on its way to whoever hears it: due, tried again, delivered or given up.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Alert;
use crate::units::{Millis, Timestamp};

/// How long after each failed try the next one is made. What a receiver asks for may make a wait longer.
const WAITS: [Millis; 9] = [
    Millis::from_secs(5),
    Millis::from_secs(30),
    Millis::from_secs(2 * 60),
    Millis::from_secs(10 * 60),
    Millis::from_secs(30 * 60),
    Millis::from_secs(3_600),
    Millis::from_secs(3 * 3_600),
    Millis::from_secs(6 * 3_600),
    Millis::from_secs(12 * 3_600),
];
/// Tries of one alert, over nearly a day, before it is given up.
pub const TRIES_MAX: u32 = 10;
/// The longest wait that a receiver may ask for.
const ASKED_WAIT_MAX: Millis = Millis::from_secs(3_600);
/// The most characters of an error that are kept.
const ERROR_CHARS_MAX: usize = 300;

/// How an alert stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AlertState {
    /// To be delivered.
    Due,
    /// Delivered.
    Delivered,
    /// Given up: nobody was told.
    Dead,
}

impl AlertState {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Due => "due",
            Self::Delivered => "delivered",
            Self::Dead => "dead",
        }
    }
}

/// An alert for one of those who hear it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlertEntry {
    /// Its number in the store.
    pub number: u64,
    /// Who hears it: the name of `[[alerts]]`.
    pub to: String,
    /// When it came about.
    pub at: Timestamp,
    /// What happened.
    pub alert: Alert,
    /// How it stands.
    pub state: AlertState,
    /// Tries so far.
    pub tries: u32,
    /// When it is tried next, or was tried last where nothing follows.
    pub next: Timestamp,
    /// Why the last try failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// What a try came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tried {
    /// The receiver has it.
    Delivered,
    /// It may be tried again.
    Failed {
        /// Why.
        why: String,
        /// How long the receiver asks to be left alone.
        wait: Option<Millis>,
    },
    /// No try can help.
    Refused {
        /// Why.
        why: String,
    },
}

impl AlertEntry {
    /// A new one.
    #[must_use]
    pub const fn new(number: u64, to: String, at: Timestamp, alert: Alert) -> Self {
        Self { number, to, at, alert, state: AlertState::Due, tries: 0, next: at, error: None }
    }

    /// Books a try.
    pub fn book(&mut self, tried: Tried, now: Timestamp) {
        self.tries = self.tries.saturating_add(1);
        self.next = now;
        match tried {
            Tried::Delivered => (self.state, self.error) = (AlertState::Delivered, None),
            Tried::Refused { why } => self.give_up(&why),
            Tried::Failed { why, .. } if self.tries >= TRIES_MAX => self.give_up(&why),
            Tried::Failed { why, wait } => {
                let place = usize::try_from(self.tries.saturating_sub(1)).unwrap_or(usize::MAX);
                let usual = WAITS.get(place).or(WAITS.last()).copied().unwrap_or(ASKED_WAIT_MAX);
                self.next = now.after(usual.max(wait.unwrap_or_default().min(ASKED_WAIT_MAX)));
                self.error = Some(shortened(&why));
            }
        }
    }

    /// Gives it up, without a further try.
    pub fn give_up(&mut self, why: &str) {
        (self.state, self.error) = (AlertState::Dead, Some(shortened(why)));
    }

    /// Has it tried anew, as often as a new one, whatever became of it.
    pub fn begin_again(&mut self, now: Timestamp) {
        (self.state, self.tries, self.next) = (AlertState::Due, 0, now);
    }
}

fn shortened(why: &str) -> String {
    why.chars().map(|c| if c.is_control() { ' ' } else { c }).take(ERROR_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(wait: Option<Millis>) -> Tried {
        Tried::Failed { why: "it answered\n500".to_owned(), wait }
    }

    fn entry() -> AlertEntry {
        AlertEntry::new(3, "finance".to_owned(), Timestamp(1_000), Alert::Test { at: Timestamp(1_000) })
    }

    #[test]
    fn an_alert_is_tried_ten_times_with_longer_and_longer_waits_and_then_given_up() {
        let (mut entry, mut now, mut waits) = (entry(), Timestamp(1_000), Vec::new());
        while entry.state == AlertState::Due {
            now = entry.next;
            entry.book(failed(None), now);
            waits.push(entry.next.since(now));
        }
        assert_eq!((entry.state, entry.tries), (AlertState::Dead, TRIES_MAX));
        assert_eq!(waits.pop(), Some(Millis::ZERO), "nothing follows the last");
        assert!(waits.is_sorted() && waits.first() == Some(&Millis::from_secs(5)), "{waits:?}");
        assert_eq!(entry.error.as_deref(), Some("it answered 500"));
        entry.begin_again(now);
        assert_eq!((entry.state, entry.tries, entry.next), (AlertState::Due, 0, now));
    }

    #[test]
    fn a_receiver_may_ask_for_a_longer_wait_and_not_for_ever() {
        let wait = |asked| {
            let mut entry = entry();
            entry.book(failed(asked), Timestamp(0));
            entry.next
        };
        assert_eq!(wait(Some(Millis::from_secs(60))), Timestamp(60_000));
        assert_eq!(wait(Some(Millis::from_secs(1))), Timestamp(5_000), "no sooner than usual");
        assert_eq!(wait(Some(Millis(u64::MAX))), Timestamp(ASKED_WAIT_MAX.0));
    }

    #[test]
    fn what_no_try_can_help_is_given_up_at_once() {
        let mut entry = entry();
        entry.book(Tried::Refused { why: "gone".to_owned() }, Timestamp(9));
        assert_eq!((entry.state, entry.tries, entry.next), (AlertState::Dead, 1, Timestamp(9)));
        let text = serde_json::to_string(&entry).expect("it writes");
        assert_eq!(serde_json::from_str::<AlertEntry>(&text).expect("it reads"), entry);
    }
}
