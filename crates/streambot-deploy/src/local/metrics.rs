//! The metrics a function emits: lines of CloudWatch's embedded metric format among what it prints,
//! summed up. It refuses to know where the lines come from and what the metrics mean.
//!
//! <https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html>

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Number};

/// Every metric by its name.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(transparent)]
pub(crate) struct Metrics(BTreeMap<String, Metric>);

/// The values of one metric, over all its dimensions.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Metric {
    /// Their sum.
    #[serde(serialize_with = "as_written")]
    pub(crate) total: f64,
    /// How many there were.
    pub(crate) count: u64,
    /// The largest.
    #[serde(serialize_with = "as_written")]
    pub(crate) maximum: f64,
    /// CloudWatch's word for what is measured, such as `Count` or `Milliseconds`.
    pub(crate) unit: String,
}

/// One value of a metric.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Value {
    /// The metric's name.
    pub(crate) name: String,
    /// What is measured, by CloudWatch's word.
    pub(crate) unit: String,
    /// The value.
    pub(crate) value: f64,
}

#[derive(Deserialize)]
struct Metadata {
    #[serde(rename = "CloudWatchMetrics", default)]
    directives: Vec<Directive>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Directive {
    metrics: Vec<Definition>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Definition {
    name: String,
    #[serde(default)]
    unit: Option<String>,
}

/// The values in a line. `None` when the line carries no metrics.
pub(crate) fn values(line: &str) -> Option<Vec<Value>> {
    if !line.starts_with('{') || !line.contains("\"_aws\"") {
        return None;
    }
    let mut fields: Map<String, serde_json::Value> = serde_json::from_str(line).ok()?;
    let metadata: Metadata = serde_json::from_value(fields.remove("_aws")?).ok()?;
    let mut values = Vec::new();
    for Definition { name, unit } in
        metadata.directives.into_iter().flat_map(|directive| directive.metrics)
    {
        // Taken out, because a name in two directives is one value with two sets of dimensions.
        let found = match fields.remove(&name) {
            Some(serde_json::Value::Array(found)) => found,
            Some(found) => vec![found],
            None => continue,
        };
        let unit = unit.unwrap_or_else(|| "None".to_owned());
        let value = |value| Value { name: name.clone(), unit: unit.clone(), value };
        values.extend(found.iter().filter_map(serde_json::Value::as_f64).map(value));
    }
    Some(values)
}

impl Metrics {
    /// Adds a value.
    pub(crate) fn add(&mut self, value: &Value) {
        match self.0.entry(value.name.clone()) {
            Entry::Occupied(entry) => {
                let metric = entry.into_mut();
                metric.total += value.value;
                metric.count += 1;
                metric.maximum = metric.maximum.max(value.value);
            }
            Entry::Vacant(entry) => {
                let Value { unit, value, .. } = value.clone();
                entry.insert(Metric { total: value, count: 1, maximum: value, unit });
            }
        }
    }

    /// The metrics in the order of their names.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Metric)> {
        self.0.iter().map(|(name, metric)| (name.as_str(), metric))
    }
}

/// A whole number without decimals.
pub(crate) fn number(value: f64) -> Option<Number> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if value.fract() == 0.0 && value.abs() < EXACT {
        Some(Number::from(value as i64))
    } else {
        Number::from_f64(value)
    }
}

fn as_written<S: serde::Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    number(*value).serialize(serializer)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const LINE: &str = r#"{"_aws":{"Timestamp":1,"CloudWatchMetrics":[
        {"Namespace":"streambot","Dimensions":[["Status"]],"Metrics":[{"Name":"Alerts","Unit":"Count"}]},
        {"Namespace":"streambot","Dimensions":[["StackName"]],"Metrics":[{"Name":"Alerts","Unit":"Count"},
            {"Name":"Duration","Unit":"Milliseconds"},{"Name":"Missing"}]}]},
        "level":"INFO","Status":"Success","Alerts":2,"Duration":[1.5,3]}"#;

    #[test]
    fn values_are_summed_over_lines_and_counted_once_a_line() {
        let mut metrics = Metrics::default();
        for value in [LINE, LINE].into_iter().flat_map(|line| values(line).unwrap()) {
            metrics.add(&value);
        }
        let json = serde_json::to_string(&metrics).unwrap();
        assert_eq!(
            json,
            concat!(
                r#"{"Alerts":{"total":4,"count":2,"maximum":2,"unit":"Count"},"#,
                r#""Duration":{"total":9,"count":4,"maximum":3,"unit":"Milliseconds"}}"#
            )
        );
    }

    #[test]
    fn other_lines_are_left_alone() {
        for line in ["alert", "{}", r#"{"_aws":1}"#, r#"{"message":"\"_aws\""}"#, r#"{"_aws":"#, ""]
        {
            assert_eq!(values(line), None, "{line}");
        }
    }
}
