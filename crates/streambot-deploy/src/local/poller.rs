//! One shard's reader as a pure state machine: records and answers go in, actions come out. Time is a number of milliseconds
//! passed in, so a test can run days in a moment. It knows what Lambda's event source mapping decides, and refuses to know
//! where records come from, what an answer looked like, or how a function is called.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};

use super::lane::Lane;
use super::record::{Batch, Record, SequenceNumber};

/// Retry delays double up to this many times the first one: 1 s up to 30 s, which fits what was recorded on AWS.
const LONGEST_DELAY: u64 = 30;

/// The settings of the event source mapping that decide how a shard is read.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// The most records in one batch, 1–10,000.
    pub(crate) batch_size: usize,
    /// The most bytes of encoded records in one event.
    pub(crate) maximum_event_bytes: usize,
    /// How long a batch may wait to be full, in milliseconds since its first record was read; 0 sends what one read brought.
    pub(crate) batching_window: u64,
    /// How many batches of the shard may be in flight at once, each with partition keys of its own, 1–10.
    pub(crate) parallelization_factor: usize,
    /// How often a failed batch is sent again; `None`: until its records are too old.
    pub(crate) maximum_retry_attempts: Option<u32>,
    /// The age in milliseconds above which a record is given up.
    pub(crate) maximum_record_age: u64,
    /// The wait before the first retry, in milliseconds. It doubles with each further one, up to thirty times itself.
    pub(crate) retry_delay: u64,
}

impl Settings {
    /// Whether no retry is left after this many attempts at one checkpoint.
    pub(crate) fn is_exhausted(&self, attempts: u32) -> bool {
        self.maximum_retry_attempts.is_some_and(|retries| attempts > retries)
    }

    /// How long to wait before the next attempt, after this many at one checkpoint. Lambda's jitter is left out: it spreads
    /// the load of many pollers, and one laptop has none.
    pub(crate) fn delay_after(&self, attempts: u32) -> u64 {
        let doublings = attempts.saturating_sub(1);
        let factor = 1_u64.checked_shl(doublings).unwrap_or(u64::MAX).min(LONGEST_DELAY);
        self.retry_delay.saturating_mul(factor)
    }
}

/// What happened to a shard's reader.
#[derive(Debug)]
pub(crate) enum Input {
    /// The shard was read.
    Read {
        /// What the read brought, in order.
        records: Vec<Record>,
        /// What is known of the records after these.
        more: More,
    },
    /// An invocation ended.
    Answered {
        /// The lane it was sent on.
        lane: usize,
        /// How it ended.
        outcome: Outcome,
    },
    /// Nothing more is to be sent; what is in flight comes to its end.
    Stop,
}

/// What follows the records of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum More {
    /// More records are in the stream already, so a batch can wait for them.
    AtHand,
    /// The reader has caught up with the stream.
    NotYet,
    /// Nothing will ever follow.
    Never,
}

/// How an invocation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Every record is done.
    Succeeded,
    /// The function ran, and reported this place in the batch as the first that is not done.
    Reported {
        /// Counted from 0; at 0 the whole batch failed.
        first_failed: usize,
    },
    /// The function reported an error, exited or ran out of time.
    FunctionError,
}

/// What is to be done next.
#[derive(Debug)]
pub(crate) enum Action {
    /// Send this batch.
    Invoke {
        /// The lane to name with the answer; lanes are counted from 0.
        lane: usize,
        /// The records to send.
        batch: Batch,
        /// Which attempt this is at the batch's first record, counted from 1.
        attempt: u32,
    },
    /// These records are given up.
    Discard(Discard),
    /// This record and all before it are done or given up.
    Checkpoint(SequenceNumber),
    /// Nothing to do before this time, or, without one, before something is read or answered.
    Wait {
        /// In milliseconds, on the clock that is passed in.
        until: Option<u64>,
    },
    /// All records are done or given up, and none will follow; or all that was in flight when the reader was stopped is.
    Finished,
}

/// Records that were given up, and why.
#[derive(Debug)]
pub(crate) struct Discard {
    /// The records.
    pub(crate) batch: Batch,
    /// Why.
    pub(crate) condition: Condition,
    /// How often they were sent since the checkpoint last moved; 1 for records that expired before they ever were.
    pub(crate) approximate_invoke_count: u32,
}

impl Discard {
    /// Records that grew too old after this many attempts.
    pub(crate) fn expired(batch: Batch, attempts: u32) -> Discard {
        Discard { batch, condition: Condition::RecordAgeExceeded, approximate_invoke_count: attempts.max(1) }
    }
}

/// Why records were given up, by Lambda's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    /// The batch failed once more than it may be retried.
    RetryAttemptsExhausted {
        /// Whether the last failure was the function's error, rather than a failure it reported.
        function_error: bool,
    },
    /// The records are older than the mapping allows.
    RecordAgeExceeded,
}

/// How much more the poller takes before it has sent something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Room {
    /// In records.
    pub(crate) records: usize,
    /// In bytes of encoded records; the record that passes it is still taken.
    pub(crate) bytes: usize,
}

impl Room {
    /// Whether nothing more is taken.
    pub(crate) fn is_none(self) -> bool {
        self.records == 0 || self.bytes == 0
    }
}

/// What a shard's reader has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Records read.
    pub(crate) records: u64,
    /// Bytes of data in them.
    pub(crate) bytes: u64,
    /// Records done.
    pub(crate) succeeded: u64,
    /// Records given up.
    pub(crate) discarded: u64,
    /// Invocations begun.
    pub(crate) invocations: u64,
    /// Invocations of these that sent records again.
    pub(crate) retries: u64,
}

