//! The input rounded to integers, in the order in which kernels read it.
//!
//! Blocks of 16 rows, the last one as high as it has rows. In a block: plane after plane, in a plane
//! slice after slice, in a slice row after row, 64 bytes each, which is an AMX tile.
//!
//! A value is about `scale · (high + low / 256)`, where `high`, the first plane, is the nearest of
//! -127..=127, and `low`, the second one, what is left, in -127..=127 too.

#[cfg(target_arch = "x86_64")]
mod avx512;

use std::cell::Cell;

use super::{MAX_GROUP, MAX_SLICES, PackedLevel, SLICE, SUB};
use crate::{
    kernels::{Level, for_each_level},
    pool,
};

/// Rows of a block.
pub(super) const BLOCK: usize = 16;

/// From so many values on, a second thread pays.
const PARALLEL_FROM: usize = 1 << 16;

/// Groups whose largest value is below this are zeros: their reciprocal would overflow.
const SMALLEST: f32 = 1e-30;

/// 1.5 · 2²³: adding it rounds to the nearest even integer and leaves that in the low bits.
const ROUND: f32 = 12_582_912.0;

/// Lines in one small page of memory.
const PAGE_LINES: usize = 64;

/// Lines that start on a small page. Where the input starts matters to AMX: a load whose place in
/// its page is that of a store still on its way waits for it.
#[repr(C, align(4096))]
#[derive(Clone)]
struct Page([Line; PAGE_LINES]);

/// 64 values of one row in one plane.
#[repr(C, align(64))]
#[derive(Clone, Copy)]
pub(super) struct Line(pub(super) [i8; SLICE]);

/// 64 values of one row in 16 bits: `256 · high + low`.
#[repr(C, align(64))]
#[derive(Clone, Copy)]
pub(super) struct WideLine(pub(super) [i16; SLICE]);

/// Negative sums of 16 values of the first plane each, for the zeros of q4, in the order 0, 2, 1,
/// 3: two pairs, one above the other, as VNNI multiplies them.
pub(super) type NegativeSums = [i16; SLICE / SUB];

/// Rounded rows.
pub(super) struct Activations {
    pub(super) rows: usize,
    pub(super) slices: usize,
    pub(super) groups: usize,
    /// One or two.
    pub(super) planes: usize,
    memory: Memory,
}

#[derive(Default)]
struct Memory {
    pages: Vec<Page>,
    scales: Vec<f32>,
    offsets: Vec<i32>,
    negative_sums: Vec<NegativeSums>,
    wide: Vec<WideLine>,
}

thread_local! {
    /// The memory of the last product, because fresh pages cost a fault each. All that is read of
    /// it is written first.
    static SPARE: Cell<Memory> = const {
        Cell::new(Memory {
            pages: Vec::new(),
            scales: Vec::new(),
            offsets: Vec::new(),
            negative_sums: Vec::new(),
            wide: Vec::new(),
        })
    };
}

/// Up to 16 rows.
#[derive(Clone, Copy)]
pub(super) struct Block<'a> {
    /// Number of rows.
    pub(super) height: usize,
    slices: usize,
    /// Planes, slices, rows.
    pub(super) lines: &'a [Line],
    /// Groups, rows.
    pub(super) scales: &'a [f32],
    /// Slices, rows: what reading q8 weights as unsigned adds to a dot product, undone.
    pub(super) offsets: &'a [i32],
    /// Slices, rows.
    pub(super) negative_sums: &'a [NegativeSums],
    /// Slices, rows: both planes in one, for kernels that multiply so; else empty.
    pub(super) wide: &'a [WideLine],
}

impl Block<'_> {
    /// One row of one slice.
    #[inline(always)]
    pub(super) fn line(&self, plane: usize, slice: usize, row: usize) -> &Line {
        &self.lines[(plane * self.slices + slice) * self.height + row]
    }

    /// What one in the first plane stands for; 256 in both planes together.
    #[inline(always)]
    pub(super) fn scale(&self, slice: usize, row: usize) -> f32 {
        self.scales_of(slice)[row]
    }

    /// The scales of all rows and those of later groups.
    #[inline(always)]
    pub(super) fn scales_of(&self, slice: usize) -> &[f32] {
        &self.scales[slice / MAX_SLICES * self.height..]
    }
}

