//! `[[alerts]]` of `plimsoll.toml`, and `alerts_at` of its budgets: who is told of what, and how.

use std::collections::BTreeSet;
use std::path::Path;

use crate::domain::alert::{AlertRule, Heard};
use crate::domain::event::Labels;
use crate::domain::limits::Declared;
use crate::domain::policy::Share;
use crate::ids::BudgetName;
use crate::spec::configuration::{base_url, check_label};
use crate::spec::fault::{Faults, code, suggest};
use crate::spec::files::clean;
use crate::spec::limits::declared;
use crate::spec::names::{check_name, is_label_value, is_variable, unique};
use crate::spec::project::KeySource;
use crate::spec::reader::{At, Node};
use crate::units::Millis;

/// The most rows of `[[alerts]]`.
const ALERTS_MAX: usize = 64;
/// How long one try to deliver takes at most, where nothing else is said.
const TIMEOUT_DEFAULT: Millis = Millis::from_secs(10);
/// The keys that say which way an alert goes.
const WAYS: [&str; 3] = ["log", "webhook", "command"];

/// Who is told, of what, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlertConfig {
    /// Of what.
    pub rule: AlertRule,
    /// How.
    pub way: AlertWay,
    /// How long one try takes at most.
    pub timeout: Millis,
    /// Where it was declared.
    pub declared: Declared,
}

/// The way that an alert goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AlertWay {
    /// A line of the log.
    Log,
    /// A signed request. Its host may be any that the project names, a private one too: who writes the file runs the program.
    Webhook {
        /// Where to.
        url: String,
        /// Where the secret comes from that it is signed with.
        secret: KeySource,
    },
    /// A program with arguments (no shell), which reads the alert from its standard input.
    Command {
        /// The program and its arguments.
        command: Vec<String>,
        /// Where it runs: the project's folder.
        directory: String,
        /// The environment variables that it sees.
        env: Vec<String>,
    },
}

/// Reads `[[alerts]]`.
pub(crate) fn alerts(root: &Path, node: &Node<'_>, budgets: &[BudgetName], faults: &mut Faults) -> Vec<AlertConfig> {
    let nodes = node.sections("alerts");
    if nodes.len() > ALERTS_MAX {
        let message = format!("the project has {} rows of alerts", nodes.len());
        node.fault(faults, code::TOO_MANY, &node.span_of("alerts"), message, format!("at most {ALERTS_MAX}"));
    }
    let named: Vec<At<String>> = nodes.iter().filter_map(|node| node.text("name")).collect();
    unique(node, &named, "the alert", faults);
    nodes.iter().filter_map(|node| alert(root, node, budgets, faults)).collect()
}

fn alert(root: &Path, node: &Node<'_>, budgets: &[BudgetName], faults: &mut Faults) -> Option<AlertConfig> {
    let name = node.text("name");
    if let Some(name) = &name {
        check_name(node, "an alert", name, faults);
    }
    let on = on(node, faults);
    check_filters(node, &on, faults);
    let (budgets, labels) = (named_budgets(node, budgets, faults), labels(node, faults));
    let way = way(root, node, faults);
    let name = name?;
    Some(AlertConfig {
        declared: declared(node.source, &name.span),
        rule: AlertRule { name: name.value, on, budgets, labels },
        way: way?,
        timeout: node.duration("timeout").map_or(TIMEOUT_DEFAULT, |timeout| timeout.value),
    })
}

fn on(node: &Node<'_>, faults: &mut Faults) -> BTreeSet<Heard> {
    let words = node.texts("on").map(|words| words.value).unwrap_or_default();
    unique(node, &words, "the word", faults);
    let mut on = BTreeSet::new();
    for word in &words {
        match Heard::named(&word.value) {
            Some(heard) => drop(on.insert(heard)),
            None => {
                let help = suggest(&word.value, Heard::ALL.iter().map(|(_, name)| *name), "");
                let message = format!("`{}` is nothing that alerts tell of", word.value);
                node.fault(faults, code::BAD_VALUE, &word.span, message, help);
            }
        }
    }
    on
}

/// A filter of what isn't heard filters nothing.
fn check_filters(node: &Node<'_>, on: &BTreeSet<Heard>, faults: &mut Faults) {
    let runs = on.iter().any(|heard| !matches!(heard, Heard::Budget | Heard::Price));
    for (key, heard, words) in
        [("budgets", on.contains(&Heard::Budget), "`budget`"), ("labels", runs, "an end of runs, such as `failed`")]
    {
        if node.has(key) && !heard {
            let message = format!("`{key}` filters what this alert doesn't hear");
            let help = format!("take it out, or add {words} to `on`");
            node.fault(faults, code::CONFLICT, &node.span_of(key), message, help);
        }
    }
}

fn named_budgets(node: &Node<'_>, known: &[BudgetName], faults: &mut Faults) -> BTreeSet<BudgetName> {
    let named = node.texts("budgets").map(|named| named.value).unwrap_or_default();
    unique(node, &named, "the budget", faults);
    for name in named.iter().filter(|name| !known.iter().any(|known| known.as_str() == name.value)) {
        let help = suggest(&name.value, known.iter().map(BudgetName::as_str), "plimsoll.toml declares no budget");
        let message = format!("there is no budget `{}`", name.value);
        node.fault(faults, code::UNKNOWN_NAME, &name.span, message, help);
    }
    named.into_iter().map(|name| BudgetName::from(name.value.as_str())).collect()
}

