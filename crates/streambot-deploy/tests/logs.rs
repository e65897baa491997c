//! `logs` against moto: what a log group and a bucket hold, once and as it comes, and what is said
//! where there is neither.

mod support;

use std::process::Stdio;
use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result};
use aws_sdk_cloudwatchlogs::types::InputLogEvent;
use serde_json::{Value, json};

use support::Server;
use support::deployed::{Deployed, ended};
use support::proxy::{Fault, Refusal};

static MOTO: LazyLock<Server> = LazyLock::new(|| Server::moto().expect("moto starts"));

fn milliseconds_ago(seconds: u64) -> i64 {
    let time = SystemTime::now() - Duration::from_secs(seconds);
    let since = time.duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
    i64::try_from(since.as_millis()).expect("before the year 292 million")
}

/// A log group.
struct Group<'a> {
    client: aws_sdk_cloudwatchlogs::Client,
    name: String,
    deployed: &'a Deployed,
}

impl<'a> Group<'a> {
    async fn of(deployed: &'a Deployed, streams: &[&str]) -> Result<Self> {
        Self::named(deployed, &format!("/aws/lambda/{}", deployed.name), streams).await
    }

    /// One of another name than the function's own has.
    async fn named(deployed: &'a Deployed, name: &str, streams: &[&str]) -> Result<Self> {
        let client = aws_sdk_cloudwatchlogs::Client::new(&deployed.config);
        let name = name.to_owned();
        client.create_log_group().log_group_name(&name).send().await?;
        for stream in streams {
            client
                .create_log_stream()
                .log_group_name(&name)
                .log_stream_name(*stream)
                .send()
                .await?;
        }
        Ok(Self { client, name, deployed })
    }

    /// Logs a line, so many seconds ago.
    async fn log(&self, stream: &str, seconds_ago: u64, message: &str) -> Result<()> {
        let event = InputLogEvent::builder()
            .timestamp(milliseconds_ago(seconds_ago))
            .message(message)
            .build()?;
        let request =
            self.client.put_log_events().log_group_name(&self.name).log_stream_name(stream);
        request.log_events(event).send().await?;
        Ok(())
    }

    /// The messages of `logs` with these arguments.
    fn messages(&self, arguments: &[&str]) -> Result<Vec<String>> {
        messages(self.deployed, arguments)
    }
}

/// The messages of `logs` with these arguments, as JSON.
fn messages(deployed: &Deployed, arguments: &[&str]) -> Result<Vec<String>> {
    let text = deployed.text(&[&["logs", "staging", "--output", "json"], arguments].concat())?;
    text.lines().map(message).collect()
}

fn message(line: &str) -> Result<String> {
    let line: Value = serde_json::from_str(line)?;
    line["message"].as_str().map(str::to_owned).context("a message")
}

