//! What a run was worth, as somebody says it.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, de};
use serde_json::Value;

use super::act::nobody_named;
use super::error::ApiError;
use super::service::Service;
use crate::domain::audit::NAME_CHARS_MAX;
use crate::domain::outcome::{Outcome, OutcomeBy, OutcomeRecorded, Part, Quality, QualitySource, Score};
use crate::domain::report::RunDocument;
use crate::units::Money;

/// The body of `POST /v1/runs/{id}/outcome`. What is left out stays as it was said before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OutcomeRequest {
    /// How many units the run gave; 0 for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub units: Option<u64>,
    /// How good it was, from 0 to 1: a number, or its digits as a text.
    #[serde(default, deserialize_with = "score", skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "number_or_digits")]
    pub quality: Option<Score>,
    /// Whose judgement that is: `human` (where it is left out), `judge` or `metric`.
    #[serde(default = "human")]
    pub source: QualitySource,
    /// What it brought in, in USD: a number, or its digits as a text.
    #[serde(default, deserialize_with = "amount", skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "number_or_digits")]
    pub revenue_usd: Option<Money>,
    /// What is taken back: `units`, `quality` or `revenue`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unknown: Vec<Part>,
    /// Who says it; a key's own name counts where there is a key.
    #[serde(default = "nobody_named")]
    pub by: String,
    /// More, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

fn number_or_digits(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": ["number", "string", "null"], "minimum": 0, "pattern": r"^[0-9]+(\.[0-9]+)?$" })
}

const fn human() -> QualitySource {
    QualitySource::Human
}

fn score<'de, D: Deserializer<'de>>(value: D) -> Result<Option<Score>, D::Error> {
    let digits = digits(value)?;
    digits.map(|digits| Score::parse(&digits).map_err(de::Error::custom)).transpose()
}

fn amount<'de, D: Deserializer<'de>>(value: D) -> Result<Option<Money>, D::Error> {
    let digits = digits(value)?;
    digits.map(|digits| Money::parse(&digits).map_err(de::Error::custom)).transpose()
}

/// A number's own digits: no float comes between.
fn digits<'de, D: Deserializer<'de>>(value: D) -> Result<Option<String>, D::Error> {
    match Value::deserialize(value)? {
        Value::Null => Ok(None),
        Value::Number(number) => Ok(Some(number.to_string())),
        Value::String(text) => Ok(Some(text)),
        Value::Bool(_) | Value::Array(_) | Value::Object(_) => Err(de::Error::custom("a number is expected")),
    }
}

impl OutcomeRequest {
    fn said(&self, by: String) -> OutcomeRecorded {
        let quality = self.quality.map(|score| Quality { score, source: self.source });
        let outcome = Outcome { units: self.units, quality, revenue_usd: self.revenue_usd };
        OutcomeRecorded { outcome, unknown: self.unknown.clone(), by: OutcomeBy::Person(by), note: self.note.clone() }
    }
}

impl Service {
    /// Records what a run was worth; gives its document.
    ///
    /// # Errors
    /// There is no such run, it hasn't ended, the outcome can't be understood, or the store can't write.
    pub async fn record_outcome(&self, text: String, request: &OutcomeRequest) -> Result<RunDocument, ApiError> {
        let by = self.caller().named(&request.by);
        if by.is_empty() || by.chars().count() > NAME_CHARS_MAX {
            return Err(ApiError::BadRequest(format!("`by` has 1 to {NAME_CHARS_MAX} characters; say who it is")));
        }
        let run = self.read(move |books| books.find(&text)).await?.id;
        self.runtime().record_outcome(run, request.said(by)).await?;
        self.read(move |books| books.document(run)).await
    }
}
