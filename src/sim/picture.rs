//! What a file counts at a simulated provider, by what it shows: pixels and pages, in each family's own arithmetic.
//!
//! Written from the providers' rules, not from the runtime's bounds: an image is scaled as the family scales it, and what
//! is left is counted. Deliberately absent: what is in a picture, and the text of a page.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// How closely a file is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// As the provider sees fit.
    Auto,
    /// At a word of the request: `high`, `MEDIA_RESOLUTION_MEDIUM`.
    Low,
    Medium,
    High,
}

impl Look {
    /// By its word on any wire; `None` for one that isn't known.
    pub(crate) fn of(word: Option<&str>) -> Option<Self> {
        match word {
            None | Some("auto" | "MEDIA_RESOLUTION_UNSPECIFIED") => Some(Self::Auto),
            Some("low" | "MEDIA_RESOLUTION_LOW") => Some(Self::Low),
            Some("MEDIA_RESOLUTION_MEDIUM") => Some(Self::Medium),
            Some("high" | "MEDIA_RESOLUTION_HIGH") => Some(Self::High),
            Some(_) => None,
        }
    }
}

/// How a family of models counts an image.
#[derive(Clone, Copy, Debug)]
enum Counting {
    /// Squares of 512 pixels and a base.
    Tiles { base: u64, tile: u64 },
    /// Squares of 32 pixels, so many at most, each worth so many hundredths of a token.
    Patches { most: u64, worth: u64 },
    /// Squares of 28 pixels, so many at most, of an image whose longer side has so many pixels at most.
    Blocks { most: u64, side: u64 },
    /// The same for every image, by how closely it is looked at: low, medium, high.
    Flat([u64; 3]),
}

/// Families by how their names begin, the longer ones first.
const FAMILIES: [(&str, Counting); 23] = [
    ("gpt-4o-mini", Counting::Tiles { base: 2_833, tile: 5_667 }),
    ("gpt-4o", Counting::Tiles { base: 85, tile: 170 }),
    ("gpt-4.1-mini", Counting::Patches { most: 6_144, worth: 162 }),
    ("gpt-4.1", Counting::Tiles { base: 85, tile: 170 }),
    ("o1", Counting::Tiles { base: 75, tile: 150 }),
    ("o3", Counting::Tiles { base: 75, tile: 150 }),
    ("gpt-5-mini", Counting::Patches { most: 1_536, worth: 162 }),
    ("gpt-5-nano", Counting::Patches { most: 1_536, worth: 246 }),
    ("gpt-5.1", Counting::Tiles { base: 70, tile: 140 }),
    ("gpt-5.2", Counting::Patches { most: 6_144, worth: 120 }),
    ("gpt-5.", Counting::Patches { most: 2_500, worth: 120 }),
    ("gpt-5", Counting::Tiles { base: 70, tile: 140 }),
    ("gpt-6", Counting::Patches { most: 2_500, worth: 120 }),
    ("claude-opus-4-5", OLDER_CLAUDE),
    ("claude-opus-4-6", OLDER_CLAUDE),
    ("claude-sonnet-4-5", OLDER_CLAUDE),
    ("claude-sonnet-4-6", OLDER_CLAUDE),
    ("claude-haiku-4-5", OLDER_CLAUDE),
    ("claude-", Counting::Blocks { most: 4_784, side: 2_576 }),
    ("gemini-2.5", Counting::Flat([64, 258, 2_580])),
    ("gemini-3", Counting::Flat([280, 560, 1_120])),
    ("gemini-", Counting::Flat([280, 560, 1_120])),
    ("", Counting::Tiles { base: 85, tile: 170 }),
];
const OLDER_CLAUDE: Counting = Counting::Blocks { most: 1_568, side: 1_568 };
/// Tokens of a page, of its picture and its text together.
const PAGE_TOKENS: u64 = 560;
/// The same for Claude, which reads both.
const CLAUDE_PAGE_TOKENS: u64 = 2_400;
/// The most pages of a document.
const PAGES_MAX: u64 = 100;

