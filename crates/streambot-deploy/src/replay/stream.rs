//! The records a message names, read from the stream while they are there, and the events that
//! Lambda would send them in. It refuses to know who is sent them.

use std::sync::Arc;
use std::time::Duration;

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::types::ShardIteratorType;
use bytes::Bytes;

use super::failure::Failure;
use crate::aws::failed;
use crate::error::{Error, Result};
use crate::local::event::{EventWriter, MAXIMUM_RECORDS_BYTES};
use crate::local::filter::ShardFilter;
use crate::local::kinesis::taken;
use crate::local::record::{Batch, Record};

/// Between two reads of a shard, which allows five a second to all that read it, Lambda among them.
const READ_INTERVAL: Duration = Duration::from_millis(250);

/// Reads what the stream still holds of the batch's range, whoever's batch each record was in.
///
/// # Errors
/// Failed where the stream cannot be read; a shard or stream that is gone holds nothing.
pub(crate) async fn read(
    client: &Client,
    failure: &Failure,
    events: &EventWriter,
) -> Result<Vec<Record>> {
    let Failure { stream, shard, start, end, .. } = failure;
    let doing = || format!("reading {shard} of {stream} from {start} on");
    let ask = client.get_shard_iterator().stream_arn(stream).shard_id(shard.as_str());
    let ask = ask
        .shard_iterator_type(ShardIteratorType::AtSequenceNumber)
        .starting_sequence_number(start.as_str());
    let mut iterator = match ask.send().await {
        Ok(answer) => answer.shard_iterator,
        Err(error)
            if error
                .as_service_error()
                .is_some_and(|error| error.is_resource_not_found_exception()) =>
        {
            None
        }
        Err(error) => return Err(failed(doing(), error)),
    };
    // No more than the batch had, so that Lambda is left its share of the shard's two megabytes a
    // second.
    let limit = i32::try_from(failure.records).unwrap_or(i32::MAX).clamp(1, 10_000);
    let mut records = Vec::new();
    while let Some(current) = iterator {
        let read = client
            .get_records()
            .stream_arn(stream)
            .shard_iterator(&current)
            .limit(limit)
            .send()
            .await;
        let answer = read.map_err(|error| failed(doing(), error))?;
        let is_at_tip =
            answer.records().is_empty() && answer.millis_behind_latest().unwrap_or(0) == 0;
        iterator = answer.next_shard_iterator;
        for record in answer.records {
            let record = taken(record, shard, events);
            if record.sequence_number > *end {
                return Ok(records);
            }
            let is_last = record.sequence_number == *end;
            records.push(record);
            if is_last {
                return Ok(records);
            }
        }
        if is_at_tip {
            break;
        }
        tokio::time::sleep(READ_INTERVAL).await;
    }
    Ok(records)
}

/// What is left of a batch.
#[derive(Debug)]
pub(crate) struct Left {
    /// The records that are still there and pass the mapping's filter.
    pub(crate) records: Vec<Record>,
    /// How many the stream has dropped.
    pub(crate) expired: usize,
    /// How many more there are than the batch had: with several lanes to a shard, its range holds
    /// those of others too.
    pub(crate) others: usize,
}

impl Left {
    /// Of `records`, those that the stream holds of the batch's range.
    pub(crate) fn of(
        mut records: Vec<Record>,
        failure: &Failure,
        filter: Option<&ShardFilter>,
    ) -> Self {
        // The first record of a batch was in it, so a range that begins later has lost some.
        let has_start = records.first().is_some_and(|first| first.sequence_number == failure.start);
        if let Some(filter) = filter {
            records.retain(|record| filter.passes(record));
        }
        let missing = failure.records.saturating_sub(records.len());
        let expired = if has_start { 0 } else { missing.max(1) };
        let others = records.len().saturating_sub(failure.records);
        Self { records, expired, others }
    }
}

