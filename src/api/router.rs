//! The paths, over HTTP. JSON both ways; what goes wrong is a problem document (RFC 9457).

use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, FromRequestParts, Path, RawQuery, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::access::Caller;
use super::act::ActRequest;
use super::agents::AgentTable;
use super::alerts::{ALERTS_SHOWN_MAX, AlertRow, AlertTable};
use super::books::Books;
use super::days::BudgetDays;
use super::erase::{EraseRequest, ErasedDocument};
use super::error::{ApiError, ErrorBody};
use super::export::{ExportQuery, Exported};
use super::intake::Taken;
use super::keys::{KeyPage, KeyRequest, KeyRow, NewKey};
use super::openapi;
use super::orders::{ExceptionRequest, ExceptionRow, ExceptionTable, LiftRequest, SwitchRequest, SwitchTable};
use super::outcome::OutcomeRequest;
use super::query::{self, AuditQuery, CostQuery, RunQuery};
use super::routes::{Access, Route, routes};
use super::service::{READ_TIME_MAX, Service};
use super::types::{AnswerRequest, CancelRequest, Health, ResumeRequest, RunPage, RunRequest, WAIT_TIME_MAX};
use super::{API_VERSION, NEXT_HEADER, PROGRAM_HEADER, PROGRAM_VERSION, VERSION_HEADER};
use crate::domain::access::Scope;
use crate::domain::report::{AuditTable, BudgetTable, CostTable, RateTable, RunDocument, Trace};
use crate::runtime::replay::TreeLog;
use crate::store::LOOKS_MAX;
use crate::telemetry;
use crate::units::Millis;

/// The most bytes of a request's body.
pub const BODY_BYTES_MAX: usize = 1024 * 1024;
/// The most bytes of the body that makes a run: its 12 MiB of files are 16 in base64.
pub const RUN_BYTES_MAX: usize = 17 * 1024 * 1024;
/// The longest that one request takes, its wait included.
pub const REQUEST_TIME_MAX: Millis = Millis::from_secs(30);
const _: () = assert!(WAIT_TIME_MAX.0 + READ_TIME_MAX.0 < REQUEST_TIME_MAX.0, "a wait leaves time for the answer");

/// The header of a caller's key, with which a request may be sent twice and makes one run.
pub(super) const KEY_HEADER: &str = "idempotency-key";
/// The header of the last event that a browser has.
pub(super) const LAST_EVENT_HEADER: &str = "last-event-id";

/// Paths that nobody needs a key for.
pub(super) const OPEN_PATHS: [&str; 2] = ["/healthz", "/readyz"];

/// Every path.
pub fn router(service: Service) -> Router {
    let routes = routes().into_iter().map(Route::way);
    routes
        .fold(Router::new(), |router, (path, handler)| router.route(path, handler))
        .fallback(async |uri: Uri| ApiError::NoSuchPath(shown(uri.path())))
        .method_not_allowed_fallback(async |method: Method| ApiError::Method(shown(method.as_str())))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(middleware::from_fn(around))
        .with_state(service)
}

/// The service as whoever asks may use it.
pub(super) struct Asked(Service);

impl FromRequestParts<Service> for Asked {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, service: &Service) -> Result<Self, ApiError> {
        // On the store's own socket nobody was judged: who may connect is its owner.
        let let_in = parts.extensions.get::<Caller>().cloned();
        let caller = let_in.clone().unwrap_or_else(Caller::local);
        match parts.extensions.get::<Access>() {
            // Whether it lives is nobody's secret.
            Some(Access::Open | Access::AnyKey) => {}
            Some(Access::Scope(scope)) => caller.may(*scope)?,
            None => caller.may(Scope::Admin)?,
        }
        Ok(Self(let_in.map_or_else(|| service.clone(), |caller| service.asked_by(caller))))
    }
}

/// What a path names.
pub(super) struct Named(String);

impl FromRequestParts<Service> for Named {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, service: &Service) -> Result<Self, ApiError> {
        let named = Path::<String>::from_request_parts(parts, service).await;
        let Path(name) = named.map_err(|error| {
            ApiError::BadRequest(format!("the path can't be read: {}; write it as UTF-8", error.body_text()))
        })?;
        Ok(Self(name))
    }
}

/// What a message repeats of a request.
fn shown(text: &str) -> String {
    text.escape_debug().to_string().chars().take(64).collect()
}

/// Bounds each request's time, and says both ways who speaks.
async fn around(request: Request, next: Next) -> Response {
    let work = async {
        spoken(request.headers())?;
        Ok::<Response, ApiError>(next.run(request).await)
    };
    let done = tokio::time::timeout(REQUEST_TIME_MAX.duration(), work).await;
    let mut response =
        done.unwrap_or(Err(ApiError::Slow(REQUEST_TIME_MAX))).unwrap_or_else(IntoResponse::into_response);
    response.headers_mut().insert(VERSION_HEADER, HeaderValue::from(API_VERSION));
    response.headers_mut().insert(PROGRAM_HEADER, HeaderValue::from_static(PROGRAM_VERSION));
    response
}

