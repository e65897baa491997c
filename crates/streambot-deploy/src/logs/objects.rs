//! The log objects that the runtime uploads to S3, one for each invocation, by the stack's
//! `LogBucket` and `LogPrefix`. It refuses to know how they are shown.

use aws_sdk_s3::Client;
use aws_sdk_s3::error::ProvideErrorMetadata as _;
use aws_sdk_s3::types::Object;
use serde::Serialize;

use super::seen::Logged;
use crate::aws::{Aws, failed};
use crate::error::{Error, Result};
use crate::service::Service;
use crate::status::find_stack;
use crate::time::Time;

/// Where a service's log objects are.
#[derive(Debug)]
pub(super) struct Place {
    client: Client,
    pub(super) bucket: String,
    /// What their keys begin with.
    pub(super) prefix: String,
}

/// A log object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LogObject {
    pub(super) key: String,
    pub(super) last_modified: Time,
}

impl Logged for LogObject {
    fn id(&self) -> &str {
        &self.key
    }

    fn time(&self) -> Time {
        self.last_modified
    }
}

/// A line of a log object.
#[derive(Debug, Serialize)]
pub(super) struct Line<'a> {
    /// Of the object.
    pub(super) last_modified: Time,
    pub(super) bucket: &'a str,
    pub(super) key: &'a str,
    /// The line as it was logged.
    pub(super) message: &'a str,
}

impl Place {
    /// Finds it by the stack's outputs.
    ///
    /// # Errors
    /// Missing where the stack is not there, or uploads no logs; failed where CloudFormation
    /// refuses.
    pub(super) async fn find(aws: &Aws, service: &Service, stack: &str) -> Result<Self> {
        let found = find_stack(aws, stack, &[&service.prefix]).await?.ok_or_else(|| {
            Error::missing(format!("stack `{stack}` is not there in {}", aws.region()))
                .hint("its output LogBucket names the bucket; deploy it, or name its region with --region")
        })?;
        let output = |key| found.output(&service.prefix, key);
        let bucket = output("LogBucket").ok_or_else(|| {
            Error::missing(format!("stack `{stack}` has no LogBucket, so no logs are uploaded"))
                .hint("read CloudWatch Logs, without --s3, or set the stack's parameter LogBucket")
        })?;
        // Path style, so that an endpoint on this machine needs no name for every bucket.
        let path_style = aws.config.endpoint_url().is_some();
        let settings =
            aws_sdk_s3::config::Builder::from(&aws.config).force_path_style(path_style).build();
        Ok(Self {
            client: Client::from_conf(settings),
            bucket: bucket.to_owned(),
            prefix: prefix(output("LogPrefix").unwrap_or_default(), stack),
        })
    }

    /// The objects that were written at `from` or later, in the order of their keys.
    ///
    /// # Errors
    /// Missing where the bucket is not there; failed where S3 refuses.
    pub(super) async fn list(&self, from: Time) -> Result<Vec<LogObject>> {
        let request = self.client.list_objects_v2().bucket(&self.bucket).prefix(&self.prefix);
        let mut pages = request.into_paginator().send();
        let mut objects = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| {
                if error.as_service_error().is_some_and(|error| error.is_no_such_bucket()) {
                    return Error::missing(format!(
                        "bucket `{}`, the stack's LogBucket, is not there",
                        self.bucket
                    ))
                    .hint("make it, or set the stack's parameter LogBucket to one that is there");
                }
                failed(format!("listing s3://{}/{}", self.bucket, self.prefix), error)
            })?;
            objects.extend(
                page.contents
                    .into_iter()
                    .flatten()
                    .filter_map(log_object)
                    .filter(|object| object.last_modified >= from),
            );
        }
        Ok(objects)
    }

    /// Reads an object; nothing where it was deleted since it was listed.
    ///
    /// # Errors
    /// Failed where S3 refuses or does not answer to the end.
    pub(super) async fn get(&self, object: &LogObject) -> Result<Option<String>> {
        let doing = || format!("reading s3://{}/{}", self.bucket, object.key);
        let answer =
            match self.client.get_object().bucket(&self.bucket).key(&object.key).send().await {
                Ok(answer) => answer,
                Err(error)
                    if error
                        .as_service_error()
                        .is_some_and(|error| error.code() == Some("NoSuchKey")) =>
                {
                    return Ok(None);
                }
                Err(error) => return Err(failed(doing(), error)),
            };
        let body =
            answer.body.collect().await.map_err(|error| Error::failed(doing()).because(error))?;
        Ok(Some(String::from_utf8_lossy(&body.into_bytes()).into_owned()))
    }
}

/// Keys are `<LogPrefix>/<StackName>/<shard>/…`, with the prefix as it is, even one that ends in a
/// slash.
fn prefix(log_prefix: &str, stack: &str) -> String {
    let slash = if log_prefix.is_empty() { "" } else { "/" };
    format!("{log_prefix}{slash}{stack}/")
}

/// Nothing for what is no log object.
fn log_object(object: Object) -> Option<LogObject> {
    let last_modified = Time::of(object.last_modified())?;
    let key = object.key.filter(|key| key.ends_with(".log"))?;
    Some(LogObject { key, last_modified })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_begin_as_the_runtime_writes_them() {
        assert_eq!(prefix("", "quakes-staging"), "quakes-staging/");
        assert_eq!(prefix("logs", "quakes-staging"), "logs/quakes-staging/");
        assert_eq!(prefix("a/b/", "quakes-staging"), "a/b//quakes-staging/");
    }
}
