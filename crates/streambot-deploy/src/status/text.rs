//! What `status` answers, laid out for people. It refuses to know where an answer goes; whether
//! colors are seen there, it is told.

use std::fmt::{self, Write as _};

use super::answer::{
    Alarm, Function, Mapping, Metrics, Outcomes, Part, Stack, Status, Subscription,
};
use super::sparkline::Series;
use crate::function::ALIAS;
use crate::time::Time;

/// How far what is told of a part stands from the left.
const LABEL: usize = 12;

impl Status {
    /// The answer as text, without a line end.
    pub(super) fn text(&self, colors: bool) -> String {
        let paint = Paint { colors };
        let now = self.time;
        let mut text = format!("{} in {}, {now:.0}\n", paint.bold(&self.name), self.region);
        let parts = [
            ("stack", told(&self.stack, &paint, |stack| of_stack(stack, now, &paint))),
            (
                "function",
                told(&self.function, &paint, |function| of_function(function, now, &paint)),
            ),
            (
                "mapping",
                told(&self.event_source_mappings, &paint, |mappings| of_mappings(mappings, &paint)),
            ),
            ("last hour", told(&self.metrics, &paint, |metrics| of_metrics(metrics, &paint))),
            ("alarms", told(&self.alarms, &paint, |alarms| of_alarms(alarms, now, &paint))),
            (
                "e-mail",
                told(&self.pending_confirmations, &paint, |pending| {
                    of_subscriptions(pending, &paint)
                }),
            ),
        ];
        for (label, lines) in parts {
            for (index, line) in lines.iter().enumerate() {
                let label = if index == 0 { label } else { "" };
                let _ = write!(text, "\n{label:<LABEL$}{line}");
            }
        }
        text
    }
}

impl fmt::Display for Status {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text(false))
    }
}

/// Words in colors, where they are seen.
struct Paint {
    colors: bool,
}

