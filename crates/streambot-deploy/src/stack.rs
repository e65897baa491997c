//! The service's CloudFormation stack and the Streambot stack inside it: found, checked, and read
//! as the values a service is given. It refuses to know what is done with them.

mod arguments;
mod causes;
mod change;
mod change_set;
mod delete;
mod event;
mod follow;
mod parameters;
mod standing;
mod template;
mod tree;
mod update;
mod upload;

use aws_sdk_cloudformation::Client;
use aws_sdk_cloudformation::error::{ProvideErrorMetadata as _, SdkError};
use aws_sdk_cloudformation::operation::describe_stacks::DescribeStacksError;
use aws_sdk_cloudformation::types as cloudformation;

use crate::aws::{self, Aws, Patience};
use crate::error::{Error, Result};

pub(crate) use arguments::{AFTER_HELP, Arguments, ChangeArguments, StackArguments, run};
pub(crate) use delete::{Retained, delete};
pub(crate) use update::update;

/// The output of the service's stack that names its Streambot stack.
pub(crate) const CHILD: &str = "StreambotStack";

/// What a deploy takes from the stack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StackValues {
    /// The service's environment, in order, each key once.
    pub(crate) environment: Vec<(String, String)>,
    /// Parameters whose value CloudFormation does not tell (NoEcho); they are not in the
    /// environment.
    pub(crate) masked: Vec<String>,
    /// ARN of the role the function runs as.
    pub(crate) execution_role: String,
    /// The stream the function consumes.
    pub(crate) source: Source,
    /// The function's log group, where the stack has one.
    pub(crate) log_group: Option<String>,
    /// What stands before the names of the service's own outputs.
    pub(crate) prefix: String,
    /// Every output, for streams beside that one.
    pub(crate) outputs: Outputs,
}

/// A stream of a stack's, and what belongs to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Source {
    /// ARN of the stream.
    pub(crate) stream: String,
    /// ARN of the consumer with enhanced fan-out that the function reads the stream as, where the
    /// stack has one.
    pub(crate) consumer: Option<String>,
    /// ARN of what the stack has for batches that Lambda gives up on.
    pub(crate) failure_destination: Option<String>,
}

impl Source {
    /// ARN of what the mapping reads: the consumer where there is one, else the stream itself.
    pub(crate) fn arn(&self) -> &str {
        self.consumer.as_deref().unwrap_or(&self.stream)
    }
}

/// The outputs of a service's stack and of its Streambot stack, whose own win.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Outputs {
    /// The Streambot stack's name.
    child: String,
    values: Vec<(String, String)>,
}

impl Outputs {
    fn of(stack: &Stack, child: &Stack) -> Self {
        Self {
            child: child.name.clone(),
            values: child.outputs.iter().chain(&stack.outputs).cloned().collect(),
        }
    }

    /// The name of the Streambot stack, which is the service's own where its template is composed.
    pub(crate) fn child(&self) -> &str {
        &self.child
    }

    /// The output `key` of the Streambot with this prefix; an empty one is none.
    pub(crate) fn get(&self, prefix: &str, key: &str) -> Option<&str> {
        find(&self.values, &format!("{prefix}{key}"))
    }

    fn required(&self, prefix: &str, key: &str) -> Result<String> {
        self.get(prefix, key).map(str::to_owned).ok_or_else(|| {
            let hint = match prefix {
                "" => "it must be a stack of Streambot's template: `streambot-deploy template` prints it".to_owned(),
                _ => format!(
                    "add `Streambot::prefixed(\"{prefix}\")` to its template, or correct `prefix` in Cargo.toml"
                ),
            };
            Error::failed(format!("stack `{}` has no output `{prefix}{key}`", self.child)).hint(hint)
        })
    }

    /// The stream of the Streambot with this prefix.
    ///
    /// # Errors
    /// Failed where the stack has none.
    pub(crate) fn source(&self, prefix: &str) -> Result<Source> {
        let output = |key: &str| self.get(prefix, key).map(str::to_owned);
        Ok(Source {
            stream: self.required(prefix, "KinesisStream")?,
            consumer: output("StreamConsumer"),
            failure_destination: output("FailureDestination"),
        })
    }
}

