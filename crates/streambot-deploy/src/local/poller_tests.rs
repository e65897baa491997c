#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet, HashMap};

use proptest::prelude::*;

use super::*;
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
    }
}

fn read(numbers: impl IntoIterator<Item = u64>, more: More) -> Input {
    Input::Read { records: numbers.into_iter().map(|number| record(number, "key", 0)).collect(), more }
}

fn answered(outcome: Outcome) -> Input {
    Input::Answered { lane: 0, outcome }
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

#[test]
fn a_batch_is_sent_as_soon_as_it_is_full_and_the_rest_when_nothing_follows() {
    let mut poller = Poller::new(settings());
    poller.handle(0, read(1..=4, More::AtHand));
    assert_eq!(invoked(&mut poller, 0), (vec![1, 2, 3], 1));
    poller.handle(1, answered(Outcome::Succeeded));
    assert_eq!(waits(&mut poller, 1), None, "more records are at hand");
    poller.handle(2, read([], More::Never));
    assert_eq!(invoked(&mut poller, 2), (vec![4], 1));
}

#[test]
fn without_a_window_a_reader_that_caught_up_sends_what_it_has() {
    let mut poller = Poller::new(settings());
    poller.handle(0, read(1..=2, More::NotYet));
    assert_eq!(invoked(&mut poller, 0), (vec![1, 2], 1));
}

#[test]
fn a_window_holds_a_batch_back_since_its_first_record() {
    let mut poller = Poller::new(Settings { batching_window: 5_000, ..settings() });
    poller.handle(100, read([1], More::NotYet));
    poller.handle(4_000, read([2], More::NotYet));
    assert_eq!(waits(&mut poller, 4_000), Some(5_100));
    assert_eq!(invoked(&mut poller, 5_100), (vec![1, 2], 1));
}

#[test]
fn a_full_batch_does_not_wait_for_its_window() {
    let mut poller = Poller::new(Settings { batching_window: 5_000, ..settings() });
    poller.handle(0, read(1..=3, More::NotYet));
    assert_eq!(invoked(&mut poller, 0), (vec![1, 2, 3], 1));
}

#[test]
fn a_batch_ends_before_the_event_would_pass_its_limit() {
    let mut poller = Poller::new(Settings { maximum_event_bytes: 2, ..settings() });
    poller.handle(0, read(1..=3, More::Never));
    assert_eq!(invoked(&mut poller, 0), (vec![1, 2], 1));
    poller.handle(0, answered(Outcome::Succeeded));
    assert_eq!(invoked(&mut poller, 0), (vec![3], 1));
}

#[test]
fn a_record_that_alone_passes_the_limit_is_sent_alone() {
    let mut poller = Poller::new(Settings { maximum_event_bytes: 2, ..settings() });
    let mut large = record(1, "key", 0);
    large.encoded_len = 5;
    poller.handle(0, Input::Read { records: vec![large, record(2, "key", 0)], more: More::Never });
    assert_eq!(invoked(&mut poller, 0), (vec![1], 1));
}

#[test]
fn a_failed_batch_comes_again_as_it_was_and_blocks_what_follows() {
    let mut poller = Poller::new(settings());
    poller.handle(0, read(1..=3, More::AtHand));
    assert_eq!(invoked(&mut poller, 0), (vec![1, 2, 3], 1));
    poller.handle(0, read(4..=6, More::Never));
    poller.handle(0, answered(Outcome::FunctionError));
    assert_eq!(waits(&mut poller, 0), Some(1_000));
    assert_eq!(invoked(&mut poller, 1_000), (vec![1, 2, 3], 2));
    poller.handle(1_000, answered(Outcome::Succeeded));
    assert_eq!(invoked(&mut poller, 1_000), (vec![4, 5, 6], 1));
}

#[test]
fn a_reported_failure_moves_the_checkpoint_and_sends_it_and_all_after_it_again() {
    let mut poller = Poller::new(settings());
    poller.handle(0, read(1..=3, More::Never));
    assert_eq!(invoked(&mut poller, 0), (vec![1, 2, 3], 1));
    poller.handle(0, answered(Outcome::Reported { first_failed: 1 }));
    assert!(matches!(poller.next(0), Action::Checkpoint(reached) if reached.as_str() == "1"));
    assert_eq!(invoked(&mut poller, 1_000), (vec![2, 3], 1));
    poller.handle(1_000, answered(Outcome::Reported { first_failed: 0 }));
    assert_eq!(invoked(&mut poller, 3_000), (vec![2, 3], 2));
}

#[test]
fn retries_wait_twice_as_long_each_time_up_to_thirty_times() {
    let delays: Vec<u64> = (1..=8).map(|attempts| settings().delay_after(attempts)).collect();
    assert_eq!(delays, [1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000, 30_000]);
    assert_eq!(settings().delay_after(u32::MAX), 30_000);
}

/// Age 60 s and endless retries: AWS made 8 attempts.
#[test]
fn within_a_minute_of_endless_retries_a_record_gets_about_the_recorded_number_of_attempts() {
    let mut poller = Poller::new(Settings { maximum_retry_attempts: None, maximum_record_age: 60_000, ..settings() });
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
            Action::Checkpoint(_) => {}
            Action::Finished => break,
        }
    }
    assert!((6..=8).contains(&attempts), "{attempts} attempts");
}