impl Paint {
    fn with(&self, code: &str, text: &str) -> String {
        if self.colors { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }

    fn bold(&self, text: &str) -> String {
        self.with("1", text)
    }

    fn good(&self, text: &str) -> String {
        self.with("32", text)
    }

    fn doubtful(&self, text: &str) -> String {
        self.with("33", text)
    }

    fn bad(&self, text: &str) -> String {
        self.with("31", text)
    }

    fn faint(&self, text: &str) -> String {
        self.with("2", text)
    }

    /// A state of a stack, function, mapping or alarm, by what its name says.
    fn state(&self, state: &str) -> String {
        let upper = state.to_uppercase();
        let says = |part: &str| upper.contains(part);
        if says("FAIL") || says("ROLLBACK") || says("DELETE") || upper == "ALARM" || says("PROBLEM")
        {
            self.bad(state)
        } else if says("COMPLETE")
            || ["ACTIVE", "SUCCESSFUL", "ENABLED", "OK"].contains(&upper.as_str())
        {
            self.good(state)
        } else {
            self.doubtful(state)
        }
    }
}

fn told<T>(part: &Part<T>, paint: &Paint, lines: impl Fn(&T) -> Vec<String>) -> Vec<String> {
    match part {
        Part::Known(part) => lines(part),
        Part::Missing => vec![paint.doubtful("not there")],
        Part::Unreadable(why) => vec![format!("{} {why}", paint.doubtful("could not be read:"))],
    }
}

fn at(time: Option<Time>, now: Time) -> String {
    time.map_or_else(
        || "at an unknown time".to_owned(),
        |time| format!("{time:.0} ({})", time.ago(now)),
    )
}

fn of_stack(stack: &Stack, now: Time, paint: &Paint) -> Vec<String> {
    let mut lines =
        vec![format!("{}, updated {}", paint.state(&stack.status), at(stack.updated, now))];
    lines.extend(stack.status_reason.clone());
    lines
}

fn of_function(function: &Function, now: Time, paint: &Paint) -> Vec<String> {
    let state = |state: &Option<String>| paint.state(state.as_deref().unwrap_or("unknown"));
    let number =
        |number: Option<i32>| number.map_or_else(|| "?".to_owned(), |number| number.to_string());
    let Function { canary, .. } = function;
    let mut lines = vec![format!(
        "{}, last update {}, {} MB, {} s",
        state(&function.state),
        state(&function.last_update_status),
        number(function.memory_in_megabytes),
        number(function.timeout_in_seconds),
    )];
    lines.extend(function.state_reason.clone());
    lines.extend(function.last_update_status_reason.clone());
    lines.push(match (&function.version, canary) {
        (None, _) => paint
            .doubtful(&format!("no alias {ALIAS}: a deploy did not end, or it is not Streambot's")),
        (Some(version), None) => format!("version {version} (alias {ALIAS})"),
        (Some(version), Some(canary)) => {
            // A share of 0.07 times a hundred is 7.000000000000001.
            let percent = (canary.weight * 1e6).round() / 1e4;
            let share = format!("{percent}% of the batches go to version {}", canary.version);
            format!("version {version} (alias {ALIAS}); {}", paint.doubtful(&share))
        }
    });
    let hash = |hash: &Option<String>| hash.clone().unwrap_or_default();
    lines.push(format!(
        "code sha-256 {}, modified {}",
        hash(&function.code_sha256),
        at(function.last_modified, now)
    ));
    if let Some(canary) = canary {
        lines.push(format!(
            "code sha-256 {} of version {}",
            hash(&canary.code_sha256),
            canary.version
        ));
    }
    lines
}

fn of_mappings(mappings: &[Mapping], paint: &Paint) -> Vec<String> {
    if mappings.is_empty() {
        return vec![paint.doubtful("none: nothing is handed to the function")];
    }
    let lines = |mapping: &Mapping| {
        let result = mapping.last_processing_result.as_deref().unwrap_or("No records processed");
        let result = match result {
            "OK" => paint.good(result),
            "No records processed" => paint.faint(result),
            _ => paint.bad(result),
        };
        let size = mapping
            .batch_size
            .map_or_else(String::new, |size| format!(", batches of up to {size}"));
        let invoked = mapping
            .function_arn
            .split_once(":function:")
            .map_or(mapping.function_arn.as_str(), |(_, name)| name);
        [
            format!("{}, last result: {result}{size}", paint.state(&mapping.state)),
            format!("{} → {invoked}", mapping.event_source_arn),
            paint.faint(&format!("UUID {}", mapping.uuid)),
        ]
    };
    mappings.iter().flat_map(lines).collect()
}

fn of_metrics(metrics: &Metrics, paint: &Paint) -> Vec<String> {
    let age = |series: &Series| match (series.last, series.max) {
        (Some(last), Some(max)) => format!("last {}, max {}", duration(last), duration(max)),
        _ => paint.faint("no data"),
    };
    let count = |series: &Series| match (series.last, series.max) {
        (Some(last), Some(max)) => format!("last {last}, max {max}, {} in all", series.sum),
        _ => paint.faint("no data"),
    };
    let errors =
        |series: &Series| if series.sum > 0.0 { paint.bad(&count(series)) } else { count(series) };
    let line = |name: &str, series: &Series, numbers: String| {
        format!("{name:<13}{}  {numbers}", series.sparkline())
    };
    let mut lines = vec![
        line("iterator age", &metrics.iterator_age, age(&metrics.iterator_age)),
        line("errors", &metrics.errors, errors(&metrics.errors)),
        line("invocations", &metrics.invocations, count(&metrics.invocations)),
    ];
    if let Some(Outcomes { error, success, .. }) = &metrics.streambot {
        lines.push(line("Error", error, errors(error)));
        lines.push(line("Success", success, count(success)));
    }
    lines
}

/// Milliseconds in a unit that suits them.
fn duration(milliseconds: f64) -> String {
    match milliseconds {
        ..1e3 => format!("{milliseconds:.0} ms"),
        ..60e3 => format!("{:.1} s", milliseconds / 1e3),
        ..3_600e3 => format!("{:.1} min", milliseconds / 60e3),
        _ => format!("{:.1} h", milliseconds / 3_600e3),
    }
}

fn of_alarms(alarms: &[Alarm], now: Time, paint: &Paint) -> Vec<String> {
    if alarms.is_empty() {
        return vec![paint.faint("none")];
    }
    let width = alarms.iter().map(|alarm| alarm.state.len()).max().unwrap_or_default();
    let lines = |alarm: &Alarm| {
        let padding = " ".repeat(width - alarm.state.len());
        let since = alarm
            .since
            .map_or_else(String::new, |since| format!(", since {}", at(Some(since), now)));
        let line = format!("{}{padding}  {}{since}", paint.state(&alarm.state), alarm.name);
        let reason =
            alarm.reason.clone().filter(|reason| alarm.state == "ALARM" && !reason.is_empty());
        std::iter::once(line).chain(reason.map(|reason| format!("{:width$}  {reason}", "")))
    };
    alarms.iter().flat_map(lines).collect()
}

fn of_subscriptions(pending: &[Subscription], paint: &Paint) -> Vec<String> {
    if pending.is_empty() {
        return vec![paint.faint("no subscription waits for a confirmation")];
    }
    let line = |Subscription { endpoint, topic_arn, .. }: &Subscription| {
        let name = topic_arn.rsplit(':').next().unwrap_or_default();
        format!(
            "{} {endpoint} has not confirmed that it wants what is sent to {name}",
            paint.doubtful("pending:")
        )
    };
    pending.iter().map(line).collect()
}
