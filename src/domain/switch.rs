//! Switches: somebody holds, or ends, the runs of a scope, or takes a model out of use, until the switch is lifted.
//!
//! Invariants: a switch only ever takes away: no call that is judged while it is set is made in its scope, the last one of
//! a landing included, and what is in flight goes on. One scope has one switch. The audit log tells of each, and is where
//! they are kept: they are a fold of it.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::audit::{AuditEntry, Author, Change};
use super::event::Labels;
use super::limits::{Declared, LimitKind, Refusal};
use crate::ids::ModelName;
use crate::units::Timestamp;

/// Scopes that have a switch at once.
pub const SWITCHES_MAX: usize = 1_000;
/// The scope of everything.
const ALL: &str = "all";
/// What stands before a model's name.
const MODEL: &str = "model";
/// The most bytes of a scope.
const SCOPE_BYTES_MAX: usize = 512;

/// What a switch is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SwitchScope {
    /// Every run.
    All,
    /// Calls that ask this model.
    Model(ModelName),
    /// Runs with this label; `agent`, `feature`, `owner` and `environment` are labels of every run.
    Label {
        /// Its name.
        name: String,
        /// Its value.
        value: String,
    },
}

impl SwitchScope {
    fn holds(&self, labels: &Labels) -> bool {
        match self {
            Self::All => true,
            Self::Model(_) => false,
            Self::Label { name, value } => labels.get(name) == Some(value),
        }
    }
}

impl fmt::Display for SwitchScope {
    /// `all`, `model=openai/gpt-5-mini`, `tenant=acme`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.pad(ALL),
            Self::Model(model) => f.pad(&format!("{MODEL}={model}")),
            Self::Label { name, value } => f.pad(&format!("{name}={value}")),
        }
    }
}

/// A text that is no scope.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no scope; write `all`, `feature=support`, `agent=triage` or another label, or `model=openai/gpt-5-mini`"
)]
pub struct ScopeError(String);

impl FromStr for SwitchScope {
    type Err = ScopeError;
    fn from_str(text: &str) -> Result<Self, ScopeError> {
        let text = text.trim();
        let fault = || ScopeError(text.escape_debug().take(80).collect());
        if text == ALL {
            return Ok(Self::All);
        }
        let (name, value) = text.split_once('=').filter(|_| text.len() <= SCOPE_BYTES_MAX).ok_or_else(fault)?;
        if name.is_empty() || value.is_empty() || text.chars().any(char::is_control) {
            return Err(fault());
        }
        Ok(match name {
            MODEL => Self::Model(ModelName::from(value)),
            _ => Self::Label { name: name.to_owned(), value: value.to_owned() },
        })
    }
}

written_as_text!(SwitchScope, "SwitchScope", "What a switch is for: `all`, a label, or `model=` and a model.", {
    "pattern": "^(all|[^=]+=.+)$",
    "examples": ["feature=support", "model=openai/gpt-5-mini"],
});

impl Serialize for SwitchScope {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SwitchScope {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// What a switch does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SwitchKind {
    /// Runs wait until it is lifted, and go on then.
    Pause,
    /// Runs end at their next call, without another one.
    Kill,
}

impl SwitchKind {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Kill => "kill",
        }
    }
}

/// See [`Change::SwitchSet`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwitchSet {
    /// What for.
    pub scope: SwitchScope,
    /// What it does; of a model either takes it out of use, and others that are approved take over.
    pub switch: SwitchKind,
    /// Why.
    pub reason: String,
}

/// See [`Change::SwitchLifted`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwitchLifted {
    /// What for.
    pub scope: SwitchScope,
    /// Why.
    pub reason: String,
}

/// A switch that is set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Switch {
    /// What it does.
    pub kind: SwitchKind,
    /// Since when.
    pub at: Timestamp,
    /// Who set it.
    pub by: Author,
    /// Why.
    pub reason: String,
}

/// The switches that are set.
#[derive(Clone, Debug, Default)]
pub struct Switches(BTreeMap<SwitchScope, Switch>);

impl Switches {
    /// Goes on to the next entry of the audit log; true where it was one of these.
    pub fn apply(&mut self, entry: &AuditEntry) -> bool {
        if let Change::SwitchSet(set) = &entry.change {
            let (at, by, reason) = (entry.at, entry.by.clone(), set.reason.clone());
            self.0.insert(set.scope.clone(), Switch { kind: set.switch, at, by, reason });
            return true;
        }
        if let Change::SwitchLifted(lifted) = &entry.change {
            return self.0.remove(&lifted.scope).is_some();
        }
        false
    }

