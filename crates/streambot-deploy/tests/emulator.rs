//! The bundle's own bootstrap under AWS's runtime interface emulator, with S3 on moto: what Lambda
//! is answered, and what an invocation leaves behind.

mod support;

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use aws_sdk_cloudformation::types::{Capability, Parameter};
use serde_json::{Value, json};

use support::emulator::{Emulator, example_executable};
use support::{REGION, Server, example_template, streambot_deploy, unzip, workspace};

/// The event that Lambda's documentation shows for Kinesis, with this data in its record.
/// <https://docs.aws.amazon.com/lambda/latest/dg/with-kinesis.html>
fn documented_event(data: &str) -> String {
    json!({ "Records": [{
        "kinesis": {
            "kinesisSchemaVersion": "1.0",
            "partitionKey": "1",
            "sequenceNumber": SEQUENCE_NUMBER,
            "data": data,
            "approximateArrivalTimestamp": 1545084650.987,
        },
        "eventSource": "aws:kinesis",
        "eventVersion": "1.0",
        "eventID": format!("shardId-000000000006:{SEQUENCE_NUMBER}"),
        "eventName": "aws:kinesis:record",
        "invokeIdentityArn": "arn:aws:iam::123456789012:role/lambda-role",
        "awsRegion": "us-east-2",
        "eventSourceARN": "arn:aws:kinesis:us-east-2:123456789012:stream/lambda-stream",
    }]})
    .to_string()
}

const SEQUENCE_NUMBER: &str = "49590338271490256608559692538361571095921575989136588898";
/// `Hello, this is a test.`, the documentation's own data, which is no earthquake.
const NO_QUAKE: &str = "SGVsbG8sIHRoaXMgaXMgYSB0ZXN0Lg==";
/// `{"id":"us1000chhc","mag":6.4,"place":"22km NNE of Hualian, Taiwan"}`
const QUAKE: &str =
    "eyJpZCI6InVzMTAwMGNoaGMiLCJtYWciOjYuNCwicGxhY2UiOiIyMmttIE5ORSBvZiBIdWFsaWFuLCBUYWl3YW4ifQ==";

const STACK: &str = "streambot-example-emulator";

/// Creates the example's composed stack, with a bucket for the logs and one for the archive.
async fn create_stack(moto: &Server) -> Result<aws_sdk_s3::Client> {
    let config = moto.config(REGION).await;
    let s3 = aws_sdk_s3::Client::new(&config);
    for bucket in ["logs", "archive"] {
        s3.create_bucket().bucket(bucket).send().await?;
    }
    let parameter = |key: &str, value: &str| {
        Parameter::builder().parameter_key(key).parameter_value(value).build()
    };
    aws_sdk_cloudformation::Client::new(&config)
        .create_stack()
        .stack_name(STACK)
        .template_body(example_template("template")?)
        .capabilities(Capability::CapabilityIam)
        .parameters(parameter("LogBucket", "logs"))
        .parameters(parameter("LogPrefix", "live/logs"))
        .parameters(parameter("ArchiveBucket", "archive"))
        .send()
        .await?;
    Ok(s3)
}

/// Bundles the example and unpacks what came of it in `folder`.
fn unpack_bundle(moto: &Server, folder: &Path) -> Result<()> {
    let output = streambot_deploy()
        .args(["bundle", "emulator", "--profile", "dev", "--manifest-path"])
        .arg(workspace().join("example/Cargo.toml"))
        .envs(aws_variables(moto))
        .output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for (name, mode, contents) in unzip(&workspace().join("example/build/bundle.zip"))? {
        let path = folder.join(name);
        std::fs::write(&path, contents)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode))?;
    }
    Ok(())
}

