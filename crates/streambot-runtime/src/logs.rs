//! Log lines: to stdout in the format Lambda's logging settings ask for, and, where the stack has a `LogBucket`, a copy
//! of each invocation's lines kept to be uploaded to S3. It knows formats, the copy and its key; it refuses to know when
//! an invocation begins and ends.
//!
//! Stdout (CloudWatch Logs) is the durable copy: the S3 copy is cut at 4 MiB an invocation and says so.

use std::io::{self, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{Layer, Registry};

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

/// Starts keeping a copy of all lines, for [`take`].
pub(crate) fn keep_copy() {
    capture().enabled = true;
}

/// Takes the lines kept since the last time.
pub(crate) fn take() -> Vec<u8> {
    capture().take()
}

/// The level and format of log lines, from Lambda's logging settings.
///
/// <https://docs.aws.amazon.com/lambda/latest/dg/monitoring-cloudwatchlogs-advanced.html>
#[derive(Debug, Clone, Default)]
pub(crate) struct Format {
    json: bool,
    level: Level,
    /// Levels by target, as `RUST_LOG` has them; only where Lambda's own setting is silent.
    targets: Option<Targets>,
}

/// Lambda's log levels; `FATAL` is tracing's `ERROR`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Level {
    Trace,
    Debug,
    #[default]
    Info,
    Warn,
    Error,
    Fatal,
}

impl Format {
    /// The format of `AWS_LAMBDA_LOG_FORMAT` (`JSON`, else text) at the level of `AWS_LAMBDA_LOG_LEVEL`, else of
    /// `RUST_LOG`, else `INFO`.
    pub(crate) fn from_env() -> Self {
        let variable = |name| std::env::var(name).unwrap_or_default();
        Self::parse(&variable("AWS_LAMBDA_LOG_FORMAT"), &variable("AWS_LAMBDA_LOG_LEVEL"), &variable("RUST_LOG"))
    }

    fn parse(format: &str, level: &str, targets: &str) -> Self {
        let targets = if level.is_empty() && !targets.is_empty() { targets.parse().ok() } else { None };
        let level = match level.to_ascii_uppercase().as_str() {
            "TRACE" => Level::Trace,
            "DEBUG" => Level::Debug,
            "WARN" => Level::Warn,
            "ERROR" => Level::Error,
            "FATAL" => Level::Fatal,
            _ => Level::Info,
        };
        Self { json: format.eq_ignore_ascii_case("json"), level, targets }
    }

    /// A level that is never below the configured one, so that Lambda never drops the line that carries it.
    pub(crate) fn passing_level(&self) -> &'static str {
        match self.level {
            Level::Trace | Level::Debug | Level::Info => "INFO",
            Level::Warn => "WARN",
            Level::Error => "ERROR",
            Level::Fatal => "FATAL",
        }
    }

    fn filter(&self) -> Targets {
        let level = match self.level {
            Level::Trace => LevelFilter::TRACE,
            Level::Debug => LevelFilter::DEBUG,
            Level::Info => LevelFilter::INFO,
            Level::Warn => LevelFilter::WARN,
            Level::Error | Level::Fatal => LevelFilter::ERROR,
        };
        // Whatever fails an invocation is logged once, by Streambot, and not again by the layer below it.
        let targets = self.targets.clone().unwrap_or_else(|| Targets::new().with_default(level));
        targets.with_target("lambda_runtime::layers::panic", LevelFilter::OFF)
    }

    /// A subscriber that writes lines of this format to `writer`.
    pub(crate) fn subscriber<W>(&self, writer: W) -> impl tracing::Subscriber + Send + Sync + use<W>
    where
        W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
    {
        let layer = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(writer);
        let layer = if self.json {
            layer.json().flatten_event(true).with_current_span(true).with_span_list(false).boxed()
        } else {
            layer.boxed()
        };
        Registry::default().with(layer.with_filter(self.filter()))
    }
}

