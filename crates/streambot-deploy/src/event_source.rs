//! The event source mapping between a Kinesis stream and the function: its settings, which clap
//! flags, the manifest, the deployed mapping and `local` all share, and its creation and update
//! through the Lambda API. It refuses to know where the stream and the function came from.

mod apply;
mod find;
mod mapping;
mod plan;
mod retention;

use std::fmt;
use std::str::FromStr;

use clap::{Args, ValueEnum};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::error::{Error, Result};
use crate::settings::{Bounded, Limit};
pub(crate) use apply::{
    Connected, apply, delete, honour_partial_answers, invokes_latest, move_to_alias,
    wait_until_gone,
};
pub(crate) use find::{list, list_all};
pub(crate) use plan::{Wanted, plan};
pub(crate) use retention::warn_of_queue;

/// A mapping as Lambda describes it.
pub(crate) type Described = aws_sdk_lambda::types::EventSourceMappingConfiguration;

/// Every Kinesis setting of Lambda's event source mapping, each one optional: a flag or a manifest
/// key that is not given leaves its default, which the method of the same name applies.
///
/// Names, units and ranges are the API's own:
/// <https://docs.aws.amazon.com/lambda/latest/api/API_CreateEventSourceMapping.html>.
/// `FunctionResponseTypes` is missing on purpose: Streambot always sets `ReportBatchItemFailures`,
/// because without it Lambda ignores the function's answer and the failed records are lost.
#[derive(Debug, Clone, Default, PartialEq, Args, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub(crate) struct EventSourceSettings {
    /// Records in one invocation at most, 1 to 10000 [default: 100]
    #[arg(long, value_name = "RECORDS", allow_negative_numbers = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) batch_size: Option<Bounded<1, 10_000>>,

    /// Seconds to gather records before invoking, 0 to 300 [default: 0]
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) maximum_batching_window_in_seconds: Option<Bounded<0, 300>>,

    /// Batches of one shard that may run at once, 1 to 10 [default: 1]
    #[arg(long, value_name = "BATCHES", allow_negative_numbers = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) parallelization_factor: Option<Bounded<1, 10>>,

    /// Where a new mapping starts to read [default: TRIM_HORIZON]
    #[arg(long, value_name = "POSITION")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) starting_position: Option<StartingPosition>,

    /// Time to start at with AT_TIMESTAMP: RFC 3339 or Unix seconds
    #[arg(long, value_name = "TIME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) starting_position_timestamp: Option<Timestamp>,

    /// Retries of a failed batch, 0 to 10000, or -1 until its records expire [default: -1]
    #[arg(long, value_name = "RETRIES", allow_negative_numbers = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) maximum_retry_attempts: Option<Bounded<-1, 10_000>>,

    /// Age past which a record is discarded, 60 to 604800, or -1 for the stream's retention
    /// [default: -1]
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) maximum_record_age_in_seconds: Option<Limit<60, 604_800>>,

    /// Split a failed batch in two and retry the halves [default: false]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) bisect_batch_on_function_error: Option<bool>,

    /// Length of a tumbling window, 0 to 900, 0 for none [default: 0]
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tumbling_window_in_seconds: Option<Bounded<0, 900>>,

    /// ARN of the SQS queue, SNS topic or S3 bucket told of discarded records; empty for none
    /// [default: the stack's, when deployed]
    #[arg(long, value_name = "ARN")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) on_failure: Option<String>,

    /// Pass over records that match no pattern (EventBridge JSON); repeat it for more patterns
    #[arg(long = "filter-pattern", value_name = "JSON")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) filter_patterns: Option<Vec<FilterPattern>>,

    /// Metrics that Lambda counts of the mapping: EventCount; repeat it for more
    #[arg(long = "metric", value_name = "NAME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) metrics: Option<Vec<Metric>>,

    /// ARN of the KMS key that encrypts the filter patterns [default: AWS's own]
    #[arg(long, value_name = "ARN")]
    #[serde(skip_serializing_if = "Option::is_none", rename = "kms-key-arn")]
    pub(crate) filter_kms_key_arn: Option<String>,

    /// Whether the mapping reads the stream [default: true]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) enabled: Option<bool>,
}

