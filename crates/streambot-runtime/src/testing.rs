//! What a service tests its handlers with: events as Lambda would send them, and the exact answer
//! Lambda would get. It knows the event's JSON and runs a handler in process; it refuses to know
//! the Runtime API and AWS.
//!
//! ```
//! use streambot_runtime::testing::{invoke, records};
//! use streambot_runtime::{Error, Utf8, each, metrics};
//!
//! async fn shout(line: Utf8) -> Result<(), Error> {
//!     if line.is_empty() {
//!         return Err("nothing to shout".into());
//!     }
//!     metrics::count("Shouts", 1);
//!     tracing::info!("{}!", line.to_uppercase());
//!     Ok(())
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! // In a service: #[tokio::test] async fn …
//! let event = records(["hello", "", "never reached"]);
//! let answer = invoke(&each(shout), &event).await;
//!
//! assert_eq!(answer.retried_from(), Some(event.sequence_number(1)));
//! assert_eq!(answer.metric("Shouts"), Some(1.0));
//! assert!(answer.logs().contains("HELLO!"));
//! # }
//! ```

use std::borrow::Borrow;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use serde_json::{Value, json};
use tracing::instrument::WithSubscriber;

use crate::clock::Clock;
use crate::context::Context;
use crate::event::{self, Batch};
use crate::function::Function;
use crate::handler::Handler;
use crate::logs::Format;
use crate::{Error, aggregation, metrics};

const STREAM_ARN: &str = "arn:aws:kinesis:us-east-1:123456789012:stream/test";
const FUNCTION_ARN: &str = "arn:aws:lambda:us-east-1:123456789012:function:test";

/// An event with one record for each piece of data, each with a partition key of its own.
pub fn records<D: Into<Vec<u8>>>(data: impl IntoIterator<Item = D>) -> Event {
    data.into_iter().fold(Event::new(), |event, data| event.record(record(data)))
}

/// One record of an [`Event`].
pub fn record(data: impl Into<Vec<u8>>) -> TestRecord {
    TestRecord { data: data.into(), partition_key: PartitionKey::OfItsOwn, arrival: None }
}

/// A KPL aggregated record of these user records, each a partition key and data, as a producer
/// would pack them.
pub fn aggregated<K: Into<String>, D: Into<Vec<u8>>>(
    user_records: impl IntoIterator<Item = (K, D)>,
) -> TestRecord {
    let user_records: Vec<_> =
        user_records.into_iter().map(|(key, data)| (key.into(), data.into())).collect();
    record(aggregation::pack(&user_records))
}

/// One record of an [`Event`]: its data, its partition key and its arrival.
#[derive(Debug, Clone)]
pub struct TestRecord {
    data: Vec<u8>,
    partition_key: PartitionKey,
    arrival: Option<SystemTime>,
}

#[derive(Debug, Clone)]
enum PartitionKey {
    /// Named for the record's index.
    OfItsOwn,
    Set(String),
    Null,
}

impl TestRecord {
    /// Sets the partition key; each record has a different one by default.
    pub fn partition_key(mut self, key: impl Into<String>) -> Self {
        self.partition_key = PartitionKey::Set(key.into());
        self
    }

    /// Removes the partition key, as for a record of an on-demand stream that distributes records
    /// by itself.
    ///
    /// ```
    /// use streambot_runtime::testing::{Event, decode, record};
    ///
    /// let event = Event::new().record(record("a").without_partition_key());
    /// assert_eq!(decode(event.to_json())?.get(0).unwrap().partition_key(), None);
    /// # Ok::<(), streambot_runtime::Error>(())
    /// ```
    pub fn without_partition_key(mut self) -> Self {
        self.partition_key = PartitionKey::Null;
        self
    }

    /// When the stream took the record in; now by default.
    pub fn arrival(mut self, arrival: SystemTime) -> Self {
        self.arrival = Some(arrival);
        self
    }
}

/// An event of one shard, as Lambda sends it.
#[derive(Debug, Clone)]
pub struct Event {
    shard_id: String,
    timeout: Duration,
    now: Option<SystemTime>,
    report_batch_item_failures: bool,
    records: Vec<TestRecord>,
    window: Option<TestWindow>,
}

#[derive(Debug, Clone)]
struct TestWindow {
    start: String,
    end: String,
    state: Value,
    is_final: bool,
    terminated_early: bool,
}

impl Default for Event {
    fn default() -> Self {
        Self::new()
    }
}

impl Event {
    /// An event without records, of `shardId-000000000000`, for a function with a timeout of 60 s.
    pub fn new() -> Self {
        Self {
            shard_id: "shardId-000000000000".to_owned(),
            timeout: Duration::from_secs(60),
            now: None,
            report_batch_item_failures: true,
            records: Vec::new(),
            window: None,
        }
    }

