//! The function's log group. The stack owns it, so that its retention is set and its name is known to the roles; a deploy
//! sets it on the function.

use crate::template::Resource;
use crate::value::{Intrinsic, get_att, reference};

pub(crate) const LOGICAL_ID: &str = "LogGroup";

/// How long log lines are kept, in days: one of the numbers that [CloudWatch Logs takes][aws].
///
/// [aws]: https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_PutRetentionPolicy.html
const RETENTION_DAYS: u32 = 30;

/// The name is left to CloudFormation: a fixed one could exist already, as Lambda makes groups on its own.
pub(crate) fn resource() -> Resource {
    Resource::new("AWS::Logs::LogGroup").retain().property("RetentionInDays", RETENTION_DAYS)
}

pub(crate) fn name() -> Intrinsic {
    reference(LOGICAL_ID)
}

/// The group and the log streams in it: this attribute ends in `:*`.
pub(crate) fn arn_with_streams() -> Intrinsic {
    get_att(LOGICAL_ID, "Arn")
}