/// A stack as the API describes it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Stack {
    name: String,
    id: String,
    status: String,
    status_reason: Option<String>,
    parameters: Vec<(String, String)>,
    resources: Vec<(String, String)>,
    outputs: Vec<(String, String)>,
}

/// Reads the stack `name` and the Streambot stack it names. Where that stack's template holds
/// several Streambots, `prefix` stands before the names of this one's outputs.
///
/// # Errors
/// Missing where one of them is not there; failed where it is being changed, was rolled back or did
/// not come up, and where an output that Streambot needs is not among its outputs.
pub(crate) async fn look_up(client: &Client, name: &str, prefix: &str) -> Result<StackValues> {
    let (stack, resources) = tokio::join!(describe(client, name), resources(client, name));
    let mut stack = stack?.ok_or_else(|| {
        let region = client.config().region().map_or("the region", |region| region.as_ref());
        Error::missing(format!("stack `{name}` is not there in {region}")).hint(
            "create it first (`streambot-deploy template` prints what it needs), or name its region with --region",
        )
    })?;
    check_status(&stack)?;
    stack.resources = resources?;

    let child_name = child_name(&stack, prefix)?;
    let child = if names(child_name, &stack) {
        stack.clone()
    } else {
        describe(client, child_name).await?.ok_or_else(|| {
            Error::missing(format!(
                "stack `{child_name}`, which the output `{CHILD}` of `{name}` names, is not there"
            ))
            .hint(format!("`{CHILD}` must be the name or ARN of the Streambot stack"))
        })?
    };
    check_status(&child)?;
    values(&stack, &child, prefix)
}

/// How long to wait for a stack, which has many resources to wait for.
fn patience(aws: &Aws) -> Patience {
    Patience { change: aws.patience.change * 12, ..aws.patience }
}

/// Describes one stack, without its resources; nothing where there is no such stack.
async fn describe(client: &Client, name: &str) -> Result<Option<Stack>> {
    let answer = match client.describe_stacks().stack_name(name).send().await {
        Ok(answer) => answer,
        Err(error) if does_not_exist(&error) => return Ok(None),
        Err(error) => return Err(aws::failed(format!("describing stack `{name}`"), error)),
    };
    Ok(answer.stacks.unwrap_or_default().into_iter().next().map(Stack::from))
}

/// CloudFormation has no error of its own for a stack that is not there; it says so in a validation
/// error's text.
pub(crate) fn does_not_exist(error: &SdkError<DescribeStacksError>) -> bool {
    error.as_service_error().is_some_and(|error| {
        error.code() == Some("ValidationError")
            && error.message().is_some_and(|message| message.contains("does not exist"))
    })
}

/// Every resource's logical and physical id, page by page.
pub(crate) async fn resources(client: &Client, name: &str) -> Result<Vec<(String, String)>> {
    let mut pages = client.list_stack_resources().stack_name(name).into_paginator().items().send();
    let mut resources = Vec::new();
    while let Some(resource) = pages.next().await {
        let resource = resource.map_err(|error| {
            aws::failed(format!("listing the resources of stack `{name}`"), error)
        })?;
        if let (Some(logical), Some(physical)) =
            (resource.logical_resource_id, resource.physical_resource_id)
        {
            resources.push((logical, physical));
        }
    }
    resources.sort();
    Ok(resources)
}

impl From<cloudformation::Stack> for Stack {
    fn from(stack: cloudformation::Stack) -> Self {
        let parameter = |parameter: cloudformation::Parameter| {
            // For a parameter of an SSM type, ParameterValue is only the name of the SSM parameter.
            let value = parameter.resolved_value.or(parameter.parameter_value);
            Some((parameter.parameter_key?, value.unwrap_or_default()))
        };
        let output = |output: cloudformation::Output| {
            Some((output.output_key?, output.output_value.unwrap_or_default()))
        };
        // AWS promises no order, and the same values must make the same bundle.
        let sorted = |mut values: Vec<(String, String)>| {
            values.sort();
            values
        };
        Self {
            name: stack.stack_name.unwrap_or_default(),
            id: stack.stack_id.unwrap_or_default(),
            status: stack
                .stack_status
                .map_or_else(String::new, |status| status.as_str().to_owned()),
            status_reason: stack.stack_status_reason,
            parameters: sorted(
                stack.parameters.into_iter().flatten().filter_map(parameter).collect(),
            ),
            resources: Vec::new(),
            outputs: sorted(stack.outputs.into_iter().flatten().filter_map(output).collect()),
        }
    }
}

