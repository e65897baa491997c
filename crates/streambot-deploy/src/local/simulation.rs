//! Plays whole runs of a shard against its poller under a virtual clock: random records, random
//! settings and a random adversary in the function's place, all drawn from one number. It refuses
//! to know how the poller decides; what has to hold is told only by what goes in and comes out
//! (`observer.rs`).

mod adversary;
mod consumer;
mod observer;
mod random;
mod users;
mod witness;

use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};

use self::adversary::Adversary;
use self::observer::Observer;
use super::poller::{Action, Input, More, Outcome, Poller, Settings};
use super::record::{Batch, Record, ShardId};
use super::window::{Frame, State};

/// Steps that no run of this size needs; one that takes more does not come to an end.
const MOST_STEPS: usize = 200_000;

/// Invocations in flight, by when they end.
type Answers = BTreeMap<(u64, usize), (Outcome, Option<State>)>;

/// What takes the function's place in a run.
trait Function {
    /// How an invocation that begins at `now` ends, the state it responds with, and how many
    /// milliseconds it takes.
    fn invoke(
        &mut self,
        now: u64,
        batch: &Batch,
        window: Option<&Frame>,
    ) -> (Outcome, Option<State>, u64);

    /// These records will not come again.
    fn discarded(&mut self, _batch: &Batch) {}
}

/// What goes into a run beside the function.
struct Workload {
    settings: Settings,
    /// The records, each with the time from which it can be read.
    arrivals: Vec<(u64, Record)>,
    /// When it is interrupted, if it is.
    stops_at: Option<u64>,
}

/// Plays the run of a seed to its end.
fn play(seed: u64) {
    let (workload, mut adversary) = Adversary::new(seed);
    drive(workload, &mut adversary);
}

/// Drives the poller through a workload with this function to the end.
fn drive(workload: Workload, function: &mut impl Function) {
    let Workload { settings, arrivals, mut stops_at } = workload;
    let mut poller = Poller::new(settings.clone(), &ShardId::numbered(0));
    let mut observer = Observer::new(settings, &arrivals);
    let mut supply = Supply::new(arrivals.into());
    let mut answers = Answers::new();
    let mut now = adversary::START;
    for _ in 0..MOST_STEPS {
        supply.feed(now, &mut poller, &mut observer);
        match poller.next(now) {
            Action::Invoke { lane, batch, attempt, window } => {
                observer.invoked(lane, &batch, attempt, window.as_ref());
                let (outcome, state, duration) = function.invoke(now, &batch, window.as_ref());
                answers.insert((now + duration, lane), (outcome, state));
            }
            Action::Discard(discard) => {
                observer.discarded(now, &discard);
                function.discarded(&discard.batch);
            }
            Action::WindowLost { lane, window } => observer.lost(now, lane, window),
            Action::Checkpoint(reached) => observer.checkpoint(&reached),
            Action::Wait { until } => {
                assert!(
                    until.is_none_or(|until| until > now),
                    "told to wait for a time that is past"
                );
                let answer_at = answers.keys().next().map(|(at, _)| *at);
                let read_at = if poller.room().is_none() { None } else { supply.next_at(now) };
                let next = [until, answer_at, read_at, stops_at].into_iter().flatten().min();
                now = next
                    .expect("nothing is in flight or to come, and the poller waits: it hangs")
                    .max(now);
                if stops_at.is_some_and(|at| at <= now) {
                    stops_at = None;
                    observer.stopped();
                    poller.handle(now, Input::Stop);
                } else if answer_at.is_some_and(|at| at <= now) {
                    let ((_, lane), (outcome, state)) = answers.pop_first().expect("one is there");
                    observer.answered(lane, outcome, state.as_ref());
                    poller.handle(now, Input::Answered { lane, outcome, state });
                }
            }
            Action::Finished => {
                assert!(answers.is_empty(), "finished with an invocation in flight");
                observer.finished(poller.counts(), poller.behind_checkpoint());
                return;
            }
        }
    }
    panic!("no end after {MOST_STEPS} steps");
}

/// The records on their way to the poller, as the buffer would hand them on.
struct Supply {
    coming: VecDeque<(u64, Record)>,
    told: Option<More>,
}

impl Supply {
    fn new(coming: VecDeque<(u64, Record)>) -> Supply {
        Supply { coming, told: None }
    }

    /// When there is something to read that is not there at `now`.
    fn next_at(&self, now: u64) -> Option<u64> {
        self.coming.front().map(|(at, _)| *at).filter(|at| *at > now)
    }

    /// Reads for as long as there is room and something is there.
    fn feed(&mut self, now: u64, poller: &mut Poller, observer: &mut Observer) {
        while self.read(now, poller, observer) == Some(More::AtHand) {}
    }

    fn read(&mut self, now: u64, poller: &mut Poller, observer: &mut Observer) -> Option<More> {
        let room = poller.room();
        if room.is_none() {
            return None;
        }
        let mut records = Vec::new();
        let mut bytes = 0;
        while records.len() < room.records
            && bytes < room.bytes
            && self.coming.front().is_some_and(|(at, _)| *at <= now)
        {
            let (_, record) = self.coming.pop_front().expect("one is there");
            bytes += record.encoded_len;
            records.push(record);
        }
        let more = match self.coming.front() {
            None => More::Never,
            Some((at, _)) if *at <= now => More::AtHand,
            Some(_) => More::NotYet,
        };
        if !records.is_empty() || self.told != Some(more) {
            self.told = Some(more);
            observer.read(&records);
            poller.handle(now, Input::Read { records, more });
        }
        Some(more)
    }
}

/// `STREAMBOT_SEED` plays the run of one seed alone.
#[test]
fn whatever_happens_every_record_is_delivered_in_order_until_it_is_settled() {
    const RUNS: u64 = 10_000;
    let seeds = match std::env::var("STREAMBOT_SEED") {
        Ok(seed) => {
            let seed = seed.parse().expect("STREAMBOT_SEED is a number");
            seed..seed + 1
        }
        Err(_) => 0..RUNS,
    };
    for seed in seeds {
        if catch_unwind(AssertUnwindSafe(|| play(seed))).is_err() {
            panic!(
                "play it again with: STREAMBOT_SEED={seed} cargo test -p streambot-deploy simulation"
            );
        }
    }
}
