//! `streambot-deploy local`: the service on this machine, fed as Lambda's event source mapping
//! would feed it. This is where the parts are put together: a source fills the shards, a poller for
//! each decides, sandboxes run the function. It touches no AWS account: nothing is read from one,
//! and the function gets no credentials unless the user names them.

mod aggregate;
pub(crate) mod answer;
mod api_error;
mod buffer;
mod chaos;
mod clock;
mod console;
pub(crate) mod destination;
mod environment;
pub(crate) mod event;
mod executable;
mod extensions_api;
pub(crate) mod filter;
pub(crate) mod interrupt;
mod journal;
pub(crate) mod kinesis;
mod lane;
mod live;
mod metrics;
mod pace;
mod partition_key;
mod poller;
mod process;
pub(crate) mod record;
mod report;
mod runtime_api;
mod sandbox;
mod shard;
#[cfg(test)]
mod simulation;
mod source;
mod stream;
mod summary;
mod task_root;
mod watch;
mod window;

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use aws_config::SdkConfig;
use bytes::Bytes;
use clap::Args;
use uuid::Uuid;

use self::chaos::{Chaos, Probabilities};
use self::clock::Clock;
use self::console::Console;
use self::destination::{Destination, Target};
use self::environment::Function;
use self::event::EventWriter;
use self::filter::{Constants, Filter, Patterns};
use self::interrupt::Interrupts;
use self::journal::Journal;
use self::kinesis::{Consumer, Position};
use self::partition_key::{PartitionKey, Pointer};
use self::poller::Settings;
use self::report::{Recorder, Report};
use self::sandbox::{Failure, Invoked, Launch, Sandboxes};
use self::source::{Layout, Source};
use self::stream::Feed;
use self::task_root::TaskRoot;
use self::watch::Origin;
use crate::aws::{self, RegionArguments};
use crate::bundle::build;
use crate::error::{Error, Result};
use crate::event_source::{EventSourceSettings, FilterPattern, StartingPosition};
use crate::function::FunctionSettings;
use crate::service::{Service, ServiceArguments, SettingsFlags};
use crate::verb::Output;

/// How old a record may get where the mapping sets no limit: the retention a stream has by default,
/// 24 hours.
const DEFAULT_RETENTION: Duration = Duration::from_secs(24 * 60 * 60);

/// What stands below the flags in the help.
pub(crate) const AFTER_HELP: &str = "\
Examples:
  streambot-deploy local --records records.ndjson --partition-key /id --shards 4
  tail -f records.ndjson | streambot-deploy local --records -
  streambot-deploy local --records - --on-failure lost.ndjson --maximum-retry-attempts 2
  streambot-deploy local --stream quakes --until-caught-up
  streambot-deploy local --stream quakes --endpoint-url http://localhost:4568 --region us-east-1

The first Ctrl-C lets what is in flight finish and prints the summary; the second ends it at once.

Exit codes:
  0  every record is done
  1  records were discarded, the run failed or was interrupted
  2  bad usage or settings
  3  the stream, or the queue, topic or bucket of --on-failure, is not there";

/// Says of the flag what it means here: the mapping's setting names production's destination, which
/// `local` leaves alone.
pub(crate) fn describe_on_failure(flag: clap::Arg) -> clap::Arg {
    flag.value_name("FILE|ARN|S3_URI")
        .help("Where discarded records are told: a file, the ARN of an SQS queue or SNS topic, or s3://bucket/prefix")
}

/// What a local run is told.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("input").required(true).args(["records", "stream", "event"]))]
pub(crate) struct Arguments {
    /// Records to feed the function: NDJSON, a line is one record's data; `-` is standard input,
    /// also a pipe that stays open. They are read from the first on, whatever the starting position
    #[arg(long, value_name = "FILE")]
    records: Option<PathBuf>,

    /// Kinesis stream to read, with this shell's AWS credentials; the function gets none of them.
    /// From its starting position on, until Ctrl-C
    #[arg(long, value_name = "NAME|ARN")]
    stream: Option<String>,

    /// End once every shard of the stream is read to its tip
    #[arg(long, conflicts_with_all = ["records", "event"])]
    until_caught_up: bool,

    /// One Kinesis event to send as it is; its answer is printed
    #[arg(long, value_name = "FILE")]
    event: Option<PathBuf>,

    /// Where in a record its partition key is, such as /id [default: a hash of the line]
    #[arg(long, value_name = "JSON_POINTER", conflicts_with_all = ["event", "stream"])]
    partition_key: Option<Pointer>,

