use std::time::UNIX_EPOCH;

use serde_json::{Value, json};

use super::*;
use crate::context::Context;

fn names() -> Names {
    Names {
        metric: "quakes-production".into(),
        stack: "quakes-production".into(),
        version: None,
        level: "INFO",
    }
}

fn invocation() -> Invocation {
    Invocation {
        succeeded: true,
        records: 3,
        failed: 0,
        user_records: 7,
        unfinished: 2,
        duration: Duration::from_micros(12_345),
        iterator_age: Some(Duration::from_secs(2)),
    }
}

fn lines_of(names: &Names, invocation: &Invocation, counts: &Counts) -> Vec<String> {
    let context = Context::new(
        "id-1".to_owned(),
        String::new(),
        SystemTime::now(),
        crate::clock::Clock::System,
    );
    let active = scope::start(&context, &names.metric);
    let now = UNIX_EPOCH + Duration::from_millis(1_545_084_650_987);
    invocation_lines(names, active.scope(), invocation, counts, now)
        .lines()
        .map(str::to_owned)
        .collect()
}

fn parsed(invocation: &Invocation, counts: &Counts) -> Vec<Value> {
    let lines = lines_of(&names(), invocation, counts);
    lines.iter().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect()
}

/// Every metric that a directive announces, with its dimension and the value it finds in the line.
fn announced(line: &Value) -> Vec<(String, String, Value)> {
    let directives = line["_aws"]["CloudWatchMetrics"].as_array().expect("directives");
    let of = |directive: &Value| {
        let dimension = directive["Dimensions"][0][0].as_str().expect("one dimension").to_owned();
        assert!(line[&dimension].is_string(), "the dimension has a value in the line");
        let metrics = directive["Metrics"].as_array().expect("metrics").clone();
        metrics.into_iter().map(move |metric| {
            let name = metric["Name"].as_str().expect("a name").to_owned();
            (name.clone(), dimension.clone(), line[&name].clone())
        })
    };
    directives.iter().flat_map(of).collect()
}

#[test]
fn the_first_line_has_the_contracts_metric_alone() {
    let lines = parsed(&invocation(), &Counts::from([("Alerts".into(), 5)]));
    assert_eq!(lines[0]["Status"], "Success");
    assert_eq!(
        announced(&lines[0]),
        [("quakes-production".to_owned(), "Status".to_owned(), json!(1))]
    );
    assert!(lines[1].get("quakes-production").is_none() && lines[1].get("Status").is_none());
}

#[test]
fn the_lines_announce_every_value_they_hold() {
    let lines = parsed(&invocation(), &Counts::from([("Alerts".into(), 5)]));
    assert_eq!(lines.len(), 2);
    let expected = [
        ("Records", json!(3)),
        ("FailedRecords", json!(0)),
        ("UserRecords", json!(7)),
        ("UnfinishedRecords", json!(2)),
        ("Duration", json!(12.345)),
        ("IteratorAge", json!(2_000)),
        ("Alerts", json!(5)),
    ];
    let expected: Vec<_> =
        expected.map(|(name, value)| (name.to_owned(), "StackName".to_owned(), value)).into();
    assert_eq!(announced(&lines[1]), expected);
}

#[test]
fn every_line_says_when_it_was_written_and_for_which_invocation() {
    for line in parsed(&invocation(), &Counts::new()) {
        assert_eq!(line["_aws"]["Timestamp"], 1_545_084_650_987u64);
        assert_eq!(line["timestamp"], "2018-12-17T22:10:50.987Z");
        assert_eq!((&line["level"], &line["requestId"]), (&json!("INFO"), &json!("id-1")));
    }
}

#[test]
fn a_published_version_has_a_dimension_beside_the_contracts() {
    let names = Names { version: Some("7".to_owned()), ..names() };
    let line: Value =
        serde_json::from_str(&lines_of(&names, &invocation(), &Counts::new())[0]).expect("JSON");
    let status = &line["_aws"]["CloudWatchMetrics"][0];
    assert_eq!(status["Dimensions"], json!([["Status"], ["Status", "ExecutedVersion"]]));
    assert_eq!((&line["ExecutedVersion"], &line["Status"]), (&json!("7"), &json!("Success")));
}

#[test]
fn a_failure_is_an_error_under_the_same_name() {
    let lines = parsed(&Invocation { succeeded: false, failed: 1, ..invocation() }, &Counts::new());
    assert_eq!((&lines[0]["Status"], &lines[0]["quakes-production"]), (&json!("Error"), &json!(1)));
}

#[test]
fn no_line_has_more_metrics_than_cloudwatch_takes() {
    let counts: Counts =
        (0..250).map(|index| (Cow::Owned(format!("metric-{index:03}")), 1)).collect();
    let lines = parsed(&invocation(), &counts);
    assert!(lines.iter().all(|line| announced(line).len() <= 100));
    assert_eq!(lines.iter().map(|line| announced(line).len()).sum::<usize>(), 1 + 6 + 250);
}

#[test]
fn no_line_comes_near_the_size_at_which_cloudwatch_splits_it() {
    // The longest names, and those whose characters take the most room in JSON.
    let names = ["n", "é", "\u{1}", "\"", "🦀"].map(|character| character.repeat(1_000));
    let counts: Counts = names
        .iter()
        .flat_map(|name| {
            (0..100).map(move |index| (Cow::Owned(format!("{name}{index}")), u64::MAX))
        })
        .collect();
    let lines = lines_of(&super::tests::names(), &invocation(), &counts);
    let longest = lines.iter().map(String::len).max().expect("lines");
    assert!(longest < 200_000, "{longest} bytes");
    let announced =
        lines.iter().map(|line| announced(&serde_json::from_str(line).expect("JSON")).len());
    assert_eq!(announced.sum::<usize>(), 1 + 6 + 500, "none is lost");
}

#[test]
fn an_event_without_records_has_no_iterator_age() {
    let lines = parsed(&Invocation { iterator_age: None, ..invocation() }, &Counts::new());
    assert!(lines.iter().flat_map(announced).all(|(name, ..)| name != "IteratorAge"));
    assert!(lines.iter().all(|line| line.get("IteratorAge").is_none()));
}

#[test]
fn streambots_own_names_are_reserved() {
    let own = parsed(&invocation(), &Counts::new());
    for name in own.iter().flat_map(|line| line.as_object().expect("an object").keys()) {
        assert!(name == "quakes-production" || RESERVED.contains(&&**name), "{name} is reserved");
    }
}
