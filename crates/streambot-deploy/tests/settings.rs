//! Every setting, one after the other: declared, deployed, and read back from the server; taken out
//! again, and back at its default. moto keeps most of them; what it ignores is shown against
//! LocalStack. Neither keeps a KMS key.

mod support;

use anyhow::{Context as _, Result, ensure};
use aws_sdk_cloudformation::types::Capability;
use aws_sdk_lambda::types::{EventSourceMappingConfiguration, FunctionConfiguration};
use serde_json::{Value, json};

use support::proxy::Proxy;
use support::{REGION, Server, Service, streambot_deploy};

/// A composed stack of Streambot's template.
async fn create_stack(server: &Server, name: &str) -> Result<()> {
    let output = streambot_deploy().args(["template", "--form", "composed"]).output()?;
    ensure!(output.status.success());
    let client = aws_sdk_cloudformation::Client::new(&server.config(REGION).await);
    client
        .create_stack()
        .stack_name(name)
        .template_body(String::from_utf8(output.stdout)?)
        .capabilities(Capability::CapabilityIam)
        .send()
        .await
        .map_err(aws_sdk_cloudformation::Error::from)?;
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(120);
    loop {
        let answer = client.describe_stacks().stack_name(name).send().await?;
        let status =
            answer.stacks()[0].stack_status().context("a stack has a status")?.as_str().to_owned();
        if status == "CREATE_COMPLETE" {
            return Ok(());
        }
        ensure!(status == "CREATE_IN_PROGRESS" && std::time::Instant::now() < deadline, "{status}");
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
}

/// A setting, its value in the manifest, and how the server tells it, at first by default and then
/// as declared.
struct Case<T> {
    setting: &'static str,
    default: Value,
    told: Value,
    read: fn(&T) -> Value,
}

fn case<T>(setting: &'static str, default: Value, told: Value, read: fn(&T) -> Value) -> Case<T> {
    Case { setting, default, told, read }
}

fn list(values: &[String]) -> Value {
    json!(values)
}

fn function_cases() -> Vec<Case<FunctionConfiguration>> {
    vec![
        case("memory = 256", json!(128), json!(256), |function| json!(function.memory_size())),
        case("timeout = 30", json!(60), json!(30), |function| json!(function.timeout())),
        case("description = \"Waves\"", json!("A service of a test"), json!("Waves"), |function| {
            json!(function.description())
        }),
        case("environment-variables = { A = \"1\" }", json!({}), json!({ "A": "1" }), |function| {
            json!(
                function
                    .environment()
                    .and_then(|environment| environment.variables())
                    .cloned()
                    .unwrap_or_default()
            )
        }),
        case(
            "subnet-ids = [\"subnet-1\", \"subnet-2\"]\nsecurity-group-ids = [\"sg-1\"]",
            json!([[], []]),
            json!([["subnet-1", "subnet-2"], ["sg-1"]]),
            |function| {
                let vpc = function.vpc_config();
                let subnets = vpc.map(|vpc| vpc.subnet_ids().to_vec()).unwrap_or_default();
                json!([
                    subnets,
                    vpc.map(|vpc| vpc.security_group_ids().to_vec()).unwrap_or_default()
                ])
            },
        ),
    ]
}

/// What moto ignores on an update.
fn function_cases_of_localstack() -> Vec<Case<FunctionConfiguration>> {
    vec![
        case("ephemeral-storage = 1024", json!(512), json!(1024), |function| {
            json!(function.ephemeral_storage().map(|storage| storage.size()))
        }),
        case("tracing = \"Active\"", json!("PassThrough"), json!("Active"), |function| {
            json!(
                function
                    .tracing_config()
                    .and_then(|tracing| tracing.mode())
                    .map(|mode| mode.as_str())
            )
        }),
        case(
            "log-format = \"JSON\"\napplication-log-level = \"DEBUG\"\nsystem-log-level = \"WARN\"",
            json!(["Text", null, null]),
            json!(["JSON", "DEBUG", "WARN"]),
            |function| {
                let logging = function.logging_config();
                json!([
                    logging.and_then(|logging| logging.log_format()).map(|format| format.as_str()),
                    logging
                        .and_then(|logging| logging.application_log_level())
                        .map(|level| level.as_str()),
                    logging
                        .and_then(|logging| logging.system_log_level())
                        .map(|level| level.as_str()),
                ])
            },
        ),
    ]
}

fn mapping_cases() -> Vec<Case<EventSourceMappingConfiguration>> {
    vec![
        case("batch-size = 7", json!(100), json!(7), |mapping| json!(mapping.batch_size())),
        case("maximum-batching-window-in-seconds = 5", json!(0), json!(5), |mapping| {
            json!(mapping.maximum_batching_window_in_seconds())
        }),
        case("parallelization-factor = 3", json!(1), json!(3), |mapping| {
            json!(mapping.parallelization_factor())
        }),
        case("maximum-retry-attempts = 2", json!(-1), json!(2), |mapping| {
            json!(mapping.maximum_retry_attempts())
        }),
        case("maximum-record-age-in-seconds = 90", json!(-1), json!(90), |mapping| {
            json!(mapping.maximum_record_age_in_seconds())
        }),
        case("bisect-batch-on-function-error = true", json!(false), json!(true), |mapping| {
            json!(mapping.bisect_batch_on_function_error())
        }),
        case("tumbling-window-in-seconds = 30", json!(0), json!(30), |mapping| {
            json!(mapping.tumbling_window_in_seconds())
        }),
        case(
            "on-failure = \"arn:aws:sns:us-east-1:123456789012:t\"",
            json!(null),
            json!("arn:aws:sns:us-east-1:123456789012:t"),
            |mapping| {
                json!(
                    mapping
                        .destination_config()
                        .and_then(|config| config.on_failure()?.destination())
                )
            },
        ),
        case(
            "filter-patterns = ['{\"data\":{\"net\":[\"us\"]}}']",
            json!([]),
            json!(["{\"data\":{\"net\":[\"us\"]}}"]),
            |mapping| {
                let filters = mapping
                    .filter_criteria()
                    .map(|criteria| criteria.filters())
                    .unwrap_or_default();
                list(
                    &filters
                        .iter()
                        .filter_map(|filter| filter.pattern().map(str::to_owned))
                        .collect::<Vec<_>>(),
                )
            },
        ),
        case("enabled = false", json!("Enabled"), json!("Disabled"), |mapping| {
            json!(mapping.state())
        }),
    ]
}

#[tokio::test]
async fn each_setting_of_function_and_mapping_arrives_and_goes_back_to_its_default() -> Result<()> {
    let moto = Server::moto()?;
    let proxy = Proxy::of(&moto)?;
    let service = Service::at("settings", proxy.url())?;
    create_stack(&moto, "settings-staging").await?;
    let lambda = aws_sdk_lambda::Client::new(&moto.config(REGION).await);
    let function = async || -> Result<FunctionConfiguration> {
        let answer = lambda
            .get_function()
            .function_name("settings-staging")
            .qualifier("current")
            .send()
            .await?;
        answer.configuration.context("a configuration")
    };
    let uuid = service.run(&["staging"])?["event_source_mappings"][0]["uuid"]
        .as_str()
        .context("a UUID")?
        .to_owned();
    let mapping = async || -> Result<EventSourceMappingConfiguration> {
        let answer = lambda.list_event_source_mappings().send().await?;
        answer
            .event_source_mappings()
            .iter()
            .find(|mapping| mapping.uuid() == Some(&uuid))
            .cloned()
            .context("it is there")
    };

    for Case { setting, default, told, read } in function_cases() {
        assert_eq!(read(&function().await?), default, "{setting}");
        service.settings(setting)?;
        service.run(&["staging"])?;
        assert_eq!(read(&function().await?), told, "{setting}");
        service.settings("")?;
        service.run(&["staging"])?;
        assert_eq!(read(&function().await?), default, "without {setting}");
    }
    for Case { setting, default, told, read } in mapping_cases() {
        assert_eq!(read(&mapping().await?), default, "{setting}");
        service.settings(&format!("[package.metadata.streambot.event-source]\n{setting}"))?;
        service.run(&["staging"])?;
        assert_eq!(read(&mapping().await?), told, "{setting}");
        service.settings("")?;
        service.run(&["staging"])?;
        assert_eq!(read(&mapping().await?), default, "without {setting}");
    }

    // Tags are added and changed; those that nobody declared are somebody's.
    service.settings("tags = { team = \"seismology\" }")?;
    service.run(&["staging"])?;
    service.settings("tags = { team = \"waves\", cost = \"1\" }")?;
    service.run(&["staging"])?;
    let answer = lambda.get_function().function_name("settings-staging").send().await?;
    let tags = answer.tags.unwrap_or_default();
    assert_eq!((tags["team"].as_str(), tags["cost"].as_str()), ("waves", "1"));

    // An architecture is the code's: cargo builds for this machine, so the other one needs a
    // compiler for it.
    assert!(service.run(&["staging"])?["unchanged"].as_bool().context("a flag")?);

    // Back, away, and nothing left but the stack.
    service.run(&["rollback", "staging"])?;
    service.run(&["destroy", "staging", "--yes"])?;
    assert!(lambda.list_functions().send().await?.functions().is_empty());
    assert!(lambda.list_event_source_mappings().send().await?.event_source_mappings().is_empty());
    Ok(())
}

#[tokio::test]
async fn several_streams_have_a_mapping_each() -> Result<()> {
    let moto = Server::moto()?;
    let proxy = Proxy::of(&moto)?;
    let config = moto.config(REGION).await;
    let service = Service::at("several", proxy.url())?;
    create_stack(&moto, "several-staging").await?;
    let kinesis = aws_sdk_kinesis::Client::new(&config);
    kinesis.create_stream().stream_name("payments").shard_count(1).send().await?;
    let payments = "arn:aws:kinesis:us-east-1:123456789012:stream/payments";
    let settings = format!(
        "[[package.metadata.streambot.event-source]]\nbatch-size = 5\n\
         [[package.metadata.streambot.event-source]]\nstream = \"{payments}\"\nbatch-size = 9"
    );
    service.settings(&settings)?;
    let answer = service.run(&["staging"])?;
    let mappings = answer["event_source_mappings"].as_array().context("a list")?;
    assert_eq!(mappings.len(), 2);
    assert_eq!(mappings[1]["event_source_arn"], payments);
    assert_eq!(service.run(&["staging"])?["unchanged"], true);

    // One that is not declared any more is nobody's to delete unasked.
    service.settings("")?;
    let said = service.fails(&["staging"], 4)?;
    assert!(
        said.contains(&format!(
            "function `several-staging` reads {payments} by event source mapping"
        )),
        "{said}"
    );
    service.run(&["staging", "--replace-mapping"])?;
    let lambda = aws_sdk_lambda::Client::new(&config);
    let left = lambda.list_event_source_mappings().send().await?;
    assert_eq!(left.event_source_mappings().len(), 1);

    // `local` has one mapping, and asks which one's settings hold.
    service.settings(&settings)?;
    let output = service.command(["local", "--records", "-"]).output()?;
    let said = String::from_utf8(output.stderr)?;
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(
        said.contains(&format!("choose one with --event-source: the stack's own, {payments}")),
        "{said}"
    );
    Ok(())
}

#[tokio::test]
async fn what_moto_ignores_arrives_at_localstack() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let server = Server::localstack(folder.path())?;
    let service = Service::new("kept", &server)?;
    create_stack(&server, "kept-staging").await?;
    let lambda = aws_sdk_lambda::Client::new(&server.config(REGION).await);
    let function = async || -> Result<FunctionConfiguration> {
        let answer = lambda.get_function().function_name("kept-staging").send().await?;
        answer.configuration.context("a configuration")
    };
    // LocalStack takes a function and cannot start it without Docker, so each deploy ends once the
    // settings are there.
    let said = service.fails(&["staging"], 1)?;
    assert!(said.contains("error: function `kept-staging` did not come up (Failed)"), "{said}");
    for Case { setting, default, told, read } in function_cases_of_localstack() {
        assert_eq!(read(&function().await?), default, "{setting}");
        service.settings(setting)?;
        let said = service.fails(&["staging", "--wait-timeout", "5"], 1)?;
        assert_eq!(read(&function().await?), told, "{setting}: {said}");
        service.settings("")?;
        let said = service.fails(&["staging", "--wait-timeout", "5"], 1)?;
        assert_eq!(read(&function().await?), default, "without {setting}: {said}");
    }
    Ok(())
}
