//! The alias that the event source mapping invokes: which version it names, and which one a canary
//! sends a share of the batches to. It refuses to know what is in a version, and whether a canary
//! does well.

use aws_sdk_lambda::Client;
use aws_sdk_lambda::types::AliasRoutingConfiguration;

use super::ALIAS;
use crate::aws::{Aws, failed};
use crate::error::{Error, Result};

/// An alias as Lambda has it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Alias {
    /// The version it names.
    pub(crate) version: String,
    /// The version that gets a share of the invocations.
    pub(crate) canary: Option<Weighted>,
    /// What is written on it: a canary's plan.
    pub(crate) description: String,
    /// What an update names, so that it changes nothing that someone else has changed meanwhile.
    pub(crate) revision_id: Option<String>,
}

/// A version and its share of the invocations, between 0 and 1.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Weighted {
    pub(crate) version: String,
    pub(crate) weight: f64,
}

/// Where an alias is to point.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pointing<'a> {
    /// The version it names.
    pub(crate) version: &'a str,
    /// The version that gets a share, and what is written on the alias about it.
    pub(crate) canary: Option<(&'a Weighted, &'a str)>,
}

/// Why an alias was not moved.
#[derive(Debug)]
pub(crate) enum Refused {
    /// It is not what it was when it was read, in Lambda's words.
    Outdated(String),
    /// Anything else.
    Failed(Error),
}

/// Reads an alias; nothing where there is none.
///
/// # Errors
/// Failed where Lambda does not answer or refuses.
pub(crate) async fn find(client: &Client, function: &str, name: &str) -> Result<Option<Alias>> {
    let answer = match client.get_alias().function_name(function).name(name).send().await {
        Ok(answer) => answer,
        Err(error)
            if error
                .as_service_error()
                .is_some_and(|error| error.is_resource_not_found_exception()) =>
        {
            return Ok(None);
        }
        Err(error) => return Err(failed(format!("reading alias `{name}` of `{function}`"), error)),
    };
    let weights = answer
        .routing_config
        .and_then(|routing| routing.additional_version_weights)
        .unwrap_or_default();
    Ok(Some(Alias {
        version: answer.function_version.unwrap_or_default(),
        canary: weights.into_iter().map(|(version, weight)| Weighted { version, weight }).next(),
        description: answer.description.unwrap_or_default(),
        revision_id: answer.revision_id,
    }))
}

/// Points the alias, or creates it where `current` is nothing.
///
/// # Errors
/// Outdated where it was changed, or created, since it was read.
pub(crate) async fn point(
    aws: &Aws,
    function: &str,
    name: &str,
    current: Option<&Alias>,
    to: Pointing<'_>,
) -> Result<(), Refused> {
    let client = Client::new(&aws.config);
    let doing = format!("pointing alias `{name}` of `{function}` to version {}", to.version);
    let weights = to.canary.map(|(canary, _)| (canary.version.clone(), canary.weight));
    let routing = AliasRoutingConfiguration::builder()
        .set_additional_version_weights(Some(weights.into_iter().collect()))
        .build();
    let description = to.canary.map_or("", |(_, description)| description);
    let Some(current) = current else {
        let request = client
            .create_alias()
            .function_name(function)
            .name(name)
            .function_version(to.version)
            .description(description)
            .set_routing_config(to.canary.map(|_| routing));
        return match aws.patience.call(&doing, async || request.clone().send().await).await {
            Ok(_) => Ok(()),
            Err(error)
                if error
                    .as_service_error()
                    .is_some_and(|error| error.is_resource_conflict_exception()) =>
            {
                Err(Refused::Outdated(format!("alias `{name}` was created meanwhile")))
            }
            Err(error) => Err(Refused::Failed(failed(doing, error))),
        };
    };
    let request = client
        .update_alias()
        .function_name(function)
        .name(name)
        .function_version(to.version)
        .description(description)
        .routing_config(routing)
        .set_revision_id(current.revision_id.clone());
    match aws.patience.call(&doing, async || request.clone().send().await).await {
        Ok(_) => Ok(()),
        Err(error)
            if error
                .as_service_error()
                .is_some_and(|error| error.is_precondition_failed_exception()) =>
        {
            Err(Refused::Outdated(format!("alias `{name}` was changed meanwhile")))
        }
        Err(error) => Err(Refused::Failed(failed(doing, error))),
    }
}

/// Points the alias to one version, if nobody moved it since `current` was read.
///
/// # Errors
/// Failed where Lambda refuses, or someone else moved it. An attempt whose answer was lost may have
/// moved it already: that is no failure.
pub(crate) async fn move_to(
    aws: &Aws,
    function: &str,
    current: &Alias,
    version: &str,
) -> Result<()> {
    let to = Pointing { version, canary: None };
    let said = match point(aws, function, ALIAS, Some(current), to).await {
        Ok(()) => return Ok(()),
        Err(Refused::Failed(error)) => return Err(error),
        Err(Refused::Outdated(said)) => said,
    };
    match find(&Client::new(&aws.config), function, ALIAS).await? {
        Some(now) if now.version == version && now.canary.is_none() => Ok(()),
        _ => Err(Error::failed(format!(
            "someone else moved alias `{ALIAS}` of `{function}` meanwhile"
        ))
        .because(said)
        .hint("see what is live (`streambot-deploy status`), then say again what is to be")),
    }
}
