//! A stack created or updated by change set, told in its order. It refuses to know what the stack is for, and how each part is done.

use std::fmt;
use std::future::Future;

use aws_sdk_cloudformation::Client;
use serde::Serialize;

use super::change::{self, Change};
use super::change_set::{ChangeSet, Prepared, Summary, words};
use super::follow::Follower;
use super::parameters;
use super::standing::{self, Standing, standing};
use super::template::Template;
use super::{Stack, StackArguments, causes, describe, patience, upload};
use crate::aws::{Aws, Patience};
use crate::confirm::confirm;
use crate::error::{Error, Result};
use crate::progress;

/// What became of a stack.
#[derive(Debug, Serialize)]
pub(crate) struct Updated {
    pub(crate) stack: String,
    pub(crate) id: String,
    pub(crate) result: Outcome,
    pub(crate) status: String,
    pub(crate) changes: Vec<Change>,
}

/// Whether a stack was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Outcome {
    Created,
    Updated,
    Unchanged,
}

impl fmt::Display for Updated {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { stack, id, status, .. } = self;
        let result = match self.result {
            Outcome::Created => "created",
            Outcome::Updated => "updated",
            Outcome::Unchanged => "nothing to change",
        };
        write!(formatter, "stack: {stack}\nid: {id}\nresult: {result}\nstatus: {status}")
    }
}

/// Creates or updates the stack `name` by change set: shows what will change, asks, follows it to its end. Where that is not reached
/// by the user's own will, no change set is left.
///
/// # Errors
/// Bad usage where the template, its parameters or the bucket are not right; unconfirmed where nobody said yes; failed where the
/// stack cannot be changed as it stands, or the change fails: the error tells the root causes.
pub(crate) async fn update(aws: &Aws, name: &str, arguments: &StackArguments) -> Result<Updated> {
    let change = &arguments.change;
    let template = Template::read(&arguments.template)?;
    let bucket = upload::bucket(&template, change.bucket.as_deref())?;
    let client = Client::new(&aws.config);
    let patience = patience(aws);

    let (stack, standing) = settled(&client, name, patience).await?;
    let placed = upload::place(aws, &template, bucket).await?;
    let summary = Summary::of(&client, &placed).await?;
    let previous: Vec<String> = match standing {
        Standing::Settled => stack.iter().flat_map(|stack| &stack.parameters).map(|(key, _)| key.clone()).collect(),
        _ => Vec::new(),
    };
    let parameters = parameters::choose(&summary.parameters, &change.parameters, &previous)?;
    if let (Standing::NeverCameUp, Some(stack)) = (standing, &stack) {
        delete_what_never_came_up(aws, stack, change.yes).await?;
    }

    let creates = standing != Standing::Settled;
    let change_set = ChangeSet::new(&client, patience, name, creates);
    let decided = unless_interrupted(name, async {
        let making = change_set.prepare(&placed.source, parameters, &summary);
        let prepared = progress::step(format!("making a change set of stack `{name}`"), making).await?;
        if !prepared.empty {
            show(&summary, &prepared.changes, change.yes);
            ask(change::question(name, creates, &prepared.changes), change.yes).await?;
        }
        let follower = Follower::before(&client, patience, name, &prepared.stack_id).await?;
        Ok((prepared, follower))
    });
    let (Prepared { stack_id, changes, empty }, follower) = match decided.await {
        Ok(decided) => decided,
        Err(error) => {
            change_set.discard().await;
            return Err(error);
        }
    };
    if empty {
        change_set.discard().await;
        let status = stack.map_or_else(String::new, |stack| stack.status);
        return Ok(Updated { stack: name.to_owned(), id: stack_id, result: Outcome::Unchanged, status, changes });
    }
    if let Err(error) = change_set.execute().await {
        change_set.discard().await;
        return Err(error);
    }

    let ended = follower.to_the_end().await?;
    let (expected, result) = match creates {
        true => ("CREATE_COMPLETE", Outcome::Created),
        false => ("UPDATE_COMPLETE", Outcome::Updated),
    };
    // What goes on after a failed creation counts as either of them.
    if ended.status == expected || ended.status == "CREATE_COMPLETE" {
        return Ok(Updated { stack: name.to_owned(), id: stack_id, result, status: ended.status, changes });
    }
    let doing = if creates { "created" } else { "updated" };
    let error = Error::failed(format!("stack `{name}` was not {doing} ({})", ended.status));
    let error = match causes::as_error(ended.causes) {
        Some(causes) => error.because(causes),
        None => error,
    };
    Err(match standing::next(name, &ended.status) {
        Some(hint) => error.hint(hint),
        None => error,
    })
}

