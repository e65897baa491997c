//! One line of embedded metric format, written straight from its parts, as there are two or more
//! for each invocation.

use std::fmt::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use super::{Names, milliseconds};
use crate::logs::{is_plain, rfc3339};

/// What a line begins with; the time in milliseconds follows.
const BEGINNING: &str = r#"{"_aws":{"Timestamp":"#;
const DIRECTIVE: &str = r#","CloudWatchMetrics":[{"Namespace":"streambot","Dimensions":"#;
/// CloudWatch takes at most this many metrics in one directive.
const MAX_METRICS: usize = 100;
/// What the metrics of a line may take. CloudWatch Logs splits lines of 256 KB, and a part is not a
/// metric line.
const MAX_METRIC_BYTES: usize = 128 << 10;

pub(super) struct Line<'a> {
    pub(super) names: &'a Names,
    pub(super) request_id: &'a str,
    pub(super) xray_trace_id: Option<&'a str>,
    pub(super) directives: Directives,
    pub(super) metrics: &'a [Metric<'a>],
    pub(super) time: &'a Time,
}

/// A time in the forms that a line needs.
pub(super) struct Time {
    milliseconds: u64,
    rfc3339: String,
}

impl Time {
    pub(super) fn new(time: SystemTime) -> Self {
        let since_epoch = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { milliseconds: milliseconds(since_epoch), rfc3339: rfc3339(time) }
    }
}

/// By which dimensions the metrics of a line are counted.
#[derive(Clone, Copy)]
pub(super) enum Directives {
    /// By `Status`, with this value, and for a published version by `Status` and `ExecutedVersion`.
    Status(&'static str),
    /// By `StackName`.
    Stack,
}

/// One metric of a line.
pub(super) struct Metric<'a> {
    pub(super) name: &'a str,
    pub(super) unit: &'static str,
    pub(super) value: Number,
}

pub(super) enum Number {
    Whole(u64),
    Fraction(f64),
}

impl<'a> Metric<'a> {
    pub(super) fn count(name: &'a str, amount: u64) -> Self {
        Self { name, unit: "Count", value: Number::Whole(amount) }
    }

    /// How many bytes it takes at most: its name twice, each character of it as an escape at the
    /// worst.
    fn max_bytes(&self) -> usize {
        const BESIDE_NAME: usize =
            r#"{"Name":"","Unit":"Milliseconds"},"":18446744073709551615,"#.len();
        let escaped: usize = self.name.bytes().map(|byte| if byte < b' ' { 6 } else { 2 }).sum();
        2 * escaped + BESIDE_NAME
    }
}

/// The metrics in parts that fit into a line each.
pub(super) fn chunks<'a>(mut metrics: &'a [Metric<'a>]) -> impl Iterator<Item = &'a [Metric<'a>]> {
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let fits = |metric: &&Metric<'_>| {
            bytes += metric.max_bytes();
            bytes <= MAX_METRIC_BYTES
        };
        let count = metrics.iter().take(MAX_METRICS).take_while(fits).count();
        let (chunk, rest) = metrics.split_at(count);
        metrics = rest;
        (count > 0).then_some(chunk)
    })
}

impl Line<'_> {
    #[cfg(any(test, feature = "s3-logs"))]
    pub(super) fn to_json(&self) -> String {
        let mut line = String::new();
        self.write_to(&mut line);
        line
    }

    /// Adds the line to `out`, without a line end.
    pub(super) fn write_to(&self, out: &mut String) {
        out.push_str(BEGINNING);
        push_number(out, self.time.milliseconds);
        out.push_str(DIRECTIVE);
        out.push_str(match (self.directives, &self.names.version) {
            (Directives::Status(_), Some(_)) => r#"[["Status"],["Status","ExecutedVersion"]]"#,
            (Directives::Status(_), None) => r#"[["Status"]]"#,
            (Directives::Stack, _) => r#"[["StackName"]]"#,
        });
        out.push_str(r#","Metrics":["#);
        for (index, metric) in self.metrics.iter().enumerate() {
            out.push_str(if index == 0 { r#"{"Name":"# } else { r#",{"Name":"# });
            push_text(out, metric.name);
            out.push_str(r#","Unit":""#);
            out.push_str(metric.unit);
            out.push_str("\"}");
        }
        out.push_str("]}]}");
        self.push_properties(out);
        for metric in self.metrics {
            out.push(',');
            push_text(out, metric.name);
            out.push(':');
            match metric.value {
                Number::Whole(number) => push_number(out, number),
                Number::Fraction(number) => push_number(out, number),
            }
        }
        out.push('}');
    }

    fn push_properties(&self, out: &mut String) {
        let mut push = |name: &str, value: &str| {
            out.push_str(name);
            push_text(out, value);
        };
        // Without a valid timestamp Lambda takes the level for INFO, whatever it is.
        push(r#","timestamp":"#, &self.time.rfc3339);
        push(r#","level":"#, self.names.level);
        push(r#","requestId":"#, self.request_id);
        if let Some(id) = self.xray_trace_id {
            push(r#","xrayTraceId":"#, id);
        }
        push(r#","StackName":"#, &self.names.stack);
        if let Directives::Status(status) = self.directives {
            push(r#","Status":"#, status);
            if let Some(version) = &self.names.version {
                push(r#","ExecutedVersion":"#, version);
            }
        }
    }
}

fn push_number(out: &mut String, number: impl std::fmt::Display) {
    write!(out, "{number}").expect("a string takes whatever is written");
}

/// Adds a JSON string. Nearly all of them have nothing to escape.
fn push_text(out: &mut String, text: &str) {
    if !is_plain(text) {
        out.push_str(&serde_json::Value::from(text).to_string());
        return;
    }
    out.push('"');
    out.push_str(text);
    out.push('"');
}
