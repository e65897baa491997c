//! The verb `deploy`, told in its order: the stack's values, the bundle, the function, the event source mapping. It refuses to know how
//! any of them is done.

use std::fmt;

use serde::Serialize;

use crate::aws::Aws;
use crate::bundle::{Code, Keep};
use crate::cli::DeployArguments;
use crate::error::Result;
use crate::service::Service;
use crate::{bundle, cli, event_source, function, stack};

/// Deploys the service to one environment, or says what that would do.
///
/// # Errors
/// Those of the service, its stack, its bundle, its function and its mapping; the first one ends the deploy.
pub(crate) async fn run(arguments: DeployArguments) -> Result<()> {
    let environment = arguments.environment();
    let mut service = Service::load(&arguments.service, Some(environment), &arguments.settings)?;
    let name = service.stack_name(environment)?;
    let aws = Aws::connect(&arguments.aws).await;
    let config = &aws.config;
    let cloudformation = aws_sdk_cloudformation::Client::new(config);
    let lambda = aws_sdk_lambda::Client::new(config);

    eprintln!("reading stack `{name}`");
    let values = stack::look_up(&cloudformation, &name, &service.prefix).await?;
    service.event_source = service.event_source.with_failure_destination(values.failure_destination.as_deref());
    for warning in service.event_source.warnings() {
        crate::progress::warn(warning);
    }
    event_source::warn_of_queue(config, service.event_source.on_failure(), &values.stream).await;

    let keep = if arguments.dry_run { Keep::Temporary } else { Keep::Files };
    let bundle = match &arguments.bundle {
        Some(ready) => bundle::read(ready, service.function.architecture(), &values, keep)?,
        None => bundle::make(&service, arguments.service.profile.as_deref(), Some(&values), keep)?,
    };
    let desired = function::Desired {
        name: &name,
        role: &values.execution_role,
        description: &service.description,
        memory: service.function.memory(),
        timeout: service.function.timeout(),
        architecture: service.function.architecture(),
        log_group: values.log_group.as_deref(),
        bundle: &bundle,
    };

    let (current, mapping) =
        tokio::try_join!(function::find(&lambda, &name), event_source::find(&lambda, &values, &name),)?;
    let function_plan = function::plan(current.as_ref(), &desired);
    let mapping_plan = event_source::plan(mapping.as_ref(), &service.event_source);
    let bucket = arguments.bucket.as_deref();
    if function_plan.uploads() {
        bundle.way(bucket)?;
    }
    if arguments.dry_run {
        let mut steps = function_plan.steps(&desired);
        steps.extend(mapping_plan.steps(values.event_source()));
        return cli::print(&Planned { stack: &name, steps }, arguments.answer.output);
    }

    event_source::honour_partial_answers(&lambda, &mapping_plan).await?;
    let code =
        if function_plan.uploads() { bundle::place(&aws, &bundle, bucket).await? } else { Code::Inline(&bundle.zip) };
    let deployed = function::apply(&aws, current.as_ref(), &function_plan, &desired, &code).await?;
    let mapping =
        event_source::apply(&lambda, &mapping_plan, &service.event_source, values.event_source(), &deployed.alias_arn)
            .await?;

    let answer = Answer {
        stack: &name,
        function: &deployed.arn,
        version: &deployed.version,
        alias: &deployed.alias_arn,
        event_source_mapping: &mapping,
        code_sha256: &bundle.code_sha256,
    };
    cli::print(&answer, arguments.answer.output)
}

/// What a deploy answers.
#[derive(Debug, Serialize)]
struct Answer<'a> {
    stack: &'a str,
    function: &'a str,
    version: &'a str,
    alias: &'a str,
    event_source_mapping: &'a str,
    code_sha256: &'a str,
}

impl fmt::Display for Answer<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "stack: {}", self.stack)?;
        writeln!(formatter, "function: {}", self.function)?;
        writeln!(formatter, "version: {}", self.version)?;
        writeln!(formatter, "alias: {}", self.alias)?;
        writeln!(formatter, "event source mapping: {}", self.event_source_mapping)?;
        write!(formatter, "code sha-256: {}", self.code_sha256)
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
