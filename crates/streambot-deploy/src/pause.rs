//! The verbs `pause` and `resume`: the function's event source mappings, disabled and enabled. A
//! mapping keeps its place in the stream meanwhile. They refuse to know any other setting of a
//! mapping.

use std::fmt;

use aws_sdk_lambda::Client;
use aws_sdk_lambda::types::EventSourceMappingConfiguration;
use clap::Args;
use serde::Serialize;

use crate::aws::{Aws, failed};
use crate::deployed::{Deployed, described};
use crate::error::{Error, Result};
use crate::progress;
use crate::verb::{self, TargetArguments};

/// What `pause --help` says beyond the flags.
pub(crate) const AFTER_PAUSE: &str = "\
Records wait in the stream, and are lost once they are older than its retention. The mapping keeps
its place: `resume` goes on with the first record that was not handled. A batch that is being
handled is finished.

A deploy sets `enabled` from the settings, so it resumes a paused mapping, unless they say
`enabled = false`.

Example:
  streambot-deploy pause production

Exit codes:
  0  every mapping is disabled, whether by this call or before
  1  failed
  2  bad usage or settings
  3  the function has no event source mapping";

/// What `resume --help` says beyond the flags.
pub(crate) const AFTER_RESUME: &str = "\
The mapping goes on with the first record that was not handled, or with the oldest the stream
still holds.

Example:
  streambot-deploy resume production

Exit codes:
  0  every mapping is enabled, whether by this call or before
  1  failed
  2  bad usage or settings
  3  the function has no event source mapping";

/// What `pause` and `resume` are told.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    target: TargetArguments,
}

/// The state a mapping is to be in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// It reads the stream.
    Enabled,
    /// It does not.
    Disabled,
}

impl Wanted {
    /// The state's name in the Lambda API.
    fn state(self) -> &'static str {
        match self {
            Self::Enabled => "Enabled",
            Self::Disabled => "Disabled",
        }
    }
}

/// What is to be done about one mapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// It is as wanted.
    Nothing,
    /// It is on its way there.
    Wait,
    /// It has to be changed.
    Change,
}

impl Step {
    /// The step from `state`, a state of
    /// <https://docs.aws.amazon.com/lambda/latest/api/API_EventSourceMappingConfiguration.html>.
    fn from(state: &str, wanted: Wanted) -> Self {
        match (state, wanted) {
            ("Enabled", Wanted::Enabled) | ("Disabled", Wanted::Disabled) => Self::Nothing,
            ("Enabling", Wanted::Enabled) | ("Disabling", Wanted::Disabled) => Self::Wait,
            _ => Self::Change,
        }
    }
}

/// Enables or disables every mapping of the function, and waits until each is.
///
/// # Errors
/// Missing where the function has no mapping; failed where Lambda refuses, or a mapping does not
/// settle.
pub(crate) async fn run(arguments: Arguments, wanted: Wanted) -> Result<()> {
    progress::begin(arguments.target.answer.quiet);
    let (service, name) = arguments.target.service()?;
    let aws = Aws::connect(&arguments.target.aws).await;
    let found =
        progress::step(format!("reading `{name}`"), Deployed::find(&aws, &service, &name)).await?;
    if found.mappings.is_empty() {
        return Err(Error::missing(format!(
            "function `{name}` has no event source mapping in {}",
            aws.region()
        ))
        .hint("deploy it first, or name its region with --region"));
    }

    let lambda = Client::new(&aws.config);
    let mut mappings = Vec::new();
    for mapping in &found.mappings {
        mappings.push(bring(&aws, &lambda, mapping, wanted).await?);
    }
    if wanted == Wanted::Disabled {
        progress::say(
            "records wait in the stream until `resume`; they are lost once they are older than its retention",
        );
    }
    verb::print(
        &Answer { function: name, event_source_mappings: mappings },
        arguments.target.answer.output,
    )
}

/// Brings one mapping into the state that is wanted.
async fn bring(
    aws: &Aws,
    lambda: &Client,
    mapping: &EventSourceMappingConfiguration,
    wanted: Wanted,
) -> Result<MappingAnswer> {
    let uuid = mapping.uuid().unwrap_or_default();
    let step = Step::from(mapping.state().unwrap_or_default(), wanted);
    let (doing, already) = match wanted {
        Wanted::Enabled => ("enabling", "is enabled already"),
        Wanted::Disabled => ("disabling", "is paused already"),
    };
    let doing = format!("{doing} {}", described(mapping));
    if step == Step::Nothing {
        progress::say(format!("{} {already}", described(mapping)));
    } else {
        let work = async {
            if step == Step::Change {
                let request = lambda
                    .update_event_source_mapping()
                    .uuid(uuid)
                    .enabled(wanted == Wanted::Enabled);
                let sent = aws.patience.call(&doing, async || request.clone().send().await).await;
                sent.map_err(|error| failed(&doing, error))?;
            }
            settle(aws, lambda, uuid, wanted).await
        };
        progress::step(&doing, work).await?;
    }
    Ok(MappingAnswer {
        uuid: uuid.to_owned(),
        event_source_arn: mapping.event_source_arn().unwrap_or_default().to_owned(),
        state: wanted.state(),
        changed: step == Step::Change,
    })
}

/// Waits until the mapping is in the state that is wanted.
async fn settle(aws: &Aws, lambda: &Client, uuid: &str, wanted: Wanted) -> Result<()> {
    let mut waits = aws.patience.waits();
    loop {
        let read = lambda.get_event_source_mapping().uuid(uuid).send().await;
        let mapping =
            read.map_err(|error| failed(format!("reading event source mapping {uuid}"), error))?;
        let state = mapping.state().unwrap_or_default();
        if state == wanted.state() {
            return Ok(());
        }
        if !waits.wait().await {
            let reason =
                mapping.state_transition_reason().unwrap_or("Lambda gives no reason").to_owned();
            return Err(Error::failed(format!(
                "event source mapping {uuid} stays {state}, not {}",
                wanted.state()
            ))
            .because(reason)
            .hint("run the same command again; --wait-timeout waits longer"));
        }
    }
}

/// What `pause` and `resume` answer.
#[derive(Debug, Serialize)]
struct Answer {
    function: String,
    event_source_mappings: Vec<MappingAnswer>,
}

#[derive(Debug, Serialize)]
struct MappingAnswer {
    uuid: String,
    event_source_arn: String,
    state: &'static str,
    /// Whether this call changed it.
    changed: bool,
}

impl fmt::Display for Answer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "function: {}", self.function)?;
        for MappingAnswer { uuid, event_source_arn, state, changed } in &self.event_source_mappings
        {
            let already = if *changed { "" } else { ", as it was" };
            write!(
                formatter,
                "\nevent source mapping: {uuid} of {event_source_arn} ({state}{already})"
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapping_is_changed_only_where_it_is_not_as_wanted_nor_on_its_way() {
        for (state, to_disabled, to_enabled) in [
            ("Enabled", Step::Change, Step::Nothing),
            ("Disabled", Step::Nothing, Step::Change),
            ("Enabling", Step::Change, Step::Wait),
            ("Disabling", Step::Wait, Step::Change),
            ("Creating", Step::Change, Step::Change),
            ("Updating", Step::Change, Step::Change),
        ] {
            assert_eq!(Step::from(state, Wanted::Disabled), to_disabled, "{state}");
            assert_eq!(Step::from(state, Wanted::Enabled), to_enabled, "{state}");
        }
    }
}