impl EventSourceSettings {
    /// Records in one invocation at most.
    pub(crate) fn batch_size(&self) -> u32 {
        self.batch_size.map_or(100, Bounded::get_unsigned)
    }

    /// Seconds to gather records before invoking; 0 sends what one read returned.
    pub(crate) fn maximum_batching_window_in_seconds(&self) -> u32 {
        self.maximum_batching_window_in_seconds.map_or(0, Bounded::get_unsigned)
    }

    /// Batches of one shard that may run at once.
    pub(crate) fn parallelization_factor(&self) -> u32 {
        self.parallelization_factor.map_or(1, Bounded::get_unsigned)
    }

    /// Where a new mapping starts to read.
    pub(crate) fn starting_position(&self) -> StartingPosition {
        self.starting_position.unwrap_or_default()
    }

    /// Where a new mapping starts with [`StartingPosition::AtTimestamp`].
    pub(crate) fn starting_position_timestamp(&self) -> Option<Timestamp> {
        self.starting_position_timestamp
    }

    /// Retries of a failed batch; nothing means until its records expire.
    pub(crate) fn maximum_retry_attempts(&self) -> Option<u32> {
        self.maximum_retry_attempts.and_then(|retries| u32::try_from(retries.get()).ok())
    }

    /// Age in seconds past which a record is discarded; nothing means the stream's own retention.
    pub(crate) fn maximum_record_age_in_seconds(&self) -> Option<u32> {
        self.maximum_record_age_in_seconds.and_then(Limit::get)
    }

    /// Whether a failed batch is split in two.
    pub(crate) fn bisect_batch_on_function_error(&self) -> bool {
        self.bisect_batch_on_function_error.unwrap_or(false)
    }

    /// Length of a tumbling window in seconds; nothing where the mapping has none.
    pub(crate) fn tumbling_window_in_seconds(&self) -> Option<u32> {
        self.tumbling_window_in_seconds.map(Bounded::get_unsigned).filter(|seconds| *seconds > 0)
    }

    /// ARN of what is told of discarded records.
    pub(crate) fn on_failure(&self) -> Option<&str> {
        self.on_failure.as_deref().filter(|arn| !arn.is_empty())
    }

    /// Takes what the stack has for discarded records, unless these settings name something, or
    /// nothing, themselves.
    pub(crate) fn with_failure_destination(mut self, arn: Option<&str>) -> Self {
        self.on_failure = self.on_failure.or_else(|| arn.map(str::to_owned));
        self
    }

    /// Patterns of which a record must match one; none means that every record is sent.
    pub(crate) fn filter_patterns(&self) -> &[FilterPattern] {
        self.filter_patterns.as_deref().unwrap_or_default()
    }

    /// What Lambda counts of the mapping.
    pub(crate) fn metrics(&self) -> &[Metric] {
        self.metrics.as_deref().unwrap_or_default()
    }

    /// ARN of the key that encrypts the filter patterns.
    pub(crate) fn kms_key_arn(&self) -> Option<&str> {
        self.filter_kms_key_arn.as_deref().filter(|arn| !arn.is_empty())
    }

    /// Whether the mapping reads the stream.
    pub(crate) fn enabled(&self) -> bool {
        self.enabled.unwrap_or(true)
    }

    /// What no single setting can tell: settings that need or exclude each other.
    ///
    /// # Errors
    /// Bad usage, naming both settings.
    pub(crate) fn check(&self) -> Result<()> {
        let at_timestamp = self.starting_position() == StartingPosition::AtTimestamp;
        match (at_timestamp, self.starting_position_timestamp) {
            (true, None) => Err(Error::usage(
                "starting-position AT_TIMESTAMP needs a starting-position-timestamp",
            )
            .hint("give one, such as 2026-11-22T18:00:00Z")),
            (false, Some(_)) => Err(Error::usage(
                "starting-position-timestamp is only read with starting-position AT_TIMESTAMP",
            )
            .hint("set starting-position to AT_TIMESTAMP, or leave the timestamp out")),
            _ => Ok(()),
        }
    }

