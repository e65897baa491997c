//! Runs `streambot-deploy local` with functions written in Python, each a process of its own that
//! speaks the Lambda Runtime API, and reads what they were sent.

#![allow(clippy::unwrap_used)]
#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test file is a crate of its own, and uses its part"
)]

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Output, Stdio};

use rustix::process::{Pid, test_kill_process};
use serde_json::Value;
use tempfile::TempDir;

/// What every function begins with: a client of the Runtime API that keeps a log of what it was
/// sent, over all processes.
pub const PRELUDE: &str = r#"#!/usr/bin/env python3
import base64, http.client, json, os, sys, time

api = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])

def call(method, path, body=None):
    api.request(method, "/2018-06-01/runtime/" + path, body)
    response = api.getresponse()
    return response, response.read()

def log(entry):
    with open(os.environ["LOG"], "a") as file:
        file.write(json.dumps(entry) + "\n")

def logged():
    with open(os.environ["LOG"]) as file:
        return [json.loads(line) for line in file]

def data(event):
    return [base64.b64decode(record["kinesis"]["data"]).decode() for record in event["Records"]]

def failures(event, *values):
    return json.dumps({"batchItemFailures": [
        {"itemIdentifier": record["kinesis"]["sequenceNumber"]}
        for record, value in zip(event["Records"], data(event)) if value in values
    ]})

def init():
    pass

open(os.environ["LOG"], "a").close()
"#;

/// What every function ends with.
pub const LOOP: &str = r#"
init()
while True:
    response, body = call("GET", "invocation/next")
    request_id = response.headers["Lambda-Runtime-Aws-Request-Id"]
    event = json.loads(body)
    log(data(event))
    try:
        answer = handle(event, len(logged()))
    except Exception as error:
        body = json.dumps({"errorType": type(error).__name__, "errorMessage": str(error)})
        call("POST", "invocation/" + request_id + "/error", body)
    else:
        call("POST", "invocation/" + request_id + "/response", answer)
"#;

/// A function for which every record is fine.
pub const SUCCEED: &str = "def handle(event, number): return 'null'";

/// A run of `streambot-deploy local` in a folder of its own.
pub struct Local {
    pub folder: TempDir,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    stdin: Option<String>,
}

/// A run that ended.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
    /// The data of the records of each invocation, in the order the function got them.
    pub invocations: Vec<Vec<String>>,
}

impl Local {
    /// A function whose Python source defines `handle(event, number)`: `number` counts invocations
    /// over all processes, from 1.
    pub fn function(source: &str) -> Local {
        Local::script(&format!("{PRELUDE}\n{source}\n{LOOP}"))
    }

    /// An executable with this content.
    pub fn script(content: &str) -> Local {
        let folder = tempfile::tempdir().unwrap();
        let bootstrap = folder.path().join("bootstrap");
        fs::write(&bootstrap, content).unwrap();
        fs::set_permissions(&bootstrap, fs::Permissions::from_mode(0o755)).unwrap();
        let log = format!("LOG={}", folder.path().join("log").display());
        let arguments =
            ["local", "--bootstrap", "bootstrap", "--env", &log, "--retry-delay", "0.01"];
        Local {
            arguments: arguments.map(str::to_owned).to_vec(),
            folder,
            environment: Vec::new(),
            stdin: None,
        }
    }

    pub fn records(self, records: &[&str]) -> Local {
        self.records_text(&records.iter().map(|record| format!("{record}\n")).collect::<String>())
    }

    pub fn records_text(self, text: &str) -> Local {
        let local = self.file("records.ndjson", text);
        local.with(&["--records", "records.ndjson"])
    }

    pub fn file(self, name: &str, content: &str) -> Local {
        fs::write(self.folder.path().join(name), content).unwrap();
        self
    }

    pub fn stdin(mut self, text: &str) -> Local {
        self.stdin = Some(text.to_owned());
        self.with(&["--records", "-"])
    }

    pub fn with(mut self, arguments: &[&str]) -> Local {
        self.arguments.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        self
    }

    pub fn variable(mut self, name: &str, value: &str) -> Local {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    pub fn spawn(&self) -> Child {
        self.spawn_with_open_stdin().0
    }

    /// The process, and its standard input where it is a pipe.
    pub fn spawn_with_open_stdin(&self) -> (Child, Option<ChildStdin>) {
        let mut child = Command::new(env!("CARGO_BIN_EXE_streambot-deploy"))
            .args(&self.arguments)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .current_dir(self.folder.path())
            .stdin(if self.stdin.is_some() { Stdio::piped() } else { Stdio::null() })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take();
        if let (Some(stdin), Some(text)) = (&mut stdin, &self.stdin) {
            stdin.write_all(text.as_bytes()).unwrap();
        }
        (child, stdin)
    }

    pub fn run(&self) -> Ended {
        let Output { status, stdout, stderr } = self.spawn().wait_with_output().unwrap();
        let log = fs::read_to_string(self.log()).unwrap_or_default();
        Ended {
            code: status.code(),
            stdout: String::from_utf8(stdout).unwrap(),
            stderr: String::from_utf8(stderr).unwrap(),
            invocations: log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect(),
        }
    }

    /// Runs to the end of the records, and reads the summary.
    pub fn summary(self) -> (Value, Ended) {
        let ended = self.with(&["--output", "json"]).run();
        let summary = serde_json::from_str(&ended.stdout)
            .unwrap_or_else(|error| panic!("{error}: {ended:#?}"));
        (summary, ended)
    }
}

/// Waits until `condition` holds, and fails when it does not for a long time.
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let started = std::time::Instant::now();
    while !condition() {
        assert!(started.elapsed().as_secs() < 60, "still waiting until {what}");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

/// Fails when one of these processes is still there; `file` holds an id a line.
pub fn assert_gone(file: &Path) {
    let ids = fs::read_to_string(file).unwrap();
    assert!(!ids.is_empty());
    for id in ids.lines() {
        let process = Pid::from_raw(id.trim().parse().unwrap()).unwrap();
        // A killed process whose parent was killed too is reaped by the system, a moment later.
        wait_until(&format!("process {id} is gone"), || test_kill_process(process).is_err());
    }
}
