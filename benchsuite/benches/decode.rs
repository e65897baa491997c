//! The inner loops, for one who works on the decoder: `cargo bench` here, or `cargo bench -- '1,000
//! × 4 kB/Streambot'`.

use std::time::Duration;

use benchsuite::decoders::{Decoder, check};
use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use shapes::{HOSTILE, KPL, SHAPES, Shape};

fn decode(criterion: &mut Criterion) {
    for shape in &SHAPES {
        let floor = if shape.name == KPL.name { Decoder::FloorWithDigests } else { Decoder::Floor };
        measure(
            criterion,
            shape,
            &[Decoder::Streambot, floor, Decoder::AwsLambdaEvents, Decoder::Memcpy],
        );
    }
    for shape in &HOSTILE {
        measure(criterion, shape, &[Decoder::Streambot, Decoder::AwsLambdaEvents, Decoder::Memcpy]);
    }
}

fn measure(criterion: &mut Criterion, shape: &Shape, decoders: &[Decoder]) {
    let body = Bytes::from(shape.body());
    let lambdas_own = decoders
        .iter()
        .any(|decoder| matches!(decoder, Decoder::Floor | Decoder::FloorWithDigests));
    check(&body, lambdas_own).expect("the decoders read the same");
    let mut group = criterion.benchmark_group(shape.name);
    group
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .sample_size(20);
    group.throughput(Throughput::Bytes(body.len() as u64));
    for decoder in decoders {
        group.bench_function(decoder.name(), |bencher| bencher.iter(|| decoder.run(&body)));
    }
    group.finish();
}

criterion_group!(benches, decode);
criterion_main!(benches);
