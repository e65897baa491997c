//! Which service this is: Cargo's metadata and `[package.metadata.streambot]`, layered with an environment's own settings and
//! the command line's into one [`Service`]. It refuses to know AWS and what the settings are used for.

use std::path::{Path, PathBuf};

use cargo_metadata::{Metadata, MetadataCommand, Package};
use clap::Args;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::event_source::EventSourceSettings;
use crate::function::FunctionSettings;

/// Which service is meant and how it is built, alike for every verb that builds.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Service")]
pub(crate) struct ServiceArguments {
    #[command(flatten)]
    pub(crate) package: PackageArguments,

    /// Binary of the package to use [default: the package's default-run, or its only one]
    #[arg(long, value_name = "NAME")]
    pub(crate) bin: Option<String>,

    /// Cargo profile to build with [default: release, or dev for `local`]
    #[arg(long, value_name = "NAME")]
    pub(crate) profile: Option<String>,
}

/// Which package is the service.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Service")]
pub(crate) struct PackageArguments {
    /// The service's Cargo.toml [default: the nearest one, from this folder upwards]
    #[arg(long, value_name = "PATH")]
    pub(crate) manifest_path: Option<PathBuf>,

    /// Package of the workspace to use [default: the manifest's own, or the only one with a binary]
    #[arg(short, long, value_name = "NAME")]
    pub(crate) package: Option<String>,
}

/// Settings given on the command line; they win over the manifest's.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct SettingsFlags {
    #[command(flatten, next_help_heading = "Function")]
    pub(crate) function: FunctionSettings,

    #[command(flatten, next_help_heading = "Event source mapping")]
    pub(crate) event_source: EventSourceSettings,
}

/// A Cargo package that is a Streambot service, with the settings that hold for one environment.
#[derive(Debug, Clone)]
pub(crate) struct Service {
    /// The package's name.
    pub(crate) name: String,
    /// The package's description, which becomes the function's; empty where it has none.
    pub(crate) description: String,
    /// Absolute path of the package's Cargo.toml.
    pub(crate) manifest_path: PathBuf,
    /// Folder of the package: `.env`, `build/` and included files live here.
    pub(crate) package_root: PathBuf,
    /// Name of the binary target that becomes the function's `bootstrap`.
    pub(crate) bin: String,
    /// Where Cargo puts what it builds.
    pub(crate) target_directory: PathBuf,
    /// Settings of the function and its bundle.
    pub(crate) function: FunctionSettings,
    /// The streams the function consumes, at least one, each with the settings of its event source mapping.
    pub(crate) event_sources: Vec<EventSource>,
    /// What stands before the names of the stack's outputs, where its template holds several Streambots; empty where not.
    pub(crate) prefix: String,
}

/// A stream that the function consumes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct EventSource {
    /// Which one.
    pub(crate) origin: Origin,
    /// Settings of its event source mapping.
    pub(crate) settings: EventSourceSettings,
}

/// Where the ARN of a stream comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The service's own Streambot in its stack.
    Stack,
    /// The Streambot with this prefix in the service's stack.
    Prefix(String),
    /// This stream, or consumer of one.
    Arn(String),
}

impl Origin {
    /// The name that tells an event source from the others.
    fn name(&self) -> &str {
        match self {
            Self::Stack => "the stack's own",
            Self::Prefix(name) | Self::Arn(name) => name,
        }
    }
}

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
struct StackSettings {
    /// The prefix of the service's Streambot in a template of several.
    prefix: Option<String>,
}

