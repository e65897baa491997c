//! The verb `replay`: invokes the function on the batches that Lambda gave up on, as a failure
//! destination names them, in the order of their shards. What is done is removed there; what is not
//! stays. It refuses to know how a destination keeps a batch.

mod answer;
mod bucket;
mod failure;
mod invoke;
mod place;
mod queue;
mod source;
mod stream;

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_lambda::types::EventSourceMappingConfiguration;
use bytes::Bytes;
use clap::Args;

use self::answer::{Answer, Outcome};
use self::failure::{Blocked, Failure, Held, WINDOWED, batch_of, choose};
use self::invoke::{Invoked, in_a_line};
use self::place::Place;
use self::source::{Key, Source};
use crate::aws::Aws;
use crate::confirm::confirm;
use crate::deployed::Deployed;
use crate::error::{Error, Result};
use crate::local::event::EventWriter;
use crate::local::filter::{Constants, Filter, Patterns, ShardFilter};
use crate::local::record::Batch;
use crate::progress;
use crate::verb::{self, TargetArguments};

/// What `replay --help` says beyond the flags.
pub(crate) const AFTER_HELP: &str = "\
A bucket holds each batch's event, which is sent again as it was. A queue names records, which are
read from the stream while it still holds them. A topic holds nothing: name a queue that is
subscribed to it.

The function's alias `current` is invoked, one batch after the other, a shard's batches in the
order of their records. A batch that is done is removed from its place. One that fails stays there
whole, and so does what follows it in its shard: after a failure part of the way, its first
records come again with the next replay. Where a shard has several lanes (parallelization-factor),
records of other batches that lie among a message's own are sent too. Batches of a tumbling window
are not replayed.

Messages of a queue are hidden from others while a replay works on them, up to 15 minutes and the
function's timeout if it is killed, and each replay counts as one more time that they were
received.

Examples:
  streambot-deploy replay production --dry-run
  streambot-deploy replay production --limit 10 --yes
  streambot-deploy replay production --from s3://failures/aws/lambda/

Exit codes:
  0  all that was asked for is done, or there was nothing
  1  failed, or a batch failed, expired or could not be read
  2  bad usage or settings
  3  the function, or the place, is not there
  4  not confirmed, nothing was invoked";

/// Seconds beyond its invocations that a batch is kept from others.
const MARGIN: Duration = Duration::from_mins(15);

/// What `replay` is told.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Where to read batches: s3://bucket/prefix, or a queue's ARN or URL [default: the failure
    /// destination of the function's mapping]
    #[arg(long, value_name = "PLACE")]
    from: Option<Place>,

    /// Batches to replay at most
    #[arg(long, value_name = "BATCHES")]
    limit: Option<NonZeroUsize>,

    /// Leave batches that are done in their place too
    #[arg(long)]
    keep: bool,

    /// Count the batches and invoke nothing
    #[arg(long)]
    dry_run: bool,

    /// Do not ask
    #[arg(short, long)]
    yes: bool,

    #[command(flatten)]
    target: TargetArguments,
}

/// A batch in one of the sources.
type Kept = Held<(usize, Key)>;

/// Replays what the failure destination names.
///
/// # Errors
/// Missing where there is no function; bad usage where there is nothing to read from; unconfirmed
/// where nobody said yes; failed where a batch is not done.
pub(crate) async fn run(arguments: Arguments) -> Result<()> {
    progress::begin(arguments.target.answer.quiet);
    let (service, name) = arguments.target.service()?;
    let aws = Aws::connect(&arguments.target.aws).await;
    let (deployed, invoked) = progress::step(format!("reading `{name}`"), async {
        tokio::try_join!(Deployed::find(&aws, &service, &name), Invoked::find(&aws, &name))
    })
    .await?;
    let places = places(&arguments, &deployed, &name)?;
    let mut sources = Vec::new();
    for place in &places {
        sources.push(Source::open(&aws.config, place).await?);
    }
    let mut found = Vec::new();
    for (index, (source, place)) in sources.iter().zip(&places).enumerate() {
        let there =
            progress::step(format!("counting the batches in {place}"), source.find()).await?;
        found.extend(there.into_iter().map(|(name, key, read)| (name, (index, key), read)));
    }

    let replay =
        Replay { aws, invoked, mappings: deployed.mappings, sources, keep: arguments.keep };
    let every: Vec<(usize, Key)> = found.iter().map(|(_, key, _)| key.clone()).collect();
    let (chosen, refused) = choose(found, &name, arguments.limit.map(NonZeroUsize::get));
    let mut answer = Answer::new(&replay.invoked.arn, &places, refused);
    let played = replay.play(chosen, &arguments, &mut answer).await;
    replay.release(every, answer.removed()).await;
    played?;
    verb::print(&answer, arguments.target.answer.output)?;
    answer.verdict()
}

