//! One lane of a shard: the records waiting for their turn, and the one batch that is being
//! delivered until it is done or given up. Pure, under a clock that is passed in; it knows neither
//! the shard's other lanes nor the checkpoint.

use std::collections::VecDeque;
use std::mem;

use super::poller::{Condition, Discard, Outcome, Settings};
use super::record::{Batch, Record, SequenceNumber};
use super::window::{Frame, LATENESS, State, Window};

/// What an event says of its window besides the state takes fewer bytes than this.
const FRAME_BYTES: usize = 1024;

/// A lane. At most one of its batches is in flight, and that one blocks it until it is settled:
/// this keeps the order.
#[derive(Debug)]
pub(crate) struct Lane {
    number: usize,
    waiting: VecDeque<Waiting>,
    waiting_bytes: usize,
    work: Work,
    /// The tumbling window that has begun and has not had its final event.
    aggregation: Option<Aggregation>,
}

/// What is known of the records that come after those of the lane.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Supply {
    /// Whether a batch need not wait to be full.
    pub(crate) flush: bool,
    /// Whether the shard has ended.
    pub(crate) ended: bool,
    /// When the latest record read from the shard arrived; none that follows is older.
    pub(crate) latest_arrival: u64,
}

#[derive(Debug)]
struct Aggregation {
    window: Window,
    state: State,
    is_terminated_early: bool,
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
    /// Invocations that began at the batch's present first record and count against the retries.
    attempts: u32,
    /// Those and the ones that do not count, for the delay.
    failures: u32,
    /// What was split off the batch and comes after it.
    halves: VecDeque<Batch>,
    /// Whether it is a window's final event, which has no records.
    is_final: bool,
}

impl Delivery {
    fn new(batch: Batch) -> Delivery {
        Delivery { batch, attempts: 0, failures: 0, halves: VecDeque::new(), is_final: false }
    }
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
    /// The tumbling window they belong to.
    pub(crate) window: Option<Frame>,
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
    /// The lane with this number, counted from 0, without records.
    pub(crate) fn new(number: usize) -> Lane {
        Lane {
            number,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            work: Work::Idle,
            aggregation: None,
        }
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
        let sent = match &self.work {
            Work::InFlight(delivery) | Work::Retrying(delivery, _) => {
                delivery.batch.records().first()
            }
            Work::Idle => None,
        };
        let record = sent.or_else(|| self.waiting.front().map(|waiting| &waiting.record));
        record.map(|record| &record.sequence_number)
    }

    /// When something can be sent if nothing else happens.
    pub(crate) fn due_at(&self, settings: &Settings, supply: Supply) -> Option<u64> {
        match &self.work {
            Work::InFlight(_) => return None,
            Work::Retrying(_, at) => return Some(*at),
            Work::Idle => {}
        }
        if let Some(at) = self.final_due_at(supply) {
            return Some(at);
        }
        let first = self.waiting.front()?;
        let is_complete =
            self.window_of_next(settings).is_some_and(|window| supply.latest_arrival >= window.end);
        let is_full = self.waiting.len() >= settings.batch_size
            || self.waiting_bytes >= settings.maximum_event_bytes;
        if is_full || is_complete || supply.flush {
            Some(first.since)
        } else if settings.batching_window > 0 {
            Some(first.since + settings.batching_window)
        } else {
            None
        }
    }

    /// Takes what is to be sent at `now`; the caller has seen that something is due.
    pub(crate) fn take_due(
        &mut self,
        now: u64,
        settings: &Settings,
        supply: Supply,
    ) -> Option<Due> {
        let (mut delivery, retry) = match mem::replace(&mut self.work, Work::Idle) {
            Work::Idle if self.final_due_at(supply).is_some_and(|at| at <= now) => {
                (Delivery { is_final: true, ..Delivery::new(Batch::new([])) }, false)
            }
            Work::Idle => (Delivery::new(self.next_batch(settings)?), false),
            Work::Retrying(delivery, _) => (delivery, true),
            in_flight @ Work::InFlight(_) => {
                self.work = in_flight;
                return None;
            }
        };
        delivery.attempts += 1;
        delivery.failures += 1;
        let window = self.frame(delivery.is_final);
        let due = Due { batch: delivery.batch.clone(), attempt: delivery.attempts, retry, window };
        self.work = Work::InFlight(delivery);
        Some(due)
    }

