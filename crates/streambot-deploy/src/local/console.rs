//! What a person sees on standard error while a run goes on: a progress line where there is a terminal, what the function
//! prints, and what went wrong. It refuses to know how the run is going beyond the numbers it is given.

use std::io::Write as _;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::metrics::Metrics;
use super::poller::Counts;
use super::summary::thousands;

/// Between two progress lines where standard error is no terminal.
const PLAIN_INTERVAL: Duration = Duration::from_secs(10);

/// Standard error, shared by everything that runs.
#[derive(Debug)]
pub(crate) struct Console {
    quiet: bool,
    progress: ProgressBar,
    last_plain: Mutex<Instant>,
    metrics: Mutex<Metrics>,
}

impl Console {
    /// A console that, when `quiet`, shows neither progress nor what the function prints.
    pub(crate) fn new(quiet: bool) -> Console {
        let progress = if quiet { ProgressBar::hidden() } else { ProgressBar::new_spinner() };
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
            progress.set_style(style);
        }
        Console { quiet, progress, last_plain: Mutex::new(Instant::now()), metrics: Mutex::default() }
    }

    /// Shows a line the function printed. Its metrics are summed up instead.
    pub(crate) fn function_line(&self, line: &str) {
        if self.metrics.lock().unwrap_or_else(PoisonError::into_inner).add_line(line) || self.quiet {
            return;
        }
        self.write(line);
    }

    /// Says something about the run.
    pub(crate) fn note(&self, note: &str) {
        self.write(note);
    }

    /// Says that an invocation failed, with the last lines of its process where they have not been seen.
    pub(crate) fn failure(&self, failure: &str, output: &[String]) {
        self.write(failure);
        if self.quiet {
            for line in output {
                self.write(&format!("  | {line}"));
            }
        }
    }

    /// Shows how far the run is after this time.
    pub(crate) fn progress(&self, counts: Counts, elapsed: Duration) {
        if self.quiet {
            return;
        }
        let message = format!(
            "{} records read, {} succeeded, {} discarded, {} invocations, {} retries, {} records/s",
            thousands(counts.records),
            thousands(counts.succeeded),
            thousands(counts.discarded),
            thousands(counts.invocations),
            thousands(counts.retries),
            thousands((counts.succeeded as f64 / elapsed.as_secs_f64().max(0.001)) as u64),
        );
        if self.progress.is_hidden() {
            let mut last = self.last_plain.lock().unwrap_or_else(PoisonError::into_inner);
            if last.elapsed() >= PLAIN_INTERVAL {
                *last = Instant::now();
                self.write(&message);
            }
        } else {
            self.progress.set_message(message);
            self.progress.tick();
        }
    }

    /// Takes the progress line away.
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
