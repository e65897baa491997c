//! Figures as the tables print them.

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
    format!("{figure:.3}, {}", if met { "met" } else { "**missed**" })
}

/// Seconds as milliseconds of three digits that count.
pub fn milliseconds(seconds: f64) -> String {
    let milliseconds = seconds * 1e3;
    let digits = (2.0 - milliseconds.abs().max(f64::MIN_POSITIVE).log10().floor()).clamp(0.0, 9.0);
    format!("{milliseconds:.*}", digits as usize)
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
