//! `deploy` and `bundle` against moto, AWS's API in memory: what they leave there and on disk, and
//! what they say when they cannot.

mod support;

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::LazyLock;

use anyhow::{Context as _, Result, ensure};
use aws_sdk_cloudformation::types::{Capability, Parameter};
use aws_sdk_lambda::types::{
    Architecture, FunctionConfiguration, FunctionResponseType, Runtime, State,
};
use serde_json::{Value, json};

use support::proxy::Proxy;
use support::{REGION, Server, Service, dotenv, example_template, streambot_deploy, tool, unzip};

/// One moto for all tests of this file; each has stacks of its own.
static MOTO: LazyLock<Server> = LazyLock::new(|| Server::moto().expect("moto starts"));

/// AWS as a test sees it.
struct Aws {
    cloudformation: aws_sdk_cloudformation::Client,
    lambda: aws_sdk_lambda::Client,
}

impl Aws {
    async fn in_region(region: &str) -> Self {
        let config = MOTO.config(region).await;
        Self {
            cloudformation: aws_sdk_cloudformation::Client::new(&config),
            lambda: aws_sdk_lambda::Client::new(&config),
        }
    }

    async fn new() -> Self {
        Self::in_region(REGION).await
    }

    /// Creates a stack and tells its ARN.
    async fn stack(
        &self,
        name: &str,
        template: &str,
        parameters: &[(&str, &str)],
    ) -> Result<String> {
        let parameters = parameters.iter().map(|(key, value)| {
            Parameter::builder().parameter_key(*key).parameter_value(*value).build()
        });
        let answer = self
            .cloudformation
            .create_stack()
            .stack_name(name)
            .template_body(template)
            .set_parameters(Some(parameters.collect()))
            .capabilities(Capability::CapabilityIam)
            .send()
            .await?;
        answer.stack_id.context("a stack has an id")
    }

    /// Creates a service's stack as 1.0's users have it: one that names a stack of Streambot's
    /// template.
    async fn service(&self, name: &str) -> Result<()> {
        let child = format!("{name}-StreambotStack");
        self.stack(&child, &streambot_template()?, &[]).await?;
        self.stack(name, &naming(&child).to_string(), &[]).await?;
        Ok(())
    }

    async fn function(&self, name: &str) -> Result<(FunctionConfiguration, String)> {
        let function = self.lambda.get_function().function_name(name).send().await?;
        let location = function.code.and_then(|code| code.location).context("code is somewhere")?;
        Ok((function.configuration.context("a function has a configuration")?, location))
    }

    async fn mappings(
        &self,
        stream: &str,
    ) -> Result<Vec<aws_sdk_lambda::types::EventSourceMappingConfiguration>> {
        let answer =
            self.lambda.list_event_source_mappings().event_source_arn(stream).send().await?;
        Ok(answer.event_source_mappings.unwrap_or_default())
    }

    async fn output(&self, stack: &str, key: &str) -> Result<String> {
        let answer = self.cloudformation.describe_stacks().stack_name(stack).send().await?;
        let outputs = answer.stacks()[0].outputs();
        let output = outputs.iter().find(|output| output.output_key() == Some(key));
        output
            .and_then(|output| output.output_value())
            .map(str::to_owned)
            .context("the output is there")
    }
}

/// What `streambot-deploy template` prints.
fn streambot_template() -> Result<String> {
    let output = streambot_deploy().arg("template").output()?;
    ensure!(output.status.success());
    Ok(String::from_utf8(output.stdout)?)
}

/// A service's template that names its Streambot stack.
fn naming(child: &str) -> Value {
    json!({
        "Resources": { "Topic": { "Type": "AWS::SNS::Topic" } },
        "Outputs": { "StreambotStack": { "Value": child } },
    })
}

