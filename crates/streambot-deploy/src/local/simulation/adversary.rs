//! What a run is made of: settings, records, and what the function does with each invocation, all
//! drawn from a seed.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use bytes::Bytes;

use super::random::Random;
use super::{Function, Workload};
use crate::local::filter::{Constants, Filter, Patterns};
use crate::local::poller::{Outcome, Settings};
use crate::local::record::testing::record;
use crate::local::record::{Batch, Record};
use crate::local::window::{Frame, State};

/// When every run begins.
pub(super) const START: u64 = 1_000_000_000;
const DAY: u64 = 86_400_000;

/// A state over what Lambda carries; one for all, since it is large.
static TOO_LARGE: LazyLock<State> =
    LazyLock::new(|| State::new(&format!("\"{}\"", "x".repeat(1024 * 1024))));

/// A function that fails in every way a function can, by chance.
pub(super) struct Adversary {
    /// Records that never succeed, and whether they bring an error rather than a report.
    poison: HashMap<String, bool>,
    /// How often, of a hundred invocations, something goes wrong without a reason.
    trouble: u64,
    /// Whether no final event ever succeeds.
    finals_fail: bool,
    random: Random,
}

impl Adversary {
    /// The function of a seed, and what it is given to do.
    pub(super) fn new(seed: u64) -> (Workload, Adversary) {
        let mut random = Random::new(seed);
        let settings = settings(&mut random);
        let arrivals = arrivals(&mut random, settings.maximum_record_age);
        let share = if random.percent(50) { 0 } else { random.within(1..=40) };
        let mut poison = HashMap::new();
        for (_, record) in &arrivals {
            if random.percent(share) {
                poison.insert(record.sequence_number.to_string(), random.percent(50));
            }
        }
        let trouble = if random.percent(30) { 0 } else { random.within(1..=70) };
        let finals_fail = settings.maximum_record_age < DAY && random.percent(10);
        let stops_at = random.percent(10).then(|| START + random.within(0..=60_000));
        (
            Workload { settings, arrivals, stops_at },
            Adversary { poison, trouble, finals_fail, random },
        )
    }
}

impl Function for Adversary {
    fn invoke(
        &mut self,
        _now: u64,
        batch: &Batch,
        window: Option<&Frame>,
    ) -> (Outcome, Option<State>, u64) {
        let duration = self.random.within(1..=5_000);
        let outcome = self.outcome(batch, window);
        let has_state = matches!(outcome, Outcome::Succeeded | Outcome::Reported { .. });
        let state = match window {
            Some(_) if has_state && self.random.percent(3) => Some(TOO_LARGE.clone()),
            Some(_) if has_state => {
                Some(State::new(&self.random.within(0..=u64::MAX - 1).to_string()))
            }
            _ => None,
        };
        // An invocation that times out takes the longest.
        let duration = if outcome == Outcome::FunctionError && self.random.percent(30) {
            60_000
        } else {
            duration
        };
        (outcome, state, duration)
    }
}

impl Adversary {
    fn outcome(&mut self, batch: &Batch, window: Option<&Frame>) -> Outcome {
        let random = &mut self.random;
        let is_final = window.is_some_and(|window| window.is_final);
        if is_final && self.finals_fail {
            return Outcome::FunctionError;
        }
        let first_poison = |record: &Record| self.poison.get(record.sequence_number.as_str());
        let poisoned = batch
            .records()
            .iter()
            .enumerate()
            .find_map(|(at, record)| Some((at, *first_poison(record)?)));
        if !random.percent(self.trouble) {
            return match poisoned {
                None => Outcome::Succeeded,
                Some((_, true)) => Outcome::FunctionError,
                Some((first_failed, false)) => Outcome::Reported { first_failed },
            };
        }
        match random.within(0..=5) {
            0 | 1 if !batch.is_empty() => {
                let first_failed = random.count(0..=batch.len() - 1);
                Outcome::Reported {
                    first_failed: poisoned.map_or(first_failed, |(at, _)| at.min(first_failed)),
                }
            }
            // An answer that names an unknown record.
            2 => Outcome::Refused,
            3 => Outcome::Throttled,
            // An error, a crash or a timeout.
            _ => Outcome::FunctionError,
        }
    }
}

/// The settings of an event source mapping; small numbers, so that every limit is met.
pub(super) fn settings(random: &mut Random) -> Settings {
    let maximum_retry_attempts = random.percent(75).then(|| random.within(0..=4) as u32);
    // Endless retries of what never succeeds end with its age; a day of them would be long to play.
    let is_old_early = maximum_retry_attempts.is_none() || random.percent(40);
    Settings {
        batch_size: random.count(1..=8),
        maximum_event_bytes: random.count(10..=40),
        batching_window: if random.percent(50) { 0 } else { random.within(1..=20_000) },
        parallelization_factor: if random.percent(40) { 1 } else { random.count(2..=4) },
        maximum_retry_attempts,
        maximum_record_age: if is_old_early { random.within(60_000..=120_000) } else { DAY },
        retry_delay: if random.percent(20) { 0 } else { random.within(1..=2_000) },
        bisect: random.percent(40),
        tumbling_window: random.percent(40).then(|| random.within(1..=60) * 1_000),
        attempts_start_anew: random.percent(80),
        filter: random.percent(25).then(|| filter(random)),
    }
}

fn filter(random: &mut Random) -> Arc<Filter> {
    let below = random.within(0..=6);
    let data = format!(r#"{{"data":{{"key":[{{"numeric":["<",{below}]}}]}}}}"#);
    let patterns = [data.as_str(), r#"{"partitionKey":["6"]}"#];
    let count = random.count(1..=patterns.len());
    let patterns = Patterns::parse(patterns.into_iter().take(count))
        .expect("they are patterns")
        .expect("there is one");
    let text = || "none".to_owned();
    Arc::new(Filter::new(
        patterns,
        Constants { region: text(), stream_arn: text(), role_arn: text() },
    ))
}

fn arrivals(random: &mut Random, maximum_age: u64) -> Vec<(u64, Record)> {
    let mut arrivals = Vec::new();
    let (mut at, mut arrival) = (START, 0);
    let lag =
        if random.percent(30) { random.within(0..=maximum_age.min(DAY / 2) * 5 / 4) } else { 0 };
    for _ in 0..random.count(0..=8) {
        at += if random.percent(30) { 0 } else { random.within(0..=30_000) };
        for _ in 0..random.count(0..=12) {
            arrival = arrival.max(at - random.within(0..=lag));
            let key = random.within(0..=6);
            let number = arrivals.len() as u64 + 1;
            let data = if random.percent(10) {
                "no JSON".to_owned()
            } else {
                format!(r#"{{"key":{key}}}"#)
            };
            let size = random.count(1..=12);
            let record = Record {
                data: Bytes::from(data),
                encoded_len: size,
                ..record(number, &key.to_string(), arrival)
            };
            arrivals.push((at, record));
        }
    }
    arrivals
}
