//! Checks of the author's templates before anything runs: their syntax, and the names that they use.
//!
//! Deliberately absent: reading and rendering them, which the domain does.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use serde_json::Value;

use crate::domain::template::{self, TemplateError, Unread};
use crate::spec::fault::{Faults, Source, code, nearest, suggest};
use crate::spec::reader::one_line;

/// The names that a template may use: each variable, with its fields where they are known.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names(BTreeMap<&'static str, Option<BTreeSet<String>>>);

impl Names {
    /// One variable of the shape that a JSON Schema gives it; anything where there is no schema.
    pub(crate) fn of_schema(variable: &'static str, schema: Option<&Value>) -> Self {
        Self(BTreeMap::from([(variable, schema.and_then(closed_properties))]))
    }

    /// With one more variable, of which nothing is known.
    pub(crate) fn open(mut self, variable: &'static str) -> Self {
        self.0.insert(variable, None);
        self
    }

    /// With one more variable, which has these fields.
    pub(crate) fn with(mut self, variable: &'static str, fields: impl IntoIterator<Item = String>) -> Self {
        self.0.insert(variable, Some(fields.into_iter().collect()));
        self
    }
}

/// The properties of an object's schema, where it says nothing that could add others.
fn closed_properties(schema: &Value) -> Option<BTreeSet<String>> {
    const OPEN: [&str; 8] =
        ["$ref", "$dynamicRef", "allOf", "anyOf", "oneOf", "if", "patternProperties", "propertyNames"];
    let object = schema.as_object()?;
    let more = object.get("additionalProperties").is_some_and(|more| *more != Value::Bool(false));
    if more || OPEN.iter().any(|key| object.contains_key(*key)) {
        return None;
    }
    Some(object.get("properties")?.as_object()?.keys().cloned().collect())
}

/// Where a template is: the file, the bytes of it there, and true where those bytes are the template itself.
#[derive(Clone, Debug)]
pub(crate) struct Place<'a> {
    /// The file.
    pub(crate) source: &'a Source,
    /// The template's bytes in it.
    pub(crate) span: Range<usize>,
    /// A prompt file is the template itself; a TOML text may be escaped, so that only the whole can be shown.
    pub(crate) exact: Exact,
}

/// Whether offsets within the template are offsets within its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exact {
    /// They are.
    Yes,
    /// They aren't.
    No,
}

/// Finds what is wrong with a template.
pub(crate) fn check(text: &str, place: &Place<'_>, names: &Names, faults: &mut Faults) {
    check_uses(template::uses(text), text, place, names, faults);
}

/// Finds what is wrong with an expression.
pub(crate) fn check_expression(text: &str, place: &Place<'_>, names: &Names, faults: &mut Faults) {
    check_uses(template::expression_uses(text), text, place, names, faults);
}

fn check_uses(
    uses: Result<BTreeSet<String>, Unread>,
    text: &str,
    place: &Place<'_>,
    names: &Names,
    faults: &mut Faults,
) {
    let mut report = |span: Range<usize>, message: String, help: String| {
        faults.push(place.source.fault(code::BAD_TEMPLATE, span, message, help));
    };
    match uses {
        Err(Unread { error, range }) => {
            let span = range.filter(|_| place.exact == Exact::Yes);
            let (message, help) = unread(&error, span.is_some());
            report(span.unwrap_or_else(|| place.span.clone()), message, help);
        }
        Ok(used) => {
            for name in used {
                if let Some((message, help)) = unknown(&name, names) {
                    report(find(text, &name, place), message, help);
                }
            }
        }
    }
}

/// Tells why a template can't be read; names the line where the excerpt doesn't show it.
fn unread(error: &TemplateError, is_shown: bool) -> (String, String) {
    let help = "templates are minijinja: `{{ value }}`, `{% if … %} … {% endif %}`; a literal brace is `{{ '{{' }}`";
    match error {
        TemplateError::Syntax { line, reason } if *line > 1 && !is_shown => {
            (format!("bad template: {} (line {line} of the text)", one_line(reason)), help.to_owned())
        }
        TemplateError::Syntax { reason, .. } => (format!("bad template: {}", one_line(reason)), help.to_owned()),
        TemplateError::TooLong(bytes) => {
            let help = format!("at most {} bytes", template::TEMPLATE_BYTES_MAX);
            (format!("the template has {bytes} bytes"), help)
        }
        TemplateError::Undefined { .. }
        | TemplateError::TooMuchWork
        | TemplateError::TooLarge
        | TemplateError::Failed { .. } => (format!("bad template: {}", one_line(&error.to_string())), help.to_owned()),
    }
}

/// What is wrong with a name such as `input.ticket`, if anything is.
fn unknown(name: &str, names: &Names) -> Option<(String, String)> {
    let mut parts = name.split('.');
    let variable = parts.next()?;
    // Functions of minijinja come up as names too.
    if ["range", "dict", "namespace", "loop", "self", "caller"].contains(&variable) {
        return None;
    }
    let Some(fields) = names.0.get(variable) else {
        let known = names.0.keys().copied();
        let message = format!("the template uses `{variable}`, which doesn't exist here");
        return Some((message, suggest(variable, known, "")));
    };
    let (fields, field) = (fields.as_ref()?, parts.next()?);
    if fields.contains(field) {
        return None;
    }
    let message = format!("the template uses `{variable}.{field}`, which isn't declared");
    let help = match nearest(field, fields.iter().map(String::as_str)) {
        Some(name) => format!("did you mean `{variable}.{name}`?"),
        None if variable == "env" => "list the variable in `env`".to_owned(),
        None => format!("declare `{field}` under `properties` of `[input]`"),
    };
    Some((message, help))
}

/// Where a name first stands in a template's file.
fn find(text: &str, name: &str, place: &Place<'_>) -> Range<usize> {
    if place.exact == Exact::No {
        let within = place.source.text().get(place.span.clone()).and_then(|raw| raw.find(name));
        return within.map_or(place.span.clone(), |at| place.span.start + at..place.span.start + at + name.len());
    }
    text.find(name).map_or(place.span.clone(), |at| at..at + name.len())
}
