//! The settings of `[package.metadata.streambot]`, of an environment and of the command line, laid
//! over each other. It refuses to know which package they are of, and what they mean.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{EventSource, Origin, SettingsFlags};
use crate::error::{Error, Result};
use crate::function::FunctionSettings;

/// What an entry of `event-source` says of its stream.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
struct OriginSettings {
    /// ARN of a stream, or of a consumer of one.
    stream: Option<String>,
    /// Prefix of a Streambot in the service's stack.
    prefix: Option<String>,
}

/// Settings of the stack that the service belongs to.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub(super) struct StackSettings {
    /// The prefix of the service's Streambot in a template of several.
    pub(super) prefix: Option<String>,
}

const TABLE: &str = "package.metadata.streambot";

/// The settings of a manifest as it has them: those for all environments, and those of each one.
/// Every layer was read once on its own, so a mistake is told where it stands, even one in an
/// environment that is not being deployed.
#[derive(Debug)]
pub(super) struct Layers {
    base: Map<String, Value>,
    environments: Map<String, Value>,
}

impl Layers {
    pub(super) fn read(metadata: &Value, file: &str) -> Result<Self> {
        let mut base = match metadata.get("streambot") {
            None | Some(Value::Null) => Map::new(),
            Some(Value::Object(table)) => table.clone(),
            Some(_) => return Err(not_a_table(TABLE, file)),
        };
        let environments = match base.remove("environments") {
            None => Map::new(),
            Some(Value::Object(table)) => table,
            Some(_) => return Err(not_a_table(&format!("{TABLE}.environments"), file)),
        };
        read_layer(&base, TABLE, file)?;
        for (name, layer) in &environments {
            let table = format!("{TABLE}.environments.{name}");
            match layer {
                Value::Object(layer) => read_layer(layer, &table, file)?,
                _ => return Err(not_a_table(&table, file)),
            };
        }
        Ok(Self { base, environments })
    }

    /// The settings that hold for `environment` once `flags` have won over the manifest. An
    /// environment's table `event-source` is laid over every entry below it, as flags are; its list
    /// of tables takes their place.
    pub(super) fn settings(
        self,
        environment: Option<&str>,
        flags: &SettingsFlags,
    ) -> Result<ServiceSettings> {
        let mut merged = self.base;
        let mut sources = entries(merged.remove(EVENT_SOURCE));
        if let Some(Value::Object(layer)) = environment.and_then(|name| self.environments.get(name))
        {
            let mut layer = layer.clone();
            match layer.remove(EVENT_SOURCE) {
                Some(Value::Array(list)) => sources = list,
                Some(table) => lay_over_each(&mut sources, &table),
                None => {}
            }
            lay_over(&mut merged, Value::Object(layer));
        }
        lay_over_each(&mut sources, &to_json(&flags.event_source)?);
        lay_over(&mut merged, to_json(&flags.function)?);
        merged.insert(EVENT_SOURCE.to_owned(), Value::Array(sources));
        read_layer(&merged, TABLE, "the settings of flags and manifest")
    }
}

const EVENT_SOURCE: &str = "event-source";
const PREFIX: &str = "prefix";

/// The settings of the function, of its event source mappings and of the stack.
pub(super) struct ServiceSettings {
    pub(super) function: FunctionSettings,
    pub(super) event_sources: Vec<EventSource>,
    pub(super) stack: StackSettings,
}

/// `event-source` as a list: one table is a list of one, and none is one without settings.
fn entries(event_source: Option<Value>) -> Vec<Value> {
    match event_source {
        None => vec![Value::Object(Map::new())],
        Some(Value::Array(list)) => list,
        Some(table) => vec![table],
    }
}

fn lay_over(below: &mut Map<String, Value>, above: Value) {
    if let Value::Object(above) = above {
        for (key, value) in above {
            merge(below.entry(key).or_insert(Value::Null), value);
        }
    }
}

fn lay_over_each(entries: &mut [Value], above: &Value) {
    for entry in entries {
        merge(entry, above.clone());
    }
}

