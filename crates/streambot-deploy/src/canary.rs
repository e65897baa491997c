//! A canary: a new version gets a share of the batches for a while, is judged by its own numbers,
//! and then gets all of them or none. It refuses to know how a version came to be.

mod judge;
mod watch;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

pub(crate) use watch::see_through;

/// How late CloudWatch may be.
const LATENESS: Duration = Duration::from_secs(120);

/// How much a new version gets, and for how long.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Canary {
    /// Its share of the batches, between 0 and 1.
    pub(crate) weight: f64,
    /// How long it is watched.
    pub(crate) time: Duration,
}

impl Canary {
    /// What is written on the alias, so that an interrupted canary can be picked up: the plan and
    /// when it began.
    pub(crate) fn begun_now(&self) -> String {
        self.begun_at(jiff::Timestamp::now())
    }

    /// How long after its time it is judged for good: CloudWatch tells the last numbers late. A
    /// short one has as much again.
    fn delay(&self) -> Duration {
        self.time.min(LATENESS)
    }

    fn begun_at(&self, time: jiff::Timestamp) -> String {
        format!("{WRITTEN}{self} since {}", time.round(jiff::Unit::Second).unwrap_or(time))
    }

    /// Reads what [`Self::begun_now`] wrote; nothing where an alias's share was given by someone
    /// else.
    pub(crate) fn read(description: &str) -> Option<(Self, jiff::Timestamp)> {
        let (canary, since) = description.strip_prefix(WRITTEN)?.split_once(" since ")?;
        Some((canary.parse().ok()?, since.parse().ok()?))
    }
}

/// How a canary's plan begins on an alias.
const WRITTEN: &str = "streambot canary ";

impl fmt::Display for Canary {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A share of 0.07 times a hundred is 7.000000000000001.
        let percent = (self.weight * 1e6).round() / 1e4;
        let seconds = self.time.as_secs();
        match seconds {
            0 => write!(formatter, "{percent}%/{}ms", self.time.as_millis()),
            _ if seconds.is_multiple_of(3600) => {
                write!(formatter, "{percent}%/{}h", seconds / 3600)
            }
            _ if seconds.is_multiple_of(60) => write!(formatter, "{percent}%/{}m", seconds / 60),
            _ => write!(formatter, "{percent}%/{seconds}s"),
        }
    }
}

impl FromStr for Canary {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let read = || {
            let (share, time) = text.split_once('/')?;
            let percent: f64 = share.strip_suffix('%')?.parse().ok()?;
            let weight = percent / 100.0;
            let end = time.find(|character: char| character.is_ascii_alphabetic())?;
            let number: u64 = time[..end].parse().ok()?;
            let time = match &time[end..] {
                "ms" => Duration::from_millis(number),
                "s" => Duration::from_secs(number),
                "m" => Duration::from_secs(number.checked_mul(60)?),
                "h" => Duration::from_secs(number.checked_mul(3600)?),
                _ => return None,
            };
            let day = Duration::from_secs(24 * 60 * 60);
            (weight > 0.0 && weight < 1.0 && time <= day).then_some(Self { weight, time })
        };
        read().ok_or_else(|| {
            format!("{text} is no canary: write 10%/5m, a share between 0% and 100% and a time up to 24h in s, m or h")
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_share_and_a_time_are_read_and_written_alike() {
        for text in ["10%/5m", "0.5%/90s", "7%/1h", "50%/3s", "99%/24h", "1%/0ms"] {
            assert_eq!(text.parse::<Canary>().unwrap().to_string(), text);
        }
        for wrong in [
            "", "10%", "10/5m", "0%/5m", "100%/5m", "-1%/5m", "10%/5", "10%/5d", "10%/25h",
            "x%/5m", "NaN%/5m",
        ] {
            assert!(wrong.parse::<Canary>().unwrap_err().contains("write 10%/5m"), "{wrong}");
        }
    }

    #[test]
    fn what_is_written_on_an_alias_is_read_back() {
        let canary: Canary = "10%/5m".parse().unwrap();
        let since: jiff::Timestamp = "2026-11-24T16:00:00Z".parse().unwrap();
        let written = canary.begun_at(since);
        assert_eq!(written, "streambot canary 10%/5m since 2026-11-24T16:00:00Z");
        assert_eq!(Canary::read(&written), Some((canary, since)));
        for other in ["", "my alias", "streambot canary 10%/5m", "streambot canary x since y"] {
            assert_eq!(Canary::read(other), None);
        }
    }
}
