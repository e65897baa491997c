//! The copy of log lines that goes to S3 after each answer, where the stack has a `LogBucket`. It knows how much is kept,
//! under which key it goes, and that a failure to upload is no failure of the invocation.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use aws_config::BehaviorVersion;
use aws_config::environment::{EnvironmentVariableCredentialsProvider, EnvironmentVariableRegionProvider};
use aws_config::meta::region::ProvideRegion;
use aws_sdk_s3::primitives::ByteStream;
use aws_smithy_http_client::tls::{self, rustls_provider::CryptoMode};

use super::LogObject;
use crate::environment::Stack;
use crate::failure::Chain;
use crate::{Error, metrics};

/// How many bytes of an invocation's lines are kept for S3.
const CAPTURE_LIMIT: usize = 4 << 20;

/// The lines since the last upload. A process works on one invocation at a time, so there is one of it.
static CAPTURE: Mutex<Capture> = Mutex::new(Capture { enabled: false, lines: Vec::new(), left_out: 0 });

#[derive(Debug)]
struct Capture {
    enabled: bool,
    lines: Vec<u8>,
    /// Bytes of lines that were too many.
    left_out: usize,
}

impl Capture {
    fn add(&mut self, line: &[u8], limit: usize) {
        if !self.enabled {
            return;
        }
        // Once a line is left out so are all after it: what is kept has no gaps.
        if self.left_out > 0 || self.lines.len() + line.len() > limit {
            self.left_out += line.len();
        } else {
            self.lines.extend_from_slice(line);
        }
    }

    fn take(&mut self) -> Vec<u8> {
        let mut lines = std::mem::take(&mut self.lines);
        let left_out = std::mem::take(&mut self.left_out);
        if left_out > 0 {
            let note = format!("[streambot: {left_out} more bytes of log lines are in CloudWatch Logs only]\n");
            lines.extend_from_slice(note.as_bytes());
        }
        lines
    }
}

fn capture() -> MutexGuard<'static, Capture> {
    CAPTURE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Keeps a line, where lines are kept.
pub(super) fn add(line: &[u8]) {
    capture().add(line, CAPTURE_LIMIT);
}

/// What is left of the deadline for Lambda's own bookkeeping after an upload.
const RESERVE: Duration = Duration::from_millis(50);

/// Where the lines go after each answer, if anywhere.
pub(crate) struct Uploads {
    bucket: Option<Bucket>,
    prefix: String,
    names: metrics::Names,
}

struct Bucket {
    client: aws_sdk_s3::Client,
    name: String,
}

impl Uploads {
    /// Builds the client, where there is a bucket; credentials and region are those Lambda gives the function.
    pub(crate) async fn new(stack: Stack, names: metrics::Names) -> Self {
        let prefix = stack.log_prefix().unwrap_or_default();
        let Some(name) = stack.log_bucket() else { return Self { bucket: None, prefix, names } };
        capture().enabled = true;
        Self { bucket: Some(Bucket { client: client().await, name }), prefix, names }
    }

    /// Uploads the lines since the last time. That they cannot be is a warning and a metric, never a failed batch: they are
    /// in CloudWatch Logs.
    pub(crate) async fn upload(&self, log: LogObject) {
        let Some(bucket) = &self.bucket else { return };
        let lines = capture().take();
        if lines.is_empty() {
            return;
        }
        let key = key(&self.prefix, &self.names.stack, &log);
        let limit = log.context.remaining().saturating_sub(RESERVE);
        if let Err(error) = bucket.put(&key, lines, limit).await {
            tracing::warn!(key, error = %Chain(&*error), "failed to upload the invocation's log lines to S3");
            super::print(&metrics::count_line(&self.names, "LogUploadFailures", SystemTime::now()));
        }
    }
}

/// A client with what Lambda puts into the environment, and nothing else: the chain of all places where credentials may be
/// elsewhere would make a function a good deal larger.
async fn client() -> aws_sdk_s3::Client {
    let https =
        aws_smithy_http_client::Builder::new().tls_provider(tls::Provider::Rustls(CryptoMode::Ring)).build_https();
    let settings = aws_sdk_s3::config::Builder::new()
        .behavior_version(BehaviorVersion::latest())
        .region(EnvironmentVariableRegionProvider::new().region().await)
        .credentials_provider(EnvironmentVariableCredentialsProvider::new())
        .http_client(https);
    let endpoint = ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"].into_iter().find_map(|name| std::env::var(name).ok());
    aws_sdk_s3::Client::from_conf(match endpoint {
        Some(endpoint) => settings.endpoint_url(endpoint).build(),
        None => settings.build(),
    })
}

impl Bucket {
    async fn put(&self, key: &str, lines: Vec<u8>, limit: Duration) -> Result<(), Error> {
        let put = self
            .client
            .put_object()
            .bucket(&self.name)
            .key(key)
            .content_type("text/plain; charset=utf-8")
            .body(ByteStream::from(lines))
            .send();
        match tokio::time::timeout(limit, put).await {
            Ok(answer) => answer.map(drop).map_err(Into::into),
            Err(_) => Err(format!("no answer within the {} ms the invocation had left", limit.as_millis()).into()),
        }
    }
}

/// The key of an invocation's log object: `<prefix>/<stack>/<shard>/<last sequence number>-<request id>.log`.
///
/// The request id keeps a retry of the same records from overwriting the log of the attempt before.
fn key(prefix: &str, stack: &str, log: &LogObject) -> String {
    let slash = if prefix.is_empty() { "" } else { "/" };
    let request_id = log.context.request_id();
    match &log.last {
        Some((shard, sequence_number)) => format!("{prefix}{slash}{stack}/{shard}/{sequence_number}-{request_id}.log"),
        None => format!("{prefix}{slash}{stack}/no-shard/{request_id}.log"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Context;

    #[test]
    fn keys_begin_with_the_prefix_as_it_is_where_there_is_one() {
        let log = |last: Option<(&str, &str)>| LogObject {
            context: Context::new("id".to_owned(), String::new(), SystemTime::now(), crate::clock::Clock::System),
            last: last.map(|(shard, number)| (shard.to_owned(), number.to_owned())),
        };
        let last = Some(("shardId-000000000000", "4954"));
        assert_eq!(key("", "quakes", &log(last)), "quakes/shardId-000000000000/4954-id.log");
        assert_eq!(key("logs", "quakes", &log(last)), "logs/quakes/shardId-000000000000/4954-id.log");
        assert_eq!(key("a/b/", "quakes", &log(last)), "a/b//quakes/shardId-000000000000/4954-id.log", "as granted");
        assert_eq!(key("logs", "quakes", &log(None)), "logs/quakes/no-shard/id.log");
    }

    #[test]
    fn a_copy_that_grows_too_large_ends_with_what_is_missing() {
        let mut capture = Capture { enabled: true, lines: Vec::new(), left_out: 0 };
        for line in ["0123456789\n", "0123456789\n", "0123456789\n", "x\n"] {
            capture.add(line.as_bytes(), 25);
        }
        let text = String::from_utf8(capture.take()).expect("lines are text");
        assert_eq!(
            text,
            "0123456789\n0123456789\n[streambot: 13 more bytes of log lines are in CloudWatch Logs only]\n"
        );
        capture.add(b"next\n", 25);
        assert_eq!(capture.take(), b"next\n", "the next invocation starts anew");
    }

    #[test]
    fn without_a_bucket_nothing_is_kept() {
        let mut capture = Capture { enabled: false, lines: Vec::new(), left_out: 0 };
        capture.add(b"line\n", 100);
        assert!(capture.take().is_empty());
    }
}