/// Who says that it speaks another version isn't answered; who says nothing is.
fn spoken(headers: &HeaderMap) -> Result<(), ApiError> {
    let Some(version) = headers.get(VERSION_HEADER) else { return Ok(()) };
    if version.as_bytes() == API_VERSION.to_string().as_bytes() {
        return Ok(());
    }
    Err(ApiError::Version(shown(&String::from_utf8_lossy(version.as_bytes()))))
}

/// An answer.
pub(super) struct Json<T>(T);

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        json(StatusCode::OK, &self.0)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = json(self.status(), &ErrorBody::from(&self));
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(seconds) = self.retry_after() {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status() == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

fn json(status: StatusCode, value: &impl Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(bytes) => (status, [(header::CONTENT_TYPE, "application/json")], bytes).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

/// A body; what an empty one means is the type's default.
fn body<T: DeserializeOwned + Default>(bytes: Result<Bytes, BytesRejection>) -> Result<T, ApiError> {
    let bytes = taken(bytes, BODY_BYTES_MAX)?;
    if bytes.is_empty() { Ok(T::default()) } else { read(&bytes) }
}

fn taken(bytes: Result<Bytes, BytesRejection>, most: usize) -> Result<Bytes, ApiError> {
    bytes.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => ApiError::TooLarge(most),
        _ => ApiError::BadRequest(format!("the body can't be read: {}", rejection.body_text())),
    })
}

fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    serde_json::from_slice(bytes).map_err(|error| {
        ApiError::BadRequest(format!("the body can't be understood: {error}; `/openapi.json` says what it takes"))
    })
}

pub(super) async fn health() -> Json<Health> {
    Json(Health { version: PROGRAM_VERSION.to_owned(), api: API_VERSION })
}

pub(super) async fn ready(Asked(service): Asked) -> Result<Json<Health>, ApiError> {
    service.ready().await?;
    Ok(health().await)
}

pub(super) async fn metrics(Asked(service): Asked, RawQuery(query): RawQuery) -> Result<Response, ApiError> {
    query::nothing(query.as_deref())?;
    let text = service.metrics().await?;
    Ok(([(header::CONTENT_TYPE, telemetry::metrics::MEDIA_TYPE)], text).into_response())
}

/// Makes a run: 202 where it goes on beside the answer, 200 where its end was waited for, or its key is known.
pub(super) async fn start(
    Asked(service): Asked,
    headers: HeaderMap,
    bytes: Result<Bytes, BytesRejection>,
) -> Result<Response, ApiError> {
    let request: RunRequest = read(&taken(bytes, RUN_BYTES_MAX)?)?;
    let (taken, document) = service.start(&request, key(&headers)?).await?;
    let is_under_way = matches!(taken, Taken::New(_)) && request.wait.is_none();
    let status = if is_under_way { StatusCode::ACCEPTED } else { StatusCode::OK };
    let mut response = json(status, &document);
    if let Ok(place) = HeaderValue::from_str(&format!("/v1/runs/{}", document.run)) {
        response.headers_mut().insert(header::LOCATION, place);
    }
    Ok(response)
}

/// The caller's key.
fn key(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let Some(key) = headers.get(KEY_HEADER) else { return Ok(None) };
    let visible = key.to_str().ok().map(|key| Some(key.to_owned()));
    visible.ok_or_else(|| ApiError::BadRequest(format!("the header `{KEY_HEADER}` has visible ASCII characters only")))
}

pub(super) async fn events(
    Asked(service): Asked,
    Named(run): Named,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let last = headers.get(LAST_EVENT_HEADER).map(|value| value.to_str().unwrap_or_default().to_owned());
    let first = query::first_event(query.as_deref(), last.as_deref())?;
    match service.listen(run, first).await? {
        Some(listener) => Ok(listener.stream().into_response()),
        // Nothing is left: a browser that asks again hears not to.
        None => Ok(StatusCode::NO_CONTENT.into_response()),
    }
}

pub(super) async fn resume(
    Asked(service): Asked,
    Named(run): Named,
    bytes: Result<Bytes, BytesRejection>,
) -> Result<Json<RunDocument>, ApiError> {
    let request: ResumeRequest = body(bytes)?;
    service.resume(run, &request).await.map(Json)
}

pub(super) async fn runs(Asked(service): Asked, RawQuery(query): RawQuery) -> Result<Json<RunPage>, ApiError> {
    let RunQuery(filter) = RunQuery::read(query.as_deref())?;
    service.read(move |books| books.runs(&filter, LOOKS_MAX)).await.map(Json)
}

