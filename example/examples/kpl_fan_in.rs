//! KPL fan-in: many web servers, each with a Kinesis Producer Library that packs its page views
//! into aggregates, feed one stream. The handler sees none of the packing: each page view comes
//! with its own partition key, here the visitor. What an invocation gets becomes one object of JSON
//! lines in S3, to be queried there.
//!
//! A failure brings back whole aggregates, and a batch that comes again may be cut otherwise, so a
//! page view can be in two objects. Its `id` is the same in both, by which a query counts it once.
//!
//! The stack has the bucket's name as its parameter `ArchiveBucket` and allows `s3:PutObject`
//! there: see `template.rs`.

use aws_sdk_s3::Client;
use aws_sdk_s3::primitives::ByteStream;
use aws_smithy_http_client::tls::{self, rustls_provider::CryptoMode};
use serde::Serialize;
use streambot_runtime::{Batch, Error, Record, Stack, batch, run};

/// One line of an object.
#[derive(Serialize)]
struct Row<'a> {
    /// Shard, sequence number, and the place in the aggregate: user records of one aggregate share
    /// a sequence number.
    id: String,
    visitor: Option<&'a str>,
    /// Where the producer chose the shard itself, to spread a busy visitor over several. Order
    /// among that visitor's page views then holds within each shard only.
    explicit_hash_key: Option<&'a str>,
    view: String,
}

fn main() -> Result<(), Error> {
    run(async || {
        let bucket =
            Stack::from_env().value("ArchiveBucket").ok_or("the stack has no ArchiveBucket")?;
        let client = client().await;
        let store = async move |batch: Batch| -> Result<(), Error> {
            let Some(first) = batch.get(0) else { return Ok(()) };
            let body = ByteStream::from(lines(&batch)?);
            client.put_object().bucket(&bucket).key(key(&first)).body(body).send().await?;
            Ok(())
        };
        Ok(batch(store))
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

fn key(first: &Record) -> String {
    format!("example-records/{}/{}.ndjson", first.shard_id(), first.sequence_number())
}

/// The batch as JSON lines. A page view is kept as the text it is, so none is lost for being
/// malformed.
fn lines(batch: &Batch) -> Result<Vec<u8>, Error> {
    let mut lines = Vec::new();
    for record in batch {
        let row = Row {
            id: record.id(),
            visitor: record.partition_key(),
            explicit_hash_key: record.explicit_hash_key(),
            view: String::from_utf8_lossy(record.data()).into_owned(),
        };
        serde_json::to_writer(&mut lines, &row)?;
        lines.push(b'\n');
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use streambot_runtime::testing::{Event, aggregated, decode, record};

    use super::*;

    /// An aggregate as another implementation of the format wrote it: visitor `b` has an explicit
    /// hash key.
    const OF_ANOTHER_PRODUCER: &[u8] = b"\xf3\x89\x9a\xc2\n\x01a\n\x01b\x12\x1412345678901234567890\x1a\x07\x08\x00\
        \x1a\x03one\x1a\t\x08\x01\x10\x00\x1a\x03two\x1a\t\x08\x00\x1a\x05three\xf4\x13\rG\xb15\x19w\x0b\xe6\x1eiO\xdfH\x1f";

    #[test]
    fn page_views_of_all_producers_are_rows_with_ids_of_their_own() -> Result<(), Error> {
        let event = Event::new()
            .record(record(OF_ANOTHER_PRODUCER))
            .record(aggregated([("c", "four"), ("a", "five")]))
            .record(record("six").partition_key("d"));
        let batch = decode(event.to_json())?.deaggregated();
        let lines = String::from_utf8(lines(&batch)?)?;
        let rows = lines.lines().map(serde_json::from_str).collect::<Result<Vec<Value>, _>>()?;

        let id =
            |index, place| format!("shardId-000000000000:{}:{place}", event.sequence_number(index));
        let hash_key = "12345678901234567890";
        let expected = [
            json!({ "id": id(0, 0), "visitor": "a", "explicit_hash_key": null, "view": "one" }),
            json!({ "id": id(0, 1), "visitor": "b", "explicit_hash_key": hash_key, "view": "two" }),
            json!({ "id": id(0, 2), "visitor": "a", "explicit_hash_key": null, "view": "three" }),
            json!({ "id": id(1, 0), "visitor": "c", "explicit_hash_key": null, "view": "four" }),
            json!({ "id": id(1, 1), "visitor": "a", "explicit_hash_key": null, "view": "five" }),
            json!({ "id": id(2, 0), "visitor": "d", "explicit_hash_key": null, "view": "six" }),
        ];
        assert_eq!(rows, expected);
        Ok(())
    }
}
