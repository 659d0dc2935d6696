//! Templates: minijinja, strict, without a clock. Prompts, tool arguments, URLs and headers are made with it.
//!
//! Invariants: an undefined value is a fault, never an empty text; work, nesting and output are bounded; the same
//! template and context give the same text. Objects and lists print as JSON.
//! Deliberately absent: files (`include` finds nothing), clock, randomness, environment variables, and caching of
//! compiled templates: to compile one takes microseconds. Who writes a template is trusted, who fills it isn't:
//! memory that a template doubles by itself is bounded by its fuel only.

use std::collections::BTreeSet;
use std::io;
use std::ops::Range;
use std::sync::LazyLock;

use minijinja::{Environment, ErrorKind, Expression, Output, State, UndefinedBehavior, Value as Rendered};
use serde_json::Value;

/// The longest template that is read.
pub const TEMPLATE_BYTES_MAX: usize = 256 * 1024;
/// The most that a template may render to.
pub const OUTPUT_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Instructions that one rendering may take.
const FUEL_MAX: u64 = 200_000;
/// Nested calls of macros and blocks.
const RECURSION_MAX: usize = 64;
/// How much of an offending expression an error quotes.
const QUOTE_CHARS_MAX: usize = 80;

static PLAIN: LazyLock<Environment<'static>> = LazyLock::new(|| environment(Escape::Plain));
static URL: LazyLock<Environment<'static>> = LazyLock::new(|| environment(Escape::Url));
static JSON: LazyLock<Environment<'static>> = LazyLock::new(|| environment(Escape::Json));

/// How values, though not the template's own text, are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Escape {
    /// As they are; objects and lists as JSON.
    Plain,
    /// Percent-encoded, all but `A-Z a-z 0-9 - . _ ~`: a value stays inside its part of a URL.
    Url,
    /// As JSON, texts with their quotes: a value stays one value.
    Json,
}

/// Why a template gave no text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// It can't be read.
    #[error("line {line} of the template can't be read: {reason}")]
    Syntax {
        /// The line of the template, from 1.
        line: usize,
        /// What is wrong.
        reason: String,
    },
    /// It uses a value that isn't there.
    #[error("line {line} of the template uses {expression}, which is undefined")]
    Undefined {
        /// The line of the template, from 1.
        line: usize,
        /// The expression, in backticks, or `a value`.
        expression: String,
    },
    /// It is too long to be read.
    #[error("the template has {0} bytes; at most {TEMPLATE_BYTES_MAX} are read")]
    TooLong(usize),
    /// It loops longer than it may.
    #[error("the template does more than {FUEL_MAX} instructions; loop over less")]
    TooMuchWork,
    /// Its text is longer than it may be.
    #[error("the template renders to more than {OUTPUT_BYTES_MAX} bytes")]
    TooLarge,
    /// Anything else that went wrong while it was rendered.
    #[error("line {line} of the template fails: {reason}")]
    Failed {
        /// The line of the template, from 1.
        line: usize,
        /// What went wrong.
        reason: String,
    },
}

/// A template that can't be read, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unread {
    /// Why.
    pub error: TemplateError,
    /// The offending bytes of the template, where they are known.
    pub range: Option<Range<usize>>,
}

/// Renders a template over the members of `context`.
///
/// # Errors
/// Where the template can't be read, uses an undefined value, fails, or passes a bound.
pub fn render(template: &str, context: &Value) -> Result<String, TemplateError> {
    render_escaped(template, context, Escape::Plain)
}

/// Renders a template whose values are escaped as they are written; its own text isn't.
///
/// # Errors
/// As [`render`].
pub fn render_escaped(template: &str, context: &Value, escape: Escape) -> Result<String, TemplateError> {
    if template.len() <= TEMPLATE_BYTES_MAX && !has_syntax(template) {
        return Ok(template.to_owned());
    }
    let compiled = compile(template, escape).map_err(|unread| unread.error)?;
    let mut text = Bounded::default();
    match compiled.render_captured_to(context, &mut text) {
        Ok(_) => Ok(String::from_utf8(text.bytes).expect("templates write whole characters")),
        Err(_) if text.full => Err(TemplateError::TooLarge),
        Err(error) => Err(fault(&error, template)),
    }
}

/// Evaluates an expression, without braces, over the members of `context`.
///
/// # Errors
/// As [`render`]; an undefined value is a fault here too.
pub fn evaluate(expression: &str, context: &Value) -> Result<Value, TemplateError> {
    let value = evaluated(expression, context)?;
    serde_json::to_value(&value).map_err(|error| TemplateError::Failed { line: 1, reason: error.to_string() })
}

