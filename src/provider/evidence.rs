//! What decides whether a failed attempt can have been billed. Which facts prove that it wasn't is each wire's own table
//! (LEDGER rule 4), with a source for each row.

use reqwest::Url;

use crate::domain::retry::ErrorClass;

/// Whether a failed attempt can have cost money.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Billing {
    /// Proof that nothing was billed: void.
    Unbilled,
    /// Nobody knows: settle at the reservation.
    Unknown,
}

/// Who answered, as far as billing goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Host {
    /// Azure, which bills some errors.
    Azure,
    /// Anyone else.
    Other,
}

/// What is known of a failed attempt.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts {
    /// A byte of the request's body may have left.
    pub(crate) sent: bool,
    /// The status of the answer, if there was one.
    pub(crate) status: Option<u16>,
    /// The answer's body is an error in the provider's own form, not a gateway's page.
    pub(crate) provider_body: bool,
    /// The class of the error.
    pub(crate) class: ErrorClass,
    /// Some output was seen.
    pub(crate) output_seen: bool,
    /// Who answered.
    pub(crate) host: Host,
}

impl Host {
    /// Azure bills some errors (PROVIDERS §4), whichever wire asks it.
    pub(crate) fn of(url: &Url) -> Self {
        let name = url.host_str().unwrap_or_default();
        let azure = [".azure.com", ".azure.us", ".azure.cn", ".azure-api.net", ".azure-api.us"];
        if azure.iter().any(|suffix| name.ends_with(suffix)) { Self::Azure } else { Self::Other }
    }
}
