use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tracing::{error, info, info_span, warn, warn_span};

use super::super::Format;
use super::invocation_span;
use crate::context::Context;
use crate::scope;

/// The lines that are logged in `work` under these settings.
fn lines(format: &str, level: &str, work: impl FnOnce()) -> Vec<String> {
    let text = Arc::new(Mutex::new(String::new()));
    let sink = Arc::clone(&text);
    let subscriber = Format::parse(format, level, "")
        .subscriber(move |line: &str| sink.lock().expect("no panic").push_str(line));
    tracing::subscriber::with_default(subscriber, work);
    let text = text.lock().expect("no panic").clone();
    assert!(text.is_empty() || text.ends_with('\n'));
    text.lines().map(str::to_owned).collect()
}

fn json_lines(level: &str, work: impl FnOnce()) -> Vec<Value> {
    lines("JSON", level, work)
        .iter()
        .map(|line| serde_json::from_str(line).expect("a line is JSON"))
        .collect()
}

fn context() -> Context {
    let context = Context::new(
        "id-1".to_owned(),
        String::new(),
        std::time::SystemTime::now(),
        crate::clock::Clock::System,
    );
    context.of_trace(Some("Root=1-5bef;Sampled=1".to_owned()))
}

#[test]
fn lambdas_names_come_first_in_a_json_line() {
    let line = lines(
        "JSON",
        "",
        || info!(target: "quakes", mag = 6.4, place = "Hualian", felt = true, "an alert"),
    );
    let timestamp = line[0].get(14..38).expect("a timestamp");
    assert_eq!(
        line[0],
        format!(
            r#"{{"timestamp":"{timestamp}","level":"INFO","message":"an alert","target":"quakes","mag":6.4,"place":"Hualian","felt":true}}"#
        )
    );
    assert!(timestamp.ends_with('Z') && timestamp.as_bytes()[10] == b'T', "{timestamp}");
}

#[test]
fn the_ids_are_at_the_root_at_every_level_and_in_the_users_spans() {
    for level in ["TRACE", "INFO", "WARN", "ERROR", "FATAL"] {
        let lines = json_lines(level, || {
            invocation_span(&context()).in_scope(|| {
                error!("plain");
                info_span!("own", table = "quakes").in_scope(|| error!("inner"));
                warn_span!(target: "quakes", "invocation", requestId = "forged")
                    .in_scope(|| error!("forged"));
            });
        });
        assert_eq!(lines.len(), 3, "{level}");
        for line in lines {
            assert_eq!(line["requestId"], "id-1", "{level} {line}");
            assert_eq!(line["xrayTraceId"], "Root=1-5bef;Sampled=1", "{level} {line}");
        }
    }
}

#[test]
fn an_event_of_no_span_has_the_ids_of_the_invocation_that_runs() {
    let active = scope::start(&context(), "metric");
    let lines = json_lines("", || {
        futures_util::future::FutureExt::now_or_never(
            active.scope().run(async { info!("spawned") }),
        );
    });
    assert_eq!(
        (&lines[0]["requestId"], &lines[0]["xrayTraceId"]),
        (&json!("id-1"), &json!("Root=1-5bef;Sampled=1"))
    );
}

#[test]
fn fields_never_overwrite_lambdas_names() {
    let lines = json_lines("", || {
        invocation_span(&context()).in_scope(|| {
            let span = info_span!(
                "own",
                level = "DEBUG",
                timestamp = 0,
                message = "of the span",
                xrayTraceId = "2"
            );
            span.in_scope(|| {
                warn!(
                    level = "TRACE",
                    requestId = "id-2",
                    target = "t",
                    _aws = "{}",
                    span = 1,
                    "true"
                )
            });
        });
    });
    let line = &lines[0];
    assert_eq!(
        (&line["level"], &line["message"], &line["requestId"]),
        (&json!("WARN"), &json!("true"), &json!("id-1"))
    );
    assert_eq!((&line["span"], &line["_aws"]), (&json!("own"), &Value::Null));
    assert_eq!(line["target"], "streambot_runtime::logs::layer::tests");
    assert_eq!(
        (&line["fields.level"], &line["fields.requestId"]),
        (&json!("TRACE"), &json!("id-2"))
    );
    assert_eq!(
        (&line["fields.timestamp"], &line["fields.message"]),
        (&json!(0), &json!("of the span"))
    );
}

