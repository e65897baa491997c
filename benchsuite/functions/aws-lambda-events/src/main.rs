//! lambda_runtime with the event type of aws_lambda_events: what one writes without Streambot.

use aws_lambda_events::event::kinesis::KinesisEvent;
use lambda_runtime::{Error, LambdaEvent, run, service_fn};
use serde_json::{Value, json};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    run(service_fn(pass)).await
}

async fn pass(event: LambdaEvent<KinesisEvent>) -> Result<Value, Error> {
    std::hint::black_box(event.payload);
    Ok(json!({ "batchItemFailures": [] }))
}
