//! A run of `streambot-deploy local` in a folder of its own, with a function written in Python that
//! speaks the Lambda Runtime API.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "each test file is a crate of its own, and uses its part"
)]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

#[path = "function.rs"]
pub mod function;

use function::PRELUDE;

/// What it does after its prelude: logs the data of every event, and answers what `handle(records)`
/// returns.
const LOOP: &str = r#"
while True:
    response, body = call("GET", "invocation/next")
    request_id = response.headers["Lambda-Runtime-Aws-Request-Id"]
    records = json.loads(body)["Records"]
    data = [base64.b64decode(record["kinesis"]["data"]).decode() for record in records]
    log({"process": os.getpid(), "data": data})
    call("POST", "invocation/" + request_id + "/response", handle(records))
"#;

/// A handler for which every record is fine, unless another one is defined after it.
const SUCCEED: &str = "def handle(records): return 'null'";

/// A run that has not begun.
pub struct Local {
    pub folder: TempDir,
    arguments: Vec<String>,
}

/// A run that ended.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
    /// What the function logged: the process and the data of each invocation, in their order.
    pub invocations: Vec<Value>,
}

impl Local {
    /// A run of the function whose source defines `handle`, or does without.
    pub fn function(handler: &str) -> Local {
        let local = Local { folder: tempfile::tempdir().unwrap(), arguments: Vec::new() };
        local.write_function(handler);
        let log = format!("LOG={}", local.log().display());
        local.with(&["local", "--bootstrap", "bootstrap", "--env", &log, "--retry-delay", "0.01"])
    }

    /// Puts the function there, in place of the one that is.
    pub fn write_function(&self, handler: &str) {
        let (new, bootstrap) = (self.path("bootstrap.new"), self.path("bootstrap"));
        fs::write(&new, format!("{PRELUDE}\n{SUCCEED}\n{handler}\n{LOOP}")).unwrap();
        fs::set_permissions(&new, fs::Permissions::from_mode(0o755)).unwrap();
        fs::rename(new, bootstrap).unwrap();
    }

    /// Feeds it these lines.
    pub fn records(self, records: impl IntoIterator<Item = String>) -> Local {
        let lines: String = records.into_iter().map(|record| record + "\n").collect();
        fs::write(self.path("records.ndjson"), lines).unwrap();
        self.with(&["--records", "records.ndjson"])
    }

    pub fn with(mut self, arguments: &[&str]) -> Local {
        self.arguments.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        self
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn log(&self) -> PathBuf {
        self.path("log")
    }

    /// What the function logged so far.
    pub fn invocations(&self) -> Vec<Value> {
        let log = fs::read_to_string(self.log()).unwrap_or_default();
        log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    pub fn spawn(&self, stdin: Stdio) -> Child {
        Command::new(env!("CARGO_BIN_EXE_streambot-deploy"))
            .args(&self.arguments)
            .current_dir(self.folder.path())
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    pub fn run(&self) -> Ended {
        self.ended(self.spawn(Stdio::null()))
    }

    /// Waits until the run ends.
    pub fn ended(&self, child: Child) -> Ended {
        let output = child.wait_with_output().unwrap();
        Ended {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
            invocations: self.invocations(),
        }
    }
}

impl Ended {
    /// The summary of a run with `--output json`.
    pub fn summary(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:#?}"))
    }

    /// How often each record was delivered.
    pub fn deliveries(&self, record: &str) -> usize {
        let data =
            self.invocations.iter().flat_map(|invocation| invocation["data"].as_array().unwrap());
        data.filter(|data| *data == record).count()
    }
}

/// A program that `ci/setup` installs below the test tools.
pub fn tool(path: &str) -> PathBuf {
    let tools = std::env::var_os("STREAMBOT_TEST_TOOLS").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/test-tools"),
        PathBuf::from,
    );
    let tool = tools.join(path);
    assert!(tool.exists(), "{} is not installed: run ci/setup first", tool.display());
    tool
}
