//! The page that `--report` writes, opened in a real browser.

#![allow(clippy::unwrap_used)]

#[path = "support/local.rs"]
mod local;

use std::path::Path;
use std::process::Command;

use local::Local;

/// A function that emits metrics, one of them with a name that would end a script, and that never
/// gets over one record.
const HANDLER: &str = r#"
def handle(records):
    names = ["Alerts", "</script><b id=injected>"]
    metrics = [{"Name": "Latency", "Unit": "Milliseconds"}] + [{"Name": name, "Unit": "Count"} for name in names]
    emitted = {"_aws": {"Timestamp": 1, "CloudWatchMetrics": [{"Namespace": "n", "Dimensions": [[]], "Metrics": metrics}]}}
    emitted.update({name: len(records) for name in names}, Latency=len(records) / 3)
    print(json.dumps(emitted), flush=True)
    failed = [record["kinesis"]["sequenceNumber"] for record, value in zip(records, data) if value == "poison"]
    return json.dumps({"batchItemFailures": [{"itemIdentifier": number} for number in failed]})
"#;

/// The page as the browser has it once its script has run, and what the browser logged meanwhile.
fn open_in_browser(page: &Path) -> (String, String) {
    let profile = tempfile::tempdir().unwrap();
    let output = Command::new("chromium")
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
        .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
        .args(["--enable-logging=stderr", "--v=0", "--virtual-time-budget=5000", "--dump-dom"])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(format!("file://{}", page.display()))
        .output()
        .unwrap_or_else(|error| panic!("chromium does not run ({error}): run ci/setup first"));
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{log}");
    (String::from_utf8(output.stdout).unwrap(), log)
}

/// How many pieces of data a plot shows.
fn marks(page: &str, plot: &str) -> usize {
    let figure = page
        .split(&format!("<figure id=\"{plot}\""))
        .nth(1)
        .unwrap_or_else(|| panic!("no figure {plot}"));
    let drawn = figure.split('>').next().unwrap();
    let marks =
        drawn.split("data-marks=\"").nth(1).unwrap_or_else(|| panic!("{plot} was not drawn"));
    marks.split('"').next().unwrap().parse().unwrap()
}

fn assert_no_console_message(log: &str) {
    let messages: Vec<&str> = log.lines().filter(|line| line.contains("CONSOLE")).collect();
    assert!(messages.is_empty(), "{messages:#?}");
}

#[test]
fn the_report_of_a_chaotic_run_draws_every_plot_in_a_browser_without_an_error() {
    let records = (0..400).map(|number| {
        if number == 123 { "poison".to_owned() } else { format!("[{}]", number % 31) }
    });
    let run = Local::function(HANDLER)
        .records(records)
        .with(&["--shards", "3", "--parallelization-factor", "2"])
        .with(&[
            "--batch-size",
            "7",
            "--maximum-retry-attempts",
            "4",
            "--bisect-batch-on-function-error",
            "--chaos",
            "crash=0.03,timeout=0.03,throttle=0.1,duplicate=0.1",
            "--report",
            "report.html",
        ]);
    let ended = run.run();
    assert!(ended.stderr.contains("wrote the report report.html"), "{ended:#?}");
    assert!(ended.stderr.contains("RetryAttemptsExhausted"), "{}", ended.stderr);

    let (page, log) = open_in_browser(&run.path("report.html"));
    assert_no_console_message(&log);
    assert!(page.contains("data-drawn=\"true\""), "its script came to its end");
    for plot in [
        "timeline",
        "rate",
        "histogram",
        "durations",
        "failures",
        "discards",
        "metric-0",
        "metric-1",
        "metric-2",
    ] {
        assert!(marks(&page, plot) > 0, "{plot}");
    }
    assert!(marks(&page, "timeline") > 60, "a bar for each invocation");
    assert!(marks(&page, "histogram") > 1);
    assert!(page.contains("Every record is accounted for: nothing was lost."));
    let titles: Vec<&str> =
        page.split("<h3>").skip(1).filter_map(|title| title.split("</h3>").next()).collect();
    assert_eq!(titles, ["&lt;/script&gt;&lt;b id=injected&gt;", "Alerts", "Latency"]);
    assert!(!page.contains("<b id="), "a name is text, whatever it holds");
}

#[test]
fn the_report_of_a_run_without_records_says_so_in_words() {
    let run = Local::function("").records([]).with(&["--report", "report.html"]);
    assert_eq!(run.run().code, Some(0));
    let (page, log) = open_in_browser(&run.path("report.html"));
    assert_no_console_message(&log);
    for (plot, words) in [
        ("timeline", "Nothing was invoked: the run had no records."),
        ("rate", "No record was done."),
        ("histogram", "No invocation reached the function."),
        ("durations", "No invocation reached the function."),
        ("failures", "No invocation failed, and none was a retry."),
        ("discards", "No record was discarded."),
        ("metrics", "The function emitted no metrics."),
    ] {
        assert_eq!(marks(&page, plot), 0);
        assert!(page.contains(words), "{words}");
    }
}

#[test]
fn a_report_that_cannot_be_written_is_named() {
    let ended = Local::function("")
        .records(["a".to_owned()])
        .with(&["--report", "nowhere/report.html"])
        .run();
    assert_ne!(ended.code, Some(0));
    assert!(ended.stderr.contains("report nowhere/report.html"), "{}", ended.stderr);
}
