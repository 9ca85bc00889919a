//! Up to eight rows: weights go from memory through registers, four rows at a time.

use std::{arch::x86_64::*, ops::Range};

use super::widen::{floats, integers, quad};
use crate::interleaved::{
    GROUP, LINE, SUB, UNIT, UNITS, WIDTH,
    input::Input,
    kind::{Kind, facts},
    layout::Layout,
    matmul::Output,
};

/// Up to so many rows, widening weights into the cache costs more than it brings.
pub(super) const MOST_ROWS: usize = 8;

/// Rows that share one pass of weights through registers.
const TOGETHER: usize = 4;

/// How far ahead of their use weights are fetched. Prefetching past the end is harmless.
const AHEAD: usize = 2048;

/// All rows of `x`, at most [`MOST_ROWS`], times some tiles.
///
/// # Safety
/// AVX2, FMA and F16C; `bytes` are those of the layout, whose tiles and columns fit.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn tiles<K: Kind>(
    layout: &Layout,
    bytes: &[u8],
    tiles: Range<usize>,
    x: &Input,
    output: &Output<'_>,
) {
    for tile in tiles {
        let tile_bytes = &bytes[layout.tile_at(tile)];
        for first in (0..x.rows).step_by(TOGETHER) {
            let mut sums = [[0.0; WIDTH]; TOGETHER];
            let sums = &mut sums[..TOGETHER.min(x.rows - first)];
            // SAFETY: by the caller's promise; tasks own disjoint ranges of tiles.
            unsafe {
                match sums.len() {
                    1 => rows::<K, 1>(layout, tile_bytes, x, first, sums),
                    2 => rows::<K, 2>(layout, tile_bytes, x, first, sums),
                    3 => rows::<K, 3>(layout, tile_bytes, x, first, sums),
                    _ => rows::<K, TOGETHER>(layout, tile_bytes, x, first, sums),
                }
                for (i, sums) in sums.iter().enumerate() {
                    output.write(first + i, tile, sums);
                }
            }
        }
    }
}

/// # Safety
/// As [`tiles`]; rows `first..first + M` exist, and there are as many sums.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn rows<K: Kind, const M: usize>(
    layout: &Layout,
    tile: &[u8],
    x: &Input,
    first: usize,
    out: &mut [[f32; WIDTH]],
) {
    let mut sums = [[_mm256_setzero_ps(); 2]; M];
    for group in 0..layout.groups {
        let part = &tile[layout.group_range(group)];
        let rows = std::array::from_fn(|row| Row {
            integers: x.integers(first + row, group * GROUP).as_ptr(),
            sums: x.sums(first + row, group * GROUP / SUB).as_ptr(),
        });
        for half in 0..2 {
            // SAFETY: the group has its units in the tile and in the input.
            let t = unsafe { times::<K, M>(part.as_ptr(), layout.units(group), half, &rows) };
            for row in 0..M {
                let scale = _mm256_set1_ps(x.scale(first + row, group));
                sums[row][half] = _mm256_fmadd_ps(t[row], scale, sums[row][half]);
            }
        }
    }
    for (sums, out) in sums.iter().zip(out) {
        // SAFETY: 16 values.
        unsafe {
            _mm256_storeu_ps(out.as_mut_ptr(), sums[0]);
            _mm256_storeu_ps(out.as_mut_ptr().add(8), sums[1]);
        }
    }
}

/// A group of one row.
struct Row {
    integers: *const i16,
    sums: *const i32,
}