#[tokio::test]
async fn a_deploy_creates_function_alias_and_mapping_and_the_next_one_changes_them() -> Result<()> {
    let aws = Aws::new().await;
    let service = Service::new("quakes", &MOTO)?;
    aws.service("quakes-staging").await?;
    let stream = aws.output("quakes-staging-StreambotStack", "KinesisStream").await?;
    let role = aws.output("quakes-staging-StreambotStack", "LambdaExecutionRole").await?;

    let first = service.run(&["staging"])?;
    let (function, code) = aws.function("quakes-staging").await?;
    assert_eq!(first["function"], function.function_arn().context("ARN")?);
    assert_eq!(first["version"], "1");
    assert_eq!(first["code_sha256"], function.code_sha256().context("hash")?);
    assert_eq!(function.state(), Some(&State::Active));
    assert_eq!(function.role(), Some(role.as_str()));
    assert_eq!(function.runtime(), Some(&Runtime::Providedal2023));
    assert_eq!(function.handler(), Some("bootstrap"));
    assert_eq!(function.description(), Some("A service of a test"));
    assert_eq!(function.memory_size(), Some(128));
    assert_eq!(function.timeout(), Some(60));
    assert_eq!(function.architectures(), [Architecture::X8664]);
    let alias =
        aws.lambda.get_alias().function_name("quakes-staging").name("current").send().await?;
    assert_eq!(alias.function_version(), Some("1"));
    assert_eq!(first["alias"], alias.alias_arn().context("ARN")?);

    let mappings = aws.mappings(&stream).await?;
    let [mapping] = mappings.as_slice() else { panic!("{mappings:?}") };
    assert_eq!(first["event_source_mappings"][0]["uuid"], mapping.uuid().context("UUID")?);
    assert_eq!(mapping.state(), Some("Enabled"));
    assert_eq!(mapping.batch_size(), Some(100));
    assert_eq!(mapping.starting_position().map(|position| position.as_str()), Some("TRIM_HORIZON"));
    assert_eq!(mapping.maximum_retry_attempts(), Some(-1));
    assert_eq!(mapping.function_response_types(), [FunctionResponseType::ReportBatchItemFailures]);

    // Nothing changed: the same code, not uploaded again (moto stores each upload under a key of
    // its own), the same version.
    let second = service.run(&["staging"])?;
    for same in ["function", "version", "alias", "event_source_mappings", "code_sha256"] {
        assert_eq!(second[same], first[same]);
    }
    assert_eq!(aws.function("quakes-staging").await?.1, code);

    service.settings("memory = 256\n[package.metadata.streambot.event-source]\nbatch-size = 10")?;
    let third = service.run(&["staging", "--tumbling-window-in-seconds", "30"])?;
    let (function, unchanged) = aws.function("quakes-staging").await?;
    assert_eq!(function.memory_size(), Some(256));
    assert_eq!(unchanged, code);
    assert_eq!(third["version"], "2");
    let mappings = aws.mappings(&stream).await?;
    let [mapping] = mappings.as_slice() else { panic!("{mappings:?}") };
    assert_eq!(first["event_source_mappings"][0]["uuid"], mapping.uuid().context("UUID")?);
    assert_eq!(mapping.batch_size(), Some(10));
    assert_eq!(mapping.tumbling_window_in_seconds(), Some(30));

    service.file("src/main.rs", "fn main() { println!(\"changed\"); }")?;
    let fourth = service.run(&["staging"])?;
    let (function, changed) = aws.function("quakes-staging").await?;
    assert_ne!(changed, code);
    assert_eq!(fourth["code_sha256"], function.code_sha256().context("hash")?);
    assert_eq!(fourth["version"], "3");
    let alias =
        aws.lambda.get_alias().function_name("quakes-staging").name("current").send().await?;
    assert_eq!(alias.function_version(), Some("3"));
    Ok(())
}

