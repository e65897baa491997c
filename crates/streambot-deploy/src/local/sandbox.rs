//! A place for one function process at a time: it is started on need, kept for the next invocation, and replaced when it
//! ended or its time was up. It refuses to know what an event holds and what an answer means.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::clock::Clock;
use super::console::Console;
use super::process::{Ended, NotReady, Process};
use super::runtime_api::Reply;
use super::task_root::TaskRoot;
use crate::error::{Error, Result};

/// Lambda's limit for the init of a process: <https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html>.
const INIT_LIMIT: Duration = Duration::from_secs(10);
/// Starts in a row that may fail before the run gives up: the next would fail like them.
const FAILED_STARTS: u32 = 3;
/// How long a process that has answered may go on before the end of the run kills it.
const GRACE: Duration = Duration::from_secs(2);

/// How the function's processes are run.
#[derive(Debug)]
pub(crate) struct Launch {
    /// The executable that speaks the Lambda Runtime API; an absolute path.
    pub(crate) executable: PathBuf,
    /// Their environment variables, but for the address of the Runtime API.
    pub(crate) variables: BTreeMap<String, String>,
    /// Where they run.
    pub(crate) task_root: TaskRoot,
    /// The function they run, as they are told.
    pub(crate) function_arn: String,
    /// How long they may take for one invocation.
    pub(crate) timeout: Duration,
    /// The run's clock.
    pub(crate) clock: Clock,
    /// Where their output goes.
    pub(crate) console: Arc<Console>,
}

/// How an invocation ended.
#[derive(Debug)]
pub(crate) enum Invoked {
    /// The function answered with this body.
    Answered(Bytes),
    /// The function failed.
    Failed(Failure),
}

/// What is told of a failed invocation.
#[derive(Debug)]
pub(crate) struct Failure {
    /// Why it failed, in words.
    pub(crate) reason: String,
    /// The last lines of its process.
    pub(crate) output: Vec<String>,
}

/// The place.
#[derive(Debug)]
pub(crate) struct Sandbox {
    launch: Arc<Launch>,
    process: Option<Process>,
    failed_starts: u32,
}

impl Sandbox {
    /// A place without a process yet.
    pub(crate) fn new(launch: Arc<Launch>) -> Sandbox {
        Sandbox { launch, process: None, failed_starts: 0 }
    }

    /// Sends an event to the process, and starts one where there is none.
    ///
    /// # Errors
    /// When there is no sense in trying again: the executable cannot be run, or its processes never get ready.
    pub(crate) async fn invoke(&mut self, event: Bytes) -> Result<Invoked> {
        let mut process = match self.take_served().await {
            Some(process) => process,
            None => match self.start().await? {
                Started::Ready(process) => *process,
                Started::Failed(failure) => return Ok(Invoked::Failed(failure)),
            },
        };
        let reason = match process.invoke(event, self.launch.timeout).await {
            Ended::Replied(Reply::Response(body)) => {
                self.process = Some(process);
                return Ok(Invoked::Answered(body));
            }
            Ended::Replied(Reply::Error(reason)) => {
                let output = process.last_lines();
                self.process = Some(process);
                return Ok(Invoked::Failed(Failure { reason, output }));
            }
            Ended::Exited(status) => format!("the function's process ended before it answered ({status})"),
            Ended::TimedOut => {
                format!("no answer within the function's timeout of {} s", self.launch.timeout.as_secs())
            }
        };
        Ok(Invoked::Failed(Failure { reason, output: process.kill().await }))
    }

    /// Ends the process, once it is through with what follows its answer.
    pub(crate) async fn stop(mut self) {
        if let Some(mut process) = self.process.take() {
            // Ready or not, it ends now.
            let _ = process.ready(GRACE).await;
            process.kill().await;
        }
    }

    /// The process of the last invocation, if it asks for another one. What follows an answer counts against the timeout.
    async fn take_served(&mut self) -> Option<Process> {
        let mut process = self.process.take()?;
        if process.ready(self.launch.timeout).await.is_ok() {
            return Some(process);
        }
        process.kill().await;
        None
    }

    async fn start(&mut self) -> Result<Started> {
        let executable = self.launch.executable.display();
        let mut process = Process::start(&self.launch).await.map_err(|error| {
            Error::failed(format!("starting the function's process {executable}"))
                .because(error)
                .hint("give an executable for this machine: a program, or a script that begins with #!")
        })?;
        let not_ready = match process.ready(INIT_LIMIT).await {
            Ok(()) => {
                self.failed_starts = 0;
                return Ok(Started::Ready(Box::new(process)));
            }
            Err(not_ready) => not_ready,
        };
        let output = process.kill().await;
        self.failed_starts += 1;
        let reason = match &not_ready {
            NotReady::Exited(status) => format!("the function's process ended before it asked for an event ({status})"),
            NotReady::InitError(error) => format!("the function's init failed: {error}"),
            NotReady::TimedOut => {
                format!("the function's process did not ask for an event within {} s", INIT_LIMIT.as_secs())
            }
        };
        // What hung for that long would hang again.
        if matches!(not_ready, NotReady::TimedOut) || self.failed_starts >= FAILED_STARTS {
            return Err(self.given_up(&reason, &output));
        }
        Ok(Started::Failed(Failure { reason, output }))
    }

    fn given_up(&self, reason: &str, output: &[String]) -> Error {
        let times = match self.failed_starts {
            1 => String::new(),
            times => format!(", {times} times in a row"),
        };
        let last = match output {
            [] => "it printed nothing".to_owned(),
            lines => format!("it printed:\n  | {}", lines.join("\n  | ")),
        };
        Error::failed(format!("{reason}{times}")).because(std::io::Error::other(last)).hint(format!(
            "{} must speak the Lambda Runtime API: streambot_runtime::run does",
            self.launch.executable.display()
        ))
    }
}

enum Started {
    Ready(Box<Process>),
    Failed(Failure),
}
