//! Every valid record reaches the handler: without a partition key, without an arrival time, and
//! whatever its data is.
#![allow(clippy::unwrap_used, missing_docs)]

use std::cell::{Cell, RefCell};
use std::time::{Duration, UNIX_EPOCH};

use md5::{Digest, Md5};
use serde_json::{Value, json};
use streambot_runtime::testing::{
    Answer, Event, aggregated, decode, invoke, invoke_json, record, records,
};
use streambot_runtime::{Batch, Error, Json, Record, Undecodable, batch, each};

/// The event of these records, with `change` made to the one at `index`.
fn changed(event: &Event, index: usize, change: impl Fn(&mut Value)) -> String {
    let mut json: Value = serde_json::from_str(&event.to_json()).unwrap();
    change(&mut json["Records"][index]);
    json.to_string()
}

/// Runs `each` on a body, and returns the response and the data of the records that the handler
/// received.
async fn each_of(body: impl Into<Vec<u8>>) -> (Answer, Vec<Vec<u8>>) {
    let seen = RefCell::new(Vec::new());
    let note = async |record: Record| -> Result<(), Error> {
        seen.borrow_mut().push(record.data().to_vec());
        Ok(())
    };
    let answer = invoke_json(&each(note), body, &Event::new()).await;
    (answer, seen.take())
}

#[tokio::test]
async fn a_record_without_a_partition_key_is_handled() {
    let without_key = |record: &mut Value| {
        drop(record["kinesis"].as_object_mut().unwrap().remove("partitionKey"))
    };
    let event = records(["a", "b"]);
    let bodies = [
        (
            Event::new().record(record("a")).record(record("b").without_partition_key()).to_json(),
            None,
        ),
        (changed(&event, 1, |record| record["kinesis"]["partitionKey"] = Value::Null), None),
        (changed(&event, 1, without_key), None),
        (event.to_json().replace("\"partitionKey\":\"partition-key-1\",", ""), None),
        (event.to_json().replace("partition-key-1", ""), Some("")),
    ];
    for (body, key) in bodies {
        let batch = decode(body.clone()).unwrap();
        assert_eq!(batch.get(0).unwrap().partition_key(), Some("partition-key-0"), "{body}");
        assert_eq!(batch.get(1).unwrap().partition_key(), key, "{body}");
        let (answer, seen) = each_of(body).await;
        assert!(answer.succeeded(), "{}", answer.logs());
        assert_eq!(seen, [b"a", b"b"]);
    }
}

/// The order in which records finish that take as many milliseconds as their data says.
async fn finished(event: &Event) -> Vec<u64> {
    let order = RefCell::new(Vec::new());
    let wait = async |record: Record| -> Result<(), Error> {
        let milliseconds: u64 = std::str::from_utf8(record.data())?.parse()?;
        tokio::time::sleep(Duration::from_millis(milliseconds)).await;
        order.borrow_mut().push(milliseconds);
        Ok(())
    };
    assert!(invoke(&each(wait).concurrency(4), event).await.succeeded());
    order.take()
}

#[tokio::test(start_paused = true)]
async fn records_without_a_partition_key_do_not_wait_for_each_other() {
    let of_key = |key: Option<&str>| {
        ["30", "20", "10"].into_iter().fold(Event::new(), |event, data| {
            event.record(match key {
                Some(key) => record(data).partition_key(key),
                None => record(data).without_partition_key(),
            })
        })
    };
    assert_eq!(finished(&of_key(None)).await, [10, 20, 30]);
    assert_eq!(finished(&of_key(Some(""))).await, [30, 20, 10], "an empty key is a key");
}

#[tokio::test]
async fn user_records_have_their_own_keys_if_their_aggregate_has_none() {
    let event = Event::new().record(aggregated([("a", "1"), ("b", "2")]).without_partition_key());
    let batch = decode(event.to_json()).unwrap();
    assert_eq!(batch.get(0).unwrap().partition_key(), None);
    let keys: Vec<_> = batch
        .deaggregated()
        .iter()
        .map(|record| record.partition_key().map(str::to_owned))
        .collect();
    assert_eq!(keys, [Some("a".to_owned()), Some("b".to_owned())]);
}

