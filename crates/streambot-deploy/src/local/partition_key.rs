//! Which partition key a line gets, and which shard that key routes to. It refuses to know where
//! lines come from.

use std::fmt;
use std::ops::ControlFlow;

use md5::{Digest as _, Md5};
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// The most characters of a partition key:
/// <https://docs.aws.amazon.com/kinesis/latest/APIReference/API_PutRecord.html>.
const LONGEST_KEY: usize = 256;

/// How a line's partition key is made.
#[derive(Clone, Debug)]
pub(crate) enum PartitionKey {
    /// The MD5 of the line, in hexadecimal.
    HashOfLine,
    /// What a JSON pointer finds in the line.
    At(Pointer),
}

impl PartitionKey {
    /// The partition key of a line, or why it has none.
    pub(crate) fn of(&self, line: &[u8]) -> Result<String, String> {
        match self {
            PartitionKey::HashOfLine => Ok(format!("{:032x}", hash(line))),
            PartitionKey::At(pointer) => pointer.find_key(line),
        }
    }
}

/// A JSON pointer (RFC 6901), such as `/properties/net`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pointer {
    text: String,
    tokens: Vec<String>,
}

impl std::str::FromStr for Pointer {
    type Err = String;

    fn from_str(text: &str) -> Result<Pointer, String> {
        let mut parts = text.split('/');
        if !parts.next().is_some_and(str::is_empty) {
            return Err(format!(
                "a JSON pointer starts with a slash, such as /{}",
                text.replace('.', "/")
            ));
        }
        let tokens = parts.map(|token| token.replace("~1", "/").replace("~0", "~")).collect();
        Ok(Pointer { text: text.to_owned(), tokens })
    }
}

impl fmt::Display for Pointer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl Pointer {
    /// The value found, as a key: a string as it is, a number or boolean by its JSON text.
    fn find_key(&self, line: &[u8]) -> Result<String, String> {
        let mut deserializer = serde_json::Deserializer::from_slice(line);
        let found = Find { tokens: &self.tokens }
            .deserialize(&mut deserializer)
            .and_then(|found| deserializer.end().map(|()| found))
            .map_err(|error| format!("is not JSON, so {self} finds nothing in it: {error}"))?
            .ok_or_else(|| format!("has nothing at {self}"))?;
        let key = match found.get().as_bytes().first() {
            Some(b'"') => serde_json::from_str(found.get())
                .map_err(|error| format!("has no text at {self}: {error}"))?,
            Some(b'{') => {
                return Err(format!("has an object at {self}, which is no partition key"));
            }
            Some(b'[') => return Err(format!("has a list at {self}, which is no partition key")),
            Some(b'n') => return Err(format!("has null at {self}, which is no partition key")),
            _ => found.get().to_owned(),
        };
        match key.chars().count() {
            0 => Err(format!("has an empty text at {self}, which is no partition key")),
            length if length > LONGEST_KEY => Err(format!(
                "has {length} characters at {self}; a partition key has at most {LONGEST_KEY}"
            )),
            _ => Ok(key),
        }
    }
}

/// Walks down the tokens and skips everything beside the way; the value at the end keeps its JSON
/// text.
#[derive(Clone, Copy)]
struct Find<'a> {
    tokens: &'a [String],
}

impl<'de> DeserializeSeed<'de> for Find<'_> {
    type Value = Option<&'de RawValue>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        if self.tokens.is_empty() {
            return serde::Deserialize::deserialize(deserializer).map(Some);
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Find<'_> {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let Some((wanted, tokens)) = self.tokens.split_first() else {
            return Ok(None);
        };
        let mut found = None;
        while let Some(is_wanted) = map.next_key_seed(IsKey(wanted))? {
            if is_wanted {
                found = map.next_value_seed(Find { tokens })?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let Some((wanted, tokens)) = self.tokens.split_first() else {
            return Ok(None);
        };
        let wanted: Option<usize> =
            wanted.parse().ok().filter(|index: &usize| index.to_string() == *wanted);
        let mut found = None;
        for index in 0.. {
            let step = if Some(index) == wanted {
                list.next_element_seed(Find { tokens })?.map_or(ControlFlow::Break(()), |value| {
                    found = value;
                    ControlFlow::Continue(())
                })
            } else {
                list.next_element::<IgnoredAny>()?
                    .map_or(ControlFlow::Break(()), |_| ControlFlow::Continue(()))
            };
            if step.is_break() {
                break;
            }
        }
        Ok(found)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }
}

/// Tells whether a key is the wanted one without keeping it.
struct IsKey<'a>(&'a str);

impl<'de> DeserializeSeed<'de> for IsKey<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for IsKey<'_> {
    type Value = bool;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<bool, E> {
        Ok(key == self.0)
    }
}

/// The shards of a stream, each with an equal share of the 2^128 hash keys; the last one takes what
/// the division leaves.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HashKeyRanges {
    shards: usize,
}

impl HashKeyRanges {
    /// The ranges of this many shards, at least one.
    pub(crate) fn divided_by(shards: usize) -> HashKeyRanges {
        HashKeyRanges { shards: shards.max(1) }
    }

