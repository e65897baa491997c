//! The runtime's own handlers in the function's place: `each`, `batch` and `window` work on real
//! events under a virtual clock, and what they respond goes back to the poller. What has to hold is
//! checked by [`Witness`] alone.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures_util::FutureExt;
use streambot_runtime::testing::{self, Event};
use streambot_runtime::{
    Error, FromRecord, Handler, Undecodable, Window as HandlerWindow, batch, each, window,
};
use tokio::runtime::Runtime;
use tokio::time::{Instant, sleep, timeout};

use super::adversary::{START, settings};
use super::random::Random;
use super::users::{Behaviour, Fault, Users};
use super::witness::{Shape, Witness};
use super::{Function, Workload, drive};
use crate::local::answer::{Answer, read_windowed};
use crate::local::event::{EventWriter, MAXIMUM_RECORDS_BYTES};
use crate::local::poller::Outcome;
use crate::local::record::{Batch, ShardId};
use crate::local::window::{Frame, State};

thread_local! {
    /// The records that were turned into what the handler takes, or could not be.
    static REACHED: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
}

/// A user record by its number, which is its data.
struct Numbered(u64);

impl FromRecord for Numbered {
    type Rejection = std::fmt::Error;

    fn from_record(record: streambot_runtime::Record) -> Result<Self, Self::Rejection> {
        let (number, is_text) = number_of(record.data());
        REACHED.with_borrow_mut(|reached| reached.push(number));
        if is_text { Ok(Numbered(number)) } else { Err(std::fmt::Error) }
    }
}

/// The number of a user record, and whether it can be decoded.
fn number_of(data: &[u8]) -> (u64, bool) {
    let (digits, is_text) =
        data.strip_prefix(b"\xff").map_or((data, true), |digits| (digits, false));
    let number = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok());
    (number.expect("data is a number"), is_text)
}

type Shared = Rc<RefCell<Witness>>;

/// Does what a record's behaviour says, in the sight of the witness.
async fn act(witness: &Shared, number: u64) -> Result<(), Error> {
    let behaviour = witness.borrow_mut().started(number);
    let fault = match behaviour {
        Behaviour::Quick | Behaviour::Undecodable => None,
        Behaviour::Wait(time) => {
            sleep(Duration::from_millis(time)).await;
            None
        }
        Behaviour::Block(time) => {
            block(time);
            None
        }
        Behaviour::WaitAndBlock(waits, blocks) => {
            sleep(Duration::from_millis(waits)).await;
            block(blocks);
            None
        }
        Behaviour::Faulty(fault, attempts) => {
            let attempt = witness.borrow_mut().attempt(number);
            (attempts & 1_u32.checked_shl(attempt).unwrap_or(1 << 31) != 0).then_some(fault)
        }
    };
    if matches!(fault, Some(Fault::Hang)) {
        std::future::pending::<()>().await;
    }
    witness.borrow_mut().ended(number, fault.is_none());
    match fault {
        None => Ok(()),
        Some(Fault::Panic) => std::panic::resume_unwind(Box::new("as drawn")),
        Some(_) => Err("as drawn".into()),
    }
}

/// Moves the clock as a handler does that computes.
fn block(milliseconds: u64) {
    tokio::time::advance(Duration::from_millis(milliseconds)).now_or_never();
}

/// A function that the runtime runs.
pub(super) struct Consumer {
    witness: Shared,
    clock: Runtime,
    events: EventWriter,
    conditions: Event,
    timeout_ms: u64,
    /// How often, of a hundred, an invocation's response is lost.
    losses: u64,
    random: Random,
}

impl Consumer {
    fn new(seed: u64) -> (Workload, Consumer) {
        let mut random = Random::new(seed);
        let shape = Shape::draw(&mut random);
        let mut settings = settings(&mut random);
        settings.filter = None;
        // Failures can take a millisecond here, and some go on for as long as a record may be old.
        settings.retry_delay = settings.retry_delay.max(500);
        settings.maximum_event_bytes = MAXIMUM_RECORDS_BYTES;
        settings.tumbling_window =
            matches!(shape, Shape::Window).then(|| random.within(1..=60) * 1_000);
        let timeout_ms = random.within(1..=6) * 1_000;
        let reports = random.percent(90);
        let is_troubled = random.percent(70);
        let (mut arrivals, mut users) = (Vec::new(), Users::default());
        let mut at = START;
        for index in 0..random.count(0..=24) as u64 {
            at += if random.percent(70) { 0 } else { random.within(0..=20_000) };
            arrivals.push((
                at,
                users.put(&mut random, index + 1, at, is_troubled.then_some(timeout_ms)),
            ));
        }
        let longest_block_ms = users.behaviours.iter().map(|behaviour| behaviour.blocks_ms()).max();
        let witness =
            Witness::new(shape, reports, timeout_ms, longest_block_ms.unwrap_or_default(), users);
        let clock =
            tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        let conditions = Event::new().timeout(Duration::from_millis(timeout_ms));
        let consumer = Consumer {
            witness: Rc::new(RefCell::new(witness)),
            clock: clock.expect("a runtime without I/O"),
            events: EventWriter::new(
                "us-east-1",
                "arn:aws:kinesis:us-east-1:123456789012:stream/s",
                "role",
            ),
            conditions: if reports { conditions } else { conditions.without_batch_item_failures() },
            timeout_ms,
            losses: if random.percent(50) { 0 } else { random.within(1..=30) },
            random,
        };
        (Workload { settings, arrivals, stops_at: None }, consumer)
    }

