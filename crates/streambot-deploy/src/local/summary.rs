//! What a run comes to: numbers over the whole and over each shard, as JSON or as text. Values
//! only.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::chaos::Strikes;
use super::metrics::{Metric, Metrics, number};
use super::poller::Counts;
use super::shard::Progress;

/// The outcome of a run. Its fields and their order are those of `--output json`.
#[derive(Debug, Serialize)]
pub(crate) struct Summary {
    /// Records read.
    pub(crate) records: u64,
    /// Records the function is done with.
    pub(crate) succeeded: u64,
    /// Records given up.
    pub(crate) discarded: u64,
    /// Records passed over, where there are filter patterns.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) filtered: Option<u64>,
    /// Invocations begun.
    pub(crate) invocations: u64,
    /// Invocations of these that sent records again.
    pub(crate) retries: u64,
    /// Bytes of data in the records read.
    pub(crate) bytes: u64,
    /// From the first read to the last answer, in milliseconds.
    pub(crate) duration_ms: u64,
    /// Records read over that time.
    pub(crate) records_per_second: u64,
    /// How often trouble struck, where it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) chaos: Option<Strikes>,
    /// What the function emitted.
    pub(crate) metrics: Metrics,
    /// The shards, in the order of their hash keys.
    pub(crate) shards: Vec<Shard>,
}

/// One shard's part.
#[derive(Debug, Serialize)]
pub(crate) struct Shard {
    shard: String,
    records: u64,
    succeeded: u64,
    discarded: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    filtered: Option<u64>,
    invocations: u64,
    retries: u64,
    /// Sequence number of the last record that is done or given up, together with all before it.
    checkpoint: Option<String>,
}

impl Summary {
    /// Adds the shards up.
    pub(crate) fn new(
        shards: &[Progress],
        metrics: Metrics,
        chaos: Option<Strikes>,
        duration: Duration,
    ) -> Summary {
        let total = shards.iter().fold(Counts::default(), |total, shard| total.plus(shard.counts));
        Summary {
            records: total.records,
            succeeded: total.succeeded,
            discarded: total.discarded,
            filtered: total.filtered,
            invocations: total.invocations,
            retries: total.retries,
            bytes: total.bytes,
            duration_ms: u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
            records_per_second: (total.records as f64 / duration.as_secs_f64().max(0.001)) as u64,
            chaos,
            metrics,
            shards: shards
                .iter()
                .map(|Progress { id, counts, checkpoint, .. }| Shard {
                    shard: id.to_string(),
                    records: counts.records,
                    succeeded: counts.succeeded,
                    discarded: counts.discarded,
                    filtered: counts.filtered,
                    invocations: counts.invocations,
                    retries: counts.retries,
                    checkpoint: checkpoint.as_ref().map(ToString::to_string),
                })
                .collect(),
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let succeeded = counted(self.succeeded, "record", "records");
        writeln!(formatter, "{succeeded} succeeded, {} discarded", thousands(self.discarded))?;
        if let Some(filtered) = self.filtered {
            writeln!(formatter, "{} filtered", counted(filtered, "record", "records"))?;
        }
        let unfinished =
            self.records - self.succeeded - self.discarded - self.filtered.unwrap_or_default();
        if unfinished > 0 {
            writeln!(
                formatter,
                "{} read and not finished",
                counted(unfinished, "record", "records")
            )?;
        }
        writeln!(
            formatter,
            "{}, {}, {} in {:.2} s, {} records/s",
            counted(self.invocations, "invocation", "invocations"),
            counted(self.retries, "retry", "retries"),
            counted(self.bytes, "byte", "bytes"),
            self.duration_ms as f64 / 1000.0,
            thousands(self.records_per_second),
        )?;
        if let Some(strikes) = self.chaos {
            writeln!(formatter, "{strikes}")?;
            if unfinished == 0 {
                let accounted = counted(self.records, "record", "records");
                writeln!(
                    formatter,
                    "nothing was lost: {accounted} read, and as many succeeded, discarded or filtered"
                )?;
            }
        }
        if self.metrics.iter().next().is_some() {
            writeln!(formatter, "\nmetrics")?;
        }
        for (name, metric) in self.metrics.iter() {
            writeln!(formatter, "{:>12} {name}{}", figure(metric.shown()), metric.remark())?;
        }
        writeln!(formatter, "\n     records  invocations  retries  discarded")?;
        for shard in &self.shards {
            let records = thousands(shard.records);
            let [invocations, retries, discarded] =
                [shard.invocations, shard.retries, shard.discarded].map(thousands);
            let name = &shard.shard;
            writeln!(
                formatter,
                "{records:>12}  {invocations:>11}  {retries:>7}  {discarded:>9}  {name}"
            )?;
        }
        Ok(())
    }
}

impl fmt::Display for Strikes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Strikes { seed, crashes, timeouts, throttles, duplicates } = *self;
        write!(
            formatter,
            "chaos with seed {seed}: {}, {}, {}, {}",
            counted(crashes, "crash", "crashes"),
            counted(timeouts, "timeout", "timeouts"),
            counted(throttles, "throttle", "throttles"),
            counted(duplicates, "duplicate", "duplicates"),
        )
    }
}

