//! Every path: who answers it, who may ask, what it takes and gives, and what can be wrong. The router and the OpenAPI document
//! are both made of this one table, so that neither knows a path that the other doesn't.

use std::convert::Infallible;

use axum::Extension;
use axum::extract::DefaultBodyLimit;
use axum::handler::Handler;
use axum::http::{Method, StatusCode};
use axum::routing::{self, MethodRouter};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::json;

use super::NEXT_HEADER;
use super::act::ActRequest;
use super::agents::AgentTable;
use super::alerts::{AlertRow, AlertTable};
use super::days::BudgetDays;
use super::erase::{EraseRequest, ErasedDocument};
use super::error::code;
use super::keys::{KeyPage, KeyRequest, KeyRow, NewKey};
use super::orders::{ExceptionRequest, ExceptionRow, ExceptionTable, LiftRequest, SwitchRequest, SwitchTable};
use super::outcome::OutcomeRequest;
use super::parameters::{self, Describe, Parameter, Parameters};
use super::router as answer;
use super::router::{BODY_BYTES_MAX, RUN_BYTES_MAX};
use super::service::Service;
use super::types::{AnswerRequest, CancelRequest, Health, ResumeRequest, RunPage, RunRequest};
use crate::domain::access::Scope;
use crate::domain::report::{AuditTable, BudgetTable, CostTable, RateTable, RunDocument, Trace};
use crate::telemetry;

/// Who may ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// Everybody.
    Open,
    /// Who has a key, whatever its scopes.
    AnyKey,
    /// Who has a key with this scope.
    Scope(Scope),
}

/// What a body may be.
pub(super) struct Body {
    pub(super) schema: Describe,
    /// True where an empty one isn't taken.
    pub(super) required: bool,
    pub(super) bytes_max: usize,
}

/// One answer.
pub(super) struct Gives {
    pub(super) status: StatusCode,
    pub(super) says: &'static str,
    /// Its media types, each with what it holds; none for an answer without a body.
    pub(super) content: Vec<(&'static str, Describe)>,
    /// Its headers, beside those that every answer has.
    pub(super) headers: &'static [(&'static str, &'static str)],
}

/// One way into the API.
pub(super) struct Route {
    pub(super) method: Method,
    pub(super) path: &'static str,
    /// What the operation is called in clients that are made from the document.
    pub(super) id: &'static str,
    pub(super) says: &'static str,
    pub(super) access: Access,
    pub(super) takes: Parameters,
    pub(super) headers: &'static [Parameter],
    pub(super) body: Option<Body>,
    pub(super) gives: Vec<Gives>,
    /// The codes of what can be wrong, beside those of every path.
    pub(super) problems: &'static [&'static str],
    handler: MethodRouter<Service, Infallible>,
}

