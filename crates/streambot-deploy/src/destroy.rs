//! The verb `destroy`: takes away what a deploy made, in the order that leaves nothing running
//! without its reader: mappings, function, log group. It starts from whatever is left, and refuses
//! to know how any of it came about.

use std::fmt;

use aws_sdk_lambda::Client;
use clap::Args;
use serde::Serialize;

use crate::aws::{Aws, failed};
use crate::confirm::confirm;
use crate::deployed::{Deployed, StackFound};
use crate::error::{Error, Result};
use crate::function::without_qualifier;
use crate::stack::{self, Retained};
use crate::verb::{self, TargetArguments};
use crate::{event_source, progress};

/// What `destroy --help` says beyond the flags.
pub(crate) const AFTER_HELP: &str = "\
Removes the function's event source mappings, the function with all its versions and aliases, and
Lambda's default log group /aws/lambda/<function>, where the stack has no log group of its own. It
may be run again after a failure.

The stack stays, and the stream and its records with it, unless --stack is given; a stream that its template
retains stays even then. A mapping's place in the stream is lost with the mapping: the next deploy starts at
its starting-position.

Examples:
  streambot-deploy destroy staging
  streambot-deploy destroy staging --stack
  streambot-deploy destroy staging --yes --output json

Exit codes:
  0  all of it is removed
  1  failed; what was removed until then stays removed
  2  bad usage or settings
  3  there was nothing to remove
  4  not confirmed, nothing was removed";

/// What `destroy` is told.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Do not ask
    #[arg(short, long)]
    yes: bool,

    /// Delete the stack too, with all that its template does not retain
    #[arg(long)]
    stack: bool,

    #[command(flatten)]
    target: TargetArguments,
}

/// Removes what a deploy made.
///
/// # Errors
/// Missing where there is nothing to remove; unconfirmed where nobody said yes; failed where AWS
/// refuses.
pub(crate) async fn run(arguments: Arguments) -> Result<()> {
    progress::begin(arguments.target.answer.quiet);
    let (service, name) = arguments.target.service()?;
    let aws = Aws::connect(&arguments.target.aws).await;
    let removal = Removal { lambda: Client::new(&aws.config), aws, name };
    let mut found = progress::step(format!("reading `{}`", removal.name), async {
        let deployed = Deployed::find(&removal.aws, &service, &removal.name).await?;
        removal.find(&deployed, arguments.stack).await
    })
    .await?;
    let name = &removal.name;
    if found.is_empty() {
        let error =
            Error::missing(format!("nothing of function `{name}` is in {}", removal.aws.region()));
        return Err(match found.stays.as_slice() {
            [] => error.hint("name its region with --region, if it is in another"),
            stays => error.hint(format!("what stays: {}", stays.join("; "))),
        });
    }
    confirm(&format!("remove {}?", found.parts().join(", ")), arguments.yes)?;

    for mapping in &found.event_source_mappings {
        progress::step(
            format!("removing event source mapping {mapping}"),
            removal.mapping(mapping),
        )
        .await?;
    }
    if found.function.is_some() {
        progress::step(format!("removing function `{name}`"), removal.function()).await?;
    }
    if let Some(group) = &found.log_group {
        progress::step(format!("removing log group {group}"), removal.log_group(group)).await?;
    }
    if found.stack.is_some() {
        let retained = stack::delete(&removal.aws, &removal.name).await?;
        found.stays.extend(retained.iter().map(|Retained { logical_id, kind, physical_id }| {
            format!("{physical_id} ({logical_id}, {kind}), which the stack's template retains")
        }));
    }
    verb::print(&found, arguments.target.answer.output)
}

/// What is there to remove, and, once it is removed, the answer.
#[derive(Debug, Default, Serialize)]
struct Found {
    /// UUIDs.
    event_source_mappings: Vec<String>,
    /// The function's ARN.
    function: Option<String>,
    versions: Vec<String>,
    aliases: Vec<String>,
    log_group: Option<String>,
    /// The stack's name, where it goes too.
    stack: Option<String>,
    /// What is not removed, and why.
    stays: Vec<String>,
}

impl Found {
    fn is_empty(&self) -> bool {
        self.event_source_mappings.is_empty()
            && self.function.is_none()
            && self.log_group.is_none()
            && self.stack.is_none()
    }

