//! The gated feed-forward block around its products: the activation and its derivative are computed
//! on finished blocks of sums, and only bfloat16 leaves the first-level cache.

use std::ops::Range;

use super::{
    BLOCK, Block, DenseLevel, Line, Right, Tiles,
    product::product,
    tiles::{round, widen},
};
use crate::kernels::{LANES, for_each_level, vector::exp_lanes};

/// What the backward pass needs of [`gated_forward`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Gated {
    /// `x · w_gateᵀ`
    pub gate: Tiles,
    /// `x · w_upᵀ`
    pub up: Tiles,
}

/// `silu(x · gateᵀ) · (x · upᵀ)` into the first block columns of `act`, which has `left.rows()` rows.
/// `right` holds the panels of gate and up in turn.
///
/// # Panics
/// Where the shapes do not fit: a caller's mistake.
pub fn gated_forward(
    level: DenseLevel,
    left: &Tiles,
    terms: Range<usize>,
    right: &Right<'_>,
    act: &mut Tiles,
) -> Gated {
    let blocks = right.panels() / 2;
    assert!(act.rows() == left.rows() && act.col_blocks() >= blocks, "shapes");
    let mut kept =
        Gated { gate: Tiles::zeros(left.rows(), blocks), up: Tiles::zeros(left.rows(), blocks) };
    let (gate, up, act) = (kept.gate.shared(), kept.up.shared(), act.shared());
    product(level, left, terms, right, 2, |it| {
        let [gate_sums, up_sums] = it.sums else {
            unreachable!("invariant: two panels finish together");
        };
        let place = (it.row_block, it.panel / 2);
        // SAFETY: each block is finished once.
        let lines = unsafe { [gate.block(place), up.block(place), act.block(place)] };
        activate(level.float(), gate_sums, up_sums, lines);
    });
    kept
}

/// The slopes by gate and up (block columns `0..n` and `n..2n` of `slopes`), given the left operand
/// whose product with `right` is the slope by the activation; and the activation itself again, into
/// `act`.
///
/// # Panics
/// Where the shapes do not fit: a caller's mistake.
pub fn gated_backward(
    level: DenseLevel,
    left: &Tiles,
    right: &Right<'_>,
    kept: &Gated,
    act: &mut Tiles,
    slopes: &mut Tiles,
) {
    let blocks = kept.gate.col_blocks();
    assert!(slopes.rows() == left.rows() && slopes.col_blocks() >= 2 * blocks, "shapes");
    assert!(act.rows() == left.rows() && act.col_blocks() >= blocks, "shapes");
    assert!(right.panels() == blocks && kept.gate.rows() == left.rows(), "shapes");
    let (act, slopes) = (act.shared(), slopes.shared());
    product(level, left, 0..left.col_blocks(), right, 1, |it| {
        let (row, col) = (it.row_block, it.panel);
        // SAFETY: each block is finished once.
        let lines = unsafe {
            [act.block((row, col)), slopes.block((row, col)), slopes.block((row, blocks + col))]
        };
        let kept = [kept.gate.block(row, col), kept.up.block(row, col)];
        differentiate(level.float(), &it.sums[0], kept, lines);
    });
}

for_each_level! {
    /// Gate, up and activation of a block.
    fn activate(gate: &Block, up: &Block, lines: [&mut [Line]; 3]) = activate_body
}

#[inline(always)]
fn activate_body(gate: &Block, up: &Block, lines: [&mut [Line]; 3]) {
    let [gate_lines, up_lines, act_lines] = lines;
    for r in 0..BLOCK {
        for half in [0, LANES] {
            let mut negative = [0.0; LANES];
            for l in 0..LANES {
                negative[l] = -gate.0[r * BLOCK + half + l];
            }
            let e = exp_lanes(negative);
            for l in 0..LANES {
                let (g, u) = (gate.0[r * BLOCK + half + l], up.0[r * BLOCK + half + l]);
                gate_lines[r].0[half + l] = round(g);
                up_lines[r].0[half + l] = round(u);
                act_lines[r].0[half + l] = round(g / (1.0 + e[l]) * u);
            }
        }
    }
}

for_each_level! {
    /// With `s = sigmoid(gate)`: activation `gate · s · up` and slopes
    /// `g · up · s · (1 + gate · (1 - s))`, `g · gate · s`.
    fn differentiate(slope: &Block, kept: [&[Line]; 2], lines: [&mut [Line]; 3])
        = differentiate_body
}

#[inline(always)]
fn differentiate_body(slope: &Block, kept: [&[Line]; 2], lines: [&mut [Line]; 3]) {
    let [gate, up] = kept;
    let [act_lines, gate_lines, up_lines] = lines;
    for r in 0..BLOCK {
        for half in [0, LANES] {
            let mut negative = [0.0; LANES];
            for l in 0..LANES {
                negative[l] = -widen(gate[r].0[half + l]);
            }
            let e = exp_lanes(negative);
            for l in 0..LANES {
                let (g, u) = (-negative[l], widen(up[r].0[half + l]));
                let d = slope.0[r * BLOCK + half + l];
                let s = 1.0 / (1.0 + e[l]);
                let silu = g * s;
                act_lines[r].0[half + l] = round(silu * u);
                gate_lines[r].0[half + l] = round(d * u * s * (1.0 + g - silu));
                up_lines[r].0[half + l] = round(d * silu);
            }
        }
    }
}
