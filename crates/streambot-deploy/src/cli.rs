//! The command line: arguments in, one verb called. It refuses to know how a verb does its work.

use std::fmt;
use std::io::Write as _;
use std::ops::ControlFlow;
use std::path::PathBuf;

use clap::{Args, CommandFactory as _, Parser, Subcommand, ValueEnum};

use serde::Serialize;

use crate::aws::AwsArguments;
use crate::canary::Canary;
use crate::error::{Error, Result};
use crate::pause::Wanted;
use crate::progress;
use crate::service::{PackageArguments, Service, ServiceArguments, SettingsFlags};

/// Deploy a Kinesis consumer to AWS Lambda with one command, and run it on a laptop first.
#[derive(Debug, Parser)]
#[command(
    version,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_long_help = AFTER_HELP,
    max_term_width = 100
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    verb: Option<Verb>,

    #[command(flatten)]
    deploy: DeployArguments,
}

const AFTER_HELP: &str = "\
Examples:
  streambot-deploy local --records records.ndjson   Run the service here, on records of a file
  streambot-deploy template > streambot.template    Print the stack a service needs
  streambot-deploy staging                          Deploy the service of this folder
  streambot-deploy deploy local                     Deploy to an environment named like a verb

The stack is <package name>-<environment>, and so is the function. Settings come from
[package.metadata.streambot] in Cargo.toml, then from its environments.<environment>, then from flags.

Exit codes:
  0  done
  1  failed
  2  bad usage or settings
  3  the stack or function is not there
  4  it would destroy something and was not confirmed";

#[derive(Debug, Subcommand)]
enum Verb {
    /// Build the service, deploy its function and connect it to the stream
    #[command(after_long_help = crate::deploy::AFTER_HELP)]
    Deploy(Box<DeployArguments>),
    /// Create or update the service's CloudFormation stack, showing first what will change
    #[command(after_long_help = crate::stack::AFTER_HELP)]
    Stack(Box<crate::stack::Arguments>),
    /// Tell how a deployed service stands
    #[command(after_long_help = crate::status::AFTER_HELP)]
    Status(Box<crate::status::Arguments>),
    /// Print what the function logged, and go on with --follow
    #[command(after_long_help = crate::logs::AFTER_HELP)]
    Logs(Box<crate::logs::Arguments>),
    /// Move the function back to an older version, in seconds
    #[command(after_long_help = crate::rollback::AFTER_HELP)]
    Rollback(Box<crate::rollback::Arguments>),
    /// Stop the function's event source mappings; records wait in the stream
    #[command(after_long_help = crate::pause::AFTER_PAUSE)]
    Pause(Box<crate::pause::Arguments>),
    /// Start the function's event source mappings again, where they stopped
    #[command(after_long_help = crate::pause::AFTER_RESUME)]
    Resume(Box<crate::pause::Arguments>),
    /// Invoke the function on the batches that Lambda gave up on
    #[command(after_long_help = crate::replay::AFTER_HELP)]
    Replay(Box<crate::replay::Arguments>),
    /// Remove the function and what feeds it
    #[command(after_long_help = crate::destroy::AFTER_HELP)]
    Destroy(Box<crate::destroy::Arguments>),
    /// Build the service and write build/bundle.zip; with an environment, its .env too
    #[command(after_long_help = crate::bundle::AFTER_HELP, mut_args(of_a_bundle))]
    Bundle(Box<BundleArguments>),
    /// Print the CloudFormation template of a stream and its roles
    Template(crate::template::Arguments),
    /// Run the service on this machine, fed as Lambda would feed it
    #[command(after_long_help = crate::local::AFTER_HELP, mut_arg("on_failure", crate::local::describe_on_failure))]
    Local(Box<crate::local::Arguments>),
}

/// A bundle holds the build and the files; all else of a function is the deploy's.
fn of_a_bundle(flag: clap::Arg) -> clap::Arg {
    let is_functions = flag.get_help_heading() == Some("Function");
    let is_bundles = matches!(flag.get_id().as_str(), "architecture" | "include");
    flag.hide(is_functions && !is_bundles)
}

/// What a deploy is told.
#[derive(Debug, Args)]
pub(crate) struct DeployArguments {
    /// Environment to deploy to; the stack and the function are named after the package and it
    #[arg(required = true)]
    environment: Option<String>,

    /// Say what would be done, and change nothing on AWS
    #[arg(long)]
    pub(crate) dry_run: bool,

    /// Give a new version a share of the batches first, and all of them once it has done well for a time, such as 10%/5m
    #[arg(long, value_name = "SHARE/TIME")]
    pub(crate) canary: Option<Canary>,

    /// Delete a mapping that reads another stream, or began elsewhere, than is declared, with its place in the stream, and make
    /// a new one
    #[arg(long)]
    pub(crate) replace_mapping: bool,

    /// Zip to deploy instead of building the service, such as another deploy's build/bundle.zip
    ///
    /// The stack's values are put into it: its .env is replaced by the environment's, so that one zip is built once and deployed to one
    /// environment after another. All else in it stays as it is; the file itself and the package are not changed.
    #[arg(long, value_name = "FILE")]
    pub(crate) bundle: Option<PathBuf>,

    /// Template of the stack, which is created or updated first, as `stack` does
    #[arg(long, value_name = "FILE")]
    pub(crate) stack: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) change: crate::stack::ChangeArguments,

    #[command(flatten)]
    pub(crate) answer: AnswerArguments,

    #[command(flatten)]
    pub(crate) service: ServiceArguments,

    #[command(flatten)]
    pub(crate) aws: AwsArguments,

    #[command(flatten)]
    pub(crate) settings: SettingsFlags,
}