    /// Gives up the records at the front that are too old for another attempt; records arrive in
    /// order, so the old ones are in front. `None` when nothing is.
    pub(crate) fn take_expired(&mut self, now: u64, settings: &Settings) -> Option<Discard> {
        let is_expired =
            |record: &Record| now.saturating_sub(record.arrival) > settings.maximum_record_age;
        match &mut self.work {
            Work::InFlight(_) => None,
            Work::Retrying(delivery, _) => {
                let count =
                    delivery.batch.records().iter().take_while(|record| is_expired(record)).count();
                let (batch, rest) = delivery.batch.split_at(count);
                if batch.is_empty() {
                    return None;
                }
                let attempts = delivery.attempts;
                if settings.attempts_start_anew {
                    (delivery.attempts, delivery.failures) = (0, 0);
                }
                delivery.batch = rest;
                if delivery.batch.is_empty() {
                    let halves = mem::take(&mut delivery.halves);
                    self.go_on(now, halves);
                }
                Some(self.expired(batch, attempts, true))
            }
            Work::Idle => {
                let count =
                    self.waiting.iter().take_while(|waiting| is_expired(&waiting.record)).count();
                if count == 0 {
                    return None;
                }
                let batch = self.take_waiting(count);
                Some(self.expired(batch, 0, false))
            }
        }
    }

    /// Records that grew too old after this many attempts; a batch that was split was sent, though
    /// that counts as none.
    fn expired(&self, batch: Batch, attempts: u32, was_sent: bool) -> Discard {
        Discard {
            lane: self.number,
            batch,
            condition: Condition::RecordAgeExceeded,
            approximate_invoke_count: attempts.max(1),
            was_sent,
            window: self.frame(false),
        }
    }

    /// Gives up a window whose final event fails and that is over for longer than a record may be
    /// old. `None` when there is none: until then it blocks the lane, for there are no records to
    /// discard.
    pub(crate) fn take_lost_window(&mut self, now: u64, settings: &Settings) -> Option<Window> {
        let is_lost = |aggregation: &mut Aggregation| {
            now.saturating_sub(aggregation.window.end) > settings.maximum_record_age
        };
        match &self.work {
            Work::Retrying(delivery, _) if delivery.is_final => {}
            _ => return None,
        }
        let lost = self.aggregation.take_if(is_lost)?;
        self.work = Work::Idle;
        Some(lost.window)
    }

    /// Notes how the invocation in flight ended, and the state it answered. `None` when there was
    /// none.
    pub(crate) fn settle(
        &mut self,
        now: u64,
        outcome: Outcome,
        state: Option<State>,
        settings: &Settings,
    ) -> Option<Settled> {
        let Work::InFlight(mut delivery) = mem::replace(&mut self.work, Work::Idle) else {
            return None;
        };
        let succeeded = match outcome {
            Outcome::Succeeded => delivery.batch.len(),
            Outcome::Reported { first_failed } => first_failed,
            Outcome::Refused | Outcome::FunctionError | Outcome::Throttled => 0,
        };
        let (done, left) = delivery.batch.split_at(succeeded);
        let mut settled = Settled { succeeded: done.len(), discard: None };
        if outcome == Outcome::Succeeded && delivery.is_final {
            self.aggregation = None;
        } else if !done.is_empty() {
            // The records before the checkpoint are in the state; what comes again is not.
            self.keep_state(state);
        }
        if outcome == Outcome::Succeeded {
            self.go_on(now, delivery.halves);
            return Some(settled);
        }
        if !done.is_empty() && settings.attempts_start_anew {
            (delivery.attempts, delivery.failures) = (0, 0);
        }
        delivery.batch = left;
        // A reported failure splits the batch at its checkpoint alone, as the guide says; other
        // failures in the middle.
        let is_split = settings.bisect
            && delivery.batch.len() > 1
            && matches!(outcome, Outcome::FunctionError | Outcome::Refused);
        if outcome == Outcome::Throttled {
            delivery.attempts -= 1;
            self.retry(now, delivery, settings);
        } else if is_split {
            let (half, other) = delivery.batch.split_at(delivery.batch.len() / 2);
            delivery.batch = half;
            delivery.halves.push_front(other);
            delivery.attempts -= 1;
            self.retry(now, delivery, settings);
        } else if !delivery.is_final && settings.is_exhausted(delivery.attempts) {
            settled.discard = Some(Discard {
                lane: self.number,
                batch: delivery.batch,
                condition: Condition::RetryAttemptsExhausted {
                    function_error: outcome == Outcome::FunctionError,
                },
                approximate_invoke_count: delivery.attempts,
                was_sent: true,
                window: self.frame(false),
            });
            self.go_on(now, delivery.halves);
        } else {
            self.retry(now, delivery, settings);
        }
        Some(settled)
    }

