//! Against a naive softmax, level against level, and rows alone against rows together.

use super::*;
use crate::pool::Threads;

fn random(n: usize, seed: u32) -> Vec<f32> {
    let mut state = seed;
    (0..n)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect()
}

/// Queries over a cache of whole chunks; what lies behind the last row is not a number.
struct Case<E> {
    rows: usize,
    heads: usize,
    kv: usize,
    dim: usize,
    start: usize,
    window: Option<usize>,
    queries: Vec<f32>,
    /// For each head and chunk, keys and values.
    chunks: Vec<Vec<[Vec<E>; 2]>>,
}

impl<E: Element> Case<E> {
    fn new(shape: [usize; 4], start: usize, window: Option<usize>) -> Self {
        let [rows, heads, kv, dim] = shape;
        let len = start + rows;
        let chunk = |head: usize, index: usize| {
            let seed = (2 + 2 * index + 50 * head) as u32;
            let (mut keys, mut values) = (random(dim * CHUNK, seed), random(dim * CHUNK, seed + 1));
            for p in len.saturating_sub(index * CHUNK).min(CHUNK)..CHUNK {
                for j in 0..dim {
                    (keys[j * CHUNK + p], values[p * dim + j]) = (f32::NAN, f32::NAN);
                }
            }
            [keys, values].map(|it| it.into_iter().map(E::from_f32).collect())
        };
        let chunks =
            (0..kv).map(|h| (0..len.div_ceil(CHUNK)).map(|c| chunk(h, c)).collect()).collect();
        let queries = random(rows * heads * dim, 1);
        Self { rows, heads, kv, dim, start, window, queries, chunks }
    }

    /// Outputs and log sums of the given rows, computed in one call.
    fn run(&self, level: Level, rows: Range<usize>) -> Vec<u32> {
        let width = self.heads * self.dim;
        let queries = Queries {
            values: &self.queries[rows.start * width..rows.end * width],
            heads: self.heads,
            dim: self.dim,
            start: self.start + rows.start,
            window: self.window,
            scale: 0.3,
        };
        let chunks: Vec<Vec<_>> = self
            .chunks
            .iter()
            .map(|it| it.iter().map(|[keys, values]| HeadChunk { keys, values }).collect())
            .collect();
        let mut out = vec![9.0; rows.len() * width];
        let mut log_sums = vec![9.0; rows.len() * self.heads];
        attend_typed(level, &queries, &chunks, &mut out, &mut log_sums);
        let of_row = |row: usize| {
            let log_sums = &log_sums[row * self.heads..(row + 1) * self.heads];
            out[row * width..(row + 1) * width].iter().chain(log_sums).map(|it| it.to_bits())
        };
        (0..rows.len()).flat_map(of_row).collect()
    }

    fn naive(&self) -> Vec<f64> {
        let mut all = Vec::new();
        for row in 0..self.rows {
            let position = self.start + row;
            let first = self.window.map_or(0, |it| (position + 1).saturating_sub(it));
            let mut log_sums = Vec::new();
            for head in 0..self.heads {
                let chunks = &self.chunks[head * self.kv / self.heads];
                let at = (row * self.heads + head) * self.dim;
                let q = &self.queries[at..at + self.dim];
                let key = |p: usize, j: usize| chunks[p / CHUNK][0][j * CHUNK + p % CHUNK].to_f32();
                let score = |p: usize| {
                    let of = |j: usize| f64::from(q[j]) * f64::from(key(p, j));
                    (0..self.dim).map(of).sum::<f64>() * f64::from(0.3f32)
                };
                let weights: Vec<f64> = (first..=position).map(|p| score(p).exp()).collect();
                let total: f64 = weights.iter().sum();
                all.extend((0..self.dim).map(|j| {
                    let value = |p: usize| chunks[p / CHUNK][1][p % CHUNK * self.dim + j].to_f32();
                    let terms = weights.iter().zip(first..);
                    terms.map(|(w, p)| w / total * f64::from(value(p))).sum::<f64>()
                }));
                log_sums.push(total.ln());
            }
            all.extend(log_sums);
        }
        all
    }

    /// Every level gives the naive values, and the same bits for rows alone and together.
    fn check(&self) {
        let what = format!(
            "{} rows, {} heads over {}, dim {}, from {}, window {:?}",
            self.rows, self.heads, self.kv, self.dim, self.start, self.window
        );
        let reference = self.run(Level::Portable, 0..self.rows);
        for (&got, want) in reference.iter().zip(self.naive()) {
            let got = f64::from(f32::from_bits(got));
            assert!((got - want).abs() < 2e-6 * want.abs().max(1.0), "{got} vs {want}: {what}");
        }
        for level in Level::available() {
            assert!(self.run(level, 0..self.rows) == reference, "{}: {what}", level.name());
            let alone: Vec<u32> =
                (0..self.rows).flat_map(|row| self.run(level, row..row + 1)).collect();
            assert!(alone == reference, "{} alone: {what}", level.name());
        }
        let threads = Threads::new(3).expect("threads");
        let parallel = threads.run(|| self.run(Level::detected(), 0..self.rows));
        assert!(parallel == reference, "in parallel: {what}");
    }
}

#[test]
fn rows_equal_a_naive_softmax_and_do_not_touch_each_other() {
    for dim in [8, 16, 24, 64, 80, 128] {
        for (heads, kv) in [(1, 1), (7, 1), (4, 2), (12, 2)] {
            for (start, rows) in [(0, 1), (0, 64), (60, 9), (190, 3)] {
                Case::<f32>::new([rows, heads, kv, dim], start, None).check();
            }
        }
    }
}

#[test]
fn windows_hide_what_lies_before_them() {
    for window in [1, 2, 63, 64, 65, 100] {
        for (start, rows) in [(0, 130), (61, 70), (255, 2)] {
            Case::<f32>::new([rows, 2, 1, 24], start, Some(window)).check();
            Case::<f32>::new([rows, 7, 1, 64], start, Some(window)).check();
        }
    }
}

#[test]
fn narrow_types_are_widened_exactly() {
    for (start, rows) in [(0, 40), (100, 3)] {
        Case::<f16>::new([rows, 7, 1, 64], start, None).check();
        Case::<bf16>::new([rows, 4, 2, 80], start, Some(50)).check();
    }
}
