//! The function's log group. The stack owns it, so that its retention is set and its name is known
//! to the roles; a deploy sets it on the function.

use serde_json::json;

use crate::template::Resource;
use crate::value::Value;

pub(crate) const LOGICAL_ID: &str = "LogGroup";

/// How many days [CloudWatch Logs can keep][aws] log lines.
///
/// [aws]: https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_PutRetentionPolicy.html
pub(crate) const RETENTION_DAYS: [u32; 22] = [
    1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922,
    3288, 3653,
];

/// The name is left to CloudFormation: a fixed one could exist already, as Lambda makes groups on
/// its own.
pub(crate) fn resource(retention_days: Value<u32>) -> Resource {
    Resource::new("AWS::Logs::LogGroup")
        .metadata("checkov", json!({ "skip": [
            { "id": "CKV_AWS_158", "comment": "log groups are always encrypted; a key of one's own would have to let the region's CloudWatch Logs use it" },
        ] }))
        .property("RetentionInDays", retention_days)
}