impl Route {
    fn get<H: Handler<T, Service>, T: 'static>(path: &'static str, id: &'static str, handler: H) -> Self {
        Self::new(Method::GET, path, id, routing::get(handler))
    }

    fn post<H: Handler<T, Service>, T: 'static>(path: &'static str, id: &'static str, handler: H) -> Self {
        Self::new(Method::POST, path, id, routing::post(handler))
    }

    fn new(method: Method, path: &'static str, id: &'static str, handler: MethodRouter<Service>) -> Self {
        Self {
            method,
            path,
            id,
            says: "",
            access: Access::Scope(Scope::Admin),
            takes: parameters::NONE,
            headers: &[],
            body: None,
            gives: Vec::new(),
            problems: &[],
            handler,
        }
    }

    fn says(mut self, says: &'static str) -> Self {
        self.says = says;
        self
    }

    fn scope(mut self, scope: Scope) -> Self {
        self.access = Access::Scope(scope);
        self
    }

    fn access(mut self, access: Access) -> Self {
        self.access = access;
        self
    }

    fn takes(mut self, parameters: Parameters) -> Self {
        self.takes = parameters;
        self
    }

    fn headers(mut self, headers: &'static [Parameter]) -> Self {
        self.headers = headers;
        self
    }

    fn fails(mut self, problems: &'static [&'static str]) -> Self {
        self.problems = problems;
        self
    }

    /// Takes a body.
    fn body<T: JsonSchema>(mut self) -> Self {
        self.body = Some(Body { schema: of::<T>, required: true, bytes_max: BODY_BYTES_MAX });
        self
    }

    /// Takes a body, or none.
    fn body_or_none<T: JsonSchema>(mut self) -> Self {
        self.body = Some(Body { schema: of::<T>, required: false, bytes_max: BODY_BYTES_MAX });
        self
    }

    /// Takes a body of more bytes than others.
    fn large_body<T: JsonSchema>(mut self, bytes_max: usize) -> Self {
        self.body = Some(Body { schema: of::<T>, required: true, bytes_max });
        self.handler = self.handler.route_layer(DefaultBodyLimit::max(bytes_max));
        self
    }

    fn gives<T: JsonSchema>(self, says: &'static str) -> Self {
        self.gives_with::<T>(StatusCode::OK, says, &[])
    }

    fn gives_with<T: JsonSchema>(
        self,
        status: StatusCode,
        says: &'static str,
        headers: &'static [(&'static str, &'static str)],
    ) -> Self {
        self.gives_as(Gives { status, says, content: vec![("application/json", of::<T>)], headers })
    }

    fn gives_as(mut self, gives: Gives) -> Self {
        self.gives.push(gives);
        self
    }

    /// The way that the router takes, which says who may ask.
    pub(super) fn way(self) -> (&'static str, MethodRouter<Service>) {
        (self.path, self.handler.route_layer(Extension(self.access)))
    }
}

fn of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

const OF_A_RUN: &[&str] = &[code::NO_SUCH_RUN, code::SEVERAL_RUNS];
const CHANGES_A_RUN: &[&str] = &[code::NO_SUCH_RUN, code::SEVERAL_RUNS, code::STATE];
const PLACE: &[(&str, &str)] = &[("Location", "The run's path.")];

/// Every path.
pub(super) fn routes() -> Vec<Route> {
    let groups = [service(), runs(), changes_of_runs(), money(), orders(), books(), keys()];
    groups.into_iter().flatten().collect()
}

fn service() -> Vec<Route> {
    vec![
        Route::get("/healthz", "getHealth", answer::health)
            .says("Whether the process lives.")
            .access(Access::Open)
            .gives::<Health>("It does."),
        Route::get("/readyz", "getReadiness", answer::ready)
            .says("Whether runs can be made.")
            .access(Access::Open)
            .fails(&[code::CLOSED])
            .gives::<Health>("They can."),
        Route::get("/metrics", "getMetrics", answer::metrics)
            .says("Metrics of this process and its store, for Prometheus.")
            .scope(Scope::Read)
            .fails(&[code::NO_SUCH_PATH])
            .gives_as(Gives {
                status: StatusCode::OK,
                says: "As they stand.",
                content: vec![(telemetry::metrics::MEDIA_TYPE, plain)],
                headers: &[],
            }),
        Route::get("/openapi.json", "getDocument", answer::document)
            .says("This document.")
            .access(Access::AnyKey)
            .gives_as(Gives {
                status: StatusCode::OK,
                says: "OpenAPI 3.1.",
                content: vec![("application/json", any_object)],
                headers: &[],
            }),
        Route::get("/v1/agents", "listAgents", answer::agents)
            .says("The agents that runs can be made of, with what one run of each can cost at most.")
            .scope(Scope::Read)
            .gives::<AgentTable>("By name."),
    ]
}

