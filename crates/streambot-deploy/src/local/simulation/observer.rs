//! What has to hold at every step of a run, and at its end, told only by what went into the poller
//! and came out.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::local::filter::ShardFilter;
use crate::local::poller::{Condition, Counts, Discard, Outcome, Settings};
use crate::local::record::{Batch, Record, SequenceNumber, ShardId};
use crate::local::window::{Frame, State, Window};

/// What is known of a run so far.
pub(super) struct Observer {
    settings: Settings,
    /// How many records the whole run has.
    records: u64,
    read: u64,
    filtered: BTreeSet<u64>,
    succeeded: BTreeSet<u64>,
    discarded: BTreeSet<u64>,
    /// The records that are not settled, by what keeps them in order: their shard, or with lanes
    /// their key.
    unsettled: BTreeMap<String, BTreeSet<u64>>,
    /// Failures that count, of deliveries that began with this record.
    failures: HashMap<u64, u32>,
    in_flight: HashMap<usize, Sent>,
    /// What was sent last on each lane, without what is done.
    left: HashMap<usize, Vec<u64>>,
    windows: HashMap<usize, Begun>,
    checkpoint: u64,
    stopped: bool,
    invocations: u64,
}

struct Sent {
    batch: Batch,
    attempt: u32,
    window: Option<Frame>,
}

/// A window that has begun on a lane and has not ended.
struct Begun {
    window: Window,
    state: State,
}

impl Observer {
    pub(super) fn new(settings: Settings, arrivals: &[(u64, Record)]) -> Observer {
        Observer {
            settings,
            records: arrivals.len() as u64,
            read: 0,
            filtered: BTreeSet::new(),
            succeeded: BTreeSet::new(),
            discarded: BTreeSet::new(),
            unsettled: BTreeMap::new(),
            failures: HashMap::new(),
            in_flight: HashMap::new(),
            left: HashMap::new(),
            windows: HashMap::new(),
            checkpoint: 0,
            stopped: false,
            invocations: 0,
        }
    }

    pub(super) fn read(&mut self, records: &[Record]) {
        let filter = self
            .settings
            .filter
            .clone()
            .map(|filter| ShardFilter::new(filter, ShardId::numbered(0)));
        self.read += records.len() as u64;
        for record in records {
            if filter.as_ref().is_none_or(|filter| filter.passes(record)) {
                let order = self.order_of(record);
                self.unsettled.entry(order).or_default().insert(number(record));
            } else {
                self.filtered.insert(number(record));
            }
        }
    }

    pub(super) fn invoked(
        &mut self,
        lane: usize,
        batch: &Batch,
        attempt: u32,
        window: Option<&Frame>,
    ) {
        assert!(!self.stopped, "sent after the reader was stopped");
        assert!(lane < self.settings.parallelization_factor, "lane {lane}");
        self.invocations += 1;
        self.check_window(lane, batch, window);
        if !window.is_some_and(|window| window.is_final) {
            self.check_batch(batch);
            self.check_attempt(batch, attempt);
        }
        self.left.insert(lane, numbers(batch));
        let sent = Sent { batch: batch.clone(), attempt, window: window.cloned() };
        assert!(self.in_flight.insert(lane, sent).is_none(), "lane {lane} is busy");
    }

    fn check_batch(&self, batch: &Batch) {
        assert!(
            !batch.is_empty() && batch.len() <= self.settings.batch_size,
            "batch of {}",
            batch.len()
        );
        let bytes: usize = batch.records().iter().map(|record| record.encoded_len).sum();
        assert!(bytes <= self.settings.maximum_event_bytes || batch.len() == 1, "{bytes} bytes");
        let mut sent: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        for record in batch.records() {
            sent.entry(self.order_of(record)).or_default().push(number(record));
        }
        for (order, sent) in sent {
            let next: Vec<u64> = self
                .unsettled
                .get(&order)
                .into_iter()
                .flatten()
                .take(sent.len())
                .copied()
                .collect();
            assert_eq!(sent, next, "what is sent of {order:?} is not what comes next");
            let elsewhere = |busy: &Sent| {
                busy.batch.records().iter().any(|record| self.order_of(record) == order)
            };
            assert!(
                !self.in_flight.values().any(elsewhere),
                "{order:?} is in flight on another lane"
            );
        }
    }

    fn check_attempt(&self, batch: &Batch, attempt: u32) {
        if let Some(retries) = self.settings.maximum_retry_attempts {
            assert!(attempt <= retries + 1, "attempt {attempt} with {retries} retries");
        }
        let first = numbers(batch)[0];
        if self.settings.attempts_start_anew {
            assert_eq!(
                attempt,
                self.failures.get(&first).copied().unwrap_or_default() + 1,
                "attempts at {first}"
            );
        }
    }

    fn check_window(&mut self, lane: usize, batch: &Batch, frame: Option<&Frame>) {
        assert_eq!(frame.is_some(), self.settings.tumbling_window.is_some());
        let (Some(frame), Some(length)) = (frame, self.settings.tumbling_window) else { return };
        assert_eq!(
            (frame.window.end - frame.window.start, frame.window.start % length),
            (length, 0)
        );
        if frame.is_final {
            assert!(batch.is_empty(), "a final event holds no records");
        } else if let Some(first) = batch.records().first() {
            self.windows.entry(lane).or_insert_with(|| {
                assert!(
                    frame.window.start <= first.arrival,
                    "a window begins after its first record"
                );
                Begun { window: frame.window, state: State::default() }
            });
        }
        assert!(
            batch.records().iter().all(|record| record.arrival < frame.window.end),
            "a record is after its window"
        );
        let begun = self.windows.get(&lane).expect("a final event ends a window that has begun");
        assert_eq!((begun.window, &begun.state), (frame.window, &frame.state), "lane {lane}");
        assert_eq!(frame.is_terminated_early, frame.is_final && begun.state.is_too_large());
    }