#[tokio::test]
async fn a_deploy_changes_aws_in_the_order_that_loses_no_record() -> Result<()> {
    let aws = Aws::new().await;
    let proxy = Proxy::of(&MOTO)?;
    let service = Service::at("ordered", proxy.url())?;
    aws.service("ordered-staging").await?;
    let stream = aws.output("ordered-staging-StreambotStack", "KinesisStream").await?;

    service.run(&["staging"])?;
    let created = [
        "POST functions",
        "POST functions/ordered-staging/versions",
        "POST functions/ordered-staging/aliases",
        "POST event-source-mappings",
    ];
    assert_eq!(proxy.writes(), created);

    let mapping = aws.mappings(&stream).await?[0].uuid().context("UUID")?.to_owned();
    let point = format!("PUT event-source-mappings/{mapping}");
    service.run(&["staging"])?;
    assert!(proxy.writes().is_empty());

    // What could go wrong in between: the mapping ignores partial answers, and settings and code
    // are old.
    aws.lambda
        .update_event_source_mapping()
        .uuid(&mapping)
        .set_function_response_types(Some(Vec::new()))
        .send()
        .await?;
    service.file("src/main.rs", "fn main() { println!(\"changed\"); }")?;
    service.run(&["staging", "--memory", "256"])?;
    // All but the mapping's name the revision that was read, so that Lambda refuses them where
    // someone else was faster.
    let changed = [
        (point.as_str(), false),
        ("PUT functions/ordered-staging/configuration", true),
        ("PUT functions/ordered-staging/code", true),
        ("POST functions/ordered-staging/versions", true),
        ("PUT functions/ordered-staging/aliases/current", true),
    ];
    let writes = proxy.take().into_iter().filter(|call| call.write);
    let writes: Vec<_> = writes.map(|call| (call.request, call.revision.is_some())).collect();
    assert_eq!(writes, changed.map(|(request, revision)| (request.to_owned(), revision)));
    Ok(())
}

#[tokio::test]
async fn a_function_of_1_0s_runs_on_until_its_successor_is_there_and_its_mapping_keeps_its_place()
-> Result<()> {
    let aws = Aws::new().await;
    let proxy = Proxy::of(&MOTO)?;
    let service = Service::at("veteran", proxy.url())?;
    aws.service("veteran-staging").await?;
    let stream = aws.output("veteran-staging-StreambotStack", "KinesisStream").await?;
    service.run(&["staging"])?;
    let [made] = &aws.mappings(&stream).await?[..] else { panic!("one mapping") };
    let lambda = aws_sdk_lambda::Client::new(
        &MOTO.config(REGION).await.into_builder().endpoint_url(proxy.url()).build(),
    );
    lambda.delete_event_source_mapping().uuid(made.uuid().context("UUID")?).send().await?;
    lambda.delete_alias().function_name("veteran-staging").name("current").send().await?;
    let old = lambda
        .create_event_source_mapping()
        .event_source_arn(&stream)
        .function_name("veteran-staging")
        .batch_size(100)
        .send()
        .await?;
    let uuid = old.uuid().context("UUID")?;
    proxy.take();

    service.run(&["staging", "--memory", "256"])?;
    let mapping = format!("PUT event-source-mappings/{uuid}");
    // The mapping is told to honour partial answers, then moved to what runs by now, and only then
    // is the function changed.
    assert_eq!(
        proxy.writes(),
        [
            mapping.as_str(),
            "POST functions/veteran-staging/versions",
            "POST functions/veteran-staging/aliases",
            mapping.as_str(),
            "PUT functions/veteran-staging/configuration",
            "POST functions/veteran-staging/versions",
            "PUT functions/veteran-staging/aliases/current",
        ]
    );
    let answer = lambda.list_event_source_mappings().event_source_arn(&stream).send().await?;
    let [mapping] = answer.event_source_mappings() else { panic!("{answer:?}") };
    assert_eq!(mapping.uuid(), Some(uuid));
    assert_eq!(mapping.function_response_types(), [FunctionResponseType::ReportBatchItemFailures]);
    assert!(
        mapping.function_arn().context("ARN")?.ends_with(":function:veteran-staging:current"),
        "{mapping:?}"
    );
    Ok(())
}

