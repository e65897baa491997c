//! The fast path: events in the one layout that Lambda writes, read in one pass. JSON without white
//! space, fields in a fixed order, and most of them the same from record to record: so bytes are
//! compared where a parser would parse. It refuses to judge what differs: that record, or the whole
//! event, is left to the [general](super::general) path.

use memchr::{memchr, memchr2};
use serde_json::value::RawValue;

use super::general::RawEvent;
use super::{Arrival, Decoder, Entry, EventError};

const OPENING: &[u8] = br#"{"Records":["#;
const KEY: &[u8] = br#"{"kinesis":{"kinesisSchemaVersion":"1.0","partitionKey":"#;
const SEQUENCE_NUMBER: &[u8] = br#"","sequenceNumber":""#;
/// What follows in place of a key and [`SEQUENCE_NUMBER`] if Kinesis distributed the record without
/// a key.
const NULL: &[u8] = br#"null,"sequenceNumber":""#;
const NO_KEY: &[u8] = br#"{"kinesis":{"kinesisSchemaVersion":"1.0","sequenceNumber":""#;
const DATA: &[u8] = br#"","data":""#;
const ARRIVAL: &[u8] = br#"","approximateArrivalTimestamp":"#;
/// Where the stream is encrypted.
const ENCRYPTION: &[u8] = br#","encryptionType":"KMS""#;
const EVENT_ID: &[u8] = br#"},"eventSource":"aws:kinesis","eventVersion":"1.0","eventID":""#;
const EVENT_NAME: &[u8] = br#"","eventName":"aws:kinesis:record","#;
const ROLE: &[u8] = br#""invokeIdentityArn":""#;
const REGION: &[u8] = br#"","awsRegion":""#;
const SOURCE_ARN: &[u8] = br#"","eventSourceARN":""#;
const CLOSING: &[u8] = br#""}"#;

/// Reads the records, and then what the event says beside them. `None` when the event is laid out
/// otherwise.
pub(super) fn read<'a>(decoder: &mut Decoder<'a>) -> Result<Option<RawEvent<'a>>, EventError> {
    let body = decoder.body;
    let mut at = OPENING.len();
    if !body.starts_with(OPENING) {
        return Ok(None);
    }
    let mut layout = decoder.lambdas_layout(at);
    for index in 0.. {
        match layout.as_mut().and_then(|layout| decoder.compact(layout, at)) {
            Some(end) => at = end,
            None => {
                let mut values =
                    serde_json::Deserializer::from_slice(&body[at..]).into_iter::<&'a RawValue>();
                let Some(Ok(raw)) = values.next() else { return Ok(None) };
                let end = at + values.byte_offset();
                let known = decoder.entries.len();
                decoder.record(index, raw)?;
                // What was read well tells the layout of the records to come, with fields that
                // Lambda did not write before.
                let read_well =
                    decoder.entries.get(known).is_some_and(|entry| entry.fault.is_none());
                if layout.is_none() && read_well {
                    layout =
                        Layout::of(&body[at..end]).inspect(|_| decoder.expect_records_of(end - at));
                }
                at = end;
            }
        }
        match body.get(at) {
            Some(b',') => at += 1,
            Some(b']') => break,
            _ => return Ok(None),
        }
    }
    Ok(rest_of(&body[at + 1..]))
}

/// What stands behind the records: nothing, or a tumbling window's fields.
fn rest_of<'a>(rest: &[u8]) -> Option<RawEvent<'a>> {
    match rest {
        b"}" => Some(RawEvent::default()),
        // A comma that no field follows is for the general path to refuse.
        [b',', fields @ ..] if fields.starts_with(b"\"") => {
            // Serde would pass over a field it does not know, whether it is text or not.
            let object = ["{", std::str::from_utf8(fields).ok()?].concat();
            let rest: RawEvent<'_> = serde_json::from_str(&object).ok()?;
            // Records a second time would be a duplicate, for the general path to refuse.
            rest.records.is_none().then(|| rest.without_records())
        }
        _ => None,
    }
}

/// What all records of an event have in common.
struct Layout<'a> {
    /// The shard's id and a colon: what an event id begins with.
    shard: &'a [u8],
    /// From the end of the event id to the end of the record.
    tail: &'a [u8],
    /// How many bytes of base64 the last record had: the next one is likely to have as many.
    data_len: usize,
}

