//! What a form sends.

use aws_lc_rs::constant_time::verify_slices_are_equal;

use crate::api::{ApiError, pairs};

/// The field that carries the token.
pub(super) const TOKEN: &str = "token";

/// The fields of a form, or of a query. An empty one wasn't filled in.
#[derive(Debug)]
pub(super) struct Fields(Vec<(String, String)>);

impl Fields {
    /// Of a query.
    ///
    /// # Errors
    /// There are too many.
    pub(super) fn of(query: Option<&str>) -> Result<Self, ApiError> {
        let mut all = pairs(query)?;
        all.retain(|(_, value)| !value.trim().is_empty());
        Ok(Self(all))
    }

    /// Of a form that was sent with a token.
    ///
    /// # Errors
    /// The token isn't this one: the session has ended, or it is another site's form.
    pub(super) fn sent(body: &str, token: &str) -> Result<Self, ApiError> {
        let fields = Self::of(Some(body))?;
        let given = fields.get(TOKEN).unwrap_or_default();
        if verify_slices_are_equal(given.as_bytes(), token.as_bytes()).is_err() {
            return Err(ApiError::OldForm);
        }
        Ok(fields)
    }

    /// What a field says.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(found, _)| found == name).map(|(_, value)| value.trim())
    }

    /// Who does something and why, as a form says it: whoever has a key is named by it.
    pub(super) fn who_and_why(&self) -> (String, String) {
        let text = |name: &str| self.get(name).unwrap_or_default().to_owned();
        (text("by"), text("reason"))
    }

    /// What all fields of a name say.
    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(found, _)| found == name).map(|(_, value)| value.trim())
    }
}

/// A form that can't be understood.
pub(super) fn bad(message: &str) -> ApiError {
    ApiError::BadRequest(message.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_form_with_the_sessions_token_is_read() {
        let fields = Fields::sent("token=abc&reason=+no+need%21&by=", "abc").expect("it has it");
        assert_eq!((fields.get("reason"), fields.get("by")), (Some("no need!"), None));
        for body in ["token=abd&reason=x", "reason=x", "token=&reason=x", "token=abcd"] {
            assert!(matches!(Fields::sent(body, "abc"), Err(ApiError::OldForm)), "{body}");
        }
    }
}
