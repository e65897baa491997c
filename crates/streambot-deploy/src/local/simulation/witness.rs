//! What has to hold of the runtime's handlers, whatever they are given: seen from inside the
//! handlers and from the responses, the status and the numbers of each invocation. It shares no
//! code with the runtime and the poller.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use streambot_runtime::testing;

use super::random::Random;
use super::users::{Behaviour, Users};
use crate::local::record::Batch;
use crate::local::window::Frame;

/// The shape of a run's handler.
#[derive(Debug, Clone, Copy)]
pub(super) enum Shape {
    Each { concurrency: usize, skips: bool },
    Batch { goes_on: bool },
    Window,
}

impl Shape {
    pub(super) fn draw(random: &mut Random) -> Shape {
        match random.within(0..=9) {
            0..=2 => Shape::Each { concurrency: 1, skips: random.percent(30) },
            3..=5 => Shape::Each { concurrency: 8, skips: random.percent(30) },
            6 | 7 => Shape::Batch { goes_on: random.percent(50) },
            _ => Shape::Window,
        }
    }
}

/// What was seen of a run so far.
pub(super) struct Witness {
    shape: Shape,
    reports: bool,
    timeout_ms: u64,
    longest_block_ms: u64,
    users: Users,
    attempts: Vec<u32>,
    done: HashSet<u64>,
    discarded: HashSet<u64>,
    now: Invocation,
    wrong: Vec<String>,
}

/// The invocation that is under way.
#[derive(Default)]
struct Invocation {
    /// The user records of each Kinesis record of the batch, and its sequence number.
    batch: Vec<(String, Vec<u64>)>,
    /// The numbers that the window's state counts.
    counted: Option<Vec<u64>>,
    started: BTreeSet<u64>,
    /// Whether it succeeded, by the last time it was run.
    ended: BTreeMap<u64, bool>,
}

impl Witness {
    pub(super) fn new(
        shape: Shape,
        reports: bool,
        timeout_ms: u64,
        longest_block_ms: u64,
        users: Users,
    ) -> Witness {
        Witness {
            shape,
            reports,
            timeout_ms,
            longest_block_ms,
            attempts: vec![0; users.behaviours.len()],
            users,
            done: HashSet::new(),
            discarded: HashSet::new(),
            now: Invocation::default(),
            wrong: Vec::new(),
        }
    }

    pub(super) fn shape(&self) -> Shape {
        self.shape
    }

    fn packed(&self, batch: &Batch) -> Vec<(String, Vec<u64>)> {
        let of = |number: &str| {
            let index: usize = number.parse().expect("sequence numbers are numbers");
            (number.to_owned(), self.users.packed[index - 1].clone())
        };
        batch.records().iter().map(|record| of(record.sequence_number.as_str())).collect()
    }

    /// An invocation begins.
    pub(super) fn begins(&mut self, batch: &Batch, window: Option<&Frame>) {
        let counted = window.map(|window| counted_by(window.state.as_str()));
        self.now = Invocation { batch: self.packed(batch), counted, ..Invocation::default() };
    }

    /// The handler was given a record: its turn must have come. What is wrong is kept until the
    /// invocation is over, for a panic in here would be one of the handler.
    pub(super) fn started(&mut self, number: u64) -> Behaviour {
        let key = &self.users.keys[number as usize];
        if let (Shape::Each { skips, .. }, Some(key)) = (self.shape, key) {
            for earlier in 0..number {
                if self.users.keys[earlier as usize].as_ref() != Some(key) {
                    continue;
                }
                let is_skipped = skips && self.is_undecodable(earlier);
                if !is_skipped
                    && !self.done.contains(&earlier)
                    && !self.discarded.contains(&earlier)
                {
                    self.wrong.push(format!("{number} runs before {earlier} of its key is done"));
                }
                if self.now.started.contains(&earlier) && !self.now.ended.contains_key(&earlier) {
                    self.wrong.push(format!("{number} runs beside {earlier} of its key"));
                }
            }
        }
        let is_new = self.now.started.insert(number);
        if !is_new && matches!(self.shape, Shape::Each { .. }) {
            self.wrong.push(format!("{number} runs twice in one invocation"));
        }
        self.users.behaviours[number as usize]
    }

    /// Which attempt at the record this is, counted from 0.
    pub(super) fn attempt(&mut self, number: u64) -> u32 {
        let attempts = &mut self.attempts[number as usize];
        *attempts += 1;
        *attempts - 1
    }

    /// The handler is done with a record, or failed.
    pub(super) fn ended(&mut self, number: u64, succeeded: bool) {
        self.now.ended.insert(number, succeeded);
        if succeeded {
            self.done.insert(number);
        }
    }

    /// These records will not come again.
    pub(super) fn discarded(&mut self, batch: &Batch) {
        let numbers: Vec<u64> =
            self.packed(batch).into_iter().flat_map(|(_, numbers)| numbers).collect();
        self.discarded.extend(numbers);
    }

    /// The invocation is over after `took_ms`; without an answer, Lambda ended it.
    pub(super) fn responded(
        &mut self,
        reached: &[u64],
        answer: Option<&testing::Answer>,
        took_ms: u64,
    ) {
        assert!(self.wrong.is_empty(), "{:?}", self.wrong);
        self.note_undecodable(reached);
        if let Shape::Each { .. } = self.shape {
            let latest = self.timeout_ms + self.longest_block_ms;
            assert!(
                answer.is_some() && took_ms <= latest,
                "a response after {took_ms} ms, and not {latest}"
            );
        }
        let Some(answer) = answer else { return };
        match self.shape {
            Shape::Each { .. } => self.check_each(reached, answer, took_ms),
            Shape::Batch { .. } | Shape::Window => self.check_whole(answer),
        }
        let has_failed = answer.json().is_err() || answer.metric("FailedRecords") != Some(0.0);
        assert_eq!(answer.logs().contains("batch failed"), has_failed, "{}", answer.logs());
        assert_eq!(answer.metric("Records"), Some(self.now.batch.len() as f64));
    }

