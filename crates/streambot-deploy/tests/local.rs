//! Drives `streambot-deploy local` with functions written in Python, each a process of its own that
//! speaks the Lambda Runtime API.

#![allow(clippy::unwrap_used)]

#[path = "support/function.rs"]
mod function;

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::process::Output;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::function::{Local, SUCCEED, assert_gone, wait_until};

#[test]
fn every_record_reaches_the_function_once_in_the_order_of_its_shard() {
    let records: Vec<String> =
        (0..50).map(|number| format!("{{\"key\":\"k{}\",\"n\":{number}}}", number % 7)).collect();
    let records: Vec<&str> = records.iter().map(String::as_str).collect();
    let local = Local::function(SUCCEED).records(&records);
    let (summary, ended) =
        local.with(&["--shards", "3", "--batch-size", "4", "--partition-key", "/key"]).summary();
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    assert_eq!(summary["records"], 50);
    assert_eq!(summary["succeeded"], 50);
    assert_eq!(summary["discarded"], 0);
    assert_eq!(summary["retries"], 0);
    assert_eq!(summary["bytes"], records.iter().map(|record| record.len()).sum::<usize>());
    let shards = summary["shards"].as_array().unwrap();
    assert_eq!(shards.len(), 3);
    for field in ["records", "succeeded", "invocations"] {
        let sum: u64 = shards.iter().map(|shard| shard[field].as_u64().unwrap()).sum();
        assert_eq!(summary[field], sum, "{field}");
    }
    assert!(ended.invocations.iter().all(|batch| batch.len() <= 4));
    for key in 0..7 {
        let of_key = |line: &&str| line.contains(&format!("\"k{key}\""));
        let delivered: Vec<&str> =
            ended.invocations.iter().flatten().map(String::as_str).filter(of_key).collect();
        let expected: Vec<&str> = records.iter().copied().filter(of_key).collect();
        assert_eq!(delivered, expected);
    }
}

#[test]
fn the_summary_is_for_people_unless_json_is_asked_for() {
    let ended = Local::function(SUCCEED).records(&["a", "b"]).run();
    assert!(
        ended
            .stdout
            .starts_with("2 records succeeded, 0 discarded\n1 invocation, 0 retries, 2 bytes in "),
        "{ended:#?}"
    );
}

#[test]
fn a_function_error_brings_the_whole_batch_again() {
    let source = "
def handle(event, number):
    if number < 3:
        raise ValueError('not yet')
    return ''";
    let (summary, ended) = Local::function(source).records(&["a", "b"]).summary();
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    assert_eq!(ended.invocations, [["a", "b"], ["a", "b"], ["a", "b"]]);
    assert_eq!((&summary["invocations"], &summary["retries"]), (&json!(3), &json!(2)));
    assert!(
        ended.stderr.contains("attempt 2 of a batch of 2 failed: ValueError: not yet"),
        "{}",
        ended.stderr
    );
}

#[test]
fn a_reported_failure_brings_its_record_and_all_after_it_again() {
    let source = "
def handle(event, number):
    return failures(event, 'd', 'b') if number == 1 else 'null'";
    let (summary, ended) = Local::function(source).records(&["a", "b", "c", "d"]).summary();
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    assert_eq!(ended.invocations, [vec!["a", "b", "c", "d"], vec!["b", "c", "d"]]);
    assert_eq!(summary["succeeded"], 4);
}

