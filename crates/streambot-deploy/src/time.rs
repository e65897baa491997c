//! A moment as AWS tells it, JSON holds it and people read it. It refuses to know what happened
//! then.

use std::fmt;

use aws_sdk_lambda::primitives::DateTime;
use jiff::{SignedDuration, Timestamp};
use serde::{Serialize, Serializer};

/// A moment. A precision such as `{:.0}` is that of the seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Time(pub(crate) Timestamp);

impl Time {
    pub(crate) fn now() -> Self {
        Self(Timestamp::now())
    }

    /// A moment of an SDK's answer; nothing where it is beyond the calendar.
    pub(crate) fn of(time: Option<&DateTime>) -> Option<Self> {
        Self::from_milliseconds(time?.to_millis().ok()?)
    }

    /// So many milliseconds after the Unix epoch; nothing where that is beyond the calendar.
    pub(crate) fn from_milliseconds(milliseconds: i64) -> Option<Self> {
        Timestamp::from_millisecond(milliseconds).ok().map(Self)
    }

    /// Reads a time such as `2026-11-24T17:00:00Z` or, as Lambda writes it,
    /// `2026-11-24T17:00:00.000+0000`.
    pub(crate) fn read(text: &str) -> Option<Self> {
        text.parse().ok().map(Self)
    }

    /// How long ago it was at `now`, in the largest unit there is one of, such as `5 min ago`.
    pub(crate) fn ago(self, now: Self) -> String {
        let seconds = self.0.duration_until(now.0).max(SignedDuration::ZERO).as_secs();
        match seconds {
            0..60 => format!("{seconds} s ago"),
            60..3_600 => format!("{} min ago", seconds / 60),
            3_600..86_400 => format!("{} h ago", seconds / 3_600),
            _ => format!("{} d ago", seconds / 86_400),
        }
    }
}

impl fmt::Display for Time {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// With milliseconds, always, so that texts are in the order of the times.
impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{self:.3}"))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_read_as_lambda_and_as_everyone_else_writes_it() {
        let time = Time::read("2026-11-24T17:00:00Z").unwrap();
        assert_eq!(Time::read("2026-11-24T17:00:00.000+0000"), Some(time));
        assert_eq!(Time::from_milliseconds(time.0.as_millisecond()), Some(time));
        assert_eq!(Time::read("yesterday"), None);
        assert_eq!(serde_json::to_string(&time).unwrap(), "\"2026-11-24T17:00:00.000Z\"");
    }

    #[test]
    fn how_long_ago_is_told_in_the_largest_unit() {
        let time = Time::read("2026-11-24T17:00:00Z").unwrap();
        for (seconds, said) in [
            (-5, "0 s ago"),
            (0, "0 s ago"),
            (59, "59 s ago"),
            (60, "1 min ago"),
            (3_599, "59 min ago"),
            (7_300, "2 h ago"),
            (200_000, "2 d ago"),
        ] {
            assert_eq!(time.ago(Time(time.0 + SignedDuration::from_secs(seconds))), said);
        }
    }
}
