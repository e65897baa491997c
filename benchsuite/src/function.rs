//! A running function process: what it was handed, what it costs the processor, and what memory it
//! holds. It refuses to know what is made of the figures.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::runtime_api::RuntimeApi;

/// Between two looks at whether a process still works.
const LOOK: Duration = Duration::from_millis(1);

/// A process that waits for an event. It is killed when this is dropped.
#[derive(Debug)]
pub struct Function {
    child: Child,
    api: RuntimeApi,
    /// What it prints goes to a file, as it costs to print it.
    log: PathBuf,
    /// From its start to its first call of `/next`.
    pub init: Duration,
}

impl Function {
    /// Starts the function, and waits until it asks for its first event.
    pub fn start(mut command: Command) -> Result<Self> {
        let api = RuntimeApi::start()?;
        let address = api.address();
        let log = std::env::temp_dir().join(format!("benchsuite-{}.log", address.port()));
        let file =
            File::create(&log).with_context(|| format!("failed to create {}", log.display()))?;
        command
            .env("AWS_LAMBDA_RUNTIME_API", address.to_string())
            .env("AWS_ENDPOINT_URL_S3", format!("http://{address}"))
            .stdout(file.try_clone()?)
            .stderr(file);
        let started = Instant::now();
        let child = command.spawn().with_context(|| format!("failed to start {command:?}"))?;
        let mut function = Self { child, api, log, init: Duration::ZERO };
        let asked = function.api.ready().with_context(|| {
            let printed = fs::read_to_string(&function.log).unwrap_or_default();
            format!("{command:?} does not start:\n{printed}")
        })?;
        function.init = asked - started;
        Ok(function)
    }

    /// Hands it an event, waits until it asks for the next one, and returns the time to its answer.
    pub fn invoke(&self, event: &Arc<[u8]>) -> Result<Duration> {
        let time = self.api.invoke(event)?;
        self.api.ready()?;
        Ok(time)
    }

    /// The processor time of all its threads since its start, once it is at rest.
    pub fn cpu(&self) -> Result<Duration> {
        let mut before = self.threads()?;
        loop {
            thread::sleep(LOOK);
            let now = self.threads()?;
            if now == before && now.iter().all(|thread| thread.sleeps) {
                return Ok(now.iter().map(|thread| thread.cpu).sum());
            }
            before = now;
        }
    }

    fn threads(&self) -> Result<Vec<Thread>> {
        let folder = PathBuf::from(format!("/proc/{}/task", self.child.id()));
        let entries = fs::read_dir(&folder)
            .with_context(|| format!("failed to read {}", folder.display()))?;
        // A thread may end between the listing and the reading.
        Ok(entries.filter_map(|entry| Thread::read(&entry.ok()?.path())).collect())
    }

    /// The bytes of memory it holds now.
    pub fn resident(&self) -> Result<u64> {
        self.status("VmRSS:")
    }

    /// The most bytes of memory it has held, since its start or [`Self::forget_peak`].
    pub fn peak(&self) -> Result<u64> {
        self.status("VmHWM:")
    }

    /// Has the peak begin anew.
    pub fn forget_peak(&self) -> Result<()> {
        let path = format!("/proc/{}/clear_refs", self.child.id());
        fs::write(&path, "5").with_context(|| format!("failed to write to {path}"))
    }

    fn status(&self, name: &str) -> Result<u64> {
        let path = format!("/proc/{}/status", self.child.id());
        let text = fs::read_to_string(&path).with_context(|| format!("failed to read {path}"))?;
        let value = text
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .with_context(|| format!("no {name}"))?;
        let kib: u64 = value
            .trim()
            .trim_end_matches(" kB")
            .parse()
            .with_context(|| format!("{name} is {value}"))?;
        Ok(kib * 1024)
    }

    /// Ends it, once it is at rest, by a signal that no function has a handler for.
    pub fn end(mut self) -> Result<()> {
        self.cpu()?;
        let process =
            Pid::from_raw(self.child.id().cast_signed()).context("a process has an id")?;
        kill_process(process, Signal::USR1).context("failed to end the function")?;
        let status = self.child.wait().context("failed to wait for the function's end")?;
        ensure!(status.code().is_none(), "the function ended by itself, with {status}");
        Ok(())
    }
}

impl Drop for Function {
    fn drop(&mut self) {
        // Both fail only where it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        // A file that stays behind in the folder for temporary files is no failure.
        let _ = fs::remove_file(&self.log);
    }
}

/// What the kernel says of a thread.
#[derive(Debug, PartialEq)]
struct Thread {
    cpu: Duration,
    sleeps: bool,
}

impl Thread {
    fn read(folder: &std::path::Path) -> Option<Self> {
        let schedule = fs::read_to_string(folder.join("schedstat")).ok()?;
        let nanoseconds = schedule.split(' ').next()?.parse().ok()?;
        let stat = fs::read_to_string(folder.join("stat")).ok()?;
        let (_name, rest) = stat.rsplit_once(") ")?;
        Some(Self { cpu: Duration::from_nanos(nanoseconds), sleeps: rest.starts_with('S') })
    }
}
