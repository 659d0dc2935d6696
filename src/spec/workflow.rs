//! How the stages of an agent hang together: what they need, and who gives the answer.

use crate::domain::plan::StagePlan;
use crate::spec::fault::{Faults, code, suggest};
use crate::spec::reader::{At, Node};

/// Finds what is wrong between the stages of an agent. `from` is the stage that gives the answer, where the file says so.
pub(crate) fn check(agent: &Node<'_>, stages: &[StagePlan], from: Option<&At<String>>, faults: &mut Faults) {
    let nodes = agent.sections("stage");
    let known = || stages.iter().map(|stage| stage.id.as_str());
    if let Some(from) = from.filter(|from| !known().any(|id| id == from.value)) {
        let help = suggest(&from.value, known(), "the agent has no `[[stage]]`: take `from` out");
        agent.fault(faults, code::UNKNOWN_NAME, &from.span, format!("no stage `{}`", from.value), help);
    }
    for node in &nodes {
        for need in node.texts("needs").map(|needs| needs.value).unwrap_or_default() {
            if !known().any(|id| id == need.value) {
                let help = suggest(&need.value, known(), "");
                node.fault(faults, code::UNKNOWN_NAME, &need.span, format!("no stage `{}`", need.value), help);
            }
        }
    }
    let mut done: Vec<&str> = Vec::new();
    while let Some(next) = stages.iter().find(|stage| {
        !done.contains(&stage.id.as_str())
            && stage.needs.iter().all(|need| done.contains(&need.as_str()) || !known().any(|id| id == need.as_str()))
    }) {
        done.push(next.id.as_str());
    }
    let circle: Vec<&str> = known().filter(|id| !done.contains(id)).collect();
    let Some(first) = nodes.first() else { return };
    if !circle.is_empty() {
        let message = format!("stages need each other in a circle: {}", circle.join(", "));
        first.fault(faults, code::CONFLICT, &first.span, message, "take one out of the other's `needs`");
    }
    let last: Vec<&str> =
        known().filter(|id| stages.iter().all(|stage| stage.needs.iter().all(|need| need.as_str() != *id))).collect();
    if circle.is_empty() && last.len() > 1 && from.is_none() {
        let message = format!("several stages could give the run's answer: {}", last.join(", "));
        first.fault(faults, code::CONFLICT, &first.span, message, "name one as `from` under `[output]`");
    }
}
