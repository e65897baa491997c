//! All settings of Streambot, under a prefix of their own: what is a parameter of the template, and
//! how it is asked for. This module knows what each setting means to whoever fills it in, not what
//! is made of it.

use crate::failure::FailureDestination;
use crate::logs;
use crate::setting::{Choice, Setting};
use crate::stream::StreamMode;
use crate::template::{Parameter, Template};

/// What stands before the names of all parts, so that two Streambots fit in one template.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Prefix(pub(crate) String);

impl Prefix {
    pub(crate) fn name(&self, name: &str) -> String {
        format!("{}{name}", self.0)
    }
}

/// Each setting is described where it is set: see the setters of [`Streambot`](crate::Streambot).
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Settings {
    pub(crate) alarm_email: Setting<String>,
    pub(crate) log_bucket: Setting<String>,
    pub(crate) log_prefix: Setting<String>,
    pub(crate) kinesis_stream_arn: Setting<String>,
    pub(crate) number_of_shards: Setting<u32>,
    pub(crate) function_name: Setting<String>,
    pub(crate) stream_mode: Setting<StreamMode>,
    pub(crate) retention_hours: Setting<u32>,
    pub(crate) stream_key_arn: Setting<String>,
    pub(crate) max_record_size_in_kib: Setting<u32>,
    pub(crate) shard_level_metrics: Setting<bool>,
    pub(crate) enhanced_fan_out: Setting<bool>,
    pub(crate) failure_destination: Setting<FailureDestination>,
    pub(crate) failure_retention_days: Setting<u32>,
    pub(crate) log_retention_days: Setting<u32>,
    pub(crate) alarm_key_arn: Setting<String>,
    pub(crate) iterator_age_threshold: Setting<u32>,
    pub(crate) write_throughput_threshold: Setting<u32>,
    pub(crate) read_throughput_threshold: Setting<u32>,
    pub(crate) function_error_threshold: Setting<u32>,
    pub(crate) function_throttle_threshold: Setting<u32>,
    pub(crate) failure_queue_threshold: Setting<u32>,
    pub(crate) dashboard: Setting<bool>,
}

impl Settings {
    pub(crate) fn new(prefix: &Prefix) -> Self {
        Self {
            alarm_email: Setting::parameter(prefix.name("AlarmEmail")),
            log_bucket: Setting::parameter(prefix.name("LogBucket")),
            log_prefix: Setting::parameter(prefix.name("LogPrefix")),
            kinesis_stream_arn: Setting::parameter(prefix.name("KinesisStreamArn")),
            number_of_shards: Setting::parameter(prefix.name("NumberOfShards")),
            function_name: Setting::parameter(prefix.name("FunctionName")),
            stream_mode: Setting::parameter(prefix.name("StreamMode")),
            retention_hours: Setting::parameter(prefix.name("RetentionHours")),
            stream_key_arn: Setting::parameter(prefix.name("StreamKeyArn")),
            max_record_size_in_kib: Setting::parameter(prefix.name("MaxRecordSizeInKiB")),
            shard_level_metrics: Setting::parameter(prefix.name("ShardLevelMetrics")),
            enhanced_fan_out: Setting::parameter(prefix.name("EnhancedFanOut")),
            failure_destination: Setting::parameter(prefix.name("FailureDestinationType")),
            failure_retention_days: Setting::parameter(prefix.name("FailureRetentionDays")),
            log_retention_days: Setting::parameter(prefix.name("LogRetentionDays")),
            alarm_key_arn: Setting::parameter(prefix.name("AlarmKeyArn")),
            iterator_age_threshold: Setting::parameter(prefix.name("IteratorAgeThreshold")),
            write_throughput_threshold: Setting::parameter(prefix.name("WriteThroughputThreshold")),
            read_throughput_threshold: Setting::parameter(prefix.name("ReadThroughputThreshold")),
            function_error_threshold: Setting::parameter(prefix.name("FunctionErrorThreshold")),
            function_throttle_threshold: Setting::parameter(
                prefix.name("FunctionThrottleThreshold"),
            ),
            failure_queue_threshold: Setting::parameter(prefix.name("FailureQueueThreshold")),
            dashboard: Setting::parameter(prefix.name("DashboardEnabled")),
        }
    }

    /// Adds a parameter for each setting that is one, in the order they are asked for.
    pub(crate) fn add_parameters(&self, template: &mut Template) {
        self.add_first_parameters(template);
        self.add_stream_parameters(template);
        self.add_alarm_parameters(template);
    }

    /// Those of 1.0, and the function's name.
    fn add_first_parameters(&self, template: &mut Template) {
        add(
            template,
            &self.alarm_email,
            text("Optional: email address that alarms are sent to")
                .allowed_pattern(r"^$|^[^@\s]+@[^@\s]+$", "an email address, or empty"),
        );
        add(
            template,
            &self.log_bucket,
            text("Optional: S3 bucket that each invocation's log is stored in"),
        );
        add(
            template,
            &self.log_prefix,
            text("Optional: what the keys of log objects start with, before a slash"),
        );
        add(
            template,
            &self.kinesis_stream_arn,
            text("Optional: ARN of an existing Kinesis stream to read, instead of a new one")
                .allowed_pattern(
                    r"^$|^arn:[a-z0-9-]+:kinesis:[a-z0-9-]+:\d{12}:stream/[a-zA-Z0-9_.-]+$",
                    "the ARN of a Kinesis stream, or empty",
                ),
        );
        add(
            template,
            &self.number_of_shards,
            number("Optional: how many shards the new stream has", 1).min_value(1),
        );
        add(
            template,
            &self.function_name,
            text("Optional: name of the function, for the alarms on its errors and throttles"),
        );
    }

