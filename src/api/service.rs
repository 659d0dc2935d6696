//! What the holder of a store answers: [`Books`] off the runs' threads and within a bound of time, and what changes runs.

use std::sync::Arc;

use tokio::sync::Semaphore;

use super::access::{Caller, Gatekeeper};
use super::books::Books;
use super::error::ApiError;
use super::events::Listener;
use super::intake::{Intake, Taken};
use super::query;
use super::room::{Room, Seat};
use super::types::{AnswerRequest, CancelRequest, REASON_CHARS_MAX, ResumeRequest, RunRequest, WAIT_TIME_MAX};
use crate::clock::Clock;
use crate::domain::budget::Budget;
use crate::domain::event::AskKind;
use crate::domain::report::{AskDocument, RateTable, RunDocument};
use crate::domain::rollup::Day;
use crate::domain::run::AnswerFault;
use crate::ids::RunId;
use crate::runtime::Runtime;
use crate::units::{Millis, Timestamp};

/// Reads at once. A disk that hangs may keep every one of them, and no thread beyond them.
const READS_MAX: usize = 8;
/// The longest that a read may take, its turn included: a commit may hold it up for as long as the disk syncs.
pub(super) const READ_TIME_MAX: Millis = Millis::from_secs(8);

/// How far back pages look: at thirty days, and the thirty before.
const AHEAD_DAYS: u32 = 60;

/// Answers for a runtime. Cheap to clone.
#[derive(Clone)]
pub struct Service {
    runtime: Runtime,
    books: Books,
    reads: Arc<Semaphore>,
    streams: Room,
    /// Where it takes runs in.
    intake: Option<Intake>,
    gatekeeper: Gatekeeper,
    caller: Caller,
    /// True where whoever asks had to be let in.
    is_let_in: bool,
}

impl Service {
    /// Of a runtime, and the budgets that it judges by.
    #[must_use]
    pub fn new(runtime: Runtime, budgets: &[Budget], clock: Clock) -> Self {
        let books = Books::new(runtime.store().clone(), budgets, clock).priced_by(Arc::clone(runtime.prices()));
        let reads = Arc::new(Semaphore::new(READS_MAX));
        let (gatekeeper, caller) = (Gatekeeper::default(), Caller::local());
        Self { runtime, books, reads, streams: Room::default(), intake: None, gatekeeper, caller, is_let_in: false }
    }

    /// The same, which also takes runs in.
    #[must_use]
    pub fn with_intake(self, intake: Intake) -> Self {
        Self { intake: Some(intake), ..self }
    }

    /// The same, with keys that others look at too.
    #[must_use]
    pub fn with_gatekeeper(self, gatekeeper: Gatekeeper) -> Self {
        Self { gatekeeper, ..self }
    }

    /// The same, asked by somebody who was let in.
    #[must_use]
    pub fn asked_by(&self, caller: Caller) -> Self {
        let books = self.books.clone().bound_to(caller.labels().cloned().unwrap_or_default());
        Self { books, caller, is_let_in: true, ..self.clone() }
    }

    /// False once whoever asked wouldn't be let in any more: who streams hears nothing more then.
    pub(crate) fn still_counts(&self) -> bool {
        !self.is_let_in || self.gatekeeper.still_admits(&self.caller)
    }

    /// Who asks.
    pub(crate) const fn caller(&self) -> &Caller {
        &self.caller
    }

    /// Who knows the keys.
    #[must_use]
    pub const fn gatekeeper(&self) -> &Gatekeeper {
        &self.gatekeeper
    }

    pub(crate) const fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// True where runs can be made.
    ///
    /// # Errors
    /// It takes none in (any more), or the store doesn't answer.
    pub async fn ready(&self) -> Result<(), ApiError> {
        if !self.intake()?.is_open() {
            return Err(ApiError::Closing);
        }
        self.read(|books| Ok(books.store().summary(RunId::from_bits(0)).map(drop)?)).await
    }

