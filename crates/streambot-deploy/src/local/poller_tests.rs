#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use super::*;
use crate::local::filter::{Constants, Patterns};
use crate::local::record::testing::record;

const DAY: u64 = 86_400_000;

fn settings() -> Settings {
    Settings {
        batch_size: 3,
        maximum_event_bytes: 6 * 1024 * 1024,
        batching_window: 0,
        parallelization_factor: 1,
        maximum_retry_attempts: Some(3),
        maximum_record_age: DAY,
        retry_delay: 1_000,
        bisect: false,
        tumbling_window: None,
        attempts_start_anew: true,
        filter: None,
    }
}

fn poller(settings: Settings) -> Poller {
    Poller::new(settings, &ShardId::numbered(0))
}

fn read(numbers: impl IntoIterator<Item = u64>, more: More) -> Input {
    Input::Read {
        records: numbers.into_iter().map(|number| record(number, "key", 0)).collect(),
        more,
    }
}

fn answered(outcome: Outcome) -> Input {
    Input::Answered { lane: 0, outcome, state: None }
}

fn numbers(batch: &Batch) -> Vec<u64> {
    batch.records().iter().map(|record| record.sequence_number.as_str().parse().unwrap()).collect()
}

/// The records and the attempt of the invocation that has to come next.
fn invoked(poller: &mut Poller, now: u64) -> (Vec<u64>, u32) {
    loop {
        match poller.next(now) {
            Action::Invoke { batch, attempt, .. } => return (numbers(&batch), attempt),
            Action::Checkpoint(_) => {}
            other => panic!("expected an invocation, got {other:?}"),
        }
    }
}

/// Until when the poller wants to wait.
fn waits(poller: &mut Poller, now: u64) -> Option<u64> {
    loop {
        match poller.next(now) {
            Action::Wait { until } => return until,
            Action::Checkpoint(_) => {}
            other => panic!("expected a wait, got {other:?}"),
        }
    }
}

/// "Sent when `BatchSize` records are collected."
#[test]
fn a_batch_is_sent_as_soon_as_it_is_full_and_the_rest_when_nothing_follows() {
    let mut poller = poller(settings());
    poller.handle(0, read(1..=4, More::AtHand));
    assert_eq!(invoked(&mut poller, 0), (vec![1, 2, 3], 1));
    poller.handle(1, answered(Outcome::Succeeded));
    assert_eq!(waits(&mut poller, 1), None, "more records are at hand");
    poller.handle(2, read([], More::Never));
    assert_eq!(invoked(&mut poller, 2), (vec![4], 1));
}

/// "A window of 0 sends what one read returned."
#[test]
fn without_a_window_a_reader_that_caught_up_sends_what_it_has() {
    let mut poller = poller(settings());
    poller.handle(0, read(1..=2, More::NotYet));
    assert_eq!(invoked(&mut poller, 0), (vec![1, 2], 1));
}

/// "`MaximumBatchingWindowInSeconds` since the first."
#[test]
fn a_window_holds_a_batch_back_since_its_first_record() {
    let mut poller = poller(Settings { batching_window: 5_000, ..settings() });
    poller.handle(100, read([1], More::NotYet));
    poller.handle(4_000, read([2], More::NotYet));
    assert_eq!(waits(&mut poller, 4_000), Some(5_100));
    assert_eq!(invoked(&mut poller, 5_100), (vec![1, 2], 1));
}

#[test]
fn a_full_batch_does_not_wait_for_its_window() {
    let mut poller = poller(Settings { batching_window: 5_000, ..settings() });
    poller.handle(0, read(1..=3, More::NotYet));
    assert_eq!(invoked(&mut poller, 0), (vec![1, 2, 3], 1));
}

/// "The event would pass 6 MB (the encoded JSON, base64 included)."
#[test]
fn a_batch_ends_before_the_event_would_pass_its_limit() {
    let mut poller = poller(Settings { maximum_event_bytes: 2, ..settings() });
    poller.handle(0, read(1..=3, More::Never));
    assert_eq!(invoked(&mut poller, 0), (vec![1, 2], 1));
    poller.handle(0, answered(Outcome::Succeeded));
    assert_eq!(invoked(&mut poller, 0), (vec![3], 1));
}

