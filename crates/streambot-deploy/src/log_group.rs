//! How long the function's log group keeps its events, where the group is not the stack's. It
//! refuses to know what is logged.

use aws_sdk_cloudwatchlogs::Client;

use crate::aws::{Aws, failed};
use crate::error::{Error, Result};
use crate::progress;

/// The days that CloudWatch Logs allows:
/// <https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_PutRetentionPolicy.html>.
const ALLOWED: [u32; 22] = [
    1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922,
    3288, 3653,
];

/// A log group and how long it is to keep its events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Retention {
    group: String,
    /// Nothing keeps them for ever.
    days: Option<u32>,
}

/// A log group as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Current {
    days: Option<u32>,
}

impl Retention {
    /// What is declared: `days` of 0 keeps events for ever.
    ///
    /// # Errors
    /// Bad usage where CloudWatch Logs does not allow so many days.
    pub(crate) fn declared(group: &str, days: u32) -> Result<Self> {
        if days != 0 && !ALLOWED.contains(&days) {
            let allowed = ALLOWED.map(|days| days.to_string()).join(", ");
            return Err(Error::usage(format!("log-retention-days of {days} is not allowed"))
                .hint(format!("CloudWatch Logs allows {allowed}, and 0 is for ever")));
        }
        Ok(Self { group: group.to_owned(), days: (days != 0).then_some(days) })
    }

    /// The steps in words; none where nothing is to be done.
    pub(crate) fn steps(&self, current: Option<Current>) -> Option<String> {
        let days =
            |days: Option<u32>| days.map_or("for ever".to_owned(), |days| format!("{days} days"));
        match current {
            None => Some(format!(
                "create log group `{}`, which keeps its events {}",
                self.group,
                days(self.days)
            )),
            Some(current) if current.days != self.days => Some(format!(
                "change log group `{}`, retention: {} → {}",
                self.group,
                days(current.days),
                days(self.days)
            )),
            Some(_) => None,
        }
    }

    /// Reads the log group; nothing where it is not there.
    ///
    /// # Errors
    /// Failed where CloudWatch Logs does not answer or refuses.
    pub(crate) async fn find(&self, aws: &Aws) -> Result<Option<Current>> {
        let request =
            Client::new(&aws.config).describe_log_groups().log_group_name_prefix(&self.group);
        let answer = request.send().await;
        let answer =
            answer.map_err(|error| failed(format!("reading log group `{}`", self.group), error))?;
        let group =
            answer.log_groups().iter().find(|group| group.log_group_name() == Some(&self.group));
        Ok(group.map(|group| Current { days: group.retention_in_days().map(i32::unsigned_abs) }))
    }

    /// Makes the log group what is declared.
    ///
    /// # Errors
    /// Failed where CloudWatch Logs refuses.
    pub(crate) async fn apply(&self, aws: &Aws, current: Option<Current>) -> Result<()> {
        let Some(step) = self.steps(current) else { return Ok(()) };
        let client = Client::new(&aws.config);
        let doing = || format!("setting the retention of log group `{}`", self.group);
        progress::say(step);
        if current.is_none() {
            match client.create_log_group().log_group_name(&self.group).send().await {
                Ok(_) => {}
                // Lambda makes it by itself with the first invocation.
                Err(error)
                    if error
                        .as_service_error()
                        .is_some_and(|error| error.is_resource_already_exists_exception()) => {}
                Err(error) => {
                    return Err(failed(format!("creating log group `{}`", self.group), error));
                }
            }
        }
        match self.days {
            Some(days) => {
                let request = client.put_retention_policy().log_group_name(&self.group);
                let sent = request.retention_in_days(days.cast_signed()).send().await;
                sent.map_err(|error| failed(doing(), error))?;
            }
            None if current.is_some() => {
                let sent =
                    client.delete_retention_policy().log_group_name(&self.group).send().await;
                sent.map_err(|error| failed(doing(), error))?;
            }
            None => {}
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_is_a_step() {
        let declared = |days| Retention::declared("/aws/lambda/quakes", days).unwrap();
        let current = |days| Some(Current { days });
        assert_eq!(declared(7).steps(current(Some(7))), None);
        assert_eq!(declared(0).steps(current(None)), None);
        let told = |step: Option<String>| step.unwrap();
        assert!(told(declared(7).steps(None)).ends_with("which keeps its events 7 days"));
        assert!(
            told(declared(0).steps(current(Some(7)))).ends_with("retention: 7 days → for ever")
        );
        assert!(
            told(declared(14).steps(current(Some(7)))).ends_with("retention: 7 days → 14 days")
        );
    }

    #[test]
    fn only_the_days_that_cloudwatch_logs_allows_are_allowed() {
        let error = Retention::declared("g", 8).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.report().contains("1, 3, 5, 7, 14"), "{}", error.report());
    }
}
