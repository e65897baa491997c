//! `each`: order, concurrency, failures, panics and deadlines, by the answer Lambda gets.
#![allow(clippy::unwrap_used, missing_docs)]

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use futures_util::FutureExt;
use serde_json::json;
use streambot_runtime::testing::{Answer, Event, aggregated, invoke, record, records};
use streambot_runtime::{
    Batch, Context, Error, Handler, Json, Outcome, Record, Undecodable, Utf8, each, metrics,
};
use tokio::time::sleep;

/// Data of the records a handler has finished, in that order.
type Seen = Rc<RefCell<Vec<String>>>;

/// A handler that notes each line, and fails on `fail`, panics on `panic` and takes as many ms as a
/// number says.
fn noting(seen: &Seen) -> impl AsyncFn(Utf8) -> Result<(), Error> + use<> {
    let seen = Rc::clone(seen);
    async move |line: Utf8| -> Result<(), Error> {
        match &*line {
            "fail" => return Err("told to".into()),
            "panic" => panic!("told to panic"),
            "wait for ever" => std::future::pending().await,
            line => {
                if let Ok(milliseconds) = line.trim_end_matches(char::is_alphabetic).parse() {
                    sleep(Duration::from_millis(milliseconds)).await;
                }
            }
        }
        seen.borrow_mut().push((*line).to_owned());
        Ok(())
    }
}

#[tokio::test]
async fn a_batch_that_is_done_names_no_failures() {
    let seen = Seen::default();
    let answer = invoke(&each(noting(&seen)), records(["a", "b", "c"])).await;
    assert_eq!(answer.json().unwrap(), &json!({ "batchItemFailures": [] }));
    assert_eq!(*seen.borrow(), ["a", "b", "c"]);
    assert_eq!(answer.status(), "Success");
    assert_eq!(answer.metric("Records"), Some(3.0));
    assert_eq!(answer.metric("FailedRecords"), Some(0.0));
}

#[tokio::test]
async fn the_first_failure_stops_the_batch_and_is_the_checkpoint() {
    let seen = Seen::default();
    let event = records(["a", "fail", "c"]);
    let answer = invoke(&each(noting(&seen)), &event).await;
    let expected = json!({ "batchItemFailures": [{ "itemIdentifier": event.sequence_number(1) }] });
    assert_eq!(answer.json().unwrap(), &expected);
    assert_eq!(*seen.borrow(), ["a"]);
    assert_eq!(answer.status(), "Error");
    assert_eq!(answer.metric("FailedRecords"), Some(1.0));
    assert!(answer.logs().contains("told to"), "{}", answer.logs());
}

#[tokio::test]
async fn where_partial_answers_are_not_honoured_a_failure_fails_the_invocation() {
    let seen = Seen::default();
    let event = records(["a", "fail", "c"]).without_batch_item_failures();
    let error = invoke(&each(noting(&seen)), &event).await.json().unwrap_err();
    assert_eq!(error.kind(), "Function.RecordsFailed");
    assert!(error.message().contains(&event.sequence_number(1)), "{error}");
    assert!(
        invoke(&each(noting(&seen)), records(["a"]).without_batch_item_failures())
            .await
            .succeeded()
    );
}

#[tokio::test]
async fn a_panic_is_a_failed_record() {
    let seen = Seen::default();
    let event = records(["a", "panic", "c"]);
    for concurrency in [1, 8] {
        let answer = invoke(&each(noting(&seen)).concurrency(concurrency), &event).await;
        assert_eq!(answer.retried_from(), Some(event.sequence_number(1)));
        assert!(answer.logs().contains("told to panic"), "{}", answer.logs());
    }
}

#[tokio::test(start_paused = true)]
async fn different_keys_run_at_once_and_one_key_in_order() {
    let seen = Seen::default();
    let event = [("30a", "a"), ("10b", "b"), ("20a", "a"), ("1c", "c")]
        .into_iter()
        .fold(Event::new(), |event, (data, key)| event.record(record(data).partition_key(key)));
    let started = tokio::time::Instant::now();
    assert!(invoke(&each(noting(&seen)).concurrency(2), &event).await.succeeded());
    assert_eq!(*seen.borrow(), ["10b", "1c", "30a", "20a"]);
    assert_eq!(started.elapsed().as_millis(), 50, "the two records of key a, one after the other");
}

