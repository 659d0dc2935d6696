//! Factors on every rate of a call: of the place that served it, and of how.
//!
//! What the endpoint decides is multiplied into the rows when the book is made ([`PriceBook::at_endpoint`]), so that the
//! pinned version says it. What the reply reports is applied when the call is settled.
//!
//! [`PriceBook::at_endpoint`]: super::PriceBook::at_endpoint

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A factor. In the order of their names, which rows are hashed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Factor {
    /// An Azure deployment in the European data zone.
    DataZoneEu,
    /// An Azure deployment in the data zone of the United States.
    DataZoneUs,
    /// Anthropic served the request in the United States.
    InferenceGeoUs,
    /// `OpenAI`'s European host.
    ResidencyEu,
    /// `OpenAI`'s host in the United States.
    ResidencyUs,
    /// Anthropic's fast mode.
    SpeedFast,
    /// One that a reply names and we don't know. No row has it, so such a call has no exact cost.
    Unknown,
    /// Any location of Vertex but `global`.
    VertexNonGlobalEndpoint,
}

impl Factor {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::DataZoneEu,
        Self::DataZoneUs,
        Self::InferenceGeoUs,
        Self::ResidencyEu,
        Self::ResidencyUs,
        Self::SpeedFast,
        Self::Unknown,
        Self::VertexNonGlobalEndpoint,
    ];

    /// Its name in files and messages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::DataZoneEu => "data_zone_eu",
            Self::DataZoneUs => "data_zone_us",
            Self::InferenceGeoUs => "inference_geo_us",
            Self::ResidencyEu => "residency_eu",
            Self::ResidencyUs => "residency_us",
            Self::SpeedFast => "speed_fast",
            Self::Unknown => "unknown",
            Self::VertexNonGlobalEndpoint => "vertex_non_global_endpoint",
        }
    }

    const fn bit(self) -> u8 {
        match self {
            Self::DataZoneEu => 1,
            Self::DataZoneUs => 1 << 1,
            Self::InferenceGeoUs => 1 << 2,
            Self::ResidencyEu => 1 << 3,
            Self::ResidencyUs => 1 << 4,
            Self::SpeedFast => 1 << 5,
            Self::Unknown => 1 << 6,
            Self::VertexNonGlobalEndpoint => 1 << 7,
        }
    }
}

/// Some factors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Factors(u8);

impl Factors {
    /// None.
    pub const NONE: Self = Self(0);

    /// The same with one more.
    #[must_use]
    pub const fn with(self, factor: Factor) -> Self {
        Self(self.0 | factor.bit())
    }

    /// True where it is one of them.
    #[must_use]
    pub const fn has(self, factor: Factor) -> bool {
        self.0 & factor.bit() != 0
    }

    /// True for none.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::NONE
    }

    /// Each of them.
    pub fn each(self) -> impl Iterator<Item = Factor> {
        Factor::ALL.into_iter().filter(move |factor| self.has(*factor))
    }
}

impl FromIterator<Factor> for Factors {
    fn from_iter<I: IntoIterator<Item = Factor>>(factors: I) -> Self {
        factors.into_iter().fold(Self::NONE, Self::with)
    }
}

impl JsonSchema for Factors {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Factors".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        <Vec<Factor>>::json_schema(generator)
    }
}

impl Serialize for Factors {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.each())
    }
}

impl<'de> Deserialize<'de> for Factors {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Vec::<Factor>::deserialize(deserializer).map(Self::from_iter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factors_are_a_set_in_the_order_of_their_names() {
        let mut names: Vec<&str> = Factor::ALL.iter().map(|factor| factor.name()).collect();
        assert!(names.is_sorted());
        names.dedup();
        assert_eq!(names.len(), Factor::ALL.len());
        for factor in Factor::ALL {
            let one = Factors::NONE.with(factor);
            assert_eq!(one.each().collect::<Vec<_>>(), [factor]);
            let text = serde_json::to_string(&one).expect("JSON");
            assert_eq!(text, format!("[\"{}\"]", factor.name()));
            assert_eq!(serde_json::from_str::<Factors>(&text).expect("it reads"), one);
        }
        assert!(Factors::NONE.is_none() && Factors::from_iter(Factor::ALL).each().count() == 8);
    }
}
