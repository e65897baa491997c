//! The event Lambda sends for a batch of Kinesis records, written field by field into one buffer.
//! It knows the JSON and its size, and refuses to know which records make a batch.

use base64::engine::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

use super::record::{Batch, Record, ShardId};
use super::window::{Frame, Moment};

/// The most bytes the records of one event may take, encoded: the 6 MB of an invocation's payload
/// without the envelope. <https://docs.aws.amazon.com/lambda/latest/dg/with-kinesis.html>
pub(crate) const MAXIMUM_RECORDS_BYTES: usize =
    6 * 1024 * 1024 - ENVELOPE_START.len() - ENVELOPE_END.len();

const ENVELOPE_START: &str = r#"{"Records":["#;
const ENVELOPE_END: &str = "]}";
const PARTITION_KEY: &str = r#"{"kinesis":{"kinesisSchemaVersion":"1.0","partitionKey":"#;
const NULL: &str = "null";
const SEQUENCE_NUMBER: &str = r#","sequenceNumber":""#;
const DATA: &str = r#"","data":""#;
const ARRIVAL: &str = r#"","approximateArrivalTimestamp":"#;
const ENCRYPTION_TYPE: &str = r#","encryptionType":"#;
const EVENT_ID: &str = r#"},"eventSource":"aws:kinesis","eventVersion":"1.0","eventID":""#;
const EVENT_NAME: &str = r#"","eventName":"aws:kinesis:record","#;

/// Writes the events of one stream.
#[derive(Clone, Debug)]
pub(crate) struct EventWriter {
    /// What every record of the stream ends with.
    tail: String,
    /// The stream's ARN as a JSON text.
    stream_arn: String,
}

impl EventWriter {
    /// For records of the stream `stream_arn`, read with the rights of the role `role_arn`.
    pub(crate) fn new(region: &str, stream_arn: &str, role_arn: &str) -> EventWriter {
        let [role_arn, region, stream_arn] = [role_arn, region, stream_arn].map(quoted);
        let tail = format!(
            r#"{EVENT_NAME}"invokeIdentityArn":{role_arn},"awsRegion":{region},"eventSourceARN":{stream_arn}}}"#
        );
        EventWriter { tail, stream_arn }
    }

    /// The bytes a record takes in an event, with the comma that follows it.
    pub(crate) fn encoded_len(&self, shard: &ShardId, record: &Record) -> usize {
        const FIXED: usize = PARTITION_KEY.len()
            + SEQUENCE_NUMBER.len()
            + DATA.len()
            + ARRIVAL.len()
            + EVENT_ID.len();
        let sequence_number = record.sequence_number.as_str().len();
        let data = record.data.len().div_ceil(3) * 4;
        let arrival = (record.arrival / 1000).max(1).ilog10() as usize + 1 + ".000".len();
        let event_id = shard.as_str().len() + 1 + sequence_number;
        let partition_key = record.partition_key.as_deref().map_or(NULL.len(), quoted_len);
        let encryption_type = record
            .encryption_type
            .as_ref()
            .map_or(0, |kind| ENCRYPTION_TYPE.len() + quoted_len(kind));
        FIXED
            + encryption_type
            + partition_key
            + sequence_number
            + data
            + arrival
            + event_id
            + self.tail.len()
            + ",".len()
    }

    /// The event for a batch of the shard, with what is to be said of its tumbling window.
    pub(crate) fn write(&self, shard: &ShardId, batch: &Batch, window: Option<&Frame>) -> Bytes {
        let records: usize = batch.records().iter().map(|record| record.encoded_len).sum();
        let mut event = String::with_capacity(ENVELOPE_START.len() + records + ENVELOPE_END.len());
        event.push_str(ENVELOPE_START);
        for (index, record) in batch.records().iter().enumerate() {
            if index > 0 {
                event.push(',');
            }
            self.write_record(&mut event, shard, record);
        }
        match window {
            Some(frame) => self.write_window(&mut event, shard, frame),
            None => event.push_str(ENVELOPE_END),
        }
        Bytes::from(event)
    }

