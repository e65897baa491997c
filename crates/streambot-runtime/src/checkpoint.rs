//! Which records of a batch may run now, and where the batch's checkpoint is once some of them are
//! done: a pure state machine over positions in the batch. It knows keys, order and a limit; it
//! refuses to know handlers, time and I/O.
//!
//! What it holds to:
//!
//! - records of one key never run at once and never out of order, and nothing runs after a failure
//!   of its own key;
//! - after a failure nothing that comes later in the batch starts;
//! - the checkpoint is the first record not done, and everything before it is done.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::hash::Hash;

use foldhash::{HashMap, HashMapExt};

/// The progress of one batch.
#[derive(Debug)]
pub(crate) struct Checkpoint {
    order: Order,
    states: Vec<State>,
    /// The earliest failure so far: nothing at or after it starts any more.
    first_failure: Option<usize>,
    running: usize,
    limit: usize,
}

/// How far one record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// It was not started.
    Waiting,
    /// It was started and has not ended.
    Running,
    /// It is done.
    Done,
    /// It failed.
    Failed,
}

/// How the records wait for each other.
#[derive(Debug)]
enum Order {
    /// One at a time: the next is simply the one after.
    Sequence { next: usize },
    /// By key: `heads` are the first records of their keys, from the latest to the earliest, and
    /// `ready` those that waited for one of their key which is done; `successor` says who waits for
    /// whom.
    Keys { heads: Vec<usize>, ready: BinaryHeap<Reverse<usize>>, successor: Vec<Option<usize>> },
}

impl Checkpoint {
    /// Progress over records that run one at a time, in order.
    pub(crate) fn in_sequence(len: usize) -> Self {
        Self {
            order: Order::Sequence { next: 0 },
            states: vec![State::Waiting; len],
            first_failure: None,
            running: 0,
            limit: 1,
        }
    }

    /// Progress over records with these keys, at most `limit` of them running at once (at least 1).
    pub(crate) fn by_key<K: Hash + Eq>(
        keys: impl ExactSizeIterator<Item = K>,
        limit: usize,
    ) -> Self {
        let len = keys.len();
        let mut last_of_key = HashMap::with_capacity(len);
        let mut successor = vec![None; len];
        let mut heads = Vec::new();
        for (index, key) in keys.enumerate() {
            match last_of_key.insert(key, index) {
                Some(previous) => successor[previous] = Some(index),
                None => heads.push(index),
            }
        }
        heads.reverse();
        Self {
            order: Order::Keys { heads, ready: BinaryHeap::new(), successor },
            states: vec![State::Waiting; len],
            first_failure: None,
            running: 0,
            limit: limit.max(1),
        }
    }

    /// The record to start now, earliest first; `None` when nothing may start before something else
    /// has finished.
    pub(crate) fn start(&mut self) -> Option<usize> {
        if self.running == self.limit {
            return None;
        }
        let barrier = self.first_failure.unwrap_or(self.states.len());
        let index = match &mut self.order {
            Order::Sequence { next } => {
                let index = (*next < barrier).then_some(*next)?;
                *next += 1;
                index
            }
            Order::Keys { heads, ready, .. } => {
                let head = heads.last().copied();
                let waited = ready.peek().map(|&Reverse(index)| index);
                let earliest =
                    head.into_iter().chain(waited).min().filter(|index| *index < barrier)?;
                if head == Some(earliest) {
                    heads.pop();
                } else {
                    ready.pop();
                }
                earliest
            }
        };
        self.running += 1;
        self.states[index] = State::Running;
        Some(index)
    }

    /// Takes note that a started record is done: the next of its key may run.
    pub(crate) fn succeed(&mut self, index: usize) {
        self.running -= 1;
        self.states[index] = State::Done;
        if let Order::Keys { ready, successor, .. } = &mut self.order
            && let Some(next) = successor[index]
        {
            ready.push(Reverse(next));
        }
    }

    /// Takes note that a started record failed.
    pub(crate) fn fail(&mut self, index: usize) {
        self.running -= 1;
        self.states[index] = State::Failed;
        self.first_failure = Some(self.first_failure.map_or(index, |first| first.min(index)));
    }

    /// The first record not done, from which Lambda has to deliver again; `None` if all are done.
    pub(crate) fn position(&self) -> Option<usize> {
        self.states.iter().position(|state| *state != State::Done)
    }

    /// How far the record at `index` is.
    pub(crate) fn state(&self, index: usize) -> State {
        self.states[index]
    }