impl Activations {
    /// Rounds `x`, rows of `cols` values, to one or two planes.
    pub(super) fn quantize(level: PackedLevel, x: &[f32], cols: usize, planes: usize) -> Self {
        let rows = x.len() / cols;
        let slices = cols.div_ceil(SLICE);
        let groups = slices.div_ceil(MAX_SLICES);
        let mut memory = SPARE.take();
        memory.pages.resize(
            (rows * slices * planes).div_ceil(PAGE_LINES),
            Page([Line([0; SLICE]); PAGE_LINES]),
        );
        memory.scales.resize(rows * groups, 0.0);
        memory.offsets.resize(rows * slices, 0);
        memory.negative_sums.resize(rows * slices, [0; SLICE / SUB]);
        let wide = planes == 2 && level == PackedLevel::Avx2;
        memory.wide.resize(if wide { rows * slices } else { 0 }, WideLine([0; SLICE]));
        let wide_chunk = if wide { BLOCK * slices } else { 1 };
        let mut wides = memory.wide.chunks_mut(wide_chunk);
        let lines = &mut lines_mut(&mut memory.pages)[..rows * slices * planes];
        let parts: Vec<_> = lines
            .chunks_mut(BLOCK * slices * planes)
            .zip(memory.scales.chunks_mut(BLOCK * groups))
            .zip(memory.offsets.chunks_mut(BLOCK * slices))
            .zip(memory.negative_sums.chunks_mut(BLOCK * slices))
            .zip(x.chunks(BLOCK * cols))
            .map(|((((lines, scales), offsets), negative_sums), x)| {
                let wide = wides.next().unwrap_or_default();
                let out = BlockMut { lines, scales, offsets, negative_sums, wide };
                std::sync::Mutex::new((out, x))
            })
            .collect();
        pool::for_each(parts.len(), x.len() >= PARALLEL_FROM, |block| {
            // Each block is taken once, so the lock is never waited for.
            if let Ok(mut part) = parts[block].lock() {
                let (out, x) = &mut *part;
                #[cfg(target_arch = "x86_64")]
                if level.float() == Level::Avx512 && Level::detected() == Level::Avx512 {
                    // SAFETY: the level was detected.
                    unsafe { quantize_block_avx512(x, cols, out) };
                    return;
                }
                quantize_block(level.float(), x, cols, out);
            }
        });
        drop(parts);
        Self { rows, slices, groups, planes, memory }
    }

    /// The block that starts with row `16 · index`.
    pub(super) fn block(&self, index: usize) -> Block<'_> {
        let first = index * BLOCK;
        let height = (self.rows - first).min(BLOCK);
        let (planes, slices, groups) = (self.planes, self.slices, self.groups);
        let lines = lines(&self.memory.pages);
        let wide = &self.memory.wide;
        Block {
            height,
            slices,
            lines: &lines[first * slices * planes..(first + height) * slices * planes],
            scales: &self.memory.scales[first * groups..(first + height) * groups],
            offsets: &self.memory.offsets[first * slices..(first + height) * slices],
            negative_sums: &self.memory.negative_sums[first * slices..(first + height) * slices],
            wide: if wide.is_empty() {
                wide
            } else {
                &wide[first * slices..(first + height) * slices]
            },
        }
    }

    /// Number of blocks.
    pub(super) fn blocks(&self) -> usize {
        self.rows.div_ceil(BLOCK)
    }
}

impl Drop for Activations {
    fn drop(&mut self) {
        SPARE.set(std::mem::take(&mut self.memory));
    }
}

fn lines(pages: &[Page]) -> &[Line] {
    // SAFETY: a page is an array of lines without padding.
    unsafe { std::slice::from_raw_parts(pages.as_ptr().cast(), pages.len() * PAGE_LINES) }
}

