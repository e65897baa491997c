//! Whether a role can do the function's work, asked before anything is changed: it is there, Lambda
//! may take it, and it may read the streams and write the log. It refuses to mend what is missing;
//! it names it.

use aws_sdk_iam::Client;
use aws_sdk_iam::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_iam::types::{EvaluationResult, PolicyEvaluationDecisionType};
use percent_encoding::percent_decode_str;
use serde_json::Value;

use crate::aws::{Aws, failed};
use crate::error::{Error, Result};
use crate::progress;

/// What Lambda does with a stream on the function's behalf:
/// <https://docs.aws.amazon.com/lambda/latest/dg/with-kinesis.html#events-kinesis-permissions>.
const READS_STREAM: [&str; 5] = [
    "kinesis:DescribeStream",
    "kinesis:DescribeStreamSummary",
    "kinesis:GetRecords",
    "kinesis:GetShardIterator",
    "kinesis:ListShards",
];
/// What Lambda does with a consumer, beside what it does with its stream.
const READS_CONSUMER: [&str; 1] = ["kinesis:SubscribeToShard"];
/// What Lambda does with a log group.
const WRITES_LOG: [&str; 2] = ["logs:CreateLogStream", "logs:PutLogEvents"];

/// How often a role is looked at that seems to be missing, or to lack something.
const LOOKS: u32 = 3;

/// Actions that a role needs on one resource.
#[derive(Debug, PartialEq, Eq)]
struct Need {
    actions: &'static [&'static str],
    /// ARN of the resource.
    resource: String,
}

/// Checks the role that the function is to run as, for the streams and consumers `sources` and its
/// log group, where that is known.
///
/// # Errors
/// Failed where the role is not there, does not trust Lambda or may not read a stream. A log that
/// it may not write is warned of. What the caller may not ask is told on standard error and passed
/// over.
pub(crate) async fn check(
    aws: &Aws,
    role: &str,
    sources: &[&str],
    log_group: Option<&str>,
) -> Result<()> {
    let client = Client::new(&aws.config);
    let account = role.split(':').nth(4).unwrap_or_default();
    let needs = needs(sources, log_group, aws.region(), account);
    // A role that a stack has just made is not known everywhere at once.
    let mut waits = aws.patience.waits();
    let mut looks = 1;
    let lacking = loop {
        let simulations = needs.iter().map(|need| lacks(&client, role, need));
        let (trust, lacking) =
            tokio::join!(trust(&client, role), futures_util::future::try_join_all(simulations));
        let lacking = trust.and(lacking);
        let is_fine = lacking.as_ref().is_ok_and(|lacking| lacking.iter().all(Vec::is_empty));
        if is_fine || looks == LOOKS || !waits.wait().await {
            break lacking?;
        }
        looks += 1;
    };
    let (of_log, of_stream): (Vec<_>, Vec<_>) =
        lacking.into_iter().flatten().partition(|right: &String| right.starts_with("logs:"));
    if !of_log.is_empty() {
        progress::warn(format!(
            "role {role} may not {}: the function runs, and leaves no log",
            of_log.join(", ")
        ));
    }
    if of_stream.is_empty() {
        return Ok(());
    }
    Err(Error::failed(format!(
        "role {role} may not do what its function needs: {}",
        of_stream.join(", ")
    ))
    .hint(
        "allow it in the role's policies; a stack of Streambot's template does for its own stream",
    ))
}

/// Whether the role is there and Lambda may take it.
async fn trust(client: &Client, role: &str) -> Result<()> {
    let name = name(role);
    let document = match client.get_role().role_name(name).send().await {
        Ok(answer) => {
            answer.role.and_then(|role| role.assume_role_policy_document).unwrap_or_default()
        }
        Err(error)
            if error
                .as_service_error()
                .is_some_and(|error| error.is_no_such_entity_exception()) =>
        {
            return Err(Error::failed(format!("role {role} is not there"))
                .hint("create it, or correct `role` in Cargo.toml or the stack's output LambdaExecutionRole"));
        }
        Err(error) => return passed_over(&format!("reading role `{name}`"), error),
    };
    let document = percent_decode_str(&document).decode_utf8_lossy();
    // A document that is no JSON is not one that refuses Lambda.
    if serde_json::from_str(&document).is_ok_and(|document| !trusts_lambda(&document)) {
        return Err(Error::failed(format!("role {role} cannot be assumed by Lambda"))
            .hint("allow sts:AssumeRole to the service lambda.amazonaws.com in its trust policy"));
    }
    Ok(())
}

/// The rights of one need that the role has not, as far as the caller may ask.
async fn lacks(client: &Client, role: &str, need: &Need) -> Result<Vec<String>> {
    let request = client
        .simulate_principal_policy()
        .policy_source_arn(role)
        .set_action_names(Some(need.actions.iter().map(|action| (*action).to_owned()).collect()))
        .resource_arns(&need.resource);
    let pages = request.into_paginator().items().send().collect::<Result<Vec<_>, _>>().await;
    let results = match pages {
        Ok(results) => results,
        Err(error)
            if error
                .as_service_error()
                .is_some_and(|error| error.is_no_such_entity_exception()) =>
        {
            Vec::new()
        }
        Err(error) => {
            passed_over(
                &format!("simulating the rights of `{}` on {}", name(role), need.resource),
                error,
            )?;
            Vec::new()
        }
    };
    let denied = results
        .iter()
        .filter(|result| *result.eval_decision() != PolicyEvaluationDecisionType::Allowed);
    let right =
        |result: &EvaluationResult| format!("{} on {}", result.eval_action_name(), need.resource);
    // A policy with conditions cannot be judged without what they are about.
    let (unclear, denied): (Vec<_>, Vec<_>) =
        denied.partition(|result| !result.missing_context_values().is_empty());
    for result in unclear {
        progress::warn(format!(
            "whether role {role} may {} depends on its policies' conditions",
            right(result)
        ));
    }
    Ok(denied.into_iter().map(right).collect())
}

