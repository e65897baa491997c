//! One shard's reader as a pure state machine: records and answers go in, actions come out. Time is
//! a number of milliseconds passed in, so a test can run days in a moment. It knows what Lambda's
//! event source mapping decides, and refuses to know where records come from, what an answer looked
//! like, or how a function is called.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use super::filter::{Filter, ShardFilter};
use super::lane::{Lane, Supply};
use super::record::{Batch, Record, SequenceNumber, ShardId};
use super::window::{Frame, State, Window};

/// Retry delays double up to this many times the first one: 1 s up to 30 s, which fits what was
/// recorded on AWS.
const LONGEST_DELAY: u64 = 30;

/// The settings of the event source mapping that decide how a shard is read.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// The most records in one batch, 1–10,000.
    pub(crate) batch_size: usize,
    /// The most bytes of encoded records in one event.
    pub(crate) maximum_event_bytes: usize,
    /// How long a batch may wait to be full, in milliseconds since its first record was read; 0
    /// sends what one read brought.
    pub(crate) batching_window: u64,
    /// How many batches of the shard may be in flight at once, each with partition keys of its own,
    /// 1–10.
    pub(crate) parallelization_factor: usize,
    /// How often a failed batch is sent again; `None`: until its records are too old.
    pub(crate) maximum_retry_attempts: Option<u32>,
    /// The age in milliseconds above which a record is given up.
    pub(crate) maximum_record_age: u64,
    /// The wait before the first retry, in milliseconds. It doubles with each further one, up to
    /// thirty times itself.
    pub(crate) retry_delay: u64,
    /// Whether a batch of more than one record that fails is split in two.
    pub(crate) bisect: bool,
    /// The length of a tumbling window in milliseconds, where there are windows.
    pub(crate) tumbling_window: Option<u64>,
    /// Whether attempts start anew when the checkpoint moves. They do on AWS as far as one recorded
    /// case tells: six records, batch size 3, three retries, the last always fails, and it was
    /// delivered five times.
    pub(crate) attempts_start_anew: bool,
    /// Which records are sent, where not all are.
    pub(crate) filter: Option<Arc<Filter>>,
}

impl Settings {
    /// Whether no retry is left after this many attempts at one checkpoint.
    pub(crate) fn is_exhausted(&self, attempts: u32) -> bool {
        self.maximum_retry_attempts.is_some_and(|retries| attempts > retries)
    }

    /// How long to wait before the next attempt, after this many at one checkpoint. Lambda's jitter
    /// is left out: it spreads the load of many pollers, and one laptop has none.
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
        /// The state it answered, where it belongs to a tumbling window.
        state: Option<State>,
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
        /// Counted from 0.
        first_failed: usize,
    },
    /// The function ran, and its answer cannot be honoured, so that the whole batch failed.
    Refused,
    /// The function reported an error, exited or ran out of time.
    FunctionError,
    /// The function was not run, because too many ran already. It counts as no attempt.
    Throttled,
}

/// What is to be done next.
#[derive(Debug)]
pub(crate) enum Action {
    /// Send this batch.
    Invoke {
        /// The lane to name with the answer; lanes are counted from 0.
        lane: usize,
        /// The records to send; none in a window's final event.
        batch: Batch,
        /// Which attempt this is at the batch's first record, counted from 1. Splitting a batch,
        /// and what was throttled, count as none.
        attempt: u32,
        /// What to say of the tumbling window, where there are windows.
        window: Option<Frame>,
    },
    /// These records are given up.
    Discard(Discard),
    /// The final event of this window never succeeded, and it is given up, with its state.
    WindowLost {
        /// The lane it was on.
        lane: usize,
        /// The window.
        window: Window,
    },
    /// This record and all before it are done or given up.
    Checkpoint(SequenceNumber),
    /// Nothing to do before this time, or, without one, before something is read or answered.
    Wait {
        /// In milliseconds, on the clock that is passed in.
        until: Option<u64>,
    },
    /// All records are done or given up, and none will follow; or all that was in flight when the
    /// reader was stopped is.
    Finished,
}

/// Records that were given up, and why.
#[derive(Debug)]
pub(crate) struct Discard {
    /// The lane they were on.
    pub(crate) lane: usize,
    /// The records.
    pub(crate) batch: Batch,
    /// Why.
    pub(crate) condition: Condition,
    /// How often they were sent since the checkpoint last moved; 1 for records that expired before
    /// they ever were.
    pub(crate) approximate_invoke_count: u32,
    /// Whether they were sent since the checkpoint last moved.
    pub(crate) was_sent: bool,
    /// The tumbling window they belong to, where it has begun.
    pub(crate) window: Option<Frame>,
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
    /// Records passed over because no filter pattern matches them; `None` where there are no
    /// patterns.
    pub(crate) filtered: Option<u64>,
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
            filtered: match (self.filtered, other.filtered) {
                (Some(filtered), Some(others)) => Some(filtered + others),
                (filtered, others) => filtered.or(others),
            },
            invocations: self.invocations + other.invocations,
            retries: self.retries + other.retries,
        }
    }
}

/// One shard's reader.
#[derive(Debug)]
pub(crate) struct Poller {
    settings: Settings,
    filter: Option<ShardFilter>,
    lanes: Vec<Lane>,
    more: More,
    stopping: bool,
    /// When the latest record read arrived.
    latest_arrival: u64,
    /// What was read and lies behind no checkpoint yet.
    unfinished: VecDeque<Unfinished>,
    /// How many records lie behind the checkpoint.
    behind: u64,
    actions: VecDeque<Action>,
    counts: Counts,
}

