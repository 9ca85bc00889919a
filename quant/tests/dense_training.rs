//! The fused operations of training against plain float64 arithmetic on the same rounded inputs,
//! and level against level, bit for bit.

#![allow(clippy::unwrap_used)]

use std::ops::Range;

use half::bf16;
use minicrit_quant::{
    QuantTensor, Weight,
    dense::{
        AttendShape, DenseLevel, Matrix, Qkv, QkvSlopes, Right, Tiles, attend_backward,
        attend_forward, gated_backward, gated_forward, log_probs, norm_backward, norm_rows,
    },
};

/// Relative to the largest value: weights, activations and slopes are rounded to eight bits on the
/// way, each once or twice.
const TOLERANCE: f64 = 1.5e-2;

fn random(n: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    (0..n)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            bf16::from_f32((state >> 40) as f32 / (1 << 23) as f32 - 1.0).to_f32()
        })
        .collect()
}

fn close(name: &str, got: &[f32], want: &[f64]) {
    assert_eq!(got.len(), want.len(), "{name}");
    let size = want.iter().fold(0.0f64, |max, it| max.max(it.abs()));
    assert!(size > 0.0, "{name}: nothing to compare");
    for (i, (got, want)) in got.iter().zip(want).enumerate() {
        let error = (f64::from(*got) - want).abs();
        assert!(error <= TOLERANCE * size, "{name} {i}: {got} vs {want}, size {size}");
    }
}

/// Every level gives the bits of the first.
fn on_every_level(run: impl Fn(DenseLevel) -> Vec<f32>) -> Vec<f32> {
    let levels = DenseLevel::available();
    let first = run(levels[0]);
    for level in levels {
        let bits = |it: &[f32]| it.iter().map(|it| it.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&run(level)), bits(&first), "{}", level.name());
    }
    first
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}

#[test]
fn attention_and_its_slopes() {
    for (kv, dim, window) in [(2, 64, None), (1, 24, Some(37)), (4, 40, None)] {
        let shape = AttendShape { query: 4, kv, dim, window, scale: 1.0 / (dim as f32).sqrt() };
        let sequences: Vec<Range<usize>> = vec![0..70, 70..71, 71..400];
        let rows = 400;
        let (q, g) = (random(rows * 4 * dim, 1), random(rows * 4 * dim, 4));
        let (k, v) = (random(rows * kv * dim, 2), random(rows * kv * dim, 3));
        let qkv = Qkv { q: &q, k: &k, v: &v };
        let all = on_every_level(|level| {
            let (mut out, mut sums) = (vec![f32::NAN; q.len()], vec![f32::NAN; rows * 4]);
            attend_forward(level, shape, &sequences, qkv, &mut out, &mut sums);
            let mut slopes = [&q, &k, &v].map(|it| vec![f32::NAN; it.len()]);
            let [dq, dk, dv] = &mut slopes;
            let into = QkvSlopes { q: dq, k: dk, v: dv };
            attend_backward(level, shape, &sequences, qkv, &sums, &g, into);
            [out, slopes.concat()].concat()
        });
        let mut want = [&q, &q, &k, &v].map(|it| vec![0.0f64; it.len()]);
        for rows in &sequences {
            for (i, head) in rows.clone().flat_map(|i| (0..4).map(move |h| (i, h))) {
                let kv_head = head * kv / 4;
                let q_at = (i * 4 + head) * dim..(i * 4 + head + 1) * dim;
                let low = window.map_or(rows.start, |w| rows.start.max((i + 1).saturating_sub(w)));
                let at = |j: usize| (j * kv + kv_head) * dim..(j * kv + kv_head + 1) * dim;
                let scale = f64::from(shape.scale);
                let scores: Vec<f64> =
                    (low..=i).map(|j| scale * dot(&q[q_at.clone()], &k[at(j)])).collect();
                let max = scores.iter().copied().fold(f64::MIN, f64::max);
                let sum: f64 = scores.iter().map(|it| (it - max).exp()).sum();
                let p: Vec<f64> = scores.iter().map(|it| (it - max).exp() / sum).collect();
                let dp: Vec<f64> = (low..=i).map(|j| dot(&g[q_at.clone()], &v[at(j)])).collect();
                let along: f64 = p.iter().zip(&dp).map(|(a, b)| a * b).sum();
                for (n, j) in (low..=i).enumerate() {
                    let ds = p[n] * (dp[n] - along) * scale;
                    for d in 0..dim {
                        let (qi, kj) = (q_at.start + d, at(j).start + d);
                        want[0][qi] += p[n] * f64::from(v[kj]);
                        want[1][qi] += ds * f64::from(k[kj]);
                        want[2][kj] += ds * f64::from(q[qi]);
                        want[3][kj] += p[n] * f64::from(g[qi]);
                    }
                }
            }
        }
        let mut rest = &all[..];
        for (name, want) in ["out", "dq", "dk", "dv"].iter().zip(&want) {
            let (part, tail) = rest.split_at(want.len());
            close(name, part, want);
            rest = tail;
        }
    }
}

