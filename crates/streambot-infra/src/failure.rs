//! Where Lambda leaves what it gives up on: a bucket, which holds the records themselves, or a
//! queue, which holds their sequence numbers. This module knows what is kept there and for how
//! long, not who may write it.

use serde_json::{Value as Json, json};

use crate::setting::{Choice, Presence};
use crate::template::Resource;
use crate::value::{Value, get_att, reference, sub};

pub(crate) const BUCKET: &str = "FailureBucket";
pub(crate) const BUCKET_POLICY: &str = "FailureBucketPolicy";
pub(crate) const QUEUE: &str = "FailureQueue";

/// A stream keeps its records for 24 hours at least, so a queue that holds their sequence numbers
/// no longer never points at what is gone.
const QUEUE_RETENTION_SECONDS: u32 = 86_400;

/// Where Lambda leaves batches it gives up on: see [Retain discarded batch records][aws].
///
/// [aws]: https://docs.aws.amazon.com/lambda/latest/dg/kinesis-on-failure-destination.html
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureDestination {
    /// Nowhere: they are lost.
    None,
    /// In an S3 bucket, with their data: what is recommended.
    S3,
    /// In an SQS queue, as sequence numbers: the data must be read from the stream while it is
    /// there.
    Sqs,
}

impl Choice for FailureDestination {
    fn text(&self) -> &'static str {
        match self {
            FailureDestination::None => "NONE",
            FailureDestination::S3 => "S3",
            FailureDestination::Sqs => "SQS",
        }
    }
}

impl From<FailureDestination> for Value<FailureDestination> {
    fn from(destination: FailureDestination) -> Self {
        Value::Literal(destination)
    }
}

/// A bucket that nobody outside the account can open, encrypted with the stream's key where that is
/// a customer's.
pub(crate) fn bucket(
    (has_key, key): &(Presence, Value<String>),
    retention_days: Value<u32>,
) -> Resource {
    let with_key = json!({
        "BucketKeyEnabled": true,
        "ServerSideEncryptionByDefault": { "SSEAlgorithm": "aws:kms", "KMSMasterKeyID": Json::from(key.clone()) },
    });
    let without = json!({ "ServerSideEncryptionByDefault": { "SSEAlgorithm": "AES256" } });
    let encryption = has_key.choose::<Json>(Value::Literal(with_key), Value::Literal(without));
    Resource::new("AWS::S3::Bucket")
        .metadata("checkov", json!({ "skip": [
            { "id": "CKV_AWS_18", "comment": "access logs would need a bucket of their own; data events of CloudTrail tell who read what" },
            { "id": "CKV_AWS_21", "comment": "Lambda writes each object once, under a name of its own, and rewrites none" },
        ] }))
        .property("BucketEncryption", json!({ "ServerSideEncryptionConfiguration": [Json::from(encryption)] }))
        .property("PublicAccessBlockConfiguration", json!({
            "BlockPublicAcls": true,
            "BlockPublicPolicy": true,
            "IgnorePublicAcls": true,
            "RestrictPublicBuckets": true,
        }))
        .property("OwnershipControls", json!({ "Rules": [{ "ObjectOwnership": "BucketOwnerEnforced" }] }))
        .property("LifecycleConfiguration", json!({ "Rules": [{
            "Id": "Expire",
            "Status": "Enabled",
            "ExpirationInDays": Json::from(retention_days),
            "AbortIncompleteMultipartUpload": { "DaysAfterInitiation": 1 },
        }] }))
}

/// Whoever it is, not without encryption on the way.
pub(crate) fn bucket_policy(bucket: &str) -> Resource {
    Resource::new("AWS::S3::BucketPolicy")
        .metadata(
            "Reason",
            "Principal and Action are *, because the statement denies: nobody may do anything in the clear",
        )
        .property("Bucket", reference(bucket))
        .property(
            "PolicyDocument",
            json!({
                "Version": "2012-10-17",
                "Statement": [{
                    "Effect": "Deny",
                    "Principal": "*",
                    "Action": "s3:*",
                    "Resource": [get_att(bucket, "Arn"), sub(format!("${{{bucket}.Arn}}/*"))],
                    "Condition": { "Bool": { "aws:SecureTransport": "false" } },
                }],
            }),
        )
}

/// A queue, encrypted with the key that SQS keeps: what it holds is no data.
pub(crate) fn queue() -> Resource {
    Resource::new("AWS::SQS::Queue")
        .metadata(
            "checkov",
            json!({ "skip": [
                { "id": "CKV_AWS_27", "comment": "encrypted with the key that SQS keeps; it holds sequence numbers, no data" },
            ] }),
        )
        .property("SqsManagedSseEnabled", true)
        .property("MessageRetentionPeriod", QUEUE_RETENTION_SECONDS)
}
