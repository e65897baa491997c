//! Measures Streambot beside its peers and prints Markdown tables: `benchsuite [TABLE]…`, all of
//! them where none is named. `ci/bench` builds and installs what it runs.

mod callgrind;
mod cold_start;
mod decode;
mod emulator;
mod function;
mod growth;
mod invocation;
mod local;
mod machine;
mod peers;
mod picture;
mod rounds;
mod runtime_api;
mod table;

use std::path::Path;

use anyhow::{Context as _, Result};

type Table = (&'static str, fn() -> Result<()>);

const TABLES: [Table; 5] = [
    ("decode", decode::table),
    ("invocation", invocation::table),
    ("cold-start", cold_start::table),
    ("growth", growth::table),
    ("local", local::table),
];

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // What callgrind runs.
    if let [verb, event, decoder, times] = &arguments[..]
        && verb == "decode-once"
    {
        return decode::once(Path::new(event), decoder, times.parse()?);
    }
    let mut tables = TABLES.to_vec();
    if !arguments.is_empty() {
        let named = |name: &String| {
            TABLES.iter().find(|table| table.0 == name).copied().context(usage(name))
        };
        tables = arguments.iter().map(named).collect::<Result<_>>()?;
    }
    println!("{}\n", machine::name()?);
    tables
        .into_iter()
        .try_for_each(|(name, table)| table().with_context(|| format!("failed to measure {name}")))
}

fn usage(name: &str) -> String {
    format!("there is no table {name}; there are {}", TABLES.map(|table| table.0).join(", "))
}
