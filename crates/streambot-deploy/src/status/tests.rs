//! The answer in both its forms, built from fixed values.

use super::answer::{
    Alarm, Canary, Function, Mapping, Metrics, Outcomes, Part, Stack, Status, Subscription,
};
use super::sparkline::Series;
use crate::time::Time;

fn time(text: &str) -> Time {
    Time::read(text).unwrap_or_else(|| panic!("{text} is a time"))
}

fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

/// A number every two minutes, the first ones missing.
fn series(values: &[f64]) -> Series {
    let gaps = std::iter::repeat_n(None, 30 - values.len());
    Series::of(gaps.chain(values.iter().copied().map(Some)).collect())
}

fn healthy() -> Status {
    Status {
        name: "quakes-production".into(),
        region: "eu-west-1".into(),
        time: time("2026-11-24T17:00:30Z"),
        stack: Part::Known(Stack {
            status: "UPDATE_COMPLETE".into(),
            status_reason: None,
            updated: Some(time("2026-11-20T09:00:00Z")),
        }),
        function: Part::Known(Function {
            arn: "arn:aws:lambda:eu-west-1:123456789012:function:quakes-production".into(),
            state: some("Active"),
            state_reason: None,
            last_update_status: some("Successful"),
            last_update_status_reason: None,
            version: some("7"),
            canary: None,
            code_sha256: some("n4bQgYhMfWWaL+qgxVrQFaO/TxsrC4Is0V1sFbDwCgg="),
            last_modified: Some(time("2026-11-24T14:55:00Z")),
            memory_in_megabytes: Some(128),
            timeout_in_seconds: Some(60),
        }),
        event_source_mappings: Part::Known(vec![Mapping {
            uuid: "5b3e1c9a-0000-4000-8000-000000000001".into(),
            event_source_arn: "arn:aws:kinesis:eu-west-1:123456789012:stream/quakes".into(),
            state: "Enabled".into(),
            last_processing_result: some("OK"),
            function_arn:
                "arn:aws:lambda:eu-west-1:123456789012:function:quakes-production:current".into(),
            batch_size: Some(100),
        }]),
        metrics: Part::Known(Metrics {
            from: time("2026-11-24T16:02:00Z"),
            period_in_seconds: 120,
            iterator_age: series(&[0.0, 120.0, 250.0, 61_000.0, 122_500.0, 30_000.0, 800.0]),
            errors: series(&[0.0; 7]),
            invocations: series(&[3.0, 4.0, 5.0, 2.0, 9.0, 4.0, 1.0]),
            streambot: Some(Outcomes {
                metric_name: "quakes-production".into(),
                error: series(&[]),
                success: series(&[3.0, 4.0, 5.0, 2.0, 9.0, 4.0, 1.0]),
            }),
        }),
        alarms: Part::Known(vec![Alarm {
            name: "quakes-production-ErrorAlarm-1".into(),
            state: "OK".into(),
            reason: some("Threshold Crossed: no datapoints were received"),
            since: Some(time("2026-11-23T17:00:00Z")),
        }]),
        pending_confirmations: Part::Known(Vec::new()),
    }
}

/// A canary under way, a mapping that fails, an alarm that rings, an address that has not
/// confirmed, and a stack not read.
fn troubled() -> Status {
    let Status { function, event_source_mappings, metrics, .. } = healthy();
    Status {
        stack: Part::Known(Stack {
            status: "UPDATE_ROLLBACK_FAILED".into(),
            status_reason: some("The following resource(s) failed to update: [Stream]."),
            updated: None,
        }),
        function: function.map(|function| Function {
            state: some("Pending"),
            state_reason: some("The function is being created."),
            last_update_status: some("Failed"),
            last_update_status_reason: some("The image is gone."),
            canary: Some(Canary {
                version: "8".into(),
                weight: 0.07,
                code_sha256: some("hash of 8"),
            }),
            ..function
        }),
        event_source_mappings: event_source_mappings.map(|mappings| {
            let broken = |mapping| Mapping {
                last_processing_result: some("PROBLEM: Function call failed"),
                state: "Disabled".into(),
                ..mapping
            };
            mappings.into_iter().map(broken).collect()
        }),
        metrics: metrics.map(|metrics| Metrics {
            errors: series(&[0.0, 0.0, 2.0, 1.0]),
            streambot: None,
            ..metrics
        }),
        alarms: Part::Known(vec![
            Alarm {
                name: "quakes-production-ErrorAlarm-1".into(),
                state: "ALARM".into(),
                reason: some(
                    "Threshold Crossed: 1 datapoint [2.0] was greater than the threshold (0.0).",
                ),
                since: Some(time("2026-11-24T16:58:00Z")),
            },
            Alarm {
                name: "quakes-production-IteratorAgeAlarm-1".into(),
                state: "INSUFFICIENT_DATA".into(),
                reason: some("Unchecked: Initial alarm creation"),
                since: None,
            },
        ]),
        pending_confirmations: Part::Known(vec![Subscription {
            endpoint: "ops@example.com".into(),
            protocol: "email".into(),
            topic_arn: "arn:aws:sns:eu-west-1:123456789012:quakes-AlarmSNS-1".into(),
        }]),
        ..healthy()
    }
}

/// A function whose stack is gone, read by someone who may not read metrics.
fn in_part() -> Status {
    Status {
        stack: Part::Missing,
        function: healthy().function.map(|function| Function { version: None, ..function }),
        event_source_mappings: Part::Known(Vec::new()),
        metrics: Part::Unreadable(
            "reading the metrics of `quakes-production`: AccessDenied: not authorized to perform: \
             cloudwatch:GetMetricData"
                .into(),
        ),
        alarms: Part::Missing,
        pending_confirmations: Part::Missing,
        ..healthy()
    }
}

#[test]
fn all_is_well_as_text_and_as_json() {
    insta::assert_snapshot!("healthy_text", healthy());
    insta::assert_json_snapshot!("healthy_json", healthy());
}

#[test]
fn what_is_wrong_is_told_as_text_and_as_json() {
    insta::assert_snapshot!("troubled_text", troubled());
    insta::assert_json_snapshot!("troubled_json", Status { metrics: Part::Missing, ..troubled() });
}

#[test]
fn what_is_not_there_and_what_may_not_be_read_is_told_in_its_place() {
    insta::assert_snapshot!("in_part_text", in_part());
    insta::assert_json_snapshot!("in_part_json", in_part());
}

#[test]
fn colors_are_there_only_where_they_are_asked_for() {
    let (plain, colored) = (troubled().text(false), troubled().text(true));
    assert!(!plain.contains('\u{1b}'));
    for part in [
        "\u{1b}[31mALARM\u{1b}[0m",
        "\u{1b}[33mINSUFFICIENT_DATA\u{1b}[0m",
        "\u{1b}[31mFailed\u{1b}[0m",
    ] {
        assert!(colored.contains(part), "{part} in {colored}");
    }
    assert!(healthy().text(true).contains("\u{1b}[32mEnabled\u{1b}[0m"));
}
