//! Who answers: the providers and tools behind an attempt that the gate granted. Live here; a simulation or a recording
//! stands in their place.
//!
//! Invariants: whoever answers takes the permit by value, so a granted attempt is performed once at most; whatever comes
//! of it is an answer, never an error of ours. Deliberately absent: prices, limits and retries.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;

use serde_json::Value;

use crate::domain::context::Documents;
use crate::domain::event::Count;
use crate::domain::message::Request;
use crate::domain::plan::ToolPlan;
use crate::domain::rate::ToldRates;
use crate::domain::retry::{ErrorClass, Failure};
use crate::gate::Permit;
use crate::ids::{AccountName, AgentName, ProviderName};
use crate::provider::{Answer, AnswerResult, CancelSignal, Client, Listener};
use crate::tool::{self, ToolContext, ToolOutcome};
use crate::units::Millis;

/// An answer on its way.
pub type Answering<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Performs what was granted.
pub trait Answers: Send + Sync + 'static {
    /// Makes one attempt at a model: one request at most, within the permit's time limits. A stream's text goes to
    /// `listener` as it comes; after `cancel` nobody wants the answer, but its usage is still wanted.
    fn model(
        &self,
        permit: Permit,
        request: Request,
        listener: Option<Listener>,
        cancel: CancelSignal,
    ) -> Answering<'_, Answer>;

    /// Asks a provider how many tokens a request's input counts, at no cost and within the permit's time limit. Who stands in
    /// for providers counts nothing.
    fn count(&self, permit: Permit, request: Request) -> Answering<'_, Count> {
        let _ = (permit.spend(), request);
        Box::pin(std::future::ready(Count::Not { why: "nobody is asked who could count".to_owned() }))
    }

    /// Makes one call of a tool, within its own time limit and the permit's; it ends on `cancel`.
    fn tool(
        &self,
        permit: Permit,
        plan: ToolPlan,
        arguments: Value,
        cancel: CancelSignal,
    ) -> Answering<'_, ToolOutcome>;

    /// A request as it would go out, paid by an account of its provider or by the provider's own key; `None` where nothing
    /// would, or where what is said must come from who is asked.
    fn outgoing(&self, request: &Request, account: Option<&AccountName>) -> Option<Outgoing> {
        let _ = (request, account);
        None
    }

    /// The documents of a sub-agent's run, where they aren't to be looked for: those that it had, if it had some.
    fn documents(&self, agent: &AgentName, input: &Value) -> Option<Option<Documents>> {
        let _ = (agent, input);
        None
    }

    /// A request as it would go out, for people to see; `None` where nothing would.
    fn wire(&self, request: &Request) -> Option<Value> {
        serde_json::from_slice(&self.outgoing(request, None)?.body).ok()
    }
}

/// A request as it would go out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// Where it would go.
    pub url: String,
    /// Its headers, but for keys and what names the attempt.
    pub head: String,
    /// Its body, byte for byte.
    pub body: Vec<u8>,
}

/// The configured providers, or the simulated one in all their places, and the tools.
pub(crate) struct Live {
    pub(crate) providers: BTreeMap<ProviderName, Client>,
    /// Answers for every provider that isn't configured.
    pub(crate) simulated: Option<Client>,
    pub(crate) tools: ToolContext,
}

impl Live {
    fn client(&self, provider: &ProviderName) -> Option<&Client> {
        self.providers.get(provider).or(self.simulated.as_ref())
    }
}

impl Answers for Live {
    fn model(
        &self,
        permit: Permit,
        request: Request,
        listener: Option<Listener>,
        cancel: CancelSignal,
    ) -> Answering<'_, Answer> {
        Box::pin(async move {
            let provider = request.model.provider();
            match self.client(&provider) {
                Some(client) => client.call(permit, &request, listener.as_ref(), cancel).await,
                None => not_configured(permit, provider.as_str()),
            }
        })
    }

    fn count(&self, permit: Permit, request: Request) -> Answering<'_, Count> {
        Box::pin(async move {
            match self.client(&request.model.provider()) {
                Some(client) => client.count(permit, &request).await,
                None => Count::Not { why: "its provider isn't configured".to_owned() },
            }
        })
    }

    fn tool(
        &self,
        permit: Permit,
        plan: ToolPlan,
        arguments: Value,
        cancel: CancelSignal,
    ) -> Answering<'_, ToolOutcome> {
        let context = self.tools.with_cancel(cancel);
        Box::pin(async move { tool::call(permit, &plan, &arguments, &context).await })
    }

    fn outgoing(&self, request: &Request, account: Option<&AccountName>) -> Option<Outgoing> {
        let client = self.client(&request.model.provider())?;
        let (url, head) = (client.url().to_owned(), client.head(request, account));
        Some(Outgoing { url, head, body: client.body(request).ok()? })
    }
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
    Answer {
        reservation: permit.spend(),
        latency: Millis::ZERO,
        first_token: None,
        rates: ToldRates::default(),
        result,
    }
}