/// Fills in the texts of a JSON value: each is a template, and one that is exactly one `{{ … }}` gives its value as it is,
/// not as text. Names of fields aren't templates.
///
/// # Errors
/// As [`render`].
pub fn fill(form: &Value, context: &Value) -> Result<Value, TemplateError> {
    match form {
        Value::String(text) => match sole_expression(text) {
            Some(expression) => evaluate(expression, context),
            None => render(text, context).map(Value::String),
        },
        Value::Array(items) => items.iter().map(|item| fill(item, context)).collect(),
        Value::Object(fields) => {
            let filled = fields.iter().map(|(name, field)| Ok((name.clone(), fill(field, context)?)));
            filled.collect::<Result<_, _>>().map(Value::Object)
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => Ok(form.clone()),
    }
}

/// The expression of a template that is nothing else. `{{ a }}{{ b }}` has the braces too, but can't be read as one.
pub(crate) fn sole_expression(text: &str) -> Option<&str> {
    let inner = text.strip_prefix("{{")?.strip_suffix("}}")?;
    // Beside the braces these are marks for the white space around them.
    let inner = inner.strip_prefix(['-', '+']).unwrap_or(inner);
    let inner = inner.strip_suffix(['-', '+']).unwrap_or(inner);
    expression_of(inner).is_ok().then_some(inner)
}

/// Reads an expression. The engine's reader panics behind braces that would end it, so those are refused before.
fn expression_of(text: &str) -> Result<Expression<'_, '_>, Unread> {
    if text.len() > TEMPLATE_BYTES_MAX {
        return Err(Unread { error: TemplateError::TooLong(text.len()), range: None });
    }
    if ends_before_its_end(text) {
        let reason = "an expression has no braces around it, and none end within it: leave out `{{` and `}}`".into();
        return Err(Unread { error: TemplateError::Syntax { line: 1, reason }, range: None });
    }
    PLAIN.compile_expression(text).map_err(|error| Unread { range: error.range(), error: fault(&error, text) })
}

/// True where `}}` stands outside of quotes and brackets.
fn ends_before_its_end(expression: &str) -> bool {
    let (mut depth, mut quote, mut escaped) = (0_isize, None, false);
    let bytes = expression.as_bytes();
    bytes.iter().enumerate().any(|(at, byte)| {
        match (quote, byte) {
            (Some(_), _) if escaped => escaped = false,
            (Some(_), b'\\') => escaped = true,
            (Some(open), byte) if open == byte => quote = None,
            (Some(_), _) => {}
            (None, b'\'' | b'"') => quote = Some(byte),
            (None, b'}') if depth == 0 && bytes.get(at + 1) == Some(&b'}') => return true,
            (None, b'(' | b'[' | b'{') => depth += 1,
            (None, b')' | b']' | b'}') => depth -= 1,
            (None, _) => {}
        }
        false
    })
}

/// Whether an expression holds: all but false, none, 0 and what is empty does.
///
/// # Errors
/// As [`evaluate`].
pub fn holds(expression: &str, context: &Value) -> Result<bool, TemplateError> {
    Ok(evaluated(expression, context)?.is_true())
}

fn evaluated(expression: &str, context: &Value) -> Result<Rendered, TemplateError> {
    let compiled = expression_of(expression).map_err(|unread| unread.error)?;
    let value = compiled.eval(context).map_err(|error| fault(&error, expression))?;
    if value.is_undefined() {
        return Err(TemplateError::Undefined { line: 1, expression: format!("`{}`", shortened(expression)) });
    }
    Ok(value)
}

fn shortened(expression: &str) -> String {
    expression.chars().take(QUOTE_CHARS_MAX).collect()
}

/// Reads an expression and says which values it uses: `input.ticket`, `stages.read.output`, …
///
/// # Errors
/// Where it is too long or can't be read.
pub fn expression_uses(expression: &str) -> Result<BTreeSet<String>, Unread> {
    Ok(expression_of(expression)?.undeclared_variables(true).into_iter().collect())
}

/// Reads a template and says which values it uses: `input.ticket`, `args.order`, …
///
/// # Errors
/// Where the template is too long or can't be read.
pub fn uses(template: &str) -> Result<BTreeSet<String>, Unread> {
    Ok(compile(template, Escape::Plain)?.undeclared_variables(true).into_iter().collect())
}

fn compile<'a>(template: &'a str, escape: Escape) -> Result<minijinja::Template<'a, 'a>, Unread> {
    if template.len() > TEMPLATE_BYTES_MAX {
        return Err(Unread { error: TemplateError::TooLong(template.len()), range: None });
    }
    let environment: &'a Environment<'a> = match escape {
        Escape::Plain => &PLAIN,
        Escape::Url => &URL,
        Escape::Json => &JSON,
    };
    let compiled = environment.template_from_named_str("template", template);
    compiled.map_err(|error| Unread { range: error.range(), error: fault(&error, template) })
}

