//! One running function process: its Runtime API, what it prints, and its end together with all it
//! started. It refuses to know when one is to be started or replaced.

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::console::Console;
use super::runtime_api::{Reply, RuntimeApi};
use super::sandbox::Launch;

/// How many of the last lines are kept to be shown with a failure.
const LAST_LINES: usize = 20;
/// How long the last output of a killed process may take to come through.
const DRAIN: Duration = Duration::from_secs(1);

/// How long a process may take to end after SIGTERM: what Lambda gives a function with an internal
/// extension.
/// <https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html#runtimes-lifecycle-shutdown>
const SHUTDOWN_LIMIT: Duration = Duration::from_millis(500);

/// A process, which gets no invocation but through its own Runtime API. Dropped, it is killed.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    /// The process group, which holds whatever the process starts.
    group: Option<Pid>,
    api: RuntimeApi,
    last_lines: Arc<Mutex<VecDeque<String>>>,
    readers: [Option<JoinHandle<()>>; 2],
}

/// Why a process does not ask for an invocation.
#[derive(Debug)]
pub(crate) enum NotReady {
    /// It ended.
    Exited(ExitStatus),
    /// It said so.
    InitError(String),
    /// It took too long.
    TimedOut,
}

/// How an invocation of the process ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// It answered.
    Replied(Reply),
    /// It ended without an answer.
    Exited(ExitStatus),
    /// It took too long.
    TimedOut,
}

impl Process {
    /// Starts a process of this executable.
    ///
    /// # Errors
    /// When no port can be opened, or the system cannot run the executable.
    pub(crate) async fn start(launch: &Launch, executable: &Path) -> io::Result<Process> {
        let api = RuntimeApi::start(&launch.function_arn, launch.clock).await?;
        let mut child = Command::new(executable)
            .env_clear()
            .envs(&launch.variables)
            .env("AWS_LAMBDA_RUNTIME_API", api.address().to_string())
            .current_dir(launch.task_root.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // A group of its own: Ctrl-C in the terminal does not reach it, and its end reaches all
            // it started.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let group = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        let last_lines = Arc::new(Mutex::new(VecDeque::with_capacity(LAST_LINES)));
        let readers = [
            child.stdout.take().map(|stdout| {
                tokio::spawn(pass_on(stdout, Arc::clone(&launch.console), Arc::clone(&last_lines)))
            }),
            child.stderr.take().map(|stderr| {
                tokio::spawn(pass_on(stderr, Arc::clone(&launch.console), Arc::clone(&last_lines)))
            }),
        ];
        Ok(Process { child, group, api, last_lines, readers })
    }

    /// Whether the process asks for an invocation now.
    pub(crate) fn is_ready(&self) -> bool {
        self.api.is_ready()
    }

    /// Waits until the process asks for an invocation, up to `limit`.
    pub(crate) async fn ready(&mut self, limit: Duration) -> Result<(), NotReady> {
        tokio::select! {
            biased;
            () = self.api.ready() => Ok(()),
            error = self.api.init_error() => Err(NotReady::InitError(error)),
            status = self.child.wait() => Err(NotReady::Exited(status.unwrap_or_default())),
            () = sleep(limit) => Err(NotReady::TimedOut),
        }
    }

    /// Hands the process an event and waits for the answer, up to `limit`.
    pub(crate) async fn invoke(
        &mut self,
        request_id: &str,
        event: Bytes,
        limit: Duration,
    ) -> Ended {
        tokio::select! {
            biased;
            reply = self.api.invoke(request_id, event, limit) => Ended::Replied(reply),
            status = self.child.wait() => Ended::Exited(status.unwrap_or_default()),
            () = sleep(limit) => Ended::TimedOut,
        }
    }

    /// What the process printed last.
    pub(crate) fn last_lines(&self) -> Vec<String> {
        self.last_lines.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// Ends the process as Lambda ends one that is no longer needed: with SIGTERM ahead of the end,
    /// if it has registered an extension.
    pub(crate) async fn shut_down(mut self) {
        if let (true, Some(group)) = (self.api.has_extension(), self.group) {
            // Fails only where nothing is left of the group.
            let _ = kill_process_group(group, Signal::TERM);
            let _ = timeout(SHUTDOWN_LIMIT, self.child.wait()).await;
        }
        self.kill().await;
    }

    /// Ends the process and all it started, and tells what was printed last.
    pub(crate) async fn kill(mut self) -> Vec<String> {
        self.kill_group();
        let _ = self.child.wait().await;
        for reader in self.readers.iter_mut().filter_map(Option::take) {
            // What left the group may hold the pipe open; its output is not waited for.
            let _ = timeout(DRAIN, reader).await;
        }
        self.last_lines()
    }

    fn kill_group(&mut self) {
        if let Some(group) = self.group.take() {
            // Fails only where nothing is left of the group.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill_group();
    }
}

/// Passes every line to the console and keeps the last ones.
async fn pass_on(
    pipe: impl AsyncRead + Unpin,
    console: Arc<Console>,
    last_lines: Arc<Mutex<VecDeque<String>>>,
) {
    let mut pipe = BufReader::new(pipe);
    let mut bytes = Vec::new();
    // A pipe that cannot be read has nothing more to tell.
    while pipe.read_until(b'\n', &mut bytes).await.is_ok_and(|length| length > 0) {
        let line = String::from_utf8_lossy(&bytes);
        // AWS's runtimes write a carriage return for each new line within a message, so that it
        // stays one line of the log.
        let line = line.trim_end_matches(['\n', '\r']).replace('\r', "\n");
        if console.function_line(&line) {
            let mut last_lines = last_lines.lock().unwrap_or_else(PoisonError::into_inner);
            if last_lines.len() == LAST_LINES {
                last_lines.pop_front();
            }
            last_lines.push_back(line);
        }
        bytes.clear();
    }
}
