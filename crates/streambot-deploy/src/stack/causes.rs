//! Why a change of a stack failed: of all that its events call failed, what failed first and by
//! itself. It refuses to know how events are read.

use std::error::Error;
use std::fmt;

use super::event::Event;
use super::tree::{Tree, one_line};

/// One resource that failed by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cause {
    path: String,
    kind: String,
    reason: String,
}

impl fmt::Display for Cause {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} ({}): {}", self.path, self.kind, self.reason)
    }
}

/// The root causes, in the order they came about. `events` are those of the change, of the stack
/// and all nested ones, in their order; `status` is what the stack ended in.
pub(super) fn causes(events: &[Event], tree: &Tree, status: &str) -> Vec<Cause> {
    // What fails while a failure is undone is an aftermath, unless it is what keeps the stack from
    // being undone.
    let rollback =
        events.iter().position(|event| event.is_of_stack() && event.status.contains("ROLLBACK_"));
    let (before, after) = events.split_at(rollback.unwrap_or(events.len()));
    let mut failed: Vec<&Event> = failures(before).collect();
    if status.ends_with("ROLLBACK_FAILED") || failed.is_empty() {
        failed.extend(failures(after));
    }

    let mut roots: Vec<&Event> = Vec::new();
    for event in &failed {
        let echo = event
            .nested_stack()
            .is_some_and(|nested| failed.iter().any(|inner| inner.stack_id == nested));
        let known = roots
            .iter()
            .any(|root| root.stack_id == event.stack_id && root.logical_id == event.logical_id);
        if !echo && !known {
            roots.push(event);
        }
    }
    if roots.is_empty() {
        // No resource failed: the stack itself says why, such as a macro that did.
        let own = events.iter().rev().filter(|event| event.is_of_stack() && event.reason.is_some());
        roots.extend(own.filter(|event| !event.status.ends_with("COMPLETE")).take(1));
    }
    let cause = |event: &&Event| Cause {
        path: tree.path(event),
        kind: event.kind.clone(),
        reason: event.reason.as_deref().map_or_else(|| "no reason is told".to_owned(), one_line),
    };
    roots.iter().map(cause).collect()
}

/// The resources that failed, without those that were given up because another one had.
fn failures(events: &[Event]) -> impl Iterator<Item = &Event> {
    let resources =
        events.iter().filter(|event| event.status.ends_with("_FAILED") && !event.is_of_stack());
    resources.filter(|event| !event.reason.as_deref().is_some_and(is_cancelled))
}

/// CloudFormation words it "Resource creation cancelled", and "Resource update cancelled".
fn is_cancelled(reason: &str) -> bool {
    reason.starts_with("Resource ") && reason.trim_end_matches('.').ends_with("cancelled")
}

/// The causes as one error, of which each is the source of the one before.
pub(super) fn as_error(causes: Vec<Cause>) -> Option<Box<dyn Error + Send + Sync>> {
    let chain = |source: Option<Box<Because>>, cause| Some(Box::new(Because { cause, source }));
    let because = causes.into_iter().rev().fold(None, chain)?;
    Some(because)
}

#[derive(Debug)]
struct Because {
    cause: Cause,
    source: Option<Box<Because>>,
}

impl fmt::Display for Because {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.cause.fmt(formatter)
    }
}

impl Error for Because {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn Error + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::super::event::tests::{arn, event};
    use super::*;

    fn told(events: &[Event], status: &str) -> Vec<String> {
        let mut tree = Tree::new("quakes", &arn("quakes"));
        tree.nest(events);
        for event in events {
            tree.record(event);
        }
        causes(events, &tree, status).iter().map(Cause::to_string).collect()
    }

    #[test]
    fn what_was_cancelled_and_what_fails_in_the_rollback_is_noise() {
        let events = [
            event("quakes", "quakes", "Stack", "CREATE_IN_PROGRESS", "User Initiated"),
            event("quakes", "Queue", "Queue", "CREATE_IN_PROGRESS", ""),
            event("quakes", "Queue", "Queue", "CREATE_FAILED", "the delay\nis too long"),
            event("quakes", "Topic", "Topic", "CREATE_FAILED", "Resource creation cancelled"),
            event(
                "quakes",
                "quakes",
                "Stack",
                "ROLLBACK_IN_PROGRESS",
                "The following resource(s) failed: [Queue, Topic].",
            ),
            event("quakes", "Topic", "Topic", "DELETE_FAILED", "it is in use"),
            event("quakes", "quakes", "Stack", "ROLLBACK_COMPLETE", ""),
        ];
        assert_eq!(
            told(&events, "ROLLBACK_COMPLETE"),
            ["Queue (AWS::SQS::Queue): the delay is too long"]
        );
    }

