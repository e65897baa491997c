//! One invocation of the function with the event of a batch, and what its answer means for the
//! batch. It refuses to know where the batch came from.

use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_sdk_lambda::Client;
use aws_sdk_lambda::error::ProvideErrorMetadata as _;
use aws_sdk_lambda::primitives::Blob;
use bytes::Bytes;

use crate::aws::{Aws, failed};
use crate::error::{Error, Result};
use crate::function::{ALIAS, without_qualifier};
use crate::local::answer::Answer;
use crate::local::record::Batch;

/// The function that is invoked.
#[derive(Debug)]
pub(crate) struct Invoked {
    client: Client,
    aws: Aws,
    name: String,
    /// Its ARN, with the alias.
    pub(crate) arn: String,
    /// ARN of the role it reads streams with.
    pub(crate) role: String,
    /// How long an invocation may take.
    pub(crate) timeout: Duration,
}

/// Why a batch is not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NotDone {
    /// How many of its first records are.
    pub(crate) done: usize,
    /// Why.
    pub(crate) why: String,
}

impl Invoked {
    /// Finds the function.
    ///
    /// # Errors
    /// Missing where there is no such function, or it has no alias `current`.
    pub(crate) async fn find(aws: &Aws, name: &str) -> Result<Self> {
        let client = Client::new(&aws.config);
        let read =
            client.get_function_configuration().function_name(name).qualifier(ALIAS).send().await;
        let found = read.map_err(|error| {
            if error.as_service_error().is_some_and(|error| error.is_resource_not_found_exception())
            {
                Error::missing(format!(
                    "function `{name}` with alias `{ALIAS}` is not there in {}",
                    aws.region()
                ))
                .hint("deploy it first, or name its region with --region")
            } else {
                failed(format!("reading function `{name}`"), error)
            }
        })?;
        // A server may tell the version that the alias stands for.
        let function = without_qualifier(found.function_arn().unwrap_or(name));
        Ok(Self {
            client,
            aws: aws.clone(),
            name: name.to_owned(),
            arn: format!("{function}:{ALIAS}"),
            role: found.role().unwrap_or_default().to_owned(),
            timeout: Duration::from_secs(u64::from(found.timeout().unwrap_or(900).unsigned_abs())),
        })
    }

    /// Invokes the function with the event of `batch` and waits for its answer.
    ///
    /// # Errors
    /// What is not done, and why.
    pub(crate) async fn invoke(&self, event: Bytes, batch: &Batch) -> Result<(), NotDone> {
        // The SDK's own time-out and retries would send a batch again while the function still
        // works on it.
        let patient = aws_sdk_lambda::config::Builder::new()
            .retry_config(RetryConfig::disabled())
            .timeout_config(
                TimeoutConfig::builder()
                    .operation_attempt_timeout(self.timeout + self.aws.patience.call)
                    .build(),
            );
        let mut waits = self.aws.patience.waits();
        loop {
            let request = self
                .client
                .invoke()
                .function_name(&self.name)
                .qualifier(ALIAS)
                .payload(Blob::new(event.clone()));
            match request.customize().config_override(patient.clone()).send().await {
                Ok(answer) => {
                    let body = answer.payload().map(AsRef::as_ref).unwrap_or_default();
                    return meaning(answer.function_error(), body, batch);
                }
                Err(error) => {
                    let is_throttled = error.as_service_error().is_some_and(|error| {
                        error.is_too_many_requests_exception()
                            || error.code() == Some("ThrottlingException")
                    });
                    if !(is_throttled && waits.wait().await) {
                        let why =
                            in_a_line(&failed(format!("invoking function `{}`", self.name), error));
                        return Err(NotDone { done: 0, why });
                    }
                }
            }
        }
    }
}

/// What an answer means. A mapping would look at reported failures only with
/// ReportBatchItemFailures, which Streambot's always have.
fn meaning(function_error: Option<&str>, body: &[u8], batch: &Batch) -> Result<(), NotDone> {
    if let Some(kind) = function_error {
        let error: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
        let text = |key: &str| error[key].as_str().filter(|text| !text.is_empty());
        let told: Vec<&str> =
            [text("errorType"), text("errorMessage")].into_iter().flatten().collect();
        let told = if told.is_empty() { kind.to_owned() } else { told.join(": ") };
        return Err(NotDone { done: 0, why: format!("the function failed: {told}") });
    }
    match Answer::read(body, batch, true) {
        Answer::AllDone => Ok(()),
        Answer::Refused(why) => {
            Err(NotDone { done: 0, why: format!("the function's answer is refused: {why}") })
        }
        Answer::FailedFrom(place) => {
            let number =
                batch.records().get(place).map(|record| record.sequence_number.to_string());
            Err(NotDone {
                done: place,
                why: format!(
                    "the function reports record {} as failed",
                    number.unwrap_or_default()
                ),
            })
        }
    }
}

/// An error's whole story in one line.
pub(crate) fn in_a_line(error: &Error) -> String {
    let report = error.report();
    report.trim_start_matches("error: ").lines().map(str::trim).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::local::record::testing::batch;

    fn of(function_error: Option<&str>, body: &str) -> Result<(), NotDone> {
        meaning(function_error, body.as_bytes(), &batch([7, 8, 9]))
    }

    #[test]
    fn an_answer_without_failures_is_all_done() {
        for body in ["", "null", r#"{"batchItemFailures":[]}"#] {
            assert_eq!(of(None, body), Ok(()));
        }
    }

    #[test]
    fn a_reported_failure_tells_what_is_done_before_it() {
        let body = r#"{"batchItemFailures":[{"itemIdentifier":"9"},{"itemIdentifier":"8"}]}"#;
        let why = "the function reports record 8 as failed".to_owned();
        assert_eq!(of(None, body), Err(NotDone { done: 1, why }));
    }

    #[test]
    fn a_failed_function_and_a_refused_answer_have_nothing_done() {
        let why = "the function failed: Runtime.ExitError: exit status 1".to_owned();
        let body = r#"{"errorType":"Runtime.ExitError","errorMessage":"exit status 1"}"#;
        assert_eq!(of(Some("Unhandled"), body), Err(NotDone { done: 0, why }));
        let why = "the function failed: Unhandled".to_owned();
        assert_eq!(of(Some("Unhandled"), ""), Err(NotDone { done: 0, why }));
        let refused = of(None, r#"{"batchItemFailures":[{"itemIdentifier":"5"}]}"#);
        assert!(
            refused.is_err_and(
                |not_done| not_done.done == 0 && not_done.why.contains("names no record")
            )
        );
    }
}
