//! Why an event or one of its records cannot be read. No message repeats a value of the event.

/// Why a whole event could not be read: no record of it can be handled.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EventError {
    #[error("failed to read the invocation's event: it is not JSON")]
    NotJson(#[source] serde_json::Error),
    #[error(
        "failed to read the invocation's event: the function expects to be invoked by a Kinesis event source mapping, \
         and this is not a Kinesis event"
    )]
    NotKinesis(#[source] serde_json::Error),
    #[error(
        "failed to read the invocation's event: it is not a JSON object, so it is not a Kinesis event"
    )]
    NotAnObject,
    #[error(
        "failed to read the invocation's event: it has no `Records`; the function expects to be invoked by a Kinesis \
         event source mapping"
    )]
    NoRecords,
    #[error(
        "failed to read record {index} of the event: it comes from {source_name}, not from `aws:kinesis`; \
         remove that other trigger from the function"
    )]
    OtherSource { index: usize, source_name: String },
    #[error(
        "failed to read the invocation's event: its {0} bytes are more than the 2 GiB an event may have"
    )]
    TooLarge(usize),
}

impl EventError {
    /// The error for a record of another event source, which is named only if it looks like a name
    /// of AWS.
    pub(super) fn other_source(index: usize, source: &str) -> Self {
        let service = source.strip_prefix("aws:").unwrap_or_default();
        let is_name = (1..=32).contains(&service.len())
            && service.bytes().all(|byte| byte.is_ascii_lowercase());
        let source_name = if is_name { format!("`{source}`") } else { "another source".to_owned() };
        Self::OtherSource { index, source_name }
    }
}

/// Why one record of an event could not be read. It does not affect the other records.
#[derive(Debug, Clone, thiserror::Error)]
#[error("failed to read record {index} of the event ({event_id}): {reason}")]
pub(crate) struct RecordFault {
    /// The index of the record in the event, counted from 0.
    pub(crate) index: usize,
    event_id: String,
    reason: String,
    is_undecodable: bool,
}

impl RecordFault {
    /// `event_id` is empty if the record does not have one.
    pub(super) fn new(index: usize, event_id: &str, reason: String) -> Self {
        let event_id = if event_id.is_empty() { "no event id" } else { event_id }.to_owned();
        Self { index, event_id, reason, is_undecodable: true }
    }

    /// The same for a record that can be read if it is delivered again.
    pub(super) fn of_good_data(self) -> Self {
        Self { is_undecodable: false, ..self }
    }

    /// Whether the record can never be read, however often it is delivered. If not, it must not be
    /// skipped.
    pub(crate) fn is_undecodable(&self) -> bool {
        self.is_undecodable
    }
}
