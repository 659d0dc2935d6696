//! What people may answer, and to what: judged once, before it becomes a fact.

use super::{Asking, CallCheck, Run};
use crate::domain::event::{AskKind, Decision, PersonAnswered, RunState};
use crate::units::Timestamp;

/// The largest value that a person may put in the place of another, as JSON.
pub const ANSWER_BYTES_MAX: usize = 256 * 1024;
/// The most characters of a reason.
const REASON_CHARS_MAX: usize = 500;
/// The most characters of a name.
const NAME_CHARS_MAX: usize = 64;

/// What a person decides.
#[derive(Clone, Debug, PartialEq)]
pub struct Given {
    /// The question's number; `None` for the only one that is open.
    pub ask: Option<u32>,
    /// The decision.
    pub decision: Decision,
    /// Who.
    pub by: String,
    /// Why.
    pub reason: Option<String>,
    /// Hash of what they saw, if they say it.
    pub shown_hash: Option<String>,
}

/// Why an answer isn't taken. Messages end in how to mend it, after a `; `.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AnswerFault {
    /// The run has ended.
    #[error("it is {0} already, and asks nothing any more; `plimsoll trace` shows what was answered")]
    Ended(RunState),
    /// Nothing is asked.
    #[error("it asks nothing; `plimsoll trace` shows how far it is")]
    NothingAsked,
    /// No question of this number.
    #[error("it has no question {ask}; {open}")]
    NoSuchAsk {
        /// What was named.
        ask: u32,
        /// The open questions, in words.
        open: String,
    },
    /// More than one is open.
    #[error("it asks several questions, {open}; say which one with `--ask N`")]
    Several {
        /// The open questions, in words.
        open: String,
    },
    /// Somebody has answered.
    #[error("question {ask} is answered already: {by} said {what}; {open}")]
    Answered {
        /// The question.
        ask: u32,
        /// Who answered.
        by: String,
        /// What they said.
        what: &'static str,
        /// The open questions, in words.
        open: String,
    },
    /// It is too late.
    #[error(
        "question {ask} was open until {until}: {limit}; who keeps the agent may give people more time there, for new runs"
    )]
    Expired {
        /// The question.
        ask: u32,
        /// Until when.
        until: Timestamp,
        /// The limit, in words.
        limit: String,
    },
    /// They saw something else.
    #[error(
        "question {ask} shows `{shown}`, and the answer is for `{given}`; look at it again: `plimsoll trace` shows it"
    )]
    OtherShown {
        /// The question.
        ask: u32,
        /// The hash of what is shown.
        shown: String,
        /// The hash that was given.
        given: String,
    },
    /// A decision that such a question doesn't take.
    #[error("question {ask} {is}, and can't be {what}; {help}")]
    NotThis {
        /// The question.
        ask: u32,
        /// What it is.
        is: &'static str,
        /// What was tried.
        what: &'static str,
        /// What can be done.
        help: &'static str,
    },
    /// Arguments that don't fit.
    #[error("the arguments don't fit: {0}")]
    Arguments(String),
    /// Something is too long.
    #[error("{what} has {most} at most; say less")]
    TooLong {
        /// What.
        what: &'static str,
        /// How much is taken.
        most: String,
    },
}

impl AnswerFault {
    /// True where the answer itself is wrong, and not its time.
    #[must_use]
    pub const fn is_misspelt(&self) -> bool {
        match self {
            Self::NotThis { .. } | Self::Arguments(_) | Self::TooLong { .. } => true,
            Self::Ended(_)
            | Self::NothingAsked
            | Self::NoSuchAsk { .. }
            | Self::Several { .. }
            | Self::Answered { .. }
            | Self::Expired { .. }
            | Self::OtherShown { .. } => false,
        }
    }
}

impl Run {
    /// The fact of an answer.
    ///
    /// # Errors
    /// Nothing like that is open, or the answer doesn't fit.
    pub fn judge_answer(
        &self,
        now: Timestamp,
        given: &Given,
        check: &dyn CallCheck,
    ) -> Result<PersonAnswered, AnswerFault> {
        self.bounded(given)?;
        let asking = self.asking(now, given.ask)?;
        if let Some(hash) = given.shown_hash.as_ref().filter(|hash| **hash != asking.shown_hash) {
            let (ask, shown) = (asking.number, asking.shown_hash.clone());
            let given = hash.chars().take(NAME_CHARS_MAX).collect();
            return Err(AnswerFault::OtherShown { ask, shown, given });
        }
        self.fits(asking, &given.decision, check)?;
        Ok(PersonAnswered {
            ask: Some(asking.number),
            decision: given.decision.clone(),
            by: given.by.clone(),
            reason: given.reason.clone(),
            shown_hash: Some(asking.shown_hash.clone()),
        })
    }