    /// Makes it an event of the tumbling window from `start` to `end` (RFC 3339 in UTC) with this
    /// state so far; `json!({})` is what Lambda begins with.
    pub fn window(
        mut self,
        start: impl Into<String>,
        end: impl Into<String>,
        state: Value,
    ) -> Self {
        let (start, end) = (start.into(), end.into());
        self.window =
            Some(TestWindow { start, end, state, is_final: false, terminated_early: false });
        self
    }

    /// Makes it the last event of its window.
    pub fn final_invoke(mut self) -> Self {
        if let Some(window) = &mut self.window {
            window.is_final = true;
        }
        self
    }

    /// Makes it the last event of a window that Lambda ended early, because its state grew over 1
    /// MB.
    pub fn terminated_early(mut self) -> Self {
        if let Some(window) = &mut self.window {
            window.terminated_early = true;
        }
        self.final_invoke()
    }

    /// Adds a record after those there are.
    pub fn record(mut self, record: TestRecord) -> Self {
        self.records.push(record);
        self
    }

    /// The shard the records are read from.
    pub fn shard_id(mut self, shard_id: impl Into<String>) -> Self {
        self.shard_id = shard_id.into();
        self
    }

    /// The function's timeout: the invocation's deadline is that far away.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The time of day at which the event arrives; the machine's by default.
    pub fn arrives_at(mut self, now: SystemTime) -> Self {
        self.now = Some(now);
        self
    }

    /// An event source mapping that does not report batch item failures: any failure has to fail
    /// the invocation.
    pub fn without_batch_item_failures(mut self) -> Self {
        self.report_batch_item_failures = false;
        self
    }

    /// The sequence number of the record at `index`, counted from 0: 56 digits, increasing.
    pub fn sequence_number(&self, index: usize) -> String {
        format!("49590338271490256608559692538361{index:024}")
    }

