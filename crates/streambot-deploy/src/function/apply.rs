//! The calls that make a function what a plan says, in the order that is safe: configuration, wait, code, wait, version, alias.

use std::time::Duration;

use aws_sdk_lambda::client::Waiters as _;
use aws_sdk_lambda::operation::create_alias::CreateAliasError;
use aws_sdk_lambda::operation::get_function::GetFunctionError;
use aws_sdk_lambda::primitives::Blob;
use aws_sdk_lambda::types::builders::LoggingConfigBuilder;
use aws_sdk_lambda::types::{FunctionCode, FunctionConfiguration, LastUpdateStatus, LoggingConfig, State};
use aws_sdk_lambda::{Client, Config};

use super::ALIAS;
use super::plan::{Current, Desired, Plan, Setting};
use crate::aws::{Aws, Patience, failed, patiently, upload};
use crate::bundle::{Code, size};
use crate::error::{Error, Result};
use crate::progress;
use crate::settings::Change;

/// How long Lambda may take to bring up a function, an update or a version.
const PATIENCE: Duration = Duration::from_mins(5);

/// The function once it is what it should be.
#[derive(Debug, Clone)]
pub(crate) struct Deployed {
    /// ARN of the function, without a version.
    pub(crate) arn: String,
    /// ARN of the alias, which the mapping invokes.
    pub(crate) alias_arn: String,
    /// The version the alias names.
    pub(crate) version: String,
}

/// Reads the function: `$LATEST` and what the alias names, both at once.
///
/// # Errors
/// Failed where Lambda does not answer or refuses.
pub(crate) async fn find(client: &Client, name: &str) -> Result<Option<Current>> {
    let (latest, published) = tokio::try_join!(get(client, name, None), get(client, name, Some(ALIAS)))?;
    Ok(latest.map(|latest| Current { latest, published }))
}

async fn get(client: &Client, name: &str, qualifier: Option<&str>) -> Result<Option<FunctionConfiguration>> {
    match client.get_function().function_name(name).set_qualifier(qualifier.map(str::to_owned)).send().await {
        Ok(answer) => Ok(answer.configuration),
        Err(error) if error.as_service_error().is_some_and(GetFunctionError::is_resource_not_found_exception) => {
            Ok(None)
        }
        Err(error) => Err(failed(format!("reading function `{name}`"), error)),
    }
}

/// Carries out `plan`, whose origin is `current`.
///
/// # Errors
/// Failed, naming the step and what Lambda says of it, also where the function does not come up within five minutes.
pub(crate) async fn apply(
    aws: &Aws,
    current: Option<&Current>,
    plan: &Plan,
    desired: &Desired<'_>,
    code: &Code<'_>,
) -> Result<Deployed> {
    let client = &Client::new(&aws.config);
    let name = desired.name;
    let publishes = match plan {
        Plan::Create => {
            create(client, desired, code, aws.patience).await?;
            true
        }
        Plan::Update { configuration, code: changed, publish } => {
            if (!configuration.is_empty() || *changed) && current.is_some_and(|current| is_busy(&current.latest)) {
                wait_until_active(client, name).await?;
                wait_until_updated(client, name).await?;
            }
            if !configuration.is_empty() {
                let logging = current.and_then(|current| current.latest.logging_config());
                configure(client, configuration, logging, desired).await?;
                wait_until_updated(client, name).await?;
            }
            if *changed {
                upload(client, desired, code, aws.patience).await?;
                wait_until_updated(client, name).await?;
            }
            *publish
        }
    };
    let published = current.and_then(|current| current.published.as_ref());
    match published {
        Some(published) if !publishes => Ok(deployed(published)),
        _ => {
            let latest = wait_until_active(client, name).await?;
            let version = publish(client, &latest, desired).await?;
            point_alias(client, published, &latest, version, name).await
        }
    }
}

/// Whether Lambda is still at an earlier change, which an interrupted run or someone else began.
fn is_busy(function: &FunctionConfiguration) -> bool {
    function.state() == Some(&State::Pending) || function.last_update_status() == Some(&LastUpdateStatus::InProgress)
}

/// What is deployed where nothing was to be done.
fn deployed(published: &FunctionConfiguration) -> Deployed {
    let arn = without_qualifier(published.function_arn().unwrap_or_default());
    Deployed { alias_arn: format!("{arn}:{ALIAS}"), arn, version: published.version().unwrap_or_default().to_owned() }
}

