//! What is wrong with a project's files: every fault with its place, what was expected, and how to mend it.
//!
//! Deliberately absent: warnings. A file is right, or it is refused. Absent from excerpts: what may be a secret.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use miette::{Diagnostic, LabeledSpan, NamedSource, SourceCode};

use crate::spec::secrets;

/// The stable codes of faults, listed in `docs/errors.md`.
pub mod code {
    /// The file is no TOML.
    pub const SYNTAX: &str = "plimsoll::spec::syntax";
    /// A key that doesn't exist here.
    pub const UNKNOWN_KEY: &str = "plimsoll::spec::unknown_key";
    /// A value of another type than the key takes.
    pub const WRONG_TYPE: &str = "plimsoll::spec::wrong_type";
    /// A key that must be there and isn't.
    pub const MISSING_KEY: &str = "plimsoll::spec::missing_key";
    /// A value of the right type that can't be read: a duration, an amount, a time zone, a path.
    pub const BAD_VALUE: &str = "plimsoll::spec::bad_value";
    /// A value outside what the key allows.
    pub const OUT_OF_RANGE: &str = "plimsoll::spec::out_of_range";
    /// A limit above the project's ceiling.
    pub const ABOVE_CEILING: &str = "plimsoll::spec::above_ceiling";
    /// Something that a later version brings.
    pub const UNSUPPORTED: &str = "plimsoll::spec::unsupported";
    /// A name that nothing here has: of a tool, a policy, a provider, an agent.
    pub const UNKNOWN_NAME: &str = "plimsoll::spec::unknown_name";
    /// A name that isn't of the form that names have.
    pub const BAD_NAME: &str = "plimsoll::spec::bad_name";
    /// Keys that exclude or contradict each other.
    pub const CONFLICT: &str = "plimsoll::spec::conflict";
    /// The same name twice.
    pub const DUPLICATE: &str = "plimsoll::spec::duplicate";
    /// A template that can't be rendered.
    pub const BAD_TEMPLATE: &str = "plimsoll::spec::bad_template";
    /// A JSON Schema that is none.
    pub const BAD_SCHEMA: &str = "plimsoll::spec::bad_schema";
    /// A file or folder that is missing, unreadable or too large.
    pub const FILE: &str = "plimsoll::spec::file";
    /// More files than a project may have.
    pub const TOO_MANY: &str = "plimsoll::spec::too_many";
    /// Stages that need each other in a circle.
    pub const STAGE_CIRCLE: &str = "plimsoll::spec::stage_circle";
    /// No stage, several, or two schemas for the answer.
    pub const OUTPUT_FROM: &str = "plimsoll::spec::output_from";
    /// Limits that what is declared can't keep to.
    pub const IMPOSSIBLE: &str = "plimsoll::spec::impossible";
    /// Agents that call each other in a circle.
    pub const AGENT_CIRCLE: &str = "plimsoll::spec::agent_circle";
    /// What a running service has read once, at its start.
    pub const NEXT_START: &str = "plimsoll::spec::next_start";
    /// A model whose provider has no key here.
    pub const KEY_MISSING: &str = "plimsoll::spec::key_missing";
    /// Every code.
    pub const ALL: [&str; 22] = [
        SYNTAX,
        UNKNOWN_KEY,
        WRONG_TYPE,
        MISSING_KEY,
        BAD_VALUE,
        OUT_OF_RANGE,
        ABOVE_CEILING,
        UNSUPPORTED,
        UNKNOWN_NAME,
        BAD_NAME,
        CONFLICT,
        DUPLICATE,
        BAD_TEMPLATE,
        BAD_SCHEMA,
        FILE,
        TOO_MANY,
        STAGE_CIRCLE,
        OUTPUT_FROM,
        IMPOSSIBLE,
        AGENT_CIRCLE,
        NEXT_START,
        KEY_MISSING,
    ];
}

/// The most faults that one report keeps.
pub const FAULTS_MAX: usize = 1_000;
/// The most characters of a message: it may quote a file.
const MESSAGE_CHARS_MAX: usize = 2_000;
/// The most characters of a line that an excerpt shows.
const EXCERPT_CHARS_MAX: usize = 160;

/// A text that faults point into: a file of the project.
#[derive(Clone, Debug)]
pub struct Source(Arc<NamedSource<String>>);

impl Source {
    /// A source from its name (relative to the project) and its text.
    #[must_use]
    pub fn new(name: &str, text: String) -> Self {
        Self(Arc::new(NamedSource::new(name, text)))
    }