pub(super) async fn run(
    Asked(service): Asked,
    Named(run): Named,
    RawQuery(query): RawQuery,
) -> Result<Json<RunDocument>, ApiError> {
    service.run(run, query::wait(query.as_deref())?).await.map(Json)
}

pub(super) async fn trace(
    Asked(service): Asked,
    Named(run): Named,
    RawQuery(query): RawQuery,
) -> Result<Json<Trace>, ApiError> {
    query::nothing(query.as_deref())?;
    service.read(move |books| books.trace(books.find(&run)?.id)).await.map(Json)
}

pub(super) async fn log(
    Asked(service): Asked,
    Named(run): Named,
    RawQuery(query): RawQuery,
) -> Result<Json<TreeLog>, ApiError> {
    query::nothing(query.as_deref())?;
    service.read(move |books| books.tree_log(books.find(&run)?.id)).await.map(Json)
}

pub(super) async fn cancel(
    Asked(service): Asked,
    Named(run): Named,
    bytes: Result<Bytes, BytesRejection>,
) -> Result<Json<RunDocument>, ApiError> {
    let request: CancelRequest = body(bytes)?;
    service.cancel(run, &request).await.map(Json)
}

pub(super) async fn approve(
    Asked(service): Asked,
    Named(run): Named,
    bytes: Result<Bytes, BytesRejection>,
) -> Result<Json<RunDocument>, ApiError> {
    let request: AnswerRequest = body(bytes)?;
    service.answer(run, &request).await.map(Json)
}

pub(super) async fn answer(
    Asked(service): Asked,
    Named(run): Named,
    bytes: Result<Bytes, BytesRejection>,
) -> Result<Json<RunDocument>, ApiError> {
    let request: AnswerRequest = body(bytes)?;
    if request.answer.is_none() {
        let message = "the body has no `answer`; send `{\"answer\": \"…\"}`, or ask `…/approve` for a yes or a no";
        return Err(ApiError::BadRequest(message.to_owned()));
    }
    service.answer(run, &request).await.map(Json)
}

pub(super) async fn outcome(
    Asked(service): Asked,
    Named(run): Named,
    bytes: Result<Bytes, BytesRejection>,
) -> Result<Json<RunDocument>, ApiError> {
    let request: OutcomeRequest = read(&taken(bytes, BODY_BYTES_MAX)?)?;
    service.record_outcome(run, &request).await.map(Json)
}

pub(super) async fn costs(Asked(service): Asked, RawQuery(query): RawQuery) -> Result<Json<CostTable>, ApiError> {
    let query = CostQuery::read(query.as_deref(), service.now())?;
    service.read(move |books| books.costs(&query)).await.map(Json)
}

pub(super) async fn erase(
    Asked(service): Asked,
    bytes: Result<Bytes, BytesRejection>,
) -> Result<Json<ErasedDocument>, ApiError> {
    let request: EraseRequest = read(&taken(bytes, BODY_BYTES_MAX)?)?;
    service.erase(&request).await.map(Json)
}

pub(super) async fn keys(Asked(service): Asked, RawQuery(query): RawQuery) -> Result<Json<KeyPage>, ApiError> {
    query::nothing(query.as_deref())?;
    service.keys().await.map(Json)
}

pub(super) async fn make_key(
    Asked(service): Asked,
    bytes: Result<Bytes, BytesRejection>,
) -> Result<Response, ApiError> {
    let request: KeyRequest = read(&taken(bytes, BODY_BYTES_MAX)?)?;
    Ok(json(StatusCode::CREATED, &service.make_key(&request).await?))
}

pub(super) async fn rotate_key(
    Asked(service): Asked,
    Named(key): Named,
    bytes: Result<Bytes, BytesRejection>,
) -> Result<Json<NewKey>, ApiError> {
    let request: ActRequest = read(&taken(bytes, BODY_BYTES_MAX)?)?;
    service.rotate_key(&key, &request).await.map(Json)
}

pub(super) async fn revoke_key(
    Asked(service): Asked,
    Named(key): Named,
    bytes: Result<Bytes, BytesRejection>,
) -> Result<Json<KeyRow>, ApiError> {
    let request: ActRequest = read(&taken(bytes, BODY_BYTES_MAX)?)?;
    service.revoke_key(&key, &request).await.map(Json)
}

pub(super) async fn exceptions(
    Asked(service): Asked,
    RawQuery(query): RawQuery,
) -> Result<Json<ExceptionTable>, ApiError> {
    query::nothing(query.as_deref())?;
    service.exceptions().await.map(Json)
}

