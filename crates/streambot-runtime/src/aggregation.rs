//! KPL aggregated records, unpacked into user records. It knows the Kinesis Producer Library's format and what the
//! Kinesis Client Library makes of damaged data; it refuses to know events, batches and checkpoints.
//!
//! An aggregate is four magic bytes, a Protocol Buffers message and the message's MD5:
//! <https://github.com/awslabs/amazon-kinesis-producer/blob/master/aggregation-format.md>. As in the Client Library, data
//! that is not all of that is an ordinary record, passed on as it is.

use bytes::Bytes;
use md5::{Digest, Md5};
use prost::Message;

const MAGIC: [u8; 4] = [0xf3, 0x89, 0x9a, 0xc2];
const DIGEST_LEN: usize = 16;

/// The message of an aggregate. Keys are declared as bytes, which on the wire they are, so that they are not copied.
#[derive(Clone, PartialEq, Message)]
struct AggregatedRecord {
    #[prost(bytes = "bytes", repeated, tag = "1")]
    partition_key_table: Vec<Bytes>,
    #[prost(bytes = "bytes", repeated, tag = "2")]
    explicit_hash_key_table: Vec<Bytes>,
    #[prost(message, repeated, tag = "3")]
    records: Vec<PackedRecord>,
}

/// One user record in the message. Its required fields are optional here, so that a missing one is seen.
#[derive(Clone, PartialEq, Message)]
struct PackedRecord {
    #[prost(uint64, optional, tag = "1")]
    partition_key_index: Option<u64>,
    #[prost(uint64, optional, tag = "2")]
    explicit_hash_key_index: Option<u64>,
    #[prost(bytes = "bytes", optional, tag = "3")]
    data: Option<Bytes>,
}

/// A record as its producer put it, before it was packed with others. All of it points into the aggregate's bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UserRecord {
    pub(crate) partition_key: Bytes,
    pub(crate) explicit_hash_key: Option<Bytes>,
    pub(crate) data: Bytes,
}

/// A user record that points to a key its aggregate does not have. The ones after it are not trusted either.
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

impl Damage {
    /// The place of the first user record that cannot be read.
    pub(crate) fn sub_sequence_number(&self) -> usize {
        self.sub_sequence_number
    }
}

/// Whether data may be an aggregate at all: for the most part the answer is no, and it costs four bytes.
pub(crate) fn begins_with_magic(data: &[u8]) -> bool {
    data.starts_with(&MAGIC)
}

/// Unpacks the data of one Kinesis record: `None` when it is no aggregate, else its user records in their order, up to
/// the first damage.
pub(crate) fn unpack(data: &Bytes) -> Option<(Vec<UserRecord>, Option<Damage>)> {
    let message = message(data)?;
    let aggregate = AggregatedRecord::decode(message).ok()?;
    let keys = aggregate.partition_key_table.iter().chain(&aggregate.explicit_hash_key_table);
    if !keys.into_iter().all(|key| std::str::from_utf8(key).is_ok()) {
        return None;
    }
    if aggregate.records.iter().any(|record| record.partition_key_index.is_none() || record.data.is_none()) {
        return None;
    }

    let total = aggregate.records.len();
    let mut records = Vec::with_capacity(total);
    for (sub_sequence_number, packed) in aggregate.records.into_iter().enumerate() {
        let look_up = |table: &[Bytes], name, index: u64| {
            let entry = usize::try_from(index).ok().and_then(|index| table.get(index)).cloned();
            entry.ok_or(Damage { sub_sequence_number, total, table: name, index, len: table.len() })
        };
        let partition_key_index = packed.partition_key_index.unwrap_or_default();
        let partition_key = look_up(&aggregate.partition_key_table, "partition key table", partition_key_index);
        let explicit_hash_key = packed
            .explicit_hash_key_index
            .map(|index| look_up(&aggregate.explicit_hash_key_table, "explicit hash key table", index))
            .transpose();
        match (partition_key, explicit_hash_key) {
            (Ok(partition_key), Ok(explicit_hash_key)) => {
                records.push(UserRecord { partition_key, explicit_hash_key, data: packed.data.unwrap_or_default() });
            }
            (Err(damage), _) | (_, Err(damage)) => return Some((records, Some(damage))),
        }
    }
    Some((records, None))
}

/// The message between the magic bytes and its digest, where both are right.
fn message(data: &Bytes) -> Option<Bytes> {
    let packed = data.strip_prefix(&MAGIC)?;
    let len = packed.len().checked_sub(DIGEST_LEN).filter(|len| *len > 0)?;
    let (message, digest) = packed.split_at(len);
    (Md5::digest(message).as_slice() == digest).then(|| data.slice_ref(message))
}

/// Packs user records as a producer would: keys and data.
pub(crate) fn pack(records: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut aggregate = AggregatedRecord::default();
    for (key, data) in records {
        let known = aggregate.partition_key_table.iter().position(|entry| entry == key);
        let index = known.unwrap_or_else(|| {
            aggregate.partition_key_table.push(Bytes::copy_from_slice(key.as_bytes()));
            aggregate.partition_key_table.len() - 1
        });
        aggregate.records.push(PackedRecord {
            partition_key_index: Some(index as u64),
            explicit_hash_key_index: None,
            data: Some(Bytes::copy_from_slice(data)),
        });
    }
    seal(&aggregate)
}

fn seal(aggregate: &AggregatedRecord) -> Vec<u8> {
    let message = aggregate.encode_to_vec();
    [&MAGIC[..], &message, Md5::digest(&message).as_slice()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn keys_and_data(data: &[u8]) -> Option<Vec<(String, Vec<u8>)>> {
        let (records, damage) = unpack(&Bytes::copy_from_slice(data))?;
        assert_eq!(damage, None);
        let text = |key: &Bytes| String::from_utf8(key.to_vec()).expect("a key is text");
        Some(records.iter().map(|record| (text(&record.partition_key), record.data.to_vec())).collect())
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
        fn no_bytes_are_too_strange(data in any::<Vec<u8>>(), sealed in any::<bool>()) {
            let data = if sealed { [&MAGIC[..], &data, Md5::digest(&data).as_slice()].concat() } else { data };
            let _whatever_it_is = unpack(&Bytes::from(data));
        }
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
            let (records, damage) = unpack(&Bytes::from(seal(&aggregate))).expect("an aggregate");
            assert_eq!(records.len(), 2);
            assert_eq!(records[0].explicit_hash_key.as_deref(), Some(&b"7"[..]));
            let message = damage.expect("damage").to_string();
            assert!(
                message.contains("user record 2") && message.contains("the 2 user records from there on"),
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
        assert!(unpack(&Bytes::from(seal(&good))).is_some());
        let mut without_data = good.clone();
        without_data.records[0].data = None;
        let mut without_key = good.clone();
        without_key.records[0].partition_key_index = None;
        let mut no_text = good;
        no_text.partition_key_table[0] = Bytes::from_static(b"\xff");
        for aggregate in [without_data, without_key, no_text] {
            assert_eq!(unpack(&Bytes::from(seal(&aggregate))), None);
        }
    }

    #[test]
    fn nothing_is_copied() {
        let data = Bytes::from(pack(&[("key".to_owned(), b"data".to_vec())]));
        let (records, _) = unpack(&data).expect("an aggregate");
        for part in [&records[0].data, &records[0].partition_key] {
            assert!(data.as_ptr_range().contains(&part.as_ptr()));
        }
    }
}
