//! An aggregation over tumbling windows: how many earthquakes each network reported, and the
//! strongest of them, as one item in DynamoDB for each window and shard.
//!
//! ```toml
//! [package.metadata.streambot.event-source]
//! tumbling-window-in-seconds = 60
//! ```
//!
//! The stack has a table, its logical id `WindowTable`, with the partition key `window` and the
//! sort key `shard` (both text): one query by `window` finds what all shards saw in it. The
//! function's role may `dynamodb:PutItem`.

use std::collections::{BTreeMap, HashMap};

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::AttributeValue;
use aws_smithy_http_client::tls::{self, rustls_provider::CryptoMode};
use serde::{Deserialize, Serialize};
use streambot_runtime::{Error, FromRecord, Json, Stack, Window, metrics, run, window};

type Item = HashMap<String, AttributeValue>;

/// An event of the USGS feed; what the service does not use is left out.
#[derive(Deserialize)]
struct Quake {
    net: String,
    /// Unknown for a few events.
    mag: Option<f64>,
}

/// The window's state. Lambda carries it from batch to batch and ends a window early where it grows
/// over 1 MB; there are a dozen networks, so it never does.
#[derive(Default, Serialize, Deserialize)]
struct Totals {
    quakes: BTreeMap<String, u64>,
    strongest: Option<f64>,
}

fn main() -> Result<(), Error> {
    run(async || {
        let table = Stack::from_env().value("WindowTable").ok_or("the stack has no WindowTable")?;
        let client = client().await;
        let handler = async move |window: Window<Totals>| -> Result<Totals, Error> {
            add_up(window, async |item| {
                client.put_item().table_name(&table).set_item(Some(item)).send().await?;
                Ok(())
            })
            .await
        };
        Ok(window(handler))
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

/// Adds a batch to its window, and puts the window's result with its last batch. A put that fails
/// fails the invocation; Lambda sends the last batch again, and the item is overwritten by the same
/// one.
async fn add_up(
    mut window: Window<Totals>,
    put: impl AsyncFn(Item) -> Result<(), Error>,
) -> Result<Totals, Error> {
    for record in &window.batch {
        // A record that is no earthquake must not hold up the window.
        let Ok(Json(quake)) = Json::<Quake>::from_record(record) else {
            metrics::count("UnreadableQuakes", 1);
            continue;
        };
        *window.state.quakes.entry(quake.net).or_default() += 1;
        window.state.strongest =
            [window.state.strongest, quake.mag].into_iter().flatten().reduce(f64::max);
    }
    if window.is_final() && !window.state.quakes.is_empty() {
        put(item(&window)).await?;
    }
    Ok(window.state)
}

/// Window and shard are the key. A shard has one window at a time as long as
/// `parallelization-factor` stays 1.
fn item(window: &Window<Totals>) -> Item {
    let text = |text: &str| AttributeValue::S(text.to_owned());
    let quakes = window
        .state
        .quakes
        .iter()
        .map(|(net, count)| (net.clone(), AttributeValue::N(count.to_string())));
    let mut item = Item::from([
        ("window".to_owned(), text(window.start())),
        ("shard".to_owned(), text(window.shard_id())),
        ("until".to_owned(), text(window.end())),
        ("quakes".to_owned(), AttributeValue::M(quakes.collect())),
    ]);
    if let Some(strongest) = window.state.strongest {
        item.insert("strongest".to_owned(), AttributeValue::N(strongest.to_string()));
    }
    item
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use serde_json::{Value, json};
    use streambot_runtime::testing::{Event, invoke, records};

    use super::*;

    fn of_window(event: Event, state: Value) -> Event {
        event.window("2026-11-22T18:00:00Z", "2026-11-22T18:01:00Z", state)
    }

    #[tokio::test]
    async fn the_result_is_put_once_with_the_windows_last_batch() {
        let items = RefCell::new(Vec::new());
        let handler = window(async |window: Window<Totals>| -> Result<Totals, Error> {
            add_up(window, async |item| {
                items.borrow_mut().push(item);
                Ok(())
            })
            .await
        });
        let quakes = [
            r#"{"net":"us","mag":5.3}"#,
            r#"{"net":"uw","mag":null}"#,
            "no JSON",
            r#"{"net":"us","mag":1}"#,
        ];
        let first = invoke(&handler, of_window(records(quakes), json!({}))).await;
        assert_eq!(
            first.state(),
            Some(&json!({ "quakes": { "us": 2, "uw": 1 }, "strongest": 5.3 }))
        );
        assert_eq!(first.metric("UnreadableQuakes"), Some(1.0));
        assert!(items.borrow().is_empty());

        let state = first.state().cloned().unwrap_or_default();
        let last = invoke(&handler, of_window(Event::new(), state).final_invoke()).await;
        assert!(last.succeeded(), "{}", last.logs());
        let items = items.borrow();
        let [item] = &items[..] else { panic!("{items:?}") };
        assert_eq!(item["window"], AttributeValue::S("2026-11-22T18:00:00Z".to_owned()));
        assert_eq!(item["shard"], AttributeValue::S("shardId-000000000000".to_owned()));
        assert_eq!(item["strongest"], AttributeValue::N("5.3".to_owned()));
    }
}
