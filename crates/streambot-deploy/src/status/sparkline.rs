//! Numbers over time: what they come to, and a line of them one can see at a glance. It refuses to
//! know what is counted.

use serde::Serialize;

/// From the lowest to the highest.
const BARS: [char; 5] = ['▁', '▂', '▃', '▅', '▇'];

/// Where there is no number.
const GAP: char = '·';

/// One number for each period, oldest first; nothing where CloudWatch has none.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Series {
    /// The newest number there is.
    pub(super) last: Option<f64>,
    /// The greatest.
    pub(super) max: Option<f64>,
    /// All of them together.
    pub(super) sum: f64,
    pub(super) points: Vec<Option<f64>>,
}

impl Series {
    pub(super) fn of(points: Vec<Option<f64>>) -> Self {
        let known = || points.iter().copied().flatten();
        Self {
            last: known().next_back(),
            max: known().reduce(f64::max),
            sum: known().fold(0.0, |sum, value| sum + value),
            points,
        }
    }

    /// A bar for each number: the lowest is nought, the highest is the greatest number, and
    /// whatever is not nought stands above it.
    pub(super) fn sparkline(&self) -> String {
        let max = self.max.unwrap_or_default();
        self.points.iter().map(|point| point.map_or(GAP, |value| bar(value, max))).collect()
    }
}

fn bar(value: f64, max: f64) -> char {
    let steps = BARS.len() - 1;
    // As many steps up as the value has begun.
    let begun = (1..steps).filter(|step| value * steps as f64 > *step as f64 * max).count();
    if value > 0.0 { BARS[begun + 1] } else { BARS[0] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nought_is_the_lowest_bar_the_greatest_the_highest_and_a_gap_is_seen() {
        let series = Series::of(vec![
            Some(0.0),
            None,
            Some(1.0),
            Some(25.0),
            Some(26.0),
            Some(51.0),
            Some(100.0),
        ]);
        assert_eq!(series.sparkline(), "▁·▂▂▃▅▇");
        assert_eq!((series.last, series.max, series.sum), (Some(100.0), Some(100.0), 203.0));
    }

    #[test]
    fn the_newest_number_is_the_last_one_known() {
        let series = Series::of(vec![Some(3.0), Some(2.0), None]);
        assert_eq!((series.last, series.max), (Some(2.0), Some(3.0)));
    }

    #[test]
    fn without_numbers_there_is_nothing_but_gaps() {
        let series = Series::of(vec![None, None]);
        assert_eq!(
            (series.sparkline().as_str(), series.last, series.max, series.sum),
            ("··", None, None, 0.0)
        );
    }

    #[test]
    fn noughts_alone_are_a_flat_line() {
        assert_eq!(Series::of(vec![Some(0.0); 3]).sparkline(), "▁▁▁");
    }
}
