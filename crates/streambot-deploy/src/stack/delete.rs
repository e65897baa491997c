//! A stack deleted, and what of it stays. It refuses to ask whether that is wanted.

use aws_sdk_cloudformation::Client;
use serde::Serialize;

use super::event::Event;
use super::follow::Follower;
use super::patience;
use crate::aws::{self, Aws};
use crate::error::Result;

/// A resource that its stack left on AWS when it was deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Retained {
    pub(crate) logical_id: String,
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) physical_id: String,
}

/// Deletes the stack `name`, shows how, and tells what stays of it. Nothing happens where there is
/// no such stack.
///
/// # Errors
/// Failed where it cannot be deleted; the error names what keeps it.
pub(crate) async fn delete(aws: &Aws, name: &str) -> Result<Vec<Retained>> {
    let client = Client::new(&aws.config);
    let Some(stack) = super::describe(&client, name).await? else { return Ok(Vec::new()) };
    let follower = Follower::before(&client, patience(aws), name, &stack.id).await?;
    let asked = client.delete_stack().stack_name(&stack.id).send().await;
    asked.map_err(|error| aws::failed(format!("deleting stack `{name}`"), error))?;
    let ended = follower.follow().await?;
    if ended.status == "DELETE_COMPLETE" {
        return Ok(retained(&ended.events));
    }
    Err(ended.into_error(name, "deleted"))
}

fn retained(events: &[Event]) -> Vec<Retained> {
    let skipped =
        events.iter().filter(|event| event.status == "DELETE_SKIPPED" && !event.is_of_stack());
    let resource = |event: &Event| Retained {
        logical_id: event.logical_id.clone(),
        kind: event.kind.clone(),
        physical_id: event.physical_id.clone().unwrap_or_default(),
    };
    skipped.map(resource).collect()
}

#[cfg(test)]
mod tests {
    use super::super::event::tests::event;
    use super::*;

    #[test]
    fn what_was_skipped_stays() {
        let stream = Event {
            physical_id: Some("quakes-Stream-1".into()),
            ..event("Child", "Stream", "Stream", "DELETE_SKIPPED", "")
        };
        let events = [event("quakes", "Queue", "Queue", "DELETE_COMPLETE", ""), stream];
        let expected = Retained {
            logical_id: "Stream".into(),
            kind: "AWS::SQS::Stream".into(),
            physical_id: "quakes-Stream-1".into(),
        };
        assert_eq!(retained(&events), [expected]);
    }
}
