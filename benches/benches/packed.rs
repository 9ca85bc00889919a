//! Products with packed weights, at the shapes of small models.
//!
//! Identifiers name kind, shape, rows, instruction set and threads. Decoding reads each weight once,
//! so one row is printed as bytes each second beside this process's read bandwidth; many rows as
//! operations each second; and each number of rows as a multiple of the cost of one.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use minicrit_quant::{PackedKind, PackedLevel, PackedTensor, QuantTensor, pool::Threads};

/// Inputs and outputs.
const SHAPES: [(usize, usize); 3] = [(896, 4864), (1536, 8960), (896, 151_936)];

const ROWS: [usize; 8] = [1, 2, 4, 8, 16, 32, 128, 512];

/// Weights of all copies together: more than a cache holds, so that they come from memory.
const BYTES: usize = 256 << 20;

/// Outputs above which many rows would take more memory than they tell.
const MANY_OUTPUTS: usize = 1 << 16;

fn copies(kind: PackedKind, inputs: usize, outputs: usize) -> Vec<PackedTensor> {
    let rows = outputs.min(4096);
    let values: Vec<f32> =
        (0..rows * inputs).map(|i| (i * 7919 % 1009) as f32 / 500.0 - 1.0).collect();
    let all: Vec<f32> = values.iter().copied().cycle().take(outputs * inputs).collect();
    let weight = QuantTensor::from_f32(outputs, inputs, &all).expect("the shape fits");
    let first = PackedTensor::quantize(kind, &weight).expect("finite weights");
    let count = BYTES.div_ceil(first.byte_len());
    (0..count)
        .map(|_| {
            PackedTensor::from_bytes(&first.header(), first.bytes())
                .expect("bytes of a packed tensor")
        })
        .collect()
}

fn products(criterion: &mut Criterion) {
    let threads = Threads::new(2).expect("two threads");
    let level = PackedLevel::detected();
    for kind in PackedKind::ALL {
        for (inputs, outputs) in SHAPES {
            let weights = copies(kind, inputs, outputs);
            let mut group = criterion.benchmark_group(format!(
                "packed/{kind}/{inputs}x{outputs}/{}/{} threads",
                level.name(),
                threads.count()
            ));
            for rows in ROWS {
                if rows > 32 && outputs > MANY_OUTPUTS {
                    continue;
                }
                let x: Vec<f32> =
                    (0..rows * inputs).map(|i| (i * 31 % 997) as f32 / 500.0 - 1.0).collect();
                let mut y = vec![0.0; rows * outputs];
                group.throughput(match rows {
                    1 => Throughput::Bytes(weights[0].byte_len() as u64),
                    _ => Throughput::Elements((2 * rows * inputs * outputs) as u64),
                });
                let mut next = 0;
                group.bench_function(BenchmarkId::from_parameter(rows), |bencher| {
                    threads.run(|| {
                        bencher.iter(|| {
                            weights[next].matmul_into(black_box(&x), &mut y);
                            next = (next + 1) % weights.len();
                        });
                    });
                });
            }
            group.finish();
        }
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20);
    targets = products
}
criterion_main!(benches);
