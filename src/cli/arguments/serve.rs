//! What can be typed after `plimsoll serve`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

use super::BooksArguments;
use crate::units::Millis;

/// See [`Command::Serve`](super::Command::Serve).
#[derive(Debug, Args)]
pub struct ServeArguments {
    /// Where to listen, on this machine
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7700", env = "PLIMSOLL_LISTEN")]
    pub listen: SocketAddr,
    /// Runs that go on at once
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u16).range(1..))]
    pub parallel: u16,
    /// Runs that wait for their turn; more are refused until some have begun
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub queue: u32,
    /// How long runs may go on once it is told to stop, before they are interrupted; they go on at the next start
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = Millis::parse)]
    pub grace: Millis,
    /// Serve over TLS with this chain of certificates (PEM); read again when it changes
    #[arg(long, value_name = "FILE", requires = "tls_key", env = "PLIMSOLL_TLS_CERT")]
    pub tls_cert: Option<PathBuf>,
    /// The key of that certificate (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert", env = "PLIMSOLL_TLS_KEY")]
    pub tls_key: Option<PathBuf>,
    /// Let pages of this origin read the API in a browser, such as `https://app.example.com`; repeatable, and none by default
    #[arg(long, value_name = "ORIGIN")]
    pub allow_origin: Vec<String>,
    /// The scenario that the simulated provider plays
    #[arg(long, value_name = "FILE")]
    pub scenario: Option<PathBuf>,
    /// Keep the simulated provider's invoice in this file
    #[arg(long, value_name = "FILE")]
    pub invoice: Option<PathBuf>,
    /// Whose books
    #[command(flatten)]
    pub books: BooksArguments,
}

/// See [`super::Command::Sim`].
#[derive(Debug, Args)]
pub struct SimArguments {
    /// Where to listen
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7701")]
    pub listen: SocketAddr,
    /// Play this scenario
    #[arg(long, value_name = "FILE")]
    pub scenario: Option<PathBuf>,
    /// Keep the invoice in this file
    #[arg(long, value_name = "FILE")]
    pub invoice: Option<PathBuf>,
    /// Write the key file of a Google service account whose tokens are taken here
    #[arg(long, value_name = "FILE")]
    pub service_account: Option<PathBuf>,
}
