//! What can be typed after `plimsoll keys`.

use clap::Subcommand;

use super::{BooksArguments, WhoArguments};
use crate::domain::access::Scope;

/// See [`Command::Keys`](super::Command::Keys).
#[derive(Debug, Subcommand)]
pub enum KeysCommand {
    /// Make a key; its text is shown this once
    #[command(
        after_help = "Examples:\n  plimsoll keys create web --scope run,read --label tenant=acme\n  plimsoll keys create ops --scope admin"
    )]
    Create {
        /// Whose it is
        name: String,
        /// What it lets do: run, read, approve, admin
        #[arg(long, value_name = "SCOPE", value_delimiter = ',', required = true)]
        scope: Vec<Scope>,
        /// A label that it is bound to: its runs get it, and it sees no others; may stand several times
        #[arg(long, value_name = "NAME=VALUE")]
        label: Vec<String>,
        /// Why; it is kept in the audit log [default: that it is for NAME]
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
        /// Who, and whose books.
        #[command(flatten)]
        common: WhoArguments,
    },
    /// List every key that was made, without its text
    List {
        /// Whose books.
        #[command(flatten)]
        books: BooksArguments,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Give a key another text; the old one counts no more
    Rotate {
        /// The key's id
        key: String,
        /// Why; it is kept in the audit log
        #[arg(long, value_name = "TEXT")]
        reason: String,
        /// Who, and whose books.
        #[command(flatten)]
        common: WhoArguments,
    },
    /// Have a key count no more, for good
    Revoke {
        /// The key's id
        key: String,
        /// Why; it is kept in the audit log
        #[arg(long, value_name = "TEXT")]
        reason: String,
        /// Who, and whose books.
        #[command(flatten)]
        common: WhoArguments,
    },
}
