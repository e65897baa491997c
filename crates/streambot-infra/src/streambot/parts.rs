//! Which resources and outputs there are, and what they are wired to, decided from the settings. It
//! knows no property of any resource.

use super::Streambot;
use crate::alarms;
use crate::dashboard::{self, Shown};
use crate::failure::{self, FailureDestination};
use crate::logs;
use crate::roles::{self, Failures, Role, Source};
use crate::setting::Presence;
use crate::stream::{self, Stream, StreamMode, Wanted};
use crate::template::{Output, Resource, Template};
use crate::value::{Value, get_att, reference, region, stack_name, sub};

/// The settings, and when each part is there.
pub(super) struct Parts<'a> {
    streambot: &'a Streambot,
    stream_made_here: Presence,
    on_demand: Presence,
    has_key: Presence,
    consumer: Presence,
    bucket: Presence,
    queue: Presence,
    failure_destination: Presence,
    function: Presence,
    dashboard: Presence,
    logs_to_s3: Presence,
}

impl<'a> Parts<'a> {
    pub(super) fn new(streambot: &'a Streambot) -> Self {
        let (name, settings) = (|name: &str| streambot.prefix.name(name), &streambot.settings);
        let destination = &settings.failure_destination;
        Self {
            streambot,
            stream_made_here: settings.kinesis_stream_arn.absent(name("CreateStream")),
            on_demand: settings.stream_mode.is(&StreamMode::OnDemand, name("IsOnDemand")),
            has_key: settings.stream_key_arn.present(name("HasStreamKey")),
            consumer: settings.enhanced_fan_out.is(&true, name("HasConsumer")),
            bucket: destination.is(&FailureDestination::S3, name("FailuresToS3")),
            queue: destination.is(&FailureDestination::Sqs, name("FailuresToSqs")),
            failure_destination: destination
                .is_not(&FailureDestination::None, name("HasFailureDestination")),
            function: settings.function_name.present(name("HasFunctionName")),
            dashboard: settings.dashboard.is(&true, name("HasDashboard")),
            logs_to_s3: settings.log_bucket.present(name("LogToS3")),
        }
    }

    pub(super) fn stream(&self) -> Stream {
        let existing = self.streambot.settings.kinesis_stream_arn.value();
        Stream::new(&self.stream_made_here, &self.name(stream::LOGICAL_ID), existing)
    }

    pub(super) fn add_to(&self, template: &mut Template) {
        self.add_stream(template);
        self.add_alarms(template);
        self.add_roles(template);
        self.add_failure_destination(template);
        self.add_dashboard(template);
        self.add_outputs(template);
        self.add_conditions(template);
    }

    fn name(&self, name: &str) -> String {
        self.streambot.prefix.name(name)
    }

    /// Text that tells this Streambot from others in the stack, and the stack from others in the
    /// account.
    fn named_after_stack(&self) -> Value<String> {
        match self.streambot.prefix.0.as_str() {
            "" => stack_name().into(),
            prefix => sub(format!("${{AWS::StackName}}-{prefix}")).into(),
        }
    }

    fn retention_hours(&self) -> Presence {
        self.streambot.settings.retention_hours.set(self.name("HasRetentionHours"))
    }

    fn max_record_size(&self) -> Presence {
        self.streambot.settings.max_record_size_in_kib.set(self.name("HasMaxRecordSize"))
    }

    fn shard_level_metrics(&self) -> Presence {
        self.streambot.settings.shard_level_metrics.is(&true, self.name("HasShardLevelMetrics"))
    }

    fn has_log_prefix(&self) -> Presence {
        self.streambot.settings.log_prefix.present(self.name("HasLogPrefix"))
    }

    fn has_alarm_email(&self) -> Presence {
        self.streambot.settings.alarm_email.present(self.name("HasAlarmEmail"))
    }

    fn has_alarm_key(&self) -> Presence {
        self.streambot.settings.alarm_key_arn.present(self.name("HasAlarmKey"))
    }

    fn function(&self) -> (Presence, Value<String>) {
        (self.function.clone(), self.streambot.settings.function_name.value())
    }

    fn key(&self) -> (Presence, Value<String>) {
        (self.has_key.clone(), self.streambot.settings.stream_key_arn.value())
    }

    fn consumer_arn(&self) -> Value<String> {
        get_att(self.name(stream::CONSUMER), "ConsumerARN").into()
    }

    /// Adds a resource where it is wanted, with the tags of all.
    fn add(
        &self,
        template: &mut Template,
        presence: &Presence,
        logical_id: &str,
        resource: Resource,
    ) {
        let tagged = self
            .streambot
            .tags
            .iter()
            .fold(resource, |resource, (key, value)| resource.tag(key, value.clone()));
        self.add_untagged(template, presence, logical_id, tagged);
    }

    fn add_untagged(
        &self,
        template: &mut Template,
        presence: &Presence,
        logical_id: &str,
        resource: Resource,
    ) {
        if let Some(resource) = presence.resource(resource) {
            template.resource(self.name(logical_id), resource);
        }
    }

