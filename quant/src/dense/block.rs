//! One block of sums: 32 rows times 32 columns over some blocks of 32 terms.

use super::{DenseLevel, Line, tiles::widen};
use crate::kernels::Level;

/// Rows, columns and terms of a block.
pub const BLOCK: usize = 32;

/// Pairs of terms in a block.
pub(super) const PAIRS: usize = BLOCK / 2;

/// Sums of one block, row-major.
#[repr(C, align(64))]
#[derive(Debug, Clone, Copy)]
pub struct Block(pub [f32; BLOCK * BLOCK]);

impl Block {
    /// Zeros.
    pub const ZERO: Block = Block([0.0; BLOCK * BLOCK]);
}

/// `c = a · b`, or `c + a · b` where `add`. `a` holds blocks of [`super::Tiles`] (32 lines each: a row of
/// terms a line); `b` holds as many panel blocks: lines `0..16` the pairs of terms of columns 0..16,
/// lines `16..32` those of the other columns.
///
/// # Safety
/// Where `level` is AMX, tile registers of this thread are set up.
#[inline]
pub(super) unsafe fn multiply(level: DenseLevel, a: &[Line], b: &[Line], add: bool, c: &mut Block) {
    debug_assert!(a.len() == b.len() && a.len().is_multiple_of(BLOCK));
    match level {
        DenseLevel::Amx => {
            let steps = a.len() / BLOCK;
            // SAFETY: as many blocks follow each pointer; set-up is the caller's promise.
            unsafe { super::amx::multiply(a.as_ptr(), b.as_ptr(), steps, add, c) }
        }
        DenseLevel::Vector(level) => vector(level, a, b, add, c),
    }
}

fn vector(level: Level, a: &[Line], b: &[Line], add: bool, c: &mut Block) {
    if !add {
        *c = Block::ZERO;
    }
    for (a, b) in a.chunks_exact(BLOCK).zip(b.chunks_exact(BLOCK)) {
        step(level, a, b, c);
    }
}

crate::kernels::for_each_level! {
    /// Adds 32 terms.
    fn step(a: &[Line], b: &[Line], c: &mut Block) = step_body
}

/// Columns at a time: two registers of AVX-512 in each of two chains.
const WIDTH: usize = 16;

/// Rows at a time.
const ROWS: usize = 8;

#[inline(always)]
fn step_body(a: &[Line], b: &[Line], c: &mut Block) {
    let a: &[Line; BLOCK] = a.try_into().expect("invariant: a block has 32 lines");
    let b: &[Line; BLOCK] = b.try_into().expect("invariant: a block has 32 lines");
    // Widened once, because 32 rows read it.
    let mut wide = [[[0.0f32; WIDTH]; BLOCK]; 2];
    for (half, wide) in wide.iter_mut().enumerate() {
        for p in 0..PAIRS {
            for l in 0..WIDTH {
                wide[2 * p][l] = widen(b[half * PAIRS + p].0[2 * l]);
                wide[2 * p + 1][l] = widen(b[half * PAIRS + p].0[2 * l + 1]);
            }
        }
    }
    for first in (0..BLOCK).step_by(ROWS) {
        let mut rows = [[0.0f32; BLOCK]; ROWS];
        for (row, line) in rows.iter_mut().zip(&a[first..first + ROWS]) {
            for (value, bits) in row.iter_mut().zip(&line.0) {
                *value = widen(*bits);
            }
        }
        for (half, wide) in wide.iter().enumerate() {
            let mut even = [[0.0f32; WIDTH]; ROWS];
            let mut odd = [[0.0f32; WIDTH]; ROWS];
            for p in 0..PAIRS {
                for r in 0..ROWS {
                    let (x, y) = (rows[r][2 * p], rows[r][2 * p + 1]);
                    for l in 0..WIDTH {
                        even[r][l] = x.mul_add(wide[2 * p][l], even[r][l]);
                        odd[r][l] = y.mul_add(wide[2 * p + 1][l], odd[r][l]);
                    }
                }
            }
            for r in 0..ROWS {
                let at = (first + r) * BLOCK + half * WIDTH;
                for l in 0..WIDTH {
                    c.0[at + l] += even[r][l] + odd[r][l];
                }
            }
        }
    }
}
