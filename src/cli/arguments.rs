//! What can be typed: the commands, their options and their help.

mod alerts;
mod audit;
mod export;
mod keys;
mod money;
mod outcome;
mod prices;
mod replay;
mod run;
mod serve;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub use alerts::{AlertsCommand, StateArgument};
pub use audit::AuditArguments;
pub use export::{ExportArguments, ExportCommand};
pub use keys::KeysCommand;
pub use money::{BudgetArguments, BudgetCommand, CostArguments, SwitchCommand, WhoArguments};
pub use outcome::OutcomeArguments;
pub use prices::{BoundsArguments, DiffArguments, FrozenArguments, ImportArguments, PricesCommand, UnfreezeArguments};
pub use replay::ReplayArguments;
pub use run::{RecordArguments, RunArguments};
pub use serve::{ServeArguments, SimArguments};

use crate::cli::logging::{FORMAT_VARIABLE, Form};
use crate::units::Money;

/// The most runs of `--each` at once.
pub(super) const PARALLEL_MAX: u16 = 1_024;
/// Where the options of every command stand in its help: behind its own.
const GLOBAL_ORDER: usize = 900;

/// Runs LLM agents inside hard limits: the worst case of each call is reserved before it is made, and settled exactly
/// after it.
#[derive(Debug, Parser)]
#[command(name = "plimsoll", version, disable_help_subcommand = true, arg_required_else_help = true)]
#[command(after_help = "\
A first run, without any key:
  plimsoll init && plimsoll run hello --input 'Where is order 4711?'

Exit codes:
  0 finished, 1 failed, 2 bad usage or configuration, 3 stopped by a limit,
  4 waiting, 5 cancelled, 130 interrupted

Environment:
  PLIMSOLL_HOME         the project, where --project is left out
  PLIMSOLL_ENVIRONMENT  the environment, over that of plimsoll.toml
  PLIMSOLL_LOG          what to log, such as debug; nothing by default, info as JSON
  PLIMSOLL_LOG_FORMAT   how, where --log-format is left out: text or json
  NO_COLOR              no colours")]
pub struct Arguments {
    /// The project: the folder of plimsoll.toml, with agents/ and tools/ beside it [default: the nearest one upwards]
    #[arg(long, global = true, value_name = "DIR", display_order = GLOBAL_ORDER)]
    pub project: Option<PathBuf>,
    /// How the log is written, text or json; as JSON, all that is said on standard error is a line of it
    #[arg(long, global = true, value_name = "FORM", env = FORMAT_VARIABLE, default_value = "text", hide_env = true,
          hide_default_value = true, hide_possible_values = true, display_order = GLOBAL_ORDER)]
    pub log_format: Form,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a small project that works: plimsoll.toml, an agent, a tool
    #[command(after_help = "Example:\n  plimsoll --project my-agents init")]
    Init,
    /// Check agents: their limits, where each was declared, and their load line
    #[command(after_help = "Examples:\n  plimsoll check\n  plimsoll check hello --json")]
    Check(CheckArguments),
    /// Run an agent
    #[command(after_help = "\
Examples:
  plimsoll run hello --input 'Where is order 4711?' --label tenant=acme
  plimsoll run hello --input @ticket.json --json
  plimsoll run hello --input - --dry-run < ticket.txt
  plimsoll run hello --each tickets.jsonl --parallel 16 --json > results.jsonl

The answer goes to standard output, progress and costs to standard error.

The same --each again skips the lines that ended, however they ended, and resumes the others.
A line is known by its number, the file's contents, the agent, the environment and the labels:
a changed file, or other labels, is another job, and all its lines run.")]
    Run(Box<RunArguments>),
    /// Run an agent, and record what models and tools answer into a cassette
    #[command(after_help = "\
Example:
  plimsoll record hello --input 'Where is order 4711?' --to tests/hello.cassette
  plimsoll run hello --input 'Where is order 4711?' --cassette tests/hello.cassette

A cassette answers without a call, a key or a bill, for as long as the agent asks the same: in a
CI, say. Values of the variables that providers and tools are given are left out of it; what models
and tools said is not.")]
    Record(Box<RecordArguments>),
    /// List runs, newest first
    #[command(
        after_help = "Examples:\n  plimsoll runs --state stopped --since 7d\n  plimsoll runs --label tenant=acme --json"
    )]
    Runs(RunsArguments),
    /// Show everything that a run did, and what it cost
    #[command(after_help = "Examples:\n  plimsoll trace last\n  plimsoll trace 01JD0Q --json")]
    Trace(TraceArguments),
    /// Judge a run again from its log: the same decisions, requests and bills?
    #[command(after_help = "\
