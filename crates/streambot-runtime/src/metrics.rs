//! CloudWatch metrics, as lines of [embedded metric format][emf] for each invocation.
//!
//! Every metric is in the namespace `streambot`:
//!
//! | metric | dimension | unit | what |
//! |---|---|---|---|
//! | the stack's `MetricName` | `Status` = `Success` or `Error` | count | 1 an invocation; `Error` when any record failed |
//! | the same | `Status` and `ExecutedVersion` | count | the same for each published version, by which a canary is judged |
//! | `Records` | `StackName` | count | Kinesis records of the invocation |
//! | `FailedRecords` | `StackName` | count | Kinesis records that failed |
//! | `UserRecords` | `StackName` | count | records handed to the handler, after aggregates of the KPL were unpacked |
//! | `UnfinishedRecords` | `StackName` | count | Kinesis records that were running at the deadline and were dropped |
//! | `Duration` | `StackName` | ms | from the event's arrival to the response |
//! | `IteratorAge` | `StackName` | ms | age of the oldest record when the event arrived |
//! | `UndecodableRecords` | `StackName` | count | records skipped because they could not be decoded |
//! | `OldWindowStates` | `StackName` | count | windows that started over because their state was of an older version |
//! | `LogUploadFailures` | `StackName` | count | log objects that could not be written to S3 |
//! | your own | `StackName` | count | whatever was given to [`count`] |
//!
//! The first line of an invocation has the stack's metric alone, so that nothing else can spoil it.
//! The others follow, at most 100 in a line. Every line has the properties `timestamp`, `level` and
//! `requestId`, and `xrayTraceId` if Lambda gave one.
//!
//! [emf]: https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html

mod line;
mod names;

use std::borrow::Cow;
use std::time::{Duration, SystemTime};

pub(crate) use names::warn_of_many;

use line::{Directives, Line, Metric, Number, Time};

use crate::scope::{self, Counts, Scope};

/// Names with a meaning of their own in a line.
const RESERVED: [&str; 18] = [
    "_aws",
    "timestamp",
    "level",
    "message",
    "requestId",
    "xrayTraceId",
    "Status",
    "ExecutedVersion",
    "StackName",
    "Records",
    "FailedRecords",
    "UserRecords",
    "UnfinishedRecords",
    "Duration",
    "IteratorAge",
    "UndecodableRecords",
    "OldWindowStates",
    "LogUploadFailures",
];
const MAX_NAME_CHARACTERS: usize = 1_024;

/// Adds `amount` to a metric of your own: its sum over the invocation is one value of the metric
/// `name`, in the namespace `streambot` with the dimension `StackName`. A sum ends at `u64::MAX`.
///
/// Names have 1 to 1,024 characters. A name that Streambot itself uses, and that of the stack's
/// `MetricName`, is refused with a logged error. CloudWatch bills each name as a metric: a name
/// must not contain an id.
///
/// The count belongs to the invocation that calls it, on its own thread, in a task that it spawned,
/// or in `spawn_blocking`. What is counted outside an invocation, at init for instance, belongs to
/// the next one.
///
/// ```
/// streambot_runtime::metrics::count("Alerts", 1);
/// ```
pub fn count(name: impl Into<Cow<'static, str>>, amount: u64) {
    let name = name.into();
    let too_long = name.len() > MAX_NAME_CHARACTERS && name.chars().count() > MAX_NAME_CHARACTERS;
    if !name.is_empty() && !too_long && !RESERVED.contains(&&*name) {
        scope::count(name, amount);
    } else if scope::logs_refusal_of(&name) {
        let shown: String = name.chars().take(100).collect();
        tracing::error!(
            metric = shown,
            "metric not counted: a name has 1 to 1,024 characters and is none of {RESERVED:?}"
        );
    }
}

/// Adds to one of Streambot's own sums.
pub(crate) fn count_own(name: &'static str, amount: u64) {
    scope::count(Cow::Borrowed(name), amount);
}

/// Under which names a function's metrics go.
#[derive(Debug, Clone)]
pub(crate) struct Names {
    /// The contract's metric, 1 an invocation.
    pub(crate) metric: String,
    /// The value of the dimension `StackName`.
    pub(crate) stack: String,
    /// The published version of the function that runs; nothing for `$LATEST`.
    pub(crate) version: Option<String>,
    /// The log level of the line: Lambda drops lines below the configured one, and metrics must not
    /// go with them.
    pub(crate) level: &'static str,
}

/// The numbers of one invocation.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Invocation {
    pub(crate) succeeded: bool,
    /// Kinesis records.
    pub(crate) records: usize,
    /// Kinesis records.
    pub(crate) failed: usize,
    /// Records after aggregates were unpacked.
    pub(crate) user_records: usize,
    /// Kinesis records that were dropped at the deadline.
    pub(crate) unfinished: usize,
    pub(crate) duration: Duration,
    /// `None` for an event without records.
    pub(crate) iterator_age: Option<Duration>,
}

/// How many bytes the lines of most invocations have, and what the allocator has at hand.
const USUAL_BYTES: usize = 1000;

/// The metric lines of one invocation, each with a line end. The contract's metric is in the first
/// line.
pub(crate) fn invocation_lines(
    names: &Names,
    scope: &Scope,
    invocation: &Invocation,
    counts: &Counts,
    now: SystemTime,
) -> String {
    let duration = invocation.duration.as_micros() as f64 / 1000.0;
    let mut metrics = vec![
        Metric::count("Records", invocation.records as u64),
        Metric::count("FailedRecords", invocation.failed as u64),
        Metric::count("UserRecords", invocation.user_records as u64),
        Metric::count("UnfinishedRecords", invocation.unfinished as u64),
        Metric { name: "Duration", unit: "Milliseconds", value: Number::Fraction(duration) },
    ];
    if let Some(age) = invocation.iterator_age {
        metrics.push(Metric {
            name: "IteratorAge",
            unit: "Milliseconds",
            value: Number::Whole(milliseconds(age)),
        });
    }
    metrics.extend(counts.iter().map(|(name, amount)| Metric::count(name, *amount)));

    let contracts = [Metric::count(&names.metric, 1)];
    let status = if invocation.succeeded { "Success" } else { "Error" };
    let time = Time::new(now);
    let line = |directives, metrics| Line {
        names,
        request_id: scope.request_id(),
        xray_trace_id: scope.xray_trace_id(),
        directives,
        metrics,
        time: &time,
    };
    let mut lines = String::with_capacity(USUAL_BYTES);
    line(Directives::Status(status), &contracts).write_to(&mut lines);
    lines.push('\n');
    for metrics in line::chunks(&metrics) {
        line(Directives::Stack, metrics).write_to(&mut lines);
        lines.push('\n');
    }
    lines
}

/// A metric line with one count, for what happens after an invocation's own lines are written.
#[cfg(feature = "s3-logs")]
pub(crate) fn count_line(
    names: &Names,
    request_id: &str,
    name: &'static str,
    now: SystemTime,
) -> String {
    let metrics = [Metric::count(name, 1)];
    Line {
        names,
        request_id,
        xray_trace_id: None,
        directives: Directives::Stack,
        metrics: &metrics,
        time: &Time::new(now),
    }
    .to_json()
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
