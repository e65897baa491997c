//! The records of one invocation as handlers see them, and the helpers that checkpoints need.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use serde_json::value::RawValue;

use super::{Entry, Event};
use crate::record::Record;

/// The records of one invocation: all of one shard, in the order of their sequence numbers.
///
/// A batch is cheap to clone, and so is each of its [records](Record): all of them share the
/// event's buffers.
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
    pub(super) event: Arc<Event>,
    pub(super) len: usize,
    pub(super) window: Option<Arc<WindowFrame>>,
}

/// What an event says about its tumbling window.
#[derive(Debug, Clone)]
pub(crate) struct WindowFrame {
    pub(crate) start: String,
    pub(crate) end: String,
    pub(crate) shard_id: String,
    pub(crate) state: Box<RawValue>,
    pub(crate) is_final: bool,
    pub(crate) terminated_early: bool,
}

/// What orders a record among the others of its batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum OrderingKey<'a> {
    /// The record's partition key.
    Partition(&'a [u8]),
    /// The index of a record without a partition key: no other record has to wait for it.
    Alone(usize),
}

impl Batch {
    pub(super) fn new(
        body: Bytes,
        arena: Vec<u8>,
        entries: Vec<Entry>,
        source_arn: Option<String>,
        window: Option<WindowFrame>,
    ) -> Self {
        let len = entries.len();
        let event = Event { body, arena: arena.into(), entries, source_arn, is_unpacked: false };
        Self { event: Arc::new(event), len, window: window.map(Arc::new) }
    }

    /// The number of records: at most 10,000 from Lambda, and at most 250,000 after
    /// [deaggregation](Self::deaggregated).
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the batch has no records.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The record at `index`, counted from 0; `None` past the end.
    pub fn get(&self, index: usize) -> Option<Record> {
        (index < self.len).then(|| self.record(index))
    }

    /// The record at an index that is known to be in the batch.
    pub(crate) fn record(&self, index: usize) -> Record {
        Record::new(Arc::clone(&self.event), index)
    }

    /// The records in the order of their sequence numbers.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Record> + '_ {
        (0..self.len).map(|index| self.record(index))
    }

    /// The shard of the records, such as `shardId-000000000000`; `None` if the batch has no records
    /// and does not belong to a tumbling window.
    pub fn shard_id(&self) -> Option<String> {
        let first = self.get(0).map(|record| record.shard_id().to_owned());
        first.or_else(|| self.window.as_ref().map(|window| window.shard_id.clone()))
    }

    /// The ARN of the stream, or of the consumer for enhanced fan-out; `None` if the event does not
    /// have it.
    pub fn event_source_arn(&self) -> Option<&str> {
        self.event.source_arn.as_deref()
    }

    /// The tumbling window of the batch; `None` if the event source mapping does not have one.
    pub(crate) fn window(&self) -> Option<&Arc<WindowFrame>> {
        self.window.as_ref()
    }

    /// Whether `record` was taken from this batch, not from another one with the same content.
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
    /// For a user record, that is the first one of its aggregate; for any other record, `index`
    /// itself.
    pub(crate) fn start_of_record(&self, index: usize) -> usize {
        let record = self.event.entry(index).record;
        let ahead = self.event.entries[..index].iter().rev();
        index - ahead.take_while(|entry| entry.record == record).count()
    }

    /// The records that came in the same Kinesis record as the one at `index`.
    pub(crate) fn indexes_of_record(&self, index: usize) -> impl Iterator<Item = usize> {
        let record = self.kinesis_index(index);
        (self.start_of_record(index)..self.len)
            .take_while(move |index| self.kinesis_index(*index) == record)
    }

    /// Which Kinesis record of the event the record at `index` came in, counted from 0.
    pub(crate) fn kinesis_index(&self, index: usize) -> usize {
        self.event.entry(index).record as usize
    }

    /// When the oldest of the readable records arrived; `None` if no record has a known arrival
    /// time.
    pub(crate) fn oldest_arrival(&self) -> Option<SystemTime> {
        let readable = self.entries().iter().filter(|entry| entry.fault.is_none());
        readable.filter_map(|entry| entry.arrival.time()).min()
    }

    /// What orders the records, one key each, in their order.
    pub(crate) fn partition_keys(&self) -> impl ExactSizeIterator<Item = OrderingKey<'_>> {
        self.entries().iter().enumerate().map(|(index, entry)| {
            let key =
                entry.partition_key.map(|span| OrderingKey::Partition(self.event.bytes(span)));
            key.unwrap_or(OrderingKey::Alone(index))
        })
    }

    pub(super) fn entries(&self) -> &[Entry] {
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

/// An iterator over the records of a [`Batch`].
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

#[cfg(test)]
mod tests {
    use super::Batch;
    use crate::testing::{Event, aggregated, decode, record, records};

    /// A plain record, an aggregate of three, a plain record.
    fn mixed() -> Batch {
        let event = Event::new()
            .record(record("first"))
            .record(aggregated([("a", "one"), ("b", "two"), ("c", "three")]))
            .record(record("last"));
        decode(event.to_json()).expect("a good event").deaggregated()
    }

    #[test]
    fn user_records_know_their_kinesis_record_and_its_first_user_record() {
        let batch = mixed();
        let indexes = |index_of: fn(&Batch, usize) -> usize| {
            (0..batch.len()).map(|index| index_of(&batch, index)).collect::<Vec<_>>()
        };
        assert_eq!(indexes(Batch::kinesis_index), [0, 1, 1, 1, 2]);
        assert_eq!(indexes(Batch::start_of_record), [0, 1, 1, 1, 4]);
    }

    #[test]
    fn equal_sequence_numbers_are_two_kinesis_records() {
        let event = records(["a", "b"]);
        let json = event.to_json().replace(&event.sequence_number(1), &event.sequence_number(0));
        let batch = decode(json).expect("a good event");
        assert_eq!((batch.kinesis_index(1), batch.start_of_record(1)), (1, 1));
    }

    #[test]
    fn a_prefix_owns_its_records_and_no_others() {
        let batch = mixed();
        let prefix = batch.prefix(2);
        assert_eq!(prefix.len(), 2);
        assert!(prefix.owns(&batch.record(1)) && batch.owns(&prefix.record(1)));
        assert!(!prefix.owns(&batch.record(2)));
        assert_eq!(batch.prefix(100).len(), 5);
    }
}
