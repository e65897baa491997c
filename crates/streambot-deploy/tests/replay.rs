//! `replay` against moto, with the example service under AWS's runtime interface emulator as the
//! function that is invoked: real records of a stream for a queue's messages, and events of a
//! bucket's objects.

mod support;

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use aws_sdk_cloudformation::types::{Capability, Parameter};
use base64::Engine as _;
use serde_json::{Value, json};

use support::emulator::{Emulator, example_executable};
use support::front::Front;
use support::{REGION, Server, Service, streambot_deploy, workspace};

const NAME: &str = "quakes-staging";
const SHARDS: [&str; 2] = ["shardId-000000000000", "shardId-000000000001"];

/// A service that is deployed, the function behind its name, and what it archives.
struct Deployed {
    service: Service,
    lambda: aws_sdk_lambda::Client,
    s3: aws_sdk_s3::Client,
    sqs: aws_sdk_sqs::Client,
    stream: String,
    function: String,
    mapping: String,
    /// The failure destination's ARN.
    destination: Option<String>,
    emulator: Arc<Emulator>,
    _folder: tempfile::TempDir,
    _moto: Server,
}

impl Deployed {
    /// With a failure destination of this type, and these records in the two shards of its stream.
    async fn with(
        destination_type: &str,
        settings: &str,
        records: [&[String]; 2],
    ) -> Result<(Self, [Vec<String>; 2])> {
        let moto = Server::moto()?;
        let config = moto.config(REGION).await;
        let s3 = aws_sdk_s3::Client::new(&config);
        s3.create_bucket().bucket("archive").send().await?;
        let folder = tempfile::tempdir()?;
        let variables =
            "STREAMBOT_REPORT_BATCH_ITEM_FAILURES=\"true\"\nArchiveBucket=\"archive\"\n";
        std::fs::write(folder.path().join(".env"), variables)?;
        let emulator = Arc::new(start(&moto, folder.path())?);
        let front = Front::before(&moto, Some(Arc::clone(&emulator)))?;
        let service = Service::at("quakes", front.url())?;
        service.settings(settings)?;

        let cloudformation = aws_sdk_cloudformation::Client::new(&config);
        let mut template: Value =
            serde_json::from_slice(&streambot_deploy().arg("template").output()?.stdout)?;
        template["Outputs"]["StreambotStack"] = json!({ "Value": { "Ref": "AWS::StackName" } });
        let parameter = |key: &str, value: &str| {
            Parameter::builder().parameter_key(key).parameter_value(value).build()
        };
        cloudformation
            .create_stack()
            .stack_name(NAME)
            .template_body(template.to_string())
            .parameters(parameter("NumberOfShards", "2"))
            .parameters(parameter("FailureDestinationType", destination_type))
            .capabilities(Capability::CapabilityIam)
            .send()
            .await?;
        let stack = cloudformation.describe_stacks().stack_name(NAME).send().await?;
        let output = |key: &str| {
            let outputs = stack.stacks()[0].outputs();
            let output = outputs.iter().find(|output| output.output_key() == Some(key));
            output
                .and_then(|output| output.output_value())
                .filter(|value| !value.is_empty())
                .map(str::to_owned)
        };
        let stream = output("KinesisStream").context("a stream")?;
        let kinesis = aws_sdk_kinesis::Client::new(&config);
        // Once there is a mapping, moto would run the function on what is put.
        let numbers = [
            put(&kinesis, &stream, 0, records[0]).await?,
            put(&kinesis, &stream, 1, records[1]).await?,
        ];
        let deployed = service.run(&["staging"])?;
        let text = |pointer: &str| {
            deployed
                .pointer(pointer)
                .and_then(Value::as_str)
                .map(str::to_owned)
                .context("it is told")
        };
        let deployed = Self {
            service,
            lambda: aws_sdk_lambda::Client::new(&config),
            s3,
            sqs: aws_sdk_sqs::Client::new(&config),
            stream,
            function: text("/function")?,
            mapping: text("/event_source_mappings/0/uuid")?,
            destination: output("FailureDestination"),
            emulator,
            _folder: folder,
            _moto: moto,
        };
        Ok((deployed, numbers))
    }

