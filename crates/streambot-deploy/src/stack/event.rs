//! An event of a stack, as much of it as following a change takes. It refuses to know how events
//! are read.

use aws_sdk_cloudformation::primitives::DateTime;
use aws_sdk_cloudformation::types as cloudformation;

/// The type of a stack that is a resource of another one, and of a stack in its own events.
const STACK: &str = "AWS::CloudFormation::Stack";

/// One state of one resource, or of a stack itself.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Event {
    pub(super) id: String,
    pub(super) stack_id: String,
    pub(super) stack_name: String,
    pub(super) logical_id: String,
    pub(super) physical_id: Option<String>,
    pub(super) kind: String,
    pub(super) status: String,
    pub(super) reason: Option<String>,
    pub(super) time: DateTime,
}

impl Event {
    /// Whether it tells of its stack itself, not of one of the stack's resources.
    pub(super) fn is_of_stack(&self) -> bool {
        // LocalStack tells its stack's id for a resource that has none yet, so the id alone does
        // not say it.
        self.kind == STACK
            && self.logical_id == self.stack_name
            && self.physical_id.as_ref() == Some(&self.stack_id)
    }

    /// The id of the stack that this resource is.
    pub(super) fn nested_stack(&self) -> Option<&str> {
        let id = self.physical_id.as_deref().filter(|_| self.is_of_nested_stack());
        id.filter(|id| id.starts_with("arn:") && *id != self.stack_id)
    }

    /// Whether it tells of a resource that is a stack, of whatever id.
    pub(super) fn is_of_nested_stack(&self) -> bool {
        self.kind == STACK && !self.is_of_stack()
    }

    /// Whether it tells of a stack itself that nothing more will happen.
    pub(super) fn ends_stack(&self) -> bool {
        self.is_of_stack() && !in_progress(&self.status)
    }
}

/// Whether a resource or stack of this status is still being changed.
pub(super) fn in_progress(status: &str) -> bool {
    status.ends_with("_IN_PROGRESS")
}

impl From<cloudformation::StackEvent> for Event {
    fn from(event: cloudformation::StackEvent) -> Self {
        Self {
            id: event.event_id.unwrap_or_default(),
            stack_id: event.stack_id.unwrap_or_default(),
            stack_name: event.stack_name.unwrap_or_default(),
            logical_id: event.logical_resource_id.unwrap_or_default(),
            physical_id: event.physical_resource_id.filter(|id| !id.is_empty()),
            kind: event.resource_type.unwrap_or_default(),
            status: event
                .resource_status
                .map_or_else(String::new, |status| status.as_str().to_owned()),
            reason: event.resource_status_reason.filter(|reason| !reason.is_empty()),
            time: event.timestamp.unwrap_or(DateTime::from_secs(0)),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A stack's id, as the tests name stacks.
    pub(in super::super) fn arn(name: &str) -> String {
        format!("arn:aws:cloudformation:us-east-1:1:stack/{name}/1")
    }

    /// An event of stack `stack`; of the stack itself where `id` is its name.
    pub(in super::super) fn event(
        stack: &str,
        id: &str,
        kind: &str,
        status: &str,
        reason: &str,
    ) -> Event {
        Event {
            id: format!("{stack}/{id}/{status}"),
            stack_id: arn(stack),
            stack_name: stack.to_owned(),
            logical_id: id.to_owned(),
            physical_id: (kind == "Stack").then(|| arn(id)),
            kind: format!(
                "AWS::{}::{kind}",
                if kind == "Stack" { "CloudFormation" } else { "SQS" }
            ),
            status: status.to_owned(),
            reason: (!reason.is_empty()).then(|| reason.to_owned()),
            time: DateTime::from_secs(0),
        }
    }

    #[test]
    fn a_stack_is_told_from_its_resources_and_from_a_nested_stack() {
        let own = event("quakes", "quakes", "Stack", "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS", "");
        assert!(own.is_of_stack() && own.nested_stack().is_none() && !own.ends_stack());
        assert!(event("quakes", "quakes", "Stack", "UPDATE_ROLLBACK_COMPLETE", "").ends_stack());
        let nested = event("quakes", "child", "Stack", "CREATE_COMPLETE", "");
        assert_eq!(nested.nested_stack(), Some(arn("child").as_str()));
        assert!(!nested.ends_stack());
        assert!(event("quakes", "Queue", "Queue", "CREATE_COMPLETE", "").nested_stack().is_none());
        let early = Event { physical_id: Some(arn("quakes")), ..nested };
        assert!(
            !early.is_of_stack() && early.is_of_nested_stack() && early.nested_stack().is_none()
        );
    }
}
