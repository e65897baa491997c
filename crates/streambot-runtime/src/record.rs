//! One record, and what a handler may take in its place: the [`Record`] itself, its text, or the
//! JSON in it. It knows how to turn a record into those; it refuses to know what a failure to do so
//! means for the batch.

use std::convert::Infallible;
use std::fmt;
use std::ops::Deref;
use std::str::Utf8Error;
use std::sync::Arc;
use std::time::SystemTime;

use crate::event::{Entry, Event, RecordFault};

/// One record of a Kinesis stream.
///
/// A record is cheap to clone and to send to another thread: it owns nothing but a share of the
/// event's buffers.
///
/// ```
/// use streambot_runtime::{Error, Record};
///
/// async fn archive(record: Record) -> Result<(), Error> {
///     let path = format!("/tmp/{}", record.sequence_number());
///     std::fs::write(path, record.data())?;
///     Ok(())
/// }
/// ```
#[derive(Clone)]
pub struct Record {
    event: Arc<Event>,
    index: usize,
}

impl Record {
    pub(crate) fn new(event: Arc<Event>, index: usize) -> Self {
        Self { event, index }
    }

    /// The data as its producer put it, decoded from base64: up to 1 MiB, or 10 MiB where the
    /// stream allows it.
    pub fn data(&self) -> &[u8] {
        self.event.bytes(self.entry().data)
    }

    /// The partition key that the producer chose, of up to 256 characters. A user record of a KPL
    /// aggregate has its own key, not the aggregate's. Records of one key are delivered in order.
    ///
    /// `None` if the record does not have one: an on-demand stream can distribute records by itself
    /// (`RecordDistributionStrategy=AUTO`), and then no key orders them.
    pub fn partition_key(&self) -> Option<&str> {
        self.entry().partition_key.map(|key| self.event.text(key))
    }

    /// The sequence number: a decimal number of up to 128 bits or more, strictly increasing within
    /// a shard.
    pub fn sequence_number(&self) -> &str {
        self.event.text(self.entry().sequence_number)
    }

    /// The place of a user record in the KPL aggregate it came in, counted from 0; 0, too, for a
    /// record put on its own. The sequence number and this one together are unique within a shard.
    pub fn sub_sequence_number(&self) -> u64 {
        u64::from(self.entry().sub_sequence_number)
    }

    /// The hash key that a KPL producer set for a user record in the partition key's stead: a
    /// 128-bit decimal number. Lambda does not tell it for records put on their own.
    pub fn explicit_hash_key(&self) -> Option<&str> {
        self.entry().explicit_hash_key.map(|span| self.event.text(span))
    }

    /// A name of the record that stays the same however often it is delivered: `<shard>:<sequence
    /// number>:<sub sequence number>`. Use it to do a thing only once; see [the
    /// recipe](crate#doing-a-thing-once).
    pub fn id(&self) -> String {
        format!("{}:{}", self.event_id(), self.sub_sequence_number())
    }

    /// Lambda's name of the record: `<shard id>:<sequence number>`, the same for all user records
    /// of one KPL aggregate.
    pub fn event_id(&self) -> &str {
        self.event.text(self.entry().event_id)
    }

    /// The shard the record was read from, such as `shardId-000000000000`.
    pub fn shard_id(&self) -> &str {
        self.event_id().split(':').next().unwrap_or_default()
    }

    /// When the stream received the record, in milliseconds. It is approximate: it does not always
    /// increase from record to record.
    ///
    /// `None` if the event does not say, or not as a number of seconds from 1970 to the year 9999.
    pub fn approximate_arrival(&self) -> Option<SystemTime> {
        self.entry().arrival.time()
    }

    /// A copy of the record with buffers of its own, for a record that outlives its batch.
    ///
    /// Every record holds all of the buffers of its event, of up to 6 MB and the data decoded from
    /// it. So 20 records of 4 bytes that are kept from 20 events hold up to 200 MB, and 20 detached
    /// ones a few kilobytes.
    ///
    /// A detached record has the same data, keys and [`id`](Self::id), but it is not a record of
    /// the batch any more: report the original one in [`Failures`](crate::Failures).
    ///
    /// ```
    /// use streambot_runtime::Record;
    /// use streambot_runtime::testing::{decode, records};
    ///
    /// let batch = decode(records(["a", "b"]).to_json())?;
    /// let kept: Vec<Record> = batch.iter().map(|record| record.detach()).collect();
    /// assert_eq!(kept[1].data(), b"b");
    /// assert_eq!(kept[1].id(), batch.get(1).unwrap().id());
    /// # Ok::<(), streambot_runtime::Error>(())
    /// ```
    pub fn detach(&self) -> Record {
        Self { event: Arc::new(self.event.only(self.index)), index: 0 }
    }

    pub(crate) fn index(&self) -> usize {
        self.index
    }

    /// Which Kinesis record of the event it came in, counted from 0.
    pub(crate) fn kinesis_index(&self) -> usize {
        self.entry().record as usize
    }

    pub(crate) fn event(&self) -> &Arc<Event> {
        &self.event
    }

    pub(crate) fn fault(&self) -> Option<&RecordFault> {
        self.entry().fault.as_deref()
    }

    fn entry(&self) -> &Entry {
        self.event.entry(self.index)
    }
}

/// Two records are equal when they are the same one of the same batch.
impl PartialEq for Record {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.event, &other.event) && self.index == other.index
    }
}

impl Eq for Record {}

impl fmt::Debug for Record {
    /// Names the record; its data may be confidential and is left out.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Record")
            .field("event_id", &self.event_id())
            .field("partition_key", &self.partition_key())
            .field("data_len", &self.data().len())
            .finish()
    }
}