/// Sends all tracing to stdout (and the copy), in this format, and panics' messages with it.
pub(crate) fn init(format: &Format) {
    // A subscriber that the service has set itself, before `run`, is left in place.
    if tracing::subscriber::set_global_default(format.subscriber(|| Stdout)).is_err() {
        tracing::debug!("a tracing subscriber is set already; log lines go where it sends them");
    }
    std::panic::set_hook(Box::new(|panic| {
        let location = panic.location().map(ToString::to_string).unwrap_or_default();
        let message = panic.payload_as_str().unwrap_or("no message");
        tracing::error!(location, "panicked: {message}");
    }));
}

/// Sends what it is given to stdout and to the copy. The subscriber gives it one whole line at a time.
#[derive(Debug, Default)]
struct Stdout;

impl Write for Stdout {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        capture().add(line, CAPTURE_LIMIT);
        write_stdout(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes a line that is not a log line, such as a metric line, to stdout.
pub(crate) fn print(line: &str) {
    write_stdout(format!("{line}\n").as_bytes());
}

/// Stdout is where logs go: when it is gone there is nowhere left to say so, and records still have to be worked on.
fn write_stdout(bytes: &[u8]) {
    let mut stdout = io::stdout().lock();
    let _nowhere_to_report = stdout.write_all(bytes).and_then(|()| stdout.flush());
}

/// The key of an invocation's log object: `<prefix>/<stack>/<shard>/<last sequence number>-<request id>.log`.
///
/// The request id keeps a retry of the same records from overwriting the log of the attempt before.
#[cfg_attr(not(feature = "s3-logs"), allow(dead_code, reason = "only the upload needs it"))]
pub(crate) fn object_key(prefix: &str, stack: &str, last: Option<(&str, &str)>, request_id: &str) -> String {
    let slash = if prefix.is_empty() { "" } else { "/" };
    match last {
        Some((shard, sequence_number)) => format!("{prefix}{slash}{stack}/{shard}/{sequence_number}-{request_id}.log"),
        None => format!("{prefix}{slash}{stack}/no-shard/{request_id}.log"),
    }
}

#[cfg(feature = "s3-logs")]
pub(crate) use upload::Bucket;

#[cfg(feature = "s3-logs")]
mod upload {
    use std::time::Duration;

    use aws_sdk_s3::primitives::ByteStream;
    use aws_smithy_http_client::tls::{self, rustls_provider::CryptoMode};

    use crate::Error;

    /// The bucket log lines are uploaded to.
    #[derive(Debug)]
    pub(crate) struct Bucket {
        client: aws_sdk_s3::Client,
        name: String,
    }

    impl Bucket {
        /// Builds the client; credentials and region are those Lambda gives the function.
        pub(crate) async fn new(name: String) -> Self {
            let https = aws_smithy_http_client::Builder::new()
                .tls_provider(tls::Provider::Rustls(CryptoMode::Ring))
                .build_https();
            let settings = aws_config::defaults(aws_config::BehaviorVersion::latest()).http_client(https).load().await;
            Self { client: aws_sdk_s3::Client::new(&settings), name }
        }

        /// Writes one object, within `limit`.
        pub(crate) async fn put(&self, key: &str, lines: Vec<u8>, limit: Duration) -> Result<(), Error> {
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_begin_with_the_prefix_as_it_is_where_there_is_one() {
        let last = Some(("shardId-000000000000", "4954"));
        assert_eq!(object_key("", "quakes", last, "id"), "quakes/shardId-000000000000/4954-id.log");
        assert_eq!(object_key("logs", "quakes", last, "id"), "logs/quakes/shardId-000000000000/4954-id.log");
        assert_eq!(
            object_key("a/b/", "quakes", last, "id"),
            "a/b//quakes/shardId-000000000000/4954-id.log",
            "as granted"
        );
        assert_eq!(object_key("logs", "quakes", None, "id"), "logs/quakes/no-shard/id.log");
    }

    #[test]
    fn metric_lines_carry_a_level_that_passes_the_configured_one() {
        let passing = |level| Format::parse("JSON", level, "").passing_level();
        assert_eq!(
            ["", "TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL", "error"].map(passing),
            ["INFO", "INFO", "INFO", "INFO", "WARN", "ERROR", "FATAL", "ERROR"]
        );
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