/// Puts records into events, as many in each as the batch had and 6 MB allow.
///
/// # Errors
/// Where one record alone is over 6 MB, which Lambda could not send either.
pub(crate) fn events(
    records: Vec<Record>,
    failure: &Failure,
    writer: &EventWriter,
) -> Result<Vec<(Bytes, Batch)>> {
    let sizes: Vec<usize> = records.iter().map(|record| record.encoded_len).collect();
    if let Some(place) = sizes.iter().position(|size| *size > MAXIMUM_RECORDS_BYTES) {
        return Err(Error::failed(format!(
            "record {} takes {} bytes in an event, and an invocation 6 MB at most",
            records[place].sequence_number, sizes[place]
        )));
    }
    let all = Batch::new(Arc::from(records));
    let mut rest = all;
    let mut events = Vec::new();
    for count in cuts(&sizes, failure.records.max(1), MAXIMUM_RECORDS_BYTES) {
        let (batch, after) = rest.split_at(count);
        events.push((writer.write(&failure.shard, &batch, None), batch));
        rest = after;
    }
    Ok(events)
}

/// How many records go into each event: at most `most`, and of at most `bytes`.
fn cuts(sizes: &[usize], most: usize, bytes: usize) -> Vec<usize> {
    let mut cuts: Vec<usize> = Vec::new();
    let mut taken = usize::MAX;
    for size in sizes {
        match cuts.last_mut() {
            Some(count) if *count < most && taken.saturating_add(*size) <= bytes => {
                *count += 1;
                taken += size;
            }
            _ => {
                cuts.push(1);
                taken = *size;
            }
        }
    }
    cuts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::local::record::testing::record;
    use crate::local::record::{SequenceNumber, ShardId};

    fn failure(start: &str, end: &str, records: usize) -> Failure {
        Failure {
            function: "function".to_owned(),
            stream: "stream".to_owned(),
            shard: ShardId::numbered(0),
            start: SequenceNumber::new(start),
            end: SequenceNumber::new(end),
            records,
        }
    }

    fn left(numbers: std::ops::RangeInclusive<u64>, failure: &Failure) -> (usize, usize, usize) {
        let records = numbers.map(|number| record(number, "key", 0)).collect();
        let Left { records, expired, others } = Left::of(records, failure, None);
        (records.len(), expired, others)
    }

    #[test]
    fn a_range_that_begins_late_has_lost_records() {
        assert_eq!(left(7..=9, &failure("7", "9", 3)), (3, 0, 0));
        assert_eq!(left(8..=9, &failure("7", "9", 3)), (2, 1, 0));
        #[allow(clippy::reversed_empty_ranges)]
        let none = left(2..=1, &failure("7", "9", 3));
        assert_eq!(none, (0, 3, 0));
    }

    #[test]
    fn a_range_may_hold_records_of_other_lanes_and_of_none() {
        assert_eq!(left(7..=12, &failure("7", "12", 4)), (6, 0, 2));
        assert_eq!(left(8..=12, &failure("7", "12", 4)), (5, 1, 1));
        assert_eq!(
            left(7..=9, &failure("7", "9", 5)),
            (3, 0, 0),
            "the filter passes less than it did"
        );
    }

    #[test]
    fn an_event_holds_what_the_batch_had_and_the_limit_allows() {
        assert_eq!(cuts(&[], 3, 10), Vec::<usize>::new());
        assert_eq!(cuts(&[1, 1, 1, 1], 3, 10), [3, 1]);
        assert_eq!(cuts(&[6, 4, 1, 10, 9, 2], 3, 10), [2, 1, 1, 1, 1]);
        assert_eq!(cuts(&[11], 3, 10), [1]);
    }

    #[test]
    fn the_events_of_a_batch_over_six_megabytes_hold_all_its_records_in_order() {
        let writer = EventWriter::new("us-east-1", "arn:stream", "arn:role");
        let failure = failure("1", "3", 3);
        let records = (1..=3).map(|number| {
            let mut record = record(number, "key", 0);
            record.data = Bytes::from(vec![b'x'; 2 * 1024 * 1024]);
            record.encoded_len = writer.encoded_len(&failure.shard, &record);
            record
        });
        let events = events(records.collect(), &failure, &writer).unwrap_or_default();
        let counts: Vec<_> = events.iter().map(|(_, batch)| batch.len()).collect();
        assert_eq!(counts, [2, 1]);
        assert!(events.iter().all(|(event, _)| event.len() <= 6 * 1024 * 1024));
        assert_eq!(events[1].1.records()[0].sequence_number.as_str(), "3");
    }
}