#[tokio::test]
async fn a_log_group_is_printed_in_the_order_of_time_since_when_and_what_is_asked() -> Result<()> {
    let deployed = Deployed::new(&MOTO, "grouped", &[]).await?;
    let group = Group::of(&deployed, &["one", "two"]).await?;
    group.log("one", 3 * 60 * 60, "hours old").await?;
    group.log("two", 120, "second").await?;
    group.log("one", 60, r#"{"level":"WARN","message":"third","id":"us7"}"#).await?;
    group.log("one", 300, "first\n").await?;

    let third = r#"{"level":"WARN","message":"third","id":"us7"}"#;
    assert_eq!(group.messages(&[])?, ["first\n", "second", third]);
    assert_eq!(group.messages(&["--since", "4h"])?.len(), 4);
    assert_eq!(group.messages(&["--since", "2015-01-01T00:00:00Z"])?.len(), 4);
    assert_eq!(group.messages(&["--since", "3m"])?, ["second", third]);
    assert_eq!(group.messages(&["--filter", "second"])?, ["second"]);
    assert!(group.messages(&["--filter", "nowhere"])?.is_empty());

    let text = deployed.text(&["logs", "staging"])?;
    let lines: Vec<_> =
        text.lines().map(|line| line.split_once("  ").expect("a time and a line")).collect();
    assert!(lines.iter().all(|(time, _)| time.parse::<jiff::Timestamp>().is_ok()), "{text}");
    assert_eq!(
        lines.iter().map(|(_, line)| *line).collect::<Vec<_>>(),
        ["first", "second", "WARN  third id=us7"]
    );
    Ok(())
}

#[tokio::test]
async fn following_prints_each_event_once_and_ends_well_with_ctrl_c() -> Result<()> {
    let deployed = Deployed::nothing(&MOTO, "followed").await?;
    let group = Group::of(&deployed, &["one", "two"]).await?;
    group.log("one", 60, "before").await?;
    let running =
        deployed.start(&["logs", "staging", "--follow", "--interval", "0", "--output", "json"])?;
    assert_eq!(message(&running.line()?)?, "before");
    group.log("one", 0, "now").await?;
    assert_eq!(message(&running.line()?)?, "now");
    group.log("two", 5, "late").await?;
    assert_eq!(message(&running.line()?)?, "late");

    // CloudWatch fails for a while.
    deployed.proxy.once(
        "FilterLogEvents",
        1,
        Fault::Refuse(Refusal::new(400, "AccessDeniedException", "no")),
    );
    group.log("two", 0, "last").await?;
    assert_eq!(message(&running.line()?)?, "last");
    let (status, rest) = running.interrupt()?;
    assert_eq!(status.code(), Some(0));
    assert!(rest.is_empty(), "{rest:?}");
    Ok(())
}

#[tokio::test]
async fn a_reader_that_stops_early_ends_the_following() -> Result<()> {
    let deployed = Deployed::nothing(&MOTO, "unread").await?;
    let group = Group::of(&deployed, &["one"]).await?;
    group.log("one", 60, "unread").await?;
    let mut command = deployed.service.command(["logs", "staging", "--follow", "--interval", "0"]);
    let mut child = command.stdout(Stdio::piped()).spawn()?;
    drop(child.stdout.take());
    assert!(ended(&mut child)?.success());
    Ok(())
}

#[tokio::test]
async fn a_group_that_is_not_there_is_missing_even_to_follow() -> Result<()> {
    let deployed = Deployed::nothing(&MOTO, "silent").await?;
    for arguments in [&["logs", "staging"][..], &["logs", "staging", "--follow"]] {
        let said = deployed.service.fails(arguments, 3)?;
        assert!(
            said.contains("log group `/aws/lambda/silent-staging` is not there in us-east-1"),
            "{said}"
        );
        assert!(said.contains("next: Lambda makes it with the first invocation"), "{said}");
    }
    let said = deployed.service.fails(&["logs", "staging", "--since", "soon"], 2)?;
    assert!(said.contains("write how long ago, such as 30s"), "{said}");
    deployed.service.fails(&["logs", "staging", "--interval", "1"], 2)?;
    Ok(())
}

#[tokio::test]
async fn the_group_that_the_function_names_is_read_and_lambdas_own_where_that_may_not_be_asked()
-> Result<()> {
    let deployed = Deployed::new(&MOTO, "named", &[]).await?;
    let group = Group::named(&deployed, "quakes-of-all-stages", &["one"]).await?;
    group.log("one", 60, "in the named group").await?;
    // moto has no logging settings: they come with the answer.
    let settings = json!({ "LogGroup": group.name, "LogFormat": "JSON" });
    let (before, after) =
        ("\"FunctionName\":", format!("\"LoggingConfig\": {settings}, \"FunctionName\":"));
    deployed.proxy.for_ever("GetFunctionConfiguration", 1, Fault::Reword(before.to_owned(), after));
    assert_eq!(group.messages(&[])?, ["in the named group"]);

    let denied = Fault::Refuse(Refusal::new(403, "AccessDeniedException", "no"));
    let deployed = Deployed::nothing(&MOTO, "unnamed").await?;
    deployed.proxy.for_ever("GetFunctionConfiguration", 1, denied);
    Group::of(&deployed, &["one"]).await?.log("one", 60, "in Lambda's own").await?;
    let output = deployed.service.attempt(&["logs", "staging"])?;
    let (told, said) = (String::from_utf8(output.stdout)?, String::from_utf8(output.stderr)?);
    assert_eq!(message(&told)?, "in Lambda's own");
    let warning = "warning: reading the log group of function `unnamed-staging`: AccessDeniedException: no; taken to be";
    assert!(said.contains(warning), "{said}");
    Ok(())
}

/// A bucket with log objects, and their client.
async fn bucket(
    deployed: &Deployed,
    name: &str,
    objects: &[(&str, &str)],
) -> Result<aws_sdk_s3::Client> {
    let settings =
        aws_sdk_s3::config::Builder::from(&deployed.config).force_path_style(true).build();
    let client = aws_sdk_s3::Client::from_conf(settings);
    client.create_bucket().bucket(name).send().await?;
    for (key, lines) in objects {
        put(&client, name, key, lines).await?;
    }
    Ok(client)
}

async fn put(client: &aws_sdk_s3::Client, bucket: &str, key: &str, lines: &str) -> Result<()> {
    client
        .put_object()
        .bucket(bucket)
        .key(key)
        .body(lines.as_bytes().to_vec().into())
        .send()
        .await?;
    Ok(())
}

#[tokio::test]
async fn uploaded_log_objects_are_printed_with_their_names_and_followed() -> Result<()> {
    let parameters = [("LogBucket", "uploaded-logs"), ("LogPrefix", "logs")];
    let deployed = Deployed::stacks(&MOTO, "uploaded", &parameters).await?;
    let key = |number: u32| format!("logs/uploaded-staging/shardId-000000000000/{number}-id.log");
    let json_line =
        r#"{"timestamp":"2026-11-24T17:00:00Z","level":"INFO","message":"second","id":"us7"}"#;
    let client = bucket(
        &deployed,
        "uploaded-logs",
        &[
            (&key(1), "first\n"),
            (&key(2), &format!("{json_line}\nplain\n")),
            ("logs/uploaded-staging/notes.txt", "no log\n"),
            ("logs/uploaded-staging-two/shardId-000000000000/1-id.log", "another stack's\n"),
        ],
    )
    .await?;

    assert_eq!(messages(&deployed, &["--s3"])?, ["first", json_line, "plain"]);
    assert_eq!(messages(&deployed, &["--s3", "--filter", "us7"])?, [json_line]);
    assert!(messages(&deployed, &["--s3", "--since", "2100-01-01T00:00:00Z"])?.is_empty());
    let text = deployed.text(&["logs", "staging", "--s3", "--filter", "us7"])?;
    let lines: Vec<_> = text.lines().collect();
    assert!(lines[0].starts_with(&format!("==> {} (", key(2))), "{text}");
    assert_eq!(lines[1..], ["2026-11-24T17:00:00.000Z  INFO  second id=us7"]);

    let running = deployed.start(&[
        "logs",
        "staging",
        "--s3",
        "--follow",
        "--interval",
        "0",
        "--output",
        "json",
    ])?;
    for expected in ["first", json_line, "plain"] {
        assert_eq!(message(&running.line()?)?, expected);
    }
    // Of an earlier batch, and later.
    put(&client, "uploaded-logs", &key(0), "third\n").await?;
    assert_eq!(message(&running.line()?)?, "third");
    let (status, rest) = running.interrupt()?;
    assert_eq!((status.code(), rest.len()), (Some(0), 0));
    Ok(())
}

#[tokio::test]
async fn without_a_stack_a_log_bucket_or_the_bucket_the_objects_are_missing() -> Result<()> {
    let nothing = Deployed::nothing(&MOTO, "stackless").await?;
    let said = nothing.service.fails(&["logs", "staging", "--s3"], 3)?;
    assert!(said.contains("stack `stackless-staging` is not there in us-east-1"), "{said}");

    let none = Deployed::stacks(&MOTO, "bucketless", &[]).await?;
    let said = none.service.fails(&["logs", "staging", "--s3"], 3)?;
    assert!(
        said.contains("stack `bucketless-staging` has no LogBucket, so no logs are uploaded"),
        "{said}"
    );

    let gone = Deployed::stacks(&MOTO, "gone", &[("LogBucket", "gone-logs")]).await?;
    let said = gone.service.fails(&["logs", "staging", "--s3"], 3)?;
    assert!(said.contains("bucket `gone-logs`, the stack's LogBucket, is not there"), "{said}");
    Ok(())
}
