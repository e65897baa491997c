//! Where failed batches are told of: a bucket, a queue or a topic, as the user or a mapping names
//! it. Names only; it refuses to know what is there.

use std::fmt;
use std::str::FromStr;

use aws_sdk_lambda::types::EventSourceMappingConfiguration;

use crate::local::destination::Target;

/// What every object's key begins with, before the mapping's UUID:
/// <https://docs.aws.amazon.com/lambda/latest/dg/kinesis-on-failure-destination.html>.
const OBJECTS: &str = "aws/lambda/";

/// A failure destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// The objects of a bucket.
    Bucket {
        /// Its name.
        bucket: String,
        /// What their keys begin with.
        prefix: String,
    },
    /// A queue by its ARN's parts.
    Queue {
        /// The account.
        account: String,
        /// The name.
        name: String,
        /// Its region.
        region: String,
    },
    /// A queue by its URL.
    QueueUrl(String),
    /// A topic by its ARN. Topics hold nothing.
    Topic(String),
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.starts_with("https://") || text.starts_with("http://") {
            return Ok(Self::QueueUrl(text.to_owned()));
        }
        match text.parse()? {
            Target::Bucket { bucket, prefix } => Ok(Self::Bucket { bucket, prefix }),
            Target::Queue { account, name, region } => Ok(Self::Queue { account, name, region }),
            Target::Topic { arn, .. } => Ok(Self::Topic(arn)),
            Target::File(_) => {
                Err("write s3://bucket/prefix, or a queue's ARN or URL; a file's lines cannot be replayed".to_owned())
            }
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bucket { bucket, prefix } => write!(formatter, "s3://{bucket}/{prefix}"),
            Self::Queue { name, .. } => write!(formatter, "queue `{name}`"),
            Self::QueueUrl(url) => write!(formatter, "queue {url}"),
            Self::Topic(arn) => write!(formatter, "topic {arn}"),
        }
    }
}

impl Place {
    /// The destination `arn` of the mapping `uuid`; of any mapping where none is named.
    fn told_by(arn: &str, uuid: Option<&str>) -> Result<Self, String> {
        let place = arn.parse()?;
        Ok(match place {
            Self::Bucket { bucket, prefix } => {
                let mapping = uuid.map(|uuid| format!("{uuid}/")).unwrap_or_default();
                Self::Bucket { bucket, prefix: format!("{prefix}{OBJECTS}{mapping}") }
            }
            other => other,
        })
    }

    /// The region a queue's URL names.
    pub(crate) fn region(&self) -> Option<&str> {
        match self {
            Self::Queue { region, .. } => Some(region),
            Self::QueueUrl(url) => {
                let host = url.split('/').nth(2)?;
                host.strip_prefix("sqs.")?.split_once(".amazonaws.").map(|(region, _)| region)
            }
            Self::Bucket { .. } | Self::Topic(_) => None,
        }
    }
}

/// Where the mappings tell of failed batches, each place once; the stack's destination where no
/// mapping names one.
pub(crate) fn of_mappings(
    mappings: &[EventSourceMappingConfiguration],
    stacks: Option<&str>,
) -> Result<Vec<Place>, String> {
    let mut places: Vec<Place> = Vec::new();
    for mapping in mappings {
        let arn =
            mapping.destination_config().and_then(|config| config.on_failure()?.destination());
        if let Some(arn) = arn.filter(|arn| !arn.is_empty()) {
            let place = Place::told_by(arn, mapping.uuid())?;
            if !places.contains(&place) {
                places.push(place);
            }
        }
    }
    if let (true, Some(arn)) = (places.is_empty(), stacks) {
        places.push(Place::told_by(arn, None)?);
    }
    Ok(places)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use aws_sdk_lambda::types::{DestinationConfig, OnFailure};

    use super::*;

    fn mapping(uuid: &str, destination: &str) -> EventSourceMappingConfiguration {
        let on_failure = OnFailure::builder().destination(destination).build();
        EventSourceMappingConfiguration::builder()
            .uuid(uuid)
            .destination_config(DestinationConfig::builder().on_failure(on_failure).build())
            .build()
    }

    fn bucket(prefix: &str) -> Place {
        Place::Bucket { bucket: "lost".to_owned(), prefix: prefix.to_owned() }
    }

    #[test]
    fn a_place_is_named_as_aws_does() {
        assert_eq!("s3://lost/mine".parse(), Ok(bucket("mine/")));
        let url = "https://sqs.eu-west-1.amazonaws.com/123456789012/lost";
        let by_url: Place = url.parse().unwrap();
        assert_eq!(by_url, Place::QueueUrl(url.to_owned()));
        assert_eq!(by_url.region(), Some("eu-west-1"));
        assert_eq!("http://127.0.0.1:5000/1/lost".parse::<Place>().unwrap().region(), None);
        assert_eq!(
            "arn:aws:sqs:eu-west-1:1:lost".parse::<Place>().unwrap().region(),
            Some("eu-west-1")
        );
        assert!("lost.ndjson".parse::<Place>().unwrap_err().contains("s3://bucket/prefix"));
    }

    #[test]
    fn a_mappings_bucket_is_read_below_its_own_uuid() {
        let places = of_mappings(
            &[mapping("1-2", "arn:aws:s3:::lost"), mapping("3-4", "")],
            Some("arn:aws:s3:::stack"),
        );
        assert_eq!(places, Ok(vec![bucket("aws/lambda/1-2/")]));
        assert_eq!(of_mappings(&[], Some("arn:aws:s3:::lost")), Ok(vec![bucket("aws/lambda/")]));
        assert_eq!(of_mappings(&[], None), Ok(Vec::new()));
    }

    #[test]
    fn a_queue_of_two_mappings_is_read_once() {
        let arn = "arn:aws:sqs:eu-west-1:1:lost";
        assert_eq!(of_mappings(&[mapping("1", arn), mapping("2", arn)], None).unwrap().len(), 1);
    }
}
