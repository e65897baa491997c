//! A function whose runs are judged by what `local` writes down of them, and the reading of that.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::streambot_deploy;

/// Reports every record whose data holds "bad" as failed, and succeeds on the rest.
const FUNCTION: &str = r#"#!/usr/bin/env python3
import base64, http.client, json, os

api = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])

def call(method, path, body=None):
    api.request(method, "/2018-06-01/runtime/invocation/" + path, body)
    response = api.getresponse()
    return response, response.read()

while True:
    response, body = call("GET", "next")
    records = [record["kinesis"] for record in json.loads(body)["Records"]]
    failed = [record["sequenceNumber"] for record in records if b"bad" in base64.b64decode(record["data"])]
    answer = json.dumps({"batchItemFailures": [{"itemIdentifier": number} for number in failed]})
    call("POST", response.headers["Lambda-Runtime-Aws-Request-Id"] + "/response", answer)
"#;

/// A folder with the function and, after a run, its journal.
pub struct Runs {
    folder: tempfile::TempDir,
}

impl Runs {
    /// A folder with the function in it.
    pub fn new() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let bootstrap = folder.path().join("bootstrap");
        fs::write(&bootstrap, FUNCTION)?;
        fs::set_permissions(&bootstrap, fs::Permissions::from_mode(0o755))?;
        Ok(Self { folder })
    }

    /// Where one of its files is.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file of records.
    pub fn records(&self, lines: &str) -> Result<()> {
        Ok(fs::write(self.path("records.ndjson"), lines)?)
    }

    /// `streambot-deploy local` on the function, with a journal and credentials for a server.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = streambot_deploy();
        command
            .args([
                "local",
                "--bootstrap",
                "bootstrap",
                "--journal",
                "journal.ndjson",
                "--output",
                "json",
            ])
            .args(["--retry-delay", "0.01"])
            .args(arguments)
            .current_dir(self.folder.path())
            .env("AWS_ACCESS_KEY_ID", "test")
            .env("AWS_SECRET_ACCESS_KEY", "test");
        command
    }

    /// Runs to the end: the exit code, what was said, and the summary where there is one.
    pub fn run(&self, arguments: &[&str]) -> Result<(Option<i32>, String, Value)> {
        let output = self.command(arguments).output()?;
        let summary = serde_json::from_slice(&output.stdout).unwrap_or_default();
        Ok((output.status.code(), String::from_utf8(output.stderr)?, summary))
    }

    /// Starts a run that goes on until it is interrupted.
    pub fn start(&self, arguments: &[&str]) -> Result<Running<'_>> {
        let stderr = fs::File::create(self.path("stderr"))?;
        let child = self.command(arguments).stdout(Stdio::piped()).stderr(stderr).spawn()?;
        Ok(Running { runs: self, child: Some(child) })
    }

    /// What is written down so far.
    pub fn journal(&self) -> Result<Journal> {
        Journal::read(&self.path("journal.ndjson"))
    }
}

/// A run that goes on.
pub struct Running<'a> {
    runs: &'a Runs,
    child: Option<Child>,
}

impl Running<'_> {
    /// Waits until the journal is as it should be.
    pub fn until(&mut self, wanted: &str, condition: impl Fn(&Journal) -> bool) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let journal = self.runs.journal().unwrap_or_default();
            if condition(&journal) {
                return Ok(());
            }
            let ended = self.child.as_mut().context("it runs")?.try_wait()?;
            let said = fs::read_to_string(self.runs.path("stderr"))?;
            ensure!(
                ended.is_none() && Instant::now() < deadline,
                "waited in vain until {wanted} ({ended:?}):\n{said}"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Interrupts the run as Ctrl-C does: the exit code, and what was said.
    pub fn interrupt(mut self) -> Result<(Option<i32>, String)> {
        let child = self.child.take().context("it runs")?;
        kill_process(Pid::from_child(&child), Signal::INT)?;
        let output = child.wait_with_output()?;
        Ok((output.status.code(), fs::read_to_string(self.runs.path("stderr"))?))
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// What was written down of a run.
#[derive(Debug, Default)]
pub struct Journal {
    /// The events, in their order.
    pub events: Vec<Value>,
    /// The records that were done, in the order in which they first were.
    pub done: Vec<String>,
}

impl Journal {
    fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path)?;
        // The last line may be being written.
        let lines = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        let events =
            lines.map(|line| Ok(serde_json::from_str(line)?)).collect::<Result<Vec<Value>>>()?;
        let (mut sent, mut seen, mut done) = (HashMap::new(), HashSet::new(), Vec::new());
        for event in &events {
            let request_id = event["request_id"].as_str().unwrap_or_default();
            match event["event"].as_str() {
                Some("invoke") => {
                    let numbers = event["sequence_numbers"]
                        .as_array()
                        .context("an invocation has records")?;
                    sent.insert(
                        request_id,
                        numbers.iter().filter_map(Value::as_str).collect::<Vec<_>>(),
                    );
                }
                Some("outcome") => {
                    let numbers =
                        sent.remove(request_id).context("an outcome has an invocation")?;
                    let checkpoint = event["checkpoint"].as_str();
                    let count = numbers
                        .iter()
                        .position(|number| Some(*number) == checkpoint)
                        .map_or(0, |last| last + 1);
                    done.extend(numbers.into_iter().take(count).map(str::to_owned));
                }
                _ => {}
            }
        }
        done.retain(|number| seen.insert(number.clone()));
        Ok(Self { events, done })
    }

    /// The events of one kind, of one shard where one is named.
    pub fn of(&self, kind: &str, shard: Option<&str>) -> Vec<&Value> {
        let is_wanted = |event: &&Value| {
            event["event"] == kind && shard.is_none_or(|shard| event["shard"] == shard)
        };
        self.events.iter().filter(is_wanted).collect()
    }
}