    fn bounded(&self, given: &Given) -> Result<(), AnswerFault> {
        let chars = |text: &str| text.chars().count();
        let value = match &given.decision {
            Decision::Allow { edited } => edited.as_ref(),
            Decision::Answer { value } => Some(value),
            Decision::Deny | Decision::Expired => None,
        };
        let too_long = |what, most: String| Err(AnswerFault::TooLong { what, most });
        if value.is_some_and(|value| value.to_string().len() > ANSWER_BYTES_MAX) {
            return too_long("an answer", format!("{ANSWER_BYTES_MAX} bytes"));
        }
        if given.reason.as_deref().is_some_and(|reason| chars(reason) > REASON_CHARS_MAX) {
            return too_long("a reason", format!("{REASON_CHARS_MAX} characters"));
        }
        if chars(&given.by) > NAME_CHARS_MAX {
            return too_long("a name", format!("{NAME_CHARS_MAX} characters"));
        }
        Ok(())
    }

    /// The question that is meant.
    fn asking(&self, now: Timestamp, ask: Option<u32>) -> Result<&Asking, AnswerFault> {
        if self.ended.is_some() {
            return Err(AnswerFault::Ended(self.state));
        }
        let asking = match ask {
            Some(ask) => self.numbered(ask)?,
            None => self.only_one(now)?,
        };
        if asking.is_open(now) {
            return Ok(asking);
        }
        let limit = self.waits_by(asking).to_string();
        Err(AnswerFault::Expired { ask: asking.number, until: asking.until, limit })
    }

    fn numbered(&self, ask: u32) -> Result<&Asking, AnswerFault> {
        let open = || self.unanswered_in_words();
        let found = self.asks.iter().find(|asking| asking.number == ask);
        let asking = found.ok_or_else(|| AnswerFault::NoSuchAsk { ask, open: open() })?;
        match &asking.answered {
            Some(answered) if answered.decision == Decision::Expired => {
                let limit = self.waits_by(asking).to_string();
                Err(AnswerFault::Expired { ask, until: asking.until, limit })
            }
            Some(answered) => {
                let (by, what) = (answered.by.clone(), word(&answered.decision));
                Err(AnswerFault::Answered { ask, by, what, open: open() })
            }
            None => Ok(asking),
        }
    }

    fn only_one(&self, now: Timestamp) -> Result<&Asking, AnswerFault> {
        let mut open = self.unanswered().filter(|asking| asking.is_open(now));
        match (open.next(), open.next()) {
            (Some(only), None) => Ok(only),
            (Some(_), Some(_)) => Err(AnswerFault::Several { open: self.unanswered_in_words() }),
            // The latest says why nothing is.
            (None, _) => self.asks.last().map_or(Err(AnswerFault::NothingAsked), |last| self.numbered(last.number)),
        }
    }

    fn unanswered_in_words(&self) -> String {
        let told = |asking: &Asking| {
            let question: String = asking.question.chars().take(80).collect();
            format!("{} ({})", asking.number, question.replace(['\n', ';'], " "))
        };
        let open: Vec<String> = self.unanswered().take(16).map(told).collect();
        if open.is_empty() { "nothing is open".to_owned() } else { format!("open: {}", open.join(", ")) }
    }

    fn fits(&self, asking: &Asking, decision: &Decision, check: &dyn CallCheck) -> Result<(), AnswerFault> {
        let ask = asking.number;
        match (asking.kind, decision) {
            (_, Decision::Expired) => {
                let help = "allow, deny or answer it";
                Err(AnswerFault::NotThis { ask, is: "is open", what: "expired by hand", help })
            }
            (AskKind::Input, Decision::Allow { .. }) => {
                let help = "answer it with `plimsoll answer RUN TEXT`, or deny it";
                Err(AnswerFault::NotThis { ask, is: "wants an answer", what: "allowed", help })
            }
            (AskKind::Call | AskKind::InFlight, Decision::Allow { edited: Some(edited) }) => {
                let tool = asking.tool.as_ref().and_then(|tool| self.plan.tools.get(tool));
                tool.map_or(Ok(()), |tool| check.arguments(tool, &edited.to_string())).map_err(AnswerFault::Arguments)
            }
            (
                AskKind::Stage | AskKind::Call | AskKind::InFlight | AskKind::Input,
                Decision::Allow { .. } | Decision::Deny | Decision::Answer { .. },
            ) => Ok(()),
        }
    }
}

/// A decision, in one word.
const fn word(decision: &Decision) -> &'static str {
    match decision {
        Decision::Allow { edited: None } => "yes",
        Decision::Allow { edited: Some(_) } => "yes, with changes",
        Decision::Deny => "no",
        Decision::Answer { .. } => "what it is",
        Decision::Expired => "nothing in time",
    }
}