    /// Runs `replay`, which must exit with `code`; its answer, and what it said.
    fn replay(&self, arguments: &[&str], code: i32) -> Result<(Value, String)> {
        let command = ["replay", "staging", "--output", "json"];
        let output = self.service.command(command).args(arguments).output()?;
        let said = String::from_utf8(output.stderr)?;
        ensure!(
            output.status.code() == Some(code),
            "{:?}: {said}\n{}",
            output.status,
            self.emulator.printed()
        );
        Ok((serde_json::from_slice(&output.stdout).unwrap_or_default(), said))
    }

    /// What Lambda tells of a batch.
    fn told(&self, shard: &str, start: &str, end: &str, records: usize) -> Value {
        json!({
            "requestContext": { "requestId": "1", "functionArn": format!("{}:current", self.function),
                "condition": "RetryAttemptsExhausted", "approximateInvokeCount": 3 },
            "responseContext": { "statusCode": 200, "executedVersion": "1", "functionError": null },
            "version": "1.0", "timestamp": "2026-11-22T18:00:00.000Z",
            "KinesisBatchInfo": { "shardId": shard, "startSequenceNumber": start, "endSequenceNumber": end,
                "approximateArrivalOfFirstRecord": "2026-11-22T18:00:00.000Z",
                "approximateArrivalOfLastRecord": "2026-11-22T18:00:00.000Z",
                "batchSize": records, "streamArn": self.stream },
        })
    }

    async fn archived(&self) -> Result<Vec<String>> {
        self.keys("archive", "example-records/").await
    }

    async fn keys(&self, bucket: &str, prefix: &str) -> Result<Vec<String>> {
        let listed = self.s3.list_objects_v2().bucket(bucket).prefix(prefix).send().await?;
        let keys = listed.contents().iter().filter_map(|object| object.key()?.strip_prefix(prefix));
        let mut keys: Vec<String> = keys.map(str::to_owned).collect();
        keys.sort_by_key(|key| (key.len(), key.clone()));
        Ok(keys)
    }
}

/// Puts records into one of the shards and tells their sequence numbers.
async fn put(
    kinesis: &aws_sdk_kinesis::Client,
    stream: &str,
    shard: usize,
    records: &[String],
) -> Result<Vec<String>> {
    // Each of the two shards has half of the keys.
    let hash = (u128::MAX / 4 * if shard == 0 { 1 } else { 3 }).to_string();
    let mut numbers = Vec::new();
    for record in records {
        let put =
            kinesis.put_record().stream_arn(stream).partition_key("key").explicit_hash_key(&hash);
        let answer =
            put.data(aws_sdk_kinesis::primitives::Blob::new(record.as_bytes())).send().await?;
        assert_eq!(answer.shard_id(), SHARDS[shard]);
        numbers.push(answer.sequence_number);
    }
    Ok(numbers)
}

/// The example service as a function.
fn start(moto: &Server, task_root: &Path) -> Result<Emulator> {
    let variables = [
        ("AWS_ENDPOINT_URL", moto.url()),
        ("AWS_ACCESS_KEY_ID", "test".to_owned()),
        ("AWS_SECRET_ACCESS_KEY", "test".to_owned()),
        ("AWS_REGION", REGION.to_owned()),
    ];
    Emulator::start(&example_executable()?, task_root, variables)
}

/// The example's records, each of them an earthquake.
fn quakes(range: std::ops::Range<usize>) -> Result<Vec<String>> {
    let records = std::fs::read_to_string(workspace().join("example/records.ndjson"))?;
    Ok(records.lines().skip(range.start).take(range.len()).map(str::to_owned).collect())
}

/// A queue with messages, by its URL.
struct Queue {
    sqs: aws_sdk_sqs::Client,
    url: String,
}

impl Queue {
    async fn of(deployed: &Deployed) -> Result<Self> {
        let arn = deployed.destination.as_deref().context("the stack has a queue")?;
        let name = arn.rsplit(':').next().context("an ARN holds the name")?;
        let url =
            deployed.sqs.get_queue_url().queue_name(name).send().await?.queue_url.context("URL")?;
        Ok(Self { sqs: deployed.sqs.clone(), url })
    }

