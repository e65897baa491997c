//! The function's log group in CloudWatch Logs: which one it is, and its events, page by page. It
//! refuses to know how they are shown.

use std::ops::ControlFlow;

use aws_sdk_cloudwatchlogs::Client;
use aws_sdk_cloudwatchlogs::types::FilteredLogEvent;
use serde::Serialize;

use super::seen::Logged;
use crate::aws::{Aws, failed};
use crate::error::{Error, Result};
use crate::progress;
use crate::time::Time;

/// A line that was logged, with what CloudWatch Logs knows of it.
#[derive(Debug, Serialize)]
pub(super) struct Event {
    pub(super) time: Time,
    /// When CloudWatch Logs got it.
    pub(super) ingestion_time: Option<Time>,
    pub(super) log_stream: String,
    pub(super) event_id: String,
    /// The line as it was logged.
    pub(super) message: String,
}

impl Event {
    /// Nothing where CloudWatch Logs does not say when it was logged, which it always does.
    fn of(event: FilteredLogEvent) -> Option<Self> {
        Some(Self {
            time: Time::from_milliseconds(event.timestamp?)?,
            ingestion_time: event.ingestion_time.and_then(Time::from_milliseconds),
            log_stream: event.log_stream_name.unwrap_or_default(),
            event_id: event.event_id.unwrap_or_default(),
            message: event.message.unwrap_or_default(),
        })
    }
}

impl Logged for Event {
    fn id(&self) -> &str {
        &self.event_id
    }

    fn time(&self) -> Time {
        self.time
    }
}

/// The log group of `function`: what its configuration names, and where it has none, or is gone or
/// may not be read, Lambda's own.
pub(super) async fn group(aws: &Aws, function: &str) -> String {
    let client = aws_sdk_lambda::Client::new(&aws.config);
    let own = || format!("/aws/lambda/{function}");
    match client.get_function_configuration().function_name(function).send().await {
        Ok(answer) => {
            answer.logging_config.and_then(|logging| logging.log_group).unwrap_or_else(own)
        }
        Err(error)
            if error
                .as_service_error()
                .is_some_and(|error| error.is_resource_not_found_exception()) =>
        {
            own()
        }
        Err(error) => {
            let error = failed(format!("reading the log group of function `{function}`"), error);
            progress::warn(format!("{}; taken to be `{}`", error.in_one_line(), own()));
            own()
        }
    }
}

/// Gives the events of a group from a moment on to `each`, page by page, until there are no more or
/// it breaks.
///
/// # Errors
/// Missing where the group is not there; failed where CloudWatch Logs refuses; those of `each`.
pub(super) async fn read(
    aws: &Aws,
    group: &str,
    from: Time,
    filter: Option<&str>,
    mut each: impl FnMut(Vec<Event>) -> Result<ControlFlow<()>>,
) -> Result<ControlFlow<()>> {
    let request = Client::new(&aws.config).filter_log_events().log_group_name(group);
    let request =
        request.start_time(from.0.as_millisecond()).set_filter_pattern(filter.map(str::to_owned));
    let mut pages = request.into_paginator().send();
    while let Some(page) = pages.next().await {
        let page = page.map_err(|error| {
            let missing = error
                .as_service_error()
                .is_some_and(|error| error.is_resource_not_found_exception());
            if missing {
                not_there(aws, group)
            } else {
                failed(format!("reading log group `{group}`"), error)
            }
        })?;
        let events = page.events.unwrap_or_default().into_iter().filter_map(Event::of).collect();
        if each(events)?.is_break() {
            return Ok(ControlFlow::Break(()));
        }
    }
    Ok(ControlFlow::Continue(()))
}

fn not_there(aws: &Aws, group: &str) -> Error {
    Error::missing(format!("log group `{group}` is not there in {}", aws.region())).hint(
        "Lambda makes it with the first invocation: see with `streambot-deploy status` whether there was one, deploy \
         the function, or name its region with --region",
    )
}