    #[test]
    fn a_nested_failure_is_told_where_it_came_about_and_its_echoes_are_not() {
        let events = [
            event("quakes", "Child", "Stack", "UPDATE_IN_PROGRESS", ""),
            event("Child", "Grandchild", "Stack", "UPDATE_IN_PROGRESS", ""),
            event("Grandchild", "Dead", "Queue", "UPDATE_FAILED", "no such key"),
            event("Grandchild", "Other", "Queue", "UPDATE_FAILED", "Resource update cancelled"),
            event(
                "Grandchild",
                "Grandchild",
                "Stack",
                "UPDATE_FAILED",
                "The following resource(s) failed: [Dead].",
            ),
            event(
                "Child",
                "Grandchild",
                "Stack",
                "UPDATE_FAILED",
                "Embedded stack was not successfully updated",
            ),
            event(
                "quakes",
                "Child",
                "Stack",
                "UPDATE_FAILED",
                "Embedded stack was not successfully updated",
            ),
            event("quakes", "Queue", "Queue", "UPDATE_FAILED", "Resource update cancelled"),
            event(
                "quakes",
                "quakes",
                "Stack",
                "UPDATE_ROLLBACK_IN_PROGRESS",
                "The following resource(s) failed",
            ),
            event("quakes", "quakes", "Stack", "UPDATE_ROLLBACK_COMPLETE", ""),
        ];
        assert_eq!(
            told(&events, "UPDATE_ROLLBACK_COMPLETE"),
            ["Child/Grandchild/Dead (AWS::SQS::Queue): no such key"]
        );
    }

    #[test]
    fn a_nested_stack_that_never_began_is_a_cause_itself() {
        let events = [
            event("quakes", "Child", "Stack", "CREATE_FAILED", "S3 error: Access Denied"),
            event("quakes", "quakes", "Stack", "ROLLBACK_IN_PROGRESS", ""),
        ];
        assert_eq!(
            told(&events, "ROLLBACK_COMPLETE"),
            ["Child (AWS::CloudFormation::Stack): S3 error: Access Denied"]
        );
    }

    #[test]
    fn each_of_two_failures_at_once_is_told_once_in_their_order() {
        let events = [
            event("quakes", "B", "Queue", "CREATE_FAILED", "first"),
            event("quakes", "A", "Queue", "CREATE_FAILED", "second"),
            event("quakes", "B", "Queue", "CREATE_FAILED", "again"),
        ];
        assert_eq!(
            told(&events, "CREATE_FAILED"),
            ["B (AWS::SQS::Queue): first", "A (AWS::SQS::Queue): second"]
        );
    }

    #[test]
    fn a_rollback_that_fails_tells_its_own_cause_too() {
        let events = [
            event("quakes", "Queue", "Queue", "UPDATE_FAILED", "the delay is too long"),
            event("quakes", "quakes", "Stack", "UPDATE_ROLLBACK_IN_PROGRESS", ""),
            event("quakes", "Table", "Table", "UPDATE_FAILED", "no such table"),
            event(
                "quakes",
                "quakes",
                "Stack",
                "UPDATE_ROLLBACK_FAILED",
                "The following resource(s) failed",
            ),
        ];
        assert_eq!(
            told(&events, "UPDATE_ROLLBACK_FAILED"),
            [
                "Queue (AWS::SQS::Queue): the delay is too long",
                "Table (AWS::SQS::Table): no such table"
            ]
        );
    }

    #[test]
    fn where_no_resource_failed_the_stack_says_why() {
        let events = [
            event("quakes", "quakes", "Stack", "CREATE_IN_PROGRESS", "User Initiated"),
            event("quakes", "quakes", "Stack", "ROLLBACK_IN_PROGRESS", "Transform M failed"),
            event("quakes", "quakes", "Stack", "ROLLBACK_COMPLETE", ""),
        ];
        assert_eq!(
            told(&events, "ROLLBACK_COMPLETE"),
            ["quakes (AWS::CloudFormation::Stack): Transform M failed"]
        );
    }

    #[test]
    fn causes_read_as_one_chain() {
        let cause =
            |path: &str| Cause { path: path.into(), kind: "Queue".into(), reason: "no".into() };
        let error = crate::error::Error::failed("stack `quakes`")
            .because(as_error(vec![cause("A"), cause("B")]).expect("two causes"));
        assert_eq!(
            error.report(),
            "error: stack `quakes`\n  because: A (Queue): no\n  because: B (Queue): no"
        );
        assert!(as_error(Vec::new()).is_none());
    }
}
