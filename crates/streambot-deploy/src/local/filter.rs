//! Which records the mapping's filter patterns let through: EventBridge's pattern language over a
//! record's data, read as JSON, and its metadata. Pure; it refuses to know what is done with a
//! record that is passed over.
//!
//! <https://docs.aws.amazon.com/lambda/latest/dg/with-kinesis-filtering.html>; the operators are
//! those of
//! <https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-create-pattern-operators.html>
//! without `cidr`.

mod operator;
mod pattern;

use std::sync::Arc;

use serde_json::{Map, Value};

use self::pattern::Pattern;
use super::record::{Record, ShardId};

/// The most patterns a mapping has: 5, or 10 once the account's quota is raised.
const MOST_PATTERNS: usize = 10;

/// The patterns of a mapping; a record has to match one of them.
#[derive(Clone, Debug)]
pub(crate) struct Patterns(Vec<Pattern>);

/// Patterns for the records of a stream.
#[derive(Clone, Debug)]
pub(crate) struct Filter {
    patterns: Vec<Pattern>,
    constants: Constants,
}

/// What all records of the stream have in common.
#[derive(Clone, Debug)]
pub(crate) struct Constants {
    /// The stream's region.
    pub(crate) region: String,
    /// The stream's ARN.
    pub(crate) stream_arn: String,
    /// The ARN of the role it is read with.
    pub(crate) role_arn: String,
}

/// Patterns that Lambda would refuse when the mapping is made.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidFilter {
    /// There are too many.
    #[error("{0} filter patterns are given, and a mapping has at most {MOST_PATTERNS}")]
    TooMany(usize),
    /// One is not of the pattern language.
    #[error("the filter pattern {pattern} is not valid: {problem}")]
    Pattern {
        /// Its text.
        pattern: String,
        /// What is wrong with it, and where.
        problem: String,
    },
}

impl Patterns {
    /// Reads patterns, each a JSON text; `None` where there are none, so that every record is sent.
    ///
    /// # Errors
    /// When there are too many, or one is no pattern.
    pub(crate) fn parse<'a>(
        texts: impl IntoIterator<Item = &'a str>,
    ) -> Result<Option<Patterns>, InvalidFilter> {
        let patterns = texts
            .into_iter()
            .map(|text| {
                Pattern::parse(text)
                    .map_err(|problem| InvalidFilter::Pattern { pattern: text.to_owned(), problem })
            })
            .collect::<Result<Vec<Pattern>, InvalidFilter>>()?;
        match patterns.len() {
            0 => Ok(None),
            1..=MOST_PATTERNS => Ok(Some(Patterns(patterns))),
            more => Err(InvalidFilter::TooMany(more)),
        }
    }
}

impl Filter {
    /// The filter of these patterns for records that have this in common.
    pub(crate) fn new(Patterns(patterns): Patterns, constants: Constants) -> Filter {
        Filter { patterns, constants }
    }

    /// Whether a record of the shard matches one of the patterns. Data that is not JSON matches
    /// none that names `data`.
    fn passes(&self, shard: &ShardId, record: &Record) -> bool {
        let mut document = self.metadata(shard, record);
        if self.patterns.iter().any(Pattern::names_data)
            && let Ok(data) = serde_json::from_slice::<Value>(&record.data)
        {
            document.insert("data".to_owned(), data);
        }
        let has_data = document.contains_key("data");
        let document = Value::Object(document);
        self.patterns
            .iter()
            .any(|pattern| (has_data || !pattern.names_data()) && pattern.matches(&document))
    }

    /// The keys of a record in an event, beside its data; those of `kinesis` stand next to the
    /// others, as in the guide.
    fn metadata(&self, shard: &ShardId, record: &Record) -> Map<String, Value> {
        let Constants { region, stream_arn, role_arn } = &self.constants;
        let texts = [
            ("kinesisSchemaVersion", "1.0"),
            ("sequenceNumber", record.sequence_number.as_str()),
            ("eventSource", "aws:kinesis"),
            ("eventVersion", "1.0"),
            ("eventID", &format!("{shard}:{}", record.sequence_number)),
            ("eventName", "aws:kinesis:record"),
            ("invokeIdentityArn", role_arn),
            ("awsRegion", region),
            ("eventSourceARN", stream_arn),
        ];
        let named = self.patterns.iter().flat_map(Pattern::keys);
        let mut metadata = Map::new();
        for key in named {
            if key == "partitionKey" {
                metadata.insert(key.to_owned(), Value::from(record.partition_key.as_deref()));
            } else if let Some((_, text)) = texts.iter().find(|(name, _)| *name == key) {
                metadata.insert(key.to_owned(), Value::from(*text));
            } else if key == "approximateArrivalTimestamp" {
                metadata.insert(key.to_owned(), Value::from(record.arrival as f64 / 1000.0));
            }
        }
        metadata
    }
}

/// A filter for the records of one shard.
#[derive(Clone, Debug)]
pub(crate) struct ShardFilter {
    filter: Arc<Filter>,
    shard: ShardId,
}

impl ShardFilter {
    /// The filter for this shard.
    pub(crate) fn new(filter: Arc<Filter>, shard: ShardId) -> ShardFilter {
        ShardFilter { filter, shard }
    }

    /// Whether the record is to be sent.
    pub(crate) fn passes(&self, record: &Record) -> bool {
        self.filter.passes(&self.shard, record)
    }
}

#[cfg(test)]
#[path = "filter_tests.rs"]
mod tests;