fn runs() -> Vec<Route> {
    vec![
        Route::get("/v1/runs", "listRuns", answer::runs)
            .says("Runs, newest first, page by page.")
            .scope(Scope::Read)
            .takes(parameters::RUNS)
            .gives::<RunPage>("A page; `next` is there as long as others follow, and then it may have fewer than were asked for."),
        Route::post("/v1/runs", "startRun", answer::start)
            .says("Makes a run and has it driven. It is on disk before the answer.")
            .scope(Scope::Run)
            .headers(&[parameters::KEY])
            .large_body::<RunRequest>(RUN_BYTES_MAX)
            .fails(&[code::NO_SUCH_AGENT, code::INPUT, code::KEY, code::STATE, code::FULL, code::CLOSED])
            .gives_with::<RunDocument>(StatusCode::ACCEPTED, "It was made, and goes on.", PLACE)
            .gives_with::<RunDocument>(StatusCode::OK, "It was waited for, or was made by this key before.", PLACE),
        Route::get("/v1/runs/{run}", "getRun", answer::run)
            .says("A run's document.")
            .scope(Scope::Read)
            .takes(parameters::WAIT)
            .fails(OF_A_RUN)
            .gives::<RunDocument>("As it stands."),
        Route::get("/v1/runs/{run}/trace", "getTrace", answer::trace)
            .says("Everything that a run did, with those below it, what each attempt cost, and what each limit stood at.")
            .scope(Scope::Read)
            .fails(OF_A_RUN)
            .gives::<Trace>("As far as it came."),
        Route::get("/v1/runs/{run}/log", "getLog", answer::log)
            .says("The logs and the plan of a run's tree: what `plimsoll replay` judges.")
            .scope(Scope::Read)
            .fails(OF_A_RUN)
            .gives_as(Gives {
                status: StatusCode::OK,
                says: "The whole tree.",
                content: vec![("application/json", tree_log)],
                headers: &[],
            }),
        Route::get("/v1/runs/{run}/events", "streamEvents", answer::events)
            .says("A run's log as server-sent events, from a number on, until the run has ended.")
            .scope(Scope::Read)
            .takes(parameters::EVENTS)
            .headers(&[parameters::LAST_EVENT])
            .fails(&[code::NO_SUCH_RUN, code::SEVERAL_RUNS, code::FULL])
            .gives_as(Gives {
                status: StatusCode::OK,
                says: "Its `id` is an event's number, its `event` the kind, its `data` JSON with `run`, `seq`, `at` and `event`. \
                       Beside them stand `text` and `text_discarded`, without a number: a piece of an answer under way.",
                content: vec![("text/event-stream", plain)],
                headers: &[],
            })
            .gives_as(Gives {
                status: StatusCode::NO_CONTENT,
                says: "It has ended, and the caller has all events: don't ask again.",
                content: Vec::new(),
                headers: &[],
            }),
    ]
}

fn changes_of_runs() -> Vec<Route> {
    vec![
        Route::post("/v1/runs/{run}/resume", "resumeRun", answer::resume)
            .says("Has a run go on that waits or was interrupted.")
            .scope(Scope::Run)
            .body_or_none::<ResumeRequest>()
            .fails(CHANGES_A_RUN)
            .gives::<RunDocument>("It goes on."),
        Route::post("/v1/runs/{run}/cancel", "cancelRun", answer::cancel)
            .says("Asks a run to end; what is in flight is settled first.")
            .scope(Scope::Run)
            .body_or_none::<CancelRequest>()
            .fails(CHANGES_A_RUN)
            .gives::<RunDocument>("It was asked."),
        Route::post("/v1/runs/{run}/approve", "approveRun", answer::approve)
            .says("Says yes or no to what a run asks, and has it go on.")
            .scope(Scope::Approve)
            .body_or_none::<AnswerRequest>()
            .fails(CHANGES_A_RUN)
            .gives::<RunDocument>("It was heard."),
        Route::post("/v1/runs/{run}/answer", "answerRun", answer::answer)
            .says("Answers what a run asks, and has it go on; needs `answer`.")
            .scope(Scope::Approve)
            .body::<AnswerRequest>()
            .fails(CHANGES_A_RUN)
            .gives::<RunDocument>("It was heard."),
        Route::post("/v1/runs/{run}/outcome", "recordOutcome", answer::outcome)
            .says("Says what a run was worth; what is left out stays as it was said before.")
            .scope(Scope::Run)
            .body::<OutcomeRequest>()
            .fails(CHANGES_A_RUN)
            .gives::<RunDocument>("It was recorded."),
    ]
}

