//! What `status` answers, part by part: each is there, is missing, or could not be read. It refuses
//! to know where it was read and how it is shown.

use std::borrow::Borrow;

use serde::{Serialize, Serializer};

use super::sparkline::Series;
use crate::error::{Error, Result};
use crate::time::Time;

/// A service as it stands.
#[derive(Debug, Serialize)]
pub(crate) struct Status {
    /// The name of the stack and of the function.
    pub(super) name: String,
    pub(super) region: String,
    /// When it was looked at.
    pub(super) time: Time,
    pub(super) stack: Part<Stack>,
    pub(super) function: Part<Function>,
    pub(super) event_source_mappings: Part<Vec<Mapping>>,
    pub(super) metrics: Part<Metrics>,
    pub(super) alarms: Part<Vec<Alarm>>,
    /// Who was asked by e-mail whether alarms may be sent there, and has not answered.
    pub(super) pending_confirmations: Part<Vec<Subscription>>,
}

/// A part of the answer. In JSON it is itself, null, or an object with the one key `unreadable`.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Part<T> {
    Known(T),
    Missing,
    /// Why it could not be read.
    Unreadable(String),
}

impl<T> Part<T> {
    pub(super) fn of<E: Borrow<Error>>(read: std::result::Result<Option<T>, E>) -> Self {
        match read {
            Ok(Some(part)) => Self::Known(part),
            Ok(None) => Self::Missing,
            Err(error) => Self::Unreadable(error.borrow().in_one_line()),
        }
    }

    pub(super) fn map<U>(self, to: impl FnOnce(T) -> U) -> Part<U> {
        match self {
            Self::Known(part) => Part::Known(to(part)),
            Self::Missing => Part::Missing,
            Self::Unreadable(why) => Part::Unreadable(why),
        }
    }

    /// Reads a part that this one leads to.
    pub(super) async fn then<U>(self, read: impl AsyncFnOnce(T) -> Result<U>) -> Part<U> {
        match self {
            Self::Known(part) => Part::of(read(part).await.map(Some)),
            Self::Missing => Part::Missing,
            Self::Unreadable(why) => Part::Unreadable(why),
        }
    }
}

impl<T: Serialize> Serialize for Part<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Unreadable<'a> {
            unreadable: &'a str,
        }
        match self {
            Self::Known(part) => part.serialize(serializer),
            Self::Missing => serializer.serialize_none(),
            Self::Unreadable(unreadable) => Unreadable { unreadable }.serialize(serializer),
        }
    }
}

#[derive(Debug, Serialize)]
pub(super) struct Stack {
    pub(super) status: String,
    pub(super) status_reason: Option<String>,
    /// When it was updated, or else created.
    pub(super) updated: Option<Time>,
}

#[derive(Debug, Serialize)]
pub(super) struct Function {
    pub(super) arn: String,
    pub(super) state: Option<String>,
    pub(super) state_reason: Option<String>,
    pub(super) last_update_status: Option<String>,
    pub(super) last_update_status_reason: Option<String>,
    /// What the alias names; nothing where there is no alias.
    pub(super) version: Option<String>,
    pub(super) canary: Option<Canary>,
    /// Of the version, or else of `$LATEST`, as is all that follows.
    pub(super) code_sha256: Option<String>,
    pub(super) last_modified: Option<Time>,
    pub(super) memory_in_megabytes: Option<i32>,
    pub(super) timeout_in_seconds: Option<i32>,
}

/// A version that gets a share of the batches.
#[derive(Debug, Serialize)]
pub(super) struct Canary {
    pub(super) version: String,
    /// Between 0 and 1.
    pub(super) weight: f64,
    pub(super) code_sha256: Option<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct Mapping {
    pub(super) uuid: String,
    pub(super) event_source_arn: String,
    pub(super) state: String,
    pub(super) last_processing_result: Option<String>,
    /// ARN of the function, or of its version or alias, that is invoked.
    pub(super) function_arn: String,
    pub(super) batch_size: Option<i32>,
}

/// Numbers of the last hour.
#[derive(Debug, Serialize)]
pub(super) struct Metrics {
    /// Where the first period begins.
    pub(super) from: Time,
    pub(super) period_in_seconds: i32,
    /// Age of a batch's last record when it was read, in milliseconds: the greatest of each period.
    pub(super) iterator_age: Series,
    pub(super) errors: Series,
    pub(super) invocations: Series,
    /// What the runtime counts.
    pub(super) streambot: Option<Outcomes>,
}

/// Invocations by what became of their records.
#[derive(Debug, Serialize)]
pub(super) struct Outcomes {
    pub(super) metric_name: String,
    /// A record failed.
    pub(super) error: Series,
    /// All was done.
    pub(super) success: Series,
}

#[derive(Debug, Serialize)]
pub(super) struct Alarm {
    pub(super) name: String,
    /// `OK`, `ALARM` or `INSUFFICIENT_DATA`.
    pub(super) state: String,
    pub(super) reason: Option<String>,
    pub(super) since: Option<Time>,
}

#[derive(Debug, Serialize)]
pub(super) struct Subscription {
    pub(super) endpoint: String,
    pub(super) protocol: String,
    pub(super) topic_arn: String,
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::{json, to_value};

    use super::*;

    #[test]
    fn a_part_is_itself_null_or_says_why_it_could_not_be_read() {
        let error =
            Error::failed("describing stack `quakes`").because(Error::failed("AccessDenied: no"));
        assert_eq!(to_value(Part::of(Ok::<_, Error>(Some(1)))).unwrap(), json!(1));
        assert_eq!(to_value(Part::<u32>::of(Ok::<_, Error>(None))).unwrap(), json!(null));
        let unreadable = json!({ "unreadable": "describing stack `quakes`: AccessDenied: no" });
        assert_eq!(to_value(Part::<u32>::of(Err(error))).unwrap(), unreadable);
    }
}