    async fn send(&self, body: &str) -> Result<String> {
        let sent = self.sqs.send_message().queue_url(&self.url).message_body(body).send().await?;
        sent.message_id.map(|id| format!("message {id}")).context("a message has an id")
    }

    /// The messages that are there for anyone, and those that are hidden.
    async fn counts(&self) -> Result<(String, String)> {
        use aws_sdk_sqs::types::QueueAttributeName::{All, ApproximateNumberOfMessages as Visible};
        let answer = self
            .sqs
            .get_queue_attributes()
            .queue_url(&self.url)
            .attribute_names(All)
            .send()
            .await?;
        let attributes = answer.attributes.context("attributes")?;
        let hidden = aws_sdk_sqs::types::QueueAttributeName::ApproximateNumberOfMessagesNotVisible;
        let count = |name| attributes.get(&name).cloned().unwrap_or_default();
        Ok((count(Visible), count(hidden)))
    }
}

fn states(answer: &Value) -> Vec<(&str, &str, &str)> {
    let list = answer["not_replayed"].as_array().map(Vec::as_slice).unwrap_or_default();
    list.iter()
        .map(|entry| {
            let text = |key: &str| entry[key].as_str().unwrap_or_default();
            (text("at"), text("state"), text("why"))
        })
        .collect()
}

fn counts(replayed: usize, failed: usize, expired: usize, left: usize) -> Value {
    json!({ "replayed": replayed, "failed": failed, "expired": expired, "left": left })
}

#[tokio::test]
async fn the_records_that_messages_name_are_read_from_the_stream_and_sent_in_order() -> Result<()> {
    let (deployed, [first, second]) =
        Deployed::with("SQS", "", [&quakes(0..12)?, &quakes(12..15)?]).await?;
    let queue = Queue::of(&deployed).await?;
    let told = |shard, start: &String, end: &String, records| {
        deployed.told(shard, start, end, records).to_string()
    };
    // The later batch was told first.
    queue.send(&told(SHARDS[0], &first[6], &first[9], 4)).await?;
    queue.send(&told(SHARDS[0], &first[0], &first[2], 3)).await?;
    queue.send(&told(SHARDS[1], &second[0], &second[2], 3)).await?;

    let (planned, said) = deployed.replay(&["--dry-run"], 0)?;
    assert_eq!(planned["dry_run"], true);
    assert_eq!(
        (&planned["batches"], &planned["records"]),
        (&counts(3, 0, 0, 0), &counts(10, 0, 0, 0))
    );
    assert!(said.contains("3 batches of 10 records to replay"), "{said}");
    let (_, said) = deployed.replay(&[], 4)?;
    assert!(
        said.contains(&format!(
            "not confirmed: invoke {}:current with 3 batches",
            deployed.function
        )),
        "{said}"
    );
    assert_eq!(deployed.archived().await?, Vec::<String>::new());
    assert_eq!(queue.counts().await?, ("3".to_owned(), "0".to_owned()), "all are shown again");

    let (answer, _) = deployed.replay(&["--yes", "--limit", "1", "--keep"], 0)?;
    assert_eq!(
        (&answer["batches"], &answer["records"]),
        (&counts(1, 0, 0, 2), &counts(3, 0, 0, 7))
    );
    assert_eq!(deployed.archived().await?, first[..3], "the first batch of the first shard");
    assert_eq!(queue.counts().await?, ("3".to_owned(), "0".to_owned()));

    let (answer, said) = deployed.replay(&["--yes"], 0)?;
    assert_eq!(
        (&answer["batches"], &answer["records"]),
        (&counts(3, 0, 0, 0), &counts(10, 0, 0, 0))
    );
    assert_eq!(answer["function"], format!("{}:current", deployed.function));
    let lines: Vec<_> = said.lines().filter(|line| line.contains("replaying message")).collect();
    let order: Vec<_> =
        lines.iter().map(|line| (line.contains(SHARDS[0]), line.contains("4 records"))).collect();
    assert_eq!(order, [(true, false), (true, true), (false, false)], "{said}");
    let expected: Vec<_> = first[..3].iter().chain(&first[6..10]).cloned().collect();
    assert_eq!(deployed.archived().await?, expected, "moto numbers both shards from 1");
    let object =
        deployed.s3.get_object().bucket("archive").key(format!("example-records/{}", first[6]));
    let body = object.send().await?.body.collect().await?.to_vec();
    assert_eq!(String::from_utf8(body)?, quakes(6..7)?[0]);
    assert_eq!(queue.counts().await?, ("0".to_owned(), "0".to_owned()));

    let (answer, _) = deployed.replay(&[], 0)?;
    assert_eq!(answer["batches"], counts(0, 0, 0, 0), "there is nothing to ask for");
    Ok(())
}

