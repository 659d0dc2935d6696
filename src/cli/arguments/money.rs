//! What can be typed after `plimsoll cost`, `plimsoll budget` and `plimsoll switch`.

use clap::{Args, Subcommand};

use super::BooksArguments;
use crate::api::ActRequest;
use crate::cli::ask::who;
use crate::domain::switch::SwitchScope;
use crate::units::Money;

/// See [`Command::Cost`](super::Command::Cost).
#[derive(Debug, Args)]
pub struct CostArguments {
    /// What to group by: tenant, feature, environment, agent, owner, model, prompt_version, day, thread
    #[arg(long, value_name = "DIMENSIONS", value_delimiter = ',', default_value = "agent,model")]
    pub by: Vec<String>,
    /// From then on, in whole UTC days: a length of time back, such as 30d, or a date, such as 2026-11-01
    #[arg(long, value_name = "WHEN", default_value = "30d")]
    pub since: String,
    /// Until then, that day included
    #[arg(long, value_name = "WHEN")]
    pub until: Option<String>,
    /// Only what has this value, such as feature=support; may stand several times
    #[arg(long, value_name = "DIMENSION=VALUE")]
    pub only: Vec<String>,
    /// Compare with as many days right before, and show what moved most
    #[arg(long, value_name = "PERIOD", value_parser = ["previous"])]
    pub against: Option<String>,
    /// Whose books.
    #[command(flatten)]
    pub books: BooksArguments,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Print CSV
    #[arg(long, conflicts_with = "json")]
    pub csv: bool,
}

/// See [`Command::Budget`](super::Command::Budget).
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct BudgetArguments {
    /// What else to do.
    #[command(subcommand)]
    pub command: Option<BudgetCommand>,
    /// One budget [default: all]
    pub budget: Option<String>,
    /// Show periods that are over, too
    #[arg(long)]
    pub past: bool,
    /// Show one budget's current period day by day, against an even spending of its cap
    #[arg(long, requires = "budget", conflicts_with = "past")]
    pub days: bool,
    /// Which account, with --days, where it has one for each value of a label, such as tenant=acme
    #[arg(long = "for", value_name = "LABEL=VALUE", default_value = "", requires = "days")]
    pub scope: String,
    /// Whose books.
    #[command(flatten)]
    pub books: BooksArguments,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// What is done about exceptions of budgets.
#[derive(Debug, Subcommand)]
pub enum BudgetCommand {
    /// Ask for more than a budget's cap, for a while; it counts once another person approves it
    Grant {
        /// The budget
        budget: String,
        /// Which account, where it has one for each value of a label, such as tenant=acme
        #[arg(long = "for", value_name = "LABEL=VALUE", default_value = "")]
        scope: String,
        /// How much is added to the cap, in USD
        #[arg(long, value_name = "USD")]
        amount: Money,
        /// When it ends: a length of time, such as 3d, or a point in time
        #[arg(long, value_name = "WHEN")]
        until: String,
        /// Why; it is kept in the audit log
        #[arg(long, value_name = "TEXT")]
        reason: String,
        /// Who, and whose books.
        #[command(flatten)]
        who: WhoArguments,
    },
    /// Approve an exception that another person asked for
    Approve {
        /// Its number
        exception: u64,
        /// Why; it is kept in the audit log
        #[arg(long, value_name = "TEXT", default_value = "for the reason that was given")]
        reason: String,
        /// Who, and whose books.
        #[command(flatten)]
        who: WhoArguments,
    },
    /// Refuse an exception, or take it back; what was placed by it stays placed
    End {
        /// Its number
        exception: u64,
        /// Why; it is kept in the audit log
        #[arg(long, value_name = "TEXT")]
        reason: String,
        /// Who, and whose books.
        #[command(flatten)]
        who: WhoArguments,
    },
    /// List exceptions, the newest first
    Exceptions {
        /// Whose books.
        #[command(flatten)]
        books: BooksArguments,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// See [`Command::Switch`](super::Command::Switch).
#[derive(Debug, Subcommand)]
pub enum SwitchCommand {
    /// Hold the runs of a scope from their next call on; they go on once it is lifted
    #[command(
        after_help = "Examples:\n  plimsoll switch pause feature=support --reason 'answers are wrong'\n  plimsoll switch pause model=openai/gpt-5-mini --reason 'outage: others take over'"
    )]
    Pause {
        /// all, a label such as feature=support, agent=triage or tenant=acme, or model=openai/gpt-5-mini
        scope: SwitchScope,
        /// Why; it is kept in the audit log
        #[arg(long, value_name = "TEXT")]
        reason: String,
        /// Who, and whose books.
        #[command(flatten)]
        who: WhoArguments,
    },
    /// End the runs of a scope at their next call, without another one
    Kill {
        /// As for pause
        scope: SwitchScope,
        /// Why; it is kept in the audit log
        #[arg(long, value_name = "TEXT")]
        reason: String,
        /// Who, and whose books.
        #[command(flatten)]
        who: WhoArguments,
    },
    /// Lift a switch
    Lift {
        /// As it was set
        scope: SwitchScope,
        /// Why; it is kept in the audit log
        #[arg(long, value_name = "TEXT")]
        reason: String,
        /// Who, and whose books.
        #[command(flatten)]
        who: WhoArguments,
    },
    /// List the switches that are set
    List {
        /// Whose books.
        #[command(flatten)]
        books: BooksArguments,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// Who changes something.
#[derive(Debug, Args)]
pub struct WhoArguments {
    /// Who does it; kept in the audit log [default: the user of this machine]
    #[arg(long, value_name = "NAME")]
    pub by: Option<String>,
    /// Whose books.
    #[command(flatten)]
    pub books: BooksArguments,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

impl WhoArguments {
    /// Who does it: who is named, or the user of this machine.
    #[must_use]
    pub fn by(&self) -> String {
        self.by.clone().unwrap_or_else(who)
    }

    /// The same with a reason.
    #[must_use]
    pub fn because(&self, reason: &str) -> ActRequest {
        ActRequest { by: self.by(), reason: reason.to_owned() }
    }
}
