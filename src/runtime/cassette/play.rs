//! Playing: answers come from a cassette.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::{BufRead, BufReader, Read as _};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;

use super::{CASSETTE_BYTES_MAX, CASSETTE_VERSION, Came, CassetteError, Head, LINE_BYTES_MAX, Line, Secrets, key};
use crate::domain::message::Request;
use crate::domain::plan::ToolPlan;
use crate::domain::rate::ToldRates;
use crate::domain::retry::{ErrorClass, Failure};
use crate::gate::Permit;
use crate::provider::{Answer, AnswerResult, CancelSignal, Listener};
use crate::runtime::answers::{Answering, Answers};
use crate::tool::{self, ToolContext, ToolOutcome};
use crate::units::Millis;

/// A cassette that was read. Clones play the same one.
#[derive(Clone, Debug)]
pub struct Player(Arc<Played>);

#[derive(Debug)]
struct Played {
    secrets: Secrets,
    /// True where tools are called, and only models are played.
    live_tools: bool,
    /// What is left of each call's answers. The last one is given again and again: many runs play one recording.
    answers: Mutex<BTreeMap<String, VecDeque<Line>>>,
}

impl Player {
    /// Reads a cassette.
    ///
    /// # Errors
    /// It can't be read, or is none.
    pub fn read(path: &Path, live_tools: bool, secrets: Secrets) -> Result<Self, CassetteError> {
        let name = path.display().to_string();
        let unread = |source| CassetteError::Read { path: name.clone(), source };
        let file = File::open(path).map_err(unread)?;
        let bytes = file.metadata().map_err(unread)?.len();
        if bytes > CASSETTE_BYTES_MAX {
            return Err(CassetteError::TooLarge { path: name, bytes });
        }
        let mut lines = Lines { path: name, file: BufReader::new(file), line: 0 };
        lines.head()?;
        let mut answers = BTreeMap::<String, VecDeque<Line>>::new();
        while let Some(line) = lines.next()? {
            let (Line::Model { key, .. } | Line::Tool { key, .. }) = &line;
            answers.entry(key.clone()).or_default().push_back(line);
        }
        Ok(Self(Arc::new(Played { secrets, live_tools, answers: Mutex::new(answers) })))
    }

    fn answer(&self, key: &str) -> Option<Line> {
        let mut answers = self.0.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let left = answers.get_mut(key)?;
        if left.len() > 1 { left.pop_front() } else { left.front().cloned() }
    }
}

/// A file's lines, each bounded.
struct Lines {
    path: String,
    file: BufReader<File>,
    line: usize,
}

impl Lines {
    fn head(&mut self) -> Result<(), CassetteError> {
        let head: Head = match self.read()? {
            Some(text) => serde_json::from_str(&text).map_err(|_| self.fault("it has no head".into()))?,
            None => return Err(self.fault("the file is empty".into())),
        };
        if head.plimsoll_cassette != CASSETTE_VERSION {
            return Err(CassetteError::Version { path: self.path.clone(), version: head.plimsoll_cassette });
        }
        Ok(())
    }

    fn next(&mut self) -> Result<Option<Line>, CassetteError> {
        let Some(text) = self.read()? else { return Ok(None) };
        serde_json::from_str(&text).map(Some).map_err(|error| self.fault(error.to_string()))
    }

    fn read(&mut self) -> Result<Option<String>, CassetteError> {
        self.line += 1;
        let mut text = String::new();
        let most = u64::try_from(LINE_BYTES_MAX).unwrap_or(u64::MAX);
        let read = self.file.by_ref().take(most).read_line(&mut text);
        match read {
            Ok(0) => Ok(None),
            Ok(bytes) if bytes >= LINE_BYTES_MAX => Err(self.fault("it is too long".into())),
            Ok(_) => Ok(Some(text)),
            Err(source) => Err(CassetteError::Read { path: self.path.clone(), source }),
        }
    }

    fn fault(&self, reason: String) -> CassetteError {
        CassetteError::Form { path: self.path.clone(), line: self.line.max(1), reason }
    }
}

/// Answers from a cassette.
pub(in crate::runtime) struct Playing {
    pub(in crate::runtime) player: Player,
    /// For tools that are called all the same.
    pub(in crate::runtime) tools: ToolContext,
}

impl Answers for Playing {
    fn model(
        &self,
        permit: Permit,
        request: Request,
        listener: Option<Listener>,
        _cancel: CancelSignal,
    ) -> Answering<'_, Answer> {
        let found = self.player.answer(&key::of_request(&request, &self.player.0.secrets));
        let reservation = permit.spend();
        let answer = match found {
            Some(Line::Model { latency_ms, first_token_ms, came, .. }) => {
                if let (Came::Replied(reply), Some(listener)) = (&came, listener) {
                    listener(&reply.message.text);
                }
                Answer {
                    reservation,
                    latency: latency_ms,
                    first_token: first_token_ms,
                    rates: ToldRates::default(),
                    result: result(came),
                }
            }
            Some(Line::Tool { .. }) | None => {
                let result = AnswerResult::Unbilled(missing(&format!("request to {}", request.model)));
                Answer { reservation, latency: Millis::ZERO, first_token: None, rates: ToldRates::default(), result }
            }
        };
        Box::pin(std::future::ready(answer))
    }

    fn tool(
        &self,
        permit: Permit,
        plan: ToolPlan,
        arguments: Value,
        cancel: CancelSignal,
    ) -> Answering<'_, ToolOutcome> {
        if self.player.0.live_tools {
            let context = self.tools.with_cancel(cancel);
            return Box::pin(async move { tool::call(permit, &plan, &arguments, &context).await });
        }
        let found = self.player.answer(&key::of_call(&plan.name, &arguments, &self.player.0.secrets));
        let reservation = permit.spend();
        let outcome = match found {
            Some(Line::Tool { latency_ms, content, is_error, cut_bytes, never_began, .. }) => {
                ToolOutcome { reservation, content, is_error, cut_bytes, latency: latency_ms, never_began }
            }
            Some(Line::Model { .. }) | None => {
                let content = missing(&format!("call of `{}`", plan.name)).message;
                ToolOutcome {
                    reservation,
                    content,
                    is_error: true,
                    cut_bytes: 0,
                    latency: Millis::ZERO,
                    never_began: true,
                }
            }
        };
        Box::pin(std::future::ready(outcome))
    }
}

fn result(came: Came) -> AnswerResult {
    match came {
        Came::Replied(reply) => AnswerResult::Replied(reply),
        Came::Unbilled(failure) => AnswerResult::Unbilled(failure),
        Came::Unknown(failure) => AnswerResult::Unknown(failure),
    }
}

/// Nothing was recorded for what is asked now.
fn missing(what: &str) -> Failure {
    Failure {
        class: ErrorClass::BadRequest,
        status: None,
        code: Some("no_recording".into()),
        message: format!(
            "the cassette has no answer to this {what}: its prompt, tools, model or input changed since; record it again"
        ),
        retry_after: None,
    }
}
