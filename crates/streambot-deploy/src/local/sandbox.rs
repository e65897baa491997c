//! The function's processes, shared by all shards and lanes: each is started on need, kept for the
//! next invocation, and replaced when it ended or its time was up. It refuses to know what an event
//! holds and what an answer means.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::Semaphore;
use tokio::time::sleep;

use super::chaos::Strike;
use super::clock::Clock;
use super::console::Console;
use super::process::{Ended, NotReady, Process};
use super::runtime_api::Reply;
use super::task_root::TaskRoot;
use crate::error::{Error, Result};

/// Lambda's limit for the init of a process:
/// <https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html>.
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

/// An invocation that came to its end.
#[derive(Debug)]
pub(crate) struct Invocation {
    /// When the function got the event, or its process was started in vain; in milliseconds since
    /// the Unix epoch.
    pub(crate) began: u64,
    /// How long it took from then on. Waiting for a process is not in it, and neither is a
    /// process's start.
    pub(crate) duration: Duration,
    /// How it ended.
    pub(crate) invoked: Invoked,
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
    /// Whether it is that the time was up.
    pub(crate) timed_out: bool,
    /// The last lines of its process.
    pub(crate) output: Vec<String>,
}

/// All the function's processes.
#[derive(Debug)]
pub(crate) struct Sandboxes {
    launch: Arc<Launch>,
    /// What new processes run. Those that run what was there before, be it at the same path, are
    /// replaced before they get another invocation.
    executable: Mutex<Arc<Path>>,
    /// How many processes there may be at once.
    places: Semaphore,
    idle: Mutex<Vec<Sandbox>>,
    /// Starts that failed since the last that did not.
    failed_starts: AtomicU32,
    /// How long the last answer took, in microseconds.
    last_duration: AtomicU64,
}

/// A process and what it runs.
#[derive(Debug)]
struct Sandbox {
    process: Process,
    executable: Arc<Path>,
}

impl Sandboxes {
    /// Room for this many processes at once; none is started yet.
    pub(crate) fn new(launch: Arc<Launch>, maximum_concurrency: usize) -> Sandboxes {
        Sandboxes {
            executable: Mutex::new(Arc::from(launch.executable.as_path())),
            launch,
            places: Semaphore::new(maximum_concurrency.clamp(1, Semaphore::MAX_PERMITS)),
            idle: Mutex::default(),
            failed_starts: AtomicU32::new(0),
            last_duration: AtomicU64::new(0),
        }
    }

    /// Sends an event to a process, once there may be one for it, and starts one where none is
    /// idle. `strike` is the trouble it is to meet there; a throttle and a duplicate are the
    /// caller's.
    ///
    /// # Errors
    /// When there is no sense in trying again: the executable cannot be run, or its processes never
    /// get ready.
    pub(crate) async fn invoke(
        &self,
        request_id: &str,
        event: Bytes,
        strike: Option<Strike>,
    ) -> Result<Invocation> {
        // It is never closed, so a place is always got in the end.
        let _place = self.places.acquire().await;
        let (mut began, mut started) = (self.launch.clock.now(), Instant::now());
        let invoked = match self.ready_sandbox().await? {
            Started::Ready(sandbox) => {
                (began, started) = (self.launch.clock.now(), Instant::now());
                self.send(*sandbox, request_id, event, strike).await
            }
            Started::Failed(failure) => Invoked::Failed(failure),
        };
        Ok(Invocation { began, duration: started.elapsed(), invoked })
    }

    /// Runs this executable from now on: what is in flight is finished by the old one.
    pub(crate) async fn replace(&self, executable: &Path) {
        *lock(&self.executable) = Arc::from(executable);
        self.failed_starts.store(0, Ordering::Relaxed);
        self.stop().await;
    }

    /// Ends the idle processes, once each is through with what follows its answer.
    pub(crate) async fn stop(&self) {
        let idle = std::mem::take(&mut *lock(&self.idle));
        // Together, so that their graces do not add up.
        let stopping: Vec<_> =
            idle.into_iter().map(|sandbox| tokio::spawn(sandbox.stop())).collect();
        for stopped in stopping {
            // It fails only where it panicked, and then the process was killed.
            let _ = stopped.await;
        }
    }

