//! Tools and contexts for the tests of this floor.

use serde_json::{Value, json};
use tokio::sync::watch;

use super::{ToolContext, ToolOutcome};
use crate::clock::Clock;
use crate::domain::plan::{Approval, Builtin, ToolKind, ToolPlan};
use crate::gate::Permit;
use crate::units::{Millis, Money};

pub(super) fn tool(kind: ToolKind) -> ToolPlan {
    ToolPlan {
        name: "stub".into(),
        description: "A stub".into(),
        input: json!({"type": "object"}),
        timeout: Millis::from_secs(20),
        output_bytes: 16_384,
        idempotent: true,
        price: Money::ZERO,
        kind,
        approval: Approval::Never,
    }
}

pub(super) fn template_tool(template: &str) -> ToolPlan {
    tool(ToolKind::Builtin(Builtin::Template { template: template.to_owned() }))
}

pub(super) fn permit() -> Permit {
    Permit::for_test(Millis::from_secs(20), Millis::from_secs(20))
}

/// A context that is never cancelled.
pub(super) fn context() -> ToolContext {
    ToolContext::new(Clock::system(), watch::channel(false).1)
}

pub(super) async fn call(tool: &ToolPlan, arguments: Value) -> ToolOutcome {
    super::call(permit(), tool, &arguments, &context()).await
}