    /// Reads the days that pages look at, which are kept from then on: who asks first doesn't wait for them.
    pub async fn read_ahead(&self) {
        let today = Day::of(self.now());
        let first = Day(today.0.saturating_sub(AHEAD_DAYS - 1));
        let read = self.read(move |books| Ok(books.store().rollups_kept(first, today).map(drop)?));
        if let Err(error) = read.await {
            tracing::warn!(%error, "the last days' costs can't be read");
        }
    }

    fn intake(&self) -> Result<&Intake, ApiError> {
        self.intake.as_ref().ok_or(ApiError::NoIntake)
    }

    /// Makes a run and has it driven, as [`Intake::take`] does. Gives its document, as [`Self::run`] does, and whether it is
    /// new.
    ///
    /// # Errors
    /// As [`Intake::take`].
    pub async fn start(&self, request: &RunRequest, key: Option<String>) -> Result<(Taken, RunDocument), ApiError> {
        let wait = request.wait.as_deref().map_or(Ok(Millis::ZERO), query::length)?;
        let taken = self.intake()?.take(request, &self.caller, key).await?;
        Ok((taken, self.document(taken.run(), wait).await?))
    }

    /// Has a run go on that waits or was interrupted, unless somebody drives it already. Gives its document, as
    /// [`Self::run`] does.
    ///
    /// # Errors
    /// There is no such run, or it has ended.
    pub async fn resume(&self, text: String, request: &ResumeRequest) -> Result<RunDocument, ApiError> {
        let wait = request.wait.as_deref().map_or(Ok(Millis::ZERO), query::length)?;
        let run = self.read(move |books| books.find(&text)).await?;
        if run.state.is_ended() {
            return Err(ApiError::Over { run: run.id, state: run.state });
        }
        self.go_on(run.id)?;
        self.document(run.id, wait).await
    }

    /// Where runs are taken in they go on in their turn there; else beside whoever asks.
    fn go_on(&self, run: RunId) -> Result<(), ApiError> {
        match &self.intake {
            Some(intake) => intake.go_on(run),
            None => Ok(self.runtime.go_on(run)?),
        }
    }

    /// Room for one who listens.
    ///
    /// # Errors
    /// Too many do.
    pub(crate) fn stream_seat(&self) -> Result<Seat, ApiError> {
        self.streams.seat(self.caller.key_id())
    }

    /// Listens to a run from an event on; nothing where it has ended before that.
    ///
    /// # Errors
    /// There is no such run, or too many listen.
    pub(super) async fn listen(&self, text: String, first: u32) -> Result<Option<Listener>, ApiError> {
        let seat = self.stream_seat()?;
        let left = move |books: &Books| {
            let run = books.find(&text)?;
            let is_over = run.state.is_ended() && books.store().events_from(run.id, first)?.is_empty();
            Ok((run.id, is_over))
        };
        let (run, is_over) = self.read(left).await?;
        Ok((!is_over).then(|| Listener::new(self.clone(), run, first, seat)))
    }

