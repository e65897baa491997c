//! The service's stack and its Streambot stacks as they stand, in whatever state: status, outputs,
//! alarms and topics. It refuses to judge whether a deploy could go on from there; `stack.rs` does.

use aws_sdk_cloudformation::Client;
use aws_sdk_cloudformation::types as cloudformation;

use super::answer::Stack;
use crate::aws::{Aws, failed};
use crate::error::Result;
use crate::stack::{CHILD, does_not_exist};
use crate::time::Time;

/// What a service's stack and the Streambot stacks it names are and hold.
#[derive(Debug)]
pub(crate) struct Found {
    pub(super) stack: Stack,
    /// Outputs of the Streambot stacks, then those of the service's own.
    outputs: Vec<(String, String)>,
    /// Alarms and topics of all of them, or why they could not be read.
    pub(super) resources: Result<Resources>,
}

/// Physical ids of the resources that a status is told of.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Resources {
    /// Names.
    pub(super) alarms: Vec<String>,
    /// ARNs.
    pub(super) topics: Vec<String>,
}

impl Found {
    /// The output `key` of the Streambot with this prefix; an empty one is none.
    pub(crate) fn output(&self, prefix: &str, key: &str) -> Option<&str> {
        let name = format!("{prefix}{key}");
        let found = self.outputs.iter().find(|(known, value)| *known == name && !value.is_empty());
        found.map(|(_, value)| value.as_str())
    }

    /// ARN of what the mapping of the Streambot with this prefix reads.
    pub(super) fn source(&self, prefix: &str) -> Option<&str> {
        self.output(prefix, "StreamConsumer").or_else(|| self.output(prefix, "KinesisStream"))
    }
}

/// Reads the stack `name` and the Streambot stacks that its outputs name under these prefixes;
/// nothing where it is not there.
///
/// # Errors
/// Failed where the service's stack cannot be read; what cannot be read of the others is told with
/// the resources.
pub(crate) async fn find(aws: &Aws, name: &str, prefixes: &[&str]) -> Result<Option<Found>> {
    let client = Client::new(&aws.config);
    let (stack, own) = tokio::join!(describe(&client, name), resources(&client, name));
    let Some(stack) = stack? else { return Ok(None) };
    let mut outputs = outputs_of(&stack);
    let children = children(&stack, &outputs, prefixes);
    let read = children
        .iter()
        .map(|child| async { tokio::join!(describe(&client, child), resources(&client, child)) });
    let mut all = own;
    for (child, held) in futures_util::future::join_all(read).await {
        let read = child.and_then(|child| Ok((child, held?)));
        match read {
            Ok((child, held)) => {
                outputs.splice(0..0, child.iter().flat_map(outputs_of));
                all = all.map(|all| all.with(held));
            }
            Err(error) => all = all.and(Err(error)),
        }
    }
    Ok(Some(Found { stack: Stack::from(stack), outputs, resources: all }))
}

/// The Streambot stacks beside the service's own.
fn children(
    stack: &cloudformation::Stack,
    outputs: &[(String, String)],
    prefixes: &[&str],
) -> Vec<String> {
    let is_own = |child: &str| stack.stack_name() == Some(child) || stack.stack_id() == Some(child);
    let mut children: Vec<String> = Vec::new();
    for prefix in prefixes {
        let named =
            |key: &str| outputs.iter().find(|(known, value)| known == key && !value.is_empty());
        let child = named(&format!("{prefix}{CHILD}")).or_else(|| named(CHILD));
        if let Some((_, child)) =
            child.filter(|(_, child)| !is_own(child) && !children.contains(child))
        {
            children.push(child.clone());
        }
    }
    children
}

async fn describe(client: &Client, name: &str) -> Result<Option<cloudformation::Stack>> {
    match client.describe_stacks().stack_name(name).send().await {
        Ok(answer) => Ok(answer.stacks.unwrap_or_default().into_iter().next()),
        Err(error) if does_not_exist(&error) => Ok(None),
        Err(error) => Err(failed(format!("describing stack `{name}`"), error)),
    }
}

async fn resources(client: &Client, name: &str) -> Result<Resources> {
    let mut pages = client.list_stack_resources().stack_name(name).into_paginator().items().send();
    let mut resources = Resources::default();
    while let Some(resource) = pages.next().await {
        let resource = resource
            .map_err(|error| failed(format!("listing the resources of stack `{name}`"), error))?;
        let of_its_type = match resource.resource_type() {
            Some("AWS::CloudWatch::Alarm") => &mut resources.alarms,
            Some("AWS::SNS::Topic") => &mut resources.topics,
            _ => continue,
        };
        of_its_type.extend(resource.physical_resource_id);
    }
    Ok(resources)
}

impl Resources {
    fn with(mut self, others: Self) -> Self {
        self.alarms.extend(others.alarms);
        self.topics.extend(others.topics);
        self
    }
}

fn outputs_of(stack: &cloudformation::Stack) -> Vec<(String, String)> {
    let output = |output: &cloudformation::Output| {
        Some((
            output.output_key()?.to_owned(),
            output.output_value().unwrap_or_default().to_owned(),
        ))
    };
    stack.outputs().iter().filter_map(output).collect()
}

impl From<cloudformation::Stack> for Stack {
    fn from(stack: cloudformation::Stack) -> Self {
        Self {
            updated: Time::of(stack.last_updated_time().or(stack.creation_time())),
            status: stack
                .stack_status
                .map_or_else(String::new, |status| status.as_str().to_owned()),
            status_reason: stack.stack_status_reason,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect()
    }

    #[test]
    fn each_streambot_stack_is_read_once_and_the_services_own_not_again() {
        let stack =
            cloudformation::Stack::builder().stack_name("shop").stack_id("arn:shop").build();
        let outputs = pairs(&[
            ("StreambotStack", "arn:shared"),
            ("OrdersStreambotStack", "arn:orders"),
            ("A", "b"),
        ]);
        assert_eq!(
            children(&stack, &outputs, &["Orders", "Payments", ""]),
            ["arn:orders", "arn:shared"]
        );
        for own in ["shop", "arn:shop", ""] {
            assert!(
                children(&stack, &pairs(&[("StreambotStack", own)]), &[""]).is_empty(),
                "{own}"
            );
        }
    }
}
