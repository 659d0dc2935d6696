//! The audit log: who changed what is allowed, when and why.

use askama::Template;
use axum::extract::RawQuery;
use axum::response::Response;

use super::form::Fields;
use super::guard::Visitor;
use super::layout::{Section, Shell, Told, html};
use super::text::{first_moment, link, moment};
use crate::api::AuditQuery;
use crate::domain::access::Scope;
use crate::domain::audit::Change;
use crate::domain::report::AuditLine;

/// What can be asked for by the form.
const FIELDS: [&str; 4] = ["kind", "who", "since", "until"];

struct Line {
    at: String,
    by: String,
    kind: String,
    of: String,
    what: String,
    reason: Option<String>,
    run: Option<String>,
}

impl From<AuditLine> for Line {
    fn from(line: AuditLine) -> Self {
        let AuditLine { at, by, kind, of, what, reason, run, .. } = line;
        Self { at: moment(at), by, kind: words(&kind), of, what, reason, run: run.map(|run| run.to_string()) }
    }
}

fn words(kind: &str) -> String {
    kind.replace('_', " ")
}

#[derive(Template)]
#[template(path = "audit.html")]
struct AuditPage {
    shell: Shell,
    /// Each kind, in words, and whether it was asked for.
    kinds: Vec<(&'static str, String, bool)>,
    who: String,
    since: String,
    until: String,
    is_all: bool,
    lines: Vec<Line>,
    older: Option<String>,
    newest: Option<String>,
}

/// A page of the log.
pub(super) async fn page(visitor: Visitor, RawQuery(query): RawQuery) -> Result<Response, Told> {
    visitor.may(Scope::Read)?;
    let fields = Fields::of(query.as_deref())?;
    let pairs: Vec<(&str, &str)> =
        FIELDS.into_iter().flat_map(|name| fields.all(name).map(move |value| (name, value))).collect();
    let mut asked: Vec<(&str, String)> = pairs.iter().map(|(name, value)| (*name, first_moment(name, value))).collect();
    asked.extend(fields.get("before").map(|before| ("before", before.to_owned())));
    let asked: Vec<(&str, &str)> = asked.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let AuditQuery(filter) = AuditQuery::read(link("", &asked).strip_prefix('?'))?;
    let kinds = Change::KINDS.map(|kind| (kind, words(kind), filter.kinds.iter().any(|asked| asked == kind)));
    let (is_first, table) = (filter.before.is_none(), visitor.service.read(move |books| books.audit(&filter)).await?);
    let older = table.next.map(|next| {
        let next = next.to_string();
        link("/audit", &pairs.iter().copied().chain([("before", next.as_str())]).collect::<Vec<_>>())
    });
    let field = |name: &str| fields.get(name).unwrap_or_default().to_owned();
    html(&AuditPage {
        shell: visitor.shell(Section::Audit, "Audit"),
        kinds: kinds.into(),
        who: field("who"),
        since: field("since"),
        until: field("until"),
        is_all: pairs.is_empty(),
        lines: table.entries.into_iter().map(Line::from).collect(),
        older,
        newest: (!is_first).then(|| link("/audit", &pairs)),
    })
}
