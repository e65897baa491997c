//! `destroy` against moto: what it removes and what stays, from a whole deploy and from what an
//! earlier run left.

mod support;

use anyhow::{Context as _, Result, ensure};
use aws_sdk_cloudformation::types::Capability;
use serde_json::{Value, json};

use support::{REGION, Server, Service, streambot_deploy};

struct Aws {
    cloudformation: aws_sdk_cloudformation::Client,
    lambda: aws_sdk_lambda::Client,
    logs: aws_sdk_cloudwatchlogs::Client,
}

impl Aws {
    async fn of(server: &Server) -> Self {
        let config = server.config(REGION).await;
        Self {
            cloudformation: aws_sdk_cloudformation::Client::new(&config),
            lambda: aws_sdk_lambda::Client::new(&config),
            logs: aws_sdk_cloudwatchlogs::Client::new(&config),
        }
    }

    /// Creates a stack that is Streambot's own, with these outputs taken away.
    async fn stack(&self, name: &str, without: &[&str]) -> Result<()> {
        let mut template: Value =
            serde_json::from_slice(&streambot_deploy().arg("template").output()?.stdout)?;
        let outputs = template["Outputs"].as_object_mut().context("outputs")?;
        for output in without {
            outputs.remove(*output).context("the output is there")?;
        }
        outputs
            .insert("StreambotStack".to_owned(), json!({ "Value": { "Ref": "AWS::StackName" } }));
        self.cloudformation
            .create_stack()
            .stack_name(name)
            .template_body(template.to_string())
            .capabilities(Capability::CapabilityIam)
            .send()
            .await?;
        Ok(())
    }

    async fn log_groups(&self) -> Result<Vec<String>> {
        let answer = self.logs.describe_log_groups().send().await?;
        Ok(answer
            .log_groups()
            .iter()
            .filter_map(|group| group.log_group_name().map(str::to_owned))
            .collect())
    }

    async fn mappings(&self) -> Result<usize> {
        Ok(self.lambda.list_event_source_mappings().send().await?.event_source_mappings().len())
    }

    async fn functions(&self) -> Result<usize> {
        Ok(self.lambda.list_functions().send().await?.functions().len())
    }
}

fn destroy(service: &Service, arguments: &[&str], code: i32) -> Result<(Value, String)> {
    let output =
        service.command(["destroy", "staging", "--output", "json"]).args(arguments).output()?;
    let said = String::from_utf8(output.stderr)?;
    ensure!(output.status.code() == Some(code), "{:?}: {said}", output.status);
    Ok((serde_json::from_slice(&output.stdout).unwrap_or_default(), said))
}

#[tokio::test]
async fn a_deploy_is_removed_once_confirmed_and_the_stack_stays() -> Result<()> {
    let moto = Server::moto()?;
    let aws = Aws::of(&moto).await;
    let service = Service::new("quakes", &moto)?;
    aws.stack("quakes-staging", &["LogGroup"]).await?;
    let deployed = service.run(&["staging"])?;
    service.run(&["staging", "--memory", "256"])?;
    let (own, other) = ("/aws/lambda/quakes-staging", "/aws/lambda/quakes-staging-other");
    for group in [own, other] {
        aws.logs.create_log_group().log_group_name(group).send().await?;
    }
    let groups = aws.log_groups().await?;

    let (_, said) = destroy(&service, &[], 4)?;
    let mapping = deployed["event_source_mappings"][0]["uuid"].as_str().context("UUID")?;
    assert!(
        said.contains(&format!("not confirmed: remove event source mapping {mapping}, function ")),
        "{said}"
    );
    assert!(
        said.contains(
            "with version 1, version 2, alias current, log group /aws/lambda/quakes-staging?"
        ),
        "{said}"
    );
    assert_eq!((aws.mappings().await?, aws.functions().await?), (1, 1));
    assert_eq!(aws.log_groups().await?, groups);

    let (answer, _) = destroy(&service, &["--yes"], 0)?;
    assert_eq!(answer["event_source_mappings"], json!([mapping]));
    assert_eq!(answer["function"], deployed["function"]);
    assert_eq!(answer["versions"], json!(["1", "2"]));
    assert_eq!(answer["aliases"], json!(["current"]));
    assert_eq!(answer["log_group"], own);
    let stays = answer["stays"][0].as_str().context("the stack stays")?;
    assert!(
        stays.starts_with("stack `quakes-staging`, with its stream arn:aws:kinesis:"),
        "{stays}"
    );
    assert_eq!((aws.mappings().await?, aws.functions().await?), (0, 0));
    let left: Vec<_> = groups.into_iter().filter(|group| group != own).collect();
    assert_eq!(aws.log_groups().await?, left, "no other group is touched");
    aws.cloudformation.describe_stacks().stack_name("quakes-staging").send().await?;

    let (_, said) = destroy(&service, &["--yes"], 3)?;
    assert!(said.contains("nothing of function `quakes-staging` is in us-east-1"), "{said}");
    assert!(said.contains("what stays: stack `quakes-staging`"), "{said}");
    service.run(&["staging"])?;
    assert_eq!((aws.mappings().await?, aws.functions().await?), (1, 1));

    let (answer, _) = destroy(&service, &["--yes", "--stack"], 0)?;
    assert_eq!((&answer["stack"], &answer["stays"]), (&json!("quakes-staging"), &json!([])));
    assert_eq!((aws.mappings().await?, aws.functions().await?), (0, 0));
    assert!(
        aws.cloudformation.describe_stacks().stack_name("quakes-staging").send().await.is_err()
    );
    let (_, said) = destroy(&service, &["--yes", "--stack"], 3)?;
    assert!(said.contains("nothing of function `quakes-staging` is in us-east-1"), "{said}");
    Ok(())
}

