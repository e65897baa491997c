//! What came of each batch, what that adds up to, and whether it is a failure. Values only.

use std::fmt;

use serde::Serialize;

use super::failure::{Held, Refused};
use super::place::Place;
use super::source::Key;
use crate::error::{Error, Result};

/// What came of one batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// All of it is done.
    Done {
        /// Records that were sent.
        records: usize,
        /// Whether it was removed from its place.
        removed: bool,
    },
    /// All of it is done, and it could not be removed.
    NotRemoved {
        /// Records that were sent.
        records: usize,
        /// Why.
        why: String,
    },
    /// The stream has dropped some of it; the rest is done.
    Expired {
        /// Records that were sent.
        done: usize,
        /// Records that are gone.
        expired: usize,
    },
    /// The function failed on it.
    Failed {
        /// Records before the failure.
        done: usize,
        /// Records that were to be sent.
        of: usize,
        /// Records that are gone.
        expired: usize,
        /// Why.
        why: String,
    },
    /// It was not sent.
    Left {
        /// Why.
        why: String,
    },
}

impl Outcome {
    /// It was not sent.
    pub(crate) fn left(why: impl Into<String>) -> Self {
        Self::Left { why: why.into() }
    }

    /// Whether the batches of its shard that follow have to wait for it. They need not wait for
    /// records that are gone for good.
    pub(crate) fn blocks(&self) -> bool {
        matches!(self, Self::Failed { .. } | Self::Left { .. })
    }
}

/// What a replay answers.
#[derive(Debug, Serialize)]
pub(crate) struct Answer {
    function: String,
    from: Vec<String>,
    dry_run: bool,
    batches: Counts,
    records: Counts,
    /// Everything that was not replayed, and why.
    not_replayed: Vec<NotReplayed>,
    #[serde(skip)]
    removed: Vec<(usize, Key)>,
    #[serde(skip)]
    failures: usize,
}

/// How many batches or records.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
struct Counts {
    /// Sent and done; with `dry_run`, to be sent.
    replayed: usize,
    /// The function failed on them.
    failed: usize,
    /// The stream no longer holds them, or not all of them.
    expired: usize,
    /// Not sent, or done and not removed.
    left: usize,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct NotReplayed {
    at: String,
    shard: Option<String>,
    state: &'static str,
    why: String,
}

impl Answer {
    /// Before the first batch, with what will not be sent.
    pub(crate) fn new(function: &str, from: &[Place], refused: Vec<Refused>) -> Self {
        let mut answer = Self {
            function: function.to_owned(),
            from: from.iter().map(ToString::to_string).collect(),
            dry_run: false,
            batches: Counts::default(),
            records: Counts::default(),
            not_replayed: Vec::new(),
            removed: Vec::new(),
            failures: 0,
        };
        for Refused { name, records, why, is_failure } in refused {
            answer.batches.left += 1;
            answer.records.left += records;
            answer.failures += usize::from(is_failure);
            answer.not_replayed.push(NotReplayed { at: name, shard: None, state: "left", why });
        }
        answer
    }

    /// Says what a replay would do, and that it did not.
    pub(crate) fn would_replay(&mut self, batches: usize, records: usize) {
        self.dry_run = true;
        self.batches.replayed = batches;
        self.records.replayed = records;
    }

    /// Adds what came of a batch.
    pub(crate) fn add(&mut self, held: &Held<(usize, Key)>, outcome: Outcome) {
        let records = held.failure.records;
        let (batches, counted) = (&mut self.batches, &mut self.records);
        let (state, why) = match outcome {
            Outcome::Done { records, removed } => {
                batches.replayed += 1;
                counted.replayed += records;
                if removed {
                    self.removed.push(held.key.clone());
                }
                return;
            }
            Outcome::NotRemoved { records, why } => {
                batches.replayed += 1;
                counted.replayed += records;
                (
                    "left",
                    format!("it is done, and could not be removed, so it would come again: {why}"),
                )
            }
            Outcome::Expired { done, expired } => {
                batches.expired += 1;
                counted.replayed += done;
                counted.expired += expired;
                let rest = if done > 0 {
                    format!("; the others are done ({done})")
                } else {
                    String::new()
                };
                (
                    "expired",
                    format!("the stream no longer holds {expired} of its {records} records{rest}"),
                )
            }
            Outcome::Failed { done, of, expired, why } => {
                batches.failed += 1;
                counted.replayed += done;
                counted.failed += of - done;
                counted.expired += expired;
                let part = if done > 0 {
                    format!(
                        "; the records before it are done ({done}), and come again with the next replay"
                    )
                } else {
                    String::new()
                };
                ("failed", format!("{why}{part}"))
            }
            Outcome::Left { why } => {
                batches.left += 1;
                counted.left += records;
                ("left", why)
            }
        };
        self.failures += 1;
        let shard = Some(held.failure.shard.to_string());
        self.not_replayed.push(NotReplayed { at: held.name.clone(), shard, state, why });
    }

