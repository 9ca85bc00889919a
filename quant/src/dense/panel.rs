//! Bringing 32 x 32 values into the order of a right operand: pairs of terms beside each other.

use super::{BLOCK, Line, block::PAIRS};
use crate::kernels::Level;

/// Rows of 32 or more values: `rows[r]` begins at `r * stride`.
#[derive(Clone, Copy)]
pub(super) struct Band<'a> {
    pub(super) values: &'a [u16],
    pub(super) stride: usize,
}

impl Band<'_> {
    /// Whether 32 rows of 32 values lie in it from column `first` on.
    fn holds(&self, first: usize) -> bool {
        first + BLOCK <= self.stride && self.values.len() >= BLOCK * self.stride
    }
}

/// Each row of `band` becomes a column; terms run along rows: for `x · wᵀ`.
pub(super) fn rows_to_columns(level: Level, band: Band<'_>, first: usize, out: &mut [Line]) {
    assert!(band.holds(first) && out.len() == BLOCK, "one block");
    #[cfg(target_arch = "x86_64")]
    if level.min(Level::detected()) == Level::Avx512 {
        // SAFETY: the level is there, and one block lies in both slices.
        return unsafe { x86::rows_to_columns(band.values[first..].as_ptr(), band.stride, out) };
    }
    let _ = level;
    for (i, line) in out.iter_mut().enumerate() {
        let (half, pair) = (i / PAIRS, i % PAIRS);
        for j in 0..PAIRS {
            let at = (half * PAIRS + j) * band.stride + first + 2 * pair;
            line.0[2 * j] = band.values[at];
            line.0[2 * j + 1] = band.values[at + 1];
        }
    }
}

/// Columns stay columns; terms run along columns: for `g · w` and for sums over rows.
pub(super) fn zip_rows(level: Level, band: Band<'_>, first: usize, out: &mut [Line]) {
    assert!(band.holds(first) && out.len() == BLOCK, "one block");
    #[cfg(target_arch = "x86_64")]
    if level.min(Level::detected()) == Level::Avx512 {
        // SAFETY: the level is there, and one block lies in both slices.
        return unsafe { x86::zip_rows(band.values[first..].as_ptr(), band.stride, out) };
    }
    let _ = level;
    for (i, line) in out.iter_mut().enumerate() {
        let (half, pair) = (i / PAIRS, i % PAIRS);
        for j in 0..PAIRS {
            let at = 2 * pair * band.stride + first + half * PAIRS + j;
            line.0[2 * j] = band.values[at];
            line.0[2 * j + 1] = band.values[at + band.stride];
        }
    }
}

/// A block of lines as a band.
pub(super) fn band_of(lines: &[Line]) -> Band<'_> {
    // SAFETY: a line is 32 values without padding.
    let values = unsafe { std::slice::from_raw_parts(lines.as_ptr().cast(), lines.len() * BLOCK) };
    Band { values, stride: BLOCK }
}

/// The transpose of a block.
pub(super) fn transpose(block: &[Line], out: &mut [Line]) {
    assert!(block.len() == BLOCK && out.len() == BLOCK, "one block");
    for (i, line) in out.iter_mut().enumerate() {
        for (value, from) in line.0.iter_mut().zip(block) {
            *value = from.0[i];
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{BLOCK, Line, PAIRS};

    /// A transpose of 16 x 16 pairs, by quarters: loads spread four rows over the lanes of a
    /// register, so that only two rounds of shuffles inside of lanes are left.
    ///
    /// # Safety
    /// AVX-512; 32 rows of 32 values, `stride` apart, follow `from`; `out` holds 32 lines.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    pub(super) unsafe fn rows_to_columns(from: *const u16, stride: usize, out: &mut [Line]) {
        // SAFETY: by the caller's promise.
        unsafe {
            for half in 0..2 {
                let from = from.add(half * PAIRS * stride);
                for quarter in 0..4 {
                    let chunk =
                        |row: usize| _mm_loadu_si128(from.add(row * stride + 8 * quarter).cast());
                    let spread = |j: usize| {
                        let r = _mm512_castsi128_si512(chunk(j));
                        let r = _mm512_mask_broadcast_i32x4(r, 0x00f0, chunk(4 + j));
                        let r = _mm512_mask_broadcast_i32x4(r, 0x0f00, chunk(8 + j));
                        _mm512_mask_broadcast_i32x4(r, 0xf000, chunk(12 + j))
                    };
                    let (a, b, c, d) = (spread(0), spread(1), spread(2), spread(3));
                    let (ab, cd) = (_mm512_unpacklo_epi32(a, b), _mm512_unpacklo_epi32(c, d));
                    let (ef, gh) = (_mm512_unpackhi_epi32(a, b), _mm512_unpackhi_epi32(c, d));
                    let lines = out.as_mut_ptr().add(half * PAIRS + 4 * quarter);
                    let put = |i: usize, value| _mm512_store_si512(lines.add(i).cast(), value);
                    put(0, _mm512_unpacklo_epi64(ab, cd));
                    put(1, _mm512_unpackhi_epi64(ab, cd));
                    put(2, _mm512_unpacklo_epi64(ef, gh));
                    put(3, _mm512_unpackhi_epi64(ef, gh));
                }
            }
        }
    }

    /// # Safety
    /// As [`rows_to_columns`].
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    pub(super) unsafe fn zip_rows(from: *const u16, stride: usize, out: &mut [Line]) {
        const LOW: [u16; BLOCK] = zipped(0);
        const HIGH: [u16; BLOCK] = zipped(16);
        // SAFETY: by the caller's promise.
        unsafe {
            let low = _mm512_loadu_si512(LOW.as_ptr().cast());
            let high = _mm512_loadu_si512(HIGH.as_ptr().cast());
            for pair in 0..PAIRS {
                let even = _mm512_loadu_si512(from.add(2 * pair * stride).cast());
                let odd = _mm512_loadu_si512(from.add((2 * pair + 1) * stride).cast());
                let lines = out.as_mut_ptr().add(pair);
                let zip = |index| _mm512_permutex2var_epi16(even, index, odd);
                _mm512_store_si512(lines.cast(), zip(low));
                _mm512_store_si512(lines.add(PAIRS).cast(), zip(high));
            }
        }
    }

    /// Indices of `first`, `first + 32`, `first + 1`, ...
    const fn zipped(first: u16) -> [u16; BLOCK] {
        let mut index = [0; BLOCK];
        let mut i = 0;
        while i < BLOCK {
            index[i] = first + (i as u16) / 2 + 32 * (i as u16 % 2);
            i += 1;
        }
        index
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_level_moves_values_alike() {
        let stride = 40;
        let values: Vec<u16> = (0..BLOCK * stride).map(|i| i as u16).collect();
        let band = Band { values: &values, stride };
        for level in Level::available() {
            for first in [0, 5, 8] {
                let at = |row: usize, col: usize| values[row * stride + first + col];
                let (mut a, mut b) = ([Line::ZERO; BLOCK], [Line::ZERO; BLOCK]);
                rows_to_columns(level, band, first, &mut a);
                zip_rows(level, band, first, &mut b);
                for (term, col) in (0..BLOCK).flat_map(|t| (0..BLOCK).map(move |c| (t, c))) {
                    let (line, place) = (col / 16 * 16 + term / 2, col % 16 * 2 + term % 2);
                    assert_eq!(a[line].0[place], at(col, term), "{level:?}");
                    assert_eq!(b[line].0[place], at(term, col), "{level:?}");
                }
            }
        }
    }
}