    /// Shards of the stream, 1 to 1000
    #[arg(long, value_name = "SHARDS", default_value_t = 1, conflicts_with_all = ["event", "stream"],
        value_parser = clap::value_parser!(u32).range(1..=1000))]
    shards: u32,

    /// Records to feed in a second [default: as many as the function takes]
    #[arg(long, value_name = "RECORDS", conflicts_with_all = ["event", "stream"])]
    rate: Option<NonZeroU32>,

    /// Pack records into aggregated ones, as a Kinesis Producer Library puts them, so many in one
    /// [default: 100]
    #[arg(long, value_name = "RECORDS", num_args = 0..=1, require_equals = true, default_missing_value = "100",
        conflicts_with_all = ["event", "stream"])]
    aggregate: Option<NonZeroU32>,

    /// Pass over lines above 1 MiB, which no record holds, instead of ending there
    #[arg(long, conflicts_with_all = ["event", "stream"])]
    skip_oversize: bool,

    /// File to write what happens to, an NDJSON line for each invocation, outcome, discard and
    /// checkpoint
    #[arg(long, value_name = "FILE", conflicts_with = "event")]
    journal: Option<PathBuf>,

    #[command(flatten)]
    region: RegionArguments,

    /// Where AWS is, for --stream and --on-failure, such as http://localhost:4566 [default: AWS
    /// itself]
    #[arg(long, value_name = "URL")]
    endpoint_url: Option<String>,

    /// Executable to run instead of building the service; it must speak the Lambda Runtime API
    #[arg(long, value_name = "PATH")]
    bootstrap: Option<PathBuf>,

    /// Environment whose settings hold, of [package.metadata.streambot.environments]
    #[arg(long, value_name = "NAME")]
    environment: Option<String>,

    /// Event source whose settings hold, by its prefix or ARN, where Cargo.toml has several
    #[arg(long, value_name = "NAME")]
    event_source: Option<String>,

    /// Variables for the function, in the form of .env; without it no .env is read
    #[arg(long, value_name = "FILE")]
    env_file: Option<PathBuf>,

    /// A variable for the function; without a value, this shell's is taken; repeat it for more
    #[arg(long = "env", value_name = "KEY[=VALUE]", value_parser = environment::parse_variable)]
    variables: Vec<(String, String)>,

    /// Seconds before the first retry; they double with each further one, up to thirty times as
    /// long
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = parse_delay)]
    retry_delay: Duration,

    /// Whether attempts start anew when a partial answer moves the checkpoint, as was recorded on
    /// AWS; its guide is silent
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set, conflicts_with = "event")]
    reset_attempts: bool,

    /// Function processes at once, over all shards and lanes, 1 to 1000 [default: shards ×
    /// parallelization factor, at most 64]
    #[arg(long, value_name = "PROCESSES", conflicts_with = "event", value_parser = clap::value_parser!(u32).range(1..=1000))]
    max_concurrency: Option<u32>,

    /// Trouble to make, as probabilities by invocation, such as
    /// crash=0.02,timeout=0.01,throttle=0.05,duplicate=0.02
    #[arg(long, value_name = "KIND=PROBABILITY,…", conflicts_with = "event")]
    chaos: Option<Probabilities>,

    /// Seed of the trouble; the same one strikes alike again
    #[arg(long, value_name = "NUMBER", default_value_t = 1, requires = "chaos")]
    seed: u64,

    /// Build the service again when its sources change, and go on from the checkpoint; with
    /// --bootstrap, when that file changes
    #[arg(long, conflicts_with = "event")]
    watch: bool,

    /// Page to write about the run, with its timeline and plots: one HTML file that opens in a
    /// browser without a network
    #[arg(long, value_name = "FILE", conflicts_with = "event")]
    report: Option<PathBuf>,

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
/// Bad usage where the input or a setting is wrong; a failure where the build, the function's start
/// or a record failed for good, or the run was interrupted.
pub(crate) async fn run(arguments: Arguments) -> Result<()> {
    let service = load_service(&arguments)?;
    let (function_settings, event_source) = match &service {
        Some(service) => {
            (&service.function, &service.event_source(arguments.event_source.as_deref())?.settings)
        }
        None => (&arguments.settings.function, &arguments.settings.event_source),
    };
    event_source.check()?;
    let patterns =
        Patterns::parse(event_source.filter_patterns().iter().map(FilterPattern::as_str))
            .map_err(|error| Error::usage("reading the filter patterns").because(error))?;
    let given = given_variables(&arguments, function_settings)?;
    let recorder = arguments.report.as_ref().map(|_| Arc::new(Recorder::new(Clock::start())));
    let console = Arc::new(Console::new(arguments.quiet, recorder.clone()));
    let report =
        arguments.report.clone().zip(recorder).map(|(path, recorder)| Report { path, recorder });
    if let Some(event) = &arguments.event {
        let event_bytes = std::fs::read(event).map_err(|error| {
            Error::usage(format!("reading the event in {}", event.display())).because(error)
        })?;
        let (_, launch) =
            prepare(&arguments, service.as_ref(), function_settings, &given, None, &console)?;
        return send_event(Bytes::from(event_bytes), launch).await;
    }
    // What is read and written is opened first, so that a wrong name is told before the build.
    let feed = open_feed(&arguments, event_source).await?;
    let destination = open_destination(&arguments).await?;
    let journal =
        arguments.journal.as_deref().map_or_else(|| Ok(Journal::off()), Journal::create)?;
    warn_of_unsimulated(event_source, &arguments, &console);
    let (stream, retention) = match &feed {
        Feed::Lines(..) => (None, DEFAULT_RETENTION),
        Feed::Kinesis(consumer) => (Some(consumer.arn().to_owned()), consumer.retention()),
    };
    let (function, launch) =
        prepare(&arguments, service.as_ref(), function_settings, &given, stream, &console)?;
    let constants = Constants {
        region: function.region.clone(),
        stream_arn: function.stream_arn(),
        role_arn: function.role_arn(),
    };
    let filter = patterns.map(|patterns| Arc::new(Filter::new(patterns, constants)));
    let settings = Settings { filter, ..poller_settings(event_source, retention, &arguments) };
    let plan = stream::Plan {
        feed,
        event_source: event_source.clone(),
        stream_arn: function.stream_arn(),
        journal,
        destination,
        settings,
        events: EventWriter::new(&function.region, &function.stream_arn(), &function.role_arn()),
        launch,
        maximum_concurrency: arguments.max_concurrency.map(|processes| processes as usize),
        chaos: arguments.chaos.map(|probabilities| Chaos::new(probabilities, arguments.seed)),
        report,
        watch: arguments.watch.then(|| origin(&arguments, service.as_ref())),
        output: arguments.output,
    };
    stream::run(plan).await
}

