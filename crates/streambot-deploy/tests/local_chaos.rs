//! `streambot-deploy local` with trouble made on purpose, and with a bound on its processes.

#![allow(clippy::unwrap_used)]

#[path = "support/local.rs"]
mod local;

use std::collections::BTreeSet;

use serde_json::{Value, json};

use local::Local;

const JSON: &[&str] = &["--output", "json"];

fn numbers(count: usize) -> impl Iterator<Item = String> {
    (0..count).map(|number| number.to_string())
}

/// A run of 40 batches of five records.
fn chaotic(chaos: &str) -> (Value, local::Ended) {
    let run = Local::function("").records(numbers(200)).with(&[
        "--batch-size",
        "5",
        "--chaos",
        chaos,
        "--seed",
        "3",
    ]);
    let ended = run.with(JSON).run();
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    (ended.summary(), ended)
}

#[test]
fn nothing_is_lost_whatever_strikes_and_the_summary_says_how_often_it_did() {
    let (summary, ended) = chaotic("crash=0.1,timeout=0.1,throttle=0.2,duplicate=0.2");
    assert_eq!((&summary["records"], &summary["succeeded"]), (&json!(200), &json!(200)));
    let strikes = |kind: &str| summary["chaos"][kind].as_u64().unwrap();
    let [crashes, timeouts, throttles, duplicates] =
        ["crashes", "timeouts", "throttles", "duplicates"].map(strikes);
    assert!(crashes > 0 && timeouts > 0 && throttles > 0 && duplicates > 0, "{summary:#}");
    for record in numbers(200) {
        assert!(ended.deliveries(&record) >= 1, "{record}");
    }
    assert_eq!(
        ended.stderr.matches("chaos: the process was killed in the middle").count() as u64,
        crashes
    );
    assert_eq!(
        ended.stderr.matches("chaos: the answer counts as later than").count() as u64,
        timeouts
    );
    let processes: BTreeSet<u64> =
        ended.invocations.iter().map(|one| one["process"].as_u64().unwrap()).collect();
    // A process that is killed at once has logged nothing.
    assert!(
        (1 + timeouts..=1 + timeouts + crashes).contains(&(processes.len() as u64)),
        "{processes:?}: {summary:#}"
    );
}

#[test]
fn the_same_seed_strikes_the_same_invocations() {
    let chaos = "timeout=0.1,throttle=0.1,duplicate=0.2";
    let data = |(_, ended): (Value, local::Ended)| -> Vec<Value> {
        ended.invocations.into_iter().map(|invocation| invocation["data"].clone()).collect()
    };
    assert_eq!(data(chaotic(chaos)), data(chaotic(chaos)));
}

#[test]
fn a_duplicate_is_the_same_batch_again_before_the_next_one() {
    let (summary, ended) = chaotic("duplicate=1");
    assert_eq!((&summary["invocations"], &summary["retries"]), (&json!(40), &json!(0)));
    assert_eq!(summary["chaos"]["duplicates"], 40);
    assert_eq!(ended.invocations.len(), 80);
    for pair in ended.invocations.chunks(2) {
        assert_eq!(pair[0]["data"], pair[1]["data"]);
    }
}

/// docs/event-source-mapping.md: throttles do not count as attempts.
#[test]
fn a_throttled_invocation_never_reaches_the_function_and_is_no_attempt() {
    let run = Local::function("").records(numbers(10)).with(&[
        "--batch-size",
        "1",
        "--maximum-retry-attempts",
        "0",
    ]);
    let ended = run.with(&["--chaos", "throttle=0.6", "--seed", "2"]).with(JSON).run();
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    let summary = ended.summary();
    assert_eq!((&summary["succeeded"], &summary["discarded"]), (&json!(10), &json!(0)));
    assert!(summary["chaos"]["throttles"].as_u64().unwrap() > 0);
    assert_eq!(ended.invocations.len(), 10);
}

/// A crash counts as an attempt, so that a batch it always strikes is given up.
#[test]
fn a_crash_and_a_timeout_are_function_errors() {
    for chaos in ["crash=1", "timeout=1"] {
        let run = Local::function("").records(numbers(2)).with(&[
            "--maximum-retry-attempts",
            "1",
            "--chaos",
            chaos,
        ]);
        let ended = run.with(JSON).run();
        assert_eq!(ended.code, Some(1), "{ended:#?}");
        assert_eq!(ended.summary()["discarded"], 2);
        assert!(
            ended.stderr.contains("RetryAttemptsExhausted after 2 attempts"),
            "{}",
            ended.stderr
        );
    }
}

#[test]
fn people_are_told_that_nothing_was_lost() {
    let run =
        Local::function("").records(numbers(2)).with(&["--chaos", "duplicate=1", "--seed", "9"]);
    let ended = run.run();
    let told = "chaos with seed 9: 0 crashes, 0 timeouts, 0 throttles, 1 duplicate\nnothing was lost: 2 records read";
    assert!(ended.stdout.contains(told), "{}", ended.stdout);
}

#[test]
fn probabilities_that_make_no_sense_are_bad_usage() {
    for chaos in ["crash=2", "flood=0.1", "crash=0.6,timeout=0.6", ""] {
        let ended = Local::function("").records(numbers(1)).with(&["--chaos", chaos]).run();
        assert_eq!(ended.code, Some(2), "{ended:#?}");
        assert!(ended.stderr.contains("--chaos"), "{}", ended.stderr);
    }
}

#[test]
fn no_more_processes_run_than_are_allowed_and_none_is_started_without_need() {
    let slow = "
def handle(records):
    time.sleep(0.02)
    return 'null'";
    let processes = |arguments: &[&str]| {
        let run = Local::function(slow)
            .records(numbers(100))
            .with(&["--batch-size", "2"])
            .with(arguments);
        let ended = run.with(JSON).run();
        assert_eq!(ended.summary()["succeeded"], 100, "{ended:#?}");
        ended
            .invocations
            .iter()
            .map(|one| one["process"].as_u64().unwrap())
            .collect::<BTreeSet<u64>>()
            .len()
    };
    let many = ["--shards", "4", "--parallelization-factor", "3"];
    assert_eq!(processes(&[&many[..], &["--max-concurrency", "2"]].concat()), 2);
    assert!((3..=12).contains(&processes(&many)));
    assert_eq!(processes(&["--max-concurrency", "8"]), 1, "one lane needs one");
}
