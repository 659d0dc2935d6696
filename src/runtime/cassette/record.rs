//! Recording: whoever answers is asked as ever, and what they say is written down.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;

use super::{CASSETTE_VERSION, Came, CassetteError, Head, Line, Secrets, key};
use crate::domain::event::Count;
use crate::domain::message::Request;
use crate::domain::plan::ToolPlan;
use crate::gate::Permit;
use crate::provider::{Answer, AnswerResult, CancelSignal, Listener};
use crate::runtime::answers::{Answering, Answers};
use crate::tool::ToolOutcome;

/// Writes a cassette. Clones write the same one.
#[derive(Clone, Debug)]
pub struct Recorder(Arc<Tapehead>);

#[derive(Debug)]
struct Tapehead {
    path: PathBuf,
    secrets: Secrets,
    written: Mutex<Result<Written, std::io::Error>>,
}

#[derive(Debug)]
struct Written {
    file: BufWriter<File>,
    lines: usize,
}

impl Drop for Tapehead {
    fn drop(&mut self) {
        // Once it is finished it has another name; what broke off is of no use, and nothing depends on its being gone.
        drop(std::fs::remove_file(beside(&self.path)));
    }
}

impl Recorder {
    /// A recorder to a file, which is there once [`Recorder::finish`] says so, and until then is written beside it.
    ///
    /// # Errors
    /// The file is there and may not be replaced, or can't be made.
    pub fn new(path: &Path, overwrite: bool, secrets: Secrets) -> Result<Self, CassetteError> {
        if !overwrite && path.exists() {
            return Err(CassetteError::Exists { path: path.display().to_string() });
        }
        let begin = || {
            let mut file = BufWriter::new(File::create(beside(path))?);
            write_line(&mut file, &serde_json::to_value(Head { plimsoll_cassette: CASSETTE_VERSION })?)?;
            Ok(Written { file, lines: 0 })
        };
        let written = begin().map_err(|source| unwritten(path, source))?;
        Ok(Self(Arc::new(Tapehead { path: path.to_owned(), secrets, written: Mutex::new(Ok(written)) })))
    }

    /// Puts the cassette in its place; says how many answers it holds.
    ///
    /// # Errors
    /// An answer couldn't be written, or the file can't be put in its place. A cassette that was there stays.
    pub fn finish(&self) -> Result<usize, CassetteError> {
        let closed = std::io::Error::other("it was finished already");
        let written = std::mem::replace(&mut *self.lock(), Err(closed));
        let place = |mut written: Written| {
            written.file.flush()?;
            written.file.get_ref().sync_all()?;
            std::fs::rename(beside(&self.0.path), &self.0.path)?;
            Ok(written.lines)
        };
        written.and_then(place).map_err(|source| unwritten(&self.0.path, source))
    }

    fn write(&self, line: &Line) {
        let value = serde_json::to_value(line).map(|value| self.0.secrets.out_of(value));
        let mut held = self.lock();
        if let Ok(written) = &mut *held {
            written.lines += 1;
            if let Err(error) =
                value.map_err(std::io::Error::from).and_then(|value| write_line(&mut written.file, &value))
            {
                *held = Err(error);
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Result<Written, std::io::Error>> {
        self.0.written.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn write_line(file: &mut BufWriter<File>, value: &Value) -> std::io::Result<()> {
    serde_json::to_writer(&mut *file, value)?;
    file.write_all(b"\n")
}

fn unwritten(path: &Path, source: std::io::Error) -> CassetteError {
    CassetteError::Write { path: path.display().to_string(), source }
}

/// Where it is written until it is whole.
fn beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".part");
    path.with_file_name(name)
}

/// Asks others, and records what they say.
pub(in crate::runtime) struct Recording<A> {
    pub(in crate::runtime) recorder: Recorder,
    pub(in crate::runtime) inner: A,
}

impl<A: Answers> Answers for Recording<A> {
    fn model(
        &self,
        permit: Permit,
        request: Request,
        listener: Option<Listener>,
        cancel: CancelSignal,
    ) -> Answering<'_, Answer> {
        let (key, model) = (key::of_request(&request, &self.recorder.0.secrets), request.model.clone());
        Box::pin(async move {
            let answer = self.inner.model(permit, request, listener, cancel).await;
            let came = match &answer.result {
                AnswerResult::Replied(reply) => Came::Replied(reply.clone()),
                AnswerResult::Unbilled(failure) => Came::Unbilled(failure.clone()),
                AnswerResult::Unknown(failure) => Came::Unknown(failure.clone()),
            };
            let (latency_ms, first_token_ms) = (answer.latency, answer.first_token);
            self.recorder.write(&Line::Model { key, model, latency_ms, first_token_ms, came });
            answer
        })
    }

    fn count(&self, permit: Permit, request: Request) -> Answering<'_, Count> {
        self.inner.count(permit, request)
    }

    fn tool(
        &self,
        permit: Permit,
        plan: ToolPlan,
        arguments: Value,
        cancel: CancelSignal,
    ) -> Answering<'_, ToolOutcome> {
        let (key, tool) = (key::of_call(&plan.name, &arguments, &self.recorder.0.secrets), plan.name.clone());
        Box::pin(async move {
            let outcome = self.inner.tool(permit, plan, arguments, cancel).await;
            let ToolOutcome { reservation: _, content, is_error, cut_bytes, latency, never_began } = outcome.clone();
            let line = Line::Tool { key, tool, latency_ms: latency, content, is_error, cut_bytes, never_began };
            self.recorder.write(&line);
            outcome
        })
    }

    fn wire(&self, request: &Request) -> Option<Value> {
        self.inner.wire(request)
    }
}
