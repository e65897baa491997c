//! What comes into `streambot-deploy local` from a file or a pipe, and where it tells of what it
//! gives up.

mod support;

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use aws_sdk_sqs::types::QueueAttributeName;
use serde_json::{Value, json};
use support::journal::Runs;
use support::{REGION, Server, workspace};

/// A run in which one of three records is given up after its one retry; `on_failure` is told.
fn run_with_discard(
    on_failure: &str,
    server: Option<&Server>,
) -> Result<(Runs, Option<i32>, String)> {
    let runs = Runs::new()?;
    runs.records("one\ntwo\nbad\n")?;
    let url = server.map(Server::url).unwrap_or_default();
    let mut arguments = vec![
        "--records",
        "records.ndjson",
        "--maximum-retry-attempts",
        "1",
        "--on-failure",
        on_failure,
    ];
    if server.is_some() {
        arguments.extend(["--endpoint-url", &url, "--region", REGION]);
    }
    let (code, said, _) = runs.run(&arguments)?;
    Ok((runs, code, said))
}

/// "What is discarded goes to OnFailure", recorded on AWS: the fields, their order and their types.
fn assert_is_recorded_body(body: &str, has_payload: bool) -> Result<Value> {
    let value: Value = serde_json::from_str(body)?;
    let context = &value["requestContext"];
    let batch = &value["KinesisBatchInfo"];
    let text = |value: &Value| value.as_str().map(str::to_owned).context("it is a text");
    let (first, last) = (text(&batch["startSequenceNumber"])?, text(&batch["endSequenceNumber"])?);
    let payload =
        if has_payload { format!(",\"payload\":{}", value["payload"]) } else { String::new() };
    let expected = format!(
        concat!(
            r#"{{"requestContext":{{"requestId":{},"functionArn":"arn:aws:lambda:us-east-1:000000000000:function:"#,
            r#"bootstrap-local","condition":"RetryAttemptsExhausted","approximateInvokeCount":2}},"#,
            r#""responseContext":{{"statusCode":200,"executedVersion":"$LATEST","functionError":null}},"#,
            r#""version":"1.0","timestamp":{},"KinesisBatchInfo":{{"shardId":"shardId-000000000000","#,
            r#""startSequenceNumber":"{}","endSequenceNumber":"{}","approximateArrivalOfFirstRecord":{},"#,
            r#""approximateArrivalOfLastRecord":{},"batchSize":1,"#,
            r#""streamArn":"arn:aws:kinesis:us-east-1:000000000000:stream/bootstrap-local"}}{}}}"#
        ),
        context["requestId"],
        value["timestamp"],
        first,
        last,
        batch["approximateArrivalOfFirstRecord"],
        batch["approximateArrivalOfLastRecord"],
        payload
    );
    assert_eq!(body, expected);
    assert_eq!(first, last);
    for time in [&value["timestamp"], &batch["approximateArrivalOfFirstRecord"]] {
        let time = text(time)?;
        assert!(
            time.parse::<jiff::Timestamp>().is_ok()
                && time.len() == "2026-11-22T18:00:00.000Z".len(),
            "{time}"
        );
    }
    if has_payload {
        let event: Value = serde_json::from_str(&text(&value["payload"])?)?;
        assert_eq!(event["Records"].as_array().map(Vec::len), Some(1));
        assert_eq!(event["Records"][0]["kinesis"]["data"], "YmFk");
        assert_eq!(event["Records"][0]["kinesis"]["sequenceNumber"], first);
    }
    Ok(value)
}

#[test]
fn a_file_is_told_of_a_discard_with_its_payload_and_so_is_the_journal_without() -> Result<()> {
    let (runs, code, said) = run_with_discard("lost.ndjson", None)?;
    assert_eq!(code, Some(1), "{said}");
    let told = std::fs::read_to_string(runs.path("lost.ndjson"))?;
    let body = assert_is_recorded_body(told.trim_end(), true)?;
    let journal = runs.journal()?;
    let discards = journal.of("discard", None);
    assert_eq!(discards.len(), 1);
    assert_eq!(discards[0]["requestContext"], body["requestContext"]);
    let invoked: Vec<_> =
        journal.of("invoke", None).iter().map(|invoke| invoke["request_id"].clone()).collect();
    assert_eq!(
        invoked.last(),
        Some(&body["requestContext"]["requestId"]),
        "the last attempt is named"
    );
    Ok(())
}