#[test]
fn every_row_of_the_answer_table_means_what_it_means_on_lambda() {
    let done = [
        "null",
        "\"\"",
        "[]",
        "{}",
        r#"{"batchItemFailures":null}"#,
        r#"{"batchItemFailures":[]}"#,
    ];
    let failed = [
        r#"{"batchItemFailures":[{"itemIdentifier":""}]}"#,
        r#"{"batchItemFailures":[{"itemIdentifier":null}]}"#,
        r#"{"batchItemFailures":[{}]}"#,
        r#"{"batchItemFailures":[{"itemIdentifier":123}]}"#,
        r#"{"batchItemFailures":[{"foo":"x"}]}"#,
        r#"{"batchItemFailures":[{"itemIdentifier":"49590338271490256608559690000000000000000000000000000009"}]}"#,
    ];
    for (answers, invocations) in [(&done[..], 1), (&failed[..], 2)] {
        // A batch of two for each answer; a failed one is answered well when it comes again.
        let records: Vec<String> =
            (0..answers.len() * 2).map(|number| number.to_string()).collect();
        let records: Vec<&str> = records.iter().map(String::as_str).collect();
        let answers_json = serde_json::to_string(answers).unwrap();
        let source = format!(
            "
answers = json.loads({answers_json:?})
def handle(event, number):
    again = logged().count(data(event)) > 1
    return 'null' if again else answers[int(data(event)[0]) // 2]"
        );
        let local = Local::function(&source).records(&records).with(&[
            "--batch-size",
            "2",
            "--maximum-retry-attempts",
            "5",
        ]);
        let (summary, ended) = local.summary();
        assert_eq!(summary["succeeded"], records.len(), "{ended:#?}");
        let expected: Vec<Vec<&str>> = records
            .chunks(2)
            .flat_map(|batch| std::iter::repeat_n(batch.to_vec(), invocations))
            .collect();
        assert_eq!(ended.invocations, expected);
    }
}

/// Recorded on AWS: six records, batch size 3, three retries, the last always fails.
#[test]
fn attempts_start_anew_when_the_checkpoint_moves() {
    let local = Local::function("def handle(event, number): return failures(event, '6')")
        .records(&["1", "2", "3", "4", "5", "6"])
        .with(&["--batch-size", "3", "--maximum-retry-attempts", "3"]);
    let (summary, ended) = local.summary();
    assert_eq!(ended.code, Some(1), "a discarded record fails the run");
    let deliveries =
        ended.invocations.iter().filter(|batch| batch.contains(&"6".to_owned())).count();
    assert_eq!(deliveries, 5);
    assert_eq!((&summary["succeeded"], &summary["discarded"]), (&json!(5), &json!(1)));
    assert!(ended.stderr.contains("RetryAttemptsExhausted after 4 attempts"), "{}", ended.stderr);
    assert!(ended.stderr.contains("error: the run discarded 1 record"), "{}", ended.stderr);
}

#[test]
fn a_crash_and_a_timeout_end_the_process_and_the_next_attempt_has_a_fresh_one() {
    let source = "
import subprocess
def init():
    child = subprocess.Popen(['sleep', '600'])
    with open(os.environ['LOG'] + '.ids', 'a') as file:
        print(os.getpid(), child.pid, sep='\\n', file=file)
def handle(event, number):
    if number == 1:
        print('going down', flush=True)
        os._exit(3)
    if number == 2:
        time.sleep(600)
    return 'null'";
    let local = Local::function(source).records(&["a", "b"]).with(&["--timeout", "1"]);
    let ids = local.folder.path().join("log.ids");
    let ended = local.run();
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    assert_eq!(ended.invocations, [["a", "b"], ["a", "b"], ["a", "b"]]);
    assert!(ended.stderr.contains("going down\n"), "{}", ended.stderr);
    assert!(ended.stderr.contains("ended before it answered (exit status: 3)"), "{}", ended.stderr);
    assert!(
        ended.stderr.contains("no answer within the function's timeout of 1 s"),
        "{}",
        ended.stderr
    );
    assert_eq!(
        fs::read_to_string(&ids).unwrap().lines().count(),
        6,
        "three processes with a child each"
    );
    assert_gone(&ids);
}

#[test]
fn one_process_serves_a_shard_for_as_long_as_it_lives() {
    let source = "
def init():
    print('init', flush=True)
def handle(event, number):
    return 'null'";
    let ended =
        Local::function(source).records(&["a", "b", "c"]).with(&["--batch-size", "1"]).run();
    assert_eq!(ended.stderr.matches("init").count(), 1, "{}", ended.stderr);
    assert_eq!(ended.invocations.len(), 3);
}

#[test]
fn a_process_that_ends_after_its_answer_is_replaced_and_nothing_is_sent_twice() {
    let source = "
def handle(event, number):
    call('POST', 'invocation/' + request_id + '/response', 'null')
    os._exit(0)";
    let (summary, ended) =
        Local::function(source).records(&["a", "b", "c"]).with(&["--batch-size", "1"]).summary();
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    assert_eq!((&summary["invocations"], &summary["retries"]), (&json!(3), &json!(0)));
}

#[test]
fn a_function_that_never_starts_ends_the_run_with_its_output() {
    let ended = Local::script("#!/bin/sh\necho no such model >&2\nexit 7\n")
        .records(&["a"])
        .with(&["--quiet"])
        .run();
    assert_eq!(ended.code, Some(1), "{ended:#?}");
    assert!(ended.stderr.contains("exit status: 7), 3 times in a row"), "{}", ended.stderr);
    assert!(ended.stderr.contains("| no such model"), "{}", ended.stderr);
    assert!(ended.stderr.contains("Lambda Runtime API"), "{}", ended.stderr);
}

#[test]
fn an_init_error_is_told_in_the_functions_words() {
    let source = "
def init():
    call('POST', 'init/error', json.dumps({'errorType': 'Config', 'errorMessage': 'no bucket'}))
    sys.exit(1)";
    let ended = Local::function(source).records(&["a"]).run();
    assert_eq!(ended.code, Some(1), "{ended:#?}");
    assert!(
        ended.stderr.contains("init failed: Config: no bucket, 3 times in a row"),
        "{}",
        ended.stderr
    );
}

#[test]
fn a_process_that_never_asks_for_an_event_ends_the_run_after_lambdas_init_limit() {
    let ended = Local::script("#!/bin/sh\nsleep 600\n").records(&["a"]).run();
    assert_eq!(ended.code, Some(1), "{ended:#?}");
    assert!(ended.stderr.contains("did not ask for an event within 10 s"), "{}", ended.stderr);
}

#[test]
fn a_wrong_request_id_a_second_answer_and_an_oversize_one_are_refused() {
    let source = "
def handle(event, number):
    wrong, _ = call('POST', 'invocation/00000000-0000-0000-0000-000000000000/response', 'null')
    if number == 1:
        large, _ = call('POST', 'invocation/' + request_id + '/response', 'x' * 7000000)
        print('statuses', wrong.status, large.status, flush=True)
        os._exit(1)
    first, _ = call('POST', 'invocation/' + request_id + '/response', 'null')
    second, _ = call('POST', 'invocation/' + request_id + '/response', 'null')
    print('statuses', wrong.status, first.status, second.status, flush=True)
    return 'null'";
    let ended = Local::function(source).records(&["a"]).run();
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    assert!(ended.stderr.contains("Function.ResponseSizeTooLarge"), "{}", ended.stderr);
    assert!(ended.stderr.contains("statuses 400 413\n"), "{}", ended.stderr);
    assert!(ended.stderr.contains("statuses 400 202 403\n"), "{}", ended.stderr);
}

#[test]
fn standard_input_is_read_to_its_end() {
    let (summary, ended) = Local::function(SUCCEED).stdin("a\nb\nc").summary();
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    assert_eq!(summary["succeeded"], 3);
}

#[test]
fn a_live_pipe_is_followed() {
    let local = Local::function(SUCCEED).stdin("a\n").with(&["--output", "json"]);
    let (mut child, stdin) = local.spawn_with_open_stdin();
    wait_until("the first record is delivered", || {
        fs::read_to_string(local.log()).is_ok_and(|log| log == "[\"a\"]\n")
    });
    let mut stdin = stdin.unwrap();
    stdin.write_all(b"b\n").unwrap();
    wait_until("the second record is delivered", || {
        fs::read_to_string(local.log()).is_ok_and(|log| log.ends_with("[\"b\"]\n"))
    });
    assert!(child.try_wait().unwrap().is_none(), "the pipe is still open");
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(summary["succeeded"], 2);
}

#[test]
fn records_without_any_line_succeed() {
    let (summary, ended) = Local::function(SUCCEED).records(&[]).summary();
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    assert_eq!((&summary["records"], &summary["invocations"]), (&json!(0), &json!(0)));
}

#[test]
fn lanes_of_a_shard_run_at_once_and_keep_the_order_of_each_key() {
    let source = "
def handle(event, number):
    time.sleep(0.05)
    print('process', os.getpid(), flush=True)
    return 'null'";
    let records: Vec<String> = (0..40).map(|number| format!("[{},{number}]", number % 5)).collect();
    let records: Vec<&str> = records.iter().map(String::as_str).collect();
    let local = Local::function(source).records(&records);
    let (summary, ended) = local
        .with(&["--parallelization-factor", "4", "--batch-size", "2", "--partition-key", "/0"])
        .summary();
    assert_eq!(summary["succeeded"], 40, "{ended:#?}");
    let mut processes: Vec<&str> =
        ended.stderr.lines().filter(|line| line.starts_with("process ")).collect();
    processes.sort_unstable();
    processes.dedup();
    assert!((2..=4).contains(&processes.len()), "{processes:?}");
    for key in 0..5 {
        let of_key: Vec<&String> = ended
            .invocations
            .iter()
            .flatten()
            .filter(|line| line.starts_with(&format!("[{key},")))
            .collect();
        let expected: Vec<&&str> =
            records.iter().filter(|line| line.starts_with(&format!("[{key},"))).collect();
        assert_eq!(of_key.len(), expected.len());
        assert!(
            of_key.iter().zip(expected).all(|(delivered, expected)| delivered == expected),
            "{of_key:?}"
        );
    }
}

#[test]
fn metrics_are_summed_up_and_other_lines_passed_on() {
    let source = r#"
def handle(event, number):
    print('a line', file=sys.stderr, flush=True)
    print(json.dumps({"_aws": {"Timestamp": 1, "CloudWatchMetrics": [{"Namespace": "n", "Dimensions": [[]],
        "Metrics": [{"Name": "Alerts", "Unit": "Count"}]}]}, "Alerts": len(event["Records"])}), flush=True)
    return 'null'"#;
    let local = || Local::function(source).records(&["a", "b", "c"]).with(&["--batch-size", "2"]);
    let (summary, ended) = local().summary();
    assert_eq!(
        summary["metrics"]["Alerts"],
        json!({ "total": 3, "count": 2, "maximum": 2, "unit": "Count" })
    );
    assert!(
        ended.stderr.contains("a line\n") && !ended.stderr.contains("_aws"),
        "{}",
        ended.stderr
    );
    let quiet = local().with(&["--quiet"]).run();
    assert_eq!(quiet.stderr, "");
    assert!(quiet.stdout.contains(" 3 Alerts\n"), "{}", quiet.stdout);
}

/// What is printed after the answer belongs to the invocation, also to the last one.
#[test]
fn what_the_function_prints_after_its_last_answer_is_not_lost() {
    let source = "
def handle(event, number):
    call('POST', 'invocation/' + request_id + '/response', 'null')
    time.sleep(0.3)
    print('afterwards', flush=True)
    return 'null'";
    let ended = Local::function(source).records(&["a"]).run();
    assert!(ended.stderr.contains("afterwards\n"), "{ended:#?}");
}

#[test]
fn the_function_sees_lambdas_variables_and_none_of_this_machines() {
    let source = "
def handle(event, number):
    print('variables', json.dumps(dict(os.environ)), flush=True)
    print('folder', os.getcwd(), os.listdir('.'), flush=True)
    return 'null'";
    let local = Local::function(source)
        .records(&["a"])
        .file(".env", "StackName=production\n")
        .file("staging.env", "StackName=\"stag\\$ing\"\nMetricName=Quakes\n")
        .variable("AWS_ACCESS_KEY_ID", "secret")
        .variable("AWS_PROFILE", "production")
        .variable("STRAY", "stray")
        .with(&["--env-file", "staging.env", "--env", "MetricName=Mine", "--memory", "512"]);
    let ended = local.run();
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    let line = ended.stderr.lines().find_map(|line| line.strip_prefix("variables ")).unwrap();
    let variables: Value = serde_json::from_str(line).unwrap();
    for (name, value) in [
        ("AWS_LAMBDA_FUNCTION_NAME", "bootstrap-local"),
        ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST"),
        ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "512"),
        ("AWS_REGION", "us-east-1"),
        ("STREAMBOT_REPORT_BATCH_ITEM_FAILURES", "true"),
        ("StackName", "stag$ing"),
        ("MetricName", "Mine"),
    ] {
        assert_eq!(variables[name], value, "{name}");
    }
    for name in ["AWS_ACCESS_KEY_ID", "AWS_PROFILE", "STRAY"] {
        assert_eq!(variables[name], Value::Null, "{name}");
    }
    let folder = ended.stderr.lines().find_map(|line| line.strip_prefix("folder ")).unwrap();
    assert!(
        folder.ends_with(" []") && folder.contains("streambot-local-"),
        "no .env is near: {folder}"
    );
    assert_eq!(folder.split(' ').next(), variables["LAMBDA_TASK_ROOT"].as_str());
}

