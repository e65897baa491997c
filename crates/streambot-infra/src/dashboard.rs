//! The dashboard: what came in, how it was processed, and what went wrong, one widget each. It
//! names the metrics that AWS and Streambot's runtime emit and knows no other resource than those
//! it is told of.

use serde_json::{Value as Json, json};

use crate::alarms::NAMESPACE;
use crate::setting::Presence;
use crate::template::Resource;
use crate::value::{Intrinsic, Value, join, sub_with};

pub(crate) const LOGICAL_ID: &str = "Dashboard";

/// What the dashboard shows. Alarms are the logical ids of those that are there whenever their part
/// is.
pub(crate) struct Shown {
    pub(crate) stream_name: Value<String>,
    pub(crate) metric_name: Value<String>,
    pub(crate) log_group: Value<String>,
    pub(crate) function: (Presence, Value<String>),
    pub(crate) queue: (Presence, String),
    pub(crate) alarms: Vec<String>,
    pub(crate) function_alarms: Vec<String>,
    pub(crate) queue_alarms: Vec<String>,
}

/// The body is [JSON in a string][aws], put together by the stack: what needs the function's name
/// or the queue is left out where there is none.
///
/// [aws]: https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/CloudWatch-Dashboard-Body-Structure.html
pub(crate) fn resource(shown: &Shown) -> Resource {
    let (has_function, function_name) = &shown.function;
    let (has_queue, queue) = &shown.queue;
    let own: [(&'static str, Value<String>); 3] = [
        ("StreamName", shown.stream_name.clone()),
        ("MetricName", shown.metric_name.clone()),
        ("LogGroupName", shown.log_group.clone()),
    ];
    let always = filled(&stream_widgets(&shown.alarms), own);
    let of_function = filled(
        &function_widgets(&shown.function_alarms),
        [("FunctionName", function_name.clone())],
    );
    let of_queue = filled(
        &queue_widgets(&shown.queue_alarms),
        [("QueueName", Value::from(crate::get_att(queue, "QueueName")))],
    );
    let nothing = || Value::Literal(String::new());
    let parts: [Value<String>; 5] = [
        r#"{"widgets":["#.into(),
        always.into(),
        has_function.choose::<String>(of_function, nothing()),
        has_queue.choose::<String>(of_queue, nothing()),
        "]}".into(),
    ];
    let parts = parts.into_iter().filter(|part| *part != nothing());
    Resource::new("AWS::CloudWatch::Dashboard").property("DashboardBody", join("", parts))
}

fn filled<const N: usize>(widgets: &str, names: [(&'static str, Value<String>); N]) -> Intrinsic {
    sub_with(widgets, names)
}

/// Widgets as the JSON between the brackets of a list, the first ones without a comma before them.
fn listed(widgets: &[Json], first: bool) -> String {
    let mut text = String::new();
    for (index, widget) in widgets.iter().enumerate() {
        if !first || index > 0 {
            text.push(',');
        }
        text.push_str(&widget.to_string());
    }
    text
}

fn stream_widgets(alarms: &[String]) -> String {
    let of_stream = |metric: &str, statistic: &str| json!(["AWS/Kinesis", metric, "StreamName", "${StreamName}", { "stat": statistic }]);
    let of_status = |status: &str| json!([NAMESPACE, "${MetricName}", "Status", status, { "stat": "Sum", "label": status }]);
    let errors = "SOURCE '${LogGroupName}' | fields @timestamp, @message | filter @message like /ERROR/ \
                  | sort @timestamp desc | limit 20";
    let widgets = [
        alarm_widget("Alarms", alarms),
        metric_widget("Records in", &[of_stream("IncomingRecords", "Sum")]),
        metric_widget("Bytes in", &[of_stream("IncomingBytes", "Sum")]),
        metric_widget(
            "Iterator age (ms)",
            &[of_stream("GetRecords.IteratorAgeMilliseconds", "Maximum")],
        ),
        metric_widget("Invocations by outcome", &[of_status("Success"), of_status("Error")]),
        json!({ "type": "log", "width": 24, "height": 6, "properties": {
            "title": "Last errors", "region": "${AWS::Region}", "view": "table", "query": errors,
        } }),
    ];
    listed(&widgets, true)
}

fn function_widgets(alarms: &[String]) -> String {
    let of_function = |metric: &str, statistic: &str| json!(["AWS/Lambda", metric, "FunctionName", "${FunctionName}", { "stat": statistic }]);
    // Function and service stack have the same name.
    let of_service = |metric: &str| json!([NAMESPACE, metric, "StackName", "${FunctionName}", { "stat": "Sum" }]);
    let widgets = [
        alarm_widget("Alarms of the function", alarms),
        metric_widget(
            "Function",
            &[
                of_function("Invocations", "Sum"),
                of_function("Errors", "Sum"),
                of_function("Throttles", "Sum"),
            ],
        ),
        metric_widget(
            "Duration (ms)",
            &[of_function("Duration", "p50"), of_function("Duration", "p99")],
        ),
        metric_widget(
            "Iterator age of the function (ms)",
            &[of_function("IteratorAge", "Maximum")],
        ),
        metric_widget("Records", &[of_service("Records"), of_service("FailedRecords")]),
    ];
    listed(&widgets, false)
}

fn queue_widgets(alarms: &[String]) -> String {
    let depth = json!(["AWS/SQS", "ApproximateNumberOfMessagesVisible", "QueueName", "${QueueName}", { "stat": "Maximum" }]);
    let widgets = [
        alarm_widget("Alarm of the failure queue", alarms),
        metric_widget("Failure queue", &[depth]),
    ];
    listed(&widgets, false)
}

fn metric_widget(title: &str, metrics: &[Json]) -> Json {
    json!({ "type": "metric", "width": 8, "height": 6, "properties": {
        "title": title, "region": "${AWS::Region}", "period": 60, "view": "timeSeries", "metrics": metrics,
    } })
}

fn alarm_widget(title: &str, alarms: &[String]) -> Json {
    let arns: Vec<String> =
        alarms.iter().map(|logical_id| format!("${{{logical_id}.Arn}}")).collect();
    json!({ "type": "alarm", "width": 24, "height": 2, "properties": { "title": title, "alarms": arns } })
}