pub(super) async fn ask_exception(
    Asked(service): Asked,
    bytes: Result<Bytes, BytesRejection>,
) -> Result<Response, ApiError> {
    let request: ExceptionRequest = read(&taken(bytes, BODY_BYTES_MAX)?)?;
    Ok(json(StatusCode::CREATED, &service.ask_exception(&request).await?))
}

pub(super) async fn approve_exception(
    Asked(service): Asked,
    Named(exception): Named,
    bytes: Result<Bytes, BytesRejection>,
) -> Result<Json<ExceptionRow>, ApiError> {
    let request: ActRequest = read(&taken(bytes, BODY_BYTES_MAX)?)?;
    service.approve_exception(query::number("exception", &exception)?, &request).await.map(Json)
}

pub(super) async fn end_exception(
    Asked(service): Asked,
    Named(exception): Named,
    bytes: Result<Bytes, BytesRejection>,
) -> Result<Json<ExceptionRow>, ApiError> {
    let request: ActRequest = read(&taken(bytes, BODY_BYTES_MAX)?)?;
    service.end_exception(query::number("exception", &exception)?, &request).await.map(Json)
}

pub(super) async fn switches(Asked(service): Asked, RawQuery(query): RawQuery) -> Result<Json<SwitchTable>, ApiError> {
    query::nothing(query.as_deref())?;
    service.switches().await.map(Json)
}

pub(super) async fn set_switch(
    Asked(service): Asked,
    bytes: Result<Bytes, BytesRejection>,
) -> Result<Json<SwitchTable>, ApiError> {
    let request: SwitchRequest = read(&taken(bytes, BODY_BYTES_MAX)?)?;
    service.set_switch(&request).await.map(Json)
}

pub(super) async fn lift_switch(
    Asked(service): Asked,
    bytes: Result<Bytes, BytesRejection>,
) -> Result<Json<SwitchTable>, ApiError> {
    let request: LiftRequest = read(&taken(bytes, BODY_BYTES_MAX)?)?;
    service.lift_switch(&request).await.map(Json)
}

pub(super) async fn budgets(Asked(service): Asked, RawQuery(query): RawQuery) -> Result<Json<BudgetTable>, ApiError> {
    query::nothing(query.as_deref())?;
    service.read(Books::budgets).await.map(Json)
}

pub(super) async fn budget_days(
    Asked(service): Asked,
    Named(budget): Named,
    RawQuery(query): RawQuery,
) -> Result<Json<BudgetDays>, ApiError> {
    let scope = query::scope(query.as_deref())?;
    service.read(move |books| books.budget_days(&budget, &scope)).await.map(Json)
}

pub(super) async fn alerts(Asked(service): Asked, RawQuery(query): RawQuery) -> Result<Json<AlertTable>, ApiError> {
    query::nothing(query.as_deref())?;
    service.read(|books| books.alerts(ALERTS_SHOWN_MAX)).await.map(Json)
}

pub(super) async fn retry_alert(Asked(service): Asked, Named(alert): Named) -> Result<Json<AlertRow>, ApiError> {
    service.retry_alert(query::number("alert", &alert)?).await.map(Json)
}

pub(super) async fn audit(Asked(service): Asked, RawQuery(query): RawQuery) -> Result<Json<AuditTable>, ApiError> {
    let AuditQuery(filter) = AuditQuery::read(query.as_deref())?;
    service.read(move |books| books.audit(&filter)).await.map(Json)
}

pub(super) async fn export(
    Asked(service): Asked,
    Named(what): Named,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    let none = |()| ApiError::NoSuchPath(shown(&format!("/v1/export/{what}")));
    let query = ExportQuery::read(what.parse::<Exported>().map_err(none)?, query.as_deref())?;
    let exported = query.exported;
    let page = service.read(move |books| books.export(&query)).await?;
    let mut response = ([(header::CONTENT_TYPE, exported.media_type())], page.text).into_response();
    if let Some(next) = page.next.and_then(|next| HeaderValue::from_str(&next.to_string()).ok()) {
        response.headers_mut().insert(NEXT_HEADER, next);
    }
    Ok(response)
}

pub(super) async fn agents(Asked(service): Asked, RawQuery(query): RawQuery) -> Result<Json<AgentTable>, ApiError> {
    query::nothing(query.as_deref())?;
    Ok(Json(service.agents()))
}

pub(super) async fn document(_: Asked, RawQuery(query): RawQuery) -> Result<Response, ApiError> {
    query::nothing(query.as_deref())?;
    Ok(([(header::CONTENT_TYPE, "application/json")], openapi::text()).into_response())
}

pub(super) async fn rates(Asked(service): Asked, RawQuery(query): RawQuery) -> Result<Json<RateTable>, ApiError> {
    query::nothing(query.as_deref())?;
    service.caller().is_unbound()?;
    Ok(Json(service.rates()))
}
