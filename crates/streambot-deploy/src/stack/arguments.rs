//! The verb `stack`: what it is told, and how it answers. It refuses to know how a stack is
//! changed.

use std::path::PathBuf;

use clap::Args;

use super::parameters::Given;
use super::update;
use crate::aws::Aws;
use crate::error::Result;
use crate::progress;
use crate::verb::{self, TargetArguments};

pub(crate) const AFTER_HELP: &str = "\
Example:
  streambot-deploy stack staging --template service.template --parameter AlarmEmail=me@example.com

The stack is <package name>-<environment>. What will change is shown, and asked about unless --yes
is given. Parameters that are not given keep the value they have. A change of the stack may take
twelve times --wait-timeout.

Exit codes:
  0  done, or nothing to change
  1  failed; the resources that failed by themselves are named
  2  bad usage: a template that cannot be read, a parameter unknown or without a value, no bucket
  4  not confirmed; nothing was changed, and no change set is left";

/// What the verb is told.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    target: TargetArguments,

    #[command(flatten, next_help_heading = "Stack")]
    stack: StackArguments,
}

/// Which template a stack gets, and how.
#[derive(Debug, Clone, Args)]
pub(crate) struct StackArguments {
    /// The stack's template, in JSON or YAML; a nested stack's TemplateURL may be a path relative
    /// to it
    #[arg(long, value_name = "FILE")]
    pub(crate) template: PathBuf,

    #[command(flatten)]
    pub(crate) change: ChangeArguments,
}

/// How a stack is changed, alike for every verb that does.
#[derive(Debug, Clone, Args)]
pub(crate) struct ChangeArguments {
    /// A parameter of the template; may be given several times [default: the value the stack has,
    /// else the template's]
    #[arg(long = "parameter", value_name = "NAME=VALUE")]
    pub(crate) parameters: Vec<Given>,

    /// S3 bucket in the stack's region for what is too large for a call: nested templates and those
    /// over 51,200 bytes, and bundles of 50 MB or more; each is uploaded once, under the hash of
    /// its content
    #[arg(long, value_name = "NAME")]
    pub(crate) bucket: Option<String>,

    /// Change the stack without asking, even where a resource is replaced or removed
    #[arg(short, long)]
    pub(crate) yes: bool,
}

/// Creates or updates the service's stack.
///
/// # Errors
/// Those of the service's manifest, and of [`update()`].
pub(crate) async fn run(arguments: Arguments) -> Result<()> {
    progress::begin(arguments.target.answer.quiet);
    let (_, name) = arguments.target.service()?;
    let aws = Aws::connect(&arguments.target.aws).await;
    let updated = update(&aws, &name, &arguments.stack).await?;
    verb::print(&updated, arguments.target.answer.output)
}
