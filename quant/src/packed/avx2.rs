//! Eight outputs in a 256-bit register.
//!
//! q8: weights and input in 16 bits, `x = 256 · high + low`: 256 products of at most 128 · 32,639 stay
//! below 2^31. q4: bytes, `q · x`, added in 16 bits: eight products at most 8 · 15 · 127 = 15,240.

#[cfg(not(target_arch = "x86_64"))]
pub(super) use super::portable::rows;

#[cfg(target_arch = "x86_64")]
pub(super) use x86::rows;

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::{arch::x86_64::*, ops::Range};

    use crate::packed::{
        PackedKind, WIDTH,
        activations::{Block, Line, NegativeSums, WideLine},
        layout::Tile,
    };

    /// Most rows that share one reading of the weights.
    const TOGETHER: usize = 4;

    /// How far ahead of their use weights are fetched. Prefetching past the end is harmless.
    const AHEAD: usize = 2048;

    /// As [`super::super::portable::rows`].
    pub(in crate::packed) fn rows(
        tile: &Tile<'_>,
        x: &Block<'_>,
        rows: Range<usize>,
        sums: &mut [[f32; WIDTH]],
    ) {
        assert!(rows.end <= x.height && rows.len() <= sums.len());
        assert_eq!(x.negative_sums.len(), tile.slices * x.height, "slices");
        let wide = tile.kind == PackedKind::Q8;
        assert!(!wide || x.wide.len() == x.negative_sums.len(), "input in 16 bits");
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
    /// AVX2, FMA and F16C; rows `row..row + M` exist, in 16 bits too where the tile is q8.
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn together<const M: usize, const Q8: bool>(
        tile: &Tile<'_>,
        x: &Block<'_>,
        row: usize,
        sums: &mut [[f32; WIDTH]],
    ) {
        let mut acc = [[_mm256_setzero_ps(); M]; 2];
        // SAFETY: the parts of a tile hold as many slices and groups as each row of `x`; half a line
        // is 32 bytes, half of 16 scales is 16.
        unsafe {
            for group in 0..tile.groups {
                let slices = tile.slices_of(group);
                let x_scales = x.scales_of(slices.start).as_ptr().add(row);
                for half in 0..2 {
                    let at = slices.start * x.height + row;
                    let values = tile.values.as_ptr().add(slices.start * tile.kind.value_bytes());
                    let place = Place { values: values.add(32 * half), slices: slices.len() };
                    let dot = if Q8 {
                        q8::<M>(place, x.wide.as_ptr().add(at), x.height)
                    } else {
                        let steps = tile.steps.as_ptr().add(slices.start * 64 + 32 * half);
                        let sums = x.negative_sums.as_ptr().add(at);
                        q4::<M>(place, steps, x.lines.as_ptr().add(at), sums, x.height)
                    };
                    let scales = tile.scales.as_ptr().add(group * 2 * WIDTH + 16 * half);
                    let scale = _mm256_cvtph_ps(_mm_loadu_si128(scales.cast()));
                    for i in 0..M {
                        let x_scale = _mm256_set1_ps(*x_scales.add(i));
                        let scaled = _mm256_mul_ps(_mm256_cvtepi32_ps(dot[i]), x_scale);
                        acc[half][i] = _mm256_fmadd_ps(scaled, scale, acc[half][i]);
                    }
                }
            }
            for i in 0..M {
                _mm256_storeu_ps(sums[i].as_mut_ptr(), acc[0][i]);
                _mm256_storeu_ps(sums[i].as_mut_ptr().add(8), acc[1][i]);
            }
        }
    }

    /// Half of the lines of some slices: eight outputs.
    #[derive(Clone, Copy)]
    struct Place {
        values: *const u8,
        slices: usize,
    }

    /// The dot products of `M` rows with eight outputs.
    ///
    /// # Safety
    /// AVX2; the slices are followed by nothing that is read but by prefetching; `x` points to the
    /// first of `M` rows, `height` to a slice.
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn q8<const M: usize>(place: Place, x: *const WideLine, height: usize) -> [__m256i; M] {
        // Of outputs 0 to 3 and 4 to 7, two sums each.
        let mut first = [_mm256_setzero_si256(); M];
        let mut second = [_mm256_setzero_si256(); M];
        // SAFETY: by the caller's promise.
        unsafe {
            for slice in 0..place.slices {
                let values = place.values.add(slice * 1024);
                let x = x.add(slice * height).cast::<i64>();
                for r in 0..16 {
                    let line = values.add(64 * r);
                    _mm_prefetch::<_MM_HINT_T0>(line.wrapping_add(AHEAD).cast());
                    let a = _mm256_cvtepi8_epi16(_mm_loadu_si128(line.cast()));
                    let b = _mm256_cvtepi8_epi16(_mm_loadu_si128(line.add(16).cast()));
                    for i in 0..M {
                        let quad = _mm256_set1_epi64x(*x.add(16 * i + r));
                        first[i] = _mm256_add_epi32(first[i], _mm256_madd_epi16(a, quad));
                        second[i] = _mm256_add_epi32(second[i], _mm256_madd_epi16(b, quad));
                    }
                }
            }
            for i in 0..M {
                // Outputs 0, 1, 4, 5, 2, 3, 6, 7.
                let dots = _mm256_hadd_epi32(first[i], second[i]);
                first[i] = _mm256_permute4x64_epi64::<0b11_01_10_00>(dots);
            }
        }
        first
    }

    /// The dot products of `M` rows with eight outputs.
    ///
    /// # Safety
    /// As [`q8`]; a slice has 64 bytes of steps.
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn q4<const M: usize>(
        place: Place,
        steps: *const u8,
        lines: *const Line,
        negative_sums: *const NegativeSums,
        height: usize,
    ) -> [__m256i; M] {
        let low = _mm256_set1_epi8(15);
        let low_int = _mm256_set1_epi32(15);
        let mut dot = [_mm256_setzero_si256(); M];
        // SAFETY: by the caller's promise.
        unsafe {
            for slice in 0..place.slices {
                let values = place.values.add(slice * 512);
                let steps = _mm256_loadu_si256(steps.add(64 * slice).cast());
                let x = lines.add(slice * height).cast::<i32>();
                let negative = negative_sums.add(slice * height).cast::<i16>();
                for sub in 0..4 {
                    let mut pairs = [_mm256_setzero_si256(); M];
                    for t in 0..4 {
                        let line = values.add(64 * (sub % 2 * 4 + t));
                        let bytes = _mm256_loadu_si256(line.cast());
                        let bytes = if sub < 2 {
                            _mm_prefetch::<_MM_HINT_T0>(line.wrapping_add(AHEAD).cast());
                            bytes
                        } else {
                            _mm256_srli_epi16::<4>(bytes)
                        };
                        let q = _mm256_and_si256(bytes, low);
                        for i in 0..M {
                            let quad = _mm256_set1_epi32(*x.add(16 * i + 4 * sub + t));
                            let products = _mm256_maddubs_epi16(q, quad);
                            pairs[i] = _mm256_add_epi16(pairs[i], products);
                        }
                    }
                    let step = _mm256_srl_epi32(steps, _mm_cvtsi32_si128(8 * sub as i32));
                    let s = _mm256_and_si256(step, low_int);
                    let s = _mm256_add_epi32(s, _mm256_set1_epi32(1));
                    let z = _mm256_and_si256(_mm256_srli_epi32::<4>(step), low_int);
                    let both = _mm256_or_si256(s, _mm256_slli_epi32::<16>(s));
                    let zero = _mm256_madd_epi16(s, z);
                    // The sums lie in the order 0, 2, 1, 3.
                    let at = [0, 2, 1, 3][sub];
                    for i in 0..M {
                        let sum = _mm256_set1_epi16(*negative.add(4 * i + at));
                        let correction = _mm256_madd_epi16(zero, sum);
                        let values = _mm256_madd_epi16(pairs[i], both);
                        dot[i] = _mm256_add_epi32(dot[i], _mm256_add_epi32(values, correction));
                    }
                }
            }
        }
        dot
    }
}
