//! The calls that make a function what it should be, in the order that is safe: configuration,
//! wait, code, wait, version, alias. Every write names the revision that was read, so that of two
//! deploys at once one wins and the other says so.

use aws_sdk_lambda::Client;
use aws_sdk_lambda::client::Waiters as _;
use aws_sdk_lambda::config::Config;
use aws_sdk_lambda::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_lambda::primitives::Blob;
use aws_sdk_lambda::types::{FunctionCode, FunctionConfiguration, LastUpdateStatus, State};

use super::alias::{self, Pointing, Refused, Weighted};
use super::find::get;
use super::plan::{Plan, is_ours};
use super::{ALIAS, Configuration, Current, Desired, find, plan, without_qualifier};
use crate::aws::{Aws, failed, upload};
use crate::bundle::{self, Code};
use crate::canary::Canary;
use crate::error::{Error, Result};
use crate::progress;

/// How often a function that is not what it was is read and compared again.
const ROUNDS: usize = 5;

/// The function once it is what it should be.
#[derive(Debug, Clone)]
pub(crate) struct Deployed {
    /// ARN of the function, without a version.
    pub(crate) arn: String,
    /// ARN of the alias, which the mapping invokes.
    pub(crate) alias_arn: String,
    /// The version that is as it should be.
    pub(crate) version: String,
    /// Whether that version only gets a share of the batches yet.
    pub(crate) under_canary: bool,
    /// Whether it was published by this deploy.
    pub(crate) published: bool,
}

/// Makes the function what it should be, from whatever it is. With `canary`, a new version first
/// gets a share of the batches.
///
/// # Errors
/// Failed, naming the step and what Lambda says of it; also where the function does not come up in
/// time, or someone else changes it meanwhile.
pub(crate) async fn converge(
    aws: &Aws,
    current: Option<Current>,
    desired: &Desired<'_>,
    canary: Option<&Canary>,
) -> Result<Deployed> {
    let work = Work { aws, client: Client::new(&aws.config), desired, canary };
    let mut current = current;
    let mut said = String::new();
    for round in 0..ROUNDS {
        said = match work.attempt(current.as_ref()).await {
            Ok(deployed) => return Ok(deployed),
            Err(Refused::Failed(error)) => return Err(error),
            Err(Refused::Outdated(said)) => said,
        };
        if round > 0 {
            tokio::time::sleep(aws.patience.back_off).await;
        }
        let now = find(aws, desired.name).await?;
        match &now {
            Some(function) if is_ours(current.as_ref(), function, desired) => current = now,
            _ => return Err(someone_else(desired.name, said)),
        }
    }
    match current {
        // It was not someone else: Lambda cannot carry out what it was asked for.
        Some(Current { latest, .. }) if latest.state() == Some(&State::Failed) => {
            Err(not_up(desired.name, "Failed").because(latest.state_reason.unwrap_or(said)))
        }
        _ => Err(someone_else(desired.name, said)),
    }
}

/// Names by the alias what runs of a function that 1.0 made, whose mapping invokes `$LATEST`: it
/// would be handed each change at once.
///
/// # Errors
/// Failed where Lambda refuses, or someone else changes the function meanwhile.
pub(crate) async fn name_what_runs(
    aws: &Aws,
    current: &Current,
    desired: &Desired<'_>,
) -> Result<()> {
    let work = Work { aws, client: Client::new(&aws.config), desired, canary: None };
    match work.name_what_runs(&current.latest).await {
        Ok(()) => Ok(()),
        Err(Refused::Failed(error)) => Err(error),
        Err(Refused::Outdated(said)) => Err(someone_else(desired.name, said)),
    }
}

fn someone_else(name: &str, said: String) -> Error {
    Error::failed(format!("someone else changed function `{name}` during this deploy"))
        .because(said)
        .hint("see what is deployed now (`streambot-deploy status`), then deploy again if it is to be yours")
}

/// One function's way to what it should be.
struct Work<'a> {
    aws: &'a Aws,
    client: Client,
    desired: &'a Desired<'a>,
    canary: Option<&'a Canary>,
}

