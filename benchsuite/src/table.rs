//! Figures as the tables print them.

/// A median and the quartiles around it.
#[derive(Debug, Clone, Copy)]
pub struct Spread {
    pub lower: f64,
    pub median: f64,
    pub upper: f64,
}

impl Spread {
    /// The spread of some samples; there must be one at least.
    pub fn of(samples: &[f64]) -> Self {
        Self {
            lower: quantile(samples, 0.25),
            median: quantile(samples, 0.5),
            upper: quantile(samples, 0.75),
        }
    }

    /// As milliseconds, where the samples are seconds.
    pub fn milliseconds(&self) -> String {
        let [lower, median, upper] = [self.lower, self.median, self.upper].map(milliseconds);
        format!("{median} ({lower}–{upper})")
    }
}

/// The sample below which `share` of all samples are.
pub fn quantile(samples: &[f64], share: f64) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[((sorted.len() - 1) as f64 * share).round() as usize]
}

/// What a figure should not go beyond.
#[derive(Debug, Clone, Copy)]
pub enum Limit {
    AtMost(f64),
    AtLeast(f64),
}

/// A figure and whether it keeps to its limit.
pub fn verdict(figure: f64, limit: Limit) -> String {
    let met = match limit {
        Limit::AtMost(limit) => figure <= limit,
        Limit::AtLeast(limit) => figure >= limit,
    };
    format!("{figure:.2}, {}", if met { "met" } else { "**missed**" })
}

/// Seconds as milliseconds of three digits that count.
pub fn milliseconds(seconds: f64) -> String {
    let milliseconds = seconds * 1e3;
    let digits = (2.0 - milliseconds.abs().max(f64::MIN_POSITIVE).log10().floor()).clamp(0.0, 9.0);
    format!("{milliseconds:.*}", digits as usize)
}

/// Bytes as MB of 1,000,000.
pub fn megabytes(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / 1e6)
}

/// A count with commas between thousands.
pub fn count(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
