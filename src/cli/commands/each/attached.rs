//! `--file-from FIELD`: each line names files of its own, which are read when its run is made.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::cli::errors::{CliError, Problem, code};
use crate::cli::input;
use crate::cli::render::text::one_line;
use crate::domain::message::{FILES_MAX, GivenFile};
use crate::domain::plan::Plan;

/// What a line of an agent that takes plain text calls the text, where it names files beside it.
const INPUT: &str = "input";

/// The field of a line that names its files.
#[derive(Clone, Debug)]
pub(super) struct FileField {
    name: String,
    /// Where the paths start from: the folder of the lines.
    folder: PathBuf,
    /// What the agent takes: text; an object with this field; or one without it.
    takes: Takes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Takes {
    Text,
    ObjectWithField,
    Object,
}

impl FileField {
    /// Takes it for lines of this file that this agent reads.
    pub(super) fn of(plan: &Plan, field: &str, lines: &Path) -> Result<Self, CliError> {
        let wrong = |message: String, help: &str| Err(Problem::usage(code::USAGE, message).help(help).into());
        if field.is_empty() || field.contains('.') {
            let message = format!("`--file-from {}` names no field", one_line(field, 80));
            return wrong(message, "name one of a line's own fields, such as `photo`");
        }
        let takes = match &plan.input {
            None if field == INPUT => {
                let message = format!("`{INPUT}` is what agent `{}` is asked, and names no files", plan.agent);
                return wrong(message, "name another field");
            }
            None => Takes::Text,
            Some(schema) if schema.get("type") != Some(&Value::from("object")) => {
                let message = format!("agent `{}` takes no object, so a line has no field `{field}`", plan.agent);
                return wrong(message, "declare an `[input]` of `type = \"object\"`, or none at all");
            }
            Some(schema) => match schema.get("properties").and_then(|known| known.get(field)) {
                Some(_) => Takes::ObjectWithField,
                None => Takes::Object,
            },
        };
        Ok(Self { name: field.to_owned(), folder: lines.parent().map(Path::to_owned).unwrap_or_default(), takes })
    }

    /// Its name, as it was given.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// A line's input, and the paths of its files; what is wrong with it, in words. The field stays in the input of an
    /// agent that declares it.
    pub(super) fn split(&self, line: Value) -> Result<(Value, Vec<PathBuf>), String> {
        let Value::Object(mut fields) = line else { return Ok((line, Vec::new())) };
        let named = match self.takes {
            Takes::ObjectWithField => fields.get(&self.name).cloned(),
            Takes::Text | Takes::Object => fields.shift_remove(&self.name),
        };
        let files = self.paths(named.unwrap_or_default())?;
        let input = if self.takes == Takes::Text { self.text(fields)? } else { Value::Object(fields) };
        Ok((input, files))
    }

    fn paths(&self, named: Value) -> Result<Vec<PathBuf>, String> {
        let name = &self.name;
        let list = match named {
            Value::Null => Vec::new(),
            Value::Array(list) => list,
            one @ (Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_)) => vec![one],
        };
        if list.len() > FILES_MAX {
            return Err(format!("its `{name}` names {} files, and a run takes {FILES_MAX}", list.len()));
        }
        let path = |path: &Value| path.as_str().filter(|path| !path.is_empty()).map(|path| self.folder.join(path));
        let paths: Option<Vec<PathBuf>> = list.iter().map(path).collect();
        paths.ok_or_else(|| format!("its `{name}` must be a path or a list of paths, since it names the line's files"))
    }

    fn text(&self, mut fields: Map<String, Value>) -> Result<Value, String> {
        let text = fields.shift_remove(INPUT).filter(Value::is_string).filter(|_| fields.is_empty());
        text.ok_or_else(|| {
            let name = &self.name;
            format!("the agent takes text: a line is a JSON string, or {{\"{INPUT}\": \"some text\", \"{name}\": …}}")
        })
    }
}

/// Reads a line's files; what is wrong with one, in words.
pub(super) async fn read(paths: Vec<PathBuf>) -> Result<Vec<GivenFile>, String> {
    if paths.is_empty() {
        return Ok(Vec::new());
    }
    let read = move || paths.iter().map(|path| input::read_file(path)).collect::<Result<Vec<_>, CliError>>();
    let read = tokio::task::spawn_blocking(read).await.map_err(|error| error.to_string())?;
    read.map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::domain::report::fixture;

    fn field(input: Option<Value>) -> FileField {
        let plan = Plan { input, ..Arc::unwrap_or_clone(fixture::plan()) };
        FileField::of(&plan, "photo", Path::new("jobs/lines.jsonl")).expect("a field")
    }

    #[test]
    fn a_field_that_the_agent_declares_stays_in_its_input() {
        let photo = [PathBuf::from("jobs/a.png")];
        let line = json!({"ask": "What?", "photo": "a.png"});
        let with = json!({"type": "object", "properties": {"photo": {"type": "string"}}});
        assert_eq!(field(Some(with)).split(line.clone()), Ok((line.clone(), photo.to_vec())));
        let without = field(Some(json!({"type": "object"})));
        assert_eq!(without.split(line), Ok((json!({"ask": "What?"}), photo.to_vec())));
        assert_eq!(without.split(json!({"ask": "What?", "photo": null})), Ok((json!({"ask": "What?"}), vec![])));
    }

    #[test]
    fn an_agent_that_takes_text_is_given_it_beside_the_files() {
        let field = field(None);
        let (input, files) = field.split(json!({"input": "What?", "photo": ["a.png", "/b.pdf"]})).expect("a line");
        assert_eq!((input, files), (json!("What?"), vec!["jobs/a.png".into(), "/b.pdf".into()]));
        assert_eq!(field.split(json!("What?")), Ok((json!("What?"), vec![])));
        for bad in [json!({"photo": "a.png"}), json!({"input": 7}), json!({"input": "What?", "more": 1})] {
            assert!(field.split(bad).expect_err("it is refused").contains("the agent takes text"));
        }
        for bad in [json!(7), json!([""]), json!({"path": "a.png"}), json!(vec!["a.png"; FILES_MAX + 1])] {
            assert!(field.split(json!({"input": "What?", "photo": bad})).is_err());
        }
    }
}