#[tokio::test]
async fn a_stacks_values_arrive_unchanged_in_the_bundle() -> Result<()> {
    const ODD: &str =
        "a \"quoted\" 'text' with $Topic, ${Topic}, #hash, back\\slash,\nnewline, tab\t and é🌋 ";
    let aws = Aws::new().await;
    let service = Service::new("values", &MOTO)?;
    let child = aws
        .stack("values-StreambotStack", &streambot_template()?, &[("NumberOfShards", "2")])
        .await?;
    let mut template = naming(&child);
    template["Parameters"] = json!({
        "Odd": { "Type": "String" },
        "Token": { "Type": "String", "NoEcho": true },
        "MetricName": { "Type": "String" },
    });
    template["Outputs"]["Echo"] = json!({ "Value": { "Ref": "Odd" } });
    // moto masks a value that is the name of a NoEcho parameter, where CloudFormation masks the
    // parameter of that name.
    let parameters = [("Odd", ODD), ("Token", "Token"), ("MetricName", "the child's output wins")];
    aws.stack("values-staging", &template.to_string(), &parameters).await?;

    let output = service.attempt(&["staging"])?;
    let said = String::from_utf8(output.stderr)?;
    ensure!(output.status.success(), "{said}");
    assert!(said.contains("warning: parameter `Token` is NoEcho"), "{said}");

    let files = unzip(&service.path("build/bundle.zip"))?;
    let names: Vec<_> = files.iter().map(|(name, mode, _)| (name.as_str(), *mode)).collect();
    assert_eq!(names, [(".env", 0o644), ("bootstrap", 0o755)]);
    let values = dotenv(&files[0].2)?;
    let value =
        |key: &str| values.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str());
    assert_eq!(values[0], ("StackName".to_owned(), "values-staging".to_owned()));
    assert_eq!(value("Odd"), Some(ODD));
    assert_eq!(value("Echo"), Some(ODD));
    assert_eq!(value("Token"), None);
    assert_eq!(value("StreambotStack"), Some(child.as_str()));
    assert_eq!(value("MetricName"), Some("values-StreambotStack"));
    assert!(value("Topic").is_some_and(|topic| topic.starts_with("arn:aws:sns:")), "{values:?}");
    assert!(
        value("KinesisStream").is_some_and(|stream| stream.starts_with("arn:aws:kinesis:")),
        "{values:?}"
    );
    assert_eq!(value("STREAMBOT_REPORT_BATCH_ITEM_FAILURES"), Some("true"));

    let on_disk = service.path(".env");
    assert_eq!(std::fs::read(&on_disk)?, files[0].2);
    assert_eq!(std::fs::metadata(&on_disk)?.permissions().mode() & 0o777, 0o600);
    Ok(())
}

#[tokio::test]
async fn the_examples_own_template_is_a_stack_that_names_itself() -> Result<()> {
    let aws = Aws::new().await;
    let service = Service::new("composed", &MOTO)?;
    aws.stack("composed-staging", &example_template("template")?, &[]).await?;
    let answer = service.run(&["staging"])?;
    assert_eq!(answer["stack"], "composed-staging");
    let stream = aws.output("composed-staging", "KinesisStream").await?;
    assert_eq!(aws.mappings(&stream).await?.len(), 1);
    assert_eq!(service.run(&["staging"])?["version"], answer["version"]);
    Ok(())
}

#[tokio::test]
async fn the_stacks_failure_destination_is_the_mappings_unless_the_settings_name_none() -> Result<()>
{
    let aws = Aws::new().await;
    let service = Service::new("failing", &MOTO)?;
    let child = "failing-StreambotStack";
    aws.stack(child, &streambot_template()?, &[("FailureDestinationType", "SQS")]).await?;
    aws.stack("failing-staging", &naming(child).to_string(), &[]).await?;
    let stream = aws.output(child, "KinesisStream").await?;
    let queue = aws.output(child, "FailureDestination").await?;
    assert!(queue.starts_with("arn:aws:sqs:"), "{queue}");

    let said = String::from_utf8(service.attempt(&["staging"])?.stderr)?;
    assert!(
        !said.contains("leave no trace")
            && !said.contains("blocks its shard")
            && !said.contains("queue"),
        "{said}"
    );
    let destination = async || -> Result<Option<String>> {
        let mappings = aws.mappings(&stream).await?;
        let config =
            mappings[0].destination_config().and_then(|config| config.on_failure()?.destination());
        Ok(config.map(str::to_owned))
    };
    assert_eq!(destination().await?, Some(queue));

    // Another queue keeps its messages for four days, unless told otherwise; a stream its records
    // for one.
    let template = json!({ "Resources": { "Queue": { "Type": "AWS::SQS::Queue", "Properties": { "QueueName": "patient" } } } });
    aws.stack("failing-queue", &template.to_string(), &[]).await?;
    let arn = "arn:aws:sqs:us-east-1:123456789012:patient";
    let said = String::from_utf8(service.attempt(&["staging", "--on-failure", arn])?.stderr)?;
    assert!(said.contains("warning: queue `patient` keeps messages for 345600 s"), "{said}");
    Ok(())
}