fn money() -> Vec<Route> {
    vec![
        Route::get("/v1/costs", "listCosts", answer::costs)
            .says("Cost by dimension, with what it was worth. Rows add up to the total.")
            .scope(Scope::Read)
            .takes(parameters::COSTS)
            .gives::<CostTable>("The dearest row first."),
        Route::get("/v1/budgets", "listBudgets", answer::budgets)
            .says("Every account of every budget, with its forecast.")
            .scope(Scope::Read)
            .gives::<BudgetTable>("In the order of the project's file."),
        Route::get("/v1/budgets/{budget}/days", "listBudgetDays", answer::budget_days)
            .says("How an account's current period was spent, day by day.")
            .scope(Scope::Read)
            .takes(parameters::SCOPE)
            .gives::<BudgetDays>("From the period's first day to this one."),
        Route::get("/v1/budgets/exceptions", "listExceptions", answer::exceptions)
            .says("Exceptions of budgets' caps.")
            .scope(Scope::Read)
            .gives::<ExceptionTable>("The newest first."),
        Route::post("/v1/budgets/exceptions", "askException", answer::ask_exception)
            .says("Asks for an exception; it counts once another person approves it.")
            .scope(Scope::Run)
            .body::<ExceptionRequest>()
            .gives_with::<ExceptionRow>(StatusCode::CREATED, "It was asked for.", &[]),
        Route::post("/v1/budgets/exceptions/{exception}/approve", "approveException", answer::approve_exception)
            .says("Approves an exception, which who asked for it can't.")
            .scope(Scope::Approve)
            .body::<ActRequest>()
            .fails(&[code::NO_SUCH_EXCEPTION, code::STATE])
            .gives::<ExceptionRow>("It counts."),
        Route::post("/v1/budgets/exceptions/{exception}/end", "endException", answer::end_exception)
            .says("Refuses an exception, or takes it back.")
            .scope(Scope::Approve)
            .body::<ActRequest>()
            .fails(&[code::NO_SUCH_EXCEPTION, code::STATE])
            .gives::<ExceptionRow>("It counts no more."),
    ]
}

fn orders() -> Vec<Route> {
    vec![
        Route::get("/v1/switches", "listSwitches", answer::switches)
            .says("The switches that are set.")
            .scope(Scope::Read)
            .gives::<SwitchTable>("By scope."),
        Route::post("/v1/switches", "setSwitch", answer::set_switch)
            .says("Pauses or ends the runs of a scope, or takes a model out of use.")
            .body::<SwitchRequest>()
            .gives::<SwitchTable>("All that are set."),
        Route::post("/v1/switches/lift", "liftSwitch", answer::lift_switch)
            .says("Lifts a switch: runs that it held go on.")
            .body::<LiftRequest>()
            .gives::<SwitchTable>("All that are set."),
    ]
}

