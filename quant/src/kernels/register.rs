//! Sixteen floats as one value, for kernels that must know what stays in registers.
//!
//! Each instruction set implements the same arithmetic, bit for bit, so a kernel is written once
//! over a [`Register`] and compiled for each. Minimum and maximum are x86's: the second operand
//! where a comparison is false.

use super::{LANES, portable::sum_lanes};

/// Sixteen lanes.
///
/// # Safety
/// Methods may only be called where the processor has the implementation's instruction set, and
/// pointers must be good for 16 values (of any alignment).
pub(crate) trait Register: Copy {
    /// Rows whose sums for [`Register::COLUMNS`] registers fit the register file.
    const ROWS: usize;
    /// Registers of one row in a tile.
    const COLUMNS: usize;

    unsafe fn splat(value: f32) -> Self;
    unsafe fn load(at: *const f32) -> Self;
    unsafe fn load_f16(at: *const half::f16) -> Self;
    unsafe fn load_bf16(at: *const half::bf16) -> Self;
    unsafe fn store(self, at: *mut f32);
    unsafe fn add(self, other: Self) -> Self;
    unsafe fn sub(self, other: Self) -> Self;
    unsafe fn mul(self, other: Self) -> Self;
    unsafe fn div(self, other: Self) -> Self;
    /// `self · factor + addend`, rounded once.
    unsafe fn mul_add(self, factor: Self, addend: Self) -> Self;
    /// `self > other ? self : other`.
    unsafe fn max(self, other: Self) -> Self;
    /// `self < other ? self : other`.
    unsafe fn min(self, other: Self) -> Self;
    /// For lanes that hold `n + 1.5 · 2²³` with a small integer `n`: `2^n`.
    unsafe fn power_of_two(self) -> Self;
    /// `x < limit ? 0 : self`.
    unsafe fn zero_below(self, x: Self, limit: f32) -> Self;
    /// The sum over the fixed tree of lanes 8, 4, 2 and 1 apart.
    unsafe fn sum(self) -> f32;
    /// The largest lane, over the same tree.
    unsafe fn largest(self) -> f32;
}

/// The reference.
#[derive(Clone, Copy)]
pub(crate) struct Portable([f32; LANES]);

macro_rules! lanewise {
    ($l:ident => $value:expr) => {{
        let mut out = [0.0; LANES];
        for $l in 0..LANES {
            out[$l] = $value;
        }
        Self(out)
    }};
}

impl Register for Portable {
    const ROWS: usize = 4;
    const COLUMNS: usize = 1;

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        Self([value; LANES])
    }

    #[inline(always)]
    unsafe fn load(at: *const f32) -> Self {
        // SAFETY: 16 values, by the caller's promise.
        Self(unsafe { at.cast::<[f32; LANES]>().read_unaligned() })
    }

    #[inline(always)]
    unsafe fn load_f16(at: *const half::f16) -> Self {
        // SAFETY: as above.
        let halves = unsafe { at.cast::<[half::f16; LANES]>().read_unaligned() };
        lanewise!(l => halves[l].to_f32())
    }

    #[inline(always)]
    unsafe fn load_bf16(at: *const half::bf16) -> Self {
        // SAFETY: as above.
        let halves = unsafe { at.cast::<[half::bf16; LANES]>().read_unaligned() };
        lanewise!(l => halves[l].to_f32())
    }

    #[inline(always)]
    unsafe fn store(self, at: *mut f32) {
        // SAFETY: as above.
        unsafe { at.cast::<[f32; LANES]>().write_unaligned(self.0) }
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        lanewise!(l => self.0[l] + other.0[l])
    }

    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        lanewise!(l => self.0[l] - other.0[l])
    }

    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        lanewise!(l => self.0[l] * other.0[l])
    }

    #[inline(always)]
    unsafe fn div(self, other: Self) -> Self {
        lanewise!(l => self.0[l] / other.0[l])
    }

    #[inline(always)]
    unsafe fn mul_add(self, factor: Self, addend: Self) -> Self {
        lanewise!(l => self.0[l].mul_add(factor.0[l], addend.0[l]))
    }

    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        lanewise!(l => if self.0[l] > other.0[l] { self.0[l] } else { other.0[l] })
    }

    #[inline(always)]
    unsafe fn min(self, other: Self) -> Self {
        lanewise!(l => if self.0[l] < other.0[l] { self.0[l] } else { other.0[l] })
    }

    #[inline(always)]
    unsafe fn power_of_two(self) -> Self {
        lanewise!(l => f32::from_bits((self.0[l].to_bits() << 23).wrapping_add(127 << 23)))
    }

    #[inline(always)]
    unsafe fn zero_below(self, x: Self, limit: f32) -> Self {
        lanewise!(l => if x.0[l] < limit { 0.0 } else { self.0[l] })
    }

    #[inline(always)]
    unsafe fn sum(self) -> f32 {
        sum_lanes(self.0)
    }

    #[inline(always)]
    unsafe fn largest(self) -> f32 {
        let mut lanes = self.0;
        let mut half = LANES / 2;
        while half > 0 {
            for l in 0..half {
                lanes[l] = if lanes[l] > lanes[l + half] { lanes[l] } else { lanes[l + half] };
            }
            half /= 2;
        }
        lanes[0]
    }
}