/// Where to read from.
fn places(arguments: &Arguments, deployed: &Deployed, name: &str) -> Result<Vec<Place>> {
    if let Some(place) = &arguments.from {
        return Ok(vec![place.clone()]);
    }
    let stacks =
        deployed.stack.values().and_then(|values| values.source.failure_destination.as_deref());
    let places = place::of_mappings(&deployed.mappings, stacks).map_err(|why| {
        Error::failed(format!("reading the failure destination of function `{name}`")).because(why)
    })?;
    if places.is_empty() {
        return Err(Error::usage(format!("function `{name}` has no failure destination"))
            .because("neither its event source mapping nor its stack names one")
            .hint("name one with --from, or set `on-failure` for what fails from now on"));
    }
    Ok(places)
}

/// All that playing batches again needs.
#[derive(Debug)]
struct Replay {
    aws: Aws,
    invoked: Invoked,
    mappings: Vec<EventSourceMappingConfiguration>,
    sources: Vec<Source>,
    keep: bool,
}

impl Replay {
    /// Asks, then plays the batches one after the other.
    async fn play(
        &self,
        chosen: Vec<Kept>,
        arguments: &Arguments,
        answer: &mut Answer,
    ) -> Result<()> {
        let records: usize = chosen.iter().map(|held| held.failure.records).sum();
        progress::say(format!("{} batches of {records} records to replay", chosen.len()));
        if arguments.dry_run {
            answer.would_replay(chosen.len(), records);
            return Ok(());
        }
        if chosen.is_empty() {
            return Ok(());
        }
        let then = if self.keep { "" } else { ", and remove from its place what is done" };
        let question = format!(
            "invoke {} with {} batches of {records} records{then}?",
            self.invoked.arn,
            chosen.len()
        );
        confirm(&question, arguments.yes)?;

        let mut blocked = Blocked::default();
        for held in &chosen {
            let Held { failure, name, .. } = held;
            let outcome = if blocked.holds(failure) {
                Outcome::left("it follows a batch of its shard that is not done")
            } else {
                progress::say(format!(
                    "replaying {name}: {} records of {}",
                    failure.records, failure.shard
                ));
                self.batch(held).await
            };
            if outcome.blocks() {
                blocked.block(failure);
            }
            answer.add(held, outcome);
        }
        Ok(())
    }

    /// Plays one batch, and removes it where it is done.
    async fn batch(&self, held: &Kept) -> Outcome {
        let (source, key) = (&self.sources[held.key.0], &held.key.1);
        let Prepared { events, expired } = match self.prepare(held).await {
            Ok(Ok(prepared)) => prepared,
            Ok(Err(why)) => return Outcome::left(why),
            Err(error) => return Outcome::left(in_a_line(&error)),
        };
        let invocations = u32::try_from(events.len()).unwrap_or(u32::MAX);
        let seconds = (self.invoked.timeout.saturating_mul(invocations) + MARGIN).as_secs();
        if let Err(error) = source.hold(key, u32::try_from(seconds).unwrap_or(u32::MAX)).await {
            return Outcome::left(in_a_line(&error));
        }
        let total: usize = events.iter().map(|(_, batch)| batch.len()).sum();
        let mut done = 0;
        for (event, batch) in events {
            if let Err(not_done) = self.invoked.invoke(event, &batch).await {
                done += not_done.done;
                return Outcome::Failed { done, of: total, expired, why: not_done.why };
            }
            done += batch.len();
        }
        if expired > 0 {
            return Outcome::Expired { done, expired };
        }
        if self.keep {
            return Outcome::Done { records: done, removed: false };
        }
        match source.remove(key).await {
            Ok(()) => Outcome::Done { records: done, removed: true },
            Err(error) => Outcome::NotRemoved { records: done, why: in_a_line(&error) },
        }
    }

