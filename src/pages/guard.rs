//! Who looks at a page: judged once for each request, before anything is read.

use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};

use super::Pages;
use super::layout::{self, Shell, Told};
use super::switches;
use super::text::link;
use crate::api::tcp::judge;
use crate::api::{ApiError, Caller, Service};
use crate::domain::access::Scope;

/// What a browser may do with a page: load from here, send forms here, and nothing else.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; \
form-action 'self'; base-uri 'none'; frame-ancestors 'none'";
/// Switches that each page names.
const HELD_SHOWN: usize = 5;

/// Who looks.
#[derive(Clone)]
pub(super) struct Visitor {
    /// What they may ask.
    pub(super) service: Service,
    /// What their forms carry.
    pub(super) token: String,
    /// The switches that are set, in words: nothing for who sees some labels only.
    pub(super) held: Vec<String>,
}

impl Visitor {
    pub(super) const fn caller(&self) -> &Caller {
        self.service.caller()
    }

    /// Looks whether they may do something.
    ///
    /// # Errors
    /// They may not.
    pub(super) fn may(&self, scope: Scope) -> Result<(), Told> {
        Ok(self.caller().may(scope)?)
    }

    /// The same, who is told of the switches that are set.
    async fn told_of_switches(self) -> Result<Self, ApiError> {
        let table = match self.service.switches().await {
            Err(ApiError::Bound) => return Ok(self),
            table => table?,
        };
        let mut held: Vec<String> = table.switches.iter().take(HELD_SHOWN).map(switches::words).collect();
        let more = table.switches.len().saturating_sub(HELD_SHOWN);
        held.extend((more > 0).then(|| format!("and {more} more")));
        Ok(Self { held, ..self })
    }

    /// The page around what they see.
    pub(super) fn shell(&self, section: layout::Section, title: &str) -> Shell {
        Shell::of(self, section, title)
    }
}

impl FromRequestParts<Pages> for Visitor {
    type Rejection = Told;

    async fn from_request_parts(parts: &mut Parts, _: &Pages) -> Result<Self, Told> {
        parts.extensions.get::<Self>().cloned().ok_or(Told(ApiError::NoKey))
    }
}

/// What to do with a request.
enum Judged {
    LetIn(Box<Visitor>),
    /// It needs nobody.
    Open,
    /// It has no session: to the login, and then back.
    Login,
    /// It may have one: a link on another site keeps the cookie back until the page is asked for from here.
    Again,
}

/// Judges a request, and tells the browser what it may do with the answer.
pub(super) async fn guarded(State(pages): State<Pages>, mut request: Request, next: Next) -> Response {
    let mut response = match judged(&pages, &request) {
        Ok(Judged::LetIn(visitor)) => match visitor.told_of_switches().await {
            Ok(visitor) => {
                request.extensions_mut().insert(visitor);
                next.run(request).await
            }
            Err(error) => Told(error).into_response(),
        },
        Ok(Judged::Open) => next.run(request).await,
        Ok(Judged::Login) => Redirect::to(&to_login(&request)).into_response(),
        Ok(Judged::Again) => layout::again(),
        Err(error) => Told(error).into_response(),
    };
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    // To nobody else. Without any, a browser says of its forms that they come from nowhere, and they aren't heard.
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

fn judged(pages: &Pages, request: &Request) -> Result<Judged, ApiError> {
    let (shared, path) = (&pages.0, request.uri().path());
    let keeper = shared.service.gatekeeper();
    if !keeper.asks_for_keys() {
        judge(request)?;
    }
    is_from_here(request)?;
    if path.starts_with("/assets/") {
        return Ok(Judged::Open);
    }
    if !keeper.asks_for_keys() {
        let (service, token) = (shared.service.asked_by(Caller::local()), shared.token.clone());
        return Ok(Judged::LetIn(Box::new(Visitor { service, token, held: Vec::new() })));
    }
    if let Some(session) = shared.sessions.find(request.headers(), keeper, shared.service.now()) {
        let service = shared.service.asked_by(session.caller);
        return Ok(Judged::LetIn(Box::new(Visitor { service, token: session.token, held: Vec::new() })));
    }
    let site = text(request.headers(), "sec-fetch-site");
    let is_first = request.method() == Method::GET && site == Some("cross-site");
    Ok(match path {
        "/login" => Judged::Open,
        _ if is_first => Judged::Again,
        _ => Judged::Login,
    })
}

/// A form that another site's page sends isn't heard, whatever it carries.
fn is_from_here(request: &Request) -> Result<(), ApiError> {
    if matches!(*request.method(), Method::GET | Method::HEAD) {
        return Ok(());
    }
    let headers = request.headers();
    if text(headers, "sec-fetch-site").is_some_and(|site| !matches!(site, "same-origin" | "none")) {
        return Err(ApiError::Foreign("Sec-Fetch-Site"));
    }
    let host = text(headers, "host").unwrap_or_default();
    let own = |origin: &str| origin.split_once("://").is_some_and(|(_, authority)| authority == host);
    match text(headers, "origin") {
        Some(origin) if !own(origin) => Err(ApiError::Foreign("Origin")),
        Some(_) | None => Ok(()),
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).map(|value| value.to_str().unwrap_or_default())
}

/// The login, which leads back to what was asked for.
fn to_login(request: &Request) -> String {
    let back = request.uri().path_and_query().map_or("/", |path| path.as_str());
    if request.method() != Method::GET || back == "/" {
        return "/login".to_owned();
    }
    link("/login", &[("to", back)])
}
