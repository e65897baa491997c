//! How a bundle gets to Lambda: in the request itself, or by an S3 bucket where it is too large for
//! that. It refuses to know which function it is for.

use std::fmt::Write as _;

use aws_sdk_s3::Client;
use aws_sdk_s3::error::ProvideErrorMetadata as _;
use aws_sdk_s3::primitives::ByteStream;
use sha2::{Digest as _, Sha256};

use super::Bundle;
use super::size::{self, size};
use crate::aws::{Aws, failed, upload};
use crate::error::{Error, Result};
use crate::progress;

/// Where Lambda finds a function's code.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Code<'a> {
    /// In the request: the zip's bytes.
    Inline(&'a [u8]),
    /// In an S3 bucket of the function's region.
    Stored { bucket: String, key: String },
}

impl Bundle {
    /// The bucket the bundle goes through: none where it is small enough for a request.
    ///
    /// # Errors
    /// Usage where it is too large for a request and no bucket is given.
    pub(crate) fn way<'a>(&self, bucket: Option<&'a str>) -> Result<Option<&'a str>> {
        size::way(self.zip.len() as u64, size::DIRECT, bucket)
    }
}

/// Puts the bundle where Lambda finds it: a small one is not sent before the call that takes it, a
/// large one goes to `bucket`, unless it is there already.
///
/// # Errors
/// Usage where it is too large for a request and no bucket is given; failed where S3 does not take
/// it.
pub(crate) async fn place<'a>(
    aws: &Aws,
    bundle: &'a Bundle,
    bucket: Option<&str>,
) -> Result<Code<'a>> {
    match bundle.way(bucket)? {
        None => Ok(Code::Inline(&bundle.zip)),
        Some(bucket) => store(aws, bundle, bucket).await,
    }
}

/// Puts the bundle into the bucket, where it is not there already.
async fn store(aws: &Aws, bundle: &Bundle, bucket: &str) -> Result<Code<'static>> {
    // Path style, so that an endpoint on this machine needs no name for every bucket.
    let path_style = aws.config.endpoint_url().is_some();
    let settings =
        aws_sdk_s3::config::Builder::from(&aws.config).force_path_style(path_style).build();
    let client = Client::from_conf(settings);
    let key = key(&bundle.zip);
    if is_there(&client, bucket, &key, bundle, aws.region()).await? {
        progress::say(format!("the bundle is in s3://{bucket}/{key} already"));
    } else {
        put(&client, aws, bucket, &key, bundle).await?;
    }
    Ok(Code::Stored { bucket: bucket.to_owned(), key })
}

/// The object's key: what has the same contents has the same one.
fn key(zip: &[u8]) -> String {
    let mut key = "streambot/".to_owned();
    for byte in Sha256::digest(zip) {
        let _ = write!(key, "{byte:02x}");
    }
    key + ".zip"
}

/// Whether the object is there, whole. Who may not list the bucket is told 403 of an object that is
/// not there.
async fn is_there(
    client: &Client,
    bucket: &str,
    key: &str,
    bundle: &Bundle,
    region: &str,
) -> Result<bool> {
    let error = match client.head_object().bucket(bucket).key(key).send().await {
        Ok(found) => return Ok(found.content_length() == i64::try_from(bundle.zip.len()).ok()),
        Err(error) => error,
    };
    match error.raw_response().map(|response| response.status().as_u16()) {
        Some(403 | 404) => Ok(false),
        // An answer to HEAD has no body that would say it.
        Some(301 | 400) => Err(failed(format!("looking up s3://{bucket}/{key}"), error)
            .hint(format!("Lambda takes code from buckets of its own region: name one in {region} with --bucket"))),
        _ => Err(failed(format!("looking up s3://{bucket}/{key}"), error)),
    }
}

