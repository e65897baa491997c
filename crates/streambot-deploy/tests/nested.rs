//! `deploy` against LocalStack, which nests stacks: a service's stack whose Streambot stack is a
//! child of its own, as in 1.0.

mod support;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use aws_sdk_cloudformation::types::{Capability, Parameter};
use serde_json::json;

use support::{REGION, Server, Service, dotenv, example_template, streambot_deploy, unzip};

const BUCKET: &str = "templates";

/// Puts Streambot's template where CloudFormation finds it, and tells its address.
async fn upload_template(server: &Server) -> Result<String> {
    let output = streambot_deploy().arg("template").output()?;
    ensure!(output.status.success());
    let config = aws_sdk_s3::config::Builder::from(&server.config(REGION).await)
        .force_path_style(true)
        .build();
    let s3 = aws_sdk_s3::Client::from_conf(config);
    s3.create_bucket().bucket(BUCKET).send().await?;
    s3.put_object()
        .bucket(BUCKET)
        .key("streambot.template")
        .body(output.stdout.into())
        .send()
        .await?;
    Ok(format!("{}/{BUCKET}/streambot.template", server.url()))
}

/// Creates the example's nested stack and waits until it and its child are complete.
async fn create_stack(
    client: &aws_sdk_cloudformation::Client,
    name: &str,
    template_url: &str,
) -> Result<()> {
    client
        .create_stack()
        .stack_name(name)
        .template_body(example_template("nested_template")?)
        .parameters(
            Parameter::builder().parameter_key("TemplateURL").parameter_value(template_url).build(),
        )
        .capabilities(Capability::CapabilityIam)
        .send()
        .await?;
    // The SDK's own waiter looks every thirty seconds.
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        let answer = client.describe_stacks().stack_name(name).send().await?;
        let status =
            answer.stacks()[0].stack_status().context("a stack has a status")?.as_str().to_owned();
        if status == "CREATE_COMPLETE" {
            return Ok(());
        }
        if !status.ends_with("_IN_PROGRESS") || Instant::now() > deadline {
            let events = client.describe_stack_events().stack_name(name).send().await?;
            bail!("{status}: {:#?}", events.stack_events());
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test]
async fn a_nested_stack_is_found_by_the_arn_its_parent_gives() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let server = Server::localstack(folder.path())?;
    let cloudformation = aws_sdk_cloudformation::Client::new(&server.config(REGION).await);
    let template_url = upload_template(&server).await?;
    create_stack(&cloudformation, "nested-staging", &template_url).await?;

    // LocalStack takes the function and then cannot start it without Docker, so a deploy ends
    // there, and so does the next one.
    let service = Service::new("nested", &server)?;
    for _ in 0..2 {
        let said = service.fails(&["staging"], 1)?;
        assert!(
            said.contains("error: function `nested-staging` did not come up (Failed)\n  because: "),
            "{said}"
        );
    }

    let values = values_in(&service.path("build/bundle.zip"))?;
    let value =
        |key: &str| values.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str());
    assert_eq!(value("StackName"), Some("nested-staging"));
    assert_eq!(value("TemplateURL"), Some(template_url.as_str()));
    let child = value("StreambotStack").context("the child is named")?;
    assert!(child.starts_with("arn:aws:cloudformation:us-east-1:"), "{child}");
    let child = child.split('/').nth(1).context("an ARN holds the name")?;
    assert_eq!(value("MetricName"), Some(child));
    let stream = value("KinesisStream").context("the child has a stream")?;
    assert!(stream.contains(&format!(":stream/{child}-Stream-")), "{stream}");

    let lambda = aws_sdk_lambda::Client::new(&server.config(REGION).await);
    let function =
        lambda.get_function().function_name("nested-staging").send().await?.configuration;
    let function = function.context("the function is there")?;
    assert_eq!(function.role(), value("LambdaExecutionRole"));
    assert_eq!(
        function.logging_config().and_then(|logging| logging.log_group()),
        value("LogGroup")
    );
    // Nothing may read the stream before the function is up.
    let mappings = lambda.list_event_source_mappings().event_source_arn(stream).send().await?;
    assert!(mappings.event_source_mappings().is_empty());
    Ok(())
}

fn values_in(bundle: &Path) -> Result<Vec<(String, String)>> {
    let files = unzip(bundle)?;
    let (_, _, contents) =
        files.iter().find(|(name, ..)| name == ".env").context("the bundle has a .env")?;
    dotenv(contents)
}

/// A stack of LocalStack's, by its name.
struct Nested<'a> {
    client: &'a aws_sdk_cloudformation::Client,
    name: &'a str,
}

