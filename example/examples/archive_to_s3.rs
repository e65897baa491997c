//! An archive, as Streambot 1.0's own example was: the data of each record becomes an object in S3.
//!
//! The stack has the bucket's name as its parameter `ArchiveBucket` and allows `s3:PutObject`
//! there: see `template.rs`.

use aws_sdk_s3::Client;
use aws_sdk_s3::primitives::ByteStream;
use aws_smithy_http_client::tls::{self, rustls_provider::CryptoMode};
use streambot_runtime::{Error, Record, Stack, each, run};

fn main() -> Result<(), Error> {
    run(async || {
        let bucket =
            Stack::from_env().value("ArchiveBucket").ok_or("the stack has no ArchiveBucket")?;
        let client = client().await;
        let store = async move |record: Record| -> Result<(), Error> {
            let data = ByteStream::from(record.data().to_vec());
            client.put_object().bucket(&bucket).key(key(&record)).body(data).send().await?;
            Ok(())
        };
        // The function does nothing but wait for S3, so it waits for many answers at once.
        Ok(each(store).concurrency(32))
    })
}

/// The client asks for rustls on ring; the SDK's default brings a C build of AWS-LC.
async fn client() -> Client {
    let https = aws_smithy_http_client::Builder::new()
        .tls_provider(tls::Provider::Rustls(CryptoMode::Ring))
        .build_https();
    let settings =
        aws_config::defaults(aws_config::BehaviorVersion::latest()).http_client(https).load().await;
    Client::new(&settings)
}

/// The key is the record's own, so a record that is delivered again overwrites its object. User
/// records of one KPL aggregate share a sequence number and differ in the sub sequence number.
fn key(record: &Record) -> String {
    format!(
        "example-records/{}/{}-{}",
        record.shard_id(),
        record.sequence_number(),
        record.sub_sequence_number()
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use streambot_runtime::testing::{Event, aggregated, decode, record};

    use super::*;

    #[test]
    fn a_key_is_one_records_alone_and_the_same_whenever_it_is_delivered() -> Result<(), Error> {
        let event =
            Event::new().record(record("plain")).record(aggregated([("a", "one"), ("a", "two")]));
        let keys = || -> Result<BTreeSet<String>, Error> {
            Ok(decode(event.to_json())?.deaggregated().iter().map(|record| key(&record)).collect())
        };
        let first = keys()?;
        assert_eq!(first.len(), 3);
        assert_eq!(keys()?, first);
        assert!(first.contains(&format!(
            "example-records/shardId-000000000000/{}-1",
            event.sequence_number(1)
        )));
        Ok(())
    }
}
