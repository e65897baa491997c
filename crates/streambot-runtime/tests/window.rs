//! `window`: state in and out, final and early ends, failures and old states.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeMap;

use serde_json::json;
use streambot_runtime::testing::{Event, aggregated, invoke, invoke_json, record, records};
use streambot_runtime::{Context, Error, Failures, Undecodable, Utf8, Window, batch, each, window};

/// How often each line was seen.
type Counts = BTreeMap<String, u64>;

async fn count(mut window: Window<Counts>) -> Result<Counts, Error> {
    for record in &window.batch {
        *window.state.entry(std::str::from_utf8(record.data())?.to_owned()).or_default() += 1;
    }
    if window.is_final() {
        let early = if window.terminated_early() { "early" } else { "in time" };
        tracing::info!(
            "{} to {} of {} ended {early}",
            window.start(),
            window.end(),
            window.shard_id()
        );
    }
    Ok(window.state)
}

fn of_window(event: Event, state: serde_json::Value) -> Event {
    event.window("2026-11-22T18:00:00Z", "2026-11-22T18:02:00Z", state)
}

#[tokio::test]
async fn the_state_goes_from_batch_to_batch() {
    let first = invoke(&window(count), of_window(records(["a", "b", "a"]), json!({}))).await;
    assert_eq!(first.state(), Some(&json!({ "a": 2, "b": 1 })));
    assert!(first.succeeded());

    let second =
        invoke(&window(count), of_window(records(["b"]), first.state().unwrap().clone())).await;
    assert_eq!(
        second.json().unwrap(),
        &json!({ "batchItemFailures": [], "state": { "a": 2, "b": 2 } })
    );
}

#[tokio::test]
async fn the_last_batch_may_be_empty_and_says_that_it_is_the_last() {
    let event = of_window(Event::new(), json!({ "a": 2 })).final_invoke();
    let answer = invoke(&window(count), event).await;
    assert_eq!(answer.state(), Some(&json!({ "a": 2 })));
    let expected =
        "2026-11-22T18:00:00Z to 2026-11-22T18:02:00Z of shardId-000000000000 ended in time";
    assert!(answer.logs().contains(expected), "{}", answer.logs());

    let early =
        invoke(&window(count), of_window(records(["a"]), json!({})).terminated_early()).await;
    assert!(early.logs().contains("ended early"), "{}", early.logs());
}

/// The event that AWS's documentation shows for a tumbling window.
#[tokio::test]
async fn the_documented_event_is_read() {
    let body = r#"{
        "Records": [{
            "kinesis": {
                "kinesisSchemaVersion": "1.0", "partitionKey": "1",
                "sequenceNumber": "49590338271490256608559692538361571095921575989136588898",
                "data": "SGVsbG8sIHRoaXMgaXMgYSB0ZXN0Lg==", "approximateArrivalTimestamp": 1607497475.000
            },
            "eventSource": "aws:kinesis", "eventVersion": "1.0",
            "eventID": "shardId-000000000006:49590338271490256608559692538361571095921575989136588898",
            "eventName": "aws:kinesis:record", "invokeIdentityArn": "arn:aws:iam::123456789012:role/lambda-kinesis-role",
            "awsRegion": "us-east-1", "eventSourceARN": "arn:aws:kinesis:us-east-1:123456789012:stream/lambda-stream"
        }],
        "window": { "start": "2020-12-09T07:04:00Z", "end": "2020-12-09T07:06:00Z" },
        "state": { "1": 282, "2": 715 },
        "shardId": "shardId-000000000006",
        "eventSourceARN": "arn:aws:kinesis:us-east-1:123456789012:stream/lambda-stream",
        "isFinalInvokeForWindow": false,
        "isWindowTerminatedEarly": false
    }"#;
    let answer = invoke_json(&window(count), body, &Event::new()).await;
    assert_eq!(
        answer.state(),
        Some(&json!({ "1": 282, "2": 715, "Hello, this is a test.": 1 })),
        "{}",
        answer.logs()
    );
}

#[tokio::test]
async fn failures_and_the_state_go_out_together() {
    let until_bad =
        async |mut window: Window<u64>, _context: Context| -> Result<(u64, Failures), Error> {
            let mut failures = Failures::new();
            for record in &window.batch {
                if record.data() == b"bad" {
                    failures.push(record);
                    break;
                }
                window.state += 1;
            }
            Ok((window.state, failures))
        };
    let event = of_window(records(["a", "b", "bad", "c"]), json!(40));
    let answer = invoke(&window(until_bad), &event).await;
    let failures = json!([{ "itemIdentifier": event.sequence_number(2) }]);
    assert_eq!(answer.json().unwrap(), &json!({ "batchItemFailures": failures, "state": 42 }));
}

