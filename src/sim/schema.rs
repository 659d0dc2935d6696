//! Values that fit a JSON Schema: arguments drawn from the conversation, and answers that say something.
//!
//! Knows what schemas of tools and answers use: types, enums, constants, bounds, patterns, formats, `$ref` within the
//! schema, `allOf`, `anyOf`, `oneOf`. Deliberately absent: `not`, `if`, `dependent…`; what needs them may not fit.

use std::cell::Cell;

use regex_syntax::hir::{Class, Hir, HirKind};
use serde_json::{Map, Number, Value};

use crate::sim::material::{Material, compile};

/// How deep a value may nest.
const DEPTH_MAX: usize = 16;
/// Below this depth only what is required is filled in.
const OPTIONAL_DEPTH_MAX: usize = 4;
/// The most items that an array is filled with.
const ITEMS_MAX: u64 = 256;
/// The most values that are made for one schema.
const VALUES_MAX: u32 = 10_000;
/// The longest text that a bound asks for.
const TEXT_CHARS_MAX: usize = 16 * 1024;
/// The most steps in which a pattern is turned into a text.
const PATTERN_STEPS_MAX: u32 = 8 * 1024;
/// Words in the names of properties that want the whole answer.
const REPLY_NAMES: [&str; 12] = [
    "reply",
    "answer",
    "message",
    "response",
    "text",
    "body",
    "content",
    "output",
    "result",
    "draft",
    "explanation",
    "comment",
];
/// Words in the names of properties that want a number or code of something.
const CODE_NAMES: [&str; 6] = ["id", "number", "order", "code", "reference", "sku"];

/// What a value is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A tool's argument: drawn from the conversation, or there is none.
    Argument,
    /// An answer: always something.
    Answer,
}

/// Fills schemas from the conversation's material.
#[derive(Debug)]
pub(crate) struct Filler<'a> {
    material: &'a Material,
    root: &'a Value,
    purpose: Purpose,
    /// Values that may still be made: small schemas can ask for very many.
    left: Cell<u32>,
}

/// Where in the value we are.
#[derive(Clone, Copy, Debug)]
struct Place<'a> {
    name: &'a str,
    depth: usize,
    /// The index within an array, so that items differ.
    index: usize,
}

impl<'a> Filler<'a> {
    pub(crate) fn new(material: &'a Material, root: &'a Value, purpose: Purpose) -> Self {
        Self { material, root, purpose, left: Cell::new(VALUES_MAX) }
    }

    /// A value that fits the root schema; `None` where an argument can't be drawn from the conversation.
    pub(crate) fn fill(&self) -> Option<Value> {
        self.value(self.root, Place { name: "", depth: 0, index: 0 })
    }

    fn value(&self, schema: &Value, place: Place<'_>) -> Option<Value> {
        self.left.set(self.left.get().checked_sub(1)?);
        if place.depth > DEPTH_MAX {
            return None;
        }
        if let Some(value) = self.given(schema, place) {
            return Some(value);
        }
        let deeper = Place { depth: place.depth + 1, ..place };
        if let Some(target) = schema.get("$ref").and_then(Value::as_str) {
            let target = self.root.pointer(target.strip_prefix('#')?)?;
            return self.value(target, deeper);
        }
        if let Some(parts) = schema.get("allOf").and_then(Value::as_array) {
            return self.value(&self.merged(schema, parts), deeper);
        }
        for key in ["anyOf", "oneOf"] {
            if let Some(variants) = schema.get(key).and_then(Value::as_array) {
                return self.variant(schema, variants, deeper);
            }
        }
        match self.kind(schema) {
            "object" => self.object(schema, place),
            "array" => self.array(schema, place),
            "integer" => self.number(schema, place, true),
            "number" => self.number(schema, place, false),
            "boolean" => Some(Value::Bool(true)),
            "null" => Some(Value::Null),
            _ => self.text(schema, place).map(Value::String),
        }
    }

