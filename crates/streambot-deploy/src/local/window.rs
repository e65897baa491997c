//! Tumbling windows: which one a record belongs to, and the state that goes through it from batch
//! to batch. Values only; it refuses to know when a window's events are sent (`lane.rs`) and how
//! they are written (`event.rs`).
//!
//! <https://docs.aws.amazon.com/lambda/latest/dg/services-kinesis-windows.html>. What it leaves
//! open is decided here and in `lane.rs` alone: windows begin at multiples of their length since
//! 1970; with more than one lane each lane has a window and a state of its own, since one state
//! cannot be in two invocations at once; and the final event holds no records.

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;

/// Over this many bytes of state a window ends early: 1 MB.
const STATE_LIMIT: usize = 1024 * 1024;

/// How long Lambda waits for records of a window that is over before it sends the final event, in
/// milliseconds.
pub(crate) const LATENESS: u64 = 120_000;

/// A stretch of arrival times, in milliseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    /// The first of its moments.
    pub(crate) start: u64,
    /// The first moment after it.
    pub(crate) end: u64,
}

impl Window {
    /// The window of this length that a record which arrived at `arrival` belongs to.
    pub(crate) fn holding(arrival: u64, length: u64) -> Window {
        let start = arrival - arrival % length.max(1);
        Window { start, end: start + length.max(1) }
    }
}

/// What a function answered to be given again, as JSON text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct State(Arc<str>);

impl State {
    /// A state of this JSON text.
    pub(crate) fn new(json: &str) -> State {
        State(json.into())
    }

    /// Its JSON text.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is over what Lambda carries.
    pub(crate) fn is_too_large(&self) -> bool {
        self.0.len() > STATE_LIMIT
    }
}

/// What every window begins with.
impl Default for State {
    fn default() -> State {
        State::new("{}")
    }
}

/// What an event says of its window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    /// The window.
    pub(crate) window: Window,
    /// The state so far.
    pub(crate) state: State,
    /// Whether the window ends with this event.
    pub(crate) is_final: bool,
    /// Whether it ends before its time.
    pub(crate) is_terminated_early: bool,
}

/// A moment of a window as an event writes it, such as `2026-11-22T18:00:00Z`.
pub(crate) struct Moment(pub(crate) u64);

impl fmt::Display for Moment {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let milliseconds = i64::try_from(self.0).unwrap_or(i64::MAX);
        // Only a clock beyond the year 9999 fails.
        Timestamp::from_millisecond(milliseconds).unwrap_or(Timestamp::MAX).fmt(formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_belongs_to_the_window_it_arrived_in() {
        let window = Window { start: 120_000, end: 240_000 };
        assert_eq!(Window::holding(120_000, 120_000), window);
        assert_eq!(Window::holding(239_999, 120_000), window);
        assert_eq!(Window::holding(240_000, 120_000).start, window.end);
    }

    /// The moments of the event in the Lambda guide.
    #[test]
    fn a_moment_is_written_as_lambda_writes_it() {
        let window = Window::holding(1_607_497_475_000, 120_000);
        assert_eq!(Moment(window.start).to_string(), "2020-12-09T07:04:00Z");
        assert_eq!(Moment(window.end).to_string(), "2020-12-09T07:06:00Z");
    }

    #[test]
    fn a_state_may_have_a_megabyte_and_no_more() {
        assert!(!State::new(&"x".repeat(STATE_LIMIT)).is_too_large());
        assert!(State::new(&"x".repeat(STATE_LIMIT + 1)).is_too_large());
    }
}
