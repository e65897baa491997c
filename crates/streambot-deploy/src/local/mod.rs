//! `streambot-deploy local`: the service on this machine, fed as Lambda's event source mapping would feed it. This is where
//! the parts are put together: a source fills the shards, a poller for each decides, sandboxes run the function. It touches
//! no AWS account: nothing is read from one, and the function gets no credentials unless the user names them.

mod answer;
mod buffer;
mod clock;
mod console;
mod environment;
mod event;
mod executable;
mod interrupt;
mod lane;
mod metrics;
mod partition_key;
mod poller;
mod process;
mod record;
mod runtime_api;
mod sandbox;
mod shard;
mod source;
mod stream;
mod summary;
mod task_root;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use clap::Args;

use self::clock::Clock;
use self::console::Console;
use self::environment::Function;
use self::event::EventWriter;
use self::interrupt::Interrupts;
use self::partition_key::{PartitionKey, Pointer};
use self::poller::Settings;
use self::sandbox::{Failure, Invoked, Launch, Sandbox};
use self::task_root::TaskRoot;
use crate::bundle::build;
use crate::cli::Output;
use crate::error::{Error, Result};
use crate::event_source::EventSourceSettings;
use crate::function::FunctionSettings;
use crate::service::{Service, ServiceArguments, SettingsFlags};

/// How old a record may get where the mapping sets no limit: the retention a stream has by default, 24 hours.
const DEFAULT_RETENTION: u64 = 24 * 60 * 60 * 1000;

/// What a local run is told.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("input").required(true).args(["records", "event"]))]
pub(crate) struct Arguments {
    /// Records to feed the function: NDJSON, a line is one record's data; `-` is standard input
    #[arg(long, value_name = "FILE")]
    records: Option<PathBuf>,

    /// One Kinesis event to send as it is; its answer is printed
    #[arg(long, value_name = "FILE")]
    event: Option<PathBuf>,

    /// Where in a record its partition key is, such as /id [default: a hash of the line]
    #[arg(long, value_name = "JSON_POINTER", conflicts_with = "event")]
    partition_key: Option<Pointer>,

    /// Shards of the stream, 1 to 1000
    #[arg(long, value_name = "SHARDS", default_value_t = 1, conflicts_with = "event",
        value_parser = clap::value_parser!(u32).range(1..=1000))]
    shards: u32,

    /// Executable to run instead of building the service; it must speak the Lambda Runtime API
    #[arg(long, value_name = "PATH")]
    bootstrap: Option<PathBuf>,

    /// Environment whose settings hold, of [package.metadata.streambot.environments]
    #[arg(long, value_name = "NAME")]
    environment: Option<String>,

    /// Variables for the function, in the form of .env; without it no .env is read
    #[arg(long, value_name = "FILE")]
    env_file: Option<PathBuf>,

    /// A variable for the function; without a value, this shell's is taken; repeat it for more
    #[arg(long = "env", value_name = "KEY[=VALUE]", value_parser = environment::parse_variable)]
    variables: Vec<(String, String)>,

    /// Seconds before the first retry; they double with each further one, up to thirty times as long
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = parse_delay)]
    retry_delay: Duration,

    /// Hide the progress and what the function prints
    #[arg(short, long)]
    quiet: bool,

    /// How the summary is printed on standard output
    #[arg(long, value_enum, default_value_t)]
    output: Output,

    #[command(flatten)]
    service: ServiceArguments,

    #[command(flatten)]
    settings: SettingsFlags,
}

/// Runs the service on this machine.
///
/// # Errors
/// Bad usage where the input or a setting is wrong; a failure where the build, the function's start or a record failed for
/// good, or the run was interrupted.
pub(crate) async fn run(arguments: Arguments) -> Result<()> {
    let service = load_service(&arguments)?;
    let (function_settings, event_source) = match &service {
        Some(service) => (&service.function, &service.event_source),
        None => (&arguments.settings.function, &arguments.settings.event_source),
    };
    event_source.check()?;
    let given = given_variables(&arguments)?;
    let console = Arc::new(Console::new(arguments.quiet));
    match (&arguments.records, &arguments.event) {
        (Some(records), _) => {
            // Opened first, so that a wrong path is told before the build.
            let source =
                source::Source::open(records).map_err(|error| Error::usage("reading the records").because(error))?;
            warn_of_unsimulated(event_source, &console);
            let (function, launch) = prepare(&arguments, service.as_ref(), function_settings, &given, &console)?;
            let plan = stream::Plan {
                source,
                partition_key: arguments.partition_key.map_or(PartitionKey::HashOfLine, PartitionKey::At),
                shards: arguments.shards as usize,
                settings: poller_settings(event_source, arguments.retry_delay),
                events: EventWriter::new(&function.region, &function.stream_arn(), &function.role_arn()),
                launch,
                output: arguments.output,
            };
            stream::run(plan).await
        }
        (None, Some(event)) => {
            let event_bytes = std::fs::read(event)
                .map_err(|error| Error::usage(format!("reading the event in {}", event.display())).because(error))?;
            let (_, launch) = prepare(&arguments, service.as_ref(), function_settings, &given, &console)?;
            send_event(Bytes::from(event_bytes), launch).await
        }
        (None, None) => Err(Error::usage("neither --records nor --event is given")),
    }
}

