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
//! [`run`] reads the stack's values into the environment, starts `tracing`, and then, for every invocation, decodes the
//! event, runs the handler, tells Lambda from which record to deliver again, writes a line of metrics, and copies the
//! log lines to S3 where the stack has a `LogBucket`.
//!
//! - [`each`] takes a function of one record: a [`Record`], [`Json`], [`Utf8`], a pair of them, or a type of your own that
//!   implements [`FromRecord`]. The first failure stops what comes after it and becomes the checkpoint.
//! - [`batch`] takes a function of the whole [`Batch`]; it may return the [`Failures`] it has to report.
//! - Either may take the [`Context`] of the invocation as its second argument.
//! - [`metrics::count`] adds a metric of your own. [`Stack`] has the values of the service's CloudFormation stack.
//!
//! # Features
//!
//! `s3-logs` (on by default): the upload of log lines to S3. A service whose stack has no `LogBucket` is a good deal
//! smaller without it.

mod aggregation;
mod checkpoint;
mod context;
mod environment;
mod event;
mod failure;
mod function;
mod handler;
mod logs;
pub mod metrics;
mod record;
mod response;
mod runtime;
mod shutdown;
pub mod testing;

pub use context::Context;
pub use environment::Stack;
pub use event::{Batch, Records};
pub use handler::{
    BatchHandler, Each, Handler, RecordHandler, Undecodable, WholeBatch, Window, WindowHandler, WindowReply, Windowed,
    WithContext, WithoutContext, batch, each, window,
};
pub use record::{FromRecord, Json, JsonRejection, PairRejection, Record, Utf8, Utf8Rejection};
pub use response::{Failures, Outcome};
pub use runtime::run;
pub use shutdown::on_shutdown;

/// Any error: what a handler and the init closure return.
///
/// `?` turns every standard error and `anyhow::Error` into it, and so does `.into()` a text: `Err("no such table".into())`.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// The README's service compiles.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
