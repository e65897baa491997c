//! The records that a handler reports as failed.

use std::fmt;
use std::sync::Arc;

use crate::event::Event;
use crate::record::Record;

/// The records of a batch that a [`batch`](crate::batch()) handler could not work on.
///
/// Lambda delivers again from the first of them on, whatever came of the records after it.
///
/// ```
/// # use streambot_runtime::{Batch, Failures};
/// # fn failures(batch: &Batch) -> Failures {
/// let mut failures = Failures::new();
/// for record in batch {
///     if record.data().len() > 1_000 {
///         failures.push(record);
///     }
/// }
/// # failures
/// # }
/// ```
#[derive(Clone, Default)]
pub struct Failures {
    /// The event of the first record.
    event: Option<Arc<Event>>,
    /// One bit for each record of that event, set if it failed.
    failed: Vec<u64>,
    len: usize,
    /// The first record of another event.
    foreign: Option<Record>,
}

impl Failures {
    /// No failures yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a record of the batch. To add it twice is to add it once.
    ///
    /// A record of another batch, or a [detached](Record::detach) one, fails the whole invocation.
    pub fn push(&mut self, record: Record) {
        let event = self.event.get_or_insert_with(|| Arc::clone(record.event()));
        if !Arc::ptr_eq(event, record.event()) {
            if self.foreign.is_none() {
                self.len += 1;
                self.foreign = Some(record);
            }
            return;
        }
        let (word, bit) = (record.index() / 64, 1 << (record.index() % 64));
        if self.failed.len() <= word {
            self.failed.resize(word + 1, 0);
        }
        self.len += usize::from(self.failed[word] & bit == 0);
        self.failed[word] |= bit;
    }

    /// Whether no record has failed.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many records have failed.
    pub fn len(&self) -> usize {
        self.len
    }

    /// The failed records in the order of their batch, without [foreign](Self::foreign) ones.
    pub(crate) fn records(&self) -> impl Iterator<Item = Record> {
        let words = self.failed.iter().enumerate().filter(|(_, word)| **word != 0);
        let indexes = words.flat_map(|(place, word)| {
            (0..64).filter(move |bit| word >> bit & 1 == 1).map(move |bit| place * 64 + bit)
        });
        self.event.iter().flat_map(move |event| {
            indexes.clone().map(|index| Record::new(Arc::clone(event), index))
        })
    }

    /// A record that is not from the same batch as the first one.
    pub(crate) fn foreign(&self) -> Option<Record> {
        self.foreign.clone()
    }
}

impl fmt::Debug for Failures {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(self.records()).entries(&self.foreign).finish()
    }
}

impl From<()> for Failures {
    fn from((): ()) -> Self {
        Self::new()
    }
}

impl Extend<Record> for Failures {
    fn extend<I: IntoIterator<Item = Record>>(&mut self, records: I) {
        records.into_iter().for_each(|record| self.push(record));
    }
}

impl FromIterator<Record> for Failures {
    fn from_iter<I: IntoIterator<Item = Record>>(records: I) -> Self {
        let mut failures = Self::new();
        failures.extend(records);
        failures
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::Failures;
    use crate::event::Batch;
    use crate::testing::{decode, records};

    fn batch(len: usize) -> Batch {
        decode(records(vec!["a"; len]).to_json()).expect("a good event")
    }

    #[test]
    fn failures_are_counted_once_each_and_come_in_the_order_of_the_batch() {
        let batch = batch(200);
        let indexes = [130, 3, 199, 64, 3, 130, 63, 0];
        let failures: Failures = indexes.into_iter().map(|index| batch.record(index)).collect();
        assert_eq!((failures.len(), failures.is_empty()), (6, false));
        let failed: Vec<_> = failures.records().map(|record| record.index()).collect();
        assert_eq!(failed, [0, 3, 63, 64, 130, 199]);
        assert!(failures.foreign().is_none());
    }

    #[test]
    fn a_record_of_another_batch_is_foreign() {
        let (own, other) = (batch(1), batch(1));
        let failures: Failures = [own.record(0), other.record(0)].into_iter().collect();
        assert!(other.owns(&failures.foreign().expect("a foreign record")));
        assert!(failures.records().all(|record| own.owns(&record)));
        assert_eq!(failures.len(), 2);
        assert!(Failures::new().is_empty());
    }

    /// A scan of all failures with each one would take minutes.
    #[test]
    fn many_failures_take_no_time() {
        let batch = batch(100_000);
        let started = Instant::now();
        let mut failures: Failures = batch.iter().collect();
        failures.extend(batch.iter());
        assert_eq!(failures.len(), 100_000);
        assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    }
}
