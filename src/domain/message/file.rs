//! Files that a user hands over: images and documents, bounded in bytes and in the tokens that they can count.
//!
//! A file is a message of its own, so that it is measured, cut and encoded by itself. How many tokens it counts depends on
//! pixels and pages, not on bytes: whoever reads it says the most that any model counts for it, and without that there is
//! no file. Deliberately absent: files by address or id, whose size nobody here can know.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::units::Tokens;

/// The largest file.
pub const FILE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// The longest name of one.
const FILE_NAME_BYTES_MAX: usize = 256;

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Media {
    /// A PNG image.
    #[serde(rename = "image/png")]
    Png,
    /// A JPEG image.
    #[serde(rename = "image/jpeg")]
    Jpeg,
    /// A GIF image.
    #[serde(rename = "image/gif")]
    Gif,
    /// A WebP image.
    #[serde(rename = "image/webp")]
    Webp,
    /// A PDF document.
    #[serde(rename = "application/pdf")]
    Pdf,
}

impl Media {
    /// Its name on every wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Png => "image/png",
            Self::Jpeg => "image/jpeg",
            Self::Gif => "image/gif",
            Self::Webp => "image/webp",
            Self::Pdf => "application/pdf",
        }
    }

    /// True for what is seen and not read.
    #[must_use]
    pub const fn is_image(self) -> bool {
        match self {
            Self::Png | Self::Jpeg | Self::Gif | Self::Webp => true,
            Self::Pdf => false,
        }
    }
}

/// A file within its bounds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    name: String,
    media: Media,
    data: Arc<str>,
    tokens: Tokens,
}

/// Why something is no file that can be sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    /// More bytes than are sent.
    #[error("`{name}` has more than {FILE_BYTES_MAX} bytes; make it smaller")]
    TooLarge {
        /// The file.
        name: String,
    },
    /// Text that is no base64.
    #[error("the data of `{name}` is no base64")]
    Data {
        /// The file.
        name: String,
    },
    /// Nobody knows what it can cost.
    #[error("nobody knows how many tokens `{name}` can count, so that it has no bound")]
    NoBound {
        /// The file.
        name: String,
    },
}

impl File {
    /// A file of base64 text that counts at most `tokens` tokens, whichever model reads it.
    ///
    /// # Errors
    /// What is too large, no base64, or without a bound.
    pub fn new(name: &str, media: Media, data: &str, tokens: Tokens) -> Result<Self, FileError> {
        let name: String = name.chars().take(FILE_NAME_BYTES_MAX / 4).collect();
        if data.len() / 4 > FILE_BYTES_MAX / 3 {
            return Err(FileError::TooLarge { name });
        }
        if !is_base64(data) {
            return Err(FileError::Data { name });
        }
        if tokens == Tokens::ZERO {
            return Err(FileError::NoBound { name });
        }
        Ok(Self { name, media, data: data.into(), tokens })
    }

    /// What the user calls it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it is.
    #[must_use]
    pub const fn media(&self) -> Media {
        self.media
    }

    /// Its bytes, in base64.
    #[must_use]
    pub fn data(&self) -> &str {
        &self.data
    }

    /// The most tokens that it counts.
    #[must_use]
    pub const fn tokens(&self) -> Tokens {
        self.tokens
    }

    /// The file as an address that holds it.
    #[must_use]
    pub fn data_url(&self) -> String {
        format!("data:{};base64,{}", self.media.name(), self.data)
    }
}

/// True for whole groups of four letters, padded at the end only.
fn is_base64(text: &str) -> bool {
    let letters = text.trim_end_matches('=');
    let padding = text.len() - letters.len();
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    !letters.is_empty() && text.len().is_multiple_of(4) && padding <= 2 && letters.bytes().all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_within_its_bounds_or_none() {
        let file = |data: &str, tokens| File::new("a.png", Media::Png, data, Tokens(tokens));
        let png = file("iVBORw0KGgo=", 85).expect("a file");
        assert_eq!(png.data_url(), "data:image/png;base64,iVBORw0KGgo=");
        for bad in ["", "=", "abc", "ab=c", "a===", "iVBOR w0", "iVBO\"w0="] {
            assert_eq!(file(bad, 85), Err(FileError::Data { name: "a.png".into() }), "{bad}");
        }
        assert_eq!(file("iVBORw0KGgo=", 0), Err(FileError::NoBound { name: "a.png".into() }));
        let (fits, large) = ("A".repeat(FILE_BYTES_MAX / 3 * 4), "A".repeat(FILE_BYTES_MAX / 3 * 4 + 4));
        assert!(file(&fits, 1).is_ok());
        assert_eq!(file(&large, 1), Err(FileError::TooLarge { name: "a.png".into() }));
    }
}
