//! Which mappings a function has. Lambda lists by the name a mapping was made with, or by its source; neither alone finds them all.

use aws_sdk_lambda::Client;
use aws_sdk_lambda::types::EventSourceMappingConfiguration;

use crate::aws::failed;
use crate::error::Result;
use crate::function::ALIAS;

/// The mappings of `function`, whatever version or alias they invoke: those that Lambda lists under its name and under its alias, and
/// those of `sources`, ARNs of streams and consumers. Each is there once; the calls run at once.
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
    let answers = futures_util::future::try_join_all(asked.map(|(name, source)| pages(client, name, source))).await?;
    let mut mappings: Vec<EventSourceMappingConfiguration> = Vec::new();
    for mapping in answers.into_iter().flatten() {
        if is_of(&mapping, function) && mappings.iter().all(|known| known.uuid() != mapping.uuid()) {
            mappings.push(mapping);
        }
    }
    Ok(mappings)
}

/// The mappings of `function` among all that the region has: the way where its sources are not known.
///
/// # Errors
/// Failed where Lambda does not answer or refuses.
pub(crate) async fn list_all(client: &Client, function: &str) -> Result<Vec<EventSourceMappingConfiguration>> {
    let mut mappings = pages(client, None, None).await?;
    mappings.retain(|mapping| is_of(mapping, function));
    Ok(mappings)
}

/// Whether the mapping invokes the function: its ARN is `arn:aws:lambda:<region>:<account>:function:<name>[:<version or alias>]`.
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
        Err(error) if error.as_service_error().is_some_and(|error| error.is_resource_not_found_exception()) => {
            Ok(Vec::new())
        }
        Err(error) => {
            let of = source.or(function).unwrap_or("the region");
            Err(failed(format!("listing the event source mappings of {of}"), error))
        }
    }
}
