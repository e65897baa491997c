//! What a shard holds and what a function is sent: [`Record`], its [`SequenceNumber`], the
//! [`ShardId`] it lies in, and the [`Batch`] of records one invocation carries. Values only: it
//! does not know where records come from or where they go.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

/// A record's place in its shard: a decimal number of up to 129 digits without leading zeros,
/// compared as a number.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct SequenceNumber(Arc<str>);

impl SequenceNumber {
    /// Takes the digits as they are.
    pub(crate) fn new(digits: &str) -> SequenceNumber {
        SequenceNumber(digits.into())
    }

    /// The digits, as they stand in an event.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl Ord for SequenceNumber {
    fn cmp(&self, other: &SequenceNumber) -> Ordering {
        compare_digits(&self.0, &other.0)
    }
}

impl PartialOrd for SequenceNumber {
    fn partial_cmp(&self, other: &SequenceNumber) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for SequenceNumber {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Without leading zeros, the number with more digits is the larger one.
fn compare_digits(left: &str, right: &str) -> Ordering {
    left.len().cmp(&right.len()).then_with(|| left.cmp(right))
}

/// The name of a shard: `shardId-` and twelve digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ShardId(Arc<str>);

impl ShardId {
    /// The name Kinesis gives the shard with this number, counted from 0.
    pub(crate) fn numbered(number: usize) -> ShardId {
        ShardId(format!("shardId-{number:012}").into())
    }

    /// A shard of a real stream, by the name it has there.
    pub(crate) fn named(name: &str) -> ShardId {
        ShardId(name.into())
    }

    /// The name, as it stands in an event.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ShardId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// One record of a shard.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    /// Where it stands in its shard.
    pub(crate) sequence_number: SequenceNumber,
    /// What routed it to its shard and orders it; `None` if the stream distributed it without a
    /// key.
    pub(crate) partition_key: Option<Arc<str>>,
    /// The bytes the producer put.
    pub(crate) data: Bytes,
    /// When it reached the stream, in milliseconds since the Unix epoch.
    pub(crate) arrival: u64,
    /// What it is encrypted with in the stream, such as `KMS`.
    pub(crate) encryption_type: Option<Arc<str>>,
    /// The bytes it takes in an event, encoded; what the 6 MB limit is measured by.
    pub(crate) encoded_len: usize,
}

impl Record {
    /// Records that share it are sent in order: the partition key, or the record's own number if it
    /// does not have one.
    pub(crate) fn ordering_key(&self) -> &str {
        self.partition_key.as_deref().unwrap_or(self.sequence_number.as_str())
    }
}

/// Consecutive records of one lane, sent in one invocation; cheap to clone and to cut.
#[derive(Clone, Debug)]
pub(crate) struct Batch {
    records: Arc<[Record]>,
    start: usize,
    end: usize,
}

impl Batch {
    /// A batch of these records, which must be in the order of their sequence numbers.
    pub(crate) fn new(records: impl Into<Arc<[Record]>>) -> Batch {
        let records = records.into();
        Batch { start: 0, end: records.len(), records }
    }

    /// The records, in order.
    pub(crate) fn records(&self) -> &[Record] {
        &self.records[self.start..self.end]
    }

    /// How many records there are.
    pub(crate) fn len(&self) -> usize {
        self.end - self.start
    }

    /// Whether nothing is left.
    pub(crate) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Cuts the batch in two: the first `count` records, and the rest.
    pub(crate) fn split_at(&self, count: usize) -> (Batch, Batch) {
        let middle = self.start + count.min(self.len());
        let first = Batch { records: Arc::clone(&self.records), start: self.start, end: middle };
        let rest = Batch { records: Arc::clone(&self.records), start: middle, end: self.end };
        (first, rest)
    }

    /// Where in the batch the record with exactly this sequence number stands.
    pub(crate) fn position(&self, sequence_number: &str) -> Option<usize> {
        self.records()
            .binary_search_by(|record| {
                compare_digits(record.sequence_number.as_str(), sequence_number)
            })
            .ok()
    }
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;

    /// A record numbered `number`, of this key, that arrived at `arrival`.
    pub(crate) fn record(number: u64, partition_key: &str, arrival: u64) -> Record {
        Record {
            sequence_number: SequenceNumber::new(&number.to_string()),
            partition_key: Some(partition_key.into()),
            data: Bytes::from(number.to_string()),
            arrival,
            encryption_type: None,
            encoded_len: 1,
        }
    }

    /// A batch of records with these sequence numbers.
    pub(crate) fn batch(numbers: impl IntoIterator<Item = u64>) -> Batch {
        Batch::new(numbers.into_iter().map(|number| record(number, "key", 0)).collect::<Vec<_>>())
    }
}

#[cfg(test)]
mod tests {
    use super::testing::{batch, record};
    use super::*;

    #[test]
    fn sequence_numbers_compare_as_numbers() {
        assert!(SequenceNumber::new("9") < SequenceNumber::new("10"));
        assert!(SequenceNumber::new("4959") < SequenceNumber::new("4960"));
    }

    #[test]
    fn a_record_is_found_by_its_exact_digits_in_what_is_left_of_a_batch() {
        let (_, rest) = batch([8, 9, 10, 11]).split_at(1);
        assert_eq!(rest.position("9"), Some(0));
        assert_eq!(rest.position("11"), Some(2));
        assert_eq!(rest.position("8"), None);
        assert_eq!(rest.position("09"), None);
        assert_eq!(rest.position(""), None);
    }

    #[test]
    fn records_without_a_partition_key_are_not_ordered_among_each_other() {
        let [first, second] =
            [1, 2].map(|number| Record { partition_key: None, ..record(number, "key", 0) });
        assert_ne!(first.ordering_key(), second.ordering_key());
        assert_eq!(record(1, "key", 0).ordering_key(), record(2, "key", 0).ordering_key());
    }

    #[test]
    fn a_shard_is_named_as_kinesis_names_it() {
        assert_eq!(ShardId::numbered(3).as_str(), "shardId-000000000003");
    }
}
