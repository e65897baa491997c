//! The Kinesis stream: the one that the template makes, or an existing one that it is told of, and
//! its consumer with enhanced fan-out. This module knows neither who reads the stream nor who
//! writes to it.

use serde_json::{Value as Json, json};

use crate::setting::{Choice, Presence};
use crate::template::Resource;
use crate::value::{Value, get_att, reference, select, split};

pub(crate) const LOGICAL_ID: &str = "Stream";
pub(crate) const CONSUMER: &str = "Consumer";

/// How a stream's capacity is kept, and paid: see [Choose the right mode][aws].
///
/// [aws]: https://docs.aws.amazon.com/streams/latest/dev/how-do-i-size-a-stream.html
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamMode {
    /// As many shards as it is given.
    Provisioned,
    /// As many shards as its traffic needs; the number given is not looked at.
    OnDemand,
}

impl Choice for StreamMode {
    fn text(&self) -> &'static str {
        match self {
            StreamMode::Provisioned => "PROVISIONED",
            StreamMode::OnDemand => "ON_DEMAND",
        }
    }
}

impl From<StreamMode> for Json {
    fn from(mode: StreamMode) -> Self {
        mode.text().into()
    }
}

impl From<StreamMode> for Value<StreamMode> {
    fn from(mode: StreamMode) -> Self {
        Value::Literal(mode)
    }
}

/// The stream that the function reads, wherever it comes from.
#[derive(Clone, Debug)]
pub struct Stream {
    arn: Value<String>,
    name: Value<String>,
}

impl Stream {
    pub(crate) fn new(made_here: &Presence, logical_id: &str, existing_arn: Value<String>) -> Self {
        let existing_name = match &existing_arn {
            Value::Literal(arn) => Value::from(arn.rsplit('/').next().unwrap_or_default()),
            Value::Intrinsic(arn) => select(1, split("/", arn.clone())).into(),
        };
        Self {
            arn: made_here.choose(get_att(logical_id, "Arn"), existing_arn),
            name: made_here.choose(reference(logical_id), existing_name),
        }
    }

    /// The stream's ARN.
    pub fn arn(&self) -> Value<String> {
        self.arn.clone()
    }

    /// The stream's name.
    pub fn name(&self) -> Value<String> {
        self.name.clone()
    }
}

/// What the template's own stream is like.
pub(crate) struct Wanted {
    pub(crate) mode: Value<StreamMode>,
    pub(crate) on_demand: Presence,
    pub(crate) shards: Value<u32>,
    pub(crate) retention_hours: (Presence, Value<u32>),
    pub(crate) key: (Presence, Value<String>),
    pub(crate) max_record_size_in_kib: (Presence, Value<u32>),
    pub(crate) shard_level_metrics: Presence,
}

/// A stream, encrypted at rest: with the key that AWS keeps for Kinesis, which needs no right of
/// its own, or a given one. What is left out stays as it is on a stream that exists, so that an
/// update cuts nothing that was raised by hand.
pub(crate) fn resource(wanted: &Wanted) -> Resource {
    let (has_key, key) = &wanted.key;
    let key: Value<String> = has_key.choose(key.clone(), "alias/aws/kinesis");
    let shards = match &wanted.on_demand {
        Presence::Always => None,
        Presence::Never => Some(wanted.shards.clone().into()),
        Presence::When(condition, _) => {
            Some(crate::if_(condition, crate::no_value(), wanted.shards.clone()).into())
        }
    };
    let optional = |(presence, value): &(Presence, Value<u32>)| presence.piece(value.clone());
    Resource::new("AWS::Kinesis::Stream")
        .metadata("cfn-lint", json!({ "config": { "ignore_checks": ["I3013"] } }))
        .metadata(
            "Reason",
            "I3013 wants a retention period. To set one unasked would cut, and so lose data of, a stream whose period was \
             raised outside its stack; a new stream has 24 hours",
        )
        .property("StreamModeDetails", json!({ "StreamMode": Json::from(wanted.mode.clone()) }))
        .optional_property("ShardCount", shards)
        .optional_property("RetentionPeriodHours", optional(&wanted.retention_hours))
        .optional_property("MaxRecordSizeInKiB", optional(&wanted.max_record_size_in_kib))
        .optional_property("DesiredShardLevelMetrics", wanted.shard_level_metrics.piece(json!(["ALL"])))
        .property("StreamEncryption", json!({ "EncryptionType": "KMS", "KeyId": key }))
}

/// A consumer with enhanced fan-out: a throughput of its own, of 2 MB a second and shard.
pub(crate) fn consumer(name: impl Into<Value<String>>, stream_arn: Value<String>) -> Resource {
    Resource::new("AWS::Kinesis::StreamConsumer")
        .property("ConsumerName", name.into())
        .property("StreamARN", stream_arn)
}
