//! The reference: the order of arithmetic, spelled out.

use std::ops::Range;

use super::{SLICE, WIDTH, activations::Block, layout::Tile};

/// `sums[i]` = row `rows.start + i` of the block times the 16 outputs of the tile.
pub(super) fn rows(tile: &Tile<'_>, x: &Block<'_>, rows: Range<usize>, sums: &mut [[f32; WIDTH]]) {
    sums[..rows.len()].fill([0.0; WIDTH]);
    for group in 0..tile.groups {
        let scales: [f32; WIDTH] = std::array::from_fn(|output| tile.scale(group, output));
        let mut dots = [[0i32; WIDTH]; super::activations::BLOCK];
        for slice in tile.slices_of(group) {
            let mut weights = [[0i32; WIDTH]; SLICE];
            for (column, weights) in weights.iter_mut().enumerate() {
                for (output, weight) in weights.iter_mut().enumerate() {
                    *weight = tile.integer(slice, output, column);
                }
            }
            for (row, dot) in rows.clone().zip(&mut dots) {
                for (column, weights) in weights.iter().enumerate() {
                    let q = match tile.kind.planes() {
                        1 => i32::from(x.line(0, slice, row).0[column]),
                        _ => {
                            i32::from(x.line(0, slice, row).0[column]) * 256
                                + i32::from(x.line(1, slice, row).0[column])
                        }
                    };
                    for l in 0..WIDTH {
                        dot[l] += q * weights[l];
                    }
                }
            }
        }
        for ((row, dot), sums) in rows.clone().zip(&dots).zip(sums.iter_mut()) {
            let x_scale = x.scale(tile.slices_of(group).start, row);
            for l in 0..WIDTH {
                sums[l] = (dot[l] as f32 * x_scale).mul_add(scales[l], sums[l]);
            }
        }
    }
}
