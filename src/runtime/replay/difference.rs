//! The first decision that is another now.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::domain::event::{Event, Recorded};
use crate::ids::RunId;
use crate::units::Timestamp;

/// The most characters of a value that are shown.
const VALUE_CHARS_MAX: usize = 300;

/// See [`super::replay`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// The run.
    pub run: RunId,
    /// The event's number in the run's log, from 0; `None` where it is the whole log.
    pub event: Option<u32>,
    /// When it was written, in milliseconds of Unix time.
    pub at_ms: Option<u64>,
    /// What the log says.
    pub log: String,
    /// What is decided now.
    pub now: String,
    /// True where it is no proof: several runs wrote to the tree, and its log doesn't say in which order.
    pub untold: bool,
}

impl Difference {
    pub(super) fn of_log(run: RunId, why: &str) -> Box<Self> {
        Box::new(Self {
            run,
            event: None,
            at_ms: None,
            log: why.to_owned(),
            now: "nothing can be decided from it".into(),
            untold: false,
        })
    }

    pub(super) fn of_event(run: RunId, recorded: &Recorded, now: String) -> Box<Self> {
        Box::new(Self { log: told(&recorded.event), now, ..Self::at(run, recorded.seq, recorded.at) })
    }

    /// An event that is decided otherwise: the first field that differs.
    pub(super) fn of_field(run: RunId, recorded: &Recorded, now: &Event) -> Box<Self> {
        let (was, is) = (json(&recorded.event), json(now));
        let Some((path, was, is)) = differs(String::new(), &was, &is) else {
            return Self::of_event(run, recorded, "the same, and it doesn't fit what the accounts hold".into());
        };
        let kind = kind(&recorded.event);
        let log = format!("{kind} with `{path}` = {}", short(&was));
        Box::new(Self { log, now: format!("`{path}` = {}", short(&is)), ..Self::at(run, recorded.seq, recorded.at) })
    }

    fn at(run: RunId, seq: u32, at: Timestamp) -> Self {
        Self { run, event: Some(seq), at_ms: Some(at.0), log: String::new(), now: String::new(), untold: false }
    }
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.untold {
            f.write_str("can't be told: ")?;
        }
        match self.event {
            Some(event) => write!(f, "event {event} of run {}: the log says {}; now: {}", self.run, self.log, self.now),
            None => write!(f, "run {}: {}; {}", self.run, self.log, self.now),
        }
    }
}

pub(super) fn kind(event: &Event) -> String {
    json(event).get("kind").and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn json(event: &Event) -> Value {
    serde_json::to_value(event).unwrap_or_default()
}

fn told(event: &Event) -> String {
    let mut value = json(event);
    if let Some(fields) = value.as_object_mut() {
        fields.shift_remove("kind");
    }
    format!("{} {}", kind(event), short(&value))
}

fn short(value: &Value) -> String {
    let text = value.to_string();
    let mut short: String = text.chars().take(VALUE_CHARS_MAX).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

/// The first place in which two values differ, with both.
fn differs(path: String, was: &Value, is: &Value) -> Option<(String, Value, Value)> {
    if was == is {
        return None;
    }
    let (Value::Object(old), Value::Object(new)) = (was, is) else { return Some((path, was.clone(), is.clone())) };
    let names = old.keys().chain(new.keys().filter(|name| !old.contains_key(*name)));
    names
        .filter_map(|name| {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            let of = |fields: &serde_json::Map<String, Value>| fields.get(name).cloned().unwrap_or_default();
            differs(path, &of(old), &of(new))
        })
        .next()
}
