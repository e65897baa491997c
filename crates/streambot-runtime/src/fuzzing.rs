//! What must hold for any bytes whatever, as bodies for the fuzz targets in `fuzz/` and for the
//! generated tests below. It holds the decoders against independent ones; it refuses to know
//! handlers.

use bytes::Bytes;
use serde_json::Value;

use crate::aggregation::Aggregate;
use crate::event::Batch;
use crate::record::Record;
use crate::{aggregation, event};

/// Decoding an event never panics, what is decoded is what `serde_json` and `base64` make of it,
/// and the fast path makes nothing else of it than the general one.
pub fn decode_event(body: &[u8]) {
    let decoded = event::decode(Bytes::copy_from_slice(body));
    let generally = event::decode_generally(Bytes::copy_from_slice(body));
    let (batch, generally) = match (decoded, generally) {
        (Ok(batch), Ok(generally)) => (batch, generally),
        (Err(_), Err(_)) => return,
        (batch, generally) => {
            panic!("one path reads it and the other does not: {batch:?}, {generally:?}")
        }
    };
    assert_eq!(seen(&batch), seen(&generally));
    // What no field of ours is in is passed over unread: numbers out of range and half surrogates
    // among it.
    let Ok(value) = serde_json::from_slice::<Value>(body) else { return };
    let records = value["Records"].as_array().expect("a decoded event has records");
    let mut batch_records = (&batch).into_iter().peekable();
    for (index, expected) in records.iter().enumerate() {
        if batch_records
            .next_if(|record| record.fault().is_some_and(|fault| fault.index == index))
            .is_some()
        {
            continue;
        }
        let record = batch_records.next().expect("a record that can be read is handed on");
        assert!(record.fault().is_none());
        let kinesis = &expected["kinesis"];
        let data = kinesis["data"].as_str().expect("data is text");
        use base64::Engine as _;
        let data = base64::engine::general_purpose::STANDARD.decode(data).expect("data is base64");
        assert_eq!(record.data(), data);
        assert_eq!(record.partition_key(), kinesis["partitionKey"].as_str());
        assert_eq!(Some(record.sequence_number()), kinesis["sequenceNumber"].as_str());
        assert_eq!(Some(record.event_id()), expected["eventID"].as_str());
        let arrival = record.approximate_arrival().map(|time| {
            let since_epoch = time.duration_since(std::time::UNIX_EPOCH);
            since_epoch.expect("after the epoch").as_millis() as f64
        });
        let seconds = kinesis["approximateArrivalTimestamp"].as_f64();
        let milliseconds = seconds.map(|seconds| (seconds * 1000.0).round());
        // From 1970 to the year 9999.
        assert_eq!(
            arrival,
            milliseconds.filter(|time| (0.0..253_402_300_800_000.0).contains(time))
        );
    }
    assert!(batch_records.next().is_none());
    let _any_data_can_be_unpacked = batch.deaggregated();
}

/// All that a handler can see of a batch.
fn seen(batch: &Batch) -> (Vec<String>, String) {
    let record = |record: Record| {
        let fault = record.fault().map(ToString::to_string);
        let arrival = record.approximate_arrival();
        format!("{record:?} {} {:?} {arrival:?} {fault:?}", record.sequence_number(), record.data())
    };
    (
        batch.iter().map(record).collect(),
        format!("{:?} {:?}", batch.event_source_arn(), batch.window()),
    )
}