fn aws_variables(moto: &Server) -> [(&'static str, String); 5] {
    [
        ("AWS_ENDPOINT_URL", moto.url()),
        ("AWS_ACCESS_KEY_ID", "test".to_owned()),
        ("AWS_SECRET_ACCESS_KEY", "test".to_owned()),
        ("AWS_REGION", REGION.to_owned()),
        ("AWS_LAMBDA_LOG_FORMAT", "JSON".to_owned()),
    ]
}

async fn object(s3: &aws_sdk_s3::Client, bucket: &str, key: &str) -> Result<String> {
    let object =
        s3.get_object().bucket(bucket).key(key).send().await.with_context(|| key.to_owned())?;
    Ok(String::from_utf8(object.body.collect().await?.to_vec())?)
}

async fn keys(s3: &aws_sdk_s3::Client, bucket: &str) -> Result<Vec<String>> {
    let listed = s3.list_objects_v2().bucket(bucket).send().await?;
    Ok(listed.contents().iter().filter_map(|object| object.key().map(str::to_owned)).collect())
}

#[tokio::test]
async fn an_invocation_answers_archives_counts_and_leaves_its_log() -> Result<()> {
    let moto = Server::moto()?;
    let s3 = create_stack(&moto).await?;
    let folder = tempfile::tempdir()?;
    unpack_bundle(&moto, folder.path())?;
    let emulator =
        Emulator::start(&folder.path().join("bootstrap"), folder.path(), aws_variables(&moto))?;

    let answer = emulator.invoke(&documented_event(QUAKE))?;
    assert_eq!(answer, json!({ "batchItemFailures": [] }), "{}", emulator.printed());
    let archived = object(&s3, "archive", &format!("example-records/{SEQUENCE_NUMBER}")).await?;
    assert_eq!(archived, r#"{"id":"us1000chhc","mag":6.4,"place":"22km NNE of Hualian, Taiwan"}"#);

    let answer = emulator.invoke(&documented_event(NO_QUAKE))?;
    assert_eq!(answer, json!({ "batchItemFailures": [{ "itemIdentifier": SEQUENCE_NUMBER }] }));

    let lines = emulator.metric_lines();
    let shown = shown_on_the_dashboard()?;
    assert_eq!(shown.len(), 4, "{shown:?}");
    for metric in shown {
        assert!(
            announced(&lines[0]).contains(&metric),
            "{metric:?} is on the dashboard, and is not in {}",
            lines[0]
        );
    }

    // A third answer comes only once the logs of the two before it are uploaded.
    let answer = emulator.invoke("[]")?;
    assert_eq!(answer["errorType"], "Function.EventUnreadable");
    let mut log_keys = keys(&s3, "logs").await?;
    log_keys.retain(|key| {
        key.starts_with(&format!("live/logs/{STACK}/shardId-000000000006/{SEQUENCE_NUMBER}-"))
    });
    assert_eq!(
        log_keys.len(),
        2,
        "a log object for each of the two attempts at the record: {log_keys:?}"
    );
    let mut logs = Vec::new();
    for key in &log_keys {
        logs.push(object(&s3, "logs", key).await?);
    }
    let (alerting, failing): (Vec<_>, Vec<_>) =
        logs.iter().partition(|log| log.contains("Hualian"));
    assert_eq!((alerting.len(), failing.len()), (1, 1), "each holds its own invocation's lines");
    for line in alerting[0].lines().chain(failing[0].lines()) {
        let line: Value = serde_json::from_str(line).context("Lambda's JSON log format")?;
        assert!(line["level"].is_string() && line["timestamp"].is_string(), "{line}");
    }
    assert!(
        failing[0].contains("record failed") && !failing[0].contains("Hello"),
        "{}",
        failing[0]
    );

    let metrics = emulator.metric_lines();
    let statuses: Vec<_> =
        metrics.iter().map(|line| (line["Status"].clone(), line[STACK].clone())).collect();
    assert_eq!(
        statuses,
        [(json!("Success"), json!(1)), (json!("Error"), json!(1)), (json!("Error"), json!(1))]
    );
    assert_eq!(metrics[0]["Alerts"], 1);
    assert_eq!(metrics[0]["StackName"], STACK);
    Ok(())
}

#[tokio::test]
async fn a_log_that_cannot_be_uploaded_is_a_warning_and_a_metric_and_never_a_failed_batch()
-> Result<()> {
    let moto = Server::moto()?;
    let folder = tempfile::tempdir()?;
    std::fs::write(
        folder.path().join(".env"),
        "StackName=\"quakes\"\nLogBucket=\"there-is-none\"\n",
    )?;
    let emulator = Emulator::start(&example_executable()?, folder.path(), aws_variables(&moto))?;
    assert_eq!(emulator.invoke(&documented_event(QUAKE))?, json!({ "batchItemFailures": [] }));
    let printed =
        emulator.until("the upload has failed", |printed| printed.contains("LogUploadFailures"))?;
    assert!(printed.contains("failed to upload the invocation's log lines to S3"), "{printed}");
    assert!(printed.contains("NoSuchBucket"), "says why: {printed}");
    Ok(())
}

#[tokio::test]
async fn without_reported_failures_a_failure_fails_the_invocation() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let emulator =
        Emulator::start(&example_executable()?, folder.path(), [("AWS_REGION", REGION)])?;
    let answer = emulator.invoke(&documented_event(NO_QUAKE))?;
    assert_eq!(answer["errorType"], "Function.RecordsFailed", "{answer}");
    assert!(
        answer["errorMessage"].as_str().is_some_and(|message| message.contains(SEQUENCE_NUMBER)),
        "{answer}"
    );
    Ok(())
}

#[tokio::test]
async fn a_broken_dotenv_is_an_init_error_that_names_the_file() -> Result<()> {
    let folder = tempfile::tempdir()?;
    std::fs::write(folder.path().join(".env"), "not a line\n")?;
    let emulator =
        Emulator::start(&example_executable()?, folder.path(), [("AWS_REGION", REGION)])?;
    let answer = emulator.invoke(&documented_event(QUAKE))?;
    assert_eq!(
        answer["errorType"],
        "Function.EnvironmentUnreadable",
        "{answer}\n{}",
        emulator.printed()
    );
    assert!(
        answer["errorMessage"].as_str().is_some_and(|message| message.contains(".env")),
        "{answer}"
    );
    Ok(())
}

/// Every metric of the namespace `streambot` that the dashboard shows, with its dimension.
fn shown_on_the_dashboard() -> Result<Vec<(String, String)>> {
    let streambot =
        streambot_infra::Streambot::new().dashboard(true).function_name("${FunctionName}");
    let template = serde_json::to_value(streambot.template().build()?)?;
    let body = &template["Resources"]["Dashboard"]["Properties"]["DashboardBody"]["Fn::Join"][1];
    let mut widgets = Vec::new();
    for part in body.as_array().context("a body in parts")? {
        if let Some(text) = part["Fn::Sub"][0].as_str() {
            let list: Vec<Value> =
                serde_json::from_str(&format!("[{}]", text.trim_start_matches(',')))?;
            widgets.extend(list);
        }
    }
    let metrics =
        widgets.iter().filter_map(|widget| widget["properties"]["metrics"].as_array()).flatten();
    let own = metrics.filter(|metric| metric[0] == "streambot");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Ok(own.map(|metric| (text(&metric[1]), text(&metric[2]))).collect())
}

/// Every metric that a line announces, with its dimension; the contract's under the name its output
/// has.
fn announced(line: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().replace(STACK, "${MetricName}");
    let directives = line["_aws"]["CloudWatchMetrics"].as_array().into_iter().flatten();
    directives
        .flat_map(|directive| {
            let metrics = directive["Metrics"].as_array().into_iter().flatten();
            metrics.map(|metric| (text(&metric["Name"]), text(&directive["Dimensions"][0][0])))
        })
        .collect()
}