/// Whether the stack stands as its template says. `UPDATE_ROLLBACK_COMPLETE` does: it is what it
/// was before a failed update.
fn check_status(stack: &Stack) -> Result<()> {
    let Stack { name, status, .. } = stack;
    match status.as_str() {
        "CREATE_COMPLETE"
        | "UPDATE_COMPLETE"
        | "UPDATE_ROLLBACK_COMPLETE"
        | "IMPORT_COMPLETE"
        | "IMPORT_ROLLBACK_COMPLETE" => return Ok(()),
        "DELETE_COMPLETE" => {
            return Err(
                Error::missing(format!("stack `{name}` was deleted")).hint("create it again")
            );
        }
        "REVIEW_IN_PROGRESS" => {
            return Err(Error::failed(format!(
                "stack `{name}` has only a change set, and no resources"
            ))
            .hint("execute the change set, then deploy"));
        }
        _ => {}
    }
    let (message, hint) = if status.starts_with("DELETE_") {
        ("is being deleted or could not be", "delete it, then create it again")
    } else if status.ends_with("_IN_PROGRESS") {
        ("is still being changed", "wait until it is done, then deploy")
    } else if status == "ROLLBACK_COMPLETE" {
        (
            "could not be created and was rolled back",
            "delete it, mend its template, and create it again",
        )
    } else {
        ("did not come up", "mend the stack, then deploy; its events tell why")
    };
    let error = Error::failed(format!("stack `{name}` {message} ({status})")).hint(hint);
    Err(match &stack.status_reason {
        Some(reason) => error.because(reason.clone()),
        None => error,
    })
}

/// With a prefix, the output may have it or not: a small stack that names a shared one has no need
/// to.
fn child_name<'a>(stack: &'a Stack, prefix: &str) -> Result<&'a str> {
    find(&stack.outputs, &format!("{prefix}{CHILD}"))
        .or_else(|| find(&stack.outputs, CHILD))
        .ok_or_else(|| {
            Error::failed(format!("stack `{}` has no output `{CHILD}`", stack.name)).hint(format!(
                "add an output `{CHILD}` with the nested Streambot stack's ARN or name, or with \
             {{\"Ref\": \"AWS::StackName\"}} where the template holds Streambot's resources itself"
            ))
        })
}

fn names(child: &str, stack: &Stack) -> bool {
    child == stack.name || child == stack.id
}

fn find<'a>(values: &'a [(String, String)], key: &str) -> Option<&'a str> {
    values
        .iter()
        .find(|(name, value)| name == key && !value.is_empty())
        .map(|(_, value)| value.as_str())
}

fn values(stack: &Stack, child: &Stack, prefix: &str) -> Result<StackValues> {
    let outputs = Outputs::of(stack, child);
    Ok(StackValues {
        execution_role: outputs.required(prefix, "LambdaExecutionRole")?,
        source: outputs.source(prefix)?,
        log_group: outputs.get(prefix, "LogGroup").map(str::to_owned),
        masked: masked(stack).map(|(key, _)| key.clone()).collect(),
        environment: environment(stack, child, prefix),
        prefix: prefix.to_owned(),
        outputs,
    })
}

/// The values of a service: `StackName`, then parameters, resources and outputs of its stack, then
/// the Streambot stack's outputs. A later one wins, at the place of the first. The runtime knows
/// outputs without a prefix, so those that have it come last under their plain names.
fn environment(stack: &Stack, child: &Stack, prefix: &str) -> Vec<(String, String)> {
    let stack_name = ("StackName".to_owned(), stack.name.clone());
    let told = stack.parameters.iter().filter(|parameter| !is_masked(parameter));
    let plain = |(key, value): &(String, String)| {
        let name =
            key.strip_prefix(prefix).filter(|name| !prefix.is_empty() && !name.is_empty())?;
        Some((name.to_owned(), value.clone()))
    };
    let plain: Vec<(String, String)> = child.outputs.iter().filter_map(plain).collect();
    let all = std::iter::once(&stack_name)
        .chain(told)
        .chain(&stack.resources)
        .chain(&stack.outputs)
        .chain(&child.outputs)
        .chain(&plain);

    let mut values: Vec<(String, String)> = Vec::new();
    for (key, value) in all {
        match values.iter_mut().find(|(known, _)| known == key) {
            Some((_, known)) => known.clone_from(value),
            None => values.push((key.clone(), value.clone())),
        }
    }
    values
}

