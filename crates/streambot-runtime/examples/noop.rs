//! A function that does nothing with its records: what is left is what `streambot-deploy local` and
//! the runtime cost.

use streambot_runtime::{Batch, Error, batch, run};

fn main() -> Result<(), Error> {
    run(async || Ok(batch(pass)))
}

async fn pass(records: Batch) -> Result<(), Error> {
    std::hint::black_box(records);
    Ok(())
}