#[tokio::test(start_paused = true)]
async fn with_concurrency_nothing_later_starts_after_a_failure_and_what_runs_is_finished() {
    let seen = Seen::default();
    let event = records(["30a", "fail", "1c", "1d"]);
    let answer = invoke(&each(noting(&seen)).concurrency(2), &event).await;
    assert_eq!(*seen.borrow(), ["30a"]);
    assert_eq!(answer.retried_from(), Some(event.sequence_number(1)));
}

/// Moves the clock as a handler does that computes: it never waits, so no timer can stop it.
fn block(milliseconds: u64) {
    tokio::time::advance(Duration::from_millis(milliseconds)).now_or_never();
}

#[tokio::test(start_paused = true)]
async fn records_that_turn_slow_without_waiting_end_within_one_record_of_the_margin() {
    for (slow, concurrency) in [(100, 1), (100, 4), (3_000, 1), (3_000, 4), (30_000, 1)] {
        let computing = async |line: Utf8| -> Result<(), Error> {
            block(line.parse()?);
            Ok(())
        };
        let slow_data = slow.to_string();
        let event = records((0..1_000).map(|index| if index < 509 { "0" } else { &slow_data }));
        let event = event.timeout(Duration::from_secs(10));
        let started = tokio::time::Instant::now();
        let answer = invoke(&each(computing).concurrency(concurrency), &event).await;
        let took = started.elapsed();
        assert!(took <= Duration::from_millis(9_500 + slow), "{took:?} with records of {slow} ms");
        let done = 509 + 9_500_usize.div_ceil(slow as usize);
        assert_eq!(answer.retried_from(), Some(event.sequence_number(done)), "{slow} ms");
        assert_eq!(answer.status(), "Success");
        assert_eq!(answer.metric("UnfinishedRecords"), Some(0.0), "none was running");
    }
}

/// All of them wait, and then compute: whoever is next must not begin once the time is up.
#[tokio::test(start_paused = true)]
async fn records_that_wait_and_then_compute_end_within_one_record_of_the_margin() {
    for concurrency in [1, 16] {
        let handler = async |_line: Utf8| -> Result<(), Error> {
            sleep(Duration::from_millis(1)).await;
            block(2_000);
            sleep(Duration::from_millis(1)).await;
            block(2_000);
            Ok(())
        };
        let event =
            records((0..32).map(|index| index.to_string())).timeout(Duration::from_secs(10));
        let started = tokio::time::Instant::now();
        let answer = invoke(&each(handler).concurrency(concurrency), &event).await;
        let took = started.elapsed();
        assert!(
            took <= Duration::from_millis(12_000),
            "{took:?}, {concurrency} at once: {}",
            answer.logs()
        );
    }
}

