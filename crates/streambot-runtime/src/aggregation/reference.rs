//! The message of an aggregate as `prost` reads it: what the reader of this crate is held against.
//! Nothing but tests and fuzzing uses it.

use bytes::Bytes;
use prost::Message;

use super::Aggregate;

/// The message. Keys are declared as bytes, which on the wire they are.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct AggregatedRecord {
    #[prost(bytes = "bytes", repeated, tag = "1")]
    pub(crate) partition_key_table: Vec<Bytes>,
    #[prost(bytes = "bytes", repeated, tag = "2")]
    pub(crate) explicit_hash_key_table: Vec<Bytes>,
    #[prost(message, repeated, tag = "3")]
    pub(crate) records: Vec<PackedRecord>,
}

/// One user record in the message. Its required fields are optional here, so that a missing one is
/// seen.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct PackedRecord {
    #[prost(uint64, optional, tag = "1")]
    pub(crate) partition_key_index: Option<u64>,
    #[prost(uint64, optional, tag = "2")]
    pub(crate) explicit_hash_key_index: Option<u64>,
    #[prost(bytes = "bytes", optional, tag = "3")]
    pub(crate) data: Option<Bytes>,
}

/// The fields of a message, read by `prost`; `None` where it is none, or one that lacks what the
/// format requires.
fn read(message: &[u8]) -> Option<AggregatedRecord> {
    let aggregate = AggregatedRecord::decode(message).ok()?;
    let mut keys = aggregate.partition_key_table.iter().chain(&aggregate.explicit_hash_key_table);
    let is_whole =
        |record: &PackedRecord| record.partition_key_index.is_some() && record.data.is_some();
    let is_one =
        keys.all(|key| std::str::from_utf8(key).is_ok()) && aggregate.records.iter().all(is_whole);
    is_one.then_some(aggregate)
}

/// Whether the message is read as `prost` reads it; gives how many user records it has.
pub(crate) fn agrees_with_reference(message: &[u8]) -> Option<usize> {
    let (ours, expected) = (Aggregate::of_message(message), read(message));
    let Some((ours, expected)) = ours.as_ref().zip(expected.as_ref()) else {
        assert_eq!(ours.is_some(), expected.is_some(), "{message:?}");
        return None;
    };
    assert_eq!(ours.partition_keys, expected.partition_key_table);
    assert_eq!(ours.explicit_hash_keys, expected.explicit_hash_key_table);
    assert_eq!(ours.len(), expected.records.len());
    for (ours, expected) in ours.records.iter().zip(&expected.records) {
        assert_eq!(Some(ours.partition_key_index), expected.partition_key_index);
        assert_eq!(ours.explicit_hash_key_index, expected.explicit_hash_key_index);
        assert_eq!(Some(ours.data), expected.data.as_deref());
    }
    Some(ours.len())
}
