//! The calls that make an event source mapping what a plan says. A mapping is only ever updated, so it keeps its place in the stream.

use std::time::{Duration, Instant};

use aws_sdk_lambda::Client;
use aws_sdk_lambda::primitives::DateTime;
use aws_sdk_lambda::types::{
    DestinationConfig, EventSourceMappingConfiguration, EventSourcePosition, Filter, FilterCriteria,
    FunctionResponseType, OnFailure,
};

use super::plan::{Plan, Setting, choose};
use super::{EventSourceSettings, StartingPosition};
use crate::aws::{failed, patiently};
use crate::error::{Error, Result};
use crate::stack::StackValues;

/// How long Lambda may take to bring up a mapping.
const PATIENCE: Duration = Duration::from_mins(5);

/// Finds the mapping of the stack's event source to `function`. All mappings of the source are read: Lambda's own filter by
/// function would miss one that was made for the function itself or for another alias.
///
/// # Errors
/// Failed where Lambda does not answer, where there is more than one, and where the function reads the stream directly while the
/// stack has a consumer for it: Lambda cannot move a mapping from one to the other, and both would hand it every record.
pub(crate) async fn find(
    client: &Client,
    stack: &StackValues,
    function: &str,
) -> Result<Option<EventSourceMappingConfiguration>> {
    let Some(consumer) = &stack.consumer else { return mapping_of(client, &stack.stream, function).await };
    let (of_stream, of_consumer) =
        tokio::try_join!(mapping_of(client, &stack.stream, function), mapping_of(client, consumer, function))?;
    // A server may list the mappings of a consumer under its stream too.
    match of_stream.filter(|mapping| mapping.event_source_arn() == Some(stack.stream.as_str())) {
        None => Ok(of_consumer),
        Some(mapping) => Err(Error::failed(format!(
            "function `{function}` reads {} directly, by event source mapping {}, and its stack has consumer {consumer}",
            stack.stream,
            mapping.uuid().unwrap_or_default()
        ))
        .hint(
            "Lambda cannot move a mapping: set EnhancedFanOut to false, or delete the mapping and deploy with \
             --starting-position AT_TIMESTAMP and the time of its last record",
        )),
    }
}

async fn mapping_of(client: &Client, source: &str, function: &str) -> Result<Option<EventSourceMappingConfiguration>> {
    let pages = client.list_event_source_mappings().event_source_arn(source).into_paginator().items().send();
    let mappings = pages
        .collect::<Result<Vec<_>, _>>()
        .await
        .map_err(|error| failed(format!("listing the event source mappings of {source}"), error))?;
    choose(mappings, function)
}

/// Makes an existing mapping honour partial answers. This comes before new code goes live: without it Lambda would take an answer
/// that names failed records for a success, and lose them.
///
/// # Errors
/// Failed where Lambda refuses, or the mapping does not settle.
pub(crate) async fn honour_partial_answers(client: &Client, plan: &Plan) -> Result<()> {
    let Plan::Update { uuid, report_batch_item_failures: true, .. } = plan else { return Ok(()) };
    eprintln!("setting ReportBatchItemFailures on event source mapping {uuid}");
    let request = client
        .update_event_source_mapping()
        .uuid(uuid)
        .function_response_types(FunctionResponseType::ReportBatchItemFailures);
    patiently(&format!("changing event source mapping {uuid}"), async || request.clone().send().await).await?;
    wait_until_settled(client, uuid).await
}

/// Carries out `plan` and tells the mapping's UUID.
///
/// # Errors
/// Failed where Lambda refuses, or the mapping does not settle within five minutes.
pub(crate) async fn apply(
    client: &Client,
    plan: &Plan,
    settings: &EventSourceSettings,
    stream: &str,
    function: &str,
) -> Result<String> {
    let uuid = match plan {
        Plan::Create => create(client, settings, stream, function).await?,
        Plan::Update { uuid, changes, .. } if changes.is_empty() => return Ok(uuid.clone()),
        Plan::Update { uuid, changes, .. } => {
            let mut request = client.update_event_source_mapping().uuid(uuid);
            for change in changes {
                eprintln!("changing event source mapping {uuid}, {change}");
                request = match change.setting {
                    Setting::Function => request.function_name(function),
                    Setting::BatchSize => request.batch_size(settings.batch_size().cast_signed()),
                    Setting::MaximumBatchingWindow => request.maximum_batching_window_in_seconds(
                        settings.maximum_batching_window_in_seconds().cast_signed(),
                    ),
                    Setting::ParallelizationFactor => {
                        request.parallelization_factor(settings.parallelization_factor().cast_signed())
                    }
                    Setting::MaximumRetryAttempts => {
                        request.maximum_retry_attempts(or_no_limit(settings.maximum_retry_attempts()))
                    }
                    Setting::MaximumRecordAge => {
                        request.maximum_record_age_in_seconds(or_no_limit(settings.maximum_record_age_in_seconds()))
                    }
                    Setting::BisectBatchOnFunctionError => {
                        request.bisect_batch_on_function_error(settings.bisect_batch_on_function_error())
                    }
                    Setting::TumblingWindow => {
                        request.tumbling_window_in_seconds(or_none(settings.tumbling_window_in_seconds()))
                    }
                    Setting::OnFailure => request.destination_config(destination(settings)),
                    Setting::FilterPatterns => request.filter_criteria(filters(settings)),
                    Setting::Enabled => request.enabled(settings.enabled()),
                };
            }
            patiently(&format!("changing event source mapping {uuid}"), async || request.clone().send().await).await?;
            uuid.clone()
        }
    };
    wait_until_settled(client, &uuid).await?;
    Ok(uuid)
}