fn lines_mut(pages: &mut [Page]) -> &mut [Line] {
    // SAFETY: a page is an array of lines without padding.
    unsafe { std::slice::from_raw_parts_mut(pages.as_mut_ptr().cast(), pages.len() * PAGE_LINES) }
}

/// The parts of one [`Block`], to be written.
struct BlockMut<'a> {
    lines: &'a mut [Line],
    scales: &'a mut [f32],
    offsets: &'a mut [i32],
    negative_sums: &'a mut [NegativeSums],
    /// Empty where it is not wanted.
    wide: &'a mut [WideLine],
}

for_each_level! {
    fn quantize_block(x: &[f32], cols: usize, out: &mut BlockMut<'_>) = quantize_block_body
}

#[inline(always)]
fn quantize_block_body(x: &[f32], cols: usize, out: &mut BlockMut<'_>) {
    each_slice(x, cols, out, |x, inverse, high, low| {
        let rounded = round_slice(x, inverse);
        *high = rounded.high;
        if let Some(low) = low {
            *low = rounded.low;
        }
        (rounded.negative_sums, rounded.low_sum)
    });
    let (highs, lows) = out.lines.split_at(out.lines.len() / 2);
    for ((wide, high), low) in out.wide.iter_mut().zip(highs).zip(lows) {
        for i in 0..SLICE {
            wide.0[i] = 256 * i16::from(high.0[i]) + i16::from(low.0[i]);
        }
    }
}

/// As [`quantize_block`], with the same bits.
///
/// # Safety
/// AVX-512 F, BW, DQ and VL.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn quantize_block_avx512(x: &[f32], cols: usize, out: &mut BlockMut<'_>) {
    // SAFETY: by the caller's promise.
    each_slice(x, cols, out, |x, inverse, high, low| unsafe {
        avx512::round_slice(x, inverse, high, low)
    });
}

/// Rounds a block by what `round` makes of each slice, its reciprocal scale and its lines.
#[inline(always)]
fn each_slice(
    x: &[f32],
    cols: usize,
    out: &mut BlockMut<'_>,
    round: impl Fn(&[f32; SLICE], f32, &mut Line, Option<&mut Line>) -> (NegativeSums, i32),
) {
    let height = x.len() / cols;
    let slices = cols.div_ceil(SLICE);
    let (highs, lows) = out.lines.split_at_mut(slices * height);
    for (row, x_row) in x.chunks_exact(cols).enumerate() {
        for (group, part) in x_row.chunks(MAX_GROUP).enumerate() {
            let (scale, inverse) = group_scale(part);
            for (i, part) in part.chunks(SLICE).enumerate() {
                let at = (group * MAX_SLICES + i) * height + row;
                let (high, low) = (&mut highs[at], lows.get_mut(at));
                let (negative_sums, low_sum) = match part.try_into() {
                    Ok(values) => round(values, inverse, high, low),
                    Err(_) => {
                        let mut values = [0.0f32; SLICE];
                        values[..part.len()].copy_from_slice(part);
                        round(&values, inverse, high, low)
                    }
                };
                let negative: i32 = negative_sums.iter().map(|&it| i32::from(it)).sum();
                out.offsets[at] = 128 * (256 * negative - low_sum);
                out.negative_sums[at] = negative_sums;
            }
            out.scales[group * height + row] = scale;
        }
    }
}

/// The scale of a group and its reciprocal. A value that is not finite makes the scale not a
/// number, and with it every output of the row.
#[inline(always)]
fn group_scale(x: &[f32]) -> (f32, f32) {
    // Bits of absolute values have the order of the values, those that are not finite at the end;
    // integers, unlike floats, are reduced in whole registers.
    let bits = x.iter().fold(0, |max, it| max.max(it.to_bits() & (u32::MAX >> 1)));
    let max = f32::from_bits(bits);
    if !max.is_finite() {
        (f32::NAN, 0.0)
    } else if max < SMALLEST {
        (0.0, 0.0)
    } else {
        (max / 127.0, 127.0 / max)
    }
}

struct Rounded {
    high: Line,
    low: Line,
    negative_sums: NegativeSums,
    low_sum: i32,
}

