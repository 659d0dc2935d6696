//! Labels: what a run is counted and found by, and which of them its caller may give.

use super::event::{Labels, THREAD};
use super::policy::{PRIORITY, Priority};

/// The most labels that a caller gives to one run.
pub const LABELS_MAX: usize = 32;
/// The most characters of a label's value.
pub const VALUE_CHARS_MAX: usize = 256;
/// The most bytes of a label's name.
const NAME_BYTES_MAX: usize = 64;
/// Characters of a faulty label that a message repeats.
const SHOWN_CHARS_MAX: usize = 80;
/// The label of the agent.
pub const AGENT: &str = "agent";
/// Labels that the agent and the project give, and that nobody else may.
pub const DERIVED: [&str; 4] = [AGENT, "owner", "feature", "environment"];
/// The label of who a run is for; the queue of runs is fair between its values.
pub const TENANT: &str = "tenant";

/// Why labels aren't taken. Messages end in how to mend it, after a `; `.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LabelFault {
    /// There are too many.
    #[error("more than {LABELS_MAX} labels; leave some out")]
    Many,
    /// It has no name, or no value, that can be one.
    #[error(
        "`{0}` is no label; write a label as `tenant=acme`: a name of letters, digits, `_`, `-` and `.`, and a value"
    )]
    Form(String),
    /// Somebody else gives it.
    #[error("the label `{0}` can't be given; the agent's file and `plimsoll.toml` say it")]
    Derived(String),
    /// The label of the priority has another value.
    #[error("`{0}` is no priority; priorities are low, normal and high")]
    Priority(String),
    /// The label of the thread has a value that can't be one.
    #[error("`{0}` is no thread; name it by 1 to {VALUE_CHARS_MAX} characters, such as `ticket-4711`")]
    Thread(String),
}

/// Looks whether labels can be given to a new run.
///
/// # Errors
/// The first that can't.
pub fn judge(labels: &Labels) -> Result<(), LabelFault> {
    if labels.len() > LABELS_MAX {
        return Err(LabelFault::Many);
    }
    for (name, value) in labels {
        judge_form(name, value)?;
        if DERIVED.contains(&name.as_str()) {
            return Err(LabelFault::Derived(name.clone()));
        }
    }
    Ok(())
}

/// Looks whether a name and a value can be a label.
///
/// # Errors
/// They can't.
pub fn judge_form(name: &str, value: &str) -> Result<(), LabelFault> {
    let shown = |text: &str| text.escape_debug().to_string().chars().take(SHOWN_CHARS_MAX).collect::<String>();
    if !is_value(value) && name == THREAD {
        return Err(LabelFault::Thread(shown(value)));
    }
    if !is_name(name) || !is_value(value) {
        return Err(LabelFault::Form(shown(&format!("{name}={value}"))));
    }
    if name == PRIORITY && value.parse::<Priority>().is_err() {
        return Err(LabelFault::Priority(shown(value)));
    }
    Ok(())
}

fn is_name(name: &str) -> bool {
    let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
    (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(fits)
}

/// True for what can be a label's value.
#[must_use]
pub fn is_value(value: &str) -> bool {
    (1..=VALUE_CHARS_MAX).contains(&value.chars().count()) && !value.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_given_is_and_what_cannot_says_why() {
        let judged = |name: &str, value: &str| judge(&Labels::from([(name.to_owned(), value.to_owned())]));
        for (name, value) in [("tenant", "acme"), ("a.b-c_1", "ü ö"), ("thread", "t-1"), ("priority", "high")] {
            assert_eq!(judged(name, value), Ok(()), "{name}={value}");
        }
        assert!(matches!(judged("", "x"), Err(LabelFault::Form(_))));
        assert!(matches!(judged("a b", "x"), Err(LabelFault::Form(_))));
        assert!(matches!(judged("tenant", "a\u{1b}"), Err(LabelFault::Form(shown)) if !shown.contains('\u{1b}')));
        assert!(matches!(judged("owner", "me"), Err(LabelFault::Derived(_))));
        assert!(matches!(judged("priority", "now"), Err(LabelFault::Priority(_))));
        assert!(matches!(judged("thread", ""), Err(LabelFault::Thread(_))));
        let many: Labels = (0..=LABELS_MAX).map(|number| (format!("l{number}"), "x".to_owned())).collect();
        assert_eq!(judge(&many), Err(LabelFault::Many));
    }
}
