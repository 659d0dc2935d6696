//! `http`: one request to a host that the tool file allows.
//!
//! Invariants: a value can't leave its place in the URL, a header or a JSON or form body; the host is judged on the
//! finished URL, its addresses when it is connected to (see [`super::address`]); no redirect is followed; no cookie,
//! proxy or credential of ours goes along; secrets that headers use don't come back in what the model is told.
//! Deliberately absent: proxies (a proxy would resolve names out of our sight), cookies, redirects, streaming answers,
//! and secrets in URLs, which end up in other people's logs.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LOCATION};
use reqwest::{Client, Method, Response, Url, redirect};
use serde_json::{Value, json};

use super::address::{self, AddressError, Resolver};
use super::output::{self, Kept, Open};
use super::variables::Listed;
use super::{Given, Stop, ToolContext};
use crate::domain::plan::{ToolKind, ToolPlan};
use crate::domain::template::{self, Escape, TemplateError};
use crate::units::grouped;

/// The longest URL that is sent.
const URL_BYTES_MAX: usize = 8 * 1024;
/// How long an unused connection is kept.
const IDLE_MAX: Duration = Duration::from_secs(30);
/// Unused connections that are kept for each host.
const IDLE_CONNECTIONS_MAX: usize = 8;
/// How much of a redirect's target is shown.
const TARGET_BYTES_MAX: usize = 500;

/// Clients for tools, made when first used and shared by clones.
#[derive(Clone, Debug, Default)]
pub struct Web(Arc<Clients>);

/// Two clients, so that a connection to a private address is never reused where none is allowed.
#[derive(Debug, Default)]
struct Clients {
    public: OnceLock<Client>,
    private: OnceLock<Client>,
}

impl Web {
    fn client(&self, allow_private: bool) -> Result<&Client, String> {
        let cell = if allow_private { &self.0.private } else { &self.0.public };
        if let Some(client) = cell.get() {
            return Ok(client);
        }
        let client = Client::builder()
            .user_agent(concat!("plimsoll/", env!("CARGO_PKG_VERSION")))
            .dns_resolver(Resolver { allow_private })
            .redirect(redirect::Policy::none())
            .no_proxy()
            .referer(false)
            .pool_idle_timeout(IDLE_MAX)
            .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
            .build()
            .map_err(|error| format!("no HTTP client can be made: {}", chain(&error)))?;
        Ok(cell.get_or_init(|| client))
    }
}

/// Makes the request, and reads the answer as far as `output_bytes` goes.
pub(super) async fn call(tool: &ToolPlan, arguments: &Value, context: &ToolContext, stop: Stop) -> Given {
    let prepared = match prepare(tool, arguments, context) {
        Ok(prepared) => prepared,
        Err(fault) => return Given::never_began(fault),
    };
    let host = prepared.host.clone();
    let secrets = prepared.secrets.clone();
    let given = tokio::select! {
        biased;
        stopped = stop.wait() => Given::error(format!("the request to `{host}` {}", stopped.words())),
        given = ask(prepared, output::limit(tool)) => given,
    };
    Given { content: secrets.redact(given.content, Open::Nowhere), ..given }
}

/// A request that is allowed.
struct Prepared {
    request: reqwest::RequestBuilder,
    host: String,
    secrets: Listed,
}

fn prepare(tool: &ToolPlan, arguments: &Value, context: &ToolContext) -> Result<Prepared, String> {
    let ToolKind::Http { method, url, headers, body, allowed_hosts, allow_private, env } = &tool.kind else {
        return Err(format!("`{}` is no http tool", tool.name));
    };
    let values = json!({ "args": arguments });
    let url = checked_url(url, &values)?;
    let host = checked_host(&url, allowed_hosts, *allow_private)?;
    let method = Method::from_bytes(method.as_bytes()).map_err(|_| format!("`{method}` is no HTTP method"))?;
    let listed = context.variables.listed(env);
    let (mut headers, secrets) = rendered_headers(headers, arguments, listed)?;
    let body = rendered_body(&method, body.as_deref(), &values, &headers)?;
    if let Some(form) = body.as_ref().and_then(|body| body.form) {
        headers.entry(CONTENT_TYPE).or_insert(HeaderValue::from_static(form));
    }
    let mut request = context.web.client(*allow_private)?.request(method, url).headers(headers);
    if let Some(body) = body {
        request = request.body(body.text);
    }
    Ok(Prepared { request, host, secrets })
}