/// `arn:aws:lambda:<region>:<account>:function:<name>` of an ARN that may name a version or alias after it.
fn without_qualifier(arn: &str) -> String {
    arn.split(':').take(7).collect::<Vec<_>>().join(":")
}

async fn create(client: &Client, desired: &Desired<'_>, code: &Code<'_>, patience: Patience) -> Result<()> {
    let name = desired.name;
    eprintln!("creating function `{name}`");
    let code = match code {
        Code::Inline(zip) => FunctionCode::builder().zip_file(Blob::new(*zip)),
        Code::Stored { bucket, key } => FunctionCode::builder().s3_bucket(bucket).s3_key(key),
    };
    let logging = desired.log_group.map(|group| LoggingConfig::builder().log_group(group).build());
    let request = client
        .create_function()
        .function_name(name)
        .runtime(Desired::RUNTIME)
        .handler(Desired::HANDLER)
        .role(desired.role)
        .description(desired.description())
        .memory_size(desired.memory.cast_signed())
        .timeout(desired.timeout.cast_signed())
        .architectures(desired.architecture())
        .set_logging_config(logging)
        .code(code.build());
    let send = async || {
        let timeouts = Config::builder().timeout_config(patience.for_upload());
        request.clone().customize().interceptor(upload::bar()).config_override(timeouts).send().await
    };
    patiently(&format!("creating function `{name}`"), send).await?;
    Ok(())
}

async fn configure(
    client: &Client,
    changes: &[Change<Setting>],
    logging: Option<&LoggingConfig>,
    desired: &Desired<'_>,
) -> Result<()> {
    let name = desired.name;
    let mut request = client.update_function_configuration().function_name(name);
    for change in changes {
        eprintln!("changing function `{name}`, {change}");
        request = match change.setting {
            Setting::Role => request.role(desired.role),
            Setting::Description => request.description(desired.description()),
            Setting::Memory => request.memory_size(desired.memory.cast_signed()),
            Setting::Timeout => request.timeout(desired.timeout.cast_signed()),
            Setting::Runtime => request.runtime(Desired::RUNTIME),
            Setting::Handler => request.handler(Desired::HANDLER),
            Setting::LogGroup => request.logging_config(with_log_group(logging, desired.log_group)),
        };
    }
    patiently(&format!("changing function `{name}`"), async || request.clone().send().await).await?;
    Ok(())
}

/// The logging settings as they are, with another group: Lambda replaces them as a whole.
fn with_log_group(logging: Option<&LoggingConfig>, group: Option<&str>) -> LoggingConfig {
    let kept = logging.map_or_else(LoggingConfigBuilder::default, |logging| {
        LoggingConfig::builder()
            .set_log_format(logging.log_format.clone())
            .set_application_log_level(logging.application_log_level.clone())
            .set_system_log_level(logging.system_log_level.clone())
    });
    kept.set_log_group(group.map(str::to_owned)).build()
}

async fn upload(client: &Client, desired: &Desired<'_>, code: &Code<'_>, patience: Patience) -> Result<()> {
    let name = desired.name;
    progress::say(format!("uploading the code of `{name}`, {}", size(desired.bundle.zip.len() as u64)));
    let request = client.update_function_code().function_name(name).architectures(desired.architecture());
    let request = match code {
        Code::Inline(zip) => request.zip_file(Blob::new(*zip)),
        Code::Stored { bucket, key } => request.s3_bucket(bucket).s3_key(key),
    };
    let send = async || {
        let timeouts = Config::builder().timeout_config(patience.for_upload());
        request.clone().customize().interceptor(upload::bar()).config_override(timeouts).send().await
    };
    patiently(&format!("uploading the code of `{name}`"), send).await?;
    Ok(())
}

/// Publishes what was just deployed and nothing else: the hash and the revision id make Lambda refuse where someone changed the
/// function meanwhile.
async fn publish(client: &Client, latest: &FunctionConfiguration, desired: &Desired<'_>) -> Result<String> {
    let name = desired.name;
    let request = client
        .publish_version()
        .function_name(name)
        .code_sha256(&desired.bundle.code_sha256)
        .set_revision_id(latest.revision_id.clone());
    let doing = format!("publishing a version of `{name}`");
    let answer = patiently(&doing, async || request.clone().send().await)
        .await
        .map_err(|error| error.hint("if someone else changed the function at the same time, deploy again"))?;
    let version = answer.version.unwrap_or_default();
    client
        .wait_until_published_version_active()
        .function_name(name)
        .qualifier(&version)
        .wait(PATIENCE)
        .await
        .map_err(|error| Error::failed(format!("waiting for version {version} of `{name}`")).because(error))?;
    eprintln!("published version {version} of `{name}`");
    Ok(version)
}