/// Ties to even in both planes.
#[inline(always)]
fn round_slice(x: &[f32; SLICE], inverse: f32) -> Rounded {
    let mut high = [0i32; SLICE];
    let mut low = [0i32; SLICE];
    for i in 0..SLICE {
        // What is not finite becomes zero: the scale tells it.
        let value = if inverse == 0.0 { 0.0 } else { x[i] * inverse };
        let shifted = value + ROUND;
        high[i] = shifted.to_bits() as i32 - ROUND.to_bits() as i32;
        let rest = (value - (shifted - ROUND)) * 256.0;
        low[i] = ((rest + ROUND).to_bits() as i32 - ROUND.to_bits() as i32).clamp(-127, 127);
    }
    let mut out = Rounded {
        high: Line([0; SLICE]),
        low: Line([0; SLICE]),
        negative_sums: [0; SLICE / SUB],
        low_sum: low.iter().sum(),
    };
    for i in 0..SLICE {
        out.high.0[i] = high[i] as i8;
        out.low.0[i] = low[i] as i8;
    }
    let parts = high.as_chunks::<SUB>().0;
    let sums: [i32; SLICE / SUB] = std::array::from_fn(|i| parts[i].iter().sum());
    out.negative_sums = [sums[0], sums[2], sums[1], sums[3]].map(|it| -it as i16);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_sums_and_places_fit() {
        let (rows, cols) = (19, 330);
        let x: Vec<f32> =
            (0..rows * cols).map(|i| ((i * 7919) % 1001) as f32 / 500.0 - 1.0).collect();
        for (level, planes) in
            PackedLevel::available().into_iter().flat_map(|it| [(it, 1), (it, 2)])
        {
            let got = Activations::quantize(level, &x, cols, planes);
            for row in 0..rows {
                let (block, inside) = (got.block(row / BLOCK), row % BLOCK);
                for slice in 0..6 {
                    let scale = block.scale(slice, inside);
                    let high = block.line(0, slice, inside).0;
                    let low = if planes == 2 { block.line(1, slice, inside).0 } else { [0; 64] };
                    for i in 0..SLICE {
                        let column = slice * SLICE + i;
                        let want = if column < cols { x[row * cols + column] } else { 0.0 };
                        let got = (f32::from(high[i]) + f32::from(low[i]) / 256.0) * scale;
                        // Half a step; in two planes a tie of the first one costs a whole step.
                        let step = if planes == 2 { 1.001 / 256.0 } else { 0.501 };
                        assert!((got - want).abs() <= step * scale, "{row} {column}");
                    }
                    let sums: Vec<i16> =
                        high.chunks(16).map(|it| it.iter().map(|&q| i16::from(q)).sum()).collect();
                    let negative = block.negative_sums[slice * block.height + inside];
                    assert_eq!(negative, [-sums[0], -sums[2], -sums[1], -sums[3]]);
                    let both = |i| 256 * i32::from(high[i]) + i32::from(low[i]);
                    if planes == 2 {
                        let offset = -128 * (0..SLICE).map(both).sum::<i32>();
                        assert_eq!(block.offsets[slice * block.height + inside], offset);
                    }
                }
            }
        }
    }

    #[test]
    fn extremes_stay_in_range() {
        for max in [0.0, 1e-42, 1e-31, 1e-30, 3.0, f32::MAX] {
            let mut x = [0.0; SLICE];
            (x[0], x[1], x[2]) = (max, -max, max * (0.5 / 127.0));
            let (scale, inverse) = group_scale(&x);
            assert!(scale.is_finite());
            let got = round_slice(&x, inverse);
            let q = if max < SMALLEST { 0 } else { 127 };
            assert_eq!((got.high.0[0], got.high.0[1]), (q, -q), "{max}");
            assert!(got.low.0.iter().all(|&it| it >= -127));
        }
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut x = [1.0; SLICE];
            x[33] = bad;
            let (scale, inverse) = group_scale(&x);
            assert!(scale.is_nan());
            assert_eq!(round_slice(&x, inverse).high.0, [0; SLICE]);
        }
    }
}
