//! The reference tile: the order of arithmetic, spelled out.

use half::{bf16, f16};

use super::{
    LANES,
    matmul::{Panel, TileLanes, Totals, XTile},
};
use crate::Format;

/// Adds the products of each row of `x` with each row of the panel to their lanes.
pub(super) fn accumulate(panel: &Panel<'_>, x: &XTile<'_>, sums: &mut TileLanes) {
    for (i, sums) in sums.0.iter_mut().enumerate().take(x.rows) {
        for (j, lanes) in sums.iter_mut().enumerate().take(panel.count) {
            add_products(x.row(i, panel.k), panel.format, panel.row(j), lanes);
        }
    }
}

/// Adds up the lanes of each sum as the fixed tree.
pub(super) fn reduce(sums: &TileLanes, rows: usize, totals: &mut Totals) {
    for (totals, sums) in totals.iter_mut().zip(&sums.0).take(rows) {
        for (total, lanes) in totals.iter_mut().zip(sums) {
            *total = sum_lanes(*lanes);
        }
    }
}

/// One row times one row over 16 lanes; the tail is padded with zeros.
fn add_products(x: &[f32], format: Format, w: &[u8], lanes: &mut [f32; LANES]) {
    let width = format.block_bytes();
    for (x_part, w_part) in x.chunks(LANES).zip(w.chunks(LANES * width)) {
        let mut x_lane = [0.0f32; LANES];
        let mut w_lane = [0.0f32; LANES];
        x_lane[..x_part.len()].copy_from_slice(x_part);
        for (value, bytes) in w_lane.iter_mut().zip(w_part.chunks_exact(width)) {
            *value = widen(format, bytes);
        }
        for ((sum, x), w) in lanes.iter_mut().zip(x_lane).zip(w_lane) {
            *sum = x.mul_add(w, *sum);
        }
    }
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
pub(crate) fn sum_lanes(mut lanes: [f32; LANES]) -> f32 {
    let mut half = LANES / 2;
    while half > 0 {
        for l in 0..half {
            lanes[l] += lanes[l + half];
        }
        half /= 2;
    }
    lanes[0]
}