/// The service, where there is one: an executable can be run outside any Cargo package.
fn load_service(arguments: &Arguments) -> Result<Option<Service>> {
    let named = arguments.service.manifest_path.is_some() || arguments.service.package.is_some();
    if arguments.bootstrap.is_some() && !named && !is_in_package() {
        return Ok(None);
    }
    Service::load(&arguments.service, arguments.environment.as_deref(), &arguments.settings).map(Some)
}

fn is_in_package() -> bool {
    std::env::current_dir().is_ok_and(|here| here.ancestors().any(|folder| folder.join("Cargo.toml").is_file()))
}

/// The variables the user gives; a single one wins over the file.
fn given_variables(arguments: &Arguments) -> Result<BTreeMap<String, String>> {
    let mut given = BTreeMap::new();
    if let Some(file) = &arguments.env_file {
        let reading = || Error::usage(format!("reading the variables in {}", file.display()));
        for variable in dotenvy::from_path_iter(file).map_err(|error| reading().because(error))? {
            let (name, value) = variable.map_err(|error| reading().because(error))?;
            given.insert(name, value);
        }
    }
    given.extend(arguments.variables.iter().cloned());
    Ok(given)
}

/// Builds or finds the executable and makes everything its processes need.
fn prepare(
    arguments: &Arguments,
    service: Option<&Service>,
    settings: &FunctionSettings,
    given: &BTreeMap<String, String>,
    console: &Arc<Console>,
) -> Result<(Function, Arc<Launch>)> {
    let executable = match (&arguments.bootstrap, service) {
        (Some(bootstrap), _) => executable::find(bootstrap)?,
        (None, Some(service)) => build::for_host(service, arguments.service.profile.as_deref().unwrap_or("dev"))?,
        (None, None) => return Err(Error::usage("there is neither a service nor a --bootstrap to run")),
    };
    let stem = || executable.file_stem().map_or_else(|| "bootstrap".into(), |stem| stem.to_string_lossy().into_owned());
    let name = service.map_or_else(stem, |service| service.name.clone());
    let environment = arguments.environment.as_deref().unwrap_or("local");
    let function = Function::new(format!("{name}-{environment}"), settings.memory(), given);
    let package_root = service.map_or(Path::new("."), |service| &service.package_root);
    let task_root = TaskRoot::new(package_root, settings.include())?;
    let variables = function.variables(|name| std::env::var(name).ok(), &task_root.path().to_string_lossy(), given);
    let launch = Launch {
        executable,
        variables,
        task_root,
        function_arn: function.arn(),
        timeout: Duration::from_secs(settings.timeout().into()),
        clock: Clock::start(),
        console: Arc::clone(console),
    };
    Ok((function, Arc::new(launch)))
}

/// Sends one event and prints the answer.
async fn send_event(event: Bytes, launch: Arc<Launch>) -> Result<()> {
    let mut interrupts = Interrupts::watch()?;
    let mut sandbox = Sandbox::new(launch);
    let invoked = tokio::select! {
        invoked = sandbox.invoke(event) => invoked,
        () = interrupts.next() => Err(Error::failed("interrupted before the function answered")),
    };
    sandbox.stop().await;
    match invoked? {
        Invoked::Answered(body) => stream::print(&String::from_utf8_lossy(&body)),
        Invoked::Failed(Failure { reason, .. }) => Err(Error::failed(format!("the function failed: {reason}"))),
    }
}

fn poller_settings(settings: &EventSourceSettings, retry_delay: Duration) -> Settings {
    let milliseconds = |seconds: u32| u64::from(seconds) * 1000;
    Settings {
        batch_size: settings.batch_size() as usize,
        maximum_event_bytes: event::MAXIMUM_RECORDS_BYTES,
        batching_window: milliseconds(settings.maximum_batching_window_in_seconds()),
        parallelization_factor: settings.parallelization_factor() as usize,
        maximum_retry_attempts: settings.maximum_retry_attempts(),
        maximum_record_age: settings.maximum_record_age_in_seconds().map_or(DEFAULT_RETENTION, milliseconds),
        retry_delay: u64::try_from(retry_delay.as_millis()).unwrap_or(u64::MAX),
    }
}

/// Says which of the settings make no difference here, though they will on Lambda.
fn warn_of_unsimulated(settings: &EventSourceSettings, console: &Console) {
    let unsimulated = [
        (
            "bisect-batch-on-function-error",
            settings.bisect_batch_on_function_error(),
            "a failed batch is retried whole",
        ),
        (
            "tumbling-window-in-seconds",
            settings.tumbling_window_in_seconds().is_some(),
            "events carry no window and no state",
        ),
        ("filter-patterns", !settings.filter_patterns().is_empty(), "every record is sent"),
        ("on-failure", settings.on_failure().is_some(), "discarded records are only counted"),
        ("enabled", !settings.enabled(), "the records are read all the same"),
    ];
    for (name, _, instead) in unsimulated.iter().filter(|(_, is_set, _)| *is_set) {
        console.note(&format!("warning: `{name}` is set and not simulated by `local`: {instead}"));
    }
}

/// A delay in seconds, with decimals.
fn parse_delay(text: &str) -> Result<Duration, String> {
    const LONGEST: f64 = 900.0;
    match text.parse::<f64>() {
        Ok(seconds) if (0.0..=LONGEST).contains(&seconds) => Ok(Duration::from_secs_f64(seconds)),
        _ => Err(format!("{text} is not allowed: it must be a number from 0 to {LONGEST}")),
    }
}
