//! The input rounded to int8, in the order in which kernels read it.
//!
//! Blocks of 16 rows; in a block, group after group; in a group, row after row, 64 bytes each, which
//! is an AMX tile. The last block is as high as it has rows, or filled up with zeros for AMX.

use std::cell::Cell;

use super::{GROUP, PackedLevel, SUB};
use crate::{kernels::for_each_level, pool};

/// Rows of a block.
pub(super) const BLOCK: usize = 16;

/// From so many values on, a second thread pays.
const PARALLEL_FROM: usize = 1 << 16;

/// Groups whose largest value is below this are zeros: their reciprocal would overflow.
const SMALLEST: f32 = 1e-30;

/// 1.5 · 2²³: adding it rounds to the nearest even integer and leaves that in the low bits.
const ROUND: f32 = 12_582_912.0;

/// Groups of a whole block in one small page.
const PAGE_GROUPS: usize = 4;

/// Lines in one small page of memory.
const PAGE_LINES: usize = PAGE_GROUPS * BLOCK;

/// Lines that start on a small page. Where the input starts matters to AMX: a load whose place in
/// its page is that of a store still on its way waits for it.
#[repr(C, align(4096))]
#[derive(Clone)]
struct Page([Line; PAGE_LINES]);

/// 64 values of one row.
#[repr(C, align(64))]
#[derive(Clone, Copy)]
pub(super) struct Line(pub(super) [i8; GROUP]);

/// One row of one group, apart from its values.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct RowGroup {
    pub(super) scale: f32,
    /// -128 times the sum of all 64 values: what reading q8 weights as unsigned adds, undone.
    pub(super) offset: i32,
    /// Negative sums of 16 values each, for the zeros of q4, in the order 0, 2, 1, 3: two pairs,
    /// one above the other, as VNNI multiplies them.
    pub(super) negative_sums: [i16; 4],
}

/// Rounded rows.
pub(super) struct Activations {
    pub(super) rows: usize,
    pub(super) groups: usize,
    /// Whether the last block is as high as the others.
    pub(super) padded: bool,
    /// Entries of a block of 16 rows; where padded, a whole number of pages.
    pub(super) block_entries: usize,
    pages: Vec<Page>,
    pub(super) row_groups: Vec<RowGroup>,
}

thread_local! {
    /// The memory of the last product, because fresh pages cost a fault each. What it still holds
    /// shows only in rows of padding, whose sums nobody reads.
    static SPARE: Cell<(Vec<Page>, Vec<RowGroup>)> = const { Cell::new((Vec::new(), Vec::new())) };
}

/// Where one row lies: entry of group `g` is `start + g * stride`.
#[derive(Clone, Copy)]
pub(super) struct RowAt {
    pub(super) start: usize,
    pub(super) stride: usize,
}

impl Activations {
    /// Rounds `x`, rows of `cols` values; `padded` fills the last block up.
    pub(super) fn quantize(level: PackedLevel, x: &[f32], cols: usize, padded: bool) -> Self {
        let rows = x.len() / cols;
        let groups = cols.div_ceil(GROUP);
        let block_entries =
            BLOCK * if padded { groups.next_multiple_of(PAGE_GROUPS) } else { groups };
        let entries = if padded { rows.div_ceil(BLOCK) * block_entries } else { rows * groups };
        let (mut pages, mut row_groups) = SPARE.take();
        let empty = RowGroup { scale: 0.0, offset: 0, negative_sums: [0; 4] };
        pages.resize(entries.div_ceil(PAGE_LINES), Page([Line([0; GROUP]); PAGE_LINES]));
        row_groups.resize(entries, empty);
        let lines = &mut lines_mut(&mut pages)[..entries];
        let parts: Vec<_> = lines
            .chunks_mut(block_entries)
            .zip(row_groups.chunks_mut(block_entries))
            .zip(x.chunks(BLOCK * cols))
            .map(std::sync::Mutex::new)
            .collect();
        pool::for_each(parts.len(), x.len() >= PARALLEL_FROM, |block| {
            // Each block is taken once, so the lock is never waited for.
            if let Ok(mut part) = parts[block].lock() {
                let ((lines, row_groups), x) = &mut *part;
                let height = if padded { BLOCK } else { x.len() / cols };
                quantize_block(level.float(), x, cols, height, lines, row_groups);
            }
        });
        drop(parts);
        Self { rows, groups, padded, block_entries, pages, row_groups }
    }

    /// The rounded values, one line for each entry.
    pub(super) fn lines(&self) -> &[Line] {
        // SAFETY: a page is an array of lines without padding.
        unsafe {
            std::slice::from_raw_parts(self.pages.as_ptr().cast(), self.pages.len() * PAGE_LINES)
        }
    }

    /// Where row `row` lies.
    pub(super) fn row_at(&self, row: usize) -> RowAt {
        let first = row - row % BLOCK;
        let stride = if self.padded { BLOCK } else { BLOCK.min(self.rows - first) };
        RowAt { start: first / BLOCK * self.block_entries + row - first, stride }
    }

    /// Rows from `row` to `end` or to the end of the block of `row`: one after the other in each
    /// group.
    pub(super) fn rows_in_block(&self, row: usize, end: usize) -> usize {
        end.min(row - row % BLOCK + BLOCK) - row
    }
}

