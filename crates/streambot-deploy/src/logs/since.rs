//! From when on logs are wanted: a time, or how long ago. It refuses to know what was logged.

use std::str::FromStr;

use jiff::{SignedDuration, Timestamp};

use crate::time::Time;

/// From when on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Since {
    /// So long before now.
    Ago(SignedDuration),
    At(Timestamp),
}

impl Since {
    /// The moment it is, seen from `now`; never before the Unix epoch, where CloudWatch's time
    /// begins.
    pub(super) fn from(self, now: Time) -> Time {
        let time = match self {
            Self::Ago(duration) => now.0.checked_sub(duration).unwrap_or(Timestamp::UNIX_EPOCH),
            Self::At(time) => time,
        };
        Time(time.max(Timestamp::UNIX_EPOCH))
    }
}

impl FromStr for Since {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let ago = || {
            let unit = text.chars().next_back()?;
            let seconds = match unit {
                's' => 1,
                'm' => 60,
                'h' => 60 * 60,
                'd' => 24 * 60 * 60,
                _ => return None,
            };
            let number = text.strip_suffix(unit)?;
            let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
            let number: i64 = number.parse().ok().filter(|_| is_number)?;
            number.checked_mul(seconds).map(SignedDuration::from_secs).map(Self::Ago)
        };
        ago().or_else(|| text.parse().ok().map(Self::At)).ok_or_else(|| {
            format!("{text} is no time: write how long ago, such as 30s, 10m, 2h or 3d, or a time such as 2026-11-24T17:00:00Z")
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_time_ago_and_a_moment_are_read() {
        let now = Time::read("2026-11-24T17:00:00Z").unwrap();
        for (text, time) in [
            ("30s", "2026-11-24T16:59:30Z"),
            ("10m", "2026-11-24T16:50:00Z"),
            ("2h", "2026-11-24T15:00:00Z"),
            ("3d", "2026-11-21T17:00:00Z"),
            ("0s", "2026-11-24T17:00:00Z"),
            ("2026-11-24T12:00:00Z", "2026-11-24T12:00:00Z"),
            ("2026-11-24T12:00:00+01:00", "2026-11-24T11:00:00Z"),
            ("100000d", "1970-01-01T00:00:00Z"),
            ("100000000000d", "1970-01-01T00:00:00Z"),
        ] {
            assert_eq!(
                text.parse::<Since>().unwrap().from(now),
                Time::read(time).unwrap(),
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_no_time_is_refused_with_what_is() {
        for wrong in [
            "",
            "10",
            "m",
            "-5m",
            "+5m",
            "1.5h",
            "10 m",
            "10w",
            "yesterday",
            "2026-11-24",
            "9999999999999999d",
        ] {
            assert!(wrong.parse::<Since>().unwrap_err().contains("write how long ago"), "{wrong}");
        }
    }
}
