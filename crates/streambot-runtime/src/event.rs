//! The bytes of one Kinesis invocation, decoded once into a [`Batch`]. It knows how Lambda writes such an event and
//! which of its records cannot be read; it refuses to know what happens to the records afterwards.
//!
//! Shape of the event:
//! <https://docs.aws.amazon.com/lambda/latest/dg/with-kinesis.html#kinesis-event-example>.

mod compact;
mod general;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use serde_json::value::RawValue;

use self::general::RawEvent;
use crate::aggregation::{self, Aggregate};
use crate::record::Record;

/// So that 32 bits count the bytes of body and arena, which is never the larger one. Lambda's own limit is 6 MB.
const MOST_BYTES: usize = i32::MAX as usize;

/// The records of one invocation: all of one shard, in the order of their sequence numbers.
///
/// A batch is cheap to clone, and so is each of its [records](Record): all of them share the event's buffers.
///
/// ```
/// # fn show(batch: streambot_runtime::Batch) {
/// for record in &batch {
///     println!("{}: {} bytes", record.event_id(), record.data().len());
/// }
/// # }
/// ```
#[derive(Clone)]
pub struct Batch {
    event: Arc<Event>,
    len: usize,
    window: Option<Arc<WindowFrame>>,
}

/// What an event says of the tumbling window it belongs to.
#[derive(Debug, Clone)]
pub(crate) struct WindowFrame {
    pub(crate) start: String,
    pub(crate) end: String,
    pub(crate) shard_id: String,
    pub(crate) state: Box<RawValue>,
    pub(crate) is_final: bool,
    pub(crate) terminated_early: bool,
}

impl Batch {
    fn new(
        body: Bytes,
        arena: Vec<u8>,
        entries: Vec<Entry>,
        source_arn: Option<String>,
        window: Option<WindowFrame>,
    ) -> Self {
        let len = entries.len();
        let event = Event { body, arena: Bytes::from(arena), entries, source_arn };
        Self { event: Arc::new(event), len, window: window.map(Arc::new) }
    }

    /// How many records the batch holds: 0 to 10,000.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the batch holds no record.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The record at `index`, counted from 0; `None` past the end.
    pub fn get(&self, index: usize) -> Option<Record> {
        (index < self.len).then(|| self.record(index))
    }

    /// The record at an index that is known to be one of the batch.
    pub(crate) fn record(&self, index: usize) -> Record {
        Record::new(Arc::clone(&self.event), index)
    }

