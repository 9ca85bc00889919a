//! The input rounded to integers, for each row and group of 256 columns.

use std::cell::Cell;

use super::{GROUP, SUB, UNIT};
use crate::{
    kernels::{Level, for_each_level},
    pool,
};

/// Groups whose largest value is below this are zeros: their reciprocal would overflow.
const SMALLEST: f32 = 1e-30;

/// 1.5 · 2²³: adding it rounds to the nearest even integer and leaves that in the low bits.
const ROUND: f32 = 12_582_912.0;

/// From so many values on, a second thread pays.
const PARALLEL_FROM: usize = 1 << 16;

/// The order of four columns in memory: even ones, then odd ones, as the weights come out of 16-bit
/// lanes.
const ORDER: [usize; 4] = [0, 2, 1, 3];

/// Rounded rows.
pub(super) struct Input {
    pub(super) rows: usize,
    pub(super) cols: usize,
    groups: usize,
    memory: Memory,
}

#[derive(Default)]
struct Memory {
    /// Rows, columns; each four columns in the order 0, 2, 1, 3.
    integers: Vec<i16>,
    /// Where they are asked for, two planes of rows and columns: the integers are
    /// `256 · high + low`.
    planes: Vec<i8>,
    /// Rows, sub-blocks of 16 columns: the sums of their integers.
    sums: Vec<i32>,
    /// Rows, groups.
    scales: Vec<f32>,
}

thread_local! {
    /// The memory of the last product, because fresh pages cost a fault each. All that is read of
    /// it is written first.
    static SPARE: Cell<Memory> =
        const {
            Cell::new(Memory {
                integers: Vec::new(),
                planes: Vec::new(),
                sums: Vec::new(),
                scales: Vec::new(),
            })
        };
}

impl Input {
    /// Rounds `x`, rows of `cols` values, to integers of at most `limit`, which at most
    /// `127 · 257` may be; `planes`: to bytes as well.
    pub(super) fn round(level: Level, x: &[f32], cols: usize, limit: i32, planes: bool) -> Self {
        let rows = x.len() / cols;
        let groups = cols.div_ceil(GROUP);
        let mut memory = SPARE.take();
        memory.integers.resize(rows * cols, 0);
        memory.planes.resize(if planes { 2 * rows * cols } else { 0 }, 0);
        let (high, low) = memory.planes.split_at_mut(if planes { rows * cols } else { 0 });
        let mut plane_rows = high.chunks_exact_mut(cols).zip(low.chunks_exact_mut(cols));
        memory.sums.resize(rows * (cols / SUB), 0);
        memory.scales.resize(rows * groups, 0.0);
        let parts: Vec<_> = memory
            .integers
            .chunks_exact_mut(cols)
            .zip(memory.sums.chunks_exact_mut(cols / SUB))
            .zip(memory.scales.chunks_exact_mut(groups))
            .zip(x.chunks_exact(cols))
            .map(|(((integers, sums), scales), x)| {
                let planes = plane_rows.next();
                std::sync::Mutex::new((x, RowMut { integers, planes, sums, scales }))
            })
            .collect();
        pool::for_each(parts.len(), x.len() >= PARALLEL_FROM, |row| {
            // Each row is taken once, so the lock is never waited for.
            if let Ok(mut part) = parts[row].lock() {
                let (x, out) = &mut *part;
                round_row(level, x, limit as f32, out);
            }
        });
        drop(parts);
        Self { rows, cols, groups, memory }
    }

    /// The integers of a row from a column on, a multiple of four, in the order of memory.
    #[inline(always)]
    pub(super) fn integers(&self, row: usize, column: usize) -> &[i16] {
        &self.memory.integers[row * self.cols + column..(row + 1) * self.cols]
    }

    /// Whether there are planes of bytes.
    pub(super) fn has_planes(&self) -> bool {
        self.memory.planes.len() == 2 * self.rows * self.cols
    }

    /// The bytes of a row from a column on, as columns go: plane 0 the high ones, 1 the low ones.
    #[inline(always)]
    pub(super) fn plane(&self, plane: usize, row: usize, column: usize) -> &[i8] {
        let start = (plane * self.rows + row) * self.cols;
        &self.memory.planes[start + column..start + self.cols]
    }

    /// The integer of one column.
    pub(super) fn integer(&self, row: usize, column: usize) -> i32 {
        i32::from(self.integers(row, column / 4 * 4)[ORDER[column % 4]])
    }

    /// The sums of 16 integers of a row from a sub-block on.
    #[inline(always)]
    pub(super) fn sums(&self, row: usize, sub: usize) -> &[i32] {
        let subs = self.cols / SUB;
        &self.memory.sums[row * subs + sub..(row + 1) * subs]
    }

    /// The sum of the 32 integers of a unit.
    #[inline(always)]
    pub(super) fn unit_sum(&self, row: usize, unit: usize) -> i32 {
        let sums = self.sums(row, unit * (UNIT / SUB));
        sums[0] + sums[1]
    }

    /// What one stands for in a group of a row.
    #[inline(always)]
    pub(super) fn scale(&self, row: usize, group: usize) -> f32 {
        self.memory.scales[row * self.groups + group]
    }
}

