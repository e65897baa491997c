//! Tumbling windows: a state carried from batch to batch of one shard, until the window's time is
//! over.
//!
//! <https://docs.aws.amazon.com/lambda/latest/dg/services-kinesis-windows.html>

mod state;

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::batch::Readable;
use super::{Handler, WithContext, WithoutContext};
use crate::context::Context;
use crate::event::{Batch, WindowFrame};
use crate::failure::Chain;
use crate::record::Record;
use crate::response::{Failures, Outcome};
use crate::{Error, json, metrics};

/// Over this many bytes of state Lambda ends a window early.
const STATE_LIMIT: usize = 1 << 20;

/// A handler for an event source mapping with a tumbling window: it is given the window's state
/// with each batch of it and returns the state anew.
///
/// The state is any serde type with a default, which is what a window begins with. With the last
/// batch of a window, which may be empty, [`Window::is_final`] is true: write the result somewhere
/// then.
///
/// ```no_run
/// use streambot_runtime::{Error, Window, run, window};
///
/// #[derive(Default, serde::Serialize, serde::Deserialize)]
/// struct Total { bytes: usize }
///
/// async fn total(mut window: Window<Total>) -> Result<Total, Error> {
///     window.state.bytes += window.batch.iter().map(|record| record.data().len()).sum::<usize>();
///     if window.is_final() {
///         tracing::info!(from = window.start(), to = window.end(), bytes = window.state.bytes);
///     }
///     Ok(window.state)
/// }
///
/// fn main() -> Result<(), Error> {
///     run(async || Ok(window(total)))
/// }
/// ```
///
/// A handler that could not work on some records returns `(state, failures)`; the state is then
/// that of the records ahead of the first failure, for the others come again. If the first failure
/// is inside a KPL aggregate, Lambda delivers the whole aggregate again; the handler is then run a
/// second time in the same invocation, on the records before the aggregate, and that state is the
/// one that is kept.
///
/// The state has to come back from JSON as it was. A state that does not (NaN, which JSON does not
/// have; a field that is left out and has another default) fails the invocation, rather than to
/// start the window over unseen.
pub fn window<M, S, F: WindowHandler<M, S>>(handler: F) -> Windowed<M, S, F> {
    Windowed { handler, deaggregate: true, old_state: None, marker: PhantomData }
}

/// One batch of a tumbling window, and the window's state so far.
#[derive(Debug, Clone)]
pub struct Window<S> {
    /// What the handler returned for the window's batch before; the default in the first one.
    pub state: S,
    /// The records; none, it may be, in a final batch.
    pub batch: Batch,
    frame: Arc<WindowFrame>,
}

impl<S> Window<S> {
    /// When the window began, by arrival time: RFC 3339 in UTC, such as `2026-11-22T18:00:00Z`.
    pub fn start(&self) -> &str {
        &self.frame.start
    }

    /// When the window ends, by arrival time: RFC 3339 in UTC.
    pub fn end(&self) -> &str {
        &self.frame.end
    }

    /// The shard the window is over, such as `shardId-000000000000`; known for a batch without
    /// records, too.
    pub fn shard_id(&self) -> &str {
        &self.frame.shard_id
    }

    /// Whether this is the window's last batch. An error now blocks the shard until a retry
    /// succeeds.
    pub fn is_final(&self) -> bool {
        self.frame.is_final
    }

    /// Whether Lambda ended the window before its time, because its state grew over 1 MB.
    pub fn terminated_early(&self) -> bool {
        self.frame.terminated_early
    }
}

/// The handler [`window`] makes.
pub struct Windowed<M, S, F> {
    handler: F,
    deaggregate: bool,
    old_state: Option<Box<OldState<S>>>,
    marker: PhantomData<fn() -> M>,
}

type OldState<S> = dyn Fn(serde_json::Value) -> Result<S, Error>;

impl<M, S, F> Windowed<M, S, F> {
    /// Whether KPL aggregated records are unpacked into their user records; they are by default.
    pub fn deaggregate(mut self, unpack: bool) -> Self {
        self.deaggregate = unpack;
        self
    }

