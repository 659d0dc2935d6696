//! Checks of the author's templates and expressions before anything runs: their syntax, and the names that they use.
//!
//! Deliberately absent: reading and rendering them, which the domain does.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use serde_json::Value;

use crate::domain::template::{self, TemplateError, Unread};
use crate::spec::fault::{Faults, Source, code, nearest, suggest};
use crate::spec::reader::one_line;
use crate::spec::shape::Shape;

/// The names that a template may use: each variable, with what is known of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names {
    variables: BTreeMap<&'static str, Shape>,
    /// Fields of `stages` that exist and can't be used here, and why.
    barred: BTreeMap<String, Barred>,
}

/// Why a stage's output can't be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Barred {
    /// The stage isn't among those that this one needs.
    NotNeeded,
    /// It is the stage itself.
    Itself,
    /// It needs this one.
    NeedsThis,
}

impl Names {
    /// One variable of the shape that a JSON Schema gives it; anything where there is no schema.
    pub(crate) fn of_schema(variable: &'static str, schema: Option<&Value>) -> Self {
        Self::default().with(variable, schema.map_or(Shape::Any, Shape::of_schema))
    }

    /// With one more variable.
    pub(crate) fn with(mut self, variable: &'static str, shape: Shape) -> Self {
        self.variables.insert(variable, shape);
        self
    }

    /// With a stage that can't be used here.
    pub(crate) fn barring(mut self, stage: &str, why: Barred) -> Self {
        self.barred.insert(stage.to_owned(), why);
        self
    }

    /// What is known of the value of an expression that is a plain path, such as `stages.read.output`.
    pub(crate) fn shape_of(&self, expression: &str) -> Option<&Shape> {
        let mut parts = expression.trim().split('.');
        let first = self.variables.get(parts.next()?)?;
        parts.try_fold(first, |shape, part| shape.part(part))
    }
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

/// What a text of the author is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Template,
    Expression,
}

impl Form {
    const fn name(self) -> &'static str {
        match self {
            Self::Template => "template",
            Self::Expression => "expression",
        }
    }
}

/// Finds what is wrong with a template.
pub(crate) fn check(text: &str, place: &Place<'_>, names: &Names, faults: &mut Faults) {
    check_uses(template::uses(text), (text, Form::Template), place, names, faults);
}

/// Finds what is wrong with an expression.
pub(crate) fn check_expression(text: &str, place: &Place<'_>, names: &Names, faults: &mut Faults) {
    check_uses(template::expression_uses(text), (text, Form::Expression), place, names, faults);
}

fn check_uses(
    uses: Result<BTreeSet<String>, Unread>,
    (text, form): (&str, Form),
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
            let (message, help) = unread(&error, form, span.is_some());
            report(span.unwrap_or_else(|| place.span.clone()), message, help);
        }
        Ok(used) => {
            let named = used.iter().map(|name| (name.clone(), name.split('.').map(str::to_owned).collect()));
            let in_brackets = if used.contains("stages") { bracketed(text) } else { Vec::new() };
            for (shown, path) in named.chain(in_brackets) {
                if let Some((what, help)) = unknown(&path, names) {
                    report(find(text, &shown, place), format!("the {} uses {what}", form.name()), help);
                }
            }
        }
    }
}

/// Tells why a text can't be read; names the line where the excerpt doesn't show it.
fn unread(error: &TemplateError, form: Form, is_shown: bool) -> (String, String) {
    let name = form.name();
    let help = match form {
        Form::Template => {
            "templates are minijinja: `{{ value }}`, `{% if … %} … {% endif %}`; a literal brace is `{{ '{{' }}`"
        }
        Form::Expression => "it is an expression, without braces, such as `stages.read.output.kind != 'spam'`",
    };
    match error {
        TemplateError::Syntax { line, reason } if *line > 1 && !is_shown => {
            (format!("bad {name}: {} (line {line} of the text)", one_line(reason)), help.to_owned())
        }
        TemplateError::Syntax { reason, .. } => (format!("bad {name}: {}", one_line(reason)), help.to_owned()),
        TemplateError::TooLong(bytes) => {
            let help = format!("at most {} bytes", template::TEMPLATE_BYTES_MAX);
            (format!("the {name} has {bytes} bytes"), help)
        }
        TemplateError::Undefined { .. }
        | TemplateError::TooMuchWork
        | TemplateError::TooLarge
        | TemplateError::Failed { .. } => (format!("bad {name}: {}", one_line(&error.to_string())), help.to_owned()),
    }
}

/// The uses of `stages['…']`, as they stand there and as paths; minijinja's own list of uses leaves them out.
fn bracketed(text: &str) -> Vec<(String, Vec<String>)> {
    let one = |(at, mark): (usize, &str)| {
        let rest = &text[at + mark.len()..];
        let quote = rest.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
        let (stage, after) = rest[1..].split_once(quote)?;
        let after = after.strip_prefix(']')?;
        let fields = after.strip_prefix('.').unwrap_or_default();
        let end = fields.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '.')));
        let fields = fields[..end.unwrap_or(fields.len())].trim_end_matches('.');
        let path = ["stages", stage].into_iter().chain(fields.split('.').filter(|field| !field.is_empty()));
        Some((format!("{mark}{quote}{stage}{quote}]"), path.map(str::to_owned).collect()))
    };
    text.match_indices("stages[").filter_map(one).collect()
}