/// The stack as it stands when nobody changes it any more.
async fn settled(client: &Client, name: &str, patience: Patience) -> Result<(Option<Stack>, Standing)> {
    let look = async || {
        let stack = describe(client, name).await?;
        let (status, reason) =
            stack.as_ref().map(|stack| (stack.status.as_str(), stack.status_reason.as_deref())).unzip();
        let standing = standing(name, status, reason.flatten())?;
        Ok((stack, standing))
    };
    let (stack, standing) = progress::step(format!("reading stack `{name}`"), look()).await?;
    let doing = match standing {
        Standing::Busy => "is being changed",
        Standing::Leaving => "is being deleted",
        _ => return Ok((stack, standing)),
    };
    let status = stack.map_or_else(String::new, |stack| stack.status);
    let wait = async {
        let mut waits = patience.waits();
        loop {
            let (stack, standing) = look().await?;
            if !matches!(standing, Standing::Busy | Standing::Leaving) {
                return Ok((stack, standing));
            }
            if !waits.wait().await {
                return Err(Error::failed(format!("stack `{name}` {doing} ({status})"))
                    .hint("wait until it is done, then try again; --wait-timeout says how long this waits"));
            }
        }
    };
    progress::step(format!("waiting: stack `{name}` {doing} ({status})"), wait).await
}

/// A stack that never came up cannot be updated, and holds nothing that was in use.
async fn delete_what_never_came_up(aws: &Aws, stack: &Stack, yes: bool) -> Result<()> {
    let Stack { name, status, .. } = stack;
    let question =
        format!("stack `{name}` never came up ({status}) and holds nothing in use: delete it and create it anew?");
    if yes {
        progress::say(format!("stack `{name}` never came up ({status}): it is deleted and created anew"));
    }
    ask(question, yes).await?;
    super::delete(aws, name).await.map(|_| ())
}

/// Shows what a question is about. Quiet is for who does not want to be asked.
fn show(summary: &Summary, changes: &[Change], yes: bool) {
    if yes && progress::quiet() {
        return;
    }
    let mut lines = change::lines(changes, progress::on_terminal());
    if !summary.capabilities.is_empty() {
        lines.push(format!("  requires {}", words(&summary.capabilities)));
        lines.extend(summary.reasons.iter().map(|reason| format!("    {reason}")));
    }
    progress::show(&lines);
}

/// Asks on a thread of its own, so that Ctrl-C is heard meanwhile.
async fn ask(question: String, yes: bool) -> Result<()> {
    let (answer, answered) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || answer.send(confirm(&question, yes)));
    answered.await.unwrap_or_else(|error| Err(Error::failed("asking for confirmation").because(error)))
}

/// Does `work`, and ends it at Ctrl-C so that what it began can be taken back. From then on Ctrl-C ends the process again.
async fn unless_interrupted<T>(name: &str, work: impl Future<Output = Result<T>>) -> Result<T> {
    let done = tokio::select! {
        done = work => done,
        _ = tokio::signal::ctrl_c() => {
            Err(Error::unconfirmed(format!("changing stack `{name}` was interrupted")).hint("nothing was changed"))
        }
    };
    // Who watches for a signal once has taken it from the system for good.
    tokio::spawn(async {
        if tokio::signal::ctrl_c().await.is_ok() {
            std::process::exit(130);
        }
    });
    done
}
