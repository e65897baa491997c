//! The S3 client that uploads log objects: credentials, region, timeouts.

use std::time::Duration;

use aws_config::BehaviorVersion;
use aws_config::ecs::EcsCredentialsProvider;
use aws_config::environment::{
    EnvironmentVariableCredentialsProvider, EnvironmentVariableRegionProvider,
};
use aws_config::meta::credentials::CredentialsProviderChain;
use aws_config::meta::region::ProvideRegion;
use aws_config::provider_config::ProviderConfig;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_sdk_s3::config::SharedHttpClient;
use aws_smithy_http_client::tls::{self, rustls_provider::CryptoMode};

/// The time for an upload in the environment, in milliseconds.
const TIMEOUT_VARIABLE: &str = "STREAMBOT_LOG_UPLOAD_TIMEOUT_MS";
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(1);

/// How long uploads may take after one invocation: `STREAMBOT_LOG_UPLOAD_TIMEOUT_MS`, or 1 s.
pub(super) fn upload_timeout() -> Duration {
    let Some(value) = crate::environment::variable(TIMEOUT_VARIABLE) else {
        return DEFAULT_TIMEOUT;
    };
    parse_timeout(&value).unwrap_or_else(|| {
        tracing::warn!(
            value,
            "{TIMEOUT_VARIABLE} is not a number of milliseconds from 1 up: 1000 is used"
        );
        DEFAULT_TIMEOUT
    })
}

fn parse_timeout(value: &str) -> Option<Duration> {
    value.trim().parse().ok().filter(|milliseconds| *milliseconds > 0).map(Duration::from_millis)
}

/// A client whose every step ends within `timeout`.
///
/// Credentials are those of the environment, or of a container's endpoint, which Lambda uses with
/// SnapStart. The chain of all the other places where credentials may be would make a function a
/// good deal larger.
pub(super) async fn client(timeout: Duration) -> aws_sdk_s3::Client {
    let https = aws_smithy_http_client::Builder::new()
        .tls_provider(tls::Provider::Rustls(CryptoMode::Ring))
        .build_https();
    let settings = aws_sdk_s3::config::Builder::new()
        .behavior_version(BehaviorVersion::latest())
        .region(EnvironmentVariableRegionProvider::new().region().await)
        .credentials_provider(credentials(&https, timeout))
        .timeout_config(timeouts(timeout))
        .retry_config(retries())
        .http_client(https);
    let endpoint = ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"]
        .into_iter()
        .find_map(crate::environment::variable);
    aws_sdk_s3::Client::from_conf(match endpoint {
        Some(endpoint) => settings.endpoint_url(endpoint).build(),
        None => settings.build(),
    })
}

fn credentials(https: &SharedHttpClient, timeout: Duration) -> CredentialsProviderChain {
    let provider =
        ProviderConfig::empty().with_http_client(https.clone()).with_retry_config(retries());
    let container = EcsCredentialsProvider::builder()
        .configure(&provider)
        .connect_timeout(timeout / 4)
        .read_timeout(timeout / 2)
        .build();
    CredentialsProviderChain::first_try(
        "Environment",
        EnvironmentVariableCredentialsProvider::new(),
    )
    .or_else("Container", container)
}

fn timeouts(timeout: Duration) -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(timeout / 4)
        .read_timeout(timeout * 3 / 4)
        .operation_attempt_timeout(timeout * 3 / 4)
        .operation_timeout(timeout)
        .build()
}

/// One retry, for a connection that was closed while the sandbox was frozen. A failed upload is
/// tried again after the next invocation.
fn retries() -> RetryConfig {
    RetryConfig::standard()
        .with_max_attempts(2)
        .with_initial_backoff(Duration::from_millis(20))
        .with_max_backoff(Duration::from_millis(100))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_timeout_is_a_positive_number_of_milliseconds() {
        assert_eq!(parse_timeout("250"), Some(Duration::from_millis(250)));
        assert_eq!(parse_timeout(" 1500 "), Some(Duration::from_millis(1_500)));
        for invalid in ["", "0", "-1", "1.5", "1s"] {
            assert_eq!(parse_timeout(invalid), None, "{invalid}");
        }
    }
}