#[tokio::test]
async fn what_fails_expired_or_cannot_be_read_stays_in_the_queue_and_is_named() -> Result<()> {
    let mut records = quakes(0..9)?;
    records[4] = "no earthquake".to_owned();
    let (deployed, [first, second]) =
        Deployed::with("SQS", "", [&records, &quakes(9..12)?]).await?;
    let queue = Queue::of(&deployed).await?;
    let told =
        |shard, start: &String, end: &String, records| deployed.told(shard, start, end, records);
    queue.send(&told(SHARDS[0], &first[0], &first[2], 3).to_string()).await?;
    let failing = queue.send(&told(SHARDS[0], &first[3], &first[5], 3).to_string()).await?;
    let following = queue.send(&told(SHARDS[0], &first[6], &first[8], 3).to_string()).await?;
    // moto counts from 1 on.
    let part = queue.send(&told(SHARDS[1], &"0".to_owned(), &second[0], 2).to_string()).await?;
    queue.send(&told(SHARDS[1], &second[1], &second[2], 2).to_string()).await?;
    let whole = queue
        .send(&told("shardId-000000000009", &"1".to_owned(), &"2".to_owned(), 2).to_string())
        .await?;
    let malformed = queue.send("hello").await?;
    let mut other = told(SHARDS[0], &first[0], &first[2], 3);
    other["requestContext"]["functionArn"] =
        json!("arn:aws:lambda:us-east-1:123456789012:function:orders-staging");
    let other = queue.send(&other.to_string()).await?;

    let (answer, said) = deployed.replay(&["--yes", "--from", &queue.url], 1)?;
    assert!(
        said.contains("error: 5 batches for ") && said.contains("next: they are where they were"),
        "{said}"
    );
    assert_eq!(answer["batches"], counts(2, 1, 2, 3));
    // Done: 3 of the first batch, 1 before the failure, 1 of the part that is left, and 2.
    assert_eq!(answer["records"], counts(7, 2, 3, 6));
    let states = states(&answer);
    for (message, state, why) in [
        (
            &failing,
            "failed",
            "the function reports record 5 as failed; the records before it are done (1)",
        ),
        (&following, "left", "it follows a batch of its shard that is not done"),
        (
            &part,
            "expired",
            "the stream no longer holds 1 of its 2 records; the others are done (1)",
        ),
        (&whole, "expired", "the stream no longer holds 2 of its 2 records"),
        (&malformed, "left", "it is not what Lambda tells of a batch"),
        (
            &other,
            "left",
            "it is of another function, arn:aws:lambda:us-east-1:123456789012:function:orders-staging",
        ),
    ] {
        let found =
            states.iter().any(|told| told.0 == message && told.1 == state && told.2.contains(why));
        assert!(found, "{message} is not {state}, {why}: {answer:#}");
    }
    assert_eq!(states.len(), 6);
    assert_eq!(deployed.archived().await?, first[..4], "nothing after the failure was sent");
    assert_eq!(
        queue.counts().await?,
        ("6".to_owned(), "0".to_owned()),
        "none of them is lost or hidden"
    );
    Ok(())
}

