//! Limits and prices that a run isn't made with: what `replay` tells it again under. They are written as in an agent's
//! `[limits]` and a project's `[[prices]]`, or as `KEY=VALUE` on the command line, and read by the same description.

use std::path::Path;

use crate::domain::limits::Limits;
use crate::domain::pricing::PriceRow;
use crate::spec::fault::{Faults, Source, code};
use crate::spec::files::{self, fault};
use crate::spec::keys::price::STATED_PRICES;
use crate::spec::keys::{AGENT_LIMITS, Kind, STATED_LIMITS, Section};
use crate::spec::limits::{Ceilings, overlay};
use crate::spec::prices;
use crate::spec::reader::{self, Node};

/// Limits over those that a run had: files with a `[limits]` table, and pairs such as `cost=0.10usd`, in this order.
///
/// # Errors
/// Every fault of them.
pub fn limits(had: &Limits, stated: &[String], folder: &Path) -> Result<Limits, Faults> {
    let mut faults = Faults::new();
    let (pairs, paths): (Vec<&String>, Vec<&String>) = stated.iter().partition(|text| text.contains('='));
    let mut limits = had.clone();
    for path in paths {
        if let Some(source) = read(&folder.join(path), folder, &mut faults) {
            limits = of_table(&limits, &source, &STATED_LIMITS, &mut faults);
        }
    }
    if !pairs.is_empty() {
        let text: String = pairs.iter().map(|pair| format!("{}\n", as_toml(pair))).collect();
        limits = of_table(&limits, &Source::new("--limits", text), &AGENT_LIMITS, &mut faults);
    }
    faults.or(Some(limits))
}

/// The rows of a file with `[[prices]]`.
///
/// # Errors
/// Every fault of it.
pub fn prices(path: &Path, folder: &Path) -> Result<Vec<PriceRow>, Faults> {
    let mut faults = Faults::new();
    let path = folder.join(path);
    let Some(source) = read(&path, folder, &mut faults) else { return faults.or(None) };
    let Some(table) = reader::parse(&source, &mut faults) else { return faults.or(None) };
    let node = Node::root(&source, &table, &STATED_PRICES, &mut faults);
    let rows = prices::rows(&node, &mut faults);
    if rows.is_empty() && faults.is_empty() {
        faults.push(fault(
            folder,
            &path,
            "it has no price".into(),
            "write rows of `[[prices]]`, as in `plimsoll.toml`",
        ));
    }
    faults.or(Some(rows))
}

fn read(path: &Path, folder: &Path, faults: &mut Faults) -> Option<Source> {
    files::read(folder, path).map_err(|fault| faults.push(fault)).ok()
}

fn of_table(had: &Limits, source: &Source, section: &'static Section, faults: &mut Faults) -> Limits {
    let Some(table) = reader::parse(source, faults) else { return had.clone() };
    let root = Node::root(source, &table, section, faults);
    let is_file = section.field("limits").is_some();
    let node = if is_file { root.section("limits") } else { Some(root.clone()) };
    if node.is_none() && faults.is_empty() {
        let message = "it has no `[limits]`".to_owned();
        root.fault(faults, code::MISSING_KEY, &(0..0), message, "write limits under `[limits]`, as in an agent's file");
    }
    overlay(had, node.as_ref(), &Ceilings::new(), faults)
}

/// A pair as a line of TOML: a number where the limit is one, else text. Dollars may end in `usd`, since a shell takes `$0`
/// for its own.
fn as_toml(pair: &str) -> String {
    let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
    let (key, value) = (key.trim(), value.trim());
    let kind = AGENT_LIMITS.field(key).map(|field| field.kind);
    let plain = match kind {
        Some(Kind::Count { .. } | Kind::Instant) => return format!("{key} = {value}"),
        Some(Kind::Money) => value.trim_end_matches("usd").trim_end_matches("USD").trim_end(),
        Some(_) | None => value,
    };
    let is_bare =
        !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
    let key = if is_bare { key.to_owned() } else { toml::Value::from(key).to_string() };
    format!("{key} = {}", toml::Value::from(plain))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::limits::LimitKind;
    use crate::units::{Millis, Money, Tokens};

    fn stated(pairs: &[&str]) -> Result<Limits, String> {
        let pairs: Vec<String> = pairs.iter().map(|pair| (*pair).to_owned()).collect();
        limits(&Limits::default(), &pairs, Path::new("")).map_err(|faults| faults.to_string())
    }

    #[test]
    fn pairs_are_read_as_an_agents_file_is() {
        let limits =
            stated(&["cost=0.10usd", "steps=4", "wall_time=90s", "tokens=1_000", "at_limit=stop"]).expect("limits");
        assert_eq!(
            (limits.cost, limits.steps, limits.wall_time),
            (Money::from_micro(100_000), 4, Millis::from_secs(90))
        );
        assert_eq!((limits.tokens, limits.model_calls), (Some(Tokens(1_000)), Limits::default().model_calls));
        assert_eq!(limits.declared(LimitKind::Cost).to_string(), "--limits:1");
        assert_eq!(stated(&["cost=$0.10"]).expect("a limit").cost, Money::from_micro(100_000));
    }

    #[test]
    fn a_slip_is_told_with_what_was_meant() {
        for (pair, told) in [
            ("stpes=4", "did you mean `steps`?"),
            ("steps=many", "steps"),
            ("cost=cheap", "dollars as text"),
            ("=4", "unknown key"),
            ("steps=0", "expected 1 to"),
        ] {
            let fault = stated(&[pair]).expect_err(pair);
            assert!(fault.contains(told), "{pair}: {fault}");
        }
        let missing = stated(&["no-such-file.toml"]).expect_err("no file");
        assert!(missing.contains("can't read the file"), "{missing}");
    }
}