impl Drop for Activations {
    fn drop(&mut self) {
        SPARE.set((std::mem::take(&mut self.pages), std::mem::take(&mut self.row_groups)));
    }
}

fn lines_mut(pages: &mut [Page]) -> &mut [Line] {
    // SAFETY: a page is an array of lines without padding.
    unsafe { std::slice::from_raw_parts_mut(pages.as_mut_ptr().cast(), pages.len() * PAGE_LINES) }
}

for_each_level! {
    fn quantize_block(x: &[f32], cols: usize, height: usize, lines: &mut [Line], row_groups: &mut [RowGroup])
        = quantize_block_body
}

#[inline(always)]
fn quantize_block_body(
    x: &[f32],
    cols: usize,
    height: usize,
    lines: &mut [Line],
    row_groups: &mut [RowGroup],
) {
    for (row, x_row) in x.chunks_exact(cols).enumerate() {
        let (whole, rest) = x_row.as_chunks::<GROUP>();
        for (group, part) in whole.iter().enumerate() {
            let at = group * height + row;
            row_groups[at] = quantize_group(part, &mut lines[at]);
        }
        if !rest.is_empty() {
            let mut values = [0.0f32; GROUP];
            values[..rest.len()].copy_from_slice(rest);
            let at = whole.len() * height + row;
            row_groups[at] = quantize_group(&values, &mut lines[at]);
        }
    }
}

/// `x ≈ scale · q`, `scale = max / 127`, ties to even. A value that is not finite makes the scale
/// not a number, and with it every output of the row.
#[inline(always)]
fn quantize_group(x: &[f32; GROUP], line: &mut Line) -> RowGroup {
    // Bits of absolute values have the order of the values, those that are not finite at the end;
    // integers, unlike floats, are reduced in whole registers.
    let bits = x.iter().fold(0, |max, it| max.max(it.to_bits() & (u32::MAX >> 1)));
    let max = f32::from_bits(bits);
    if !max.is_finite() || max < SMALLEST {
        let scale = if max.is_finite() { 0.0 } else { f32::NAN };
        line.0 = [0; GROUP];
        return RowGroup { scale, offset: 0, negative_sums: [0; 4] };
    }
    let inverse = 127.0 / max;
    let mut integers = [0i32; GROUP];
    for (integer, value) in integers.iter_mut().zip(x) {
        *integer = (value * inverse + ROUND).to_bits() as i32 - ROUND.to_bits() as i32;
    }
    for (out, integer) in line.0.iter_mut().zip(&integers) {
        *out = *integer as i8;
    }
    let parts = integers.as_chunks::<SUB>().0;
    let sums: [i32; GROUP / SUB] = std::array::from_fn(|i| parts[i].iter().sum());
    RowGroup {
        scale: max / 127.0,
        offset: -128 * (sums[0] + sums[1] + sums[2] + sums[3]),
        negative_sums: [sums[0], sums[2], sums[1], sums[3]].map(|it| -it as i16),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_sums_and_places_fit() {
        let (rows, cols) = (19, 130);
        let x: Vec<f32> =
            (0..rows * cols).map(|i| ((i * 7919) % 1001) as f32 / 500.0 - 1.0).collect();
        for (level, padded) in
            PackedLevel::available().into_iter().flat_map(|it| [(it, false), (it, true)])
        {
            let got = Activations::quantize(level, &x, cols, padded);
            for row in 0..rows {
                let at = got.row_at(row);
                for group in 0..3 {
                    let (line, it) = (
                        &got.lines()[at.start + group * at.stride],
                        got.row_groups[at.start + group * at.stride],
                    );
                    for (i, &q) in line.0.iter().enumerate() {
                        let column = group * GROUP + i;
                        let want = if column < cols { x[row * cols + column] } else { 0.0 };
                        let error = (f32::from(q) * it.scale - want).abs();
                        assert!(error <= 0.5001 * it.scale, "{row} {column}");
                    }
                    let sums: Vec<i16> = line
                        .0
                        .chunks(16)
                        .map(|it| it.iter().map(|&q| i16::from(q)).sum())
                        .collect();
                    assert_eq!(it.negative_sums, [-sums[0], -sums[2], -sums[1], -sums[3]]);
                    assert_eq!(it.offset, -128 * sums.iter().map(|&s| i32::from(s)).sum::<i32>());
                }
            }
        }
    }

    #[test]
    fn extremes_stay_in_range() {
        for max in [0.0, 1e-42, 1e-31, 1e-30, 3.0, f32::MAX] {
            let mut line = Line([1; GROUP]);
            let mut x = [0.0; GROUP];
            (x[0], x[1]) = (max, -max);
            let it = quantize_group(&x, &mut line);
            assert!(it.scale.is_finite());
            let q = if max < SMALLEST { 0 } else { 127 };
            assert_eq!((line.0[0], line.0[1]), (q, -q), "{max}");
        }
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut x = [1.0; GROUP];
            x[33] = bad;
            assert!(quantize_group(&x, &mut Line([0; GROUP])).scale.is_nan());
        }
    }
}