#[derive(Debug)]
struct Unfinished {
    sequence_number: SequenceNumber,
    /// Whether it is passed over, so that only the records before it are waited for.
    is_filtered: bool,
    /// How many records it stands for.
    records: u64,
}

impl Poller {
    /// A reader of this shard that has read nothing yet.
    pub(crate) fn new(settings: Settings, shard: &ShardId) -> Poller {
        Poller {
            lanes: (0..settings.parallelization_factor.max(1)).map(Lane::new).collect(),
            counts: Counts { filtered: settings.filter.as_ref().map(|_| 0), ..Counts::default() },
            filter: settings.filter.clone().map(|filter| ShardFilter::new(filter, shard.clone())),
            settings,
            more: More::AtHand,
            stopping: false,
            latest_arrival: 0,
            unfinished: VecDeque::new(),
            behind: 0,
            actions: VecDeque::new(),
        }
    }

    /// How many records lie behind the checkpoint.
    pub(crate) fn behind_checkpoint(&self) -> u64 {
        self.behind
    }

    /// What was done so far.
    pub(crate) fn counts(&self) -> Counts {
        self.counts
    }

    /// How many records to read now. A batch's worth for each lane: enough for a full batch on
    /// every one, and a bound.
    pub(crate) fn room(&self) -> Room {
        if self.stopping {
            return Room { records: 0, bytes: 0 };
        }
        let waiting: usize = self.lanes.iter().map(Lane::waiting).sum();
        let waiting_bytes: usize = self.lanes.iter().map(Lane::waiting_bytes).sum();
        Room {
            records: (self.settings.batch_size * self.lanes.len()).saturating_sub(waiting),
            bytes: (self.settings.maximum_event_bytes * self.lanes.len())
                .saturating_sub(waiting_bytes),
        }
    }

    /// Takes in what happened.
    pub(crate) fn handle(&mut self, now: u64, input: Input) {
        match input {
            Input::Read { records, more } => {
                self.more = more;
                records.into_iter().for_each(|record| self.take_in(now, record));
                self.move_checkpoint();
            }
            Input::Answered { lane, outcome, state } => {
                let Some(settled) = self.lanes[lane].settle(now, outcome, state, &self.settings)
                else {
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

    /// Says what to do next. To be called again until it answers [`Action::Wait`] or
    /// [`Action::Finished`].
    pub(crate) fn next(&mut self, now: u64) -> Action {
        if let Some(action) = self.actions.pop_front() {
            return action;
        }
        if self.stopping {
            return if self.is_in_flight() {
                Action::Wait { until: None }
            } else {
                Action::Finished
            };
        }
        let flush = match self.more {
            More::Never => true,
            // With a window a batch waits for its end; without one it waits for records that are
            // there, while they fit.
            More::NotYet => self.settings.batching_window == 0,
            More::AtHand => self.settings.batching_window == 0 && self.room().is_none(),
        };
        let supply =
            Supply { flush, ended: self.more == More::Never, latest_arrival: self.latest_arrival };
        let mut until: Option<u64> = None;
        for lane in 0..self.lanes.len() {
            let Some(due) = self.lanes[lane].due_at(&self.settings, supply) else {
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
            if let Some(window) = self.lanes[lane].take_lost_window(now, &self.settings) {
                return Action::WindowLost { lane, window };
            }
            if let Some(due) = self.lanes[lane].take_due(now, &self.settings, supply) {
                self.counts.invocations += 1;
                self.counts.retries += u64::from(due.retry);
                return Action::Invoke {
                    lane,
                    batch: due.batch,
                    attempt: due.attempt,
                    window: due.window,
                };
            }
        }
        if self.more == More::Never && until.is_none() && !self.is_in_flight() {
            return Action::Finished;
        }
        Action::Wait { until }
    }

    fn take_in(&mut self, now: u64, record: Record) {
        self.counts.records += 1;
        self.counts.bytes += record.data.len() as u64;
        self.latest_arrival = self.latest_arrival.max(record.arrival);
        let is_filtered = self.filter.as_ref().is_some_and(|filter| !filter.passes(&record));
        // Of filtered records in a row the last one stands for all, so that a blocked shard does
        // not pile them up.
        let before = self.unfinished.pop_back_if(|last| is_filtered && last.is_filtered);
        let records = before.map_or(1, |before| before.records + 1);
        self.unfinished.push_back(Unfinished {
            sequence_number: record.sequence_number.clone(),
            is_filtered,
            records,
        });
        if is_filtered {
            self.counts.filtered = self.counts.filtered.map(|filtered| filtered + 1);
        } else {
            let lane = self.lane_of(record.ordering_key());
            self.lanes[lane].push(now, record);
        }
    }

    fn is_in_flight(&self) -> bool {
        self.lanes.iter().any(Lane::is_in_flight)
    }

    /// An ordering key always maps to one lane, so its records keep their order while lanes run at
    /// once.
    fn lane_of(&self, ordering_key: &str) -> usize {
        if self.lanes.len() == 1 {
            return 0;
        }
        let mut hasher = DefaultHasher::new();
        ordering_key.hash(&mut hasher);
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
        while self
            .unfinished
            .front()
            .is_some_and(|front| lowest.is_none_or(|lowest| front.sequence_number < *lowest))
        {
            reached = self.unfinished.pop_front();
            self.behind += reached.as_ref().map_or(0, |reached| reached.records);
        }
        if let Some(reached) = reached {
            self.actions.push_back(Action::Checkpoint(reached.sequence_number));
        }
    }
}

#[cfg(test)]
#[path = "poller_tests.rs"]
mod tests;