    /// The records in the order of their sequence numbers.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Record> + '_ {
        (0..self.len).map(|index| self.record(index))
    }

    /// The shard all records come from, such as `shardId-000000000000`; `None` for a batch without records that is of no
    /// tumbling window.
    pub fn shard_id(&self) -> Option<String> {
        let first = self.get(0).map(|record| record.shard_id().to_owned());
        first.or_else(|| self.window.as_ref().map(|window| window.shard_id.clone()))
    }

    /// The ARN of the stream (or of its consumer) the records come from; `None` where the event does not say.
    pub fn event_source_arn(&self) -> Option<&str> {
        self.event.source_arn.as_deref()
    }

    /// The batch with every KPL aggregated record replaced by the user records in it, in their order. They share the
    /// aggregate's sequence number, so a failure of one of them brings the whole aggregate back.
    ///
    /// [`each`](crate::each) and [`batch`](crate::batch) do this by themselves; a [`Handler`](crate::Handler) of your own
    /// is given the records as they were put.
    pub fn deaggregated(self) -> Batch {
        let event = Arc::clone(&self.event);
        let may_be_aggregate = |entry: &Entry| aggregation::begins_with_magic(event.bytes(entry.data));
        if !self.entries().iter().any(may_be_aggregate) {
            return self;
        }
        let mut entries = Vec::with_capacity(self.len);
        for (index, entry) in self.entries().iter().enumerate() {
            let Some(aggregate) = Aggregate::read(event.bytes(entry.data)) else {
                entries.push(entry.clone());
                continue;
            };
            entries.reserve(aggregate.len());
            for (sub_sequence_number, user_record) in (0u64..).zip(aggregate.user_records()) {
                match user_record {
                    Ok(record) => entries.push(Entry {
                        data: event.span_of(record.data),
                        partition_key: event.span_of(record.partition_key),
                        explicit_hash_key: record.explicit_hash_key.map(|key| event.span_of(key)),
                        sub_sequence_number: sub_sequence_number as u32,
                        ..entry.clone()
                    }),
                    Err(damage) => {
                        let event_id = event.text(entry.event_id).to_owned();
                        let fault = RecordFault { index, event_id, reason: damage.to_string() };
                        let sub_sequence_number = sub_sequence_number as u32;
                        entries.push(Entry { sub_sequence_number, fault: Some(Box::new(fault)), ..entry.clone() });
                        break;
                    }
                }
            }
        }
        let len = entries.len();
        let (body, arena, source_arn) = (event.body.clone(), event.arena.clone(), event.source_arn.clone());
        Batch { event: Arc::new(Event { body, arena, entries, source_arn }), len, window: self.window }
    }

    /// The tumbling window the batch belongs to, where the event source mapping has one.
    pub(crate) fn window(&self) -> Option<&Arc<WindowFrame>> {
        self.window.as_ref()
    }

    /// Whether `record` is one of this very batch, not of another one that happens to look alike.
    pub(crate) fn owns(&self, record: &Record) -> bool {
        Arc::ptr_eq(&self.event, record.event()) && record.index() < self.len
    }

    /// The batch up to its first unreadable record, and that record.
    pub(crate) fn split_at_fault(&self) -> (Batch, Option<Record>) {
        let fault = self.entries().iter().position(|entry| entry.fault.is_some());
        let len = fault.unwrap_or(self.len);
        (self.prefix(len), fault.and_then(|index| self.get(index)))
    }

    /// The first `len` records of the batch, or all of them if it has fewer.
    ///
    /// Its records are records of this batch, too.
    pub(crate) fn prefix(&self, len: usize) -> Batch {
        Batch { len: len.min(self.len), ..self.clone() }
    }

    /// The index of the first record that came in the same Kinesis record as the one at `index`.
    ///
    /// For a user record, that is the first one of its aggregate; for any other record, `index` itself.
    pub(crate) fn start_of_record(&self, index: usize) -> usize {
        let record = self.event.entry(index).record;
        let ahead = self.event.entries[..index].iter().rev();
        index - ahead.take_while(|entry| entry.record == record).count()
    }

    /// Which Kinesis record of the event the record at `index` came in, counted from 0.
    pub(crate) fn kinesis_index(&self, index: usize) -> usize {
        self.event.entry(index).record as usize
    }

    /// When the oldest of the readable records arrived.
    pub(crate) fn oldest_arrival(&self) -> Option<SystemTime> {
        let readable = self.entries().iter().filter(|entry| entry.fault.is_none());
        readable.map(Entry::arrival_time).min()
    }

    /// The partition keys of the records, in their order.
    pub(crate) fn partition_keys(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.entries().iter().map(|entry| self.event.bytes(entry.partition_key))
    }

    fn entries(&self) -> &[Entry] {
        &self.event.entries[..self.len]
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(self.iter()).finish()
    }
}

impl IntoIterator for &Batch {
    type Item = Record;
    type IntoIter = Records;

    fn into_iter(self) -> Records {
        Records { batch: self.clone(), next: 0 }
    }
}

impl IntoIterator for Batch {
    type Item = Record;
    type IntoIter = Records;

    fn into_iter(self) -> Records {
        Records { batch: self, next: 0 }
    }
}

/// The records of a [`Batch`], one after the other.
#[derive(Debug)]
pub struct Records {
    batch: Batch,
    next: usize,
}

impl Iterator for Records {
    type Item = Record;

    fn next(&mut self) -> Option<Record> {
        let record = self.batch.get(self.next)?;
        self.next += 1;
        Some(record)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.batch.len - self.next;
        (left, Some(left))
    }
}

impl ExactSizeIterator for Records {}

/// Why a whole event could not be read, so that no record of it could be handed on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EventError {
    #[error("failed to read the invocation's event: it is not JSON")]
    NotJson(#[source] serde_json::Error),
    #[error(
        "failed to read the invocation's event: the function expects to be invoked by a Kinesis event source mapping, \
         and this is no Kinesis event"
    )]
    NotKinesis(#[source] serde_json::Error),
    #[error("failed to read the invocation's event: it is not a JSON object, so it is no Kinesis event")]
    NotAnObject,
    #[error(
        "failed to read the invocation's event: it has no `Records`; the function expects to be invoked by a Kinesis \
         event source mapping"
    )]
    NoRecords,
    #[error(
        "failed to read record {index} of the event: it comes from `{source_name}`, not from `aws:kinesis`; \
         remove that other trigger from the function"
    )]
    OtherSource { index: usize, source_name: String },
    #[error("failed to read the invocation's event: its {0} bytes are more than the 2 GiB an event may have")]
    TooLarge(usize),
}

/// Why one record of an event could not be read. The others are not touched by it.
#[derive(Debug, Clone, thiserror::Error)]
#[error("failed to read record {index} of the event ({event_id}): {reason}")]
pub(crate) struct RecordFault {
    /// The place of the record in the event, counted from 0.
    pub(crate) index: usize,
    event_id: String,
    reason: String,
}