#[tokio::test]
async fn background_tasks_run_beside_records_that_never_wait() {
    for concurrency in [1, 2] {
        let turns = Rc::new(std::cell::Cell::new(0));
        let turns_seen = Rc::clone(&turns);
        let tasks = tokio::task::LocalSet::new();
        tasks.spawn_local(async move {
            loop {
                turns.set(turns.get() + 1);
                tokio::task::yield_now().await;
            }
        });
        let quick = async |_record: Record| -> Result<(), Error> { Ok(()) };
        let event = records((0..2_000).map(|index| index.to_string()));
        let answer = tasks.run_until(invoke(&each(quick).concurrency(concurrency), &event)).await;
        assert!(answer.succeeded());
        assert!(turns_seen.get() >= 5, "{} turns", turns_seen.get());
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_batch_ends_before_its_deadline_with_its_checkpoint() {
    let seen = Seen::default();
    let event = records(vec!["50"; 100]).timeout(Duration::from_secs(3));
    let started = tokio::time::Instant::now();
    let answer = invoke(&each(noting(&seen)), &event).await;
    assert!(started.elapsed() < Duration::from_secs(3));
    let done = seen.borrow().len();
    assert!((45..=50).contains(&done), "{done} records of 50 ms in 2.5 s");
    assert_eq!(answer.retried_from(), Some(event.sequence_number(done)));
    assert_eq!(answer.status(), "Success", "a batch that is cut short has no failure");
    assert_eq!(answer.metric("FailedRecords"), Some(0.0));
    let warnings: Vec<_> = answer.logs().lines().filter(|line| line.contains("WARN")).collect();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains(&format!("{} of 100 records", 100 - done)), "{warnings:?}");
}

#[tokio::test(start_paused = true)]
async fn a_record_that_hangs_is_dropped_in_time_to_respond_and_is_named() {
    let seen = Seen::default();
    let event = records(["a", "wait for ever", "b"]).timeout(Duration::from_secs(10));
    for concurrency in [1, 2] {
        let started = tokio::time::Instant::now();
        let answer = invoke(&each(noting(&seen)).concurrency(concurrency), &event).await;
        assert_eq!(answer.retried_from(), Some(event.sequence_number(1)));
        assert_eq!(answer.status(), "Success");
        assert_eq!(answer.metric("UnfinishedRecords"), Some(1.0));
        let dropped = format!("shardId-000000000000:{}:0", event.sequence_number(1));
        assert!(answer.logs().contains(&format!("dropped=\"{dropped}\"")), "{}", answer.logs());
        let took = started.elapsed();
        assert!(took > Duration::from_millis(9_500) && took < Duration::from_secs(10), "{took:?}");
    }
}

/// The error of an invocation that made no progress.
fn no_progress(answer: &Answer) -> String {
    let error = answer.json().unwrap_err();
    assert_eq!(answer.status(), "Error");
    assert_eq!(answer.metric("FailedRecords"), answer.metric("Records"), "all of them come again");
    assert!(
        answer.logs().contains("batch failed") && !answer.logs().contains("batch done"),
        "{}",
        answer.logs()
    );
    assert!(
        error.message().contains("no progress") && error.message().contains("timeout"),
        "{error}"
    );
    error.message().to_owned()
}

#[tokio::test(start_paused = true)]
async fn a_first_record_that_hangs_fails_the_invocation_whatever_else_is_done() {
    for (concurrency, others) in [(1, 0), (16, 9)] {
        let seen = Seen::default();
        let lines = (0..10)
            .map(|index| if index == 0 { "wait for ever".to_owned() } else { format!("r{index}") });
        let event = records(lines).timeout(Duration::from_secs(3));
        let answer = invoke(&each(noting(&seen)).concurrency(concurrency), &event).await;
        assert_eq!(seen.borrow().len(), others);
        let message = no_progress(&answer);
        assert!(
            message.contains(&format!("{}:0", event.sequence_number(0))),
            "names what was running: {message}"
        );
        assert_eq!(answer.metric("UnfinishedRecords"), Some(1.0));
        assert_eq!(answer.metric("UserRecords"), Some(1.0 + others as f64));
    }
}

#[tokio::test(start_paused = true)]
async fn one_aggregate_slower_than_the_timeout_is_no_progress() {
    for concurrency in [1, 2] {
        let seen = Seen::default();
        let user_records = (0..10).map(|index| (format!("k{index}"), "400"));
        let event = Event::new().record(aggregated(user_records)).timeout(Duration::from_secs(3));
        let answer = invoke(&each(noting(&seen)).concurrency(concurrency), &event).await;
        if concurrency == 1 {
            assert!((5..=7).contains(&seen.borrow().len()), "some user records were done");
            let message = no_progress(&answer);
            assert!(message.contains(&event.sequence_number(0)), "{message}");
            let progress = format!("{} of its 10 user records were done", seen.borrow().len());
            assert!(message.contains(&progress), "{message}");
        } else {
            assert!(answer.succeeded(), "two at a time are quick enough");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn progress_is_made_once_the_first_kinesis_record_is_done() {
    let event = Event::new()
        .record(aggregated([("a", "400"), ("b", "400")]))
        .record(aggregated((0..10).map(|index| (format!("k{index}"), "750"))))
        .timeout(Duration::from_secs(3));
    let answer = invoke(&each(noting(&Seen::default())), &event).await;
    assert_eq!(answer.retried_from(), Some(event.sequence_number(1)));
    assert_eq!((answer.status(), answer.metric("UnfinishedRecords")), ("Success", Some(1.0)));
}

#[tokio::test(start_paused = true)]
async fn a_first_record_that_fails_on_its_own_is_reported_though_others_are_cut() {
    let event = records(["fail", "wait for ever"]).timeout(Duration::from_secs(3));
    for concurrency in [1, 2] {
        let answer = invoke(&each(noting(&Seen::default())).concurrency(concurrency), &event).await;
        assert_eq!(answer.retried_from(), Some(event.sequence_number(0)));
        assert_eq!((answer.status(), answer.metric("FailedRecords")), ("Error", Some(1.0)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_later_failure_does_not_hide_that_there_was_no_progress() {
    let event = records(["wait for ever", "fail"]).timeout(Duration::from_secs(3));
    let answer = invoke(&each(noting(&Seen::default())).concurrency(2), &event).await;
    no_progress(&answer);
}

#[tokio::test(start_paused = true)]
async fn records_are_counted_as_lambda_counts_them_and_user_records_as_the_handler_does() {
    let event = Event::new()
        .record(record("plain"))
        .record(aggregated([("a", "one"), ("b", "fail"), ("c", "fail")]))
        .record(record("last"));
    let wait_and_fail = async |line: Utf8| -> Result<(), Error> {
        sleep(Duration::from_millis(1)).await;
        if &*line == "fail" { Err("told to".into()) } else { Ok(()) }
    };
    let answer = invoke(&each(wait_and_fail).concurrency(8), &event).await;
    let metric = |name| answer.metric(name).unwrap();
    assert_eq!(metric("Records"), 3.0);
    assert_eq!(metric("FailedRecords"), 1.0, "both failures are of one Kinesis record");
    assert_eq!(metric("UserRecords"), 5.0, "all of them run at once");
    assert_eq!(answer.retried_from(), Some(event.sequence_number(1)));
}

#[tokio::test(start_paused = true)]
async fn the_margin_is_the_users_but_never_over_half_of_the_timeout() {
    for (margin, expected) in [(Duration::from_secs(4), 6_000), (Duration::from_secs(9), 5_000)] {
        let seen = Seen::default();
        let event = records(vec!["100"; 200]).timeout(Duration::from_secs(10));
        invoke(&each(noting(&seen)).deadline_margin(margin), &event).await;
        let milliseconds = seen.borrow().len() * 100;
        assert!(
            milliseconds.abs_diff(expected) <= 200,
            "{milliseconds} ms of work with a margin of {margin:?}"
        );
    }
}

#[derive(Debug, serde::Deserialize)]
struct Quake {
    place: Place,
}

#[derive(Debug, serde::Deserialize)]
struct Place {
    depth: f64,
}

#[tokio::test]
async fn json_that_does_not_fit_names_its_place_and_never_its_data() {
    let event = records([r#"{"place":{"depth":1.5}}"#, r#"{"place":{"depth":"never-print-me"}}"#]);
    let deep = async |quake: Json<Quake>| -> Result<(), Error> {
        assert!(quake.place.depth > 1.0);
        Ok(())
    };
    let answer = invoke(&each(deep), &event).await;
    assert_eq!(answer.retried_from(), Some(event.sequence_number(1)));
    assert!(answer.logs().contains("`place.depth`"), "{}", answer.logs());
    assert!(!answer.logs().contains("never-print-me"), "{}", answer.logs());
    assert!(answer.logs().contains("partition-key-1"), "{}", answer.logs());
}

#[tokio::test]
async fn what_is_undecodable_can_be_skipped_and_is_counted() {
    let seen = Seen::default();
    let event = records([b"a".to_vec(), vec![0xff], b"c".to_vec()]);
    let failing = invoke(&each(noting(&seen)), &event).await;
    assert_eq!(failing.retried_from(), Some(event.sequence_number(1)));

    seen.borrow_mut().clear();
    let skipping = invoke(&each(noting(&seen)).on_undecodable(Undecodable::Skip), &event).await;
    assert!(skipping.succeeded());
    assert_eq!(*seen.borrow(), ["a", "c"]);
    assert_eq!(skipping.metric("UndecodableRecords"), Some(1.0));
    assert_eq!(skipping.status(), "Success");
}

#[tokio::test]
async fn of_many_skipped_records_the_first_are_logged_and_the_others_counted() {
    let handler = each(noting(&Seen::default())).on_undecodable(Undecodable::Skip);
    let answer = invoke(&handler, records(vec![[0xff]; 1_000])).await;
    assert_eq!(answer.metric("UndecodableRecords"), Some(1_000.0));
    assert_eq!(answer.logs().matches("record skipped: ").count(), 10);
    assert_eq!(answer.logs().matches("990 more records skipped").count(), 1, "{}", answer.logs());
}

#[tokio::test]
async fn a_handlers_own_failure_is_never_skipped() {
    let event = records(["fail"]);
    let answer =
        invoke(&each(noting(&Seen::default())).on_undecodable(Undecodable::Skip), &event).await;
    assert_eq!(answer.retried_from(), Some(event.sequence_number(0)));
}

#[tokio::test]
async fn a_handler_can_take_the_record_its_content_and_the_context() {
    let event = records(["[1,2]"]);
    let number = event.sequence_number(0);
    let handler =
        async |(record, sum): (Record, Json<Vec<u32>>), context: Context| -> anyhow::Result<()> {
            assert_eq!(record.sequence_number(), number);
            assert_eq!(record.event_id(), format!("shardId-000000000000:{number}"));
            assert_eq!(record.shard_id(), "shardId-000000000000");
            assert_eq!(record.data(), b"[1,2]");
            assert_eq!(*sum, [1, 2]);
            assert!(context.remaining() > Duration::from_secs(50));
            assert_eq!(context.request_id(), "test-request");
            assert_eq!(context.shard_id(), Some("shardId-000000000000"));
            assert_eq!(context.stack().name(), None);
            metrics::count("Sums", 3);
            metrics::count("Sums", 4);
            Ok(())
        };
    let answer = invoke(&each(handler), &event).await;
    assert!(answer.succeeded(), "{}", answer.logs());
    assert_eq!(answer.metric("Sums"), Some(7.0));
}

#[tokio::test]
async fn what_another_thread_counts_is_in_the_line_too() {
    let handler = async |_record: Record| -> Result<(), Error> {
        tokio::task::spawn_blocking(|| metrics::count("CountedElsewhere", 2)).await?;
        Ok(())
    };
    assert_eq!(invoke(&each(handler), records(["a"])).await.metric("CountedElsewhere"), Some(2.0));
}

/// Each on a runtime of its own, as parallel tests are, and all at once.
#[test]
fn what_threads_of_parallel_invocations_count_does_not_mix() {
    let count = |amount: u64| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let handler = async move |_record: Record| -> Result<(), Error> {
            tokio::task::spawn_blocking(move || metrics::count("Mixed", amount)).await?;
            Ok(())
        };
        let event = records(vec!["a"; 50]);
        runtime.block_on(invoke(&each(handler), &event)).metric("Mixed")
    };
    let counted: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (1..=8).map(|amount| scope.spawn(move || count(amount))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(counted, (1..=8).map(|amount| Some(50.0 * amount as f64)).collect::<Vec<_>>());
}

#[tokio::test]
async fn an_errors_causes_are_logged_on_one_line() {
    let handler = async |_record: Record| -> anyhow::Result<()> {
        use anyhow::Context;
        "x".parse::<u32>().context("reading the dial")?;
        Ok(())
    };
    let answer = invoke(&each(handler), records(["a"])).await;
    assert!(
        answer.logs().contains("reading the dial: invalid digit found in string"),
        "{}",
        answer.logs()
    );
}

/// A layer of a user's own: it works around any handler.
struct AtMost<H>(H, usize);

impl<H: Handler> Handler for AtMost<H> {
    async fn handle(&self, batch: Batch, context: Context) -> Result<Outcome, Error> {
        if batch.len() > self.1 {
            return Err(format!("{} records at once", batch.len()).into());
        }
        let outcome = self.0.handle(batch, context).await?;
        tracing::info!(failed = outcome.failed(), retry_from = ?outcome.retry_from(), "seen from outside");
        Ok(outcome)
    }
}

#[tokio::test]
async fn a_handler_can_be_wrapped_in_another() {
    let seen = Seen::default();
    let wrapped = AtMost(each(noting(&seen)), 2);
    let event = records(["a", "fail"]);
    let answer = invoke(&wrapped, &event).await;
    assert_eq!(answer.retried_from(), Some(event.sequence_number(1)));
    assert!(answer.logs().contains("seen from outside failed=1"), "{}", answer.logs());
    let error = invoke(&wrapped, records(["a", "b", "c"])).await.json().unwrap_err();
    assert_eq!(error.message(), "3 records at once");
    assert_eq!(*seen.borrow(), ["a"]);
}

#[tokio::test]
async fn the_iterator_age_is_that_of_the_oldest_record() {
    let now = std::time::SystemTime::now();
    let event = Event::new()
        .record(record("a").arrival(now - Duration::from_secs(5)))
        .record(record("b").arrival(now - Duration::from_secs(30)))
        .record(record("c").arrival(now));
    let answer = invoke(&each(noting(&Seen::default())), &event).await;
    let age = answer.metric("IteratorAge").unwrap();
    assert!((30_000.0..31_000.0).contains(&age), "{age} ms");
}
