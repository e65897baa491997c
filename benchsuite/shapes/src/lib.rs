//! The events that are measured, byte for byte as Lambda writes them, and two that deviate from it. The same bytes in
//! every run.

use std::time::{Duration, UNIX_EPOCH};

use streambot_runtime::testing::{Event, aggregated, record};

/// A named event.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// What tables call it.
    pub name: &'static str,
    make: fn() -> String,
}

impl Shape {
    /// The event's JSON.
    pub fn body(&self) -> Vec<u8> {
        (self.make)().into_bytes()
    }
}

/// All shapes; the two hostile ones, which no Lambda writes, come last.
pub const SHAPES: [Shape; 8] = [
    Shape { name: "10,000 × 60 B", make: || plain(10_000, 60) },
    Shape { name: "1,000 × 4 kB", make: || plain(1_000, 4_000) },
    Shape { name: "6 × 760 kB", make: || plain(6, 760_000) },
    Shape { name: "100 × 200 B", make: || plain(100, 200) },
    Shape { name: "1 × 200 B", make: || plain(1, 200) },
    Shape { name: "KPL, 100 × 100 × 60 B", make: || kpl(100, 100, 60) },
    Shape { name: "hostile: white space", make: spaced },
    Shape { name: "hostile: escaped keys, unknown fields", make: escaped },
];

/// An event of `records` records with `bytes` bytes of data each.
pub fn plain(records: usize, bytes: usize) -> String {
    (0..records)
        .fold(Event::new(), |event, index| event.record(record(data(index, bytes)).arrival(arrival(index))))
        .to_json()
}

fn kpl(aggregates: usize, user_records: usize, bytes: usize) -> String {
    let aggregate = |index| {
        let users = (0..user_records).map(|user| (format!("key-{user}"), data(index * user_records + user, bytes)));
        aggregated(users).arrival(arrival(index))
    };
    (0..aggregates).fold(Event::new(), |event, index| event.record(aggregate(index))).to_json()
}

/// 10,000 × 60 B with white space between all tokens.
fn spaced() -> String {
    let event: serde_json::Value = serde_json::from_str(&plain(10_000, 60)).expect("an event is JSON");
    serde_json::to_string_pretty(&event).expect("a value is JSON")
}

/// 10,000 × 60 B where each partition key has an escape in it and each record a field that Lambda does not write.
fn escaped() -> String {
    plain(10_000, 60)
        .replace(r#""partitionKey":"p"#, r#""partitionKey":"\u0070"#)
        .replace(r#","eventName":"#, r#","fieldOfTheFuture":{"a":[1,2,3]},"eventName":"#)
}

/// Bytes that do not compress to nothing: a multiplicative generator's.
fn data(index: usize, bytes: usize) -> Vec<u8> {
    let mut state = index as u64 * 2 + 1;
    let next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u8
    };
    std::iter::repeat_with(next).take(bytes).collect()
}

fn arrival(index: usize) -> std::time::SystemTime {
    UNIX_EPOCH + Duration::from_millis(1_790_000_000_000 + index as u64 * 3)
}
