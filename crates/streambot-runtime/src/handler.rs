//! The shapes of handler a service can have: [`each`] record, or the whole [`batch`]. It knows how to run a user's
//! function on a batch and what came of it; it refuses to know Lambda's answer and the Runtime API.

use std::fmt;
use std::marker::PhantomData;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use tokio::time::{Instant, sleep_until};

use crate::checkpoint::Checkpoint;
use crate::context::Context;
use crate::event::Batch;
use crate::failure::{Chain, Panicked, log_failure};
use crate::record::{FromRecord, Record};
use crate::response::{Failures, Outcome};
use crate::{Error, metrics};

/// What [`run`](crate::run) runs: something that works on one batch at a time.
///
/// [`each`] and [`batch`] make one from a function. Implement it to wrap one of those in something of your own:
///
/// ```
/// use streambot_runtime::{Batch, Context, Error, Handler, Outcome};
///
/// struct Timed<H>(H);
///
/// impl<H: Handler> Handler for Timed<H> {
///     async fn handle(&self, batch: Batch, context: Context) -> Result<Outcome, Error> {
///         let started = std::time::Instant::now();
///         let outcome = self.0.handle(batch, context).await;
///         tracing::info!(took = ?started.elapsed());
///         outcome
///     }
/// }
/// ```
#[allow(async_fn_in_trait, reason = "handlers run on one thread; their futures need not be Send")]
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a handler",
    note = "make one with `each(function)` or `batch(function)`"
)]
pub trait Handler {
    /// Works on one batch.
    ///
    /// # Errors
    ///
    /// An error fails the whole invocation: Lambda delivers the whole batch again.
    async fn handle(&self, batch: Batch, context: Context) -> Result<Outcome, Error>;
}

/// A handler that is given one record at a time.
///
/// Records of one partition key run in order. With [`concurrency`](Each::concurrency), records of different keys run at
/// once. The first failure stops what comes after it, and Lambda delivers again from the first record not done.
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
    Each { handler, concurrency: 1, deadline_margin: None, undecodable: Undecodable::Fail, marker: PhantomData }
}

/// A handler that is given the whole batch, as in Streambot 1.0.
///
/// It returns `()` when all is done, or the [`Failures`] it has to report; an error fails the whole batch.
///
/// ```no_run
/// use streambot_runtime::{Batch, Error, Failures, batch, run};
///
/// async fn store(records: Batch) -> Result<Failures, Error> {
///     Ok(records.iter().filter(|record| record.data().is_empty()).collect())
/// }
///
/// fn main() -> Result<(), Error> {
///     run(async || Ok(batch(store)))
/// }
/// ```
pub fn batch<M, F: BatchHandler<M>>(handler: F) -> WholeBatch<M, F> {
    WholeBatch { handler, marker: PhantomData }
}

/// What to do with a record that cannot be turned into what the handler takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Undecodable {
    /// It is a failed record: the batch stops there and Lambda delivers it again. The default.
    #[default]
    Fail,
    /// It is logged, counted (metric `UndecodableRecords`) and passed over.
    Skip,
}

/// The handler [`each`] makes.
pub struct Each<M, F> {
    handler: F,
    concurrency: usize,
    deadline_margin: Option<Duration>,
    undecodable: Undecodable,
    marker: PhantomData<fn() -> M>,
}

impl<M, F> Each<M, F> {
    /// How many records may run at once; 1 by default, and 0 means 1.
    ///
    /// Records of one partition key still run one after the other. A function has one thread, so this is for handlers
    /// that wait (on a database, on HTTP), not for those that compute.
    pub fn concurrency(mut self, records: usize) -> Self {
        self.concurrency = records.max(1);
        self
    }

    /// How long before the invocation's deadline no further record is started.
    ///
    /// By default 500 ms or 5 % of the function's timeout, whichever is larger; never more than half of the timeout.
    /// What runs by then has four fifths of the margin to finish and is dropped after that; the last fifth is for the
    /// answer. Records not done are delivered again, so a slow batch makes progress instead of timing out for ever.
    pub fn deadline_margin(mut self, margin: Duration) -> Self {
        self.deadline_margin = Some(margin);
        self
    }

    /// What to do with a record that cannot be turned into what the handler takes; [`Undecodable::Fail`] by default.
    pub fn on_undecodable(mut self, policy: Undecodable) -> Self {
        self.undecodable = policy;
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
        let window = Window::new(&context, self.deadline_margin);
        let progress = if self.concurrency == 1 {
            self.one_by_one(&batch, &context, window).await
        } else {
            self.at_once(&batch, &context, window).await
        };
        progress.outcome(&batch)
    }
}