#[test]
fn log_probabilities_and_their_slopes() {
    let (rows, width, vocab_size) = (70, 72, 1000);
    let mut x = random(rows * width, 1);
    // One row that is nearly certain: its slope must not drown in rounding.
    let w = random(vocab_size * width, 2);
    let mut ids: Vec<u32> = (0..rows as u32).map(|r| r * 131 % vocab_size as u32).collect();
    ids[69] = vocab_size as u32 - 1;
    let target = 7 * width..8 * width;
    ids[3] = 7;
    x[3 * width..4 * width].copy_from_slice(&w[target]);
    let head: Weight = QuantTensor::from_f32(vocab_size, width, &w).unwrap().into();
    let all = on_every_level(|level| {
        let tiles = Tiles::from_rows(level.float(), &x, width);
        let mut slopes = vec![f32::NAN; x.len()];
        let values = log_probs(level, &tiles, &head, &ids, Some(&mut slopes));
        assert_eq!(values, log_probs(level, &tiles, &head, &ids, None));
        [values, slopes].concat()
    });
    for (r, &id) in ids.iter().enumerate() {
        let logits: Vec<f64> =
            w.chunks(width).map(|w| dot(w, &x[r * width..(r + 1) * width])).collect();
        let max = logits.iter().copied().fold(f64::MIN, f64::max);
        let log_sum = max + logits.iter().map(|it| (it - max).exp()).sum::<f64>().ln();
        let want = logits[id as usize] - log_sum;
        assert!((f64::from(all[r]) - want).abs() < 1e-3, "{r}: {} vs {want}", all[r]);
        let mut slope: Vec<f64> =
            w[id as usize * width..][..width].iter().map(|it| f64::from(*it)).collect();
        for (v, logit) in logits.iter().enumerate() {
            let p = (logit - log_sum).exp();
            (0..width).for_each(|d| slope[d] -= p * f64::from(w[v * width + d]));
        }
        close("slope", &all[rows + r * width..][..width], &slope);
    }
}

#[test]
fn gated_block_and_its_slopes() {
    let (rows, inputs, inner) = (40, 64, 48);
    let x = random(rows * inputs, 1);
    let weights: Vec<Vec<f32>> = (0..2).map(|i| random(inner * inputs, 2 + i)).collect();
    let down = random(inputs * inner, 5);
    let g = random(rows * inputs, 6);
    let stored: Vec<Weight> =
        weights.iter().map(|it| QuantTensor::from_f32(inner, inputs, it).unwrap().into()).collect();
    let down_stored: Weight = QuantTensor::from_f32(inputs, inner, &down).unwrap().into();
    let values = |tiles: &Tiles, first: usize| -> Vec<f32> {
        let at = |i: usize| tiles.value(i / inner, first * 32 + i % inner);
        (0..rows * inner).map(at).collect()
    };
    let all = on_every_level(|level| {
        let left = Tiles::from_rows(level.float(), &x, inputs);
        let parts = stored.iter().map(|it| (Matrix::Weight(it), None)).collect();
        let right = Right::Rows { parts, alternate: true };
        let mut act = Tiles::zeros(rows, 2);
        let kept = gated_forward(level, &left, 0..2, &right, &mut act);
        let slope = Tiles::from_rows(level.float(), &g, inputs);
        let right = Right::Columns(vec![Matrix::Weight(&down_stored)]);
        let (mut again, mut slopes) = (Tiles::zeros(rows, 2), Tiles::zeros(rows, 4));
        gated_backward(level, &slope, &right, &kept, &mut again, &mut slopes);
        [values(&act, 0), values(&again, 0), values(&slopes, 0), values(&slopes, 2)].concat()
    });
    let mut want: [Vec<f64>; 4] = Default::default();
    for (r, f) in (0..rows).flat_map(|r| (0..inner).map(move |f| (r, f))) {
        let x = &x[r * inputs..][..inputs];
        let (gate, up) = (
            dot(x, &weights[0][f * inputs..][..inputs]),
            dot(x, &weights[1][f * inputs..][..inputs]),
        );
        let s = 1.0 / (1.0 + (-gate).exp());
        let d: f64 = (0..inputs)
            .map(|i| f64::from(g[r * inputs + i]) * f64::from(down[i * inner + f]))
            .sum();
        want[0].push(gate * s * up);
        want[1].push(gate * s * up);
        want[2].push(d * up * s * (1.0 + gate * (1.0 - s)));
        want[3].push(d * gate * s);
    }
    for (i, want) in want.iter().enumerate() {
        close("gated", &all[i * rows * inner..(i + 1) * rows * inner], want);
    }
}

#[test]
fn norm_and_its_slope() {
    let (rows, width, eps) = (5, 40, 1e-5);
    let (x, gain, g) = (random(rows * width, 1), random(width, 2), random(rows * width, 3));
    let all = on_every_level(|level| {
        let mut tiles = Tiles::zeros(rows, 2);
        norm_rows(level, &x, &gain, eps, &mut tiles);
        let mut slope = vec![1.0; x.len()];
        norm_backward(level, &x, &gain, eps, &g, &mut slope);
        let normed = (0..rows * width).map(|i| tiles.value(i / width, i % width));
        normed.chain(slope).collect()
    });
    let (mut normed, mut slope) = (Vec::new(), Vec::new());
    for (x, g) in x.chunks(width).zip(g.chunks(width)) {
        let mean = dot(x, x) / width as f64 + f64::from(eps);
        let r = 1.0 / mean.sqrt();
        let u: Vec<f32> = g.iter().zip(&gain).map(|(g, w)| g * w).collect();
        let along = dot(&u, x) / width as f64;
        for i in 0..width {
            normed.push(f64::from(x[i]) * r * f64::from(gain[i]));
            slope.push(1.0 + r * f64::from(u[i]) - f64::from(x[i]) * r * r * r * along);
        }
    }
    close("normed", &all[..x.len()], &normed);
    close("slope", &all[x.len()..], &slope);
}
