//! The instructions that the kernel needs, and what they mean.

/// 512-bit registers of integers and of floats, and what is done with them.
pub(super) trait Isa {
    /// 64 bytes, or 16 integers of 32 bits.
    type Integers: Copy;
    /// 16 floats.
    type Floats: Copy;

    /// 64 bytes.
    ///
    /// # Safety
    /// The instructions are there and the bytes can be read.
    unsafe fn load(from: *const u8) -> Self::Integers;
    /// 16 bytes, widened to 32 bits with or without a sign.
    ///
    /// # Safety
    /// As [`Isa::load`].
    unsafe fn load_bytes<const SIGNED: bool>(from: *const u8) -> Self::Integers;
    /// 16 half-precision numbers.
    ///
    /// # Safety
    /// As [`Isa::load`].
    unsafe fn load_halves(from: *const u8) -> Self::Floats;
    /// 16 floats to memory.
    ///
    /// # Safety
    /// The instructions are there and the floats can be written.
    unsafe fn store(to: *mut f32, floats: Self::Floats);
    /// One integer in all lanes.
    ///
    /// # Safety
    /// The instructions are there; so for all that follow.
    unsafe fn splat(value: i32) -> Self::Integers;
    /// One float in all lanes.
    ///
    /// # Safety
    /// As [`Isa::splat`].
    unsafe fn splat_float(value: f32) -> Self::Floats;
    /// Bits of both.
    ///
    /// # Safety
    /// As [`Isa::splat`].
    unsafe fn and(a: Self::Integers, b: Self::Integers) -> Self::Integers;
    /// Bits of either.
    ///
    /// # Safety
    /// As [`Isa::splat`].
    unsafe fn or(a: Self::Integers, b: Self::Integers) -> Self::Integers;
    /// Bits of one alone.
    ///
    /// # Safety
    /// As [`Isa::splat`].
    unsafe fn xor(a: Self::Integers, b: Self::Integers) -> Self::Integers;
    /// Lanes of 16 bits, shifted to the left, or to the right where `by` is negative.
    ///
    /// # Safety
    /// As [`Isa::splat`].
    unsafe fn shift_16(a: Self::Integers, by: i32) -> Self::Integers;
    /// 32 bits times 256.
    ///
    /// # Safety
    /// As [`Isa::splat`].
    unsafe fn times_256(a: Self::Integers) -> Self::Integers;
    /// Sums of 32 bits.
    ///
    /// # Safety
    /// As [`Isa::splat`].
    unsafe fn add(a: Self::Integers, b: Self::Integers) -> Self::Integers;
    /// Products of 32 bits.
    ///
    /// # Safety
    /// As [`Isa::splat`].
    unsafe fn multiply(a: Self::Integers, b: Self::Integers) -> Self::Integers;
    /// `sums` plus four products each of an unsigned and a signed byte.
    ///
    /// # Safety
    /// As [`Isa::splat`].
    unsafe fn dot(
        sums: Self::Integers,
        unsigned: Self::Integers,
        signed: Self::Integers,
    ) -> Self::Integers;
    /// The nearest floats.
    ///
    /// # Safety
    /// As [`Isa::splat`].
    unsafe fn to_floats(a: Self::Integers) -> Self::Floats;
    /// `a · b + c`, rounded once; `SUBTRACT`: `c - a · b`.
    ///
    /// # Safety
    /// As [`Isa::splat`].
    unsafe fn fma<const SUBTRACT: bool>(
        a: Self::Floats,
        b: Self::Floats,
        c: Self::Floats,
    ) -> Self::Floats;
}

/// The processor's own: AVX-512 F, BW and VNNI.
#[cfg(target_arch = "x86_64")]
pub(super) struct Avx512Vnni;

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{Avx512Vnni, Isa};

    // Inlined into a function with the features, without which none of these may be called.
    impl Isa for Avx512Vnni {
        type Integers = __m512i;
        type Floats = __m512;

        #[inline(always)]
        unsafe fn load(from: *const u8) -> __m512i {
            // SAFETY: by the caller's promise, here and below.
            unsafe { _mm512_loadu_si512(from.cast()) }
        }

        #[inline(always)]
        unsafe fn load_bytes<const SIGNED: bool>(from: *const u8) -> __m512i {
            // SAFETY: as above.
            unsafe {
                let bytes = _mm_loadu_si128(from.cast());
                if SIGNED { _mm512_cvtepi8_epi32(bytes) } else { _mm512_cvtepu8_epi32(bytes) }
            }
        }

        #[inline(always)]
        unsafe fn load_halves(from: *const u8) -> __m512 {
            // SAFETY: as above.
            unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(from.cast())) }
        }

        #[inline(always)]
        unsafe fn store(to: *mut f32, floats: __m512) {
            // SAFETY: as above.
            unsafe { _mm512_storeu_ps(to, floats) }
        }

        #[inline(always)]
        unsafe fn splat(value: i32) -> __m512i {
            // SAFETY: as above.
            unsafe { _mm512_set1_epi32(value) }
        }

        #[inline(always)]
        unsafe fn splat_float(value: f32) -> __m512 {
            // SAFETY: as above.
            unsafe { _mm512_set1_ps(value) }
        }

        #[inline(always)]
        unsafe fn and(a: __m512i, b: __m512i) -> __m512i {
            // SAFETY: as above.
            unsafe { _mm512_and_si512(a, b) }
        }

        #[inline(always)]
        unsafe fn or(a: __m512i, b: __m512i) -> __m512i {
            // SAFETY: as above.
            unsafe { _mm512_or_si512(a, b) }
        }

        #[inline(always)]
        unsafe fn xor(a: __m512i, b: __m512i) -> __m512i {
            // SAFETY: as above.
            unsafe { _mm512_xor_si512(a, b) }
        }

        #[inline(always)]
        unsafe fn shift_16(a: __m512i, by: i32) -> __m512i {
            // SAFETY: as above. Counts are known once loops are unrolled.
            unsafe {
                match by {
                    0 => a,
                    1.. => _mm512_sll_epi16(a, _mm_cvtsi32_si128(by)),
                    _ => _mm512_srl_epi16(a, _mm_cvtsi32_si128(-by)),
                }
            }
        }

        #[inline(always)]
        unsafe fn times_256(a: __m512i) -> __m512i {
            // SAFETY: as above.
            unsafe { _mm512_slli_epi32::<8>(a) }
        }

        #[inline(always)]
        unsafe fn add(a: __m512i, b: __m512i) -> __m512i {
            // SAFETY: as above.
            unsafe { _mm512_add_epi32(a, b) }
        }

        #[inline(always)]
        unsafe fn multiply(a: __m512i, b: __m512i) -> __m512i {
            // SAFETY: as above.
            unsafe { _mm512_mullo_epi32(a, b) }
        }

        #[inline(always)]
        unsafe fn dot(sums: __m512i, unsigned: __m512i, signed: __m512i) -> __m512i {
            // SAFETY: as above.
            unsafe { _mm512_dpbusd_epi32(sums, unsigned, signed) }
        }

        #[inline(always)]
        unsafe fn to_floats(a: __m512i) -> __m512 {
            // SAFETY: as above.
            unsafe { _mm512_cvtepi32_ps(a) }
        }

        #[inline(always)]
        unsafe fn fma<const SUBTRACT: bool>(a: __m512, b: __m512, c: __m512) -> __m512 {
            // SAFETY: as above.
            unsafe { if SUBTRACT { _mm512_fnmadd_ps(a, b, c) } else { _mm512_fmadd_ps(a, b, c) } }
        }
    }
}