/// The role's name: the last part of its ARN, behind its path.
fn name(role: &str) -> &str {
    role.rsplit('/').next().unwrap_or(role)
}

/// A question that was answered with a refusal, by a caller's lack of rights or a server that does
/// not know it, is no reason to stop.
fn passed_over<E, R>(doing: &str, error: SdkError<E, R>) -> Result<()>
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    R: std::fmt::Debug + Send + Sync + 'static,
{
    if !matches!(error, SdkError::ServiceError(_) | SdkError::ResponseError(_)) {
        return Err(failed(doing, error));
    }
    let code = error
        .as_service_error()
        .and_then(|error| error.code())
        .unwrap_or("no answer to it")
        .to_owned();
    progress::say(format!("the role's rights are not checked: {doing}: {code}"));
    Ok(())
}

fn needs(sources: &[&str], log_group: Option<&str>, region: &str, account: &str) -> Vec<Need> {
    let mut needs = Vec::new();
    for source in sources {
        // A consumer's ARN is its stream's and `/consumer/<name>:<time>`.
        let stream = source.split("/consumer/").next().unwrap_or(source);
        needs.push(Need { actions: &READS_STREAM, resource: stream.to_owned() });
        if stream != *source {
            needs.push(Need { actions: &READS_CONSUMER, resource: (*source).to_owned() });
        }
    }
    needs.extend(log_group.map(|group| Need {
        actions: &WRITES_LOG,
        resource: format!(
            "arn:{}:logs:{region}:{account}:log-group:{group}:log-stream:x",
            partition(region)
        ),
    }));
    needs
}

/// The AWS partition of a region:
/// <https://docs.aws.amazon.com/whitepapers/latest/aws-fault-isolation-boundaries/partitions.html>.
fn partition(region: &str) -> &'static str {
    match region {
        _ if region.starts_with("cn-") => "aws-cn",
        _ if region.starts_with("us-gov-") => "aws-us-gov",
        _ => "aws",
    }
}

/// Whether a trust policy lets Lambda take the role. Conditions are not weighed.
fn trusts_lambda(document: &Value) -> bool {
    let statements = document.get("Statement").map(list).unwrap_or_default();
    statements.into_iter().any(|statement| {
        let has = |value: Option<&Value>, words: &[&str]| {
            value
                .map(list)
                .unwrap_or_default()
                .into_iter()
                .any(|word| word.as_str().is_some_and(|word| words.contains(&word)))
        };
        let principal = statement.get("Principal");
        has(statement.get("Effect"), &["Allow"])
            && has(statement.get("Action"), &["sts:AssumeRole", "sts:*", "*"])
            && (has(principal, &["*"])
                || has(
                    principal.and_then(|principal| principal.get("Service")),
                    &["lambda.amazonaws.com", "*"],
                ))
    })
}

/// A policy writes one value without its list.
fn list(value: &Value) -> Vec<&Value> {
    match value {
        Value::Array(values) => values.iter().collect(),
        value => vec![value],
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn lambda_is_trusted_however_the_policy_is_written() {
        let statement = |action: Value, service: Value| json!({ "Effect": "Allow", "Action": action, "Principal": { "Service": service } });
        for statements in [
            json!([statement(json!("sts:AssumeRole"), json!("lambda.amazonaws.com"))]),
            statement(
                json!(["sts:TagSession", "sts:AssumeRole"]),
                json!(["ec2.amazonaws.com", "lambda.amazonaws.com"]),
            ),
            json!([{ "Effect": "Allow", "Action": "sts:*", "Principal": "*" }]),
        ] {
            assert!(trusts_lambda(&json!({ "Statement": statements })), "{statements}");
        }
        for statements in [
            json!([]),
            json!([statement(json!("sts:AssumeRole"), json!("ec2.amazonaws.com"))]),
            json!([statement(json!("sts:TagSession"), json!("lambda.amazonaws.com"))]),
            json!([{ "Effect": "Deny", "Action": "sts:AssumeRole", "Principal": { "Service": "lambda.amazonaws.com" } }]),
        ] {
            assert!(!trusts_lambda(&json!({ "Statement": statements })), "{statements}");
        }
    }

    #[test]
    fn a_consumer_is_read_beside_its_stream_and_a_log_is_written_in_the_roles_account() {
        let needs = needs(
            &["arn:aws:kinesis:r:1:stream/s/consumer/c:9", "arn:t"],
            Some("/group"),
            "cn-north-1",
            "1",
        );
        let told: Vec<_> =
            needs.iter().map(|need| (need.actions.len(), need.resource.as_str())).collect();
        assert_eq!(
            told,
            [
                (5, "arn:aws:kinesis:r:1:stream/s"),
                (1, "arn:aws:kinesis:r:1:stream/s/consumer/c:9"),
                (5, "arn:t"),
                (2, "arn:aws-cn:logs:cn-north-1:1:log-group:/group:log-stream:x"),
            ]
        );
    }
}