/// Adds the numbers up to the first one that is not a number, which is named as the failure.
async fn sum(mut window: Window<u64>) -> Result<(u64, Failures), Error> {
    let mut failures = Failures::new();
    for record in &window.batch {
        match std::str::from_utf8(record.data())?.parse::<u64>() {
            Ok(number) => window.state += number,
            Err(_) => {
                failures.push(record);
                break;
            }
        }
    }
    Ok((window.state, failures))
}

/// An aggregate whose third entry names a partition key that its table does not have: 1 and 2, then
/// damage.
fn damaged_aggregate() -> Vec<u8> {
    base64_simd::STANDARD
        .decode_to_vec("84mawgoBYRoFCAAaATEaBQgAGgEyGgUIBxoBNHe+BD7g3iQwZe6UFECL1jE=")
        .unwrap()
}

#[tokio::test]
async fn the_state_never_holds_a_part_of_an_aggregate_that_comes_again() {
    let bad_inside = aggregated([("a", "1"), ("a", "2"), ("a", "x"), ("a", "4")]);
    let cases = [
        ("the handler refuses one inside the first aggregate", vec![bad_inside.clone()], 0, 100),
        ("and inside a later one", vec![record("5"), bad_inside.clone()], 1, 105),
        ("a damaged first aggregate", vec![record(damaged_aggregate())], 0, 100),
        ("a damaged later one", vec![record("5"), record(damaged_aggregate())], 1, 105),
        (
            "the first entry of an aggregate",
            vec![record("5"), aggregated([("a", "x"), ("a", "4")])],
            1,
            105,
        ),
    ];
    for (case, records, checkpoint, state) in cases {
        let event = records.into_iter().fold(of_window(Event::new(), json!(100)), Event::record);
        let answer = invoke(&window(sum), &event).await;
        assert_eq!(answer.state(), Some(&json!(state)), "{case}: {}", answer.logs());
        assert_eq!(answer.retried_from(), Some(event.sequence_number(checkpoint)), "{case}");
        assert_eq!(
            (answer.status(), answer.metric("FailedRecords")),
            ("Error", Some(1.0)),
            "{case}"
        );
    }
}

/// Retries of one aggregate that fails twice: 1, 2 and 3 are 6, however often they come.
#[tokio::test]
async fn an_aggregate_that_is_delivered_again_is_counted_once() {
    let mut state = json!({});
    for last in ["x", "x", "3"] {
        let event = of_window(
            Event::new().record(aggregated([("a", "1"), ("a", "2"), ("a", last)])),
            state,
        );
        let answer = invoke(&window(sum), &event).await;
        state = answer.state().unwrap().clone();
    }
    assert_eq!(state, json!(6));
}

/// The second run, on the records ahead of the aggregate, is not the window's last: the rest is
/// still to come.
#[tokio::test]
async fn the_run_that_makes_the_state_before_an_aggregate_is_never_final() {
    let runs = std::cell::RefCell::new(Vec::new());
    let noting = async |window: Window<u64>| -> Result<(u64, Failures), Error> {
        runs.borrow_mut().push((window.batch.len(), window.is_final()));
        sum(window).await
    };
    let event = of_window(Event::new(), json!({})).final_invoke();
    let event = event.record(record("5")).record(aggregated([("a", "1"), ("a", "x")]));
    let answer = invoke(&window(noting), &event).await;
    assert_eq!(*runs.borrow(), [(3, true), (1, false)]);
    assert_eq!(answer.state(), Some(&json!(5)));
}

#[tokio::test]
async fn a_null_state_is_the_default_and_is_logged() {
    let answer = invoke(&window(sum), of_window(records(["1"]), json!(null))).await;
    assert_eq!(answer.state(), Some(&json!(1)));
    assert!(
        answer.logs().contains("WARN") && answer.logs().contains("state is null"),
        "{}",
        answer.logs()
    );
    let fresh = invoke(&window(sum), of_window(records(["1"]), json!({}))).await;
    assert!(!fresh.logs().contains("WARN"), "{}", fresh.logs());
}

#[tokio::test]
async fn a_state_of_another_kind_is_an_error_that_is_counted_and_never_printed() {
    let answer = invoke(&window(sum), of_window(records(["1"]), json!("never-print-me"))).await;
    assert_eq!(answer.state(), Some(&json!(1)));
    assert_eq!(answer.metric("OldWindowStates"), Some(1.0));
    assert!(
        answer.logs().contains("ERROR") && !answer.logs().contains("never-print-me"),
        "{}",
        answer.logs()
    );
}

