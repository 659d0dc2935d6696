//! `--thread-from FIELD`: each line names its thread, whose lines run one after another; other lines run beside them.

use std::collections::{BTreeSet, VecDeque};

use serde_json::Value;

use crate::cli::errors::{CliError, Problem, code};
use crate::cli::render::text::one_line;
use crate::domain::label::{VALUE_CHARS_MAX, is_value};
use crate::domain::plan::Plan;

/// Lines that wait for the line before them of their thread, while others are looked for behind them.
const WAITING_MAX: usize = 1_000;
/// Bytes of theirs, as JSON, after which no further line is read.
const WAITING_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The field of a line that names its thread: `customer`, or `customer.id`.
#[derive(Clone, Debug)]
pub(super) struct ThreadField(String);

impl ThreadField {
    /// Takes it for lines that this agent reads.
    pub(super) fn of(plan: &Plan, field: &str) -> Result<Self, CliError> {
        let wrong = |message: String, help: &str| Err(Problem::usage(code::USAGE, message).help(help).into());
        if field.split('.').any(str::is_empty) {
            let message = format!("`--thread-from {}` names no field", one_line(field, 80));
            return wrong(message, "name one of a line's fields, such as `customer` or `customer.id`");
        }
        let schema = plan.input.as_ref().filter(|schema| schema.get("type") == Some(&Value::from("object")));
        let Some(schema) = schema else {
            let message = format!("agent `{}` takes no object, so a line has no field `{field}`", plan.agent);
            return wrong(message, "declare an `[input]` of `type = \"object\"` with that field");
        };
        let first = field.split('.').next().unwrap_or_default();
        let is_known = schema.get("properties").is_some_and(|known| known.get(first).is_some());
        if !is_known && schema.get("additionalProperties") == Some(&Value::Bool(false)) {
            let message = format!("agent `{}` takes no field `{first}`", plan.agent);
            return wrong(message, "add it to `properties` of the agent's `[input]`, or name another");
        }
        Ok(Self(field.to_owned()))
    }

    /// Its name, as it was given.
    pub(super) fn name(&self) -> &str {
        &self.0
    }

    /// The thread of a line with this input; what is wrong with it, in words.
    pub(super) fn thread_of(&self, input: &Value) -> Result<String, String> {
        let Self(field) = self;
        let found = field.split('.').try_fold(input, |value, name| value.get(name));
        let id = match found {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Number(number)) => number.to_string(),
            None | Some(Value::Null) => return Err(format!("it has no `{field}`, which names its thread")),
            Some(Value::Bool(_) | Value::Array(_) | Value::Object(_)) => {
                return Err(format!("its `{field}` must be a text or a number, since it names its thread"));
            }
        };
        if is_value(&id) {
            return Ok(id);
        }
        let shown = one_line(&id, 80);
        Err(format!("its `{field}` is `{shown}`: a thread is named by 1 to {VALUE_CHARS_MAX} characters"))
    }
}

/// What runs on its own, or in a thread.
pub(super) trait InThread {
    /// Its thread, if it is in one.
    fn thread(&self) -> Option<&str>;
    /// About how many bytes it keeps.
    fn bytes(&self) -> usize;
}

/// Lets lines pass in their order, but one of each thread at a time.
#[derive(Debug)]
pub(super) struct Turnstile<T> {
    busy: BTreeSet<String>,
    waiting: VecDeque<T>,
    bytes: usize,
}

impl<T> Default for Turnstile<T> {
    fn default() -> Self {
        Self { busy: BTreeSet::new(), waiting: VecDeque::new(), bytes: 0 }
    }
}

impl<T: InThread> Turnstile<T> {
    /// The first that waits and needn't any longer.
    pub(super) fn pass_waiting(&mut self) -> Option<T> {
        let is_free = |one: &T| one.thread().is_none_or(|thread| !self.busy.contains(thread));
        let at = self.waiting.iter().position(is_free)?;
        let one = self.waiting.remove(at)?;
        self.bytes = self.bytes.saturating_sub(one.bytes());
        self.pass(one)
    }

    /// Gives it back where it may begin, and keeps it otherwise. Those that wait and needn't go first.
    pub(super) fn pass(&mut self, one: T) -> Option<T> {
        match one.thread() {
            Some(thread) if self.busy.contains(thread) => {
                self.bytes = self.bytes.saturating_add(one.bytes());
                self.waiting.push_back(one);
                return None;
            }
            Some(thread) => drop(self.busy.insert(thread.to_owned())),
            None => {}
        }
        Some(one)
    }

    /// The next of this thread may begin.
    pub(super) fn free(&mut self, thread: &str) {
        self.busy.remove(thread);
    }

    /// True where another may be looked at.
    pub(super) fn has_room(&self) -> bool {
        self.waiting.len() < WAITING_MAX && self.bytes < WAITING_BYTES_MAX
    }

    /// True where nobody waits.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    impl ThreadField {
        pub(in super::super) fn named(field: &str) -> Self {
            Self(field.to_owned())
        }
    }

    impl InThread for (&'static str, u32) {
        fn thread(&self) -> Option<&str> {
            (!self.0.is_empty()).then_some(self.0)
        }

        fn bytes(&self) -> usize {
            WAITING_BYTES_MAX / 4
        }
    }

    #[test]
    fn a_threads_lines_pass_one_by_one_and_in_order() {
        let mut turnstile = Turnstile::default();
        let given = [("a", 1), ("a", 2), ("b", 1), ("", 1), ("a", 3), ("b", 2)];
        let passed: Vec<_> = given.into_iter().filter_map(|one| turnstile.pass(one)).collect();
        assert_eq!(passed, [("a", 1), ("b", 1), ("", 1)]);
        assert_eq!(turnstile.pass_waiting(), None);
        turnstile.free("b");
        assert_eq!((turnstile.pass_waiting(), turnstile.pass_waiting()), (Some(("b", 2)), None));
        turnstile.free("a");
        assert_eq!((turnstile.pass_waiting(), turnstile.pass_waiting()), (Some(("a", 2)), None));
        assert!(!turnstile.is_empty());
        turnstile.free("a");
        assert_eq!(turnstile.pass_waiting(), Some(("a", 3)));
        assert!(turnstile.is_empty() && turnstile.has_room());
    }

    #[test]
    fn who_waits_is_bounded() {
        let mut turnstile = Turnstile::default();
        (0..4).for_each(|number| assert!(turnstile.pass(("a", number)).is_none() || number == 0));
        assert!(turnstile.has_room(), "three wait");
        assert_eq!(turnstile.pass(("a", 4)), None);
        assert!(!turnstile.has_room(), "four of them are as many bytes as may wait");
    }

    #[test]
    fn a_lines_thread_is_a_text_or_a_number() {
        let told = |field: &str, input: &Value| ThreadField(field.to_owned()).thread_of(input);
        let input = json!({ "customer": { "id": 7, "name": "Ann" }, "empty": "", "none": null, "list": [] });
        assert_eq!(told("customer.id", &input), Ok("7".to_owned()));
        assert_eq!(told("customer.name", &input), Ok("Ann".to_owned()));
        assert_eq!(told("customer.age", &input), Err("it has no `customer.age`, which names its thread".to_owned()));
        for field in ["empty", "none", "list", "customer", "absent"] {
            assert!(told(field, &input).is_err_and(|why| why.contains(&format!("`{field}`"))), "{field}");
        }
    }
}
