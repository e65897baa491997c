//! The calls of a canary: its numbers from CloudWatch, and the alias moved as the verdict says. An
//! interrupted one goes on with the next deploy, from what is written on the alias.

use std::time::Duration;

use aws_sdk_cloudwatch::Client;
use aws_sdk_cloudwatch::primitives::DateTime;
use aws_sdk_cloudwatch::types::{
    Dimension, Metric, MetricAlarm, MetricDataQuery, MetricStat, StateValue,
};
use jiff::Timestamp;

use super::judge::{Numbers, Sight, Verdict, judge};
use super::{Canary, LATENESS};
use crate::aws::{Aws, failed};
use crate::error::{Error, Result};
use crate::function::ALIAS;
use crate::function::alias::{self, Alias, Weighted};
use crate::progress;
use crate::stack::StackValues;

/// How often the numbers are looked at.
const INTERVAL: Duration = Duration::from_secs(15);

/// Watches `version`, which gets a share, until its time is over, and gives it all batches, or none
/// where it does badly.
///
/// # Errors
/// Failed where it did badly, where CloudWatch or Lambda refuse, and where someone else moves the
/// alias meanwhile.
pub(crate) async fn see_through(
    aws: &Aws,
    function: &str,
    version: &str,
    values: &StackValues,
) -> Result<()> {
    let Some((alias, share)) = until_shared(aws, function, version).await? else { return Ok(()) };
    let Some((canary, since)) = Canary::read(&alias.description) else {
        return Err(Error::failed(format!(
            "alias `{ALIAS}` of `{function}` gives {}% to version {version}, and not by a deploy of Streambot's",
            share.weight * 100.0
        ))
        .hint("end it with `streambot-deploy rollback`, then deploy again"));
    };
    let client = Client::new(&aws.config);
    let watch = Watch { aws, client, function, alias: &alias, new: version, values, since };
    progress::say(format!(
        "watching version {version} beside version {}: {canary} since {since}",
        alias.version
    ));
    if canary.time < LATENESS {
        progress::warn(
            "CloudWatch tells numbers up to two minutes late: a shorter canary may see none of its own",
        );
    }
    let verdict = watch.verdict(&canary).await.map_err(|error| {
        error.hint(format!(
            "version {version} still gets its share, {canary}: deploy again to go on, or end it with `streambot-deploy rollback`"
        ))
    })?;
    match verdict {
        Verdict::Back(reason) => {
            watch.point(&alias.version).await?;
            Err(Error::failed(format!(
                "version {version} of `{function}` gets no batches any more, version {} gets them all",
                alias.version
            ))
            .because(reason)
            .hint("mend it and deploy again; settings of the event source mapping stay as this deploy made them"))
        }
        _ => watch.point(version).await,
    }
}

/// The alias once it tells the share of `version`, which Lambda may not do at once; nothing where
/// the version has all batches.
async fn until_shared(
    aws: &Aws,
    function: &str,
    version: &str,
) -> Result<Option<(Alias, Weighted)>> {
    let lambda = aws_sdk_lambda::Client::new(&aws.config);
    let mut waits = aws.patience.waits();
    for _ in 0..LOOKS {
        let alias = alias::find(&lambda, function, ALIAS).await?;
        if let Some(alias) = alias {
            match alias.canary.clone() {
                Some(share) if share.version == version => return Ok(Some((alias, share))),
                None if alias.version == version => return Ok(None),
                _ => {}
            }
        }
        if !waits.wait().await {
            break;
        }
    }
    Err(Error::failed(format!(
        "alias `{ALIAS}` of `{function}` gives version {version} no share any more"
    ))
    .because("someone else moved it")
    .hint("see what is live (`streambot-deploy status`), then deploy again if it is to be yours"))
}

/// How often something is looked at that does not tell what it should.
const LOOKS: u32 = 5;

struct Watch<'a> {
    aws: &'a Aws,
    client: Client,
    function: &'a str,
    alias: &'a Alias,
    new: &'a str,
    values: &'a StackValues,
    since: Timestamp,
}

/// The alarms of the stack that a canary minds.
#[derive(Debug, Default)]
struct Alarms {
    errors: Option<MetricAlarm>,
    age: Option<MetricAlarm>,
}

