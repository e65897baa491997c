//! A real stream, read through the Kinesis API into the buffer, as Lambda's pollers read it: each
//! shard from its iterator, a child only after its parents. It only reads, and refuses to know what
//! is done with the records.

mod lineage;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_config::SdkConfig;
use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::error::{ProvideErrorMetadata as _, SdkError};
use aws_sdk_kinesis::operation::get_records::{GetRecordsError, GetRecordsOutput};
use aws_sdk_kinesis::primitives::DateTime;
use aws_sdk_kinesis::types::ShardIteratorType;
use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::sleep;

use self::lineage::{Lineage, Listed};
use super::buffer::Buffer;
use super::console::Console;
use super::event::EventWriter;
use super::poller::More;
use super::record::{Record, SequenceNumber, ShardId};
use crate::aws;
use crate::error::{Error, Result};

pub(crate) use self::lineage::Position;

/// Bytes of encoded records that may wait for a shard's reader; one answer of up to 10 MB comes on
/// top.
pub(crate) const READ_AHEAD: usize = 8 * 1024 * 1024;

/// Lambda's base rate: once a second for each shard that is read to its tip.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// Between two reads that bring nothing though there is more: a shard allows five reads a second.
const EMPTY_INTERVAL: Duration = Duration::from_millis(200);
/// The longest wait after a throttled read.
const LONGEST_DELAY: Duration = Duration::from_secs(10);
/// How often a closed shard's children are looked for; the stream lists them a moment after it
/// closed their parent.
const CHILD_LISTINGS: u32 = 10;

/// A stream that was found, and its shards.
#[derive(Debug)]
pub(crate) struct Consumer {
    client: Client,
    arn: String,
    retention: Duration,
    lineage: Lineage,
    until_caught_up: bool,
}

impl Consumer {
    /// Finds the stream of this name or ARN.
    ///
    /// # Errors
    /// Exit code 3 when there is none; a failure when it cannot be read.
    pub(crate) async fn find(
        config: &SdkConfig,
        stream: &str,
        start: Position,
        until_caught_up: bool,
    ) -> Result<Consumer> {
        let client = Client::new(config);
        let look_up = client.describe_stream_summary();
        let look_up = if stream.starts_with("arn:") {
            look_up.stream_arn(stream)
        } else {
            look_up.stream_name(stream)
        };
        let found = look_up.send().await.map_err(|error| {
            if error.as_service_error().is_some_and(|error| error.is_resource_not_found_exception()) {
                let region = config.region().map(ToString::to_string).unwrap_or_default();
                Error::missing(format!("there is no stream `{stream}` in {region}"))
                    .hint("check its name, --region and --endpoint-url; `aws kinesis list-streams` shows what is there")
            } else {
                aws::failed(format!("looking up the stream {stream}"), error)
            }
        })?;
        let summary = found.stream_description_summary();
        let arn = summary.map(|summary| summary.stream_arn().to_owned());
        let arn = arn.ok_or_else(|| {
            Error::failed(format!("looking up the stream {stream} brought nothing"))
        })?;
        let hours = summary.map_or(24, |summary| summary.retention_period_hours().unsigned_abs());
        let lineage = Lineage::new(start, list_shards(&client, &arn).await?);
        let retention = Duration::from_secs(u64::from(hours) * 3600);
        Ok(Consumer { client, arn, retention, lineage, until_caught_up })
    }

    /// The stream's ARN.
    pub(crate) fn arn(&self) -> &str {
        &self.arn
    }

    /// How long it keeps a record.
    pub(crate) fn retention(&self) -> Duration {
        self.retention
    }

    /// The shards that will be read, as far as they are known.
    pub(crate) fn shards(&self) -> Vec<ShardId> {
        self.lineage.unfinished().cloned().collect()
    }

