#![allow(clippy::unwrap_used)]

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::local::record::testing;

fn constants() -> Constants {
    Constants {
        region: "us-east-1".to_owned(),
        stream_arn: "arn:aws:kinesis:us-east-1:000000000000:stream/quakes".to_owned(),
        role_arn: "arn:aws:iam::000000000000:role/lambda/quakes".to_owned(),
    }
}

fn filter(patterns: &[Value]) -> Filter {
    let texts: Vec<String> = patterns.iter().map(Value::to_string).collect();
    Filter::new(Patterns::parse(texts.iter().map(String::as_str)).unwrap().unwrap(), constants())
}

fn passes(patterns: &[Value], data: &[u8]) -> bool {
    let record = Record {
        data: Bytes::copy_from_slice(data),
        ..testing::record(7, "key", 1_545_084_650_987)
    };
    filter(patterns).passes(&ShardId::numbered(6), &record)
}

/// Whether a record with this data matches a pattern over its data.
fn matches(pattern: Value, data: Value) -> bool {
    passes(&[json!({ "data": pattern })], data.to_string().as_bytes())
}

fn problem(pattern: &str) -> String {
    Patterns::parse([pattern]).unwrap_err().to_string()
}

/// The example of the Lambda guide's page on Kinesis filters.
#[test]
fn the_guides_pattern_takes_the_guides_record() {
    let data = json!({ "Record": "12345", "OrderTime": "2022-10-04", "City": "Anchorage", "Product": { "Temperature": 2 } });
    assert!(matches(json!({ "City": ["Anchorage"] }), data.clone()));
    assert!(!matches(json!({ "City": ["Fairbanks"] }), data));
}

/// The rows of the Lambda guide's table of filter rules.
#[test]
fn every_rule_of_the_lambda_guide_holds() {
    for (pattern, yes, no) in [
        (json!({ "UserID": [null] }), json!({ "UserID": null }), json!({ "UserID": "" })),
        (json!({ "LastName": [""] }), json!({ "LastName": "" }), json!({ "LastName": null })),
        (json!({ "Name": ["Alice"] }), json!({ "Name": "Alice" }), json!({ "Name": "alice" })),
        (
            json!({ "Name": [{ "equals-ignore-case": "alice" }] }),
            json!({ "Name": "ALICE" }),
            json!({ "Name": "Al" }),
        ),
        (
            json!({ "Location": ["New York"], "Day": ["Monday"] }),
            json!({ "Location": "New York", "Day": "Monday" }),
            json!({ "Location": "New York", "Day": "Sunday" }),
        ),
        (
            json!({ "PaymentType": ["Credit", "Debit"] }),
            json!({ "PaymentType": "Debit" }),
            json!({ "PaymentType": "Cash" }),
        ),
        (
            json!({ "$or": [{ "Location": ["New York"] }, { "Day": ["Monday"] }] }),
            json!({ "Location": "Rome", "Day": "Monday" }),
            json!({ "Location": "Rome", "Day": "Sunday" }),
        ),
        (
            json!({ "Weather": [{ "anything-but": ["Raining"] }] }),
            json!({ "Weather": "Dry" }),
            json!({ "Weather": "Raining" }),
        ),
        (
            json!({ "Price": [{ "numeric": ["=", 100] }] }),
            json!({ "Price": 1e2 }),
            json!({ "Price": "100" }),
        ),
        (
            json!({ "Price": [{ "numeric": [">", 10, "<=", 20] }] }),
            json!({ "Price": 20 }),
            json!({ "Price": 10 }),
        ),
        (
            json!({ "ProductName": [{ "exists": true }] }),
            json!({ "ProductName": null }),
            json!({ "Product": 1 }),
        ),
        (json!({ "ProductName": [{ "exists": false }] }), json!({}), json!({ "ProductName": "x" })),
        (
            json!({ "Region": [{ "prefix": "us-" }] }),
            json!({ "Region": "us-east-1" }),
            json!({ "Region": "eu-us-1" }),
        ),
        (
            json!({ "FileName": [{ "suffix": ".png" }] }),
            json!({ "FileName": "a.png" }),
            json!({ "FileName": "a.png.txt" }),
        ),
    ] {
        assert!(matches(pattern.clone(), yes.clone()), "{pattern} refuses {yes}");
        assert!(!matches(pattern.clone(), no.clone()), "{pattern} takes {no}");
    }
}

