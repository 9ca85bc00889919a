//! Eight outputs in a 256-bit register; products of bytes are added in 16 bits without saturation.
//!
//! q8: `|w| · sign(x, w)`, two products at most 2 · 128 · 127 = 32,512. q4: `q · x`, eight products
//! at most 8 · 15 · 127 = 15,240. Both stay below 2^15.

#[cfg(not(target_arch = "x86_64"))]
pub(super) use super::portable::rows;

#[cfg(target_arch = "x86_64")]
pub(super) use x86::rows;

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::{arch::x86_64::*, ops::Range};

    use crate::packed::{
        PackedKind, WIDTH,
        activations::{Activations, Line, RowGroup},
        layout::Tile,
    };

    /// Most rows that share one reading of the weights.
    const TOGETHER: usize = 4;

    /// As [`super::super::portable::rows`].
    pub(in crate::packed) fn rows(
        tile: &Tile<'_>,
        x: &Activations,
        rows: Range<usize>,
        sums: &mut [[f32; WIDTH]],
    ) {
        assert!(rows.end <= x.rows && tile.groups == x.groups && rows.len() <= sums.len());
        let mut row = rows.start;
        while row < rows.end {
            let count = x.rows_in_block(row, rows.end).min(TOGETHER);
            let part = &mut sums[row - rows.start..row - rows.start + count];
            // SAFETY: the level was chosen by detection; rows and groups were checked above.
            unsafe {
                match (tile.kind, count) {
                    (PackedKind::Q8, 1) => together::<1, true>(tile, x, row, part),
                    (PackedKind::Q8, 2) => together::<2, true>(tile, x, row, part),
                    (PackedKind::Q8, 3) => together::<3, true>(tile, x, row, part),
                    (PackedKind::Q8, _) => together::<4, true>(tile, x, row, part),
                    (PackedKind::Q4, 1) => together::<1, false>(tile, x, row, part),
                    (PackedKind::Q4, 2) => together::<2, false>(tile, x, row, part),
                    (PackedKind::Q4, 3) => together::<3, false>(tile, x, row, part),
                    (PackedKind::Q4, _) => together::<4, false>(tile, x, row, part),
                }
            }
            row += count;
        }
    }

    /// # Safety
    /// AVX2, FMA and F16C; rows `row..row + M` exist and lie in one block.
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn together<const M: usize, const Q8: bool>(
        tile: &Tile<'_>,
        x: &Activations,
        row: usize,
        sums: &mut [[f32; WIDTH]],
    ) {
        let at = x.row_at(row);
        let mut acc = [[_mm256_setzero_ps(); M]; 2];
        for group in 0..tile.groups {
            let entry = at.start + group * at.stride;
            let lines = &x.lines()[entry..entry + M];
            let row_groups = &x.row_groups[entry..entry + M];
            for (half, acc) in acc.iter_mut().enumerate() {
                // SAFETY: the parts of a tile hold `groups` groups; half a line is 32 bytes.
                let (dot, scale) = unsafe {
                    let values =
                        tile.values.as_ptr().add(group * tile.kind.value_bytes() + 32 * half);
                    let scales = tile.scales.as_ptr().add(group * 2 * WIDTH + 16 * half);
                    let dot = if Q8 {
                        dot_q8::<M>(values, lines)
                    } else {
                        let steps = tile.steps.as_ptr().add(group * 64 + 32 * half);
                        dot_q4::<M>(values, steps, lines, row_groups)
                    };
                    (dot, _mm256_cvtph_ps(_mm_loadu_si128(scales.cast())))
                };
                for i in 0..M {
                    let scaled = _mm256_mul_ps(
                        _mm256_cvtepi32_ps(dot[i]),
                        _mm256_set1_ps(row_groups[i].scale),
                    );
                    acc[i] = _mm256_fmadd_ps(scaled, scale, acc[i]);
                }
            }
        }
        for (i, sums) in sums.iter_mut().enumerate() {
            // SAFETY: a row of sums holds two registers.
            unsafe {
                _mm256_storeu_ps(sums.as_mut_ptr(), acc[0][i]);
                _mm256_storeu_ps(sums.as_mut_ptr().add(8), acc[1][i]);
            }
        }
    }

    /// Four consecutive values of a row, in every lane.
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    fn quad(line: &Line, index: usize) -> __m256i {
        let at = 4 * index;
        let bytes = [line.0[at], line.0[at + 1], line.0[at + 2], line.0[at + 3]].map(|it| it as u8);
        _mm256_set1_epi32(i32::from_le_bytes(bytes))
    }

    /// # Safety
    /// `values` is followed by 16 lines at a distance of 64 bytes.
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn dot_q8<const M: usize>(values: *const u8, lines: &[Line]) -> [__m256i; M] {
        let ones = _mm256_set1_epi16(1);
        let mut dot = [_mm256_setzero_si256(); M];
        for r in 0..16 {
            // SAFETY: by the caller's promise.
            let w = unsafe { _mm256_loadu_si256(values.add(64 * r).cast()) };
            let size = _mm256_abs_epi8(w);
            for i in 0..M {
                let signed = _mm256_sign_epi8(quad(&lines[i], r), w);
                let pairs = _mm256_maddubs_epi16(size, signed);
                dot[i] = _mm256_add_epi32(dot[i], _mm256_madd_epi16(pairs, ones));
            }
        }
        dot
    }

    /// # Safety
    /// `values` is followed by 8 lines at a distance of 64 bytes, `steps` by 32 bytes.
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn dot_q4<const M: usize>(
        values: *const u8,
        steps: *const u8,
        lines: &[Line],
        row_groups: &[RowGroup],
    ) -> [__m256i; M] {
        let low = _mm256_set1_epi8(15);
        // SAFETY: by the caller's promise.
        let steps = unsafe { _mm256_loadu_si256(steps.cast()) };
        let mut dot = [_mm256_setzero_si256(); M];
        for sub in 0..4 {
            let mut pairs = [_mm256_setzero_si256(); M];
            for t in 0..4 {
                // SAFETY: by the caller's promise.
                let bytes =
                    unsafe { _mm256_loadu_si256(values.add(64 * (sub % 2 * 4 + t)).cast()) };
                let bytes = if sub < 2 { bytes } else { _mm256_srli_epi16::<4>(bytes) };
                let q = _mm256_and_si256(bytes, low);
                for i in 0..M {
                    let products = _mm256_maddubs_epi16(q, quad(&lines[i], 4 * sub + t));
                    pairs[i] = _mm256_add_epi16(pairs[i], products);
                }
            }
            let step = _mm256_srl_epi32(steps, _mm_cvtsi32_si128(8 * sub as i32));
            let s = _mm256_add_epi32(
                _mm256_and_si256(step, _mm256_set1_epi32(7)),
                _mm256_set1_epi32(1),
            );
            let z = _mm256_and_si256(_mm256_srli_epi32::<4>(step), _mm256_set1_epi32(15));
            let both = _mm256_or_si256(s, _mm256_slli_epi32::<16>(s));
            let zero = _mm256_madd_epi16(s, z);
            for i in 0..M {
                // The sums lie in the order 0, 2, 1, 3.
                let sum = row_groups[i].negative_sums[[0, 2, 1, 3][sub]];
                let correction = _mm256_madd_epi16(zero, _mm256_set1_epi16(sum));
                dot[i] = _mm256_add_epi32(dot[i], _mm256_madd_epi16(pairs[i], both));
                dot[i] = _mm256_add_epi32(dot[i], correction);
            }
        }
        dot
    }
}