#[test]
fn an_event_is_sent_as_it_is_and_its_answer_printed() {
    let event = r#"{"Records":[{"kinesis":{"data":"aGVsbG8=","sequenceNumber":"1"},  "eventName":"aws:kinesis:record"}]}"#;
    let source = "
def handle(event, number):
    print('got', body.decode(), flush=True)
    return failures(event, 'hello')";
    let local =
        || Local::function(source).file("event.json", event).with(&["--event", "event.json"]);
    let ended = local().run();
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    assert_eq!(ended.stdout, "{\"batchItemFailures\": [{\"itemIdentifier\": \"1\"}]}\n");
    assert!(ended.stderr.contains(&format!("got {event}\n")), "{}", ended.stderr);

    let failing = Local::function("def handle(event, number): raise ValueError('no')");
    let ended = failing.file("event.json", event).with(&["--event", "event.json"]).run();
    assert_eq!(ended.code, Some(1), "{ended:#?}");
    assert!(ended.stderr.contains("the function failed: ValueError: no"), "{}", ended.stderr);
}

#[test]
fn a_setting_that_is_not_simulated_is_named() {
    let ended = Local::function(SUCCEED).records(&["a"]).with(&["--enabled=false"]).run();
    assert_eq!(ended.stderr.matches("warning: `enabled` is set").count(), 1, "{}", ended.stderr);
}

