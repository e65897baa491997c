//! The numbers of the last hour, in one call to CloudWatch: what is asked for, and how the answer
//! becomes a number for each period. It refuses to know how they are shown.

use aws_sdk_cloudwatch::Client;
use aws_sdk_cloudwatch::primitives::DateTime;
use aws_sdk_cloudwatch::types::{
    Dimension, Metric, MetricDataQuery, MetricDataResult, MetricStat, ScanBy,
};
use jiff::{SignedDuration, Timestamp};

use super::answer::{Metrics, Outcomes};
use super::sparkline::Series;
use crate::aws::{Aws, failed};
use crate::error::Result;
use crate::time::Time;

/// In seconds.
const PERIOD: i32 = 120;
const PERIODS: usize = 30;

/// Reads the numbers of `function`, and where the stack has a metric, those.
///
/// # Errors
/// Failed where CloudWatch does not answer or refuses.
pub(super) async fn read(
    aws: &Aws,
    function: &str,
    metric_name: Option<&str>,
    now: Time,
) -> Result<Metrics> {
    let from = first_period(now);
    let seconds = |time: Timestamp| DateTime::from_secs(time.as_second());
    let queries = queries(function, metric_name);
    let mut pages = Client::new(&aws.config)
        .get_metric_data()
        .start_time(seconds(from))
        .end_time(seconds(from + SignedDuration::from_secs(i64::from(PERIOD) * PERIODS as i64)))
        .scan_by(ScanBy::TimestampAscending)
        .set_metric_data_queries(Some(queries))
        .into_paginator()
        .send();
    let mut results = Vec::new();
    while let Some(page) = pages.next().await {
        let page =
            page.map_err(|error| failed(format!("reading the metrics of `{function}`"), error))?;
        results.extend(page.metric_data_results.unwrap_or_default());
    }
    let series = |id: &str| Series::of(points(&results, id, from));
    Ok(Metrics {
        from: Time(from),
        period_in_seconds: PERIOD,
        iterator_age: series("age"),
        errors: series("errors"),
        invocations: series("invocations"),
        streambot: metric_name.map(|name| Outcomes {
            metric_name: name.to_owned(),
            error: series("error"),
            success: series("success"),
        }),
    })
}

fn queries(function: &str, metric_name: Option<&str>) -> Vec<MetricDataQuery> {
    let of_function =
        |id, name, stat| query(id, ("AWS/Lambda", name), ("FunctionName", function), stat);
    let mut queries = vec![
        of_function("age", "IteratorAge", "Maximum"),
        of_function("errors", "Errors", "Sum"),
        of_function("invocations", "Invocations", "Sum"),
    ];
    if let Some(name) = metric_name {
        let outcome = |id, status| query(id, ("streambot", name), ("Status", status), "Sum");
        queries.extend([outcome("error", "Error"), outcome("success", "Success")]);
    }
    queries
}

fn query(
    id: &str,
    (namespace, name): (&str, &str),
    (dimension, value): (&str, &str),
    stat: &str,
) -> MetricDataQuery {
    let dimension = Dimension::builder().name(dimension).value(value).build();
    let metric =
        Metric::builder().namespace(namespace).metric_name(name).dimensions(dimension).build();
    let stat = MetricStat::builder().metric(metric).period(PERIOD).stat(stat).build();
    MetricDataQuery::builder().id(id).metric_stat(stat).return_data(true).build()
}

/// When the first period begins: the last one, of whole periods since the Unix epoch as CloudWatch
/// has them, is the one that `now` is in.
fn first_period(now: Time) -> Timestamp {
    let period = i64::from(PERIOD);
    let last = now.0.as_second().div_euclid(period) * period;
    Timestamp::from_second(last - period * (PERIODS as i64 - 1)).unwrap_or_default()
}

/// The values of one query, each at its period; those of several pages together.
fn points(results: &[MetricDataResult], id: &str, from: Timestamp) -> Vec<Option<f64>> {
    let mut points = vec![None; PERIODS];
    for result in results.iter().filter(|result| result.id() == Some(id)) {
        for (time, value) in result.timestamps().iter().zip(result.values()) {
            let period = (time.secs() - from.as_second()).div_euclid(i64::from(PERIOD));
            if let Some(point) =
                usize::try_from(period).ok().and_then(|period| points.get_mut(period))
            {
                *point = Some(*value);
            }
        }
    }
    points
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_last_period_is_the_one_that_is_now() {
        let from = first_period(Time::read("2026-11-24T17:01:59.9Z").unwrap());
        assert_eq!(from, "2026-11-24T16:02:00Z".parse().unwrap());
        assert_eq!(
            first_period(Time::read("2026-11-24T17:02:00Z").unwrap()).as_second()
                - from.as_second(),
            120
        );
    }

    #[test]
    fn each_value_stands_at_its_period_whatever_page_it_comes_with() {
        let from: Timestamp = "2026-11-24T16:02:00Z".parse().unwrap();
        let page = |id: &str, values: &[(i64, f64)]| {
            let (times, values): (Vec<_>, Vec<_>) = values.iter().copied().unzip();
            let times = times
                .into_iter()
                .map(|after| DateTime::from_secs(from.as_second() + after))
                .collect();
            MetricDataResult::builder()
                .id(id)
                .set_timestamps(Some(times))
                .set_values(Some(values))
                .build()
        };
        let results = [
            page("age", &[(0, 1.0), (3_480, 2.0)]),
            page("errors", &[(0, 9.0)]),
            page("age", &[(240, 3.0), (-120, 4.0), (3_600, 5.0)]),
        ];
        let mut expected = vec![None; 30];
        (expected[0], expected[2], expected[29]) = (Some(1.0), Some(3.0), Some(2.0));
        assert_eq!(points(&results, "age", from), expected);
    }

    #[test]
    fn the_stacks_metric_is_asked_for_where_there_is_one() {
        let ids = |metric| {
            queries("quakes", metric)
                .iter()
                .map(|query| query.id().unwrap().to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(ids(None), ["age", "errors", "invocations"]);
        assert_eq!(ids(Some("quakes")), ["age", "errors", "invocations", "error", "success"]);
    }
}