impl Service {
    /// Finds the service and layers its settings: `[package.metadata.streambot]`, then
    /// `[package.metadata.streambot.environments.<environment>]`, then `flags`; a later one wins.
    ///
    /// # Errors
    /// Bad usage where there is no such package or binary, where the choice is not clear, and where a setting is unknown or
    /// out of its range: the error names the key, the file and what is allowed.
    pub(crate) fn load(arguments: &ServiceArguments, environment: Option<&str>, flags: &SettingsFlags) -> Result<Self> {
        let manifest_path = find_manifest(arguments.package.manifest_path.as_deref())?;
        let metadata = MetadataCommand::new().manifest_path(&manifest_path).no_deps().exec().map_err(|error| {
            Error::usage(format!("reading the package of {}", manifest_path.display())).because(error)
        })?;
        let package = choose_package(&metadata, &manifest_path, arguments.package.package.as_deref())?;
        let bin = choose_bin(package, arguments.bin.as_deref())?;
        let ServiceSettings { function, event_sources, stack } =
            Layers::read(&package.metadata, package.manifest_path.as_str())?.settings(environment, flags)?;
        function.check()?;
        for event_source in &event_sources {
            event_source.settings.check()?;
        }

        let manifest_path = package.manifest_path.clone().into_std_path_buf();
        Ok(Self {
            name: package.name.to_string(),
            description: package.description.clone().unwrap_or_default(),
            package_root: manifest_path.parent().map(Path::to_path_buf).unwrap_or_default(),
            manifest_path,
            bin,
            target_directory: metadata.target_directory.into_std_path_buf(),
            function,
            event_sources,
            prefix: stack.prefix.unwrap_or_default(),
        })
    }

    /// The event source that is named, by its prefix or ARN; without a name, the only one.
    ///
    /// # Errors
    /// Bad usage where there is none of that name, or several and none is named.
    pub(crate) fn event_source(&self, named: Option<&str>) -> Result<&EventSource> {
        let found = match (named, &self.event_sources[..]) {
            (None, [only]) => Some(only),
            (None, _) => None,
            (Some(name), all) => all.iter().find(|source| source.origin.name() == name),
        };
        found.ok_or_else(|| {
            let names: Vec<_> = self.event_sources.iter().map(|source| source.origin.name()).collect();
            let message = match named {
                Some(name) => format!("service `{}` has no event source `{name}`", self.name),
                None => format!("service `{}` has {} event sources", self.name, names.len()),
            };
            Error::usage(message).hint(format!("choose one with --event-source: {}", names.join(", ")))
        })
    }

    /// `<package name>-<environment>`, the name of the service's stack and of its function.
    ///
    /// # Errors
    /// Bad usage where CloudFormation or Lambda refuse such a name: a stack's name is up to 128 letters, digits and hyphens and
    /// starts with a letter, a function's is up to 64 characters.
    pub(crate) fn stack_name(&self, environment: &str) -> Result<String> {
        stack_name(&self.name, environment)
    }
}

fn stack_name(package: &str, environment: &str) -> Result<String> {
    let name = format!("{package}-{environment}");
    let starts_well = name.starts_with(|first: char| first.is_ascii_alphabetic());
    let allowed = |character: char| character.is_ascii_alphanumeric() || character == '-';
    if environment.is_empty() || !starts_well || !name.chars().all(allowed) {
        return Err(Error::usage(format!("the stack's name would be `{name}`, which CloudFormation refuses"))
            .hint("package and environment may hold letters, digits and hyphens, and start with a letter"));
    }
    if name.len() > 64 {
        return Err(Error::usage(format!("the function's name would be `{name}`, {} characters long", name.len()))
            .hint("Lambda allows 64: shorten the package's or the environment's name"));
    }
    Ok(name)
}

/// The manifest named, or the nearest one from the working directory upwards.
fn find_manifest(named: Option<&Path>) -> Result<PathBuf> {
    if let Some(path) = named {
        return path.canonicalize().map_err(|error| {
            Error::usage(format!("reading the manifest {}", path.display()))
                .because(error)
                .hint("--manifest-path is the path of a Cargo.toml")
        });
    }
    let here =
        std::env::current_dir().map_err(|error| Error::failed("finding the working directory").because(error))?;
    here.ancestors().map(|folder| folder.join("Cargo.toml")).find(|manifest| manifest.is_file()).ok_or_else(|| {
        Error::usage(format!("no Cargo.toml in {} or above it", here.display()))
            .hint("run this in the service's folder, or give --manifest-path")
    })
}

fn choose_package<'a>(metadata: &'a Metadata, manifest_path: &Path, named: Option<&str>) -> Result<&'a Package> {
    let packages = metadata.workspace_packages();
    if let Some(name) = named {
        return packages.into_iter().find(|package| package.name.as_str() == name).ok_or_else(|| {
            Error::usage(format!("no package `{name}` in {}", metadata.workspace_root))
                .hint(format!("its packages are: {}", package_names(metadata, |_| true)))
        });
    }
    let own = packages.iter().find(|package| same_file(package.manifest_path.as_std_path(), manifest_path));
    if let Some(package) = own {
        return Ok(package);
    }
    let runnable: Vec<_> = packages.into_iter().filter(|package| has_bin(package)).collect();
    match runnable.as_slice() {
        [package] => Ok(package),
        [] => Err(Error::usage(format!("{} has no package with a binary", manifest_path.display()))
            .hint("a service is a package with a `src/main.rs`")),
        _ => Err(Error::usage(format!("{} has more than one package with a binary", manifest_path.display()))
            .hint(format!("choose one with --package: {}", package_names(metadata, has_bin)))),
    }
}

