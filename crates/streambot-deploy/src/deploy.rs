//! The verb `deploy`, told in its order: the stack's values, the bundle, the function, the event
//! source mappings. It refuses to know how any of them is done.

use std::fmt;
use std::path::PathBuf;

use aws_sdk_lambda::Client;
use clap::Args;
use serde::Serialize;

use crate::aws::{Aws, AwsArguments};
use crate::bundle::{Bundle, Keep};
use crate::canary::Canary;
use crate::error::{Error, Result};
use crate::event_source::{Connected, Described, Wanted};
use crate::function::{Configuration, Current, Desired};
use crate::log_group::Retention;
use crate::service::{Origin, Service, ServiceArguments, SettingsFlags};
use crate::stack::{ChangeArguments, StackArguments, StackValues};
use crate::verb::{self, AnswerArguments};
use crate::{bundle, canary, event_source, function, log_group, preflight, progress, stack};

/// What stands below the flags in the help.
pub(crate) const AFTER_HELP: &str = "\
Reads stack, function and mappings, builds the bundle, and brings AWS to what Cargo.toml and the flags declare,
from whatever state it is in. What is right already is left alone, and a mapping keeps its place in the stream.

Examples:
  streambot-deploy staging                                 The same as `deploy staging`
  streambot-deploy deploy staging --dry-run                What would change, old → new
  streambot-deploy deploy staging --stack quakes.template  The stack first, then the function
  streambot-deploy deploy production --canary 10%/5m       A tenth of the batches first
  streambot-deploy deploy production --bundle build/bundle.zip
                                                           What was built for staging

Exit codes:
  0  all is as declared, or --dry-run said what is not
  1  failed, someone else changed the function meanwhile, or a canary did badly: deploy again goes on from there
  2  bad usage or settings
  3  the stack is not there
  4  a mapping would be deleted (--replace-mapping), or a change of the stack was not confirmed";

/// What a deploy is told.
#[derive(Debug, Args)]
pub(crate) struct DeployArguments {
    /// Environment to deploy to; the stack and the function are named after the package and it
    #[arg(required = true)]
    environment: Option<String>,

    /// Say what would be done, and change nothing on AWS
    #[arg(long)]
    pub(crate) dry_run: bool,

    /// Give a new version a share of the batches first, and all of them once it has done well for a
    /// time, such as 10%/5m
    #[arg(long, value_name = "SHARE/TIME")]
    pub(crate) canary: Option<Canary>,

    /// Delete a mapping that reads another stream, or began elsewhere, than is declared, with its
    /// place in the stream, and make a new one
    #[arg(long)]
    pub(crate) replace_mapping: bool,

    /// Zip to deploy instead of building the service, such as another deploy's build/bundle.zip
    ///
    /// The stack's values are put into it: its .env is replaced by the environment's, so that one
    /// zip is built once and deployed to one environment after another. All else in it stays as it
    /// is; the file itself and the package are not changed.
    #[arg(long, value_name = "FILE")]
    pub(crate) bundle: Option<PathBuf>,

    /// Template of the stack, which is created or updated first, as `stack` does
    #[arg(long, value_name = "FILE")]
    pub(crate) stack: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) change: ChangeArguments,

    #[command(flatten)]
    pub(crate) answer: AnswerArguments,

    #[command(flatten)]
    pub(crate) service: ServiceArguments,

    #[command(flatten)]
    pub(crate) aws: AwsArguments,

    #[command(flatten)]
    pub(crate) settings: SettingsFlags,
}

impl DeployArguments {
    /// The environment, which the parser requires. It is optional in the type because the short
    /// form stands beside the verbs, whose calls have none.
    pub(crate) fn environment(&self) -> &str {
        self.environment.as_deref().unwrap_or_default()
    }
}