    fn write_window(&self, event: &mut String, shard: &ShardId, frame: &Frame) {
        event.push_str(&format!(
            r#"],"window":{{"start":"{}","end":"{}"}},"state":{},"shardId":"{shard}","eventSourceARN":{},"#,
            Moment(frame.window.start),
            Moment(frame.window.end),
            frame.state.as_str(),
            self.stream_arn,
        ));
        event.push_str(&format!(
            r#""isFinalInvokeForWindow":{},"isWindowTerminatedEarly":{}}}"#,
            frame.is_final, frame.is_terminated_early,
        ));
    }

    fn write_record(&self, event: &mut String, shard: &ShardId, record: &Record) {
        let sequence_number = record.sequence_number.as_str();
        event.push_str(PARTITION_KEY);
        match &record.partition_key {
            Some(key) => push_quoted(event, key),
            None => event.push_str(NULL),
        }
        event.push_str(SEQUENCE_NUMBER);
        event.push_str(sequence_number);
        event.push_str(DATA);
        STANDARD.encode_string(&record.data, event);
        event.push_str(ARRIVAL);
        // Seconds, with the milliseconds as decimals.
        event.push_str(&format!("{}.{:03}", record.arrival / 1000, record.arrival % 1000));
        if let Some(encryption_type) = &record.encryption_type {
            event.push_str(ENCRYPTION_TYPE);
            push_quoted(event, encryption_type);
        }
        event.push_str(EVENT_ID);
        event.push_str(shard.as_str());
        event.push(':');
        event.push_str(sequence_number);
        event.push_str(&self.tail);
    }
}