#[tokio::test]
async fn a_prefix_in_the_settings_chooses_among_the_streambots_of_one_stack() -> Result<()> {
    let aws = Aws::new().await;
    let service = Service::new("payments", &MOTO)?;
    service.settings("prefix = \"Payments\"")?;
    let mut template = streambot_infra::Template::new();
    for prefix in ["Orders", "Payments"] {
        streambot_infra::Streambot::prefixed(prefix).enhanced_fan_out(false).add_to(&mut template);
    }
    aws.stack("payments-staging", &template.build()?.to_string(), &[]).await?;
    service.run(&["staging"])?;
    assert_eq!(
        aws.mappings(&aws.output("payments-staging", "PaymentsKinesisStream").await?).await?.len(),
        1
    );
    assert_eq!(
        aws.mappings(&aws.output("payments-staging", "OrdersKinesisStream").await?).await?.len(),
        0
    );
    let role = aws.output("payments-staging", "PaymentsLambdaExecutionRole").await?;
    assert_eq!(aws.function("payments-staging").await?.0.role(), Some(role.as_str()));
    let values = dotenv(&std::fs::read(service.path(".env"))?)?;
    assert!(
        values.contains(&("MetricName".to_owned(), "payments-staging-Payments".to_owned())),
        "{values:?}"
    );
    Ok(())
}

#[tokio::test]
async fn a_stack_with_a_consumer_is_read_by_it_and_a_mapping_of_the_stream_is_not_doubled()
-> Result<()> {
    let aws = Aws::new().await;
    let service = Service::new("fanned", &MOTO)?;
    let mut template = naming("x");
    let fanned = |consumer: Option<&str>, stream: &str, role: &str| {
        let mut outputs = json!({
            "StreambotStack": { "Value": { "Ref": "AWS::StackName" } },
            "KinesisStream": { "Value": stream },
            "LambdaExecutionRole": { "Value": role },
        });
        if let Some(consumer) = consumer {
            outputs["StreamConsumer"] = json!({ "Value": consumer });
        }
        outputs
    };
    aws.service("fanned-base").await?;
    let stream = aws.output("fanned-base-StreambotStack", "KinesisStream").await?;
    let role = aws.output("fanned-base-StreambotStack", "LambdaExecutionRole").await?;
    let consumer = format!("{stream}/consumer/fanned:1");
    template["Outputs"] = fanned(Some(&consumer), &stream, &role);
    aws.stack("fanned-new", &template.to_string(), &[]).await?;
    let planned = service.run(&["new", "--dry-run"])?;
    let steps = planned["steps"].as_array().context("steps")?;
    assert_eq!(steps.last(), Some(&json!(format!("create an event source mapping of {consumer}"))));

    service.run(&["base"])?;
    // The same function, whose stack has a consumer by now.
    template["Outputs"] = fanned(Some(&consumer), &stream, &role);
    aws.cloudformation
        .update_stack()
        .stack_name("fanned-base")
        .template_body(template.to_string())
        .send()
        .await?;
    let said = service.fails(&["base"], 4)?;
    assert!(
        said.contains(&format!("function `fanned-base` reads {stream} by event source mapping")),
        "{said}"
    );
    assert!(
        said.contains(&format!("declare {consumer} only: Lambda cannot move a mapping")),
        "{said}"
    );
    assert!(said.contains("--replace-mapping deletes it"), "{said}");

    Ok(())
}

#[tokio::test]
async fn a_mapping_that_began_elsewhere_is_made_anew_only_when_told_to() -> Result<()> {
    let aws = Aws::new().await;
    let service = Service::new("elsewhere", &MOTO)?;
    aws.service("elsewhere-staging").await?;
    let stream = aws.output("elsewhere-staging-StreambotStack", "KinesisStream").await?;
    let first = service.run(&["staging"])?["event_source_mappings"][0]["uuid"].clone();

    let latest = ["staging", "--starting-position", "LATEST"];
    let said = service.fails(&latest, 4)?;
    assert!(
        said.contains(
            "began at TRIM_HORIZON, and `starting-position` is LATEST: Lambda cannot change that"
        ),
        "{said}"
    );
    let second = service.run(&[&latest[..], &["--replace-mapping"]].concat())?;
    assert_ne!(second["event_source_mappings"][0]["uuid"], first);
    let [mapping] = &aws.mappings(&stream).await?[..] else { panic!("one mapping") };
    assert_eq!(mapping.starting_position().map(|position| position.as_str()), Some("LATEST"));
    Ok(())
}