    async fn send(
        &self,
        sandbox: Sandbox,
        request_id: &str,
        event: Bytes,
        strike: Option<Strike>,
    ) -> Invoked {
        let Sandbox { mut process, executable } = sandbox;
        let (limit, started) = (self.launch.timeout, Instant::now());
        let usual = Duration::from_micros(self.last_duration.load(Ordering::Relaxed));
        let invocation = process.invoke(request_id, event, limit);
        let ended = match strike {
            Some(Strike::Crash) => tokio::select! {
                // Where nothing is known of how long it takes, the answer is the last moment, and
                // is lost.
                _ = invocation => None,
                () = sleep(usual / 2), if !usual.is_zero() => None,
            },
            _ => Some(invocation.await),
        };
        let (reason, timed_out) = match (ended, strike) {
            (None, _) => {
                ("chaos: the process was killed in the middle of the invocation".to_owned(), false)
            }
            (Some(Ended::Replied(_)), Some(Strike::Timeout)) => (
                format!(
                    "chaos: the answer counts as later than the function's timeout of {} s",
                    limit.as_secs()
                ),
                true,
            ),
            (Some(Ended::Replied(reply)), _) => {
                let elapsed = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
                self.last_duration.store(elapsed, Ordering::Relaxed);
                let invoked = match reply {
                    Reply::Response(body) => Invoked::Answered(body),
                    Reply::Error(reason) => Invoked::Failed(Failure {
                        reason,
                        timed_out: false,
                        output: process.last_lines(),
                    }),
                };
                lock(&self.idle).push(Sandbox { process, executable });
                return invoked;
            }
            (Some(Ended::Exited(status)), _) => {
                (format!("the function's process ended before it answered ({status})"), false)
            }
            (Some(Ended::TimedOut), _) => {
                (format!("no answer within the function's timeout of {} s", limit.as_secs()), true)
            }
        };
        Invoked::Failed(Failure { reason, timed_out, output: process.kill().await })
    }

    /// A process that asks for an event: an idle one, or else a new one.
    async fn ready_sandbox(&self) -> Result<Started> {
        let executable = Arc::clone(&lock(&self.executable));
        while let Some(mut sandbox) = self.take_idle() {
            // What follows an answer counts against the timeout.
            if Arc::ptr_eq(&sandbox.executable, &executable)
                && sandbox.process.ready(self.launch.timeout).await.is_ok()
            {
                return Ok(Started::Ready(Box::new(sandbox)));
            }
            sandbox.process.kill().await;
        }
        self.start(executable).await
    }

    /// The idle process that answered last of those that ask for an event, or else that answered
    /// last of all.
    fn take_idle(&self) -> Option<Sandbox> {
        let mut idle = lock(&self.idle);
        match idle.iter().rposition(|sandbox| sandbox.process.is_ready()) {
            Some(place) => Some(idle.remove(place)),
            None => idle.pop(),
        }
    }

    async fn start(&self, executable: Arc<Path>) -> Result<Started> {
        let mut process = Process::start(&self.launch, &executable).await.map_err(|error| {
            Error::failed(format!("starting the function's process {}", executable.display()))
                .because(error)
                .hint("give an executable for this machine: a program, or a script that begins with #!")
        })?;
        let not_ready = match process.ready(INIT_LIMIT).await {
            Ok(()) => {
                self.failed_starts.store(0, Ordering::Relaxed);
                return Ok(Started::Ready(Box::new(Sandbox { process, executable })));
            }
            Err(not_ready) => not_ready,
        };
        let output = process.kill().await;
        let failed_starts = self.failed_starts.fetch_add(1, Ordering::Relaxed) + 1;
        let reason = match &not_ready {
            NotReady::Exited(status) => {
                format!("the function's process ended before it asked for an event ({status})")
            }
            NotReady::InitError(error) => format!("the function's init failed: {error}"),
            NotReady::TimedOut => {
                format!(
                    "the function's process did not ask for an event within {} s",
                    INIT_LIMIT.as_secs()
                )
            }
        };
        // What hung for that long would hang again.
        if matches!(not_ready, NotReady::TimedOut) || failed_starts >= FAILED_STARTS {
            return Err(given_up(&reason, failed_starts, &output, &executable));
        }
        Ok(Started::Failed(Failure { reason, timed_out: false, output }))
    }
}

impl Sandbox {
    async fn stop(mut self) {
        // Ready or not, it ends now.
        let _ = self.process.ready(GRACE).await;
        self.process.shut_down().await;
    }
}

fn given_up(reason: &str, failed_starts: u32, output: &[String], executable: &Path) -> Error {
    let times = match failed_starts {
        1 => String::new(),
        times => format!(", {times} times in a row"),
    };
    let last = match output {
        [] => "it printed nothing".to_owned(),
        lines => format!("it printed:\n  | {}", lines.join("\n  | ")),
    };
    Error::failed(format!("{reason}{times}")).because(std::io::Error::other(last)).hint(format!(
        "{} must speak the Lambda Runtime API: streambot_runtime::run does",
        executable.display()
    ))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

enum Started {
    Ready(Box<Sandbox>),
    Failed(Failure),
}