/// One group times `M` rows and the outputs of one half, without the scales of the input.
///
/// # Safety
/// As [`rows`]; a group of `units` follows `group`, its integers and sums follow the pointers of the
/// rows.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn times<K: Kind, const M: usize>(
    group: *const u8,
    units: usize,
    half: usize,
    rows: &[Row; M],
) -> [__m256; M] {
    let facts = const { facts(K::FORMAT).expect("invariant: every kind has facts") };
    let mut t = [_mm256_setzero_ps(); M];
    // SAFETY: by the caller's promise; scales, integer scales and units lie as the layout has them.
    unsafe {
        let subs = group.add(facts.half_bytes());
        let values = group.add(facts.scale_bytes(units) + 32 * half);
        let mut span = [_mm256_setzero_si256(); M];
        let mut minima = [_mm256_setzero_si256(); M];
        for unit in 0..units {
            let at = values.add(unit * facts.unit_bytes());
            if half == 0 {
                for line in 0..K::UNIT_LINES {
                    _mm_prefetch::<_MM_HINT_T0>(at.wrapping_add(AHEAD + line * LINE).cast());
                }
            }
            let sum = |row: usize, sub: usize| *rows[row].sums.add(unit * (UNIT / SUB) + sub);
            if !K::K {
                let mut dot: [__m256i; M] = std::array::from_fn(|row| {
                    _mm256_set1_epi32(-K::ZERO * (sum(row, 0) + sum(row, 1)))
                });
                add::<K, M>(&mut dot, at, 0, unit, rows);
                add::<K, M>(&mut dot, at, 1, unit, rows);
                let halves = group.add(unit * facts.half_bytes());
                let d = floats(halves, half);
                for row in 0..M {
                    t[row] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot[row]), d, t[row]);
                }
                if K::MIN {
                    let m = floats(halves.add(2 * WIDTH), half);
                    for row in 0..M {
                        let sum = _mm256_set1_ps((sum(row, 0) + sum(row, 1)) as f32);
                        t[row] = _mm256_fmadd_ps(sum, m, t[row]);
                    }
                }
                continue;
            }
            if K::SUB == UNIT {
                let mut dot = [_mm256_setzero_si256(); M];
                add::<K, M>(&mut dot, at, 0, unit, rows);
                add::<K, M>(&mut dot, at, 1, unit, rows);
                let s = integers::<K>(subs, unit, half);
                let minimum = integers::<K>(subs, UNITS + unit, half);
                for row in 0..M {
                    let sum = _mm256_set1_epi32(sum(row, 0) + sum(row, 1));
                    span[row] = _mm256_add_epi32(span[row], _mm256_mullo_epi32(dot[row], s));
                    let product = _mm256_mullo_epi32(sum, minimum);
                    minima[row] = _mm256_add_epi32(minima[row], product);
                }
            } else {
                for sub in 0..2 {
                    let mut dot: [__m256i; M] =
                        std::array::from_fn(|row| _mm256_set1_epi32(-K::ZERO * sum(row, sub)));
                    add::<K, M>(&mut dot, at, sub, unit, rows);
                    let s = integers::<K>(subs, 2 * unit + sub, half);
                    for row in 0..M {
                        span[row] = _mm256_add_epi32(span[row], _mm256_mullo_epi32(dot[row], s));
                    }
                }
            }
            if ((unit + 1) * UNIT).is_multiple_of(K::SPAN) {
                let d = floats(group, half);
                for row in 0..M {
                    t[row] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(span[row]), d, t[row]);
                }
                span = [_mm256_setzero_si256(); M];
            }
        }
        if K::K && K::MIN {
            let d_min = floats(group.add(2 * WIDTH), half);
            for row in 0..M {
                t[row] = _mm256_fnmadd_ps(_mm256_cvtepi32_ps(minima[row]), d_min, t[row]);
            }
        }
    }
    t
}

/// Adds the products of 16 columns of a unit and eight outputs.
///
/// # Safety
/// As [`times`]; `at` points to the lines of the unit, or to byte 32 of their first.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn add<K: Kind, const M: usize>(
    dot: &mut [__m256i; M],
    at: *const u8,
    half: usize,
    unit: usize,
    rows: &[Row; M],
) {
    for index in 0..SUB / 4 {
        // SAFETY: by the caller's promise.
        unsafe {
            let weights = quad::<K>(at, half, index);
            for row in 0..M {
                let x = rows[row].integers.add(unit * UNIT + half * SUB + 4 * index).cast::<i32>();
                for (i, weights) in weights.into_iter().enumerate() {
                    let x = _mm256_set1_epi32(x.add(i).read_unaligned());
                    dot[row] = _mm256_add_epi32(dot[row], _mm256_madd_epi16(weights, x));
                }
            }
        }
    }
}