/// The recorded case: six records, batch size 3, three retries, the last always fails.
#[test]
fn attempts_start_anew_when_the_checkpoint_moves() {
    let mut poller = Poller::new(settings());
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
            Action::Checkpoint(_) => {}
            Action::Wait { until } => now = until.unwrap(),
            Action::Finished => break,
        }
    }
    assert_eq!(deliveries_of_last, 5);
    let [discard] = discards.try_into().unwrap();
    assert_eq!(discard.approximate_invoke_count, 4);
    assert_eq!(discard.batch.len(), 1);
    assert_eq!(discard.condition, Condition::RetryAttemptsExhausted { function_error: false });
    let expected = Counts { records: 6, bytes: 6, succeeded: 5, discarded: 1, invocations: 6, retries: 4 };
    assert_eq!(poller.counts(), expected);
}

/// Of six records with the first expired, AWS delivered the other five.
#[test]
fn only_the_records_that_are_too_old_go() {
    let mut poller = Poller::new(Settings { batch_size: 10, maximum_record_age: 60_000, ..settings() });
    let mut records = vec![record(1, "key", 0)];
    records.extend((2..=6).map(|number| record(number, "key", 50_000)));
    poller.handle(70_000, Input::Read { records, more: More::Never });
    let Action::Discard(discard) = poller.next(70_000) else { panic!("nothing was discarded") };
    assert_eq!(numbers(&discard.batch), [1]);
    assert_eq!(discard.condition, Condition::RecordAgeExceeded);
    assert_eq!(discard.approximate_invoke_count, 1, "recorded even for a record that was never sent");
    assert_eq!(invoked(&mut poller, 70_000), (vec![2, 3, 4, 5, 6], 1));
}

#[test]
fn a_function_error_that_outlives_its_retries_is_discarded_as_one() {
    let mut poller = Poller::new(Settings { maximum_retry_attempts: Some(0), ..settings() });
    poller.handle(0, read(1..=3, More::Never));
    assert_eq!(invoked(&mut poller, 0), (vec![1, 2, 3], 1));
    poller.handle(0, answered(Outcome::FunctionError));
    let Action::Discard(discard) = poller.next(0) else { panic!("nothing was discarded") };
    assert_eq!(discard.condition, Condition::RetryAttemptsExhausted { function_error: true });
    assert_eq!(discard.approximate_invoke_count, 1);
    assert!(matches!(poller.next(0), Action::Checkpoint(reached) if reached.as_str() == "3"));
    assert!(matches!(poller.next(0), Action::Finished));
}

#[test]
fn the_checkpoint_stays_before_the_lowest_unfinished_record_of_all_lanes() {
    let mut poller = Poller::new(Settings { batch_size: 1, parallelization_factor: 2, ..settings() });
    let other =
        (0..).map(|number: u32| number.to_string()).find(|key| poller.lane_of(key) != poller.lane_of("key")).unwrap();
    let records = vec![record(1, "key", 0), record(2, &other, 0)];
    poller.handle(0, Input::Read { records, more: More::Never });
    let mut lanes = BTreeMap::new();
    for _ in 0..2 {
        let Action::Invoke { lane, batch, .. } = poller.next(0) else { panic!("both lanes run at once") };
        lanes.insert(numbers(&batch), lane);
    }
    poller.handle(0, Input::Answered { lane: lanes[&vec![2]], outcome: Outcome::Succeeded });
    assert!(matches!(poller.next(0), Action::Wait { until: None }), "1 is not done");
    poller.handle(0, Input::Answered { lane: lanes[&vec![1]], outcome: Outcome::Succeeded });
    assert!(matches!(poller.next(0), Action::Checkpoint(reached) if reached.as_str() == "2"));
}

