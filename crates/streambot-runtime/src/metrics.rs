//! CloudWatch metrics, as one line of [embedded metric format][emf] an invocation. It knows names, dimensions and the
//! line's JSON; it refuses to know where lines go and what the numbers are for.
//!
//! Every metric is in the namespace `streambot`:
//!
//! | metric | dimension | unit | what |
//! |---|---|---|---|
//! | the stack's `MetricName` | `Status` = `Success` or `Error` | count | 1 an invocation; `Error` when any record failed |
//! | the same | `Status` and `ExecutedVersion` | count | the same for each published version, by which a canary is judged |
//! | `Records` | `StackName` | count | records the invocation was given |
//! | `FailedRecords` | `StackName` | count | records that failed |
//! | `Duration` | `StackName` | ms | from the event's arrival to the answer |
//! | `IteratorAge` | `StackName` | ms | age of the oldest record when the event arrived |
//! | `UndecodableRecords` | `StackName` | count | records skipped because they could not be decoded |
//! | `LogUploadFailures` | `StackName` | count | log objects that could not be written to S3 |
//! | your own | `StackName` | count | whatever was given to [`count`] |
//!
//! [emf]: https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

const NAMESPACE: &str = "streambot";
/// CloudWatch takes at most this many metrics in one directive.
const METRICS_PER_DIRECTIVE: usize = 100;
/// Names with a meaning of their own in the line.
const RESERVED: [&str; 9] =
    ["_aws", "level", "Status", "ExecutedVersion", "StackName", "Records", "FailedRecords", "Duration", "IteratorAge"];

type Counts = BTreeMap<Cow<'static, str>, u64>;

thread_local! {
    /// What the thread that runs the handler has counted since the last line.
    static COUNTS: RefCell<Counts> = const { RefCell::new(Counts::new()) };
    /// Whether this is that thread.
    static HANDLES: Cell<bool> = const { Cell::new(false) };
}

/// What other threads, such as a blocking task of the handler's, have counted since the last line.
static ELSEWHERE: Mutex<Counts> = Mutex::new(Counts::new());

/// Adds `amount` to a metric of your own: its sum over the invocation is one value of the metric `name`, in the
/// namespace `streambot` with the dimension `StackName`.
///
/// Names have 1 to 1,024 characters. A name that Streambot itself uses is refused with a logged error. What is counted
/// outside an invocation, at init for instance, belongs to the next one.
///
/// ```
/// streambot_runtime::metrics::count("Alerts", 1);
/// ```
pub fn count(name: impl Into<Cow<'static, str>>, amount: u64) {
    let name = name.into();
    if name.is_empty() || name.len() > 1024 || RESERVED.contains(&&*name) {
        tracing::error!(
            metric = &*name,
            "metric not counted: a name has 1 to 1,024 characters and is none of {RESERVED:?}"
        );
        return;
    }
    if HANDLES.get() {
        COUNTS.with_borrow_mut(|counts| *counts.entry(name).or_default() += amount);
    } else {
        *elsewhere().entry(name).or_default() += amount;
    }
}

/// Says that this thread runs handlers: what it counts is its own, so that tests on several threads do not mix.
pub(crate) fn handle_here() {
    HANDLES.set(true);
}

/// Takes what was counted since the last time.
pub(crate) fn take() -> Counts {
    let mut counts = COUNTS.take();
    for (name, amount) in std::mem::take(&mut *elsewhere()) {
        *counts.entry(name).or_default() += amount;
    }
    counts
}

fn elsewhere() -> MutexGuard<'static, Counts> {
    ELSEWHERE.lock().unwrap_or_else(PoisonError::into_inner)
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
    /// The log level of the line: Lambda drops lines below the configured one, and metrics must not go with them.
    pub(crate) level: &'static str,
}

/// The numbers of one invocation.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Invocation {
    pub(crate) succeeded: bool,
    pub(crate) records: usize,
    pub(crate) failed: usize,
    pub(crate) user_records: usize,
    pub(crate) unfinished: usize,
    pub(crate) duration: Duration,
    /// `None` for an event without records.
    pub(crate) iterator_age: Option<Duration>,
}

