//! Row-wise arithmetic: norms, activations, exponentials.

use super::{LANES, lanes::for_each_level, portable::sum_lanes};

/// One register's worth of values.
pub(crate) type Lane = [f32; LANES];

/// `e^x` for 16 values, to about 2 units in the last place; 0 below -87.3.
///
/// Range reduction to `x = n ln 2 + r` and Cephes' polynomial of degree 6 for `e^r`
/// (Moshier, `expf.c`). Only fused multiply-adds and integer steps, so all levels agree.
#[inline(always)]
pub(crate) fn exp_lanes(x: Lane) -> Lane {
    /// 1.5 · 2²³: adding it rounds to an integer and leaves that in the low bits.
    const ROUND: f32 = 12_582_912.0;
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let mut y = [0.0; LANES];
    for l in 0..LANES {
        let clamped = x[l].clamp(-87.3, 88.3);
        let rounded = clamped.mul_add(std::f32::consts::LOG2_E, ROUND);
        let n = rounded - ROUND;
        let r = n.mul_add(-LN2_LOW, n.mul_add(-LN2_HIGH, clamped));
        let mut p = 1.987_569_1e-4f32;
        p = p.mul_add(r, 1.398_2e-3);
        p = p.mul_add(r, 8.333_452e-3);
        p = p.mul_add(r, 4.166_579_6e-2);
        p = p.mul_add(r, 1.666_666_5e-1);
        p = p.mul_add(r, 5e-1);
        let e_r = p.mul_add(r * r, r) + 1.0;
        let two_n = f32::from_bits((rounded.to_bits() << 23).wrapping_add(127 << 23));
        y[l] = if x[l] < -87.3 { 0.0 } else { e_r * two_n };
    }
    y
}

#[inline(always)]
pub(super) fn load(part: &[f32]) -> Lane {
    let mut lane = [0.0; LANES];
    lane[..part.len()].copy_from_slice(part);
    lane
}

for_each_level! {
    /// Root-mean-square norm of one row: `out = x / sqrt(mean(x²) + eps) · gain`.
    pub fn rms_norm(x: &[f32], gain: &[f32], eps: f32, out: &mut [f32]) = rms_norm_body
}

#[inline(always)]
fn rms_norm_body(x: &[f32], gain: &[f32], eps: f32, out: &mut [f32]) {
    let mut squares = [0.0; LANES];
    let whole = x.len() - x.len() % LANES;
    for part in x[..whole].chunks_exact(LANES) {
        for l in 0..LANES {
            squares[l] = part[l].mul_add(part[l], squares[l]);
        }
    }
    let tail = load(&x[whole..]);
    for l in 0..LANES {
        squares[l] = tail[l].mul_add(tail[l], squares[l]);
    }
    let mean = sum_lanes(squares) / x.len() as f32;
    let inverse = 1.0 / (mean + eps).sqrt();
    for ((y, &x), &g) in out.iter_mut().zip(x).zip(gain) {
        *y = x * inverse * g;
    }
}

for_each_level! {
    /// The gated activation of one row: `out = gate · sigmoid(gate) · up`.
    pub fn swiglu(gate: &[f32], up: &[f32], out: &mut [f32]) = swiglu_body
}

#[inline(always)]
fn swiglu_body(gate: &[f32], up: &[f32], out: &mut [f32]) {
    for ((y, gate), up) in out.chunks_mut(LANES).zip(gate.chunks(LANES)).zip(up.chunks(LANES)) {
        let gate = load(gate);
        let up = load(up);
        let mut negative = [0.0; LANES];
        for l in 0..LANES {
            negative[l] = -gate[l];
        }
        let e = exp_lanes(negative);
        let mut result = [0.0; LANES];
        for l in 0..LANES {
            result[l] = gate[l] / (1.0 + e[l]) * up[l];
        }
        let len = y.len();
        y.copy_from_slice(&result[..len]);
    }
}

for_each_level! {
    /// Rotates the first `2 · cos.len()` values of a head: pairs are `(i, i + cos.len())`.
    pub fn rotate_half(head: &mut [f32], cos: &[f32], sin: &[f32]) = rotate_half_body
}

#[inline(always)]
fn rotate_half_body(head: &mut [f32], cos: &[f32], sin: &[f32]) {
    let (low, rest) = head.split_at_mut(cos.len());
    for (((a, b), &c), &s) in low.iter_mut().zip(rest).zip(cos).zip(sin) {
        let (x, y) = (*a, *b);
        *a = x * c - y * s;
        *b = y * c + x * s;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::Level;

    #[test]
    fn exp_is_close_and_flushes_to_zero() {
        for i in -9000..9000 {
            let x = i as f32 * 0.009_7;
            let got = exp_lanes([x; LANES])[0];
            let want = f64::from(x).exp();
            let error = (f64::from(got) - want).abs() / want.max(1e-37);
            assert!(error < 3e-7, "exp({x}) = {got}, want {want}");
        }
        assert_eq!(exp_lanes([f32::NEG_INFINITY; LANES])[0], 0.0);
        assert_eq!(exp_lanes([0.0; LANES])[0], 1.0);
    }

    #[test]
    fn every_level_gives_the_same_bits() {
        let row = |n: usize, k: u32| -> Vec<f32> {
            (0..n).map(|i| ((i as u32 * 7919 + k) % 1000) as f32 / 250.0 - 2.0).collect()
        };
        for n in [1, 2, 15, 16, 17, 24, 64, 100] {
            let (x, g) = (row(n, 1), row(n, 2));
            let run = |level: Level| {
                let (mut a, mut b) = (vec![0.0; n], vec![0.0; n]);
                rms_norm(level, &x, &g, 1e-6, &mut a);
                swiglu(level, &x, &g, &mut b);
                a.extend(b);
                a.iter().map(|v| v.to_bits()).collect::<Vec<_>>()
            };
            for level in Level::available() {
                assert_eq!(run(level), run(Level::Portable), "{} n={n}", level.name());
            }
        }
    }
}