Folds a run and all below it, asks at each recorded decision what is decided there, prepares each
model call and prices each bill anew. No call is made, nothing is written. Exits 1 where it differs.

With --limits, --prices or --models it tells where the run would have been stopped, or what it would
have cost, still without a call: what models, tools and people said is taken as it was recorded.
Exits 3 where a limit would have stopped it, and 1 where it would have failed.

Examples:
  plimsoll replay last
  plimsoll replay last --limits cost=0.10usd,steps=4
  plimsoll replay last --limits tighter.toml --json
  plimsoll replay 01JD0Q --prices next-year.toml
  plimsoll replay 01JD0Q --models openai/gpt-5-mini=openai/gpt-5-nano
  plimsoll replay 01JD0Q --models openai/gpt-5-nano")]
    Replay(ReplayArguments),
    /// Go on with interrupted runs
    #[command(after_help = "\
Examples:
  plimsoll resume last
  plimsoll resume --all
  plimsoll resume 01JD0Q --in-flight skip

What is settled is never called again. A tool call that was in flight when the process went down is
made again by itself only where the tool is idempotent; for others say --in-flight rerun or
--in-flight skip.")]
    Resume(ResumeArguments),
    /// Approve what a run asks for, deny it, change it or put an answer in its place; then go on with the run
    #[command(after_help = "\
Examples:
  plimsoll approve 01JD0Q
  plimsoll approve 01JD0Q --ask 2 --deny --reason 'twice the order'
  plimsoll approve 01JD0Q --args '{\"amount\": 5}'
  plimsoll approve 01JD0Q --answer 'paid back in cash'

`plimsoll runs` and `plimsoll trace RUN` show what a run asks. Where another process holds the store,
that one takes the decision and goes on with the run.")]
    Approve(ApproveArguments),
    /// Answer an agent's question; then go on with the run
    #[command(after_help = "Example:\n  plimsoll answer 01JD0Q 'The blue one'")]
    Answer(AnswerArguments),
    /// Cancel a run that hasn't ended
    Cancel(CancelArguments),
    /// Say what a run was worth: units, quality, revenue
    #[command(after_help = "\
Examples:
  plimsoll outcome last --units 1 --quality 0.93 --revenue 12.50
  plimsoll outcome 01JD0Q --quality 0.4 --source judge --note 'wrong order'
  plimsoll outcome 01JD0Q --unknown revenue

What is said last stands, and `plimsoll trace RUN` shows all that was said. An agent's own rules can
say it at each run's end: `[outcome]` in its file.")]
    Outcome(OutcomeArguments),
    /// Show what was spent, by tenant, feature, agent, model, …
    #[command(
        after_help = "Examples:\n  plimsoll cost --by tenant,model --since 30d\n  plimsoll cost --by feature --since 7d --against previous\n  plimsoll cost --by day --csv > days.csv"
    )]
    Cost(CostArguments),
    /// Show budgets: caps, what is settled and held, what is left; ask for exceptions and approve them
    #[command(after_help = "\
Examples:
  plimsoll budget
  plimsoll budget grant support-month --amount 50 --until 3d --reason 'trade fair'
  plimsoll budget approve 17 --by bob
  plimsoll budget exceptions")]
    Budget(BudgetArguments),
    /// Hold or end the runs of a feature, an agent, a tenant or all, or take a model out of use
    #[command(subcommand)]
    Switch(SwitchCommand),
    /// List alerts: who was told of budgets and runs, and who couldn't be; try whether they arrive
    #[command(subcommand)]
    #[command(
        after_help = "Examples:\n  plimsoll alerts list\n  plimsoll alerts test finance\n  plimsoll alerts retry 17"
    )]
    Alerts(AlertsCommand),
    /// Show rate limits: what may go out now, what providers still take, open breakers
    Rates(RatesArguments),
    /// Show prices, and unfreeze them
    #[command(subcommand)]
    Prices(PricesCommand),
    /// Take runs in over HTTP, drive them, and answer about them
    #[command(after_help = "Example:\n  plimsoll serve --listen 127.0.0.1:7700")]
    Serve(ServeArguments),
    /// Make, list, rotate and revoke the keys of the service
    #[command(subcommand)]
    Keys(KeysCommand),
    /// Show who changed what is allowed, when and why: keys, frozen prices
    #[command(
        after_help = "Examples:\n  plimsoll audit --since 30d\n  plimsoll audit --kind key_made --who ann --json"
    )]
    Audit(AuditArguments),
    /// Serve the simulated provider, which speaks a real wire and keeps an invoice
    #[command(
        after_help = "Example:\n  plimsoll sim --listen 127.0.0.1:7701 --scenario faults.toml --invoice invoice.jsonl"
    )]
    Sim(SimArguments),
    /// Print the JSON Schema of a kind of file, for editors
    #[command(after_help = "Example:\n  plimsoll schema agent > agent.schema.json")]
    Schema {
        /// The kind of file
        kind: SchemaKind,
    },
    /// Write what the store holds: runs and events as JSON lines, costs as FOCUS
    #[command(subcommand)]
    Export(ExportCommand),
    /// Print a script that completes commands in a shell
    #[command(
        after_help = "Example:\n  plimsoll completions bash > ~/.local/share/bash-completion/completions/plimsoll"
    )]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// Whose books a command reads.
