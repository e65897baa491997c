//! What every verb shares: which service is meant, how its answer is asked for, and how it is
//! printed on standard output. It refuses to know any one verb.

use std::fmt;
use std::io::Write as _;
use std::ops::ControlFlow;

use clap::{Args, ValueEnum};
use serde::Serialize;

use crate::aws::AwsArguments;
use crate::error::{Error, Result};
use crate::service::{PackageArguments, Service, ServiceArguments, SettingsFlags};

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
    /// The service with the settings of the environment, and the name its stack and function have
    /// there.
    ///
    /// # Errors
    /// Those of the service's manifest and settings.
    pub(crate) fn service(&self) -> Result<(Service, String)> {
        let arguments =
            ServiceArguments { package: self.package.clone(), ..ServiceArguments::default() };
        let service =
            Service::load(&arguments, Some(&self.environment), &SettingsFlags::default())?;
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

/// How a verb's result is printed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// One `name: value` a line.
    #[default]
    Text,
    /// One JSON object.
    Json,
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

/// Writes to standard output, and breaks once nobody reads it any more: what goes on for ever is to
/// end then.
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