/// Tokens that a file in base64 counts; `None` where it is none that a model could be shown.
pub(crate) fn tokens(model: &str, media: &str, data: &str, look: Look) -> Option<u64> {
    let bytes = STANDARD.decode(data).ok()?;
    let name = model.rsplit('/').next().unwrap_or_default();
    if media == "application/pdf" {
        return pages(&bytes).map(|pages| pages * page_tokens(name));
    }
    let (width, height) = pixels(&bytes)?;
    let (_, counting) = FAMILIES.iter().find(|(family, _)| name.starts_with(family))?;
    Some(counting.of(width, height, look))
}

/// Tokens that a file in base64 counts where it is looked at as closely as the runtime asks for; `None` where it is none that a
/// model could be shown. For tests that hold it against the runtime's bound.
#[must_use]
pub fn file_tokens(model: &str, media: &str, data: &str) -> Option<u64> {
    tokens(model, media, data, if model.starts_with("gemini-2") { Look::Medium } else { Look::High })
}

/// The media type and the data of an address that holds a file.
pub(crate) fn of_url(url: &str) -> Option<(&str, &str)> {
    url.strip_prefix("data:")?.split_once(";base64,")
}

impl Counting {
    fn of(self, width: u64, height: u64, look: Look) -> u64 {
        match self {
            Self::Flat([low, medium, high]) => match look {
                Look::Low => low,
                Look::Medium => medium,
                Look::Auto | Look::High => high,
            },
            Self::Tiles { base, .. } if look == Look::Low => base,
            Self::Tiles { base, tile } => {
                let (width, height) = scaled(width, height, 2_048, u64::MAX);
                let (width, height) = scaled(width, height, u64::MAX, 768);
                base + tile * squares(width, height, 512)
            }
            Self::Patches { most, worth } => {
                let most = if look == Look::Auto { most.max(10_000) } else { most };
                (fewest(width, height, 32, most) * worth).div_ceil(100)
            }
            Self::Blocks { most, side } => {
                let (width, height) = scaled(width, height, side, u64::MAX);
                fewest(width, height, 28, most)
            }
        }
    }
}

/// Scaled down until the longer side has at most `longer` pixels, and the shorter one at most `shorter`.
fn scaled(width: u64, height: u64, longer: u64, shorter: u64) -> (u64, u64) {
    let (long, short) = (width.max(height), width.min(height));
    let (numerator, denominator) = match (long > longer, short > shorter) {
        (true, _) => (longer, long),
        (false, true) => (shorter, short),
        (false, false) => return (width, height),
    };
    let shrink = |side: u64| (side.saturating_mul(numerator) / denominator).max(1);
    (shrink(width), shrink(height))
}

fn squares(width: u64, height: u64, side: u64) -> u64 {
    width.div_ceil(side).saturating_mul(height.div_ceil(side))
}

/// Squares of an image that is made smaller, a hundredth at a time, until they are at most `most`.
fn fewest(width: u64, height: u64, side: u64, most: u64) -> u64 {
    let (mut wide, mut high) = (width, height);
    while squares(wide, high, side) > most {
        (wide, high) = ((wide * 99 / 100).max(1), (high * 99 / 100).max(1));
    }
    squares(wide, high, side)
}

fn page_tokens(model: &str) -> u64 {
    if model.starts_with("claude-") { CLAUDE_PAGE_TOKENS } else { PAGE_TOKENS }
}

/// Pages of a document, by the objects that are pages; at least one.
fn pages(bytes: &[u8]) -> Option<u64> {
    if !bytes.starts_with(b"%PDF-") {
        return None;
    }
    let text = String::from_utf8_lossy(bytes).replace("/Type /Page", "/Type/Page");
    let (all, trees) = (text.matches("/Type/Page").count(), text.matches("/Type/Pages").count());
    u64::try_from(all - trees).ok().map(|pages| pages.clamp(1, PAGES_MAX))
}

/// Width and height, as the head of an image says.
fn pixels(bytes: &[u8]) -> Option<(u64, u64)> {
    let found = match bytes {
        [0x89, b'P', b'N', b'G', ..] => (whole(bytes, 16, 4)?, whole(bytes, 20, 4)?),
        [b'G', b'I', b'F', b'8', ..] => (turned(bytes, 6, 2)?, turned(bytes, 8, 2)?),
        [0xff, 0xd8, ..] => of_jpeg(bytes)?,
        [b'R', b'I', b'F', b'F', ..] => of_webp(bytes)?,
        _ => return None,
    };
    (found.0 > 0 && found.1 > 0).then_some(found)
}