    /// Runs the handler of this shape on an event; `None` if Lambda ended it first.
    fn respond(&self, shape: Shape, now: u64, event: Bytes) -> (Option<testing::Answer>, u64) {
        let time_of_day: SystemTime = UNIX_EPOCH + Duration::from_millis(now);
        let conditions = self.conditions.clone().arrives_at(time_of_day);
        let witness = || Rc::clone(&self.witness);
        match shape {
            Shape::Each { concurrency, skips } => {
                let witness = witness();
                let handler =
                    each(async move |Numbered(number): Numbered| act(&witness, number).await);
                let policy = if skips { Undecodable::Skip } else { Undecodable::Fail };
                self.run(
                    &handler.concurrency(concurrency).on_undecodable(policy),
                    event,
                    &conditions,
                )
            }
            Shape::Batch { goes_on } => {
                let witness = witness();
                let handler = batch(async move |records: streambot_runtime::Batch| {
                    work_through(&witness, &records, goes_on, |_| ()).await
                });
                self.run(&handler, event, &conditions)
            }
            Shape::Window => {
                let witness = witness();
                let handler =
                    window(async move |mut window: HandlerWindow<Vec<u64>>| -> Result<_, Error> {
                        let count = |number| window.state.push(number);
                        let failures = work_through(&witness, &window.batch, false, count).await?;
                        Ok((window.state, failures))
                    });
                self.run(&handler, event, &conditions)
            }
        }
    }

    fn run<H: Handler>(
        &self,
        handler: &H,
        event: Bytes,
        conditions: &Event,
    ) -> (Option<testing::Answer>, u64) {
        self.clock.block_on(async {
            let started = Instant::now();
            // Lambda ends what does not respond; `each` is to be in time without that.
            let limit = Duration::from_millis(self.timeout_ms * 4);
            let answer =
                timeout(limit, testing::invoke_json(handler, event, conditions)).await.ok();
            (answer, started.elapsed().as_millis() as u64)
        })
    }
}

/// A whole batch, record by record: the failures, and a call for each one done.
async fn work_through(
    witness: &Shared,
    records: &streambot_runtime::Batch,
    goes_on: bool,
    mut done: impl FnMut(u64),
) -> Result<streambot_runtime::Failures, Error> {
    let mut failures = streambot_runtime::Failures::new();
    for record in records {
        let (number, is_text) = number_of(record.data());
        if is_text && act(witness, number).await.is_ok() {
            done(number);
            continue;
        }
        witness.borrow_mut().ended(number, false);
        failures.push(record);
        if !goes_on {
            break;
        }
    }
    Ok(failures)
}

impl Function for Consumer {
    fn invoke(
        &mut self,
        now: u64,
        batch: &Batch,
        window: Option<&Frame>,
    ) -> (Outcome, Option<State>, u64) {
        if self.random.percent(self.losses / 2) {
            return (Outcome::Throttled, None, 1);
        }
        REACHED.take();
        self.witness.borrow_mut().begins(batch, window);
        let event = self.events.write(&ShardId::numbered(0), batch, window);
        let shape = self.witness.borrow().shape();
        let (answer, took_ms) = self.respond(shape, now, event);
        self.witness.borrow_mut().responded(&REACHED.take(), answer.as_ref(), took_ms);
        let lost = self.random.percent(self.losses);
        let Some(answer) = answer.filter(|_| took_ms < self.timeout_ms && !lost) else {
            return (Outcome::FunctionError, None, took_ms.min(self.timeout_ms).max(1));
        };
        let Ok(body) = answer.json() else { return (Outcome::FunctionError, None, took_ms.max(1)) };
        let body = serde_json::to_vec(body).expect("a response is JSON");
        let (answer, state) = match window {
            Some(_) => read_windowed(&body, batch, true),
            None => (Answer::read(&body, batch, true), None),
        };
        let outcome = match answer {
            Answer::AllDone => Outcome::Succeeded,
            Answer::FailedFrom(first_failed) => Outcome::Reported { first_failed },
            Answer::Refused(reason) => panic!("Lambda refuses the response: {reason}"),
        };
        (outcome, state, took_ms.max(1))
    }

    fn discarded(&mut self, batch: &Batch) {
        self.witness.borrow_mut().discarded(batch);
    }
}

/// Plays the run of a seed: the handlers against the poller.
fn play(seed: u64) {
    let (workload, mut consumer) = Consumer::new(seed);
    drive(workload, &mut consumer);
    consumer.witness.borrow().finished();
}

/// `STREAMBOT_SEED` plays the run of one seed alone; without it the seeds are new ones in each run.
#[test]
fn handlers_of_the_runtime_and_the_poller_settle_every_record_and_say_so() {
    const RUNS: u64 = 10_000;
    const THREADS: u64 = 2;
    if let Ok(seed) = std::env::var("STREAMBOT_SEED") {
        return play(seed.parse().expect("STREAMBOT_SEED is a number"));
    }
    let first = u64::from(uuid::Uuid::new_v4().as_fields().0) << 16;
    println!("{RUNS} runs from seed {first} on");
    let failed: Arc<std::sync::Mutex<Option<u64>>> = Arc::default();
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let failed = Arc::clone(&failed);
            scope.spawn(move || {
                for seed in (first + thread..first + RUNS).step_by(THREADS as usize) {
                    let is_over = || failed.lock().expect("no panic while it is held").is_some();
                    if is_over() {
                        return;
                    }
                    if std::panic::catch_unwind(|| play(seed)).is_err() {
                        failed.lock().expect("no panic while it is held").get_or_insert(seed);
                    }
                }
            });
        }
    });
    if let Some(seed) = *failed.lock().expect("no panic while it is held") {
        panic!(
            "play it again with: STREAMBOT_SEED={seed} cargo test -p streambot-deploy handlers_of_the_runtime"
        );
    }
}