async fn point_alias(
    client: &Client,
    published: Option<&FunctionConfiguration>,
    latest: &FunctionConfiguration,
    version: String,
    name: &str,
) -> Result<Deployed> {
    let doing = format!("pointing alias `{ALIAS}` of `{name}` to version {version}");
    let update = client.update_alias().function_name(name).name(ALIAS).function_version(&version);
    let update = async || patiently(&doing, async || update.clone().send().await).await;
    match published {
        Some(published) if published.version() == Some(version.as_str()) => {}
        Some(_) => {
            update().await?;
        }
        None => {
            let create = client.create_alias().function_name(name).name(ALIAS).function_version(&version);
            match create.send().await {
                Ok(_) => {}
                // It is there, for a version that is not.
                Err(error)
                    if error.as_service_error().is_some_and(CreateAliasError::is_resource_conflict_exception) =>
                {
                    update().await?;
                }
                Err(error) => return Err(failed(doing, error)),
            }
        }
    }
    let arn = without_qualifier(latest.function_arn().unwrap_or_default());
    Ok(Deployed { alias_arn: format!("{arn}:{ALIAS}"), arn, version })
}

async fn wait_until_active(client: &Client, name: &str) -> Result<FunctionConfiguration> {
    match client.wait_until_function_active_v2().function_name(name).wait(PATIENCE).await {
        Ok(poll) => {
            let function = poll.into_result().ok().and_then(|answer| answer.configuration);
            function.ok_or_else(|| Error::failed(format!("Lambda does not describe function `{name}`")))
        }
        Err(error) => Err(did_not_come_up(client, name, error).await),
    }
}

async fn wait_until_updated(client: &Client, name: &str) -> Result<()> {
    match client.wait_until_function_updated_v2().function_name(name).wait(PATIENCE).await {
        Ok(_) => Ok(()),
        Err(error) => Err(did_not_come_up(client, name, error).await),
    }
}

/// Says why a function did not come up, in Lambda's words where it has some.
async fn did_not_come_up(
    client: &Client,
    name: &str,
    waiting: impl std::error::Error + Send + Sync + 'static,
) -> Error {
    let Ok(Some(function)) = get(client, name, None).await else {
        return Error::failed(format!("waiting for function `{name}`")).because(waiting);
    };
    let (state, reason) = if function.state() == Some(&State::Failed) {
        (function.state().map(State::as_str), function.state_reason())
    } else {
        (function.last_update_status().map(LastUpdateStatus::as_str), function.last_update_status_reason())
    };
    let error = Error::failed(format!("function `{name}` did not come up ({})", state.unwrap_or("no state told")))
        .hint("mend what Lambda names, then deploy again");
    match reason {
        Some(reason) if !reason.is_empty() => error.because(reason.to_owned()),
        _ => error.because(waiting),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use aws_sdk_lambda::types::{ApplicationLogLevel, LogFormat};

    use super::*;

    #[test]
    fn an_arn_loses_its_version_or_alias_and_nothing_else() {
        let arn = "arn:aws:lambda:us-east-1:123456789012:function:quakes-staging";
        assert_eq!(without_qualifier(arn), arn);
        assert_eq!(without_qualifier(&format!("{arn}:7")), arn);
        assert_eq!(without_qualifier(&format!("{arn}:current")), arn);
    }

    #[test]
    fn another_log_group_keeps_format_and_levels() {
        let logging = LoggingConfig::builder()
            .log_format(LogFormat::Json)
            .application_log_level(ApplicationLogLevel::Warn)
            .log_group("old")
            .build();
        let changed = with_log_group(Some(&logging), Some("new"));
        assert_eq!(changed.log_group(), Some("new"));
        assert_eq!(changed.log_format(), Some(&LogFormat::Json));
        assert_eq!(changed.application_log_level(), Some(&ApplicationLogLevel::Warn));
    }

    #[test]
    fn a_function_under_change_is_busy() {
        let function = FunctionConfiguration::builder;
        assert!(is_busy(&function().state(State::Pending).build()));
        assert!(is_busy(&function().last_update_status(LastUpdateStatus::InProgress).build()));
        let settled = function().state(State::Active).last_update_status(LastUpdateStatus::Successful);
        assert!(!is_busy(&settled.build()));
    }
}
