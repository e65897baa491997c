//! The way to AWS: the region, the HTTP client, what an API error says, and which errors pass by themselves. It refuses to know any
//! one service.

use std::time::{Duration, Instant};

use aws_config::retry::RetryConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_lambda::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_http_client::tls;

use crate::error::{Error, Result};

/// The region where nothing names one, as in Streambot 1.0.
const DEFAULT_REGION: &str = "us-east-1";

/// How long a call is repeated while its error passes by itself. A role is usable by Lambda some ten seconds after it was made.
const PATIENCE: Duration = Duration::from_secs(90);

/// Reads AWS's own settings (environment, profile, instance); `AWS_ENDPOINT_URL` is among them. The region is the one given, else
/// theirs, else us-east-1.
pub(crate) async fn connect(region: Option<&str>) -> SdkConfig {
    let settings = || {
        let http_client = aws_smithy_http_client::Builder::new()
            .tls_provider(tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring))
            .build_https();
        aws_config::defaults(BehaviorVersion::latest())
            .http_client(http_client)
            .retry_config(RetryConfig::standard().with_max_attempts(5))
    };
    let in_region = async |region: &str| settings().region(Region::new(region.to_owned())).load().await;
    if let Some(region) = region {
        return in_region(region).await;
    }
    let found = settings().load().await;
    match found.region() {
        Some(_) => found,
        None => in_region(DEFAULT_REGION).await,
    }
}

/// Words an SDK error: the service's own code and message where it answered, else the chain of what kept it from answering.
pub(crate) fn failed<E, R>(doing: impl Into<String>, error: SdkError<E, R>) -> Error
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    R: std::fmt::Debug + Send + Sync + 'static,
{
    let answer =
        error.as_service_error().and_then(|error| Some((error.code()?.to_owned(), error.message()?.to_owned())));
    let unsent = matches!(error, SdkError::DispatchFailure(_) | SdkError::ConstructionFailure(_));
    let worded = match answer {
        Some((code, message)) => {
            let hint = hint_for(&code);
            let error = Error::failed(doing).because(format!("{code}: {message}"));
            match hint {
                Some(hint) => error.hint(hint),
                None => error,
            }
        }
        None => Error::failed(doing).because(error),
    };
    if unsent {
        worded.hint("check the credentials (AWS_PROFILE, `aws sts get-caller-identity`), the region and the network")
    } else {
        worded
    }
}

fn hint_for(code: &str) -> Option<&'static str> {
    match code {
        "AccessDenied" | "AccessDeniedException" => Some("allow the action that is named to whoever deploys"),
        "ExpiredToken" | "ExpiredTokenException" | "InvalidClientTokenId" | "UnrecognizedClientException" => {
            Some("renew the AWS credentials")
        }
        "RequestEntityTooLargeException" => {
            Some("Lambda takes bundles of up to 50 MB: include less, or strip the binary")
        }
        _ => None,
    }
}

/// Whether Lambda refused something that it will accept in a while: the function or mapping is being changed, or a new role is not
/// yet known everywhere.
fn passes_by_itself(code: &str, message: &str) -> bool {
    let says = |part: &str| message.contains(part);
    match code {
        "ResourceConflictException" => !says("already exist"),
        "ResourceInUseException" => true,
        "InvalidParameterValueException" => {
            says("cannot be assumed by Lambda") || says("Please ensure the role can perform")
        }
        _ => false,
    }
}

/// Calls until it works, the error is one that stays, or patience ends. Waits half a second at first, then twice as long each time,
/// up to eight seconds.
///
/// # Errors
/// The last error, as [`failed`] words it.
pub(crate) async fn patiently<T, E, R>(doing: &str, call: impl AsyncFn() -> Result<T, SdkError<E, R>>) -> Result<T>
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    R: std::fmt::Debug + Send + Sync + 'static,
{
    let deadline = Instant::now() + PATIENCE;
    let mut delay = Duration::from_millis(500);
    loop {
        let error = match call().await {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        let message = error.as_service_error().and_then(|error| {
            let (code, message) = (error.code()?, error.message()?);
            passes_by_itself(code, message).then(|| message.to_owned())
        });
        match message {
            Some(message) if Instant::now() + delay < deadline => {
                eprintln!("waiting, {doing}: {message}");
                tokio::time::sleep(delay).await;
                delay = (delay * 2).min(Duration::from_secs(8));
            }
            _ => return Err(failed(doing, error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_in_progress_and_a_new_role_pass_by_themselves() {
        for (code, message) in [
            (
                "ResourceConflictException",
                "The operation cannot be performed at this time. An update is in progress for resource: arn",
            ),
            ("ResourceInUseException", "Cannot update the event source mapping because it is in use."),
            ("InvalidParameterValueException", "The role defined for the function cannot be assumed by Lambda."),
            (
                "InvalidParameterValueException",
                "Cannot access stream arn. Please ensure the role can perform the GetRecords action",
            ),
        ] {
            assert!(passes_by_itself(code, message), "{message}");
        }
    }

    #[test]
    fn what_exists_already_and_what_is_wrong_stay() {
        for (code, message) in [
            ("ResourceConflictException", "Function already exist: quakes-staging"),
            (
                "ResourceConflictException",
                "An event source mapping with this stream and function already exists. UUID 1",
            ),
            ("InvalidParameterValueException", "Stream not found: arn"),
            ("AccessDeniedException", "no"),
        ] {
            assert!(!passes_by_itself(code, message), "{message}");
        }
    }
}
