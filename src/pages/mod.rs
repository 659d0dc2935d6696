//! Pages for people, at `/`: what the API answers, rendered here, so that a browser needs no build, no other host and, but for
//! what moves by itself, no script.
//!
//! Every number is one that [`Books`](crate::api::Books) or the [`Service`] gives the API and the command line; a page only
//! lays it out. Who looks is judged as over the API: by key, once at `login.rs`, then by a session in memory (`session.rs`,
//! `guard.rs`); where nobody needs a key, from this machine only. Each form carries its session's token, and a request that
//! another site's page sends is refused.
//! Templates lie beside the code that fills them; charts are drawn by `chart.rs`.
//! Deliberately absent: decisions, and styles or scripts within pages, which the policy that is sent with each forbids.

mod agents;
mod assets;
mod audit;
mod budgets;
mod chart;
mod docs;
mod form;
mod guard;
mod layout;
mod live;
mod login;
mod models;
mod overview;
mod run;
mod runs;
mod session;
mod switches;
mod text;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware;
use axum::routing::{get, post};

use crate::api::{ApiError, Service, random};
use session::Sessions;

/// The most bytes of a form.
const FORM_BYTES_MAX: usize = 256 * 1024;

/// What all pages share.
#[derive(Clone)]
struct Pages(Arc<Shared>);

struct Shared {
    service: Service,
    sessions: Sessions,
    /// The token of forms where nobody needs a key, and so has a session.
    token: String,
    /// True where they are served over TLS.
    secure: bool,
}

/// Every page, served over TLS or not.
///
/// # Errors
/// The system gives no random bytes.
pub fn router(service: Service, secure: bool) -> Result<Router, ApiError> {
    let shared = Shared { service, sessions: Sessions::default(), token: random::<32>()?, secure };
    let pages = Pages(Arc::new(shared));
    let guard = middleware::from_fn_with_state(pages.clone(), guard::guarded);
    Ok(Router::new()
        .route("/", get(overview::page))
        .route("/login", get(login::page).post(login::enter))
        .route("/logout", post(login::leave))
        .route("/assets/{name}", get(assets::asset))
        .route("/runs", get(runs::page))
        .route("/runs/live", get(runs::live))
        .route("/runs/{run}", get(run::page))
        .route("/runs/{run}/live", get(run::live))
        .route("/runs/{run}/cancel", post(run::cancel))
        .route("/runs/{run}/resume", post(run::resume))
        .route("/runs/{run}/answer", post(run::answer))
        .route("/agents", get(agents::page))
        .route("/models", get(models::page))
        .route("/budgets", get(budgets::page))
        .route("/budgets/{budget}", get(budgets::account::page))
        .route("/budgets/{budget}/ask", post(budgets::exceptions::ask))
        .route("/budgets/exceptions/{number}/approve", post(budgets::exceptions::approve))
        .route("/budgets/exceptions/{number}/end", post(budgets::exceptions::end))
        .route("/switches", get(switches::page).post(switches::set))
        .route("/switches/lift", post(switches::lift))
        .route("/audit", get(audit::page))
        .route("/docs", get(docs::page))
        .layer(DefaultBodyLimit::max(FORM_BYTES_MAX))
        .layer(guard)
        .with_state(pages))
}
