//! Attention of one query row over cached keys and values, one pass, chunk by chunk.
//!
//! Keys and values lie in chunks of [`CHUNK`] positions at fixed absolute positions: keys
//! transposed (`[d, CHUNK]`, so that one register holds one coordinate of 16 positions), values as
//! they come (`[CHUNK, d]`). The running maximum and sum advance by whole chunks, so a row's bits
//! depend on its query and on the visible keys and values alone.

use super::{LANES, lanes::for_each_level, portable::sum_lanes, vector::exp_lanes};

/// Positions in a chunk.
pub const CHUNK: usize = 64;

const GROUPS: usize = CHUNK / LANES;

/// Keys and values of one head and one chunk.
#[derive(Clone, Copy)]
pub struct HeadChunk<'a> {
    /// `[d, CHUNK]`.
    pub keys: &'a [f32],
    /// `[CHUNK, d]`.
    pub values: &'a [f32],
}

/// Which positions a row sees, and the factor on its scores.
#[derive(Debug, Clone, Copy)]
pub struct Visible {
    /// First position seen.
    pub first: usize,
    /// Last position seen, the row's own.
    pub last: usize,
    /// Factor on `q · k`, usually `1 / sqrt(d)`.
    pub scale: f32,
}

for_each_level! {
    /// `out = softmax(scale · q · kᵀ) · v` for one row of one head. `chunks[0]` holds position 0.
    /// Returns the log of the sum of exponentials of the scores, which the backward pass needs.
    pub fn attend_row(q: &[f32], chunks: &[HeadChunk<'_>], visible: Visible, out: &mut [f32]) -> f32
        = attend_row_body
}

#[inline(always)]
fn attend_row_body(q: &[f32], chunks: &[HeadChunk<'_>], visible: Visible, out: &mut [f32]) -> f32 {
    let mut max = f32::NEG_INFINITY;
    let mut sums = [0.0f32; LANES];
    out.fill(0.0);
    for c in visible.first / CHUNK..=visible.last / CHUNK {
        let base = c * CHUNK;
        let low = visible.first.max(base) - base;
        let high = visible.last.min(base + CHUNK - 1) - base + 1;
        let mut scores = scores_of(q, chunks[c].keys, visible.scale);
        for (p, score) in scores.as_flattened_mut().iter_mut().enumerate() {
            *score = if p >= low && p < high { *score } else { f32::NEG_INFINITY };
        }
        let chunk_max = max_of(&scores);
        let new_max = if chunk_max > max { chunk_max } else { max };
        let shrink = exp_lanes([max - new_max; LANES])[0];
        max = new_max;
        for l in 0..LANES {
            sums[l] *= shrink;
        }
        for group in &mut scores {
            for score in group.iter_mut() {
                *score -= max;
            }
            *group = exp_lanes(*group);
            for l in 0..LANES {
                sums[l] += group[l];
            }
        }
        add_values(scores.as_flattened(), low..high, chunks[c].values, shrink, out);
    }
    let sum = sum_lanes(sums);
    for value in out.iter_mut() {
        *value /= sum;
    }
    max + sum.ln()
}

/// Scores of all positions of a chunk: coordinates are added in order, by fused multiply-add.
#[inline(always)]
fn scores_of(q: &[f32], keys: &[f32], scale: f32) -> [[f32; LANES]; GROUPS] {
    let mut scores = [[0.0f32; LANES]; GROUPS];
    for (&coordinate, column) in q.iter().zip(keys.chunks_exact(CHUNK)) {
        for g in 0..GROUPS {
            for l in 0..LANES {
                scores[g][l] = coordinate.mul_add(column[g * LANES + l], scores[g][l]);
            }
        }
    }
    for group in &mut scores {
        for score in group.iter_mut() {
            *score *= scale;
        }
    }
    scores
}

#[inline(always)]
fn max_of(scores: &[[f32; LANES]; GROUPS]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    for group in scores {
        for l in 0..LANES {
            lanes[l] = if group[l] > lanes[l] { group[l] } else { lanes[l] };
        }
    }
    lanes.into_iter().fold(f32::NEG_INFINITY, |max, it| if it > max { it } else { max })
}

/// `out = out · shrink + Σ weight · value`, positions in order.
#[inline(always)]
fn add_values(
    weights: &[f32],
    range: std::ops::Range<usize>,
    values: &[f32],
    shrink: f32,
    out: &mut [f32],
) {
    const BLOCK: usize = 2 * LANES;
    let d = out.len();
    let whole = d - d % BLOCK;
    for at in (0..whole).step_by(BLOCK) {
        let mut acc = [0.0f32; BLOCK];
        acc.copy_from_slice(&out[at..at + BLOCK]);
        for value in &mut acc {
            *value *= shrink;
        }
        for p in range.clone() {
            let row = &values[p * d + at..p * d + at + BLOCK];
            for l in 0..BLOCK {
                acc[l] = weights[p].mul_add(row[l], acc[l]);
            }
        }
        out[at..at + BLOCK].copy_from_slice(&acc);
    }
    let tail = &mut out[whole..];
    for value in tail.iter_mut() {
        *value *= shrink;
    }
    for p in range {
        let row = &values[p * d + whole..(p + 1) * d];
        for (value, &v) in tail.iter_mut().zip(row) {
            *value = weights[p].mul_add(v, *value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::Level;

    fn random(n: usize, seed: u32) -> Vec<f32> {
        let mut state = seed;
        (0..n)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 8) as f32 / (1 << 23) as f32 - 1.0
            })
            .collect()
    }

    struct Case {
        q: Vec<f32>,
        keys: Vec<Vec<f32>>,
        values: Vec<Vec<f32>>,
    }

    impl Case {
        fn new(d: usize, chunks: usize) -> Self {
            Case {
                q: random(d, 1),
                keys: (0..chunks).map(|c| random(d * CHUNK, 2 + c as u32)).collect(),
                values: (0..chunks).map(|c| random(d * CHUNK, 90 + c as u32)).collect(),
            }
        }

        fn run(&self, level: Level, visible: Visible) -> Vec<f32> {
            let chunks: Vec<_> = self
                .keys
                .iter()
                .zip(&self.values)
                .map(|(k, v)| HeadChunk { keys: k, values: v })
                .collect();
            let mut out = vec![0.0; self.q.len()];
            out.push(attend_row(level, &self.q, &chunks, visible, &mut vec![0.0; self.q.len()]));
            let d = self.q.len();
            attend_row(level, &self.q, &chunks, visible, &mut out[..d]);
            out
        }

        fn naive(&self, visible: Visible) -> Vec<f64> {
            let d = self.q.len();
            let at = |p: usize| (p / CHUNK, p % CHUNK);
            let scores: Vec<f64> = (visible.first..=visible.last)
                .map(|p| {
                    let (c, i) = at(p);
                    let dot: f64 = (0..d)
                        .map(|j| f64::from(self.q[j]) * f64::from(self.keys[c][j * CHUNK + i]))
                        .sum();
                    dot * f64::from(visible.scale)
                })
                .collect();
            let total: f64 = scores.iter().map(|s| s.exp()).sum();
            let mut out = vec![0.0; d];
            for (s, p) in scores.iter().zip(visible.first..) {
                let (c, i) = at(p);
                for (j, o) in out.iter_mut().enumerate() {
                    *o += s.exp() / total * f64::from(self.values[c][i * d + j]);
                }
            }
            out.push(total.ln());
            out
        }
    }

    #[test]
    fn equals_a_naive_softmax_on_every_level() {
        for d in [8, 16, 24, 64, 80, 128] {
            let case = Case::new(d, 4);
            for (first, last) in [(0, 0), (0, 63), (0, 64), (3, 200), (60, 70), (130, 255)] {
                let visible = Visible { first, last, scale: 0.3 };
                let want = case.naive(visible);
                let reference = case.run(Level::Portable, visible);
                for (g, w) in reference.iter().zip(&want) {
                    assert!((f64::from(*g) - w).abs() < 2e-6, "d={d} {visible:?}: {g} vs {w}");
                }
                for level in Level::available() {
                    let got = case.run(level, visible);
                    let bits = |v: &[f32]| v.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
                    assert_eq!(bits(&got), bits(&reference), "{} d={d}", level.name());
                }
            }
        }
    }
}
