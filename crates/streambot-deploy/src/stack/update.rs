//! A stack created or updated by change set, told in its order. It refuses to know what the stack
//! is for, and how each part is done.

use std::fmt;
use std::future::Future;

use aws_sdk_cloudformation::Client;
use aws_sdk_cloudformation::types::Parameter;
use serde::Serialize;

use super::change::{self, Change};
use super::change_set::{ChangeSet, Prepared, Summary, words};
use super::follow::Follower;
use super::parameters;
use super::standing::{Standing, standing};
use super::template::Template;
use super::upload::{self, Placed};
use super::{ChangeArguments, Stack, StackArguments, describe, patience};
use crate::aws::{Aws, Patience};
use crate::confirm::confirm;
use crate::error::{Error, Result};
use crate::local::interrupt::Interrupts;
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

/// Creates or updates the stack `name` by change set: shows what will change, asks, follows it to
/// its end. Where that is not reached by the user's own will, no change set is left.
///
/// # Errors
/// Bad usage where the template, its parameters or the bucket are not right; unconfirmed where
/// nobody said yes; failed where the stack cannot be changed as it stands, or the change fails: the
/// error tells the root causes.
pub(crate) async fn update(aws: &Aws, name: &str, arguments: &StackArguments) -> Result<Updated> {
    let mut interrupts = Interrupts::watch()?;
    let updated = update_unless(&mut interrupts, aws, name, arguments).await;
    end_at(interrupts);
    updated
}

async fn update_unless(
    interrupts: &mut Interrupts,
    aws: &Aws,
    name: &str,
    arguments: &StackArguments,
) -> Result<Updated> {
    let change = &arguments.change;
    let template = Template::read(&arguments.template)?;
    let bucket = upload::bucket(&template, change.bucket.as_deref())?;
    let client = Client::new(&aws.config);
    let patience = patience(aws);

    let interrupted = || {
        Error::unconfirmed(format!("interrupted before stack `{name}` was changed"))
            .hint("no change set is left; the same call begins again")
    };
    let begin = begin(aws, &client, name, &template, bucket, change);
    let Beginning { stack, standing, placed, summary, parameters } =
        unless_interrupted(interrupts, begin, interrupted).await?;
    let creates = standing != Standing::Settled;
    let mut change_set = ChangeSet::new(&client, patience, name, creates);
    let decide = async {
        let making = change_set.prepare(&placed.source, parameters, &summary);
        let prepared =
            progress::step(format!("making a change set of stack `{name}`"), making).await?;
        if !prepared.empty {
            show(&prepared, &summary, change.yes);
            ask(change::question(name, creates, &prepared.changes), change.yes).await?;
        }
        let follower = Follower::before(&client, patience, name, &prepared.stack_id).await?;
        Ok((prepared, follower))
    };
    let decided = unless_interrupted(interrupts, decide, interrupted).await;
    let (Prepared { stack_id, changes, empty, .. }, follower) = match decided {
        Ok(decided) => decided,
        Err(error) => {
            change_set.discard().await;
            return Err(error);
        }
    };
    if empty {
        change_set.discard().await;
        let status = stack.map_or_else(String::new, |stack| stack.status);
        return Ok(Updated {
            stack: name.to_owned(),
            id: stack_id,
            result: Outcome::Unchanged,
            status,
            changes,
        });
    }
    if let Err(error) = change_set.execute().await {
        change_set.discard().await;
        return Err(error);
    }

    let still = || {
        Error::failed(format!("stack `{name}` is still being changed"))
            .hint("it goes on by itself; the same call again waits for it")
    };
    let ended = unless_interrupted(interrupts, follower.follow(), still).await?;
    let (doing, expected, result) = match creates {
        true => ("created", "CREATE_COMPLETE", Outcome::Created),
        false => ("updated", "UPDATE_COMPLETE", Outcome::Updated),
    };
    // To LocalStack, what goes on after a failed creation is a creation still.
    if ended.status != expected && ended.status != "CREATE_COMPLETE" {
        return Err(ended.into_error(name, doing));
    }
    Ok(Updated { stack: name.to_owned(), id: stack_id, result, status: ended.status, changes })
}

