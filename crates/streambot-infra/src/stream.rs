//! The Kinesis stream: the one that the template makes, or an existing one that it is told of. This module knows neither
//! who reads the stream nor who writes to it.

use serde_json::json;

use crate::setting::Presence;
use crate::template::Resource;
use crate::value::{Value, get_att};

pub(crate) const LOGICAL_ID: &str = "Stream";

/// The stream that the function reads, wherever it comes from.
#[derive(Clone, Debug)]
pub struct Stream {
    arn: Value<String>,
}

impl Stream {
    pub(crate) fn new(made_here: &Presence, existing_arn: Value<String>) -> Self {
        Self { arn: made_here.choose(get_att(LOGICAL_ID, "Arn"), existing_arn) }
    }

    /// The stream's ARN.
    pub fn arn(&self) -> Value<String> {
        self.arn.clone()
    }
}

/// A stream of so many shards, encrypted at rest with the key that AWS keeps for Kinesis: whoever may use the stream may
/// use that key, so no role needs a right of its own on it.
pub(crate) fn resource(shards: Value<u32>) -> Resource {
    Resource::new("AWS::Kinesis::Stream")
        .retain()
        .metadata(
            "cfn-lint",
            json!({ "config": { "ignore_checks": ["I3013"] } }),
        )
        .metadata(
            "Reason",
            "I3013 wants a retention period. To set one here would cut, and so lose data of, a stream whose period was raised \
             outside its stack; a new stream has 24 hours",
        )
        .property("ShardCount", shards)
        .property(
            "StreamEncryption",
            json!({ "EncryptionType": "KMS", "KeyId": "alias/aws/kinesis" }),
        )
}
