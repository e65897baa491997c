//! Earthquakes from a Kinesis stream: the strong ones are logged as alerts, and all of them are
//! archived to S3 where the stack has an `ArchiveBucket`.

use aws_sdk_s3::Client;
use aws_sdk_s3::primitives::ByteStream;
use aws_smithy_http_client::tls::{self, rustls_provider::CryptoMode};
use serde::Deserialize;
use streambot_runtime::{Error, Json, Record, Stack, each, metrics, run};

/// A magnitude from which an earthquake is felt by many and may do damage.
const ALERT_MAGNITUDE: f64 = 4.5;

/// An event of the USGS feed; what the service does not use is left out.
#[derive(Debug, Deserialize)]
struct Quake {
    id: String,
    /// Unknown for a few events.
    mag: Option<f64>,
    place: String,
}

fn main() -> Result<(), Error> {
    run(async || {
        // Runs once, before the first batch: clients belong here.
        let archive = match Stack::from_env().value("ArchiveBucket") {
            Some(bucket) => Some(Archive::new(bucket).await),
            None => None,
        };
        let handler = async move |(record, quake): (Record, Json<Quake>)| -> Result<(), Error> {
            if let Some(archive) = &archive {
                archive.store(&record).await?;
            }
            alert(&quake);
            Ok(())
        };
        Ok(each(handler).concurrency(16))
    })
}

fn alert(quake: &Quake) {
    if quake.mag.is_some_and(|magnitude| magnitude >= ALERT_MAGNITUDE) {
        tracing::info!(id = quake.id, magnitude = quake.mag, place = quake.place, "alert");
        metrics::count("Alerts", 1);
    }
}

/// The bucket that keeps every record's data.
struct Archive {
    client: Client,
    bucket: String,
}

impl Archive {
    async fn new(bucket: String) -> Self {
        let https = aws_smithy_http_client::Builder::new()
            .tls_provider(tls::Provider::Rustls(CryptoMode::Ring))
            .build_https();
        let settings = aws_config::defaults(aws_config::BehaviorVersion::latest())
            .http_client(https)
            .load()
            .await;
        Self { client: Client::new(&settings), bucket }
    }

    /// A record that is delivered again overwrites its own object, so storing it twice does no
    /// harm.
    async fn store(&self, record: &Record) -> Result<(), Error> {
        self.client
            .put_object()
            .bucket(&self.bucket)
            .key(format!("example-records/{}", record.sequence_number()))
            .body(ByteStream::from(record.data().to_vec()))
            .send()
            .await?;
        Ok(())
    }
}
