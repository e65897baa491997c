//! KPL aggregated records, unpacked into user records. It knows the Kinesis Producer Library's
//! format and what the Kinesis Client Library makes of damaged data; it refuses to know events,
//! batches and checkpoints.
//!
//! An aggregate is four magic bytes, a Protocol Buffers message and the message's MD5:
//! <https://github.com/awslabs/amazon-kinesis-producer/blob/master/aggregation-format.md>. As in
//! the Client Library, data that is not all of that is an ordinary record, passed on as it is.

mod protobuf;
#[cfg(any(test, fuzzing))]
pub(crate) mod reference;

use md5::{Digest, Md5};

use protobuf::{DEPTH, Reader, WireType, put_bytes, put_number};

const MAGIC: [u8; 4] = [0xf3, 0x89, 0x9a, 0xc2];
const DIGEST_LEN: usize = 16;

/// The most user records that are unpacked from one event.
///
/// Each one takes 72 bytes beside its data, so that 250,000 take 18 MB of a function's memory, of
/// which there may be 128 MB. The 4.5 MB of data in an event of 6 MB reach this bound only if user
/// records have 12 bytes of data on average; the KPL packs 6 bytes more for each.
pub(crate) const MAX_USER_RECORDS: usize = 250_000;

/// Fields of the message, and of a record in it, by their numbers.
const PARTITION_KEY_TABLE: u8 = 1;
const EXPLICIT_HASH_KEY_TABLE: u8 = 2;
const RECORDS: u8 = 3;
const PARTITION_KEY_INDEX: u8 = 1;
const EXPLICIT_HASH_KEY_INDEX: u8 = 2;
const DATA: u8 = 3;

/// An aggregate that carries its own digest and has what the format requires. All of it points into
/// its data.
#[derive(Debug, Default)]
pub(crate) struct Aggregate<'a> {
    partition_keys: Vec<&'a [u8]>,
    explicit_hash_keys: Vec<&'a [u8]>,
    /// At most [`MAX_USER_RECORDS`] of them: an aggregate with more is not unpacked.
    records: Vec<Packed<'a>>,
    /// The number of user records in the message.
    count: usize,
}

/// A user record as it is packed: its keys are places in the aggregate's tables.
#[derive(Debug)]
struct Packed<'a> {
    partition_key_index: u64,
    explicit_hash_key_index: Option<u64>,
    data: &'a [u8],
}

/// A record as its producer put it, before it was packed with others.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct UserRecord<'a> {
    pub(crate) partition_key: &'a [u8],
    pub(crate) explicit_hash_key: Option<&'a [u8]>,
    pub(crate) data: &'a [u8],
}

/// A user record that points to a key its aggregate does not have. The ones after it are not
/// trusted either.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the aggregate is damaged: user record {sub_sequence_number} names entry {index} of its {table}, which has {len}; the \
     {} user records from there on cannot be read", .total - .sub_sequence_number
)]
pub(crate) struct Damage {
    sub_sequence_number: usize,
    total: usize,
    table: &'static str,
    index: u64,
    len: usize,
}

/// An aggregate has more user records than there is room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Excess {
    #[error(
        "the aggregate has {count} user records, more than the {MAX_USER_RECORDS} that are unpacked from one event; put \
         fewer user records into an aggregate"
    )]
    OfAggregate { count: usize },
    #[error(
        "the aggregate has {count} user records, and there is room for {room} more: at most {MAX_USER_RECORDS} are \
         unpacked from one event; to receive fewer at once, lower the batch size"
    )]
    OfEvent { count: usize, room: usize },
}

impl Excess {
    /// The error for an aggregate of `count` user records, if there is not enough room for them.
    pub(crate) fn check(count: usize, room: usize) -> Result<(), Self> {
        match count {
            _ if count <= room => Ok(()),
            _ if count > MAX_USER_RECORDS => Err(Self::OfAggregate { count }),
            _ => Err(Self::OfEvent { count, room }),
        }
    }
}

