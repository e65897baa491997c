//! Failed batches in an S3 bucket: an object for each, with the event in it. It lists, reads and
//! removes objects, and refuses to know what is made of them.

use aws_config::SdkConfig;
use aws_sdk_s3::Client;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};

use super::failure::Failure;
use super::source::{Found, Key};
use crate::aws::failed;
use crate::error::Result;
use crate::local::destination::s3_client;

/// How many objects are read at once.
const READ_AT_ONCE: usize = 8;

/// The objects of a bucket whose keys begin alike.
#[derive(Debug)]
pub(crate) struct Bucket {
    client: Client,
    bucket: String,
    prefix: String,
}

impl Bucket {
    /// Those below `prefix`.
    pub(crate) fn new(config: &SdkConfig, bucket: String, prefix: String) -> Self {
        Self { client: s3_client(config), bucket, prefix }
    }

    /// What each object tells. Their events are not kept: all of them together may be more than
    /// fits in memory.
    ///
    /// # Errors
    /// Failed where the bucket cannot be listed or an object not read.
    pub(crate) async fn find(&self) -> Result<Vec<Found>> {
        let list = self.client.list_objects_v2().bucket(&self.bucket).prefix(&self.prefix);
        let objects = list.into_paginator().send().try_collect().await;
        let pages = objects
            .map_err(|error| failed(format!("listing {}", self.name(&self.prefix)), error))?;
        let objects = pages.into_iter().flat_map(|page| page.contents.unwrap_or_default());
        // What consoles make to show a folder is an object too.
        let keys = objects.filter_map(|object| object.key).filter(|key| !key.ends_with('/'));
        let read = keys.map(|key| async move {
            let body = self.read(&key).await?;
            Ok((
                self.name(&key),
                Key::Object(key),
                Failure::read(&body).map(|(failure, _)| failure),
            ))
        });
        stream::iter(read).buffered(READ_AT_ONCE).try_collect().await
    }

    /// The body of an object.
    ///
    /// # Errors
    /// Failed where it cannot be read.
    pub(crate) async fn read(&self, key: &str) -> Result<Vec<u8>> {
        let doing = || format!("reading {}", self.name(key));
        let object = self.client.get_object().bucket(&self.bucket).key(key).send().await;
        let body = object.map_err(|error| failed(doing(), error))?.body.collect().await;
        Ok(body.map_err(|error| crate::error::Error::failed(doing()).because(error))?.to_vec())
    }

    /// Removes an object.
    ///
    /// # Errors
    /// Failed where S3 refuses.
    pub(crate) async fn remove(&self, key: &str) -> Result<()> {
        let removed = self.client.delete_object().bucket(&self.bucket).key(key).send().await;
        removed.map(drop).map_err(|error| failed(format!("removing {}", self.name(key)), error))
    }

    fn name(&self, key: &str) -> String {
        format!("s3://{}/{key}", self.bucket)
    }
}
