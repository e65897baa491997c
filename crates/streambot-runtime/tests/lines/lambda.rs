//! A model of what Lambda does with the lines of a function whose log format is JSON. It shares no
//! code with the crate.
//!
//! <https://docs.aws.amazon.com/lambda/latest/dg/monitoring-cloudwatchlogs-log-level.html>:
//! a line that is not JSON, or has no valid `timestamp`, or no valid `level`, is taken for `INFO`,
//! and lines below the function's level are dropped.

use serde_json::Value;

const LEVELS: [&str; 6] = ["TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL"];

/// The lines that are left at this level of the function.
pub fn kept<'a>(lines: impl Iterator<Item = &'a str>, level: &str) -> Vec<&'a str> {
    let rank = |level: &str| {
        LEVELS.iter().position(|name| *name == level).expect("one of Lambda's levels")
    };
    lines.filter(|line| rank(level_of(line)) >= rank(level)).collect()
}

fn level_of(line: &str) -> &'static str {
    let Ok(Value::Object(line)) = serde_json::from_str(line) else { return "INFO" };
    let text = |key: &str| line.get(key).and_then(Value::as_str).unwrap_or_default();
    let level = LEVELS.into_iter().find(|name| *name == text("level"));
    level.filter(|_| is_timestamp(text("timestamp"))).unwrap_or("INFO")
}

/// Whether this is a time as RFC 3339 has it, in UTC with milliseconds.
pub fn is_timestamp(text: &str) -> bool {
    let pattern = "dddd-dd-ddTdd:dd:dd.dddZ";
    let fits = |(found, wanted): (char, char)| {
        if wanted == 'd' { found.is_ascii_digit() } else { found == wanted }
    };
    if text.len() != pattern.len() || !text.chars().zip(pattern.chars()).all(fits) {
        return false;
    }
    let number = |range| {
        text.get(range).and_then(|digits: &str| digits.parse::<u32>().ok()).unwrap_or(u32::MAX)
    };
    (1..=12).contains(&number(5..7))
        && (1..=31).contains(&number(8..10))
        && number(11..13) < 24
        && number(14..16) < 60
        && number(17..19) < 60
}
