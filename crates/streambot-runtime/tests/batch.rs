//! `batch`: the whole batch at once, and the failures it may report.
#![allow(clippy::unwrap_used, missing_docs)]

use std::cell::RefCell;

use serde_json::json;
use streambot_runtime::testing::{Event, decode, invoke, records};
use streambot_runtime::{Batch, Context, Error, Failures, batch};

#[tokio::test]
async fn the_whole_batch_is_handed_over_in_order() {
    let store = async |batch: Batch, context: Context| -> Result<(), Error> {
        assert_eq!(batch.shard_id(), Some("shardId-000000000007".to_owned()));
        assert_eq!(
            batch.event_source_arn(),
            Some("arn:aws:kinesis:us-east-1:123456789012:stream/test")
        );
        assert!(context.function_arn().ends_with(":test"));
        let data: Vec<_> = batch.iter().map(|record| record.data().to_vec()).collect();
        assert_eq!(data, [b"a", b"b"]);
        Ok(())
    };
    let answer = invoke(&batch(store), records(["a", "b"]).shard_id("shardId-000000000007")).await;
    assert_eq!(answer.json().unwrap(), &json!({ "batchItemFailures": [] }), "{}", answer.logs());
}

#[tokio::test]
async fn the_first_reported_failure_is_the_checkpoint() {
    let report = async |batch: Batch| -> Result<Failures, Error> {
        let mut failures = Failures::new();
        failures.push(batch.get(3).unwrap());
        failures.extend([batch.get(1).unwrap(), batch.get(3).unwrap()]);
        assert_eq!(failures.len(), 2);
        Ok(failures)
    };
    let event = records(["a", "b", "c", "d"]);
    let answer = invoke(&batch(report), &event).await;
    assert_eq!(answer.retried_from(), Some(event.sequence_number(1)));
    assert_eq!(answer.metric("FailedRecords"), Some(2.0));
    assert_eq!(answer.status(), "Error");
}

#[tokio::test]
async fn a_record_of_another_batch_fails_the_whole_batch() {
    let kept = RefCell::new(None);
    let report = async |batch: Batch| -> Result<Failures, Error> {
        let first = batch.get(0).unwrap();
        Ok([kept.borrow_mut().replace(first.clone()).unwrap_or(first)].into_iter().collect())
    };
    let handler = batch(report);
    assert!(
        invoke(&handler, records(["a"])).await.retried_from().is_some(),
        "its own record is fine"
    );
    let error = invoke(&handler, records(["a"])).await.json().unwrap_err();
    assert!(error.message().contains("not a record of this batch"), "{error}");
}

#[tokio::test]
async fn a_record_of_another_batch_fails_the_whole_batch_beside_records_of_its_own() {
    let other = decode(records(["a"]).to_json()).unwrap();
    for detach in [false, true] {
        let report = async |batch: Batch| -> Result<Failures, Error> {
            let foreign =
                if detach { batch.get(0).unwrap().detach() } else { other.get(0).unwrap() };
            Ok([batch.get(0).unwrap(), foreign].into_iter().collect())
        };
        let error = invoke(&batch(report), records(["a"])).await.json().unwrap_err();
        assert!(error.message().contains("not a record of this batch"), "{error}");
    }
}

#[tokio::test]
async fn an_error_or_a_panic_fails_the_invocation() {
    let fail = async |_batch: Batch| -> Result<(), Error> { Err(format!("no {}", "table").into()) };
    let error = invoke(&batch(fail), records(["a"])).await.json().unwrap_err();
    assert_eq!((error.kind(), error.message()), ("Function.BatchFailed", "no table"));

    let panic =
        async |batch: Batch| -> Result<(), Error> { panic!("{} records too many", batch.len()) };
    let error = invoke(&batch(panic), records(["a", "b"])).await.json().unwrap_err();
    assert_eq!(error.kind(), "Function.Panicked");
    assert!(error.message().contains("2 records too many"), "{error}");
}

#[tokio::test]
async fn without_records_the_handler_is_not_called() {
    let never = async |_batch: Batch| -> Result<(), Error> { panic!("called") };
    assert!(invoke(&batch(never), Event::new()).await.succeeded());
}