#[test]
fn a_record_that_alone_passes_the_limit_is_sent_alone() {
    let mut poller = poller(Settings { maximum_event_bytes: 2, ..settings() });
    let mut large = record(1, "key", 0);
    large.encoded_len = 5;
    poller.handle(0, Input::Read { records: vec![large, record(2, "key", 0)], more: More::Never });
    assert_eq!(invoked(&mut poller, 0), (vec![1], 1));
}

/// "A failed batch blocks its lane until it succeeds, expires, or runs out of attempts."
#[test]
fn a_failed_batch_comes_again_as_it_was_and_blocks_what_follows() {
    let mut poller = poller(settings());
    poller.handle(0, read(1..=3, More::AtHand));
    assert_eq!(invoked(&mut poller, 0), (vec![1, 2, 3], 1));
    poller.handle(0, read(4..=6, More::Never));
    poller.handle(0, answered(Outcome::FunctionError));
    assert_eq!(waits(&mut poller, 0), Some(1_000));
    assert_eq!(invoked(&mut poller, 1_000), (vec![1, 2, 3], 2));
    poller.handle(1_000, answered(Outcome::Succeeded));
    assert_eq!(invoked(&mut poller, 1_000), (vec![4, 5, 6], 1));
}

/// "It and all after it are retried, what is before is done."
#[test]
fn a_reported_failure_moves_the_checkpoint_and_sends_it_and_all_after_it_again() {
    let mut poller = poller(settings());
    poller.handle(0, read(1..=3, More::Never));
    assert_eq!(invoked(&mut poller, 0), (vec![1, 2, 3], 1));
    poller.handle(0, answered(Outcome::Reported { first_failed: 1 }));
    assert!(matches!(poller.next(0), Action::Checkpoint(reached) if reached.as_str() == "1"));
    assert_eq!(invoked(&mut poller, 1_000), (vec![2, 3], 1));
    poller.handle(1_000, answered(Outcome::Reported { first_failed: 0 }));
    assert_eq!(invoked(&mut poller, 3_000), (vec![2, 3], 2));
}

/// "Retries back off exponentially, capped."
#[test]
fn retries_wait_twice_as_long_each_time_up_to_thirty_times() {
    let delays: Vec<u64> = (1..=8).map(|attempts| settings().delay_after(attempts)).collect();
    assert_eq!(delays, [1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000, 30_000]);
    assert_eq!(settings().delay_after(u32::MAX), 30_000);
}

/// Age 60 s and endless retries: AWS made 8 attempts.
#[test]
fn within_a_minute_of_endless_retries_a_record_gets_about_the_recorded_number_of_attempts() {
    let mut poller =
        poller(Settings { maximum_retry_attempts: None, maximum_record_age: 60_000, ..settings() });
    poller.handle(0, read([1], More::Never));
    let mut now = 0;
    let mut attempts = 0;
    loop {
        match poller.next(now) {
            Action::Invoke { .. } => {
                attempts += 1;
                poller.handle(now, answered(Outcome::FunctionError));
            }
            Action::Wait { until } => now = until.unwrap(),
            Action::Discard(discard) => assert_eq!(discard.condition, Condition::RecordAgeExceeded),
            Action::Checkpoint(_) | Action::WindowLost { .. } => {}
            Action::Finished => break,
        }
    }
    assert!((6..=8).contains(&attempts), "{attempts} attempts");
}

/// The recorded case: six records, batch size 3, three retries, the last always fails.
#[test]
fn attempts_start_anew_when_the_checkpoint_moves() {
    let mut poller = poller(settings());
    poller.handle(0, read(1..=6, More::Never));
    let mut now = 0;
    let mut deliveries_of_last = 0;
    let mut discards = Vec::new();
    loop {
        match poller.next(now) {
            Action::Invoke { batch, .. } => {
                let outcome = match numbers(&batch).iter().position(|number| *number == 6) {
                    Some(first_failed) => Outcome::Reported { first_failed },
                    None => Outcome::Succeeded,
                };
                deliveries_of_last += usize::from(outcome != Outcome::Succeeded);
                poller.handle(now, answered(outcome));
            }
            Action::Discard(discard) => discards.push(discard),
            Action::Checkpoint(_) | Action::WindowLost { .. } => {}
            Action::Wait { until } => now = until.unwrap(),
            Action::Finished => break,
        }
    }
    assert_eq!(deliveries_of_last, 5);
    let [discard] = discards.try_into().unwrap();
    assert_eq!(discard.approximate_invoke_count, 4);
    assert_eq!(discard.batch.len(), 1);
    assert_eq!(discard.condition, Condition::RetryAttemptsExhausted { function_error: false });
    let expected = Counts {
        records: 6,
        bytes: 6,
        succeeded: 5,
        discarded: 1,
        filtered: None,
        invocations: 6,
        retries: 4,
    };
    assert_eq!(poller.counts(), expected);
}

