//! The lines of an invocation that are kept for its log object in S3.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::scope;

/// How many bytes of an invocation's lines are kept for S3.
const MAX_CAPTURED_BYTES: usize = 4 << 20;

/// Whether there is a bucket that lines are kept for.
static ENABLED: AtomicBool = AtomicBool::new(false);
/// The lines since the last invocation; they are in the log object of the next one.
static BETWEEN: Mutex<Capture> = Mutex::new(Capture::new(MAX_CAPTURED_BYTES));

/// Lines, up to a limit.
#[derive(Debug)]
pub(crate) struct Capture {
    lines: Vec<u8>,
    max_bytes: usize,
    /// Bytes of lines that were too many.
    left_out: usize,
}

impl Capture {
    const fn new(max_bytes: usize) -> Self {
        Self { lines: Vec::new(), max_bytes, left_out: 0 }
    }

    pub(crate) fn add(&mut self, line: &[u8]) {
        // Once a line is left out so are all after it: what is kept has no gaps.
        if self.left_out > 0 || self.lines.len() + line.len() > self.max_bytes {
            self.left_out += line.len();
        } else {
            self.lines.extend_from_slice(line);
        }
    }

    /// The lines; the last one says what is missing.
    pub(crate) fn into_lines(self) -> Vec<u8> {
        let Self { mut lines, left_out, .. } = self;
        if left_out > 0 {
            let note = format!(
                "[streambot: {left_out} more bytes of log lines are in CloudWatch Logs only]\n"
            );
            lines.extend_from_slice(note.as_bytes());
        }
        lines
    }
}

/// Keeps lines from now on.
pub(super) fn enable() {
    ENABLED.store(true, Ordering::Relaxed);
}

/// Begins the capture of an invocation, with the lines since the last one.
pub(crate) fn capture_of_invocation() -> Capture {
    let mut between = BETWEEN.lock().unwrap_or_else(PoisonError::into_inner);
    std::mem::replace(&mut between, Capture::new(MAX_CAPTURED_BYTES))
}

/// Keeps a line with those of its invocation.
pub(super) fn add(line: &[u8]) {
    if !ENABLED.load(Ordering::Relaxed) || scope::current().is_some_and(|scope| scope.capture(line))
    {
        return;
    }
    BETWEEN.lock().unwrap_or_else(PoisonError::into_inner).add(line);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_that_grows_too_large_ends_with_what_is_missing() {
        let mut capture = Capture::new(25);
        for line in ["0123456789\n", "0123456789\n", "0123456789\n", "x\n"] {
            capture.add(line.as_bytes());
        }
        let text = String::from_utf8(capture.into_lines()).expect("lines are text");
        assert_eq!(
            text,
            "0123456789\n0123456789\n[streambot: 13 more bytes of log lines are in CloudWatch Logs only]\n"
        );
    }

    #[test]
    fn without_a_bucket_nothing_is_kept() {
        add(b"line\n");
        assert!(capture_of_invocation().into_lines().is_empty());
    }
}