impl<'a> Layout<'a> {
    /// The layout of a record that was read by the general path, if it is much like Lambda's.
    fn of(record: &'a [u8]) -> Option<Self> {
        let fields = Fields::of(record, 0)?;
        let (id, tail) = fields.rest.split_at(memchr(b'"', fields.rest)?);
        Self::new(&fields, id, tail)
    }

    fn new(fields: &Fields<'a>, id: &'a [u8], tail: &'a [u8]) -> Option<Self> {
        let shard = id.strip_suffix(fields.sequence_number)?;
        let is_lambdas = tail.starts_with(EVENT_NAME) && !shard.contains(&b'\\');
        is_lambdas.then_some(Self { shard, tail, data_len: fields.data.len() })
    }
}

/// A record's own fields, and the bytes from its event id on.
struct Fields<'a> {
    partition_key: Option<&'a [u8]>,
    sequence_number: &'a [u8],
    /// In base64, which is not looked at here.
    data: &'a [u8],
    arrival: Arrival,
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    /// The fields of the record at the front of `record`, whose data is likely to have `data_len`
    /// bytes.
    fn of(record: &'a [u8], data_len: usize) -> Option<Self> {
        let (partition_key, rest) = partition_key(record)?;
        let (sequence_number, rest) = rest.split_at(digits(rest));
        let rest = rest.strip_prefix(DATA)?;
        // A quote that stands where one is expected ends the data: one ahead of it is no base64,
        // and found then.
        let as_expected = rest.get(data_len..).is_some_and(|rest| rest.starts_with(ARRIVAL));
        let data_len = if as_expected { data_len } else { memchr(b'"', rest)? };
        let (data, rest) = rest.split_at(data_len);
        let (milliseconds, rest) = milliseconds(rest.strip_prefix(ARRIVAL)?)?;
        let arrival = Arrival::from_ms(milliseconds);
        let rest = rest.strip_prefix(ENCRYPTION).unwrap_or(rest);
        let rest = rest.strip_prefix(EVENT_ID)?;
        (!sequence_number.is_empty()).then_some(Self {
            partition_key,
            sequence_number,
            data,
            arrival,
            rest,
        })
    }
}

impl<'a> Decoder<'a> {
    /// The layout of the record at `at`, if it is Lambda's own to the last byte; and the stream it
    /// names.
    fn lambdas_layout(&mut self, at: usize) -> Option<Layout<'a>> {
        let fields = Fields::of(&self.body[at..], 0)?;
        let (id, tail) = text(fields.rest)?;
        let (_, rest) = text(tail.strip_prefix(EVENT_NAME)?.strip_prefix(ROLE)?)?;
        let (_, rest) = text(rest.strip_prefix(REGION)?)?;
        let (source_arn, rest) = text(rest.strip_prefix(SOURCE_ARN)?)?;
        let rest = rest.strip_prefix(CLOSING)?;
        let layout = Layout::new(&fields, id, &tail[..tail.len() - rest.len()])?;
        self.source_arn = Some(String::from_utf8(source_arn.to_vec()).ok()?);
        self.expect_records_of(self.body.len() - rest.len() - at);
        Some(layout)
    }

    /// Makes room for as many records as the body can hold, when they are all about as long as
    /// this.
    fn expect_records_of(&mut self, len: usize) {
        self.entries.reserve((self.body.len() / len + 1).min(10_000));
    }

    /// Reads the record at `at`, and says where it ends. `None`, and nothing is changed, when it is
    /// laid out otherwise.
    fn compact(&mut self, layout: &mut Layout<'a>, at: usize) -> Option<usize> {
        let Fields { partition_key, sequence_number, data, arrival, rest } =
            Fields::of(&self.body[at..], layout.data_len)?;
        let number = rest.strip_prefix(layout.shard)?;
        let tail = number.strip_prefix(sequence_number)?;
        let rest_of_event = tail.strip_prefix(layout.tail)?;

        let start = self.arena.len();
        base64_simd::STANDARD.decode_append(data, &mut self.arena).ok()?;
        layout.data_len = data.len();
        let event_id = &rest[..layout.shard.len() + sequence_number.len()];
        self.entries.push(Entry {
            data: self.in_arena(start),
            partition_key: partition_key.map(|key| self.in_body(key)),
            explicit_hash_key: None,
            sequence_number: self.in_body(sequence_number),
            record: self.next_record(),
            sub_sequence_number: 0,
            event_id: self.in_body(event_id),
            arrival,
            fault: None,
        });
        Some(self.body.len() - rest_of_event.len())
    }
}