impl Watch<'_> {
    async fn verdict(&self, canary: &Canary) -> Result<Verdict> {
        let names = self.alarm_names().await?;
        let before = self.alarms(&names).await?;
        let age_limit =
            before.age.as_ref().filter(|alarm| !rings(alarm)).and_then(MetricAlarm::threshold);
        let mut told = before.errors.as_ref().is_some_and(rings);
        let mut failures = 0;
        loop {
            let looked = tokio::try_join!(
                self.numbers(self.new),
                self.numbers(&self.alias.version),
                self.alarms(&names)
            );
            let elapsed =
                Duration::try_from(self.since.duration_until(Timestamp::now())).unwrap_or_default();
            let left = (canary.time + canary.delay()).saturating_sub(elapsed);
            match looked {
                Ok((new, old, alarms)) => {
                    failures = 0;
                    let verdict = judge(canary, &Sight { new, old, age_limit, elapsed });
                    if verdict != Verdict::Wait {
                        return Ok(verdict);
                    }
                    if alarms.errors.as_ref().is_some_and(rings) && !told {
                        told = true;
                        progress::warn(format!(
                            "ErrorAlarm rings; version {} has no more failures than the old one",
                            self.new
                        ));
                    }
                    progress::say(format!(
                        "version {}: {} invocations, {} errors, {} with a record undone; {} s left",
                        self.new,
                        new.invocations,
                        new.errors,
                        new.failed,
                        left.as_secs()
                    ));
                }
                // A look that fails is not the version's fault; several in a row are no watch.
                Err(error) => {
                    failures += 1;
                    if failures == LOOKS {
                        return Err(error);
                    }
                    progress::warn(error.in_one_line());
                }
            }
            tokio::time::sleep(left.min(INTERVAL).min(canary.time / 4)).await;
        }
    }

    /// The names of the stack's alarms on errors and on iterator age.
    async fn alarm_names(&self) -> Result<Vec<(&'static str, String)>> {
        let stack = self.values.outputs.child();
        let client = aws_sdk_cloudformation::Client::new(&self.aws.config);
        let resources = crate::stack::resources(&client, stack).await?;
        let prefix = &self.values.prefix;
        let alarms = ["ErrorAlarm", "IteratorAgeAlarm"].into_iter();
        let name = |key: &'static str| {
            let logical = format!("{prefix}{key}");
            resources
                .iter()
                .find(|(name, _)| *name == logical)
                .map(|(_, physical)| (key, physical.clone()))
        };
        Ok(alarms.filter_map(name).collect())
    }

    async fn alarms(&self, names: &[(&'static str, String)]) -> Result<Alarms> {
        if names.is_empty() {
            return Ok(Alarms::default());
        }
        let request = self
            .client
            .describe_alarms()
            .set_alarm_names(Some(names.iter().map(|(_, name)| name.clone()).collect()));
        let answer =
            request.send().await.map_err(|error| failed("reading the stack's alarms", error))?;
        let alarm = |key: &str| {
            let name = names.iter().find(|(known, _)| *known == key).map(|(_, name)| name.as_str());
            answer.metric_alarms().iter().find(|alarm| alarm.alarm_name() == name).cloned()
        };
        Ok(Alarms { errors: alarm("ErrorAlarm"), age: alarm("IteratorAgeAlarm") })
    }

    /// What a version did since the canary began.
    async fn numbers(&self, version: &str) -> Result<Numbers> {
        let of_lambda = |name: &str| {
            let resource = format!("{}:{ALIAS}", self.function);
            let dimensions = [
                ("FunctionName", self.function),
                ("Resource", &resource),
                ("ExecutedVersion", version),
            ];
            metric("AWS/Lambda", name, &dimensions)
        };
        let metric_name =
            self.values.outputs.get(&self.values.prefix, "MetricName").unwrap_or(self.function);
        let failed_ones =
            metric("streambot", metric_name, &[("Status", "Error"), ("ExecutedVersion", version)]);
        let queries = [
            query("invocations", of_lambda("Invocations"), "Sum"),
            query("errors", of_lambda("Errors"), "Sum"),
            query("failed", failed_ones, "Sum"),
            query("age", of_lambda("IteratorAge"), "Maximum"),
        ];
        // Whole minutes are what CloudWatch counts by; none of the version's own are from before.
        let start = self.since.as_second().div_euclid(60) * 60;
        let end = Timestamp::now().as_second() + 60;
        let pages = self
            .client
            .get_metric_data()
            .set_metric_data_queries(Some(queries.into()))
            .start_time(DateTime::from_secs(start))
            .end_time(DateTime::from_secs(end))
            .into_paginator()
            .send();
        let pages = pages.collect::<Result<Vec<_>, _>>().await;
        let pages = pages
            .map_err(|error| failed(format!("reading the metrics of version {version}"), error))?;
        let values = |id: &str| {
            let results = pages.iter().flat_map(|page| page.metric_data_results());
            results
                .filter(|result| result.id() == Some(id))
                .flat_map(|result| result.values().to_vec())
                .collect::<Vec<f64>>()
        };
        Ok(Numbers {
            invocations: values("invocations").iter().sum(),
            errors: values("errors").iter().sum(),
            failed: values("failed").iter().sum(),
            iterator_age: values("age").into_iter().reduce(f64::max),
        })
    }

    /// Gives one version all batches.
    async fn point(&self, version: &str) -> Result<()> {
        alias::move_to(self.aws, self.function, self.alias, version).await?;
        progress::say(format!("version {version} of `{}` gets all batches", self.function));
        Ok(())
    }
}

fn rings(alarm: &MetricAlarm) -> bool {
    alarm.state_value() == Some(&StateValue::Alarm)
}

fn metric(namespace: &str, name: &str, dimensions: &[(&str, &str)]) -> Metric {
    let dimension =
        |(name, value): &(&str, &str)| Dimension::builder().name(*name).value(*value).build();
    let dimensions = dimensions.iter().map(dimension).collect();
    Metric::builder()
        .namespace(namespace)
        .metric_name(name)
        .set_dimensions(Some(dimensions))
        .build()
}

fn query(id: &str, metric: Metric, statistic: &str) -> MetricDataQuery {
    let statistic = MetricStat::builder().metric(metric).period(60).stat(statistic).build();
    MetricDataQuery::builder().id(id).metric_stat(statistic).build()
}