/// The metric line of one invocation, without a line end.
pub(crate) fn invocation_line(names: &Names, invocation: &Invocation, counts: &Counts, now: SystemTime) -> String {
    let duration = invocation.duration.as_micros() as f64 / 1000.0;
    let mut metrics = vec![
        Metric { name: "Records", unit: "Count", value: Number::Whole(invocation.records as u64) },
        Metric { name: "FailedRecords", unit: "Count", value: Number::Whole(invocation.failed as u64) },
        Metric { name: "UserRecords", unit: "Count", value: Number::Whole(invocation.user_records as u64) },
        Metric { name: "UnfinishedRecords", unit: "Count", value: Number::Whole(invocation.unfinished as u64) },
        Metric { name: "Duration", unit: "Milliseconds", value: Number::Fraction(duration) },
    ];
    if let Some(age) = invocation.iterator_age {
        metrics.push(Metric { name: "IteratorAge", unit: "Milliseconds", value: Number::Whole(milliseconds(age)) });
    }
    metrics.extend(counts.iter().map(|(name, amount)| Metric::count(name, *amount)));
    // The contract's metric has the stack's name: another value under the same name would overwrite it in the line.
    metrics.retain(|metric| metric.name != names.metric);
    let status = if invocation.succeeded { "Success" } else { "Error" };
    Line { names, status: Some(status), metrics, now }.to_json()
}

/// A metric line with one count, for what happens after an invocation's own line is written.
#[cfg(feature = "s3-logs")]
pub(crate) fn count_line(names: &Names, name: &'static str, now: SystemTime) -> String {
    Line { names, status: None, metrics: vec![Metric::count(name, 1)], now }.to_json()
}

/// One line of embedded metric format. It is written on every invocation, so straight from these parts.
struct Line<'a> {
    names: &'a Names,
    /// The value of the dimension `Status`, where the line has the contract's metric.
    status: Option<&'static str>,
    metrics: Vec<Metric<'a>>,
    now: SystemTime,
}

/// One metric of a line, as a directive announces it.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Metric<'a> {
    name: &'a str,
    unit: &'static str,
    #[serde(skip)]
    value: Number,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Number {
    Whole(u64),
    Fraction(f64),
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Metadata<'a> {
    timestamp: u64,
    cloud_watch_metrics: Vec<Directive<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Directive<'a> {
    namespace: &'static str,
    dimensions: &'static [&'static [&'static str]],
    metrics: &'a [Metric<'a>],
}

impl<'a> Metric<'a> {
    fn count(name: &'a str, amount: u64) -> Self {
        Self { name, unit: "Count", value: Number::Whole(amount) }
    }
}

impl Line<'_> {
    fn to_json(&self) -> String {
        serde_json::to_string(self).expect("texts and numbers under texts are JSON")
    }
}

impl Serialize for Line<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let contracts = [Metric::count(&self.names.metric, 1)];
        let by_status: &[&[&str]] = match self.names.version {
            Some(_) => &[&["Status"], &["Status", "ExecutedVersion"]],
            None => &[&["Status"]],
        };
        let status = self.status.map(|_| Directive::new(by_status, &contracts));
        let chunks = self.metrics.chunks(METRICS_PER_DIRECTIVE);
        let directives = status.into_iter().chain(chunks.map(|metrics| Directive::new(&[&["StackName"]], metrics)));
        let timestamp = milliseconds(self.now.duration_since(UNIX_EPOCH).unwrap_or_default());

        let mut line = serializer.serialize_map(None)?;
        line.serialize_entry("_aws", &Metadata { timestamp, cloud_watch_metrics: directives.collect() })?;
        line.serialize_entry("level", self.names.level)?;
        line.serialize_entry("StackName", &self.names.stack)?;
        if let Some(status) = self.status {
            line.serialize_entry("Status", status)?;
            if let Some(version) = &self.names.version {
                line.serialize_entry("ExecutedVersion", version)?;
            }
        }
        for metric in contracts.iter().filter(|_| self.status.is_some()).chain(&self.metrics) {
            line.serialize_entry(metric.name, &metric.value)?;
        }
        line.end()
    }
}

