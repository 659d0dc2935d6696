//! Reads a parsed TOML table by its description: first the shape, which finds every fault of it, then the values.
//!
//! Invariant: a value that the shape pass found fault with is absent for the value pass, so that no fault is told twice.

use std::ops::Range;

use serde_json::{Map, Number, Value};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::spec::fault::{Faults, Source, code, nearest, suggest};
use crate::spec::keys::{Kind, Section};
use crate::units::{Millis, Money, Timestamp, TokenPrice};

/// A value with its place in the source.
#[derive(Clone, Debug)]
pub(crate) struct At<T> {
    /// The value.
    pub(crate) value: T,
    /// Its bytes in the source.
    pub(crate) span: Range<usize>,
}

/// A value as its kind reads it.
#[derive(Clone, Debug)]
enum Parsed {
    Text(String),
    Texts(Vec<At<String>>),
    Boolean(bool),
    Count(u64),
    Integer(i64),
    Number(Number),
    Money(Money),
    Price(TokenPrice),
    Duration(Millis),
    Durations(Millis, Millis),
    Instant(Timestamp),
    Nested,
    Json(Value),
}

/// Why a value can't be read.
struct Problem {
    code: &'static str,
    span: Range<usize>,
    message: String,
    help: String,
}

/// Parses a file, or reports its syntax error.
pub(crate) fn parse<'a>(source: &'a Source, faults: &mut Faults) -> Option<Spanned<DeTable<'a>>> {
    match DeTable::parse(source.text()) {
        Ok(table) => Some(table),
        Err(error) => {
            let span = error.span().unwrap_or(0..0);
            let help = "mend this first: the rest of the file is read after it";
            faults.push(source.fault(code::SYNTAX, span, one_line(error.message()), help.to_owned()));
            None
        }
    }
}

/// The text on one line.
pub(crate) fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A table of the file with its description: what the value pass reads from.
#[derive(Clone)]
pub(crate) struct Node<'a> {
    /// The file.
    pub(crate) source: &'a Source,
    /// Where the table begins: its header or its braces.
    pub(crate) span: Range<usize>,
    table: &'a DeTable<'a>,
    section: &'static Section,
    path: String,
}

impl<'a> Node<'a> {
    /// The file's root; finds every fault of its shape.
    pub(crate) fn root(
        source: &'a Source,
        table: &'a Spanned<DeTable<'a>>,
        section: &'static Section,
        faults: &mut Faults,
    ) -> Self {
        let node = Self { source, span: 0..0, table: table.get_ref(), section, path: String::new() };
        node.check(faults);
        node
    }

    /// Reports a fault at a place of this file.
    pub(crate) fn fault(
        &self,
        faults: &mut Faults,
        code: &'static str,
        span: &Range<usize>,
        message: String,
        help: impl Into<String>,
    ) {
        faults.push(self.source.fault(code, span.clone(), message, help.into()));
    }

    /// Where a key's value is, or else where the table begins.
    pub(crate) fn span_of(&self, key: &str) -> Range<usize> {
        self.table.get(key).map_or_else(|| self.span.clone(), Spanned::span)
    }

    /// Where a key itself is, or else where the table begins.
    pub(crate) fn key_span(&self, key: &str) -> Range<usize> {
        self.table.get_key_value(key).map_or_else(|| self.span.clone(), |(name, _)| name.span())
    }

    /// True where the key is there, whatever its value.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// True where the key is there, and is one of this table's.
    pub(crate) fn has_described(&self, key: &str) -> bool {
        self.section.field(key).is_some() && self.has(key)
    }

    /// A text.
    pub(crate) fn text(&self, key: &str) -> Option<At<String>> {
        self.read(key, |parsed| if let Parsed::Text(text) = parsed { Some(text) } else { None })
    }

    /// A list of texts.
    pub(crate) fn texts(&self, key: &str) -> Option<At<Vec<At<String>>>> {
        self.read(key, |parsed| if let Parsed::Texts(texts) = parsed { Some(texts) } else { None })
    }

    /// True or false.
    pub(crate) fn boolean(&self, key: &str) -> Option<bool> {
        self.read(key, |parsed| if let Parsed::Boolean(is) = parsed { Some(is) } else { None }).map(|at| at.value)
    }