#[cfg(target_arch = "x86_64")]
pub(crate) use x86::{Avx2, Avx512};

#[cfg(target_arch = "x86_64")]
mod x86 {
    // Every method of an implementation is one or two instructions of its set.
    #![allow(clippy::undocumented_unsafe_blocks)]

    use std::arch::x86_64::*;

    use super::Register;

    /// The last two steps of the tree: lanes 2 and 1 apart.
    macro_rules! fold_4 {
        ($by_4:expr, $two:ident, $one:ident) => {{
            let by_4 = $by_4;
            let by_2 = $two(by_4, _mm_movehl_ps(by_4, by_4));
            _mm_cvtss_f32($one(by_2, _mm_shuffle_ps::<1>(by_2, by_2)))
        }};
    }

    /// One register of AVX-512.
    #[derive(Clone, Copy)]
    pub(crate) struct Avx512(__m512);

    impl Register for Avx512 {
        const ROWS: usize = 8;
        const COLUMNS: usize = 2;

        #[inline(always)]
        unsafe fn splat(value: f32) -> Self {
            Self(unsafe { _mm512_set1_ps(value) })
        }

        #[inline(always)]
        unsafe fn load(at: *const f32) -> Self {
            Self(unsafe { _mm512_loadu_ps(at) })
        }