    pub(super) fn answered(&mut self, lane: usize, outcome: Outcome, state: Option<&State>) {
        let Sent { batch, attempt, window } = self.in_flight.remove(&lane).expect("it was sent");
        if window.as_ref().is_some_and(|window| window.is_final) {
            if outcome == Outcome::Succeeded {
                self.windows.remove(&lane);
            }
            return;
        }
        let done = match outcome {
            Outcome::Succeeded => batch.len(),
            Outcome::Reported { first_failed } => first_failed,
            Outcome::Refused | Outcome::FunctionError | Outcome::Throttled => 0,
        };
        let (done, left) = batch.split_at(done);
        if let (false, Some(begun), Some(state)) =
            (done.is_empty(), self.windows.get_mut(&lane), state)
        {
            begun.state = state.clone();
        }
        for record in done.records() {
            self.settle(record);
            self.succeeded.insert(number(record));
        }
        self.left.insert(lane, numbers(&left));
        let is_split = self.settings.bisect
            && left.len() > 1
            && matches!(outcome, Outcome::Refused | Outcome::FunctionError);
        let counts = outcome != Outcome::Throttled && !is_split;
        if counts && done.is_empty() {
            self.failures.insert(numbers(&left)[0], attempt);
        }
    }

    pub(super) fn discarded(&mut self, now: u64, discard: &Discard) {
        let lost = numbers(&discard.batch);
        assert!(!lost.is_empty(), "a discard of nothing");
        match discard.condition {
            Condition::RecordAgeExceeded => {
                let is_old =
                    |record: &Record| now - record.arrival > self.settings.maximum_record_age;
                assert!(discard.batch.records().iter().all(is_old), "a young record was given up");
                assert!(discard.approximate_invoke_count >= 1);
            }
            Condition::RetryAttemptsExhausted { .. } => {
                let attempts = self.settings.maximum_retry_attempts.map(|retries| retries + 1);
                let count = discard.approximate_invoke_count;
                assert!(
                    attempts.is_some_and(|attempts| count == attempts),
                    "given up after {count} attempts"
                );
                assert_eq!(
                    self.left.get(&discard.lane),
                    Some(&lost),
                    "what is lost is not what failed"
                );
            }
        }
        for record in discard.batch.records() {
            self.settle(record);
            self.discarded.insert(number(record));
        }
    }

    pub(super) fn lost(&mut self, now: u64, lane: usize, window: Window) {
        assert!(now - window.end > self.settings.maximum_record_age, "a window was given up early");
        let begun = self.windows.remove(&lane).expect("it had begun");
        assert_eq!(begun.window, window);
    }

    pub(super) fn checkpoint(&mut self, reached: &SequenceNumber) {
        let reached: u64 = reached.as_str().parse().expect("a number");
        assert!(
            reached > self.checkpoint,
            "the checkpoint went from {} to {reached}",
            self.checkpoint
        );
        let lowest = self.unsettled.values().filter_map(BTreeSet::first).min();
        assert!(
            lowest.is_none_or(|lowest| *lowest > reached),
            "the checkpoint {reached} passed {lowest:?}"
        );
        assert!(reached <= self.read, "the checkpoint {reached} is on a record that was not read");
        self.checkpoint = reached;
    }

    pub(super) fn stopped(&mut self) {
        self.stopped = true;
    }

    pub(super) fn finished(&self, counts: Counts, behind_checkpoint: u64) {
        assert_eq!(counts.records, self.read);
        assert_eq!(counts.succeeded, self.succeeded.len() as u64);
        assert_eq!(counts.discarded, self.discarded.len() as u64);
        assert_eq!(counts.filtered.unwrap_or_default(), self.filtered.len() as u64);
        assert_eq!(counts.invocations, self.invocations);
        let lowest = self.unsettled.values().filter_map(BTreeSet::first).min();
        let behind = lowest.map_or(self.read, |lowest| lowest - 1);
        assert_eq!(self.checkpoint, behind, "the checkpoint does not say how far the reader came");
        assert_eq!(behind_checkpoint, self.checkpoint, "records are numbered from 1 on");
        if !self.stopped {
            assert_eq!(self.read, self.records, "records were not read");
            assert_eq!(lowest, None, "records were lost");
            assert!(self.windows.is_empty(), "a window had no final event");
        }
    }

    /// Every record is settled once.
    fn settle(&mut self, record: &Record) {
        let order = self.order_of(record);
        let is_new = self
            .unsettled
            .get_mut(&order)
            .is_some_and(|unsettled| unsettled.remove(&number(record)));
        assert!(is_new, "{} was settled before", record.sequence_number);
    }

    fn order_of(&self, record: &Record) -> String {
        match self.settings.parallelization_factor {
            1 => "the shard".to_owned(),
            _ => record.ordering_key().to_owned(),
        }
    }
}

fn number(record: &Record) -> u64 {
    record.sequence_number.as_str().parse().expect("a number")
}

fn numbers(batch: &Batch) -> Vec<u64> {
    batch.records().iter().map(number).collect()
}
