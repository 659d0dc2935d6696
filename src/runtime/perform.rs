//! Performs what the gate granted: one task for each attempt. Whatever comes of it is fed back.

use std::sync::Arc;

use tokio::sync::watch;

use super::Shared;
use super::progress::{Observer, Progress};
use crate::domain::message::Request;
use crate::domain::plan::ToolPlan;
use crate::failpoint;
use crate::gate::Permit;
use crate::ids::RunId;
use crate::provider::{Answer, Listener};
use crate::telemetry::Pieces;
use crate::tool::ToolOutcome;

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
    let pieces = shared.telemetry.get().map(|telemetry| telemetry.pieces(&request.model));
    let listener: Listener = Arc::new(move |piece: &str| {
        pieces.iter().for_each(Pieces::came);
        observer(Progress::Text { run, piece });
    });
    let listener = request.stream.then_some(listener);
    let answer = shared.answers.model(permit, request, listener, cancel).await;
    failpoint::reach("provider.replied");
    Done::Model(answer)
}

/// Calls a tool, once.
pub(crate) async fn tool(
    shared: Arc<Shared>,
    permit: Permit,
    plan: ToolPlan,
    arguments: serde_json::Value,
    cancel: watch::Receiver<bool>,
) -> Done {
    failpoint::reach("tool.call");
    let outcome = shared.answers.tool(permit, plan, arguments, cancel).await;
    failpoint::reach("tool.called");
    Done::Tool(outcome)
}
