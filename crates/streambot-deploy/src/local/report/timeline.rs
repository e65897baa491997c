//! What happened when in a run, in a form that stays small however long it goes on: totals over
//! slices of time that widen, and single invocations of which only every so many are kept. It takes
//! times and numbers, and refuses to know how they are drawn.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use crate::local::chaos::Strike;
use crate::local::journal::Ending;
use crate::local::metrics::Value;

/// Slices of time; when a run outlasts them, each two become one.
const SLICES: usize = 240;
/// How long a slice is at first, in milliseconds.
const FIRST_SLICE: u64 = 25;
/// How many points a series may have: invocations that went well, those that did not, discards, and
/// each shard's checkpoints.
const MOST_POINTS: usize = 6_000;
/// The fewest points a shard's checkpoint line is thinned to.
const FEWEST_CHECKPOINTS: usize = 250;
/// Metrics that are followed over time; a function with more has them in the summary only.
const MOST_METRICS: usize = 24;
/// Bounds of the durations: five in every power of ten, the first at a hundredth of a millisecond.
const DURATIONS: usize = 45;

/// One invocation.
#[derive(Clone, Debug)]
pub(crate) struct Invocation<'a> {
    /// The shard its batch is of.
    pub(crate) shard: &'a str,
    /// The lane it was sent on, counted from 0.
    pub(crate) lane: usize,
    /// When it began, in milliseconds since the Unix epoch.
    pub(crate) began: u64,
    /// How long it took.
    pub(crate) duration: Duration,
    /// Records it was sent.
    pub(crate) records: usize,
    /// Records of these that it is done with.
    pub(crate) done: usize,
    /// Which attempt it was, counted from 1.
    pub(crate) attempt: u32,
    /// Invocations of the shard so far that sent records again.
    pub(crate) retries: u64,
    /// How it ended.
    pub(crate) ending: Ending,
    /// The trouble that struck it; for a duplicate, that it is the second delivery.
    pub(crate) strike: Option<Strike>,
}

/// What happened when.
#[derive(Debug, Serialize)]
pub(crate) struct Timeline {
    #[serde(skip)]
    began: u64,
    slice_ms: u64,
    /// Records done in each slice of time.
    done: Vec<u64>,
    /// Invocations that ended in each.
    invocations: Vec<u64>,
    /// Those that sent records again.
    retries: Vec<u64>,
    /// Those that failed wholly or in part.
    failures: Vec<u64>,
    /// Records given up in each.
    discarded: Vec<u64>,
    /// The lower bounds of the durations counted below, in milliseconds.
    duration_bounds: Vec<f64>,
    /// Invocations by their durations: those that went well.
    well: Vec<u64>,
    /// And those that did not.
    badly: Vec<u64>,
    shards: Vec<Shard>,
    metrics: BTreeMap<String, MetricSeries>,
    #[serde(rename = "successes_kept_of")]
    successes: Thinning,
    #[serde(rename = "failures_kept_of")]
    others: Thinning,
    #[serde(rename = "discards_kept_of")]
    discards: Thinning,
    unfollowed_metrics: usize,
}

/// One shard's part.
#[derive(Debug, Serialize)]
struct Shard {
    name: String,
    /// Those of its retries that the slices hold.
    #[serde(skip)]
    retries: u64,
    bars: Vec<Bar>,
    /// Records behind the checkpoint, at times.
    checkpoints: Vec<(u64, u64)>,
    #[serde(skip)]
    checkpoint_thinning: Thinning,
    /// Records given up, at times, and why.
    discards: Vec<(u64, u64, &'static str)>,
}

/// An invocation as it is drawn: lane, beginning and duration in milliseconds, records, attempt,
/// ending, trouble.
#[derive(Debug, Serialize)]
struct Bar(usize, u64, f64, usize, u32, Ending, Option<Strike>);

impl Bar {
    fn went_well(&self) -> bool {
        self.5 == Ending::Success
    }
}

/// One metric in each slice of time.
#[derive(Debug, Serialize)]
struct MetricSeries {
    unit: String,
    total: Vec<f64>,
    count: Vec<u64>,
}

/// Keeps every n-th of something, where n doubles each time that too many are kept.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(transparent)]
struct Thinning {
    /// n.
    every: u64,
    #[serde(skip)]
    seen: u64,
    #[serde(skip)]
    kept: usize,
}

impl Default for Thinning {
    fn default() -> Thinning {
        Thinning { every: 1, seen: 0, kept: 0 }
    }
}

impl Thinning {
    /// Whether the next one is kept.
    fn keeps_next(&mut self) -> bool {
        self.seen += 1;
        let keeps = (self.seen - 1).is_multiple_of(self.every);
        self.kept += usize::from(keeps);
        keeps
    }

