//! The root-mean-square norm between float32 rows and the blocks of a product.

use super::{BLOCK, DenseLevel, Tiles, tiles::round_into};
use crate::{
    kernels::{LANES, for_each_level, portable::sum_lanes, vector},
    pool,
};

/// Values from which on a second thread pays.
const PARALLEL_FROM: usize = 1 << 16;

/// Each row of `x_td` normed and rounded, into the first block columns of `out`.
///
/// # Panics
/// Where the shapes do not fit: a caller's mistake.
pub fn norm_rows(level: DenseLevel, x_td: &[f32], gain: &[f32], eps: f32, out: &mut Tiles) {
    let width = gain.len();
    assert_eq!(x_td.len(), out.rows() * width, "rows");
    let level = level.float();
    out.fill_rows(0, width.div_ceil(BLOCK), |row, lines| {
        let mut normed = [0.0; 8192];
        let normed = &mut normed[..width];
        vector::rms_norm(level, &x_td[row * width..(row + 1) * width], gain, eps, normed);
        for (part, line) in normed.chunks(BLOCK).zip(lines) {
            round_into(level, part, &mut line[..part.len()]);
            line[part.len()..].fill(0);
        }
    });
}

/// Adds the slope by `x_td` to `into`, given the slope `g_td` by the normed rows.
///
/// # Panics
/// Where the shapes do not fit: a caller's mistake.
pub fn norm_backward(
    level: DenseLevel,
    x_td: &[f32],
    gain: &[f32],
    eps: f32,
    g_td: &[f32],
    into: &mut [f32],
) {
    let width = gain.len();
    assert!(x_td.len() == g_td.len() && x_td.len() == into.len(), "rows");
    let level = level.float();
    pool::for_each_chunk(into, width, x_td.len() >= PARALLEL_FROM, |row, into| {
        let at = row * width..(row + 1) * width;
        norm_row_backward(level, &x_td[at.clone()], gain, eps, &g_td[at], into);
    });
}

for_each_level! {
    /// With `r = 1 / sqrt(mean(x²) + eps)` and `u = g · gain`: adds `r · u - x · r³ · mean(u · x)`.
    fn norm_row_backward(x: &[f32], gain: &[f32], eps: f32, g: &[f32], into: &mut [f32])
        = norm_row_backward_body
}

#[inline(always)]
fn norm_row_backward_body(x: &[f32], gain: &[f32], eps: f32, g: &[f32], into: &mut [f32]) {
    let (mut squares, mut along) = ([0.0; LANES], [0.0; LANES]);
    let whole = x.len() - x.len() % LANES;
    for i in (0..whole).step_by(LANES) {
        for l in 0..LANES {
            squares[l] = x[i + l].mul_add(x[i + l], squares[l]);
            along[l] = (g[i + l] * gain[i + l]).mul_add(x[i + l], along[l]);
        }
    }
    for i in whole..x.len() {
        squares[i - whole] = x[i].mul_add(x[i], squares[i - whole]);
        along[i - whole] = (g[i] * gain[i]).mul_add(x[i], along[i - whole]);
    }
    let count = x.len() as f32;
    let inverse = 1.0 / (sum_lanes(squares) / count + eps).sqrt();
    let pull = sum_lanes(along) / count * inverse * inverse * inverse;
    for (((y, &x), &g), &gain) in into.iter_mut().zip(x).zip(g).zip(gain) {
        *y += g * gain * inverse - x * pull;
    }
}