#[test]
fn bad_input_is_named_with_its_file_and_line() {
    let with_text = |text: &str| Local::function(SUCCEED).records_text(text);
    let long = "x".repeat(1024 * 1024 + 1);
    for (local, code, expected) in [
        (
            Local::function(SUCCEED).with(&["--records", "nowhere.ndjson"]),
            2,
            "opening the records in nowhere.ndjson",
        ),
        (Local::function(SUCCEED).with(&["--records", "."]), 2, ". is a folder"),
        (with_text("a\n\nb\n"), 1, "line 2 of records.ndjson is empty"),
        (
            with_text(&format!("a\n{long}\n")),
            1,
            "line 2 of records.ndjson is longer than 1048576 bytes",
        ),
        (
            with_text("{\"net\":1}\n{\"nut\":2}\n").with(&["--partition-key", "/net"]),
            1,
            "line 2 of records.ndjson has nothing at /net",
        ),
        (with_text("a\n").with(&["--partition-key", "net"]), 2, "starts with a slash"),
        (with_text("a\n").with(&["--env-file", "no.env"]), 2, "reading the variables in no.env"),
        (Local::function(SUCCEED).with(&["--event", "no.json"]), 2, "reading the event in no.json"),
        (Local::function(SUCCEED), 2, "--records"),
    ] {
        let ended = local.run();
        assert_eq!(ended.code, Some(code), "{ended:#?}");
        assert!(ended.stderr.contains(expected), "{expected}: {}", ended.stderr);
    }
}

