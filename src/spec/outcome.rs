//! `[outcome]` of an agent: rules that say what a run was worth.

use serde_json::Value;

use crate::domain::outcome::OutcomeRules;
use crate::spec::fault::{Faults, code};
use crate::spec::reader::Node;
use crate::spec::shape::{Shape, TEXT};
use crate::spec::template::{self, Exact, Names, Place};

/// The rules of an agent's file, over what its templates may use, its output and its labels.
pub(crate) fn resolve(
    agent: &Node<'_>,
    output: Option<&Value>,
    names: &Names,
    faults: &mut Faults,
) -> Option<OutcomeRules> {
    let node = agent.section("outcome")?;
    let gives = match output {
        Some(schema) => Shape::of_schema(schema),
        // A stage gives it, and may have a schema of its own.
        None if agent.has("stage") => Shape::Any,
        None => TEXT,
    };
    let names = names.clone().with("output", gives).with("labels", Shape::Any);
    let mut rule = |key| {
        let text = node.text(key)?;
        let place = Place { source: node.source, span: text.span.clone(), exact: Exact::No };
        template::check_expression(&text.value, &place, &names, faults);
        Some(text.value)
    };
    let rules = OutcomeRules { units: rule("units"), quality: rule("quality"), revenue: rule("revenue") };
    if rules == OutcomeRules::default() {
        let help = "write `units`, `quality` or `revenue`, or take `[outcome]` out";
        agent.fault(faults, code::MISSING_KEY, &agent.key_span("outcome"), "`[outcome]` has no rule".to_owned(), help);
    }
    Some(rules)
}