#[tokio::test]
async fn a_dry_run_says_what_it_would_do_and_does_nothing() -> Result<()> {
    let aws = Aws::new().await;
    let service = Service::new("dry", &MOTO)?;
    aws.service("dry-staging").await?;
    let planned = service.run(&["staging", "--dry-run"])?;
    assert_eq!(planned["steps"][0], "create function `dry-staging`");
    assert_eq!(planned["steps"].as_array().map(Vec::len), Some(4));
    assert!(aws.function("dry-staging").await.is_err());
    assert!(!service.path(".env").exists());
    assert!(!service.path("build/bundle.zip").exists());

    service.run(&["staging"])?;
    let planned = service.run(&["staging", "--dry-run", "--memory", "512"])?;
    assert_eq!(planned["steps"][0], "change function `dry-staging`, memory: 128 → 512");
    assert_eq!(aws.function("dry-staging").await?.0.memory_size(), Some(128));
    Ok(())
}

#[tokio::test]
async fn an_environment_named_like_a_verb_is_deployed_by_the_verb_in_the_region_given() -> Result<()>
{
    let aws = Aws::in_region("eu-west-1").await;
    let service = Service::new("regional", &MOTO)?;
    aws.service("regional-local").await?;
    let answer = service.run(&["deploy", "local", "--region", "eu-west-1"])?;
    let arn = answer["function"].as_str().context("ARN")?;
    assert!(arn.starts_with("arn:aws:lambda:eu-west-1:"), "{arn}");
    Ok(())
}

#[tokio::test]
async fn an_environments_settings_win_over_the_manifests_and_flags_over_both() -> Result<()> {
    let aws = Aws::new().await;
    let service = Service::new("layers", &MOTO)?;
    service.settings(
        "memory = 256\ntimeout = 10\n\
         [package.metadata.streambot.event-source]\nbatch-size = 5\nparallelization-factor = 2\n\
         [package.metadata.streambot.environments.production]\nmemory = 512\n\
         [package.metadata.streambot.environments.production.event-source]\nbatch-size = 50",
    )?;
    aws.service("layers-production").await?;
    service.run(&["production", "--timeout", "20"])?;
    let (function, _) = aws.function("layers-production").await?;
    assert_eq!((function.memory_size(), function.timeout()), (Some(512), Some(20)));
    let stream = aws.output("layers-production-StreambotStack", "KinesisStream").await?;
    let mapping = &aws.mappings(&stream).await?[0];
    assert_eq!((mapping.batch_size(), mapping.parallelization_factor()), (Some(50), Some(2)));
    Ok(())
}

#[tokio::test]
async fn a_bundle_stops_before_aws_is_changed_and_needs_no_stack_without_an_environment()
-> Result<()> {
    let aws = Aws::new().await;
    let service = Service::new("bundled", &MOTO)?;
    service.settings("include = [\"models\"]")?;
    service.file("models/one.txt", "1")?;
    let answer = service.run(&["bundle"])?;
    let zip = service.path("build/bundle.zip");
    assert_eq!(answer["bytes"], std::fs::metadata(&zip)?.len());
    let names: Vec<_> = unzip(&zip)?.into_iter().map(|(name, _, _)| name).collect();
    assert_eq!(names, ["bootstrap", "models/one.txt"]);
    let bytes = std::fs::read(&zip)?;
    service.run(&["bundle"])?;
    assert_eq!(std::fs::read(&zip)?, bytes);

    aws.service("bundled-staging").await?;
    service.run(&["bundle", "staging"])?;
    let names: Vec<_> = unzip(&zip)?.into_iter().map(|(name, _, _)| name).collect();
    assert_eq!(names, [".env", "bootstrap", "models/one.txt"]);
    assert!(aws.function("bundled-staging").await.is_err());
    Ok(())
}

