//! The way to AWS: the region, the HTTP client, what an API error says, and which errors pass by
//! themselves. It refuses to know any one service.

pub(crate) mod upload;

use std::str::FromStr;
use std::time::{Duration, Instant};

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_lambda::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_http_client::tls;
use clap::Args;

use crate::error::{Error, Result};
use crate::progress;

/// The region where nothing names one, as in Streambot 1.0.
const DEFAULT_REGION: &str = "us-east-1";

/// Where on AWS, and how long to wait for it.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "AWS")]
pub(crate) struct AwsArguments {
    #[command(flatten)]
    pub(crate) region: RegionArguments,

    /// Seconds one attempt of an AWS call may take; an upload may take ten times as long
    #[arg(long, value_name = "SECONDS", default_value = "60")]
    call_timeout: Seconds,

    /// Attempts of an AWS call that is throttled, times out or is answered with a server error
    #[arg(long, value_name = "ATTEMPTS", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    call_attempts: u32,

    /// Seconds before the second attempt; they double with each further one
    #[arg(long, value_name = "SECONDS", default_value = "0.5")]
    back_off: Seconds,

    /// Seconds that a change on AWS may take to come about, or to be accepted
    #[arg(long, value_name = "SECONDS", default_value = "300")]
    wait_timeout: Seconds,
}

/// Which region.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct RegionArguments {
    /// AWS region [default: the one AWS's own settings name, else us-east-1]
    #[arg(long, value_name = "REGION")]
    pub(crate) region: Option<String>,
}

/// A time in seconds with a fraction, not negative.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seconds(pub(crate) Duration);

impl FromStr for Seconds {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let seconds =
            text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        seconds.map(Self).ok_or_else(|| format!("{text} is no time in seconds, such as 0.5 or 60"))
    }
}

/// The way to AWS: what every service's client is made of, and how long to wait for what AWS is
/// asked.
#[derive(Debug, Clone)]
pub(crate) struct Aws {
    pub(crate) config: SdkConfig,
    pub(crate) patience: Patience,
}

impl Aws {
    /// Reads AWS's own settings (environment, profile, instance); `AWS_ENDPOINT_URL` is among them.
    pub(crate) async fn connect(arguments: &AwsArguments) -> Self {
        let retry = RetryConfig::standard()
            .with_max_attempts(arguments.call_attempts)
            .with_initial_backoff(arguments.back_off.0);
        let timeout =
            TimeoutConfig::builder().operation_attempt_timeout(arguments.call_timeout.0).build();
        Self {
            config: load(arguments.region.region.as_deref(), retry, timeout).await,
            patience: Patience {
                call: arguments.call_timeout.0,
                back_off: arguments.back_off.0,
                change: arguments.wait_timeout.0,
            },
        }
    }

    /// The region all calls go to.
    pub(crate) fn region(&self) -> &str {
        self.config.region().map_or(DEFAULT_REGION, |region| region.as_ref())
    }
}

/// How long to wait for AWS.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// One attempt of a call.
    pub(crate) call: Duration,
    /// Before the second attempt.
    pub(crate) back_off: Duration,
    /// Until a change is accepted, or has come about.
    pub(crate) change: Duration,
}

/// Reads AWS's own settings, with its usual patience.
pub(crate) async fn connect(region: Option<&str>) -> SdkConfig {
    load(region, RetryConfig::standard().with_max_attempts(5), TimeoutConfig::builder().build())
        .await
}

/// The region is the one given, else that of AWS's own settings, else us-east-1.
async fn load(region: Option<&str>, retry: RetryConfig, timeout: TimeoutConfig) -> SdkConfig {
    let settings = || {
        let http_client = aws_smithy_http_client::Builder::new()
            .tls_provider(tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring))
            .build_https();
        aws_config::defaults(BehaviorVersion::latest())
            .http_client(http_client)
            .retry_config(retry.clone())
            .timeout_config(timeout.clone())
    };
    let in_region =
        async |region: &str| settings().region(Region::new(region.to_owned())).load().await;
    if let Some(region) = region {
        return in_region(region).await;
    }
    let found = settings().load().await;
    match found.region() {
        Some(_) => found,
        None => in_region(DEFAULT_REGION).await,
    }
}

/// Words an SDK error: the service's own code and message where it answered, else the chain of what
/// kept it from answering.
pub(crate) fn failed<E, R>(doing: impl Into<String>, error: SdkError<E, R>) -> Error
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    R: std::fmt::Debug + Send + Sync + 'static,
{
    let answer = error
        .as_service_error()
        .and_then(|error| Some((error.code()?.to_owned(), error.message()?.to_owned())));
    let unsent = matches!(error, SdkError::DispatchFailure(_) | SdkError::ConstructionFailure(_));
    let unanswered = matches!(error, SdkError::TimeoutError(_) | SdkError::ResponseError(_));
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
    } else if unanswered {
        worded.hint(AGAIN)
    } else {
        worded
    }
}