fn checked_url(template: &str, values: &Value) -> Result<Url, String> {
    let text = template::render_escaped(template, values, Escape::Url).map_err(|error| format!("the URL: {error}"))?;
    if text.len() > URL_BYTES_MAX {
        return Err(format!("the URL is longer than {URL_BYTES_MAX} bytes"));
    }
    let path = text.split(['?', '#']).next().unwrap_or_default();
    if path.split(['/', '\\']).any(is_dot_segment) {
        return Err("the URL has a part `.` or `..`, which would lead to another path".to_owned());
    }
    let url = Url::parse(&text).map_err(|error| format!("`{text}` is no URL: {error}"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(format!("`{}` is neither `http` nor `https`", url.scheme()));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("the URL has a user name or password; put it into a header, from `env`".to_owned());
    }
    Ok(url)
}

/// URL parsers take `%2e` for a point here.
fn is_dot_segment(segment: &str) -> bool {
    matches!(segment.to_ascii_lowercase().replace("%2e", ".").as_str(), "." | "..")
}

/// The host, if the tool may ask it. Addresses that are written out are judged here, names when they are resolved.
fn checked_host(url: &Url, allowed: &[String], allow_private: bool) -> Result<String, String> {
    let host = url.host_str().unwrap_or_default().trim_end_matches('.').to_owned();
    if !allowed.iter().any(|pattern| host_matches(pattern, &host)) {
        let allowed = allowed.join("`, `");
        return Err(format!("the host `{host}` isn't allowed; `allowed_hosts` of the tool has `{allowed}`"));
    }
    let literal = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    if let Ok(address) = literal
        && !allow_private
        && !address::is_public(address)
    {
        return Err(AddressError::Private { host, address }.to_string());
    }
    Ok(host)
}

/// `api.example.com` matches itself, `*.example.com` whatever ends in `.example.com`.
fn host_matches(pattern: &str, host: &str) -> bool {
    let (pattern, host) = (pattern.to_ascii_lowercase(), host.to_ascii_lowercase());
    match pattern.strip_prefix("*.") {
        Some(suffix) => host.strip_suffix(suffix).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.')),
        None => pattern == host,
    }
}

/// The headers, and all that must not come back: the listed variables and each header that is made of one.
fn rendered_headers(
    templates: &BTreeMap<String, String>,
    arguments: &Value,
    listed: Listed,
) -> Result<(HeaderMap, Listed), String> {
    let values = json!({ "args": arguments, "env": listed.json() });
    let mut headers = HeaderMap::new();
    let mut secrets = listed;
    for (name, written) in templates {
        let text = template::render(written, &values).map_err(|error| header_fault(name, &error))?;
        let key = HeaderName::from_bytes(name.as_bytes()).map_err(|_| format!("`{name}` is no name of a header"))?;
        let mut value = HeaderValue::from_str(&text)
            .map_err(|_| format!("the value of header `{name}` has a line break or another forbidden character"))?;
        let uses = template::uses(written).unwrap_or_default();
        if uses.iter().any(|used| used == "env" || used.starts_with("env.")) {
            value.set_sensitive(true);
            secrets = secrets.and(&format!("header {name}"), &text);
        }
        headers.insert(key, value);
    }
    Ok((headers, secrets))
}

fn header_fault(name: &str, error: &TemplateError) -> String {
    let missing = matches!(error, TemplateError::Undefined { expression, .. } if expression.contains("env."));
    let hint = if missing { "; is the variable set, and listed in `env` of the tool file?" } else { "" };
    format!("header `{name}`: {error}{hint}")
}

/// A body and what it is, where the tool file doesn't say.
struct Body {
    text: String,
    form: Option<&'static str>,
}

fn rendered_body(
    method: &Method,
    body: Option<&str>,
    values: &Value,
    headers: &HeaderMap,
) -> Result<Option<Body>, String> {
    let Some(written) = body else {
        let takes_body = [Method::POST, Method::PUT, Method::PATCH].contains(method);
        let arguments = || Body { text: values["args"].to_string(), form: Some("application/json") };
        return Ok(takes_body.then(arguments));
    };
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).map(str::to_ascii_lowercase);
    let looks_like_json = is_json(written);
    let (escape, form) = match kind {
        Some(kind) if kind.contains("json") => (Escape::Json, None),
        Some(kind) if kind.contains("x-www-form-urlencoded") => (Escape::Url, None),
        Some(_) => (Escape::Plain, None),
        None if looks_like_json => (Escape::Json, Some("application/json")),
        None => (Escape::Plain, Some("text/plain; charset=utf-8")),
    };
    let text = template::render_escaped(written, values, escape).map_err(|error| format!("the body: {error}"))?;
    if escape == Escape::Json
        && let Err(error) = serde_json::from_str::<serde::de::IgnoredAny>(&text)
    {
        let hint = "values are written as JSON, so `{{ args.x }}` stands without quotes";
        return Err(format!("the body of the tool is no JSON ({error}); {hint}"));
    }
    Ok(Some(Body { text, form }))
}

