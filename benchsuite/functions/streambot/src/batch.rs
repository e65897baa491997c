//! `batch`, with a handler that does nothing.

use streambot_runtime::{Batch, Error, batch, run};

fn main() -> Result<(), Error> {
    run(async || Ok(batch(pass)))
}

async fn pass(records: Batch) -> Result<(), Error> {
    std::hint::black_box(records);
    Ok(())
}
