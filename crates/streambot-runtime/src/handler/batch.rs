//! The whole batch at once, as in Streambot 1.0.

use std::fmt;
use std::marker::PhantomData;

use super::{Handler, WithContext, WithoutContext};
use crate::Error;
use crate::context::Context;
use crate::event::Batch;
use crate::failure::log_failure;
use crate::record::Record;
use crate::response::{Failures, Outcome};

/// A handler that is given the whole batch, as in Streambot 1.0.
///
/// It returns `()` when all is done, or the [`Failures`] it has to report; an error fails the whole
/// batch.
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
    WholeBatch { handler, deaggregate: true, marker: PhantomData }
}

/// A function that [`batch`] takes: `async fn(Batch) -> Result<T, E>` or `async fn(Batch, Context)
/// -> Result<T, E>`, where `T` is `()` or [`Failures`] and `E` is anything that turns into an
/// [`Error`].
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

/// The handler [`batch`] makes.
pub struct WholeBatch<M, F> {
    handler: F,
    deaggregate: bool,
    marker: PhantomData<fn() -> M>,
}

impl<M, F> fmt::Debug for WholeBatch<M, F> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("WholeBatch").finish_non_exhaustive()
    }
}

impl<M, F> WholeBatch<M, F> {
    /// Whether KPL aggregated records are unpacked into their user records; they are by default.
    pub fn deaggregate(mut self, unpack: bool) -> Self {
        self.deaggregate = unpack;
        self
    }
}

impl<M, F: BatchHandler<M>> Handler for WholeBatch<M, F> {
    async fn handle(&self, batch: Batch, context: Context) -> Result<Outcome, Error> {
        let batch = if self.deaggregate { batch.deaggregated() } else { batch };
        if batch.is_empty() {
            return Ok(Outcome::done());
        }
        let readable = Readable::of_user_records(&batch);
        if readable.batch.is_empty() {
            return readable.outcome(Failures::new());
        }
        let failures = self.handler.call(readable.batch.clone(), &context).await?;
        readable.outcome(failures)
    }
}

/// A batch up to its first unreadable record. What is ahead of that one is worked on, and it is the
/// checkpoint then.
pub(super) struct Readable {
    pub(super) batch: Batch,
    fault: Option<Record>,
}

impl Readable {
    /// The user records ahead of the first one that cannot be read.
    pub(super) fn of_user_records(batch: &Batch) -> Self {
        let (batch, fault) = batch.split_at_fault();
        if let Some(record) = &fault
            && let Some(error) = record.fault()
        {
            log_failure(record, error);
        }
        Self { batch, fault }
    }

    /// The user records of the Kinesis records ahead of the first one that cannot be read whole.
    pub(super) fn of_kinesis_records(batch: &Batch) -> Self {
        let Self { batch, fault } = Self::of_user_records(batch);
        let len =
            fault.as_ref().map_or(batch.len(), |record| batch.start_of_record(record.index()));
        Self { batch: batch.prefix(len), fault }
    }

    /// What came of the batch, given the failures its handler reports.
    pub(super) fn outcome(self, failures: Failures) -> Result<Outcome, Error> {
        let foreign = || failures.records().find(|record| !self.batch.owns(record));
        if let Some(foreign) = failures.foreign().or_else(foreign) {
            return Err(ForeignRecord { event_id: foreign.event_id().to_owned() }.into());
        }
        for record in failures.records() {
            log_failure(&record, &Reported);
        }
        let user_records = Some(self.batch.len());
        let reported = failures.records().map(|record| record.kinesis_index());
        let mut failed: Vec<usize> =
            reported.chain(self.fault.as_ref().map(Record::kinesis_index)).collect();
        failed.dedup();
        let retry_from = failures.records().next().or(self.fault);
        Ok(Outcome { retry_from, failed: failed.len(), user_records, ..Outcome::done() })
    }
}

/// The handler named the record as one of its failures; why, it has to log itself.
#[derive(Debug, thiserror::Error)]
#[error("the handler reports it")]
struct Reported;

/// A failure was reported for a record that is not of the batch the handler was given.
#[derive(Debug, thiserror::Error)]
#[error(
    "the handler reports a failure of {event_id}, which is not a record of this batch; report only records that were \
     taken from the batch itself"
)]
struct ForeignRecord {
    event_id: String,
}
