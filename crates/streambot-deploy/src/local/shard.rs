//! Drives one shard: feeds its poller from the buffer, carries out what the poller decides, and
//! tells it how that ended. It decides nothing itself.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;
use uuid::Uuid;

use super::answer::{Answer, read_windowed};
use super::buffer::Buffer;
use super::chaos::{Chaos, Strike};
use super::clock::Clock;
use super::console::Console;
use super::destination::{Destination, DiscardBody};
use super::event::EventWriter;
use super::journal::{Ending, Journal};
use super::poller::{self, Action, Condition, Counts, Discard, Input, More, Poller, Settings};
use super::record::{Batch, SequenceNumber, ShardId};
use super::report::{self, Recorder};
use super::sandbox::{Failure, Invocation, Invoked, Sandboxes};
use super::summary::counted;
use super::window::{Frame, Moment, State, Window};
use crate::error::{Error, Result};

/// What all shards of a run share.
#[derive(Debug)]
pub(crate) struct Shared {
    /// How the shards are read.
    pub(crate) settings: Settings,
    /// Where their records come from.
    pub(crate) buffer: Arc<Buffer>,
    /// Writes their events.
    pub(crate) events: Arc<EventWriter>,
    /// Runs their functions.
    pub(crate) sandboxes: Arc<Sandboxes>,
    /// Strikes their invocations, where it is asked for.
    pub(crate) chaos: Option<Chaos>,
    /// The run's clock.
    pub(crate) clock: Clock,
    /// Where failures are told.
    pub(crate) console: Arc<Console>,
    /// Where the run is written down.
    pub(crate) journal: Journal,
    /// Collects what the report is drawn from, where one is asked for.
    pub(crate) recorder: Option<Arc<Recorder>>,
    /// Where discarded records are told.
    pub(crate) destination: Destination,
    /// The function, as it is told of.
    pub(crate) function_arn: String,
    /// The stream, as it is told of.
    pub(crate) stream_arn: String,
    /// How far each shard is.
    pub(crate) progress: Mutex<Vec<Progress>>,
}

impl Shared {
    /// How far each shard is, in their order.
    pub(crate) fn progress(&self) -> Vec<Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// How far a shard is.
#[derive(Clone, Debug)]
pub(crate) struct Progress {
    /// Its name.
    pub(crate) id: ShardId,
    /// What its reader has done.
    pub(crate) counts: Counts,
    /// The last record that is done or given up, together with all before it.
    pub(crate) checkpoint: Option<SequenceNumber>,
    /// Invocations that have not come back.
    pub(crate) in_flight: usize,
    /// How old the last record of the last batch was when its invocation began, in milliseconds:
    /// Lambda's `IteratorAge`.
    pub(crate) iterator_age: Option<u64>,
}

impl Progress {
    /// Nothing yet, on this shard.
    pub(crate) fn new(id: ShardId) -> Progress {
        Progress {
            id,
            counts: Counts::default(),
            checkpoint: None,
            in_flight: 0,
            iterator_age: None,
        }
    }
}

/// One shard while it is read.
#[derive(Debug)]
pub(crate) struct Shard {
    number: usize,
    id: ShardId,
    shared: Arc<Shared>,
    poller: Poller,
    /// Of each lane, the request id of the last invocation that reached the function.
    last_request_ids: Vec<String>,
    in_flight: JoinSet<Finished>,
    source_ended: bool,
    stopping: bool,
}

/// What an invocation carries.
#[derive(Clone, Debug)]
struct Sent {
    request_id: String,
    lane: usize,
    batch: Batch,
    attempt: u32,
    window: Option<Frame>,
    strike: Option<Strike>,
    /// For a delivery that repeats one that succeeded, the state which that one answered.
    repeats: Option<Option<State>>,
}

/// An invocation that came back.
#[derive(Debug)]
struct Finished {
    sent: Sent,
    /// `None`: it was throttled.
    result: Option<Result<Invocation>>,
}

/// What an invocation came to.
#[derive(Debug)]
struct Outcome {
    /// For the poller.
    outcome: poller::Outcome,
    /// For the journal.
    ending: Ending,
    /// Records of the batch that are done.
    done: usize,
    state: Option<State>,
    /// When the function got the event, in milliseconds since the Unix epoch.
    began: u64,
    duration: Duration,
}

impl Shard {
    /// The shard with this number in the buffer, counted from 0.
    pub(crate) fn new(number: usize, id: ShardId, shared: Arc<Shared>) -> Shard {
        Shard {
            number,
            poller: Poller::new(shared.settings.clone(), &id),
            id,
            last_request_ids: vec![String::new(); shared.settings.parallelization_factor],
            in_flight: JoinSet::new(),
            source_ended: false,
            stopping: false,
            shared,
        }
    }

