//! Packs records as the Kinesis Producer Library does: many small ones into one record of the
//! stream. It knows the format and refuses to know which records are packed together.
//!
//! <https://github.com/awslabs/amazon-kinesis-producer/blob/master/aggregation-format.md>

use md5::{Digest as _, Md5};

const MAGIC: [u8; 4] = [0xf3, 0x89, 0x9a, 0xc2];
/// The Producer Library's `AggregationMaxSize`, in bytes.
pub(crate) const LARGEST: usize = 51_200;

/// Fields of the message, each its number and the wire type 2, a length and as many bytes.
const PARTITION_KEY: u8 = 1 << 3 | 2;
const RECORD: u8 = 3 << 3 | 2;
/// Fields of a record in it; the first is a number, wire type 0.
const PARTITION_KEY_INDEX: u8 = 1 << 3;
const DATA: u8 = 3 << 3 | 2;

/// Records that are being packed.
#[derive(Debug, Default)]
pub(crate) struct Aggregate {
    keys: Vec<String>,
    table: Vec<u8>,
    records: Vec<u8>,
    count: usize,
}

impl Aggregate {
    /// Adds a record.
    pub(crate) fn push(&mut self, partition_key: &str, data: &[u8]) {
        let index = self.keys.iter().position(|key| key == partition_key).unwrap_or_else(|| {
            self.keys.push(partition_key.to_owned());
            put_bytes(&mut self.table, PARTITION_KEY, partition_key.as_bytes());
            self.keys.len() - 1
        });
        let mut record = vec![PARTITION_KEY_INDEX];
        put_number(&mut record, index as u64);
        put_bytes(&mut record, DATA, data);
        put_bytes(&mut self.records, RECORD, &record);
        self.count += 1;
    }

    /// How many records are in it.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// How many bytes it has so far.
    pub(crate) fn size(&self) -> usize {
        MAGIC.len() + self.table.len() + self.records.len() + Md5::output_size()
    }

    /// The data of the packed record.
    pub(crate) fn seal(self) -> Vec<u8> {
        let message = [self.table, self.records].concat();
        let digest = Md5::digest(&message);
        [&MAGIC[..], &message, &digest].concat()
    }
}

fn put_bytes(message: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    message.push(field);
    put_number(message, bytes.len() as u64);
    message.extend_from_slice(bytes);
}

/// Seven bits a byte, the lowest first; all but the last have the eighth set.
fn put_number(message: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        message.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    message.push(number as u8);
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_message_is_laid_out_as_the_format_says() {
        let mut aggregate = Aggregate::default();
        aggregate.push("a", b"one");
        aggregate.push("b", b"");
        aggregate.push("a", &[b'x'; 200]);
        assert_eq!(aggregate.count(), 3);
        let size = aggregate.size();
        let sealed = aggregate.seal();
        assert_eq!(sealed.len(), size);
        let message = &sealed[4..sealed.len() - 16];
        let expected = [
            &b"\x0a\x01a\x0a\x01b"[..],
            b"\x1a\x07\x08\x00\x1a\x03one",
            b"\x1a\x04\x08\x01\x1a\x00",
            b"\x1a\xcd\x01\x08\x00\x1a\xc8\x01",
            &[b'x'; 200],
        ]
        .concat();
        assert_eq!(message, expected);
        assert_eq!(sealed[..4], MAGIC);
        assert_eq!(sealed[sealed.len() - 16..], Md5::digest(message)[..]);
    }
}