/// What a handler of [`each`](crate::each) can take: anything that can be made from a [`Record`].
///
/// Implement it for a type of your own to decode, say, Protocol Buffers in one place:
///
/// ```
/// use streambot_runtime::{FromRecord, Record};
///
/// struct Reading(u32);
///
/// impl FromRecord for Reading {
///     type Rejection = std::array::TryFromSliceError;
///
///     fn from_record(record: Record) -> Result<Self, Self::Rejection> {
///         Ok(Reading(u32::from_be_bytes(record.data().try_into()?)))
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be made from a Kinesis record",
    note = "a handler takes a `Record`, a `Json<T>`, a `Utf8`, a pair of them, or a type that implements `FromRecord`"
)]
pub trait FromRecord: Sized {
    /// Why a record could not be turned into `Self`.
    type Rejection: std::error::Error + Send + Sync + 'static;

    /// Makes `Self` from a record.
    ///
    /// # Errors
    ///
    /// A rejection makes the record a failed one, unless the handler
    /// [skips what is undecodable](crate::Each::on_undecodable).
    fn from_record(record: Record) -> Result<Self, Self::Rejection>;
}

impl FromRecord for Record {
    type Rejection = Infallible;

    fn from_record(record: Record) -> Result<Self, Infallible> {
        Ok(record)
    }
}

/// Two views of one record, most often the record itself and what is in it.
///
/// ```
/// use streambot_runtime::{Error, Json, Record};
///
/// async fn store((record, order): (Record, Json<Vec<u32>>)) -> Result<(), Error> {
///     tracing::info!(id = record.id(), items = order.len());
///     Ok(())
/// }
/// ```
impl<A: FromRecord, B: FromRecord> FromRecord for (A, B) {
    type Rejection = PairRejection<A::Rejection, B::Rejection>;

    fn from_record(record: Record) -> Result<Self, Self::Rejection> {
        let first = A::from_record(record.clone()).map_err(PairRejection::First)?;
        let second = B::from_record(record).map_err(PairRejection::Second)?;
        Ok((first, second))
    }
}

/// Which half of a pair a record could not be turned into.
#[derive(Debug, thiserror::Error)]
pub enum PairRejection<A, B> {
    /// The first half.
    #[error(transparent)]
    First(A),
    /// The second half.
    #[error(transparent)]
    Second(B),
}

/// A record whose data is UTF-8 text; derefs to `str`.
///
/// ```
/// use streambot_runtime::{Error, Utf8};
///
/// async fn count_words(line: Utf8) -> Result<(), Error> {
///     tracing::info!(words = line.split_whitespace().count());
///     Ok(())
/// }
/// ```
#[derive(Debug, Clone)]
pub struct Utf8(Record);

impl FromRecord for Utf8 {
    type Rejection = Utf8Rejection;

    fn from_record(record: Record) -> Result<Self, Utf8Rejection> {
        match std::str::from_utf8(record.data()) {
            Ok(_) => Ok(Utf8(record)),
            Err(source) => Err(Utf8Rejection { source }),
        }
    }
}

impl Deref for Utf8 {
    type Target = str;

    fn deref(&self) -> &str {
        // Checking it again costs 20 ns for 200 bytes of ASCII, 180 ns for other text, and 1 ms for
        // a large record: as much as a quick handler takes.
        //
        // SAFETY: `from_record` makes the only `Utf8` values and has checked this data. A record
        // never gets other data, and the buffers of its event are never written to once it is
        // decoded.
        unsafe { std::str::from_utf8_unchecked(self.0.data()) }
    }
}

/// The record's data is not UTF-8 text.
#[derive(Debug, thiserror::Error)]
#[error("the data is not UTF-8 text")]
pub struct Utf8Rejection {
    source: Utf8Error,
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{FromRecord, Utf8};
    use crate::testing::{Event, aggregated, decode, record};

    #[test]
    fn text_is_what_was_put_and_other_data_is_refused() {
        let batch =
            decode(crate::testing::records(["schlüssel 🔑".as_bytes(), b"", b"\xff"]).to_json());
        let batch = batch.expect("a good event");
        let text = |index| Utf8::from_record(batch.record(index));
        assert_eq!(&*text(0).expect("text"), "schlüssel 🔑");
        assert_eq!(&*text(1).expect("text"), "");
        assert!(text(2).is_err());
    }

    #[test]
    fn a_detached_record_is_the_same_and_frees_the_buffers_of_its_event() {
        let event = Event::new()
            .record(record("x".repeat(1 << 20)))
            .record(record("data").without_partition_key())
            .record(aggregated([("a", "1"), ("b", "2")]));
        let batch = decode(event.to_json()).expect("a good event").deaggregated();
        let describe = |record: &crate::Record| {
            let (id, arrival) = (record.id(), record.approximate_arrival());
            let hash_key = record.explicit_hash_key().map(str::to_owned);
            (
                format!("{record:?} {id} {}", record.sequence_number()),
                record.data().to_vec(),
                arrival,
                hash_key,
            )
        };
        let of_event = Arc::downgrade(batch.record(0).event());
        let expected: Vec<_> = batch.iter().map(|record| describe(&record)).collect();
        let detached: Vec<_> = batch.iter().map(|record| record.detach()).collect();
        assert_eq!(detached.iter().map(describe).collect::<Vec<_>>(), expected);
        assert!(!batch.owns(&detached[1]) && detached[1] != batch.record(1));
        drop(batch);
        assert!(of_event.upgrade().is_none(), "a detached record keeps its event");
        assert!(detached[1].event().size() < 1024);
        assert!(detached[0].event().size() > 1 << 20, "its own data is large");
    }
}