    /// Drops every second of what is kept, over all the series it is in.
    fn halve<T>(&mut self, mut series: Vec<&mut Vec<T>>, counts: impl Fn(&T) -> bool) {
        self.every *= 2;
        self.kept = 0;
        for series in &mut series {
            let mut number = 0;
            series.retain(|one| {
                number += usize::from(counts(one));
                !counts(one) || number % 2 == 1
            });
            self.kept += series.iter().filter(|one| counts(one)).count();
        }
    }
}

impl Timeline {
    /// Nothing yet, at this time in milliseconds since the Unix epoch.
    pub(crate) fn new(began: u64) -> Timeline {
        let bound = |index: usize| 10_f64.powf(index as f64 / 5.0 - 2.0);
        Timeline {
            began,
            slice_ms: FIRST_SLICE,
            done: Vec::new(),
            invocations: Vec::new(),
            retries: Vec::new(),
            failures: Vec::new(),
            discarded: Vec::new(),
            duration_bounds: (0..DURATIONS).map(bound).collect(),
            well: vec![0; DURATIONS],
            badly: vec![0; DURATIONS],
            shards: Vec::new(),
            metrics: BTreeMap::new(),
            successes: Thinning::default(),
            others: Thinning::default(),
            discards: Thinning::default(),
            unfollowed_metrics: 0,
        }
    }

    /// When it began, in milliseconds since the Unix epoch.
    pub(crate) fn began(&self) -> u64 {
        self.began
    }

    /// Notes an invocation that ended.
    pub(crate) fn invocation(&mut self, invocation: &Invocation<'_>) {
        let Invocation {
            shard,
            lane,
            began,
            duration,
            records,
            done,
            attempt,
            retries,
            ending,
            strike,
        } = *invocation;
        let milliseconds = duration.as_secs_f64() * 1000.0;
        let began = began.saturating_sub(self.began);
        let slice = self.slice(began + milliseconds as u64);
        let went_well = ending == Ending::Success;
        self.done[slice] += done as u64;
        self.invocations[slice] += 1;
        let counted = std::mem::replace(&mut self.shard(shard).retries, retries);
        self.retries[slice] += retries.saturating_sub(counted);
        self.failures[slice] += u64::from(!went_well);
        if ending != Ending::Throttled {
            let above = self.duration_bounds.partition_point(|bound| *bound <= milliseconds);
            let counts = if went_well { &mut self.well } else { &mut self.badly };
            counts[above.saturating_sub(1)] += 1;
        }
        let thinning = if went_well { &mut self.successes } else { &mut self.others };
        if thinning.keeps_next() {
            let rounded = (milliseconds * 100.0).round() / 100.0;
            self.shard(shard)
                .bars
                .push(Bar(lane, began, rounded, records, attempt, ending, strike));
        }
        let bars = self.shards.iter_mut().map(|shard| &mut shard.bars).collect();
        if self.successes.kept > MOST_POINTS {
            self.successes.halve(bars, Bar::went_well);
        } else if self.others.kept > MOST_POINTS {
            self.others.halve(bars, |bar| !bar.went_well());
        }
    }

    /// Notes that records were given up at a time.
    pub(crate) fn discard(
        &mut self,
        shard: &str,
        at: u64,
        records: usize,
        condition: &'static str,
    ) {
        let at = at.saturating_sub(self.began);
        let slice = self.slice(at);
        self.discarded[slice] += records as u64;
        if self.discards.keeps_next() {
            self.shard(shard).discards.push((at, records as u64, condition));
        }
        if self.discards.kept > MOST_POINTS {
            self.discards
                .halve(self.shards.iter_mut().map(|shard| &mut shard.discards).collect(), |_| true);
        }
    }

    /// Notes how many records of a shard lie behind its checkpoint since this time.
    pub(crate) fn checkpoint(&mut self, shard: &str, at: u64, behind: u64) {
        let at = at.saturating_sub(self.began);
        self.slice(at);
        let most = (MOST_POINTS / self.shards.len().max(1)).max(FEWEST_CHECKPOINTS);
        let shard = self.shard(shard);
        // The last one always stays, so that the line ends where the run did.
        if !shard.checkpoint_thinning.keeps_next() && shard.checkpoints.len() > 1 {
            shard.checkpoints.pop();
        }
        shard.checkpoints.push((at, behind));
        if shard.checkpoint_thinning.kept > most {
            shard.checkpoint_thinning.halve(vec![&mut shard.checkpoints], |_| true);
        }
    }