#[tokio::test]
async fn an_arrival_time_that_cannot_be_read_does_not_harm_the_data() {
    let milliseconds = |time| Some(UNIX_EPOCH + Duration::from_millis(time));
    let cases = [
        ("1700000000.123", milliseconds(1_700_000_000_123)),
        ("1700000000.1234567", milliseconds(1_700_000_000_123)),
        ("1.7e9", milliseconds(1_700_000_000_000)),
        ("0", milliseconds(0)),
        ("253402300799.999", milliseconds(253_402_300_799_999)),
        ("253402300800", None),
        ("1700000000123", None),
        ("1e300", None),
        ("1e999", None),
        ("-1.5", None),
        ("\"1700000000.123\"", None),
        ("\"2023-11-14T22:13:20Z\"", None),
        ("null", None),
        ("true", None),
        ("{\"seconds\":1}", None),
    ];
    let arrived = UNIX_EPOCH + Duration::from_secs(1);
    let event = Event::new().record(record("a").arrival(arrived)).record(record("b"));
    let field = |body: &str| {
        let start = body.rfind("\"approximateArrivalTimestamp\":").unwrap();
        let value = start + "\"approximateArrivalTimestamp\":".len();
        (start, value, value + body[value..].find('}').unwrap())
    };
    let body = event.to_json();
    let (start, value, end) = field(&body);
    let mut bodies: Vec<_> = cases
        .map(|(time, expected)| ([&body[..value], time, &body[end..]].concat(), expected))
        .to_vec();
    bodies.push(([&body[..start - 1], &body[end..]].concat(), None));
    for (body, expected) in bodies {
        let arrivals: Vec<_> = decode(body.clone())
            .unwrap()
            .iter()
            .map(|record| record.approximate_arrival())
            .collect();
        assert_eq!(arrivals, [Some(arrived), expected], "{body}");
        let (answer, seen) = each_of(body.clone()).await;
        assert!(answer.succeeded(), "{body}: {}", answer.logs());
        assert_eq!(seen, [b"a", b"b"]);
    }
}

#[tokio::test]
async fn without_any_arrival_time_there_is_no_iterator_age() {
    let event = records(["a"]);
    let body = changed(&event, 0, |record| {
        record["kinesis"]["approximateArrivalTimestamp"] = json!("now")
    });
    let (answer, _) = each_of(body).await;
    assert_eq!(answer.metric("IteratorAge"), None);
    assert!(each_of(event.to_json()).await.0.metric("IteratorAge").is_some());
}

#[tokio::test]
async fn data_arrives_as_it_was_put() {
    // gzip, and the JSON of a change record of DynamoDB.
    let gzip =
        [0x1f, 0x8b, 0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x02, 0xff, 0x4b, 0x04, 0x00, 0x43, 0xbe];
    let change = br#"{"awsRegion":"us-east-1","dynamodb":{"Keys":{"Id":{"N":"101"}}},"eventSource":"aws:dynamodb"}"#;
    let data = [&gzip[..], &gzip[..], &change[..], b"", b"\xef\xbb\xbf{}", b"\xf3\x89\x9a\xc2"];
    let (answer, seen) = each_of(records(data).to_json()).await;
    assert!(answer.succeeded(), "{}", answer.logs());
    assert_eq!(seen, data);
}

#[tokio::test]
async fn records_of_a_consumer_and_of_an_encrypted_stream_are_handled() {
    let event = records(["a", "b"]).to_json();
    let consumer = "arn:aws:kinesis:us-east-1:123456789012:stream/test/consumer/fast:1543959219";
    let fan_out = event.replace("arn:aws:kinesis:us-east-1:123456789012:stream/test", consumer);
    assert_eq!(decode(fan_out.clone()).unwrap().event_source_arn(), Some(consumer));
    let encrypted =
        event.replace("},\"eventSource\"", ",\"encryptionType\":\"KMS\"},\"eventSource\"");
    assert!(encrypted.contains("KMS"));
    for body in [fan_out, encrypted] {
        let (answer, seen) = each_of(body).await;
        assert!(answer.succeeded(), "{}", answer.logs());
        assert_eq!(seen, [b"a", b"b"]);
    }
}

/// A message of Protocol Buffers as an aggregate.
fn sealed(message: &[u8]) -> Vec<u8> {
    [&[0xf3, 0x89, 0x9a, 0xc2], message, Md5::digest(message).as_slice()].concat()
}

#[tokio::test]
async fn one_level_of_aggregates_is_unpacked() {
    let inner = sealed(b"\x0a\x02in\x1a\x05\x08\x00\x1a\x011");
    let (answer, seen) =
        each_of(Event::new().record(aggregated([("a", &inner[..]), ("a", b"x")])).to_json()).await;
    assert!(answer.succeeded());
    assert_eq!(seen, [inner, b"x".to_vec()]);
}

#[tokio::test]
async fn user_records_without_data_are_handled_and_an_aggregate_of_none_is_done() {
    let (answer, seen) =
        each_of(Event::new().record(aggregated([("a", ""), ("a", "x")])).to_json()).await;
    assert!(answer.succeeded());
    assert_eq!(seen, [&b""[..], b"x"]);

    // The key table alone.
    let (answer, seen) = each_of(records([sealed(b"\x0a\x01a")]).to_json()).await;
    assert!(answer.succeeded(), "{}", answer.logs());
    assert_eq!((seen.len(), answer.metric("Records")), (0, Some(1.0)));
}

