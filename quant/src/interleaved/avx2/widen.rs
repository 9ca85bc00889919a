//! Integers of a line as 16-bit lanes.

use std::arch::x86_64::*;

use crate::interleaved::{LINE, WIDTH, kind::Kind};

/// `q` of one quad of columns of eight outputs, without its zero taken off: columns 0 and 2, then
/// columns 1 and 3. `half` is 0 for the unit's first 16 columns and 1 for the others, `quad` counts
/// from there.
///
/// # Safety
/// AVX2; `unit` is followed by the lines of a unit, or points to byte 32 of their first.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn quad<K: Kind>(unit: *const u8, half: usize, quad: usize) -> [__m256i; 2] {
    // SAFETY: by the caller's promise.
    let line = |line: usize| unsafe { _mm256_loadu_si256(unit.add(line * LINE).cast()) };
    if K::BITS == 8 {
        let both = line(4 * half + quad);
        return [
            _mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(both)),
            _mm256_srai_epi16::<8>(both),
        ];
    }
    let nibbles = line(quad);
    let low = _mm256_set1_epi16(15);
    let [even, odd] = if half == 0 {
        let odd = _mm256_and_si256(_mm256_srli_epi16::<8>(nibbles), low);
        [_mm256_and_si256(nibbles, low), odd]
    } else {
        let even = _mm256_and_si256(_mm256_srli_epi16::<4>(nibbles), low);
        [even, _mm256_srli_epi16::<12>(nibbles)]
    };
    // Where the high bits of the even column are; those of the odd one are 8 above.
    let (high, at, mask) = match K::BITS {
        4 => return [even, odd],
        5 => (line(4), 4 * half + quad, _mm256_set1_epi16(1 << 4)),
        _ => (line(4 + half), 2 * quad, _mm256_set1_epi16(3 << 4)),
    };
    let high_even = if at <= 4 {
        _mm256_sll_epi16(high, _mm_cvtsi32_si128(4 - at as i32))
    } else {
        _mm256_srl_epi16(high, _mm_cvtsi32_si128(at as i32 - 4))
    };
    let high_odd = _mm256_srl_epi16(high, _mm_cvtsi32_si128(4 + at as i32));
    [
        _mm256_or_si256(even, _mm256_and_si256(high_even, mask)),
        _mm256_or_si256(odd, _mm256_and_si256(high_odd, mask)),
    ]
}

/// Eight half-precision numbers of 16, from byte 16 · `half`.
///
/// # Safety
/// F16C; 32 bytes follow `halves`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn floats(halves: *const u8, half: usize) -> __m256 {
    // SAFETY: by the caller's promise.
    unsafe { _mm256_cvtph_ps(_mm_loadu_si128(halves.add(half * WIDTH).cast())) }
}

/// The integer scales of eight outputs of 16 in sub-block `sub`, as 32 bits.
///
/// # Safety
/// AVX2; `16 · (sub + 1)` bytes follow `subs`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn integers<K: Kind>(subs: *const u8, sub: usize, half: usize) -> __m256i {
    // SAFETY: by the caller's promise.
    let bytes = unsafe { _mm_loadl_epi64(subs.add(sub * WIDTH + half * 8).cast()) };
    if K::BITS == 6 { _mm256_cvtepi8_epi32(bytes) } else { _mm256_cvtepu8_epi32(bytes) }
}