    /// Its name: a path relative to the project, or absolute where it lies outside.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.name()
    }

    /// Its text.
    #[must_use]
    pub fn text(&self) -> &str {
        self.0.inner()
    }

    /// The line of a byte offset, from 1.
    #[must_use]
    pub fn line(&self, offset: usize) -> u32 {
        u32::try_from(self.before(offset).matches('\n').count() + 1).unwrap_or(u32::MAX)
    }

    /// The column of a byte offset in characters, from 1.
    #[must_use]
    pub fn column(&self, offset: usize) -> u32 {
        let before = self.before(offset);
        let start = before.rfind('\n').map_or(0, |at| at + 1);
        u32::try_from(before[start..].chars().count() + 1).unwrap_or(u32::MAX)
    }

    /// A fault in this text.
    #[must_use]
    pub fn fault(&self, code: &'static str, span: Range<usize>, message: String, help: String) -> Fault {
        let text = self.text();
        let start = floor_boundary(text, span.start);
        let end = floor_boundary(text, span.end).max(start);
        let [message, help] = [message, help].map(shortened);
        Fault { code, span: start..end, message, help, source: self.clone() }
    }

    /// The same text with some places, and all that looks like a secret, starred out.
    fn hiding(&self, places: &[Range<usize>]) -> Self {
        let places = [places, &secrets::find(self.text())].concat();
        if places.is_empty() { self.clone() } else { Self::new(self.name(), secrets::hide(self.text(), &places)) }
    }

    fn before(&self, offset: usize) -> &str {
        &self.text()[..floor_boundary(self.text(), offset)]
    }
}

/// A text of at most [`MESSAGE_CHARS_MAX`].
fn shortened(text: String) -> String {
    match text.char_indices().nth(MESSAGE_CHARS_MAX) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}

/// The last character boundary at or before an offset.
fn floor_boundary(text: &str, offset: usize) -> usize {
    let mut at = offset.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// One fault of a project's files.
#[derive(Clone, Debug)]
pub struct Fault {
    /// Its stable code, one of [`code::ALL`].
    pub code: &'static str,
    /// The bytes of the source that it points at.
    pub span: Range<usize>,
    /// What is wrong.
    pub message: String,
    /// What was expected, or how to mend it.
    pub help: String,
    source: Source,
}

impl Fault {
    /// The file: relative to the project.
    #[must_use]
    pub fn file(&self) -> &str {
        self.source.name()
    }

    /// The line, from 1.
    #[must_use]
    pub fn line(&self) -> u32 {
        self.source.line(self.span.start)
    }

    /// The column in characters, from 1.
    #[must_use]
    pub fn column(&self) -> u32 {
        self.source.column(self.span.start)
    }

    /// The line that it points at, cut to a readable length; empty where there is no text.
    #[must_use]
    pub fn excerpt(&self) -> String {
        let line = usize::try_from(self.line()).unwrap_or(usize::MAX);
        let text = self.source.text().lines().nth(line.saturating_sub(1)).unwrap_or_default();
        text.chars().take(EXCERPT_CHARS_MAX).map(|c| if c.is_control() { ' ' } else { c }).collect()
    }

    /// The text that it points at, its first line only.
    fn pointed(&self) -> &str {
        self.source.text()[self.span.clone()].lines().next().unwrap_or_default()
    }
}

impl fmt::Display for Fault {
    /// File, line and column; what is wrong; the line with a mark under it; what was expected.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: {}", self.file(), self.line(), self.column(), self.message)?;
        let excerpt = self.excerpt();
        if !excerpt.is_empty() {
            let column = usize::try_from(self.column()).unwrap_or(1) - 1;
            let marks = self.pointed().chars().count().max(1);
            let room = excerpt.chars().count().saturating_sub(column).max(1);
            let number = self.line().to_string();
            write!(f, "\n  {number} | {excerpt}")?;
            let (gap, mark) = (" ".repeat(column.min(EXCERPT_CHARS_MAX)), "^".repeat(marks.min(room)));
            write!(f, "\n  {:width$} | {gap}{mark}", "", width = number.len())?;
        }
        if !self.help.is_empty() {
            write!(f, "\n  help: {}", self.help)?;
        }
        Ok(())
    }
}

impl std::error::Error for Fault {}

impl Diagnostic for Fault {
    fn code<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(self.code))
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        (!self.help.is_empty()).then(|| Box::new(&self.help) as Box<dyn fmt::Display + 'a>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        (!self.source.text().is_empty()).then_some(&*self.source.0 as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let label = LabeledSpan::new_with_span(None, self.span.clone());
        (!self.source.text().is_empty()).then(|| Box::new(std::iter::once(label)) as Box<dyn Iterator<Item = _>>)
    }
}

/// All faults that were found, in the order of files and lines.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    faults: Vec<Fault>,
    /// Places that no excerpt may show, by file.
    hidden: BTreeMap<String, Vec<Range<usize>>>,
}