async fn put(client: &Client, aws: &Aws, bucket: &str, key: &str, bundle: &Bundle) -> Result<()> {
    let doing = format!("uploading {} to s3://{bucket}/{key}", size(bundle.zip.len() as u64));
    progress::say(&doing);
    client
        .put_object()
        .bucket(bucket)
        .key(key)
        .content_type("application/zip")
        // S3 compares it with what came.
        .checksum_sha256(&bundle.code_sha256)
        .body(ByteStream::from(bundle.zip.clone()))
        .customize()
        .interceptor(upload::bar())
        .config_override(aws_sdk_s3::Config::builder().timeout_config(aws.patience.for_upload()))
        .send()
        .await
        .map(|_| ())
        .map_err(|error| {
            let hint = match error.as_service_error().and_then(|error| error.code()) {
                Some("NoSuchBucket") => {
                    Some(format!("create the bucket in {}, or name another", aws.region()))
                }
                Some("AccessDenied") => {
                    Some(format!("allow s3:PutObject on arn:aws:s3:::{bucket}/streambot/*"))
                }
                _ => None,
            };
            let error: Error = failed(doing, error);
            match hint {
                Some(hint) => error.hint(hint),
                None => error,
            }
        })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use axum::extract::{Request, State};
    use axum::http::{Method, StatusCode};
    use axum::response::{IntoResponse as _, Response};

    use super::*;

    /// What S3 was asked, and what it says of an object that is looked up and of one that is put.
    #[derive(Clone)]
    struct Bucket {
        asked: Arc<Mutex<Vec<String>>>,
        head: (u16, usize),
        put: (u16, &'static str),
    }

    async fn answer(State(bucket): State<Bucket>, request: Request) -> Response {
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        bucket.asked.lock().unwrap().push(format!("{method} {path}"));
        if method == Method::HEAD {
            let (status, length) = bucket.head;
            return (StatusCode::from_u16(status).unwrap(), vec![0; length]).into_response();
        }
        let checksum = request.headers()["x-amz-checksum-sha256"].to_str().unwrap().to_owned();
        assert_eq!(checksum, Bundle::of(ZIP).code_sha256);
        let body = axum::body::to_bytes(request.into_body(), 1000).await.unwrap();
        assert_eq!(body, ZIP);
        let (status, code) = bucket.put;
        let told = match code {
            "" => String::new(),
            _ => format!("<Error><Code>{code}</Code><Message>told</Message></Error>"),
        };
        (StatusCode::from_u16(status).unwrap(), told).into_response()
    }

    const ZIP: &[u8] = b"abc";
    const KEY: &str =
        "streambot/ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad.zip";

    impl Bundle {
        fn of(zip: &[u8]) -> Self {
            Self::new(zip.to_vec(), 3, 1)
        }
    }

    /// Stores a bundle of three bytes, and tells what S3 was asked.
    async fn attempt(
        head: (u16, usize),
        put: (u16, &'static str),
    ) -> (Result<Code<'static>>, Vec<String>) {
        let bucket = Bucket { asked: Arc::default(), head, put };
        let app = axum::Router::new().fallback(answer).with_state(bucket.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, app).await });
        let aws = Aws::of_test(&url, Duration::from_secs(60)).await;
        let bundle = Bundle::of(ZIP);
        let code = store(&aws, &bundle, "artifacts").await;
        let asked = bucket.asked.lock().unwrap().clone();
        (code, asked)
    }

    fn asked(method: &str) -> String {
        format!("{method} /artifacts/{KEY}")
    }

    fn stored() -> Code<'static> {
        Code::Stored { bucket: "artifacts".into(), key: KEY.into() }
    }

    #[tokio::test]
    async fn a_small_bundle_goes_in_the_request_and_s3_is_not_asked() {
        let aws = Aws::of_test("http://127.0.0.1:1", Duration::from_secs(1)).await;
        assert_eq!(
            place(&aws, &Bundle::of(ZIP), Some("artifacts")).await.unwrap(),
            Code::Inline(ZIP)
        );
    }

    #[tokio::test]
    async fn a_large_bundle_goes_to_the_bucket_by_its_hash_also_where_listing_is_denied() {
        for status in [404, 403] {
            let (code, calls) = attempt((status, 0), (200, "")).await;
            assert_eq!(code.unwrap(), stored());
            assert_eq!(calls, [asked("HEAD"), asked("PUT")]);
        }
    }

    #[tokio::test]
    async fn a_bundle_that_is_in_the_bucket_is_not_uploaded_again_and_half_of_one_is() {
        let (code, calls) = attempt((200, 3), (200, "")).await;
        assert_eq!(code.unwrap(), stored());
        assert_eq!(calls, [asked("HEAD")]);
        let (code, calls) = attempt((200, 2), (200, "")).await;
        assert_eq!(code.unwrap(), stored());
        assert_eq!(calls, [asked("HEAD"), asked("PUT")]);
    }

    #[tokio::test]
    async fn what_s3_refuses_is_told_with_what_to_do() {
        for (head, put, told) in [
            (404, (404, "NoSuchBucket"), "next: create the bucket in us-east-1, or name another"),
            (
                403,
                (403, "AccessDenied"),
                "next: allow s3:PutObject on arn:aws:s3:::artifacts/streambot/*",
            ),
            (404, (400, "BadDigest"), "because: BadDigest: told"),
            (
                301,
                (200, ""),
                "next: Lambda takes code from buckets of its own region: name one in us-east-1",
            ),
        ] {
            let report = attempt((head, 0), put).await.0.unwrap_err().report();
            assert!(
                report.contains("s3://artifacts/streambot/ba78") && report.contains(told),
                "{report}"
            );
        }
    }
}
