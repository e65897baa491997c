//! The JSON of a window's state. A state is written only if it reads back the same: Lambda hands
//! the JSON to the window's next batch, so what is lost on the way is lost without a trace.

mod finite;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};

use self::finite::check_finite;
use crate::json::{self, JsonRejection};

/// Why a window's state cannot be handed to the window's next batch.
#[derive(Debug, thiserror::Error)]
pub(super) enum StateError {
    #[error("failed to write the window's state as JSON")]
    NotWritten(#[source] serde_json::Error),
    #[error(
        "failed to write the window's state as JSON: it holds a number that is infinite or not a number (NaN), which \
         JSON writes as `null`"
    )]
    NotFinite,
    #[error("failed to write the window's state as JSON: what is written cannot be read back")]
    Unreadable(#[source] JsonRejection),
    #[error(
        "failed to write the window's state as JSON: what is written reads back as another state; look for fields that \
         are left out (`skip_serializing_if`) and get another value by default"
    )]
    Changed,
}

/// Whether this is what Lambda begins a window with (`{}`), or no state at all. Either is the
/// default.
pub(super) fn is_fresh(json: &str) -> bool {
    json == "{}" || json == "null"
}

/// The state as JSON, once it is known to read back the same.
pub(super) fn encode<S>(state: &S) -> Result<Box<RawValue>, StateError>
where
    S: Serialize + DeserializeOwned + Default,
{
    check_finite(state).map_err(|_| StateError::NotFinite)?;
    let written = to_raw_value(state).map_err(StateError::NotWritten)?;
    let read: S = match written.get() {
        json if is_fresh(json) => S::default(),
        json => json::decode(json.as_bytes()).map_err(StateError::Unreadable)?,
    };
    let again = to_raw_value(&read).map_err(StateError::NotWritten)?;
    if written.get() == again.get() || is_same(&written, &again) {
        Ok(written)
    } else {
        Err(StateError::Changed)
    }
}

/// Whether two texts are one state: maps and sets of the standard library come in any order, and a
/// floating-point number may change in its last digit.
fn is_same(one: &RawValue, other: &RawValue) -> bool {
    let value = |json: &RawValue| serde_json::from_str::<Value>(json.get());
    value(one).is_ok_and(|one| value(other).is_ok_and(|other| are_alike(&one, &other)))
}

fn are_alike(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) if one.is_f64() && other.is_f64() => {
            let (one, other) =
                (one.as_f64().unwrap_or(f64::NAN), other.as_f64().unwrap_or(f64::NAN));
            (one - other).abs() <= 4.0 * f64::EPSILON * one.abs().max(other.abs())
        }
        (Value::Object(one), Value::Object(other)) => {
            let has_alike = |(key, value): (&String, &Value)| {
                other.get(key).is_some_and(|other| are_alike(value, other))
            };
            one.len() == other.len() && one.iter().all(has_alike)
        }
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len()
                && (all_alike(one.iter(), other.iter()) || {
                    let (one, other) = (sorted(one), sorted(other));
                    all_alike(one.into_iter(), other.into_iter())
                })
        }
        (one, other) => one == other,
    }
}

fn all_alike<'a>(
    one: impl Iterator<Item = &'a Value>,
    mut other: impl Iterator<Item = &'a Value>,
) -> bool {
    one.into_iter().all(|value| other.next().is_some_and(|other| are_alike(value, other)))
}

fn sorted(values: &[Value]) -> Vec<&Value> {
    let mut values: Vec<&Value> = values.iter().collect();
    values.sort_by_cached_key(|value| value.to_string());
    values
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashMap, HashSet};

    use proptest::prelude::*;
    use serde::Deserialize;

    use super::*;

    fn is_kept<S: Serialize + DeserializeOwned + Default>(state: &S) -> bool {
        encode(state).is_ok()
    }

    #[derive(Debug, Serialize, Deserialize)]
    struct Level {
        #[serde(default = "ten", skip_serializing_if = "is_zero")]
        level: u64,
    }

    impl Default for Level {
        fn default() -> Self {
            Self { level: 10 }
        }
    }

    fn ten() -> u64 {
        10
    }

    fn is_zero(level: &u64) -> bool {
        *level == 0
    }

    #[derive(Debug, Default, Serialize, Deserialize)]
    struct Two {
        level: Level,
        name: String,
    }

    #[test]
    fn a_state_that_would_come_back_as_the_default_is_an_error() {
        assert!(
            matches!(encode(&Level { level: 0 }), Err(StateError::Changed)),
            "written as {{}}, read as 10"
        );
        assert!(is_kept(&Level { level: 7 }) && is_kept(&Level::default()));
        assert!(is_kept(&BTreeMap::<String, u64>::new()), "written as {{}}, which is the default");
        assert!(is_kept(&None::<u64>) && is_kept(&()), "written as null, which is the default");
    }

    #[test]
    fn a_field_that_would_come_back_as_another_value_is_an_error() {
        let state = Two { level: Level { level: 0 }, name: "a".to_owned() };
        assert!(matches!(encode(&state), Err(StateError::Changed)));
    }

    #[test]
    fn numbers_that_json_does_not_have_are_an_error_wherever_they_are() {
        for number in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert!(matches!(encode(&number), Err(StateError::NotFinite)));
            assert!(matches!(encode(&vec![Some(number)]), Err(StateError::NotFinite)));
            assert!(matches!(
                encode(&BTreeMap::from(
                    [("a", number as f32)].map(|(key, value)| (key.to_owned(), value))
                )),
                Err(StateError::NotFinite)
            ));
        }
        assert!(is_kept(&vec![Some(f64::MAX), None]));
    }

    #[test]
    fn a_type_that_reads_otherwise_than_it_writes_is_an_error() {
        #[derive(Default, Deserialize)]
        struct Odd(#[allow(dead_code)] u64);
        impl Serialize for Odd {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str("odd")
            }
        }
        assert!(matches!(encode(&Odd(1)), Err(StateError::Unreadable(_))));
    }

    proptest! {
        #[test]
        fn any_map_set_and_number_is_kept(
            map in prop::collection::hash_map(any::<String>(), any::<f64>(), 0..20),
            set in prop::collection::hash_set(any::<(u64, String)>(), 0..20),
            numbers in any::<(u64, i64, f32, Option<u128>, char)>(),
        ) {
            let map: HashMap<String, f64> = map.into_iter().filter(|(_, number)| number.is_finite()).collect();
            let set: HashSet<(u64, String)> = set;
            prop_assert!(is_kept(&map), "{map:?}");
            prop_assert!(is_kept(&set), "{set:?}");
            if numbers.2.is_finite() {
                prop_assert!(is_kept(&numbers_state(numbers)), "{numbers:?}");
            }
        }

        #[test]
        fn another_state_is_seen(one in prop::collection::vec(any::<i64>(), 0..5), other in prop::collection::vec(any::<i64>(), 0..5)) {
            let (mut one_sorted, mut other_sorted) = (one.clone(), other.clone());
            one_sorted.sort_unstable();
            other_sorted.sort_unstable();
            let raw = |values: &Vec<i64>| to_raw_value(values).expect("numbers are JSON");
            prop_assert_eq!(is_same(&raw(&one), &raw(&other)), one_sorted == other_sorted);
        }
    }

    type Numbers = (u64, i64, f32, Option<u128>, char);

    fn numbers_state((a, b, c, d, e): Numbers) -> (u64, i64, f32, Option<String>, String) {
        (a, b, c, d.map(|d| d.to_string()), e.to_string())
    }
}
