//! Time taken in rounds: each round measures all that is compared, one after the other, so that a
//! machine that slows down for a while slows down all of it.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::{Duration, Instant};

use anyhow::Result;
use benchsuite::decoders::Decoder;
use bytes::Bytes;

use crate::table::Spread;

/// A sample lasts at least that long, so that the clock's own cost is nothing.
const SAMPLE: Duration = Duration::from_micros(200);
const ROUNDS: std::ops::RangeInclusive<usize> = 11..=101;

/// Measures the decoders on one event, for about as long as `budget` says.
pub fn interleaved(decoders: &[Decoder], body: &Bytes, budget: Duration) -> Result<Vec<Spread>> {
    let times: Vec<u32> =
        decoders.iter().map(|decoder| times(*decoder, body)).collect::<Result<_>>()?;
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
    Ok(samples.iter().map(|samples| Spread::of(samples)).collect())
}

/// How many decodes make a sample.
fn times(decoder: Decoder, body: &Bytes) -> Result<u32> {
    let once = sample(decoder, body, 1)?;
    Ok((SAMPLE.as_secs_f64() / once).ceil() as u32)
}

/// Seconds per decode. One decode goes ahead untimed: what the decoder before it left in caches and
/// in the allocator is not this one's.
fn sample(decoder: Decoder, body: &Bytes, times: u32) -> Result<f64> {
    decoder.run(body)?;
    let started = Instant::now();
    for _ in 0..times {
        decoder.run(body)?;
    }
    Ok(started.elapsed().as_secs_f64() / f64::from(times))
}

/// The numbers below `count` in an order that is another one in each round, and the same in each
/// run: what is measured first, or after something large, is always something else.
pub fn shuffled(round: usize, count: usize) -> Vec<usize> {
    let mut indices: Vec<usize> = (0..count).collect();
    indices.sort_by_key(|index| {
        let mut hasher = DefaultHasher::new();
        (round, index).hash(&mut hasher);
        hasher.finish()
    });
    indices
}
