//! The general path: any event that JSON allows, by serde, record by record. It knows which records
//! cannot be read and why; it refuses to know the layout that Lambda happens to write.

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::Error as _;
use serde_json::error::Category;
use serde_json::value::RawValue;

use super::{Arrival, Decoder, Entry, EventError, RecordFault, Span, WindowFrame};
use crate::json;

pub(super) const KINESIS_EVENT_SOURCE: &str = "aws:kinesis";

/// An event, its records unread.
#[derive(Default, Deserialize)]
pub(super) struct RawEvent<'a> {
    #[serde(rename = "Records", borrow, default)]
    pub(super) records: Option<Vec<&'a RawValue>>,
    #[serde(default)]
    window: Option<RawWindow>,
    #[serde(default)]
    state: Option<Box<RawValue>>,
    #[serde(rename = "shardId", default)]
    shard_id: Option<String>,
    #[serde(rename = "eventSourceARN", default)]
    pub(super) source_arn: Option<String>,
    #[serde(rename = "isFinalInvokeForWindow", default)]
    is_final: bool,
    #[serde(rename = "isWindowTerminatedEarly", default)]
    terminated_early: bool,
}

#[derive(Deserialize)]
struct RawWindow {
    start: String,
    end: String,
}

impl<'a> RawEvent<'a> {
    pub(super) fn of(body: &'a [u8]) -> Result<Self, EventError> {
        // Serde would pass over a field it does not know, whether it is text or not.
        let text = std::str::from_utf8(body)
            .map_err(|error| EventError::NotJson(serde_json::Error::custom(error)))?;
        if !text.trim_ascii_start().starts_with('{') {
            let not_json = serde_json::from_str::<&RawValue>(text).err();
            return Err(not_json.map_or(EventError::NotAnObject, EventError::NotJson));
        }
        serde_json::from_str(text).map_err(|error| match error.classify() {
            Category::Data => EventError::NotKinesis(error),
            Category::Syntax | Category::Eof | Category::Io => EventError::NotJson(error),
        })
    }

    /// The same without records, and so without a share of the body.
    pub(super) fn without_records<'b>(self) -> RawEvent<'b> {
        let Self { window, state, shard_id, source_arn, is_final, terminated_early, .. } = self;
        RawEvent { records: None, window, state, shard_id, source_arn, is_final, terminated_early }
    }

    /// What the event says of its tumbling window, where it has one.
    pub(super) fn window(&mut self) -> Option<WindowFrame> {
        let RawWindow { start, end } = self.window.take()?;
        Some(WindowFrame {
            start,
            end,
            shard_id: self.shard_id.take().unwrap_or_default(),
            state: self.state.take().unwrap_or_else(|| RawValue::NULL.to_owned()),
            is_final: self.is_final,
            terminated_early: self.terminated_early,
        })
    }
}

/// A string that is borrowed from the body where it has no escapes. (Serde borrows a `Cow` only
/// when it is not nested.)
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

#[derive(Deserialize)]
struct RawRecord<'a> {
    #[serde(rename = "eventSource", borrow, default)]
    source: Option<Text<'a>>,
    #[serde(rename = "eventID", borrow, default)]
    id: Option<Text<'a>>,
    #[serde(rename = "eventSourceARN", borrow, default)]
    source_arn: Option<Text<'a>>,
    #[serde(borrow, default)]
    kinesis: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawKinesis<'a> {
    /// Null or absent if Kinesis distributed the record by itself.
    #[serde(borrow, default)]
    partition_key: Option<Text<'a>>,
    #[serde(borrow)]
    sequence_number: Text<'a>,
    #[serde(borrow)]
    data: Text<'a>,
    /// Anything: a record is good without it.
    #[serde(borrow, default)]
    approximate_arrival_timestamp: Option<&'a RawValue>,
}

impl RawKinesis<'_> {
    fn arrival(&self) -> Arrival {
        let seconds =
            self.approximate_arrival_timestamp.map(|raw| serde_json::from_str::<f64>(raw.get()));
        seconds.and_then(Result::ok).map_or(Arrival::UNKNOWN, Arrival::from_seconds)
    }
}

