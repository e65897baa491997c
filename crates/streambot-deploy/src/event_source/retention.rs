//! Whether a queue for discarded records outlives the stream: it holds sequence numbers, which lead
//! nowhere once the stream has dropped their records. It knows the two retentions and no other
//! setting.

use aws_config::SdkConfig;
use aws_sdk_sqs::types::QueueAttributeName;

use crate::aws::failed;
use crate::error::Result;

/// Warns on standard error of a queue that keeps its messages longer than `stream` its records. A
/// deploy may lack the right to ask; that is said, and no reason to stop.
pub(crate) async fn warn_of_queue(config: &SdkConfig, destination: Option<&str>, stream: &str) {
    let Some(queue) = destination.and_then(Queue::of) else { return };
    match retentions(config, &queue, stream).await {
        Ok((messages, records)) => {
            if let Some(warning) = warning(&queue.name, messages, records) {
                crate::progress::warn(warning);
            }
        }
        Err(error) => eprintln!(
            "warning: whether queue `{}` outlives the stream could not be looked up ({error}): it holds sequence numbers, \
             so its retention must not be longer than the stream's",
            queue.name
        ),
    }
}

/// A queue by its ARN, `arn:<partition>:sqs:<region>:<account>:<name>`.
struct Queue {
    account: String,
    name: String,
}

impl Queue {
    fn of(arn: &str) -> Option<Self> {
        let parts: Vec<&str> = arn.split(':').collect();
        let [_, _, "sqs", _, account, name] = parts[..] else { return None };
        Some(Self { account: account.to_owned(), name: name.to_owned() })
    }
}

/// How long the queue keeps messages and the stream records, in seconds.
async fn retentions(config: &SdkConfig, queue: &Queue, stream: &str) -> Result<(u64, u64)> {
    let sqs = aws_sdk_sqs::Client::new(config);
    let kinesis = aws_sdk_kinesis::Client::new(config);
    let doing = || format!("reading the retention of queue `{}`", queue.name);
    let url = sqs
        .get_queue_url()
        .queue_name(&queue.name)
        .queue_owner_aws_account_id(&queue.account)
        .send()
        .await;
    let url = url.map_err(|error| failed(doing(), error))?.queue_url.unwrap_or_default();
    let attribute = QueueAttributeName::MessageRetentionPeriod;
    let (attributes, summary) = tokio::join!(
        sqs.get_queue_attributes().queue_url(url).attribute_names(attribute.clone()).send(),
        kinesis.describe_stream_summary().stream_arn(stream).send(),
    );
    let attributes =
        attributes.map_err(|error| failed(doing(), error))?.attributes.unwrap_or_default();
    let summary =
        summary.map_err(|error| failed(format!("reading the retention of {stream}"), error))?;
    let messages =
        attributes.get(&attribute).and_then(|seconds| seconds.parse().ok()).unwrap_or_default();
    let hours =
        summary.stream_description_summary.map_or(24, |summary| summary.retention_period_hours);
    Ok((messages, u64::from(hours.unsigned_abs()) * 3600))
}

fn warning(queue: &str, messages: u64, records: u64) -> Option<String> {
    (messages > records).then(|| {
        format!(
            "queue `{queue}` keeps messages for {messages} s and the stream its records for {records} s: it holds sequence \
             numbers, so the data of older messages is gone; shorten its retention, lengthen the stream's, or use an S3 bucket"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_is_told_from_a_bucket_and_a_topic() {
        assert!(
            Queue::of("arn:aws:sqs:eu-west-1:123456789012:failures")
                .is_some_and(|queue| queue.name == "failures")
        );
        for other in
            ["arn:aws:s3:::failures", "arn:aws:sns:eu-west-1:123456789012:failures", "failures"]
        {
            assert!(Queue::of(other).is_none(), "{other}");
        }
    }

    #[test]
    fn only_a_queue_that_outlives_the_stream_is_warned_of() {
        assert_eq!(warning("failures", 86_400, 86_400), None);
        let told = warning("failures", 345_600, 86_400).unwrap_or_default();
        assert!(
            told.contains("keeps messages for 345600 s and the stream its records for 86400 s"),
            "{told}"
        );
    }
}