    /// The shard a partition key goes to, counted from 0: the one whose range holds the key's MD5
    /// as a big-endian number.
    pub(crate) fn shard_of(self, partition_key: &str) -> usize {
        self.shard_at(hash(partition_key.as_bytes()))
    }

    fn shard_at(self, hash: u128) -> usize {
        let shards = self.shards as u128;
        if shards == 1 {
            return 0;
        }
        // 2^128 / shards, computed without 2^128.
        let share = u128::MAX / shards + u128::from(u128::MAX % shards == shards - 1);
        usize::try_from(hash / share).unwrap_or(usize::MAX).min(self.shards - 1)
    }
}

fn hash(bytes: &[u8]) -> u128 {
    u128::from_be_bytes(Md5::digest(bytes).into())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(pointer: &str, line: &str) -> Result<String, String> {
        PartitionKey::At(pointer.parse().unwrap()).of(line.as_bytes())
    }

    #[test]
    fn a_text_is_the_key_as_it_is_and_a_number_or_boolean_by_its_json_text() {
        let line = r#"{"net":"u\"w","deep":{"list":[0,{"a/b~c":1.50}]},"large":123456789012345678901234567890,"yes":true}"#;
        assert_eq!(key("/net", line).unwrap(), "u\"w");
        assert_eq!(key("/deep/list/1/a~1b~0c", line).unwrap(), "1.50");
        assert_eq!(key("/large", line).unwrap(), "123456789012345678901234567890");
        assert_eq!(key("/yes", line).unwrap(), "true");
        assert_eq!(key("", "7").unwrap(), "7");
    }

    #[test]
    fn a_pointer_that_finds_no_key_says_what_it_found() {
        let line = r#"{"object":{},"list":[1],"null":null,"empty":"","text":"t"}"#;
        for (pointer, expected) in [
            ("/missing", "has nothing at /missing"),
            ("/text/deeper", "has nothing at /text/deeper"),
            ("/list/1", "has nothing at /list/1"),
            ("/list/00", "has nothing at /list/00"),
            ("/object", "has an object at /object"),
            ("/list", "has a list at /list"),
            ("/null", "has null at /null"),
            ("/empty", "has an empty text at /empty"),
        ] {
            let error = key(pointer, line).unwrap_err();
            assert!(error.contains(expected), "{pointer}: {error}");
        }
        assert!(key("/net", "{\"net\":1").unwrap_err().contains("is not JSON"));
        assert!(key("/net", "{\"net\":1} x").unwrap_err().contains("is not JSON"));
        assert!(
            key("/k", &format!("{{\"k\":\"{}\"}}", "x".repeat(257)))
                .unwrap_err()
                .contains("257 characters")
        );
    }

    #[test]
    fn a_pointer_starts_with_a_slash() {
        let error = "properties.net".parse::<Pointer>().unwrap_err();
        assert!(error.contains("/properties/net"), "{error}");
    }

    #[test]
    fn the_ranges_are_those_kinesis_makes() {
        let three = HashKeyRanges::divided_by(3);
        assert_eq!(three.shard_at(113_427_455_640_312_821_154_458_202_477_256_070_484), 0);
        assert_eq!(three.shard_at(113_427_455_640_312_821_154_458_202_477_256_070_485), 1);
        assert_eq!(three.shard_at(u128::MAX), 2);
        let four = HashKeyRanges::divided_by(4);
        assert_eq!(four.shard_at((1 << 126) - 1), 0);
        assert_eq!(four.shard_at(1 << 126), 1);
        assert_eq!(four.shard_at(u128::MAX), 3);
        assert_eq!(HashKeyRanges::divided_by(1).shard_at(u128::MAX), 0);
    }

    #[test]
    fn the_hash_is_the_md5_read_as_a_big_endian_number() {
        assert_eq!(hash(b""), 0xd41d_8cd9_8f00_b204_e980_0998_ecf8_427e);
        assert_eq!(PartitionKey::HashOfLine.of(b"").unwrap(), "d41d8cd98f00b204e9800998ecf8427e");
    }

    proptest! {
        #[test]
        fn a_pointer_finds_what_serde_json_finds(
            value in json(),
            tokens in prop::collection::vec("[ab0-2]", 0..4),
        ) {
            let pointer: String = tokens.iter().map(|token| format!("/{token}")).collect();
            let expected = match value.pointer(&pointer) {
                Some(serde_json::Value::String(text)) if !text.is_empty() => Some(text.clone()),
                Some(found @ (serde_json::Value::Number(_) | serde_json::Value::Bool(_))) => Some(found.to_string()),
                _ => None,
            };
            prop_assert_eq!(key(&pointer, &value.to_string()).ok(), expected);
        }
    }

    fn json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            "[a-c\"\\\\]{0,3}".prop_map(Into::into),
        ];
        leaf.prop_recursive(3, 24, 3, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(Into::into),
                prop::collection::hash_map("[ab0-2]", inner, 0..3)
                    .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
            ]
        })
    }
}
