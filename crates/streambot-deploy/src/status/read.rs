//! One look at a service, for `status`: what is known by its name is read at once, then what the
//! stack names. It refuses to know how an answer is shown.

use aws_sdk_cloudwatch::types::{AlarmType, MetricAlarm};
use aws_sdk_lambda::types::EventSourceMappingConfiguration;

use super::answer::{Alarm, Canary, Function, Mapping, Part, Status, Subscription};
use super::stack::Found;
use super::{metrics, stack};
use crate::aws::{Aws, failed};
use crate::error::{Error, Result};
use crate::function::Current;
use crate::service::{Origin, Service};
use crate::time::Time;
use crate::{event_source, function};

/// CloudWatch describes at most so many alarms that are named.
const ALARMS_IN_A_CALL: usize = 100;

/// SNS has no ARN for a subscription that nobody has confirmed.
const UNCONFIRMED: &str = "PendingConfirmation";

/// Looks at the service.
///
/// # Errors
/// Missing where neither its stack nor its function is there; failed where neither could be read.
/// Whatever else could not be read is told in its place.
pub(super) async fn read(aws: &Aws, service: &Service, name: &str) -> Result<Status> {
    let prefixes = prefixes(service);
    let lambda = aws_sdk_lambda::Client::new(&aws.config);
    let (stack, function, mappings) = tokio::join!(
        stack::find(aws, name, &prefixes),
        function::find(aws, name),
        event_source::list(&lambda, name, &[]),
    );
    let (stack, function) = match (stack, function) {
        (Ok(None), Ok(None)) => {
            return Err(Error::missing(format!(
                "neither stack nor function `{name}` is there in {}",
                aws.region()
            ))
            .hint("deploy it first, or name its region with --region"));
        }
        (Err(error), Ok(None) | Err(_)) | (Ok(None), Err(error)) => return Err(error),
        known => known,
    };
    let now = Time::now();
    let found = stack.as_ref().ok().and_then(Option::as_ref);
    let metric_name = found.and_then(|found| found.output(&service.prefix, "MetricName"));
    let resources = || match &stack {
        Ok(Some(found)) => Part::of(found.resources.as_ref().map(Some)),
        Ok(None) => Part::Missing,
        Err(error) => Part::Unreadable(error.in_one_line()),
    };
    let (mappings, metrics, alarms, pending_confirmations) = tokio::join!(
        complete(&lambda, name, mappings, sources(service, found)),
        metrics::read(aws, name, metric_name, now),
        resources().then(async |resources| alarms(aws, &resources.alarms).await),
        resources().then(async |resources| pending_confirmations(aws, &resources.topics).await),
    );
    Ok(Status {
        name: name.to_owned(),
        region: aws.region().to_owned(),
        time: now,
        function: Part::of(function.as_ref().map(|current| current.as_ref().map(Function::of))),
        event_source_mappings: Part::of(mappings.as_ref().map(Some))
            .map(|mappings| mappings.iter().map(Mapping::of).collect()),
        metrics: Part::of(metrics.map(Some)),
        alarms,
        pending_confirmations,
        stack: Part::of(stack.map(|found| found.map(|found| found.stack))),
    })
}

/// What may stand before the names of the outputs that are the service's.
fn prefixes(service: &Service) -> Vec<&str> {
    let own = std::iter::once(service.prefix.as_str());
    own.chain(service.event_sources.iter().filter_map(|source| match &source.origin {
        Origin::Prefix(prefix) => Some(prefix.as_str()),
        Origin::Stack | Origin::Arn(_) => None,
    }))
    .collect()
}

/// ARNs of what the service consumes, as far as they are known.
fn sources<'a>(service: &'a Service, found: Option<&'a Found>) -> Vec<&'a str> {
    let of_stack = |prefix| found.and_then(|found| found.source(prefix));
    let source = |origin: &'a Origin| match origin {
        Origin::Stack => of_stack(&service.prefix),
        Origin::Prefix(prefix) => of_stack(prefix),
        Origin::Arn(arn) => Some(arn.as_str()),
    };
    service.event_sources.iter().filter_map(|event_source| source(&event_source.origin)).collect()
}

/// The mappings found by the function's names; where a source is not among them, it may be read by
/// one that was made for a version, which Lambda lists by source only.
async fn complete(
    client: &aws_sdk_lambda::Client,
    name: &str,
    mappings: Result<Vec<EventSourceMappingConfiguration>>,
    sources: Vec<&str>,
) -> Result<Vec<EventSourceMappingConfiguration>> {
    let mappings = mappings?;
    let is_read =
        |arn: &str| mappings.iter().any(|mapping| mapping.event_source_arn() == Some(arn));
    let unread: Vec<_> = sources.into_iter().filter(|arn| !is_read(arn)).collect();
    match unread.is_empty() {
        true => Ok(mappings),
        false => event_source::list(client, name, &unread).await,
    }
}

