//! Sixteen outputs in a 512-bit register, four products of bytes in one instruction.
//!
//! `vpdpbusd` multiplies unsigned by signed bytes, so q8 weights are read with 128 added, which the
//! row's `offset` takes off again; q4 values are unsigned as they are.

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
    const TOGETHER: usize = 8;

    /// How far ahead of their use weights are fetched. Prefetching past the end is harmless.
    const AHEAD: usize = 2048;

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
                match tile.kind {
                    PackedKind::Q8 => dispatch::<true>(tile, x, row, part),
                    PackedKind::Q4 => dispatch::<false>(tile, x, row, part),
                }
            }
            row += count;
        }
    }

    /// # Safety
    /// AVX-512 with VNNI; the rows exist and lie in one block.
    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    unsafe fn dispatch<const Q8: bool>(
        tile: &Tile<'_>,
        x: &Activations,
        row: usize,
        sums: &mut [[f32; WIDTH]],
    ) {
        // SAFETY: by the caller's promise.
        unsafe {
            match sums.len() {
                1 => together::<1, Q8>(tile, x, row, sums),
                2 => together::<2, Q8>(tile, x, row, sums),
                3 => together::<3, Q8>(tile, x, row, sums),
                4 => together::<4, Q8>(tile, x, row, sums),
                5 => together::<5, Q8>(tile, x, row, sums),
                6 => together::<6, Q8>(tile, x, row, sums),
                7 => together::<7, Q8>(tile, x, row, sums),
                _ => together::<8, Q8>(tile, x, row, sums),
            }
        }
    }

    /// # Safety
    /// AVX-512 with VNNI; rows `row..row + M` exist and lie in one block.
    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    unsafe fn together<const M: usize, const Q8: bool>(
        tile: &Tile<'_>,
        x: &Activations,
        row: usize,
        sums: &mut [[f32; WIDTH]],
    ) {
        let at = x.row_at(row);
        let mut acc = [_mm512_setzero_ps(); M];
        // SAFETY: the parts of a tile hold `groups` groups, and so does each row of `x`.
        unsafe {
            let mut values = tile.values.as_ptr();
            let mut scales = tile.scales.as_ptr();
            let mut steps = tile.steps.as_ptr();
            let mut lines = x.lines().as_ptr().add(at.start);
            let mut row_groups = x.row_groups.as_ptr().add(at.start);
            for _ in 0..tile.groups {
                let dot = if Q8 {
                    dot_q8::<M>(values, lines, row_groups)
                } else {
                    _mm_prefetch::<_MM_HINT_T1>(values.wrapping_add(AHEAD + 512).cast());
                    dot_q4::<M>(values, steps, lines, row_groups)
                };
                let scale = _mm512_cvtph_ps(_mm256_loadu_si256(scales.cast()));
                for i in 0..M {
                    let x_scale = _mm512_set1_ps((*row_groups.add(i)).scale);
                    let scaled = _mm512_mul_ps(_mm512_cvtepi32_ps(dot[i]), x_scale);
                    acc[i] = _mm512_fmadd_ps(scaled, scale, acc[i]);
                }
                values = values.add(tile.kind.value_bytes());
                scales = scales.add(2 * WIDTH);
                steps = steps.wrapping_add(64);
                lines = lines.wrapping_add(at.stride);
                row_groups = row_groups.wrapping_add(at.stride);
            }
            for i in 0..M {
                _mm512_storeu_ps(sums[i].as_mut_ptr(), acc[i]);
            }
        }
    }

    /// Four consecutive values of a row, in every lane.
    ///
    /// # Safety
    /// `line` points to a line, `index` is below 16.
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    unsafe fn quad(line: *const Line, index: usize) -> __m512i {
        // SAFETY: by the caller's promise; lines are aligned to 64 bytes.
        _mm512_set1_epi32(unsafe { *line.cast::<i32>().add(index) })
    }

    /// # Safety
    /// 16 lines of 64 bytes follow `values`, `M` entries follow the others.
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    unsafe fn dot_q8<const M: usize>(
        values: *const u8,
        lines: *const Line,
        row_groups: *const RowGroup,
    ) -> [__m512i; M] {
        let sign = _mm512_set1_epi8(-128);
        let mut dot = [_mm512_setzero_si512(); M];
        // SAFETY: by the caller's promise.
        unsafe {
            for (i, dot) in dot.iter_mut().enumerate() {
                *dot = _mm512_set1_epi32((*row_groups.add(i)).offset);
            }
            for r in 0..16 {
                _mm_prefetch::<_MM_HINT_T1>(values.wrapping_add(AHEAD + 64 * r).cast());
                let w = _mm512_xor_si512(_mm512_loadu_si512(values.add(64 * r).cast()), sign);
                for (i, dot) in dot.iter_mut().enumerate() {
                    *dot = _mm512_dpbusd_epi32(*dot, w, quad(lines.add(i), r));
                }
            }
        }
        dot
    }

    /// # Safety
    /// 8 lines of 64 bytes follow `values`, one follows `steps`, `M` entries follow the others.
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    unsafe fn dot_q4<const M: usize>(
        values: *const u8,
        steps: *const u8,
        lines: *const Line,
        row_groups: *const RowGroup,
    ) -> [__m512i; M] {
        let low = _mm512_set1_epi8(15);
        let low_half = _mm512_set1_epi32(0xffff);
        let mut dot = [_mm512_setzero_si512(); M];
        // SAFETY: by the caller's promise.
        unsafe {
            // In 16 bits: bytes 0 and 2 of each output, then bytes 1 and 3.
            let bytes = _mm512_loadu_si512(steps.cast());
            let pairs =
                [_mm512_and_si512(bytes, _mm512_set1_epi16(0xff)), _mm512_srli_epi16::<8>(bytes)];
            for (h, pair) in pairs.into_iter().enumerate() {
                let s = _mm512_add_epi16(
                    _mm512_and_si512(pair, _mm512_set1_epi16(7)),
                    _mm512_set1_epi16(1),
                );
                let zero = _mm512_mullo_epi16(s, _mm512_srli_epi16::<4>(pair));
                let mut first = [_mm512_setzero_si512(); M];
                let mut second = [_mm512_setzero_si512(); M];
                for t in 0..4 {
                    let p = 4 * h + t;
                    _mm_prefetch::<_MM_HINT_T1>(values.wrapping_add(AHEAD + 64 * p).cast());
                    let both = _mm512_loadu_si512(values.add(64 * p).cast());
                    let a = _mm512_and_si512(both, low);
                    let b = _mm512_and_si512(_mm512_srli_epi16::<4>(both), low);
                    for i in 0..M {
                        first[i] = _mm512_dpbusd_epi32(first[i], a, quad(lines.add(i), p));
                        second[i] = _mm512_dpbusd_epi32(second[i], b, quad(lines.add(i), p + 8));
                    }
                }
                for i in 0..M {
                    // Each sum of 16 products is below 2^15, so two fit a lane and one instruction
                    // multiplies both by their factors and adds them.
                    let high = _mm512_slli_epi32::<16>(second[i]);
                    let joined = _mm512_ternarylogic_epi32::<0xf8>(high, first[i], low_half);
                    let sums = (&raw const (*row_groups.add(i)).negative_sums).cast::<i32>();
                    let sums = _mm512_set1_epi32(sums.add(h).read_unaligned());
                    dot[i] = _mm512_dpwssd_epi32(dot[i], zero, sums);
                    dot[i] = _mm512_dpwssd_epi32(dot[i], joined, s);
                }
            }
        }
        dot
    }
}