impl Nested<'_> {
    async fn until(&self, wanted: &str) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(120);
        loop {
            let answer = self.client.describe_stacks().stack_name(self.name).send().await;
            let status = match &answer {
                Ok(answer) => {
                    answer.stacks()[0].stack_status().context("a stack has a status")?.as_str()
                }
                Err(_) => "DELETE_COMPLETE",
            };
            if status == wanted {
                return Ok(());
            }
            if !status.ends_with("_IN_PROGRESS") || Instant::now() > deadline {
                let events =
                    self.client.describe_stack_events().stack_name(self.name).send().await?;
                bail!("{status}, not {wanted}: {:#?}", events.stack_events());
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    async fn update(&self, template: &str, parameters: &[(&str, &str)]) -> Result<()> {
        let parameters = parameters.iter().map(|(key, value)| {
            Parameter::builder().parameter_key(*key).parameter_value(*value).build()
        });
        self.client
            .update_stack()
            .stack_name(self.name)
            .template_body(template)
            .set_parameters(Some(parameters.collect()))
            .capabilities(Capability::CapabilityIam)
            .send()
            .await?;
        self.until("UPDATE_COMPLETE").await
    }

    async fn outputs(&self) -> Result<Vec<(String, String)>> {
        let answer = self.client.describe_stacks().stack_name(self.name).send().await?;
        let outputs = answer.stacks()[0].outputs().iter();
        let pair = |output: &aws_sdk_cloudformation::types::Output| {
            Some((output.output_key()?.to_owned(), output.output_value()?.to_owned()))
        };
        Ok(outputs.filter_map(pair).collect())
    }
}

/// A stack with the logical ids, types, role paths, parameters and outputs that 1.0's template had:
/// what an update in place has to keep. Its policies are of this test alone, the broad ones it is
/// remembered for.
fn streambot_1_0() -> String {
    let optional = json!({ "Type": "String", "Default": "" });
    let role = |service: &str, path: &str, actions: &str| {
        json!({ "Type": "AWS::IAM::Role", "Properties": {
            "Path": path,
            "AssumeRolePolicyDocument": { "Version": "2012-10-17", "Statement": [
                { "Effect": "Allow", "Principal": { "Service": service }, "Action": "sts:AssumeRole" },
            ] },
            "Policies": [{ "PolicyName": "ExecutionPolicy", "PolicyDocument": { "Version": "2012-10-17", "Statement": [
                { "Effect": "Allow", "Action": actions, "Resource": { "Fn::GetAtt": ["Stream", "Arn"] } },
            ] } }],
        } })
    };
    let output = |value: serde_json::Value| json!({ "Value": value });
    let template = json!({
        "Parameters": {
            "AlarmEmail": optional, "LogBucket": optional, "LogPrefix": optional, "KinesisStreamArn": optional,
            "NumberOfShards": { "Type": "Number", "Default": 1 },
        },
        "Resources": {
            "Stream": { "Type": "AWS::Kinesis::Stream", "Properties": { "ShardCount": { "Ref": "NumberOfShards" } } },
            "AlarmSNS": { "Type": "AWS::SNS::Topic" },
            "ErrorAlarm": { "Type": "AWS::CloudWatch::Alarm", "Properties": {
                "Namespace": "streambot", "MetricName": { "Ref": "AWS::StackName" },
                "Dimensions": [{ "Name": "Status", "Value": "Error" }],
                "Statistic": "Sum", "Period": 60, "EvaluationPeriods": 1, "Threshold": 0,
                "ComparisonOperator": "GreaterThanThreshold", "AlarmActions": [{ "Ref": "AlarmSNS" }],
            } },
            "ExecutionRole": role("lambda.amazonaws.com", "/lambda/", "kinesis:Get*"),
            "ProviderRole": role("ec2.amazonaws.com", "/kinesis/", "kinesis:*"),
        },
        "Outputs": {
            "KinesisStream": output(json!({ "Fn::GetAtt": ["Stream", "Arn"] })),
            "LambdaExecutionRole": output(json!({ "Fn::GetAtt": ["ExecutionRole", "Arn"] })),
            "LambdaExecutionRoleName": output(json!({ "Ref": "ExecutionRole" })),
            "KinesisAdminRole": output(json!({ "Fn::GetAtt": ["ProviderRole", "Arn"] })),
            "MetricName": output(json!({ "Ref": "AWS::StackName" })),
            "LogBucket": output(json!({ "Ref": "LogBucket" })),
            "LogPrefix": output(json!({ "Ref": "LogPrefix" })),
            "StackRegion": output(json!({ "Ref": "AWS::Region" })),
        },
    });
    template.to_string()
}

#[tokio::test]
async fn a_stack_of_1_0_is_updated_in_place_changed_and_deleted() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let server = Server::localstack(folder.path())?;
    let client = aws_sdk_cloudformation::Client::new(&server.config(REGION).await);
    let stack = Nested { client: &client, name: "veteran" };
    client
        .create_stack()
        .stack_name(stack.name)
        .template_body(streambot_1_0())
        .capabilities(Capability::CapabilityIam)
        .send()
        .await?;
    stack.until("CREATE_COMPLETE").await?;
    let before = stack.outputs().await?;

    let template = String::from_utf8(streambot_deploy().arg("template").output()?.stdout)?;
    stack.update(&template, &[]).await?;
    let after = stack.outputs().await?;
    for output @ (name, _) in &before {
        // LocalStack makes a changed role anew, where AWS changes it in place.
        let told = if name.contains("Role") {
            after.iter().any(|(key, _)| key == name)
        } else {
            after.contains(output)
        };
        assert!(told, "{output:?} is not among {after:?}");
    }

    stack
        .update(
            &template,
            &[
                ("FailureDestinationType", "S3"),
                ("EnhancedFanOut", "true"),
                ("RetentionHours", "48"),
            ],
        )
        .await?;
    let outputs = stack.outputs().await?;
    let value =
        |key: &str| outputs.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str());
    assert_eq!(
        value("KinesisStream"),
        before.iter().find(|(name, _)| name == "KinesisStream").map(|(_, value)| value.as_str())
    );
    assert!(
        value("FailureDestination").is_some_and(|arn| arn.starts_with("arn:aws:s3:::")),
        "{outputs:?}"
    );
    assert!(
        value("StreamConsumer").is_some_and(|arn| arn.contains("/consumer/veteran")),
        "{outputs:?}"
    );
    assert!(value("AlarmTopic").is_some_and(|arn| arn.starts_with("arn:aws:sns:")), "{outputs:?}");

    client.delete_stack().stack_name(stack.name).send().await?;
    stack.until("DELETE_COMPLETE").await
}
