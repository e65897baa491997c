//! Table 4: how the time of decoding grows with the number of records and with their bytes.
//! Straight lines are the point: on logarithmic axes, time in proportion to the event is a line of
//! slope 1.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use benchsuite::decoders::{Decoder, check};
use bytes::Bytes;

use crate::picture::{self, Line, Panel};
use crate::rounds::interleaved;
use crate::table::{Limit, count, milliseconds, verdict};

const DECODERS: [Decoder; 3] = [Decoder::Streambot, Decoder::AwsLambdaEvents, Decoder::Floor];
const RECORDS: [usize; 9] = [1, 3, 10, 30, 100, 300, 1_000, 3_000, 10_000];
/// Data of the one record; in base64 they are a third more, so that the last event has 6 MB.
const BYTES: [usize; 9] =
    [375, 1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000, 4_500_000];
/// How long one event is measured.
const BUDGET: Duration = Duration::from_millis(700);
/// Where the picture goes, from the root of the repository.
const PICTURE: &str = "docs/pictures/growth.svg";
/// The slope from which on time is said to grow faster than the event.
const SLOPE: f64 = 1.1;

/// The time of each decoder, in seconds, against what grows.
struct Growth {
    /// What grows, and its values.
    of: &'static str,
    values: Vec<usize>,
    /// One row for each decoder.
    times: Vec<Vec<f64>>,
}

/// Measures, prints the table and the goals, and draws the picture.
pub fn table() -> Result<()> {
    let records = RECORDS.iter().map(|records| (*records, shapes::plain(*records, 60)));
    let bytes =
        BYTES.iter().map(|bytes| shapes::plain(1, *bytes)).map(|event| (event.len(), event));
    let growths =
        [measure("records of 60 B", records)?, measure("bytes of an event of one record", bytes)?];
    println!("## 4. Growth\n\nMilliseconds to decode one event, medians of interleaved rounds.");
    growths.iter().for_each(print);
    println!(
        "\nThe slope of a line through the upper half of the points, on logarithmic axes; 1 is in proportion.\n"
    );
    println!("| goal | {} |\n|---|---:|---:|---:|", DECODERS.map(Decoder::name).join(" | "));
    for growth in &growths {
        let slopes: Vec<String> = growth
            .times
            .iter()
            .map(|times| verdict(slope(&growth.values, times), Limit::AtMost(SLOPE)))
            .collect();
        println!("| slope against {} at most {SLOPE} | {} |", growth.of, slopes.join(" | "));
    }
    let panels: Vec<Panel> = growths.iter().map(panel).collect();
    picture::draw(&panels, Path::new(PICTURE))
}

fn measure(of: &'static str, events: impl Iterator<Item = (usize, String)>) -> Result<Growth> {
    let mut growth = Growth { of, values: Vec::new(), times: vec![Vec::new(); DECODERS.len()] };
    for (value, event) in events {
        eprintln!("growth: {} {of}", count(value as u64));
        let body = Bytes::from(event);
        check(&body, true)?;
        growth.values.push(value);
        for (times, spread) in growth.times.iter_mut().zip(interleaved(&DECODERS, &body, BUDGET)?) {
            times.push(spread.median);
        }
    }
    Ok(growth)
}

fn print(growth: &Growth) {
    println!(
        "\n| {} | {} |\n|---:|---:|---:|---:|",
        growth.of,
        DECODERS.map(Decoder::name).join(" | ")
    );
    for (index, value) in growth.values.iter().enumerate() {
        let times: Vec<String> =
            growth.times.iter().map(|times| milliseconds(times[index])).collect();
        println!("| {} | {} |", count(*value as u64), times.join(" | "));
    }
}

/// The slope of the straight line, by least squares, through the upper half of the points on
/// logarithmic axes.
fn slope(values: &[usize], times: &[f64]) -> f64 {
    let upper = values.len() / 2;
    let points: Vec<(f64, f64)> = values[upper..]
        .iter()
        .zip(&times[upper..])
        .map(|(value, time)| ((*value as f64).ln(), time.ln()))
        .collect();
    let middle =
        |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / points.len() as f64;
    let (middle_x, middle_y) = (middle(|point| point.0), middle(|point| point.1));
    let product: f64 = points.iter().map(|(x, y)| (x - middle_x) * (y - middle_y)).sum();
    let square: f64 = points.iter().map(|(x, _)| (x - middle_x).powi(2)).sum();
    product / square
}

fn panel(growth: &Growth) -> Panel {
    let line = |(decoder, times): (&Decoder, &Vec<f64>)| Line {
        name: decoder.name(),
        points: growth
            .values
            .iter()
            .zip(times)
            .map(|(value, time)| (*value as f64, time * 1e3))
            .collect(),
    };
    Panel {
        x: growth.of,
        y: "milliseconds",
        lines: DECODERS.iter().zip(&growth.times).map(line).collect(),
    }
}
