//! Table 1: what decoding an event costs, beside aws_lambda_events and the floor, in time and in
//! instructions.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use benchsuite::decoders::{Decoder, check};
use bytes::Bytes;
use shapes::{HOSTILE, KPL, LARGER_RECORDS, MANY_RECORDS, SHAPES, Shape};

use crate::callgrind;
use crate::rounds::interleaved;
use crate::table::{Limit, Spread, count, verdict};

/// How long one event is measured.
const BUDGET: Duration = Duration::from_secs(2);
/// From here on an event is a large one: the goal against the floor is for those.
const LARGE: usize = 1_000_000;

/// What one decoder costs on one event.
#[derive(Clone, Copy)]
struct Cost {
    time: Spread,
    instructions: u64,
}

/// The costs on one event.
struct Row {
    name: &'static str,
    bytes: usize,
    streambot: Cost,
    aws_lambda_events: Cost,
    /// None for an event that Lambda would not write.
    floor: Option<Cost>,
    memcpy: Cost,
}

/// Measures, and prints the table and the goals.
pub fn table() -> Result<()> {
    let lambdas_own = SHAPES.iter().map(|shape| measure(shape, true));
    let rows: Vec<Row> = lambdas_own
        .chain(HOSTILE.iter().map(|shape| measure(shape, false)))
        .collect::<Result<_>>()?;
    println!(
        "## 1. Decoding\n\nMilliseconds: median (quartiles) of interleaved rounds. The floor is a scan for the data fields and \
         SIMD base64, and MD5 where the records are KPL aggregates; it reads Lambda's own layout only. aws_lambda_events \
         leaves KPL aggregates packed.\n"
    );
    print_rows(&rows, |cost| cost.time.milliseconds(), |cost| cost.time.median);
    println!(
        "\nInstructions by callgrind, which knows AVX2 but not AVX-512, and does not see the kernel.\n"
    );
    print_rows(&rows, |cost| count(cost.instructions), |cost| cost.instructions as f64);
    println!();
    print_goals(&rows);
    Ok(())
}

fn measure(shape: &Shape, lambdas_own: bool) -> Result<Row> {
    eprintln!("decoding {}", shape.name);
    let body = Bytes::from(shape.body());
    check(&body, lambdas_own).with_context(|| shape.name)?;
    let mut decoders = vec![Decoder::Streambot, Decoder::AwsLambdaEvents, Decoder::Memcpy];
    if lambdas_own {
        decoders.push(if shape.name == KPL.name {
            Decoder::FloorWithDigests
        } else {
            Decoder::Floor
        });
    }
    let times = interleaved(&decoders, &body, BUDGET)?;
    let instructions = instructions(&decoders, &body)?;
    let mut costs =
        times.into_iter().zip(instructions).map(|(time, instructions)| Cost { time, instructions });
    let mut next = || costs.next().context("a decoder was not measured");
    Ok(Row {
        name: shape.name,
        bytes: body.len(),
        streambot: next()?,
        aws_lambda_events: next()?,
        memcpy: next()?,
        floor: costs.next(),
    })
}

/// How many instructions each decoder takes for one decode of this event.
pub fn instructions(decoders: &[Decoder], body: &Bytes) -> Result<Vec<u64>> {
    let event = std::env::temp_dir().join(format!("benchsuite-event-{}", std::process::id()));
    fs::write(&event, body).with_context(|| format!("failed to write {}", event.display()))?;
    let counts = decoders.iter().map(|decoder| instructions_of(*decoder, &event)).collect();
    fs::remove_file(&event).with_context(|| format!("failed to remove {}", event.display()))?;
    counts
}

/// The second and the third decode of a process: the first one also finds out what the processor
/// can do.
fn instructions_of(decoder: Decoder, event: &Path) -> Result<u64> {
    let driver = std::env::current_exe().context("failed to find the driver itself")?;
    let decodes = |times: &str| {
        callgrind::instructions(
            Command::new(&driver).arg("decode-once").arg(event).args([decoder.name(), times]),
        )
    };
    Ok((decodes("3")? - decodes("1")?) / 2)
}

/// What callgrind runs: reads the event and decodes it that many times.
pub fn once(event: &Path, decoder: &str, times: usize) -> Result<()> {
    let body = Bytes::from(
        fs::read(event).with_context(|| format!("failed to read {}", event.display()))?,
    );
    let decoder = Decoder::ALL
        .into_iter()
        .find(|known| known.name() == decoder)
        .context("no such decoder")?;
    (0..times).try_for_each(|_| decoder.run(&body))
}

fn print_rows(rows: &[Row], text: impl Fn(&Cost) -> String, figure: impl Fn(&Cost) -> f64) {
    println!(
        "| event | size | Streambot | floor | aws_lambda_events | memcpy | Streambot ÷ floor | aws_lambda_events ÷ Streambot |"
    );
    println!("|---|---:|---:|---:|---:|---:|---:|---:|");
    for row in rows {
        let ours = figure(&row.streambot);
        println!(
            "| {} | {} | {} | {} | {} | {} | {} | {:.1} |",
            row.name,
            size(row.bytes),
            text(&row.streambot),
            row.floor.as_ref().map_or("–".to_owned(), &text),
            text(&row.aws_lambda_events),
            text(&row.memcpy),
            row.floor
                .as_ref()
                .map_or("–".to_owned(), |floor| format!("{:.2}", ours / figure(floor))),
            figure(&row.aws_lambda_events) / ours,
        );
    }
}

fn size(bytes: usize) -> String {
    match bytes {
        1_000_000.. => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.1} kB", bytes as f64 / 1e3),
    }
}

fn print_goals(rows: &[Row]) {
    println!("| goal | event | by time | by instructions |\n|---|---|---:|---:|");
    for row in rows {
        if let Some(floor) = row.floor.filter(|_| row.bytes >= LARGE) {
            print_goal("at most 2 × the floor", row, Limit::AtMost(2.0), (row.streambot, floor));
        }
        let faster = match row.name {
            name if name == MANY_RECORDS.name => {
                Some(("at least 20 × faster than aws_lambda_events", 20.0))
            }
            name if name == LARGER_RECORDS.name => {
                Some(("at least 8 × faster than aws_lambda_events", 8.0))
            }
            _ if row.floor.is_none() => Some(("no slower than aws_lambda_events", 1.0)),
            _ => None,
        };
        if let Some((goal, times)) = faster {
            print_goal(goal, row, Limit::AtLeast(times), (row.aws_lambda_events, row.streambot));
        }
    }
}

/// The goal is a limit to the first cost divided by the second.
fn print_goal(goal: &str, row: &Row, limit: Limit, (dividend, divisor): (Cost, Cost)) {
    let by_time = verdict(dividend.time.median / divisor.time.median, limit);
    let by_instructions =
        verdict(dividend.instructions as f64 / divisor.instructions as f64, limit);
    println!("| {goal} | {} | {by_time} | {by_instructions} |", row.name);
}
