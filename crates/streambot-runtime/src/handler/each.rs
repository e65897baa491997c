//! One record at a time, or several of different keys at once: until the first failure, or until
//! the deadline is near.

use std::cell::RefCell;
use std::fmt;
use std::marker::PhantomData;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use tokio::task::coop::consume_budget;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::{Handler, WithContext, WithoutContext};
use crate::checkpoint::{Checkpoint, State};
use crate::clock::Moment;
use crate::context::Context;
use crate::event::Batch;
use crate::failure::{Panicked, log_failure, log_skipped};
use crate::record::{FromRecord, Record};
use crate::response::{Cut, Outcome};
use crate::{Error, metrics};

/// A handler that is given one record at a time.
///
/// Records of one partition key run in order. With [`concurrency`](Each::concurrency), records of
/// different keys run at once. The first failure stops what comes after it, and Lambda delivers
/// again from the first record not done.
///
/// ```no_run
/// use streambot_runtime::{Error, Utf8, each, run};
///
/// fn main() -> Result<(), Error> {
///     run(async || Ok(each(async |line: Utf8| -> Result<(), Error> {
///         tracing::info!("{}", &*line);
///         Ok(())
///     })))
/// }
/// ```
pub fn each<M, F: RecordHandler<M>>(handler: F) -> Each<M, F> {
    Each {
        handler,
        concurrency: 1,
        deadline_margin: None,
        undecodable: Undecodable::Fail,
        deaggregate: true,
        marker: PhantomData,
    }
}

/// A function that [`each`] takes: `async fn(A) -> Result<(), E>` or `async fn(A, Context) ->
/// Result<(), E>`, where `A` is [made from a record](FromRecord) and `E` is anything that turns
/// into an [`Error`].
#[allow(async_fn_in_trait, reason = "handlers run on one thread; their futures need not be Send")]
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a function that `each` can take",
    label = "not a function from a record to a `Result`",
    note = "it must be `async fn(A) -> Result<(), E>` or `async fn(A, Context) -> Result<(), E>`, where `A` is `Record`, \
            `Json<T>`, `Utf8` or implements `FromRecord`, and `E` turns into `streambot_runtime::Error`",
    note = "a closure needs its return type written out: `async |record: Record| -> Result<(), Error> {{ … }}`"
)]
pub trait RecordHandler<M> {
    /// What the function takes.
    type Argument: FromRecord;

    /// Calls the function.
    ///
    /// # Errors
    ///
    /// Whatever the function returns as its error.
    async fn call(&self, argument: Self::Argument, context: &Context) -> Result<(), Error>;
}

impl<F, A, E> RecordHandler<WithoutContext<A, (), E>> for F
where
    F: AsyncFn(A) -> Result<(), E>,
    A: FromRecord,
    E: Into<Error>,
{
    type Argument = A;

    async fn call(&self, argument: A, _context: &Context) -> Result<(), Error> {
        self(argument).await.map_err(Into::into)
    }
}

impl<F, A, E> RecordHandler<WithContext<A, (), E>> for F
where
    F: AsyncFn(A, Context) -> Result<(), E>,
    A: FromRecord,
    E: Into<Error>,
{
    type Argument = A;

    async fn call(&self, argument: A, context: &Context) -> Result<(), Error> {
        self(argument, context.clone()).await.map_err(Into::into)
    }
}

/// What to do with a record that cannot be turned into what the handler takes.
///
/// ```no_run
/// use streambot_runtime::{Error, Json, Undecodable, each, run};
///
/// fn main() -> Result<(), Error> {
///     let handler = async |_reading: Json<f64>| -> Result<(), Error> { Ok(()) };
///     run(async move || Ok(each(handler).on_undecodable(Undecodable::Skip)))
/// }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Undecodable {
    /// It is a failed record: the batch stops there and Lambda delivers it again. The default.
    #[default]
    Fail,
    /// It is logged, counted (metric `UndecodableRecords`) and passed over.
    Skip,
}

/// The handler [`each`] makes, to be told how.
///
/// ```no_run
/// use std::time::Duration;
/// use streambot_runtime::{Error, Record, each, run};
///
/// async fn forward(record: Record) -> Result<(), Error> {
///     tracing::info!(id = record.id());
///     Ok(())
/// }
///
/// fn main() -> Result<(), Error> {
///     run(async || Ok(each(forward).concurrency(32).deadline_margin(Duration::from_secs(2))))
/// }
/// ```
pub struct Each<M, F> {
    handler: F,
    concurrency: usize,
    deadline_margin: Option<Duration>,
    undecodable: Undecodable,
    deaggregate: bool,
    marker: PhantomData<fn() -> M>,
}

