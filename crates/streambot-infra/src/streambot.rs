//! Streambot as a whole: its settings, and the resources and outputs that they call for. What each
//! resource looks like is said in its own module; [`parts`] decides which are there and what they
//! are wired to.

mod parts;

use crate::alarms::{self, AlarmTopic};
use crate::failure::FailureDestination;
use crate::roles::{self, Role};
use crate::settings::{Prefix, Settings};
use crate::stream::{Stream, StreamMode};
use crate::template::{Output, Template};
use crate::value::{Value, stack_name};
use parts::Parts;

/// A Kinesis stream and what a Lambda function needs to consume it: roles, a log group, alarms, and
/// the outputs that `streambot-deploy` reads.
///
/// As a template of its own, for a nested stack:
///
/// ```
/// use streambot_infra::Streambot;
///
/// let nested = Streambot::new().template().build()?;
/// println!("{nested}");
/// # Ok::<(), streambot_infra::TemplateError>(())
/// ```
///
/// Or [added to](Streambot::add_to) a template with the service's own resources.
///
/// Each setting starts as a parameter of the template. Given a literal, it is fixed and the
/// parameter is gone; given an [`Intrinsic`](crate::Intrinsic), it is wired to another part of the
/// template. An empty literal, or 0 where it stands for none, switches off what the setting is for;
/// an intrinsic is taken to yield a value. An intrinsic for a choice, such as
/// [`dashboard`](Streambot::dashboard), must be of parameters only: a condition of the template
/// looks at it.
#[derive(Clone, Debug, PartialEq)]
pub struct Streambot {
    prefix: Prefix,
    settings: Settings,
    tracing: bool,
    vpc: bool,
    keeps_data: bool,
    tags: Vec<(String, Value<String>)>,
}

impl Default for Streambot {
    fn default() -> Self {
        Self::new()
    }
}

