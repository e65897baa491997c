//! The one clock an invocation reads: the time of day, the time that timers run on, and a cheap
//! sign that some time has passed. In tests it is Tokio's clock, which can be paused and moved.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

/// The clock of an invocation.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Clock {
    /// The machine's.
    System,
    /// Tokio's alone, for tests: it was `time_of_day` at `origin`.
    Tokio { origin: Instant, time_of_day: SystemTime },
}

impl Clock {
    /// Tokio's clock, which reads `time_of_day` now.
    pub(crate) fn tokio(time_of_day: SystemTime) -> Self {
        Self::Tokio { origin: Instant::now(), time_of_day }
    }

    /// Now, on the clock that timers run on.
    pub(crate) fn now(&self) -> Instant {
        Instant::now()
    }

    /// Now, as the time of day.
    pub(crate) fn time_of_day(&self) -> SystemTime {
        match self {
            Self::System => SystemTime::now(),
            Self::Tokio { origin, time_of_day } => *time_of_day + origin.elapsed(),
        }
    }

    /// The tick of the kernel's coarse clock, which moves every 1 to 10 ms; `None` if there is not
    /// such a clock.
    ///
    /// Reading it takes 2 ns where reading the time takes 25:
    /// <https://man7.org/linux/man-pages/man2/clock_gettime.2.html>.
    fn tick(&self) -> Option<Duration> {
        match self {
            #[cfg(target_os = "linux")]
            Self::System => coarse_tick(),
            _ => None,
        }
    }
}

/// The C library reads it, and knows what to do where the kernel has no vDSO.
#[cfg(target_os = "linux")]
fn coarse_tick() -> Option<Duration> {
    let mut tick = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `tick` is a timespec that lives through the call, which writes nothing else.
    let status = unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC_COARSE, &raw mut tick) };
    (status == 0).then(|| Duration::new(tick.tv_sec as u64, tick.tv_nsec as u32))
}

/// A moment that is waited for by looking at the clock again and again, at next to no cost.
#[derive(Debug)]
pub(crate) struct Moment {
    clock: Clock,
    at: Instant,
    last_tick: Option<Duration>,
}

impl Moment {
    pub(crate) fn new(clock: Clock, at: Instant) -> Self {
        Self { clock, at, last_tick: None }
    }

    /// Whether the moment has come. Within one tick of the coarse clock the answer is that of the
    /// tick's first look.
    pub(crate) fn has_come(&mut self) -> bool {
        let tick = self.clock.tick();
        if tick.is_some() && tick == self.last_tick {
            return false;
        }
        let has_come = self.clock.now() >= self.at;
        // Once it has come, every look says so.
        self.last_tick = if has_come { None } else { tick };
        has_come
    }

    /// Runs a future for as long as the moment has not come; `None` if it comes first.
    ///
    /// It looks before each poll but the first, which is the caller's to decide on, and sets no
    /// timer: a future that computes between two polls is stopped at the second.
    pub(crate) async fn before<F: Future>(&mut self, future: F) -> Option<F::Output> {
        let mut future = pin!(future);
        let mut is_first = true;
        poll_fn(|context| {
            if !std::mem::take(&mut is_first) && self.has_come() {
                return Poll::Ready(None);
            }
            future.as_mut().poll(context).map(Some)
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_moment_comes_once_and_for_all() {
        let clock = Clock::tokio(SystemTime::now());
        let mut moment = Moment::new(clock, Instant::now() + Duration::from_secs(1));
        assert!(!moment.has_come());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(moment.has_come() && moment.has_come());
    }

    #[test]
    fn a_moment_on_the_machines_clock_is_seen_within_a_few_ticks() {
        let at = Instant::now() + Duration::from_millis(30);
        let mut moment = Moment::new(Clock::System, at);
        while !moment.has_come() {
            assert!(at.elapsed() < Duration::from_secs(2), "the moment is long past");
        }
        assert!(Instant::now() >= at && moment.has_come());
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_of_day_moves_with_tokios_clock() {
        let clock = Clock::tokio(SystemTime::UNIX_EPOCH);
        tokio::time::advance(Duration::from_secs(7)).await;
        assert_eq!(clock.time_of_day(), SystemTime::UNIX_EPOCH + Duration::from_secs(7));
    }
}
