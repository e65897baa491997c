//! Table 5: how many records per second `streambot-deploy local` feeds to a function that does
//! nothing, beside `cargo lambda watch` and a loop that invokes it with equal batches.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::emulator::Emulator;
use crate::peers;
use crate::table::count;

const RECORDS: usize = 200_000;
const RECORD_BYTES: usize = 100;
const BATCH_SIZES: [usize; 2] = [100, 10_000];
const SHARDS: [usize; 2] = [1, 4];
const ROUNDS: usize = 3;
/// How long the peer is invoked in each round.
const PEER: Duration = Duration::from_secs(2);

/// The rate of one run.
struct Run {
    records_per_second: f64,
    records_per_invocation: f64,
}

/// Measures and prints the table. The programs are beside this one, and in the test tools.
pub fn table() -> Result<()> {
    let cargo_lambda = &peers::tools()?.join("python/build/bin/cargo-lambda");
    println!("## 5. `local`\n");
    println!(
        "Records of {RECORD_BYTES} bytes per second into a function that does nothing: median (least–most) of {ROUNDS} \
         interleaved rounds. `local` reads {} records from a file and makes events of them; `cargo lambda watch` is given \
         an event that is ready, again and again over one connection, so its figure is the emulator's alone.\n",
        count(RECORDS as u64)
    );
    println!(
        "| batch size | | records/s | records per invocation | time per invocation | ÷ `cargo lambda watch` |"
    );
    println!("|---|---|---:|---:|---:|---:|");
    let records =
        std::env::temp_dir().join(format!("benchsuite-records-{}.ndjson", std::process::id()));
    fs::write(&records, lines())
        .with_context(|| format!("failed to write {}", records.display()))?;
    let rows = BATCH_SIZES.iter().try_for_each(|size| rows(*size, cargo_lambda, &records));
    fs::remove_file(&records).with_context(|| format!("failed to remove {}", records.display()))?;
    rows?;
    println!(
        "\nAn event has 6 MB at most, so a batch of 10,000 is cut short. `cargo lambda invoke`, a process per event, would be slower than the loop."
    );
    Ok(())
}

/// One JSON object per line, a hundred bytes each.
fn lines() -> String {
    let mut lines = String::with_capacity(RECORDS * (RECORD_BYTES + 1));
    for number in 0..RECORDS {
        let start = lines.len();
        let _ = write!(lines, r#"{{"id":"key-{}","number":{number},"text":""#, number % 4999);
        let padding = RECORD_BYTES - 2 - (lines.len() - start);
        lines.extend(std::iter::repeat_n('x', padding));
        lines.push_str("\"}\n");
    }
    lines
}

fn rows(size: usize, cargo_lambda: &Path, records: &Path) -> Result<()> {
    let (function, deploy) = (peers::built("streambot-batch")?, peers::built("streambot-deploy")?);
    let local = |shards| local(size, shards, &deploy, &function, records);
    // The peer's batches are as large as those that `local` makes of these records on one shard.
    let batch = local(SHARDS[0])?.records_per_invocation.round() as usize;
    let event = shapes::plain(batch, RECORD_BYTES);
    let mut emulator = Emulator::start(cargo_lambda)?;
    emulator.connect(&function)?;

    let mut runs: [Vec<Run>; 3] = Default::default();
    for round in 1..=ROUNDS {
        eprintln!("local: batch size {}, round {round}", count(size as u64));
        for (shards, runs) in SHARDS.into_iter().zip(&mut runs) {
            runs.push(local(shards)?);
        }
        runs[2].push(peer(&mut emulator, event.as_bytes(), batch)?);
    }
    let [one, four, peer] = runs.map(Rate::of);
    one.print(size, "`local`, 1 shard", &peer);
    four.print(size, "`local`, 4 shards", &peer);
    peer.print(size, "`cargo lambda watch`", &peer);
    Ok(())
}

/// One run of `local`, which must succeed with all records. It says itself how long it took, from
/// its start.
fn local(
    size: usize,
    shards: usize,
    program: &Path,
    function: &Path,
    records: &Path,
) -> Result<Run> {
    let mut command = Command::new(program);
    command.args(["local", "--quiet", "--output", "json", "--records"]).arg(records);
    command.arg("--bootstrap").arg(function);
    command.args(["--batch-size", &size.to_string(), "--shards", &shards.to_string()]);
    command.current_dir(std::env::temp_dir()).stdin(Stdio::null());
    let output =
        command.output().with_context(|| format!("failed to run {}", program.display()))?;
    ensure!(
        output.status.success(),
        "{command:?} failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let summary: Value =
        serde_json::from_slice(&output.stdout).context("local's answer is no JSON")?;
    let number =
        |name: &str| summary[name].as_f64().with_context(|| format!("local does not say {name}"));
    ensure!(number("succeeded")? == RECORDS as f64, "not all records succeeded: {summary}");
    Ok(Run {
        records_per_second: number("records_per_second")?,
        records_per_invocation: RECORDS as f64 / number("invocations")?,
    })
}

/// Invokes the peer for a while with one event of `batch` records.
fn peer(emulator: &mut Emulator, event: &[u8], batch: usize) -> Result<Run> {
    let started = Instant::now();
    let mut invocations = 0u32;
    while started.elapsed() < PEER {
        emulator.invoke(event)?;
        invocations += 1;
    }
    let records = f64::from(invocations) * batch as f64;
    Ok(Run {
        records_per_second: records / started.elapsed().as_secs_f64(),
        records_per_invocation: batch as f64,
    })
}

/// What all rounds say together.
struct Rate {
    least: f64,
    median: f64,
    most: f64,
    records_per_invocation: f64,
}

impl Rate {
    fn of(mut runs: Vec<Run>) -> Self {
        runs.sort_by(|one, other| one.records_per_second.total_cmp(&other.records_per_second));
        let median = &runs[runs.len() / 2];
        Self {
            least: runs[0].records_per_second,
            median: median.records_per_second,
            most: runs[runs.len() - 1].records_per_second,
            records_per_invocation: median.records_per_invocation,
        }
    }

    fn print(&self, size: usize, name: &str, peer: &Self) {
        let [least, median, most] =
            [self.least, self.median, self.most].map(|rate| count(rate.round() as u64));
        println!(
            "| {} | {name} | {median} ({least}–{most}) | {:.0} | {:.0} µs | {:.1} |",
            count(size as u64),
            self.records_per_invocation,
            self.records_per_invocation / self.median * 1e6,
            self.median / peer.median,
        );
    }
}