/// What is wrong with a path such as `input.ticket`, if anything is: what is used, and the mend.
fn unknown(path: &[String], names: &Names) -> Option<(String, String)> {
    let (variable, fields) = path.split_first()?;
    // Functions of minijinja come up as names too.
    if ["range", "dict", "namespace", "loop", "self", "caller"].contains(&variable.as_str()) {
        return None;
    }
    let Some(mut shape) = names.variables.get(variable.as_str()) else {
        return unknown_variable(variable, names);
    };
    for (index, field) in fields.iter().enumerate() {
        match shape.part(field) {
            Some(part) => shape = part,
            None => return Some(no_part(shape, &path[..=index], field, names)),
        }
    }
    None
}

fn unknown_variable(variable: &str, names: &Names) -> Option<(String, String)> {
    // `stages.a-b` is a minus: told with `stages.a`.
    let is_rest_of_stage = |stage: &str| stage.split('-').skip(1).any(|rest| rest == variable);
    if stages(names).any(is_rest_of_stage) {
        return None;
    }
    let known = names.variables.keys().copied();
    let help = match variable {
        "item" | "index" => "only `[stage.each]` of a `map` has it".to_owned(),
        _ => suggest(variable, known, ""),
    };
    Some((format!("`{variable}`, which doesn't exist here"), help))
}

/// The stages that a template may name, and those that it may not.
fn stages(names: &Names) -> impl Iterator<Item = &str> + Clone {
    let usable = names.variables.get("stages").and_then(Shape::fields);
    usable.into_iter().flatten().chain(names.barred.keys().map(String::as_str))
}

/// A part that a value surely hasn't: `path` leads to the value.
fn no_part(shape: &Shape, path: &[String], field: &str, names: &Names) -> (String, String) {
    let whole = shown(path);
    let part = shown(&[path, &[field.to_owned()]].concat());
    match shape {
        Shape::Object(_) if whole == "stages" => no_stage(field, &part, names),
        Shape::Object(fields) => {
            let fields = fields.keys().map(String::as_str);
            let help = match nearest(field, fields.clone()) {
                Some(name) => format!("did you mean `{whole}.{name}`?"),
                None if whole == "env" => "list the variable in `env`".to_owned(),
                None if whole == "input" || whole == "args" => {
                    format!("declare `{field}` under `properties` of `[input]`")
                }
                None => suggest(field, fields, "it has no fields"),
            };
            (format!("`{part}`, which isn't declared"), help)
        }
        Shape::List(_) => {
            let help = format!("take one by its place, such as `{whole}[0]`, or go through all of them");
            (format!("`{part}`, but `{whole}` is a list"), help)
        }
        Shape::Plain(what) => {
            let is_output = path.first().is_some_and(|first| first == "stages") && path.len() == 3;
            let help = if is_output {
                format!("use `{whole}` whole, or give that stage a JSON Schema under `[stage.output]`")
            } else {
                format!("use `{whole}` whole")
            };
            (format!("`{part}`, but `{whole}` is {what}"), help)
        }
        Shape::Any => (format!("`{part}`"), String::new()),
    }
}

fn no_stage(stage: &str, part: &str, names: &Names) -> (String, String) {
    let with_minus = stages(names).find(|known| known.strip_prefix(stage).is_some_and(|rest| rest.starts_with('-')));
    match (names.barred.get(stage), with_minus) {
        (Some(Barred::NotNeeded), _) => {
            (format!("`{part}`, a stage that this one doesn't need"), format!("add `\"{stage}\"` to `needs`"))
        }
        (Some(Barred::Itself), _) => {
            (format!("`{part}`, the stage itself"), "a stage can use what came before it only".to_owned())
        }
        (Some(Barred::NeedsThis), _) => {
            let help = format!("`{stage}` needs this stage: it comes later");
            (format!("`{part}`, which isn't over yet"), help)
        }
        (None, Some(whole)) => {
            let whole = shown(&["stages".to_owned(), whole.to_owned()]);
            (format!("`{part}`, which is no stage"), format!("write `{whole}`: a `-` between names is a minus"))
        }
        (None, None) => {
            let help = match nearest(stage, stages(names)) {
                Some(near) => format!("did you mean `{}`?", shown(&["stages".to_owned(), near.to_owned()])),
                None => suggest(stage, stages(names), "no stage comes before this one"),
            };
            (format!("`{part}`, which is no stage"), help)
        }
    }
}

/// A path as a template writes it.
fn shown(path: &[String]) -> String {
    path.iter().fold(String::new(), |text, part| match (text.is_empty(), part.contains('-')) {
        (true, _) => part.clone(),
        (false, true) => format!("{text}['{part}']"),
        (false, false) => format!("{text}.{part}"),
    })
}

/// Where a name first stands in a template's file.
fn find(text: &str, name: &str, place: &Place<'_>) -> Range<usize> {
    let (within, start) = match place.exact {
        Exact::No => (place.source.text().get(place.span.clone()).unwrap_or_default(), place.span.start),
        Exact::Yes => (text, 0),
    };
    let ends = |at: usize| {
        let next = within[at + name.len()..].chars().next();
        next.is_none_or(|next| !(next.is_alphanumeric() || next == '_'))
    };
    let at = within.match_indices(name).map(|(at, _)| at).find(|at| ends(*at)).or_else(|| within.find(name));
    at.map_or(place.span.clone(), |at| start + at..start + at + name.len())
}
