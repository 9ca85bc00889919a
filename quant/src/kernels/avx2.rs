//! The tile with two 256-bit registers for the 16 lanes, four weight rows at a time.

#[cfg(target_arch = "x86_64")]
pub(super) use x86::accumulate;

#[cfg(not(target_arch = "x86_64"))]
pub(super) use super::portable::accumulate;

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use crate::{
        Format,
        kernels::{
            LANES,
            matmul::{PANEL, Panel, TileLanes, XTile},
        },
    };

    const F32: u8 = 0;
    const BF16: u8 = 1;
    const F16: u8 = 2;

    /// Weight rows whose sums fit the sixteen registers.
    const HALF_PANEL: usize = PANEL / 2;

    /// Adds the products of each row of `x` with each row of the panel to their lanes.
    pub(in crate::kernels) fn accumulate(panel: &Panel<'_>, x: &XTile<'_>, sums: &mut TileLanes) {
        for (i, sums) in sums.0.iter_mut().enumerate().take(x.rows) {
            let x = x.row(i, panel.k);
            for (half, sums) in sums.chunks_exact_mut(HALF_PANEL).enumerate() {
                let first = half * HALF_PANEL;
                if first >= panel.count {
                    continue;
                }
                // SAFETY: the caller chose this level by detection.
                unsafe {
                    match panel.format {
                        Format::Bf16 => row_times_quad::<BF16>(panel, x, first, sums),
                        Format::F16 => row_times_quad::<F16>(panel, x, first, sums),
                        _ => row_times_quad::<F32>(panel, x, first, sums),
                    }
                }
            }
        }
    }

    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn row_times_quad<const FORMAT: u8>(
        panel: &Panel<'_>,
        x: &[f32],
        first: usize,
        sums: &mut [[f32; LANES]],
    ) {
        let k = panel.k;
        let whole = k - k % LANES;
        // Checked slices of `k` values.
        let w: [*const u8; HALF_PANEL] = std::array::from_fn(|j| panel.row(first + j).as_ptr());
        let mut acc = [[_mm256_setzero_ps(); 2]; HALF_PANEL];
        // SAFETY: whole loads stay below `whole <= k`; the tail is copied into padded arrays.
        unsafe {
            for j in 0..HALF_PANEL {
                acc[j][0] = _mm256_loadu_ps(sums[j].as_ptr());
                acc[j][1] = _mm256_loadu_ps(sums[j].as_ptr().add(8));
            }
            let mut at = 0;
            while at < whole {
                let low = _mm256_loadu_ps(x.as_ptr().add(at));
                let high = _mm256_loadu_ps(x.as_ptr().add(at + 8));
                for j in 0..HALF_PANEL {
                    acc[j][0] = _mm256_fmadd_ps(low, load::<FORMAT>(w[j], at), acc[j][0]);
                    acc[j][1] = _mm256_fmadd_ps(high, load::<FORMAT>(w[j], at + 8), acc[j][1]);
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
                    let row = w[j].add(whole * width);
                    std::ptr::copy_nonoverlapping(row, w_tail.as_mut_ptr(), (k - whole) * width);
                    let row = w_tail.as_ptr();
                    acc[j][0] = _mm256_fmadd_ps(low, load::<FORMAT>(row, 0), acc[j][0]);
                    acc[j][1] = _mm256_fmadd_ps(high, load::<FORMAT>(row, 8), acc[j][1]);
                }
            }
            for j in 0..HALF_PANEL {
                _mm256_storeu_ps(sums[j].as_mut_ptr(), acc[j][0]);
                _mm256_storeu_ps(sums[j].as_mut_ptr().add(8), acc[j][1]);
            }
        }
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
}