    fn retry(&mut self, now: u64, delivery: Delivery, settings: &Settings) {
        let at = now + settings.delay_after(delivery.failures);
        self.work = Work::Retrying(delivery, at);
    }

    /// When the window that has begun is to be ended, where it has no records left to send.
    fn final_due_at(&self, supply: Supply) -> Option<u64> {
        let aggregation = self.aggregation.as_ref()?;
        let end = aggregation.window.end;
        if aggregation.is_terminated_early {
            return Some(0);
        }
        match self.waiting.front() {
            Some(next) => (next.record.arrival >= end).then_some(0),
            None if supply.ended || supply.latest_arrival >= end => Some(0),
            None => Some(end + LATENESS),
        }
    }

    /// The tumbling window that the record which is next to be sent belongs to.
    fn window_of_next(&self, settings: &Settings) -> Option<Window> {
        let length = settings.tumbling_window?;
        match &self.aggregation {
            Some(aggregation) => Some(aggregation.window),
            None => self.waiting.front().map(|next| Window::holding(next.record.arrival, length)),
        }
    }

    fn frame(&self, is_final: bool) -> Option<Frame> {
        self.aggregation.as_ref().map(|aggregation| Frame {
            window: aggregation.window,
            state: aggregation.state.clone(),
            is_final,
            is_terminated_early: is_final && aggregation.is_terminated_early,
        })
    }

    fn keep_state(&mut self, state: Option<State>) {
        if let (Some(aggregation), Some(state)) = (&mut self.aggregation, state) {
            aggregation.is_terminated_early = state.is_too_large();
            aggregation.state = state;
        }
    }

    /// Goes on with the half that comes next, if there is one.
    fn go_on(&mut self, now: u64, mut halves: VecDeque<Batch>) {
        self.work = match halves.pop_front() {
            Some(next) => Work::Retrying(Delivery { halves, ..Delivery::new(next) }, now),
            None => Work::Idle,
        };
    }

    fn next_batch(&mut self, settings: &Settings) -> Option<Batch> {
        let window = self.window_of_next(settings);
        if let (None, Some(window)) = (&self.aggregation, window) {
            self.aggregation =
                Some(Aggregation { window, state: State::default(), is_terminated_early: false });
        }
        let frame_bytes = self
            .aggregation
            .as_ref()
            .map_or(0, |aggregation| FRAME_BYTES + aggregation.state.as_str().len());
        let maximum_bytes = settings.maximum_event_bytes.saturating_sub(frame_bytes);
        let mut bytes = 0;
        let count = self
            .waiting
            .iter()
            .take(settings.batch_size)
            .take_while(|waiting| {
                bytes += waiting.record.encoded_len;
                bytes <= maximum_bytes
                    && window.is_none_or(|window| waiting.record.arrival < window.end)
            })
            .count();
        // A record that alone passes the limit could never be sent otherwise.
        let count = count.max(1).min(self.waiting.len());
        (count > 0).then(|| self.take_waiting(count))
    }

    fn take_waiting(&mut self, count: usize) -> Batch {
        let records: Vec<Record> =
            self.waiting.drain(..count).map(|waiting| waiting.record).collect();
        self.waiting_bytes -= records.iter().map(|record| record.encoded_len).sum::<usize>();
        Batch::new(records)
    }
}
