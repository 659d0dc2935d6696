//! Performs what the gate granted: one task for each attempt. Whatever comes of it is fed back.

use std::sync::Arc;

use tokio::sync::watch;

use super::Shared;
use super::progress::{Observer, Progress};
use crate::domain::message::Request;
use crate::domain::plan::ToolPlan;
use crate::domain::retry::{ErrorClass, Failure};
use crate::failpoint;
use crate::gate::Permit;
use crate::ids::RunId;
use crate::provider::{Answer, AnswerResult, Listener};
use crate::tool::{self, ToolOutcome};
use crate::units::Millis;

/// What an attempt's task came to.
pub(crate) enum Done {
    Model(Answer),
    Tool(ToolOutcome),
}

/// Calls a model, once.
pub(crate) async fn model(
    shared: Arc<Shared>,
    observer: Observer,
    run: RunId,
    permit: Permit,
    request: Request,
    cancel: watch::Receiver<bool>,
) -> Done {
    let provider = request.model.provider();
    let Some(client) = shared.simulated.as_ref().or_else(|| shared.providers.get(&provider)) else {
        return Done::Model(not_configured(permit, provider.as_str()));
    };
    let listener: Listener = Arc::new(move |piece: &str| observer(Progress::Text { run, piece }));
    let listener = request.stream.then_some(listener);
    let answer = client.call(permit, &request, listener.as_ref(), cancel).await;
    failpoint::reach("provider.replied");
    Done::Model(answer)
}

fn not_configured(permit: Permit, provider: &str) -> Answer {
    let failure = Failure {
        class: ErrorClass::NotSent,
        status: None,
        code: None,
        message: format!("provider `{provider}` is not configured"),
        retry_after: None,
    };
    let result = AnswerResult::Unbilled(failure);
    Answer { reservation: permit.spend(), latency: Millis::ZERO, first_token: None, result }
}

/// Calls a tool, once.
pub(crate) async fn tool(
    shared: Arc<Shared>,
    permit: Permit,
    plan: ToolPlan,
    arguments: serde_json::Value,
    cancel: watch::Receiver<bool>,
) -> Done {
    let context = shared.tools.with_cancel(cancel);
    failpoint::reach("tool.call");
    let outcome = tool::call(permit, &plan, &arguments, &context).await;
    failpoint::reach("tool.called");
    Done::Tool(outcome)
}