impl Faults {
    /// No fault yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { faults: Vec::new(), hidden: BTreeMap::new() }
    }

    /// Adds a fault, up to [`FAULTS_MAX`].
    pub fn push(&mut self, fault: Fault) {
        if self.faults.len() < FAULTS_MAX {
            self.faults.push(fault);
        }
    }

    /// Keeps a place of a file out of all excerpts.
    pub(crate) fn hide(&mut self, source: &Source, span: &Range<usize>) {
        self.hidden.entry(source.name().to_owned()).or_default().push(span.clone());
    }

    /// Adds what another part found.
    pub fn extend(&mut self, others: Self) {
        others.faults.into_iter().for_each(|fault| self.push(fault));
        for (file, mut places) in others.hidden {
            self.hidden.entry(file).or_default().append(&mut places);
        }
    }

    /// True where nothing is wrong.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.faults.is_empty()
    }

    /// The faults.
    #[must_use]
    pub fn all(&self) -> &[Fault] {
        &self.faults
    }

    /// The faults by file and place, each once, fit to be shown.
    #[must_use]
    pub fn sorted(mut self) -> Self {
        let mut shown: BTreeMap<String, Source> = BTreeMap::new();
        for fault in &mut self.faults {
            let places = self.hidden.get(fault.file()).map_or(&[][..], Vec::as_slice);
            let source = shown.entry(fault.file().to_owned()).or_insert_with(|| fault.source.hiding(places));
            fault.source = source.clone();
        }
        self.faults.sort_by(|a, b| {
            (a.file(), a.span.start, a.code, &a.message).cmp(&(b.file(), b.span.start, b.code, &b.message))
        });
        self.faults.dedup_by(|a, b| a.file() == b.file() && a.span == b.span && a.message == b.message);
        self
    }

    /// Gives the value where nothing is wrong, else the faults.
    ///
    /// # Errors
    /// The faults, sorted.
    pub fn or<T>(self, value: Option<T>) -> Result<T, Self> {
        match value {
            Some(value) if self.is_empty() => Ok(value),
            Some(_) | None => Err(self.sorted()),
        }
    }
}

impl fmt::Display for Faults {
    /// Every fault, an empty line between them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.faults.iter().enumerate() {
            let gap = if index == 0 { "" } else { "\n\n" };
            write!(f, "{gap}{fault}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}

impl Diagnostic for Faults {
    fn related<'a>(&'a self) -> Option<Box<dyn Iterator<Item = &'a dyn Diagnostic> + 'a>> {
        Some(Box::new(self.faults.iter().map(|fault| fault as &dyn Diagnostic)))
    }
}

/// The name nearest to a wrong one, if any is near enough to be meant.
#[must_use]
pub fn nearest<'a>(wrong: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wrong: String = wrong.chars().take(64).collect::<String>().to_lowercase();
    let allowed = (wrong.chars().count() / 3).min(3);
    let distance = |name: &str| strsim::damerau_levenshtein(&wrong, &name.to_lowercase());
    names.into_iter().map(|name| (distance(name), name)).filter(|(far, _)| *far <= allowed).min().map(|(_, name)| name)
}

/// `did you mean …?` where a name is near, else the list of what there is.
#[must_use]
pub fn suggest<'a>(wrong: &str, names: impl IntoIterator<Item = &'a str> + Clone, none: &str) -> String {
    if let Some(name) = nearest(wrong, names.clone()) {
        return format!("did you mean `{name}`?");
    }
    let all: Vec<String> = names.into_iter().map(|name| format!("`{name}`")).collect();
    match all.len() {
        0 => none.to_owned(),
        1 => format!("there is only {}", all[0]),
        2..=40 => format!("expected one of {}", all.join(", ")),
        more => format!("expected one of {}, and {} others", all[..40].join(", "), more - 40),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_shows_its_line_with_a_mark() {
        let source = Source::new("agents/a.toml", "x = 1\nmöp = 2\n".to_owned());
        let fault = source.fault(code::UNKNOWN_KEY, 6..10, "unknown key `möp`".into(), "did you mean `map`?".into());
        let expected = "agents/a.toml:2:1: unknown key `möp`\n  2 | möp = 2\n    | ^^^\n  help: did you mean `map`?";
        assert_eq!(fault.to_string(), expected);
    }

    #[test]
    fn spans_outside_the_text_are_brought_inside() {
        let source = Source::new("a", "ä".to_owned());
        let fault = source.fault(code::SYNTAX, 1..900, String::new(), String::new());
        assert_eq!((fault.line(), fault.column(), fault.span.clone()), (1, 1, 0..2));
    }

    #[test]
    fn only_near_names_are_suggested() {
        assert_eq!(nearest("stpes", ["steps", "cost"]), Some("steps"));
        assert_eq!(nearest("lookup-order", ["lookup_order"]), Some("lookup_order"));
        assert_eq!(nearest("colour", ["steps", "cost"]), None);
    }
}
