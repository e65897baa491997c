//! `streambot-deploy local` with a function in another language: Python on AWS's own runtime
//! client, with Powertools.

#![allow(clippy::unwrap_used)]

#[path = "support/local.rs"]
mod local;

use std::fs;

use serde_json::Value;

use local::{Ended, Local, tool};

/// A batch processor as Powertools documents it, which fails on `once` the first time and on
/// `always` every time.
const APP: &str = r#"
import json, os
from aws_lambda_powertools import Logger
from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType, process_partial_response
from aws_lambda_powertools.utilities.data_classes.kinesis_stream_event import KinesisStreamRecord

processor = BatchProcessor(event_type=EventType.KinesisDataStreams)
logger = Logger(service="numbers")
failed = set()

def record_handler(record: KinesisStreamRecord):
    word = record.kinesis.data_as_json()["word"]
    if word == "always" or (word == "once" and word not in failed):
        failed.add(word)
        raise ValueError(word)

def handler(event, context):
    words = [record.kinesis.data_as_json()["word"] for record in map(KinesisStreamRecord, event["Records"])]
    with open(os.environ["LOG"], "a") as log:
        entry = {"process": os.getpid(), "data": words, "function": context.function_name,
                 "arn": context.invoked_function_arn, "remaining": context.get_remaining_time_in_millis()}
        log.write(json.dumps(entry) + "\n")
    logger.info("handling", extra={"records": len(words)})
    return process_partial_response(event=event, record_handler=record_handler, processor=processor, context=context)
"#;

/// A run of the Python function on records with these words, in batches of up to four.
fn run(words: &[&str], arguments: &[&str]) -> Ended {
    let local =
        Local::function("").records(words.iter().map(|word| format!("{{\"word\":\"{word}\"}}")));
    let python = tool("python/peers/bin/python");
    let folder = local.folder.path().display();
    let bootstrap = format!(
        "#!/bin/sh\nPYTHONPATH={folder} exec {} -m awslambdaric app.handler\n",
        python.display()
    );
    fs::write(local.path("bootstrap"), bootstrap).unwrap();
    fs::write(local.path("app.py"), APP).unwrap();
    local.with(&["--batch-size", "4", "--output", "json"]).with(arguments).run()
}

fn data(ended: &Ended) -> Vec<Value> {
    ended.invocations.iter().map(|invocation| invocation["data"].clone()).collect()
}

#[test]
fn a_python_function_reports_a_partial_failure_and_gets_the_rest_again() {
    let ended = run(&["a", "b", "once", "c", "d"], &["--timeout", "30"]);
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    let expected = [&["a", "b", "once", "c"][..], &["once", "c"], &["d"]];
    assert_eq!(data(&ended), expected.map(|words| Value::from(words.to_vec())));
    let summary = ended.summary();
    assert_eq!((&summary["succeeded"], &summary["retries"]), (&5.into(), &1.into()));
    let first = &ended.invocations[0];
    assert_eq!(first["function"], "bootstrap-local");
    assert_eq!(first["arn"], "arn:aws:lambda:us-east-1:000000000000:function:bootstrap-local");
    assert!((20_000..=30_000).contains(&first["remaining"].as_u64().unwrap()), "{first}");
    assert!(ended.stderr.contains("\"message\":\"handling\""), "{}", ended.stderr);
}

/// Powertools raises an error where every record of a batch failed; that is the function's error,
/// and discarded in the end.
#[test]
fn a_python_function_that_fails_on_all_of_a_batch_ends_in_a_discard() {
    let ended = run(&["a", "always"], &["--maximum-retry-attempts", "1"]);
    assert_eq!(ended.code, Some(1), "{ended:#?}");
    assert_eq!(
        data(&ended),
        [&["a", "always"][..], &["always"], &["always"]].map(|words| Value::from(words.to_vec()))
    );
    assert_eq!(ended.summary()["discarded"], 1);
    assert!(ended.stderr.contains("BatchProcessingError"), "{}", ended.stderr);
    assert!(ended.stderr.contains("RetryAttemptsExhausted after 2 attempts"), "{}", ended.stderr);
}