/// A plain record, an aggregate whose third user record points behind the end of the key table, a
/// plain record.
fn with_a_bad_index() -> Event {
    let message = b"\x0a\x01a\x1a\x06\x08\x00\x1a\x02ok\x1a\x07\x08\x00\x1a\x03too\x1a\x07\x08\x05\x1a\x03bad\x1a\x08\x08\x00\x1a\x04lost";
    let event = Event::new().record(record("first"));
    event.record(record(sealed(message))).record(record("last"))
}

#[tokio::test]
async fn user_records_ahead_of_a_bad_index_are_handled_and_their_aggregate_is_reported() {
    let event = with_a_bad_index();
    let (answer, seen) = each_of(event.to_json()).await;
    assert_eq!(seen, [&b"first"[..], b"ok", b"too"]);
    assert_eq!(answer.retried_from(), Some(event.sequence_number(1)));

    let ahead = RefCell::new(Vec::new());
    let note = async |batch: Batch| -> Result<(), Error> {
        ahead.borrow_mut().extend(batch.iter().map(|record| record.data().to_vec()));
        Ok(())
    };
    let answer = invoke(&batch(note), &event).await;
    assert_eq!(ahead.take(), [&b"first"[..], b"ok", b"too"]);
    assert_eq!(answer.retried_from(), Some(event.sequence_number(1)));
    assert_eq!(answer.status(), "Error");
}

/// More user records than are unpacked from one event: those ahead of the aggregate that exceeds
/// the bound are done, and it comes first in the next event.
#[tokio::test]
async fn an_aggregate_that_exceeds_the_bound_of_an_event_is_delivered_again_and_not_skipped() {
    let event = Event::new()
        .record(aggregated(vec![("a", ""); 249_999]))
        .record(aggregated([("b", ""), ("b", "")]));
    let count = Cell::new(0);
    let note = async |_record: Record| -> Result<(), Error> {
        count.set(count.get() + 1);
        Ok(())
    };
    for policy in [Undecodable::Fail, Undecodable::Skip] {
        count.set(0);
        let answer = invoke(&each(note).on_undecodable(policy), &event).await;
        assert_eq!((count.get(), answer.retried_from()), (249_999, Some(event.sequence_number(1))));
        assert_eq!(answer.status(), "Error");
        assert!(answer.logs().contains("lower the batch size"), "{}", answer.logs());
        assert_eq!(answer.metric("UndecodableRecords"), None);
    }
}

#[derive(serde::Deserialize)]
struct Quake {
    mag: f64,
}

#[tokio::test]
async fn json_that_does_not_fit_is_reported_without_the_data() {
    let cases: [(&[u8], &str); 4] = [
        (
            br#"{"id":"q","mag":"never-log-me"}"#,
            "`mag`: expected a number (f64), found text (line 1, column 30)",
        ),
        (b"\xef\xbb\xbf{\"mag\":5.0}", "byte order mark"),
        (b"{\"mag\":5.0}\n{\"mag\":5.0}", "put one document into a record (line 2, column 1)"),
        (b"{\"mag\":5.0}{\"mag\":5.0}", "put one document into a record (line 1, column 12)"),
    ];
    let magnitude = async |quake: Json<Quake>| -> Result<(), Error> {
        assert!(quake.mag > 0.0);
        Ok(())
    };
    for (data, expected) in cases {
        let event = records([br#"{"mag":5.0}"#, data]);
        let answer = invoke(&each(magnitude), &event).await;
        assert_eq!(answer.retried_from(), Some(event.sequence_number(1)));
        assert!(answer.logs().contains(expected), "{}", answer.logs());
        assert!(!answer.logs().contains("never-log-me"), "{}", answer.logs());
    }
}

#[tokio::test]
async fn a_handler_that_decodes_json_itself_does_not_bring_the_data_into_the_log() {
    let data = br#"{"id":"q","mag":"never-log-me"}"#;
    let event = records([data]);
    let bare = async |record: Record| -> Result<(), serde_json::Error> {
        serde_json::from_slice::<Quake>(record.data()).map(drop)
    };
    let anyhow = async |record: Record| -> anyhow::Result<()> {
        serde_json::from_slice::<Quake>(record.data())?;
        Ok(())
    };
    let unwraps = async |record: Record| -> Result<(), Error> {
        serde_json::from_slice::<Quake>(record.data()).unwrap();
        Ok(())
    };
    let answers = [
        invoke(&each(bare), &event).await,
        invoke(&each(anyhow), &event).await,
        invoke(&each(unwraps), &event).await,
    ];
    for answer in answers {
        assert_eq!(answer.retried_from(), Some(event.sequence_number(0)));
        assert!(answer.logs().contains("column"), "{}", answer.logs());
        assert!(!answer.logs().contains("never-log-me"), "{}", answer.logs());
    }
}
