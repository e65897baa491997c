//! One function, two streams: orders, from the stream of the service's own stack, and payments,
//! from another team's. Each has an event source mapping of its own; a batch is always of one
//! stream, and the handler tells by its ARN which one.
//!
//! ```toml
//! [[package.metadata.streambot.event-source]]     # the stack's own stream
//! batch-size = 500
//! [[package.metadata.streambot.event-source]]
//! stream = "arn:aws:kinesis:eu-west-1:123456789012:stream/payments"
//! maximum-retry-attempts = 10
//! ```

use serde::Deserialize;
use streambot_runtime::{Batch, Context, Error, Handler, Json, Outcome, Stack, each, metrics, run};

#[derive(Deserialize)]
struct Order {
    id: String,
}

#[derive(Deserialize)]
struct Payment {
    order: String,
    cents: u64,
}

fn main() -> Result<(), Error> {
    run(async || {
        let own =
            Stack::from_env().stream_arn().ok_or("the stack's values have no KinesisStream")?;
        Ok(ByStream { own, orders: each(take_order), payments: each(take_payment).concurrency(16) })
    })
}

/// Hands a batch to the handler of its stream, which does the rest: types, order, checkpoint, each
/// by its own settings.
struct ByStream<O, P> {
    /// ARN of the stack's own stream.
    own: String,
    orders: O,
    payments: P,
}

impl<O: Handler, P: Handler> Handler for ByStream<O, P> {
    async fn handle(&self, batch: Batch, context: Context) -> Result<Outcome, Error> {
        let stream = batch.event_source_arn().map(stream_of);
        match stream {
            Some(stream) if stream == self.own => self.orders.handle(batch, context).await,
            Some(stream) if stream.ends_with(":stream/payments") => {
                self.payments.handle(batch, context).await
            }
            // A third mapping that nobody told this function of. Its records come again until
            // someone does.
            other => Err(format!(
                "records of {} are not for this function",
                other.unwrap_or("no stream")
            )
            .into()),
        }
    }
}

/// The stream's ARN; where the mapping reads with enhanced fan-out, batches name its consumer:
/// `<stream>/consumer/…`.
fn stream_of(arn: &str) -> &str {
    arn.split("/consumer/").next().unwrap_or(arn)
}

async fn take_order(order: Json<Order>) -> Result<(), Error> {
    tracing::info!(order = order.id, "ordered");
    metrics::count("Orders", 1);
    Ok(())
}

async fn take_payment(payment: Json<Payment>) -> Result<(), Error> {
    tracing::info!(order = payment.order, cents = payment.cents, "paid");
    metrics::count("Payments", 1);
    Ok(())
}

#[cfg(test)]
mod tests {
    use streambot_runtime::testing::{Answer, invoke_json, records};

    use super::*;

    const OWN: &str = "arn:aws:kinesis:us-east-1:123456789012:stream/orders";

    /// What comes of one record that a stream (or a consumer of it) delivers.
    async fn deliver(data: &str, stream: &str) -> Answer {
        let handler = ByStream {
            own: OWN.to_owned(),
            orders: each(take_order),
            payments: each(take_payment),
        };
        let event = records([data]);
        invoke_json(&handler, event.to_json().replace("stream/test", stream), &event).await
    }

    #[tokio::test]
    async fn each_stream_has_a_handler_of_its_own() {
        for stream in ["stream/orders", "stream/orders/consumer/fast:1700000000"] {
            let answer = deliver(r#"{"id":"1"}"#, stream).await;
            assert_eq!(
                (answer.metric("Orders"), answer.metric("Payments")),
                (Some(1.0), None),
                "{}",
                answer.logs()
            );
        }
        let answer = deliver(r#"{"order":"1","cents":500}"#, "stream/payments").await;
        assert_eq!(
            (answer.metric("Orders"), answer.metric("Payments")),
            (None, Some(1.0)),
            "{}",
            answer.logs()
        );
        let error =
            deliver("{}", "stream/other").await.json().map(|_| ()).expect_err("no handler for it");
        assert!(error.message().contains("stream/other"), "{error}");
    }
}