    /// What to make of a state that an older version of the function wrote and that no longer fits
    /// `S`.
    ///
    /// Without this the window starts over with the default: an error is logged and
    /// `OldWindowStates` counted, for the state before is lost. Failing instead would block the
    /// shard. An error from `migrate` does fail the invocation.
    pub fn on_old_state(
        mut self,
        migrate: impl Fn(serde_json::Value) -> Result<S, Error> + 'static,
    ) -> Self {
        self.old_state = Some(Box::new(migrate));
        self
    }
}

impl<M, S, F> fmt::Debug for Windowed<M, S, F> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Windowed")
            .field("deaggregate", &self.deaggregate)
            .finish_non_exhaustive()
    }
}

impl<M, S, F> Windowed<M, S, F>
where
    S: Serialize + DeserializeOwned + Default,
{
    fn state(&self, frame: &WindowFrame) -> Result<S, Error> {
        let json = frame.state.get();
        if state::is_fresh(json) {
            let is_written_so =
                || state::encode(&S::default()).is_ok_and(|written| written.get() == json);
            if json == "null" && !is_written_so() {
                tracing::warn!(
                    window_start = frame.start,
                    shard_id = frame.shard_id,
                    "the window's state is null: the window starts over with the default"
                );
            }
            return Ok(S::default());
        }
        match (json::decode(json.as_bytes()), &self.old_state) {
            (Ok(state), _) => Ok(state),
            (Err(_), Some(migrate)) => migrate(serde_json::from_str(json)?),
            (Err(error), None) => {
                tracing::error!(
                    window_start = frame.start,
                    shard_id = frame.shard_id,
                    bytes = json.len(),
                    error = %Chain(&error),
                    "the window starts over: its state, from an older version of the function, no longer fits; give \
                     `on_old_state` to carry it over"
                );
                metrics::count_own("OldWindowStates", 1);
                Ok(S::default())
            }
        }
    }
}

impl<M, S, F> Handler for Windowed<M, S, F>
where
    S: Serialize + DeserializeOwned + Default,
    F: WindowHandler<M, S>,
{
    async fn handle(&self, batch: Batch, context: Context) -> Result<Outcome, Error> {
        let frame = batch.window().cloned().ok_or(NoWindow)?;
        let batch = if self.deaggregate { batch.deaggregated() } else { batch };
        let readable = Readable::of_kinesis_records(&batch);
        let user_records = readable.batch.len();
        let nothing_readable = readable.batch.is_empty() && !batch.is_empty();
        if nothing_readable {
            return readable.outcome(Failures::new());
        }
        let records = readable.batch.clone();
        let (state, failures) = self.call(&records, &frame, &context).await?;
        let mut outcome = readable.outcome(failures)?;
        outcome.user_records = Some(user_records);
        outcome.state = match &outcome.retry_from {
            Some(record) if is_inside_aggregate(&records, record) => {
                let (state, checkpoint) =
                    self.state_before(record.index(), &records, &frame, &context).await?;
                outcome.retry_from = batch.get(checkpoint);
                state
            }
            _ => Some(state::encode(&state)?),
        };
        outcome.state.iter().for_each(|state| warn_of_size(state));
        Ok(outcome)
    }
}

