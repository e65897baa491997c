//! Failed batches in an SQS queue: a message for each, which names records and holds none. Messages
//! are hidden while a replay works on them, and shown again unless they are removed. It refuses to
//! know what is made of them.

use std::collections::BTreeMap;

use aws_config::{Region, SdkConfig};
use aws_sdk_sqs::Client;
use aws_sdk_sqs::types::Message;

use super::failure::Failure;
use super::place::Place;
use super::source::{Found, Key};
use crate::aws::failed;
use crate::error::{Error, Result};

/// Seconds that messages are hidden from others while they are read and confirmed.
const HIDDEN: i32 = 900;
/// The most seconds SQS hides a message.
const LONGEST_HIDDEN: i32 = 43_200;

/// A queue that was found.
#[derive(Debug)]
pub(crate) struct Queue {
    client: Client,
    url: String,
}

impl Queue {
    /// Finds the queue that `place` names.
    ///
    /// # Errors
    /// Missing where there is none.
    pub(crate) async fn open(config: &SdkConfig, place: &Place) -> Result<Self> {
        let region = place.region().map(|region| Region::new(region.to_owned()));
        let config =
            config.to_builder().region(region.or_else(|| config.region().cloned())).build();
        let client = Client::new(&config);
        let (account, name) = match place {
            Place::Queue { account, name, .. } => (account, name),
            Place::QueueUrl(url) => return Ok(Self { client, url: url.clone() }),
            other => return Err(Error::failed(format!("{other} is no queue"))),
        };
        let look_up = client
            .get_queue_url()
            .queue_name(name)
            .queue_owner_aws_account_id(account)
            .send()
            .await;
        let found = look_up.map_err(|error| {
            if error.as_service_error().is_some_and(|error| error.is_queue_does_not_exist()) {
                Error::missing(format!("there is no {place}")).hint("name another with --from")
            } else {
                failed(format!("looking up {place}"), error)
            }
        })?;
        let url = found.queue_url.ok_or_else(|| Error::failed(format!("{place} has no URL")))?;
        Ok(Self { client, url })
    }

    /// Receives every message, each once, and what it tells.
    ///
    /// # Errors
    /// Failed where SQS refuses.
    pub(crate) async fn find(&self) -> Result<Vec<Found>> {
        let mut messages: BTreeMap<String, Message> = BTreeMap::new();
        loop {
            // With a wait SQS asks all its servers, so that nothing means that there is nothing.
            let receive =
                self.client.receive_message().queue_url(&self.url).max_number_of_messages(10);
            let received = receive.wait_time_seconds(1).visibility_timeout(HIDDEN).send().await;
            let received =
                received.map_err(|error| failed(format!("receiving from {}", self.url), error))?;
            let known = messages.len();
            for message in received.messages.unwrap_or_default() {
                messages.insert(message.message_id.clone().unwrap_or_default(), message);
            }
            if messages.len() == known {
                break;
            }
        }
        Ok(messages.into_iter().map(|(id, message)| found(&id, message)).collect())
    }

    /// Hides a message for so many seconds from now on.
    ///
    /// # Errors
    /// Failed where another has taken it meanwhile.
    pub(crate) async fn hide(&self, receipt: &str, seconds: u32) -> Result<()> {
        let seconds = seconds.cast_signed().clamp(0, LONGEST_HIDDEN);
        let hide =
            self.client.change_message_visibility().queue_url(&self.url).receipt_handle(receipt);
        let hidden = hide.visibility_timeout(seconds).send().await;
        hidden
            .map(drop)
            .map_err(|error| failed(format!("keeping a message of {}", self.url), error))
    }

    /// Removes a message.
    ///
    /// # Errors
    /// Failed where SQS refuses.
    pub(crate) async fn remove(&self, receipt: &str) -> Result<()> {
        let removed =
            self.client.delete_message().queue_url(&self.url).receipt_handle(receipt).send().await;
        removed
            .map(drop)
            .map_err(|error| failed(format!("removing a message of {}", self.url), error))
    }
}

fn found(id: &str, message: Message) -> Found {
    let read =
        Failure::read(message.body.unwrap_or_default().as_bytes()).map(|(failure, _)| failure);
    (format!("message {id}"), Key::Message(message.receipt_handle.unwrap_or_default()), read)
}
