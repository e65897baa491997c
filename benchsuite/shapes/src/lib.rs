//! The events that are measured, byte for byte as Lambda writes them, and some that deviate from
//! it. The same bytes in every run.

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

/// Events as Lambda writes them.
pub const SHAPES: [Shape; 6] = [
    MANY_RECORDS,
    LARGER_RECORDS,
    Shape { name: "6 × 760 kB", make: || plain(6, 760_000) },
    SMALL_EVENT,
    Shape { name: "1 × 200 B", make: || plain(1, 200) },
    KPL,
];

/// As many records as a batch may have.
pub const MANY_RECORDS: Shape = Shape { name: "10,000 × 60 B", make: lambdas_own };

/// Where base64 is most of the event.
pub const LARGER_RECORDS: Shape = Shape { name: "1,000 × 4 kB", make: || plain(1_000, 4_000) };

/// A common small event.
pub const SMALL_EVENT: Shape = Shape { name: "100 × 200 B", make: || plain(100, 200) };

/// Records packed by the Kinesis Producer Library.
pub const KPL: Shape = Shape { name: "KPL, 100 × 100 × 60 B", make: || kpl(100, 100, 60) };

/// Events of 10,000 × 60 B that say the same as Lambda's, but are written as Lambda does not.
pub const HOSTILE: [Shape; 5] = [
    Shape { name: "hostile: pretty-printed", make: pretty },
    Shape { name: "hostile: fields in another order", make: reordered },
    Shape { name: "hostile: a space in every second record", make: every_second_spaced },
    Shape { name: "hostile: escapes in base64", make: escaped_base64 },
    Shape { name: "hostile: escaped keys, unknown fields", make: escaped_keys },
];

/// An event of `records` records with `bytes` bytes of data each.
pub fn plain(records: usize, bytes: usize) -> String {
    (0..records)
        .fold(Event::new(), |event, index| {
            event.record(record(data(index, bytes)).arrival(arrival(index)))
        })
        .to_json()
}

fn kpl(aggregates: usize, user_records: usize, bytes: usize) -> String {
    let aggregate = |index| {
        let users = (0..user_records)
            .map(|user| (format!("key-{user}"), data(index * user_records + user, bytes)));
        aggregated(users).arrival(arrival(index))
    };
    (0..aggregates).fold(Event::new(), |event, index| event.record(aggregate(index))).to_json()
}

/// What the hostile events are made from.
fn lambdas_own() -> String {
    plain(10_000, 60)
}

/// White space between all tokens, and the fields in the order of the alphabet.
fn pretty() -> String {
    serde_json::to_string_pretty(&parsed()).expect("a value is JSON")
}

fn reordered() -> String {
    let event = serde_json::to_string(&parsed()).expect("a value is JSON");
    assert_ne!(event, lambdas_own(), "serde_json keeps the order of fields");
    event
}

/// So that what is learnt of a record is of no use for the next one.
fn every_second_spaced() -> String {
    let event = lambdas_own();
    let mut records = event.split(RECORD).skip(1);
    let mut spaced = r#"{"Records":["#.to_owned();
    while let Some(record) = records.next() {
        spaced.extend([RECORD, record]);
        spaced
            .extend(records.next().map(|record| [r#"{ "kinesis":"#, record]).into_iter().flatten());
    }
    spaced
}

/// As PHP writes JSON, with a backslash ahead of each slash; base64 is full of them.
fn escaped_base64() -> String {
    lambdas_own().replace('/', r"\/")
}

/// An escape in each partition key, and in each record a field that Lambda does not write.
fn escaped_keys() -> String {
    lambdas_own()
        .replace(r#""partitionKey":"p"#, r#""partitionKey":"\u0070"#)
        .replace(r#","eventName":"#, r#","fieldOfTheFuture":{"a":[1,2,3]},"eventName":"#)
}

/// How a record begins.
const RECORD: &str = r#"{"kinesis":"#;

fn parsed() -> serde_json::Value {
    serde_json::from_str(&lambdas_own()).expect("an event is JSON")
}

/// Bytes that do not compress to nothing: a multiplicative generator's.
fn data(index: usize, bytes: usize) -> Vec<u8> {
    let mut state = index as u64 * 2 + 1;
    let next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u8
    };
    std::iter::repeat_with(next).take(bytes).collect()
}

fn arrival(index: usize) -> std::time::SystemTime {
    UNIX_EPOCH + Duration::from_millis(1_790_000_000_000 + index as u64 * 3)
}