/// The examples of EventBridge's page on comparison operators.
#[test]
fn every_operator_of_eventbridge_holds() {
    for (operator, yes, no) in [
        (json!({ "anything-but": "initializing" }), json!("running"), json!("initializing")),
        (json!({ "anything-but": 123 }), json!(124), json!(123.0)),
        (json!({ "anything-but": ["stopped", "overloaded"] }), json!("running"), json!("stopped")),
        (json!({ "anything-but": [100, 200, 300] }), json!(400), json!(200)),
        (
            json!({ "anything-but": { "equals-ignore-case": "initializing" } }),
            json!("x"),
            json!("INITIALIZING"),
        ),
        (
            json!({ "anything-but": { "equals-ignore-case": ["initializing", "stopped"] } }),
            json!("running"),
            json!("STOPPED"),
        ),
        (json!({ "anything-but": { "prefix": "init" } }), json!("running"), json!("initializing")),
        (
            json!({ "anything-but": { "prefix": ["init", "error"] } }),
            json!("running"),
            json!("error 7"),
        ),
        (json!({ "anything-but": { "suffix": ".txt" } }), json!("a.png"), json!("a.txt")),
        (json!({ "anything-but": { "suffix": [".txt", ".rtf"] } }), json!("a.png"), json!("a.rtf")),
        (
            json!({ "anything-but": { "wildcard": "*/lib/*" } }),
            json!("/bin/a"),
            json!("/usr/lib/a"),
        ),
        (
            json!({ "anything-but": { "wildcard": ["*/lib/*", "*/bin/*"] } }),
            json!("/etc"),
            json!("/bin/a"),
        ),
        (json!({ "prefix": "2017-10-02" }), json!("2017-10-02T18:43:48Z"), json!("2017-10-03")),
        (
            json!({ "prefix": { "equals-ignore-case": "EventB" } }),
            json!("eventbridge"),
            json!("my eventb"),
        ),
        (json!({ "suffix": { "equals-ignore-case": ".png" } }), json!("a.PNG"), json!("a.jpg")),
        (json!({ "equals-ignore-case": "alice-AB" }), json!("ALICE-ab"), json!("alice")),
        (json!({ "numeric": [">", 0, "<=", 5] }), json!(5), json!(0)),
        (json!({ "numeric": ["<", 10] }), json!(-3), json!(10)),
        (json!({ "numeric": ["=", 3.018e2] }), json!(301.8), json!(301)),
        (json!({ "wildcard": "dir/*.png" }), json!("dir/a/b.png"), json!("dir/a.txt")),
        (json!({ "wildcard": "*a*b*" }), json!("xxaxbx"), json!("xxbxax")),
        (json!({ "wildcard": r"a\*b\\" }), json!(r"a*b\"), json!(r"axb\")),
        (json!({ "wildcard": "ab*ba" }), json!("abba"), json!("aba")),
    ] {
        assert!(
            matches(json!({ "field": [operator] }), json!({ "field": yes })),
            "{operator} refuses {yes}"
        );
        assert!(
            !matches(json!({ "field": [operator] }), json!({ "field": no })),
            "{operator} takes {no}"
        );
    }
}

#[test]
fn an_operator_needs_a_value_of_its_kind() {
    assert!(!matches(json!({ "a": [{ "prefix": "1" }] }), json!({ "a": 1 })));
    assert!(!matches(json!({ "a": [{ "numeric": ["=", 1] }] }), json!({ "a": "1" })));
    assert!(
        !matches(json!({ "a": [{ "anything-but": "x" }] }), json!({})),
        "a field that is not there is nothing"
    );
    assert!(
        !matches(json!({ "a": [{ "exists": true }] }), json!({ "a": { "b": 1 } })),
        "only leaves exist"
    );
    assert!(!matches(
        json!({ "a": [9_007_199_254_740_993_u64] }),
        json!({ "a": 9_007_199_254_740_992_u64 })
    ));
}

#[test]
fn of_a_list_any_element_matches() {
    assert!(matches(json!({ "a": ["x"] }), json!({ "a": ["w", "x"] })));
    assert!(matches(json!({ "a": { "b": [2] } }), json!({ "a": [{ "b": 1 }, { "b": 2 }] })));
    let of_one_element = json!({ "a": { "b": [1], "c": [2] } });
    assert!(!matches(
        of_one_element.clone(),
        json!({ "a": [{ "b": 1, "c": 9 }, { "b": 9, "c": 2 }] })
    ));
    assert!(matches(of_one_element, json!({ "a": [{ "b": 9 }, { "b": 1, "c": 2 }] })));
    assert!(
        matches(json!({ "a": [{ "exists": false }] }), json!({ "a": [] })),
        "an empty list has no value"
    );
    assert!(
        passes(&[json!({ "data": { "a": [1] } })], br#"[{"a":0},{"a":1}]"#),
        "the data itself may be a list"
    );
}

#[test]
fn fields_of_an_object_hold_together_and_its_alternatives_one_by_one() {
    let pattern = json!({ "kind": ["quake"], "deep": { "$or": [{ "mag": [{ "numeric": [">", 6] }] }, { "felt": [true] }] } });
    assert!(matches(pattern.clone(), json!({ "kind": "quake", "deep": { "mag": 7 } })));
    assert!(matches(
        pattern.clone(),
        json!({ "kind": "quake", "deep": { "mag": 1, "felt": true } })
    ));
    assert!(!matches(pattern.clone(), json!({ "kind": "blast", "deep": { "mag": 7 } })));
    assert!(!matches(pattern, json!({ "kind": "quake", "deep": { "mag": 6, "felt": false } })));
}

#[test]
fn a_record_has_to_match_one_of_the_patterns() {
    let patterns = [json!({ "data": { "a": [1] } }), json!({ "data": { "b": [2] } })];
    assert!(passes(&patterns, br#"{"a":1}"#) && passes(&patterns, br#"{"b":2}"#));
    assert!(!passes(&patterns, br#"{"a":2,"b":1}"#));
}

#[test]
fn the_keys_beside_the_data_can_be_asked_for() {
    for pattern in [
        json!({ "partitionKey": ["key"] }),
        json!({ "sequenceNumber": ["7"] }),
        json!({ "eventID": [{ "prefix": "shardId-000000000006:" }] }),
        json!({ "approximateArrivalTimestamp": [{ "numeric": [">=", 1_545_084_650.987] }] }),
        json!({ "eventSource": ["aws:kinesis"], "eventName": ["aws:kinesis:record"], "awsRegion": ["us-east-1"] }),
        json!({ "kinesisSchemaVersion": ["1.0"], "eventVersion": ["1.0"] }),
        json!({ "eventSourceARN": [{ "suffix": "stream/quakes" }], "invokeIdentityArn": [{ "wildcard": "*role/*" }] }),
    ] {
        assert!(passes(std::slice::from_ref(&pattern), b"{}"), "{pattern}");
    }
    assert!(!passes(&[json!({ "partitionKey": ["other"] })], b"{}"));

    let without_key = Record { partition_key: None, ..testing::record(7, "key", 0) };
    let passes = |pattern: Value| filter(&[pattern]).passes(&ShardId::numbered(6), &without_key);
    assert!(passes(json!({ "partitionKey": [null] })));
    assert!(!passes(json!({ "partitionKey": ["key", ""] })));
}

/// "If either field isn't in a valid JSON format, Lambda drops the message."
#[test]
fn data_that_is_not_json_matches_no_pattern_over_the_data() {
    let absent = json!({ "data": { "a": [{ "exists": false }] } });
    assert!(passes(std::slice::from_ref(&absent), b"{}"));
    assert!(!passes(std::slice::from_ref(&absent), b"plain text"));
    assert!(!passes(std::slice::from_ref(&absent), b"\xff\xfe"));
    assert!(
        passes(&[json!({ "partitionKey": ["key"] })], b"plain text"),
        "nothing is asked of the data"
    );
    assert!(
        passes(&[absent, json!({ "partitionKey": ["key"] })], b"plain text"),
        "the other pattern takes it"
    );
}

#[test]
fn what_is_no_pattern_is_named_with_its_place() {
    for (pattern, expected) in [
        ("{", "it is no JSON object"),
        ("[]", "it is no JSON object"),
        ("{}", "the pattern is an empty object"),
        (r#"{"data":{}}"#, "`data` is an empty object"),
        (r#"{"data":["x"]}"#, "`data` must be an object"),
        (r#"{"data":{"a":"x"}}"#, "`data.a` is a text; it must be a list of values or an object"),
        (r#"{"data":{"a":[]}}"#, "`data.a` is an empty list"),
        (r#"{"data":{"a":[["x"]]}}"#, "`data.a`: a list stands in a list"),
        (r#"{"data":{"a":[{"like":"x"}]}}"#, "`data.a`: `like` is no operator"),
        (r#"{"data":{"a":[{"like":1}]}}"#, "`data.a`: `like` is no operator"),
        (r#"{"data":{"a":[{}]}}"#, "exactly one key"),
        (r#"{"data":{"a":[{"prefix":"x","suffix":"y"}]}}"#, "exactly one key"),
        (r#"{"data":{"a":[{"prefix":1}]}}"#, "`prefix` is a number; it must be a text"),
        (r#"{"data":{"a":[{"prefix":{"suffix":"x"}}]}}"#, "not `suffix`"),
        (r#"{"data":{"a":[{"exists":"yes"}]}}"#, "`exists` is a text; it must be true or false"),
        (r#"{"data":{"a":[{"numeric":[">"]}]}}"#, "`numeric` takes a comparison and a number"),
        (r#"{"data":{"a":[{"numeric":["!",1]}]}}"#, "`numeric` takes a comparison and a number"),
        (r#"{"data":{"a":[{"numeric":[">",5,"<",1]}]}}"#, "from a lower limit up to a higher one"),
        (r#"{"data":{"a":[{"anything-but":["x",1]}]}}"#, "texts only or numbers only"),
        (r#"{"data":{"a":[{"anything-but":null}]}}"#, "`anything-but` is null"),
        (r#"{"data":{"a":[{"wildcard":"a**b"}]}}"#, "two asterisks in a row"),
        (r#"{"data":{"a":[{"wildcard":"a\\b"}]}}"#, "a backslash"),
        (r#"{"$or":[{"data":{"a":[1]}}]}"#, "`$or` needs at least two objects"),
        (r#"{"$or":[{"data":["x"]},{"partitionKey":["k"]}]}"#, "`data` must be an object"),
        (r#"{"data":{"$or":[1,2]}}"#, "`data.$or` holds a number"),
    ] {
        assert!(problem(pattern).contains(expected), "{pattern}: {}", problem(pattern));
        assert!(problem(pattern).contains(pattern), "the pattern is named");
    }
    assert!(
        problem(&format!(r#"{{"data":{{"a":["{}"]}}}}"#, "x".repeat(4096)))
            .contains("4096 characters")
    );
}

#[test]
fn a_mapping_has_at_most_ten_patterns() {
    let pattern = r#"{"partitionKey":["key"]}"#;
    assert!(Patterns::parse([pattern; 10]).is_ok());
    assert_eq!(Patterns::parse([pattern; 11]).unwrap_err(), InvalidFilter::TooMany(11));
    assert!(Patterns::parse([]).unwrap().is_none());
}

proptest! {
    #[test]
    fn an_exact_pattern_of_an_object_takes_that_object_and_anything_but_does_not(
        values in prop::collection::btree_map("[a-d]", prop_oneof![
            any::<i32>().prop_map(Value::from),
            "[a-c*]{0,4}".prop_map(Value::from),
        ], 1..4),
    ) {
        let data = Value::Object(values.clone().into_iter().collect());
        let each = |make: fn(Value) -> Value| -> Value {
            Value::Object(values.clone().into_iter().map(|(key, value)| (key, json!([make(value)]))).collect())
        };
        prop_assert!(matches(each(|value| value), data.clone()));
        let refused = matches(each(|value| json!({ "anything-but": value })), data);
        prop_assert!(!refused);
    }

    #[test]
    fn a_wildcard_takes_what_it_was_made_from(text in "[ab]{0,8}", cuts in prop::collection::vec((0..8_usize, 0..3_usize), 0..3)) {
        let mut characters: Vec<String> = text.chars().map(String::from).collect();
        for (start, length) in cuts {
            let start = start.min(characters.len());
            let end = (start + length).min(characters.len());
            characters.splice(start..end, ["*".to_owned()]);
        }
        characters.dedup_by(|next, before| next == "*" && before == "*");
        let wildcard = characters.concat();
        let taken = matches(json!({ "a": [{ "wildcard": wildcard }] }), json!({ "a": text }));
        prop_assert!(taken, "{wildcard} refuses {text}");
    }

    #[test]
    fn whatever_a_pattern_holds_it_is_read_or_refused(pattern in "[{}\\[\\]:,\"a$or0-9]{0,40}", data in ".{0,20}") {
        if let Ok(Some(patterns)) = Patterns::parse([pattern.as_str()]) {
            Filter::new(patterns, constants()).passes(&ShardId::numbered(0), &Record { data: data.into(), ..testing::record(1, "key", 0) });
        }
    }
}
