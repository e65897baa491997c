//! What Lambda is told about a batch. It knows the answer's JSON and when a partial answer is honoured; it refuses to
//! know how the records were worked on.
//!
//! <https://docs.aws.amazon.com/lambda/latest/dg/services-kinesis-batchfailurereporting.html>

use serde::Serialize;
use serde_json::value::RawValue;

use crate::Error;
use crate::record::Record;

/// What a handler made of a batch.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The first record not done, from which Lambda has to deliver again.
    pub(crate) retry_from: Option<Record>,
    /// How many records failed. None of them failed where a deadline merely cut the batch short.
    pub(crate) failed: usize,
    /// The state of the tumbling window; without one the event's own is given back.
    pub(crate) state: Option<Box<RawValue>>,
}

impl Outcome {
    /// Every record is done.
    pub fn done() -> Self {
        Self::default()
    }

    /// The first record that is not done, from which Lambda delivers again; `None` when all are done.
    pub fn retry_from(&self) -> Option<&Record> {
        self.retry_from.as_ref()
    }

    /// How many records failed: 0 for a batch that is done, or that its deadline cut short.
    pub fn failed(&self) -> usize {
        self.failed
    }
}

/// The records of a batch that a [`batch`](crate::batch) handler could not work on.
///
/// Lambda delivers again from the first of them on, whatever came of the records after it.
///
/// ```
/// # use streambot_runtime::{Batch, Failures};
/// # fn failures(batch: &Batch) -> Failures {
/// let mut failures = Failures::new();
/// for record in batch {
///     if record.data().len() > 1_000 {
///         failures.push(record);
///     }
/// }
/// # failures
/// # }
/// ```
#[derive(Debug, Clone, Default)]
pub struct Failures {
    pub(crate) records: Vec<Record>,
}

impl Failures {
    /// No failures yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a record of the batch; a record of another batch fails the whole invocation.
    pub fn push(&mut self, record: Record) {
        if !self.records.contains(&record) {
            self.records.push(record);
        }
    }

    /// Whether no record has failed.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// How many records have failed.
    pub fn len(&self) -> usize {
        self.records.len()
    }
}

impl From<()> for Failures {
    fn from((): ()) -> Self {
        Self::new()
    }
}

impl Extend<Record> for Failures {
    fn extend<I: IntoIterator<Item = Record>>(&mut self, records: I) {
        records.into_iter().for_each(|record| self.push(record));
    }
}

impl FromIterator<Record> for Failures {
    fn from_iter<I: IntoIterator<Item = Record>>(records: I) -> Self {
        let mut failures = Self::new();
        failures.extend(records);
        failures
    }
}

/// The answer to an invocation, as Lambda reads it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Response {
    batch_item_failures: Vec<BatchItemFailure>,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<Box<RawValue>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct BatchItemFailure {
    item_identifier: String,
}

/// Why an outcome has to fail the whole invocation.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unreportable {
    #[error(
        "{failed} record(s) failed, the first of them {event_id}, and the event source mapping does not report batch item \
         failures (STREAMBOT_REPORT_BATCH_ITEM_FAILURES is not true), so the whole batch fails and is delivered again"
    )]
    ReportingOff { failed: usize, event_id: String },
    #[error("record {index} of the batch is not done and has no sequence number to report, so the whole batch fails")]
    NoSequenceNumber { index: usize },
}

impl Response {
    /// The answer to an outcome. Where the event source mapping does not `report` batch item failures Lambda would take
    /// any answer for a success and the records would be lost, so there only an error will do.
    pub(crate) fn new(outcome: Outcome, report: bool) -> Result<Self, Error> {
        let state = outcome.state;
        let Some(record) = outcome.retry_from else {
            return Ok(Self { batch_item_failures: Vec::new(), state });
        };
        if !report {
            let event_id = record.event_id().to_owned();
            return Err(Unreportable::ReportingOff { failed: outcome.failed, event_id }.into());
        }
        if record.sequence_number().is_empty() {
            return Err(Unreportable::NoSequenceNumber { index: record.index() }.into());
        }
        let item_identifier = record.sequence_number().to_owned();
        Ok(Self { batch_item_failures: vec![BatchItemFailure { item_identifier }], state })
    }
}
