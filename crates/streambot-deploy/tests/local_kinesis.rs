//! Drives `streambot-deploy local --stream` against a Kinesis in memory, and judges it by its
//! journal.

mod support;

use std::collections::{HashMap, HashSet};

use anyhow::{Context as _, Result, ensure};
use support::journal::{Journal, Runs};
use support::kinesis::{Faults, Put, Stream};
use support::{Server, workspace};

/// The earthquakes, each with its network as the key.
fn earthquakes() -> Result<Vec<(String, String)>> {
    let lines = std::fs::read_to_string(workspace().join("example/records.ndjson"))?;
    let with_key = |line: &str| {
        let quake: serde_json::Value = serde_json::from_str(line)?;
        Ok((quake["net"].as_str().context("a network")?.to_owned(), line.to_owned()))
    };
    lines.lines().map(with_key).collect()
}

fn small(count: usize) -> Vec<(String, String)> {
    (0..count).map(|number| (format!("key{number}"), number.to_string())).collect()
}

/// Nothing is lost, and the records of each key are done in the order in which they were put.
fn assert_done_in_order(journal: &Journal, put: &[Put]) {
    let key_of: HashMap<&str, &str> =
        put.iter().map(|put| (put.sequence_number.as_str(), put.key.as_str())).collect();
    assert_eq!(journal.done.len(), put.len(), "every record is done");
    for key in put.iter().map(|put| put.key.as_str()).collect::<HashSet<_>>() {
        let done: Vec<&str> = journal
            .done
            .iter()
            .map(String::as_str)
            .filter(|number| key_of.get(number) == Some(&key))
            .collect();
        let expected: Vec<&str> = put
            .iter()
            .filter(|put| put.key == key)
            .map(|put| put.sequence_number.as_str())
            .collect();
        assert_eq!(done, expected, "the records of {key}");
    }
}

/// The place in the journal of the last checkpoint of a shard.
fn last_checkpoint(journal: &Journal, shard: &str) -> Option<usize> {
    journal
        .events
        .iter()
        .rposition(|event| event["event"] == "checkpoint" && event["shard"] == shard)
}

/// "Resharding: children are read only after their parent is done." The shards of the stream split
/// and merge while they are read and the function crashes, is throttled and hangs.
#[tokio::test]
async fn a_stream_that_splits_and_merges_is_read_whole_and_in_the_order_of_its_keys() -> Result<()>
{
    let server = Server::kinesis()?;
    let stream = Stream::create(&server, "quakes", 4).await?;
    let quakes = earthquakes()?;
    assert_eq!(quakes.len(), 1707);
    let mut put = stream.put(&quakes[..600]).await?;
    let runs = Runs::new()?;
    let url = server.url();
    let mut run = runs.start(&[
        "--stream",
        "quakes",
        "--endpoint-url",
        &url,
        "--batch-size",
        "40",
        "--parallelization-factor",
        "2",
        "--timeout",
        "1",
        "--chaos",
        "crash=0.03,timeout=0.01,throttle=0.05,duplicate=0.02",
        "--seed",
        "7",
    ])?;
    run.until("the first records are done", |journal| !journal.done.is_empty())?;
    stream.split("shardId-000000000000", 1 << 125).await?;
    put.extend(stream.put(&quakes[600..1200]).await?);
    stream.merge("shardId-000000000002", "shardId-000000000003").await?;
    put.extend(stream.put(&quakes[1200..]).await?);
    run.until("all records are done", |journal| journal.done.len() >= 1707)?;
    let (code, said) = run.interrupt()?;
    assert_eq!(code, Some(1), "{said}");
    let journal = runs.journal()?;
    assert_done_in_order(&journal, &put);
    assert_eq!(journal.events[0]["event"], "start");
    assert_eq!(journal.events[0]["shards"].as_array().map(Vec::len), Some(4));
    let failed =
        journal.of("outcome", None).iter().filter(|outcome| outcome["result"] != "success").count();
    assert!(failed > 0, "there was chaos");
    assert!(journal.of("discard", None).is_empty());
    let parents: [(usize, &[usize]); 3] = [(4, &[0]), (5, &[0]), (6, &[2, 3])];
    let mut read = 0;
    for (child, parents) in parents {
        let child = format!("shardId-{child:012}");
        let first = journal
            .events
            .iter()
            .position(|event| event["event"] == "invoke" && event["shard"] == *child);
        read += usize::from(first.is_some());
        for parent in parents {
            let last = last_checkpoint(&journal, &format!("shardId-{parent:012}"));
            assert!(
                first.is_none_or(|first| last.is_none_or(|last| last < first)),
                "{child} came before its parent"
            );
        }
    }
    assert!(read > 0, "a child had records");
    Ok(())
}