#[tokio::test]
async fn a_queue_a_topic_and_a_bucket_are_told_as_lambda_tells_them() -> Result<()> {
    let server = Server::moto()?;
    let config = server.config(REGION).await;
    let queues = aws_sdk_sqs::Client::new(&config);
    let url = queues
        .create_queue()
        .queue_name("lost")
        .send()
        .await?
        .queue_url
        .context("a queue has a URL")?;
    let asked =
        queues.get_queue_attributes().queue_url(&url).attribute_names(QueueAttributeName::QueueArn);
    let attributes = asked.send().await?.attributes.unwrap_or_default();
    let queue = attributes.get(&QueueAttributeName::QueueArn).context("a queue has an ARN")?;
    let message = async || -> Result<String> {
        let received = queues.receive_message().queue_url(&url).wait_time_seconds(5).send().await?;
        let message = received.messages().first().context("a message came")?;
        let handle = message.receipt_handle().unwrap_or_default();
        queues.delete_message().queue_url(&url).receipt_handle(handle).send().await?;
        Ok(message.body().unwrap_or_default().to_owned())
    };

    let (_, code, said) = run_with_discard(queue, Some(&server))?;
    assert_eq!(code, Some(1), "{said}");
    assert_is_recorded_body(&message().await?, false)?;

    let topics = aws_sdk_sns::Client::new(&config);
    let topic =
        topics.create_topic().name("lost").send().await?.topic_arn.context("a topic has an ARN")?;
    topics.subscribe().topic_arn(&topic).protocol("sqs").endpoint(queue).send().await?;
    let (_, _, said) = run_with_discard(&topic, Some(&server))?;
    let notice: Value = serde_json::from_str(&message().await.context(said)?)?;
    assert_is_recorded_body(notice["Message"].as_str().unwrap_or_default(), false)?;

    let settings = aws_sdk_s3::config::Builder::from(&config).force_path_style(true).build();
    let buckets = aws_sdk_s3::Client::from_conf(settings);
    buckets.create_bucket().bucket("lost").send().await?;
    let (_, _, said) = run_with_discard("s3://lost/of/mine", Some(&server))?;
    let objects = buckets.list_objects_v2().bucket("lost").send().await?;
    let key = objects.contents().first().and_then(|object| object.key()).context(said)?;
    let object = buckets.get_object().bucket("lost").key(key).send().await?;
    let body = object.body.collect().await?.to_vec();
    let body = assert_is_recorded_body(&String::from_utf8(body)?, true)?;
    // aws/lambda/<mapping UUID>/<shardId>/YYYY/MM/DD/YYYY-MM-DDTHH.MM.SS-<UUID>, as documented.
    let parts: Vec<&str> = key.split('/').collect();
    assert_eq!(parts[..4], ["of", "mine", "aws", "lambda"]);
    assert_eq!((parts[4].len(), parts[5], parts.len()), (36, "shardId-000000000000", 10), "{key}");
    let time = body["timestamp"].as_str().unwrap_or_default();
    assert_eq!(parts[6..9].join("-"), time[..10]);
    assert!(parts[9].starts_with(&time[..19].replace(':', ".")), "{key} {time}");
    Ok(())
}

#[test]
fn a_destination_that_cannot_be_told_ends_the_run() -> Result<()> {
    let (_, code, said) = run_with_discard("/dev/full", None)?;
    assert_eq!(code, Some(1));
    assert!(said.contains("telling /dev/full of a discard of shardId-000000000000"), "{said}");
    let (_, code, said) = run_with_discard("nowhere/lost.ndjson", None)?;
    assert_eq!(code, Some(2));
    assert!(said.contains("opening the file nowhere/lost.ndjson for discards"), "{said}");
    let (_, code, said) = run_with_discard("arn:aws:lambda:us-east-1:1:function:x", None)?;
    assert_eq!(code, Some(2));
    assert!(said.contains("is no SQS queue, SNS topic or S3 bucket"), "{said}");
    let server = Server::moto()?;
    for missing in [
        "arn:aws:sqs:us-east-1:123456789012:nowhere",
        "arn:aws:sns:us-east-1:123456789012:nowhere",
        "s3://nowhere",
    ] {
        let (_, code, said) = run_with_discard(missing, Some(&server))?;
        assert_eq!(code, Some(3), "{missing}: {said}");
        assert!(said.contains("nowhere for discards: there is none"), "{said}");
    }
    Ok(())
}

/// The setting names production's destination: nothing is sent there.
#[test]
fn a_destination_that_only_the_manifest_names_is_left_alone_and_said_so() -> Result<()> {
    let service = support::Service::at("quakes", "http://127.0.0.1:9".to_owned())?;
    service.settings(
        "[package.metadata.streambot.event-source]\non-failure = \"arn:aws:sqs:us-east-1:1:lost\"",
    )?;
    let manifest = service.path("Cargo.toml").display().to_string();
    let runs = Runs::new()?;
    runs.records("bad\n")?;
    let arguments = [
        "--manifest-path",
        &manifest,
        "--records",
        "records.ndjson",
        "--maximum-retry-attempts",
        "0",
    ];
    let (code, said, _) = runs.run(&arguments)?;
    assert_eq!(code, Some(1), "{said}");
    assert_eq!(
        said.matches("discarded records are not sent to arn:aws:sqs:us-east-1:1:lost").count(),
        1,
        "{said}"
    );
    assert!(said.contains("--on-failure"), "{said}");
    Ok(())
}