#[test]
fn a_stopped_reader_sends_nothing_more_and_ends_with_what_is_in_flight() {
    let mut poller = Poller::new(settings());
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

/// A partial batch that waited for more would wait for ever when a blocked lane takes up all the room.
#[test]
fn a_lane_sends_what_it_has_when_nothing_more_can_be_read() {
    let mut poller = Poller::new(Settings { batch_size: 2, parallelization_factor: 2, ..settings() });
    let other =
        (0..).map(|number: u32| number.to_string()).find(|key| poller.lane_of(key) != poller.lane_of("key")).unwrap();
    let mut records: Vec<Record> = (1..=5).map(|number| record(number, "key", 0)).collect();
    records.push(record(6, &other, 0));
    poller.handle(0, Input::Read { records: records.drain(..2).collect(), more: More::AtHand });
    assert_eq!(invoked(&mut poller, 0), (vec![1, 2], 1));
    poller.handle(0, Input::Read { records, more: More::AtHand });
    assert!(poller.room().is_none());
    assert_eq!(invoked(&mut poller, 0), (vec![6], 1));
}

/// What the function does with one invocation.
#[derive(Clone, Copy, Debug)]
enum Reply {
    Succeed,
    Error,
    /// Reports the record at this share of the batch, in 256ths.
    Report(u8),
}

#[derive(Clone, Debug)]
struct Run {
    settings: Settings,
    /// For each read: the wait before it, and the partition keys and sizes of its records.
    reads: Vec<(u64, Vec<(u8, usize)>)>,
    /// Used in turn, over and over: how the function replies and how long it takes.
    replies: Vec<(Reply, u64)>,
}

fn runs() -> impl Strategy<Value = Run> {
    let settings = (
        1..=8_usize,
        prop_oneof![Just(0_u64), 1..=20_000_u64],
        1..=4_usize,
        prop_oneof![1 => Just(None), 3 => (0..=4_u32).prop_map(Some)],
        prop_oneof![3 => Just(DAY), 2 => 60_000..=120_000_u64],
        10..=40_usize,
    )
        .prop_map(|(batch_size, batching_window, parallelization_factor, retries, age, bytes)| Settings {
            batch_size,
            maximum_event_bytes: bytes,
            batching_window,
            parallelization_factor,
            maximum_retry_attempts: retries,
            maximum_record_age: age,
            retry_delay: 1_000,
        });
    let read = (0..=30_000_u64, prop::collection::vec((0..=6_u8, 1..=12_usize), 0..=12));
    let reply =
        prop_oneof![4 => Just(Reply::Succeed), 1 => Just(Reply::Error), 3 => any::<u8>().prop_map(Reply::Report)];
    let replies = prop::collection::vec((reply, 1..=5_000_u64), 1..=12);
    (settings, prop::collection::vec(read, 0..=8), replies).prop_map(|(settings, reads, replies)| Run {
        settings,
        reads,
        replies,
    })
}

/// What the run has to hold at every step, told only by what goes in and comes out.
#[derive(Debug, Default)]
struct Observer {
    delivered: BTreeSet<u64>,
    settled: BTreeSet<u64>,
    /// The first record and the invocations so far of what each lane is busy with.
    attempts: HashMap<usize, (u64, u32)>,
    last_of_key: HashMap<String, u64>,
    in_flight: HashMap<usize, Batch>,
    checkpoint: u64,
}

impl Observer {
    fn invoked(&mut self, settings: &Settings, lane: usize, batch: &Batch, attempt: u32) {
        assert!(!batch.is_empty() && batch.len() <= settings.batch_size, "batch of {}", batch.len());
        let bytes: usize = batch.records().iter().map(|record| record.encoded_len).sum();
        assert!(bytes <= settings.maximum_event_bytes || batch.len() == 1, "{bytes} bytes");
        for (record, number) in batch.records().iter().zip(numbers(batch)) {
            assert!(!self.settled.contains(&number), "{number} was settled and is sent again");
            let last = self.last_of_key.entry(record.partition_key.to_string()).or_default();
            assert!(self.delivered.contains(&number) || number > *last, "{number} comes after {last} of the same key");
            *last = (*last).max(number);
            self.delivered.insert(number);
        }
        let first = numbers(batch)[0];
        for busy in self.in_flight.values() {
            let keys: BTreeSet<&str> = busy.records().iter().map(|record| &*record.partition_key).collect();
            assert!(
                batch.records().iter().all(|record| !keys.contains(&*record.partition_key)),
                "a key is on two lanes"
            );
        }
        let attempts = self.attempts.entry(lane).or_insert((first, 0));
        *attempts = if attempts.0 == first { (first, attempts.1 + 1) } else { (first, 1) };
        assert_eq!(attempts.1, attempt);
        assert!(settings.maximum_retry_attempts.is_none_or(|retries| attempt <= retries + 1), "attempt {attempt}");
        assert!(self.in_flight.insert(lane, batch.clone()).is_none(), "lane {lane} is busy");
    }

    fn answered(&mut self, lane: usize, outcome: Outcome) {
        let batch = self.in_flight.remove(&lane).unwrap();
        let done = match outcome {
            Outcome::Succeeded => batch.len(),
            Outcome::Reported { first_failed } => first_failed,
            Outcome::FunctionError => 0,
        };
        self.settle(&batch.split_at(done).0);
    }

    fn settle(&mut self, batch: &Batch) {
        for number in numbers(batch) {
            assert!(self.settled.insert(number), "{number} was settled twice");
        }
    }

    fn discarded(&mut self, now: u64, settings: &Settings, discard: &Discard) {
        self.settle(&discard.batch);
        match discard.condition {
            Condition::RecordAgeExceeded => {
                let old = |record: &Record| now - record.arrival > settings.maximum_record_age;
                assert!(discard.batch.records().iter().all(old), "a young record was given up");
            }
            Condition::RetryAttemptsExhausted { .. } => {
                assert_eq!(
                    Some(discard.approximate_invoke_count),
                    settings.maximum_retry_attempts.map(|retries| retries + 1)
                );
            }
        }
    }

    fn checkpoint(&mut self, reached: &SequenceNumber) {
        let reached: u64 = reached.as_str().parse().unwrap();
        assert!(reached > self.checkpoint, "the checkpoint went from {} to {reached}", self.checkpoint);
        let passed = (self.checkpoint + 1..=reached).find(|number| !self.settled.contains(number));
        assert_eq!(passed, None, "the checkpoint {reached} passed an unfinished record");
        self.checkpoint = reached;
    }
}

fn play(run: &Run) {
    const MOST_STEPS: usize = 1_000_000;
    let mut poller = Poller::new(run.settings.clone());
    let mut observer = Observer::default();
    let mut reads = run.reads.iter();
    let mut next_read = reads.next();
    let mut read_at = next_read.map_or(0, |(wait, _)| *wait);
    let mut replies = run.replies.iter().cycle();
    let mut answers: BTreeMap<(u64, usize), Outcome> = BTreeMap::new();
    let mut number = 0;
    let mut now = 0;
    if next_read.is_none() {
        poller.handle(now, Input::Read { records: Vec::new(), more: More::Never });
    }
    for _ in 0..MOST_STEPS {
        match poller.next(now) {
            Action::Invoke { lane, batch, attempt } => {
                observer.invoked(&run.settings, lane, &batch, attempt);
                let (reply, duration) = replies.next().unwrap();
                let outcome = match reply {
                    Reply::Succeed => Outcome::Succeeded,
                    Reply::Error => Outcome::FunctionError,
                    Reply::Report(share) => Outcome::Reported { first_failed: batch.len() * usize::from(*share) / 256 },
                };
                answers.insert((now + duration, lane), outcome);
            }
            Action::Discard(discard) => observer.discarded(now, &run.settings, &discard),
            Action::Checkpoint(reached) => observer.checkpoint(&reached),
            Action::Wait { until } => {
                assert!(until.is_none_or(|until| until > now), "told to wait for a time that is past");
                let answer_at = answers.keys().next().map(|(at, _)| *at);
                let read_at_or_never = next_read.map(|_| read_at);
                now = [until, answer_at, read_at_or_never]
                    .into_iter()
                    .flatten()
                    .min()
                    .expect("the poller hangs")
                    .max(now);
                if answer_at == Some(now) {
                    let ((_, lane), outcome) = answers.pop_first().unwrap();
                    observer.answered(lane, outcome);
                    poller.handle(now, Input::Answered { lane, outcome });
                } else if read_at_or_never == Some(now) {
                    let (_, shapes) = next_read.unwrap();
                    let records = shapes
                        .iter()
                        .map(|(key, size)| {
                            number += 1;
                            Record { encoded_len: *size, ..record(number, &key.to_string(), now) }
                        })
                        .collect();
                    next_read = reads.next();
                    let more = match next_read {
                        Some((wait, _)) => {
                            read_at = now + wait;
                            if *wait == 0 { More::AtHand } else { More::NotYet }
                        }
                        None => More::Never,
                    };
                    poller.handle(now, Input::Read { records, more });
                }
            }
            Action::Finished => {
                assert!(next_read.is_none() && answers.is_empty(), "finished too early");
                assert_eq!(observer.settled.len() as u64, number, "records were lost");
                assert_eq!(observer.checkpoint, number);
                let counts = poller.counts();
                assert_eq!(counts.records, number);
                assert_eq!(counts.succeeded + counts.discarded, number);
                return;
            }
        }
    }
    panic!("no end after {MOST_STEPS} steps");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_the_function_answers_every_record_is_delivered_in_order_until_it_is_settled(run in runs()) {
        play(&run);
    }
}
