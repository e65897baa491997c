//! Drives one shard: feeds its poller from the buffer, carries out what the poller decides, and tells it how that ended.
//! It decides nothing itself.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::answer::Answer;
use super::buffer::Buffer;
use super::clock::Clock;
use super::console::Console;
use super::event::EventWriter;
use super::poller::{Action, Condition, Counts, Discard, Input, More, Outcome, Poller, Settings};
use super::record::{Batch, SequenceNumber, ShardId};
use super::sandbox::{Failure, Invoked, Launch, Sandbox};
use super::summary::counted;
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
    pub(crate) launch: Arc<Launch>,
    /// The run's clock.
    pub(crate) clock: Clock,
    /// Where failures are told.
    pub(crate) console: Arc<Console>,
    /// How far each shard is.
    pub(crate) progress: Vec<Mutex<Progress>>,
}

impl Shared {
    /// How far each shard is, in their order.
    pub(crate) fn progress(&self) -> Vec<Progress> {
        self.progress.iter().map(|progress| progress.lock().unwrap_or_else(PoisonError::into_inner).clone()).collect()
    }
}

/// How far a shard is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Progress {
    /// What its reader has done.
    pub(crate) counts: Counts,
    /// The last record that is done or given up, together with all before it.
    pub(crate) checkpoint: Option<SequenceNumber>,
}

/// One shard while it is read.
#[derive(Debug)]
pub(crate) struct Shard {
    number: usize,
    id: ShardId,
    shared: Arc<Shared>,
    poller: Poller,
    /// One for each lane; taken while an invocation is in flight there.
    sandboxes: Vec<Option<Sandbox>>,
    in_flight: JoinSet<Finished>,
    source_ended: bool,
}

/// An invocation that came back.
#[derive(Debug)]
struct Finished {
    lane: usize,
    batch: Batch,
    attempt: u32,
    sandbox: Sandbox,
    result: Result<Invoked>,
}

impl Shard {
    /// The shard with this number, counted from 0.
    pub(crate) fn new(number: usize, shared: Arc<Shared>) -> Shard {
        let lanes = shared.settings.parallelization_factor;
        Shard {
            number,
            id: ShardId::numbered(number),
            poller: Poller::new(shared.settings.clone()),
            sandboxes: (0..lanes).map(|_| Some(Sandbox::new(Arc::clone(&shared.launch)))).collect(),
            in_flight: JoinSet::new(),
            source_ended: false,
            shared,
        }
    }

    /// Reads the shard to its end, or, once `stop` changes, until nothing is in flight any more.
    ///
    /// # Errors
    /// When the function cannot be run at all.
    pub(crate) async fn run(mut self, mut stop: watch::Receiver<bool>) -> Result<()> {
        loop {
            self.read();
            match self.poller.next(self.shared.clock.now()) {
                Action::Invoke { lane, batch, attempt } => self.invoke(lane, batch, attempt)?,
                Action::Discard(discard) => self.tell_discard(&discard),
                Action::Checkpoint(reached) => self.publish(|progress| progress.checkpoint = Some(reached)),
                Action::Finished => break,
                Action::Wait { until } => self.wait(until, &mut stop).await?,
            }
        }
        for sandbox in self.sandboxes.into_iter().flatten() {
            sandbox.stop().await;
        }
        Ok(())
    }

    /// Feeds the poller as much as it takes.
    fn read(&mut self) {
        let room = self.poller.room();
        if self.source_ended || room.is_none() {
            return;
        }
        let (records, more) = self.shared.buffer.take(self.number, room);
        self.source_ended = more == More::Never;
        self.poller.handle(self.shared.clock.now(), Input::Read { records, more });
        self.publish_counts();
    }

    async fn wait(&mut self, until: Option<u64>, stop: &mut watch::Receiver<bool>) -> Result<()> {
        let delay = until.map(|until| Duration::from_millis(until.saturating_sub(self.shared.clock.now())));
        let can_read = !self.source_ended && !self.poller.room().is_none();
        tokio::select! {
            Some(finished) = self.in_flight.join_next() => self.settle(finished)?,
            () = self.shared.buffer.changed(self.number), if can_read => {}
            () = sleep(delay.unwrap_or_default()), if delay.is_some() => {}
            Ok(()) = stop.changed() => self.poller.handle(self.shared.clock.now(), Input::Stop),
        }
        Ok(())
    }

    fn invoke(&mut self, lane: usize, batch: Batch, attempt: u32) -> Result<()> {
        let Some(mut sandbox) = self.sandboxes[lane].take() else {
            return Err(Error::failed(format!("lane {lane} of {} was asked for two invocations at once", self.id)));
        };
        let event = self.shared.events.write(&self.id, &batch);
        self.in_flight.spawn(async move {
            let result = sandbox.invoke(event).await;
            Finished { lane, batch, attempt, sandbox, result }
        });
        self.publish_counts();
        Ok(())
    }

    fn settle(&mut self, finished: std::result::Result<Finished, tokio::task::JoinError>) -> Result<()> {
        let finished =
            finished.map_err(|error| Error::failed(format!("running an invocation of {}", self.id)).because(error))?;
        let Finished { lane, batch, attempt, sandbox, result } = finished;
        self.sandboxes[lane] = Some(sandbox);
        let outcome = match result? {
            Invoked::Answered(body) => self.outcome_of(&Answer::read(&body, &batch, true), &batch, attempt),
            Invoked::Failed(Failure { reason, output }) => {
                self.tell_failure(&batch, attempt, &reason, &output);
                Outcome::FunctionError
            }
        };
        self.poller.handle(self.shared.clock.now(), Input::Answered { lane, outcome });
        self.publish_counts();
        Ok(())
    }

    fn outcome_of(&self, answer: &Answer, batch: &Batch, attempt: u32) -> Outcome {
        match answer {
            Answer::AllDone => Outcome::Succeeded,
            Answer::FailedFrom(first_failed) => {
                let first_failed = *first_failed;
                let sequence_number = &batch.records()[first_failed].sequence_number;
                let reason = format!("the function reported {sequence_number} as failed, record {}", first_failed + 1);
                self.tell_failure(batch, attempt, &reason, &[]);
                Outcome::Reported { first_failed }
            }
            Answer::Refused(reason) => {
                self.tell_failure(batch, attempt, reason, &[]);
                Outcome::Reported { first_failed: 0 }
            }
        }
    }

    fn tell_failure(&self, batch: &Batch, attempt: u32, reason: &str, output: &[String]) {
        let failure = format!("{}: attempt {attempt} of a batch of {} failed: {reason}", self.id, batch.len());
        self.shared.console.failure(&failure, output);
    }

    fn tell_discard(&self, discard: &Discard) {
        let why = match discard.condition {
            Condition::RetryAttemptsExhausted { .. } => "RetryAttemptsExhausted",
            Condition::RecordAgeExceeded => "RecordAgeExceeded",
        };
        let (Some(first), Some(last)) = (discard.batch.records().first(), discard.batch.records().last()) else {
            return;
        };
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
        self.publish(|progress| progress.counts = self.poller.counts());
    }

    fn publish(&self, change: impl FnOnce(&mut Progress)) {
        change(&mut self.shared.progress[self.number].lock().unwrap_or_else(PoisonError::into_inner));
    }
}