    /// Records that could not be decoded never reach the handler; they are skipped, or they fail.
    fn note_undecodable(&mut self, reached: &[u64]) {
        let skips = matches!(self.shape, Shape::Each { skips: true, .. });
        for number in reached {
            if self.is_undecodable(*number) {
                self.now.started.insert(*number);
                self.ended(*number, skips);
            }
        }
    }

    fn is_undecodable(&self, number: u64) -> bool {
        matches!(self.users.behaviours[number as usize], Behaviour::Undecodable)
    }

    fn is_done(&self, number: u64) -> bool {
        self.now.ended.get(&number) == Some(&true)
    }

    fn has_failed(&self, number: u64) -> bool {
        self.now.ended.get(&number) == Some(&false)
    }

    /// The first Kinesis record of the batch with a user record that is not done, and that user
    /// record.
    fn first_not_done(&self) -> Option<(usize, u64)> {
        let batch = self.now.batch.iter().enumerate();
        let mut users = batch
            .flat_map(|(index, (_, numbers))| numbers.iter().map(move |number| (index, *number)));
        users.find(|(_, number)| !self.is_done(*number))
    }

    /// How many Kinesis records of the batch have a user record of this kind.
    fn kinesis_records(&self, is_one: impl Fn(u64) -> bool) -> f64 {
        self.now
            .batch
            .iter()
            .filter(|(_, numbers)| numbers.iter().any(|number| is_one(*number)))
            .count() as f64
    }

    fn check_each(&self, reached: &[u64], answer: &testing::Answer, took_ms: u64) {
        let failed = self.kinesis_records(|number| self.has_failed(number));
        let running =
            |number| self.now.started.contains(&number) && !self.now.ended.contains_key(&number);
        assert_eq!(answer.metric("UserRecords"), Some(reached.len() as f64));
        assert_eq!(answer.metric("UnfinishedRecords"), Some(self.kinesis_records(running)));
        let Some((checkpoint, number)) = self.first_not_done() else {
            assert!(answer.succeeded() && answer.status() == "Success", "all is done: {answer:?}");
            return;
        };
        if failed == 0.0 {
            let margin_ms = 500.max(self.timeout_ms / 20).min(self.timeout_ms / 2);
            assert!(
                took_ms >= self.timeout_ms - margin_ms,
                "cut short after {took_ms} ms of {}",
                self.timeout_ms
            );
        }
        let no_progress = checkpoint == 0 && !self.has_failed(number);
        if no_progress || !self.reports {
            let error = answer.json().expect_err("no response would be true").to_string();
            assert_eq!(error.contains("no progress"), no_progress, "{error}");
            assert_eq!(answer.status(), "Error");
            assert_eq!(answer.metric("FailedRecords"), Some(self.now.batch.len() as f64));
            return;
        }
        assert_eq!(
            answer.retried_from().as_ref(),
            Some(&self.now.batch[checkpoint].0),
            "{}",
            answer.logs()
        );
        assert_eq!(
            answer.status(),
            if failed == 0.0 { "Success" } else { "Error" },
            "{}",
            answer.logs()
        );
        assert_eq!(answer.metric("FailedRecords"), Some(failed));
    }

    fn check_whole(&self, answer: &testing::Answer) {
        assert_eq!(answer.metric("UnfinishedRecords"), Some(0.0));
        let Ok(_) = answer.json() else {
            // An error or a panic of the handler, or a failure that cannot be reported.
            assert!(self.first_not_done().is_some(), "all was done: {answer:?}");
            assert_eq!(answer.status(), "Error");
            return;
        };
        let retried_from = answer.retried_from();
        let named = |number: &String| self.now.batch.iter().position(|(other, _)| other == number);
        let checkpoint =
            retried_from.as_ref().map(|number| named(number).expect("a record of the batch"));
        let done_to = checkpoint.unwrap_or(self.now.batch.len());
        let before: Vec<u64> =
            self.now.batch[..done_to].iter().flat_map(|(_, numbers)| numbers.clone()).collect();
        assert!(before.iter().all(|number| self.is_done(*number)), "reported as done: {before:?}");
        assert!(
            checkpoint.is_none() || self.reports,
            "a partial batch response that is not honoured"
        );
        assert_eq!(answer.status(), if checkpoint.is_none() { "Success" } else { "Error" });
        if let Some(counted) = &self.now.counted {
            let state = answer.state().expect("a window has a state");
            let state = counted_by(&state.to_string());
            assert_eq!(
                state,
                [counted.as_slice(), &before].concat(),
                "the state counts what is done, once"
            );
            let once: HashSet<&u64> = state.iter().collect();
            assert_eq!(once.len(), state.len(), "a record is counted twice");
        } else {
            let first_failed = self.first_not_done().map(|(index, _)| index);
            assert_eq!(checkpoint, first_failed);
        }
    }

    /// The run is over: nothing may be left.
    pub(super) fn finished(&self) {
        for number in 0..self.users.behaviours.len() as u64 {
            let is_settled = self.done.contains(&number) || self.discarded.contains(&number);
            assert!(is_settled, "{number} was neither done nor discarded");
        }
    }
}

/// The numbers that a window's state counts; `{}` is what Lambda begins with.
fn counted_by(state: &str) -> Vec<u64> {
    match state {
        "{}" => Vec::new(),
        state => serde_json::from_str(state).expect("the state is a list of numbers"),
    }
}
