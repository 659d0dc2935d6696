//! What a run is given: text or JSON on the command line, in a file or on standard input, fitted to the agent's schema.

use std::io::Read;
use std::path::Path;

use serde_json::{Map, Value};

use crate::cli::errors::{CliError, Problem, code};
use crate::domain::message::{FILE_BYTES_MAX, GivenFile};

/// The most bytes of one input.
pub const INPUT_BYTES_MAX: u64 = 1024 * 1024;
/// The most violations of a schema that one message lists.
const VIOLATIONS_MAX: usize = 8;

/// Reads `TEXT`, `@FILE`, or `-` for standard input.
///
/// # Errors
/// A file that can't be read, isn't text, or is larger than [`INPUT_BYTES_MAX`].
pub fn read_text(argument: &str) -> Result<String, CliError> {
    if argument == "-" {
        return read_bounded("standard input", std::io::stdin().lock());
    }
    let Some(path) = argument.strip_prefix('@') else { return Ok(argument.to_owned()) };
    let file = std::fs::File::open(path).map_err(|error| Problem::file("read", Path::new(path), &error))?;
    read_bounded(path, file)
}

/// Reads a file that goes with the input. Its bytes say what it is; models are told its name without folders.
///
/// # Errors
/// A file that can't be read, is larger than [`FILE_BYTES_MAX`], or is neither an image nor a document.
pub fn read_file(path: &Path) -> Result<GivenFile, CliError> {
    let unread = |error: std::io::Error| Problem::file("read", path, &error);
    let file = std::fs::File::open(path).map_err(unread)?;
    if file.metadata().map_err(unread)?.is_dir() {
        return Err(Problem::usage(code::FILE, format!("`{}` is a folder", path.display())).into());
    }
    let mut bytes = Vec::new();
    let most = u64::try_from(FILE_BYTES_MAX).unwrap_or(u64::MAX);
    file.take(most + 1).read_to_end(&mut bytes).map_err(unread)?;
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
    let given = GivenFile::of(&name, &bytes);
    given.map_err(|error| Problem::usage(code::INPUT, error.to_string()).help(error.help()).into())
}

fn read_bounded(name: &str, reader: impl Read) -> Result<String, CliError> {
    let mut bytes = Vec::new();
    let read = reader.take(INPUT_BYTES_MAX + 1).read_to_end(&mut bytes);
    read.map_err(|error| Problem::file("read", Path::new(name), &error))?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > INPUT_BYTES_MAX {
        let message = format!("the input in `{name}` has more than {INPUT_BYTES_MAX} bytes");
        return Err(Problem::usage(code::INPUT, message)
            .help("give the agent a part of it, or a tool that reads it")
            .into());
    }
    let text =
        String::from_utf8(bytes).map_err(|_| Problem::usage(code::INPUT, format!("`{name}` is not UTF-8 text")))?;
    Ok(text)
}

/// Makes an input of text: JSON where the agent's schema asks for it, the only required string where there is one, else
/// the text itself.
///
/// # Errors
/// Says what the schema asks for and what doesn't fit, in words.
pub fn of_text(schema: Option<&Value>, text: &str) -> Result<Value, String> {
    let Some(schema) = schema else { return Ok(Value::String(text.to_owned())) };
    if let Ok(value) = serde_json::from_str::<Value>(text)
        && (value.is_object() || only_text(schema).is_none())
        && violations(schema, &value).is_empty()
    {
        return Ok(value);
    }
    if schema.get("type").and_then(Value::as_str) == Some("string") {
        return checked(schema, Value::String(text.to_owned()));
    }
    if let Some(name) = only_text(schema) {
        let input = Value::Object(Map::from_iter([(name.to_owned(), Value::String(text.to_owned()))]));
        return checked(schema, input);
    }
    let value =
        serde_json::from_str(text).map_err(|error| format!("the agent takes JSON, and this is none: {error}"))?;
    checked(schema, value)
}

/// An input for an agent that is given none: what an empty object, or nothing at all, is enough for.
///
/// # Errors
/// The agent asks for an input.
pub fn of_nothing(schema: Option<&Value>) -> Result<Value, String> {
    let Some(schema) = schema else { return Err("the agent takes text".to_owned()) };
    checked(schema, Value::Object(Map::new()))
}