impl Work<'_> {
    async fn attempt(&self, current: Option<&Current>) -> Result<Deployed, Refused> {
        let name = self.desired.name;
        let Some(current) = current else {
            self.create().await?;
            let latest = self.wait_until_active().await?;
            return self.publish(&latest, None).await;
        };
        let Plan::Update { configuration, again, code, tags, publish, end_canary } =
            plan(Some(current), self.desired)
        else {
            return Err(Refused::Failed(Error::failed(format!(
                "function `{name}` is there and is not"
            ))));
        };
        let mut latest = current.latest.clone();
        if (!configuration.is_empty() || code || again || publish) && is_busy(&latest) {
            latest = self.wait_until_updated().await?;
        }
        if !configuration.is_empty() {
            for change in &configuration {
                progress::say(format!("changing function `{name}`, {change}"));
            }
            self.configure(&latest).await?;
            latest = self.wait_until_updated().await?;
        }
        if code || again {
            self.upload(&latest).await?;
            latest = self.wait_until_updated().await?;
        }
        if !tags.is_empty() {
            let request = self
                .client
                .tag_resource()
                .resource(without_qualifier(latest.function_arn().unwrap_or_default()));
            let request = request.set_tags(Some(tags.into_iter().collect()));
            self.call(&format!("tagging function `{name}`"), async || request.clone().send().await)
                .await?;
        }
        if publish {
            latest = if latest.state() == Some(&State::Pending) {
                self.wait_until_active().await?
            } else {
                latest
            };
            return self.publish(&latest, Some(current)).await;
        }
        if end_canary && let Some(alias) = &current.alias {
            progress::say(format!("ending the canary of version {}", canary_version(alias)));
            let to = Pointing { version: &alias.version, canary: None };
            alias::point(self.aws, name, ALIAS, Some(alias), to).await?;
        }
        let under_canary =
            !end_canary && current.alias.as_ref().is_some_and(|alias| alias.canary.is_some());
        let version = if under_canary { &current.candidate } else { &current.published };
        let version =
            version.as_ref().and_then(|version| version.version()).unwrap_or_default().to_owned();
        Ok(self.deployed(&latest, version, under_canary))
    }

    fn deployed(
        &self,
        latest: &FunctionConfiguration,
        version: String,
        under_canary: bool,
    ) -> Deployed {
        let arn = without_qualifier(latest.function_arn().unwrap_or_default());
        Deployed {
            alias_arn: format!("{arn}:{ALIAS}"),
            arn,
            version,
            under_canary,
            published: false,
        }
    }

    async fn create(&self) -> Result<(), Refused> {
        let name = self.desired.name;
        let code = match self.code().await? {
            Code::Inline(zip) => FunctionCode::builder().zip_file(Blob::new(zip)),
            Code::Stored { bucket, key } => FunctionCode::builder().s3_bucket(bucket).s3_key(key),
        };
        let request = self
            .desired
            .configuration
            .create(self.client.create_function().function_name(name))
            .architectures(self.desired.architecture())
            .set_tags(
                (!self.desired.tags.is_empty())
                    .then(|| self.desired.tags.clone().into_iter().collect()),
            )
            .code(code.build());
        progress::say(format!("creating function `{name}`"));
        let send = async || {
            let timeouts = Config::builder().timeout_config(self.aws.patience.for_upload());
            request
                .clone()
                .customize()
                .interceptor(upload::bar())
                .config_override(timeouts)
                .send()
                .await
        };
        self.call(&format!("creating function `{name}`"), send).await?;
        Ok(())
    }

    /// Where the code is sent from.
    async fn code(&self) -> Result<Code<'_>, Refused> {
        bundle::place(self.aws, self.desired.bundle, self.desired.bucket)
            .await
            .map_err(Refused::Failed)
    }

    async fn configure(&self, latest: &FunctionConfiguration) -> Result<(), Refused> {
        let name = self.desired.name;
        let request = self.client.update_function_configuration().function_name(name);
        let request = self
            .desired
            .configuration
            .update(request, &Configuration::told(latest))
            .set_revision_id(latest.revision_id.clone());
        self.call(&format!("changing function `{name}`"), async || request.clone().send().await)
            .await?;
        Ok(())
    }

    async fn upload(&self, latest: &FunctionConfiguration) -> Result<(), Refused> {
        let name = self.desired.name;
        let code = self.code().await?;
        progress::say(format!(
            "uploading the code of `{name}`, {}",
            bundle::size(self.desired.bundle.zip.len() as u64)
        ));
        let request = self
            .client
            .update_function_code()
            .function_name(name)
            .architectures(self.desired.architecture())
            .set_revision_id(latest.revision_id.clone());
        let request = match &code {
            Code::Inline(zip) => request.zip_file(Blob::new(*zip)),
            Code::Stored { bucket, key } => request.s3_bucket(bucket).s3_key(key),
        };
        let send = async || {
            let timeouts = Config::builder().timeout_config(self.aws.patience.for_upload());
            request
                .clone()
                .customize()
                .interceptor(upload::bar())
                .config_override(timeouts)
                .send()
                .await
        };
        self.call(&format!("uploading the code of `{name}`"), send).await?;
        Ok(())
    }

    /// Publishes what was just deployed and nothing else, as the hash and the revision say, and
    /// moves the alias to it.
    async fn publish(
        &self,
        latest: &FunctionConfiguration,
        current: Option<&Current>,
    ) -> Result<Deployed, Refused> {
        let name = self.desired.name;
        let request = self
            .client
            .publish_version()
            .function_name(name)
            .code_sha256(&self.desired.bundle.code_sha256)
            .set_revision_id(latest.revision_id.clone());
        let doing = format!("publishing a version of `{name}`");
        let answer = self.call(&doing, async || request.clone().send().await).await?;
        let version = answer.version.unwrap_or_default();
        if answer.state != Some(State::Active) {
            self.client
                .wait_until_published_version_active()
                .function_name(name)
                .qualifier(&version)
                .wait(self.aws.patience.change)
                .await
                .map_err(|error| {
                    Refused::Failed(
                        Error::failed(format!("waiting for version {version} of `{name}`"))
                            .because(error)
                            .hint("deploy again: what is done stays done"),
                    )
                })?;
        }
        progress::say(format!("published version {version} of `{name}`"));

        let alias = current.and_then(|current| current.alias.as_ref());
        let under_canary = self.point(alias, &version).await?;
        Ok(Deployed { published: true, ..self.deployed(latest, version, under_canary) })
    }

    /// Names by the alias what runs now, so that it goes on running while the function is changed.
    async fn name_what_runs(&self, latest: &FunctionConfiguration) -> Result<(), Refused> {
        let name = self.desired.name;
        let request = self
            .client
            .publish_version()
            .function_name(name)
            .set_revision_id(latest.revision_id.clone());
        let doing = format!("publishing what runs of `{name}`");
        let version = self
            .call(&doing, async || request.clone().send().await)
            .await?
            .version
            .unwrap_or_default();
        progress::say(format!(
            "published version {version} of `{name}`, which runs until the new one is there"
        ));
        alias::point(self.aws, name, ALIAS, None, Pointing { version: &version, canary: None })
            .await
    }

    /// Moves the alias to the new version, or sends it a share only; tells which.
    async fn point(&self, alias: Option<&alias::Alias>, version: &str) -> Result<bool, Refused> {
        let name = self.desired.name;
        let to = match (self.canary, alias) {
            (Some(canary), Some(alias)) if alias.version != version => {
                let share = Weighted { version: version.to_owned(), weight: canary.weight };
                let plan = canary.begun_now();
                let to = Pointing { version: &alias.version, canary: Some((&share, &plan)) };
                alias::point(self.aws, name, ALIAS, Some(alias), to).await?;
                progress::say(format!("version {version} of `{name}` gets its share: {canary}"));
                return Ok(true);
            }
            (Some(canary), None) => {
                progress::warn(format!(
                    "no canary {canary}: there is no version before {version} to compare it with"
                ));
                Pointing { version, canary: None }
            }
            (_, Some(alias)) if alias.version == version && alias.canary.is_none() => {
                return Ok(false);
            }
            _ => Pointing { version, canary: None },
        };
        alias::point(self.aws, name, ALIAS, alias, to).await?;
        Ok(false)
    }

    async fn call<T, E, R>(
        &self,
        doing: &str,
        call: impl AsyncFn() -> Result<T, SdkError<E, R>>,
    ) -> Result<T, Refused>
    where
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
        R: std::fmt::Debug + Send + Sync + 'static,
    {
        self.aws.patience.call(doing, call).await.map_err(|error| {
            let said = error.as_service_error().and_then(|error| {
                let (code, message) = (error.code()?, error.message().unwrap_or_default());
                is_outdated(code, message).then(|| format!("{doing}: {code}: {message}"))
            });
            match said {
                Some(said) => Refused::Outdated(said),
                None => Refused::Failed(failed(doing, error)),
            }
        })
    }

    async fn wait_until_active(&self) -> Result<FunctionConfiguration, Refused> {
        let name = self.desired.name;
        let waiter = self.client.wait_until_function_active_v2().function_name(name);
        let answer = match waiter.wait(self.aws.patience.change).await {
            Ok(poll) => poll.into_result().ok().and_then(|answer| answer.configuration),
            Err(error) => {
                return Err(Refused::Failed(did_not_come_up(&self.client, name, error).await));
            }
        };
        answer.ok_or_else(|| {
            Refused::Failed(Error::failed(format!("Lambda does not describe function `{name}`")))
        })
    }

    /// Waits until the last change is carried out, and the function is up, if it was on its way
    /// there.
    async fn wait_until_updated(&self) -> Result<FunctionConfiguration, Refused> {
        let name = self.desired.name;
        let waiter = self.client.wait_until_function_updated_v2().function_name(name);
        let answer = match waiter.wait(self.aws.patience.change).await {
            Ok(poll) => poll.into_result().ok().and_then(|answer| answer.configuration),
            Err(error) => {
                return Err(Refused::Failed(did_not_come_up(&self.client, name, error).await));
            }
        };
        match answer {
            Some(function) if function.state() == Some(&State::Pending) => {
                self.wait_until_active().await
            }
            Some(function) if function.state() == Some(&State::Failed) => {
                let said = function.state_reason().unwrap_or("Lambda gives no reason").to_owned();
                Err(Refused::Failed(not_up(name, "Failed").because(said)))
            }
            Some(function) => Ok(function),
            None => Err(Refused::Failed(Error::failed(format!(
                "Lambda does not describe function `{name}`"
            )))),
        }
    }
}

