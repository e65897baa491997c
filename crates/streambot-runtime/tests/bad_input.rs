//! Events that are broken, or are not what the function is for: what is said of them, and that
//! neighbours are not harmed.
#![allow(clippy::unwrap_used, missing_docs)]

use std::cell::RefCell;
use std::rc::Rc;

use serde_json::{Value, json};
use streambot_runtime::testing::{Answer, Event, invoke_json, records};
use streambot_runtime::{Batch, Error, Failures, Record, batch, each};

/// Runs `each` on a body; the answer, and the data of the records the handler was given.
async fn each_of(body: impl Into<Vec<u8>>) -> (Answer, Vec<String>) {
    let seen = Rc::new(RefCell::new(Vec::new()));
    let handler = {
        let seen = Rc::clone(&seen);
        async move |record: Record| -> Result<(), Error> {
            seen.borrow_mut().push(String::from_utf8_lossy(record.data()).into_owned());
            Ok(())
        }
    };
    let answer = invoke_json(&each(handler), body, &Event::new()).await;
    let seen = seen.take();
    (answer, seen)
}

async fn message_for(body: impl Into<Vec<u8>>) -> String {
    let (answer, seen) = each_of(body).await;
    assert!(seen.is_empty());
    assert_eq!(answer.status(), "Error");
    answer.json().unwrap_err().to_string()
}

/// Three good records with the middle one changed.
fn with_middle(change: impl Fn(&mut Value)) -> String {
    let mut event: Value = serde_json::from_str(&records(["a", "b", "c"]).to_json()).unwrap();
    change(&mut event["Records"][1]);
    event.to_string()
}

