//! A matrix of bfloat16 in blocks of 32 x 32: the left operand of every product.

use std::ops::Range;

use super::BLOCK;
use crate::{kernels::Level, pool};

/// Values from which on a second thread pays.
const PARALLEL_FROM: usize = 1 << 16;

/// 32 values of one row, on a cache line of their own.
#[repr(C, align(64))]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line(pub [u16; BLOCK]);

impl Line {
    /// Zeros.
    pub const ZERO: Line = Line([0; BLOCK]);
}

/// A `[rows, cols]` matrix of bfloat16, padded with zeros to whole blocks. Blocks of 32 rows follow
/// each other; in one, blocks of 32 columns; in one of those, 32 [`Line`]s.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tiles {
    rows: usize,
    col_blocks: usize,
    lines: Vec<Line>,
}

impl Tiles {
    /// Zeros in `rows` rows and `col_blocks` blocks of 32 columns.
    pub fn zeros(rows: usize, col_blocks: usize) -> Self {
        let lines = vec![Line::ZERO; rows.div_ceil(BLOCK) * col_blocks * BLOCK];
        Self { rows, col_blocks, lines }
    }

    /// Another shape in the same memory. What blocks hold is not defined until they are written.
    pub fn reshape(&mut self, rows: usize, col_blocks: usize) {
        self.lines.resize(rows.div_ceil(BLOCK) * col_blocks * BLOCK, Line::ZERO);
        (self.rows, self.col_blocks) = (rows, col_blocks);
    }

    /// The row-major `values` of rows of `cols` columns, rounded.
    ///
    /// # Panics
    /// Where the length does not fit: a caller's mistake.
    pub fn from_rows(level: Level, values: &[f32], cols: usize) -> Self {
        let mut tiles = Self::zeros(values.len() / cols, cols.div_ceil(BLOCK));
        tiles.set_columns(level, 0, values, cols);
        tiles
    }

    /// [`Tiles::from_rows`] on the calling thread alone, for use inside of a parallel loop.
    pub(super) fn from_rows_here(level: Level, values: &[f32], cols: usize) -> Self {
        let mut tiles = Self::zeros(values.len() / cols, cols.div_ceil(BLOCK));
        for (row, values) in values.chunks_exact(cols).enumerate() {
            for (c, part) in values.chunks(BLOCK).enumerate() {
                let line = &mut tiles.block_mut(row / BLOCK, c)[row % BLOCK];
                round_into(level, part, &mut line.0[..part.len()]);
            }
        }
        tiles
    }

    /// Writes row-major `values` of `cols` columns from block column `first` on.
    ///
    /// # Panics
    /// Where the shapes do not fit: a caller's mistake.
    pub fn set_columns(&mut self, level: Level, first: usize, values: &[f32], cols: usize) {
        assert_eq!(values.len(), self.rows * cols, "row lengths");
        assert!(first + cols.div_ceil(BLOCK) <= self.col_blocks, "columns");
        self.fill_rows(first, cols.div_ceil(BLOCK), |row, out| {
            let values = &values[row * cols..(row + 1) * cols];
            for (part, line) in values.chunks(BLOCK).zip(out.iter_mut()) {
                round_into(level, part, &mut line[..part.len()]);
                line[part.len()..].fill(0);
            }
        });
    }

    /// Fills `count` block columns from `first` on, a row at a time, in parallel: `fill` gets the
    /// row's index and its blocks. Rows of padding become zeros.
    pub fn fill_rows(
        &mut self,
        first: usize,
        count: usize,
        fill: impl Fn(usize, &mut [[u16; BLOCK]]) + Sync,
    ) {
        let (rows, col_blocks) = (self.rows, self.col_blocks);
        let worth_it = rows * count * BLOCK >= PARALLEL_FROM;
        if col_blocks == 0 {
            return;
        }
        pool::for_each_chunk(&mut self.lines, col_blocks * BLOCK, worth_it, |block, lines| {
            let mut values = vec![[0; BLOCK]; count];
            for r in 0..BLOCK {
                let row = block * BLOCK + r;
                if row < rows {
                    fill(row, &mut values);
                } else {
                    values.fill([0; BLOCK]);
                }
                for (c, part) in values.iter().enumerate() {
                    lines[(first + c) * BLOCK + r].0 = *part;
                }
            }
        });
    }

    /// Copies all columns of `other`, which has as many rows, to block column `first` and on.
    ///
    /// # Panics
    /// Where the shapes do not fit: a caller's mistake.
    pub fn copy_columns(&mut self, first: usize, other: &Tiles) {
        assert!(self.rows == other.rows && first + other.col_blocks <= self.col_blocks, "shapes");
        let width = other.col_blocks * BLOCK;
        let own = self.col_blocks * BLOCK;
        if width == 0 {
            return;
        }
        for (to, from) in self.lines.chunks_mut(own).zip(other.lines.chunks(width)) {
            to[first * BLOCK..first * BLOCK + width].copy_from_slice(from);
        }
    }