async fn create(client: &Client, settings: &EventSourceSettings, stream: &str, function: &str) -> Result<String> {
    eprintln!("creating an event source mapping of {stream}");
    let position = match settings.starting_position() {
        StartingPosition::TrimHorizon => EventSourcePosition::TrimHorizon,
        StartingPosition::Latest => EventSourcePosition::Latest,
        StartingPosition::AtTimestamp => EventSourcePosition::AtTimestamp,
    };
    let timestamp = settings.starting_position_timestamp().map(|time| DateTime::from_secs_f64(time.as_unix_seconds()));
    let request = client
        .create_event_source_mapping()
        .event_source_arn(stream)
        .function_name(function)
        .function_response_types(FunctionResponseType::ReportBatchItemFailures)
        .starting_position(position)
        .set_starting_position_timestamp(timestamp)
        .batch_size(settings.batch_size().cast_signed())
        .maximum_batching_window_in_seconds(settings.maximum_batching_window_in_seconds().cast_signed())
        .parallelization_factor(settings.parallelization_factor().cast_signed())
        .maximum_retry_attempts(or_no_limit(settings.maximum_retry_attempts()))
        .maximum_record_age_in_seconds(or_no_limit(settings.maximum_record_age_in_seconds()))
        .bisect_batch_on_function_error(settings.bisect_batch_on_function_error())
        .tumbling_window_in_seconds(or_none(settings.tumbling_window_in_seconds()))
        .set_destination_config(settings.on_failure().map(|_| destination(settings)))
        .set_filter_criteria((!settings.filter_patterns().is_empty()).then(|| filters(settings)))
        .enabled(settings.enabled());
    let doing = format!("creating an event source mapping of {stream}");
    let answer = patiently(&doing, async || request.clone().send().await).await?;
    Ok(answer.uuid.unwrap_or_default())
}

/// Lambda writes -1 for "no limit".
fn or_no_limit(value: Option<u32>) -> i32 {
    value.map_or(-1, u32::cast_signed)
}

/// Lambda writes 0 for "no window".
fn or_none(value: Option<u32>) -> i32 {
    value.unwrap_or(0).cast_signed()
}

/// What is told of discarded records; without a destination, the value that takes one away.
fn destination(settings: &EventSourceSettings) -> DestinationConfig {
    let on_failure = OnFailure::builder().set_destination(settings.on_failure().map(str::to_owned)).build();
    DestinationConfig::builder().on_failure(on_failure).build()
}

/// The filters; without any, the value that takes them away.
fn filters(settings: &EventSourceSettings) -> FilterCriteria {
    let filters = settings.filter_patterns().iter().map(|pattern| Filter::builder().pattern(pattern.as_str()).build());
    FilterCriteria::builder().set_filters(Some(filters.collect())).build()
}

/// Waits until Lambda is done with a change. The SDK has no waiter for mappings.
async fn wait_until_settled(client: &Client, uuid: &str) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    let mut delay = Duration::from_millis(250);
    loop {
        let mapping = client
            .get_event_source_mapping()
            .uuid(uuid)
            .send()
            .await
            .map_err(|error| failed(format!("reading event source mapping {uuid}"), error))?;
        let state = mapping.state().unwrap_or_default();
        if matches!(state, "Enabled" | "Disabled") {
            return Ok(());
        }
        if Instant::now() + delay > deadline {
            let reason = mapping.state_transition_reason().unwrap_or("Lambda gives no reason").to_owned();
            return Err(Error::failed(format!("event source mapping {uuid} stays {state}"))
                .because(reason)
                .hint("deploy again once it is Enabled"));
        }
        tokio::time::sleep(delay).await;
        delay = (delay * 2).min(Duration::from_secs(5));
    }
}