#[test]
fn every_name_of_a_line_occurs_once_and_the_innermost_wins() {
    let texts = lines("JSON", "", || {
        let _outer = info_span!("outer", a = "outer", b = "outer", c = "outer").entered();
        let inner = info_span!("inner", a = "inner", b = "inner", d = tracing::field::Empty);
        inner.record("d", "recorded");
        let _inner = inner.entered();
        info!(a = "event", a.b = 1, "here");
    });
    for name in ["a", "b", "c", "d"] {
        assert_eq!(texts[0].matches(&format!("\"{name}\":")).count(), 1, "{name} in {}", texts[0]);
    }
    let line: Value = serde_json::from_str(&texts[0]).expect("JSON");
    assert_eq!(
        (&line["a"], &line["b"], &line["c"], &line["d"], &line["span"]),
        (&json!("event"), &json!("inner"), &json!("outer"), &json!("recorded"), &json!("inner"))
    );
}

#[test]
fn values_of_every_type_are_json() {
    let missing: Option<&str> = None;
    let error = std::io::Error::other("no \"table\"");
    let lines = json_lines("", || {
        info!(
            nan = f64::NAN,
            huge = 1e300,
            big = u128::MAX,
            negative = -1,
            debug = ?Some("a\"b"),
            display = %"c\nd",
            missing,
            error = &error as &dyn std::error::Error,
            "quote \" and {}",
            "\u{1b}[31m"
        );
    });
    let line = &lines[0];
    assert_eq!(
        (&line["nan"], &line["huge"], &line["negative"]),
        (&json!("NaN"), &json!(1e300), &json!(-1))
    );
    assert!(line["big"].is_number() && line.get("missing").is_none());
    assert_eq!((&line["debug"], &line["display"]), (&json!("Some(\"a\\\"b\")"), &json!("c\nd")));
    assert_eq!(
        (&line["error"], &line["message"]),
        (&json!("no \"table\""), &json!("quote \" and \u{1b}[31m"))
    );
}

#[test]
fn data_cannot_forge_a_line_of_text() {
    let forged = "x\n{\"_aws\":{}}\r\n\u{1b}[31mERROR\u{85}\u{2028}\u{2029}\u{9b}2J";
    let lines = lines("", "", || {
        let _span = info_span!("own", field = forged, shown = %forged).entered();
        info!(text = forged, display = %forged, debug = ?Some(forged), message = forged);
        info!("{forged}");
    });
    assert_eq!(lines.len(), 2, "one line for each event: {lines:#?}");
    for line in lines {
        let hostile = |character: char| {
            character.is_control() || matches!(character, '\u{2028}' | '\u{2029}')
        };
        assert!(!line.contains(hostile), "{line:?}");
        assert!(
            line.contains(r#"x\n{"_aws":{}}\r\n\u{1b}[31mERROR\u{85}\u{2028}\u{2029}\u{9b}2J"#),
            "{line}"
        );
    }
}

#[test]
fn a_line_of_text_has_the_invocation_the_spans_the_target_the_message_and_the_fields() {
    let lines = lines("", "", || {
        invocation_span(&context()).in_scope(|| {
            let _span = info_span!("own", table = "quakes", n = 3).entered();
            warn!(target: "quakes", id = "us7", mag = 6.4, error = %"no table", "an alert");
            info_span!("empty").in_scope(|| info!(target: "quakes", id = 1));
        });
    });
    let without_time: Vec<_> =
        lines.iter().map(|line| line.split_once(' ').expect("a time").1).collect();
    let invocation = r#"invocation{requestId="id-1"}: own{table="quakes" n=3}: "#;
    assert_eq!(
        without_time,
        [
            format!(r#" WARN {invocation}quakes: an alert id="us7" mag=6.4 error=no table"#),
            format!(r#" INFO {invocation}empty: quakes: id=1"#),
        ]
    );
}

#[test]
fn a_value_that_logs_while_it_is_formatted_does_not_spoil_the_line() {
    struct Logs;
    impl std::fmt::Display for Logs {
        fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            info!("inner");
            formatter.write_str("value")
        }
    }
    // `tracing` drops the inner event, as a subscriber of one thread is not entered twice.
    let lines = json_lines("", || info!(field = %Logs, "outer"));
    assert_eq!(lines.len(), 1);
    assert_eq!((&lines[0]["message"], &lines[0]["field"]), (&json!("outer"), &json!("value")));
}