/// Aggregated records reach the function packed, and the runtime unpacks them: the example counts
/// as it does without.
#[test]
fn the_example_counts_the_same_alerts_in_aggregated_records() -> Result<()> {
    let example = workspace().join("example");
    let output = Command::new(env!("CARGO_BIN_EXE_streambot-deploy"))
        .args([
            "local",
            "--quiet",
            "--partition-key",
            "/net",
            "--shards",
            "4",
            "--output",
            "json",
            "--aggregate=50",
        ])
        .arg("--manifest-path")
        .arg(example.join("Cargo.toml"))
        .arg("--records")
        .arg(example.join("records.ndjson"))
        .output()?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let summary: Value = serde_json::from_slice(&output.stdout)?;
    let records = summary["records"].as_u64().context("a number")?;
    assert!((34..=60).contains(&records), "1,707 user records were packed into {records}");
    assert_eq!(summary["metrics"]["Alerts"]["total"], 85, "{}", summary["metrics"]);
    Ok(())
}

#[test]
fn records_are_fed_at_the_rate_that_is_asked_for() -> Result<()> {
    let runs = Runs::new()?;
    runs.records(&"record\n".repeat(21))?;
    let started = Instant::now();
    let (code, said, summary) = runs.run(&["--records", "records.ndjson", "--rate", "20"])?;
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(summary["succeeded"], 21);
    assert!(started.elapsed() >= Duration::from_secs(1), "the last one was due after a second");
    let journal = runs.journal()?;
    let invokes = journal.of("invoke", None);
    let at = |invoke: Option<&&Value>| {
        invoke.and_then(|invoke| invoke["at_ms"].as_u64()).unwrap_or_default()
    };
    assert!(at(invokes.last()) - at(invokes.first()) >= 500, "they did not come at once");
    Ok(())
}

#[test]
fn a_line_no_record_can_hold_is_skipped_only_where_that_is_asked_for() -> Result<()> {
    let runs = Runs::new()?;
    runs.records(&format!("one\n{}\nthree\n", "x".repeat(1024 * 1024 + 1)))?;
    let (code, said, summary) = runs.run(&["--records", "records.ndjson"])?;
    assert_eq!((code, &summary["succeeded"]), (Some(1), &json!(1)), "{said}");
    assert!(said.contains("line 2 of records.ndjson is longer than 1048576 bytes"), "{said}");
    assert!(said.contains("--skip-oversize"), "{said}");
    let (code, said, summary) = runs.run(&["--records", "records.ndjson", "--skip-oversize"])?;
    assert_eq!((code, &summary["succeeded"]), (Some(0), &json!(2)), "{said}");
    assert!(said.contains("skipped line 2 of records.ndjson"), "{said}");
    Ok(())
}

#[test]
fn bad_input_and_output_is_named() -> Result<()> {
    let runs = Runs::new()?;
    runs.records("one\n")?;
    std::fs::write(runs.path("binary"), b"\x7fELF\x02\x01\xff\n")?;
    for (arguments, code, expected) in [
        (&["--records", "binary"][..], 1, "line 1 of binary is not text: byte 7 is no UTF-8"),
        (
            &["--records", "records.ndjson", "--journal=nowhere/journal"],
            2,
            "creating the journal nowhere/journal",
        ),
        (&["--records", "records.ndjson", "--rate", "0"], 2, "--rate"),
        (&["--records", "records.ndjson", "--until-caught-up"], 2, "cannot be used with"),
        (&["--records", "records.ndjson", "--stream", "quakes"], 2, "cannot be used with"),
        (&["--stream", "quakes", "--shards", "4"], 2, "cannot be used with"),
        (&["--stream", "quakes", "--aggregate"], 2, "cannot be used with"),
    ] {
        let mut command = runs.command(&[]);
        if arguments.contains(&"--journal=nowhere/journal") {
            command = support::streambot_deploy();
            command.args(["local", "--bootstrap", "bootstrap"]).current_dir(runs.path(""));
        }
        let output = command.args(arguments).output()?;
        let said = String::from_utf8(output.stderr)?;
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(said.contains(expected), "{arguments:?}: {said}");
    }
    let (_, said, _) =
        runs.run(&["--records", "records.ndjson", "--starting-position", "LATEST"])?;
    assert!(said.contains("a file or pipe is read from its first record on"), "{said}");
    Ok(())
}

/// A run that is killed leaves what it wrote.
#[test]
fn the_journal_of_a_killed_run_can_be_read() -> Result<()> {
    let runs = Runs::new()?;
    runs.records(&"record\n".repeat(1_000))?;
    let mut run =
        runs.start(&["--records", "records.ndjson", "--rate", "50", "--batch-size", "1"])?;
    run.until("some are done", |journal| journal.done.len() >= 3)?;
    drop(run);
    let journal = runs.journal()?;
    assert_eq!(journal.events[0]["event"], "start");
    assert_eq!(journal.events[0]["settings"]["batch-size"], 1);
    assert!(journal.done.len() >= 3 && !journal.of("checkpoint", None).is_empty());
    Ok(())
}