#[tokio::test]
async fn bodies_that_are_no_kinesis_event_say_so() {
    let cases: [(&[u8], &str); 9] = [
        (b"", "not JSON"),
        (b"{\"Records\":[", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[]", "not a JSON object"),
        (b" null", "not a JSON object"),
        (b"\"text\"", "not a JSON object"),
        (b"{}", "no `Records`"),
        (b"{\"Records\":null}", "no `Records`"),
        (b"{\"Records\":{}}", "not a Kinesis event"),
    ];
    for (body, expected) in cases {
        let message = message_for(body).await;
        assert!(message.contains(expected), "{}: {message}", String::from_utf8_lossy(body));
        assert!(message.starts_with("Function.EventUnreadable"), "{message}");
    }
}

#[tokio::test]
async fn records_of_another_source_are_named() {
    for source in ["aws:sqs", "aws:dynamodb"] {
        let body = with_middle(|record| record["eventSource"] = json!(source));
        let message = message_for(body).await;
        assert!(message.contains(source) && message.contains("record 1"), "{message}");
    }
}

#[tokio::test]
async fn a_record_with_another_event_name_is_handed_on() {
    for name in [json!("aws:kinesis:other"), json!(5), Value::Null] {
        let (answer, seen) =
            each_of(with_middle(|record| record["eventName"] = name.clone())).await;
        assert!(answer.succeeded(), "{name}: {}", answer.logs());
        assert_eq!(seen, ["a", "b", "c"], "{name}");
        assert_eq!(answer.metric("Records"), Some(3.0), "{name}");
    }
}

#[tokio::test]
async fn a_broken_record_is_named_and_the_ones_ahead_of_it_are_done() {
    let number = records(["a", "b", "c"]).sequence_number(1);
    type Change = fn(&mut Value);
    let cases: [(Change, &str); 8] = [
        (|record| record["kinesis"]["data"] = json!("never-log-me!"), "kinesis.data: not base64"),
        (|record| record["kinesis"]["data"] = json!("YQ"), "kinesis.data: not base64"),
        (
            |record| record["kinesis"]["data"] = Value::Null,
            "kinesis.data: expected text, found null",
        ),
        (
            |record| drop(record["kinesis"].as_object_mut().unwrap().remove("data")),
            "kinesis: missing field `data`",
        ),
        (
            |record| record["kinesis"]["partitionKey"] = json!(["never-log-me"]),
            "kinesis.partitionKey: expected text, found an array",
        ),
        (|record| record["kinesis"] = Value::Null, "missing field `kinesis`"),
        (|record| record["kinesis"] = json!("never-log-me"), "kinesis: not a JSON object"),
        (
            |record| record["kinesis"]["sequenceNumber"] = json!("never-log-me"),
            "not a decimal number",
        ),
    ];
    for (change, expected) in cases {
        let (answer, seen) = each_of(with_middle(change)).await;
        assert_eq!(seen, ["a"], "{expected}");
        assert_eq!(answer.retried_from().as_ref(), Some(&number), "{expected}: {}", answer.logs());
        assert!(answer.logs().contains(expected), "{expected}: {}", answer.logs());
        assert!(!answer.logs().contains("never-log-me"), "{expected}: {}", answer.logs());
        assert!(
            answer.logs().contains("record 1 of the event") && answer.logs().contains(&number),
            "{}",
            answer.logs()
        );
    }
}

#[tokio::test]
async fn a_broken_record_without_a_number_fails_the_invocation_after_its_neighbours() {
    for broken in [
        json!([]),
        json!(null),
        json!({ "kinesis": {} }),
        json!({ "eventID": "no number", "kinesis": {} }),
    ] {
        let (answer, seen) = each_of(with_middle(|record| *record = broken.clone())).await;
        assert_eq!(seen, ["a"], "{broken}");
        assert!(answer.json().unwrap_err().message().contains("no sequence number"), "{broken}");
    }
}

#[tokio::test]
async fn unknown_fields_are_ignored_and_escapes_are_understood() {
    let body = with_middle(|record| {
        record["new"] = json!({ "deep": [1] });
        record["kinesis"]["encryptionType"] = json!("KMS");
        record["kinesis"]["partitionKey"] = json!("quote \" and ü");
    });
    let escaped = body.replace('ü', "\\u00fc");
    let keys = async |batch: Batch| -> Result<(), Error> {
        assert_eq!(batch.get(1).unwrap().partition_key(), Some("quote \" and ü"));
        Ok(())
    };
    for body in [body, escaped] {
        let answer = invoke_json(&batch(keys), body, &Event::new()).await;
        assert!(answer.succeeded(), "{}", answer.logs());
    }
}

#[tokio::test]
async fn a_batch_handler_gets_what_is_ahead_of_a_broken_record() {
    let number = records(["a", "b", "c"]).sequence_number(1);
    let one = async |batch: Batch| -> Result<Failures, Error> {
        assert_eq!(batch.len(), 1);
        Ok(Failures::new())
    };
    let body = with_middle(|record| record["kinesis"]["data"] = json!("?"));
    let answer = invoke_json(&batch(one), body, &Event::new()).await;
    assert_eq!(answer.retried_from(), Some(number), "{}", answer.logs());

    let mut first: Value = serde_json::from_str(&records(["a"]).to_json()).unwrap();
    first["Records"][0]["kinesis"]["data"] = json!("?");
    let never = async |_batch: Batch| -> Result<(), Error> { panic!("called") };
    let answer = invoke_json(&batch(never), first.to_string(), &Event::new()).await;
    assert_eq!(answer.retried_from(), Some(records(["a"]).sequence_number(0)), "{}", answer.logs());
    assert_eq!(answer.status(), "Error");
    assert!(answer.logs().contains("not base64"), "{}", answer.logs());
}

#[tokio::test]
async fn duplicate_sequence_numbers_are_two_records() {
    let number = records(["a", "b", "c"]).sequence_number(0);
    let (answer, seen) =
        each_of(with_middle(|record| record["kinesis"]["sequenceNumber"] = json!(number))).await;
    assert!(answer.succeeded());
    assert_eq!(seen, ["a", "b", "c"]);
}

#[tokio::test]
async fn large_events_are_read_whole() {
    let (answer, seen) =
        each_of(records((0..10_000).map(|index| index.to_string())).to_json()).await;
    assert!(answer.succeeded());
    assert_eq!(seen.len(), 10_000);
    assert_eq!(seen[9_999], "9999");

    let (answer, seen) = each_of(records(["x".repeat(6 << 20)]).to_json()).await;
    assert!(answer.succeeded());
    assert_eq!(seen[0].len(), 6 << 20);
}