/// True where a text is more than itself. A trailing line break counts: templates drop one.
fn has_syntax(template: &str) -> bool {
    template.ends_with('\n') || ["{{", "{%", "{#"].iter().any(|mark| template.contains(mark))
}

fn environment(escape: Escape) -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_fuel(Some(FUEL_MAX));
    environment.set_recursion_limit(RECURSION_MAX);
    environment.set_debug(true);
    environment.remove_global("debug");
    environment.set_formatter(move |output, _state: &State, value| write(output, value, escape));
    environment
}

/// Writes one value. A value that a template marks as safe is written like any other.
fn write(output: &mut Output, value: &Rendered, escape: Escape) -> Result<(), minijinja::Error> {
    let text = match (value.as_str(), escape) {
        (Some(text), Escape::Json) if value.is_safe() => text.to_owned(),
        (Some(text), Escape::Plain | Escape::Url) => text.to_owned(),
        (Some(_) | None, Escape::Plain | Escape::Url | Escape::Json) => {
            serde_json::to_string(value).map_err(|error| {
                minijinja::Error::new(ErrorKind::BadSerialization, "the value has no form as text").with_source(error)
            })?
        }
    };
    match escape {
        Escape::Plain | Escape::Json => output.write_str(&text),
        Escape::Url => percent_encoded(&text).try_for_each(|piece| output.write_str(&piece)),
    }
    .map_err(minijinja::Error::from)
}

fn percent_encoded(text: &str) -> impl Iterator<Item = String> {
    text.bytes().map(|byte| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    })
}

fn fault(error: &minijinja::Error, template: &str) -> TemplateError {
    let line = error.line().unwrap_or(1);
    let reason = || error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
    let unread = [ErrorKind::SyntaxError, ErrorKind::UnknownFilter, ErrorKind::UnknownTest, ErrorKind::UnknownFunction];
    let kind = error.kind();
    if unread.contains(&kind) {
        TemplateError::Syntax { line, reason: reason() }
    } else if kind == ErrorKind::UndefinedError {
        TemplateError::Undefined { line, expression: quoted(error, template) }
    } else if kind == ErrorKind::OutOfFuel {
        TemplateError::TooMuchWork
    } else {
        TemplateError::Failed { line, reason: reason() }
    }
}

/// The expression that an error points at, as the author wrote it; never its value.
fn quoted(error: &minijinja::Error, template: &str) -> String {
    let source = error.range().and_then(|range| template.get(range)).map(str::trim).filter(|text| !text.is_empty());
    source.map_or_else(
        || "a value".to_owned(),
        |text| format!("`{}`", text.chars().take(QUOTE_CHARS_MAX).collect::<String>()),
    )
}

/// A text that grows up to [`OUTPUT_BYTES_MAX`].
#[derive(Default)]
struct Bounded {
    bytes: Vec<u8>,
    full: bool,
}

impl io::Write for Bounded {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + piece.len() > OUTPUT_BYTES_MAX {
            self.full = true;
            return Err(io::Error::other("the text is full"));
        }
        self.bytes.extend_from_slice(piece);
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_expression_gives_its_value_or_says_what_is_undefined() {
        let context =
            json!({ "input": { "n": 3, "list": [1, 2] }, "stages": { "a": { "output": { "kind": "spam" } } } });
        assert_eq!(evaluate("input.list", &context), Ok(json!([1, 2])));
        assert_eq!(evaluate("input.n + 1", &context), Ok(json!(4)));
        assert_eq!(holds("stages.a.output.kind != 'spam'", &context), Ok(false));
        assert_eq!(holds("input.n > 2 and input.list", &context), Ok(true));
        for undefined in ["input.m", "input.m == 1", "stages.b.output"] {
            let error = evaluate(undefined, &context).expect_err(undefined);
            assert!(matches!(error, TemplateError::Undefined { .. }), "{undefined}: {error}");
        }
        assert!(matches!(evaluate("input.n +", &context), Err(TemplateError::Syntax { .. })));
        assert_eq!(expression_uses("input.n > stages.a.output.kind").map(|uses| uses.len()), Ok(2));
    }

    #[test]
    fn a_text_that_is_one_expression_keeps_the_values_type() {
        let context = json!({ "input": { "n": 3, "name": "Ann", "list": [1, "b"] } });
        let form = json!({
            "count": "{{ input.n }}", "tight": "{{-input.n-}}", "all": ["{{ input.list }}", "{{ input.name }}"],
            "both": "{{ input.n }}{{ input.n }}", "text": "{{ input.n }} of {{ input.list }}", "spaced": " {{ input.n }}",
            "sum": "{{ input.n + 1 }}", "braces": "{{ '}}' }}", "plain": "as it is", "not": [1, true, null]
        });
        let filled = json!({
            "count": 3, "tight": 3, "all": [[1, "b"], "Ann"], "both": "33", "text": "3 of [1,\"b\"]", "spaced": " 3",
            "sum": 4, "braces": "}}", "plain": "as it is", "not": [1, true, null]
        });
        assert_eq!(fill(&form, &context), Ok(filled));
        assert!(matches!(fill(&json!(["{{ input.m }}"]), &context), Err(TemplateError::Undefined { .. })));
    }

