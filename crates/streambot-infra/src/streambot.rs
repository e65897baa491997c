//! Streambot as a whole: its settings, and the parameters, conditions, resources and outputs that they call for. What each
//! resource looks like is said in its own module; this one decides which are there and what they are wired to.

use crate::alarms::{self, AlarmTopic};
use crate::logs;
use crate::roles::{self, Role};
use crate::setting::{Presence, Setting};
use crate::stream::{self, Stream};
use crate::template::{Condition, Output, Parameter, Resource, Template};
use crate::value::{Value, region, stack_name};

/// A Kinesis stream and what a Lambda function needs to consume it: roles, a log group, alarms, and the outputs that
/// `streambot-deploy` reads.
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
/// Each setting starts as a parameter of the template. Given a literal, it is fixed and the parameter is gone; given an
/// [`Intrinsic`](crate::Intrinsic), it is wired to another part of the template. An empty literal switches off what the setting
/// is for; an intrinsic is taken to yield a value.
#[derive(Clone, Debug, PartialEq)]
pub struct Streambot {
    alarm_email: Setting<String>,
    log_bucket: Setting<String>,
    log_prefix: Setting<String>,
    kinesis_stream_arn: Setting<String>,
    number_of_shards: Setting<u32>,
    function_name: Setting<String>,
}

impl Default for Streambot {
    fn default() -> Self {
        Self::new()
    }
}

impl Streambot {
    /// Streambot with every setting a parameter.
    pub fn new() -> Self {
        Self {
            alarm_email: Setting::parameter("AlarmEmail"),
            log_bucket: Setting::parameter("LogBucket"),
            log_prefix: Setting::parameter("LogPrefix"),
            kinesis_stream_arn: Setting::parameter("KinesisStreamArn"),
            number_of_shards: Setting::parameter("NumberOfShards"),
            function_name: Setting::parameter("FunctionName"),
        }
    }

    /// Sets the address that alarms are mailed to, once its owner confirms. Parameter `AlarmEmail`; empty: no mail.
    #[must_use]
    pub fn alarm_email(mut self, address: impl Into<Value<String>>) -> Self {
        self.alarm_email.give(address);
        self
    }

    /// Sets the S3 bucket that each invocation's log is stored in. Parameter `LogBucket`; empty: nothing is stored.
    #[must_use]
    pub fn log_bucket(mut self, bucket: impl Into<Value<String>>) -> Self {
        self.log_bucket.give(bucket);
        self
    }

    /// Sets what the keys of log objects start with, before a `/`. Parameter `LogPrefix`; empty: the bucket's top.
    #[must_use]
    pub fn log_prefix(mut self, prefix: impl Into<Value<String>>) -> Self {
        self.log_prefix.give(prefix);
        self
    }

    /// Sets an existing stream to read. Parameter `KinesisStreamArn`; empty: the template makes a stream.
    #[must_use]
    pub fn kinesis_stream_arn(mut self, arn: impl Into<Value<String>>) -> Self {
        self.kinesis_stream_arn.give(arn);
        self
    }

    /// Sets how many shards the stream has that the template makes, 1 or more. Parameter `NumberOfShards`, default 1.
    #[must_use]
    pub fn number_of_shards(mut self, shards: impl Into<Value<u32>>) -> Self {
        self.number_of_shards.give(shards);
        self
    }

    /// Sets the function's name, for the alarms on its errors and throttles. Parameter `FunctionName`; empty: no such alarms.
    ///
    /// In a template of the service's own it is the stack's name unless set here: `streambot-deploy` names the function so.
    #[must_use]
    pub fn function_name(mut self, name: impl Into<Value<String>>) -> Self {
        self.function_name.give(name);
        self
    }

    /// The stream that the function reads.
    pub fn stream(&self) -> Stream {
        Stream::new(&self.stream_made_here(), self.kinesis_stream_arn.value())
    }

    /// The role that the function runs as.
    pub fn execution_role(&self) -> Role {
        Role::new(roles::EXECUTION_ROLE)
    }

    /// The topic that alarms are sent to.
    pub fn alarm_topic(&self) -> AlarmTopic {
        AlarmTopic(())
    }

    /// A template of its own, to be the child of the service's stack.
    pub fn template(&self) -> Template {
        let mut template = Template::new();
        template.description("Streambot: a Kinesis stream consumed by AWS Lambda");
        self.fill(&mut template);
        template
    }

    /// Adds all of it to a template of the service's own, and the output `StreambotStack` by which a deploy finds it.
    pub fn add_to(&self, template: &mut Template) {
        let mut streambot = self.clone();
        if streambot.function_name.as_parameter().is_some() {
            streambot.function_name.give(stack_name());
        }
        streambot.fill(template);
        template.output(
            "StreambotStack",
            Output::new(stack_name()).description("The stack that Streambot is in: this one"),
        );
    }

    fn fill(&self, template: &mut Template) {
        self.add_parameters(template);
        self.add_conditions(template);
        self.add_resources(template);
        self.add_outputs(template);
    }

    fn stream_made_here(&self) -> Presence {
        self.kinesis_stream_arn.absent("CreateStream")
    }

    fn logs_to_s3(&self) -> Presence {
        self.log_bucket.present("LogToS3")
    }

    fn has_log_prefix(&self) -> Presence {
        self.log_prefix.present("HasLogPrefix")
    }