    /// A whole number.
    pub(crate) fn count(&self, key: &str) -> Option<At<u64>> {
        self.read(key, |parsed| if let Parsed::Count(count) = parsed { Some(count) } else { None })
    }

    /// A whole number that fits 32 bits, as its description promises.
    pub(crate) fn count_u32(&self, key: &str) -> Option<At<u32>> {
        let At { value, span } = self.count(key)?;
        Some(At { value: u32::try_from(value).ok()?, span })
    }

    /// A whole number of either sign.
    pub(crate) fn integer(&self, key: &str) -> Option<i64> {
        self.read(key, |parsed| if let Parsed::Integer(number) = parsed { Some(number) } else { None })
            .map(|at| at.value)
    }

    /// A number, as the author wrote it.
    pub(crate) fn number(&self, key: &str) -> Option<Number> {
        self.read(key, |parsed| if let Parsed::Number(number) = parsed { Some(number) } else { None })
            .map(|at| at.value)
    }

    /// Dollars.
    pub(crate) fn money(&self, key: &str) -> Option<At<Money>> {
        self.read(key, |parsed| if let Parsed::Money(money) = parsed { Some(money) } else { None })
    }

    /// Dollars for 1,000,000 tokens.
    pub(crate) fn price(&self, key: &str) -> Option<At<TokenPrice>> {
        self.read(key, |parsed| if let Parsed::Price(price) = parsed { Some(price) } else { None })
    }

    /// A length of time.
    pub(crate) fn duration(&self, key: &str) -> Option<At<Millis>> {
        self.read(key, |parsed| if let Parsed::Duration(length) = parsed { Some(length) } else { None })
    }

    /// A shortest and a longest length of time.
    pub(crate) fn durations(&self, key: &str) -> Option<(Millis, Millis)> {
        self.read(key, |parsed| if let Parsed::Durations(min, max) = parsed { Some((min, max)) } else { None })
            .map(|at| at.value)
    }

    /// A point in time.
    pub(crate) fn instant(&self, key: &str) -> Option<At<Timestamp>> {
        self.read(key, |parsed| if let Parsed::Instant(at) = parsed { Some(at) } else { None })
    }

    /// A JSON Schema or other table, as JSON, keys in the author's order.
    pub(crate) fn json(&self, key: &str) -> Option<At<Value>> {
        self.read(key, |parsed| if let Parsed::Json(json) = parsed { Some(json) } else { None })
    }

    /// The place inside a key's value that a JSON pointer names, as near as there is one.
    pub(crate) fn pointed(&self, key: &str, pointer: &str) -> Range<usize> {
        let Some(mut value) = self.table.get(key) else { return self.span.clone() };
        for part in pointer.split('/').skip(1) {
            let part = part.replace("~1", "/").replace("~0", "~");
            let inner = match value.get_ref() {
                DeValue::Table(table) => table.get(part.as_str()),
                DeValue::Array(items) => part.parse().ok().and_then(|index: usize| items.get(index)),
                DeValue::String(_)
                | DeValue::Integer(_)
                | DeValue::Float(_)
                | DeValue::Boolean(_)
                | DeValue::Datetime(_) => None,
            };
            let Some(inner) = inner else { break };
            value = inner;
        }
        value.span()
    }