fn is_plain(text: &str) -> bool {
    text.bytes().all(|byte| byte >= 0x20 && byte != b'"' && byte != b'\\')
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn quoted_len(text: &str) -> usize {
    if is_plain(text) { text.len() + 2 } else { quoted(text).len() }
}

fn push_quoted(event: &mut String, text: &str) {
    if is_plain(text) {
        event.push('"');
        event.push_str(text);
        event.push('"');
    } else {
        event.push_str(&quoted(text));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::local::record::SequenceNumber;
    use crate::local::window::{State, Window};

    fn writer() -> EventWriter {
        EventWriter::new(
            "us-east-1",
            "arn:aws:kinesis:us-east-1:000000000000:stream/quakes",
            "arn:aws:iam::000000000000:role/lambda/quakes",
        )
    }

    fn record(shard: &ShardId, partition_key: &str, data: &'static str, arrival: u64) -> Record {
        let mut record = Record {
            sequence_number: SequenceNumber::new(
                "49590338271490256608559692538361571095921575989136588898",
            ),
            partition_key: Some(partition_key.into()),
            data: Bytes::from(data),
            arrival,
            encryption_type: None,
            encoded_len: 0,
        };
        record.encoded_len = writer().encoded_len(shard, &record);
        record
    }

    #[test]
    fn an_event_is_written_as_lambda_writes_it() {
        let shard = ShardId::numbered(6);
        let batch =
            Batch::new(vec![record(&shard, "1", "Hello, this is a test.", 1_545_084_650_987)]);
        let expected = concat!(
            r#"{"Records":[{"kinesis":{"kinesisSchemaVersion":"1.0","partitionKey":"1","#,
            r#""sequenceNumber":"49590338271490256608559692538361571095921575989136588898","#,
            r#""data":"SGVsbG8sIHRoaXMgaXMgYSB0ZXN0Lg==","approximateArrivalTimestamp":1545084650.987},"#,
            r#""eventSource":"aws:kinesis","eventVersion":"1.0","#,
            r#""eventID":"shardId-000000000006:49590338271490256608559692538361571095921575989136588898","#,
            r#""eventName":"aws:kinesis:record","#,
            r#""invokeIdentityArn":"arn:aws:iam::000000000000:role/lambda/quakes","awsRegion":"us-east-1","#,
            r#""eventSourceARN":"arn:aws:kinesis:us-east-1:000000000000:stream/quakes"}]}"#,
        );
        assert_eq!(writer().write(&shard, &batch, None), expected);
    }

    /// The fields after the records are those of the event in the Lambda guide, in its order.
    #[test]
    fn an_event_of_a_window_says_where_it_stands() {
        let frame = Frame {
            window: Window::holding(1_607_497_475_000, 120_000),
            state: State::new(r#"{"1":282,"2":715}"#),
            is_final: true,
            is_terminated_early: false,
        };
        let expected = concat!(
            r#"{"Records":[],"window":{"start":"2020-12-09T07:04:00Z","end":"2020-12-09T07:06:00Z"},"#,
            r#""state":{"1":282,"2":715},"shardId":"shardId-000000000006","#,
            r#""eventSourceARN":"arn:aws:kinesis:us-east-1:000000000000:stream/quakes","#,
            r#""isFinalInvokeForWindow":true,"isWindowTerminatedEarly":false}"#,
        );
        assert_eq!(writer().write(&ShardId::numbered(6), &Batch::new([]), Some(&frame)), expected);
    }

    /// "Streams with encryption also carry `encryptionType` in `kinesis`."
    #[test]
    fn a_record_of_an_encrypted_stream_says_so_and_is_measured_with_it() {
        let shard = ShardId::numbered(0);
        let mut encrypted = Record {
            encryption_type: Some("KMS".into()),
            ..record(&shard, "key", "a", 1_545_084_650_987)
        };
        encrypted.encoded_len = writer().encoded_len(&shard, &encrypted);
        let [one, two] = [1, 2]
            .map(|count| writer().write(&shard, &Batch::new(vec![encrypted.clone(); count]), None));
        assert_eq!(encrypted.encoded_len, two.len() - one.len());
        let event: serde_json::Value = serde_json::from_slice(&two).unwrap();
        assert_eq!(event["Records"][1]["kinesis"]["encryptionType"], "KMS");
    }

    #[test]
    fn a_record_without_a_partition_key_has_null_and_is_measured_with_it() {
        let shard = ShardId::numbered(0);
        let mut without_key =
            Record { partition_key: None, ..record(&shard, "key", "a", 1_545_084_650_987) };
        without_key.encoded_len = writer().encoded_len(&shard, &without_key);
        let [one, two] = [1, 2].map(|count| {
            writer().write(&shard, &Batch::new(vec![without_key.clone(); count]), None)
        });
        assert_eq!(without_key.encoded_len, two.len() - one.len());
        let event: serde_json::Value = serde_json::from_slice(&two).unwrap();
        assert_eq!(event["Records"][1]["kinesis"]["partitionKey"], serde_json::Value::Null);
    }

    #[test]
    fn the_size_of_a_record_is_told_exactly() {
        let shard = ShardId::numbered(0);
        for (key, data, arrival) in [
            ("key", "", 1_545_084_650_007),
            ("a \"quoted\" \\ key\n\u{1}", "a", 1_700_000_000_000),
            ("ключ", "ab", 0),
            ("key", "abc", 999_999_999_999),
        ] {
            let one =
                writer().write(&shard, &Batch::new(vec![record(&shard, key, data, arrival)]), None);
            let two = writer().write(
                &shard,
                &Batch::new(vec![record(&shard, key, data, arrival); 2]),
                None,
            );
            assert_eq!(
                record(&shard, key, data, arrival).encoded_len,
                two.len() - one.len(),
                "{key:?}"
            );
            let event: serde_json::Value = serde_json::from_slice(&two).unwrap();
            assert_eq!(event["Records"][1]["kinesis"]["partitionKey"], key);
        }
    }
}
