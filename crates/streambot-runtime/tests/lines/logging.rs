//! What is on stdout, and what is left of it after Lambda's filter.

use serde_json::{Value, json};
use streambot_runtime::testing::{Event, records};

use crate::function::{Ended, run};
use crate::lambda::{is_timestamp, kept};

const JSON_AT_WARN: [(&str, &str); 2] =
    [("AWS_LAMBDA_LOG_FORMAT", "JSON"), ("AWS_LAMBDA_LOG_LEVEL", "WARN")];
const JSON: [(&str, &str); 1] = [("AWS_LAMBDA_LOG_FORMAT", "JSON")];

fn event(data: &[&str]) -> String {
    records(data.iter().copied()).to_json()
}

fn parsed(lines: &[&str]) -> Vec<Value> {
    lines
        .iter()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect()
}

fn messages(ended: &Ended) -> Vec<String> {
    let lines = parsed(&ended.lines().collect::<Vec<_>>());
    lines.iter().filter_map(|line| line["message"].as_str().map(str::to_owned)).collect()
}

#[test]
fn at_level_warn_each_line_passes_lambdas_filter_with_its_ids_and_so_do_the_metrics() {
    let commands =
        ["info", "warn", "span", "log", "spawn", "blocking", "count", "print a\nb", "panic"];
    let ended = run(&JSON_AT_WARN, &[event(&commands), event(&["count"]), "[]".to_owned()]);
    let lines = kept(ended.lines(), "WARN");
    assert_eq!(lines.len(), ended.lines().count(), "Lambda drops none:\n{}", ended.stdout);
    let lines = parsed(&lines);
    for line in &lines {
        assert!(is_timestamp(line["timestamp"].as_str().unwrap()), "{line}");
        assert!(["WARN", "ERROR"].contains(&line["level"].as_str().unwrap()), "{line}");
        let id = line["requestId"].as_str().unwrap_or_else(|| panic!("no requestId: {line}"));
        assert!(["request-1", "request-2", "request-3"].contains(&id), "{line}");
        assert_eq!(line["xrayTraceId"], "Root=1-5bef4de7;Sampled=1", "{line}");
    }
    for message in
        ["a warning", "in a span", "from the log crate", "in a task", "on another thread", "a\nb"]
    {
        assert!(
            lines.iter().any(|line| line["message"] == message),
            "{message}:\n{}",
            ended.stdout
        );
    }
    let of_log = lines.iter().find(|line| line["message"] == "from the log crate").unwrap();
    assert_eq!((&of_log["target"], &of_log["level"]), (&json!("database::pool"), &json!("ERROR")));

    let statuses: Vec<_> = lines.iter().filter(|line| line["Status"].is_string()).collect();
    let of = |line: &Value| {
        (line["requestId"].clone(), line["Status"].clone(), line["quakes-test"].clone())
    };
    assert_eq!(
        statuses.into_iter().map(of).collect::<Vec<_>>(),
        [
            (json!("request-1"), json!("Error"), json!(1)),
            (json!("request-2"), json!("Success"), json!(1)),
            (json!("request-3"), json!("Error"), json!(1)),
        ]
    );
    let alerts =
        |id: &str| lines.iter().find(|line| line["requestId"] == id && !line["Alerts"].is_null());
    assert_eq!(
        (&alerts("request-1").unwrap()["Alerts"], &alerts("request-2").unwrap()["Alerts"]),
        (&json!(2), &json!(2))
    );
}

#[test]
fn the_metric_lines_pass_at_every_level() {
    for level in ["TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL"] {
        let ended = run(&[JSON[0], ("AWS_LAMBDA_LOG_LEVEL", level)], &[event(&["count"])]);
        let lines = parsed(&kept(ended.lines(), level));
        let announced = |name: &str| {
            let metrics = lines
                .iter()
                .flat_map(|line| line["_aws"]["CloudWatchMetrics"][0]["Metrics"].as_array());
            metrics.flatten().any(|metric| metric["Name"] == name)
        };
        assert!(
            announced("quakes-test") && announced("Records") && announced("Alerts"),
            "{level}:\n{}",
            ended.stdout
        );
    }
}