#[derive(Clone, Copy, Debug, Default, Args)]
pub struct BooksArguments {
    /// Use the simulated provider and its own store, whatever providers are configured
    #[arg(long)]
    pub sim: bool,
}

/// See [`Command::Check`].
#[derive(Debug, Args)]
pub struct CheckArguments {
    /// One agent [default: all]
    pub agent: Option<String>,
    /// Answer 2 where there are warnings: in a CI, say
    #[arg(long)]
    pub strict: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Which runs.
#[derive(Debug, Args)]
pub struct WhichArguments {
    /// Of one agent
    #[arg(long, value_name = "AGENT")]
    pub agent: Option<String>,
    /// In a state, such as running or stopped. May be repeated, or separated by commas
    #[arg(long, value_name = "STATE", value_delimiter = ',')]
    pub state: Vec<String>,
    /// With a label. May be repeated
    #[arg(long, short, value_name = "NAME=VALUE")]
    pub label: Vec<String>,
}

/// Runs of which time.
#[derive(Debug, Args)]
pub struct MadeArguments {
    /// Created since then: a length of time back, such as 24h, or a date, such as 2026-11-01
    #[arg(long, value_name = "WHEN")]
    pub since: Option<String>,
    /// Created before then
    #[arg(long, value_name = "WHEN")]
    pub until: Option<String>,
}

/// See [`Command::Runs`].
#[derive(Debug, Args)]
pub struct RunsArguments {
    /// Which.
    #[command(flatten)]
    pub which: WhichArguments,
    /// Of a thread
    #[arg(long, value_name = "ID")]
    pub thread: Option<String>,
    /// Of which time.
    #[command(flatten)]
    pub made: MadeArguments,
    /// That cost so much or more, such as 0.05
    #[arg(long, value_name = "USD", value_parser = Money::parse)]
    pub cost_min: Option<Money>,
    /// That cost so much or less
    #[arg(long, value_name = "USD", value_parser = Money::parse)]
    pub cost_max: Option<Money>,
    /// With the runs of sub-agents; the cost and steps of each run include those below it
    #[arg(long)]
    pub children: bool,
    /// How many at most
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    pub limit: u16,
    /// Whose books.
    #[command(flatten)]
    pub books: BooksArguments,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// See [`Command::Trace`].
#[derive(Debug, Args)]
pub struct TraceArguments {
    /// The run: its id, the beginning of it, or `last`
    pub run: String,
    /// Whose books.
    #[command(flatten)]
    pub books: BooksArguments,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// See [`Command::Resume`].
#[derive(Debug, Args)]
pub struct ResumeArguments {
    /// The run: its id, the beginning of it, or `last`
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    pub run: Option<String>,
    /// Every run that is queued or was interrupted
    #[arg(long)]
    pub all: bool,
    /// What to do with a tool call that was in flight when the process went down, and may have had its effect
    #[arg(long, value_name = "WHAT")]
    pub in_flight: Option<InFlight>,
    /// Print each run's document as a JSON line
    #[arg(long)]
    pub json: bool,
    /// Whose books.
    #[command(flatten)]
    pub books: BooksArguments,
    /// Let the simulated provider play this scenario
    #[arg(long, value_name = "FILE")]
    pub scenario: Option<PathBuf>,
    /// Let the simulated provider keep its invoice in this file
    #[arg(long, value_name = "FILE")]
    pub invoice: Option<PathBuf>,
    /// How many runs at once, with --all
    #[arg(long, value_name = "N", default_value_t = 8, requires = "all",
          value_parser = clap::value_parser!(u16).range(1..=i64::from(PARALLEL_MAX)))]
    pub parallel: u16,
    /// Say nothing but errors
    #[arg(long, short)]
    pub quiet: bool,
}

/// What to do with a tool call that was in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum InFlight {
    /// Make it again.
    Rerun,
    /// Tell the model that its outcome is not known.
    Skip,
}

