//! The command line: arguments in, one verb called. It refuses to know how a verb does its work.

use clap::{CommandFactory as _, Parser, Subcommand};

use crate::bundle::BundleArguments;
use crate::deploy::DeployArguments;
use crate::error::{Error, Result};
use crate::pause::Wanted;
use crate::progress;

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
  streambot-deploy init quakes                      Write a new service
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
    /// Write a new service: code, tests, stack, settings, a workflow
    #[command(after_long_help = crate::init::AFTER_HELP)]
    Init(crate::init::Arguments),
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
    #[command(after_long_help = crate::template::AFTER_HELP)]
    Template(crate::template::Arguments),
    /// Run the service on this machine, fed as Lambda would feed it
    #[command(after_long_help = crate::local::AFTER_HELP, mut_arg("on_failure", crate::local::describe_on_failure))]
    Local(Box<crate::local::Arguments>),
    /// Print what makes a shell complete verbs, flags and their values
    #[command(after_long_help = crate::completions::AFTER_HELP)]
    Completions(crate::completions::Arguments),
    /// Write the manual: a page for each verb
    #[command(after_long_help = crate::manual::AFTER_HELP)]
    Man(crate::manual::Arguments),
}

/// A bundle holds the build and the files; all else of a function is the deploy's.
fn of_a_bundle(flag: clap::Arg) -> clap::Arg {
    let is_functions = flag.get_help_heading() == Some("Function");
    let is_bundles = matches!(flag.get_id().as_str(), "architecture" | "include");
    flag.hide(is_functions && !is_bundles)
}

/// Reads the process's arguments and runs the verb they ask for. The parser itself answers `--help`
/// and bad usage, with exit code 2.
pub(crate) async fn run() -> Result<()> {
    let cli = Cli::parse();
    match cli.verb {
        Some(Verb::Init(arguments)) => crate::init::run(&arguments),
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
        Some(Verb::Completions(arguments)) => crate::completions::run(&arguments, Cli::command()),
        Some(Verb::Man(arguments)) => crate::manual::run(&arguments, Cli::command()),
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

/// In the short form a verb after a flag would be taken for an environment: `streambot-deploy
/// --region R local` must not deploy.
fn refuse_a_verb(environment: &str) -> Result<()> {
    if Cli::command().find_subcommand(environment).is_none() {
        return Ok(());
    }
    Err(Error::usage(format!("`{environment}` is a verb, and flags stand before it")).hint(
        format!(
            "write `streambot-deploy {environment} …`; \
         an environment of that name is deployed by `streambot-deploy deploy {environment}`"
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parser_is_well_formed() {
        Cli::command().debug_assert();
    }
}