/// What the executable is made of.
fn origin(arguments: &Arguments, service: Option<&Service>) -> Origin {
    match service {
        Some(service) if arguments.bootstrap.is_none() => {
            Origin::Service(Box::new(service.clone()), profile(arguments).to_owned())
        }
        _ => Origin::Bootstrap,
    }
}

fn profile(arguments: &Arguments) -> &str {
    arguments.service.profile.as_deref().unwrap_or("dev")
}

/// Opens where the records come from.
async fn open_feed(arguments: &Arguments, event_source: &EventSourceSettings) -> Result<Feed> {
    if let Some(stream) = &arguments.stream {
        let start =
            match (event_source.starting_position(), event_source.starting_position_timestamp()) {
                (StartingPosition::Latest, _) => Position::Latest,
                (StartingPosition::AtTimestamp, Some(time)) => Position::At(time.as_unix_seconds()),
                _ => Position::TrimHorizon,
            };
        let config = connect(arguments).await;
        let consumer = Consumer::find(&config, stream, start, arguments.until_caught_up).await?;
        return Ok(Feed::Kinesis(Box::new(consumer)));
    }
    let Some(records) = &arguments.records else {
        return Err(Error::usage("none of --records, --stream and --event is given"));
    };
    let source = Source::open(records)
        .map_err(|error| Error::usage("reading the records").because(error))?;
    let layout = Layout {
        partition_key: arguments
            .partition_key
            .clone()
            .map_or(PartitionKey::HashOfLine, PartitionKey::At),
        shards: arguments.shards as usize,
        rate: arguments.rate,
        aggregate: arguments.aggregate.map(|records| records.get() as usize),
        skip_oversize: arguments.skip_oversize,
    };
    Ok(Feed::Lines(source, layout))
}

/// Opens where discarded records are told: what the flag names. What the manifest names is
/// production's, and left alone.
async fn open_destination(arguments: &Arguments) -> Result<Destination> {
    let Some(named) = arguments.settings.event_source.on_failure() else {
        return Ok(Destination::nowhere());
    };
    let target: Target = named
        .parse()
        .map_err(|problem: String| Error::usage("reading --on-failure").because(problem))?;
    match target {
        Target::File(path) => Destination::file(path),
        remote => Destination::open(remote, &connect(arguments).await).await,
    }
}

/// AWS as this shell's settings have it, for the stream and the destination; the function gets
/// nothing of it.
async fn connect(arguments: &Arguments) -> SdkConfig {
    let of_stream = arguments.stream.as_deref().filter(|stream| stream.starts_with("arn:"));
    let region = arguments.region.region.as_deref().or_else(|| of_stream?.split(':').nth(3));
    let config = aws::connect(region).await;
    match &arguments.endpoint_url {
        Some(url) => config.into_builder().endpoint_url(url).build(),
        None => config,
    }
}

