//! Measures Streambot beside its peers and prints Markdown tables: `benchsuite decode|growth|local`.

mod callgrind;
mod decode;
mod emulator;
mod growth;
mod local;
mod picture;
mod rounds;
mod table;

use std::path::Path;

use anyhow::{Context as _, Result, bail};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["decode"] => decode::table(),
        ["growth"] => growth::table(Path::new("docs/pictures/growth.svg")),
        ["growth", picture] => growth::table(Path::new(picture)),
        ["decode-once", event, decoder, times] => decode::once(Path::new(event), decoder, times.parse()?),
        ["local"] => local(),
        _ => bail!("say decode, growth or local"),
    }
}

fn local() -> Result<()> {
    let driver = std::env::current_exe().context("failed to find the driver itself")?;
    let release = driver.parent().context("the driver is in no folder")?;
    let tools = std::env::var_os("STREAMBOT_TEST_TOOLS").context("STREAMBOT_TEST_TOOLS is not set")?;
    local::table(release, &Path::new(&tools).join("python/build/bin/cargo-lambda"))
}
