//! The alarms, and the topic that they are sent to. It knows the metrics that exist, not who emits
//! them.

use serde_json::{Value as Json, json};

use crate::setting::Presence;
use crate::template::Resource;
use crate::value::{Value, get_att, reference};

pub(crate) const TOPIC: &str = "AlarmSNS";
pub(crate) const ERROR_ALARM: &str = "ErrorAlarm";
pub(crate) const ITERATOR_AGE_ALARM: &str = "IteratorAgeAlarm";
pub(crate) const WRITE_THROUGHPUT_ALARM: &str = "WriteThroughputAlarm";
pub(crate) const READ_THROUGHPUT_ALARM: &str = "ReadThroughputAlarm";
pub(crate) const FUNCTION_ERROR_ALARM: &str = "FunctionErrorAlarm";
pub(crate) const FUNCTION_THROTTLE_ALARM: &str = "FunctionThrottleAlarm";
pub(crate) const FAILURE_QUEUE_ALARM: &str = "FailureQueueAlarm";

/// The namespace of the metrics that the function emits once per invocation.
pub(crate) const NAMESPACE: &str = "streambot";

/// The SNS topic that alarms are sent to.
#[derive(Clone, Debug)]
pub struct AlarmTopic {
    logical_id: String,
}

impl AlarmTopic {
    pub(crate) fn new(logical_id: String) -> Self {
        Self { logical_id }
    }

    /// The topic's ARN, for the `AlarmActions` of an alarm of one's own.
    pub fn arn(&self) -> Value<String> {
        reference(&self.logical_id).into()
    }

    /// Any invocation in a minute that left a record undone.
    pub(crate) fn error_alarm(&self, metric_name: Value<String>) -> Resource {
        self.alarm("A record could not be processed. The function's log says which, and why", 0)
            .property("Namespace", NAMESPACE)
            .property("MetricName", metric_name)
            .property("Dimensions", dimension("Status", "Error"))
    }

    /// Records that wait too long. Lambda's own metric is there for as long as it invokes, a batch
    /// that it keeps retrying included; the stream's is silent then, and is for stacks that cannot
    /// tell the function's name.
    ///
    /// See [Monitoring
    /// Kinesis](https://docs.aws.amazon.com/streams/latest/dev/monitoring-with-cloudwatch.html).
    pub(crate) fn iterator_age_alarm(
        &self,
        (has_function, function_name): &(Presence, Value<String>),
        (has_consumer, consumer_name): &(Presence, Value<String>),
        stream_name: Value<String>,
        milliseconds: Value<u32>,
    ) -> Resource {
        let of_stream =
            |metric: &'static str| (metric, dimension("StreamName", stream_name.clone()));
        let (reads, read_dimensions) = of_stream("GetRecords.IteratorAgeMilliseconds");
        let pushed_dimensions = json!([
            { "Name": "StreamName", "Value": stream_name },
            { "Name": "ConsumerName", "Value": consumer_name },
        ]);
        let metric =
            has_consumer.choose::<String>("SubscribeToShardEvent.MillisBehindLatest", reads);
        let dimensions = has_consumer
            .choose::<Json>(Value::Literal(pushed_dimensions), Value::Literal(read_dimensions));
        let of_function = Value::Literal(dimension("FunctionName", function_name.clone()));
        self.alarm(
            "Records wait too long before they are processed: the function is slow, or a batch keeps failing",
            milliseconds,
        )
        .property("Namespace", has_function.choose::<String>("AWS/Lambda", "AWS/Kinesis"))
        .property("MetricName", has_function.choose::<String>("IteratorAge", metric))
        .property("Dimensions", has_function.choose::<Json>(of_function, dimensions))
        .property("Statistic", "Maximum")
        .property("EvaluationPeriods", 5)
    }

    /// Records that producers were told to send again.
    pub(crate) fn write_throughput_alarm(
        &self,
        stream_name: Value<String>,
        records: Value<u32>,
    ) -> Resource {
        self.stream_alarm(
            "Producers write more than the stream takes: give it more shards, or spread the partition keys",
            "WriteProvisionedThroughputExceeded",
            stream_name,
            records,
        )
    }

