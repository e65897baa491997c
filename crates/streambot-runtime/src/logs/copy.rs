//! The copy of log lines that goes to S3 after each response, if the stack has a `LogBucket`.
//!
//! A failed upload is not a failure of the invocation: the lines are in CloudWatch Logs. They are
//! kept, and put under their own invocation's key with the next upload. All uploads after one
//! invocation share one timeout.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use aws_sdk_s3::primitives::ByteStream;
use tokio::time::{Instant, timeout};
use tracing::Instrument;

use super::breaker::Breaker;
use super::client::{client, upload_timeout};
use super::kept::{Dropped, Kept, Object};
use super::{LineSource, LogObject, capture, invocation_span};
use crate::environment::Stack;
use crate::failure::Chain;
use crate::{Error, metrics};

/// What is left of the deadline for Lambda's own bookkeeping after an upload.
const RESERVE: Duration = Duration::from_millis(50);

/// Where the lines go after each response, if anywhere.
pub(crate) struct Uploads {
    bucket: Option<Bucket>,
    prefix: String,
    names: metrics::Names,
    timeout: Duration,
    queue: Queue,
}

struct Bucket {
    client: aws_sdk_s3::Client,
    name: String,
}

impl Uploads {
    /// Builds the client, if there is a bucket.
    pub(crate) async fn new(stack: Stack, names: metrics::Names, lines: LineSource) -> Self {
        let prefix = stack.log_prefix().unwrap_or_default();
        let timeout = upload_timeout();
        let mut uploads = Self { bucket: None, prefix, names, timeout, queue: Queue::default() };
        let Some(name) = stack.log_bucket() else { return uploads };
        if lines == LineSource::Service {
            tracing::warn!(
                bucket = name,
                "log lines are not uploaded to LogBucket: a tracing subscriber was set before `run`, and lines go only \
                 where it sends them"
            );
            return uploads;
        }
        capture::enable();
        uploads.bucket = Some(Bucket { client: client(timeout).await, name });
        uploads
    }

    /// Uploads the lines of an invocation, and those that are kept.
    pub(crate) async fn upload(&self, log: LogObject) {
        let Some(bucket) = &self.bucket else { return };
        let lines = log.scope.take_lines();
        let request_id = log.context.request_id().to_owned();
        let object =
            Object::new(key(&self.prefix, &self.names.stack, &log), request_id, lines.into());
        let left = log.context.remaining().saturating_sub(RESERVE);
        let put = async |object: &Object| bucket.put(object).await;
        let upload = async {
            for failure in self.queue.upload(object, self.timeout, left, put).await {
                self.report(failure);
            }
        };
        upload.instrument(invocation_span(&log.context)).await;
    }

    fn report(&self, failure: Failure) {
        match failure {
            Failure::Upload { object, error, kept, pause } => {
                let pause_s = pause.map(|pause| pause.as_secs());
                let error = Chain(&*error).to_string();
                let key = object.key;
                tracing::warn!(
                    key,
                    error,
                    kept,
                    pause_s,
                    "failed to upload the invocation's log lines to S3"
                );
                let line = metrics::count_line(
                    &self.names,
                    &object.request_id,
                    "LogUploadFailures",
                    SystemTime::now(),
                );
                super::print(&(line + "\n"));
            }
            Failure::Lost(Dropped { objects, bytes }) => tracing::warn!(
                objects,
                bytes,
                "log lines that could not be uploaded to S3 are no longer kept for it; they are in CloudWatch Logs only"
            ),
        }
    }
}

impl Bucket {
    async fn put(&self, object: &Object) -> Result<(), Error> {
        let put = self
            .client
            .put_object()
            .bucket(&self.name)
            .key(&object.key)
            .content_type("text/plain; charset=utf-8")
            .body(ByteStream::from(object.lines.clone()))
            .send();
        put.await.map(drop).map_err(Into::into)
    }
}

/// What went wrong with an upload.
#[derive(Debug)]
enum Failure {
    /// One object could not be uploaded.
    Upload {
        object: Object,
        error: Error,
        /// How many objects wait for the next upload.
        kept: usize,
        /// For how long no upload is tried.
        pause: Option<Duration>,
    },
    /// Objects were given up.
    Lost(Dropped),
}

/// The objects to upload, and whether an upload is tried now.
#[derive(Debug, Default)]
struct Queue(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    kept: Kept,
    breaker: Breaker,
}

impl Queue {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an object, and puts objects from the oldest to the newest until one fails or the time
    /// is over: `cap`, or what is `left` until the deadline. An upload begins only if it has at
    /// least a quarter of the cap.
    async fn upload<P>(&self, newest: Object, cap: Duration, left: Duration, put: P) -> Vec<Failure>
    where
        P: AsyncFn(&Object) -> Result<(), Error>,
    {
        let end = Instant::now() + cap.min(left);
        let mut failures = Vec::new();
        if !newest.lines.is_empty() {
            failures.extend(lost(self.state().kept.add(newest)));
        }
        while let Some(object) = self.next(end, cap / 4) {
            let time = end.saturating_duration_since(Instant::now());
            let error = match timeout(time, put(&object)).await {
                Ok(Ok(())) => {
                    self.state().breaker.succeed();
                    continue;
                }
                Ok(Err(error)) => error,
                Err(_) => format!("no answer within {} ms", time.as_millis()).into(),
            };
            let mut state = self.state();
            let pause = state.breaker.fail(Instant::now());
            let dropped = state.kept.fail(object.clone());
            failures.push(Failure::Upload { object, error, kept: state.kept.len(), pause });
            failures.extend(lost(dropped));
            break;
        }
        failures
    }

    /// Takes the next object if there is time and no pause.
    fn next(&self, end: Instant, min_time: Duration) -> Option<Object> {
        let now = Instant::now();
        let mut state = self.state();
        let allowed = end.saturating_duration_since(now) >= min_time && state.breaker.allows(now);
        if allowed { state.kept.take() } else { None }
    }
}

fn lost(dropped: Dropped) -> Option<Failure> {
    (dropped.objects > 0).then_some(Failure::Lost(dropped))
}

/// The key of an invocation's log object:
/// `<prefix>/<stack>/<shard>/<last sequence number>-<request id>.log`.
///
/// The request id keeps a retry of the same records from overwriting the log of the attempt before.
/// An event without records, such as the last one of a window, has no sequence number; an event
/// that could not be read has no shard.
fn key(prefix: &str, stack: &str, log: &LogObject) -> String {
    let slash = if prefix.is_empty() { "" } else { "/" };
    let request_id = log.context.request_id();
    match (&log.last, log.context.shard_id()) {
        (Some((shard, sequence_number)), _) => {
            format!("{prefix}{slash}{stack}/{shard}/{sequence_number}-{request_id}.log")
        }
        (None, Some(shard)) => format!("{prefix}{slash}{stack}/{shard}/{request_id}.log"),
        (None, None) => format!("{prefix}{slash}{stack}/no-shard/{request_id}.log"),
    }
}

#[cfg(test)]
mod tests;