/// A number of so many bytes, the highest first.
fn whole(bytes: &[u8], at: usize, length: usize) -> Option<u64> {
    Some(bytes.get(at..at + length)?.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

/// The same, the lowest first.
fn turned(bytes: &[u8], at: usize, length: usize) -> Option<u64> {
    Some(bytes.get(at..at + length)?.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

/// The frame of a JPEG stands in the first segment that begins one.
fn of_jpeg(bytes: &[u8]) -> Option<(u64, u64)> {
    let mut at = 2;
    loop {
        let (mark, kind) = (*bytes.get(at)?, *bytes.get(at + 1)?);
        if mark != 0xff {
            return None;
        }
        let is_frame = (0xc0..=0xcf).contains(&kind) && ![0xc4, 0xc8, 0xcc].contains(&kind);
        if is_frame {
            return Some((whole(bytes, at + 7, 2)?, whole(bytes, at + 5, 2)?));
        }
        at += 2 + usize::try_from(whole(bytes, at + 2, 2)?).ok()?;
    }
}

fn of_webp(bytes: &[u8]) -> Option<(u64, u64)> {
    match bytes.get(12..16)? {
        b"VP8X" => Some((turned(bytes, 24, 3)? + 1, turned(bytes, 27, 3)? + 1)),
        b"VP8 " => Some((turned(bytes, 26, 2)? & 0x3fff, turned(bytes, 28, 2)? & 0x3fff)),
        b"VP8L" => {
            let bits = turned(bytes, 21, 4)?;
            Some(((bits & 0x3fff) + 1, (bits >> 14 & 0x3fff) + 1))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn png(width: u32, height: u32) -> String {
        let head = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR";
        STANDARD.encode([&head[..], &width.to_be_bytes(), &height.to_be_bytes()].concat())
    }

    #[test]
    fn images_count_what_was_measured_of_them() {
        let count = |model: &str, width, height| tokens(model, "image/png", &png(width, height), Look::High);
        assert_eq!(count("gpt-4o", 1_024, 1_024), Some(765));
        assert_eq!(count("gpt-4o", 2_048, 4_096), Some(1_105));
        assert_eq!(count("gpt-6-astra", 256, 256), Some(77));
        assert_eq!(count("gpt-6-astra", 1_024, 1_024), Some(1_229));
        assert_eq!(count("claude-haiku-4-5", 1_024, 1_024), Some(1_369));
        assert_eq!(count("claude-opus-5-5", 1_920, 1_080), Some(69 * 39));
        assert_eq!(count("gemini-3.8-flash", 8_000, 8_000), Some(1_120));
        assert!(count("claude-opus-5-5", 8_000, 8_000).is_some_and(|tokens| (4_600..=4_784).contains(&tokens)));
    }

    #[test]
    fn heads_tell_pixels_and_what_has_none_is_no_image() {
        assert_eq!(pixels(b"GIF89a\x03\0\x02\0"), Some((3, 2)));
        let jpeg = b"\xff\xd8\xff\xe0\0\x04ab\xff\xc0\0\x11\x08\0\x02\0\x03";
        assert_eq!(pixels(jpeg), Some((3, 2)));
        assert_eq!(pixels(b"RIFF\0\0\0\0WEBPVP8X\0\0\0\0\0\0\0\0\x02\0\0\x01\0\0"), Some((3, 2)));
        for bad in [&b"\x89PNG\r\n\x1a\n"[..], b"\xff\xd8\xff", b"RIFF", b"GIF89a\0\0\0\0", b"text", b""] {
            assert_eq!(pixels(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn pages_are_counted_and_the_tree_of_them_is_none() {
        let pdf = b"%PDF-1.4 <</Type /Pages/Kids[]>> <</Type/Page>> <</Type /Page >>";
        assert_eq!(pages(pdf), Some(2));
        assert_eq!(pages(b"no document"), None);
        let data = STANDARD.encode(pdf);
        assert_eq!(tokens("claude-opus-5-5", "application/pdf", &data, Look::Auto), Some(4_800));
    }
}