/// See [`Command::Approve`].
#[derive(Debug, Args)]
pub struct ApproveArguments {
    /// The run: its id, the beginning of it, or `last`
    pub run: String,
    /// Say no
    #[arg(long, conflicts_with_all = ["args", "answer"])]
    pub deny: bool,
    /// Say yes to these arguments, or to this value, in the place of what is shown
    #[arg(long, value_name = "JSON", conflicts_with = "answer")]
    pub args: Option<String>,
    /// Put this in the place of what the call, or the stage, would give
    #[arg(long, value_name = "TEXT")]
    pub answer: Option<String>,
    /// How.
    #[command(flatten)]
    pub how: DecideArguments,
}

/// See [`Command::Answer`].
#[derive(Debug, Args)]
pub struct AnswerArguments {
    /// The run: its id, the beginning of it, or `last`
    pub run: String,
    /// The answer
    pub text: String,
    /// How.
    #[command(flatten)]
    pub how: DecideArguments,
}

/// What every decision has.
#[derive(Debug, Args)]
pub struct DecideArguments {
    /// Which question, where the run asks several: its number
    #[arg(long, value_name = "N")]
    pub ask: Option<u32>,
    /// Why; it is kept in the trace, and a no tells it to the model
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// Who decides [default: the user's name]
    #[arg(long, value_name = "NAME")]
    pub by: Option<String>,
    /// Record the decision, and don't go on with the run
    #[arg(long)]
    pub only: bool,
    /// Print the run's document as JSON
    #[arg(long)]
    pub json: bool,
    /// Whose books.
    #[command(flatten)]
    pub books: BooksArguments,
    /// Let the simulated provider play this scenario
    #[arg(long, value_name = "FILE")]
    pub scenario: Option<PathBuf>,
    /// Let the simulated provider keep its invoice in this file
    #[arg(long, value_name = "FILE")]
    pub invoice: Option<PathBuf>,
    /// Say nothing but errors
    #[arg(long, short)]
    pub quiet: bool,
}

/// See [`Command::Cancel`].
#[derive(Debug, Args)]
pub struct CancelArguments {
    /// The run: its id, the beginning of it, or `last`
    pub run: String,
    /// Why; it is kept in the trace
    #[arg(long, default_value = "cancelled on the command line")]
    pub reason: String,
    /// Whose books.
    #[command(flatten)]
    pub books: BooksArguments,
    /// Print the run's document as JSON
    #[arg(long)]
    pub json: bool,
}

/// See [`Command::Rates`].
#[derive(Debug, Args)]
pub struct RatesArguments {
    /// Whose books.
    #[command(flatten)]
    pub books: BooksArguments,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// The kinds of file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SchemaKind {
    /// agents/*.toml
    Agent,
    /// tools/*.toml
    Tool,
    /// plimsoll.toml
    Project,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn what_excludes_each_other_is_refused() {
        for line in [
            "plimsoll run a --json --events",
            "plimsoll run a --input x --each f",
            "plimsoll run a --parallel 4",
            "plimsoll run a --each f --parallel 0",
            "plimsoll run a --each f --parallel 5000",
            "plimsoll resume",
            "plimsoll resume x --all",
            "plimsoll approve",
            "plimsoll approve x --deny --args 1",
            "plimsoll approve x --deny --answer y",
            "plimsoll approve x --args 1 --answer y",
            "plimsoll approve x --ask one",
            "plimsoll answer x",
            "plimsoll prices unfreeze m",
            "plimsoll sim --listen nowhere",
            "plimsoll serve --parallel 0",
        ] {
            assert!(Arguments::try_parse_from(line.split(' ')).is_err(), "{line}");
        }
    }

    #[test]
    fn options_of_the_whole_may_stand_anywhere() {
        let parsed = Arguments::try_parse_from("plimsoll trace last --project p --json".split(' ')).expect("parses");
        assert_eq!(parsed.project, Some(PathBuf::from("p")));
        assert!(matches!(parsed.command, Command::Trace(TraceArguments { json: true, .. })));
    }
}