#[tokio::test]
async fn a_stack_that_is_not_there_is_exit_code_3() -> Result<()> {
    let aws = Aws::new().await;
    let service = Service::new("absent", &MOTO)?;
    let said = service.fails(&["staging"], 3)?;
    assert!(said.contains("error: stack `absent-staging` is not there in us-east-1\n"), "{said}");
    assert!(said.contains("next: create it first"), "{said}");

    aws.stack("absent-orphan", &naming("nobody").to_string(), &[]).await?;
    let said = service.fails(&["orphan"], 3)?;
    assert!(
        said.contains("stack `nobody`, which the output `StreambotStack` of `absent-orphan` names"),
        "{said}"
    );
    Ok(())
}

#[tokio::test]
async fn a_stack_without_an_output_is_told_which() -> Result<()> {
    let aws = Aws::new().await;
    let service = Service::new("partial", &MOTO)?;
    let mut template = naming("x");
    template["Outputs"] = json!({});
    aws.stack("partial-none", &template.to_string(), &[]).await?;
    let said = service.fails(&["none"], 1)?;
    assert!(said.contains("stack `partial-none` has no output `StreambotStack`"), "{said}");

    template["Outputs"] = json!({
        "StreambotStack": { "Value": { "Ref": "AWS::StackName" } },
        "KinesisStream": { "Value": "arn" },
    });
    aws.stack("partial-role", &template.to_string(), &[]).await?;
    let said = service.fails(&["role"], 1)?;
    assert!(said.contains("stack `partial-role` has no output `LambdaExecutionRole`"), "{said}");
    Ok(())
}

#[test]
fn a_setting_that_is_wrong_is_told_with_its_key_file_and_range() -> Result<()> {
    let service = Service::new("wrong", &MOTO)?;
    for (settings, key, allowed) in [
        (
            "memory = 64",
            "`memory` in [package.metadata.streambot]",
            "a whole number from 128 to 10240",
        ),
        (
            "memory = \"lots\"",
            "`memory` in [package.metadata.streambot]",
            "a whole number from 128 to 10240",
        ),
        (
            "memroy = 128",
            "`memroy` in [package.metadata.streambot]",
            "unknown field `memroy`, expected one of",
        ),
        (
            "[package.metadata.streambot.event-source]\nbatch-size = 0",
            "`batch-size` in [package.metadata.streambot.event-source]",
            "a whole number from 1 to 10000",
        ),
        (
            "[package.metadata.streambot.environments.other.event-source]\nmaximum-record-age-in-seconds = 59",
            "`maximum-record-age-in-seconds` in [package.metadata.streambot.environments.other.event-source]",
            "-1 (no limit) or a whole number from 60 to 604800",
        ),
        (
            "[package.metadata.streambot.event-source]\nfunction-response-types = []",
            "`function-response-types` in [package.metadata.streambot.event-source]",
            "Streambot always sets ReportBatchItemFailures",
        ),
        (
            "[package.metadata.streambot.event-source]\nstarting-position = \"AT_TIMESTAMP\"",
            "starting-position AT_TIMESTAMP",
            "starting-position-timestamp",
        ),
        (
            "[package.metadata.streambot.event-source]\nfilter-patterns = [\"nonsense\"]",
            "`filter-patterns[0]` in [package.metadata.streambot.event-source]",
            "must be a JSON object",
        ),
    ] {
        service.settings(settings)?;
        let said = service.fails(&["staging"], 2)?;
        assert!(said.contains(key) && said.contains(allowed), "{settings}:\n{said}");
    }
    service.settings("memory = 64")?;
    let said = service.fails(&["staging"], 2)?;
    assert!(said.contains("wrong") || said.contains("Cargo.toml"), "{said}");
    Ok(())
}

#[test]
fn a_name_that_aws_would_refuse_is_refused_before_anything_else() -> Result<()> {
    let service = Service::new("snake_case", &MOTO)?;
    let said = service.fails(&["staging"], 2)?;
    assert!(said.contains("the stack's name would be `snake_case-staging`"), "{said}");
    Ok(())
}

