//! The IAM roles and exactly what each may do. Rights are granted on things this module is told of; it makes none of them.

use serde_json::{Value as Json, json};

use crate::setting::Presence;
use crate::template::Resource;
use crate::value::{Intrinsic, Value, get_att, reference, sub_with};

pub(crate) const EXECUTION_ROLE: &str = "ExecutionRole";
pub(crate) const INVOCATION_ROLE: &str = "InvocationRole";
pub(crate) const PROVIDER_ROLE: &str = "ProviderRole";
pub(crate) const LOG_POLICY: &str = "LogPolicy";

/// What Lambda's pollers do on a stream, by [Lambda's own list][aws]. `SubscribeToShard` is not among them: it is for
/// consumers with enhanced fan-out. Nor is the managed policy's `ListStreams`, which would have to be on every stream.
///
/// [aws]: https://docs.aws.amazon.com/lambda/latest/dg/services-kinesis-create.html
const READ_STREAM: [&str; 5] = [
    "kinesis:DescribeStream",
    "kinesis:DescribeStreamSummary",
    "kinesis:GetRecords",
    "kinesis:GetShardIterator",
    "kinesis:ListShards",
];

/// What producers do, and what it takes to keep a stream the right size. Deleting the stream, its encryption and its
/// resource policy stay with whoever may change the stack.
const ADMINISTER_STREAM: [&str; 15] = [
    "kinesis:DecreaseStreamRetentionPeriod",
    "kinesis:DescribeStream",
    "kinesis:DescribeStreamSummary",
    "kinesis:DisableEnhancedMonitoring",
    "kinesis:EnableEnhancedMonitoring",
    "kinesis:GetRecords",
    "kinesis:GetShardIterator",
    "kinesis:IncreaseStreamRetentionPeriod",
    "kinesis:ListShards",
    "kinesis:ListTagsForStream",
    "kinesis:MergeShards",
    "kinesis:PutRecord",
    "kinesis:PutRecords",
    "kinesis:SplitShard",
    "kinesis:UpdateShardCount",
];

/// A role that the template makes.
#[derive(Clone, Debug)]
pub struct Role {
    logical_id: &'static str,
}

impl Role {
    pub(crate) fn new(logical_id: &'static str) -> Self {
        Self { logical_id }
    }

    /// The role's ARN.
    pub fn arn(&self) -> Value<String> {
        get_att(self.logical_id, "Arn").into()
    }

    /// The role's name.
    pub fn name(&self) -> Value<String> {
        reference(self.logical_id).into()
    }

    /// A policy that lets the role do `actions` on `resources` (ARNs), to be added to the template under an id of its own,
    /// which is its name on the role too.
    ///
    /// ```
    /// use streambot_infra::{Streambot, Template, sub};
    ///
    /// let streambot = Streambot::new();
    /// let mut template = Template::new();
    /// streambot.add_to(&mut template);
    /// template.resource(
    ///     "ArchivePolicy",
    ///     streambot
    ///         .execution_role()
    ///         .allow(["s3:PutObject"], [sub("arn:${AWS::Partition}:s3:::my-archive/*")]),
    /// );
    /// # template.build()?;
    /// # Ok::<(), streambot_infra::TemplateError>(())
    /// ```
    pub fn allow(
        &self,
        actions: impl IntoIterator<Item = impl Into<String>>,
        resources: impl IntoIterator<Item = impl Into<Value<String>>>,
    ) -> Resource {
        let actions: Vec<String> = actions.into_iter().map(Into::into).collect();
        let resources: Vec<Value<String>> = resources.into_iter().map(Into::into).collect();
        Resource::new("AWS::IAM::Policy")
            .named_after_logical_id("PolicyName")
            .property("PolicyDocument", policy_document([statement(actions, resources)]))
            .property("Roles", json!([reference(self.logical_id)]))
    }
}

/// What the function runs as: it reads the stream and writes its log.
pub(crate) fn execution_role(stream_arn: Value<String>, log_group_arn: Intrinsic) -> Resource {
    role(
        "lambda.amazonaws.com",
        "/lambda/",
        "ExecutionPolicy",
        [
            statement(READ_STREAM, [stream_arn]),
            statement(["logs:CreateLogStream", "logs:PutLogEvents"], [log_group_arn]),
        ],
    )
}

/// What Lambda can read the stream as, for a function whose own role may not.
pub(crate) fn invocation_role(stream_arn: Value<String>) -> Resource {
    role("lambda.amazonaws.com", "/lambda/", "InvocationPolicy", [statement(READ_STREAM, [stream_arn])])
}

/// What producers on EC2 write to the stream as.
pub(crate) fn provider_role(stream_arn: Value<String>) -> Resource {
    role("ec2.amazonaws.com", "/kinesis/", "ExecutionPolicy", [statement(ADMINISTER_STREAM, [stream_arn])])
}

/// Lets the function write log objects under the prefix, or anywhere in the bucket where there is no prefix.
pub(crate) fn log_policy(bucket: Value<String>, prefix: Value<String>, has_prefix: &Presence) -> Resource {
    let within_prefix =
        sub_with("arn:${AWS::Partition}:s3:::${Bucket}/${Prefix}/*", [("Bucket", bucket.clone()), ("Prefix", prefix)]);
    let anywhere = sub_with("arn:${AWS::Partition}:s3:::${Bucket}/*", [("Bucket", bucket)]);
    let objects: Value<String> = has_prefix.choose(within_prefix, anywhere);
    Resource::new("AWS::IAM::Policy")
        .property("PolicyName", "uploadlogs")
        .property("PolicyDocument", policy_document([statement(["s3:PutObject"], [objects])]))
        .property("Roles", json!([reference(EXECUTION_ROLE)]))
}

/// A role under a path: the path is part of its ARN, and changing it would replace the role.
fn role(
    service: &'static str,
    path: &'static str,
    policy_name: &'static str,
    statements: impl IntoIterator<Item = Json>,
) -> Resource {
    Resource::new("AWS::IAM::Role")
        .property("Path", path)
        .property(
            "AssumeRolePolicyDocument",
            policy_document([json!({
                "Effect": "Allow",
                "Principal": { "Service": service },
                "Action": "sts:AssumeRole",
            })]),
        )
        .property("Policies", json!([{ "PolicyName": policy_name, "PolicyDocument": policy_document(statements) }]))
}

fn statement(
    actions: impl IntoIterator<Item = impl Into<String>>,
    resources: impl IntoIterator<Item = impl Into<Value<String>>>,
) -> Json {
    let actions: Vec<String> = actions.into_iter().map(Into::into).collect();
    let resources: Vec<Value<String>> = resources.into_iter().map(Into::into).collect();
    json!({ "Effect": "Allow", "Action": actions, "Resource": resources })
}

fn policy_document(statements: impl IntoIterator<Item = Json>) -> Json {
    let statements: Vec<Json> = statements.into_iter().collect();
    json!({ "Version": "2012-10-17", "Statement": statements })
}