/// Which deployed service is meant, alike for every verb that looks at one or changes it.
#[derive(Debug, Args)]
pub(crate) struct TargetArguments {
    /// Environment of the service; its stack and function are named after the package and it
    pub(crate) environment: String,

    #[command(flatten)]
    pub(crate) answer: AnswerArguments,

    #[command(flatten)]
    pub(crate) package: PackageArguments,

    #[command(flatten)]
    pub(crate) aws: AwsArguments,
}

impl TargetArguments {
    /// The service with the settings of the environment, and the name its stack and function have there.
    ///
    /// # Errors
    /// Those of the service's manifest and settings.
    pub(crate) fn service(&self) -> Result<(Service, String)> {
        let arguments = ServiceArguments { package: self.package.clone(), ..ServiceArguments::default() };
        let service = Service::load(&arguments, Some(&self.environment), &SettingsFlags::default())?;
        let name = service.stack_name(&self.environment)?;
        Ok((service, name))
    }
}

/// How a verb answers, alike for every verb that talks to AWS.
#[derive(Debug, Clone, Args)]
pub(crate) struct AnswerArguments {
    /// How the result is printed on standard output
    #[arg(long, value_enum, default_value_t)]
    pub(crate) output: Output,

    /// Tell warnings and errors only, no progress
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

/// What a bundle is told.
#[derive(Debug, Args)]
pub(crate) struct BundleArguments {
    /// Environment whose stack values go into the bundle's .env [default: none, and no .env]
    pub(crate) environment: Option<String>,

    #[command(flatten)]
    pub(crate) answer: AnswerArguments,

    #[command(flatten)]
    pub(crate) service: ServiceArguments,

    #[command(flatten)]
    pub(crate) aws: AwsArguments,

    #[command(flatten, next_help_heading = "Function")]
    pub(crate) function: crate::function::FunctionSettings,
}

/// How a verb's result is printed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// One `name: value` a line.
    #[default]
    Text,
    /// One JSON object.
    Json,
}

impl DeployArguments {
    /// The environment, which the parser requires. It is optional in the type because the short form stands beside the verbs, whose
    /// calls have none.
    pub(crate) fn environment(&self) -> &str {
        self.environment.as_deref().unwrap_or_default()
    }
}

/// Reads the process's arguments and runs the verb they ask for. The parser itself answers `--help` and bad usage, with exit code 2.
pub(crate) async fn run() -> Result<()> {
    let cli = Cli::parse();
    match cli.verb {
        Some(Verb::Deploy(arguments)) => deploy(*arguments).await,
        Some(Verb::Bundle(arguments)) => {
            progress::begin(arguments.answer.quiet);
            crate::bundle::run(*arguments).await
        }
        Some(Verb::Rollback(arguments)) => crate::rollback::run(*arguments).await,
        Some(Verb::Status(arguments)) => crate::status::run(*arguments).await,
        Some(Verb::Logs(arguments)) => crate::logs::run(*arguments).await,
        Some(Verb::Template(arguments)) => crate::template::run(&arguments),
        Some(Verb::Stack(arguments)) => crate::stack::run(*arguments).await,
        Some(Verb::Local(arguments)) => crate::local::run(*arguments).await,
        Some(Verb::Pause(arguments)) => crate::pause::run(*arguments, Wanted::Disabled).await,
        Some(Verb::Resume(arguments)) => crate::pause::run(*arguments, Wanted::Enabled).await,
        Some(Verb::Replay(arguments)) => crate::replay::run(*arguments).await,
        Some(Verb::Destroy(arguments)) => crate::destroy::run(*arguments).await,
        None => {
            refuse_a_verb(cli.deploy.environment())?;
            deploy(cli.deploy).await
        }
    }
}

async fn deploy(arguments: DeployArguments) -> Result<()> {
    progress::begin(arguments.answer.quiet);
    crate::deploy::run(arguments).await
}

/// In the short form a verb after a flag would be taken for an environment: `streambot-deploy --region R local` must not deploy.
fn refuse_a_verb(environment: &str) -> Result<()> {
    if Cli::command().find_subcommand(environment).is_none() {
        return Ok(());
    }
    Err(Error::usage(format!("`{environment}` is a verb, and flags stand before it")).hint(format!(
        "write `streambot-deploy {environment} …`; \
         an environment of that name is deployed by `streambot-deploy deploy {environment}`"
    )))
}

/// Prints a verb's answer on standard output.
///
/// # Errors
/// Failed where standard output cannot be written.
pub(crate) fn print<T: Serialize + fmt::Display>(answer: &T, output: Output) -> Result<()> {
    let text = match output {
        Output::Text => answer.to_string(),
        Output::Json => serde_json::to_string_pretty(answer)
            .map_err(|error| Error::failed("writing the result as JSON").because(error))?,
    };
    write_out(&format!("{text}\n"))
}

/// Writes to standard output. Whoever reads it may stop early, as `head` does; that is no failure.
///
/// # Errors
/// Failed where standard output cannot be written.
pub(crate) fn write_out(text: &str) -> Result<()> {
    offer(text).map(drop)
}

/// Writes to standard output, and breaks once nobody reads it any more: what goes on for ever is to end then.
///
/// # Errors
/// Failed where standard output cannot be written.
pub(crate) fn offer(text: &str) -> Result<ControlFlow<()>> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => Ok(ControlFlow::Continue(())),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(ControlFlow::Break(())),
        Err(error) => Err(Error::failed("writing the result").because(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parser_is_well_formed() {
        Cli::command().debug_assert();
    }
}
