//! One place that failed batches are read from, bucket or queue alike. It refuses to know in which
//! order and whether they are played.

use aws_config::SdkConfig;

use super::bucket::Bucket;
use super::failure::Failure;
use super::place::Place;
use super::queue::Queue;
use crate::error::{Error, Result};

/// What a batch is read and removed by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Key {
    /// An object's key.
    Object(String),
    /// A message's receipt.
    Message(String),
}

/// A batch's name, its key, and what is told of it or why that cannot be read.
pub(crate) type Found = (String, Key, Result<Failure, String>);

/// A place that was opened.
#[derive(Debug)]
pub(crate) enum Source {
    /// Objects.
    Bucket(Bucket),
    /// Messages.
    Queue(Queue),
}

impl Source {
    /// Opens what `place` names.
    ///
    /// # Errors
    /// Bad usage for a topic, which holds nothing; missing where there is no such queue.
    pub(crate) async fn open(config: &SdkConfig, place: &Place) -> Result<Self> {
        match place {
            Place::Bucket { bucket, prefix } => Ok(Self::Bucket(Bucket::new(config, bucket.clone(), prefix.clone()))),
            Place::Queue { .. } | Place::QueueUrl(_) => Ok(Self::Queue(Queue::open(config, place).await?)),
            Place::Topic(_) => Err(Error::usage(format!("{place} holds nothing that could be replayed"))
                .because("SNS hands each message to its subscribers and keeps none")
                .hint(
                    "name a queue that is subscribed to it with --from, or have failures told to a bucket or a queue",
                )),
        }
    }

    /// Everything that is there.
    ///
    /// # Errors
    /// Failed where it cannot be read.
    pub(crate) async fn find(&self) -> Result<Vec<Found>> {
        match self {
            Self::Bucket(bucket) => bucket.find().await,
            Self::Queue(queue) => queue.find().await,
        }
    }

    /// The event the batch was sent as, where it is kept.
    ///
    /// # Errors
    /// Failed where it cannot be read any more.
    pub(crate) async fn event(&self, key: &Key) -> Result<Option<String>> {
        let (Self::Bucket(bucket), Key::Object(key)) = (self, key) else { return Ok(None) };
        let body = bucket.read(key).await?;
        let (_, event) = Failure::read(&body)
            .map_err(|why| Error::failed(format!("reading {key}")).because(why))?;
        Ok(event)
    }

    /// Keeps the batch from others for so many seconds.
    ///
    /// # Errors
    /// Failed where another has it.
    pub(crate) async fn hold(&self, key: &Key, seconds: u32) -> Result<()> {
        match (self, key) {
            (Self::Queue(queue), Key::Message(receipt)) => queue.hide(receipt, seconds).await,
            _ => Ok(()),
        }
    }

    /// Removes the batch, which is done.
    ///
    /// # Errors
    /// Failed where AWS refuses.
    pub(crate) async fn remove(&self, key: &Key) -> Result<()> {
        match (self, key) {
            (Self::Queue(queue), Key::Message(receipt)) => queue.remove(receipt).await,
            (Self::Bucket(bucket), Key::Object(key)) => bucket.remove(key).await,
            _ => Ok(()),
        }
    }
}