impl<M, S, F> Windowed<M, S, F>
where
    S: Serialize + DeserializeOwned + Default,
    F: WindowHandler<M, S>,
{
    async fn call(
        &self,
        batch: &Batch,
        frame: &Arc<WindowFrame>,
        context: &Context,
    ) -> Result<(S, Failures), Error> {
        let window =
            Window { state: self.state(frame)?, batch: batch.clone(), frame: Arc::clone(frame) };
        self.handler.call(window, context).await
    }

    /// The state of the records before a failure inside an aggregate, and the place of the
    /// checkpoint.
    ///
    /// Lambda delivers the whole aggregate again, so the state must not hold the part of it that is
    /// ahead of the failure. The handler has it counted already; so it is run once more, on the
    /// records before the aggregate alone. A state of `None` leaves the window's as it was.
    async fn state_before(
        &self,
        failed: usize,
        batch: &Batch,
        frame: &Arc<WindowFrame>,
        context: &Context,
    ) -> Result<(Option<Box<RawValue>>, usize), Error> {
        let frame = Arc::new(WindowFrame {
            is_final: false,
            terminated_early: false,
            ..WindowFrame::clone(frame)
        });
        let mut checkpoint = batch.start_of_record(failed);
        while checkpoint > 0 {
            let records = batch.prefix(checkpoint);
            let (state, failures) = self.call(&records, &frame, context).await?;
            match failures
                .records()
                .find(|record| records.owns(record))
                .map(|record| record.index())
            {
                None => return Ok((Some(state::encode(&state)?), checkpoint)),
                // What failed only now: its state is asked for in turn.
                Some(failed) => checkpoint = batch.start_of_record(failed),
            }
        }
        Ok((None, checkpoint))
    }
}

/// Whether records ahead of this one came in the same Kinesis record.
fn is_inside_aggregate(batch: &Batch, record: &Record) -> bool {
    record.index() < batch.len() && batch.start_of_record(record.index()) < record.index()
}

fn warn_of_size(state: &RawValue) {
    let bytes = state.get().len();
    if bytes > STATE_LIMIT {
        tracing::warn!(bytes, "the window's state is over 1 MB: Lambda ends the window early");
    }
}

/// The handler is for windows and the event source mapping has none.
#[derive(Debug, thiserror::Error)]
#[error(
    "the event is of no tumbling window, and the handler is made for one; set `tumbling-window-in-seconds` of the event \
     source mapping, or use `batch` or `each`"
)]
struct NoWindow;

/// What a [`window`] handler returns: the state, or the state and the [`Failures`].
pub trait WindowReply<S> {
    /// Both of them.
    fn into_parts(self) -> (S, Failures);
}

impl<S> WindowReply<S> for S {
    fn into_parts(self) -> (S, Failures) {
        (self, Failures::new())
    }
}

impl<S> WindowReply<S> for (S, Failures) {
    fn into_parts(self) -> (S, Failures) {
        self
    }
}

/// A function that [`window`] takes: `async fn(Window<S>) -> Result<S, E>` or `async fn(Window<S>,
/// Context) -> Result<S, E>`, where the reply is `S` or `(S, Failures)` and `E` is anything that
/// turns into an [`Error`].
#[allow(async_fn_in_trait, reason = "handlers run on one thread; their futures need not be Send")]
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a function that `window` can take",
    label = "not a function from a window to a `Result` of its state",
    note = "it must be `async fn(Window<S>) -> Result<S, E>` or `async fn(Window<S>) -> Result<(S, Failures), E>`, with a \
            `Context` as a second argument where it wants one, and `E` turns into `streambot_runtime::Error`",
    note = "a closure needs its types written out: `async |window: Window<u64>| -> Result<u64, Error> {{ … }}`"
)]
pub trait WindowHandler<M, S> {
    /// Calls the function.
    ///
    /// # Errors
    ///
    /// Whatever the function returns as its error.
    async fn call(&self, window: Window<S>, context: &Context) -> Result<(S, Failures), Error>;
}

impl<F, S, T, E> WindowHandler<WithoutContext<Window<S>, T, E>, S> for F
where
    F: AsyncFn(Window<S>) -> Result<T, E>,
    T: WindowReply<S>,
    E: Into<Error>,
{
    async fn call(&self, window: Window<S>, _context: &Context) -> Result<(S, Failures), Error> {
        self(window).await.map(WindowReply::into_parts).map_err(Into::into)
    }
}

impl<F, S, T, E> WindowHandler<WithContext<Window<S>, T, E>, S> for F
where
    F: AsyncFn(Window<S>, Context) -> Result<T, E>,
    T: WindowReply<S>,
    E: Into<Error>,
{
    async fn call(&self, window: Window<S>, context: &Context) -> Result<(S, Failures), Error> {
        self(window, context.clone()).await.map(WindowReply::into_parts).map_err(Into::into)
    }
}
