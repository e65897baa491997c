//! The live view of a run as text: a line for each shard and one for all of them. Pure; it refuses
//! to know where it is shown.

use std::time::Duration;

use super::poller::Counts;
use super::shard::Progress;
use super::summary::thousands;

/// Shards with a line of their own; the others share one.
const MOST_SHARDS: usize = 12;
/// How much of a rate is what was seen since the last look, a second ago; the rest is what it was
/// before.
const FRESHNESS: f64 = 0.6;

/// How fast each shard goes, between two looks.
#[derive(Debug, Default)]
pub(crate) struct Live {
    shards: Vec<Pace>,
    looked: Duration,
}

#[derive(Clone, Copy, Debug, Default)]
struct Pace {
    done: u64,
    per_second: f64,
}

/// A line's numbers.
#[derive(Clone, Copy, Debug, Default)]
struct Line {
    counts: Counts,
    in_flight: usize,
    iterator_age: Option<u64>,
    per_second: f64,
}

impl Live {
    /// Looks at the shards at a time since the run began.
    pub(crate) fn look(&mut self, shards: &[Progress], elapsed: Duration) -> String {
        let since = elapsed.saturating_sub(self.looked).as_secs_f64();
        self.looked = elapsed;
        self.shards.resize(shards.len(), Pace::default());
        let lines: Vec<(String, Line)> = shards
            .iter()
            .zip(&mut self.shards)
            .map(|(progress, pace)| {
                pace.move_to(progress.counts.succeeded, since);
                (progress.id.to_string(), Line::of(progress, *pace))
            })
            .collect();
        let mut text = row(
            &format!("{:.1} s", elapsed.as_secs_f64()),
            ["records", "done", "in flight", "iterator age", "retries", "discarded", "records/s"]
                .map(str::to_owned),
        );
        let (own, rest) = lines.split_at(lines.len().min(MOST_SHARDS));
        for (name, line) in own {
            text += &row(name, line.numbers());
        }
        let sum = |lines: &[(String, Line)]| {
            lines.iter().fold(Line::default(), |sum, (_, line)| sum.plus(line))
        };
        if !rest.is_empty() {
            text +=
                &row(&format!("{} more shards", thousands(rest.len() as u64)), sum(rest).numbers());
        }
        if lines.len() > 1 {
            text += &row("all", sum(&lines).numbers());
        }
        text.truncate(text.trim_end().len());
        text
    }
}

impl Pace {
    fn move_to(&mut self, done: u64, since: f64) {
        let fresh = (done - self.done) as f64 / since.max(0.001);
        let weight = FRESHNESS.min(FRESHNESS * since);
        self.per_second =
            if self.done == 0 { fresh } else { self.per_second * (1.0 - weight) + fresh * weight };
        self.done = done;
    }
}

impl Line {
    fn of(progress: &Progress, pace: Pace) -> Line {
        let Progress { counts, in_flight, iterator_age, .. } = *progress;
        Line { counts, in_flight, iterator_age, per_second: pace.per_second }
    }

    /// Both together; the age is that of the one that is farther behind.
    fn plus(self, other: &Line) -> Line {
        Line {
            counts: self.counts.plus(other.counts),
            in_flight: self.in_flight + other.in_flight,
            iterator_age: self.iterator_age.max(other.iterator_age),
            per_second: self.per_second + other.per_second,
        }
    }

    fn numbers(self) -> [String; 7] {
        let Counts { records, succeeded, retries, discarded, .. } = self.counts;
        [
            thousands(records),
            thousands(succeeded),
            self.in_flight.to_string(),
            self.iterator_age
                .map_or_else(|| "–".to_owned(), |age| format!("{:.1} s", age as f64 / 1000.0)),
            thousands(retries),
            thousands(discarded),
            thousands(self.per_second as u64),
        ]
    }
}

fn row(
    name: &str,
    [records, done, in_flight, age, retries, discarded, rate]: [String; 7],
) -> String {
    format!(
        "{name:<21}{records:>11}{done:>11}{in_flight:>11}{age:>14}{retries:>9}{discarded:>11}{rate:>11}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::local::record::ShardId;

    fn shard(number: usize, records: u64, succeeded: u64) -> Progress {
        let counts = Counts { records, succeeded, retries: 1, ..Counts::default() };
        Progress {
            counts,
            in_flight: 1,
            iterator_age: Some(1_250),
            ..Progress::new(ShardId::numbered(number))
        }
    }

    #[test]
    fn a_shard_has_a_line_with_its_throughput() {
        let mut live = Live::default();
        live.look(&[shard(0, 100, 10), shard(1, 50, 0)], Duration::from_secs(1));
        let text = live.look(&[shard(0, 1_000, 510), shard(1, 50, 50)], Duration::from_secs(2));
        insta::assert_snapshot!(text, @"
        2.0 s                    records       done  in flight  iterator age  retries  discarded  records/s
        shardId-000000000000       1,000        510          1         1.2 s        1          0        304
        shardId-000000000001          50         50          1         1.2 s        1          0         50
        all                        1,050        560          2         1.2 s        2          0        354
        ");
    }

    #[test]
    fn shards_beyond_the_first_dozen_share_a_line() {
        let shards: Vec<Progress> = (0..1_000).map(|number| shard(number, 10, 5)).collect();
        let text = Live::default().look(&shards, Duration::from_secs(1));
        assert_eq!(text.lines().count(), 1 + MOST_SHARDS + 2);
        assert!(text.contains("988 more shards"), "{text}");
        assert!(
            text.lines()
                .last()
                .is_some_and(|all| all.starts_with("all ") && all.contains("10,000")),
            "{text}"
        );
    }
}