        #[inline(always)]
        unsafe fn load_f16(at: *const half::f16) -> Self {
            Self(unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(at.cast())) })
        }

        #[inline(always)]
        unsafe fn load_bf16(at: *const half::bf16) -> Self {
            unsafe {
                let wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(at.cast()));
                Self(_mm512_castsi512_ps(_mm512_slli_epi32::<16>(wide)))
            }
        }

        #[inline(always)]
        unsafe fn store(self, at: *mut f32) {
            unsafe { _mm512_storeu_ps(at, self.0) }
        }

        #[inline(always)]
        unsafe fn add(self, other: Self) -> Self {
            Self(unsafe { _mm512_add_ps(self.0, other.0) })
        }

        #[inline(always)]
        unsafe fn sub(self, other: Self) -> Self {
            Self(unsafe { _mm512_sub_ps(self.0, other.0) })
        }

        #[inline(always)]
        unsafe fn mul(self, other: Self) -> Self {
            Self(unsafe { _mm512_mul_ps(self.0, other.0) })
        }

        #[inline(always)]
        unsafe fn div(self, other: Self) -> Self {
            Self(unsafe { _mm512_div_ps(self.0, other.0) })
        }

        #[inline(always)]
        unsafe fn mul_add(self, factor: Self, addend: Self) -> Self {
            Self(unsafe { _mm512_fmadd_ps(self.0, factor.0, addend.0) })
        }

        #[inline(always)]
        unsafe fn max(self, other: Self) -> Self {
            Self(unsafe { _mm512_max_ps(self.0, other.0) })
        }

        #[inline(always)]
        unsafe fn min(self, other: Self) -> Self {
            Self(unsafe { _mm512_min_ps(self.0, other.0) })
        }

        #[inline(always)]
        unsafe fn power_of_two(self) -> Self {
            unsafe {
                let shifted = _mm512_slli_epi32::<23>(_mm512_castps_si512(self.0));
                Self(_mm512_castsi512_ps(_mm512_add_epi32(shifted, _mm512_set1_epi32(127 << 23))))
            }
        }

        #[inline(always)]
        unsafe fn zero_below(self, x: Self, limit: f32) -> Self {
            unsafe {
                let keep = _mm512_cmp_ps_mask::<_CMP_NLT_UQ>(x.0, _mm512_set1_ps(limit));
                Self(_mm512_maskz_mov_ps(keep, self.0))
            }
        }

        #[inline(always)]
        unsafe fn sum(self) -> f32 {
            unsafe {
                let (low, high) =
                    (_mm512_castps512_ps256(self.0), _mm512_extractf32x8_ps::<1>(self.0));
                sum_8(_mm256_add_ps(low, high))
            }
        }

        #[inline(always)]
        unsafe fn largest(self) -> f32 {
            unsafe {
                let (low, high) =
                    (_mm512_castps512_ps256(self.0), _mm512_extractf32x8_ps::<1>(self.0));
                largest_8(_mm256_max_ps(low, high))
            }
        }
    }

    #[inline(always)]
    unsafe fn sum_8(by_8: __m256) -> f32 {
        unsafe {
            let (low, high) = (_mm256_castps256_ps128(by_8), _mm256_extractf128_ps::<1>(by_8));
            fold_4!(_mm_add_ps(low, high), _mm_add_ps, _mm_add_ss)
        }
    }

    #[inline(always)]
    unsafe fn largest_8(by_8: __m256) -> f32 {
        unsafe {
            let (low, high) = (_mm256_castps256_ps128(by_8), _mm256_extractf128_ps::<1>(by_8));
            fold_4!(_mm_max_ps(low, high), _mm_max_ps, _mm_max_ss)
        }
    }

    /// Two registers of AVX2.
    #[derive(Clone, Copy)]
    pub(crate) struct Avx2(__m256, __m256);

    macro_rules! both {
        ($op:ident, $a:expr $(, $b:expr)*) => {
            Self(unsafe { $op($a.0 $(, $b.0)*) }, unsafe { $op($a.1 $(, $b.1)*) })
        };
    }

    impl Register for Avx2 {
        const ROWS: usize = 4;
        const COLUMNS: usize = 1;

        #[inline(always)]
        unsafe fn splat(value: f32) -> Self {
            let half = unsafe { _mm256_set1_ps(value) };
            Self(half, half)
        }

        #[inline(always)]
        unsafe fn load(at: *const f32) -> Self {
            unsafe { Self(_mm256_loadu_ps(at), _mm256_loadu_ps(at.add(8))) }
        }

        #[inline(always)]
        unsafe fn load_f16(at: *const half::f16) -> Self {
            unsafe {
                let low = _mm_loadu_si128(at.cast());
                let high = _mm_loadu_si128(at.add(8).cast());
                Self(_mm256_cvtph_ps(low), _mm256_cvtph_ps(high))
            }
        }

        #[inline(always)]
        unsafe fn load_bf16(at: *const half::bf16) -> Self {
            unsafe {
                let low = _mm256_cvtepu16_epi32(_mm_loadu_si128(at.cast()));
                let high = _mm256_cvtepu16_epi32(_mm_loadu_si128(at.add(8).cast()));
                Self(
                    _mm256_castsi256_ps(_mm256_slli_epi32::<16>(low)),
                    _mm256_castsi256_ps(_mm256_slli_epi32::<16>(high)),
                )
            }
        }

        #[inline(always)]
        unsafe fn store(self, at: *mut f32) {
            unsafe {
                _mm256_storeu_ps(at, self.0);
                _mm256_storeu_ps(at.add(8), self.1);
            }
        }

        #[inline(always)]
        unsafe fn add(self, other: Self) -> Self {
            both!(_mm256_add_ps, self, other)
        }

        #[inline(always)]
        unsafe fn sub(self, other: Self) -> Self {
            both!(_mm256_sub_ps, self, other)
        }

        #[inline(always)]
        unsafe fn mul(self, other: Self) -> Self {
            both!(_mm256_mul_ps, self, other)
        }

        #[inline(always)]
        unsafe fn div(self, other: Self) -> Self {
            both!(_mm256_div_ps, self, other)
        }

        #[inline(always)]
        unsafe fn mul_add(self, factor: Self, addend: Self) -> Self {
            both!(_mm256_fmadd_ps, self, factor, addend)
        }

        #[inline(always)]
        unsafe fn max(self, other: Self) -> Self {
            both!(_mm256_max_ps, self, other)
        }

        #[inline(always)]
        unsafe fn min(self, other: Self) -> Self {
            both!(_mm256_min_ps, self, other)
        }

        #[inline(always)]
        unsafe fn power_of_two(self) -> Self {
            unsafe {
                let one = _mm256_set1_epi32(127 << 23);
                let low = _mm256_slli_epi32::<23>(_mm256_castps_si256(self.0));
                let high = _mm256_slli_epi32::<23>(_mm256_castps_si256(self.1));
                Self(
                    _mm256_castsi256_ps(_mm256_add_epi32(low, one)),
                    _mm256_castsi256_ps(_mm256_add_epi32(high, one)),
                )
            }
        }

        #[inline(always)]
        unsafe fn zero_below(self, x: Self, limit: f32) -> Self {
            unsafe {
                let limit = _mm256_set1_ps(limit);
                let low = _mm256_cmp_ps::<_CMP_NLT_UQ>(x.0, limit);
                let high = _mm256_cmp_ps::<_CMP_NLT_UQ>(x.1, limit);
                Self(_mm256_and_ps(low, self.0), _mm256_and_ps(high, self.1))
            }
        }

        #[inline(always)]
        unsafe fn sum(self) -> f32 {
            unsafe { sum_8(_mm256_add_ps(self.0, self.1)) }
        }

        #[inline(always)]
        unsafe fn largest(self) -> f32 {
            unsafe { largest_8(_mm256_max_ps(self.0, self.1)) }
        }
    }
}