    /// Reads the shard to its end, or, once `stop` changes, until nothing is in flight any more.
    ///
    /// # Errors
    /// When the function cannot be run at all, or what is told of the run cannot be written.
    pub(crate) async fn run(mut self, mut stop: watch::Receiver<bool>) -> Result<()> {
        loop {
            self.read();
            match self.poller.next(self.shared.clock.now()) {
                Action::Invoke { lane, batch, attempt, window } => {
                    let strike = self.shared.chaos.as_ref().and_then(Chaos::next);
                    let request_id = Uuid::new_v4().to_string();
                    self.send(Sent {
                        request_id,
                        lane,
                        batch,
                        attempt,
                        window,
                        strike,
                        repeats: None,
                    })?;
                }
                Action::Discard(discard) => self.discard(&discard).await?,
                Action::WindowLost { lane, window } => self.tell_lost_window(lane, window),
                Action::Checkpoint(reached) => self.reach(reached)?,
                Action::Finished => break,
                Action::Wait { until } => self.wait(until, &mut stop).await?,
            }
        }
        Ok(())
    }

    /// Feeds the poller as much as it takes; what it passes over leaves room for more.
    fn read(&mut self) {
        loop {
            let room = self.poller.room();
            if self.source_ended || room.is_none() {
                return;
            }
            let (records, more) = self.shared.buffer.take(self.number, room);
            let is_dry = records.is_empty();
            self.source_ended = more == More::Never;
            self.poller.handle(self.shared.clock.now(), Input::Read { records, more });
            self.publish_counts();
            if is_dry || more != More::AtHand {
                return;
            }
        }
    }

    async fn wait(&mut self, until: Option<u64>, stop: &mut watch::Receiver<bool>) -> Result<()> {
        let delay =
            until.map(|until| Duration::from_millis(until.saturating_sub(self.shared.clock.now())));
        let can_read = !self.source_ended && !self.poller.room().is_none();
        tokio::select! {
            Some(finished) = self.in_flight.join_next() => self.settle(finished)?,
            () = self.shared.buffer.changed(self.number), if can_read => {}
            () = sleep(delay.unwrap_or_default()), if delay.is_some() => {}
            Ok(()) = stop.changed() => {
                self.stopping = true;
                self.poller.handle(self.shared.clock.now(), Input::Stop);
            }
        }
        Ok(())
    }

    fn send(&mut self, sent: Sent) -> Result<()> {
        let Sent { request_id, lane, batch, attempt, window, strike, .. } = &sent;
        let now = self.shared.clock.now();
        self.shared.journal.invoke(now, &self.id, *lane, request_id, *attempt, batch)?;
        let event = self.shared.events.write(&self.id, batch, window.as_ref());
        let (strike, sandboxes) = (*strike, Arc::clone(&self.shared.sandboxes));
        self.in_flight.spawn(async move {
            let result = match strike {
                Some(Strike::Throttle) => None,
                other => Some(sandboxes.invoke(&sent.request_id, event, other).await),
            };
            Finished { sent, result }
        });
        self.publish_counts();
        Ok(())
    }

