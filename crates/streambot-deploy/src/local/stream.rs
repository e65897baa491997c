//! A run over a stream of records: starts the source and the shards, watches for Ctrl-C, and ends with the summary. It
//! refuses to know how a shard is read.

use std::io::Write as _;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use super::buffer::Buffer;
use super::event::EventWriter;
use super::interrupt::Interrupts;
use super::partition_key::PartitionKey;
use super::poller::{Counts, Settings};
use super::sandbox::Launch;
use super::shard::{Shard, Shared};
use super::source::{Source, SourceError, Stream};
use super::summary::{Summary, counted};
use crate::cli::Output;
use crate::error::{Error, Result};

/// Bytes of encoded records that may wait between the source and the shards.
const READ_AHEAD: usize = 64 * 1024 * 1024;
/// Between two looks at how far the run is.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(200);

/// What to run.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Where the records come from.
    pub(crate) source: Source,
    /// How they get their partition keys.
    pub(crate) partition_key: PartitionKey,
    /// How many shards they are laid into.
    pub(crate) shards: usize,
    /// How the shards are read.
    pub(crate) settings: Settings,
    /// Writes the events.
    pub(crate) events: EventWriter,
    /// Runs the function.
    pub(crate) launch: Arc<Launch>,
    /// How the summary is printed.
    pub(crate) output: Output,
}

/// Feeds the function every record, and prints the summary.
///
/// # Errors
/// A failure when the function cannot be run, a record is discarded, the source holds something that is no record, or the run
/// is interrupted. The summary is printed but for the first.
pub(crate) async fn run(plan: Plan) -> Result<()> {
    let Plan { source, partition_key, shards, settings, events, launch, output } = plan;
    let (clock, console) = (launch.clock, Arc::clone(&launch.console));
    let (buffer, events) = (Arc::new(Buffer::new(shards, READ_AHEAD)), Arc::new(events));
    let stream = Stream::new(partition_key, shards, Arc::clone(&events), clock);
    let source = read_in_thread(source, stream, Arc::clone(&buffer))?;
    let shared = Arc::new(Shared {
        settings,
        buffer: Arc::clone(&buffer),
        events,
        launch,
        clock,
        console: Arc::clone(&console),
        progress: (0..shards).map(|_| Mutex::default()).collect(),
    });

    let started = clock.elapsed();
    let ended = run_shards(&shared).await;
    let duration = clock.elapsed() - started;
    buffer.close();
    console.finish();
    let interrupted = ended?;

    let summary = Summary::new(&shared.progress(), console.metrics(), duration);
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
        return Err(Error::failed("reading the records")
            .because(error)
            .hint("the records before it were fed to the function"));
    }
    match summary.discarded {
        0 => Ok(()),
        discarded => Err(Error::failed(format!("the run discarded {}", counted(discarded, "record", "records")))),
    }
}

/// Reads the source in a thread, because reading a file or a pipe blocks.
fn read_in_thread(
    source: Source,
    stream: Stream,
    buffer: Arc<Buffer>,
) -> Result<oneshot::Receiver<Result<(), SourceError>>> {
    let (send, ended) = oneshot::channel();
    thread::Builder::new()
        .name("source".to_owned())
        .spawn(move || {
            let result = source.read_into(&buffer, stream);
            // The run may have been interrupted meanwhile.
            let _ = send.send(result);
            buffer.finish();
        })
        .map_err(|error| Error::failed("starting the thread that reads the records").because(error))?;
    Ok(ended)
}

/// Reads every shard to its end. Answers whether the run was interrupted.
async fn run_shards(shared: &Arc<Shared>) -> Result<bool> {
    let mut interrupts = Interrupts::watch()?;
    let mut progress = interval(PROGRESS_INTERVAL);
    progress.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let stop = watch::Sender::new(false);
    let mut shards = JoinSet::new();
    for number in 0..shared.progress.len() {
        shards.spawn(Shard::new(number, Arc::clone(shared)).run(stop.subscribe()));
    }
    let mut interrupted = false;
    let mut failed = None;
    let started = shared.clock.elapsed();
    loop {
        tokio::select! {
            ended = shards.join_next() => {
                let result = match ended {
                    None => break,
                    Some(Ok(result)) => result,
                    // It was interrupted twice.
                    Some(Err(error)) if error.is_cancelled() => Ok(()),
                    Some(Err(error)) => Err(Error::failed("reading a shard").because(error)),
                };
                if let Err(error) = result {
                    // The others would fail alike; they finish what is in flight.
                    stop.send_replace(true);
                    failed.get_or_insert(error);
                }
            }
            _ = progress.tick() => {
                let counts = shared.progress().into_iter().map(|progress| progress.counts);
                let total = counts.fold(Counts::default(), Counts::plus);
                shared.console.progress(total, shared.clock.elapsed() - started);
            }
            () = interrupts.next() => interrupted = interrupt_run(shared, &stop, &mut shards),
        }
    }
    failed.map_or(Ok(interrupted), Err)
}

/// The first time, lets what is in flight finish; the second time, ends it.
fn interrupt_run(shared: &Shared, stop: &watch::Sender<bool>, shards: &mut JoinSet<Result<()>>) -> bool {
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