impl<'a> Directive<'a> {
    fn new(dimensions: &'static [&'static [&'static str]], metrics: &'a [Metric<'a>]) -> Self {
        Self { namespace: NAMESPACE, dimensions, metrics }
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn names() -> Names {
        Names { metric: "quakes-production".into(), stack: "quakes-production".into(), version: None, level: "INFO" }
    }

    fn invocation() -> Invocation {
        Invocation {
            succeeded: true,
            records: 3,
            failed: 0,
            user_records: 3,
            unfinished: 0,
            duration: Duration::from_micros(12_345),
            iterator_age: Some(Duration::from_secs(2)),
        }
    }

    fn parsed(invocation: &Invocation, counts: Counts) -> Value {
        let now = UNIX_EPOCH + Duration::from_millis(1_545_084_650_987);
        serde_json::from_str(&invocation_line(&names(), invocation, &counts, now)).expect("the line is JSON")
    }

    /// Every metric a directive announces, with its dimensions and the value it finds in the line.
    fn announced(line: &Value) -> Vec<(String, String, Value)> {
        let directives = line["_aws"]["CloudWatchMetrics"].as_array().expect("directives");
        let of = |directive: &Value| {
            let dimension = directive["Dimensions"][0][0].as_str().expect("one dimension").to_owned();
            assert!(line[&dimension].is_string(), "the dimension has a value in the line");
            let metrics = directive["Metrics"].as_array().expect("metrics").clone();
            metrics.into_iter().map(move |metric| {
                let name = metric["Name"].as_str().expect("a name").to_owned();
                (name.clone(), dimension.clone(), line[&name].clone())
            })
        };
        directives.iter().flat_map(of).collect()
    }

    #[test]
    fn a_line_announces_every_value_it_holds() {
        let line = parsed(&invocation(), Counts::from([("Alerts".into(), 5)]));
        assert_eq!(line["Status"], "Success");
        assert_eq!(line["_aws"]["Timestamp"], 1_545_084_650_987u64);
        let expected = [
            ("quakes-production", "Status", 1),
            ("Records", "StackName", 3),
            ("FailedRecords", "StackName", 0),
            ("IteratorAge", "StackName", 2_000),
            ("Alerts", "StackName", 5),
        ];
        let expected: Vec<_> = expected.map(|(n, d, v)| (n.to_owned(), d.to_owned(), json!(v))).into();
        let (durations, others): (Vec<_>, Vec<_>) =
            announced(&line).into_iter().partition(|(name, ..)| name == "Duration");
        assert_eq!(others, expected);
        assert_eq!(durations, [("Duration".to_owned(), "StackName".to_owned(), json!(12.345))], "to the microsecond");
    }

    #[test]
    fn a_published_version_is_told_apart_beside_the_contracts_dimension() {
        let names = Names { version: Some("7".to_owned()), ..names() };
        let line = invocation_line(&names, &invocation(), &Counts::new(), UNIX_EPOCH);
        let line: Value = serde_json::from_str(&line).expect("the line is JSON");
        let status = &line["_aws"]["CloudWatchMetrics"][0];
        assert_eq!(status["Dimensions"], json!([["Status"], ["Status", "ExecutedVersion"]]));
        assert_eq!((&line["ExecutedVersion"], &line["Status"]), (&json!("7"), &json!("Success")));
    }

    #[test]
    fn a_failure_is_an_error_under_the_same_name() {
        let line = parsed(&Invocation { succeeded: false, failed: 1, ..invocation() }, Counts::new());
        assert_eq!(line["Status"], "Error");
        assert_eq!(line["quakes-production"], 1);
    }

    #[test]
    fn no_directive_has_more_metrics_than_cloudwatch_takes() {
        let counts: Counts = (0..250).map(|index| (Cow::Owned(format!("metric-{index:03}")), 1)).collect();
        let line = parsed(&invocation(), counts);
        let directives = line["_aws"]["CloudWatchMetrics"].as_array().expect("directives");
        assert!(directives.iter().all(|directive| directive["Metrics"].as_array().expect("metrics").len() <= 100));
        assert_eq!(announced(&line).len(), 1 + 4 + 250);
    }

    #[test]
    fn an_event_without_records_has_no_iterator_age() {
        let line = parsed(&Invocation { iterator_age: None, ..invocation() }, Counts::new());
        assert!(announced(&line).iter().all(|(name, ..)| name != "IteratorAge"));
        assert!(line.get("IteratorAge").is_none());
    }

    #[test]
    fn a_count_never_overwrites_the_contracts_metric() {
        let line = parsed(&invocation(), Counts::from([("quakes-production".into(), 7)]));
        assert_eq!(line["quakes-production"], 1);
    }
}
