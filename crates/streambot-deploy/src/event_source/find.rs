//! Which mappings a function has. Lambda lists by the name a mapping was made with, or by its
//! source; neither alone finds them all.

use aws_sdk_lambda::Client;
use aws_sdk_lambda::operation::get_event_source_mapping::GetEventSourceMappingOutput;
use aws_sdk_lambda::types::EventSourceMappingConfiguration;

use super::Described;
use crate::aws::failed;
use crate::error::{Error, Result};
use crate::function::ALIAS;

/// The mappings of `function`, whatever version or alias they invoke: those that Lambda lists under
/// its name and under its alias, and those of `sources`, ARNs of streams and consumers. Each is
/// there once; the calls run at once.
///
/// # Errors
/// Failed where Lambda does not answer or refuses.
pub(crate) async fn list(
    client: &Client,
    function: &str,
    sources: &[&str],
) -> Result<Vec<EventSourceMappingConfiguration>> {
    let alias = format!("{function}:{ALIAS}");
    let named = [function, &alias].map(|name| (Some(name), None));
    let asked = named.into_iter().chain(sources.iter().map(|source| (None, Some(*source))));
    let answers =
        futures_util::future::try_join_all(asked.map(|(name, source)| pages(client, name, source)))
            .await?;
    let mut mappings: Vec<EventSourceMappingConfiguration> = Vec::new();
    for mapping in answers.into_iter().flatten() {
        if is_of(&mapping, function) && mappings.iter().all(|known| known.uuid() != mapping.uuid())
        {
            mappings.push(mapping);
        }
    }
    // A list leaves out filters that a key of the customer's encrypts.
    for mapping in mappings
        .iter_mut()
        .filter(|mapping| mapping.kms_key_arn().is_some_and(|key| !key.is_empty()))
    {
        let uuid = mapping.uuid().unwrap_or_default().to_owned();
        if let Some(whole) = read(client, &uuid).await? {
            *mapping = whole;
        }
    }
    Ok(mappings)
}

/// The mappings of `function` among all that the region has: the way where its sources are not
/// known.
///
/// # Errors
/// Failed where Lambda does not answer or refuses.
pub(crate) async fn list_all(
    client: &Client,
    function: &str,
) -> Result<Vec<EventSourceMappingConfiguration>> {
    let mut mappings = pages(client, None, None).await?;
    mappings.retain(|mapping| is_of(mapping, function));
    Ok(mappings)
}

/// Whether the mapping invokes the function: its ARN is
/// `arn:aws:lambda:<region>:<account>:function:<name>[:<version or alias>]`.
pub(super) fn is_of(mapping: &EventSourceMappingConfiguration, function: &str) -> bool {
    mapping.function_arn().and_then(|arn| arn.split(':').nth(6)) == Some(function)
}

async fn pages(
    client: &Client,
    function: Option<&str>,
    source: Option<&str>,
) -> Result<Vec<EventSourceMappingConfiguration>> {
    let request = client
        .list_event_source_mappings()
        .set_function_name(function.map(str::to_owned))
        .set_event_source_arn(source.map(str::to_owned));
    let pages = request.into_paginator().items().send();
    match pages.collect::<Result<Vec<_>, _>>().await {
        Ok(mappings) => Ok(mappings),
        // Lambda knows no function of that name, so it has no mappings either.
        Err(error)
            if error
                .as_service_error()
                .is_some_and(|error| error.is_resource_not_found_exception()) =>
        {
            Ok(Vec::new())
        }
        Err(error) => {
            let of = source.or(function).unwrap_or("the region");
            Err(failed(format!("listing the event source mappings of {of}"), error))
        }
    }
}

/// Reads one mapping; nothing where it is not there.
///
/// # Errors
/// Failed where Lambda does not answer or refuses, also to decrypt its filters.
pub(super) async fn read(client: &Client, uuid: &str) -> Result<Option<Described>> {
    match client.get_event_source_mapping().uuid(uuid).send().await {
        Ok(mapping) => match mapping.filter_criteria_error() {
            Some(error) => {
                Err(Error::failed(format!("reading the filters of event source mapping {uuid}"))
                    .because(error.message().unwrap_or("Lambda gives no reason").to_owned())
                    .hint("allow kms:Decrypt on its key to whoever deploys"))
            }
            None => Ok(Some(described(mapping))),
        },
        Err(error)
            if error
                .as_service_error()
                .is_some_and(|error| error.is_resource_not_found_exception()) =>
        {
            Ok(None)
        }
        Err(error) => Err(failed(format!("reading event source mapping {uuid}"), error)),
    }
}

/// A mapping as it is listed, of one that was read by its id: the API has a type for each.
fn described(mapping: GetEventSourceMappingOutput) -> Described {
    Described::builder()
        .set_uuid(mapping.uuid)
        .set_event_source_arn(mapping.event_source_arn)
        .set_function_arn(mapping.function_arn)
        .set_starting_position(mapping.starting_position)
        .set_starting_position_timestamp(mapping.starting_position_timestamp)
        .set_last_processing_result(mapping.last_processing_result)
        .set_last_modified(mapping.last_modified)
        .set_state(mapping.state)
        .set_state_transition_reason(mapping.state_transition_reason)
        .set_function_response_types(mapping.function_response_types)
        .set_batch_size(mapping.batch_size)
        .set_maximum_batching_window_in_seconds(mapping.maximum_batching_window_in_seconds)
        .set_parallelization_factor(mapping.parallelization_factor)
        .set_maximum_retry_attempts(mapping.maximum_retry_attempts)
        .set_maximum_record_age_in_seconds(mapping.maximum_record_age_in_seconds)
        .set_bisect_batch_on_function_error(mapping.bisect_batch_on_function_error)
        .set_tumbling_window_in_seconds(mapping.tumbling_window_in_seconds)
        .set_destination_config(mapping.destination_config)
        .set_filter_criteria(mapping.filter_criteria)
        .set_metrics_config(mapping.metrics_config)
        .set_kms_key_arn(mapping.kms_key_arn)
        .build()
}
