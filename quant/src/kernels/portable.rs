//! The reference tile: the order of arithmetic, spelled out.

use half::{bf16, f16};

use super::{
    LANES,
    matmul::{MAX_TILE_ROWS, PANEL, Panel},
};
use crate::Format;

/// `sums[i][j]` = row `i` of `x` times row `j` of the panel.
pub(super) fn tile(
    panel: &Panel<'_>,
    x: &[f32],
    rows: usize,
    sums: &mut [[f32; PANEL]; MAX_TILE_ROWS],
) {
    let row_bytes = panel.bytes.len() / panel.count;
    for i in 0..rows {
        let x_row = &x[i * panel.k..(i + 1) * panel.k];
        for j in 0..panel.count {
            let w_row = &panel.bytes[j * row_bytes..(j + 1) * row_bytes];
            sums[i][j] = dot(x_row, panel.format, w_row);
        }
    }
}

/// One dot product over 16 lanes; the tail is padded with zeros.
fn dot(x: &[f32], format: Format, w: &[u8]) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let width = format.block_bytes();
    for (x_part, w_part) in x.chunks(LANES).zip(w.chunks(LANES * width)) {
        let mut x_lane = [0.0f32; LANES];
        let mut w_lane = [0.0f32; LANES];
        x_lane[..x_part.len()].copy_from_slice(x_part);
        for (value, bytes) in w_lane.iter_mut().zip(w_part.chunks_exact(width)) {
            *value = widen(format, bytes);
        }
        for l in 0..LANES {
            lanes[l] = x_lane[l].mul_add(w_lane[l], lanes[l]);
        }
    }
    sum_lanes(lanes)
}

fn widen(format: Format, bytes: &[u8]) -> f32 {
    match (format, bytes) {
        (Format::Bf16, &[a, b]) => bf16::from_le_bytes([a, b]).to_f32(),
        (Format::F16, &[a, b]) => f16::from_le_bytes([a, b]).to_f32(),
        (_, &[a, b, c, d]) => f32::from_le_bytes([a, b, c, d]),
        _ => unreachable!("invariant: panels hold float formats"),
    }
}

/// The fixed tree: lanes 8 apart, then 4, 2 and 1.
#[inline(always)]
pub(super) fn sum_lanes(mut lanes: [f32; LANES]) -> f32 {
    let mut half = LANES / 2;
    while half > 0 {
        for l in 0..half {
            lanes[l] += lanes[l + half];
        }
        half /= 2;
    }
    lanes[0]
}
