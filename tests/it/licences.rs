//! The licences of everything that is linked in, read from what cargo has on disk: nothing is downloaded.
//!
//! Known advisories, both "unmaintained" and none a vulnerability, both only through sled 0.34: `instant`
//! (RUSTSEC-2024-0384, by parking_lot 0.11) and `fxhash` (RUSTSEC-2025-0057). They go when the store's engine does.

use std::process::Command;

use serde_json::Value;

/// Licences that ask for no more than their text to be kept.
const ALLOWED: [&str; 13] = [
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

#[test]
fn every_package_can_be_had_under_an_allowed_licence() {
    let packages = packages();
    assert!(packages.len() > 100, "only {} packages were found", packages.len());
    let faults: Vec<String> = packages
        .iter()
        .filter_map(|(package, licence)| match licence {
            None => Some(format!("{package} names no licence")),
            Some(licence) => match satisfied(licence) {
                Ok(true) => None,
                Ok(false) => Some(format!("{package} is under `{licence}`")),
                Err(fault) => Some(format!("{package} is under `{licence}`: {fault}")),
            },
        })
        .collect();
    assert!(faults.is_empty(), "not under an allowed licence:\n{}", faults.join("\n"));
}

#[test]
fn expressions_are_understood_as_their_grammar_says() {
    for (licence, expected) in [
        ("MIT", true),
        ("MIT OR Apache-2.0", true),
        ("MIT/Apache-2.0", true),
        ("GPL-3.0-only", false),
        ("GPL-3.0-only OR MIT", true),
        ("GPL-3.0-only AND MIT", false),
        ("MIT OR GPL-3.0-only AND MIT", true),
        ("GPL-3.0-only AND MIT OR ISC", true),
        ("GPL-3.0-only AND (MIT OR ISC)", false),
        ("(Apache-2.0 OR GPL-2.0-only) AND (ISC AND (GPL-2.0-only OR MIT))", true),
        ("Apache-2.0 WITH LLVM-exception", true),
        ("Apache-2.0 WITH Some-exception", false),
        ("GPL-2.0-only WITH Classpath-exception-2.0 OR Zlib", true),
    ] {
        assert_eq!(satisfied(licence), Ok(expected), "{licence}");
    }
    for licence in ["", "MIT OR", "(MIT", "MIT)", "MIT Apache-2.0", "AND MIT"] {
        assert!(satisfied(licence).is_err(), "{licence}");
    }
}

/// Every package that this platform builds, as `name version`, with its licence.
fn packages() -> Vec<(String, Option<String>)> {
    let metadata = cargo(&["metadata", "--offline", "--locked", "--format-version", "1", "--filter-platform", &host()]);
    let metadata: Value = serde_json::from_str(&metadata).expect("cargo prints JSON");
    let packages = metadata["packages"].as_array().expect("a list of packages");
    let text = |package: &Value, key: &str| package[key].as_str().map(str::to_owned);
    packages
        .iter()
        .map(|package| {
            let name = format!("{} {}", package["name"], package["version"]).replace('"', "");
            (name, text(package, "license"))
        })
        .collect()
}

/// The platform that cargo builds for.
fn host() -> String {
    let version = cargo(&["-vV"]);
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).expect("cargo names its host");
    host.to_owned()
}

fn cargo(arguments: &[&str]) -> String {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo).args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).output();
    let output = output.expect("cargo starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("cargo prints UTF-8")
}

/// Whether a licence expression (SPDX; `/` is an old way to write `OR`) can be met from [`ALLOWED`].
fn satisfied(licence: &str) -> Result<bool, String> {
    let spaced = licence.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut expression = Expression { words: &words };
    let answer = expression.any()?;
    match expression.words {
        [] => Ok(answer),
        [word, ..] => Err(format!("`{word}` where an expression ends")),
    }
}

/// The words of an expression that are still to be read.
struct Expression<'a> {
    words: &'a [&'a str],
}

impl Expression<'_> {
    /// `OR` binds weakest.
    fn any(&mut self) -> Result<bool, String> {
        let mut answer = self.all()?;
        while self.take("OR") {
            answer |= self.all()?;
        }
        Ok(answer)
    }

    fn all(&mut self) -> Result<bool, String> {
        let mut answer = self.one()?;
        while self.take("AND") {
            answer &= self.one()?;
        }
        Ok(answer)
    }

    fn one(&mut self) -> Result<bool, String> {
        if self.take("(") {
            let answer = self.any()?;
            return if self.take(")") { Ok(answer) } else { Err("`)` is missing".to_owned()) };
        }
        let name = self.name()?;
        if self.take("WITH") {
            let whole = format!("{name} WITH {}", self.name()?);
            return Ok(ALLOWED.contains(&whole.as_str()));
        }
        Ok(ALLOWED.contains(&name.as_str()))
    }

    fn name(&mut self) -> Result<String, String> {
        match self.words {
            [] => Err("a licence is missing".to_owned()),
            [word @ ("OR" | "AND" | "WITH" | "(" | ")"), ..] => Err(format!("`{word}` where a licence is expected")),
            [word, rest @ ..] => {
                self.words = rest;
                Ok((*word).to_owned())
            }
        }
    }

    fn take(&mut self, word: &str) -> bool {
        let is_next = self.words.first() == Some(&word);
        if is_next {
            self.words = &self.words[1..];
        }
        is_next
    }
}
