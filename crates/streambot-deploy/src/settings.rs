//! What a setting's value may be, said once and enforced alike for a flag and a manifest key, and
//! what it is to change one. It refuses to know which settings there are (`function.rs`,
//! `event_source.rs`) and where they come from (`service.rs`).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, de};

/// A whole number from `MIN` to `MAX`, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub(crate) struct Bounded<const MIN: i32, const MAX: i32>(i32);

impl<const MIN: i32, const MAX: i32> Bounded<MIN, MAX> {
    /// The number itself.
    pub(crate) const fn get(self) -> i32 {
        self.0
    }

    /// The number of a setting that cannot be negative.
    pub(crate) const fn get_unsigned(self) -> u32 {
        const { assert!(MIN >= 0, "a range with negative numbers has no unsigned value") };
        self.0.unsigned_abs()
    }
}

impl<const MIN: i32, const MAX: i32> TryFrom<i64> for Bounded<MIN, MAX> {
    type Error = OutOfRange;

    fn try_from(number: i64) -> Result<Self, OutOfRange> {
        match i32::try_from(number) {
            Ok(number) if (MIN..=MAX).contains(&number) => Ok(Self(number)),
            _ => Err(OutOfRange { found: number.to_string(), allowed: allowed(MIN, MAX) }),
        }
    }
}

impl<const MIN: i32, const MAX: i32> FromStr for Bounded<MIN, MAX> {
    type Err = OutOfRange;

    fn from_str(text: &str) -> Result<Self, OutOfRange> {
        match text.parse::<i64>() {
            Ok(number) => Self::try_from(number),
            Err(_) => Err(OutOfRange { found: text.to_owned(), allowed: allowed(MIN, MAX) }),
        }
    }
}

impl<'de, const MIN: i32, const MAX: i32> Deserialize<'de> for Bounded<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_i64(Number(&allowed(MIN, MAX), Self::try_from))
    }
}

/// `-1` for "no limit", else a whole number from `MIN` to `MAX`, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub(crate) struct Limit<const MIN: i32, const MAX: i32>(i32);

impl<const MIN: i32, const MAX: i32> Limit<MIN, MAX> {
    /// The limit, or nothing where there is none.
    pub(crate) const fn get(self) -> Option<u32> {
        if self.0 == -1 { None } else { Some(self.0.unsigned_abs()) }
    }

    fn allowed() -> String {
        format!("-1 (no limit) or {}", allowed(MIN, MAX))
    }
}

impl<const MIN: i32, const MAX: i32> TryFrom<i64> for Limit<MIN, MAX> {
    type Error = OutOfRange;

    fn try_from(number: i64) -> Result<Self, OutOfRange> {
        match i32::try_from(number) {
            Ok(number) if number == -1 || (MIN..=MAX).contains(&number) => Ok(Self(number)),
            _ => Err(OutOfRange { found: number.to_string(), allowed: Self::allowed() }),
        }
    }
}

impl<const MIN: i32, const MAX: i32> FromStr for Limit<MIN, MAX> {
    type Err = OutOfRange;

    fn from_str(text: &str) -> Result<Self, OutOfRange> {
        match text.parse::<i64>() {
            Ok(number) => Self::try_from(number),
            Err(_) => Err(OutOfRange { found: text.to_owned(), allowed: Self::allowed() }),
        }
    }
}

impl<'de, const MIN: i32, const MAX: i32> Deserialize<'de> for Limit<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_i64(Number(&Self::allowed(), Self::try_from))
    }
}

/// A number that a setting does not allow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{found} is not allowed: it must be {allowed}")]
pub(crate) struct OutOfRange {
    found: String,
    allowed: String,
}

/// A key and its value: `KEY=VALUE` as a flag, an entry of a table in the manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pair(pub(crate) String, pub(crate) String);

impl FromStr for Pair {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((key, value)) if !key.is_empty() => Ok(Self(key.to_owned(), value.to_owned())),
            _ => Err("write it as KEY=VALUE".to_owned()),
        }
    }
}

