//! AWS's own runtime interface emulator around a bootstrap: what Lambda does to a function, short
//! of the network.

use std::ffi::OsStr;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::{cargo, free_address, keeper, tool, workspace};

/// The example's own executable, as the tests' build left it.
pub fn example_executable() -> Result<PathBuf> {
    let output = cargo()
        .args(["build", "--quiet", "--package", "streambot-example", "--message-format", "json"])
        .current_dir(workspace())
        .output()?;
    let messages = String::from_utf8(output.stdout)?;
    let executables = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut executables =
        executables.filter_map(|message| message["executable"].as_str().map(Into::into));
    executables.next().context("cargo names the executable")
}

/// A function under the emulator, which ends with the value or the process.
pub struct Emulator {
    keeper: Child,
    address: SocketAddr,
    /// What the function and the emulator print.
    output: PathBuf,
}

impl Emulator {
    /// Starts the emulator around `bootstrap`, whose bundle is unpacked in `task_root`, with these
    /// variables.
    pub fn start<K: AsRef<OsStr>, V: AsRef<OsStr>>(
        bootstrap: &Path,
        task_root: &Path,
        variables: impl IntoIterator<Item = (K, V)>,
    ) -> Result<Self> {
        let (address, runtime_api) = (free_address()?, free_address()?);
        let output =
            std::env::temp_dir().join(format!("streambot-test-emulator-{}.log", address.port()));
        let file = std::fs::File::create(&output)?;
        let mut command = keeper(&tool("rie/aws-lambda-rie")?);
        command
            .args(["--runtime-interface-emulator-address", &address.to_string()])
            .args(["--runtime-api-address", &runtime_api.to_string()])
            .arg(bootstrap)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("LAMBDA_TASK_ROOT", task_root)
            .env("AWS_LAMBDA_FUNCTION_NAME", "emulated")
            .envs(variables)
            .current_dir(task_root)
            .stdin(Stdio::piped())
            .stdout(file.try_clone()?)
            .stderr(file);
        let emulator = Self { keeper: command.spawn()?, address, output };
        emulator.until("it listens", |_| TcpStream::connect(address).is_ok())?;
        Ok(emulator)
    }

    /// Invokes the function, and gives what it answers: its response, or its error.
    pub fn invoke(&self, event: &str) -> Result<Value> {
        let answer = self.post("/2015-03-31/functions/function/invocations", event)?;
        serde_json::from_str(&answer)
            .with_context(|| format!("the answer is no JSON: {answer}\n{}", self.printed()))
    }

    fn post(&self, path: &str, body: &str) -> Result<String> {
        let mut stream = TcpStream::connect(self.address)?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        let (address, length) = (self.address, body.len());
        write!(
            stream,
            "POST {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (_, body) = answer.split_once("\r\n\r\n").context("the answer has no body")?;
        Ok(body.to_owned())
    }

    /// All that the function and the emulator have printed.
    pub fn printed(&self) -> String {
        std::fs::read_to_string(&self.output).unwrap_or_default()
    }

    /// Waits until what was printed is as it should be.
    pub fn until(&self, wanted: &str, mut condition: impl FnMut(&str) -> bool) -> Result<String> {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let printed = self.printed();
            if condition(&printed) {
                return Ok(printed);
            }
            ensure!(Instant::now() < deadline, "waited in vain until {wanted}:\n{printed}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The metrics of each invocation, in their order: all of its metric lines as one.
    pub fn metric_lines(&self) -> Vec<Value> {
        let printed = self.printed();
        let lines = printed.lines().filter(|line| line.contains("\"_aws\""));
        let mut invocations: Vec<Value> = Vec::new();
        for line in lines.filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
            match invocations
                .iter_mut()
                .find(|invocation| invocation["requestId"] == line["requestId"])
            {
                Some(invocation) => merge(invocation, line),
                None => invocations.push(line),
            }
        }
        invocations
    }
}

/// Adds the values and the directives of a metric line to those of another.
fn merge(invocation: &mut Value, mut line: Value) {
    let directives = line["_aws"]["CloudWatchMetrics"].take();
    if let (Some(all), Value::Array(further)) =
        (invocation["_aws"]["CloudWatchMetrics"].as_array_mut(), directives)
    {
        all.extend(further);
    }
    if let (Some(invocation), Value::Object(line)) = (invocation.as_object_mut(), line) {
        invocation.extend(line.into_iter().filter(|(key, _)| key != "_aws"));
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
        let _ = std::fs::remove_file(&self.output);
    }
}