    /// Constants and enums.
    fn given(&self, schema: &Value, place: Place<'_>) -> Option<Value> {
        if let Some(value) = schema.get("const") {
            return Some(value.clone());
        }
        let values = schema.get("enum")?.as_array()?;
        let mentioned = values.iter().find(|value| value.as_str().is_some_and(|word| self.material.mentions(word)));
        let at_index = || values.get(place.index % values.len().max(1));
        (if place.index == 0 { mentioned.or_else(at_index) } else { at_index() }).cloned()
    }

    fn kind<'s>(&self, schema: &'s Value) -> &'s str {
        let named = match schema.get("type") {
            Some(Value::String(kind)) => Some(kind.as_str()),
            Some(Value::Array(kinds)) => kinds.iter().filter_map(Value::as_str).find(|kind| *kind != "null"),
            Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_)) | None => None,
        };
        let has = |key: &str| schema.get(key).is_some();
        match named {
            Some(kind) => kind,
            None if schema.get("type").is_some() => "null",
            None if has("properties") || has("required") => "object",
            None if has("items") || has("prefixItems") || has("minItems") => "array",
            None if has("minimum") || has("maximum") || has("multipleOf") => "number",
            None => "string",
        }
    }

    /// One schema that says what all parts say.
    fn merged(&self, schema: &Value, parts: &[Value]) -> Value {
        let mut whole = Map::new();
        let own = schema.as_object().into_iter().flatten().filter(|(key, _)| key.as_str() != "allOf");
        let resolved = parts.iter().map(|part| {
            let target = part.get("$ref").and_then(Value::as_str).and_then(|at| at.strip_prefix('#'));
            target.and_then(|at| self.root.pointer(at)).unwrap_or(part)
        });
        for (key, value) in own.chain(resolved.filter_map(Value::as_object).flatten()) {
            match (whole.get_mut(key), value) {
                (Some(Value::Object(known)), Value::Object(more)) => known.extend(more.clone()),
                (Some(Value::Array(known)), Value::Array(more)) => known.extend(more.iter().cloned()),
                (Some(_) | None, _) => drop(whole.insert(key.clone(), value.clone())),
            }
        }
        Value::Object(whole)
    }

    /// The first variant that can be filled; deep down the plainest, so that a recursion ends.
    fn variant(&self, schema: &Value, variants: &[Value], place: Place<'_>) -> Option<Value> {
        let is_null = |variant: &&Value| variant.get("type").and_then(Value::as_str) == Some("null");
        if place.depth > OPTIONAL_DEPTH_MAX && variants.iter().any(|variant| is_null(&variant)) {
            return Some(Value::Null);
        }
        let mut base = schema.as_object().cloned().unwrap_or_default();
        base.remove("anyOf");
        base.remove("oneOf");
        base.retain(|key, _| !matches!(key.as_str(), "$defs" | "definitions" | "description" | "title" | "default"));
        let filled = variants.iter().filter(|variant| !is_null(variant)).find_map(|variant| {
            let whole = self.merged(&Value::Object(base.clone()), std::slice::from_ref(variant));
            self.value(&whole, place)
        });
        filled.or_else(|| variants.iter().any(|variant| is_null(&variant)).then_some(Value::Null))
    }

    fn object(&self, schema: &Value, place: Place<'_>) -> Option<Value> {
        let mut filled = Map::new();
        let required = schema.get("required").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let properties = schema.get("properties").and_then(Value::as_object);
        for (name, property) in properties.into_iter().flatten() {
            let needed = required.iter().any(|known| known == name.as_str());
            let wanted = self.purpose == Purpose::Answer && place.depth <= OPTIONAL_DEPTH_MAX;
            if !needed && !wanted {
                continue;
            }
            match self.value(property, Place { name, depth: place.depth + 1, index: place.index }) {
                Some(value) => drop(filled.insert(name.clone(), value)),
                None if needed => return None,
                None => {}
            }
        }
        for name in required.iter().filter_map(Value::as_str) {
            if !filled.contains_key(name) {
                let other =
                    schema.get("additionalProperties").filter(|other| other.is_object()).unwrap_or(&Value::Null);
                filled.insert(name.to_owned(), self.value(other, Place { name, depth: place.depth + 1, index: 0 })?);
            }
        }
        Some(Value::Object(filled))
    }

    fn array(&self, schema: &Value, place: Place<'_>) -> Option<Value> {
        let bound = |key: &str| schema.get(key).and_then(Value::as_u64);
        let first = schema.get("prefixItems").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let least = bound("minItems").unwrap_or(u64::from(place.depth <= OPTIONAL_DEPTH_MAX));
        let least = least.max(u64::try_from(first.len()).unwrap_or(0));
        let count = least.min(bound("maxItems").unwrap_or(u64::MAX)).min(ITEMS_MAX);
        let rest = schema.get("items").unwrap_or(&Value::Null);
        let mut items = Vec::new();
        for index in 0..usize::try_from(count).unwrap_or(0) {
            let item = first.get(index).unwrap_or(rest);
            match self.value(item, Place { name: place.name, depth: place.depth + 1, index }) {
                Some(value) => items.push(value),
                None if u64::try_from(index).is_ok_and(|index| index >= bound("minItems").unwrap_or(0)) => break,
                None => return None,
            }
        }
        Some(Value::Array(items))
    }

    /// The first candidate within the bounds. Numbers of the text come first; there is no arithmetic on floats here.
    fn number(&self, schema: &Value, place: Place<'_>, whole: bool) -> Option<Value> {
        let bound = |key: &str| schema.get(key).and_then(Value::as_number).cloned();
        let index = i64::try_from(place.index).unwrap_or(0);
        let step = bound("multipleOf").as_ref().and_then(Number::as_i64).filter(|step| *step > 0);
        let mut candidates: Vec<Number> = Vec::new();
        let field = self.material.field(place.name).and_then(Value::as_number);
        candidates.extend(field.filter(|_| place.index == 0).cloned());
        if self.purpose == Purpose::Argument {
            candidates.extend(self.material.numbers().map(|number| Number::from(number.saturating_add(index))));
        }
        if !whole && bound("maximum").and_then(|most| most.as_i64()) == Some(1) {
            candidates.extend(Number::from_f64(0.9));
        }
        for anchor in [
            Some(1),
            near(bound("minimum")),
            near(bound("exclusiveMinimum")),
            Some(0),
            near(bound("maximum")),
            near(bound("exclusiveMaximum")),
        ] {
            let Some(anchor) = anchor else { continue };
            let down = step.map_or(anchor, |step| anchor.saturating_sub(anchor.rem_euclid(step)));
            // Items differ where the bounds leave room for it.
            for shift in [index, index.saturating_add(1), 0, 1, -1] {
                let shift = shift.saturating_mul(step.unwrap_or(1));
                candidates.push(Number::from(down.saturating_add(shift)));
            }
        }
        if !whole {
            candidates.extend(["minimum", "maximum", "multipleOf"].into_iter().filter_map(bound));
            candidates.extend([0.5, 0.1, 0.9, 0.01, 0.001].into_iter().filter_map(Number::from_f64));
        }
        candidates.into_iter().find(|candidate| fits(schema, candidate, whole)).map(Value::Number)
    }

    fn text(&self, schema: &Value, place: Place<'_>) -> Option<String> {
        let bound = |key: &str| schema.get(key).and_then(Value::as_u64).and_then(|chars| usize::try_from(chars).ok());
        let (least, most) = (bound("minLength").unwrap_or(0), bound("maxLength").unwrap_or(TEXT_CHARS_MAX));
        let within = |text: &str| (least..=most).contains(&text.chars().count());
        if let Some(pattern) = schema.get("pattern").and_then(Value::as_str) {
            let found = self.material.find(pattern).filter(|text| within(text)).map(str::to_owned);
            return found.or_else(|| (self.purpose == Purpose::Answer).then(|| of_pattern(pattern)).flatten());
        }
        if let Some(text) = schema.get("format").and_then(Value::as_str).and_then(|format| self.of_format(format)) {
            return text;
        }
        let text = match self.purpose {
            Purpose::Argument => self.argument(place.name)?,
            Purpose::Answer => self.sentence(place),
        };
        sized(text, least, most.min(TEXT_CHARS_MAX))
    }

    /// A text of a known format; `Some(None)` where an argument of it isn't in the conversation.
    fn of_format(&self, format: &str) -> Option<Option<String>> {
        let (pattern, otherwise) = match format {
            "email" | "idn-email" => (r"[\w.+-]+@[\w-]+(\.[\w-]+)+", "customer@example.com"),
            "uri" | "url" | "iri" => (r"https?://[\w./?&=%#-]+[\w/]", "https://example.com/"),
            "date" => (r"\d{4}-\d{2}-\d{2}", "2026-01-01"),
            "date-time" => (r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(Z|[+-]\d{2}:\d{2})", "2026-01-01T00:00:00Z"),
            "time" => (r"\d{2}:\d{2}:\d{2}(Z|[+-]\d{2}:\d{2})", "00:00:00Z"),
            "uuid" => ("[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", "00000000-0000-4000-8000-000000000000"),
            "ipv4" => (r"\d{1,3}(\.\d{1,3}){3}", "127.0.0.1"),
            "ipv6" => (r"[0-9a-fA-F:]*::[0-9a-fA-F:]*", "::1"),
            "hostname" => (r"[a-z0-9-]+(\.[a-z0-9-]+)+", "example.com"),
            "duration" => (r"P\d+D", "P1D"),
            _ => return None,
        };
        let found = self.material.find(pattern).map(str::to_owned);
        Some(found.or_else(|| (self.purpose == Purpose::Answer).then(|| otherwise.to_owned())))
    }

    /// A tool's argument in plain text, by what its name asks for.
    fn argument(&self, name: &str) -> Option<String> {
        let material = self.material;
        if let Some(Value::String(text)) = material.field(name) {
            return Some(text.clone());
        }
        let found = |pattern: &str| material.find(pattern).map(str::to_owned);
        if has_word(name, &["zone", "timezone", "tz"]) {
            return Some(found("[A-Z][a-z]+/[A-Z][A-Za-z_]+").unwrap_or_else(|| "UTC".to_owned()));
        }
        if has_word(name, &["expression", "formula"]) {
            return found(r"\(*\d[\d.]*\)*(\s*[-+*/%^]\s*\(*\d[\d.]*\)*)+");
        }
        if has_word(name, &["path", "file", "filename"]) {
            return material.path().map(str::to_owned);
        }
        if has_word(name, &["email", "mail"]) {
            return found(r"[\w.+-]+@[\w-]+(\.[\w-]+)+");
        }
        if has_word(name, &["url", "uri", "link"]) {
            return found(r"https?://[\w./?&=%#-]+[\w/]");
        }
        if has_word(name, &CODE_NAMES) {
            return material.code().map(str::to_owned);
        }
        let words = material.salient(6).join(" ");
        (!words.is_empty()).then_some(words)
    }

    /// A text of an answer, by what its name asks for.
    fn sentence(&self, place: Place<'_>) -> String {
        let material = self.material;
        let mut text = match material.field(place.name) {
            Some(Value::String(text)) => text.clone(),
            Some(value @ (Value::Bool(_) | Value::Number(_))) => value.to_string(),
            Some(Value::Null | Value::Array(_) | Value::Object(_)) | None => String::new(),
        };
        if text.is_empty() && !has_word(place.name, &REPLY_NAMES) {
            if has_word(place.name, &CODE_NAMES) {
                text = material.code().unwrap_or_default().to_owned();
            } else if has_word(place.name, &["subject", "title", "topic", "category", "name", "query", "tags", "tag"]) {
                text = material.salient(3).join(" ");
            }
        }
        if text.is_empty() {
            text = material.answer();
        }
        if place.index > 0 { format!("{text} ({})", place.index + 1) } else { text }
    }
}

