//! Where discarded records are told: a file, a queue, a topic or a bucket, in the words of Lambda's
//! on-failure destinations. It refuses to know why a record is given up.
//!
//! The body is the one recorded on AWS; the guide's page is
//! <https://docs.aws.amazon.com/lambda/latest/dg/kinesis-on-failure-destination.html>.

use std::fmt;
use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};

use aws_config::SdkConfig;
use serde::Serialize;
use uuid::Uuid;

use super::poller::{Condition, Discard};
use super::record::ShardId;
use crate::aws;
use crate::error::{Error, Result};

/// What is told of one batch that was given up. Its fields, their order and types are those of AWS.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DiscardBody {
    request_context: RequestContext,
    /// Missing where the records grew too old: the function's answer is not why they were given up.
    #[serde(skip_serializing_if = "Option::is_none")]
    response_context: Option<ResponseContext>,
    version: &'static str,
    timestamp: Time,
    #[serde(rename = "KinesisBatchInfo")]
    batch: BatchInfo,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct RequestContext {
    request_id: String,
    function_arn: String,
    condition: &'static str,
    approximate_invoke_count: u32,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ResponseContext {
    status_code: u16,
    executed_version: &'static str,
    /// `null` for failures the function reported.
    function_error: Option<&'static str>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct BatchInfo {
    shard_id: String,
    start_sequence_number: String,
    end_sequence_number: String,
    approximate_arrival_of_first_record: Time,
    approximate_arrival_of_last_record: Time,
    batch_size: usize,
    stream_arn: String,
}

/// A time in milliseconds since the Unix epoch, written as `2026-11-22T18:00:00.000Z`.
#[derive(Clone, Copy, Debug)]
struct Time(u64);

impl Time {
    fn timestamp(self) -> jiff::Timestamp {
        i64::try_from(self.0)
            .ok()
            .and_then(|at| jiff::Timestamp::from_millisecond(at).ok())
            .unwrap_or_default()
    }
}

impl fmt::Display for Time {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:.3}", self.timestamp())
    }
}

impl Serialize for Time {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl DiscardBody {
    /// What is told of this discard at `now`. `request_id` is the last invocation's; records that
    /// expired before their first attempt get one of their own.
    pub(crate) fn new(
        discard: &Discard,
        shard: &ShardId,
        request_id: &str,
        function_arn: &str,
        stream_arn: &str,
        now: u64,
    ) -> DiscardBody {
        let (condition, response_context) = match discard.condition {
            Condition::RetryAttemptsExhausted { function_error } => (
                "RetryAttemptsExhausted",
                Some(ResponseContext {
                    status_code: 200,
                    executed_version: "$LATEST",
                    function_error: function_error.then_some("Unhandled"),
                }),
            ),
            Condition::RecordAgeExceeded => ("RecordAgeExceeded", None),
        };
        let records = discard.batch.records();
        let (first, last) = (records.first(), records.last());
        let number = |record: Option<&super::record::Record>| {
            record.map(|record| record.sequence_number.to_string()).unwrap_or_default()
        };
        let arrival = |record: Option<&super::record::Record>| {
            Time(record.map_or(0, |record| record.arrival))
        };
        DiscardBody {
            request_context: RequestContext {
                request_id: request_id.to_owned(),
                function_arn: function_arn.to_owned(),
                condition,
                approximate_invoke_count: discard.approximate_invoke_count,
            },
            response_context,
            version: "1.0",
            timestamp: Time(now),
            batch: BatchInfo {
                shard_id: shard.to_string(),
                start_sequence_number: number(first),
                end_sequence_number: number(last),
                approximate_arrival_of_first_record: arrival(first),
                approximate_arrival_of_last_record: arrival(last),
                batch_size: records.len(),
                stream_arn: stream_arn.to_owned(),
            },
        }
    }
}

/// The body with the event that failed, which only S3 holds, and a file here.
#[derive(Debug, Serialize)]
struct WithPayload<'a> {
    #[serde(flatten)]
    body: &'a DiscardBody,
    payload: &'a str,
}