fn labels(node: &Node<'_>, faults: &mut Faults) -> Labels {
    let mut labels = Labels::new();
    for (label, value) in node.texts_by_name("labels") {
        check_label(node, &label, faults);
        if !is_label_value(&value.value) {
            let message = format!("`{}` has a value that no label can have", label.value);
            node.fault(faults, code::BAD_VALUE, &value.span, message, "expected 1 to 256 printable characters");
        }
        labels.insert(label.value, value.value);
    }
    labels
}

/// One way, with the keys that are for it and no others.
fn way(root: &Path, node: &Node<'_>, faults: &mut Faults) -> Option<AlertWay> {
    let mut named = WAYS.into_iter().filter(|key| node.has(key));
    let (first, second) = (named.next(), named.next());
    if let (Some(first), Some(second)) = (first, second) {
        let message = format!("`{second}` and `{first}` are both there");
        let help = "keep one of them; another row of `[[alerts]]` goes another way";
        node.fault(faults, code::CONFLICT, &node.span_of(second), message, help);
        return None;
    }
    let of_ways = [("secret_env", "webhook"), ("secret_file", "webhook"), ("env", "command"), ("timeout", "")];
    for (key, way) in of_ways.into_iter().filter(|(key, _)| node.has(key)) {
        let fits = if way.is_empty() { first != Some("log") } else { first == Some(way) };
        if !fits {
            let of = if way.is_empty() { "a webhook or a command".to_owned() } else { format!("`{way}`") };
            let message = format!("`{key}` says nothing here: it is for {of}");
            node.fault(faults, code::CONFLICT, &node.span_of(key), message, "take it out");
        }
    }
    match first {
        Some("webhook") => webhook(root, node, faults),
        Some("command") => {
            let command = node.texts("command")?.value.into_iter().map(|part| part.value).collect();
            let directory = root.display().to_string();
            Some(AlertWay::Command { command, directory, env: variables(node, faults) })
        }
        Some(_) if node.boolean("log") == Some(true) => Some(AlertWay::Log),
        Some(_) => None,
        None => {
            let help = "add `webhook = \"https://…\"` with `secret_env`, `command = [\"…\"]`, or `log = true`";
            node.fault(faults, code::MISSING_KEY, &node.span, "this alert goes nowhere".to_owned(), help);
            None
        }
    }
}

fn webhook(root: &Path, node: &Node<'_>, faults: &mut Faults) -> Option<AlertWay> {
    let url = base_url(node, ("webhook", &node.text("webhook")?), faults);
    let (variable, file) = (node.text("secret_env"), node.text("secret_file"));
    let secret = match (variable, file) {
        (Some(_), Some(file)) => {
            let message = "`secret_file` and `secret_env` are both there".to_owned();
            node.fault(faults, code::CONFLICT, &file.span, message, "keep one of them");
            return None;
        }
        (Some(variable), None) => KeySource::Env(checked(node, variable, "secret_env", faults)),
        (None, Some(file)) => KeySource::File(clean(&root.join(file.value))),
        (None, None) => {
            let message = "a webhook is signed, and this one has no secret".to_owned();
            let help = "add `secret_env = \"NAME\"`, the variable that holds it, or `secret_file`";
            node.fault(faults, code::MISSING_KEY, &node.span_of("webhook"), message, help);
            return None;
        }
    };
    Some(AlertWay::Webhook { url, secret })
}

fn variables(node: &Node<'_>, faults: &mut Faults) -> Vec<String> {
    let names = node.texts("env").map(|names| names.value).unwrap_or_default();
    unique(node, &names, "the variable", faults);
    names.into_iter().map(|name| checked(node, name, "env", faults)).collect()
}

fn checked(node: &Node<'_>, name: At<String>, key: &str, faults: &mut Faults) -> String {
    if !is_variable(&name.value) {
        // The text isn't shown: it may be a secret.
        faults.hide(node.source, &name.span);
        let message = format!("`{key}` names no environment variable");
        node.fault(faults, code::BAD_NAME, &name.span, message, "letters, digits and `_`, such as `ALERT_SECRET`");
    }
    name.value
}

/// Reads `alerts_at` of a budget: shares of its cap, the lowest first.
pub(crate) fn thresholds(node: &Node<'_>, faults: &mut Faults) -> Vec<Share> {
    let texts = node.texts("alerts_at").map(|texts| texts.value).unwrap_or_default();
    unique(node, &texts, "the share", faults);
    let mut shares = BTreeSet::new();
    for text in texts {
        match Share::parse(&text.value) {
            Some(share) => drop(shares.insert(share)),
            None => {
                let message = format!("`{}` is no share of a cap", text.value);
                node.fault(faults, code::BAD_VALUE, &text.span, message, "such as `\"80%\"`: above 0%, at most 100%");
            }
        }
    }
    shares.into_iter().collect()
}
