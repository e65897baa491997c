//! A user's service outside of this workspace, `fixtures/jobs`: built against the runtime crate,
//! and run as a real process under AWS's runtime interface emulator and under `local`.

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use support::emulator::Emulator;
use support::{cargo, streambot_deploy, workspace};

/// The service, built once for all tests of this file.
static JOBS: LazyLock<Jobs> = LazyLock::new(|| Jobs::build().expect("the service builds"));

struct Jobs {
    _folder: tempfile::TempDir,
    manifest: PathBuf,
    executable: PathBuf,
}

impl Jobs {
    fn build() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let runtime = workspace().canonicalize()?.join("crates/streambot-runtime");
        let manifest = folder.path().join("Cargo.toml");
        std::fs::write(
            &manifest,
            format!(
                "[package]\nname = \"jobs\"\nedition = \"2024\"\n\n[workspace]\n\n\
             [package.metadata.streambot]\ntimeout = 3\n\n[dependencies]\n\
             serde = {{ version = \"1\", features = [\"derive\"] }}\n\
             streambot-runtime = {{ path = {runtime:?}, default-features = false }}\n\
             tokio = {{ version = \"1\", features = [\"time\"] }}\ntracing = \"0.1\"\n"
            ),
        )?;
        // The versions this workspace has, so that nothing is looked up anew.
        std::fs::copy(workspace().join("Cargo.lock"), folder.path().join("Cargo.lock"))?;
        std::fs::create_dir(folder.path().join("src"))?;
        let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/jobs/main.rs");
        std::fs::copy(fixture, folder.path().join("src/main.rs"))?;
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("service");
        let built = cargo()
            .args(["build", "--quiet", "--manifest-path"])
            .arg(&manifest)
            .env("CARGO_TARGET_DIR", &target)
            .output()?;
        ensure!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        ensure!(built.stderr.is_empty(), "a warning: {}", String::from_utf8_lossy(&built.stderr));
        Ok(Self { _folder: folder, manifest, executable: target.join("debug/jobs") })
    }

    fn emulated(&self, variables: &[(&str, &str)]) -> Result<Emulator> {
        let folder = self.manifest.parent().context("a file is in a folder")?;
        let honoured = [("STREAMBOT_REPORT_BATCH_ITEM_FAILURES", "true"), ("RUST_LOG", "info")];
        Emulator::start(&self.executable, folder, honoured.iter().chain(variables).copied())
    }
}

/// The record of an event, with this data in base64.
fn record(number: usize, data: &str) -> Value {
    let sequence_number = sequence_number(number);
    json!({
        "kinesis": {
            "kinesisSchemaVersion": "1.0",
            "partitionKey": format!("key-{number}"),
            "sequenceNumber": sequence_number,
            "data": data,
            "approximateArrivalTimestamp": 1545084650.987,
        },
        "eventSource": "aws:kinesis",
        "eventID": format!("shardId-000000000000:{sequence_number}"),
        "eventName": "aws:kinesis:record",
        "eventSourceARN": "arn:aws:kinesis:us-east-1:123456789012:stream/jobs",
    })
}

fn sequence_number(number: usize) -> String {
    format!("4959033827149025660855969253836157109592157598913658{number:04}")
}

fn event(data: &[&str]) -> String {
    let records: Vec<_> =
        data.iter().enumerate().map(|(number, data)| record(number, data)).collect();
    json!({ "Records": records }).to_string()
}

/// `{"id":1,"wait_ms":0}`, `{"id":2,"wait_ms":0}` of another key and `{"id":3,"wait_ms":0}`, packed
/// by `aws_kinesis_agg`.
const THREE_JOBS: &str = "84mawgoBYQoBYhoYCAAaFHsiaWQiOjEsIndhaXRfbXMiOjB9GhgIARoUeyJpZCI6Miwid2FpdF9tcyI6MH0aGAgAGhR7ImlkIjozLCJ3YWl\
                          0X21zIjowfTRtH1iux5lio5qWTbnDdKA=";
/// `{"id":4,"wait_ms":0}`
const ONE_JOB: &str = "eyJpZCI6NCwid2FpdF9tcyI6MH0=";
/// `{"id":5,"wait_ms":0,"fails":true}`
const FAILING_JOB: &str = "eyJpZCI6NSwid2FpdF9tcyI6MCwiZmFpbHMiOnRydWV9";
/// `{"id":6,"wait_ms":50}`
const SLOW_JOB: &str = "eyJpZCI6Niwid2FpdF9tcyI6NTB9";

#[test]
fn it_answers_right_for_plain_and_aggregated_records() -> Result<()> {
    let emulator = JOBS.emulated(&[])?;
    let answer = emulator.invoke(&event(&[THREE_JOBS, ONE_JOB]))?;
    assert_eq!(answer, json!({ "batchItemFailures": [] }), "{}", emulator.printed());
    let answer = emulator.invoke(&event(&[ONE_JOB, FAILING_JOB, ONE_JOB]))?;
    assert_eq!(answer, json!({ "batchItemFailures": [{ "itemIdentifier": sequence_number(1) }] }));
    let counted: Vec<_> = emulator.metric_lines().iter().map(|line| line["Jobs"].clone()).collect();
    assert_eq!(counted[0], 4, "three of them were packed in one record");
    Ok(())
}

