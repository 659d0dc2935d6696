//! Providers: one folder for each wire format. One attempt, never a retry: a second attempt needs a second [`Permit`].
//!
//! Invariants: [`Client::call`] takes the permit by value and sends at most one request for it; its time limits close
//! the connection; what it calls unbilled is proven (LEDGER rule 4). Keys and texts stay out of logs and failures.
//! Deliberately absent: retries, fallbacks, prices, and any decision on what an answer means for the run.

mod anthropic;
mod auth;
mod azure;
mod dialect;
mod evidence;
mod exchange;
mod fault;
mod gemini;
pub(crate) mod http;
mod openai;
mod openai_chat;
mod openai_responses;
mod rates;
mod sse;
mod told;
mod wait;

#[cfg(test)]
mod tests;

use tracing::Instrument as _;

use self::anthropic::Anthropic;
use self::auth::Keys;
pub use self::auth::{KEY_COMMAND_BYTES_MAX, KEY_COMMAND_TIME_MAX, MESSAGE_CHARS_MAX, Secret};
use self::azure::Azure;
use self::dialect::Dialect;
use self::exchange::{Attempt, Endpoint};
use self::gemini::Gemini;
pub use self::http::{
    BODY_BYTES_MAX, CONNECT_TIME_MAX, ERROR_BODY_BYTES_MAX, HEADER_LIST_BYTES_MAX, HEADERS_MAX, Http, RETRY_AFTER_MAX,
};
pub use self::openai::CALLS_MAX;
use self::openai_chat::OpenAiChat;
use self::openai_responses::OpenAiResponses;
pub use self::wait::DRAIN_TIME_MAX;
use self::wait::Wait;
use crate::domain::event::Count;
use crate::domain::message::{File, Message, Reply, Request};
use crate::domain::rate::ToldRates;
use crate::domain::retry::{ErrorClass, Failure};
use crate::gate::Permit;
use crate::ids::{AccountName, ModelName, ProviderName, ReservationId};
use crate::spec::project::{KeySource, ProviderConfig, Wire};
use crate::units::{Millis, Tokens};

/// Turns true when nobody wants the answer any more. Its usage is still wanted, so the call goes on for a while.
pub type CancelSignal = tokio::sync::watch::Receiver<bool>;

/// One configured provider.
#[derive(Debug)]
pub struct Client {
    provider: ProviderName,
    http: Http,
    endpoint: Endpoint,
}

/// The wire that a provider speaks. A new one is a folder, and a line here.
fn dialect_of(config: &ProviderConfig) -> Result<Box<dyn Dialect>, ProviderError> {
    match config.wire {
        Wire::OpenAiChat => Ok(Box::new(OpenAiChat::new(config)?)),
        Wire::Anthropic | Wire::VertexAnthropic => Ok(Box::new(Anthropic::new(config)?)),
        Wire::Gemini | Wire::Vertex => Ok(Box::new(Gemini::new(config)?)),
        Wire::OpenAiResponses => Ok(Box::new(OpenAiResponses::new(config)?)),
        Wire::AzureOpenAi => Ok(Box::new(Azure::new(config)?)),
    }
}

impl Client {
    /// A client for one provider; connects to nothing yet.
    ///
    /// # Errors
    /// Where the base URL or a header can't be used.
    pub fn new(config: &ProviderConfig, http: Http) -> Result<Self, ProviderError> {
        let endpoint = Endpoint::new(config, dialect_of(config)?)?;
        Ok(Self { provider: config.name.clone(), http, endpoint })
    }

    /// The request's body as it would go out, byte for byte.
    ///
    /// # Errors
    /// Where `extra` names a field that isn't the author's to set.
    pub fn body(&self, request: &Request) -> Result<Vec<u8>, ProviderError> {
        self.endpoint.dialect().body(request)
    }

    /// What every attempt at a request that an account pays for has in its head, a line for each; no key is among it.
    #[must_use]
    pub fn head(&self, request: &Request, account: Option<&AccountName>) -> String {
        self.endpoint.head(request, account)
    }

    /// Where requests go; on wires that name the model in their path, where that begins.
    #[must_use]
    pub fn url(&self) -> &str {
        self.endpoint.dialect().base_url().as_str()
    }