/// An aggregate's message is read as `prost` reads it, never panics, and nothing but what carries
/// its own digest is an aggregate.
pub fn unpack_aggregate(data: &[u8]) {
    let count = aggregation::reference::agrees_with_reference(data);
    let sealed = aggregation::seal(data);
    let aggregate = Aggregate::read(&sealed);
    assert_eq!(aggregate.as_ref().map(Aggregate::len), count.filter(|_| !data.is_empty()));
    if let Some(aggregate) = aggregate {
        let readable = aggregate.user_records().map_while(Result::ok);
        assert!(readable.map(|record| record.data.len()).sum::<usize>() <= data.len());
    }
    if let Some(last) = data.last() {
        let (mut damaged, bit) = (sealed, 1 << (last % 8));
        let place = data.len() * 31 % damaged.len();
        damaged[place] ^= bit;
        assert!(Aggregate::read(&damaged).is_none());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Map, json};

    use super::*;
    use crate::testing::{aggregated, record};

    /// A field as it should be, or missing, or of another kind.
    fn field(good: impl Strategy<Value = Value> + 'static) -> impl Strategy<Value = Option<Value>> {
        let odd = prop_oneof![
            Just(Value::Null),
            any::<i32>().prop_map(|number| json!(number)),
            any::<String>().prop_map(|text| json!(text)),
            Just(json!([])),
            Just(json!({ "a": 1 })),
        ];
        prop_oneof![20 => good.prop_map(Some), 1 => Just(None), 1 => odd.prop_map(Some)]
    }

    fn object(fields: Vec<(&'static str, Option<Value>)>) -> Value {
        let fields = fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
        Value::Object(fields.collect::<Map<_, _>>())
    }

    fn a_record() -> impl Strategy<Value = Value> {
        let data =
            any::<Vec<u8>>().prop_map(|data| json!(base64_simd::STANDARD.encode_to_string(data)));
        let kinesis = (
            field(data),
            field(any::<Option<String>>().prop_map(|key| json!(key))),
            field("[0-9]{1,56}".prop_map(|number| json!(number))),
            field(prop_oneof![10 => 0.0..2e9, 1 => any::<f64>()].prop_map(|time| json!(time))),
            field(Just(json!("1.0"))),
        );
        let kinesis = kinesis.prop_map(|(data, key, number, arrival, version)| {
            object(vec![
                ("kinesisSchemaVersion", version),
                ("partitionKey", key),
                ("sequenceNumber", number),
                ("data", data),
                ("approximateArrivalTimestamp", arrival),
            ])
        });
        let source = prop_oneof![30 => Just(json!("aws:kinesis")), 1 => Just(json!("aws:sqs"))];
        let name = prop_oneof![30 => Just(json!("aws:kinesis:record")), 1 => Just(json!("aws:kinesis:other"))];
        let id = "shardId-00000000000[0-9]:[0-9]{1,56}".prop_map(|id| json!(id));
        (field(kinesis), field(source), field(id), field(name)).prop_map(
            |(kinesis, source, id, name)| {
                object(vec![
                    ("kinesis", kinesis),
                    ("eventSource", source),
                    ("eventID", id),
                    ("eventName", name),
                ])
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(10_000))]

        #[test]
        fn events_decode_as_serde_and_base64_decode_them(
            records in prop::collection::vec(a_record(), 0..5),
            pretty in any::<bool>(),
            flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
        ) {
            let event = json!({ "Records": records });
            let text = if pretty { serde_json::to_string_pretty(&event) } else { serde_json::to_string(&event) };
            let mut body = text.expect("a value is JSON").into_bytes();
            for (place, byte) in flips {
                let place = place.index(body.len());
                body[place] = byte;
            }
            decode_event(&body);
        }

        #[test]
        fn lambdas_layout_and_what_is_nearly_it_decode_the_same_by_both_paths(
            records in prop::collection::vec(
                (any::<Vec<u8>>(), prop::option::of(".{0,12}"), 0u64..4_000_000_000_000),
                0..6,
            ),
            shard in "shardId-[0-9]{12}|.{0,9}",
            window in prop::option::of((any::<i32>(), any::<bool>())),
            changes in prop::collection::vec((any::<prop::sample::Index>(), 0usize..5, any::<u8>()), 0..3),
        ) {
            let mut event = crate::testing::Event::new().shard_id(shard);
            for (data, key, milliseconds) in records {
                let arrival = std::time::UNIX_EPOCH + std::time::Duration::from_millis(milliseconds);
                let record = record(data).arrival(arrival);
                event = event.record(match key {
                    Some(key) => record.partition_key(key),
                    None => record.without_partition_key(),
                });
            }
            if let Some((state, is_final)) = window {
                event = event.window("2026-11-22T18:00:00Z", "2026-11-22T18:02:00Z", json!({ "state": state }));
                event = if is_final { event.final_invoke() } else { event };
            }
            let mut body = event.to_json().into_bytes();
            for (place, change, byte) in changes {
                let place = place.index(body.len().max(1));
                match change {
                    _ if body.is_empty() => {}
                    0 => body[place] = byte,
                    1 => body.insert(place, b' '),
                    2 => drop(body.remove(place)),
                    3 => body.insert(place, b'\\'),
                    _ => body.truncate(place),
                }
            }
            decode_event(&body);
        }

        #[test]
        fn any_bytes_decode_or_are_refused(body in any::<Vec<u8>>()) {
            decode_event(&body);
            unpack_aggregate(&body);
        }
    }

    /// Found by the fuzz target: serde skips unknown fields without a look at their bytes.
    #[test]
    fn an_unknown_field_of_a_window_that_is_no_text_is_refused_by_both_paths() {
        let event = crate::testing::records(["a"]).window("", "", json!({ "state": 1 }));
        let mut body =
            event.to_json().replace("\"shardId\":", "\"unknown\":\"?\",\"shardId\":").into_bytes();
        let place = body.iter().position(|byte| *byte == b'?').expect("the field");
        decode_event(&body);
        body[place] = 0xff;
        decode_event(&body);
        assert!(event::decode(Bytes::from(body)).is_err());
    }

    /// Found by the fuzz target.
    #[test]
    fn a_comma_behind_the_last_field_is_refused_by_both_paths() {
        let body = crate::testing::records(["a"]).to_json().replace("]}", "],}");
        decode_event(body.as_bytes());
        assert!(event::decode(Bytes::from(body)).is_err());
    }

    /// The generated events are not all refused: what they test is real.
    #[test]
    fn good_events_are_decoded() {
        let event = crate::testing::Event::new()
            .record(record("a"))
            .record(aggregated([("k", "b"), ("k", "c")]));
        decode_event(event.to_json().as_bytes());
        let batch = event::decode(Bytes::from(event.to_json())).expect("a good event");
        assert!(batch.iter().all(|record| record.fault().is_none()));
        assert_eq!(batch.deaggregated().len(), 3);
    }
}
