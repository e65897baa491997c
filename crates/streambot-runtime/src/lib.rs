//! Consume an Amazon Kinesis stream with AWS Lambda.
//!
//! Write one function, and Lambda runs it on every record of the stream:
//!
//! ```no_run
//! use streambot_runtime::{Error, Json, each, run};
//!
//! #[derive(serde::Deserialize)]
//! struct Quake { id: String, mag: f64, place: String }
//!
//! fn main() -> Result<(), Error> {
//!     run(async || Ok(each(alert).concurrency(16)))
//! }
//!
//! async fn alert(quake: Json<Quake>) -> Result<(), Error> {
//!     if quake.mag >= 4.5 {
//!         tracing::info!(id = quake.id, place = quake.place, "alert");
//!     }
//!     Ok(())
//! }
//! ```
//!
//! [`run`] reads the stack's values into the environment, starts `tracing`, and then, for every
//! invocation, decodes the event, runs the handler, tells Lambda from which record to deliver
//! again, writes a line of metrics, and copies the log lines to S3 where the stack has a
//! `LogBucket`.
//!
//! # A tour
//!
//! **Choose a shape.** [`each`] takes a function of one record, [`batch`] one of the whole
//! [`Batch`], and [`window`] one of a tumbling window's batch with the state so far. Any of them
//! may take the [`Context`] of the invocation as its second argument: the request id, the time that
//! is left, the shard, the stack's values.
//!
//! **Choose what to take.** A function of one record takes a [`Record`], [`Json`], [`Utf8`], a pair
//! of them, or a type of your own that implements [`FromRecord`]. Data that does not fit is a
//! failed record, or is [skipped and counted](Each::on_undecodable).
//!
//! **Order.** Records of one partition key run in order, always. With
//! [`concurrency`](Each::concurrency) records of different keys run at once. A function has one
//! thread: concurrency is for waiting, not for computing.
//!
//! **Failure.** An error or a panic stops what comes after it. What ran already is finished, and
//! Lambda is told the first record not done: it delivers again from there on and nothing before it.
//! [`batch`] names its [`Failures`] instead. All of this needs an event source mapping with
//! `ReportBatchItemFailures`, which `streambot-deploy` sets and tells the function; where it was
//! not told so, every failure fails the whole invocation, for Lambda would ignore a partial answer
//! and the records would be lost.
//!
//! **Deadline.** Some time [before the timeout](Each::deadline_margin) no further record is started
//! and the rest is left to the next invocation, so that a slow batch makes progress. If the first
//! Kinesis record of the batch is not done by then, there is no progress, and the invocation fails:
//! retries count, and the alarm fires.
//!
//! **Aggregated records** of the Kinesis Producer Library are unpacked: each user record comes with
//! its own partition key and a [place in its aggregate](Record::sub_sequence_number). They share
//! one sequence number, so a failure of one brings the whole aggregate back.
//!
//! **Logs and metrics.** `tracing` goes to stdout in the format and at the level of Lambda's
//! logging settings; a failed record is logged once, by its names and never its data. [`metrics`]
//! says what is counted; [`metrics::count`] adds your own. [`on_shutdown`] runs a last hook.
//!
//! **Test** handlers with [`testing`]: in process, with the exact answer Lambda would get.
//! `streambot-deploy local` runs the whole function on a laptop.
//!
//! **Wrap.** [`Handler`] is the one trait between Streambot and your code: implement it around
//! another to add a span, a time-out or anything else to every batch.
//!
//! **Read on** in the [guides](guide): what happens on AWS, what Streambot does about it, and what
//! to choose.
//!
//! # For those who know Powertools
//!
//! | Powertools for AWS Lambda, batch processing | here |
//! |---|---|
//! | `BatchProcessor`, `process_partial_response` | [`each`]; it stops at the first failure, as Kinesis delivers again from there anyway |
//! | `AsyncBatchProcessor` | [`Each::concurrency`], bounded and in order within a key |
//! | Pydantic model, `Parser` | [`Json`], or [`FromRecord`] |
//! | `raise_on_entire_batch_failure` | a failure of the first record reports it; the handler decides nothing |
//! | `context.get_remaining_time_in_millis()` | [`Context::remaining`], and [`Each::deadline_margin`] by itself |
//! | Kinesis data class, `data_as_json()` | [`Record`], [`Json`] |
//! | Metrics (EMF), `add_metric` | [`metrics::count`] |
//! | Logger, `append_keys` | `tracing`, with the request id in its span |
//! | Idempotency | [`Record::id`] and the recipe below |
//! | `aws_kinesis_agg` (a package of its own) | built in |
//! | tumbling windows, by hand | [`window`] |
//!
//! # Doing a thing once
//!
//! Kinesis delivers at least once: a record comes again after a failure, a timeout, or a shard's
//! move. [`Record::id`] stays the same however often it comes, so a conditional put can tell the
//! first time from the others:
//!
//! ```
//! use streambot_runtime::{Error, Json, Record};
//!
//! /// Such as a DynamoDB table with the key `id`, and a time to live that is longer than the stream keeps records.
//! trait Seen {
//!     /// Puts an id; false where it was there: for DynamoDB, where the condition `attribute_not_exists(id)` failed.
//!     async fn put(&self, id: String) -> Result<bool, Error>;
//! }
//!
//! # struct Order;
//! # async fn pay(_: &Order) -> Result<(), Error> { Ok(()) }
//! async fn charge((record, order): (Record, Json<Order>), seen: &impl Seen) -> Result<(), Error> {
//!     if seen.put(record.id()).await? { pay(&order).await } else { Ok(()) }
//! }
//! ```
//!
//! As it stands, a payment that fails after the put is not tried again. Where that matters, put the
//! effect itself into the same DynamoDB transaction (the repository's
//! `example/examples/idempotent.rs` is such a service), or hand `record.id()` to the payment
//! service as its idempotency key.
//!
//! # Features
//!
//! `s3-logs` (on by default): the upload of log lines to S3. A service whose stack has no
//! `LogBucket` is a good deal smaller without it.

mod aggregation;
mod checkpoint;
mod clock;
mod context;
mod dotenv;
mod environment;
mod event;
mod exchange;
mod failure;
mod function;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub mod guide;
mod handler;
mod json;
mod logs;
mod memory;
pub mod metrics;
mod record;
mod response;
mod runtime;
mod scope;
mod shutdown;
pub mod testing;
mod threads;

pub use context::Context;
pub use environment::Stack;
pub use event::{Batch, Records};
pub use handler::{
    BatchHandler, Each, Handler, RecordHandler, Undecodable, WholeBatch, Window, WindowHandler,
    WindowReply, Windowed, WithContext, WithoutContext, batch, each, window,
};
pub use json::{Json, JsonRejection};
pub use record::{FromRecord, PairRejection, Record, Utf8, Utf8Rejection};
pub use response::{Failures, Outcome};
pub use runtime::run;
pub use shutdown::on_shutdown;

/// Any error: what a handler and the init closure return.
///
/// `?` turns every standard error and `anyhow::Error` into it, and so does `.into()` a text:
/// `Err("no such table".into())`.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// The README's service compiles. The workspace's README is this crate's, so it is found in the
/// crate's package, too.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
