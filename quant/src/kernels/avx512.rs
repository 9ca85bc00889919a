//! The tile with one 512-bit register for the 16 lanes.

#[cfg(target_arch = "x86_64")]
pub(super) use x86::tile;

#[cfg(not(target_arch = "x86_64"))]
pub(super) use super::portable::tile;

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use crate::{
        Format,
        kernels::{
            LANES,
            matmul::{MAX_TILE_ROWS, PANEL, Panel},
        },
    };

    const F32: u8 = 0;
    const BF16: u8 = 1;
    const F16: u8 = 2;

    /// `sums[i][j]` = row `i` of `x` times row `j` of the panel.
    pub(in crate::kernels) fn tile(
        panel: &Panel<'_>,
        x: &[f32],
        rows: usize,
        sums: &mut [[f32; PANEL]; MAX_TILE_ROWS],
    ) {
        assert!(rows * panel.k <= x.len(), "tile rows");
        // SAFETY: the caller chose this level by detection; `x` holds `rows` rows and the panel
        // holds `count` rows of `k` values each.
        unsafe {
            match panel.format {
                Format::Bf16 => tile_of::<BF16>(panel, x, rows, sums),
                Format::F16 => tile_of::<F16>(panel, x, rows, sums),
                _ => tile_of::<F32>(panel, x, rows, sums),
            }
        }
    }

    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl")]
    unsafe fn tile_of<const FORMAT: u8>(
        panel: &Panel<'_>,
        x: &[f32],
        rows: usize,
        sums: &mut [[f32; PANEL]; MAX_TILE_ROWS],
    ) {
        // SAFETY: as promised by the caller.
        unsafe {
            match rows {
                1 => tile_rows::<FORMAT, 1>(panel, x, sums),
                2 => tile_rows::<FORMAT, 2>(panel, x, sums),
                _ => tile_rows::<FORMAT, 3>(panel, x, sums),
            }
        }
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl")]
    unsafe fn tile_rows<const FORMAT: u8, const ROWS: usize>(
        panel: &Panel<'_>,
        x: &[f32],
        sums: &mut [[f32; PANEL]; MAX_TILE_ROWS],
    ) {
        let k = panel.k;
        let whole = k - k % LANES;
        let w = panel.row_pointers();
        let mut acc = [[_mm512_setzero_ps(); PANEL]; ROWS];
        // SAFETY: every load below reads inside row `i` of `x` or row `j` of the panel; the tail
        // loads are masked to the `k % 16` values that are left.
        unsafe {
            let mut at = 0;
            while at < whole {
                let mut x_lanes = [_mm512_setzero_ps(); ROWS];
                for i in 0..ROWS {
                    x_lanes[i] = _mm512_loadu_ps(x.as_ptr().add(i * k + at));
                }
                for j in 0..PANEL {
                    let w_lanes = load::<FORMAT>(w[j], at);
                    for i in 0..ROWS {
                        acc[i][j] = _mm512_fmadd_ps(x_lanes[i], w_lanes, acc[i][j]);
                    }
                }
                at += LANES;
            }
            if whole < k {
                let mask = (1u16 << (k - whole)) - 1;
                for i in 0..ROWS {
                    let x_lanes = _mm512_maskz_loadu_ps(mask, x.as_ptr().add(i * k + whole));
                    for j in 0..PANEL {
                        let w_lanes = load_tail::<FORMAT>(w[j], whole, mask);
                        acc[i][j] = _mm512_fmadd_ps(x_lanes, w_lanes, acc[i][j]);
                    }
                }
            }
            for i in 0..ROWS {
                for j in 0..PANEL {
                    sums[i][j] = sum_lanes(acc[i][j]);
                }
            }
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

    /// The fixed tree of the portable reference, in registers.
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl")]
    fn sum_lanes(lanes: __m512) -> f32 {
        let by_8 = _mm256_add_ps(_mm512_castps512_ps256(lanes), _mm512_extractf32x8_ps::<1>(lanes));
        let by_4 = _mm_add_ps(_mm256_castps256_ps128(by_8), _mm256_extractf128_ps::<1>(by_8));
        let by_2 = _mm_add_ps(by_4, _mm_movehl_ps(by_4, by_4));
        let by_1 = _mm_add_ss(by_2, _mm_shuffle_ps::<1>(by_2, by_2));
        _mm_cvtss_f32(by_1)
    }
}