#[tokio::test]
async fn the_stacks_own_log_group_stays_with_it() -> Result<()> {
    let moto = Server::moto()?;
    let aws = Aws::of(&moto).await;
    let service = Service::new("quakes", &moto)?;
    aws.stack("quakes-staging", &[]).await?;
    service.run(&["staging"])?;
    aws.logs.create_log_group().log_group_name("/aws/lambda/quakes-staging").send().await?;
    let groups = aws.log_groups().await?;
    assert_eq!(groups.len(), 2, "{groups:?}");
    let (answer, _) = destroy(&service, &["--yes"], 0)?;
    assert_eq!(answer["log_group"], Value::Null);
    assert!(
        answer["stays"][0].as_str().is_some_and(|stays| stays.contains("its log group ")),
        "{answer}"
    );
    assert_eq!(aws.log_groups().await?, groups);
    Ok(())
}

/// What is left after a run that was killed, or by hand: each part alone, with and without the
/// stack.
#[tokio::test]
async fn whatever_is_left_is_removed() -> Result<()> {
    let moto = Server::moto()?;
    let aws = Aws::of(&moto).await;
    let service = Service::new("quakes", &moto)?;
    aws.stack("quakes-staging", &["LogGroup"]).await?;

    let deployed = service.run(&["staging"])?;
    let mapping = deployed["event_source_mappings"][0]["uuid"].as_str().context("UUID")?;
    aws.lambda.delete_event_source_mapping().uuid(mapping).send().await?;
    let (answer, _) = destroy(&service, &["--yes"], 0)?;
    assert_eq!(answer["event_source_mappings"], json!([]));
    assert_eq!(answer["function"], deployed["function"]);

    // Lambda keeps the mapping of a function that is gone.
    service.run(&["staging"])?;
    aws.lambda.delete_function().function_name("quakes-staging").send().await?;
    let (answer, _) = destroy(&service, &["--yes"], 0)?;
    assert_eq!(answer["event_source_mappings"].as_array().map(Vec::len), Some(1));
    assert_eq!(answer["function"], Value::Null);

    aws.logs.create_log_group().log_group_name("/aws/lambda/quakes-staging").send().await?;
    let (answer, _) = destroy(&service, &["--yes"], 0)?;
    assert_eq!(answer["log_group"], "/aws/lambda/quakes-staging");

    service.run(&["staging"])?;
    aws.cloudformation.delete_stack().stack_name("quakes-staging").send().await?;
    let (answer, _) = destroy(&service, &["--yes"], 0)?;
    assert_eq!(answer["function"], deployed["function"]);
    assert_eq!(answer["stays"], json!([]));
    assert_eq!((aws.mappings().await?, aws.functions().await?), (0, 0));

    let (_, said) = destroy(&service, &["--yes"], 3)?;
    assert!(said.contains("name its region with --region"), "{said}");
    Ok(())
}

#[tokio::test]
async fn the_answer_in_text_names_each_part() -> Result<()> {
    let moto = Server::moto()?;
    let aws = Aws::of(&moto).await;
    let service = Service::new("quakes", &moto)?;
    aws.stack("quakes-staging", &["LogGroup"]).await?;
    let deployed = service.run(&["staging"])?;
    let output = service.command(["destroy", "staging", "--yes"]).output()?;
    let said = String::from_utf8(output.stdout)?;
    let lines: Vec<_> = said.lines().collect();
    let mapping = deployed["event_source_mappings"][0]["uuid"].as_str().context("UUID")?;
    let function = deployed["function"].as_str().context("ARN")?;
    assert_eq!(lines[0], format!("removed: event source mapping {mapping}"));
    assert_eq!(lines[1], format!("removed: function {function} with version 1, alias current"));
    assert!(lines[2].starts_with("stays: stack `quakes-staging`, "), "{said}");
    Ok(())
}