impl<'a> Decoder<'a> {
    /// Reads one record; one that cannot be read is kept as a record with a fault.
    pub(super) fn record(&mut self, index: usize, raw: &'a RawValue) -> Result<(), EventError> {
        let record: RawRecord<'a> = match object(raw, "record") {
            Ok(record) => record,
            Err(reason) => {
                self.fault(index, None, reason);
                return Ok(());
            }
        };
        if let Some(Text(source)) = record.source
            && source != KINESIS_EVENT_SOURCE
        {
            return Err(EventError::other_source(index, &source));
        }
        if self.source_arn.is_none() {
            self.source_arn = record.source_arn.map(|Text(arn)| arn.into_owned());
        }
        if let Err(reason) = self.fields(record.id.as_ref(), record.kinesis) {
            self.fault(index, record.id, reason);
        }
        Ok(())
    }

    fn fields(
        &mut self,
        id: Option<&Text<'a>>,
        kinesis: Option<&'a RawValue>,
    ) -> Result<(), String> {
        let id = id.ok_or("missing field `eventID`")?;
        let kinesis = kinesis.ok_or("missing field `kinesis`")?;
        let kinesis: RawKinesis<'a> = object(kinesis, "kinesis")?;
        let sequence_number = &kinesis.sequence_number.0;
        if !is_sequence_number(sequence_number) {
            return Err("kinesis.sequenceNumber: not a decimal number".to_owned());
        }
        let entry = Entry {
            data: self.base64(&kinesis.data.0)?,
            partition_key: kinesis.partition_key.as_ref().map(|key| self.text(&key.0)),
            explicit_hash_key: None,
            sequence_number: self.text(sequence_number),
            record: self.next_record(),
            sub_sequence_number: 0,
            event_id: self.text(&id.0),
            arrival: kinesis.arrival(),
            fault: None,
        };
        self.entries.push(entry);
        Ok(())
    }

    /// The index of the Kinesis record that is read next: each one becomes exactly one entry.
    pub(super) fn next_record(&self) -> u32 {
        self.entries.len() as u32
    }

    pub(super) fn base64(&mut self, text: &str) -> Result<Span, String> {
        let start = self.arena.len();
        base64_simd::STANDARD
            .decode_append(text, &mut self.arena)
            .map_err(|_| "kinesis.data: not base64")?;
        Ok(self.in_arena(start))
    }

    /// Where `text` stands: in the body when it was borrowed from there, else in the arena, to
    /// which it is added.
    pub(super) fn text(&mut self, text: &str) -> Span {
        let body = self.body.as_ptr_range();
        if body.contains(&text.as_ptr()) {
            return self.in_body(text.as_bytes());
        }
        let start = self.arena.len();
        self.arena.extend_from_slice(text.as_bytes());
        self.in_arena(start)
    }

    /// Where a part of the body stands in it.
    pub(super) fn in_body(&self, part: &[u8]) -> Span {
        let start = part.as_ptr() as usize - self.body.as_ptr() as usize;
        Span { start: start as u32, end: (start + part.len()) as u32 }
    }

    /// What was added to the arena since it was `start` bytes long.
    pub(super) fn in_arena(&self, start: usize) -> Span {
        let arena = self.body.len();
        Span { start: (arena + start) as u32, end: (arena + self.arena.len()) as u32 }
    }

    /// Adds an entry for an unreadable record, with its event id and the sequence number in it if
    /// they are well-formed.
    fn fault(&mut self, index: usize, id: Option<Text<'a>>, reason: String) {
        let id = id.map(|Text(id)| id).filter(|id| is_event_id(id)).unwrap_or_default();
        let number = id.rsplit_once(':').map_or("", |(_, number)| number);
        let sequence_number = if number.is_empty() { Span::EMPTY } else { self.text(number) };
        let event_id = if id.is_empty() { Span::EMPTY } else { self.text(&id) };
        self.entries.push(Entry {
            data: Span::EMPTY,
            partition_key: None,
            explicit_hash_key: None,
            sequence_number,
            record: self.next_record(),
            sub_sequence_number: 0,
            event_id,
            arrival: Arrival::UNKNOWN,
            fault: Some(Box::new(RecordFault::new(index, &id, reason))),
        });
    }
}

/// Reads an object. If that fails, the reason names the field, as part of `name`, and kinds of
/// values.
fn object<'a, T: Deserialize<'a>>(raw: &'a RawValue, name: &str) -> Result<T, String> {
    // Serde would read a struct from an array, too, field by field.
    if !raw.get().starts_with('{') {
        return Err(format!("{name}: not a JSON object"));
    }
    serde_json::from_str(raw.get()).map_err(|_| match json::find_mismatch::<T>(raw.get()) {
        None => format!("{name}: not readable"),
        Some(mismatch) if mismatch.path() == "." => format!("{name}: {mismatch}"),
        Some(mismatch) => format!("{name}.{}: {mismatch}", mismatch.path()),
    })
}

/// Whether a text is a shard's id and a sequence number, and so may be logged.
fn is_event_id(text: &str) -> bool {
    let is_shard_id = |shard: &str| {
        (1..=128).contains(&shard.len())
            && shard.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
    };
    text.rsplit_once(':')
        .is_some_and(|(shard, number)| is_shard_id(shard) && is_sequence_number(number))
}

fn is_sequence_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}