/// Makes an input of JSON: a line of `--each`. A string stands for text.
///
/// # Errors
/// Says what doesn't fit, in words.
pub fn of_json(schema: Option<&Value>, value: Value) -> Result<Value, String> {
    match (schema, value) {
        (None, Value::String(text)) => Ok(Value::String(text)),
        (None, Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
            Err("the agent takes text: a line must be a JSON string, such as \"some text\"".to_owned())
        }
        (Some(schema), Value::String(text)) if only_text(schema).is_some() => of_text(Some(schema), &text),
        (Some(schema), value) => checked(schema, value),
    }
}

/// The only required property of an object's schema, where it is text.
fn only_text(schema: &Value) -> Option<&str> {
    let [required] = schema.get("required")?.as_array()?.as_slice() else { return None };
    let name = required.as_str()?;
    let property = schema.get("properties")?.get(name)?;
    (property.get("type")?.as_str() == Some("string")).then_some(name)
}

fn checked(schema: &Value, value: Value) -> Result<Value, String> {
    let violations = violations(schema, &value);
    if violations.is_empty() { Ok(value) } else { Err(violations.join("; ")) }
}

/// What of a value doesn't fit a schema. A schema that can't be compiled was refused with the agent's file.
fn violations(schema: &Value, value: &Value) -> Vec<String> {
    let Ok(validator) = jsonschema::validator_for(schema) else { return Vec::new() };
    let errors = validator.iter_errors(value).take(VIOLATIONS_MAX);
    errors
        .map(|error| {
            let place = error.instance_path().to_string();
            let message = error.masked_with("it").to_string();
            if place.is_empty() { message } else { format!("`{place}`: {message}") }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn ticket() -> Value {
        let properties = json!({"ticket": {"type": "string", "minLength": 3}, "language": {"type": "string"}});
        json!({"type": "object", "required": ["ticket"], "properties": properties})
    }

    #[test]
    fn text_fills_the_only_required_string() {
        assert_eq!(of_text(Some(&ticket()), "Where is it?"), Ok(json!({"ticket": "Where is it?"})));
        assert_eq!(of_text(Some(&ticket()), "4711"), Ok(json!({"ticket": "4711"})));
        assert_eq!(of_text(Some(&ticket()), "{broken"), Ok(json!({"ticket": "{broken"})));
    }

    #[test]
    fn json_is_taken_as_it_is_where_it_fits() {
        let text = r#"{"ticket": "Where?", "language": "en"}"#;
        assert_eq!(of_text(Some(&ticket()), text), Ok(json!({"ticket": "Where?", "language": "en"})));
        // An object of another kind is what the ticket says.
        assert_eq!(of_text(Some(&ticket()), r#"{"a": 1}"#), Ok(json!({"ticket": r#"{"a": 1}"#})));
    }

    #[test]
    fn without_a_schema_text_stays_text() {
        assert_eq!(of_text(None, "{\"a\": 1}"), Ok(json!("{\"a\": 1}")));
        assert!(of_nothing(None).is_err());
        assert!(of_json(None, json!({"a": 1})).is_err());
        assert_eq!(of_json(None, json!("hello")), Ok(json!("hello")));
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let error = of_text(Some(&ticket()), "ab").expect_err("too short");
        assert!(error.contains("`/ticket`"), "{error}");
        let two = json!({"type": "object", "required": ["a", "b"]});
        let error = of_text(Some(&two), "text").expect_err("no JSON");
        assert!(error.contains("takes JSON"), "{error}");
        assert_eq!(of_text(Some(&json!({"type": "array"})), "[1]"), Ok(json!([1])));
        assert!(of_json(Some(&two), json!({"a": 1})).is_err());
    }

    #[test]
    fn an_input_larger_than_the_bound_is_refused() {
        let long = vec![b'a'; usize::try_from(INPUT_BYTES_MAX).expect("fits") + 1];
        assert!(read_bounded("long", &*long).is_err());
        assert!(read_bounded("fits", &long[1..]).is_ok());
        assert!(read_bounded("binary", &[0xff, 0xfe][..]).is_err());
    }
}
