//! What a run asks people, and the forms that answer it.

use serde_json::Value;

use crate::api::{AnswerRequest, ApiError};
use crate::domain::event::AskKind;
use crate::domain::report::AskDocument;
use crate::pages::form::{Fields, bad};
use crate::pages::text::{moment, whole};

/// One question.
pub(super) struct Ask {
    /// The run that asks: this one, or one below it.
    pub(super) run: String,
    pub(super) number: u32,
    /// What tells it from the others of the page.
    pub(super) id: String,
    pub(super) question: String,
    pub(super) tool: Option<String>,
    pub(super) shown: Option<String>,
    pub(super) shown_hash: String,
    pub(super) until: String,
    pub(super) limit: String,
    pub(super) expired: bool,
    /// True where it wants words, and no yes or no.
    pub(super) wants_words: bool,
    /// True where what is shown may be changed.
    pub(super) may_edit: bool,
    /// True where an answer may stand in the call's place.
    pub(super) may_stand_in: bool,
}

impl Ask {
    pub(super) fn of(asking: &AskDocument) -> Self {
        Self {
            run: asking.run.to_string(),
            number: asking.ask,
            id: format!("{}-{}", asking.run, asking.ask),
            question: asking.question.clone(),
            tool: asking.tool.as_ref().map(ToString::to_string),
            shown: (!asking.shown.is_null()).then(|| whole(&asking.shown)),
            shown_hash: asking.shown_hash.clone(),
            until: moment(asking.until),
            limit: asking.limit.clone(),
            expired: asking.expired,
            wants_words: asking.what == AskKind::Input,
            may_edit: matches!(asking.what, AskKind::Call | AskKind::Stage),
            may_stand_in: matches!(asking.what, AskKind::Call | AskKind::InFlight),
        }
    }
}

/// What a form answers.
///
/// # Errors
/// It says nothing, or the changed arguments are no JSON.
pub(super) fn request(fields: &Fields, by: String) -> Result<AnswerRequest, ApiError> {
    let ask = fields.get("ask").map(str::parse).transpose();
    let request = AnswerRequest {
        ask: ask.map_err(|_| bad("the question has no number; load the page again"))?,
        by,
        reason: fields.get("reason").map(str::to_owned),
        shown_hash: fields.get("shown_hash").map(str::to_owned),
        ..AnswerRequest::default()
    };
    let text = |name: &str, message: &str| fields.get(name).map(str::to_owned).ok_or_else(|| bad(message));
    match fields.get("decision") {
        Some("approve") => Ok(request),
        Some("deny") => Ok(AnswerRequest { deny: true, ..request }),
        Some("change") => {
            let args = text("args", "nothing stands in the place of what is shown; write it as JSON")?;
            let args: Value = serde_json::from_str(&args)
                .map_err(|error| bad(&format!("what is changed is no JSON: {error}; write it as it is shown")))?;
            Ok(AnswerRequest { args: Some(args), ..request })
        }
        Some("answer") => {
            let answer = text("answer", "the answer is empty; write one")?;
            Ok(AnswerRequest { answer: Some(Value::String(answer)), ..request })
        }
        Some(_) | None => Err(bad("no decision was made; use one of the form's buttons")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> Result<AnswerRequest, ApiError> {
        let fields = Fields::sent(&format!("token=t&ask=2&shown_hash=ab&{body}"), "t")?;
        request(&fields, "ann".to_owned())
    }

    #[test]
    fn each_button_says_one_thing() {
        let yes = read("decision=approve&args=%7B%7D&answer=x").expect("a yes");
        assert_eq!((yes.ask, yes.deny, &yes.args, &yes.answer), (Some(2), false, &None, &None));
        assert_eq!((yes.by.as_str(), yes.shown_hash.as_deref()), ("ann", Some("ab")));
        let no = read("decision=deny&reason=twice").expect("a no");
        assert_eq!((no.deny, no.reason.as_deref()), (true, Some("twice")));
        let changed = read("decision=change&args=%7B%22a%22%3A1%7D").expect("a change");
        assert_eq!(changed.args, Some(serde_json::json!({"a": 1})));
        let answered = read("decision=answer&answer=blue").expect("an answer");
        assert_eq!(answered.answer, Some(Value::from("blue")));
        for bad in ["", "decision=maybe", "decision=change", "decision=change&args=%7B", "decision=answer&answer="] {
            assert!(matches!(read(bad), Err(ApiError::BadRequest(_))), "{bad}");
        }
    }
}
