//! One lane of a shard: the records waiting for their turn, and the one batch that is being delivered until it is done or
//! given up. Pure, under a clock that is passed in; it knows neither the shard's other lanes nor the checkpoint.

use std::collections::VecDeque;
use std::mem;

use super::poller::{Condition, Discard, Outcome, Settings};
use super::record::{Batch, Record, SequenceNumber};

/// A lane. At most one of its batches is in flight, and that one blocks it until it is settled: this keeps the order.
#[derive(Debug)]
pub(crate) struct Lane {
    waiting: VecDeque<Waiting>,
    waiting_bytes: usize,
    work: Work,
}

#[derive(Debug)]
struct Waiting {
    record: Record,
    since: u64,
}

#[derive(Debug)]
enum Work {
    Idle,
    InFlight(Delivery),
    /// A failed batch, to be sent again at this time.
    Retrying(Delivery, u64),
}

#[derive(Debug)]
struct Delivery {
    batch: Batch,
    /// Invocations that began at the batch's present first record.
    attempts: u32,
}

/// A batch to send.
#[derive(Debug)]
pub(crate) struct Due {
    /// What to send.
    pub(crate) batch: Batch,
    /// Which attempt this is since the checkpoint last moved, counted from 1.
    pub(crate) attempt: u32,
    /// Whether these records were sent before.
    pub(crate) retry: bool,
}

/// What became of a batch that was in flight.
#[derive(Debug)]
pub(crate) struct Settled {
    /// How many of its records succeeded.
    pub(crate) succeeded: usize,
    /// The records that were given up.
    pub(crate) discard: Option<Discard>,
}

impl Lane {
    /// A lane without records.
    pub(crate) fn new() -> Lane {
        Lane { waiting: VecDeque::new(), waiting_bytes: 0, work: Work::Idle }
    }

    /// Queues a record that was read at `now`.
    pub(crate) fn push(&mut self, now: u64, record: Record) {
        self.waiting_bytes += record.encoded_len;
        self.waiting.push_back(Waiting { record, since: now });
    }

    /// How many records wait for their first attempt.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// The bytes those records take in an event.
    pub(crate) fn waiting_bytes(&self) -> usize {
        self.waiting_bytes
    }

    /// Whether a batch is with the function now.
    pub(crate) fn is_in_flight(&self) -> bool {
        matches!(self.work, Work::InFlight(_))
    }

    /// The lowest record that is not done.
    pub(crate) fn first_unfinished(&self) -> Option<&SequenceNumber> {
        let record = match &self.work {
            Work::InFlight(delivery) | Work::Retrying(delivery, _) => delivery.batch.records().first(),
            Work::Idle => self.waiting.front().map(|waiting| &waiting.record),
        };
        record.map(|record| &record.sequence_number)
    }

    /// When something can be sent if nothing else happens; `flush` says that a batch need not wait to be full.
    pub(crate) fn due_at(&self, settings: &Settings, flush: bool) -> Option<u64> {
        let first = match &self.work {
            Work::InFlight(_) => return None,
            Work::Retrying(_, at) => return Some(*at),
            Work::Idle => self.waiting.front()?,
        };
        let full = self.waiting.len() >= settings.batch_size || self.waiting_bytes >= settings.maximum_event_bytes;
        if full || flush {
            Some(first.since)
        } else if settings.batching_window > 0 {
            Some(first.since + settings.batching_window)
        } else {
            None
        }
    }

    /// Takes what is to be sent now; the caller has seen that it is due.
    pub(crate) fn take_due(&mut self, settings: &Settings) -> Option<Due> {
        let (batch, attempts, retry) = match mem::replace(&mut self.work, Work::Idle) {
            Work::Idle => (self.next_batch(settings)?, 0, false),
            Work::Retrying(delivery, _) => (delivery.batch, delivery.attempts, true),
            in_flight @ Work::InFlight(_) => {
                self.work = in_flight;
                return None;
            }
        };
        let attempt = attempts + 1;
        self.work = Work::InFlight(Delivery { batch: batch.clone(), attempts: attempt });
        Some(Due { batch, attempt, retry })
    }

    /// Gives up the records at the front that are too old for another attempt; records arrive in order, so the old ones
    /// are in front. `None` when nothing is.
    pub(crate) fn take_expired(&mut self, now: u64, settings: &Settings) -> Option<Discard> {
        let is_expired = |record: &Record| now.saturating_sub(record.arrival) > settings.maximum_record_age;
        match &mut self.work {
            Work::InFlight(_) => None,
            Work::Retrying(delivery, _) => {
                let count = delivery.batch.records().iter().take_while(|record| is_expired(record)).count();
                let (expired, rest) = delivery.batch.split_at(count);
                if expired.is_empty() {
                    return None;
                }
                let attempts = mem::replace(&mut delivery.attempts, 0);
                delivery.batch = rest;
                if delivery.batch.is_empty() {
                    self.work = Work::Idle;
                }
                Some(Discard::expired(expired, attempts))
            }
            Work::Idle => {
                let count = self.waiting.iter().take_while(|waiting| is_expired(&waiting.record)).count();
                (count > 0).then(|| Discard::expired(self.take_waiting(count), 0))
            }
        }
    }

    /// Notes how the batch in flight ended. `None` when there was none.
    pub(crate) fn settle(&mut self, now: u64, outcome: Outcome, settings: &Settings) -> Option<Settled> {
        let Work::InFlight(delivery) = mem::replace(&mut self.work, Work::Idle) else {
            return None;
        };
        let succeeded = match outcome {
            Outcome::Succeeded => delivery.batch.len(),
            Outcome::Reported { first_failed } => first_failed,
            Outcome::FunctionError => 0,
        };
        let (done, left) = delivery.batch.split_at(succeeded);
        let mut settled = Settled { succeeded: done.len(), discard: None };
        if left.is_empty() {
            return Some(settled);
        }
        // Attempts start anew when the checkpoint moves.
        let attempts = if done.is_empty() { delivery.attempts } else { 0 };
        if settings.is_exhausted(attempts) {
            let condition = Condition::RetryAttemptsExhausted { function_error: outcome == Outcome::FunctionError };
            settled.discard = Some(Discard { batch: left, condition, approximate_invoke_count: attempts });
        } else {
            let at = now + settings.delay_after(attempts);
            self.work = Work::Retrying(Delivery { batch: left, attempts }, at);
        }
        Some(settled)
    }

    fn next_batch(&mut self, settings: &Settings) -> Option<Batch> {
        let mut bytes = 0;
        let count = self
            .waiting
            .iter()
            .take(settings.batch_size)
            .take_while(|waiting| {
                bytes += waiting.record.encoded_len;
                bytes <= settings.maximum_event_bytes
            })
            .count();
        // A record that alone passes the limit could never be sent otherwise.
        let count = count.max(1).min(self.waiting.len());
        (count > 0).then(|| self.take_waiting(count))
    }

    fn take_waiting(&mut self, count: usize) -> Batch {
        let records: Vec<Record> = self.waiting.drain(..count).map(|waiting| waiting.record).collect();
        self.waiting_bytes -= records.iter().map(|record| record.encoded_len).sum::<usize>();
        Batch::new(records)
    }
}
