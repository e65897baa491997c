//! The shapes of handler a service can have, a room each: [`each`](fn@each) record, the whole
//! [`batch`](fn@batch), or a [`window`](fn@window) of time. This one knows only what they have in
//! common.

mod batch;
mod each;
mod window;

use std::marker::PhantomData;

pub use batch::{BatchHandler, WholeBatch, batch};
pub use each::{Each, RecordHandler, Undecodable, each};
pub use window::{Window, WindowHandler, WindowReply, Windowed, window};

use crate::Error;
use crate::context::Context;
use crate::event::Batch;
use crate::response::Outcome;

/// What [`run`](crate::run) runs: something that works on one batch at a time.
///
/// [`each`] and [`batch`] make one from a function. Implement it to wrap one of those in something
/// of your own:
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

/// Tells functions of one argument from those that take the [`Context`] too.
#[derive(Debug)]
pub struct WithoutContext<A, T, E>(PhantomData<(A, T, E)>);

/// Tells functions that take the [`Context`] from those that do not.
#[derive(Debug)]
pub struct WithContext<A, T, E>(PhantomData<(A, T, E)>);
