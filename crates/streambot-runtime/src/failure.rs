//! How a failure is said: the error with its causes, a panic with its message, a failed record by
//! its name. It knows words; it refuses to know what a failure means for the batch.

use std::any::Any;
use std::fmt;

use crate::json;
use crate::record::Record;
use crate::scope::{self, Scope};

/// How many failed records of one invocation have a log line each.
const MAX_LOGGED_FAILURES: usize = 10;

/// Logs a failed record, by its names and never by its data. After the first ones of an invocation
/// they are only counted.
pub(crate) fn log_failure(record: &Record, error: &(dyn std::error::Error + 'static)) {
    if scope::current().is_some_and(|scope| scope.add_failure() >= MAX_LOGGED_FAILURES) {
        return;
    }
    tracing::error!(
        event_id = record.event_id(),
        partition_key = record.partition_key(),
        sequence_number = record.sequence_number(),
        error = %Chain(error),
        "record failed"
    );
}

/// Logs a record that is skipped because it cannot be decoded, as [`log_failure`] does a failed
/// one.
pub(crate) fn log_skipped(record: &Record, error: &(dyn std::error::Error + 'static)) {
    if scope::current().is_some_and(|scope| scope.add_skipped() >= MAX_LOGGED_FAILURES) {
        return;
    }
    tracing::warn!(
        event_id = record.event_id(),
        partition_key = record.partition_key(),
        error = %Chain(error),
        "record skipped: it cannot be decoded"
    );
}

/// Logs how many failed and skipped records of the invocation have no line of their own.
pub(crate) fn log_further_failures(scope: &Scope) {
    let further = scope.skipped().saturating_sub(MAX_LOGGED_FAILURES);
    if further > 0 {
        tracing::warn!(
            further,
            "{further} more records skipped: only the first {MAX_LOGGED_FAILURES} of an invocation are logged"
        );
    }
    let further = scope.failures().saturating_sub(MAX_LOGGED_FAILURES);
    if further > 0 {
        tracing::error!(
            further,
            "{further} more records failed: only the first {MAX_LOGGED_FAILURES} of an invocation are logged"
        );
    }
}

/// A panic, as an error with the panic's message.
#[derive(Debug, thiserror::Error)]
#[error("the handler panicked: {0}")]
pub(crate) struct Panicked(String);

impl Panicked {
    pub(crate) fn new(payload: &(dyn Any + Send)) -> Self {
        let message = payload
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
            .or_else(|| payload.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "no message".to_owned());
        Self(message)
    }
}

/// An error and its causes, on one line. A cause that the error before it ends with is not
/// repeated.
///
/// Errors of serde_json contain values of the document, which may be a record. Their text is never
/// written.
pub(crate) struct Chain<'a>(pub(crate) &'a (dyn std::error::Error + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut said = text(self.0);
        formatter.write_str(&said)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            let text = text(error);
            let json = error.downcast_ref::<serde_json::Error>();
            let is_said = said.ends_with(&text)
                || json.is_some_and(|json| said.contains(&json::position(json)));
            if !is_said {
                write!(formatter, ": {text}")?;
            }
            said = text;
            cause = error.source();
        }
        Ok(())
    }
}

fn text(error: &(dyn std::error::Error + 'static)) -> String {
    match error.downcast_ref::<serde_json::Error>() {
        Some(json) => json::describe(json),
        None => without_values(error.to_string()),
    }
}

/// Removes the value from serde's own sentences, such as ``invalid type: string "…", expected
/// f64``.
///
/// `anyhow` and others hide the type of an error, so that only its text says that it comes from
/// serde. So does the message of a panic in `unwrap`.
pub(crate) fn without_values(text: String) -> String {
    let sentences = ["invalid type: ", "invalid value: ", "unknown variant `", "unknown field `"];
    let found = sentences.iter().filter_map(|sentence| Some((text.find(sentence)?, sentence)));
    let Some((start, sentence)) = found.min() else { return text };
    let end_of_what = start + sentence.trim_end_matches([':', ' ', '`']).len();
    let (what, rest) = text.split_at(end_of_what);
    let end_of_value =
        [", expected ", ", there are no "].iter().filter_map(|end| rest.rfind(end)).max();
    [what, end_of_value.map_or("", |end| &rest[end..])].concat()
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Order {
        #[allow(dead_code, reason = "only decoded")]
        amount: f64,
    }

    fn chain(error: impl Into<crate::Error>) -> String {
        Chain(&*error.into()).to_string()
    }

    fn json_error(data: &str) -> serde_json::Error {
        serde_json::from_str::<Order>(data).expect_err("it does not fit")
    }

    #[test]
    fn errors_of_serde_json_are_described_without_values() {
        let expected = "JSON of another type than expected at line 1, column 28";
        let data = r#"{"amount":"x, expected cret"}"#;
        assert!(json_error(data).to_string().contains("cret"));
        assert_eq!(chain(json_error(data)), expected);
        let anyhow = anyhow::Error::from(json_error(data)).context("reading the order");
        assert_eq!(chain(anyhow), format!("reading the order: {expected}"));
        let value = serde_json::json!({ "amount": "secret" });
        let error = serde_json::from_value::<Order>(value).expect_err("it does not fit");
        assert_eq!(chain(error), "JSON of another type than expected");
    }

    #[test]
    fn values_are_removed_if_only_the_text_says_that_it_is_serdes() {
        for (data, expected) in [
            (r#"{"amount":"x, expected cret"}"#, "invalid type, expected f64 at line 1 column 28"),
            (r#"{"cret":1}"#, "unknown field, expected `amount` at line 1 column 7"),
        ] {
            assert_eq!(chain(anyhow::Error::from(json_error(data))), expected);
        }
        for (message, expected) in [
            (
                "a: invalid value: string \"cret\", expected a date",
                "a: invalid value, expected a date",
            ),
            (
                "unknown variant `cret`, there are no variants",
                "unknown variant, there are no variants",
            ),
            ("invalid type: cret", "invalid type"),
            ("no such table", "no such table"),
        ] {
            assert_eq!(chain(message), expected);
        }
    }

    #[test]
    fn a_rejection_of_json_is_said_once() {
        let rejection =
            crate::json::decode::<Order>(br#"{"amount":"cret"}"#).expect_err("it does not fit");
        let expected = "the data is not the expected JSON at `amount`: expected a number (f64), found text \
                        (line 1, column 16)";
        assert_eq!(chain(rejection), expected);
    }
}
