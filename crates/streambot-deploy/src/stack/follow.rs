//! A stack followed while it changes: its events read as they come, those of nested stacks too, and
//! shown as a tree. It refuses to know what began the change.

use std::collections::HashSet;
use std::time::Instant;

use aws_sdk_cloudformation::Client;
use aws_sdk_cloudformation::error::ProvideErrorMetadata as _;
use aws_sdk_cloudformation::primitives::DateTime;
use aws_sdk_cloudformation::types::StackStatus;

use super::causes::{Cause, as_error, causes};
use super::event::Event;
use super::standing::next;
use super::tree::Tree;
use crate::aws::{self, Patience};
use crate::error::{Error, Result};
use crate::progress;

/// A stack about to be changed: what happened to it before is known, and not told again.
#[derive(Debug)]
pub(super) struct Follower<'a> {
    client: &'a Client,
    patience: Patience,
    name: &'a str,
    id: String,
    /// The ids of events that were read, and of the last one before the change.
    known: HashSet<String>,
    /// When the change began, by AWS's clock.
    began: Option<DateTime>,
}

/// How a change ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) status: String,
    pub(super) events: Vec<Event>,
    pub(super) causes: Vec<Cause>,
}

impl Ended {
    /// The end as an error: `name` was not `done`, why, and what to do next.
    pub(super) fn into_error(self, name: &str, done: &str) -> Error {
        let error = Error::failed(format!("stack `{name}` was not {done} ({})", self.status));
        let error = match as_error(self.causes) {
            Some(causes) => error.because(causes),
            None => error,
        };
        match next(name, &self.status) {
            Some(hint) => error.hint(hint),
            None => error,
        }
    }
}

impl<'a> Follower<'a> {
    /// Remembers where the stack's events end, before the change begins.
    ///
    /// # Errors
    /// Failed where its events cannot be read.
    pub(super) async fn before(
        client: &'a Client,
        patience: Patience,
        name: &'a str,
        id: &str,
    ) -> Result<Self> {
        let mut follower =
            Self { client, patience, name, id: id.to_owned(), known: HashSet::new(), began: None };
        let page = client.describe_stack_events().stack_name(id).send().await;
        let page = page
            .map_err(|error| aws::failed(format!("reading the events of stack `{name}`"), error))?;
        follower.known.extend(
            page.stack_events.unwrap_or_default().into_iter().filter_map(|event| event.event_id),
        );
        Ok(follower)
    }

    /// Follows the change to its end.
    ///
    /// # Errors
    /// Failed where events cannot be read, or where the change takes longer than there is patience.
    pub(super) async fn follow(mut self) -> Result<Ended> {
        let deadline = Instant::now() + self.patience.change;
        let mut tree = Tree::new(self.name, &self.id);
        let mut lines = progress::Lines::default();
        let mut events = Vec::new();
        let mut waits = self.patience.waits();
        loop {
            let fresh = self.read(&tree).await?;
            tree.nest(&fresh);
            for event in &fresh {
                let told = tree.record(event);
                if let Some(told) = told.filter(|_| !progress::on_terminal()) {
                    progress::say(told);
                }
            }
            lines.set(tree.lines(true));
            let end = fresh.iter().find(|event| event.stack_id == self.id && event.ends_stack());
            let status = end.map(|event| event.status.clone());
            if !fresh.is_empty() {
                // Where something happens, more may soon: the waits begin short again.
                let change = deadline.saturating_duration_since(Instant::now());
                waits = Patience { change, ..self.patience }.waits();
            }
            events.extend(fresh);
            if let Some(status) = status {
                let causes = causes(&events, &tree, &status);
                return Ok(Ended { status, events, causes });
            }
            if !waits.wait().await {
                return Err(Error::failed(format!("waiting for stack `{}`", self.name)).hint(
                    "it goes on changing by itself: the same call again waits for it, and --wait-timeout says how long",
                ));
            }
        }
    }

    /// What happened since the last look, in its order.
    async fn read(&mut self, tree: &Tree) -> Result<Vec<Event>> {
        let mut stacks = vec![self.id.clone()];
        stacks.extend(tree.nested_in_progress());
        let mut fresh: Vec<Event> = Vec::new();
        let mut next = 0;
        while let Some(stack) = stacks.get(next).cloned() {
            next += 1;
            let mut events = self.read_one(&stack).await?;
            for event in &mut events {
                if event.status == "CREATE_FAILED"
                    && event.is_of_nested_stack()
                    && event.nested_stack().is_none()
                {
                    event.physical_id = self.nested_by_name(event).await?;
                }
            }
            for nested in events.iter().filter_map(Event::nested_stack) {
                if !stacks.iter().any(|stack| stack == nested) {
                    stacks.push(nested.to_owned());
                }
            }
            fresh.extend(events);
        }
        fresh.sort_by(|one, other| {
            (one.time.secs(), one.time.subsec_nanos())
                .cmp(&(other.time.secs(), other.time.subsec_nanos()))
        });
        Ok(fresh)
    }

    /// The id of a nested stack that failed before its own stack learnt its id, which is how
    /// LocalStack tells it: by its name, which is its stack's, its logical id, and something
    /// random.
    async fn nested_by_name(&self, event: &Event) -> Result<Option<String>> {
        let prefix = format!("{}-{}-", event.stack_name, event.logical_id);
        let failed = [
            StackStatus::CreateFailed,
            StackStatus::RollbackInProgress,
            StackStatus::RollbackComplete,
        ];
        let mut stacks = self
            .client
            .list_stacks()
            .set_stack_status_filter(Some(failed.into()))
            .into_paginator()
            .items()
            .send();
        while let Some(stack) = stacks.next().await {
            let stack = stack.map_err(|error| {
                aws::failed(format!("looking for the stack `{prefix}…`"), error)
            })?;
            if stack.stack_name().is_some_and(|name| name.starts_with(&prefix)) {
                return Ok(stack.stack_id);
            }
        }
        Ok(None)
    }

    /// The unknown events of one stack, the oldest first. CloudFormation tells the newest first,
    /// and all that ever happened.
    async fn read_one(&mut self, stack: &str) -> Result<Vec<Event>> {
        let mut pages =
            self.client.describe_stack_events().stack_name(stack).into_paginator().send();
        let mut fresh = Vec::new();
        'pages: while let Some(page) = pages.next().await {
            let page = match page {
                Ok(page) => page,
                // A nested stack may be told before it is there, and after it has gone.
                Err(error)
                    if stack != self.id && error.as_service_error().is_some_and(is_missing) =>
                {
                    break;
                }
                Err(error) => {
                    return Err(aws::failed(
                        format!("reading the events of stack `{stack}`"),
                        error,
                    ));
                }
            };
            for event in page.stack_events.unwrap_or_default().into_iter().map(Event::from) {
                let old = stack != self.id && self.began.is_some_and(|began| event.time < began);
                if old || self.known.contains(&event.id) {
                    break 'pages;
                }
                fresh.push(event);
            }
        }
        fresh.reverse();
        self.known.extend(fresh.iter().map(|event| event.id.clone()));
        if stack == self.id && self.began.is_none() {
            self.began = fresh.first().map(|event| event.time);
        }
        Ok(fresh)
    }
}

fn is_missing(
    error: &aws_sdk_cloudformation::operation::describe_stack_events::DescribeStackEventsError,
) -> bool {
    error.code() == Some("ValidationError")
        && error.message().is_some_and(|message| message.contains("does not exist"))
}