/// [`Pair`]s as a table, for serde's `with`.
pub(crate) mod pairs {
    use std::collections::BTreeMap;

    use serde::{Deserialize as _, Deserializer, Serializer};

    use super::Pair;

    pub(crate) fn serialize<S: Serializer>(
        pairs: &Option<Vec<Pair>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_map(pairs.iter().flatten().map(|Pair(key, value)| (key, value)))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Vec<Pair>>, D::Error> {
        let table = BTreeMap::<String, String>::deserialize(deserializer)?;
        Ok(Some(table.into_iter().map(|(key, value)| Pair(key, value)).collect()))
    }
}

/// A setting that is not what it should be, in words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Change {
    /// Which setting, by its name in the manifest.
    pub(crate) setting: &'static str,
    pub(crate) from: String,
    pub(crate) to: String,
}

impl Change {
    /// The changes from one list of settings to another, which has the same names in the same
    /// order.
    pub(crate) fn between(
        from: Vec<(&'static str, String)>,
        to: Vec<(&'static str, String)>,
    ) -> Vec<Self> {
        let pairs = from.into_iter().zip(to);
        pairs
            .filter(|((_, from), (_, to))| from != to)
            .map(|((setting, from), (_, to))| Self { setting, from, to })
            .collect()
    }
}

impl fmt::Display for Change {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown =
            |value: &str| if value.is_empty() { "(none)".to_owned() } else { value.to_owned() };
        write!(formatter, "{}: {} → {}", self.setting, shown(&self.from), shown(&self.to))
    }
}

fn allowed(minimum: i32, maximum: i32) -> String {
    format!("a whole number from {minimum} to {maximum}")
}

/// Reads an integer of any width, so that one too wide for the setting is told its range like any
/// other.
struct Number<'a, F>(&'a str, F);

impl<T, F: FnOnce(i64) -> Result<T, OutOfRange>> de::Visitor<'_> for Number<'_, F> {
    type Value = T;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.0)
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<T, E> {
        (self.1)(number).map_err(E::custom)
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<T, E> {
        (self.1)(i64::try_from(number).unwrap_or(i64::MAX)).map_err(E::custom)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    type Retries = Bounded<-1, 10_000>;
    type Age = Limit<60, 604_800>;

    #[test]
    fn both_ends_of_a_range_are_in_it_and_their_neighbours_are_not() {
        assert_eq!("-1".parse::<Retries>().unwrap().get(), -1);
        assert_eq!("10000".parse::<Retries>().unwrap().get(), 10_000);
        for outside in ["-2", "10001", "99999999999999", "", "ten", "1.5"] {
            let error = outside.parse::<Retries>().unwrap_err().to_string();
            assert!(error.contains("from -1 to 10000"), "{error}");
        }
    }

    #[test]
    fn minus_one_is_no_limit() {
        assert_eq!("-1".parse::<Age>().unwrap().get(), None);
        assert_eq!("60".parse::<Age>().unwrap().get(), Some(60));
        let error = "59".parse::<Age>().unwrap_err().to_string();
        assert_eq!(
            error,
            "59 is not allowed: it must be -1 (no limit) or a whole number from 60 to 604800"
        );
    }

    #[test]
    fn a_flag_and_a_manifest_key_refuse_the_same_numbers() {
        for number in [-2_i64, -1, 0, 59, 60, 10_000, 10_001, i64::from(i32::MAX) + 1] {
            let flag = number.to_string().parse::<Retries>().ok();
            assert_eq!(flag, serde_json::from_value(number.into()).ok(), "{number}");
            let flag = number.to_string().parse::<Age>().ok();
            assert_eq!(flag, serde_json::from_value(number.into()).ok(), "{number}");
        }
    }

    #[test]
    fn a_value_of_another_type_is_told_the_range() {
        let error = serde_json::from_value::<Retries>("many".into()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "invalid type: string \"many\", expected a whole number from -1 to 10000"
        );
    }
}