#[test]
fn the_records_before_a_bad_line_are_delivered() {
    let (summary, ended) = Local::function(SUCCEED).records_text("a\nb\n\n").summary();
    assert_eq!(ended.code, Some(1), "{ended:#?}");
    assert_eq!(summary["succeeded"], 2);
}

#[test]
fn an_executable_that_cannot_be_run_is_named() {
    let local = Local::function(SUCCEED).records(&["a"]);
    fs::set_permissions(local.folder.path().join("bootstrap"), fs::Permissions::from_mode(0o644))
        .unwrap();
    let ended = local.run();
    assert_eq!(ended.code, Some(2), "{ended:#?}");
    assert!(
        ended.stderr.contains("it is not executable") && ended.stderr.contains("chmod +x"),
        "{}",
        ended.stderr
    );

    let ended = Local::script("no program").records(&["a"]).run();
    assert_eq!(ended.code, Some(1), "{ended:#?}");
    assert!(ended.stderr.contains("starting the function's process"), "{}", ended.stderr);

    let missing =
        Local::function(SUCCEED).records(&["a"]).with(&["--package", "nothing-of-this-name"]);
    assert_eq!(missing.run().code, Some(2));
}

/// A function that takes its time over three records, interrupted in its first invocation.
fn interrupted(source: &str, signals: usize) -> (Local, Output) {
    let arguments = ["--batch-size", "1", "--output", "json"];
    interrupt(source, |local| local.records(&["a", "b", "c"]).with(&arguments), signals)
}

