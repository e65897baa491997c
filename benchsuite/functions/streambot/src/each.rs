//! `each`, with a handler that does nothing, and as many records at once as `CONCURRENCY` says: 1
//! where it is not set.

use streambot_runtime::{Error, Record, each, run};

fn main() -> Result<(), Error> {
    run(async || {
        let concurrency = std::env::var("CONCURRENCY").map_or(Ok(1), |text| text.parse())?;
        Ok(each(pass).concurrency(concurrency))
    })
}

async fn pass(record: Record) -> Result<(), Error> {
    std::hint::black_box(record);
    Ok(())
}