/// Of six records with the first expired, AWS delivered the other five.
#[test]
fn only_the_records_that_are_too_old_go() {
    let mut poller = poller(Settings { batch_size: 10, maximum_record_age: 60_000, ..settings() });
    let mut records = vec![record(1, "key", 0)];
    records.extend((2..=6).map(|number| record(number, "key", 50_000)));
    poller.handle(70_000, Input::Read { records, more: More::Never });
    let Action::Discard(discard) = poller.next(70_000) else { panic!("nothing was discarded") };
    assert_eq!(numbers(&discard.batch), [1]);
    assert_eq!(discard.condition, Condition::RecordAgeExceeded);
    assert_eq!(
        discard.approximate_invoke_count, 1,
        "recorded even for a record that was never sent"
    );
    assert_eq!(invoked(&mut poller, 70_000), (vec![2, 3, 4, 5, 6], 1));
}

/// "`approximateInvokeCount` = attempts made = retries + 1. `functionError` is `"Unhandled"` for
/// errors."
#[test]
fn a_function_error_that_outlives_its_retries_is_discarded_as_one() {
    let mut poller = poller(Settings { maximum_retry_attempts: Some(0), ..settings() });
    poller.handle(0, read(1..=3, More::Never));
    assert_eq!(invoked(&mut poller, 0), (vec![1, 2, 3], 1));
    poller.handle(0, answered(Outcome::FunctionError));
    let Action::Discard(discard) = poller.next(0) else { panic!("nothing was discarded") };
    assert_eq!(discard.condition, Condition::RetryAttemptsExhausted { function_error: true });
    assert_eq!(discard.approximate_invoke_count, 1);
    assert!(matches!(poller.next(0), Action::Checkpoint(reached) if reached.as_str() == "3"));
    assert!(matches!(poller.next(0), Action::Finished));
}

/// "The shard's checkpoint is the lowest unfinished record over the lanes."
#[test]
fn the_checkpoint_stays_before_the_lowest_unfinished_record_of_all_lanes() {
    let mut poller = poller(Settings { batch_size: 1, parallelization_factor: 2, ..settings() });
    let other = (0..)
        .map(|number: u32| number.to_string())
        .find(|key| poller.lane_of(key) != poller.lane_of("key"))
        .unwrap();
    let records = vec![record(1, "key", 0), record(2, &other, 0)];
    poller.handle(0, Input::Read { records, more: More::Never });
    let mut lanes = BTreeMap::new();
    for _ in 0..2 {
        let Action::Invoke { lane, batch, .. } = poller.next(0) else {
            panic!("both lanes run at once")
        };
        lanes.insert(numbers(&batch), lane);
    }
    poller.handle(
        0,
        Input::Answered { lane: lanes[&vec![2]], outcome: Outcome::Succeeded, state: None },
    );
    assert!(matches!(poller.next(0), Action::Wait { until: None }), "1 is not done");
    poller.handle(
        0,
        Input::Answered { lane: lanes[&vec![1]], outcome: Outcome::Succeeded, state: None },
    );
    assert!(matches!(poller.next(0), Action::Checkpoint(reached) if reached.as_str() == "2"));
}

#[test]
fn a_stopped_reader_sends_nothing_more_and_ends_with_what_is_in_flight() {
    let mut poller = poller(settings());
    poller.handle(0, read(1..=6, More::AtHand));
    assert_eq!(invoked(&mut poller, 0), (vec![1, 2, 3], 1));
    poller.handle(0, Input::Stop);
    assert_eq!(waits(&mut poller, 0), None);
    assert!(poller.room().is_none());
    poller.handle(0, answered(Outcome::Reported { first_failed: 2 }));
    assert!(matches!(poller.next(DAY), Action::Checkpoint(reached) if reached.as_str() == "2"));
    assert!(matches!(poller.next(DAY), Action::Finished));
    assert_eq!(poller.counts().succeeded, 2);
}