    /// Reads that were turned away.
    pub(crate) fn read_throughput_alarm(
        &self,
        stream_name: Value<String>,
        reads: Value<u32>,
    ) -> Resource {
        self.stream_alarm(
            "Consumers read more than the stream gives: give it more shards, or the consumer an enhanced fan-out",
            "ReadProvisionedThroughputExceeded",
            stream_name,
            reads,
        )
    }

    /// Invocations that ended with no answer, such as a timeout: those that cannot emit the metric
    /// of [`error_alarm`](Self::error_alarm).
    pub(crate) fn function_error_alarm(
        &self,
        function_name: Value<String>,
        invocations: Value<u32>,
    ) -> Resource {
        self.function_alarm(
            "An invocation failed as a whole: an error, a timeout, or a function that could not start",
            "Errors",
            function_name,
            invocations,
        )
    }

    /// Invocations that Lambda turned away, for want of concurrency.
    pub(crate) fn function_throttle_alarm(
        &self,
        function_name: Value<String>,
        invocations: Value<u32>,
    ) -> Resource {
        self.function_alarm(
            "Invocations were throttled: the account or the function is out of concurrency",
            "Throttles",
            function_name,
            invocations,
        )
    }

    /// Batches that Lambda has given up on and nobody has looked at.
    pub(crate) fn failure_queue_alarm(&self, queue: &str, messages: Value<u32>) -> Resource {
        self.alarm(
            "Lambda gave up on batches: read them from the stream by the queue's sequence numbers in time",
            messages,
        )
        .property("Namespace", "AWS/SQS")
        .property("MetricName", "ApproximateNumberOfMessagesVisible")
        .property("Dimensions", dimension("QueueName", get_att(queue, "QueueName")))
        .property("Statistic", "Maximum")
    }

    fn stream_alarm(
        &self,
        description: &str,
        metric: &'static str,
        stream_name: Value<String>,
        threshold: Value<u32>,
    ) -> Resource {
        self.alarm(description, threshold)
            .property("Namespace", "AWS/Kinesis")
            .property("MetricName", metric)
            .property("Dimensions", dimension("StreamName", stream_name))
            .property("EvaluationPeriods", 5)
    }

    /// See [Lambda's
    /// metrics](https://docs.aws.amazon.com/lambda/latest/dg/monitoring-metrics-types.html).
    fn function_alarm(
        &self,
        description: &str,
        metric: &'static str,
        function_name: Value<String>,
        threshold: Value<u32>,
    ) -> Resource {
        self.alarm(description, threshold)
            .property("Namespace", "AWS/Lambda")
            .property("MetricName", metric)
            .property("Dimensions", dimension("FunctionName", function_name))
    }

    /// More than the threshold in a minute. No data is fine: a quiet stream emits none.
    fn alarm(&self, description: &str, threshold: impl Into<Value<u32>>) -> Resource {
        Resource::new("AWS::CloudWatch::Alarm")
            .property("AlarmDescription", description)
            .property("ActionsEnabled", true)
            .property("AlarmActions", json!([self.arn()]))
            .property("Statistic", "Sum")
            .property("Period", 60)
            .property("EvaluationPeriods", 1)
            .property("Threshold", threshold.into())
            .property("ComparisonOperator", "GreaterThanThreshold")
            .property("TreatMissingData", "notBreaching")
    }
}

/// The topic, with a subscription where there is an address to send to, and a key where there is
/// one. AWS's own key for SNS is no choice: [CloudWatch may not use it][aws], and every alarm would
/// be lost.
///
/// [aws]: https://docs.aws.amazon.com/sns/latest/dg/sns-key-management.html
pub(crate) fn topic(
    (has_email, email): &(Presence, Value<String>),
    (has_key, key): &(Presence, Value<String>),
) -> Resource {
    let subscription = json!([{ "Protocol": "email", "Endpoint": email }]);
    Resource::new("AWS::SNS::Topic")
        .metadata("checkov", json!({ "skip": [
            { "id": "CKV_AWS_26", "comment": "AWS's own key does not let CloudWatch publish, so a topic has a customer's key or none; alarms hold no data" },
        ] }))
        .optional_property("Subscription", has_email.piece(subscription))
        .optional_property("KmsMasterKeyId", has_key.piece(key.clone()))
}

fn dimension(name: &'static str, value: impl Into<Value<String>>) -> Json {
    json!([{ "Name": name, "Value": value.into() }])
}
