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
        activations::{Block, Line, NegativeSums},
        layout::Tile,
    };

    /// Most rows that share one reading of the weights.
    const TOGETHER: usize = 8;

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
        assert!(x.lines.len() >= tile.kind.planes() * tile.slices * x.height, "planes");
        for first in rows.clone().step_by(TOGETHER) {
            let count = TOGETHER.min(rows.end - first);
            let part = &mut sums[first - rows.start..first - rows.start + count];
            // SAFETY: the level was chosen by detection; rows and slices were checked above.
            unsafe {
                match tile.kind {
                    PackedKind::Q8 => dispatch::<true>(tile, x, first, part),
                    PackedKind::Q4 => dispatch::<false>(tile, x, first, part),
                }
            }
        }
    }

    /// # Safety
    /// AVX-512 with VNNI; the rows exist.
    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    unsafe fn dispatch<const Q8: bool>(
        tile: &Tile<'_>,
        x: &Block<'_>,
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
    /// AVX-512 with VNNI; rows `row..row + M` exist.
    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    unsafe fn together<const M: usize, const Q8: bool>(
        tile: &Tile<'_>,
        x: &Block<'_>,
        row: usize,
        sums: &mut [[f32; WIDTH]],
    ) {
        let mut acc = [_mm512_setzero_ps(); M];
        // SAFETY: the parts of a tile hold as many slices and groups as each row of `x`.
        unsafe {
            let mut values = tile.values.as_ptr();
            let mut steps = tile.steps.as_ptr();
            let mut high = x.lines.as_ptr().add(row);
            let mut low = high.wrapping_add(tile.slices * x.height);
            let mut negative_sums = x.negative_sums.as_ptr().add(row);
            let mut offsets = x.offsets.as_ptr().add(row);
            for group in 0..tile.groups {
                let slices = tile.slices_of(group);
                let x_scales = x.scales_of(slices.start).as_ptr().add(row);
                let mut dots = Dots::<M>::new();
                for _ in slices {
                    if Q8 {
                        dots.add_q8(values, high, low, offsets);
                    } else {
                        dots.add_q4(values, steps, high, negative_sums);
                    }
                    values = values.add(tile.kind.value_bytes());
                    steps = steps.wrapping_add(64);
                    high = high.wrapping_add(x.height);
                    low = low.wrapping_add(x.height);
                    negative_sums = negative_sums.wrapping_add(x.height);
                    offsets = offsets.wrapping_add(x.height);
                }
                let scales = tile.scales.as_ptr().add(group * 2 * WIDTH);
                let scale = _mm512_cvtph_ps(_mm256_loadu_si256(scales.cast()));
                for i in 0..M {
                    let dot = if Q8 {
                        _mm512_add_epi32(_mm512_slli_epi32::<8>(dots.0[i]), dots.1[i])
                    } else {
                        _mm512_add_epi32(dots.0[i], dots.1[i])
                    };
                    let x_scale = _mm512_set1_ps(*x_scales.add(i));
                    let scaled = _mm512_mul_ps(_mm512_cvtepi32_ps(dot), x_scale);
                    acc[i] = _mm512_fmadd_ps(scaled, scale, acc[i]);
                }
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

    /// Integer sums of a group for `M` rows. q8: of the first plane and of the second. q4: of zeros
    /// and of values.
    struct Dots<const M: usize>([__m512i; M], [__m512i; M]);

    impl<const M: usize> Dots<M> {
        #[inline]
        #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
        fn new() -> Self {
            Self([_mm512_setzero_si512(); M], [_mm512_setzero_si512(); M])
        }

        /// # Safety
        /// 16 lines of 64 bytes follow `values`, `M` entries follow the others.
        #[inline]
        #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
        unsafe fn add_q8(
            &mut self,
            values: *const u8,
            high: *const Line,
            low: *const Line,
            offsets: *const i32,
        ) {
            let sign = _mm512_set1_epi8(-128);
            // SAFETY: by the caller's promise.
            unsafe {
                for i in 0..M {
                    let offset = _mm512_set1_epi32(*offsets.add(i));
                    self.1[i] = _mm512_add_epi32(self.1[i], offset);
                }
                for r in 0..16 {
                    _mm_prefetch::<_MM_HINT_T1>(values.wrapping_add(AHEAD + 64 * r).cast());
                    let w = _mm512_xor_si512(_mm512_loadu_si512(values.add(64 * r).cast()), sign);
                    for i in 0..M {
                        self.0[i] = _mm512_dpbusd_epi32(self.0[i], w, quad(high.add(i), r));
                        self.1[i] = _mm512_dpbusd_epi32(self.1[i], w, quad(low.add(i), r));
                    }
                }
            }
        }

        /// # Safety
        /// 8 lines of 64 bytes follow `values`, one follows `steps`, `M` entries follow the others.
        #[inline]
        #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
        unsafe fn add_q4(
            &mut self,
            values: *const u8,
            steps: *const u8,
            lines: *const Line,
            negative_sums: *const NegativeSums,
        ) {
            let low = _mm512_set1_epi8(15);
            let low_half = _mm512_set1_epi32(0xffff);
            // SAFETY: by the caller's promise.
            unsafe {
                // In 16 bits: bytes 0 and 2 of each output, then bytes 1 and 3.
                let bytes = _mm512_loadu_si512(steps.cast());
                let pairs = [
                    _mm512_and_si512(bytes, _mm512_set1_epi16(0xff)),
                    _mm512_srli_epi16::<8>(bytes),
                ];
                _mm_prefetch::<_MM_HINT_T1>(values.wrapping_add(AHEAD + 512).cast());
                for (h, pair) in pairs.into_iter().enumerate() {
                    let s = _mm512_add_epi16(
                        _mm512_and_si512(pair, _mm512_set1_epi16(15)),
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
                            let line = lines.add(i);
                            first[i] = _mm512_dpbusd_epi32(first[i], a, quad(line, p));
                            second[i] = _mm512_dpbusd_epi32(second[i], b, quad(line, p + 8));
                        }
                    }
                    for i in 0..M {
                        // Each sum of 16 products is below 2^15, so two fit a lane and one
                        // instruction multiplies both by their factors and adds them.
                        let high = _mm512_slli_epi32::<16>(second[i]);
                        let joined = _mm512_ternarylogic_epi32::<0xf8>(high, first[i], low_half);
                        let sums = negative_sums.add(i).cast::<i32>().add(h).read_unaligned();
                        self.0[i] = _mm512_dpwssd_epi32(self.0[i], zero, _mm512_set1_epi32(sums));
                        self.1[i] = _mm512_dpwssd_epi32(self.1[i], joined, s);
                    }
                }
            }
        }
    }
}