#[test]
fn a_build_that_fails_leaves_no_bundle() -> Result<()> {
    let service = Service::new("broken", &MOTO)?;
    service.file("src/main.rs", "fn main() { nonsense }")?;
    let said = service.fails(&["bundle"], 1)?;
    assert!(said.contains("binary `broken` of package `broken` was not built"), "{said}");
    assert!(said.contains("cannot find value `nonsense`"), "{said}");
    assert!(!service.path("build/bundle.zip").exists());
    Ok(())
}

#[test]
fn cargo_lambda_is_used_where_it_is_installed() -> Result<()> {
    let service = Service::new("crossed", &MOTO)?;
    let tools = tool("python/build/bin/cargo-lambda")?;
    let mut path = tools.parent().context("a folder")?.as_os_str().to_owned();
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap_or_default());
    // For another processor than this machine's, cargo-lambda would have rustup fetch a standard
    // library.
    let own = if cfg!(target_arch = "x86_64") { "x86_64" } else { "arm64" };
    let mut command = service.command(["bundle", "--architecture", own, "--profile", "dev"]);
    let output = command.env("PATH", &path).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let files = unzip(&service.path("build/bundle.zip"))?;
    assert_eq!(
        files.iter().map(|(name, mode, _)| (name.as_str(), *mode)).collect::<Vec<_>>(),
        [("bootstrap", 0o755)]
    );
    let built = Path::new(env!("CARGO_TARGET_TMPDIR")).join("service/streambot/crossed/bootstrap");
    assert_eq!(std::fs::read(built)?, files[0].2);
    Ok(())
}

#[test]
fn another_processor_than_this_machines_needs_cargo_lambda() -> Result<()> {
    let other = if cfg!(target_arch = "x86_64") { "arm64" } else { "x86_64" };
    let service = Service::new("foreign", &MOTO)?;
    let folder = tempfile::tempdir()?;
    // Cargo finds its verbs beside itself too, so it is reached by a path that leads nowhere else.
    let output = service
        .command(["bundle", "--profile", "dev", "--architecture", other])
        .env("PATH", folder.path())
        .env("CARGO", env!("CARGO"))
        .env("CARGO_HOME", folder.path())
        .output()?;
    let said = String::from_utf8(output.stderr)?;
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains(&format!(
            "this machine cannot build for Lambda's {other} without cargo-lambda"
        )),
        "{said}"
    );
    Ok(())
}

#[tokio::test]
async fn the_composed_stack_tells_every_output_and_each_is_right() -> Result<()> {
    let aws = Aws::new().await;
    let name = "composed-outputs";
    let given = [("LogBucket", "logs"), ("LogPrefix", "live"), ("FailureDestinationType", "S3")];
    aws.stack(name, &example_template("template")?, &given).await?;
    let answer = aws.cloudformation.describe_stacks().stack_name(name).send().await?;
    let outputs: std::collections::BTreeMap<_, _> = answer.stacks()[0]
        .outputs()
        .iter()
        .filter_map(|output| Some((output.output_key()?, output.output_value()?)))
        .collect();
    let of = |key: &str| {
        outputs.get(key).copied().with_context(|| format!("{key} is not among {outputs:?}"))
    };

    for (key, value) in [
        ("MetricName", name),
        ("StreambotStack", name),
        ("LogBucket", "logs"),
        ("LogPrefix", "live"),
        ("StackRegion", REGION),
    ] {
        assert_eq!(of(key)?, value, "{key}");
    }
    let role = of("LambdaExecutionRoleName")?;
    assert!(of("LambdaExecutionRole")?.ends_with(&format!(":role/lambda/{role}")), "{outputs:?}");
    for (key, part) in [
        ("KinesisStream", "arn:aws:kinesis:us-east-1:123456789012:stream/composed-outputs-Stream-"),
        ("LambdaInvocationRole", "arn:aws:iam::123456789012:role/lambda/"),
        ("KinesisAdminRole", "arn:aws:iam::123456789012:role/kinesis/"),
        ("AlarmTopic", "arn:aws:sns:us-east-1:123456789012:"),
        ("FailureDestination", "arn:aws:s3:::"),
        ("LogGroup", ""),
    ] {
        let value = of(key)?;
        assert!(value.starts_with(part) && value.len() > part.len(), "{key}: {value}");
    }
    Ok(())
}