/// What the user names as the destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// A file of this machine.
    File(PathBuf),
    /// An SQS queue: its account and name.
    Queue {
        /// The account.
        account: String,
        /// The name.
        name: String,
        /// Its region.
        region: String,
    },
    /// An SNS topic, by its ARN.
    Topic {
        /// The ARN.
        arn: String,
        /// Its region.
        region: String,
    },
    /// An S3 bucket.
    Bucket {
        /// Its name.
        bucket: String,
        /// What keys begin with; empty, or ending in a slash.
        prefix: String,
    },
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Target, String> {
        if let Some(rest) = text.strip_prefix("s3://") {
            return Target::bucket(rest)
                .ok_or_else(|| format!("{text} names no bucket: write s3://bucket/prefix"));
        }
        if !text.starts_with("arn:") {
            return if text.is_empty() {
                Err("it names nothing".to_owned())
            } else {
                Ok(Target::File(text.into()))
            };
        }
        let parts: Vec<&str> = text.splitn(6, ':').collect();
        match parts.as_slice() {
            ["arn", _, "sqs", region, account, name] if !name.is_empty() => Ok(Target::Queue {
                account: (*account).to_owned(),
                name: (*name).to_owned(),
                region: (*region).to_owned(),
            }),
            ["arn", _, "sns", region, _, name] if !name.is_empty() => {
                Ok(Target::Topic { arn: text.to_owned(), region: (*region).to_owned() })
            }
            ["arn", _, "s3", _, _, bucket] => {
                Target::bucket(bucket).ok_or_else(|| format!("{text} names no bucket"))
            }
            _ => Err(format!(
                "{text} is no SQS queue, SNS topic or S3 bucket; those are what Lambda tells"
            )),
        }
    }
}

impl Target {
    fn bucket(rest: &str) -> Option<Target> {
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let prefix = prefix.trim_end_matches('/');
        let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
        (!bucket.is_empty()).then(|| Target::Bucket { bucket: bucket.to_owned(), prefix })
    }
}

/// Where discarded records are told.
#[derive(Debug)]
pub(crate) struct Destination {
    place: Place,
    /// The event source mapping's; made up for each run.
    mapping: Uuid,
}

#[derive(Debug)]
enum Place {
    Nowhere,
    File { path: PathBuf, file: Mutex<File> },
    Queue { client: aws_sdk_sqs::Client, url: String },
    Topic { client: aws_sdk_sns::Client, arn: String },
    Bucket { client: aws_sdk_s3::Client, bucket: String, prefix: String },
}

impl Destination {
    /// None: what is discarded is told on the console and in the journal only.
    pub(crate) fn nowhere() -> Destination {
        Destination::new(Place::Nowhere)
    }

    fn new(place: Place) -> Destination {
        Destination { place, mapping: Uuid::new_v4() }
    }

    /// A file, which is appended to.
    ///
    /// # Errors
    /// Bad usage when it cannot be written.
    pub(crate) fn file(path: PathBuf) -> Result<Destination> {
        let opened = File::options().create(true).append(true).open(&path);
        let file = opened.map_err(|error| {
            Error::usage(format!("opening the file {} for discards", path.display())).because(error)
        })?;
        Ok(Destination::new(Place::File { path, file: Mutex::new(file) }))
    }

    /// A queue, topic, bucket or file. A queue and a bucket are looked up, so that a wrong name is
    /// told before the run.
    ///
    /// # Errors
    /// When a file cannot be written; exit code 3 when there is no such queue, topic or bucket.
    pub(crate) async fn open(target: Target, config: &SdkConfig) -> Result<Destination> {
        let in_region =
            |region: String| config.to_builder().region(aws_config::Region::new(region)).build();
        let place = match target {
            Target::File(path) => return Destination::file(path),
            Target::Queue { account, name, region } => {
                let client = aws_sdk_sqs::Client::new(&in_region(region));
                let look_up =
                    client.get_queue_url().queue_name(&name).queue_owner_aws_account_id(account);
                let found = look_up.send().await.map_err(|error| {
                    let missing = error
                        .as_service_error()
                        .is_some_and(|error| error.is_queue_does_not_exist());
                    found_or_missing(format!("looking up the queue {name}"), error, missing)
                })?;
                let url = found
                    .queue_url
                    .ok_or_else(|| Error::failed(format!("the queue {name} has no URL")))?;
                Place::Queue { client, url }
            }
            Target::Topic { arn, region } => {
                let client = aws_sdk_sns::Client::new(&in_region(region));
                client.get_topic_attributes().topic_arn(&arn).send().await.map_err(|error| {
                    let missing = error
                        .as_service_error()
                        .is_some_and(|error| error.is_not_found_exception());
                    found_or_missing(format!("looking up the topic {arn}"), error, missing)
                })?;
                Place::Topic { client, arn }
            }
            Target::Bucket { bucket, prefix } => {
                let client = s3_client(config);
                client.head_bucket().bucket(&bucket).send().await.map_err(|error| {
                    let missing =
                        error.as_service_error().is_some_and(|error| error.is_not_found());
                    found_or_missing(format!("looking up the bucket {bucket}"), error, missing)
                })?;
                Place::Bucket { client, bucket, prefix }
            }
        };
        Ok(Destination::new(place))
    }