/// The partition key of a record, and what follows the quote that opens its sequence number.
fn partition_key(record: &[u8]) -> Option<(Option<&[u8]>, &[u8])> {
    let Some(rest) = record.strip_prefix(KEY) else {
        return Some((None, record.strip_prefix(NO_KEY)?));
    };
    match rest.split_first()? {
        (b'"', rest) => {
            let (key, rest) = text(rest)?;
            Some((Some(key), rest.strip_prefix(SEQUENCE_NUMBER)?))
        }
        _ => Some((None, rest.strip_prefix(NULL)?)),
    }
}

/// The text in front of the first quote, and the rest from that quote on. `None` where JSON allows
/// no such text, and where it has escapes. Eight bytes are looked at in one go.
fn text(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    /// Marks the first byte of eight that is zero; marks behind it may be false.
    fn zeros(eight: u64) -> u64 {
        eight.wrapping_sub(ONES) & !eight & HIGH
    }
    for (index, chunk) in bytes.as_chunks::<8>().0.iter().enumerate() {
        let eight = u64::from_le_bytes(*chunk);
        let control = eight.wrapping_sub(ONES * 0x20) & !eight & HIGH;
        let quote = zeros(eight ^ (ONES * u64::from(b'"')));
        let escape = zeros(eight ^ (ONES * u64::from(b'\\')));
        let odd = control | quote | escape | (eight & HIGH);
        if odd != 0 {
            let len = index * 8 + odd.trailing_zeros() as usize / 8;
            return if bytes[len] == b'"' {
                Some(bytes.split_at(len))
            } else {
                text_beyond_ascii(bytes)
            };
        }
    }
    text_beyond_ascii(bytes)
}

#[cold]
fn text_beyond_ascii(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (text, rest) = bytes.split_at(memchr2(b'"', b'\\', bytes)?);
    let is_text = text.iter().all(|byte| *byte >= b' ') && std::str::from_utf8(text).is_ok();
    (is_text && rest[0] == b'"').then_some((text, rest))
}

/// How many bytes at the front are digits; eight are looked at in one go.
fn digits(bytes: &[u8]) -> usize {
    const HIGH: u64 = 0xf0f0_f0f0_f0f0_f0f0;
    const ZEROS: u64 = 0x3030_3030_3030_3030;
    const SIXES: u64 = 0x0606_0606_0606_0606;
    let mut len = 0;
    for chunk in bytes.as_chunks::<8>().0 {
        let eight = u64::from_le_bytes(*chunk);
        // Digits are 0x30 to 0x39: the high half is 3, and stays 3 when 6 is added.
        if eight & HIGH != ZEROS || eight.wrapping_add(SIXES) & HIGH != ZEROS {
            break;
        }
        len += 8;
    }
    len + bytes[len..].iter().take_while(|byte| byte.is_ascii_digit()).count()
}

/// Seconds with up to three decimals, as milliseconds, and what follows. Within these bounds the
/// result is what a parser's nearest double, multiplied and rounded, gives too.
fn milliseconds(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let number = |digits: &[u8]| {
        digits.iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0'))
    };
    let (seconds, rest) = bytes.split_at(digits(bytes));
    // JSON has no number that begins with a needless zero.
    if seconds.is_empty() || seconds.len() > 11 || (seconds.len() > 1 && seconds[0] == b'0') {
        return None;
    }
    let Some(decimals) = rest.strip_prefix(b".") else {
        return ends(rest).then(|| (number(seconds) * 1000, rest));
    };
    let (decimals, rest) = decimals.split_at(digits(decimals));
    let scale = match decimals.len() {
        1 => 100,
        2 => 10,
        3 => 1,
        _ => return None,
    };
    ends(rest).then(|| (number(seconds) * 1000 + number(decimals) * scale, rest))
}