/// Whether data may be an aggregate at all: for the most part the answer is no, and it costs four
/// bytes.
pub(crate) fn begins_with_magic(data: &[u8]) -> bool {
    data.starts_with(&MAGIC)
}

impl<'a> Aggregate<'a> {
    /// Reads the data of one Kinesis record: `None` when it is no aggregate.
    pub(crate) fn read(data: &'a [u8]) -> Option<Self> {
        Self::of_message(message(data)?)
    }

    fn of_message(message: &'a [u8]) -> Option<Self> {
        let mut aggregate = Self::default();
        let mut reader = Reader(message);
        while !reader.is_empty() {
            let (number, wire_type) = reader.field()?;
            match (u8::try_from(number), wire_type) {
                (Ok(PARTITION_KEY_TABLE), WireType::Bytes) => {
                    aggregate.partition_keys.push(text(reader.bytes()?)?)
                }
                (Ok(EXPLICIT_HASH_KEY_TABLE), WireType::Bytes) => {
                    aggregate.explicit_hash_keys.push(text(reader.bytes()?)?);
                }
                (Ok(RECORDS), WireType::Bytes) => {
                    let record = Packed::of_message(reader.bytes()?)?;
                    aggregate.count += 1;
                    if aggregate.count <= MAX_USER_RECORDS {
                        aggregate.records.push(record);
                    }
                }
                (Ok(PARTITION_KEY_TABLE..=RECORDS), _) => return None,
                _ => reader.skip(number, wire_type, DEPTH)?,
            }
        }
        Some(aggregate)
    }

    /// The number of user records in it.
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// The user records in their order. What comes after a damaged one is not to be trusted.
    pub(crate) fn user_records(&self) -> impl Iterator<Item = Result<UserRecord<'a>, Damage>> {
        self.records.iter().enumerate().map(|(sub_sequence_number, packed)| {
            let look_up = |table: &[&'a [u8]], name, index: u64| {
                let entry = usize::try_from(index).ok().and_then(|index| table.get(index)).copied();
                let total = self.records.len();
                entry.ok_or(Damage {
                    sub_sequence_number,
                    total,
                    table: name,
                    index,
                    len: table.len(),
                })
            };
            let explicit_hash_key = packed.explicit_hash_key_index;
            Ok(UserRecord {
                partition_key: look_up(
                    &self.partition_keys,
                    "partition key table",
                    packed.partition_key_index,
                )?,
                explicit_hash_key: explicit_hash_key
                    .map(|index| {
                        look_up(&self.explicit_hash_keys, "explicit hash key table", index)
                    })
                    .transpose()?,
                data: packed.data,
            })
        })
    }
}

impl<'a> Packed<'a> {
    fn of_message(message: &'a [u8]) -> Option<Self> {
        let (mut partition_key_index, mut explicit_hash_key_index, mut data) = (None, None, None);
        let mut reader = Reader(message);
        while !reader.is_empty() {
            let (number, wire_type) = reader.field()?;
            match (u8::try_from(number), wire_type) {
                (Ok(PARTITION_KEY_INDEX), WireType::Varint) => {
                    partition_key_index = Some(reader.varint()?)
                }
                (Ok(EXPLICIT_HASH_KEY_INDEX), WireType::Varint) => {
                    explicit_hash_key_index = Some(reader.varint()?)
                }
                (Ok(DATA), WireType::Bytes) => data = Some(reader.bytes()?),
                (Ok(PARTITION_KEY_INDEX..=DATA), _) => return None,
                _ => reader.skip(number, wire_type, DEPTH - 1)?,
            }
        }
        Some(Self {
            partition_key_index: partition_key_index?,
            explicit_hash_key_index,
            data: data?,
        })
    }
}

/// A key, where it is text.
fn text(key: &[u8]) -> Option<&[u8]> {
    std::str::from_utf8(key).ok().map(str::as_bytes)
}