    /// Tells of a discard. `payload` is the event of its records.
    ///
    /// # Errors
    /// When the destination does not take it; the run must end then, or the records would be lost
    /// unseen.
    pub(crate) async fn send(&self, body: &DiscardBody, payload: &[u8]) -> Result<()> {
        let worded = |error: serde_json::Error| {
            Error::failed("writing what is told of a discard").because(error)
        };
        let alone = || serde_json::to_string(body).map_err(worded);
        let with_payload = || {
            let payload = String::from_utf8_lossy(payload);
            serde_json::to_string(&WithPayload { body, payload: &payload }).map_err(worded)
        };
        let shard = &body.batch.shard_id;
        let told = match &self.place {
            Place::Nowhere => Ok(()),
            Place::File { path, file } => {
                let line = format!("{}\n", with_payload()?);
                let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
                let doing = || format!("telling {} of a discard of {shard}", path.display());
                file.write_all(line.as_bytes())
                    .map_err(|error| Error::failed(doing()).because(error))
            }
            Place::Queue { client, url } => {
                let sent = client.send_message().queue_url(url).message_body(alone()?).send().await;
                sent.map(drop).map_err(|error| {
                    aws::failed(format!("telling {url} of a discard of {shard}"), error)
                })
            }
            Place::Topic { client, arn } => {
                let sent = client.publish().topic_arn(arn).message(alone()?).send().await;
                sent.map(drop).map_err(|error| {
                    aws::failed(format!("telling {arn} of a discard of {shard}"), error)
                })
            }
            Place::Bucket { client, bucket, prefix } => {
                let key = format!("{prefix}{}", object_key(self.mapping, body, Uuid::new_v4()));
                let put = client
                    .put_object()
                    .bucket(bucket)
                    .key(&key)
                    .body(with_payload()?.into_bytes().into());
                let doing = || format!("telling s3://{bucket}/{key} of a discard of {shard}");
                put.send().await.map(drop).map_err(|error| aws::failed(doing(), error))
            }
        };
        told.map_err(|error| {
            error.hint("make the destination writable and run again: the records are not told of")
        })
    }
}

/// A client of S3, with path style where there is an endpoint of one's own, so that it needs no
/// name for every bucket.
pub(crate) fn s3_client(config: &SdkConfig) -> aws_sdk_s3::Client {
    let path_style = config.endpoint_url().is_some();
    let settings = aws_sdk_s3::config::Builder::from(config).force_path_style(path_style).build();
    aws_sdk_s3::Client::from_conf(settings)
}

/// The error of a look-up, with the exit code for what is not there.
fn found_or_missing<E, R>(
    doing: String,
    error: aws_sdk_lambda::error::SdkError<E, R>,
    missing: bool,
) -> Error
where
    E: aws_sdk_lambda::error::ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    R: std::fmt::Debug + Send + Sync + 'static,
{
    if missing {
        Error::missing(format!("{doing} for discards: there is none"))
            .hint("check its name, account and region, and --endpoint-url")
    } else {
        aws::failed(format!("{doing} for discards"), error)
    }
}