#[test]
fn the_contracts_metric_is_written_first_and_in_a_line_of_its_own() {
    let ended = run(&JSON, &[event(&["count"])]);
    let lines = parsed(&ended.lines().filter(|line| line.contains("\"_aws\"")).collect::<Vec<_>>());
    assert_eq!(lines.len(), 2, "{}", ended.stdout);
    let metrics = |line: &Value| {
        let metrics = line["_aws"]["CloudWatchMetrics"][0]["Metrics"].as_array().unwrap();
        metrics.iter().map(|metric| metric["Name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(metrics(&lines[0]), ["quakes-test"]);
    assert_eq!(
        metrics(&lines[1]),
        [
            "Records",
            "FailedRecords",
            "UserRecords",
            "UnfinishedRecords",
            "Duration",
            "IteratorAge",
            "Alerts",
            "CountedAtInit"
        ]
    );
}

#[test]
fn names_that_are_not_free_are_refused_with_one_error_each() {
    let ended = run(&JSON, &[event(&["count", "count"])]);
    let lines = parsed(&ended.lines().collect::<Vec<_>>());
    let refused: Vec<_> = lines
        .iter()
        .filter(|line| {
            line["message"]
                .as_str()
                .is_some_and(|message| message.starts_with("metric not counted"))
        })
        .collect();
    let names: Vec<_> = refused.iter().map(|line| (&line["metric"], &line["level"])).collect();
    assert_eq!(
        names,
        [(&json!("Records"), &json!("ERROR")), (&json!("quakes-test"), &json!("ERROR"))]
    );
    let metric = |name: &str| lines.iter().find_map(|line| line.get("_aws").and(line.get(name)));
    assert_eq!((metric("quakes-test"), metric("Records")), (Some(&json!(1)), Some(&json!(2))));
}

#[test]
fn thousands_of_metric_names_are_written_and_warned_about_once() {
    let ended = run(&JSON, &[event(&["names 3000"]), event(&["names 3000"])]);
    let lines = parsed(&ended.lines().collect::<Vec<_>>());
    let warnings = lines
        .iter()
        .filter(|line| line["message"].as_str().is_some_and(|text| text.contains("metric names")));
    assert_eq!(warnings.map(|line| &line["level"]).collect::<Vec<_>>(), ["WARN"]);
    let announced =
        lines.iter().filter_map(|line| line["_aws"]["CloudWatchMetrics"][0]["Metrics"].as_array());
    assert!(announced.clone().all(|metrics| metrics.len() <= 100));
    let names = announced
        .flatten()
        .filter(|metric| metric["Name"].as_str().unwrap().starts_with("Alerts-"));
    assert_eq!(names.count(), 6_000);
}

#[test]
fn data_cannot_forge_a_line_of_text_or_a_metric() {
    let forged = "print x\n{\"_aws\":{\"Timestamp\":1},\"quakes-test\":7}\n\u{1b}[31mred\r\u{2028}";
    let ended = run(&[], &[event(&[forged])]);
    assert!(!ended.stdout.contains(['\u{1b}', '\r', '\u{2028}']), "{}", ended.stdout);
    let metrics = ended.lines().filter(|line| line.starts_with('{')).count();
    assert_eq!(
        (metrics, ended.lines().count()),
        (2, 4),
        "the print, the end of the batch and the metrics"
    );
    assert!(ended.stdout.contains(r#": x\n{"_aws":{"Timestamp":1},"#), "{}", ended.stdout);
    assert!(
        ended.stdout.contains(r#" ERROR invocation{requestId="request-1"}: log_lines: x"#),
        "{}",
        ended.stdout
    );
}

#[test]
fn rust_log_is_capped_by_lambdas_level_and_does_not_silence_streambot() {
    let variables = [JSON_AT_WARN[0], JSON_AT_WARN[1], ("RUST_LOG", "log_lines=trace")];
    let ended = run(&variables, &[event(&["info", "warn", "log", "fail"])]);
    let found = messages(&ended);
    assert!(
        found.contains(&"a warning".to_owned()) && found.contains(&"record failed".to_owned()),
        "{found:?}"
    );
    assert!(
        !found.iter().any(|message| message == "an info line" || message == "from the log crate"),
        "{found:?}"
    );

    let ended = run(&[JSON[0], ("RUST_LOG", "debug,hyper_util=off")], &[event(&["info"])]);
    assert!(messages(&ended).contains(&"an info line".to_owned()), "{}", ended.stdout);
    let ended = run(&[JSON[0], ("RUST_LOG", "error")], &[event(&["warn", "log"])]);
    assert_eq!(messages(&ended), ["from the log crate"], "{}", ended.stdout);
}

#[test]
fn a_rust_log_that_does_not_parse_is_warned_about_once() {
    let ended = run(
        &[JSON[0], ("RUST_LOG", "log_lines=loud,log_lines=info")],
        &[event(&["info"]), event(&["info"])],
    );
    let warnings: Vec<_> =
        ended.lines().filter(|line| line.contains("RUST_LOG does not parse")).collect();
    let [warning] = &*warnings else { panic!("{}", ended.stdout) };
    assert!(warning.contains("log_lines=loud") && warning.contains("WARN"), "{warning}");
    assert_eq!(messages(&ended).iter().filter(|message| *message == "an info line").count(), 2);
}

#[test]
fn a_panic_is_logged_once_and_with_its_backtrace_if_that_is_asked_for() {
    let ended = run(&JSON, &[event(&["panic"])]);
    let lines = parsed(&ended.lines().collect::<Vec<_>>());
    let panics: Vec<_> =
        lines.iter().filter(|line| line["message"] == "panicked: as told").collect();
    assert_eq!(panics.len(), 1, "{}", ended.stdout);
    assert!(
        panics[0]["location"].as_str().unwrap().contains("log_lines.rs")
            && panics[0]["backtrace"].is_null()
    );
    assert_eq!(ended.stderr, "", "the default hook does not write the message again");

    for (value, expected) in [("1", true), ("0", false)] {
        let ended = run(&[JSON[0], ("RUST_BACKTRACE", value)], &[event(&["panic"])]);
        let lines = parsed(&ended.lines().collect::<Vec<_>>());
        let panic = lines.iter().find(|line| line["message"] == "panicked: as told").unwrap();
        assert_eq!(
            panic["backtrace"].as_str().is_some_and(|text| text.contains("act")),
            expected,
            "{panic}"
        );
    }
}

#[test]
fn the_services_own_panic_hook_is_called_too() {
    let ended = run(&[JSON[0], ("OWN_HOOK", "true")], &[event(&["panic"])]);
    assert_eq!(ended.stderr, "own hook: as told\n");
    assert!(messages(&ended).contains(&"panicked: as told".to_owned()), "{}", ended.stdout);
}

#[test]
fn a_panic_in_init_says_so_and_why_the_function_cannot_start_passes_every_level() {
    let ended = run(&[JSON[0], ("AWS_LAMBDA_LOG_LEVEL", "FATAL"), ("INIT", "panic")], &[]);
    let found = messages(&ended);
    assert!(found.iter().any(|message| message.starts_with("panicked during init: ")), "{found:?}");
    let left = parsed(&kept(ended.lines(), "FATAL"));
    let [line] = &*left else { panic!("{}", ended.stdout) };
    assert!(line["message"].as_str().unwrap().starts_with("the function cannot start: "), "{line}");
    assert!(ended.posts[0].0.ends_with("/runtime/init/error"));
}

#[test]
fn the_first_failures_of_a_batch_have_a_line_each_and_the_others_one_together() {
    let data = vec!["x"; 5_000];
    let ended =
        run(&[JSON[0], ("SHAPE", "batch")], &[event(&data), event(&["x"; 12]), event(&["x"; 10])]);
    let lines = parsed(&ended.lines().collect::<Vec<_>>());
    let of = |id: &str| {
        let failed = lines
            .iter()
            .filter(|line| line["message"] == "record failed" && line["requestId"] == id)
            .count();
        let further = lines
            .iter()
            .filter(|line| line["requestId"] == id)
            .filter_map(|line| line.get("further"));
        (failed, further.cloned().collect::<Vec<_>>())
    };
    assert_eq!(of("request-1"), (10, vec![json!(4_990)]));
    assert_eq!(of("request-2"), (10, vec![json!(2)]), "each invocation has its own");
    assert_eq!(of("request-3"), (10, vec![]));
}

#[test]
fn a_subscriber_that_is_set_before_gets_the_events_and_the_log_says_what_s3_does_not_get() {
    let variables = [("OWN_SUBSCRIBER", "true"), ("LogBucket", "logs")];
    let ended = run(&variables, &[Event::new().to_json()]);
    assert!(
        ended.stderr.contains("own subscriber: ") && ended.stderr.contains("batch done"),
        "{}",
        ended.stderr
    );
    let warning = ended.stderr.lines().find(|line| line.contains("log lines are not uploaded"));
    assert!(
        warning.is_some_and(|line| line.starts_with("own subscriber: WARN")),
        "{}",
        ended.stderr
    );
    assert!(ended.lines().all(|line| line.contains("\"_aws\"")), "only metrics: {}", ended.stdout);
}
