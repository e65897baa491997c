//! The clock of a run: milliseconds since the Unix epoch that never run backwards, even when the
//! machine's clock is set.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A clock that was read once and counts on from there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    started: Instant,
    since_epoch: Duration,
}

impl Clock {
    /// Starts the clock.
    pub(crate) fn start() -> Clock {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Clock { started: Instant::now(), since_epoch }
    }

    /// Milliseconds since the Unix epoch.
    pub(crate) fn now(&self) -> u64 {
        u64::try_from((self.since_epoch + self.elapsed()).as_millis()).unwrap_or(u64::MAX)
    }

    /// How long the clock has run.
    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }
}