/// All that a change set is made of.
struct Beginning {
    stack: Option<Stack>,
    standing: Standing,
    placed: Placed,
    summary: Summary,
    parameters: Vec<Parameter>,
}

/// Reads what is there and what is wanted, and clears away a stack that never came up.
async fn begin(
    aws: &Aws,
    client: &Client,
    name: &str,
    template: &Template,
    bucket: Option<&str>,
    change: &ChangeArguments,
) -> Result<Beginning> {
    let (stack, standing) = settled(client, name, patience(aws)).await?;
    let placed = upload::place(aws, template, bucket).await?;
    let summary = Summary::of(client, &placed).await?;
    let previous: Vec<String> = match standing {
        Standing::Settled => {
            stack.iter().flat_map(|stack| &stack.parameters).map(|(key, _)| key.clone()).collect()
        }
        _ => Vec::new(),
    };
    let parameters = parameters::choose(&summary.parameters, &change.parameters, &previous)?;
    if let (Standing::NeverCameUp, Some(stack)) = (standing, &stack) {
        delete_what_never_came_up(aws, stack, change.yes).await?;
    }
    Ok(Beginning { stack, standing, placed, summary, parameters })
}

/// The stack as it stands when nobody changes it any more.
async fn settled(
    client: &Client,
    name: &str,
    patience: Patience,
) -> Result<(Option<Stack>, Standing)> {
    let look = async || {
        let stack = describe(client, name).await?;
        let (status, reason) = stack
            .as_ref()
            .map(|stack| (stack.status.as_str(), stack.status_reason.as_deref()))
            .unzip();
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
    let holds = match status.as_str() {
        "ROLLBACK_FAILED" => "holds what its roll-back could not delete",
        _ => "holds nothing",
    };
    let question = format!(
        "stack `{name}` never came up ({status}) and {holds}: delete it and create it anew?"
    );
    if yes {
        progress::say(format!(
            "stack `{name}` never came up ({status}): it is deleted and created anew"
        ));
    }
    ask(question, yes).await?;
    super::delete(aws, name).await.map(|_| ())
}

/// Shows what a question is about. Quiet is for who does not want to be asked.
fn show(prepared: &Prepared, summary: &Summary, yes: bool) {
    if yes && progress::quiet() {
        return;
    }
    let mut lines = change::lines(&prepared.changes, progress::on_terminal());
    if !prepared.capabilities.is_empty() {
        lines.push(format!("  requires {}", words(&prepared.capabilities)));
        lines.extend(summary.reasons.iter().map(|reason| format!("    {reason}")));
    }
    progress::show(&lines);
}

/// Asks on a thread of its own, so that Ctrl-C is heard meanwhile.
async fn ask(question: String, yes: bool) -> Result<()> {
    let (answer, answered) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || answer.send(confirm(&question, yes)));
    answered
        .await
        .unwrap_or_else(|error| Err(Error::failed("asking for confirmation").because(error)))
}

/// Does `work`, unless a signal asks to end it.
async fn unless_interrupted<T>(
    interrupts: &mut Interrupts,
    work: impl Future<Output = Result<T>>,
    interrupted: impl FnOnce() -> Error,
) -> Result<T> {
    tokio::select! {
        done = work => done,
        () = interrupts.next() => Err(interrupted()),
    }
}

/// Who watches for signals once has taken them from the system for good; from here on they end the
/// process again.
fn end_at(mut interrupts: Interrupts) {
    tokio::spawn(async move {
        interrupts.next().await;
        std::process::exit(130);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_as_text_and_as_json() {
        let updated = Updated {
            stack: "quakes-staging".to_owned(),
            id: "arn:stack".to_owned(),
            result: Outcome::Updated,
            status: "UPDATE_COMPLETE".to_owned(),
            changes: change::tests::all(),
        };
        insta::assert_snapshot!("text", updated);
        insta::assert_json_snapshot!("json", updated);
    }
}