fn same_file(one: &Path, other: &Path) -> bool {
    one == other || one.canonicalize().is_ok_and(|one| one == other)
}

fn has_bin(package: &Package) -> bool {
    package.targets.iter().any(cargo_metadata::Target::is_bin)
}

fn package_names(metadata: &Metadata, keep: impl Fn(&Package) -> bool) -> String {
    let mut names: Vec<_> = metadata
        .workspace_packages()
        .into_iter()
        .filter(|package| keep(package))
        .map(|package| package.name.to_string())
        .collect();
    names.sort();
    names.join(", ")
}

fn choose_bin(package: &Package, named: Option<&str>) -> Result<String> {
    let bins: Vec<&str> =
        package.targets.iter().filter(|target| target.is_bin()).map(|target| target.name.as_str()).collect();
    if let Some(name) = named.or(package.default_run.as_deref()) {
        return match bins.iter().find(|bin| **bin == name) {
            Some(bin) => Ok((*bin).to_owned()),
            None => Err(Error::usage(format!("package `{}` has no binary `{name}`", package.name))
                .hint(format!("its binaries are: {}", bins.join(", ")))),
        };
    }
    match bins.as_slice() {
        [bin] => Ok((*bin).to_owned()),
        [] => Err(Error::usage(format!("package `{}` has no binary", package.name))
            .hint("a service is a package with a `src/main.rs`")),
        _ => Err(Error::usage(format!("package `{}` has more than one binary", package.name))
            .hint(format!("choose one with --bin, or set `default-run`: {}", bins.join(", ")))),
    }
}

const TABLE: &str = "package.metadata.streambot";

/// The settings of a manifest as it has them: those for all environments, and those of each one. Every layer was read once on
/// its own, so a mistake is told where it stands, even one in an environment that is not being deployed.
#[derive(Debug)]
struct Layers {
    base: Map<String, Value>,
    environments: Map<String, Value>,
}

