//! The house has floors (ARCHITECTURE.md): a module imports lower floors only. This reads every source file and checks it.
//! And no file is so long that nobody reads it whole.
//!
//! It sees paths as they are written, `use` trees included, in code and not in comments or texts. Modules named `tests`
//! are held to the same rule. It doesn't see what a macro would make.

use std::fmt;
use std::path::Path;

/// Lines of one source file, its tests included.
const LINES_MAX: usize = 600;

/// The floor of each module at the top of the crate.
const FLOORS: [(&str, u8); 21] = [
    ("units", 0),
    ("ids", 0),
    ("described", 0),
    ("failpoint", 0),
    ("domain", 1),
    ("spec", 2),
    ("clock", 2),
    ("tokenize", 2),
    ("store", 2),
    ("rates", 2),
    ("words", 2),
    ("gate", 3),
    ("provider", 4),
    ("tool", 4),
    ("runtime", 5),
    ("sim", 5),
    ("telemetry", 4),
    ("api", 5),
    ("pages", 5),
    ("cli", 6),
    ("main", 7),
];

/// Who may look at a neighbour of the same floor, and why.
const NEIGHBOURS: [(&str, &str, &str); 3] = [
    ("store", "clock", "the writer dates what it appends, so that the order of a log is the order of its times"),
    ("api", "runtime", "it is how other processes ask the runtime"),
    ("pages", "api", "they show what it answers, and to whom it does"),
];

/// What else is forbidden: in which module, the beginning of a path, and why.
const FORBIDDEN: [(&str, &[&str], &str); 12] = [
    ("sim", &["crate", "domain", "pricing"], "its invoice must not repeat the mistakes of ours"),
    ("sim", &["crate", "provider"], "it must not speak the wire as our client does"),
    ("domain", &["tokio"], "the domain is synchronous"),
    ("domain", &["futures_util"], "the domain is synchronous"),
    ("domain", &["reqwest"], "the domain has no network"),
    ("domain", &["std", "net"], "the domain has no network"),
    ("domain", &["std", "fs"], "the domain has no files"),
    ("domain", &["std", "env"], "the domain has no environment"),
    ("domain", &["std", "process"], "the domain has no processes"),
    ("domain", &["std", "thread"], "the domain is synchronous"),
    ("domain", &["crate", "clock"], "time enters the domain as an argument"),
    ("domain", &["tracing"], "no decision is only logged"),
];

/// Words that the domain doesn't use anywhere.
const DOMAIN_WORDS: [(&str, &str); 6] = [
    ("Instant", "time enters the domain as an argument"),
    ("SystemTime", "time enters the domain as an argument"),
    ("HashMap", "its order does not replay"),
    ("HashSet", "its order does not replay"),
    ("async", "the domain is synchronous"),
    ("await", "the domain is synchronous"),
];

