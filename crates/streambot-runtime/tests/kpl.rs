//! KPL aggregated records, through the handlers, and the vectors that another implementation wrote.
#![allow(clippy::unwrap_used, missing_docs)]

use std::cell::RefCell;

use serde_json::Value;
use streambot_runtime::testing::{Event, aggregated, invoke, record};
use streambot_runtime::{Batch, Error, Failures, Record, batch, each};

/// A plain record, an aggregate of three, a plain record.
fn mixed() -> Event {
    Event::new()
        .record(record("first").partition_key("outer-0"))
        .record(aggregated([("a", "one"), ("b", "two"), ("a", "three")]).partition_key("outer-1"))
        .record(record("last").partition_key("outer-2"))
}

#[tokio::test]
async fn user_records_come_in_order_with_their_own_keys_and_places() {
    let seen = RefCell::new(Vec::new());
    let note = async |record: Record| -> Result<(), Error> {
        let data = String::from_utf8(record.data().to_vec())?;
        seen.borrow_mut().push((
            data,
            record.partition_key().unwrap_or_default().to_owned(),
            record.sub_sequence_number(),
            record.id(),
        ));
        Ok(())
    };
    let event = mixed();
    let answer = invoke(&each(note), &event).await;
    assert!(answer.succeeded(), "{}", answer.logs());
    let id = |index, sub| format!("shardId-000000000000:{}:{sub}", event.sequence_number(index));
    let expected = [
        ("first", "outer-0", 0, id(0, 0)),
        ("one", "a", 0, id(1, 0)),
        ("two", "b", 1, id(1, 1)),
        ("three", "a", 2, id(1, 2)),
        ("last", "outer-2", 0, id(2, 0)),
    ];
    assert_eq!(
        *seen.borrow(),
        expected.map(|(data, key, sub, id)| (data.to_owned(), key.to_owned(), sub, id))
    );
    assert_eq!(answer.metric("Records"), Some(3.0), "as Lambda counts them");
}

#[tokio::test]
async fn a_failed_user_record_brings_its_aggregate_back_once() {
    let event = mixed();
    let fail_two = async |record: Record| -> Result<(), Error> {
        if record.data() == b"two" { Err("no".into()) } else { Ok(()) }
    };
    let answer = invoke(&each(fail_two), &event).await;
    assert_eq!(answer.json().unwrap()["batchItemFailures"].as_array().unwrap().len(), 1);
    assert_eq!(answer.retried_from(), Some(event.sequence_number(1)));

    let report_both = async |batch: Batch| -> Result<Failures, Error> {
        assert_eq!(batch.len(), 5);
        let failures: Failures =
            batch.iter().filter(|record| record.partition_key() == Some("a")).collect();
        assert_eq!(failures.len(), 2);
        Ok(failures)
    };
    let answer = invoke(&batch(report_both), &event).await;
    assert_eq!(answer.json().unwrap()["batchItemFailures"].as_array().unwrap().len(), 1);
    assert_eq!(answer.retried_from(), Some(event.sequence_number(1)));
}

#[tokio::test(start_paused = true)]
async fn concurrency_goes_by_the_user_records_keys() {
    let order = RefCell::new(Vec::new());
    let wait = async |record: Record| -> Result<(), Error> {
        let milliseconds: u64 = std::str::from_utf8(record.data())?.parse()?;
        tokio::time::sleep(std::time::Duration::from_millis(milliseconds)).await;
        order.borrow_mut().push(milliseconds);
        Ok(())
    };
    let event = Event::new().record(aggregated([("a", "30"), ("a", "10"), ("b", "5")]));
    assert!(invoke(&each(wait).concurrency(4), event).await.succeeded());
    assert_eq!(*order.borrow(), [5, 30, 10]);
}

#[tokio::test]
async fn aggregates_can_be_taken_as_they_are() {
    let whole = async |batch: Batch| -> Result<(), Error> {
        assert_eq!(batch.len(), 3);
        assert!(batch.get(1).unwrap().data().starts_with(&[0xf3, 0x89, 0x9a, 0xc2]));
        Ok(())
    };
    assert!(invoke(&batch(whole).deaggregate(false), mixed()).await.succeeded());
}

/// `tests/vectors/kpl.json` is written by PyPI's `aws_kinesis_agg` (see `ci/kpl-vectors`), damaged
/// ones included.
#[tokio::test]
async fn vectors_of_another_implementation_decode_as_they_should() {
    let vectors: Vec<Value> = serde_json::from_str(include_str!("vectors/kpl.json")).unwrap();
    assert!(vectors.len() >= 10);
    for vector in vectors {
        let name = vector["name"].as_str().unwrap();
        let data = base64_simd::STANDARD.decode_to_vec(vector["data"].as_str().unwrap()).unwrap();
        let seen = RefCell::new(Vec::new());
        let note = async |record: Record| -> Result<(), Error> {
            let data = base64_simd::STANDARD.encode_to_string(record.data());
            let hash_key = record.explicit_hash_key().map(str::to_owned);
            seen.borrow_mut().push(serde_json::json!([record.partition_key(), hash_key, data]));
            Ok(())
        };
        let event = Event::new().record(record(data).partition_key("outer"));
        let answer = invoke(&each(note), &event).await;
        assert_eq!(Value::from(seen.take()), vector["records"], "{name}");
        let damaged = vector["damaged"].as_bool().unwrap();
        assert_eq!(answer.retried_from().is_some(), damaged, "{name}: {}", answer.logs());
        assert_eq!(
            answer.logs().contains("the aggregate is damaged"),
            damaged,
            "{name}: {}",
            answer.logs()
        );
    }
}