#[tokio::test]
async fn a_filter_holds_back_what_it_held_back_from_the_batch() -> Result<()> {
    let pattern = "'{\"data\":{\"net\":[\"us\"]}}'";
    let settings =
        format!("[package.metadata.streambot.event-source]\nfilter-patterns = [{pattern}]");
    let records = quakes(2..12)?;
    let (deployed, [numbers, _]) = Deployed::with("SQS", &settings, [&records, &[]]).await?;
    let queue = Queue::of(&deployed).await?;
    let passing: Vec<_> = numbers
        .iter()
        .zip(&records)
        .filter(|(_, record)| record.contains("\"net\":\"us\""))
        .collect();
    assert!(passing.len() > 1 && passing.len() < records.len());
    let (start, end) = (passing[0].0, passing[passing.len() - 1].0);
    queue.send(&deployed.told(SHARDS[0], start, end, passing.len()).to_string()).await?;
    let (answer, _) = deployed.replay(&["--yes"], 0)?;
    assert_eq!(answer["records"], counts(passing.len(), 0, 0, 0));
    let expected: Vec<_> = passing.into_iter().map(|(number, _)| number.clone()).collect();
    assert_eq!(deployed.archived().await?, expected);
    Ok(())
}

#[tokio::test]
async fn records_of_more_than_six_megabytes_are_sent_in_several_invocations() -> Result<()> {
    let padding = " ".repeat(900 * 1024);
    let records: Vec<_> = quakes(0..6)?.into_iter().map(|record| record + &padding).collect();
    let (deployed, [numbers, _]) = Deployed::with("SQS", "", [&records, &[]]).await?;
    let queue = Queue::of(&deployed).await?;
    queue.send(&deployed.told(SHARDS[0], &numbers[0], &numbers[5], 6).to_string()).await?;
    let (answer, _) = deployed.replay(&["--yes"], 0)?;
    assert_eq!(answer["records"], counts(6, 0, 0, 0));
    assert_eq!(deployed.archived().await?, numbers);
    assert_eq!(deployed.emulator.metric_lines().len(), 2, "two invocations");
    Ok(())
}

/// An event of records with these data, as Lambda wrote it.
fn event(stream: &str, data: &[(&str, &str)]) -> Value {
    let records = data.iter().map(|(number, data)| {
        json!({
            "kinesis": {
                "kinesisSchemaVersion": "1.0",
                "partitionKey": "1",
                "sequenceNumber": number,
                "data": base64::engine::general_purpose::STANDARD.encode(data),
                "approximateArrivalTimestamp": 1545084650.987,
            },
            "eventSource": "aws:kinesis",
            "eventVersion": "1.0",
            "eventID": format!("{}:{number}", SHARDS[0]),
            "eventName": "aws:kinesis:record",
            "invokeIdentityArn": "arn:aws:iam::123456789012:role/lambda-role",
            "awsRegion": REGION,
            "eventSourceARN": stream,
        })
    });
    json!({ "Records": records.collect::<Vec<_>>() })
}