impl Drop for Input {
    fn drop(&mut self) {
        SPARE.set(std::mem::take(&mut self.memory));
    }
}

/// One row, to be written.
struct RowMut<'a> {
    integers: &'a mut [i16],
    planes: Option<(&'a mut [i8], &'a mut [i8])>,
    sums: &'a mut [i32],
    scales: &'a mut [f32],
}

for_each_level! {
    fn round_row(x: &[f32], limit: f32, out: &mut RowMut<'_>) = round_row_body
}

#[inline(always)]
fn round_row_body(x: &[f32], limit: f32, out: &mut RowMut<'_>) {
    for (group, x) in x.chunks(GROUP).enumerate() {
        let (scale, inverse) = group_scale(x, limit);
        out.scales[group] = scale;
        let integers = &mut out.integers[group * GROUP..][..x.len()];
        let sums = &mut out.sums[group * (GROUP / SUB)..][..x.len() / SUB];
        let (x, _) = x.as_chunks::<SUB>();
        let (integers, _) = integers.as_chunks_mut::<SUB>();
        for (sub, ((x, integers), sum)) in x.iter().zip(integers).zip(sums).enumerate() {
            let mut rounded = [0i32; SUB];
            for i in 0..SUB {
                // What is not finite becomes zero: the scale tells it.
                let value = if inverse == 0.0 { 0.0 } else { x[i] * inverse };
                rounded[i] = (value + ROUND).to_bits() as i32 - ROUND.to_bits() as i32;
            }
            *sum = rounded.iter().sum();
            for i in 0..SUB {
                integers[i] = rounded[i / 4 * 4 + ORDER[i % 4]] as i16;
            }
            if let Some((high, low)) = &mut out.planes {
                let start = group * GROUP + sub * SUB;
                let (high, low) = (&mut high[start..start + SUB], &mut low[start..start + SUB]);
                for i in 0..SUB {
                    // The low byte as it stands is -128..=127; the high one makes up for its sign.
                    high[i] = ((rounded[i] + 128) >> 8) as i8;
                    low[i] = rounded[i] as i8;
                }
            }
        }
    }
}

/// The scale of a group and its reciprocal. A value that is not finite makes the scale not a
/// number, and with it every output of the row.
#[inline(always)]
fn group_scale(x: &[f32], limit: f32) -> (f32, f32) {
    // Bits of absolute values have the order of the values, those that are not finite at the end;
    // integers, unlike floats, are reduced in whole registers.
    let bits = x.iter().fold(0, |max, it| max.max(it.to_bits() & (u32::MAX >> 1)));
    let max = f32::from_bits(bits);
    if !max.is_finite() {
        (f32::NAN, 0.0)
    } else if max < SMALLEST {
        (0.0, 0.0)
    } else {
        (max / limit, limit / max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interleaved::kind::{K_LIMIT, PLAIN_LIMIT};

    #[test]
    fn integers_are_the_nearest_and_sums_are_theirs() {
        let (rows, cols) = (3, 544);
        let x: Vec<f32> =
            (0..rows * cols).map(|i| ((i * 7919) % 1001) as f32 / 500.0 - 1.0).collect();
        for level in Level::available() {
            for limit in [K_LIMIT, PLAIN_LIMIT] {
                let got = Input::round(level, &x, cols, limit, true);
                for row in 0..rows {
                    for column in 0..cols {
                        let scale = got.scale(row, column / GROUP);
                        let value = got.integer(row, column) as f32 * scale;
                        let off = (value - x[row * cols + column]).abs();
                        assert!(off <= 0.502 * scale, "{row} {column}: {value}");
                        let byte = |plane| i32::from(got.plane(plane, row, column)[0]);
                        assert_eq!(256 * byte(0) + byte(1), got.integer(row, column));
                    }
                    for unit in 0..cols / UNIT {
                        let columns = unit * UNIT..(unit + 1) * UNIT;
                        let want: i32 = columns.map(|it| got.integer(row, it)).sum();
                        assert_eq!(got.unit_sum(row, unit), want);
                    }
                }
            }
        }
    }

    #[test]
    fn extremes_stay_in_range() {
        for limit in [K_LIMIT, PLAIN_LIMIT] {
            for max in [0.0, 1e-42, 1e-31, 1e-30, 3.0, f32::MAX] {
                let mut x = [0.0; UNIT];
                (x[0], x[1]) = (max, -max);
                let got = Input::round(Level::detected(), &x, UNIT, limit, true);
                assert!(got.scale(0, 0).is_finite());
                let q = if max < SMALLEST { 0 } else { limit };
                assert_eq!((got.integer(0, 0), got.integer(0, 1)), (q, -q), "{max}");
                let byte = |plane, column| i32::from(got.plane(plane, 0, column)[0]);
                assert_eq!(256 * byte(0, 0) + byte(1, 0), q, "{max}");
                assert_eq!(256 * byte(0, 1) + byte(1, 1), -q, "{max}");
            }
            for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                let mut x = [1.0; UNIT];
                x[17] = bad;
                let got = Input::round(Level::detected(), &x, UNIT, limit, true);
                assert!(got.scale(0, 0).is_nan());
                assert!((0..UNIT).all(|it| got.integer(0, it) == 0));
            }
        }
    }
}
