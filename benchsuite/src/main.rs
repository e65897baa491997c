//! Measures Streambot beside its peers and prints Markdown tables: `benchsuite decode|growth|local`.

mod callgrind;
mod decode;
mod rounds;
mod table;

use std::path::Path;

use anyhow::{Result, bail};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["decode"] => decode::table(),
        ["decode-once", event, decoder, times] => decode::once(Path::new(event), decoder, times.parse()?),
        _ => bail!("say decode, growth or local"),
    }
}