    /// Makes one attempt: one request at most, within the permit's time limits.
    ///
    /// A stream's text goes to `listener` as it comes. After `cancel` the answer is read on for [`DRAIN_TIME_MAX`] at
    /// most, for its usage; a request that hasn't left is dropped at once. Dropping the future closes the connection.
    ///
    /// One permit, one call:
    /// ```compile_fail,E0382
    /// use plimsoll::{domain::message::Request, gate::Permit, provider::{CancelSignal, Client}};
    /// async fn twice(client: &Client, permit: Permit, request: &Request, cancel: CancelSignal) {
    ///     client.call(permit, request, None, cancel.clone()).await;
    ///     client.call(permit, request, None, cancel).await;
    /// }
    /// ```
    pub async fn call(
        &self,
        permit: Permit,
        request: &Request,
        listener: Option<&Listener>,
        cancel: CancelSignal,
    ) -> Answer {
        let begun = self.http.clock().now();
        let wait = Wait::new(&permit, cancel);
        let account = permit.account().cloned();
        let reservation = permit.spend();
        let span = tracing::debug_span!("model_call", provider = %self.provider, model = %request.model, %reservation);
        let mut attempt = Attempt {
            http: &self.http,
            request,
            listener,
            reservation,
            account,
            begun,
            wait,
            first_token: None,
            rates: ToldRates::default(),
        };
        let result = Box::pin(self.endpoint.attempt(&mut attempt)).instrument(span.clone()).await;
        let latency = self.http.clock().now().since(begun);
        span.in_scope(|| tracing::debug!(outcome = result.outcome(), latency_ms = latency.0, "ended"));
        Answer { reservation, latency, first_token: attempt.first_token, rates: attempt.rates, result }
    }
}

impl Client {
    /// Asks what a request's input counts, within the permit's time limit. One request at most, which costs nothing by the
    /// provider's own word; a provider of which nobody says that isn't asked.
    pub async fn count(&self, permit: Permit, request: &Request) -> Count {
        let (_keep, cancel) = tokio::sync::watch::channel(false);
        let wait = Wait::new(&permit, cancel);
        let account = permit.account().cloned();
        let counted = self.endpoint.count(&self.http, request, (permit.spend(), account.as_ref()), wait);
        match Box::pin(counted).await {
            Ok(tokens) => Count::Told { tokens: Tokens(tokens).min(Tokens::BELIEVED_MAX) },
            Err(why) => Count::Not { why },
        }
    }
}

/// The body of a request, byte for byte as it would go out.
///
/// # Errors
/// Where `extra` names a field that isn't the author's to set.
pub fn encode(config: &ProviderConfig, request: &Request) -> Result<Vec<u8>, ProviderError> {
    dialect_of(config)?.body(request)
}

/// Says whether a provider's keys can be there, without a call: its own, unless nobody is paid for by it, and those of its
/// accounts. A key's program isn't run for it, and no token asked for.
///
/// # Errors
/// Names the variable that isn't set, or the file that can't be used.
pub fn check_key(config: &ProviderConfig) -> Result<(), ProviderError> {
    let check = |source: &KeySource| Keys::new(config.name.clone(), source.clone()).check();
    config.keys().skip(usize::from(config.strict)).try_for_each(check)
}

/// Reads an answer with a good status, whole or as the body of a stream: what a reply would be made of it.
///
/// # Errors
/// What is no reply, in words.
pub fn decode(config: &ProviderConfig, request: &Request, body: &[u8]) -> Result<Reply, String> {
    let dialect = dialect_of(config).map_err(|error| error.to_string())?;
    let told = |broken: fault::Broken| format!("{broken:?}");
    if !request.stream {
        return dialect.whole(request, "call", body).map_err(told);
    }
    let mut reader = dialect.reader(request, "call".to_owned());
    reader.push(body, &mut |_| {}).map_err(told)?;
    reader.end("it ended before its end").map_err(told)
}

/// Refuses files that the model is known not to take, whatever the wire.
fn check_files(config: &ProviderConfig, request: &Request) -> Result<(), ProviderError> {
    let files =
        request.messages.iter().filter_map(|sent| if let Message::File(file) = &**sent { Some(file) } else { None });
    for media in files.map(File::media) {
        let abilities = config.abilities(&request.model);
        let (able, ability) =
            if media.is_image() { (abilities.images, "images") } else { (abilities.documents, "documents") };
        if able.is_no() {
            return Err(ProviderError::File { model: request.model.clone(), media: media.name(), ability });
        }
    }
    Ok(())
}