    /// What was removed from its place.
    pub(crate) fn removed(&self) -> &[(usize, Key)] {
        &self.removed
    }

    /// Whether all that was asked for is done.
    ///
    /// # Errors
    /// Failed where it is not.
    pub(crate) fn verdict(&self) -> Result<()> {
        if self.failures == 0 {
            return Ok(());
        }
        Err(Error::failed(format!("{} batches for {} are not done", self.failures, self.function))
            .hint("they are where they were: mend what the answer names, and replay again"))
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "function: {}", self.function)?;
        writeln!(formatter, "from: {}", self.from.join(", "))?;
        let replayed = if self.dry_run { "would be replayed" } else { "replayed" };
        let of = |batches: usize, records: usize| format!("{batches} batches, {records} records");
        write!(formatter, "{replayed}: {}", of(self.batches.replayed, self.records.replayed))?;
        write!(formatter, "\nfailed: {}", of(self.batches.failed, self.records.failed))?;
        write!(formatter, "\nexpired: {}", of(self.batches.expired, self.records.expired))?;
        write!(formatter, "\nleft: {}", of(self.batches.left, self.records.left))?;
        for NotReplayed { at, shard, state, why } in &self.not_replayed {
            let shard = shard.as_ref().map(|shard| format!(" of {shard}")).unwrap_or_default();
            write!(formatter, "\n{state}: {at}{shard}: {why}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::local::record::{SequenceNumber, ShardId};
    use crate::replay::failure::Failure;

    fn held(records: usize) -> Held<(usize, Key)> {
        let failure = Failure {
            function: "function".to_owned(),
            stream: "stream".to_owned(),
            shard: ShardId::numbered(0),
            start: SequenceNumber::new("7"),
            end: SequenceNumber::new("9"),
            records,
        };
        Held { failure, name: "message 1".to_owned(), key: (0, Key::Message("receipt".to_owned())) }
    }

    fn answer() -> Answer {
        Answer::new("quakes:current", &["s3://lost".parse().unwrap()], Vec::new())
    }

    #[test]
    fn the_answer_as_text_and_as_json() {
        let mut answer = answer();
        answer.add(&held(3), Outcome::Done { records: 3, removed: true });
        answer
            .add(&held(2), Outcome::NotRemoved { records: 2, why: "access is denied".to_owned() });
        insta::assert_snapshot!("text", answer);
        insta::assert_json_snapshot!("json", answer);
    }

    #[test]
    fn a_replay_in_which_all_is_done_is_no_failure_and_tells_what_it_removed() {
        let mut answer = answer();
        answer.add(&held(3), Outcome::Done { records: 3, removed: true });
        answer.add(&held(2), Outcome::Done { records: 2, removed: false });
        answer.verdict().unwrap();
        assert_eq!(answer.removed().len(), 1);
        assert_eq!((answer.batches.replayed, answer.records.replayed), (2, 5));
    }

    #[test]
    fn every_other_outcome_is_a_failure_that_says_why() {
        let failed = |done| Outcome::Failed { done, of: 3, expired: 0, why: "boom".to_owned() };
        for (outcome, why) in [
            (failed(0), "failed: message 1 of shardId-000000000000: boom"),
            (
                failed(1),
                "boom; the records before it are done (1), and come again with the next replay",
            ),
            (
                Outcome::Expired { done: 0, expired: 3 },
                "the stream no longer holds 3 of its 3 records",
            ),
            (
                Outcome::Expired { done: 2, expired: 1 },
                "holds 1 of its 3 records; the others are done (2)",
            ),
            (Outcome::left("why"), "left: message 1 of shardId-000000000000: why"),
            (Outcome::NotRemoved { records: 3, why: "no".to_owned() }, "could not be removed"),
        ] {
            let mut answer = answer();
            answer.add(&held(3), outcome);
            assert!(answer.to_string().contains(why), "{answer}");
            assert_eq!(answer.verdict().unwrap_err().exit_code(), 1);
            assert!(answer.removed().is_empty());
        }
    }

    #[test]
    fn records_that_are_gone_for_good_hold_up_nothing() {
        assert!(!Outcome::Expired { done: 0, expired: 1 }.blocks());
        assert!(!Outcome::Done { records: 1, removed: true }.blocks());
        assert!(Outcome::left("why").blocks());
        assert!(Outcome::Failed { done: 1, of: 2, expired: 0, why: String::new() }.blocks());
    }

    #[test]
    fn what_was_not_asked_for_stays_and_is_no_failure() {
        let refused = |is_failure| Refused {
            name: "a".to_owned(),
            records: 2,
            why: "b".to_owned(),
            is_failure,
        };
        let answer = Answer::new("f", &[], vec![refused(false)]);
        assert_eq!((answer.batches.left, answer.records.left), (1, 2));
        answer.verdict().unwrap();
        assert!(Answer::new("f", &[], vec![refused(true)]).verdict().is_err());
    }
}