impl<M, F: RecordHandler<M>> Each<M, F> {
    async fn one_by_one(&self, batch: &Batch, context: &Context, window: Window) -> Progress {
        let mut progress = Progress::new(Checkpoint::in_sequence(batch.len()));
        let mut cutoff = std::pin::pin!(sleep_until(window.drop_at));
        while let Some(record) = progress.start(batch, window) {
            let index = record.index();
            tokio::select! {
                biased;
                done = self.one(record, context) => progress.finish(index, done),
                () = &mut cutoff => break,
            }
        }
        progress
    }

    async fn at_once(&self, batch: &Batch, context: &Context, window: Window) -> Progress {
        let records: Vec<Record> = batch.iter().collect();
        let keys = records.iter().map(Record::partition_key);
        let mut progress = Progress::new(Checkpoint::by_key(keys, self.concurrency));
        let mut cutoff = std::pin::pin!(sleep_until(window.drop_at));
        let mut running = FuturesUnordered::new();
        loop {
            while let Some(record) = progress.start(batch, window) {
                let index = record.index();
                running.push(self.one(record, context).map(move |done| (index, done)));
            }
            tokio::select! {
                biased;
                finished = running.next() => match finished {
                    Some((index, done)) => progress.finish(index, done),
                    None => break,
                },
                () = &mut cutoff => break,
            }
        }
        drop(running);
        progress
    }

    /// Runs the handler on one record and says whether the record is done. A failure is logged here, once.
    async fn one(&self, record: Record, context: &Context) -> bool {
        if let Some(fault) = record.fault() {
            return self.undecodable(&record, fault);
        }
        let attempt = async {
            match F::Argument::from_record(record.clone()) {
                Ok(argument) => self.handler.call(argument, context).await.map_err(Failure::Handler),
                Err(rejection) => Err(Failure::Rejected(rejection)),
            }
        };
        match AssertUnwindSafe(attempt).catch_unwind().await {
            Ok(Ok(())) => true,
            Ok(Err(Failure::Rejected(rejection))) => self.undecodable(&record, &rejection),
            Ok(Err(Failure::Handler(error))) => {
                log_failure(&record, &*error);
                false
            }
            Err(panic) => {
                log_failure(&record, &Panicked::new(&*panic));
                false
            }
        }
    }

