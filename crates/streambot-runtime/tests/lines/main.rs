//! The lines of a real process: what Lambda makes of them, and what goes to S3.
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]

mod function;
mod lambda;
mod logging;
mod server;
#[cfg(feature = "s3-logs")]
mod uploads;
