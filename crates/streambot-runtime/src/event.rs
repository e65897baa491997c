//! The bytes of one Kinesis invocation, decoded once into a [`Batch`]; a record that cannot be read
//! becomes an entry with a fault.
//!
//! Shape of the event:
//! <https://docs.aws.amazon.com/lambda/latest/dg/with-kinesis.html#kinesis-event-example>.

mod batch;
mod compact;
mod deaggregation;
mod fault;
mod general;

use std::ops::Range;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;

pub(crate) use self::batch::WindowFrame;
pub use self::batch::{Batch, Records};
pub(crate) use self::fault::{EventError, RecordFault};
use self::general::RawEvent;

/// With this bound, 32 bits count the bytes of the body and the arena, which is never larger.
/// Lambda's own limit is 6 MB.
const MOST_BYTES: usize = i32::MAX as usize;

/// A decoded event: the two buffers that every record of it points into.
pub(crate) struct Event {
    /// The invocation's body as it arrived; fields without escapes point here.
    body: Bytes,
    /// Decoded data, and fields that had escapes.
    arena: Bytes,
    entries: Vec<Entry>,
    source_arn: Option<String>,
    /// Whether aggregates were replaced with their user records, which must happen only once.
    is_unpacked: bool,
}

/// Where the fields of one record stand in the event's buffers.
#[derive(Clone)]
pub(crate) struct Entry {
    pub(crate) data: Span,
    /// `None` if Kinesis distributed the record by itself.
    pub(crate) partition_key: Option<Span>,
    pub(crate) explicit_hash_key: Option<Span>,
    pub(crate) sequence_number: Span,
    /// The index of the Kinesis record in the event; the user records of an aggregate share it.
    pub(crate) record: u32,
    /// The index of a user record in its aggregate; 0 for any other record.
    pub(crate) sub_sequence_number: u32,
    pub(crate) event_id: Span,
    pub(crate) arrival: Arrival,
    pub(crate) fault: Option<Box<RecordFault>>,
}

/// When a record arrived, in milliseconds since the Unix epoch, or that this is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Arrival(u64);

impl Arrival {
    pub(crate) const UNKNOWN: Self = Self(u64::MAX);

    /// The end of the year 9999, the last that RFC 3339 can write. A time in milliseconds that was
    /// taken for seconds lies far beyond it.
    const MAX_MS: u64 = 253_402_300_799_999;

    /// Unknown if the time is after the year 9999.
    pub(crate) fn from_ms(milliseconds: u64) -> Self {
        if milliseconds <= Self::MAX_MS { Self(milliseconds) } else { Self::UNKNOWN }
    }

    /// Unknown if the time is before 1970 or after the year 9999.
    pub(crate) fn from_seconds(seconds: f64) -> Self {
        let milliseconds = (seconds * 1000.0).round();
        // A comparison with NaN is false.
        if milliseconds >= 0.0 { Self::from_ms(milliseconds as u64) } else { Self::UNKNOWN }
    }

    pub(crate) fn time(self) -> Option<SystemTime> {
        (self != Self::UNKNOWN).then(|| UNIX_EPOCH + Duration::from_millis(self.0))
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

    /// The bytes of its buffers.
    #[cfg(test)]
    pub(crate) fn size(&self) -> usize {
        self.body.len() + self.arena.len()
    }

    /// An event of one of the records, in buffers as small as that record.
    pub(crate) fn only(&self, index: usize) -> Event {
        let entry = self.entry(index);
        let mut arena = Vec::new();
        let mut copy = |span: Span| {
            let start = arena.len() as u32;
            arena.extend_from_slice(self.bytes(span));
            Span { start, end: arena.len() as u32 }
        };
        let entry = Entry {
            data: copy(entry.data),
            partition_key: entry.partition_key.map(&mut copy),
            explicit_hash_key: entry.explicit_hash_key.map(&mut copy),
            sequence_number: copy(entry.sequence_number),
            event_id: copy(entry.event_id),
            ..entry.clone()
        };
        Event {
            body: Bytes::new(),
            arena: arena.into_boxed_slice().into(),
            entries: vec![entry],
            source_arn: self.source_arn.clone(),
            is_unpacked: self.is_unpacked,
        }
    }

    fn place(&self, span: Span) -> (&Bytes, Range<usize>) {
        let (start, end, body) = (span.start as usize, span.end as usize, self.body.len());
        if start < body {
            (&self.body, start..end)
        } else {
            (&self.arena, start - body..end - body)
        }
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
/// A record that cannot be read becomes a record with a fault; an event that cannot be read at all
/// is an error.
///
/// Lambda writes one layout, which is [read in one pass](compact); what differs from it is read by
/// [serde](general), to the same result.
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
        Self {
            body,
            arena: Vec::with_capacity(body.len() / 4 * 3),
            entries: Vec::new(),
            source_arn: None,
        }
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
