//! Measures Streambot beside its peers and prints Markdown tables: `benchsuite [TABLE]…`, all of them where none is named.
//! `ci/bench` builds and installs what it runs.

mod callgrind;
mod cold_start;
mod function;
mod invocation;
mod machine;
mod peers;
mod rounds;
mod runtime_api;
mod table;

use anyhow::{Context as _, Result};

type Table = (&'static str, fn() -> Result<()>);

const TABLES: [Table; 2] = [("invocation", invocation::table), ("cold-start", cold_start::table)];

fn main() -> Result<()> {
    let names: Vec<String> = std::env::args().skip(1).collect();
    let mut tables = TABLES.to_vec();
    if !names.is_empty() {
        let named = |name: &String| TABLES.iter().find(|table| table.0 == name).copied().context(usage(name));
        tables = names.iter().map(named).collect::<Result<_>>()?;
    }
    println!("{}\n", machine::name()?);
    tables.into_iter().try_for_each(|(name, table)| table().with_context(|| format!("failed to measure {name}")))
}

fn usage(name: &str) -> String {
    format!("there is no table {name}; there are {}", TABLES.map(|table| table.0).join(", "))
}