    fn keeping_data(&self, resource: Resource) -> Resource {
        if self.streambot.keeps_data { resource.retain() } else { resource.delete_with_stack() }
    }

    fn add_stream(&self, template: &mut Template) {
        let settings = &self.streambot.settings;
        let wanted = Wanted {
            mode: settings.stream_mode.value(),
            on_demand: self.on_demand.clone(),
            shards: settings.number_of_shards.value(),
            retention_hours: (self.retention_hours(), settings.retention_hours.value()),
            key: self.key(),
            max_record_size_in_kib: (
                self.max_record_size(),
                settings.max_record_size_in_kib.value(),
            ),
            shard_level_metrics: self.shard_level_metrics(),
        };
        let stream = self.keeping_data(stream::resource(&wanted));
        self.add(template, &self.stream_made_here, stream::LOGICAL_ID, stream);
        // A change of its tags would replace it, and so the mapping's source.
        let consumer = stream::consumer(self.named_after_stack(), self.stream().arn());
        self.add_untagged(template, &self.consumer, stream::CONSUMER, consumer);
    }

    fn add_alarms(&self, template: &mut Template) {
        let settings = &self.streambot.settings;
        let topic = self.streambot.alarm_topic();
        let stream_name = self.stream().name();
        let function = self.function();
        let consumer = (self.consumer.clone(), self.named_after_stack());
        let always = Presence::Always;

        let email = (self.has_alarm_email(), settings.alarm_email.value());
        let key = (self.has_alarm_key(), settings.alarm_key_arn.value());
        self.add(template, &always, alarms::TOPIC, alarms::topic(&email, &key));
        self.add(
            template,
            &always,
            alarms::ERROR_ALARM,
            topic.error_alarm(self.named_after_stack()),
        );
        let age = settings.iterator_age_threshold.value();
        let age_alarm = topic.iterator_age_alarm(&function, &consumer, stream_name.clone(), age);
        self.add(template, &always, alarms::ITERATOR_AGE_ALARM, age_alarm);
        let writes = topic.write_throughput_alarm(
            stream_name.clone(),
            settings.write_throughput_threshold.value(),
        );
        self.add(template, &always, alarms::WRITE_THROUGHPUT_ALARM, writes);
        let reads =
            topic.read_throughput_alarm(stream_name, settings.read_throughput_threshold.value());
        self.add(template, &always, alarms::READ_THROUGHPUT_ALARM, reads);
        let (has_function, name) = function;
        let errors =
            topic.function_error_alarm(name.clone(), settings.function_error_threshold.value());
        self.add(template, &has_function, alarms::FUNCTION_ERROR_ALARM, errors);
        let throttles =
            topic.function_throttle_alarm(name, settings.function_throttle_threshold.value());
        self.add(template, &has_function, alarms::FUNCTION_THROTTLE_ALARM, throttles);
        let depth = topic.failure_queue_alarm(
            &self.name(failure::QUEUE),
            settings.failure_queue_threshold.value(),
        );
        self.add(template, &self.queue, alarms::FAILURE_QUEUE_ALARM, depth);
    }

    fn add_roles(&self, template: &mut Template) {
        let settings = &self.streambot.settings;
        let source = Source {
            stream_arn: self.stream().arn(),
            consumer_arn: (self.consumer.clone(), self.consumer_arn()),
            key_arn: self.key(),
        };
        let failures = Failures {
            bucket: (self.bucket.clone(), self.name(failure::BUCKET)),
            queue: (self.queue.clone(), self.name(failure::QUEUE)),
        };
        let log_group = self.name(logs::LOGICAL_ID);
        let execution_role = self.name(roles::EXECUTION_ROLE);
        let always = Presence::Always;
        let of = |wanted: bool| if wanted { Presence::Always } else { Presence::Never };

        let group = self.keeping_data(logs::resource(settings.log_retention_days.value()));
        self.add(template, &always, logs::LOGICAL_ID, group);
        // The attribute ends in `:*`: the group's log streams.
        let role = roles::execution_role(&source, &failures, get_att(log_group, "Arn"));
        self.add(template, &always, roles::EXECUTION_ROLE, role);
        let prefix = (self.has_log_prefix(), settings.log_prefix.value());
        let log_policy = roles::log_policy(&execution_role, settings.log_bucket.value(), &prefix);
        self.add_untagged(template, &self.logs_to_s3, roles::LOG_POLICY, log_policy);
        let tracing_policy = roles::tracing_policy(&execution_role);
        self.add_untagged(
            template,
            &of(self.streambot.tracing),
            roles::TRACING_POLICY,
            tracing_policy,
        );
        let vpc_policy = roles::vpc_policy(&execution_role);
        self.add_untagged(template, &of(self.streambot.vpc), roles::VPC_POLICY, vpc_policy);
        self.add(template, &always, roles::INVOCATION_ROLE, roles::invocation_role(&source));
        self.add(template, &always, roles::PROVIDER_ROLE, roles::provider_role(&source));
    }

