//! The login: a key for a session. Where nobody needs a key there is none.

use askama::Template;
use axum::extract::{ConnectInfo, RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{AppendHeaders, IntoResponse, Redirect, Response};

use super::Pages;
use super::form::Fields;
use super::guard::Visitor;
use super::layout::{Shell, Told, html};
use super::session::{self, cookie};
use crate::api::tcp::From;
use crate::api::{ApiError, ErrorBody, random};

/// The cookie that a login's form must agree with, before there is a session: another site can't know it.
const COOKIE: &str = "plimsoll_login";
/// How long that form may be looked at, in seconds.
const FORM_SECONDS_MAX: u32 = 3_600;

#[derive(Template)]
#[template(path = "login.html")]
struct LoginPage {
    shell: Shell,
    token: String,
    /// Where to go then.
    to: String,
    /// Why it didn't work.
    fault: Option<ErrorBody>,
}

/// Asks for a key.
pub(super) async fn page(State(pages): State<Pages>, RawQuery(query): RawQuery) -> Result<Response, Told> {
    if !pages.0.service.gatekeeper().asks_for_keys() {
        return Ok(Redirect::to("/").into_response());
    }
    let to = Fields::of(query.as_deref())?.get("to").map(own_path).unwrap_or_default();
    form(to, None)
}

fn form(to: String, fault: Option<&ApiError>) -> Result<Response, Told> {
    let token = random::<32>()?;
    let set = format!("{COOKIE}={token}; Path=/login; Max-Age={FORM_SECONDS_MAX}; HttpOnly; SameSite=Strict");
    let page = LoginPage { shell: Shell::bare("Log in"), token, to, fault: fault.map(ErrorBody::from) };
    let status = fault.map_or(StatusCode::OK, ApiError::status);
    Ok((status, AppendHeaders([(header::SET_COOKIE, set)]), html(&page)?).into_response())
}

/// A path of these pages, whatever was asked for: nobody is led elsewhere.
fn own_path(text: &str) -> String {
    // Browsers drop some control characters, and what is left may be another host.
    let is_plain = !text.contains(|c: char| c == '\\' || c.is_control());
    let is_own = text.starts_with('/') && !text.starts_with("//") && is_plain;
    if is_own { text.to_owned() } else { String::new() }
}

/// Takes a key, and begins a session.
pub(super) async fn enter(
    State(pages): State<Pages>,
    ConnectInfo(From(from)): ConnectInfo<From>,
    headers: HeaderMap,
    body: String,
) -> Result<Response, Told> {
    let token = cookie(&headers, COOKIE).filter(|token| !token.is_empty()).ok_or(ApiError::OldForm)?;
    let fields = Fields::sent(&body, token)?;
    let (service, to) = (&pages.0.service, fields.get("to").map(own_path).unwrap_or_default());
    match service.gatekeeper().admit_key(fields.get("key").unwrap_or_default(), from.ip(), service.now()) {
        Err(error) => form(to, Some(&error)),
        Ok(caller) => {
            let id = pages.0.sessions.begin(caller, service.now())?;
            let to = if to.is_empty() { "/" } else { &to };
            Ok((AppendHeaders([(header::SET_COOKIE, session::set(&id, pages.0.secure))]), Redirect::to(to))
                .into_response())
        }
    }
}

/// Ends the session.
pub(super) async fn leave(
    State(pages): State<Pages>,
    visitor: Visitor,
    headers: HeaderMap,
    body: String,
) -> Result<Response, Told> {
    Fields::sent(&body, &visitor.token)?;
    pages.0.sessions.end(&headers);
    Ok((AppendHeaders([(header::SET_COOKIE, session::unset())]), Redirect::to("/login")).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_led_elsewhere() {
        for own in ["/", "/runs/x?messages=all"] {
            assert_eq!(own_path(own), own);
        }
        for other in [
            "https://evil.example/",
            "//evil.example",
            "/\\evil.example",
            "/\t/evil.example",
            "/\u{1}/evil.example",
            "runs",
            "",
        ] {
            assert_eq!(own_path(other), "", "{other}");
        }
    }
}