/// `e^x` for 16 values, to about 2 units in the last place; 0 below -87.3.
///
/// Range reduction to `x = n ln 2 + r` and Cephes' polynomial of degree 6 for `e^r`
/// (Moshier, `expf.c`). Only fused multiply-adds and integer steps, so all levels agree.
///
/// # Safety
/// That of [`Register`].
#[inline(always)]
pub(crate) unsafe fn exp<V: Register>(x: V) -> V {
    /// 1.5 · 2²³: adding it rounds to an integer and leaves that in the low bits.
    const ROUND: f32 = 12_582_912.0;
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    const LOWEST: f32 = -87.3;
    // SAFETY: the caller's promise.
    unsafe {
        let clamped = V::splat(88.3).min(V::splat(LOWEST).max(x));
        let rounded = clamped.mul_add(V::splat(std::f32::consts::LOG2_E), V::splat(ROUND));
        let n = rounded.sub(V::splat(ROUND));
        let r = n.mul_add(V::splat(-LN2_LOW), n.mul_add(V::splat(-LN2_HIGH), clamped));
        let mut p = V::splat(1.987_569_1e-4);
        p = p.mul_add(r, V::splat(1.398_2e-3));
        p = p.mul_add(r, V::splat(8.333_452e-3));
        p = p.mul_add(r, V::splat(4.166_579_6e-2));
        p = p.mul_add(r, V::splat(1.666_666_5e-1));
        p = p.mul_add(r, V::splat(5e-1));
        let e_r = p.mul_add(r.mul(r), r).add(V::splat(1.0));
        e_r.mul(rounded.power_of_two()).zero_below(x, LOWEST)
    }
}