#[tokio::test]
async fn a_state_that_json_cannot_carry_fails_the_invocation() {
    let divide = async |window: Window<Option<f64>>| -> Result<Option<f64>, Error> {
        Ok(Some(0.0 / window.batch.iter().filter(|record| record.data().is_empty()).count() as f64))
    };
    let answer = invoke(&window(divide), of_window(records(["1"]), json!({}))).await;
    let error = answer.json().unwrap_err();
    assert!(error.message().contains("NaN"), "{error}");
    assert_eq!((answer.status(), answer.metric("FailedRecords")), ("Error", Some(1.0)));
}

#[tokio::test]
async fn a_response_over_six_megabytes_is_an_error_that_says_so() {
    let grow = async |window: Window<String>| -> Result<String, Error> {
        Ok("x".repeat(std::str::from_utf8(window.batch.get(0).unwrap().data())?.parse()?))
    };
    // `{"batchItemFailures":[],"state":"…"}`
    let most = 6_291_556 - 35;
    for (bytes, is_taken) in [(most, true), (most + 1, false)] {
        let answer =
            invoke(&window(grow), of_window(records([bytes.to_string()]), json!({}))).await;
        assert_eq!(answer.json().is_ok(), is_taken, "{bytes}");
        assert_eq!(answer.status(), if is_taken { "Success" } else { "Error" });
        if !is_taken {
            let error = answer.json().unwrap_err();
            assert!(
                error.message().contains("6291557") && error.message().contains("6 MB"),
                "{error}"
            );
        }
    }
}

#[tokio::test]
async fn any_type_with_a_default_can_be_a_state() {
    #[derive(Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
    enum Phase {
        #[default]
        Idle,
        Busy {
            since: u64,
        },
    }
    let step = async |window: Window<Phase>| -> Result<Phase, Error> {
        Ok(match window.state {
            Phase::Idle => Phase::Busy { since: 7 },
            Phase::Busy { .. } => Phase::Idle,
        })
    };
    for fresh in [json!({}), json!(null)] {
        let answer = invoke(&window(step), of_window(records(["a"]), fresh)).await;
        assert_eq!(answer.state(), Some(&json!({ "Busy": { "since": 7 } })));
        let next =
            invoke(&window(step), of_window(records(["a"]), answer.state().unwrap().clone())).await;
        assert_eq!(next.state(), Some(&json!("Idle")));
    }
}

#[tokio::test]
async fn an_old_state_is_carried_over_or_the_window_starts_over_but_the_shard_is_never_blocked() {
    let event = || of_window(records(["a"]), json!([["a", 5]]));
    let anew = invoke(&window(count), event()).await;
    assert_eq!(anew.state(), Some(&json!({ "a": 1 })));
    assert_eq!(anew.metric("OldWindowStates"), Some(1.0));
    assert!(
        anew.logs().contains("ERROR") && anew.logs().contains("on_old_state"),
        "{}",
        anew.logs()
    );

    let migrating = window(count).on_old_state(|old| {
        Ok(serde_json::from_value::<Vec<(String, u64)>>(old)?.into_iter().collect())
    });
    let carried = invoke(&migrating, event()).await;
    assert_eq!(carried.state(), Some(&json!({ "a": 6 })));
    assert_eq!(carried.metric("OldWindowStates"), None);
}

#[tokio::test]
async fn a_state_over_a_megabyte_is_sent_with_a_warning() {
    let grow = async |_window: Window<String>| -> Result<String, Error> { Ok("x".repeat(2 << 20)) };
    let answer = invoke(&window(grow), of_window(records(["a"]), json!({}))).await;
    assert_eq!(answer.state().unwrap().as_str().unwrap().len(), 2 << 20);
    assert!(answer.logs().contains("over 1 MB"), "{}", answer.logs());
}

#[tokio::test]
async fn a_window_handler_without_a_window_says_what_to_set() {
    let error = invoke(&window(count), records(["a"])).await.json().unwrap_err();
    assert!(error.message().contains("tumbling-window-in-seconds"), "{error}");
}

#[tokio::test]
async fn handlers_that_know_no_windows_leave_the_state_as_it_was() {
    let line = async |_line: Utf8| -> Result<(), Error> { Ok(()) };
    let whole = async |_batch: streambot_runtime::Batch| -> Result<(), Error> { Ok(()) };
    let event =
        of_window(Event::new().record(record([0xff])).record(record("b")), json!({ "kept": true }));
    let skipping = invoke(&each(line).on_undecodable(Undecodable::Skip), &event).await;
    assert_eq!(
        skipping.json().unwrap(),
        &json!({ "batchItemFailures": [], "state": { "kept": true } })
    );
    assert_eq!(invoke(&batch(whole), &event).await.state(), Some(&json!({ "kept": true })));
}