    /// Number of rows, without padding.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Blocks of rows.
    pub fn row_blocks(&self) -> usize {
        self.rows.div_ceil(BLOCK)
    }

    /// Blocks of columns.
    pub fn col_blocks(&self) -> usize {
        self.col_blocks
    }

    /// Bytes in memory.
    pub fn byte_len(&self) -> usize {
        size_of_val(&self.lines[..])
    }

    /// One block, 32 lines.
    pub fn block(&self, row_block: usize, col_block: usize) -> &[Line] {
        &self.lines[self.place(row_block, col_block)]
    }

    /// One block, 32 lines, to be written.
    pub fn block_mut(&mut self, row_block: usize, col_block: usize) -> &mut [Line] {
        let place = self.place(row_block, col_block);
        &mut self.lines[place]
    }

    /// All blocks of a block row.
    pub(crate) fn row_of_blocks(&self, row_block: usize) -> &[Line] {
        let width = self.col_blocks * BLOCK;
        &self.lines[row_block * width..(row_block + 1) * width]
    }

    /// Blocks that several threads write.
    pub(super) fn shared(&mut self) -> SharedTiles {
        SharedTiles { lines: pool::Shared::new(&mut self.lines), col_blocks: self.col_blocks }
    }

    fn place(&self, row_block: usize, col_block: usize) -> Range<usize> {
        assert!(col_block < self.col_blocks, "block column");
        let start = (row_block * self.col_blocks + col_block) * BLOCK;
        start..start + BLOCK
    }

    /// One value, as float32.
    pub fn value(&self, row: usize, col: usize) -> f32 {
        let line = &self.block(row / BLOCK, col / BLOCK)[row % BLOCK];
        f32::from_bits(u32::from(line.0[col % BLOCK]) << 16)
    }
}

/// Blocks that several threads write, each its own.
pub(super) struct SharedTiles {
    lines: pool::Shared<Line>,
    col_blocks: usize,
}

impl SharedTiles {
    /// The block at `(row block, block column)`.
    ///
    /// # Safety
    /// It lies inside, and nobody else touches it while the slice lives.
    #[allow(clippy::mut_from_ref)]
    pub(super) unsafe fn block(&self, (row, col): (usize, usize)) -> &mut [Line] {
        debug_assert!(col < self.col_blocks);
        // SAFETY: by the caller's promise.
        unsafe { self.lines.slice((row * self.col_blocks + col) * BLOCK, BLOCK) }
    }
}

crate::kernels::for_each_level! {
    /// Rounds to bfloat16, to nearest even. Both slices have one length.
    pub fn round_into(values: &[f32], out: &mut [u16]) = round_body
}

#[inline(always)]
fn round_body(values: &[f32], out: &mut [u16]) {
    for (value, out) in values.iter().zip(out) {
        *out = round(*value);
    }
}

/// Rounds to nearest even. What is not a number stays so, because its highest mantissa bit is set.
#[inline(always)]
pub(crate) fn round(value: f32) -> u16 {
    let bits = value.to_bits();
    let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16;
    let nan = bits >> 16 | 0x40;
    (if value.is_nan() { nan } else { rounded }) as u16
}

/// The float32 that a bfloat16 stands for.
#[inline(always)]
pub(crate) fn widen(value: u16) -> f32 {
    f32::from_bits(u32::from(value) << 16)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn rounding_is_that_of_the_half_crate() {
        let mut bits = 1u32;
        for _ in 0..100_000 {
            bits = bits.wrapping_mul(0x9E37_79B1).wrapping_add(12_345);
            let value = f32::from_bits(bits);
            let (got, want) = (round(value), half::bf16::from_f32(value));
            assert!(got == want.to_bits() || value.is_nan() && widen(got).is_nan(), "{value}");
        }
        assert!(widen(round(f32::NAN)).is_nan());
    }

    #[test]
    fn blocks_hold_the_rows_and_zeros_around_them() {
        let values: Vec<f32> = (0..35 * 40).map(|i| (i % 100) as f32).collect();
        let mut tiles = Tiles::zeros(35, 3);
        tiles.set_columns(Level::detected(), 1, &values, 40);
        for row in 0..64 {
            for col in 0..96 {
                let inside = row < 35 && (32..72).contains(&col);
                let want = if inside { values[row * 40 + col - 32] } else { 0.0 };
                assert_eq!(tiles.value(row, col), want, "{row} {col}");
            }
        }
    }
}