    /// The records in this state, in their order.
    pub(crate) fn in_state(&self, state: State) -> impl Iterator<Item = usize> + '_ {
        let states = self.states.iter().enumerate();
        states.filter(move |(_, other)| **other == state).map(|(index, _)| index)
    }
}

#[cfg(test)]
mod tests {
    use super::{Checkpoint, State};
    use proptest::prelude::*;

    /// Drives a batch to its end: `choices` picks which running record finishes next, `fails` which
    /// records fail. Checks the promises of the module on the way, and returns the order of starts
    /// and the checkpoint.
    fn drive(
        keys: &[u8],
        limit: usize,
        choices: &[usize],
        fails: &[bool],
    ) -> (Vec<usize>, Option<usize>) {
        let mut checkpoint = if limit == 1 && choices.first().is_some_and(|choice| choice % 2 == 0)
        {
            Checkpoint::in_sequence(keys.len())
        } else {
            Checkpoint::by_key(keys.iter(), limit)
        };
        let mut choices = choices.iter().cycle();
        let mut started = Vec::new();
        let mut running: Vec<usize> = Vec::new();
        let mut done = vec![false; keys.len()];
        let mut first_failure = usize::MAX;
        loop {
            while let Some(index) = checkpoint.start() {
                assert!(!started.contains(&index), "{index} started twice");
                assert!(
                    index < first_failure,
                    "{index} started after the failure of {first_failure}"
                );
                assert!(
                    running.iter().all(|other| keys[*other] != keys[index]),
                    "two of one key at once"
                );
                assert!(
                    (0..index)
                        .filter(|earlier| keys[*earlier] == keys[index])
                        .all(|earlier| done[earlier]),
                    "{index} started before the records of its key ahead of it were done"
                );
                started.push(index);
                running.push(index);
                assert!(running.len() <= limit);
                assert_eq!(checkpoint.state(index), State::Running);
            }
            if running.is_empty() {
                break;
            }
            let choice = choices.next().copied().unwrap_or_default() % running.len();
            let index = running.swap_remove(choice);
            if fails[index] {
                first_failure = first_failure.min(index);
                checkpoint.fail(index);
            } else {
                done[index] = true;
                checkpoint.succeed(index);
            }
        }
        let position = checkpoint.position();
        assert_eq!(
            position,
            done.iter().position(|done| !done),
            "the checkpoint is the first record not done"
        );
        let all_done: Vec<usize> = (0..keys.len()).filter(|index| done[*index]).collect();
        assert_eq!(checkpoint.in_state(State::Done).collect::<Vec<_>>(), all_done);
        assert_eq!(
            checkpoint.in_state(State::Running).count(),
            0,
            "all that was started has ended"
        );
        let expected = (first_failure != usize::MAX).then_some(first_failure);
        assert_eq!(position, expected, "everything ahead of the first failure gets its turn");
        (started, position)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(10_000))]

        #[test]
        fn order_limit_and_checkpoint_hold_whatever_finishes_when(
            (keys, fails) in (0usize..40).prop_flat_map(|len| (
                prop::collection::vec(0u8..6, len),
                prop::collection::vec(prop::bool::weighted(0.08), len),
            )),
            limit in 1usize..9,
            choices in prop::collection::vec(any::<usize>(), 1..50),
        ) {
            drive(&keys, limit, &choices, &fails);
        }
    }

    #[test]
    fn one_at_a_time_runs_in_order_and_stops_at_the_first_failure() {
        let (started, position) = drive(&[1, 2, 3, 4], 1, &[1], &[false, false, true, false]);
        assert_eq!(started, [0, 1, 2]);
        assert_eq!(position, Some(2));
    }

    #[test]
    fn records_ahead_of_a_failure_still_get_their_turn() {
        // 1 fails while 0 runs; 2 has the key of 0 and comes after the failure, so only 0 is done.
        let (started, position) = drive(&[1, 2, 1], 2, &[1, 0], &[false, true, false]);
        assert_eq!(started, [0, 1]);
        assert_eq!(position, Some(1));
    }

    #[test]
    fn different_keys_run_at_once_up_to_the_limit() {
        let mut checkpoint = Checkpoint::by_key([1, 1, 2, 3].iter(), 2);
        assert_eq!(checkpoint.start(), Some(0));
        assert_eq!(checkpoint.start(), Some(2), "1 waits for 0, which has its key");
        assert_eq!(checkpoint.start(), None, "two are running");
        checkpoint.succeed(0);
        assert_eq!(checkpoint.start(), Some(1), "the earliest that may run goes first");
    }
}