    /// What holds runs with these labels: one that ends them before one that holds them.
    #[must_use]
    pub fn of_run(&self, labels: &Labels) -> Option<(SwitchKind, Refusal)> {
        let mut found = self.0.iter().filter(|(scope, _)| scope.holds(labels));
        let first = found.next()?;
        let (scope, switch) =
            std::iter::once(first).chain(found).find(|(_, switch)| switch.kind == SwitchKind::Kill).unwrap_or(first);
        Some((switch.kind, refusal(scope, switch)))
    }

    /// What keeps a model from being asked.
    #[must_use]
    pub fn of_model(&self, model: &ModelName) -> Option<Refusal> {
        let scope = SwitchScope::Model(model.clone());
        self.0.get(&scope).map(|switch| refusal(&scope, switch))
    }

    /// The switch of a scope.
    #[must_use]
    pub fn get(&self, scope: &SwitchScope) -> Option<&Switch> {
        self.0.get(scope)
    }

    /// All of them, by scope.
    pub fn iter(&self) -> impl Iterator<Item = (&SwitchScope, &Switch)> {
        self.0.iter()
    }

    /// How many.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.len()
    }
}

/// True where another model may be asked in the place of one that was refused.
#[must_use]
pub fn spares_other_models(refusal: &Refusal) -> bool {
    let scope = refusal.subject.as_deref().and_then(|subject| subject.parse().ok());
    refusal.limit != LimitKind::Switch || matches!(scope, Some(SwitchScope::Model(_)))
}

fn refusal(scope: &SwitchScope, switch: &Switch) -> Refusal {
    let Switch { kind, at, by, reason } = switch;
    Refusal {
        limit: LimitKind::Switch,
        subject: Some(scope.to_string()),
        value: kind.name().to_owned(),
        observed: format!("set by {by} at {at}: {reason}; `plimsoll switch lift {scope} --reason TEXT` lifts it"),
        declared: Declared::Default,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(number: u64, scope: &str, switch: SwitchKind) -> AuditEntry {
        let scope = scope.parse().expect("a scope");
        let change = Change::SwitchSet(SwitchSet { scope, switch, reason: "too dear".into() });
        AuditEntry { number, at: Timestamp(number), by: Author::Person("ann".into()), change }
    }

    fn lifted(number: u64, scope: &str) -> AuditEntry {
        let scope = scope.parse().expect("a scope");
        let change = Change::SwitchLifted(SwitchLifted { scope, reason: "mended".into() });
        AuditEntry { number, at: Timestamp(number), by: Author::Person("bob".into()), change }
    }

    #[test]
    fn a_switch_holds_what_is_in_its_scope_until_it_is_lifted() {
        let labels = Labels::from([("feature".to_owned(), "support".to_owned())]);
        let mut switches = Switches::default();
        assert!(switches.apply(&set(0, "feature=support", SwitchKind::Pause)));
        let (kind, why) = switches.of_run(&labels).expect("held");
        assert_eq!((kind, why.limit, why.value.as_str()), (SwitchKind::Pause, LimitKind::Switch, "pause"));
        assert!(why.observed.contains("ann") && why.observed.contains("too dear"), "{}", why.observed);
        assert_eq!(switches.of_run(&Labels::new()), None);
        assert!(switches.apply(&set(1, "all", SwitchKind::Kill)));
        assert_eq!(switches.of_run(&labels).expect("ended").0, SwitchKind::Kill);
        assert!(switches.apply(&lifted(2, "all")) && !switches.apply(&lifted(3, "all")));
        assert_eq!(switches.of_run(&labels).expect("held").0, SwitchKind::Pause);
        switches.apply(&set(4, "model=openai/a", SwitchKind::Kill));
        assert!(switches.of_model(&"openai/a".into()).is_some() && switches.of_model(&"openai/b".into()).is_none());
    }

    #[test]
    fn a_scope_reads_as_it_is_written() {
        for text in ["all", "model=openai/gpt-5-mini", "tenant=a=b", "agent=triage"] {
            assert_eq!(text.parse::<SwitchScope>().expect("a scope").to_string(), text);
        }
        for bad in ["", "support", "=x", "tenant=", "ten\nant=a"] {
            assert!(bad.parse::<SwitchScope>().is_err(), "{bad}");
        }
    }
}
