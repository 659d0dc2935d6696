//! The documents of a new run: read, ranked against the input, and kept with the run, so that a resume or a replay sees
//! the same text.

use serde_json::{Value, json};

use super::{RuntimeError, Shared};
use crate::domain::context::{Document, Documents};
use crate::domain::plan::{DocumentsPlan, Plan};
use crate::domain::template;
use crate::gate::{Form, Rendered};
use crate::spec::documents;
use crate::units::grouped;

impl Shared {
    /// What goes with this input, best first until the pot is full; `None` for an agent without documents.
    pub(super) fn documents(&self, plan: &Plan, form: &Form, input: &Value) -> Result<Option<Documents>, RuntimeError> {
        let Some(from) = &plan.documents else { return Ok(None) };
        let found = match from {
            DocumentsPlan::Files { folder, patterns } => {
                documents::read(folder, patterns).map_err(|fault| fault.to_string())
            }
            DocumentsPlan::Input { expression } => of_input(expression, input),
        };
        let failed = |fault| RuntimeError::Documents { agent: plan.agent.clone(), fault };
        let found = found.map_err(failed)?;
        let rendered = Rendered::of(plan, form.clone().into(), input)
            .map_err(|fault| RuntimeError::Prompt { agent: plan.agent.clone(), fault })?;
        Ok(self.gate.appraiser().choose_documents(plan, &rendered, &found))
    }
}

/// A text, or a list of texts or of `{name, text}`.
fn of_input(expression: &str, input: &Value) -> Result<Vec<Document>, String> {
    let value = template::evaluate(expression, &json!({ "input": input })).map_err(|error| error.to_string())?;
    let found = match value {
        Value::Null => Vec::new(),
        Value::Array(items) => {
            items.iter().zip(1..).map(|(item, number)| named(item, number)).collect::<Result<_, _>>()?
        }
        one @ (Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_)) => vec![named(&one, 1)?],
    };
    let bytes: usize = found.iter().map(|document| document.text.len()).sum();
    if found.len() > documents::DOCUMENTS_MAX
        || u64::try_from(bytes).map_or(true, |all| all > documents::DOCUMENTS_BYTES_MAX)
    {
        let (count, most) = (documents::DOCUMENTS_MAX, grouped(documents::DOCUMENTS_BYTES_MAX));
        return Err(format!("`{expression}` gives more than {count} documents, or more than {most} bytes of them"));
    }
    Ok(found)
}

fn named(item: &Value, number: u32) -> Result<Document, String> {
    let text = item.as_str().or_else(|| item.get("text").and_then(Value::as_str));
    let name = item.get("name").and_then(Value::as_str).map_or_else(|| format!("document {number}"), str::to_owned);
    match text {
        Some(text) => Ok(Document { name, text: text.to_owned() }),
        None => Err(format!("document {number} of the input is neither a text nor a table with `name` and `text`")),
    }
}