/// Deploys the service to one environment, or says what that would do.
///
/// # Errors
/// Those of the service, its stack, its bundle, its function and its mappings; the first one ends
/// the deploy.
pub(crate) async fn run(arguments: DeployArguments) -> Result<()> {
    let environment = arguments.environment();
    let service = Service::load(&arguments.service, Some(environment), &arguments.settings)?;
    let name = service.stack_name(environment)?;
    let aws = Aws::connect(&arguments.aws).await;

    update_stack(&aws, &name, &arguments).await?;
    let retention = retention(&service, &name)?;
    let reading = format!("reading stack, function and mappings of `{name}`");
    let Found { values, current, mut mappings, log_group } =
        progress::step(reading, find(&aws, &name, &service, retention.as_ref())).await?;
    refuse_the_stacks_group(&service, &values, retention.as_ref())?;
    let wanted = wanted(&service, &values)?;
    let sources: Vec<_> = wanted.iter().map(|wanted| wanted.arn.as_str()).collect();
    for warning in wanted.iter().flat_map(|wanted| wanted.settings.warnings()) {
        progress::warn(warning);
    }
    let mut mapping_plan =
        event_source::plan(&mappings, &wanted, &name, arguments.replace_mapping)?;

    let keep = if arguments.dry_run { Keep::Temporary } else { Keep::Files };
    let bundle = match &arguments.bundle {
        Some(ready) => bundle::read(ready, &service.function, &values, keep)?,
        None => bundle::make(&service, arguments.service.profile.as_deref(), Some(&values), keep)?,
    };
    let desired = Desired {
        bucket: arguments.change.bucket.as_deref(),
        ..desired(&service, &name, &values, &bundle)
    };
    let function_plan = function::plan(current.as_ref(), &desired);
    if !(function_plan.is_empty() && mapping_plan.is_empty()) {
        // By its names alone a mapping of another version is not found, and there must never be
        // two.
        mappings = event_source::list(&Client::new(&aws.config), &name, &sources).await?;
        mapping_plan = event_source::plan(&mappings, &wanted, &name, arguments.replace_mapping)?;
    }
    if function_plan.uploads() {
        bundle.way(desired.bucket)?;
        tell_size(&bundle, current.as_ref());
    }
    if arguments.dry_run {
        let mut steps = function_plan.steps(current.as_ref(), &desired);
        steps.extend(
            arguments
                .canary
                .map(|canary| format!("watch the new version get its share first: {canary}")),
        );
        steps.extend(retention.and_then(|retention| retention.steps(log_group)));
        steps.extend(mapping_plan.steps(&wanted));
        return verb::print(&Planned { stack: &name, steps }, arguments.answer.output);
    }
    check_role(&aws, current.as_ref(), &desired, &sources, arguments.canary.as_ref()).await?;
    warn_of_queues(&aws, &wanted, &mappings).await;

    let group_is_right =
        retention.as_ref().and_then(|retention| retention.steps(log_group)).is_none();
    // Known before it is done: a canary that goes on is not a change of what is declared.
    let unchanged = function_plan.is_empty() && mapping_plan.is_empty() && group_is_right;
    event_source::honour_partial_answers(&aws, &mapping_plan).await?;
    let current = keep_running(&aws, current, &mappings, &desired).await?;
    let deployed = function::converge(&aws, current, &desired, arguments.canary.as_ref()).await?;
    if let Some(retention) = &retention {
        retention.apply(&aws, log_group).await?;
    }
    let mappings = event_source::apply(&aws, &mapping_plan, &wanted, &name).await?;
    if deployed.under_canary {
        canary::see_through(&aws, &name, &deployed.version, &values).await?;
    }
    if deployed.published {
        function::versions::prune(&aws, &name, desired.keep_versions).await;
    }

    let answer = Answer {
        stack: &name,
        function: &deployed.arn,
        version: &deployed.version,
        alias: &deployed.alias_arn,
        event_source_mappings: &mappings,
        code_sha256: &bundle.code_sha256,
        role: desired.configuration.role(),
        unchanged,
    };
    verb::print(&answer, arguments.answer.output)
}

