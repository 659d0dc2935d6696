//! What a wire says of itself: all that one attempt needs to know to speak it.
//!
//! A new wire is a folder with a [`Dialect`] of its own, and one line in `dialect_of`. A flavour of a wire (another address,
//! another header) wraps the dialect that it flavours. Deliberately absent: the network, clocks, keys at rest, and what an
//! answer means for a run.

use std::fmt;

use reqwest::Url;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;

use super::ProviderError;
use super::auth::Secret;
use super::evidence::{Billing, Facts};
use super::fault::Broken;
use super::told::{Told, classify};
use crate::domain::message::{Reply, Request};
use crate::domain::retry::ErrorClass;

/// A wire at one address. Pure: the same request gives the same bytes.
pub(crate) trait Dialect: fmt::Debug + Send + Sync {
    /// Where it is reached, for people and for what its host says of billing.
    fn base_url(&self) -> &Url;

    /// Where a request goes.
    ///
    /// # Errors
    /// A request that this wire can't send.
    fn url(&self, request: &Request) -> Result<Url, ProviderError>;

    /// The body of a request, byte for byte.
    ///
    /// # Errors
    /// A request that this wire can't send.
    fn body(&self, request: &Request) -> Result<Vec<u8>, ProviderError>;

    /// How it is asked what a request's input counts, without a cost: where, and with what. `None` where it can't be asked, or
    /// where nobody says that asking is free.
    fn counting(&self, _request: &Request) -> Option<Result<(Url, Vec<u8>), ProviderError>> {
        None
    }

    /// Reads the answer to that.
    fn counted(&self, _body: &Value) -> Option<u64> {
        None
    }

    /// Puts the headers that this wire needs beside the common ones, such as its version.
    fn headers(&self, _request: &Request, _headers: &mut HeaderMap) {}

    /// Headers that the project can't set on this wire, in lower case.
    fn own_headers(&self) -> &'static [&'static str] {
        &["authorization"]
    }

    /// The header that carries the key; `None` where its characters fit into none.
    fn credential(&self, secret: &Secret) -> Option<(HeaderName, HeaderValue)> {
        let bearer = HeaderValue::from_str(&format!("Bearer {}", secret.expose())).ok()?;
        Some((AUTHORIZATION, bearer))
    }

    /// Headers that may tell the provider's id of the request, the first there counts (PROVIDERS §11).
    fn request_ids(&self) -> &'static [&'static str] {
        &["x-request-id", "x-generation-id", "apim-request-id"]
    }

    /// Reads a whole answer. `call_id` begins the ids of tool calls that come without one: no two attempts of a run share it.
    ///
    /// # Errors
    /// What is no reply.
    fn whole(&self, request: &Request, call_id: &str, body: &[u8]) -> Result<Reply, Broken>;

    /// Begins to read a stream.
    fn reader(&self, request: &Request, call_id: String) -> Box<dyn Reader>;

    /// Reads the body of an answer with a bad status.
    fn told(&self, body: &[u8]) -> Told {
        Told::read(body)
    }

    /// The class of an error by its status, refined by what the provider says.
    fn class(&self, status: u16, told: &Told) -> ErrorClass {
        classify(status, told)
    }

    /// LEDGER rule 4 for this wire, a row with its source for each kind of evidence. What no row names is unknown.
    fn evidence(&self, facts: &Facts) -> Billing;
}

/// A stream on its way to a reply. How its bytes are split changes nothing.
pub(crate) trait Reader: Send {
    /// Takes in a piece of the body, and tells the text in it to `hear`.
    ///
    /// # Errors
    /// What can't be read, or is an error.
    fn push(&mut self, bytes: &[u8], hear: &mut dyn FnMut(&str)) -> Result<(), Broken>;

    /// True once the last mark came.
    fn is_done(&self) -> bool;

    /// True once the model said why it ended: what is there is a reply, however the stream ends.
    fn is_finished(&self) -> bool;

    /// True once there is nothing more to hope for but the last mark: the usage is there too.
    fn is_settled(&self) -> bool;

    /// True once any output was seen.
    fn output_seen(&self) -> bool;

    /// The stream ended, by itself or not: a reply if it is whole. `why` says how it ended where it isn't.
    ///
    /// # Errors
    /// A stream that was cut, or ended with an error.
    fn end(self: Box<Self>, why: &str) -> Result<Reply, Broken>;
}
