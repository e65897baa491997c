use std::collections::BTreeMap;
use std::error::Error as _;

use proptest::prelude::*;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{JsonRejection, decode, describe};

#[derive(Debug, Deserialize)]
#[allow(dead_code, reason = "only decoded")]
struct Order {
    id: u32,
    #[serde(default)]
    place: Option<Place>,
    #[serde(default)]
    items: Vec<Item>,
    #[serde(default)]
    labels: BTreeMap<String, u8>,
    #[serde(default)]
    by_number: BTreeMap<u16, Place>,
    #[serde(default)]
    email: Option<Email>,
    #[serde(default)]
    payment: Payment,
    #[serde(default)]
    size: (u8, u8),
    #[serde(default)]
    odd: Option<Odd>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "only decoded")]
struct Place {
    depth: f64,
}

#[derive(Debug, Deserialize)]
#[allow(dead_code, reason = "only decoded")]
struct Item {
    name: String,
}

#[derive(Debug, Default, Deserialize)]
#[allow(dead_code, reason = "only decoded")]
enum Payment {
    #[default]
    None,
    Card {
        number: u64,
    },
    Many(Vec<u8>),
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
#[allow(dead_code, reason = "only decoded")]
enum Odd {
    Number(u8),
    Text(String),
}

#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
struct Email;

impl TryFrom<String> for Email {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text.contains('@') { Ok(Self) } else { Err(format!("{text} is not an address")) }
    }
}

fn rejection(data: impl AsRef<[u8]>) -> JsonRejection {
    decode::<Order>(data.as_ref()).expect_err("it does not fit")
}

/// The order with one more field does not fit, at this path and for this reason.
#[track_caller]
fn assert_says(field: Value, path: &str, reason: &str) {
    let mut order = json!({ "id": 1 });
    let fields = field.as_object().expect("an object").clone();
    order.as_object_mut().expect("an object").extend(fields);
    let rejection = rejection(order.to_string());
    assert_eq!((&*rejection.path(), rejection.line()), (path, 1), "{rejection}");
    let message = rejection.to_string();
    assert!(message.contains(&format!("`{path}`: {reason} (line 1, column ")), "{message}");
    for shown in [message, format!("{rejection:?}")] {
        assert!(!shown.contains("secret"), "{shown}");
    }
}

#[test]
fn a_value_of_another_kind_is_named_by_its_path_and_kinds() {
    let cases = [
        (json!({ "id": "secret" }), "id", "expected an integer (u32), found text"),
        (json!({ "id": 1.5 }), "id", "expected an integer (u32), found a number with decimals"),
        (json!({ "id": -1 }), "id", "expected an integer (u32), found an integer out of range"),
        (
            json!({ "place": { "depth": "secret" } }),
            "place.depth",
            "expected a number (f64), found text",
        ),
        (json!({ "place": ["secret"] }), "place[0]", "expected a number (f64), found text"),
        (json!({ "place": true }), "place", "expected an object, found a boolean"),
        (json!({ "place": {} }), "place", "missing field `depth`"),
        (json!({ "items": { "secret": 1 } }), "items", "expected an array, found an object"),
        (
            json!({ "items": [{ "name": "secret" }, { "name": null }] }),
            "items[1].name",
            "expected text, found null",
        ),
        (json!({ "size": [1] }), "size", "expected an array of another length, found an array"),
        (
            json!({ "size": [1, 2, 3] }),
            "size",
            "expected an array of another length, found an array",
        ),
        (json!({ "email": "secret" }), "email", "expected another value, found text"),
        (json!({ "odd": { "secret": 1 } }), "odd", "expected another value, found an object"),
    ];
    for (field, path, reason) in cases {
        assert_says(field, path, reason);
    }
}

#[test]
fn names_that_the_type_does_not_declare_are_not_shown() {
    let cases = [
        (
            json!({ "labels": { "secret": 256 } }),
            "labels.*",
            "expected an integer (u8), found an integer out of range",
        ),
        (
            json!({ "by_number": { "7": { "depth": "secret" } } }),
            "by_number.*.depth",
            "expected a number (f64), found text",
        ),
        (
            json!({ "by_number": { "secret": { "depth": 1 } } }),
            "by_number.*",
            "expected another key, found another name",
        ),
        (
            json!({ "place": { "depth": 1, "secret": 2 } }),
            "place.*",
            "expected a field of the type, found another name",
        ),
    ];
    for (field, path, reason) in cases {
        assert_says(field, path, reason);
    }
}