/// True for a template that begins like JSON, and not with an expression.
fn is_json(template: &str) -> bool {
    let start = template.trim_start();
    start.starts_with('[') || (start.starts_with('{') && !["{{", "{%", "{#"].iter().any(|mark| start.starts_with(mark)))
}

async fn ask(prepared: Prepared, limit: usize) -> Given {
    let host = prepared.host;
    let response = match prepared.request.send().await {
        Ok(response) => response,
        Err(error) => return unreached(&host, error),
    };
    if response.status().is_redirection() {
        return redirected(&host, &response, &prepared.secrets);
    }
    answered(&host, response, limit, &prepared.secrets).await
}

fn unreached(host: &str, error: reqwest::Error) -> Given {
    let never_began = error.is_connect() || error.is_builder();
    let error = error.without_url();
    let words = match refused_address(&error) {
        Some(refused) => refused.to_string(),
        None => format!("the request to `{host}` failed: {}", chain(&error)),
    };
    Given { never_began, ..Given::error(words) }
}

/// The resolver's own words, wherever they are in the chain.
fn refused_address(error: &reqwest::Error) -> Option<&AddressError> {
    causes(error).find_map(|cause| cause.downcast_ref::<AddressError>())
}

/// An error with its causes.
fn chain(error: &reqwest::Error) -> String {
    let causes = causes(error).map(ToString::to_string);
    std::iter::once(error.to_string()).chain(causes).collect::<Vec<_>>().join(": ")
}

fn causes(error: &reqwest::Error) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
    std::iter::successors(error.source(), |cause| (**cause).source())
}

fn redirected(host: &str, response: &Response, secrets: &Listed) -> Given {
    let target = response.headers().get(LOCATION).map_or("nowhere".into(), |to| String::from_utf8_lossy(to.as_bytes()));
    let target = secrets.redact(target.into_owned(), Open::Nowhere);
    let target = &target[..output::floor(&target, TARGET_BYTES_MAX)];
    let status = response.status();
    Given::error(format!("`{host}` answered {status}: it redirects to `{target}`, which isn't followed"))
}

async fn answered(host: &str, mut response: Response, limit: usize, secrets: &Listed) -> Given {
    let status = response.status();
    let announced = response.content_length();
    let longest = secrets.iter().map(|(_, value)| value.len()).max().unwrap_or(0);
    let mut kept = Kept::new(limit.saturating_add(longest));
    let mut broken = None;
    while let Some(piece) = response.chunk().await.unwrap_or_else(|error| {
        broken = Some(error.without_url());
        None
    }) {
        kept.push(&piece);
        if kept.total() > bytes(limit.saturating_add(longest)) {
            break;
        }
    }
    drop(response);
    let (head, cut_bytes) = head(kept, limit, announced, secrets);
    match broken {
        Some(error) => Given::error(format!("the answer of `{host}` broke off: {}", chain(&error))),
        None if status.is_client_error() || status.is_server_error() => {
            Given { cut_bytes, ..Given::error(format!("`{host}` answered {status}:\n{head}")) }
        }
        None if head.is_empty() => Given::result(format!("{status}, without a body")),
        None => Given { cut_bytes, ..Given::result(head) },
    }
}

/// The head of a body, with a note if the rest wasn't read.
fn head(kept: Kept, limit: usize, announced: Option<u64>, secrets: &Listed) -> (String, u64) {
    let total = kept.total();
    if total <= bytes(limit) {
        return (kept.head_text(|text| secrets.redact(text, Open::Nowhere)), 0);
    }
    let text = kept.head_text(|text| secrets.redact(text, Open::End));
    let whole = announced.unwrap_or(total).max(total);
    let mut note = format!("\n[… cut: more than {} bytes …]", grouped(bytes(limit)));
    if note.len() > limit / 4 {
        note.clear();
    }
    let head = &text[..output::floor(&text, limit - note.len())];
    (format!("{head}{note}"), whole.saturating_sub(bytes(head.len())).max(1))
}

fn bytes(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[path = "http_tests.rs"]
mod tests;