    /// What these settings allow to go wrong unseen, for whoever deploys them.
    pub(crate) fn warnings(&self) -> Vec<&'static str> {
        let mut warnings = Vec::new();
        let endless = self.maximum_retry_attempts().is_none()
            && self.maximum_record_age_in_seconds().is_none();
        if self.on_failure().is_none() {
            warnings.push(if endless {
                "a record that always fails blocks its shard until it expires, and is then lost: \
                 set maximum-retry-attempts and on-failure"
            } else {
                "records that are discarded after their retries leave no trace: set on-failure"
            });
        }
        if self.maximum_retry_attempts() == Some(0) {
            warnings.push(
                "maximum-retry-attempts of 0 may discard what a slow batch leaves to its next invocation: give at least 1",
            );
        }
        if !self.filter_patterns().is_empty() {
            warnings.push(
                "filter-patterns drop every record that is not JSON, and so all that a Kinesis Producer Library aggregates",
            );
        }
        warnings
    }
}

/// A metric that Lambda counts of a mapping, beside those of the function:
/// <https://docs.aws.amazon.com/lambda/latest/dg/monitoring-metrics-types.html#event-source-mapping-metrics>.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[value(rename_all = "PascalCase")]
pub(crate) enum Metric {
    /// How many records were polled, filtered out, invoked, failed and dropped.
    EventCount,
}

impl Metric {
    /// Lambda's word for it.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::EventCount => "EventCount",
        }
    }
}

/// Where a new mapping starts to read the stream. AWS cannot change it once the mapping exists.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[value(rename_all = "SCREAMING_SNAKE_CASE")]
pub(crate) enum StartingPosition {
    /// The oldest record the stream still holds.
    #[default]
    TrimHorizon,
    /// The records put after the mapping exists; what is put while it is being created may be
    /// missed.
    Latest,
    /// The first record at or after the given time.
    AtTimestamp,
}

impl StartingPosition {
    /// Lambda's word for it.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::TrimHorizon => "TRIM_HORIZON",
            Self::Latest => "LATEST",
            Self::AtTimestamp => "AT_TIMESTAMP",
        }
    }
}

/// A time to start at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Timestamp(jiff::Timestamp);

impl Timestamp {
    /// Seconds since 1970-01-01T00:00:00Z, with the fraction.
    pub(crate) fn as_unix_seconds(self) -> f64 {
        self.0.as_duration().as_secs_f64()
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl FromStr for Timestamp {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let timestamp = match text.parse::<i64>() {
            Ok(seconds) => jiff::Timestamp::from_second(seconds).ok(),
            Err(_) => text.parse().ok(),
        };
        timestamp.map(Self).ok_or_else(|| {
            format!("{text} is no time: write 2026-11-22T18:00:00Z or seconds since 1970")
        })
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Seconds(i64),
            Text(String),
        }
        let text = match Written::deserialize(deserializer) {
            Ok(Written::Seconds(seconds)) => seconds.to_string(),
            Ok(Written::Text(text)) => text,
            Err(_) => {
                return Err(de::Error::custom(
                    "a time is a quoted \"2026-11-22T18:00:00Z\" or seconds since 1970",
                ));
            }
        };
        text.parse().map_err(de::Error::custom)
    }
}

/// One filter pattern in EventBridge's language, as JSON text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub(crate) struct FilterPattern(String);

impl FilterPattern {
    /// The pattern's JSON text.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for FilterPattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(text) {
            Ok(_) => Ok(Self(text.to_owned())),
            Err(error) => Err(format!("{text} is no pattern, it must be a JSON object: {error}")),
        }
    }
}