/// A partial batch that waited for more would wait for ever when a blocked lane takes up all the
/// room.
#[test]
fn a_lane_sends_what_it_has_when_nothing_more_can_be_read() {
    let mut poller = poller(Settings { batch_size: 2, parallelization_factor: 2, ..settings() });
    let other = (0..)
        .map(|number: u32| number.to_string())
        .find(|key| poller.lane_of(key) != poller.lane_of("key"))
        .unwrap();
    let mut records: Vec<Record> = (1..=5).map(|number| record(number, "key", 0)).collect();
    records.push(record(6, &other, 0));
    poller.handle(0, Input::Read { records: records.drain(..2).collect(), more: More::AtHand });
    assert_eq!(invoked(&mut poller, 0), (vec![1, 2], 1));
    poller.handle(0, Input::Read { records, more: More::AtHand });
    assert!(poller.room().is_none());
    assert_eq!(invoked(&mut poller, 0), (vec![6], 1));
}

/// Every invocation until the end, by its records and attempt; `reply` says how each ends.
fn invocations(
    poller: &mut Poller,
    reply: impl Fn(&[u64]) -> Outcome,
) -> (Vec<(Vec<u64>, u32)>, Vec<Discard>) {
    let (mut now, mut sent, mut discards) = (0, Vec::new(), Vec::new());
    loop {
        match poller.next(now) {
            Action::Invoke { batch, attempt, .. } => {
                let records = numbers(&batch);
                poller.handle(now, answered(reply(&records)));
                sent.push((records, attempt));
            }
            Action::Discard(discard) => discards.push(discard),
            Action::Checkpoint(_) | Action::WindowLost { .. } => {}
            Action::Wait { until } => now = until.unwrap(),
            Action::Finished => return (sent, discards),
        }
    }
}

fn error_on(poison: u64) -> impl Fn(&[u64]) -> Outcome {
    move |records| {
        if records.contains(&poison) { Outcome::FunctionError } else { Outcome::Succeeded }
    }
}

/// "A failed batch of more than one is split in two, halves retried in order, splitting does not
/// consume retries."
#[test]
fn a_failed_batch_is_split_until_what_fails_is_alone_and_has_all_its_retries() {
    let settings =
        Settings { batch_size: 5, bisect: true, maximum_retry_attempts: Some(1), ..settings() };
    let mut poller = poller(settings);
    poller.handle(0, read(1..=5, More::Never));
    let (sent, discards) = invocations(&mut poller, error_on(4));
    let expected = [
        (vec![1, 2, 3, 4, 5], 1),
        (vec![1, 2], 1),
        (vec![3, 4, 5], 1),
        (vec![3], 1),
        (vec![4, 5], 1),
        (vec![4], 1),
    ];
    assert_eq!(sent[..6], expected);
    assert_eq!(sent[6..], [(vec![4], 2), (vec![5], 1)]);
    let [discard] = discards.try_into().unwrap();
    assert_eq!((numbers(&discard.batch), discard.approximate_invoke_count), (vec![4], 2));
}

/// "With reported failures the split is at the checkpoint." Lambda's guide: it "retries only the
/// remaining records".
#[test]
fn a_reported_failure_splits_a_batch_at_the_checkpoint_and_not_in_its_middle() {
    let settings =
        Settings { batch_size: 4, bisect: true, maximum_retry_attempts: Some(0), ..settings() };
    let mut poller = poller(settings);
    poller.handle(0, read(1..=4, More::Never));
    let (sent, discards) =
        invocations(&mut poller, |records| match records.iter().position(|number| *number == 2) {
            Some(first_failed) => Outcome::Reported { first_failed },
            None => Outcome::Succeeded,
        });
    assert_eq!(sent, [(vec![1, 2, 3, 4], 1), (vec![2, 3, 4], 1)]);
    assert_eq!(numbers(&discards[0].batch), [2, 3, 4]);
}