/// A function and its child, which go on for long, interrupted in the first invocation.
fn interrupt(
    source: &str,
    prepare: impl FnOnce(Local) -> Local,
    signals: usize,
) -> (Local, Output) {
    let source = format!(
        "
import subprocess
def init():
    child = subprocess.Popen(['sleep', '600'])
    with open(os.environ['LOG'] + '.ids', 'a') as file:
        print(os.getpid(), child.pid, sep='\\n', file=file)
{source}"
    );
    let local = prepare(Local::function(&source));
    let mut child = local.spawn();
    wait_until("the first invocation has begun", || {
        fs::read_to_string(local.log()).is_ok_and(|log| !log.is_empty())
    });
    let process = Pid::from_child(&child);
    let mut told = BufReader::new(child.stderr.take().unwrap());
    for _ in 0..signals {
        kill_process(process, Signal::INT).unwrap();
        let mut line = String::new();
        told.read_line(&mut line).unwrap();
    }
    child.stderr = Some(told.into_inner());
    let output = child.wait_with_output().unwrap();
    (local, output)
}

#[test]
fn an_interrupt_lets_what_is_in_flight_finish_and_leaves_no_process_behind() {
    let source = "
def handle(event, number):
    time.sleep(1)
    return 'null'";
    let (local, output) = interrupted(source, 1);
    assert_eq!(output.status.code(), Some(1));
    let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&summary["succeeded"], &summary["invocations"]), (&json!(1), &json!(1)));
    assert!(summary["shards"][0]["checkpoint"].is_string());
    assert_gone(&local.folder.path().join("log.ids"));
}

#[test]
fn a_second_interrupt_ends_what_is_in_flight() {
    let (local, output) = interrupted("\ndef handle(event, number): time.sleep(600)", 2);
    assert_eq!(output.status.code(), Some(1));
    let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(summary["succeeded"], 0);
    assert_gone(&local.folder.path().join("log.ids"));
}

#[test]
fn an_interrupt_while_a_single_event_is_sent_leaves_no_process_behind() {
    let prepare = |local: Local| {
        local.file("event.json", "{\"Records\":[]}").with(&["--event", "event.json"])
    };
    let (local, output) = interrupt("\ndef handle(event, number): time.sleep(600)", prepare, 1);
    assert_eq!(output.status.code(), Some(1));
    assert_gone(&local.folder.path().join("log.ids"));
}