    fn undecodable(&self, record: &Record, error: &(dyn std::error::Error + 'static)) -> bool {
        match self.undecodable {
            Undecodable::Fail => {
                log_failure(record, error);
                false
            }
            Undecodable::Skip => {
                tracing::warn!(
                    event_id = record.event_id(),
                    partition_key = record.partition_key(),
                    error = %Chain(error),
                    "record skipped: it cannot be decoded"
                );
                metrics::count("UndecodableRecords", 1);
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
struct Window {
    start_until: Instant,
    drop_at: Instant,
}

impl Window {
    fn new(context: &Context, margin: Option<Duration>) -> Self {
        let allotted = context.allotted();
        let margin = margin.unwrap_or_else(|| Duration::from_millis(500).max(allotted / 20)).min(allotted / 2);
        let deadline = context.deadline_instant();
        Self { start_until: deadline - margin, drop_at: deadline - margin / 5 }
    }
}

/// A batch on its way: the checkpoint, and how many records failed.
struct Progress {
    checkpoint: Checkpoint,
    failed: usize,
}

impl Progress {
    fn new(checkpoint: Checkpoint) -> Self {
        Self { checkpoint, failed: 0 }
    }

    fn start(&mut self, batch: &Batch, window: Window) -> Option<Record> {
        if Instant::now() >= window.start_until {
            return None;
        }
        batch.get(self.checkpoint.start()?)
    }

    fn finish(&mut self, index: usize, done: bool) {
        if done {
            self.checkpoint.succeed(index);
        } else {
            self.failed += 1;
            self.checkpoint.fail(index);
        }
    }

    fn outcome(self, batch: &Batch) -> Result<Outcome, Error> {
        let retry_from = self.checkpoint.position().and_then(|position| batch.get(position));
        if let Some(record) = &retry_from
            && self.failed == 0
        {
            let done = self.checkpoint.done();
            let left = batch.len() - done;
            if done == 0 {
                return Err(OutOfTime { records: left }.into());
            }
            tracing::warn!(
                left,
                retry_from = record.event_id(),
                "the deadline is near: {left} of {} records are left to a later invocation",
                batch.len()
            );
        }
        Ok(Outcome { retry_from, failed: self.failed })
    }
}

/// Not one record could be done before the deadline.
#[derive(Debug, thiserror::Error)]
#[error(
    "the deadline is near and not one of {records} records is done; raise the function's timeout, or make the handler \
     faster"
)]
struct OutOfTime {
    records: usize,
}

/// The handler [`batch`] makes.
pub struct WholeBatch<M, F> {
    handler: F,
    marker: PhantomData<fn() -> M>,
}

impl<M, F> fmt::Debug for WholeBatch<M, F> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("WholeBatch").finish_non_exhaustive()
    }
}

impl<M, F: BatchHandler<M>> Handler for WholeBatch<M, F> {
    /// Records ahead of an unreadable one are worked on, and the batch's checkpoint is then the unreadable one.
    async fn handle(&self, batch: Batch, context: Context) -> Result<Outcome, Error> {
        let (readable, fault) = batch.split_at_fault();
        if let Some(record) = &fault
            && let Some(error) = record.fault()
        {
            if readable.is_empty() {
                return Err(error.clone().into());
            }
            log_failure(record, error);
        }
        let failures = self.handler.call(readable.clone(), &context).await?;
        if let Some(foreign) = failures.records.iter().find(|record| !readable.owns(record)) {
            return Err(ForeignRecord { event_id: foreign.event_id().to_owned() }.into());
        }
        for record in &failures.records {
            tracing::error!(
                event_id = record.event_id(),
                partition_key = record.partition_key(),
                sequence_number = record.sequence_number(),
                "record failed: the handler reports it"
            );
        }
        let failed = failures.records.len() + usize::from(fault.is_some());
        let retry_from = failures.records.into_iter().min_by_key(Record::index).or(fault);
        Ok(Outcome { retry_from, failed })
    }
}

/// A failure was reported for a record that is not of the batch the handler was given.
#[derive(Debug, thiserror::Error)]
#[error(
    "the handler reports a failure of {event_id}, which is not a record of this batch; report only records that were \
     taken from the batch itself"
)]
struct ForeignRecord {
    event_id: String,
}

/// A function that [`each`] takes: `async fn(A) -> Result<(), E>` or `async fn(A, Context) -> Result<(), E>`, where `A`
/// is [made from a record](FromRecord) and `E` is anything that turns into an [`Error`].
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

/// Tells functions of one argument from those that take the [`Context`] too.
#[derive(Debug)]
pub struct WithoutContext<A, T, E>(PhantomData<(A, T, E)>);

/// Tells functions that take the [`Context`] from those that do not.
#[derive(Debug)]
pub struct WithContext<A, T, E>(PhantomData<(A, T, E)>);

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

/// A function that [`batch`] takes: `async fn(Batch) -> Result<T, E>` or `async fn(Batch, Context) -> Result<T, E>`,
/// where `T` is `()` or [`Failures`] and `E` is anything that turns into an [`Error`].
#[allow(async_fn_in_trait, reason = "handlers run on one thread; their futures need not be Send")]
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a function that `batch` can take",
    label = "not a function from a batch to a `Result`",
    note = "it must be `async fn(Batch) -> Result<(), E>` or `async fn(Batch) -> Result<Failures, E>`, with a `Context` as \
            a second argument where it wants one, and `E` turns into `streambot_runtime::Error`",
    note = "a closure needs its return type written out: `async |batch: Batch| -> Result<(), Error> {{ … }}`"
)]
pub trait BatchHandler<M> {
    /// Calls the function.
    ///
    /// # Errors
    ///
    /// Whatever the function returns as its error.
    async fn call(&self, batch: Batch, context: &Context) -> Result<Failures, Error>;
}

impl<F, T, E> BatchHandler<WithoutContext<Batch, T, E>> for F
where
    F: AsyncFn(Batch) -> Result<T, E>,
    T: Into<Failures>,
    E: Into<Error>,
{
    async fn call(&self, batch: Batch, _context: &Context) -> Result<Failures, Error> {
        self(batch).await.map(Into::into).map_err(Into::into)
    }
}

impl<F, T, E> BatchHandler<WithContext<Batch, T, E>> for F
where
    F: AsyncFn(Batch, Context) -> Result<T, E>,
    T: Into<Failures>,
    E: Into<Error>,
{
    async fn call(&self, batch: Batch, context: &Context) -> Result<Failures, Error> {
        self(batch, context.clone()).await.map(Into::into).map_err(Into::into)
    }
}