    /// A table inside this one.
    pub(crate) fn section(&self, key: &str) -> Option<Node<'a>> {
        let Kind::Table(section) = self.kind(key)? else { return None };
        self.child(self.table.get(key)?, section, self.path_of(key))
    }

    /// The tables of a list.
    pub(crate) fn sections(&self, key: &str) -> Vec<Node<'a>> {
        let Some(Kind::Tables(section)) = self.kind(key) else { return Vec::new() };
        let items = self.table.get(key).and_then(|value| value.get_ref().as_array());
        let items = items.into_iter().flat_map(|items| items.iter());
        items.filter_map(|item| self.child(item, section, self.path_of(key))).collect()
    }

    /// Tables by name, in the file's order.
    pub(crate) fn sections_by_name(&self, key: &str) -> Vec<(At<String>, Node<'a>)> {
        let Some(Kind::TablesByName(section)) = self.kind(key) else { return Vec::new() };
        let Some(table) = self.table.get(key).and_then(|value| value.get_ref().as_table()) else { return Vec::new() };
        let named = |(name, value): (&Spanned<_>, &'a Spanned<DeValue<'a>>)| {
            let name = At { span: name.span(), value: String::from(AsRef::<str>::as_ref(name.get_ref())) };
            let path = format!("{}.{}", self.path_of(key), name.value);
            Some((name, self.child(value, section, path)?))
        };
        let mut nodes: Vec<_> = table.iter().filter_map(named).collect();
        nodes.sort_by_key(|(name, _)| name.span.start);
        nodes
    }

    /// Texts by name, in the file's order.
    pub(crate) fn texts_by_name(&self, key: &str) -> Vec<(At<String>, At<String>)> {
        let Some(table) = self.table.get(key).and_then(|value| value.get_ref().as_table()) else { return Vec::new() };
        let pair = |(name, value): (&Spanned<_>, &Spanned<DeValue<'_>>)| {
            let text = value.get_ref().as_str()?.to_owned();
            let name = At { span: name.span(), value: String::from(AsRef::<str>::as_ref(name.get_ref())) };
            Some((name, At { value: text, span: value.span() }))
        };
        let mut texts: Vec<_> = table.iter().filter_map(pair).collect();
        texts.sort_by_key(|(name, _)| name.span.start);
        texts
    }

    fn read<T>(&self, key: &str, pick: impl FnOnce(Parsed) -> Option<T>) -> Option<At<T>> {
        let kind = self.kind(key)?;
        let value = self.table.get(key)?;
        let parsed = read(&kind, key, value).ok()?;
        pick(parsed).map(|picked| At { value: picked, span: value.span() })
    }

    fn kind(&self, key: &str) -> Option<Kind> {
        let field = self.section.field(key);
        debug_assert!(field.is_some(), "`{key}` is read but not described");
        field.map(|field| field.kind)
    }

    fn child(&self, value: &'a Spanned<DeValue<'a>>, section: &'static Section, path: String) -> Option<Self> {
        let table = value.get_ref().as_table()?;
        Some(Self { source: self.source, span: value.span(), table, section, path })
    }

    fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// Where this table is, in words: `at the top level`, `in [limits]`.
    fn place(&self) -> String {
        if self.path.is_empty() { "at the top level".to_owned() } else { format!("in `[{}]`", self.path) }
    }

    /// The shape pass: unknown and missing keys, and every value by its kind.
    fn check(&self, faults: &mut Faults) {
        for (key, value) in self.table {
            let name: &str = key.get_ref();
            match self.section.field(name) {
                Some(field) => self.check_value(name, &field.kind, value, faults),
                None => {
                    let keys = self.section.fields.iter().map(|field| field.key);
                    let message = format!("unknown key `{name}` {}", self.place());
                    self.fault(faults, code::UNKNOWN_KEY, &key.span(), message, suggest(name, keys, ""));
                }
            }
        }
        for field in self.section.fields.iter().filter(|field| field.required && !self.has(field.key)) {
            let message = format!("`{}` is missing {}", field.key, self.place());
            let is_table = matches!(field.kind, Kind::Table(_));
            let shown = if is_table { format!("[{}]", self.path_of(field.key)) } else { field.key.to_owned() };
            let help = format!("add `{shown}`: {}", decapitalised(field.doc));
            self.fault(faults, code::MISSING_KEY, &self.span, message, help);
        }
    }

    fn check_value(&self, key: &str, kind: &Kind, value: &'a Spanned<DeValue<'a>>, faults: &mut Faults) {
        if let Kind::Elsewhere(place) = kind {
            let message = format!("`{}` can't be set {}", key, self.place());
            return self.fault(faults, code::CONFLICT, &self.key_span(key), message, *place);
        }
        if let Err(Problem { code, span, message, help }) = read(kind, key, value) {
            return self.fault(faults, code, &span, message, help);
        }
        match kind {
            Kind::Table(_) => self.section(key).iter().for_each(|node| node.check(faults)),
            Kind::Tables(_) => self.sections(key).iter().for_each(|node| node.check(faults)),
            Kind::TablesByName(_) => self.sections_by_name(key).iter().for_each(|(_, node)| node.check(faults)),
            Kind::Text | Kind::AnyText | Kind::Choice { .. } | Kind::Boolean => {}
            Kind::Texts { .. } | Kind::TextsOrText { .. } => {}
            Kind::Count { .. } | Kind::Integer | Kind::Number { .. } | Kind::Money | Kind::Price => {}
            Kind::Duration { .. } | Kind::Durations { .. } | Kind::Instant | Kind::TextsByName => {}
            Kind::JsonSchema | Kind::Json | Kind::Value | Kind::Elsewhere(_) => {}
        }
    }
}

