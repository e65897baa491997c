//! The verb `status`: how a service stands, once or again and again. It refuses to change anything.

mod answer;
mod metrics;
mod read;
mod sparkline;
mod stack;
mod text;

use std::io::IsTerminal as _;
use std::ops::ControlFlow;

use clap::Args;

use answer::Status;
pub(crate) use stack::find as find_stack;

use crate::again::again;
use crate::aws::{Aws, Seconds};
use crate::error::{Error, Result};
use crate::progress;
use crate::verb::{self, Output, TargetArguments};

/// What stands below the flags in the help.
pub(crate) const AFTER_HELP: &str = "\
Told are the stack, the function with its live version, the event source mappings, iterator age, errors and \
invocations of the last hour (two minutes a bar; · where CloudWatch has no number), the Error and Success that the \
runtime counts, the stack's alarms, and e-mail addresses that have not confirmed that they want alarms. What may not \
be read, or is not there, is told in its place.

Examples:
  streambot-deploy status production                 One look
  streambot-deploy status production --watch         A look every five seconds, until Ctrl-C
  streambot-deploy status production --output json   Everything, for a script

Exit codes:
  0  done, or a watch ended by Ctrl-C
  1  failed: neither stack nor function could be read
  2  bad usage or settings
  3  neither stack nor function is there";

/// What a status is told.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Look again and again until Ctrl-C; as JSON, one object a line
    #[arg(long)]
    watch: bool,

    /// Seconds between two looks
    #[arg(long, value_name = "SECONDS", default_value = "5", requires = "watch")]
    interval: Seconds,

    #[command(flatten)]
    target: TargetArguments,
}

/// Looks at the service and tells what is seen.
///
/// # Errors
/// Missing where neither stack nor function is there; failed where neither could be read.
pub(crate) async fn run(arguments: Arguments) -> Result<()> {
    progress::begin(arguments.target.answer.quiet);
    let (service, name) = arguments.target.service()?;
    let aws = Aws::connect(&arguments.target.aws).await;
    let output = arguments.target.answer.output;
    let place = Place::of_stdout(arguments.watch);
    if arguments.watch {
        let look = async || show(&read::read(&aws, &service, &name).await?, output, place);
        return again(arguments.interval.0, look).await;
    }
    let status =
        progress::step(format!("looking at `{name}`"), read::read(&aws, &service, &name)).await?;
    show(&status, output, place).map(drop)
}

/// Where a status is shown.
#[derive(Debug, Clone, Copy)]
struct Place {
    terminal: bool,
    colors: bool,
    /// Whether others follow.
    watched: bool,
}

impl Place {
    fn of_stdout(watched: bool) -> Self {
        let terminal = std::io::stdout().is_terminal();
        // <https://no-color.org>
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { terminal, colors: terminal && !unwanted, watched }
    }
}

fn show(status: &Status, output: Output, place: Place) -> Result<ControlFlow<()>> {
    let text = match output {
        Output::Text if place.watched && place.terminal => {
            format!("{CLEAR}{}\n", status.text(place.colors))
        }
        Output::Text if place.watched => format!("{status}\n\n"),
        Output::Text => format!("{}\n", status.text(place.colors)),
        Output::Json => format!("{}\n", json(status, place)?),
    };
    verb::offer(&text)
}

/// Empties the terminal's window and goes to its beginning.
const CLEAR: &str = "\u{1b}[2J\u{1b}[H";

fn json(status: &Status, place: Place) -> Result<String> {
    let written = if place.watched {
        serde_json::to_string(status)
    } else {
        serde_json::to_string_pretty(status)
    };
    written.map_err(|error| Error::failed("writing the status as JSON").because(error))
}

#[cfg(test)]
mod tests;