    fn parts(&self) -> Vec<String> {
        let mut parts: Vec<String> = self
            .event_source_mappings
            .iter()
            .map(|uuid| format!("event source mapping {uuid}"))
            .collect();
        if let Some(function) = &self.function {
            let versions = self.versions.iter().map(|version| format!("version {version}"));
            let aliases = self.aliases.iter().map(|alias| format!("alias {alias}"));
            let with: Vec<String> = versions.chain(aliases).collect();
            let with =
                if with.is_empty() { String::new() } else { format!(" with {}", with.join(", ")) };
            parts.push(format!("function {function}{with}"));
        }
        parts.extend(self.log_group.iter().map(|group| format!("log group {group}")));
        parts.extend(self.stack.iter().map(|stack| format!("stack {stack}")));
        parts
    }
}

impl fmt::Display for Found {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let removed = self.parts().into_iter().map(|part| format!("removed: {part}"));
        let stays = self.stays.iter().map(|stays| format!("stays: {stays}"));
        formatter.write_str(&removed.chain(stays).collect::<Vec<_>>().join("\n"))
    }
}

/// Whether Lambda's default log group is the deploy's to remove: not where the stack has a log
/// group of its own, nor where the stack cannot tell.
fn owns_default_log_group(stack: &StackFound) -> bool {
    match stack {
        StackFound::Standing(values) => values.log_group.is_none(),
        StackFound::Unreadable => false,
        StackFound::Missing => true,
    }
}

/// What stays beside what is removed.
fn stays(stack: &StackFound, name: &str) -> Vec<String> {
    let retained = "its stream may outlive it too, where its template retains it";
    match stack {
        StackFound::Missing => Vec::new(),
        StackFound::Unreadable => vec![
            format!("stack `{name}`, which cannot be read; {retained}"),
            format!(
                "log group /aws/lambda/{name}, if there is one: it may be the stack's; destroy again once the stack is gone"
            ),
        ],
        StackFound::Standing(values) => {
            let group = values
                .log_group
                .as_ref()
                .map(|group| format!(", its log group {group}"))
                .unwrap_or_default();
            vec![format!(
                "stack `{name}`, with its stream {} and the records in it{group}; delete the stack to remove it, and {retained}",
                values.source.stream
            )]
        }
    }
}

/// The calls that find and remove what belongs to function `name`.
#[derive(Debug)]
struct Removal {
    aws: Aws,
    lambda: Client,
    name: String,
}

impl Removal {
    async fn find(&self, deployed: &Deployed, with_stack: bool) -> Result<Found> {
        let uuids =
            deployed.mappings.iter().filter_map(|mapping| mapping.uuid().map(str::to_owned));
        let (versions, aliases, log_group) =
            tokio::try_join!(self.versions(), self.aliases(), async {
                if owns_default_log_group(&deployed.stack) {
                    self.default_log_group().await
                } else {
                    Ok(None)
                }
            })?;
        let (function, versions) =
            versions.map_or((None, Vec::new()), |(arn, versions)| (Some(arn), versions));
        let is_there = !matches!(deployed.stack, StackFound::Missing);
        let stack = (with_stack && is_there).then(|| self.name.clone());
        let stays = if with_stack { Vec::new() } else { stays(&deployed.stack, &self.name) };
        Ok(Found {
            event_source_mappings: uuids.collect(),
            function,
            versions,
            aliases,
            log_group,
            stack,
            stays,
        })
    }

    /// The function's ARN and its published versions; nothing where there is no function.
    async fn versions(&self) -> Result<Option<(String, Vec<String>)>> {
        let pages = self
            .lambda
            .list_versions_by_function()
            .function_name(&self.name)
            .into_paginator()
            .items()
            .send();
        let versions = match pages.collect::<Result<Vec<_>, _>>().await {
            Ok(versions) => versions,
            Err(error)
                if error
                    .as_service_error()
                    .is_some_and(|error| error.is_resource_not_found_exception()) =>
            {
                return Ok(None);
            }
            Err(error) => {
                return Err(failed(
                    format!("listing the versions of function `{}`", self.name),
                    error,
                ));
            }
        };
        // A function has at least $LATEST.
        let Some(arn) = versions.first().and_then(|version| version.function_arn()) else {
            return Ok(None);
        };
        // A version's ARN is the function's with the version behind it.
        let arn = without_qualifier(arn);
        let published = versions
            .iter()
            .filter_map(|version| version.version())
            .filter(|version| *version != "$LATEST");
        Ok(Some((arn, published.map(str::to_owned).collect())))
    }

