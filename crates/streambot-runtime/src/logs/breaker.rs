//! Decides whether an upload is tried: after failures in a row, uploads pause for a time that
//! grows.

use std::time::Duration;

use tokio::time::Instant;

/// How many failures in a row begin a pause.
const MAX_FAILURES: u32 = 3;
const MIN_PAUSE: Duration = Duration::from_secs(10);
const MAX_PAUSE: Duration = Duration::from_secs(300);

/// A circuit breaker. After a pause one trial is let through: its success ends the matter, its
/// failure begins a pause that is twice as long.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    failures: u32,
    paused_until: Option<Instant>,
}

impl Breaker {
    /// Whether an upload may be tried now.
    pub(super) fn allows(&self, now: Instant) -> bool {
        self.paused_until.is_none_or(|until| now >= until)
    }

    pub(super) fn succeed(&mut self) {
        *self = Self::default();
    }

    /// Takes note of a failure, and returns the pause that it begins.
    pub(super) fn fail(&mut self, now: Instant) -> Option<Duration> {
        self.failures = self.failures.saturating_add(1);
        let doublings = self.failures.checked_sub(MAX_FAILURES)?;
        let pause = MIN_PAUSE.saturating_mul(2u32.saturating_pow(doublings)).min(MAX_PAUSE);
        self.paused_until = Some(now + pause);
        Some(pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    #[test]
    fn pauses_after_three_failures_in_a_row() {
        let (start, mut breaker) = (Instant::now(), Breaker::default());
        assert_eq!((breaker.fail(start), breaker.fail(start)), (None, None));
        assert!(breaker.allows(start));
        assert_eq!(breaker.fail(start), Some(Duration::from_secs(10)));
        assert!(!breaker.allows(start) && !breaker.allows(at(start, 9)));
        assert!(breaker.allows(at(start, 10)));
    }

    #[test]
    fn a_success_between_failures_starts_the_count_again() {
        let (start, mut breaker) = (Instant::now(), Breaker::default());
        for _ in 0..10 {
            assert_eq!((breaker.fail(start), breaker.fail(start)), (None, None));
            breaker.succeed();
        }
        assert!(breaker.allows(start));
    }

    #[test]
    fn a_failed_trial_doubles_the_pause_up_to_five_minutes_and_a_success_ends_it() {
        let (start, mut breaker) = (Instant::now(), Breaker::default());
        assert_eq!((breaker.fail(start), breaker.fail(start)), (None, None));
        let mut now = start;
        for expected in [10, 20, 40, 80, 160, 300, 300] {
            assert!(breaker.allows(now), "a trial");
            assert_eq!(breaker.fail(now), Some(Duration::from_secs(expected)));
            assert!(!breaker.allows(at(now, expected - 1)));
            now = at(now, expected);
        }
        breaker.succeed();
        assert!(breaker.allows(now));
        assert_eq!(breaker.fail(now), None, "three failures are needed again");
    }
}
