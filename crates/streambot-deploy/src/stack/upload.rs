//! Templates on their way to CloudFormation: within the call where they fit, else through a bucket,
//! each under the hash of its content. It refuses to know what is in a template.

use std::fmt::Write as _;

use aws_sdk_s3::Client;
use sha2::{Digest as _, Sha256};

use super::template::{LARGEST_INLINE, Template};
use crate::aws::{self, Aws};
use crate::error::{Error, Result};
use crate::progress;

/// How CloudFormation gets a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    Body(String),
    Url(String),
}

/// A template and all that it nests, where CloudFormation finds them.
#[derive(Debug)]
pub(super) struct Placed {
    pub(super) source: Source,
    /// Addresses of the nested ones, at whatever depth.
    pub(super) nested: Vec<String>,
}

/// The bucket that the template needs; none where it needs none.
///
/// # Errors
/// Bad usage where it needs one and none is given.
pub(super) fn bucket<'a>(template: &Template, given: Option<&'a str>) -> Result<Option<&'a str>> {
    if !template.needs_bucket() || given.is_some() {
        return Ok(given.filter(|_| template.needs_bucket()));
    }
    let path = template.path.display();
    let why = match template.nested.first() {
        Some(nested) => format!("nests {}", nested.template.path.display()),
        None => format!(
            "has {} bytes, and a call to CloudFormation takes {LARGEST_INLINE}",
            template.text.len()
        ),
    };
    Err(Error::usage(format!("the template {path} {why}"))
        .hint("name a bucket of this region that it can be uploaded to: --bucket NAME"))
}

/// Uploads what needs it.
///
/// # Errors
/// Failed where the bucket cannot be read or written.
pub(super) async fn place(aws: &Aws, template: &Template, bucket: Option<&str>) -> Result<Placed> {
    let Some(bucket) = bucket else {
        return Ok(Placed { source: Source::Body(template.text.clone()), nested: Vec::new() });
    };
    // Path style, so that an endpoint on this machine needs no name for every bucket.
    let path_style = aws.config.endpoint_url().is_some();
    let settings =
        aws_sdk_s3::config::Builder::from(&aws.config).force_path_style(path_style).build();
    let target = Target {
        client: Client::from_conf(settings),
        endpoint: aws.config.endpoint_url(),
        region: aws.region(),
        bucket,
    };
    let mut nested = Vec::new();
    let text = target.place_nested(template, &mut nested).await?;
    let source = if text.len() > LARGEST_INLINE {
        Source::Url(target.upload(template, text).await?)
    } else {
        Source::Body(text)
    };
    Ok(Placed { source, nested })
}

struct Target<'a> {
    client: Client,
    endpoint: Option<&'a str>,
    region: &'a str,
    bucket: &'a str,
}

impl Target<'_> {
    /// Uploads what a template nests, the innermost first, and gives its text with their addresses.
    async fn place_nested(&self, template: &Template, all: &mut Vec<String>) -> Result<String> {
        let mut addresses = Vec::new();
        for nested in &template.nested {
            let text = Box::pin(self.place_nested(&nested.template, all)).await?;
            addresses.push(self.upload(&nested.template, text).await?);
        }
        all.extend_from_slice(&addresses);
        template.naming(&addresses)
    }

    /// Uploads a template unless it is there, and tells its address.
    async fn upload(&self, template: &Template, text: String) -> Result<String> {
        let (bucket, path) = (self.bucket, template.path.display());
        let key = key(&text);
        let address = address(self.endpoint, self.region, bucket, &key);
        // What cannot be looked at is uploaded again: whoever may write may not always list.
        if self.client.head_object().bucket(bucket).key(&key).send().await.is_ok() {
            return Ok(address);
        }
        let upload = async {
            let put = self
                .client
                .put_object()
                .bucket(bucket)
                .key(&key)
                .body(text.into_bytes().into())
                .send()
                .await;
            put.map(|_| ()).map_err(|error| {
                let missing = error
                    .as_service_error()
                    .and_then(aws_sdk_s3::error::ProvideErrorMetadata::code)
                    == Some("NoSuchBucket");
                let error = aws::failed(
                    format!("uploading the template {path} to bucket `{bucket}`"),
                    error,
                );
                if missing {
                    error.hint("create the bucket, or name another one with --bucket")
                } else {
                    error
                }
            })
        };
        progress::step(format!("uploading {path} to s3://{bucket}/{key}"), upload).await?;
        Ok(address)
    }
}

fn key(text: &str) -> String {
    let mut key = "streambot/".to_owned();
    for byte in Sha256::digest(text.as_bytes()) {
        let _ = write!(key, "{byte:02x}");
    }
    key + ".template"
}

/// The address of an object, as CloudFormation takes it.
fn address(endpoint: Option<&str>, region: &str, bucket: &str, key: &str) -> String {
    let domain = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
    match endpoint {
        Some(endpoint) => format!("{}/{bucket}/{key}", endpoint.trim_end_matches('/')),
        // AWS's certificate covers one label before `s3`.
        None if bucket.contains('.') => format!("https://s3.{region}.{domain}/{bucket}/{key}"),
        None => format!("https://{bucket}.s3.{region}.{domain}/{key}"),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_the_contents() {
        assert_eq!(
            key("abc"),
            "streambot/ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad.template"
        );
    }

    #[test]
    fn the_address_is_one_that_the_server_knows() {
        let of = |endpoint, region, bucket| address(endpoint, region, bucket, "k");
        assert_eq!(of(None, "eu-west-1", "b"), "https://b.s3.eu-west-1.amazonaws.com/k");
        assert_eq!(of(None, "eu-west-1", "b.c"), "https://s3.eu-west-1.amazonaws.com/b.c/k");
        assert_eq!(of(None, "cn-north-1", "b"), "https://b.s3.cn-north-1.amazonaws.com.cn/k");
        assert_eq!(
            of(Some("http://127.0.0.1:4566/"), "eu-west-1", "b"),
            "http://127.0.0.1:4566/b/k"
        );
    }

    #[test]
    fn a_bucket_is_asked_for_only_where_it_is_needed() {
        let mut template =
            Template { path: "a.yaml".into(), text: "Resources: {}".into(), nested: Vec::new() };
        assert_eq!(bucket(&template, None).unwrap(), None);
        assert_eq!(bucket(&template, Some("b")).unwrap(), None);
        template.text = "#".repeat(LARGEST_INLINE + 1);
        assert_eq!(bucket(&template, Some("b")).unwrap(), Some("b"));
        assert_eq!(
            bucket(&template, None).unwrap_err().report(),
            "error: the template a.yaml has 51201 bytes, and a call to CloudFormation takes 51200\n  \
             next: name a bucket of this region that it can be uploaded to: --bucket NAME"
        );
    }
}
