//! Table 3: what a start costs, from the process's start to its first call of `/next` and to its
//! first answer, and how large what is started is. Files are in the page cache, as in none of
//! Lambda's cold starts; what is compared is what the process itself does.

use std::fs;
use std::io::{Cursor, Write as _};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use shapes::SMALL_EVENT;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use crate::function::Function;
use crate::invocation::instructions_of_run;
use crate::peers::{self, Peer};
use crate::rounds::shuffled;
use crate::table::{Limit, Spread, count, megabytes, quantile, verdict};

const STARTS: usize = 41;

/// What the starts of one function cost.
struct Cost {
    name: &'static str,
    /// Seconds from the start to the first `/next`.
    next: Vec<f64>,
    /// Seconds of processor time until then.
    cpu: Vec<f64>,
    /// Seconds from the start to the first answer.
    answer: Vec<f64>,
    size: Option<Size>,
    instructions: Option<u64>,
}

/// Bytes of an executable.
#[derive(Clone, Copy)]
struct Size {
    binary: u64,
    zip: u64,
}

/// Measures and prints.
pub fn table() -> Result<()> {
    let mut peers = peers::all()?;
    peers.extend(peers::s3_logs()?);
    let event: Arc<[u8]> = SMALL_EVENT.body().into();
    let mut costs = peers.iter().map(Cost::new).collect::<Result<Vec<_>>>()?;
    eprintln!("cold start: {STARTS} starts of {} functions", peers.len());
    for start in 0..STARTS {
        for index in shuffled(start, peers.len()) {
            costs[index]
                .add(&peers[index], &event)
                .with_context(|| format!("{} fails", peers[index].name))?;
        }
    }
    for (peer, cost) in peers.iter().zip(&mut costs).filter(|(peer, _)| peer.bootstrap.is_some()) {
        cost.instructions = Some(instructions_of_run(peer.command(), &event, 0)?);
    }
    print(&costs);
    Ok(())
}

impl Cost {
    fn new(peer: &Peer) -> Result<Self> {
        let size = peer.bootstrap.as_deref().map(Size::of).transpose()?;
        let (next, cpu, answer) = (Vec::new(), Vec::new(), Vec::new());
        Ok(Self { name: peer.name, next, cpu, answer, size, instructions: None })
    }

    /// Measures one more start. The wait for the processor time to stand still is none of the
    /// function's.
    fn add(&mut self, peer: &Peer, event: &Arc<[u8]>) -> Result<()> {
        let function = Function::start(peer.command())?;
        self.next.push(function.init.as_secs_f64());
        self.cpu.push(function.cpu()?.as_secs_f64());
        self.answer.push((function.init + function.invoke(event)?).as_secs_f64());
        Ok(())
    }
}

impl Size {
    fn of(executable: &Path) -> Result<Self> {
        let contents = fs::read(executable)
            .with_context(|| format!("failed to read {}", executable.display()))?;
        let zip = zipped(&contents).context("failed to zip an executable")?;
        Ok(Self { binary: contents.len() as u64, zip: zip as u64 })
    }
}

/// How many bytes a bundle with this executable has, as `streambot-deploy` packs it.
fn zipped(executable: &[u8]) -> zip::result::ZipResult<usize> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    zip.start_file(
        "bootstrap",
        SimpleFileOptions::default().compression_method(CompressionMethod::Deflated),
    )?;
    zip.write_all(executable)?;
    Ok(zip.finish()?.into_inner().len())
}

fn print(costs: &[Cost]) {
    println!("## 3. Cold start\n");
    println!(
        "The median and, in parentheses, the quartiles of {STARTS} starts; the answer is to an event of 100 × 200 B. \
         Instructions are those until the first `/next`.\n"
    );
    println!(
        "| function | to the first `/next`, ms | CPU until then, ms | instructions | to the first answer, ms | binary MB | zip MB |"
    );
    println!("|---|---:|---:|---:|---:|---:|---:|");
    for cost in costs {
        let [binary, zip] = match cost.size {
            Some(Size { binary, zip }) => [binary, zip].map(megabytes),
            None => Default::default(),
        };
        println!(
            "| {} | {} | {} | {} | {} | {binary} | {zip} |",
            cost.name,
            Spread::of(&cost.next).milliseconds(),
            Spread::of(&cost.cpu).milliseconds(),
            cost.instructions.map(count).unwrap_or_default(),
            Spread::of(&cost.answer).milliseconds(),
        );
    }
    println!();
    print_goals(costs);
}

fn print_goals(costs: &[Cost]) {
    let by_name = |name| {
        costs.iter().find(|cost| cost.name == name).expect("each function of this name is measured")
    };
    let floor = by_name(peers::FLOOR);
    println!("| goal, × {} | function | figure |\n|---|---|---|", floor.name);
    for name in [peers::BATCH, peers::EACH, peers::S3_LOGS] {
        let cost = by_name(name);
        for (what, ratio) in [
            ("to the first `/next`", ratio(&cost.next, &floor.next)),
            ("CPU until the first `/next`", ratio(&cost.cpu, &floor.cpu)),
            ("to the first answer", ratio(&cost.answer, &floor.answer)),
            (
                "instructions",
                cost.instructions.unwrap_or(0) as f64 / floor.instructions.unwrap_or(0) as f64,
            ),
        ] {
            println!(
                "| cold start ≤ 1.15 ×: {what} | {name} | {} |",
                verdict(ratio, Limit::AtMost(1.15))
            );
        }
    }
    for (name, limit) in [(peers::BATCH, 3.0), (peers::EACH, 3.0), (peers::S3_LOGS, 6.0)] {
        let [zip, floor] =
            [by_name(name), floor].map(|cost| cost.size.map_or(f64::NAN, |size| size.zip as f64));
        println!("| zip ≤ {limit} × | {name} | {} |", verdict(zip / floor, Limit::AtMost(limit)));
    }
    println!();
}

/// The median over starts of one's time by the other's.
fn ratio(one: &[f64], other: &[f64]) -> f64 {
    let ratios: Vec<f64> = one.iter().zip(other).map(|(one, other)| one / other).collect();
    quantile(&ratios, 0.5)
}