    /// Reads every shard into the buffer, until all are at their tips where that was asked for,
    /// else for ever.
    ///
    /// # Errors
    /// When the stream can no longer be read; the records before are in the buffer.
    pub(crate) async fn read_into(
        mut self,
        buffer: Arc<Buffer>,
        events: Arc<EventWriter>,
        console: Arc<Console>,
    ) -> Result<()> {
        let (report, mut reports) = mpsc::unbounded_channel();
        let mut readers = JoinSet::new();
        // Whether each shard that is read is at its tip.
        let mut tips = BTreeMap::new();
        loop {
            for (id, position) in self.lineage.take_ready() {
                let number = buffer.open(id.clone());
                tips.insert(number, false);
                let reader = Reader {
                    client: self.client.clone(),
                    arn: self.arn.clone(),
                    id,
                    number,
                    buffer: Arc::clone(&buffer),
                    events: Arc::clone(&events),
                    console: Arc::clone(&console),
                    report: report.clone(),
                };
                readers.spawn(reader.run(position));
            }
            if tips.is_empty() || self.until_caught_up && tips.values().all(|is_at_tip| *is_at_tip)
            {
                return Ok(());
            }
            tokio::select! {
                Some(ended) = readers.join_next() => {
                    let (number, id) = ended.map_err(|error| Error::failed("reading a shard").because(error))??;
                    tips.remove(&number);
                    self.lineage.set_done(&id);
                    self.find_children(&id).await?;
                }
                Some((number, is_at_tip)) = reports.recv() => {
                    // A shard that was done in the meantime has no tip any more.
                    if let Some(tip) = tips.get_mut(&number) {
                        *tip = is_at_tip;
                    }
                }
            }
        }
    }

    async fn find_children(&mut self, parent: &ShardId) -> Result<()> {
        for _ in 0..CHILD_LISTINGS {
            let listed = list_shards(&self.client, &self.arn).await?;
            self.lineage.learn(listed);
            if self.lineage.has_child(parent) {
                return Ok(());
            }
            sleep(POLL_INTERVAL).await;
        }
        Err(Error::failed(format!("{parent} of {} is closed, and no shard follows it", self.arn))
            .hint("has the stream been deleted?"))
    }
}

/// All shards whose records the stream still holds.
async fn list_shards(client: &Client, arn: &str) -> Result<Vec<Listed>> {
    let mut shards = Vec::new();
    let mut page = client.list_shards().stream_arn(arn);
    loop {
        let answer = page
            .send()
            .await
            .map_err(|error| aws::failed(format!("listing the shards of {arn}"), error))?;
        for shard in answer.shards() {
            let parents = [shard.parent_shard_id(), shard.adjacent_parent_shard_id()];
            let closed =
                shard.sequence_number_range().and_then(|range| range.ending_sequence_number());
            shards.push(Listed {
                id: ShardId::named(shard.shard_id()),
                parents: parents.into_iter().flatten().map(ShardId::named).collect(),
                is_open: closed.is_none(),
            });
        }
        // A further page is named by its token alone.
        match answer.next_token {
            Some(token) => page = client.list_shards().next_token(token),
            None => return Ok(shards),
        }
    }
}

/// Reads one shard.
#[derive(Debug)]
struct Reader {
    client: Client,
    arn: String,
    id: ShardId,
    number: usize,
    buffer: Arc<Buffer>,
    events: Arc<EventWriter>,
    console: Arc<Console>,
    /// Told after each read whether the shard is at its tip.
    report: mpsc::UnboundedSender<(usize, bool)>,
}

impl Reader {
    /// Reads the shard until it is closed, and its records are handled.
    async fn run(self, start: Position) -> Result<(usize, ShardId)> {
        let mut iterator = Some(self.iterator(&start).await?);
        // Where a new iterator begins. One at "now" would pass over what has come since.
        let mut position =
            if start == Position::Latest { Position::At(seconds_now()) } else { start };
        let mut delay = POLL_INTERVAL;
        while let Some(current) = iterator {
            self.buffer.room_in(self.number).await;
            let read = self
                .client
                .get_records()
                .stream_arn(&self.arn)
                .shard_iterator(&current)
                .send()
                .await;
            match read {
                Ok(answer) => {
                    delay = POLL_INTERVAL;
                    let (is_empty, is_at_tip) = (
                        answer.records().is_empty(),
                        answer.millis_behind_latest().unwrap_or(0) == 0,
                    );
                    iterator = self.take(answer, &mut position);
                    let is_closed = iterator.is_none();
                    // It fails only where nobody waits for the tip any more.
                    let _ = self.report.send((self.number, is_at_tip && !is_closed));
                    if is_at_tip && !is_closed {
                        sleep(POLL_INTERVAL).await;
                    } else if is_empty && !is_closed {
                        sleep(EMPTY_INTERVAL).await;
                    }
                }
                Err(error)
                    if error
                        .as_service_error()
                        .is_some_and(GetRecordsError::is_expired_iterator_exception) =>
                {
                    iterator = Some(self.iterator(&position).await?);
                }
                Err(error) if is_throttled(&error) => {
                    self.console.note(&format!(
                        "{}: the stream throttles its readers; waiting {delay:?}",
                        self.id
                    ));
                    sleep(delay).await;
                    delay = (delay * 2).min(LONGEST_DELAY);
                    iterator = Some(current);
                }
                Err(error) => {
                    return Err(aws::failed(format!("reading {} of {}", self.id, self.arn), error));
                }
            }
        }
        self.buffer.done_with(self.number).await;
        Ok((self.number, self.id))
    }

