//! Files that go with an input, in words.

use crate::domain::report::FileLine;
use crate::units::grouped;
use crate::words::text::one_line;

/// The longest name that is shown.
const NAME_CHARS_MAX: usize = 120;

/// `file     photo.jpg  image/jpeg, 48,213 bytes, 1,568 tokens at most`.
#[must_use]
pub fn line(file: &FileLine) -> String {
    let whose = if file.of_agent { ", of the agent" } else { "" };
    format!("  file     {}{whose}", words(file))
}

/// `photo.jpg  image/jpeg, 48,213 bytes, 1,568 tokens at most`.
#[must_use]
pub fn words(file: &FileLine) -> String {
    let FileLine { name, media, bytes, tokens_max, .. } = file;
    let (name, bytes) = (one_line(name, NAME_CHARS_MAX), grouped(*bytes));
    format!("{name}  {}, {bytes} bytes, {tokens_max} tokens at most", media.name())
}