    proptest::proptest! {
        #[test]
        fn no_expression_brings_the_reader_down(
            text in "( |a|input\\.n|\\}\\}|\\{\\{|\\}|\\{|-|%\\}|'|\"|\\\\|\\(|\\)|\\[|\\]|:|,|1|\\||#){0,24}",
        ) {
            let context = json!({ "input": { "n": 3 }, "a": [1] });
            drop(expression_uses(&text));
            drop(evaluate(&text, &context));
            drop(fill(&Value::String(format!("{{{{{text}}}}}")), &context));
            drop(uses(&text));
        }
    }

    #[test]
    fn values_are_filled_in() {
        let context = json!({"input": {"ticket": "Where is it?", "tags": ["a", 1]}, "none": null});
        for (template, text) in [
            ("plain", "plain"),
            ("{{ input.ticket }}", "Where is it?"),
            ("{% for tag in input.tags %}[{{ tag }}]{% endfor %}", "[a][1]"),
            ("{{ input.tags }} {{ none }}", "[\"a\",1] null"),
            ("{{ input.ticket | upper }}", "WHERE IS IT?"),
        ] {
            assert_eq!(render(template, &context).as_deref(), Ok(text), "{template}");
        }
    }

    #[test]
    fn an_undefined_value_is_a_fault_that_names_it() {
        let fault = render("Dear\n{{ input.name }}", &json!({"input": {}})).expect_err("undefined");
        assert_eq!(fault, TemplateError::Undefined { line: 2, expression: "`input.name`".into() });
        assert!(render("{% if missing %}x{% endif %}", &json!({})).is_err());
        assert_eq!(render("{{ missing | default('x') }}", &json!({})).as_deref(), Ok("x"));
    }

    #[test]
    fn a_template_that_cannot_be_read_says_where() {
        let fault = render("a\n{{ input. }}", &json!({})).expect_err("syntax");
        assert!(matches!(fault, TemplateError::Syntax { line: 2, .. }), "{fault}");
        assert!(render("{{ now() }}", &json!({})).is_err(), "no clock");
        assert!(render("{% include 'other' %}", &json!({})).is_err(), "no files");
        assert!(render("{{ debug() }}", &json!({})).is_err(), "no dump of everything");
    }

    #[test]
    fn work_and_output_are_bounded() {
        let loops = "{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}";
        assert_eq!(render(loops, &json!({})), Err(TemplateError::TooMuchWork));
        let large = "x".repeat(1024 * 1024);
        let many = "{% for a in range(99) %}{{ text }}{% endfor %}";
        assert_eq!(render(many, &json!({ "text": large })), Err(TemplateError::TooLarge));
        let long = "x".repeat(TEMPLATE_BYTES_MAX + 1);
        assert_eq!(render(&long, &json!({})), Err(TemplateError::TooLong(long.len())));
        let recursion = "{% macro again() %}{{ again() }}{% endmacro %}{{ again() }}";
        assert!(render(recursion, &json!({})).is_err());
    }

    #[test]
    fn escaped_values_stay_inside_their_place() {
        let context = json!({"x": "a/../b?c=d#e&é\"\n", "n": 7});
        let url = render_escaped("/v/{{ x }}/{{ x | safe }}?n={{ n }}", &context, Escape::Url).expect("a URL");
        let value = "a%2F..%2Fb%3Fc%3Dd%23e%26%C3%A9%22%0A";
        assert_eq!(url, format!("/v/{value}/{value}?n=7"));
        let body = render_escaped(r#"{"x": {{ x }}, "n": {{ n }}}"#, &context, Escape::Json).expect("a body");
        assert_eq!(serde_json::from_str::<Value>(&body).expect("JSON"), context);
        let twice = render_escaped(r#"{"x": {{ x | tojson }}}"#, &context, Escape::Json).expect("a body");
        assert_eq!(serde_json::from_str::<Value>(&twice).expect("JSON")["x"], context["x"]);
    }

    #[test]
    fn the_values_that_a_template_uses_are_named() {
        let names = uses("{{ input.ticket }} {% for x in args.list %}{{ x }}{% endfor %}").expect("a template");
        assert_eq!(names.into_iter().collect::<Vec<_>>(), ["args.list", "input.ticket"]);
    }
}
