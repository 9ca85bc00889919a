//! q4 weights as bytes.

use std::arch::x86_64::*;

/// Writes `s · (q - z)` of one slice as bytes, and fetches what lies `AHEAD` bytes on.
///
/// # Safety
/// AVX-512; 512 bytes follow `values`, 64 follow `steps`, 1,024 aligned ones follow `out`.
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
pub(super) unsafe fn expand<const AHEAD: usize>(values: *const u8, steps: *const u8, out: *mut u8) {
    let low = _mm512_set1_epi8(15);
    // SAFETY: by the caller's promise.
    unsafe {
        let steps = _mm512_loadu_si512(steps.cast());
        for sub in 0..4 {
            // The step of each output's 16 columns, once in each half of its lane.
            let pick = _mm512_add_epi16(
                _mm512_set4_epi32(
                    0x800c_800c_u32 as i32,
                    0x8008_8008_u32 as i32,
                    0x8004_8004_u32 as i32,
                    0x8000_8000_u32 as i32,
                ),
                _mm512_set1_epi16(sub as i16),
            );
            let step = _mm512_shuffle_epi8(steps, pick);
            let s = _mm512_add_epi16(
                _mm512_and_si512(step, _mm512_set1_epi16(15)),
                _mm512_set1_epi16(1),
            );
            let zero = _mm512_mullo_epi16(s, _mm512_srli_epi16::<4>(step));
            let zero = _mm512_or_si512(zero, _mm512_slli_epi16::<8>(zero));
            for t in 0..4 {
                let at = values.add(64 * (sub % 2 * 4 + t));
                if sub < 2 {
                    _mm_prefetch::<_MM_HINT_T1>(at.wrapping_add(AHEAD).cast());
                }
                let both = _mm512_loadu_si512(at.cast());
                let q = if sub < 2 { both } else { _mm512_srli_epi16::<4>(both) };
                // Two products of at most 15 · 16 in one multiplication: no carry between bytes.
                let scaled = _mm512_mullo_epi16(_mm512_and_si512(q, low), s);
                let bytes = _mm512_sub_epi8(scaled, zero);
                _mm512_store_si512(out.add(64 * (4 * sub + t)).cast(), bytes);
            }
        }
    }
}
