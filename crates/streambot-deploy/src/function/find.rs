//! The function as Lambda has it: `$LATEST`, what the alias names, and their tags.

use std::collections::BTreeMap;

use aws_sdk_lambda::Client;
use aws_sdk_lambda::operation::get_function::GetFunctionOutput;
use aws_sdk_lambda::types::FunctionConfiguration;

use super::ALIAS;
use super::alias::{self, Alias};
use crate::aws::{Aws, failed};
use crate::error::Result;
use crate::progress;

/// The function as it is.
#[derive(Debug, Clone)]
pub(crate) struct Current {
    /// `$LATEST`, what the next version would be.
    pub(crate) latest: FunctionConfiguration,
    /// Its tags; nothing where they may not be read.
    pub(crate) tags: Option<BTreeMap<String, String>>,
    /// The alias, where there is one.
    pub(crate) alias: Option<Alias>,
    /// The version the alias names.
    pub(crate) published: Option<FunctionConfiguration>,
    /// The version that a canary sends a share to.
    pub(crate) candidate: Option<FunctionConfiguration>,
}

/// Reads the function; the calls run at once. A version under canary takes one more, after them.
///
/// # Errors
/// Failed where Lambda does not answer or refuses.
pub(crate) async fn find(aws: &Aws, name: &str) -> Result<Option<Current>> {
    let client = Client::new(&aws.config);
    let (latest, published, alias) = tokio::try_join!(
        get(&client, name, None),
        get(&client, name, Some(ALIAS)),
        alias::find(&client, name, ALIAS)
    )?;
    let Some(answer) = latest else { return Ok(None) };
    let Some(latest) = answer.configuration else { return Ok(None) };
    let candidate = match alias.as_ref().and_then(|alias| alias.canary.as_ref()) {
        Some(canary) => {
            get(&client, name, Some(&canary.version)).await?.and_then(|answer| answer.configuration)
        }
        None => None,
    };
    let tags = match &answer.tags_error {
        None => Some(answer.tags.into_iter().flatten().collect()),
        Some(error) => {
            progress::warn(format!(
                "tags of `{name}` are left alone, they may not be read: {}",
                error.message()
            ));
            None
        }
    };
    Ok(Some(Current {
        latest,
        tags,
        alias,
        published: published.and_then(|answer| answer.configuration),
        candidate,
    }))
}

/// Reads the function, or one of its versions; nothing where there is none.
pub(super) async fn get(
    client: &Client,
    name: &str,
    qualifier: Option<&str>,
) -> Result<Option<GetFunctionOutput>> {
    match client
        .get_function()
        .function_name(name)
        .set_qualifier(qualifier.map(str::to_owned))
        .send()
        .await
    {
        Ok(answer) => Ok(Some(answer)),
        Err(error)
            if error
                .as_service_error()
                .is_some_and(|error| error.is_resource_not_found_exception()) =>
        {
            Ok(None)
        }
        Err(error) => Err(failed(format!("reading function `{name}`"), error)),
    }
}
