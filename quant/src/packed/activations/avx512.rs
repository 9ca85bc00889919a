//! One slice at a time in 512-bit registers, by the arithmetic of [`super::round_slice`].

use std::arch::x86_64::*;

use super::{Line, NegativeSums, ROUND, SLICE};

/// Rounds a slice into a line of each plane that is given; the second plane may be absent. Returns
/// the negative sums of the first plane and the sum of the second.
///
/// # Safety
/// AVX-512 F, BW, DQ and VL.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl")]
pub(super) unsafe fn round_slice(
    x: &[f32; SLICE],
    inverse: f32,
    high: &mut Line,
    low: Option<&mut Line>,
) -> (NegativeSums, i32) {
    let round = _mm512_set1_ps(ROUND);
    let bits = _mm512_castps_si512(round);
    let finite = if inverse == 0.0 { 0 } else { u16::MAX };
    let mut rest = [_mm512_setzero_ps(); 4];
    for (q, rest) in rest.iter_mut().enumerate() {
        // SAFETY: 16 of 64 values, and 16 of 64 bytes.
        unsafe {
            let values = _mm512_loadu_ps(x.as_ptr().add(16 * q));
            let value = _mm512_maskz_mul_ps(finite, values, _mm512_set1_ps(inverse));
            let shifted = _mm512_add_ps(value, round);
            let integers = _mm512_sub_epi32(_mm512_castps_si512(shifted), bits);
            let bytes = _mm512_cvtepi32_epi8(integers);
            _mm_store_si128(high.0.as_mut_ptr().add(16 * q).cast(), bytes);
            *rest = _mm512_sub_ps(value, _mm512_sub_ps(shifted, round));
        }
    }
    let sums = sums_of_16(high);
    let order = _mm512_set_epi32(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 12, 4, 8, 0);
    let sums = _mm512_castsi512_si128(_mm512_permutexvar_epi32(order, sums));
    let negative = _mm_cvtepi32_epi16(_mm_sub_epi32(_mm_setzero_si128(), sums));
    let negative = _mm_cvtsi128_si64(negative).to_ne_bytes();
    let pairs = negative.as_chunks::<2>().0;
    let negative_sums = std::array::from_fn(|i| i16::from_ne_bytes(pairs[i]));
    let Some(low) = low else { return (negative_sums, 0) };
    for (q, rest) in rest.into_iter().enumerate() {
        let shifted = _mm512_add_ps(_mm512_mul_ps(rest, _mm512_set1_ps(256.0)), round);
        let integers = _mm512_sub_epi32(_mm512_castps_si512(shifted), bits);
        let integers = _mm512_min_epi32(integers, _mm512_set1_epi32(127));
        let integers = _mm512_max_epi32(integers, _mm512_set1_epi32(-127));
        // SAFETY: 16 of 64 bytes.
        unsafe {
            let place = low.0.as_mut_ptr().add(16 * q).cast();
            _mm_store_si128(place, _mm512_cvtepi32_epi8(integers));
        }
    }
    let sums = sums_of_16(low);
    let sums = _mm512_maskz_mov_epi32(0x1111, sums);
    (negative_sums, _mm512_reduce_add_epi32(sums))
}

/// The sum of each 16 bytes of a line, in all four lanes of its quarter.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl")]
fn sums_of_16(line: &Line) -> __m512i {
    // SAFETY: a line is 64 aligned bytes.
    let bytes = unsafe { _mm512_load_si512(line.0.as_ptr().cast()) };
    let pairs = _mm512_maddubs_epi16(_mm512_set1_epi8(1), bytes);
    let quads = _mm512_madd_epi16(pairs, _mm512_set1_epi16(1));
    let eights = _mm512_add_epi32(quads, _mm512_shuffle_epi32::<0xb1>(quads));
    _mm512_add_epi32(eights, _mm512_shuffle_epi32::<0x4e>(eights))
}
