//! What a person sees on standard error while a run goes on: a live view where there is a terminal,
//! what the function prints, and what went wrong. It refuses to know how the run is going beyond
//! the numbers it is given.

use std::io::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::live::Live;
use super::metrics::{self, Metrics};
use super::poller::Counts;
use super::report::Recorder;
use super::shard::Progress;
use super::summary::thousands;

/// Between two progress lines where standard error is no terminal.
const PLAIN_INTERVAL: Duration = Duration::from_secs(10);

/// Standard error, shared by everything that runs.
#[derive(Debug)]
pub(crate) struct Console {
    quiet: bool,
    progress: ProgressBar,
    live: Mutex<Live>,
    last_plain: Mutex<Instant>,
    metrics: Mutex<Metrics>,
    recorder: Option<Arc<Recorder>>,
}

impl Console {
    /// A console that, when `quiet`, shows neither progress nor what the function prints. The
    /// function's metrics go to `recorder` too.
    pub(crate) fn new(quiet: bool, recorder: Option<Arc<Recorder>>) -> Console {
        let progress = if quiet { ProgressBar::hidden() } else { ProgressBar::new_spinner() };
        if let Ok(style) = ProgressStyle::with_template("{msg}") {
            progress.set_style(style);
        }
        let (live, metrics, last_plain) =
            (Mutex::default(), Mutex::default(), Mutex::new(Instant::now()));
        Console { quiet, progress, live, last_plain, metrics, recorder }
    }

    /// Shows a line the function printed, and answers true. Its metrics are summed up instead.
    pub(crate) fn function_line(&self, line: &str) -> bool {
        if let Some(values) = metrics::values(line) {
            let mut metrics = self.metrics.lock().unwrap_or_else(PoisonError::into_inner);
            values.iter().for_each(|value| metrics.add(value));
            if let Some(recorder) = &self.recorder {
                recorder.metrics(&values);
            }
            return false;
        }
        if !self.quiet {
            self.write(line);
        }
        true
    }

    /// Says something about the run.
    pub(crate) fn note(&self, note: &str) {
        self.write(note);
    }

    /// Says that an invocation failed, with the last lines of its process where they have not been
    /// seen.
    pub(crate) fn failure(&self, failure: &str, output: &[String]) {
        self.write(failure);
        if self.quiet {
            for line in output {
                self.write(&format!("  | {line}"));
            }
        }
    }

    /// Shows how far the run is after this time.
    pub(crate) fn progress(&self, shards: &[Progress], elapsed: Duration) {
        if self.quiet {
            return;
        }
        if !self.progress.is_hidden() {
            let view =
                self.live.lock().unwrap_or_else(PoisonError::into_inner).look(shards, elapsed);
            self.progress.set_message(view);
            self.progress.tick();
            return;
        }
        let mut last = self.last_plain.lock().unwrap_or_else(PoisonError::into_inner);
        if last.elapsed() < PLAIN_INTERVAL {
            return;
        }
        *last = Instant::now();
        let counts = shards.iter().map(|shard| shard.counts).fold(Counts::default(), Counts::plus);
        self.write(&format!(
            "{} records read, {} succeeded, {} discarded, {} invocations, {} retries, {} records/s",
            thousands(counts.records),
            thousands(counts.succeeded),
            thousands(counts.discarded),
            thousands(counts.invocations),
            thousands(counts.retries),
            thousands((counts.succeeded as f64 / elapsed.as_secs_f64().max(0.001)) as u64),
        ));
    }

    /// Takes the live view away.
    pub(crate) fn finish(&self) {
        self.progress.finish_and_clear();
    }

    /// The metrics seen so far.
    pub(crate) fn metrics(&self) -> Metrics {
        self.metrics.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn write(&self, line: &str) {
        // A closed standard error must not end the run.
        self.progress.suspend(|| drop(writeln!(std::io::stderr(), "{line}")));
    }
}