/// The same in plain loops.
#[cfg(test)]
pub(super) struct Loops;

#[cfg(test)]
mod loops {
    use std::array::from_fn;

    use super::{Isa, Loops};

    fn bytes(integers: [i32; 16]) -> [u8; 64] {
        from_fn(|i| integers[i / 4].to_le_bytes()[i % 4])
    }

    impl Isa for Loops {
        type Integers = [i32; 16];
        type Floats = [f32; 16];

        unsafe fn load(from: *const u8) -> [i32; 16] {
            // SAFETY: by the caller's promise, here and below.
            from_fn(|i| unsafe { from.cast::<i32>().add(i).read_unaligned() })
        }

        unsafe fn load_bytes<const SIGNED: bool>(from: *const u8) -> [i32; 16] {
            // SAFETY: as above.
            let byte = |i: usize| unsafe { *from.add(i) };
            from_fn(|i| if SIGNED { i32::from(byte(i) as i8) } else { i32::from(byte(i)) })
        }

        unsafe fn load_halves(from: *const u8) -> [f32; 16] {
            // SAFETY: as above.
            let half = |i: usize| unsafe { from.cast::<u16>().add(i).read_unaligned() };
            from_fn(|i| half::f16::from_bits(half(i)).to_f32())
        }

        unsafe fn store(to: *mut f32, floats: [f32; 16]) {
            // SAFETY: as above.
            unsafe { to.cast::<[f32; 16]>().write_unaligned(floats) }
        }

        unsafe fn splat(value: i32) -> [i32; 16] {
            [value; 16]
        }

        unsafe fn splat_float(value: f32) -> [f32; 16] {
            [value; 16]
        }

        unsafe fn and(a: [i32; 16], b: [i32; 16]) -> [i32; 16] {
            from_fn(|i| a[i] & b[i])
        }

        unsafe fn or(a: [i32; 16], b: [i32; 16]) -> [i32; 16] {
            from_fn(|i| a[i] | b[i])
        }

        unsafe fn xor(a: [i32; 16], b: [i32; 16]) -> [i32; 16] {
            from_fn(|i| a[i] ^ b[i])
        }

        unsafe fn shift_16(a: [i32; 16], by: i32) -> [i32; 16] {
            let lane = |it: u32| if by >= 0 { it << by & 0xffff } else { it >> -by };
            from_fn(|i| (lane(a[i] as u32 & 0xffff) | lane(a[i] as u32 >> 16) << 16) as i32)
        }

        unsafe fn times_256(a: [i32; 16]) -> [i32; 16] {
            a.map(|it| it << 8)
        }

        unsafe fn add(a: [i32; 16], b: [i32; 16]) -> [i32; 16] {
            from_fn(|i| a[i].wrapping_add(b[i]))
        }

        unsafe fn multiply(a: [i32; 16], b: [i32; 16]) -> [i32; 16] {
            from_fn(|i| a[i].wrapping_mul(b[i]))
        }

        unsafe fn dot(sums: [i32; 16], unsigned: [i32; 16], signed: [i32; 16]) -> [i32; 16] {
            let (unsigned, signed) = (bytes(unsigned), bytes(signed));
            let product = |i: usize| i32::from(unsigned[i]) * i32::from(signed[i] as i8);
            from_fn(|i| sums[i].wrapping_add((4 * i..4 * i + 4).map(product).sum()))
        }

        unsafe fn to_floats(a: [i32; 16]) -> [f32; 16] {
            a.map(|it| it as f32)
        }

        unsafe fn fma<const SUBTRACT: bool>(a: [f32; 16], b: [f32; 16], c: [f32; 16]) -> [f32; 16] {
            from_fn(|i| if SUBTRACT { -a[i] } else { a[i] }.mul_add(b[i], c[i]))
        }
    }
}
