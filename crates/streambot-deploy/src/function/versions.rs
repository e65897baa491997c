//! Old versions of a function: which of them are too many, and their removal. What an alias names
//! is never removed.

use std::collections::BTreeSet;

use aws_sdk_lambda::Client;
use aws_sdk_lambda::types::{AliasConfiguration, FunctionConfiguration};

use crate::aws::{Aws, failed};
use crate::error::Result;
use crate::progress;

/// The numbers of the function's versions, the oldest first; none where there is no function.
///
/// # Errors
/// Failed where Lambda does not answer or refuses.
pub(crate) async fn list(client: &Client, function: &str) -> Result<Vec<u64>> {
    let pages =
        client.list_versions_by_function().function_name(function).into_paginator().items().send();
    let versions: Vec<FunctionConfiguration> = match pages.collect::<Result<_, _>>().await {
        Ok(versions) => versions,
        Err(error)
            if error
                .as_service_error()
                .is_some_and(|error| error.is_resource_not_found_exception()) =>
        {
            Vec::new()
        }
        Err(error) => return Err(failed(format!("listing the versions of `{function}`"), error)),
    };
    let mut numbers: Vec<u64> =
        versions.iter().filter_map(|version| version.version()?.parse().ok()).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// Removes the oldest versions until `keep` are left. What cannot be removed is told, and no reason
/// to fail: the deploy is done.
pub(crate) async fn prune(aws: &Aws, function: &str, keep: usize) {
    if let Err(error) = try_to_prune(aws, function, keep).await {
        progress::warn(format!("old versions of `{function}` are left: {}", error.report()));
    }
}

async fn try_to_prune(aws: &Aws, function: &str, keep: usize) -> Result<()> {
    let client = Client::new(&aws.config);
    let versions = list(&client, function).await?;
    if versions.len() <= keep {
        return Ok(());
    }
    let pages = client.list_aliases().function_name(function).into_paginator().items().send();
    let aliases: Vec<AliasConfiguration> = pages
        .collect::<Result<_, _>>()
        .await
        .map_err(|error| failed(format!("listing the aliases of `{function}`"), error))?;
    for version in superfluous(&versions, &named(&aliases), keep) {
        progress::say(format!("removing version {version} of `{function}`"));
        let request =
            client.delete_function().function_name(function).qualifier(version.to_string());
        match request.send().await {
            Ok(_) => {}
            // An attempt whose answer was lost has removed it.
            Err(error)
                if error
                    .as_service_error()
                    .is_some_and(|error| error.is_resource_not_found_exception()) => {}
            Err(error) => {
                return Err(failed(format!("removing version {version} of `{function}`"), error));
            }
        }
    }
    Ok(())
}

/// Every version that an alias names or sends a share to.
fn named(aliases: &[AliasConfiguration]) -> BTreeSet<u64> {
    let shares = |alias: &AliasConfiguration| {
        let weights =
            alias.routing_config().and_then(|routing| routing.additional_version_weights());
        weights.into_iter().flat_map(|weights| weights.keys().cloned()).collect::<Vec<_>>()
    };
    let all = aliases.iter().flat_map(|alias| {
        alias.function_version().map(str::to_owned).into_iter().chain(shares(alias))
    });
    all.filter_map(|version| version.parse().ok()).collect()
}

/// Of `versions`, the oldest first, those beyond the newest `keep` that no alias names.
fn superfluous(versions: &[u64], named: &BTreeSet<u64>, keep: usize) -> Vec<u64> {
    let old = versions.len().saturating_sub(keep);
    versions[..old].iter().copied().filter(|version| !named.contains(version)).collect()
}

#[cfg(test)]
mod tests {
    use aws_sdk_lambda::types::AliasRoutingConfiguration;

    use super::*;

    #[test]
    fn the_newest_are_kept_and_whatever_an_alias_names() {
        assert_eq!(superfluous(&[1, 2, 3, 5, 8], &BTreeSet::from([2]), 2), [1, 3]);
        assert!(superfluous(&[1, 2], &BTreeSet::new(), 2).is_empty());
        assert!(superfluous(&[], &BTreeSet::new(), 1).is_empty());
    }

    #[test]
    fn a_canary_names_its_version_too() {
        let alias = |version: &str, routing| {
            AliasConfiguration::builder()
                .function_version(version)
                .set_routing_config(routing)
                .build()
        };
        let canary =
            AliasRoutingConfiguration::builder().additional_version_weights("7", 0.1).build();
        assert_eq!(
            named(&[alias("3", None), alias("5", Some(canary)), alias("$LATEST", None)]),
            BTreeSet::from([3, 5, 7])
        );
    }
}