    fn settle(
        &mut self,
        finished: std::result::Result<Finished, tokio::task::JoinError>,
    ) -> Result<()> {
        let Finished { sent, result } = finished.map_err(|error| {
            Error::failed(format!("running an invocation of {}", self.id)).because(error)
        })?;
        let now = self.shared.clock.now();
        let outcome = self.outcome_of(&sent, result.transpose()?);
        self.record(&sent, &outcome);
        let Outcome { outcome, ending, done, state, duration, .. } = outcome;
        let last_done = done.checked_sub(1).map(|last| &sent.batch.records()[last].sequence_number);
        let duration = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        self.shared.journal.outcome(now, &sent.request_id, ending, last_done, duration)?;
        if outcome != poller::Outcome::Throttled {
            self.last_request_ids[sent.lane].clone_from(&sent.request_id);
        }
        let (outcome, state) = match sent.repeats {
            // What the function makes of a batch that is done changes nothing.
            Some(state) => (poller::Outcome::Succeeded, state),
            None if sent.strike == Some(Strike::Duplicate)
                && outcome == poller::Outcome::Succeeded
                && !self.stopping =>
            {
                let request_id = Uuid::new_v4().to_string();
                return self.send(Sent { request_id, strike: None, repeats: Some(state), ..sent });
            }
            None => (outcome, state),
        };
        self.poller.handle(now, Input::Answered { lane: sent.lane, outcome, state });
        self.publish_counts();
        Ok(())
    }

    /// What an invocation came to; a failure is told.
    fn outcome_of(&self, sent: &Sent, invocation: Option<Invocation>) -> Outcome {
        let Some(Invocation { invoked, began, duration }) = invocation else {
            let began = self.shared.clock.now();
            let (outcome, ending) = (poller::Outcome::Throttled, Ending::Throttled);
            return Outcome {
                outcome,
                ending,
                done: 0,
                state: None,
                began,
                duration: Duration::ZERO,
            };
        };
        let failed =
            |outcome, ending| Outcome { outcome, ending, done: 0, state: None, began, duration };
        let (answer, state) = match invoked {
            Invoked::Answered(body) => sent.read(&body),
            Invoked::Failed(Failure { reason, timed_out, output }) => {
                self.tell_failure(sent, &reason, &output);
                let ending = if timed_out { Ending::Timeout } else { Ending::Failed };
                return failed(poller::Outcome::FunctionError, ending);
            }
        };
        match answer {
            Answer::AllDone => {
                let (outcome, ending) = (poller::Outcome::Succeeded, Ending::Success);
                Outcome { outcome, ending, done: sent.batch.len(), state, began, duration }
            }
            Answer::FailedFrom(first_failed) => {
                let sequence_number = &sent.batch.records()[first_failed].sequence_number;
                let reason = format!(
                    "the function reported {sequence_number} as failed, record {}",
                    first_failed + 1
                );
                self.tell_failure(sent, &reason, &[]);
                let ending = if first_failed == 0 { Ending::Failed } else { Ending::Partial };
                let outcome = poller::Outcome::Reported { first_failed };
                Outcome { outcome, ending, done: first_failed, state, began, duration }
            }
            Answer::Refused(reason) => {
                self.tell_failure(sent, &reason, &[]);
                failed(poller::Outcome::Refused, Ending::Failed)
            }
        }
    }

    /// Tells the summary, the report and the live view of an invocation.
    fn record(&self, sent: &Sent, outcome: &Outcome) {
        let newest =
            sent.batch.records().last().map(|record| outcome.began.saturating_sub(record.arrival));
        self.publish(|progress| progress.iterator_age = newest.or(progress.iterator_age));
        let again = sent.repeats.is_some();
        let strike = match sent.strike {
            // What it strikes is the delivery that follows.
            Some(Strike::Duplicate) => None,
            None if again => Some(Strike::Duplicate),
            strike => strike,
        };
        if let (Some(chaos), Some(strike)) = (&self.shared.chaos, strike) {
            chaos.count(strike);
        }
        let Some(recorder) = &self.shared.recorder else {
            return;
        };
        recorder.invocation(&report::Invocation {
            shard: self.id.as_str(),
            lane: sent.lane,
            began: outcome.began,
            duration: outcome.duration,
            records: sent.batch.len(),
            done: if again { 0 } else { outcome.done },
            attempt: sent.attempt,
            retries: self.poller.counts().retries,
            ending: outcome.ending,
            strike,
        });
    }

