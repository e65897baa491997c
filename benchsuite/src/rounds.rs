//! Time taken in rounds: each round measures all decoders of an event, one after the other, so that a machine that slows
//! down for a while slows down all of them. It knows medians and spread; it refuses to know what they are printed as.

use std::time::{Duration, Instant};

use anyhow::Result;
use benchsuite::decoders::Decoder;
use bytes::Bytes;

/// A sample lasts at least that long, so that the clock's own cost is nothing.
const SAMPLE: Duration = Duration::from_micros(200);
const ROUNDS: std::ops::RangeInclusive<usize> = 11..=101;

/// The time of one decode: the median of all rounds and the quartiles around it, in seconds.
#[derive(Debug, Clone, Copy)]
pub struct Spread {
    pub lower: f64,
    pub median: f64,
    pub upper: f64,
}

impl Spread {
    fn of(mut samples: Vec<f64>) -> Self {
        samples.sort_by(f64::total_cmp);
        let at = |quarter: usize| samples[(samples.len() - 1) * quarter / 4];
        Self { lower: at(1), median: at(2), upper: at(3) }
    }
}

/// Measures the decoders on one event, for about as long as `budget` says.
pub fn interleaved(decoders: &[Decoder], body: &Bytes, budget: Duration) -> Result<Vec<Spread>> {
    let times: Vec<u32> = decoders.iter().map(|decoder| times(*decoder, body)).collect::<Result<_>>()?;
    let mut samples = vec![Vec::new(); decoders.len()];
    let started = Instant::now();
    for round in 0..*ROUNDS.end() {
        if round >= *ROUNDS.start() && started.elapsed() > budget {
            break;
        }
        for (index, decoder) in decoders.iter().enumerate() {
            samples[index].push(sample(*decoder, body, times[index])?);
        }
    }
    Ok(samples.into_iter().map(Spread::of).collect())
}

/// How many decodes make a sample.
fn times(decoder: Decoder, body: &Bytes) -> Result<u32> {
    let once = sample(decoder, body, 1)?;
    Ok((SAMPLE.as_secs_f64() / once).ceil() as u32)
}

/// Seconds per decode. One decode goes ahead untimed: what the decoder before it left in caches and in the allocator is
/// not this one's.
fn sample(decoder: Decoder, body: &Bytes, times: u32) -> Result<f64> {
    decoder.run(body)?;
    let started = Instant::now();
    for _ in 0..times {
        decoder.run(body)?;
    }
    Ok(started.elapsed().as_secs_f64() / f64::from(times))
}
