//! One logged line as people read it: lines of JSON become level, message and fields. It refuses to
//! know where the line was logged.

use std::fmt::Write as _;

use serde_json::{Map, Value};

use crate::time::Time;

/// What stands for the time in the runtime's, Lambda's own and others' lines; it is printed before
/// the line.
const TIMES: [&str; 2] = ["timestamp", "time"];

/// A line as text; `time` is when CloudWatch says it was logged, and where it does not say, the
/// line's own.
pub(super) fn text(time: Option<Time>, message: &str) -> String {
    let message = message.trim_end();
    let fields = serde_json::from_str::<Map<String, Value>>(message).ok();
    let own = || TIMES.iter().find_map(|key| Time::read(fields.as_ref()?.get(*key)?.as_str()?));
    let time = time.or_else(own).map_or_else(String::new, |time| format!("{time:.3}  "));
    match &fields {
        Some(fields) => format!("{time}{}", readable(fields)),
        None => format!("{time}{message}"),
    }
}

/// `LEVEL message key=value …`, the fields in their own order. What Lambda itself logs has a type
/// in place of a message and a record in place of fields; a metric line has neither.
fn readable(fields: &Map<String, Value>) -> String {
    let text = |key: &str| fields.get(key).and_then(Value::as_str);
    let platform = text("type").filter(|_| fields.get("record").is_some_and(Value::is_object));
    let message = text("message").or(platform);
    let mut line = String::new();
    if let Some(level) = text("level") {
        let _ = write!(line, "{level:<5} ");
    }
    line.push_str(message.unwrap_or_default());
    for (key, value) in fields {
        match (key.as_str(), value) {
            // Directions for CloudWatch to the fields of a metric line.
            ("_aws", _) => {}
            ("level" | "message", Value::String(_)) => {}
            ("type", _) if platform.is_some() => {}
            ("record", Value::Object(record)) if platform.is_some() => {
                record.iter().for_each(|(key, value)| field(&mut line, key, value));
            }
            (key, Value::String(_)) if TIMES.contains(&key) => {}
            (key, value) => field(&mut line, key, value),
        }
    }
    line
}

/// Text without spaces and quotes needs no quotes to be told from what follows.
fn field(line: &mut String, key: &str, value: &Value) {
    let gap = if line.is_empty() || line.ends_with(' ') { "" } else { " " };
    let plain = |text: &&String| {
        !text.is_empty()
            && !text
                .contains(|c: char| c.is_whitespace() || c.is_control() || matches!(c, '"' | '='))
    };
    let _ = match value {
        Value::String(text) if plain(&text) => write!(line, "{gap}{key}={text}"),
        value => write!(line, "{gap}{key}={value}"),
    };
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// What the runtime, Lambda itself and others write.
    const LINES: [&str; 10] = [
        r#"{"timestamp":"2026-11-24T17:00:00.123456Z","level":"INFO","message":"alert","id":"us7","place":"Tokyo Bay","mag":4.5,"target":"quakes"}"#,
        r#"{"timestamp":"2026-11-24T17:00:00Z","level":"ERROR","message":"panicked: no","location":"src/main.rs:1:2","span":{"name":"invocation","request_id":"1"}}"#,
        r#"{"time":"2026-11-24T17:00:00.000Z","type":"platform.report","record":{"requestId":"1","status":"success","metrics":{"durationMs":1.5}}}"#,
        r#"{"_aws":{"Timestamp":1},"level":"INFO","quakes":1,"Status":"Success"}"#,
        r#"{"level":"WARN","message":{"odd":true},"time":5}"#,
        r#"{"type":"Quake","record":5,"empty":"","equation":"a=b"}"#,
        "START RequestId: 1 Version: 7\n",
        "  indented\n  twice\n\n",
        "[1, 2]",
        "",
    ];

    #[test]
    fn every_form_of_line_is_readable() {
        let time = Time::read("2026-11-24T17:00:01.5Z").unwrap();
        let texts: Vec<_> = LINES.iter().map(|line| text(Some(time), line)).collect();
        insta::assert_snapshot!("lines", texts.join("\n"));
    }

    #[test]
    fn without_a_time_the_lines_own_stands_before_it() {
        let texts: Vec<_> = LINES.iter().map(|line| text(None, line)).collect();
        insta::assert_snapshot!("lines_of_objects", texts.join("\n"));
    }
}
