//! The reference: the order of arithmetic, spelled out.

use std::ops::Range;

use super::{GROUP, WIDTH, activations::Activations, layout::Tile};

/// `sums[i]` = row `rows.start + i` of `x` times the 16 outputs of the tile.
pub(super) fn rows(
    tile: &Tile<'_>,
    x: &Activations,
    rows: Range<usize>,
    sums: &mut [[f32; WIDTH]],
) {
    sums[..rows.len()].fill([0.0; WIDTH]);
    let mut weights = [[0i32; WIDTH]; GROUP];
    for group in 0..tile.groups {
        for (column, weights) in weights.iter_mut().enumerate() {
            for (output, weight) in weights.iter_mut().enumerate() {
                *weight = tile.integer(group, output, column);
            }
        }
        let scales: [f32; WIDTH] = std::array::from_fn(|output| tile.scale(group, output));
        for (row, sums) in rows.clone().zip(sums.iter_mut()) {
            let at = x.row_at(row);
            let entry = at.start + group * at.stride;
            let mut dot = [0i32; WIDTH];
            for (&q, weights) in x.lines()[entry].0.iter().zip(&weights) {
                for l in 0..WIDTH {
                    dot[l] += i32::from(q) * weights[l];
                }
            }
            let x_scale = x.row_groups[entry].scale;
            for l in 0..WIDTH {
                sums[l] = (dot[l] as f32 * x_scale).mul_add(scales[l], sums[l]);
            }
        }
    }
}