    fn has_alarm_email(&self) -> Presence {
        self.alarm_email.present("HasAlarmEmail")
    }

    fn has_function_name(&self) -> Presence {
        self.function_name.present("HasFunctionName")
    }

    fn add_parameters(&self, template: &mut Template) {
        let optional = |description: &str| Parameter::string().description(description).default("");
        let stream_is_made_here = self.stream_made_here() != Presence::Never;
        let parameters = [
            (
                self.alarm_email.as_parameter(),
                optional("Optional: email address that alarms are sent to")
                    .allowed_pattern(r"^$|^[^@\s]+@[^@\s]+$", "an email address, or empty"),
            ),
            (self.log_bucket.as_parameter(), optional("Optional: S3 bucket that each invocation's log is stored in")),
            (
                self.log_prefix.as_parameter(),
                optional("Optional: what the keys of log objects start with, before a slash"),
            ),
            (
                self.kinesis_stream_arn.as_parameter(),
                optional("Optional: ARN of an existing Kinesis stream to read, instead of a new one").allowed_pattern(
                    r"^$|^arn:[a-z0-9-]+:kinesis:[a-z0-9-]+:\d{12}:stream/[a-zA-Z0-9_.-]+$",
                    "the ARN of a Kinesis stream, or empty",
                ),
            ),
            (
                self.number_of_shards.as_parameter().filter(|_| stream_is_made_here),
                Parameter::number().description("Optional: how many shards the new stream has").default(1).min_value(1),
            ),
            (
                self.function_name.as_parameter(),
                optional("Optional: name of the function, for the alarms on its errors and throttles"),
            ),
        ];
        for (name, parameter) in parameters {
            if let Some(name) = name {
                template.parameter(name, parameter);
            }
        }
    }

    fn add_conditions(&self, template: &mut Template) {
        let logs_to_s3 = self.logs_to_s3();
        let log_prefix_matters = logs_to_s3 != Presence::Never;
        let conditions: [Option<(&str, Condition)>; 5] = [
            self.stream_made_here().condition(),
            logs_to_s3.condition(),
            self.has_log_prefix().condition().filter(|_| log_prefix_matters),
            self.has_alarm_email().condition(),
            self.has_function_name().condition(),
        ];
        for (name, condition) in conditions.into_iter().flatten() {
            template.condition(name, condition);
        }
    }

    fn add_resources(&self, template: &mut Template) {
        let stream_arn = self.stream().arn();
        let function_name = self.function_name.value();
        let with_function_name = self.has_function_name();
        let log_policy = roles::log_policy(self.log_bucket.value(), self.log_prefix.value(), &self.has_log_prefix());
        let resources: [(&str, Option<Resource>); 10] = [
            (stream::LOGICAL_ID, self.stream_made_here().resource(stream::resource(self.number_of_shards.value()))),
            (alarms::TOPIC, Some(alarms::topic(&self.has_alarm_email(), self.alarm_email.value()))),
            (alarms::ERROR_ALARM, Some(alarms::error_alarm())),
            (
                alarms::FUNCTION_ERROR_ALARM,
                with_function_name.resource(alarms::function_error_alarm(function_name.clone())),
            ),
            (
                alarms::FUNCTION_THROTTLE_ALARM,
                with_function_name.resource(alarms::function_throttle_alarm(function_name)),
            ),
            (logs::LOGICAL_ID, Some(logs::resource())),
            (roles::EXECUTION_ROLE, Some(roles::execution_role(stream_arn.clone(), logs::arn_with_streams()))),
            (roles::LOG_POLICY, self.logs_to_s3().resource(log_policy)),
            (roles::INVOCATION_ROLE, Some(roles::invocation_role(stream_arn.clone()))),
            (roles::PROVIDER_ROLE, Some(roles::provider_role(stream_arn))),
        ];
        for (logical_id, resource) in resources {
            if let Some(resource) = resource {
                template.resource(logical_id, resource);
            }
        }
    }

    fn add_outputs(&self, template: &mut Template) {
        let execution_role = self.execution_role();
        let outputs: [(&str, &str, Value<String>); 10] = [
            ("KinesisStream", "ARN of the stream that the function reads", self.stream().arn()),
            (
                "LambdaInvocationRole",
                "ARN of a role that Lambda can read the stream as",
                Role::new(roles::INVOCATION_ROLE).arn(),
            ),
            ("LambdaExecutionRole", "ARN of the role that the function runs as", execution_role.arn()),
            (
                "LambdaExecutionRoleName",
                "Name of the role that the function runs as, to add policies to",
                execution_role.name(),
            ),
            (
                "KinesisAdminRole",
                "ARN of the role that producers write to the stream as",
                Role::new(roles::PROVIDER_ROLE).arn(),
            ),
            (
                "MetricName",
                "Name of the metric in namespace streambot that counts invocations by status",
                alarms::metric_name(),
            ),
            ("LogBucket", "S3 bucket that each invocation's log is stored in", self.log_bucket.value()),
            ("LogPrefix", "What the keys of log objects start with", self.log_prefix.value()),
            ("LogGroup", "Name of the function's log group", logs::name().into()),
            ("StackRegion", "Region of the stack", region().into()),
        ];
        for (name, description, value) in outputs {
            template.output(name, Output::new(value).description(description));
        }
    }
}
