//! The second form of a few types: tagged in JSON for people, plain where the format describes nothing by itself.
//!
//! postcard, which the store uses for its small records, can't read a tagged enum back; JSON keeps the form it has.

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::domain::event::AccountKey;
use crate::ids::{BudgetName, RunId, StageName};
use crate::units::Timestamp;

/// What money counts against, as JSON shows it.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(remote = "AccountKey", tag = "account", rename_all = "snake_case")]
enum Tagged {
    Node {
        run: RunId,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stage: Option<StageName>,
    },
    Budget {
        budget: BudgetName,
        scope: String,
        start: Timestamp,
        end: Option<Timestamp>,
    },
}

/// How records that don't describe themselves hold an [`AccountKey`].
#[derive(Serialize, Deserialize)]
#[serde(remote = "AccountKey")]
enum Plain {
    Node { run: RunId, stage: Option<StageName> },
    Budget { budget: BudgetName, scope: String, start: Timestamp, end: Option<Timestamp> },
}

impl JsonSchema for AccountKey {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "AccountKey".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        Tagged::json_schema(generator)
    }
}

impl Serialize for AccountKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            Tagged::serialize(self, serializer)
        } else {
            Plain::serialize(self, serializer)
        }
    }
}

impl<'de> Deserialize<'de> for AccountKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            Tagged::deserialize(deserializer)
        } else {
            Plain::deserialize(deserializer)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_key_reads_back_from_both_forms() {
        let keys = [
            AccountKey::Node { run: RunId::from_bits(7), stage: None },
            AccountKey::Budget { budget: "b".into(), scope: "tenant=a".into(), start: Timestamp(1), end: None },
        ];
        for key in keys {
            let json = serde_json::to_string(&key).expect("it writes");
            assert!(json.starts_with(r#"{"account":""#), "{json}");
            assert_eq!(serde_json::from_str::<AccountKey>(&json).expect("it reads"), key);
            let bytes = postcard::to_stdvec(&key).expect("it writes");
            assert_eq!(postcard::from_bytes::<AccountKey>(&bytes).expect("it reads"), key);
        }
    }
}