/// The service, where there is one: an executable can be run outside any Cargo package.
fn load_service(arguments: &Arguments) -> Result<Option<Service>> {
    let named = arguments.service.package.manifest_path.is_some()
        || arguments.service.package.package.is_some();
    if arguments.bootstrap.is_some() && !named && !is_in_package() {
        return Ok(None);
    }
    Service::load(&arguments.service, arguments.environment.as_deref(), &arguments.settings)
        .map(Some)
}

fn is_in_package() -> bool {
    std::env::current_dir()
        .is_ok_and(|here| here.ancestors().any(|folder| folder.join("Cargo.toml").is_file()))
}

/// The variables that the settings declare and the user gives: the file wins over the settings, and
/// a single one over the file.
fn given_variables(
    arguments: &Arguments,
    settings: &FunctionSettings,
) -> Result<BTreeMap<String, String>> {
    let mut given = settings.environment_variables();
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
    stream: Option<String>,
    console: &Arc<Console>,
) -> Result<(Function, Arc<Launch>)> {
    let executable = match (&arguments.bootstrap, service) {
        (Some(bootstrap), _) => executable::find(bootstrap)?,
        (None, Some(service)) => build::for_host(service, profile(arguments))?,
        (None, None) => {
            return Err(Error::usage("there is neither a service nor a --bootstrap to run"));
        }
    };
    let stem = || {
        executable
            .file_stem()
            .map_or_else(|| "bootstrap".into(), |stem| stem.to_string_lossy().into_owned())
    };
    let name = service.map_or_else(stem, |service| service.name.clone());
    let environment = arguments.environment.as_deref().unwrap_or("local");
    let function = Function::new(format!("{name}-{environment}"), settings.memory(), given, stream);
    let package_root = service.map_or(Path::new("."), |service| &service.package_root);
    let task_root = TaskRoot::new(package_root, settings.include())?;
    let variables = function.variables(
        |name| std::env::var(name).ok(),
        &task_root.path().to_string_lossy(),
        given,
    );
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
    let sandboxes = Sandboxes::new(launch, 1);
    let request_id = Uuid::new_v4().to_string();
    let invocation = tokio::select! {
        invocation = sandboxes.invoke(&request_id, event, None) => invocation,
        () = interrupts.next() => Err(Error::failed("interrupted before the function answered")),
    };
    sandboxes.stop().await;
    match invocation?.invoked {
        Invoked::Answered(body) => stream::print(&String::from_utf8_lossy(&body)),
        Invoked::Failed(Failure { reason, .. }) => {
            Err(Error::failed(format!("the function failed: {reason}")))
        }
    }
}

fn poller_settings(
    settings: &EventSourceSettings,
    retention: Duration,
    arguments: &Arguments,
) -> Settings {
    let milliseconds = |seconds: u32| u64::from(seconds) * 1000;
    let retention = u64::try_from(retention.as_millis()).unwrap_or(u64::MAX);
    Settings {
        batch_size: settings.batch_size() as usize,
        maximum_event_bytes: event::MAXIMUM_RECORDS_BYTES,
        batching_window: milliseconds(settings.maximum_batching_window_in_seconds()),
        parallelization_factor: settings.parallelization_factor() as usize,
        maximum_retry_attempts: settings.maximum_retry_attempts(),
        maximum_record_age: settings
            .maximum_record_age_in_seconds()
            .map_or(retention, milliseconds),
        retry_delay: u64::try_from(arguments.retry_delay.as_millis()).unwrap_or(u64::MAX),
        bisect: settings.bisect_batch_on_function_error(),
        tumbling_window: settings.tumbling_window_in_seconds().map(milliseconds),
        attempts_start_anew: arguments.reset_attempts,
        filter: None,
    }
}

/// Says which of the settings make no difference here, though they will on Lambda.
fn warn_of_unsimulated(settings: &EventSourceSettings, arguments: &Arguments, console: &Console) {
    if let (Some(destination), None) =
        (settings.on_failure(), arguments.settings.event_source.on_failure())
    {
        console.note(&format!(
            "warning: discarded records are not sent to {destination}, the setting `on-failure`; --on-failure sends them, \
             to it or to a file"
        ));
    }
    if !settings.enabled() {
        console.note("warning: `enabled` is set and not simulated by `local`: the records are read all the same");
    }
    let is_from_start = settings.starting_position() == StartingPosition::TrimHorizon;
    if arguments.records.is_some() && !is_from_start {
        console.note("warning: `starting-position` is for a stream: a file or pipe is read from its first record on");
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