    /// The events of a batch, or why it is not sent.
    async fn prepare(&self, held: &Kept) -> Result<Result<Prepared, String>> {
        let failure = &held.failure;
        if let Some(event) = self.sources[held.key.0].event(&held.key.1).await? {
            let batch = match batch_of(&event) {
                Ok(batch) => batch,
                Err(why) => return Ok(Err(why)),
            };
            return Ok(Ok(Prepared { events: vec![(Bytes::from(event), batch)], expired: 0 }));
        }
        let mapping = self.mapping_of(&failure.stream);
        if mapping.is_some_and(|mapping| mapping.tumbling_window_in_seconds().unwrap_or(0) > 0) {
            return Ok(Err(WINDOWED.to_owned()));
        }
        let filter = mapping.map(|mapping| self.filter(mapping, failure)).transpose()?.flatten();
        let region = aws_config::Region::new(failure.region().to_owned());
        let kinesis =
            aws_sdk_kinesis::Client::new(&self.aws.config.to_builder().region(region).build());
        let writer = EventWriter::new(failure.region(), &failure.stream, &self.invoked.role);
        let records = stream::read(&kinesis, failure, &writer).await?;
        let stream::Left { records, expired, others } =
            stream::Left::of(records, failure, filter.as_ref());
        if records.is_empty() && expired == 0 {
            return Ok(Err("none of its records passes the mapping's filter any more".to_owned()));
        }
        if others > 0 {
            progress::say(format!(
                "{}: {others} records of other batches lie among its own and are sent too",
                held.name
            ));
        }
        Ok(Ok(Prepared { events: stream::events(records, failure, &writer)?, expired }))
    }

    /// The mapping that reads the stream, or a consumer of it.
    fn mapping_of(&self, stream: &str) -> Option<&EventSourceMappingConfiguration> {
        let consumers = format!("{stream}/consumer/");
        self.mappings.iter().find(|mapping| {
            mapping
                .event_source_arn()
                .is_some_and(|source| source == stream || source.starts_with(&consumers))
        })
    }

    /// The mapping's filter for the batch's shard.
    fn filter(
        &self,
        mapping: &EventSourceMappingConfiguration,
        failure: &Failure,
    ) -> Result<Option<ShardFilter>> {
        let filters =
            mapping.filter_criteria().map(|criteria| criteria.filters()).unwrap_or_default();
        let patterns = Patterns::parse(filters.iter().filter_map(|filter| filter.pattern()))
            .map_err(|error| {
                Error::failed("reading the mapping's filter patterns").because(error)
            })?;
        Ok(patterns.map(|patterns| {
            let constants = Constants {
                region: failure.region().to_owned(),
                stream_arn: failure.stream.clone(),
                role_arn: self.invoked.role.clone(),
            };
            ShardFilter::new(Arc::new(Filter::new(patterns, constants)), failure.shard.clone())
        }))
    }

    /// Shows the messages again that were received and are still there.
    async fn release(&self, every: Vec<(usize, Key)>, removed: &[(usize, Key)]) {
        for (index, key) in every.iter().filter(|key| !removed.contains(key)) {
            if let Err(error) = self.sources[*index].hold(key, 0).await {
                progress::warn(format!(
                    "a message stays hidden for a while: {}",
                    in_a_line(&error)
                ));
            }
        }
    }
}

/// A batch, ready to be sent.
#[derive(Debug)]
struct Prepared {
    /// In order.
    events: Vec<(Bytes, Batch)>,
    /// Records that the stream has dropped.
    expired: usize,
}