#[tokio::test]
async fn a_run_until_the_tip_ends_there_and_tells_the_streams_own_numbers_and_names() -> Result<()>
{
    let server = Server::kinesis()?;
    let stream = Stream::create(&server, "quakes", 2).await?;
    let mut put = stream.put(&small(50)).await?;
    stream.merge("shardId-000000000000", "shardId-000000000001").await?;
    put.extend(stream.put(&small(50)).await?);
    let (runs, url) = (Runs::new()?, server.url());
    let arn = "arn:aws:kinesis:us-east-1:000000000000:stream/quakes";
    let (code, said, summary) =
        runs.run(&["--stream", arn, "--endpoint-url", &url, "--until-caught-up"])?;
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(summary["succeeded"], 100);
    let journal = runs.journal()?;
    assert_done_in_order(&journal, &put);
    let shards: Vec<_> = summary["shards"]
        .as_array()
        .context("shards")?
        .iter()
        .map(|shard| &shard["shard"])
        .collect();
    assert_eq!(shards, ["shardId-000000000000", "shardId-000000000001", "shardId-000000000002"]);
    let child = journal.events.iter().position(|event| event["shard"] == "shardId-000000000002");
    for parent in ["shardId-000000000000", "shardId-000000000001"] {
        assert!(
            last_checkpoint(&journal, parent) < child,
            "{parent} is done before its child is read"
        );
    }
    Ok(())
}

/// `AT_TIMESTAMP` and `LATEST` pass over what was put before.
#[tokio::test]
async fn a_stream_is_read_from_the_starting_position() -> Result<()> {
    let server = Server::kinesis()?;
    let stream = Stream::create(&server, "quakes", 1).await?;
    stream.put(&small(3)).await?;
    // The stream tells times to the millisecond, and the flag takes decimals.
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    let time = jiff::Timestamp::now().to_string();
    let put = stream.put(&small(2)).await?;
    let (runs, url) = (Runs::new()?, server.url());
    let common = ["--stream", "quakes", "--endpoint-url", &url, "--region", "us-east-1"];
    let at = [
        "--starting-position",
        "AT_TIMESTAMP",
        "--starting-position-timestamp",
        &time,
        "--until-caught-up",
    ];
    let (code, said, _) = runs.run(&[&common[..], &at[..]].concat())?;
    assert_eq!(code, Some(0), "{said}");
    assert_done_in_order(&runs.journal()?, &put);

    let proxy = Faults::before(&server, &[])?;
    let url = proxy.url();
    let latest = ["--stream", "quakes", "--endpoint-url", &url, "--starting-position", "LATEST"];
    let mut run = runs.start(&latest)?;
    run.until("the stream is read", |_| !proxy.calls("GetRecords").is_empty())?;
    let put = stream.put(&small(4)).await?;
    run.until("what came since is done", |journal| journal.done.len() >= 4)?;
    run.interrupt()?;
    assert_done_in_order(&runs.journal()?, &put);
    Ok(())
}

#[tokio::test]
async fn an_expired_iterator_is_renewed_after_the_last_record_and_a_throttle_is_waited_out()
-> Result<()> {
    let server = Server::kinesis()?;
    let stream = Stream::create(&server, "quakes", 1).await?;
    let mut put = stream.put(&small(3)).await?;
    let faults =
        [None, Some("ProvisionedThroughputExceededException"), Some("ExpiredIteratorException")];
    let proxy = Faults::before(&server, &faults)?;
    let (runs, url) = (Runs::new()?, proxy.url());
    let mut run = runs.start(&["--stream", "quakes", "--endpoint-url", &url])?;
    run.until("the first records are done", |journal| journal.done.len() >= 3)?;
    put.extend(stream.put(&small(2)).await?);
    run.until("all records are done", |journal| journal.done.len() >= 5)?;
    run.interrupt()?;
    assert_done_in_order(&runs.journal()?, &put);
    let iterators = proxy.calls("GetShardIterator");
    ensure!(iterators.len() == 2, "{iterators:?}");
    assert_eq!(iterators[0]["ShardIteratorType"], "TRIM_HORIZON");
    assert_eq!(iterators[1]["ShardIteratorType"], "AFTER_SEQUENCE_NUMBER");
    assert_eq!(iterators[1]["StartingSequenceNumber"], put[2].sequence_number.as_str());
    Ok(())
}

/// Recorded of mappings: "Stream not found".
#[test]
fn a_stream_that_is_not_there_is_named() -> Result<()> {
    let server = Server::kinesis()?;
    let (code, said, _) =
        Runs::new()?.run(&["--stream", "nowhere", "--endpoint-url", &server.url()])?;
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("there is no stream `nowhere` in us-east-1"), "{said}");
    Ok(())
}
