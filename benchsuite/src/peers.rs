//! The functions that are measured: what tables call them and how they are started. It refuses to
//! know what is measured.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

/// What tables call Streambot's `batch`.
pub const BATCH: &str = "Streambot `batch`";
/// What tables call Streambot's `each` with one record at a time.
pub const EACH: &str = "Streambot `each`, n = 1";
/// What tables call Streambot's `each` with sixteen records at a time.
pub const EACH_16: &str = "Streambot `each`, n = 16";
/// What tables call the function that does not read its event.
pub const FLOOR: &str = "lambda_runtime, raw body";
/// What tables call the function that one writes without Streambot.
pub const AWS_LAMBDA_EVENTS: &str = "lambda_runtime + aws_lambda_events";
/// What tables call Streambot where log lines can be uploaded and are not.
pub const S3_LOGS: &str = "Streambot `batch`, s3-logs";
/// What tables call Streambot where log lines are uploaded.
pub const LOG_BUCKET: &str = "Streambot `batch`, s3-logs, LogBucket";

/// A function.
#[derive(Debug, Clone)]
pub struct Peer {
    /// What tables call it.
    pub name: &'static str,
    /// Its executable, where it is a Rust bootstrap.
    pub bootstrap: Option<PathBuf>,
    program: PathBuf,
    arguments: Vec<OsString>,
    folder: PathBuf,
    variables: Vec<(&'static str, OsString)>,
}

impl Peer {
    fn bootstrap(name: &'static str, executable: &str) -> Result<Self> {
        let program = built(executable)?;
        Ok(Self {
            name,
            bootstrap: Some(program.clone()),
            program,
            arguments: Vec::new(),
            folder: std::env::temp_dir(),
            variables: Vec::new(),
        })
    }

    fn variable(mut self, name: &'static str, value: impl Into<OsString>) -> Self {
        self.variables.push((name, value.into()));
        self
    }

    /// The command that starts it, but for the addresses of the Runtime API and of S3. Nothing of
    /// this process's environment gets through but `PATH`.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).current_dir(&self.folder).stdin(Stdio::null()).env_clear();
        command.envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
        command.envs([
            ("_HANDLER", "app.handler"),
            ("AWS_LAMBDA_FUNCTION_NAME", "benchsuite"),
            ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST"),
            ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "1769"),
            ("AWS_LAMBDA_INITIALIZATION_TYPE", "on-demand"),
            ("AWS_LAMBDA_LOG_GROUP_NAME", "/aws/lambda/benchsuite"),
            ("AWS_LAMBDA_LOG_STREAM_NAME", "benchsuite/[$LATEST]"),
            ("AWS_REGION", "us-east-1"),
            ("LANG", "C.UTF-8"),
            ("TZ", ":UTC"),
            // As a deploy sets it where the event source mapping honours partial answers.
            ("STREAMBOT_REPORT_BATCH_ITEM_FAILURES", "true"),
        ]);
        command.env("LAMBDA_TASK_ROOT", &self.folder);
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }
}

/// The functions of all tables.
pub fn all() -> Result<Vec<Peer>> {
    Ok(vec![
        Peer::bootstrap(BATCH, "streambot-batch")?,
        Peer::bootstrap(EACH, "streambot-each")?,
        Peer::bootstrap(EACH_16, "streambot-each")?.variable("CONCURRENCY", "16"),
        Peer::bootstrap(AWS_LAMBDA_EVENTS, "function-aws-lambda-events")?,
        Peer::bootstrap(FLOOR, "function-raw-body")?,
        powertools_python()?,
        powertools_typescript()?,
    ])
}

/// Streambot built with the feature `s3-logs`, and once with a bucket to upload to.
pub fn s3_logs() -> Result<[Peer; 2]> {
    let without = Peer::bootstrap(S3_LOGS, "streambot-batch-s3-logs")?;
    let with = Peer { name: LOG_BUCKET, ..without.clone() }
        .variable("LogBucket", "benchsuite-logs")
        .variable("AWS_ACCESS_KEY_ID", "benchsuite")
        .variable("AWS_SECRET_ACCESS_KEY", "benchsuite");
    Ok([without, with])
}

fn powertools_python() -> Result<Peer> {
    let python = tools()?.join("python/peers/bin/python");
    ensure!(python.exists(), "{} is missing: ci/setup makes it", python.display());
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("functions/powertools-python");
    let peer = Peer {
        name: "Powertools for Python, awslambdaric",
        bootstrap: None,
        program: python,
        arguments: ["-m", "awslambdaric", "app.handler"].map(OsString::from).to_vec(),
        folder: folder.clone(),
        variables: Vec::new(),
    };
    Ok(peer.variable("PYTHONPATH", folder))
}

fn powertools_typescript() -> Result<Peer> {
    let folder = tools()?.join("node/powertools-typescript");
    let client = folder.join("node_modules/aws-lambda-ric/bin/index.mjs");
    ensure!(client.exists(), "{} is missing: ci/bench installs it", client.display());
    Ok(Peer {
        name: "Powertools for TypeScript, aws-lambda-ric",
        bootstrap: None,
        program: "node".into(),
        arguments: vec![client.into(), "app.handler".into()],
        folder,
        variables: Vec::new(),
    })
}

/// An executable that `ci/bench` builds beside this one.
pub fn built(name: &str) -> Result<PathBuf> {
    let path =
        std::env::current_exe().context("failed to find this executable")?.with_file_name(name);
    ensure!(path.exists(), "{} is missing: ci/bench builds it", path.display());
    Ok(path)
}

/// The folder of what `ci/setup` installs.
pub fn tools() -> Result<PathBuf> {
    let tools = std::env::var_os("STREAMBOT_TEST_TOOLS")
        .context("STREAMBOT_TEST_TOOLS is not set: run ci/bench")?;
    Ok(tools.into())
}