/// True where one of the words of a property's name, `like_this` or `likeThis`, is among `words`.
fn has_word(name: &str, words: &[&str]) -> bool {
    let mut spaced = String::new();
    for c in name.chars() {
        if c.is_ascii_uppercase() {
            spaced.push('_');
        }
        spaced.push(c.to_ascii_lowercase());
    }
    spaced.split(|c: char| !c.is_alphanumeric()).any(|part| words.contains(&part))
}

/// The whole number at a bound, or next to it where it has a fraction.
fn near(bound: Option<Number>) -> Option<i64> {
    let bound = bound?;
    bound.as_i64().or_else(|| format!("{:.0}", bound.as_f64()?).parse().ok())
}

fn fits(schema: &Value, candidate: &Number, whole: bool) -> bool {
    let Some(value) = candidate.as_f64() else { return false };
    let bound = |key: &str| schema.get(key).and_then(Value::as_f64);
    let step = schema.get("multipleOf").and_then(Value::as_number);
    let stepped = match (step.and_then(Number::as_i64), step, candidate.as_i64()) {
        (_, None, _) => true,
        (Some(step), Some(_), Some(number)) => step != 0 && number % step == 0,
        // Of a fraction only itself and nothing are taken: to divide by it would need floats.
        (None, Some(step), _) => candidate == step || candidate.as_i64() == Some(0),
        (Some(_), Some(_), None) => false,
    };
    stepped
        && (!whole || candidate.is_i64() || candidate.is_u64())
        && bound("minimum").is_none_or(|least| value >= least)
        && bound("maximum").is_none_or(|most| value <= most)
        && bound("exclusiveMinimum").is_none_or(|least| value > least)
        && bound("exclusiveMaximum").is_none_or(|most| value < most)
}