/// Reads one layer into the typed settings.
fn read_layer(layer: &Map<String, Value>, table: &str, file: &str) -> Result<ServiceSettings> {
    let mut function = layer.clone();
    let stack = function.remove_entry(PREFIX).into_iter().collect::<Map<_, _>>();
    let list = entries(function.remove(EVENT_SOURCE));
    if list.is_empty() {
        return Err(Error::usage(format!(
            "`{EVENT_SOURCE}` in [{table}] of {file} is an empty list"
        ))
        .hint("leave it out for the stack's own stream, or name one"));
    }
    let several = list.len() > 1;
    let mut event_sources: Vec<EventSource> = Vec::new();
    for (index, entry) in list.into_iter().enumerate() {
        let place = match several {
            true => format!("{table}.{EVENT_SOURCE}[{index}]"),
            false => format!("{table}.{EVENT_SOURCE}"),
        };
        let source = read_event_source(entry, &place, file)?;
        if event_sources.iter().any(|known| known.origin == source.origin) {
            return Err(Error::usage(format!(
                "[{place}] of {file} is a second one for {}",
                source.origin.name()
            ))
            .hint(
                "give each of several event sources a `stream` (an ARN) or a `prefix` of its own",
            ));
        }
        event_sources.push(source);
    }
    Ok(ServiceSettings {
        function: from_json(Value::Object(function), table, file)?,
        event_sources,
        stack: from_json(Value::Object(stack), table, file)?,
    })
}

fn read_event_source(mut entry: Value, table: &str, file: &str) -> Result<EventSource> {
    if entry.get("function-response-types").is_some() {
        return Err(Error::usage(format!(
            "`function-response-types` in [{table}] of {file} cannot be set"
        ))
        .hint(
            "leave it out: Streambot always sets ReportBatchItemFailures, \
             because without it Lambda loses the records a function reports as failed",
        ));
    }
    let mut origin = Map::new();
    if let Value::Object(entry) = &mut entry {
        origin.extend(["stream", PREFIX].into_iter().filter_map(|key| entry.remove_entry(key)));
    }
    let OriginSettings { stream, prefix } = from_json(Value::Object(origin), table, file)?;
    let origin = match (stream, prefix) {
        (None, None) => Origin::Stack,
        (None, Some(prefix)) => Origin::Prefix(prefix),
        (Some(arn), None) if arn.split(':').nth(2) == Some("kinesis") => Origin::Arn(arn),
        (Some(arn), None) => {
            return Err(Error::usage(format!("`stream` in [{table}] of {file} is {arn}"))
                .hint("it is the ARN of a Kinesis stream, or of a consumer of one"));
        }
        (Some(_), Some(_)) => {
            return Err(Error::usage(format!("[{table}] of {file} has a `stream` and a `prefix`"))
                .hint("name the stream by one of them"));
        }
    };
    Ok(EventSource { origin, settings: from_json(entry, table, file)? })
}

fn from_json<T: DeserializeOwned>(value: Value, table: &str, file: &str) -> Result<T> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let key = error.path().to_string();
        let place = if key == "." { format!("[{table}]") } else { format!("`{key}` in [{table}]") };
        Error::usage(format!("{place} of {file}")).because(error.into_inner())
    })
}

fn to_json(settings: &impl Serialize) -> Result<Value> {
    serde_json::to_value(settings)
        .map_err(|error| Error::failed("reading the settings given as flags").because(error))
}

fn not_a_table(table: &str, file: &str) -> Error {
    Error::usage(format!("`{table}` of {file} is no table")).hint(format!("write it as [{table}]"))
}