#[test]
fn every_module_imports_lower_floors_only() {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut seen = 0;
    let mut faults = Vec::new();
    for entry in walkdir::WalkDir::new(&sources).sort_by_file_name() {
        let entry = entry.expect("the sources can be listed");
        if entry.path().extension().is_none_or(|extension| extension != "rs") {
            continue;
        }
        let name = entry.path().strip_prefix(&sources).expect("a source").to_string_lossy().into_owned();
        let text = std::fs::read_to_string(entry.path()).expect("a source can be read");
        faults.extend(violations(&name, &text));
        seen += 1;
    }
    assert!(seen > 100, "only {seen} files were found");
    assert!(faults.is_empty(), "{} fault(s):\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn no_file_is_longer_than_what_is_read_in_one_sitting() {
    let home = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut long = Vec::new();
    for folder in ["src", "tests", "benches"] {
        for entry in walkdir::WalkDir::new(home.join(folder)).sort_by_file_name() {
            let entry = entry.expect("the sources can be listed");
            if entry.path().extension().is_none_or(|extension| extension != "rs") {
                continue;
            }
            let lines = std::fs::read_to_string(entry.path()).expect("a source can be read").lines().count();
            if lines > LINES_MAX {
                long.push(format!("{}: {lines} lines", entry.path().display()));
            }
        }
    }
    assert!(long.is_empty(), "at most {LINES_MAX} lines, split by sense:\n{}", long.join("\n"));
}

#[test]
fn each_way_around_the_floors_is_seen() {
    let bad = [
        ("domain/run/mod.rs", "use crate::store::Store;", "`crate::store::Store`"),
        ("domain/run/mod.rs", "use crate::{units::Money, gate::{self, Permit}};", "`crate::gate::Permit`"),
        ("domain/run/mod.rs", "use super::super::store::Store;", "`crate::store::Store`"),
        ("domain/run/mod.rs", "mod tests { use super::super::super::store; }", "`crate::store`"),
        ("domain/ledger/apply.rs", "fn f(s: &crate::runtime::Runtime) {}", "`crate::runtime::Runtime`"),
        ("domain/a.rs", "use std::time::{Duration, Instant};", "`Instant`"),
        ("domain/a.rs", "use std::{fmt, fs};", "`std::fs`"),
        ("domain/a.rs", "use tokio::sync::mpsc;", "`tokio::sync::mpsc`"),
        ("domain/a.rs", "let map: std::collections::HashMap<u8, u8>;", "`HashMap`"),
        ("domain/a.rs", "async fn wait() {}", "`async`"),
        ("spec/load.rs", "use crate::store::Store;", "`crate::store::Store`"),
        ("clock.rs", "use crate::store::Store;", "`crate::store::Store`"),
        ("sim/rates.rs", "use crate::domain::pricing::PriceBook;", "`crate::domain::pricing::PriceBook`"),
        ("sim/wire.rs", "use crate::domain::{message, pricing};", "`crate::domain::pricing`"),
        ("sim/wire.rs", "use crate::provider::encode;", "`crate::provider::encode`"),
        ("provider/mod.rs", "use crate::tool::ToolContext;", "`crate::tool::ToolContext`"),
        ("api/router.rs", "use crate::pages::router;", "`crate::pages::router`"),
        ("attic.rs", "", "no floor"),
        ("units.rs", "use crate::attic::Box;", "no floor"),
    ];
    for (name, text, expected) in bad {
        let faults = violations(name, text);
        assert!(faults.iter().any(|fault| fault.contains(expected)), "{name}: {text}: {faults:?}");
    }
    let good = [
        ("domain/run/mod.rs", "use crate::units::Money; use super::ledger; mod tests { use super::*; }"),
        ("domain/a.rs", "// use crate::store::Store;\n/* tokio::spawn */ const A: &str = \"crate::gate\\\" async\";"),
        ("domain/a.rs", "const A: &str = r#\"\"crate::gate\"#; const B: char = '\"'; struct S<'async_>(&'async_ u8);"),
        ("store/writer.rs", "use crate::clock::Clock; pub(crate) struct A; pub(in crate::store) struct B;"),
        ("runtime/mod.rs", "use crate::{gate::Gate, provider::Client, tool::ToolContext, store::*};"),
        ("units.rs", "mod tests { use super::*; mod more { use super::super::Money; } }"),
        ("lib.rs", "pub use crate::runtime::Runtime;"),
        ("main.rs", "use plimsoll::cli;"),
    ];
    for (name, text) in good {
        assert_eq!(violations(name, text), Vec::<String>::new(), "{name}: {text}");
    }
}

/// What a source file does that its floor doesn't allow.
fn violations(name: &str, text: &str) -> Vec<String> {
    let module: Vec<&str> = name.trim_end_matches(".rs").split('/').filter(|part| *part != "mod").collect();
    let top = module[0];
    if top == "lib" {
        return Vec::new();
    }
    let fault = |line: usize, what: &dyn fmt::Display| format!("src/{name}:{line}: {what}");
    let Some(own) = floor(top) else { return vec![fault(1, &format!("`{top}` has no floor"))] };
    let tokens = tokens(text);
    let mut faults = Vec::new();
    for (line, path) in paths(&tokens, &module) {
        let written = path.join("::");
        if path[0] == "crate" && path.len() > 1 {
            let to = path[1].as_str();
            match floor(to) {
                None => faults.push(fault(line, &format!("`{written}`: `{to}` has no floor"))),
                Some(other) if other < own || to == top || may_visit(top, to) => {}
                Some(other) => faults.push(fault(line, &format!("floor {own} uses `{written}` of floor {other}"))),
            }
        }
        for (_, begin, why) in FORBIDDEN.iter().filter(|(of, ..)| *of == top) {
            if path.len() >= begin.len() && path.iter().zip(*begin).all(|(part, begin)| part == begin) {
                faults.push(fault(line, &format!("`{written}`: {why}")));
            }
        }
    }
    if top == "domain" {
        for Token { line, text } in &tokens {
            if let Some((word, why)) = DOMAIN_WORDS.iter().find(|(word, _)| word == text) {
                faults.push(fault(*line, &format!("`{word}`: {why}")));
            }
        }
    }
    faults
}

fn floor(module: &str) -> Option<u8> {
    FLOORS.iter().find(|(name, _)| *name == module).map(|(_, floor)| *floor)
}

fn may_visit(from: &str, to: &str) -> bool {
    NEIGHBOURS.iter().any(|(a, b, _)| (*a, *b) == (from, to))
}

/// A word, `::`, or a single other character.
#[derive(Debug)]
struct Token {
    line: usize,
    text: String,
}

/// The code of a file without comments, texts and lifetimes.
fn tokens(source: &str) -> Vec<Token> {
    let mut found = Vec::new();
    let (mut rest, mut line) = (source, 1);
    while let Some(first) = rest.chars().next() {
        let taken = skipped(rest).unwrap_or_else(|| {
            let length = match first {
                ':' if rest.starts_with("::") => 2,
                first if is_word(first) => rest.find(|c| !is_word(c)).unwrap_or(rest.len()),
                first => first.len_utf8(),
            };
            if !first.is_whitespace() {
                found.push(Token { line, text: rest[..length].to_owned() });
            }
            length
        });
        line += rest[..taken].matches('\n').count();
        rest = &rest[taken..];
    }
    found
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The length of what isn't code, where some begins here.
fn skipped(rest: &str) -> Option<usize> {
    let until = |from: usize, end: &str| rest[from..].find(end).map_or(rest.len(), |at| from + at + end.len());
    if rest.starts_with("//") {
        return Some(rest.find('\n').unwrap_or(rest.len()));
    }
    if rest.starts_with("/*") {
        return Some(until(2, "*/"));
    }
    let raw = rest.strip_prefix('b').unwrap_or(rest).strip_prefix('r');
    if let Some(raw) = raw
        && let Some(text) = raw.trim_start_matches('#').strip_prefix('"')
    {
        let hashes = raw.len() - text.len() - 1;
        let from = rest.len() - text.len();
        return Some(until(from, &format!("\"{}", "#".repeat(hashes))));
    }
    if rest.starts_with('"') {
        return Some(quoted(rest));
    }
    character(rest)
}

/// The length of a text in quotes.
fn quoted(rest: &str) -> usize {
    let mut escaped = false;
    let end = rest.char_indices().skip(1).find(|(_, c)| {
        let ends = *c == '"' && !escaped;
        escaped = *c == '\\' && !escaped;
        ends
    });
    end.map_or(rest.len(), |(at, _)| at + 1)
}

/// The length of a character in quotes, or of a lifetime.
fn character(rest: &str) -> Option<usize> {
    let inner = rest.strip_prefix('\'')?;
    if inner.starts_with('\\') {
        return Some(inner[2..].find('\'').map_or(rest.len(), |at| at + 4));
    }
    let first = inner.chars().next()?;
    if inner[first.len_utf8()..].starts_with('\'') {
        return Some(first.len_utf8() + 2);
    }
    Some(1 + inner.find(|c| !is_word(c)).unwrap_or(inner.len()))
}

/// Every path of two parts or more, with groups taken apart and `super` resolved; each with its line.
fn paths(tokens: &[Token], module: &[&str]) -> Vec<(usize, Vec<String>)> {
    let text = |at: usize| tokens.get(at).map_or("", |token| token.text.as_str());
    let mut found = Vec::new();
    // Modules that are open in this file, by the depth of braces that they began at.
    let (mut inner, mut depth): (Vec<usize>, usize) = (Vec::new(), 0);
    for at in 0..tokens.len() {
        match text(at) {
            "{" => {
                depth += 1;
                if at >= 2 && text(at - 2) == "mod" {
                    inner.push(depth);
                }
            }
            "}" => {
                inner.retain(|opened| *opened != depth);
                depth = depth.saturating_sub(1);
            }
            word if word.starts_with(is_word) && text(at + 1) == "::" && (at == 0 || text(at - 1) != "::") => {
                let mut whole = Vec::new();
                tree(tokens, at, &mut Vec::new(), &mut whole);
                let levels = module.len() + inner.len();
                found.extend(
                    whole.into_iter().filter_map(|path| Some((tokens[at].line, resolved(path, levels, module)?))),
                );
            }
            _ => {}
        }
    }
    found
}

/// Takes a tree of paths apart from `at` on; gives what follows it.
fn tree(tokens: &[Token], mut at: usize, begun: &mut Vec<String>, found: &mut Vec<Vec<String>>) -> usize {
    let text = |at: usize| tokens.get(at).map_or("", |token| token.text.as_str());
    let mark = begun.len();
    loop {
        match text(at) {
            "{" => {
                at += 1;
                while !matches!(text(at), "}" | "") {
                    let next = tree(tokens, at, begun, found);
                    at = if text(next) == "," { next + 1 } else { next.max(at + 1) };
                }
                at += 1;
                break;
            }
            word if word.starts_with(is_word) => {
                begun.push(word.to_owned());
                at += 1;
            }
            _ => {
                found.push(begun.clone());
                break;
            }
        }
        if text(at) != "::" {
            found.push(begun.clone());
            while text(at) == "as" {
                at += 2;
            }
            break;
        }
        at += 1;
    }
    begun.truncate(mark);
    at
}

/// A path from the crate's root where it begins with `super` and leaves the module's own tree; `None` where it stays.
fn resolved(path: Vec<String>, levels: usize, module: &[&str]) -> Option<Vec<String>> {
    let ups = path.iter().take_while(|part| *part == "super").count();
    let kept = levels.checked_sub(ups)?;
    match ups {
        0 => Some(path),
        _ if kept > 0 => None,
        _ => {
            let rest = path.into_iter().skip(ups);
            let whole: Vec<String> = std::iter::once("crate".to_owned()).chain(rest).collect();
            // `super::*` of a module at the top means all of the crate; its own tree is allowed.
            (whole.len() > 1 && whole[1] != module[0]).then_some(whole)
        }
    }
}
