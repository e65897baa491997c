//! The response of an invocation: which outcome of a batch can be reported as a partial batch
//! response, and which has to fail the whole invocation.
//!
//! <https://docs.aws.amazon.com/lambda/latest/dg/services-kinesis-batchfailurereporting.html>

mod failures;

use std::time::Duration;

use serde::Serialize;
use serde_json::value::RawValue;

pub use self::failures::Failures;
use crate::record::Record;

/// What a handler made of a batch.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The first record not done, from which Lambda has to deliver again.
    pub(crate) retry_from: Option<Record>,
    /// How many Kinesis records failed. None of them failed if a deadline merely cut the batch
    /// short.
    pub(crate) failed: usize,
    /// Set if the deadline cut the batch short.
    pub(crate) cut: Option<Cut>,
    /// How many user records the handler was given; all of the batch if it does not say.
    pub(crate) user_records: Option<usize>,
    /// The state of the tumbling window; without one the event's own is given back.
    pub(crate) state: Option<Box<RawValue>>,
}

/// How the deadline cut a batch short.
#[derive(Debug)]
pub(crate) struct Cut {
    /// The names of the first few records that were running and were dropped.
    pub(crate) dropped: Vec<String>,
    /// How many Kinesis records were dropped.
    pub(crate) unfinished: usize,
    /// How many user records of the first Kinesis record not done are done, and how many it has.
    pub(crate) done_of_first: (usize, usize),
    /// Whether the first record not done failed on its own, rather than for want of time.
    pub(crate) first_failed: bool,
    /// How long the invocation had.
    pub(crate) allotted: Duration,
}

impl Outcome {
    /// Every record is done.
    pub fn done() -> Self {
        Self::default()
    }

    /// The first record that is not done, from which Lambda delivers again; `None` if all are done.
    pub fn retry_from(&self) -> Option<&Record> {
        self.retry_from.as_ref()
    }

    /// How many Kinesis records failed: 0 for a batch that is done, or that its deadline cut short.
    pub fn failed(&self) -> usize {
        self.failed
    }

    /// How many Kinesis records were dropped because they were still running when the deadline
    /// came.
    pub fn unfinished(&self) -> usize {
        self.cut.as_ref().map_or(0, |cut| cut.unfinished)
    }

    /// Whether the response may be counted as a success: every record is done, or the deadline cut
    /// the batch and none failed.
    pub(crate) fn is_success(&self) -> bool {
        self.failed == 0 && (self.retry_from.is_none() || self.cut.is_some())
    }
}

/// The largest response in bytes that Lambda takes from a function: 6 MB and 100 bytes.
///
/// <https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html>; the exact number is
/// the one in Lambda's own message, "exceeded maximum allowed payload size (6291556 bytes)".
const MAX_RESPONSE_BYTES: usize = 6 * 1024 * 1024 + 100;

/// What a response holds besides the window's state takes fewer bytes than this.
const MAX_BYTES_BESIDE_STATE: usize = 1024;

/// The response to an invocation, as Lambda reads it.
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
        "{failed} record(s) failed and delivery has to resume at {event_id}, but the event source mapping does not \
         report batch item failures (STREAMBOT_REPORT_BATCH_ITEM_FAILURES is not true), so the whole batch fails and \
         is delivered again"
    )]
    ReportingOff { failed: usize, event_id: String },
    #[error(
        "record {index} of the batch is not done and has no sequence number to report, so the whole batch fails"
    )]
    NoSequenceNumber { index: usize },
    #[error(
        "no progress: the deadline came before the first record of the batch ({event_id}) was done, so the whole batch \
         fails and is delivered again; after {allotted:?} {state}; raise the function's timeout, or make the handler faster"
    )]
    NoProgress { event_id: String, state: String, allotted: Duration },
    #[error(
        "the response has {bytes} bytes and Lambda takes at most {MAX_RESPONSE_BYTES} (6 MB), so the whole batch fails; \
         keep less in the window's state"
    )]
    TooLarge { bytes: usize },
}

impl Cut {
    /// What the invocation was at when the deadline came.
    fn state(&self) -> String {
        let (done, total) = self.done_of_first;
        match self.dropped.as_slice() {
            [] => format!(
                "{done} of its {total} user records were done, and no other could be started in time"
            ),
            dropped => format!("these records were running: {}", dropped.join(", ")),
        }
    }
}

impl Response {
    /// The response to an outcome.
    ///
    /// An outcome fails the whole invocation if Lambda would take its report for a success (the
    /// event source mapping does not `report` batch item failures, and the records would be lost),
    /// and if the deadline came before the checkpoint moved: retries have to count, and to be seen.
    pub(crate) fn new(outcome: &mut Outcome, report: bool) -> Result<Self, Unreportable> {
        let failed =
            outcome.retry_from.as_ref().map(|record| item_failure(record, outcome, report));
        let batch_item_failures: Vec<_> = failed.transpose()?.into_iter().collect();
        let response = Self { batch_item_failures, state: outcome.state.take() };
        match response.oversize() {
            Some(bytes) => Err(Unreportable::TooLarge { bytes }),
            None => Ok(response),
        }
    }

    /// How many bytes the response has, if these are more than Lambda takes.
    fn oversize(&self) -> Option<usize> {
        let state_bytes = self.state.as_ref()?.get().len();
        if state_bytes < MAX_RESPONSE_BYTES - MAX_BYTES_BESIDE_STATE {
            return None;
        }
        let bytes = serde_json::to_vec(self).map_or(state_bytes, |body| body.len());
        (bytes > MAX_RESPONSE_BYTES).then_some(bytes)
    }
}

/// The item that names the first record not done.
fn item_failure(
    record: &Record,
    outcome: &Outcome,
    report: bool,
) -> Result<BatchItemFailure, Unreportable> {
    let event_id = || record.event_id().to_owned();
    if let Some(cut) = &outcome.cut
        && record.kinesis_index() == 0
        && !cut.first_failed
    {
        let (state, allotted) = (cut.state(), cut.allotted);
        return Err(Unreportable::NoProgress { event_id: event_id(), state, allotted });
    }
    if !report {
        return Err(Unreportable::ReportingOff { failed: outcome.failed, event_id: event_id() });
    }
    match record.sequence_number() {
        "" => Err(Unreportable::NoSequenceNumber { index: record.index() }),
        number => Ok(BatchItemFailure { item_identifier: number.to_owned() }),
    }
}
