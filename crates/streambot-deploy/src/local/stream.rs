//! A run over a stream of records: starts the source and the shards, watches for Ctrl-C, and ends
//! with the summary. It refuses to know how a shard is read.

use std::io::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use super::buffer::Buffer;
use super::chaos::Chaos;
use super::console::Console;
use super::destination::Destination;
use super::event::EventWriter;
use super::interrupt::Interrupts;
use super::journal::Journal;
use super::kinesis::{self, Consumer};
use super::poller::Settings;
use super::record::ShardId;
use super::report::{Facts, Report};
use super::sandbox::{Launch, Sandboxes};
use super::shard::{Progress, Shard, Shared};
use super::source::{Layout, Source, Stream};
use super::summary::{Summary, counted};
use super::watch::Origin;
use crate::error::{Error, Result};
use crate::event_source::EventSourceSettings;
use crate::verb::Output;

/// Bytes of encoded records that may wait between the source and the shards.
const READ_AHEAD: usize = 64 * 1024 * 1024;
/// Function processes at once where no number is given, however many lanes there are: a laptop has
/// to start and hold them.
const MOST_PROCESSES: usize = 64;
/// Between two looks at how far the run is.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(200);

/// What to run.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Where the records come from.
    pub(crate) feed: Feed,
    /// The settings of the mapping, as they were given.
    pub(crate) event_source: EventSourceSettings,
    /// How the shards are read, which follows from them.
    pub(crate) settings: Settings,
    /// The stream, as the function knows it.
    pub(crate) stream_arn: String,
    /// Where the run is written down.
    pub(crate) journal: Journal,
    /// Where discarded records are told.
    pub(crate) destination: Destination,
    /// Writes the events.
    pub(crate) events: EventWriter,
    /// Runs the function.
    pub(crate) launch: Arc<Launch>,
    /// How many of its processes there may be at once; `None`: as many as there are lanes, up to a
    /// limit.
    pub(crate) maximum_concurrency: Option<usize>,
    /// Strikes the invocations, where it is asked for.
    pub(crate) chaos: Option<Chaos>,
    /// The report, where one is asked for.
    pub(crate) report: Option<Report>,
    /// What the function is made of, where changes to it are watched for.
    pub(crate) watch: Option<Origin>,
    /// How the summary is printed.
    pub(crate) output: Output,
}

/// Where records come from.
#[derive(Debug)]
pub(crate) enum Feed {
    /// A file or a pipe, whose lines are laid into the shards of a stream that is made up.
    Lines(Source, Layout),
    /// A real stream.
    Kinesis(Box<Consumer>),
}

impl Feed {
    fn read_ahead(&self) -> usize {
        match self {
            Feed::Lines(..) => READ_AHEAD,
            Feed::Kinesis(_) => kinesis::READ_AHEAD,
        }
    }
}

/// Feeds the function every record, and prints the summary.
///
/// # Errors
/// A failure when the function cannot be run, a record is discarded, the source holds something
/// that is no record, or the run is interrupted. The summary is printed but for the first.
pub(crate) async fn run(plan: Plan) -> Result<()> {
    let Plan { feed, event_source, settings, stream_arn, journal, destination, .. } = plan;
    let Plan { events, launch, maximum_concurrency, chaos, report, watch, output, .. } = plan;
    let (clock, console) = (launch.clock, Arc::clone(&launch.console));
    let (buffer, events) = (Arc::new(Buffer::new(feed.read_ahead())), Arc::new(events));
    let shards = match &feed {
        Feed::Lines(_, layout) => (0..layout.shards).map(ShardId::numbered).collect(),
        Feed::Kinesis(consumer) => consumer.shards(),
    };
    journal.start(&event_source, &shards)?;
    let (function_arn, executable) = (launch.function_arn.clone(), launch.executable.clone());
    let lanes = shards.len() * settings.parallelization_factor;
    let sandboxes =
        Arc::new(Sandboxes::new(launch, maximum_concurrency.unwrap_or(lanes.min(MOST_PROCESSES))));
    let shared = Arc::new(Shared {
        settings,
        buffer: Arc::clone(&buffer),
        events,
        sandboxes,
        chaos,
        clock,
        console: Arc::clone(&console),
        journal,
        recorder: report.as_ref().map(|report| Arc::clone(&report.recorder)),
        destination,
        function_arn,
        stream_arn,
        progress: Mutex::default(),
    });
    let source = match feed {
        Feed::Lines(source, layout) => {
            let stream = Stream::new(layout, Arc::clone(&shared.events), clock);
            read_in_thread(source, stream, Arc::clone(&buffer), Arc::clone(&console))?
        }
        Feed::Kinesis(consumer) => read_in_task(*consumer, &shared),
    };

    if let Some(report) = &report {
        report.recorder.begin();
    }
    let watching = watch.map(|origin| {
        tokio::spawn(origin.watch(executable, Arc::clone(&shared.sandboxes), Arc::clone(&console)))
    });
    let started = clock.elapsed();
    let ended = run_shards(&shared).await;
    if let Some(watching) = watching {
        watching.abort();
    }
    shared.sandboxes.stop().await;
    let duration = clock.elapsed() - started;
    buffer.close();
    console.finish();
    let interrupted = ended?;

    let summary = Summary::new(
        &shared.progress(),
        console.metrics(),
        shared.chaos.as_ref().map(Chaos::strikes),
        duration,
    );
    if let Some(report) = &report {
        let (function_arn, settings, chaos) =
            (&shared.function_arn, &shared.settings, shared.chaos.as_ref());
        report.write(&Facts { function_arn, settings, summary: &summary, chaos, interrupted })?;
        console.note(&format!("wrote the report {}", report.path.display()));
    }
    match output {
        Output::Json => {
            let json = serde_json::to_string(&summary);
            print(&json.map_err(|error| Error::failed("writing the summary").because(error))?)?;
        }
        Output::Text => print(summary.to_string().trim_end())?,
    }
    if interrupted {
        let done = counted(summary.succeeded + summary.discarded, "record", "records");
        return Err(Error::failed(format!("interrupted after {done}")));
    }
    // It has ended, since the shards came to their ends.
    if let Ok(Err(error)) = source.await {
        return Err(error);
    }
    match summary.discarded {
        0 => Ok(()),
        discarded => Err(Error::failed(format!(
            "the run discarded {}",
            counted(discarded, "record", "records")
        ))),
    }
}