fn masked(stack: &Stack) -> impl Iterator<Item = &(String, String)> {
    stack.parameters.iter().filter(|parameter| is_masked(parameter))
}

/// A NoEcho parameter's value arrives as asterisks. They are not the value, and the value would be
/// a secret: neither belongs in the environment.
/// <https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/parameters-section-structure.html>
fn is_masked((_, value): &(String, String)) -> bool {
    value.len() >= 4 && value.bytes().all(|byte| byte == b'*')
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect()
    }

    fn service() -> Stack {
        Stack {
            name: "quakes-staging".into(),
            id: "arn:aws:cloudformation:us-east-1:123456789012:stack/quakes-staging/1".into(),
            status: "CREATE_COMPLETE".into(),
            status_reason: None,
            parameters: pairs(&[("Bucket", "parameter"), ("Token", "****")]),
            resources: pairs(&[
                ("StreambotStack", "arn:child"),
                ("Table", "quakes-staging-Table-1"),
            ]),
            outputs: pairs(&[("StreambotStack", "arn:child"), ("Bucket", "output")]),
        }
    }

    fn streambot() -> Stack {
        Stack {
            name: "quakes-staging-StreambotStack-1".into(),
            id: "arn:child".into(),
            status: "CREATE_COMPLETE".into(),
            outputs: pairs(&[
                ("KinesisStream", "arn:stream"),
                ("LambdaExecutionRole", "arn:role"),
                ("LogBucket", ""),
                ("Table", "the child's"),
            ]),
            ..Stack::default()
        }
    }

    #[test]
    fn the_environment_is_in_order_and_a_later_value_wins() {
        assert_eq!(
            environment(&service(), &streambot(), ""),
            pairs(&[
                ("StackName", "quakes-staging"),
                ("Bucket", "output"),
                ("StreambotStack", "arn:child"),
                ("Table", "the child's"),
                ("KinesisStream", "arn:stream"),
                ("LambdaExecutionRole", "arn:role"),
                ("LogBucket", ""),
            ])
        );
    }

    #[test]
    fn a_masked_parameter_is_left_out_and_named() {
        let values = values(&service(), &streambot(), "").unwrap();
        assert_eq!(values.masked, ["Token"]);
        assert!(values.environment.iter().all(|(key, _)| key != "Token"));
        assert!(!is_masked(&("Stars".into(), "***".into())));
        assert!(!is_masked(&("Mixed".into(), "****a".into())));
    }

    #[test]
    fn an_ssm_parameter_gives_what_it_resolved_to() {
        let parameter = cloudformation::Parameter::builder()
            .parameter_key("Image")
            .parameter_value("/service/image")
            .resolved_value("ami-1")
            .build();
        let stack = Stack::from(cloudformation::Stack::builder().parameters(parameter).build());
        assert_eq!(stack.parameters, pairs(&[("Image", "ami-1")]));
    }

    #[test]
    fn a_stack_names_itself_by_name_or_arn() {
        let stack = service();
        assert!(names(&stack.name, &stack));
        assert!(names(&stack.id, &stack));
        assert!(!names("arn:child", &stack));
    }

    #[test]
    fn a_stack_that_names_itself_gives_its_own_outputs() {
        let mut stack = service();
        stack.outputs.extend(pairs(&[
            ("LambdaExecutionRole", "arn:role"),
            ("KinesisStream", "arn:stream"),
            ("LogGroup", "quakes"),
        ]));
        let values = values(&stack, &stack, "").unwrap();
        assert_eq!(values.execution_role, "arn:role");
        assert_eq!(values.log_group.as_deref(), Some("quakes"));
    }

    #[test]
    fn a_prefix_tells_apart_the_streambots_of_one_stack() {
        let mut shared = Stack { name: "shop-production".into(), ..streambot() };
        shared.outputs = pairs(&[
            ("OrdersKinesisStream", "arn:orders"),
            ("OrdersLambdaExecutionRole", "arn:orders-role"),
            ("OrdersMetricName", "shop-production-Orders"),
            ("PaymentsKinesisStream", "arn:payments"),
            ("PaymentsLambdaExecutionRole", "arn:payments-role"),
            ("PaymentsStreamConsumer", "arn:consumer"),
            ("PaymentsFailureDestination", "arn:bucket"),
            ("PaymentsMetricName", "shop-production-Payments"),
            ("OrdersStreambotStack", "shop-production"),
        ]);
        let orders = values(&service(), &shared, "Orders").unwrap();
        assert_eq!(
            (orders.source.arn(), orders.execution_role.as_str()),
            ("arn:orders", "arn:orders-role")
        );
        assert_eq!(orders.source.failure_destination, None);
        let payments = values(&service(), &shared, "Payments").unwrap();
        assert_eq!(
            (payments.source.arn(), payments.source.stream.as_str()),
            ("arn:consumer", "arn:payments")
        );
        assert_eq!(payments.source.failure_destination.as_deref(), Some("arn:bucket"));
        assert_eq!(find(&payments.environment, "MetricName"), Some("shop-production-Payments"));
        assert_eq!(find(&payments.environment, "KinesisStream"), Some("arn:payments"));

        assert_eq!(child_name(&shared, "Orders").unwrap(), "shop-production");
        assert_eq!(child_name(&service(), "Orders").unwrap(), "arn:child");
        let report = values(&service(), &shared, "Refunds").unwrap_err().report();
        assert!(
            report.contains("stack `shop-production` has no output `RefundsLambdaExecutionRole`"),
            "{report}"
        );
        assert!(report.contains("correct `prefix` in Cargo.toml"), "{report}");
    }

    #[test]
    fn each_missing_output_is_named_with_its_stack() {
        for key in ["LambdaExecutionRole", "KinesisStream"] {
            let mut child = streambot();
            child.outputs.retain(|(name, _)| name != key);
            let error = values(&service(), &child, "").unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("stack `quakes-staging-StreambotStack-1` has no output `{key}`")
            );
        }
        let mut stack = service();
        stack.outputs.retain(|(name, _)| name != CHILD);
        let error = child_name(&stack, "").unwrap_err();
        assert_eq!(error.to_string(), "stack `quakes-staging` has no output `StreambotStack`");
    }

    #[test]
    fn every_status_is_usable_or_says_why_not() {
        let told = |status: cloudformation::StackStatus| {
            let stack = Stack { status: status.as_str().into(), ..service() };
            check_status(&stack).err().map(|error| (error.to_string(), error.exit_code()))
        };
        use cloudformation::StackStatus as Status;
        for usable in [
            Status::CreateComplete,
            Status::UpdateComplete,
            Status::UpdateRollbackComplete,
            Status::ImportComplete,
        ] {
            assert_eq!(told(usable), None);
        }
        for (status, part, exit_code) in [
            (Status::UpdateInProgress, "is still being changed (UPDATE_IN_PROGRESS)", 1),
            (Status::UpdateCompleteCleanupInProgress, "is still being changed", 1),
            (Status::ReviewInProgress, "has only a change set", 1),
            (Status::RollbackComplete, "was rolled back", 1),
            (Status::RollbackFailed, "did not come up (ROLLBACK_FAILED)", 1),
            (Status::CreateFailed, "did not come up", 1),
            (Status::UpdateRollbackFailed, "did not come up", 1),
            (Status::DeleteInProgress, "is being deleted", 1),
            (Status::DeleteFailed, "is being deleted or could not be", 1),
            (Status::DeleteComplete, "was deleted", 3),
        ] {
            let (message, code) = told(status).unwrap();
            assert!(message.contains(part), "{message}");
            assert_eq!(code, exit_code, "{message}");
        }
    }

    #[test]
    fn the_reason_of_a_failed_stack_is_told() {
        let stack = Stack {
            status: "CREATE_FAILED".into(),
            status_reason: Some("the role is not allowed".into()),
            ..service()
        };
        let report = check_status(&stack).unwrap_err().report();
        assert!(report.contains("because: the role is not allowed"), "{report}");
    }
}
