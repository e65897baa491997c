//! How a failure is said: the error with its causes, a panic with its message, a failed record by its name. It knows
//! words; it refuses to know what a failure means for the batch.

use std::any::Any;
use std::fmt;

use crate::record::Record;
use crate::scope::{self, Scope};

/// How many failed records of one invocation have a log line each.
const MAX_LOGGED_FAILURES: usize = 10;

/// Logs a failed record, by its names and never by its data. After the first ones of an invocation they are only counted.
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

/// Logs how many failed records of the invocation have no line of their own.
pub(crate) fn log_further_failures(scope: &Scope) {
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

/// An error and what caused it, on one line. A cause that its effect already ends with is not said twice.
pub(crate) struct Chain<'a>(pub(crate) &'a (dyn std::error::Error + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut said = self.0.to_string();
        formatter.write_str(&said)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            let text = error.to_string();
            if !said.ends_with(&text) {
                write!(formatter, ": {text}")?;
            }
            said = text;
            cause = error.source();
        }
        Ok(())
    }
}
