//! What the built-in tools take: their JSON Schemas and descriptions, for tool files that leave them out.
//!
//! Deliberately absent: what they do. That needs files and a clock, and is done on the tools' own floor.

use serde_json::{Value, json};

use crate::domain::plan::Builtin;

/// The longest query of `search_files`, in characters.
pub const QUERY_CHARS_MAX: usize = 500;
/// The most results that `search_files` gives.
pub const RESULTS_MAX: u64 = 50;
/// The longest expression of `calculate`, in characters.
pub const EXPRESSION_CHARS_MAX: usize = 1_000;
/// The longest path of `read_file`, in characters.
pub const PATH_CHARS_MAX: usize = 1_000;
/// The most lines that `read_file` gives in one call.
pub const LINES_MAX: u64 = 10_000;

/// The longest question to a person.
const QUESTION_CHARS_MAX: usize = 2_000;

/// The names that a tool file may give as `builtin`.
pub const NAMES: [&str; 6] = ["search_files", "read_file", "now", "calculate", "template", "ask_user"];

/// What a tool file names it by.
#[must_use]
pub const fn name(builtin: &Builtin) -> &'static str {
    match builtin {
        Builtin::SearchFiles { .. } => "search_files",
        Builtin::ReadFile { .. } => "read_file",
        Builtin::Now => "now",
        Builtin::Calculate => "calculate",
        Builtin::Template { .. } => "template",
        Builtin::AskUser => "ask_user",
    }
}

/// The description for the model, where the tool file has none.
#[must_use]
pub const fn default_description(builtin: &Builtin) -> &'static str {
    match builtin {
        Builtin::SearchFiles { .. } => {
            "Searches the files for words, in any order and any case. Gives lines as `path:line: text`, best first."
        }
        Builtin::ReadFile { .. } => "Reads a text file by the path that a search gave, or a part of it by lines.",
        Builtin::Now => "Tells the date, the time and the day of the week.",
        Builtin::Calculate => {
            "Calculates exactly: + - * / % ** ( ), min(a, b), max(a, b) and round(x, digits). % is the remainder."
        }
        Builtin::Template { .. } => "Answers with a fixed text.",
        Builtin::AskUser => "Asks the user a question, where only they can know; the answer may take long.",
    }
}

/// JSON Schema of the arguments, where the tool file has none.
#[must_use]
pub fn default_input(builtin: &Builtin) -> Value {
    match builtin {
        Builtin::SearchFiles { .. } => search_files(),
        Builtin::ReadFile { .. } => read_file(),
        Builtin::Now => object(
            &json!({
                "time_zone": {
                    "type": "string",
                    "description": "IANA name, such as Europe/Berlin; UTC if left out",
                    "maxLength": 100,
                },
            }),
            &[],
        ),
        Builtin::Calculate => object(
            &json!({
                "expression": {
                    "type": "string",
                    "description": "Such as (3 * 19.99 + 4.90) / 2 or round(100 / 3, 2)",
                    "minLength": 1,
                    "maxLength": EXPRESSION_CHARS_MAX,
                },
            }),
            &["expression"],
        ),
        Builtin::Template { .. } => json!({ "type": "object" }),
        Builtin::AskUser => object(
            &json!({
                "question": {
                    "type": "string",
                    "description": "The question, whole: the user may not see the conversation",
                    "minLength": 1,
                    "maxLength": QUESTION_CHARS_MAX,
                },
            }),
            &["question"],
        ),
    }
}

fn search_files() -> Value {
    let properties = json!({
        "query": {
            "type": "string",
            "description": "Words to look for",
            "minLength": 1,
            "maxLength": QUERY_CHARS_MAX,
        },
        "max_results": {
            "type": "integer",
            "description": "At most this many lines; 10 if left out",
            "minimum": 1,
            "maximum": RESULTS_MAX,
        },
    });
    object(&properties, &["query"])
}

fn read_file() -> Value {
    let properties = json!({
        "path": {
            "type": "string",
            "description": "Path of the file, as a search gave it",
            "minLength": 1,
            "maxLength": PATH_CHARS_MAX,
        },
        "from_line": { "type": "integer", "description": "First line, from 1", "minimum": 1 },
        "lines": { "type": "integer", "description": "How many lines", "minimum": 1, "maximum": LINES_MAX },
    });
    object(&properties, &["path"])
}

fn object(properties: &Value, required: &[&str]) -> Value {
    json!({ "type": "object", "properties": properties, "required": required, "additionalProperties": false })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_builtin_has_a_name_and_a_schema_of_an_object() {
        let folders = || vec!["/help".to_owned()];
        let all = [
            Builtin::SearchFiles { folders: folders() },
            Builtin::ReadFile { folders: folders() },
            Builtin::Now,
            Builtin::Calculate,
            Builtin::Template { template: "ok".into() },
        ];
        for (builtin, expected) in all.iter().zip(NAMES) {
            assert_eq!(name(builtin), expected);
            assert_eq!(default_input(builtin)["type"], "object");
            assert!(jsonschema::validator_for(&default_input(builtin)).is_ok());
            assert!(default_description(builtin).len() > 10);
        }
    }
}