/// Lays `above` over `below`: tables are merged key by key, anything else is replaced.
fn merge(below: &mut Value, above: Value) {
    match (below, above) {
        (Value::Object(below), Value::Object(above)) => {
            for (key, value) in above {
                merge(below.entry(key).or_insert(Value::Null), value);
            }
        }
        (below, above) => *below = above,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use clap::{CommandFactory as _, Parser};
    use serde_json::json;

    use super::*;
    use crate::event_source::EventSourceSettings;

    #[derive(Debug, Parser)]
    struct Flags {
        #[command(flatten)]
        flags: SettingsFlags,
    }

    fn flags(flags: &str) -> SettingsFlags {
        Flags::try_parse_from(std::iter::once("test").chain(flags.split_whitespace()))
            .unwrap()
            .flags
    }

    fn settings(
        metadata: Value,
        environment: Option<&str>,
        given: &str,
    ) -> (FunctionSettings, EventSourceSettings) {
        let metadata = json!({ "streambot": metadata });
        let layers = Layers::read(&metadata, "Cargo.toml").unwrap();
        let settings = layers.settings(environment, &flags(given)).unwrap();
        let [event_source] = &settings.event_sources[..] else {
            panic!("{:?}", settings.event_sources)
        };
        (settings.function, event_source.settings.clone())
    }

    fn refused(metadata: Value) -> String {
        let error = Layers::read(&json!({ "streambot": metadata }), "Cargo.toml").unwrap_err();
        assert_eq!(error.exit_code(), 2);
        error.report()
    }

    #[test]
    fn a_service_without_settings_has_1_0s_defaults() {
        let metadata = Layers::read(&Value::Null, "Cargo.toml").unwrap();
        let settings = metadata.settings(Some("staging"), &SettingsFlags::default()).unwrap();
        assert_eq!(settings.stack.prefix, None);
        assert_eq!((settings.function.memory(), settings.function.timeout()), (128, 60));
        let [EventSource { origin: Origin::Stack, settings }] = &settings.event_sources[..] else {
            panic!()
        };
        assert_eq!(settings.batch_size(), 100);
    }

    #[test]
    fn flags_win_over_the_environment_and_it_wins_over_the_base_key_by_key() {
        let metadata = json!({
            "memory": 256,
            "timeout": 10,
            "event-source": { "batch-size": 5, "parallelization-factor": 2, "filter-patterns": ["{}"] },
            "environments": {
                "production": { "memory": 512, "event-source": { "batch-size": 50, "filter-patterns": [] } },
            },
        });
        let (function, event_source) =
            settings(metadata.clone(), Some("production"), "--timeout 20 --batch-size 70");
        assert_eq!((function.memory(), function.timeout()), (512, 20));
        assert_eq!((event_source.batch_size(), event_source.parallelization_factor()), (70, 2));
        assert!(event_source.filter_patterns().is_empty());

        for other in [None, Some("staging")] {
            let (function, event_source) = settings(metadata.clone(), other, "");
            assert_eq!(
                (function.memory(), function.timeout(), event_source.batch_size()),
                (256, 10, 5)
            );
        }
    }

    fn sources(metadata: Value, environment: Option<&str>, given: &str) -> Vec<(Origin, u32, u32)> {
        let layers = Layers::read(&json!({ "streambot": metadata }), "Cargo.toml").unwrap();
        let sources = layers.settings(environment, &flags(given)).unwrap().event_sources;
        let told = |EventSource { origin, settings }: EventSource| {
            (origin, settings.batch_size(), settings.parallelization_factor())
        };
        sources.into_iter().map(told).collect()
    }

    #[test]
    fn several_streams_are_a_list_and_an_environment_or_a_flag_holds_for_each() {
        const STREAM: &str = "arn:aws:kinesis:us-east-1:123456789012:stream/payments";
        let metadata = json!({
            "event-source": [{ "prefix": "Orders", "batch-size": 5 }, { "stream": STREAM }],
            "environments": {
                "production": { "event-source": { "parallelization-factor": 2 } },
                "small": { "event-source": [{ "batch-size": 1 }] },
            },
        });
        let (orders, payments) =
            (Origin::Prefix("Orders".to_owned()), Origin::Arn(STREAM.to_owned()));
        assert_eq!(
            sources(metadata.clone(), None, ""),
            [(orders.clone(), 5, 1), (payments.clone(), 100, 1)]
        );
        assert_eq!(
            sources(metadata.clone(), Some("production"), "--batch-size 7"),
            [(orders, 7, 2), (payments, 7, 2)]
        );
        assert_eq!(sources(metadata, Some("small"), ""), [(Origin::Stack, 1, 1)]);
    }

    #[test]
    fn an_event_source_that_names_no_stream_of_its_own_is_refused() {
        for (wrong, said) in [
            (json!([{}, {}]), "is a second one for the stack's own"),
            (
                json!([{ "prefix": "A" }, { "prefix": "A" }]),
                "[package.metadata.streambot.event-source[1]]",
            ),
            (json!({ "stream": "quakes" }), "it is the ARN of a Kinesis stream"),
            (
                json!({ "stream": "arn:aws:kinesis:r:1:stream/s", "prefix": "A" }),
                "name the stream by one of them",
            ),
            (json!([]), "is an empty list"),
            (
                json!([{ "batch-size": 1 }, { "stream": "arn:aws:kinesis:r:1:stream/s", "batch-size": 0 }]),
                "event-source[1]",
            ),
        ] {
            let report = refused(json!({ "event-source": wrong }));
            assert!(report.contains(said), "{report}");
        }
    }

    #[test]
    fn a_prefix_is_the_manifests_and_an_environment_may_have_another() {
        let prefix = |environment| {
            let metadata = json!({ "streambot": {
                "memory": 128, "prefix": "Orders", "environments": { "production": { "prefix": "Live" } },
            } });
            let layers = Layers::read(&metadata, "Cargo.toml").unwrap();
            layers.settings(environment, &SettingsFlags::default()).unwrap().stack.prefix.unwrap()
        };
        assert_eq!(
            (prefix(None).as_str(), prefix(Some("production")).as_str()),
            ("Orders", "Live")
        );
        assert!(
            refused(json!({ "prefix": 1 }))
                .contains("`prefix` in [package.metadata.streambot] of Cargo.toml")
        );
    }

    #[test]
    fn every_manifest_key_has_a_flag_of_its_name() {
        let (function, event_source) = settings(
            json!({
                "memory": 128, "timeout": 60, "architecture": "arm64", "include": ["a"], "description": "d",
                "role": "arn", "ephemeral-storage": 512, "environment-variables": {}, "kms-key-arn": "arn",
                "layers": [], "subnet-ids": [], "security-group-ids": [], "ipv6-allowed-for-dual-stack": true,
                "tracing": "Active", "log-format": "JSON", "application-log-level": "INFO",
                "system-log-level": "WARN", "log-group": "g", "log-retention-days": 7, "tags": {},
                "keep-versions": 3,
                "event-source": {
                    "batch-size": 1, "maximum-batching-window-in-seconds": 0, "parallelization-factor": 1,
                    "starting-position": "AT_TIMESTAMP", "starting-position-timestamp": "2026-11-22T18:00:00Z",
                    "maximum-retry-attempts": -1, "maximum-record-age-in-seconds": -1,
                    "bisect-batch-on-function-error": true, "tumbling-window-in-seconds": 0,
                    "on-failure": "arn", "filter-patterns": ["{}"], "metrics": ["EventCount"], "kms-key-arn": "arn",
                    "enabled": true,
                },
            }),
            None,
            "",
        );
        let keys =
            |settings: Value| settings.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        // A list's flag is given once for each of its values.
        const LISTS: [&str; 7] = [
            "environment-variables",
            "layers",
            "subnet-ids",
            "security-group-ids",
            "tags",
            "filter-patterns",
            "metrics",
        ];
        let flag = |key: String| match LISTS.contains(&key.as_str()) {
            true => key.trim_end_matches('s').to_owned(),
            false => key,
        };
        let of_event_source = keys(to_json(&event_source).unwrap()).into_iter();
        // Both have a key of this name, and flags stand side by side.
        let of_event_source =
            of_event_source.map(|key| key.replace("kms-key-arn", "filter-kms-key-arn"));
        let mut keys: Vec<String> = keys(to_json(&function).unwrap())
            .into_iter()
            .chain(of_event_source)
            .map(flag)
            .collect();
        let mut flags: Vec<String> = Flags::command()
            .get_arguments()
            .filter_map(|flag| flag.get_long().map(str::to_owned))
            .collect();
        keys.sort();
        flags.sort();
        assert_eq!(keys, flags);
    }

    #[test]
    fn a_mistake_is_told_where_it_stands_even_in_another_environment() {
        let report = refused(
            json!({ "environments": { "other": { "event-source": { "batch-size": 0 } } } }),
        );
        assert!(
            report
                .contains("`batch-size` in [package.metadata.streambot.environments.other.event-source] of Cargo.toml"),
            "{report}"
        );
        assert!(
            report.contains("0 is not allowed: it must be a whole number from 1 to 10000"),
            "{report}"
        );
        assert!(
            refused(json!({ "environments": { "other": { "environments": {} } } }))
                .contains("`environments` in")
        );
        assert!(refused(json!({ "environments": { "other": 1 } })).contains("is no table"));
        assert!(refused(json!({ "environments": 1 })).contains("is no table"));
        assert!(refused(json!(1)).contains("is no table"));
        assert!(
            refused(json!({ "event-source": 1 }))
                .contains("[package.metadata.streambot.event-source] of Cargo.toml")
        );
    }
}