    /// Notes a value of a metric.
    pub(crate) fn metric(&mut self, at: u64, value: &Value) {
        let slice = self.slice(at.saturating_sub(self.began));
        if self.metrics.len() >= MOST_METRICS && !self.metrics.contains_key(&value.name) {
            self.unfollowed_metrics += 1;
            return;
        }
        let series = self.metrics.entry(value.name.clone()).or_insert_with(|| MetricSeries {
            unit: value.unit.clone(),
            total: Vec::new(),
            count: Vec::new(),
        });
        if series.total.len() <= slice {
            series.total.resize(slice + 1, 0.0);
            series.count.resize(slice + 1, 0);
        }
        series.total[slice] += value.value;
        series.count[slice] += 1;
    }

    fn shard(&mut self, name: &str) -> &mut Shard {
        let place = self.shards.iter().position(|shard| shard.name == name).unwrap_or_else(|| {
            self.shards.push(Shard {
                name: name.to_owned(),
                retries: 0,
                bars: Vec::new(),
                checkpoints: Vec::new(),
                checkpoint_thinning: Thinning::default(),
                discards: Vec::new(),
            });
            self.shards.len() - 1
        });
        &mut self.shards[place]
    }

    /// The slice that holds a time since the beginning, which is there then.
    fn slice(&mut self, at: u64) -> usize {
        while at / self.slice_ms >= SLICES as u64 {
            self.slice_ms *= 2;
            let counts = [
                &mut self.done,
                &mut self.invocations,
                &mut self.retries,
                &mut self.failures,
                &mut self.discarded,
            ];
            for series in counts {
                *series = paired(series);
            }
            for series in self.metrics.values_mut() {
                series.total = paired(&series.total);
                series.count = paired(&series.count);
            }
        }
        let slice = (at / self.slice_ms) as usize;
        if self.done.len() <= slice {
            for series in [
                &mut self.done,
                &mut self.invocations,
                &mut self.retries,
                &mut self.failures,
                &mut self.discarded,
            ] {
                series.resize(slice + 1, 0);
            }
        }
        slice
    }
}

/// Each two neighbours together.
fn paired<T: Copy + std::iter::Sum<T>>(series: &[T]) -> Vec<T> {
    series.chunks(2).map(|pair| pair.iter().copied().sum()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn invocation(began: u64, ending: Ending) -> Invocation<'static> {
        Invocation {
            shard: "shardId-000000000000",
            lane: 0,
            began,
            duration: Duration::from_millis(2),
            records: 10,
            done: if ending == Ending::Success { 10 } else { 0 },
            attempt: 1,
            retries: 0,
            ending,
            strike: None,
        }
    }

    #[test]
    fn slices_widen_and_lose_nothing() {
        let mut timeline = Timeline::new(1_000);
        for number in 0..5_000 {
            timeline.invocation(&invocation(1_000 + number * 37, Ending::Success));
        }
        assert!(timeline.done.len() <= SLICES);
        assert_eq!(timeline.done.iter().sum::<u64>(), 50_000);
        assert_eq!(timeline.invocations.iter().sum::<u64>(), 5_000);
        assert_eq!(timeline.well.iter().sum::<u64>(), 5_000);
        assert!(timeline.slice_ms * SLICES as u64 > 5_000 * 37);
    }

    #[test]
    fn a_huge_run_keeps_a_bounded_number_of_bars_and_says_which_part() {
        let mut timeline = Timeline::new(0);
        for number in 0..100_000 {
            let ending = if number % 10 == 0 { Ending::Failed } else { Ending::Success };
            timeline.invocation(&invocation(number, ending));
            timeline.checkpoint("shardId-000000000000", number, number);
        }
        let bars = &timeline.shards[0].bars;
        let failed = bars.iter().filter(|bar| bar.5 == Ending::Failed).count();
        assert!(bars.len() - failed <= MOST_POINTS && failed <= MOST_POINTS);
        assert_eq!((timeline.successes.every, timeline.others.every), (16, 2));
        assert_eq!(failed, 5_000);
        let checkpoints = &timeline.shards[0].checkpoints;
        assert!(checkpoints.len() <= MOST_POINTS + 1);
        assert_eq!(checkpoints.last(), Some(&(99_999, 99_999)), "the line ends where the run did");
        assert!(checkpoints.is_sorted());
    }

    #[test]
    fn a_duration_is_counted_between_its_bounds() {
        let mut timeline = Timeline::new(0);
        for milliseconds in [0.0, 0.01, 1.0, 999_999_999.0] {
            let duration = Duration::from_secs_f64(milliseconds / 1000.0);
            timeline.invocation(&Invocation { duration, ..invocation(0, Ending::Success) });
        }
        let counted: Vec<usize> =
            (0..DURATIONS).filter(|place| timeline.well[*place] > 0).collect();
        assert_eq!(counted, [0, 10, DURATIONS - 1]);
        assert!((timeline.duration_bounds[10] - 1.0).abs() < 1e-9);
    }
}