    fn add_stream_parameters(&self, template: &mut Template) {
        let modes = [StreamMode::Provisioned, StreamMode::OnDemand];
        add(
            template,
            &self.stream_mode,
            choice(
                "Optional: whether the new stream has a number of shards, or as many as its traffic needs",
                &modes,
            ),
        );
        add(
            template,
            &self.retention_hours,
            zero_or("Optional: hours that the new stream keeps records, 24 to 8760; 0 leaves them as they are")
                .allowed_pattern(
                    r"^0$|^2[4-9]$|^[3-9]\d$|^[1-9]\d{2}$|^[1-7]\d{3}$|^8[0-6]\d{2}$|^87[0-5]\d$|^8760$",
                    "0, or 24 to 8760",
                ),
        );
        add(
            template,
            &self.stream_key_arn,
            key(
                "Optional: ARN of the KMS key that the stream is encrypted with, instead of alias/aws/kinesis",
            ),
        );
        add(
            template,
            &self.max_record_size_in_kib,
            zero_or("Optional: KiB that one record may have, 1024 to 10240; 0 leaves it as it is").allowed_pattern(
                r"^0$|^102[4-9]$|^10[3-9]\d$|^1[1-9]\d{2}$|^[2-9]\d{3}$|^10[01]\d{2}$|^102[0-3]\d$|^10240$",
                "0, or 1024 to 10240",
            ),
        );
        add(
            template,
            &self.shard_level_metrics,
            switch("Optional: whether the new stream has metrics of each shard, which cost extra"),
        );
        add(
            template,
            &self.enhanced_fan_out,
            switch(
                "Optional: whether the function reads with a throughput of its own, which costs extra",
            ),
        );
        let destinations =
            [FailureDestination::None, FailureDestination::S3, FailureDestination::Sqs];
        add(
            template,
            &self.failure_destination,
            choice(
                "Optional: where batches are left that Lambda gives up on: an S3 bucket (with their data) or an SQS queue (without)",
                &destinations,
            ),
        );
        add(
            template,
            &self.failure_retention_days,
            number("Optional: days that the S3 bucket keeps them", 30).min_value(1),
        );
    }

    fn add_alarm_parameters(&self, template: &mut Template) {
        add(
            template,
            &self.log_retention_days,
            number("Optional: days that the function's log is kept", 30)
                .allowed_values(logs::RETENTION_DAYS),
        );
        add(
            template,
            &self.alarm_key_arn,
            key(
                "Optional: ARN of the KMS key that alarms are encrypted with; it must let CloudWatch use it",
            ),
        );
        add(
            template,
            &self.iterator_age_threshold,
            number("Optional: milliseconds that records may wait before an alarm", 600_000),
        );
        for (threshold, description) in [
            (
                &self.write_throughput_threshold,
                "Optional: records a minute that producers may be told to send again before an alarm",
            ),
            (
                &self.read_throughput_threshold,
                "Optional: reads a minute that may be turned away before an alarm",
            ),
            (
                &self.function_error_threshold,
                "Optional: invocations a minute that may fail before an alarm",
            ),
            (
                &self.function_throttle_threshold,
                "Optional: invocations a minute that may be throttled before an alarm",
            ),
            (
                &self.failure_queue_threshold,
                "Optional: messages in the failure queue before an alarm",
            ),
        ] {
            add(template, threshold, number(description, 0));
        }
        add(template, &self.dashboard, switch("Optional: whether there is a CloudWatch dashboard"));
    }
}

fn add<T: Clone>(template: &mut Template, setting: &Setting<T>, parameter: Parameter) {
    if let Some(name) = setting.as_parameter() {
        template.parameter(name, parameter);
    }
}

fn text(description: &str) -> Parameter {
    Parameter::string().description(description).default("")
}

fn key(description: &str) -> Parameter {
    text(description).allowed_pattern(
        r"^$|^arn:[a-z0-9-]+:kms:[a-z0-9-]+:\d{12}:key/[a-zA-Z0-9-]+$",
        "the ARN of a KMS key, or empty",
    )
}

fn number(description: &str, default: u32) -> Parameter {
    Parameter::number().description(description).default(default).min_value(0)
}

/// A number that is 0 or in a range that does not hold 0. Only a `String` has a pattern; where a
/// number goes, CloudFormation reads its digits.
fn zero_or(description: &str) -> Parameter {
    Parameter::string().description(description).default("0")
}

/// The first choice is the default.
fn choice<T: Choice>(description: &str, choices: &[T]) -> Parameter {
    let texts = choices.iter().map(Choice::text);
    let default = choices.first().map_or("", Choice::text);
    Parameter::string().description(description).default(default).allowed_values(texts)
}

fn switch(description: &str) -> Parameter {
    choice(description, &[false, true])
}