/// What to do about an error that is AWS's own and will pass.
const AGAIN: &str = "AWS is busy or out of order: run the same again in a while; it begins with what is there by then";

fn hint_for(code: &str) -> Option<&'static str> {
    match code {
        "AccessDenied" | "AccessDeniedException" => {
            Some("allow the action that is named to whoever deploys")
        }
        "ExpiredToken"
        | "ExpiredTokenException"
        | "InvalidClientTokenId"
        | "UnrecognizedClientException" => Some("renew the AWS credentials"),
        "InternalFailure"
        | "InternalError"
        | "ServiceException"
        | "ServiceUnavailable"
        | "Throttling"
        | "ThrottlingException"
        | "TooManyRequestsException"
        | "SlowDown" => Some(AGAIN),
        "RequestEntityTooLargeException" => {
            Some("name an S3 bucket with --bucket, which the bundle goes through; or include less")
        }
        _ => None,
    }
}

/// Whether Lambda refused something that it will accept in a while: the function or mapping is
/// being changed, or a new role is not yet known everywhere.
fn passes_by_itself(code: &str, message: &str) -> bool {
    let says = |part: &str| message.contains(part);
    match code {
        "ResourceConflictException" => !says("already exist"),
        "ResourceInUseException" => true,
        "InvalidParameterValueException" => {
            says("cannot be assumed by Lambda")
                || says("Please ensure the role can perform")
                || says("execution role does not have permissions to call")
                || says("KMS key is invalid for CreateGrant")
                || says("throttled by EC2")
        }
        _ => false,
    }
}

impl Patience {
    /// Calls until it works, the error is one that stays, or patience ends. Each wait is twice as
    /// long as the one before, up to eight seconds, with jitter.
    ///
    /// # Errors
    /// The last error.
    pub(crate) async fn call<T, E, R>(
        self,
        doing: &str,
        call: impl AsyncFn() -> Result<T, SdkError<E, R>>,
    ) -> Result<T, SdkError<E, R>>
    where
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
        R: std::fmt::Debug + Send + Sync + 'static,
    {
        let mut waits = self.waits();
        loop {
            let error = match call().await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let message = error.as_service_error().and_then(|error| {
                let (code, message) = (error.code()?, error.message()?);
                passes_by_itself(code, message).then(|| message.to_owned())
            });
            let Some(message) = message else { return Err(error) };
            progress::say(format!("waiting, {doing}: {message}"));
            if !waits.wait().await {
                return Err(error);
            }
        }
    }

    /// Waits that get longer, until the time for a change is over.
    pub(crate) fn waits(self) -> Waits {
        Waits {
            deadline: Instant::now() + self.change,
            next: self.back_off,
            longest: self.back_off * 16,
        }
    }
}

/// Waits between looks at something that is to change.
#[derive(Debug)]
pub(crate) struct Waits {
    deadline: Instant,
    next: Duration,
    longest: Duration,
}

impl Waits {
    /// Waits, or tells that the time is over.
    pub(crate) async fn wait(&mut self) -> bool {
        if Instant::now() + self.next > self.deadline {
            return false;
        }
        // Between half of it and all of it, so that two deploys do not ask in step.
        let jitter = uuid::Uuid::new_v4().as_bytes()[0];
        tokio::time::sleep(self.next / 2 + self.next / 2 * u32::from(jitter) / 255).await;
        self.next = (self.next * 2).min(self.longest);
        true
    }
}

#[cfg(test)]
impl Aws {
    /// The way to a test's own server, where an attempt of a call may take so long.
    pub(crate) async fn of_test(endpoint: &str, call: Duration) -> Self {
        let back_off = Duration::from_millis(1);
        let config = aws_config::defaults(BehaviorVersion::latest())
            .region(Region::new(DEFAULT_REGION))
            .endpoint_url(endpoint)
            .credentials_provider(aws_sdk_lambda::config::Credentials::new(
                "test", "test", None, None, "test",
            ))
            .http_client(aws_smithy_http_client::Builder::new().build_http())
            .retry_config(
                RetryConfig::standard().with_max_attempts(3).with_initial_backoff(back_off),
            )
            .timeout_config(TimeoutConfig::builder().operation_attempt_timeout(call).build())
            .load()
            .await;
        Self { config, patience: Patience { call, back_off, change: call } }
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
            (
                "ResourceInUseException",
                "Cannot update the event source mapping because it is in use.",
            ),
            (
                "InvalidParameterValueException",
                "The role defined for the function cannot be assumed by Lambda.",
            ),
            (
                "InvalidParameterValueException",
                "The provided execution role does not have permissions to call SendMessage on SQS",
            ),
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