fn books() -> Vec<Route> {
    vec![
        Route::get("/v1/rates", "listRates", answer::rates)
            .says("Rates, what providers still take, and breakers.")
            .scope(Scope::Read)
            .gives::<RateTable>("Of this process, as they stand."),
        Route::get("/v1/export/{what}", "export", answer::export)
            .says("What the store holds, page by page: go on with `after` for as long as `plimsoll-next` is there.")
            .scope(Scope::Read)
            .takes(parameters::EXPORT)
            .fails(&[code::NO_SUCH_PATH, code::NO_SUCH_RUN, code::SEVERAL_RUNS])
            .gives_as(Gives {
                status: StatusCode::OK,
                says: "A page.",
                content: vec![("application/x-ndjson", plain), ("text/csv", plain)],
                headers: &[(NEXT_HEADER, "What `after` must be for the next page; absent on the last one.")],
            }),
        Route::get("/v1/alerts", "listAlerts", answer::alerts)
            .says("Alerts that wait, and the last that were delivered or given up.")
            .scope(Scope::Read)
            .gives::<AlertTable>("The newest first."),
        Route::post("/v1/alerts/{alert}/retry", "retryAlert", answer::retry_alert)
            .says("Has an alert delivered anew, whatever became of it.")
            .gives::<AlertRow>("It waits."),
        Route::get("/v1/audit", "listAudit", answer::audit)
            .says("Who changed what is allowed, when and why, newest first, page by page.")
            .scope(Scope::Read)
            .takes(parameters::AUDIT)
            .gives::<AuditTable>(
                "A page; `next` is there as long as others follow, and then it may have fewer than were asked for.",
            ),
        Route::post("/v1/erase", "eraseBodies", answer::erase)
            .says("Takes what was written and answered in somebody's runs out of the store, for good; sums stay.")
            .body::<EraseRequest>()
            .gives::<ErasedDocument>("What was removed; ask again while `left` isn't 0."),
    ]
}

fn keys() -> Vec<Route> {
    vec![
        Route::get("/v1/keys", "listKeys", answer::keys)
            .says("All keys, without their texts.")
            .gives::<KeyPage>("The newest last."),
        Route::post("/v1/keys", "makeKey", answer::make_key)
            .says("Makes a key.")
            .body::<KeyRequest>()
            .gives_with::<NewKey>(StatusCode::CREATED, "With its text, which is shown this once.", &[]),
        Route::post("/v1/keys/{key}/rotate", "rotateKey", answer::rotate_key)
            .says("Gives a key another text; the old one counts no more.")
            .body::<ActRequest>()
            .fails(&[code::NO_SUCH_KEY])
            .gives::<NewKey>("With its new text, which is shown this once."),
        Route::post("/v1/keys/{key}/revoke", "revokeKey", answer::revoke_key)
            .says("Has a key count no more, for good.")
            .body::<ActRequest>()
            .fails(&[code::NO_SUCH_KEY])
            .gives::<KeyRow>("It is revoked."),
    ]
}

fn plain(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string" })
}

fn any_object(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "object" })
}

/// Events and plans have as many forms as the program has; what they are called and hold is in the crate's own documentation.
fn tree_log(generator: &mut SchemaGenerator) -> Schema {
    let run = of::<crate::ids::RunId>(generator).to_value();
    let event = json!({
        "type": "object",
        "description": "One event: see `plimsoll::domain::event::Recorded` in the crate's documentation.",
        "required": ["seq", "at", "event"],
        "properties": {
            "seq": { "type": "integer", "minimum": 0, "description": "Its number, from 0 without a gap." },
            "at": { "type": "integer", "minimum": 0, "description": "When, in milliseconds since 1970." },
            "event": { "type": "object", "required": ["kind"], "properties": { "kind": { "type": "string" } } },
        },
    });
    json_schema!({
        "type": "object",
        "required": ["root", "plan", "earlier", "logs"],
        "properties": {
            "root": run,
            "plan": { "type": "object", "description": "See `plimsoll::domain::plan::Plan` in the crate's documentation." },
            "erased": { "type": "boolean", "description": "True where bodies were taken out of the store." },
            "earlier": { "type": "array", "items": { "type": "object" }, "description": "What was said in its thread before." },
            "logs": {
                "type": "object",
                "description": "By run.",
                "additionalProperties": { "type": "array", "items": event },
            },
        },
    })
}
