//! Log lines: to stdout in the format Lambda's logging settings ask for, with a [copy] for S3. It knows formats and
//! levels; it refuses to know when an invocation begins and ends.
//!
//! Stdout (CloudWatch Logs) is the durable copy: the one in S3 is cut at 4 MiB an invocation and says so.

#[cfg(feature = "s3-logs")]
mod copy;

use std::io::{self, Write};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{Layer, Registry};

#[cfg(feature = "s3-logs")]
pub(crate) use copy::Uploads;

use crate::context::Context;

/// What names an invocation's log object, and until when it can be written.
#[cfg_attr(not(feature = "s3-logs"), allow(dead_code, reason = "only the upload reads it"))]
pub(crate) struct LogObject {
    pub(crate) context: Context,
    /// The shard and the last sequence number, where the event could be read.
    pub(crate) last: Option<(String, String)>,
}

/// In place of the uploads, where they are not built in.
#[cfg(not(feature = "s3-logs"))]
pub(crate) struct Uploads;

#[cfg(not(feature = "s3-logs"))]
impl Uploads {
    pub(crate) async fn new(stack: crate::Stack, _names: crate::metrics::Names) -> Self {
        if let Some(bucket) = stack.log_bucket() {
            tracing::warn!(bucket, "log lines are not uploaded: this function was built without the feature s3-logs");
        }
        Self
    }

    pub(crate) async fn upload(&self, _log: LogObject) {}
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
        #[cfg(feature = "s3-logs")]
        copy::add(line);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metric_lines_carry_a_level_that_passes_the_configured_one() {
        let passing = |level| Format::parse("JSON", level, "").passing_level();
        assert_eq!(
            ["", "TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL", "error"].map(passing),
            ["INFO", "INFO", "INFO", "INFO", "WARN", "ERROR", "FATAL", "ERROR"]
        );
    }
}
