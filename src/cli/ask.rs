//! Questions of runs, put to whoever sits at the terminal.

use super::render::text::one_line;

/// Who answers, where nobody says it: the user of this process.
pub(crate) fn who() -> String {
    let user = std::env::var("USER").unwrap_or_else(|_| "the command line".to_owned());
    one_line(&user, 64)
}
