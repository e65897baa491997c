//! As much of Protocol Buffers as an aggregate needs: numbers, bytes, and the way past what is
//! unknown. It refuses to know what a field means.
//!
//! <https://protobuf.dev/programming-guides/encoding/>. Every function gives `None` where the bytes
//! are no such thing.

/// How deep groups may lie in each other, the message itself counted: as deep as the Protocol
/// Buffers libraries allow.
pub(super) const DEPTH: u32 = 100;

/// How a field's value is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WireType {
    Varint,
    Fixed64,
    Bytes,
    StartGroup,
    EndGroup,
    Fixed32,
}

/// What is left of a message.
#[derive(Debug)]
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    /// The number and the wire type of the next field.
    pub(super) fn field(&mut self) -> Option<(u32, WireType)> {
        let key = u32::try_from(self.varint()?).ok()?;
        let wire_type = match key & 7 {
            0 => WireType::Varint,
            1 => WireType::Fixed64,
            2 => WireType::Bytes,
            3 => WireType::StartGroup,
            4 => WireType::EndGroup,
            5 => WireType::Fixed32,
            _ => return None,
        };
        Some((key >> 3, wire_type)).filter(|(number, _)| *number > 0)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A number of up to 64 bits.
    pub(super) fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for (index, byte) in self.0.iter().enumerate().take(10) {
            value |= u64::from(byte & 0x7f) << (7 * index);
            if *byte < 0x80 {
                self.0 = &self.0[index + 1..];
                // The tenth byte has room for one bit.
                return (index < 9 || *byte < 2).then_some(value);
            }
        }
        None
    }

    /// A length and as many bytes.
    pub(super) fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.varint()?).ok()?;
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(bytes)
    }

    /// Goes past a field, with `depth` left for groups in it.
    pub(super) fn skip(&mut self, number: u32, wire_type: WireType, depth: u32) -> Option<()> {
        let depth = depth.checked_sub(1)?;
        match wire_type {
            WireType::Varint => self.varint().map(drop),
            WireType::Bytes => self.bytes().map(drop),
            WireType::Fixed64 => self.advance(8),
            WireType::Fixed32 => self.advance(4),
            WireType::StartGroup => loop {
                match self.field()? {
                    (end, WireType::EndGroup) => return (end == number).then_some(()),
                    (inner, wire_type) => self.skip(inner, wire_type, depth)?,
                }
            },
            WireType::EndGroup => None,
        }
    }

    fn advance(&mut self, length: usize) -> Option<()> {
        self.0 = self.0.get(length..)?;
        Some(())
    }
}

/// Puts a field that is a number.
pub(super) fn put_number(message: &mut Vec<u8>, number: u8, value: u64) {
    message.push(number << 3);
    put_varint(message, value);
}

/// Puts a field of bytes.
pub(super) fn put_bytes(message: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    message.push(number << 3 | 2);
    put_varint(message, bytes.len() as u64);
    message.extend_from_slice(bytes);
}

fn put_varint(message: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        message.push(value as u8 | 0x80);
        value >>= 7;
    }
    message.push(value as u8);
}