/// Reads lines in a thread, because reading a file or a pipe blocks.
fn read_in_thread(
    source: Source,
    stream: Stream,
    buffer: Arc<Buffer>,
    console: Arc<Console>,
) -> Result<oneshot::Receiver<Result<()>>> {
    let (send, ended) = oneshot::channel();
    thread::Builder::new()
        .name("source".to_owned())
        .spawn(move || {
            let result =
                source.read_into(&buffer, stream, &|note| console.note(note)).map_err(|error| {
                    Error::failed("reading the records")
                        .because(error)
                        .hint("the records before it were fed to the function")
                });
            // The run may have been interrupted meanwhile.
            let _ = send.send(result);
            buffer.finish();
        })
        .map_err(|error| {
            Error::failed("starting the thread that reads the records").because(error)
        })?;
    Ok(ended)
}

/// Reads a real stream beside its shards.
fn read_in_task(consumer: Consumer, shared: &Shared) -> oneshot::Receiver<Result<()>> {
    let (send, ended) = oneshot::channel();
    let Shared { buffer, events, console, .. } = shared;
    let (buffer, events, console) = (Arc::clone(buffer), Arc::clone(events), Arc::clone(console));
    tokio::spawn(async move {
        let result = consumer.read_into(Arc::clone(&buffer), events, console).await;
        // The run may have been interrupted meanwhile.
        let _ = send.send(result);
        buffer.finish();
    });
    ended
}

/// Reads every shard to its end. Answers whether the run was interrupted.
async fn run_shards(shared: &Arc<Shared>) -> Result<bool> {
    let mut interrupts = Interrupts::watch()?;
    let mut progress = interval(PROGRESS_INTERVAL);
    progress.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let stop = watch::Sender::new(false);
    let mut shards = JoinSet::new();
    let mut interrupted = false;
    let mut failed = None;
    let started = shared.clock.elapsed();
    let mut opened = 0;
    loop {
        let is_last = *stop.borrow() || shared.buffer.has_ended();
        if !*stop.borrow() {
            for id in shared.buffer.opened_after(opened) {
                start_shard(shared, &mut shards, opened, id, &stop);
                opened += 1;
            }
        }
        if is_last && shards.is_empty() {
            break;
        }
        tokio::select! {
            Some(ended) = shards.join_next() => {
                let result = match ended {
                    Ok((number, result)) => {
                        shared.buffer.set_done(number);
                        result
                    }
                    // It was interrupted twice.
                    Err(error) if error.is_cancelled() => Ok(()),
                    Err(error) => Err(Error::failed("reading a shard").because(error)),
                };
                if let Err(error) = result {
                    // The others would fail alike; they finish what is in flight.
                    stop.send_replace(true);
                    failed.get_or_insert(error);
                }
            }
            () = shared.buffer.opened() => {}
            _ = progress.tick() => {
                shared.console.progress(&shared.progress(), shared.clock.elapsed() - started);
            }
            () = interrupts.next() => interrupted = interrupt_run(shared, &stop, &mut shards),
        }
    }
    failed.map_or(Ok(interrupted), Err)
}

fn start_shard(
    shared: &Arc<Shared>,
    shards: &mut JoinSet<(usize, Result<()>)>,
    number: usize,
    id: ShardId,
    stop: &watch::Sender<bool>,
) {
    shared.progress.lock().unwrap_or_else(PoisonError::into_inner).push(Progress::new(id.clone()));
    let run = Shard::new(number, id, Arc::clone(shared)).run(stop.subscribe());
    shards.spawn(async move { (number, run.await) });
}

/// The first time, lets what is in flight finish; the second time, ends it.
fn interrupt_run(
    shared: &Shared,
    stop: &watch::Sender<bool>,
    shards: &mut JoinSet<(usize, Result<()>)>,
) -> bool {
    if stop.send_replace(true) {
        shards.abort_all();
    } else {
        shared.console.note("finishing what is in flight; interrupt once more to end it at once");
    }
    true
}

/// Prints a result to standard output.
///
/// # Errors
/// When standard output is closed.
pub(crate) fn print(result: &str) -> Result<()> {
    writeln!(std::io::stdout().lock(), "{result}")
        .map_err(|error| Error::failed("writing to standard output").because(error))
}
