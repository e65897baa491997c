//! The IAM roles and exactly what each may do. Rights are granted on things this module is told of;
//! it makes none of them.
//!
//! Roles have no condition against a confused deputy: AWS documents none for the roles that Lambda
//! and EC2 assume, which can be passed to a function or an instance of the role's own account only.
//! The failure bucket, whose name could come to be another account's, is bound to this one.

use serde_json::{Value as Json, json};

use crate::setting::Presence;
use crate::template::Resource;
use crate::value::{Intrinsic, Value, account_id, get_att, reference, sub_with};

pub(crate) const EXECUTION_ROLE: &str = "ExecutionRole";
pub(crate) const INVOCATION_ROLE: &str = "InvocationRole";
pub(crate) const PROVIDER_ROLE: &str = "ProviderRole";
pub(crate) const LOG_POLICY: &str = "LogPolicy";
pub(crate) const TRACING_POLICY: &str = "TracingPolicy";
pub(crate) const VPC_POLICY: &str = "VpcPolicy";

/// What Lambda's pollers do on a stream, by [Lambda's own list][aws]. `SubscribeToShard` is not
/// among them: it is for consumers with enhanced fan-out. Nor is the managed policy's
/// `ListStreams`, which would have to be on every stream.
///
/// [aws]: https://docs.aws.amazon.com/lambda/latest/dg/services-kinesis-create.html
const READ_STREAM: [&str; 5] = [
    "kinesis:DescribeStream",
    "kinesis:DescribeStreamSummary",
    "kinesis:GetRecords",
    "kinesis:GetShardIterator",
    "kinesis:ListShards",
];

/// What producers do, and what it takes to keep a stream the right size. Deleting the stream, its
/// encryption and its resource policy stay with whoever may change the stack.
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
    logical_id: String,
}

impl Role {
    pub(crate) fn new(logical_id: String) -> Self {
        Self { logical_id }
    }

    /// The role's ARN.
    pub fn arn(&self) -> Value<String> {
        get_att(&self.logical_id, "Arn").into()
    }

    /// The role's name.
    pub fn name(&self) -> Value<String> {
        reference(&self.logical_id).into()
    }

    /// A policy that lets the role do `actions` on `resources` (ARNs), to be added to the template
    /// under an id of its own, which is its name on the role too.
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
            .property("Roles", json!([reference(&self.logical_id)]))
    }
}

/// What it takes to read the stream.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    pub(crate) stream_arn: Value<String>,
    /// The consumer with enhanced fan-out.
    pub(crate) consumer_arn: (Presence, Value<String>),
    /// The customer's key that the stream is encrypted with. AWS's own key needs no right.
    pub(crate) key_arn: (Presence, Value<String>),
}

impl Source {
    fn read(&self) -> Vec<Json> {
        let (has_consumer, consumer) = &self.consumer_arn;
        let (has_key, key) = &self.key_arn;
        let mut statements = vec![statement(READ_STREAM, [self.stream_arn.clone()])];
        statements.extend(
            has_consumer.piece(statement(["kinesis:SubscribeToShard"], [consumer.clone()])),
        );
        statements.extend(has_key.piece(statement(["kms:Decrypt"], [key.clone()])));
        statements
    }
}

/// Where Lambda leaves batches it gives up on, which it does as the function's role.
pub(crate) struct Failures {
    /// The bucket's logical id.
    pub(crate) bucket: (Presence, String),
    /// The queue's logical id.
    pub(crate) queue: (Presence, String),
}

impl Failures {
    /// See [permissions for destinations][aws]; the account guards against a bucket that was
    /// deleted, and made anew elsewhere.
    ///
    /// [aws]: https://docs.aws.amazon.com/lambda/latest/dg/kinesis-on-failure-destination.html
    fn write(&self, (has_key, key): &(Presence, Value<String>)) -> Vec<Json> {
        let (has_bucket, bucket) = &self.bucket;
        let (has_queue, queue) = &self.queue;
        let objects = sub_with("${Bucket}/*", [("Bucket", get_att(bucket, "Arn"))]);
        let own = |mut statement: Json| {
            statement["Condition"] =
                json!({ "StringEquals": { "s3:ResourceAccount": account_id() } });
            statement
        };
        let mut statements = Vec::new();
        statements.extend(has_bucket.piece(own(statement(["s3:PutObject"], [objects]))));
        statements
            .extend(has_bucket.piece(own(statement(["s3:ListBucket"], [get_att(bucket, "Arn")]))));
        let encrypt = has_key.piece(statement(["kms:GenerateDataKey"], [key.clone()]));
        statements.extend(encrypt.and_then(|encrypt| has_bucket.piece(encrypt)));
        statements.extend(has_queue.piece(statement(["sqs:SendMessage"], [get_att(queue, "Arn")])));
        statements
    }
}