    async fn aliases(&self) -> Result<Vec<String>> {
        let pages =
            self.lambda.list_aliases().function_name(&self.name).into_paginator().items().send();
        match pages.collect::<Result<Vec<_>, _>>().await {
            Ok(aliases) => Ok(aliases.into_iter().filter_map(|alias| alias.name).collect()),
            Err(error)
                if error
                    .as_service_error()
                    .is_some_and(|error| error.is_resource_not_found_exception()) =>
            {
                Ok(Vec::new())
            }
            Err(error) => {
                Err(failed(format!("listing the aliases of function `{}`", self.name), error))
            }
        }
    }

    /// The log group that Lambda makes by itself, where it has made it.
    async fn default_log_group(&self) -> Result<Option<String>> {
        let group = format!("/aws/lambda/{}", self.name);
        let logs = aws_sdk_cloudwatchlogs::Client::new(&self.aws.config);
        let pages = logs
            .describe_log_groups()
            .log_group_name_prefix(&group)
            .into_paginator()
            .items()
            .send();
        let found = pages.collect::<Result<Vec<_>, _>>().await;
        let found =
            found.map_err(|error| failed(format!("looking for log group {group}"), error))?;
        Ok(found.iter().any(|found| found.log_group_name() == Some(&group)).then_some(group))
    }

    /// Removes a mapping and waits until it is gone: until then it may still invoke the function.
    async fn mapping(&self, uuid: &str) -> Result<()> {
        event_source::delete(&self.aws, &self.lambda, uuid).await?;
        event_source::wait_until_gone(&self.aws, &self.lambda, uuid).await
    }

    /// Removes the function; without a qualifier, all its versions and aliases go with it.
    async fn function(&self) -> Result<()> {
        let doing = format!("removing function `{}`", self.name);
        let request = self.lambda.delete_function().function_name(&self.name);
        match self.aws.patience.call(&doing, async || request.clone().send().await).await {
            Ok(_) => Ok(()),
            Err(error)
                if error
                    .as_service_error()
                    .is_some_and(|error| error.is_resource_not_found_exception()) =>
            {
                Ok(())
            }
            Err(error) => Err(failed(doing, error)),
        }
    }

    async fn log_group(&self, group: &str) -> Result<()> {
        let logs = aws_sdk_cloudwatchlogs::Client::new(&self.aws.config);
        match logs.delete_log_group().log_group_name(group).send().await {
            Ok(_) => Ok(()),
            Err(error)
                if error
                    .as_service_error()
                    .is_some_and(|error| error.is_resource_not_found_exception()) =>
            {
                Ok(())
            }
            Err(error) => Err(failed(format!("removing log group {group}"), error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stack::{Outputs, Source, StackValues};

    fn standing(log_group: Option<&str>) -> StackFound {
        StackFound::Standing(Box::new(StackValues {
            environment: Vec::new(),
            masked: Vec::new(),
            execution_role: "role".to_owned(),
            source: Source {
                stream: "arn:stream".to_owned(),
                consumer: None,
                failure_destination: None,
            },
            log_group: log_group.map(str::to_owned),
            prefix: String::new(),
            outputs: Outputs::default(),
        }))
    }

    #[test]
    fn the_default_log_group_goes_only_where_it_cannot_be_the_stacks() {
        assert!(owns_default_log_group(&standing(None)));
        assert!(owns_default_log_group(&StackFound::Missing));
        assert!(!owns_default_log_group(&standing(Some("quakes"))));
        assert!(!owns_default_log_group(&StackFound::Unreadable));
    }

    #[test]
    fn what_stays_is_named() {
        assert_eq!(stays(&StackFound::Missing, "quakes"), Vec::<String>::new());
        let told = stays(&standing(Some("group")), "quakes").join("\n");
        assert!(
            told.contains("stack `quakes`, with its stream arn:stream")
                && told.contains("log group group"),
            "{told}"
        );
        assert!(stays(&StackFound::Unreadable, "quakes").join("\n").contains("destroy again"));
    }

    #[test]
    fn the_question_names_every_part() {
        let found = Found {
            event_source_mappings: vec!["1-2".to_owned()],
            function: Some("arn:function".to_owned()),
            versions: vec!["1".to_owned(), "2".to_owned()],
            aliases: vec!["current".to_owned()],
            log_group: Some("/aws/lambda/quakes".to_owned()),
            stack: Some("quakes".to_owned()),
            stays: Vec::new(),
        };
        assert_eq!(
            found.parts().join(", "),
            "event source mapping 1-2, function arn:function with version 1, version 2, alias current, \
             log group /aws/lambda/quakes, stack quakes"
        );
        assert!(!found.is_empty());
        assert!(Found::default().is_empty());
    }
}