/// The guide: "If your invocation fails", the batch is bisected whatever failures are reported; so
/// a refused answer splits it.
#[test]
fn an_answer_that_is_refused_splits_the_batch_in_its_middle() {
    let mut poller =
        poller(Settings { bisect: true, maximum_retry_attempts: Some(0), ..settings() });
    poller.handle(0, read(1..=2, More::Never));
    let (sent, discards) = invocations(&mut poller, |_| Outcome::Refused);
    assert_eq!(sent, [(vec![1, 2], 1), (vec![1], 1), (vec![2], 1)]);
    assert_eq!(discards[0].condition, Condition::RetryAttemptsExhausted { function_error: false });
}

/// "Throttles do not count."
#[test]
fn what_is_throttled_is_sent_again_and_counts_as_no_attempt() {
    let mut poller =
        poller(Settings { maximum_retry_attempts: Some(0), bisect: true, ..settings() });
    poller.handle(0, read(1..=2, More::Never));
    for now in [0, 1_000, 3_000, 7_000] {
        assert_eq!(invoked(&mut poller, now), (vec![1, 2], 1));
        poller.handle(now, answered(Outcome::Throttled));
        assert_eq!(waits(&mut poller, now), Some(now * 2 + 1_000), "the delay doubles");
    }
    assert_eq!(invoked(&mut poller, 15_000), (vec![1, 2], 1));
    poller.handle(15_000, answered(Outcome::Succeeded));
    assert_eq!(poller.counts().succeeded, 2);
}

/// The recorded rule is about three retries; for none it is inferred, so the other one can be asked
/// for.
#[test]
fn without_retries_a_moved_checkpoint_gives_another_attempt_or_none_as_it_is_set() {
    for (attempts_start_anew, delivered, lost) in [(true, 2, 0), (false, 1, 2)] {
        let retries = Some(0);
        let mut poller =
            poller(Settings { attempts_start_anew, maximum_retry_attempts: retries, ..settings() });
        poller.handle(0, read(1..=3, More::Never));
        let reply = |records: &[u64]| match records {
            [1, ..] => Outcome::Reported { first_failed: 1 },
            _ => Outcome::Succeeded,
        };
        let (sent, discards) = invocations(&mut poller, reply);
        assert_eq!(sent.len(), delivered);
        assert_eq!(discards.iter().map(|discard| discard.batch.len()).sum::<usize>(), lost);
        assert!(discards.iter().all(|discard| discard.approximate_invoke_count == 1));
    }
}

/// "A record older than that is discarded before or between attempts; only the records that are too
/// old go."
#[test]
fn between_attempts_only_the_records_that_grew_too_old_go_and_the_rest_begins_anew() {
    let mut poller =
        poller(Settings { maximum_record_age: 60_000, retry_delay: 20_000, ..settings() });
    let records = vec![record(1, "key", 0), record(2, "key", 30_000), record(3, "key", 45_000)];
    poller.handle(45_000, Input::Read { records, more: More::Never });
    assert_eq!(invoked(&mut poller, 45_000), (vec![1, 2, 3], 1));
    poller.handle(50_000, answered(Outcome::FunctionError));
    let Action::Discard(discard) = poller.next(70_000) else { panic!("nothing was discarded") };
    assert_eq!(
        (numbers(&discard.batch), discard.condition),
        (vec![1], Condition::RecordAgeExceeded)
    );
    assert_eq!((discard.approximate_invoke_count, discard.was_sent), (1, true));
    assert_eq!(invoked(&mut poller, 70_000), (vec![2, 3], 1));
}