/// The alarms of these names, in their order.
async fn alarms(aws: &Aws, names: &[String]) -> Result<Vec<Alarm>> {
    let client = aws_sdk_cloudwatch::Client::new(&aws.config);
    let asked = names.chunks(ALARMS_IN_A_CALL).map(|names| {
        let request = client.describe_alarms().alarm_types(AlarmType::MetricAlarm);
        request.set_alarm_names(Some(names.to_vec())).max_records(ALARMS_IN_A_CALL as i32).send()
    });
    let answers = futures_util::future::try_join_all(asked).await;
    let answers = answers.map_err(|error| failed("reading the alarms of the stack", error))?;
    let mut alarms: Vec<_> =
        answers.into_iter().flat_map(|answer| answer.metric_alarms.unwrap_or_default()).collect();
    alarms.sort_by_key(|alarm| {
        names.iter().position(|name| Some(name.as_str()) == alarm.alarm_name())
    });
    Ok(alarms.into_iter().map(Alarm::from).collect())
}

/// The subscriptions of these topics that nobody has confirmed.
async fn pending_confirmations(aws: &Aws, topics: &[String]) -> Result<Vec<Subscription>> {
    let client = aws_sdk_sns::Client::new(&aws.config);
    let subscriptions = topics.iter().map(async |topic| {
        let mut pages =
            client.list_subscriptions_by_topic().topic_arn(topic).into_paginator().items().send();
        let mut pending = Vec::new();
        while let Some(subscription) = pages.next().await {
            let subscription = subscription.map_err(|error| {
                failed(format!("reading the subscriptions of topic {topic}"), error)
            })?;
            if subscription.subscription_arn() == Some(UNCONFIRMED) {
                pending.push(Subscription {
                    endpoint: subscription.endpoint.unwrap_or_default(),
                    protocol: subscription.protocol.unwrap_or_default(),
                    topic_arn: topic.clone(),
                });
            }
        }
        Ok::<_, Error>(pending)
    });
    Ok(futures_util::future::try_join_all(subscriptions).await?.into_iter().flatten().collect())
}

impl Function {
    fn of(current: &Current) -> Self {
        let Current { latest, alias, published, candidate, .. } = current;
        let live = published.as_ref().unwrap_or(latest);
        let canary = alias.as_ref().and_then(|alias| alias.canary.as_ref());
        Self {
            arn: latest.function_arn().unwrap_or_default().to_owned(),
            state: latest.state().map(|state| state.as_str().to_owned()),
            state_reason: latest.state_reason().map(str::to_owned),
            last_update_status: latest
                .last_update_status()
                .map(|status| status.as_str().to_owned()),
            last_update_status_reason: latest.last_update_status_reason().map(str::to_owned),
            version: alias.as_ref().map(|alias| alias.version.clone()),
            canary: canary.map(|canary| Canary {
                version: canary.version.clone(),
                weight: canary.weight,
                code_sha256: candidate
                    .as_ref()
                    .and_then(|version| version.code_sha256())
                    .map(str::to_owned),
            }),
            code_sha256: live.code_sha256().map(str::to_owned),
            last_modified: live.last_modified().and_then(Time::read),
            memory_in_megabytes: live.memory_size(),
            timeout_in_seconds: live.timeout(),
        }
    }
}

impl Mapping {
    fn of(mapping: &EventSourceMappingConfiguration) -> Self {
        let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
        Self {
            uuid: text(mapping.uuid()),
            event_source_arn: text(mapping.event_source_arn()),
            state: text(mapping.state()),
            last_processing_result: mapping.last_processing_result().map(str::to_owned),
            function_arn: text(mapping.function_arn()),
            batch_size: mapping.batch_size(),
        }
    }
}

impl From<MetricAlarm> for Alarm {
    fn from(alarm: MetricAlarm) -> Self {
        Self {
            since: Time::of(alarm.state_updated_timestamp()),
            state: alarm.state_value().map_or_else(String::new, |state| state.as_str().to_owned()),
            name: alarm.alarm_name.unwrap_or_default(),
            reason: alarm.state_reason,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use aws_sdk_lambda::types::FunctionConfiguration;

    use super::*;
    use crate::function::alias::{Alias, Weighted};

    fn version(number: &str, memory: i32) -> FunctionConfiguration {
        FunctionConfiguration::builder()
            .version(number)
            .function_arn("arn:aws:lambda:us-east-1:123456789012:function:quakes-staging")
            .code_sha256(format!("hash of {number}"))
            .last_modified("2026-11-24T16:00:00.000+0000")
            .memory_size(memory)
            .build()
    }

    #[test]
    fn a_function_is_told_as_its_alias_has_it() {
        let alias = Alias {
            version: "3".into(),
            canary: Some(Weighted { version: "4".into(), weight: 0.1 }),
            description: String::new(),
            revision_id: None,
        };
        let current = Current {
            latest: version("$LATEST", 512),
            tags: Default::default(),
            alias: Some(alias),
            published: Some(version("3", 128)),
            candidate: Some(version("4", 256)),
        };
        let function = Function::of(&current);
        assert_eq!(function.version.as_deref(), Some("3"));
        assert_eq!(function.code_sha256.as_deref(), Some("hash of 3"));
        assert_eq!(function.memory_in_megabytes, Some(128));
        assert_eq!(function.last_modified, Time::read("2026-11-24T16:00:00Z"));
        assert_eq!(function.canary.unwrap().code_sha256.as_deref(), Some("hash of 4"));

        let without_alias = Current { alias: None, published: None, candidate: None, ..current };
        let function = Function::of(&without_alias);
        assert_eq!(
            (function.version, function.code_sha256.as_deref()),
            (None, Some("hash of $LATEST"))
        );
    }
}
