//! The alarms, and the topic that they are sent to. It knows the metrics that exist, not who emits them.

use serde_json::{Value as Json, json};

use crate::setting::Presence;
use crate::template::Resource;
use crate::value::{Value, no_value, reference, stack_name};

pub(crate) const TOPIC: &str = "AlarmSNS";
pub(crate) const ERROR_ALARM: &str = "ErrorAlarm";
pub(crate) const FUNCTION_ERROR_ALARM: &str = "FunctionErrorAlarm";
pub(crate) const FUNCTION_THROTTLE_ALARM: &str = "FunctionThrottleAlarm";

/// The namespace of the metric that the function emits once per invocation.
const NAMESPACE: &str = "streambot";

/// The SNS topic that alarms are sent to.
#[derive(Clone, Debug)]
pub struct AlarmTopic(pub(crate) ());

impl AlarmTopic {
    /// The topic's ARN, for the `AlarmActions` of an alarm of one's own.
    pub fn arn(&self) -> Value<String> {
        reference(TOPIC).into()
    }
}

/// The topic, with a subscription where there is an address to send to.
pub(crate) fn topic(wanted: &Presence, email: Value<String>) -> Resource {
    let subscription = json!([{ "Protocol": "email", "Endpoint": email }]);
    let topic = Resource::new("AWS::SNS::Topic");
    match wanted {
        Presence::Never => topic,
        Presence::Always | Presence::When(..) => {
            topic.property("Subscription", wanted.choose::<Json>(Value::Literal(subscription), no_value()))
        }
    }
}

/// Any invocation in a minute that left a record undone.
pub(crate) fn error_alarm() -> Resource {
    alarm("A record could not be processed. The function's log says which, and why")
        .property("Namespace", NAMESPACE)
        .property("MetricName", metric_name())
        .property("Dimensions", dimension("Status", "Error"))
}

/// Invocations that ended with no answer, such as a timeout: those that cannot emit the metric of [`error_alarm`].
pub(crate) fn function_error_alarm(function_name: Value<String>) -> Resource {
    function_alarm(
        "An invocation failed as a whole: an error, a timeout, or a function that could not start",
        "Errors",
        function_name,
    )
}

/// Invocations that Lambda turned away, for want of concurrency.
pub(crate) fn function_throttle_alarm(function_name: Value<String>) -> Resource {
    function_alarm(
        "Invocations were throttled: the account or the function is out of concurrency",
        "Throttles",
        function_name,
    )
}

/// The metric's name: the stack's, which tells services apart that share an account.
pub(crate) fn metric_name() -> Value<String> {
    stack_name().into()
}

/// See [Lambda's metrics](https://docs.aws.amazon.com/lambda/latest/dg/monitoring-metrics-types.html).
fn function_alarm(description: &str, metric: &'static str, function_name: Value<String>) -> Resource {
    alarm(description)
        .property("Namespace", "AWS/Lambda")
        .property("MetricName", metric)
        .property("Dimensions", dimension("FunctionName", function_name))
}

/// More than none in a minute. No data is fine: a quiet stream emits none.
fn alarm(description: &str) -> Resource {
    Resource::new("AWS::CloudWatch::Alarm")
        .property("AlarmDescription", description)
        .property("ActionsEnabled", true)
        .property("AlarmActions", json!([reference(TOPIC)]))
        .property("Statistic", "Sum")
        .property("Period", 60)
        .property("EvaluationPeriods", 1)
        .property("Threshold", 0)
        .property("ComparisonOperator", "GreaterThanThreshold")
        .property("TreatMissingData", "notBreaching")
}

fn dimension(name: &'static str, value: impl Into<Value<String>>) -> Json {
    json!([{ "Name": name, "Value": value.into() }])
}
