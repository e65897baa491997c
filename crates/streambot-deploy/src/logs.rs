//! The verb `logs`: what the function logged, from CloudWatch Logs or from the objects it uploads,
//! and what it logs from now on. It refuses to know what is told by it.

mod events;
mod line;
mod objects;
mod seen;
mod since;

use std::ops::ControlFlow;

use clap::Args;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use serde::Serialize;

use crate::again::again;
use crate::aws::{Aws, Seconds};
use crate::error::{Error, Result};
use crate::progress;
use crate::time::Time;
use crate::verb::{self, Output, TargetArguments};

use events::Event;
use objects::{Line, LogObject, Place};
use seen::Seen;
use since::Since;

/// What stands below the flags in the help.
pub(crate) const AFTER_HELP: &str = "\
Lines of JSON are printed as level, message and fields; --output json prints one object a line, with the message as \
it was logged. With --s3, an object's lines follow its name, and objects are in the order of their last change.

Examples:
  streambot-deploy logs production                          The last ten minutes
  streambot-deploy logs production --follow                 And whatever comes, until Ctrl-C
  streambot-deploy logs production --since 2h --filter '{ $.level = \"ERROR\" }'
  streambot-deploy logs production --s3 --since 3d --filter us7000abcd

Exit codes:
  0  done, or --follow ended by Ctrl-C
  1  failed
  2  bad usage or settings
  3  the log group is not there; with --s3, the stack, its LogBucket or the bucket";

/// How many log objects are read at once.
const READ_AT_ONCE: usize = 8;

/// Which logs are wanted.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Go on with what is logged from now on, until Ctrl-C
    #[arg(short, long)]
    follow: bool,

    /// From when on: how long ago, in s, m, h or d, or a time such as 2026-11-24T17:00:00Z
    #[arg(long, value_name = "TIME", default_value = "10m")]
    since: Since,

    /// Only lines that match this filter pattern of CloudWatch Logs; with --s3, lines that hold
    /// this very text
    #[arg(long, value_name = "PATTERN")]
    filter: Option<String>,

    /// Read the log objects that the function uploads to the stack's LogBucket, not CloudWatch Logs
    #[arg(long)]
    s3: bool,

    /// Seconds between two looks of --follow
    #[arg(long, value_name = "SECONDS", default_value = "2", requires = "follow")]
    interval: Seconds,

    #[command(flatten)]
    target: TargetArguments,
}

/// Prints what the function logged.
///
/// # Errors
/// Missing where there is nothing to read it from; failed where AWS refuses or does not answer.
pub(crate) async fn run(arguments: Arguments) -> Result<()> {
    progress::begin(arguments.target.answer.quiet);
    let (service, name) = arguments.target.service()?;
    let aws = Aws::connect(&arguments.target.aws).await;
    let mut seen = Seen::since(arguments.since.from(Time::now()));
    let from = seen.from();
    if arguments.s3 {
        let find = Place::find(&aws, &service, &name);
        let place =
            progress::step(format!("reading where `{name}` uploads its logs"), find).await?;
        progress::say(format!("reading s3://{}/{} since {from:.0}", place.bucket, place.prefix));
        return print(&arguments, async || look_at_objects(&place, &arguments, &mut seen).await)
            .await;
    }
    let group = events::group(&aws, &name).await;
    progress::say(format!("reading log group `{group}` since {from:.0}"));
    print(&arguments, async || look_at_group(&aws, &group, &arguments, &mut seen).await).await
}

/// Looks once, or again and again to follow.
async fn print(
    arguments: &Arguments,
    mut look: impl AsyncFnMut() -> Result<ControlFlow<()>>,
) -> Result<()> {
    match arguments.follow {
        true => again(arguments.interval.0, look).await,
        false => look().await.map(drop),
    }
}

/// Prints the events that are new in a log group.
async fn look_at_group(
    aws: &Aws,
    group: &str,
    arguments: &Arguments,
    seen: &mut Seen,
) -> Result<ControlFlow<()>> {
    let output = arguments.target.answer.output;
    let from = seen.from();
    let print = |page: Vec<Event>| {
        let mut text = String::new();
        for event in seen.unseen(page) {
            text.push_str(&match output {
                Output::Text => line::text(Some(event.time), &event.message),
                Output::Json => json(&event)?,
            });
            text.push('\n');
            seen.saw(&event);
        }
        verb::offer(&text)
    };
    let looked = events::read(aws, group, from, arguments.filter.as_deref(), print).await?;
    seen.looked();
    Ok(looked)
}

/// Prints the log objects that are new in the bucket.
async fn look_at_objects(
    place: &Place,
    arguments: &Arguments,
    seen: &mut Seen,
) -> Result<ControlFlow<()>> {
    let objects = seen.unseen(place.list(seen.from()).await?);
    let read = async |object: LogObject| Ok::<_, Error>((place.get(&object).await?, object));
    let mut contents = stream::iter(objects).map(read).buffered(READ_AT_ONCE);
    while let Some((contents, object)) = contents.try_next().await? {
        let text = of_object(place, &object, &contents.unwrap_or_default(), arguments)?;
        if verb::offer(&text)?.is_break() {
            return Ok(ControlFlow::Break(()));
        }
        seen.saw(&object);
    }
    seen.looked();
    Ok(ControlFlow::Continue(()))
}

/// The lines of an object that are wanted, below its name; nothing where none is.
fn of_object(
    place: &Place,
    object: &LogObject,
    contents: &str,
    arguments: &Arguments,
) -> Result<String> {
    let filter = arguments.filter.as_deref().unwrap_or_default();
    let mut text = String::new();
    for message in contents.lines().filter(|line| line.contains(filter)) {
        let LogObject { key, last_modified } = object;
        match arguments.target.answer.output {
            Output::Text => {
                if text.is_empty() {
                    text = format!("==> {key} ({last_modified:.0}) <==\n");
                }
                text.push_str(&line::text(None, message));
            }
            Output::Json => {
                text.push_str(&json(&Line {
                    last_modified: *last_modified,
                    bucket: &place.bucket,
                    key,
                    message,
                })?);
            }
        }
        text.push('\n');
    }
    Ok(text)
}

fn json<T: Serialize>(value: &T) -> Result<String> {
    serde_json::to_string(value)
        .map_err(|error| Error::failed("writing a log line as JSON").because(error))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_object_a_line() {
        let event = Event {
            time: Time::read("2026-11-24T17:00:00.123Z").unwrap(),
            ingestion_time: Time::read("2026-11-24T17:00:01Z"),
            log_stream: "2026/11/24/[7]0123".into(),
            event_id: "38".into(),
            message: "{\"level\":\"INFO\"}\n".into(),
        };
        insta::assert_snapshot!("event", json(&event).unwrap());
    }
}