/// What the function runs as: it reads the stream, writes its log, and leaves what it gives up on.
pub(crate) fn execution_role(
    source: &Source,
    failures: &Failures,
    log_group_arn: Intrinsic,
) -> Resource {
    let mut statements = source.read();
    statements.push(statement(["logs:CreateLogStream", "logs:PutLogEvents"], [log_group_arn]));
    statements.extend(failures.write(&source.key_arn));
    role("lambda.amazonaws.com", "/lambda/", "ExecutionPolicy", statements)
}

/// What Lambda can read the stream as, for a function whose own role may not.
pub(crate) fn invocation_role(source: &Source) -> Resource {
    role("lambda.amazonaws.com", "/lambda/", "InvocationPolicy", source.read())
}

/// What producers on EC2 write to the stream as.
pub(crate) fn provider_role(source: &Source) -> Resource {
    let (has_key, key) = &source.key_arn;
    let mut statements = vec![statement(ADMINISTER_STREAM, [source.stream_arn.clone()])];
    statements
        .extend(has_key.piece(statement(["kms:Decrypt", "kms:GenerateDataKey"], [key.clone()])));
    role("ec2.amazonaws.com", "/kinesis/", "ExecutionPolicy", statements)
}

/// Lets the function write log objects under the prefix, or anywhere in the bucket where there is
/// no prefix.
pub(crate) fn log_policy(
    role: &str,
    bucket: Value<String>,
    (has_prefix, prefix): &(Presence, Value<String>),
) -> Resource {
    let within_prefix = sub_with(
        "arn:${AWS::Partition}:s3:::${Bucket}/${Prefix}/*",
        [("Bucket", bucket.clone()), ("Prefix", prefix.clone())],
    );
    let anywhere = sub_with("arn:${AWS::Partition}:s3:::${Bucket}/*", [("Bucket", bucket)]);
    let objects: Value<String> = has_prefix.choose(within_prefix, anywhere);
    policy(role, "uploadlogs", statement(["s3:PutObject"], [objects]))
}

/// Lets the function send traces to X-Ray.
pub(crate) fn tracing_policy(role: &str) -> Resource {
    policy(role, "tracing", statement(["xray:PutTelemetryRecords", "xray:PutTraceSegments"], ["*"]))
        .metadata("Reason", "Resource is *, for X-Ray knows no resource that these actions could be held to")
        .metadata(
            "checkov",
            json!({ "skip": [
            { "id": "CKV_AWS_111", "comment": "X-Ray knows no resource that these actions could be held to" },
        ] }),
        )
}

/// Lets Lambda connect the function to a VPC, as [its own list][aws] says.
///
/// [aws]: https://docs.aws.amazon.com/lambda/latest/dg/configuration-vpc.html#configuration-vpc-permissions
pub(crate) fn vpc_policy(role: &str) -> Resource {
    const CONNECT: [&str; 6] = [
        "ec2:AssignPrivateIpAddresses",
        "ec2:CreateNetworkInterface",
        "ec2:DeleteNetworkInterface",
        "ec2:DescribeNetworkInterfaces",
        "ec2:DescribeSubnets",
        "ec2:UnassignPrivateIpAddresses",
    ];
    policy(role, "vpc", statement(CONNECT, ["*"]))
        .metadata("Reason", "Resource is *, for Lambda makes the network interfaces, under names that nobody knows before")
        .metadata("checkov", json!({ "skip": [
            { "id": "CKV_AWS_111", "comment": "Lambda makes the network interfaces, under names that nobody knows before" },
        ] }))
}

fn policy(role: &str, name: &'static str, statement: Json) -> Resource {
    Resource::new("AWS::IAM::Policy")
        .property("PolicyName", name)
        .property("PolicyDocument", policy_document([statement]))
        .property("Roles", json!([reference(role)]))
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
        .property(
            "Policies",
            json!([{ "PolicyName": policy_name, "PolicyDocument": policy_document(statements) }]),
        )
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