/// Creates or updates the stack first, where a template is given for it.
async fn update_stack(aws: &Aws, name: &str, arguments: &DeployArguments) -> Result<()> {
    match &arguments.stack {
        Some(_) if arguments.dry_run => Err(Error::usage(
            "--dry-run and --stack exclude each other: what a deploy does depends on its stack",
        )
        .hint("see what would change in the stack with `streambot-deploy stack`, and say no")),
        Some(template) => {
            let change = arguments.change.clone();
            stack::update(aws, name, &StackArguments { template: template.clone(), change })
                .await?;
            Ok(())
        }
        None if !arguments.change.parameters.is_empty() => {
            Err(Error::usage("--parameter is given without --stack")
                .hint("parameters belong to a template: give --stack FILE"))
        }
        None => Ok(()),
    }
}

/// Everything that is read before anything is done.
struct Found {
    values: StackValues,
    current: Option<Current>,
    mappings: Vec<Described>,
    log_group: Option<log_group::Current>,
}

/// Function, alias and mappings are known by the stack's name, so they are read while the stack is.
async fn find(
    aws: &Aws,
    name: &str,
    service: &Service,
    retention: Option<&Retention>,
) -> Result<Found> {
    let cloudformation = aws_sdk_cloudformation::Client::new(&aws.config);
    let lambda = Client::new(&aws.config);
    let log_group = async {
        match retention {
            Some(retention) => retention.find(aws).await,
            None => Ok(None),
        }
    };
    let (values, current, mappings, log_group) = tokio::try_join!(
        stack::look_up(&cloudformation, name, &service.prefix),
        function::find(aws, name),
        event_source::list(&lambda, name, &[]),
        log_group,
    )?;
    Ok(Found { values, current, mappings, log_group })
}

/// A log group of the stack's is the stack's to change.
fn refuse_the_stacks_group(
    service: &Service,
    values: &StackValues,
    retention: Option<&Retention>,
) -> Result<()> {
    match (&values.log_group, retention) {
        (Some(group), Some(_)) if service.function.log_group.is_none() => Err(Error::usage(
            format!("log-retention-days is set, and log group `{group}` is the stack's"),
        )
        .hint("set the stack's parameter LogRetentionDays instead")),
        _ => Ok(()),
    }
}

/// How long the log group that is not the stack's is to keep its events, where the settings say so.
fn retention(service: &Service, name: &str) -> Result<Option<Retention>> {
    let group = service.function.log_group.clone().unwrap_or_else(|| format!("/aws/lambda/{name}"));
    service.function.log_retention_days().map(|days| Retention::declared(&group, days)).transpose()
}

/// Checks the role, where it is not the one the function has, or the function is to write another
/// log.
async fn check_role(
    aws: &Aws,
    current: Option<&Current>,
    desired: &Desired<'_>,
    sources: &[&str],
    canary: Option<&Canary>,
) -> Result<()> {
    let configuration = &desired.configuration;
    let before = current.map(|current| Configuration::told(&current.latest));
    let changes = before.as_ref().map(|before| before.changes(configuration)).unwrap_or_default();
    let is_changed =
        |setting: &str| before.is_none() || changes.iter().any(|change| change.setting == setting);
    if let (Some(canary), Some(before), true) = (canary, &before, is_changed("role")) {
        return Err(Error::usage(format!(
            "no canary {canary}: the role changes from {} to {}",
            before.role(),
            configuration.role()
        ))
        .hint("both versions of an alias must have one role: deploy without --canary"));
    }
    if !is_changed("role") && !is_changed("log-group") {
        return Ok(());
    }
    let check = preflight::check(aws, configuration.role(), sources, configuration.log_group());
    progress::step("checking the rights of the function's role", check).await
}

/// Where a mapping invokes `$LATEST`, as 1.0's do, what runs now is named by the alias and the
/// mapping moved there first: settings and code are changed one after the other, and no batch may
/// meet one without the other.
async fn keep_running(
    aws: &Aws,
    current: Option<Current>,
    mappings: &[Described],
    desired: &Desired<'_>,
) -> Result<Option<Current>> {
    match current {
        Some(current) if mappings.iter().any(event_source::invokes_latest) => {
            if current.alias.is_none() {
                function::name_what_runs(aws, &current, desired).await?;
            }
            event_source::move_to_alias(aws, mappings, desired.name).await?;
            function::find(aws, desired.name).await
        }
        current => Ok(current),
    }
}