/// Whether a number ends here; an exponent would go on.
fn ends(rest: &[u8]) -> bool {
    matches!(rest.first(), Some(b',' | b'}'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn digits_are_counted_wherever_they_end(text in "[0-9]{0,40}[^0-9]?[0-9]{0,9}") {
            let expected = text.bytes().take_while(u8::is_ascii_digit).count();
            prop_assert_eq!(digits(text.as_bytes()), expected);
        }

        #[test]
        fn a_time_is_what_a_parser_makes_of_it(seconds in 0u64..99_999_999_999, decimals in "|\\.[0-9]{1,3}") {
            let text = format!("{seconds}{decimals}}}");
            let parsed: f64 = text.trim_end_matches('}').parse().expect("a number");
            let (milliseconds, rest) = milliseconds(text.as_bytes()).expect("within bounds");
            prop_assert_eq!(milliseconds, (parsed * 1000.0).round() as u64);
            prop_assert_eq!(rest, b"}");
        }
    }

    #[test]
    fn other_numbers_are_left_to_the_parser() {
        for text in
            ["", "}", "-1}", "01}", "1.}", "1.2345}", "1e3}", "1.5e3}", "123456789012}", "1 }", "1"]
        {
            assert_eq!(milliseconds(text.as_bytes()), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_text_is_what_a_parser_makes_of_it(text in ".{0,20}[\"\\\\\u{1f}]?.{0,20}", rest in ".{0,9}") {
            let event = format!("{text}\"{rest}");
            let len = event.find('"').expect("a quote");
            let parsed: Option<String> = serde_json::from_str(&format!("\"{}\"", &event[..len])).ok();
            let expected = parsed.filter(|parsed| *parsed == event[..len]);
            let read = super::text(event.as_bytes()).map(|(text, _)| text);
            prop_assert_eq!(read, expected.as_deref().map(str::as_bytes));
        }
    }

    /// Events as Lambda writes them take this path, from the first record on.
    #[test]
    fn lambdas_own_layout_is_read_in_one_pass() {
        let json = crate::testing::records(["a", "b", "longer"]).to_json();
        assert_takes_this_path(&json);
        let key = |index| format!("\"partitionKey\":\"partition-key-{index}\",");
        let with_key = |replacement: &str| {
            (0..3).fold(json.clone(), |json, index| json.replace(&key(index), replacement))
        };
        assert_takes_this_path(&with_key("\"partitionKey\":null,"));
        assert_takes_this_path(&with_key("\"partitionKey\":\"\","));
        assert_takes_this_path(&with_key(""));
        assert_takes_this_path(&json.replace(&key(1), "\"partitionKey\":null,"));
    }

    fn assert_takes_this_path(json: &str) {
        let mut decoder = Decoder::new(json.as_bytes());
        let mut layout = decoder.lambdas_layout(OPENING.len()).expect("the layout is known");
        let first = decoder.compact(&mut layout, OPENING.len()).expect("the first record");
        let second = decoder.compact(&mut layout, first + 1).expect("the second record");
        assert!(decoder.compact(&mut layout, second).is_none(), "a comma is no record");
        assert!(decoder.compact(&mut layout, second + 1).is_some(), "the third record");
        assert_eq!(decoder.entries.len(), 3);
        assert!(decoder.source_arn.is_some_and(|arn| arn.ends_with(":stream/test")));
    }

    /// A field that Lambda may write one day costs the first record only.
    #[test]
    fn a_new_field_is_learned_from_the_first_record() {
        let json = crate::testing::records(["a", "b"])
            .to_json()
            .replace("\"awsRegion\"", "\"new\":1,\"awsRegion\"");
        let mut decoder = Decoder::new(json.as_bytes());
        assert!(decoder.lambdas_layout(OPENING.len()).is_none());
        let end = json.find("},{").expect("a second record") + 1;
        let mut layout =
            Layout::of(&json.as_bytes()[OPENING.len()..end]).expect("much like Lambda's");
        assert!(decoder.compact(&mut layout, end + 1).is_some(), "the second record");
    }
}