/// The message between the magic bytes and its digest, where both are right.
fn message(data: &[u8]) -> Option<&[u8]> {
    let packed = data.strip_prefix(&MAGIC)?;
    let len = packed.len().checked_sub(DIGEST_LEN).filter(|len| *len > 0)?;
    let (message, digest) = packed.split_at(len);
    (Md5::digest(message).as_slice() == digest).then_some(message)
}

/// Packs user records as a producer would: keys and data.
pub(crate) fn pack(records: &[(String, Vec<u8>)]) -> Vec<u8> {
    let (mut table, mut keys, mut packed) = (Vec::new(), Vec::new(), Vec::new());
    for (key, data) in records {
        let known = keys.iter().position(|entry| entry == key);
        let index = known.unwrap_or_else(|| {
            put_bytes(&mut table, PARTITION_KEY_TABLE, key.as_bytes());
            keys.push(key.clone());
            keys.len() - 1
        });
        let mut record = Vec::new();
        put_number(&mut record, PARTITION_KEY_INDEX, index as u64);
        put_bytes(&mut record, DATA, data);
        put_bytes(&mut packed, RECORDS, &record);
    }
    seal(&[table, packed].concat())
}

/// A message as an aggregate.
pub(crate) fn seal(message: &[u8]) -> Vec<u8> {
    [&MAGIC[..], message, Md5::digest(message).as_slice()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    use bytes::Bytes;
    use prost::Message as _;

    use super::reference::{AggregatedRecord, PackedRecord, agrees_with_reference};

    fn keys_and_data(data: &[u8]) -> Option<Vec<(String, Vec<u8>)>> {
        let aggregate = Aggregate::read(data)?;
        let text = |key: &[u8]| String::from_utf8(key.to_vec()).expect("a key is text");
        let records = aggregate.user_records().map(|record| record.expect("no damage"));
        Some(records.map(|record| (text(record.partition_key), record.data.to_vec())).collect())
    }

    fn field() -> impl Strategy<Value = Vec<u8>> {
        let bytes = prop_oneof![Just(b"key".to_vec()), any::<Vec<u8>>()];
        let number = prop_oneof![0u64..3, any::<u64>()];
        // Known numbers and the next, each with the wire type it has and with others, and whatever
        // follows.
        prop_oneof![
            4 => (1u8..5, bytes).prop_map(|(number, bytes)| {
                let mut field = Vec::new();
                put_bytes(&mut field, number, &bytes);
                field
            }),
            4 => (1u8..5, number).prop_map(|(number, value)| {
                let mut field = Vec::new();
                put_number(&mut field, number, value);
                field
            }),
            1 => (any::<u8>(), prop::collection::vec(any::<u8>(), 0..12)).prop_map(|(key, rest)| [vec![key], rest].concat()),
            // Numbers about as long as they may be.
            1 => (1u8..5, 7usize..12, 0u8..4).prop_map(|(number, length, last)| {
                [vec![number << 3], vec![0x81; length], vec![last]].concat()
            }),
            1 => Just(vec![5 << 3 | 3, 6 << 3, 1, 5 << 3 | 4]),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(10_000))]

        #[test]
        fn what_is_packed_comes_out_again(records in prop::collection::vec(("[a-zü]{1,3}", any::<Vec<u8>>()), 0..20)) {
            let expected = if records.is_empty() { None } else { Some(records.clone()) };
            prop_assert_eq!(keys_and_data(&pack(&records)), expected);
        }

        #[test]
        fn a_flipped_bit_anywhere_makes_it_an_ordinary_record(
            records in prop::collection::vec(("[a-c]", any::<Vec<u8>>()), 1..4),
            place in any::<prop::sample::Index>(),
            bit in 0u32..8,
        ) {
            let mut data = pack(&records);
            let place = place.index(data.len());
            data[place] ^= 1 << bit;
            prop_assert_eq!(keys_and_data(&data), None);
        }

        #[test]
        fn a_message_is_read_as_prost_reads_it(
            fields in prop::collection::vec(field(), 0..6),
            records in prop::collection::vec(prop::collection::vec(field(), 0..4), 0..4),
        ) {
            let mut message = fields.concat();
            records.iter().for_each(|fields| put_bytes(&mut message, RECORDS, &fields.concat()));
            agrees_with_reference(&message);
        }

        #[test]
        fn a_good_message_that_is_cut_or_changed_is_read_as_prost_reads_it(
            records in prop::collection::vec(("[a-c]", any::<Vec<u8>>()), 1..4),
            place in any::<prop::sample::Index>(),
            byte in any::<u8>(),
        ) {
            let data = pack(&records);
            let mut message = message(&data).expect("an aggregate").to_vec();
            prop_assert_eq!(agrees_with_reference(&message), Some(records.len()));
            let place = place.index(message.len());
            agrees_with_reference(&message[..place]);
            message[place] = byte;
            agrees_with_reference(&message);
        }
    }

    #[test]
    fn groups_are_passed_as_deep_as_prost_passes_them() {
        for depth in [1, 2, 98, 99, 100, 101, 102] {
            let groups = [vec![5 << 3 | 3; depth], vec![5 << 3 | 4; depth]].concat();
            agrees_with_reference(&groups);
            let mut in_a_record = Vec::new();
            put_bytes(
                &mut in_a_record,
                RECORDS,
                &[&[1 << 3, 0, 3 << 3 | 2, 0][..], &groups].concat(),
            );
            agrees_with_reference(&in_a_record);
        }
        assert_eq!(agrees_with_reference(&[5 << 3 | 3, 5 << 3 | 4]), Some(0));
        assert_eq!(agrees_with_reference(&[5 << 3 | 3, 6 << 3 | 4]), None);
    }

    fn packed(partition_key_index: u64, explicit_hash_key_index: Option<u64>) -> PackedRecord {
        PackedRecord {
            partition_key_index: Some(partition_key_index),
            explicit_hash_key_index,
            data: Some(Bytes::from_static(b"data")),
        }
    }

    #[test]
    fn a_bad_index_keeps_what_is_ahead_of_it_and_is_reported() {
        for bad in [packed(1, None), packed(0, Some(1)), packed(u64::MAX, None)] {
            let aggregate = AggregatedRecord {
                partition_key_table: vec![Bytes::from_static(b"key")],
                explicit_hash_key_table: vec![Bytes::from_static(b"7")],
                records: vec![packed(0, Some(0)), packed(0, None), bad, packed(0, None)],
            };
            let data = seal(&aggregate.encode_to_vec());
            let aggregate = Aggregate::read(&data).expect("an aggregate");
            let records: Vec<_> = aggregate.user_records().collect();
            assert!(records[1].is_ok());
            assert_eq!(records[0].as_ref().expect("a record").explicit_hash_key, Some(&b"7"[..]));
            let message = records[2].as_ref().expect_err("damage").to_string();
            assert!(
                message.contains("user record 2")
                    && message.contains("the 2 user records from there on"),
                "{message}"
            );
        }
    }

    #[test]
    fn a_missing_required_field_or_a_key_that_is_no_text_makes_it_an_ordinary_record() {
        let good = AggregatedRecord {
            partition_key_table: vec![Bytes::from_static(b"key")],
            explicit_hash_key_table: Vec::new(),
            records: vec![packed(0, None)],
        };
        let is_one = |aggregate: &AggregatedRecord| {
            Aggregate::read(&seal(&aggregate.encode_to_vec())).is_some()
        };
        assert!(is_one(&good));
        let mut without_data = good.clone();
        without_data.records[0].data = None;
        let mut without_key = good.clone();
        without_key.records[0].partition_key_index = None;
        let mut no_text = good;
        no_text.partition_key_table[0] = Bytes::from_static(b"\xff");
        for aggregate in [without_data, without_key, no_text] {
            assert!(!is_one(&aggregate));
        }
    }
}