/// Why a provider can't be used, before anything is sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProviderError {
    /// A base URL that is none.
    #[error(
        "`base_url` of provider `{provider}` is `{base_url}`: {reason}; expected such as `https://api.openai.com/v1`"
    )]
    BaseUrl {
        /// The provider.
        provider: ProviderName,
        /// What it says.
        base_url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A header that can't be sent, or that we set ourselves.
    #[error("header `{header}` of provider `{provider}` can't be set: its form is wrong, or it is set by the runtime")]
    Header {
        /// The provider.
        provider: ProviderName,
        /// The header.
        header: String,
    },
    /// A key's variable that isn't set.
    #[error("provider `{provider}` takes its key from `{variable}`, which is not set; export it, or change `key_env`")]
    KeyMissing {
        /// The provider.
        provider: ProviderName,
        /// The environment variable.
        variable: String,
    },
    /// A key's program that gave none.
    #[error("provider `{provider}` takes its key from the program `{program}`, which {reason}; mend `key_command`")]
    KeyCommand {
        /// The provider.
        provider: ProviderName,
        /// The program.
        program: String,
        /// What it did.
        reason: String,
    },
    /// A key's file that holds none, or a token that can't be had.
    #[error("provider `{provider}` takes its key from {from}, which {reason}")]
    Token {
        /// The provider.
        provider: ProviderName,
        /// Where it would come from.
        from: String,
        /// What went wrong.
        reason: String,
        /// True where it may be had when it is asked for again.
        may_pass: bool,
    },
    /// A key that no header can carry.
    #[error("the key of provider `{provider}` holds characters that no header can carry; was it cut or quoted?")]
    KeyForm {
        /// The provider.
        provider: ProviderName,
    },
    /// An `extra` field that decides what a call costs.
    #[error(
        "`extra.{field}` for model `{model}` can't be set: the runtime sends that field itself, or it would change what a call can cost; remove it"
    )]
    ExtraField {
        /// The model.
        model: ModelName,
        /// The field.
        field: String,
    },
    /// A reasoning effort that the wire has no word for.
    #[error(
        "`reasoning = \"{effort}\"` isn't an effort that `{model}` can be asked for; expected none, minimal, low, medium, high, xhigh, max or a number of tokens"
    )]
    Reasoning {
        /// The model.
        model: ModelName,
        /// What was asked for.
        effort: String,
    },
    /// A setting that the wire doesn't have.
    #[error("`{model}` is asked over `{wire}`, which has no `{setting}`; leave `{setting}` out, or use another wire")]
    Setting {
        /// The model.
        model: ModelName,
        /// The key of the agent file.
        setting: &'static str,
        /// The wire.
        wire: &'static str,
    },
    /// A file that the model doesn't take.
    #[error(
        "`{model}` doesn't take `{media}` files; name a model that does, or say `{ability} = true` under `[[models]]`"
    )]
    File {
        /// The model.
        model: ModelName,
        /// What the file is.
        media: &'static str,
        /// What it would have to be able to.
        ability: &'static str,
    },
    /// No TLS.
    #[error(
        "the HTTP client can't be built: {reason}; check `SSL_CERT_FILE` and `SSL_CERT_DIR`, or install the system's certificates"
    )]
    Client {
        /// What went wrong.
        reason: String,
    },
}

impl ProviderError {
    /// The class of an attempt that fails by it.
    #[must_use]
    pub const fn class(&self) -> ErrorClass {
        match self {
            Self::Token { may_pass: true, .. } => ErrorClass::NotSent,
            Self::KeyMissing { .. } | Self::KeyCommand { .. } | Self::KeyForm { .. } | Self::Token { .. } => {
                ErrorClass::BadKey
            }
            Self::ExtraField { .. } | Self::Setting { .. } | Self::File { .. } | Self::Reasoning { .. } => {
                ErrorClass::BadRequest
            }
            Self::BaseUrl { .. } | Self::Header { .. } | Self::Client { .. } => ErrorClass::NotSent,
        }
    }
}

/// What an attempt came to.
#[derive(Debug)]
pub struct Answer {
    /// The reservation of the attempt.
    pub reservation: ReservationId,
    /// Time from dispatch to the end.
    pub latency: Millis,
    /// Time to the first token, where the reply was streamed.
    pub first_token: Option<Millis>,
    /// What its headers say of the provider's own limits.
    pub rates: ToldRates,
    /// What came of it.
    pub result: AnswerResult,
}

/// What came of an attempt; decides how its reservation ends.
#[derive(Debug)]
pub enum AnswerResult {
    /// A reply. With usage: settle the exact cost. Without: settle at the reservation, as `unknown`.
    Replied(Box<Reply>),
    /// No reply, and proof that nothing was billed (LEDGER rule 4): void.
    Unbilled(Failure),
    /// No reply, and nobody knows what was billed: settle at the reservation, as `unknown`.
    Unknown(Failure),
}

impl AnswerResult {
    /// In a word, for logs: how the reservation will end.
    const fn outcome(&self) -> &'static str {
        match self {
            Self::Replied(_) => "replied",
            Self::Unbilled(failure) | Self::Unknown(failure) => failure.class.name(),
        }
    }
}

/// Hears a stream while it comes: text pieces, for people to watch. What it shows is provisional.
pub type Listener = std::sync::Arc<dyn Fn(&str) + Send + Sync>;