    /// Puts what was read into the buffer. Answers the iterator of the next read; none where the
    /// shard is closed.
    fn take(&self, answer: GetRecordsOutput, position: &mut Position) -> Option<String> {
        let iterator = answer.next_shard_iterator;
        let records: Vec<Record> = answer
            .records
            .into_iter()
            .map(|record| taken(record, &self.id, &self.events))
            .collect();
        if let Some(last) = records.last() {
            *position = Position::After(last.sequence_number.clone());
        }
        // A batch is made of what one read brought, unless there is a window.
        let more = if iterator.is_none() { More::Never } else { More::NotYet };
        self.buffer.put_in(self.number, records, more);
        iterator
    }

    async fn iterator(&self, position: &Position) -> Result<String> {
        let ask = self.client.get_shard_iterator().stream_arn(&self.arn).shard_id(self.id.as_str());
        let ask = match position {
            Position::TrimHorizon => ask.shard_iterator_type(ShardIteratorType::TrimHorizon),
            Position::Latest => ask.shard_iterator_type(ShardIteratorType::Latest),
            Position::At(seconds) => ask
                .shard_iterator_type(ShardIteratorType::AtTimestamp)
                .timestamp(DateTime::from_secs_f64(*seconds)),
            Position::After(sequence_number) => ask
                .shard_iterator_type(ShardIteratorType::AfterSequenceNumber)
                .starting_sequence_number(sequence_number.as_str()),
        };
        let doing = || format!("finding the place to read {} of {} from", self.id, self.arn);
        let answer = ask.send().await.map_err(|error| aws::failed(doing(), error))?;
        answer
            .shard_iterator
            .ok_or_else(|| Error::failed(format!("{}: no iterator was given", doing())))
    }
}

/// A record of the shard as the API gives it, measured by what it takes in an event.
pub(crate) fn taken(
    record: aws_sdk_kinesis::types::Record,
    shard: &ShardId,
    events: &EventWriter,
) -> Record {
    let arrival = record.approximate_arrival_timestamp.and_then(|arrival| arrival.to_millis().ok());
    let mut taken = Record {
        sequence_number: SequenceNumber::new(&record.sequence_number),
        // A stream that distributes records by itself gives none.
        partition_key: record.partition_key.filter(|key| !key.is_empty()).map(Into::into),
        data: Bytes::from(record.data.into_inner()),
        arrival: arrival.and_then(|arrival| u64::try_from(arrival).ok()).unwrap_or_default(),
        encryption_type: record
            .encryption_type
            .filter(|kind| *kind != aws_sdk_kinesis::types::EncryptionType::None)
            .map(|kind| kind.as_str().into()),
        encoded_len: 0,
    };
    taken.encoded_len = events.encoded_len(shard, &taken);
    taken
}

fn is_throttled<R>(error: &SdkError<GetRecordsError, R>) -> bool {
    error.as_service_error().is_some_and(|error| {
        error.is_provisioned_throughput_exceeded_exception()
            || error.is_kms_throttling_exception()
            || matches!(error.code(), Some("LimitExceededException" | "ThrottlingException"))
    })
}

fn seconds_now() -> f64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use aws_sdk_kinesis::primitives::Blob;

    use super::*;

    #[test]
    fn a_record_of_a_stream_that_gives_no_key_has_none() {
        let events = EventWriter::new("us-east-1", "arn:stream", "arn:role");
        let key_of = |key: Option<&str>| {
            let record =
                aws_sdk_kinesis::types::Record::builder().sequence_number("7").data(Blob::new("a"));
            let record = record.set_partition_key(key.map(str::to_owned)).build().unwrap();
            taken(record, &ShardId::numbered(0), &events).partition_key
        };
        assert_eq!(key_of(Some("key")).as_deref(), Some("key"));
        assert_eq!([key_of(None), key_of(Some(""))], [None, None]);
    }
}