impl<M, F> Each<M, F> {
    /// How many records may run at once; 1 by default, and 0 means 1.
    ///
    /// Records of one partition key still run one after the other. A function has one thread, so
    /// this is for handlers that wait (on a database, on HTTP), not for those that compute.
    pub fn concurrency(mut self, records: usize) -> Self {
        self.concurrency = records.max(1);
        self
    }

    /// How long before the invocation's deadline no further record is started.
    ///
    /// By default 500 ms or 5 % of the function's timeout, whichever is larger; never more than
    /// half of the timeout. What runs by then has four fifths of the margin to finish and is
    /// dropped after that; the last fifth is for the answer. Records not done are delivered again,
    /// so a slow batch makes progress instead of timing out for ever.
    pub fn deadline_margin(mut self, margin: Duration) -> Self {
        self.deadline_margin = Some(margin);
        self
    }

    /// What to do with a record that cannot be turned into what the handler takes;
    /// [`Undecodable::Fail`] by default.
    pub fn on_undecodable(mut self, policy: Undecodable) -> Self {
        self.undecodable = policy;
        self
    }

    /// Whether KPL aggregated records are unpacked into their user records; they are by default.
    pub fn deaggregate(mut self, unpack: bool) -> Self {
        self.deaggregate = unpack;
        self
    }
}

impl<M, F> fmt::Debug for Each<M, F> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Each")
            .field("concurrency", &self.concurrency)
            .field("deadline_margin", &self.deadline_margin)
            .field("undecodable", &self.undecodable)
            .finish_non_exhaustive()
    }
}

impl<M, F: RecordHandler<M>> Handler for Each<M, F> {
    async fn handle(&self, batch: Batch, context: Context) -> Result<Outcome, Error> {
        let batch = if self.deaggregate { batch.deaggregated() } else { batch };
        let schedule = Schedule::new(&context, self.deadline_margin);
        let progress = if self.concurrency == 1 {
            self.one_by_one(&batch, &context, schedule).await
        } else {
            self.at_once(&batch, &context, schedule).await
        };
        Ok(progress.outcome(&batch, &context))
    }
}

impl<M, F: RecordHandler<M>> Each<M, F> {
    async fn one_by_one(&self, batch: &Batch, context: &Context, schedule: Schedule) -> Progress {
        let start_until = Moment::new(context.clock(), schedule.start_until);
        let mut progress = Progress::new(Checkpoint::in_sequence(batch.len()), start_until);
        let mut cutoff = std::pin::pin!(sleep_until(schedule.drop_at));
        while let Some(index) = progress.start() {
            let done = tokio::select! {
                biased;
                done = self.one(batch, index, context) => Some(done),
                // Polled whenever the record waits, so that it goes on once more at the most.
                () = &mut cutoff => None,
            };
            let Some(done) = done else {
                progress.cut = true;
                break;
            };
            progress.finish(index, done);
            // Records that are done without waiting leave the service's background tasks their
            // turn.
            if index % RECORDS_PER_TURN == 0 {
                consume_budget().await;
            }
        }
        progress
    }

    /// As many workers as records may run at once. One whose record is done takes the next by
    /// itself: what that record held up is all that may have become free. So one that finds nothing
    /// to take is not needed any more.
    async fn at_once(&self, batch: &Batch, context: &Context, schedule: Schedule) -> Progress {
        let checkpoint = Checkpoint::by_key(batch.partition_keys(), self.concurrency);
        let start_until = Moment::new(context.clock(), schedule.start_until);
        let progress = RefCell::new(Progress::new(checkpoint, start_until));
        let start = || progress.borrow_mut().start();
        let work = async || {
            let mut drop_at = Moment::new(context.clock(), schedule.drop_at);
            while let Some(index) = start() {
                let Some(done) = drop_at.before(self.one(batch, index, context)).await else {
                    progress.borrow_mut().cut = true;
                    return;
                };
                progress.borrow_mut().finish(index, done);
                // Records that are done without waiting leave the others their turn, too.
                consume_budget().await;
            }
        };
        let workers: FuturesUnordered<_> =
            (0..self.concurrency.min(batch.len())).map(|_| work()).collect();
        // What still runs at the cutoff is dropped.
        let is_cut = timeout_at(schedule.drop_at, workers.collect::<()>()).await.is_err();
        let mut progress = progress.into_inner();
        progress.cut |= is_cut;
        progress
    }