/// `aws/lambda/<mapping>/<shard>/YYYY/MM/DD/YYYY-MM-DDTHH.MM.SS-<UUID>`, as documented.
fn object_key(mapping: Uuid, body: &DiscardBody, object: Uuid) -> String {
    let at = body.timestamp.timestamp();
    let (day, time) = (at.strftime("%Y/%m/%d"), at.strftime("%Y-%m-%dT%H.%M.%S"));
    format!("aws/lambda/{mapping}/{}/{day}/{time}-{object}", body.batch.shard_id)
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;
    use crate::local::record::testing::batch;

    /// Records with these numbers, given up.
    pub(crate) fn discard(
        numbers: &[u64],
        condition: Condition,
        approximate_invoke_count: u32,
    ) -> Discard {
        let batch = batch(numbers.iter().copied());
        Discard {
            lane: 0,
            batch,
            condition,
            approximate_invoke_count,
            was_sent: true,
            window: None,
        }
    }

    /// What is told of two records that were given up.
    pub(crate) fn body() -> DiscardBody {
        let condition = Condition::RetryAttemptsExhausted { function_error: true };
        let discard = discard(&[7, 8], condition, 2);
        DiscardBody::new(
            &discard,
            &ShardId::numbered(0),
            "a-b",
            "function",
            "stream",
            1_795_370_400_000,
        )
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::testing::{body, discard};
    use super::*;

    /// "What is discarded goes to OnFailure", recorded on AWS.
    #[test]
    fn the_body_is_the_one_recorded() {
        let expected = concat!(
            r#"{"requestContext":{"requestId":"a-b","functionArn":"function","condition":"RetryAttemptsExhausted","#,
            r#""approximateInvokeCount":2},"#,
            r#""responseContext":{"statusCode":200,"executedVersion":"$LATEST","functionError":"Unhandled"},"#,
            r#""version":"1.0","timestamp":"2026-11-22T18:00:00.000Z","#,
            r#""KinesisBatchInfo":{"shardId":"shardId-000000000000","startSequenceNumber":"7","endSequenceNumber":"8","#,
            r#""approximateArrivalOfFirstRecord":"1970-01-01T00:00:00.000Z","#,
            r#""approximateArrivalOfLastRecord":"1970-01-01T00:00:00.000Z","batchSize":2,"streamArn":"stream"}}"#,
        );
        assert_eq!(serde_json::to_string(&body()).unwrap(), expected);
        let with_payload =
            serde_json::to_string(&WithPayload { body: &body(), payload: r#"{"Records":[]}"# })
                .unwrap();
        let end = r#","payload":"{\"Records\":[]}"}"#;
        assert_eq!(with_payload, format!("{}{end}", &expected[..expected.len() - 1]));
    }

    /// `functionError` is `null` for reported failures; `RecordAgeExceeded` comes without
    /// `responseContext`: recorded on AWS.
    #[test]
    fn a_reported_failure_and_an_expired_record_are_told_apart() {
        let written = |condition| {
            let discard = discard(&[7], condition, 1);
            serde_json::to_value(DiscardBody::new(&discard, &ShardId::numbered(0), "", "", "", 0))
                .unwrap()
        };
        let reported = written(Condition::RetryAttemptsExhausted { function_error: false });
        assert!(reported["responseContext"].as_object().unwrap()["functionError"].is_null());
        let expired = written(Condition::RecordAgeExceeded);
        assert_eq!(expired["requestContext"]["condition"], "RecordAgeExceeded");
        assert!(!expired.as_object().unwrap().contains_key("responseContext"));
    }

    /// The key's form is documented with S3 destinations.
    #[test]
    fn an_object_is_named_after_the_mapping_the_shard_and_the_time() {
        let key = object_key(Uuid::from_u128(1), &body(), Uuid::from_u128(2));
        assert_eq!(
            key,
            "aws/lambda/00000000-0000-0000-0000-000000000001/shardId-000000000000/2026/11/22/\
             2026-11-22T18.00.00-00000000-0000-0000-0000-000000000002"
        );
    }

    #[test]
    fn a_destination_is_a_file_unless_it_is_named_as_aws_does() {
        let target = |text: &str| text.parse::<Target>();
        assert_eq!(target("lost.ndjson"), Ok(Target::File("lost.ndjson".into())));
        let queue = Target::Queue {
            account: "1".to_owned(),
            name: "lost".to_owned(),
            region: "eu-west-1".to_owned(),
        };
        assert_eq!(target("arn:aws:sqs:eu-west-1:1:lost"), Ok(queue));
        let arn = "arn:aws-cn:sns:cn-north-1:1:lost".to_owned();
        assert_eq!(
            target(&arn),
            Ok(Target::Topic { arn: arn.clone(), region: "cn-north-1".to_owned() })
        );
        let bucket = |prefix: &str| {
            Ok(Target::Bucket { bucket: "lost".to_owned(), prefix: prefix.to_owned() })
        };
        assert_eq!(target("s3://lost"), bucket(""));
        assert_eq!(target("s3://lost/of/mine/"), bucket("of/mine/"));
        assert_eq!(target("arn:aws:s3:::lost"), bucket(""));
        for wrong in ["", "s3://", "arn:aws:lambda:us-east-1:1:function:x", "arn:aws:sqs"] {
            assert!(target(wrong).is_err(), "{wrong}");
        }
    }
}
