//! The verb `rollback`: the alias moved to an older version, in seconds. It refuses to touch
//! mappings and code.

use std::fmt;

use aws_sdk_lambda::Client;
use clap::Args;
use serde::Serialize;

use crate::aws::Aws;
use crate::error::{Error, Result};
use crate::function::alias::{self, Alias};
use crate::function::{ALIAS, versions};
use crate::progress;
use crate::verb::{self, TargetArguments};

/// What stands below the flags in the help.
pub(crate) const AFTER_HELP: &str = "\
A version holds code and settings of the function, and those go back. Settings of the event source mapping
and the state of tumbling windows do not: they belong to no version. The next deploy brings the newest
version back, unless the service itself is changed.

Examples:
  streambot-deploy rollback production          The version before the one that is live, or the end of a canary
  streambot-deploy rollback production --to 12  That version

Exit codes:
  0  done, or that version was live already
  1  failed
  2  bad usage, or no such version
  3  the function is not there";

/// What a rollback is told.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    target: TargetArguments,

    /// Version to go to [default: the one before the version that is live]
    #[arg(long, value_name = "VERSION")]
    to: Option<u64>,
}

/// Moves the alias.
///
/// # Errors
/// Missing where there is no function with the alias; bad usage where there is no version to go to;
/// failed where Lambda refuses, or someone else moved the alias meanwhile.
pub(crate) async fn run(arguments: Arguments) -> Result<()> {
    progress::begin(arguments.target.answer.quiet);
    let (_, name) = arguments.target.service()?;
    let aws = Aws::connect(&arguments.target.aws).await;
    let client = Client::new(&aws.config);
    let reading = async {
        tokio::try_join!(alias::find(&client, &name, ALIAS), versions::list(&client, &name))
    };
    let (current, versions) =
        progress::step(format!("reading the versions of `{name}`"), reading).await?;
    let current = current.ok_or_else(|| {
        Error::missing(format!(
            "function `{name}` with an alias `{ALIAS}` is not there in {}",
            aws.region()
        ))
        .hint("deploy it first, or name its region with --region")
    })?;
    let to = choose(&current, &versions, arguments.to)?;
    let answer = RolledBack {
        function: &name,
        alias: ALIAS,
        from: &current.version,
        canary: current.canary.as_ref().map(|canary| canary.version.as_str()),
        to: &to,
        moved: to != current.version || current.canary.is_some(),
    };
    if answer.moved {
        progress::step(
            format!("moving alias `{ALIAS}` to version {to}"),
            alias::move_to(&aws, &name, &current, &to),
        )
        .await?;
        progress::say(
            "settings of the event source mapping and the state of windows are as they were",
        );
    }
    verb::print(&answer, arguments.target.answer.output)
}

/// The version to go to.
fn choose(current: &Alias, versions: &[u64], to: Option<u64>) -> Result<String> {
    let listed = || versions.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
    if let Some(version) = to {
        return match versions.contains(&version) {
            true => Ok(version.to_string()),
            false => Err(Error::usage(format!("there is no version {version}")).hint(format!(
                "the versions are {}; older ones were removed (keep-versions)",
                listed()
            ))),
        };
    }
    if current.canary.is_some() {
        return Ok(current.version.clone());
    }
    let live = current.version.parse().unwrap_or(u64::MAX);
    versions.iter().rev().find(|version| **version < live).map(u64::to_string).ok_or_else(|| {
        Error::usage(format!("there is no version before {}, which is live", current.version))
            .hint(format!("the versions are {}", listed()))
    })
}

/// What a rollback answers.
#[derive(Debug, Serialize)]
struct RolledBack<'a> {
    function: &'a str,
    alias: &'a str,
    from: &'a str,
    /// The version whose canary it ended.
    canary: Option<&'a str>,
    to: &'a str,
    moved: bool,
}

impl fmt::Display for RolledBack<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { function, alias, from, canary, to, moved } = self;
        writeln!(formatter, "function: {function}")?;
        match (moved, canary) {
            (false, _) => write!(formatter, "alias {alias}: version {to}, as it was"),
            (true, Some(canary)) => {
                write!(
                    formatter,
                    "alias {alias}: version {to}; the canary of version {canary} is over"
                )
            }
            (true, None) => write!(formatter, "alias {alias}: version {from} → {to}"),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::function::alias::Weighted;

    fn alias(version: &str, canary: Option<&str>) -> Alias {
        Alias {
            version: version.to_owned(),
            canary: canary.map(|version| Weighted { version: version.to_owned(), weight: 0.1 }),
            description: String::new(),
            revision_id: None,
        }
    }

    #[test]
    fn the_version_before_the_live_one_is_the_default_and_any_that_is_there_can_be_named() {
        let versions = [1, 3, 7, 9];
        assert_eq!(choose(&alias("7", None), &versions, None).unwrap(), "3");
        assert_eq!(choose(&alias("7", None), &versions, Some(9)).unwrap(), "9");
        assert_eq!(choose(&alias("7", None), &versions, Some(7)).unwrap(), "7");
        let error = choose(&alias("7", None), &versions, Some(2)).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.report().contains("the versions are 1, 3, 7, 9"), "{}", error.report());
        assert_eq!(choose(&alias("1", None), &versions, None).unwrap_err().exit_code(), 2);
    }

    #[test]
    fn a_canary_is_ended_before_anything_older_is_taken() {
        assert_eq!(choose(&alias("3", Some("7")), &[1, 3, 7], None).unwrap(), "3");
    }
}
