//! The tile with two 256-bit registers for the 16 lanes, four weight rows at a time.

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

    /// Weight rows whose sums fit the sixteen registers.
    const HALF_PANEL: usize = PANEL / 2;

    /// `sums[i][j]` = row `i` of `x` times row `j` of the panel.
    pub(in crate::kernels) fn tile(
        panel: &Panel<'_>,
        x: &[f32],
        rows: usize,
        sums: &mut [[f32; PANEL]; MAX_TILE_ROWS],
    ) {
        for (x_row, row_sums) in x.chunks_exact(panel.k).zip(sums.iter_mut()).take(rows) {
            for first in (0..panel.count).step_by(HALF_PANEL) {
                // SAFETY: the caller chose this level by detection; `x_row` and the rows of the
                // panel hold `k` values each.
                let quad = unsafe {
                    match panel.format {
                        Format::Bf16 => row_times_quad::<BF16>(panel, x_row, first),
                        Format::F16 => row_times_quad::<F16>(panel, x_row, first),
                        _ => row_times_quad::<F32>(panel, x_row, first),
                    }
                };
                row_sums[first..first + HALF_PANEL].copy_from_slice(&quad);
            }
        }
    }

    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn row_times_quad<const FORMAT: u8>(
        panel: &Panel<'_>,
        x: &[f32],
        first: usize,
    ) -> [f32; HALF_PANEL] {
        let k = panel.k;
        let whole = k - k % LANES;
        let w = panel.row_pointers();
        let mut acc = [[_mm256_setzero_ps(); 2]; HALF_PANEL];
        // SAFETY: whole loads stay below `whole <= k`; the tail is copied into padded arrays.
        unsafe {
            let mut at = 0;
            while at < whole {
                let low = _mm256_loadu_ps(x.as_ptr().add(at));
                let high = _mm256_loadu_ps(x.as_ptr().add(at + 8));
                for j in 0..HALF_PANEL {
                    let row = w[first + j];
                    acc[j][0] = _mm256_fmadd_ps(low, load::<FORMAT>(row, at), acc[j][0]);
                    acc[j][1] = _mm256_fmadd_ps(high, load::<FORMAT>(row, at + 8), acc[j][1]);
                }
                at += LANES;
            }
            if whole < k {
                let width = if FORMAT == F32 { 4 } else { 2 };
                let mut x_tail = [0.0f32; LANES];
                x_tail[..k - whole].copy_from_slice(&x[whole..]);
                let low = _mm256_loadu_ps(x_tail.as_ptr());
                let high = _mm256_loadu_ps(x_tail.as_ptr().add(8));
                for j in 0..HALF_PANEL {
                    let mut w_tail = [0u8; LANES * 4];
                    let row = w[first + j].add(whole * width);
                    std::ptr::copy_nonoverlapping(row, w_tail.as_mut_ptr(), (k - whole) * width);
                    let row = w_tail.as_ptr();
                    acc[j][0] = _mm256_fmadd_ps(low, load::<FORMAT>(row, 0), acc[j][0]);
                    acc[j][1] = _mm256_fmadd_ps(high, load::<FORMAT>(row, 8), acc[j][1]);
                }
            }
        }
        std::array::from_fn(|j| sum_lanes(acc[j]))
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn load<const FORMAT: u8>(row: *const u8, at: usize) -> __m256 {
        // SAFETY: 8 values from `at` on lie inside the row.
        unsafe {
            match FORMAT {
                BF16 => {
                    let halves = _mm_loadu_si128(row.add(2 * at).cast());
                    _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(halves)))
                }
                F16 => _mm256_cvtph_ps(_mm_loadu_si128(row.add(2 * at).cast())),
                _ => _mm256_loadu_ps(row.add(4 * at).cast()),
            }
        }
    }

    /// The fixed tree of the portable reference, in registers.
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    fn sum_lanes(lanes: [__m256; 2]) -> f32 {
        let by_8 = _mm256_add_ps(lanes[0], lanes[1]);
        let by_4 = _mm_add_ps(_mm256_castps256_ps128(by_8), _mm256_extractf128_ps::<1>(by_8));
        let by_2 = _mm_add_ps(by_4, _mm_movehl_ps(by_4, by_4));
        let by_1 = _mm_add_ss(by_2, _mm_shuffle_ps::<1>(by_2, by_2));
        _mm_cvtss_f32(by_1)
    }
}
