//! What is around every page: its head, the way to the others, and what is shown in the place of one that can't be.

use askama::Template;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};

use super::assets::{ICON, SCRIPT, STYLE};
use super::guard::Visitor;
use crate::api::{ApiError, ErrorBody, PROGRAM_VERSION};

/// The pages that the navigation names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Section {
    Overview,
    Runs,
    Agents,
    Models,
    Budgets,
    Switches,
    Audit,
    Docs,
}

/// In the order in which they are named.
const SECTIONS: [(Section, &str, &str); 8] = [
    (Section::Overview, "Overview", "/"),
    (Section::Runs, "Runs", "/runs"),
    (Section::Agents, "Agents", "/agents"),
    (Section::Models, "Models", "/models"),
    (Section::Budgets, "Budgets", "/budgets"),
    (Section::Switches, "Switches", "/switches"),
    (Section::Audit, "Audit", "/audit"),
    (Section::Docs, "API", "/docs"),
];

/// One way of the navigation.
pub(super) struct Way {
    pub(super) name: &'static str,
    pub(super) path: &'static str,
    pub(super) is_here: bool,
}

/// What is around a page.
pub(super) struct Shell {
    pub(super) title: String,
    pub(super) ways: Vec<Way>,
    /// The switches that are set, in words.
    pub(super) held: Vec<String>,
    /// Who is logged in; nothing where nobody needs a key.
    pub(super) who: Option<String>,
    /// What forms carry.
    pub(super) token: String,
    pub(super) version: &'static str,
    pub(super) style: String,
    pub(super) script: String,
    pub(super) icon: String,
}

impl Shell {
    pub(super) fn of(visitor: &Visitor, section: Section, title: &str) -> Self {
        let who = visitor.caller().key().map(|(name, _)| name.to_owned());
        let (token, held) = (visitor.token.clone(), visitor.held.clone());
        Self { ways: ways(Some(section)), held, who, token, ..Self::bare(title) }
    }

    /// Around what is shown to nobody known.
    pub(super) fn bare(title: &str) -> Self {
        Self {
            title: title.to_owned(),
            ways: Vec::new(),
            held: Vec::new(),
            who: None,
            token: String::new(),
            version: PROGRAM_VERSION,
            style: STYLE.path(),
            script: SCRIPT.path(),
            icon: ICON.path(),
        }
    }
}

/// The ways to all pages, from one of them or from elsewhere.
fn ways(here: Option<Section>) -> Vec<Way> {
    SECTIONS.map(|(section, name, path)| Way { name, path, is_here: Some(section) == here }).into()
}

/// A page as it is sent.
///
/// # Errors
/// It can't be rendered.
pub(super) fn html(page: &impl Template) -> Result<Response, Told> {
    let text = page.render().map_err(|error| Told(ApiError::Task(error.to_string())))?;
    Ok(Html(text).into_response())
}

/// Why a page isn't shown.
pub(super) struct Told(pub(super) ApiError);

impl From<ApiError> for Told {
    fn from(error: ApiError) -> Self {
        Self(error)
    }
}

#[derive(Template)]
#[template(path = "told.html")]
struct ToldPage {
    shell: Shell,
    body: ErrorBody,
}

impl IntoResponse for Told {
    fn into_response(self) -> Response {
        let status = self.0.status();
        let body = ErrorBody::from(&self.0);
        let shell = Shell { ways: ways(None), ..Shell::bare(&body.title) };
        let page = ToldPage { shell, body };
        let mut response = match page.render() {
            Ok(text) => (status, Html(text)).into_response(),
            Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
        };
        if let Some(seconds) = self.0.retry_after() {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

#[derive(Template)]
#[template(path = "again.html")]
struct AgainPage;

/// Asks the browser to ask once more, from here.
pub(super) fn again() -> Response {
    match AgainPage.render() {
        Ok(text) => Html(text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