    /// The event's JSON, byte for byte in the layout in which Lambda writes it.
    pub fn to_json(&self) -> String {
        let text = |text: &str| Value::from(text).to_string();
        let record = |(index, record): (usize, &TestRecord)| {
            let sequence_number = self.sequence_number(index);
            let arrival = record.arrival.unwrap_or_else(SystemTime::now);
            let milliseconds = arrival.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
            let partition_key = match &record.partition_key {
                PartitionKey::OfItsOwn => text(&format!("partition-key-{index}")),
                PartitionKey::Set(key) => text(key),
                PartitionKey::Null => "null".to_owned(),
            };
            format!(
                r#"{{"kinesis":{{"kinesisSchemaVersion":"1.0","partitionKey":{},"sequenceNumber":"{sequence_number}","data":"{}","approximateArrivalTimestamp":{}.{:03}}},"eventSource":"aws:kinesis","eventVersion":"1.0","eventID":{},"eventName":"aws:kinesis:record","invokeIdentityArn":"arn:aws:iam::123456789012:role/test","awsRegion":"us-east-1","eventSourceARN":"{STREAM_ARN}"}}"#,
                partition_key,
                base64_simd::STANDARD.encode_to_string(&record.data),
                milliseconds / 1000,
                milliseconds % 1000,
                text(&format!("{}:{sequence_number}", self.shard_id)),
            )
        };
        let records: Vec<String> = self.records.iter().enumerate().map(record).collect();
        let mut event = format!(r#"{{"Records":[{}]"#, records.join(","));
        if let Some(window) = &self.window {
            event += &format!(
                r#","window":{{"start":{},"end":{}}},"state":{},"shardId":{},"eventSourceARN":"{STREAM_ARN}","isFinalInvokeForWindow":{},"isWindowTerminatedEarly":{}"#,
                text(&window.start),
                text(&window.end),
                window.state,
                text(&self.shard_id),
                window.is_final,
                window.terminated_early,
            );
        }
        event + "}"
    }
}

/// Runs a handler on an event and returns what Lambda would be told.
///
/// Deadlines run on Tokio's clock, so a test that
/// [pauses](https://docs.rs/tokio/latest/tokio/time/fn.pause.html) it takes no time.
pub async fn invoke<H: Handler>(handler: &H, event: impl Borrow<Event>) -> Answer {
    let event = event.borrow();
    invoke_json(handler, event.to_json(), event).await
}

/// Runs a handler on the bytes of an event, however broken; the [`Event`] says under which
/// conditions.
pub async fn invoke_json<H: Handler>(
    handler: &H,
    body: impl Into<Vec<u8>>,
    conditions: &Event,
) -> Answer {
    let lines = Lines::default();
    let sink = lines.clone();
    let subscriber = Format::text().subscriber(move |line: &str| sink.add(line));
    let function = Function {
        handler: ByReference(handler),
        names: metrics::Names {
            metric: "test".to_owned(),
            stack: "test".to_owned(),
            version: None,
            level: "INFO",
        },
        report: conditions.report_batch_item_failures,
    };
    let clock = Clock::tokio(conditions.now.unwrap_or_else(SystemTime::now));
    let deadline = clock.time_of_day() + conditions.timeout;
    let context = Context::new("test-request".to_owned(), FUNCTION_ARN.to_owned(), deadline, clock);
    let body = Bytes::from(body.into());
    let finished = function.invoke(body, context).with_subscriber(subscriber).await;

    let answer = match finished.answer {
        Ok(response) => Ok(json!(response)),
        Err(diagnostic) => {
            Err(InvocationError { kind: diagnostic.error_type, message: diagnostic.error_message })
        }
    };
    let metrics =
        finished.metrics.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    Answer { answer, logs: lines.text(), metrics }
}

/// The batch that a handler is given for the bytes of an event, such as one that was recorded.
///
/// ```
/// use streambot_runtime::testing::{decode, records};
///
/// let batch = decode(records(["a", "b"]).to_json())?;
/// assert_eq!(batch.iter().map(|record| record.data().to_vec()).collect::<Vec<_>>(), [b"a", b"b"]);
/// # Ok::<(), streambot_runtime::Error>(())
/// ```
///
/// # Errors
///
/// When the bytes are no event of a Kinesis event source mapping. A record that cannot be read is
/// one of the batch's all the same; [`each`](crate::each) and [`batch`](crate::batch) take it for a
/// failed one.
pub fn decode(body: impl Into<Bytes>) -> Result<Batch, Error> {
    Ok(event::decode(body.into())?)
}

/// What Lambda is told of an invocation, and what the invocation left behind.
#[derive(Debug, Clone)]
pub struct Answer {
    answer: Result<Value, InvocationError>,
    logs: String,
    /// The metric lines.
    metrics: Vec<Value>,
}

/// A failed invocation: all of its records are delivered again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind}: {message}")]
pub struct InvocationError {
    kind: String,
    message: String,
}

impl InvocationError {
    /// The error type Lambda is told, such as `Function.Panicked`.
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// The error message Lambda is told.
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl Answer {
    /// The answer's JSON, or the error that fails the invocation.
    ///
    /// # Errors
    ///
    /// When the function answered with an error.
    pub fn json(&self) -> Result<&Value, InvocationError> {
        self.answer.as_ref().map_err(Clone::clone)
    }

    /// Whether all records are done.
    pub fn succeeded(&self) -> bool {
        self.answer.is_ok() && self.retried_from().is_none()
    }

    /// The sequence number Lambda delivers again from, where the function reported one.
    pub fn retried_from(&self) -> Option<String> {
        let failures = self.answer.as_ref().ok()?.get("batchItemFailures")?;
        Some(failures.get(0)?.get("itemIdentifier")?.as_str()?.to_owned())
    }

    /// The state of the tumbling window, as Lambda hands it to the window's next batch.
    pub fn state(&self) -> Option<&Value> {
        self.answer.as_ref().ok()?.get("state")
    }

    /// The log lines of the invocation, in the text format at level `INFO`.
    pub fn logs(&self) -> &str {
        &self.logs
    }

    /// The value of a metric, by its name: your own, or one of [Streambot's](crate::metrics).
    pub fn metric(&self, name: &str) -> Option<f64> {
        self.metrics.iter().find_map(|line| line.get(name)?.as_f64())
    }

    /// The value of the dimension `Status`: `Success` or `Error`.
    pub fn status(&self) -> &str {
        self.metrics.iter().find_map(|line| line.get("Status")?.as_str()).unwrap_or_default()
    }
}

/// The log lines that `work` writes, in the text format.
#[cfg(test)]
pub(crate) fn lines_of(work: impl FnOnce()) -> String {
    let lines = Lines::default();
    let sink = lines.clone();
    let subscriber = Format::text().subscriber(move |line: &str| sink.add(line));
    tracing::subscriber::with_default(subscriber, work);
    lines.text()
}

/// A handler that is only borrowed.
struct ByReference<'a, H>(&'a H);

impl<H: Handler> Handler for ByReference<'_, H> {
    async fn handle(
        &self,
        batch: crate::Batch,
        context: Context,
    ) -> Result<crate::Outcome, crate::Error> {
        self.0.handle(batch, context).await
    }
}

/// Log lines gathered in memory.
#[derive(Debug, Clone, Default)]
struct Lines(Arc<Mutex<String>>);

impl Lines {
    fn add(&self, line: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push_str(line);
    }

    fn text(&self) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
