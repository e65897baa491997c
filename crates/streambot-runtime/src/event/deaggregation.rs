//! Replaces the aggregated records of a batch with their user records, and bounds how many those
//! may be.

use std::sync::Arc;

use super::{Batch, Entry, Event, RecordFault};
use crate::aggregation::{self, Aggregate, Excess, MAX_USER_RECORDS};

impl Batch {
    /// The batch with every KPL aggregated record replaced by its user records, in their order.
    ///
    /// User records share their aggregate's sequence number: if one of them fails, Lambda delivers
    /// the whole aggregate again. Only one level is unpacked, as in the Kinesis Client Library: an
    /// aggregate within an aggregate stays as it is, and so does a batch that was deaggregated
    /// before.
    ///
    /// At most 250,000 user records are unpacked from one event. The aggregate that would exceed
    /// this bound counts as a record that cannot be read, and the batch ends there: the records
    /// ahead of it are handled, and Lambda delivers the others again.
    ///
    /// [`each`](crate::each()) and [`batch`](crate::batch()) do this for you; a
    /// [`Handler`](crate::Handler) of your own receives the records as they were put.
    pub fn deaggregated(self) -> Batch {
        let event = &self.event;
        let may_be_aggregate =
            |entry: &Entry| aggregation::begins_with_magic(event.bytes(entry.data));
        if event.is_unpacked || !self.entries().iter().any(may_be_aggregate) {
            return self;
        }
        let mut entries = Vec::with_capacity(self.len);
        let mut room = MAX_USER_RECORDS;
        for entry in self.entries() {
            let Some(aggregate) = Aggregate::read(event.bytes(entry.data)) else {
                entries.push(entry.clone());
                continue;
            };
            if let Err(excess) = Excess::check(aggregate.len(), room) {
                entries.push(exceeding(event, entry, excess));
                break;
            }
            room -= aggregate.len();
            unpack(event, entry, &aggregate, &mut entries);
        }
        let len = entries.len();
        let (body, arena, source_arn) =
            (event.body.clone(), event.arena.clone(), event.source_arn.clone());
        let event = Event { body, arena, entries, source_arn, is_unpacked: true };
        Batch { event: Arc::new(event), len, window: self.window }
    }
}

/// Adds the user records of one aggregate, up to the first one that cannot be read.
fn unpack(event: &Event, entry: &Entry, aggregate: &Aggregate<'_>, entries: &mut Vec<Entry>) {
    entries.reserve(aggregate.len());
    for (sub_sequence_number, user_record) in (0u32..).zip(aggregate.user_records()) {
        match user_record {
            Ok(record) => entries.push(Entry {
                data: event.span_of(record.data),
                partition_key: Some(event.span_of(record.partition_key)),
                explicit_hash_key: record.explicit_hash_key.map(|key| event.span_of(key)),
                sub_sequence_number,
                ..entry.clone()
            }),
            Err(damage) => {
                let index = entry.record as usize;
                let fault = RecordFault::new(index, event.text(entry.event_id), damage.to_string());
                let fault = Some(Box::new(fault));
                entries.push(Entry { sub_sequence_number, fault, ..entry.clone() });
                break;
            }
        }
    }
}

/// An aggregate that is not unpacked, for it has more user records than there is room for.
fn exceeding(event: &Event, entry: &Entry, excess: Excess) -> Entry {
    let index = entry.record as usize;
    let fault = RecordFault::new(index, event.text(entry.event_id), excess.to_string());
    let fits_alone = matches!(excess, Excess::OfEvent { .. });
    let fault = if fits_alone { fault.of_good_data() } else { fault };
    Entry { fault: Some(Box::new(fault)), ..entry.clone() }
}

#[cfg(test)]
mod tests {
    use super::MAX_USER_RECORDS;
    use crate::aggregation::pack;
    use crate::event::Batch;
    use crate::testing::{Event, aggregated, decode, record};

    fn unpacked(event: &Event) -> Batch {
        decode(event.to_json()).expect("a good event").deaggregated()
    }

    /// An aggregate of this many records without data.
    fn of_empty(count: usize) -> Event {
        Event::new().record(record("ahead")).record(aggregated(vec![("k", ""); count]))
    }

    #[test]
    fn a_batch_is_unpacked_once_so_that_ids_stay_unique() {
        let inner = pack(&[("in".to_owned(), b"1".to_vec()), ("in".to_owned(), b"2".to_vec())]);
        let event = Event::new().record(aggregated([("a", inner.clone()), ("a", b"x".to_vec())]));
        let once = unpacked(&event);
        assert_eq!(once.len(), 2);
        assert_eq!(once.record(0).data(), inner);
        let twice = once.clone().deaggregated();
        let ids = |batch: &Batch| batch.iter().map(|record| record.id()).collect::<Vec<_>>();
        assert_eq!(ids(&twice), ids(&once));
        assert!(once.owns(&twice.record(1)), "it is the same batch");
        assert_eq!(once.prefix(1).deaggregated().len(), 1);
    }

    #[test]
    fn as_many_user_records_as_the_bound_allows_are_unpacked() {
        let batch = unpacked(&of_empty(MAX_USER_RECORDS));
        assert_eq!(batch.len(), 1 + MAX_USER_RECORDS);
        assert!(batch.iter().all(|record| record.fault().is_none()));
    }

    #[test]
    fn an_aggregate_over_the_bound_is_a_fault_with_its_count() {
        let batch = unpacked(&of_empty(MAX_USER_RECORDS + 1));
        assert_eq!(batch.len(), 2);
        let record = batch.record(1);
        let fault = record.fault().expect("a fault");
        assert!(fault.to_string().contains("250001 user records, more than the 250000"), "{fault}");
        assert!(fault.is_undecodable(), "it can never be handled");
    }

    #[test]
    fn the_aggregate_that_exceeds_the_bound_ends_the_batch_and_is_not_undecodable() {
        let event = of_empty(MAX_USER_RECORDS - 1);
        let event = event.record(aggregated([("k", "1"), ("k", "2")])).record(record("behind"));
        let batch = unpacked(&event);
        assert_eq!(batch.len(), 1 + MAX_USER_RECORDS - 1 + 1);
        let record = batch.record(batch.len() - 1);
        assert_eq!(
            (record.sequence_number(), record.sub_sequence_number()),
            (&*event.sequence_number(2), 0)
        );
        let fault = record.fault().expect("a fault");
        assert!(
            fault.to_string().contains("2 user records, and there is room for 1 more"),
            "{fault}"
        );
        assert!(!fault.is_undecodable(), "it must not be skipped: it fits into the next batch");
    }
}