/// What the service's event sources are in this stack.
fn wanted(service: &Service, values: &StackValues) -> Result<Vec<Wanted>> {
    let mut wanted: Vec<Wanted> = Vec::new();
    for event_source in &service.event_sources {
        let source = match &event_source.origin {
            Origin::Stack => Some(values.source.clone()),
            Origin::Prefix(prefix) => Some(values.outputs.source(prefix)?),
            Origin::Arn(_) => None,
        };
        let arn = match (&event_source.origin, &source) {
            (Origin::Arn(arn), _) => arn.clone(),
            (_, Some(source)) => source.arn().to_owned(),
            (_, None) => continue,
        };
        if wanted.iter().any(|known| known.arn == arn) {
            return Err(Error::usage(format!("two event sources of the service are {arn}"))
                .hint("leave one out: each would hand every record to the function"));
        }
        let destination = source.and_then(|source| source.failure_destination);
        let settings =
            event_source.settings.clone().with_failure_destination(destination.as_deref());
        wanted.push(Wanted { arn, settings });
    }
    Ok(wanted)
}

fn desired<'a>(
    service: &Service,
    name: &'a str,
    values: &StackValues,
    bundle: &'a Bundle,
) -> Desired<'a> {
    Desired {
        name,
        configuration: Configuration::declared(
            &service.function,
            &values.execution_role,
            &service.description,
            values.log_group.as_deref(),
        ),
        architecture: service.function.architecture(),
        tags: service.function.tags(),
        keep_versions: service.function.keep_versions(),
        bundle,
        bucket: None,
    }
}

/// Tells how much larger or smaller the code is than what is live.
fn tell_size(bundle: &Bundle, current: Option<&Current>) {
    let now = bundle.zip.len() as u64;
    if let Some(live) = current.and_then(|current| current.published.as_ref()) {
        let before = live.code_size().unsigned_abs();
        progress::say(format!("code: {}", bundle::size_change(before, now, "the last deploy")));
    }
}

/// Looks at the queues that mappings are newly given.
async fn warn_of_queues(aws: &Aws, wanted: &[Wanted], mappings: &[Described]) {
    for Wanted { arn, settings } in wanted {
        let current = mappings.iter().find(|mapping| mapping.event_source_arn() == Some(arn));
        let destination =
            current.and_then(|mapping| mapping.destination_config()?.on_failure()?.destination());
        if destination != settings.on_failure() {
            let stream = arn.split("/consumer/").next().unwrap_or(arn);
            event_source::warn_of_queue(&aws.config, settings.on_failure(), stream).await;
        }
    }
}

/// What a deploy answers.
#[derive(Debug, Serialize)]
struct Answer<'a> {
    stack: &'a str,
    function: &'a str,
    version: &'a str,
    alias: &'a str,
    event_source_mappings: &'a [Connected],
    code_sha256: &'a str,
    role: &'a str,
    /// Whether everything was as it should be already.
    unchanged: bool,
}

impl fmt::Display for Answer<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "stack: {}", self.stack)?;
        writeln!(formatter, "function: {}", self.function)?;
        writeln!(formatter, "version: {}", self.version)?;
        writeln!(formatter, "alias: {}", self.alias)?;
        for Connected { uuid, event_source_arn, state } in self.event_source_mappings {
            writeln!(formatter, "event source mapping: {uuid} of {event_source_arn} ({state})")?;
        }
        writeln!(formatter, "code sha-256: {}", self.code_sha256)?;
        write!(formatter, "unchanged: {}", self.unchanged)
    }
}

/// What a deploy would do.
#[derive(Debug, Serialize)]
struct Planned<'a> {
    stack: &'a str,
    steps: Vec<String>,
}

impl fmt::Display for Planned<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.steps.is_empty() {
            return write!(formatter, "nothing to do: `{}` is deployed as it is", self.stack);
        }
        formatter.write_str(&self.steps.join("\n"))
    }
}
