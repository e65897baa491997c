//! The decoders that are measured, each a plain function from an event's body to what a handler
//! would be given. They know what each peer's users would write; they refuse to know how time is
//! taken.

use std::hint::black_box;

use anyhow::{Context as _, Result, ensure};
use aws_lambda_events::event::kinesis::KinesisEvent;
use base64_simd::STANDARD;
use bytes::Bytes;
use md5::{Digest, Md5};
use memchr::memchr;
use memchr::memmem::Finder;
use streambot_runtime::Batch;
use streambot_runtime::testing::decode;

/// What stands ahead of a record's data in the layout in which Lambda writes events.
const DATA: &[u8] = br#""data":""#;
/// What the data of a KPL aggregate begin with; the MD5 of what is between ends it.
const MAGIC: &[u8] = &[0xf3, 0x89, 0x9a, 0xc2];

/// A way to decode an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decoder {
    /// Streambot, KPL aggregates unpacked.
    Streambot,
    /// `serde_json` into the event type of `aws_lambda_events`, which decodes base64 and leaves KPL
    /// aggregates packed.
    AwsLambdaEvents,
    /// The least there is to do: find the data and decode them. It reads no other layout than
    /// Lambda's.
    Floor,
    /// The floor, and the digest that each KPL aggregate asks to be verified.
    FloorWithDigests,
    /// A copy of the event, nothing decoded.
    Memcpy,
}

impl Decoder {
    /// All there are.
    pub const ALL: [Self; 5] =
        [Self::Streambot, Self::AwsLambdaEvents, Self::Floor, Self::FloorWithDigests, Self::Memcpy];

    /// What tables and the command line call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Streambot => "Streambot",
            Self::AwsLambdaEvents => "aws_lambda_events",
            Self::Floor => "floor",
            Self::FloorWithDigests => "floor with MD5",
            Self::Memcpy => "memcpy",
        }
    }

    /// Decodes the event, and drops what came of it.
    pub fn run(self, body: &Bytes) -> Result<()> {
        match self {
            Self::Streambot => drop(black_box(streambot(body)?)),
            Self::AwsLambdaEvents => drop(black_box(aws_lambda_events(body)?)),
            Self::Floor => drop(black_box(floor(body)?)),
            Self::FloorWithDigests => drop(black_box(floor_with_digests(body)?)),
            Self::Memcpy => drop(black_box(body.to_vec())),
        }
        Ok(())
    }
}

/// The batch that a handler of `batch` or `each` is given.
pub fn streambot(body: &Bytes) -> Result<Batch> {
    Ok(as_put(body)?.deaggregated())
}

fn as_put(body: &Bytes) -> Result<Batch> {
    decode(body.clone()).map_err(anyhow::Error::from_boxed)
}

/// The event that a handler on lambda_runtime is given.
pub fn aws_lambda_events(body: &[u8]) -> Result<KinesisEvent> {
    serde_json::from_slice(body).context("aws_lambda_events failed to read the event")
}

/// The data of all records, one behind the other.
pub struct Scanned {
    arena: Vec<u8>,
    ends: Vec<usize>,
}

/// Scans for the data fields and decodes their base64.
pub fn floor(body: &[u8]) -> Result<Scanned> {
    let finder = Finder::new(DATA);
    let mut scanned = Scanned { arena: Vec::with_capacity(body.len() / 4 * 3), ends: Vec::new() };
    let mut rest = body;
    while let Some(found) = finder.find(rest) {
        let from_data = &rest[found + DATA.len()..];
        let end = memchr(b'"', from_data).context("the data have no end")?;
        STANDARD
            .decode_append(&from_data[..end], &mut scanned.arena)
            .context("the data are not base64")?;
        scanned.ends.push(scanned.arena.len());
        rest = &from_data[end..];
    }
    Ok(scanned)
}

/// As the [floor], with the digest of each KPL aggregate verified.
pub fn floor_with_digests(body: &[u8]) -> Result<Scanned> {
    let scanned = floor(body)?;
    let mut start = 0;
    for end in &scanned.ends {
        if let Some(packed) = scanned.arena[start..*end].strip_prefix(MAGIC) {
            let (message, digest) =
                packed.split_last_chunk::<16>().context("the aggregate has no digest")?;
            ensure!(Md5::digest(message).as_slice() == digest, "the aggregate's digest is another");
        }
        start = *end;
    }
    Ok(scanned)
}

/// Makes sure that what is compared is the same work: Streambot and aws_lambda_events, and the
/// floor where the event is Lambda's own, find the same records and the same data in them.
pub fn check(body: &Bytes, lambdas_own: bool) -> Result<()> {
    let batch = as_put(body)?;
    let ours: Vec<Vec<u8>> = batch.iter().map(|record| record.data().to_vec()).collect();
    let event = aws_lambda_events(body)?;
    let same = event.records.iter().map(|record| &record.kinesis.data.0).eq(&ours);
    ensure!(same, "Streambot and aws_lambda_events read different data");
    if lambdas_own {
        let scanned = floor(body)?;
        let same = scanned.ends.len() == ours.len() && scanned.arena == ours.concat();
        ensure!(same, "Streambot and the floor read different data");
    }
    Ok(())
}