impl Metric {
    /// The figure that tells most: the sum of counts, else the mean.
    fn shown(&self) -> f64 {
        if self.unit == "Count" { self.total } else { self.total / self.count as f64 }
    }

    fn remark(&self) -> String {
        match self.unit.as_str() {
            "Count" => String::new(),
            unit => {
                format!(
                    " ({unit}: mean of {}, at most {})",
                    thousands(self.count),
                    figure(self.maximum)
                )
            }
        }
    }
}

/// A number as a person reads it: `1,707`, or two decimals.
fn figure(value: f64) -> String {
    match number(value).and_then(|number| number.as_u64()) {
        Some(whole) => thousands(whole),
        None => format!("{value:.2}"),
    }
}

/// A number of things, such as `1 record` or `1,707 records`.
pub(crate) fn counted(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", thousands(number), if number == 1 { one } else { many })
}

/// A number with a comma after every thousand.
pub(crate) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.char_indices() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::local::metrics::Value;
    use crate::local::record::{SequenceNumber, ShardId};

    fn summary() -> Summary {
        let one = Counts {
            records: 1_000,
            bytes: 50_000,
            succeeded: 999,
            discarded: 1,
            filtered: None,
            invocations: 11,
            retries: 1,
        };
        let other = Counts {
            records: 707,
            bytes: 40_000,
            succeeded: 707,
            discarded: 0,
            filtered: None,
            invocations: 8,
            retries: 0,
        };
        let mut metrics = Metrics::default();
        for (name, unit, value) in [
            ("Alerts", "Count", 85.0),
            ("Duration", "Milliseconds", 1.0),
            ("Duration", "Milliseconds", 2.5),
        ] {
            metrics.add(&Value { name: name.to_owned(), unit: unit.to_owned(), value });
        }
        let one = Progress {
            id: ShardId::numbered(0),
            counts: one,
            checkpoint: Some(SequenceNumber::new("49")),
            ..Progress::new(ShardId::numbered(0))
        };
        let other = Progress {
            id: ShardId::numbered(1),
            counts: other,
            ..Progress::new(ShardId::numbered(1))
        };
        Summary::new(&[one, other], metrics, None, Duration::from_millis(1_250))
    }

    #[test]
    fn the_text_says_what_became_of_the_records_first() {
        insta::assert_snapshot!(summary(), @"
        1,706 records succeeded, 1 discarded
        19 invocations, 1 retry, 90,000 bytes in 1.25 s, 1,365 records/s

        metrics
                  85 Alerts
                1.75 Duration (Milliseconds: mean of 2, at most 2.50)

             records  invocations  retries  discarded
               1,000           11        1          1  shardId-000000000000
                 707            8        0          0  shardId-000000000001
        ");
    }

    #[test]
    fn trouble_is_told_with_what_became_of_the_records() {
        let mut summary = summary();
        summary.chaos =
            Some(Strikes { seed: 7, crashes: 2, timeouts: 1, throttles: 0, duplicates: 1_000 });
        let text = summary.to_string();
        let expected = "
chaos with seed 7: 2 crashes, 1 timeout, 0 throttles, 1,000 duplicates
nothing was lost: 1,707 records read, and as many succeeded, discarded or filtered
";
        assert!(text.contains(expected), "{text}");
        let json = serde_json::to_value(&summary).unwrap();
        let strikes = r#"{"seed":7,"crashes":2,"timeouts":1,"throttles":0,"duplicates":1000}"#;
        assert_eq!(json["chaos"].to_string(), strikes);
        summary.records += 1;
        assert!(!summary.to_string().contains("nothing was lost"));
    }

    #[test]
    fn the_json_has_the_documented_fields() {
        let json = serde_json::to_string(&summary()).unwrap();
        assert_eq!(
            json,
            concat!(
                r#"{"records":1707,"succeeded":1706,"discarded":1,"invocations":19,"retries":1,"bytes":90000,"#,
                r#""duration_ms":1250,"records_per_second":1365,"#,
                r#""metrics":{"Alerts":{"total":85,"count":1,"maximum":85,"unit":"Count"},"#,
                r#""Duration":{"total":3.5,"count":2,"maximum":2.5,"unit":"Milliseconds"}},"#,
                r#""shards":[{"shard":"shardId-000000000000","records":1000,"succeeded":999,"discarded":1,"#,
                r#""invocations":11,"retries":1,"checkpoint":"49"},{"shard":"shardId-000000000001","records":707,"succeeded":707,"#,
                r#""discarded":0,"invocations":8,"retries":0,"checkpoint":null}]}"#
            )
        );
    }

    #[test]
    fn thousands_are_separated() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(thousands), ["0", "999", "1,000", "1,234,567"]);
    }
}
