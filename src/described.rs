//! How a type that JSON shows as a text is described in a schema.

/// Implements [`schemars::JsonSchema`] for types that are written as a text of some form.
macro_rules! written_as_text {
    ($type:ty, $name:literal, $description:literal, { $($key:literal: $value:expr),* $(,)? }) => {
        impl schemars::JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                $name.into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string", "description": $description, $($key: $value),* })
            }
        }
    };
}
