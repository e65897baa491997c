//! What of a service there is on AWS besides its code: its stack's values, and the mappings that
//! feed its function. It refuses to know what a verb does with them.

use aws_sdk_lambda::Client;
use aws_sdk_lambda::types::EventSourceMappingConfiguration;

use crate::aws::Aws;
use crate::error::Result;
use crate::service::{Origin, Service};
use crate::stack::{self, StackValues};
use crate::{event_source, progress};

/// What was found of a service.
#[derive(Debug)]
pub(crate) struct Deployed {
    /// What the stack tells.
    pub(crate) stack: StackFound,
    /// The function's mappings, each once.
    pub(crate) mappings: Vec<EventSourceMappingConfiguration>,
}

/// What the stack of a service tells.
#[derive(Debug)]
pub(crate) enum StackFound {
    /// It stands.
    Standing(Box<StackValues>),
    /// It stands in a way that tells nothing, such as half deleted.
    Unreadable,
    /// There is none.
    Missing,
}

impl StackFound {
    /// What it tells, where it stands.
    pub(crate) fn values(&self) -> Option<&StackValues> {
        match self {
            Self::Standing(values) => Some(values),
            Self::Unreadable | Self::Missing => None,
        }
    }
}

impl Deployed {
    /// Looks for the stack and the mappings of function `name`. Without a stack that can be read,
    /// its mappings are looked for among all of the region.
    ///
    /// # Errors
    /// Failed where Lambda does not answer or refuses. A stack that cannot be read is a warning.
    pub(crate) async fn find(aws: &Aws, service: &Service, name: &str) -> Result<Self> {
        let cloudformation = aws_sdk_cloudformation::Client::new(&aws.config);
        let stack = match stack::look_up(&cloudformation, name, &service.prefix).await {
            Ok(values) => StackFound::Standing(Box::new(values)),
            Err(error) if error.is_missing() => StackFound::Missing,
            Err(error) => {
                progress::warn(format!(
                    "going by the function's name alone, since its stack cannot be read: {}",
                    error.in_one_line()
                ));
                StackFound::Unreadable
            }
        };
        let lambda = Client::new(&aws.config);
        let mappings = match stack.values() {
            Some(values) => event_source::list(&lambda, name, &sources(service, values)).await?,
            None => event_source::list_all(&lambda, name).await?,
        };
        Ok(Self { stack, mappings })
    }
}

/// ARNs of all that the service's mappings may read: of a stream with a consumer, either.
fn sources<'a>(service: &'a Service, values: &'a StackValues) -> Vec<&'a str> {
    let own =
        std::iter::once(values.source.stream.as_str()).chain(values.source.consumer.as_deref());
    let declared = service.event_sources.iter().flat_map(|source| match &source.origin {
        Origin::Stack => Vec::new(),
        Origin::Arn(arn) => vec![arn.as_str()],
        Origin::Prefix(prefix) => ["KinesisStream", "StreamConsumer"]
            .into_iter()
            .filter_map(|output| values.outputs.get(prefix, output))
            .collect(),
    });
    own.chain(declared).collect()
}

/// A mapping as messages name it.
pub(crate) fn described(mapping: &EventSourceMappingConfiguration) -> String {
    format!(
        "event source mapping {} of {}",
        mapping.uuid().unwrap_or_default(),
        mapping.event_source_arn().unwrap_or("an unknown source")
    )
}
