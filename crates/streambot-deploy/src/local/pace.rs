//! How fast records are handed on: so many a second, evenly. Pure, under a clock that is passed in;
//! it refuses to know what a record is.

use std::num::NonZeroU32;
use std::time::Duration;

/// A pace that is kept over a whole run, so that one late record does not slow down the rest.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    per_second: NonZeroU32,
    started: Option<Duration>,
    handed_on: u64,
}

impl Pace {
    /// So many records a second.
    pub(crate) fn new(per_second: NonZeroU32) -> Pace {
        Pace { per_second, started: None, handed_on: 0 }
    }

    /// How long the next record has to wait from `now` on; the first one does not. It counts as
    /// handed on.
    pub(crate) fn next(&mut self, now: Duration) -> Duration {
        let started = *self.started.get_or_insert(now);
        let rate = u64::from(self.per_second.get());
        let (seconds, rest) = (self.handed_on / rate, self.handed_on % rate);
        // Less than a second's share: the product stays far below 2^64.
        let due = started
            + Duration::from_secs(seconds)
            + Duration::from_nanos(rest * 1_000_000_000 / rate);
        self.handed_on += 1;
        due.saturating_sub(now)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn records_are_spread_evenly_and_a_late_one_does_not_delay_the_next() {
        let milliseconds = Duration::from_millis;
        let mut pace = Pace::new(NonZeroU32::new(4).unwrap());
        assert_eq!(pace.next(milliseconds(5_000)), milliseconds(0));
        assert_eq!(pace.next(milliseconds(5_000)), milliseconds(250));
        assert_eq!(pace.next(milliseconds(5_700)), milliseconds(0), "it was due at 5,500");
        assert_eq!(pace.next(milliseconds(5_700)), milliseconds(50));
        assert_eq!(pace.next(milliseconds(5_700)), milliseconds(300));
    }
}