/// "What does not match is passed over and counts as done."
#[test]
fn what_is_filtered_is_not_sent_and_the_checkpoint_passes_it_in_its_turn() {
    let patterns = Patterns::parse([r#"{"data":{"yes":[true]}}"#]).unwrap().unwrap();
    let constants =
        Constants { region: String::new(), stream_arn: String::new(), role_arn: String::new() };
    let filter = Some(Arc::new(Filter::new(patterns, constants)));
    let mut poller = poller(Settings { filter, ..settings() });
    let records = (1..=5).map(|number| {
        let data = if matches!(number, 2 | 4) { r#"{"yes":true}"# } else { "no JSON" };
        Record { data: data.into(), ..record(number, "key", 0) }
    });
    poller.handle(0, Input::Read { records: records.collect(), more: More::Never });
    assert!(matches!(poller.next(0), Action::Checkpoint(reached) if reached.as_str() == "1"));
    assert_eq!(invoked(&mut poller, 0), (vec![2, 4], 1));
    poller.handle(0, answered(Outcome::Reported { first_failed: 1 }));
    assert!(matches!(poller.next(0), Action::Checkpoint(reached) if reached.as_str() == "3"));
    assert_eq!(invoked(&mut poller, 1_000), (vec![4], 1));
    poller.handle(1_000, answered(Outcome::Succeeded));
    assert!(matches!(poller.next(1_000), Action::Checkpoint(reached) if reached.as_str() == "5"));
    assert_eq!((poller.counts().succeeded, poller.counts().filtered), (2, Some(3)));
}

fn windowed(length: u64) -> Settings {
    Settings { tumbling_window: Some(length), ..settings() }
}

fn arrived(records: &[(u64, u64)], more: More) -> Input {
    Input::Read {
        records: records.iter().map(|(number, arrival)| record(*number, "key", *arrival)).collect(),
        more,
    }
}

fn with_state(outcome: Outcome, state: &str) -> Input {
    Input::Answered { lane: 0, outcome, state: Some(State::new(state)) }
}

/// The records of the event that has to come next, the start of its window, its state, whether it
/// is final, and whether early.
fn framed(poller: &mut Poller, now: u64) -> (Vec<u64>, u64, String, bool, bool) {
    loop {
        match poller.next(now) {
            Action::Invoke { batch, window: Some(frame), .. } => {
                let state = frame.state.as_str().to_owned();
                return (
                    numbers(&batch),
                    frame.window.start,
                    state,
                    frame.is_final,
                    frame.is_terminated_early,
                );
            }
            Action::Checkpoint(_) => {}
            other => panic!("expected an event of a window, got {other:?}"),
        }
    }
}

fn text(state: &str) -> String {
    state.to_owned()
}

/// "By arrival time, per shard"; "state goes batch to batch"; a final event ends each window.
#[test]
fn records_are_sent_with_those_of_their_window_and_its_state_and_each_window_has_a_final_event() {
    let mut poller = poller(Settings { batch_size: 2, ..windowed(10_000) });
    poller.handle(
        30_000,
        arrived(&[(1, 10_000), (2, 12_000), (3, 19_999), (4, 20_000)], More::Never),
    );
    assert_eq!(framed(&mut poller, 30_000), (vec![1, 2], 10_000, text("{}"), false, false));
    poller.handle(30_000, with_state(Outcome::Succeeded, "1"));
    assert_eq!(framed(&mut poller, 30_000), (vec![3], 10_000, text("1"), false, false));
    poller.handle(30_000, with_state(Outcome::Succeeded, "2"));
    assert_eq!(framed(&mut poller, 30_000), (vec![], 10_000, text("2"), true, false));
    poller.handle(30_000, with_state(Outcome::Succeeded, "3"));
    assert_eq!(framed(&mut poller, 30_000), (vec![4], 20_000, text("{}"), false, false));
    poller.handle(30_000, with_state(Outcome::Succeeded, "4"));
    assert_eq!(
        framed(&mut poller, 30_000),
        (vec![], 20_000, text("4"), true, false),
        "the shard has ended"
    );
    poller.handle(30_000, with_state(Outcome::Succeeded, "{}"));
    assert!(matches!(poller.next(30_000), Action::Finished));
}

/// The guide: "Lambda waits for up to 2 minutes before assuming that the window is over."
#[test]
fn a_window_is_held_open_for_two_minutes_unless_a_later_record_shows_that_it_is_over() {
    let read_one = |more| arrived(&[(1, 1_000)], more);
    let mut quiet = poller(windowed(10_000));
    quiet.handle(1_000, read_one(More::NotYet));
    assert_eq!(framed(&mut quiet, 1_000).0, [1]);
    quiet.handle(1_000, with_state(Outcome::Succeeded, "1"));
    assert_eq!(waits(&mut quiet, 1_000), Some(130_000));
    assert_eq!(framed(&mut quiet, 130_000), (vec![], 0, text("1"), true, false));

    let mut busy = poller(windowed(10_000));
    busy.handle(1_000, read_one(More::NotYet));
    assert_eq!(framed(&mut busy, 1_000).0, [1]);
    busy.handle(1_000, with_state(Outcome::Succeeded, "1"));
    busy.handle(11_000, arrived(&[(2, 11_000)], More::NotYet));
    assert_eq!(framed(&mut busy, 11_000), (vec![], 0, text("1"), true, false));
}

#[test]
fn the_state_is_that_of_the_records_before_the_checkpoint() {
    let mut poller = poller(windowed(10_000));
    poller.handle(0, arrived(&[(1, 0), (2, 0), (3, 0)], More::Never));
    assert_eq!(framed(&mut poller, 0).0, [1, 2, 3]);
    poller.handle(0, with_state(Outcome::Reported { first_failed: 0 }, "1"));
    assert_eq!(framed(&mut poller, 5_000), (vec![1, 2, 3], 0, text("{}"), false, false));
    poller.handle(5_000, with_state(Outcome::Reported { first_failed: 2 }, "2"));
    assert_eq!(framed(&mut poller, 9_000), (vec![3], 0, text("2"), false, false));
}

/// "State over 1 MB ends the window early."
#[test]
fn a_state_that_is_too_large_ends_its_window_which_goes_on_with_a_fresh_one() {
    let mut poller = poller(Settings { batch_size: 1, ..windowed(10_000) });
    poller.handle(0, arrived(&[(1, 0), (2, 0)], More::Never));
    let large = "1".repeat(1024 * 1024 + 1);
    assert_eq!(framed(&mut poller, 0).0, [1]);
    poller.handle(0, with_state(Outcome::Succeeded, &large));
    assert_eq!(framed(&mut poller, 0), (vec![], 0, large, true, true));
    poller.handle(0, with_state(Outcome::Succeeded, "1"));
    assert_eq!(framed(&mut poller, 0), (vec![2], 0, text("{}"), false, false));
}

/// "A final invoke that fails blocks the shard."
#[test]
fn a_final_event_that_fails_blocks_what_follows_until_it_succeeds_or_its_records_would_be_too_old()
{
    let settings = Settings {
        maximum_retry_attempts: Some(0),
        maximum_record_age: 60_000,
        ..windowed(10_000)
    };
    let mut poller = poller(settings);
    poller.handle(0, arrived(&[(1, 0), (2, 65_000)], More::Never));
    assert_eq!(framed(&mut poller, 0).0, [1]);
    poller.handle(0, with_state(Outcome::Succeeded, "1"));
    let mut now = 0;
    for _ in 0..6 {
        assert_eq!(framed(&mut poller, now), (vec![], 0, text("1"), true, false));
        poller.handle(now, answered(Outcome::FunctionError));
        now = waits(&mut poller, now).unwrap();
    }
    assert_eq!(now, 1_000 + 2_000 + 4_000 + 8_000 + 16_000 + 30_000);
    assert!(
        matches!(poller.next(70_001), Action::WindowLost { window, .. } if window.end == 10_000)
    );
    assert_eq!(framed(&mut poller, 70_001), (vec![2], 60_000, text("{}"), false, false));
}

#[test]
fn every_lane_has_a_window_and_a_state_of_its_own() {
    let mut poller = poller(Settings { parallelization_factor: 2, ..windowed(10_000) });
    let other = (0..)
        .map(|number: u32| number.to_string())
        .find(|key| poller.lane_of(key) != poller.lane_of("key"))
        .unwrap();
    let records = vec![record(1, "key", 0), record(2, &other, 0)];
    poller.handle(0, Input::Read { records, more: More::Never });
    let mut finals = BTreeMap::new();
    let mut lanes = Vec::new();
    for _ in 0..2 {
        let Action::Invoke { lane, window: Some(frame), .. } = poller.next(0) else {
            panic!("both lanes run at once")
        };
        assert_eq!(frame.state, State::default());
        lanes.push(lane);
    }
    for lane in lanes {
        let state = Some(State::new(&lane.to_string()));
        poller.handle(0, Input::Answered { lane, outcome: Outcome::Succeeded, state });
    }
    while finals.len() < 2 {
        if let Action::Invoke { lane, window: Some(frame), .. } = poller.next(0) {
            assert!(frame.is_final);
            finals.insert(lane, frame.state.as_str().to_owned());
        }
    }
    assert_eq!(finals, BTreeMap::from([(0, text("0")), (1, text("1"))]));
}