fn canary_version(alias: &alias::Alias) -> &str {
    alias.canary.as_ref().map_or("", |canary| &canary.version)
}

/// Whether Lambda refused because the function is not what it was when it was read. That may be
/// this deploy's own doing: a call whose answer was lost is sent again.
fn is_outdated(code: &str, message: &str) -> bool {
    match code {
        "PreconditionFailedException" => true,
        "ResourceConflictException" => message.contains("already exist"),
        // PublishVersion's words where `$LATEST` has other code than the hash it was given.
        "InvalidParameterValueException" => message.to_ascii_lowercase().contains("codesha256"),
        _ => false,
    }
}

/// Whether Lambda is still at an earlier change, which an interrupted run or someone else began. A
/// function that failed is not waited for: what is wrong with it may be what is to be changed.
fn is_busy(function: &FunctionConfiguration) -> bool {
    function.state() == Some(&State::Pending)
        || function.state() != Some(&State::Failed)
            && function.last_update_status() == Some(&LastUpdateStatus::InProgress)
}

fn not_up(name: &str, state: &str) -> Error {
    Error::failed(format!("function `{name}` did not come up ({state})"))
        .hint("mend what Lambda names, then deploy again")
}

/// Says why a function did not come up, in Lambda's words where it has some.
async fn did_not_come_up(
    client: &Client,
    name: &str,
    waiting: impl std::error::Error + Send + Sync + 'static,
) -> Error {
    let Ok(Some(function)) =
        get(client, name, None).await.map(|answer| answer.and_then(|answer| answer.configuration))
    else {
        return Error::failed(format!("waiting for function `{name}`"))
            .because(waiting)
            .hint("deploy again: what is done stays done");
    };
    let (state, reason) = if function.state() == Some(&State::Failed) {
        (function.state().map(State::as_str), function.state_reason())
    } else {
        (
            function.last_update_status().map(LastUpdateStatus::as_str),
            function.last_update_status_reason(),
        )
    };
    let error = not_up(name, state.unwrap_or("no state told"));
    match reason {
        Some(reason) if !reason.is_empty() => error.because(reason.to_owned()),
        _ => error.because(waiting),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_under_change_is_busy() {
        let function = FunctionConfiguration::builder;
        assert!(is_busy(&function().state(State::Pending).build()));
        assert!(is_busy(&function().last_update_status(LastUpdateStatus::InProgress).build()));
        let failed =
            function().state(State::Failed).last_update_status(LastUpdateStatus::InProgress);
        assert!(!is_busy(&failed.build()));
        let settled =
            function().state(State::Active).last_update_status(LastUpdateStatus::Successful);
        assert!(!is_busy(&settled.build()));
    }

    #[test]
    fn a_refusal_for_what_someone_changed_is_told_from_the_others() {
        for (code, message) in [
            (
                "PreconditionFailedException",
                "The RevisionId provided does not match the latest RevisionId.",
            ),
            ("ResourceConflictException", "Function already exist: quakes-staging"),
            (
                "InvalidParameterValueException",
                "CodeSHA256 (a) is different from current CodeSHA256 in $LATEST (b).",
            ),
        ] {
            assert!(is_outdated(code, message), "{message}");
        }
        assert!(!is_outdated(
            "ResourceConflictException",
            "An update is in progress for resource: arn"
        ));
        assert!(!is_outdated(
            "InvalidParameterValueException",
            "The role cannot be assumed by Lambda."
        ));
    }
}
