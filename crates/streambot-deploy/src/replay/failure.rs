//! What a failure destination says of one batch that Lambda gave up, and the order in which batches
//! are played again. Values only; it refuses to know where they are kept.
//!
//! <https://docs.aws.amazon.com/lambda/latest/dg/kinesis-on-failure-destination.html>

use std::collections::HashSet;

use bytes::Bytes;
use serde::Deserialize;

use crate::local::record::{Batch, Record, SequenceNumber, ShardId};

/// A batch that Lambda gave up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    /// ARN of what Lambda invoked.
    pub(crate) function: String,
    /// ARN of the stream.
    pub(crate) stream: String,
    /// The shard.
    pub(crate) shard: ShardId,
    /// The first record.
    pub(crate) start: SequenceNumber,
    /// The last record.
    pub(crate) end: SequenceNumber,
    /// How many records it had.
    pub(crate) records: usize,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    request_context: RequestContext,
    #[serde(rename = "KinesisBatchInfo")]
    batch: BatchInfo,
    payload: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RequestContext {
    function_arn: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BatchInfo {
    shard_id: String,
    start_sequence_number: String,
    end_sequence_number: String,
    batch_size: usize,
    stream_arn: String,
}

impl Failure {
    /// Reads what is told of a batch, and the event it was sent as where that is told too.
    ///
    /// # Errors
    /// Why it is not what Lambda writes.
    pub(crate) fn read(body: &[u8]) -> Result<(Self, Option<String>), String> {
        let Body { request_context, batch, payload } = serde_json::from_slice(body)
            .map_err(|error| format!("it is not what Lambda tells of a batch: {error}"))?;
        let number = |digits: &str| {
            let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
            is_number
                .then(|| SequenceNumber::new(digits))
                .ok_or_else(|| format!("`{digits}` is no sequence number"))
        };
        let (start, end) =
            (number(&batch.start_sequence_number)?, number(&batch.end_sequence_number)?);
        if end < start {
            return Err(format!("its batch ends at {end}, before it starts at {start}"));
        }
        let failure = Self {
            function: request_context.function_arn,
            stream: batch.stream_arn,
            shard: ShardId::named(&batch.shard_id),
            start,
            end,
            records: batch.batch_size,
        };
        Ok((failure, payload))
    }

    /// Whether the batch was sent to function `name`, whatever its version or alias.
    pub(crate) fn is_of(&self, name: &str) -> bool {
        self.function.split(':').nth(6) == Some(name)
    }

    /// The region its stream is in.
    pub(crate) fn region(&self) -> &str {
        self.stream.split(':').nth(3).unwrap_or_default()
    }

    /// The shard it is of, among all streams.
    pub(crate) fn lane(&self) -> (String, String) {
        (self.stream.clone(), self.shard.to_string())
    }
}

/// The records of an event as far as its answer is read by them: their sequence numbers.
///
/// # Errors
/// Why it cannot be sent again.
pub(crate) fn batch_of(event: &str) -> Result<Batch, String> {
    #[derive(Deserialize)]
    struct Event {
        #[serde(rename = "Records")]
        records: Vec<Sent>,
        window: Option<serde_json::Value>,
    }
    #[derive(Deserialize)]
    struct Sent {
        kinesis: Kinesis,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Kinesis {
        sequence_number: String,
    }
    let Event { records, window } = serde_json::from_str(event)
        .map_err(|error| format!("its payload is no event of Kinesis: {error}"))?;
    if window.is_some() {
        return Err(WINDOWED.to_owned());
    }
    let records = records.into_iter().map(|Sent { kinesis }| Record {
        sequence_number: SequenceNumber::new(&kinesis.sequence_number),
        partition_key: None,
        data: Bytes::new(),
        arrival: 0,
        encryption_type: None,
        encoded_len: 0,
    });
    Ok(Batch::new(records.collect::<Vec<_>>()))
}

/// Why a batch of a tumbling window is not played again.
pub(crate) const WINDOWED: &str = "its mapping has a tumbling window: the window's state went on without the batch, and what an invocation \
     outside of it answers would be lost";

/// One batch, and where it is kept.
#[derive(Debug, Clone)]
pub(crate) struct Held<K> {
    /// What is told of it.
    pub(crate) failure: Failure,
    /// Its name there, for messages.
    pub(crate) name: String,
    /// What it is read and removed by.
    pub(crate) key: K,
}

/// A batch that is not played again, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refused {
    /// Its name where it is kept.
    pub(crate) name: String,
    /// How many records it has, where that is known.
    pub(crate) records: usize,
    /// Why.
    pub(crate) why: String,
    /// Whether that is a failure, rather than what was asked for.
    pub(crate) is_failure: bool,
}

/// Chooses among what was found the batches of function `name`, at most `limit`, in the order of
/// their shards. A shard's batches are in the order of their records, and shards in that of their
/// numbers, so that a parent comes before its children.
pub(crate) fn choose<K>(
    found: Vec<(String, K, Result<Failure, String>)>,
    name: &str,
    limit: Option<usize>,
) -> (Vec<Held<K>>, Vec<Refused>) {
    let (mut chosen, mut refused) = (Vec::new(), Vec::new());
    for (place, key, read) in found {
        match read {
            Ok(failure) if failure.is_of(name) => chosen.push(Held { failure, name: place, key }),
            Ok(failure) => refused.push(Refused {
                name: place,
                records: failure.records,
                why: format!("it is of another function, {}", failure.function),
                is_failure: false,
            }),
            Err(why) => refused.push(Refused { name: place, records: 0, why, is_failure: true }),
        }
    }
    chosen.sort_by(|Held { failure: left, .. }, Held { failure: right, .. }| {
        left.lane().cmp(&right.lane()).then_with(|| left.start.cmp(&right.start))
    });
    let beyond = chosen.split_off(limit.unwrap_or(usize::MAX).min(chosen.len()));
    refused.extend(beyond.into_iter().map(|held| Refused {
        name: held.name,
        records: held.failure.records,
        why: "it is beyond --limit".to_owned(),
        is_failure: false,
    }));
    (chosen, refused)
}

/// The shards of which a batch was not done: what follows it there has to wait for it.
#[derive(Debug, Default)]
pub(crate) struct Blocked(HashSet<(String, String)>);

impl Blocked {
    /// A batch was not done.
    pub(crate) fn block(&mut self, failure: &Failure) {
        self.0.insert(failure.lane());
    }

    /// Whether a batch has to wait.
    pub(crate) fn holds(&self, failure: &Failure) -> bool {
        self.0.contains(&failure.lane())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// The body recorded on AWS.
    fn body(function: &str, shard: &str, numbers: (&str, &str)) -> Value {
        json!({
            "requestContext": { "requestId": "1", "functionArn": function, "condition": "RetryAttemptsExhausted",
                "approximateInvokeCount": 2 },
            "responseContext": { "statusCode": 200, "executedVersion": "$LATEST", "functionError": "Unhandled" },
            "version": "1.0", "timestamp": "2026-11-22T18:00:00.000Z",
            "KinesisBatchInfo": { "shardId": shard, "startSequenceNumber": numbers.0, "endSequenceNumber": numbers.1,
                "approximateArrivalOfFirstRecord": "2026-11-22T18:00:00.000Z",
                "approximateArrivalOfLastRecord": "2026-11-22T18:00:00.000Z", "batchSize": 2,
                "streamArn": "arn:aws:kinesis:eu-west-1:1:stream/quakes" },
        })
    }

    const FUNCTION: &str = "arn:aws:lambda:eu-west-1:1:function:quakes-staging:current";

    fn read(body: &Value) -> Result<(Failure, Option<String>), String> {
        Failure::read(body.to_string().as_bytes())
    }

    #[test]
    fn what_lambda_tells_is_read_with_and_without_the_event() {
        let mut told = body(FUNCTION, "shardId-000000000000", ("7", "12"));
        let (failure, payload) = read(&told).unwrap();
        assert_eq!((failure.start.as_str(), failure.end.as_str(), failure.records), ("7", "12", 2));
        assert_eq!(failure.region(), "eu-west-1");
        assert!(failure.is_of("quakes-staging") && !failure.is_of("quakes"));
        assert_eq!(payload, None);
        told["payload"] = json!(r#"{"Records":[]}"#);
        assert_eq!(read(&told).unwrap().1.as_deref(), Some(r#"{"Records":[]}"#));
    }

    #[test]
    fn what_lambda_would_not_tell_is_refused_and_says_why() {
        let wrong = |numbers| read(&body(FUNCTION, "s", numbers)).unwrap_err();
        assert!(wrong(("12", "7")).contains("before it starts"));
        assert!(wrong(("", "7")).contains("no sequence number"));
        assert!(wrong(("7", "x")).contains("no sequence number"));
        for text in ["", "hello", "{}", r#"{"KinesisBatchInfo":{}}"#] {
            let why = Failure::read(text.as_bytes()).unwrap_err();
            assert!(why.starts_with("it is not what Lambda tells of a batch: "), "{why}");
        }
    }

    #[test]
    fn an_event_is_known_by_its_sequence_numbers() {
        let event = r#"{"Records":[{"kinesis":{"sequenceNumber":"7"}},{"kinesis":{"sequenceNumber":"12"}}]}"#;
        assert_eq!(batch_of(event).unwrap().position("12"), Some(1));
        assert!(batch_of("[]").unwrap_err().contains("no event of Kinesis"));
        assert_eq!(
            batch_of(r#"{"Records":[],"window":{"start":"a","end":"b"}}"#).unwrap_err(),
            WINDOWED
        );
    }

    #[test]
    fn batches_go_by_shard_and_by_number_and_the_rest_is_named() {
        let found = |name: &str, function: &str, shard: &str, start: &str| {
            (
                name.to_owned(),
                (),
                read(&body(function, shard, (start, "999"))).map(|(failure, _)| failure),
            )
        };
        let all = vec![
            found("d", FUNCTION, "shardId-000000000001", "2"),
            found("c", FUNCTION, "shardId-000000000000", "100"),
            found("b", FUNCTION, "shardId-000000000000", "20"),
            found(
                "other",
                "arn:aws:lambda:eu-west-1:1:function:orders",
                "shardId-000000000000",
                "1",
            ),
            ("broken".to_owned(), (), Err("why".to_owned())),
        ];
        let (chosen, refused) = choose(all, "quakes-staging", Some(2));
        assert_eq!(chosen.iter().map(|held| held.name.as_str()).collect::<Vec<_>>(), ["b", "c"]);
        let refused: Vec<_> =
            refused.iter().map(|refused| (refused.name.as_str(), refused.is_failure)).collect();
        assert_eq!(refused, [("other", false), ("broken", true), ("d", false)]);
    }

    #[test]
    fn a_batch_waits_only_for_its_own_shard() {
        let failure = |shard: &str| read(&body(FUNCTION, shard, ("1", "2"))).unwrap().0;
        let mut blocked = Blocked::default();
        blocked.block(&failure("one"));
        assert!(blocked.holds(&failure("one")) && !blocked.holds(&failure("two")));
    }
}