#[tokio::test]
async fn the_events_in_a_bucket_are_sent_again_and_only_what_is_done_is_removed() -> Result<()> {
    let (deployed, _) = Deployed::with("S3", "", [&[], &[]]).await?;
    let bucket = deployed
        .destination
        .as_deref()
        .and_then(|arn| arn.rsplit(':').next())
        .context("a bucket")?;
    let prefix = format!("aws/lambda/{}/", deployed.mapping);
    let quakes = quakes(0..3)?;
    let put =
        async |place: &str, shard: &str, numbers: (&str, &str), event: &Value| -> Result<()> {
            let mut told = deployed.told(shard, numbers.0, numbers.1, 2);
            told["payload"] = json!(event.to_string());
            let key = format!("{prefix}{shard}/2026/11/22/2026-11-22T18.00.00-{place}");
            deployed
                .s3
                .put_object()
                .bucket(bucket)
                .key(key)
                .body(told.to_string().into_bytes().into())
                .send()
                .await?;
            Ok(())
        };
    let good = event(&deployed.stream, &[("101", &quakes[0]), ("102", &quakes[1])]);
    put("b", SHARDS[0], ("101", "102"), &good).await?;
    let partial = event(&deployed.stream, &[("201", &quakes[2]), ("202", "no earthquake")]);
    put("a", SHARDS[0], ("201", "202"), &partial).await?;
    let after = event(&deployed.stream, &[("301", &quakes[0]), ("302", &quakes[1])]);
    put("c", SHARDS[0], ("301", "302"), &after).await?;
    // The function fails as a whole where a record has no sequence number it could report.
    put(
        "d",
        SHARDS[1],
        ("401", "402"),
        &json!({ "Records": [{ "kinesis": { "sequenceNumber": "401" } }] }),
    )
    .await?;
    let mut windowed = good.clone();
    windowed["window"] = json!({ "start": "2020-12-09T07:04:00Z", "end": "2020-12-09T07:06:00Z" });
    put("e", "shardId-000000000002", ("501", "502"), &windowed).await?;
    // Of another mapping.
    let other = "aws/lambda/another/object";
    deployed
        .s3
        .put_object()
        .bucket(bucket)
        .key(other)
        .body(b"hello".to_vec().into())
        .send()
        .await?;

    let before = deployed.keys(bucket, &prefix).await?;
    let (answer, _) = deployed.replay(&["--dry-run"], 0)?;
    assert_eq!(
        (&answer["batches"], &answer["records"]),
        (&counts(5, 0, 0, 0), &counts(10, 0, 0, 0))
    );
    assert_eq!(answer["from"], json!([format!("s3://{bucket}/{prefix}")]));
    assert_eq!(deployed.keys(bucket, &prefix).await?, before);
    assert_eq!(deployed.archived().await?, Vec::<String>::new());

    let (answer, _) = deployed.replay(&["--yes"], 1)?;
    assert_eq!(answer["batches"], counts(1, 2, 0, 2), "{answer:#}");
    assert_eq!(answer["records"], counts(3, 2, 0, 4), "{answer:#}");
    let text = answer.to_string();
    assert!(
        text.contains("reports record 202 as failed; the records before it are done (1)"),
        "{text}"
    );
    assert!(text.contains("the function failed: Function.RecordsFailed: "), "{text}");
    assert!(text.contains("its mapping has a tumbling window"), "{text}");
    assert_eq!(deployed.archived().await?, ["101", "102", "201"]);
    let left: Vec<_> = before.into_iter().filter(|key| !key.ends_with("-b")).collect();
    assert_eq!(deployed.keys(bucket, &prefix).await?, left, "only the batch that is done is gone");

    // Another place, as the user names it.
    let (answer, said) =
        deployed.replay(&["--yes", "--from", &format!("s3://{bucket}/aws/lambda/another")], 1)?;
    assert_eq!(answer["batches"], counts(0, 0, 0, 1));
    assert!(answer.to_string().contains(&format!("s3://{bucket}/{other}")), "{answer}\n{said}");
    Ok(())
}

#[tokio::test]
async fn without_a_function_or_a_place_that_holds_something_it_says_what_to_do() -> Result<()> {
    let (deployed, _) = Deployed::with("NONE", "", [&[], &[]]).await?;
    let (_, said) = deployed.replay(&[], 2)?;
    assert!(said.contains("function `quakes-staging` has no failure destination"), "{said}");
    let (_, said) =
        deployed.replay(&["--from", "arn:aws:sns:us-east-1:123456789012:failures"], 2)?;
    assert!(
        said.contains("topic arn:aws:sns:us-east-1:123456789012:failures holds nothing"),
        "{said}"
    );
    assert!(said.contains("next: name a queue that is subscribed to it with --from"), "{said}");
    let (_, said) = deployed.replay(&["--from", "lost.ndjson"], 2)?;
    assert!(said.contains("write s3://bucket/prefix, or a queue's ARN or URL"), "{said}");
    let (_, said) = deployed.replay(&["--from", "arn:aws:sqs:us-east-1:123456789012:none"], 3)?;
    assert!(said.contains("there is no queue `none`"), "{said}");
    deployed.lambda.delete_function().function_name(NAME).send().await?;
    let (_, said) = deployed.replay(&[], 3)?;
    assert!(
        said.contains("function `quakes-staging` with alias `current` is not there in us-east-1"),
        "{said}"
    );
    Ok(())
}
