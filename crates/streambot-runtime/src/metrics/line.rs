//! One line of embedded metric format, written straight from its parts, as there are two or more
//! for each invocation.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

use super::{Names, milliseconds};
use crate::logs::rfc3339;

const NAMESPACE: &str = "streambot";
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
    pub(super) now: SystemTime,
}

/// By which dimensions the metrics of a line are counted.
#[derive(Clone, Copy)]
pub(super) enum Directives {
    /// By `Status`, with this value, and for a published version by `Status` and `ExecutedVersion`.
    Status(&'static str),
    /// By `StackName`.
    Stack,
}

/// One metric of a line, as a directive announces it.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Metric<'a> {
    pub(super) name: &'a str,
    pub(super) unit: &'static str,
    #[serde(skip)]
    pub(super) value: Number,
}

#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Number {
    Whole(u64),
    Fraction(f64),
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Metadata<'a> {
    timestamp: u64,
    cloud_watch_metrics: [Directive<'a>; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Directive<'a> {
    namespace: &'static str,
    dimensions: &'static [&'static [&'static str]],
    metrics: &'a [Metric<'a>],
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
    pub(super) fn to_json(&self) -> String {
        serde_json::to_string(self).expect("texts and numbers under texts are JSON")
    }
}

impl Serialize for Line<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let dimensions: &[&[&str]] = match (self.directives, &self.names.version) {
            (Directives::Status(_), Some(_)) => &[&["Status"], &["Status", "ExecutedVersion"]],
            (Directives::Status(_), None) => &[&["Status"]],
            (Directives::Stack, _) => &[&["StackName"]],
        };
        let directive = Directive { namespace: NAMESPACE, dimensions, metrics: self.metrics };
        let timestamp = milliseconds(self.now.duration_since(UNIX_EPOCH).unwrap_or_default());

        let mut line = serializer.serialize_map(None)?;
        line.serialize_entry("_aws", &Metadata { timestamp, cloud_watch_metrics: [directive] })?;
        // Without a valid timestamp Lambda takes the level for INFO, whatever it is.
        line.serialize_entry("timestamp", &rfc3339(self.now))?;
        line.serialize_entry("level", self.names.level)?;
        line.serialize_entry("requestId", self.request_id)?;
        if let Some(id) = self.xray_trace_id {
            line.serialize_entry("xrayTraceId", id)?;
        }
        line.serialize_entry("StackName", &self.names.stack)?;
        if let Directives::Status(status) = self.directives {
            line.serialize_entry("Status", status)?;
            if let Some(version) = &self.names.version {
                line.serialize_entry("ExecutedVersion", version)?;
            }
        }
        for metric in self.metrics {
            line.serialize_entry(metric.name, &metric.value)?;
        }
        line.end()
    }
}