/// Reads one value by its kind: the one place that decides what a key takes.
fn read(kind: &Kind, key: &str, value: &Spanned<DeValue<'_>>) -> Result<Parsed, Problem> {
    let reading = Reading { key, value };
    match *kind {
        Kind::Text => reading.text().and_then(|text| reading.not_empty(text)).map(Parsed::Text),
        Kind::AnyText => reading.text().map(Parsed::Text),
        Kind::Choice { now, later } => reading.choice(now, later).map(Parsed::Text),
        Kind::Texts { min, max } => reading.texts(min, max).map(Parsed::Texts),
        Kind::TextsOrText { .. } if value.get_ref().as_str().is_some() => {
            reading.text().and_then(|text| reading.not_empty(text)).map(Parsed::Text)
        }
        Kind::TextsOrText { max } => reading.texts(1, max).map(Parsed::Texts),
        Kind::Boolean => {
            value.get_ref().as_bool().map(Parsed::Boolean).ok_or_else(|| reading.wrong("`true` or `false`"))
        }
        Kind::Count { min, max } => reading.count(min, max).map(Parsed::Count),
        Kind::Integer => {
            let number = reading.integer()?;
            i64::try_from(number).map(Parsed::Integer).map_err(|_| reading.out_of_range("a number of 64 bits"))
        }
        Kind::Number { max } => reading.number(max).map(Parsed::Number),
        Kind::Money => reading.parsed("dollars as text, such as `\"$0.05\"`", Money::parse).map(Parsed::Money),
        Kind::Price => reading
            .parsed("dollars for 1,000,000 tokens as text, such as `\"0.25\"`", |text| {
                TokenPrice::parse_per_million(text)
            })
            .map(Parsed::Price),
        Kind::Duration { min, max } => reading.duration(min, max).map(Parsed::Duration),
        Kind::Durations { max } => reading.durations(max).map(|(min, max)| Parsed::Durations(min, max)),
        Kind::Instant => reading.instant().map(Parsed::Instant),
        Kind::Table(_) | Kind::TablesByName(_) => reading.nested(),
        Kind::Tables(_) => reading.tables(),
        Kind::TextsByName => reading.texts_by_name(),
        Kind::JsonSchema | Kind::Json => reading.nested().and_then(|_| to_json(value)).map(Parsed::Json),
        Kind::Value if value.get_ref().as_str().is_some() => reading.text().map(Value::String).map(Parsed::Json),
        Kind::Value => reading.text_or_table().and_then(|_| to_json(value)).map(Parsed::Json),
        Kind::Elsewhere(place) => Err(reading.problem(code::CONFLICT, String::new(), place.to_owned())),
    }
}

/// A value that is being read, and its key for the messages.
struct Reading<'r, 'i> {
    key: &'r str,
    value: &'r Spanned<DeValue<'i>>,
}

impl Reading<'_, '_> {
    fn problem(&self, code: &'static str, message: String, help: String) -> Problem {
        Problem { code, span: self.value.span(), message, help }
    }

    fn wrong(&self, expected: &str) -> Problem {
        let message = format!("`{}` can't be {}", self.key, type_name(self.value.get_ref()));
        self.problem(code::WRONG_TYPE, message, format!("expected {expected}"))
    }

    fn out_of_range(&self, expected: &str) -> Problem {
        self.problem(code::OUT_OF_RANGE, format!("`{}` is out of range", self.key), format!("expected {expected}"))
    }

    fn text(&self) -> Result<String, Problem> {
        self.value.get_ref().as_str().map(str::to_owned).ok_or_else(|| self.wrong("a text, such as `\"…\"`"))
    }

    fn not_empty(&self, text: String) -> Result<String, Problem> {
        if text.trim().is_empty() {
            return Err(self.problem(
                code::BAD_VALUE,
                format!("`{}` is empty", self.key),
                "write a text, or leave the key out".into(),
            ));
        }
        Ok(text)
    }