impl<'de> Deserialize<'de> for FilterPattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    fn settings(settings: serde_json::Value) -> EventSourceSettings {
        serde_json::from_value(settings).unwrap()
    }

    #[test]
    fn the_defaults_are_the_apis_but_for_the_starting_position_which_it_has_none_for() {
        let settings = EventSourceSettings::default();
        assert_eq!(settings.batch_size(), 100);
        assert_eq!(settings.maximum_batching_window_in_seconds(), 0);
        assert_eq!(settings.parallelization_factor(), 1);
        assert_eq!(settings.starting_position(), StartingPosition::TrimHorizon);
        assert_eq!(settings.maximum_retry_attempts(), None);
        assert_eq!(settings.maximum_record_age_in_seconds(), None);
        assert!(!settings.bisect_batch_on_function_error());
        assert_eq!(settings.tumbling_window_in_seconds(), None);
        assert_eq!(settings.on_failure(), None);
        assert!(settings.filter_patterns().is_empty());
        assert!(settings.enabled());
        settings.check().unwrap();
    }

    #[test]
    fn no_limit_and_none_are_told_apart_from_zero() {
        let none =
            settings(json!({ "maximum-retry-attempts": 0, "tumbling-window-in-seconds": 0 }));
        assert_eq!(none.maximum_retry_attempts(), Some(0));
        assert_eq!(none.tumbling_window_in_seconds(), None);
        let unlimited =
            settings(json!({ "maximum-retry-attempts": -1, "maximum-record-age-in-seconds": -1 }));
        assert_eq!(unlimited.maximum_retry_attempts(), None);
        assert_eq!(unlimited.maximum_record_age_in_seconds(), None);
    }

    #[test]
    fn a_time_is_written_in_rfc_3339_or_unix_seconds() {
        for written in [
            json!("2026-11-22T18:00:00Z"),
            json!("2026-11-22T19:00:00+01:00"),
            json!(1_795_370_400),
        ] {
            let timestamp: Timestamp = serde_json::from_value(written).unwrap();
            assert_eq!(timestamp.as_unix_seconds(), 1_795_370_400.0);
        }
        for wrong in [json!("tomorrow"), json!("2026-11-22"), json!(true), json!({ "a": 1 })] {
            let error = serde_json::from_value::<Timestamp>(wrong).unwrap_err().to_string();
            assert!(error.contains("2026-11-22T18:00:00Z"), "{error}");
        }
    }

    #[test]
    fn a_starting_time_and_its_position_need_each_other() {
        let time = json!("2026-11-22T18:00:00Z");
        for wrong in [
            json!({ "starting-position": "AT_TIMESTAMP" }),
            json!({ "starting-position-timestamp": time }),
            json!({ "starting-position": "LATEST", "starting-position-timestamp": time }),
        ] {
            assert_eq!(settings(wrong).check().unwrap_err().exit_code(), 2);
        }
        settings(
            json!({ "starting-position": "AT_TIMESTAMP", "starting-position-timestamp": time }),
        )
        .check()
        .unwrap();
    }

    #[test]
    fn a_pattern_is_a_json_object() {
        assert!(r#"{"data":{"mag":[{"numeric":[">=",4.5]}]}}"#.parse::<FilterPattern>().is_ok());
        for wrong in ["", "[]", "4", "{", "net"] {
            assert!(wrong.parse::<FilterPattern>().unwrap_err().contains("must be a JSON object"));
        }
    }

    #[test]
    fn the_stacks_failure_destination_is_taken_unless_the_settings_say_otherwise() {
        let taken = |given| {
            settings(given)
                .with_failure_destination(Some("arn:stack"))
                .on_failure()
                .map(str::to_owned)
        };
        assert_eq!(taken(json!({})).as_deref(), Some("arn:stack"));
        assert_eq!(taken(json!({ "on-failure": "arn:mine" })).as_deref(), Some("arn:mine"));
        assert_eq!(taken(json!({ "on-failure": "" })), None);
        assert_eq!(settings(json!({})).with_failure_destination(None).on_failure(), None);
    }

    #[test]
    fn what_would_be_lost_unseen_is_warned_of() {
        let warned = |given| settings(given).warnings().join("\n");
        assert!(warned(json!({})).contains("blocks its shard until it expires"));
        assert!(warned(json!({ "maximum-retry-attempts": 3 })).contains("leave no trace"));
        assert!(warned(json!({ "maximum-record-age-in-seconds": 60 })).contains("leave no trace"));
        let once = json!({ "on-failure": "arn", "maximum-retry-attempts": 0 });
        assert!(warned(once).contains("slow batch"));
        assert_eq!(warned(json!({ "on-failure": "arn" })), "");
        assert!(
            warned(json!({ "on-failure": "arn", "filter-patterns": ["{}"] }))
                .contains("Kinesis Producer Library")
        );
    }
}