#[test]
fn a_batch_too_slow_for_the_timeout_ends_in_time_with_its_checkpoint() -> Result<()> {
    let emulator = JOBS.emulated(&[("Concurrency", "1"), ("AWS_LAMBDA_FUNCTION_TIMEOUT", "3")])?;
    let answer = emulator.invoke(&event(&[SLOW_JOB; 100]))?;
    let done = emulator.metric_lines()[0]["Jobs"].as_u64().context("jobs are counted")?;
    assert!((20..=50).contains(&done), "{done} of 50 ms in 2.5 s\n{}", emulator.printed());
    let left_from = sequence_number(usize::try_from(done)?);
    assert_eq!(answer, json!({ "batchItemFailures": [{ "itemIdentifier": left_from }] }));
    assert_eq!(emulator.metric_lines()[0]["Status"], "Success");
    Ok(())
}

#[test]
fn a_stream_of_batches_too_slow_for_the_timeout_is_worked_off_without_a_timeout() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let records = folder.path().join("records.ndjson");
    std::fs::write(&records, "{\"id\":1,\"wait_ms\":50}\n".repeat(100))?;
    std::fs::write(folder.path().join("values"), "Concurrency=1\n")?;
    let output = streambot_deploy()
        .args(["local", "--output", "json", "--manifest-path"])
        .arg(&JOBS.manifest)
        .arg("--bootstrap")
        .arg(&JOBS.executable)
        .arg("--records")
        .arg(&records)
        .arg("--env-file")
        .arg(folder.path().join("values"))
        .output()?;
    let said = String::from_utf8(output.stderr)?;
    ensure!(output.status.success(), "{said}");
    let summary: Value = serde_json::from_slice(&output.stdout)?;
    assert_eq!(summary["succeeded"], 100);
    assert_eq!(summary["metrics"]["Jobs"]["total"], 100, "no job is done twice: {summary}");
    assert!(!said.contains("timed out"), "{said}");
    let invocations = summary["invocations"].as_u64().context("invocations are counted")?;
    assert!((2..=5).contains(&invocations), "5 s of work in invocations of 2.5 s: {summary}");
    Ok(())
}

#[test]
fn local_sends_an_event_as_it_is_and_prints_its_answer() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("event.json");
    std::fs::write(&file, event(&[THREE_JOBS, FAILING_JOB]))?;
    let mut command = streambot_deploy();
    command
        .args(["local", "--manifest-path"])
        .arg(&JOBS.manifest)
        .arg("--bootstrap")
        .arg(&JOBS.executable);
    let output = command.arg("--event").arg(&file).output()?;
    let said = String::from_utf8(output.stderr)?;
    ensure!(output.status.success(), "{said}");
    let answer: Value = serde_json::from_slice(&output.stdout)?;
    assert_eq!(answer, json!({ "batchItemFailures": [{ "itemIdentifier": sequence_number(1) }] }));
    assert_eq!(said.matches("done job=").count(), 3, "the packed jobs are done: {said}");
    assert_eq!(said.matches("flushed").count(), 1, "its hook runs at the end: {said}");
    Ok(())
}

#[test]
fn more_than_one_invocation_at_a_time_is_warned_of() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("event.json");
    std::fs::write(&file, event(&[ONE_JOB]))?;
    let mut command = streambot_deploy();
    command
        .args(["local", "--env", "AWS_LAMBDA_MAX_CONCURRENCY=2", "--manifest-path"])
        .arg(&JOBS.manifest);
    let output =
        command.arg("--bootstrap").arg(&JOBS.executable).arg("--event").arg(&file).output()?;
    let said = String::from_utf8(output.stderr)?;
    ensure!(output.status.success(), "{said}");
    assert!(said.contains("works on one invocation at a time"), "{said}");
    Ok(())
}

#[test]
fn an_init_that_fails_is_an_init_error_with_its_message() -> Result<()> {
    let emulator = JOBS.emulated(&[("Concurrency", "many")])?;
    let answer = emulator.invoke(&event(&[ONE_JOB]))?;
    assert_eq!(answer["errorType"], "Function.InitFailed", "{answer}");
    assert_eq!(answer["errorMessage"], "invalid digit found in string");
    Ok(())
}

#[test]
fn an_init_that_panics_is_an_init_error_with_its_message() -> Result<()> {
    let emulator = JOBS.emulated(&[("Concurrency", "panic")])?;
    let answer = emulator.invoke(&event(&[ONE_JOB]))?;
    assert_eq!(answer["errorType"], "Function.InitPanicked", "{answer}");
    assert!(
        answer["errorMessage"].as_str().is_some_and(|message| message.contains("as told")),
        "{answer}"
    );
    Ok(())
}

#[test]
fn the_shutdown_hook_runs_when_the_sandbox_ends() -> Result<()> {
    let emulator = JOBS.emulated(&[])?;
    emulator.invoke(&event(&[ONE_JOB]))?;
    // The emulator stands in for Lambda up to here: the signal it would send goes to the function
    // itself.
    let id = emulator
        .printed()
        .lines()
        .find_map(|line| Some(line.split_once("process ")?.1.trim().to_owned()));
    let id = id.context("the service prints its process id at init")?;
    ensure!(Command::new("kill").args(["-TERM", &id]).status()?.success());
    emulator.until("the hook has run", |printed| printed.contains("flushed"))?;
    Ok(())
}

#[test]
fn started_by_hand_it_says_how_to_run_it() -> Result<()> {
    let output = Command::new(&JOBS.executable).env_remove("AWS_LAMBDA_RUNTIME_API").output()?;
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr)?;
    assert!(said.contains("streambot-deploy local --records"), "{said}");
    Ok(())
}