    fn choice(&self, now: &[&str], later: &[&str]) -> Result<String, Problem> {
        let text = self.text()?;
        if now.contains(&text.as_str()) {
            return Ok(text);
        }
        let choices = now.iter().copied();
        if later.contains(&text.as_str()) {
            let message = format!("`{} = \"{text}\"` is not supported by this version", self.key);
            let all: Vec<String> = choices.map(|word| format!("`{word}`")).collect();
            return Err(self.problem(code::UNSUPPORTED, message, format!("supported: {}", all.join(", "))));
        }
        let message = format!("`{text}` is no value of `{}`", self.key);
        let help = match nearest(&text, now.iter().chain(later).copied()) {
            Some(near) if later.contains(&near) => {
                format!("did you mean `{near}`? this version doesn't support it; {}", suggest("", choices, ""))
            }
            Some(_) | None => suggest(&text, choices, ""),
        };
        Err(self.problem(code::BAD_VALUE, message, help))
    }

    fn texts(&self, min: usize, max: usize) -> Result<Vec<At<String>>, Problem> {
        let wrong = || self.wrong("a list of texts, such as `[\"…\"]`");
        let items = self.value.get_ref().as_array().ok_or_else(wrong)?;
        if items.len() < min || items.len() > max {
            let what = if items.is_empty() { "is empty".to_owned() } else { format!("has {} items", items.len()) };
            let message = format!("`{}` {what}", self.key);
            return Err(self.problem(code::OUT_OF_RANGE, message, format!("expected {min} to {max} texts")));
        }
        let item = |item: &Spanned<DeValue<'_>>| {
            let reading = Reading { key: self.key, value: item };
            let text = reading.text()?;
            Ok(At { value: text, span: item.span() })
        };
        items.iter().map(item).collect()
    }

    fn integer(&self) -> Result<i128, Problem> {
        let wrong = || self.wrong("a whole number, such as `12`");
        let integer = self.value.get_ref().as_integer().ok_or_else(wrong)?;
        i128::from_str_radix(integer.as_str(), integer.radix()).map_err(|_| self.out_of_range("a smaller number"))
    }

    fn count(&self, min: u64, max: u64) -> Result<u64, Problem> {
        let number = self.integer()?;
        let count = u64::try_from(number).ok().filter(|count| (min..=max).contains(count));
        count.ok_or_else(|| {
            let (min, max) = (crate::units::grouped(min), crate::units::grouped(max));
            let message = format!("`{}` is {number}", self.key);
            self.problem(code::OUT_OF_RANGE, message, format!("expected {min} to {max}"))
        })
    }

    fn number(&self, max: u32) -> Result<Number, Problem> {
        let expected = format!("a number from 0 to {max}");
        let number = match self.value.get_ref() {
            DeValue::Integer(_) => Number::from(self.count(0, u64::from(max))?),
            DeValue::Float(float) => {
                let number =
                    float.as_str().parse::<f64>().ok().filter(|number| (0.0..=f64::from(max)).contains(number));
                number.and_then(Number::from_f64).ok_or_else(|| self.out_of_range(&expected))?
            }
            DeValue::String(_) | DeValue::Boolean(_) | DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => {
                return Err(self.wrong(&expected));
            }
        };
        Ok(number)
    }

    fn parsed<T, E: std::fmt::Display>(
        &self,
        expected: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Result<T, Problem> {
        let text = self.value.get_ref().as_str().ok_or_else(|| self.wrong(expected))?;
        parse(text).map_err(|error| self.problem(code::BAD_VALUE, error.to_string(), format!("expected {expected}")))
    }

    fn duration(&self, min: Millis, max: Millis) -> Result<Millis, Problem> {
        let length = self.parsed("a length of time as text, such as `\"30s\"`", Millis::parse)?;
        if length < min || length > max {
            let message = format!("`{}` is {length}", self.key);
            return Err(self.problem(code::OUT_OF_RANGE, message, format!("expected {min} to {max}")));
        }
        Ok(length)
    }

    fn durations(&self, max: Millis) -> Result<(Millis, Millis), Problem> {
        let range = |text: &str| {
            let (first, last) = text.split_once("..").unwrap_or((text, text));
            Millis::parse(first).and_then(|first| Ok((first, Millis::parse(last)?)))
        };
        let (first, last) = self.parsed("a shortest and a longest time as text, such as `\"200ms..5s\"`", range)?;
        if first > last || last > max {
            let message = format!("`{}` goes from {first} to {last}", self.key);
            return Err(self.problem(code::OUT_OF_RANGE, message, format!("expected a range up to {max}")));
        }
        Ok((first, last))
    }

    fn instant(&self) -> Result<Timestamp, Problem> {
        let expected = "a date and time with an offset, such as `2026-12-31T18:00:00Z`";
        let text = match self.value.get_ref() {
            DeValue::Datetime(datetime) => datetime.to_string(),
            DeValue::String(text) => text.to_string(),
            DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_) | DeValue::Array(_) | DeValue::Table(_) => {
                return Err(self.wrong(expected));
            }
        };
        let instant = text.parse::<jiff::Timestamp>().ok().and_then(|at| u64::try_from(at.as_millisecond()).ok());
        instant.map(Timestamp).ok_or_else(|| {
            self.problem(code::BAD_VALUE, format!("`{text}` is no point in time"), format!("expected {expected}"))
        })
    }

    fn nested(&self) -> Result<Parsed, Problem> {
        self.value.get_ref().as_table().map(|_| Parsed::Nested).ok_or_else(|| self.wrong("a table"))
    }

    fn text_or_table(&self) -> Result<Parsed, Problem> {
        self.value.get_ref().as_table().map(|_| Parsed::Nested).ok_or_else(|| self.wrong("a text or a table"))
    }

    fn tables(&self) -> Result<Parsed, Problem> {
        let wrong = || self.wrong(&format!("tables, each under `[[{}]]`", self.key));
        let items = self.value.get_ref().as_array().ok_or_else(wrong)?;
        items.iter().all(|item| item.get_ref().is_table()).then_some(Parsed::Nested).ok_or_else(wrong)
    }

    fn texts_by_name(&self) -> Result<Parsed, Problem> {
        let table = self.value.get_ref().as_table().ok_or_else(|| self.wrong("a table of texts"))?;
        for (name, value) in table {
            Reading { key: name.get_ref(), value }.text()?;
        }
        Ok(Parsed::Nested)
    }
}