/// A decoded event: the two buffers that every record of it points into.
pub(crate) struct Event {
    /// The invocation's body as it arrived; fields without escapes point here.
    body: Bytes,
    /// Decoded data, and fields that had escapes.
    arena: Bytes,
    entries: Vec<Entry>,
    source_arn: Option<String>,
}

/// Where the fields of one record stand in the event's buffers.
#[derive(Clone)]
pub(crate) struct Entry {
    pub(crate) data: Span,
    pub(crate) partition_key: Span,
    pub(crate) explicit_hash_key: Option<Span>,
    pub(crate) sequence_number: Span,
    /// The index of the Kinesis record in the event; the user records of an aggregate share it.
    pub(crate) record: u32,
    /// The index of a user record in its aggregate; 0 for any other record.
    pub(crate) sub_sequence_number: u32,
    pub(crate) event_id: Span,
    /// Milliseconds since the epoch.
    pub(crate) arrival: u64,
    pub(crate) fault: Option<Box<RecordFault>>,
}

impl Entry {
    pub(crate) fn arrival_time(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(self.arrival)
    }
}

/// A range of bytes in the event's two buffers, counted as if the arena stood behind the body.
#[derive(Clone, Copy)]
pub(crate) struct Span {
    start: u32,
    end: u32,
}

impl Span {
    const EMPTY: Span = Span { start: 0, end: 0 };
}

impl Event {
    pub(crate) fn entry(&self, index: usize) -> &Entry {
        &self.entries[index]
    }

    pub(crate) fn bytes(&self, span: Span) -> &[u8] {
        let (buffer, range) = self.place(span);
        &buffer[range]
    }

    fn place(&self, span: Span) -> (&Bytes, Range<usize>) {
        let (start, end, body) = (span.start as usize, span.end as usize, self.body.len());
        if start < body { (&self.body, start..end) } else { (&self.arena, start - body..end - body) }
    }

    /// Where a part of the arena stands in it.
    fn span_of(&self, share: &[u8]) -> Span {
        if share.is_empty() {
            return Span::EMPTY;
        }
        let start = self.body.len() + share.as_ptr() as usize - self.arena.as_ptr() as usize;
        Span { start: start as u32, end: (start + share.len()) as u32 }
    }

    pub(crate) fn text(&self, span: Span) -> &str {
        std::str::from_utf8(self.bytes(span)).unwrap_or_default()
    }
}

/// Decodes the body of one invocation.
///
/// A record that cannot be read becomes a record with a fault; an event that cannot be read at all is an error.
///
/// Lambda writes one layout, which is [read in one pass](compact); what differs from it is read by [serde](general), to
/// the same result.
pub(crate) fn decode(body: Bytes) -> Result<Batch, EventError> {
    if body.len() > MOST_BYTES {
        return Err(EventError::TooLarge(body.len()));
    }
    let mut decoder = Decoder::new(&body);
    let window = match compact::read(&mut decoder)? {
        Some(rest) => decoder.take_rest(rest),
        None => {
            decoder = Decoder::new(&body);
            decoder.read_whole()?
        }
    };
    let Decoder { arena, entries, source_arn, .. } = decoder;
    Ok(Batch::new(body, arena, entries, source_arn, window))
}

/// Decodes by the general path alone, for tests to hold the other against.
#[cfg(any(test, fuzzing))]
pub(crate) fn decode_generally(body: Bytes) -> Result<Batch, EventError> {
    let mut decoder = Decoder::new(&body);
    let window = decoder.read_whole()?;
    let Decoder { arena, entries, source_arn, .. } = decoder;
    Ok(Batch::new(body, arena, entries, source_arn, window))
}

/// What has been read of an event so far.
struct Decoder<'a> {
    body: &'a [u8],
    arena: Vec<u8>,
    entries: Vec<Entry>,
    source_arn: Option<String>,
}

impl<'a> Decoder<'a> {
    fn new(body: &'a [u8]) -> Self {
        Self { body, arena: Vec::with_capacity(body.len() / 4 * 3), entries: Vec::new(), source_arn: None }
    }

    /// Takes what stands behind the records.
    fn take_rest(&mut self, mut rest: RawEvent<'_>) -> Option<WindowFrame> {
        self.source_arn = rest.source_arn.take().or(self.source_arn.take());
        rest.window()
    }

    fn read_whole(&mut self) -> Result<Option<WindowFrame>, EventError> {
        let mut raw = RawEvent::of(self.body)?;
        let records = raw.records.take().ok_or(EventError::NoRecords)?;
        self.entries.reserve_exact(records.len());
        for (index, record) in records.into_iter().enumerate() {
            self.record(index, record)?;
        }
        Ok(self.take_rest(raw))
    }
}