impl Layers {
    fn read(metadata: &Value, file: &str) -> Result<Self> {
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

    /// The settings that hold for `environment` once `flags` have won over the manifest. An environment's table `event-source` is laid
    /// over every entry below it, as flags are; its list of tables takes their place.
    fn settings(self, environment: Option<&str>, flags: &SettingsFlags) -> Result<ServiceSettings> {
        let mut merged = self.base;
        let mut sources = entries(merged.remove(EVENT_SOURCE));
        if let Some(Value::Object(layer)) = environment.and_then(|name| self.environments.get(name)) {
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
struct ServiceSettings {
    function: FunctionSettings,
    event_sources: Vec<EventSource>,
    stack: StackSettings,
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
        return Err(Error::usage(format!("`{EVENT_SOURCE}` in [{table}] of {file} is an empty list"))
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
            return Err(Error::usage(format!("[{place}] of {file} is a second one for {}", source.origin.name()))
                .hint("give each of several event sources a `stream` (an ARN) or a `prefix` of its own"));
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
        return Err(Error::usage(format!("`function-response-types` in [{table}] of {file} cannot be set")).hint(
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
    serde_json::to_value(settings).map_err(|error| Error::failed("reading the settings given as flags").because(error))
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

    #[derive(Debug, Parser)]
    struct Flags {
        #[command(flatten)]
        flags: SettingsFlags,
    }

    fn flags(flags: &str) -> SettingsFlags {
        Flags::try_parse_from(std::iter::once("test").chain(flags.split_whitespace())).unwrap().flags
    }

    fn settings(metadata: Value, environment: Option<&str>, given: &str) -> (FunctionSettings, EventSourceSettings) {
        let metadata = json!({ "streambot": metadata });
        let layers = Layers::read(&metadata, "Cargo.toml").unwrap();
        let settings = layers.settings(environment, &flags(given)).unwrap();
        let [event_source] = &settings.event_sources[..] else { panic!("{:?}", settings.event_sources) };
        (settings.function, event_source.settings.clone())
    }

    fn refused(metadata: Value) -> String {
        let error = Layers::read(&json!({ "streambot": metadata }), "Cargo.toml").unwrap_err();
        assert_eq!(error.exit_code(), 2);
        error.report()
    }

    /// A workspace of packages, each with the names of its binaries.
    fn workspace(packages: &[(&str, &[&str], &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        std::fs::write(root.join("Cargo.toml"), "[workspace]\nresolver = \"3\"\nmembers = [\"*\"]\n").unwrap();
        for (name, bins, keys) in packages {
            let sources = root.join(name).join("src/bin");
            std::fs::create_dir_all(&sources).unwrap();
            let manifest = format!("[package]\nname = \"{name}\"\nedition = \"2024\"\n{keys}\n");
            std::fs::write(root.join(name).join("Cargo.toml"), manifest).unwrap();
            std::fs::write(root.join(name).join("src/lib.rs"), "").unwrap();
            for bin in *bins {
                std::fs::write(sources.join(format!("{bin}.rs")), "fn main() {}").unwrap();
            }
        }
        folder
    }

    fn load(
        workspace: &tempfile::TempDir,
        manifest: &str,
        package: Option<&str>,
        bin: Option<&str>,
    ) -> Result<Service> {
        let arguments = ServiceArguments {
            package: PackageArguments {
                manifest_path: Some(workspace.path().join(manifest)),
                package: package.map(str::to_owned),
            },
            bin: bin.map(str::to_owned),
            profile: None,
        };
        Service::load(&arguments, None, &SettingsFlags::default())
    }

    #[test]
    fn a_service_without_settings_has_1_0s_defaults() {
        let metadata = Layers::read(&Value::Null, "Cargo.toml").unwrap();
        let settings = metadata.settings(Some("staging"), &SettingsFlags::default()).unwrap();
        assert_eq!(settings.stack.prefix, None);
        assert_eq!((settings.function.memory(), settings.function.timeout()), (128, 60));
        let [EventSource { origin: Origin::Stack, settings }] = &settings.event_sources[..] else { panic!() };
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
        let (function, event_source) = settings(metadata.clone(), Some("production"), "--timeout 20 --batch-size 70");
        assert_eq!((function.memory(), function.timeout()), (512, 20));
        assert_eq!((event_source.batch_size(), event_source.parallelization_factor()), (70, 2));
        assert!(event_source.filter_patterns().is_empty());

        for other in [None, Some("staging")] {
            let (function, event_source) = settings(metadata.clone(), other, "");
            assert_eq!((function.memory(), function.timeout(), event_source.batch_size()), (256, 10, 5));
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
        let (orders, payments) = (Origin::Prefix("Orders".to_owned()), Origin::Arn(STREAM.to_owned()));
        assert_eq!(sources(metadata.clone(), None, ""), [(orders.clone(), 5, 1), (payments.clone(), 100, 1)]);
        assert_eq!(sources(metadata.clone(), Some("production"), "--batch-size 7"), [(orders, 7, 2), (payments, 7, 2)]);
        assert_eq!(sources(metadata, Some("small"), ""), [(Origin::Stack, 1, 1)]);
    }

    #[test]
    fn an_event_source_that_names_no_stream_of_its_own_is_refused() {
        for (wrong, said) in [
            (json!([{}, {}]), "is a second one for the stack's own"),
            (json!([{ "prefix": "A" }, { "prefix": "A" }]), "[package.metadata.streambot.event-source[1]]"),
            (json!({ "stream": "quakes" }), "it is the ARN of a Kinesis stream"),
            (json!({ "stream": "arn:aws:kinesis:r:1:stream/s", "prefix": "A" }), "name the stream by one of them"),
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
        assert_eq!((prefix(None).as_str(), prefix(Some("production")).as_str()), ("Orders", "Live"));
        assert!(refused(json!({ "prefix": 1 })).contains("`prefix` in [package.metadata.streambot] of Cargo.toml"));
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
        let keys = |settings: Value| settings.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
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
        let of_event_source = of_event_source.map(|key| key.replace("kms-key-arn", "filter-kms-key-arn"));
        let mut keys: Vec<String> =
            keys(to_json(&function).unwrap()).into_iter().chain(of_event_source).map(flag).collect();
        let mut flags: Vec<String> =
            Flags::command().get_arguments().filter_map(|flag| flag.get_long().map(str::to_owned)).collect();
        keys.sort();
        flags.sort();
        assert_eq!(keys, flags);
    }

    #[test]
    fn a_mistake_is_told_where_it_stands_even_in_another_environment() {
        let report = refused(json!({ "environments": { "other": { "event-source": { "batch-size": 0 } } } }));
        assert!(
            report
                .contains("`batch-size` in [package.metadata.streambot.environments.other.event-source] of Cargo.toml"),
            "{report}"
        );
        assert!(report.contains("0 is not allowed: it must be a whole number from 1 to 10000"), "{report}");
        assert!(refused(json!({ "environments": { "other": { "environments": {} } } })).contains("`environments` in"));
        assert!(refused(json!({ "environments": { "other": 1 } })).contains("is no table"));
        assert!(refused(json!({ "environments": 1 })).contains("is no table"));
        assert!(refused(json!(1)).contains("is no table"));
        assert!(
            refused(json!({ "event-source": 1 })).contains("[package.metadata.streambot.event-source] of Cargo.toml")
        );
    }

    #[test]
    fn a_stack_name_is_package_and_environment_where_aws_allows_it() {
        assert_eq!(stack_name("quakes", "staging").unwrap(), "quakes-staging");
        for (package, environment) in
            [("quakes", ""), ("snake_case", "staging"), ("quakes", "a b"), ("quakes", "é"), ("1quakes", "staging")]
        {
            let error = stack_name(package, environment).unwrap_err();
            assert!(error.to_string().contains("which CloudFormation refuses"), "{error}");
        }
        assert!(stack_name(&"q".repeat(56), "staging").is_ok());
        assert!(stack_name(&"q".repeat(57), "staging").unwrap_err().to_string().contains("65 characters"));
    }

    #[test]
    fn the_package_of_the_manifest_or_the_only_one_with_a_binary_is_the_service() {
        let workspace = workspace(&[("library", &[], ""), ("service", &["main-loop"], "")]);
        for (manifest, package) in
            [("service/Cargo.toml", None), ("Cargo.toml", None), ("library/Cargo.toml", Some("service"))]
        {
            let service = load(&workspace, manifest, package, None).unwrap();
            assert_eq!((service.name.as_str(), service.bin.as_str()), ("service", "main-loop"));
            assert!(service.package_root.ends_with("service"));
            assert!(service.target_directory.ends_with("target"));
        }
        let error = load(&workspace, "library/Cargo.toml", None, None).unwrap_err();
        assert_eq!(error.to_string(), "package `library` has no binary");
        let report = load(&workspace, "Cargo.toml", Some("nothing"), None).unwrap_err().report();
        assert!(report.contains("its packages are: library, service"), "{report}");
    }

    #[test]
    fn a_choice_that_is_not_clear_names_what_there_is() {
        let workspace = workspace(&[("one", &["a", "b"], ""), ("two", &["c", "d"], "default-run = \"d\"")]);
        let report = load(&workspace, "Cargo.toml", None, None).unwrap_err().report();
        assert!(report.contains("choose one with --package: one, two"), "{report}");
        let report = load(&workspace, "one/Cargo.toml", None, None).unwrap_err().report();
        assert!(report.contains("choose one with --bin, or set `default-run`: a, b"), "{report}");
        assert_eq!(load(&workspace, "one/Cargo.toml", None, Some("b")).unwrap().bin, "b");
        assert_eq!(load(&workspace, "two/Cargo.toml", None, None).unwrap().bin, "d");
        assert_eq!(load(&workspace, "two/Cargo.toml", None, Some("c")).unwrap().bin, "c");
        let report = load(&workspace, "two/Cargo.toml", None, Some("e")).unwrap_err().report();
        assert!(report.contains("package `two` has no binary `e`") && report.contains("c, d"), "{report}");
    }

    #[test]
    fn a_manifest_that_is_not_there_is_bad_usage() {
        let error = find_manifest(Some(Path::new("/nowhere/Cargo.toml"))).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains("/nowhere/Cargo.toml"), "{error}");
    }
}