/// A text with a small first letter, unless it begins with an abbreviation.
fn decapitalised(text: &str) -> String {
    let mut letters = text.chars();
    match (letters.next(), letters.next()) {
        (Some(first), Some(second)) if second.is_lowercase() || second == ' ' => {
            format!("{}{second}{}", first.to_lowercase(), letters.as_str())
        }
        (Some(_) | None, Some(_) | None) => text.to_owned(),
    }
}

/// A TOML type in words.
fn type_name(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a point",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// TOML as JSON, keys in the author's order. Recursion is bounded by the TOML parser's own bound.
fn to_json(value: &Spanned<DeValue<'_>>) -> Result<Value, Problem> {
    let reading = Reading { key: "this value", value };
    let no_json = |what: &str| reading.problem(code::BAD_VALUE, format!("JSON has no {what}"), String::new());
    Ok(match value.get_ref() {
        DeValue::String(text) => Value::String(text.to_string()),
        DeValue::Integer(_) => {
            let number = reading.integer()?;
            let small = i64::try_from(number).map(Number::from).or_else(|_| u64::try_from(number).map(Number::from));
            Value::Number(small.map_err(|_| reading.out_of_range("a number of 64 bits"))?)
        }
        DeValue::Float(float) => {
            let number = float.as_str().parse().ok().and_then(Number::from_f64);
            Value::Number(number.ok_or_else(|| no_json("infinite number"))?)
        }
        DeValue::Boolean(is) => Value::Bool(*is),
        DeValue::Datetime(_) => return Err(no_json("date: write it as text")),
        DeValue::Array(items) => Value::Array(items.iter().map(to_json).collect::<Result<_, _>>()?),
        DeValue::Table(table) => {
            let mut entries: Vec<_> = table.iter().collect();
            entries.sort_by_key(|(name, _)| name.span().start);
            let pair = |(name, value): (&Spanned<std::borrow::Cow<'_, str>>, _)| {
                Ok((name.get_ref().to_string(), to_json(value)?))
            };
            Value::Object(entries.into_iter().map(pair).collect::<Result<Map<_, _>, Problem>>()?)
        }
    })
}
