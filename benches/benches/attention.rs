//! Attention alone, at the shapes of small models: prefill as a share of the multiply-add peak,
//! a few rows over a long cache as a share of the read bandwidth.
//!
//! Ids name shape, type of the cache, rows, depth, instruction set and threads.

#![allow(clippy::print_stderr)] // A benchmark's figures are what it is run for.
#![allow(clippy::redundant_closure)] // The names of variants are not general over lifetimes.

use std::{hint::black_box, time::Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use half::{bf16, f16};
use minicrit_quant::{
    kernels::{
        Level,
        attend::{CHUNK, Chunks, Element, HeadChunk, Queries, attend},
    },
    pool::Threads,
    roofline,
};

struct Shape {
    name: &'static str,
    layers: usize,
    heads: usize,
    kv: usize,
    dim: usize,
}

const SHAPES: [Shape; 3] = [
    Shape { name: "qwen2.5-0.5b", layers: 24, heads: 14, kv: 2, dim: 64 },
    Shape { name: "qwen2.5-1.5b", layers: 28, heads: 12, kv: 2, dim: 128 },
    Shape { name: "llama-3.2-1b", layers: 16, heads: 32, kv: 8, dim: 64 },
];

/// Rows, and tokens before them.
const CASES: [(usize, usize); 5] = [(32, 0), (128, 0), (512, 0), (1, 1023), (4, 1020)];

const REPETITIONS: usize = 7;

/// Keys or values of every layer, head and chunk in one buffer on cache lines.
struct Buffer<E> {
    values: Vec<E>,
    start: usize,
}

impl<E: Element> Buffer<E> {
    fn new(len: usize) -> Self {
        let value = |i: usize| E::from_f32((i * 7919 % 1009) as f32 / 500.0 - 1.0);
        let values: Vec<E> = (0..len + 64).map(value).collect();
        let start = values.as_ptr().align_offset(64);
        Self { values, start }
    }

    fn chunk(&self, index: usize, len: usize) -> &[E] {
        &self.values[self.start + index * len..self.start + (index + 1) * len]
    }
}

/// Median seconds for the attention of all layers.
fn seconds<E: Element>(
    shape: &Shape,
    (rows, depth): (usize, usize),
    wrap: impl for<'a> Fn(Vec<Vec<HeadChunk<'a, E>>>) -> Chunks<'a>,
) -> f64 {
    let Shape { layers, heads, kv, dim, .. } = *shape;
    let per_head = (rows + depth).div_ceil(CHUNK);
    let total = layers * kv * per_head;
    let [keys, values] = [(); 2].map(|()| Buffer::<E>::new(total * dim * CHUNK));
    let chunk = |index: usize| HeadChunk {
        keys: keys.chunk(index, dim * CHUNK),
        values: values.chunk(index, dim * CHUNK),
    };
    let of_head = |head: usize| (head * per_head..(head + 1) * per_head).map(chunk).collect();
    let of_layer = |layer: usize| wrap((layer * kv..(layer + 1) * kv).map(of_head).collect());
    let all: Vec<Chunks<'_>> = (0..layers).map(of_layer).collect();
    let q: Vec<f32> =
        (0..rows * heads * dim).map(|i| (i * 31 % 997) as f32 / 500.0 - 1.0).collect();
    let mut out = vec![0.0; q.len()];
    let scale = 1.0 / (dim as f32).sqrt();
    let queries = Queries { values: &q, heads, dim, start: depth, window: None, scale };
    let mut times: Vec<f64> = (0..REPETITIONS)
        .map(|_| {
            let start = Instant::now();
            for chunks in &all {
                attend(Level::detected(), black_box(&queries), chunks, &mut out, &mut []);
            }
            start.elapsed().as_secs_f64()
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[REPETITIONS / 2]
}

fn attention(_criterion: &mut Criterion) {
    let count = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = Threads::new(count).expect("threads");
    let peak = roofline::fma_peak(count);
    let bandwidth = roofline::read_bandwidth(count);
    eprintln!("ceilings: read {bandwidth:.1} GB/s, multiply-add {peak:.0} GFLOP/s");
    for shape in &SHAPES {
        for (rows, depth) in CASES {
            for kind in ["f32", "f16", "bf16"] {
                let case = (rows, depth);
                let spent = threads.run(|| match kind {
                    "f16" => seconds::<f16>(shape, case, |it| Chunks::F16(it)),
                    "bf16" => seconds::<bf16>(shape, case, |it| Chunks::Bf16(it)),
                    _ => seconds::<f32>(shape, case, |it| Chunks::F32(it)),
                });
                let level = Level::detected().name();
                let id = format!("{}/{kind}/{rows} at {depth}/{level}/{count}", shape.name);
                let seen: usize = (0..rows).map(|row| depth + row + 1).sum();
                let Shape { layers, heads, kv, dim, .. } = *shape;
                let flops = (4 * layers * heads * dim * seen) as f64;
                let value = if kind == "f32" { 4 } else { 2 };
                let bytes = (2 * layers * kv * dim * (depth + rows) * value) as f64;
                let (rate, read) = (flops / spent / 1e9, bytes / spent / 1e9);
                eprintln!(
                    "attention/{id}: {:.2} ms, {rate:.0} GFLOP/s = {:.0} % of the peak, \
                     {read:.1} GB/s = {:.0} % of the read bandwidth",
                    1e3 * spent,
                    100.0 * rate / peak,
                    100.0 * read / bandwidth
                );
            }
        }
    }
}

criterion_group!(benches, attention);
criterion_main!(benches);