    /// Runs the handler on one record and says whether the record is done. A failure is logged
    /// here, once.
    async fn one(&self, batch: &Batch, index: usize, context: &Context) -> bool {
        let record = batch.record(index);
        if let Some(fault) = record.fault() {
            if fault.is_undecodable() {
                return self.undecodable(&record, fault);
            }
            log_failure(&record, fault);
            return false;
        }
        let attempt = async {
            match F::Argument::from_record(record) {
                Ok(argument) => {
                    self.handler.call(argument, context).await.map_err(Failure::Handler)
                }
                Err(rejection) => Err(Failure::Rejected(rejection)),
            }
        };
        let error: Error = match AssertUnwindSafe(attempt).catch_unwind().await {
            Ok(Ok(())) => return true,
            Ok(Err(Failure::Rejected(rejection))) => {
                return self.undecodable(&batch.record(index), &rejection);
            }
            Ok(Err(Failure::Handler(error))) => error,
            Err(panic) => Panicked::new(&*panic).into(),
        };
        log_failure(&batch.record(index), &*error);
        false
    }

    fn undecodable(&self, record: &Record, error: &(dyn std::error::Error + 'static)) -> bool {
        match self.undecodable {
            Undecodable::Fail => {
                log_failure(record, error);
                false
            }
            Undecodable::Skip => {
                log_skipped(record, error);
                metrics::count_own("UndecodableRecords", 1);
                true
            }
        }
    }
}

/// Why the work on one record came to nothing.
enum Failure<R> {
    Rejected(R),
    Handler(Error),
}

/// The times by which records must have started and finished.
#[derive(Clone, Copy)]
struct Schedule {
    start_until: Instant,
    drop_at: Instant,
}

impl Schedule {
    fn new(context: &Context, margin: Option<Duration>) -> Self {
        let allotted = context.allotted();
        let margin = margin
            .unwrap_or_else(|| Duration::from_millis(500).max(allotted / 20))
            .min(allotted / 2);
        let deadline = context.deadline_instant();
        Self { start_until: deadline - margin, drop_at: deadline - margin / 5 }
    }
}

/// How many records run, one after the other, between two chances for other tasks to take a turn.
/// Tokio grants 128 such chances before it takes one.
const RECORDS_PER_TURN: usize = 2;

/// How many dropped records the log and an error name; there can be as many as run at once.
const MAX_NAMED: usize = 10;

/// A batch on its way: the checkpoint, and the time.
struct Progress {
    checkpoint: Checkpoint,
    start_until: Moment,
    /// Whether the deadline kept a record from being started or finished.
    cut: bool,
}

impl Progress {
    fn new(checkpoint: Checkpoint, start_until: Moment) -> Self {
        Self { checkpoint, start_until, cut: false }
    }

    /// The record to start now; none if the deadline is near.
    fn start(&mut self) -> Option<usize> {
        if self.start_until.has_come() {
            self.cut = true;
            return None;
        }
        self.checkpoint.start()
    }

    fn finish(&mut self, index: usize, done: bool) {
        if done {
            self.checkpoint.succeed(index);
        } else {
            self.checkpoint.fail(index);
        }
    }

    fn outcome(self, batch: &Batch, context: &Context) -> Outcome {
        let started = batch.len() - self.checkpoint.in_state(State::Waiting).count();
        let user_records = Some(started);
        let Some(position) = self.checkpoint.position() else {
            return Outcome { user_records, ..Outcome::done() };
        };
        let failed = kinesis_records(batch, self.checkpoint.in_state(State::Failed));
        let cut = self.cut.then(|| self.cut_at(position, batch, context));
        Outcome { retry_from: batch.get(position), failed, cut, user_records, state: None }
    }

    /// Describes the batch that the deadline cut short, and logs it.
    fn cut_at(&self, position: usize, batch: &Batch, context: &Context) -> Cut {
        let running = || self.checkpoint.in_state(State::Running);
        let of_first: Vec<usize> = batch.indexes_of_record(position).collect();
        let is_done = |index: &&usize| self.checkpoint.state(**index) == State::Done;
        let cut = Cut {
            dropped: running().take(MAX_NAMED).map(|index| batch.record(index).id()).collect(),
            unfinished: kinesis_records(batch, running()),
            done_of_first: (of_first.iter().filter(is_done).count(), of_first.len()),
            first_failed: self.checkpoint.state(position) == State::Failed,
            allotted: context.allotted(),
        };
        let left = batch.len() - self.checkpoint.in_state(State::Done).count();
        tracing::warn!(
            left,
            retry_from = batch.record(position).event_id(),
            unfinished = cut.unfinished,
            dropped = cut.dropped.join(" "),
            "the deadline is near: {left} of {} records are left to a later invocation",
            batch.len()
        );
        cut
    }
}

/// How many Kinesis records these user records are of.
fn kinesis_records(batch: &Batch, indexes: impl Iterator<Item = usize>) -> usize {
    let mut last = None;
    indexes
        .map(|index| batch.kinesis_index(index))
        .filter(|index| last.replace(*index) != Some(*index))
        .count()
}
