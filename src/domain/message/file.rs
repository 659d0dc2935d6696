//! Files that a user hands over: images and documents, bounded in bytes and in the tokens that they can count.
//!
//! A file is a message of its own, so that it is measured, cut and encoded by itself. How many tokens it counts depends on
//! pixels and pages, not on bytes: [`crate::domain::vision`] says the most that any model counts for it, and without that
//! there is no file. What stands in a log is what a file is, not its bytes: those are kept beside it, by their hash.
//! Deliberately absent: files by address or id, whose size nobody here can know.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::domain::plan::hex;
use crate::units::{Tokens, grouped};

/// The largest file.
pub const FILE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// The most files of one run.
pub const FILES_MAX: usize = 8;
/// The most bytes of all files of one run: in base64 they stay below what any provider takes as a request.
pub const FILES_BYTES_MAX: u64 = 12 * 1024 * 1024;
/// The longest name of one.
const FILE_NAME_BYTES_MAX: usize = 256;

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
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
    /// All of them in words, for messages.
    pub const NAMES: &str = "PNG, JPEG, GIF, WebP and PDF";

    /// What some bytes are, by how they begin; `None` for what isn't sent.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Option<Self> {
        match bytes {
            [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => Some(Self::Png),
            [0xff, 0xd8, 0xff, ..] => Some(Self::Jpeg),
            [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => Some(Self::Gif),
            [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some(Self::Webp),
            [b'%', b'P', b'D', b'F', b'-', ..] => Some(Self::Pdf),
            _ => None,
        }
    }

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

/// A file as it was handed over, before it is known what it can count. A clone shares its bytes.
#[derive(Clone, Debug)]
pub struct GivenFile {
    name: String,
    media: Media,
    bytes: u64,
    sha256: String,
    data: Arc<str>,
}

/// A file within its bounds. As JSON it is without its bytes: [`File::with_data`] puts them back.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct File {
    name: String,
    media: Media,
    bytes: u64,
    sha256: String,
    tokens: Tokens,
    /// Base64; empty where the bytes aren't at hand.
    #[serde(skip, default = "no_data")]
    data: Arc<str>,
}

fn no_data() -> Arc<str> {
    Arc::from("")
}

/// The hash tells the bytes.
impl PartialEq for File {
    fn eq(&self, other: &Self) -> bool {
        let facts = |file: &Self| (file.name.clone(), file.media, file.bytes, file.sha256.clone(), file.tokens);
        facts(self) == facts(other)
    }
}

impl Eq for File {}

/// Why something is no file that can be sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    /// More bytes than are sent.
    #[error("`{name}` has more than {} bytes; make it smaller", grouped(u64::try_from(FILE_BYTES_MAX).unwrap_or(u64::MAX)))]
    TooLarge {
        /// The file.
        name: String,
    },
    /// Bytes of no kind that is sent.
    #[error("`{name}` is neither an image nor a document that models take; files are {}", Media::NAMES)]
    Kind {
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

impl FileError {
    /// How to mend it, where the message doesn't say; may be empty.
    #[must_use]
    pub const fn help(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "models scale large images down anyway",
            Self::Kind { .. } => "text goes into the input or the prompt, or into `[documents]` of the agent's file",
            Self::Data { .. } | Self::NoBound { .. } => "",
        }
    }
}

impl GivenFile {
    /// A file by its bytes, which say what it is.
    ///
    /// # Errors
    /// What is too large, or of no kind that is sent.
    pub fn of(name: &str, bytes: &[u8]) -> Result<Self, FileError> {
        let name = short(name);
        if bytes.len() > FILE_BYTES_MAX {
            return Err(FileError::TooLarge { name });
        }
        let Some(media) = Media::of(bytes) else { return Err(FileError::Kind { name }) };
        Ok(Self::known(name, media, bytes, STANDARD.encode(bytes).into()))
    }

    fn known(name: String, media: Media, bytes: &[u8], data: Arc<str>) -> Self {
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        Self { name, media, bytes: length, sha256: hex(&Sha256::digest(bytes)), data }
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

    /// How many bytes it has.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Its SHA-256 in hexadecimal digits.
    #[must_use]
    pub fn sha256(&self) -> &str {
        &self.sha256
    }
}

impl File {
    /// A file of base64 text that counts at most `tokens` tokens, whichever model reads it.
    ///
    /// # Errors
    /// What is too large, no base64, or without a bound.
    pub fn new(name: &str, media: Media, data: &str, tokens: Tokens) -> Result<Self, FileError> {
        let name = short(name);
        if data.len() / 4 > FILE_BYTES_MAX / 3 {
            return Err(FileError::TooLarge { name });
        }
        let bytes = STANDARD.decode(data).ok().filter(|bytes| !bytes.is_empty());
        let Some(bytes) = bytes else { return Err(FileError::Data { name }) };
        Self::bounded(&GivenFile::known(name, media, &bytes, data.into()), tokens)
    }

    /// A file that was handed over, and counts at most `tokens` tokens, whichever model reads it.
    ///
    /// # Errors
    /// Without a bound.
    pub fn bounded(given: &GivenFile, tokens: Tokens) -> Result<Self, FileError> {
        let GivenFile { name, media, bytes, sha256, data } = given.clone();
        if tokens == Tokens::ZERO {
            return Err(FileError::NoBound { name });
        }
        Ok(Self { name, media, bytes, sha256, tokens, data })
    }

    /// The same with its bytes, as they were kept; `None` where they are others.
    #[must_use]
    pub fn with_data(&self, bytes: &[u8]) -> Option<Self> {
        (hex(&Sha256::digest(bytes)) == self.sha256)
            .then(|| Self { data: STANDARD.encode(bytes).into(), ..self.clone() })
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

    /// How many bytes it has.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Its SHA-256 in hexadecimal digits.
    #[must_use]
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// Its bytes in base64; empty where they aren't at hand.
    #[must_use]
    pub fn data(&self) -> &str {
        &self.data
    }

    /// Its bytes; `None` where they aren't at hand.
    #[must_use]
    pub fn raw(&self) -> Option<Vec<u8>> {
        STANDARD.decode(&*self.data).ok().filter(|bytes| !bytes.is_empty())
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

fn short(name: &str) -> String {
    name.chars().take(FILE_NAME_BYTES_MAX / 4).collect()
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

    #[test]
    fn bytes_say_what_a_file_is_whatever_its_name() {
        let of = |bytes: &[u8]| GivenFile::of("a.png", bytes).map(|file| file.media());
        assert_eq!(of(b"\x89PNG\r\n\x1a\n rest"), Ok(Media::Png));
        assert_eq!(of(b"\xff\xd8\xff\xe0 rest"), Ok(Media::Jpeg));
        assert_eq!(of(b"GIF89a rest"), Ok(Media::Gif));
        assert_eq!(of(b"RIFF\x01\x02\x03\x04WEBPVP8 "), Ok(Media::Webp));
        assert_eq!(of(b"%PDF-1.7\n"), Ok(Media::Pdf));
        for other in [&b""[..], b"PK\x03\x04", b"RIFF\x01\x02\x03\x04WAVE", b"<svg/>", b"GIF88a"] {
            assert_eq!(of(other), Err(FileError::Kind { name: "a.png".into() }));
        }
        let large = [b"%PDF-".to_vec(), vec![0; FILE_BYTES_MAX]].concat();
        assert_eq!(of(&large), Err(FileError::TooLarge { name: "a.png".into() }));
    }

    #[test]
    fn a_log_has_what_a_file_is_and_its_bytes_come_back_by_their_hash() {
        let given = GivenFile::of("photo.jpg", b"\xff\xd8\xff\xe0 a photo").expect("a file");
        let file = File::bounded(&given, Tokens(1_000)).expect("a bound");
        let text = serde_json::to_string(&file).expect("JSON");
        assert!(!text.contains(file.data()), "{text}");
        let read: File = serde_json::from_str(&text).expect("reads back");
        assert_eq!((&read, read.data(), read.raw()), (&file, "", None));
        assert_eq!(read.with_data(b"\xff\xd8\xff\xe0 another"), None);
        let whole = read.with_data(b"\xff\xd8\xff\xe0 a photo").expect("its bytes");
        assert_eq!((whole.data(), whole.raw()), (file.data(), Some(b"\xff\xd8\xff\xe0 a photo".to_vec())));
    }
}