    fn add_failure_destination(&self, template: &mut Template) {
        let days = self.streambot.settings.failure_retention_days.value();
        let bucket = self.keeping_data(failure::bucket(&self.key(), days));
        self.add(template, &self.bucket, failure::BUCKET, bucket);
        let policy = failure::bucket_policy(&self.name(failure::BUCKET));
        self.add_untagged(template, &self.bucket, failure::BUCKET_POLICY, policy);
        self.add(template, &self.queue, failure::QUEUE, self.keeping_data(failure::queue()));
    }

    fn add_dashboard(&self, template: &mut Template) {
        let names = |logical_ids: &[&str]| {
            logical_ids.iter().map(|logical_id| self.name(logical_id)).collect()
        };
        let shown = Shown {
            stream_name: self.stream().name(),
            metric_name: self.named_after_stack(),
            log_group: reference(self.name(logs::LOGICAL_ID)).into(),
            function: self.function(),
            queue: (self.queue.clone(), self.name(failure::QUEUE)),
            alarms: names(&[
                alarms::ERROR_ALARM,
                alarms::ITERATOR_AGE_ALARM,
                alarms::WRITE_THROUGHPUT_ALARM,
                alarms::READ_THROUGHPUT_ALARM,
            ]),
            function_alarms: names(&[
                alarms::FUNCTION_ERROR_ALARM,
                alarms::FUNCTION_THROTTLE_ALARM,
            ]),
            queue_alarms: names(&[alarms::FAILURE_QUEUE_ALARM]),
        };
        self.add_untagged(
            template,
            &self.dashboard,
            dashboard::LOGICAL_ID,
            dashboard::resource(&shown),
        );
    }

    fn add_conditions(&self, template: &mut Template) {
        let presences = [
            self.stream_made_here.clone(),
            self.logs_to_s3.clone(),
            self.has_log_prefix(),
            self.has_alarm_email(),
            self.function.clone(),
            self.on_demand.clone(),
            self.retention_hours(),
            self.has_key.clone(),
            self.max_record_size(),
            self.shard_level_metrics(),
            self.consumer.clone(),
            self.bucket.clone(),
            self.queue.clone(),
            self.failure_destination.clone(),
            self.has_alarm_key(),
            self.dashboard.clone(),
        ];
        for (name, condition) in presences.iter().filter_map(Presence::condition) {
            template.condition(name, condition);
        }
    }

    /// The contract's, which never change, and then the others.
    fn add_outputs(&self, template: &mut Template) {
        let settings = &self.streambot.settings;
        let execution_role = self.streambot.execution_role();
        let role = |logical_id: &str| Role::new(self.name(logical_id)).arn();
        let bucket_arn: Value<String> = get_att(self.name(failure::BUCKET), "Arn").into();
        let queue_arn: Value<String> = get_att(self.name(failure::QUEUE), "Arn").into();
        let log_group: Value<String> = reference(self.name(logs::LOGICAL_ID)).into();
        let always = Presence::Always;
        let outputs: [(&str, &str, &Presence, Value<String>); 14] = [
            (
                "KinesisStream",
                "ARN of the stream that the function reads",
                &always,
                self.stream().arn(),
            ),
            (
                "LambdaInvocationRole",
                "ARN of a role that Lambda can read the stream as",
                &always,
                role(roles::INVOCATION_ROLE),
            ),
            (
                "LambdaExecutionRole",
                "ARN of the role that the function runs as",
                &always,
                execution_role.arn(),
            ),
            (
                "LambdaExecutionRoleName",
                "Name of the role that the function runs as, to add policies to",
                &always,
                execution_role.name(),
            ),
            (
                "KinesisAdminRole",
                "ARN of the role that producers write to the stream as",
                &always,
                role(roles::PROVIDER_ROLE),
            ),
            (
                "MetricName",
                "Name of the metric in namespace streambot that counts invocations by status",
                &always,
                self.named_after_stack(),
            ),
            (
                "LogBucket",
                "S3 bucket that each invocation's log is stored in",
                &always,
                settings.log_bucket.value(),
            ),
            (
                "LogPrefix",
                "What the keys of log objects start with",
                &always,
                settings.log_prefix.value(),
            ),
            ("LogGroup", "Name of the function's log group", &always, log_group),
            ("StackRegion", "Region of the stack", &always, region().into()),
            (
                "AlarmTopic",
                "ARN of the topic that alarms are sent to",
                &always,
                self.streambot.alarm_topic().arn(),
            ),
            (
                "StreamConsumer",
                "ARN of the consumer that the function reads as",
                &self.consumer,
                self.consumer_arn(),
            ),
            (
                "FailureDestination",
                "ARN of the bucket or queue that Lambda leaves batches in that it gives up on",
                &self.failure_destination,
                self.bucket.choose(bucket_arn, queue_arn),
            ),
            (
                "DashboardName",
                "Name of the CloudWatch dashboard",
                &self.dashboard,
                reference(self.name(dashboard::LOGICAL_ID)).into(),
            ),
        ];
        for (name, description, presence, value) in outputs {
            let output = Output::new(value).description(description);
            let output = match presence {
                Presence::Always => output,
                Presence::Never => continue,
                Presence::When(condition, _) => output.condition(condition),
            };
            template.output(self.name(name), output);
        }
    }
}