/// The text with at least `least` and at most `most` characters.
fn sized(text: String, least: usize, most: usize) -> Option<String> {
    if least > most {
        return None;
    }
    let count = text.chars().count();
    if count > most {
        let cut: String = text.chars().take(most).collect();
        let word = cut.rfind(' ').filter(|at| cut[..*at].chars().count() >= least.max(1));
        return Some(word.map_or_else(|| cut.clone(), |at| cut[..at].to_owned()));
    }
    if count >= least {
        return Some(text);
    }
    let padding = " …".chars().cycle().take(least - count);
    Some(text.chars().chain(padding).collect())
}

/// A short text that fits a pattern, where this engine knows the pattern.
fn of_pattern(pattern: &str) -> Option<String> {
    let hir = regex_syntax::Parser::new().parse(pattern).ok()?;
    let (mut text, mut left) = (String::new(), PATTERN_STEPS_MAX);
    spell(&hir, &mut text, &mut left)?;
    compile(pattern)?.is_match(&text).then_some(text)
}

fn spell(hir: &Hir, text: &mut String, left: &mut u32) -> Option<()> {
    *left = left.checked_sub(1)?;
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => Some(()),
        HirKind::Literal(literal) => {
            text.push_str(std::str::from_utf8(&literal.0).ok()?);
            Some(())
        }
        HirKind::Class(class) => {
            text.push(member(class)?);
            Some(())
        }
        HirKind::Repetition(repetition) => {
            // Once is nicer than never, where both are allowed.
            let times = repetition.min.max(u32::from(repetition.max != Some(0)));
            (0..times).try_for_each(|_| spell(&repetition.sub, text, left))
        }
        HirKind::Capture(capture) => spell(&capture.sub, text, left),
        HirKind::Concat(parts) => parts.iter().try_for_each(|part| spell(part, text, left)),
        HirKind::Alternation(parts) => parts.first().and_then(|part| spell(part, text, left)),
    }
}

fn member(class: &Class) -> Option<char> {
    let has = |c: char| match class {
        Class::Unicode(class) => class.ranges().iter().any(|range| (range.start()..=range.end()).contains(&c)),
        Class::Bytes(class) => u8::try_from(c)
            .is_ok_and(|byte| class.ranges().iter().any(|range| (range.start()..=range.end()).contains(&byte))),
    };
    let first = || match class {
        Class::Unicode(class) => class.ranges().first().map(|range| range.start()),
        Class::Bytes(class) => class.ranges().first().map(|range| char::from(range.start())),
    };
    ('a'..='z').chain('0'..='9').chain('A'..='Z').find(|c| has(*c)).or_else(first)
}