impl Counts {
    /// Both together.
    pub(crate) fn plus(self, other: Counts) -> Counts {
        Counts {
            records: self.records + other.records,
            bytes: self.bytes + other.bytes,
            succeeded: self.succeeded + other.succeeded,
            discarded: self.discarded + other.discarded,
            invocations: self.invocations + other.invocations,
            retries: self.retries + other.retries,
        }
    }
}

/// One shard's reader.
#[derive(Debug)]
pub(crate) struct Poller {
    settings: Settings,
    lanes: Vec<Lane>,
    more: More,
    stopping: bool,
    /// What was read and lies behind no checkpoint yet.
    unfinished: VecDeque<SequenceNumber>,
    actions: VecDeque<Action>,
    counts: Counts,
}

impl Poller {
    /// A reader that has read nothing yet.
    pub(crate) fn new(settings: Settings) -> Poller {
        Poller {
            lanes: (0..settings.parallelization_factor.max(1)).map(|_| Lane::new()).collect(),
            settings,
            more: More::AtHand,
            stopping: false,
            unfinished: VecDeque::new(),
            actions: VecDeque::new(),
            counts: Counts::default(),
        }
    }

    /// What was done so far.
    pub(crate) fn counts(&self) -> Counts {
        self.counts
    }

    /// How many records to read now. A batch's worth for each lane: enough for a full batch on every one, and a bound.
    pub(crate) fn room(&self) -> Room {
        if self.stopping {
            return Room { records: 0, bytes: 0 };
        }
        let waiting: usize = self.lanes.iter().map(Lane::waiting).sum();
        let waiting_bytes: usize = self.lanes.iter().map(Lane::waiting_bytes).sum();
        Room {
            records: (self.settings.batch_size * self.lanes.len()).saturating_sub(waiting),
            bytes: (self.settings.maximum_event_bytes * self.lanes.len()).saturating_sub(waiting_bytes),
        }
    }

    /// Takes in what happened.
    pub(crate) fn handle(&mut self, now: u64, input: Input) {
        match input {
            Input::Read { records, more } => {
                self.more = more;
                self.counts.records += records.len() as u64;
                for record in records {
                    self.counts.bytes += record.data.len() as u64;
                    self.unfinished.push_back(record.sequence_number.clone());
                    let lane = self.lane_of(&record.partition_key);
                    self.lanes[lane].push(now, record);
                }
            }
            Input::Answered { lane, outcome } => {
                let Some(settled) = self.lanes[lane].settle(now, outcome, &self.settings) else {
                    return;
                };
                self.counts.succeeded += settled.succeeded as u64;
                if let Some(discard) = settled.discard {
                    self.discard(discard);
                }
                self.move_checkpoint();
            }
            Input::Stop => self.stopping = true,
        }
    }

    /// Says what to do next. To be called again until it answers [`Action::Wait`] or [`Action::Finished`].
    pub(crate) fn next(&mut self, now: u64) -> Action {
        if let Some(action) = self.actions.pop_front() {
            return action;
        }
        if self.stopping {
            return if self.is_in_flight() { Action::Wait { until: None } } else { Action::Finished };
        }
        let flush = match self.more {
            More::Never => true,
            // With a window a batch waits for its end; without one it waits for records that are there, while they fit.
            More::NotYet => self.settings.batching_window == 0,
            More::AtHand => self.settings.batching_window == 0 && self.room().is_none(),
        };
        let mut until: Option<u64> = None;
        for lane in 0..self.lanes.len() {
            let Some(due) = self.lanes[lane].due_at(&self.settings, flush) else {
                continue;
            };
            if due > now {
                until = Some(until.map_or(due, |until| until.min(due)));
                continue;
            }
            if let Some(expired) = self.lanes[lane].take_expired(now, &self.settings) {
                self.discard(expired);
                self.move_checkpoint();
                return self.next(now);
            }
            if let Some(due) = self.lanes[lane].take_due(&self.settings) {
                self.counts.invocations += 1;
                self.counts.retries += u64::from(due.retry);
                return Action::Invoke { lane, batch: due.batch, attempt: due.attempt };
            }
        }
        if self.more == More::Never && until.is_none() && !self.is_in_flight() {
            return Action::Finished;
        }
        Action::Wait { until }
    }

    fn is_in_flight(&self) -> bool {
        self.lanes.iter().any(Lane::is_in_flight)
    }

    /// A partition key always maps to one lane, so its records keep their order while lanes run at once.
    fn lane_of(&self, partition_key: &str) -> usize {
        if self.lanes.len() == 1 {
            return 0;
        }
        let mut hasher = DefaultHasher::new();
        partition_key.hash(&mut hasher);
        (hasher.finish() % self.lanes.len() as u64) as usize
    }

    fn discard(&mut self, discard: Discard) {
        self.counts.discarded += discard.batch.len() as u64;
        self.actions.push_back(Action::Discard(discard));
    }

    /// The checkpoint is the last record before the lowest unfinished one over all lanes.
    fn move_checkpoint(&mut self) {
        let lowest = self.lanes.iter().filter_map(Lane::first_unfinished).min();
        let mut reached = None;
        while self.unfinished.front().is_some_and(|front| lowest.is_none_or(|lowest| front < lowest)) {
            reached = self.unfinished.pop_front();
        }
        if let Some(reached) = reached {
            self.actions.push_back(Action::Checkpoint(reached));
        }
    }
}

#[cfg(test)]
#[path = "poller_tests.rs"]
mod tests;
