//! What a run asks people, and the forms that answer it.

use serde_json::Value;

use crate::api::{AnswerRequest, ApiError, hash};
use crate::domain::event::AskKind;
use crate::domain::report::AskDocument;
use crate::pages::form::{Fields, bad};
use crate::pages::text::{moment, whole};
use crate::words::text::one_line;

/// The most characters that are given back of what was typed and isn't taken.
const GIVEN_BACK_CHARS_MAX: usize = 1_000;

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
    /// True where what is shown is a text, and not JSON.
    pub(super) is_text: bool,
    /// Tells whether somebody changed what is shown.
    pub(super) args_hash: String,
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
        let shown = (!asking.shown.is_null()).then(|| whole(&asking.shown));
        Self {
            run: asking.run.to_string(),
            number: asking.ask,
            id: format!("{}-{}", asking.run, asking.ask),
            question: asking.question.clone(),
            tool: asking.tool.as_ref().map(ToString::to_string),
            is_text: asking.shown.is_string(),
            args_hash: shown.as_deref().map(plain_hash).unwrap_or_default(),
            shown,
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

/// Of a text, however a browser writes the ends of its lines.
fn plain_hash(text: &str) -> String {
    hash(text.replace("\r\n", "\n").replace('\r', "\n").trim())
}

/// An approval takes what is shown as it is: it would lose what was filled in for another button.
fn loses_nothing(fields: &Fields) -> Result<(), ApiError> {
    if let Some(answer) = fields.get("answer") {
        let answer = one_line(answer, GIVEN_BACK_CHARS_MAX);
        return Err(bad(&format!(
            "an answer is filled in, and an approval makes the call as it is shown; use `Answer in its place`, or leave the answer empty. It was: {answer}"
        )));
    }
    let changed = fields.get("args").zip(fields.get("args_hash")).is_some_and(|(args, hash)| plain_hash(args) != hash);
    if changed {
        return Err(bad(
            "what is shown was changed, and `Approve as shown` would leave the change out; use `Approve with my change`, or load the page again",
        ));
    }
    Ok(())
}

/// What a form answers.
///
/// # Errors
/// It says nothing, or not clearly, or the changed arguments are no JSON.
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
        Some("approve") => loses_nothing(fields).map(|()| request),
        Some("deny") => Ok(AnswerRequest { deny: true, ..request }),
        Some("change") => {
            let args = text("args", "nothing stands in the place of what is shown; write it as JSON")?;
            if fields.get("is_text").is_some() {
                return Ok(AnswerRequest { args: Some(Value::String(args)), ..request });
            }
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
        let yes = read("decision=approve&args=%7B%7D&answer=").expect("a yes");
        assert_eq!((yes.ask, yes.deny, &yes.args, &yes.answer), (Some(2), false, &None, &None));
        assert_eq!((yes.by.as_str(), yes.shown_hash.as_deref()), ("ann", Some("ab")));
        let no = read("decision=deny&reason=twice").expect("a no");
        assert_eq!((no.deny, no.reason.as_deref()), (true, Some("twice")));
        let changed = read("decision=change&args=%7B%22a%22%3A1%7D").expect("a change");
        assert_eq!(changed.args, Some(serde_json::json!({"a": 1})));
        let text = read("decision=change&args=dear+Ann&is_text=true").expect("a changed text");
        assert_eq!(text.args, Some(Value::from("dear Ann")));
        let answered = read("decision=answer&answer=blue").expect("an answer");
        assert_eq!(answered.answer, Some(Value::from("blue")));
        for bad in ["", "decision=maybe", "decision=change", "decision=change&args=%7B", "decision=answer&answer="] {
            assert!(matches!(read(bad), Err(ApiError::BadRequest(_))), "{bad}");
        }
    }

    #[test]
    fn an_approval_loses_nothing_that_was_filled_in() {
        let refused = |body: &str| match read(body) {
            Err(ApiError::BadRequest(message)) => message,
            other => panic!("{body}: {other:?}"),
        };
        let answer = refused("decision=approve&answer=paid+already");
        assert!(answer.contains("`Answer in its place`") && answer.ends_with("It was: paid already"), "{answer}");
        let shown = plain_hash("{\n  \"cents\": 500\n}\n");
        let sent = |args: &str| format!("decision=approve&args_hash={shown}&args={args}");
        assert!(read(&sent("%7B%0D%0A++%22cents%22%3A+500%0D%0A%7D")).is_ok(), "a browser's ends of lines");
        let changed = refused(&sent("%7B%0D%0A++%22cents%22%3A+5%0D%0A%7D"));
        assert!(changed.contains("`Approve with my change`"), "{changed}");
    }
}