/// A setter, which gives the setting of the same name its value.
macro_rules! setters {
    ($($(#[$documentation:meta])* $name:ident: $type:ty;)*) => {$(
        $(#[$documentation])*
        #[must_use]
        pub fn $name(mut self, value: impl Into<Value<$type>>) -> Self {
            self.settings.$name.give(value);
            self
        }
    )*};
}

impl Streambot {
    /// Streambot with every setting a parameter.
    pub fn new() -> Self {
        Self::prefixed("")
    }

    /// One of several Streambots in a template: `prefix` stands before the names of all its
    /// parameters, conditions, resources and outputs, and after a hyphen in its metric's name. The
    /// service that consumes its stream says so in its settings, with `prefix = "…"` in
    /// `[package.metadata.streambot]`.
    ///
    /// ```
    /// use streambot_infra::{Streambot, Template};
    ///
    /// let mut template = Template::new();
    /// for prefix in ["Orders", "Payments"] {
    ///     Streambot::prefixed(prefix).add_to(&mut template);
    /// }
    /// assert!(template.build()?.to_string().contains("OrdersKinesisStream"));
    /// # Ok::<(), streambot_infra::TemplateError>(())
    /// ```
    pub fn prefixed(prefix: impl Into<String>) -> Self {
        let prefix = Prefix(prefix.into());
        let settings = Settings::new(&prefix);
        Self { prefix, settings, tracing: false, vpc: false, keeps_data: true, tags: Vec::new() }
    }

    setters! {
        /// Sets the address that alarms are mailed to, once its owner confirms. Parameter
        /// `AlarmEmail`; empty: no mail.
        alarm_email: String;
        /// Sets the S3 bucket that each invocation's log is stored in. Parameter `LogBucket`;
        /// empty: nothing is stored.
        log_bucket: String;
        /// Sets what the keys of log objects start with, before a `/`. Parameter `LogPrefix`;
        /// empty: the bucket's top.
        log_prefix: String;
        /// Sets an existing stream to read. Parameter `KinesisStreamArn`; empty: the template makes
        /// a stream.
        kinesis_stream_arn: String;
        /// Sets how many shards the stream has that the template makes, 1 or more. Parameter
        /// `NumberOfShards`, default 1.
        number_of_shards: u32;
        /// Sets the function's name, for the alarms and the dashboard. Parameter `FunctionName`;
        /// empty: none of the function.
        ///
        /// In a template of the service's own it is the stack's name unless set here or the
        /// Streambot is [prefixed](Streambot::prefixed): `streambot-deploy` names the function so.
        function_name: String;
        /// Sets whether the stream has a number of shards or grows by itself. Parameter
        /// `StreamMode`, default provisioned.
        stream_mode: StreamMode;
        /// Sets how long the stream keeps records, 24 to 8,760 hours. Parameter `RetentionHours`;
        /// 0, the default, leaves what an existing stream has, and a new one has 24. An update that
        /// shortens it loses data.
        retention_hours: u32;
        /// Sets the customer's KMS key that the stream is encrypted with, by its ARN; roles get
        /// rights on it. Parameter `StreamKeyArn`; empty: the key `alias/aws/kinesis`, which needs
        /// none. A failure bucket has the same key.
        stream_key_arn: String;
        /// Sets how large one record may be, 1,024 to 10,240 KiB. Parameter `MaxRecordSizeInKiB`;
        /// 0: as it is, 1,024 when new.
        max_record_size_in_kib: u32;
        /// Sets whether the stream has metrics of each shard, at [a price][aws]. Parameter
        /// `ShardLevelMetrics`, default false.
        ///
        /// [aws]: https://docs.aws.amazon.com/streams/latest/dev/monitoring-with-cloudwatch.html#kinesis-metrics-shard
        shard_level_metrics: bool;
        /// Sets whether the function reads as a [consumer][aws] with a throughput of its own.
        /// Parameter `EnhancedFanOut`, default false. Lambda cannot move a mapping between stream
        /// and consumer, so choose before the first deploy.
        ///
        /// [aws]: https://docs.aws.amazon.com/streams/latest/dev/enhanced-consumers.html
        enhanced_fan_out: bool;
        /// Sets where Lambda leaves the batches it gives up on. Parameter `FailureDestinationType`,
        /// default none.
        failure_destination: FailureDestination;
        /// Sets how many days the failure bucket keeps its objects, 1 or more. Parameter
        /// `FailureRetentionDays`, default 30.
        failure_retention_days: u32;
        /// Sets how many days the function's log is kept, [one of a few numbers][aws]. Parameter
        /// `LogRetentionDays`, default 30.
        ///
        /// [aws]: https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_PutRetentionPolicy.html
        log_retention_days: u32;
        /// Sets the customer's KMS key that alarms are encrypted with, by its ARN. Its policy [must
        /// let CloudWatch use it][aws], or no alarm arrives. Parameter `AlarmKeyArn`; empty: no
        /// key.
        ///
        /// [aws]: https://docs.aws.amazon.com/sns/latest/dg/sns-key-management.html
        alarm_key_arn: String;
        /// Sets how long records may wait, in ms, before an alarm. Parameter
        /// `IteratorAgeThreshold`, default 600,000.
        iterator_age_threshold: u32;
        /// Sets how many records a minute may be refused to producers before an alarm. Parameter
        /// `WriteThroughputThreshold`, default 0.
        write_throughput_threshold: u32;
        /// Sets how many reads a minute may be refused to consumers before an alarm. Parameter
        /// `ReadThroughputThreshold`, default 0.
        read_throughput_threshold: u32;
        /// Sets how many invocations a minute may fail as a whole before an alarm. Parameter
        /// `FunctionErrorThreshold`, default 0.
        function_error_threshold: u32;
        /// Sets how many invocations a minute may be throttled before an alarm. Parameter
        /// `FunctionThrottleThreshold`, default 0.
        function_throttle_threshold: u32;
        /// Sets how many messages the failure queue may hold before an alarm. Parameter
        /// `FailureQueueThreshold`, default 0.
        failure_queue_threshold: u32;
        /// Sets whether there is a CloudWatch dashboard. Parameter `DashboardEnabled`, default
        /// false.
        dashboard: bool;
    }

    /// Lets the function send traces to X-Ray.
    #[must_use]
    pub fn tracing(mut self) -> Self {
        self.tracing = true;
        self
    }

    /// Lets Lambda connect the function to a VPC.
    #[must_use]
    pub fn vpc(mut self) -> Self {
        self.vpc = true;
        self
    }

    /// Has stream, log group and failure destination deleted with the stack, their data too. Unless
    /// asked, they are kept. S3 deletes no bucket that holds objects: empty it first.
    #[must_use]
    pub fn delete_data_with_stack(mut self) -> Self {
        self.keeps_data = false;
        self
    }

    /// Tags every resource that takes tags after it is made, up to 50: the bill is split by them.
    #[must_use]
    pub fn tag(mut self, key: impl Into<String>, value: impl Into<Value<String>>) -> Self {
        self.tags.push((key.into(), value.into()));
        self
    }

    /// The stream that the function reads.
    pub fn stream(&self) -> Stream {
        Parts::new(self).stream()
    }

    /// The role that the function runs as.
    pub fn execution_role(&self) -> Role {
        Role::new(self.prefix.name(roles::EXECUTION_ROLE))
    }

    /// The topic that alarms are sent to.
    pub fn alarm_topic(&self) -> AlarmTopic {
        AlarmTopic::new(self.prefix.name(alarms::TOPIC))
    }

    /// A template of its own, to be the child of the service's stack.
    pub fn template(&self) -> Template {
        let mut template = Template::new();
        template.description("Streambot: a Kinesis stream consumed by AWS Lambda");
        template.append(self.own());
        template
    }

    /// Adds all of it to a template of the service's own, and the output `StreambotStack` by which
    /// a deploy finds it.
    pub fn add_to(&self, template: &mut Template) {
        let mut streambot = self.clone();
        if self.prefix == Prefix::default()
            && streambot.settings.function_name.as_parameter().is_some()
        {
            streambot.settings.function_name.give(stack_name());
        }
        template.append(streambot.own());
        template.output(
            self.prefix.name("StreambotStack"),
            Output::new(stack_name()).description("The stack that Streambot is in: this one"),
        );
    }

    /// All parts, and of the parameters and conditions those that a part needs.
    fn own(&self) -> Template {
        let mut template = Template::new();
        self.settings.add_parameters(&mut template);
        Parts::new(self).add_to(&mut template);
        template.drop_unused();
        template
    }
}