    fn tell_failure(&self, sent: &Sent, reason: &str, output: &[String]) {
        let Sent { batch, attempt, .. } = sent;
        let what = match batch.len() {
            0 => "a window's final event".to_owned(),
            records => format!("a batch of {records}"),
        };
        let failure = format!("{}: attempt {attempt} of {what} failed: {reason}", self.id);
        self.shared.console.failure(&failure, output);
    }

    fn reach(&self, reached: SequenceNumber) -> Result<()> {
        self.shared.journal.checkpoint(self.shared.clock.now(), &self.id, &reached)?;
        if let Some(recorder) = &self.shared.recorder {
            recorder.checkpoint(self.id.as_str(), self.poller.behind_checkpoint());
        }
        self.publish(|progress| progress.checkpoint = Some(reached));
        Ok(())
    }

    /// Tells of records that are given up, everywhere it is to be told.
    async fn discard(&self, discard: &Discard) -> Result<()> {
        self.tell_discard(discard);
        let Shared { destination, journal, events, clock, .. } = &*self.shared;
        let request_id = match discard.was_sent {
            true => self.last_request_ids[discard.lane].clone(),
            false => Uuid::new_v4().to_string(),
        };
        let Shared { function_arn, stream_arn, .. } = &*self.shared;
        let body =
            DiscardBody::new(discard, &self.id, &request_id, function_arn, stream_arn, clock.now());
        journal.discard(&body)?;
        destination
            .send(&body, &events.write(&self.id, &discard.batch, discard.window.as_ref()))
            .await
    }

    fn tell_lost_window(&self, lane: usize, window: Window) {
        self.shared.console.note(&format!(
            "{}: lane {lane} gives up its window from {} to {} with the state: the final event failed until the window's \
             records were too old",
            self.id,
            Moment(window.start),
            Moment(window.end),
        ));
    }

    fn tell_discard(&self, discard: &Discard) {
        let why = match discard.condition {
            Condition::RetryAttemptsExhausted { .. } => "RetryAttemptsExhausted",
            Condition::RecordAgeExceeded => "RecordAgeExceeded",
        };
        let (Some(first), Some(last)) =
            (discard.batch.records().first(), discard.batch.records().last())
        else {
            return;
        };
        if let Some(recorder) = &self.shared.recorder {
            recorder.discard(self.id.as_str(), discard.batch.len(), why);
        }
        self.shared.console.note(&format!(
            "{}: discarded {}, {} to {}: {why} after {}",
            self.id,
            counted(discard.batch.len() as u64, "record", "records"),
            first.sequence_number,
            last.sequence_number,
            counted(discard.approximate_invoke_count.into(), "attempt", "attempts"),
        ));
    }

    fn publish_counts(&self) {
        self.publish(|progress| {
            progress.counts = self.poller.counts();
            progress.in_flight = self.in_flight.len();
        });
    }

    fn publish(&self, change: impl FnOnce(&mut Progress)) {
        change(
            &mut self.shared.progress.lock().unwrap_or_else(PoisonError::into_inner)[self.number],
        );
    }
}

impl Sent {
    /// What an answer to it means, with the state it holds.
    fn read(&self, body: &[u8]) -> (Answer, Option<State>) {
        match self.window {
            Some(_) => read_windowed(body, &self.batch, true),
            None => (Answer::read(body, &self.batch, true), None),
        }
    }
}
