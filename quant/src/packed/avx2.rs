//! Eight outputs in a 256-bit register; products of bytes are added in 16 bits without saturation.
//!
//! q8: `|w| · sign(x, w)` for both planes of the input, two products at most 2 · 128 · 127 =
//! 32,512. q4: `q · x`, eight products
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
        activations::{Block, Line, NegativeSums},
        layout::Tile,
    };

    /// Most rows that share one reading of the weights.
    const TOGETHER: usize = 4;

    /// As [`super::super::portable::rows`].
    pub(in crate::packed) fn rows(
        tile: &Tile<'_>,
        x: &Block<'_>,
        rows: Range<usize>,
        sums: &mut [[f32; WIDTH]],
    ) {
        assert!(rows.end <= x.height && rows.len() <= sums.len());
        for first in rows.clone().step_by(TOGETHER) {
            let count = TOGETHER.min(rows.end - first);
            let part = &mut sums[first - rows.start..first - rows.start + count];
            // SAFETY: the level was chosen by detection.
            unsafe {
                match (tile.kind, count) {
                    (PackedKind::Q8, 1) => together::<1, true>(tile, x, first, part),
                    (PackedKind::Q8, 2) => together::<2, true>(tile, x, first, part),
                    (PackedKind::Q8, 3) => together::<3, true>(tile, x, first, part),
                    (PackedKind::Q8, _) => together::<4, true>(tile, x, first, part),
                    (PackedKind::Q4, 1) => together::<1, false>(tile, x, first, part),
                    (PackedKind::Q4, 2) => together::<2, false>(tile, x, first, part),
                    (PackedKind::Q4, 3) => together::<3, false>(tile, x, first, part),
                    (PackedKind::Q4, _) => together::<4, false>(tile, x, first, part),
                }
            }
        }
    }

    /// # Safety
    /// AVX2, FMA and F16C.
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn together<const M: usize, const Q8: bool>(
        tile: &Tile<'_>,
        x: &Block<'_>,
        row: usize,
        sums: &mut [[f32; WIDTH]],
    ) {
        let lines = |plane: usize, slice: usize| {
            let at = (plane * tile.slices + slice) * x.height + row;
            &x.lines[at..at + M]
        };
        let mut acc = [[_mm256_setzero_ps(); M]; 2];
        for group in 0..tile.groups {
            let x_scales = &x.scales_of(tile.slices_of(group).start)[row..row + M];
            for (half, acc) in acc.iter_mut().enumerate() {
                let mut dot = [_mm256_setzero_si256(); M];
                for slice in tile.slices_of(group) {
                    // SAFETY: the parts of a tile hold `slices` slices; half a line is 32 bytes.
                    unsafe {
                        let values =
                            tile.values.as_ptr().add(slice * tile.kind.value_bytes() + 32 * half);
                        if Q8 {
                            add_q8::<M>(&mut dot, values, lines(0, slice), lines(1, slice));
                        } else {
                            let steps = tile.steps.as_ptr().add(slice * 64 + 32 * half);
                            let sums = slice * x.height + row;
                            let sums = &x.negative_sums[sums..sums + M];
                            add_q4::<M>(&mut dot, values, steps, lines(0, slice), sums);
                        }
                    }
                }
                // SAFETY: half of 16 scales is 16 bytes.
                let scale = unsafe {
                    let scales = tile.scales.as_ptr().add(group * 2 * WIDTH + 16 * half);
                    _mm256_cvtph_ps(_mm_loadu_si128(scales.cast()))
                };
                for i in 0..M {
                    let scaled =
                        _mm256_mul_ps(_mm256_cvtepi32_ps(dot[i]), _mm256_set1_ps(x_scales[i]));
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
    unsafe fn add_q8<const M: usize>(
        dot: &mut [__m256i; M],
        values: *const u8,
        high: &[Line],
        low: &[Line],
    ) {
        let ones = _mm256_set1_epi16(1);
        let (mut highs, mut lows) = ([_mm256_setzero_si256(); M], [_mm256_setzero_si256(); M]);
        for r in 0..16 {
            // SAFETY: by the caller's promise.
            let w = unsafe { _mm256_loadu_si256(values.add(64 * r).cast()) };
            let size = _mm256_abs_epi8(w);
            for i in 0..M {
                let a = _mm256_maddubs_epi16(size, _mm256_sign_epi8(quad(&high[i], r), w));
                let b = _mm256_maddubs_epi16(size, _mm256_sign_epi8(quad(&low[i], r), w));
                highs[i] = _mm256_add_epi32(highs[i], _mm256_madd_epi16(a, ones));
                lows[i] = _mm256_add_epi32(lows[i], _mm256_madd_epi16(b, ones));
            }
        }
        for i in 0..M {
            let both = _mm256_add_epi32(_mm256_slli_epi32::<8>(highs[i]), lows[i]);
            dot[i] = _mm256_add_epi32(dot[i], both);
        }
    }

    /// # Safety
    /// `values` is followed by 8 lines at a distance of 64 bytes, `steps` by 32 bytes.
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn add_q4<const M: usize>(
        dot: &mut [__m256i; M],
        values: *const u8,
        steps: *const u8,
        lines: &[Line],
        negative_sums: &[NegativeSums],
    ) {
        let low = _mm256_set1_epi8(15);
        // SAFETY: by the caller's promise.
        let steps = unsafe { _mm256_loadu_si256(steps.cast()) };
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
                _mm256_and_si256(step, _mm256_set1_epi32(15)),
                _mm256_set1_epi32(1),
            );
            let z = _mm256_and_si256(_mm256_srli_epi32::<4>(step), _mm256_set1_epi32(15));
            let both = _mm256_or_si256(s, _mm256_slli_epi32::<16>(s));
            let zero = _mm256_madd_epi16(s, z);
            for i in 0..M {
                // The sums lie in the order 0, 2, 1, 3.
                let sum = negative_sums[i][[0, 2, 1, 3][sub]];
                let correction = _mm256_madd_epi16(zero, _mm256_set1_epi16(sum));
                dot[i] = _mm256_add_epi32(dot[i], _mm256_madd_epi16(pairs[i], both));
                dot[i] = _mm256_add_epi32(dot[i], correction);
            }
        }
    }
}