#[test]
fn variants_of_an_enum_are_shown_if_the_type_declares_them() {
    let cases = [
        (
            json!({ "payment": "secret" }),
            "payment",
            "expected a variant of the type, found another name",
        ),
        (
            json!({ "payment": { "secret": 1 } }),
            "payment",
            "expected a variant of the type, found another name",
        ),
        (
            json!({ "payment": { "Card": { "number": "secret" } } }),
            "payment.Card.number",
            "expected an integer (u64), found text",
        ),
        (
            json!({ "payment": { "Many": [1, "secret"] } }),
            "payment.Many[1]",
            "expected an integer (u8), found text",
        ),
        (
            json!({ "payment": "Many" }),
            "payment",
            "expected a variant with content, found the name of a variant",
        ),
        (json!({ "payment": 5 }), "payment", "expected a variant of the type, found an integer"),
    ];
    for (field, path, reason) in cases {
        assert_says(field, path, reason);
    }
}

#[test]
fn a_field_that_occurs_twice_is_named() {
    let message = rejection(r#"{"id":1,"id":2}"#).to_string();
    assert!(message.contains("at `.`: field `id` occurs twice"), "{message}");
}

#[test]
fn what_is_not_one_json_document_is_said_with_its_position() {
    let cases: [(&[u8], &str); 8] = [
        (b"", "the data is empty"),
        (b"\xef\xbb\xbf{\"id\":1}", "begins with a byte order mark"),
        (b"{\"id\":1}{\"id\":2}", "put one document into a record (line 1, column 9)"),
        (b"{\"id\":1}\n{\"id\":2}\n", "put one document into a record (line 2, column 1)"),
        (b"{\"id\":1}secret", "put one document into a record"),
        (b"{\"id\":", "the data is not JSON (line 1, column 6)"),
        (b"secret", "the data is not JSON (line 1, column 1)"),
        (b"{\"id\":1,\"items\":\"secret", "the data is not JSON"),
    ];
    for (data, expected) in cases {
        let rejection = rejection(data);
        let message = rejection.to_string();
        assert!(message.contains(expected), "{message}");
        assert!(!message.contains("secret"), "{message}");
        assert_eq!(rejection.path(), ".");
    }
}

#[test]
fn bytes_that_are_not_text_do_not_hide_the_path() {
    let message = rejection(b"{\"unknown\":\"\xff\",\"id\":\"x\"}").to_string();
    assert!(message.contains("`id`"), "{message}");
}

#[test]
fn serdes_own_text_is_only_in_the_source() {
    let rejection = rejection(r#"{"id":"secret"}"#);
    let source = rejection.source().expect("serde's error");
    assert!(source.to_string().contains("secret"));
    let error = source.downcast_ref::<serde_json::Error>().expect("serde's error");
    assert_eq!(describe(error), "JSON of another type than expected at line 1, column 14");
}

#[test]
fn values_deep_within_values_are_refused_without_a_second_pass_of_their_depth() {
    #[derive(Debug, Deserialize)]
    #[allow(dead_code, reason = "only decoded")]
    struct Nested(Vec<Nested>);
    let data = "[".repeat(10_000) + &"]".repeat(10_000);
    let message = decode::<Nested>(data.as_bytes()).expect_err("too deep").to_string();
    assert!(message.contains("levels of values"), "{message}");
}

proptest! {
    /// What decodes is what serde_json decodes, and what does not is explained without any of its
    /// words.
    #[test]
    fn any_change_of_a_document_is_explained_without_its_data(
        place in any::<prop::sample::Index>(),
        replacement in prop_oneof![
            Just("null".to_owned()), Just("-7".to_owned()), Just("\"secret\"".to_owned()),
            Just("[\"secret\"]".to_owned()), Just("{\"secret\":\"secret\"}".to_owned()),
        ],
    ) {
        let document = r#"{"id":1,"place":{"depth":2.5},"items":[{"name":"a"}],"labels":{"b":3},"email":"a@b","payment":{"Card":{"number":4}},"size":[5,6]}"#;
        let values: Vec<usize> = document.match_indices(':').map(|(index, _)| index + 1).collect();
        let (kept, rest) = document.split_at(*place.get(&values));
        let mut rest = serde_json::Deserializer::from_str(rest).into_iter::<Value>();
        let _replaced = rest.next();
        let end = kept.len() + rest.byte_offset();
        let changed = [kept, &replacement, &document[end..]].concat();
        match (decode::<Order>(changed.as_bytes()), serde_json::from_str::<Order>(&changed)) {
            (Ok(_), Ok(_)) => {}
            (Err(rejection), Err(error)) => {
                prop_assert_eq!((rejection.line(), rejection.column()), (error.line(), error.column()));
                let message = rejection.to_string();
                prop_assert!(!message.contains("secret") && rejection.path() != ".", "{}", message);
            }
            (ours, serdes) => prop_assert!(false, "{:?}, {:?}", ours.is_ok(), serdes.is_ok()),
        }
    }
}
