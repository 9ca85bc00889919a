//! The tile with one 512-bit register for the 16 lanes.

#[cfg(target_arch = "x86_64")]
pub(super) use x86::{accumulate, reduce};

#[cfg(not(target_arch = "x86_64"))]
pub(super) use super::portable::{accumulate, reduce};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use crate::{
        Format,
        kernels::{
            LANES,
            matmul::{PANEL, Panel, TileLanes, Totals, XTile},
        },
    };

    const F32: u8 = 0;
    const BF16: u8 = 1;
    const F16: u8 = 2;

    /// How far ahead of its use a cache line is asked for.
    const AHEAD: usize = 1024;

    /// Adds the products of each row of `x` with each row of the panel to their lanes.
    pub(in crate::kernels) fn accumulate(panel: &Panel<'_>, x: &XTile<'_>, sums: &mut TileLanes) {
        // SAFETY: the caller chose this level by detection.
        unsafe {
            match panel.format {
                Format::Bf16 => tile_of::<BF16>(panel, x, sums),
                Format::F16 => tile_of::<F16>(panel, x, sums),
                _ => tile_of::<F32>(panel, x, sums),
            }
        }
    }

    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl")]
    unsafe fn tile_of<const FORMAT: u8>(panel: &Panel<'_>, x: &XTile<'_>, sums: &mut TileLanes) {
        // SAFETY: as promised by the caller.
        unsafe {
            match x.rows {
                1 => tile::<FORMAT, 1>(panel, x, sums),
                2 => tile::<FORMAT, 2>(panel, x, sums),
                _ => tile::<FORMAT, 3>(panel, x, sums),
            }
        }
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl")]
    unsafe fn tile<const FORMAT: u8, const ROWS: usize>(
        panel: &Panel<'_>,
        x: &XTile<'_>,
        sums: &mut TileLanes,
    ) {
        let k = panel.k;
        let whole = k - k % LANES;
        // Both are checked slices of `k` values.
        let w: [*const u8; PANEL] = std::array::from_fn(|j| panel.row(j).as_ptr());
        let x: [*const f32; ROWS] = std::array::from_fn(|i| x.row(i, k).as_ptr());
        let mut acc = [[_mm512_setzero_ps(); PANEL]; ROWS];
        // SAFETY: every load reads inside a row of `k` values; the tail loads are masked to the
        // `k % 16` values that are left. A prefetch may name any address.
        unsafe {
            for i in 0..ROWS {
                for j in 0..PANEL {
                    acc[i][j] = _mm512_loadu_ps(sums.0[i][j].as_ptr());
                }
            }
            let mut at = 0;
            while at < whole {
                let mut x_lanes = [_mm512_setzero_ps(); ROWS];
                for i in 0..ROWS {
                    x_lanes[i] = _mm512_loadu_ps(x[i].add(at));
                }
                for j in 0..PANEL {
                    let w_lanes = load::<FORMAT>(w[j], at);
                    if ROWS == 1 {
                        prefetch::<FORMAT>(w[j], at);
                    }
                    for i in 0..ROWS {
                        acc[i][j] = _mm512_fmadd_ps(x_lanes[i], w_lanes, acc[i][j]);
                    }
                }
                at += LANES;
            }
            if whole < k {
                let mask = (1u16 << (k - whole)) - 1;
                for i in 0..ROWS {
                    let x_lanes = _mm512_maskz_loadu_ps(mask, x[i].add(whole));
                    for j in 0..PANEL {
                        let w_lanes = load_tail::<FORMAT>(w[j], whole, mask);
                        acc[i][j] = _mm512_fmadd_ps(x_lanes, w_lanes, acc[i][j]);
                    }
                }
            }
            for i in 0..ROWS {
                for j in 0..PANEL {
                    _mm512_storeu_ps(sums.0[i][j].as_mut_ptr(), acc[i][j]);
                }
            }
        }
    }

    /// Adds up the lanes of each sum as the fixed tree.
    pub(in crate::kernels) fn reduce(sums: &TileLanes, rows: usize, totals: &mut Totals) {
        // SAFETY: the caller chose this level by detection.
        unsafe { reduce_registers(sums, rows, totals) }
    }

    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl")]
    fn reduce_registers(sums: &TileLanes, rows: usize, totals: &mut Totals) {
        for (totals, sums) in totals.iter_mut().zip(&sums.0).take(rows) {
            for (total, lanes) in totals.iter_mut().zip(sums) {
                // SAFETY: the array holds 16 values.
                *total = sum_register(unsafe { _mm512_loadu_ps(lanes.as_ptr()) });
            }
        }
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl")]
    fn sum_register(lanes: __m512) -> f32 {
        let by_8 = _mm256_add_ps(_mm512_castps512_ps256(lanes), _mm512_extractf32x8_ps::<1>(lanes));
        let by_4 = _mm_add_ps(_mm256_castps256_ps128(by_8), _mm256_extractf128_ps::<1>(by_8));
        let by_2 = _mm_add_ps(by_4, _mm_movehl_ps(by_4, by_4));
        let by_1 = _mm_add_ss(by_2, _mm_shuffle_ps::<1>(by_2, by_2));
        _mm_cvtss_f32(by_1)
    }

    /// One row of `x` is bound by reading, and rows follow each other in a stream: asks for the
    /// cache line [`AHEAD`] bytes after value `at`, once for each line.
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl")]
    fn prefetch<const FORMAT: u8>(row: *const u8, at: usize) {
        match FORMAT {
            F32 => _mm_prefetch::<_MM_HINT_T1>(row.wrapping_add(4 * at + AHEAD).cast()),
            _ if at.is_multiple_of(2 * LANES) => {
                _mm_prefetch::<_MM_HINT_T1>(row.wrapping_add(2 * at + AHEAD).cast());
            }
            _ => {}
        }
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl")]
    unsafe fn load<const FORMAT: u8>(row: *const u8, at: usize) -> __m512 {
        // SAFETY: 16 values from `at` on lie inside the row.
        unsafe {
            match FORMAT {
                BF16 => widen_bf16(_mm256_loadu_si256(row.add(2 * at).cast())),
                F16 => _mm512_cvtph_ps(_mm256_loadu_si256(row.add(2 * at).cast())),
                _ => _mm512_loadu_ps(row.add(4 * at).cast()),
            }
        }
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl")]
    unsafe fn load_tail<const FORMAT: u8>(row: *const u8, at: usize, mask: u16) -> __m512 {
        // SAFETY: the mask covers only values inside the row.
        unsafe {
            match FORMAT {
                BF16 => widen_bf16(_mm256_maskz_loadu_epi16(mask, row.add(2 * at).cast())),
                F16 => _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(mask, row.add(2 * at).cast())),
                _ => _mm512_maskz_loadu_ps(mask, row.add(4 * at).cast()),
            }
        }
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl")]
    fn widen_bf16(halves: __m256i) -> __m512 {
        _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(halves)))
    }
}
