//! One request to a webhook. Its answer is looked at for its status and `retry-after` alone; nothing of its body is read.

use std::io::{BufRead as _, BufReader, Read as _};

use aws_lc_rs::hmac::Key;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{StatusCode, Url};

use super::signature;
use crate::domain::alert::Tried;
use crate::provider::http::{Http, Route, explain, retry_after};
use crate::spec::project::KeySource;
use crate::tool::variables::Variables;
use crate::units::{Millis, Timestamp};

/// The most that is read of a secret's file.
const SECRET_BYTES_MAX: u64 = 4_096;
/// The headers of Standard Webhooks.
const ID: HeaderName = HeaderName::from_static("webhook-id");
const TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");

/// What is sent.
pub(super) struct Letter<'a> {
    pub(super) url: &'a str,
    /// The same at every try.
    pub(super) id: &'a str,
    pub(super) now: Timestamp,
    pub(super) body: String,
    pub(super) secret: Key,
}

/// Reads the secret anew, so that it can be changed while the process lives.
///
/// # Errors
/// It isn't there, or no secret.
pub(super) fn secret(source: &KeySource, variables: &Variables) -> Result<Key, String> {
    let text = match source {
        KeySource::Env(name) => variables.read(name).ok_or_else(|| format!("the variable `{name}` isn't set"))?,
        KeySource::File(path) => {
            let told = |error: std::io::Error| format!("`{}` can't be read: {error}", path.display());
            let mut line = String::new();
            let file = std::fs::File::open(path).map_err(told)?.take(SECRET_BYTES_MAX);
            BufReader::new(file).read_line(&mut line).map_err(told)?;
            line
        }
        KeySource::None
        | KeySource::Command(_)
        | KeySource::TokenCommand { .. }
        | KeySource::ServiceAccount(_)
        | KeySource::MetadataServer(_) => String::new(),
    };
    if text.trim().is_empty() { Err("the webhook's secret is empty".to_owned()) } else { signature::key(text.trim()) }
}

/// Sends it once.
pub(super) async fn send(http: &Http, letter: Letter<'_>, time_max: Millis) -> Tried {
    let failed = |why: String| Tried::Failed { why, wait: None };
    let Ok(url) = Url::parse(letter.url) else { return failed("the webhook's address can't be read".to_owned()) };
    let client = match http.client(Route::of(&url)) {
        Ok(client) => client,
        Err(error) => return failed(error.to_string()),
    };
    let Some(headers) = headers(&letter) else { return failed("the alert's id fits no header".to_owned()) };
    let sent = client.post(url).headers(headers).body(letter.body).timeout(time_max.duration()).send().await;
    match sent {
        Ok(answer) if answer.status().is_success() => Tried::Delivered,
        Ok(answer) => told(answer.status(), retry_after(answer.headers(), letter.now)),
        Err(error) if error.is_timeout() => failed(format!("it didn't answer within {time_max}")),
        Err(error) => failed(explain(error)),
    }
}

fn headers(letter: &Letter<'_>) -> Option<HeaderMap> {
    let seconds = letter.now.0 / 1_000;
    let signature = signature::signature(&letter.secret, letter.id, seconds, &letter.body);
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(ID, HeaderValue::from_str(letter.id).ok()?);
    headers.insert(TIMESTAMP, HeaderValue::from(seconds));
    headers.insert(SIGNATURE, HeaderValue::from_str(&signature).ok()?);
    Some(headers)
}

/// A redirect is no answer: it could lead the alert anywhere. 410 says that nobody wants it any more.
fn told(status: StatusCode, wait: Option<Millis>) -> Tried {
    let why = if status.is_redirection() {
        format!("it answered {}: redirects aren't followed; name the address that it redirects to", status.as_u16())
    } else {
        format!("it answered {}", status.as_u16())
    };
    if status == StatusCode::GONE { Tried::Refused { why } } else { Tried::Failed { why, wait } }
}