    /// Reads the books on a thread of its own.
    ///
    /// # Errors
    /// The question's; or the store takes too long.
    pub async fn read<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Books) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let (books, reads) = (self.books.clone(), Arc::clone(&self.reads));
        let read = async move {
            let turn = reads.acquire_owned().await.map_err(|error| ApiError::Task(error.to_string()))?;
            let answer = tokio::task::spawn_blocking(move || {
                let answer = question(&books.within(READ_TIME_MAX));
                drop(turn);
                answer
            });
            answer.await.map_err(|error| ApiError::Task(error.to_string()))?
        };
        tokio::time::timeout(READ_TIME_MAX.duration(), read).await.map_err(|_| ApiError::Slow(READ_TIME_MAX))?
    }

    /// The document of a run; with `wait`, as soon as nobody drives it any more, or that time is over.
    ///
    /// # Errors
    /// There is no such run, or the store takes too long.
    pub async fn run(&self, text: String, wait: Millis) -> Result<RunDocument, ApiError> {
        let run = self.read(move |books| books.find(&text)).await?;
        self.document(run.id, wait).await
    }

    /// Asks a run to end: at once where nobody drives it, else as soon as what is in flight is drained. Gives its
    /// document, as [`Self::run`] does.
    ///
    /// # Errors
    /// There is no such run, it has ended, the request can't be understood, or the store can't write.
    pub async fn cancel(&self, text: String, request: &CancelRequest) -> Result<RunDocument, ApiError> {
        if request.reason.chars().count() > REASON_CHARS_MAX {
            let message = format!("a reason has {REASON_CHARS_MAX} characters at most; say less");
            return Err(ApiError::BadRequest(message));
        }
        let wait = request.wait.as_deref().map_or(Ok(Millis::ZERO), query::length)?;
        let run = self.read(move |books| books.find(&text)).await?;
        if run.state.is_ended() {
            return Err(ApiError::Ended { run: run.id, state: run.state });
        }
        self.runtime.cancel(run.id, &request.reason).await?;
        if let Some(intake) = &self.intake {
            intake.forget(run.id);
        }
        self.document(run.id, wait).await
    }

    /// Answers a question of a run, and has it gone on with here, unless the request only records it. Gives its document,
    /// as [`Self::run`] does.
    ///
    /// # Errors
    /// There is no such run, no such question is open, the answer doesn't fit it, or the store can't write.
    pub async fn answer(&self, text: String, request: &AnswerRequest) -> Result<RunDocument, ApiError> {
        let mut given = request.given()?;
        given.by = self.caller.named(&given.by);
        let wait = request.wait.as_deref().map_or(Ok(Millis::ZERO), query::length)?;
        let run = self.read(move |books| books.find(&text)).await?.id;
        if request.only_input {
            self.asks_for_input(run, given.ask).await?;
        }
        // Who hangs up once the answer is written leaves no run behind that stands still.
        let (service, only) = (self.clone(), request.only);
        let answered = async move {
            service.runtime.answer(run, &given).await?;
            if only { Ok(()) } else { service.go_on(run) }
        };
        self.runtime.beside(answered).await??;
        self.document(run, wait).await
    }

    /// A text that is meant for an agent must not approve what it says no to.
    async fn asks_for_input(&self, run: RunId, ask: Option<u32>) -> Result<(), ApiError> {
        let document = self.document(run, Millis::ZERO).await?;
        let meant = |asking: &&AskDocument| asking.run == run && ask.is_none_or(|ask| ask == asking.ask);
        let other = document.asks.iter().find(meant).filter(|asking| asking.what != AskKind::Input);
        other.map_or(Ok(()), |asking| {
            let help = "decide with `plimsoll approve RUN`: yes as it is, or with `--deny`, `--args` or `--answer`";
            let fault = AnswerFault::NotThis { ask: asking.ask, is: "wants a yes or a no", what: "answered", help };
            Err(ApiError::Answer { run, fault })
        })
    }

    async fn document(&self, run: RunId, wait: Millis) -> Result<RunDocument, ApiError> {
        let wait = wait.min(WAIT_TIME_MAX);
        if wait > Millis::ZERO {
            // Who waited for nothing sees how far it came.
            let over = async {
                if let Some(intake) = &self.intake {
                    intake.let_go(run).await;
                }
                self.runtime.let_go(run).await;
            };
            tokio::time::timeout(wait.duration(), over).await.unwrap_or_default();
        }
        self.read(move |books| books.document(run)).await
    }

    /// Rates and breakers of this process, as they stand.
    #[must_use]
    pub fn rates(&self) -> RateTable {
        self.runtime.rates()
    }

    /// The budgets that are judged by.
    pub(super) fn budgets(&self) -> &[Budget] {
        self.books.configured()
    }

    /// Metrics of this process and its store, as they stand.
    ///
    /// # Errors
    /// This process keeps none, who asks is bound to labels, or the store can't be read.
    pub async fn metrics(&self) -> Result<String, ApiError> {
        self.caller.is_unbound()?;
        let Some(telemetry) = self.runtime.telemetry() else {
            return Err(ApiError::NoSuchPath("/metrics".to_owned()));
        };
        let mut gauges = self.read(Books::gauges).await?;
        gauges.waiting = self.intake.as_ref().map_or(0, |intake| u64::try_from(intake.waiting()).unwrap_or(u64::MAX));
        telemetry.metrics().text(&gauges).map_err(|error| ApiError::Task(error.to_string()))
    }

    /// Reads the clock.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.books.clock().now()
    }
}
