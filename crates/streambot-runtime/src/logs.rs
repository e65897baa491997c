//! Log lines: to stdout in the format that Lambda's logging settings ask for, with a [copy] for S3.
//!
//! Stdout (CloudWatch Logs) is the durable copy: the one in S3 is cut at 4 MiB an invocation and
//! says so.

#[cfg(feature = "s3-logs")]
mod breaker;
#[cfg(feature = "s3-logs")]
mod capture;
#[cfg(feature = "s3-logs")]
mod client;
#[cfg(feature = "s3-logs")]
mod copy;
mod escape;
mod fields;
#[cfg(feature = "s3-logs")]
mod kept;
mod layer;
mod panics;
mod settings;
mod timestamp;

use std::io::{self, Write};

#[cfg(feature = "s3-logs")]
pub(crate) use capture::{Capture, capture_of_invocation};
#[cfg(feature = "s3-logs")]
pub(crate) use copy::Uploads;
pub(crate) use escape::is_plain;
pub(crate) use layer::{FATAL, invocation_span};
pub(crate) use panics::during_init;
pub(crate) use settings::Format;
pub(crate) use timestamp::rfc3339;

use crate::context::Context;
use crate::scope::Scope;

/// What names an invocation's log object, its lines, and until when it can be written.
#[cfg_attr(not(feature = "s3-logs"), allow(dead_code, reason = "only the upload reads it"))]
pub(crate) struct LogObject {
    pub(crate) context: Context,
    pub(crate) scope: Scope,
    /// The shard and the last sequence number, where the event could be read.
    pub(crate) last: Option<(String, String)>,
}

/// In place of the uploads, where they are not built in.
#[cfg(not(feature = "s3-logs"))]
pub(crate) struct Uploads;

#[cfg(not(feature = "s3-logs"))]
impl Uploads {
    pub(crate) async fn new(
        stack: crate::Stack,
        _names: crate::metrics::Names,
        _lines: LineSource,
    ) -> Self {
        if let Some(bucket) = stack.log_bucket() {
            tracing::warn!(
                bucket,
                "log lines are not uploaded: this function was built without the feature s3-logs"
            );
        }
        Self
    }

    pub(crate) async fn upload(&self, _log: LogObject) {}
}

/// Whose subscriber gets the events of `tracing`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LineSource {
    /// Streambot's: lines go to stdout and to the copy for S3.
    Streambot,
    /// The one that the service set before `run`: lines go where that sends them.
    Service,
}

/// Sends all events of `tracing`, all records of the `log` crate, and the messages of panics to
/// stdout and to the copy. A subscriber or a logger that the service set before is left in place.
pub(crate) fn init(format: &Format) -> LineSource {
    let source = match tracing::subscriber::set_global_default(format.subscriber(write_line)) {
        Ok(()) => LineSource::Streambot,
        Err(_) => LineSource::Service,
    };
    if source == LineSource::Streambot {
        let max_level = tracing_log::AsLog::as_log(&format.max_level());
        // A logger that is set already gets the records of `log`, as the service wants it.
        let _ = tracing_log::LogTracer::init_with_filter(max_level);
        format.warn_of_unparsed();
    }
    panics::set();
    source
}

/// Sends a line to stdout and to the copy.
fn write_line(line: &str) {
    #[cfg(feature = "s3-logs")]
    capture::add(line.as_bytes());
    write_stdout(line.as_bytes());
}

/// Writes lines that are not log lines, such as metric lines, to stdout at once; each ends with a
/// line end.
pub(crate) fn print(lines: &str) {
    write_stdout(lines.as_bytes());
}

/// Stdout is where logs go: when it is gone there is nowhere left to say so, and records still have
/// to be worked on.
fn write_stdout(bytes: &[u8]) {
    let mut stdout = io::stdout().lock();
    let _nowhere_to_report = stdout.write_all(bytes).and_then(|()| stdout.flush());
}
