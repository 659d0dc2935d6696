//! `schema agent|tool|project`.

use super::Context;
use crate::cli::arguments::SchemaKind;
use crate::cli::errors::{CliError, Problem, code};
use crate::cli::exit::Exit;
use crate::spec::schema;

pub(super) fn schema(context: &Context<'_>, kind: SchemaKind) -> Result<Exit, CliError> {
    let document = match kind {
        SchemaKind::Agent => schema::agent(),
        SchemaKind::Tool => schema::tool(),
        SchemaKind::Project => schema::project(),
    };
    let text = serde_json::to_string_pretty(&document)
        .map_err(|error| Problem::new(code::OUTPUT, format!("can't write the schema: {error}")))?;
    context.output.data(&text)?;
    Ok(Exit::Finished)
}
