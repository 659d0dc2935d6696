//! What pages load: a style, a script and an icon, in the binary, each under a name with its hash, so that a browser may
//! keep it for ever.

use std::sync::OnceLock;

use axum::extract::Path;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};

use super::layout::Told;
use crate::api::{ApiError, hash};

/// Digits of the hash in a name.
const HASH_CHARS: usize = 12;

/// One file.
pub(super) struct Asset {
    name: &'static str,
    ending: &'static str,
    media: &'static str,
    text: &'static str,
    hash: OnceLock<String>,
}

/// How pages look.
pub(super) static STYLE: Asset = Asset::new("style", "css", "text/css", include_str!("style.css"));
/// What moves by itself.
pub(super) static SCRIPT: Asset = Asset::new("live", "js", "text/javascript", include_str!("live.js"));
/// The load line: a circle and the line through it.
pub(super) static ICON: Asset = Asset::new("icon", "svg", "image/svg+xml", include_str!("icon.svg"));

impl Asset {
    const fn new(name: &'static str, ending: &'static str, media: &'static str, text: &'static str) -> Self {
        Self { name, ending, media, text, hash: OnceLock::new() }
    }

    fn file(&self) -> String {
        let hash = self.hash.get_or_init(|| hash(self.text).chars().take(HASH_CHARS).collect());
        format!("{}-{hash}.{}", self.name, self.ending)
    }

    /// Where it is served.
    pub(super) fn path(&self) -> String {
        format!("/assets/{}", self.file())
    }
}

/// Serves one of them, by its whole name.
pub(super) async fn asset(Path(name): Path<String>) -> Result<Response, Told> {
    let all = [&STYLE, &SCRIPT, &ICON];
    let found = all.into_iter().find(|asset| asset.file() == name);
    let asset = found.ok_or_else(|| ApiError::NoSuchPath("/assets/…".to_owned()))?;
    let kept = HeaderValue::from_static("public, max-age=31536000, immutable");
    let head = [(header::CONTENT_TYPE, HeaderValue::from_static(asset.media)), (header::CACHE_CONTROL, kept)];
    Ok((head, asset.text).into_response())
}
